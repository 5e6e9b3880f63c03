//! Folders that layers only imply, made once more in the layer that is on top of all: overlayfs shows a folder as the
//! highest layer has it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fstat, futimens, mkdirat,
    openat, setxattr,
};
use rustix::io::Errno;

use super::failure::{Failure, Status};
use crate::image::{attributes, is_kept, open_below};
use crate::plan::steps::ImpliedFolder;
use crate::sys;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes folders in `upper` as these layers have them, which are named as they are attached below the working
/// directory, with the owners that the container sees. Above a folder comes the one that it lies in.
///
/// # Errors
/// The kernel's, with the folder's path.
pub fn make(layers: &[String], folders: &[&ImpliedFolder], upper: &Path) -> Result<(), Failure> {
    let upper = openat(CWD, upper, FOLDER, Mode::empty()).map_err(|errno| failure(b"", errno))?;
    // All of them before any gets its attributes: what is made in a folder changes its time, and would inherit its
    // access list.
    for folder in folders.iter().filter(|folder| !folder.path.is_empty()) {
        mkdirat(&upper, folder.path.as_slice(), Mode::RWXU).map_err(|errno| failure(&folder.path, errno))?;
    }
    for folder in folders {
        let layer = layers.get(folder.layer).ok_or_else(|| failure(&folder.path, Errno::NOENT))?;
        copy(layer, &folder.path, &upper).map_err(|errno| failure(&folder.path, errno))?;
    }
    Ok(())
}

/// Gives a folder the attributes that a layer has for it.
fn copy(layer: &str, path: &[u8], upper: &OwnedFd) -> Result<(), Errno> {
    let layer = openat(CWD, layer, FOLDER, Mode::empty())?;
    let from = open_below(&layer, path, FOLDER)?;
    let stat = fstat(&from)?;
    let made = open_below(upper, path, FOLDER)?;
    fchown(&made, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    let by_descriptor = format!("/proc/self/fd/{}", made.as_raw_fd());
    for (name, value) in attributes(&from)?.iter().filter(|(name, _)| is_kept(name)) {
        match setxattr(&by_descriptor, name.as_slice(), value, XattrFlags::empty()) {
            // Before Linux 6.6 a file system in memory has no attributes of users.
            Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => {}
            other => other?,
        }
    }
    fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    futimens(&made, &times)
}

fn failure(path: &[u8], errno: Errno) -> Failure {
    let path = crate::image::escaped(path);
    Failure::new(Status::Namespace, format!("can't make /{path} of the root: {}", sys::explain(errno)))
}
