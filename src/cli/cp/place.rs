//! Where something is copied from, and where to: on the host, or as a running container sees it.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat, statat};
use rustix::io::Errno;

use crate::archive::Ids;
use crate::spec::ContainerName;
use crate::sys::explain;
use crate::sys::process::is_alive;

/// The most links that lead to one file (MAXSYMLINKS in the kernel's linux/namei.h).
const LINKS_MAX: usize = 40;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The file system as somebody sees it.
pub(super) enum View {
    /// This command itself.
    Host,
    /// A running container: its root, by which the kernel finds its volumes and memory as well, and whose ids they are.
    Container {
        name: ContainerName,
        root: OwnedFd,
        ids: Ids,
        /// Its first process: with that everything goes that it has mounted.
        process: Option<OwnedFd>,
    },
}

/// A path as it was typed, for messages.
pub(super) struct Shown<'a>(&'a View, &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(view, path) = self;
        if let View::Container { name, .. } = view {
            write!(f, "{name}:")?;
        }
        write!(f, "{}", String::from_utf8_lossy(path))
    }
}

/// Why there is nothing to copy, or no place for it.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("there is no {0}")]
    Missing(String),
    #[error("{0} is no folder")]
    NoFolder(String),
    #[error("{0} is no folder; what is read from standard input goes into one that is there")]
    NoFolderForTar(String),
    #[error("there is no folder for {0}; make the one above it first")]
    NoParent(String),
    #[error("{0} is a link that leads nowhere; remove it, or name what it should lead to")]
    Dangling(String),
    #[error(
        "{0} is a link of another user's in a folder where everybody may make some; remove it, or name what it leads to"
    )]
    Untrusted(String),
    #[error("{0} is no folder, and a folder can't take its place; remove it first, or name another place")]
    InTheWay(String),
    #[error("can't open {path}: {}", explain(*errno))]
    Open { path: String, errno: Errno },
}

/// What is copied.
pub(super) enum Source {
    /// A folder, and what it is called; nothing where what is in it is meant (`/.`).
    Folder { folder: OwnedFd, name: Option<Vec<u8>> },
    /// Anything else, by its name in a folder.
    Other { parent: OwnedFd, name: Vec<u8> },
}

impl Source {
    /// What it is called where it keeps its name.
    pub(super) fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Folder { name, .. } => name.as_deref(),
            Self::Other { name, .. } => Some(name),
        }
    }
}

/// Where it goes: into a folder, as this; as what is in that folder where it is empty.
pub(super) struct Goal {
    pub(super) folder: OwnedFd,
    pub(super) path: Vec<u8>,
}

/// A path's folder, and the last name in it; nothing where it ends with a slash, `.` or `..`, or is the root.
fn split(path: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/".to_vec(), &path[1..]),
        Some(at) => (path[..at].to_vec(), &path[at + 1..]),
        None => (b".".to_vec(), path),
    };
    (!matches!(name, b"" | b"." | b"..")).then(|| (folder, name.to_vec()))
}

impl View {
    pub(super) fn ids(&self) -> Ids {
        match self {
            Self::Host => Ids { base: None },
            Self::Container { ids, .. } => *ids,
        }
    }

    /// The container whose view it was, where that has ended since: what was mounted in it isn't seen any more, and its
    /// memory is nobody's.
    pub(super) fn ended(&self) -> Option<&ContainerName> {
        match self {
            Self::Container { name, process: Some(process), .. } if !is_alive(process.as_fd()) => Some(name),
            _ => None,
        }
    }

    pub(super) fn shown<'a>(&'a self, path: &'a [u8]) -> Shown<'a> {
        Shown(self, path)
    }

