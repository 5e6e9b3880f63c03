//! How a container is connected: worked out before its start, put in force with it, taken back after its end,
//! and put right whenever something has changed it.
//!
//! What is in force follows from the records of running containers (see [`crate::running`]) and from nothing
//! else, so that one that was killed in mid-step, or a firewall that was flushed, can be put right at any time.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags};

use super::again;
use super::failure::{Failure, Status};
use super::{find, handover, ports};
use crate::check::{Container, Network};
use crate::host::Paths;
use crate::lease;
use crate::names::{self, Names, Peer};
use crate::net::{self, Addresses, Attachment, Change, Element, NftError, Port, nft, route, table};
use crate::running::{self, Running};
use crate::spec::{ContainerName, Link, LinkTarget, Publish};
use crate::sys::process;

/// How a container is connected, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Nothing on the host's network and on none.
    pub attachment: Option<Attachment>,
    /// What it links to, by name.
    peers: Vec<Peer>,
}

/// Works it out, making the leases that it takes: this container's, and those of what it links to, since its
/// hosts file has to be right before they start.
///
/// # Errors
/// A lease that can't be made.
pub fn connections(paths: &Paths, container: &Container) -> Result<Connections, Failure> {
    let ipv6 = net::has_ipv6();
    let usable = |addresses: Addresses| Addresses { v6: addresses.v6.filter(|_| ipv6), ..addresses };
    let leased = |name: &ContainerName| {
        lease::addresses(&paths.state(), name).map_err(|error| Failure::from_error(Status::Network, &error))
    };
    let own = match container.network {
        Network::None => return Ok(Connections::default()),
        // Its links are names only: on the host's network it may connect to all.
        Network::Host => None,
        Network::Default => Some(leased(&container.name)?),
    };
    let mut connections = Connections::default();
    let mut links = Vec::new();
    let mut host = false;
    for link in &container.links {
        let addresses = match (own_address_of(paths, &link.to), own) {
            (Some(name), _) => {
                let addresses = usable(leased(name)?.addresses);
                links.push(addresses);
                addresses
            }
            (None, Some(own)) => {
                host = true;
                usable(own.gateway)
            }
            (None, None) => {
                Addresses { v4: Ipv4Addr::LOCALHOST, v6: Some(Ipv6Addr::LOCALHOST).filter(|_| ipv6) }
            }
        };
        connections.peers.push(Peer { names: peer_names(paths, link), addresses });
    }
    connections.attachment = own.map(|own| Attachment {
        interface: format!("{}{:04x}", route::PREFIX, own.number),
        gateway: usable(own.gateway),
        addresses: usable(own.addresses),
        links,
        host,
        ports: container.publish.iter().flat_map(published).collect(),
    });
    Ok(connections)
}

/// The container that has the address that a link leads to; nothing where that is the host, or on its network.
fn own_address_of<'a>(paths: &Paths, target: &'a LinkTarget) -> Option<&'a ContainerName> {
    let name = target.container()?;
    // One whose file is bad has an address nonetheless, for when it is good again.
    let network = known(paths, name).map(|container| container.network);
    Some(name).filter(|_| network != Some(Network::Host))
}

