//! The line between the executor and the container's first process: a pair of sockets that keeps messages
//! apart. Its end is a message too. For the first process it means that the executor is dead; for the
//! executor, after the gate, that the program runs, since exec closes the other end.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, Status};

/// One end.
#[derive(Debug)]
pub struct Line(OwnedFd);

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// To the first process: the root stands, take the inner steps.
    RootStands,
    /// From it: all is done but the last.
    Ready,
    /// To it: systemd knows you, run the program.
    Gate,
    /// From it: a step failed.
    Failed(Failure),
    /// From the keeper of an entered program: it is born, with this id on the host; its descriptor is with it.
    Born(i32),
    /// From the keeper: the program has ended, with this exit status.
    Ended(u8),
    /// From `wharf run` to the executor: how the program is attached to it.
    Attach(Attach),
    /// From `wharf run`: with a standard stream of its own.
    Stream,
}

/// What a program that `wharf run` has started reads and writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attach {
    /// Nothing, and the journal.
    Background,
    /// The caller's standard streams, which follow.
    Streams,
    /// A terminal of its own.
    Terminal {
        /// What the caller's understands (`TERM`).
        term: Option<String>,
        /// The caller's standard error is no terminal and is the program's too; it follows.
        error: bool,
    },
}

impl Attach {
    /// How many streams follow, the last of input, output and error.
    pub fn streams(&self) -> usize {
        match self {
            Self::Background => 0,
            Self::Streams => 3,
            Self::Terminal { term: _, error } => usize::from(*error),
        }
    }
}

/// Longer than any failure, whose parts are cut to 4 KiB each; an escape in JSON can take six bytes for one.
const LONGEST: usize = 128 << 10;

impl Line {
    /// One that is there.
    pub fn of(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Both ends, each closed by exec.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn pair() -> Result<(Self, Self), Failure> {
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map(|(one, other)| (Self(one), Self(other)))
            .map_err(|errno| {
                Failure::new(Status::Namespace, format!("can't make a pair of sockets: {errno}"))
            })
    }

    /// Says something; a dead listener is no error here, since it shows at the next [`Line::hear`].
    pub fn say(&self, message: &Message) {
        let text = serde_json::to_vec(message).unwrap_or_default();
        let _ = rustix::net::send(&self.0, &text, SendFlags::NOSIGNAL);
    }

    /// Says something and hands a descriptor over with it (SCM_RIGHTS, unix(7)).
    pub fn say_with(&self, message: &Message, fd: BorrowedFd<'_>) {
        let text = serde_json::to_vec(message).unwrap_or_default();
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        beside.push(SendAncillaryMessage::ScmRights(&fds));
        let _ = rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL);
    }

    /// Waits for the next message, and the descriptor that may be with it.
    pub fn hear_with(&self) -> Option<(Message, Option<OwnedFd>)> {
        let mut text = vec![0; LONGEST];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut beside = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::net::recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut text)],
                &mut beside,
                RecvFlags::CMSG_CLOEXEC,
            );
            let size = match received {
                Err(Errno::INTR) => continue,
                Ok(received) if received.bytes > 0 => received.bytes,
                Ok(_) | Err(_) => return None,
            };
            let fd = beside.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            return serde_json::from_slice(&text[..size]).ok().map(|message| (message, fd));
        }
    }

    /// Waits for the next message; `None` at the end.
    pub fn hear(&self) -> Option<Message> {
        let mut text = vec![0; LONGEST];
        loop {
            match rustix::net::recv(&self.0, text.as_mut_slice(), RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Ok((0, _)) | Err(_) => return None,
                Ok((size, _)) => return serde_json::from_slice(&text[..size]).ok(),
            }
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
