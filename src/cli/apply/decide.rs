//! What is to be done to whom, and in which order: pure functions of what is declared and what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::check::{Container, Kind, Restart};
use crate::cli::changed::{BesideFiles, Moved, Now, compared, snapshot_words};
use crate::plan::companions::{boot_links, socket_unit, timer_unit};
use crate::plan::held::{Fingerprint, Good, Held, State};
use crate::plan::starting;
use crate::running::Running;
use crate::spec::ContainerName;

/// What is done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Action {
    /// Nothing declares it any more.
    Stop,
    /// It runs, and isn't what it was.
    Restart,
    /// It is enabled and doesn't run.
    Start,
    /// What its files say has failed before, and it is left as it is.
    Held,
}

/// One container's part of an apply. The keys are documented in `--help` and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Step {
    pub(in crate::cli) name: ContainerName,
    pub(in crate::cli) unit: String,
    pub(in crate::cli) action: Action,
    pub(in crate::cli) keys: Vec<String>,
    pub(in crate::cli) files: Vec<PathBuf>,
    pub(in crate::cli) image: Option<Moved>,
    pub(in crate::cli) why: Option<String>,
    /// The volumes that a snapshot is taken of before.
    pub(in crate::cli) snapshot: Vec<String>,
    /// Why it is left as it is: there can't be such a snapshot.
    #[serde(skip)]
    pub(in crate::cli) refused: Option<String>,
    /// The units that are stopped, or started where the container's own needn't be.
    #[serde(skip)]
    pub(in crate::cli) units: Vec<String>,
    /// Those that are stopped before that.
    #[serde(skip)]
    pub(in crate::cli) stops: Vec<String>,
}

impl Step {
    fn new(name: &ContainerName, action: Action, why: impl Into<Option<String>>) -> Self {
        Self {
            unit: name.unit(),
            name: name.clone(),
            action,
            keys: Vec::new(),
            files: Vec::new(),
            image: None,
            why: why.into(),
            snapshot: Vec::new(),
            refused: None,
            units: vec![name.unit()],
            stops: Vec::new(),
        }
    }

    /// Why, in one line.
    pub(in crate::cli) fn reason(&self) -> String {
        let mut said: Vec<String> = self.why.iter().cloned().collect();
        if !self.keys.is_empty() {
            said.push(self.keys.join(", "));
        }
        said.extend(self.files.iter().map(|file| format!("{} has changed", file.display())));
        said.extend(self.image.as_ref().map(Moved::words));
        match &self.refused {
            Some(why) => said.push(format!("NOT TRIED: {why}")),
            None => said.extend(snapshot_words(&self.snapshot)),
        }
        said.join("; ")
    }
}

/// All that is known of one container.
pub(in crate::cli) struct View<'a> {
    pub(in crate::cli) name: &'a ContainerName,
    pub(in crate::cli) now: &'a Now,
    pub(in crate::cli) running: Option<&'a Running>,
    /// `ActiveState` by unit: the container's own, its timer's and its socket's; what isn't loaded is missing.
    pub(in crate::cli) active: &'a BTreeMap<String, String>,
    /// It has started since boot.
    pub(in crate::cli) ran: bool,
    pub(in crate::cli) mark: Option<&'a Held>,
    /// What there is now; nothing where nothing says it.
    pub(in crate::cli) version: Option<&'a Fingerprint>,
    pub(in crate::cli) beside: BesideFiles,
    /// What failed is to be tried again.
    pub(in crate::cli) retry: bool,
    /// The mark was written by who asks, just now.
    pub(in crate::cli) own: bool,
    /// Its socket isn't what its unit has by now.
    pub(in crate::cli) other_socket: bool,
    /// What has run since boot was a job.
    pub(in crate::cli) was_job: bool,
    /// A timer that goes on, and that its files don't say any more.
    pub(in crate::cli) lost_timer: Option<String>,
}

impl View<'_> {
    fn state(&self, unit: &str) -> &str {
        self.active.get(unit).map_or("inactive", String::as_str)
    }

    fn is_down(&self, unit: &str) -> bool {
        ["inactive", "failed"].contains(&self.state(unit))
    }
}

