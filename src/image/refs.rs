//! References: `refs/NAME`, one small file each, by which images are called.
//!
//! One that can't be understood (empty, cut short, a folder, not UTF-8) may have named any image of the store. It is
//! told wherever references are told, and stops nothing that has to do with other references; but nothing is deleted
//! meanwhile for having no name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::digest::Digest;
use super::error::{Doing, ImageError};
use super::escape;
use super::store::Store;
use crate::spec::Reference;

/// `sha256:`, 64 digits and a line end are what is written there.
const CONTENT_MAX: u64 = 256;

/// Why a file of a reference doesn't say what it names.
enum Unread {
    NotThere,
    /// A sentence, from the verb on.
    Broken(String),
}

/// All references at one moment.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// What each names.
    pub(crate) named: BTreeMap<String, Digest>,
    /// What can't be understood: where it is below the store, the reference if the name is one, and a sentence
    /// about it, from the verb on.
    pub(crate) broken: Vec<(PathBuf, Option<Reference>, String)>,
}

impl References {
    /// A file that may have named any image: where it is, and a sentence about it. What has a name that no reference
    /// has was never one.
    pub(crate) fn unknown(&self) -> Option<(&Path, &str)> {
        self.broken
            .iter()
            .find(|(_, reference, _)| reference.is_some())
            .map(|(part, _, why)| (part.as_path(), why.as_str()))
    }
}

/// Reads one of them. Whatever lies there instead of a small file doesn't hold anybody up.
fn read(path: &Path) -> Result<Digest, Unread> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename => Unread::NotThere,
        _ => Unread::Broken(format!("can't be read: {error}")),
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).map_err(|errno| broken(errno.into()))?);
    if !file.metadata().map_err(broken)?.is_file() {
        return Err(Unread::Broken("is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(CONTENT_MAX).read_to_end(&mut bytes).map_err(broken)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    text.trim_end().parse().map_err(|_| Unread::Broken("holds no digest".to_owned()))
}

impl Store {
    /// Where a reference is, below the store.
    pub(crate) fn reference_part(reference: &str) -> PathBuf {
        Path::new("refs").join(escape::file_name(reference))
    }

    pub(crate) fn read_reference(&self, reference: &Reference) -> Result<Option<Digest>, ImageError> {
        let path = self.path(Self::reference_part(&reference.to_string()));
        match read(&path) {
            Ok(digest) => Ok(Some(digest)),
            Err(Unread::NotThere) => Ok(None),
            Err(Unread::Broken(why)) => Err(ImageError::Damaged { path, why }),
        }
    }

    /// All references.
    ///
    /// # Errors
    /// The folder can't be listed.
    pub(crate) fn all_references(&self) -> Result<References, ImageError> {
        let folder = self.path("refs");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(References::default()),
            other => other.doing("read", &folder)?,
        };
        let mut all = References::default();
        for entry in entries {
            let name = entry.doing("read", &folder)?.file_name();
            let part = Path::new("refs").join(&name);
            let reference = std::str::from_utf8(name.as_bytes())
                .ok()
                .and_then(escape::unescape)
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .and_then(|text| text.parse::<Reference>().ok())
                .filter(|reference| *escape::file_name(&reference.to_string()) == *name);
            let Some(reference) = reference else {
                all.broken.push((part, None, "has a name that no reference has".to_owned()));
                continue;
            };
            match read(&self.path(&part)) {
                Ok(digest) => {
                    all.named.insert(reference.to_string(), digest);
                }
                Err(Unread::NotThere) => {}
                Err(Unread::Broken(why)) => all.broken.push((part, Some(reference), why)),
            }
        }
        all.broken.sort();
        Ok(all)
    }

    /// What the references name that can be understood.
    pub(crate) fn references(&self) -> Result<BTreeMap<String, Digest>, ImageError> {
        Ok(self.all_references()?.named)
    }
}
