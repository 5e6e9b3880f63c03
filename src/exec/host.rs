//! The executor's steps: from the host, before and around the container's first process.
//!
//! Everything made here belongs to processes: the mounts to a mount namespace that dies with the last of
//! them, the root's memory to those mounts, the pair of interfaces to the network namespace. Killed at any
//! point, the executor leaves an empty cgroup, which systemd removes with the unit's, leases, which are kept on
//! purpose, and a record with what follows from it, which `ExecStopPost=` takes back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use super::credentials;
use super::failure::{Ends, Failure, Status};
use super::network::{self, Connections};
use super::source::{self, SourceError};
use super::{data, handover, implied};
use crate::check::{Bind, Container, RootSource};
use crate::host::Paths;
use crate::lease;
use crate::net::Attachment;
use crate::plan::Plan;
use crate::plan::steps::{HostStep, ImpliedFolder, NAMES, Namespace};
use crate::running::Running;
use crate::sys::clone::{self, Child, Namespaces};
use crate::sys::mount::{self, Attributes};
use crate::sys::resolve::{self, Owner};
use crate::sys::{self, process};
use crate::volume::{self, First};
use crate::watched;

/// The folder of [`Paths::runtime`] over which each executor, in its own mount namespace, mounts the memory
/// that it stages a root in.
pub const STAGE: &str = "stage";
/// The cgroup below the unit's that holds the container's processes.
pub const PAYLOAD: &str = "payload";
/// Where the unified hierarchy is mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// What the steps have made so far.
pub struct Host<'a> {
    paths: &'a Paths,
    container: &'a Container,
    /// What it is started by.
    plan: &'a Plan,
    /// The image's digest, where it is one of the store's.
    image: Option<&'a str>,
    /// The digests of what `restart-on-change` lists.
    files: BTreeMap<PathBuf, String>,
    /// How the container is connected, once that is worked out.
    connections: Option<Connections>,
    /// The first of the leased ids; 0, the host's own, without a user namespace.
    base: u32,
    /// `cgroup.procs` of the payload's cgroup, open for writing: the kernel asks whether who opened it may move
    /// processes there, so that the first process can move itself.
    pub cgroup: Option<OwnedFd>,
    /// The container's first process.
    pub child: Option<Child>,
    users: Option<OwnedFd>,
    root: Option<OwnedFd>,
    /// The names of the layers in the stage, the lowest first.
    layers: Vec<String>,
    /// The folder where the root is attached.
    pub stage: PathBuf,
}

/// What a step came to.
pub enum Outcome {
    /// It is done.
    Done,
    /// It made a second process, and this is it.
    FirstProcess,
}

/// The nodes of /dev: name, major and minor number (Linux's devices.txt).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// The links of /dev.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// The group `tty` in every distribution; it owns terminals (devpts, `gid=`).
const TTY: u32 = 5;

impl<'a> Host<'a> {
    /// Nothing made yet.
    pub fn new(paths: &'a Paths, container: &'a Container, plan: &'a Plan, image: Option<&'a str>) -> Self {
        Self {
            paths,
            container,
            plan,
            image,
            // Before the program can read them: what changes from now on is a change.
            files: watched::digests(paths, container),
            connections: None,
            base: 0,
            cgroup: None,
            child: None,
            users: None,
            root: None,
            layers: Vec::new(),
            stage: paths.runtime().join(STAGE),
        }
    }

