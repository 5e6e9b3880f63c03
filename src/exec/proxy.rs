//! `wharf-executor proxy NAME`: becomes systemd-socket-proxyd(8), which carries the connections of a
//! container's sockets to its address.
//!
//! The generator can't say where that is: addresses are leases, and it reads nothing below /var.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType};
use sd_notify::NotifyState;

use super::failure::{Failure, Status};
use super::load;
use crate::check::{Network, Proxy};
use crate::host::Paths;
use crate::lease;
use crate::plan::CONNECTIONS;
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
    command.arg(format!("--connections-max={CONNECTIONS}"));
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
        if rustix::net::getsockname(socket).is_ok_and(|address| connect(&address)) {
            return;
        }
    }
}

/// How long a connection may take to a socket of this host's. A full queue has clients in it that do as well.
const CONNECTING: Duration = Duration::from_millis(100);

/// Connects to a socket by its own address, and closes the connection.
fn connect(address: &SocketAddrAny) -> bool {
    let Some(address) = reachable(address) else { return false };
    let flags = SocketFlags::CLOEXEC;
    let connected = rustix::net::socket_with(address.address_family(), SocketType::STREAM, flags, None)
        .and_then(|own| {
            // It counts for connect(2) as well (socket(7)).
            set_socket_timeout(&own, Timeout::Send, Some(CONNECTING))?;
            rustix::net::connect(&own, &address)
        });
    connected.is_ok()
}

/// The address at which this host itself reaches a socket of its own. Nothing for one that isn't the host's now: systemd
/// listens there all the same (`FreeBind=`), and a connection would go to the host that has it.
fn reachable(address: &SocketAddrAny) -> Option<SocketAddrAny> {
    if address.address_family() == AddressFamily::UNIX {
        return Some(address.clone());
    }
    let mut to = SocketAddr::try_from(address.clone()).ok()?;
    match to.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => to.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => to.set_ip(Ipv6Addr::LOCALHOST.into()),
        ip if ip.is_loopback() => {}
        // To an address of its own the kernel goes from that very address. Connecting a datagram socket sends nothing.
        ip => {
            let own = UdpSocket::bind((if ip.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).ok()?;
            own.connect(to).ok()?;
            own.local_addr().ok().filter(|from| from.ip() == ip)?;
        }
    }
    Some(to.into())
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_this_host_is_connected_to() {
        let at = |text: &str| {
            let address: SocketAddr = text.parse().expect("an address");
            let reached = reachable(&address.into())?;
            SocketAddr::try_from(reached).ok().map(|address| address.to_string())
        };
        assert_eq!(at("0.0.0.0:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(at("[::]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(at("127.0.0.2:80").as_deref(), Some("127.0.0.2:80"));
        // Documentation's (RFC 5737, RFC 3849): nobody's.
        assert_eq!(at("192.0.2.7:80"), None);
        assert_eq!(at("[2001:db8::7]:80"), None);
    }

    #[test]
    fn a_full_queue_holds_nothing_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("socket")).expect("a socket");
        let address = rustix::net::getsockname(&listener).expect("an address");
        // Until the queue is full: nobody accepts.
        let begun = Instant::now();
        while connect(&address) {
            assert!(begun.elapsed() < Duration::from_secs(60), "there is no end to the queue");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert!(connect(&rustix::net::getsockname(&listener).expect("an address")));
        drop(listener);
    }
}
