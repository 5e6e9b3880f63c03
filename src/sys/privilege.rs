//! Ids, capabilities, and the seccomp filter of the calling process.
#![allow(unsafe_code)]

use std::fs;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Uid};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use super::{Error, Trying};

/// Ids of a user namespace: `count` ids from 0 are `base` and up outside.
///
/// # Errors
/// What the kernel says of a write to /proc/PID/uid_map or gid_map (user_namespaces(7)).
pub fn map_ids(pid: Pid, base: u32, count: u32) -> Result<(), Error> {
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", pid.as_raw_nonzero()), format!("0 {base} {count}\n"))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .trying(|| format!("map the container's ids to {base} and up ({map})"))?;
    }
    Ok(())
}

/// Becomes a user with its groups. Capabilities of a user other than 0 are gone after it.
///
/// # Errors
/// What setgroups(2), setresgid(2) and setresuid(2) say.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Error> {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&groups).trying(|| "set the supplementary groups".into())?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).trying(|| format!("become group {}", gid.as_raw()))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).trying(|| format!("become user {}", uid.as_raw()))
}

/// Does something with the file system as another user and group, with all capabilities all the same.
///
/// In an idmapped mount the host's user 0 has no id, and can't make a file (EOVERFLOW); the container's can.
/// Only what is made counts: what the caller may do stays what it was.
pub fn as_owner<T>(uid: u32, gid: u32, action: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if (uid, gid) == own {
        return action();
    }
    set_fs_ids(uid, gid);
    // The change took the capabilities over files from the effective set, though not from the permitted one.
    let result = restore_effective().and_then(|()| action());
    set_fs_ids(own.0, own.1);
    // Changing ids made this process's memory readable for others of the user's.
    let hidden = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    restore_effective().and(hidden).and(result)
}

fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: both take any id and answer with the last one; for a process with CAP_SETUID and CAP_SETGID they
    // can't fail (setfsuid(2)).
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
}

fn restore_effective() -> Result<(), Errno> {
    let now = rustix::thread::capabilities(None)?;
    rustix::thread::set_capabilities(None, CapabilitySets { effective: now.permitted, ..now })
}

/// Takes every capability but `keep` away from the bounding set, for good.
///
/// # Errors
/// What prctl(2) PR_CAPBSET_DROP says.
pub fn bound(keep: CapabilitySet) -> Result<(), Error> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // Numbers past the kernel's last capability can't be asked for.
        if keep.contains(capability)
            || !rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false)
        {
            continue;
        }
        rustix::thread::remove_capability_from_bounding_set(capability)
            .trying(|| format!("drop capability {number}"))?;
    }
    Ok(())
}

/// Reduces the process to `keep`: nothing inheritable (CVE-2022-27649), nothing ambient.
///
/// A process that isn't user 0 has lost its capabilities by then; it stays so.
///
/// # Errors
/// What capset(2) and prctl(2) say.
pub fn reduce(keep: CapabilitySet) -> Result<(), Error> {
    rustix::thread::clear_ambient_capability_set().trying(|| "clear the ambient capabilities".into())?;
    let now = rustix::thread::capabilities(None).trying(|| "read the capabilities".into())?;
    let sets = CapabilitySets {
        effective: now.effective & keep,
        permitted: now.permitted & keep,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).trying(|| "reduce the capabilities".into())
}

/// Makes sure that no bits left over from elsewhere change what user 0 means.
///
/// # Errors
/// What prctl(2) PR_SET_SECUREBITS says.
pub fn plain_secure_bits() -> Result<(), Error> {
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::empty())
        .trying(|| "reset the secure bits".into())
}

/// No program run from here on gains privileges: set-user-id bits and file capabilities have no effect.
///
/// # Errors
/// What prctl(2) PR_SET_NO_NEW_PRIVS says.
pub fn no_new_privileges() -> Result<(), Error> {
    rustix::thread::set_no_new_privs(true).trying(|| "set no_new_privs".into())
}

/// What AppArmor is to confine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confine {
    /// This thread, from now on, and all that it makes.
    Now,
    /// The next program that it runs.
    Program,
}

/// Has AppArmor confine the calling thread by a loaded profile: what libapparmor's aa_change_profile(2) and
/// aa_change_onexec(2) write. Nothing but a program run by a profile's own word leads out of it.
///
/// `proc` is a procfs in whose pid namespace, or below it, the thread is. It may be the host's, held since before the
/// thread entered somebody's mounts: the link `thread-self` is followed for who follows it, and nothing else is.
///
/// # Errors
/// ENOENT where there is no such profile, EINVAL where AppArmor isn't on, EACCES where what confines this thread
/// already doesn't allow it.
pub fn confine(proc: BorrowedFd<'_>, profile: &str, what: Confine) -> Result<(), Error> {
    let (file, word) = match what {
        Confine::Now => ("current", "changeprofile"),
        Confine::Program => ("exec", "exec"),
    };
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let path = format!("thread-self/attr/apparmor/{file}");
    // Opened and written to with the same ids and capabilities, or the kernel refuses (`proc_pid_attr_write` in its
    // fs/proc/base.c).
    rustix::fs::openat2(proc, path, flags, Mode::empty(), how)
        .and_then(|file| rustix::io::write(file, format!("{word} {profile}").as_bytes()))
        .map(drop)
        .trying(|| format!("be confined by the AppArmor profile {profile}"))
}

/// The filter of `seccomp.list`, compiled when this was built: `struct sock_filter`, 8 bytes each.
static FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/seccomp.bpf"));

/// Puts the system call filter in force, for this process and all that it makes.
///
/// # Errors
/// What seccomp(2) says.
pub fn filter_calls() -> Result<(), Error> {
    let program: Vec<libc::sock_filter> = FILTER
        .chunks_exact(8)
        .map(|raw| libc::sock_filter {
            code: u16::from_ne_bytes([raw[0], raw[1]]),
            jt: raw[2],
            jf: raw[3],
            k: u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]),
        })
        .collect();
    let header = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `len` instructions from `filter`, which `program` holds until after the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const header) };
    if answer == 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    Err(Error::new("load the system call filter", errno))
}
