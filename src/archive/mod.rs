//! Trees as tars, and tars as trees: what `wharf cp` copies, and what leaves and enters a volume.
//!
//! ```text
//!  a folder, by its descriptor ──► pack ──► tar ──► unpack ──► a folder, by its descriptor
//! ```
//!
//! Both sides are seen from the host and never by a path through somebody else's links: each name is opened below the
//! folder that was opened before, without following it. So what a program does with the tree meanwhile can spoil the
//! copy, and lead nowhere else.
//!
//! Owners in the tar are numbers as the container has them ([`Ids`]), with nanoseconds, holes, hard links, and the
//! extended attributes that images have: those of users, file capabilities and access lists. Devices and sockets are
//! left out and named: the first are nothing where nobody may open them, the second nothing without their process.
//!
//! A file gets its name when it is whole. It is made without one (`O_TMPFILE`) or, where the file system can't do
//! that, under another one beside it.

mod attributes;
mod holes;
mod pack;
mod unpack;

use std::io;

use rustix::io::Errno;

pub use self::pack::{Packed, Packer};
pub use self::unpack::{Destination, Unpacked, decompressed, unpack};
pub use crate::image::Ids;
use crate::sys::explain;

/// The deepest tree that is walked: each level holds a descriptor, of which a process has 1,024 unless it asks for more.
const DEPTH_MAX: usize = 512;

/// What the kernel shows for an id that isn't mapped (`/proc/sys/kernel/overflowuid`, which nobody changes).
const NOBODY: u32 = 65_534;

/// Why a tree wasn't packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The kernel refused something in the tree.
    #[error("can't {doing} {}: {}", shown(path), explain(*errno))]
    Step {
        /// In words that follow "can't".
        doing: &'static str,
        /// On what, below the folder of the walk.
        path: Vec<u8>,
        /// The kernel's answer.
        errno: Errno,
    },
    /// EROFS: nothing there can be written.
    #[error("{} can't be written: it is on a read-only file system", shown(.0))]
    ReadOnly(Vec<u8>),
    /// ENOSPC, EDQUOT.
    #[error("there is no room for {}: the file system is full", shown(.0))]
    Full(Vec<u8>),
    /// All that was asked for is something that no archive has.
    #[error("nothing to copy: {0}")]
    LeftOut(String),
    /// Something is mounted there.
    #[error(
        "{} can't be replaced, as something is mounted there; change what is mounted, where it is on the host",
        shown(.0)
    )]
    Mounted(Vec<u8>),
    /// A member that can't be unpacked faithfully, or shouldn't.
    #[error("{} {why}", shown(path))]
    Member {
        /// Its path in the archive.
        path: Vec<u8>,
        /// A sentence about it, from the verb on.
        why: String,
    },
    /// The archive can't be read.
    #[error("can't read the archive")]
    Input(#[source] io::Error),
    /// It ends in the middle.
    #[error("the archive is cut short; nothing comes after what was unpacked of it")]
    Truncated,
    /// The archive can't be written.
    #[error("can't write the archive")]
    Output(#[source] io::Error),
}

impl ArchiveError {
    fn input(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Input(source),
        }
    }

    /// Whether it is only that nobody takes what is written any more.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The steps in which something takes the place of something else.
const PLACING: [&str; 3] = ["make", "put in its place", "link"];

fn failed(doing: &'static str, path: &[u8]) -> impl Fn(Errno) -> ArchiveError {
    let path = path.to_vec();
    move |errno| match errno {
        Errno::ROFS => ArchiveError::ReadOnly(path.clone()),
        Errno::NOSPC | Errno::DQUOT => ArchiveError::Full(path.clone()),
        Errno::STALE if PLACING.contains(&doing) => ArchiveError::Member {
            path: path.clone(),
            why: "was replaced by somebody else as soon as it was made; try again".to_owned(),
        },
        Errno::BUSY if PLACING.contains(&doing) => ArchiveError::Mounted(path.clone()),
        errno => ArchiveError::Step { doing, path: path.clone(), errno },
    }
}

/// A path as people see it.
fn shown(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok("") => "the folder itself".to_owned(),
        // A name of somebody else's makes no lines of its own.
        Ok(text) if !text.chars().any(char::is_control) => format!("`{text}`"),
        _ => format!("`{}`", path.escape_ascii()),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

#[cfg(test)]
mod tests;
