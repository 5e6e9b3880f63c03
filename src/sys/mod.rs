//! The only unsafe code, and the mount, clone, namespace and privilege calls. No policy: one call, one named
//! error, one reason.
//!
//! Nothing here knows what a container is. A path inside a tree that an image controls is never followed as
//! text: it is resolved once, by [`resolve`], into a descriptor, and everything after speaks of the
//! descriptor.

pub mod attributes;
pub mod btrfs;
pub mod clock;
pub mod clone;
pub mod handed;
pub mod mount;
pub mod mounts;
pub mod privilege;
pub mod process;
pub mod resolve;
pub mod signals;
pub mod terminal;

use std::fmt;

use rustix::io::Errno;

/// A system call that failed: which one, on what, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What was tried, in words that follow "can't": "mount the overlay".
    pub action: String,
    /// The kernel's answer.
    pub errno: Errno,
}

impl Error {
    fn new(action: impl Into<String>, errno: Errno) -> Self {
        Self { action: action.into(), errno }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {}: {}", self.action, explain(self.errno))
    }
}

impl std::error::Error for Error {}

/// The kernel's answer in words, without the number that the standard library adds.
pub fn explain(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.rfind(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// Adds what was tried to a call's result.
trait Trying<T> {
    fn trying(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Trying<T> for Result<T, Errno> {
    fn trying(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|errno| Error::new(action(), errno))
    }
}
