//! btrfs's own calls (btrfs-ioctl(2)): subvolumes, which can be copied whole at once.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::ioctl::{self, Setter, Updater, opcode};

use super::{Error, Trying};

/// `BTRFS_IOCTL_MAGIC`.
const GROUP: u8 = 0x94;

/// `BTRFS_FIRST_FREE_OBJECTID`: the inode number of a subvolume's root, and of nothing else.
const ROOT_INODE: u64 = 256;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Arguments {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct Arguments2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`.
#[repr(C)]
struct Children {
    min_treeid: u64,
    rootref: [[u64; 2]; 255],
    num_items: u8,
    align: [u8; 7],
}

const SNAP_DESTROY: ioctl::Opcode = opcode::write::<Arguments>(GROUP, 15);
const SNAP_CREATE_V2: ioctl::Opcode = opcode::write::<Arguments2>(GROUP, 23);
const GET_SUBVOL_ROOTREF: ioctl::Opcode = opcode::read_write::<Children>(GROUP, 61);

fn name_in<const SIZE: usize>(name: &CStr) -> Result<[u8; SIZE], Errno> {
    let bytes = name.to_bytes();
    let mut field = [0; SIZE];
    // One byte has to stay 0.
    field
        .get_mut(..bytes.len())
        .filter(|_| bytes.len() < SIZE)
        .ok_or(Errno::NAMETOOLONG)?
        .copy_from_slice(bytes);
    Ok(field)
}

/// Whether a folder is the root of a subvolume.
///
/// # Errors
/// What fstat(2) and fstatfs(2) say.
pub fn is_subvolume(folder: impl AsFd) -> Result<bool, Error> {
    let look = || -> Result<bool, Errno> {
        let magic = rustix::fs::fstatfs(&folder)?.f_type as u64;
        Ok(magic == libc::BTRFS_SUPER_MAGIC as u64 && rustix::fs::fstat(&folder)?.st_ino == ROOT_INODE)
    };
    look().trying(|| "see whether the folder is a btrfs subvolume".into())
}

/// Whether other subvolumes lie in this one: a snapshot has empty folders in their place. Linux 4.18.
///
/// # Errors
/// What `BTRFS_IOC_GET_SUBVOL_ROOTREF` says.
pub fn has_children(subvolume: impl AsFd) -> Result<bool, Error> {
    let mut children = Children { min_treeid: 0, rootref: [[0; 2]; 255], num_items: 0, align: [0; 7] };
    // SAFETY: the kernel reads and writes one such structure, as the opcode says, which is there for as long.
    let asked = unsafe {
        let call = Updater::<GET_SUBVOL_ROOTREF, Children>::new(&mut children);
        ioctl::ioctl(&subvolume, call)
    };
    match asked {
        Ok(()) => Ok(children.num_items > 0),
        // There are more than fit.
        Err(Errno::OVERFLOW) => Ok(true),
        Err(errno) => Err(errno).trying(|| "list the subvolumes in the btrfs subvolume".into()),
    }
}

/// Makes `name` in `parent` a snapshot of a subvolume: one that can be written to, and is durable when this
/// returns.
///
/// # Errors
/// What `BTRFS_IOC_SNAP_CREATE_V2` says.
pub fn snapshot(subvolume: impl AsFd, parent: impl AsFd, name: &CStr) -> Result<(), Error> {
    let make = || -> Result<(), Errno> {
        let fd = i64::from(subvolume.as_fd().as_raw_fd());
        let arguments = Arguments2 { fd, transid: 0, flags: 0, unused: [0; 4], name: name_in(name)? };
        // SAFETY: the kernel reads one such structure, as the opcode says; its descriptor is open, its name ends.
        unsafe { ioctl::ioctl(&parent, Setter::<SNAP_CREATE_V2, Arguments2>::new(arguments)) }
    };
    make().trying(|| format!("make the btrfs snapshot {}", name.to_string_lossy()))
}

/// Removes the subvolume `name` in `parent`, with all that is in it.
///
/// # Errors
/// What `BTRFS_IOC_SNAP_DESTROY` says; ENOTEMPTY where another subvolume lies in it.
pub fn destroy(parent: impl AsFd, name: &CStr) -> Result<(), Error> {
    let remove = || -> Result<(), Errno> {
        let arguments = Arguments { fd: 0, name: name_in(name)? };
        // SAFETY: the kernel reads one such structure, as the opcode says, whose name ends.
        unsafe { ioctl::ioctl(&parent, Setter::<SNAP_DESTROY, Arguments>::new(arguments)) }
    };
    remove().trying(|| format!("remove the btrfs subvolume {}", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As linux/btrfs.h has them.
    #[test]
    fn sizes() {
        assert_eq!(size_of::<Arguments>(), 4096);
        assert_eq!(size_of::<Arguments2>(), 4096);
        assert_eq!(size_of::<Children>(), 4096);
        assert_eq!(name_in::<3>(c"ab"), Ok(*b"ab\0"));
        assert_eq!(name_in::<3>(c"abc"), Err(Errno::NAMETOOLONG));
    }
}
