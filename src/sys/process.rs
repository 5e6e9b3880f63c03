//! The calling process: its namespaces, descriptors, signals, and what it turns into.
#![allow(unsafe_code)]

use std::ffi::{CString, NulError};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, WaitId, WaitIdOptions, WaitOptions};
use rustix::thread::UnshareFlags;

use super::{Error, Trying};

/// Keeps other processes of the container away from this one's memory, and from its program file by way of
/// /proc/PID/exe (CVE-2019-5736), until it runs another program.
///
/// # Errors
/// What prctl(2) PR_SET_DUMPABLE says.
pub fn hide() -> Result<(), Error> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .trying(|| "become non-dumpable".into())
}

/// Moves the caller into new namespaces.
///
/// # Errors
/// What unshare(2) says.
pub fn unshare(flags: UnshareFlags) -> Result<(), Error> {
    // SAFETY: CLONE_FILES and CLONE_FS are the flags that could pull descriptors or the working directory
    // from under another thread; this program has one thread where it calls this.
    unsafe { rustix::thread::unshare_unsafe(flags) }.trying(|| "make namespaces".into())
}

/// Marks every descriptor from 3 up to be closed by exec (CVE-2024-21626: an open folder of the host is a
/// way out).
///
/// # Errors
/// What close_range(2) says; CLOSE_RANGE_CLOEXEC is of Linux 5.11.
pub fn close_on_exec() -> Result<(), Error> {
    // SAFETY: marking descriptors invalidates none of them.
    let answer = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    if answer == 0 { Ok(()) } else { Err(last("mark descriptors to be closed")) }
}

/// Gives every signal its default meaning and blocks none: neither systemd's ignored SIGPIPE nor the Rust
/// runtime's is a container's business.
pub fn plain_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no code; signals whose meaning can't be set answer with an error that
        // changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// Text as C takes it.
///
/// # Errors
/// Where it holds a zero byte.
pub fn c_strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<CString>, NulError> {
    texts.into_iter().map(CString::new).collect()
}

/// Turns the process into another program. Returns only to say why not.
pub fn exec(program: &CString, arguments: &[CString], environment: &[CString]) -> Errno {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer, and all strings outlive the call, which either doesn't
    // return or leaves them alone.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Ends the process at once: no destructors, no buffers flushed twice.
pub fn end(status: i32) -> ! {
    // SAFETY: _exit(2) takes any number and doesn't return.
    unsafe { libc::_exit(status) }
}

/// Forks. `None` is the answer in the new process.
///
/// # Errors
/// What fork(2) says.
pub fn fork() -> Result<Option<Pid>, Error> {
    // SAFETY: the caller has one thread, so every lock is free in the copy.
    match unsafe { libc::fork() } {
        -1 => Err(last("fork")),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Holds back the end of a pid namespace's process 1 for as long as the value lives: another process of that
/// namespace has ended and isn't reaped, and the kernel lets process 1 go last (`zap_pid_ns_processes` in its
/// kernel/pid_namespace.c).
#[derive(Debug)]
pub struct HeldEnd(Pid);

/// Holds back the end of the process 1 that `first` is a descriptor of. Children that the caller makes later
/// are in its namespace, too.
///
/// # Errors
/// What setns(2) with a pidfd (Linux 5.8), fork(2) and waitid(2) say.
pub fn hold_end(first: BorrowedFd<'_>) -> Result<HeldEnd, Error> {
    // SAFETY: setns(2) only reads the descriptor, which lives for the call.
    if unsafe { libc::setns(first.as_raw_fd(), libc::CLONE_NEWPID) } != 0 {
        return Err(last("join the container's processes"));
    }
    let Some(pid) = fork()? else { end(0) };
    // Dead before anything of the container's runs: nothing inside may find a living process of the host's.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(pid), options).trying(|| "wait for a child".into())?;
    Ok(HeldEnd(pid))
}

impl Drop for HeldEnd {
    fn drop(&mut self) {
        let _ = rustix::process::waitpid(Some(self.0), WaitOptions::empty());
    }
}

/// Blocks every signal: it waits until [`wait_for_signal`] takes it.
pub fn block_signals() {
    // SAFETY: the mask is local, and sigfillset fills it in before it is read.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
    }
}

/// Blocks none. What waits is delivered.
pub fn unblock_signals() {
    // SAFETY: the mask is local, and sigemptyset fills it in before it is read.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// The first of some signals that waits because it is blocked.
pub fn waiting_signal(signals: &[i32]) -> Option<i32> {
    // SAFETY: sigpending fills the local set in; signal numbers out of range are refused and count as absent.
    unsafe {
        let mut set = std::mem::zeroed();
        if libc::sigpending(&raw mut set) != 0 {
            return None;
        }
        signals.iter().copied().find(|signal| libc::sigismember(&raw const set, *signal) == 1)
    }
}

/// Waits for the next of the blocked signals, real-time ones too; `None` where it was interrupted.
pub fn wait_for_signal() -> Option<i32> {
    // SAFETY: the mask is local and filled in before it is read; no information about the signal is asked for.
    let signal = unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigwaitinfo(&raw const all, ptr::null_mut())
    };
    Some(signal).filter(|signal| *signal > 0)
}

/// Sends a signal by its number, real-time ones too. A process that is gone is no error.
pub fn send_signal(pid: Pid, signal: i32) {
    // SAFETY: kill(2) takes any numbers.
    unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
}

/// Sends a signal by its number to the process of a descriptor, and to no other that has got its id since. A
/// process that is gone is no error.
pub fn send_signal_to(process: BorrowedFd<'_>, signal: i32) {
    let nothing: *const libc::siginfo_t = ptr::null();
    // SAFETY: the kernel takes any numbers, and no information about the signal is given.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0) };
}

/// Turns the loopback interface of the caller's network namespace on.
///
/// # Errors
/// What ioctl(2) SIOCSIFFLAGS says (netdevice(7)).
pub fn loopback_up() -> Result<(), Error> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
        .trying(|| "open a socket".into())?;
    // SAFETY: an all-zero ifreq is a valid one; the name is shorter than its field and stays terminated, and
    // the flags are the member of the union that SIOCSIFFLAGS reads.
    let answer = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    if answer == 0 { Ok(()) } else { Err(last("turn the loopback interface on")) }
}

fn last(action: &str) -> Error {
    Error::new(action, Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}