/// What a link's target is called inside: its names, and the host name that it gives itself.
fn peer_names(paths: &Paths, link: &Link) -> Vec<String> {
    let mut names = link.names();
    let container = link.to.container().and_then(|name| known(paths, name));
    names.extend(container.map(|container| container.hostname));
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// Another container as it is declared now, as far as that is well; else as it runs. A reload takes all plans
/// away for a moment, and a name must not go with them.
fn known(paths: &Paths, name: &ContainerName) -> Option<Container> {
    declared(paths, name).or_else(|| recorded(paths, name).map(|running| running.container))
}

fn declared(paths: &Paths, name: &ContainerName) -> Option<Container> {
    find(&paths.plans(), name).ok().flatten().map(|loaded| loaded.container)
}

fn published(publish: &Publish) -> impl Iterator<Item = Port> {
    let Publish { at, protocol, host, container, count } = *publish;
    (0..count).map(move |step| Port { at, protocol, port: host + step, to: container + step })
}

/// Writes the files by which the container learns names.
///
/// # Errors
/// The host's own can't be read, or these not be written.
pub fn write_names(paths: &Paths, container: &Container, connections: &Connections) -> Result<(), Failure> {
    let addresses = connections.attachment.as_ref().map(|attachment| &attachment.addresses);
    let resolver = match container.network {
        Network::None => Ok(String::new()),
        Network::Host => names::host_resolver(paths, false),
        Network::Default => names::host_resolver(paths, true),
    };
    let resolver = resolver.map_err(|error| {
        Failure::new(Status::Namespace, format!("can't read the host's resolv.conf: {error}"))
    })?;
    let names = Names {
        hosts: names::hosts(&container.hostname, addresses, &connections.peers),
        hostname: format!("{}\n", container.hostname),
        resolver,
    };
    names::write(paths, &container.name, &names).map_err(|error| {
        let folder = paths.names(container.name.as_str());
        Failure::new(Status::Namespace, format!("can't write {}: {error}", folder.display()))
            .hint("is /run full?")
    })
}

/// Connects the first process's network namespace with the host.
///
/// # Errors
/// What the kernel says.
pub fn connect(attachment: &Attachment, name: &ContainerName, netns: BorrowedFd<'_>) -> Result<(), Failure> {
    route::connect(attachment, name.as_str(), netns)
        .map_err(|error| Failure::from_error(Status::Network, &error))
}

/// Waits until the container's side, which is set up by now, and the host's carry packets both ways.
///
/// # Errors
/// What the kernel says.
pub fn settle(attachment: &Attachment) -> Result<(), Failure> {
    route::settle(&attachment.interface).map_err(|error| Failure::from_error(Status::Network, &error))
}

/// Keeps the record of a start, and puts in force what it says.
///
/// # Errors
/// A port that somebody has, or what the firewall says.
pub fn admit(paths: &Paths, running: &Running) -> Result<(), Failure> {
    let _lock = lock(paths)?;
    let Some(attachment) = &running.attachment else { return record(paths, running) };
    let others = || in_force(paths, |other| *other != running.container.name);
    if !attachment.ports.is_empty() {
        let others = others()?;
        attachment.ports.iter().try_for_each(|port| available(port, running, &others))?;
        refuse_strict_firewalld(paths)?;
    }
    let stale = connected(paths, &running.container.name);
    record(paths, running)?;
    net::enable_forwarding().map_err(|error| Failure::from_error(Status::Network, &error))?;
    let wanted = table::elements(attachment);
    let stale = stale.map(|stale| table::elements(&stale));
    let mut changes = changes(&stale.unwrap_or_default(), &wanted);
    // Once more what a record says is there: the table may have been flushed meanwhile.
    changes.extend(wanted.iter().copied().map(Change::Add));
    // Where the table isn't there, or not what it should be, it is made anew with everybody's elements.
    nft::change(&changes).or_else(|error| load_instead(&error, &others()?, Some(attachment)))?;
    net::forget(&wanted).map_err(|error| Failure::from_error(Status::Network, &error))
}

/// From some elements to others.
fn changes(from: &BTreeSet<Element>, to: &BTreeSet<Element>) -> Vec<Change> {
    let removed = from.difference(to).copied().map(Change::Remove);
    removed.chain(to.difference(from).copied().map(Change::Add)).collect()
}

fn record(paths: &Paths, running: &Running) -> Result<(), Failure> {
    running::keep(paths, running).map_err(|error| {
        let problem = format!("can't write a record to {}: {error}", paths.running().display());
        Failure::new(Status::Network, problem).hint("is /run full?")
    })
}

fn lock(paths: &Paths) -> Result<running::Lock, Failure> {
    running::lock(paths).map_err(|error| {
        Failure::new(Status::Network, format!("can't lock {}: {error}", paths.runtime().display()))
    })
}

fn recorded(paths: &Paths, name: &ContainerName) -> Option<Running> {
    // One that can't be read counts for nothing, and is written over.
    running::find(paths, name).ok().flatten()
}

/// How a container is connected by its record; as with that, also where only the rest of it can't be read.
fn connected(paths: &Paths, name: &ContainerName) -> Option<Attachment> {
    running::attachment(paths, name).ok().flatten()
}

/// How those are connected that run.
#[derive(Debug, Default)]
struct InForce {
    connected: Vec<(ContainerName, Attachment)>,
    /// One of whom that can't be read: another version of Wharf has written it. What the table has for it is known to
    /// nobody, and must stay.
    unreadable: Option<ContainerName>,
}

impl InForce {
    fn elements(&self) -> BTreeSet<Element> {
        self.connected.iter().flat_map(|(_, attachment)| table::elements(attachment)).collect()
    }

    fn refuse(&self, why: &str) -> Result<(), Failure> {
        let Some(name) = &self.unreadable else { return Ok(()) };
        let problem = format!("{why}; the record of {name} can't be read, so the table isn't made anew");
        Err(Failure::new(Status::Network, problem).hint(format!("systemctl restart {}", name.unit())))
    }
}

/// Of the containers whose interface is there: one that ended without a word has none.
fn in_force(paths: &Paths, wanted: impl Fn(&ContainerName) -> bool) -> Result<InForce, Failure> {
    let interfaces = route::interfaces().map_err(|error| Failure::from_error(Status::Network, &error))?;
    let mut here = InForce::default();
    for name in recorded_names(paths)?.into_iter().filter(wanted) {
        match running::attachment(paths, &name) {
            Ok(Some(attachment)) if interfaces.contains(&attachment.interface) => {
                here.connected.push((name, attachment));
            }
            Ok(_) => {}
            Err(_) => here.unreadable = Some(name),
        }
    }
    Ok(here)
}

fn recorded_names(paths: &Paths) -> Result<BTreeSet<ContainerName>, Failure> {
    running::names(paths).map_err(|error| {
        Failure::new(Status::Network, format!("can't read {}: {error}", paths.running().display()))
    })
}

fn available(port: &Port, running: &Running, others: &InForce) -> Result<(), Failure> {
    let taken = |who: String| {
        let Port { at, protocol, port, to: _ } = port;
        let at = at.map(|address| format!(" of {address}")).unwrap_or_default();
        let protocol = protocol.to_string().to_uppercase();
        Failure::new(Status::Network, format!("{protocol} port {port}{at} of the host is taken by {who}"))
            .hint(format!("stop that, or publish another port in {}", running.source.display()))
    };
    let has = |theirs: &Attachment| theirs.ports.iter().any(|theirs| clash(port, theirs));
    if let Some((other, _)) = others.connected.iter().find(|(_, theirs)| has(theirs)) {
        return Err(taken(format!("the container {other}")));
    }
    match ports::is_taken(port) {
        Ok(false) => Ok(()),
        Ok(true) => {
            let holders = ports::holders(port);
            Err(taken(if holders.is_empty() { "somebody".to_owned() } else { holders.join(", ") }))
        }
        Err(error) => {
            Err(Failure::new(Status::Network, format!("can't try the port {}: {error}", port.port)))
        }
    }
}

/// Whether two want the same: the port, and an address in common.
fn clash(one: &Port, other: &Port) -> bool {
    let meet = match (one.at, other.at) {
        (None, _) | (_, None) => true,
        (Some(one), Some(other)) => {
            one == other
                || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified())
        }
    };
    meet && one.port == other.port && one.protocol == other.protocol
}

