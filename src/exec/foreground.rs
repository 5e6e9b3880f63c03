//! `wharf run` while its container runs: what is typed and written goes through, and signals go to the program.
//!
//! A container's process 1 hears only the signals that it handles (pid_namespaces(7)). A signal by which somebody at a
//! terminal wants to end the program must not come to nothing; so where the program doesn't handle it, it is killed,
//! as the signal would have done to it anywhere else.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpid, getppid};

use super::attached::{Call, Heard, Waiting, how};
use super::enter::{self, HUP, INT, QUIT, TERM, TSTP, of_signal, suspend};
use super::failure::{Ends, Failure, Status};
use super::line::Attach;
use super::relay::{Relay, Terminal};
use crate::sys::process;
use crate::sys::signals::Signals;

/// How far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program ran, and has ended; killed for this signal, where one ended it that it doesn't handle.
    Ended(Option<i32>),
    /// In the background: it runs.
    Runs,
    /// It didn't start, and the executor says why.
    Failed(Failure),
    /// What was waited for is over, and no executor had anything to say.
    Over,
    /// A signal asked for the end before the program ran.
    Asked(i32),
}

/// This process's standard streams and signals.
pub struct Foreground {
    signals: Signals,
    attach: Attach,
}

/// The signals that ask a program to end.
const ENDING: [i32; 4] = [HUP, INT, QUIT, TERM];

impl Foreground {
    /// Takes the signals; this is for before there are threads. With a program in the foreground the standard streams
    /// are looked at too: `terminal` says whether it gets one of its own, or as the caller has one.
    ///
    /// # Errors
    /// A stream that a container must not have.
    pub fn new(background: bool, terminal: Option<bool>) -> Result<Self, Failure> {
        let attach = if background {
            Attach::Background
        } else {
            enter::no_folders()?;
            let terminal = terminal.unwrap_or_else(|| enter::is_terminal(0) && enter::is_terminal(1));
            if !terminal {
                enter::no_terminals()?;
            }
            how(terminal, std::env::var("TERM").ok().filter(|term| !term.is_empty()))
        };
        let signals = Signals::take(&enter::wanted_signals()).ends(Status::Namespace)?;
        Ok(Self { signals, attach })
    }

