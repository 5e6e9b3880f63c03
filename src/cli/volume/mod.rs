//! `wharf volume`: what containers keep, and how it gets in and out.

mod data;
mod list;
mod prune;
mod snapshots;
mod users;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget};
use jiff::Timestamp;

use super::format::Form;
use super::output::{Exit, Failure};
use crate::held;
use crate::host::Paths;
use crate::spec::ContainerName;
use crate::volume::snapshot::Snapshot;

/// List, show, export, import and snapshot volumes
#[derive(Args)]
#[command(after_help = "Exit status: 0 done, and durable; 1 not done; 2 for wrong usage.")]
pub struct VolumeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List volumes, and who uses them
    #[command(after_help = "Examples:
  wharf volume list
  wharf volume list --size
  wharf volume list --format '{name} {declared}'

JSON: an array of objects: name, state (in-use, declared, not-made: no container
with it has started yet, unused), declared and running (names of containers and
templates), snapshots (their labels), bytes and entries (null without --size).

SIZE is what is on the disk; what is shared with a snapshot counts for both.

Exit status: 0 listed; 1 not; 2 for wrong usage.")]
    List {
        #[command(flatten)]
        form: Form,
        /// With what each takes on the disk, which means a look at every file
        #[arg(short, long)]
        size: bool,
    },
    /// Show a volume: where it is, who has it where, and its snapshots
    #[command(after_help = "Examples:
  wharf volume inspect db
  wharf volume inspect --json db | jq -r .path

JSON: one object: name, state (as of `list`), path, owner and mode of its
folder, declared and running (arrays of objects: container, target, read_only),
snapshots (label, taken), snapshots_by (btrfs or reflinks) or no_snapshots (why
not), bytes and entries (null without --size).

Exit status: 0 shown; 1 there is none; 2 for wrong usage.")]
    Inspect {
        /// The volume
        name: String,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
        /// With what it takes on the disk, which means a look at every file
        #[arg(short, long)]
        size: bool,
    },
    /// Write a volume as a tar
    ///
    /// With owners by number, nanoseconds, holes, hard links, file capabilities, access lists and the attributes of
    /// users; without devices and sockets. A volume that is in use is refused, unless --live says otherwise.
    #[command(after_help = "\
Where the file system can have snapshots (btrfs, XFS with reflinks), one is written and dropped again, and its \
container may start meanwhile. Elsewhere, and where the disk is full, a start waits until all is written. A file is \
there whole and durable, or not at all; a new one can be read by root only, and one that takes another's place has its \
mode.

Examples:
  wharf volume export db -o db.tar
  wharf volume export db | zstd | ssh backup 'cat >db.tar.zst'
  wharf volume export --live uploads -o uploads.tar

Exit status: 0 written; 1 not, or with --live a file got shorter meanwhile; 2 for wrong usage.")]
    Export {
        /// The volume
        name: String,
        /// To this file, and not to standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Also while it is in use: as it is at each moment
        #[arg(long)]
        live: bool,
    },
    /// Make a volume of a tar
    ///
    /// Plain, or compressed by gzip, zstd or xz. Owners are the numbers in it: user 101 in the tar is user 101 in the
    /// container. The volume is there when all of it is on the disk, or not at all. Where the tar has no entry for the
    /// folder itself, that keeps its owner and mode.
    #[command(after_help = "\
With --replace the archive takes the place of a volume that is there, and that nobody uses, in one step: after a \
power cut it is the one or the other, whole. What it was is gone then; `wharf volume snapshot` keeps it.

Examples:
  wharf volume import db db.tar
  ssh other wharf volume export db | wharf volume import db -
  wharf volume import --replace db db.tar.zst

Exit status: 0 imported and durable; 1 not, and the volume is what it was; 2 for wrong usage.")]
    Import {
        /// The volume
        name: String,
        /// The tar; - for standard input
        file: PathBuf,
        /// In the place of what it is now
        #[arg(long)]
        replace: bool,
    },
    /// Remove volumes that nothing names
    ///
    /// Without --yes it only lists them.
    #[command(after_help = "\
Named are the volumes of every container file, also of one with mistakes, of one that is masked or has a drop-in over \
it, and of every instance of a template, and those that one binds by their path; of what runs; and of plans that something may fall back to. While one of these files can't be read, \
nothing is removed. What has snapshots stays, too. What is removed is gone for good. With --yes what killed commands \
have left goes as well.

Examples:
  wharf volume prune
  wharf volume prune --yes
  wharf volume prune --yes old-db
  wharf volume prune --format '{name} {bytes}'

JSON: one object: volumes (name, path, bytes, entries, removed: the keys of --format), kept (what stays for another reason than that it is \
named, and why).

