//! Taking away what nobody needs.
//!
//! An image stays that
//!
//! - has a reference (unless all is wished, and then one that is needed for another reason), or
//! - is named by a declared container or image, or runs, as [`Needs`] says, or
//! - has a layer mounted that no other image that stays has.
//!
//! A layer or blob stays that such an image needs, or a command under way. Where a manifest can't be read, it isn't
//! known what it needs, and all images, layers and blobs stay; where a reference can't be read, or what is needed
//! can't be found out for another reason, all images do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::digest::Digest;
use super::error::{Doing, ImageError};
use super::escape;
use super::inventory::{Inventory, Orphan, OrphanKind};
use super::staging::{Staging, pinned};
use super::store::{Store, mounted_layers, sync_directory};
use crate::spec::Reference;

/// What is needed besides references.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What is declared, and what runs, as it is written there.
    pub references: BTreeSet<Reference>,
    /// What runs, by the digests of manifests.
    pub digests: BTreeSet<Digest>,
    /// Files that declare something and can't be read: what they need isn't known, and every image stays. Each with
    /// what to type.
    pub unreadable: Vec<(String, &'static str)>,
}

/// What is to be taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Images with references, too.
    pub all: bool,
    /// Nothing yet.
    pub dry_run: bool,
}

/// An image that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Prunable {
    /// Its references, which go with it.
    pub references: Vec<String>,
    /// The manifest's digest.
    pub digest: String,
    /// Bytes on the disk of what only images have that go.
    pub size: u64,
}

/// What went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pruned {
    /// Images that nothing needs.
    pub images: Vec<Prunable>,
    /// What is left of others.
    pub orphans: Vec<Orphan>,
    /// Bytes on the disk of all of it.
    pub size: u64,
    /// What would go, and why it doesn't.
    pub kept: Vec<String>,
}

impl Store {
    /// Takes away what nobody needs. It is safe beside imports, whose layers are pinned, and beside starts, which
    /// hold the layers that they have found.
    ///
    /// # Errors
    /// The store can't be read or written to.
    pub fn prune(&self, needs: &Needs, wish: Wish) -> Result<Pruned, ImageError> {
        if !self.path("").is_dir() {
            return Ok(Pruned::default());
        }
        if wish.dry_run {
            // A look needs no lock that can't be had.
            let _lock = self.lock().ok();
            return Ok(self.prunable(needs, wish)?.0);
        }
        let staging = Staging::begin(self)?;
        let lock = self.lock()?;
        // No start may be between finding its layers and mounting them.
        let _nobody = self.usage(FlockOperation::LockExclusive)?;
        let (mut pruned, dead) = self.prunable(needs, wish)?;
        // From here on a crash leaves things that nothing names: the note lets the next command find them. Without
        // room for a note they are orphans, which the next prune finds: this is how a full disk gets room.
        match staging.note(&dead) {
            Err(ImageError::Full { .. }) => {}
            other => other?,
        }
        for reference in pruned.images.iter().flat_map(|image| &image.references) {
            let path = self.path("refs").join(escape::file_name(reference));
            fs::remove_file(&path).doing("remove", &path)?;
        }
        sync_directory(&self.path("refs"))?;
        staging.take(&dead)?;
        let mut others = Vec::new();
        pruned.orphans.retain(|orphan| {
            let goes = match orphan.kind {
                OrphanKind::Partial => ours(&self.path(&orphan.path)),
                _ => true,
            };
            if goes && matches!(orphan.kind, OrphanKind::Partial | OrphanKind::SetAside) {
                others.push(orphan.path.clone());
            }
            goes
        });
        staging.take(&others)?;
        drop(lock);
        staging.discard()?;
        Ok(pruned)
    }

