//! A container's usage as a row: what `wharf stats` and `wharf top --batch` print.

use jiff::Timestamp;
use serde::Serialize;

use super::Seen;
use crate::usage::rates::{Rates, between};
use crate::usage::{Io, Pressure};

/// One container. The keys are documented in `wharf stats --help` and stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(in crate::cli) struct Row {
    pub(in crate::cli) name: String,
    pub(in crate::cli) unit: String,
    pub(in crate::cli) state: String,
    pub(in crate::cli) health: Option<&'static str>,
    pub(in crate::cli) restarts: Option<u32>,
    pub(in crate::cli) since: Option<Timestamp>,
    pub(in crate::cli) image: Option<String>,
    pub(in crate::cli) cpu: Option<f64>,
    pub(in crate::cli) cpu_time: Option<u64>,
    pub(in crate::cli) cpu_limit: Option<f64>,
    pub(in crate::cli) throttled_time: Option<u64>,
    pub(in crate::cli) memory: Option<u64>,
    pub(in crate::cli) memory_peak: Option<u64>,
    pub(in crate::cli) memory_limit: Option<u64>,
    pub(in crate::cli) memory_anon: Option<u64>,
    pub(in crate::cli) memory_file: Option<u64>,
    pub(in crate::cli) swap: Option<u64>,
    pub(in crate::cli) oom_kills: Option<u64>,
    pub(in crate::cli) tasks: Option<u64>,
    pub(in crate::cli) tasks_limit: Option<u64>,
    pub(in crate::cli) read: Option<u64>,
    pub(in crate::cli) written: Option<u64>,
    pub(in crate::cli) reads: Option<u64>,
    pub(in crate::cli) writes: Option<u64>,
    pub(in crate::cli) read_rate: Option<u64>,
    pub(in crate::cli) written_rate: Option<u64>,
    pub(in crate::cli) received: Option<u64>,
    pub(in crate::cli) sent: Option<u64>,
    pub(in crate::cli) received_packets: Option<u64>,
    pub(in crate::cli) sent_packets: Option<u64>,
    pub(in crate::cli) received_rate: Option<u64>,
    pub(in crate::cli) sent_rate: Option<u64>,
    pub(in crate::cli) cpu_pressure: Option<f64>,
    pub(in crate::cli) memory_pressure: Option<f64>,
    pub(in crate::cli) io_pressure: Option<f64>,
}

/// Those of [`Row`].
pub(in crate::cli) const KEYS: &[&str] = &[
    "name",
    "unit",
    "state",
    "health",
    "restarts",
    "since",
    "image",
    "cpu",
    "cpu_time",
    "cpu_limit",
    "throttled_time",
    "memory",
    "memory_peak",
    "memory_limit",
    "memory_anon",
    "memory_file",
    "swap",
    "oom_kills",
    "tasks",
    "tasks_limit",
    "read",
    "written",
    "reads",
    "writes",
    "read_rate",
    "written_rate",
    "received",
    "sent",
    "received_packets",
    "sent_packets",
    "received_rate",
    "sent_rate",
    "cpu_pressure",
    "memory_pressure",
    "io_pressure",
];

impl Row {
    /// A container as it is, and what it used since it was seen before.
    pub(in crate::cli) fn new(before: Option<&Seen>, now: &Seen) -> Self {
        let Seen { name, state, health, restarts, since, image, digest: _, problem: _, sample } = now;
        let mut row = Self {
            name: name.to_string(),
            unit: name.unit(),
            state: state.clone(),
            health: *health,
            restarts: *restarts,
            since: *since,
            image: image.clone(),
            ..Self::default()
        };
        let Some(sample) = sample else { return row };
        let usage = &sample.usage;
        row.cpu_time = usage.cpu;
        // Microseconds a second are ten thousand to a percent.
        row.cpu_limit = usage.cpu_limit.map(|limit| tenths(limit as f64 / 10_000.0));
        row.throttled_time = usage.throttled;
        row.memory = usage.memory;
        row.memory_peak = usage.memory_peak;
        row.memory_limit = usage.memory_limit;
        row.memory_anon = usage.anon;
        row.memory_file = usage.file;
        row.swap = usage.swap;
        row.oom_kills = usage.oom_kills;
        row.tasks = usage.tasks;
        row.tasks_limit = usage.tasks_limit;
        if let Some(Io { read, written, reads, writes }) = usage.io {
            (row.read, row.written) = (Some(read), Some(written));
            (row.reads, row.writes) = (Some(reads), Some(writes));
        }
        if let Some(network) = sample.network {
            (row.received, row.sent) = (Some(network.received), Some(network.sent));
            (row.received_packets, row.sent_packets) =
                (Some(network.received_packets), Some(network.sent_packets));
        }
        let waited = |pressure: Option<Pressure>| pressure.map(|it| f64::from(it.some_now) / 100.0);
        row.cpu_pressure = waited(usage.cpu_pressure);
        row.memory_pressure = waited(usage.memory_pressure);
        row.io_pressure = waited(usage.io_pressure);
        if let Some(before) = before.and_then(|before| before.sample.as_ref()) {
            let Rates { cpu, read, written, received, sent } = between(before, sample);
            row.cpu = cpu.map(tenths);
            let [read, written, received, sent] = [read, written, received, sent].map(|rate| rate.map(whole));
            (row.read_rate, row.written_rate) = (read, written);
            (row.received_rate, row.sent_rate) = (received, sent);
        }
        row
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn whole(rate: f64) -> u64 {
    // No device has 2^64 bytes a second; a conversion of more saturates.
    rate.round() as u64
}

/// All that were seen now, with those of the same name before.
pub(in crate::cli) fn rows(before: &[Seen], now: &[Seen]) -> Vec<Row> {
    let found = |name| before.iter().find(|before| before.name == name);
    now.iter().map(|now| Row::new(found(now.name.clone()), now)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::Counters;
    use crate::usage::{Run, Sample, Usage};

    pub(super) fn seen(name: &str, at: u64, cpu: u64) -> Seen {
        let usage = Usage { cpu: Some(cpu), memory: Some(64 << 20), ..Usage::default() };
        let at = Duration::from_secs(at);
        let network = Some(Counters { sent: 10 * cpu, ..Counters::default() });
        Seen {
            name: name.parse().expect("a name"),
            state: "active".to_owned(),
            health: None,
            restarts: Some(1),
            since: None,
            image: None,
            digest: None,
            problem: None,
            sample: Some(Sample { at, run: Run::default(), usage, network_at: at, network }),
        }
    }

    #[test]
    fn keys() {
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(keys, crate::cli::format::keys_of(&Row::default()));
    }

    #[test]
    fn what_is_known_and_what_is_not() {
        let rows = rows(&[seen("b", 10, 0)], &[seen("a", 11, 7), seen("b", 12, 1_234_567)]);
        assert_eq!((rows[0].cpu, rows[0].cpu_time, rows[0].sent_rate), (None, Some(7), None));
        assert_eq!((rows[1].cpu, rows[1].sent_rate, rows[1].read), (Some(61.7), Some(6_172_835), None));
        let mut gone = seen("b", 12, 1);
        gone.sample = None;
        let row = Row::new(Some(&seen("b", 10, 0)), &gone);
        assert_eq!((row.memory, row.cpu, row.restarts), (None, None, Some(1)));
    }
}
