//! What a socket listens at: `80`, `127.0.0.1:8080`, `[::]:53/udp`, `/run/app.sock`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Protocol, Publish};

/// What a socket unit listens at (systemd.socket(5), `ListenStream=` and `ListenDatagram=`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// A port of all the host's addresses, in both families.
    Port(u16, Protocol),
    /// A port of one address, or of all of one family.
    Address(SocketAddr, Protocol),
    /// A stream socket in the file system of the host; in a template with `%i` and `%%`.
    Path(String),
}

/// Why a text is nothing to listen at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// A name where an address is needed.
    #[error("\"{0}\" is no address with a port")]
    Address(String),
    /// Two ports, as `publish` has them.
    #[error("\"{0}\" has two ports")]
    Two(String),
    /// Not a number that a port can have.
    #[error("\"{0}\" is no port")]
    Port(String),
    /// An IPv6 address whose colons can't be told from the port's.
    #[error("the IPv6 address of \"{0}\" has no brackets")]
    Brackets(String),
    /// Neither TCP nor UDP.
    #[error("\"{0}\" is no protocol to listen for")]
    Protocol(String),
    /// Something that is no place in the file system.
    #[error("the path \"{0}\" is not one that a socket can have")]
    Path(String),
}

/// The longest path of a socket, in bytes (`sun_path` of unix(7), with the NUL).
const PATH_MAX: usize = 107;

impl ListenError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Two(text) => {
                let host = text.rsplit_once(':').map_or("", |(host, _)| host);
                format!("the program inside has the socket itself: write \"{host}\" alone; `publish` leads a port to another")
            }
            Self::Address(text) if text.starts_with("localhost:") => {
                format!("write \"127.0.0.1{}\": an address, and not a name", &text["localhost".len()..])
            }
            Self::Address(text) if text.starts_with("*:") => {
                format!("write \"{}\": every address is meant then", &text[2..])
            }
            Self::Address(text) if !text.contains(':') => {
                "write a port, an address with a port, or an absolute path: \"80\", \"[::]:80\", \"/run/app.sock\"".into()
            }
            Self::Address(_) => "write one of the host's addresses, and not a name: \"192.0.2.1:80\"".into(),
            Self::Port(_) => "a port is a number from 1 to 65535".into(),
            Self::Brackets(_) => "for example: \"[::1]:80\"".into(),
            Self::Protocol(_) => "write /tcp, which may be left out, or /udp".into(),
            Self::Path(text) if text.len() > PATH_MAX => {
                format!("{PATH_MAX} bytes are the most that the kernel takes")
            }
            Self::Path(_) => "write it without `.`, `..`, `//` and a `/` at the end, like \"/run/app.sock\"".into(),
        }
    }
}

