//! The steps of a start, as values: `wharf plan` prints them, tests snapshot them, the executor interprets
//! them and decides nothing.
//!
//! There are two lists. The executor takes the host's steps, from outside; the container's first process
//! takes the inner ones, in its namespaces. In between lies one moment: when the root stands.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::health::{Probe, Watch};
use super::process::Process;
use crate::check::{AppArmor, Bind, CREDENTIALS, Container, MountKind, Network, Ready, RootMode, UserName};
use crate::image::Implied;
use crate::spec::{ContainerName, Link, LinkTarget, Ports, Publish, show_duration};

/// A step of the executor, outside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostStep {
    /// Find or lease the container's range of ids.
    LeaseIds,
    /// Find or lease addresses, which stay: the container's own, and those that its links lead to, which must
    /// be known before their owners ever started.
    LeaseAddresses {
        /// Whether the container has an interface of its own.
        own: bool,
        /// The containers that it links to.
        links: Vec<ContainerName>,
    },
    /// Make the cgroup that the container's processes live in, below the unit's.
    Cgroup,
    /// Leave the host's mounts, and stage a root in memory that nobody else sees.
    Stage,
    /// Make the container's first process: systemd's child, in namespaces of its own, waiting.
    FirstProcess(Vec<Namespace>),
    /// Map the ids of the user namespace to the leased range.
    MapIds,
    /// Give the first process's network namespace an interface, `eth0`, whose other end is the host's.
    Interface,
    /// Make a layer available, under its number, idmapped where a user namespace is in use.
    Layer {
        /// From the bottom, from 0.
        number: usize,
        /// The layer's tree.
        tree: PathBuf,
    },
    /// Join the layers, and what is written, to a root.
    Root {
        /// How many layers.
        layers: usize,
        /// Folders that come into the layer in memory, above those that layers only imply.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        implied: Vec<ImpliedFolder>,
    },
    /// Make a folder of the files by which programs learn names, and mount it read-only at [`NAMES`]: a folder,
    /// since a file that is replaced on the host stays the old one where it is mounted itself.
    Names {
        /// The container's own.
        hostname: String,
        /// What others are called in `hosts`.
        links: Vec<Link>,
        /// Whether there is a `resolv.conf`.
        resolver: bool,
    },
    /// Put a symbolic link into the root, in the place of what the image has there.
    Link {
        /// Where.
        target: String,
        /// Where it leads, as it stands in the link.
        to: String,
    },
    /// Make sure that there is a folder to mount on.
    Folder {
        /// Where.
        target: String,
    },
    /// A private /dev with the usual nodes, a pts instance and shared memory.
    Devices,
    /// The host's /sys, without what is mounted below it, read-only.
    HostSys,
    /// A fresh tmpfs.
    Tmpfs {
        /// Where.
        target: String,
        /// Bytes; the kernel's default where not given.
        size: Option<u64>,
        /// Permission bits; those of the folder there where not given.
        mode: Option<u32>,
    },
    /// A path of the host.
    Bind {
        /// Where.
        target: String,
        /// What and how.
        #[serde(flatten)]
        bind: Bind,
    },
    /// A named volume, made if it isn't there.
    Volume {
        /// Where.
        target: String,
        /// Which.
        name: String,
        /// Writes fail.
        read_only: bool,
    },
    /// The socket by which the program speaks to systemd.
    NotificationSocket {
        /// Where.
        target: String,
    },
    /// Put the unit's credentials into memory of their own.
    Credentials {
        /// The folder.
        target: String,
        /// What the files are called.
        names: Vec<String>,
    },
    /// From here on writes to the root itself fail.
    ReadOnlyRoot,
    /// Keep what was started, for as long as it runs.
    Record,
    /// Keep what was started, lead the published ports to the container, and let it connect to what it links to. What an earlier start
    /// left is replaced. The last step: nobody is led to what may yet fail.
    Admit {
        /// Ports of the host.
        publish: Vec<Publish>,
        /// Containers, or the host.
        links: Vec<LinkTarget>,
    },
}

/// A folder that a layer has without saying how it looks: it is made once more on top, as the highest layer has it
/// that does say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImpliedFolder {
    /// From the root on, without a slash at the beginning; empty for the root.
    #[serde(serialize_with = "escaped")]
    pub path: Vec<u8>,
    /// The layer's number.
    pub layer: usize,
}

fn escaped<S: serde::Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crate::image::escaped(path))
}

