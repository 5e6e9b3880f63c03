//! Whole directories by file descriptor: removing and copying them without ever following a link or leaving
//! the file system, whatever they hold.

mod copy;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, ResolveFlags, openat2, renameat_with, unlinkat};
use rustix::io::Errno;

pub(crate) use self::copy::{clone_contents, copy_contents};

/// The deepest tree that a layer may make. A walk holds one descriptor per level, and 1,024 is what a process
/// gets unless it asks for more; real roots are less than 60 levels deep.
pub(crate) const DEPTH_MAX: usize = 256;

/// The deepest tree that is walked at once: more than a layer may make, with the store's own folders around it.
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

impl TreeError {
    fn new(doing: &'static str, path: &[u8], source: io::Error) -> Self {
        Self { doing, path: PathBuf::from(String::from_utf8_lossy(path).into_owned()), source }
    }

    /// Where it isn't the kernel that refuses.
    fn in_words(doing: &'static str, path: &[u8], why: &str) -> Self {
        Self::new(doing, path, io::Error::other(why.to_owned()))
    }
}

fn failed(doing: &'static str, name: &CStr) -> impl FnOnce(Errno) -> TreeError {
    move |errno| TreeError::new(doing, name.to_bytes(), errno.into())
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

/// What a directory that lies too deep is called once it lies higher up, with a number.
const DEEP: &str = ".wharf-deep-";

/// Removes `name` in `parent` with everything in it, however deep that is. Nothing there is no error.
///
/// Refused, by name: what somebody has mounted in it, which is no part of it; what was removed before that is gone.
pub(crate) fn remove_all(parent: impl AsFd, name: &CStr) -> Result<(), TreeError> {
    let Some(top) = unlink_or_open(&parent, name)? else { return Ok(()) };
    let mut removal = Removal { top, moved: 0 };
    // What lies too deep for one walk is moved up, and the next one finds it there.
    loop {
        let before = removal.moved;
        let top = removal.top.try_clone().map_err(|source| TreeError {
            doing: "duplicate the descriptor of",
            path: ".".into(),
            source,
        })?;
        for child in names(&top, name)? {
            removal.one(&top, &child, 0)?;
        }
        if removal.moved == before {
            break;
        }
    }
    remove_folder(&parent, name)
}

struct Removal {
    /// Where all of it is.
    top: OwnedFd,
    /// How many directories were moved up so far.
    moved: u64,
}

impl Removal {
    fn one(&mut self, parent: &OwnedFd, name: &CStr, depth: usize) -> Result<(), TreeError> {
        let Some(directory) = unlink_or_open(parent, name)? else { return Ok(()) };
        if depth > WALK_MAX {
            loop {
                self.moved += 1;
                let number = self.moved;
                let up = CString::new(format!("{DEEP}{number}")).unwrap_or_default();
                match renameat_with(parent, name, &self.top, &up, RenameFlags::NOREPLACE) {
                    Ok(()) => return Ok(()),
                    // From an attempt that was killed.
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed("move up, to be removed,", name)(errno)),
                }
            }
        }
        for child in names(&directory, name)? {
            self.one(&directory, &child, depth + 1)?;
        }
        remove_folder(parent, name)
    }
}

/// Removes what is no directory; else opens it. Nothing where it is gone.
fn unlink_or_open(parent: impl AsFd, name: &CStr) -> Result<Option<OwnedFd>, TreeError> {
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        // Linux says EISDIR, POSIX EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(failed("remove", name)(errno)),
    }
    // Never into what is mounted there: it may be somebody's only copy of something else.
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    loop {
        match openat2(&parent, name, DIRECTORY, Mode::empty(), how) {
            Ok(directory) => return Ok(Some(directory)),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::XDEV) => {
                let why = "another file system is mounted there; unmount it";
                return Err(TreeError::in_words("remove", name.to_bytes(), why));
            }
            Err(errno) => return Err(failed("open", name)(errno)),
        }
    }
}

fn remove_folder(parent: impl AsFd, name: &CStr) -> Result<(), TreeError> {
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("remove", name)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use rustix::fs::{mkdirat, openat};

    use super::*;

    #[test]
    fn however_deep_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let parent = OwnedFd::from(File::open(folder.path()).expect("a folder"));
        mkdirat(&parent, c"deep", Mode::RWXU).expect("made");
        let mut at = openat(&parent, c"deep", DIRECTORY, Mode::empty()).expect("opened");
        for _ in 0..3 * WALK_MAX {
            for name in [c"d", c"e"] {
                mkdirat(&at, name, Mode::RWXU).expect("made");
            }
            at = openat(&at, c"d", DIRECTORY, Mode::empty()).expect("opened");
        }
        // As an attempt that was killed has left it, or as somebody called it.
        mkdirat(&at, c"x", Mode::RWXU).expect("made");
        fs::create_dir_all(folder.path().join("deep/.wharf-deep-1/d")).expect("made");
        remove_all(&parent, c"deep").expect("removed");
        remove_all(&parent, c"deep").expect("nothing there is no error");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
