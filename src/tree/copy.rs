//! Copying a tree: what an image has as a volume's first content, and whole volumes as they are.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, IFlags, Mode, OFlags, RawMode, Stat, StatxAttributes, StatxFlags, Timespec,
    Timestamps, Uid, XattrFlags, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens,
    ioctl_ficlone, ioctl_getflags, ioctl_setflags, lgetxattr, linkat, llistxattr, lsetxattr, mkdirat,
    mknodat, openat, readlinkat, statat, statx, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::{DIRECTORY, TreeError, WALK_MAX, failed, names};
use crate::sys::attributes;

/// The longest value of an extended attribute, and the longest list of their names (xattr(7)), in bytes.
const ATTRIBUTE_MAX: usize = 1 << 16;

/// `FS_NOCOMP_FL` of linux/fs.h.
const NOT_COMPRESSED: IFlags = IFlags::from_bits_retain(0x400);

/// Copies what is in one directory into another, empty one, and gives that the first one's owner, mode,
/// extended attributes and times. Links are copied as links, hard links within the tree stay hard links,
/// device nodes are left out: a volume is data.
///
/// `shift` is the id that stands for 0 in the first directory, where it is seen idmapped; ids are copied less
/// that.
pub(crate) fn copy_contents(from: &OwnedFd, to: &OwnedFd, shift: u32) -> Result<(), TreeError> {
    copy(from, to, Manner::Copied { shift })
}

/// The same with everything that a file can have, and without its content being written a second time: files
/// share it until one of them changes (FICLONE, ioctl_ficlone(2)). Sockets are left out, which are nothing
/// without their process.
///
/// Refused, by name: a file system mounted in the tree, and files that nobody may change (`chattr +i`, `+a`).
pub(crate) fn clone_contents(from: &OwnedFd, to: &OwnedFd) -> Result<(), TreeError> {
    copy(from, to, Manner::Cloned)
}

