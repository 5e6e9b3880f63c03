//! A graph as a picture: one self-contained SVG, for light and dark, with the reader's own fonts.
//!
//! Colours are classes and not CSS variables, and arrowheads are polygons and not markers with the line's
//! colour: librsvg and Inkscape know neither.

mod measure;
mod shapes;

use std::fmt::Write as _;

use super::layout::{self, Item, Route, Wire};
use super::{Edge, EdgeKind, Graph, Kind, Node};
use measure::{Font, escaped, shortened, width};
use shapes::Shape;

/// Around everything, in pixels.
const MARGIN: f64 = 28.0;
/// The longest text on a line, in characters; the whole is in its tooltip.
const LABEL_MAX: usize = 26;

const STYLE: &str = "\
text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif; fill: #1f2328; }
.name { font-size: 15px; font-weight: 600; }
.small { font-size: 12px; }
.tiny { font-size: 11px; }
.muted { fill: #59636e; }
.bad { fill: #cf222e; }
.label { stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; paint-order: stroke; }
.card { fill: #ffffff; stroke: #d1d9e0; }
.shape { stroke-width: 1.5px; }
.line { fill: none; stroke-width: 1.5px; }
.container { fill: #f0f6ff; stroke: #4a7fd6; }
.template { fill: #f0f6ff; stroke: #4a7fd6; stroke-dasharray: 5 4; }
.problem { fill: #fff3f2; stroke: #cf222e; stroke-dasharray: 5 4; }
.volume { fill: #fff8e5; stroke: #b98a1d; }
.bind { fill: #f7f4fd; stroke: #8a63d2; }
.port { fill: #e3f8e8; stroke: #2c8c45; }
.host { fill: #f6f8fa; stroke: #59636e; }
.link { stroke: #4a7fd6; }
.publish { stroke: #2c8c45; }
.mount { stroke: #8b949e; stroke-dasharray: 1 4; stroke-linecap: round; }
.link-head { fill: #4a7fd6; }
.publish-head { fill: #2c8c45; }
.up { fill: #2c8c45; }
.down { fill: #cf222e; }
.off { fill: #8b949e; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; }
.muted { fill: #9198a1; }
.bad, .down { fill: #ff7b72; }
.label { stroke: #0d1117; }
.card { fill: #0d1117; stroke: #3d444d; }
.container, .template { fill: #14233c; stroke: #4c8ef7; }
.problem { fill: #2a1517; stroke: #ff7b72; }
.volume { fill: #2b230f; stroke: #d5a439; }
.bind { fill: #221a38; stroke: #ab8bf0; }
.port { fill: #11291a; stroke: #3fb950; }
.host { fill: #151b23; stroke: #9198a1; }
.link { stroke: #4c8ef7; }
.publish { stroke: #3fb950; }
.mount { stroke: #7d8590; }
.link-head { fill: #4c8ef7; }
.publish-head, .up { fill: #3fb950; }
}
";

/// The whole file.
pub fn svg(graph: &Graph) -> String {
    let shapes: Vec<Shape> = graph.nodes.iter().map(Shape::new).collect();
    let edges = Line::all(graph);
    let items: Vec<Item> = shapes
        .iter()
        .zip(&graph.nodes)
        .map(|(shape, node)| Item {
            width: shape.width,
            height: shape.height,
            entrance: node.kind == Kind::Port,
        })
        .collect();
    let wires: Vec<Wire> = edges
        .iter()
        .map(|line| Wire { from: line.from, to: line.to, weight: line.weight(), label: line.label_width() })
        .collect();
    let layout = layout::layout(&items, &wires);
    // Nothing to show still is a picture, and says so.
    let empty = "no containers";
    let (inner_width, inner_height) = match graph.nodes.is_empty() {
        true => (width(empty, Font::Small), 20.0),
        false => (layout.width, layout.height),
    };
    let (whole_width, whole_height) = (inner_width.ceil() + 2.0 * MARGIN, inner_height.ceil() + 2.0 * MARGIN);
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{whole_width}\" height=\"{whole_height}\" viewBox=\"0 0 {whole_width} {whole_height}\" role=\"img\" aria-labelledby=\"title desc\">"
    );
    let _ = writeln!(out, "<title id=\"title\">{}</title>", escaped(&title(graph)));
    let _ = writeln!(out, "<desc id=\"desc\">{}</desc>", escaped(&description(graph)));
    let _ = writeln!(out, "<style>\n{STYLE}</style>");
    let _ = writeln!(
        out,
        "<rect class=\"card\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"12\"/>",
        whole_width - 1.0,
        whole_height - 1.0
    );
    let _ = writeln!(out, "<g transform=\"translate({MARGIN} {MARGIN})\">");
    if graph.nodes.is_empty() {
        let _ = writeln!(out, "<text class=\"small muted\" x=\"0\" y=\"15\">{empty}</text>");
    }
    for (line, route) in edges.iter().zip(&layout.routes) {
        if let Some(route) = route {
            line.draw(route, &mut out);
        }
    }
    for ((node, shape), (x, y)) in graph.nodes.iter().zip(&shapes).zip(&layout.places) {
        shape.draw(node, *x, *y, &mut out);
    }
    // Over everything, so that no line goes through a word.
    let mut taken = Vec::new();
    for (line, route) in edges.iter().zip(&layout.routes) {
        if let Some(route) = route {
            line.draw_label(route, &mut taken, &mut out);
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn title(graph: &Graph) -> String {
    match graph.nodes.iter().filter(|node| node.is_container()).count() {
        1 => "1 container".to_owned(),
        count => format!("{count} containers"),
    }
}

/// What the picture shows, for who can't see it.
fn description(graph: &Graph) -> String {
    let label = |id: &str| graph.nodes.iter().find(|node| node.id == id).map_or("", |node| &node.label);
    let sentences: Vec<String> = graph
        .edges
        .iter()
        .map(|Edge { from, to, kind, label: said, read_only: _ }| {
            let said = said.as_deref().unwrap_or_default();
            match kind {
                EdgeKind::Link => format!("{} links to {}.", label(from), label(to)),
                EdgeKind::Publish => {
                    format!("Port {} leads to {}.", label(from).trim_start_matches(':'), label(to))
                }
                EdgeKind::Mount => format!("{} mounts {} at {said}.", label(from), label(to)),
            }
        })
        .collect();
    sentences.join(" ")
}

/// All edges of one kind between two nodes: one line, whose label says that there are more.
struct Line {
    from: usize,
    to: usize,
    kind: EdgeKind,
    label: Option<String>,
    whole: String,
}

impl Line {
    fn all(graph: &Graph) -> Vec<Self> {
        let number = |id: &str| graph.nodes.iter().position(|node| node.id == id);
        let mut lines: Vec<(&Edge, Vec<String>)> = Vec::new();
        for edge in &graph.edges {
            let read_only = if edge.read_only { " (ro)" } else { "" };
            let said = edge.label.as_ref().map(|label| format!("{label}{read_only}"));
            match lines.last_mut() {
                Some((same, all))
                    if (&same.from, &same.to, same.kind) == (&edge.from, &edge.to, edge.kind) =>
                {
                    all.extend(said);
                }
                _ => lines.push((edge, said.into_iter().collect())),
            }
        }
        lines
            .into_iter()
            .filter_map(|(edge, all)| {
                let (from, to) = (number(&edge.from)?, number(&edge.to)?);
                let node = |index: usize| -> &Node { &graph.nodes[index] };
                let label = match (edge.kind, all.as_slice()) {
                    (_, []) => None,
                    // The same port on both sides goes without saying.
                    (EdgeKind::Publish, [one]) if same_port(&node(from).label, one) => None,
                    (EdgeKind::Publish, [one]) => Some(one.trim_end_matches("/tcp").to_owned()),
                    (_, [one]) => Some(shortened(one, LABEL_MAX)),
                    (_, [one, rest @ ..]) => {
                        Some(format!("{} +{}", shortened(one, LABEL_MAX - 3), rest.len()))
                    }
                };
                let whole = format!("{} → {}", node(from).label, node(to).label);
                let whole = if all.is_empty() { whole } else { format!("{whole}: {}", all.join(", ")) };
                Some(Self { from, to, kind: edge.kind, label, whole })
            })
            .collect()
    }

    fn weight(&self) -> u8 {
        match self.kind {
            EdgeKind::Link => 3,
            EdgeKind::Publish => 2,
            EdgeKind::Mount => 1,
        }
    }

    fn label_width(&self) -> f64 {
        self.label.as_ref().map_or(0.0, |label| width(label, Font::Tiny))
    }

    fn draw(&self, route: &Route, out: &mut String) {
        let class = match self.kind {
            EdgeKind::Link => "link",
            EdgeKind::Publish => "publish",
            EdgeKind::Mount => "mount",
        };
        let arrow = self.kind != EdgeKind::Mount;
        let mut points = route.points.clone();
        // The line ends where the arrow begins, or its square end would show beside the tip.
        const HEAD: f64 = 9.0;
        let tip = if route.reversed { points.first_mut() } else { points.last_mut() };
        let Some(tip) = tip else { return };
        let (x, y) = *tip;
        let back = if route.reversed { HEAD } else { -HEAD };
        if arrow {
            tip.0 += back;
        }
        let mut path = String::new();
        for pair in points.chunks_exact(2) {
            let [(ax, ay), (bx, by)] = [pair[0], pair[1]];
            let bend = (bx - ax) / 2.0;
            let verb = if path.is_empty() { "M" } else { " L" };
            let _ = write!(path, "{verb}{ax} {ay} C{} {ay} {} {by} {bx} {by}", ax + bend, bx - bend);
        }
        let _ = writeln!(
            out,
            "<path class=\"line {class}\" d=\"{path}\"><title>{}</title></path>",
            escaped(&self.whole)
        );
        if arrow {
            let _ = writeln!(
                out,
                "<path class=\"{class}-head\" d=\"M{x} {y} L{} {} L{} {} Z\"/>",
                x + back,
                y - 4.5,
                x + back,
                y + 4.5
            );
        }
    }

    /// The label stands on the first curve, where there is room; `taken` is where others stand.
    fn draw_label(&self, route: &Route, taken: &mut Vec<[f64; 4]>, out: &mut String) {
        let (Some(label), [a, b, ..]) = (&self.label, route.points.as_slice()) else { return };
        let half = self.label_width() / 2.0 + 2.0;
        let place = |part: f64| {
            // The curve's own form, for a bend in its middle.
            let rest = 1.0 - part;
            let x = a.0
                + (b.0 - a.0) * (1.5 * part * rest * rest + 1.5 * part * part * rest + part * part * part);
            let y = a.1 + (b.1 - a.1) * (3.0 * part * part * rest + part * part * part);
            [x - half, y - 8.0, x + half, y + 8.0]
        };
        let free = |place: &[f64; 4]| {
            taken.iter().all(|other: &[f64; 4]| {
                place[2] <= other[0] || other[2] <= place[0] || place[3] <= other[1] || other[3] <= place[1]
            })
        };
        // Ports come together where they lead to, all else where it comes from: there is more room at the other end.
        let parts = match self.kind {
            _ if a.1 == b.1 => [0.5, 0.4, 0.6, 0.3, 0.7],
            EdgeKind::Publish => [0.3, 0.4, 0.2, 0.5, 0.6],
            EdgeKind::Link | EdgeKind::Mount => [0.6, 0.7, 0.5, 0.4, 0.8],
        };
        let places = parts.map(place);
        let place = places.iter().find(|place| free(place)).unwrap_or(&places[0]);
        taken.push(*place);
        let (x, y) = ((place[0] + place[2]) / 2.0, (place[1] + place[3]) / 2.0 + 4.0);
        let _ = writeln!(
            out,
            "<text class=\"tiny muted label\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
            escaped(label)
        );
    }
}

fn same_port(outside: &str, inside: &str) -> bool {
    let plain = |text: &str| text.trim_end_matches("/tcp").to_owned();
    outside.rsplit(':').next().is_some_and(|port| plain(port) == plain(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_the_same() {
        for (outside, inside, same) in [
            (":80", "80/tcp", true),
            ("[::1]:53/udp", "53/udp", true),
            (":8080", "80/tcp", false),
            (":53/udp", "53/tcp", false),
        ] {
            assert_eq!(same_port(outside, inside), same, "{outside} {inside}");
        }
    }
}
