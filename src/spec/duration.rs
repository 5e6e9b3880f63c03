//! Lengths of time, as systemd.time(7) writes them.

use std::time::Duration;

/// Every spelling of a unit, with its length in microseconds.
const UNITS: [(&[&str], u64); 7] = [
    (&["us", "usec", "µs"], 1),
    (&["ms", "msec"], 1_000),
    (&["s", "sec", "second", "seconds"], 1_000_000),
    (&["m", "min", "minute", "minutes"], 60_000_000),
    (&["h", "hr", "hour", "hours"], 3_600_000_000),
    (&["d", "day", "days"], 86_400_000_000),
    (&["w", "week", "weeks"], 604_800_000_000),
];

/// A text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a length of time; write `5s`, `2min 30s`, `500ms` or whole seconds")]
pub struct DurationError(pub String);

/// A length of time: `5s`, `2min 30s`, `1.5h`, or a bare number of seconds.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.to_owned());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(error());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let after = after.trim_start();
        let end = after.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let length = match unit {
            "" => 1_000_000,
            unit => UNITS.iter().find(|(names, _)| names.contains(&unit)).ok_or_else(error)?.1,
        };
        total = total.checked_add(amount(number, length).ok_or_else(error)?).ok_or_else(error)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_micros(total))
}

fn amount(number: &str, length: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let part = part.get(..6).unwrap_or(part);
    let fraction = part.parse::<u64>().ok()?.checked_mul(length)? / 10_u64.pow(part.len() as u32);
    whole.parse::<u64>().ok()?.checked_mul(length)?.checked_add(fraction)
}

/// A length of time as systemd reads it, exact to the microsecond.
pub fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros.is_multiple_of(1_000_000) {
        format!("{}s", micros / 1_000_000)
    } else if micros.is_multiple_of(1_000) {
        format!("{}ms", micros / 1_000)
    } else {
        format!("{micros}us")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, micros, shown) in [
            ("5s", 5_000_000, "5s"),
            ("5", 5_000_000, "5s"),
            ("2min 30s", 150_000_000, "150s"),
            ("2min30s", 150_000_000, "150s"),
            ("1.5h", 5_400_000_000, "5400s"),
            ("500 ms", 500_000, "500ms"),
            ("1us", 1, "1us"),
            ("0", 0, "0s"),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
            assert_eq!(show_duration(Duration::from_micros(micros)), shown);
        }
        for text in ["", " ", "s", "5 parsecs", "-1", "1..2s", "99999999999999999999", "infinity", "5s,"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
