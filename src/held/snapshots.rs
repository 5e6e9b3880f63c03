//! The snapshots of a container's volumes, while what another image makes of them isn't known to work.
//!
//! ```text
//! /var/lib/wharf/held/
//!     NAME.STAGE    which there are, and how far they have come (see `plan::snapshot`), mode 0600; one at a time
//!     NAME.begun    one that is being written
//!     NAME.unkept   by an administrator's hand: what was written since needn't be kept; it goes with the next restore
//! /var/lib/wharf/volumes/.snapshots/VOLUME/LABEL/    the snapshots themselves (see `volume::snapshot`)
//! ```
//!
//! The executor takes and restores them, at the beginning of a start: the old version has stopped by then, whoever asked
//! for the restart, and nothing of the new one is there. A start of a container is alone, by systemd's word.
//!
//! | step | on disk after it | what a start of the last good plan finds, after a kill or a power cut |
//! |---|---|---|
//! | nothing yet | | its data |
//! | which are to be taken is written down | taking | its data; those are dropped |
//! | they are taken, one by one | taking | its data; those are dropped |
//! | all are there | taken | its data |
//! | what is tried runs | taken | what is tried has made of its data: restored |
//! | it has proved itself: its mark goes | taken, without a mark | it isn't started any more |
//! | they are dropped, and so is what says that they are there | | |
//! | or what is good starts: it is written down that they are being restored | restoring | restored, whatever starts |
//! | what was written since is kept, where that was long | restoring | restored, whatever starts |
//! | they are restored, one by one | restoring | some restored: restored, all of them, whatever starts |
//! | all are restored | over | its data; never restored again |
//! | it runs | over | what it has made of its data since |
//! | they are dropped, and so is what says that they are there | | |
//!
//! A stage is in the name of the file, and the next one comes by rename, which needs no room on a full disk; each is
//! synced, the file and the folder, before the step after it. So nothing has run when a restore is repeated, and what is
//! tried has not run when one is left out.
//!
//! A trial is mostly over within a minute. One whose snapshots are ten minutes old may have served since, with nobody
//! looking, and what is on disk doesn't tell for how long: what it has written is kept before it is put back, in a snapshot
//! of each volume whose name ends with `.after`, like one that somebody has taken. So it is after a boot, as the age is by
//! a clock that nobody sets and that begins anew with each. The name is that restore's alone: in another one of the same
//! mark other things were written.
//!
//! They count for the mark that has their name. With the mark, that is at one moment, they have become nobody's; whoever
//! next has the lock drops them, and so does a start. What can't be dropped is tried again then. What is to be dropped is
//! over first, by the same rename that a start begins to restore by: only one of the two has them.
//!
//! While they are owed to a container, its mark stays, also where no file declares it any more: declared again, it has its
//! data back. Where some of its volumes may be back and others aren't, nobody else's start goes on with them, either.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::host::Paths;
use crate::plan::held::{Held, PROVED};
use crate::plan::snapshot::{self as plan, Before, SNAPSHOTS_FORMAT, Snapshots, Stage};
use crate::running::Running;
use crate::spec::ContainerName;
use crate::volume::snapshot::{self, SnapshotError, WhyNot};

/// Why what is known of a container's snapshots can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("can't {doing} {}", .path.display())]
pub struct NoteError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Why snapshots aren't taken, restored or dropped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is known of them can't be read or written.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// One of them.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Why a start can't do what it has to do about its container's data: it must not go on.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    /// No snapshot, and nothing of what is tried has run.
    #[error(transparent)]
    NotTaken(Error),
    /// What was tried may have served for long, and what it has written can't be kept.
    #[error(transparent)]
    NotKept(Error),
    /// The volumes aren't back.
    #[error(transparent)]
    NotRestored(Error),
    /// What is known of them can't be written.
    #[error(transparent)]
    NotLeft(NoteError),
}

