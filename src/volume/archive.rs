//! Volumes as tars: out of this host, and into it.
//!
//! ```text
//! STATE/volumes/
//!   .importing-NAME/               flock on the folder itself: held by who imports. Before the exchange what the volume
//!                                  is to be, after it what it was
//!   .snapshots/NAME/export..TIME-PID/   flock on it, shared: held by who exports from it; who drops it has it alone
//!   .locks/.export-NAME            flock: held while one of them is taken, or looked at whether anybody exports from it
//! ```
//!
//! **Importing**: everything into `.importing-NAME`, `syncfs`; then, with the volume's lock and nobody using it, a rename
//! or, where there is a volume, an exchange of both names in one step (`RENAME_EXCHANGE`, renameat2(2)), `fsync` of
//! `volumes`, and only then what the volume was is removed. So a power cut at any moment leaves the one or the other,
//! whole. Nothing but the exchange keeps a start waiting.
//!
//! **Leftovers** have no lock, and the next import of this name removes them, as `clear` does. `.importing-NAME` may be
//! what the volume was, with the exchange not on disk yet; so `volumes` is synced before it is removed.
//!
//! **Exporting**: from a snapshot where there can be one, so that the container may start meanwhile; else, and on a disk
//! that is full, with the volume's lock, and a start waits; or, where that is asked for, from what is being written to.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{
    FlockOperation, Gid, Mode, RenameFlags, Uid, fchmod, fchown, flock, fstat, fsync, renameat_with,
};
use rustix::io::Errno;

use super::snapshot::{self, Places, SnapshotError, WhyNot, everything, open, remove, remove_leftover};
use super::{Hold, VolumeError, failed, folder, lock_file, sync};
use crate::archive::{ArchiveError, Destination, Ids, Packed, Packer, Unpacked, unpack};
use crate::host::Paths;

/// Why a volume wasn't exported, imported or removed.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A step with the volume or its snapshots.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It is being written to.
    #[error(
        "volume {volume} is in use by {by}; stop that first, or say --live: files that are written meanwhile are then \
         somewhere between before and after, as after a power cut"
    )]
    InUse {
        /// Its name.
        volume: String,
        /// A container, or a process.
        by: String,
    },
    /// An import would have to replace it.
    #[error("there is a volume {0} already; --replace puts the archive in its place, or take another name")]
    Exists(String),
    /// Another import of this name isn't through.
    #[error("volume {0} is just being imported by another command; try again when that has ended")]
    Busy(String),
    /// It isn't where volumes are, and can't be exchanged or removed in one step.
    #[error(
        "volume {volume} can't be {what} in one step: {} is {how}; do that by hand, with its containers stopped",
        .path.display()
    )]
    Elsewhere {
        /// Its name.
        volume: String,
        /// "replaced", "removed".
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// A link, a mount point or no folder.
        how: &'static str,
    },
    /// It is gone, and something of its content isn't.
    #[error(
        "volume {volume} is removed, but not all of its content; `wharf volume prune --yes` tries again when what is in \
         the way is gone"
    )]
    Left {
        /// Its name.
        volume: String,
        /// What is left, and why.
        source: SnapshotError,
    },
    /// Something has come to name it, or nobody can tell.
    #[error("{0}")]
    Needed(String),
    /// It would leave snapshots of nothing.
    #[error(
        "volume {volume} has {}; drop them first: wharf volume drop-snapshot {volume} {}",
        snapshots(.labels), .labels.join(" ")
    )]
    HasSnapshots {
        /// Its name.
        volume: String,
        /// Their labels.
        labels: Vec<String>,
    },
}

fn snapshots(labels: &[String]) -> String {
    match labels {
        [one] => format!("the snapshot {one}"),
        _ => format!("the snapshots {}", labels.join(", ")),
    }
}

impl<E: Into<SnapshotError>> From<E> for DataError {
    fn from(error: E) -> Self {
        Self::Snapshot(error.into())
    }
}

type Result<T, E = DataError> = std::result::Result<T, E>;

/// What an archive of a volume is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A snapshot, which nobody writes to.
    Snapshot,
    /// The volume, which nobody could use meanwhile.
    Locked,
    /// The volume, as it was at each moment.
    Live,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// From what.
    pub how: How,
    /// What is in the archive.
    pub packed: Packed,
}

/// What labels of snapshots begin with that exist for an export. No container's name ends with a dot, so none of an
/// update's begins so; and those that somebody gives have no dot.
const EXPORT: &str = "export..";

/// The ids on disk are the containers' own.
const AS_THEY_ARE: Ids = Ids { base: None };

