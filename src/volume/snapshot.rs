//! Snapshots of named volumes, for when what a new image has done to its data is to be undone.
//!
//! ```text
//! STATE/volumes/
//!   .locks/NAME                      flock, exclusive: held by each function here for as long as it works
//!   .snapshots/NAME/LABEL/tree/      a snapshot, whole; LABEL/ has the time at which it was taken
//!   .snapshots/NAME/.taking-LABEL/   one being taken
//!   .snapshots/NAME/.dropping-LABEL/ one being removed
//!   .restoring-NAME/                 before the exchange a copy of the snapshot, after it what the volume was
//! ```
//!
//! A btrfs subvolume is copied by btrfs, everything else file by file, sharing content (reflinks). Both take next
//! to no room, and neither is a backup: the disk is the same.
//!
//! **Taking**: the copy under `.taking-LABEL`, `syncfs`, rename, `fsync` of the folder.
//!
//! **Restoring**: a copy of the snapshot as `.restoring-NAME`, `syncfs`, exchange of both names in one step
//! (`RENAME_EXCHANGE`, renameat2(2)), `fsync` of `volumes`, and only then what the volume was is removed. So a power
//! cut at any moment leaves one or the other; the snapshot stays, and restoring it again gives the same.
//!
//! **Leftovers** have names of their own, and the next function that has the lock removes them: nothing that begins
//! with a dot and a verb is ever the only copy of what somebody was told is there. `.restoring-NAME` may be what the
//! volume was, with the exchange not on disk yet; so `volumes` is synced before it is removed.
//!
//! **Nobody may use the volume** meanwhile: no record of a running container names it (see `running`), and no process
//! has it mounted. A start holds `.locks/NAME` until its mount can be seen.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags, flock, ioctl_ficlone,
    openat, renameat_with, statx, syncfs,
};
use rustix::io::Errno;

use super::{Hold, VolumeError, failed, folder, is_name, sync};
use crate::check::{Mount as Mounted, MountKind};
use crate::host::Paths;
use crate::running::Running;
use crate::spec::ContainerName;
use crate::sys::btrfs;
use crate::sys::mounts::{self, Mount};
use crate::tree::{self, TreeError};

/// How a volume is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At once, by btrfs.
    Subvolume,
    /// File by file, sharing content.
    Reflinks,
}

/// A snapshot that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Of which volume.
    pub volume: String,
    /// Its name among those of this volume.
    pub label: String,
    /// What the volume was then.
    pub tree: PathBuf,
    /// When it was taken.
    pub taken: SystemTime,
}

/// Why there can't be a snapshot of a volume.
#[derive(Debug, thiserror::Error)]
pub enum WhyNot {
    /// It isn't there: no container with it has ever started.
    #[error("there is no volume {volume} ({} is missing); it is made when a container with it first starts", .path.display())]
    NoVolume {
        /// Its name.
        volume: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// It isn't where volumes are, and so can't be exchanged with a copy in one step.
    #[error(
        "volume {volume} can't have snapshots: {} is {what}, which can't be exchanged with a copy in one step; \
         mount the file system on {} instead, so that its volumes lie beside each other",
        .path.display(), .path.parent().unwrap_or(.path).display()
    )]
    Elsewhere {
        /// Its name.
        volume: String,
        /// Where it is.
        path: PathBuf,
        /// A link, a mount point or no folder.
        what: &'static str,
    },
    /// Something is mounted in it that is no part of it, and would go with it.
    #[error(
        "volume {volume} can't be moved or copied as a whole: something is mounted on {} in it, which its containers don't \
         see; unmount that first",
        .point.display()
    )]
    MountInside {
        /// Its name.
        volume: String,
        /// Where.
        point: PathBuf,
    },
    /// The file system can't.
    #[error(
        "volume {volume} can't have snapshots: {} is on {file_system}, where files can't share their content; move {} \
         to btrfs or to XFS with reflinks (mkfs.xfs makes it so unless told otherwise), or say snapshot = false and \
         keep the data in another way",
        .path.display(), .path.parent().unwrap_or(.path).display()
    )]
    FileSystem {
        /// Its name.
        volume: String,
        /// Where it is.
        path: PathBuf,
        /// What it is on, as mount(8) calls it.
        file_system: String,
    },
    /// It couldn't be found out.
    #[error(transparent)]
    Unknown(#[from] VolumeError),
}

