//! `STATE/partial/HEX`: a blob on its way, as far as it came.
//!
//! Who fetches a blob holds its file under an exclusive flock, who only reads what is whole under a shared one;
//! who finds it locked waits. A file is removed by name when its layer is in the store, whoever may still read
//! it. What is in a file is never trusted: its digest is checked as it is unpacked, and a power cut that left
//! zeros in it costs one more download. Nothing here is synced.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::error::{OnFile, RegistryError};
use crate::image::Digest;

/// Nobody comes back for a download after so long.
pub const KEPT: Duration = Duration::from_secs(7 * 86_400);

/// A blob's file, locked.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
}

/// What became of the attempt to have it.
#[derive(Debug)]
pub(super) enum Had {
    /// Nobody else has it.
    Own(Partial),
    /// Others read it, and so it is whole.
    Whole(Partial),
    /// Somebody fetches it.
    Busy,
}

impl Partial {
    /// The file of a blob, made if need be.
    pub(super) fn have(state: &Path, digest: &Digest, size: u64) -> Result<Had, RegistryError> {
        let folder = folder(state);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).on_file("make the folder", folder);
            }
            _ => {}
        }
        let path = folder.join(digest.hex());
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path);
            let partial = Self { file: file.on_file("open", &path)?, path: path.clone() };
            let own = flock(&partial.file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if !own && flock(&partial.file, FlockOperation::NonBlockingLockShared).is_err() {
                return Ok(Had::Busy);
            }
            // Between opening and locking somebody may have removed it.
            if !partial.is_there() {
                continue;
            }
            if own {
                return Ok(Had::Own(partial));
            }
            return Ok(if partial.length()? == size { Had::Whole(partial) } else { Had::Busy });
        }
    }

    /// Lets others read it, and keeps it from being swept.
    pub(super) fn share(&self) -> Result<(), RegistryError> {
        flock(&self.file, FlockOperation::LockShared).on_file("lock", &self.path)
    }

    pub(super) fn length(&self) -> Result<u64, RegistryError> {
        Ok(self.file.metadata().on_file("look at", &self.path)?.len())
    }

    pub(super) fn empty(&self) -> Result<(), RegistryError> {
        self.file.set_len(0).on_file("shorten", &self.path)
    }

    pub(super) fn write(&self, bytes: &[u8], at: u64) -> Result<(), RegistryError> {
        self.file.write_all_at(bytes, at).on_file("write", &self.path)
    }

    pub(super) fn read(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(into, at)
    }

    /// Its name goes, unless it is another file's by now.
    pub(super) fn remove(&self) {
        if self.is_there() {
            // What can't be removed is swept later.
            let _ = fs::remove_file(&self.path);
        }
    }

    fn is_there(&self) -> bool {
        let (Ok(own), Ok(named)) = (self.file.metadata(), fs::metadata(&self.path)) else { return false };
        (own.dev(), own.ino()) == (named.dev(), named.ino())
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("partial")
}

/// Removes what nobody has and nobody wrote to for so long. Says how many bytes that were.
///
/// # Errors
/// [`RegistryError::File`] where the folder can't be read.
pub fn sweep(state: &Path, kept: Duration) -> Result<u64, RegistryError> {
    let folder = folder(state);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.on_file("read", &folder)?,
    };
    let mut bytes = 0;
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        // A time in the future, of a clock that was set back, is as good as now.
        let age = metadata.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
        if !metadata.is_file() || age.is_none_or(|age| age < kept) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = File::open(&path) else { continue };
        let partial = Partial { file, path };
        if flock(&partial.file, FlockOperation::NonBlockingLockExclusive).is_ok() && partial.is_there() {
            partial.remove();
            bytes += metadata.len();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fetches_and_others_wait_or_read() {
        let state = tempfile::tempdir().expect("a folder");
        let digest = Digest::of(b"whole");
        let have = || Partial::have(state.path(), &digest, 5).expect("opened");
        let Had::Own(first) = have() else { panic!("nobody has it") };
        assert!(matches!(have(), Had::Busy));
        first.write(b"whole", 0).expect("written");
        first.share().expect("shared");
        let Had::Whole(second) = have() else { panic!("it is whole") };
        first.remove();
        let mut read = [0; 5];
        assert_eq!(second.read(&mut read, 0).expect("read"), 5);
        let Had::Own(third) = have() else { panic!("the name is free") };
        second.remove();
        assert!(third.is_there(), "another file has the name by now");
    }

    #[test]
    fn only_what_is_old_and_nobodys_is_swept() {
        let state = tempfile::tempdir().expect("a folder");
        let [old, held, new] = ["old", "held", "new"].map(|text| Digest::of(text.as_bytes()));
        let long_ago = SystemTime::now() - KEPT * 2;
        let mut holds = Vec::new();
        for digest in [&old, &held, &new] {
            let Had::Own(partial) = Partial::have(state.path(), digest, 9).expect("opened") else {
                panic!("nobody has it")
            };
            partial.write(b"part", 0).expect("written");
            if digest != &new {
                partial.file.set_modified(long_ago).expect("set");
            }
            if digest == &held {
                holds.push(partial);
            }
        }
        assert_eq!(sweep(state.path(), KEPT).expect("swept"), 4);
        let left = |digest: &Digest| folder(state.path()).join(digest.hex()).exists();
        assert_eq!([left(&old), left(&held), left(&new)], [false, true, true]);
    }
}
