//! Reading the store, and the small changes to it: references and removal.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::config::{ImageConfig, Manifest};
use super::digest::Digest;
use super::error::{Doing, ImageError};
use super::escape;
use super::index::Kinds;
use super::similar::similar;
use super::staging::Staging;
use crate::spec::Reference;
use crate::sys::mounts;

/// The longest file name of Linux's file systems (`NAME_MAX`).
const FILE_NAME_MAX: usize = 255;

/// Manifests and configs are a few kB; registries take 4 MiB at most (OCI distribution, "Pushing manifests").
pub(crate) const DOCUMENT_MAX: u64 = 4 << 20;

/// The store of images below one state directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// An image of the store, ready to run.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
    /// The config: entry point, environment, user, stop signal.
    pub config: ImageConfig,
    /// The layers' trees, the lowest first, absolute.
    pub layers: Vec<PathBuf>,
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The references that are gone.
    pub references: Vec<String>,
    /// The image that went with the last of them.
    pub image: Option<String>,
    /// How many layers nobody else needed.
    pub layers: usize,
    /// Why the image stays, though its last reference that can be read is gone.
    pub kept: Option<String>,
}

/// The name of a layer's directory. A layer that hides something of the layers below has a second form for
/// images in which nothing lies below it.
pub(crate) fn layer_name(diff_id: &Digest, bottom: bool) -> String {
    if bottom { format!("{}-bottom", diff_id.hex()) } else { diff_id.hex() }
}

/// See [`Store::hold`].
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

/// Held while the store changes.
pub(crate) struct Lock {
    _file: File,
}

impl Store {
    /// The store below a state directory, `Paths::state()`. Nothing is read or made yet.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self { root: state.into() }
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// Where it is.
    pub(crate) fn state(&self) -> &Path {
        &self.root
    }

    /// Whether a layer's tree is there, for this place in an image.
    pub(crate) fn has_layer(&self, diff_id: &Digest, bottom: bool) -> bool {
        let layers = self.path("layers");
        let plain = layers.join(layer_name(diff_id, false));
        if !bottom {
            return plain.is_dir();
        }
        // The plain form serves at the bottom too, unless there is something that it hides.
        layers.join(layer_name(diff_id, true)).is_dir()
            || super::manifest::Summary::read(&plain).is_ok_and(|summary| summary.whiteouts == 0)
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Makes the directories that aren't there, durably.
    pub(crate) fn prepare(&self) -> Result<(), ImageError> {
        let wanted =
            ["", "blobs", "blobs/sha256", "layers", "refs", "incoming", "signatures", "signatures/sha256"];
        if let Some(above) = self.root.parent() {
            fs::create_dir_all(above).doing("make the directory", above)?;
        }
        let mut changed = BTreeSet::new();
        for below in wanted {
            let path = if below.is_empty() { self.root.clone() } else { self.path(below) };
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    changed.insert(path.parent().unwrap_or(Path::new("/")).to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).doing("make the directory", &path),
            }
        }
        changed.iter().try_for_each(|directory| sync_directory(directory))
    }

    pub(crate) fn lock(&self) -> Result<Lock, ImageError> {
        Ok(Lock { _file: self.locked("lock", FlockOperation::LockExclusive)? })
    }