Exit status: 0 listed, or removed; 1 something stays that should go, as one that was named and has snapshots; 2 for \
wrong usage.", mut_arg("json", |arg| arg.help("One object, as below")))]
    Prune {
        /// Only these
        names: Vec<String>,
        /// Remove them, with all that is in them
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Take a snapshot of a volume that nobody uses
    ///
    /// At once and next to without room, on btrfs, and on XFS with reflinks. It is no backup: the disk is the same.
    #[command(after_help = "Examples:
  wharf volume snapshot db before-upgrade
  wharf volume snapshot db

Without a name it gets the time, in UTC. Names with a dot are those of Wharf's own.

Exit status: 0 taken and durable; 1 not; 2 for wrong usage.")]
    Snapshot {
        /// The volume
        name: String,
        /// What the snapshot is called
        label: Option<String>,
    },
    /// List snapshots
    #[command(after_help = "Examples:
  wharf volume snapshots
  wharf volume snapshots db --format '{label} {taken}'

JSON: an array of objects: volume, label, taken (ISO 8601 in UTC), path (what
the volume was, to be looked into).

Exit status: 0 listed; 1 not; 2 for wrong usage.")]
    Snapshots {
        /// Of this volume only
        name: Option<String>,
        #[command(flatten)]
        form: Form,
    },
    /// Put what a volume was at a snapshot in the place of what it is
    ///
    /// In one step, and only where nobody uses it; the snapshot stays. What the volume is now is gone then.
    #[command(after_help = "Examples:
  systemctl stop db-container && wharf volume restore db before-upgrade

Exit status: 0 restored and durable; 1 not, and the volume is what it was; 2 for wrong usage.")]
    Restore {
        /// The volume
        name: String,
        /// The snapshot
        label: String,
    },
    /// Remove snapshots of a volume
    #[command(after_help = "Examples:
  wharf volume drop-snapshot db before-upgrade

Exit status: 0 all removed; 1 one is not; 2 for wrong usage.")]
    DropSnapshot {
        /// The volume
        name: String,
        /// The snapshots
        #[arg(required = true)]
        labels: Vec<String>,
    },
}

/// Why something isn't done with volumes.
#[derive(Debug, thiserror::Error)]
enum VolumesError {
    #[error("there is no volume `{name}`{hint}")]
    Unknown { name: String, hint: String },
    #[error("only root can look at volumes; try sudo")]
    NotRoot,
    #[error("can't read {}, which says what uses volumes", .path.display())]
    Users { path: PathBuf, source: io::Error },
    #[error(
        "volume {name} is put back as in snapshot {label} when {container} starts the next time, as its last change isn't \
         known to work; what is put in its place now would go then: start and stop {container} first, or \
         give that snapshot up: rm {}", .file.display()
    )]
    Owed { name: String, label: String, container: ContainerName, file: PathBuf },
    #[error("volume {name} stays: {why}")]
    Needed { name: String, why: String },
    #[error("`{0}` can't be a snapshot's name: those with a dot are Wharf's own; take `-` or `_`")]
    Reserved(String),
    #[error("a terminal gives no tar; name a file, or lead one into the standard input")]
    Terminal,
    #[error("can't open {}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "{} is a folder, and no tar; tar -C {} -c . | wharf volume import {name} -", .path.display(), .path.display()
    )]
    Folder { name: String, path: PathBuf },
}

/// Runs the command.
pub fn run(args: VolumeArgs, paths: &Paths) -> Result<Exit, Failure> {
    if paths.are_this_hosts() && !rustix::process::geteuid().is_root() {
        return Err(VolumesError::NotRoot.into());
    }
    match args.command {
        Command::List { form, size } => list::list(paths, &form, size),
        Command::Inspect { name, json, size } => list::inspect(paths, &name, json, size),
        Command::Export { name, output, live } => data::export(paths, &name, output.as_deref(), live),
        Command::Import { name, file, replace } => data::import(paths, &name, &file, replace),
        Command::Prune { names, yes, form } => prune::run(paths, &names, yes, &form),
        Command::Snapshot { name, label } => snapshots::take(paths, &name, label),
        Command::Snapshots { name, form } => snapshots::list(paths, name.as_deref(), &form),
        Command::Restore { name, label } => snapshots::restore(paths, &name, &label),
        Command::DropSnapshot { name, labels } => snapshots::drop(paths, &name, &labels),
    }
}

/// Refuses to put something in the place of a volume that a start is to put back as it was.
fn refuse_owed(paths: &Paths, name: &str) -> Result<(), VolumesError> {
    match held::snapshots::owed(paths, name) {
        Some(held::snapshots::Owed { container, label, file }) => {
            Err(VolumesError::Owed { name: name.to_owned(), label, container, file })
        }
        None => Ok(()),
    }
}

/// Says on a terminal that something goes on, which may take a while.
fn busy(what: &str) -> Busy {
    let bar = ProgressBar::new_spinner();
    if !io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    Busy(bar)
}

/// Gone from the terminal when it is dropped.
struct Busy(ProgressBar);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// When a snapshot was taken, in whole seconds.
fn taken(snapshot: &Snapshot) -> Option<Timestamp> {
    let since = snapshot.taken.duration_since(std::time::UNIX_EPOCH).ok()?;
    Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok()
}
