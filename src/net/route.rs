//! A container's pair of interfaces: the host's side, and the container's.
//!
//! Only [`settle`] waits, at the end: every address is usable as soon as it is added, and each side knows the
//! other's Ethernet address. Two messages go to the kernel on each side, as the second needs the number that
//! the interface got by the first.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use netlink_packet_route::link::LinkHeader;
use rustix::io::Errno;

use super::NetError;
use super::address::Attachment;
use super::request::{self, INSIDE, Step};
use super::socket::{Request, Socket};
use super::{attribute, kernel};

/// Every interface of Wharf begins with this, and the table's rules go by it.
pub const PREFIX: &str = "wharf-";
/// linux/if.h, `IFNAMSIZ`, without the NUL.
const LONGEST: usize = 15;
/// linux/if_link.h; it follows the 16 bytes of `struct ifinfomsg`.
const IFLA_IFNAME: u16 = 3;
const IFLA_OPERSTATE: u16 = 16;
pub(super) const LINK_HEADER: usize = 16;
/// linux/if.h.
const IF_OPER_UP: u8 = 6;
/// linux/rtnetlink.h: news of interfaces.
const RTMGRP_LINK: u32 = 1;

/// Connects a container's network namespace with the host: makes the pair, and sets up the host's side.
///
/// An interface of that name is one of the container's last run that the kernel is still busy taking away: it
/// is replaced. `alias` is the container's name, which `ip link` then shows. What was made is taken away if
/// something fails. Needs CAP_NET_ADMIN in both namespaces.
///
/// # Errors
/// [`NetError`].
pub fn connect(attachment: &Attachment, alias: &str, netns: BorrowedFd) -> Result<(), NetError> {
    let name = checked(&attachment.interface)?;
    let mut socket = open()?;
    // Without a port to be reached at 127.0.0.1 nothing from there has a way to the container, nor back.
    let localnet = attachment.ports.iter().any(|port| match port.at {
        None => true,
        Some(IpAddr::V4(at)) => at.is_loopback() || at.is_unspecified(),
        Some(IpAddr::V6(_)) => false,
    });
    let steps = [
        request::delete(name),
        request::create(attachment, netns),
        request::prepare(name, alias, localnet),
        request::no_own_address(name),
        request::query(name),
    ];
    let made = take(&mut socket, &steps).and_then(|index| {
        if attachment.addresses.v6.is_some() {
            kernel::prepare_interface(name)?;
        }
        let mut steps = vec![request::up(name)];
        steps.extend(request::host_side(attachment, index));
        take(&mut socket, &steps)
    });
    made.map(drop).inspect_err(|_| {
        // The first error is what is told. If this fails too, the next start replaces what is left, and the
        // pair goes with the container's namespace anyway.
        let _ = take(&mut socket, &[request::delete(name)]);
    })
}

/// Sets up the container's side. To be called in the container's network namespace, with CAP_NET_ADMIN there,
/// after [`connect`]; its addresses are usable when this returns, and the way back after [`settle`].
///
/// # Errors
/// [`NetError`].
pub fn configure(attachment: &Attachment) -> Result<(), NetError> {
    let mut socket = open()?;
    let steps =
        [request::query(INSIDE), request::up("lo"), request::no_own_address(INSIDE), request::up(INSIDE)];
    let index = take(&mut socket, &steps)?;
    take(&mut socket, &request::container_side(attachment, index)).map(drop)
}

