//! `wharf-executor enter`: one more program in a running container, for `wharf exec` and `wharf shell`.
//!
//! ```text
//!  wharf exec nginx ls       finds the unit's main process, becomes
//!  wharf-executor enter      which stays on the host, out of the container's sight
//!       │  namespaces and cgroup of the first process, record of its start
//!       ├── fork ──► keeper: stays on the host too, reaps, and does nothing else
//!       │              └── clone into the cgroup and pid namespace ──► inside: the other namespaces, the user,
//!       │                                  a terminal, the same limits of privilege as the first process
//!       │◄── "ready", and the terminal's master ───────
//!       ├── "gate" ──────────────────────────────────►  exec
//!       │◄── end of the line
//!       │  passes signals on, and with a terminal what is typed and written
//!       └─ exits as the program did
//! ```
//!
//! Without a terminal of its own the program has the caller's standard streams, and nothing is in between. Should
//! this process be killed, the kernel kills the keeper, and with it the program.
//!
//! The keeper is there since process 1 of a container can't end before all of its pid namespace is reaped
//! (`zap_pid_ns_processes` in the kernel's kernel/pid_namespace.c): a `wharf exec` that was stopped by ^Z, or
//! writes to a terminal that takes no more, must not keep the container from stopping.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, getpid, kill_process};

use super::environment;
use super::failure::{Ends, Failure, Status};
use super::inside::Inside;
use super::line::{Line, Message};
use super::relay::{Relay, Terminal};
use super::request::Request;
use super::target::{Started, Target, as_started, unit};
use crate::host::Paths;
use crate::plan::process::process;
use crate::spec::ContainerName;
use crate::sys::clone::{self, Child};
use crate::sys::process::{self, Join};
use crate::sys::resolve;
use crate::sys::signals::{self, Signals};

/// Why a program didn't run, and the exit status that says as much: 127, it isn't there; 126, it can't be run;
/// 125, Wharf couldn't do its part (as env(1) and others have them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotEntered {
    /// The exit status.
    pub code: u8,
    /// In words; nothing where a signal has ended it all.
    pub failure: Option<Failure>,
}

/// Wharf's own failure.
pub const OWN: u8 = 125;
/// The program is there, and can't be run.
pub const NOT_RUN: u8 = 126;
/// The program isn't there.
pub const MISSING: u8 = 127;

impl From<Failure> for NotEntered {
    fn from(failure: Failure) -> Self {
        Self { code: OWN, failure: Some(failure) }
    }
}

/// The signals that people send, signal(7); all but the last three go to the program, and those too where it
/// has no terminal of its own. Real-time ones from the C library's first on.
pub(super) const HUP: i32 = 1;
pub(super) const INT: i32 = 2;
pub(super) const QUIT: i32 = 3;
pub(super) const TERM: i32 = 15;
pub(super) const CONT: i32 = 18;
pub(super) const TSTP: i32 = 20;
pub(super) const WINCH: i32 = 28;
const SIGNALS: [i32; 10] = [HUP, INT, QUIT, 10, 12, 14, TERM, WINCH, CONT, TSTP];
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Those that are passed on. Blocked, a signal that the caller had ignored (nohup(1)) would come all the same:
/// `sig_ignored` in the kernel's kernel/signal.c.
pub(super) fn wanted_signals() -> Vec<i32> {
    SIGNALS.into_iter().chain(REAL_TIME).filter(|signal| !signals::is_ignored(*signal)).collect()
}

