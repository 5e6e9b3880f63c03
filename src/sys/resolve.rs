//! Paths inside a tree that somebody else controls.
//!
//! Symbolic links count from the tree's own root, `..` stops there, and magic links of /proc are refused:
//! openat2(2), RESOLVE_IN_ROOT, Linux 5.6.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::privilege::as_owner;
use super::{Error, Trying};

/// Opens a path of the tree under `root`. `flags` gets O_CLOEXEC.
///
/// # Errors
/// What openat2(2) says; ELOOP also for a magic link.
pub fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Error> {
    raw(root, path, flags).trying(|| format!("open {path} in the root"))
}

fn raw(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            // A rename elsewhere in the tree while `..` was resolved: the kernel asks to try again.
            Err(Errno::AGAIN) => {}
            answer => return answer,
        }
    }
}

/// Opens a path below `directory` as it stands there: no symbolic link anywhere, no way out, no mount
/// crossed.
///
/// For the kernel's own trees, whose paths are known: a link there would be somebody's trap
/// (CVE-2025-31133, CVE-2025-52881).
///
/// # Errors
/// What openat2(2) says; ELOOP for a link.
pub fn open_exactly(directory: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Error> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    fs::openat2(directory, path.trim_start_matches('/'), flags | OFlags::CLOEXEC, Mode::empty(), how)
        .trying(|| format!("open {path}"))
}

/// What a new file or folder of the tree belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// Outside the user namespace.
    pub uid: u32,
    /// Outside the user namespace.
    pub gid: u32,
}

/// Opens the folder at `path`, making it and the folders above it where they are missing (mode 0755).
///
/// # Errors
/// What openat2(2), mkdirat(2) and fchownat(2) say; EEXIST where a dangling link or something that is no
/// folder is in the way.
pub fn folder(root: BorrowedFd<'_>, path: &str, owner: Owner) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match raw(root, path, flags) {
        Err(Errno::NOENT) => {}
        answer => return answer.trying(|| format!("open the folder {path} in the root")),
    }
    let mut at = root.try_clone_to_owned().map_err(|_| Errno::MFILE).trying(|| "copy a descriptor".into())?;
    let mut so_far = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        so_far.push('/');
        so_far.push_str(name);
        at = match raw(root, &so_far, flags) {
            Err(Errno::NOENT) => {
                make_folder(at.as_fd(), name, owner)
                    .trying(|| format!("make the folder {so_far} in the root"))?;
                raw(root, &so_far, flags)
            }
            answer => answer,
        }
        .trying(|| format!("open the folder {so_far} in the root"))?;
    }
    Ok(at)
}

fn make_folder(parent: BorrowedFd<'_>, name: &str, owner: Owner) -> Result<(), Errno> {
    as_owner(owner.uid, owner.gid, || fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)))
}

/// Opens the file at `path` for something to be mounted on, making an empty one, and the folders above it,
/// where it is missing.
///
/// # Errors
/// As [`folder`].
pub fn file(root: BorrowedFd<'_>, path: &str, owner: Owner) -> Result<OwnedFd, Error> {
    match raw(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => replace(root, path, b"", owner, 0o644)?,
        answer => return answer.trying(|| format!("open {path} in the root")),
    }
    open(root, path, OFlags::PATH)
}

/// Puts a regular file with this content at `path`, in the place of whatever was there; a link there is
/// replaced, not followed.
///
/// # Errors
/// As [`folder`], and what write(2) says; EISDIR where a folder is in the way.
pub fn replace(
    root: BorrowedFd<'_>,
    path: &str,
    content: &[u8],
    owner: Owner,
    mode: u32,
) -> Result<(), Error> {
    in_place_of(root, path, owner, |parent, name| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(parent, name, flags, Mode::from_raw_mode(mode))?;
        let mut left = content;
        while !left.is_empty() {
            let written = rustix::io::write(&file, left)?;
            left = &left[written..];
        }
        Ok(())
    })
}

/// Puts a symbolic link at `path`, in the place of whatever was there. `to` is kept as it is, and never followed
/// here.
///
/// # Errors
/// As [`replace`].
pub fn link(root: BorrowedFd<'_>, path: &str, to: &str, owner: Owner) -> Result<(), Error> {
    in_place_of(root, path, owner, |parent, name| fs::symlinkat(to, parent, name))
}

fn in_place_of(
    root: BorrowedFd<'_>,
    path: &str,
    owner: Owner,
    make: impl FnOnce(BorrowedFd<'_>, &str) -> Result<(), Errno>,
) -> Result<(), Error> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let above = if above.is_empty() { "/" } else { above };
    let parent = folder(root, above, owner)?;
    let put = || -> Result<(), Errno> {
        match fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        make(parent.as_fd(), name)
    };
    as_owner(owner.uid, owner.gid, put).trying(|| format!("write {path} in the root"))
}

/// What kind of thing a descriptor is.
///
/// # Errors
/// What fstat(2) says.
pub fn kind(fd: BorrowedFd<'_>) -> Result<FileType, Error> {
    fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode)).trying(|| "look at a file".into())
}
