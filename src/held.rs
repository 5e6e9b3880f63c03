//! Changes that aren't known to work, and what runs instead.
//!
//! ```text
//! /var/lib/wharf/held/NAME.json    one container's mark (see `plan::held`), mode 0600
//! /var/lib/wharf/held/NAME.{taking,taken,restoring,left,over}
//!                                  the snapshots of its volumes, while there are any (see `snapshots`)
//! /run/wharf/apply.lock            held (flock) by a `wharf apply` under way; its process id and its run are in it
//! ```
//!
//! A mark says what was tried (a fingerprint), what is good, how far the trial has come, and whose it is: each
//! `wharf apply` or `wharf update` is a run of its own, with a name that no other has. A run lives as long as it has
//! the lock, which the kernel takes from it with its process, whatever ends that.
//!
//! A container is restarted in these steps. A mark has one state after each, and what starts is told by that, by
//! whether its run lives, and by nothing else:
//!
//! | step | mark | starts while its run lives | starts after a kill or a power cut |
//! |---|---|---|---|
//! | nothing yet | | what the files say | what the files say: nobody has said that it is to be tried first |
//! | everything that will be restarted is marked | waiting | the last good plan | the last good plan |
//! | images are fetched, systemd is reloaded | waiting | the last good plan, in the new unit | the last good plan |
//! | its turn has come | trying | what the files say | the last good plan |
//! | it is restarted, and looked at | trying | what the files say | the last good plan |
//! | it has proved itself | | what the files say | what the files say |
//! | or it hasn't | putting-back | the last good plan, whatever the files say now | the last good plan |
//! | systemd is reloaded, it is restarted and looked at | putting-back | the last good plan | the last good plan |
//! | that is over | failed | the last good plan | the last good plan |
//!
//! Who looks at marks:
//!
//! - the generator, which writes the unit of the last good plan; of what waits or is tried, while its run lives, that of
//!   the files, so that one reload is enough for all;
//! - the executor, at each start: /var may not have been there when the generator ran, what ran `wharf apply` may have
//!   ended since, and what waits has the new unit already;
//! - `wharf image prune` and `remove`, which keep the image.
//!
//! With `snapshot = true` the volumes that it may write to are put back with a container, where what is tried is of
//! another image. The mark has the name of their snapshots, and each start by the executor asks it what to do about them
//! first:
//!
//! | step | mark | snapshots | a start after a kill or a power cut |
//! |---|---|---|---|
//! | its turn has come, its old version is stopped | trying | | |
//! | the executor takes snapshots, before what its files say starts | trying | taking | drops them |
//! | it is looked at | trying | taken | restores them |
//! | it has proved itself | | taken, and nobody's | drops them |
//! | or it hasn't, and is stopped | putting-back | taken | restores them |
//! | the executor restores them, before the last good plan starts | putting-back | restoring | restores all of them again, whatever starts |
//! | that is done, durably | putting-back | over | drops them, and never restores them again |
//! | that is over | failed | | |
//!
//! See [`snapshots`] for what is on disk. Where they can't be taken nothing is tried, and the mark ends as waiting: the
//! image isn't known to fail.
//!
//! A mark counts only for what was tried: once the files or the image are something else, it is as if it weren't there,
//! and so it is with what `restart-on-change` lists once the trial has failed. Before, what is in those doesn't count:
//! what is tried may write there itself, and what it wrote counts as tried when it has failed. While its run lives, a
//! mark that says putting-back holds whatever the files say: who edits them meanwhile gets that tried by the next
//! `wharf apply`, and not started with nobody looking. An image that has failed stays held back while the tag names it,
//! whatever the files say beside that: the next `wharf apply` tries both together.
//!
//! What is good is what was up and has proved itself: never something that another mark says was tried. So a second
//! edit after a kill keeps the first good plan. Nor does a start keep its plan for mistakes in the files
//! (/run/wharf/last-good) while a mark is there that isn't yet at its end; `wharf apply` does that after the proof.
//!
//! A trial whose run has ended isn't left to be undone for ever. It has one run of its container: whatever starts after
//! that is the last good plan. Once that run has been ready for [`PROVED`](crate::plan::held::PROVED), its own settle time
//! and as many checks as make it unhealthy, whichever is longest, it has proved itself: data that somebody relies on by
//! then are never given up for a snapshot from before. How long it took to get ready doesn't count, nor does the host's
//! sleep. The executor sees to that at its end
//! (ExecStopPost=, so at a crash, a stop and a reboot), and who has the lock before anything else. How long it ran is
//! only known in its own boot; where the power goes later than that, the last good plan and its data are back, and what
//! was written since stays in a snapshot beside (see [`snapshots`]). So it does where an end comes while somebody else has
//! the lock, and what is unhealthy has proved nothing.
//!
//! Another run that comes to such a trial takes it over as it is (trying, in its own name), so that it goes on proving
//! itself whether that run comes to it or not.
//!
//! Who forgets a mark: who finds that it has proved itself so; the step that has started its container and seen it prove
//! itself; the stop of what no file declares any more; and any `wharf apply` that finds it of another version, or its
//! container undeclared and down, but for one whose data are still to be put back: that says so until they are. Any other
//! mark of a run that has ended, short of failed, is tried again by the next `wharf apply`; a failed one only when somebody
//! says --retry. `wharf update` marks before it fetches, with an image that may be any, and takes that back only where the
//! tag names what is good. Where the tag names until then what has failed, that stays known: cut off, it isn't tried again.
//!
//! A mark is written beside its place (`NAME.json.new`, which the next `wharf apply` sweeps), synced, renamed, and the
//! folder synced; it is removed likewise. Only who has the lock writes or removes marks; an executor that can't have it at
//! once leaves them as they are. What is known of snapshots the
//! executor writes, and a container's starts are one after the other; who has the lock drops what is nobody's.

