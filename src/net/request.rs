//! The messages of a container's interfaces, each with what it is for in words. Pure.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::Emitable;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoKind, InfoVeth,
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::address::{Attachment, LINK_LOCAL_GATEWAY, Mac};
use super::socket::{ACKNOWLEDGE, CREATE, EXCLUSIVE, REQUEST, Request};

/// The container's side of the pair, as everybody calls a machine's first interface.
pub(super) const INSIDE: &str = "eth0";

/// The routes of a machine's own addresses (linux/rtnetlink.h).
const RT_TABLE_LOCAL: u8 = 255;

/// A message to be sent.
pub(super) struct Step {
    /// What it does, in words that follow "can't".
    pub action: String,
    /// The error that is no failure of it.
    pub tolerated: Option<Errno>,
    /// The message.
    pub request: Request,
}

fn step(action: impl Into<String>, flags: u16, message: &RouteNetlinkMessage) -> Step {
    let request = Request {
        kind: message.message_type(),
        flags: REQUEST | ACKNOWLEDGE | flags,
        payload: bytes(message),
    };
    Step { action: action.into(), tolerated: None, request }
}

fn bytes(message: &RouteNetlinkMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

fn link(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The length of a prefix that is one address.
fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Deletes an interface; the other side of its pair goes with it.
pub(super) fn delete(name: &str) -> Step {
    let message = link(vec![LinkAttribute::IfName(name.into())]);
    let tolerated = Some(Errno::NODEV);
    Step {
        tolerated,
        ..step(format!("delete the interface {name}"), 0, &RouteNetlinkMessage::DelLink(message))
    }
}

/// Makes the pair: one side here, one in the container's namespace.
pub(super) fn create(attachment: &Attachment, netns: BorrowedFd) -> Step {
    let peer = link(vec![
        LinkAttribute::IfName(INSIDE.into()),
        LinkAttribute::Address(attachment.mac().into()),
        LinkAttribute::NetNsFd(netns.as_raw_fd()),
    ]);
    let message = link(vec![
        LinkAttribute::IfName(attachment.interface.clone()),
        LinkAttribute::Address(attachment.gateway_mac().into()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ]);
    let action = format!("make the interface {}", attachment.interface);
    step(action, CREATE | EXCLUSIVE, &RouteNetlinkMessage::NewLink(message))
}

/// Names the container in what `ip link` shows, and makes the interface forward, also for 127.0.0.1.
pub(super) fn prepare(name: &str, alias: &str, localnet: bool) -> Step {
    let mut settings = InetDevConf::default();
    settings.forwarding = 1;
    settings.route_localnet = localnet.into();
    let message = link(vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::IfAlias(alias.into()),
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(settings)])]),
    ]);
    step(format!("set up the interface {name}"), 0, &RouteNetlinkMessage::SetLink(message))
}

/// Keeps the kernel from making a link-local address of its own, which nobody would know and which would wait
/// for duplicate address detection. To be sent before the interface is up; a kernel without IPv6 refuses it
/// and needs no such thing.
pub(super) fn no_own_address(name: &str) -> Step {
    let mode = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
    let message = link(vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(mode)]),
    ]);
    let action = format!("keep {name} from making an IPv6 address of its own");
    Step { tolerated: Some(Errno::AFNOSUPPORT), ..step(action, 0, &RouteNetlinkMessage::SetLink(message)) }
}

/// Brings an interface up.
pub(super) fn up(name: &str) -> Step {
    let mut message = link(vec![LinkAttribute::IfName(name.into())]);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    step(format!("bring up the interface {name}"), 0, &RouteNetlinkMessage::SetLink(message))
}

/// Asks about an interface.
pub(super) fn query(name: &str) -> Step {
    let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    let message = link(vec![LinkAttribute::IfName(name.into()), mask]);
    step(format!("find the interface {name}"), 0, &RouteNetlinkMessage::GetLink(message))
}

/// Asks about every interface: kind and payload.
pub(super) fn query_all() -> (u16, Vec<u8>) {
    let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    let message = RouteNetlinkMessage::GetLink(link(vec![mask]));
    (message.message_type(), bytes(&message))
}

/// Every interface, with what has passed it.
pub(super) fn query_all_counted() -> (u16, Vec<u8>) {
    let message = RouteNetlinkMessage::GetLink(link(Vec::new()));
    (message.message_type(), bytes(&message))
}

