//! Whether what was started works: how long it is watched, and what its states and its end mean.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::bus::{BusError, Pulse, Systemd};
use crate::check::{Container, Health};
use crate::cli::output::chain;
use crate::plan::health::{self, UNHEALTHY};

/// How long a container must stay ready. What crashes does so soon.
const SETTLE: Duration = Duration::from_secs(5);

/// The same at most, where its checks are slower than that.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// How long checks that fail after the first good one may take to come to a verdict.
const DOUBT_MAX: Duration = Duration::from_secs(300);

/// How often it is looked at meanwhile: more often than systemd starts again what has crashed, after which it doesn't
/// know any more how that ended.
const LOOK: Duration = Duration::from_millis(50);

/// How the `SubState` of what systemd is about to start again begins.
pub(super) const AUTO_RESTART: &str = "auto-restart";

/// How long a container must stay ready: long enough for what it is checked by to be asked once more.
fn settle(container: Option<&Container>) -> Duration {
    let Some(health) = container.and_then(|container| container.health.as_ref()) else { return SETTLE };
    let Health { interval, timeout, .. } = health;
    let once = interval.unwrap_or(health::INTERVAL).saturating_add(timeout.unwrap_or(health::TIMEOUT));
    once.clamp(SETTLE, SETTLE_MAX)
}

/// Why a version hasn't proved itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unproved {
    /// It doesn't work.
    Failed(String),
    /// Somebody else has interfered, and nothing is known of it.
    Others(String),
    /// Something was stopped for it, and then systemd was away: what ran is brought back, and nothing is known of it.
    Lost(String),
}

impl Unproved {
    pub(super) fn words(self) -> String {
        match self {
            Self::Failed(why) | Self::Others(why) | Self::Lost(why) => why,
        }
    }
}

/// How a unit is watched, and what its end means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    settle: Duration,
    /// It is stopped when nobody has used it for a while.
    idles: bool,
}

impl Watched {
    pub(super) fn of(container: Option<&Container>, settle: Option<Duration>) -> Self {
        let proxy = container
            .and_then(|container| container.socket.as_ref())
            .and_then(|socket| socket.proxy.as_ref());
        Self {
            settle: settle.unwrap_or_else(|| self::settle(container)),
            idles: proxy.is_some_and(|proxy| proxy.idle_stop.is_some()),
        }
    }

    /// What a look at a unit that was ready tells; nothing where it is still to be seen.
    fn verdict(self, now: &Pulse, waited: Duration) -> Option<Result<(), Unproved>> {
        let Self { settle, idles } = self;
        let Pulse { active, sub, restarts, restart, text, result, .. } = now;
        // Before its state: what is stopped for that is on its way down, or ended, as if somebody had stopped it.
        if health::state_of(text) == Some(UNHEALTHY) {
            return Some(Err(Unproved::Failed(format!("it became unhealthy ({text})"))));
        }
        let is_first = *restarts == 0;
        let is_well = result == "success" && is_first;
        // Whatever else it ends with, systemd starts it again, unless somebody has stopped it.
        let always = restart == "always" && is_first && result != "start-limit-hit" && !stays_down(now);
        match active.as_str() {
            "active" | "reloading" if is_first => {}
            // Only afterwards it is seen which of the two it was.
            "deactivating" if is_well || always => return None,
            "inactive" if is_well && idles => return Some(Ok(())),
            "inactive" | "failed" if always => {
                return Some(Err(Unproved::Others("somebody has stopped it meanwhile".to_owned())));
            }
            "activating" if is_first && !sub.starts_with(AUTO_RESTART) => {
                return Some(Err(Unproved::Others("somebody has restarted it meanwhile".to_owned())));
            }
            _ => return Some(Err(Unproved::Failed(reason(now, "done")))),
        }
        let is_over = waited >= settle && (!health::is_doubtful(text) || waited >= settle + DOUBT_MAX);
        is_over.then_some(Ok(()))
    }
}

/// Whether a unit has ended with what `RestartPreventExitStatus=` names, and badly: by itself, and for good.
fn stays_down(pulse: &Pulse) -> bool {
    let Pulse { result, exit: (code, status), prevented: (statuses, signals), .. } = pulse;
    // waitid(2), see below.
    let named = if *code == 1 { statuses } else { signals };
    result != "success" && *code != 0 && named.contains(status)
}

/// How long systemd may be away: while it is upgraded, and executes itself anew, it answers nobody.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// Who asks for a unit's state, also of a systemd that is away for a moment.
struct Asks<'a> {
    systemd: Cow<'a, Systemd>,
    unit: &'a str,
}

impl<'a> Asks<'a> {
    fn new(systemd: &'a Systemd, unit: &'a str) -> Self {
        Self { systemd: Cow::Borrowed(systemd), unit }
    }

