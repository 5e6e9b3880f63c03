//! `wharf ps`: every declared container and how it is.

pub(super) mod problem;
pub(super) mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use problem::{Known, Problem};

use super::declared::Declared;
use super::format::Form;
use super::next::next;
use super::output::{Exit, Failure, coloured, columns, print};
use crate::bus::{Systemd, UnitStatus};
use crate::check::{Container, RootSource};
use crate::exec::IN_A_ROW;
use crate::held;
use crate::host::Paths;
use crate::net::Addresses;
use crate::plan::companions::{socket_unit, timer_unit};
use crate::plan::health;
use crate::running::{self, Running};
use crate::spec::ContainerName;

const AFTER_HELP: &str = "\
Examples:
  wharf ps
  wharf ps --json | jq -r '.[] | select(.state == \"failed\") | .unit'
  wharf ps --format '{name}\\t{state}\\t{ports}'

JSON: an array of objects, one per container, with the keys
  name, unit       text
  state, sub_state systemd's ActiveState and SubState; null where systemd isn't asked (--root)
  result           systemd's Result of the last run where it isn't active, or null
  since            when the state last changed, ISO 8601 in UTC, or null
  pid              the main process, or null
  image, rootfs    the reference or the folder; null where only root may know
  memory           bytes, or null where nobody counts
  health           starting, healthy or unhealthy, by the checks of [health]; null where there
                   are none, and where nothing runs
  addresses        of the running container, a list of texts; empty without a network of its own
  ports            published while it runs, a list of texts as in `publish`
  next             when its timer starts it next, ISO 8601 in UTC, or null
  status_text      the last that it said of itself or that was said of it, as systemctl status
                   shows it: its health with what the last check said, why it failed, what its
                   start waits for; or null
  problem          what is wrong with the container's files, or null: bad-file, last-good-plan
                   (bad, and it runs what ran before), held-back (what they say was tried and has
                   failed, and it runs what ran before), unproved (a `wharf apply` was ended
                   while it tried what they say: its next start is of what ran before),
                   socket-failed (systemd doesn't listen for it, as a port is taken for one),
                   reload-due, file-gone, bad-plan

WHY is the status_text of what isn't up and of what fails its checks. MEMORY is `-` where the kernel doesn't account memory. Only root sees IMAGE, ADDRESS and PORTS.

Exit status: 0 they are listed, however they are; 1 systemd doesn't answer, or something can't be read; 2 for wrong usage.";

/// List containers and how they are
///
/// Every declared container: running, stopped or failed, and those whose file is bad.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct PsArgs {
    #[command(flatten)]
    form: Form,
    /// Templates too, which run only as instances
    #[arg(short, long)]
    all: bool,
}

/// One container, as shown. The keys are documented in `--help` and stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) state: Option<String>,
    sub_state: Option<String>,
    result: Option<String>,
    since: Option<Timestamp>,
    pid: Option<u32>,
    image: Option<String>,
    rootfs: Option<String>,
    memory: Option<u64>,
    pub(super) health: Option<&'static str>,
    addresses: Vec<String>,
    ports: Vec<String>,
    next: Option<Timestamp>,
    pub(super) status_text: Option<String>,
    problem: Option<Problem>,
}

impl Row {
    /// What is said of it, where it isn't up or its checks fail.
    fn why(&self) -> Option<&str> {
        let is_up = matches!(self.state.as_deref(), Some("active" | "reloading"));
        let text = self.status_text.as_deref()?;
        (!is_up || self.health.is_some() && health::is_in_trouble(text)).then_some(text)
    }

    /// Whether systemd knows nothing of it yet, or what another version has made of its files.
    pub(super) fn needs_reload(&self) -> bool {
        matches!(self.problem, Some(Problem::ReloadDue | Problem::BadPlan))
    }

    /// Whether systemd was to listen for it, and can't.
    pub(super) fn is_deaf(&self) -> bool {
        self.problem == Some(Problem::SocketFailed)
    }

    /// Whether it waits to be started once more, by systemd or by its start, since it has ended badly or soon. Who has
    /// systemd start a program that ends well every few minutes means that.
    pub(super) fn is_restarting(&self) -> bool {
        let waits = self.status_text.as_deref().is_some_and(|text| text.ends_with(IN_A_ROW));
        let failed = self.result.as_deref() != Some("success");
        self.state.as_deref() == Some("activating")
            && (waits || failed && self.sub_state.as_deref() == Some("auto-restart"))
    }
}

/// Those of [`Row`].
const KEYS: &[&str] = &[
    "name",
    "unit",
    "state",
    "sub_state",
    "result",
    "since",
    "pid",
    "image",
    "rootfs",
    "memory",
    "health",
    "addresses",
    "ports",
    "next",
    "status_text",
    "problem",
];

pub(super) const PATTERNS: [&str; 2] = ["*-container.service", "*-container@*.service"];
const SOCKETS: [&str; 2] = ["*-container.socket", "*-container@*.socket"];
const TIMERS: [&str; 2] = ["*-container.timer", "*-container@*.timer"];

