//! From the results of checks to what is said and done: a pure function of what was before.

use std::time::Duration;

use crate::check::OnFailure;
use crate::journal::Kind;
use crate::plan::health::{HEALTHY, STARTING, UNHEALTHY, Watch, status_line};

/// How soon the first check comes, and how far apart those are that wait for the first that passes: from this, twice
/// as long each time, to that. A start isn't to be held up by a long interval.
const FIRST: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(1);

/// What came of a check, with its last line or a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Passed(String),
    /// It isn't.
    Failed(String),
}

/// What is said to systemd, in one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// `STATUS=`, one line.
    pub status: String,
    /// `READY=1`.
    pub ready: bool,
    /// `WATCHDOG=`.
    pub watchdog: Option<Watchdog>,
    /// `STOPPING=1`.
    pub stopping: bool,
}

/// What is said to the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// That all goes on.
    Feed,
    /// That the container is to be stopped, and started again (sd_notify(3), systemd 243).
    Trigger,
}

/// What follows from a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// To systemd.
    pub words: Words,
    /// To the journal, where the state has changed.
    pub journal: Option<Entry>,
    /// Until the next check.
    pub wait: Duration,
    /// The program is to be stopped, and stay so.
    pub stop: bool,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As in syslog(3).
    pub priority: u8,
    /// What the catalogue has it under, where there is something to explain.
    pub kind: Option<Kind>,
    /// The line.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Healthy,
    Unhealthy,
}

/// What is known so far.
#[derive(Clone, Debug)]
pub struct Judge {
    interval: Duration,
    retries: u32,
    /// In which failures don't count.
    grace: Duration,
    on_failure: OnFailure,
    ready: bool,
    /// The first check may take longer than the unit allows.
    early: bool,
    state: State,
    /// Failed checks in a row that count.
    failed: u32,
    quick: Duration,
}

impl Judge {
    /// Before the first check.
    pub fn new(watch: &Watch) -> Self {
        Self {
            interval: watch.interval,
            retries: watch.retries,
            // The quick checks of the beginning aren't what `retries` is counted in.
            grace: watch.start_period.max(watch.interval),
            on_failure: watch.on_failure,
            ready: watch.ready,
            early: watch.watchdog.is_some(),
            state: State::Starting,
            failed: 0,
            quick: FIRST.min(watch.interval),
        }
    }

    /// Until the first check.
    pub fn first(&self) -> Duration {
        self.quick
    }

    /// What is said before it.
    pub fn before(&self) -> Words {
        // With it goes how long systemd is to wait from then on. Nothing of the kind during a start that systemd waits
        // for: no word to the watchdog there.
        let watchdog = (self.early && !self.ready).then_some(Watchdog::Feed);
        Words { status: status_line(STARTING, ", not checked yet"), watchdog, ..Words::default() }
    }

    /// Whether the last that was said is no more than that all is well.
    pub fn is_well(&self) -> bool {
        self.state == State::Healthy && self.failed == 0
    }

    /// Takes a result in. `age` is the time since the program was started.
    pub fn judge(&mut self, age: Duration, outcome: Outcome) -> Verdict {
        match outcome {
            Outcome::Passed(line) => self.passed(&line),
            Outcome::Failed(line) => self.failed(age, &line),
        }
    }

    fn passed(&mut self, line: &str) -> Verdict {
        let (priority, turn) = match self.state {
            State::Starting => (6, Some("healthy")),
            State::Healthy => (6, None),
            State::Unhealthy => (5, Some("healthy again")),
        };
        self.state = State::Healthy;
        self.failed = 0;
        let words = Words {
            status: status_line(HEALTHY, &after_colon(line)),
            ready: self.ready,
            watchdog: Some(Watchdog::Feed),
            stopping: false,
        };
        let journal =
            turn.map(|turn| Entry { priority, kind: None, text: format!("{turn}{}", after_colon(line)) });
        Verdict { words, journal, wait: self.interval, stop: false }
    }

