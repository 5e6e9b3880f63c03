//! One container as checked: what the rest of Wharf may rely on.
//!
//! Every value here is valid by itself. Nothing here depends on the host: what an image says, which ids are
//! leased and what the kernel can do is known only at start.
//!
//! In a template (`web@`) texts may hold `%i`, the instance, and `%%`, a percent sign; [`Container::instance`]
//! replaces them. Everywhere else `%` means itself.
//!
//! A key that another version of Wharf has written is passed over here, and by who must not do so found by
//! [`crate::plan::read`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Kind, Socket, Timer};
use crate::settings::Policy;
use crate::spec::{ContainerName, Link, Publish, Reference, Signal};

/// A declared container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// From the file's name.
    pub name: ContainerName,
    /// `description`, for people; the name where it isn't given.
    pub description: Option<String>,
    /// `image` or `rootfs`: where the root comes from.
    pub source: RootSource,
    /// `root`: what becomes of writes to it.
    pub root: RootMode,
    /// `entrypoint`: replaces the image's, and then its command too, as in OCI.
    pub entrypoint: Option<Vec<String>>,
    /// `command`: replaces the image's command.
    pub command: Option<Vec<String>>,
    /// `[environment]`: the last word on the environment.
    pub environment: BTreeMap<String, String>,
    /// `environment-files`, in order, over the image's and under `[environment]`.
    pub environment_files: Vec<EnvironmentFile>,
    /// `credentials` and `encrypted-credentials`, in this order; no name twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// `working-directory`, an absolute path inside; the image's where it isn't given.
    pub working_directory: Option<String>,
    /// `user`: a name of the image's passwd or a number; the image's where it isn't given.
    pub user: Option<UserName>,
    /// `group`: a name of the image's group file or a number; the user's where it isn't given.
    pub group: Option<UserName>,
    /// `hostname`; always filled, by the container's name where the file says nothing.
    pub hostname: String,
    /// `init`: a small init stays as process 1 and reaps; see [`Container::has_init`].
    pub init: bool,
    /// `user-namespace`: ids inside are a leased range outside.
    pub user_namespace: bool,
    /// `apparmor`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub apparmor: AppArmor,
    /// `network`.
    pub network: Network,
    /// `links`, in the order of the file; never to itself, and no name twice.
    pub links: Vec<Link>,
    /// `publish`, in the order of the file; no two overlap. Only with the network `default`.
    pub publish: Vec<Publish>,
    /// `[mounts]`, ordered by target, so that a mount comes after what it lies on.
    pub mounts: Vec<Mount>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[stop]`.
    pub stop: Stop,
    /// `restart`.
    pub restart: Restart,
    /// `ready`: when a start is done.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready: Ready,
    /// `notify-access`: who inside may speak to systemd, with [`Ready::Notify`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub notify_access: NotifyAccess,
    /// `restart-on-change`: files and folders of the host that are part of what it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_on_change: Vec<PathBuf>,
    /// `update`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: Update,
    /// `snapshot`: whether volumes are put back with the image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub snapshot: bool,
    /// `[reload]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// `[health]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// `type`.
    #[serde(default, skip_serializing_if = "Kind::is_service")]
    pub kind: Kind,
    /// `runtime`: the longest that it may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Duration>,
    /// `[timer]`; never with `[socket]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    /// `[socket]`; never of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Socket>,
    /// `survive-soft-reboot`; never with `[socket]`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub survive_soft_reboot: bool,
    /// `autostart`: whether boot starts it, or what starts it.
    pub autostart: bool,
    /// What the files of images say about `source`. It is filled in when all files are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supply: Option<Supply>,
    /// `[systemd.*]`.
    pub systemd: SystemdSections,
}

impl Container {
    /// Whether an init is process 1 and the program its child: asked for, or there to check.
    pub fn has_init(&self) -> bool {
        self.init || self.health.is_some()
    }

    /// The named volumes that it may write to.
    pub fn writes_to(&self) -> BTreeSet<&str> {
        written(&self.mounts)
    }
}

/// The named volumes that can be written to.
pub(super) fn written(mounts: &[Mount]) -> BTreeSet<&str> {
    fn name(mount: &Mount) -> Option<&str> {
        match &mount.kind {
            MountKind::Volume(volume) if !volume.read_only => Some(&volume.name),
            MountKind::Volume(_) | MountKind::Bind(_) | MountKind::Tmpfs(_) => None,
        }
    }
    mounts.iter().filter_map(name).collect()
}

/// What holds where nothing is written needn't stand in a plan.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where a root comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootSource {
    /// An image of the store.
    Image(Reference),
    /// A folder of the host (`rootfs`), absolute and without `..`.
    Folder(PathBuf),
}

/// What is known about where a container's image comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// The unit that fetches it, `nginx-image.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// `trust` of the image's file, which goes before `[trust]` of `wharf.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Policy>,
}

/// What becomes of writes to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootMode {
    /// They fail; /tmp, /run and /var/tmp are fresh tmpfs.
    ReadOnly,
    /// They go to memory and are gone with the container.
    Ephemeral,
}

/// A file of `NAME=value` lines on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentFile {
    /// Absolute.
    pub path: PathBuf,
    /// Written with a leading `-`: a missing file is no failure.
    pub optional: bool,
}

/// A secret that systemd loads for the unit (systemd.exec(5), `LoadCredential=`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// What the program finds it by.
    pub name: String,
    /// Where systemd finds it.
    pub source: CredentialSource,
    /// It was made by systemd-creds(1), and systemd decrypts it.
    pub encrypted: bool,
}

/// Where a credential is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialSource {
    /// Under this name in one of the host's credential stores.
    Store(String),
    /// A file or a socket of the host, absolute.
    File(PathBuf),
}