    /// What goes, and its parts of the store that a note can hold.
    fn prunable(&self, needs: &Needs, wish: Wish) -> Result<(Pruned, Vec<PathBuf>), ImageError> {
        let inventory = Inventory::read(self)?;
        let mounted = mounted_layers();
        let is_mounted = |part: &Path| {
            let name = part.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            part.starts_with("layers") && name.get(..64).is_some_and(|layer| mounted.contains(layer))
        };
        let mut pruned = Pruned::default();
        let mut candidates = self.candidates(&inventory, needs, wish, &mut pruned.kept);
        let pinned: BTreeSet<PathBuf> = pinned(self)?.into_iter().collect();
        let mut dead = loop {
            let dead = dead(&inventory, &candidates, &pinned);
            let uses = |digest: &Digest| {
                inventory.images[digest].iter().any(|part| dead.contains(part) && is_mounted(part))
            };
            let Some(used) = candidates.iter().copied().find(uses) else { break dead };
            candidates.remove(&used);
            pruned.kept.push(format!("{} is in use", inventory.names_of(&used).join(", ")));
        };
        dead.retain(|part| self.path(part).exists());
        let sizes: BTreeMap<&PathBuf, u64> = dead.iter().map(|part| (part, self.part_size(part))).collect();
        for digest in &candidates {
            let parts = &inventory.images[digest];
            pruned.images.push(Prunable {
                references: inventory
                    .references
                    .iter()
                    .filter(|(_, named)| *named == digest)
                    .map(|(name, _)| name.clone())
                    .collect(),
                digest: digest.to_string(),
                size: parts.iter().filter_map(|part| sizes.get(part)).sum(),
            });
        }
        pruned.size = sizes.values().sum();
        for orphan in inventory.orphans(self)? {
            if orphan.young && !wish.all {
                pruned.kept.push(format!(
                    "{} is a download that broke off less than a week ago, and may be gone on with",
                    orphan.path.display()
                ));
            } else if is_mounted(&orphan.path) {
                pruned.kept.push(format!("{} is in use", orphan.path.display()));
            } else {
                pruned.size += orphan.size;
                if !matches!(orphan.kind, OrphanKind::Partial | OrphanKind::SetAside) {
                    dead.insert(orphan.path.clone());
                }
                pruned.orphans.push(orphan);
            }
        }
        Ok((pruned, dead.into_iter().collect()))
    }

    /// Images that nothing needs by name.
    fn candidates(
        &self,
        inventory: &Inventory,
        needs: &Needs,
        wish: Wish,
        kept: &mut Vec<String>,
    ) -> BTreeSet<Digest> {
        let named: BTreeSet<&Digest> = inventory.references.values().collect();
        let mut needed = needs.digests.clone();
        let mut doubt = None;
        for reference in &needs.references {
            match self.digest_of(reference) {
                Ok(digest) => {
                    needed.insert(digest);
                }
                Err(ImageError::Missing { .. }) => {}
                Err(error) => doubt = Some((reference, super::error::chain(&error))),
            }
        }
        let candidates: BTreeSet<Digest> = inventory
            .images
            .keys()
            .filter(|digest| (wish.all || !named.contains(digest)) && !needed.contains(digest))
            .copied()
            .collect();
        if let Some((name, why)) = inventory.unknown() {
            kept.push(format!(
                "every image and layer stays, since what {name} needs can't be told: {why}; type: wharf fsck --repair"
            ));
            return BTreeSet::new();
        }
        if candidates.is_empty() {
            return candidates;
        }
        if let Some((part, why)) = &inventory.unknown_reference {
            kept.push(format!("every image stays, since {part} {why}; type: wharf fsck --repair"));
            return BTreeSet::new();
        }
        if let Some((reference, why)) = doubt {
            kept.push(format!(
                "every image stays, since what {reference} is can't be told: {why}; type: wharf fsck --repair"
            ));
            return BTreeSet::new();
        }
        if let Some((file, way_out)) = needs.unreadable.first() {
            kept.push(format!("every image stays, since what {file} needs can't be told; type: {way_out}"));
            return BTreeSet::new();
        }
        candidates
    }
}

/// What only these images need.
fn dead(
    inventory: &Inventory,
    candidates: &BTreeSet<Digest>,
    pinned: &BTreeSet<PathBuf>,
) -> BTreeSet<PathBuf> {
    let (go, stay): (Vec<_>, Vec<_>) =
        inventory.images.iter().partition(|(digest, _)| candidates.contains(digest));
    let needed: BTreeSet<&PathBuf> = stay.iter().flat_map(|(_, parts)| parts.iter()).collect();
    let all = go.into_iter().flat_map(|(_, parts)| parts.iter());
    all.filter(|part| !needed.contains(part) && !pinned.contains(*part)).cloned().collect()
}

/// Whether nobody goes on with a download. Who takes its lock later must look whether it is still there.
fn ours(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}