    fn failed(&mut self, age: Duration, line: &str) -> Verdict {
        let starts = self.state == State::Starting && (self.ready || age < self.grace);
        if starts {
            // No word to the watchdog of a start that systemd waits for: it would be armed too soon.
            let watchdog = (!self.ready).then_some(Watchdog::Feed);
            let more = format!(", no check has passed yet{}", after_colon(line));
            let words = Words { status: status_line(STARTING, &more), watchdog, ..Words::default() };
            self.quick = self.quick.saturating_mul(2).min(SLOWEST).min(self.interval);
            return Verdict { words, journal: None, wait: self.quick, stop: false };
        }
        self.failed = self.failed.saturating_add(1);
        if self.failed < self.retries && self.state != State::Unhealthy {
            let (failed, retries) = (self.failed, self.retries);
            let (state, word) = match self.state {
                State::Starting => (STARTING, "and"),
                _ => (HEALTHY, "but"),
            };
            let more = format!(", {word} {failed} of {retries} checks in a row failed{}", after_colon(line));
            let words = Words {
                status: status_line(state, &more),
                watchdog: Some(Watchdog::Feed),
                ..Words::default()
            };
            return Verdict { words, journal: None, wait: self.interval, stop: false };
        }
        let turned = self.state != State::Unhealthy;
        self.state = State::Unhealthy;
        let consequence = match self.on_failure {
            OnFailure::Restart => ", so systemd stops it",
            OnFailure::Stop => ", so it is stopped",
            OnFailure::None => "",
        };
        let words = Words {
            status: status_line(UNHEALTHY, &format!("{consequence}{}", after_colon(line))),
            ready: false,
            // Said again each time: systemd may have been told to leave watchdogs alone for a while.
            watchdog: match self.on_failure {
                OnFailure::Restart => Some(Watchdog::Trigger),
                OnFailure::Stop => None,
                OnFailure::None => Some(Watchdog::Feed),
            },
            stopping: self.on_failure == OnFailure::Stop,
        };
        let failed = match self.failed {
            1 => "a check failed".to_owned(),
            failed => format!("{failed} checks in a row failed, the last one"),
        };
        let journal = turned.then(|| Entry {
            priority: 4,
            kind: Some(Kind::Unhealthy),
            text: format!("unhealthy, {failed}{}", after_colon(line)),
        });
        Verdict { words, journal, wait: self.interval, stop: self.on_failure == OnFailure::Stop }
    }
}

