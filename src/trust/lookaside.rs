//! Where signatures of a registry's images are: a lookaside, in a folder or on a web server.

use std::io;
use std::path::{Path, PathBuf};

use super::identity::{host, lookaside_path};
use super::{SIGNATURE_MAX, TrustError, read_small};
use crate::image::Digest;
use crate::settings::Settings;

/// More than anybody signs one image.
const SIGNATURES_MAX: usize = 64;

/// Gets the bytes of a URL, at most so many; nothing where there is nothing (404).
pub type Fetch<'a> = dyn Fn(&str, u64) -> io::Result<Option<Vec<u8>>> + 'a;

/// The folder for an image's signatures below a lookaside in a folder.
pub fn folder_in(lookaside: &Path, repository: &str, digest: &Digest) -> PathBuf {
    lookaside.join(lookaside_path(repository, digest))
}

/// What a lookaside has for an image.
pub(super) struct Served {
    /// The place that was looked at.
    pub(super) place: String,
    pub(super) signatures: Vec<Vec<u8>>,
}

/// The signatures of an image; nothing where no lookaside is set for its registry.
pub(super) fn signatures(
    settings: &Settings,
    repository: &str,
    digest: &Digest,
    fetch: &Fetch<'_>,
) -> Result<Option<Served>, TrustError> {
    let Some(base) =
        settings.registries.get(&host(repository)).and_then(|registry| registry.signatures.as_ref())
    else {
        return Ok(None);
    };
    let place = format!("{}/{}", base.trim_end_matches('/'), lookaside_path(repository, digest));
    let mut found = Vec::new();
    // They are numbered from 1 on, without gaps.
    for number in 1..=SIGNATURES_MAX {
        let address = format!("{place}/signature-{number}");
        let bytes = if base.starts_with("http://") || base.starts_with("https://") {
            fetch(&address, SIGNATURE_MAX)
        } else {
            read(Path::new(address.strip_prefix("file://").unwrap_or(&address)))
        };
        match bytes {
            Ok(Some(bytes)) => found.push(bytes),
            Ok(None) => break,
            Err(source) => return Err(TrustError::Lookaside { place: address, source }),
        }
    }
    Ok(Some(Served { place, signatures: found }))
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read_small(path, SIGNATURE_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
