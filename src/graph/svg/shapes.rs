//! What each node looks like.

use std::fmt::Write as _;

use super::measure::{Font, escaped, shortened, width};
use crate::graph::{Kind, Node};

/// The longest text in a shape, in characters; the whole is in its tooltip.
const TEXT_MAX: usize = 30;

/// Room for the globe before a port that everybody reaches.
const GLOBE: f64 = 18.0;
/// Room for a state's dot before a name.
const DOT: f64 = 16.0;
/// The height of a cylinder's lid.
const LID: f64 = 7.0;
/// A folder's tab.
const TAB: f64 = 7.0;

/// A node's size, and its texts as far as they fit.
pub(super) struct Shape {
    pub(super) width: f64,
    pub(super) height: f64,
    name: String,
    lines: Vec<String>,
}

impl Shape {
    pub(super) fn new(node: &Node) -> Self {
        let lines: Vec<String> = match node.kind {
            Kind::Volume => vec!["volume".to_owned()],
            Kind::Bind => vec!["bind".to_owned()],
            _ => node.lines().iter().map(|line| shortened(line, TEXT_MAX)).collect(),
        };
        let name = shortened(&node.label, TEXT_MAX);
        // Even heights: what stands side by side has its middle on a whole pixel, and lines between are straight.
        let (font, least, around, height) = match node.kind {
            Kind::Port => (Font::Small, 0.0, 22.0 + if everybody(node) { GLOBE } else { 0.0 }, 26.0),
            Kind::Volume => (Font::Small, 96.0, 28.0, 60.0),
            Kind::Bind => (Font::Small, 96.0, 28.0, 52.0),
            Kind::Host => (Font::Name, 96.0, 36.0, 44.0),
            Kind::Container | Kind::Template => {
                let dot = if node.state.is_some() { DOT } else { 0.0 };
                (Font::Name, 128.0, 36.0 + dot, 42.0 + 18.0 * lines.len() as f64)
            }
        };
        let widest = lines.iter().map(|line| width(line, Font::Small)).fold(width(&name, font), f64::max);
        Self { width: (widest + around).max(least).ceil(), height, name, lines }
    }

    pub(super) fn draw(&self, node: &Node, x: f64, y: f64, out: &mut String) {
        let class = match (node.problem, node.kind) {
            (Some(_), _) => "problem",
            (None, Kind::Container) => "container",
            (None, Kind::Template) => "template",
            (None, Kind::Port) => "port",
            (None, Kind::Volume) => "volume",
            (None, Kind::Bind) => "bind",
            (None, Kind::Host) => "host",
        };
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        let _ = writeln!(out, "<title>{}</title>", escaped(&tooltip(node)));
        let _ = writeln!(out, "<path class=\"shape {class}\" d=\"{}\"/>", self.outline(node.kind));
        match node.kind {
            Kind::Volume => {
                let (w, h) = (self.width, LID);
                let _ = writeln!(
                    out,
                    "<path class=\"shape {class}\" d=\"M0 {h} A{} {h} 0 0 0 {w} {h}\" fill-opacity=\"0\"/>",
                    w / 2.0
                );
                self.text("small", &self.name, LID + 24.0, 0.0, out);
                self.text("tiny muted", &self.lines[0], LID + 41.0, 0.0, out);
            }
            Kind::Bind => {
                self.text("small", &self.name, TAB + 19.0, 0.0, out);
                self.text("tiny muted", &self.lines[0], TAB + 36.0, 0.0, out);
            }
            Kind::Port => {
                let globe = everybody(node);
                if globe {
                    // A circle, the equator and a meridian.
                    let _ = writeln!(
                        out,
                        "<path class=\"line publish\" style=\"stroke-width:1.1px\" d=\"M10 13 a6 6 0 1 0 12 0 a6 6 0 1 0 -12 0 h12 M16 7 a3 6 0 0 0 0 12 a3 6 0 0 0 0 -12\"/>"
                    );
                }
                self.text("small", &self.name, 17.5, if globe { GLOBE - 4.0 } else { 0.0 }, out);
            }
            Kind::Host => self.text("name", &self.name, 27.0, 0.0, out),
            Kind::Container | Kind::Template => self.container(node, out),
        }
        out.push_str("</g>\n");
    }

