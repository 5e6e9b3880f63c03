//! A tar as a tree.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fremovexattr, fsetxattr, fstat, fsync, ftruncate, futimens, linkat, mkdirat,
    mknodat, openat, openat2, renameat, seek, setxattr, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::attributes::outside;
use super::{ArchiveError, DEPTH_MAX, Ids, failed, join, shown};
use crate::image::members::{Kind, Member, Members, Skip};
use crate::image::pax::Xattrs;
use crate::image::stream::decompressor;
use crate::sys::privilege::as_owner;

/// Where a tree goes.
#[derive(Debug)]
pub struct Destination {
    /// The folder, open to be read.
    pub folder: OwnedFd,
    /// Whose ids the archive's are.
    pub ids: Ids,
    /// Owns everything, whatever the archive says: user and group, by the container's numbers.
    pub owner: Option<(u32, u32)>,
    /// A file that takes the place of another one is on the disk before.
    pub durable: bool,
    /// Files get no set-user-id and set-group-id bits and no capabilities: who made them may not be trusted with what
    /// they would mean here.
    pub powerless: bool,
}

/// What became of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// How many files, folders and others were in it.
    pub members: u64,
    /// Bytes of the contents of files, holes not counted.
    pub bytes: u64,
    /// Whether it said whose the folder itself is.
    pub has_root: bool,
    /// What wasn't taken, and why, in words.
    pub left_out: Vec<String>,
}

/// Owner, mode, times and attributes of one member, as the host has to write them.
struct Attributes {
    uid: Uid,
    gid: Gid,
    mode: Mode,
    times: Timestamps,
    xattrs: Xattrs,
}

/// Puts what an archive has into a folder. Files there are replaced, each at once, and folders are taken as they are and
/// given the archive's owner, mode and times; nothing that is there is followed, and a folder is in nobody's way.
///
/// The input is read to its end: who writes it may have more to say than the archive.
///
/// # Errors
/// See [`ArchiveError`]; what was unpacked before is there, and each file whole.
pub fn unpack(
    input: impl Read + Send,
    into: &Destination,
    progress: &dyn Fn(u64),
) -> Result<Unpacked, ArchiveError> {
    let input: Input<'_> = BufReader::with_capacity(256 << 10, Box::new(input));
    let mut members = Members::new(input);
    let mut extractor = Extractor {
        into,
        // Of an idmapped mount, the host's own user 0 owns nothing.
        maker: into.ids.base.unwrap_or(0),
        parent: None,
        folders: Vec::new(),
        unpacked: Unpacked::default(),
        progress,
    };
    while let Some(member) = members.next().map_err(ArchiveError::input)? {
        extractor.member(&member, &mut members)?;
    }
    members.finish().map_err(ArchiveError::input)?;
    extractor.finish()
}

type Input<'input> = BufReader<Box<dyn Read + Send + 'input>>;

impl Skip for Input<'_> {}

/// What is in a file or stream that may be compressed by gzip, zstd or xz, which its first bytes say.
///
/// # Errors
/// The first bytes can't be read.
pub fn decompressed<'input>(
    input: impl Read + Send + 'input,
) -> Result<Box<dyn Read + Send + 'input>, ArchiveError> {
    decompressor(input).map_err(ArchiveError::input)
}

struct Extractor<'a> {
    into: &'a Destination,
    maker: u32,
    /// The last parent, since the next member mostly has the same.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// What folders get when nothing changes in them any more.
    folders: Vec<(Vec<u8>, Attributes)>,
    unpacked: Unpacked,
    progress: &'a dyn Fn(u64),
}

const SET_IDS: u32 = 0o6000;
const CAPABILITY: &[u8] = b"security.capability";

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The most folders that one path may go through: more than trees are packed with, and less than a recursion takes.
const FOLDERS_MAX: usize = 2 * DEPTH_MAX;

fn refuse(path: &[u8], why: impl Into<String>) -> ArchiveError {
    ArchiveError::Member { path: path.to_vec(), why: why.into() }
}

/// The parts of a member's path; a slash before it means nothing.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, ArchiveError> {
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(refuse(path, "leads out of the archive's own folder by `..`"));
    }
    if path.contains(&0) {
        return Err(refuse(path, "has a zero byte in its name"));
    }
    if parts.len() > FOLDERS_MAX {
        return Err(refuse(&parts[..8].join(&b'/'), format!("goes on for more than {FOLDERS_MAX} folders")));
    }
    Ok(parts)
}

