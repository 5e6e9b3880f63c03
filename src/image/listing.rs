//! What the store holds: its images, and all that is known about one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::ImageConfig;
use super::digest::Digest;
use super::error::ImageError;
use super::index::Kinds;
use super::refs::References;
use super::store::Store;
use crate::spec::Reference;

/// What the store knows about one image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed {
    /// What it is called, in order; empty where only its digest names it.
    pub references: Vec<String>,
    /// The manifest's digest.
    pub digest: String,
    /// Digests of indexes that it was pulled by, and can be named by as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<String>,
    /// As in its config.
    pub architecture: String,
    /// When it was built, if its config says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Bytes of all files of its layers.
    pub size: u64,
    /// How many layers.
    pub layers: usize,
}

/// Everything about one image, for people and programs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Details {
    /// As in the list.
    #[serde(flatten)]
    pub listed: Listed,
    /// What it runs, as its config says.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layer_details: Vec<LayerDetails>,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerDetails {
    /// The digest of its uncompressed tar.
    pub diff_id: String,
    /// Where its tree is.
    pub path: PathBuf,
    /// What was counted when it was unpacked.
    #[serde(flatten)]
    pub summary: super::manifest::Summary,
}
/// The images of a store, and what of it can't be told.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// By their first references; those without one last.
    pub images: Vec<Listed>,
    /// What is broken, a sentence each; the images are those of everything else.
    pub broken: Vec<String>,
}

impl Store {
    /// Every image that can be read, by its first reference; those without one last.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        Ok(self.listing()?.images)
    }

    /// The same, with what can't be read: a broken reference or image hides no other.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn listing(&self) -> Result<Listing, ImageError> {
        let References { named: references, broken } = self.all_references()?;
        let unsettled = super::staging::unsettled(self)?;
        let kinds = self.kinds()?;
        let mut listing = Listing::default();
        let mut say =
            |part: &Path, why: &str| listing.broken.push(format!("{} {why}", self.path(part).display()));
        for (part, _, why) in &broken {
            say(part, why);
        }
        for (reference, digest) in references.iter().filter(|(_, digest)| !kinds.manifests.contains(*digest))
        {
            let part = Self::reference_part(reference);
            // Removed since the references were read.
            if !self.path(&part).exists() {
                continue;
            }
            let is_there = self.has_blob(digest);
            say(
                &part,
                &format!(
                    "names {digest}, which is {}",
                    if is_there { "damaged" } else { "not in the store" }
                ),
            );
        }
        for digest in &kinds.manifests {
            if unsettled.contains(digest) && !references.values().any(|named| named == digest) {
                continue;
            }
            match self.listed(digest, &references, &kinds) {
                Ok((listed, ..)) => listing.images.push(listed),
                // Removed meanwhile.
                Err(_) if !self.has_blob(digest) => {}
                Err(error) => {
                    let names: Vec<_> = references
                        .iter()
                        .filter(|(_, named)| *named == digest)
                        .map(|(name, _)| name.as_str())
                        .collect();
                    let name = if names.is_empty() { digest.to_string() } else { names.join(", ") };
                    listing.broken.push(format!("{name}: {}", super::error::chain(&error)));
                }
            }
        }
        listing.images.sort_by_key(|image: &Listed| (image.references.is_empty(), image.references.clone()));
        Ok(listing)
    }

    fn listed(
        &self,
        digest: &Digest,
        references: &BTreeMap<String, Digest>,
        kinds: &Kinds,
    ) -> Result<(Listed, ImageConfig, Vec<LayerDetails>), ImageError> {
        let (_, config) = self.documents(digest)?;
        let mut layers = Vec::new();
        for (index, diff_id) in self.diff_ids(digest, &config)?.iter().enumerate() {
            let path = self.layer_path(diff_id, index == 0);
            let summary = super::manifest::Summary::read(&path)?;
            layers.push(LayerDetails { diff_id: diff_id.to_string(), path: path.join("tree"), summary });
        }
        let listed = Listed {
            references: references.iter().filter(|(_, d)| *d == digest).map(|(r, _)| r.clone()).collect(),
            digest: digest.to_string(),
            indexes: kinds.indexes_of(digest).iter().map(Digest::to_string).collect(),
            architecture: config.architecture.clone(),
            created: config.created.clone(),
            size: layers.iter().map(|layer| layer.summary.bytes).sum(),
            layers: layers.len(),
        };
        Ok((listed, config, layers))
    }

    /// Everything about one image.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn inspect(&self, reference: &Reference) -> Result<Details, ImageError> {
        let digest = self.digest_of(reference)?;
        let (listed, config, layer_details) = self.listed(&digest, &self.references()?, &self.kinds()?)?;
        Ok(Details { listed, config, layer_details })
    }
}
