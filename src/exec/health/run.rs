//! One check: a process of its own that leads its group, and the end of what it says.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitStatus};

use super::judge::Outcome;
use super::probe;
use crate::exec::handover::line;
use crate::exec::program;
use crate::plan::health::Probe;
use crate::spec::show_duration;
use crate::sys::process;

/// How much of the end of what a check says is kept: its last line.
const KEPT: usize = 4096;

/// How much is read at a time, and how much of what is left when it has ended: a pipe holds 64 KiB.
const PART: usize = 4096;
const PARTS_LEFT: usize = 16;

/// How long a killed check may take to end. One that waits in the kernel, for a disk that doesn't answer, doesn't.
const LAST: Duration = Duration::from_secs(1);

/// The program's own environment, for checks that are programs.
pub struct Surroundings<'a> {
    /// `NAME=value`.
    pub environment: &'a [CString],
    /// `PATH`.
    pub path: &'a str,
}

/// A check on its way.
#[derive(Debug)]
pub struct Run {
    pid: Pid,
    output: Option<OwnedFd>,
    tail: Vec<u8>,
    /// When it has its result, at the latest.
    pub deadline: Instant,
    timeout: Duration,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Runs,
    Killed,
    /// Killed, and still there when that had had its time.
    Stuck,
}

impl Run {
    /// Begins a check. `Err` is one that has failed by that.
    pub fn begin(check: &Probe, timeout: Duration, around: &Surroundings<'_>) -> Result<Self, Outcome> {
        let failed = |errno: Errno| Outcome::Failed(format!("can't check: {}", crate::sys::explain(errno)));
        let (output, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        // Only this end: programs don't expect to be told to come again.
        rustix::io::ioctl_fionbio(&output, true).map_err(failed)?;
        match process::fork() {
            Err(error) => Err(failed(error.errno)),
            Ok(None) => {
                drop(output);
                process::end(i32::from(!inside(check, timeout, around, &input)))
            }
            Ok(Some(pid)) => Ok(Self::of(pid, Some(output), timeout)),
        }
    }

    pub(super) fn of(pid: Pid, output: Option<OwnedFd>, timeout: Duration) -> Self {
        let deadline = Instant::now() + timeout;
        Self { pid, output, tail: Vec::new(), deadline, timeout, phase: Phase::Runs }
    }

    /// Where it says something.
    pub fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    /// Takes in what it says. There may be no end to it, so this takes one part of it.
    pub fn listen(&mut self) -> bool {
        let Some(output) = &self.output else { return false };
        let mut part = [0; PART];
        match rustix::io::read(output, &mut part) {
            Ok(0) => {
                self.output = None;
                false
            }
            Ok(size) => {
                self.tail.extend_from_slice(&part[..size]);
                let over = self.tail.len().saturating_sub(KEPT);
                self.tail.drain(..over);
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            Err(_) => {
                self.output = None;
                false
            }
        }
    }

    /// Ends it, with all that it has started and that has not left its group. The group may not be there yet.
    fn kill(&mut self, now: Instant) {
        self.phase = Phase::Killed;
        self.deadline = now + LAST;
        self.end_group();
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
    }

    fn end_group(&self) {
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }

    /// Ends it, as nobody wants to know any more.
    pub fn abandon(&mut self, now: Instant) {
        self.output = None;
        if self.phase == Phase::Runs {
            self.kill(now);
        }
    }

    /// Does what is due: kills it when its time is over; and says what it came to where that has no effect.
    pub fn look(&mut self, now: Instant) -> Option<Outcome> {
        match self.phase {
            Phase::Runs if now >= self.deadline => {
                self.kill(now);
                None
            }
            Phase::Killed if now >= self.deadline => {
                self.phase = Phase::Stuck;
                Some(self.stuck())
            }
            Phase::Runs | Phase::Killed | Phase::Stuck => None,
        }
    }

    /// Whether it had its time, was killed and is there all the same.
    pub fn is_stuck(&self) -> bool {
        self.phase == Phase::Stuck
    }

    /// What it comes to as long as it is.
    pub fn stuck(&self) -> Outcome {
        let time = show_duration(self.timeout);
        Outcome::Failed(format!("no result within {time}, and the check can't be killed"))
    }

    /// Whether this is its process.
    pub fn is(&self, pid: Pid) -> bool {
        self.pid == pid
    }

    /// What it came to, where that isn't known yet; it has just been reaped. What it has left in the background ends
    /// too, unless it has left the group (setsid(2)). Its id could only be another group's by now if all others had
    /// been given away since.
    pub fn ended(mut self, status: WaitStatus) -> Option<Outcome> {
        self.end_group();
        for _ in 0..PARTS_LEFT {
            if !self.listen() {
                break;
            }
        }
        let killed = match self.phase {
            Phase::Runs => None,
            Phase::Killed => Some(self.timeout),
            Phase::Stuck => return None,
        };
        Some(outcome(&self.tail, status.exit_status(), status.terminating_signal(), killed))
    }
}

/// By what it said, its exit status or the signal that it died of, and its time where that was over.
fn outcome(tail: &[u8], code: Option<i32>, signal: Option<i32>, killed: Option<Duration>) -> Outcome {
    let said = last_line(tail);
    if let Some(timeout) = killed {
        let problem = format!("no result within {}", show_duration(timeout));
        let more = if said.is_empty() { said } else { format!(", and last it said: {said}") };
        return Outcome::Failed(format!("{problem}{more}"));
    }
    if code == Some(0) {
        return Outcome::Passed(said);
    }
    let how = match (code, signal) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it ended nobody knows how".to_owned(),
    };
    Outcome::Failed(if said.is_empty() { how } else { said })
}

/// The last line with something in it.
fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line(last.unwrap_or_default())
}