/// Runs a program in a container, stays until it ends, and gives its exit status: its own, or 128 and the
/// number of the signal that it died of.
///
/// # Errors
/// [`NotEntered`].
pub fn enter(paths: &Paths, request: &Request) -> Result<u8, NotEntered> {
    if !process::is_unwritable() {
        let problem = "this program's file could be written to from inside the container";
        return Err(Failure::new(Status::Config, problem).hint("call it by `wharf exec`").into());
    }
    // The kernel names it after a descriptor's number otherwise.
    let _ = rustix::thread::set_name(c"wharf-exec");
    // Children have this from their birth on.
    process::hide().ends(Status::Namespace)?;
    no_folders()?;
    let name = &request.container;
    let Started { container, source, image } = as_started(paths, name)?;
    let program = process(&container, &image, &source.display().to_string())
        .map_err(|error| Failure::from_error(Status::Exec, &error))?;
    let files = environment::read(paths, &container)?;
    let target = Target::find(name, request.main)?;

    let terminal = request.terminal.unwrap_or_else(|| is_terminal(0) && is_terminal(1));
    if !terminal {
        no_terminals()?;
    }
    let signals = Signals::take(&wanted_signals()).ends(Status::Namespace)?;
    // Whoever calls may ignore it, and then the kernel would keep no exit status.
    signals::keep_exit_statuses();
    let (near, far) = Line::pair()?;
    let (told, teller) = Line::pair()?;
    let executor = getpid();
    if process::fork().ends(Status::Namespace)?.is_none() {
        drop((near, told, signals));
        let _ = rustix::process::setsid();
        process::block_signals();
        if process::end_with_parent().is_err() || rustix::process::getppid() != Some(executor) {
            process::end(OWN.into());
        }
        match born(&target, name) {
            Err(failure) => teller.say(&Message::Failed(failure)),
            Ok(None) => {
                drop(teller);
                Inside { line: far, target: &target, container: &container, image: &image, files, terminal }
                    .live(request, &program)
            }
            Ok(Some(child)) => {
                drop(far);
                let pid = child.pid.as_raw_nonzero().get();
                teller.say_with(&Message::Born(pid), child.pidfd.as_fd());
                teller.say(&Message::Ended(end_of(child.pidfd.as_fd())));
            }
        }
        process::end(0);
    }
    drop((far, teller));
    let (pid, pidfd) = match told.hear_with() {
        Some((Message::Born(pid), Some(pidfd))) => (pid, pidfd),
        Some((Message::Failed(failure), _)) => return Err(failure.into()),
        _ => return Err(Failure::new(Status::Namespace, GONE).into()),
    };
    let mut running = Running { line: near, told, signals, pid, pidfd };
    let relay = running.open_gate(terminal)?;
    running.stay(relay)
}

/// What there is to say when the new process has gone without a word.
const GONE: &str = "the new process ended before its program ran";

/// Makes the new process; `None` is the answer in it.
fn born(target: &Target, name: &ContainerName) -> Result<Option<Child>, Failure> {
    process::join(target.process.as_fd(), Join::PROCESS_ID).ends(Status::Namespace)?;
    clone::child_in(target.cgroup.as_fd()).map_err(|error| {
        let failure = Failure::new(Status::Namespace, &error);
        match error.errno {
            Errno::AGAIN => failure.hint("is its limit of tasks reached? see [limits] tasks"),
            Errno::NOMEM | Errno::NODEV => failure.hint(format!("systemctl status {}", unit(name))),
            _ => failure,
        }
    })
}

/// Waits for a child's end, and gives the exit status that tells of it.
fn end_of(child: BorrowedFd<'_>) -> u8 {
    loop {
        match rustix::process::waitid(WaitId::PidFd(child), WaitIdOptions::EXITED) {
            Err(Errno::INTR) => {}
            Ok(Some(status)) => {
                let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
                return code.or_else(|| status.terminating_signal().map(of_signal)).unwrap_or(OWN);
            }
            Ok(None) | Err(_) => return OWN,
        }
    }
}

/// A terminal of the host's that is passed on would be there, to be read and written, for whatever the program
/// leaves behind in the container: what is typed there next may be a password. So it can only be written to, and
/// who wants to type asks for a terminal inside.
pub(super) fn no_terminals() -> Result<(), Failure> {
    let failed = |errno: Errno| {
        Failure::new(Status::Namespace, format!("can't keep the terminal out of the container: {errno}"))
    };
    let open = |path: &str, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    if is_terminal(0) {
        let nothing = open("/dev/null", OFlags::RDONLY).map_err(failed)?;
        rustix::stdio::dup2_stdin(&nothing).map_err(failed)?;
    }
    if is_terminal(1) {
        let output = open("/proc/self/fd/1", OFlags::WRONLY | OFlags::NOCTTY).map_err(failed)?;
        rustix::stdio::dup2_stdout(&output).map_err(failed)?;
    }
    if is_terminal(2) {
        let output = open("/proc/self/fd/2", OFlags::WRONLY | OFlags::NOCTTY).map_err(failed)?;
        rustix::stdio::dup2_stderr(&output).map_err(failed)?;
    }
    Ok(())
}

/// A folder of the host's as a standard stream would be a way out, by openat(2) (as in CVE-2024-21626).
pub(super) fn no_folders() -> Result<(), Failure> {
    for (number, name) in ["input", "output", "error"].into_iter().enumerate() {
        if standard(number, |fd| resolve::kind(fd) == Ok(FileType::Directory)) {
            let problem = format!("standard {name} is a folder of the host, which a container must not have");
            return Err(Failure::new(Status::Config, problem));
        }
    }
    Ok(())
}

fn standard<T>(number: usize, ask: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> T) -> T {
    match number {
        0 => ask(std::io::stdin().as_fd()),
        1 => ask(std::io::stdout().as_fd()),
        _ => ask(std::io::stderr().as_fd()),
    }
}