/// Gives an interface an address, which is usable at once.
pub(super) fn address(index: u32, address: IpAddr, prefix: u8) -> Step {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    // IPv4 takes the second for the interface's own address, and the first for that of its peer.
    message.attributes = vec![AddressAttribute::Address(address), AddressAttribute::Local(address)];
    step(
        format!("add the address {address}/{prefix}"),
        CREATE | EXCLUSIVE,
        &RouteNetlinkMessage::NewAddress(message),
    )
}

/// Routes one address to an interface.
pub(super) fn route(index: u32, to: IpAddr) -> Step {
    let mut message = route_message(index, to);
    message.header.destination_prefix_length = whole(to);
    message.header.scope = RouteScope::Link;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(to)));
    step(format!("add a route to {to}"), CREATE | EXCLUSIVE, &RouteNetlinkMessage::NewRoute(message))
}

/// Makes packets to an IPv6 address of an interface arrive there.
///
/// The kernel does so itself, but late, also without duplicate address detection: `addrconf_dad_start` leaves
/// it to a work, which has to wait for its turn (net/ipv6/addrconf.c). Until then answers to the first packets
/// would be lost, as they were here with every eighth container.
fn local(index: u32, to: Ipv6Addr) -> Step {
    let mut message = route_message(index, to.into());
    message.header.destination_prefix_length = 128;
    message.header.table = RT_TABLE_LOCAL;
    message.header.kind = RouteType::Local;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet6(to)));
    step(format!("take in packets for {to}"), CREATE, &RouteNetlinkMessage::NewRoute(message))
}

/// Routes all of a family by a next hop.
pub(super) fn default_route(index: u32, via: IpAddr) -> Step {
    let mut message = route_message(index, via);
    message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(via)));
    step(
        format!("add the default route by {via}"),
        CREATE | EXCLUSIVE,
        &RouteNetlinkMessage::NewRoute(message),
    )
}

fn route_message(index: u32, address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Oif(index)];
    message
}

/// Says for good which Ethernet address has an address, so that nobody needs to ask.
pub(super) fn neighbour(index: u32, address: IpAddr, mac: Mac) -> Step {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes =
        vec![NeighbourAttribute::Destination(destination), NeighbourAttribute::LinkLayerAddress(mac.into())];
    let action = format!("make {address} known as a neighbour");
    step(action, CREATE | EXCLUSIVE, &RouteNetlinkMessage::NewNeighbour(message))
}

/// The host's side, once it is there and up.
pub(super) fn host_side(attachment: &Attachment, index: u32) -> Vec<Step> {
    let Attachment { interface: _, gateway, addresses, links: _, host: _, ports: _ } = attachment;
    let gateway6 = gateway.v6.filter(|_| addresses.v6.is_some());
    let mut steps = vec![address(index, gateway.v4.into(), 32)];
    if addresses.v6.is_some() {
        steps.extend([address(index, LINK_LOCAL_GATEWAY.into(), 64), local(index, LINK_LOCAL_GATEWAY)]);
    }
    // What masquerading and the kernel's own errors come from, on a host that has no other address of it.
    if let Some(own) = gateway6 {
        steps.extend([address(index, own.into(), 128), local(index, own)]);
    }
    steps.extend(addresses.iter().map(|own| route(index, own)));
    let link_local = addresses.v6.map(|_| IpAddr::from(attachment.link_local()));
    steps.extend(addresses.iter().chain(link_local).map(|own| neighbour(index, own, attachment.mac())));
    steps
}

/// The container's side, once it is up.
pub(super) fn container_side(attachment: &Attachment, index: u32) -> Vec<Step> {
    let Attachment { interface: _, gateway, addresses, links: _, host: _, ports: _ } = attachment;
    let mac = attachment.gateway_mac();
    let next = IpAddr::from(gateway.v4);
    let mut steps = vec![
        address(index, addresses.v4.into(), 32),
        route(index, next),
        default_route(index, next),
        neighbour(index, next, mac),
    ];
    if let Some(own) = addresses.v6 {
        let next = IpAddr::from(LINK_LOCAL_GATEWAY);
        let link_local: Ipv6Addr = attachment.link_local();
        steps.extend([
            address(index, link_local.into(), 64),
            local(index, link_local),
            address(index, own.into(), 128),
            local(index, own),
            default_route(index, next),
            neighbour(index, next, mac),
        ]);
    }
    steps
}
