//! Published ports: `80:80`, `127.0.0.1:8080:80/tcp`, `[::]:8000-8010:8000-8010/udp`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is carried to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// tcp(7)
    Tcp,
    /// udp(7)
    Udp,
}

/// Ports of the host that lead to as many ports of the container.
///
/// As text it is `ADDRESS:HOST:CONTAINER/PROTOCOL`. [`Publish::read`] takes all that can be written in a
/// file; what [`fmt::Display`] gives is the one form that plans have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// Which of the host's addresses: without one all of both families, and an unspecified one (`0.0.0.0`,
    /// `::`) stands for all of its family.
    pub at: Option<IpAddr>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The first port of the host, from 1.
    pub host: u16,
    /// The first port of the container, from 1.
    pub container: u16,
    /// How many, from 1; the last of them is a port too.
    pub count: u16,
}

/// Why a text is no published port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// One port alone: nothing says on which of the two sides.
    #[error("\"{0}\" has only one port")]
    Alone(String),
    /// More colons than there are parts.
    #[error("\"{0}\" has too many parts")]
    Parts(String),
    /// An IPv6 address whose colons can't be told from the others.
    #[error("the IPv6 address of \"{text}\" has no brackets")]
    Brackets {
        /// All of it.
        text: String,
        /// With brackets, where that helps.
        meant: Option<String>,
    },
    /// Not a number that a port can have.
    #[error("\"{0}\" is no port")]
    Port(String),
    /// A range whose end comes before its start.
    #[error("the range {first}-{last} runs backwards")]
    Backwards {
        /// The first, as written.
        first: u16,
        /// The last, as written.
        last: u16,
    },
    /// Ranges that can't lead to one another.
    #[error("{host} and {container} are not the same number of ports")]
    Lengths {
        /// The host's range, as written.
        host: String,
        /// The container's.
        container: String,
    },
    /// Not an address.
    #[error("\"{0}\" is no IP address")]
    Address(String),
    /// An address that no packet for one host has.
    #[error("{0} is not an address of one host")]
    NotOneHost(IpAddr),
    /// An IPv4 address in IPv6's clothes.
    #[error("{0} is an IPv4 address in an IPv6 one")]
    Mapped(Ipv6Addr),
    /// Neither TCP nor UDP.
    #[error("\"{0}\" is no protocol that can be published")]
    Protocol(String),
    /// Both protocols, where one is meant.
    #[error("\"{0}\" is two published ports")]
    Two(String),
}

impl PublishError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Alone(port) if one_port(port).is_ok() => {
                format!("write \"{port}:{port}\": the host's port, then the container's")
            }
            Self::Brackets { meant: Some(meant), .. } => format!("write \"{meant}\""),
            Self::Brackets { meant: None, .. } => "for example: \"[::]:443:443\"".into(),
            Self::Alone(_) | Self::Parts(_) => {
                "write HOST:CONTAINER or ADDRESS:HOST:CONTAINER: \"80:80\", \"127.0.0.1:8080:80\"".into()
            }
            Self::Port(text) if text.is_empty() => {
                "write both, the host's port and the container's: \"8080:80\"".into()
            }
            Self::Port(_) => "a port is a number from 1 to 65535, or a range like 8000-8010".into(),
            Self::Backwards { first, last } => format!("write {last}-{first}"),
            Self::Lengths { .. } => {
                "make both ranges as long: each port of the host leads to one of the container".into()
            }
            Self::Address(text) if text.eq_ignore_ascii_case("localhost") => {
                "write 127.0.0.1: an address, and not a name".into()
            }
            Self::Address(text) if text == "*" => "leave it out: every address is meant then".into(),
            Self::Address(text) if text.contains('%') => "write the address without its interface".into(),
            Self::Address(_) => {
                "write one of the host's addresses, and not a name: it must mean the same at each start"
                    .into()
            }
            Self::NotOneHost(_) => "write one of the host's own addresses, or none for all".into(),
            Self::Mapped(address) => match address.to_ipv4_mapped() {
                Some(plain) => format!("write {plain}"),
                None => "write it as IPv4".into(),
            },
            Self::Protocol(text) if matches!(&*text.to_ascii_lowercase(), "tcp" | "udp") => {
                format!("write {}", text.to_ascii_lowercase())
            }
            Self::Protocol(_) => "write tcp, udp, or tcp+udp for both".into(),
            Self::Two(_) => "name one protocol".into(),
        }
    }
}