    /// Takes one step.
    ///
    /// # Errors
    /// Why it can't be taken.
    pub fn take(&mut self, step: &HostStep) -> Result<Outcome, Failure> {
        match step {
            HostStep::LeaseIds => {
                self.base = lease::ids(&self.paths.state(), &self.container.name)
                    .map_err(|error| Failure::from_error(Status::User, &error))?;
            }
            HostStep::Cgroup => self.cgroup = Some(cgroup(self.container.survive_soft_reboot)?),
            HostStep::Stage => self.make_stage()?,
            HostStep::FirstProcess(namespaces) => return self.first_process(namespaces),
            HostStep::MapIds => self.map_ids()?,
            HostStep::Layer { number, tree } => self.layer(*number, tree)?,
            HostStep::Root { layers: _, implied } => self.make_root(implied)?,
            // Their values are the container's, as those of the rest about its network are.
            HostStep::Names { hostname: _, links: _, resolver: _ } => self.names()?,
            HostStep::Link { target, to } => {
                resolve::link(self.root()?, target, to, self.owner()).ends(Status::Namespace)?;
            }
            HostStep::Folder { target } => {
                resolve::folder(self.root()?, target, self.owner()).ends(Status::Namespace)?;
            }
            HostStep::Devices => self.devices()?,
            HostStep::HostSys => self.host_sys()?,
            HostStep::Tmpfs { target, size, mode } => self.tmpfs(target, *size, *mode)?,
            HostStep::Bind { target, bind } => self.bind(target, bind)?,
            HostStep::Volume { target, name, read_only } => self.volume(target, name, *read_only)?,
            HostStep::LeaseAddresses { own: _, links: _ } => self.connections().map(drop)?,
            HostStep::Interface => self.interface()?,
            HostStep::Record | HostStep::Admit { publish: _, links: _ } => self.admit()?,
            HostStep::NotificationSocket { target } => self.notification_socket(target)?,
            HostStep::Credentials { target, names } => {
                let memory = credentials::load(names, self.owner())?;
                let place = resolve::folder(self.root()?, target, self.owner()).ends(Status::Namespace)?;
                mount::attach(memory.as_fd(), place.as_fd()).ends(Status::Namespace)?;
            }
            HostStep::ReadOnlyRoot => {
                let attributes = Attributes { read_only: true, ..Attributes::default() };
                mount::set(self.root()?, attributes, false).ends(Status::Namespace)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// How the container is connected, for its first process.
    pub fn attachment(&self) -> Option<Attachment> {
        self.connections.as_ref()?.attachment.clone()
    }

    /// User and group 0 of the container, as the host sees them.
    fn owner(&self) -> Owner {
        Owner { uid: self.base, gid: self.base }
    }

    fn root(&self) -> Result<BorrowedFd<'_>, Failure> {
        made(self.root.as_ref(), "root")
    }

    fn make_stage(&self) -> Result<(), Failure> {
        let io = |error: io::Error| {
            Failure::new(Status::Namespace, format!("can't make {}: {error}", self.stage.display()))
        };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(self.paths.runtime()).map_err(io)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.stage).map_err(io)?;
        process::unshare(UnshareFlags::NEWNS).ends(Status::Namespace)?;
        mount::make_private().ends(Status::Namespace)?;
        let memory =
            mount::new("tmpfs", &[("mode", "0755")], Attributes::default()).ends(Status::Namespace)?;
        let place = mount::place(&self.stage).ends(Status::Namespace)?;
        mount::attach(memory.as_fd(), place.as_fd()).ends(Status::Namespace)?;
        for folder in ["root", "lower", "upper", "work"] {
            fs::create_dir(self.stage.join(folder)).map_err(io)?;
        }
        Ok(())
    }

    fn first_process(&mut self, namespaces: &[Namespace]) -> Result<Outcome, Failure> {
        let namespaces = namespaces
            .iter()
            .map(|namespace| match namespace {
                Namespace::User => Namespaces::USER,
                Namespace::Pid => Namespaces::PID,
                Namespace::Ipc => Namespaces::IPC,
                Namespace::Uts => Namespaces::UTS,
                Namespace::Net => Namespaces::NET,
            })
            .fold(Namespaces::empty(), Namespaces::union);
        process::hide().ends(Status::Namespace)?;
        let child = clone::sibling(namespaces).map_err(|error| {
            let failure = Failure::new(Status::Namespace, &error);
            match error.errno {
                Errno::NOSPC | Errno::USERS => failure
                    .hint("the host's limit of namespaces is reached: see sysctl user.max_user_namespaces"),
                Errno::PERM if namespaces.contains(Namespaces::USER) => failure
                    .hint("the host forbids user namespaces; allow them, or set user-namespace = false"),
                _ => failure,
            }
        })?;
        match child {
            None => Ok(Outcome::FirstProcess),
            Some(child) => {
                self.child = Some(child);
                Ok(Outcome::Done)
            }
        }
    }

    fn map_ids(&mut self) -> Result<(), Failure> {
        let child = self.child.as_ref().ok_or_else(|| out_of_order("first process"))?;
        sys::privilege::map_ids(child.pid, self.base, lease::IDS).ends(Status::User)?;
        let path = format!("/proc/{}/ns/user", child.pid.as_raw_nonzero());
        let users =
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
                Failure::new(Status::User, format!("can't open {path}: {}", sys::explain(errno)))
            })?;
        self.users = Some(users);
        Ok(())
    }

    fn layer(&mut self, number: usize, tree: &Path) -> Result<(), Failure> {
        let source = match &self.container.source {
            RootSource::Folder(_) => {
                source::open(self.paths, self.container, tree, OFlags::PATH | OFlags::DIRECTORY)
                    .map_err(|error| error.failure(Status::Namespace, "the rootfs ", tree))?
            }
            // The store is root's own.
            RootSource::Image(_) => mount::place(tree).ends(Status::Namespace)?,
        };
        let layer = mount::copy_at(source.as_fd(), false).ends(Status::Namespace)?;
        let attributes = Attributes {
            read_only: true,
            idmap: self.users.as_ref().map(AsFd::as_fd),
            ..Attributes::default()
        };
        mount::set(layer.as_fd(), attributes, false)
            .map_err(|error| idmap_failure(&error, tree, "set user-namespace = false"))?;
        let name = layer_name(number, tree);
        let place = self.stage.join("lower").join(&name);
        fs::create_dir(&place).map_err(|error| {
            Failure::new(Status::Namespace, format!("can't make {}: {error}", place.display()))
        })?;
        let place = mount::place(&place).ends(Status::Namespace)?;
        self.layers.push(name);
        mount::attach(layer.as_fd(), place.as_fd()).ends(Status::Namespace)
    }

    fn make_root(&mut self, implied: &[ImpliedFolder]) -> Result<(), Failure> {
        let io = |error: io::Error| Failure::new(Status::Namespace, format!("can't stage the root: {error}"));
        let lower = self.stage.join("lower");
        // The executor has one thread, and overlayfs takes names only.
        rustix::process::chdir(&lower).map_err(|errno| io(errno.into()))?;
        let names: Vec<String> = self.layers.iter().rev().cloned().collect();
        // The upper folder is what the root itself looks like, so that is always one of these.
        let root = ImpliedFolder { path: Vec::new(), layer: self.layers.len().saturating_sub(1) };
        let given = implied.first().is_none_or(|first| !first.path.is_empty());
        let folders: Vec<_> = given.then_some(&root).into_iter().chain(implied).collect();
        implied::make(&self.layers, &folders, &self.stage.join("upper"))?;
        let root = mount::overlay(&names, "../upper", "../work", c"../root").ends(Status::Namespace)?;
        let place = mount::place(&self.stage.join("root")).ends(Status::Namespace)?;
        mount::attach(root.as_fd(), place.as_fd()).ends(Status::Namespace)?;
        self.root = Some(root);
        Ok(())
    }

    /// The files are the host's root's, whom nobody inside can be.
    fn names(&mut self) -> Result<(), Failure> {
        network::write_names(self.paths, self.container, self.connections()?)?;
        let folder = self.paths.names(self.container.name.as_str());
        let copy = mount::copy_of(&folder, false).ends(Status::Namespace)?;
        let attributes = Attributes { read_only: true, nosuid: true, nodev: true, noexec: true, idmap: None };
        mount::set(copy.as_fd(), attributes, false).ends(Status::Namespace)?;
        self.put(NAMES, &copy)
    }

    /// Worked out when they are first asked for; what comes later goes by the same.
    fn connections(&mut self) -> Result<&Connections, Failure> {
        let known = match self.connections.take() {
            Some(connections) => connections,
            None => network::connections(self.paths, self.container)?,
        };
        Ok(self.connections.insert(known))
    }

    fn interface(&mut self) -> Result<(), Failure> {
        let attachment = self.connections()?.attachment.clone().ok_or_else(|| out_of_order("addresses"))?;
        let child = self.child.as_ref().ok_or_else(|| out_of_order("first process"))?;
        let path = format!("/proc/{}/ns/net", child.pid.as_raw_nonzero());
        let netns =
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
                Failure::new(Status::Network, format!("can't open {path}: {}", sys::explain(errno)))
            })?;
        network::connect(&attachment, &self.container.name, netns.as_fd())
    }

    fn admit(&mut self) -> Result<(), Failure> {
        let attachment = self.connections()?.attachment.clone();
        let running = Running {
            container: self.container.clone(),
            source: self.plan.source.clone(),
            image: self.image.map(str::to_owned),
            files: self.files.clone(),
            held: self.plan.held.clone(),
            ids: self.users.as_ref().map(|_| self.base),
            attachment,
        };
        network::admit(self.paths, &running)
    }

    /// /dev is filled before it is attached, so that nothing of the image's can get between.
    fn devices(&self) -> Result<(), Failure> {
        let (uid, gid) = (self.base.to_string(), self.base.to_string());
        let attributes = Attributes { nosuid: true, noexec: true, ..Attributes::default() };
        let options = [("mode", "0755"), ("size", "64k"), ("uid", uid.as_str()), ("gid", gid.as_str())];
        let dev = mount::new("tmpfs", &options, attributes).ends(Status::Namespace)?;
        let failed = |errno: Errno| {
            Failure::new(Status::Namespace, format!("can't fill /dev: {}", sys::explain(errno)))
        };
        let own = |name: &str| {
            let (uid, gid) = (rustix::fs::Uid::from_raw(self.base), rustix::fs::Gid::from_raw(self.base));
            rustix::fs::chownat(&dev, name, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        };
        for (name, major, minor) in DEVICES {
            mount::device(dev.as_fd(), name, major, minor, 0o666).ends(Status::Namespace)?;
            own(name).map_err(failed)?;
        }
        for (name, target) in DEVICE_LINKS {
            rustix::fs::symlinkat(target, &dev, name).map_err(failed)?;
            own(name).map_err(failed)?;
        }
        for name in ["pts", "shm", "mqueue"] {
            rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
            own(name).map_err(failed)?;
        }
        resolve::folder(self.root()?, "/dev", self.owner()).ends(Status::Namespace)?;
        // The image's /dev may be a link to anywhere; it is then no place for the real one (CVE-2026-41579).
        let place = resolve::open_exactly(self.root()?, "dev", OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| real_folder(error, "/dev"))?;
        mount::attach(dev.as_fd(), place.as_fd()).ends(Status::Namespace)?;

        let tty = (self.base + TTY).to_string();
        let terminals = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", tty.as_str())];
        let attributes = Attributes { nosuid: true, noexec: true, ..Attributes::default() };
        let pts = mount::new("devpts", &terminals, attributes).ends(Status::Namespace)?;
        self.onto(dev.as_fd(), "pts", &pts)?;
        let options = [("mode", "1777"), ("uid", uid.as_str()), ("gid", gid.as_str())];
        let attributes = Attributes { nosuid: true, nodev: true, ..Attributes::default() };
        let shm = mount::new("tmpfs", &options, attributes).ends(Status::Namespace)?;
        self.onto(dev.as_fd(), "shm", &shm)
    }

    fn onto(&self, folder: BorrowedFd<'_>, name: &str, what: &OwnedFd) -> Result<(), Failure> {
        let place =
            resolve::open_exactly(folder, name, OFlags::PATH | OFlags::DIRECTORY).ends(Status::Namespace)?;
        mount::attach(what.as_fd(), place.as_fd()).ends(Status::Namespace)
    }

    fn host_sys(&self) -> Result<(), Failure> {
        let sys = mount::copy_of(Path::new("/sys"), false).ends(Status::Namespace)?;
        let attributes = Attributes { read_only: true, nosuid: true, nodev: true, noexec: true, idmap: None };
        mount::set(sys.as_fd(), attributes, false).ends(Status::Namespace)?;
        let place = resolve::open_exactly(self.root()?, "sys", OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| real_folder(error, "/sys"))?;
        mount::attach(sys.as_fd(), place.as_fd()).ends(Status::Namespace)
    }

    fn tmpfs(&self, target: &str, size: Option<u64>, mode: Option<u32>) -> Result<(), Failure> {
        let place = resolve::folder(self.root()?, target, self.owner()).ends(Status::Namespace)?;
        // Owner, and mode where none is given, are those of the folder that it lies on.
        let stat = rustix::fs::fstat(&place).map_err(|errno| {
            Failure::new(Status::Namespace, format!("can't look at {target}: {}", sys::explain(errno)))
        })?;
        let mode = format!("{:o}", mode.unwrap_or(stat.st_mode & 0o7777));
        let (uid, gid) = (stat.st_uid.to_string(), stat.st_gid.to_string());
        let size = size.map(|size| size.to_string());
        let mut options = vec![("mode", mode.as_str()), ("uid", uid.as_str()), ("gid", gid.as_str())];
        options.extend(size.as_deref().map(|size| ("size", size)));
        let attributes = Attributes { nosuid: true, nodev: true, ..Attributes::default() };
        let memory = mount::new("tmpfs", &options, attributes).ends(Status::Namespace)?;
        mount::attach(memory.as_fd(), place.as_fd()).ends(Status::Namespace)
    }

    fn bind(&self, target: &str, bind: &Bind) -> Result<(), Failure> {
        let Bind { source, read_only, recursive, idmap } = bind;
        let opened = source::open(self.paths, self.container, source, OFlags::PATH).map_err(|error| {
            let missing = matches!(error, SourceError::Kernel(Errno::NOENT));
            let failure = error.failure(Status::Namespace, "", source);
            if missing {
                failure.hint(format!(
                    "make it on the host, or change the mount on {target} in the container file"
                ))
            } else {
                failure
            }
        })?;
        let copy = mount::copy_at(opened.as_fd(), *recursive).ends(Status::Namespace)?;
        let idmap = self.users.as_ref().filter(|_| *idmap).map(AsFd::as_fd);
        let attributes =
            Attributes { read_only: *read_only, nosuid: true, nodev: true, noexec: false, idmap };
        mount::set(copy.as_fd(), attributes, *recursive).map_err(|error| {
            idmap_failure(
                &error,
                source,
                "set `idmap = false` on this mount and give the files to the container's ids",
            )
        })?;
        self.put(target, &copy)
    }

    /// A socket can be connected to through a mount that nothing can be written to.
    fn notification_socket(&self, target: &str) -> Result<(), Failure> {
        let failed = |problem: String| Failure::new(Status::Namespace, problem);
        let socket = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from).filter(|path| path.is_absolute());
        let socket = socket.ok_or_else(|| {
            failed("systemd has given no notification socket with a path (NOTIFY_SOCKET)".to_owned())
        })?;
        let copy = mount::copy_of(&socket, false).ends(Status::Namespace)?;
        let attributes = Attributes { read_only: true, nosuid: true, nodev: true, noexec: true, idmap: None };
        mount::set(copy.as_fd(), attributes, false).ends(Status::Namespace)?;
        self.put(target, &copy)
    }

    fn volume(&self, target: &str, name: &str, read_only: bool) -> Result<(), Failure> {
        // Until it is mounted in this process's stage, where whoever wants to replace the volume finds it.
        let state = self.paths.state();
        let hold = match volume::try_hold(&state, name) {
            Ok(None) => {
                let why = "which is being exported, imported, restored or taken a snapshot of";
                handover::status(&format!("Waits for its volume {name}, {why}"));
                let hold = data::patiently(&self.container.name, || volume::hold(&state, name));
                handover::status("");
                hold
            }
            Ok(Some(hold)) => Ok(hold),
            Err(error) => Err(error),
        };
        let _hold = hold.map_err(|error| Failure::from_error(Status::Namespace, &error))?;
        let path = self.volume_folder(target, name)?;
        let copy = mount::copy_of(&path, false).ends(Status::Namespace)?;
        let idmap = self.users.as_ref().map(AsFd::as_fd);
        let attributes = Attributes { read_only, nosuid: true, nodev: true, noexec: false, idmap };
        mount::set(copy.as_fd(), attributes, false)
            .map_err(|error| idmap_failure(&error, &path, "set user-namespace = false"))?;
        self.put(target, &copy)
    }

    fn volume_folder(&self, target: &str, name: &str) -> Result<PathBuf, Failure> {
        // A new volume begins as what the image has at its place.
        let first = match resolve::open(self.root()?, target, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(folder) => Some(folder),
            Err(error) if error.errno == Errno::NOENT => None,
            Err(error) => return Err(Failure::new(Status::Namespace, error)),
        };
        let first = first.as_ref().map(|folder| First { folder: folder.as_fd(), shift: self.base });
        volume::ensure(&self.paths.state(), name, first)
            .map_err(|error| Failure::from_error(Status::Namespace, &error))
    }

    /// Attaches a file or folder on a target of the same kind, made where it is missing.
    fn put(&self, target: &str, what: &OwnedFd) -> Result<(), Failure> {
        let folder = resolve::kind(what.as_fd()).ends(Status::Namespace)? == rustix::fs::FileType::Directory;
        let root = self.root()?;
        let place = if folder {
            resolve::folder(root, target, self.owner())
        } else {
            resolve::file(root, target, self.owner())
        }
        .map_err(|error| match error.errno {
            Errno::NOTDIR => {
                Failure::new(Status::Namespace, format!("a folder can't be mounted on the file {target}"))
            }
            _ => Failure::new(Status::Namespace, error),
        })?;
        mount::attach(what.as_fd(), place.as_fd()).map_err(|error| match error.errno {
            Errno::NOTDIR => {
                Failure::new(Status::Namespace, format!("a file can't be mounted on the folder {target}"))
            }
            _ => Failure::new(Status::Namespace, error),
        })
    }
}

