//! What was found on a host: plain data, judged elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::apparmor::{NotThere, Profiles};
use crate::net::nft::ForwardChain;

/// Something that was looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Look<T> {
    /// It was seen.
    Seen(T),
    /// Only root can see it.
    OnlyRoot,
    /// It can't be seen, and why.
    Failed(String),
    /// Nothing was heard for so long.
    Late(Duration),
    /// Nobody looked: it is nothing of this root's, or is asked of who isn't there.
    #[default]
    Unasked,
}

impl<T> Look<T> {
    /// What was seen, if anything was.
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(found) => Some(found),
            _ => None,
        }
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's abilities.
    pub kernel: Look<Kernel>,
    /// What was tried of it.
    pub trial: Look<Trial>,
    /// The cgroup hierarchy.
    pub cgroups: Look<Cgroups>,
    /// Other programs that confine processes.
    pub confinement: Look<Confinement>,
    /// Process 1.
    pub systemd: Look<Systemd>,
    /// What it and its drop-ins say of all services.
    pub settings: Look<Settings>,
    /// What of Wharf is installed.
    pub installed: Look<Installed>,
    /// Units that matter, as systemd has them: name, and ActiveState.
    pub units: Look<BTreeMap<String, String>>,
    /// Name servers.
    pub resolver: Look<Resolver>,
    /// Where the journal is kept.
    pub journal: Look<Journal>,
    /// The firewall.
    pub firewall: Look<Firewall>,
    /// Forwarding.
    pub forwarding: Look<Forwarding>,
    /// The networks that addresses are taken from.
    pub pools: Look<Pools>,
    /// Leased ids, and those of others.
    pub ids: Look<Ids>,
    /// The clock.
    pub clock: Look<Clock>,
    /// File systems that are written to.
    pub disks: Vec<Look<Disk>>,
    /// Memory.
    pub memory: Look<Memory>,
    /// Container files.
    pub files: Look<Files>,
    /// Containers, as systemd has them.
    pub containers: Look<Containers>,
    /// Marks of changes that aren't known to work.
    pub marks: Look<Vec<Mark>>,
    /// The store of images.
    pub store: Look<Store>,
    /// Images that nothing fetches and the store doesn't have, each with a container that names it.
    pub missing_images: Look<Vec<(String, String)>>,
}

/// The kernel's abilities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// As uname(2) has it: `6.1.0-44-amd64`.
    pub release: String,
    /// Namespaces that there aren't, as in /proc/self/ns.
    pub missing_namespaces: Vec<String>,
    /// Limits of namespaces (`user.max_*_namespaces`) with their values.
    pub namespace_limits: Vec<(String, u64)>,
    /// Whether only root may make user namespaces, by the settings that distributions have for it.
    pub restricted: Vec<String>,
    /// What a seccomp filter can answer (`kernel.seccomp.actions_avail`); empty without seccomp.
    pub seccomp: Vec<String>,
    /// Whether overlayfs is there, built in or as a module.
    pub overlayfs: bool,
}

/// What a start does, tried and taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// Whether a user namespace can be made, else why not.
    pub user_namespace: Option<String>,
    /// File systems in use, and whether ids can be mapped there.
    pub file_systems: Vec<FileSystem>,
    /// Whether overlayfs can be mounted over mapped layers of the store, else why not; nothing where that wasn't tried,
    /// since what comes before it failed.
    pub overlay: Option<Result<(), String>>,
}

/// A file system in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// A path on it.
    pub path: String,
    /// Its kind, as the kernel names it.
    pub kind: String,
    /// Containers that have it mapped; empty for the store's own.
    pub containers: Vec<String>,
    /// Why ids can't be mapped there; nothing where they can.
    pub problem: Option<String>,
}

/// The cgroup hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Whether /sys/fs/cgroup is cgroup v2, and nothing else.
    pub unified: bool,
    /// Those of the root.
    pub controllers: Vec<String>,
}

/// Other programs that confine processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// What AppArmor has.
    pub apparmor: Profiles,
    /// Profiles that container files name and that aren't there, with the containers.
    pub missing: BTreeMap<NotThere, Vec<String>>,
    /// Whether SELinux is on, and then whether it enforces.
    pub selinux: Option<bool>,
}

/// Process 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Systemd {
    /// Whether it is systemd.
    pub is_process_1: bool,
    /// What it is instead, by its own name.
    pub instead: String,
    /// Its version, from its libraries.
    pub version: Option<u32>,
    /// Why it doesn't answer; nothing where it does, or nobody asked.
    pub silent: Option<String>,
    /// Whether systemd-machined is installed.
    pub machined: bool,
}

/// What systemd's own files, and drop-ins for services, say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of the manager, in the order in which they are read.
    pub manager: Vec<Setting>,
    /// Of services: of all, or of a container's.
    pub services: Vec<Setting>,
}

/// One assignment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Where it stands.
    pub file: String,
    /// The unit that it is for; nothing for all.
    pub unit: Option<String>,
    /// What is set.
    pub key: String,
    /// To what.
    pub value: String,
}

/// What of Wharf is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Where the generator is, or what hides it.
    pub generator: Generator,
    /// Whether the executor can be run.
    pub executor: bool,
    /// Static units and other files that aren't there.
    pub missing: Vec<String>,
    /// Units of Wharf's that are masked.
    pub masked: Vec<String>,
}

/// The generator, as systemd looks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Generator {
    /// It is at a path, and can be run.
    There(String),
    /// An empty file, a link to /dev/null or one that can't be run is in its place.
    Hidden(String),
    /// It is nowhere.
    #[default]
    Missing,
}

