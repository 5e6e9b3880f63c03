//! Mounts, by the new mount API (Linux 5.2; mount_setattr(2) 5.12): a mount is a descriptor until it is
//! attached, and it is attached to a descriptor.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::{Error, Trying};

/// What a mount refuses or allows; anything not named stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// Writes fail.
    pub read_only: bool,
    /// Set-user-id bits and file capabilities have no effect.
    pub nosuid: bool,
    /// Device nodes can't be opened.
    pub nodev: bool,
    /// Nothing can be run from it.
    pub noexec: bool,
    /// Ids on disk are those inside this user namespace.
    pub idmap: Option<BorrowedFd<'a>>,
}

impl Attributes<'_> {
    fn flags(&self) -> MountAttrFlags {
        let Self { read_only, nosuid, nodev, noexec, idmap: _ } = *self;
        let mut flags = MountAttrFlags::empty();
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOSUID, nosuid);
        flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, nodev);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, noexec);
        flags
    }
}

/// A new file system with its options, detached.
///
/// # Errors
/// What fsopen(2), fsconfig(2) and fsmount(2) say. ENOSPC is "too many mounts" in words.
pub fn new(kind: &str, options: &[(&str, &str)], attributes: Attributes<'_>) -> Result<OwnedFd, Error> {
    let make = || -> Result<OwnedFd, Errno> {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            rustix::mount::fsconfig_set_string(&context, *key, *value)?;
        }
        rustix::mount::fsconfig_create(&context)?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes.flags())
    };
    make().map_err(|errno| mount_error(format!("mount a new {kind}"), errno))
}

/// An overlay of folders, detached: `lower` from the top down, as names below the current directory.
///
/// One option per layer holds 500 layers (Linux 6.7, `lowerdir+`); before that all layers share one page of
/// options, so the names should be short.
///
/// # Errors
/// What the kernel says of it.
pub fn overlay(lower: &[String], upper: &str, work: &str, place: &CStr) -> Result<OwnedFd, Error> {
    let modern = || -> Result<OwnedFd, Errno> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for layer in lower {
            rustix::mount::fsconfig_set_string(&context, "lowerdir+", layer.as_str())?;
        }
        rustix::mount::fsconfig_set_string(&context, "upperdir", upper)?;
        rustix::mount::fsconfig_set_string(&context, "workdir", work)?;
        rustix::mount::fsconfig_set_string(&context, "metacopy", "off")?;
        rustix::mount::fsconfig_create(&context)?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)
    };
    // Asked by version, since an older kernel answers an unknown option with a line in its log.
    if kernel() >= (6, 7) {
        return modern().map_err(|errno| mount_error("mount the overlay of the root".into(), errno));
    }
    let old = || -> Result<OwnedFd, Errno> {
        let mut lower = lower.to_vec();
        let mut source = "overlay".to_owned();
        if lower.iter().map(|name| name.len() + 1).sum::<usize>() > OPTIONS_MAX {
            // All must fit one page: links with the shortest names there are. The real ones are then shown by the
            // mount's source, which means nothing to overlayfs and has a page of its own: as many as fit, from
            // the top, where an image has what no other has.
            source = lower.join(" ");
            source.truncate(OPTIONS_MAX);
            for (number, name) in lower.iter_mut().enumerate() {
                let short = format!("{number:x}");
                rustix::fs::symlink(name.as_str(), short.as_str())?;
                *name = short;
            }
        }
        let options = format!("lowerdir={},upperdir={upper},workdir={work},metacopy=off\0", lower.join(":"));
        let options = CStr::from_bytes_with_nul(options.as_bytes()).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(source.as_str(), place, "overlay", MountFlags::NODEV, Some(options))?;
        let tree = rustix::mount::open_tree(
            CWD,
            place,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        );
        rustix::mount::unmount(place, UnmountFlags::DETACH)?;
        tree
    };
    old().map_err(|errno| {
        mount_error(format!("mount the overlay of the root ({} layers)", lower.len()), errno)
    })
}