    fn container(&self, node: &Node, out: &mut String) {
        let dot = match node.state.as_deref() {
            None => None,
            Some("active" | "reloading" | "activating") => Some("up"),
            Some("failed") => Some("down"),
            Some(_) => Some("off"),
        };
        if let Some(class) = dot {
            let left = (self.width - width(&self.name, Font::Name) - DOT) / 2.0;
            let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"21\" r=\"5\"/>", left + 5.0);
        }
        self.text("name", &self.name, 26.0, if dot.is_some() { DOT } else { 0.0 }, out);
        let problem = node.problem.map(|_| self.lines.len().saturating_sub(1));
        for (index, line) in self.lines.iter().enumerate() {
            let class = match (problem == Some(index), index) {
                (true, _) => "tiny bad",
                (false, 0) => "small muted",
                (false, _) => "tiny muted",
            };
            self.text(class, line, 47.0 + 18.0 * index as f64, 0.0, out);
        }
    }

    /// A text in the middle, moved to the right by half of `before`, the room that something takes before it.
    fn text(&self, class: &str, text: &str, y: f64, before: f64, out: &mut String) {
        let x = (self.width + before) / 2.0;
        let _ = writeln!(
            out,
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            escaped(text)
        );
    }

    fn outline(&self, kind: Kind) -> String {
        let (w, h) = (self.width, self.height);
        match kind {
            Kind::Container | Kind::Template => rounded(w, h, 10.0),
            Kind::Port => rounded(w, h, h / 2.0),
            // The host is where everything stands: a second edge.
            Kind::Host => format!("{} M4 4 H{} V{} H4 Z", rounded(w, h, 4.0), w - 4.0, h - 4.0),
            Kind::Volume => {
                let (half, lid, low) = (w / 2.0, LID, h - LID);
                format!("M0 {lid} A{half} {lid} 0 0 1 {w} {lid} V{low} A{half} {lid} 0 0 1 0 {low} Z")
            }
            Kind::Bind => format!(
                "M0 4 A4 4 0 0 1 4 0 H30 L37 {TAB} H{} A4 4 0 0 1 {w} {} V{} A4 4 0 0 1 {} {h} H4 A4 4 0 0 1 0 {} Z",
                w - 4.0,
                TAB + 4.0,
                h - 4.0,
                w - 4.0,
                h - 4.0
            ),
        }
    }
}

fn rounded(w: f64, h: f64, r: f64) -> String {
    format!(
        "M{r} 0 H{} A{r} {r} 0 0 1 {w} {r} V{} A{r} {r} 0 0 1 {} {h} H{r} A{r} {r} 0 0 1 0 {} V{r} A{r} {r} 0 0 1 {r} 0 Z",
        w - r,
        h - r,
        w - r,
        h - r
    )
}

/// Whether a port is open on every address of the host.
fn everybody(node: &Node) -> bool {
    ["", "0.0.0.0", "[::]"].contains(&node.label.rsplit_once(':').map_or("", |(address, _)| address))
}

/// All that is known of a node.
fn tooltip(node: &Node) -> String {
    let Node { id: _, kind, label, description, image: _, rootfs: _, network: _, problem: _, state } = node;
    let what = match kind {
        Kind::Container => "container",
        Kind::Template => "template",
        Kind::Port => return format!("published port {}", label.trim_start_matches(':')),
        Kind::Volume => "volume",
        Kind::Bind => "bind",
        Kind::Host => return label.clone(),
    };
    let mut parts = vec![format!("{what} {label}")];
    parts.extend(description.clone());
    parts.extend(node.lines().iter().map(|line| (*line).to_owned()));
    parts.extend(state.clone());
    parts.join(", ")
}
