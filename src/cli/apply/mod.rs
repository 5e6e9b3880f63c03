//! `wharf apply`: what runs becomes what the files say, with care.

pub(in crate::cli) mod decide;
pub(in crate::cli) mod heed;
mod prove;
pub(in crate::cli) mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use decide::{Action, Step, View, decide, good, is_moot};
use heed::Heed;
use work::{Outcome, Work, fingerprint, has_held_plan, is_up};

use super::changed::{Now, beside_files, now};
use super::check;
use super::declared::Declared;
use super::exec::here_as_root;
use super::output::{Exit, Failure, chain, coloured, complain, plain, print};
use crate::bus::Systemd;
use crate::check::{Checked, Container, DeclaredImage, Kind, RootSource};
use crate::exec;
use crate::generate::{self, Everything};
use crate::held;
use crate::host::{HostFacts, Paths};
use crate::image::Store;
use crate::journal::{self, About};
use crate::last_good;
use crate::plan;
use crate::plan::companions::{socket_unit, timer_unit};
use crate::plan::health;
use crate::plan::held::{Fingerprint, Good, Held};
use crate::report::{self, Style};
use crate::running::{self, Running};
use crate::settings::Settings;
use crate::spec::{ContainerName, duration};
use crate::transient;
use crate::watched;

const AFTER_HELP: &str = "\
What a careful administrator does, in this order:

1. All files are checked. With a mistake in one of them nothing is touched.
2. What is to be done is shown: containers that run and aren't what their files
   say are restarted (keys, the image behind a tag, what `restart-on-change`
   lists); enabled ones that are new or have failed are started, with their
   timers and sockets; what no file declares any more is stopped. What somebody
   has stopped stays so, and a job runs when its time comes.
3. Images of new ones are fetched, before anything is stopped; systemd is
   reloaded, and other images that are missing are fetched. What can't be
   fetched is left as it runs, and so is what would have been stopped for it.
4. Containers are restarted in the order of links, at most eight at a time that
   don't depend on each other. Each must become ready in its unit's time, and
   then stay so for a while: 5 s, or with [health] one interval and one timeout
   of its checks, up to a minute. Failing checks in that time must end well, or
   stay in doubt for five minutes more.
5. One that doesn't gets its last good plan and image back at once, and what
   links to it isn't tried. The rest goes on.

What failed is held back: a reload, a restart or a boot runs the last good plan,
until the files or the image change, or --retry is said. So it is while the
change waits and is tried, should this command be killed or the power go; what
has been ready for ten minutes since, or for --settle if longer, has proved
itself all the same. Who stops or restarts a container meanwhile leaves its
change untried. Files of the host that the container reads aren't put back: they
are the administrator's.

Nor are volumes, but with `snapshot = true`, where another image is tried: a
snapshot of those that the container may write to is taken when its old version
has stopped, and restored before that starts again, after a kill or a power cut
too. What the new version has written until then is gone. Where there can't be
one, nothing of that container is touched.

Told to end (^C, SIGTERM, a lost terminal), it first finishes what is being
tried, and begins nothing new; told once more, a second later or more, it ends
at once.

Examples:
  wharf apply --dry-run
  wharf apply
  wharf apply nginx app
  wharf apply --retry nginx
  wharf apply --json | jq -r '.[] | select(.outcome != \"applied\") | .name'

