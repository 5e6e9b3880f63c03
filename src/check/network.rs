//! The network, links and published ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::life::is_own;
use super::{Connections, Network, Rules, socket, template};
use crate::report::{Finding, Place};
use crate::spec::{ContainerName, Link, LinkError, LinkTarget, NameError, Publish, nearest};

/// What `network` can be.
const NETWORKS: [&str; 3] = ["default", "host", "none"];

/// How many ports one container may publish. Each is an element of a map in the kernel that is put in at every
/// start and looked up by every new connection from outside; nobody has met a program that listens on more.
const PORTS_MAX: usize = 4096;

/// Names that mean the container itself in every hosts file.
const OWN_NAMES: [&str; 3] = ["localhost", "ip6-localhost", "ip6-loopback"];

/// All three keys.
pub fn connections(rules: &mut Rules<'_>, hostname: &str) -> Connections {
    let network = network(rules);
    let links = links(rules, network, hostname);
    let publish = publish(rules, network);
    let listen = socket::ports(rules);
    let snapshot = rules.get("snapshot").map(|entry| entry.key.clone());
    Connections { network, links, publish, listen, snapshot }
}

/// `network`: the default one, none or the host's, until there are others.
fn network(rules: &mut Rules<'_>) -> Option<Network> {
    match rules.text("network") {
        Some(("default", _)) => Some(Network::Default),
        Some(("none", _)) => Some(Network::None),
        Some(("host", _)) => Some(Network::Host),
        Some((other, place)) => {
            let hint = match nearest(other, NETWORKS) {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => "leave it out for the network `default`, or write \"host\" or \"none\"".into(),
            };
            rules.error(place, format!("`network` = \"{other}\" is not supported yet"), hint);
            None
        }
        // Of a wrong type, which was said, or not there.
        None if rules.get("network").is_some() => None,
        None => Some(Network::Default),
    }
}

/// `links`, each with its place.
fn links(rules: &mut Rules<'_>, network: Option<Network>, hostname: &str) -> Vec<(Link, Place)> {
    let mut links = Vec::new();
    for (text, place) in rules.texts("links").unwrap_or_default() {
        if let Some(link) = link(rules, text, place) {
            links.push((link, place.clone()));
        }
    }
    links_without_network(rules, network);
    for (link, place) in &links {
        link_to_itself(rules, link, place);
        link_to_own_host(rules, network, link, place);
    }
    // What a template or a drop-in for all says is for the others.
    links.retain(|(link, _)| link.to.container() != Some(rules.name));
    link_names(rules, &links, hostname);
    links
}

fn link(rules: &mut Rules<'_>, text: &str, place: &Place) -> Option<Link> {
    let in_template = rules.name.as_str().contains('@');
    if in_template && template::stray(text).is_some() {
        // That was said already.
        return None;
    }
    let link = match text.parse::<Link>() {
        Ok(Link { to: LinkTarget::Pattern(text), .. }) if !in_template => {
            Err(LinkError::Name { text, source: NameError::Character('%') })
        }
        other => other,
    };
    link.map_err(|error| rules.error(place, format!("`links`: {error}"), error.hint())).ok()
}

/// Without a network there is nothing to connect with.
fn links_without_network(rules: &mut Rules<'_>, network: Option<Network>) {
    if network != Some(Network::None) || rules.texts("links").is_none_or(|links| links.is_empty()) {
        return;
    }
    if let Some(entry) = rules.get("links") {
        rules.error(
            &entry.key,
            "`links` has no effect with network = \"none\"",
            "leave `network` out; or leave `links` out, and write After= under [systemd.Unit] for the order alone",
        );
    }
}

fn link_to_itself(rules: &mut Rules<'_>, link: &Link, place: &Place) {
    if is_itself(rules.name, link, place) {
        let name = rules.name;
        rules.error(place, format!("{name} links to itself"), "leave it out, and connect to localhost");
    }
}

fn is_itself(name: &ContainerName, link: &Link, place: &Place) -> bool {
    match (&link.to, name.instance()) {
        (LinkTarget::Container(to), _) => to == name && is_own(name, &place.source),
        (LinkTarget::Pattern(to), Some(instance)) => to.replace("%i", instance) == name.as_str(),
        (LinkTarget::Pattern(to), None) => *to == format!("{name}%i"),
        (LinkTarget::Host, _) => false,
    }
}

fn link_to_own_host(rules: &mut Rules<'_>, network: Option<Network>, link: &Link, place: &Place) {
    if link.to == LinkTarget::Host && network == Some(Network::Host) {
        rules.error(
            place,
            "a link to the host has no effect with network = \"host\"",
            "leave it out, and connect to localhost",
        );
    }
}