/// The check's own process; whether all is well.
fn inside(check: &Probe, timeout: Duration, around: &Surroundings<'_>, output: &OwnedFd) -> bool {
    let _ = rustix::process::setsid();
    let nothing = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    if nothing.is_ok_and(|nothing| rustix::stdio::dup2_stdin(nothing).is_err())
        || rustix::stdio::dup2_stdout(output).is_err()
        || rustix::stdio::dup2_stderr(output).is_err()
    {
        return false;
    }
    let say = |text: &str| {
        let _ = rustix::io::write(output, text.as_bytes());
    };
    let result = match check {
        Probe::Program(words) => Err(become_program(words, around)),
        Probe::Http(page) => {
            page.parse().map_err(|error| format!("{error}")).and_then(|page| probe::http(&page, timeout))
        }
        Probe::Tcp(place) => {
            place.parse().map_err(|error| format!("{error}")).and_then(|place| probe::tcp(place, timeout))
        }
    };
    match result {
        Ok(text) => {
            say(&text);
            true
        }
        Err(text) => {
            say(&text);
            false
        }
    }
}

/// Comes back only to say why not.
fn become_program(words: &[String], around: &Surroundings<'_>) -> String {
    let Some(name) = words.first() else { return "there is nothing to run".to_owned() };
    let Ok(arguments) = process::c_strings(words.iter().map(String::as_str)) else {
        return "an argument holds a zero byte".to_owned();
    };
    process::plain_signals();
    program::exec(name, around.path, &arguments, around.environment).failure.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines() {
        assert_eq!(last_line(b"one\ntwo  \n\n \n"), "two");
        assert_eq!(last_line(b"a\x1b[31m\tb"), "a [31m b");
        assert_eq!(last_line(b"\n"), "");
        assert_eq!(last_line(b"\xff\n"), "\u{fffd}");
    }

    #[test]
    fn outcomes() {
        assert_eq!(outcome(b"fine\n", Some(0), None, None), Outcome::Passed("fine".into()));
        assert_eq!(outcome(b"", Some(2), None, None), Outcome::Failed("exit status 2".into()));
        assert_eq!(outcome(b"no\n", Some(1), None, None), Outcome::Failed("no".into()));
        assert_eq!(outcome(b"", None, Some(9), None), Outcome::Failed("killed by signal 9".into()));
        let late = outcome(b"waiting\n", None, Some(9), Some(Duration::from_secs(5)));
        assert_eq!(late, Outcome::Failed("no result within 5s, and last it said: waiting".into()));
    }
}
