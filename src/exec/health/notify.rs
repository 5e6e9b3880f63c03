//! Speaking to systemd and its journal from inside, by sockets that were connected on the host: no path leads there from
//! the container, and exec closes them.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::judge::{Entry, Watchdog, Words};
use crate::exec::handover::line;
use crate::exec::init;
use crate::journal::{About, Journal};
use crate::plan::health::Watch;

/// How long a message may take: systemd may have more of them than it can take in, or be busy with a reload. Signals
/// to the program wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// systemd's ear.
#[derive(Debug)]
pub struct Notify {
    /// Nothing where nobody listens: started by hand.
    socket: Option<UnixDatagram>,
    /// The journal, where it is what standard error is.
    journal: Option<Journal>,
    /// What `systemctl status` shows after each line.
    beside: String,
    /// `WATCHDOG_USEC=`, until it was said.
    watchdog: Option<Duration>,
    /// `EXTEND_TIMEOUT_USEC=`, until it was said.
    start_timeout: Option<Duration>,
    /// What was said last.
    status: String,
    ready: bool,
}

impl Notify {
    /// Connects to what systemd has told the executor (`NOTIFY_SOCKET`, sd_notify(3)): a path, or with an `@` an
    /// abstract address.
    ///
    /// # Errors
    /// What socket(2) and connect(2) say.
    pub fn connect() -> io::Result<Self> {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let socket = match address {
            None => None,
            Some(address) => {
                let address = match address.as_bytes().strip_prefix(b"@") {
                    Some(name) => SocketAddr::from_abstract_name(name)?,
                    None => SocketAddr::from_pathname(&address)?,
                };
                let socket = UnixDatagram::unbound()?;
                socket.connect_addr(&address)?;
                socket.set_write_timeout(Some(PATIENCE))?;
                Some(socket)
            }
        };
        Ok(Self::over(socket))
    }

    /// Speaks through a socket that is connected.
    pub(super) fn over(socket: Option<UnixDatagram>) -> Self {
        Self {
            socket,
            journal: None,
            beside: String::new(),
            watchdog: None,
            start_timeout: None,
            status: String::new(),
            ready: false,
        }
    }

    /// What is to stand after every line, and what the unit says otherwise or not at all: how long systemd is to wait
    /// for a word, and for the start.
    #[must_use]
    pub fn with(mut self, beside: Option<&str>, watch: &Watch) -> Self {
        self.beside = beside.map(|text| format!("; {text}")).unwrap_or_default();
        (self.watchdog, self.start_timeout) = (watch.watchdog, watch.start_timeout);
        self
    }

    /// With who it is that speaks, for the journal.
    #[must_use]
    pub fn about(mut self, about: &About) -> Self {
        // By its cgroup journald knows its unit, and would not take that from who isn't the host's root.
        let about = About { unit: None, ..about.clone() };
        self.journal = Journal::connect(&about).and_then(Journal::without_waiting);
        self
    }

    /// One line of the unit's journal.
    pub fn log(&self, Entry { priority, kind, text }: &Entry) {
        let text = line(text);
        if !self.journal.as_ref().is_some_and(|journal| journal.send(*priority, *kind, &text)) {
            init::log(*priority, &text);
        }
    }

    /// Says what systemd doesn't know yet; whether it arrived. Of what doesn't, the state and what goes with it are said
    /// with the next words; the rest follows from the next check again.
    pub fn say(&mut self, words: &Words) -> bool {
        let Words { status, ready, watchdog, stopping } = words;
        let status = line(&format!("{status}{}", self.beside));
        let mut message = String::new();
        if status != self.status {
            message.push_str(&format!("STATUS={status}\n"));
        }
        if *ready && !self.ready {
            message.push_str("READY=1\n");
        }
        if *stopping {
            message.push_str("STOPPING=1\n");
        }
        // After READY=1 it would mean how long it may run (`service_extend_timeout` in systemd's src/core/service.c).
        let start_timeout = self.start_timeout.filter(|_| !ready);
        if let Some(time) = start_timeout {
            message.push_str(&format!("EXTEND_TIMEOUT_USEC={}\n", time.as_micros()));
        }
        match watchdog {
            Some(Watchdog::Feed) => {
                message.push_str("WATCHDOG=1\n");
                if let Some(time) = self.watchdog {
                    message.push_str(&format!("WATCHDOG_USEC={}\n", time.as_micros()));
                }
            }
            Some(Watchdog::Trigger) => message.push_str("WATCHDOG=trigger\n"),
            None => {}
        }
        let arrived = self.send(&message);
        if arrived {
            self.status = status;
            self.ready |= ready;
            self.start_timeout = None;
            if *watchdog == Some(Watchdog::Feed) {
                self.watchdog = None;
            }
        }
        arrived
    }

    /// Whether systemd was told that it is ready.
    pub fn has_said_ready(&self) -> bool {
        self.ready
    }

    /// Says that all goes on; whether that arrived.
    pub fn feed(&self) -> bool {
        self.send("WATCHDOG=1\n")
    }

    /// Takes back what was said: it holds no longer.
    pub fn take_back(&self) {
        self.send("STATUS=\n");
    }

    fn send(&self, message: &str) -> bool {
        let Some(socket) = self.socket.as_ref().filter(|_| !message.is_empty()) else { return true };
        socket.send(message.as_bytes()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_not_said_again() {
        let (here, there) = UnixDatagram::pair().expect("a pair");
        there.set_nonblocking(true).expect("set");
        let hear = || {
            let mut text = [0; 4096];
            there.recv(&mut text).map(|size| String::from_utf8_lossy(&text[..size]).into_owned())
        };
        let mut notify = Notify {
            beside: "; more".into(),
            watchdog: Some(Duration::from_secs(3)),
            start_timeout: Some(Duration::from_secs(4)),
            ..Notify::over(Some(here))
        };
        let starts = Words { status: "Health: starting".into(), ..Words::default() };
        assert!(notify.say(&starts));
        assert_eq!(
            hear().expect("a message"),
            "STATUS=Health: starting; more\nEXTEND_TIMEOUT_USEC=4000000\n"
        );
        notify.say(&starts);
        assert!(hear().is_err());
        let mut words = Words {
            status: "Health: healthy: a\nREADY=1".into(),
            ready: true,
            watchdog: Some(Watchdog::Feed),
            stopping: false,
        };
        notify.say(&words);
        let expected =
            "STATUS=Health: healthy: a READY=1; more\nREADY=1\nWATCHDOG=1\nWATCHDOG_USEC=3000000\n";
        assert_eq!(hear().expect("a message"), expected);
        notify.say(&words);
        assert_eq!(hear().expect("a message"), "WATCHDOG=1\n");
        words.watchdog = None;
        notify.say(&words);
        assert!(hear().is_err());
        words = Words { status: "x".into(), stopping: true, ..Words::default() };
        notify.say(&words);
        assert_eq!(hear().expect("a message"), "STATUS=x; more\nSTOPPING=1\n");
        notify.take_back();
        assert_eq!(hear().expect("a message"), "STATUS=\n");
        drop(there);
        words.ready = true;
        assert!(!notify.say(&words), "nobody hears it");
    }
}
