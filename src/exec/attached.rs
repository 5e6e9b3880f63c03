//! A start that somebody waits for at a terminal: what `wharf run` and the executor say to each other.
//!
//! ```text
//!  wharf run          listens at `line` in the container's folder, has systemd start the unit
//!      │ ◄── connects ────────────── wharf-executor start
//!      ├── "yours", and its streams ──►
//!      │ ◄── "born", and a descriptor of the first process
//!      │ ◄── the master of the first process's own terminal, which that has made
//!      │ ◄── end of the line: the program runs; or "failed", and why
//! ```
//!
//! Descriptors go from hand to hand and not by way of systemd, which would keep copies of them for as long as the unit
//! is there: whoever reads the program's output would not see its end. The executor itself goes on speaking to the
//! journal.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::failure::{Failure, Status};
use super::inside;
use super::line::{Attach, Line, Message};
use crate::sys::clone::Child;
use crate::transient;

/// How many standard streams there are.
const STREAMS: usize = 3;

/// The executor's end.
#[derive(Debug)]
pub struct Attached {
    line: Line,
    how: Attach,
    /// The caller's streams, as far as they are the program's.
    streams: Vec<OwnedFd>,
}

impl Attached {
    /// Who waits for the container of this folder; nobody where it was started in the background, or where whoever
    /// did it has died.
    ///
    /// # Errors
    /// A caller who says nothing that can be understood.
    pub fn find(folder: &Path) -> Result<Option<Self>, Failure> {
        let Ok(folder) = File::open(folder) else { return Ok(None) };
        let failed = |errno: Errno| {
            Failure::new(
                Status::Config,
                format!("can't reach the `wharf run` that waits for this start: {errno}"),
            )
        };
        let address = SocketAddrUnix::new(transient::line_in(&folder)).map_err(failed)?;
        let socket = seqpacket().map_err(failed)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        }
        let line = Line::of(socket);
        let gone = || Failure::new(Status::Config, "the `wharf run` that waited for this start has gone");
        let Some((Message::Attach(how), None)) = line.hear_with() else { return Err(gone()) };
        let mut streams = Vec::new();
        for _ in 0..how.streams() {
            let Some((Message::Stream, Some(stream))) = line.hear_with() else { return Err(gone()) };
            streams.push(stream);
        }
        Ok(Some(Self { line, how, streams }))
    }

    /// The first process is born, and all that could fail is done but the program.
    pub fn born(&self, child: &Child) {
        self.line.say_with(&Message::Born(child.pid.as_raw_nonzero().get()), child.pidfd.as_fd());
    }

    /// It won't run.
    pub fn failed(&self, failure: &Failure) {
        self.line.say(&Message::Failed(failure.clone()));
    }

    /// What the caller's terminal understands, where the program gets one of its own.
    pub fn term(&self) -> Option<&str> {
        match &self.how {
            Attach::Terminal { term, .. } => term.as_deref(),
            Attach::Background | Attach::Streams => None,
        }
    }

    /// In the first process, which is the program's user by now: takes the caller's streams, or makes a terminal and
    /// hands its master over.
    ///
    /// # Errors
    /// What the kernel says; the devpts of the image isn't one.
    pub fn take(&mut self) -> Result<(), Failure> {
        let failed = |errno: Errno| {
            Failure::new(Status::Namespace, format!("can't take the caller's standard streams: {errno}"))
        };
        match &self.how {
            Attach::Background => {}
            Attach::Streams => {
                if let [input, output, error] = self.streams.as_slice() {
                    rustix::stdio::dup2_stdin(input).map_err(failed)?;
                    rustix::stdio::dup2_stdout(output).map_err(failed)?;
                    rustix::stdio::dup2_stderr(error).map_err(failed)?;
                }
            }
            Attach::Terminal { .. } => {
                let error = self.streams.first();
                let master = inside::own_terminal(error.is_none())?;
                if let Some(error) = error {
                    rustix::stdio::dup2_stderr(error).map_err(failed)?;
                }
                self.line.say_with(&Message::Ready, master.as_fd());
            }
        }
        self.streams.clear();
        Ok(())
    }
}