fn copy(from: &OwnedFd, to: &OwnedFd, manner: Manner) -> Result<(), TreeError> {
    let root = to.try_clone().map_err(|source| TreeError {
        doing: "duplicate the descriptor of",
        path: ".".into(),
        source,
    })?;
    Copy { manner, seen: BTreeMap::new(), root }.directory(from, to, c".", b"", 0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Ids less the shift; without devices, and without attributes that are the host's.
    Copied { shift: u32 },
    /// As it is.
    Cloned,
}

struct Copy {
    manner: Manner,
    /// Device and inode of files with several names, and the first name's path in the copy.
    seen: BTreeMap<(u64, u64), Vec<u8>>,
    root: OwnedFd,
}

impl Copy {
    /// How a source is opened.
    fn reading(&self) -> OFlags {
        // What is looked at may not look as if it had been read.
        let time = if self.manner == Manner::Cloned { OFlags::NOATIME } else { OFlags::empty() };
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | time
    }

    fn directory(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        shown: &CStr,
        path: &[u8],
        depth: usize,
    ) -> Result<(), TreeError> {
        if depth > WALK_MAX {
            return Err(failed("copy", shown)(Errno::NAMETOOLONG));
        }
        if self.manner == Manner::Cloned {
            refuse_frozen(from, if path.is_empty() { b"." } else { path })?;
            // Before its files are made, which take after it.
            copy_flags(from, to).map_err(failed("copy the flags of", shown))?;
        }
        for name in names(from, shown)? {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.to_bytes());
            self.one(from, to, &name, &below, depth)?;
        }
        self.finish(from, to, shown)
    }

    fn one(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        path: &[u8],
        depth: usize,
    ) -> Result<(), TreeError> {
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look at", name))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.seen.get(&(stat.st_dev, stat.st_ino)) {
                return linkat(&self.root, first.as_slice(), to, name, AtFlags::empty())
                    .map_err(failed("link", name));
            }
            self.seen.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU).map_err(failed("make the directory", name))?;
                let flags = self.reading() | OFlags::DIRECTORY;
                let below = openat(from, name, flags, Mode::empty()).map_err(failed("open", name))?;
                if self.manner == Manner::Cloned {
                    refuse_mount(&below, path)?;
                }
                let made = openat(to, name, DIRECTORY, Mode::empty()).map_err(failed("open", name))?;
                self.directory(&below, &made, name, path, depth + 1)
            }
            FileType::RegularFile => self.file(from, to, name, path),
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new()).map_err(failed("read the link", name))?;
                symlinkat(&target, to, name).map_err(failed("make the link", name))?;
                self.finish_unopened(from, to, name, &stat)
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                mknodat(to, name, FileType::Fifo, mode, 0).map_err(failed("make the pipe", name))?;
                self.finish_unopened(from, to, name, &stat)
            }
            FileType::CharacterDevice | FileType::BlockDevice if self.manner == Manner::Cloned => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                mknodat(to, name, kind, mode, stat.st_rdev).map_err(failed("make the device", name))?;
                self.finish_unopened(from, to, name, &stat)
            }
            _ => Ok(()),
        }
    }

    fn file(&self, from: &OwnedFd, to: &OwnedFd, name: &CStr, path: &[u8]) -> Result<(), TreeError> {
        let source = openat(from, name, self.reading(), Mode::empty()).map_err(failed("open", name))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let copy = openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed("make", name))?;
        if self.manner == Manner::Cloned {
            refuse_frozen(&source, path)?;
            // btrfs shares content only between files that both have checksums, or both not (chattr +C).
            copy_flags(&source, &copy).map_err(failed("copy the flags of", name))?;
            ioctl_ficlone(&copy, &source).map_err(failed("clone", name))?;
            return self.finish(&source, &copy, name);
        }
        let (mut source, mut copy) = (std::fs::File::from(source), std::fs::File::from(copy));
        io::copy(&mut source, &mut copy).map_err(|source| TreeError::new("copy", name.to_bytes(), source))?;
        self.finish(&source.into(), &copy.into(), name)
    }

    /// Owner, attributes, mode and times. The owner first, since a change of owner clears set-user-id bits and
    /// file capabilities; the times last, since everything else changes them.
    fn finish(&self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), TreeError> {
        let stat = fstat(from).map_err(failed("look at", name))?;
        let (uid, gid) = self.owner(&stat);
        fchown(to, Some(uid), Some(gid)).map_err(failed("change the owner of", name))?;
        self.attributes(from, to).map_err(failed("copy the extended attributes of", name))?;
        fchmod(to, Mode::from_raw_mode(stat.st_mode as RawMode & 0o7777))
            .map_err(failed("change the mode of", name))?;
        if self.manner == Manner::Cloned {
            attributes::copy(from, to)
                .map_err(|error| failed("copy flags and project of", name)(error.errno))?;
        }
        futimens(to, &self.times(&stat)).map_err(failed("set the times of", name))
    }

    /// The same for what can't be opened: links, pipes, devices. Their mode they were made with.
    fn finish_unopened(
        &self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        stat: &Stat,
    ) -> Result<(), TreeError> {
        let (uid, gid) = self.owner(stat);
        rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("change the owner of", name))?;
        if self.manner == Manner::Cloned {
            copy_attributes_unopened(from, to, name)
                .map_err(failed("copy the extended attributes of", name))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                // The process's umask took some of it away.
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::chmodat(to, name, mode, AtFlags::empty())
                    .map_err(failed("change the mode of", name))?;
            }
        }
        utimensat(to, name, &self.times(stat), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the times of", name))
    }

    fn owner(&self, stat: &Stat) -> (Uid, Gid) {
        let shift = match self.manner {
            Manner::Copied { shift } => shift,
            Manner::Cloned => 0,
        };
        // An id below the shift isn't one of the container's; it is nobody's there and root's here.
        (Uid::from_raw(stat.st_uid.saturating_sub(shift)), Gid::from_raw(stat.st_gid.saturating_sub(shift)))
    }

    fn times(&self, stat: &Stat) -> Timestamps {
        let last_modification = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        let last_access = match self.manner {
            Manner::Copied { .. } => last_modification,
            Manner::Cloned => Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        };
        Timestamps { last_access, last_modification }
    }

    /// Of an image: user attributes, capabilities and access lists; not overlayfs's own (`trusted.*`), nor the
    /// host's labels. Access lists hold ids in a form of their own, so those of a shifted tree stay behind.
    fn attributes(&self, from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
        let mut list = vec![0; ATTRIBUTE_MAX];
        let length = match flistxattr(from, &mut list[..]) {
            Err(Errno::NOTSUP) => return Ok(()),
            other => other?,
        };
        let is_wanted = |name: &[u8]| match self.manner {
            Manner::Cloned => true,
            Manner::Copied { shift } => {
                name.starts_with(b"user.")
                    || name == b"security.capability"
                    || (shift == 0 && name.starts_with(b"system.posix_acl_"))
            }
        };
        for name in each(&list[..length]).filter(|name| is_wanted(name)) {
            let mut value = vec![0; ATTRIBUTE_MAX];
            let length = fgetxattr(from, name, &mut value[..])?;
            match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
                Err(Errno::NOTSUP) if self.manner != Manner::Cloned => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn each(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}

/// By a path of two parts, neither of which the tree can turn elsewhere: the folder's descriptor, and a name that
/// isn't followed.
fn copy_attributes_unopened(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let path = |folder: &OwnedFd| {
        [format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes(), name.to_bytes()].concat()
    };
    let (from, to) = (path(from), path(to));
    let mut list = vec![0; ATTRIBUTE_MAX];
    let length = match llistxattr(from.as_slice(), &mut list[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    for name in each(&list[..length]) {
        let mut value = vec![0; ATTRIBUTE_MAX];
        let length = lgetxattr(from.as_slice(), name, &mut value[..])?;
        lsetxattr(to.as_slice(), name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

/// What decides how content is laid down: without copies on write and checksums, compressed or not (btrfs).
fn copy_flags(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let layout = IFlags::NOCOW | IFlags::COMPRESSED | NOT_COMPRESSED;
    let flags = match ioctl_getflags(from) {
        Err(Errno::NOTTY | Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    let before = ioctl_getflags(to)?;
    if (flags & layout) == (before & layout) {
        return Ok(());
    }
    match ioctl_setflags(to, (before - layout) | (flags & layout)) {
        // Not a thing of this file system.
        Err(Errno::NOTSUP | Errno::NOTTY) => Ok(()),
        other => other,
    }
}

/// A copy that nobody may remove would stay for good; one without the flag would not be the same.
fn refuse_frozen(file: impl AsFd, path: &[u8]) -> Result<(), TreeError> {
    if attributes::is_frozen(file).map_err(|error| TreeError::new("look at", path, error.errno.into()))? {
        let why = "nobody may change it (chattr +i or +a); take that off with `chattr -i -a`";
        return Err(TreeError::in_words("copy", path, why));
    }
    Ok(())
}

fn refuse_mount(folder: impl AsFd, path: &[u8]) -> Result<(), TreeError> {
    let look = statx(folder, c"", AtFlags::EMPTY_PATH, StatxFlags::empty());
    let look = look.map_err(|errno| TreeError::new("look at", path, errno.into()))?;
    if look.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(TreeError::in_words("copy", path, "another file system is mounted there; unmount it"));
    }
    Ok(())
}
