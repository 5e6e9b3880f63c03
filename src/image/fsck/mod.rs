//! Whether the store is what it was when it was written: blobs by their names, layers by their manifests.
//!
//! Nothing is locked while files are read, which takes long: what is removed meanwhile is seen to be gone, and
//! no damage then; what is imported meanwhile isn't looked at. Names and orphans are read under the store's lock,
//! so that no half of a commit is taken for an orphan. Volumes and leases are none of its business.

mod attributes;
mod layer;
mod repair;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

pub use self::repair::{Again, Anew, Mending, Outside, Repaired, repair};

use self::layer::{Checked, How, Wrong, WrongKind};
use super::digest::Digest;
use super::error::{ImageError, chain};
use super::escape::field;
use super::implied;
use super::inventory::{Inventory, Orphan, is_layer};
use super::manifest::Summary;
use super::store::{Store, names};
use super::usage::in_parallel;

/// What may lie in a layer's folder. The last two are what it takes to write the layer's tar again.
const OF_A_LAYER: [&str; 6] = ["tree", "manifest", implied::LIST, "summary", "frame", "aside"];

/// What is to be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thoroughness {
    /// Presence, types and sizes only; nothing is hashed.
    pub quick: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Presence and sizes only.
    pub quick: bool,
    /// How many images there are.
    pub images: usize,
    /// How many references.
    pub references: usize,
    /// How many blobs were looked at.
    pub blobs: usize,
    /// How many layers.
    pub layers: usize,
    /// How many of them can be written out as the tar that they came from.
    pub frames: usize,
    /// How many files, folders and links of layers.
    pub files: u64,
    /// How many bytes of files.
    pub bytes: u64,
    /// What is not as it should be, by its place.
    pub damage: Vec<Damage>,
    /// What nothing needs. That is no damage.
    pub orphans: Vec<Orphan>,
    /// What commands that were cut off have left; the next that changes the store takes it away.
    pub leftovers: Vec<PathBuf>,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Damage {
    /// Which part of the store, below it: `layers/HEX`, `blobs/sha256/HEX`, `refs/NAME`.
    pub part: PathBuf,
    /// The file of a layer, as the layer's manifest writes it: percent signs for bytes that can't be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What is wrong: sentences, from the verb on.
    pub what: Vec<String>,
    /// The images that have it, by their references.
    pub images: Vec<String>,
    /// What can be done about it.
    #[serde(skip)]
    pub(crate) cure: Cure,
}

/// What a repair has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cure {
    /// The manifest of its layer knows how it should be.
    Attributes(Vec<u8>),
    /// It goes: a file of a layer's tree, or something of the store's own folders.
    Aside(Option<Vec<u8>>),
    /// It is a layer's list of implied folders, which is made from the layer's manifest.
    List,
    /// It has to come from outside once more.
    Again,
    /// It is a reference that may have named one of these images, which no other one names.
    Name(crate::spec::Reference, Vec<Digest>),
}

impl Report {
    /// Whether nothing is damaged. Orphans and leftovers are no damage.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }
}

/// How many bytes a check is going to read.
pub fn bytes_to_check(store: &Store) -> u64 {
    let layers = names(&store.path("layers")).unwrap_or_default();
    layers
        .iter()
        .filter_map(|name| Summary::read(&store.path("layers").join(name)).ok())
        .map(|s| s.bytes)
        .sum()
}

