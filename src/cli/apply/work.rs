//! Doing what was decided. See [`crate::held`] for what is on disk after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Scene;
use super::decide::{Action, Step, leads_to, waves};
use crate::bus::{BusError, Pulse, Systemd};
use crate::check::{Container, Health, RootSource};
use crate::cli::output::{Failure, chain};
use crate::held::{self, Applying};
use crate::host::Paths;
use crate::image::Store;
use crate::plan::companions::socket_unit;
use crate::plan::health::{self, UNHEALTHY};
use crate::plan::held::{Good, HELD_FORMAT, Held, State};
use crate::spec::ContainerName;

/// So many at a time: a host has other things to do, and what comes up beside others takes longer to be ready.
const AT_A_TIME: usize = 8;

/// How long a container must stay ready. What crashes does so soon.
const SETTLE: Duration = Duration::from_secs(5);

/// The same at most, where its checks are slower than that.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// How long checks that fail after the first good one may take to come to a verdict.
const DOUBT_MAX: Duration = Duration::from_secs(300);

/// How often it is looked at meanwhile: more often than systemd starts again what has crashed, after which it doesn't
/// know any more how that ended.
const LOOK: Duration = Duration::from_millis(50);

/// How long after it was put back the last good plan is looked at.
const AGAIN: Duration = Duration::from_secs(2);

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Outcome {
    /// Done; how it stands, in words.
    Applied(String),
    /// It failed, and what ran before runs again.
    RolledBack(String),
    /// It failed, and nothing runs.
    Failed(String),
    /// It was left as it was.
    NotTried(String),
}

impl Outcome {
    /// The word in JSON.
    pub(in crate::cli) fn word(&self) -> &'static str {
        match self {
            Self::Applied(_) => "applied",
            Self::RolledBack(_) => "rolled-back",
            Self::Failed(_) => "failed",
            Self::NotTried(_) => "not-tried",
        }
    }

    /// What went wrong.
    pub(in crate::cli) fn problem(&self) -> Option<&str> {
        match self {
            Self::Applied(_) => None,
            Self::RolledBack(why) | Self::Failed(why) | Self::NotTried(why) => Some(why),
        }
    }

    /// For people.
    pub(in crate::cli) fn words(&self) -> String {
        match self {
            Self::Applied(how) => how.clone(),
            Self::RolledBack(why) => format!("FAILED: {why}; its last good plan and image run again"),
            Self::Failed(why) => format!("FAILED: {why}"),
            Self::NotTried(why) => format!("not tried: {why}"),
        }
    }
}

type Outcomes = BTreeMap<ContainerName, Outcome>;

/// A mark can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write what {name} falls back to, {}, so nothing was touched", .path.display())]
struct MarkError {
    name: ContainerName,
    path: std::path::PathBuf,
    #[source]
    source: std::io::Error,
}

/// What an apply is done with.
pub(in crate::cli) struct Work<'a> {
    pub(in crate::cli) paths: &'a Paths,
    pub(in crate::cli) scene: &'a Scene,
    pub(in crate::cli) settle: Option<Duration>,
    /// Files may have changed, and systemd is to read them.
    pub(in crate::cli) reload: bool,
    /// Is told of each outcome as it comes.
    pub(in crate::cli) told: &'a (dyn Fn(&ContainerName, &Outcome) + Sync),
}