JSON: an array of objects, one for each container that is not as its files say, with the keys
  name, unit  text
  action      stop, restart, start, or held: what its files say failed before, and is left alone
  keys, files, image   what changed, as in `wharf changed --json`
  why         text: another reason, or null
  snapshot    an array of texts: the volumes that a snapshot is taken of before
  outcome     applied, rolled-back (its last good plan runs), failed (it doesn't run), not-tried
              (it is left as it was, or somebody else has stopped it); null where nothing was
              done: --dry-run and held
  problem     text: what went wrong, or null

Exit status: 0 all is as the files say, or would be tried; 1 something isn't; 2 for wrong usage.";

/// Have what runs become what the files say; what doesn't work is put back
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ApplyArgs {
    /// Only these
    names: Vec<ContainerName>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Try what failed before once more, of those named or of all
    #[arg(long)]
    retry: bool,
    /// How long a container must stay ready, like 10s, whatever its checks are
    #[arg(long, value_name = "TIME", value_parser = duration)]
    settle: Option<Duration>,
    /// Give up, and not wait, while another `wharf apply` is under way
    #[arg(long)]
    no_wait: bool,
    /// One array of objects, as below
    #[arg(long)]
    json: bool,
}

/// Somebody else is at it.
#[derive(Debug, thiserror::Error)]
#[error("another `wharf apply` is under way{by}; without --no-wait this one would wait")]
struct Busy {
    by: String,
}

/// The lock can't be had.
#[derive(Debug, thiserror::Error)]
#[error("can't lock /run/wharf/apply.lock")]
struct LockError(#[source] io::Error);

/// A step, with what came of it.
#[derive(Serialize)]
pub(in crate::cli) struct Row<'a> {
    #[serde(flatten)]
    step: &'a Step,
    outcome: Option<&'static str>,
    problem: Option<&'a str>,
}

impl<'a> Row<'a> {
    /// What came of it; nothing where nothing was done.
    pub(in crate::cli) fn new(step: &'a Step, outcome: Option<&'a Outcome>) -> Self {
        let problem = outcome.map_or(step.refused.as_deref(), Outcome::problem);
        Self { step, outcome: outcome.map(Outcome::word), problem }
    }
}

/// All that is known of what is declared, and of what runs.
pub(in crate::cli) struct Scene {
    pub(in crate::cli) settings: Settings,
    /// Whom each links to.
    pub(in crate::cli) links: BTreeMap<ContainerName, Vec<ContainerName>>,
    /// What the files say of whom there is something to do about.
    pub(in crate::cli) said: BTreeMap<ContainerName, (Container, Fingerprint)>,
    pub(in crate::cli) running: BTreeMap<ContainerName, Running>,
    /// What no file declares, and none has to: it may have volumes all the same.
    pub(in crate::cli) transient: Vec<Running>,
    /// Marks that are left of what was put right since, or of what is gone.
    pub(in crate::cli) stale: Vec<ContainerName>,
    /// Images of containers that are to be brought up, as the files say where they come from.
    pub(in crate::cli) images: BTreeMap<ContainerName, DeclaredImage>,
    pub(in crate::cli) marks: BTreeMap<ContainerName, Held>,
    /// `ActiveState` by unit.
    pub(in crate::cli) active: BTreeMap<String, String>,
    /// Of whom systemd has something else than the files say.
    pub(in crate::cli) reload_due: BTreeSet<ContainerName>,
    pub(in crate::cli) steps: Vec<Step>,
}

impl Scene {
    /// What a container falls back to, should its step fail; nothing where it wouldn't be known to work.
    pub(in crate::cli) fn fallback(&self, step: &Step) -> Option<Good> {
        let Self { said, running, marks, active, settings, .. } = self;
        let (_, version) = said.get(&step.name)?;
        let mark = marks.get(&step.name);
        match step.action {
            Action::Restart if step.units.contains(&step.unit) => {
                let runs = running.get(&step.name).map(|running| (running, fingerprint(running, settings)));
                let is_up = active.get(&step.unit).is_some_and(|state| is_up(state));
                good(mark, version, runs.as_ref().map(|(running, print)| (*running, print)), is_up)
            }
            // It doesn't run, and nothing tells of what ran before but a mark.
            Action::Start if step.units.contains(&step.unit) => {
                let is_of = |mark: &&Held| mark.is_about(version) || mark.blames(version);
                mark.filter(is_of).map(|mark| mark.good.clone())
            }
            Action::Restart | Action::Start | Action::Stop | Action::Held => None,
        }
    }

    /// Of which volumes the executor takes a snapshot in a step, as it tries another image; and why it can't.
    fn snapshot(&self, paths: &Paths, step: &Step) -> Option<(Vec<String>, Option<String>)> {
        let (container, version) = self.said.get(&step.name).filter(|(container, _)| container.snapshot)?;
        let good = self.fallback(step)?;
        if version.image == good.image {
            return None;
        }
        let volumes = container.writes_to();
        let running: Vec<&Running> = self.running.values().chain(&self.transient).collect();
        let refused = held::snapshots::possible(paths, &step.name, volumes.iter().copied(), &running).err();
        Some((volumes.into_iter().map(str::to_owned).collect(), refused))
    }

    /// Whether something can't be tried.
    pub(in crate::cli) fn is_refused(&self) -> bool {
        self.steps.iter().any(|step| step.refused.is_some())
    }
}

/// Runs the command.
pub fn run(args: &ApplyArgs, paths: &Paths) -> Result<Exit, Failure> {
    let ApplyArgs { names, dry_run, retry, settle, no_wait, json } = args;
    here_as_root(paths)?;
    let heed = if *dry_run { None } else { Some(Heed::take()?) };
    // Before anything is read: what is decided must hold when it is done.
    let lock = if *dry_run { None } else { Some(lock(paths, *no_wait)?) };
    if !is_well_written(paths)? {
        return Ok(Exit::Failed);
    }
    let scene = look(paths, names, *retry, &BTreeSet::new())?;
    let Some((lock, heed)) = lock.zip(heed) else {
        let rows: Vec<Row<'_>> = scene.steps.iter().map(|step| Row::new(step, None)).collect();
        print(&if *json { serde_json::to_string_pretty(&rows)? + "\n" } else { table(&scene.steps) })?;
        return Ok(if scene.is_refused() { Exit::Failed } else { Exit::Done });
    };
    if !json {
        print(&table(&scene.steps))?;
    }
    let told = |name: &ContainerName, outcome: &Outcome| tell(paths, *json, name, outcome);
    let work = Work { paths, scene: &scene, settle: *settle, reload: true, heed: &heed, told: &told };
    let outcomes = work.all(lock)?;
    let held = scene.steps.iter().any(|step| step.action == Action::Held);
    let well = outcomes.values().all(|outcome| matches!(outcome, Outcome::Applied(_)));
    let exit = if held || !well { Exit::Failed } else { Exit::Done };
    if *json {
        let row = |step| Row::new(step, outcomes.get(step_name(step)));
        let rows: Vec<Row<'_>> = scene.steps.iter().map(row).collect();
        print(&(serde_json::to_string_pretty(&rows)? + "\n")).map_err(|failure| failure.unread(exit))?;
    }
    Ok(exit)
}

fn step_name(step: &Step) -> &ContainerName {
    &step.name
}

/// Shows an outcome as it comes, and has it in the journal of its container where somebody reads it there. Who doesn't
/// read on doesn't stop what is under way.
pub(in crate::cli) fn tell(paths: &Paths, json: bool, name: &ContainerName, outcome: &Outcome) {
    let text = format!("{name}: {}", plain(&outcome.words()));
    let running = running::find(paths, name).ok().flatten();
    let about = running.as_ref().map_or_else(|| About::container(name), About::running);
    let (priority, kind) = match outcome {
        Outcome::Applied(_) => (5, None),
        Outcome::NotTried(_) => (4, Some(journal::Kind::Change)),
        Outcome::RolledBack(_) | Outcome::Failed(_) => (3, Some(journal::Kind::Change)),
    };
    let is_told = journal::send(&about, priority, kind, &text) && journal::is_stdout();
    if !json && !is_told {
        let _ = print(&(text + "\n"));
    }
}

/// Whether all files are without mistakes; shows those that there are.
pub(in crate::cli) fn is_well_written(paths: &Paths) -> Result<bool, Failure> {
    let (mut findings, _) = check::everything(paths)?;
    if !report::has_errors(&findings) {
        return Ok(true);
    }
    report::sort(&mut findings);
    findings.dedup();
    let style = if coloured(&io::stderr()) { Style::Coloured } else { Style::Plain };
    complain(&report::render(&findings, style));
    complain("\nnothing was touched\n");
    Ok(false)
}

/// How far the files are without mistakes, for an update, which nobody may be there to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Written {
    /// All of them.
    Well,
    /// Containers have some, and are left out; what all others go by has none.
    But,
    /// Nothing may be done: what is fetched from where, and whom the host trusts, isn't known.
    Badly,
}

