//! The calling process: its namespaces, descriptors, signals, and what it turns into.
#![allow(unsafe_code)]

use std::ffi::{CString, NulError};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitId, WaitIdOptions, WaitOptions};
pub use rustix::thread::ThreadNameSpaceType as Join;
use rustix::thread::UnshareFlags;

use super::mount::{self, Attributes};
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

/// Moves the caller into namespaces of another process, given by its descriptor (Linux 5.8): all of them, or none.
/// With its mount namespace the caller gets that namespace's root as root and working directory. Of its pid
/// namespace only later children are part.
///
/// # Errors
/// What setns(2) says; ESRCH where the process has ended.
pub fn join(process: BorrowedFd<'_>, namespaces: Join) -> Result<(), Error> {
    rustix::thread::move_into_thread_name_spaces(process, namespaces).trying(|| {
        if namespaces == Join::PROCESS_ID {
            "join the container's processes".into()
        } else {
            "join the container's namespaces".into()
        }
    })
}

/// Has the kernel kill the caller when its parent ends, by whatever. A change of ids or capabilities takes that
/// back, so it comes after them.
///
/// # Errors
/// What prctl(2) PR_SET_PDEATHSIG says.
pub fn end_with_parent() -> Result<(), Error> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .trying(|| "ask to end with the parent".into())
}

/// Leaves the keyring that a login has given this session, for a new and empty one: its keys are possessed by
/// whoever has it, in any user namespace (session-keyring(7)).
///
/// # Errors
/// What keyctl(2) KEYCTL_JOIN_SESSION_KEYRING says. A kernel without keyrings is no error.
pub fn leave_keyring() -> Result<(), Error> {
    let nameless: *const libc::c_char = ptr::null();
    // SAFETY: no name is given, so nothing is read.
    let answer = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, nameless) };
    if answer >= 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        return Ok(());
    }
    Err(last("leave the session's keyring"))
}

/// The resource limits of a process, by their numbers (`RLIMIT_CPU` and so on, getrlimit(2)).
#[derive(Clone)]
pub struct ResourceLimits(Vec<libc::rlimit64>);

/// `RLIM_NLIMITS` of the kernel's asm-generic/resource.h.
const RESOURCES: u32 = 16;

impl ResourceLimits {
    /// Those of another process.
    ///
    /// # Errors
    /// What prlimit(2) says.
    pub fn of(pid: Pid) -> Result<Self, Error> {
        (0..RESOURCES)
            .map(|resource| {
                let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
                let pid = pid.as_raw_nonzero().get();
                // SAFETY: nothing is set, and the answer goes to a local of the kernel's type.
                let answer = unsafe {
                    libc::syscall(
                        libc::SYS_prlimit64,
                        pid,
                        resource,
                        ptr::null::<libc::rlimit64>(),
                        &raw mut limit,
                    )
                };
                if answer == 0 { Ok(limit) } else { Err(last("read the container's resource limits")) }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Makes them the caller's; where it may not raise its own (CAP_SYS_RESOURCE), as far as its own go.
    ///
    /// # Errors
    /// What prlimit(2) says.
    pub fn take(&self) -> Result<(), Error> {
        let set = |resource: u32, limit: &libc::rlimit64| {
            let nothing = ptr::null_mut::<libc::rlimit64>();
            // SAFETY: the kernel reads one limit, and is asked for no answer.
            unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, ptr::from_ref(limit), nothing) == 0 }
        };
        let mut own = None;
        for (limit, resource) in self.0.iter().zip(0u32..) {
            if set(resource, limit) {
                continue;
            }
            let own = match &mut own {
                Some(own) => own,
                None => own.insert(Self::of(rustix::process::getpid())?),
            };
            let most = own.0[resource as usize].rlim_max;
            let less =
                libc::rlimit64 { rlim_cur: limit.rlim_cur.min(most), rlim_max: limit.rlim_max.min(most) };
            if !set(resource, &less) {
                return Err(last("take the container's resource limits"));
            }
        }
        Ok(())
    }
}

/// Marks every descriptor from 3 up to be closed by exec (CVE-2024-21626: an open folder of the host is a
/// way out).
///
/// # Errors
/// What close_range(2) says; CLOSE_RANGE_CLOEXEC is of Linux 5.11.
pub fn close_on_exec() -> Result<(), Error> {
    // SAFETY: marking descriptors invalidates none of them.
    let answer = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int)
    };
    if answer == 0 { Ok(()) } else { Err(last("mark descriptors to be closed")) }
}

/// The sockets that systemd hands over (sd_listen_fds(3)); they stay open as long as the process lives.
pub fn sockets() -> Vec<BorrowedFd<'static>> {
    let sockets = sd_notify::listen_fds().into_iter().flatten();
    // SAFETY: systemd has opened them for this process, and nothing here closes them.
    sockets.map(|socket| unsafe { BorrowedFd::borrow_raw(socket) }).collect()
}