/// A name inside stands for one thing.
fn link_names(rules: &mut Rules<'_>, links: &[(Link, Place)], hostname: &str) {
    let mut known: BTreeMap<String, &Link> = BTreeMap::new();
    for (link, place) in links {
        let mut told = false;
        for name in link.names() {
            // Host names don't differ by case (RFC 4343).
            let plain = name.to_ascii_lowercase();
            if OWN_NAMES.contains(&plain.as_str()) || plain == hostname.to_ascii_lowercase() {
                // A link to itself has its own finding. What has an alias can be reached by that.
                let only = link.alias.as_ref().is_none_or(|alias| *alias == name);
                if !told && only {
                    told = true;
                    if !is_itself(rules.name, link, place) {
                        let to = &link.to;
                        rules.error(
                            place,
                            format!("`{name}` is a name of this container itself, and can't stand for {to}"),
                            format!("write another alias: \"{to}:NAME\""),
                        );
                    }
                }
                continue;
            }
            match known.insert(plain, link) {
                Some(before) if !told && before == link => {
                    told = true;
                    rules.error(place, format!("the link \"{link}\" is there twice"), "keep one of them");
                }
                Some(before) if !told && before.to != link.to => {
                    told = true;
                    rules.error(
                        place,
                        format!("`{name}` stands for {} already, and can't for {}", before.to, link.to),
                        format!("write an alias: \"{}:NAME\"", link.to),
                    );
                }
                _ => {}
            }
        }
    }
}

/// `publish`, each with its place.
fn publish(rules: &mut Rules<'_>, network: Option<Network>) -> Vec<(Publish, Place)> {
    let mut all = Vec::new();
    for (text, place) in rules.texts("publish").unwrap_or_default() {
        match Publish::read(text) {
            Ok(some) => all.extend(some.into_iter().map(|one| (one, place.clone()))),
            Err(error) => {
                let hint = if text.contains('%') && rules.name.as_str().contains('@') {
                    "an instance publishes other ports by a drop-in of its own".to_owned()
                } else {
                    error.hint()
                };
                rules.error(place, format!("`publish`: {error}"), hint);
            }
        }
    }
    published_without_network(rules, network);
    published_at_no_way_out(rules, &mut all);
    // Only a bounded number is compared, each with each.
    if published_too_many(rules, &all) {
        published_twice(rules, &all);
    }
    all
}

/// Only a container behind the host has ports that the host can lead to.
fn published_without_network(rules: &mut Rules<'_>, network: Option<Network>) {
    let (word, hint) = match network {
        Some(Network::Host) => ("host", "leave it out: the program listens on the host's own ports"),
        Some(Network::None) => ("none", "leave `network` out, or leave `publish` out"),
        Some(Network::Default) | None => return,
    };
    if rules.texts("publish").is_none_or(|texts| texts.is_empty()) {
        return;
    }
    if let Some(entry) = rules.get("publish") {
        rules.error(&entry.key, format!("`publish` has no effect with network = \"{word}\""), hint);
    }
}

/// The kernel routes packets from ::1 to nowhere but itself, and has no sysctl against that as it has for
/// 127.0.0.1 (`route_localnet`, ip-sysctl.rst). What comes to an address of one link is not forwarded either.
fn published_at_no_way_out(rules: &mut Rules<'_>, all: &mut Vec<(Publish, Place)>) {
    for (_, place) in all.extract_if(.., |(publish, _)| publish.at == Some(IpAddr::V6(Ipv6Addr::LOCALHOST))) {
        rules.error(
            &place,
            "nothing can be published at ::1: the kernel lets no packet from there out",
            "write 127.0.0.1, which programs on the host can use instead",
        );
    }
    let is_of_link = |at: IpAddr| match at {
        IpAddr::V4(at) => at.is_link_local(),
        IpAddr::V6(at) => at.is_unicast_link_local(),
    };
    for (publish, place) in all.extract_if(.., |(publish, _)| publish.at.is_some_and(is_of_link)) {
        let at = publish.at.map(|at| at.to_string()).unwrap_or_default();
        rules.error(
            &place,
            format!("nothing can be published at {at}: it is an address of one link alone, from where nothing is forwarded"),
            "write another address of the host's, or none for all of them",
        );
    }
}

/// Whether they are few enough.
fn published_too_many(rules: &mut Rules<'_>, all: &[(Publish, Place)]) -> bool {
    let mut count = 0;
    for (publish, place) in all {
        count += usize::from(publish.count);
        if count > PORTS_MAX {
            rules.error(
                place,
                format!("more than {PORTS_MAX} ports are published: each takes room in a map of the kernel"),
                "publish fewer, or write network = \"host\", where the program listens on the host's own ports",
            );
            return false;
        }
    }
    true
}

/// A port of the host leads to one place.
fn published_twice(rules: &mut Rules<'_>, all: &[(Publish, Place)]) {
    for (at, (publish, place)) in all.iter().enumerate() {
        if let Some((before, _)) = all[..at].iter().find(|(before, _)| before.overlaps(publish)) {
            rules.error(
                place,
                format!("\"{publish}\" publishes what \"{before}\" does already"),
                "a port of one of the host's addresses leads to one port of one container; keep one of them",
            );
        }
    }
}

/// A user namespace has no rights over the host's network: binding a port below 1024 fails inside, which
/// surprises who knows that root may. Who wrote `user-namespace` has decided and is left alone.
pub fn low_ports(rules: &mut Rules<'_>) {
    let Some(("host", place)) = rules.text("network") else { return };
    if rules.get("user-namespace").is_some() {
        return;
    }
    rules.findings.push(
        Finding::note(
            place.clone(),
            "on the host's network a container with a user namespace can't listen on ports below 1024",
        )
        .hint(
            "lower the sysctl net.ipv4.ip_unprivileged_port_start, or write user-namespace = false; user-namespace = true silences this note",
        ),
    );
}
