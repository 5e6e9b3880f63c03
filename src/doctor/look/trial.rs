//! What a start does with file systems, tried in a thread's own mount namespace, and gone with it.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use crate::doctor::facts::{FileSystem, Look, Trial};
use crate::host::Paths;
use crate::lease::IDS;
use crate::sys::mount::{self, Attributes};
use crate::sys::mounts::{self, Mount};
use crate::sys::{self, clone, process};

/// Any range does, as nothing is written; this is the first that is leased.
const BASE: u32 = 524_288;

pub(super) fn trial(paths: &Paths, binds: &[(PathBuf, String)]) -> Look<Trial> {
    let users = match clone::user_namespace(BASE, IDS) {
        Ok(users) => users,
        Err(error) => {
            return Look::Seen(Trial { user_namespace: Some(error.to_string()), ..Trial::default() });
        }
    };
    let mounts = mounts::own().unwrap_or_default();
    let state = existing(&paths.state());
    // Volumes may be on another one, and so may each of them.
    let volumes = paths.state().join("volumes");
    let each = std::fs::read_dir(&volumes).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut places: BTreeMap<PathBuf, FileSystem> = BTreeMap::new();
    let stored = [state.clone(), volumes.clone()].into_iter().chain(each).map(|path| (path, None));
    let bound = binds.iter().map(|(path, container)| (path.clone(), Some(container.clone())));
    for (path, container) in stored.chain(bound) {
        // What isn't there yet is for the start to tell; the way to a file is as good as the file.
        let Ok(path) = path.canonicalize() else { continue };
        let Some((point, kind)) = mount_of(&mounts, &path) else { continue };
        let is_store = container.is_none();
        let system = places.entry(point.clone()).or_insert_with(|| FileSystem {
            path: point.display().to_string(),
            kind,
            containers: Vec::new(),
            problem: mapped(&path, users.as_fd()).err().map(|error| explained(error.errno)),
        });
        // With the store's own, more than these containers depend on it.
        match container {
            Some(container) if !system.containers.contains(&container) => system.containers.push(container),
            _ => {}
        }
        if is_store {
            system.path = point.display().to_string();
        }
    }
    let store = state.canonicalize().ok().and_then(|path| mount_of(&mounts, &path));
    if let Some(system) = store.and_then(|(point, _)| places.get_mut(&point)) {
        system.containers.clear();
    }
    let maps = places.values().all(|system| !system.containers.is_empty() || system.problem.is_none());
    Look::Seen(Trial {
        user_namespace: None,
        // Where ids can't be mapped, that is what is to be said.
        overlay: maps.then(|| overlay(paths, &state, users.as_fd()).map_err(|error| error.to_string())),
        file_systems: places.into_values().collect(),
    })
}

/// The folder, or what there is above it.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// A copy of a mount with other ids, as a start makes one of each layer, bind and volume.
fn mapped(path: &Path, users: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd, sys::Error> {
    let copy = mount::copy_of(path, false)?;
    let attributes = Attributes { read_only: true, idmap: Some(users), ..Attributes::default() };
    mount::set(copy.as_fd(), attributes, false)?;
    Ok(copy)
}

/// mount_setattr(2): EINVAL is what it says of a kind of file system that doesn't do it.
fn explained(errno: Errno) -> String {
    match errno {
        Errno::INVAL | Errno::OPNOTSUPP => "the kernel has no mapping for this kind".to_owned(),
        errno => sys::explain(errno),
    }
}

/// Why a root can't be staged.
#[derive(Debug, thiserror::Error)]
enum StageError {
    #[error(transparent)]
    Mount(#[from] sys::Error),
    #[error("can't make a folder in memory: {0}")]
    Folder(#[from] std::io::Error),
}

/// A root as a start stages it: memory, in it a mapped layer, and an overlay of that and an upper folder.
fn overlay(paths: &Paths, layer: &Path, users: BorrowedFd<'_>) -> Result<(), StageError> {
    // Of this thread alone, its working directory as well; both end with it.
    process::unshare(UnshareFlags::NEWNS)?;
    mount::make_private()?;
    let layer = mapped(layer, users)?;
    // Anything that is there does: nobody else sees what is mounted over it.
    let stage = existing(&paths.runtime());
    let memory = mount::new("tmpfs", &[("mode", "0755")], Attributes::default())?;
    mount::attach(memory.as_fd(), mount::place(&stage)?.as_fd())?;
    for folder in ["root", "lower", "lower/0", "upper", "work"] {
        std::fs::create_dir(stage.join(folder))?;
    }
    mount::attach(layer.as_fd(), mount::place(&stage.join("lower/0"))?.as_fd())?;
    rustix::process::chdir(stage.join("lower")).map_err(std::io::Error::from)?;
    const ROOT: &CStr = c"../root";
    mount::overlay(&["0".to_owned()], "../upper", "../work", ROOT)?;
    Ok(())
}

/// The mount that a path is on, and its kind: the last of those that lie the furthest down.
pub(super) fn mount_of(mounts: &[Mount], path: &Path) -> Option<(PathBuf, String)> {
    let mount = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())?;
    Some((mount.point.clone(), mount.kind.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_path() {
        let text = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                    30 22 8:2 / /var rw shared:1 - xfs /dev/sda2 rw\n\
                    31 30 0:40 / /var/lib/my\\040disk rw - nfs4 server:/x rw\n\
                    32 30 0:41 / /var rw - btrfs /dev/sdb rw\n";
        let mounts: Vec<_> = mounts::parse(text).collect();
        for (path, point, kind) in [
            ("/etc", "/", "ext4"),
            ("/variant", "/", "ext4"),
            ("/var/lib/wharf", "/var", "btrfs"),
            ("/var/lib/my disk/x", "/var/lib/my disk", "nfs4"),
        ] {
            assert_eq!(mount_of(&mounts, Path::new(path)), Some((point.into(), kind.to_owned())), "{path}");
        }
        assert_eq!(mount_of(&[], Path::new("/")), None);
    }
}
