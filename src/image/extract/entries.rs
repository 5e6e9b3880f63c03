//! Files, directories, hard links and everything else that a member can be: made, and written down.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fsetxattr,
    ftruncate, futimens, linkat, mkdirat, openat, statat,
};
use rustix::io::Errno;

use super::lists::DEFAULT;
use super::paths::{components, join};
use super::whiteouts::{is_opaque, is_whiteout};
use super::{DIRECTORY, Extractor};
use crate::image::digest::Hasher;
use crate::image::error::{Doing, ImageError, input_error};
use crate::image::manifest::{Attributes, IMPLIED, Line};
use crate::image::members::{Member, Members};
use crate::image::stream::Blocks;

impl Extractor<'_> {
    pub(super) fn file(
        &mut self,
        member: &Member,
        name: &[u8],
        full: Vec<u8>,
        attributes: Attributes,
        data: &mut Members<&mut Blocks>,
    ) -> Result<(), ImageError> {
        let path = member.path.as_slice();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.create(path, name, &full, |parent| openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        self.record_replaced(data)?;
        self.uninherit(path, &file)?;
        let mut file = File::from(file);
        let mut hasher = Hasher::default();
        let whole = [(0, member.size)];
        let mut end = 0;
        for &(offset, length) in member.pieces.as_deref().unwrap_or(&whole) {
            if offset > end {
                hash_zeros(&mut hasher, offset - end);
                rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(offset))
                    .map_err(self.kernel(path, "can't be written"))?;
            }
            let mut left = length;
            while left > 0 {
                let block = data.data().map_err(|error| input_error(self.what, error))?;
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
                if count == 0 {
                    return Err(ImageError::Truncated { what: self.what.to_owned() });
                }
                hasher.update(&block[..count]);
                if let Err(source) = file.write_all(&block[..count]) {
                    let errno = Errno::from_io_error(&source).unwrap_or(Errno::IO);
                    return Err(self.kernel(path, "can't be written")(errno));
                }
                data.consume(count);
                left -= count as u64;
            }
            end = offset + length;
            if let Some(tape) = data.tape() {
                tape.content(&full, offset, length);
            }
        }
        if member.pieces.is_some() {
            // A hole at the end is in no map, or has a piece of no length there, and seeking makes nothing.
            hash_zeros(&mut hasher, member.size - end);
            ftruncate(&file, member.size).map_err(self.kernel(path, "can't be written"))?;
        }
        self.owner_and_mode(&OwnedFd::from(file), path, &attributes, |extractor, file| {
            let digest = std::mem::take(&mut hasher).finish();
            extractor.manifest.add(&Line::File {
                attributes,
                size: member.size,
                digest,
                path: full.clone(),
            })?;
            extractor.xattrs(&full, &member.xattrs, |name, value| {
                fsetxattr(file, name, value, XattrFlags::empty())
            })
        })
    }

    /// Owner, then attributes, then mode, then times: a change of owner takes set-user-id bits and file
    /// capabilities away, and everything changes the times.
    pub(super) fn owner_and_mode(
        &mut self,
        file: &OwnedFd,
        path: &[u8],
        attributes: &Attributes,
        between: impl FnOnce(&mut Self, &OwnedFd) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let why = "can't be given its owner, mode or time";
        fchown(file, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))
            .map_err(self.kernel(path, why))?;
        between(self, file)?;
        fchmod(file, Mode::from_raw_mode(attributes.mode)).map_err(self.kernel(path, why))?;
        futimens(file, &times(attributes)).map_err(self.kernel(path, why))
    }

    pub(super) fn directory(
        &mut self,
        path: &[u8],
        name: &[u8],
        full: &[u8],
        attributes: &Attributes,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), ImageError> {
        let (mut hidden, mut new) = (false, true);
        match mkdirat(self.open_parent(), name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = statat(self.open_parent(), name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(self.kernel(path, "can't be looked at"))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    hidden = is_whiteout(&stat);
                    self.clear(name, full)?;
                    mkdirat(self.open_parent(), name, Mode::RWXU)
                        .map_err(self.kernel(path, "can't be made"))?;
                } else {
                    new = false;
                }
            }
            Err(errno) => return Err(self.kernel(path, "can't be made")(errno)),
        }
        let made = openat(self.open_parent(), name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(self.kernel(path, "can't be opened"))?;
        if new {
            self.uninherit(path, &made)?;
        }
        self.directory_done(&made, full, attributes, xattrs)?;
        if hidden { self.mark_opaque(&made, full.to_vec()) } else { Ok(()) }
    }

    /// Its times come at the end, when nothing is put into it any more.
    pub(super) fn directory_done(
        &mut self,
        directory: &OwnedFd,
        full: &[u8],
        attributes: &Attributes,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), ImageError> {
        self.owner_and_mode(directory, full, attributes, |extractor, directory| {
            extractor.manifest.add(&Line::Directory(*attributes, full.to_vec()))?;
            extractor.implied.remove(full);
            extractor
                .xattrs(full, xattrs, |name, value| fsetxattr(directory, name, value, XattrFlags::empty()))
        })?;
        if !xattrs.iter().any(|(name, value)| is_opaque(name, value)) {
            return Ok(());
        }
        if self.bottom {
            self.summary.dropped_whiteouts += 1;
            return Ok(());
        }
        self.mark_opaque(directory, full.to_vec())
    }

    /// A directory that had to be made; its times come at the end, too.
    pub(super) fn implied(&mut self, directory: &OwnedFd, full: &[u8]) -> Result<(), ImageError> {
        self.owner_and_mode(directory, full, &IMPLIED, |extractor, _| {
            extractor.implied.insert(full.to_vec());
            extractor.manifest.add(&Line::Implied(full.to_vec()))
        })
    }

    pub(super) fn hardlink(
        &mut self,
        path: &[u8],
        target: &[u8],
        name: &[u8],
        full: Vec<u8>,
    ) -> Result<(), ImageError> {
        let parts = components(target)
            .map_err(|why| self.refuse(path, format!("is a hard link to a member that {why}")))?;
        let Some((last, above)) = parts.split_last() else {
            return Err(self.refuse(path, "is a hard link to the root"));
        };
        let missing = "is a hard link to something that isn't in this layer";
        let (real, directory) = if above.is_empty() {
            (Vec::new(), self.root.try_clone().doing("open", "the tree")?)
        } else {
            self.open(&above.join(&b'/')).map_err(self.kernel(path, missing))?
        };
        let look = |directory: &OwnedFd, name: &[u8]| statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let wanted = look(&directory, last).map_err(self.kernel(path, missing))?;
        if is_whiteout(&wanted) {
            return Err(self.refuse(path, "is a hard link to something that this layer takes away"));
        }
        if FileType::from_raw_mode(wanted.st_mode) == FileType::Directory {
            return Err(self.refuse(path, "is a hard link to a directory"));
        }
        // A link to itself must not take away what it links to.
        if look(self.open_parent(), name)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino))
        {
            return Ok(());
        }
        self.create(path, name, &full, |parent| linkat(&directory, *last, parent, name, AtFlags::empty()))?;
        self.manifest.add(&Line::Hardlink { target: join(&real, last), path: full })
    }

    /// Overlayfs's own attributes would let a layer point into others; `trusted` and the labels of security
    /// modules are the host's to give.
    pub(super) fn xattrs(
        &mut self,
        full: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), ImageError> {
        for (name, value) in xattrs.iter().filter(|(name, value)| !is_opaque(name, value)) {
            let allowed = name == b"security.capability"
                || name.starts_with(b"system.posix_acl_")
                || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."));
            if !allowed {
                self.summary.attributes += 1;
                continue;
            }
            if name.contains(&0) {
                return Err(self.refuse(full, "has an attribute with a zero byte in its name"));
            }
            set(name, value).map_err(self.kernel(full, "has an extended attribute that can't be set"))?;
            self.has_default_lists |= name == DEFAULT;
            let (name, value) = (name.clone(), value.clone());
            self.manifest.add(&Line::Xattr { name, value, path: full.to_vec() })?;
        }
        Ok(())
    }
}

pub(super) fn hash_zeros(hasher: &mut Hasher, mut count: u64) {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while count > 0 {
        let step = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..step as usize]);
        count -= step;
    }
}

pub(super) fn times(attributes: &Attributes) -> Timestamps {
    let time = Timespec { tv_sec: attributes.seconds, tv_nsec: attributes.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
