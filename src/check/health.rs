//! `[health]`, and `ready`, which may wait for it.

use std::net::IpAddr;
use std::time::Duration;

use super::{Health, HealthCheck, OnFailure, Restart, Rules, plain, process, template};
use crate::report::{Finding, Place};
use crate::spec::{Data, HttpTarget, TargetError, TcpTarget, duration, show_duration};

/// The keys that say what is checked.
const CHECKS: [&str; 4] = ["command", "http", "image", "tcp"];

/// The shortest `interval` and `timeout`: below it the check itself would be the load.
const LEAST: Duration = Duration::from_millis(100);
/// The longest of all times here: nobody would hear in time.
const MOST: Duration = Duration::from_secs(86_400);
/// The most `retries`.
const MOST_RETRIES: i64 = 1000;

/// `[health]`.
pub fn health(rules: &mut Rules<'_>, restart: Restart) -> Option<Health> {
    let table = rules.get("health")?;
    let check = check(rules, &table.key);
    // What the file leaves out may be the image's to say.
    let own = |value| if check == Some(HealthCheck::Image) { None } else { Some(value) };
    let interval = time(rules, "interval", LEAST).or(own(Duration::from_secs(30)));
    let timeout = time(rules, "timeout", LEAST).or(own(Duration::from_secs(30)));
    let start_period = time(rules, "start-period", Duration::ZERO).or(own(Duration::ZERO));
    let retries = retries(rules).or(if check == Some(HealthCheck::Image) { None } else { Some(3) });
    let on_failure = on_failure(rules, restart);
    below_init(rules);
    own_watchdog(rules);
    Some(Health { check: check?, interval, timeout, retries, start_period, on_failure })
}

/// Exactly one of the kinds of checks.
fn check(rules: &mut Rules<'_>, table: &Place) -> Option<HealthCheck> {
    let written: Vec<&str> = CHECKS
        .into_iter()
        .filter(|key| match rules.get(&format!("health.{key}")).map(|entry| &entry.value.data) {
            Some(Data::Flag(flag)) if *key == "image" => *flag,
            found => found.is_some(),
        })
        .collect();
    match written.as_slice() {
        [] => {
            rules.error(
                table,
                "[health] doesn't say what to check",
                "write one of `command`, `http` and `tcp`, for example: http = \"http://localhost/\"; or image = true",
            );
            None
        }
        ["command"] => command(rules),
        ["http"] => target(rules, "http", |page: &HttpTarget| page.at).map(HealthCheck::Http),
        ["tcp"] => target(rules, "tcp", |port: &TcpTarget| *port).map(HealthCheck::Tcp),
        ["image"] => of_image(rules),
        [first, others @ ..] => {
            for other in others {
                if let Some(entry) = rules.get(&format!("health.{other}")) {
                    rules.error(
                        &entry.key,
                        format!("`{other}` can't stand beside `{first}`: there is one check"),
                        "leave one of them out; a `command` can check several things",
                    );
                }
            }
            None
        }
    }
}

fn command(rules: &mut Rules<'_>) -> Option<HealthCheck> {
    let entry = rules.get("health.command")?;
    let place = &entry.value.place;
    match &entry.value.data {
        Data::Text(text) if text.trim().is_empty() || text.contains('\0') => {
            rules.error(place, "`command` has nothing that a shell could run", EXAMPLE);
            None
        }
        Data::Text(text) => Some(HealthCheck::Shell(text.clone())),
        Data::List(words) if words.is_empty() => {
            rules.error(place, "`command` is empty", EXAMPLE);
            None
        }
        _ => process::arguments(rules, "health.command").map(HealthCheck::Command),
    }
}

const EXAMPLE: &str = "for example: command = [\"pg_isready\", \"-q\"]";

/// A text that is such a place, once a template's `%i` stands for something.
fn target<T: std::str::FromStr<Err = TargetError>>(
    rules: &mut Rules<'_>,
    key: &str,
    at: impl Fn(&T) -> TcpTarget,
) -> Option<String> {
    let (text, place) = rules.text(&format!("health.{key}"))?;
    // A stray per cent sign has been told.
    let plain = match rules.name.as_str().contains('@') {
        true if template::stray(text).is_some() => return None,
        true => text.replace("%%", "%").replace("%i", "1"),
        false => text.to_owned(),
    };
    let error = match plain.parse::<T>() {
        Ok(target) => {
            if let Some(address) = at(&target).elsewhere() {
                elsewhere(rules, address, place);
            }
            return Some(text.to_owned());
        }
        Err(error) => error,
    };
    let hint = match (error, key) {
        (TargetError::Encrypted, _) => {
            "ask a port without TLS, or write a `command` with a client of the image's".to_owned()
        }
        (TargetError::Host, "tcp") if text.parse::<u16>().is_ok_and(|port| port > 0) => {
            format!("write \"localhost:{text}\"")
        }
        (TargetError::Scheme, _) => {
            whole(text).map_or_else(|| PAGE.to_owned(), |whole| format!("write \"{whole}\""))
        }
        (_, "tcp") => "for example: tcp = \"127.0.0.1:5432\"".to_owned(),
        _ => PAGE.to_owned(),
    };
    rules.error(place, format!("`{key}`: {error}"), hint);
    None
}

