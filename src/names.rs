//! The files by which a container's programs learn names: of itself, of what it links to, of the rest.
//!
//! ```text
//! /run/wharf/names/NAME/    hosts, hostname, resolv.conf; a container has it, read-only, at /etc/.wharf, and
//!                           links to its files where programs look for them
//! ```
//!
//! The folder is mounted and not the files, so that a file can be replaced by rename: nobody ever reads half of
//! one, and a running container sees the new one at its next look (hosts(5); the C libraries look each time).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;

use crate::host::Paths;
use crate::net::Addresses;
use crate::running;
use crate::spec::ContainerName;

/// Another by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The first is what it is mainly called.
    pub names: Vec<String>,
    /// Where it is.
    pub addresses: Addresses,
}

/// The text of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// hosts(5).
    pub hosts: String,
    /// hostname(5).
    pub hostname: String,
    /// resolv.conf(5).
    pub resolver: String,
}

/// The hosts file of a container with this host name. Without addresses of its own it is found at localhost.
pub fn hosts(own: &str, addresses: Option<&Addresses>, peers: &[Peer]) -> String {
    let own_local = if addresses.is_some() { String::new() } else { format!(" {own}") };
    let mut text =
        format!("127.0.0.1\tlocalhost{own_local}\n::1\tlocalhost ip6-localhost ip6-loopback{own_local}\n");
    let mut line = |addresses: &Addresses, names: &str| {
        text.push_str(&format!("{}\t{names}\n", addresses.v4));
        if let Some(v6) = addresses.v6 {
            text.push_str(&format!("{v6}\t{names}\n"));
        }
    };
    if let Some(addresses) = addresses {
        line(addresses, own);
    }
    for peer in peers {
        line(&peer.addresses, &peer.names.join(" "));
    }
    text
}

/// The resolver's configuration for a container with a network of its own: the host's, but for name servers
/// that only the host can reach. Where the host asks a resolver of its own, `upstream` has whom that one asks.
pub fn resolver(host: &str, upstream: Option<&str>) -> String {
    let text = match upstream {
        Some(upstream) if reachable(host).next().is_none() => upstream,
        _ => host,
    };
    let servers: Vec<&str> = reachable(text).collect();
    let mut kept = String::new();
    for line in text.lines().map(str::trim) {
        let server = line.strip_prefix("nameserver").map(first_word);
        let comment = line.is_empty() || line.starts_with(['#', ';']);
        if !comment && server.is_none_or(|server| servers.contains(&server)) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    if servers.is_empty() {
        kept.insert_str(0, "# The host names no server that a container could reach.\n");
    }
    kept
}

/// What follows an address is nothing to the C library (`res_init` in glibc's resolv/).
fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// Name servers that aren't on the host's own loopback, nor on one of its links.
fn reachable(text: &str) -> impl Iterator<Item = &str> {
    let servers = text.lines().filter_map(|line| Some(first_word(line.trim().strip_prefix("nameserver")?)));
    servers.filter(|server| {
        // With a zone (`fe80::1%eth0`) an address means something on the host only, and doesn't parse here; without
        // one it means nothing. 0.0.0.0 is the host itself (resolv.conf(5)).
        server.parse::<IpAddr>().is_ok_and(|address| {
            let on_a_link = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
            !(address.is_loopback() || address.is_unspecified() || on_a_link)
        })
    })
}

/// What the host's own files say, for a container on the host's network or one of its own.
///
/// # Errors
/// They can't be read.
pub fn host_resolver(paths: &Paths, own_network: bool) -> io::Result<String> {
    let read = |path: &str| match fs::read(paths.host(path)) {
        Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let text = read("/etc/resolv.conf")?.unwrap_or_default();
    if !own_network {
        return Ok(text);
    }
    // systemd-resolved keeps there whom it asks (systemd-resolved.service(8), "/etc/resolv.conf").
    Ok(resolver(&text, read("/run/systemd/resolve/resolv.conf")?.as_deref()))
}

/// Keeps a container's files, each replaced at once; those that are right already stay.
///
/// # Errors
/// They can't be written.
pub fn write(paths: &Paths, container: &ContainerName, names: &Names) -> io::Result<()> {
    let Names { hosts, hostname, resolver } = names;
    let folder = paths.names(container.as_str());
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
    for (file, text) in [("hosts", hosts), ("hostname", hostname), ("resolv.conf", resolver)] {
        let path = folder.join(file);
        if fs::read_to_string(&path).is_ok_and(|now| now == *text) {
            continue;
        }
        running::replace(&path, text.as_bytes(), 0o644)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: u8) -> Addresses {
        Addresses { v4: [10, 131, 0, last].into(), v6: Some([0xfd00, 0, 0, 0, 0, 0, 0, last.into()].into()) }
    }

    #[test]
    fn hosts_of_one_with_an_address() {
        let peers = [
            Peer { names: vec!["db".into(), "database".into()], addresses: addresses(9) },
            Peer { names: vec!["old".into()], addresses: Addresses { v6: None, ..addresses(8) } },
        ];
        let text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
            10.131.0.7\tapp\nfd00::7\tapp\n10.131.0.9\tdb database\nfd00::9\tdb database\n10.131.0.8\told\n";
        assert_eq!(hosts("app", Some(&addresses(7)), &peers), text);
    }

    #[test]
    fn hosts_of_one_without() {
        let text = "127.0.0.1\tlocalhost app\n::1\tlocalhost ip6-localhost ip6-loopback app\n";
        assert_eq!(hosts("app", None, &[]), text);
    }

    #[test]
    fn name_servers_that_a_container_can_reach() {
        let plain =
            "# made by hand\nsearch example.org\nnameserver 192.0.2.1\nnameserver ::1\noptions edns0\n";
        assert_eq!(resolver(plain, None), "search example.org\nnameserver 192.0.2.1\noptions edns0\n");
        let odd = "nameserver 192.0.2.1 # office\nnameserver 0.0.0.0\nnameserver fe80::1\n";
        assert_eq!(resolver(odd, None), "nameserver 192.0.2.1 # office\n");
        let stub = "nameserver 127.0.0.53\noptions trust-ad\n";
        let upstream = "nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\nsearch lan\n";
        assert_eq!(
            resolver(stub, Some(upstream)),
            "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch lan\n"
        );
        assert_eq!(resolver(plain, Some(upstream)), resolver(plain, None));
        assert!(resolver(stub, None).starts_with("# The host names no server"));
        assert!(!resolver("", None).contains("nameserver "));
    }
}
