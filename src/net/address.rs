//! What a container's network is, as the caller says it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::spec::Protocol;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Of a host's side of a pair: with it a container's default route leads to the same address on every
/// interface, whatever the host's other addresses are.
pub const LINK_LOCAL_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// An address of each family. IPv6 is there if the host has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// Those that are there, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        [Some(IpAddr::V4(self.v4)), self.v6.map(IpAddr::V6)].into_iter().flatten()
    }
}

/// A published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// On which of the host's addresses; none is all of them in both families, and `0.0.0.0` and `::` are
    /// all of one family.
    pub at: Option<IpAddr>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The host's port.
    pub port: u16,
    /// The container's port.
    pub to: u16,
}

/// How one container is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The host's side of the pair: `wharf-` and up to nine more characters.
    pub interface: String,
    /// The host's addresses as the container's next hop, the same for every container.
    pub gateway: Addresses,
    /// The container's own.
    pub addresses: Addresses,
    /// The containers it may connect to.
    pub links: Vec<Addresses>,
    /// Whether it may connect to the host.
    pub host: bool,
    /// Its published ports.
    pub ports: Vec<Port>,
}

impl Attachment {
    /// The Ethernet address of the container's side: locally administered, and the container's IPv4 address.
    ///
    /// Both sides are given, and known to the other side's table of neighbours, so nobody asks for them. udev
    /// leaves addresses alone that were given (systemd.link(5), `MACAddressPolicy=`).
    pub fn mac(&self) -> Mac {
        mac(0x02, self.addresses.v4)
    }

    /// The Ethernet address of the host's side.
    pub fn gateway_mac(&self) -> Mac {
        mac(0x06, self.addresses.v4)
    }

    /// The container's link-local address: the last 32 bits are its IPv4 address, so it is never the gateway's.
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d] = self.addresses.v4.octets();
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
    }
}

/// The bit 2 of the first octet says "locally administered", the bit 1, clear, "of one interface" (IEEE 802);
/// 0x57 is a W.
fn mac(first: u8, address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [first, 0x57, a, b, c, d]
}