/// What is to be done to a container; nothing where it is as its files say, or where that is nobody's business: a
/// container that was stopped stays so, and what one that boot doesn't start says now holds from its next start on.
pub(in crate::cli) fn decide(view: View<'_>) -> Option<Step> {
    // With a mark, it may be that of the last good plan.
    let lost = view.lost_timer.clone().filter(|_| view.mark.is_none());
    let name = view.name;
    match (wanted(view), lost) {
        (Some(step), Some(timer)) if matches!(step.action, Action::Restart | Action::Start) => {
            Some(Step { stops: [step.stops, vec![timer]].concat(), ..step })
        }
        (None, Some(timer)) => {
            let why = "its file says no timer any more".to_owned();
            Some(Step { units: vec![timer], ..Step::new(name, Action::Stop, why) })
        }
        (step, _) => step,
    }
}

/// The same, but for what is left of a timer.
fn wanted(view: View<'_>) -> Option<Step> {
    let View { name, now, running, ran, mark, version, retry, .. } = &view;
    let own = name.unit();
    let container = match now {
        Now::Gone => {
            let units = [timer_unit(name), socket_unit(name), own];
            let units: Vec<String> = units.into_iter().filter(|unit| !view.is_down(unit)).collect();
            let why = "no file declares it any more".to_owned();
            return (!units.is_empty()).then(|| Step { units, ..Step::new(name, Action::Stop, why) });
        }
        // Whoever asks has stopped before.
        Now::Broken(_) => return None,
        Now::Said(_, container) => container,
    };
    let Container { kind, autostart, restart, .. } = &**container;
    let about = mark.filter(|mark| version.is_some_and(|version| mark.is_about(version)));
    let running = running.filter(|_| !view.is_down(&own));
    // What boot would start, as `wharf enable` has it.
    let at_boot = || boot_links(name, &starting(container)).into_iter().map(|(_, unit)| unit);
    if let Some(running) =
        running.filter(|running| running.container.kind == Kind::Service && *kind == Kind::Job)
    {
        // Each time that comes would start what runs, which is nothing.
        let units = at_boot().filter(|unit| *autostart && *unit != own && view.is_down(unit)).collect();
        let (keys, files, image) = compared(running, now, |_| view.beside.clone())
            .map(|row| (row.keys, row.files, row.image))
            .unwrap_or_default();
        let step = Step::new(name, Action::Restart, "it runs as a service, and is a job now".to_owned());
        return Some(Step { keys, files, image, units, stops: vec![own], ..step });
    }
    // A job that runs isn't disturbed, whatever is to come after it.
    if let Some(running) =
        running.filter(|running| running.container.kind == Kind::Service && *kind == Kind::Service)
    {
        let row = compared(running, now, |_| view.beside.clone());
        let changes = |mut step: Step| {
            if let Some(row) = row.clone() {
                (step.keys, step.files, step.image) = (row.keys, row.files, row.image);
            }
            step
        };
        let is_put_back = |mark: &Held| match mark.state {
            State::Failed => true,
            State::PuttingBack => running.held.is_some(),
            State::Waiting | State::Trying => false,
        };
        match about {
            // It was to be tried, and is what runs and is good.
            Some(mark) if row.is_none() && version.is_some_and(|version| is_moot(mark, version)) => {
                return None;
            }
            Some(_) if view.own => {
                let why = row.is_none().then(|| "what its tag names runs already, unproved".to_owned());
                return Some(changes(Step::new(name, Action::Restart, why)));
            }
            Some(mark) if is_put_back(mark) && !retry => {
                return Some(Step::new(name, Action::Held, mark.reason()));
            }
            // Another image was to be fetched, and isn't there yet.
            Some(mark) if mark.state == State::Waiting && is_blamed(mark, *version) && !retry => {
                return Some(Step::new(name, Action::Held, FAILED_BEFORE.to_owned()));
            }
            Some(mark) => {
                let why = match mark.state {
                    _ if is_put_back(mark) => Some("tried again".to_owned()),
                    State::Waiting if row.is_some() => None,
                    _ => Some("a `wharf apply` was ended before it had proved itself".to_owned()),
                };
                return Some(changes(Step::new(name, Action::Restart, why)));
            }
            None if row.is_some() => return Some(changes(Step::new(name, Action::Restart, None))),
            None => {}
        }
    }
    // A socket that is up listens where it did, whatever its unit says now.
    let socket = socket_unit(name);
    if view.other_socket && view.is_down(&own) && !view.is_down(&socket) {
        let units = match &container.socket {
            Some(_) => vec![socket],
            // Nobody has stopped it: it waited for clients.
            None if *autostart && *kind == Kind::Service => vec![own],
            None => Vec::new(),
        };
        let step = Step::new(name, Action::Start, "it waits for clients elsewhere".to_owned());
        return Some(Step { units, keys: vec!["socket".to_owned()], ..step });
    }
    if !autostart {
        return None;
    }
    let mut units: Vec<String> = at_boot().collect();
    let why = match view.state(&own) {
        // With any other `restart`, systemd would have started it again, had not somebody stopped it.
        "failed" if *restart == Restart::No => "it has failed",
        // Between two attempts there is no record.
        "activating" if view.running.is_none() => "it fails again and again",
        "inactive" if !ran => "new",
        // Nobody has stopped it: it waited for its time.
        "inactive" | "failed" if view.was_job && *kind == Kind::Service => {
            "it was a job, and is a service now"
        }
        _ => {
            units.retain(|unit| *unit != own);
            "what starts it is new"
        }
    };
    // A job runs when its time comes.
    units.retain(|unit| if *unit == own { *kind == Kind::Service } else { view.is_down(unit) });
    let failed = about.filter(|mark| {
        !retry && (matches!(mark.state, State::Failed | State::PuttingBack) || is_blamed(mark, *version))
    });
    (!units.is_empty()).then(|| match failed {
        // Started, it would be what it falls back to.
        Some(mark) if mark.state == State::Waiting => Step::new(name, Action::Held, FAILED_BEFORE.to_owned()),
        Some(mark) => Step::new(name, Action::Held, mark.reason()),
        None => Step { units, ..Step::new(name, Action::Start, why.to_owned()) },
    })
}