/// What a start has done about its container's data.
#[derive(Debug, Default)]
pub struct Settled {
    /// Which volumes were concerned.
    pub volumes: BTreeSet<String>,
    /// The name of the snapshots that have what was written since, where that is kept.
    pub after: Option<String>,
    /// They have done their duty and can't be dropped, which the next start tries again.
    pub undropped: Option<Error>,
    /// Another run has written a mark of its own meanwhile, which knows nothing of those that were taken: what is to
    /// start is to be asked once more.
    pub is_moved: bool,
}

/// What says that there are some.
fn path(paths: &Paths, name: &ContainerName, stage: Stage) -> PathBuf {
    super::folder(paths).join(format!("{name}.{}", stage.word()))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NoteError {
    move |source| NoteError { doing, path: path.to_owned(), source }
}

/// Those that a container has.
///
/// # Errors
/// It can't be read, or isn't what this version of Wharf writes.
pub fn find(paths: &Paths, name: &ContainerName) -> Result<Option<(Snapshots, Stage)>, NoteError> {
    for stage in Stage::ALL {
        let path = path(paths, name, stage);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(failed("read", &path))?,
        };
        let parsed = serde_json::from_slice::<Snapshots>(&text).map_err(io::Error::from);
        let known = parsed.and_then(|snapshots| match snapshots.format {
            SNAPSHOTS_FORMAT => Ok(snapshots),
            other => Err(io::Error::other(format!("it is of another version of Wharf ({other})"))),
        });
        return known.map(|snapshots| Some((snapshots, stage))).map_err(failed("read", &path));
    }
    Ok(None)
}

/// Whether those that a mark has are all there.
pub fn are_taken(paths: &Paths, mark: &Held) -> bool {
    matches!(find(paths, mark.name()), Ok(Some((there, Stage::Taken))) if plan::count(Some(mark), &there))
}

/// The name of the snapshots that a new mark has, in place of `before`: of those that are still to be restored, or a new
/// one where a snapshot is wanted.
fn label(
    paths: &Paths,
    name: &ContainerName,
    wanted: bool,
    before: Option<&Held>,
    run: &str,
) -> Option<String> {
    let owed = before.filter(|mark| match find(paths, name) {
        Ok(there) => {
            there.is_some_and(|(there, stage)| stage == Stage::Taken && plan::count(Some(mark), &there))
        }
        // Whoever starts it says why.
        Err(_) => true,
    });
    owed.and_then(|mark| mark.snapshot.clone()).or_else(|| wanted.then(|| plan::label(name, run)))
}

/// Writes a new mark in place of `before`, durably, and gives it with the name of its snapshots; `wanted` says whether
/// there are to be some.
///
/// # Errors
/// It can't be written.
pub fn keep_mark(paths: &Paths, mark: Held, wanted: bool, before: Option<&Held>) -> io::Result<Held> {
    let named = |mark: Held| {
        let snapshot = label(paths, mark.name(), wanted, before, &mark.run);
        Held { snapshot, ..mark }
    };
    let mark = named(mark);
    super::keep(paths, &mark)?;
    // A start that was under way may have taken those of `before` meanwhile, and what is tried runs: they alone have the
    // data from before it. Where it wasn't that far, it sees this mark when it is.
    let again = named(mark.clone());
    if again != mark {
        super::keep(paths, &again)?;
    }
    Ok(again)
}

