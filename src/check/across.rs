//! The rules across files: what one container's files say of others.
//!
//! Every declared name counts, also where its own files have mistakes: its unit is there all the same, and one
//! broken file must not break those that link to it.

use std::collections::{BTreeMap, VecDeque};

use super::{Checked, Mount, MountKind, Network};
use crate::report::{Finding, Place};
use crate::spec::{ContainerName, HOST, Link, LinkTarget, Protocol, Publish, nearest};

/// Every declared container, template and instance with files of its own.
pub type All<'a> = BTreeMap<&'a ContainerName, &'a Checked>;

/// What is found, each with the container in whose files it is.
pub type Found = Vec<(ContainerName, Finding)>;

/// What the host is called in the files of others.
const HOST_ELSEWHERE: [&str; 2] = ["gateway", "host.docker.internal"];

/// Asks every rule.
pub fn across(all: &All<'_>) -> Found {
    let mut found = Found::new();
    for (name, checked) in all {
        let links = &checked.connections.links;
        let findings = links.iter().filter_map(|(link, place)| target(all, checked, link, place));
        found.extend(findings.map(|finding| ((*name).clone(), finding)));
    }
    found.extend(Graph::new(all).circles());
    found.extend(same_ports(all));
    found.extend(super::socket::across(all));
    found.extend(same_volumes(all));
    found
}

/// What declares a container: its own files, or its template's.
fn declares<'a>(all: &All<'a>, name: &ContainerName) -> Option<&'a Checked> {
    all.get(name).or_else(|| all.get(&name.template()?)).copied()
}

/// The template of a name with `%i` after the `@`; nothing for other patterns, which may mean anything.
fn pattern_template(pattern: &str) -> Option<ContainerName> {
    let (prefix, _) = pattern.split_once('@')?;
    format!("{prefix}@").parse().ok()
}

/// A link leads to a container that is declared and can be reached.
fn target(all: &All<'_>, from: &Checked, link: &Link, place: &Place) -> Option<Finding> {
    let (known, template) = match &link.to {
        LinkTarget::Host => return None,
        LinkTarget::Container(name) => (declares(all, name), name.template()),
        LinkTarget::Pattern(text) => {
            let template = pattern_template(text)?;
            (all.get(&template).copied(), Some(template))
        }
    };
    match known {
        None => Some(undeclared(all, &link.to.to_string(), template, place)),
        Some(to) => unreachable(from, to, link, place),
    }
}

fn undeclared(all: &All<'_>, to: &str, template: Option<ContainerName>, place: &Place) -> Finding {
    let message = match &template {
        Some(template) => format!("neither the container `{to}` nor the template `{template}` is declared"),
        None => format!("no container `{to}` is declared"),
    };
    let instance = to.split_once('@').map_or("", |(_, instance)| instance);
    let template_of_it: Option<ContainerName> = format!("{to}@").parse().ok();
    let near = match &template {
        // The right instance of the wrong template.
        Some(template) => {
            let templates = all.keys().filter(|name| name.is_template()).map(|name| name.as_str());
            nearest(template.as_str(), templates).map(|near| format!("{near}{instance}"))
        }
        None => {
            let names = all.keys().filter(|name| !name.is_template()).map(|name| name.as_str());
            nearest(to, names).map(str::to_owned)
        }
    };
    if HOST_ELSEWHERE.contains(&to) {
        return Finding::error(place.clone(), message).hint(format!("write \"{HOST}\" for the host itself"));
    }
    let hint = match (near, template_of_it.filter(|name| all.contains_key(name))) {
        (_, Some(template)) => {
            format!("`{template}` is a template: write an instance of it, like \"{template}blue\"")
        }
        (Some(near), None) => format!("did you mean \"{near}\"?"),
        (None, None) => {
            let file = template.map_or_else(|| to.to_owned(), |template| template.to_string());
            format!("its file would be /etc/wharf/containers/{file}.toml")
        }
    };
    Finding::error(place.clone(), message).hint(hint)
}

