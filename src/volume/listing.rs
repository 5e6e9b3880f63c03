//! Which volumes there are, how large they are, and how one goes.
//!
//! **Removing**: a rename to `.removing-NAME`, with the volume's lock and nobody using it, `fsync` of `volumes`, and only
//! then what is in it. A power cut leaves the volume, or something with that name, which [`clear`] removes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::archive::{DataError, IMPORTING, clear_import, in_place};
use super::snapshot::{Places, remove as remove_all};
use super::{VolumeError, failed, is_name, sync};
use crate::host::Paths;

const REMOVING: &str = ".removing-";

/// Every volume, by name.
///
/// # Errors
/// Their folder can't be read.
pub fn names(paths: &Paths) -> Result<Vec<String>, VolumeError> {
    let mut names: Vec<String> = files(paths)?.into_iter().filter(|name| is_name(name)).collect();
    let volumes = paths.state().join("volumes");
    names.retain(|name| volumes.join(name).is_dir());
    Ok(names)
}

/// Every name in their folder, sorted.
fn files(paths: &Paths) -> Result<Vec<String>, VolumeError> {
    let volumes = paths.state().join("volumes");
    let entries = match fs::read_dir(&volumes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("read", &volumes))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed("read", &volumes))?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// What a volume takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes on the disk. What files share with those of a snapshot counts as if each had its own.
    pub bytes: u64,
    /// How many files, folders and others it has.
    pub entries: u64,
}

/// Counts what a volume takes, by walking through all of it.
///
/// # Errors
/// Something in it can't be read.
pub fn size(paths: &Paths, volume: &str) -> Result<Size, DataError> {
    let places = Places::of(paths, volume)?;
    let root = fs::File::open(&places.volume).map_err(failed("open", &places.volume))?;
    let mut counted = (Size::default(), BTreeSet::new());
    walk(&root.into(), &mut counted, 0).map_err(failed("count what is in", &places.volume))?;
    Ok(counted.0)
}

/// Deeper than anything that Wharf itself walks.
const DEPTH_MAX: usize = 512;

fn walk(folder: &OwnedFd, counted: &mut (Size, BTreeSet<(u64, u64)>), depth: usize) -> Result<(), Errno> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    for name in crate::image::names(folder)? {
        let look = match statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            // It is in use.
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        let is_folder = FileType::from_raw_mode(look.st_mode) == FileType::Directory;
        if look.st_nlink > 1 && !is_folder && !counted.1.insert((look.st_dev, look.st_ino)) {
            continue;
        }
        counted.0.entries += 1;
        // In units of 512 bytes, whatever the file system's own are (stat(2)).
        counted.0.bytes += u64::try_from(look.st_blocks).unwrap_or(0) * 512;
        if is_folder {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(folder.as_fd(), name.as_slice(), flags, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                other => walk(&other?, counted, depth + 1)?,
            }
        }
    }
    Ok(())
}

/// Removes a volume that nobody uses and that has no snapshots. When this returns, that is durable.
///
/// # Errors
/// See [`DataError`]; then the volume is what it was.
pub fn remove(paths: &Paths, volume: &str) -> Result<(), DataError> {
    let places = Places::of(paths, volume)?;
    let _lock = places.lock()?;
    places.sweep()?;
    in_place(&places, volume, "removed")?;
    places.refuse_users(paths, None)?;
    let labels = places.labels()?;
    if !labels.is_empty() {
        return Err(DataError::HasSnapshots { volume: volume.to_owned(), labels });
    }
    let name = format!("{REMOVING}{volume}");
    let gone = places.volumes.join(&name);
    // Of the one before, which was killed.
    remove_all(&places.volumes, &name)?;
    fs::rename(&places.volume, &gone).map_err(failed("rename", &places.volume))?;
    sync(&places.volumes)?;
    remove_all(&places.volumes, &name)?;
    // Empty, as it has no snapshots.
    let _ = fs::remove_dir(&places.snapshots);
    Ok(())
}

/// Removes what commands have left that were killed or cut off, and gives back whose it was.
///
/// # Errors
/// Something can't be removed.
pub fn clear(paths: &Paths) -> Result<Vec<String>, DataError> {
    let mut cleared = Vec::new();
    for name in files(paths)? {
        let whose = |verb| name.strip_prefix(verb).filter(|volume| is_name(volume));
        if let Some(volume) = whose(REMOVING) {
            let places = Places::of(paths, volume)?;
            let lock = super::lock(&paths.state(), volume, FlockOperation::NonBlockingLockExclusive);
            // Somebody is just removing it, or the new volume of this name is in use: another time.
            let Ok(_lock) = lock else { continue };
            sync(&places.volumes)?;
            remove_all(&places.volumes, &name)?;
            cleared.push(volume.to_owned());
        } else if let Some(volume) = whose(IMPORTING)
            && clear_import(&paths.state().join("volumes"), volume)?
        {
            cleared.push(volume.to_owned());
        }
    }
    Ok(cleared)
}
