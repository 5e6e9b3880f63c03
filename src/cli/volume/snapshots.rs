//! `wharf volume snapshot`, `snapshots`, `restore` and `drop-snapshot`.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::list::unknown;
use super::{VolumesError, busy, refuse_owed, taken};
use crate::cli::format::Form;
use crate::cli::image::heading;
use crate::cli::output::{Exit, Failure, print};
use crate::host::Paths;
use crate::volume::{self, snapshot};

/// Runs `wharf volume snapshot`.
pub(super) fn take(paths: &Paths, volume: &str, label: Option<String>) -> Result<Exit, Failure> {
    let label = label.unwrap_or_else(|| Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string());
    // Those of Wharf's own have one: see `volume::archive`, and those that an update takes.
    if label.contains('.') {
        return Err(Failure::usage(VolumesError::Reserved(label)));
    }
    let busy = busy(&format!("taking a snapshot of {volume}"));
    let taken = snapshot::take(paths, volume, &label);
    std::mem::drop(busy);
    let snapshot = taken?;
    print(&format!("{label}: {}\n", paths.shown(&snapshot.tree).display()))?;
    Ok(Exit::Done)
}

/// One snapshot. The keys are documented in `--help` and stay.
#[derive(Debug, Serialize)]
struct Row {
    volume: String,
    label: String,
    taken: Option<Timestamp>,
    path: String,
}

/// Those of [`Row`].
const KEYS: &[&str] = &["volume", "label", "taken", "path"];

/// Runs `wharf volume snapshots`.
pub(super) fn list(paths: &Paths, volume: Option<&str>, form: &Form) -> Result<Exit, Failure> {
    let shape = form.shape(KEYS)?;
    let there = volume::names(paths)?;
    let names = match volume {
        None => volume::snapshot::volumes(paths)?,
        Some(name) => vec![name.to_owned()],
    };
    let mut rows = Vec::new();
    for name in &names {
        let snapshots = snapshot::list(paths, name)?;
        if volume.is_some() && snapshots.is_empty() && !there.contains(name) {
            return Err(unknown(name, &there).into());
        }
        rows.extend(snapshots.into_iter().map(|snapshot| Row {
            volume: snapshot.volume.clone(),
            taken: taken(&snapshot),
            path: paths.shown(&snapshot.tree).display().to_string(),
            label: snapshot.label,
        }));
    }
    print(&shape.text(&rows, || table(&rows))?)?;
    Ok(Exit::Done)
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "There is no snapshot; wharf volume snapshot NAME takes one.\n".to_owned();
    }
    let width = |head: &str, of: fn(&Row) -> &str| {
        rows.iter().map(|row| of(row).len()).max().unwrap_or(0).max(head.len())
    };
    let (volumes, labels) = (width("VOLUME", |row| &row.volume), width("SNAPSHOT", |row| &row.label));
    let head = format!("{:volumes$}  {:labels$}  TAKEN", "VOLUME", "SNAPSHOT");
    let mut text = format!("{}\n", heading(&head));
    for Row { volume, label, taken, path: _ } in rows {
        let taken = taken.map_or_else(|| "-".to_owned(), |taken| taken.to_string());
        let _ = writeln!(text, "{volume:volumes$}  {label:labels$}  {taken}");
    }
    text
}

/// Runs `wharf volume restore`.
pub(super) fn restore(paths: &Paths, volume: &str, label: &str) -> Result<Exit, Failure> {
    refuse_owed(paths, volume)?;
    let busy = busy(&format!("restoring {volume}"));
    let restored = snapshot::restore(paths, volume, label);
    std::mem::drop(busy);
    restored?;
    print(&format!("{volume} is what it was at {label}\n"))?;
    Ok(Exit::Done)
}

/// Runs `wharf volume drop-snapshot`.
pub(super) fn drop(paths: &Paths, volume: &str, labels: &[String]) -> Result<Exit, Failure> {
    for label in labels {
        let busy = busy(&format!("removing {label} of {volume}"));
        let dropped = snapshot::drop(paths, volume, label);
        std::mem::drop(busy);
        dropped?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let row = Row {
            volume: "db".to_owned(),
            label: "before".to_owned(),
            taken: Some(Timestamp::UNIX_EPOCH),
            path: "/x".to_owned(),
        };
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(keys, crate::cli::format::keys_of(&row));
        assert_eq!(table(&[row]), "VOLUME  SNAPSHOT  TAKEN\ndb      before    1970-01-01T00:00:00Z\n");
    }
}