/// A step of the container's first process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InnerStep {
    /// Take the mounts and the cgroup as this container's own.
    OwnMounts,
    /// A /proc that shows this container's processes.
    Proc,
    /// A /sys that shows this container's network, read-only.
    Sys,
    /// The container's own cgroup, read-only.
    CgroupTree,
    /// POSIX message queues.
    MessageQueues,
    /// Hide a path of /proc or /sys.
    Mask(&'static str),
    /// Refuse writes below a path of /proc.
    Protect(&'static str),
    /// Name the host.
    Hostname(String),
    /// Turn the loopback interface on.
    Loopback,
    /// Turn the loopback interface and `eth0` on, with the leased addresses and the routes by way of the host.
    Interface,
    /// Make the root the only thing there is.
    EnterRoot,
    /// Look the user and group up in the root's own files.
    FindUser {
        /// Who.
        user: UserName,
        /// With which group.
        group: Option<UserName>,
    },
    /// Give the credentials to the user, and to nobody else.
    Credentials {
        /// The folder.
        target: String,
    },
    /// Reduce what user 0 inside may do.
    BoundCapabilities,
    /// Become the user, in the working directory.
    BecomeUser {
        /// Where.
        working_directory: String,
    },
    /// Keep the default capabilities and gain none, by no means.
    Privileges,
    /// Have AppArmor confine the program: from its first instruction on; with an init, that as well.
    Confine {
        /// The profile.
        profile: String,
        /// Whether nothing runs without it; otherwise a host that hasn't got it does without.
        required: bool,
    },
    /// Put the list of system calls in force.
    FilterCalls,
    /// Wait until systemd knows this process as the unit's main one.
    Gate,
    /// Run the program, as process 1 or, with `init`, below a small init.
    Run {
        /// The program and its arguments.
        arguments: Vec<String>,
        /// Below an init.
        init: bool,
        /// What the init checks.
        #[serde(skip_serializing_if = "Option::is_none")]
        watch: Option<Box<Watch>>,
    },
}

/// A namespace of the container's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// user_namespaces(7)
    User,
    /// pid_namespaces(7)
    Pid,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// network_namespaces(7)
    Net,
}

/// All that a start does, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Steps {
    /// The executor's.
    pub host: Vec<HostStep>,
    /// The first process's.
    pub inner: Vec<InnerStep>,
}

/// Paths of /proc and /sys that tell about the host or give power over it; a container sees an empty file or
/// folder there. Those that this kernel doesn't have are passed over. After the list of the OCI runtime
/// specification's examples, with what Docker and Podman have added.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Paths of /proc that can be read but not written.
const PROTECTED: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The memory file systems that a read-only root gets, since nearly every program writes there.
const SCRATCH: [(&str, u32); 3] = [("/run", 0o755), ("/tmp", 0o1777), ("/var/tmp", 0o1777)];

/// Where the program finds the socket by which it speaks to systemd: where systemd-nspawn has it, too (its container
/// interface).
pub const NOTIFICATION_SOCKET: &str = "/run/host/notify";

/// The AppArmor profile that Wharf's packages bring.
pub const PROFILE: &str = "wharf-container";

/// How many implied folders are told, of thousands at times.
const SHOWN: usize = 4;

/// Where the folder of names is mounted; its files are reached by links in /etc.
pub const NAMES: &str = "/etc/.wharf";

/// What the executor and the first process do to start a container from these layers, the lowest first. `implied` are
/// the folders of which overlayfs would show what no layer has said.
pub fn steps(container: &Container, layers: &[PathBuf], implied: &[Implied], process: &Process) -> Steps {
    Steps { host: host(container, layers, implied), inner: inner(container, process) }
}

