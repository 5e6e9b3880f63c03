//! The kernel's clock.
#![allow(unsafe_code)]

use std::mem::zeroed;

use rustix::io::Errno;

use super::Error;

/// Whether somebody keeps the clock right: the kernel's own word (`STA_UNSYNC` of adjtimex(2)), which every program that
/// does so sets.
///
/// # Errors
/// What adjtimex(2) says.
pub fn is_synchronised() -> Result<bool, Error> {
    // SAFETY: of plain numbers, all of which may be 0; with no modes nothing is set, and the kernel fills it in.
    let (state, status) = unsafe {
        let mut question: libc::timex = zeroed();
        (libc::adjtimex(&raw mut question), question.status)
    };
    if state < 0 {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
        return Err(Error::new("ask for the state of the clock", errno));
    }
    Ok(status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    /// Anybody may ask; what is said is the machine's.
    #[test]
    fn it_can_be_asked() {
        super::is_synchronised().expect("an answer");
    }
}