/// A user or group as the container knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserName {
    /// A number below 65,536, the size of a container's range of ids.
    Id(u32),
    /// A name, looked up in the image's own passwd or group file.
    Name(String),
}

/// `apparmor`: which profile confines the container's programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppArmor {
    /// Wharf's own, where it is loaded.
    #[default]
    Own,
    /// This one, and nothing runs without it.
    Profile(String),
    /// None.
    Unconfined,
}

/// What the container sees of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// An interface of its own, with an address that stays, beside the other containers' and behind the host.
    Default,
    /// A loopback interface and nothing else.
    None,
    /// The host's.
    Host,
}

/// Something mounted into the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, inside: absolute, normal (no `.`, `..`, `//` or trailing `/`), not `/`.
    pub target: String,
    /// What.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// A path of the host.
    Bind(Bind),
    /// A named volume.
    Volume(Volume),
    /// Memory, gone with the container.
    Tmpfs(Tmpfs),
}

/// A path of the host, file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute and without `..`.
    pub source: PathBuf,
    /// Writes fail.
    pub read_only: bool,
    /// With what is mounted below it.
    pub recursive: bool,
    /// Ids on disk are the container's own (user 101 inside is 101 on disk), where a user namespace is in use.
    pub idmap: bool,
}

/// A named volume, kept in the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// By the same rules as a container's name.
    pub name: String,
    /// Writes fail.
    pub read_only: bool,
}

/// A fresh tmpfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// The most it can hold, in bytes; the kernel's default (half the memory) where it isn't given.
    pub size: Option<u64>,
    /// Permission bits of its root; those of the image's folder at the target where not given.
    pub mode: Option<u32>,
}

/// `[limits]`: properties of the unit, each as text that systemd.resource-control(5) takes, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `memory`: bytes, `MemoryMax=`.
    pub memory: Option<String>,
    /// `memory-high`: bytes, `MemoryHigh=`.
    pub memory_high: Option<String>,
    /// `swap`: bytes, `MemorySwapMax=`.
    pub swap: Option<String>,
    /// `cpu`: per cent of one CPU, `CPUQuota=`.
    pub cpu: Option<String>,
    /// `cpu-weight`: 1 to 10000, `CPUWeight=`.
    pub cpu_weight: Option<String>,
    /// `cpus`: a list of CPUs, `AllowedCPUs=`.
    pub cpus: Option<String>,
    /// `io-weight`: 1 to 10000, `IOWeight=`.
    pub io_weight: Option<String>,
    /// `tasks`: processes and threads, `TasksMax=`.
    pub tasks: Option<String>,
    /// `open-files`: file descriptors of a process, `LimitNOFILE=`.
    pub open_files: Option<String>,
}

/// `[stop]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// `signal`; the image's where it isn't given, SIGTERM where that says nothing either.
    pub signal: Option<Signal>,
    /// `timeout`, after which what is left is killed; systemd's default where it isn't given.
    pub timeout: Option<Duration>,
}

/// `ready`: when a start is done, and what waits for it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// When the program runs.
    #[default]
    Exec,
    /// When the program says so, by sd_notify(3).
    Notify,
    /// When the first check of [`Health`] has passed.
    Healthy,
}

/// `notify-access`, as `NotifyAccess=` of systemd.service(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotifyAccess {
    /// The container's process 1.
    #[default]
    Main,
    /// Every process of the container.
    All,
}

/// `update`: what `wharf update` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Update {
    /// Nothing.
    #[default]
    Off,
    /// It looks what the tag names in the store.
    Local,
    /// It looks at the registry first.
    Registry,
}

/// `[reload]`: how the program reads its configuration anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reload {
    /// By a signal.
    Signal {
        /// Which.
        signal: Signal,
        /// Until the program says that it is done (`RELOADING=1`, `READY=1`).
        wait: bool,
    },
    /// By a program that is run inside, to its end; never empty.
    Command(Vec<String>),
}

/// `[health]`: how to tell that the container does its work. What the file leaves out is filled in, unless the image
/// may say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `command`, `http`, `tcp` or `image`.
    pub check: HealthCheck,
    /// `interval`, from the end of a check to the next.
    pub interval: Option<Duration>,
    /// `timeout` of one check.
    pub timeout: Option<Duration>,
    /// `retries`: as many in a row must fail; at least one.
    pub retries: Option<u32>,
    /// `start-period`, in which failures don't count.
    pub start_period: Option<Duration>,
    /// `on-failure`.
    pub on_failure: OnFailure,
}

/// What is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthCheck {
    /// A program and its arguments; never empty.
    Command(Vec<String>),
    /// A text for the image's shell.
    Shell(String),
    /// A page, which [`HttpTarget`](crate::spec::HttpTarget) reads, once a template's `%i` is filled in.
    Http(String),
    /// A port, which [`TcpTarget`](crate::spec::TcpTarget) reads in the same way.
    Tcp(String),
    /// What the image says.
    Image,
}

/// `on-failure`: what an unhealthy container comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// systemd stops it, and starts it again by `restart`.
    Restart,
    /// It is stopped, and stays so.
    Stop,
    /// It is said, and that is all.
    None,
}

/// `restart`, as `Restart=` of systemd.service(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// After an end that is a failure.
    OnFailure,
    /// After every end that nobody asked for.
    Always,
}

/// `[systemd.Unit]` and `[systemd.Service]`: settings in the order they stand in the unit, a list being the
/// same key several times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemdSections {
    /// `[systemd.Unit]`.
    pub unit: Vec<(String, String)>,
    /// `[systemd.Service]`.
    pub service: Vec<(String, String)>,
}
