//! `wharf plan`: what would happen, and nothing done.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::check::findings_of;
use super::declared::Declared;
use super::output::{Exit, Failure, chain, coloured, complain, print};
use crate::check::{Checked, Container, RootSource};
use crate::host::{HostFacts, Paths};
use crate::image::ImageError;
use crate::plan::process::{process, without_image};
use crate::plan::steps::{Steps, steps};
use crate::plan::{self, Beside, Companion, Files, Plan};
use crate::report::{self, Finding, Level, Style};
use crate::root::{self, Root, RootError};
use crate::spec::ContainerName;

const AFTER_HELP: &str = "\
Examples:
  wharf plan nginx
  wharf plan web@blue --json | jq .steps.host
  wharf plan nginx --root build/rootfs

JSON: one object with the keys
  name, unit_name  text
  source, drop_ins the container's file, and those laid over it
  unit             the unit's text
  companions       the units beside it, a timer or sockets: unit, text
  container        what was understood
  steps            host: the executor's; inner: those of the container's first process
  incomplete       why not all is known, or null: what only the image says is in brackets then
  reload_due       whether systemd has something else than this; null where that can't be told
For a file with errors, it is the report of `wharf check --json`.

Exit status: 0 shown, 1 the files have errors or nothing declares the container, 2 for wrong usage.";

/// Show a container's unit and the steps of its start; nothing is done
///
/// Both are made from the files as they are now. What runs is what the last daemon-reload made of them; where
/// that is something else, it says so.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct PlanArgs {
    /// A declared container, or an instance of a template
    name: ContainerName,
    /// One object, as below
    #[arg(long)]
    json: bool,
}

/// What is shown. The keys are documented in `--help` and stay.
#[derive(Serialize)]
struct Shown {
    name: ContainerName,
    unit_name: String,
    source: PathBuf,
    drop_ins: Vec<PathBuf>,
    unit: String,
    companions: Vec<Companion>,
    container: Container,
    steps: Steps,
    incomplete: Option<String>,
    reload_due: Option<bool>,
}

/// The files had no errors and yet made no plan; only a fault of Wharf's can do that.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no plan, for a reason that is a fault of Wharf's; please report it with the file")]
struct NoPlan(ContainerName);

/// Runs the command.
pub fn run(args: &PlanArgs, paths: &Paths) -> Result<Exit, Failure> {
    let PlanArgs { name, json } = args;
    let declared = Declared::list(paths)?;
    let unit_of = declared.unit_of(name)?;
    let files = declared.files(&unit_of)?;
    let checked = declared.checked(&files);
    let findings = findings_of(paths, &files, checked.clone());
    if report::has_errors(&findings) {
        if *json {
            print(&report::json(&findings))?;
        } else {
            let style = if coloured(&io::stderr()) { Style::Coloured } else { Style::Plain };
            complain(&report::render(&findings, style));
        }
        return Ok(Exit::Failed);
    }
    let plan = fresh(paths, &files, &checked)?;
    let shown = show(paths, name, &files, plan);
    let text = if *json {
        serde_json::to_string_pretty(&shown)? + "\n"
    } else {
        people(&shown, &findings).map_err(|fmt::Error| NoPlan(unit_of))?
    };
    print(&text)?;
    Ok(Exit::Done)
}

/// What the generator would leave now.
pub(super) fn fresh(paths: &Paths, files: &Files, checked: &Checked) -> Result<Plan, Failure> {
    let settings = plan::check_settings(&crate::generate::settings(paths)).settings;
    let output = plan::output(files, checked, || None, HostFacts::read(paths), &settings);
    match output.beside {
        Beside::Plan(json) => Ok(serde_json::from_str(&json)?),
        Beside::Findings(_) => Err(NoPlan(files.name.clone()).into()),
    }
}

fn show(paths: &Paths, name: &ContainerName, files: &Files, plan: Plan) -> Shown {
    let reload_due = reload_due(paths, &files.name, &plan);
    let Plan { format: _, source, outdated: _, held: _, gone: _, trust: _, container, unit, companions } =
        plan;
    let container = match name.instance().filter(|_| files.name.is_template()) {
        Some(instance) => container.instance(instance),
        None => container,
    };
    let (steps, incomplete) = steps_of(paths, &container, &source.display().to_string());
    Shown {
        name: name.clone(),
        unit_name: files.name.unit(),
        drop_ins: files.drop_ins.iter().map(|drop_in| drop_in.path.clone()).collect(),
        source,
        unit,
        companions,
        container,
        steps,
        incomplete,
        reload_due,
    }
}

