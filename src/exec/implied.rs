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
    let mut times = Vec::with_capacity(folders.len());
    for folder in folders {
        let layer = layers.get(folder.layer).ok_or_else(|| failure(&folder.path, Errno::NOENT))?;
        let copied = copy(layer, &folder.path, &upper).map_err(|errno| failure(&folder.path, errno))?;
        times.push((&folder.path, copied));
    }
    // What is made in a folder changes its time, so they come last.
    for (path, times) in times {
        open_below(&upper, path, FOLDER)
            .and_then(|made| futimens(&made, &times))
            .map_err(|errno| failure(path, errno))?;
    }
    Ok(())
}

fn copy(layer: &str, path: &[u8], upper: &OwnedFd) -> Result<Timestamps, Errno> {
    let layer = openat(CWD, layer, FOLDER, Mode::empty())?;
    let from = open_below(&layer, path, FOLDER)?;
    let stat = fstat(&from)?;
    if !path.is_empty() {
        mkdirat(upper, path, Mode::RWXU)?;
    }
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
    Ok(Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    })
}

fn failure(path: &[u8], errno: Errno) -> Failure {
    let path = crate::image::escaped(path);
    Failure::new(Status::Namespace, format!("can't make /{path} of the root: {}", sys::explain(errno)))
}