/// What there is to say of a result, where there is something.
fn after_colon(line: &str) -> String {
    if line.is_empty() { String::new() } else { format!(": {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::health::{Probe, state_of};
    use crate::spec::Signal;

    const SECOND: Duration = Duration::from_secs(1);

    fn watch(on_failure: OnFailure, ready: bool) -> Watch {
        Watch {
            check: Probe::Tcp("localhost:1".into()),
            interval: 10 * SECOND,
            timeout: SECOND,
            retries: 2,
            start_period: 30 * SECOND,
            on_failure,
            ready,
            watchdog: None,
            start_timeout: None,
            stop_signal: Signal::TERM,
            stop_timeout: SECOND,
        }
    }

    fn fail(judge: &mut Judge, age: u32) -> Verdict {
        judge.judge(age * SECOND, Outcome::Failed("refused".into()))
    }

    fn pass(judge: &mut Judge, age: u32) -> Verdict {
        judge.judge(age * SECOND, Outcome::Passed(String::new()))
    }

    fn state(verdict: &Verdict) -> &'static str {
        state_of(&verdict.words.status).expect("a state")
    }

    #[test]
    fn a_start_is_waited_for_quickly() {
        let mut judge = Judge::new(&watch(OnFailure::Restart, true));
        assert_eq!(judge.first(), FIRST);
        let waits: Vec<u128> = (0..6).map(|_| fail(&mut judge, 1).wait.as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1000, 1000, 1000]);
        // Whatever its age: systemd's own time limit ends it.
        let verdict = fail(&mut judge, 1000);
        assert_eq!((state(&verdict), verdict.words.watchdog, verdict.journal), (STARTING, None, None));
        let verdict = pass(&mut judge, 1001);
        assert!(verdict.words.ready);
        assert_eq!(verdict.words.watchdog, Some(Watchdog::Feed));
        assert_eq!(verdict.wait, 10 * SECOND);
        assert_eq!(verdict.journal.map(|entry| entry.text).as_deref(), Some("healthy"));
    }

    #[test]
    fn the_unit_may_be_wrong_about_the_first_check() {
        let before = |watchdog, ready| {
            Judge::new(&Watch { watchdog, ..watch(OnFailure::None, ready) }).before().watchdog
        };
        assert_eq!(before(None, false), None);
        assert_eq!(before(Some(SECOND), false), Some(Watchdog::Feed));
        assert_eq!(before(Some(SECOND), true), None);
    }

    #[test]
    fn failures_of_the_start_period_do_not_count() {
        let mut judge = Judge::new(&watch(OnFailure::Restart, false));
        for age in 0..30 {
            let verdict = fail(&mut judge, age);
            assert_eq!((state(&verdict), verdict.words.watchdog), (STARTING, Some(Watchdog::Feed)));
        }
        let verdict = fail(&mut judge, 30);
        assert_eq!((state(&verdict), verdict.wait), (STARTING, 10 * SECOND));
        assert_eq!(state(&fail(&mut judge, 40)), UNHEALTHY);
        // One that passes ends it.
        let mut judge = Judge::new(&watch(OnFailure::Restart, false));
        assert!(!pass(&mut judge, 1).words.ready);
        assert!(judge.is_well());
        assert_eq!(state(&fail(&mut judge, 2)), HEALTHY);
        assert!(!judge.is_well(), "there is a reason to be read");
        assert_eq!(state(&fail(&mut judge, 3)), UNHEALTHY);
    }

    #[test]
    fn one_line_for_each_change() {
        let mut judge = Judge::new(&watch(OnFailure::None, false));
        let mut lines = Vec::new();
        let mut note = |verdict: Verdict| {
            assert_eq!(verdict.words.watchdog, Some(Watchdog::Feed));
            assert!(!verdict.stop && !verdict.words.stopping);
            lines.extend(verdict.journal);
        };
        for _ in 0..5 {
            note(pass(&mut judge, 1));
        }
        for _ in 0..5 {
            note(fail(&mut judge, 60));
        }
        for _ in 0..5 {
            note(pass(&mut judge, 120));
        }
        note(fail(&mut judge, 130));
        note(pass(&mut judge, 140));
        let entry = |priority, kind, text: &str| Entry { priority, kind, text: text.to_owned() };
        let unhealthy = "unhealthy, 2 checks in a row failed, the last one: refused";
        assert_eq!(
            lines,
            [
                entry(6, None, "healthy"),
                entry(4, Some(Kind::Unhealthy), unhealthy),
                entry(5, None, "healthy again")
            ]
        );
    }

    #[test]
    fn what_follows() {
        let mut judge = Judge::new(&watch(OnFailure::Restart, false));
        pass(&mut judge, 1);
        assert_eq!(fail(&mut judge, 2).words.watchdog, Some(Watchdog::Feed));
        for _ in 0..2 {
            let verdict = fail(&mut judge, 3);
            assert_eq!((verdict.words.watchdog, verdict.stop), (Some(Watchdog::Trigger), false));
        }
        assert!(!judge.is_well());
        let mut judge = Judge::new(&watch(OnFailure::Stop, false));
        fail(&mut judge, 50);
        let verdict = fail(&mut judge, 60);
        assert!(verdict.stop && verdict.words.stopping && verdict.words.watchdog.is_none());
        assert_eq!(verdict.words.status, "Health: unhealthy, so it is stopped: refused");
    }
}