/// Writes a volume as a tar, whose root is the volume's folder. With `live` also one that is in use.
///
/// # Errors
/// See [`DataError`]; nothing was written where the volume is in use.
pub fn export(
    paths: &Paths,
    volume: &str,
    live: bool,
    out: &mut dyn Write,
    progress: &dyn Fn(u64),
) -> Result<Exported> {
    let places = Places::of(paths, volume)?;
    if !places.volume.is_dir() {
        let path = places.volume.clone();
        return Err(WhyNot::NoVolume { volume: volume.to_owned(), path }.into());
    }
    places.nothing_inside()?;
    if live {
        // Nobody puts another one in its place meanwhile; containers may come and go.
        let _hold = super::hold(&paths.state(), volume)?;
        let packed = pack(&follow(&places.volume)?, out, progress)?;
        return Ok(Exported { how: How::Live, packed });
    }
    let taken = match places.possible() {
        Ok(_) => match snapshot_to_export(paths, &places, volume) {
            // Who can't write there any more wants all the more to have what is there elsewhere.
            Err(error) if cant_be_written(&error) => None,
            other => Some(other?),
        },
        Err(WhyNot::FileSystem { .. } | WhyNot::Elsewhere { .. }) => None,
        Err(error) if cant_be_written(&error) => None,
        Err(other) => return Err(other.into()),
    };
    let Some((label, whole, own)) = taken else {
        // Where not even a lock can be made, nothing keeps a container from starting meanwhile.
        let (_lock, how) = match places.lock() {
            Err(error) if cant_be_written(&error) => (None, How::Live),
            other => (Some(other?), How::Locked),
        };
        places.refuse_users(paths, None).map_err(in_use)?;
        let packed = pack(&follow(&places.volume)?, out, progress)?;
        return Ok(Exported { how, packed });
    };
    let tree = open(&whole.join("tree")).map_err(DataError::from);
    let packed = tree.and_then(|tree| pack(&tree, out, progress));
    drop(own);
    // What can't be dropped now, the next export drops, and `clear`: the archive is whole all the same.
    let _ = snapshot::drop(paths, volume, &label);
    Ok(Exported { how: How::Snapshot, packed: packed? })
}

fn pack(folder: &OwnedFd, out: &mut dyn Write, progress: &dyn Fn(u64)) -> Result<Packed> {
    let mut packer = Packer::new(out, AS_THEY_ARE, progress);
    packer.folder(folder, b"")?;
    Ok(packer.finish()?)
}

fn in_use(error: SnapshotError) -> DataError {
    match error {
        SnapshotError::InUse { volume, by } => DataError::InUse { volume, by },
        other => other.into(),
    }
}

/// A snapshot that is there as long as the file that comes with it is open: its label and its folder.
fn snapshot_to_export(paths: &Paths, places: &Places, volume: &str) -> Result<(String, PathBuf, File)> {
    let _lock = lock_exports(paths, volume)?;
    drop_old_exports(paths, places, volume)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let label = format!("{EXPORT}{now}-{}", std::process::id());
    snapshot::take(paths, volume, &label).map_err(in_use)?;
    let whole = places.snapshot(&label);
    let own = File::open(&whole).map_err(failed("open", &whole))?;
    flock(&own, FlockOperation::LockShared).map_err(failed("lock", &whole))?;
    Ok((label, whole, own))
}

fn lock_exports(paths: &Paths, volume: &str) -> Result<Hold, VolumeError> {
    lock_file(&paths.state(), &format!(".export-{volume}"), FlockOperation::LockExclusive)
}