pub(super) fn host(container: &Container, layers: &[PathBuf], implied: &[Implied]) -> Vec<HostStep> {
    let mut steps = Vec::new();
    if container.user_namespace {
        steps.push(HostStep::LeaseIds);
    }
    let own = container.network == Network::Default;
    let peers: Vec<ContainerName> =
        container.links.iter().filter_map(|link| link.to.container().cloned()).collect();
    if own || !peers.is_empty() {
        steps.push(HostStep::LeaseAddresses { own, links: peers });
    }
    steps.push(HostStep::Cgroup);
    steps.push(HostStep::Stage);
    steps.push(HostStep::FirstProcess(namespaces(container)));
    if container.user_namespace {
        steps.push(HostStep::MapIds);
    }
    if own {
        steps.push(HostStep::Interface);
    }
    // Images have the same layer twice at times, an empty one mostly, which overlayfs refuses. The upper one
    // hides all that is in the lower.
    let distinct = layers.iter().enumerate().filter(|(at, tree)| !layers[at + 1..].contains(tree));
    let distinct: Vec<&PathBuf> = distinct.map(|(_, tree)| tree).collect();
    let implied = implied
        .iter()
        .filter_map(|Implied { path, layer }| {
            let number = distinct.iter().position(|tree| layers.get(*layer) == Some(tree))?;
            Some(ImpliedFolder { path: path.clone(), layer: number })
        })
        .collect();
    let root = HostStep::Root { layers: distinct.len(), implied };
    let tree = |(number, tree): (usize, &PathBuf)| HostStep::Layer { number, tree: tree.clone() };
    steps.extend(distinct.into_iter().enumerate().map(tree));
    steps.push(root);
    steps.extend(names(container));
    steps.extend(["/proc", "/sys"].map(|target| HostStep::Folder { target: target.into() }));
    let mut mounts = mounts(container);
    // A mount comes after the one that it lies on; component by component, so that `/a-b` isn't between `/a`
    // and `/a/b`.
    mounts.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
    steps.extend(mounts.into_iter().map(|(_, step)| step));
    if container.root == RootMode::ReadOnly {
        steps.push(HostStep::ReadOnlyRoot);
    }
    steps.push(if own {
        let links = container.links.iter().map(|link| link.to.clone()).collect();
        HostStep::Admit { publish: container.publish.clone(), links }
    } else {
        HostStep::Record
    });
    steps
}

fn namespaces(container: &Container) -> Vec<Namespace> {
    let mut namespaces = vec![Namespace::Pid, Namespace::Ipc, Namespace::Uts];
    if container.user_namespace {
        namespaces.insert(0, Namespace::User);
    }
    if container.network != Network::Host {
        namespaces.push(Namespace::Net);
    }
    namespaces
}

/// The files by which programs learn names: of this host, of others. What the user mounts there is his.
fn names(container: &Container) -> Vec<HostStep> {
    let mounted = |target: &str| container.mounts.iter().any(|mount| mount.target == target);
    // Without a network there is nobody to ask.
    let resolver = container.network != Network::None;
    let files = [("hosts", true), ("hostname", true), ("resolv.conf", resolver)];
    let links: Vec<HostStep> = files
        .into_iter()
        .filter(|(_, there)| *there)
        .map(|(file, _)| (format!("/etc/{file}"), format!("{}/{file}", &NAMES["/etc/".len()..])))
        .filter(|(target, _)| !mounted(target) && !mounted("/etc"))
        .map(|(target, to)| HostStep::Link { target, to })
        .collect();
    if links.is_empty() {
        return links;
    }
    let (hostname, peers) = (container.hostname.clone(), container.links.clone());
    let mut steps = vec![HostStep::Names { hostname, links: peers, resolver }];
    steps.extend(links);
    steps
}

fn mounts(container: &Container) -> Vec<(String, HostStep)> {
    let asked = |target: &str| container.mounts.iter().any(|mount| mount.target == target);
    let mut mounts = vec![("/dev".to_owned(), HostStep::Devices)];
    if container.network == Network::Host {
        mounts.push(("/sys".to_owned(), HostStep::HostSys));
    }
    if container.root == RootMode::ReadOnly {
        for (target, mode) in SCRATCH.iter().filter(|(target, _)| !asked(target)) {
            let target = (*target).to_owned();
            mounts.push((target.clone(), HostStep::Tmpfs { target, size: None, mode: Some(*mode) }));
        }
    }
    if container.ready == Ready::Notify {
        let target = NOTIFICATION_SOCKET.to_owned();
        mounts.push((target.clone(), HostStep::NotificationSocket { target }));
    }
    if !container.credentials.is_empty() {
        let names = container.credentials.iter().map(|credential| credential.name.clone()).collect();
        let target = CREDENTIALS.to_owned();
        mounts.push((target.clone(), HostStep::Credentials { target, names }));
    }
    for mount in &container.mounts {
        let target = mount.target.clone();
        let step = match &mount.kind {
            MountKind::Bind(bind) => {
                // Without a user namespace there is nothing to map.
                let idmap = bind.idmap && container.user_namespace;
                HostStep::Bind { target, bind: Bind { idmap, ..bind.clone() } }
            }
            MountKind::Volume(volume) => {
                HostStep::Volume { target, name: volume.name.clone(), read_only: volume.read_only }
            }
            MountKind::Tmpfs(tmpfs) => HostStep::Tmpfs { target, size: tmpfs.size, mode: tmpfs.mode },
        };
        mounts.push((mount.target.clone(), step));
    }
    mounts
}

