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
    /// `$EXIT_CODE`: how the main process ended, `exited`, `killed` or `dumped`; empty where there was none. The result
    /// may be that of another command of the unit.
    pub code: &'a str,
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
    /// `TimeoutStartSec=`, where it was asked for and systemd said it.
    pub(super) limit: Option<Duration>,
    /// `StatusText`, where it was asked for.
    pub(super) said: &'a str,
}

/// Whether it matters for the words what the unit has said of itself, and how long its start may take.
pub(super) fn needs_unit(end: End<'_>, container: &Container) -> bool {
    match end.result {
        "watchdog" => container.health.is_some(),
        "timeout" => container.ready != Ready::Exec,
        _ => false,
    }
}

/// The words on an end; none where it ended well, or where what was said stands.
pub(super) fn words(end: End<'_>, known: Known<'_>) -> Option<Words> {
    let Known { container, file: _, is_ready, age: _, limit: _, said } = known;
    let of = |entry: Entry, why: String| Some(Words { entry, why, hint: None });
    let ended = |why: String| of(Entry::Ended, why);
    match end.result {
        "exit-code" if end.code == "exited" => exit(end, container).and_then(ended),
        "signal" if end.code == "killed" => ended(format!("its program was killed by SIG{}", end.status)),
        "core-dump" if end.code == "dumped" => {
            ended(format!("its program was killed by SIG{}, and has left a core dump", end.status))
        }
        "oom-kill" => {
            let memory = &container.limits.memory;
            let limit = memory.as_ref().map(|memory| format!("; limits.memory is {memory}"));
            // By the kernel, or by systemd-oomd(8).
            let why = "a process of it was killed for want of memory";
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
    // Where it ended well, it was another command of the unit that did not.
    let status: i32 = end.status.parse().ok().filter(|status| *status != 0)?;
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

/// How much later than for systemd a start may have begun here.
const MARGIN: Duration = Duration::from_secs(1);

fn timeout(end: End<'_>, known: Known<'_>) -> Option<Words> {
    let Known { container, file, is_ready, age, limit, said } = known;
    let starts = container.kind == Kind::Service && container.ready != Ready::Exec && !is_ready;
    // Somebody may have stopped it in the middle of its start, and that took too long. What is killed because it
    // wasn't ready has had the whole time of a start, and that of a stop; not to the millisecond, since systemd's clock
    // runs from a little earlier.
    let stop = container.stop.timeout.unwrap_or_default();
    let least = |limit: Duration| limit.saturating_add(stop - MARGIN.min(stop / 2));
    let is_stopped = end.status == "KILL" && age.zip(limit).is_some_and(|(age, limit)| age < least(limit));
    if starts && !is_stopped {
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
        Some(runtime) if !starts && age.is_none_or(|age| age >= runtime) => Some(Words {
            entry: Entry::Late,
            why: format!("it ran longer than its runtime of {}, so it was stopped", show_duration(runtime)),
            hint: None,
        }),
        _ if end.status == "KILL" => Some(not_ended(container, file)),
        _ => None,
    }
}

/// A stop that took too long.
fn not_ended(container: &Container, file: &str) -> Words {
    let limit = show_duration(container.stop.timeout.unwrap_or(STOP_TIMEOUT));
    let hint = if container.has_init() {
        format!("set [stop] signal to one that makes it end, or a longer [stop] timeout, in {file}")
    } else {
        format!(
            "a container's process 1 only gets the signals that it handles: set [stop] signal to one that makes it end, \
             or init = true, or a longer [stop] timeout, in {file}"
        )
    };
    Words {
        entry: Entry::Killed,
        why: format!("it did not end within its stop timeout of {limit} and was killed"),
        hint: Some(hint),
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

    const FILE: &str = "/etc/wharf/containers/x.toml";

    fn known(container: &Container) -> Known<'_> {
        let age = Some(Duration::from_secs(100));
        let limit = Some(Duration::from_secs(90));
        Known { container, file: FILE, is_ready: false, age, limit, said: "" }
    }

    fn why(text: &str, result: &str, status: &str, is_ready: bool, said: &str) -> Option<String> {
        let container = container(text);
        let code = match result {
            "core-dump" => "dumped",
            _ if status.parse::<u8>().is_ok() => "exited",
            _ => "killed",
        };
        let known = Known { is_ready, said, ..known(&container) };
        words(End { result, code, status }, known).map(|words| words.why)
    }

    #[test]
    fn ends_of_other_commands() {
        let container = container("image = 'x'\ninit = true\n");
        for (result, code, status) in [
            // ExecStartPre= has failed; there was no program.
            ("exit-code", "", ""),
            ("signal", "", ""),
            // ExecStartPost= or ExecStopPost= has, and the program was ended in order.
            ("exit-code", "exited", "0"),
            ("exit-code", "killed", "TERM"),
            ("signal", "exited", "143"),
            ("core-dump", "killed", "TERM"),
        ] {
            assert_eq!(
                words(End { result, code, status }, known(&container)),
                None,
                "{result} {code} {status}"
            );
        }
    }

    #[test]
    fn a_stop_in_the_middle_of_a_start() {
        let container = container("image = 'x'\nready = 'notify'\nstop.timeout = '5s'\n");
        let end = |status| End { result: "timeout", code: "killed", status };
        let why = |status, age, limit| {
            let limit = Some(limit);
            let age = Some(Duration::from_secs(age));
            words(end(status), Known { age, limit, ..known(&container) })
                .map(|words| (words.entry, words.why))
        };
        let minute = Duration::from_secs(60);
        let stopped = "it did not end within its stop timeout of 5s and was killed".to_owned();
        let late = "not ready in its time: its program has not said READY=1".to_owned();
        assert_eq!(why("KILL", 20, minute), Some((Entry::Killed, stopped.clone())));
        assert_eq!(why("KILL", 20, Duration::MAX), Some((Entry::Killed, stopped.clone())));
        assert_eq!(why("KILL", 62, minute), Some((Entry::Killed, stopped)));
        assert_eq!(why("KILL", 65, minute), Some((Entry::Late, late.clone())));
        // It heeds SIGTERM: what somebody stops ends well, however early this looks.
        assert_eq!(why("TERM", 59, minute), Some((Entry::Late, late)));
        assert!(needs_unit(end("KILL"), &container));
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
                Some("a process of it was killed for want of memory; limits.memory is 64M"),
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