/// Looks for mistakes as [`is_well_written`] does, and shows those that there are.
pub(in crate::cli) fn how_written(paths: &Paths) -> Result<Written, Failure> {
    let (mut findings, _) = check::everything(paths)?;
    if !report::has_errors(&findings) {
        return Ok(Written::Well);
    }
    report::sort(&mut findings);
    findings.dedup();
    let style = if coloured(&io::stderr()) { Style::Coloured } else { Style::Plain };
    complain(&report::render(&findings, style));
    let declared = Declared::list(paths)?;
    let Everything { images, listing_of_images, settings, .. } =
        generate::check_everything(paths, declared.listing());
    let is_bad = report::has_errors(&settings.findings)
        || report::has_errors(&listing_of_images.findings)
        || images.iter().any(|(_, checked)| report::has_errors(&checked.findings));
    complain(if is_bad { "\nnothing was touched\n" } else { "\ncontainers with mistakes are left out\n" });
    Ok(if is_bad { Written::Badly } else { Written::But })
}

/// The lock of [`held::apply`], with a word to who has to wait.
pub(in crate::cli) fn lock(paths: &Paths, no_wait: bool) -> Result<held::Applying, Failure> {
    let by = |process: Option<u32>| process.map(|id| format!(" (process {id})")).unwrap_or_default();
    let lock = if no_wait {
        let lock = held::try_apply(paths).map_err(LockError)?;
        lock.ok_or_else(|| Busy { by: by(held::applier(paths)) })?
    } else {
        let waits = |process| {
            complain(&format!("waiting for another `wharf apply`{}\n", by(process)));
        };
        held::apply(paths, waits).map_err(LockError)?
    };
    let orphans = held::all(paths).values().any(|mark| mark.is_orphaned(Some(lock.run())));
    if orphans {
        forget_proved(paths)?;
    }
    drop_snapshots(paths);
    Ok(lock)
}

