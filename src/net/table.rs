//! The table `inet wharf`: its text, and what a container is in it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{Attachment, Port};
use crate::spec::Protocol;

/// The table's name; its family is `inet`.
pub const NAME: &str = "wharf";

/// The table without any container, as nft reads it. Loading it replaces the one before, at one moment.
pub const TABLE: &str = include_str!("wharf.nft");

/// Every set and map of the table.
pub const SETS: [&str; 10] = [
    "containers4",
    "containers6",
    "hosts4",
    "hosts6",
    "links4",
    "links6",
    "ports4",
    "ports6",
    "ports_at4",
    "ports_at6",
];

/// One entry of one of the table's sets or maps. All addresses of one element are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// A container's address.
    Container(IpAddr),
    /// One container may connect to another.
    Link {
        /// Who.
        from: IpAddr,
        /// To whom.
        to: IpAddr,
    },
    /// A container may connect to the host.
    ToHost(IpAddr),
    /// A published port.
    Port {
        /// On which address of the host; none is all of the family.
        at: Option<IpAddr>,
        /// TCP or UDP.
        protocol: Protocol,
        /// The host's port.
        port: u16,
        /// The container's address.
        to: IpAddr,
        /// The container's port.
        to_port: u16,
    },
}

impl Element {
    /// The set or map that it belongs to.
    pub fn set(&self) -> &'static str {
        let (four, six, is_four) = match self {
            Self::Container(address) => ("containers4", "containers6", address.is_ipv4()),
            Self::Link { from, .. } => ("links4", "links6", from.is_ipv4()),
            Self::ToHost(address) => ("hosts4", "hosts6", address.is_ipv4()),
            Self::Port { at: None, to, .. } => ("ports4", "ports6", to.is_ipv4()),
            Self::Port { at: Some(_), to, .. } => ("ports_at4", "ports_at6", to.is_ipv4()),
        };
        if is_four { four } else { six }
    }

    /// What is looked up, as the kernel holds it: each field in network order, padded to four bytes.
    pub fn key(&self) -> Vec<u8> {
        match *self {
            Self::Container(address) | Self::ToHost(address) => octets(address),
            Self::Link { from, to } => [octets(from), octets(to)].concat(),
            Self::Port { at, protocol, port, .. } => {
                let mut key = at.map(octets).unwrap_or_default();
                key.extend([protocol.number(), 0, 0, 0]);
                key.extend(padded(port));
                key
            }
        }
    }

    /// What a map answers; empty for a set.
    pub fn data(&self) -> Vec<u8> {
        match *self {
            Self::Container(_) | Self::Link { .. } | Self::ToHost(_) => Vec::new(),
            Self::Port { to, to_port, .. } => [octets(to), padded(to_port).into()].concat(),
        }
    }

    /// As nft writes it.
    pub fn text(&self) -> String {
        match self {
            Self::Container(address) | Self::ToHost(address) => address.to_string(),
            Self::Link { from, to } => format!("{from} . {to}"),
            Self::Port { at, protocol, port, to, to_port } => {
                let at = at.map(|at| format!("{at} . ")).unwrap_or_default();
                format!("{at}{} . {port} : {to} . {to_port}", protocol.name())
            }
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// Everything that a container has in the table. A port or a peer of a family that the container doesn't have
/// is left out.
pub fn elements(attachment: &Attachment) -> BTreeSet<Element> {
    let Attachment { interface: _, gateway: _, addresses, links, host, ports } = attachment;
    let mut elements = BTreeSet::new();
    for own in addresses.iter() {
        elements.insert(Element::Container(own));
        if *host {
            elements.insert(Element::ToHost(own));
        }
        for peer in links.iter().flat_map(|link| link.iter()) {
            if peer.is_ipv4() == own.is_ipv4() {
                elements.insert(Element::Link { from: own, to: peer });
            }
        }
        for Port { at, protocol, port, to } in ports {
            let every = |at: &IpAddr| *at == Ipv4Addr::UNSPECIFIED || *at == Ipv6Addr::UNSPECIFIED;
            if at.is_none_or(|at| at.is_ipv4() == own.is_ipv4()) {
                let at = at.filter(|at| !every(at));
                elements.insert(Element::Port {
                    at,
                    protocol: *protocol,
                    port: *port,
                    to: own,
                    to_port: *to,
                });
            }
        }
    }
    elements
}

/// The whole table with these elements, for `nft -f -`. It replaces the one that is there, at one moment.
pub fn script(elements: &BTreeSet<Element>) -> String {
    let mut sets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for element in elements {
        sets.entry(element.set()).or_default().push(element.text());
    }
    let mut script = TABLE.to_owned();
    for (set, texts) in sets {
        // Writing to a String doesn't fail.
        let _ = write!(script, "\nadd element inet {NAME} {set} {{\n\t{}\n}}\n", texts.join(",\n\t"));
    }
    script
}

/// What a chain of the table must be like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Whether packets come to it by themselves.
    pub hooked: bool,
    /// How many rules it has.
    pub rules: usize,
}

/// The chains of [`TABLE`], by name: counted in its text, where each rule has one line.
pub fn chains() -> BTreeMap<&'static str, Chain> {
    let mut chains = BTreeMap::new();
    let mut current = None;
    for line in TABLE.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {")) {
            chains.insert(name, Chain::default());
            current = Some(name);
        } else if line == "}" {
            current = None;
        } else if let Some(chain) = current.and_then(|name| chains.get_mut(name)) {
            if line.starts_with("type ") {
                chain.hooked = true;
            } else if !line.is_empty() && !line.starts_with('#') {
                chain.rules += 1;
            }
        }
    }
    chains
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::address::Addresses;
    use super::*;

    fn addresses(v4: &str, v6: &str) -> Addresses {
        Addresses { v4: v4.parse().unwrap(), v6: Some(v6.parse().unwrap()) }
    }

    fn attachment() -> Attachment {
        let port = |at: Option<&str>, protocol, port, to| Port {
            at: at.map(|at| at.parse().unwrap()),
            protocol,
            port,
            to,
        };
        Attachment {
            interface: "wharf-0002".into(),
            gateway: addresses("10.88.0.1", "fd00:88::1"),
            addresses: addresses("10.88.0.2", "fd00:88::2"),
            links: vec![
                addresses("10.88.0.3", "fd00:88::3"),
                Addresses { v4: [10, 88, 0, 4].into(), v6: None },
            ],
            host: true,
            ports: vec![
                port(None, Protocol::Udp, 53, 5353),
                port(Some("192.0.2.1"), Protocol::Tcp, 80, 8080),
                port(Some("2001:db8::1"), Protocol::Tcp, 443, 443),
                port(Some("0.0.0.0"), Protocol::Tcp, 1, 2),
                port(Some("::"), Protocol::Tcp, 3, 4),
            ],
        }
    }

    #[test]
    fn one_container() {
        let texts: Vec<String> =
            elements(&attachment()).iter().map(|it| format!("{} {}", it.set(), it.text())).collect();
        assert_eq!(
            texts,
            [
                "containers4 10.88.0.2",
                "containers6 fd00:88::2",
                "links4 10.88.0.2 . 10.88.0.3",
                "links4 10.88.0.2 . 10.88.0.4",
                "links6 fd00:88::2 . fd00:88::3",
                "hosts4 10.88.0.2",
                "hosts6 fd00:88::2",
                "ports4 tcp . 1 : 10.88.0.2 . 2",
                "ports6 tcp . 3 : fd00:88::2 . 4",
                "ports4 udp . 53 : 10.88.0.2 . 5353",
                "ports6 udp . 53 : fd00:88::2 . 5353",
                "ports_at4 192.0.2.1 . tcp . 80 : 10.88.0.2 . 8080",
                "ports_at6 2001:db8::1 . tcp . 443 : fd00:88::2 . 443",
            ]
        );
    }

    /// Without IPv6 nothing of it is in the table.
    #[test]
    fn one_family() {
        let mut attachment = attachment();
        attachment.addresses.v6 = None;
        assert!(elements(&attachment).iter().all(|it| it.set().ends_with('4')));
        assert_eq!(elements(&attachment).len(), 7);
    }

    #[test]
    fn bytes() {
        let address = [10, 88, 0, 2].into();
        let port = |at| Element::Port { at, protocol: Protocol::Udp, port: 53, to: address, to_port: 0x1234 };
        assert_eq!(port(None).key(), [17, 0, 0, 0, 0, 53, 0, 0]);
        assert_eq!(port(Some([1, 2, 3, 4].into())).key(), [1, 2, 3, 4, 17, 0, 0, 0, 0, 53, 0, 0]);
        assert_eq!(port(None).data(), [10, 88, 0, 2, 0x12, 0x34, 0, 0]);
        assert_eq!(Element::Container(address).key(), [10, 88, 0, 2]);
        assert!(Element::Container(address).data().is_empty());
        let six: IpAddr = "fd00::1".parse().unwrap();
        assert_eq!(Element::Link { from: six, to: six }.key(), [octets(six), octets(six)].concat());
    }

    #[test]
    fn a_change_of_the_rules_raises_their_version() {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(TABLE.as_bytes());
        let start: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let version = chains().keys().find(|name| name.starts_with("version_")).copied();
        // Without this a running host keeps the older rules: only chains and numbers of rules are compared there.
        assert_eq!(
            (start.as_str(), version),
            ("4688bd0a", Some("version_1")),
            "raise it, and write both here"
        );
    }

    #[test]
    fn counted() {
        let chains = chains();
        let hooked: Vec<&str> = chains.iter().filter(|(_, it)| it.hooked).map(|(name, _)| *name).collect();
        assert_eq!(hooked, ["forward", "input", "output", "postrouting", "prerouting", "raw"]);
        assert_eq!(chains.len(), 12);
        assert_eq!(chains["raw"], Chain { hooked: true, rules: 2 });
        assert_eq!(chains["published"], Chain { hooked: false, rules: 7 });
        assert_eq!(chains["to_host"], Chain { hooked: false, rules: 9 });
    }

    /// The sets are those of the text.
    #[test]
    fn sets() {
        let mut sets: Vec<&str> = TABLE
            .lines()
            .filter_map(|line| {
                let line = line.trim();
                line.strip_prefix("set ").or(line.strip_prefix("map "))?.split(' ').next()
            })
            .collect();
        sets.sort_unstable();
        assert_eq!(sets, SETS);
    }

    #[test]
    fn texts() {
        let elements = BTreeSet::from([
            Element::Container([10, 88, 0, 3].into()),
            Element::Container([10, 88, 0, 2].into()),
            Element::ToHost("fd00:88::2".parse().unwrap()),
        ]);
        assert_eq!(
            script(&elements).strip_prefix(TABLE).unwrap(),
            "\nadd element inet wharf containers4 {\n\t10.88.0.2,\n\t10.88.0.3\n}\n\n\
             add element inet wharf hosts6 {\n\tfd00:88::2\n}\n"
        );
        assert_eq!(script(&BTreeSet::new()), TABLE);
    }

    /// nft takes it. It asks the kernel about what is there, so it must be root.
    #[test]
    fn checked_by_nft() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let nft = Command::new("/usr/sbin/nft").args(["-c", "-f", "-"]).stdin(Stdio::piped()).spawn();
        let Ok(mut nft) = nft else { return };
        std::io::Write::write_all(
            &mut nft.stdin.take().unwrap(),
            script(&elements(&attachment())).as_bytes(),
        )
        .unwrap();
        assert!(nft.wait().unwrap().success());
    }
}
