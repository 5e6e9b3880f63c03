//! Doing what was decided. See [`crate::held`] for what is on disk after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::decide::{Action, Step, leads_to, waves};
use super::heed::Heed;
use super::prove::{AUTO_RESTART, Unproved, Watched, present, prove};
use super::{Scene, drop_snapshots};
use crate::bus::{BusError, Systemd};
use crate::check::RootSource;
use crate::cli::changed::differences;
use crate::cli::image::provide::{self, Progress};
use crate::cli::output::{Failure, chain};
use crate::exec;
use crate::held::{self, Applying};
use crate::host::Paths;
use crate::image::Store;
use crate::last_good;
use crate::plan;
use crate::plan::companions::socket_unit;
use crate::plan::held::{Fingerprint, HELD_FORMAT, Held, State};
use crate::running::{self, Running};
use crate::settings::Settings;
use crate::spec::ContainerName;

/// So many at a time: a host has other things to do, and what comes up beside others takes longer to be ready.
const AT_A_TIME: usize = 8;

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
    /// Whether it was told to end meanwhile.
    pub(in crate::cli) heed: &'a Heed,
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
            if self.reload && !(reload_due.is_empty() && stale.is_empty()) {
                systemd.reload()?;
            }
            drop_snapshots(self.paths);
            return Ok(Outcomes::new());
        }
        // All of them before anything is touched: what the power goes in the middle of runs as before, and so does what
        // can't be tried.
        let mut marks = BTreeMap::new();
        for step in &work {
            if let Some((mark, wanted)) = self.mark(step, lock.run()) {
                let before = self.scene.marks.get(&step.name);
                let mark = held::snapshots::keep_mark(self.paths, mark, wanted, before);
                let unkept =
                    |source| MarkError { name: step.name.clone(), path: held::folder(self.paths), source };
                marks.insert(step.name.clone(), mark.map_err(unkept)?);
            }
        }
        let mut outcomes = Outcomes::new();
        for step in &work {
            if let Some(why) = &step.refused {
                self.tell(&mut outcomes, step, Outcome::NotTried(why.clone()));
            }
        }
        let refused: BTreeSet<ContainerName> = outcomes.keys().cloned().collect();
        let stops: Vec<&&Step> = work.iter().filter(|step| step.action == Action::Stop).collect();
        // What is gone may only have another name now. It serves until what comes instead can.
        let missing = if stops.is_empty() { None } else { self.fetch_missing() };
        for step in stops {
            let outcome = match &missing {
                None => self.stop(&systemd, step),
                Some(why) => Outcome::NotTried(why.clone()),
            };
            self.tell(&mut outcomes, step, outcome);
        }
        // What runs its last good plan has that one's unit, too; and so has what would, were it started.
        let is_held = |step: &&Step| {
            let runs = self.scene.running.get(&step.name);
            runs.is_some_and(|running| running.held.is_some()) || has_held_plan(self.paths, &step.name)
        };
        let is_due = |step: &&Step| {
            let template = step.name.template();
            [Some(&step.name), template.as_ref()].into_iter().flatten().any(|name| reload_due.contains(name))
        };
        if self.reload || work.iter().any(is_held) || work.iter().any(is_due) {
            systemd.reload()?;
        }
        let mut bad = self.fetch(&systemd, &work, &mut marks, &mut outcomes);
        bad.extend(refused);
        self.in_order(&work, &marks, &mut outcomes, &mut bad);
        drop_snapshots(self.paths);
        drop(lock);
        // What wasn't tried runs as before, at its next start too.
        if outcomes.values().any(|outcome| matches!(outcome, Outcome::NotTried(_))) {
            // systemd may have been executed anew since, and the connection with it.
            present()?.reload()?;
        }
        Ok(outcomes)
    }

    fn tell(&self, outcomes: &mut Outcomes, step: &Step, outcome: Outcome) {
        (self.told)(&step.name, &outcome);
        outcomes.insert(step.name.clone(), outcome);
    }

    /// What a container falls back to, should this fail, and whether there are to be snapshots; nothing where it wouldn't
    /// be known to work.
    fn mark(&self, step: &Step, run: &str) -> Option<(Held, bool)> {
        let (container, version) = self.scene.said.get(&step.name)?;
        let good = self.scene.fallback(step)?;
        let before = self.scene.marks.get(&step.name);
        let runs = self.scene.running.get(&step.name).filter(|running| running.held.is_none());
        let runs = runs.map(|running| fingerprint(running, &self.scene.settings));
        let mark = Held {
            format: HELD_FORMAT,
            state: Held::follows(before, version, runs.as_ref()),
            run: run.to_owned(),
            at: now(),
            settle: self.settle.map(|time| time.as_secs()),
            why: None,
            blamed: None,
            tried: version.clone(),
            good,
            snapshot: None,
        };
        Some((mark, container.snapshot))
    }

    /// Fetches what isn't in the store, with nothing touched yet; why one can't be had, in words.
    fn fetch_missing(&self) -> Option<String> {
        let Scene { steps, images, settings, .. } = self.scene;
        let store = Store::new(self.paths.state());
        for Step { name, .. } in steps.iter().filter(|step| step.action == Action::Start) {
            let missing = images.get(name).filter(|image| store.resolve(&image.reference).is_err());
            let Some(image) = missing else { continue };
            let progress = Arc::new(Progress::default());
            if let Err(error) = provide::fetch(self.paths, &store, image, settings, &progress) {
                return Some(format!("the image of {name} can't be had: {}", chain(error.as_ref())));
            }
        }
        None
    }

    fn stop(&self, systemd: &Systemd, step: &Step) -> Outcome {
        for unit in &step.units {
            match systemd.stop(unit).as_deref() {
                // Without a file its program's end is nothing that systemd expects: 143 of a shell is a failure to
                // it, and failed units stay. An error means that there is none.
                Ok("done") => drop(systemd.reset(unit)),
                Ok(other) => return Outcome::Failed(format!("systemd says of the stop of {unit}: {other}")),
                Err(error) => return Outcome::Failed(chain(error)),
            }
        }
        // It is only its timer that no file declares.
        if self.scene.said.contains_key(&step.name) {
            return Outcome::Applied(format!("{} is stopped", step.units.join(" and ")));
        }
        // Declared again, it is new, and nothing that somebody has stopped.
        exec::forget_starts(self.paths, &step.name);
        let forgotten = last_good::forget(self.paths, &step.name);
        let mark = self.scene.marks.get(&step.name);
        let owed = match held::snapshots::owed_to(self.paths, &step.name, mark) {
            Ok(owed) => owed,
            Err(error) => return Outcome::Failed(format!("it is stopped, but {}", chain(&error))),
        };
        if let Some(owed) = owed.filter(|_| mark.is_some()) {
            return Outcome::Applied(format!("stopped: {}", owed.words()));
        }
        match forgotten.and_then(|()| held::forget(self.paths, &step.name)) {
            Ok(()) => Outcome::Applied("stopped".to_owned()),
            Err(error) => {
                Outcome::Failed(format!("it is stopped, but what is kept of it can't be removed: {error}"))
            }
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
        // A tag that is asked for at each start may move, for several at once, and whichever it will be is to be tried.
        for step in work {
            if outcomes.contains_key(&step.name) {
                continue;
            }
            let supply = self.scene.said.get(&step.name).and_then(|(container, _)| container.supply.as_ref());
            if supply.is_some_and(|supply| supply.unit.is_some())
                && let Some(mark) = marks.get_mut(&step.name)
                && let Err(why) = self.retried(mark, None)
            {
                self.tell(outcomes, step, Outcome::NotTried(why));
                bad.insert(step.name.clone());
            }
        }
        let mut asked = BTreeSet::new();
        for step in work {
            if outcomes.contains_key(&step.name) {
                continue;
            }
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
                let digest = store.digest_of(reference).ok().map(|digest| digest.to_string());
                if let Err(why) = self.retried(mark, digest) {
                    self.tell(outcomes, step, Outcome::NotTried(why));
                    bad.insert(step.name.clone());
                }
            }
        }
        bad
    }

    /// The mark is of another image.
    fn retried(&self, mark: &mut Held, image: Option<String>) -> Result<(), String> {
        if mark.tried.image == image {
            return Ok(());
        }
        mark.tried.image = image;
        self.keep(mark)
    }

    fn keep(&self, mark: &Held) -> Result<(), String> {
        held::keep(self.paths, mark).map_err(|error| {
            format!("its mark can't be written to {}: {error}", held::folder(self.paths).display())
        })
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
        match self.heed.begin(&step.name) {
            Some(_finished) => self.bring_now(step, mark, reload),
            None => Outcome::NotTried("it was told to end before its turn".to_owned()),
        }
    }

    fn bring_now(&self, step: &Step, mark: Option<&Held>, reload: &Mutex<()>) -> Outcome {
        let systemd = match Systemd::connect() {
            Ok(systemd) => systemd,
            Err(error) => return Outcome::NotTried(chain(&error)),
        };
        // Its turn: from here on what its files say starts, for as long as this runs.
        let mark = match mark.map(|mark| Held { state: State::Trying, at: now(), ..mark.clone() }) {
            Some(mark) => match self.keep(&mark) {
                Ok(()) => Some(mark),
                Err(why) => return Outcome::NotTried(why),
            },
            None => None,
        };
        let began = Instant::now();
        let (why, is_lost) = match self.attempt(&systemd, step, mark.as_ref(), began) {
            Ok(ready) => return self.proved(step, ready),
            // It keeps its mark, and falls back at its next start: nobody knows how it does.
            Err(Unproved::Others(why)) => return Outcome::NotTried(why),
            Err(Unproved::Failed(why)) => (why, false),
            Err(Unproved::Lost(why)) => (why, true),
        };
        let Some(mut mark) = mark else { return Outcome::Failed(why) };
        // Its tag may have moved on once more by then: it is that one which failed.
        if let Some(image) = exec::last_image(self.paths, &step.name, began.elapsed()) {
            mark.tried.image = Some(image);
        }
        // It never runs without, so nothing of it has run, and nothing is known of it.
        let is_untried = is_lost
            || mark.snapshot.is_some()
                && mark.tried.image != mark.good.image
                && !held::snapshots::are_taken(self.paths, &mark);
        match self.put_back(step, mark, &why, is_untried, reload) {
            Ok(()) => Outcome::RolledBack(why),
            Err(then) => Outcome::Failed(format!("{why}; and {then}")),
        }
    }

    /// What is left to do where an attempt went well: the mark goes, if it was this that ran.
    fn proved(&self, step: &Step, ready: String) -> Outcome {
        if !step.units.contains(&step.unit) {
            return Outcome::Applied(ready);
        }
        let said = self.scene.said.get(&step.name).map(|(container, _)| container);
        // Where it was idle and has ended, there is none.
        let proved = match running::find(self.paths, &step.name) {
            Ok(Some(Running { held: Some(why), .. })) => {
                return Outcome::Failed(format!("its last good plan was started instead: {why}"));
            }
            Ok(Some(running))
                if said.is_some_and(|said| !differences(&running.container, said).is_empty()) =>
            {
                return Outcome::Failed(format!(
                    "its files have changed meanwhile, and what runs isn't what was to be tried; once more: \
                     wharf apply {}",
                    step.name
                ));
            }
            Ok(running) => running.map(|running| running.container).or_else(|| said.cloned()),
            Err(error) => return Outcome::Failed(format!("what was started can't be read: {error}")),
        };
        if let Err(error) = held::forget(self.paths, &step.name) {
            return Outcome::Failed(format!(
                "it runs, but what it would fall back to can't be removed, so the next start falls back: {error}"
            ));
        }
        // Without it, a mistake in its files has it refused, and nothing else.
        let _ = proved.map(|proved| last_good::keep_present(self.paths, &step.name, &proved));
        Outcome::Applied(ready)
    }

    /// One attempt; how it stands, or why it isn't known to work.
    fn attempt(
        &self,
        systemd: &Systemd,
        step: &Step,
        mark: Option<&Held>,
        began: Instant,
    ) -> Result<String, Unproved> {
        // What was stopped for it is brought back, whoever is away.
        let mut is_stopped = false;
        let failed = |error: BusError, is_stopped: bool| match (error.is_away(), is_stopped) {
            (true, false) => Unproved::Others(chain(&error)),
            (true, true) => Unproved::Lost(chain(&error)),
            (false, _) => Unproved::Failed(chain(&error)),
        };
        let own = |unit: &String| *unit == step.unit;
        let container = self.scene.said.get(&step.name).map(|(container, _)| container);
        if self.is_elsewhere(step, mark) {
            let wanted = container.is_some_and(|container| container.socket.is_some());
            // It stops what runs before anything else.
            is_stopped = true;
            sockets_anew(systemd, &step.name, wanted).map_err(|error| match error {
                NotAnew::Bus(error) => failed(error, is_stopped),
                NotAnew::Said(why) => Unproved::Failed(why),
            })?;
        }
        for unit in &step.stops {
            is_stopped = true;
            match systemd.stop(unit).map_err(|error| failed(error, is_stopped))?.as_str() {
                "done" => drop(systemd.reset(unit)),
                other => {
                    return Err(Unproved::Failed(format!("systemd says of the stop of {unit}: {other}")));
                }
            }
        }
        for unit in step.units.iter().filter(|unit| !own(unit)) {
            match systemd.start(unit).map_err(|error| failed(error, is_stopped))?.as_str() {
                "done" => {}
                other => {
                    return Err(Unproved::Failed(format!("systemd says of the start of {unit}: {other}")));
                }
            }
        }
        if !step.units.iter().any(own) {
            return Ok(match step.units.as_slice() {
                [] => "stopped: it is a job".to_owned(),
                units => format!("{} is up", units.join(" and ")),
            });
        }
        let (job, before) = restart(systemd, &step.unit).map_err(|error| failed(error, is_stopped))?;
        let took = began.elapsed();
        prove(systemd, &step.unit, &job, before, Watched::of(container, self.settle))?;
        Ok(format!("runs, ready after {:.1} s", took.as_secs_f64()))
    }

    /// Whether its sockets are other ones than those of what ran: also where that doesn't run at the moment.
    fn is_elsewhere(&self, step: &Step, mark: Option<&Held>) -> bool {
        let said = self.scene.said.get(&step.name).map(|(container, _)| &container.socket);
        let moves = mark.zip(said).is_some_and(|(mark, said)| mark.good.container.socket != *said);
        moves || step.keys.iter().any(|key| key == "socket")
    }

    /// From here on whoever starts it starts the last good plan, whatever the files say by now: systemd itself may be
    /// about to.
    fn put_back(
        &self,
        step: &Step,
        mut mark: Held,
        why: &str,
        is_untried: bool,
        reload: &Mutex<()>,
    ) -> Result<(), String> {
        (mark.state, mark.at, mark.why) = (State::PuttingBack, now(), Some(why.to_owned()));
        let unwritten = |why| format!("its last good plan isn't started: {why}");
        self.keep(&mark).map_err(unwritten)?;
        // The bus may have gone since, and the connection with it.
        let done = present()
            .map_err(|error| format!("its last good plan isn't started: {}", chain(&error)))
            .and_then(|systemd| self.bring_back(&systemd, step, &mark, reload));
        let over = if is_untried { mark.untried() } else { mark.failed(self.version(&step.name).as_ref()) };
        self.keep(&over)?;
        done
    }

    fn bring_back(
        &self,
        systemd: &Systemd,
        step: &Step,
        mark: &Held,
        reload: &Mutex<()>,
    ) -> Result<(), String> {
        let not = |why: String| format!("its last good plan doesn't run: {why}");
        // Without either the service is still brought back: the executor reads the mark as well, and whoever had to be
        // stopped must not stay so.
        let reloaded = {
            let _one_at_a_time = reload.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            systemd.reload().map_err(|error| chain(&error))
        };
        let sockets = match self.is_elsewhere(step, Some(mark)) {
            true => sockets_anew(systemd, &step.name, mark.good.container.socket.is_some()),
            false => Ok(()),
        }
        .map_err(|error| match error {
            NotAnew::Bus(error) => chain(&error),
            NotAnew::Said(why) => why,
        });
        let (job, before) = restart(systemd, &step.unit).map_err(|error| not(chain(&error)))?;
        let watched = Watched::of(Some(&mark.good.container), Some(AGAIN));
        prove(systemd, &step.unit, &job, before, watched).map_err(|unproved| not(unproved.words()))?;
        match running::find(self.paths, &step.name) {
            Ok(Some(running)) if running.held.is_none() => {
                Err(not("what its files say was started again in its place".to_owned()))
            }
            Ok(_) => reloaded
                .and(sockets)
                .map_err(|why| format!("its last good plan runs, but not as it was: {why}")),
            Err(error) => Err(not(format!("what was started can't be read: {error}"))),
        }
    }

    /// What there is of a container by now, as far as its files and what is beside them are what was looked at.
    fn version(&self, name: &ContainerName) -> Option<Fingerprint> {
        let (container, _) = self.scene.said.get(name)?;
        Some(held::fingerprint(self.paths, container, &plan::trust(container, &self.scene.settings)))
    }
}