impl Work<'_> {
    /// Does all of it; the lock goes when nothing more is tried.
    pub(in crate::cli) fn all(&self, lock: Applying) -> Result<Outcomes, Failure> {
        let Scene { steps, stale, reload_due, .. } = self.scene;
        let systemd = Systemd::connect()?;
        for name in stale {
            held::forget(self.paths, name)?;
        }
        let work: Vec<&Step> = steps.iter().filter(|step| step.action != Action::Held).collect();
        if work.is_empty() {
            if self.reload && (*reload_due || !stale.is_empty()) {
                systemd.reload()?;
            }
            return Ok(Outcomes::new());
        }
        // All of them before anything is touched: what the power goes in the middle of runs as before.
        let mut marks = BTreeMap::new();
        for step in &work {
            if let Some(mark) = self.mark(step) {
                held::keep(self.paths, &mark).map_err(|source| MarkError {
                    name: step.name.clone(),
                    path: held::folder(self.paths),
                    source,
                })?;
                marks.insert(step.name.clone(), mark);
            }
        }
        let mut outcomes = Outcomes::new();
        for step in work.iter().filter(|step| step.action == Action::Stop) {
            let outcome = self.stop(&systemd, step);
            self.tell(&mut outcomes, step, outcome);
        }
        // What runs its last good plan has that one's unit, too.
        let is_held =
            |step: &&Step| self.scene.running.get(&step.name).is_some_and(|running| running.held.is_some());
        if self.reload || work.iter().any(is_held) {
            systemd.reload()?;
        }
        let mut bad = self.fetch(&systemd, &work, &mut marks, &mut outcomes);
        self.in_order(&work, &marks, &mut outcomes, &mut bad);
        drop(lock);
        // What wasn't tried runs as before, at its next start too.
        if outcomes.values().any(|outcome| matches!(outcome, Outcome::NotTried(_))) {
            systemd.reload()?;
        }
        Ok(outcomes)
    }

    fn tell(&self, outcomes: &mut Outcomes, step: &Step, outcome: Outcome) {
        (self.told)(&step.name, &outcome);
        outcomes.insert(step.name.clone(), outcome);
    }

    /// What a container falls back to, should this fail; nothing where it wouldn't be known to work.
    fn mark(&self, step: &Step) -> Option<Held> {
        let Scene { said, running, marks, active, .. } = self.scene;
        if step.action != Action::Restart {
            return None;
        }
        let (_, version) = said.get(&step.name)?;
        let runs = running.get(&step.name).filter(|_| {
            active.get(&step.unit).is_some_and(|state| ["active", "reloading"].contains(&state.as_str()))
        });
        let good = match marks.get(&step.name) {
            // What runs may be just what isn't known to work.
            Some(mark) if mark.is_about(version) => mark.good.clone(),
            _ => {
                let runs = runs?;
                Good::new(runs.container.clone(), runs.source.clone(), runs.image.clone())
            }
        };
        Some(Held {
            format: HELD_FORMAT,
            state: State::Trying,
            at: now(),
            why: None,
            tried: version.clone(),
            good,
        })
    }

    fn stop(&self, systemd: &Systemd, step: &Step) -> Outcome {
        for unit in &step.units {
            match systemd.stop(unit).as_deref() {
                Ok("done") => {}
                Ok(other) => return Outcome::Failed(format!("systemd says of the stop of {unit}: {other}")),
                Err(error) => return Outcome::Failed(chain(error)),
            }
        }
        match held::forget(self.paths, &step.name) {
            Ok(()) => Outcome::Applied("stopped".to_owned()),
            Err(error) => Outcome::Failed(format!("it is stopped, but its mark can't be removed: {error}")),
        }
    }

    /// Has images fetched while everything runs as before; gives whose can't be had.
    fn fetch(
        &self,
        systemd: &Systemd,
        work: &[&Step],
        marks: &mut BTreeMap<ContainerName, Held>,
        outcomes: &mut Outcomes,
    ) -> BTreeSet<ContainerName> {
        // What is held back stays what it was: who links to it isn't tried with it.
        let held = self.scene.steps.iter().filter(|step| step.action == Action::Held);
        let mut bad: BTreeSet<ContainerName> = held.map(|step| step.name.clone()).collect();
        let store = Store::new(self.paths.state());
        let mut asked = BTreeSet::new();
        for step in work {
            let Some((container, _)) = self.scene.said.get(&step.name) else { continue };
            let RootSource::Image(reference) = &container.source else { continue };
            let unit = container.supply.as_ref().and_then(|supply| supply.unit.clone());
            if let Some(unit) = unit.filter(|unit| asked.insert(unit.clone())) {
                // What it comes to is seen in the store; its unit says why.
                let _ = systemd.start(&unit);
            }
            if let Err(error) = store.resolve(reference) {
                let outcome = Outcome::NotTried(format!("its image can't be had: {}", chain(&error)));
                self.tell(outcomes, step, outcome);
                bad.insert(step.name.clone());
            } else if let Some(mark) = marks.get_mut(&step.name) {
                // A tag that is asked for at each start may have moved.
                let digest = store.digest_of(reference).ok().map(|digest| digest.to_string());
                if mark.tried.image != digest {
                    mark.tried.image = digest;
                    let _ = held::keep(self.paths, mark);
                }
            }
        }
        bad
    }

    fn in_order(
        &self,
        work: &[&Step],
        marks: &BTreeMap<ContainerName, Held>,
        outcomes: &mut Outcomes,
        bad: &mut BTreeSet<ContainerName>,
    ) {
        let links = &self.scene.links;
        let left = work.iter().filter(|step| !outcomes.contains_key(&step.name));
        let steps: BTreeMap<&ContainerName, &Step> = left.map(|step| (&step.name, *step)).collect();
        let wanted = steps.keys().map(|name| (*name).clone()).collect();
        let reload = Mutex::new(());
        for wave in waves(&wanted, links) {
            let (go, stay): (Vec<_>, Vec<_>) = wave
                .iter()
                .map(|name| (steps[name], leads_to(name, bad, links)))
                .partition(|(_, bad)| bad.is_none());
            for (step, by) in stay {
                let by = by.map(ToString::to_string).unwrap_or_default();
                self.tell(outcomes, step, Outcome::NotTried(format!("it links to {by}")));
            }
            for part in go.chunks(AT_A_TIME) {
                let reload = &reload;
                let done: Vec<Outcome> = std::thread::scope(|scope| {
                    let mut threads = Vec::with_capacity(part.len());
                    for (step, _) in part {
                        let (step, mark): (&Step, _) = (step, marks.get(&step.name));
                        threads.push(scope.spawn(move || {
                            let outcome = self.bring(step, mark, reload);
                            (self.told)(&step.name, &outcome);
                            outcome
                        }));
                    }
                    let failed = |_| Outcome::Failed("Wharf made a mistake; please report it".to_owned());
                    threads.into_iter().map(|thread| thread.join().unwrap_or_else(failed)).collect()
                });
                for ((step, _), outcome) in part.iter().zip(done) {
                    outcomes.insert(step.name.clone(), outcome);
                }
            }
            for name in &wave {
                if outcomes.get(name).is_some_and(|outcome| !matches!(outcome, Outcome::Applied(_))) {
                    bad.insert(name.clone());
                }
            }
        }
    }

    /// Restarts or starts one, and puts back what ran before where it fails.
    fn bring(&self, step: &Step, mark: Option<&Held>, reload: &Mutex<()>) -> Outcome {
        let systemd = match Systemd::connect() {
            Ok(systemd) => systemd,
            Err(error) => return Outcome::NotTried(chain(&error)),
        };
        let began = Instant::now();
        let why = match self.attempt(&systemd, step, began) {
            Ok(ready) => {
                return match held::forget(self.paths, &step.name) {
                    Ok(()) => Outcome::Applied(ready),
                    Err(error) => Outcome::Failed(format!(
                        "it runs, but what it would fall back to can't be removed, so the next start falls back: {error}"
                    )),
                };
            }
            Err(why) => why,
        };
        let Some(mark) = mark else { return Outcome::Failed(why) };
        match self.put_back(&systemd, step, mark, &why, reload) {
            Ok(()) => Outcome::RolledBack(why),
            Err(then) => Outcome::Failed(format!("{why}; and its last good plan doesn't run: {then}")),
        }
    }

    /// One attempt; how it stands or why it failed, in words.
    fn attempt(&self, systemd: &Systemd, step: &Step, began: Instant) -> Result<String, String> {
        let own = |unit: &String| *unit == step.unit;
        for unit in step.units.iter().filter(|unit| !own(unit)) {
            match systemd.start(unit).map_err(|error| chain(&error))?.as_str() {
                "done" => {}
                other => return Err(format!("systemd says of the start of {unit}: {other}")),
            }
        }
        if !step.units.iter().any(own) {
            return Ok(format!("{} is up", step.units.join(" and ")));
        }
        if step.keys.iter().any(|key| key == "socket") {
            self.sockets_anew(systemd, &step.name)?;
        }
        let container = self.scene.said.get(&step.name).map(|(container, _)| container);
        let job = systemd.restart(&step.unit).map_err(|error| chain(&error))?;
        let took = began.elapsed();
        prove(systemd, &step.unit, &job, self.settle.unwrap_or_else(|| settle(container)))?;
        Ok(format!("runs, ready after {:.1} s", took.as_secs_f64()))
    }

    /// A socket that is up keeps listening where it did, and can't be changed while what it starts runs.
    fn sockets_anew(&self, systemd: &Systemd, name: &ContainerName) -> Result<(), String> {
        let socket = socket_unit(name);
        let was = self.scene.active.get(&socket).is_some_and(|state| state == "active");
        let is = self.scene.said.get(name).is_some_and(|(container, _)| container.socket.is_some());
        if was {
            systemd.stop(&name.unit()).map_err(|error| chain(&error))?;
            systemd.stop(&socket).map_err(|error| chain(&error))?;
        }
        if is {
            match systemd.start(&socket).map_err(|error| chain(&error))?.as_str() {
                "done" => {}
                other => return Err(format!("systemd says of the start of {socket}: {other}")),
            }
        }
        Ok(())
    }

    /// From here on whoever starts it starts the last good plan: systemd itself may be about to.
    fn put_back(
        &self,
        systemd: &Systemd,
        step: &Step,
        mark: &Held,
        why: &str,
        reload: &Mutex<()>,
    ) -> Result<(), String> {
        let mut mark = mark.clone();
        (mark.state, mark.at, mark.why) = (State::Failed, now(), Some(why.to_owned()));
        held::keep(self.paths, &mark).map_err(|error| {
            format!("that it failed can't be written to {}: {error}", held::folder(self.paths).display())
        })?;
        {
            let _one_at_a_time = reload.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            systemd.reload().map_err(|error| chain(&error))?;
        }
        if step.keys.iter().any(|key| key == "socket") {
            let socket = socket_unit(&step.name);
            systemd.stop(&step.unit).and_then(|_| systemd.stop(&socket)).map_err(|error| chain(&error))?;
            if mark.good.container.socket.is_some() {
                systemd.start(&socket).map_err(|error| chain(&error))?;
            }
        }
        let job = systemd.restart(&step.unit).map_err(|error| chain(&error))?;
        prove(systemd, &step.unit, &job, AGAIN)
    }
}