/// Why an image isn't tried whose successor was being fetched when that was cut off.
const FAILED_BEFORE: &str = "its tag names an image that was tried before and has failed";

fn is_blamed(mark: &Held, version: Option<&Fingerprint>) -> bool {
    version.is_some_and(|version| mark.blames(version))
}

/// Whether nothing came of a trial: nothing of it has run, and the tag names what is good, as before. So it is where what
/// runs is what the files say.
pub(in crate::cli) fn is_moot(mark: &Held, version: &Fingerprint) -> bool {
    mark.state == State::Waiting && mark.good.image == version.image
}

/// What a container falls back to, should its present version fail; nothing where that wouldn't be known to work. `runs`
/// is what runs, with its fingerprint, and `is_up` whether it became ready.
pub(in crate::cli) fn good(
    mark: Option<&Held>,
    version: &Fingerprint,
    runs: Option<(&Running, &Fingerprint)>,
    is_up: bool,
) -> Option<Good> {
    // What was tried there isn't known to work, also where it is up, and what is held back is just what is good.
    let proved = mark.filter(|mark| {
        let unproved =
            |(running, print): (&Running, &Fingerprint)| running.held.is_some() || mark.was_tried(print);
        mark.is_about(version) || runs.map_or_else(|| mark.blames(version), unproved)
    });
    match (proved, runs) {
        (Some(mark), _) => Some(mark.good.clone()),
        (None, Some((running, _))) if is_up => {
            let Running { container, source, image, .. } = running;
            Some(Good::new(container.clone(), source.clone(), image.clone()))
        }
        (None, _) => None,
    }
}

/// In which order: who links to whom comes after it, also by way of others that stay as they are. What is in one part
/// doesn't depend on each other.
pub(in crate::cli) fn waves(
    wanted: &BTreeSet<ContainerName>,
    links: &BTreeMap<ContainerName, Vec<ContainerName>>,
) -> Vec<Vec<ContainerName>> {
    let mut depths = BTreeMap::new();
    let mut waves: Vec<Vec<ContainerName>> = Vec::new();
    for name in wanted {
        let at = depth(name, wanted, links, &mut depths);
        waves.resize_with(waves.len().max(at + 1), Vec::new);
        waves[at].push(name.clone());
    }
    waves
}

