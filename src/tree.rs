//! Whole directories by file descriptor: removing and copying them without ever following a link or leaving
//! the file system, whatever they hold.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, Stat, Timespec, Timestamps, Uid, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, openat, readlinkat, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

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

fn failed(doing: &'static str, name: &CStr) -> impl FnOnce(Errno) -> TreeError {
    let path = PathBuf::from(String::from_utf8_lossy(name.to_bytes()).into_owned());
    move |errno| TreeError { doing, path, source: errno.into() }
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

/// Copies what is in one directory into another, empty one, and gives that the first one's owner, mode,
/// extended attributes and times. Links are copied as links, hard links within the tree stay hard links,
/// device nodes are left out: a volume is data.
///
/// `shift` is the id that stands for 0 in the first directory, where it is seen idmapped; ids are copied less
/// that.
pub(crate) fn copy_contents(from: &OwnedFd, to: &OwnedFd, shift: u32) -> Result<(), TreeError> {
    let mut copy = Copy {
        shift,
        seen: Default::default(),
        root: to.try_clone().map_err(|source| TreeError {
            doing: "duplicate the descriptor of",
            path: ".".into(),
            source,
        })?,
    };
    copy.directory(from, to, c".", b"", 0)
}

struct Copy {
    /// Device and inode of files with several names, and the first name's path in the copy.
    seen: std::collections::BTreeMap<(u64, u64), Vec<u8>>,
    root: OwnedFd,
    shift: u32,
}

impl Copy {
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
        for name in names(from, shown)? {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.to_bytes());
            self.one(from, to, &name, &below, depth)?;
        }
        finish(from, to, shown, self.shift)
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
                let below = openat(from, name, DIRECTORY, Mode::empty()).map_err(failed("open", name))?;
                let made = openat(to, name, DIRECTORY, Mode::empty()).map_err(failed("open", name))?;
                self.directory(&below, &made, name, path, depth + 1)
            }
            FileType::RegularFile => copy_file(from, to, name, self.shift),
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new()).map_err(failed("read the link", name))?;
                symlinkat(&target, to, name).map_err(failed("make the link", name))?;
                owner_and_times(to, name, &stat, self.shift)
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                mknodat(to, name, FileType::Fifo, mode, 0).map_err(failed("make the pipe", name))?;
                owner_and_times(to, name, &stat, self.shift)
            }
            _ => Ok(()),
        }
    }
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr, shift: u32) -> Result<(), TreeError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let source = openat(from, name, flags, Mode::empty()).map_err(failed("open", name))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed("make", name))?;
    let (mut source, mut copy) = (std::fs::File::from(source), std::fs::File::from(copy));
    io::copy(&mut source, &mut copy).map_err(|source| TreeError {
        doing: "copy",
        path: PathBuf::from(String::from_utf8_lossy(name.to_bytes()).into_owned()),
        source,
    })?;
    finish(&source.into(), &copy.into(), name, shift)
}

/// Owner, attributes, mode and times. The owner first, since a change of owner clears set-user-id bits and
/// file capabilities; the times last, since everything else changes them.
fn finish(from: &OwnedFd, to: &OwnedFd, name: &CStr, shift: u32) -> Result<(), TreeError> {
    let stat = fstat(from).map_err(failed("look at", name))?;
    let (uid, gid) = owner(&stat, shift);
    fchown(to, Some(uid), Some(gid)).map_err(failed("change the owner of", name))?;
    copy_attributes(from, to, shift).map_err(failed("copy the extended attributes of", name))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode as RawMode & 0o7777))
        .map_err(failed("change the mode of", name))?;
    futimens(to, &times(&stat)).map_err(failed("set the times of", name))
}

fn owner(stat: &Stat, shift: u32) -> (Uid, Gid) {
    // An id below the shift isn't one of the container's; it is nobody's there and root's here.
    (Uid::from_raw(stat.st_uid.saturating_sub(shift)), Gid::from_raw(stat.st_gid.saturating_sub(shift)))
}

fn owner_and_times(to: &OwnedFd, name: &CStr, stat: &Stat, shift: u32) -> Result<(), TreeError> {
    let (uid, gid) = owner(stat, shift);
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("change the owner of", name))?;
    utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the times of", name))
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: time, last_modification: time }
}

/// User attributes, capabilities and access lists; not overlayfs's own (`trusted.*`), nor the host's labels.
/// Access lists hold ids in a form of their own, so those of a shifted tree stay behind.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd, shift: u32) -> Result<(), Errno> {
    let mut list = vec![0; 1 << 16];
    let length = match flistxattr(from, &mut list[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        other => other?,
    };
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let wanted = name.starts_with(b"user.")
            || name == b"security.capability"
            || (shift == 0 && name.starts_with(b"system.posix_acl_"));
        if wanted {
            let mut value = vec![0; 1 << 16];
            let length = fgetxattr(from, name, &mut value[..])?;
            match fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}
