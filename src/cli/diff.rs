//! `wharf diff`: what a running container has changed of its image.

use std::fmt::Write as _;

use clap::Args;

use super::declared::DeclaredError;
use super::exec::{here_as_root, main_process};
use super::format::Form;
use super::output::{Exit, Failure, print};
use crate::check::{RootMode, RootSource};
use crate::host::Paths;
use crate::image::{Change, Digest, Ids, Live, Store, differences};
use crate::plan::{Footprint, footprint};
use crate::running::{self, Running};
use crate::spec::ContainerName;

/// Show what a running container has changed of its image
#[derive(Args)]
#[command(after_help = "\
A line for each path: A for what the container has added, C for what it has changed, D for what it has deleted. \
Volumes, binds and what is mounted otherwise are not looked into, and what a start itself makes is left out.

Examples:
  wharf diff nginx
  wharf diff nginx --json | jq -r '.[] | select(.kind == \"added\").path'
  wharf diff nginx --format '{kind} {path}'

JSON: an array of objects: kind (added, changed or deleted), path

Exit status: 0 compared, whatever was found; 1 not; 2 for wrong usage.")]
pub struct DiffArgs {
    /// The container, which writes to its root: root = "ephemeral"
    name: ContainerName,
    #[command(flatten)]
    form: Form,
}

/// The keys of a row.
const KEYS: &[&str] = &["kind", "path"];

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
enum RootError {
    #[error(
        "{0} has a read-only root: nothing of its image can have changed; root = \"ephemeral\" lets it write"
    )]
    ReadOnly(ContainerName),
    #[error(
        "{name} runs in the folder {folder}, and in no image: it can be compared with nothing. An image of it: \
         tar -C {folder} -c . | wharf image import --name REFERENCE -"
    )]
    Folder { name: ContainerName, folder: String },
    #[error("there is no record of what was started as {0}; it is still being started, or ends")]
    NoRecord(ContainerName),
    #[error("{0}")]
    Unseen(String),
}

/// A running container's root, and the image that it began as.
pub(super) struct Root {
    pub(super) image: Digest,
    pub(super) live: Live,
    pub(super) made: Footprint,
}

/// Finds them; refuses containers that can't have changed their image.
pub(super) fn root_of(name: &ContainerName, paths: &Paths) -> Result<Root, Failure> {
    if name.is_template() {
        return Err(DeclaredError::Template(name.clone()).into());
    }
    here_as_root(paths)?;
    let main = main_process(name, paths)?;
    let record = running::find(paths, name)?;
    let Some(Running { container, image, ids, .. }) = record else {
        return Err(RootError::NoRecord(name.clone()).into());
    };
    let image = match (&container.source, image) {
        (RootSource::Folder(folder), _) => {
            let folder = folder.display().to_string();
            return Err(RootError::Folder { name: name.clone(), folder }.into());
        }
        (_, None) => return Err(RootError::NoRecord(name.clone()).into()),
        (_, Some(digest)) => digest.parse()?,
    };
    if container.root == RootMode::ReadOnly {
        return Err(RootError::ReadOnly(name.clone()).into());
    }
    let root = crate::exec::root(name, main).map_err(|failure| RootError::Unseen(failure.to_string()))?;
    Ok(Root { image, live: Live::new(root, Ids { base: ids }), made: footprint(&container) })
}

/// Runs the command.
pub fn run(args: DiffArgs, paths: &Paths) -> Result<Exit, Failure> {
    let DiffArgs { name, form } = args;
    let shape = form.shape(KEYS)?;
    let Root { image, live, made } = root_of(&name, paths)?;
    let mut changes = differences(&Store::new(paths.state()), &image, &live, &made)?;
    changes.sort_by_key(|change| change.shown());
    print(&shape.text(&changes, || people(&changes))?)?;
    Ok(Exit::Done)
}

fn people(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        // A name may hold what a terminal takes for a command.
        let path: String = change
            .shown()
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect();
        let _ = writeln!(text, "{} {path}", change.kind.letter());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::keys_of;
    use crate::image::ChangeKind;

    #[test]
    fn keys_are_those_of_a_change() {
        assert_eq!(keys_of(&Change { kind: ChangeKind::Added, path: b"etc/x".to_vec() }), KEYS);
    }
}