fn now() -> String {
    let now = Timestamp::now();
    now.round(jiff::Unit::Second).unwrap_or(now).to_string()
}

/// How long a container must stay ready: long enough for what it is checked by to be asked once more.
fn settle(container: Option<&Container>) -> Duration {
    let Some(health) = container.and_then(|container| container.health.as_ref()) else { return SETTLE };
    let Health { interval, timeout, .. } = health;
    let once = interval.unwrap_or(health::INTERVAL).saturating_add(timeout.unwrap_or(health::TIMEOUT));
    once.clamp(SETTLE, SETTLE_MAX)
}

/// Watches a unit whose job is over until it has proved itself.
fn prove(systemd: &Systemd, unit: &str, job: &str, settle: Duration) -> Result<(), String> {
    let pulse = |systemd: &Systemd| systemd.pulse(unit).map_err(|error: BusError| chain(&error));
    if job != "done" {
        return Err(reason(&pulse(systemd)?, job));
    }
    let ready = Instant::now();
    // Not from nothing: a restart of what systemd was about to restart counts as one of its own.
    let before = pulse(systemd)?.restarts;
    loop {
        let now = pulse(systemd)?;
        if !["active", "reloading"].contains(&now.active.as_str()) || now.restarts > before {
            return Err(reason(&now, job));
        }
        if health::state_of(&now.text) == Some(UNHEALTHY) {
            return Err(format!("it became unhealthy ({})", now.text));
        }
        let waited = ready.elapsed();
        if waited >= settle && (!health::is_doubtful(&now.text) || waited >= settle + DOUBT_MAX) {
            return Ok(());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "that nothing happens for a while is what is waited for"
        )]
        std::thread::sleep(LOOK.min(settle));
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