impl Publish {
    /// What a text in a file publishes: two for `53:53/tcp+udp`, and else one.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn read(text: &str) -> Result<Vec<Self>, PublishError> {
        let (ports, protocols) = match text.rsplit_once('/') {
            None => (text, &[Protocol::Tcp][..]),
            Some((ports, "tcp")) => (ports, &[Protocol::Tcp][..]),
            Some((ports, "udp")) => (ports, &[Protocol::Udp][..]),
            Some((ports, "tcp+udp" | "udp+tcp")) => (ports, &[Protocol::Tcp, Protocol::Udp][..]),
            Some((_, other)) => return Err(PublishError::Protocol(other.to_owned())),
        };
        let (at, host, container) = parts(text, ports)?;
        let (first, last) = range(host)?;
        let (inner, inner_last) = range(container)?;
        if last - first != inner_last - inner {
            return Err(PublishError::Lengths { host: host.to_owned(), container: container.to_owned() });
        }
        let one = |protocol: &Protocol| Self {
            at,
            protocol: *protocol,
            host: first,
            container: inner,
            // Both ends are ports from 1, so there are 65535 at most.
            count: last - first + 1,
        };
        Ok(protocols.iter().map(one).collect())
    }

    /// The ports of the host.
    pub fn host_ports(&self) -> RangeInclusive<u16> {
        span(self.host, self.count)
    }

    /// The ports of the container.
    pub fn container_ports(&self) -> RangeInclusive<u16> {
        span(self.container, self.count)
    }

    /// Each port of the host with the one of the container that it leads to.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> {
        self.host_ports().zip(self.container_ports())
    }

    /// Whether some packet could be meant for both: by protocol, by port and by address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let address = match (self.at, other.at) {
            (None, _) | (_, None) => true,
            (Some(a), Some(b)) => {
                a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
            }
        };
        let (a, b) = (self.host_ports(), other.host_ports());
        address && self.protocol == other.protocol && a.start() <= b.end() && b.start() <= a.end()
    }
}

fn span(first: u16, count: u16) -> RangeInclusive<u16> {
    // `count` is 1 or more, and the last is a port; an unchecked value of a careless caller mustn't overflow.
    first..=first.saturating_add(count.saturating_sub(1))
}

/// The address, the host's ports and the container's.
fn parts<'t>(text: &str, ports: &'t str) -> Result<(Option<IpAddr>, &'t str, &'t str), PublishError> {
    let too_many = || PublishError::Parts(text.to_owned());
    let (at, rest) = match ports.strip_prefix('[') {
        Some(inner) => {
            let (address, rest) =
                inner.split_once(']').ok_or_else(|| PublishError::Address(ports.to_owned()))?;
            let address: Ipv6Addr = address.parse().map_err(|_| PublishError::Address(address.to_owned()))?;
            (Some(IpAddr::V6(address)), rest.strip_prefix(':').ok_or_else(too_many)?)
        }
        None => match *ports.split(':').collect::<Vec<_>>() {
            [address, _, _] => {
                let rest = &ports[address.len() + 1..];
                let parsed: Ipv4Addr =
                    address.parse().map_err(|_| PublishError::Address(address.to_owned()))?;
                (Some(IpAddr::V4(parsed)), rest)
            }
            [_] | [_, _] => (None, ports),
            _ => return Err(brackets(text, ports)),
        },
    };
    match at {
        Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            return Err(PublishError::Mapped(address));
        }
        Some(address) if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) => {
            return Err(PublishError::NotOneHost(address));
        }
        _ => {}
    }
    let (host, container) = rest.split_once(':').ok_or_else(|| match at {
        None => PublishError::Alone(rest.to_owned()),
        Some(_) => PublishError::Alone(text.to_owned()),
    })?;
    if container.contains(':') {
        return Err(too_many());
    }
    Ok((at, host, container))
}

