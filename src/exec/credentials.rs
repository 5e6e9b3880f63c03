//! The credentials that systemd has loaded for the unit (systemd.exec(5), `LoadCredential=`), on their way into the
//! container.
//!
//! systemd's own folder is the host's root's, whom nobody inside can be. So they are copied, into a file system that
//! is never swapped out (ramfs), belongs to the container's mounts alone and goes with them. Nothing of them is kept in
//! memory: the first process is a copy of the executor's, and an init would keep it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chownat, fchown, openat};
use rustix::io::Errno;

use super::failure::{Ends, Failure, Status};
use super::identity::Identity;
use crate::check::{Container, Credential, CredentialSource};
use crate::sys::mount::{self, Attributes};
use crate::sys::resolve::{self, Owner};

/// Where systemd says that they are.
const VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// systemd leaves out what is in none of its stores, and starts the unit all the same. A program would only find out
/// much later.
///
/// # Errors
/// The first that isn't there.
pub fn are_there(container: &Container) -> Result<(), Failure> {
    let folder = folder();
    for Credential { name, source, encrypted } in &container.credentials {
        if folder.as_ref().is_some_and(|folder| folder.join(name).exists()) {
            continue;
        }
        let store = if *encrypted { "/etc/credstore.encrypted" } else { "/etc/credstore" };
        let hint = match source {
            CredentialSource::Store(other) => format!("put it into {store}/{other}, readable by root alone"),
            CredentialSource::File(path) => format!("systemd hasn't loaded it from {}", path.display()),
        };
        return Err(Failure::new(Status::Credentials, format!("there is no credential {name}")).hint(hint));
    }
    Ok(())
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A new file system with these, detached. It is still writable, and all of it is `owner`'s.
pub fn load(names: &[String], owner: Owner) -> Result<OwnedFd, Failure> {
    let from = folder().ok_or_else(|| {
        Failure::new(Status::Credentials, format!("systemd has loaded no credentials ({VARIABLE})"))
    })?;
    let attributes = Attributes { nosuid: true, nodev: true, noexec: true, ..Attributes::default() };
    let memory = mount::new("ramfs", &[("mode", "0500")], attributes).ends(Status::Namespace)?;
    own(memory.as_fd(), "", owner).map_err(|errno| failed("the credentials' folder", &errno.into()))?;
    for name in names {
        let copied = copy(&from.join(name), memory.as_fd(), name, owner);
        copied.map_err(|error| failed(&format!("the credential {name}"), &error))?;
    }
    Ok(memory)
}

fn copy(from: &Path, memory: BorrowedFd<'_>, name: &str, owner: Owner) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let to = openat(memory, name, flags, Mode::from_raw_mode(0o400))?;
    fchown(&to, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    io::copy(&mut File::open(from)?, &mut File::from(to)).map(drop)
}

/// Gives them to the user, read-only from now on: the first process's part, in the container's root.
pub fn give(target: &str, container: &Container, identity: &Identity) -> Result<(), Failure> {
    let root = mount::place(Path::new("/")).ends(Status::Namespace)?;
    let folder =
        resolve::open(root.as_fd(), target, OFlags::RDONLY | OFlags::DIRECTORY).ends(Status::Namespace)?;
    let owner = Owner { uid: identity.uid, gid: identity.gid };
    for name in container.credentials.iter().map(|credential| credential.name.as_str()).chain([""]) {
        own(folder.as_fd(), name, owner)
            .map_err(|errno| failed(&format!("{target}/{name}"), &errno.into()))?;
    }
    let attributes = Attributes { read_only: true, ..Attributes::default() };
    mount::set(folder.as_fd(), attributes, false).ends(Status::Namespace)
}

/// Without a name, the folder itself.
fn own(folder: BorrowedFd<'_>, name: &str, owner: Owner) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(Status::Credentials, format!("can't put {what} into the container: {error}"))
}