fn inner(container: &Container, process: &Process) -> Vec<InnerStep> {
    let mut steps = vec![InnerStep::OwnMounts, InnerStep::Proc];
    if container.network != Network::Host {
        steps.push(InnerStep::Sys);
    }
    steps.extend([InnerStep::CgroupTree, InnerStep::MessageQueues]);
    steps.extend(PROTECTED.map(InnerStep::Protect));
    steps.extend(MASKED.map(InnerStep::Mask));
    steps.push(InnerStep::Hostname(container.hostname.clone()));
    match container.network {
        Network::Default => steps.push(InnerStep::Interface),
        Network::None => steps.push(InnerStep::Loopback),
        Network::Host => {}
    }
    steps.push(InnerStep::EnterRoot);
    steps.push(InnerStep::FindUser { user: process.user.clone(), group: process.group.clone() });
    if !container.credentials.is_empty() {
        steps.push(InnerStep::Credentials { target: CREDENTIALS.to_owned() });
    }
    steps.push(InnerStep::BoundCapabilities);
    steps.push(InnerStep::BecomeUser { working_directory: process.working_directory.clone() });
    steps.push(InnerStep::Privileges);
    match &container.apparmor {
        AppArmor::Own => steps.push(InnerStep::Confine { profile: PROFILE.to_owned(), required: false }),
        AppArmor::Profile(profile) => {
            steps.push(InnerStep::Confine { profile: profile.clone(), required: true });
        }
        AppArmor::Unconfined => {}
    }
    steps.push(InnerStep::FilterCalls);
    steps.push(InnerStep::Gate);
    let (arguments, watch) = (process.arguments.clone(), process.watch.clone());
    steps.push(InnerStep::Run { arguments, init: container.has_init(), watch });
    steps
}

impl fmt::Display for HostStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseIds => f.write_str("lease a range of 65536 ids"),
            Self::LeaseAddresses { own, links } => {
                f.write_str(if *own { "lease its addresses" } else { "lease addresses" })?;
                if !links.is_empty() {
                    f.write_str(if *own { ", and those of " } else { " for " })?;
                    list(f, links)?;
                }
                Ok(())
            }
            Self::Cgroup => f.write_str("make the cgroup `payload` below the unit's"),
            Self::Stage => f.write_str("leave the host's mounts and stage a root in memory"),
            Self::FirstProcess(namespaces) => {
                f.write_str("make the first process, systemd's child, with its own namespaces:")?;
                namespaces.iter().try_for_each(|namespace| write!(f, " {namespace}"))
            }
            Self::MapIds => f.write_str("map the container's ids to the leased range"),
            Self::Interface => f.write_str("connect eth0 of the first process's network with the host"),
            Self::Layer { number, tree } => write!(f, "layer {number}: {}", tree.display()),
            Self::Root { layers, implied } => {
                match layers {
                    // None are known: the image isn't in the store.
                    0 => f.write_str("join the image's layers and a layer in memory to the root"),
                    1 => f.write_str("join the layer and a layer in memory to the root"),
                    _ => write!(f, "join the {layers} layers and a layer in memory to the root"),
                }?;
                for (number, folder) in implied.iter().take(SHOWN).enumerate() {
                    let begin = if number == 0 { "; " } else { ", " };
                    write!(
                        f,
                        "{begin}/{} as layer {} has it",
                        crate::image::escaped(&folder.path),
                        folder.layer
                    )?;
                }
                match implied.len().saturating_sub(SHOWN) {
                    0 => Ok(()),
                    more => write!(f, ", and {more} more"),
                }
            }
            Self::Names { hostname, links, resolver } => {
                write!(f, "mount {NAMES}, read-only, with the names {hostname}")?;
                for link in links {
                    write!(f, ", {}", link.names().join(", "))?;
                }
                f.write_str(if *resolver { " and a resolv.conf" } else { "" })
            }
            Self::Link { target, to } => write!(f, "link {target} to {to}"),
            Self::Folder { target } => write!(f, "make sure of the folder {target}"),
            Self::Devices => f.write_str("mount /dev with its nodes, /dev/pts and /dev/shm"),
            Self::HostSys => f.write_str("bind the host's /sys, read-only"),
            Self::Tmpfs { target, size, mode } => {
                write!(f, "mount a tmpfs on {target}")?;
                if let Some(size) = size {
                    write!(f, ", {size} bytes")?;
                }
                if let Some(mode) = mode {
                    write!(f, ", mode {mode:04o}")?;
                }
                Ok(())
            }
            Self::Bind { target, bind } => {
                write!(f, "bind {} to {target}", bind.source.display())?;
                for (word, on) in [
                    (", read-only", bind.read_only),
                    (", with what is below", bind.recursive),
                    (", idmapped", bind.idmap),
                ] {
                    f.write_str(if on { word } else { "" })?;
                }
                Ok(())
            }
            Self::Volume { target, name, read_only } => {
                write!(
                    f,
                    "mount the volume {name} on {target}{}",
                    if *read_only { ", read-only" } else { "" }
                )
            }
            Self::NotificationSocket { target } => {
                write!(f, "mount systemd's notification socket at {target}")
            }
            Self::Credentials { target, names } => {
                write!(f, "mount memory on {target}, with the credentials {}", names.join(", "))
            }
            Self::ReadOnlyRoot => f.write_str("make the root read-only"),
            Self::Record => f.write_str("keep a record of what was started"),
            Self::Admit { publish, links } if publish.is_empty() && links.is_empty() => {
                f.write_str("let nobody in by the firewall, and out to no other container")
            }
            Self::Admit { publish, links } => {
                f.write_str("open the firewall: ")?;
                let publish = publish.iter().map(|publish| Published(publish).to_string());
                let links = links.iter().map(|link| match link {
                    LinkTarget::Host => "link to the host".to_owned(),
                    link => format!("link to {link}"),
                });
                list(f, &publish.chain(links).collect::<Vec<_>>())
            }
        }
    }
}

