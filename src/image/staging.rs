//! `incoming/ID`: where everything is written before it is part of the store, and the only way in.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, RenameFlags, flock, renameat_with, syncfs};
use rustix::io::Errno;

use super::digest::Digest;
use super::error::{Doing, ImageError};
use super::escape;
use super::implied;
use super::store::{Lock, Store, layer_name, names, storable, sync_directory, write_file};
use crate::spec::Reference;
use crate::tree;

/// One command's own directory under `incoming`, locked as long as the command lives, and removed with it.
pub(crate) struct Staging<'store> {
    pub(super) store: &'store Store,
    pub(super) path: PathBuf,
    /// Holds the lock that says that this is alive; opened before anything is written, so that `syncfs`
    /// on it reports every write that failed since.
    directory: File,
    /// What is going to be renamed into the store, below both.
    parts: Vec<PathBuf>,
    references: Vec<String>,
    /// Signatures to keep, by the manifest's digest: files of this directory.
    pub(super) signatures: Vec<(Digest, PathBuf)>,
    /// Parts of the store that are damaged: they are as good as not there.
    distrusted: BTreeSet<PathBuf>,
    /// The note is durable: until the work is done, only a sweep may take this directory away, since only the
    /// note leads it to what was renamed into the store already.
    noted: Cell<bool>,
}

