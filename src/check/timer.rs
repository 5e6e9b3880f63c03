//! What is to end, when it runs, and how long it may.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Rules, Starting, plain};
use crate::report::Place;
use crate::spec::{Data, calendar, duration};

/// `type`: whether the program is to stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It stays.
    #[default]
    Service,
    /// It ends, and how it ends is what its start came to.
    Job,
}

impl Kind {
    /// The one of most containers.
    pub fn is_service(&self) -> bool {
        *self == Self::Service
    }
}

/// `[timer]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// `on-calendar`, each as systemd.time(7) writes it.
    pub on_calendar: Vec<String>,
    /// `on-boot`: after the boot.
    pub on_boot: Option<Duration>,
    /// `every`: from start to start.
    pub every: Option<Duration>,
    /// `persistent`: a time of the calendar that was missed is made up for.
    pub persistent: bool,
    /// `jitter`: up to this much later.
    pub jitter: Option<Duration>,
    /// `overlap`.
    pub overlap: Overlap,
}

/// What becomes of a time that comes while the last run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// Nothing.
    #[default]
    Skip,
    /// The run is stopped, and another one started.
    Restart,
}

impl Timer {
    /// Whether it never elapses: of a file with mistakes, or one that says nothing.
    pub fn is_idle(&self) -> bool {
        self.on_calendar.is_empty() && self.on_boot.is_none() && self.every.is_none()
    }
}

/// `type`: a job where there is a timer, unless it says something else.
pub fn kind(rules: &Rules<'_>) -> Kind {
    match rules.text("type") {
        Some(("job", _)) => Kind::Job,
        Some(_) => Kind::Service,
        None if rules.table("timer").is_some() => Kind::Job,
        None => Kind::Service,
    }
}

/// `runtime`.
pub fn runtime(rules: &mut Rules<'_>) -> Option<Duration> {
    length(rules, "runtime", "leave it out for no limit")
}

/// `[timer]`; also where it has mistakes, with what is readable of it.
pub fn timer(rules: &mut Rules<'_>) -> Option<Timer> {
    rules.table("timer")?;
    let on_calendar = on_calendar(rules);
    let on_boot = time(rules, "timer.on-boot");
    let every = length(rules, "timer.every", "leave it out, or write \"1min\" or more");
    let jitter = time(rules, "timer.jitter").filter(|jitter| !jitter.is_zero());
    let says = |key: &str| rules.get(&format!("timer.{key}")).is_some();
    let (has_calendar, nothing) =
        (says("on-calendar"), !["on-calendar", "on-boot", "every"].into_iter().any(says));
    if let Some(entry) = rules.get("timer").filter(|_| nothing) {
        rules.error(
            &entry.key,
            "[timer] doesn't say when",
            "write `on-calendar`, `on-boot` or `every`: on-calendar = \"*-*-* 03:00\"",
        );
    }
    let persistent = rules.flag("timer.persistent");
    if let Some(entry) = rules.get("timer.persistent").filter(|_| persistent == Some(true) && !has_calendar) {
        rules.error(
            &entry.key,
            "`persistent` has no effect without `on-calendar`",
            "leave it out: only a time of the calendar can be missed while the host is off",
        );
    }
    let overlap = match rules.text("timer.overlap") {
        Some(("restart", _)) => Overlap::Restart,
        _ => Overlap::Skip,
    };
    Some(Timer {
        persistent: persistent.unwrap_or(true) && !on_calendar.is_empty(),
        on_calendar,
        on_boot,
        every,
        jitter,
        overlap,
    })
}

fn on_calendar(rules: &mut Rules<'_>) -> Vec<String> {
    let Some(entry) = rules.get("timer.on-calendar") else { return Vec::new() };
    let texts: Vec<(&str, &Place)> = match &entry.value.data {
        Data::List(values) => values.iter().filter_map(|value| Some((value.text()?, &value.place))).collect(),
        _ => entry.value.text().map(|text| (text, &entry.value.place)).into_iter().collect(),
    };
    if let Data::List(values) = &entry.value.data
        && values.is_empty()
    {
        rules.error(&entry.value.place, "`on-calendar` has no time in it", "write one, or leave the key out");
    }
    let mut times = Vec::new();
    for (text, place) in texts {
        match calendar(text) {
            Ok(()) => times.push(text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")),
            Err(error) => rules.error(place, format!("`on-calendar`: {error}"), error.hint()),
        }
    }
    times
}

/// A length of time that may be nothing.
fn time(rules: &mut Rules<'_>, path: &str) -> Option<Duration> {
    let value = &rules.get(path)?.value;
    let text = plain(value)?;
    let key = path.rsplit('.').next().unwrap_or(path);
    duration(&text)
        .map_err(|error| rules.error(&value.place, format!("`{key}`: {error}"), "for example: \"5min\""))
        .ok()
}

/// A length of time that must be some.
pub(super) fn length(rules: &mut Rules<'_>, path: &str, hint: &str) -> Option<Duration> {
    let length = time(rules, path)?;
    if length.is_zero() {
        let key = path.rsplit('.').next().unwrap_or(path);
        let place = &rules.get(path)?.value.place;
        rules.error(place, format!("`{key}` can't be nothing"), hint);
        return None;
    }
    Some(length)
}

/// What can't be together.
pub fn together(rules: &mut Rules<'_>, starting: &Starting) {
    if let Some(("always", place)) = rules.text("restart").filter(|_| starting.kind == Kind::Job) {
        let place = place.clone();
        let hint = match (rules.text("type"), starting.timer.is_some()) {
            (None, true) => {
                "write \"on-failure\" or nothing; or type = \"service\", for what isn't to end: with a timer, a container is a job"
            }
            _ => "write \"on-failure\", or leave it out: systemd starts no job again after a good end",
        };
        rules.error(&place, "a job can't have restart = \"always\"", hint);
    }
    let socket = rules.get("socket").filter(|_| rules.table("socket").is_some());
    let Some(socket) = socket else { return };
    if starting.timer.is_some() {
        rules.error(
            &socket.key,
            "a container can't have both [timer] and [socket]",
            "keep one of them: it is started either at its times or by its clients",
        );
    } else if starting.kind == Kind::Job {
        rules.error(
            &socket.key,
            "a job can't have [socket]: systemd would count each client's start as over when the program ends",
            "leave `type` out: a service may end when it has nothing to do, and the next client starts it again",
        );
    }
}