/// Runs the command.
pub fn run(args: &PsArgs, paths: &Paths) -> Result<Exit, Failure> {
    let PsArgs { form, all } = args;
    let shape = form.shape(KEYS)?;
    let rows = all_rows(paths, *all)?;
    let text = shape.text(&rows, || {
        let out = io::stdout();
        table::render(&rows, Timestamp::now(), columns(), coloured(&out))
    })?;
    print(&text)?;
    Ok(Exit::Done)
}

/// Every container as it is now; `all` has templates in it, too.
pub(super) fn all_rows(paths: &Paths, all: bool) -> Result<Vec<Row>, Failure> {
    let known = Known::read(paths, Declared::list(paths)?.names());
    // Under another root, systemd here knows nothing of those containers.
    let (units, next, mut sockets) = if paths.are_this_hosts() {
        let systemd = Systemd::connect()?;
        let units = systemd.units(&PATTERNS, |unit, active| {
            ContainerName::from_unit(unit).is_some_and(|name| known.is_ours(&name, active))
        })?;
        (Some(units), next(&systemd, &TIMERS)?, systemd.states(&SOCKETS)?)
    } else {
        (None, BTreeMap::new(), BTreeMap::new())
    };
    sockets.retain(|_, state| state == "failed");
    let mut rows = rows(paths, &known, units, all);
    for row in &mut rows {
        let timer = row.name.parse().map(|name| timer_unit(&name));
        row.next = timer.ok().and_then(|timer| next.get(&timer).copied());
        if row.name.parse().is_ok_and(|name| sockets.contains_key(&socket_unit(&name))) {
            row.problem = row.problem.or(Some(Problem::SocketFailed));
        }
    }
    Ok(rows)
}

/// What files, plans and systemd together know, by name.
fn rows(paths: &Paths, known: &Known, units: Option<Vec<UnitStatus>>, all: bool) -> Vec<Row> {
    let asked = units.is_some();
    let mut loaded: BTreeMap<ContainerName, UnitStatus> = units
        .into_iter()
        .flatten()
        .filter_map(|unit| Some((ContainerName::from_unit(&unit.unit)?, unit)))
        .collect();
    let names: BTreeSet<ContainerName> = known.names().chain(loaded.keys()).cloned().collect();
    let shown = names.into_iter().filter(|name| all || !name.is_template());
    // Only root may read marks, either.
    let live = held::live(paths);
    let mut orphans = held::all(paths);
    orphans.retain(|_, mark| mark.is_orphaned(live.as_deref()));
    let row = |name: ContainerName| {
        let mut row = Row { name: name.to_string(), unit: name.unit(), ..Row::default() };
        let (problem, container) = known.about(&name);
        row.problem = problem;
        // Only root may read records; for others it is as if there were none.
        let running = running::find(paths, &name).ok().flatten();
        let told = running.as_ref().map(|running| &running.container).or(container.as_ref());
        // Any program that may speak to systemd can say that it is healthy.
        let checked = told.is_none_or(|container| container.health.is_some());
        describe(&mut row, container);
        running.iter().for_each(|running| connected(&mut row, running));
        match running {
            Some(running) if running.held.is_some() => {
                row.problem = row.problem.or(Some(Problem::HeldBack));
            }
            // Its unit may have the last good plan by now.
            Some(_) if orphans.contains_key(&name) => row.problem = Some(Problem::Unproved),
            _ => {}
        }
        match loaded.remove(&name) {
            Some(unit) => observe(&mut row, unit, checked),
            None if asked && !name.is_template() => {
                row.state = Some("inactive".to_owned());
                row.sub_state = Some("dead".to_owned());
            }
            None => {}
        }
        row
    };
    shown.map(row).collect()
}

fn describe(row: &mut Row, container: Option<Container>) {
    match container.map(|container| container.source) {
        Some(RootSource::Image(reference)) => row.image = Some(reference.to_string()),
        Some(RootSource::Folder(folder)) => row.rootfs = Some(folder.display().to_string()),
        None => {}
    }
}

/// What a running container has of the network.
fn connected(row: &mut Row, running: &Running) {
    let Some(attachment) = &running.attachment else { return };
    let Addresses { v4, v6 } = attachment.addresses;
    row.addresses = [Some(v4.to_string()), v6.map(|v6| v6.to_string())].into_iter().flatten().collect();
    row.ports = running.container.publish.iter().map(ToString::to_string).collect();
}

