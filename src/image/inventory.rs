//! What the store holds, and what of it nothing needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::config::Manifest;
use super::digest::Digest;
use super::error::{Doing, ImageError};
use super::index::Kinds;
use super::refs::References;
use super::store::{Store, names, sync_directory};
use crate::spec::Reference;

/// Where a repair puts what it takes out of the store.
pub(crate) const ASIDE: &str = "damaged";
/// Where signatures are, by the digest of the manifest.
pub(crate) const SIGNATURES: &str = "signatures/sha256";
/// Downloads that may be gone on with.
pub(crate) const PARTIAL: &str = "partial";

/// Until then somebody may want to go on with a download that broke off.
const STALE: Duration = Duration::from_secs(7 * 86_400);

/// What something is that nothing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrphanKind {
    /// A layer of no image of the store.
    Layer,
    /// A config or an index of no image of the store.
    Blob,
    /// Signatures of an image that isn't there.
    Signatures,
    /// A download that broke off.
    Partial,
    /// What a repair has taken out of the store.
    SetAside,
}

/// Something that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Orphan {
    /// What it is.
    pub kind: OrphanKind,
    /// Where: below the store.
    pub path: PathBuf,
    /// Bytes on the disk.
    pub size: u64,
    /// Too young to be taken away: somebody may go on with it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub young: bool,
}

impl OrphanKind {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Layer => "a layer that no image needs",
            Self::Blob => "a blob that no image needs",
            Self::Signatures => "signatures of an image that is not here",
            Self::Partial => "a download that broke off",
            Self::SetAside => "set aside by a repair",
        }
    }
}

/// The store's names and images at one moment.
pub(crate) struct Inventory {
    /// What each reference names, whether it is there or not.
    pub(crate) references: BTreeMap<String, Digest>,
    /// The images whose documents can be read, and what they need, below the store.
    pub(crate) images: BTreeMap<Digest, BTreeSet<PathBuf>>,
    /// What is named as an image and can't be read, and why.
    pub(crate) broken: BTreeMap<Digest, String>,
    /// What these need as far as it can be told.
    known: BTreeMap<Digest, BTreeSet<PathBuf>>,
    /// Files of references that can't be understood: where, what they are called, and why.
    pub(crate) broken_references: Vec<(PathBuf, Option<Reference>, String)>,
    /// One of them that may name any image, and why.
    pub(crate) unknown_reference: Option<(String, String)>,
    kinds: Kinds,
}

impl Inventory {
    /// Reads it. Who needs it to stand still has the store's lock.
    pub(crate) fn read(store: &Store) -> Result<Self, ImageError> {
        let all = store.all_references()?;
        let unknown_reference = all.unknown().map(|(part, why)| (part.display().to_string(), why.to_owned()));
        let References { named: references, broken: broken_references } = all;
        let kinds = store.kinds()?;
        let mut images = BTreeMap::new();
        let mut broken = BTreeMap::new();
        let mut known = BTreeMap::new();
        // A damaged blob that an index lists was a manifest.
        let listed = kinds.damaged.keys().filter(|digest| !kinds.indexes_of(digest).is_empty());
        let named = kinds.manifests.iter().chain(references.values());
        let all: BTreeSet<Digest> = named.chain(listed).copied().collect();
        for digest in all {
            match store.parts(&digest, &kinds) {
                Ok(parts) => {
                    images.insert(digest, parts.into_iter().collect());
                }
                Err(error) => {
                    known.insert(digest, store.known_parts(&digest, &kinds));
                    broken.insert(digest, super::error::chain(&error));
                }
            }
        }
        Ok(Self { references, images, broken, known, broken_references, unknown_reference, kinds })
    }

    /// What keeps it from being known what is needed: a manifest, or what may have been one. The name of an image, or
    /// a part of the store; and a sentence.
    pub(crate) fn unknown(&self) -> Option<(String, &str)> {
        let image = self.broken.iter().map(|(digest, why)| (self.names_of(digest).join(", "), why.as_str()));
        let blob = |(digest, why)| (format!("blobs/sha256/{}", Digest::hex(digest)), String::as_str(why));
        image.chain(self.kinds.damaged.iter().map(blob)).next()
    }

    /// Images that no reference names: one of them may be what a broken one has named.
    pub(crate) fn unnamed(&self) -> Vec<&Digest> {
        let images = self.images.keys().chain(self.broken.keys());
        images.filter(|image| !self.references.values().any(|named| named == *image)).collect()
    }

    /// Leaves out the images that a command was bringing in or taking away when it was cut off: no list shows them, they
    /// may lack anything, and the next command that changes the store takes away what is left of them.
    pub(crate) fn leave_out_unsettled(&mut self, store: &Store) -> Result<(), ImageError> {
        for digest in super::staging::unsettled(store)? {
            if !self.references.values().any(|named| *named == digest) {
                self.images.remove(&digest);
                self.broken.remove(&digest);
            }
        }
        Ok(())
    }

    /// The images that have this part, by their references or, without one, by their digests.
    pub(crate) fn images_with(&self, part: &Path) -> Vec<String> {
        let mut names = Vec::new();
        for (digest, parts) in &self.images {
            let own = Path::new("blobs/sha256").join(digest.hex());
            if parts.contains(part) || own == part {
                names.extend(self.names_of(digest));
            }
        }
        let broken = self.known.iter().filter(|(_, parts)| parts.contains(part));
        names.extend(broken.flat_map(|(digest, _)| self.names_of(digest)));
        names
    }

