//! Where a check of health asks: `http://localhost:8080/healthz`, `127.0.0.1:5432`.
//!
//! A check looks at the container that it is made in, so there are addresses and `localhost`, and no names that would
//! have to be looked up: that is done by libraries of the C library's, which the image would have a say in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A place to connect to: `localhost:5432`, `127.0.0.1:5432`, `[::1]:5432`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpTarget {
    /// Nothing for `localhost`, which is two addresses.
    address: Option<IpAddr>,
    port: u16,
}

/// A page to ask for: `http://localhost:8080/healthz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// Where.
    pub at: TcpTarget,
    /// As it stands in the `Host` field (RFC 9110 section 7.2).
    pub authority: String,
    /// What stands in the request's first line (`origin-form`, RFC 9112 section 3.2.1).
    pub path: String,
}

/// Why a text is no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// A name, or nothing.
    #[error(
        "a check connects to the container itself: to `localhost`, or an address like 127.0.0.1 or [::1]"
    )]
    Host,
    /// Missing or no number.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// Encrypted.
    #[error("https is not spoken by the built-in check")]
    Encrypted,
    /// Another scheme, or none.
    #[error("an address of a page begins with http://")]
    Scheme,
    /// What a request's line can't hold.
    #[error("the path has a character that must be written in per cent form (a space is %20), or a `#`")]
    Path,
    /// `user:password@`.
    #[error("a user and a password in the address are not supported")]
    User,
}

impl TcpTarget {
    /// What to try, in this order.
    pub fn addresses(self) -> Vec<SocketAddr> {
        match self.address {
            Some(address) => vec![SocketAddr::new(address, self.port)],
            None => vec![
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port),
                SocketAddr::new(Ipv6Addr::LOCALHOST.into(), self.port),
            ],
        }
    }

    /// The address, where it may be another machine's.
    pub fn elsewhere(self) -> Option<IpAddr> {
        self.address.filter(|address| !address.to_canonical().is_loopback())
    }

    fn read(text: &str, default_port: Option<u16>) -> Result<Self, TargetError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or(TargetError::Host)?;
                let address: Ipv6Addr = address.parse().map_err(|_| TargetError::Host)?;
                let port = match after {
                    "" => None,
                    after => Some(after.strip_prefix(':').ok_or(TargetError::Port)?),
                };
                (Some(IpAddr::V6(address)), port)
            }
            None => {
                let (host, port) =
                    text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                if host.eq_ignore_ascii_case("localhost") {
                    (None, port)
                } else {
                    let address: Ipv4Addr = host.parse().map_err(|_| TargetError::Host)?;
                    (Some(IpAddr::V4(address)), port)
                }
            }
        };
        let digits = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let port = match port {
            None => default_port,
            Some(text) => Some(text).filter(digits).and_then(|text| text.parse().ok()),
        };
        let port = port.filter(|port| *port != 0).ok_or(TargetError::Port)?;
        // `0.0.0.0` as a place to connect to is this host by accident only.
        if address_is_none(host) {
            return Err(TargetError::Host);
        }
        Ok(Self { address: host, port })
    }
}

fn address_is_none(address: Option<IpAddr>) -> bool {
    address.is_some_and(|address| address.is_unspecified() || address.is_multicast())
}

impl FromStr for TcpTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::read(text, None)
    }
}

impl FromStr for HttpTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let scheme =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if scheme("https://") {
            return Err(TargetError::Encrypted);
        }
        if !scheme("http://") {
            return Err(TargetError::Scheme);
        }
        let rest = &text["http://".len()..];
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(TargetError::User);
        }
        let at = TcpTarget::read(authority, Some(80))?;
        if !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            return Err(TargetError::Path);
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { at, authority: authority.to_owned(), path })
    }
}

impl fmt::Display for TcpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => write!(f, "localhost:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, first, count) in [
            ("127.0.0.1:5432", "127.0.0.1:5432", 1),
            ("[::1]:80", "[::1]:80", 1),
            ("localhost:6379", "127.0.0.1:6379", 2),
        ] {
            let target: TcpTarget = text.parse().expect(text);
            assert_eq!(target.addresses()[0].to_string(), first);
            assert_eq!(target.addresses().len(), count);
            assert_eq!(target.to_string(), text);
        }
        for (text, error) in [
            ("5432", TargetError::Host),
            ("db:5432", TargetError::Host),
            ("", TargetError::Host),
            ("::1:80", TargetError::Host),
            ("[::1:80", TargetError::Host),
            ("0.0.0.0:80", TargetError::Host),
            ("localhost", TargetError::Port),
            ("localhost:", TargetError::Port),
            ("localhost:0", TargetError::Port),
            ("localhost:+8", TargetError::Port),
            ("localhost:65536", TargetError::Port),
            ("[::1]80", TargetError::Port),
        ] {
            assert_eq!(text.parse::<TcpTarget>(), Err(error), "{text}");
        }
    }

    #[test]
    fn pages() {
        for (text, port, authority, path) in [
            ("http://localhost:8080/healthz", 8080, "localhost:8080", "/healthz"),
            ("HTTP://127.0.0.1", 80, "127.0.0.1", "/"),
            ("http://[::1]:81?deep=1", 81, "[::1]:81", "/?deep=1"),
        ] {
            let target: HttpTarget = text.parse().expect(text);
            assert_eq!(target.at.addresses()[0].port(), port);
            assert_eq!((target.authority.as_str(), target.path.as_str()), (authority, path));
        }
        for (text, error) in [
            ("https://localhost/", TargetError::Encrypted),
            ("localhost:80/", TargetError::Scheme),
            ("http://example.org/", TargetError::Host),
            ("http:///x", TargetError::Host),
            ("http://a:b@localhost/", TargetError::User),
            ("http://localhost/a b", TargetError::Path),
            ("http://localhost/\r\nX: y", TargetError::Path),
            ("http://localhost/#top", TargetError::Path),
            ("http://localhost:x/", TargetError::Port),
        ] {
            assert_eq!(text.parse::<HttpTarget>(), Err(error), "{text:?}");
        }
    }
}
