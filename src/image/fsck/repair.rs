//! Putting right what a check has found.
//!
//! Modes, owners and times are set as the layer's manifest has them. What is foreign is moved to
//! `STATE/damaged`. What has lost its contents has to come from outside once more: it is imported beside the
//! store, verified, and put in the place of the damaged one by one rename (`RENAME_EXCHANGE`), so that at no moment
//! there is less than before; if it can't be had, the damaged one stays, since a part of it may be all there is.
//!
//! A reference that can't be read stays as long as it may have named an image that nothing else names, unless somebody
//! knows which one it was.
//!
//! All changes are made under the store's lock, with no start between finding its layers and mounting them, and
//! never in a layer that a running container has mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec,
    Timestamps, Uid, chownat, fsync, lgetxattr, lsetxattr, openat, openat2, renameat_with, statat, syncfs,
    utimensat,
};
use rustix::io::Errno;

use super::layer::{Expected, remove_foreign_lists};
use super::{Cure, Damage, Report};
use crate::image::digest::Digest;
use crate::image::error::{Doing, ImageError, chain};
use crate::image::implied;
use crate::image::import::{Options, Source, stage};
use crate::image::inventory::{Inventory, room, set_aside};
use crate::image::staging::Staging;
use crate::image::store::{Store, mounted_layers};
use crate::image::walk::DIRECTORY;
use crate::spec::Reference;

/// What became of the damage.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// What is as it should be now.
    pub mended: Vec<Damage>,
    /// What isn't, each with the reason or what to do.
    pub left: Vec<(Damage, String)>,
    /// Where things were moved to, below the store.
    pub aside: Vec<PathBuf>,
}

/// How an image can be had again.
pub enum Again {
    /// From there.
    Source(Source),
    /// By fetching it.
    Fetched(Box<dyn Anew>),
    /// By a person: what to type.
    Person(String),
}

/// Something that is fetched from elsewhere.
pub trait Anew {
    /// Fetches what the store doesn't have, or what is damaged there, all of it checked by digests.
    ///
    /// # Errors
    /// It can't be had, or isn't trusted.
    fn fetch<'s>(&self, store: &'s Store, into: Mending<'s>) -> Result<Mending<'s>, ImageError>;
}

/// Where it goes: beside the store, which takes only what is damaged there.
pub struct Mending<'s>(pub(crate) Staging<'s>);

/// Who knows what the store doesn't.
pub trait Outside {
    /// How an image, by one of its references or by its digest, can be had once more.
    fn again(&mut self, image: &str) -> Vec<Again>;

    /// Which of these images a reference has named, where somebody knows.
    fn named(&mut self, reference: &Reference, images: &[Digest]) -> Option<Digest>;
}

