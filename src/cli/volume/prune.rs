//! `wharf volume prune`.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::list::unknown;
use super::users::Users;
use super::{VolumesError, busy};
use crate::cli::format::{Form, Shape};
use crate::cli::image::size;
use crate::cli::output::{Exit, Failure, chain, complain, harmless, print};
use crate::host::Paths;
use crate::volume::{self, DataError, Size, snapshot};

/// One that goes. The keys are documented in `--help` and stay.
#[derive(Debug, Serialize)]
struct Gone {
    name: String,
    path: PathBuf,
    bytes: u64,
    entries: u64,
    removed: bool,
}

/// The keys of a row.
const KEYS: &[&str] = &["name", "path", "bytes", "entries", "removed"];

#[derive(Debug, Serialize)]
struct Answer {
    volumes: Vec<Gone>,
    kept: Vec<String>,
}

/// Runs `wharf volume prune`.
pub(super) fn run(paths: &Paths, names: &[String], yes: bool, form: &Form) -> Result<Exit, Failure> {
    let shape = form.shape(KEYS)?;
    let users = Users::of(paths)?;
    let there = volume::names(paths)?;
    for name in names {
        if !there.contains(name) {
            return Err(unknown(name, &there).into());
        }
        if let Some(why) = users.why_kept(name) {
            return Err(VolumesError::Needed { name: name.clone(), why }.into());
        }
    }
    // First, as a snapshot that a killed export has left would keep its volume.
    let cleared = if yes { volume::clear(paths).err() } else { None };
    let mut exit = Exit::Done;
    let mut answer = Answer { volumes: Vec::new(), kept: Vec::new() };
    for (file, way_out) in &users.unreadable {
        answer.kept.push(format!("every volume stays, as {file} can't be read and may name any; {way_out}"));
        exit = Exit::Failed;
    }
    let wanted = if names.is_empty() { &there } else { names };
    for name in wanted.iter().filter(|name| users.unreadable.is_empty() && users.why_kept(name).is_none()) {
        let labels: Vec<String> = match snapshot::list(paths, name) {
            // Of an export they go with that, and while it is under way the volume stays.
            Ok(snapshots) => snapshots
                .into_iter()
                .map(|snapshot| snapshot.label)
                .filter(|label| !volume::is_export(label))
                .collect(),
            Err(error) => {
                answer.kept.push(format!("{name} stays: {}", chain(&error)));
                exit = Exit::Failed;
                continue;
            }
        };
        if !labels.is_empty() {
            answer.kept.push(format!(
                "{name} stays, as it has snapshots: wharf volume drop-snapshot {name} {}",
                labels.join(" ")
            ));
            // Who names it wants it gone.
            if !names.is_empty() {
                exit = Exit::Failed;
            }
            continue;
        }
        let busy = busy(&format!("{} {name}", if yes { "removing" } else { "counting what is in" }));
        let counted = volume::size(paths, name);
        // Large ones take their time, and somebody may have declared a container with this one meanwhile.
        let needed = || match Users::of(paths) {
            Err(error) => Some(chain(&error)),
            Ok(users) => {
                users.why_kept(name).or_else(|| Some(users.unreadable.first()?.0.clone() + " may name it"))
            }
        };
        let removed = if yes { volume::remove_unless(paths, name, needed) } else { Ok(()) };
        drop(busy);
        // What can't be counted can be removed all the same.
        match removed
            .and_then(|()| counted.or_else(|error| if yes { Ok(Size::default()) } else { Err(error) }))
        {
            Ok(counted) => answer.volumes.push(Gone {
                name: name.clone(),
                path: paths.shown(&paths.state().join("volumes").join(name)),
                bytes: counted.bytes,
                entries: counted.entries,
                removed: yes,
            }),
            Err(error) => {
                answer.kept.push(match error {
                    DataError::Left { .. } => chain(&error),
                    error => format!("{name} stays: {}", chain(&error)),
                });
                exit = Exit::Failed;
            }
        }
    }
    if let Some(error) = cleared {
        answer.kept.push(format!("what killed commands have left stays: {}", chain(&error)));
        exit = Exit::Failed;
    }
    tell(&answer, yes, shape).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}

fn tell(answer: &Answer, yes: bool, shape: Shape<'_>) -> Result<(), Failure> {
    if shape == Shape::Json {
        return print(&(serde_json::to_string_pretty(answer)? + "\n"));
    }
    print(&shape.text(&answer.volumes, || people(answer, yes))?)?;
    for why in &answer.kept {
        complain(&format!("note: {}\n", harmless(why)));
    }
    Ok(())
}

fn people(answer: &Answer, yes: bool) -> String {
    let mut text = String::new();
    for Gone { name, bytes, entries, .. } in &answer.volumes {
        let _ = writeln!(text, "{:>9}  {name}, {entries} files and folders", size(*bytes));
    }
    let total = size(answer.volumes.iter().map(|gone| gone.bytes).sum());
    let _ = match (answer.volumes.is_empty(), yes) {
        (true, _) => writeln!(text, "nothing to take away"),
        (false, true) => writeln!(text, "{total:>9}  are free"),
        (false, false) => {
            writeln!(text, "{total:>9}  would be free; with --yes that data is removed, for good")
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::keys_of;

    #[test]
    fn keys_are_those_of_a_volume_that_goes() {
        let gone = Gone { name: "db".to_owned(), path: "/x".into(), bytes: 1, entries: 1, removed: false };
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(keys_of(&gone), keys);
    }
}
