//! What the kernel remembers of UDP's "connections", where a published port makes it wrong.
//!
//! The maps are asked with the first packet of a connection only. A client that goes on sending from one port
//! while the container is down, as log and metrics senders do, keeps a connection to the host itself alive, or
//! to another container that had the port before, and would never get to the container.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use rustix::io::Errno;
use rustix::net::netlink;

use super::NetError;
use super::attribute::{Attributes, find};
use super::socket::{ACKNOWLEDGE, REQUEST, Request, Socket};
use super::table::Element;
use crate::spec::Protocol;

/// linux/netfilter/nfnetlink_conntrack.h; the subsystem is 1.
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_FROM: u16 = 2;
const PROTOCOL_TO: u16 = 3;
/// `struct nfgenmsg`.
const HEADER: usize = 4;

/// Forgets the UDP connections to published ports that lead elsewhere. To be called once the elements are in
/// the table; without a UDP port among them it does nothing.
///
/// # Errors
/// [`NetError`].
pub fn forget(elements: &BTreeSet<Element>) -> Result<(), NetError> {
    let failed = |errno| NetError::step("forget old connections to published ports", errno);
    for v4 in [true, false] {
        let ports: Vec<&Element> = elements.iter().filter(|it| is_udp(it, v4)).collect();
        if ports.is_empty() {
            continue;
        }
        let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
        let header = [u8::try_from(family).unwrap_or_default(), 0, 0, 0];
        let mut socket = Socket::open(Some(netlink::NETFILTER)).map_err(failed)?;
        for entry in socket.dump(GET, &header).map_err(failed)? {
            let entry = entry.get(HEADER..).unwrap_or_default();
            if let Some(original) = find(entry, ORIGINAL)
                && ports.iter().any(|port| is_wrong(entry, port) == Some(true))
            {
                let payload = Attributes::after(&header).nested(ORIGINAL, Attributes::after(original)).done();
                let request = Request { kind: DELETE, flags: REQUEST | ACKNOWLEDGE, payload };
                match socket.ask(&[request]).map_err(failed)?.pop() {
                    // It has just ended.
                    Some(Err(Errno::NOENT)) | Some(Ok(_)) | None => {}
                    Some(Err(errno)) => return Err(failed(errno)),
                }
            }
        }
    }
    Ok(())
}

fn is_udp(element: &Element, v4: bool) -> bool {
    matches!(element, Element::Port { protocol: Protocol::Udp, to, .. } if to.is_ipv4() == v4)
}

/// Whether a connection goes to a published port at an address of the host, and on to somebody else than its
/// container. Nothing if it can't be read.
fn is_wrong(entry: &[u8], element: &Element) -> Option<bool> {
    let Element::Port { at, protocol, port, to, to_port } = element else { return None };
    let (original, reply) = (find(entry, ORIGINAL)?, find(entry, REPLY)?);
    let transport = find(original, PROTOCOL)?;
    let host = address(original, 1)?;
    Some(
        find(transport, PROTOCOL_NUMBER)? == [protocol.number()]
            && find(transport, PROTOCOL_TO)? == port.to_be_bytes()
            && at.is_none_or(|at| at == host)
            && (address(reply, 0)? != *to
                || find(find(reply, PROTOCOL)?, PROTOCOL_FROM)? != to_port.to_be_bytes())
            && is_local(host),
    )
}

/// The source (0) or destination (1).
fn address(tuple: &[u8], which: u16) -> Option<IpAddr> {
    let addresses = find(tuple, ADDRESSES)?;
    let four = |value: &[u8]| Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into());
    let six = |value: &[u8]| Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into());
    find(addresses, 1 + which).and_then(four).or_else(|| find(addresses, 3 + which).and_then(six))
}

/// Whether an address is one of the host's own: only those can be bound. The same port of another machine is
/// somebody's business with that one.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
