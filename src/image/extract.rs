//! Unpacks one layer into a tree of its own.
//!
//! A layer is hostile input. Every path is resolved by the kernel below the tree's descriptor
//! (`RESOLVE_IN_ROOT`), so that `..`, absolute links and links of links end inside the tree; the last
//! component is never followed. Nothing is synced here: the commit syncs once.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fsetxattr, ftruncate, futimens, linkat, lsetxattr, mkdirat, mknodat, openat,
    openat2, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::digest::Hasher;
use super::error::{Doing, ImageError, input_error, is_full};
use super::escape::field;
use super::manifest::{Attributes, Line, Summary, Writer};
use super::members::{Kind, Member, Members};
use super::stream::Blocks;
use crate::tree::{self, DEPTH_MAX};

/// The most members of one layer. The largest images have some 500,000 files in all.
pub(crate) const ENTRIES_MAX: u64 = 4_000_000;

/// The most bytes of all files of one layer, holes included. The largest images have some tens of GB; more
/// than this is a decompression bomb or a sparse file that nobody could copy.
pub(crate) const BYTES_MAX: u64 = 512 << 30;

/// The mode of directories that a layer leaves to be made, as `tar` makes them.
const IMPLIED: Attributes = Attributes { mode: 0o755, uid: 0, gid: 0, seconds: 0, nanoseconds: 0 };

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Unpacks what the stream holds into `tree/` and `manifest` of an empty directory, and counts.
///
/// At the bottom of an image whiteouts hide nothing and are left out.
pub(crate) fn unpack(
    what: &str,
    stream: &mut Blocks,
    layer: &Path,
    bottom: bool,
) -> Result<Summary, ImageError> {
    let root = layer.join("tree");
    DirBuilder::new().mode(0o755).create(&root).doing("make the directory", &root)?;
    let root = openat(CWD, &root, DIRECTORY, Mode::empty()).doing("open", &root)?;
    let mut extractor = Extractor {
        what,
        root_path: readlinkat(CWD, format!("/proc/self/fd/{}", root.as_raw_fd()), Vec::new())
            .doing("resolve", layer)?
            .into_bytes(),
        root,
        bottom,
        parent: None,
        manifest: Writer::create(layer)?,
        summary: Summary::default(),
        opaque: BTreeSet::new(),
    };
    // The umask must not take bits away from what a tar says; directories are made with a final mode later.
    let mut members = Members::new(stream);
    extractor.directory_done(&extractor.root.try_clone().doing("open", layer)?, b".", &IMPLIED, &[])?;
    while let Some(member) = members.next().map_err(|error| input_error(what, error))? {
        extractor.member(&member, &mut members)?;
    }
    extractor.finish()
}

struct Extractor<'a> {
    what: &'a str,
    root: OwnedFd,
    /// Where the tree is for the kernel, to tell where a path through links has led.
    root_path: Vec<u8>,
    bottom: bool,
    /// The last parent, since the next member mostly has the same: as named, as it really is, and open.
    parent: Option<(Vec<u8>, Vec<u8>, OwnedFd)>,
    manifest: Writer,
    summary: Summary,
    opaque: BTreeSet<Vec<u8>>,
}

/// Splits a member's name: components without `.`, empty ones and a leading `/`.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
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

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

