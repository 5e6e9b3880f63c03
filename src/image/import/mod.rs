//! Bringing an image in: what kind of thing it is, and one way through for each kind.

mod blobs;
mod commit;
mod docker;
mod oci;
mod remote;
mod root;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use self::blobs::{Blobs, Counting, spool};
pub use self::commit::{CommitOptions, commit, differences};
pub(crate) use self::remote::{Entry, Remote, Wanted, import_from, stage_from};
use super::config::{ImageConfig, Manifest};
use super::digest::Digest;
use super::error::{Doing, ImageError, input_error};
use super::extract;
use super::manifest::Summary;
use super::members::Members;
use super::signatures::{Admission, Entering, Everything};
use super::staging::Staging;
use super::store::Store;
use super::stream::{Passed, bounded, decompressor, pass, peek};
use crate::settings::Unpack;
use crate::spec::{Platform, Reference};

/// As much of an input as is looked at to tell what it is: one block of any compression's, which holds the
/// first member's name.
const PEEK: usize = 256 << 10;

/// Where an image comes from.
pub enum Source {
    /// A file or a folder.
    Path(PathBuf),
    /// Something that can be read once, such as standard input.
    Stream(Box<dyn Read + Send>),
    /// The same with a name, from which one for an image may be made.
    Named {
        /// As it is called in messages.
        what: String,
        /// As a file would be called that holds it.
        file: String,
        /// What can be read once.
        stream: Box<dyn Read + Send>,
    },
}

/// What may be said about an import.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The image's reference, instead of what the input says.
    pub name: Option<Reference>,
    /// The name of one image among several, as the input has it.
    pub pick: Option<String>,
    /// For a root file system, which says nothing about what to run.
    pub changes: Changes,
    /// For which kind of machine, of several that an index has images for; this one's where nothing is said.
    pub platform: Option<Platform>,
    /// What the manifest's digest must be, or nothing is imported.
    pub digest: Option<Digest>,
    /// How much a layer may unpack to.
    pub unpack: Unpack,
}

/// The config of an image that is made from a root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The rest of the arguments, or the whole command.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// A user's name or number, perhaps with `:` and a group's.
    pub user: String,
    /// An absolute path inside.
    pub working_directory: String,
    /// `SIGQUIT`, for example.
    pub stop_signal: String,
}

/// An image that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What it is called; nothing where the input has no name for it and none was given.
    pub reference: Option<Reference>,
    /// The manifest's digest.
    pub digest: String,
    /// How many layers it has.
    pub layers: usize,
    /// How many of them were unpacked; the others were in the store.
    pub new_layers: usize,
    /// Device nodes left out of these.
    pub devices: u64,
}

