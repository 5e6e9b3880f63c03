//! What a container was started as, against what its files say now; and its place in the network.

use std::net::IpAddr;

use serde::Serialize;

use crate::net::Addresses;
use crate::running::Running;
use crate::spec::LinkTarget;

/// A running container's place in the network.
#[derive(Debug, Serialize)]
pub(super) struct Network {
    /// The host's side of the pair.
    pub(super) interface: String,
    /// The container's.
    pub(super) addresses: Vec<IpAddr>,
    /// The host's, as the container sees it.
    pub(super) gateway: Vec<IpAddr>,
    /// To whom it may connect.
    pub(super) links: Vec<Linked>,
    /// As in `publish`.
    pub(super) ports: Vec<String>,
}

/// A link in force.
#[derive(Debug, Serialize)]
pub(super) struct Linked {
    /// The container, or `host`.
    pub(super) to: String,
    /// What it is called inside.
    pub(super) names: Vec<String>,
    /// Where it is.
    pub(super) addresses: Vec<IpAddr>,
}

/// What a record says of the network; nothing where the container has none of its own.
pub(super) fn network(running: &Running) -> Option<Network> {
    let attachment = running.attachment.as_ref()?;
    let all = |addresses: &Addresses| addresses.iter().collect();
    // They stand in the order of the links to containers.
    let mut peers = attachment.links.iter();
    let links = running.container.links.iter().map(|link| {
        let addresses = match &link.to {
            LinkTarget::Host => all(&attachment.gateway),
            LinkTarget::Container(_) | LinkTarget::Pattern(_) => peers.next().map(all).unwrap_or_default(),
        };
        Linked { to: link.to.to_string(), names: link.names(), addresses }
    });
    Some(Network {
        interface: attachment.interface.clone(),
        addresses: all(&attachment.addresses),
        gateway: all(&attachment.gateway),
        links: links.collect(),
        ports: running.container.publish.iter().map(ToString::to_string).collect(),
    })
}
