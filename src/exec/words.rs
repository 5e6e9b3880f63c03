//! The last words on a container: how its run ended, and why, in one line, from what systemd says of it and what is
//! known of its file.

use std::time::Duration;

use crate::check::{Container, Kind, OnFailure, Ready};
use crate::journal::Kind as Entry;
use crate::plan::health::{GIVEN_UP, UNHEALTHY, state_of};
use crate::plan::unit::STOP_TIMEOUT;
use crate::spec::{Signal, show_duration};

/// What systemd tells `ExecStopPost=` (systemd.exec(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End<'a> {
    /// `$SERVICE_RESULT`.
    pub result: &'a str,
    /// `$EXIT_STATUS`: a number, or a signal's name without `SIG`.
    pub status: &'a str,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// Which kind of failure it is, for the journal's catalogue.
    pub(super) entry: Entry,
    /// How it ended, for `systemctl status` and the journal.
    pub(super) why: String,
    /// The way out, for the journal.
    pub(super) hint: Option<String>,
}

/// How far the run had come, and what it had said of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// The container as it was started.
    pub(super) container: &'a Container,
    /// Its file.
    pub(super) file: &'a str,
    /// It has become ready.
    pub(super) is_ready: bool,
    /// How long ago it was started, where that is known.
    pub(super) age: Option<Duration>,
    /// `StatusText`, where it was asked for.
    pub(super) said: &'a str,
}

/// Whether what the unit has said of itself matters for the words.
pub(super) fn needs_status(end: End<'_>, container: &Container) -> bool {
    container.health.is_some() && matches!(end.result, "timeout" | "watchdog")
}

/// The words on an end; none where it ended well, or where what was said stands.
pub(super) fn words(end: End<'_>, known: Known<'_>) -> Option<Words> {
    let Known { container, file: _, is_ready, age: _, said } = known;
    let of = |entry: Entry, why: String| Some(Words { entry, why, hint: None });
    let ended = |why: String| of(Entry::Ended, why);
    match end.result {
        "exit-code" => exit(end, container).and_then(ended),
        "signal" => ended(format!("its program was killed by SIG{}", end.status)),
        "core-dump" => {
            ended(format!("its program was killed by SIG{}, and has left a core dump", end.status))
        }
        "oom-kill" => {
            let memory = &container.limits.memory;
            let limit = memory.as_ref().map(|memory| format!("; limits.memory is {memory}"));
            let why = "the kernel has killed a process of it for want of memory";
            of(Entry::OutOfMemory, format!("{why}{}", limit.unwrap_or_default()))
        }
        "watchdog" if state_of(said) == Some(UNHEALTHY) => None,
        "watchdog" => {
            let why = "nothing came from it for as long as WatchdogSec= says, so it was killed";
            of(Entry::Late, why.to_owned())
        }
        "protocol" if container.ready != Ready::Exec && !is_ready => {
            ended("its program has ended before it was ready".to_owned())
        }
        "timeout" => timeout(end, known),
        _ => None,
    }
}

fn exit(end: End<'_>, container: &Container) -> Option<String> {
    let gives_up = container.health.as_ref().is_some_and(|health| health.on_failure == OnFailure::Stop);
    let status: i32 = end.status.parse().ok()?;
    if gives_up && status == i32::from(GIVEN_UP) {
        // Its init has said what was wrong.
        return None;
    }
    let has_init = container.has_init();
    // As the init says what a shell says.
    let signal = (has_init && status > 128).then(|| status - 128).and_then(signal_name);
    Some(match signal {
        Some(signal) => format!("its program ended with status {status}, as if killed by {signal}"),
        None => format!("its program ended with status {status}"),
    })
}

/// Names as signal(7) has them.
fn signal_name(number: i32) -> Option<String> {
    number.to_string().parse::<Signal>().ok().map(|signal| signal.to_string())
}

