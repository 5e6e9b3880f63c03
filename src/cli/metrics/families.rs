//! What is told of containers, as one table of metrics. Pure.

use super::text::Value::{Microseconds, Whole};
use super::text::{Family, Kind, Sample, Value};
use crate::cli::usage::Seen;
use crate::net::Counters;
use crate::plan::health;
use crate::usage::{Io, Pressure, Usage};

/// A label of a sample, beside the container's, and its number.
type Labelled = (Option<(&'static str, &'static str)>, Value);

/// One metric of each container.
struct Metric {
    name: &'static str,
    kind: Kind,
    unit: Option<&'static str>,
    help: &'static str,
    /// Nothing where that isn't known.
    take: fn(&Seen) -> Vec<Labelled>,
}

/// systemd's `ActiveState`, org.freedesktop.systemd1(5).
const STATES: [&str; 8] =
    ["active", "reloading", "inactive", "failed", "activating", "deactivating", "maintenance", "refreshing"];

const SECONDS: Option<&str> = Some("seconds");
const BYTES: Option<&str> = Some("bytes");

/// Everything of all containers, metrics of one name together.
pub(super) fn families(seen: &[Seen]) -> Vec<Family> {
    let metrics = METRICS.iter().map(|Metric { name, kind, unit, help, take }| {
        let samples = seen.iter().flat_map(|seen| {
            take(seen).into_iter().map(|(label, value)| {
                let mut labels = vec![("container", seen.name.to_string())];
                labels.extend(label.map(|(name, value)| (name, value.to_owned())));
                Sample { labels, value }
            })
        });
        Family { name, kind: *kind, unit: *unit, help, samples: samples.collect() }
    });
    [build(), info(seen), problems(seen)].into_iter().chain(metrics).collect()
}

fn build() -> Family {
    let labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    Family {
        name: "wharf_build",
        kind: Kind::Info,
        unit: None,
        help: "The version of Wharf.",
        samples: vec![Sample { labels, value: Whole(1) }],
    }
}

fn info(seen: &[Seen]) -> Family {
    let samples = seen.iter().map(|seen| {
        let mut labels = vec![("container", seen.name.to_string()), ("unit", seen.name.unit())];
        labels.extend(seen.image.clone().map(|image| ("image", image)));
        labels.extend(seen.digest.clone().map(|digest| ("digest", digest)));
        Sample { labels, value: Whole(1) }
    });
    Family {
        name: "wharf_container",
        kind: Kind::Info,
        unit: None,
        help: "Every declared container, with the image that it names and, while it runs, the digest of that.",
        samples: samples.collect(),
    }
}

fn problems(seen: &[Seen]) -> Family {
    let samples = seen.iter().filter_map(|seen| {
        let labels = vec![("container", seen.name.to_string()), ("problem", seen.problem?.key().to_owned())];
        Some(Sample { labels, value: Whole(1) })
    });
    Family {
        name: "wharf_container_problem",
        kind: Kind::Gauge,
        unit: None,
        help: "1 where something is wrong with the files of a container: see wharf ps.",
        samples: samples.collect(),
    }
}

/// Which of some words holds: 1 for that, and 0 for the others.
fn which(label: &'static str, words: &'static [&'static str], holds: &str) -> Vec<Labelled> {
    words.iter().map(|word| (Some((label, *word)), Whole(u64::from(*word == holds)))).collect()
}

fn alone(value: Option<Value>) -> Vec<Labelled> {
    value.map(|value| (None, value)).into_iter().collect()
}

fn used(seen: &Seen, take: fn(&Usage) -> Option<Value>) -> Vec<Labelled> {
    alone(seen.sample.as_ref().and_then(|sample| take(&sample.usage)))
}

fn io(seen: &Seen, take: fn(&Io) -> u64) -> Vec<Labelled> {
    let io = seen.sample.as_ref().and_then(|sample| sample.usage.io.as_ref());
    alone(io.map(take).map(Whole))
}

fn passed(seen: &Seen, take: fn(&Counters) -> u64) -> Vec<Labelled> {
    let network = seen.sample.as_ref().and_then(|sample| sample.network.as_ref());
    alone(network.map(take).map(Whole))
}

fn waited(seen: &Seen, take: fn(&Pressure) -> Option<u64>) -> Vec<Labelled> {
    let Some(Usage { cpu_pressure, memory_pressure, io_pressure, .. }) =
        seen.sample.as_ref().map(|sample| &sample.usage)
    else {
        return Vec::new();
    };
    let of = |what: &'static str, pressure: &Option<Pressure>| {
        Some((Some(("resource", what)), Microseconds(take(pressure.as_ref()?)?)))
    };
    [of("cpu", cpu_pressure), of("memory", memory_pressure), of("io", io_pressure)]
        .into_iter()
        .flatten()
        .collect()
}

