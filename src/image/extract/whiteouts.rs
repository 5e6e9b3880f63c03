//! What a layer hides of those below: whiteouts and opaque directories. In a tar they are files named `.wh.…` (OCI
//! image specification, "Whiteouts"), or what overlayfs itself has: character devices 0:0 and an attribute.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, fsetxattr, mknodat, openat, statat};
use rustix::io::Errno;

use super::paths::join;
use super::{DIRECTORY, Extractor};
use crate::image::error::{Doing, ImageError};
use crate::image::manifest::Line;

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether an attribute says what `.wh..wh..opq` says: overlayfs's own spelling, which is in tars of its upper
/// directories, as `tar --xattrs` makes them.
pub(super) fn is_opaque(name: &[u8], value: &[u8]) -> bool {
    matches!(name, b"trusted.overlay.opaque" | b"user.overlay.opaque") && value == b"y"
}

impl Extractor<'_> {
    pub(super) fn whiteout(&mut self, path: &[u8], above: &[u8], hidden: &[u8]) -> Result<(), ImageError> {
        if hidden == b".wh..opq" {
            if self.bottom {
                self.summary.dropped_whiteouts += 1;
                return Ok(());
            }
            let real = self.enter(path, above)?;
            let directory = self.open_parent().try_clone().doing("open", "the tree")?;
            let real = if real.is_empty() { b".".to_vec() } else { real };
            return self.mark_opaque(&directory, real);
        }
        if hidden.starts_with(b".wh.") {
            // AUFS kept notes of its own in such files; they say nothing about the tree.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(self.refuse(path, "hides nothing that could have a name"));
        }
        if self.bottom {
            self.summary.dropped_whiteouts += 1;
            return Ok(());
        }
        if self.is_below_no_directory(above) {
            // Of a directory that became a file, umoci writes whiteouts for what was in it as well.
            self.summary.dropped_whiteouts += 1;
            return Ok(());
        }
        let real = self.enter(path, above)?;
        let full = join(&real, hidden);
        match mknodat(self.open_parent(), hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
                self.uninherit_at(path, hidden)?;
                self.summary.whiteouts += 1;
                self.manifest.add(&Line::Whiteout(full))
            }
            // A whiteout is about the layers below; what this layer itself puts there stays.
            Err(Errno::EXIST) => {
                let flags = DIRECTORY | OFlags::NOFOLLOW;
                match openat(self.open_parent(), hidden, flags, Mode::empty()) {
                    Ok(directory) => self.mark_opaque(&directory, full),
                    Err(_) => Ok(()),
                }
            }
            Err(errno) => Err(self.kernel(path, "can't be made")(errno)),
        }
    }

    /// Whether this layer has something else where that directory would be, or takes it away: then nothing of the
    /// layers below shows there, and a whiteout hides nothing.
    fn is_below_no_directory(&self, directory: &[u8]) -> bool {
        !directory.is_empty() && self.open(directory).is_err_and(|errno| errno == Errno::NOTDIR)
    }

    pub(super) fn mark_opaque(&mut self, directory: &OwnedFd, full: Vec<u8>) -> Result<(), ImageError> {
        fsetxattr(directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())
            .map_err(self.kernel(&full, "can't be marked as opaque"))?;
        if self.opaque.insert(full.clone()) {
            self.summary.whiteouts += 1;
            self.manifest.add(&Line::Opaque(full))?;
        }
        Ok(())
    }

    /// Nothing of the layers below shows in an opaque directory, so whiteouts in it would only show
    /// themselves: overlayfs doesn't filter them where there is nothing to merge.
    pub(super) fn drop_whiteouts_in_opaque(&mut self) -> Result<(), ImageError> {
        let in_opaque = |path: &[u8]| {
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            self.opaque.contains(&b"."[..]) || ends.into_iter().any(|at| self.opaque.contains(&path[..at]))
        };
        let mut dropped = Vec::new();
        for line in self.manifest.lines()? {
            if let Line::Whiteout(path) = line?
                && in_opaque(&path)
            {
                dropped.push(path);
            }
        }
        for path in dropped {
            let at = path.iter().rposition(|byte| *byte == b'/');
            let (above, name) = at.map_or((&b""[..], &path[..]), |at| (&path[..at], &path[at + 1..]));
            if self.is_below_no_directory(above) {
                continue;
            }
            self.parent = None;
            self.enter(&path, above)?;
            // Something real may stand there by now.
            if statat(self.open_parent(), name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| is_whiteout(&stat))
            {
                self.clear(name, &path)?;
                self.summary.whiteouts -= 1;
                self.summary.dropped_whiteouts += 1;
            }
        }
        Ok(())
    }
}
