//! Paths of the host that a container file names: sources of binds, a root's folder, environment files.
//!
//! The administrator's own symbolic links are followed, `/srv/current -> releases/42` for one. But where a
//! container may write, it may put a link, and the next start, of it or of another, would bind whatever that
//! names: the container's root is user 0 on disk, so nothing on the link tells it from the administrator's.
//! So a link counts only where no container can have made it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::failure::{Failure, Status};
use crate::check::{Container, MountKind};
use crate::host::Paths;
use crate::plan::Plan;
use crate::sys;

/// As many links as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Opens a path of the host. `flags` gets O_CLOEXEC.
///
/// # Errors
/// ENOENT and the like as they come; a link that a container could have made.
pub fn open(
    paths: &Paths,
    container: &Container,
    path: &Path,
    flags: OFlags,
) -> Result<OwnedFd, SourceError> {
    match exactly(path, flags) {
        // The common case costs one call. Only where there is a link, it matters who can write there.
        Err(Errno::LOOP) => {}
        answer => return answer.map_err(SourceError::Kernel),
    }
    let real = follow(path, &writable(paths, container))?;
    // What is a link now was none a moment ago.
    exactly(&real, flags).map_err(|errno| match errno {
        Errno::LOOP => SourceError::Link(real),
        errno => SourceError::Kernel(errno),
    })
}

/// Why a path can't be opened.
#[derive(Debug)]
pub enum SourceError {
    /// As the kernel has it.
    Kernel(Errno),
    /// This is a link, in a folder that a container writes to.
    Link(PathBuf),
}

impl SourceError {
    /// As a start's failure, of what is called `what`.
    pub fn failure(self, status: Status, what: &str, path: &Path) -> Failure {
        match self {
            Self::Kernel(Errno::NOENT) => {
                Failure::new(status, format!("{what}{} is not there", path.display()))
            }
            Self::Kernel(errno) => {
                Failure::new(status, format!("can't open {what}{}: {}", path.display(), sys::explain(errno)))
            }
            Self::Link(link) => {
                let problem = format!(
                    "{} is a symbolic link in a folder that a container can write to, and is not followed",
                    link.display()
                );
                Failure::new(status, problem).hint("a container could have made it; name the real path")
            }
        }
    }
}

fn exactly(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// Where this container, and every other that has a plan, can write on the host; and where volumes are.
fn writable(paths: &Paths, container: &Container) -> Vec<PathBuf> {
    let mut folders = vec![paths.state()];
    let mut add = |container: &Container| {
        for mount in &container.mounts {
            if let MountKind::Bind(bind) = &mount.kind
                && !bind.read_only
            {
                folders.push(fs::canonicalize(&bind.source).unwrap_or_else(|_| bind.source.clone()));
            }
        }
    };
    add(container);
    // Instances without files of their own aren't here; what their template writes to has the instance's name
    // in it, and so lies below the part that is before it.
    for entry in fs::read_dir(paths.generated().join("wharf")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if let Ok(plan) = serde_json::from_str::<Plan>(&text) {
            add(&plan.container);
        }
    }
    for folder in &mut folders {
        if let Some(at) = folder.to_str().and_then(|text| text.find("%i")) {
            let before: PathBuf = folder.to_string_lossy()[..at].into();
            *folder = if before.to_string_lossy().ends_with('/') {
                before
            } else {
                before.parent().map_or_else(|| "/".into(), Path::to_owned)
            };
        }
    }
    folders
}

/// The path without its links.
fn follow(path: &Path, writable: &[PathBuf]) -> Result<PathBuf, SourceError> {
    let io = |error: io::Error| SourceError::Kernel(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let parts = |path: &Path| -> Vec<OsString> {
        path.components()
            .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
            .map(|part| part.as_os_str().to_owned())
            .collect()
    };
    let mut left: VecDeque<OsString> = parts(path).into();
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        if !fs::symlink_metadata(&next).map_err(io)?.is_symlink() {
            real = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(SourceError::Kernel(Errno::LOOP));
        }
        if writable.iter().any(|folder| real.starts_with(folder)) {
            return Err(SourceError::Link(next));
        }
        let target = fs::read_link(&next).map_err(io)?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        for part in parts(&target).into_iter().rev() {
            left.push_front(part);
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_count_where_no_container_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("releases/42/conf")).expect("made");
        fs::create_dir_all(at("app/sub")).expect("made");
        symlink("releases/42", at("current")).expect("a link");
        symlink("/etc", at("app/conf")).expect("a link");
        symlink("../../current", at("app/sub/back")).expect("a link");
        let writable = vec![at("app")];
        let real = follow(&at("current/conf"), &writable).ok();
        assert_eq!(real, Some(at("releases/42/conf")));
        for evil in ["app/conf", "app/conf/ssh", "app/sub/back"] {
            assert!(matches!(follow(&at(evil), &writable), Err(SourceError::Link(_))), "{evil}");
        }
        assert!(matches!(follow(&at("none"), &writable), Err(SourceError::Kernel(Errno::NOENT))));
        symlink("circle", at("circle")).expect("a link");
        assert!(matches!(follow(&at("circle"), &writable), Err(SourceError::Kernel(Errno::LOOP))));
    }
}