/// Has a netlink socket pass over messages that it has no room for, without a word. Else it reports an error
/// (netlink(7), ENOBUFS), and systemd gives up a socket unit that reports anything but that it can be read
/// (`socket_dispatch_io` in its src/core/socket.c).
pub fn pass_over_lost_messages(socket: BorrowedFd<'_>) {
    let on: libc::c_int = 1;
    // SAFETY: the option is an int and outlives the call. A socket of another kind refuses it and stays as it is.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_NO_ENOBUFS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
}

/// Has a netlink socket that hears of changes to nftables pass over what `program` (its comm, as /proc/PID/comm
/// has it, of 14 bytes) has changed itself, and of the rest take one message for each change: the last one, which
/// says that it is in force, and by whom (`nf_tables_fill_gen_info` in the kernel's net/netfilter/nf_tables_api.c).
pub fn pass_over_changes_of(socket: BorrowedFd<'_>, program: &[u8; 14]) {
    /// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_NEWGEN` of linux/netfilter; the type of a message, after its length.
    const NEW_GENERATION: u16 = 10 << 8 | 15;
    /// Headers of 16 and 4 bytes, two attributes of 8, and the header of the third, the name.
    const NAME: u32 = 40;
    let word =
        |at: usize| u32::from_be_bytes([program[at], program[at + 1], program[at + 2], program[at + 3]]);
    let end = u32::from(u16::from_be_bytes([program[12], program[13]]));
    let (load_word, load_half) =
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_LD | libc::BPF_H | libc::BPF_ABS);
    let (equal, answer) = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET | libc::BPF_K);
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    // Words are loaded in network order, and a message's type stands in the host's. A load behind the end of a
    // message drops it.
    let mut filter = [
        step(load_half, 0, 0, 4),
        step(equal, 0, 9, u32::from(u16::from_be_bytes(NEW_GENERATION.to_ne_bytes()))),
        step(load_word, 0, 0, NAME),
        step(equal, 0, 6, word(0)),
        step(load_word, 0, 0, NAME + 4),
        step(equal, 0, 4, word(4)),
        step(load_word, 0, 0, NAME + 8),
        step(equal, 0, 2, word(8)),
        step(load_half, 0, 0, NAME + 12),
        step(equal, 1, 0, end),
        step(answer, 0, 0, u32::MAX),
        step(answer, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which outlives the call.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
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
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer, and all strings outlive the call, which either doesn't
    // return or leaves them alone.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Turns the process into a program by way of a mount of that file alone which can't be written. However
/// /proc/PID/exe is come by, the host's file can't be changed through it (CVE-2019-5736). Returns only to say
/// why not.
pub fn exec_unwritable(program: &Path, arguments: &[CString], environment: &[CString]) -> Error {
    let file = match unwritable(program) {
        Ok(file) => file,
        Err(error) => return error,
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer, and all strings outlive the call, which either doesn't
    // return or leaves them alone.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last(&format!("run {}", program.display()))
}

fn unwritable(file: &Path) -> Result<OwnedFd, Error> {
    let copy = mount::copy_of(file, false)?;
    let attributes = Attributes { read_only: true, nosuid: true, ..Attributes::default() };
    mount::set(copy.as_fd(), attributes, false)?;
    Ok(copy)
}

/// Whether the program file of this process can't be written by way of its own /proc/PID/exe.
pub fn is_unwritable() -> bool {
    rustix::fs::statvfs("/proc/self/exe")
        .is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
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
    join(first, Join::PROCESS_ID)?;
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

/// Sends a signal to the process group that the process of a descriptor leads; `pid` is its id. One that is gone
/// is no error.
pub fn send_signal_to_group(process: BorrowedFd<'_>, pid: i32, signal: i32) {
    /// `PIDFD_SIGNAL_PROCESS_GROUP` of linux/pidfd.h, Linux 6.9.
    const GROUP: libc::c_uint = 1 << 2;
    let nothing: *const libc::siginfo_t = ptr::null();
    // SAFETY: the kernel takes any numbers, and no information about the signal is given.
    let answer =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, GROUP) };
    if answer != 0 && is_alive(process) {
        // SAFETY: kill(2) takes any numbers. While the process lives its id is nobody else's.
        unsafe { libc::kill(-pid, signal) };
    }
}

/// Whether the process of a descriptor has not ended yet.
pub fn is_alive(process: BorrowedFd<'_>) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A descriptor of a process can be "read" once it has ended, also before it is waited for (pidfd_open(2)).
    matches!(
        rustix::event::poll(&mut [PollFd::from_borrowed_fd(process, PollFlags::IN)], Some(&at_once)),
        Ok(0)
    )
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
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    };
    if answer == 0 { Ok(()) } else { Err(last("turn the loopback interface on")) }
}

fn last(action: &str) -> Error {
    Error::new(action, Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}