    /// What doesn't answer says nothing of the container.
    fn pulse(&mut self) -> Result<Pulse, Unproved> {
        let since = Instant::now();
        loop {
            match self.systemd.pulse(self.unit) {
                Ok(pulse) => return Ok(pulse),
                Err(error) if !error.is_away() => return Err(Unproved::Failed(chain(&error))),
                Err(error) if since.elapsed() >= AWAY_MAX => {
                    return Err(Unproved::Others(format!(
                        "systemd doesn't say how it does: {}",
                        chain(&error)
                    )));
                }
                Err(_) => {}
            }
            pause(LOOK);
            if let Ok(systemd) = Systemd::connect() {
                self.systemd = Cow::Owned(systemd);
            }
        }
    }
}

/// Connects to a systemd that answers, also where it is away for a moment.
pub(super) fn present() -> Result<Systemd, BusError> {
    let since = Instant::now();
    loop {
        match Systemd::connect().and_then(|systemd| systemd.version().map(|_| systemd)) {
            Err(error) if error.is_away() && since.elapsed() < AWAY_MAX => pause(LOOK),
            other => return other,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "that nothing happens for a while is what is waited for")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Watches a unit whose job is over until it has proved itself.
/// `before` is systemd's count of its restarts before the job: what crashes at once may be started again before the first
/// look.
pub(super) fn prove(
    systemd: &Systemd,
    unit: &str,
    job: &str,
    before: u32,
    watched: Watched,
) -> Result<(), Unproved> {
    let mut asks = Asks::new(systemd, unit);
    match job {
        "done" => {}
        // Another job has taken its place.
        "canceled" => {
            return Err(Unproved::Others("somebody has stopped or restarted it while it started".to_owned()));
        }
        other => return Err(Unproved::Failed(reason(&asks.pulse()?, other))),
    }
    let ready = Instant::now();
    let mut end = None;
    loop {
        let mut now = asks.pulse()?;
        now.restarts = now.restarts.saturating_sub(before);
        match (watched.verdict(&now, ready.elapsed()), &end) {
            (None, _) => {}
            // Started again, it has forgotten how it ended.
            (Some(Err(Unproved::Failed(_))), Some(end)) if now.result == "success" => {
                return Err(Unproved::Failed(reason(end, job)));
            }
            (Some(verdict), _) => return verdict,
        }
        if now.result != "success" {
            end = Some(now);
        }
        pause(LOOK.min(watched.settle));
    }
}

/// Why a unit doesn't run, in words that go on after "it".
fn reason(pulse: &Pulse, job: &str) -> String {
    let Pulse { text, result, exit: (code, status), restarts, .. } = pulse;
    let said = match result.as_str() {
        // waitid(2): CLD_EXITED is 1, CLD_KILLED 2 and CLD_DUMPED 3.
        "exit-code" => format!("its program ended with status {status}"),
        "signal" | "core-dump" => format!("its program was ended by signal {status}"),
        "timeout" => "it did not become ready in its time".to_owned(),
        "watchdog" => "it became unhealthy, or stopped saying that it lives".to_owned(),
        "oom-kill" => "it ran out of memory".to_owned(),
        "success" if *restarts > 0 && *code != 0 => {
            format!("its program ended with status {status}, and was started again")
        }
        "success" if *restarts > 0 => "its program ended, and was started again".to_owned(),
        "success" if job == "done" => "its program ended".to_owned(),
        "success" => format!("systemd says of its start: {job}"),
        other => format!("systemd says of it: {other}"),
    };
    match text.strip_prefix("Can't start: ") {
        Some(why) => format!("{said} ({why})"),
        None => said,
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

    #[test]
    fn as_long_as_a_check_takes_to_be_made_once_more() {
        let of = |text: &str| settle(Some(&container(&format!("image = 'x'\n{text}")))).as_secs();
        assert_eq!(of(""), 5);
        assert_eq!(of("health = { tcp = '127.0.0.1:1', interval = '1s', timeout = '1s' }"), 5);
        assert_eq!(of("health = { tcp = '127.0.0.1:1', interval = '10s', timeout = '3s' }"), 13);
        assert_eq!(of("health = { tcp = '127.0.0.1:1', interval = '5min' }"), 60);
    }

    const IDLES: &str = "[socket]\nlisten = ['127.0.0.1:80']\nproxy = true\nidle-stop = '2s'\n";

    #[test]
    fn what_becomes_of_one_that_was_ready() {
        let of = |text: &str, (active, sub): (&str, &str), restarts, waited| {
            let (text, restart) = text.split_once(' ').unwrap_or((text, "always"));
            let container = container(&format!("image = 'x'\n{}", if text == "idles" { IDLES } else { "" }));
            let watched = Watched::of(Some(&container), Some(Duration::from_secs(5)));
            let (active, result) = active.split_once(' ').unwrap_or((active, "success"));
            let pulse = Pulse {
                active: active.into(),
                sub: sub.into(),
                result: result.into(),
                restart: restart.into(),
                exit: if result == "success" { (0, 0) } else { (1, 7) },
                restarts,
                ..Pulse::default()
            };
            match watched.verdict(&pulse, Duration::from_secs(waited)) {
                None => "goes on".to_owned(),
                Some(Ok(())) => "well".to_owned(),
                Some(Err(Unproved::Failed(why))) => format!("failed: {why}"),
                Some(Err(Unproved::Others(why) | Unproved::Lost(why))) => format!("others: {why}"),
            }
        };
        assert_eq!(of("", ("active", "running"), 0, 4), "goes on");
        assert_eq!(of("", ("active", "running"), 0, 5), "well");
        assert_eq!(of("", ("active", "running"), 1, 4), "failed: its program ended, and was started again");
        assert_eq!(of("", ("deactivating", "stop-sigterm"), 0, 9), "goes on");
        assert_eq!(of("", ("activating", "auto-restart"), 0, 2), "failed: its program ended");
        assert_eq!(of("", ("inactive", "dead"), 0, 2), "others: somebody has stopped it meanwhile");
        assert_eq!(of("", ("activating", "start"), 0, 2), "others: somebody has restarted it meanwhile");
        assert_eq!(of("idles", ("inactive", "dead"), 0, 2), "well");
        assert_eq!(
            of("idles", ("active", "running"), 1, 2),
            "failed: its program ended, and was started again"
        );
        // Whoever stops a program may have it end with a status of its own.
        assert_eq!(of("", ("deactivating exit-code", "stop-post"), 0, 2), "goes on");
        assert_eq!(of("", ("failed exit-code", "failed"), 0, 2), "others: somebody has stopped it meanwhile");
        let status = "failed: its program ended with status 7";
        assert_eq!(of("", ("activating exit-code", "auto-restart"), 0, 2), status);
        assert_eq!(of("- no", ("failed exit-code", "failed"), 0, 2), status);
        assert_eq!(of("- no", ("deactivating exit-code", "stop-post"), 0, 2), status);
        assert_eq!(of("- on-failure", ("inactive", "dead"), 0, 2), "failed: its program ended");
    }

    /// systemd doesn't start it again, and nobody has stopped it.
    #[test]
    fn what_is_not_started_again() {
        let watched = Watched::of(None, None);
        let of = |active: &str, result: &str, exit, text: &str| {
            let pulse = Pulse {
                active: active.into(),
                result: result.into(),
                restart: "always".into(),
                exit,
                text: text.into(),
                prevented: (vec![193], vec![9]),
                ..Pulse::default()
            };
            watched.verdict(&pulse, Duration::ZERO)
        };
        let failed = |why: &str| Some(Err(Unproved::Failed(why.to_owned())));
        let unhealthy = "it became unhealthy (Health: unhealthy: 1 of 1 failed)";
        for (active, result, exit) in [
            ("active", "success", (0, 0)),
            ("deactivating", "success", (0, 0)),
            ("failed", "exit-code", (1, 193)),
        ] {
            assert_eq!(of(active, result, exit, "Health: unhealthy: 1 of 1 failed"), failed(unhealthy));
        }
        let status = "its program ended with status 193";
        assert_eq!(of("deactivating", "exit-code", (1, 193), ""), failed(status));
        assert_eq!(of("failed", "exit-code", (1, 193), ""), failed(status));
        assert_eq!(of("failed", "signal", (2, 9), ""), failed("its program was ended by signal 9"));
        // Somebody has.
        let others = Some(Err(Unproved::Others("somebody has stopped it meanwhile".to_owned())));
        assert_eq!(of("failed", "exit-code", (1, 9), ""), others);
        assert_eq!(of("failed", "signal", (2, 15), ""), others);
        assert_eq!(of("inactive", "success", (1, 0), "Health: healthy"), others);
    }

    #[test]
    fn reasons() {
        let of = |result: &str, exit, restarts, text: &str| {
            let pulse =
                Pulse { result: result.into(), exit, restarts, text: text.into(), ..Pulse::default() };
            reason(&pulse, "failed")
        };
        assert_eq!(of("exit-code", (1, 3), 0, ""), "its program ended with status 3");
        assert_eq!(of("signal", (2, 9), 0, ""), "its program was ended by signal 9");
        assert_eq!(of("timeout", (0, 0), 0, ""), "it did not become ready in its time");
        assert_eq!(of("success", (1, 3), 1, ""), "its program ended with status 3, and was started again");
        assert_eq!(
            of("exit-code", (1, 226), 0, "Can't start: no such file"),
            "its program ended with status 226 (no such file)"
        );
    }
}
