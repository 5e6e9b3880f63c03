//! Leases: what a container has of the host for as long as it is declared.
//!
//! ```text
//! /var/lib/wharf/leases/
//!     lock              held (flock) while a lease is made
//!     ids/NAME          the first id of NAME's range of 65,536, in decimal
//!     pools             the host's pools of addresses: an IPv4 and an IPv6 network, chosen at the first lease
//!     addresses/NAME    NAME's number in the pools, in decimal: its place in both of them
//! ```
//!
//! A lease is written beside its place, synced and renamed there, and then its folder is synced: after a
//! power cut it is there whole or not at all. Finding a lease takes no lock. Leases of containers that are
//! declared no more stay, so that a file that was taken away for a day finds its data's owners and its
//! address again. Those of what `wharf run` has started go with it.

mod addresses;
mod ids;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::spec::ContainerName;

pub use addresses::{Lease, Pools, addresses, chosen, leased};
pub use ids::{IDS, found_ids, given_in, ids, leased_ids};

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
    /// A lease holds something else than it should.
    #[error("{} does not hold {what}; remove the file, and the next start makes a new lease", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// All are taken.
    #[error("every {0} is taken")]
    Exhausted(String),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LeaseError {
    let path = path.to_owned();
    move |source| LeaseError::Io { action, path, source }
}

/// A kind of lease: a folder with a file for each container, which holds one number.
struct Book {
    folder: PathBuf,
    lock: PathBuf,
    /// What a file holds, for people.
    what: &'static str,
    good: Box<dyn Fn(u32) -> bool>,
}

impl Book {
    fn new(state: &Path, kind: &str, what: &'static str, good: impl Fn(u32) -> bool + 'static) -> Self {
        let leases = state.join("leases");
        Self { folder: leases.join(kind), lock: leases.join("lock"), what, good: Box::new(good) }
    }

    /// A container's lease, if it has one.
    fn find(&self, name: &str) -> Result<Option<u32>, LeaseError> {
        let path = self.folder.join(name);
        let Some(text) = read(&path)? else { return Ok(None) };
        match text.trim().parse().ok().filter(|number| (self.good)(*number)) {
            Some(number) => Ok(Some(number)),
            None => Err(LeaseError::Damaged { path, what: self.what }),
        }
    }

    /// Takes the lock for as long as the file is open, the folders made and durable.
    fn lock(&self, state: &Path) -> Result<File, LeaseError> {
        make_folders(state, &self.folder)?;
        let lock = File::create(&self.lock).map_err(failed("open", &self.lock))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(io::Error::from)
            .map_err(failed("lock", &self.lock))?;
        Ok(lock)
    }

    /// Every lease, with its container's name.
    fn all(&self) -> Result<Vec<u32>, LeaseError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed("list", &self.folder))? {
            let entry = entry.map_err(failed("list", &self.folder))?;
            // Only leases: what is being written has a dot before its name, and an editor's copy isn't one
            // either.
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.parse::<ContainerName>().is_ok()) else {
                continue;
            };
            match self.find(name) {
                Ok(number) => all.extend(number),
                // A damaged one stops its own container, and no other.
                Err(LeaseError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Makes a lease durable.
    fn keep(&self, name: &str, number: u32) -> Result<(), LeaseError> {
        write(&self.folder, name, &format!("{number}\n"))
    }
}

fn read(path: &Path) -> Result<Option<String>, LeaseError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), LeaseError> {
    let path = folder.join(name);
    let aside = folder.join(format!(".{name}"));
    let put = || -> io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(folder)?.sync_all()
    };
    put().map_err(failed("write", &path))
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

/// What is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A range of ids.
    Ids,
    /// A number within the pools of addresses.
    Addresses,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ids, Self::Addresses];

    /// Its word, which is its folder's name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ids => ids::KIND,
            Self::Addresses => addresses::KIND,
        }
    }

    /// Whether there is a lease of it under this name.
    pub fn is_known(self, state: &Path, name: &ContainerName) -> bool {
        state.join("leases").join(self.word()).join(name.as_str()).exists()
    }
}

/// Takes some of a container's leases back. Nothing is synced: one that comes again with a power cut is only a lease
/// more.
///
/// # Errors
/// A file that can't be locked or removed.
pub fn release(state: &Path, name: &ContainerName, kinds: &[Kind]) -> Result<(), LeaseError> {
    let leases = state.join("leases");
    if !kinds.iter().any(|kind| kind.is_known(state, name)) {
        return Ok(());
    }
    let path = leases.join("lock");
    let lock = File::create(&path).map_err(failed("open", &path))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(io::Error::from)
        .map_err(failed("lock", &path))?;
    for kind in kinds {
        let path = leases.join(kind.word()).join(name.as_str());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Spreads names over ranges and addresses, the same on every host (FNV-1a, 32 bits), so that a container
/// mostly has the same ids and number wherever it is declared.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
