//! The network, and the keys whose effect comes with a later version.

use super::{Network, Rules};
use crate::report::Finding;
use crate::spec::keys::{KEYS, Status};

/// What to write while there is no network but these.
const NETWORK_NOW: &str = "write network = \"host\" to share the host's network, or network = \"none\"";

/// `network`: none or host, until there are others.
pub fn network(rules: &mut Rules<'_>, required: bool) -> Option<Network> {
    match rules.text("network") {
        Some(("none", _)) => Some(Network::None),
        Some(("host", _)) => Some(Network::Host),
        Some((other, place)) => {
            rules.error(place, format!("`network` = \"{other}\" is not supported yet"), NETWORK_NOW);
            None
        }
        None => {
            if required && rules.get("network").is_none() {
                let whole = rules.whole();
                rules.error(
                    &whole,
                    "`network` is not given, and the network `default` is not supported yet",
                    NETWORK_NOW,
                );
            }
            None
        }
    }
}

/// Keys that are read and have no effect yet are refused: nothing is silently ignored.
pub fn later(rules: &mut Rules<'_>) {
    for key in KEYS.iter().filter(|key| !key.path.contains('.')) {
        let Status::Later(instead) = key.status else { continue };
        if let Some(entry) = rules.get(key.path) {
            rules.error(&entry.key, format!("`{}` is not supported yet", key.path), instead);
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