pub mod snapshots;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::check::{Container, RootSource};
use crate::host::Paths;
use crate::image::Store;
use crate::plan;
use crate::plan::held::{Fingerprint, HELD_FORMAT, Held};
use crate::settings::Policy;
use crate::spec::ContainerName;
use crate::watched;

/// The folder of marks.
pub fn folder(paths: &Paths) -> PathBuf {
    paths.state().join("held")
}

fn path(paths: &Paths, name: &ContainerName) -> PathBuf {
    folder(paths).join(format!("{name}.json"))
}

/// The mark of a container; nothing where there is none, or one of another version of Wharf.
///
/// # Errors
/// It can't be read.
pub fn find(paths: &Paths, name: &ContainerName) -> io::Result<Option<Held>> {
    match fs::read(path(paths, name)) {
        Ok(text) => {
            Ok(plan::read(&text).ok().filter(|held: &Held| held.format == HELD_FORMAT && held.name() == name))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there is a mark of a container, of whichever version of Wharf.
pub(crate) fn is_there(paths: &Paths, name: &ContainerName) -> bool {
    path(paths, name).exists()
}

/// Every mark. Where they can't be read, it is as if there were none: /var may not be there yet.
pub fn all(paths: &Paths) -> BTreeMap<ContainerName, Held> {
    let entries = fs::read_dir(folder(paths)).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| {
        let file = entry.file_name();
        file.to_str()?.strip_suffix(".json")?.parse::<ContainerName>().ok()
    };
    entries.filter_map(name).filter_map(|name| Some((name.clone(), find(paths, &name).ok()??))).collect()
}

/// Writes a mark, durably.
///
/// # Errors
/// It can't be written.
pub fn keep(paths: &Paths, held: &Held) -> io::Result<()> {
    let path = path(paths, held.name());
    // No `.json` at the end: nobody takes it for a mark.
    replace(paths, &path.with_extension("json.new"), &path, &serde_json::to_vec(held)?)
}

/// Writes a file of the folder, by way of another one, durably.
fn replace(paths: &Paths, fresh: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = folder(paths);
    if !folder.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        if let Some(above) = folder.parent() {
            File::open(above)?.sync_all()?;
        }
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(fresh, path)?;
    File::open(&folder)?.sync_all()
}

/// Removes a mark, durably; it needn't be there.
///
/// # Errors
/// It can't be removed.
pub fn forget(paths: &Paths, name: &ContainerName) -> io::Result<()> {
    match fs::remove_file(path(paths, name)) {
        Ok(()) => File::open(folder(paths))?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What there is now of a container, as its files have it.
pub fn fingerprint(paths: &Paths, container: &Container, trust: &Policy) -> Fingerprint {
    let image = match &container.source {
        RootSource::Image(reference) => {
            Store::new(paths.state()).digest_of(reference).ok().map(|digest| digest.to_string())
        }
        RootSource::Folder(_) => None,
    };
    Fingerprint::of(container, trust, image, watched::digests(paths, container))
}

/// Keeps every other `wharf apply` waiting, until it is dropped.
#[derive(Debug)]
pub struct Applying {
    _file: File,
    run: String,
}

impl Applying {
    /// What its marks have in them: no other run has the same, on this boot or another.
    pub fn run(&self) -> &str {
        &self.run
    }
}

/// A name for a run, from the kernel (random(4)).
fn fresh_run() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

/// What is in the lock: the process, and its run.
fn holder(text: &str) -> (Option<u32>, Option<&str>) {
    let mut words = text.split_ascii_whitespace();
    (words.next().and_then(|id| id.parse().ok()), words.next())
}

fn lock_path(paths: &Paths) -> PathBuf {
    paths.runtime().join("apply.lock")
}

/// Waits for its turn; `waits` is told who has it, once, where somebody has.
///
/// # Errors
/// The file can't be made or locked.
pub fn apply(paths: &Paths, waits: impl FnOnce(Option<u32>)) -> io::Result<Applying> {
    let mut file = open_lock(paths)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            // Who only looks whether somebody has it has it for a moment.
            let process = holder(&text).0.filter(|id| Path::new(&format!("/proc/{id}")).exists());
            if process.is_some() {
                waits(process);
            }
            loop {
                match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                    Err(Errno::INTR) => {}
                    other => break other?,
                }
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    begin(paths, file)
}

/// The same without waiting; nothing where another one is under way.
///
/// # Errors
/// The file can't be made or locked.
pub fn try_apply(paths: &Paths) -> io::Result<Option<Applying>> {
    let file = open_lock(paths)?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return begin(paths, file).map(Some),
            // Who only looks whether somebody has it has it for a moment, and doesn't count.
            Err(Errno::WOULDBLOCK) if !is_applying(paths) => std::thread::yield_now(),
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn open_lock(paths: &Paths) -> io::Result<File> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(paths.runtime())?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600).open(lock_path(paths))
}

/// The run of who has just got the lock.
fn begin(paths: &Paths, file: File) -> io::Result<Applying> {
    let run = fresh_run()?;
    file.set_len(0)?;
    rustix::io::pwrite(&file, format!("{} {run}\n", std::process::id()).as_bytes(), 0)?;
    sweep(paths);
    Ok(Applying { _file: file, run })
}

/// Removes what was begun by one that was killed. Only who has the lock writes marks.
fn sweep(paths: &Paths) {
    for entry in fs::read_dir(folder(paths)).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|end| end == "new") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The process of the `wharf apply` that is under way, by its own word.
pub fn applier(paths: &Paths) -> Option<u32> {
    holder(&fs::read_to_string(lock_path(paths)).ok()?).0
}

/// The run of the `wharf apply` that is under way.
pub fn live(paths: &Paths) -> Option<String> {
    // One that begins between the two isn't the one that was read, and no mark is of it yet.
    let text = fs::read_to_string(lock_path(paths)).ok()?;
    let run = holder(&text).1?.to_owned();
    is_applying(paths).then_some(run)
}

/// Whether a `wharf apply` is under way.
pub fn is_applying(paths: &Paths) -> bool {
    let Ok(file) = File::open(lock_path(paths)) else { return false };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        assert!(!is_applying(&paths) && live(&paths).is_none());
        let first = apply(&paths, |_| panic!("nobody has it")).expect("locked");
        assert!(is_applying(&paths) && !first.run().is_empty());
        assert_eq!((live(&paths).as_deref(), applier(&paths)), (Some(first.run()), Some(std::process::id())));
        let run = first.run().to_owned();
        fs::create_dir_all(folder(&paths)).expect("made");
        fs::write(folder(&paths).join("x.json.new"), "{").expect("written");
        assert!(try_apply(&paths).expect("looked").is_none(), "it doesn't wait");
        std::thread::scope(|scope| {
            let (told, hears) = std::sync::mpsc::channel();
            let paths = &paths;
            let second =
                scope.spawn(move || apply(paths, |process| told.send(process).expect("told")).map(drop));
            assert_eq!(hears.recv().expect("it says who has it"), Some(std::process::id()));
            drop(first);
            second.join().expect("no panic").expect("its turn");
        });
        assert!(!is_applying(&paths) && live(&paths).is_none());
        // Who looks has it for a moment.
        let looks = File::open(lock_path(&paths)).expect("there");
        rustix::fs::flock(&looks, FlockOperation::LockShared).expect("locked");
        std::thread::scope(|scope| {
            let third = scope.spawn(|| try_apply(&paths).expect("locked").map(drop));
            drop(looks);
            assert_eq!(third.join().expect("no panic"), Some(()), "nobody is at it");
        });
        let third = apply(&paths, |_| panic!("nobody has it")).expect("locked");
        assert_ne!(third.run(), run, "marks of one that has ended are nobody's");
        assert_eq!(fs::read_dir(folder(&paths)).expect("listed").count(), 0, "what was begun is swept");
    }
}
