//! Named volumes.
//!
//! ```text
//! STATE/volumes/
//!   .lock            flock: held while a volume is being made
//!   .incoming-NAME/  a volume being made; whoever has the lock and finds one removes it
//!   .locks/NAME      flock: shared while a start mounts the volume, exclusive while a snapshot is made or restored
//!   .snapshots/      see `snapshot`
//!   .restoring-NAME/ a snapshot about to be the volume, or what was the volume before; see there
//!   .importing-NAME/, .removing-NAME/   see `archive` and `listing`
//!   NAME/            a volume, whole: owner, mode and first content are the image's
//! ```
//!
//! **Commit order**: the copy under `.incoming-NAME`, `syncfs`, rename, `fsync` of `volumes`. A volume that
//! is there is never touched again, but for a snapshot that is restored or an archive that is imported in its place, and
//! until somebody removes it.

mod archive;
mod listing;
pub mod snapshot;

pub use archive::{DataError, Exported, How, export, import, is_export};
pub use listing::{Size, clear, names, remove, remove_unless, size};

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat, syncfs};

use crate::tree::{self, TreeError};

/// Why there is no volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A name that could leave the folder of volumes, or be taken for something else in it.
    #[error(
        "`{0}` can't be a volume's name; use ASCII letters, digits, `-`, `_` and `.`, a letter or digit first"
    )]
    Name(String),
    /// The kernel refused something.
    #[error("can't {doing} {}", .path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// The image's content couldn't be copied in.
    #[error("can't give volume {volume} its first content")]
    Copy {
        /// Its name.
        volume: String,
        /// Where it failed.
        source: TreeError,
    },
}

fn failed<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> VolumeError {
    move |error| VolumeError::Io { doing, path: path.to_owned(), source: error.into() }
}

/// What a new volume begins as.
#[derive(Clone, Copy, Debug)]
pub struct First<'a> {
    /// The image's folder at the volume's target.
    pub folder: BorrowedFd<'a>,
    /// The id that stands for 0 there: the first of the container's range, where the folder is seen idmapped.
    pub shift: u32,
}

/// Makes sure of a volume and says where it is.
///
/// A new one takes owner, mode, attributes and content of `first`, the image's folder at the target, as the
/// container will see them; without one it is an empty folder of root's with mode 0755. When this returns,
/// the volume is durable. Several at once, for the same volume or others, are right.
///
/// # Errors
/// See [`VolumeError`]; then there is no volume of this name, nor a part of one.
pub fn ensure(state: &Path, name: &str, first: Option<First<'_>>) -> Result<PathBuf, VolumeError> {
    if !is_name(name) {
        return Err(VolumeError::Name(name.to_owned()));
    }
    let volumes = state.join("volumes");
    let volume = volumes.join(name);
    // Complete by construction, so the common case takes no lock. Its name may still be on its way to the
    // disk in another process, which then isn't acknowledged there either; nothing can be written to it
    // that outlives its name, since both are in one file system's order.
    if volume.is_dir() {
        return Ok(volume);
    }
    for path in [state, &volumes] {
        folder(path)?;
    }
    let _lock = lock_making(&volumes, FlockOperation::LockExclusive)?;
    if volume.is_dir() {
        return Ok(volume);
    }
    make(&volumes, name, first)?;
    Ok(volume)
}

/// Held while a volume is being made.
fn lock_making(volumes: &Path, operation: FlockOperation) -> Result<Hold, VolumeError> {
    let path = volumes.join(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(failed("open", &path))?;
    flock(&file, operation).map_err(failed("lock", &path))?;
    Ok(Hold { _file: file })
}

/// A file name that leads nowhere else, and isn't one of this module's own.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Makes sure of a folder of this module's, durably, with those above it.
fn folder(path: &Path) -> Result<(), VolumeError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync(path.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.parent().is_some() => {
            folder(path.parent().unwrap_or(path))?;
            folder(path)
        }
        Err(error) => Err(failed("make the directory", path)(error)),
    }
}

/// Keeps a volume what it is, until it is dropped: see [`hold`].
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

/// Waits until no snapshot of a volume is being made or restored, and keeps it so. A start holds this from before it
/// has the volume until that is mounted where anybody can see it: the other side looks for mounts.
///
/// Nothing where there can't be a lock, since nothing can be written: neither can a snapshot then, and the container is
/// to start.
///
/// # Errors
/// See [`VolumeError`].
pub fn hold(state: &Path, name: &str) -> Result<Option<Hold>, VolumeError> {
    where_possible(lock(state, name, FlockOperation::LockShared))
}

