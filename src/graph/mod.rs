//! Declared containers as a picture: what leads where, as a value, and that as text, DOT and SVG.
//!
//! Pure. A [`Graph`] is made from checked containers and is the same for the same files, so that a picture in a
//! repository changes only when a container does.

mod declared;
mod dot;
mod layout;
mod svg;
mod text;

use std::collections::BTreeSet;

use serde::Serialize;

pub use declared::{Declared, graph};
pub use dot::dot;
pub use svg::svg;
pub use text::text;

/// What stands in the picture. The fields are documented in `wharf graph --help` and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What kind and which one: `container:nginx`, `volume:data`, `bind:/srv/www`, `port:80/tcp`, `host`.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// As people call it: a name, a path, a port with its address.
    pub label: String,
    /// A container's `description`.
    pub description: Option<String>,
    /// A container's image reference.
    pub image: Option<String>,
    /// The folder that a container without an image has as its root.
    pub rootfs: Option<String>,
    /// A container's `network`.
    pub network: Option<String>,
    /// Why a container can't be relied on.
    pub problem: Option<Problem>,
    /// systemd's ActiveState of a container, where systemd was asked.
    pub state: Option<String>,
}

/// What a [`Node`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A container.
    Container,
    /// A template, which runs only as instances.
    Template,
    /// A port of the host that leads to a container.
    Port,
    /// A named volume.
    Volume,
    /// A path of the host.
    Bind,
    /// The host itself, which containers may link to.
    Host,
}

/// Why a container can't be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// Its files have errors.
    BadFile,
    /// Something links to it, and nothing declares it.
    NotDeclared,
}

impl Problem {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::BadFile => "bad file",
            Self::NotDeclared => "not declared",
        }
    }
}

impl Node {
    fn new(kind: Kind, id: String, label: String) -> Self {
        Self {
            id,
            kind,
            label,
            description: None,
            image: None,
            rootfs: None,
            network: None,
            problem: None,
            state: None,
        }
    }

    fn is_container(&self) -> bool {
        matches!(self.kind, Kind::Container | Kind::Template)
    }

    /// What is said about a container below its name: where its root comes from, and what isn't usual.
    fn lines(&self) -> Vec<&str> {
        let mut lines: Vec<&str> = self.image.as_deref().or(self.rootfs.as_deref()).into_iter().collect();
        lines.extend(match self.network.as_deref() {
            Some("host") => Some("on the host's network"),
            Some("none") => Some("no network"),
            _ => None,
        });
        lines.extend((self.kind == Kind::Template).then_some("template"));
        lines.extend(self.problem.map(Problem::words));
        lines
    }
}

/// What leads from one node to another. The fields are documented in `wharf graph --help` and stay.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// The id of a node.
    pub from: String,
    /// The id of a node.
    pub to: String,
    /// What it is.
    pub kind: EdgeKind,
    /// The alias of a link, the container's port of a published one, the target of a mount; nothing for a link
    /// by the target's own name.
    pub label: Option<String>,
    /// A mount that can't be written through.
    pub read_only: bool,
}

/// What an [`Edge`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdgeKind {
    /// A container may connect to another, or to the host.
    Link,
    /// A port of the host leads to a container's.
    Publish,
    /// A volume or bind is mounted into a container.
    Mount,
}

/// Nodes and edges, in a fixed order: containers by name, then ports, volumes and binds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// Each id once.
    pub nodes: Vec<Node>,
    /// Between nodes that are there.
    pub edges: Vec<Edge>,
}

impl Graph {
    /// Only these containers, what they reach by links, and what links to them, near or far; with the ports,
    /// volumes and binds of all those.
    #[must_use]
    pub fn around(self, names: &[&str]) -> Self {
        let named: BTreeSet<String> = names.iter().map(|name| container_id(name)).collect();
        let reach = |back: bool| {
            let mut reached = named.clone();
            let mut ways: Vec<String> = named.iter().cloned().collect();
            while let Some(at) = ways.pop() {
                for edge in self.edges.iter().filter(|edge| edge.kind == EdgeKind::Link) {
                    let (from, to) = if back { (&edge.to, &edge.from) } else { (&edge.from, &edge.to) };
                    if *from == at && reached.insert(to.clone()) {
                        ways.push(to.clone());
                    }
                }
            }
            reached
        };
        let kept: BTreeSet<String> = reach(false).union(&reach(true)).cloned().collect();
        let mut near = kept.clone();
        for edge in self.edges.iter().filter(|edge| edge.kind != EdgeKind::Link) {
            if kept.contains(&edge.from) {
                near.insert(edge.to.clone());
            } else if kept.contains(&edge.to) {
                near.insert(edge.from.clone());
            }
        }
        // What isn't kept is a stranger, even if it mounts the same.
        let has = |edge: &Edge| match edge.kind {
            EdgeKind::Link => kept.contains(&edge.from) && kept.contains(&edge.to),
            EdgeKind::Publish => kept.contains(&edge.to),
            EdgeKind::Mount => kept.contains(&edge.from),
        };
        Self {
            nodes: self.nodes.into_iter().filter(|node| near.contains(&node.id)).collect(),
            edges: self.edges.into_iter().filter(has).collect(),
        }
    }

    /// Fills in the containers' states by their names; nothing where systemd doesn't know one.
    pub fn states(&mut self, state: impl Fn(&str) -> Option<String>) {
        for node in self.nodes.iter_mut().filter(|node| node.kind == Kind::Container) {
            node.state = state(&node.label);
        }
    }
}

fn container_id(name: &str) -> String {
    format!("container:{name}")
}

#[cfg(test)]
mod tests;