    /// What an image is called.
    pub(crate) fn names_of(&self, digest: &Digest) -> Vec<String> {
        let names: Vec<_> =
            self.references.iter().filter(|(_, d)| *d == digest).map(|(name, _)| name.clone()).collect();
        if names.is_empty() { vec![digest.to_string()] } else { names }
    }

    /// What neither an image nor a command under way needs. Where something can't be read, what it needs isn't
    /// known, and no layer or blob is called an orphan.
    pub(crate) fn orphans(&self, store: &Store) -> Result<Vec<Orphan>, ImageError> {
        let mut orphans = Vec::new();
        let mut add = |kind, path: PathBuf, young| {
            let size = store.part_size(&path);
            orphans.push(Orphan { kind, path, size, young });
        };
        let needed: BTreeSet<&PathBuf> = self.images.values().flatten().collect();
        let pinned = super::staging::pinned(store)?;
        if self.unknown().is_none() {
            for name in names(&store.path("layers"))? {
                let path = Path::new("layers").join(&name);
                if is_layer(&name) && !needed.contains(&path) && !pinned.contains(&path) {
                    add(OrphanKind::Layer, path, false);
                }
            }
            for name in names(&store.path("blobs/sha256"))? {
                let path = Path::new("blobs/sha256").join(&name);
                // Indexes are among what their images need.
                if Digest::from_hex(&name).is_ok() && !needed.contains(&path) {
                    add(OrphanKind::Blob, path, false);
                }
            }
        }
        for name in names(&store.path(SIGNATURES))? {
            let of_image = Digest::from_hex(&name)
                .is_ok_and(|digest| self.images.contains_key(&digest) || self.broken.contains_key(&digest));
            if !of_image {
                add(OrphanKind::Signatures, Path::new(SIGNATURES).join(name), false);
            }
        }
        for name in names(&store.path(PARTIAL))? {
            let path = Path::new(PARTIAL).join(name);
            if let Some(age) = unlocked_age(&store.path(&path)) {
                add(OrphanKind::Partial, path, age < STALE);
            }
        }
        for name in names(&store.path(ASIDE))? {
            add(OrphanKind::SetAside, Path::new(ASIDE).join(name), false);
        }
        Ok(orphans)
    }
}

/// Whether a name in `layers/` is a layer's.
pub(crate) fn is_layer(name: &str) -> bool {
    Digest::from_hex(name.strip_suffix("-bottom").unwrap_or(name)).is_ok()
}

/// A folder of its own for what goes, so that no name is in the way.
pub(crate) fn room(store: &Store) -> Result<PathBuf, ImageError> {
    let make = |path: &Path| match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.doing("make the directory", path),
    };
    make(&store.path(ASIDE))?;
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let below = Path::new(ASIDE).join(format!("{time:x}"));
    make(&store.path(&below))?;
    sync_directory(&store.path(ASIDE))?;
    sync_directory(&store.path(""))?;
    Ok(below)
}

/// Moves a part of the store out of the way, durably.
pub(crate) fn set_aside(store: &Store, part: &Path) -> Result<PathBuf, ImageError> {
    let to = room(store)?.join(part.file_name().unwrap_or_default());
    let from = store.path(part);
    fs::rename(&from, store.path(&to)).doing("move out of the way", &from)?;
    sync_directory(store.path(&to).parent().unwrap_or(Path::new("/")))?;
    sync_directory(from.parent().unwrap_or(Path::new("/")))?;
    Ok(to)
}

/// How long nothing has been written to a file; nothing where somebody holds its lock.
fn unlocked_age(path: &Path) -> Option<Duration> {
    let file = File::open(path).ok()?;
    flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
    let changed = file.metadata().ok()?.modified().ok()?;
    Some(SystemTime::now().duration_since(changed).unwrap_or_default())
}

impl Store {
    /// The parts of an image in the forms that it uses: of a layer the plain one or the one for the bottom.
    pub(crate) fn parts_as_used(
        &self,
        digest: &Digest,
        kinds: &Kinds,
    ) -> Result<BTreeSet<PathBuf>, ImageError> {
        let parts = self.parts(digest, kinds)?;
        let layers = self.layers_as_used(digest)?;
        let others = parts.into_iter().filter(|part| !part.starts_with("layers") && self.path(part).exists());
        Ok(others.chain(layers).collect())
    }

    /// What of an image's parts can be told though it can't be read as a whole.
    fn known_parts(&self, digest: &Digest, kinds: &Kinds) -> BTreeSet<PathBuf> {
        let blob = |digest: &Digest| Path::new("blobs/sha256").join(digest.hex());
        let mut parts = BTreeSet::from([blob(digest)]);
        parts.extend(kinds.indexes_of(digest).iter().map(blob));
        let manifest = self.blob(digest).ok();
        let manifest = manifest.and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok());
        parts.extend(manifest.and_then(|manifest| manifest.config.digest.parse().ok()).as_ref().map(blob));
        parts
    }

    /// The layers of an image below the store, the lowest first.
    pub(crate) fn layers_as_used(&self, digest: &Digest) -> Result<Vec<PathBuf>, ImageError> {
        let (_, config) = self.documents(digest)?;
        let layers = self.diff_ids(digest, &config)?;
        let used = layers.iter().enumerate().map(|(index, diff_id)| {
            let path = self.layer_path(diff_id, index == 0);
            Path::new("layers").join(path.file_name().unwrap_or_default())
        });
        Ok(used.collect())
    }
}
