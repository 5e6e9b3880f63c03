//! Indexes that images were pulled by: one name for the images of several machines.
//!
//! An index is kept beside the manifests, as the bytes it came in, so that the digest that people pin still names
//! the image that was chosen from it. It belongs to every image of the store that it lists, and goes with the
//! last of them.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Index, Manifest, machine_architecture};
use super::digest::Digest;
use super::error::ImageError;
use super::store::{Store, names};

/// How deep indexes may lie in indexes; two is what tools write.
pub(crate) const NESTING: usize = 4;

/// What the blobs of a store are, at one moment. They carry no kind, so each is looked at.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// Manifests of images.
    pub(crate) manifests: BTreeSet<Digest>,
    /// What each index lists.
    indexes: BTreeMap<Digest, BTreeSet<String>>,
    /// Those that aren't what their names say, or can't be read, and why. Each may have been a manifest, and what
    /// that needs isn't known.
    pub(crate) damaged: BTreeMap<Digest, String>,
}

impl Kinds {
    /// The indexes that list an image, or an index that does.
    pub(crate) fn indexes_of(&self, image: &Digest) -> Vec<Digest> {
        let mut found = vec![*image];
        for _ in 0..NESTING {
            let more = self.indexes.iter().filter(|(digest, listed)| {
                !found.contains(digest) && found.iter().any(|one| listed.contains(&one.to_string()))
            });
            let more: Vec<_> = more.map(|(digest, _)| *digest).collect();
            found.extend(more);
        }
        found.split_off(1)
    }
}

impl Store {
    /// Looks at all blobs.
    pub(crate) fn kinds(&self) -> Result<Kinds, ImageError> {
        let mut kinds = Kinds::default();
        for name in names(&self.path("blobs/sha256"))? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            match std::fs::read(self.path("blobs/sha256").join(&name)) {
                // Removed meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    kinds.damaged.insert(digest, format!("can't be read: {error}"));
                }
                Ok(bytes) if Digest::of(&bytes) != digest => {
                    kinds.damaged.insert(digest, "doesn't have the digest that is its name".to_owned());
                }
                Ok(bytes) if serde_json::from_slice::<Manifest>(&bytes).is_ok() => {
                    kinds.manifests.insert(digest);
                }
                Ok(bytes) => {
                    if let Ok(index) = serde_json::from_slice::<Index>(&bytes) {
                        let listed = index.manifests.into_iter().map(|listed| listed.digest);
                        kinds.indexes.insert(digest, listed.collect());
                    }
                }
            }
        }
        Ok(kinds)
    }

    /// The image that a digest means: itself, or of an index the one that is here. Of several, this machine's.
    /// Nothing where none of an index's images is in the store.
    pub(crate) fn image_behind(&self, digest: &Digest) -> Result<Option<Digest>, ImageError> {
        self.behind(digest, NESTING)
    }

    fn behind(&self, digest: &Digest, deep: usize) -> Result<Option<Digest>, ImageError> {
        let bytes = self.blob(digest)?;
        let index = match serde_json::from_slice::<Index>(&bytes) {
            // What is both is an image: it can't stand for another one.
            Ok(index) if serde_json::from_slice::<Manifest>(&bytes).is_err() => index,
            _ => return Ok(Some(*digest)),
        };
        if deep == 0 {
            return Ok(None);
        }
        let mut listed: Vec<_> = index
            .manifests
            .iter()
            .filter_map(|descriptor| Some((descriptor.platform.as_ref(), descriptor.digest.parse().ok()?)))
            .filter(|(_, digest)| self.has_blob(digest))
            .collect();
        listed.sort_by_key(|(platform, _)| {
            platform.is_some_and(|platform| platform.architecture != machine_architecture())
        });
        for (_, digest) in listed {
            if let Some(image) = self.behind(&digest, deep - 1)? {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }
}
