//! Families of metrics as text: OpenMetrics 1.0, or the older text of Prometheus (version 0.0.4), which is all that
//! node_exporter's textfile collector understands. Pure.
//!
//! In the older one a counter's family is called as its samples are, with `_total`; there are no infos, only gauges; and
//! what `# UNIT` and `# EOF` say are comments there. One text for both isn't possible: what follows `# TYPE` would be
//! about a name that no sample has.

use std::fmt::Write as _;

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Syntax {
    /// OpenMetrics 1.0
    Openmetrics,
    /// The text format of Prometheus, which node_exporter reads from files
    Prometheus,
}

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One that goes up and down.
    Gauge,
    /// One that only grows, from a beginning that may come again.
    Counter,
    /// Always 1; its labels are what it says.
    Info,
}

/// Metrics of one name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Family {
    /// Without `_total` or `_info`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What the name ends with, where it has a unit.
    pub(super) unit: Option<&'static str>,
    /// A sentence, without quotes.
    pub(super) help: &'static str,
    pub(super) samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: Value,
}

/// A number, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Whole(u64),
    /// To be told in seconds.
    Microseconds(u64),
}

/// All of them. One without samples is left out.
pub(super) fn render(families: &[Family], syntax: Syntax) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let Family { name, kind, unit, help, samples } = family;
        let suffix = match kind {
            Kind::Gauge => "",
            Kind::Counter => "_total",
            Kind::Info => "_info",
        };
        let (whole, word) = match (syntax, kind) {
            (_, Kind::Gauge) => (String::new(), "gauge"),
            (Syntax::Openmetrics, Kind::Counter) => (String::new(), "counter"),
            (Syntax::Openmetrics, Kind::Info) => (String::new(), "info"),
            (Syntax::Prometheus, Kind::Counter) => (suffix.to_owned(), "counter"),
            (Syntax::Prometheus, Kind::Info) => (suffix.to_owned(), "gauge"),
        };
        // Writing to a String doesn't fail.
        let _ = writeln!(text, "# HELP {name}{whole} {}", escaped(help));
        let _ = writeln!(text, "# TYPE {name}{whole} {word}");
        if let (Some(unit), Syntax::Openmetrics) = (unit, syntax) {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        for Sample { labels, value } in samples {
            let _ = write!(text, "{name}{suffix}");
            let mut before = '{';
            for (label, value) in labels {
                let _ = write!(text, "{before}{label}=\"{}\"", escaped(value));
                before = ',';
            }
            if before == ',' {
                text.push('}');
            }
            let _ = match value {
                Value::Whole(number) => writeln!(text, " {number}"),
                Value::Microseconds(time) => writeln!(text, " {}.{:06}", time / 1_000_000, time % 1_000_000),
            };
        }
    }
    if syntax == Syntax::Openmetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// As both want it between quotes. What else a text may hold, beside a terminal's commands for example, is UTF-8 like any.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        let sample = |labels: &[(&'static str, &str)], value| Sample {
            labels: labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            value,
        };
        vec![
            Family {
                name: "wharf_x",
                kind: Kind::Info,
                unit: None,
                help: "What it is.",
                samples: vec![sample(&[("container", "a"), ("image", "b\\c\"d\ne")], Value::Whole(1))],
            },
            Family {
                name: "wharf_x_cpu_seconds",
                kind: Kind::Counter,
                unit: Some("seconds"),
                help: "Time.",
                samples: vec![sample(&[("container", "a")], Value::Microseconds(1_000_020))],
            },
            Family {
                name: "wharf_x_memory_bytes",
                kind: Kind::Gauge,
                unit: Some("bytes"),
                help: "Bytes.",
                samples: vec![sample(&[], Value::Whole(u64::MAX))],
            },
            Family {
                name: "wharf_none",
                kind: Kind::Gauge,
                unit: None,
                help: "Nothing.",
                samples: Vec::new(),
            },
        ]
    }

    #[test]
    fn openmetrics() {
        let expected = r##"# HELP wharf_x What it is.
# TYPE wharf_x info
wharf_x_info{container="a",image="b\\c\"d\ne"} 1
# HELP wharf_x_cpu_seconds Time.
# TYPE wharf_x_cpu_seconds counter
# UNIT wharf_x_cpu_seconds seconds
wharf_x_cpu_seconds_total{container="a"} 1.000020
# HELP wharf_x_memory_bytes Bytes.
# TYPE wharf_x_memory_bytes gauge
# UNIT wharf_x_memory_bytes bytes
wharf_x_memory_bytes 18446744073709551615
# EOF
"##;
        assert_eq!(render(&families(), Syntax::Openmetrics), expected);
    }

    #[test]
    fn prometheus() {
        let expected = r##"# HELP wharf_x_info What it is.
# TYPE wharf_x_info gauge
wharf_x_info{container="a",image="b\\c\"d\ne"} 1
# HELP wharf_x_cpu_seconds_total Time.
# TYPE wharf_x_cpu_seconds_total counter
wharf_x_cpu_seconds_total{container="a"} 1.000020
# HELP wharf_x_memory_bytes Bytes.
# TYPE wharf_x_memory_bytes gauge
wharf_x_memory_bytes 18446744073709551615
"##;
        assert_eq!(render(&families(), Syntax::Prometheus), expected);
    }
}