/// The running kernel's version, as far as features go by it.
fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// How much of the page that mount(2) copies its options into (`copy_mount_options` in the kernel's
/// fs/namespace.c) the layers may take.
const OPTIONS_MAX: usize = 4000;

/// A copy of what is mounted at a path of the host, detached; with what is mounted below it if `recursive`.
///
/// # Errors
/// What open_tree(2) says.
pub fn copy_of(path: &Path, recursive: bool) -> Result<OwnedFd, Error> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    rustix::mount::open_tree(CWD, path, flags)
        .map_err(|errno| mount_error(format!("bind {}", path.display()), errno))
}

/// A copy of what is mounted where a descriptor is, detached, with what is mounted below it if `recursive`.
///
/// # Errors
/// What open_tree(2) says.
pub fn copy_at(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Error> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    rustix::mount::open_tree(fd, "", flags).map_err(|errno| mount_error("copy a mount".into(), errno))
}

/// Attaches a detached mount on what a descriptor stands for.
///
/// # Errors
/// What move_mount(2) says.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Error> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
        .map_err(|errno| mount_error("attach a mount".into(), errno))
}

/// Sets attributes of a mount, and of those below it if `recursive`.
///
/// # Errors
/// What mount_setattr(2) says. EINVAL with `idmap` means that the file system can't be idmapped.
pub fn set(mount: BorrowedFd<'_>, attributes: Attributes<'_>, recursive: bool) -> Result<(), Error> {
    let mut set = libc::mount_attr {
        attr_set: u64::from(attributes.flags().bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    if let Some(users) = attributes.idmap {
        set.attr_set |= libc::MOUNT_ATTR_IDMAP;
        set.userns_fd = users.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads an empty path and one mount_attr of the size given; both outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const set,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    let what = if attributes.idmap.is_some() { "map the ids of a mount" } else { "set a mount's attributes" };
    Err(Error::new(what, errno))
}

/// Cuts every mount of this mount namespace off from the others: nothing done here is seen elsewhere.
///
/// # Errors
/// What mount(2) says.
pub fn make_private() -> Result<(), Error> {
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .trying(|| "make the mounts private".into())
}

/// Makes the folder that a descriptor stands for the root of this mount namespace, and lets go of the old
/// one with all that is mounted there.
///
/// # Errors
/// What fchdir(2), pivot_root(2) and umount2(2) say.
pub fn enter_root(root: BorrowedFd<'_>) -> Result<(), Error> {
    let enter = || -> Result<(), Errno> {
        rustix::process::fchdir(root)?;
        // Stacks the new root on the old one at "/", so that no folder is needed to put the old one in
        // (pivot_root(2), "pivot_root(".", ".")").
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")
    };
    enter().trying(|| "enter the container's root".into())
}

/// Opens a folder of the host, not following a last link.
///
/// # Errors
/// What open(2) says.
pub fn place(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).trying(|| format!("open {}", path.display()))
}

/// Puts a device node into a folder.
///
/// # Errors
/// What mknodat(2) and fchmodat(2) say: the mode is set again, since the umask cuts what mknod gets.
pub fn device(folder: BorrowedFd<'_>, name: &str, major: u32, minor: u32, mode: u32) -> Result<(), Error> {
    let make = || -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(folder, name, rustix::fs::FileType::CharacterDevice, mode, device)?;
        rustix::fs::chmodat(folder, name, mode, AtFlags::empty())
    };
    make().trying(|| format!("make the device /dev/{name}"))
}

/// Whether a descriptor is the null device, and nothing that only has its name (CVE-2025-31133).
pub fn is_null_device(fd: impl AsFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3)
    })
}

fn mount_error(action: String, errno: Errno) -> Error {
    match errno {
        // mount(2): the namespace is full, /proc/sys/fs/mount-max; nothing to do with a disk.
        Errno::NOSPC => Error::new(format!("{action} (too many mounts)"), errno),
        errno => Error::new(action, errno),
    }
}