/// Trials that nobody looks at any more, and that have proved themselves since: what they fall back to goes.
fn forget_proved(paths: &Paths) -> Result<(), Failure> {
    let systemd = Systemd::connect()?;
    let settings = plan::check_settings(&generate::settings(paths)).settings;
    let proved = proved(paths, &systemd, &held::all(paths), &settings)?;
    for (name, _) in &proved {
        held::forget(paths, name)?;
    }
    // A reload since has put the last good plan into the unit.
    if proved.iter().any(|(name, _)| has_held_plan(paths, name)) {
        systemd.reload()?;
    }
    for (name, container) in &proved {
        let _ = last_good::keep_present(paths, name, container);
    }
    Ok(())
}

/// Whose trials those are, with what runs. One that is unhealthy hasn't proved itself, however long it is up.
fn proved(
    paths: &Paths,
    systemd: &Systemd,
    marks: &BTreeMap<ContainerName, Held>,
    settings: &Settings,
) -> Result<Vec<(ContainerName, Container)>, Failure> {
    let live = held::live(paths);
    let mut proved = Vec::new();
    for (name, mark) in marks.iter().filter(|(_, mark)| mark.is_orphaned(live.as_deref())) {
        let (Some(running), Some(up)) = (running::find(paths, name)?, exec::ready_for(paths, name)) else {
            continue;
        };
        let print = fingerprint(&running, settings);
        let is_proved =
            running.held.is_none() && mark.has_proved_itself(live.as_deref(), &print, &running.container, up);
        if !is_proved {
            continue;
        }
        let pulse = systemd.pulse(&name.unit())?;
        if is_up(&pulse.active) && !health::is_in_trouble(&pulse.text) {
            proved.push((name.clone(), running.container));
        }
    }
    Ok(proved)
}

