//! What is known of the network: files, leases, records of what runs, and the kernel.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::NetworkError;
use crate::check::{Container, Network as Chosen};
use crate::cli::output::Failure;
use crate::generate;
use crate::host::Paths;
use crate::lease;
use crate::net::{self, Addresses, Element};
use crate::plan;
use crate::running::{self, Running};
use crate::spec::{ContainerName, LinkTarget};

/// The one network there is.
pub(super) const NAME: &str = "default";

/// How the firewall's table is. The words are documented in `--help` and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Firewall {
    /// As it should be.
    InForce,
    /// Gone, or not as it should be.
    Changed,
    /// Nothing runs that it would be for.
    Unneeded,
}

impl Firewall {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::InForce => "in force",
            Self::Changed => "changed",
            Self::Unneeded => "unneeded",
        }
    }
}

/// Whether the kernel passes on what isn't its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Forwarding {
    pub(super) ipv4: bool,
    /// Nothing where the host has no IPv6.
    pub(super) ipv6: Option<bool>,
}

/// The network. The keys are documented in `--help` and stay.
#[derive(Debug, Serialize)]
pub(super) struct Network {
    pub(super) name: &'static str,
    pub(super) ipv4: Option<String>,
    pub(super) ipv6: Option<String>,
    pub(super) gateway: Vec<String>,
    pub(super) firewall: Option<Firewall>,
    pub(super) forwarding: Option<Forwarding>,
    pub(super) containers: Vec<Member>,
    #[serde(skip)]
    pub(super) leases: usize,
}

/// A container on it, or one that has a lease.
#[derive(Debug, Serialize)]
pub(super) struct Member {
    pub(super) name: ContainerName,
    pub(super) declared: bool,
    pub(super) running: bool,
    pub(super) addresses: Vec<String>,
    pub(super) interface: Option<String>,
    pub(super) interface_up: Option<bool>,
    pub(super) hostname: Option<String>,
    pub(super) links: Vec<Linked>,
    pub(super) host: bool,
    pub(super) published: Vec<String>,
}

/// What a container may connect to.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Linked {
    pub(super) to: String,
    /// By which it finds that.
    pub(super) names: Vec<String>,
}

/// Looks at all of it.
pub(super) fn look(paths: &Paths) -> Result<Network, Failure> {
    let state = paths.state();
    let has_ipv6 = !paths.are_this_hosts() || net::has_ipv6();
    let pools = lease::chosen(&state)?;
    let leases: BTreeMap<ContainerName, Addresses> =
        lease::leased(&state)?.into_iter().map(|(name, lease)| (name, lease.addresses)).collect();
    let declared = declared(paths);
    let records = running::all(paths)
        .map_err(|source| NetworkError::Running { path: paths.shown(&paths.running()), source })?;
    let running: BTreeMap<ContainerName, Running> =
        records.into_iter().map(|running| (running.container.name.clone(), running)).collect();
    let interfaces = if paths.are_this_hosts() { net::interfaces().ok() } else { None };
    let on_it = |container: &&Container| container.network == Chosen::Default;
    let mut names: BTreeSet<&ContainerName> = leases.keys().collect();
    names.extend(declared.values().filter(on_it).map(|container| &container.name));
    names.extend(running.values().filter(|one| one.attachment.is_some()).map(|one| &one.container.name));
    let member = |name: &ContainerName| {
        let own = declared.get(name).or_else(|| name.template().and_then(|template| declared.get(&template)));
        let record = running.get(name).filter(|record| record.attachment.is_some());
        let attachment = record.and_then(|record| record.attachment.as_ref());
        let addresses = attachment.map(|it| it.addresses).or_else(|| leases.get(name).copied());
        // What runs is as it was started, with the links of its file now.
        let container = record.map(|record| &record.container).or(own);
        let hostname_of = |name: &ContainerName| {
            let other = running.get(name).map(|record| &record.container).or_else(|| declared.get(name));
            other.map(|container| container.hostname.clone())
        };
        Member {
            name: name.clone(),
            declared: own.is_some_and(|container| on_it(&container)),
            running: record.is_some(),
            addresses: addresses.iter().flat_map(|it| shown(it, has_ipv6)).collect(),
            interface: attachment.map(|it| it.interface.clone()),
            interface_up: attachment
                .and_then(|it| interfaces.as_ref().map(|interfaces| interfaces.contains(&it.interface))),
            hostname: container.map(|container| container.hostname.clone()),
            links: container.map(|container| links(container, hostname_of)).unwrap_or_default(),
            host: container.is_some_and(|it| it.links.iter().any(|link| link.to == LinkTarget::Host)),
            published: container
                .iter()
                .flat_map(|container| container.publish.iter().map(ToString::to_string))
                .collect(),
        }
    };
    let containers: Vec<Member> = names.into_iter().map(member).collect();
    let [ipv4, ipv6] = match pools.map(lease::Pools::networks) {
        Some([v4, v6]) => [Some(v4), Some(v6).filter(|_| has_ipv6)],
        None => [None, None],
    };
    Ok(Network {
        name: NAME,
        ipv4,
        ipv6,
        gateway: pools.iter().flat_map(|pools| shown(&pools.gateway(), has_ipv6)).collect(),
        firewall: firewall(paths, running.values()),
        forwarding: paths.are_this_hosts().then(|| {
            let (ipv4, ipv6) = net::forwards();
            Forwarding { ipv4, ipv6 }
        }),
        containers,
        leases: leases.len(),
    })
}