fn seqpacket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Where `wharf run` waits for the executor.
#[derive(Debug)]
pub struct Waiting {
    socket: OwnedFd,
    folder: File,
}

impl Waiting {
    /// Listens in a container's folder.
    ///
    /// # Errors
    /// What socket(2) and bind(2) say.
    pub fn listen(folder: &Path) -> Result<Self, Failure> {
        let failed = |problem: String| {
            Failure::new(
                Status::Config,
                format!("can't wait for the executor in {}: {problem}", folder.display()),
            )
        };
        let listen = |folder: &File| -> Result<OwnedFd, Errno> {
            let socket = seqpacket()?;
            rustix::net::bind(&socket, &SocketAddrUnix::new(transient::line_in(folder))?)?;
            rustix::net::listen(&socket, 1)?;
            Ok(socket)
        };
        let folder = File::open(folder).map_err(|error| failed(error.to_string()))?;
        let socket = listen(&folder).map_err(|errno| failed(errno.to_string()))?;
        Ok(Self { socket, folder })
    }

    /// Takes the executor's call, once something can be read here, and tells it how the program is attached. Nobody
    /// else finds the socket from then on.
    ///
    /// # Errors
    /// What accept(2) says.
    pub fn answer(&self, how: &Attach) -> Result<Call, Failure> {
        let call = rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC)
            .map_err(|errno| Failure::new(Status::Config, format!("can't hear the executor: {errno}")))?;
        let _ = fs::remove_file(transient::line_in(&self.folder));
        let line = Line::of(call);
        line.say(&Message::Attach(how.clone()));
        let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
        for stream in &streams[STREAMS - how.streams()..] {
            line.say_with(&Message::Stream, *stream);
        }
        Ok(Call { line })
    }
}

impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The executor on the line.
#[derive(Debug)]
pub struct Call {
    line: Line,
}

/// What it says.
#[derive(Debug)]
pub enum Heard {
    /// The first process's id on the host, and a descriptor of it.
    Born(i32, OwnedFd),
    /// The master of its terminal.
    Terminal(OwnedFd),
    /// Why it won't run.
    Failed(Failure),
    /// The program runs, or nobody is left to say anything.
    End,
}

impl Call {
    /// The next that it says.
    pub fn hear(&self) -> Heard {
        match self.line.hear_with() {
            Some((Message::Born(pid), Some(process))) => Heard::Born(pid, process),
            Some((Message::Ready, Some(master))) => Heard::Terminal(master),
            Some((Message::Failed(failure), _)) => Heard::Failed(failure),
            _ => Heard::End,
        }
    }
}

impl AsFd for Call {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

/// How a program is attached to this process's standard streams, with or without a terminal of its own.
pub fn how(terminal: bool, term: Option<String>) -> Attach {
    if terminal { Attach::Terminal { term, error: !super::enter::is_terminal(2) } } else { Attach::Streams }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_calls_and_the_other_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        // Longer than the address of a socket can be.
        let deep = folder.path().join("a".repeat(120));
        fs::create_dir(&deep).expect("made");
        assert!(Attached::find(&deep).expect("nobody is no failure").is_none());
        let waiting = Waiting::listen(&deep).expect("listening");
        let executor = {
            let deep = deep.clone();
            std::thread::spawn(move || {
                let attached = Attached::find(&deep).expect("found").expect("somebody");
                attached.failed(&Failure::new(Status::Exec, "no"));
                attached.streams.len()
            })
        };
        let call = waiting.answer(&Attach::Streams).expect("answered");
        assert!(matches!(call.hear(), Heard::Failed(failure) if failure.problem == "no"));
        assert!(matches!(call.hear(), Heard::End));
        assert_eq!(executor.join().expect("ended"), STREAMS);
        // The next start of the same unit finds nobody.
        assert!(Attached::find(&deep).expect("nobody is no failure").is_none());
    }
}
