//! Where a member lies: every path is resolved by the kernel below the tree, and never out of it.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;

use super::whiteouts::is_whiteout;
use super::{DIRECTORY, Extractor};
use crate::image::error::{Doing, ImageError};
use crate::image::escape::field;
use crate::tree::DEPTH_MAX;

/// Splits a member's name: components without `.`, empty ones and a leading `/`.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let parts: Vec<_> = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        Err("has `..` in its name")
    } else if path.contains(&0) {
        Err("has a zero byte in its name")
    } else if path.is_empty() {
        Err("has no name")
    } else if parts.len() > DEPTH_MAX {
        Err("lies deeper than 256 directories")
    } else if parts.iter().any(|part| part.len() > 255) {
        Err("has a component of more than 255 bytes in its name")
    } else {
        Ok(parts)
    }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

impl Extractor<'_> {
    /// The parent that [`Extractor::enter`] opened last.
    pub(super) fn open_parent(&self) -> &OwnedFd {
        self.parent.as_ref().map_or(&self.root, |(_, _, directory)| directory)
    }

    /// Opens the directory that a member lies in, makes what is missing of it, and gives the path where it
    /// really is.
    pub(super) fn enter(&mut self, member: &[u8], directory: &[u8]) -> Result<Vec<u8>, ImageError> {
        if let Some((named, real, _)) = &self.parent
            && named == directory
        {
            return Ok(real.clone());
        }
        self.parent = None;
        if directory.is_empty() {
            return Ok(Vec::new());
        }
        let (real, opened) = match self.open(directory) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(member, directory)?,
            Err(errno) => return Err(self.kernel(member, "lies in a directory that can't be opened")(errno)),
        };
        if real.split(|b| *b == b'/').count() > DEPTH_MAX {
            return Err(self.refuse(member, "lies deeper than 256 directories"));
        }
        self.parent = Some((directory.to_vec(), real.clone(), opened));
        Ok(real)
    }

    /// A directory of the tree, by way of links if need be, and where it really is.
    pub(super) fn open(&self, directory: &[u8]) -> Result<(Vec<u8>, OwnedFd), Errno> {
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = |flags| loop {
            // EAGAIN: something was renamed or mounted somewhere while a `..` was resolved (openat2(2)).
            match openat2(&self.root, directory, DIRECTORY, Mode::empty(), flags) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => break other,
            }
        };
        match open(inside | ResolveFlags::NO_SYMLINKS) {
            Ok(opened) => Ok((directory.to_vec(), opened)),
            Err(Errno::LOOP) => {
                let opened = open(inside)?;
                let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
                let path = readlinkat(CWD, link, Vec::new())?.into_bytes();
                let below = path.strip_prefix(self.root_path.as_slice()).ok_or(Errno::XDEV)?;
                Ok((below.strip_prefix(b"/").unwrap_or(below).to_vec(), opened))
            }
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn make_parents(
        &mut self,
        member: &[u8],
        directory: &[u8],
    ) -> Result<(Vec<u8>, OwnedFd), ImageError> {
        let mut named = Vec::new();
        let mut above: (Vec<u8>, OwnedFd) = (Vec::new(), self.root.try_clone().doing("open", "the tree")?);
        for part in directory.split(|b| *b == b'/') {
            named = join(&named, part);
            above = match self.open(&named) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let full = join(&above.0, part);
                    // Through links a short name may lead deep down.
                    if full.split(|b| *b == b'/').count() > DEPTH_MAX {
                        return Err(self.refuse(member, "lies deeper than 256 directories"));
                    }
                    let hidden = match statat(&above.1, part, AtFlags::SYMLINK_NOFOLLOW) {
                        Err(Errno::NOENT) => false,
                        // Hidden below, and something new in its place.
                        Ok(stat) if is_whiteout(&stat) => true,
                        Ok(_) => {
                            let why = format!("lies in `{}`, which is no directory", field(&named));
                            return Err(self.refuse(member, why));
                        }
                        Err(errno) => return Err(self.kernel(member, "can't be looked at")(errno)),
                    };
                    let error = self.kernel(member, "lies in a directory that can't be made");
                    if hidden {
                        unlinkat(&above.1, part, AtFlags::empty()).map_err(&error)?;
                    }
                    mkdirat(&above.1, part, Mode::RWXU).map_err(&error)?;
                    let flags = DIRECTORY | OFlags::NOFOLLOW;
                    let made = openat(&above.1, part, flags, Mode::empty()).map_err(&error)?;
                    drop(error);
                    self.uninherit(member, &made)?;
                    self.made += 1;
                    self.within_entries(member)?;
                    self.implied(&made, &full)?;
                    if hidden {
                        self.mark_opaque(&made, full.clone())?;
                    }
                    (full, made)
                }
                Err(errno) => {
                    return Err(self.kernel(member, "lies in a directory that can't be opened")(errno));
                }
            };
        }
        Ok(above)
    }
}