/// Waits until the host's side carries packets. To be called after [`configure`], and before the container's
/// program starts.
///
/// The side that comes up last carries packets at once. The other one drops what is sent by it until a work of
/// the kernel has seen that the line is up (`linkwatch_do_dev`), mostly within a millisecond, but not when
/// many interfaces come and go. A program that was too fast would lose the answer to its first packet, and
/// wait a second for the next.
///
/// # Errors
/// [`NetError`], also if that doesn't happen within seconds.
pub fn settle(interface: &str) -> Result<(), NetError> {
    let name = checked(interface)?;
    let mut socket = open()?;
    let failed = |errno| NetError::step(format!("wait until the interface {name} carries packets"), errno);
    // First this, so that nothing is missed in between.
    socket.subscribe(RTMGRP_LINK).map_err(failed)?;
    let is_up = |link: &[u8]| {
        let attributes = link.get(LINK_HEADER..).unwrap_or_default();
        attribute::text(attributes, IFLA_IFNAME) == Some(name)
            && attribute::find(attributes, IFLA_OPERSTATE) == Some(&[IF_OPER_UP])
    };
    socket.wait(request::query(name).request, is_up).map_err(failed)
}

/// Takes a container's pair of interfaces away, with its routes. False if it wasn't there.
///
/// # Errors
/// [`NetError`].
pub fn disconnect(interface: &str) -> Result<bool, NetError> {
    let Step { request, action, tolerated: _ } = request::delete(checked(interface)?);
    match ask(&mut open()?, &action, &[request])?.pop() {
        Some(Err(Errno::NODEV)) => Ok(false),
        Some(Err(errno)) => Err(NetError::step(action, errno)),
        Some(Ok(_)) | None => Ok(true),
    }
}

/// The names of every interface of Wharf in this network namespace.
///
/// # Errors
/// [`NetError`].
pub fn interfaces() -> Result<Vec<String>, NetError> {
    let (kind, payload) = request::query_all();
    let links = open()?.dump(kind, &payload).map_err(|errno| NetError::step("list the interfaces", errno))?;
    let names = links.iter().filter_map(|link| name_of(link)).filter(|it| it.starts_with(PREFIX));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    Ok(names)
}

/// What an interface is called, by the kernel's message about it.
pub(super) fn name_of(link: &[u8]) -> Option<&str> {
    attribute::text(link.get(LINK_HEADER..)?, IFLA_IFNAME)
}

pub(super) fn open() -> Result<Socket, NetError> {
    Socket::open(None).map_err(|errno| NetError::step("open a netlink socket", errno))
}

/// An interface is replaced and deleted by name alone, so it must be one of ours.
fn checked(name: &str) -> Result<&str, NetError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    match name.strip_prefix(PREFIX) {
        Some(rest) if !rest.is_empty() && name.len() <= LONGEST && rest.bytes().all(good) => Ok(name),
        _ => Err(NetError::Name(name.to_owned())),
    }
}

fn ask(
    socket: &mut Socket,
    action: &str,
    requests: &[Request],
) -> Result<Vec<Result<Vec<u8>, Errno>>, NetError> {
    socket.ask(requests).map_err(|errno| NetError::step(action, errno))
}

/// Takes all steps by one message. The kernel goes on after a step that failed; the first failure is what is
/// told. Returns the number of the interface that was asked about, if one was.
fn take(socket: &mut Socket, steps: &[Step]) -> Result<u32, NetError> {
    let requests: Vec<Request> = steps.iter().map(|step| step.request.clone()).collect();
    let mut index = 0;
    for (step, answer) in steps.iter().zip(ask(socket, "speak to the kernel's router", &requests)?) {
        match answer {
            Ok(reply) if !reply.is_empty() => {
                let header = LinkHeader::parse(&reply);
                index = header.map_err(|_| NetError::step(step.action.clone(), Errno::BADMSG))?.index;
            }
            Ok(_) => {}
            Err(errno) if step.tolerated == Some(errno) => {}
            Err(errno) => return Err(NetError::step(step.action.clone(), errno)),
        }
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody's interface but Wharf's own is ever deleted.
    #[test]
    fn names() {
        for name in ["wharf-0001", "wharf-fffffffff", "wharf-a"] {
            assert!(checked(name).is_ok(), "{name}");
        }
        for name in
            ["eth0", "wharf-", "wharf", "", "wharf-0123456789", "wharf-a/b", "wharf-a\0", "wharf-%d", "lo"]
        {
            assert!(checked(name).is_err(), "{name}");
        }
    }
}
