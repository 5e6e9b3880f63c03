//! A graph as an outline, for a terminal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Edge, EdgeKind, Graph, Kind, Node};

/// The outline: what nothing links to first, with all that it leads to below it. What comes a second time is
/// named and not told again.
pub fn text(graph: &Graph) -> String {
    let mut outline = Outline { graph, told: BTreeSet::new(), text: String::new() };
    let containers = || graph.nodes.iter().filter(|node| node.is_container());
    let linked: BTreeSet<&str> =
        links(graph).filter(|edge| edge.from != edge.to).map(|edge| edge.to.as_str()).collect();
    for node in containers().filter(|node| !linked.contains(node.id.as_str())) {
        outline.root(node);
    }
    // What is left goes round in a circle.
    for node in containers() {
        if !outline.told.contains(node.id.as_str()) {
            outline.root(node);
        }
    }
    outline.text
}

fn links(graph: &Graph) -> impl Iterator<Item = &Edge> {
    graph.edges.iter().filter(|edge| edge.kind == EdgeKind::Link)
}

struct Outline<'g> {
    graph: &'g Graph,
    told: BTreeSet<&'g str>,
    text: String,
}

impl<'g> Outline<'g> {
    fn root(&mut self, node: &'g Node) {
        let title = title(node);
        let _ = writeln!(self.text, "{title}");
        self.below(node, "");
    }

    fn below(&mut self, node: &'g Node, lead: &str) {
        self.told.insert(&node.id);
        let graph = self.graph;
        let mine = |edge: &&Edge| match edge.kind {
            EdgeKind::Publish => edge.to == node.id,
            EdgeKind::Link | EdgeKind::Mount => edge.from == node.id,
        };
        let mut edges: Vec<&Edge> = graph.edges.iter().filter(mine).collect();
        edges.sort_by_key(|edge| match edge.kind {
            EdgeKind::Publish => 0,
            EdgeKind::Mount => 1,
            EdgeKind::Link => 2,
        });
        for (left, edge) in (0..edges.len()).rev().zip(edges) {
            let (branch, rest) = if left == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let Edge { from, to, kind, label, read_only } = edge;
            let other = if *kind == EdgeKind::Publish { from } else { to };
            let Some(other) = graph.nodes.iter().find(|node| node.id == *other) else { continue };
            let label = label.as_deref().unwrap_or_default();
            let read_only = if *read_only { ", read-only" } else { "" };
            let known = self.told.contains(other.id.as_str());
            let line = match (kind, other.kind) {
                (EdgeKind::Publish, _) => format!("published port {} → {label}", other.label),
                (EdgeKind::Mount, Kind::Volume) => format!("volume {} at {label}{read_only}", other.label),
                (EdgeKind::Mount, _) => format!("bind {} at {label}{read_only}", other.label),
                (EdgeKind::Link, _) => {
                    let alias = if label.is_empty() { String::new() } else { format!(" as {label}") };
                    match known && other.is_container() {
                        true => format!("link to {}{alias}, see above", other.label),
                        false => format!("link to {}{alias}", title(other)),
                    }
                }
            };
            let _ = writeln!(self.text, "{lead}{branch}{line}");
            if *kind == EdgeKind::Link && !known && other.is_container() {
                self.below(other, &format!("{lead}{rest}"));
            }
        }
    }
}

/// A container and what is said about it.
fn title(node: &Node) -> String {
    let mut said: Vec<&str> = node.lines();
    said.extend(node.state.as_deref());
    if said.is_empty() { node.label.clone() } else { format!("{} ({})", node.label, said.join(", ")) }
}