/// A socket that is up keeps listening where it did, and systemd starts none while what it would start runs: so that is
/// stopped as well, whether it had sockets before or not. The sockets go first, as a client would have it start again.
fn sockets_anew(systemd: &Systemd, name: &ContainerName, wanted: bool) -> Result<(), NotAnew> {
    let socket = socket_unit(name);
    for unit in [&socket, &name.unit()] {
        systemd.stop(unit)?;
    }
    if !wanted {
        return Ok(());
    }
    match systemd.start(&socket)?.as_str() {
        "done" => Ok(()),
        other => Err(NotAnew::Said(format!("systemd says of the start of {socket}: {other}"))),
    }
}

/// Why sockets don't listen anew.
enum NotAnew {
    /// systemd can't be asked.
    Bus(BusError),
    /// It can't start them.
    Said(String),
}

impl From<BusError> for NotAnew {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

/// Restarts a unit; gives what its job came to, and what systemd's count of its own restarts was before.
fn restart(systemd: &Systemd, unit: &str) -> Result<(String, u32), BusError> {
    // One that systemd is about to start again would count as restarted by it.
    if systemd.pulse(unit)?.sub.starts_with(AUTO_RESTART) {
        systemd.stop(unit)?;
    }
    // What was counted until now isn't this attempt's. One that isn't loaded has nothing to forget.
    let _ = systemd.reset(unit);
    let before = systemd.pulse(unit)?.restarts;
    Ok((systemd.restart(unit)?, before))
}

/// Whether the unit of a container, as systemd has it, is that of its last good plan.
pub(in crate::cli) fn has_held_plan(paths: &Paths, name: &ContainerName) -> bool {
    let text = std::fs::read_to_string(paths.plan(name.as_str())).unwrap_or_default();
    serde_json::from_str(&text).is_ok_and(|plan: plan::Plan| plan.held.is_some())
}

/// That of what runs, by what is trusted now.
pub(in crate::cli) fn fingerprint(running: &Running, settings: &Settings) -> Fingerprint {
    let Running { container, image, files, .. } = running;
    Fingerprint::of(container, &plan::trust(container, settings), image.clone(), files.clone())
}

/// Whether a unit in this `ActiveState` has become ready.
pub(in crate::cli) fn is_up(state: &str) -> bool {
    ["active", "reloading"].contains(&state)
}

fn now() -> String {
    let now = Timestamp::now();
    now.round(jiff::Unit::Second).unwrap_or(now).to_string()
}