/// The same without waiting: nothing where it would have to.
///
/// # Errors
/// As [`hold`].
pub fn try_hold(state: &Path, name: &str) -> Result<Option<Option<Hold>>, VolumeError> {
    match where_possible(lock(state, name, FlockOperation::NonBlockingLockShared)) {
        Err(VolumeError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

fn where_possible(lock: Result<Hold, VolumeError>) -> Result<Option<Hold>, VolumeError> {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match lock {
        Err(VolumeError::Io { source, .. })
            if [QuotaExceeded, ReadOnlyFilesystem, StorageFull].contains(&source.kind()) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn lock(state: &Path, name: &str, operation: FlockOperation) -> Result<Hold, VolumeError> {
    if !is_name(name) {
        return Err(VolumeError::Name(name.to_owned()));
    }
    lock_file(state, name, operation)
}

fn lock_file(state: &Path, name: &str, operation: FlockOperation) -> Result<Hold, VolumeError> {
    let locks = state.join("volumes/.locks");
    folder(&locks)?;
    let path = locks.join(name);
    let file = match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path) {
        // A lock needs no writing, where there was one before.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            File::open(&path).map_err(|_| error)
        }
        other => other,
    };
    let file = file.map_err(failed("open", &path))?;
    flock(&file, operation).map_err(failed("lock", &path))?;
    Ok(Hold { _file: file })
}

fn make(volumes: &Path, name: &str, first: Option<First<'_>>) -> Result<(), VolumeError> {
    let incoming_name = format!(".incoming-{name}");
    let incoming = volumes.join(&incoming_name);
    let directory = File::open(volumes).map_err(failed("open", volumes))?;
    let c_name = CString::new(incoming_name).map_err(|_| VolumeError::Name(name.to_owned()))?;
    let copy_failed = |source| VolumeError::Copy { volume: name.to_owned(), source };
    // Left by somebody who was killed: the lock is ours.
    tree::remove_all(&directory, &c_name).map_err(copy_failed)?;
    let made = fill(&directory, &incoming, &c_name, first, copy_failed);
    if let Err(error) = made {
        // The first error is the one to tell; what is left here the next one removes.
        let _ = tree::remove_all(&directory, &c_name);
        return Err(error);
    }
    let volume = volumes.join(name);
    fs::rename(&incoming, &volume).map_err(failed("rename into place", &volume))?;
    directory.sync_all().map_err(failed("sync", volumes))
}

fn fill(
    volumes: &File,
    incoming: &Path,
    name: &std::ffi::CStr,
    first: Option<First<'_>>,
    copy_failed: impl FnOnce(TreeError) -> VolumeError,
) -> Result<(), VolumeError> {
    DirBuilder::new().mode(0o700).create(incoming).map_err(failed("make the directory", incoming))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(volumes, name, flags, Mode::empty()).map_err(failed("open", incoming))?;
    match first {
        Some(first) => {
            // A descriptor that can be read, even if this one only names the folder (`O_PATH`).
            let from: OwnedFd = openat(first.folder, c".", flags, Mode::empty())
                .map_err(failed("open the image's folder for", incoming))?;
            tree::copy_contents(&from, &made, first.shift).map_err(copy_failed)?;
        }
        None => {
            fs::set_permissions(incoming, Permissions::from_mode(0o755))
                .map_err(failed("change the mode of", incoming))?;
        }
    }
    syncfs(volumes).map_err(failed("write everything to the disk of", incoming))
}

fn sync(path: &Path) -> Result<(), VolumeError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("sync", path))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn takes_after_the_image_once() {
        let state = tempfile::tempdir().expect("a folder");
        let image = tempfile::tempdir().expect("a folder");
        let folder = image.path().join("data");
        fs::create_dir_all(folder.join("sub")).expect("a folder");
        fs::write(folder.join("sub/file"), "first").expect("a file");
        fs::hard_link(folder.join("sub/file"), folder.join("same")).expect("a link");
        symlink("/etc/passwd", folder.join("link")).expect("a link");
        fs::set_permissions(&folder, Permissions::from_mode(0o1770)).expect("a mode");
        std::os::unix::fs::chown(&folder, Some(101), Some(102)).expect("an owner");
        let first = File::open(&folder).expect("a folder");
        let volume =
            ensure(state.path(), "data", Some(First { folder: first.as_fd(), shift: 0 })).expect("a volume");
        let shifted = First { folder: first.as_fd(), shift: 100 };
        let other = ensure(state.path(), "other", Some(shifted)).expect("a volume");
        let metadata = other.metadata().expect("a folder");
        assert_eq!((metadata.uid(), metadata.gid()), (1, 2));
        let metadata = volume.metadata().expect("a folder");
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (101, 102, 0o1770));
        assert_eq!(fs::read_link(volume.join("link")).expect("a link"), Path::new("/etc/passwd"));
        let inode = |name: &str| volume.join(name).metadata().expect("a file").ino();
        assert_eq!(inode("same"), inode("sub/file"));

        fs::write(volume.join("sub/file"), "changed").expect("a file");
        fs::write(folder.join("new"), "").expect("a file");
        ensure(state.path(), "data", Some(First { folder: first.as_fd(), shift: 0 })).expect("a volume");
        assert_eq!(fs::read_to_string(volume.join("sub/file")).expect("a file"), "changed");
        assert!(!volume.join("new").exists());
    }

    #[test]
    fn many_at_once_and_leftovers() {
        let state = tempfile::tempdir().expect("a folder");
        let image = tempfile::tempdir().expect("a folder");
        for index in 0..200 {
            fs::write(image.path().join(index.to_string()), "x").expect("a file");
        }
        fs::create_dir_all(state.path().join("volumes/.incoming-data/half")).expect("a folder");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let first = File::open(image.path()).expect("a folder");
                    let volume =
                        ensure(state.path(), "data", Some(First { folder: first.as_fd(), shift: 0 }))
                            .expect("a volume");
                    assert_eq!(fs::read_dir(volume).expect("a folder").count(), 200);
                });
            }
        });
        let names: Vec<_> = fs::read_dir(state.path().join("volumes")).expect("a folder").flatten().collect();
        assert_eq!(names.len(), 2, "the volume and the lock: {names:?}");
    }

    #[test]
    fn names_that_lead_elsewhere() {
        let state = tempfile::tempdir().expect("a folder");
        for name in ["", "..", ".lock", "a/b", "-x"] {
            assert!(matches!(ensure(state.path(), name, None), Err(VolumeError::Name(_))), "{name:?}");
        }
    }
}