/// What a layer is called in the stage: its number, and its digest where it has one. The kernel shows the
/// name in the container's mountinfo, by which `wharf image remove` sees that the layer is in use.
fn layer_name(number: usize, tree: &Path) -> String {
    let digest = tree.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let is_digest = |name: &&str| {
        let hex = name.strip_suffix("-bottom").unwrap_or(name);
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    };
    match digest.filter(is_digest) {
        Some(digest) => format!("{number}-{digest}"),
        None => number.to_string(),
    }
}

/// What systemd looks for at the cgroup of each process before it kills all that are left (`is_in_survivor_cgroup` of
/// its src/shared/killall.c). It sets this at a unit's own only.
const SURVIVES: &str = "user.survive_final_kill_signal";

/// The cgroup for the container's processes, below the one that systemd put the executor in.
fn cgroup(survives: bool) -> Result<OwnedFd, Failure> {
    let failed = |text: String| Failure::new(Status::Cgroup, text);
    let text = fs::read_to_string("/proc/self/cgroup")
        .map_err(|error| failed(format!("can't read /proc/self/cgroup: {error}")))?;
    let own =
        text.lines().find_map(|line| line.strip_prefix("0::")).filter(|_| is_cgroup2(Path::new(CGROUPS)));
    let Some(own) = own else {
        return Err(failed(format!("{CGROUPS} is not the unified cgroup hierarchy"))
            .hint("boot the host with systemd.unified_cgroup_hierarchy=1"));
    };
    let payload = PathBuf::from(format!("{CGROUPS}{own}")).join(PAYLOAD);
    match fs::create_dir(&payload) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(format!("can't make the cgroup {}: {error}", payload.display())));
        }
        _ => {}
    }
    if survives {
        // Attributes of users are there since Linux 5.7, and so is all else that this needs.
        rustix::fs::setxattr(&payload, SURVIVES, b"1", rustix::fs::XattrFlags::empty()).map_err(|errno| {
            failed(format!(
                "can't mark {} as one to be left alone at a soft reboot: {errno}",
                payload.display()
            ))
        })?;
    }
    let processes = payload.join("cgroup.procs");
    rustix::fs::open(&processes, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(format!("can't open {}: {}", processes.display(), sys::explain(errno))))
}

