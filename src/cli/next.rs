//! When timers elapse next.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::bus::{BusError, NextElapse, Systemd};

/// When each loaded timer whose name matches one of the patterns elapses next, by its name.
pub(super) fn next(systemd: &Systemd, patterns: &[&str]) -> Result<BTreeMap<String, Timestamp>, BusError> {
    let now = Timestamp::now();
    let up = clock_gettime(ClockId::Monotonic);
    let up = up.tv_sec * 1_000_000 + up.tv_nsec / 1_000;
    let timers = systemd.timers(patterns)?.into_iter();
    Ok(timers.filter_map(|(unit, next)| Some((unit, when(next, now, up)?))).collect())
}

/// The sooner of the two; `up` is the monotonic clock's time now, in microseconds.
fn when(next: NextElapse, now: Timestamp, up: i64) -> Option<Timestamp> {
    let NextElapse { realtime, monotonic } = next;
    let realtime = realtime.and_then(|time| i64::try_from(time).ok());
    let monotonic = monotonic.and_then(|time| i64::try_from(time).ok());
    let monotonic = monotonic.map(|time| now.as_microsecond().saturating_add(time.saturating_sub(up)));
    Timestamp::from_microsecond([realtime, monotonic].into_iter().flatten().min()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let next = |realtime, monotonic| {
            when(NextElapse { realtime, monotonic }, at(1_000), 20_000_000).map(Timestamp::as_second)
        };
        assert_eq!(next(None, None), None);
        assert_eq!(next(Some(1_100_000_000), None), Some(1_100));
        assert_eq!(next(None, Some(50_000_000)), Some(1_030));
        assert_eq!(next(Some(1_100_000_000), Some(50_000_000)), Some(1_030));
    }
}