/// Many colons: an address without brackets if its last two parts are ports and the rest is one.
fn brackets(text: &str, ports: &str) -> PublishError {
    let mut from_end = ports.rsplitn(3, ':');
    let (container, host, address) = (from_end.next(), from_end.next(), from_end.next());
    let is_port = |part: Option<&str>| part.is_some_and(|part| range(part).is_ok());
    let meant = match address {
        Some(address) if is_port(container) && is_port(host) && address.parse::<Ipv6Addr>().is_ok() => {
            let rest = &text[address.len()..];
            Some(format!("[{address}]{rest}"))
        }
        _ => None,
    };
    if meant.is_some() || ports.contains("::") {
        PublishError::Brackets { text: text.to_owned(), meant }
    } else {
        PublishError::Parts(text.to_owned())
    }
}

fn range(text: &str) -> Result<(u16, u16), PublishError> {
    let Some((first, last)) = text.split_once('-') else {
        let port = one_port(text)?;
        return Ok((port, port));
    };
    let (first, last) = (one_port(first)?, one_port(last)?);
    if first > last {
        return Err(PublishError::Backwards { first, last });
    }
    Ok((first, last))
}

fn one_port(text: &str) -> Result<u16, PublishError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if port != 0 && digits => Ok(port),
        _ => Err(PublishError::Port(text.to_owned())),
    }
}

impl FromStr for Publish {
    type Err = PublishError;

