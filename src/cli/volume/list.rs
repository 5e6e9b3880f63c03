//! `wharf volume list` and `inspect`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::users::{Use, Users};
use super::{VolumesError, busy, taken};
use crate::cli::format::Form;
use crate::cli::image::{heading, size};
use crate::cli::output::{Exit, Failure, print};
use crate::host::Paths;
use crate::spec::nearest;
use crate::volume::snapshot::{self, Kind};
use crate::volume::{self, Size};

/// How a volume is. The words are documented in `--help` and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// A running container has it.
    InUse,
    /// A file declares it.
    Declared,
    /// A file declares it, and no container with it has started yet.
    NotMade,
    /// Nobody names it.
    Unused,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Declared => "declared",
            Self::NotMade => "not made",
            Self::Unused => "unused",
        }
    }
}

/// One volume, as listed. The keys are documented in `--help` and stay.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    state: State,
    declared: Vec<String>,
    running: Vec<String>,
    snapshots: Vec<String>,
    bytes: Option<u64>,
    entries: Option<u64>,
}

/// Those of [`Row`].
const KEYS: &[&str] = &["name", "state", "declared", "running", "snapshots", "bytes", "entries"];

fn containers(uses: &[&Use]) -> Vec<String> {
    let mut names: Vec<String> = uses.iter().map(|one| one.container.to_string()).collect();
    names.dedup();
    names
}

fn state(users: &Users, name: &str, is_there: bool) -> State {
    match (is_there, users.running(name).is_empty(), users.declared(name).is_empty()) {
        (false, _, _) => State::NotMade,
        (true, false, _) => State::InUse,
        (true, true, false) => State::Declared,
        (true, true, true) => State::Unused,
    }
}

/// The size, where it is asked for and can be had.
fn counted(paths: &Paths, name: &str, asked: bool, is_there: bool) -> Result<Option<Size>, Failure> {
    if !asked || !is_there {
        return Ok(None);
    }
    let busy = busy(&format!("counting what is in {name}"));
    let counted = volume::size(paths, name);
    drop(busy);
    Ok(Some(counted?))
}

/// Runs `wharf volume list`.
pub(super) fn list(paths: &Paths, form: &Form, with_size: bool) -> Result<Exit, Failure> {
    let shape = form.shape(KEYS)?;
    let users = Users::of(paths)?;
    let there = volume::names(paths)?;
    let mut names: Vec<&str> = there.iter().map(String::as_str).chain(users.named()).collect();
    names.sort_unstable();
    names.dedup();
    let mut rows = Vec::new();
    for name in names {
        let is_there = there.iter().any(|other| other == name);
        let counted = counted(paths, name, with_size, is_there)?;
        rows.push(Row {
            name: name.to_owned(),
            state: state(&users, name, is_there),
            declared: containers(&users.declared(name)),
            running: containers(&users.running(name)),
            snapshots: snapshot::list(paths, name)?.into_iter().map(|snapshot| snapshot.label).collect(),
            bytes: counted.map(|size| size.bytes),
            entries: counted.map(|size| size.entries),
        });
    }
    print(&shape.text(&rows, || table(&rows, with_size))?)?;
    Ok(Exit::Done)
}

fn table(rows: &[Row], with_size: bool) -> String {
    if rows.is_empty() {
        return "There is no volume; a container's first start makes those that its file names.\n".to_owned();
    }
    let or_none = |names: &[String]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
    let mut cells =
        vec![["NAME", "STATE", "DECLARED BY", "RUNNING IN", "SNAPSHOTS", "SIZE"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let Row { name, state, declared, running, snapshots, bytes, entries: _ } = row;
        let bytes = bytes.map_or_else(|| "-".to_owned(), size);
        let snapshots = if snapshots.is_empty() { "-".to_owned() } else { snapshots.len().to_string() };
        [name.clone(), state.text().to_owned(), or_none(declared), or_none(running), snapshots, bytes]
    }));
    let columns = if with_size { 6 } else { 5 };
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, row) in cells.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let line = line.trim_end();
        let _ = writeln!(text, "{}", if index == 0 { heading(line) } else { line.to_owned() });
    }
    text
}