    /// Opens a path as whoever has this view would: a container's links never lead out of its root, and those of /proc
    /// nowhere.
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            let opened = match self {
                Self::Host => openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty()),
                Self::Container { root, .. } => openat2(root, path, flags, Mode::empty(), how),
            };
            match opened {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => break other,
            }
        }
    }

    fn failed(&self, path: &[u8]) -> impl Fn(Errno) -> PlaceError {
        let path = self.shown(path).to_string();
        move |errno| match errno {
            Errno::NOENT => PlaceError::Missing(path.clone()),
            Errno::NOTDIR => PlaceError::NoFolder(path.clone()),
            errno => PlaceError::Open { path: path.clone(), errno },
        }
    }

    /// What a path names, as `cp -a` takes it: a link is itself, unless a slash follows it.
    pub(super) fn source(&self, path: &[u8]) -> Result<Source, PlaceError> {
        let failed = self.failed(path);
        let trimmed = path.trim_suffix_slashes();
        let Some((above, name)) = split(trimmed) else {
            let folder = self.open(path, FOLDER).map_err(failed)?;
            return Ok(Source::Folder { folder, name: None });
        };
        if trimmed.len() < path.len() {
            let folder = self.open(path, FOLDER).map_err(failed)?;
            return Ok(Source::Folder { folder, name: Some(name) });
        }
        let parent = self.open(&above, FOLDER).map_err(&failed)?;
        let there = statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW).map_err(&failed)?;
        if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
            return Ok(Source::Other { parent, name });
        }
        let folder = rustix::fs::openat(&parent, &*name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
        Ok(Source::Folder { folder: folder.map_err(failed)?, name: Some(name) })
    }

    /// A folder that is there, for what an archive has.
    pub(super) fn folder(&self, path: &[u8]) -> Result<OwnedFd, PlaceError> {
        self.open(path, FOLDER).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => PlaceError::NoFolderForTar(self.shown(path).to_string()),
            errno => self.failed(path)(errno),
        })
    }

    /// Where a source goes that is copied to a path: into a folder that is there, or else under that name.
    pub(super) fn goal(&self, path: &[u8], source: &Source) -> Result<Goal, PlaceError> {
        match self.open(path, FOLDER) {
            Ok(folder) => return Ok(Goal { folder, path: source.name().unwrap_or_default().to_vec() }),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(Errno::ACCESS) if self.is_link(path) => {
                return Err(PlaceError::Untrusted(self.shown(path).to_string()));
            }
            Err(errno) => return Err(self.failed(path)(errno)),
        }
        let is_folder = matches!(source, Source::Folder { .. });
        let trimmed = path.trim_suffix_slashes();
        let shown = || self.shown(path).to_string();
        if trimmed.len() < path.len() && !is_folder {
            return Err(PlaceError::NoFolder(shown()));
        }
        let mut at = trimmed.to_vec();
        for step in 0..LINKS_MAX {
            let Some((above, name)) = split(&at) else { return Err(PlaceError::NoFolder(shown())) };
            let folder = match self.open(&above, FOLDER) {
                Err(Errno::NOENT | Errno::NOTDIR) if step == 0 => return Err(PlaceError::NoParent(shown())),
                Err(Errno::NOENT | Errno::NOTDIR) => return Err(PlaceError::Dangling(shown())),
                other => other.map_err(self.failed(path))?,
            };
            let there = match statat(&folder, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) if step == 0 => return Ok(Goal { folder, path: name }),
                Err(Errno::NOENT) => return Err(PlaceError::Dangling(shown())),
                other => other.map_err(self.failed(path))?,
            };
            if FileType::from_raw_mode(there.st_mode) != FileType::Symlink {
                if is_folder {
                    return Err(PlaceError::InTheWay(shown()));
                }
                return Ok(Goal { folder, path: name });
            }
            // As cp does, which writes where a link leads.
            if let Self::Host = self {
                return self.led_to(path, is_folder);
            }
            let target = readlinkat(&folder, &*name, Vec::new()).map_err(self.failed(path))?.into_bytes();
            at = if target.starts_with(b"/") { target } else { [&above, &b"/"[..], &target].concat() };
        }
        Err(self.failed(path)(Errno::LOOP))
    }

    fn is_link(&self, path: &[u8]) -> bool {
        let looked_at = self.open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC);
        looked_at.and_then(fstat).is_ok_and(|look| FileType::from_raw_mode(look.st_mode) == FileType::Symlink)
    }

    /// Where a link of the host leads, by the kernel's own word: it doesn't follow those that somebody else has put into
    /// /tmp (`fs.protected_symlinks`, proc_sys_fs(5)).
    fn led_to(&self, path: &[u8], is_folder: bool) -> Result<Goal, PlaceError> {
        let shown = || self.shown(path).to_string();
        let file = self.open(path, OFlags::PATH | OFlags::CLOEXEC).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => PlaceError::Dangling(shown()),
            Errno::ACCESS if self.is_link(path) => PlaceError::Untrusted(shown()),
            errno => self.failed(path)(errno),
        })?;
        if is_folder {
            return Err(PlaceError::InTheWay(shown()));
        }
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        let real = readlinkat(CWD, own, Vec::new()).map_err(self.failed(path))?.into_bytes();
        let moved = || PlaceError::Dangling(shown());
        let (above, name) = split(&real).ok_or_else(moved)?;
        let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let folder = openat2(CWD, &*above, FOLDER, Mode::empty(), how).map_err(|_| moved())?;
        // That path is only words: what they name has to be what was found.
        let (found, named) = (fstat(&file), statat(&folder, &*name, AtFlags::SYMLINK_NOFOLLOW));
        match (found, named) {
            (Ok(found), Ok(named)) if (found.st_dev, found.st_ino) == (named.st_dev, named.st_ino) => {
                Ok(Goal { folder, path: name })
            }
            _ => Err(moved()),
        }
    }
}