/// Name servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Those that containers are told of.
    pub servers: Vec<String>,
    /// Whether the host itself asks systemd-resolved, at 127.0.0.53.
    pub asks_resolved: bool,
}

/// Where the journal is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// Whether journald listens.
    pub listens: bool,
    /// Whether it writes to /var/log/journal, and not to memory.
    pub persistent: bool,
}

/// The firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Whether the program nft is there.
    pub nft: bool,
    /// Chains of others that forwarded packets pass.
    pub chains: Look<Vec<Passed>>,
    /// Whether Wharf's table is as it should be, where containers with a network run.
    pub intact: Look<bool>,
    /// How many containers with a network run.
    pub connected: usize,
    /// Containers that publish ports.
    pub publishing: Vec<String>,
    /// How many containers are declared that have a network of their own.
    pub networked: usize,
    /// Who manages it: firewalld, ufw, docker.
    pub managers: Vec<String>,
    /// firewalld's `StrictForwardPorts=yes`.
    pub strict_firewalld: bool,
    /// Tables of the old iptables in use, `filter` and the like.
    pub legacy: Vec<String>,
}

/// A chain of somebody else's that forwarded packets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The chain, and its policy.
    pub chain: ForwardChain,
    /// What its rules say.
    pub rules: Rules,
}

/// What the rules of a chain say, as far as a look at their text can tell; nothing of it where there is no nft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Its table says something about `wharf-` interfaces.
    pub name_ours: bool,
    /// One of them takes whatever comes to it, and drops or rejects it, whatever the policy is.
    pub close: bool,
    /// What was sent on to another address by any table, as published ports are, is let through.
    pub pass_published: bool,
}

/// Forwarding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// Whether the kernel forwards now: a setting and its value.
    pub now: Vec<(String, bool)>,
    /// Files that set it to 0, with the setting.
    pub files: Vec<(String, String)>,
    /// How many containers with a network run.
    pub connected: usize,
}

/// The networks that addresses are taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    /// As in the file; nothing before the first lease.
    pub chosen: Option<String>,
    /// The file is damaged.
    pub damaged: bool,
    /// Routes of the host that lead elsewhere with some of these addresses: interface and network.
    pub clashes: Vec<String>,
}

/// Leased ids, and those of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Containers and the first of their ids.
    pub leases: Vec<(String, u32)>,
    /// Leases that can't be read.
    pub damaged: Vec<String>,
    /// What /etc/subuid and /etc/subgid give away.
    pub given: Vec<Given>,
    /// Users within leased ranges: id and name.
    pub users: Vec<(u32, String)>,
    /// Where useradd looks for a new user's ids: SUB_UID_MIN, SUB_UID_MAX and SUB_UID_COUNT of login.defs(5).
    pub useradd: Option<(u32, u32, u32)>,
}

/// A range that somebody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `/etc/subuid` or `/etc/subgid`.
    pub file: String,
    /// Who.
    pub owner: String,
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

/// The clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Now, in seconds since 1970.
    pub now: i64,
    /// A time that has passed for sure: when this program came onto this host.
    pub passed: i64,
    /// Whether somebody keeps it right.
    pub synchronised: Option<bool>,
}

/// A file system that is written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// What lies there.
    pub what: &'static str,
    /// Where it is.
    pub path: String,
    /// Where the file system is mounted.
    pub mount: String,
    /// Its kind.
    pub kind: String,
    /// Bytes of it.
    pub size: u64,
    /// Bytes that root may still write.
    pub free: u64,
    /// Inodes of it; 0 where it doesn't count them.
    pub inodes: u64,
    /// Those that are left.
    pub free_inodes: u64,
    /// Nothing can be written.
    pub read_only: bool,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of it.
    pub total: u64,
    /// Bytes that can be had.
    pub available: u64,
    /// For how many hundredths of a per cent of the last minute all waited for memory (`full avg60` of /proc/pressure).
    pub stalled: Option<u32>,
}

/// Container files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// What was checked, in words.
    pub checked: String,
    /// How many errors.
    pub errors: usize,
    /// How many warnings.
    pub warnings: usize,
    /// The files with errors.
    pub bad: Vec<String>,
}

/// Containers, as systemd has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Containers {
    /// How many are declared or run.
    pub known: usize,
    /// How many run.
    pub active: usize,
    /// Those that failed, and why, as far as anybody knows.
    pub failed: Vec<(String, Option<String>)>,
    /// Those that end again and again, each time soon after their start: systemd restarts them and never has them fail.
    pub restarting: Vec<String>,
    /// Those whose checks say that they are unhealthy.
    pub unhealthy: Vec<String>,
    /// Those that systemd doesn't know as their files have them.
    pub reload_due: Vec<String>,
}

impl Containers {
    /// Those with which something is wrong.
    pub fn troubled(&self) -> Vec<String> {
        let Self { known: _, active: _, failed, restarting, unhealthy, reload_due: _ } = self;
        failed.iter().map(|(name, _)| name).chain(restarting).chain(unhealthy).cloned().collect()
    }
}

/// A mark of a change that isn't known to work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The container.
    pub container: String,
    /// Whether the trial is over, and has failed.
    pub failed: bool,
    /// Whether a `wharf apply` looks after it now.
    pub watched: bool,
}

/// The store of images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    /// How many images.
    pub images: usize,
    /// Bytes of their files.
    pub bytes: u64,
    /// What is damaged, a line each.
    pub damage: Vec<String>,
    /// What commands that were cut off have left.
    pub leftovers: usize,
}