/// Why a snapshot wasn't taken, restored or removed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There can't be one.
    #[error(transparent)]
    Impossible(#[from] WhyNot),
    /// A label that could leave the folder.
    #[error(
        "`{0}` can't be a snapshot's name; use ASCII letters, digits, `-`, `_` and `.`, a letter or digit first"
    )]
    Label(String),
    /// The volume is in use.
    #[error("volume {volume} is in use by {by}; stop that first")]
    InUse {
        /// Its name.
        volume: String,
        /// A container, or a process.
        by: String,
    },
    /// The volume has one with this label.
    #[error("volume {volume} has a snapshot {label} already; remove it first, or take another name")]
    Exists {
        /// Its volume.
        volume: String,
        /// Its label.
        label: String,
    },
    /// The volume has none with this label.
    #[error(
        "volume {volume} has no snapshot {label}{}",
        if .there.is_empty() { String::new() } else { format!("; there is {}", .there.join(", ")) }
    )]
    Missing {
        /// Its volume.
        volume: String,
        /// What was asked for.
        label: String,
        /// What there is.
        there: Vec<String>,
    },
    /// The copy failed, and nothing has changed.
    #[error("can't copy {}", .path.display())]
    Copy {
        /// Of what.
        path: PathBuf,
        /// Where in it, and why.
        source: TreeError,
    },
    /// An export reads from it.
    #[error("snapshot {label} of volume {volume} is just being exported; try again when that has ended")]
    Exported {
        /// Its volume.
        volume: String,
        /// Its label.
        label: String,
    },
    /// What isn't needed any more can't be removed.
    #[error("can't remove all of {}", .path.display())]
    Remove {
        /// Of what.
        path: PathBuf,
        /// Where in it, and why.
        source: TreeError,
    },
    /// btrfs refused.
    #[error("btrfs refuses {}", .path.display())]
    Btrfs {
        /// What was to be copied.
        path: PathBuf,
        /// What was tried, and its answer.
        source: crate::sys::Error,
    },
    /// The kernel refused something.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

type Result<T, E = SnapshotError> = std::result::Result<T, E>;

/// Whether a volume can have snapshots, and how they would be made. Asks the file system by trying.
///
/// # Errors
/// See [`WhyNot`].
pub fn possible(paths: &Paths, volume: &str) -> Result<Kind, WhyNot> {
    Places::of(paths, volume)?.possible()
}

/// Takes a snapshot. When this returns, it is durable.
///
/// # Errors
/// See [`SnapshotError`]; then there is none, nor a part of one that counts.
pub fn take(paths: &Paths, volume: &str, label: &str) -> Result<Snapshot> {
    take_beside(paths, volume, label, None)
}

/// The same, for a container that is down, whatever its record says: systemd starts it only when nothing of it is left.
///
/// # Errors
/// See [`take`].
pub fn take_for(paths: &Paths, own: &ContainerName, volume: &str, label: &str) -> Result<Snapshot> {
    take_beside(paths, volume, label, Some(own))
}

fn take_beside(paths: &Paths, volume: &str, label: &str, own: Option<&ContainerName>) -> Result<Snapshot> {
    let places = Places::of(paths, volume)?;
    let name = label_of(label)?;
    places.possible()?;
    let _lock = places.lock()?;
    places.sweep()?;
    if places.snapshot(label).exists() {
        return Err(SnapshotError::Exists { volume: volume.to_owned(), label: label.to_owned() });
    }
    places.refuse_users(paths, own)?;
    folder(&places.snapshots)?;
    let taking = places.snapshots.join(format!(".taking-{name}"));
    let made = DirBuilder::new().mode(0o700).create(&taking).map_err(failed("make the directory", &taking));
    let taken = made.map_err(SnapshotError::from).and_then(|()| {
        copy(&places.volume, &taking, "tree")?;
        everything(&taking)?;
        let whole = places.snapshot(label);
        fs::rename(&taking, &whole).map_err(failed("rename into place", &whole))?;
        Ok(sync(&places.snapshots)?)
    });
    if taken.is_err() {
        // The first error is the one to tell; what is left here the next one removes.
        let _ = places.sweep();
    }
    taken?;
    places.found(label)
}

