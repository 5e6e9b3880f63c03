//! Making the processes of a container: the first, and those that come later.
#![allow(unsafe_code)]

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::{Error, Trying};

bitflags::bitflags! {
    /// Namespaces that a process gets of its own, as clone(2) names them.
    ///
    /// The mount and cgroup namespaces are not here: the first process takes them for itself once its root
    /// stands and it is in its cgroup ([`super::process::unshare`]).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Namespaces: u64 {
        /// Ids and capabilities.
        const USER = libc::CLONE_NEWUSER as u64;
        /// Process ids.
        const PID = libc::CLONE_NEWPID as u64;
        /// System V and POSIX message queues, shared memory, semaphores.
        const IPC = libc::CLONE_NEWIPC as u64;
        /// Host name.
        const UTS = libc::CLONE_NEWUTS as u64;
        /// Interfaces, routes, ports.
        const NET = libc::CLONE_NEWNET as u64;
    }
}

/// A process just made, as the maker sees it.
#[derive(Debug)]
pub struct Child {
    /// Its id in the maker's pid namespace.
    pub pid: Pid,
    /// A descriptor of it, for signals: its id may be reused, this can't.
    pub pidfd: OwnedFd,
}

/// Makes a sibling: a process whose parent is the caller's parent, in namespaces of its own, at the same point
/// of the program. `None` is the answer in the new process.
///
/// The caller must have one thread. It can't wait for the new process, which isn't its child; the parent
/// gets SIGCHLD as it would for the caller itself (clone(2), CLONE_PARENT).
///
/// # Errors
/// What clone3(2) says.
pub fn sibling(namespaces: Namespaces) -> Result<Option<Child>, Error> {
    // With CLONE_PARENT the signal at its end must be 0; the kernel takes the caller's own.
    clone3(libc::CLONE_PARENT as u64 | namespaces.bits(), 0, 0)
        .trying(|| "make the container's first process".into())
}

/// Makes a child that is in a cgroup from its birth, at the same point of the program. `None` is the answer in
/// the new process. `cgroup` is the cgroup's folder (CLONE_INTO_CGROUP, Linux 5.7).
///
/// The caller must have one thread.
///
/// # Errors
/// What clone3(2) says. EAGAIN is the cgroup's limit of tasks, ENOMEM also the end of the pid namespace that
/// the caller has chosen for its children.
pub fn child_in(cgroup: BorrowedFd<'_>) -> Result<Option<Child>, Error> {
    clone3(INTO_CGROUP, libc::SIGCHLD as u64, cgroup.as_raw_fd() as u64)
        .trying(|| "make a process in the container".into())
}

/// A user namespace of nobody's: `count` ids from 0 are `base` and up outside. It lives as long as its descriptor or
/// what is mapped by it.
///
/// The caller may have several threads: the process that it takes for a moment makes no call but two of the kernel's.
///
/// # Errors
/// What clone3(2), and writes to the maps of ids (user_namespaces(7)), say.
pub fn user_namespace(base: u32, count: u32) -> Result<OwnedFd, Error> {
    let made =
        clone3(Namespaces::USER.bits(), libc::SIGCHLD as u64, 0).trying(|| "make a user namespace".into())?;
    let Some(Child { pid, pidfd }) = made else {
        // SAFETY: these take no memory and no lock, and never return: the process waits until it is killed, below or,
        // should the caller end before, by the kernel.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            loop {
                libc::pause();
            }
        }
    };
    let users = super::privilege::map_ids(pid, base, count).and_then(|()| {
        let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).trying(|| format!("open {path}"))
    });
    // It is this process's child and can't be reaped by anybody else, so both work as long as it is there.
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    let _ =
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), rustix::process::WaitIdOptions::EXITED);
    users
}

/// `CLONE_INTO_CGROUP` of linux/sched.h, which libc has in too narrow a type.
const INTO_CGROUP: u64 = 0x2_0000_0000;

fn clone3(flags: u64, exit_signal: u64, cgroup: u64) -> Result<Option<Child>, Errno> {
    let mut pidfd: libc::c_int = -1;
    let arguments = libc::clone_args {
        flags: libc::CLONE_PIDFD as u64 | flags,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal,
        cgroup,
        child_tid: 0,
        parent_tid: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
    };
    // SAFETY: without CLONE_VM the new process has a copy of this one's memory, as after fork(2), and as the
    // caller has one thread, every lock in it is free. `arguments` and `pidfd` live until the call is over.
    let answer =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match answer {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
        0 => Ok(None),
        pid => {
            // SAFETY: the kernel has just put a new descriptor there, and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::RANGE)?;
            Ok(Some(Child { pid, pidfd }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_needs_no_process() {
        // Only root may map more than itself.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let children = || {
            let own = std::process::id();
            let text = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
            text.unwrap_or_default().split_whitespace().count()
        };
        let before = children();
        let one = user_namespace(524_288, 65_536).expect("made");
        let two = user_namespace(524_288, 65_536).expect("made");
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("its inode").st_ino;
        assert_ne!(inode(&one), inode(&two));
        assert_eq!(children(), before);
    }
}
