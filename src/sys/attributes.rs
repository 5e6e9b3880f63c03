//! What a file has beside owner, mode, times and extended attributes (`struct fsxattr`, FS_IOC_FSGETXATTR in
//! linux/fs.h; first of XFS, then of ext4, btrfs and others): flags, and the project that quotas count it to.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{self, Getter, Setter, opcode};

use super::{Error, Trying};

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Fsxattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

const GET: ioctl::Opcode = opcode::read::<Fsxattr>(b'X', 31);
const SET: ioctl::Opcode = opcode::write::<Fsxattr>(b'X', 32);

/// `FS_XFLAG_IMMUTABLE` and `FS_XFLAG_APPEND`: such a file can be neither linked, renamed nor removed.
const FROZEN: u32 = 0x8 | 0x10;

/// What is copied: `FS_XFLAG_SYNC`, `NOATIME`, `NODUMP`, `PROJINHERIT`, `NOSYMLINKS`, `NODEFRAG`. The others are
/// the file system's own, or follow from the content.
const COPIED: u32 = 0x20 | 0x40 | 0x80 | 0x200 | 0x400 | 0x2000;

/// What a file or folder has; nothing where the file system doesn't know such a thing.
fn get(file: impl AsFd) -> Result<Option<Fsxattr>, Errno> {
    // SAFETY: the kernel writes one such structure, as the opcode says.
    match unsafe { ioctl::ioctl(&file, Getter::<GET, Fsxattr>::new()) } {
        Ok(attributes) => Ok(Some(attributes)),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether nobody may change, link, rename or remove it (`chattr +i`, `+a`).
///
/// # Errors
/// What the call says.
pub fn is_frozen(file: impl AsFd) -> Result<bool, Error> {
    let attributes = get(file).trying(|| "read the attributes".into())?;
    Ok(attributes.is_some_and(|attributes| attributes.xflags & FROZEN != 0))
}

/// Gives a new file or folder the flags and the project of another one.
///
/// # Errors
/// What the calls say.
pub fn copy(from: impl AsFd, to: impl AsFd) -> Result<(), Error> {
    let copy = || -> Result<(), Errno> {
        let (Some(from), Some(before)) = (get(from)?, get(&to)?) else { return Ok(()) };
        let xflags = (before.xflags & !COPIED) | (from.xflags & COPIED);
        if (xflags, from.projid) == (before.xflags, before.projid) {
            return Ok(());
        }
        let after = Fsxattr { xflags, projid: from.projid, ..before };
        // SAFETY: the kernel reads one such structure, as the opcode says.
        unsafe { ioctl::ioctl(&to, Setter::<SET, Fsxattr>::new(after)) }
    };
    copy().trying(|| "copy the attributes".into())
}