fn timeout(end: End<'_>, known: Known<'_>) -> Option<Words> {
    let Known { container, file, is_ready, age, said } = known;
    if container.kind == Kind::Service && container.ready != Ready::Exec && !is_ready {
        let waited = match container.ready {
            Ready::Healthy if said.is_empty() => "no check of [health] has passed".to_owned(),
            Ready::Healthy => said.to_owned(),
            _ => "its program has not said READY=1".to_owned(),
        };
        return Some(Words {
            entry: Entry::Late,
            why: format!("not ready in its time: {waited}"),
            hint: Some(format!(
                "TimeoutStartSec= of [systemd.Service] gives it more{}, in {file}",
                if container.health.is_some() { ", and so does health.start-period" } else { "" }
            )),
        });
    }
    match container.runtime {
        // The end of a stop that somebody has asked for is none of the limit's.
        Some(runtime) if age.is_none_or(|age| age >= runtime) => Some(Words {
            entry: Entry::Late,
            why: format!("it ran longer than its runtime of {}, so it was stopped", show_duration(runtime)),
            hint: None,
        }),
        _ if end.status == "KILL" => Some(not_ended(container, file)),
        _ => None,
    }
}

/// A stop that took too long.
pub(super) fn not_ended(container: &Container, file: &str) -> Words {
    let limit = show_duration(container.stop.timeout.unwrap_or(STOP_TIMEOUT));
    Words {
        entry: Entry::Killed,
        why: format!("it did not end within its stop timeout of {limit} and was killed"),
        hint: Some(format!(
            "a container's process 1 only gets the signals that it handles: set [stop] signal to one that makes it end, \
             or init = true, or a longer [stop] timeout, in {file}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Source;
    use crate::spec::Document;

    fn container(text: &str) -> Container {
        let (document, findings) = Document::parse(&Source::new("x.toml", text));
        let checked = crate::check::check(&"x".parse().expect("a name"), &document, findings);
        checked.container.unwrap_or_else(|| panic!("{:?}", checked.findings))
    }

    fn why(text: &str, result: &str, status: &str, ready: bool, said: &str) -> Option<String> {
        let container = container(text);
        let file = "/etc/wharf/containers/x.toml";
        let age = Some(Duration::from_secs(100));
        let known = Known { container: &container, file, is_ready: ready, age, said };
        words(End { result, status }, known).map(|words| words.why)
    }

    #[test]
    fn ends() {
        let plain = "image = 'x'\n";
        let init = "image = 'x'\ninit = true\n";
        let healthy = "image = 'x'\nready = 'healthy'\nhealth.tcp = 'localhost:80'\n";
        let gives_up = "image = 'x'\nhealth.tcp = 'localhost:80'\nhealth.on-failure = 'stop'\n";
        for (text, result, status, ready, said, expected) in [
            (plain, "success", "0", false, "", None),
            (plain, "exit-code", "3", false, "", Some("its program ended with status 3")),
            (plain, "exit-code", "137", false, "", Some("its program ended with status 137")),
            (
                init,
                "exit-code",
                "139",
                false,
                "",
                Some("its program ended with status 139, as if killed by SIGSEGV"),
            ),
            (plain, "signal", "SEGV", false, "", Some("its program was killed by SIGSEGV")),
            (
                "image = 'x'\nlimits.memory = '64M'\n",
                "oom-kill",
                "KILL",
                false,
                "",
                Some("the kernel has killed a process of it for want of memory; limits.memory is 64M"),
            ),
            (gives_up, "exit-code", "193", true, "Health: unhealthy, so it is stopped: x", None),
            (healthy, "watchdog", "143", true, "Health: unhealthy, so systemd stops it: x", None),
            (
                healthy,
                "watchdog",
                "KILL",
                true,
                "Health: healthy",
                Some("nothing came from it for as long as WatchdogSec= says, so it was killed"),
            ),
            (
                healthy,
                "timeout",
                "143",
                false,
                "Health: starting, no check has passed yet: refused",
                Some("not ready in its time: Health: starting, no check has passed yet: refused"),
            ),
            (
                "image = 'x'\nready = 'notify'\n",
                "timeout",
                "TERM",
                false,
                "",
                Some("not ready in its time: its program has not said READY=1"),
            ),
            (
                plain,
                "timeout",
                "KILL",
                true,
                "",
                Some("it did not end within its stop timeout of 90s and was killed"),
            ),
            (
                "image = 'x'\nruntime = '90s'\n",
                "timeout",
                "TERM",
                false,
                "",
                Some("it ran longer than its runtime of 90s, so it was stopped"),
            ),
            ("image = 'x'\nruntime = '900s'\n", "timeout", "TERM", false, "", None),
        ] {
            assert_eq!(why(text, result, status, ready, said).as_deref(), expected, "{result} of {text}");
        }
    }
}