/// The longest path that is given to the kernel, in bytes; it takes 4095 (`PATH_MAX`).
const PIECE_MAX: usize = 4000;

/// What of a path can be given to the kernel at once, and what is left then.
fn piece(path: &[u8]) -> (&[u8], &[u8]) {
    let end = match path.get(..PIECE_MAX) {
        None => None,
        Some(most) => most.iter().rposition(|byte| *byte == b'/'),
    };
    // Without a slash that far it is one name, and longer than names are.
    end.map_or((path, &[][..]), |end| (&path[..end], &path[end + 1..]))
}

/// Another name in the same folder, for what isn't whole yet. No two processes have the same.
fn aside(name: &[u8]) -> Vec<u8> {
    // A name has 255 bytes at most.
    let short = &name[..name.len().min(200)];
    [b".", short, format!(".wharf-{}", std::process::id()).as_bytes()].concat()
}

impl Extractor<'_> {
    fn member<R: Skip>(&mut self, member: &Member, data: &mut Members<R>) -> Result<(), ArchiveError> {
        let path = member.path.as_slice();
        let parts = parts(path)?;
        self.unpacked.members += 1;
        let Some((name, above)) = parts.split_last() else {
            if member.kind != Kind::Directory {
                return Err(refuse(path, "is the archive's root, and no folder"));
            }
            let attributes = self.attributes(member)?;
            self.folders.push((Vec::new(), attributes));
            self.unpacked.has_root = true;
            return Ok(());
        };
        match member.kind {
            Kind::Device | Kind::Whiteout => {
                self.unpacked.left_out.push(format!("{}: it is a device", shown(path)));
                return Ok(());
            }
            // A volume label names the archive, and a dump directory lists what was in one.
            Kind::Other(b'V') => return Ok(()),
            Kind::Other(kind) => {
                let why = format!("has the type `{}`, which no file has", kind.escape_ascii());
                return Err(refuse(path, why));
            }
            _ => {}
        }
        let above = above.join(&b'/');
        self.enter(&above)?;
        let full = join(&above, name);
        if member.kind == Kind::Hardlink {
            return self.hardlink(member, name, &full);
        }
        let attributes = self.attributes(member)?;
        match member.kind {
            Kind::Directory => self.directory(name, full, attributes),
            Kind::File => self.file(member, name, &full, &attributes, data),
            Kind::Symlink => {
                if member.target.is_empty() || member.target.contains(&0) {
                    return Err(refuse(path, "is a link to nothing"));
                }
                self.place(name, &full, |parent, name| {
                    self.as_maker(|| symlinkat(member.target.as_slice(), parent, name))?;
                    self.finish_unopened(parent, name, &attributes, FileType::Symlink)
                })
            }
            _ => self.place(name, &full, |parent, name| {
                let mode = Mode::RUSR | Mode::WUSR;
                self.as_maker(|| mknodat(parent, name, FileType::Fifo, mode, 0))?;
                self.finish_unopened(parent, name, &attributes, FileType::Fifo)
            }),
        }
    }

    fn as_maker<T>(&self, action: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        // New names take it as well, of links and by a rename (`may_create` in the kernel's fs/namei.c).
        // An id of 0 needs no change: on the host itself, and where the container's ids are the host's.
        if self.maker == 0 { action() } else { as_owner(self.maker, self.maker, action) }
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        self.as_maker(|| renameat(self.parent(), from, self.parent(), to))
    }

    fn attributes(&mut self, member: &Member) -> Result<Attributes, ArchiveError> {
        let (uid, gid) = match self.into.owner {
            Some((uid, gid)) => (uid.into(), gid.into()),
            None => (member.uid, member.gid),
        };
        let id = |what: &str, id: u64| {
            let known = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            known.and_then(|id| self.into.ids.outside(id)).ok_or_else(|| {
                let has = match self.into.ids.base {
                    Some(_) => "the container has 0 to 65535",
                    None => "Linux has no such number",
                };
                refuse(
                    &member.path,
                    format!("belongs to {what} {id}, and {has}; give it another one with --owner"),
                )
            })
        };
        let (uid, gid) = (id("user", uid)?, id("group", gid)?);
        let (mut xattrs, left) = outside(&member.xattrs, self.into.ids);
        for name in left {
            let name = String::from_utf8_lossy(name);
            self.unpacked.left_out.push(format!("{}: its attribute {name}", shown(&member.path)));
        }
        let mut mode = member.mode & 0o7777;
        if self.into.powerless && member.kind != Kind::Directory {
            if mode & SET_IDS != 0 {
                self.unpacked
                    .left_out
                    .push(format!("{}: its set-user-id or set-group-id bit", shown(&member.path)));
                mode &= !SET_IDS;
            }
            if xattrs.iter().any(|(name, _)| name == CAPABILITY) {
                self.unpacked.left_out.push(format!("{}: its file capabilities", shown(&member.path)));
                xattrs.retain(|(name, _)| name != CAPABILITY);
            }
        }
        let time = Timespec { tv_sec: member.seconds, tv_nsec: member.nanoseconds.into() };
        Ok(Attributes {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            mode: Mode::from_raw_mode(mode),
            times: Timestamps { last_access: time, last_modification: time },
            xattrs,
        })
    }

    /// Opens a folder below the destination: no link on the way, no way out.
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut from: Option<OwnedFd> = None;
        let mut rest: &[u8] = if path.is_empty() { b"." } else { path };
        // Longer than a path of the kernel's may be it can be all the same: then it is gone piece by piece.
        loop {
            let (piece, after) = piece(rest);
            let folder = from.as_ref().unwrap_or(&self.into.folder);
            let flags = if after.is_empty() { flags } else { OFlags::PATH | OFlags::DIRECTORY };
            let opened = loop {
                match openat2(folder, piece, flags | OFlags::CLOEXEC, Mode::empty(), how) {
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    other => break other?,
                }
            };
            if after.is_empty() {
                return Ok(opened);
            }
            (from, rest) = (Some(opened), after);
        }
    }

    /// Makes a folder the parent of what comes next, and makes those that the archive has left out.
    fn enter(&mut self, above: &[u8]) -> Result<(), ArchiveError> {
        if self.parent.as_ref().is_some_and(|(path, _)| path == above) {
            return Ok(());
        }
        let refused = |path: &[u8], errno| match errno {
            Errno::LOOP | Errno::NOTDIR => refuse(
                path,
                "is no folder where this goes to; links are not followed: name the folder itself",
            ),
            errno => failed("open", path)(errno),
        };
        // The deepest that is there, and from there on down.
        let mut there = above;
        let mut missing = Vec::new();
        let folder = loop {
            match self.open(there, DIRECTORY) {
                Err(Errno::NOENT) if !there.is_empty() => {
                    missing.push(there);
                    there = there.iter().rposition(|byte| *byte == b'/').map_or(&[], |at| &there[..at]);
                }
                other => break other.map_err(|errno| refused(there, errno))?,
            }
        };
        self.parent = Some((there.to_vec(), folder));
        for path in missing.into_iter().rev() {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            self.make_folder(name, path)?;
            let folder = self.open(path, DIRECTORY).map_err(|errno| refused(path, errno))?;
            self.parent = Some((path.to_vec(), folder));
        }
        Ok(())
    }

    fn parent(&self) -> &OwnedFd {
        self.parent.as_ref().map_or(&self.into.folder, |(_, folder)| folder)
    }

    /// A new one, as it is where nothing else is said.
    fn make_folder(&self, name: &[u8], path: &[u8]) -> Result<(), ArchiveError> {
        let mode = Mode::from_raw_mode(0o755);
        let make = || -> Result<(), Errno> {
            self.as_maker(|| mkdirat(self.parent(), name, mode))?;
            let folder = openat(self.parent(), name, DIRECTORY, Mode::empty())?;
            without_lists(&folder);
            fchmod(&folder, mode)
        };
        make().map_err(failed("make the folder", path))
    }

    fn directory(&mut self, name: &[u8], path: Vec<u8>, attributes: Attributes) -> Result<(), ArchiveError> {
        match statat(self.parent(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => self.make_folder(name, &path)?,
            Err(errno) => return Err(failed("look at", &path)(errno)),
            Ok(there) if FileType::from_raw_mode(there.st_mode) == FileType::Directory => {}
            Ok(_) => return Err(refuse(&path, "is a folder, and no folder where it goes to")),
        }
        // Whose it is is right from now on; the rest would be changed by what comes into it.
        let give = || -> Result<(), Errno> {
            let folder = openat(self.parent(), name, DIRECTORY, Mode::empty())?;
            fchown(&folder, Some(attributes.uid), Some(attributes.gid))?;
            fchmod(&folder, attributes.mode)
        };
        give().map_err(failed("give its owner and mode to", &path))?;
        self.folders.push((path, attributes));
        Ok(())
    }

    fn file<R: Skip>(
        &mut self,
        member: &Member,
        name: &[u8],
        path: &[u8],
        attributes: &Attributes,
        data: &mut Members<R>,
    ) -> Result<(), ArchiveError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let unnamed = self.as_maker(|| openat(self.parent(), c".", flags | OFlags::TMPFILE, mode));
        let (file, named) = match unnamed {
            Ok(file) => (file, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let aside = aside(name);
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let make = || {
                    let _ = unlinkat(self.parent(), aside.as_slice(), AtFlags::empty());
                    openat(self.parent(), aside.as_slice(), flags, mode)
                };
                let file = self.as_maker(make).map_err(failed("make", path))?;
                (file, Some(aside))
            }
            Err(errno) => return Err(failed("make", path)(errno)),
        };
        let written = self.fill(member, file, path, attributes, data);
        let named_it = written.and_then(|file| {
            let step = failed("put in its place", path);
            let there = statat(self.parent(), name, AtFlags::SYMLINK_NOFOLLOW).ok();
            if let Some(there) = there {
                self.refuse_folder(there.st_mode, path)?;
                self.refuse_mounted(name, path)?;
                if self.into.durable {
                    fsync(&file).map_err(failed("write to the disk", path))?;
                }
            }
            match &named {
                Some(aside) => self.rename(aside, name).map_err(&step),
                None => {
                    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
                    self.place(name, path, |parent, name| {
                        self.as_maker(|| {
                            linkat(rustix::fs::CWD, open.as_str(), parent, name, AtFlags::SYMLINK_FOLLOW)
                        })
                    })
                }
            }
        });
        if let (Err(_), Some(aside)) = (&named_it, &named) {
            // The first error is the one to tell.
            let _ = unlinkat(self.parent(), aside.as_slice(), AtFlags::empty());
        }
        named_it
    }

    fn refuse_folder(&self, mode: u32, path: &[u8]) -> Result<(), ArchiveError> {
        if FileType::from_raw_mode(mode) == FileType::Directory {
            return Err(refuse(path, "is a folder where this goes to, and no folder here; remove it first"));
        }
        Ok(())
    }

    /// Where something is mounted in a container, a rename from here would do, and unmount it there: the kernel refuses
    /// that to those only who see the mount (`is_local_mountpoint` in its fs/namei.c).
    fn refuse_mounted(&self, name: &[u8], path: &[u8]) -> Result<(), ArchiveError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
        match openat2(self.parent(), name, flags, Mode::empty(), how) {
            Err(Errno::XDEV) => Err(ArchiveError::Mounted(path.to_vec())),
            _ => Ok(()),
        }
    }

    /// Content, and everything else that the file has.
    fn fill<R: Skip>(
        &mut self,
        member: &Member,
        file: OwnedFd,
        path: &[u8],
        attributes: &Attributes,
        data: &mut Members<R>,
    ) -> Result<OwnedFd, ArchiveError> {
        let write = failed("write", path);
        let mut file = File::from(file);
        let whole = [(0, member.size)];
        let mut end = 0;
        for &(offset, length) in member.pieces.as_deref().unwrap_or(&whole) {
            if offset > end {
                seek(&file, SeekFrom::Start(offset)).map_err(&write)?;
            }
            let mut left = length;
            while left > 0 {
                let block = data.data().map_err(ArchiveError::input)?;
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
                if count == 0 {
                    return Err(ArchiveError::Truncated);
                }
                file.write_all(&block[..count])
                    .map_err(|error| write(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
                data.consume(count);
                (self.progress)(count as u64);
                self.unpacked.bytes += count as u64;
                left -= count as u64;
            }
            end = offset + length;
        }
        if member.pieces.is_some() {
            // A hole at the end is in no map, and seeking makes nothing.
            ftruncate(&file, member.size).map_err(&write)?;
        }
        let file = OwnedFd::from(file);
        without_lists(&file);
        self.finish_opened(&file, path, attributes)?;
        Ok(file)
    }

    /// The owner first, since a change of it clears set-user-id bits and file capabilities; the times last, since
    /// everything else changes them.
    fn finish_opened(
        &mut self,
        file: &OwnedFd,
        path: &[u8],
        attributes: &Attributes,
    ) -> Result<(), ArchiveError> {
        let Attributes { uid, gid, mode, times, xattrs } = attributes;
        fchown(file, Some(*uid), Some(*gid)).map_err(failed("change the owner of", path))?;
        for (name, value) in xattrs {
            match fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) => {
                    let name = String::from_utf8_lossy(name);
                    let why =
                        format!("{}: its attribute {name}, which the file system can't keep", shown(path));
                    self.unpacked.left_out.push(why);
                }
                other => other.map_err(failed("set an attribute of", path))?,
            }
        }
        fchmod(file, *mode).map_err(failed("change the mode of", path))?;
        futimens(file, times).map_err(failed("set the times of", path))
    }

    /// The same for what can't be opened to be written: links and pipes, which were just made.
    fn finish_unopened(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        attributes: &Attributes,
        kind: FileType,
    ) -> Result<(), Errno> {
        let Attributes { uid, gid, mode, times, xattrs } = attributes;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(parent, name, flags, Mode::empty())?;
        // Where a container writes, it may have put something else under this name: a file of the host's, say, in a bind
        // that both have. That isn't given away.
        let there = fstat(&made)?;
        let maker = if self.maker == 0 { geteuid().as_raw() } else { self.maker };
        if FileType::from_raw_mode(there.st_mode) != kind || there.st_uid != maker {
            return Err(Errno::STALE);
        }
        chownat(&made, c"", Some(*uid), Some(*gid), AtFlags::EMPTY_PATH)?;
        if kind == FileType::Fifo {
            let path = format!("/proc/self/fd/{}", made.as_raw_fd());
            rustix::fs::chmod(path.as_str(), *mode)?;
            for (name, value) in xattrs.iter().filter(|(name, _)| name.starts_with(b"system.")) {
                setxattr(path.as_str(), name.as_slice(), value, XattrFlags::empty())?;
            }
        }
        utimensat(&made, c"", times, AtFlags::EMPTY_PATH)
    }

    /// Has something made under its name or, where that is taken, under another one that is then put in its place.
    fn place(
        &self,
        name: &[u8],
        path: &[u8],
        make: impl Fn(&OwnedFd, &[u8]) -> Result<(), Errno>,
    ) -> Result<(), ArchiveError> {
        let step = failed("make", path);
        match make(self.parent(), name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(step),
        }
        let there = statat(self.parent(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(&step)?;
        self.refuse_folder(there.st_mode, path)?;
        self.refuse_mounted(name, path)?;
        let aside = aside(name);
        let remove = || unlinkat(self.parent(), aside.as_slice(), AtFlags::empty());
        let _ = remove();
        let put = make(self.parent(), &aside).and_then(|()| self.rename(&aside, name));
        if put.is_err() {
            let _ = remove();
        }
        put.map_err(step)
    }

    fn hardlink(&mut self, member: &Member, name: &[u8], path: &[u8]) -> Result<(), ArchiveError> {
        let target = parts(&member.target)?;
        let Some((last, above)) = target.split_last() else {
            return Err(refuse(path, "is a hard link to the archive's root"));
        };
        let missing = |errno: Errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                refuse(path, format!("is a hard link to {}, which isn't there", shown(&member.target)))
            }
            errno => failed("link", path)(errno),
        };
        let folder = self.open(&above.join(&b'/'), DIRECTORY).map_err(missing)?;
        let look = |folder: &OwnedFd, name: &[u8]| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let wanted = look(&folder, last).map_err(missing)?;
        self.refuse_folder(wanted.st_mode, &member.target)?;
        // A rename of one name of a file over another does nothing, and would leave both.
        if look(self.parent(), name)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino))
        {
            return Ok(());
        }
        self.place(name, path, |parent, name| {
            self.as_maker(|| linkat(&folder, *last, parent, name, AtFlags::empty()))
        })
    }

    fn finish(mut self) -> Result<Unpacked, ArchiveError> {
        self.parent = None;
        // What lies deeper first: the times of what is above it don't change then.
        for (path, attributes) in std::mem::take(&mut self.folders).into_iter().rev() {
            let folder = self.open(&path, DIRECTORY).map_err(failed("open", &path))?;
            self.finish_opened(&folder, &path, &attributes)?;
        }
        Ok(self.unpacked)
    }
}

/// Takes away the access lists that a new file or folder has from its parent's default one.
fn without_lists(file: &OwnedFd) {
    for name in [c"system.posix_acl_access", c"system.posix_acl_default"] {
        // Mostly there are none, or the file system knows no such thing.
        let _ = fremovexattr(file, name);
    }
}