/// Whether a standard stream is a terminal.
pub(super) fn is_terminal(number: usize) -> bool {
    standard(number, |fd| rustix::termios::isatty(fd))
}

struct Running {
    /// To the new process.
    line: Line,
    /// To its keeper.
    told: Line,
    signals: Signals,
    /// On the host.
    pid: i32,
    pidfd: OwnedFd,
}

impl Running {
    /// Sees the new process through to its program.
    fn open_gate(&mut self, terminal: bool) -> Result<Option<Relay>, NotEntered> {
        let relay = match self.hear()? {
            Some((Message::Ready, None)) if !terminal => None,
            Some((Message::Ready, Some(master))) => {
                let terminal = Terminal::of_caller();
                Some(Relay::new(master, terminal)?)
            }
            Some((Message::Failed(failure), _)) => return Err(self.failed(failure)),
            Some(_) | None => return Err(self.died()),
        };
        self.line.say(&Message::Gate);
        match self.hear()? {
            // Exec has closed the other end.
            None => Ok(relay),
            Some((Message::Failed(failure), _)) => Err(self.failed(failure)),
            Some(_) => Err(self.died()),
        }
    }

    /// The next message. Whoever asks this process to end must not wait for a container that hangs.
    fn hear(&self) -> Result<Option<(Message, Option<std::os::fd::OwnedFd>)>, NotEntered> {
        loop {
            let mut polled =
                [PollFd::new(&self.line, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            match rustix::event::poll(&mut polled, None) {
                Err(Errno::INTR) => continue,
                Err(errno) => {
                    return Err(Failure::new(Status::Namespace, format!("can't wait: {errno}")).into());
                }
                Ok(_) => {}
            }
            if !polled[0].revents().is_empty() {
                return Ok(self.line.hear_with());
            }
            if let Some(signal @ (HUP | INT | QUIT | TERM)) = self.signals.next() {
                process::send_signal_to(self.pidfd.as_fd(), Signal::KILL.as_raw());
                self.end();
                return Err(NotEntered { code: of_signal(signal), failure: None });
            }
        }
    }

    /// The new process has said why it can't go on, and its exit status says what that means.
    fn failed(&self, failure: Failure) -> NotEntered {
        let code = match self.end() {
            code @ (NOT_RUN | MISSING) => code,
            _ => OWN,
        };
        NotEntered { code, failure: Some(failure) }
    }

    fn died(&self) -> NotEntered {
        // It may wait for the gate.
        process::send_signal_to(self.pidfd.as_fd(), Signal::KILL.as_raw());
        self.end();
        Failure::new(Status::Namespace, GONE)
            .hint("has the container just been stopped, or is its memory limit reached?")
            .into()
    }

    /// Waits for the program's end, and gives the exit status that tells of it.
    fn end(&self) -> u8 {
        match self.told.hear() {
            Some(Message::Ended(code)) => code,
            // Somebody has killed the keeper, and with it the program.
            _ => OWN,
        }
    }

    /// Stays while the program runs.
    fn stay(self, relay: Option<Relay>) -> Result<u8, NotEntered> {
        match relay {
            Some(mut relay) => {
                let program = self.pidfd.as_fd();
                relay.run(&self.signals, program, |signal| process::send_signal_to(program, signal))?;
                // The caller's terminal is as it was before anything else is said on it.
                drop(relay);
            }
            None => self.pass_signals()?,
        }
        Ok(self.end())
    }

    fn pass_signals(&self) -> Result<(), Failure> {
        let child = self.pidfd.as_fd();
        loop {
            let mut polled =
                [PollFd::from_borrowed_fd(child, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            match rustix::event::poll(&mut polled, None) {
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Failure::new(Status::Namespace, format!("can't wait: {errno}"))),
                Ok(_) => {}
            }
            if !polled[0].revents().is_empty() {
                return Ok(());
            }
            match self.signals.next() {
                // The program leads a session without a terminal, where SIGTSTP does nothing.
                Some(TSTP) => {
                    process::send_signal_to_group(child, self.pid, Signal::STOP.as_raw());
                    suspend();
                }
                // A terminal sends these to all that was started from it, and so does this.
                Some(signal @ (HUP | INT | QUIT | CONT)) => {
                    process::send_signal_to_group(child, self.pid, signal);
                }
                Some(signal) => process::send_signal_to(child, signal),
                None => {}
            }
        }
    }
}

/// Stops this process until somebody has it go on.
pub(super) fn suspend() {
    let _ = kill_process(getpid(), Signal::STOP);
}

/// As shells say it.
pub(super) fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(OWN)
}