/// Puts what a volume was when a snapshot was taken in the place of what it is now, which is gone then. The snapshot
/// stays. When this returns, it is durable; until then the volume is one of both, whole.
///
/// # Errors
/// See [`SnapshotError`]; then the volume is what it was.
pub fn restore(paths: &Paths, volume: &str, label: &str) -> Result<()> {
    restore_beside(paths, volume, label, None)
}

/// The same, for a container that is down: see [`take_for`].
///
/// # Errors
/// See [`restore`].
pub fn restore_for(paths: &Paths, own: &ContainerName, volume: &str, label: &str) -> Result<()> {
    restore_beside(paths, volume, label, Some(own))
}

fn restore_beside(paths: &Paths, volume: &str, label: &str, own: Option<&ContainerName>) -> Result<()> {
    let places = Places::of(paths, volume)?;
    let snapshot = places.snapshot(&label_of(label)?);
    let _lock = places.lock()?;
    places.sweep()?;
    if !snapshot.is_dir() {
        return Err(places.missing(label));
    }
    if !places.is_missing() {
        places.in_place()?;
        places.refuse_users(paths, own)?;
    }
    let exchanged = copy(&snapshot.join("tree"), &places.volumes, &places.restoring).and_then(|()| {
        let (from, to) = (places.volumes.join(&places.restoring), &places.volume);
        everything(&from)?;
        let flags = if places.is_missing() { RenameFlags::NOREPLACE } else { RenameFlags::EXCHANGE };
        let here = rustix::fs::CWD;
        renameat_with(here, &from, here, to, flags).map_err(failed("exchange with its snapshot", to))?;
        Ok(())
    });
    if exchanged.is_ok() {
        // Where the disk refuses, it may have either; what the volume was stays then. To be asked again it may say that
        // all is well, as it tells of an error once (fsync(2)), so nothing is removed by this call.
        sync(&places.volumes)?;
    }
    // What the volume was; or, of an attempt that failed, what it should have become. What can't be removed now, the
    // next one removes.
    let _ = places.sweep();
    exchanged
}

/// Removes a snapshot. The volume isn't touched, and may be in use.
///
/// # Errors
/// See [`SnapshotError`].
pub fn drop(paths: &Paths, volume: &str, label: &str) -> Result<()> {
    let places = Places::of(paths, volume)?;
    let name = label_of(label)?;
    let _lock = places.lock()?;
    places.sweep()?;
    let whole = places.snapshot(label);
    let opened = match open(&whole) {
        Err(VolumeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(places.missing(label));
        }
        other => other?,
    };
    // What an export reads from would seem to have been gone when it began, and be missing in the archive.
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            return Err(SnapshotError::Exported { volume: volume.to_owned(), label: label.to_owned() });
        }
        other => other.map_err(failed("lock", &whole))?,
    }
    let gone = places.snapshots.join(format!(".dropping-{name}"));
    fs::rename(&whole, &gone).map_err(failed("rename", &whole))?;
    sync(&places.snapshots)?;
    places.sweep()
}

/// Every snapshot of a volume, by label.
///
/// # Errors
/// The folder can't be read.
pub fn list(paths: &Paths, volume: &str) -> Result<Vec<Snapshot>> {
    let places = Places::of(paths, volume)?;
    let labels = places.labels()?;
    // One that was removed meanwhile is none.
    Ok(labels.iter().filter_map(|label| places.found(label).ok()).collect())
}

