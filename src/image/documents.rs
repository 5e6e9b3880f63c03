//! An image's documents whole, as the bytes that its digests are of; and what they say of its past.

use serde::{Deserialize, Serialize};

use super::config::ImageConfig;
use super::digest::Digest;
use super::error::ImageError;
use super::manifest::Summary;
use super::staging::Staging;
use super::store::Store;
use crate::spec::Reference;

/// Manifest, config and layers of an image of the store.
#[derive(Clone, Debug)]
pub struct Documents {
    /// The manifest's digest.
    pub digest: Digest,
    /// As it came.
    pub manifest_bytes: Vec<u8>,
    /// The config's digest.
    pub config_digest: Digest,
    /// As it came.
    pub config_bytes: Vec<u8>,
    /// What it says.
    pub config: ImageConfig,
    /// The layers, the lowest first.
    pub diff_ids: Vec<Digest>,
}

impl Documents {
    /// The layers, and whether each is at the bottom.
    pub fn layers(&self) -> impl Iterator<Item = (Digest, bool)> {
        self.diff_ids.iter().enumerate().map(|(index, diff_id)| (*diff_id, index == 0))
    }
}

/// How an image came to be what it is: one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Past {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what command; empty where nobody wrote it down.
    pub created_by: String,
    /// What was said about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The layer that it made; nothing for a step that only changed the config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<String>,
    /// Bytes of that layer's files.
    pub size: u64,
}

/// As in a config (OCI image specification, "Image Configuration", `history`).
#[derive(Deserialize)]
struct History {
    #[serde(default)]
    history: Option<Vec<Entry>>,
}

#[derive(Default, Deserialize)]
struct Entry {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

impl Store {
    /// The documents of an image.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn documents_of(&self, reference: &Reference) -> Result<Documents, ImageError> {
        self.documents_by_digest(&self.digest_of(reference)?)
    }

    /// The same, for who knows the manifest's digest.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn documents_by_digest(&self, digest: &Digest) -> Result<Documents, ImageError> {
        let (manifest, config) = self.documents(digest)?;
        let diff_ids = self.diff_ids(digest, &config)?;
        // Of this form, or it couldn't have been read.
        let config_digest =
            manifest.config.digest.parse::<Digest>().map_err(|error| ImageError::Malformed {
                what: format!("the manifest {digest}"),
                why: format!("names its config wrongly: {error}"),
            })?;
        Ok(Documents {
            digest: *digest,
            manifest_bytes: self.blob(digest)?,
            config_digest,
            config_bytes: self.blob(&config_digest)?,
            config,
            diff_ids,
        })
    }

    /// Keeps layers in the store until the answer is dropped. Nothing where the store can't be written to, and so
    /// nothing be removed from it.
    pub(crate) fn pin(
        &self,
        layers: impl IntoIterator<Item = (Digest, bool)>,
    ) -> Result<Option<Staging<'_>>, ImageError> {
        let staging = match Staging::begin(self) {
            Err(ImageError::ReadOnly { .. }) => return Ok(None),
            other => other?,
        };
        for (diff_id, bottom) in layers {
            staging.pin_layer(&diff_id, bottom)?;
        }
        Ok(Some(staging))
    }

    /// The counts of a layer.
    pub(crate) fn summary(&self, diff_id: &Digest, bottom: bool) -> Result<Summary, ImageError> {
        Summary::read(&self.layer_path(diff_id, bottom))
    }

    /// Whether a layer is there, and can be written again.
    pub(crate) fn must_have_frame(&self, diff_id: &Digest, bottom: bool) -> Result<(), ImageError> {
        let layer = self.layer_path(diff_id, bottom);
        if !layer.join("tree").is_dir() {
            return Err(ImageError::Damaged { path: layer.join("tree"), why: "is missing".to_owned() });
        }
        if !layer.join("frame").exists() {
            return Err(ImageError::NoFrame { layer: diff_id.to_string() });
        }
        Ok(())
    }

    /// The steps in which an image was made, the last first.
    ///
    /// # Errors
    /// As [`Store::inspect`].
    pub fn history(&self, reference: &Reference) -> Result<Vec<Past>, ImageError> {
        let image = self.documents_of(reference)?;
        let history = serde_json::from_slice::<History>(&image.config_bytes);
        let entries = history.ok().and_then(|history| history.history).unwrap_or_default();
        let mut layers = image.layers();
        let mut past = Vec::new();
        let mut step = |entry: Entry, layer: Option<(Digest, bool)>| -> Result<(), ImageError> {
            let size = layer.map(|(diff_id, bottom)| self.summary(&diff_id, bottom)).transpose()?;
            past.push(Past {
                created: entry.created,
                created_by: entry.created_by.unwrap_or_default(),
                comment: entry.comment.unwrap_or_default(),
                diff_id: layer.map(|(diff_id, _)| diff_id.to_string()),
                size: size.map_or(0, |summary| summary.bytes),
            });
            Ok(())
        };
        for entry in entries {
            let layer = if entry.empty_layer == Some(true) { None } else { layers.next() };
            step(entry, layer)?;
        }
        // Nobody wrote down where these came from.
        for layer in layers {
            step(Entry::default(), Some(layer))?;
        }
        past.reverse();
        Ok(past)
    }
}