impl Listen {
    /// TCP, UDP; a path is a stream.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Port(_, protocol) | Self::Address(_, protocol) => *protocol,
            Self::Path(_) => Protocol::Tcp,
        }
    }

    /// The port, where it has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Port(port, _) => Some(*port),
            Self::Address(address, _) => Some(address.port()),
            Self::Path(_) => None,
        }
    }

    /// What it takes of the host's ports, as if it were published.
    pub fn as_published(&self) -> Option<Publish> {
        let (at, host) = match self {
            Self::Port(port, _) => (None, *port),
            Self::Address(address, _) => (Some(address.ip()), address.port()),
            Self::Path(_) => return None,
        };
        Some(Publish { at, protocol: self.protocol(), host, container: host, count: 1 })
    }

    /// Whether two can't be there at once.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(a), Self::Path(b)) => a == b,
            (a, b) => a.as_published().zip(b.as_published()).is_some_and(|(a, b)| a.overlaps(&b)),
        }
    }

    /// As systemd.socket(5) writes it.
    pub fn address(&self) -> String {
        match self {
            Self::Port(port, _) => port.to_string(),
            Self::Address(address, _) => address.to_string(),
            Self::Path(path) => path.clone(),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        if let Some(below) = text.strip_prefix('/') {
            let normal = !text.ends_with('/')
                && below.split('/').all(|part| !matches!(part, "" | "." | ".."))
                && !text.chars().any(char::is_control);
            return match normal && text.len() <= PATH_MAX {
                true => Ok(Self::Path(text.to_owned())),
                false => Err(ListenError::Path(text.to_owned())),
            };
        }
        let (at, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((at, "tcp")) => (at, Protocol::Tcp),
            Some((at, "udp")) => (at, Protocol::Udp),
            Some((at, other)) if at.ends_with(|c: char| c.is_ascii_digit()) => {
                return Err(ListenError::Protocol(other.to_owned()));
            }
            Some(_) => return Err(ListenError::Address(text.to_owned())),
        };
        if !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Port(port(at)?, protocol));
        }
        let Some((host, number)) = at.rsplit_once(':') else {
            return Err(ListenError::Address(at.to_owned()));
        };
        if let Some(host) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let address = host.parse().map_err(|_| ListenError::Address(at.to_owned()))?;
            return Ok(Self::Address(SocketAddrV6::new(address, port(number)?, 0, 0).into(), protocol));
        }
        if at.parse::<SocketAddr>().is_err() && (host.contains("::") || host.matches(':').count() > 2) {
            return Err(ListenError::Brackets(at.to_owned()));
        }
        let is_port = |text: &str| port(text).is_ok();
        let two = match host.split_once(':') {
            None => is_port(host) && is_port(number),
            Some((address, first)) => {
                address.parse::<Ipv4Addr>().is_ok() && is_port(first) && is_port(number)
            }
        };
        if two {
            return Err(ListenError::Two(at.to_owned()));
        }
        let address: Ipv4Addr = host.parse().map_err(|_| ListenError::Address(at.to_owned()))?;
        Ok(Self::Address(SocketAddr::new(IpAddr::V4(address), port(number)?), protocol))
    }
}

fn port(text: &str) -> Result<u16, ListenError> {
    let error = || ListenError::Port(text.to_owned());
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(error()),
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())?;
        match (self, self.protocol()) {
            (Self::Path(_), _) | (_, Protocol::Tcp) => Ok(()),
            (_, Protocol::Udp) => f.write_str("/udp"),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = ListenError;

    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, shown, address) in [
            ("80", "80", "80"),
            ("80/tcp", "80", "80"),
            ("53/udp", "53/udp", "53"),
            ("0.0.0.0:80", "0.0.0.0:80", "0.0.0.0:80"),
            ("[::]:80", "[::]:80", "[::]:80"),
            ("[::1]:53/udp", "[::1]:53/udp", "[::1]:53"),
            ("/run/app.sock", "/run/app.sock", "/run/app.sock"),
        ] {
            let listen: Listen = text.parse().expect(text);
            assert_eq!((listen.to_string(), listen.address()), (shown.into(), address.into()));
            assert_eq!(shown.parse(), Ok(listen));
        }
    }

    #[test]
    fn refusals() {
        let long = format!("/{}", "x".repeat(107));
        for (text, error) in [
            ("", ListenError::Address(String::new())),
            ("app.sock", ListenError::Address("app.sock".into())),
            ("localhost:80", ListenError::Address("localhost:80".into())),
            ("0", ListenError::Port("0".into())),
            ("65536", ListenError::Port("65536".into())),
            ("127.0.0.1:http", ListenError::Port("http".into())),
            ("8080:80", ListenError::Two("8080:80".into())),
            ("127.0.0.1:8080:80", ListenError::Two("127.0.0.1:8080:80".into())),
            ("::1:80", ListenError::Brackets("::1:80".into())),
            ("80/sctp", ListenError::Protocol("sctp".into())),
            ("run/x.sock", ListenError::Address("run/x.sock".into())),
            ("/run/../x", ListenError::Path("/run/../x".into())),
            ("/run/", ListenError::Path("/run/".into())),
            (long.as_str(), ListenError::Path(long.clone())),
        ] {
            assert_eq!(text.parse::<Listen>(), Err(error.clone()), "{text}");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn what_can_be_there_at_once() {
        let listen = |text: &str| text.parse::<Listen>().expect(text);
        for (a, b, overlap) in [
            ("80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "[::]:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("53", "53/udp", false),
            ("/run/a", "/run/a", true),
            ("/run/a", "80", false),
        ] {
            assert_eq!(listen(a).overlaps(&listen(b)), overlap, "{a} {b}");
        }
    }
}