fn shown(addresses: &Addresses, has_ipv6: bool) -> Vec<String> {
    addresses
        .iter()
        .filter(|address| has_ipv6 || address.is_ipv4())
        .map(|address| address.to_string())
        .collect()
}

/// Every container whose own files are good, by name.
fn declared(paths: &Paths) -> BTreeMap<ContainerName, Container> {
    let listing = generate::list(paths);
    let mut found = BTreeMap::new();
    for (name, files) in &listing.containers {
        let files = generate::read(paths, &listing, name, files);
        if let Some(container) = files.and_then(|files| plan::check(&files).container) {
            found.insert(name.clone(), container);
        }
    }
    found
}

fn links(container: &Container, hostname_of: impl Fn(&ContainerName) -> Option<String>) -> Vec<Linked> {
    let others = container.links.iter().filter(|link| link.to != LinkTarget::Host);
    others
        .map(|link| {
            let mut names = link.names();
            names.extend(link.to.container().and_then(&hostname_of));
            let mut seen = BTreeSet::new();
            names.retain(|name| seen.insert(name.clone()));
            let to = match &link.to {
                LinkTarget::Container(name) => name.to_string(),
                LinkTarget::Pattern(text) => text.clone(),
                LinkTarget::Host => String::new(),
            };
            Linked { to, names }
        })
        .collect()
}

/// Asks the kernel, where it is this host's and may be asked.
fn firewall<'a>(paths: &Paths, running: impl Iterator<Item = &'a Running>) -> Option<Firewall> {
    if !paths.are_this_hosts() {
        return None;
    }
    let attachments: Vec<_> = running.filter_map(|running| running.attachment.as_ref()).collect();
    if attachments.is_empty() {
        return Some(Firewall::Unneeded);
    }
    let elements: BTreeSet<Element> = attachments.into_iter().flat_map(net::elements).collect();
    match net::intact(&elements) {
        Ok(true) => Some(Firewall::InForce),
        Ok(false) => Some(Firewall::Changed),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_and_leases_come_together() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        write(
            "etc/wharf/containers/web.toml",
            "image = 'a'\nlinks = ['my_db:store', 'host']\npublish = ['80:8080']\n",
        );
        write("etc/wharf/containers/my_db.toml", "image = 'a'\nhostname = 'dbhost'\n");
        write("etc/wharf/containers/alone.toml", "image = 'a'\nnetwork = 'none'\n");
        write("var/lib/wharf/leases/pools", "10.131.0.0/16 fd00::/64\n");
        write("var/lib/wharf/leases/addresses/web", "7\n");
        write("var/lib/wharf/leases/addresses/old", "8\n");
        let network = look(&Paths::new(root.path())).expect("looked");
        assert_eq!(network.ipv4.as_deref(), Some("10.131.0.0/16"));
        assert_eq!((network.gateway.len(), network.leases, network.firewall), (2, 2, None));
        let names: Vec<_> = network.containers.iter().map(|one| (one.name.as_str(), one.declared)).collect();
        assert_eq!(names, [("my_db", true), ("old", false), ("web", true)]);
        let web = &network.containers[2];
        assert_eq!(web.addresses, ["10.131.0.7", "fd00::7"]);
        let names = ["my_db", "my-db", "store", "dbhost"].map(str::to_owned).to_vec();
        assert_eq!(web.links, [Linked { to: "my_db".to_owned(), names }]);
        assert!(web.host && !web.running && network.containers[0].addresses.is_empty());
        assert_eq!(web.published.len(), 1);
    }
}