fn is_cgroup2(path: &Path) -> bool {
    /// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
    const MAGIC: i64 = 0x6367_7270;
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == MAGIC)
}

fn made<'fd>(what: Option<&'fd OwnedFd>, name: &str) -> Result<BorrowedFd<'fd>, Failure> {
    what.map(AsFd::as_fd).ok_or_else(|| out_of_order(name))
}

fn out_of_order(name: &str) -> Failure {
    Failure::new(Status::Config, format!("the steps are out of order: no {name} yet"))
}

fn real_folder(error: sys::Error, path: &str) -> Failure {
    match error.errno {
        Errno::LOOP | Errno::NOTDIR => {
            Failure::new(Status::Namespace, format!("the image's {path} is not a real folder"))
                .hint("such an image can't be run safely")
        }
        _ => Failure::new(Status::Namespace, error),
    }
}

/// EINVAL of an idmapped mount says that the file system doesn't do it; which one, and what then, is for
/// people to know.
fn idmap_failure(error: &sys::Error, path: &Path, way_out: &str) -> Failure {
    match error.errno {
        Errno::INVAL | Errno::OPNOTSUPP => Failure::new(
            Status::Namespace,
            format!("the file system that {} is on (or one below it) can't map ids", path.display()),
        )
        .hint(way_out.to_owned()),
        _ => Failure::new(Status::Namespace, error),
    }
}
