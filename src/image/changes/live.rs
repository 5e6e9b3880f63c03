//! The root of a running container, as it is now: read from outside, never past a mount, with ids as the container
//! has them.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, readlinkat};
use rustix::io::Errno;

use crate::image::error::{Doing, ImageError};
use crate::image::merge::{attributes, is_kept, names};
use crate::image::pax::Xattrs;

/// How many ids a container has, and what the kernel shows for the others (`/proc/sys/kernel/overflowuid`, which
/// nobody changes).
const COUNT: u32 = crate::lease::IDS;
const OVERFLOW: u32 = 65_534;

/// The container's ids as the host sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The host's number for the container's 0; nothing without a user namespace.
    pub base: Option<u32>,
}

impl Ids {
    /// The container's own number for an id of the host; nothing for one that it doesn't have.
    pub(super) fn inside(self, id: u32) -> Option<u32> {
        match self.base {
            None => Some(id),
            Some(base) => id.checked_sub(base).filter(|id| *id < COUNT),
        }
    }

    /// Whether what the image says and what the host sees is the same owner.
    pub(super) fn same(self, image: u32, seen: u32) -> bool {
        match self.inside(seen) {
            Some(id) => id == image,
            // Owned in the image by an id that the container doesn't have.
            None => seen == OVERFLOW && image >= COUNT,
        }
    }

    /// An attribute as the container's own layer would have it.
    fn attribute(self, name: &[u8], mut value: Vec<u8>) -> Vec<u8> {
        let Some(base) = self.base else { return value };
        let word = |value: &[u8], at: usize| {
            value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
        };
        if name == b"security.capability" {
            // Revision 3 has the host's number for the root whose capabilities these are (capabilities(7)); for the
            // container's own root that is what revision 2 says without a number.
            const REVISION: u32 = 0xff00_0000;
            let magic = word(&value, 0).unwrap_or_default();
            if value.len() == 24 && magic & REVISION == 0x0300_0000 && word(&value, 20) == Some(base) {
                value.truncate(20);
                value[..4].copy_from_slice(&(magic & !REVISION | 0x0200_0000).to_le_bytes());
            }
        } else if name.starts_with(b"system.posix_acl_") {
            // A version of four bytes, and entries of tag, permissions and id; only those that name somebody have
            // one (linux/posix_acl_xattr.h).
            let mut at = 4;
            while at + 8 <= value.len() {
                let tag = u16::from_le_bytes([value[at], value[at + 1]]);
                if let (2 | 8, Some(id)) = (tag, word(&value, at + 4).and_then(|id| self.inside(id))) {
                    value[at + 4..at + 8].copy_from_slice(&id.to_le_bytes());
                }
                at += 8;
            }
        }
        value
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        let ids = Ids { base: Some(1_000_000) };
        assert_eq!(ids.inside(1_000_033), Some(33));
        assert_eq!((ids.inside(33), ids.inside(1_065_536)), (None, None));
        assert!(
            ids.same(33, 1_000_033)
                && !ids.same(33, 33)
                && !ids.same(0, OVERFLOW)
                && ids.same(70_000, OVERFLOW)
        );
        let ids = Ids { base: None };
        assert!(ids.same(33, 33) && !ids.same(33, 34));
    }

    #[test]
    fn attributes_have_the_containers_ids() {
        let ids = Ids { base: Some(0x0010_0000) };
        let mut third = vec![1, 0, 0, 3];
        third.extend([7; 16]);
        let second = [&[1, 0, 0, 2], &third[4..]].concat();
        third.extend([0, 0, 0x10, 0]);
        assert_eq!(ids.attribute(b"security.capability", third.clone()), second);
        assert_eq!(ids.attribute(b"security.capability", second.clone()), second);
        // Of another root.
        third[20] = 1;
        assert_eq!(ids.attribute(b"security.capability", third.clone()), third);
        let acl = |id: [u8; 4]| [&[2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 6, 0][..], &id].concat();
        assert_eq!(ids.attribute(b"system.posix_acl_access", acl([33, 0, 0x10, 0])), acl([33, 0, 0, 0]));
    }
}