/// Whether firewalld runs: its unit has it write no file with its number (`--nopid`), so by its cgroup; and by that
/// file, where somebody has started it otherwise.
pub fn is_firewalld_running(paths: &Paths) -> bool {
    ["/sys/fs/cgroup/system.slice/firewalld.service", "/run/firewalld.pid"]
        .iter()
        .any(|path| paths.host(path).exists())
}

/// With `StrictForwardPorts=yes` firewalld lets nothing through that it wasn't told of, and no rule of
/// anybody else's helps (firewalld.conf(5)).
pub fn is_firewalld_strict(paths: &Paths) -> bool {
    if !is_firewalld_running(paths) {
        return false;
    }
    let settings = fs::read_to_string(paths.host("/etc/firewalld/firewalld.conf")).unwrap_or_default();
    settings.lines().any(|line| {
        let setting = line.split_once('=');
        setting.is_some_and(|(key, value)| {
            key.trim() == "StrictForwardPorts" && matches!(value.trim(), "yes" | "true")
        })
    })
}

fn refuse_strict_firewalld(paths: &Paths) -> Result<(), Failure> {
    if !is_firewalld_strict(paths) {
        return Ok(());
    }
    Err(Failure::new(Status::Network, "firewalld doesn't let ports be published: StrictForwardPorts=yes")
        .hint("set it to no in /etc/firewalld/firewalld.conf, or forward the port with firewall-cmd and leave `publish` out"))
}

