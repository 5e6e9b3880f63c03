//! Looking at an image where it is, without pulling it.

use serde::Serialize;

use super::client::Client;
use super::error::RegistryError;
use super::fetch::{Fetcher, is_index};
use super::place::Place;
use crate::image::{
    Descriptor, Digest, ImageConfig, ImageError, ImagePlatform, Index, Manifest, Store, machine_architecture,
};
use crate::spec::{Platform, Reference};

/// How deep indexes may lie in indexes.
const NESTING: usize = 4;

/// An image as a registry has it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seen {
    /// Where it was found: `docker.io/library/nginx:1.26`.
    pub reference: String,
    /// What the reference names: a manifest's digest, or an index's.
    pub digest: String,
    /// All that an index lists; empty where the reference names one image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Offered>,
    /// The digest of the manifest that was chosen.
    pub manifest: String,
    /// What it runs.
    pub config: ImageConfig,
    /// Bytes of all its layers, as they would be fetched.
    pub size: u64,
    /// Its layers, the lowest first.
    pub layers: Vec<SeenLayer>,
}

/// One image of an index.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Offered {
    /// `linux/arm64`; nothing where the index doesn't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The manifest's digest.
    pub digest: String,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SeenLayer {
    /// Of what would be fetched.
    pub digest: String,
    /// Bytes of that.
    pub size: u64,
    /// How it is packed.
    pub media_type: String,
    /// Of the uncompressed tar.
    pub diff_id: String,
    /// Whether the store has it, and a pull wouldn't fetch it.
    pub here: bool,
}

/// The digest of what a reference names at its registry: a manifest's, or an index's.
///
/// # Errors
/// Any [`RegistryError`].
pub fn named(client: &Client, store: &Store, reference: &Reference) -> Result<Digest, RegistryError> {
    let place = Place::of(reference, &client.settings)?;
    let endpoints = place.endpoints(&client.settings);
    Fetcher::new(client, store, &endpoints, place.to_string()).named(&place)
}

/// Reads the manifest and the config of what a reference names.
///
/// # Errors
/// Any [`RegistryError`].
pub fn look(
    client: &Client,
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Seen, RegistryError> {
    let place = Place::of(reference, &client.settings)?;
    let endpoints = place.endpoints(&client.settings);
    let fetcher = Fetcher::new(client, store, &endpoints, place.to_string());
    let root = fetcher.root(&place)?;
    let digest = Digest::of(&root.bytes);
    fetcher.keep(root.bytes);
    let malformed = |what: &str, error: serde_json::Error| ImageError::Malformed {
        what: format!("{what} of {place}"),
        why: format!("is not what it should be: {error}"),
    };
    let parsed = |descriptor: &Descriptor| -> Result<Digest, RegistryError> {
        descriptor.digest.parse().map_err(|error| {
            ImageError::Malformed { what: place.to_string(), why: format!("has a bad digest: {error}") }
                .into()
        })
    };
    let mut platforms = Vec::new();
    let mut chosen = root.descriptor;
    for _ in 0..NESTING {
        if !is_index(&chosen) {
            break;
        }
        let bytes = fetcher.document(&chosen, &parsed(&chosen)?)?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| malformed("the index", error))?;
        let offered = index.manifests.iter().map(|one| Offered {
            platform: one.platform.as_ref().map(ImagePlatform::to_string),
            digest: one.digest.clone(),
        });
        platforms.extend(offered);
        let fits = |one: &&Descriptor| one.platform.as_ref().is_none_or(|its| its.serves(platform));
        let best = index.manifests.iter().filter(fits).min_by_key(|one| one.platform.is_none());
        chosen = best.cloned().ok_or_else(|| ImageError::Platform {
            what: place.to_string(),
            wanted: platform.map_or_else(|| format!("linux/{}", machine_architecture()), ToString::to_string),
            offered: platforms.iter().filter_map(|one| one.platform.clone()).collect::<Vec<_>>().join(", "),
        })?;
    }
    let bytes = fetcher.document(&chosen, &parsed(&chosen)?)?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| malformed("the manifest", error))?;
    let bytes = fetcher.document(&manifest.config, &parsed(&manifest.config)?)?;
    let config: ImageConfig =
        serde_json::from_slice(&bytes).map_err(|error| malformed("the config", error))?;
    let layers: Vec<_> = manifest
        .layers
        .iter()
        .zip(&config.rootfs.diff_ids)
        .enumerate()
        .map(|(place, (layer, diff_id))| SeenLayer {
            digest: layer.digest.clone(),
            size: layer.size,
            media_type: layer.media_type.clone(),
            diff_id: diff_id.clone(),
            here: diff_id.parse().is_ok_and(|diff_id| store.has_layer(&diff_id, place == 0)),
        })
        .collect();
    Ok(Seen {
        reference: place.to_string(),
        digest: digest.to_string(),
        platforms,
        manifest: chosen.digest,
        config,
        size: manifest.layers.iter().map(|layer| layer.size).sum(),
        layers,
    })
}
