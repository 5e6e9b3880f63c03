//! Descriptors that systemd has handed over (sd_listen_fds(3)): as many as it says, from 3 up.
#![allow(unsafe_code)]

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use rustix::io::FdFlags;

use super::{Error, Trying};

/// The first of them (`SD_LISTEN_FDS_START`).
pub const FIRST: u32 = 3;

/// Each of them, as it is: sd-notify's function takes them out of the environment and has exec close them.
pub fn each(count: u32) -> impl Iterator<Item = BorrowedFd<'static>> {
    // SAFETY: systemd has opened them for this process, and nothing here closes them.
    (FIRST..FIRST + count).map(|number| unsafe { BorrowedFd::borrow_raw(number.cast_signed()) })
}

/// The port that each of them listens at; nothing for what has none.
pub fn ports(count: u32) -> Vec<Option<u16>> {
    let port = |descriptor| {
        let address = rustix::net::getsockname(descriptor).ok()?;
        SocketAddr::try_from(address).ok().map(|address| address.port())
    };
    each(count).map(port).collect()
}

/// Says whether exec closes them.
///
/// # Errors
/// What fcntl(2) says; EBADF for one that isn't open.
pub fn close_on_exec(count: u32, close: bool) -> Result<(), Error> {
    let flags = if close { FdFlags::CLOEXEC } else { FdFlags::empty() };
    for descriptor in each(count) {
        rustix::io::fcntl_setfd(descriptor, flags).trying(|| "pass on a socket of systemd's".into())?;
    }
    Ok(())
}

/// Closes them.
pub fn close(count: u32) {
    if count > 0 {
        // SAFETY: systemd has opened them for this process, and nothing of Rust's owns them.
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, FIRST + count - 1, 0) };
    }
}
