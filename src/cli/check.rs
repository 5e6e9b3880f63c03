//! `wharf check`: what is wrong with container files, without touching anything.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::declared::{Declared, DeclaredError};
use super::output::{Exit, Failure, coloured, print};
use crate::check::Checked;
use crate::generate;
use crate::host::Paths;
use crate::plan;
use crate::report::{self, Finding, Level, Place, Source, Style};
use crate::spec::ContainerName;

const AFTER_HELP: &str = "\
Examples:
  wharf check                        everything in /etc/wharf, /run/wharf and /usr/lib/wharf
  wharf check nginx                  one container, with its drop-ins
  wharf check ./nginx.toml           one file, anywhere, with the drop-ins beside it
  wharf check --json | jq .errors    for programs
  wharf check --root build/rootfs    the tree of an image in the making

JSON: one object with the keys
  errors, warnings how many
  findings         an array of objects: level (error, warning or note), file, line, column,
                   end_line, end_column, message, hint; lines and columns are null where a file
                   as a whole is meant

Exit status: 0 without errors (there may be warnings and notes), 1 with errors, 2 for wrong usage.";

/// Check container files and explain every mistake in them
///
/// It looks at the files as they are now, and changes nothing.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct CheckArgs {
    /// Containers by name, or files by path; everything in the search path where none is given
    #[arg(value_name = "NAME|FILE")]
    targets: Vec<OsString>,
    /// One object, as below
    #[arg(long)]
    json: bool,
}

/// A file that can't be a container's.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", .file.display())]
struct NoContainerFile {
    file: PathBuf,
    why: String,
}

/// Runs the command.
pub fn run(args: &CheckArgs, paths: &Paths) -> Result<Exit, Failure> {
    let CheckArgs { targets, json } = args;
    let (mut findings, containers) =
        if targets.is_empty() { everything(paths)? } else { some(paths, targets)? };
    report::sort(&mut findings);
    findings.dedup();
    let style = if coloured(&io::stdout()) { Style::Coloured } else { Style::Plain };
    let text = if *json { report::json(&findings) } else { people(&findings, containers, style) };
    let exit = if report::has_errors(&findings) { Exit::Failed } else { Exit::Done };
    // Whoever closed the pipe has read enough, and wants to know all the same.
    print(&text).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}

fn people(findings: &[Finding], containers: usize, style: Style) -> String {
    let count = |level, one: &str| match findings.iter().filter(|finding| finding.level == level).count() {
        0 => None,
        1 => Some(format!("1 {one}")),
        more => Some(format!("{more} {one}s")),
    };
    let counts: Vec<String> = [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")]
        .into_iter()
        .filter_map(|(level, one)| count(level, one))
        .collect();
    let mut text = report::render(findings, style);
    if !text.is_empty() {
        text.push('\n');
    }
    let containers = match containers {
        1 => "1 container".to_owned(),
        more => format!("{more} containers"),
    };
    let summary = if counts.is_empty() { "nothing to say".to_owned() } else { counts.join(", ") };
    text.push_str(&format!("{containers} checked: {summary}\n"));
    text
}

/// A container's findings, and what its errors mean for what runs.
pub(super) fn findings_of(paths: &Paths, files: &plan::Files, checked: Checked) -> Vec<Finding> {
    let mut findings = checked.findings;
    if report::has_errors(&findings) && generate::last_good(paths, &files.name).is_some() {
        findings.push(
            Finding::note(
                Place::file(&files.main),
                format!("until this is mended, {} runs its last good plan", files.name),
            )
            .hint("mend it, then: systemctl daemon-reload"),
        );
    }
    findings
}

fn everything(paths: &Paths) -> Result<(Vec<Finding>, usize), DeclaredError> {
    let declared = Declared::list(paths)?;
    let listing = declared.listing();
    let mut findings = listing.findings.clone();
    let all = generate::check_all(paths, listing);
    let containers = all.len();
    let there: BTreeSet<ContainerName> = all.iter().map(|(files, _)| files.name.clone()).collect();
    for (files, checked) in all {
        findings.extend(findings_of(paths, &files, checked));
    }
    for (name, found) in listing.containers.iter().filter(|(name, _)| !there.contains(*name)) {
        findings.push(masked(name, &paths.shown(&found.main)));
    }
    Ok((findings, containers))
}

/// A file somewhere: what it is to have for neighbours, nobody knows.
fn alone(files: plan::Files) -> (plan::Files, Checked) {
    let checked = plan::check(&files);
    (files, checked)
}

fn masked(name: &ContainerName, main: &Path) -> Finding {
    let place = Place::file(&Source::new(main, ""));
    Finding::note(place, format!("this file is empty, so there is no container {name}"))
        .hint("an empty file masks those of the same name further down the search path")
}

fn some(paths: &Paths, targets: &[OsString]) -> Result<(Vec<Finding>, usize), Failure> {
    let mut declared = None;
    let mut findings = Vec::new();
    for target in targets {
        let file = Path::new(target);
        let named = name(target);
        let loose = || {
            generate::loose(&container_file(file))
                .map_err(|why| Failure::usage(NoContainerFile { file: file.to_owned(), why }))
        };
        let (files, checked) = match named.clone().or_else(|| on_search_path(paths, &container_file(file))) {
            Some(name) => {
                let declared = match &mut declared {
                    Some(declared) => declared,
                    empty => empty.insert(Declared::list(paths)?),
                };
                match declared.files(&name) {
                    Err(DeclaredError::Masked { file, .. }) => {
                        findings.push(masked(&name, &file));
                        continue;
                    }
                    // Not every file that lies there declares a container, and it knows why.
                    Err(DeclaredError::Unknown { .. }) if named.is_none() => alone(loose()?),
                    files => {
                        let files = files?;
                        let checked = declared.checked(&files);
                        (files, checked)
                    }
                }
            }
            None => alone(loose()?),
        };
        findings.extend(findings_of(paths, &files, checked));
    }
    Ok((findings, targets.len()))
}

/// The container that is meant, where it isn't a file: `nginx` is one, and `./nginx` and `nginx.toml` aren't.
fn name(target: &OsStr) -> Option<ContainerName> {
    target.to_str().filter(|text| !text.ends_with(".toml"))?.parse().ok()
}

/// A drop-in is checked with what it is dropped into.
fn container_file(file: &Path) -> PathBuf {
    match file.parent().filter(|folder| folder.extension().is_some_and(|end| end == "d")) {
        Some(folder) if !folder.ends_with("container.toml.d") => folder.with_extension(""),
        _ => file.to_owned(),
    }
}

/// The container of a file that is one of the search path's: there are more drop-ins than those beside it.
fn on_search_path(paths: &Paths, file: &Path) -> Option<ContainerName> {
    let folder = std::path::absolute(file.parent()?).ok()?;
    let is =
        |search: &PathBuf| std::path::absolute(search.join("containers")).is_ok_and(|path| path == folder);
    if !paths.search().iter().any(is) {
        return None;
    }
    let name: ContainerName = file.file_name()?.to_str()?.strip_suffix(".toml")?.parse().ok()?;
    // A file that isn't there, or is a link to nowhere, is explained as a file.
    file.exists().then_some(name)
}