/// Whether an error comes from a disk that is full or can only be read.
fn cant_be_written(error: &(dyn std::error::Error + 'static)) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let kinds = [QuotaExceeded, ReadOnlyFilesystem, StorageFull];
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let called =
            error.downcast_ref::<crate::sys::Error>().map(|error| io::Error::from(error.errno).kind());
        if io.or(called).is_some_and(|kind| kinds.contains(&kind)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A volume's folder, also where a link or another file system has it.
fn follow(path: &Path) -> Result<OwnedFd, VolumeError> {
    File::open(path).map(OwnedFd::from).map_err(failed("open", path))
}

/// What exports have left that were killed: nobody has a lock on it. Says whether there was something.
fn drop_old_exports(paths: &Paths, places: &Places, volume: &str) -> Result<bool> {
    let mut any = false;
    for label in places.labels()?.iter().filter(|label| is_export(label)) {
        match snapshot::drop(paths, volume, label) {
            Ok(()) => any = true,
            Err(SnapshotError::Exported { .. } | SnapshotError::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(any)
}

/// Whether a snapshot is there for an export only.
pub fn is_export(label: &str) -> bool {
    label.starts_with(EXPORT)
}

/// Removes what exports of a volume have left that were killed; says whether there was something.
pub(super) fn clear_exports(paths: &Paths, volume: &str) -> Result<bool> {
    let places = Places::of(paths, volume)?;
    if !places.labels()?.iter().any(|label| is_export(label)) {
        return Ok(false);
    }
    let _lock = lock_exports(paths, volume)?;
    drop_old_exports(paths, &places, volume)
}

/// Makes a volume of a tar; with `replace` also in the place of one that is there, in one step. Owners are the numbers
/// in the tar; of the folder itself, where that isn't in it, they stay. When this returns, it is durable.
///
/// # Errors
/// See [`DataError`]; then the volume is what it was, or not there.
pub fn import(
    paths: &Paths,
    volume: &str,
    replace: bool,
    input: impl Read + Send,
    progress: &dyn Fn(u64),
) -> Result<Unpacked> {
    let places = Places::of(paths, volume)?;
    // Before the work, and again when it is done.
    let may = || -> Result<()> {
        if places.is_missing() {
            return Ok(());
        }
        if !replace {
            return Err(DataError::Exists(volume.to_owned()));
        }
        in_place(&places, volume, "replaced")?;
        Ok(places.refuse_users(paths, None)?)
    };
    may()?;
    folder(&places.volumes)?;
    let name = importing(volume);
    let staged = places.volumes.join(&name);
    let folder = stage(&places.volumes, volume)?;
    let into = || -> Result<Unpacked> {
        let own = folder.try_clone().map_err(failed("open", &staged))?;
        fchmod(&own, Mode::from_raw_mode(0o755)).map_err(failed("change the mode of", &staged))?;
        let into =
            Destination { folder: own, ids: AS_THEY_ARE, owner: None, durable: false, powerless: false };
        let unpacked = unpack(input, &into, progress)?;
        everything(&staged)?;
        Ok(unpacked)
    };
    let mut is_there = false;
    let imported = into().and_then(|unpacked| {
        let _lock = places.lock()?;
        may()?;
        let here = rustix::fs::CWD;
        let before = if places.is_missing() {
            renameat_with(here, &staged, here, &places.volume, RenameFlags::NOREPLACE)
                .map_err(failed("rename into place", &places.volume))?;
            is_there = true;
            None
        } else {
            // Locked as long as it has the name that the next import would take for a leftover's.
            let before = open(&places.volume)?;
            if !unpacked.has_root {
                as_before(&before, &folder).map_err(failed("give its owner and mode to", &staged))?;
            }
            flock(&before, FlockOperation::NonBlockingLockExclusive)
                .map_err(failed("lock", &places.volume))?;
            renameat_with(here, &staged, here, &places.volume, RenameFlags::EXCHANGE)
                .map_err(failed("exchange with the archive", &places.volume))?;
            is_there = true;
            Some(before)
        };
        sync(&places.volumes)?;
        if before.is_some() {
            // What can't be removed now, the next one removes.
            let _ = remove(&places.volumes, &name);
        }
        Ok(unpacked)
    });
    // The first error is the one to tell. Where the disk has refused the exchange, it may have either, and what the volume
    // was stays: asked again the disk may say that all is well, as it tells of an error once (fsync(2)).
    if imported.is_err() && !is_there {
        let _ = remove(&places.volumes, &name);
    }
    imported
}

/// Who may enter a volume stays what it was, where its archive says nothing of that.
fn as_before(before: &OwnedFd, folder: &OwnedFd) -> Result<(), Errno> {
    let was = fstat(before)?;
    fchown(folder, Some(Uid::from_raw(was.st_uid)), Some(Gid::from_raw(was.st_gid)))?;
    fchmod(folder, Mode::from_raw_mode(was.st_mode & 0o7777))?;
    fsync(folder)
}

pub(super) const IMPORTING: &str = ".importing-";

fn importing(volume: &str) -> String {
    format!("{IMPORTING}{volume}")
}

/// Refuses a volume that can't be moved in one step.
pub(super) fn in_place(places: &Places, volume: &str, what: &'static str) -> Result<()> {
    places.in_place().map_err(|error| match error {
        WhyNot::Elsewhere { path, what: how, .. } => {
            DataError::Elsewhere { volume: volume.to_owned(), what, path, how }
        }
        other => other.into(),
    })
}

/// Makes the folder for an import, locked by its descriptor, in the place of one that nobody has locked.
fn stage(volumes: &Path, volume: &str) -> Result<OwnedFd> {
    let path = volumes.join(importing(volume));
    loop {
        let made = match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed("make the directory", &path)(error).into()),
        };
        let folder = match open(&path) {
            Err(VolumeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(DataError::Busy(volume.to_owned())),
            other => other.map_err(failed("lock", &path))?,
        }
        // Whoever was faster may have taken it for a leftover, and its name for a new one.
        let file = File::from(folder);
        let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let (Ok(own), Ok(there)) = (file.metadata(), path.symlink_metadata()) else { continue };
        if !same(&own, &there) {
            continue;
        }
        if made {
            return Ok(file.into());
        }
        remove_leftover(volumes, &importing(volume))?;
    }
}

/// Removes what an import has left that was killed; says whether there was something. One that is under way is let be.
pub(super) fn clear_import(volumes: &Path, volume: &str) -> Result<bool> {
    let path = volumes.join(importing(volume));
    let Ok(folder) = open(&path) else { return Ok(false) };
    if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    let here = path.symlink_metadata().ok().map(|look| (look.dev(), look.ino()));
    let own = File::from(folder);
    if own.metadata().ok().map(|look| (look.dev(), look.ino())) == here {
        remove_leftover(volumes, &importing(volume))?;
        return Ok(true);
    }
    Ok(false)
}
