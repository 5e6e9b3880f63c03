//! Going through a tree by descriptors: no link is followed, and no path is too long.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Something in the tree.
pub(crate) struct Found<'a> {
    /// The directory that it lies in.
    pub(crate) parent: &'a Arc<OwnedFd>,
    pub(crate) name: &'a CStr,
    /// From the tree's root on; `.` is the root itself.
    pub(crate) path: &'a [u8],
    pub(crate) stat: Stat,
}

/// What becomes of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Descend,
    PassOver,
}

/// Visits everything below a directory, each directory before what is in it, names in order. What the kernel
/// refuses is told to `failed`, and the rest goes on.
pub(crate) fn walk(
    root: &Arc<OwnedFd>,
    visit: &mut dyn FnMut(Found<'_>) -> Next,
    failed: &mut dyn FnMut(&[u8], Errno),
) {
    below(root, &mut Vec::new(), visit, failed);
}

fn below(
    directory: &Arc<OwnedFd>,
    path: &mut Vec<u8>,
    visit: &mut dyn FnMut(Found<'_>) -> Next,
    failed: &mut dyn FnMut(&[u8], Errno),
) {
    let names = match names(directory) {
        Ok(names) => names,
        Err(errno) => return failed(if path.is_empty() { b"." } else { path }, errno),
    };
    let length = path.len();
    for name in names {
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        match statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                let next = visit(Found { parent: directory, name: &name, path, stat });
                if is_directory && next == Next::Descend {
                    match openat(directory, &name, DIRECTORY, Mode::empty()) {
                        Ok(opened) => below(&Arc::new(opened), path, visit, failed),
                        Err(errno) => failed(path, errno),
                    }
                }
            }
            Err(errno) => failed(path, errno),
        }
        path.truncate(length);
    }
}

fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort();
    Ok(names)
}