/// How many containers with a network run, and whether the table in the kernel has what they need, and nothing else.
///
/// # Errors
/// Records can't be read, or the kernel refuses to tell.
pub fn look(paths: &Paths) -> Result<(usize, bool), Failure> {
    // What is half done by a start or a stop is nothing to find fault with.
    let _lock = lock(paths)?;
    let here = in_force(paths, |_| true)?;
    here.refuse("it isn't known whether the firewall's table is as it should be")?;
    let intact = here.connected.is_empty()
        || nft::intact(&here.elements()).map_err(|error| Failure::from_error(Status::Network, &error))?;
    Ok((here.connected.len(), intact))
}

/// Makes the table anew that couldn't be changed.
fn load_instead(error: &NftError, others: &InForce, own: Option<&Attachment>) -> Result<(), Failure> {
    // One that isn't there has nothing that could be lost.
    if !matches!(error, NftError::NoTable) {
        others.refuse(&error.to_string())?;
    }
    load(others, own)
}

/// Makes the table anew, with the elements of these.
fn load(others: &InForce, own: Option<&Attachment>) -> Result<(), Failure> {
    let mut elements = others.elements();
    elements.extend(own.map(table::elements).unwrap_or_default());
    nft::load(&table::script(&elements)).map_err(|error| Failure::from_error(Status::Network, &error))
}

/// Takes back what a container had, after its end: elements, interface, names, record.
///
/// # Errors
/// What is left then is replaced by the next start.
pub fn leave(paths: &Paths, name: &ContainerName) -> Result<(), Failure> {
    let _lock = lock(paths)?;
    if let Some(attachment) = connected(paths, name) {
        let changes: Vec<Change> = table::elements(&attachment).into_iter().map(Change::Remove).collect();
        match nft::change(&changes) {
            Ok(()) | Err(NftError::NoTable) => {}
            Err(error) => load_instead(&error, &in_force(paths, |other| other != name)?, None)?,
        }
        // It goes with its namespace too, a moment after its last process.
        route::disconnect(&attachment.interface)
            .map_err(|error| Failure::from_error(Status::Network, &error))?;
    }
    running::forget(paths, name)
        .map_err(|error| Failure::new(Status::Network, format!("can't remove the record of {name}: {error}")))
}

