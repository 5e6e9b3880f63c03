//! How a process of the container's gives up what it could do: the same for the first one and for those that
//! enter later, in the order of these functions.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::failure::{Ends, Failure, Status};
use super::identity::Identity;
use crate::sys::privilege::Confine;
use crate::sys::{self, privilege, process};

/// The capabilities of a container's user 0, and of programs that the user 0 of a container runs: enough for
/// servers that start as root and drop to a user, nothing that reaches the host.
pub const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// Reduces what user 0 inside may do, for good.
///
/// # Errors
/// What the kernel says.
pub fn bound() -> Result<(), Failure> {
    privilege::plain_secure_bits().ends(Status::Capabilities)?;
    privilege::bound(CAPABILITIES).ends(Status::Capabilities)
}

/// Becomes a user, in the working directory, with no descriptor left that a program would have.
///
/// # Errors
/// What the kernel says; a directory that isn't there or lies outside the root.
pub fn become_user(identity: &Identity, working_directory: &str) -> Result<(), Failure> {
    privilege::become_user(identity.uid, identity.gid, &identity.groups).ends(Status::User)?;
    // Changing ids made the process's memory readable again.
    process::hide().ends(Status::Namespace)?;
    process::close_on_exec().ends(Status::Namespace)?;
    rustix::process::chdir(working_directory).map_err(|errno| {
        let problem =
            format!("can't change to the working directory {working_directory}: {}", sys::explain(errno));
        Failure::new(Status::Chdir, problem)
            .hint("it must be in the image, or be mounted; set `working-directory` in the container file")
    })?;
    // Outside the root the kernel's answer begins with "(unreachable)" (getcwd(2), CVE-2024-21626).
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        _ => {
            Err(Failure::new(Status::Chdir, format!("{working_directory} lies outside the container's root")))
        }
    }
}

/// Keeps the default capabilities and gains none, by no means.
///
/// # Errors
/// What the kernel says.
pub fn reduce() -> Result<(), Failure> {
    privilege::reduce(CAPABILITIES).ends(Status::Capabilities)?;
    privilege::no_new_privileges().ends(Status::NoNewPrivileges)
}

/// Has AppArmor confine what comes; see [`privilege::confine`].
///
/// # Errors
/// What the kernel says.
pub fn confine(proc: BorrowedFd<'_>, profile: &str, what: Confine) -> Result<(), Failure> {
    privilege::confine(proc, profile, what).map_err(|error| {
        let failure = Failure::new(Status::AppArmor, &error);
        match error.errno {
            Errno::NOENT => failure.hint("it isn't loaded: `aa-status` lists what is"),
            Errno::INVAL => failure.hint("AppArmor isn't on; leave `apparmor` out of the container file"),
            _ => failure,
        }
    })
}

/// Puts the list of system calls in force.
///
/// # Errors
/// What the kernel says.
pub fn filter_calls() -> Result<(), Failure> {
    privilege::filter_calls().ends(Status::Seccomp)
}