/// Every volume that has snapshots, by name; the volume itself may be gone.
///
/// # Errors
/// The folder can't be read.
pub fn volumes(paths: &Paths) -> Result<Vec<String>> {
    let folder = paths.state().join("volumes/.snapshots");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("read", &folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("read", &folder))?.file_name();
        names.extend(name.into_string().ok().filter(|name| is_name(name)));
    }
    names.sort();
    Ok(names)
}

/// The first of some running containers, but for `own`, that has a volume.
pub fn user<'a>(
    running: impl IntoIterator<Item = &'a Running>,
    volume: &str,
    own: Option<&ContainerName>,
) -> Option<&'a ContainerName> {
    let has = |mount: &Mounted| matches!(&mount.kind, MountKind::Volume(kept) if kept.name == volume);
    let mut all = running.into_iter().map(|running| &running.container);
    all.find(|other| own != Some(&other.name) && other.mounts.iter().any(has)).map(|other| &other.name)
}

fn label_of(label: &str) -> Result<String> {
    if is_name(label) { Ok(label.to_owned()) } else { Err(SnapshotError::Label(label.to_owned())) }
}

/// Where everything of one volume is.
pub(super) struct Places {
    state: PathBuf,
    name: String,
    pub(super) volumes: PathBuf,
    pub(super) volume: PathBuf,
    pub(super) snapshots: PathBuf,
    /// Below `volumes`.
    restoring: String,
}

impl Places {
    pub(super) fn of(paths: &Paths, name: &str) -> Result<Self, VolumeError> {
        if !is_name(name) {
            return Err(VolumeError::Name(name.to_owned()));
        }
        let state = paths.state();
        let volumes = state.join("volumes");
        Ok(Self {
            name: name.to_owned(),
            volume: volumes.join(name),
            snapshots: volumes.join(".snapshots").join(name),
            restoring: format!(".restoring-{name}"),
            volumes,
            state,
        })
    }

    pub(super) fn snapshot(&self, label: &str) -> PathBuf {
        self.snapshots.join(label)
    }

    pub(super) fn lock(&self) -> Result<Hold, VolumeError> {
        super::lock(&self.state, &self.name, FlockOperation::LockExclusive)
    }