    /// One of them: a text with both protocols is refused.
    fn from_str(text: &str) -> Result<Self, PublishError> {
        match Self::read(text)?[..] {
            [one] => Ok(one),
            _ => Err(PublishError::Two(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Publish {
    type Error = PublishError;

    fn try_from(text: String) -> Result<Self, PublishError> {
        text.parse()
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> Self {
        publish.to_string()
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        let (host, container) = (Ports(self.host_ports()), Ports(self.container_ports()));
        write!(f, "{host}:{container}/{}", self.protocol)
    }
}

/// `80`, or `8000-8010`.
pub(crate) struct Ports(pub RangeInclusive<u16>);

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl Protocol {
    /// The number in IP's header (RFC 9293, RFC 768).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// As people and nft write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Publish {
        text.parse().expect(text)
    }

    #[test]
    fn forms() {
        for (text, shown) in [
            ("80:80", "80:80/tcp"),
            ("8080:80/tcp", "8080:80/tcp"),
            ("53:53/udp", "53:53/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("[::]:443:443", "[::]:443:443/tcp"),
            ("[2001:DB8:0::1]:443:443/udp", "[2001:db8::1]:443:443/udp"),
            ("0.0.0.0:80:80", "0.0.0.0:80:80/tcp"),
            ("8000-8010:9000-9010", "8000-8010:9000-9010/tcp"),
            ("80-80:81", "80:81/tcp"),
            ("1-65535:1-65535", "1-65535:1-65535/tcp"),
        ] {
            assert_eq!(read(text).to_string(), shown);
            assert_eq!(read(shown), read(text));
        }
        assert_eq!(read("80:81").at, None);
        assert_eq!(read("[::]:80:81").at, Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        let both = Publish::read("53:53/tcp+udp").expect("two");
        assert_eq!(both.iter().map(ToString::to_string).collect::<Vec<_>>(), ["53:53/tcp", "53:53/udp"]);
        assert_eq!("53:53/tcp+udp".parse::<Publish>(), Err(PublishError::Two("53:53/tcp+udp".into())));
        let pairs: Vec<_> = read("8000-8002:90-92").pairs().collect();
        assert_eq!(pairs, [(8000, 90), (8001, 91), (8002, 92)]);
    }

    #[test]
    fn refusals() {
        for (text, message, hint) in [
            ("80", "only one port", "\"80:80\""),
            ("", "only one port", "HOST:CONTAINER"),
            ("web", "only one port", "HOST:CONTAINER"),
            ("[::]:80", "only one port", "HOST:CONTAINER"),
            ("127.0.0.1:80", "\"127.0.0.1\" is no port", "1 to 65535"),
            ("0:80", "\"0\" is no port", "1 to 65535"),
            ("80:65536", "\"65536\" is no port", "1 to 65535"),
            ("80:+1", "\"+1\" is no port", "1 to 65535"),
            ("80: 80", "\" 80\" is no port", "1 to 65535"),
            (":80", "\"\" is no port", "\"8080:80\""),
            ("127.0.0.1::80", "\"\" is no port", "\"8080:80\""),
            ("8010-8000:80", "backwards", "write 8000-8010"),
            ("8000-8010:80-81", "not the same number", "as long"),
            ("8000-8010:80", "not the same number", "as long"),
            ("localhost:80:80", "no IP address", "write 127.0.0.1"),
            ("example.org:80:80", "no IP address", "not a name"),
            ("*:80:80", "no IP address", "leave it out"),
            ("127.1:80:80", "no IP address", "not a name"),
            ("[fe80::1%eth0]:80:80", "no IP address", "without its interface"),
            ("[127.0.0.1]:80:80", "no IP address", "not a name"),
            ("[::]80:80", "too many parts", "HOST:CONTAINER"),
            ("[::1:80:80", "no IP address", "not a name"),
            ("[::]:1:2:3", "too many parts", "HOST:CONTAINER"),
            ("1:2:3:4", "too many parts", "HOST:CONTAINER"),
            (":::80:80", "no brackets", "write \"[::]:80:80\""),
            ("2001:db8::1:80:80/udp", "no brackets", "write \"[2001:db8::1]:80:80/udp\""),
            ("::x:80:80", "no brackets", "\"[::]:443:443\""),
            ("[::ffff:10.0.0.1]:80:80", "IPv4 address in an IPv6", "write 10.0.0.1"),
            ("224.0.0.1:80:80", "not an address of one host", "own addresses"),
            ("[ff02::1]:80:80", "not an address of one host", "own addresses"),
            ("255.255.255.255:80:80", "not an address of one host", "own addresses"),
            ("80:80/TCP", "no protocol", "write tcp"),
            ("80:80/sctp", "no protocol", "tcp+udp"),
            ("80:80/", "no protocol", "tcp+udp"),
        ] {
            let error = text.parse::<Publish>().expect_err(text);
            assert!(error.to_string().contains(message), "{text}: {error}");
            assert!(error.hint().contains(hint), "{text}: {}", error.hint());
        }
    }

    #[test]
    fn overlaps() {
        for (a, b, overlap) in [
            ("80:80", "80:81", true),
            ("80:80", "81:80", false),
            ("80:80/tcp", "80:80/udp", false),
            ("80:80", "127.0.0.1:80:80", true),
            ("80:80", "[::1]:80:80", true),
            ("0.0.0.0:80:80", "[::]:80:80", false),
            ("0.0.0.0:80:80", "10.0.0.1:80:80", true),
            ("[::]:80:80", "10.0.0.1:80:80", false),
            ("10.0.0.2:80:80", "10.0.0.1:80:80", false),
            ("8000-8010:1-11", "8010-8020:1-11", true),
            ("8000-8010:1-11", "8011-8020:1-10", false),
        ] {
            assert_eq!(read(a).overlaps(&read(b)), overlap, "{a} {b}");
            assert_eq!(read(b).overlaps(&read(a)), overlap, "{b} {a}");
        }
    }

    fn address() -> impl Strategy<Value = Option<IpAddr>> {
        prop_oneof![
            Just(None),
            any::<[u8; 4]>().prop_map(|bytes| Some(IpAddr::from(bytes))),
            any::<[u8; 16]>().prop_map(|bytes| Some(IpAddr::from(bytes))),
            Just(Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED))),
        ]
    }

    proptest! {
        #[test]
        fn text_and_back(at in address(), host in 1..=u16::MAX, container in 1..=u16::MAX, more: u16, udp: bool) {
            prop_assume!(!at.is_some_and(|at| at.is_multicast() || at == IpAddr::V4(Ipv4Addr::BROADCAST)));
            let count = (more % (u16::MAX - host.max(container)).max(1)).max(1);
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let publish = Publish { at, protocol, host, container, count };
            prop_assert_eq!(publish.to_string().parse::<Publish>(), Ok(publish));
            let json = serde_json::to_string(&publish).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Publish>(&json).expect("one"), publish);
        }

        #[test]
        fn any_text(text in "[\\[\\]0-9a-f:./+tcpud-]{0,24}|\\PC{0,24}") {
            match Publish::read(&text) {
                Ok(all) => for one in all {
                    prop_assert_eq!(one.to_string().parse::<Publish>(), Ok(one));
                },
                Err(error) => prop_assert!(!error.hint().is_empty()),
            }
        }
    }
}