    /// Waits until a descriptor can be read or has hung up. A signal that asks for the end ends the wait.
    ///
    /// # Errors
    /// When the kernel can't be asked to wait.
    pub fn until(&self, done: BorrowedFd<'_>) -> Result<Option<i32>, Failure> {
        loop {
            let mut polled =
                [PollFd::from_borrowed_fd(done, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            poll(&mut polled)?;
            if !polled[0].revents().is_empty() {
                return Ok(None);
            }
            match self.signals.next() {
                Some(signal) if ENDING.contains(&signal) => return Ok(Some(signal)),
                Some(TSTP) => suspend(),
                _ => {}
            }
        }
    }

    /// Sees a container through, from the executor's call to the program's end. `over` can be read, or hangs up, when
    /// there is nothing to wait for any more.
    ///
    /// # Errors
    /// When the kernel can't be asked to wait, or a terminal not be set up.
    pub fn see_through(&self, waiting: Waiting, over: BorrowedFd<'_>) -> Result<Outcome, Failure> {
        let call = {
            let mut polled = [
                PollFd::new(&waiting, PollFlags::IN),
                PollFd::from_borrowed_fd(over, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            loop {
                poll(&mut polled)?;
                if !polled[0].revents().is_empty() {
                    break waiting.answer(&self.attach)?;
                }
                if !polled[1].revents().is_empty() {
                    return Ok(Outcome::Over);
                }
                if let Some(signal) = self.signals.next().filter(|signal| ENDING.contains(signal)) {
                    return Ok(Outcome::Asked(signal));
                }
            }
        };
        drop(waiting);
        self.follow(&call)
    }

    fn follow(&self, call: &Call) -> Result<Outcome, Failure> {
        let (mut born, mut relay) = (None, None);
        loop {
            let mut polled = [PollFd::new(call, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            poll(&mut polled)?;
            if !polled[0].revents().is_empty() {
                match call.hear() {
                    Heard::Born(pid, process) => born = Some(First { pid, process }),
                    Heard::Terminal(master) => relay = Some(Relay::new(master, Terminal::of_caller())?),
                    Heard::Failed(failure) => return Ok(Outcome::Failed(failure)),
                    Heard::End => break,
                }
            } else if let Some(signal) = self.signals.next().filter(|signal| ENDING.contains(signal)) {
                return Ok(Outcome::Asked(signal));
            }
        }
        match born {
            None => Ok(Outcome::Over),
            Some(_) if self.attach == Attach::Background => Ok(Outcome::Runs),
            Some(first) => self.stay(&first, relay).map(Outcome::Ended),
        }
    }

    fn stay(&self, first: &First, relay: Option<Relay>) -> Result<Option<i32>, Failure> {
        let mut killed_for = None;
        let mut deliver = |signal| {
            if first.deliver(signal) {
                killed_for.get_or_insert(signal);
            }
        };
        let process = first.process.as_fd();
        match relay {
            // The caller's terminal is as it was before anything else is said on it.
            Some(mut relay) => relay.run(&self.signals, process, &mut deliver)?,
            None => loop {
                let mut polled = [
                    PollFd::from_borrowed_fd(process, PollFlags::IN),
                    PollFd::new(&self.signals, PollFlags::IN),
                ];
                poll(&mut polled)?;
                if !polled[0].revents().is_empty() {
                    break;
                }
                match self.signals.next() {
                    Some(TSTP) => suspend(),
                    Some(signal) => deliver(signal),
                    None => {}
                }
            },
        }
        Ok(killed_for)
    }
}

fn poll(polled: &mut [PollFd<'_>]) -> Result<(), Failure> {
    match rustix::event::poll(polled, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Failure::new(Status::Namespace, format!("can't wait: {errno}"))),
    }
}

/// The container's first process.
struct First {
    pid: i32,
    process: OwnedFd,
}

impl First {
    /// Sends it a signal; says whether that was SIGKILL, in the place of one that it doesn't handle.
    fn deliver(&self, signal: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        // It was its status if it lives still.
        let deaf =
            ENDING.contains(&signal) && is_deaf(&status, signal) && process::is_alive(self.process.as_fd());
        process::send_signal_to(self.process.as_fd(), if deaf { Signal::KILL.as_raw() } else { signal });
        deaf
    }
}

/// Whether a process has neither a handler for a signal, nor blocks it so as to read it, nor ignores it on purpose:
/// from /proc/PID/status (proc_pid_status(5)).
fn is_deaf(status: &str, signal: i32) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
    };
    let (Some(caught), Some(blocked), Some(ignored)) = (mask("SigCgt"), mask("SigBlk"), mask("SigIgn"))
    else {
        return false;
    };
    (caught | blocked | ignored) & (1 << (signal - 1)) == 0
}

/// The exit status for a program that a signal has ended, as shells say it.
pub fn status_of_signal(signal: i32) -> u8 {
    of_signal(signal)
}

/// A process that ends when this one does, whatever ends it. It does nothing, and is what systemd can see of this one
/// in a scope of its own, without this one being taken out of its session.
///
/// To be called while there is one thread.
///
/// # Errors
/// What fork(2) says.
pub fn shadow() -> Result<Pid, Failure> {
    let parent = getpid();
    if let Some(shadow) = process::fork().ends(Status::Namespace)? {
        return Ok(shadow);
    }
    let _ = rustix::process::setsid();
    process::block_signals();
    let _ = rustix::thread::set_name(c"wharf-run");
    if process::end_with_parent().is_err() || getppid() != Some(parent) {
        process::end(0);
    }
    // What reads the caller's output would wait for its last copy.
    let _ =
        rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).map(|nothing| {
            let _ = rustix::stdio::dup2_stdin(&nothing);
            let _ = rustix::stdio::dup2_stdout(&nothing);
            let _ = rustix::stdio::dup2_stderr(&nothing);
        });
    loop {
        process::wait_for_signal();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_what() {
        let status = "SigBlk:\t0000000000000002\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000004000\n";
        assert_eq!(ENDING.map(|signal| is_deaf(status, signal)), [false, false, true, false]);
        assert!(!is_deaf("", TERM), "one that has ended");
    }
}
