//! Signals that are read like data: signalfd(2).
#![allow(unsafe_code)]

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::Error;

/// Some signals of this process, kept from taking effect until they are read.
#[derive(Debug)]
pub struct Signals(OwnedFd);

/// Whether a signal is ignored, as nohup(1) has it for what it runs.
pub fn is_ignored(signal: i32) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set; the answer goes to a local, which is read only where the call has filled it in.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Has the kernel keep how children ended, whatever this process has inherited (waitid(2), "SIGCHLD").
pub fn keep_exit_statuses() {
    // SAFETY: SIG_DFL installs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

impl Signals {
    /// Blocks these signals from now on, for children too, and gives a descriptor that they can be read from.
    ///
    /// # Errors
    /// What signalfd(2) says.
    pub fn take(signals: &[i32]) -> Result<Self, Error> {
        // SAFETY: the set is local, and sigemptyset fills it in before it is read; numbers that are no signals
        // are refused and change nothing.
        let fd = unsafe {
            let mut set = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
            return Err(Error::new("listen for signals", errno));
        }
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next one that has come, by its number; `None` where none has.
    pub fn next(&self) -> Option<i32> {
        let mut information = [0; size_of::<libc::signalfd_siginfo>()];
        let size = rustix::io::read(&self.0, &mut information).ok()?;
        // `ssi_signo` is the first member, 32 bits.
        let number = information.get(..4).filter(|_| size == information.len())?;
        i32::try_from(u32::from_ne_bytes(number.try_into().ok()?)).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
