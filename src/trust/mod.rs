//! Which images this host trusts: policies of `wharf.toml`, signatures and keys.
//!
//! Two kinds of signatures count. A **simple signature** is an OpenPGP message, signed and not detached, of a small
//! JSON text that names a manifest's digest and a reference; `skopeo standalone-sign` and Podman make them, and a
//! lookaside (containers-registries.d(5)) serves them. A **detached signature** beside an archive covers the
//! archive's bytes, which are hashed as they are read, once.
//!
//! What was found good at an import is kept in the store by the same commit (see `image`), so that a start can check
//! it again without a network: the simple signature itself, and of a detached one a record that it was there, since
//! the archive isn't kept. Keys are looked at anew each time: one that has expired or was revoked since, or that
//! `wharf.toml` no longer names, is trusted no more.
//!
//! # Decisions
//!
//! - **A key is looked at anew at each start**: one that has expired or was revoked since the import stops
//!   the next start. That is louder than some would like, and the only way in which taking a key back means
//!   anything.
//! - **Of a detached signature the store keeps a record**, that an archive with a good one held the image:
//!   the archive itself is gone after the import. Who could forge the record could as well change the layers.

mod archive;
mod gate;
mod identity;
mod keys;
mod lookaside;
mod sign;
mod simple;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use archive::Record;
pub use gate::{Gate, Given};
pub use keys::{Keyring, Signer};
pub use lookaside::{Fetch, folder_in};
pub use sign::{GpgError, detached, payload, sign};

use crate::image::Digest;
use crate::settings::{Policy, Settings};
use crate::spec::Reference;

/// Where the keys are.
pub const KEYS: &str = "/etc/wharf/keys";

/// Why an image isn't trusted, or it can't be told.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Keys can't be read.
    #[error("can't read the key {}: {why}", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No keys to trust.
    #[error("there are no keys in {}; put the signers' OpenPGP keys there, as `gpg --export` writes them", .0.display())]
    NoKeys(PathBuf),
    /// The policy is `digest`.
    #[error(
        "{reference} is not pinned to a digest, and this host trusts {repository} only so; write {pinned}"
    )]
    Unpinned {
        /// What was asked for.
        reference: String,
        /// Its repository, whole.
        repository: String,
        /// The way out.
        pinned: String,
    },
    /// The image isn't the one that was pinned.
    #[error("the image for {reference} has the digest {found}, and {pinned} was asked for")]
    Other {
        /// What was asked for.
        reference: String,
        /// What it must be.
        pinned: String,
        /// What it is.
        found: String,
    },
    /// The policy is `signed`, and there is no signature.
    #[error(
        "{what} is not signed, and this host trusts {repository} only with a signature; no signature of it is in \
         the store{looked}"
    )]
    Unsigned {
        /// Reference and digest.
        what: String,
        /// Its repository, whole.
        repository: String,
        /// Where else was looked.
        looked: String,
    },
    /// There are signatures, and none counts.
    #[error("no signature of {what} can be trusted: {}", .reasons.join("; "))]
    Bad {
        /// Reference and digest.
        what: String,
        /// Why, one for each.
        reasons: Vec<String>,
    },
    /// Where signatures should be can't be read.
    #[error("can't look for signatures at {place}")]
    Lookaside {
        /// A folder or a URL.
        place: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file of a signature can't be read.
    #[error("can't read the signature {}", .path.display())]
    Signature {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A signature has some hundred bytes, a file of several some kB.
pub const SIGNATURE_MAX: u64 = 1 << 16;

/// Reads a small file; whatever it is, no more of it is read than may be there.
pub(crate) fn read_small(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(std::io::Error::other(format!("it has more than {most} bytes, which are all that fit")));
    }
    Ok(bytes)
}

/// Reads a signature from a file.
///
/// # Errors
/// [`TrustError::Signature`], also for one that is far too large to be one.
pub fn signature_in(path: &Path) -> Result<Vec<u8>, TrustError> {
    read_small(path, SIGNATURE_MAX).map_err(|source| TrustError::Signature { path: path.to_owned(), source })
}

/// What makes an image trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// The policy is `any`.
    Any,
    /// The reference is pinned.
    Pinned,
    /// One of its signatures.
    Signed(Signer),
}

/// An image and the reference by which somebody wants it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// As in a container's file, or as it is going to be called.
    pub reference: &'a Reference,
    /// The manifest's digest.
    pub digest: &'a Digest,
}

impl Asked<'_> {
    fn what(&self) -> String {
        match self.reference.digest() {
            Some(_) => self.reference.to_string(),
            None => format!("{} ({})", self.reference, self.digest),
        }
    }
}

/// The keys' folder below a host's root.
pub fn keys_folder(paths: &crate::host::Paths) -> PathBuf {
    paths.host(KEYS)
}

/// Seconds since 1970, as OpenPGP counts (RFC 9580, section 3.5).
pub fn now() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// What an image goes by in signatures: its whole repository, or the short name that has none.
pub fn repository(settings: &Settings, reference: &Reference) -> String {
    settings.repository(reference).unwrap_or_else(|| reference.name().to_owned())
}

/// Whether a container may be started with an image: by the policy for it and the signatures that the store has kept. Nothing is fetched.
///
/// # Errors
/// [`TrustError`].
pub fn check(
    settings: &Settings,
    policy: &Policy,
    keys: &Path,
    asked: Asked<'_>,
    kept: &[Vec<u8>],
    now: u32,
) -> Result<Trusted, TrustError> {
    let repository = repository(settings, asked.reference);
    match policy {
        Policy::Any => Ok(Trusted::Any),
        Policy::Digest => pinned(asked, repository),
        Policy::Signed { keys: names } => {
            let keyring = Keyring::load(keys, names)?;
            signed(&keyring, &repository, asked, kept, now).map(Trusted::Signed)
        }
    }
}

/// The policy `digest`.
fn pinned(asked: Asked<'_>, repository: String) -> Result<Trusted, TrustError> {
    if asked.reference.digest().is_some() {
        return Ok(Trusted::Pinned);
    }
    let pinned = format!("{}@{}", asked.reference.name(), asked.digest);
    Err(TrustError::Unpinned { reference: asked.reference.to_string(), repository, pinned })
}

/// The policy `signed`, by what the store has kept.
///
/// # Errors
/// [`TrustError::Unsigned`], [`TrustError::Bad`].
pub fn signed(
    keyring: &Keyring,
    repository: &str,
    asked: Asked<'_>,
    kept: &[Vec<u8>],
    now: u32,
) -> Result<Signer, TrustError> {
    let mut reasons = Vec::new();
    for bytes in kept {
        // Only the store itself writes records; what comes from outside is OpenPGP.
        let judged = match Record::parse(bytes) {
            Some(record) => record.judge(keyring, repository, asked, now),
            None => simple::judge(bytes, keyring, repository, asked, now),
        };
        match judged {
            Ok(signer) => return Ok(signer),
            Err(reason) => reasons.push(reason),
        }
    }
    if reasons.is_empty() {
        let (what, repository) = (asked.what(), repository.to_owned());
        return Err(TrustError::Unsigned { what, repository, looked: String::new() });
    }
    reasons.dedup();
    Err(TrustError::Bad { what: asked.what(), reasons })
}