const METRICS: &[Metric] = &[
    Metric {
        name: "wharf_container_state",
        kind: Kind::Gauge,
        unit: None,
        help: "1 for the state that systemd has the unit of the container in, and 0 for the others.",
        take: |seen| which("state", &STATES, &seen.state),
    },
    Metric {
        name: "wharf_container_health",
        kind: Kind::Gauge,
        unit: None,
        help: "1 for what the checks of a running container say, and 0 for the others.",
        take: |seen| match seen.health {
            Some(holds) => which("health", &health::STATES, holds),
            None => Vec::new(),
        },
    },
    Metric {
        name: "wharf_container_restarts",
        kind: Kind::Counter,
        unit: None,
        help: "Automatic restarts since somebody started it.",
        take: |seen| alone(seen.restarts.map(|restarts| Whole(restarts.into()))),
    },
    Metric {
        name: "wharf_container_start_time_seconds",
        kind: Kind::Gauge,
        unit: SECONDS,
        help: "When it became active, in seconds since 1970.",
        take: |seen| {
            let since = seen.since.and_then(|since| u64::try_from(since.as_microsecond()).ok());
            alone(since.map(Microseconds))
        },
    },
    Metric {
        name: "wharf_container_cpu_seconds",
        kind: Kind::Counter,
        unit: SECONDS,
        help: "Time on CPUs, in programs (user) and in the kernel (system).",
        take: |seen| {
            let usage = seen.sample.as_ref().map(|sample| &sample.usage);
            let of = |mode, time: Option<u64>| time.map(|time| (Some(("mode", mode)), Microseconds(time)));
            let user = of("user", usage.and_then(|usage| usage.cpu_user));
            let system = of("system", usage.and_then(|usage| usage.cpu_system));
            user.into_iter().chain(system).collect()
        },
    },
    Metric {
        name: "wharf_container_cpu_limit_ratio",
        kind: Kind::Gauge,
        unit: Some("ratio"),
        help: "How many CPUs it may use at once.",
        // Of a second; the same digits are those of the ratio.
        take: |seen| used(seen, |usage| usage.cpu_limit.map(Microseconds)),
    },
    Metric {
        name: "wharf_container_cpu_throttled_seconds",
        kind: Kind::Counter,
        unit: SECONDS,
        help: "How long it was held back by its limit of CPU time.",
        take: |seen| used(seen, |usage| usage.throttled.map(Microseconds)),
    },
    Metric {
        name: "wharf_container_memory_bytes",
        kind: Kind::Gauge,
        unit: BYTES,
        help: "Memory, with its files in the page cache.",
        take: |seen| used(seen, |usage| usage.memory.map(Whole)),
    },
    Metric {
        name: "wharf_container_memory_peak_bytes",
        kind: Kind::Gauge,
        unit: BYTES,
        help: "The most memory since its start.",
        take: |seen| used(seen, |usage| usage.memory_peak.map(Whole)),
    },
    Metric {
        name: "wharf_container_memory_limit_bytes",
        kind: Kind::Gauge,
        unit: BYTES,
        help: "How much memory it may use.",
        take: |seen| used(seen, |usage| usage.memory_limit.map(Whole)),
    },
    Metric {
        name: "wharf_container_memory_anon_bytes",
        kind: Kind::Gauge,
        unit: BYTES,
        help: "Memory of its programs.",
        take: |seen| used(seen, |usage| usage.anon.map(Whole)),
    },
    Metric {
        name: "wharf_container_memory_file_bytes",
        kind: Kind::Gauge,
        unit: BYTES,
        help: "Its files in the page cache.",
        take: |seen| used(seen, |usage| usage.file.map(Whole)),
    },
    Metric {
        name: "wharf_container_swap_bytes",
        kind: Kind::Gauge,
        unit: BYTES,
        help: "Memory that was swapped out.",
        take: |seen| used(seen, |usage| usage.swap.map(Whole)),
    },
    Metric {
        name: "wharf_container_oom_kills",
        kind: Kind::Counter,
        unit: None,
        help: "Processes that were killed for want of memory.",
        take: |seen| used(seen, |usage| usage.oom_kills.map(Whole)),
    },
    Metric {
        name: "wharf_container_tasks",
        kind: Kind::Gauge,
        unit: None,
        help: "Processes and threads.",
        take: |seen| used(seen, |usage| usage.tasks.map(Whole)),
    },
    Metric {
        name: "wharf_container_tasks_limit",
        kind: Kind::Gauge,
        unit: None,
        help: "How many processes and threads there may be.",
        take: |seen| used(seen, |usage| usage.tasks_limit.map(Whole)),
    },
    Metric {
        name: "wharf_container_read_bytes",
        kind: Kind::Counter,
        unit: BYTES,
        help: "What was read from block devices.",
        take: |seen| io(seen, |io| io.read),
    },
    Metric {
        name: "wharf_container_written_bytes",
        kind: Kind::Counter,
        unit: BYTES,
        help: "What was written to block devices.",
        take: |seen| io(seen, |io| io.written),
    },
    Metric {
        name: "wharf_container_reads",
        kind: Kind::Counter,
        unit: None,
        help: "Operations that read from block devices.",
        take: |seen| io(seen, |io| io.reads),
    },
    Metric {
        name: "wharf_container_writes",
        kind: Kind::Counter,
        unit: None,
        help: "Operations that wrote to block devices.",
        take: |seen| io(seen, |io| io.writes),
    },
    Metric {
        name: "wharf_container_network_received_bytes",
        kind: Kind::Counter,
        unit: BYTES,
        help: "What came to it by its network.",
        take: |seen| passed(seen, |network| network.received),
    },
    Metric {
        name: "wharf_container_network_sent_bytes",
        kind: Kind::Counter,
        unit: BYTES,
        help: "What it sent by its network.",
        take: |seen| passed(seen, |network| network.sent),
    },
    Metric {
        name: "wharf_container_network_received_packets",
        kind: Kind::Counter,
        unit: None,
        help: "Packets that came to it.",
        take: |seen| passed(seen, |network| network.received_packets),
    },
    Metric {
        name: "wharf_container_network_sent_packets",
        kind: Kind::Counter,
        unit: None,
        help: "Packets that it sent.",
        take: |seen| passed(seen, |network| network.sent_packets),
    },
    Metric {
        name: "wharf_container_pressure_waiting_seconds",
        kind: Kind::Counter,
        unit: SECONDS,
        help: "How long some task waited for a resource.",
        take: |seen| waited(seen, |pressure| Some(pressure.some)),
    },
    Metric {
        name: "wharf_container_pressure_stalled_seconds",
        kind: Kind::Counter,
        unit: SECONDS,
        help: "How long all tasks at once waited for a resource.",
        take: |seen| waited(seen, |pressure| pressure.full),
    },
];

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use jiff::Timestamp;

    use super::super::text::{Syntax, render};
    use super::*;
    use crate::cli::ps::problem::Problem;
    use crate::usage::{Run, Sample};

    /// One of which all is known, one that doesn't run, and one on a host that counts nothing.
    fn seen() -> Vec<Seen> {
        let pressure = Some(Pressure { some: 1_500_000, some_now: 5, full: Some(20) });
        let usage = Usage {
            cpu: Some(3_000_001),
            cpu_user: Some(3_000_000),
            cpu_system: Some(1),
            periods: Some(3),
            throttled_periods: Some(1),
            throttled: Some(4),
            cpu_limit: Some(1_500_000),
            memory: Some(64 << 20),
            memory_peak: Some(65 << 20),
            memory_limit: Some(512 << 20),
            anon: Some(1),
            file: Some(2),
            swap: Some(0),
            oom_kills: Some(0),
            io: Some(Io { read: 1, written: 2, reads: 3, writes: 4 }),
            tasks: Some(5),
            tasks_limit: Some(200),
            cpu_pressure: pressure,
            memory_pressure: pressure,
            io_pressure: pressure,
        };
        let network = Counters { received: 1, sent: 10_000_000, received_packets: 3, sent_packets: 4 };
        let running = Seen {
            name: "web@blue".parse().expect("a name"),
            state: "active".to_owned(),
            health: Some(health::HEALTHY),
            restarts: Some(2),
            since: Timestamp::from_microsecond(1_700_000_000_500_000).ok(),
            image: Some("registry.example/web:1".to_owned()),
            digest: Some("sha256:00".to_owned()),
            problem: Some(Problem::ReloadDue),
            sample: Some(Sample {
                at: Duration::ZERO,
                run: Run::default(),
                usage,
                network_at: Duration::ZERO,
                network: Some(network),
            }),
        };
        let stopped = Seen {
            name: "db".parse().expect("a name"),
            state: "failed".to_owned(),
            health: None,
            since: None,
            image: None,
            digest: None,
            problem: None,
            sample: None,
            ..running.clone()
        };
        let mut uncounted = running.clone();
        uncounted.name = "app".parse().expect("a name");
        uncounted.sample = uncounted.sample.map(|sample| Sample {
            usage: Usage { cpu_user: Some(1), ..Usage::default() },
            network: None,
            ..sample
        });
        vec![uncounted, stopped, running]
    }

    /// What a parser of somebody else's makes of a text: a line for each sample.
    fn parsed(parser: &str, text: &str) -> Vec<String> {
        let program = format!(
            "import sys\nfrom {parser} import text_string_to_metric_families as read\n\
             for family in read(sys.stdin.read()):\n    \
                 assert family.documentation\n    \
                 for it in family.samples:\n        \
                     print(family.type, family.unit, it.name, sorted(it.labels.items()), float(it.value))\n"
        );
        // Debian's own, which has Debian's modules.
        let mut python = Command::new("/usr/bin/python3")
            .args(["-c", &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3, which tests/run installs");
        python.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
        let output = python.wait_with_output().expect("ended");
        assert!(output.status.success(), "python3-prometheus-client, which tests/run installs, of\n{text}");
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_parser_of_openmetrics_understands_them() {
        let families = families(&seen());
        let samples = families.iter().map(|family| family.samples.len()).sum::<usize>();
        let lines = parsed("prometheus_client.openmetrics.parser", &render(&families, Syntax::Openmetrics));
        assert_eq!(lines.len(), samples, "{lines:#?}");
        for line in [
            "counter seconds wharf_container_cpu_seconds_total [('container', 'web@blue'), ('mode', 'user')] 3.0",
            "gauge bytes wharf_container_memory_bytes [('container', 'web@blue')] 67108864.0",
            "gauge ratio wharf_container_cpu_limit_ratio [('container', 'web@blue')] 1.5",
            "gauge seconds wharf_container_start_time_seconds [('container', 'web@blue')] 1700000000.5",
            "counter bytes wharf_container_network_sent_bytes_total [('container', 'web@blue')] 10000000.0",
            "gauge  wharf_container_state [('container', 'db'), ('state', 'failed')] 1.0",
            "gauge  wharf_container_problem [('container', 'app'), ('problem', 'reload-due')] 1.0",
            "info  wharf_container_info [('container', 'db'), ('unit', 'db-container.service')] 1.0",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line}: {lines:#?}");
        }
        // What isn't known has no line.
        let unknown = |line: &&String| line.contains("'app'") && line.contains("memory");
        assert_eq!(lines.iter().filter(unknown).count(), 0, "{lines:#?}");
    }

    /// node_exporter reads files by Prometheus's own text parser, which takes no other words behind `# TYPE`.
    #[test]
    fn a_parser_of_prometheus_understands_them() {
        let families = families(&seen());
        let samples = families.iter().map(|family| family.samples.len()).sum::<usize>();
        let text = render(&families, Syntax::Prometheus);
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
        let lines = parsed("prometheus_client.parser", &text);
        assert_eq!(lines.len(), samples, "{lines:#?}");
        assert!(
            lines.iter().all(|line| line.starts_with("gauge ") || line.starts_with("counter ")),
            "{lines:#?}"
        );
    }

    #[test]
    fn names_end_with_their_units() {
        let mut names: Vec<&str> = Vec::new();
        for Family { name, unit, help, samples, .. } in families(&seen()) {
            assert!(unit.is_none_or(|unit| name.ends_with(&format!("_{unit}"))), "{name}");
            assert!(help.ends_with('.') && !help.contains('"'), "{name}");
            assert!(!samples.is_empty(), "{name}");
            assert!(!names.contains(&name), "{name}");
            names.push(name);
        }
    }
}