/// Only what has an address of its own can be linked to.
fn unreachable(from: &Checked, to: &Checked, link: &Link, place: &Place) -> Option<Finding> {
    // What links without a network has its own finding.
    if from.connections.network == Some(Network::None) {
        return None;
    }
    let target = &link.to;
    let (message, hint) = match (to.connections.network?, from.connections.network) {
        (Network::Default, _) => return None,
        (Network::None, _) => (
            format!("{target} can't be reached: it has network = \"none\""),
            format!(
                "take `network` out of the files of {target}; or leave the link out, and write After= under [systemd.Unit] for the order alone"
            ),
        ),
        (Network::Host, Some(Network::Host)) => (
            format!("{target} is on the host's network too, and has no address of its own to link to"),
            "leave the link out, and connect to localhost; After= under [systemd.Unit] is for the order"
                .into(),
        ),
        (Network::Host, _) => (
            format!("{target} is on the host's network, and has no address of its own to link to"),
            "write \"host\", with an alias after `:` if you like: a link to the host itself, with all that listens there"
                .into(),
        ),
    };
    Some(Finding::error(place.clone(), message).hint(hint))
}

/// Who links to whom: containers, templates that stand for any instance of theirs, and instances that only a
/// link names.
struct Graph<'a> {
    names: Vec<ContainerName>,
    links: Vec<Vec<Edge<'a>>>,
}

struct Edge<'a> {
    to: usize,
    /// In whose files the link is.
    owner: &'a ContainerName,
    place: &'a Place,
}

impl<'a> Graph<'a> {
    fn new(all: &All<'a>) -> Self {
        let mut graph = Self { names: all.keys().map(|name| (*name).clone()).collect(), links: Vec::new() };
        let mut numbers: BTreeMap<ContainerName, usize> = graph.names.iter().cloned().zip(0..).collect();
        // Grows while instances are met that are only named by links. Their names are made of the prefixes and
        // the instances that stand in files, so there is an end to them.
        while graph.links.len() < graph.names.len() {
            let name = graph.names[graph.links.len()].clone();
            let mut edges = Vec::new();
            for (to, owner, place) in targets(all, &name) {
                let to = *numbers.entry(to.clone()).or_insert_with(|| {
                    graph.names.push(to);
                    graph.names.len() - 1
                });
                edges.push(Edge { to, owner, place });
            }
            graph.links.push(edges);
        }
        graph
    }

    /// A finding for each link that is part of a circle.
    fn circles(&self) -> Found {
        let mut found = Found::new();
        let kept = self.without_ends();
        for (from, edges) in self.links.iter().enumerate().filter(|(from, _)| kept[*from]) {
            for edge in edges {
                let Some(way) = self.way(edge.to, from, &kept) else { continue };
                let finding = Finding::error(
                    edge.place.clone(),
                    format!("links run in a circle: {}", self.shown(from, &way)),
                )
                .hint("each would have to start before the other; leave one of the links out");
                found.push((edge.owner.clone(), finding));
            }
        }
        found
    }

    /// A circle in words. Few are long; of those the beginning and the end will do.
    fn shown(&self, from: usize, way: &[usize]) -> String {
        const MOST: usize = 12;
        let mut names: Vec<String> =
            std::iter::once(&from).chain(way).map(|number| self.names[*number].to_string()).collect();
        if names.len() > MOST {
            let left_out = names.len() - MOST;
            names.splice(MOST - 2..names.len() - 2, [format!("({left_out} more)")]);
        }
        names.join(" -> ")
    }

    /// Which have both links to them and links from them, when all others are taken away: nearly always none,
    /// so that a search for each link costs nothing.
    fn without_ends(&self) -> Vec<bool> {
        let mut kept = vec![true; self.names.len()];
        let mut back: Vec<Vec<usize>> = vec![Vec::new(); self.names.len()];
        for (from, edges) in self.links.iter().enumerate() {
            edges.iter().for_each(|edge| back[edge.to].push(from));
        }
        let forth: Vec<Vec<usize>> =
            self.links.iter().map(|edges| edges.iter().map(|edge| edge.to).collect()).collect();
        for (before, after) in [(&back, &forth), (&forth, &back)] {
            let mut count: Vec<usize> =
                before.iter().map(|others| others.iter().filter(|other| kept[**other]).count()).collect();
            let mut ends: Vec<usize> =
                (0..kept.len()).filter(|number| kept[*number] && count[*number] == 0).collect();
            while let Some(end) = ends.pop() {
                kept[end] = false;
                for other in after[end].iter().copied().filter(|other| kept[*other]) {
                    count[other] -= 1;
                    if count[other] == 0 {
                        ends.push(other);
                    }
                }
            }
        }
        kept
    }