/// How many that are wanted are on the longest way down from it, itself not counted.
fn depth(
    name: &ContainerName,
    wanted: &BTreeSet<ContainerName>,
    links: &BTreeMap<ContainerName, Vec<ContainerName>>,
    depths: &mut BTreeMap<ContainerName, usize>,
) -> usize {
    if let Some(depth) = depths.get(name) {
        return *depth;
    }
    // Circles are refused by the check; should there be one, it ends here.
    depths.insert(name.clone(), 0);
    let below = links.get(name).into_iter().flatten();
    let depth = below
        .map(|other| self::depth(other, wanted, links, depths) + usize::from(wanted.contains(other)))
        .max()
        .unwrap_or(0);
    depths.insert(name.clone(), depth);
    depth
}

/// The first of some containers that another leads to by links, directly or not.
pub(in crate::cli) fn leads_to<'a>(
    from: &ContainerName,
    some: &'a BTreeSet<ContainerName>,
    links: &BTreeMap<ContainerName, Vec<ContainerName>>,
) -> Option<&'a ContainerName> {
    let mut seen = BTreeSet::from([from.clone()]);
    let mut next = vec![from.clone()];
    while let Some(name) = next.pop() {
        for other in links.get(&name).into_iter().flatten() {
            if let Some(found) = some.get(other) {
                return Some(found);
            }
            if seen.insert(other.clone()) {
                next.push(other.clone());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::held::HELD_FORMAT;
    use crate::report::Source;
    use crate::settings::Policy;
    use crate::spec::Document;

    fn name(text: &str) -> ContainerName {
        text.parse().expect("a name")
    }

    fn container(text: &str) -> Container {
        let (document, findings) = Document::parse(&Source::new("/etc/wharf/containers/x.toml", text));
        let checked = crate::check::check(&name("x"), &document, findings);
        checked.container.unwrap_or_else(|| panic!("{:?}", checked.findings))
    }

    const IMAGE: &str = "image = 'x:1'\n";

    #[derive(Default)]
    struct Case<'a> {
        now: Option<&'a str>,
        runs: Option<&'a str>,
        units: &'a [(&'a str, &'a str)],
        ran: bool,
        mark: Option<(State, &'a str)>,
        retry: bool,
        own: bool,
        held: bool,
        blamed: bool,
        other_socket: bool,
        was_job: bool,
        lost_timer: bool,
    }

    fn print(text: &str) -> Fingerprint {
        Fingerprint::of(&container(text), &Policy::Any, Some("d".into()), BTreeMap::new())
    }

    fn running(text: &str, is_held: bool) -> Running {
        Running {
            container: container(text),
            source: "x.toml".into(),
            image: Some("d".into()),
            files: BTreeMap::new(),
            held: is_held.then(|| "it crashed".to_owned()),
            ids: None,
            attachment: None,
        }
    }

    fn mark(state: State, tried: &str) -> Held {
        Held {
            format: HELD_FORMAT,
            state,
            run: String::new(),
            at: "then".into(),
            settle: None,
            why: None,
            blamed: None,
            tried: print(tried),
            good: Good::new(container(IMAGE), "x.toml".into(), Some("c".into())),
            snapshot: None,
        }
    }

    fn of(case: Case<'_>) -> Option<Step> {
        let Case { now, runs, units, ran, mark, retry, own, held, blamed, other_socket, was_job, lost_timer } =
            case;
        let running = runs.map(|text| running(text, held));
        let blamed = blamed.then(|| "d".to_owned());
        let mark = mark.map(|(state, text)| Held { blamed, ..self::mark(state, text) });
        let active = units.iter().map(|(unit, state)| (format!("x-container.{unit}"), (*state).to_owned()));
        let version = now.map(print);
        let now = now.map_or(Now::Gone, |text| Now::Said("x.toml".into(), Box::new(container(text))));
        decide(View {
            name: &name("x"),
            now: &now,
            running: running.as_ref(),
            active: &active.collect(),
            ran,
            mark: mark.as_ref(),
            version: version.as_ref(),
            beside: (Some(("x:1".into(), Some("d".into()))), BTreeMap::new()),
            retry,
            own,
            other_socket,
            was_job,
            lost_timer: lost_timer.then(|| "x-container.timer".to_owned()),
        })
    }

    fn short(step: Option<Step>) -> String {
        step.map_or_else(
            || "-".to_owned(),
            |step| {
                let stops: String = step.stops.iter().map(|unit| format!(" -{unit}")).collect();
                format!("{:?}: {} [{}]{stops}", step.action, step.reason(), step.units.join(" "))
            },
        )
    }

    #[test]
    fn what_runs() {
        let up: &[(&str, &str)] = &[("service", "active")];
        let edited = "image = 'x:1'\ninit = true\n";
        let case = || Case { now: Some(IMAGE), runs: Some(IMAGE), units: up, ran: true, ..Case::default() };
        for (case, said) in [
            (case(), "-"),
            (Case { now: Some(edited), ..case() }, "Restart: init [x-container.service]"),
            (Case { now: Some("image = 'x:1'\nautostart = false\nupdate = 'registry'\n"), ..case() }, "-"),
            (Case { now: None, ..case() }, "Stop: no file declares it any more [x-container.service]"),
            (
                Case { now: Some(edited), mark: Some((State::Failed, edited)), ..case() },
                "Held: what its files say was tried at then and failed [x-container.service]",
            ),
            (
                Case { now: Some(edited), mark: Some((State::Failed, edited)), retry: true, ..case() },
                "Restart: tried again; init [x-container.service]",
            ),
            // Of another version: that was edited since, or put back.
            (
                Case { now: Some(edited), mark: Some((State::Failed, IMAGE)), ..case() },
                "Restart: init [x-container.service]",
            ),
            (Case { mark: Some((State::Failed, edited)), ..case() }, "-"),
            // It runs already, and nobody has looked how it does.
            (
                Case { mark: Some((State::Trying, IMAGE)), ..case() },
                "Restart: a `wharf apply` was ended before it had proved itself [x-container.service]",
            ),
            // Nothing of it has run.
            (
                Case { now: Some(edited), mark: Some((State::Waiting, edited)), ..case() },
                "Restart: init [x-container.service]",
            ),
            (
                Case { now: Some(edited), mark: Some((State::PuttingBack, edited)), held: true, ..case() },
                "Held: what its files say was tried at then and failed [x-container.service]",
            ),
            (
                Case {
                    now: Some(edited),
                    runs: Some(edited),
                    mark: Some((State::PuttingBack, edited)),
                    ..case()
                },
                "Restart: a `wharf apply` was ended before it had proved itself [x-container.service]",
            ),
            // An update was cut off while it fetched another one than what has failed.
            (
                Case {
                    now: Some(edited),
                    mark: Some((State::Waiting, edited)),
                    held: true,
                    blamed: true,
                    ..case()
                },
                "Held: its tag names an image that was tried before and has failed [x-container.service]",
            ),
            (
                Case {
                    now: Some(edited),
                    mark: Some((State::Waiting, edited)),
                    held: true,
                    blamed: true,
                    retry: true,
                    ..case()
                },
                "Restart: init [x-container.service]",
            ),
            // A mark of one's own: its image has moved and runs by itself already.
            (
                Case { mark: Some((State::Waiting, IMAGE)), own: true, ..case() },
                "Restart: what its tag names runs already, unproved [x-container.service]",
            ),
            // A record of what has ended is none.
            (Case { now: Some(edited), units: &[], ..case() }, "-"),
        ] {
            assert_eq!(short(of(case)), said);
        }
    }

    #[test]
    fn snapshots_are_told() {
        let mut step = Step::new(&name("x"), Action::Restart, "tried again".to_owned());
        step.snapshot = vec!["data".into()];
        assert_eq!(step.reason(), "tried again; a snapshot of volume data is taken before");
        step.refused = Some("it can't be".into());
        assert_eq!(step.reason(), "tried again; NOT TRIED: it can't be");
        // It is about updates, and not about what runs.
        let up: &[(&str, &str)] = &[("service", "active")];
        let asks = "image = 'x:1'\nsnapshot = true\nmounts.'/data' = { volume = 'data' }\n";
        let asked = "image = 'x:1'\nmounts.'/data' = { volume = 'data' }\n";
        let case = Case { now: Some(asks), runs: Some(asked), units: up, ran: true, ..Case::default() };
        assert_eq!(short(of(case)), "-");
    }

    #[test]
    fn what_does_not_run() {
        let disabled = "image = 'x:1'\nautostart = false\n";
        let once = "image = 'x:1'\nrestart = 'no'\n";
        let job = "image = 'x:1'\ntype = 'job'\n";
        let timer = "image = 'x:1'\n[timer]\non-calendar = 'daily'\n";
        let case = || Case { now: Some(IMAGE), ..Case::default() };
        for (case, said) in [
            (case(), "Start: new [x-container.service]"),
            (Case { now: Some(disabled), ..case() }, "-"),
            (Case { now: Some(job), ..case() }, "-"),
            // Somebody has stopped it.
            (Case { ran: true, ..case() }, "-"),
            (Case { ran: true, units: &[("service", "failed")], ..case() }, "-"),
            // Nor is it started for a mark; and what failed isn't started as if it were new.
            (Case { ran: true, mark: Some((State::Failed, IMAGE)), ..case() }, "-"),
            (
                Case { mark: Some((State::Failed, IMAGE)), ..case() },
                "Held: what its files say was tried at then and failed [x-container.service]",
            ),
            (
                Case { mark: Some((State::Failed, IMAGE)), retry: true, ..case() },
                "Start: new [x-container.service]",
            ),
            (Case { mark: Some((State::Failed, once)), ..case() }, "Start: new [x-container.service]"),
            (
                Case { now: Some(once), ran: true, units: &[("service", "failed")], ..case() },
                "Start: it has failed [x-container.service]",
            ),
            (
                Case { ran: true, units: &[("service", "activating")], ..case() },
                "Start: it fails again and again [x-container.service]",
            ),
            (Case { now: Some(timer), ..case() }, "Start: new [x-container.timer]"),
            (
                Case { now: Some(timer), ran: true, ..case() },
                "Start: what starts it is new [x-container.timer]",
            ),
            (Case { now: Some(timer), units: &[("timer", "active")], ..case() }, "-"),
            (
                Case { now: None, units: &[("timer", "active")], ..case() },
                "Stop: no file declares it any more [x-container.timer]",
            ),
        ] {
            assert_eq!(short(of(case)), said);
        }
    }

    #[test]
    fn what_becomes_a_job_and_no_job_any_more() {
        let edited = "image = 'x:1'\ninit = true\n";
        let job = "image = 'x:1'\ntype = 'job'\n";
        let timer = "image = 'x:1'\n[timer]\non-calendar = 'daily'\n";
        let up: &[(&str, &str)] = &[("service", "active")];
        let timed: &[(&str, &str)] = &[("service", "active"), ("timer", "active")];
        let waits: &[(&str, &str)] = &[("timer", "active")];
        let works: &[(&str, &str)] = &[("service", "activating"), ("timer", "active")];
        let case = || Case { runs: Some(IMAGE), units: up, ran: true, ..Case::default() };
        let was = || Case { now: Some(IMAGE), runs: None, units: &[], was_job: true, ..case() };
        let turned = "Restart: it runs as a service, and is a job now; type, restart";
        for (case, said) in [
            (
                Case { now: Some(timer), ..case() },
                &*format!("{turned} [x-container.timer] -x-container.service"),
            ),
            // Somebody has reloaded, and started its timer.
            (
                Case { now: Some(timer), units: timed, ..case() },
                &*format!("{turned} [] -x-container.service"),
            ),
            (Case { now: Some(job), ..case() }, &*format!("{turned} [] -x-container.service")),
            (
                Case { now: Some(IMAGE), units: timed, lost_timer: true, ..case() },
                "Stop: its file says no timer any more [x-container.timer]",
            ),
            (
                Case { now: Some(edited), units: timed, lost_timer: true, ..case() },
                "Restart: init [x-container.service] -x-container.timer",
            ),
            (was(), "Start: it was a job, and is a service now [x-container.service]"),
            (
                Case { units: waits, lost_timer: true, ..was() },
                "Start: it was a job, and is a service now [x-container.service] -x-container.timer",
            ),
            // It runs to its end.
            (
                Case { runs: Some(job), units: works, lost_timer: true, ..was() },
                "Stop: its file says no timer any more [x-container.timer]",
            ),
            (Case { was_job: false, ..was() }, "-"),
        ] {
            assert_eq!(short(of(case)), said);
        }
    }

    #[test]
    fn what_waits_for_clients_elsewhere() {
        let socket = "image = 'x:1'\nnetwork = 'none'\n[socket]\nlisten = ['127.0.0.1:80']\n";
        let up: &[(&str, &str)] = &[("socket", "active")];
        let case = || Case { now: Some(socket), ran: true, units: up, ..Case::default() };
        for (case, said) in [
            (case(), "-"),
            (
                Case { other_socket: true, ..case() },
                "Start: it waits for clients elsewhere; socket [x-container.socket]",
            ),
            (
                Case { now: Some(IMAGE), other_socket: true, ..case() },
                "Start: it waits for clients elsewhere; socket [x-container.service]",
            ),
            (
                Case { other_socket: true, units: &[], ..case() },
                "Start: what starts it is new [x-container.socket]",
            ),
        ] {
            assert_eq!(short(of(case)), said);
        }
    }

    #[test]
    fn what_came_back_to_what_is_good_is_not_tried() {
        let mut held = mark(State::Waiting, IMAGE);
        assert!(!is_moot(&held, &print(IMAGE)), "its tag has moved");
        held.good.image = Some("d".into());
        assert!(is_moot(&held, &print(IMAGE)));
        held.state = State::Trying;
        assert!(!is_moot(&held, &print(IMAGE)), "of that something has run");
    }

    #[test]
    fn what_is_good_has_proved_itself() {
        let [v1, v2, v3] = [IMAGE, "image = 'x:1'\ninit = true\n", "image = 'x:1'\nuser = 'a'\n"];
        let of = |mark: Option<(State, &str)>, runs: Option<(&str, bool)>, is_up| {
            let mark = mark.map(|(state, text)| self::mark(state, text));
            let runs = runs.map(|(text, is_held)| (running(text, is_held), print(text)));
            let runs = runs.as_ref().map(|(running, print)| (running, print));
            let good = good(mark.as_ref(), &print(v3), runs, is_up)?;
            let is = |text: &&str| {
                let container = container(text);
                (container.init, container.user) == (good.container.init, good.container.user.clone())
            };
            [v1, v2, v3].iter().position(is).map(|at| at + 1)
        };
        assert_eq!(of(None, Some((v2, false)), true), Some(2));
        assert_eq!(of(None, Some((v2, false)), false), None, "it never became ready");
        assert_eq!(of(None, None, false), None);
        // Tried by one that was killed, and still up: it isn't known to work.
        assert_eq!(of(Some((State::Trying, v2)), Some((v2, false)), true), Some(1));
        assert_eq!(of(Some((State::Trying, v2)), Some((v2, false)), false), Some(1));
        // Started since by somebody, from files that say something else again.
        assert_eq!(of(Some((State::Failed, v1)), Some((v2, false)), true), Some(2));
        assert_eq!(of(Some((State::Failed, v2)), Some((v1, true)), false), Some(1), "it is held back");
        assert_eq!(of(Some((State::Waiting, v3)), None, false), Some(1));
    }

    fn links(all: &[(&str, &[&str])]) -> BTreeMap<ContainerName, Vec<ContainerName>> {
        all.iter().map(|(from, to)| (name(from), to.iter().map(|to| name(to)).collect())).collect()
    }

    #[test]
    fn the_order_is_that_of_links() {
        let links = links(&[("nginx", &["app", "static"]), ("app", &["db", "cache"]), ("worker", &["db"])]);
        let order = |wanted: &[&str]| {
            let wanted = wanted.iter().map(|text| name(text)).collect();
            let shown = |wave: &Vec<ContainerName>| {
                wave.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            };
            waves(&wanted, &links).iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(order(&["nginx", "app", "db", "cache", "worker"]), "cache db, app worker, nginx");
        assert_eq!(order(&["nginx", "db", "static"]), "db static, nginx", "also by way of what stays");
        assert_eq!(order(&["nginx"]), "nginx");
        assert_eq!(order(&[]), "");
    }

    #[test]
    fn what_fails_keeps_those_above_from_being_tried() {
        let links = links(&[("nginx", &["app"]), ("app", &["db"]), ("a", &["b"]), ("b", &["a"])]);
        let failed = BTreeSet::from([name("db")]);
        assert_eq!(leads_to(&name("nginx"), &failed, &links), Some(&name("db")));
        assert_eq!(leads_to(&name("db"), &failed, &links), None);
        assert_eq!(leads_to(&name("a"), &failed, &links), None);
        waves(&[name("a"), name("b")].into(), &links);
    }
}