    pub(super) fn is_missing(&self) -> bool {
        self.volume.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    fn missing(&self, label: &str) -> SnapshotError {
        let there = self.labels().unwrap_or_default();
        SnapshotError::Missing { volume: self.name.clone(), label: label.to_owned(), there }
    }

    pub(super) fn labels(&self) -> Result<Vec<String>, VolumeError> {
        let entries = match fs::read_dir(&self.snapshots) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("read", &self.snapshots))?,
        };
        let mut labels = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("read", &self.snapshots))?.file_name();
            labels.extend(name.into_string().ok().filter(|name| is_name(name)));
        }
        labels.sort();
        Ok(labels)
    }

    fn found(&self, label: &str) -> Result<Snapshot> {
        let path = self.snapshot(label);
        // Made when its tree was, and not changed since.
        let taken =
            path.metadata().and_then(|metadata| metadata.modified()).map_err(failed("look at", &path))?;
        let (volume, label) = (self.name.clone(), label.to_owned());
        Ok(Snapshot { volume, label, tree: path.join("tree"), taken })
    }

    /// Whether the volume is a folder among the volumes, on their file system.
    pub(super) fn in_place(&self) -> Result<(), WhyNot> {
        let elsewhere =
            |what| WhyNot::Elsewhere { volume: self.name.clone(), path: self.volume.clone(), what };
        let look = match self.volume.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(WhyNot::NoVolume { volume: self.name.clone(), path: self.volume.clone() });
            }
            other => other.map_err(failed("look at", &self.volume))?,
        };
        if look.is_symlink() {
            return Err(elsewhere("a link"));
        }
        if !look.is_dir() {
            return Err(elsewhere("no folder"));
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let look = statx(rustix::fs::CWD, &self.volume, flags, StatxFlags::empty());
        let look = look.map_err(failed("look at", &self.volume))?;
        if look.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Err(elsewhere("a mount point"));
        }
        self.nothing_inside()
    }

    /// Whether all that is seen below the volume is the volume's. What the host has mounted there would be taken for it,
    /// by a copy, and by a removal.
    pub(super) fn nothing_inside(&self) -> Result<(), WhyNot> {
        let real = self.volume.canonicalize().map_err(failed("look at", &self.volume))?;
        let inside = mounts()?
            .into_iter()
            .map(|mount| mount.point)
            .find(|point| *point != real && point.starts_with(&real));
        match inside {
            Some(point) => Err(WhyNot::MountInside { volume: self.name.clone(), point }),
            None => Ok(()),
        }
    }

    pub(super) fn possible(&self) -> Result<Kind, WhyNot> {
        self.in_place()?;
        if kind(&self.volume)? == Kind::Subvolume {
            return Ok(Kind::Subvolume);
        }
        if can_clone(&self.volumes)? {
            return Ok(Kind::Reflinks);
        }
        let file_system =
            mount_of(&self.volumes)?.map_or("a file system without a name".to_owned(), |it| it.kind);
        Err(WhyNot::FileSystem { volume: self.name.clone(), path: self.volume.clone(), file_system })
    }

    /// Removes what was left by who was killed, or cut off.
    pub(super) fn sweep(&self) -> Result<()> {
        // It may be what the volume was.
        remove_leftover(&self.volumes, &self.restoring)?;
        let entries = match fs::read_dir(&self.snapshots) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed("read", &self.snapshots))?,
        };
        for entry in entries {
            let name = entry.map_err(failed("read", &self.snapshots))?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".taking-") || name.starts_with(".dropping-") {
                let path = self.snapshots.join(&*name);
                remove(&path, "tree")?;
                remove(&self.snapshots, &name)?;
            }
        }
        Ok(())
    }

    /// Refuses a volume that a container has, but for `own`, or any process sees.
    pub(super) fn refuse_users(&self, paths: &Paths, own: Option<&ContainerName>) -> Result<()> {
        let in_use = |by| SnapshotError::InUse { volume: self.name.clone(), by };
        let all = crate::running::all(paths).map_err(failed("read", &paths.running()))?;
        if let Some(other) = user(&all, &self.name, own) {
            return Err(in_use(format!("container {other}")));
        }
        // Of the volume itself, which may be a link or a mount point.
        let Some(mount) = mount_of(&self.volume)? else { return Ok(()) };
        let Some(inside) = inside(&mount, &self.volume) else { return Ok(()) };
        match mounted_by(&mount, &inside) {
            Some(process) => Err(in_use(process)),
            None => Ok(()),
        }
    }
}

/// Everything that was written to the file system of `path` is on its disk.
pub(super) fn everything(path: &Path) -> Result<(), VolumeError> {
    let directory = File::open(path).map_err(failed("open", path))?;
    syncfs(&directory).map_err(failed("write everything to the disk of", path))
}

pub(super) fn open(path: &Path) -> Result<OwnedFd, VolumeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(failed("open", path))
}

/// How a folder would be copied, if it can be.
fn kind(path: &Path) -> Result<Kind, VolumeError> {
    let directory = open(path)?;
    let refused = |error: crate::sys::Error| failed("look at", path)(error.errno);
    // A snapshot of a subvolume has nothing of those that lie in it.
    let whole = btrfs::is_subvolume(&directory).map_err(refused)?
        && !btrfs::has_children(&directory).map_err(refused)?;
    Ok(if whole { Kind::Subvolume } else { Kind::Reflinks })
}

/// Copies a folder as `name` in another one.
fn copy(from: &Path, parent: &Path, name: &str) -> Result<()> {
    let c_name = CString::new(name).map_err(|_| SnapshotError::Label(name.to_owned()))?;
    let (source, to) = (open(from)?, parent.join(name));
    if kind(from)? == Kind::Subvolume {
        return btrfs::snapshot(&source, open(parent)?, &c_name)
            .map_err(|error| SnapshotError::Btrfs { path: from.to_owned(), source: error });
    }
    DirBuilder::new().mode(0o700).create(&to).map_err(failed("make the directory", &to))?;
    tree::clone_contents(&source, &open(&to)?)
        .map_err(|source| SnapshotError::Copy { path: from.to_owned(), source })
}

