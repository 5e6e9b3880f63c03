//! The processes that make up a machine, and that none of them outlives us.
//!
//! A machine's processes get `PR_SET_PDEATHSIG`, so that they die with the test
//! however it dies. That signal is sent when the *thread* that forked them ends,
//! so one thread that lives as long as the program does all the forking.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::error::{Context, Error, Result};

/// How long a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Not longer than the program that started it, nor than the value that stands for it.
    Ours,
    /// Until somebody stops it: for machines that a shell script or a person uses.
    Detached,
}

/// A process, told apart from a later one with the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// Its start time, in clock ticks since the host booted (proc_pid_stat(5), field 22).
    pub started: u64,
}

impl Identity {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Identity> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything, so count from behind it.
        let (_, after) = stat.rsplit_once(')')?;
        let started = after.split_whitespace().nth(19)?.parse().ok()?;
        Some(Identity { pid, started })
    }

    /// Whether that very process is still there.
    pub fn is_alive(self) -> bool {
        Identity::of(self.pid) == Some(self)
    }
}

/// The children of a process, and theirs.
pub fn descendants(pid: i32) -> Vec<Identity> {
    // A process that ends while we look has no children any more.
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.flat_map(|pid| Identity::of(pid).into_iter().chain(descendants(pid))).collect()
}

/// A process of a machine: a handle that signals and awaits it without a race.
#[derive(Debug)]
pub struct Process {
    name: String,
    identity: Identity,
    pidfd: OwnedFd,
    child: Option<Child>,
    lifetime: Lifetime,
}

impl Process {
    /// Starts a program; its output goes where `command` says.
    pub fn start(name: &str, mut command: Command, lifetime: Lifetime) -> Result<Process> {
        command.stdin(Stdio::null());
        if lifetime == Lifetime::Detached {
            // So that a ^C for the program that starts it is not for it as well.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
        }
        let child = fork(command).context(|| format!("start {name}"))?;
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        let pidfd = open(pid).context(|| format!("get hold of {name}"))?;
        let identity = Identity::of(pid).unwrap_or(Identity { pid, started: 0 });
        Ok(Process { name: name.to_owned(), identity, pidfd, child: Some(child), lifetime })
    }

    /// Gets hold of a process that is no child of ours (or not known to be one).
    pub fn find(name: &str, identity: Identity, lifetime: Lifetime) -> Option<Process> {
        let pidfd = open(identity.pid).ok()?;
        // Asked after the handle was taken: now it is certain which process the handle is for.
        identity.is_alive().then(|| Process { name: name.to_owned(), identity, pidfd, child: None, lifetime })
    }

    /// Which process this is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The handle, readable once the process has ended.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Whether it has ended by then. This is also how to let a little time pass
    /// while something is awaited: it returns early if the wait has become pointless.
    pub fn ended_within(&self, patience: Duration) -> bool {
        ended(&self.pidfd, Instant::now() + patience)
    }

    /// Kills it, as a power cut does, and returns when it is gone.
    pub fn kill(&mut self) -> Result<()> {
        // It may have ended by itself in the meantime: that is what is wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.reap(Duration::from_secs(10))
    }

    /// Waits for it to end by itself.
    pub fn reap(&mut self, patience: Duration) -> Result<()> {
        if !self.ended_within(patience) {
            return Err(Error::TimedOut { what: format!("the end of {}", self.name), after: patience });
        }
        if let Some(mut child) = self.child.take() {
            child.wait().context(|| format!("wait for {}", self.name))?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Ours {
            // In a drop there is nobody to tell, and the process dies with us at the latest.
            let _ = self.kill();
        }
    }
}

/// `program` as a command that dies by `signal` ("KILL") when we do.
pub fn mortal(program: &str, signal: &str, lifetime: Lifetime) -> Command {
    match lifetime {
        Lifetime::Detached => Command::new(program),
        Lifetime::Ours => {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", signal, "--", program]);
            command
        }
    }
}

/// Runs a tool of the host to its end, in `dir`, with its output in what it returns.
pub fn tool(program: &str, dir: &Path, arrange: impl FnOnce(&mut Command)) -> Result<String> {
    let mut command = mortal(program, "TERM", Lifetime::Ours);
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    arrange(&mut command);
    let child = fork(command).context(|| format!("start {program}"))?;
    let done = child.wait_with_output().context(|| format!("read what {program} says"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Error::Tool { program: program.to_owned(), status: done.status, output: last_lines(&said, 30) })
}

/// How a command of ours ended, and what it wrote.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
}

/// Runs a command with `input` on its stdin; `None` when it had to be killed after `patience`.
pub fn run(
    mut command: Command,
    mut input: impl Read + Send,
    patience: Duration,
) -> Result<Option<Finished>> {
    let until = Instant::now() + patience;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = fork(command).context(|| "start a command for the machine")?;
    let pidfd = open(i32::try_from(child.id()).unwrap_or(i32::MAX)).context(|| "get hold of a command")?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that does not read its input to the end closes it: its own business.
            let _ = stdin.map(|mut stdin| std::io::copy(&mut input, &mut stdin));
        });
        let stdout = scope.spawn(move || drain(stdout));
        let stderr = scope.spawn(move || drain(stderr));
        let in_time = ended(&pidfd, until);
        if !in_time {
            let _ = child.kill();
        }
        let status = child.wait().context(|| "wait for a command")?;
        let finished = Finished {
            status,
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        };
        Ok(in_time.then_some(finished))
    })
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Waits until one of two descriptors is readable; false when the time is over first.
pub fn either_readable(one: &OwnedFd, other: impl std::os::fd::AsFd, until: Instant) -> bool {
    let mut fds = [PollFd::new(one, PollFlags::IN), PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN)];
    await_any(&mut fds, until)
}

/// Forks in the one thread that never ends.
pub fn fork(command: Command) -> std::io::Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static FORKER: OnceLock<Sender<Order>> = OnceLock::new();
    let forker = FORKER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                // Whoever asked waits for the answer; if it panicked, nobody needs it.
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, answer) = channel();
    forker.send((command, reply)).map_err(|_| std::io::Error::other("the forking thread is gone"))?;
    answer.recv().map_err(|_| std::io::Error::other("the forking thread is gone"))?
}

fn open(pid: i32) -> rustix::io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::empty())
}

fn ended(pidfd: &OwnedFd, until: Instant) -> bool {
    await_any(&mut [PollFd::new(pidfd, PollFlags::IN)], until)
}

fn await_any(fds: &mut [PollFd<'_>], until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        match poll(fds, timeout.as_ref()) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn drain(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before an error is what there is to show.
    let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
    bytes
}
