//! Leases: what a container has of the host for as long as it is declared.
//!
//! ```text
//! /var/lib/wharf/leases/
//!     lock              held (flock) while a lease is made
//!     ids/NAME          the first id of NAME's range of 65,536, in decimal
//! ```
//!
//! A lease is written beside its place, synced and renamed there, and then its folder is synced: after a
//! power cut it is there whole or not at all. Finding a lease takes no lock.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::spec::ContainerName;

/// How many ids a container has: what its files may say (0 to 65535), and what systemd's own tools use.
pub const IDS: u32 = 65_536;

/// The ids that systemd sets aside for containers (systemd's `UIDS-GIDS` page): 524288 to 1879048191.
const FIRST: u32 = 524_288;
const RANGES: u32 = (1_879_048_191 - FIRST + 1) / IDS;

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// A file of the leases can't be read or written.
    #[error("can't {action} {}", path.display())]
    Io {
        /// "read", "write", …
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A lease holds something else than a range's first id.
    #[error("{} does not hold the first id of a range; remove the file, and the next start makes a new lease", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// All are taken.
    #[error("every range of {IDS} ids from {FIRST} up is taken")]
    Exhausted,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LeaseError {
    let path = path.to_owned();
    move |source| LeaseError::Io { action, path, source }
}

/// The first of the container's ids, leased now if it has none yet. `state` is `/var/lib/wharf`.
///
/// # Errors
/// [`LeaseError`].
pub fn ids(state: &Path, name: &ContainerName) -> Result<u32, LeaseError> {
    let folder = state.join("leases/ids");
    let path = folder.join(name.as_str());
    if let Some(base) = read(&path)? {
        return Ok(base);
    }
    make_folders(state, &folder)?;
    let lock_path = state.join("leases/lock");
    let lock = File::create(&lock_path).map_err(failed("open", &lock_path))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(io::Error::from)
        .map_err(failed("lock", &lock_path))?;
    // Somebody may have been faster.
    if let Some(base) = read(&path)? {
        return Ok(base);
    }
    let taken = taken(&folder)?;
    let start = hash(name.as_str()) % RANGES;
    let base = (0..RANGES)
        .map(|step| FIRST + (start + step) % RANGES * IDS)
        .find(|base| !taken.iter().any(|(from, to)| *base <= *to && *from < base + IDS) && !in_use(*base))
        .ok_or(LeaseError::Exhausted)?;
    write(&folder, &path, name.as_str(), base)?;
    Ok(base)
}

/// Makes the folders of the leases, each of them durable before something in it can be.
fn make_folders(state: &Path, folder: &Path) -> Result<(), LeaseError> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|path| path.starts_with(state) && !path.exists()).collect();
    for path in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make", path)(error));
            }
            _ => {}
        }
        if let Some(parent) = path.parent() {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("sync", parent))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<u32>, LeaseError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let good =
        |base: &u32| *base >= FIRST && (base - FIRST).is_multiple_of(IDS) && (base - FIRST) / IDS < RANGES;
    match text.trim().parse().ok().filter(good) {
        Some(base) => Ok(Some(base)),
        None => Err(LeaseError::Damaged { path: path.to_owned() }),
    }
}

/// Ranges that are somebody's, first and last id: other containers', and those that /etc/subuid and
/// /etc/subgid give away.
fn taken(folder: &Path) -> Result<Vec<(u32, u32)>, LeaseError> {
    let mut taken = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        let entry = entry.map_err(failed("list", folder))?;
        // Only leases: what is being written has a dot before its name, and an editor's copy isn't one either.
        let is_lease = entry.file_name().to_str().is_some_and(|name| name.parse::<ContainerName>().is_ok());
        match read(&entry.path()) {
            Ok(base) if is_lease => taken.extend(base.map(|base| (base, base + (IDS - 1)))),
            // A damaged one stops its own container, and no other.
            Ok(_) | Err(LeaseError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        // Without the file nobody has been given any.
        for line in fs::read_to_string(file).unwrap_or_default().lines() {
            let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u32>());
            if let (Some(Ok(first)), Some(Ok(count))) = (fields.next(), fields.next()) {
                taken.push((first, first.saturating_add(count.saturating_sub(1))));
            }
        }
    }
    Ok(taken)
}

/// Whether a user has the range's first id, or systemd-nspawn runs something with the range: it keeps a lock
/// of that name (systemd's `src/nspawn/nspawn.c`, `uid_shift_pick`).
fn in_use(base: u32) -> bool {
    Path::new("/run/systemd/nspawn-uid").join(base.to_string()).exists()
        || nix::unistd::User::from_uid(base.into()).is_ok_and(|user| user.is_some())
}

fn write(folder: &Path, path: &Path, name: &str, base: u32) -> Result<(), LeaseError> {
    let aside = folder.join(format!(".{name}"));
    let put = || -> io::Result<()> {
        let mut file = File::create(&aside)?;
        writeln!(file, "{base}")?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        File::open(folder)?.sync_all()
    };
    put().map_err(failed("write", path))
}

/// Spreads names over the ranges, the same on every host (FNV-1a, 32 bits), so that a container's files
/// mostly have the same ids wherever it is declared.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContainerName {
        text.parse().expect("a good name")
    }

    #[test]
    fn a_lease_stays_and_is_nobody_elses() {
        let state = tempfile::tempdir().expect("a folder");
        let mut bases: Vec<u32> =
            (0..200).map(|n| ids(state.path(), &name(&format!("c{n}"))).expect("a lease")).collect();
        assert_eq!(ids(state.path(), &name("c7")).expect("a lease"), bases[7]);
        assert!(bases.iter().all(|base| base.is_multiple_of(IDS) && *base >= FIRST));
        bases.sort_unstable();
        bases.dedup();
        assert_eq!(bases.len(), 200);
    }

    #[test]
    fn a_collision_goes_to_the_next_range() {
        let state = tempfile::tempdir().expect("a folder");
        let first = ids(state.path(), &name("a")).expect("a lease");
        fs::rename(state.path().join("leases/ids/a"), state.path().join("leases/ids/b")).expect("renamed");
        let second = ids(state.path(), &name("a")).expect("a lease");
        assert_eq!((second - FIRST) / IDS, ((first - FIRST) / IDS + 1) % RANGES);
    }

    #[test]
    fn a_damaged_lease_is_named() {
        let state = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(state.path().join("leases/ids")).expect("made");
        for text in ["", "nonsense", "0", "524289", "4294967295"] {
            fs::write(state.path().join("leases/ids/a"), text).expect("written");
            let error = ids(state.path(), &name("a")).expect_err("damaged");
            assert!(matches!(error, LeaseError::Damaged { .. }), "{text:?}: {error}");
        }
    }
}
