//! A running container's root, looked at from outside.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, statx};

use super::failure::{Failure, Status};
use super::target::Target;
use crate::spec::ContainerName;
use crate::sys::mounts::{self, Mount};
use crate::sys::{self, process};

/// The root of a container, by its unit's main process, as a folder (`O_PATH`). It is the mount of the root itself;
/// what is mounted below it can be told by `RESOLVE_NO_XDEV` (openat2(2)).
///
/// The upper layer can't be reached from outside: it is on a tmpfs that only the mount of the root refers to.
///
/// # Errors
/// A container that has ended or isn't there yet; a first process that has left its root.
pub fn root(name: &ContainerName, main: i32) -> Result<OwnedFd, Failure> {
    let target = Target::find(name, main)?;
    let path = format!("/proc/{main}/root");
    let failed = |doing: &str, errno| {
        Failure::new(Status::Namespace, format!("can't {doing} the root of {name}: {}", sys::explain(errno)))
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| failed("open", errno))?;
    let found = statx(&root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map_err(|errno| failed("look at", errno))?;
    let mounts = mounts::seen_by(main).unwrap_or_default();
    if !process::is_alive(target.process.as_fd()) {
        return Err(Failure::new(Status::Namespace, format!("{name} has just ended"))
            .hint("what it had written is gone with it"));
    }
    if !is_whole_root(&mounts, found.stx_mnt_id) {
        let problem =
            format!("the first process of {name} has changed its root, and the container's can't be seen");
        return Err(Failure::new(Status::Namespace, problem));
    }
    Ok(root)
}

/// Whether a mount is an overlay, whole, and the root of a process.
fn is_whole_root(mounts: &[Mount], id: u64) -> bool {
    let root = Path::new("/");
    mounts
        .iter()
        .any(|mount| mount.id == id && mount.root == root && mount.point == root && mount.kind == "overlay")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_the_root() {
        let mounts = b"96 95 0:50 / / rw,relatime shared:1 - overlay wharf rw,lowerdir=x\n\
                      97 96 0:51 / /proc rw - proc proc rw\n\
                      98 96 0:50 /usr /usr rw - overlay wharf rw\n";
        let mounts: Vec<_> = mounts::parse(mounts).collect();
        assert!(is_whole_root(&mounts, 96));
        assert!(!is_whole_root(&mounts, 97) && !is_whole_root(&mounts, 98) && !is_whole_root(&mounts, 9));
    }
}
