//! `wharf-executor proxy NAME`: becomes systemd-socket-proxyd(8), which carries the connections of a
//! container's sockets to its address.
//!
//! The generator can't say where that is: addresses are leases, and it reads nothing below /var.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::SocketType;
use sd_notify::NotifyState;

use super::failure::{Failure, Status};
use super::load;
use crate::check::{Network, Proxy};
use crate::host::Paths;
use crate::lease;
use crate::spec::{ContainerName, show_duration};
use crate::sys::handed;

/// Where every distribution has it (systemd-socket-proxyd(8)).
const PROXY: &str = "/usr/lib/systemd/systemd-socket-proxyd";

/// Nobody's user and group id, as of the overflow ids of the kernel, in the container's range.
const NOBODY: u32 = 65_534;

/// How long a program may take from its start until it listens. A proxy without a timeout of its own for it would
/// close the first client's connection; systemd's for the start of this unit is 90 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Becomes the proxy, once the container takes connections. Comes back only to say why not.
pub fn proxy(paths: &Paths, name: &ContainerName) -> Failure {
    match attempt(paths, name) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn attempt(paths: &Paths, name: &ContainerName) -> Result<std::convert::Infallible, Failure> {
    let loaded = load(paths, name)?;
    let Some(Proxy { to, idle_stop }) = loaded.container.socket.as_ref().and_then(|socket| socket.proxy)
    else {
        let problem = format!("the plan of {name} has no proxy");
        return Err(
            Failure::new(Status::Config, problem).hint("systemctl daemon-reload reads its files anew")
        );
    };
    let address = match loaded.container.network {
        Network::Default => {
            let lease = lease::addresses(&paths.state(), name)
                .map_err(|error| Failure::from_error(Status::Network, &error))?;
            IpAddr::V4(lease.addresses.v4)
        }
        Network::Host | Network::None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let nobody =
        lease::ids(&paths.state(), name).map_err(|error| Failure::from_error(Status::User, &error))? + NOBODY;
    let target = SocketAddr::new(address, to);
    wait_for(target).map_err(|error| {
        Failure::new(Status::Network, format!("{name} takes no connections at port {to}: {error}")).hint(
            format!(
                "is that the port that its program listens at? `to` of [socket] says which, in {}",
                loaded.plan.source.display()
            ),
        )
    })?;
    let mut command = Command::new(PROXY);
    if let Some(idle) = idle_stop {
        begin_to_be_idle();
        command.arg(format!("--exit-idle-time={}", show_duration(idle)));
    }
    // The one of systemd 252 doesn't say it.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    // Its sockets are systemd's, open since before this process was; and it is this process, to which they were given.
    let error = command.arg(target.to_string()).gid(nobody).uid(nobody).exec();
    let failure = Failure::new(Status::Exec, format!("can't run {PROXY}: {error}"));
    Err(match error.kind() {
        io::ErrorKind::NotFound => {
            failure.hint("it is in the package of systemd, or one beside it; install that")
        }
        _ => failure,
    })
}

/// Has a connection wait for the proxy that is closed already. It counts idle time from the end of a connection,
/// and there may be no client: a container that is started by hand, or by a link, has its proxy too. Where this
/// fails, the first client does it.
fn begin_to_be_idle() {
    let count = env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    for socket in handed::each(count) {
        let Ok(address) = rustix::net::getsockname(socket) else { continue };
        let family = address.address_family();
        let connected = rustix::net::socket(family, SocketType::STREAM, None)
            .and_then(|own| rustix::net::connect(&own, &address));
        if connected.is_ok() {
            return;
        }
    }
}

/// Waits until somebody listens there.
fn wait_for(target: SocketAddr) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect_timeout(
            &target,
            until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
        ) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused || Instant::now() >= until => {
                return Err(error);
            }
            Err(_) => {}
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing tells when a program in another namespace listens"
        )]
        std::thread::sleep(Duration::from_millis(20));
    }
}