/// The steps of a start now, and why they aren't all known or would fail.
fn steps_of(paths: &Paths, container: &Container, source: &str) -> (Steps, Option<String>) {
    let (root, incomplete) = match root::find(paths, container) {
        Ok(root) => (Some(root), None),
        Err(error) => (None, Some(why(&error, container))),
    };
    // A folder says nothing about its program, so all is known about that even where it isn't there.
    let root = root.or_else(|| match &container.source {
        RootSource::Folder(folder) => Some(Root::folder(paths.host(folder))),
        RootSource::Image(_) => None,
    });
    let incomplete = match container.name.is_template() {
        true => Some(format!("{} is a template: %i is the name of its instance", container.name)),
        false => incomplete,
    };
    match root {
        None => (steps(container, &[], &[], &without_image(container)), incomplete),
        Some(Root { layers, implied, image, digest: _ }) => match process(container, &image, source) {
            Ok(process) => (steps(container, &layers, &implied, &process), incomplete),
            Err(error) => (
                steps(container, &layers, &implied, &without_image(container)),
                incomplete.or(Some(error.to_string())),
            ),
        },
    }
}

fn why(error: &RootError, container: &Container) -> String {
    let source = &container.source;
    let fetched = container.supply.as_ref().and_then(|supply| supply.unit.as_deref());
    let mut text = match (error, fetched) {
        (RootError::Image(ImageError::Missing { .. }), Some(unit)) => {
            format!("image {} is not in the store; {unit} fetches it before a start", named(source))
        }
        (RootError::Image(ImageError::Missing { .. }), None) => error.to_string(),
        // Most often the store is root's, and who asks isn't.
        (RootError::Image(_), _) => {
            format!("can't look into the store for {}: {}", named(source), chain(error))
        }
        (_, _) => chain(error),
    };
    if let Some(hint) = error.hint() {
        text.push_str("; ");
        text.push_str(hint);
    }
    text
}

fn named(source: &RootSource) -> String {
    match source {
        RootSource::Image(reference) => reference.to_string(),
        RootSource::Folder(folder) => folder.display().to_string(),
    }
}

/// Whether systemd has something else than the files say now. Nothing under another root where no generator
/// has run.
pub(super) fn reload_due(paths: &Paths, unit_of: &ContainerName, plan: &Plan) -> Option<bool> {
    match fs::read(paths.plan(unit_of.as_str())) {
        Ok(bytes) => Some(serde_json::from_slice::<Plan>(&bytes).ok().as_ref() != Some(plan)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (paths.are_this_hosts() || paths.generated().join("wharf").is_dir()).then_some(true)
        }
        // Plans are root's. Units are everybody's, and show most of what can change.
        Err(_) => match fs::read_to_string(paths.generated().join(unit_of.unit())) {
            Ok(unit) if unit == plan.unit => None,
            _ => Some(true),
        },
    }
}

fn people(shown: &Shown, findings: &[Finding]) -> Result<String, fmt::Error> {
    let Shown {
        name,
        unit_name,
        source,
        drop_ins,
        unit,
        companions,
        container: _,
        steps,
        incomplete,
        reload_due,
    } = shown;
    let mut text = format!("# {unit_name}, from {}", source.display());
    for drop_in in drop_ins {
        write!(text, ",\n#   {}", drop_in.display())?;
    }
    text.push('\n');
    for warning in findings.iter().filter(|finding| finding.level == Level::Warning) {
        writeln!(text, "# warning: {}", warning.line())?;
    }
    if *reload_due == Some(true) {
        text.push_str(
            "# systemd has not read these files as they are now: systemctl daemon-reload is due.\n",
        );
    }
    text.push_str(unit);
    for Companion { unit, text: of_unit } in companions {
        write!(text, "\n# {unit}\n{of_unit}")?;
    }
    write!(text, "\n# What starting {name} does")?;
    if let Some(why) = incomplete {
        write!(text, ", as far as it is known:\n# {why}")?;
    }
    text.push_str("\n\nThe executor, outside the container:\n");
    let Steps { host, inner } = steps;
    for (number, step) in (1..).zip(host) {
        writeln!(text, "{number:>4}. {step}")?;
    }
    text.push_str("The container's first process, inside:\n");
    for (number, step) in (host.len() + 1..).zip(inner) {
        writeln!(text, "{number:>4}. {step}")?;
    }
    Ok(text)
}
