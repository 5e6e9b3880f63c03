//! The root of a running container, as it is now: read from outside, never past a mount, with ids as the container
//! has them.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat};
use rustix::io::Errno;

use super::Ids;
use crate::image::error::{Doing, ImageError};
use crate::image::merge::{attributes, is_kept, names};
use crate::image::pax::Xattrs;

/// Something of the live root.
pub(super) struct Found {
    pub(super) stat: Stat,
    /// Where a symbolic link leads.
    pub(super) target: Option<Vec<u8>>,
    /// Something is mounted here, and what the root has isn't to be seen.
    pub(super) mounted: bool,
}

impl Found {
    /// Nothing for what no layer can have.
    pub(super) fn kind(&self) -> Option<FileType> {
        if self.mounted {
            return Some(FileType::Unknown);
        }
        let kind = FileType::from_raw_mode(self.stat.st_mode);
        let kept = [FileType::RegularFile, FileType::Directory, FileType::Symlink, FileType::Fifo];
        kept.contains(&kind).then_some(kind)
    }
}

/// A live root.
pub struct Live {
    root: OwnedFd,
    pub(super) ids: Ids,
}

impl Live {
    /// By its folder, which may be open as a path only.
    pub fn new(root: OwnedFd, ids: Ids) -> Self {
        Self { root, ids }
    }

    /// What a program makes of the path in the meantime never leads out of the root, through a link or into a mount.
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let inside = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let path = if path.is_empty() { b"." } else { path };
        loop {
            match openat2(&self.root, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), inside)
            {
                Err(Errno::INTR | Errno::AGAIN) => {}
                other => break other,
            }
        }
    }

    /// What is at a path; nothing where nothing is.
    pub(super) fn look(&self, path: &[u8]) -> Result<Option<Found>, ImageError> {
        let opened = match self.open(path, OFlags::PATH) {
            Ok(opened) => opened,
            Err(Errno::XDEV) => {
                let stat = fstat(&self.root).doing("look at", shown(path))?;
                return Ok(Some(Found { stat, target: None, mounted: true }));
            }
            Err(errno) if gone(errno) => return Ok(None),
            Err(errno) => return Err(errno).doing("open", shown(path)),
        };
        let stat = fstat(&opened).doing("look at", shown(path))?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let target =
            is_link.then(|| readlinkat(&opened, "", Vec::new())).transpose().doing("read", shown(path))?;
        Ok(Some(Found { stat, target: target.map(std::ffi::CString::into_bytes), mounted: false }))
    }

    /// The names in a folder; none in one that is gone by now.
    pub(super) fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, ImageError> {
        match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY).and_then(|folder| names(&folder)) {
            Err(errno) if gone(errno) => Ok(Vec::new()),
            other => other.doing("read", shown(path)),
        }
    }

    /// A regular file's content; nothing where there is no such file any more.
    pub(super) fn open_file(&self, path: &[u8]) -> Result<Option<File>, ImageError> {
        // Not blocking on a pipe that took its place.
        match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => {
                let stat = fstat(&file).doing("look at", shown(path))?;
                let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                Ok(is_file.then(|| File::from(file)))
            }
            // A socket, now.
            Err(Errno::NXIO) => Ok(None),
            Err(errno) if gone(errno) => Ok(None),
            Err(errno) => Err(errno).doing("open", shown(path)),
        }
    }

    /// The attributes that a layer would have.
    pub(super) fn attributes(&self, path: &[u8]) -> Result<Xattrs, ImageError> {
        let opened = match self.open(path, OFlags::PATH) {
            Err(errno) if gone(errno) => return Ok(Vec::new()),
            other => other.doing("open", shown(path))?,
        };
        let all = attributes(&opened).doing("look at", shown(path))?;
        let kept = all.into_iter().filter(|(name, _)| is_kept(name));
        Ok(kept.map(|(name, value)| (name.clone(), self.ids.attribute(&name, value))).collect())
    }
}

fn gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