const PAGE: &str = "for example: http = \"http://localhost:8080/healthz\"";

/// The address of a page, of what may be the end of one.
fn whole(text: &str) -> Option<String> {
    let lead = if text.starts_with('/') { "http://localhost" } else { "http://" };
    Some(format!("{lead}{text}")).filter(|whole| whole.parse::<HttpTarget>().is_ok())
}

/// With a check of another machine, what is down there restarts the container here.
fn elsewhere(rules: &mut Rules<'_>, address: IpAddr, place: &Place) {
    rules.findings.push(
        Finding::warning(
            place.clone(),
            format!("a check asks the container itself, and {address} may be another machine"),
        )
        .hint("write localhost; whether others are up is a matter of `links`, or of a `command`"),
    );
}

fn of_image(rules: &mut Rules<'_>) -> Option<HealthCheck> {
    let Some(rootfs) = rules.get("rootfs") else { return Some(HealthCheck::Image) };
    let folder = rootfs.value.place.clone();
    let place = rules.get("health.image").map_or(folder, |entry| entry.key.clone());
    rules.error(
        &place,
        "a folder has no HEALTHCHECK that `image` = true could use",
        "write the check: `command`, `http` or `tcp`",
    );
    None
}

fn time(rules: &mut Rules<'_>, key: &str, least: Duration) -> Option<Duration> {
    let value = &rules.get(&format!("health.{key}"))?.value;
    let text = plain(value)?;
    let hint = format!("for example: {key} = \"10s\"");
    let problem = match duration(&text) {
        Ok(time) if time < least => format!("`{key}` must be {} at least", show_duration(least)),
        Ok(time) if time > MOST => format!("`{key}` can be a day at most"),
        Ok(time) => return Some(time),
        Err(error) => format!("`{key}`: {error}"),
    };
    rules.error(&value.place, problem, hint);
    None
}

fn retries(rules: &mut Rules<'_>) -> Option<u32> {
    let value = &rules.get("health.retries")?.value;
    let Data::Integer(number) = value.data else { return None };
    if (1..=MOST_RETRIES).contains(&number) {
        return u32::try_from(number).ok();
    }
    rules.error(
        &value.place,
        format!("`retries` must be 1 to {MOST_RETRIES}"),
        "1 means that the first check that fails counts",
    );
    None
}

fn on_failure(rules: &mut Rules<'_>, restart: Restart) -> OnFailure {
    match rules.text("health.on-failure") {
        Some(("stop", _)) => OnFailure::Stop,
        Some(("none", _)) => OnFailure::None,
        Some(("restart", place)) => {
            if restart == Restart::No {
                rules.error(
                    place,
                    "`on-failure` = \"restart\" contradicts restart = \"no\"",
                    "write on-failure = \"stop\", or restart = \"on-failure\"",
                );
            }
            OnFailure::Restart
        }
        // Stopped it would be either way, and nothing starts it again.
        _ if restart == Restart::No => OnFailure::Stop,
        _ => OnFailure::Restart,
    }
}

/// `init = false` is what holds without a check, and not with one.
fn below_init(rules: &mut Rules<'_>) {
    if let Some(entry) = rules.get("init").filter(|entry| entry.value.data == Data::Flag(false)) {
        rules.error(
            &entry.key,
            "`init` = false contradicts [health]: the small init is what checks",
            "leave `init` out",
        );
    }
}

/// What the unit says here follows from the times of the check, and is between systemd and the init.
fn own_watchdog(rules: &mut Rules<'_>) {
    for (name, hint) in [
        ("WatchdogSec", "it follows from `interval`, `timeout` and `retries` of [health]"),
        ("WatchdogSignal", "by it the small init is told to stop the program, with `signal` of [stop]"),
    ] {
        if let Some(entry) = rules.get(&format!("systemd.Service.{name}")) {
            rules.error(&entry.key, format!("{name}= can't be set beside [health], which sets it"), hint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::keys::CONTAINER;

    #[test]
    fn bounds_are_told() {
        let says = |key: &str, words: &str| {
            let doc = CONTAINER.find(key).expect(key).doc;
            assert!(doc.contains(words), "{key}: {doc}");
        };
        assert_eq!(MOST, Duration::from_secs(24 * 60 * 60));
        let times = format!("{} to a day", show_duration(LEAST));
        says("health.interval", &times);
        says("health.timeout", &times);
        says("health.start-period", "a day at most");
        says("health.retries", &format!("1 to {MOST_RETRIES}"));
    }
}