/// Imports every image of a source, or the one that was picked. When this returns, all of them are durable.
///
/// `progress` is told how many bytes of the source were read since the last time, from another thread.
///
/// # Errors
/// Any [`ImageError`] but `Missing` and `InUse`; then nothing of the source is in the store.
pub fn import(
    store: &Store,
    source: Source,
    options: &Options,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Imported>, ImageError> {
    import_admitted(store, source, options, &Everything, progress)
}

/// As [`import`], where somebody has a say in what enters.
///
/// # Errors
/// As [`import`]; [`ImageError::Refused`].
pub fn import_admitted(
    store: &Store,
    source: Source,
    options: &Options,
    admission: &dyn Admission,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Imported>, ImageError> {
    let staging = Staging::begin(store)?;
    let (staging, imported) = stage(store, staging, source, options, Some(admission), progress)?;
    enter(store, staging, imported, None, admission)
}

/// Commits what was staged, if it may enter. `known_as` is what an image is asked for by that gets no reference.
fn enter(
    store: &Store,
    mut staging: Staging<'_>,
    imported: Vec<Imported>,
    known_as: Option<&Reference>,
    admission: &dyn Admission,
) -> Result<Vec<Imported>, ImageError> {
    let mut entering = Vec::with_capacity(imported.len());
    for image in &imported {
        // None may pass by for having no name: the policy goes by it.
        let reference = image.reference.as_ref().or(known_as);
        let (Some(reference), Ok(digest)) = (reference, image.digest.parse()) else {
            return Err(ImageError::Unclear(format!(
                "{} has no name; give it one with --name",
                image.digest
            )));
        };
        entering.push(Entering { reference: reference.clone(), digest, kept: store.signatures(&digest) });
    }
    for (digest, signature) in admission.admit(&entering)? {
        staging.signature(&digest, &signature)?;
    }
    staging.commit()?;
    Ok(imported)
}

/// Everything but the commit.
pub(crate) fn stage<'a>(
    store: &'a Store,
    staging: Staging<'a>,
    source: Source,
    options: &Options,
    admission: Option<&dyn Admission>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(Staging<'a>, Vec<Imported>), ImageError> {
    if let Some(name) = &options.name {
        super::store::storable(name)?;
    }
    let what = match &source {
        Source::Path(path) => path.display().to_string(),
        Source::Stream(_) => "the input".to_owned(),
        Source::Named { what, .. } => what.clone(),
    };
    let file_name = match &source {
        Source::Path(path) => path.canonicalize().ok().and_then(|path| stem(&path)),
        Source::Stream(_) => None,
        Source::Named { file, .. } => stem(Path::new(file)),
    };
    let mut import =
        Import { store, staging, options, progress, what, file_name, unpacked: 0, imported: Vec::new() };
    match source {
        Source::Path(path) if path.is_dir() => import.images(&Blobs::folder(&path)?)?,
        Source::Path(path) => {
            let file = File::open(&path).doing("open", &path)?;
            match admission.filter(|admission| admission.watches()) {
                // Read once only: what was watched is what is unpacked.
                Some(admission) => import.stream(admission.watch(Box::new(file)), None)?,
                None => import.file(file)?,
            }
        }
        Source::Stream(stream) | Source::Named { stream, .. } => {
            let stream = match admission.filter(|admission| admission.watches()) {
                Some(admission) => admission.watch(stream),
                None => stream,
            };
            import.stream(stream, None)?;
        }
    }
    Ok((import.staging, import.imported))
}

/// A file's or folder's name without what says how it is packed.
fn stem(path: &Path) -> Option<String> {
    let mut stem = path.file_name()?.to_str()?;
    for ending in [".gz", ".xz", ".zst", ".tgz", ".txz", ".tar", ".oci"] {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    Some(stem.to_ascii_lowercase())
}

struct Import<'a, 's> {
    store: &'s Store,
    staging: Staging<'s>,
    options: &'a Options,
    progress: &'a (dyn Fn(u64) + Sync),
    what: String,
    file_name: Option<String>,
    unpacked: usize,
    imported: Vec<Imported>,
}

impl Import<'_, '_> {
    fn malformed(&self, why: impl Into<String>) -> ImageError {
        ImageError::Malformed { what: self.what.clone(), why: why.into() }
    }

    fn file(&mut self, file: File) -> Result<(), ImageError> {
        let metadata = file.metadata().doing("look at", &self.what)?;
        let again = file.try_clone().doing("open", &self.what)?;
        // A pipe or a socket can't be read twice.
        self.stream(Box::new(file), metadata.is_file().then_some(again))
    }

    /// Looks at the beginning of the input. A root file system is unpacked as it comes; an archive of blobs
    /// is read where its members lie, in any order, and so must be a file.
    fn stream(&mut self, stream: Box<dyn Read + Send>, file: Option<File>) -> Result<(), ImageError> {
        let failed = |error| input_error(&self.what, error);
        let (first, input) = peek(stream, PEEK).map_err(failed)?;
        if first.is_empty() {
            return Err(self.malformed("is empty"));
        }
        let start = decoded(&first).map_err(failed)?;
        if !looks_like_blobs(&start) {
            return self.root(input);
        }
        let plain = super::stream::compression(&first) == super::stream::Compression::None;
        let file = match file.filter(|_| plain) {
            Some(file) => file,
            None => {
                let input = Counting::new(input, self.progress);
                let plain = bounded(input, self.options.unpack.ratio).map_err(failed)?;
                spool(&self.what, plain, self.staging.path())?
            }
        };
        let again = file.try_clone().doing("open", &self.what)?;
        let blobs = Blobs::archive(&self.what, file)?;
        if blobs.has("manifest.json") || blobs.has("index.json") {
            self.images(&blobs)
        } else {
            // A root file system that happens to begin with a folder of such a name.
            io::Seek::rewind(&mut &again).doing("read", &self.what)?;
            self.root(again)
        }
    }

    fn images(&mut self, blobs: &Blobs) -> Result<(), ImageError> {
        if self.options.changes != Changes::default() {
            return Err(ImageError::Unclear(format!(
                "{} is an image with a config of its own; what it runs can only be set for a root file system",
                self.what
            )));
        }
        // Docker's own archives are both since version 25; the OCI half has the digests.
        if blobs.has("index.json") && blobs.has("oci-layout") {
            self.oci(blobs)
        } else if blobs.has("manifest.json") {
            self.docker(blobs)
        } else {
            let why = "is neither an OCI layout (`oci-layout`, `index.json`) nor a `docker save` archive \
                       (`manifest.json`); a root file system must come as a tar, or be named by `rootfs =` \
                       in the container's file";
            Err(self.malformed(why))
        }
    }

    /// One layer, unless the store has it; says how large its tar is.
    fn layer(
        &mut self,
        what: &str,
        blob: impl Fn() -> Result<Option<Box<dyn Read + Send>>, ImageError>,
        expected: Option<(Digest, u64)>,
        diff_id: &Digest,
        bottom: bool,
        image: &mut Imported,
    ) -> Result<u64, ImageError> {
        let blob = loop {
            if self.staging.keep_layer(diff_id, bottom)? {
                if let Some((_, bytes)) = expected {
                    (self.progress)(bytes);
                }
                let here = self.staging.layer_path(diff_id, bottom);
                let path = if here.exists() { here } else { self.store.layer_path(diff_id, bottom) };
                image.layers += 1;
                return Ok(Summary::read(&path)?.tar_bytes);
            }
            if let Some(blob) = blob()? {
                break blob;
            }
        };
        let (_, passed) = self.unpack(what, blob, expected, Some(diff_id), bottom, image)?;
        image.layers += 1;
        Ok(passed.tar_bytes)
    }

    fn unpack(
        &mut self,
        what: &str,
        input: impl Read + Send,
        expected: Option<(Digest, u64)>,
        diff_id: Option<&Digest>,
        bottom: bool,
        image: &mut Imported,
    ) -> Result<(Summary, Passed), ImageError> {
        let directory = self.staging.layer(self.unpacked)?;
        self.unpacked += 1;
        let input = Counting::new(input, self.progress);
        let limits = &self.options.unpack;
        let (mut summary, passed) = pass(what, input, expected, limits.ratio, |stream| {
            extract::unpack(what, stream, &directory, bottom, limits)
        })?;
        if let Some(diff_id) = diff_id.filter(|diff_id| **diff_id != passed.diff_id) {
            return Err(ImageError::Digest {
                what: format!("{what}, uncompressed,"),
                expected: diff_id.to_string(),
                found: passed.diff_id.to_string(),
            });
        }
        summary.tar_bytes = passed.tar_bytes;
        summary.disk_bytes = super::usage::disk_bytes(&directory.join("tree"));
        summary.write(&directory)?;
        let own_bottom = bottom && summary.dropped_whiteouts > 0;
        self.staging.layer_done(&directory, &passed.diff_id, own_bottom)?;
        image.new_layers += 1;
        image.devices += summary.devices;
        Ok((summary, passed))
    }

    /// The image's documents and its name.
    fn add(
        &mut self,
        config: &[u8],
        manifest: &[u8],
        references: &[Reference],
        image: Imported,
    ) -> Result<(), ImageError> {
        self.staging.blob(config)?;
        let digest = self.staging.blob(manifest)?;
        self.pinned(&digest)?;
        let image = Imported { digest: digest.to_string(), ..image };
        for reference in references {
            self.staging.reference(reference, &digest)?;
            self.imported.push(Imported { reference: Some(reference.clone()), ..image.clone() });
        }
        if references.is_empty() {
            self.imported.push(image);
        }
        Ok(())
    }

    /// Whether a manifest is the one that is wanted.
    fn pinned(&self, found: &Digest) -> Result<(), ImageError> {
        match self.options.digest.filter(|digest| digest != found) {
            None => Ok(()),
            Some(digest) => Err(ImageError::Digest {
                what: format!("the image in {}", self.what),
                expected: digest.to_string(),
                found: found.to_string(),
            }),
        }
    }

    fn config(&self, what: &str, bytes: &[u8]) -> Result<(ImageConfig, Vec<Digest>), ImageError> {
        let malformed = |why: String| ImageError::Malformed { what: what.to_owned(), why };
        let config: ImageConfig = serde_json::from_slice(bytes)
            .map_err(|error| malformed(format!("is not the config of an image: {error}")))?;
        if !matches!(config.os.as_str(), "" | "linux") {
            return Err(ImageError::Platform {
                what: self.what.clone(),
                wanted: "linux".to_owned(),
                offered: config.os.clone(),
            });
        }
        let diff_ids = config.rootfs.diff_ids.iter().map(|text| text.parse()).collect::<Result<_, _>>();
        let diff_ids = diff_ids.map_err(|error| malformed(format!("has a bad diff id: {error}")))?;
        Ok((config, diff_ids))
    }
}

/// As much of the tar as the first bytes of the input decompress to.
fn decoded(first: &[u8]) -> io::Result<Vec<u8>> {
    let mut reader = decompressor(first)?;
    let mut start = vec![0; PEEK];
    let mut filled = 0;
    // The input goes on after these bytes, so an error here only says that this is all.
    while let Ok(count @ 1..) = reader.read(&mut start[filled..]) {
        filled += count;
    }
    start.truncate(filled);
    Ok(start)
}

/// Whether the first member that isn't the folder itself is one that archives of images begin with.
fn looks_like_blobs(start: &[u8]) -> bool {
    let mut members = Members::new(start);
    while let Ok(Some(member)) = members.next() {
        let path = member.path.strip_prefix(b"./").unwrap_or(&member.path);
        let Some(first) =
            path.split(|byte| *byte == b'/').next().filter(|first| !matches!(*first, b"" | b"."))
        else {
            continue;
        };
        let hex = first.strip_prefix(b"sha256:").unwrap_or(first);
        return matches!(
            first,
            b"blobs" | b"oci-layout" | b"index.json" | b"manifest.json" | b"repositories"
        ) || (hex.len() >= 64 && hex[..64].iter().all(u8::is_ascii_hexdigit));
    }
    false
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(value).map_err(io::Error::from).doing("write", "a manifest")
}

/// The manifest of an image that comes without one.
fn synthesized(config: &[u8], layers: &[(Digest, u64)]) -> Result<Vec<u8>, ImageError> {
    use super::config::{CONFIG, Descriptor, LAYER, MANIFEST};
    let descriptor = |media_type: &str, digest: &Digest, size: u64| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_string(),
        size,
        platform: None,
        annotations: Default::default(),
    };
    to_json(&Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        config: descriptor(CONFIG, &Digest::of(config), config.len() as u64),
        layers: layers.iter().map(|(digest, size)| descriptor(LAYER, digest, *size)).collect(),
    })
}

fn empty() -> Imported {
    Imported { reference: None, digest: String::new(), layers: 0, new_layers: 0, devices: 0 }
}
