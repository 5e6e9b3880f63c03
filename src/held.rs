//! Changes that aren't known to work, and what runs instead.
//!
//! ```text
//! /var/lib/wharf/held/NAME.json    one container's mark (see `plan::held`), mode 0600
//! /run/wharf/apply.lock            held (flock) by a `wharf apply` under way; its process id is in it
//! ```
//!
//! A container is restarted in these steps, and a power cut or a kill after each of them leaves what stands beside it:
//!
//! | step | what runs after a boot, or an end |
//! |---|---|
//! | nothing yet | what the files say: nobody has said that it is to be tried first |
//! | the mark says `trying`, for everything that will be restarted | the last good plan |
//! | systemd is reloaded, images are fetched, the container is restarted | the last good plan |
//! | it has proved itself: the mark is removed | what the files say |
//! | or it hasn't: the mark says `failed` | the last good plan |
//! | systemd is reloaded, the container restarted | the last good plan |
//!
//! While the lock is held, `trying` means that it is the new version's turn; without, that nobody looks after it. The
//! kernel lets go of the lock with its process, whatever ends that. Who looks:
//!
//! - the generator, which then writes the unit of the last good plan;
//! - the executor, at each start: /var may not have been there when the generator ran, and what ran `wharf apply` may
//!   have ended since;
//! - `wharf image prune` and `remove`, which keep the image.
//!
//! A mark counts only for what was tried: once the files, the image or what `restart-on-change` lists is something
//! else, it is as if it weren't there.
//!
//! A mark is written beside its place (`NAME.json.new`, which the next `wharf apply` sweeps), synced, renamed, and the
//! folder synced; it is removed likewise. Only who has the lock writes or removes marks.

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
        Ok(text) => Ok(serde_json::from_slice(&text)
            .ok()
            .filter(|held: &Held| held.format == HELD_FORMAT && held.name() == name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
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
    let folder = folder(paths);
    if !folder.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        if let Some(above) = folder.parent() {
            File::open(above)?.sync_all()?;
        }
    }
    let path = path(paths, held.name());
    // No `.json` at the end: nobody takes it for a mark.
    let fresh = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec(held)?)?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
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
}

fn lock_path(paths: &Paths) -> PathBuf {
    paths.runtime().join("apply.lock")
}

/// Waits for its turn; `waits` is told who has it, once, where somebody has.
///
/// # Errors
/// The file can't be made or locked.
pub fn apply(paths: &Paths, waits: impl FnOnce(Option<u32>)) -> io::Result<Applying> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(paths.runtime())?;
    let path = lock_path(paths);
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            // Who only looks whether somebody has it has it for a moment.
            let process = text.trim().parse().ok().filter(|id| Path::new(&format!("/proc/{id}")).exists());
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
    file.set_len(0)?;
    rustix::io::pwrite(&file, format!("{}\n", std::process::id()).as_bytes(), 0)?;
    sweep(paths);
    Ok(Applying { _file: file })
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
    fs::read_to_string(lock_path(paths)).ok()?.trim().parse().ok()
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
        assert!(!is_applying(&paths));
        let first = apply(&paths, |_| panic!("nobody has it")).expect("locked");
        assert!(is_applying(&paths));
        fs::create_dir_all(folder(&paths)).expect("made");
        fs::write(folder(&paths).join("x.json.new"), "{").expect("written");
        std::thread::scope(|scope| {
            let (told, hears) = std::sync::mpsc::channel();
            let paths = &paths;
            let second =
                scope.spawn(move || apply(paths, |process| told.send(process).expect("told")).map(drop));
            assert_eq!(hears.recv().expect("it says who has it"), Some(std::process::id()));
            drop(first);
            second.join().expect("no panic").expect("its turn");
        });
        assert!(!is_applying(&paths));
        assert_eq!(fs::read_dir(folder(&paths)).expect("listed").count(), 0, "what was begun is swept");
    }
}
