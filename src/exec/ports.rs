//! Who has a port of the host: asked before it is published, since the firewall would not mind two.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use crate::net::Port;
use crate::spec::Protocol;

/// Whether one of the host's processes has the port, on any of the addresses that are asked for.
///
/// # Errors
/// No socket can be made.
pub fn is_taken(port: &Port) -> io::Result<bool> {
    let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    let addresses = port.at.as_ref().map_or(&any[..], std::slice::from_ref);
    for address in addresses {
        match try_out(SocketAddr::new(*address, port.port), port.protocol) {
            // "Every address" leaves the rest of the loopback network alone (see the table's rules), where the
            // host's resolver has its port 53.
            Err(Errno::ADDRINUSE) if *address == Ipv4Addr::UNSPECIFIED && sockets(port).is_empty() => {}
            Err(Errno::ADDRINUSE) => return Ok(true),
            // An address that the host doesn't have yet, and IPv6 where there is none, nobody can have either.
            Ok(()) | Err(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

fn try_out(address: SocketAddr, protocol: Protocol) -> Result<(), Errno> {
    let (kind, reuse) = match protocol {
        // Connections that are over don't keep a port; only who listens does (tcp(7), SO_REUSEADDR).
        Protocol::Tcp => (SocketType::STREAM, true),
        Protocol::Udp => (SocketType::DGRAM, false),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket: OwnedFd = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    sockopt::set_socket_reuseaddr(&socket, reuse)?;
    bind(&socket, &address)
}

/// The processes that have the port, for people: `nginx (process 812, nginx.service)`. Empty where that can't
/// be found out.
pub fn holders(port: &Port) -> Vec<String> {
    let inodes: Vec<String> = sockets(port).iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut holders = Vec::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()) {
        let folder = process.path();
        let descriptors = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
        let has = |path: &std::path::Path| {
            fs::read_link(path).is_ok_and(|to| inodes.iter().any(|inode| to.as_os_str() == inode.as_str()))
        };
        if descriptors.into_iter().any(|descriptor| has(&descriptor.path())) {
            let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
            let (name, cgroup) = (read("comm"), read("cgroup"));
            let unit = cgroup.lines().find_map(unit);
            let unit = unit.map(|unit| format!(", {unit}")).unwrap_or_default();
            let pid = process.file_name();
            holders.push(format!("{} (process {}{unit})", name.trim(), pid.to_string_lossy()));
        }
    }
    holders
}

/// Inodes of the sockets that are in a port's way.
fn sockets(port: &Port) -> Vec<String> {
    let tables: [&str; 2] = match port.protocol {
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let read = |table: &&str| fs::read_to_string(table).unwrap_or_default();
    let tables: Vec<String> = tables.iter().map(read).collect();
    tables.iter().flat_map(|text| in_the_way(text, port)).collect()
}

/// From the text of /proc/net/tcp and its like (proc_pid_net(5)).
fn in_the_way(text: &str, port: &Port) -> Vec<String> {
    /// `TCP_LISTEN` of the kernel's include/net/tcp_states.h.
    const LISTEN: &str = "0A";
    let every = port.at.is_none_or(|at| at.is_unspecified());
    let lines = text.lines().skip(1);
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, local) = fields.get(1)?.rsplit_once(':')?;
            let here = u16::from_str_radix(local, 16) == Ok(port.port);
            let counts = port.protocol == Protocol::Udp || *fields.get(3)? == LISTEN;
            // In the host's byte order; eight digits are an IPv4 address.
            let four = u32::from_str_radix(address, 16).ok().filter(|_| address.len() == 8);
            let four = four.map(|bits| Ipv4Addr::from_bits(u32::from_be(bits)));
            let aside = every && four.is_some_and(|it| it.is_loopback() && it != Ipv4Addr::LOCALHOST);
            (here && counts && !aside).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

/// The unit in a line of /proc/PID/cgroup: the last part of the path that is one.
fn unit(line: &str) -> Option<&str> {
    let path = line.strip_prefix("0::")?;
    path.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".scope"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn port(at: Option<IpAddr>, protocol: Protocol, port: u16) -> Port {
        Port { at, protocol, port, to: 80 }
    }

    #[test]
    fn a_listener_has_its_port_on_its_address_and_is_named() {
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((local, 0)).expect("a port");
        let number = listener.local_addr().expect("an address").port();
        for at in [None, Some(local), Some(IpAddr::from(Ipv4Addr::UNSPECIFIED))] {
            assert!(is_taken(&port(at, Protocol::Tcp, number)).expect("asked"), "{at:?}");
        }
        let other = Some(IpAddr::from(Ipv4Addr::new(127, 0, 0, 9)));
        assert!(!is_taken(&port(other, Protocol::Tcp, number)).expect("asked"));
        assert!(!is_taken(&port(None, Protocol::Udp, number)).expect("asked"));
        let holders = holders(&port(None, Protocol::Tcp, number));
        assert!(holders.iter().any(|who| who.contains(&std::process::id().to_string())), "{holders:?}");
        drop(listener);
        assert!(!is_taken(&port(None, Protocol::Tcp, number)).expect("asked"));
    }

    #[test]
    fn every_address_leaves_the_rest_of_the_loopback_network_alone() {
        let own = IpAddr::from(Ipv4Addr::new(127, 0, 0, 53));
        let socket = UdpSocket::bind((own, 0)).expect("a port");
        let number = socket.local_addr().expect("an address").port();
        assert!(!is_taken(&port(None, Protocol::Udp, number)).expect("asked"));
        assert!(is_taken(&port(Some(own), Protocol::Udp, number)).expect("asked"));
    }

    #[test]
    fn a_datagram_socket_has_its_port() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let number = socket.local_addr().expect("an address").port();
        assert!(is_taken(&port(None, Protocol::Udp, number)).expect("asked"));
        assert!(!holders(&port(None, Protocol::Udp, number)).is_empty());
    }

    #[test]
    fn units_of_processes() {
        assert_eq!(unit("0::/system.slice/nginx.service"), Some("nginx.service"));
        assert_eq!(unit("0::/wharf.slice/db-container.service/payload"), Some("db-container.service"));
        assert_eq!(unit("0::/init.scope"), Some("init.scope"));
        assert_eq!(unit("0::/"), None);
    }
}
