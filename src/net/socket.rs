//! Netlink by blocking sockets: requests in one message, and their answers.
//!
//! The framing is netlink(7)'s. The kernel answers while the request is being sent, so an answer that doesn't
//! come is a mistake, and no reason to wait for long.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

const HEADER: usize = 16;
/// How long an answer may take: no machine needs that, but none is worth waiting for forever.
const LIMIT: Duration = Duration::from_secs(10);
/// What the kernel fills with one datagram of a dump at most (`netlink_recvmsg`, 32 KiB).
const BUFFER: usize = 32 * 1024;
/// How often a dump is begun again because something changed meanwhile.
const DUMPS: u32 = 20;

/// The flags and kinds of linux/netlink.h.
pub(super) const REQUEST: u16 = 0x1;
const MULTI_PART: u16 = 0x2;
pub(super) const ACKNOWLEDGE: u16 = 0x4;
const INTERRUPTED: u16 = 0x10;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// One message to the kernel.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The protocol's own number of it.
    pub kind: u16,
    /// [`REQUEST`] and others.
    pub flags: u16,
    /// What follows netlink's header.
    pub payload: Vec<u8>,
}

/// One message from the kernel.
struct Reply<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Reply<'_> {
    /// What an acknowledgement says: 0 or a negative error number, in its first four bytes.
    fn outcome(&self) -> Result<(), Errno> {
        let number =
            self.payload.first_chunk().map_or(-Errno::BADMSG.raw_os_error(), |it| i32::from_ne_bytes(*it));
        if number == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(-number)) }
    }
}

