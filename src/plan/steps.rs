//! The steps of a start, as values: `wharf plan` prints them, tests snapshot them, the executor interprets
//! them and decides nothing.
//!
//! There are two lists. The executor takes the host's steps, from outside; the container's first process
//! takes the inner ones, in its namespaces. In between lies one moment: when the root stands.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::process::Process;
use crate::check::{Bind, Container, MountKind, Network, RootMode, UserName};

/// A step of the executor, outside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostStep {
    /// Find or lease the container's range of ids.
    LeaseIds,
    /// Make the cgroup that the container's processes live in, below the unit's.
    Cgroup,
    /// Leave the host's mounts, and stage a root in memory that nobody else sees.
    Stage,
    /// Make the container's first process: systemd's child, in namespaces of its own, waiting.
    FirstProcess(Vec<Namespace>),
    /// Map the ids of the user namespace to the leased range.
    MapIds,
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
    },
    /// Put a small file into the root.
    File {
        /// Where.
        target: String,
        /// What.
        text: String,
    },
    /// Put a file of the host into the root, as it is now; nothing if it isn't there.
    CopyFile {
        /// Where, and where from.
        target: String,
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
    /// From here on writes to the root itself fail.
    ReadOnlyRoot,
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
    /// Make the root the only thing there is.
    EnterRoot,
    /// Look the user and group up in the root's own files.
    FindUser {
        /// Who.
        user: UserName,
        /// With which group.
        group: Option<UserName>,
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

/// What the executor and the first process do to start a container from these layers, the lowest first.
pub fn steps(container: &Container, layers: &[PathBuf], process: &Process) -> Steps {
    Steps { host: host(container, layers), inner: inner(container, process) }
}

fn host(container: &Container, layers: &[PathBuf]) -> Vec<HostStep> {
    let mut steps = Vec::new();
    if container.user_namespace {
        steps.push(HostStep::LeaseIds);
    }
    steps.push(HostStep::Cgroup);
    steps.push(HostStep::Stage);
    steps.push(HostStep::FirstProcess(namespaces(container)));
    if container.user_namespace {
        steps.push(HostStep::MapIds);
    }
    // Images have the same layer twice at times, an empty one mostly, which overlayfs refuses. The upper one
    // hides all that is in the lower.
    let distinct = layers.iter().enumerate().filter(|(at, tree)| !layers[at + 1..].contains(tree));
    let distinct: Vec<HostStep> = distinct
        .enumerate()
        .map(|(number, (_, tree))| HostStep::Layer { number, tree: tree.clone() })
        .collect();
    let root = HostStep::Root { layers: distinct.len() };
    steps.extend(distinct);
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
    steps
}

fn namespaces(container: &Container) -> Vec<Namespace> {
    let mut namespaces = vec![Namespace::Pid, Namespace::Ipc, Namespace::Uts];
    if container.user_namespace {
        namespaces.insert(0, Namespace::User);
    }
    if container.network == Network::None {
        namespaces.push(Namespace::Net);
    }
    namespaces
}

/// The files by which programs learn names: of this host, of others.
fn names(container: &Container) -> Vec<HostStep> {
    let name = &container.hostname;
    let mut steps = vec![
        HostStep::File {
            target: "/etc/hosts".into(),
            text: format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost ip6-loopback {name}\n"),
        },
        HostStep::File { target: "/etc/hostname".into(), text: format!("{name}\n") },
    ];
    if container.network == Network::Host {
        steps.push(HostStep::CopyFile { target: "/etc/resolv.conf".into() });
    }
    steps.retain(|step| match step {
        HostStep::File { target, .. } | HostStep::CopyFile { target } => {
            !container.mounts.iter().any(|mount| mount.target == *target || mount.target == "/etc")
        }
        _ => true,
    });
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
    if container.network == Network::None {
        steps.push(InnerStep::Sys);
    }
    steps.extend([InnerStep::CgroupTree, InnerStep::MessageQueues]);
    steps.extend(PROTECTED.map(InnerStep::Protect));
    steps.extend(MASKED.map(InnerStep::Mask));
    steps.push(InnerStep::Hostname(container.hostname.clone()));
    if container.network == Network::None {
        steps.push(InnerStep::Loopback);
    }
    steps.push(InnerStep::EnterRoot);
    steps.push(InnerStep::FindUser { user: process.user.clone(), group: process.group.clone() });
    steps.push(InnerStep::BoundCapabilities);
    steps.push(InnerStep::BecomeUser { working_directory: process.working_directory.clone() });
    steps.push(InnerStep::Privileges);
    steps.push(InnerStep::FilterCalls);
    steps.push(InnerStep::Gate);
    steps.push(InnerStep::Run { arguments: process.arguments.clone(), init: container.init });
    steps
}

impl fmt::Display for HostStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseIds => f.write_str("lease a range of 65536 ids"),
            Self::Cgroup => f.write_str("make the cgroup `payload` below the unit's"),
            Self::Stage => f.write_str("leave the host's mounts and stage a root in memory"),
            Self::FirstProcess(namespaces) => {
                f.write_str("make the first process, systemd's child, with its own namespaces:")?;
                namespaces.iter().try_for_each(|namespace| write!(f, " {namespace}"))
            }
            Self::MapIds => f.write_str("map the container's ids to the leased range"),
            Self::Layer { number, tree } => write!(f, "layer {number}: {}", tree.display()),
            // None are known: the image isn't in the store.
            Self::Root { layers: 0 } => {
                f.write_str("join the image's layers and a layer in memory to the root")
            }
            Self::Root { layers: 1 } => f.write_str("join the layer and a layer in memory to the root"),
            Self::Root { layers } => write!(f, "join the {layers} layers and a layer in memory to the root"),
            Self::File { target, text } => write!(f, "write {target}: {text:?}"),
            Self::CopyFile { target } => write!(f, "copy the host's {target}"),
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
            Self::ReadOnlyRoot => f.write_str("make the root read-only"),
        }
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
            Self::EnterRoot => f.write_str("enter the root and let go of the host's"),
            Self::FindUser { user, group } => {
                write!(f, "find user {user}")?;
                group.iter().try_for_each(|group| write!(f, " and group {group}"))
            }
            Self::BoundCapabilities => f.write_str("drop all but the default capabilities for good"),
            Self::BecomeUser { working_directory } => write!(f, "become the user, in {working_directory}"),
            Self::Privileges => f.write_str("gain no privileges from here on"),
            Self::FilterCalls => f.write_str("put the list of system calls in force"),
            Self::Gate => f.write_str("wait until systemd knows the process as the unit's main one"),
            Self::Run { arguments, init } => {
                write!(f, "run {arguments:?}{}", if *init { " below a small init" } else { "" })
            }
        }
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