/// Checks a store. `progress` is told how many bytes were passed since the last time, from several threads.
///
/// # Errors
/// The store can't be listed. What is wrong with something in it is in the report.
pub fn check(
    store: &Store,
    thoroughness: Thoroughness,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report, ImageError> {
    let mut report = Report { quick: thoroughness.quick, ..Report::default() };
    // On a file system that can't be written to nothing can be locked, and nothing changes.
    let lock = store.path("").is_dir().then(|| store.lock().ok()).flatten();
    let mut inventory = Inventory::read(store)?;
    // What they have is no orphan: it is among the leftovers.
    report.orphans = inventory.orphans(store)?;
    inventory.leave_out_unsettled(store)?;
    report.leftovers = leftovers(store)?;
    references(store, &inventory, &mut report);
    let blobs = names(&store.path("blobs/sha256"))?;
    let layers = names(&store.path("layers"))?;
    needed(store, &inventory, &mut report);
    drop(lock);
    report.images = inventory.images.len() + inventory.broken.len();
    report.references = inventory.references.len() + inventory.broken_references.len();
    check_blobs(store, &inventory, &blobs, &mut report);
    for name in layers {
        check_layer(store, &inventory, &name, How { quick: thoroughness.quick, progress }, &mut report);
    }
    report.damage.sort_by(|one, other| (&one.part, &one.file).cmp(&(&other.part, &other.file)));
    Ok(report)
}

/// Folders below `incoming` that no living command holds.
fn leftovers(store: &Store) -> Result<Vec<PathBuf>, ImageError> {
    let dead = |name: &String| {
        File::open(store.path("incoming").join(name))
            .is_ok_and(|folder| flock(&folder, FlockOperation::NonBlockingLockShared).is_ok())
    };
    let names = names(&store.path("incoming"))?;
    Ok(names.into_iter().filter(dead).map(|name| Path::new("incoming").join(name)).collect())
}

fn references(store: &Store, inventory: &Inventory, report: &mut Report) {
    let unnamed = inventory.unnamed();
    for (part, reference, why) in &inventory.broken_references {
        let cure = match reference {
            Some(reference) if !unnamed.is_empty() => {
                Cure::Name(reference.clone(), unnamed.iter().copied().copied().collect())
            }
            _ => Cure::Aside(None),
        };
        let (part, what) = (part.clone(), vec![why.clone()]);
        report.damage.push(Damage { part, file: None, what, images: Vec::new(), cure });
    }
    for (reference, digest) in &inventory.references {
        if !inventory.broken.contains_key(digest) || store.has_blob(digest) {
            continue;
        }
        let part = Store::reference_part(reference);
        let what = vec![format!("names {digest}, which is not in the store")];
        let images = vec![reference.clone()];
        report.damage.push(Damage { part, file: None, what, images, cure: Cure::Again });
    }
}

/// What images need and isn't there.
fn needed(store: &Store, inventory: &Inventory, report: &mut Report) {
    for (digest, why) in &inventory.broken {
        let part = Path::new("blobs/sha256").join(digest.hex());
        if store.path(&part).exists() {
            let images = inventory.names_of(digest);
            let what = vec![format!("can't be used as the manifest that it is named as: {why}")];
            report.damage.push(Damage { part, file: None, what, images, cure: Cure::Again });
        }
    }
    let mut missing = BTreeSet::new();
    for digest in inventory.images.keys() {
        for part in store.layers_as_used(digest).unwrap_or_default() {
            if !store.path(&part).exists() {
                missing.insert(part);
            }
        }
    }
    for part in missing {
        let images = inventory.images_with(&part);
        let what = vec!["is missing".to_owned()];
        report.damage.push(Damage { part, file: None, what, images, cure: Cure::Again });
    }
}

fn check_blobs(store: &Store, inventory: &Inventory, blobs: &[String], report: &mut Report) {
    let quick = report.quick;
    let checked = in_parallel(blobs, |name| {
        let path = store.path("blobs/sha256").join(name);
        let Ok(digest) = Digest::from_hex(name) else {
            return Some((vec!["is foreign: no blob has such a name".to_owned()], Cure::Aside(None)));
        };
        let what = match fs::read(&path) {
            // Removed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => format!("can't be read: {error}"),
            Ok(bytes) if bytes.is_empty() => "is empty".to_owned(),
            Ok(_) if quick => return None,
            Ok(bytes) => {
                let found = Digest::of(&bytes);
                if found == digest {
                    return None;
                }
                format!("has other contents: {found}, and should be {digest}")
            }
        };
        Some((vec![what], Cure::Again))
    });
    report.blobs = blobs.len();
    for (name, found) in blobs.iter().zip(checked) {
        let Some((what, cure)) = found else { continue };
        let part = Path::new("blobs/sha256").join(name);
        let images = inventory.images_with(&part);
        // That its digest is another one says more than that it can't be used.
        report.damage.retain(|damage| damage.part != part);
        report.damage.push(Damage { part, file: None, what, images, cure });
    }
}

fn check_layer(store: &Store, inventory: &Inventory, name: &str, how: How<'_>, report: &mut Report) {
    let part = Path::new("layers").join(name);
    let path = store.path(&part);
    let damage = |file: Option<&[u8]>, what: Vec<String>, cure| Damage {
        part: part.clone(),
        file: file.map(field),
        what,
        images: inventory.images_with(&part),
        cure,
    };
    if !is_layer(name) {
        let what = vec!["is foreign: no layer has such a name".to_owned()];
        report.damage.push(damage(None, what, Cure::Aside(None)));
        return;
    }
    let inode = |path: &Path| fs::metadata(path).map(|metadata| metadata.ino()).ok();
    let before = inode(&path);
    let mut found = Vec::new();
    for other in names(&path).unwrap_or_default() {
        if !OF_A_LAYER.contains(&other.as_str()) {
            let part = part.join(&other);
            let what = vec!["is foreign: it is nothing that a layer has".to_owned()];
            let images = inventory.images_with(&part);
            found.push(Damage { part, file: None, what, images, cure: Cure::Aside(None) });
        }
    }
    let passed = AtomicU64::new(0);
    let counting = |bytes: u64| {
        passed.fetch_add(bytes, Ordering::Relaxed);
        (how.progress)(bytes);
    };
    match layer::check(&path, How { progress: &counting, ..how }) {
        Ok(Checked { found: wrongs, counts, list }) => {
            report.files += counts.files;
            report.bytes += counts.bytes;
            if let Some(what) = list {
                let images = inventory.images_with(&part);
                let part = part.join(implied::LIST);
                found.push(Damage { part, file: None, what: vec![what], images, cure: Cure::List });
            }
            for Wrong { path, what, kind } in wrongs {
                let cure = match kind {
                    WrongKind::Attributes => Cure::Attributes(path.clone()),
                    WrongKind::Foreign => Cure::Aside(Some(path.clone())),
                    WrongKind::Lost => Cure::Again,
                };
                found.push(damage(Some(&path), what, cure));
            }
        }
        Err(error) => {
            found.push(damage(None, vec![format!("can't be checked: {}", chain(&error))], Cure::Again))
        }
    }
    match Summary::read(&path) {
        Ok(summary) => {
            // What can't be read is passed as well.
            (how.progress)(summary.bytes.saturating_sub(passed.into_inner()));
        }
        Err(error) => {
            found.push(damage(None, vec![format!("has no summary: {}", chain(&error))], Cure::Again))
        }
    }
    // Taken out of the store meanwhile: its files went from under the check.
    if before.is_none() || inode(&path) != before {
        return;
    }
    report.layers += 1;
    report.frames += usize::from(path.join("frame").exists());
    report.damage.extend(found);
}
