//! The line between the executor and the container's first process: a pair of sockets that keeps messages
//! apart. Its end is a message too. For the first process it means that the executor is dead; for the
//! executor, after the gate, that the program runs, since exec closes the other end.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
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
}

/// Longer than any failure, whose parts are cut to 4 KiB each; an escape in JSON can take six bytes for one.
const LONGEST: usize = 128 << 10;

impl Line {
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
