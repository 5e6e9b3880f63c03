//! Which volumes there are, how large they are, and how one goes.
//!
//! **Removing**: a rename to `.removing-NAME`, with the volume's lock and nobody using it, `fsync` of `volumes`, and only
//! then what is in it. A power cut leaves the volume, or something with that name, which [`clear`] removes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, openat2, statat};
use rustix::io::Errno;

use super::archive::{DataError, IMPORTING, clear_exports, clear_import, in_place, is_export};
use super::snapshot::{self, Places, SnapshotError, remove as remove_all, remove_leftover};
use super::{VolumeError, failed, is_name, lock_making, sync};
use crate::host::Paths;

const REMOVING: &str = ".removing-";
const RESTORING: &str = ".restoring-";
const INCOMING: &str = ".incoming-";

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

/// Counts what a volume takes, by walking through all of it; what lies deeper than 512 folders isn't counted.
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
    // Who makes a deeper one can't have the others' sizes not be told.
    if depth > DEPTH_MAX {
        return Ok(());
    }
    let names = match crate::image::names(folder) {
        // It is in use, and this folder was just removed.
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for name in names {
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
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
            match openat2(folder, name.as_slice(), flags, Mode::empty(), how) {
                // What the host has mounted there is no part of it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
                other => walk(&other?, counted, depth + 1)?,
            }
        }
    }
    Ok(())
}

/// Removes a volume that nobody uses and that has no snapshots. When this returns, that is durable.
///
/// # Errors
/// See [`DataError`]; then the volume is what it was, but for [`DataError::Left`].
pub fn remove(paths: &Paths, volume: &str) -> Result<(), DataError> {
    remove_unless(paths, volume, || None)
}

/// The same, where nothing is told that speaks against it. That is asked with the volume's lock, while no container can
/// start with it: what has come to name it since somebody last looked is seen.
///
/// # Errors
/// As [`remove`]; what was told is a [`DataError::Needed`].
pub fn remove_unless(
    paths: &Paths,
    volume: &str,
    needed: impl FnOnce() -> Option<String>,
) -> Result<(), DataError> {
    let places = Places::of(paths, volume)?;
    clear_exports(paths, volume)?;
    let _lock = places.lock()?;
    places.sweep()?;
    in_place(&places, volume, "removed")?;
    places.refuse_users(paths, None)?;
    let labels = places.labels()?;
    if let Some(label) = labels.iter().find(|label| is_export(label)) {
        let (volume, label) = (volume.to_owned(), label.clone());
        return Err(SnapshotError::Exported { volume, label }.into());
    }
    if !labels.is_empty() {
        return Err(DataError::HasSnapshots { volume: volume.to_owned(), labels });
    }
    if let Some(why) = needed() {
        return Err(DataError::Needed(why));
    }
    let name = format!("{REMOVING}{volume}");
    let gone = places.volumes.join(&name);
    // Of the one before, which was killed.
    remove_leftover(&places.volumes, &name)?;
    fs::rename(&places.volume, &gone).map_err(failed("rename", &places.volume))?;
    sync(&places.volumes)?;
    remove_all(&places.volumes, &name)
        .map_err(|source| DataError::Left { volume: volume.to_owned(), source })?;
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
            remove_leftover(&places.volumes, &name)?;
            cleared.push(volume.to_owned());
        } else if let Some(volume) = whose(RESTORING) {
            let lock = super::lock(&paths.state(), volume, FlockOperation::NonBlockingLockExclusive);
            let Ok(_lock) = lock else { continue };
            remove_leftover(&paths.state().join("volumes"), &name)?;
            cleared.push(volume.to_owned());
        } else if let Some(volume) = whose(INCOMING) {
            let volumes = paths.state().join("volumes");
            let Ok(_lock) = lock_making(&volumes, FlockOperation::NonBlockingLockExclusive) else { continue };
            remove_leftover(&volumes, &name)?;
            cleared.push(volume.to_owned());
        } else if let Some(volume) = whose(IMPORTING)
            && clear_import(&paths.state().join("volumes"), volume)?
        {
            cleared.push(volume.to_owned());
        }
    }
    for volume in snapshot::volumes(paths)? {
        if clear_exports(paths, &volume)? {
            cleared.push(volume.clone());
        }
        let lock = super::lock(&paths.state(), &volume, FlockOperation::NonBlockingLockExclusive);
        if let Ok(_lock) = lock {
            Places::of(paths, &volume)?.sweep()?;
        }
    }
    Ok(cleared)
}
