//! From checked containers to a graph.

use std::collections::BTreeMap;

use super::{Edge, EdgeKind, Graph, Kind, Node, Problem, container_id};
use crate::check::{Container, MountKind, Network, RootSource};
use crate::spec::{ContainerName, Link, LinkTarget, Publish};

/// A declared container.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its name.
    pub name: ContainerName,
    /// As its own files say, if they can be read at all.
    pub container: Option<Container>,
    /// Its files have errors, alone or with those of others: it can't start as they stand.
    pub refused: bool,
}

/// Makes the graph of all of them. What is linked to and isn't among them counts as not declared.
pub fn graph(declared: &[Declared]) -> Graph {
    let mut containers = BTreeMap::new();
    for one in declared {
        containers.insert(container_id(one.name.as_str()), node(one));
    }
    let mut others: BTreeMap<(u8, String), Node> = BTreeMap::new();
    let mut edges = Vec::new();
    let good = declared.iter().filter_map(|one| one.container.as_ref());
    for container in good {
        let id = container_id(container.name.as_str());
        for publish in &container.publish {
            let port = port(publish);
            edges.push(Edge {
                from: port.id.clone(),
                to: id.clone(),
                kind: EdgeKind::Publish,
                label: Some(format!("{}/{}", range(publish.container, publish.count), publish.protocol)),
                read_only: false,
            });
            others.insert((0, port.id.clone()), port);
        }
        for link in &container.links {
            let mut to = target(&link.to);
            // `store@%i` leads to what its template says.
            if let LinkTarget::Pattern(text) = &link.to
                && let Some(template) = text.strip_suffix("%i").map(container_id)
                && containers.contains_key(&template)
            {
                to.id = template;
            }
            edges.push(Edge {
                from: id.clone(),
                to: to.id.clone(),
                kind: EdgeKind::Link,
                label: alias(link),
                read_only: false,
            });
            if to.kind == Kind::Host {
                others.insert((1, to.id.clone()), to);
            } else {
                containers.entry(to.id.clone()).or_insert(to);
            }
        }
        for mount in &container.mounts {
            let (node, read_only) = match &mount.kind {
                MountKind::Volume(volume) => (
                    Node::new(Kind::Volume, format!("volume:{}", volume.name), volume.name.clone()),
                    volume.read_only,
                ),
                MountKind::Bind(bind) => {
                    let path = bind.source.to_string_lossy().into_owned();
                    (Node::new(Kind::Bind, format!("bind:{path}"), path), bind.read_only)
                }
                // It is the container's own, and gone with it.
                MountKind::Tmpfs(_) => continue,
            };
            edges.push(Edge {
                from: id.clone(),
                to: node.id.clone(),
                kind: EdgeKind::Mount,
                label: Some(mount.target.clone()),
                read_only,
            });
            others.insert((if node.kind == Kind::Volume { 2 } else { 3 }, node.id.clone()), node);
        }
    }
    edges.sort();
    edges.dedup();
    Graph { nodes: containers.into_values().chain(others.into_values()).collect(), edges }
}

fn node(declared: &Declared) -> Node {
    let Declared { name, container, refused } = declared;
    let kind = if name.is_template() { Kind::Template } else { Kind::Container };
    let node = Node::new(kind, container_id(name.as_str()), name.to_string());
    let Some(container) = container else {
        return Node { problem: Some(Problem::BadFile), ..node };
    };
    let node = Node { problem: refused.then_some(Problem::BadFile), ..node };
    let (image, rootfs) = match &container.source {
        RootSource::Image(reference) => (Some(reference.to_string()), None),
        RootSource::Folder(folder) => (None, Some(folder.display().to_string())),
    };
    let network = match container.network {
        Network::Default => "default",
        Network::None => "none",
        Network::Host => "host",
    };
    Node {
        description: container.description.clone(),
        image,
        rootfs,
        network: Some(network.to_owned()),
        ..node
    }
}

fn port(publish: &Publish) -> Node {
    let Publish { at, protocol, host, container: _, count } = publish;
    let address = match at {
        Some(std::net::IpAddr::V6(address)) => format!("[{address}]:"),
        Some(address) => format!("{address}:"),
        None => String::new(),
    };
    let ports = range(*host, *count);
    let protocol = protocol.to_string();
    // TCP is what one thinks of without being told.
    let suffix = if protocol == "tcp" { String::new() } else { format!("/{protocol}") };
    let label =
        if address.is_empty() { format!(":{ports}{suffix}") } else { format!("{address}{ports}{suffix}") };
    Node::new(Kind::Port, format!("port:{address}{ports}/{protocol}"), label)
}

fn range(first: u16, count: u16) -> String {
    match count {
        0 | 1 => first.to_string(),
        count => format!("{first}-{}", u32::from(first) + u32::from(count) - 1),
    }
}

fn target(to: &LinkTarget) -> Node {
    match to {
        LinkTarget::Host => Node::new(Kind::Host, "host".to_owned(), "this host".to_owned()),
        // A template's own pattern leads to what its instances will link to.
        LinkTarget::Pattern(text) => Node::new(Kind::Template, container_id(text), text.clone()),
        LinkTarget::Container(name) => Node {
            problem: Some(Problem::NotDeclared),
            ..Node::new(Kind::Container, container_id(name.as_str()), name.to_string())
        },
    }
}

/// The alias, where it is another name than the target's own.
fn alias(link: &Link) -> Option<String> {
    link.alias.clone().filter(|alias| *alias != link.to.to_string())
}