impl Extractor<'_> {
    fn refuse(&self, path: &[u8], why: impl Into<String>) -> ImageError {
        ImageError::Member {
            member: String::from_utf8(path.to_vec()).unwrap_or_else(|_| field(path)),
            what: self.what.to_owned(),
            why: why.into(),
            source: None,
        }
    }

    /// An error of the kernel's about one member.
    fn kernel<'s>(&'s self, path: &'s [u8], why: &'static str) -> impl Fn(Errno) -> ImageError + 's {
        move |errno| {
            let source = std::io::Error::from(errno);
            if is_full(&source) {
                let path = Path::new(std::str::from_utf8(&self.root_path).unwrap_or("the store")).to_owned();
                return ImageError::Full { path, source };
            }
            match self.refuse(path, why) {
                ImageError::Member { member, what, why, .. } => {
                    ImageError::Member { member, what, why, source: Some(source) }
                }
                other => other,
            }
        }
    }

    fn member(&mut self, member: &Member, data: &mut Members<&mut Blocks>) -> Result<(), ImageError> {
        let path = member.path.as_slice();
        self.summary.entries += 1;
        if self.summary.entries > ENTRIES_MAX {
            return Err(self.refuse(path, format!("is one too many: {ENTRIES_MAX} are allowed")));
        }
        self.summary.bytes = self.summary.bytes.saturating_add(member.size);
        if self.summary.bytes > BYTES_MAX {
            return Err(self.refuse(path, format!("makes it larger than {} GiB", BYTES_MAX >> 30)));
        }
        let parts = components(path).map_err(|why| self.refuse(path, why))?;
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(member.uid), id(member.gid)) else {
            return Err(self.refuse(path, "has an owner that Linux has no number for"));
        };
        let (seconds, nanoseconds) = (member.seconds, member.nanoseconds);
        let attributes = Attributes { mode: member.mode, uid, gid, seconds, nanoseconds };
        let Some((name, above)) = parts.split_last() else {
            if member.kind != Kind::Directory {
                return Err(self.refuse(path, "is the root, and no directory"));
            }
            let root = self.root.try_clone().doing("open", "the tree")?;
            return self.directory_done(&root, b".", &attributes, &member.xattrs);
        };
        let above = above.join(&b'/');
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(path, &above, hidden);
        }
        match member.kind {
            Kind::Device => {
                self.summary.devices += 1;
                return Ok(());
            }
            // A volume label names the archive, and a dump directory lists what was in one.
            Kind::Other(b'V') => return Ok(()),
            Kind::Other(kind) => {
                let why = format!("has the type `{}`, which no file has", kind.escape_ascii());
                return Err(self.refuse(path, why));
            }
            _ => {}
        }
        let real = self.enter(path, &above)?;
        let full = join(&real, name);
        let (file, line) = match member.kind {
            Kind::Directory => return self.directory(path, name, &full, &attributes, &member.xattrs),
            Kind::File => return self.file(member, name, full, attributes, data),
            Kind::Hardlink => return self.hardlink(path, &member.target, name, full),
            Kind::Symlink => {
                if member.target.is_empty() || member.target.contains(&0) {
                    return Err(self.refuse(path, "is a link to nothing"));
                }
                let target = member.target.clone();
                (None, Line::Symlink { attributes, target, path: full.clone() })
            }
            _ => (Some(FileType::Fifo), Line::Pipe(attributes, full.clone())),
        };
        self.create(path, name, &full, |parent| match file {
            None => symlinkat(member.target.as_slice(), parent, *name),
            Some(kind) => mknodat(parent, *name, kind, Mode::RUSR | Mode::WUSR, 0),
        })?;
        let parent = self.open_parent().try_clone().doing("open", "the tree")?;
        let error = self.kernel(path, "can't be given its owner, mode or time");
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&parent, *name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(&error)?;
        if file.is_some() {
            // The last component is the pipe that was just made, in a tree that nobody else can reach.
            let mode = Mode::from_raw_mode(attributes.mode);
            rustix::fs::chmodat(&parent, *name, mode, AtFlags::empty()).map_err(&error)?;
        }
        utimensat(&parent, *name, &times(&attributes), AtFlags::SYMLINK_NOFOLLOW).map_err(&error)?;
        drop(error);
        self.manifest.add(&line)?;
        let by_descriptor = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
        self.xattrs(&full, &member.xattrs, |name, value| {
            lsetxattr(by_descriptor.as_slice(), name, value, XattrFlags::empty())
        })
    }

    /// The parent that [`Extractor::enter`] opened last.
    fn open_parent(&self) -> &OwnedFd {
        self.parent.as_ref().map_or(&self.root, |(_, _, directory)| directory)
    }

    /// Opens the directory that a member lies in, makes what is missing of it, and gives the path where it
    /// really is.
    fn enter(&mut self, member: &[u8], directory: &[u8]) -> Result<Vec<u8>, ImageError> {
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
    fn open(&self, directory: &[u8]) -> Result<(Vec<u8>, OwnedFd), Errno> {
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

    fn make_parents(&mut self, member: &[u8], directory: &[u8]) -> Result<(Vec<u8>, OwnedFd), ImageError> {
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
                    self.directory_done(&made, &full, &IMPLIED, &[])?;
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

    /// Makes something that isn't a directory, in place of what is there.
    fn create<T>(
        &mut self,
        path: &[u8],
        name: &[u8],
        full: &[u8],
        make: impl Fn(&OwnedFd) -> Result<T, Errno>,
    ) -> Result<T, ImageError> {
        match make(self.open_parent()) {
            Err(Errno::EXIST) => {
                self.clear(name, full)?;
                make(self.open_parent()).map_err(self.kernel(path, "can't be made"))
            }
            other => other.map_err(self.kernel(path, "can't be made")),
        }
    }

    fn clear(&mut self, name: &[u8], full: &[u8]) -> Result<(), ImageError> {
        let c_name =
            std::ffi::CString::new(name).map_err(|_| self.refuse(full, "has a zero byte in its name"))?;
        tree::remove_all(self.open_parent(), &c_name)?;
        // Opaque directories below are gone with it.
        let below = join(full, b"");
        self.opaque.retain(|path| path != full && !path.starts_with(&below));
        self.manifest.add(&Line::Gone(full.to_vec()))
    }

    fn file(
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
    fn owner_and_mode(
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

    fn directory(
        &mut self,
        path: &[u8],
        name: &[u8],
        full: &[u8],
        attributes: &Attributes,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), ImageError> {
        let mut hidden = false;
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
                }
            }
            Err(errno) => return Err(self.kernel(path, "can't be made")(errno)),
        }
        let made = openat(self.open_parent(), name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(self.kernel(path, "can't be opened"))?;
        self.directory_done(&made, full, attributes, xattrs)?;
        if hidden { self.mark_opaque(&made, full.to_vec()) } else { Ok(()) }
    }

    /// Its times come at the end, when nothing is put into it any more.
    fn directory_done(
        &mut self,
        directory: &OwnedFd,
        full: &[u8],
        attributes: &Attributes,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), ImageError> {
        self.owner_and_mode(directory, full, attributes, |extractor, directory| {
            extractor.manifest.add(&Line::Directory(*attributes, full.to_vec()))?;
            extractor
                .xattrs(full, xattrs, |name, value| fsetxattr(directory, name, value, XattrFlags::empty()))
        })
    }

    fn hardlink(&mut self, path: &[u8], target: &[u8], name: &[u8], full: Vec<u8>) -> Result<(), ImageError> {
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

    fn whiteout(&mut self, path: &[u8], above: &[u8], hidden: &[u8]) -> Result<(), ImageError> {
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
        let real = self.enter(path, above)?;
        let full = join(&real, hidden);
        match mknodat(self.open_parent(), hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => {
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

    fn mark_opaque(&mut self, directory: &OwnedFd, full: Vec<u8>) -> Result<(), ImageError> {
        fsetxattr(directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())
            .map_err(self.kernel(&full, "can't be marked as opaque"))?;
        if self.opaque.insert(full.clone()) {
            self.summary.whiteouts += 1;
            self.manifest.add(&Line::Opaque(full))?;
        }
        Ok(())
    }

    /// Overlayfs's own attributes would let a layer point into others; `trusted` and the labels of security
    /// modules are the host's to give.
    fn xattrs(
        &mut self,
        full: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), ImageError> {
        for (name, value) in xattrs {
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
            let (name, value) = (name.clone(), value.clone());
            self.manifest.add(&Line::Xattr { name, value, path: full.to_vec() })?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Summary, ImageError> {
        self.manifest.flush()?;
        if !self.opaque.is_empty() {
            self.drop_whiteouts_in_opaque()?;
            self.manifest.flush()?;
        }
        // From the manifest, so that a million directories cost no memory.
        for line in self.manifest.lines()? {
            let Line::Directory(attributes, path) = line? else { continue };
            match self.open(&path) {
                Ok((real, directory)) if real == path => {
                    futimens(&directory, &times(&attributes))
                        .map_err(self.kernel(&path, "can't be given its time"))?;
                }
                // It was replaced by something else later.
                _ => {}
            }
        }
        Ok(self.summary)
    }

    /// Nothing of the layers below shows in an opaque directory, so whiteouts in it would only show
    /// themselves: overlayfs doesn't filter them where there is nothing to merge.
    fn drop_whiteouts_in_opaque(&mut self) -> Result<(), ImageError> {
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

fn hash_zeros(hasher: &mut Hasher, mut count: u64) {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while count > 0 {
        let step = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..step as usize]);
        count -= step;
    }
}

fn times(attributes: &Attributes) -> Timestamps {
    let time = Timespec { tv_sec: attributes.seconds, tv_nsec: attributes.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