impl<'store> Staging<'store> {
    /// Makes the store's directories if need be, sweeps what dead commands left, and makes a directory for
    /// this one.
    pub(crate) fn begin(store: &'store Store) -> Result<Self, ImageError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        store.prepare()?;
        // The lock keeps a sweep from finding the directory between its making and its locking.
        let _lock = store.lock()?;
        sweep(store)?;
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = store.path("incoming").join(format!("{time:x}-{}-{count}", std::process::id()));
        let builder = || {
            let mut builder = DirBuilder::new();
            builder.mode(0o700).recursive(false);
            builder
        };
        builder().create(&path).doing("make the directory", &path)?;
        let directory = OwnedFd::from(File::open(&path).doing("open", &path)?);
        // A default access list on a folder above would go on into every layer, where no archive has said so.
        super::extract::clear_lists(&directory).doing("take the access lists from", &path)?;
        let directory = File::from(directory);
        let staging = Self {
            store,
            path,
            directory,
            parts: Vec::new(),
            references: Vec::new(),
            signatures: Vec::new(),
            distrusted: BTreeSet::new(),
            noted: Cell::new(false),
        };
        flock(&staging.directory, FlockOperation::NonBlockingLockExclusive).doing("lock", &staging.path)?;
        for below in ["blobs", "blobs/sha256", "layers", "refs", "signatures", "needs", "gone"] {
            let path = staging.path.join(below);
            builder().create(&path).doing("make the directory", &path)?;
        }
        Ok(staging)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the store has a layer already, in the form for this place in an image; if so it stays until
    /// this command is over.
    pub(crate) fn keep_layer(&mut self, diff_id: &Digest, bottom: bool) -> Result<bool, ImageError> {
        let _lock = self.store.lock()?;
        for own in if bottom { &[true, false][..] } else { &[false][..] } {
            let name = layer_name(diff_id, *own);
            let here = self.parts.contains(&Path::new("layers").join(&name));
            let path = if here { self.path.join("layers") } else { self.store.path("layers") }.join(&name);
            if !here && self.distrusted.contains(&Path::new("layers").join(&name)) {
                continue;
            }
            // The plain form serves at the bottom too, unless there is something that it hides. What an older version
            // left without a frame gets it by being unpacked once more.
            let serves = path.join("frame").exists()
                && (*own || !bottom || super::manifest::Summary::read(&path)?.whiteouts == 0);
            if serves {
                if !here {
                    write_file(&self.path.join("needs").join(&name), b"").or_else(ignore_existing)?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keeps a layer of the store in it until this command is over, in whatever form it is there.
    pub(crate) fn pin_layer(&self, diff_id: &Digest, bottom: bool) -> Result<(), ImageError> {
        let _lock = self.store.lock()?;
        let path = self.store.layer_path(diff_id, bottom);
        let name = path.file_name().unwrap_or_default();
        write_file(&self.path.join("needs").join(name), b"").or_else(ignore_existing)
    }

    /// Where a layer of this command's own is until the commit.
    pub(crate) fn layer_path(&self, diff_id: &Digest, bottom: bool) -> PathBuf {
        let own = self.path.join("layers").join(layer_name(diff_id, bottom));
        if bottom && !own.exists() { self.layer_path(diff_id, false) } else { own }
    }

    /// A directory for a layer that is being unpacked, not yet known by its diff id.
    pub(crate) fn layer(&self, index: usize) -> Result<PathBuf, ImageError> {
        let path = self.path.join(format!("layer-{index}"));
        DirBuilder::new().mode(0o700).create(&path).doing("make the directory", &path)?;
        Ok(path)
    }

    /// The layer is whole: it goes into the store with the commit.
    pub(crate) fn layer_done(
        &mut self,
        unpacked: &Path,
        diff_id: &Digest,
        own_bottom: bool,
    ) -> Result<(), ImageError> {
        let part = Path::new("layers").join(layer_name(diff_id, own_bottom));
        if self.parts.contains(&part) {
            // The same layer twice in one image; what is left over goes with this directory.
            return Ok(());
        }
        fs::rename(unpacked, self.path.join(&part)).doing("rename", unpacked)?;
        self.parts.push(part);
        Ok(())
    }

    /// A manifest or config.
    pub(crate) fn blob(&mut self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(bytes);
        let part = Path::new("blobs/sha256").join(digest.hex());
        if !self.parts.contains(&part) {
            write_file(&self.path.join(&part), bytes)?;
            self.parts.push(part);
        }
        Ok(digest)
    }

    /// What the commit will name an image.
    pub(crate) fn reference(&mut self, reference: &Reference, digest: &Digest) -> Result<(), ImageError> {
        storable(reference)?;
        let name = escape::file_name(&reference.to_string());
        let path = self.path.join("refs").join(&name);
        fs::write(&path, format!("{digest}\n")).doing("write", &path)?;
        if !self.references.contains(&name) {
            self.references.push(name);
        }
        Ok(())
    }

    /// Makes everything durable and part of the store. When this returns, it is both.
    pub(crate) fn commit(self) -> Result<(), ImageError> {
        // What takes long comes before the lock.
        self.sync()?;
        let lock = self.store.lock()?;
        self.commit_under(lock)
    }

    /// The second half of [`Staging::commit`], for who has the lock and called [`Staging::sync`].
    pub(crate) fn commit_under(self, lock: Lock) -> Result<(), ImageError> {
        // A crash after the first rename below leaves things in the store that nothing names; by this note
        // the next command finds them. What was there before isn't this command's to take away.
        let new: Vec<_> = self.parts.iter().filter(|part| !self.store.path(part).exists()).cloned().collect();
        self.note(&[new, self.new_signatures()].concat())?;
        for part in &self.parts {
            let to = self.store.path(part);
            // A blob may lie over one with the same content, and repairs a damaged one.
            let flags = if part.starts_with("blobs") { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            match renameat_with(rustix::fs::CWD, self.path.join(part), rustix::fs::CWD, &to, flags) {
                // Another import was first with the same content.
                Err(Errno::EXIST) => frame_older(&self.path.join(part), &to)?,
                Ok(()) => {}
                Err(errno) => return Err(errno).doing("rename into place", &to),
            }
        }
        sync_directory(&self.store.path("layers"))?;
        sync_directory(&self.store.path("blobs/sha256"))?;
        self.keep_signatures()?;
        for name in &self.references {
            let (from, to) = (self.path.join("refs").join(name), self.store.path("refs").join(name));
            if to.is_dir() && !to.is_symlink() {
                // Nobody put it there by a command of ours, and nothing can be renamed over it.
                super::inventory::set_aside(self.store, &Path::new("refs").join(name))?;
            }
            fs::rename(&from, &to).doing("rename into place", &to)?;
        }
        sync_directory(&self.store.path("refs"))?;
        if self.references.is_empty() {
            // Only its digest names the image. Without a note no sweep takes it for something left over.
            let note = self.path.join("note");
            fs::remove_file(&note).doing("remove", &note)?;
            self.directory.sync_all().doing("sync", &self.path)?;
        }
        drop(lock);
        // It is done, whatever becomes of the leftovers: the next command sweeps them, and must find them
        // needed, since a reference names them.
        let _ = self.discard();
        Ok(())
    }

    /// Parts of the store that this command must not rely on.
    pub(crate) fn distrust(&mut self, parts: BTreeSet<PathBuf>) {
        self.distrusted = parts;
    }

    /// Puts what is wanted of this command's parts into the store, in the place of what is damaged there, and
    /// nothing else; gives what was put. With a manifest come its config and its layers, where they are missing.
    pub(crate) fn replace(self, wanted: &BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>, ImageError> {
        self.sync()?;
        let _lock = self.store.lock()?;
        // No start may be between finding its layers and mounting them.
        let _nobody = self.store.usage(FlockOperation::LockExclusive)?;
        let mounted = super::store::mounted_layers();
        let mut replaced = BTreeSet::new();
        let staged = Store::new(&self.path);
        let kinds = staged.kinds()?;
        let with_manifests: BTreeSet<PathBuf> = kinds
            .manifests
            .iter()
            .filter(|digest| wanted.contains(&Path::new("blobs/sha256").join(digest.hex())))
            .flat_map(|digest| staged.parts(digest, &kinds).unwrap_or_default())
            .collect();
        for part in self.parts.iter().filter(|part| wanted.contains(*part) || with_manifests.contains(*part))
        {
            let (from, to) = (self.path.join(part), self.store.path(part));
            let name = part.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let flags = if !to.exists() {
                RenameFlags::NOREPLACE
            } else if part.starts_with("blobs") {
                RenameFlags::empty()
            } else if !wanted.contains(part) || mounted.contains(name.get(..64).unwrap_or(name)) {
                continue;
            } else {
                // The damaged one goes with this directory.
                RenameFlags::EXCHANGE
            };
            renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, flags)
                .doing("rename into place", &to)?;
            replaced.insert(part.clone());
        }
        sync_directory(&self.store.path("layers"))?;
        sync_directory(&self.store.path("blobs/sha256"))?;
        Ok(replaced)
    }

    /// Everything written so far is on the disk when this returns.
    pub(crate) fn sync(&self) -> Result<(), ImageError> {
        syncfs(&self.directory).doing("write everything to the disk of", &self.path)
    }

    /// Writes down durably what of the store nothing may name after a crash.
    pub(crate) fn note(&self, parts: &[PathBuf]) -> Result<(), ImageError> {
        let path = self.path.join("note");
        let lines: String = parts.iter().map(|part| format!("{}\n", part.display())).collect();
        fs::write(&path, lines).doing("write", &path)?;
        self.directory.sync_all().doing("sync", &self.path)?;
        File::open(&path).and_then(|file| file.sync_all()).doing("sync", &path)?;
        // The directory itself must be there after a crash, too.
        sync_directory(&self.store.path("incoming"))?;
        self.noted.set(true);
        Ok(())
    }

    /// Takes parts out of the store, to be deleted with this directory.
    pub(crate) fn take(&self, parts: &[PathBuf]) -> Result<(), ImageError> {
        take(self.store, &self.path, parts)
    }

    /// Deletes this directory and says how that went; dropping it does the same in silence.
    pub(crate) fn discard(self) -> Result<(), ImageError> {
        delete(&self.path)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // What can't be deleted now, the next command sweeps.
        if !self.noted.get() {
            let _ = delete(&self.path);
        }
    }
}

/// Gives a layer of the store that has no frame that of the same layer, unpacked once more. Containers may be using
/// its tree, and it is the same; so that stays. The frame comes last: a layer that has one can be written again.
fn frame_older(unpacked: &Path, layer: &Path) -> Result<(), ImageError> {
    if layer.join("frame").exists() {
        return Ok(());
    }
    for name in ["aside", implied::LIST, "manifest", "summary", "frame"] {
        let (from, to) = (unpacked.join(name), layer.join(name));
        // An attempt that a crash ended may have left a folder there, which no file replaces.
        let flags = if to.is_dir() { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
        match renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, flags) {
            Err(Errno::NOENT) if matches!(name, "aside" | implied::LIST) => {}
            other => other.doing("rename into place", &to)?,
        }
    }
    sync_directory(layer)
}

fn ignore_existing(error: ImageError) -> Result<(), ImageError> {
    match error {
        ImageError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => Err(other),
    }
}

fn take(store: &Store, staging: &Path, parts: &[PathBuf]) -> Result<(), ImageError> {
    for part in parts {
        let from = store.path(part);
        let name = part.to_string_lossy().replace('/', "-");
        match fs::rename(&from, staging.join("gone").join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).doing("take out of the store", &from);
            }
            _ => {}
        }
    }
    sync_directory(&store.path("layers"))?;
    sync_directory(&store.path("signatures/sha256"))?;
    sync_directory(&store.path("blobs/sha256"))
}

fn delete(path: &Path) -> Result<(), ImageError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = File::open(parent).doing("open", parent)?;
    let name = CString::new(name.as_encoded_bytes()).map_err(io::Error::from).doing("remove", path)?;
    Ok(tree::remove_all(&parent, &name)?)
}

/// What imports under way rely on: layers that were there when they looked. Under the store's lock.
pub(crate) fn pinned(store: &Store) -> Result<Vec<PathBuf>, ImageError> {
    let mut pinned = Vec::new();
    for id in names(&store.path("incoming"))? {
        let needs = names(&store.path("incoming").join(id).join("needs"))?;
        pinned.extend(needs.into_iter().map(|name| Path::new("layers").join(name)));
    }
    Ok(pinned)
}

/// The images that a command was just bringing in or taking away when it was last heard of: they are in the store,
/// and don't count as long as no reference names them.
pub(crate) fn unsettled(store: &Store) -> Result<Vec<Digest>, ImageError> {
    let mut unsettled = Vec::new();
    for id in names(&store.path("incoming"))? {
        let note = fs::read_to_string(store.path("incoming").join(id).join("note")).unwrap_or_default();
        let blobs = note.lines().filter_map(|line| line.strip_prefix("blobs/sha256/"));
        unsettled.extend(blobs.filter_map(|hex| Digest::from_hex(hex).ok()));
    }
    Ok(unsettled)
}

/// Removes what dead commands left under `incoming`, and what they had in the store that nothing names.
/// Under the store's lock.
fn sweep(store: &Store) -> Result<(), ImageError> {
    for id in names(&store.path("incoming"))? {
        let path = store.path("incoming").join(&id);
        let Ok(directory) = File::open(&path) else { continue };
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let noted = fs::read_to_string(path.join("note")).unwrap_or_default();
        let noted: Vec<PathBuf> = noted.lines().filter(|line| is_part(line)).map(PathBuf::from).collect();
        if !noted.is_empty() {
            // The dead command's own needs keep nothing alive.
            fs::remove_dir_all(path.join("needs")).or_else(missing_is_fine).doing("remove", &path)?;
            let orphans = orphans(store, noted)?;
            fs::create_dir_all(path.join("gone")).doing("make the directory", &path)?;
            take(store, &path, &orphans)?;
        }
        delete(&path)?;
    }
    Ok(())
}

fn missing_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Whether a line of a note has the form that notes have; it is going to be a path.
fn is_part(line: &str) -> bool {
    let name = line.strip_prefix("layers/").map(|name| name.strip_suffix("-bottom").unwrap_or(name));
    name.or_else(|| line.strip_prefix("blobs/sha256/"))
        .or_else(|| line.strip_prefix("signatures/sha256/"))
        .is_some_and(|hex| Digest::from_hex(hex).is_ok())
}

/// Which of the noted parts belong to no image: neither to one that has a reference, nor to one that was in
/// the store before the noted command began.
///
/// Where something is damaged, what it needs isn't known; then only the noted images themselves go, so that none is
/// there which nobody was told of, and the rest is an orphan.
fn orphans(store: &Store, noted: Vec<PathBuf>) -> Result<Vec<PathBuf>, ImageError> {
    let references = store.all_references()?;
    if references.unknown().is_some() {
        return Ok(Vec::new());
    }
    let named: Vec<Digest> = references.named.into_values().collect();
    let blob = |digest: &Digest| Path::new("blobs/sha256").join(digest.hex());
    let mut needed = pinned(store)?;
    let kinds = store.kinds()?;
    let (stay, go): (Vec<_>, Vec<_>) = kinds
        .manifests
        .iter()
        .partition(|manifest| named.contains(manifest) || !noted.contains(&blob(manifest)));
    let mut is_known = kinds.damaged.keys().all(|damaged| noted.contains(&blob(damaged)));
    for manifest in stay {
        match store.parts(manifest, &kinds) {
            Ok(parts) => needed.extend(parts),
            Err(_) => is_known = false,
        }
    }
    if !is_known {
        return Ok(go.into_iter().map(blob).filter(|part| !needed.contains(part)).collect());
    }
    Ok(noted.into_iter().filter(|part| !needed.contains(part)).collect())
}