/// `wharf-executor network`: has the names and links of running containers follow their files, and the
/// firewall's table be as it should. `sockets` are what systemd hands over, with what woke it; says what it put
/// right.
///
/// # Errors
/// What could not be put right.
pub fn refresh(paths: &Paths, sockets: &[BorrowedFd<'_>]) -> Result<Vec<String>, Failure> {
    // First: what happens from here on wakes the next one.
    for socket in sockets {
        if is_netlink(*socket) {
            process::pass_over_lost_messages(*socket);
            // A start must not pay for a repair that finds nothing: what this program changes is right.
            process::pass_over_changes_of(*socket, b"wharf-executor");
        }
        drain(*socket);
    }
    // What woke it may have been a reload, which takes all plans away until it is over. Without systemd there is
    // none.
    let _ = handover::barrier();
    let _lock = lock(paths)?;
    let (mut said, mut changes) = (Vec::new(), Vec::new());
    let interfaces = route::interfaces().map_err(|error| Failure::from_error(Status::Network, &error))?;
    for name in recorded_names(paths)? {
        if let Some(attachment) = connected(paths, &name).filter(|it| !interfaces.contains(&it.interface)) {
            // One whose unit was gone when it ended had nobody who would take its network back. Of one that is just ending
            // the unit does that, and its last words are of what its record says.
            if again::is_over(&name) {
                changes.extend(table::elements(&attachment).into_iter().map(Change::Remove));
                let _ = running::forget(paths, &name);
            }
            continue;
        }
        // One that can't follow doesn't keep the others from it.
        match running::find(paths, &name) {
            Ok(Some(running)) => match follow(paths, running) {
                Ok(change) => changes.extend(change),
                Err(failure) => said.push(format!("{name}: {failure}")),
            },
            Ok(None) => {}
            Err(error) => said.push(format!("{name}: its names and links stay as they are: {error}")),
        }
    }
    // Where this fails the table isn't what it was, which shows below.
    let _ = nft::change(&changes);
    let here = in_force(paths, |_| true)?;
    let elements = here.elements();
    // Without containers nobody needs a table.
    if !here.connected.is_empty() {
        net::enable_forwarding().map_err(|error| Failure::from_error(Status::Network, &error))?;
        if here.unreadable.is_some() {
            // What else is there may be of whom can't be read.
            let missing: Vec<Change> = elements.iter().copied().map(Change::Add).collect();
            nft::change(&missing).or_else(|error| load_instead(&error, &here, None))?;
        } else if !nft::intact(&elements).unwrap_or(false) {
            load(&here, None)?;
            said.push(
                "the table `inet wharf` of the firewall was gone or changed; it is as it should be again"
                    .to_owned(),
            );
        }
    }
    Ok(said)
}

/// Names and links of a running container are those of its file now; all else is as it was started. Gives what
/// has to change in the firewall.
fn follow(paths: &Paths, mut running: Running) -> Result<Vec<Change>, Failure> {
    let before = running.clone();
    if let Some(now) = declared(paths, &running.container.name) {
        running.container.links = now.links;
    }
    let connections = connections(paths, &running.container)?;
    write_names(paths, &running.container, &connections)?;
    if let (Some(old), Some(new)) = (&mut running.attachment, connections.attachment) {
        let Attachment { interface: _, gateway: _, addresses: _, links, host, ports: _ } = new;
        old.links = links;
        old.host = host;
    }
    if running != before {
        record(paths, &running)?;
    }
    let elements = |running: Running| {
        running.attachment.map(|attachment| table::elements(&attachment)).unwrap_or_default()
    };
    Ok(changes(&elements(before), &elements(running)))
}

fn is_netlink(socket: BorrowedFd<'_>) -> bool {
    rustix::net::sockopt::socket_domain(socket).is_ok_and(|domain| domain == AddressFamily::NETLINK)
}

/// Reads all that a socket has: systemd starts the service again for what is left in it.
fn drain(socket: BorrowedFd<'_>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            // Lost messages of the kernel (netlink(7)) are as good as read: nobody looks into them.
            Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::spec::Protocol;

    /// As its unit starts it, firewalld leaves no file with its number.
    #[test]
    fn firewalld_by_its_cgroup() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        fs::create_dir_all(paths.host("/etc/firewalld")).expect("made");
        fs::write(paths.host("/etc/firewalld/firewalld.conf"), "StrictForwardPorts=yes\n").expect("written");
        assert!(!is_firewalld_running(&paths) && !is_firewalld_strict(&paths));
        fs::create_dir_all(paths.host("/sys/fs/cgroup/system.slice/firewalld.service")).expect("made");
        assert!(is_firewalld_running(&paths) && is_firewalld_strict(&paths));
        fs::write(paths.host("/etc/firewalld/firewalld.conf"), "StrictForwardPorts=no\n").expect("written");
        assert!(!is_firewalld_strict(&paths));
    }

    #[test]
    fn ports_clash_where_an_address_is_shared() {
        let port = |at: Option<&str>, protocol, port| {
            let at = at.map(|text| text.parse::<IpAddr>().expect("an address"));
            Port { at, protocol, port, to: 80 }
        };
        let tcp = |at| port(at, Protocol::Tcp, 80);
        for (one, other, clashes) in [
            (None, None, true),
            (None, Some("192.0.2.1"), true),
            (None, Some("::"), true),
            (Some("0.0.0.0"), Some("192.0.2.1"), true),
            (Some("0.0.0.0"), Some("::"), false),
            (Some("::"), Some("2001:db8::1"), true),
            (Some("::"), Some("192.0.2.1"), false),
            (Some("192.0.2.1"), Some("192.0.2.1"), true),
            (Some("192.0.2.1"), Some("192.0.2.2"), false),
        ] {
            assert_eq!(clash(&tcp(one), &tcp(other)), clashes, "{one:?} {other:?}");
            assert_eq!(clash(&tcp(other), &tcp(one)), clashes, "{other:?} {one:?}");
        }
        assert!(!clash(&tcp(None), &port(None, Protocol::Udp, 80)));
        assert!(!clash(&tcp(None), &port(None, Protocol::Tcp, 81)));
    }
}