/// A connection to one of the kernel's netlink protocols, in the network namespace of whoever opens it.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A new one, for one of `rustix::net::netlink`; `NETLINK_ROUTE` is 0, which is none.
    pub fn open(protocol: Option<Protocol>) -> Result<Self, Errno> {
        let fd = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        set_socket_timeout(&fd, Timeout::Recv, Some(LIMIT))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// From now on gets what the kernel tells everybody of a group (linux/rtnetlink.h, `RTMGRP_…`), too.
    pub fn subscribe(&self, groups: u32) -> Result<(), Errno> {
        rustix::net::bind(&self.fd, &SocketAddrNetlink::new(0, groups))
    }

    /// Sends a request, and gives its answer and whatever news comes to `seen`, until that is true; at most for
    /// [`LIMIT`]. One for both, as news may come between an answer and its acknowledgement.
    pub fn wait(&mut self, request: Request, mut seen: impl FnMut(&[u8]) -> bool) -> Result<(), Errno> {
        let mut ours = self.send(std::slice::from_ref(&request))?;
        let (started, mut done) = (Instant::now(), false);
        while !done {
            let heard = self.receive(|reply| {
                if reply.kind == ERROR {
                    return if reply.sequence == ours { reply.outcome() } else { Ok(()) };
                }
                done |= seen(reply.payload);
                Ok(())
            });
            match heard {
                // There was more news than there is room for: asked again, the answer tells the same.
                Err(Errno::NOBUFS) => ours = self.send(std::slice::from_ref(&request))?,
                other => drop(other?),
            }
            if started.elapsed() > LIMIT {
                return Err(Errno::TIMEDOUT);
            }
        }
        Ok(())
    }

    /// Sends all of them at once, and returns the first one's number; the others follow it.
    fn send(&mut self, requests: &[Request]) -> Result<u32, Errno> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(requests.iter().map(|it| it.payload.len() + HEADER + 4).sum());
        for Request { kind, flags, payload } in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let length = u32::try_from(HEADER + payload.len()).map_err(|_| Errno::MSGSIZE)?;
            bytes.extend_from_slice(&length.to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&flags.to_ne_bytes());
            bytes.extend_from_slice(&self.sequence.to_ne_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(payload);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        // The kernel takes a message whole, if at all, and only up to the size of the buffer. The default is
        // enough for some 1500 elements.
        if bytes.len() > 128 * 1024 {
            set_socket_send_buffer_size_force(&self.fd, 2 * bytes.len())?;
        }
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        Ok(first)
    }

    /// Takes the next datagram and gives each message of it to `each`.
    fn receive(&mut self, mut each: impl FnMut(Reply<'_>) -> Result<(), Errno>) -> Result<(), Errno> {
        let (_, length, from) = loop {
            match rustix::net::recvfrom(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Errno::TIMEDOUT),
                other => break other?,
            }
        };
        // Only the kernel has number 0; another process may write to this socket, too.
        match from.map(SocketAddrNetlink::try_from) {
            Some(Ok(address)) if address.pid() == 0 => {}
            _ => return Ok(()),
        }
        let mut rest = self.buffer.get(..length).ok_or(Errno::MSGSIZE)?;
        while !rest.is_empty() {
            let header: &[u8; HEADER] = rest.first_chunk().ok_or(Errno::BADMSG)?;
            let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *header;
            let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).map_err(|_| Errno::BADMSG)?;
            each(Reply {
                kind: u16::from_ne_bytes([e, f]),
                flags: u16::from_ne_bytes([g, h]),
                sequence: u32::from_ne_bytes([i, j, k, l]),
                payload: rest.get(HEADER..length).ok_or(Errno::BADMSG)?,
            })?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends requests that are each acknowledged, and returns how each went, with what was answered besides.
    pub fn ask(&mut self, requests: &[Request]) -> Result<Vec<Result<Vec<u8>, Errno>>, Errno> {
        let first = self.send(requests)?;
        let mut answers = vec![Ok(Vec::new()); requests.len()];
        let mut open = requests.len();
        while open > 0 {
            self.receive(|reply| {
                let Some(answer) = answers.get_mut(reply.sequence.wrapping_sub(first) as usize) else {
                    return Ok(());
                };
                if reply.kind != ERROR {
                    *answer = Ok(reply.payload.to_vec());
                    return Ok(());
                }
                open -= 1;
                if let Err(errno) = reply.outcome() {
                    *answer = Err(errno);
                }
                Ok(())
            })?;
        }
        Ok(answers)
    }

    /// Sends requests that hold together, of which only the last is acknowledged if all is well. Returns the
    /// first that failed, by its place.
    pub fn transact(&mut self, requests: &[Request], last: usize) -> Result<(), (usize, Errno)> {
        let first = self.send(requests).map_err(|errno| (0, errno))?;
        let mut end = None;
        while end.is_none() {
            self.receive(|reply| {
                let place = reply.sequence.wrapping_sub(first) as usize;
                if reply.kind == ERROR && place < requests.len() && end.is_none() {
                    match reply.outcome() {
                        Err(errno) => end = Some(Err((place, errno))),
                        Ok(()) if place == last => end = Some(Ok(())),
                        Ok(()) => {}
                    }
                }
                Ok(())
            })
            .map_err(|errno| (0, errno))?;
        }
        end.unwrap_or(Ok(()))
    }

    /// Everything that the kernel lists for a request, as it was at one moment.
    pub fn dump(&mut self, kind: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        for _ in 0..DUMPS {
            match self.dump_once(kind, payload) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::INTR)
    }

    fn dump_once(&mut self, kind: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let request = Request { kind, flags: REQUEST | DUMP, payload: payload.to_vec() };
        let ours = self.send(&[request])?;
        let (mut found, mut outcome, mut interrupted) = (Vec::new(), None, false);
        while outcome.is_none() {
            self.receive(|reply| {
                if reply.sequence != ours {
                    return Ok(());
                }
                interrupted |= reply.flags & INTERRUPTED != 0;
                match reply.kind {
                    ERROR => outcome = Some(reply.outcome()),
                    DONE if reply.payload.is_empty() => outcome = Some(Ok(())),
                    DONE => outcome = Some(reply.outcome()),
                    _ if reply.flags & MULTI_PART != 0 => found.push(reply.payload.to_vec()),
                    _ => return Err(Errno::BADMSG),
                }
                Ok(())
            })?;
        }
        outcome.unwrap_or(Ok(()))?;
        if interrupted { Err(Errno::INTR) } else { Ok(found) }
    }
}
