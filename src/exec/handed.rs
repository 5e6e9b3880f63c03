//! What systemd hands over with a start, sockets and what was kept in its fd store: the executor keeps it at
//! hand, closed to whatever else it runs, and the container's program gets it as sd_listen_fds(3) has it.

use std::env;

use super::failure::{Ends, Failure, Status};
use crate::check::Socket;
use crate::spec::Listen;
use crate::sys::handed;

/// What systemd says of descriptors (sd_listen_fds(3)). Programs have variables of their own that begin so.
const VARIABLES: [&str; 4] = ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID"];

/// Descriptors from 3 up, each with its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    count: u32,
    names: Vec<String>,
}

impl Handed {
    /// Those of this process, by its environment. From now on exec closes them.
    ///
    /// # Errors
    /// A descriptor that systemd says is there and isn't.
    pub fn take() -> Result<Self, Failure> {
        let variable = |name: &str| env::var(name).unwrap_or_default();
        let handed = Self::read(
            &variable("LISTEN_PID"),
            &variable("LISTEN_FDS"),
            &variable("LISTEN_FDNAMES"),
            std::process::id(),
        );
        handed::close_on_exec(handed.count, true).ends(Status::Config)?;
        Ok(handed)
    }

    /// What is meant for another process isn't there.
    fn read(pid: &str, count: &str, names: &str, own: u32) -> Self {
        if pid.parse() != Ok(own) {
            return Self::default();
        }
        let count = count.parse().unwrap_or(0);
        Self { count, names: names.split(':').map(str::to_owned).collect() }
    }

    /// Names the sockets of the container's own unit as its file does. systemd has one name for all of a unit's,
    /// and hands them over in the order in which they stand there.
    #[must_use]
    pub fn named(mut self, unit: &str, socket: Option<&Socket>) -> Self {
        let names = socket.map_or(&[][..], |socket| &socket.names);
        let own = || self.names.iter().filter(|name| *name == unit);
        // After a change of the file the socket may still be the old one, which has other sockets.
        if names.is_empty() || own().count() != names.len() {
            return self;
        }
        let mut names = names.iter();
        for name in self.names.iter_mut().filter(|name| *name == unit) {
            if let Some(new) = names.next() {
                name.clone_from(new);
            }
        }
        self
    }

    /// Whether what the container's own socket unit has handed over can be what its file says. Where a change of the
    /// sockets was tried and broke off, they may be the other version's.
    pub fn fits(&self, unit: &str, socket: &Socket) -> bool {
        let ports = handed::ports(self.count);
        let own = self.names.iter().zip(ports).filter(|(name, _)| *name == unit).map(|(_, port)| port);
        are_of(own.collect(), socket)
    }

    /// Leaves them open for the program that this process becomes, and says so in its environment.
    ///
    /// # Errors
    /// What fcntl(2) says.
    pub fn pass_on(&self, variables: &mut Vec<String>) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        handed::close_on_exec(self.count, false).ends(Status::Config)?;
        self.announce(variables, std::process::id());
        Ok(())
    }

    /// Says it to a process by its own id: 1, where nothing else is process 1.
    fn announce(&self, variables: &mut Vec<String>, own: u32) {
        let is_systemds =
            |line: &String| line.split_once('=').is_some_and(|(name, _)| VARIABLES.contains(&name));
        variables.retain(|line| !is_systemds(line));
        variables.push(format!("LISTEN_FDS={}", self.count));
        variables.push(format!("LISTEN_FDNAMES={}", self.names.join(":")));
        variables.push(format!("LISTEN_PID={own}"));
    }

    /// Lets go of them, in a process that isn't the program.
    pub fn close(&self) {
        handed::close(self.count);
    }
}

/// Whether these ports are what a container listens at. Of paths only the number is compared.
fn are_of(mut ports: Vec<Option<u16>>, socket: &Socket) -> bool {
    let mut wanted: Vec<Option<u16>> = socket.listen.iter().map(Listen::port).collect();
    wanted.sort_unstable();
    ports.sort_unstable();
    wanted == ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_environment() {
        assert_eq!(Handed::read("", "", "", 7), Handed::default());
        assert_eq!(Handed::read("8", "2", "a:b", 7), Handed::default());
        let handed = Handed::read("7", "2", "a:b", 7);
        assert_eq!(handed, Handed { count: 2, names: vec!["a".into(), "b".into()] });
    }

    #[test]
    fn variables_of_the_programs_own_stay() {
        let own = ["LISTEN_ADDRESS=0.0.0.0:80", "LISTEN_PORT=80", "LISTENER=x"].map(str::to_owned);
        let mut variables: Vec<String> = own.to_vec();
        variables.extend(
            ["LISTEN_PID=7", "LISTEN_PIDFDID=3", "LISTEN_FDS=9", "LISTEN_FDNAMES="].map(str::to_owned),
        );
        Handed::read("7", "2", "a:b", 7).announce(&mut variables, 1);
        assert_eq!(variables[..3], own);
        assert_eq!(variables[3..], ["LISTEN_FDS=2", "LISTEN_FDNAMES=a:b", "LISTEN_PID=1"]);
    }

    #[test]
    fn sockets_are_told_by_their_ports() {
        let socket = Socket {
            listen: ["80", "127.0.0.1:81", "/run/x.sock"].map(|text| text.parse().expect("a place")).into(),
            names: Vec::new(),
            mode: None,
            user: None,
            group: None,
            on_demand: true,
            proxy: None,
        };
        assert!(are_of(vec![None, Some(81), Some(80)], &socket));
        for other in [
            vec![],
            vec![Some(80), Some(81)],
            vec![Some(80), Some(82), None],
            vec![Some(80), Some(81), None, None],
        ] {
            assert!(!are_of(other.clone(), &socket), "{other:?}");
        }
    }

    #[test]
    fn names_are_the_files() {
        let socket = |names: &[&str]| Socket {
            listen: Vec::new(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            mode: None,
            user: None,
            group: None,
            on_demand: true,
            proxy: None,
        };
        let handed = Handed::read("7", "3", "x-container.socket:stored:x-container.socket", 7);
        let named = |names: &[&str]| handed.clone().named("x-container.socket", Some(&socket(names))).names;
        assert_eq!(named(&["http", "admin"]), ["http", "stored", "admin"]);
        assert_eq!(named(&["http"]), handed.names);
        assert_eq!(named(&[]), handed.names);
    }
}
