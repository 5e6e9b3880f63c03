//! A graph in DOT, for graphviz and all that reads it.

use std::fmt::Write as _;

use super::{Edge, EdgeKind, Graph, Kind, Node};

/// The whole file.
pub fn dot(graph: &Graph) -> String {
    let mut text = String::from(
        "digraph wharf {\n\
         \x20   rankdir=LR;\n\
         \x20   node [fontname=\"sans-serif\", fontsize=11];\n\
         \x20   edge [fontname=\"sans-serif\", fontsize=9];\n",
    );
    // Writing to a String can't fail.
    for node in &graph.nodes {
        let _ = writeln!(text, "    {} [{}];", quoted(&node.id), node_attributes(node));
    }
    for edge in &graph.edges {
        let Edge { from, to, kind, label, read_only } = edge;
        let mut attributes: Vec<String> = match kind {
            EdgeKind::Link => vec![],
            EdgeKind::Publish => vec!["color=\"#1a7f37\"".to_owned()],
            EdgeKind::Mount => vec!["style=dashed".to_owned(), "dir=none".to_owned()],
        };
        let suffix = if *read_only { " (read-only)" } else { "" };
        attributes
            .extend(label.as_ref().map(|label| format!("label={}", quoted(&format!("{label}{suffix}")))));
        let _ = match attributes.is_empty() {
            true => writeln!(text, "    {} -> {};", quoted(from), quoted(to)),
            false => writeln!(text, "    {} -> {} [{}];", quoted(from), quoted(to), attributes.join(", ")),
        };
    }
    text.push_str("}\n");
    text
}

fn node_attributes(node: &Node) -> String {
    let shape = match node.kind {
        Kind::Container => "shape=box, style=rounded",
        Kind::Template => "shape=box, style=\"rounded,dashed\"",
        Kind::Port => "shape=plain",
        Kind::Volume => "shape=cylinder",
        Kind::Bind => "shape=folder",
        Kind::Host => "shape=box, peripheries=2",
    };
    let shape =
        if node.problem.is_some() { "shape=box, style=\"rounded,dashed\", color=\"#cf222e\"" } else { shape };
    let mut label = node.label.clone();
    for line in node.lines() {
        label.push('\n');
        label.push_str(line);
    }
    let colour = match node.state.as_deref() {
        Some("active") => ", color=\"#1a7f37\"",
        Some("failed") => ", color=\"#cf222e\"",
        _ => "",
    };
    format!("label={}, {shape}{colour}", quoted(&label))
}

/// A quoted string of DOT: in it, only a quotation mark ends it, and a backslash begins an escape of labels.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_stays_in_its_quotes() {
        assert_eq!(quoted("a\"];x\\N\n\u{7}"), "\"a\\\"];x\\\\N\\n\u{fffd}\"");
    }
}