    /// The shortest way along links, both ends with it.
    fn way(&self, from: usize, to: usize, kept: &[bool]) -> Option<Vec<usize>> {
        let mut reached_from: Vec<Option<usize>> = vec![None; self.names.len()];
        let mut next = VecDeque::from([from]);
        while let Some(number) = next.pop_front() {
            if number == to {
                let mut way = vec![to];
                while way[way.len() - 1] != from {
                    way.push(reached_from[way[way.len() - 1]]?);
                }
                way.reverse();
                return Some(way);
            }
            for edge in self.links[number].iter().filter(|edge| kept[edge.to] && edge.to != from) {
                if reached_from[edge.to].is_none() {
                    reached_from[edge.to] = Some(number);
                    next.push_back(edge.to);
                }
            }
        }
        None
    }
}

/// What a container links to, of what is declared. A link to itself has its own finding.
fn targets<'a>(all: &All<'a>, name: &ContainerName) -> Vec<(ContainerName, &'a ContainerName, &'a Place)> {
    let template = name.template();
    let own = all.get_key_value(name);
    // An instance without files of its own is what its template says, filled in.
    let (found, instance) = match (own, template.as_ref().and_then(|template| all.get_key_value(template))) {
        (Some(own), _) => (Some(own), None),
        (None, template) => (template, name.instance()),
    };
    let Some((owner, checked)) = found else { return Vec::new() };
    let of = |link: &Link| match (&link.to, instance) {
        (LinkTarget::Container(to), _) => Some(to.clone()),
        (LinkTarget::Host, _) => None,
        (LinkTarget::Pattern(text), instance) => {
            // `app@%i` keeps the instance; what makes other names of it can't be followed to an end.
            let template = pattern_template(text).filter(|template| *text == format!("{template}%i"))?;
            match instance {
                Some(instance) => format!("{template}{instance}").parse().ok(),
                None => Some(template),
            }
        }
    };
    let links = checked.connections.links.iter();
    links
        .filter_map(|(link, place)| Some((of(link)?, *owner, place)))
        .filter(|(to, ..)| to != name && declares(all, to).is_some())
        .collect()
}

/// What asks for snapshots of a volume has it for itself: with it, the data of others would be put back.
fn same_volumes(all: &All<'_>) -> Found {
    let has = |checked: &Checked, volume: &str| {
        let is = |mount: &Mount| matches!(&mount.kind, MountKind::Volume(other) if other.name == volume);
        checked.container.as_ref().is_some_and(|container| container.mounts.iter().any(is))
    };
    let mut found = Found::new();
    // A template never runs; of its instances, those that have files are here.
    let all: Vec<_> = all.iter().filter(|(name, _)| !name.is_template()).collect();
    for (name, checked) in &all {
        let container = checked.container.as_ref().filter(|container| container.snapshot);
        let Some((container, place)) = container.zip(checked.connections.snapshot.as_ref()) else { continue };
        for volume in container.writes_to() {
            let Some((other, _)) = all.iter().find(|(other, of)| other != name && has(of, volume)) else {
                continue;
            };
            let finding = Finding::warning(
                place.clone(),
                format!("`snapshot` asks for volume {volume} alone, and {other} has it as well"),
            )
            .hint(format!(
                "updates of {name} are refused while {other} runs, as its data would be put back too: give one of \
                 them a volume of its own, or leave `snapshot` out"
            ));
            found.push(((**name).clone(), finding));
        }
    }
    found
}

/// Two containers that boot starts can't have the same port. What is started by hand may take turns.
fn same_ports(all: &All<'_>) -> Found {
    let mut found = Found::new();
    let mut taken: BTreeMap<Protocol, Vec<(Publish, &ContainerName)>> = BTreeMap::new();
    for (name, checked) in all {
        // With errors it may publish too much to be compared, and doesn't run as it stands.
        if checked.container.is_none() || !checked.autostart {
            continue;
        }
        let own = &checked.connections.publish;
        for (publish, place) in own {
            let others = taken.entry(publish.protocol).or_default();
            if let Some((other, by)) = others.iter().find(|(other, _)| other.overlaps(publish)) {
                let finding = Finding::warning(
                    place.clone(),
                    format!("\"{publish}\" can't be published while {by} publishes \"{other}\""),
                )
                .hint("boot starts both, and only one can have it: publish at another port or address, or write autostart = false in one of them");
                found.push(((*name).clone(), finding));
            }
        }
        for (publish, _) in own {
            taken.entry(publish.protocol).or_default().push((*publish, *name));
        }
    }
    found
}
