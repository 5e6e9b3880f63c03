//! Signatures in the store, and who says what may enter it. What a signature means is decided elsewhere; here
//! they are bytes.

use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::error::{Doing, ImageError};
use super::inventory::SIGNATURES;
use super::staging::Staging;
use super::store::{Store, names, sync_directory, write_file};
use crate::spec::Reference;

/// Signatures have some hundred bytes, and what is kept of a detached one has it twice as long, in digits. This is no
/// place for more.
pub(crate) const SIGNATURE_MAX: u64 = 1 << 18;

/// As many are kept for one image, and read of one.
pub(crate) const SIGNATURES_MAX: usize = 64;

/// An image that is about to enter the store.
#[derive(Clone, Debug)]
pub struct Entering {
    /// What it is going to be called.
    pub reference: Reference,
    /// The manifest's digest.
    pub digest: Digest,
    /// Signatures of it that the store has.
    pub kept: Vec<Vec<u8>>,
}

/// Who has a say in what enters the store.
pub trait Admission {
    /// Whether it wants to see the bytes of the archive.
    fn watches(&self) -> bool {
        false
    }

    /// The archive on its way in: every byte is read through the answer once, in order.
    fn watch(&self, input: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        input
    }

    /// Lets all images of an archive in, or none; gives the signatures that are to be kept, by the digests of
    /// manifests. Nothing is in the store yet.
    ///
    /// # Errors
    /// [`ImageError::Refused`], and whatever else can go wrong.
    fn admit(&self, entering: &[Entering]) -> Result<Vec<(Digest, Vec<u8>)>, ImageError>;
}

/// Lets everything in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everything;

impl Admission for Everything {
    fn admit(&self, _: &[Entering]) -> Result<Vec<(Digest, Vec<u8>)>, ImageError> {
        Ok(Vec::new())
    }
}

/// Where the signatures of an image are, below the store.
pub(crate) fn part(digest: &Digest) -> PathBuf {
    Path::new(SIGNATURES).join(digest.hex())
}

impl Store {
    /// The signatures of a manifest, in the order in which they came.
    pub fn signatures(&self, digest: &Digest) -> Vec<Vec<u8>> {
        let folder = self.path(part(digest));
        let mut numbers: Vec<u32> =
            names(&folder).unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let read = |number: &u32| {
            let mut bytes = Vec::new();
            let file = fs::File::open(folder.join(number.to_string())).ok()?;
            file.take(SIGNATURE_MAX).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        };
        numbers.iter().take(SIGNATURES_MAX).filter_map(read).collect()
    }

    /// Keeps a signature of an image that is in the store, durably.
    ///
    /// # Errors
    /// [`ImageError::Missing`]; the store can't be written to.
    pub fn keep_signature(&self, digest: &Digest, signature: &[u8]) -> Result<(), ImageError> {
        let mut staging = Staging::begin(self)?;
        staging.signature(digest, signature)?;
        staging.sync()?;
        let lock = self.lock()?;
        self.documents(digest)?;
        staging.commit_under(lock)
    }
}

impl Staging<'_> {
    /// A signature that the commit is going to keep.
    pub(crate) fn signature(&mut self, digest: &Digest, signature: &[u8]) -> Result<(), ImageError> {
        let path = self.path.join("signatures").join(self.signatures.len().to_string());
        write_file(&path, signature)?;
        self.signatures.push((*digest, path));
        Ok(())
    }

    /// Folders of signatures that the store doesn't have yet.
    pub(super) fn new_signatures(&self) -> Vec<PathBuf> {
        let parts = self.signatures.iter().map(|(digest, _)| part(digest));
        parts.filter(|part| !self.store.path(part).exists()).collect()
    }

    /// The commit's own step, under the lock: each under the first number that is free, unless it is there.
    pub(super) fn keep_signatures(&self) -> Result<(), ImageError> {
        for (digest, path) in &self.signatures {
            let bytes = fs::read(path).doing("read", path)?;
            let kept = self.store.signatures(digest);
            if kept.contains(&bytes) {
                continue;
            }
            let folder = self.store.path(part(digest));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.doing("make the directory", &folder)?,
            }
            // The new one is the one that somebody has just found good: where there is no room, the first goes.
            let free = (1..=SIGNATURES_MAX)
                .map(|number| folder.join(number.to_string()))
                .find(|path| !path.exists());
            let to = free.unwrap_or_else(|| folder.join("1"));
            fs::rename(path, &to).doing("rename into place", &to)?;
            sync_directory(&folder)?;
        }
        if !self.signatures.is_empty() {
            sync_directory(&self.store.path(SIGNATURES))?;
        }
        Ok(())
    }
}
