//! `incoming/ID`: where everything is written before it is part of the store, and the only way in.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, RenameFlags, flock, renameat_with, syncfs};
use rustix::io::Errno;

use super::digest::Digest;
use super::error::{Doing, ImageError};
use super::escape;
use super::store::{Lock, Store, layer_name, names, storable, sync_directory, write_file};
use crate::spec::Reference;
use crate::tree;

/// One command's own directory under `incoming`, locked as long as the command lives, and removed with it.
pub(crate) struct Staging<'store> {
    store: &'store Store,
    path: PathBuf,
    /// Holds the lock that says that this is alive; opened before anything is written, so that `syncfs`
    /// on it reports every write that failed since.
    directory: File,
    /// What is going to be renamed into the store, below both.
    parts: Vec<PathBuf>,
    references: Vec<String>,
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
        let directory = File::open(&path).doing("open", &path)?;
        let staging = Self {
            store,
            path,
            directory,
            parts: Vec::new(),
            references: Vec::new(),
            noted: Cell::new(false),
        };
        flock(&staging.directory, FlockOperation::NonBlockingLockExclusive).doing("lock", &staging.path)?;
        for below in ["blobs", "blobs/sha256", "layers", "refs", "needs", "gone"] {
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
            // The plain form serves at the bottom too, unless there is something that it hides.
            let serves =
                path.exists() && (*own || !bottom || super::manifest::Summary::read(&path)?.whiteouts == 0);
            if serves {
                if !here {
                    write_file(&self.path.join("needs").join(&name), b"").or_else(ignore_existing)?;
                }
                return Ok(true);
            }
        }
        Ok(false)
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
        self.note(&new)?;
        for part in &self.parts {
            let to = self.store.path(part);
            // A blob may lie over one with the same content, and repairs a damaged one.
            let flags = if part.starts_with("blobs") { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
            match renameat_with(rustix::fs::CWD, self.path.join(part), rustix::fs::CWD, &to, flags) {
                // Another import was first with the same content.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno).doing("rename into place", &to),
            }
        }
        sync_directory(&self.store.path("layers"))?;
        sync_directory(&self.store.path("blobs/sha256"))?;
        for name in &self.references {
            let (from, to) = (self.path.join("refs").join(name), self.store.path("refs").join(name));
            fs::rename(&from, &to).doing("rename into place", &to)?;
        }
        sync_directory(&self.store.path("refs"))?;
        drop(lock);
        // It is done, whatever becomes of the leftovers: the next command sweeps them, and must find them
        // needed, since a reference names them.
        let _ = self.discard();
        Ok(())
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
    name.or_else(|| line.strip_prefix("blobs/sha256/")).is_some_and(|hex| Digest::from_hex(hex).is_ok())
}

/// Which of the noted parts belong to no image: neither to one that has a reference, nor to one that was in
/// the store before the noted command began.
fn orphans(store: &Store, noted: Vec<PathBuf>) -> Result<Vec<PathBuf>, ImageError> {
    let named: Vec<Digest> = store.references()?.into_values().collect();
    let mut needed = pinned(store)?;
    for manifest in store.manifests()? {
        let is_noted = noted.contains(&Path::new("blobs/sha256").join(manifest.hex()));
        if named.contains(&manifest) || !is_noted {
            needed.extend(store.parts(&manifest)?);
        }
    }
    Ok(noted.into_iter().filter(|part| !needed.contains(part)).collect())
}