/// Why there can't be snapshots of some volumes of a container's, as far as that can be told while it runs: who else has
/// them, and what they are on. `running` are the records of all.
///
/// # Errors
/// What to do about it is in it.
pub fn possible<'a>(
    paths: &Paths,
    name: &ContainerName,
    volumes: impl IntoIterator<Item = &'a str>,
    running: &[&Running],
) -> Result<(), String> {
    for volume in volumes {
        if let Some(other) = snapshot::user(running.iter().copied(), volume, Some(name)) {
            return Err(format!(
                "snapshot = true, but volume {volume} is used by {other} too, whose data would be put back with it; stop \
                 {other} before, give one of them a volume of its own, or say snapshot = false"
            ));
        }
        match snapshot::possible(paths, volume) {
            // It is made at the first start with it.
            Ok(_) | Err(WhyNot::NoVolume { .. }) => {}
            Err(error) => return Err(format!("snapshot = true, but {}", chain(&error))),
        }
    }
    Ok(())
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Takes one of each volume that is there; gives of which. Those that are there from before are dropped.
///
/// # Errors
/// One can't be taken, or one from before not dropped; then nothing has changed.
pub fn take(
    paths: &Paths,
    name: &ContainerName,
    label: &str,
    volumes: &BTreeSet<&str>,
) -> Result<BTreeSet<String>, Error> {
    drop(paths, name)?;
    let exists = |volume: &&str| {
        // What is in the way for another reason is told when it is taken.
        !matches!(snapshot::possible(paths, volume), Err(WhyNot::NoVolume { .. }))
    };
    let volumes: BTreeSet<String> = volumes.iter().copied().filter(exists).map(str::to_owned).collect();
    let all = Snapshots {
        format: SNAPSHOTS_FORMAT,
        label: label.to_owned(),
        volumes,
        boot: boot(),
        at: Some(since_boot()),
    };
    let path = path(paths, name, Stage::Taking);
    let written = serde_json::to_vec(&all).map_err(io::Error::from).and_then(|text| {
        super::replace(paths, &super::folder(paths).join(format!("{name}.begun")), &path, &text)
    });
    let taken = written.map_err(failed("write", &path)).map_err(Error::from).and_then(|()| {
        for volume in &all.volumes {
            snapshot::take_for(paths, name, volume, label)?;
        }
        Ok(turn(paths, name, Stage::Taking, Stage::Taken)?)
    });
    if let Err(error) = taken {
        // The first error is the one to tell; what is left here the next start drops. Somebody else may have found nobody's
        // by now what says that there are some.
        let _ = drop_these(paths, name, &all, Stage::Taking);
        return Err(error);
    }
    Ok(all.volumes)
}

/// Puts every volume back as it was, and never again. The snapshots stay, to be dropped.
///
/// # Errors
/// One can't be restored, and all are to be restored again before anything may run.
fn restore(paths: &Paths, name: &ContainerName, all: &Snapshots) -> Result<(), Error> {
    for volume in &all.volumes {
        snapshot::restore_for(paths, name, volume, &all.label)?;
    }
    Ok(turn(paths, name, Stage::Restoring, Stage::Over)?)
}

/// This boot of the host, by random(4).
fn boot() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

/// CLOCK_BOOTTIME in milliseconds: nobody sets it, and it goes on while the host sleeps.
fn since_boot() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// Whether snapshots are so young that nobody can have come to rely on what was written since.
fn are_young(all: &Snapshots) -> bool {
    let age = all.at.map(|at| Duration::from_millis(since_boot().saturating_sub(at)));
    all.boot.is_some() && all.boot == boot() && age.is_some_and(|age| age < PROVED)
}

/// What an administrator makes, who needs nothing of what was written since.
pub fn unkept(paths: &Paths, name: &ContainerName) -> PathBuf {
    super::folder(paths).join(format!("{name}.unkept"))
}

/// Does what [`plan::before`] has said of a start. `label` is what new snapshots are called, and `volumes` are those
/// that they are taken of.
///
/// # Errors
/// The start must not go on. Each one after it does the same again.
pub fn settle(
    paths: &Paths,
    name: &ContainerName,
    step: Before,
    label: &str,
    volumes: &BTreeSet<&str>,
) -> Result<Settled, Unsettled> {
    let undropped = || drop(paths, name).err();
    match step {
        Before::Nothing => Ok(Settled::default()),
        Before::Take => {
            let volumes = take(paths, name, label, volumes).map_err(Unsettled::NotTaken)?;
            // Whoever writes a mark looks at them before and after; this is the other side of it.
            let mark = super::find(paths, name).ok().flatten();
            let is_moved = mark.and_then(|mark| mark.snapshot).as_deref() != Some(label);
            Ok(Settled { volumes, is_moved, ..Settled::default() })
        }
        Before::Restore => {
            let found = find(paths, name).map_err(|error| Unsettled::NotRestored(error.into()))?;
            let Some((all, stage @ (Stage::Taken | Stage::Restoring))) = found else {
                return Ok(Settled::default());
            };
            // What is kept is what was tried has left: from here on it doesn't run before all is back.
            if stage == Stage::Taken
                && !turn_if_there(paths, name, stage, Stage::Restoring).map_err(Unsettled::NotLeft)?
            {
                // Somebody has just found that they are nobody's.
                return Ok(Settled { is_moved: true, ..Settled::default() });
            }
            let unkept = unkept(paths, name);
            let after = match are_young(&all) || unkept.exists() {
                true => None,
                false => Some(keep_present(paths, name, &all).map_err(Unsettled::NotKept)?),
            };
            restore(paths, name, &all).map_err(Unsettled::NotRestored)?;
            // It was about these alone.
            let _ = fs::remove_file(unkept);
            Ok(Settled { volumes: all.volumes, after, undropped: undropped(), is_moved: false })
        }
        Before::Leave => {
            let there = find(paths, name).map_err(Unsettled::NotLeft)?;
            let volumes = there.map(|(all, _)| all.volumes).unwrap_or_default();
            leave(paths, name).map_err(Unsettled::NotLeft)?;
            Ok(Settled { volumes, ..Settled::default() })
        }
        Before::Drop => Ok(Settled { undropped: undropped(), ..Settled::default() }),
    }
}

/// Takes one more of each volume, as it is before it is put back, for people to look at: nobody drops them but they.
/// Gives their name. Those that are there from before a power cut are whole, and from before anything was put back.
fn keep_present(paths: &Paths, name: &ContainerName, all: &Snapshots) -> Result<String, Error> {
    let label = match all.at {
        Some(at) => format!("{}.{at}.after", all.label),
        None => format!("{}.after", all.label),
    };
    for volume in &all.volumes {
        match snapshot::take_for(paths, name, volume, &label) {
            Ok(_)
            | Err(SnapshotError::Exists { .. } | SnapshotError::Impossible(WhyNot::NoVolume { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(label)
}

/// A restore that is still to come.
#[derive(Debug, PartialEq, Eq)]
pub struct Owed {
    /// At whose next start.
    pub container: ContainerName,
    /// Of which snapshot.
    pub label: String,
    /// What says so.
    pub file: PathBuf,
}

impl Owed {
    /// What becomes of it where no file declares the container.
    pub fn words(&self) -> String {
        format!(
            "no file declares it any more, and its volumes are as what was tried last has left them; declared again, its \
             start puts them back as in snapshot {}",
            self.label
        )
    }
}

/// Whose next start puts a volume back as it was in a snapshot, and which that is, as what was tried last isn't known to
/// work. Whatever is put in the volume's place before goes then.
pub fn owed(paths: &Paths, volume: &str) -> Option<Owed> {
    names(paths).into_iter().find_map(|name| {
        let (there, stage) = find(paths, &name).ok()??;
        let counts = match stage {
            Stage::Restoring => true,
            Stage::Taken => plan::count(super::find(paths, &name).ok()?.as_ref(), &there),
            Stage::Taking | Stage::Left | Stage::Over => false,
        };
        let file = path(paths, &name, stage);
        (counts && there.volumes.contains(volume)).then_some(Owed {
            container: name,
            label: there.label,
            file,
        })
    })
}

/// Who else's volume it is, whose restore was cut off: some of its volumes may be back and others not, and nobody goes on
/// with those before all are.
pub fn half_restored(
    paths: &Paths,
    name: &ContainerName,
    volumes: &BTreeSet<&str>,
) -> Option<(String, Owed)> {
    names(paths).into_iter().filter(|other| other != name).find_map(|other| {
        let (there, stage) = find(paths, &other).ok()??;
        let volume = there.volumes.iter().find(|volume| volumes.contains(volume.as_str()))?.clone();
        let file = path(paths, &other, stage);
        (stage == Stage::Restoring).then_some((volume, Owed { container: other, label: there.label, file }))
    })
}

/// What the next start of a container puts back first, whoever declares it by then; `mark` is its mark.
///
/// # Errors
/// It can't be read, or isn't what this version of Wharf writes.
pub fn owed_to(paths: &Paths, name: &ContainerName, mark: Option<&Held>) -> Result<Option<Owed>, NoteError> {
    let found = find(paths, name)?;
    Ok(found.and_then(|(there, stage)| {
        let counts = stage == Stage::Restoring || stage == Stage::Taken && plan::count(mark, &there);
        let file = path(paths, name, stage);
        counts.then_some(Owed { container: name.clone(), label: there.label, file })
    }))
}

/// Which containers have some, at whatever stage.
fn names(paths: &Paths) -> BTreeSet<ContainerName> {
    let entries = fs::read_dir(super::folder(paths)).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| {
        let file = entry.file_name();
        let (name, word) = file.to_str()?.rsplit_once('.')?;
        Stage::ALL.iter().any(|stage| stage.word() == word).then(|| name.parse().ok())?
    };
    entries.filter_map(name).collect()
}

/// Keeps them, and never restores them.
///
/// # Errors
/// It can't be written down.
pub fn leave(paths: &Paths, name: &ContainerName) -> Result<(), NoteError> {
    turn(paths, name, Stage::Taken, Stage::Left)
}

/// Drops them, with what says that they are there. They needn't be.
///
/// # Errors
/// One can't be dropped.
pub fn drop(paths: &Paths, name: &ContainerName) -> Result<(), Error> {
    match find(paths, name)? {
        Some((all, stage)) => drop_these(paths, name, &all, stage),
        None => Ok(()),
    }
}

/// The same of those that somebody has looked at. There may be others by now, of which nothing goes.
fn drop_these(paths: &Paths, name: &ContainerName, all: &Snapshots, stage: Stage) -> Result<(), Error> {
    for volume in &all.volumes {
        match snapshot::drop(paths, volume, &all.label) {
            // It was never taken, or somebody else was quicker.
            Ok(()) | Err(SnapshotError::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let path = path(paths, name, stage);
    match fs::remove_file(&path) {
        Ok(()) => Ok(sync(paths)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", &path)(error).into()),
    }
}

/// Drops those of every container that aren't needed any more, or belong to no mark; says which couldn't be. Only who
/// has the lock may: marks are as they are then.
pub fn sweep(paths: &Paths) -> Vec<(ContainerName, Error)> {
    let mut problems = Vec::new();
    for name in names(paths) {
        // A mark that can't be read, or is of another version, may be theirs.
        let mark = match super::find(paths, &name) {
            Ok(None) if super::is_there(paths, &name) => continue,
            Ok(mark) => mark,
            Err(_) => continue,
        };
        let dropped = match find(paths, &name) {
            // Its next start puts them back first, whatever mark there is.
            Ok(None | Some((_, Stage::Restoring))) => Ok(()),
            Ok(Some((there, Stage::Over))) => drop_these(paths, &name, &there, Stage::Over),
            Ok(Some((there, stage))) if !plan::count(mark.as_ref(), &there) => {
                match turn_if_there(paths, &name, stage, Stage::Over) {
                    Ok(true) => drop_these(paths, &name, &there, Stage::Over),
                    // A start was quicker, and has them.
                    Ok(false) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            Ok(Some(_)) => Ok(()),
            Err(error) => Err(error.into()),
        };
        problems.extend(dropped.err().map(|error| (name, error)));
    }
    problems
}

/// The same; whether it was still at the first. Only one of several has it then.
fn turn_if_there(paths: &Paths, name: &ContainerName, from: Stage, to: Stage) -> Result<bool, NoteError> {
    match turn(paths, name, from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// From one stage to the next, durably.
fn turn(paths: &Paths, name: &ContainerName, from: Stage, to: Stage) -> Result<(), NoteError> {
    let path = path(paths, name, to);
    fs::rename(self::path(paths, name, from), &path).map_err(failed("rename to", &path))?;
    sync(paths)
}

fn sync(paths: &Paths) -> Result<(), NoteError> {
    let folder = super::folder(paths);
    File::open(&folder).and_then(|opened| opened.sync_all()).map_err(failed("sync", &folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such a file, without any snapshot.
    fn note(paths: &Paths, name: &ContainerName, stage: Stage, label: &str) {
        let volumes = BTreeSet::from(["data".to_owned()]);
        let all =
            Snapshots { format: SNAPSHOTS_FORMAT, label: label.to_owned(), volumes, boot: None, at: None };
        let text = serde_json::to_vec(&all).expect("JSON");
        fs::create_dir_all(super::super::folder(paths)).expect("a folder");
        fs::write(path(paths, name, stage), text).expect("written");
    }

    #[test]
    fn what_is_damaged_is_not_taken_for_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let name: ContainerName = "web@blue".parse().expect("a name");
        assert!(matches!(find(&paths, &name), Ok(None)));
        note(&paths, &name, Stage::Taken, "a");
        assert!(matches!(find(&paths, &name), Ok(Some((all, Stage::Taken))) if all.label == "a"));
        for text in ["", "{}", "{\"format\":9,\"label\":\"a\",\"volumes\":[]}"] {
            fs::write(path(&paths, &name, Stage::Taken), text).expect("written");
            let error = find(&paths, &name).expect_err(text);
            assert!(chain(&error).contains("/var/lib/wharf/held/web@blue.taken"), "{}", chain(&error));
            assert_eq!(sweep(&paths).len(), 1, "it says so, and leaves it");
        }
    }

    /// A container that is being tried, whose snapshot is called so.
    fn mark(text: &str, label: &str) -> Held {
        use crate::plan::held::{Fingerprint, Good, HELD_FORMAT, State};
        use crate::settings::Policy;
        let source = crate::report::Source::new("x.toml", text);
        let (document, findings) = crate::spec::Document::parse(&source);
        let checked = crate::check::check(&"x".parse().expect("a name"), &document, findings);
        let container = checked.container.expect("a container");
        Held {
            format: HELD_FORMAT,
            state: State::Trying,
            run: "this".into(),
            at: "then".into(),
            settle: None,
            why: None,
            blamed: None,
            tried: Fingerprint::of(&container, &Policy::Any, Some("new".into()), Default::default()),
            good: Good::new(container, "x.toml".into(), Some(format!("sha256:{}", "a".repeat(64)))),
            snapshot: Some(label.to_owned()),
        }
    }

    #[test]
    fn a_new_mark_keeps_what_is_owed() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let before = mark("image = 'x:1'\nsnapshot = true\nmounts.'/data' = { volume = 'data' }", "x.first");
        let name = before.name().clone();
        let next = |wanted| {
            let mark = Held { run: "second".into(), snapshot: None, ..before.clone() };
            let kept = keep_mark(&paths, mark, wanted, Some(&before)).expect("kept");
            assert_eq!(super::super::find(&paths, &name).expect("read").as_ref(), Some(&kept));
            kept.snapshot
        };
        for (stage, label, expected) in [
            (Stage::Taken, "x.first", "x.first"),
            (Stage::Taken, "of another trial", "x.second"),
            (Stage::Taking, "x.first", "x.second"),
            (Stage::Over, "x.first", "x.second"),
            // Whatever starts puts these back first.
            (Stage::Restoring, "x.first", "x.second"),
            (Stage::Left, "x.first", "x.second"),
        ] {
            note(&paths, &name, stage, label);
            assert_eq!(next(true).as_deref(), Some(expected), "{stage:?} {label}");
            assert_eq!(next(false).is_some(), expected == "x.first", "{stage:?} {label}");
            fs::remove_file(path(&paths, &name, stage)).expect("removed");
        }
        assert_eq!((next(true).as_deref(), next(false)), (Some("x.second"), None));
    }

    #[test]
    fn what_the_next_start_puts_back() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let mark = mark("image = 'x:1'\nsnapshot = true\nmounts.'/data' = { volume = 'data' }", "x.0-1");
        let name = mark.name().clone();
        assert!(owed(&paths, "data").is_none());
        super::super::keep(&paths, &mark).expect("kept");
        assert_eq!(super::super::find(&paths, &name).expect("read").as_ref(), Some(&mark));
        for (stage, label, expected) in [
            (Stage::Taking, "x.0-1", false),
            (Stage::Taken, "x.0-1", true),
            (Stage::Taken, "of another trial", false),
            (Stage::Restoring, "x.0-1", true),
            (Stage::Restoring, "of another trial", true),
            (Stage::Left, "x.0-1", false),
            (Stage::Over, "x.0-1", false),
        ] {
            note(&paths, &name, stage, label);
            let file = path(&paths, &name, stage);
            let wanted = Owed { container: name.clone(), label: label.to_owned(), file };
            assert_eq!(owed(&paths, "data"), expected.then_some(wanted), "{stage:?} {label}");
            assert!(owed(&paths, "other").is_none());
            fs::remove_file(path(&paths, &name, stage)).expect("removed");
        }
    }

    #[test]
    fn nobody_else_goes_on_with_half_of_it() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let [x, y]: [ContainerName; 2] = ["x", "y"].map(|name| name.parse().expect("a name"));
        let volumes = BTreeSet::from(["data"]);
        for stage in Stage::ALL {
            note(&paths, &x, stage, "a");
            let half = half_restored(&paths, &y, &volumes);
            let of =
                half.map(|(volume, owed)| format!("{volume} of {}, snapshot {}", owed.container, owed.label));
            let expected = (stage == Stage::Restoring).then(|| "data of x, snapshot a".to_owned());
            assert_eq!(of, expected, "{stage:?}");
            assert!(half_restored(&paths, &x, &volumes).is_none(), "it puts them back itself");
            assert!(half_restored(&paths, &y, &BTreeSet::from(["other"])).is_none());
            // Whoever declares it by then.
            let owed = |mark| owed_to(&paths, &x, mark).expect("read").map(|owed| owed.label);
            let mark = mark("image = 'x:1'", "a");
            let counts = matches!(stage, Stage::Taken | Stage::Restoring);
            assert_eq!(owed(Some(&mark)).is_some(), counts, "{stage:?}");
            assert_eq!(owed(None).is_some(), stage == Stage::Restoring, "{stage:?}");
            fs::remove_file(path(&paths, &x, stage)).expect("removed");
        }
    }

    #[test]
    fn one_of_two_has_them() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let name: ContainerName = "x".parse().expect("a name");
        note(&paths, &name, Stage::Taken, "a");
        assert!(turn_if_there(&paths, &name, Stage::Taken, Stage::Over).expect("turned"));
        assert!(!turn_if_there(&paths, &name, Stage::Taken, Stage::Restoring).expect("asked"));
        assert!(matches!(find(&paths, &name), Ok(Some((_, Stage::Over)))));
    }

    #[test]
    fn ages_are_of_one_boot() {
        let of = |boot: Option<String>, at: Option<u64>| {
            let volumes = BTreeSet::new();
            are_young(&Snapshots { format: SNAPSHOTS_FORMAT, label: "a".into(), volumes, boot, at })
        };
        let now = since_boot();
        assert!(of(boot(), Some(now)));
        let long = u64::try_from(PROVED.as_millis()).expect("a number");
        assert_eq!(of(boot(), Some(now.saturating_sub(long + 1))), now <= long);
        assert!(!of(Some("another".into()), Some(now)) && !of(boot(), None) && !of(None, Some(now)));
    }

    #[test]
    fn what_belongs_to_no_mark_is_swept() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let name: ContainerName = "db.main".parse().expect("a name");
        for stage in Stage::ALL {
            note(&paths, &name, stage, "a");
            assert!(sweep(&paths).is_empty());
            let left = find(&paths, &name).expect("read");
            // But for what has to be put back.
            assert_eq!(left.is_some(), stage == Stage::Restoring, "{stage:?}");
            let _ = fs::remove_file(path(&paths, &name, stage));
        }
        // Of another version: it may be theirs.
        fs::write(super::super::path(&paths, &name), "{}").expect("written");
        note(&paths, &name, Stage::Taken, "a");
        assert!(sweep(&paths).is_empty());
        assert!(matches!(find(&paths, &name), Ok(Some(_))));
    }
}