/// What a path is without the slashes at its end.
trait Slashes {
    fn trim_suffix_slashes(&self) -> &[u8];
}

impl Slashes for [u8] {
    fn trim_suffix_slashes(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| *byte != b'/').map_or(self.len().min(1), |at| at + 1);
        &self[..end]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        for (path, expected) in [
            ("a", Some((".", "a"))),
            ("/a", Some(("/", "a"))),
            ("a/b", Some(("a", "b"))),
            ("/a/b/c", Some(("/a/b", "c"))),
            ("a/.", None),
            ("..", None),
            ("/", None),
        ] {
            let parts = split(path.as_bytes());
            let expected =
                expected.map(|(folder, name)| (folder.as_bytes().to_vec(), name.as_bytes().to_vec()));
            assert_eq!(parts, expected, "{path}");
        }
        for (path, trimmed) in [("a//", "a"), ("/", "/"), ("//", "/"), ("a/b", "a/b"), ("", "")] {
            assert_eq!(path.as_bytes().trim_suffix_slashes(), trimmed.as_bytes(), "{path}");
        }
    }

    fn container(root: &Path) -> View {
        let root = OwnedFd::from(fs::File::open(root).expect("a folder"));
        View::Container { name: "web".parse().expect("a name"), root, ids: Ids { base: None }, process: None }
    }

    #[test]
    fn what_is_meant() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("dir/sub")).expect("made");
        fs::write(at("dir/file"), "").expect("written");
        symlink("/dir", at("to-dir")).expect("linked");
        symlink("dir/file", at("to-file")).expect("linked");
        symlink("../../nowhere", at("dangling")).expect("linked");
        let view = container(root.path());
        let source = |path: &str| match view.source(path.as_bytes()) {
            Ok(Source::Folder { name, .. }) => {
                format!("folder {}", String::from_utf8(name.unwrap_or_default()).expect("a name"))
            }
            Ok(Source::Other { name, .. }) => String::from_utf8(name).expect("a name"),
            Err(error) => error.to_string(),
        };
        for (path, expected) in [
            ("/dir", "folder dir"),
            ("dir/", "folder dir"),
            ("/dir/.", "folder "),
            ("/", "folder "),
            ("/dir/file", "file"),
            ("/to-dir", "to-dir"),
            ("/to-dir/", "folder to-dir"),
            ("/to-dir/file", "file"),
            ("../../../dir/file", "file"),
            ("/dir/file/", "web:/dir/file/ is no folder"),
            ("/none", "there is no web:/none"),
        ] {
            assert_eq!(source(path), expected, "{path}");
        }
        let (file, dir, inner) = (
            view.source(b"/dir/file").expect("a file"),
            view.source(b"/dir").expect("a folder"),
            view.source(b"/dir/.").expect("a folder"),
        );
        let goal = |path: &str, source: &Source| match view.goal(path.as_bytes(), source) {
            Ok(goal) => String::from_utf8(goal.path).expect("a name"),
            Err(error) => error.to_string(),
        };
        for (path, source, expected) in [
            ("/", &file, "file"),
            ("/new", &file, "new"),
            ("/to-dir", &file, "file"),
            ("/to-file", &file, "file"),
            ("/dir/file", &file, "file"),
            ("/new/", &file, "web:/new/ is no folder"),
            ("/none/new", &file, "there is no folder for web:/none/new; make the one above it first"),
            ("/dir", &dir, "dir"),
            ("/new/", &dir, "new"),
            ("/new", &inner, "new"),
            ("/dir/sub", &inner, ""),
        ] {
            assert_eq!(goal(path, source), expected, "{path}");
        }
        assert!(goal("/dangling", &file).contains("leads nowhere"));
        assert!(goal("/to-file", &dir).contains("a folder can't take its place"));
    }

    #[test]
    fn links_of_the_host() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |path: &str| root.path().join(path);
        let bytes = |path: &str| at(path).into_os_string().into_encoded_bytes();
        fs::create_dir(at("dir")).expect("made");
        fs::write(at("dir/file"), "").expect("written");
        symlink("dir/file", at("first")).expect("linked");
        symlink("first", at("second")).expect("linked");
        symlink("dir/none", at("dangling")).expect("linked");
        let file = View::Host.source(&bytes("dir/file")).expect("a file");
        let dir = View::Host.source(&bytes("dir")).expect("a folder");
        let goal = View::Host.goal(&bytes("second"), &file).expect("a place");
        assert_eq!(goal.path, b"file");
        let folder = fstat(&goal.folder).expect("there");
        let look = std::os::unix::fs::MetadataExt::ino(&at("dir").metadata().expect("there"));
        assert_eq!(folder.st_ino, look);
        let why = |path: &str, source: &Source| match View::Host.goal(&bytes(path), source) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(why("dangling", &file).contains("leads nowhere"));
        assert!(why("second", &dir).contains("a folder can't take its place"));

        // Another user's, in a folder for everybody. Only root can make one, and only a kernel that protects refuses.
        let protects = fs::read_to_string("/proc/sys/fs/protected_symlinks").unwrap_or_default();
        if rustix::process::geteuid().is_root() && protects.trim() == "1" {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
            fs::create_dir(at("all")).and_then(|()| fs::set_permissions(at("all"), mode)).expect("made");
            symlink("../dir/file", at("all/trap")).expect("linked");
            std::os::unix::fs::lchown(at("all/trap"), Some(1234), Some(1234)).expect("given away");
            assert!(why("all/trap", &file).contains("a link of another user's"));
        }
    }

    #[test]
    fn a_containers_links_stay_inside() {
        let (outside, root) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        fs::write(outside.path().join("secret"), "").expect("written");
        symlink(outside.path(), root.path().join("out")).expect("linked");
        symlink("/proc/self/root", root.path().join("magic")).expect("linked");
        let view = container(root.path());
        assert!(view.source(b"/out/secret").is_err());
        assert!(view.source(b"/out/").is_err());
        assert!(view.folder(b"/magic").is_err());
        let link = view.source(b"/out").expect("the link itself");
        assert!(view.goal(b"/out/new", &link).is_err());
    }
}