/// Drops snapshots that are nobody's any more. That one stays is no reason to do nothing else.
pub(in crate::cli) fn drop_snapshots(paths: &Paths) {
    for (name, error) in held::snapshots::sweep(paths) {
        complain(&format!(
            "a snapshot of a volume of {name} can't be dropped, which the next `wharf apply` tries again: {}\n",
            chain(&error)
        ));
    }
}

/// Looks at everything, and decides. Of `own` are the marks that the command has written itself.
pub(in crate::cli) fn look(
    paths: &Paths,
    names: &[ContainerName],
    retry: bool,
    own: &BTreeSet<ContainerName>,
) -> Result<Scene, Failure> {
    let declared = Declared::list(paths)?;
    for name in names {
        if running::find(paths, name)?.is_none() || transient::plan(paths, name).exists() {
            declared.unit_of(name)?;
        }
    }
    let everything = generate::check_everything(paths, declared.listing());
    let settings = everything.settings.settings.clone();
    // What no file declares, and none has to, is nobody's business here, but for the volumes that it has.
    let (transient, running): (Vec<Running>, Vec<Running>) = running::all(paths)?
        .into_iter()
        .partition(|running| transient::plan(paths, &running.container.name).exists());
    let running: BTreeMap<ContainerName, Running> =
        running.into_iter().map(|running| (running.container.name.clone(), running)).collect();
    let patterns = ["service", "timer", "socket"]
        .map(|kind| [format!("*-container.{kind}"), format!("*-container@*.{kind}")])
        .concat();
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    let systemd = Systemd::connect()?;
    let active = systemd.states(&patterns)?;
    let mut marks = held::all(paths);
    // Who only looks has forgotten none of them.
    for (name, _) in proved(paths, &systemd, &marks, &settings)? {
        marks.remove(&name);
    }
    let mut all: BTreeSet<ContainerName> =
        everything.containers.iter().map(|(files, _)| files.name.clone()).collect();
    all.extend(running.keys().cloned());
    // Whose file is gone with its container ended may have left a timer or a socket.
    let ended = |name: &ContainerName| generate::last_good(paths, name).is_some();
    let left = active.keys().filter_map(|unit| companion_of(unit)).filter(|name| ended(name));
    all.extend(left);
    let store = Store::new(paths.state());
    let mut scene = Scene {
        links: links(&everything, &running),
        reload_due: reload_due(paths, &everything, &settings, &marks),
        settings,
        said: BTreeMap::new(),
        running,
        transient,
        stale: Vec::new(),
        images: BTreeMap::new(),
        marks,
        active,
        steps: Vec::new(),
    };
    for name in all.iter().filter(|name| !name.is_template()).cloned() {
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let now = now(&declared, &everything, &name);
        let said = match &now {
            Now::Said(_, container) => {
                let trust = plan::trust(container, &scene.settings);
                Some(((**container).clone(), held::fingerprint(paths, container, &trust)))
            }
            Now::Gone | Now::Broken(_) => None,
        };
        if let Some((_, version)) = &said {
            for (path, why) in watched::unseen(&version.files) {
                complain(&format!(
                    "warning: {name} isn't restarted when {} changes, which can't be looked at: {why}\n",
                    path.display()
                ));
            }
        }
        let loaded = loaded_plan(paths, &name);
        let step = decide(View {
            name: &name,
            now: &now,
            running: scene.running.get(&name),
            active: &scene.active,
            ran: ended(&name) || exec::was_started(paths, &name),
            mark: scene.marks.get(&name),
            version: said.as_ref().map(|(_, version)| version),
            beside: match &said {
                Some((container, _)) => beside_files(paths, &store, container),
                None => (None, BTreeMap::new()),
            },
            retry,
            own: own.contains(&name),
            other_socket: said
                .as_ref()
                .zip(loaded.as_ref())
                .is_some_and(|((container, _), plan)| plan.container.socket != container.socket),
            was_job: [loaded.as_ref(), generate::last_good(paths, &name).as_ref()]
                .into_iter()
                .flatten()
                .any(|plan| plan.container.kind == Kind::Job),
            lost_timer: match said.as_ref().is_some_and(|(container, _)| container.timer.is_none()) {
                true => lost_timer(&systemd, &scene.active, &name, loaded.as_ref())?,
                false => None,
            },
        });
        match (step, said) {
            (Some(step), said) => {
                if let Some((container, _)) = &said
                    && let RootSource::Image(reference) = &container.source
                {
                    scene.images.insert(name.clone(), everything.image(reference));
                }
                scene.said.extend(said.map(|said| (name, said)));
                scene.steps.push(step);
            }
            (None, said) => {
                let version = said.as_ref().map(|(_, version)| version);
                let mark = scene.marks.get(&name);
                // What is up and needs nothing done is what its files say.
                let is_up = scene.active.get(&name.unit()).is_some_and(|state| is_up(state));
                let is_moot = is_up && !own.contains(&name) && {
                    mark.zip(version).is_some_and(|(mark, version)| is_moot(mark, version))
                };
                if is_moot || is_stale(paths, mark, &now, version) {
                    scene.stale.push(name);
                } else if matches!(now, Now::Gone) {
                    tell_owed(paths, &name, mark);
                }
            }
        }
    }
    let snapshots: Vec<_> = scene.steps.iter().map(|step| scene.snapshot(paths, step)).collect();
    for (step, snapshot) in scene.steps.iter_mut().zip(snapshots) {
        (step.snapshot, step.refused) = snapshot.unwrap_or_default();
    }
    // Of instances that don't run, and of what is gone altogether.
    for (name, mark) in scene.marks.iter().filter(|(name, _)| !all.contains(*name)) {
        if !names.is_empty() && !names.contains(name) {
            continue;
        }
        let now = now(&declared, &everything, name);
        let version = match &now {
            Now::Said(_, container) => {
                Some(held::fingerprint(paths, container, &plan::trust(container, &scene.settings)))
            }
            Now::Gone | Now::Broken(_) => None,
        };
        if is_stale(paths, Some(mark), &now, version.as_ref()) {
            scene.stale.push(name.clone());
        } else if matches!(now, Now::Gone) {
            tell_owed(paths, name, Some(mark));
        }
    }
    Ok(scene)
}

