//! What the small init checks and how often: the file's word and the image's; and what systemd is told of it.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::process::{ImageProcess, ProcessError};
use super::unit::{START_TIMEOUT, STOP_TIMEOUT};
use crate::check::{Container, Health, HealthCheck, OnFailure, Ready};
use crate::image::Healthcheck;
use crate::spec::{HttpTarget, Signal, TcpTarget, show_duration};

/// What holds where neither the file nor the image says anything: as Docker has it.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// The same of `timeout`.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The same of `retries`.
pub const RETRIES: u32 = 3;

/// The shortest time without a word from the init that counts as its end: a host may be busy for a while, and to end a
/// database for that is worse than to find out late.
const PATIENCE: Duration = Duration::from_secs(10);

/// The exit status of an unhealthy container that is to stay stopped; the unit names it in
/// `RestartPreventExitStatus=`. No program is known to use it: it is above what shells make of signals, and below
/// systemd's own.
pub const GIVEN_UP: u8 = 193;

/// What systemd sends the init when its watchdog has run out or was triggered (`WatchdogSignal=`): the init knows by
/// which signal its program is to be stopped, and the unit doesn't always. The last of the real-time signals, which no
/// program is known to use.
pub const WATCHDOG_SIGNAL: i32 = 64;

/// How a line of [`Watch`]'s for `systemctl status` begins.
const PREFIX: &str = "Health: ";

/// The states that such a line can tell of.
pub const STATES: [&str; 3] = [STARTING, HEALTHY, UNHEALTHY];
/// No check has passed yet.
pub const STARTING: &str = "starting";
/// The last check has passed, or too few have failed since.
pub const HEALTHY: &str = "healthy";
/// As many checks in a row have failed as the file allows.
pub const UNHEALTHY: &str = "unhealthy";

/// A line for `systemctl status`: the state, and what there is to say of it, which goes on after it.
pub fn status_line(state: &str, more: &str) -> String {
    format!("{PREFIX}{state}{more}")
}

/// The state that a unit's `StatusText` tells of.
pub fn state_of(status_text: &str) -> Option<&'static str> {
    let text = status_text.strip_prefix(PREFIX)?;
    let word = text.split(|c: char| !c.is_ascii_lowercase()).next()?;
    STATES.into_iter().find(|state| *state == word)
}

/// Whether such a line tells of checks that fail, with no verdict yet.
pub fn is_doubtful(status_text: &str) -> bool {
    status_text
        .strip_prefix(PREFIX)
        .and_then(|text| text.strip_prefix(HEALTHY))
        .is_some_and(|more| more.starts_with(", but "))
}

/// Whether such a line tells of checks that fail, with or without a verdict.
pub fn is_in_trouble(status_text: &str) -> bool {
    state_of(status_text) == Some(UNHEALTHY) || is_doubtful(status_text)
}

/// What the init does beside its other duties.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Watch {
    /// What.
    pub check: Probe,
    /// From the end of a check to the next.
    #[serde(serialize_with = "shown")]
    pub interval: Duration,
    /// The time after which a check is killed.
    #[serde(serialize_with = "shown")]
    pub timeout: Duration,
    /// As many checks in a row must fail.
    pub retries: u32,
    /// The time after a start in which failed ones don't count.
    #[serde(serialize_with = "shown")]
    pub start_period: Duration,
    /// What an unhealthy container comes to.
    pub on_failure: OnFailure,
    /// The first that passes is the end of the start.
    pub ready: bool,
    /// How long systemd waits for a word, where its unit can't say so: the generator doesn't read images.
    #[serde(serialize_with = "perhaps_shown", skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Duration>,
    /// How much longer a start may take from the init's first word on, where only the image says so.
    #[serde(serialize_with = "perhaps_shown", skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Duration>,
    /// The signal that asks the program to end.
    pub stop_signal: Signal,
    /// And how long it may take.
    #[serde(serialize_with = "shown")]
    pub stop_timeout: Duration,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// A program and its arguments; never empty. It ends with 0 where all is well.
    Program(Vec<String>),
    /// A page that is answered with 200 to 399.
    Http(String),
    /// A port that takes connections.
    Tcp(String),
}

fn shown<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show_duration(*time))
}