/// Words with commas between.
fn list(f: &mut fmt::Formatter<'_>, words: &[impl fmt::Display]) -> fmt::Result {
    for (at, word) in words.iter().enumerate() {
        write!(f, "{}{word}", if at == 0 { "" } else { ", " })?;
    }
    Ok(())
}

/// A published port in words: `publish 80/tcp of every address to 8080`.
struct Published<'a>(&'a Publish);

impl fmt::Display for Published<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Publish { at, protocol, host: _, container: _, count: _ } = self.0;
        write!(f, "publish {}/{protocol} of ", Ports(self.0.host_ports()))?;
        match at {
            None => f.write_str("every address")?,
            Some(IpAddr::V4(at)) if at.is_unspecified() => f.write_str("every IPv4 address")?,
            Some(IpAddr::V6(at)) if at.is_unspecified() => f.write_str("every IPv6 address")?,
            Some(at) => write!(f, "{at}")?,
        }
        write!(f, " to {}", Ports(self.0.container_ports()))
    }
}

impl fmt::Display for InnerStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnMounts => f.write_str("take the mounts and the cgroup as its own"),
            Self::Proc => f.write_str("mount /proc"),
            Self::Sys => f.write_str("mount /sys, read-only"),
            Self::CgroupTree => f.write_str("mount /sys/fs/cgroup, read-only"),
            Self::MessageQueues => f.write_str("mount /dev/mqueue"),
            Self::Mask(path) => write!(f, "hide {path}"),
            Self::Protect(path) => write!(f, "make {path} read-only"),
            Self::Hostname(name) => write!(f, "set the host name to {name}"),
            Self::Loopback => f.write_str("turn the loopback interface on"),
            Self::Interface => {
                f.write_str("turn the loopback interface and eth0 on, with its addresses and routes")
            }
            Self::EnterRoot => f.write_str("enter the root and let go of the host's"),
            Self::FindUser { user, group } => {
                write!(f, "find user {user}")?;
                group.iter().try_for_each(|group| write!(f, " and group {group}"))
            }
            Self::Credentials { target } => write!(f, "give {target} to the user, read-only"),
            Self::BoundCapabilities => f.write_str("drop all but the default capabilities for good"),
            Self::BecomeUser { working_directory } => write!(f, "become the user, in {working_directory}"),
            Self::Privileges => f.write_str("gain no privileges from here on"),
            Self::Confine { profile, required } => {
                write!(f, "be confined by AppArmor's profile {profile}")?;
                f.write_str(if *required { "" } else { ", where it is loaded" })
            }
            Self::FilterCalls => f.write_str("put the list of system calls in force"),
            Self::Gate => f.write_str("wait until systemd knows the process as the unit's main one"),
            Self::Run { arguments, init, watch } => {
                write!(f, "run {arguments:?}{}", if *init { " below a small init" } else { "" })?;
                watch.iter().try_for_each(|watch| write!(f, " that checks {watch}"))
            }
        }
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.check {
            Probe::Program(words) => write!(f, "by {words:?}")?,
            Probe::Http(page) => write!(f, "{page}")?,
            Probe::Tcp(place) => write!(f, "port {place}")?,
        }
        write!(f, " every {}", show_duration(self.interval))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Net => "network",
        })
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}