    fn locked(&self, name: &str, operation: FlockOperation) -> Result<File, ImageError> {
        let path = self.path(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .doing("open", &path)?;
        loop {
            match flock(&file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.doing("lock", &path)?,
            }
        }
        Ok(file)
    }

    /// Keeps every layer where it is for as long as the answer lives: from before [`Store::resolve`] until what it
    /// gave is mounted, when [`Store::remove`] sees it in use by itself. `None` where the store can't be written
    /// to, and so nothing be removed from it.
    pub fn hold(&self) -> Option<Hold> {
        self.usage(FlockOperation::LockShared).ok()
    }

    pub(crate) fn usage(&self, operation: FlockOperation) -> Result<Hold, ImageError> {
        Ok(Hold { _file: self.locked("usage", operation)? })
    }

    /// The image that a reference names: one reference, one manifest and one config are read, and their
    /// digests checked.
    ///
    /// It takes no lock and writes nothing, so that a store on a read-only file system still starts
    /// containers; an image that is removed at this moment is missing, or its layers are by the time they
    /// are mounted.
    ///
    /// # Errors
    /// [`ImageError::Missing`] with references that look alike; [`ImageError::Damaged`].
    pub fn resolve(&self, reference: &Reference) -> Result<Image, ImageError> {
        let digest = self.digest_of(reference)?;
        let (_, config) = self.documents(&digest)?;
        let mut layers = Vec::with_capacity(config.rootfs.diff_ids.len());
        for (index, diff_id) in self.diff_ids(&digest, &config)?.iter().enumerate() {
            let tree = self.layer_path(diff_id, index == 0).join("tree");
            if !tree.is_dir() {
                return Err(ImageError::Damaged { path: tree, why: "is missing".to_owned() });
            }
            layers.push(tree);
        }
        Ok(Image { digest: digest.to_string(), config, layers })
    }

    /// The manifest's digest that a reference names now.
    pub(crate) fn digest_of(&self, reference: &Reference) -> Result<Digest, ImageError> {
        let pinned = reference.digest().map(str::parse::<Digest>);
        if let Some(Ok(digest)) = pinned {
            let path = self.blob_path(&digest);
            // Who may not look must not be told that it isn't there. One that the next sweep takes away is not.
            if path.try_exists().doing("look at", &path)?
                && let Some(image) = self.image_behind(&digest)?
                && (!super::staging::unsettled(self)?.contains(&image)
                    || self.references()?.values().any(|named| *named == image))
            {
                return Ok(image);
            }
        } else if let Some(digest) = self.read_reference(reference)? {
            return Ok(digest);
        }
        let shown = reference.to_string();
        let similar = similar(&shown, self.references().unwrap_or_default().into_keys());
        Err(ImageError::Missing { reference: shown, similar })
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn layer_path(&self, diff_id: &Digest, bottom: bool) -> PathBuf {
        let layers = self.path("layers");
        if bottom {
            let own = layers.join(layer_name(diff_id, true));
            if own.exists() {
                return own;
            }
        }
        layers.join(layer_name(diff_id, false))
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let path = self.blob_path(digest);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::Damaged { path, why: "is missing".to_owned() });
            }
            other => other.doing("read", &path)?,
        };
        if Digest::of(&bytes) != *digest {
            let why = "doesn't have the digest that is its name".to_owned();
            return Err(ImageError::Damaged { path, why });
        }
        Ok(bytes)
    }

    pub(crate) fn documents(&self, digest: &Digest) -> Result<(Manifest, ImageConfig), ImageError> {
        let manifest: Manifest = self.document(digest)?;
        let config = manifest.config.digest.parse().map_err(|_| ImageError::Damaged {
            path: self.blob_path(digest),
            why: "names its config by something else than a SHA-256 digest".to_owned(),
        })?;
        let config = self.document(&config)?;
        Ok((manifest, config))
    }

    fn document<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T, ImageError> {
        serde_json::from_slice(&self.blob(digest)?).map_err(|error| ImageError::Damaged {
            path: self.blob_path(digest),
            why: format!("is not what it should be: {error}"),
        })
    }

    pub(crate) fn diff_ids(&self, digest: &Digest, config: &ImageConfig) -> Result<Vec<Digest>, ImageError> {
        config.rootfs.diff_ids.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(|error| {
            ImageError::Damaged { path: self.blob_path(digest), why: format!("has a bad layer: {error}") }
        })
    }

    /// Gives an image another reference, durably; what that named before is kept under its digest.
    ///
    /// # Errors
    /// [`ImageError::Missing`]; [`ImageError::Unclear`] for a reference that can't be given.
    pub fn tag(&self, image: &Reference, new: &Reference) -> Result<(), ImageError> {
        storable(new)?;
        let mut staging = Staging::begin(self)?;
        let lock = self.lock()?;
        let digest = self.digest_of(image)?;
        self.documents(&digest)?;
        staging.reference(new, &digest)?;
        staging.sync()?;
        staging.commit_under(lock)
    }

    /// Takes a reference away, and with an image's last one the image and every layer that no other image
    /// of the store needs. A reference with a digest takes the image with all its references.
    ///
    /// # Errors
    /// [`ImageError::Missing`]; [`ImageError::InUse`] when a running container has a layer mounted that
    /// would go.
    pub fn remove(&self, reference: &Reference) -> Result<Removed, ImageError> {
        // A store that isn't there isn't made in order to say that it holds nothing.
        self.digest_of(reference)?;
        let staging = Staging::begin(self)?;
        let lock = self.lock()?;
        let digest = self.digest_of(reference)?;
        let all = self.all_references()?;
        let unknown = all.unknown().map(|(part, why)| format!("{} {why}", self.path(part).display()));
        let (gone, kept): (Vec<_>, Vec<_>) = all
            .named
            .into_iter()
            .filter(|(_, d)| *d == digest)
            .partition(|(name, _)| reference.digest().is_some() || *name == reference.to_string());
        let mut removed =
            Removed { references: gone.into_iter().map(|(name, _)| name).collect(), ..Removed::default() };
        let mut dead = Vec::new();
        // No start may be between finding its layers and mounting them.
        let _nobody = self.usage(FlockOperation::LockExclusive)?;
        if let Some(broken) = unknown.filter(|_| kept.is_empty() && reference.digest().is_none()) {
            removed.kept = Some(format!(
                "{digest} stays, since {broken}, and may have named it as well; if it isn't needed, type: \
                 wharf image remove {}@{digest}",
                reference.name()
            ));
        } else if kept.is_empty() {
            dead = self.unneeded(&digest)?;
            removed.image = Some(digest.to_string());
            removed.layers = dead.iter().filter(|path| path.starts_with("layers")).count();
            let mounted = mounted_layers();
            if dead
                .iter()
                .filter_map(|path| path.file_name()?.to_str())
                .any(|name| name.get(..64).is_some_and(|layer| mounted.contains(layer)))
            {
                return Err(ImageError::InUse(reference.to_string()));
            }
        }
        // From here on a crash leaves things that nothing names: the note lets the next command find them.
        staging.note(&dead)?;
        for name in &removed.references {
            let path = self.path("refs").join(escape::file_name(name));
            fs::remove_file(&path).doing("remove", &path)?;
        }
        sync_directory(&self.path("refs"))?;
        staging.take(&dead)?;
        drop(lock);
        staging.discard()?;
        Ok(removed)
    }

    /// What of an image's parts no other image and no import under way needs: paths below the store.
    ///
    /// Where it can't be told what an image needs, its own or another one, layers and configs stay, for
    /// [`Store::prune`] to find when that is mended; what nobody else can need goes.
    fn unneeded(&self, image: &Digest) -> Result<Vec<PathBuf>, ImageError> {
        let mut needed: BTreeSet<PathBuf> = super::staging::pinned(self)?.into_iter().collect();
        let kinds = self.kinds()?;
        let mut is_known = kinds.damaged.keys().all(|damaged| damaged == image);
        for manifest in kinds.manifests.iter().filter(|manifest| *manifest != image) {
            match self.parts(manifest, &kinds) {
                Ok(parts) => needed.extend(parts),
                Err(_) => is_known = false,
            }
        }
        let own = [Path::new("blobs/sha256").join(image.hex()), super::signatures::part(image)];
        let candidates: BTreeSet<PathBuf> = match self.parts(image, &kinds) {
            Ok(parts) if is_known => parts.into_iter().collect(),
            _ => own.into(),
        };
        Ok(candidates.difference(&needed).filter(|path| self.path(path).exists()).cloned().collect())
    }

    /// Manifest, config, signatures and layers of an image, these in both their forms, and the indexes that list it.
    pub(crate) fn parts(&self, digest: &Digest, kinds: &Kinds) -> Result<Vec<PathBuf>, ImageError> {
        let (manifest, config) = self.documents(digest)?;
        let blobs = Path::new("blobs/sha256");
        let mut parts = vec![blobs.join(digest.hex()), super::signatures::part(digest)];
        if let Ok(config) = manifest.config.digest.parse::<Digest>() {
            parts.push(blobs.join(config.hex()));
        }
        parts.extend(kinds.indexes_of(digest).iter().map(|index| blobs.join(index.hex())));
        for diff_id in self.diff_ids(digest, &config)? {
            parts.extend([false, true].map(|bottom| Path::new("layers").join(layer_name(&diff_id, bottom))));
        }
        Ok(parts)
    }
}

