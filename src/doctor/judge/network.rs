//! Names, the firewall, forwarding, addresses.

use std::collections::BTreeMap;

use super::unseen;
use crate::doctor::facts::{Firewall, Forwarding, Look, Passed, Pools, Resolver, Rules};
use crate::doctor::{Line, count, few};

pub(super) fn resolver(resolver: &Resolver, units: &Look<BTreeMap<String, String>>) -> [Line; 1] {
    const TOPIC: &str = "name servers";
    let Resolver { servers, asks_resolved } = resolver;
    let state = units.seen().map(|units| units.get("systemd-resolved.service").map(String::as_str));
    // Where nobody could be asked, it isn't said to be down.
    if *asks_resolved && matches!(state, Some(state) if state != Some("active")) {
        return [Line::warning(
            TOPIC,
            "the host asks systemd-resolved, which does not run: images can't be fetched by name",
            "systemctl start systemd-resolved, or name servers in /etc/resolv.conf",
        )];
    }
    [if servers.is_empty() {
        Line::warning(
            TOPIC,
            "the host names none that a container could reach, so that containers look up no names",
            "put a server's address (nameserver 192.0.2.53, not one of 127.0.0.0/8) into /etc/resolv.conf",
        )
    } else {
        Line::ok(TOPIC, servers.join(" "))
    }]
}

/// firewalld's own way for interfaces (firewall-cmd(1)). What containers may ask of the host is Wharf's table's to say.
const TRUST: &str = "where a link is refused: firewall-cmd --permanent --zone=trusted --add-interface=wharf-+, then firewall-cmd --reload";

/// Where README says what to let through.
const LET_THROUGH: &str = "let `ct status dnat` and what comes from wharf-* through there: see \"With a firewall\" in README, or wharf-network(5)";

pub(super) fn firewall(firewall: &Firewall) -> Vec<Line> {
    const TOPIC: &str = "firewall";
    let Firewall {
        nft,
        chains,
        intact,
        connected,
        publishing,
        networked,
        managers,
        strict_firewalld,
        legacy,
    } = firewall;
    let mut lines = Vec::new();
    if !nft {
        let message = "there is no program nft (/usr/sbin/nft), which loads Wharf's table";
        let hint = "install the package nftables";
        // What has no network of its own starts without.
        lines.push(if *networked > 0 {
            Line::error(TOPIC, message, hint)
        } else {
            Line::warning(TOPIC, message, hint)
        });
    }
    if *strict_firewalld {
        let message = match publishing.as_slice() {
            [] => "firewalld lets no published port through: StrictForwardPorts=yes".to_owned(),
            names => format!(
                "firewalld lets no published port through (StrictForwardPorts=yes): {} can't start",
                few(names)
            ),
        };
        let hint = "set it to no in /etc/firewalld/firewalld.conf, then: firewall-cmd --reload";
        lines.push(match publishing.is_empty() {
            true => Line::warning(TOPIC, message, hint),
            false => Line::error(TOPIC, message, hint),
        });
    }
    // Those that let nothing through but for rules about containers: whether these are enough can't be seen from here.
    let mut by_rules = Vec::new();
    for Passed { chain, rules } in chains.seen().into_iter().flatten() {
        let name = format!("{} {} {}", chain.family, chain.table, chain.name);
        let Rules { name_ours, close, pass_published } = *rules;
        match (chain.drops || close, name_ours, pass_published) {
            (false, _, _) => {}
            (true, true, _) => by_rules.push(name),
            (true, false, true) => lines.push(Line::note(
                TOPIC,
                format!("{name} lets published ports through; of links and what containers send, what its other rules allow"),
                if managers.iter().any(|manager| manager == "firewalld") { TRUST } else { LET_THROUGH },
            )),
            (true, false, false) => {
                let message = format!("{name} drops what is forwarded, published ports and links as well");
                lines.push(match networked {
                    0 => Line::note(TOPIC, message, LET_THROUGH),
                    _ => Line::warning(TOPIC, message, LET_THROUGH),
                });
            }
        }
    }
    if !legacy.is_empty() {
        lines.push(Line::note(
            TOPIC,
            format!("the old iptables has tables, too: {}", few(legacy)),
            "see whether they drop what is forwarded: iptables-legacy-save; better is one kind, iptables-nft (update-alternatives --config iptables)",
        ));
    }
    if intact.seen() == Some(&false) {
        lines.push(Line::error(
            TOPIC,
            format!(
                "the table inet wharf isn't as it should be, for {}",
                count(*connected, "running container")
            ),
            "systemctl start wharf-network puts it right; journalctl -u wharf-network says why it wasn't",
        ));
    }
    if let Some(line) = unseen(TOPIC, chains).or_else(|| unseen(TOPIC, intact)) {
        lines.push(line);
    }
    if lines.is_empty() {
        let who = match (managers.as_slice(), by_rules.as_slice()) {
            ([], []) => "nobody else's rules drop what is forwarded".to_owned(),
            (managers, []) => {
                format!("{} is in charge, and lets through what is forwarded", managers.join(" and "))
            }
            (_, names) => {
                format!("{} lets through what its rules about wharf- interfaces say", few(names))
            }
        };
        let table = match (connected, intact.seen()) {
            (0, _) | (_, None) => String::new(),
            _ => format!("; the table inet wharf is whole, for {}", count(*connected, "running container")),
        };
        lines.push(Line::ok(TOPIC, format!("{who}{table}")));
    } else if let (Some(line), false) = (lines.first_mut(), managers.is_empty()) {
        line.message.push_str(&format!(" (in charge: {})", managers.join(" and ")));
    }
    lines
}

pub(super) fn forwarding(forwarding: &Forwarding) -> Vec<Line> {
    const TOPIC: &str = "forwarding";
    let Forwarding { now, files, connected } = forwarding;
    let off: Vec<String> = now.iter().filter(|(_, on)| !on).map(|(name, _)| name.clone()).collect();
    let mut lines = Vec::new();
    if *connected > 0 && !off.is_empty() {
        lines.push(Line::error(
            TOPIC,
            format!("{} cut off: {} is 0", count(*connected, "running container"), few(&off)),
            format!("sysctl -w {}", off.iter().map(|name| format!("{name}=1")).collect::<Vec<_>>().join(" ")),
        ));
    }
    for (file, name) in files {
        lines.push(Line::warning(
            TOPIC,
            format!("{file} sets {name} to 0: containers are cut off whenever it is applied"),
            format!("take the line out of {file}"),
        ));
    }
    if lines.is_empty() {
        let said =
            if off.is_empty() { "on" } else { "off; the first start of a container with a network sets it" };
        lines.push(Line::ok(TOPIC, said));
    }
    lines
}

pub(super) fn pools(pools: &Pools) -> [Line; 1] {
    const TOPIC: &str = "addresses";
    let Pools { chosen, damaged, clashes } = pools;
    const FILE: &str = "/var/lib/wharf/leases/pools";
    [if *damaged {
        Line::error(
            TOPIC,
            format!("{FILE} doesn't hold two networks"),
            format!(
                "write an IPv4 and an IPv6 network there, as in `10.131.0.0/16 fd12:3456:789a::/64`, or remove {FILE}"
            ),
        )
    } else if !clashes.is_empty() {
        Line::warning(
            TOPIC,
            format!("the host has routes to some of the containers' addresses elsewhere: {}", few(clashes)),
            format!("choose another network: stop the containers, write it to {FILE}, start them"),
        )
    } else {
        Line::ok(TOPIC, chosen.as_deref().unwrap_or("networks are chosen at the first start"))
    }]
}