/// A volume, with all that is known of it. The keys are documented in `--help` and stay.
#[derive(Debug, Serialize)]
struct Details {
    name: String,
    state: State,
    path: PathBuf,
    /// Of its folder, by number.
    owner: Option<String>,
    /// In octal.
    mode: Option<String>,
    declared: Vec<Use>,
    running: Vec<Use>,
    snapshots: Vec<Taken>,
    /// How snapshots of it are made, or why they can't be.
    snapshots_by: Option<&'static str>,
    no_snapshots: Option<String>,
    bytes: Option<u64>,
    entries: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Taken {
    label: String,
    taken: Option<Timestamp>,
}

/// Runs `wharf volume inspect`.
pub(super) fn inspect(paths: &Paths, name: &str, json: bool, with_size: bool) -> Result<Exit, Failure> {
    let users = Users::of(paths)?;
    let there = volume::names(paths)?;
    let is_there = there.iter().any(|other| other == name);
    if !is_there && !users.named().any(|other| other == name) {
        return Err(unknown(name, &there).into());
    }
    let path = paths.state().join("volumes").join(name);
    let look = fs::metadata(&path).ok();
    let possible = snapshot::possible(paths, name);
    let counted = counted(paths, name, with_size, is_there)?;
    let details = Details {
        name: name.to_owned(),
        state: state(&users, name, is_there),
        owner: look.as_ref().map(|look| format!("{}:{}", look.uid(), look.gid())),
        mode: look.as_ref().map(|look| format!("{:04o}", look.mode() & 0o7777)),
        declared: users.declared(name).into_iter().cloned().collect(),
        running: users.running(name).into_iter().cloned().collect(),
        snapshots: snapshot::list(paths, name)?
            .into_iter()
            .map(|snapshot| Taken { taken: taken(&snapshot), label: snapshot.label })
            .collect(),
        snapshots_by: possible.as_ref().ok().map(|kind| match kind {
            Kind::Subvolume => "btrfs",
            Kind::Reflinks => "reflinks",
        }),
        no_snapshots: possible.err().filter(|_| is_there).map(|why| why.to_string()),
        bytes: counted.map(|size| size.bytes),
        entries: counted.map(|size| size.entries),
        path: paths.shown(&path),
    };
    let text = if json { serde_json::to_string_pretty(&details)? + "\n" } else { lines(&details) };
    print(&text)?;
    Ok(Exit::Done)
}

pub(super) fn unknown(name: &str, there: &[String]) -> VolumesError {
    let near = nearest(name, there.iter().map(String::as_str));
    let hint = near.map_or_else(
        || "; `wharf volume list` shows all".to_owned(),
        |near| format!("; did you mean `{near}`?"),
    );
    VolumesError::Unknown { name: name.to_owned(), hint }
}

fn lines(details: &Details) -> String {
    let Details {
        name,
        state,
        path,
        owner,
        mode,
        declared,
        running,
        snapshots,
        snapshots_by,
        no_snapshots,
        bytes,
        entries,
    } = details;
    let mut text = format!("{}\n", heading(name));
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "  {key:<10} {value}");
    };
    line("State", state.text());
    line("Path", &path.display().to_string());
    if let (Some(owner), Some(mode)) = (owner, mode) {
        line("Folder", &format!("of {owner}, mode {mode}"));
    }
    for (key, uses) in [("Declared", declared), ("Running", running)] {
        for Use { container, target, read_only } in uses {
            let how = if *read_only { ", read-only" } else { "" };
            line(key, &format!("{container} at {target}{how}"));
        }
    }
    for Taken { label, taken } in snapshots {
        let when = taken.map(|taken| format!(", taken {taken}")).unwrap_or_default();
        line("Snapshot", &format!("{label}{when}"));
    }
    if let Some(by) = snapshots_by {
        let how = if *by == "btrfs" { "by btrfs, at once" } else { "file by file, sharing content" };
        line("Snapshots", &format!("can be taken, {how}"));
    }
    if let Some(why) = no_snapshots {
        line("Snapshots", why);
    }
    if let (Some(bytes), Some(entries)) = (bytes, entries) {
        line("Size", &format!("{} in {entries} files and folders", size(*bytes)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            name: "db".to_owned(),
            state: State::InUse,
            declared: vec!["db".to_owned(), "backup".to_owned()],
            running: vec!["db".to_owned()],
            snapshots: vec!["before".to_owned()],
            bytes: Some(1500),
            entries: Some(3),
        }
    }

    #[test]
    fn keys() {
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(keys, crate::cli::format::keys_of(&row()));
    }

    #[test]
    fn tables() {
        assert_eq!(
            table(&[row()], true),
            "NAME  STATE   DECLARED BY  RUNNING IN  SNAPSHOTS  SIZE\n\
             db    in use  db, backup   db          1          1.5 kB\n"
        );
        assert!(!table(&[row()], false).contains("SIZE"));
    }
}