/// Removes `name` in a folder, whatever it is. Nothing there is no error.
pub(super) fn remove(parent: &Path, name: &str) -> Result<()> {
    let path = parent.join(name);
    let c_name = CString::new(name).map_err(|_| SnapshotError::Label(name.to_owned()))?;
    let directory = match open(parent) {
        Err(VolumeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let is_subvolume = open(&path).is_ok_and(|folder| btrfs::is_subvolume(&folder).unwrap_or(false));
    // Where others lie in it, or btrfs has another reason: file by file, which it takes as well.
    if is_subvolume && btrfs::destroy(&directory, &c_name).is_ok() {
        return Ok(());
    }
    tree::remove_all(&directory, &c_name).map_err(|source| SnapshotError::Remove { path, source })
}

/// The same for what may have a name of a leftover by a rename that isn't on disk yet: it may be all that there is.
pub(super) fn remove_leftover(parent: &Path, name: &str) -> Result<()> {
    if parent.join(name).symlink_metadata().is_ok() {
        sync(parent)?;
        remove(parent, name)?;
    }
    Ok(())
}

/// Tries whether two files of a file system can share their content. Leaves nothing.
fn can_clone(folder: &Path) -> Result<bool, VolumeError> {
    let file = || {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        openat(rustix::fs::CWD, folder, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    };
    let (mut one, other) = match (file(), file()) {
        (Ok(one), Ok(other)) => (one, other),
        // What can't do that can't share content either.
        (Err(Errno::OPNOTSUPP | Errno::ISDIR), _) => return Ok(false),
        (Err(errno), _) | (_, Err(errno)) => return Err(failed("make a file in", folder)(errno)),
    };
    one.write_all(b"x").map_err(failed("write to a file in", folder))?;
    match ioctl_ficlone(other.as_fd(), one.as_fd()) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS | Errno::XDEV) => Ok(false),
        Err(errno) => Err(failed("clone a file in", folder)(errno)),
    }
}

/// What this process has mounted.
fn mounts() -> Result<Vec<Mount>, VolumeError> {
    mounts::own().map_err(failed("read", Path::new(mounts::OWN)))
}

/// The mount that a folder is on.
fn mount_of(folder: &Path) -> Result<Option<Mount>, VolumeError> {
    let look = statx(rustix::fs::CWD, folder, AtFlags::empty(), StatxFlags::MNT_ID);
    let wanted = look.map_err(failed("look at", folder))?.stx_mnt_id;
    Ok(mounts()?.into_iter().find(|mount| mount.id == wanted))
}

/// Where in the file system of a mount a path is.
fn inside(mount: &Mount, path: &Path) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    Some(mount.root.join(real.strip_prefix(&mount.point).ok()?))
}

/// A process that has a folder of a mounted file system mounted elsewhere, or one in it: its number and name.
fn mounted_by(own: &Mount, folder: &Path) -> Option<String> {
    // That by which the volume itself is there is the host's, and many processes have it.
    let is_own = |mount: &Mount| (&mount.root, &mount.point) == (&own.root, &own.point);
    let has = |mount: &Mount| mount.device == own.device && mount.root.starts_with(folder);
    let seen = mounts::seen_by_all()
        .find(|seen| mounts::parse(&seen.list).any(|mount| has(&mount) && !is_own(&mount)))?;
    let name = fs::read_to_string(format!("/proc/{}/comm", seen.pid)).unwrap_or_default();
    Some(format!("process {} ({}), which has it mounted", seen.pid, name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        assert!(matches!(take(&paths, "../x", "a"), Err(SnapshotError::Volume(VolumeError::Name(_)))));
        for label in ["", "..", ".taking-x", "a/b"] {
            assert!(matches!(restore(&paths, "data", label), Err(SnapshotError::Label(_))), "{label:?}");
        }
        assert!(matches!(possible(&paths, "data"), Err(WhyNot::NoVolume { .. })));
    }
}
