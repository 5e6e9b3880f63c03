//! What is used at a time, by two samples. Pure.

use std::time::Duration;

use super::Sample;

/// What a container uses at a time; nothing where that can't be told of these two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Percent of one CPU; two that are busy are 200.
    pub cpu: Option<f64>,
    /// Bytes a second from block devices.
    pub read: Option<f64>,
    /// Bytes a second to block devices.
    pub written: Option<f64>,
    /// Bytes a second that came to the container.
    pub received: Option<f64>,
    /// Bytes a second that it sent.
    pub sent: Option<f64>,
}

/// What was used between two samples. Of two runs nothing can be told.
pub fn between(before: &Sample, after: &Sample) -> Rates {
    if before.run != after.run {
        return Rates::default();
    }
    let time = after.at.saturating_sub(before.at);
    let cpu = rate(before.usage.cpu, after.usage.cpu, time);
    let io = |count: fn(&super::Io) -> u64| {
        rate(before.usage.io.as_ref().map(count), after.usage.io.as_ref().map(count), time)
    };
    let time = after.network_at.saturating_sub(before.network_at);
    let network = |count: fn(&crate::net::Counters) -> u64| {
        rate(before.network.as_ref().map(count), after.network.as_ref().map(count), time)
    };
    Rates {
        // Microseconds a second are ten thousand to a percent.
        cpu: cpu.map(|cpu| cpu / 10_000.0),
        read: io(|io| io.read),
        written: io(|io| io.written),
        received: network(|network| network.received),
        sent: network(|network| network.sent),
    }
}

/// How fast a number grew, a second; nothing where it fell, as it began anew then.
fn rate(before: Option<u64>, after: Option<u64>, time: Duration) -> Option<f64> {
    let grown = after?.checked_sub(before?)?;
    (!time.is_zero()).then(|| grown as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::{Io, Run, Usage};
    use super::*;
    use crate::net::Counters;

    fn sample(seconds: u64, cpu: Option<u64>, read: u64, sent: u64) -> Sample {
        let io = Some(Io { read, written: 5 * read, ..Io::default() });
        Sample {
            at: Duration::from_secs(seconds),
            run: Run { since: None, id: Some("1".to_owned()) },
            usage: Usage { cpu, io, ..Usage::default() },
            network_at: Duration::from_secs(2 * seconds),
            network: Some(Counters { sent, ..Counters::default() }),
        }
    }

    #[test]
    fn by_the_time_that_has_passed() {
        let rates = between(&sample(10, Some(1_000_000), 100, 0), &sample(12, Some(4_000_000), 300, 800));
        let expected = Rates {
            cpu: Some(150.0),
            read: Some(100.0),
            written: Some(500.0),
            received: Some(0.0),
            sent: Some(200.0),
        };
        assert_eq!(rates, expected);
    }

    #[test]
    fn what_cant_be_told() {
        let before = sample(10, Some(5), 100, 9);
        // A number that fell, one that is missing, no time.
        assert_eq!(between(&before, &sample(11, Some(4), 100, 8)).cpu, None);
        assert_eq!(between(&before, &sample(11, Some(4), 100, 8)).sent, None);
        assert_eq!(between(&before, &sample(11, None, 100, 9)).cpu, None);
        assert_eq!(between(&sample(10, None, 100, 9), &sample(11, Some(7), 100, 9)).cpu, None);
        assert_eq!(between(&before, &sample(10, Some(9), 100, 9)).cpu, None);
        // Another run, however large its numbers are.
        let mut other = sample(11, Some(50), 1000, 90);
        assert!(between(&before, &other).cpu.is_some());
        other.run.id = Some("2".to_owned());
        assert_eq!(between(&before, &other), Rates::default());
        other.run = Run { since: Some(1), ..before.run.clone() };
        assert_eq!(between(&before, &other), Rates::default());
        let mut alone = sample(11, Some(50), 1000, 90);
        alone.network = None;
        assert_eq!((between(&before, &alone).sent, between(&before, &alone).read), (None, Some(900.0)));
    }
}
