//! Whole directories by file descriptor: removing and copying them without ever following a link or leaving
//! the file system, whatever they hold.

mod copy;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

pub(crate) use self::copy::{clone_contents, copy_contents};

/// The deepest tree that a layer may make. A walk holds one descriptor per level, and 1,024 is what a process
/// gets unless it asks for more; real roots are less than 60 levels deep.
pub(crate) const DEPTH_MAX: usize = 256;

/// The deepest tree that is walked: more than a layer may make, with the store's own folders around it, so
/// that whatever could be made can be removed.
const WALK_MAX: usize = 2 * DEPTH_MAX;

/// A walk that failed.
#[derive(Debug, thiserror::Error)]
#[error("can't {doing} `{}`", .path.display())]
pub struct TreeError {
    /// A verb.
    doing: &'static str,
    /// Relative to where the walk began.
    path: PathBuf,
    /// The kernel's word.
    source: io::Error,
}

impl TreeError {
    fn new(doing: &'static str, path: &[u8], source: io::Error) -> Self {
        Self { doing, path: PathBuf::from(String::from_utf8_lossy(path).into_owned()), source }
    }

    /// Where it isn't the kernel that refuses.
    fn in_words(doing: &'static str, path: &[u8], why: &str) -> Self {
        Self::new(doing, path, io::Error::other(why.to_owned()))
    }
}

fn failed(doing: &'static str, name: &CStr) -> impl FnOnce(Errno) -> TreeError {
    move |errno| TreeError::new(doing, name.to_bytes(), errno.into())
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The names in a directory, without `.` and `..`, sorted, so that the same tree is walked the same way.
fn names(directory: &OwnedFd, shown: &CStr) -> Result<Vec<CString>, TreeError> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(failed("read", shown))? {
        let entry = entry.map_err(failed("read", shown))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Removes `name` in `parent` with everything in it. Nothing there is no error.
pub(crate) fn remove_all(parent: impl AsFd, name: &CStr) -> Result<(), TreeError> {
    remove_below(parent, name, 0)
}

fn remove_below(parent: impl AsFd, name: &CStr, depth: usize) -> Result<(), TreeError> {
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR, POSIX EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(failed("remove", name)(errno)),
    }
    if depth > WALK_MAX {
        return Err(failed("remove", name)(Errno::NAMETOOLONG));
    }
    match openat(&parent, name, DIRECTORY, Mode::empty()) {
        Ok(directory) => {
            for child in names(&directory, name)? {
                remove_below(&directory, &child, depth + 1)?;
            }
        }
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed("open", name)(errno)),
    }
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("remove", name)(errno)),
    }
}