/// Says of what no file declares that its data are still to be put back, and how that is given up.
fn tell_owed(paths: &Paths, name: &ContainerName, mark: Option<&Held>) {
    let Some(owed) = mark.and_then(|mark| held::snapshots::owed_to(paths, name, Some(mark)).ok()?) else {
        return;
    };
    complain(&format!("{name}: {}; to give that up: rm {}\n", owed.words(), owed.file.display()));
}

/// Whether a mark is left of what is nobody's any more: gone, with nothing to be done about it, or another version. One
/// whose snapshots aren't restored yet stays until a start has seen to them.
fn is_stale(paths: &Paths, mark: Option<&Held>, now: &Now, version: Option<&Fingerprint>) -> bool {
    mark.is_some_and(|mark| match now {
        // Its files may only be away for a while.
        Now::Gone => matches!(held::snapshots::owed_to(paths, mark.name(), Some(mark)), Ok(None)),
        Now::Broken(_) => false,
        Now::Said(..) => {
            let is_of = |version: &Fingerprint| mark.is_about(version) || mark.blames(version);
            version.is_some_and(|version| !is_of(version) && !held::snapshots::are_taken(paths, mark))
        }
    })
}

/// The plan that a container's unit has, as systemd has it.
fn loaded_plan(paths: &Paths, name: &ContainerName) -> Option<plan::Plan> {
    let text = std::fs::read_to_string(paths.plan(name.as_str())).ok()?;
    serde_json::from_str(&text).ok()
}