fn perhaps_shown<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => shown(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// How long systemd waits for a word of the init: a round longer than it takes to find a program unhealthy.
pub fn patience(interval: Duration, timeout: Duration, retries: u32) -> Duration {
    interval.saturating_add(timeout).saturating_mul(retries.saturating_add(1)).max(PATIENCE)
}

/// The same as the unit says it, before the image was asked.
pub fn unit_patience(health: &Health) -> Duration {
    let Health { interval, timeout, retries, .. } = health;
    patience(interval.unwrap_or(INTERVAL), timeout.unwrap_or(TIMEOUT), retries.unwrap_or(RETRIES))
}

/// What the file says with what the image says. `source` is the container's file.
///
/// # Errors
/// A check that is left to an image without one, and an instance's `%i` that makes no address.
pub fn watch(
    container: &Container,
    image: &ImageProcess,
    source: &str,
) -> Result<Option<Watch>, ProcessError> {
    let Some(health) = &container.health else { return Ok(None) };
    let not_there = |what: String| ProcessError::Target { what, source_file: source.to_owned() };
    match &health.check {
        HealthCheck::Http(page) => {
            page.parse::<HttpTarget>().map_err(|error| not_there(format!("`{page}`: {error}")))?;
        }
        HealthCheck::Tcp(place) => {
            place.parse::<TcpTarget>().map_err(|error| not_there(format!("`{place}`: {error}")))?;
        }
        HealthCheck::Command(_) | HealthCheck::Shell(_) | HealthCheck::Image => {}
    }
    match joined(container, health, image) {
        Some(watch) => Ok(Some(watch)),
        None => Err(ProcessError::NoHealthcheck(source.to_owned())),
    }
}

/// Nothing where the image is to say what to check, and doesn't.
fn joined(container: &Container, health: &Health, image: &ImageProcess) -> Option<Watch> {
    let Health { check, interval, timeout, retries, start_period, on_failure } = health;
    let nothing = Healthcheck::default();
    let from_image = *check == HealthCheck::Image;
    let own = image.healthcheck.as_ref().filter(|_| from_image).unwrap_or(&nothing);
    let check = match check {
        HealthCheck::Command(words) => Probe::Program(words.clone()),
        HealthCheck::Shell(text) => shell(text),
        HealthCheck::Http(page) => Probe::Http(page.clone()),
        HealthCheck::Tcp(place) => Probe::Tcp(place.clone()),
        HealthCheck::Image => of_image(own)?,
    };
    let interval = interval.or(own.interval()).unwrap_or(INTERVAL);
    let timeout = timeout.or(own.timeout()).unwrap_or(TIMEOUT);
    let retries = retries.or(own.retries()).unwrap_or(RETRIES);
    let ready = container.ready == Ready::Healthy;
    // What the file says of it is in the unit.
    let more =
        own.start_period().filter(|_| ready && start_period.is_none() && !has_start_timeout(container));
    Some(Watch {
        check,
        interval,
        timeout,
        retries,
        start_period: start_period.or(own.start_period()).unwrap_or_default(),
        on_failure: *on_failure,
        ready,
        watchdog: from_image.then(|| patience(interval, timeout, retries)),
        start_timeout: more.map(|time| time.saturating_add(START_TIMEOUT)),
        stop_signal: stop_signal(container, image),
        stop_timeout: container.stop.timeout.unwrap_or(STOP_TIMEOUT),
    })
}

/// Whether the file says itself how long a start may take.
fn has_start_timeout(container: &Container) -> bool {
    container.systemd.service.iter().any(|(key, _)| ["TimeoutSec", "TimeoutStartSec"].contains(&key.as_str()))
}

/// As far as the file alone says, to be shown where the image can't be asked.
pub fn without_image(container: &Container) -> Option<Watch> {
    let test = vec!["CMD".to_owned(), "(the image's check)".to_owned()];
    let image = ImageProcess {
        healthcheck: Some(Healthcheck { test, ..Healthcheck::default() }),
        ..ImageProcess::default()
    };
    joined(container, container.health.as_ref()?, &image)
}

fn shell(text: &str) -> Probe {
    Probe::Program(["/bin/sh", "-c", text].map(str::to_owned).to_vec())
}

/// `Test` of Docker's image configuration: `NONE`, `CMD` with a program and its arguments, `CMD-SHELL` with a line.
fn of_image(healthcheck: &Healthcheck) -> Option<Probe> {
    match healthcheck.test.split_first()? {
        (kind, [text, ..]) if kind == "CMD-SHELL" => Some(shell(text)),
        (kind, words) if kind == "CMD" && words.first().is_some_and(|word| !word.is_empty()) => {
            Some(Probe::Program(words.to_vec()))
        }
        _ => None,
    }
}

/// A signal of the image's that is none is told where it is sent (`ExecStop=`), and no reason not to start.
fn stop_signal(container: &Container, image: &ImageProcess) -> Signal {
    let of_image = || image.stop_signal.as_ref().and_then(|text| text.parse().ok());
    container.stop.signal.or_else(of_image).unwrap_or(Signal::TERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(health: &str) -> Container {
        let text = format!("image = 'x'\n{health}");
        let source = crate::report::Source::new("x.toml", text);
        let (document, findings) = crate::spec::Document::parse(&source);
        let checked = crate::check::check(&"x".parse().expect("a name"), &document, findings);
        checked.container.unwrap_or_else(|| panic!("{:?}", checked.findings))
    }

    fn image(test: &[&str], interval: i64) -> ImageProcess {
        let test = test.iter().map(|word| (*word).to_owned()).collect();
        let healthcheck = Healthcheck { test, interval, retries: 2, ..Healthcheck::default() };
        ImageProcess {
            healthcheck: Some(healthcheck),
            stop_signal: Some("SIGQUIT".into()),
            ..ImageProcess::default()
        }
    }

    #[test]
    fn the_images_own() {
        let asked = container("health = { image = true, retries = 5 }");
        let found = watch(&asked, &image(&["CMD-SHELL", "true"], 7_000_000_000), "x.toml");
        let found = found.expect("a check").expect("a check");
        assert_eq!(found.check, Probe::Program(vec!["/bin/sh".into(), "-c".into(), "true".into()]));
        assert_eq!((found.interval, found.timeout), (Duration::from_secs(7), TIMEOUT));
        assert_eq!((found.retries, found.stop_signal.number()), (5, 3));
        assert_eq!(found.watchdog, Some(Duration::from_secs(37 * 6)));
        for none in [&["NONE"][..], &[], &["CMD"], &["CMD-SHELL"], &["CMD", ""], &["other", "x"]] {
            let error = watch(&asked, &image(none, 0), "x.toml").expect_err("no check");
            assert!(error.to_string().contains("HEALTHCHECK"), "{error}");
        }
        assert!(watch(&asked, &ImageProcess::default(), "x.toml").is_err());
        assert!(without_image(&asked).is_some());
    }

    #[test]
    fn a_start_takes_as_long_as_the_image_says() {
        let mut image = image(&["CMD", "true"], 0);
        image.healthcheck.as_mut().expect("a check").start_period = 300_000_000_000;
        let found = |text: &str| {
            let found = watch(&container(text), &image, "x.toml").expect("a check").expect("a check");
            (found.start_period.as_secs(), found.start_timeout.map(|time| time.as_secs()))
        };
        assert_eq!(found("ready = 'healthy'\nhealth.image = true"), (300, Some(390)));
        assert_eq!(found("health.image = true"), (300, None));
        let own = "ready = 'healthy'\nhealth = { image = true, start-period = '1s' }";
        assert_eq!(found(own), (1, None));
        let own = "ready = 'healthy'\nhealth.image = true\nsystemd.Service.TimeoutStartSec = '3s'";
        assert_eq!(found(own), (300, None));
    }

    #[test]
    fn the_files_own() {
        let asked = container("ready = 'healthy'\nhealth = { tcp = 'localhost:1', on-failure = 'none' }");
        let found = watch(&asked, &image(&["CMD", "x"], 1), "x.toml").expect("a check").expect("a check");
        assert_eq!(found.check, Probe::Tcp("localhost:1".into()));
        assert_eq!((found.interval, found.retries, found.ready), (INTERVAL, RETRIES, true));
        assert_eq!((found.watchdog, found.on_failure), (None, OnFailure::None));
        assert_eq!(watch(&container(""), &ImageProcess::default(), ""), Ok(None));
    }

    #[test]
    fn how_long_systemd_waits() {
        let seconds = Duration::from_secs;
        assert_eq!(patience(seconds(10), seconds(5), 3), seconds(60));
        assert_eq!(patience(seconds(1), seconds(1), 1), PATIENCE);
        assert!(patience(Duration::MAX, seconds(1), u32::MAX) >= PATIENCE);
    }

    #[test]
    fn states_are_found_again() {
        for state in STATES {
            for more in ["", ": HTTP 200 OK", ", though 1 check failed: x"] {
                assert_eq!(state_of(&status_line(state, more)), Some(state));
            }
        }
        for text in ["", "healthy", "Health: healthyish", "Health: ", "Ready to accept connections"] {
            assert_eq!(state_of(text), None, "{text}");
        }
    }
}