/// What systemd says of it. `checked` is whether its line for `systemctl status` may be of a check.
fn observe(row: &mut Row, status: UnitStatus, checked: bool) {
    let UnitStatus { unit, load: _, active, sub, result, since, pid, memory, text } = status;
    row.unit = unit;
    if active != "failed" && checked {
        row.health = text.as_deref().and_then(health::state_of);
    }
    row.status_text = text;
    row.state = Some(active);
    row.sub_state = Some(sub);
    row.result = result;
    row.since = since
        .and_then(|time| i64::try_from(time).ok())
        .and_then(|time| Timestamp::from_microsecond(time).ok());
    row.pid = pid;
    row.memory = memory;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Source;
    use crate::spec::Document;

    #[test]
    fn files_and_units_become_rows() {
        let names = ["nginx", "web@", "idle"].map(|name| name.parse().expect("a name"));
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let known = Known::read(&paths, names.into_iter().collect());
        let status = |unit: &str| UnitStatus {
            unit: unit.to_owned(),
            active: "failed".to_owned(),
            ..UnitStatus::default()
        };
        let units = ["nginx-container.service", "web-container@blue.service"];
        let rows = rows(&paths, &known, Some(units.map(status).to_vec()), false);
        let shown: Vec<(&str, Option<&str>)> =
            rows.iter().map(|row| (row.name.as_str(), row.state.as_deref())).collect();
        assert_eq!(
            shown,
            [("idle", Some("inactive")), ("nginx", Some("failed")), ("web@blue", Some("failed"))]
        );
    }

    /// What is restarted again and again never becomes `failed`.
    #[test]
    fn restarts_in_a_row() {
        let row = |state: &str, sub: &str, text: Option<&str>| Row {
            state: Some(state.to_owned()),
            sub_state: Some(sub.to_owned()),
            status_text: text.map(str::to_owned),
            ..Row::default()
        };
        let waits = format!("Waits 3.2 s before it starts: it has ended soon, 5 {IN_A_ROW}");
        for (row, is) in [
            (row("activating", "start", Some(&waits)), true),
            (row("activating", "auto-restart", None), true),
            (row("activating", "start", Some("Health: starting")), false),
            (row("active", "running", None), false),
            (row("failed", "failed", Some("it ended with status 1")), false),
        ] {
            assert_eq!(row.is_restarting(), is, "{row:?}");
        }
        let mut well = row("activating", "auto-restart", None);
        well.result = Some("success".to_owned());
        assert!(!well.is_restarting());
    }

    #[test]
    fn health_is_of_what_is_checked() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        for (name, health) in [("says", ""), ("checked", "health.tcp = 'localhost:1'")] {
            let source = Source::new("x.toml", format!("image = 'x'\n{health}"));
            let (document, findings) = Document::parse(&source);
            let checked = crate::check::check(&name.parse().expect("a name"), &document, findings);
            let container = checked.container.expect("a container");
            let record = Running {
                container,
                source: "x.toml".into(),
                image: None,
                files: std::collections::BTreeMap::default(),
                held: None,
                ids: None,
                attachment: None,
            };
            running::keep(&paths, &record).expect("a record");
        }
        let names = ["says", "checked", "unknown"];
        let known = Known::read(&paths, names.iter().map(|name| name.parse().expect("a name")).collect());
        let status = |name: &str| UnitStatus {
            unit: format!("{name}-container.service"),
            text: Some("Health: healthy".to_owned()),
            ..UnitStatus::default()
        };
        let rows = rows(&paths, &known, Some(names.map(status).to_vec()), false);
        let shown: Vec<(&str, Option<&str>)> =
            rows.iter().map(|row| (row.name.as_str(), row.health)).collect();
        // Of what only root can look up, others are told what systemd was.
        assert_eq!(shown, [("checked", Some("healthy")), ("says", None), ("unknown", Some("healthy"))]);
    }

    /// What is up says why only where its checks fail.
    #[test]
    fn what_is_said_of_what_is_up() {
        let said = |text: &str, checked| {
            let mut row = Row::default();
            let status = UnitStatus {
                active: "active".to_owned(),
                text: Some(text.to_owned()),
                ..UnitStatus::default()
            };
            observe(&mut row, status, checked);
            assert_eq!(row.status_text.as_deref(), Some(text), "whoever asks for it sees it");
            row.why().map(str::to_owned)
        };
        for text in ["Health: unhealthy: refused", "Health: healthy, but 1 of 3 checks have failed: refused"]
        {
            assert_eq!((said(text, true).as_deref(), said(text, false)), (Some(text), None));
        }
        for text in ["Health: healthy: 200 OK", "Health: starting, not checked yet", "Serves 3 clients"] {
            assert_eq!(said(text, true), None);
        }
    }

    #[test]
    fn keys() {
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(keys, crate::cli::format::keys_of(&Row::default()));
    }

    #[test]
    fn json_has_every_key() {
        let row = Row {
            name: "nginx".to_owned(),
            since: Some(Timestamp::from_second(0).expect("a time")),
            memory: Some(1024),
            ..Row::default()
        };
        assert_eq!(
            serde_json::to_string(&row).expect("JSON"),
            r#"{"name":"nginx","unit":"","state":null,"sub_state":null,"result":null,"since":"1970-01-01T00:00:00Z","pid":null,"image":null,"rootfs":null,"memory":1024,"health":null,"addresses":[],"ports":[],"next":null,"status_text":null,"problem":null}"#
        );
    }
}