/// The timer of a container whose files say none any more, where it goes on: systemd still has it from them, or has lost
/// its file at a reload. One with a file is somebody's own.
fn lost_timer(
    systemd: &Systemd,
    active: &BTreeMap<String, String>,
    name: &ContainerName,
    loaded: Option<&plan::Plan>,
) -> Result<Option<String>, Failure> {
    let timer = timer_unit(name);
    if active.get(&timer).is_none_or(|state| state == "inactive" || state == "failed") {
        return Ok(None);
    }
    let is_ours = loaded.is_some_and(|plan| plan.container.timer.is_some()) || !systemd.has_file(&timer)?;
    Ok(is_ours.then_some(timer))
}

/// The container that a timer or socket starts.
fn companion_of(unit: &str) -> Option<ContainerName> {
    let stem = unit.strip_suffix(".timer").or_else(|| unit.strip_suffix(".socket"))?;
    let name = ContainerName::from_unit(&format!("{stem}.service"))?;
    [timer_unit(&name), socket_unit(&name)].contains(&unit.to_owned()).then_some(name)
}

fn links(
    everything: &Everything,
    running: &BTreeMap<ContainerName, Running>,
) -> BTreeMap<ContainerName, Vec<ContainerName>> {
    let of = |container: &Container| {
        container.links.iter().filter_map(|link| link.to.container().cloned()).collect::<Vec<_>>()
    };
    // Instances without files of their own are known by what runs.
    let mut links: BTreeMap<_, _> =
        running.iter().map(|(name, running)| (name.clone(), of(&running.container))).collect();
    for (files, checked) in &everything.containers {
        if let Some(container) = &checked.container {
            links.insert(files.name.clone(), of(container));
        }
    }
    links
}

/// Whose plan isn't what the generator would make now. No run that lives has these marks: who asks has the lock.
fn reload_due(
    paths: &Paths,
    everything: &Everything,
    settings: &Settings,
    marks: &BTreeMap<ContainerName, Held>,
) -> BTreeSet<ContainerName> {
    let facts = HostFacts::read(paths);
    let differs = |(files, checked): &&(plan::Files, Checked)| {
        let version = |container| held::fingerprint(paths, container, &plan::trust(container, settings));
        let held = marks.get(&files.name).filter(|mark| {
            let now = checked.container.as_ref().map(version);
            mark.is_in_unit(now.as_ref(), None)
        });
        let output = held
            .and_then(|held| plan::held_output(held, facts, settings))
            .unwrap_or_else(|| plan::output(files, checked, || None, facts, settings));
        let plan::Beside::Plan(text) = output.beside else { return false };
        std::fs::read_to_string(paths.plan(files.name.as_str())).unwrap_or_default() != text
    };
    everything.containers.iter().filter(differs).map(|(files, _)| files.name.clone()).collect()
}

/// The steps, for people.
pub(in crate::cli) fn table(steps: &[Step]) -> String {
    if steps.is_empty() {
        return "all is as the files say\n".to_owned();
    }
    let width = steps.iter().map(|step| step.name.as_str().len()).max().unwrap_or_default();
    let mut text = String::new();
    for step in steps {
        let action = match step.action {
            Action::Stop => "stop",
            Action::Restart => "restart",
            Action::Start => "start",
            Action::Held => "held",
        };
        let more = match step.action {
            Action::Held => format!("; to try it again: wharf apply --retry {}", step.name),
            _ => String::new(),
        };
        let _ = writeln!(text, "{action:7}  {:width$}  {}{more}", step.name.as_str(), plain(&step.reason()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_container_leaves_the_others_to_an_update() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let write = |path: &str, text: &str| {
            let path = root.path().join("etc/wharf").join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let how = || how_written(&paths).expect("read");
        write("containers/good.toml", "image = 'a'\n");
        assert_eq!(how(), Written::Well);
        write("containers/bad.toml", "image = 'a'\nmemroy = 1\n");
        assert_eq!(how(), Written::But);
        assert!(!is_well_written(&paths).expect("read"));
        write("images/x.toml", "image = 'registry.example/x:1'\nform = 'y'\n");
        assert_eq!(how(), Written::Badly);
        write("images/x.toml", "");
        assert_eq!(how(), Written::But);
        write("wharf.toml", "[trsut]\n");
        assert_eq!(how(), Written::Badly);
    }
}