/// Whether a reference can be written down: it must not be pinned, and its name must fit a file's.
pub(crate) fn storable(reference: &Reference) -> Result<(), ImageError> {
    if reference.digest().is_some() {
        return Err(ImageError::Unclear(format!(
            "`{reference}` is pinned to a digest and can't be given to an image; leave out `@sha256:…`"
        )));
    }
    let name = escape::file_name(&reference.to_string());
    if name.len() > FILE_NAME_MAX {
        return Err(ImageError::Unclear(format!(
            "`{reference}` is too long for the store: {} bytes as a file name, {FILE_NAME_MAX} fit",
            name.len()
        )));
    }
    Ok(())
}

/// The entries of a directory, sorted; a directory that isn't there has none.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, ImageError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.doing("read", directory)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry.doing("read", directory)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|directory| directory.sync_all()).doing("sync", path)
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .doing("write", path)
}

/// The layers that overlay mounts of any mount namespace lie on, by the 64 digits in their paths: the kernel
/// shows the paths as they were given, which for containers may be relative to the store.
pub(crate) fn mounted_layers() -> BTreeSet<String> {
    let mut mounted = BTreeSet::new();
    for seen in mounts::seen_by_all() {
        let list = String::from_utf8_lossy(&seen.list);
        for line in list.lines().filter(|line| line.contains(" - overlay ")) {
            let words = line.split(|c: char| !c.is_ascii_hexdigit());
            mounted.extend(words.filter(|word| word.len() == 64).map(str::to_owned));
        }
    }
    mounted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_image_is_named_with_what_to_do() {
        let store = Store::new("/nonexistent");
        let error = store.resolve(&"nginx:1.26".parse().expect("a reference")).expect_err("nothing there");
        assert_eq!(
            error.to_string(),
            "image nginx:1.26 is not in the store; import it with `wharf image import`"
        );
    }

    #[test]
    fn long_references_are_refused() {
        let long = format!("{}:{}", "a/".repeat(100) + "b", "t".repeat(100));
        assert!(storable(&long.parse().expect("a reference")).is_err());
    }
}