/// Repairs what a check has found.
///
/// # Errors
/// The store can't be written to or locked. What can't be repaired is in the answer.
pub fn repair(
    store: &Store,
    report: Report,
    others: &mut dyn Outside,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Repaired, ImageError> {
    let mut repaired = Repaired::default();
    // This sweeps what dead commands have left.
    let staging = Staging::begin(store)?;
    let (mut here, mut from_outside) = (Vec::new(), Vec::new());
    for damage in report.damage {
        match &damage.cure {
            Cure::Again => from_outside.push(damage),
            Cure::Attributes(_) | Cure::Aside(_) | Cure::List => here.push(damage),
            Cure::Name(reference, images) => match named(store, reference, images, others) {
                Ok(()) => repaired.mended.push(damage),
                Err(why) => repaired.left.push((damage, why)),
            },
        }
    }
    if !here.is_empty() {
        in_place(store, &staging, here, &mut repaired)?;
    }
    drop(staging);
    if !from_outside.is_empty() {
        outside(store, from_outside, others, progress, &mut repaired)?;
    }
    Ok(repaired)
}

/// Writes a broken reference anew, where it is known what it was; it stays otherwise, since as long as it is there no
/// image goes for having no name.
fn named(
    store: &Store,
    reference: &Reference,
    images: &[Digest],
    others: &mut dyn Outside,
) -> Result<(), String> {
    const SHOWN: usize = 4;
    let pinned = |digest: &Digest| format!("{}@{digest}", reference.name());
    if let Some(digest) = others.named(reference, images).filter(|digest| images.contains(digest)) {
        let image = pinned(&digest).parse::<Reference>().map_err(|error| error.to_string())?;
        return store.tag(&image, reference).map_err(|error| chain(&error));
    }
    let shown: Vec<_> = images.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = images.len().checked_sub(SHOWN + 1).map_or("", |_| ", …");
    let first = images.first().map(pinned).unwrap_or_default();
    Err(format!(
        "it may have named an image that no other reference names: {}{more}; name the right one again (wharf image \
         tag {first} {reference}), or remove them (wharf image remove {first}) and repair again",
        shown.join(", "),
    ))
}

/// The layer's part of a path of mounts, if it is one.
fn layer_of(part: &Path) -> Option<String> {
    let name = part.strip_prefix("layers").ok()?.components().next()?.as_os_str().to_str()?;
    name.get(..64).map(str::to_owned)
}

fn in_use(damage: &Damage) -> String {
    format!(
        "is mounted by a running container; stop what runs {}, and repair again",
        if damage.images.is_empty() { "it".to_owned() } else { damage.images.join(" or ") }
    )
}

fn in_place(
    store: &Store,
    staging: &Staging<'_>,
    damages: Vec<Damage>,
    repaired: &mut Repaired,
) -> Result<(), ImageError> {
    let _lock = store.lock()?;
    let _nobody = store.usage(FlockOperation::LockExclusive)?;
    let mounted = mounted_layers();
    let mut manifests: BTreeMap<PathBuf, Expected> = BTreeMap::new();
    for damage in damages {
        if layer_of(&damage.part).is_some_and(|layer| mounted.contains(&layer)) {
            let why = in_use(&damage);
            repaired.left.push((damage, why));
            continue;
        }
        let layer = store.path(&damage.part);
        let done = match &damage.cure {
            Cure::Aside(None) => set_aside(store, &damage.part).map(|to| repaired.aside.push(to)),
            Cure::Aside(Some(path)) | Cure::Attributes(path) => {
                if !manifests.contains_key(&damage.part) {
                    manifests.insert(damage.part.clone(), Expected::read(&layer)?);
                }
                let expected = &manifests[&damage.part];
                if matches!(damage.cure, Cure::Attributes(_)) {
                    attributes(&layer, path, expected)
                } else {
                    foreign(store, &layer, path, expected).map(|to| repaired.aside.push(to))
                }
            }
            Cure::List => list(staging, &layer),
            Cure::Again | Cure::Name(..) => continue,
        };
        match done {
            Ok(()) => repaired.mended.push(damage),
            Err(error) => repaired.left.push((damage, chain(&error))),
        }
    }
    let root = File::open(store.path("")).doing("open", store.path(""))?;
    syncfs(&root).doing("write everything to the disk of", store.path(""))
}

/// Makes a layer's list of implied folders once more, by way of the staging folder.
fn list(staging: &Staging<'_>, list: &Path) -> Result<(), ImageError> {
    let layer = list.parent().ok_or(Errno::INVAL).doing("find the layer of", list)?;
    let paths = Expected::read(layer)?.implied().clone();
    if paths.is_empty() {
        fs::remove_file(list).doing("remove", list)?;
    } else {
        let new = staging.path().join(implied::LIST);
        fs::write(&new, implied::text(&paths)).doing("write", &new)?;
        File::open(&new).and_then(|file| file.sync_all()).doing("sync", &new)?;
        fs::rename(&new, list).doing("rename into place", list)?;
    }
    File::open(layer).and_then(|layer| layer.sync_all()).doing("sync", layer)
}

/// The directory that a path of a layer's tree lies in, and its name there.
fn parent(layer: &Path, path: &[u8]) -> Result<(OwnedFd, CString), ImageError> {
    let tree = layer.join("tree");
    let at = path.iter().rposition(|byte| *byte == b'/');
    let (above, name) = at.map_or((&b"."[..], path), |at| (&path[..at], &path[at + 1..]));
    let root = openat(CWD, &tree, DIRECTORY, Mode::empty()).doing("open", &tree)?;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = openat2(&root, above, flags, Mode::empty(), inside).doing("open", shown(&tree, above))?;
    let name = CString::new(name).map_err(|_| Errno::INVAL).doing("open", shown(&tree, path))?;
    Ok((parent, name))
}

fn shown(tree: &Path, path: &[u8]) -> PathBuf {
    tree.join(std::ffi::OsStr::from_bytes(path))
}

/// Owner, mode and time as the manifest has them. A change of owner takes file capabilities away, so they are put
/// back; the time comes last, as everything changes it.
fn attributes(layer: &Path, path: &[u8], expected: &Expected) -> Result<(), ImageError> {
    const CAPABILITY: &std::ffi::CStr = c"security.capability";
    let whole = shown(&layer.join("tree"), path);
    let (wanted, has_mode) = expected.attributes(path).ok_or(Errno::NOENT).doing("find", &whole)?;
    let (parent, name) = parent(layer, path)?;
    let by_descriptor =
        [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let mut capability = [0; 64];
    let capability = lgetxattr(by_descriptor.as_slice(), CAPABILITY, &mut capability[..])
        .ok()
        .map(|length| capability[..length].to_vec());
    let owner = (Some(Uid::from_raw(wanted.uid)), Some(Gid::from_raw(wanted.gid)));
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    chownat(&parent, &name, owner.0, owner.1, nofollow).doing("change the owner of", &whole)?;
    if let Some(capability) = capability {
        lsetxattr(by_descriptor.as_slice(), CAPABILITY, &capability, rustix::fs::XattrFlags::empty())
            .doing("set the capabilities of", &whole)?;
    }
    remove_foreign_lists(expected, path, &by_descriptor).doing("take the access lists from", &whole)?;
    let kind = statat(&parent, &name, nofollow).doing("look at", &whole)?;
    if has_mode && FileType::from_raw_mode(kind.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(wanted.mode);
        // No link: this was seen just now, in a tree that nobody else changes.
        rustix::fs::chmodat(&parent, &name, mode, AtFlags::empty()).doing("change the mode of", &whole)?;
    }
    let time = Timespec { tv_sec: wanted.seconds, tv_nsec: wanted.nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(&parent, &name, &times, nofollow).doing("set the time of", &whole)
}

/// Moves a file out of a layer; the folder that it lay in gets its time back.
fn foreign(store: &Store, layer: &Path, path: &[u8], expected: &Expected) -> Result<PathBuf, ImageError> {
    let (directory, name) = parent(layer, path)?;
    let room = room(store)?;
    let to = openat(CWD, store.path(&room), DIRECTORY, Mode::empty()).doing("open", store.path(&room))?;
    renameat_with(&directory, &name, &to, &name, RenameFlags::NOREPLACE)
        .doing("move out of the layer", shown(&layer.join("tree"), path))?;
    fsync(&to).doing("sync", store.path(&room))?;
    fsync(&directory).doing("sync", layer)?;
    let above = path.iter().rposition(|byte| *byte == b'/').map_or(&b"."[..], |at| &path[..at]);
    attributes(layer, above, expected)?;
    Ok(room.join(std::ffi::OsStr::from_bytes(name.to_bytes())))
}

/// What has to be imported once more, image by image.
fn outside(
    store: &Store,
    damages: Vec<Damage>,
    others: &mut dyn Outside,
    progress: &(dyn Fn(u64) + Sync),
    repaired: &mut Repaired,
) -> Result<(), ImageError> {
    let mounted = mounted_layers();
    let mut wanted: Vec<Damage> = Vec::new();
    let mut words: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for damage in damages {
        if layer_of(&damage.part).is_some_and(|layer| mounted.contains(&layer)) {
            let why = in_use(&damage);
            repaired.left.push((damage, why));
        } else {
            wanted.push(damage);
        }
    }
    let mut asked: BTreeSet<String> = BTreeSet::new();
    loop {
        // With a manifest that was mended it is known whose the layers are.
        for damage in wanted.iter_mut().filter(|damage| damage.images.is_empty()) {
            damage.images = read_inventory(store)?.images_with(&damage.part);
        }
        let next = wanted.iter().flat_map(asked_by).find(|image| !asked.contains(image));
        let Some(image) = next else { break };
        asked.insert(image.clone());
        let parts: BTreeSet<PathBuf> = wanted.iter().map(|damage| part_of(store, damage)).collect();
        let mine: BTreeSet<PathBuf> = wanted
            .iter()
            .filter(|damage| asked_by(damage).contains(&image))
            .map(|damage| part_of(store, damage))
            .collect();
        for how in others.again(&image) {
            let mut say = |text: String| {
                for part in &mine {
                    words.entry(part.clone()).or_default().push(text.clone());
                }
            };
            let replaced = match how {
                Again::Person(text) => {
                    say(text);
                    continue;
                }
                how => replace(store, how, &parts, progress),
            };
            match replaced {
                Ok(replaced) => {
                    let (mended, left): (Vec<_>, Vec<_>) =
                        wanted.into_iter().partition(|damage| replaced.contains(&part_of(store, damage)));
                    repaired.mended.extend(mended);
                    wanted = left;
                    if mine.is_subset(&replaced) {
                        break;
                    }
                }
                Err(error) => say(chain(&error)),
            }
        }
    }
    for damage in wanted {
        if damage.images.is_empty() {
            match unneeded_aside(store, &damage.part) {
                Ok(Ok(to)) => {
                    repaired.aside.extend(to);
                    repaired.mended.push(damage);
                }
                Ok(Err(why)) => repaired.left.push((damage, why)),
                Err(error) => repaired.left.push((damage, chain(&error))),
            }
            continue;
        }
        let mut words = words.get(&part_of(store, &damage)).cloned().unwrap_or_default();
        words.dedup();
        if words.is_empty() {
            words.push("what was imported doesn't hold it".to_owned());
        }
        repaired.left.push((damage, words.join("; ")));
    }
    Ok(())
}

/// The names by which a damaged part can be asked for. A blob that belongs to nothing may be an index, or the manifest
/// of an image, that somebody knows by its digest.
fn asked_by(damage: &Damage) -> Vec<String> {
    if !damage.images.is_empty() {
        return damage.images.clone();
    }
    let blob = damage.part.strip_prefix("blobs/sha256").ok().and_then(Path::to_str);
    blob.map(|hex| format!("sha256:{hex}")).into_iter().collect()
}

fn read_inventory(store: &Store) -> Result<Inventory, ImageError> {
    let _lock = store.lock()?;
    Inventory::read(store)
}

/// What has to come into the store for a damage to be mended. Of a reference, the manifest that it names.
fn part_of(store: &Store, damage: &Damage) -> PathBuf {
    if damage.part.starts_with("refs") {
        let text = fs::read_to_string(store.path(&damage.part)).unwrap_or_default();
        if let Ok(digest) = text.trim_end().parse::<Digest>() {
            return Path::new("blobs/sha256").join(digest.hex());
        }
    }
    damage.part.clone()
}

/// Moves something that no image needs out of the way, if it is still there: an import must not take it for good.
/// A sentence where it isn't known whether an image needs it.
fn unneeded_aside(store: &Store, part: &Path) -> Result<Result<Option<PathBuf>, String>, ImageError> {
    let _lock = store.lock()?;
    let _nobody = store.usage(FlockOperation::LockExclusive)?;
    if !store.path(part).exists() {
        return Ok(Ok(None));
    }
    let inventory = Inventory::read(store)?;
    match inventory.unknown() {
        Some((name, why)) if part.starts_with("layers") => {
            Ok(Err(format!("{name} may need it, which can't be told: {why}; that has to be mended first")))
        }
        // Another command has mended it.
        _ if part.file_name().and_then(|name| name.to_str()).is_some_and(|hex| {
            part.starts_with("blobs") && Digest::from_hex(hex).is_ok_and(|digest| store.blob(&digest).is_ok())
        }) =>
        {
            Ok(Ok(None))
        }
        _ => set_aside(store, part).map(Some).map(Ok),
    }
}

/// Imports a source beside the store, and puts what is wanted of it in the place of what is damaged.
fn replace(
    store: &Store,
    how: Again,
    wanted: &BTreeSet<PathBuf>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<BTreeSet<PathBuf>, ImageError> {
    let mut staging = Staging::begin(store)?;
    staging.distrust(wanted.clone());
    let source = match how {
        Again::Source(source) => source,
        Again::Fetched(anew) => return anew.fetch(store, Mending(staging))?.0.replace(wanted),
        Again::Person(text) => return Err(ImageError::Unclear(text)),
    };
    // Only contents are wanted; what they are called here is known.
    let name = "repair".parse().map_err(|_| ImageError::Unclear("no name for a repair".to_owned()))?;
    let options = Options { name: Some(name), ..Options::default() };
    let source = match source {
        // An archive of several images needs no name.
        Source::Path(path) => {
            let named = stage(store, staging, Source::Path(path.clone()), &options, None, progress);
            match named {
                Err(ImageError::Unclear(_)) => {
                    staging = Staging::begin(store)?;
                    staging.distrust(wanted.clone());
                    stage(store, staging, Source::Path(path), &Options::default(), None, progress)?
                }
                other => other?,
            }
        }
        once => stage(store, staging, once, &options, None, progress)?,
    };
    let (staging, _) = source;
    staging.replace(wanted)
}
