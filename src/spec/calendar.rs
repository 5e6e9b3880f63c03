//! Times of the calendar, as systemd.time(7) writes them under "Calendar Events".
//!
//! systemd has the last word: `systemd-analyze calendar TEXT` says what it reads, and when that is next. Here
//! is found what it could only refuse, or what was meant for cron, on machines too that have no systemd.

use std::ops::RangeInclusive;

/// Times that have a name.
const WORDS: [&str; 12] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "semi-annually",
    "biannually",
    "bi-annually",
    "annually",
    "yearly",
];

/// Days of the week, in full and in their order; the first three letters are one too.
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// What the names of time zones begin with, as `Europe/Berlin` does (the folders of the tz database).
const AREAS: [&str; 16] = [
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Brazil",
    "Canada",
    "Chile",
    "Etc",
    "Europe",
    "Indian",
    "Mexico",
    "Pacific",
    "US",
];

/// Its older names, without an area and not all in capitals (its file `backward`).
const PLACES: [&str; 20] = [
    "Cuba",
    "Egypt",
    "Eire",
    "GB-Eire",
    "Greenwich",
    "Hongkong",
    "Iceland",
    "Iran",
    "Israel",
    "Jamaica",
    "Japan",
    "Kwajalein",
    "Libya",
    "Navajo",
    "Poland",
    "Portugal",
    "Singapore",
    "Turkey",
    "Universal",
    "Zulu",
];

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
    /// A step after a `*`, as cron has them.
    #[error("`{part}`: systemd has no step after `*`")]
    StepOfAll {
        /// As written.
        part: String,
        /// The step.
        step: String,
        /// What the first could be: 1 for a day or a month.
        first: u64,
    },
    /// A step that leads nowhere: of nothing, or out of the hour.
    #[error("the step of `{part}` never comes to another {what}")]
    Step {
        /// As written.
        part: String,
        /// `hour`, `month` and so on.
        what: &'static str,
    },
    /// A range that ends before it begins, or without an end.
    #[error("the range `{0}` doesn't go from earlier to later")]
    Range(String),
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
            Self::StepOfAll { step, first, .. } => format!("write `{first}/{step}`: from {first} on, every {step}"),
            Self::Step { .. } => {
                "a step begins anew with each larger part: every 90 minutes is `every` = \"90min\", and every \
                 hour `*:00`"
                    .into()
            }
            Self::Range(_) => {
                "write two, with a comma: \"Fri..Sun,Mon 03:00\", \"22..23,0..3:00\"; \
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
    // The zone is last; alone it says nothing.
    if let [before @ .., zone] = rest
        && !before.is_empty()
        && is_zone(zone)
    {
        rest = before;
    }
    if WORDS.contains(&first.to_ascii_lowercase().as_str()) {
        rest = &rest[1..];
    } else {
        rest = skip(rest, days)?;
        match rest {
            // Seconds since 1970, which have no hour beside them.
            [seconds, after @ ..] if seconds.starts_with('@') => {
                epoch(seconds)?;
                rest = after;
            }
            _ => {
                rest = skip(rest, date)?;
                rest = skip(rest, time)?;
            }
        }
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

/// `Mon..Fri,Sun`; the older `Mon-Fri`; one comma at the end is as nothing.
fn days(word: &str) -> Result<bool, CalendarError> {
    let number = |day: &str| {
        let day = day.to_ascii_lowercase();
        DAYS.iter().position(|full| day == *full || day == full[..3])
    };
    let word = word.strip_suffix(',').unwrap_or(word);
    for part in word.split(',') {
        let (first, last) = part.split_once("..").or_else(|| part.split_once('-')).unwrap_or((part, part));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => {}
            (Some(_), Some(_)) => return Err(CalendarError::Range(part.to_owned())),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// `@1800000000`.
fn epoch(word: &str) -> Result<(), CalendarError> {
    /// The first second of the year 2200.
    const END: u64 = 7_258_118_400;
    match digits(&word[1..]) {
        Some(seconds) if seconds < END => Ok(()),
        Some(_) => Err(CalendarError::Number { number: word.to_owned(), what: "second" }),
        None => Err(CalendarError::Part { text: word.to_owned(), part: word.to_owned() }),
    }
}

/// One kind of part of a time.
#[derive(Clone)]
struct Kind {
    what: &'static str,
    /// What it can be; of seconds in millionths.
    range: RangeInclusive<u64>,
    /// Counted from the end of the month.
    backwards: bool,
}

impl Kind {
    fn new(what: &'static str, range: RangeInclusive<u64>) -> Self {
        Self { what, range, backwards: false }
    }

    fn is_second(&self) -> bool {
        self.what == "second"
    }

    /// A number of it; of a second, what is behind the point is rounded to a millionth.
    fn number(&self, text: &str) -> Option<u64> {
        match self.what {
            // Two digits are a year of this century or the last.
            "year" => Some(match digits(text)? {
                year @ 0..70 => year + 2000,
                year @ 70..100 => year + 1900,
                year => year,
            }),
            "second" => {
                let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
                digits(fraction)?;
                let mut millionths = 0;
                for at in 0..6 {
                    millionths = millionths * 10
                        + u64::from(fraction.as_bytes().get(at).map_or(0, |byte| byte - b'0'));
                }
                let up = fraction.as_bytes().get(6).is_some_and(|byte| *byte >= b'5');
                Some(digits(whole)? * SECOND + millionths + u64::from(up))
            }
            _ => digits(text),
        }
    }

    /// How far it is from one to the next; a step of years isn't a year of this century.
    fn step(&self, text: &str) -> Option<u64> {
        if self.is_second() { self.number(text) } else { digits(text) }
    }
}

/// A second, in the millionths that systemd counts them in.
const SECOND: u64 = 1_000_000;

/// A number and nothing else; what is beyond any time is only that.
fn digits(text: &str) -> Option<u64> {
    const BEYOND: u64 = 1_000_000_000_000;
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().map_or(BEYOND, |number: u64| number.min(BEYOND)))
}

/// `2026-12-24`, `*-*-1`, `12-24`, `*-02~03`: the last days of a month after a `~`.
fn date(word: &str) -> Result<bool, CalendarError> {
    if !word.contains(['-', '~']) || word.starts_with(|c: char| c.is_ascii_alphabetic()) || word.contains(':')
    {
        return Ok(false);
    }
    let parts: Vec<&str> = word.split(['-', '~']).collect();
    // Only days are counted from the end of the month.
    let backwards = word.contains('~');
    if backwards && word.rfind(['-', '~']) != word.find('~') {
        return Ok(false);
    }
    // All months have 28 days before their last.
    let day = Kind { what: "day", range: 1..=if backwards { 28 } else { 31 }, backwards };
    let kinds = [Kind::new("year", 1970..=2199), Kind::new("month", 1..=12), day];
    match parts.len() {
        2 | 3 => chains(word, &parts, &kinds[kinds.len() - parts.len()..]),
        _ => Ok(false),
    }
}

/// `03:00`, `*:0/15`, `22:30:15.5`.
fn time(word: &str) -> Result<bool, CalendarError> {
    if !word.contains(':') {
        return Ok(false);
    }
    let parts: Vec<&str> = word.split(':').collect();
    let kinds =
        [Kind::new("hour", 0..=23), Kind::new("minute", 0..=59), Kind::new("second", 0..=60 * SECOND - 1)];
    match parts.len() {
        2 | 3 => chains(word, &parts, &kinds[..parts.len()]),
        _ => Ok(false),
    }
}

/// Whether each part is `*`, or a list of numbers, ranges and steps.
fn chains(word: &str, parts: &[&str], kinds: &[Kind]) -> Result<bool, CalendarError> {
    for (part, kind) in parts.iter().zip(kinds) {
        if *part == "*" {
            continue;
        }
        for one in part.split(',') {
            link(word, one, kind)?;
        }
    }
    Ok(true)
}

/// One of a list.
fn link(word: &str, one: &str, kind: &Kind) -> Result<(), CalendarError> {
    let what = kind.what;
    let unknown = || CalendarError::Part { text: word.to_owned(), part: one.to_owned() };
    let (start, step) = one.split_once('/').map_or((one, None), |(start, step)| (start, Some(step)));
    if let ("*", Some(step)) = (start, step) {
        let first = *kind.range.start();
        let first = if first == 1 { 1 } else { 0 };
        return Err(CalendarError::StepOfAll { part: one.to_owned(), step: step.to_owned(), first });
    }
    let (start, end) = start.split_once("..").map_or((start, None), |(start, end)| (start, Some(end)));
    let (low, high) = (*kind.range.start(), *kind.range.end());
    let first = kind.number(start).ok_or_else(unknown)?;
    if !kind.range.contains(&first) {
        return Err(CalendarError::Number { number: start.to_owned(), what });
    }
    let size = step.map(|step| kind.step(step).ok_or_else(unknown)).transpose()?;
    let no_step = || CalendarError::Step { part: one.to_owned(), what };
    if size == Some(0) {
        return Err(no_step());
    }
    let Some(end) = end else {
        // There has to be a second one.
        let room = if kind.backwards { first - low } else { high - first };
        return if size.unwrap_or(0) <= room { Ok(()) } else { Err(no_step()) };
    };
    let last = kind.number(end).ok_or_else(unknown)?;
    // A range of seconds without a step has one of a second, and can't be shorter.
    if last < first || (kind.is_second() && size.is_none() && last < first + SECOND) {
        return Err(CalendarError::Range(one.to_owned()));
    }
    // Only what the steps come to counts.
    let last = last - (last - first) % size.unwrap_or(1);
    if last > high {
        return Err(CalendarError::Number { number: end.to_owned(), what });
    }
    Ok(())
}

/// `UTC` in any case, a name with an area, or an abbreviation like `CET`, which the host has or hasn't. No hour of
/// a clock with twelve.
fn is_zone(word: &str) -> bool {
    let name = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte));
    let abbreviation = || {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && !word.bytes().any(|byte| byte.is_ascii_lowercase() || byte == b'/')
            && !["AM", "PM"].contains(&word)
            && !DAYS.iter().any(|day| word.eq_ignore_ascii_case(day) || word.eq_ignore_ascii_case(&day[..3]))
    };
    let in_area = || {
        word.split_once('/').is_some_and(|(area, place)| {
            AREAS.contains(&area) && place.split('/').all(|part| !part.is_empty())
        })
    };
    name && (word.eq_ignore_ascii_case("utc") || in_area() || PLACES.contains(&word) || abbreviation())
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
            "Mon,Tue, 3:00",
            "biannually",
            "@1800000000",
            "@1800000000 UTC",
            "*:0/15",
            "0/2:30",
            "22..23:00",
            "3..3:00",
            "1..3/10:00",
            "*:*:0/0.5",
            "*-*~28",
            "70-1-1",
            "3:00 utc",
            "3:00 CET",
            "daily Japan",
            "3:00 America/Argentina/Salta",
        ] {
            assert_eq!(calendar(text), Ok(()), "{text}");
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
            "*-*-* *:*/15",
            "*/2:00",
            "*:0/60",
            "*:30/30",
            "*:0/0",
            "22..3:00",
            "Fri..Mon 03:00",
            "Mon.. 03:00",
            "Mon..Tue..Wed 03:00",
            "Mon,,Tue 03:00",
            "*-*-* 3:00 PM",
            "weekly Sun",
            "weekly SUN",
            "*-*-* *:*:60",
            "*:*:59.9999999",
            "*:*:5..5",
            "*,1:00",
            "+3:00",
            "1969-01-01",
            "*-*~29",
            "*~*-1",
            "@",
            "@7258118400",
            "@1800000000 3:00",
            "3:00 Mon/2",
        ] {
            assert!(calendar(text).is_err(), "{text}");
        }
        let hint = |text: &str| calendar(text).expect_err(text).hint();
        assert!(hint("*:*/15").contains("`0/15`") && hint("*-*/2-1").contains("`1/2`"));
        assert!(hint("*:0/90").contains("\"90min\"") && hint("22..3:00").contains("22..23,0..3:00"));
        assert_eq!(calendar("*/15 * * * *"), Err(CalendarError::Cron("*/15 * * * *".into())));
        assert_eq!(calendar("24:00"), Err(CalendarError::Number { number: "24".into(), what: "hour" }));
    }
}
