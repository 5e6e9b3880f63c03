//! Images out of the store, as archives that other programs read, and that come back with every digest.
//!
//! An OCI archive is a tar of an OCI layout: `oci-layout`, the blobs, and `index.json` last, when all digests are
//! known. The layers are the very tars that they were imported from, uncompressed unless asked for otherwise. So
//! the manifest that an image came with, which mostly names compressed layers, doesn't fit the archive: it gets one
//! that does, and the first one lies beside it, named by the annotation [`ORIGINAL`] of the index. An import takes
//! that for the image's, as both lead to the same config, and the config to the same diff ids.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::config::{CONFIG, INDEX, LAYER, MANIFEST, ORIGINAL};
use super::digest::{Digest, Hasher};
use super::documents::Documents;
use super::error::{Doing, ImageError};
use super::frame::write_layer;
use super::pax::Writer;
use super::store::Store;
use crate::spec::Reference;

/// The form of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout in a tar.
    #[default]
    Oci,
    /// What `docker save` writes, for programs that know nothing else. It has no manifests, so the image gets a
    /// new one, with another digest, wherever it is loaded.
    Docker,
}

/// How layers are compressed. The same bytes become the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Not.
    #[default]
    None,
    /// At level 6, as `gzip` does.
    Gzip,
    /// At level 3, as `zstd` does.
    Zstd,
}

impl Packing {
    /// Of a layer that is compressed so (OCI image specification, "Layer media types").
    pub fn media_type(self) -> String {
        let ending = match self {
            Self::None => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        };
        format!("{LAYER}{ending}")
    }
}

/// What an archive is to be like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveOptions {
    /// Its form.
    pub format: Format,
    /// How its layers are compressed; only in OCI archives.
    pub packing: Packing,
}

/// Writes images of the store as one archive. `progress` is told how many bytes of layers were read since the last
/// time.
///
/// Nothing is removed from the store while it is read.
///
/// # Errors
/// [`ImageError::Missing`] before anything is written; those of [`write_layer`], and then what was written is no
/// archive; [`ImageError::Output`].
pub fn save(
    store: &Store,
    images: &[Reference],
    options: SaveOptions,
    out: &mut dyn Write,
    progress: &dyn Fn(u64),
) -> Result<(), ImageError> {
    if options.format == Format::Docker && options.packing != Packing::None {
        return Err(ImageError::Unclear("layers of a Docker archive can't be compressed".to_owned()));
    }
    let parts = images.iter().map(|image| store.documents_of(image)).collect::<Result<Vec<_>, _>>()?;
    let _pins = store.pin(parts.iter().flat_map(Documents::layers))?;
    // By now nothing can go any more; what went before is missed here.
    for image in &parts {
        for (diff_id, bottom) in image.layers() {
            store.must_have_frame(&diff_id, bottom)?;
        }
    }
    let mut archive = Archive { store, tar: Writer::new(out), written: BTreeSet::new(), progress };
    match options.format {
        Format::Oci => archive.oci(images, &parts, options.packing)?,
        Format::Docker => archive.docker(images, &parts)?,
    }
    archive.tar.finish().map(drop).map_err(output)
}

fn output(source: io::Error) -> ImageError {
    ImageError::Output { source }
}

struct Archive<'a> {
    store: &'a Store,
    tar: Writer<&'a mut dyn Write>,
    /// Names in the archive: images share layers.
    written: BTreeSet<String>,
    progress: &'a dyn Fn(u64),
}

impl Archive<'_> {
    fn oci(&mut self, images: &[Reference], parts: &[Documents], packing: Packing) -> Result<(), ImageError> {
        self.document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let mut packed: std::collections::BTreeMap<Digest, (Digest, u64)> = Default::default();
        let mut descriptors = Vec::new();
        for (reference, image) in images.iter().zip(parts) {
            let mut layers = Vec::new();
            for (diff_id, bottom) in image.layers() {
                let (digest, size) = match packed.get(&diff_id) {
                    Some(known) => *known,
                    None if packing == Packing::None => self.plain(&diff_id, bottom, &blob(&diff_id))?,
                    None => self.packed(&diff_id, bottom, packing)?,
                };
                packed.insert(diff_id, (digest, size));
                layers.push((digest, size));
            }
            self.document(&blob(&image.config_digest), &image.config_bytes)?;
            self.document(&blob(&image.digest), &image.manifest_bytes)?;
            let (manifest, digest) = match fitting(image, &layers, packing) {
                None => (image.manifest_bytes.clone(), image.digest),
                Some(manifest) => {
                    let digest = Digest::of(&manifest);
                    self.document(&blob(&digest), &manifest)?;
                    (manifest, digest)
                }
            };
            let mut annotations = serde_json::Map::new();
            if reference.digest().is_none() {
                annotations
                    .insert("org.opencontainers.image.ref.name".to_owned(), reference.to_string().into());
            }
            if digest != image.digest {
                annotations.insert(ORIGINAL.to_owned(), image.digest.to_string().into());
            }
            let mut descriptor = descriptor(MANIFEST, &digest, manifest.len() as u64);
            if !annotations.is_empty() {
                descriptor["annotations"] = annotations.into();
            }
            if !descriptors.contains(&descriptor) {
                descriptors.push(descriptor);
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors });
        self.document("index.json", index.to_string().as_bytes())
    }

    fn docker(&mut self, images: &[Reference], parts: &[Documents]) -> Result<(), ImageError> {
        // First, since it can be: readers that see each member once want it there.
        let mut list: Vec<Value> = Vec::new();
        for (reference, image) in images.iter().zip(parts) {
            let config = format!("{}.json", image.config_digest.hex());
            let tag = reference.digest().is_none().then(|| Value::from(reference.to_string()));
            match list.iter_mut().find(|entry| entry["Config"] == config) {
                Some(entry) => {
                    let tags = entry["RepoTags"].as_array_mut();
                    tags.into_iter().for_each(|tags| tags.extend(tag.clone()));
                }
                None => {
                    let layers: Vec<_> =
                        image.diff_ids.iter().map(|id| format!("{}.tar", id.hex())).collect();
                    let tags: Vec<_> = tag.into_iter().collect();
                    list.push(json!({ "Config": config, "RepoTags": tags, "Layers": layers }));
                }
            }
        }
        self.document("manifest.json", Value::from(list).to_string().as_bytes())?;
        for image in parts {
            self.document(&format!("{}.json", image.config_digest.hex()), &image.config_bytes)?;
            for (diff_id, bottom) in image.layers() {
                self.plain(&diff_id, bottom, &format!("{}.tar", diff_id.hex()))?;
            }
        }
        Ok(())
    }

    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        let size = bytes.len() as u64;
        self.tar.file(name, size).and_then(|()| self.tar.content(bytes, size)).map_err(output)
    }

    /// A layer as it is.
    fn plain(&mut self, diff_id: &Digest, bottom: bool, name: &str) -> Result<(Digest, u64), ImageError> {
        let size = self.store.summary(diff_id, bottom)?.tar_bytes;
        if !self.written.insert(name.to_owned()) {
            return Ok((*diff_id, size));
        }
        self.tar.file(name, size).map_err(output)?;
        let mut counted = Exactly { out: self.tar.output(), left: size, progress: self.progress };
        let written = write_layer(self.store, diff_id, bottom, &mut counted)?;
        if written != size {
            let path = self.store.layer_path(diff_id, bottom).join("summary");
            return Err(ImageError::Damaged { path, why: "has a wrong size for the layer's tar".to_owned() });
        }
        self.tar.pad(size).map_err(output)?;
        Ok((*diff_id, size))
    }

    /// A compressed layer. Its size comes before it, so it waits in a file.
    fn packed(
        &mut self,
        diff_id: &Digest,
        bottom: bool,
        packing: Packing,
    ) -> Result<(Digest, u64), ImageError> {
        let (mut file, digest, size) = pack(self.store, diff_id, bottom, packing, self.progress)?;
        let name = blob(&digest);
        if self.written.insert(name.clone()) {
            file.rewind().doing("read", "a compressed layer")?;
            self.tar.file(&name, size).and_then(|()| self.tar.content(file, size)).map_err(output)?;
        }
        Ok((digest, size))
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
}

/// A manifest for the layers as they are in the archive; nothing where the image's own is one.
fn fitting(image: &Documents, layers: &[(Digest, u64)], packing: Packing) -> Option<Vec<u8>> {
    let own: Value = serde_json::from_slice(&image.manifest_bytes).unwrap_or_default();
    let config = descriptor(CONFIG, &image.config_digest, image.config_bytes.len() as u64);
    let layers: Vec<_> =
        layers.iter().map(|(digest, size)| descriptor(&packing.media_type(), digest, *size)).collect();
    let same =
        |one: &Value, other: &Value| ["mediaType", "digest", "size"].iter().all(|key| one[key] == other[key]);
    let own_layers = own["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let fits = own.get("mediaType").is_none_or(|kind| kind == MANIFEST)
        && same(&own["config"], &config)
        && own_layers.len() == layers.len()
        && own_layers.iter().zip(&layers).all(|(own, layer)| same(own, layer));
    if fits {
        return None;
    }
    let mut manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    if let Some(annotations) = own.get("annotations").filter(|annotations| annotations.is_object()) {
        manifest["annotations"] = annotations.clone();
    }
    Some(manifest.to_string().into_bytes())
}

/// No more than the header said: a wrong size would have the next member begin in the middle of this one.
struct Exactly<'a, W> {
    out: W,
    left: u64,
    progress: &'a dyn Fn(u64),
}

impl<W: Write> Write for Exactly<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("a layer is larger than the store says"));
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        (self.progress)(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Compresses a layer into a file without a name; says the digest and the size of what is in it. The file is at
/// its end.
///
/// # Errors
/// Those of [`write_layer`]; the file can't be made or written. It is in `TMPDIR`, or in /var/tmp.
pub fn pack(
    store: &Store,
    diff_id: &Digest,
    bottom: bool,
    packing: Packing,
    progress: &dyn Fn(u64),
) -> Result<(File, Digest, u64), ImageError> {
    let shown = "a compressed layer";
    let start = Hashed { file: nameless()?, hasher: Hasher::default(), bytes: 0 };
    let done = match packing {
        Packing::None => squeeze(store, diff_id, bottom, start, progress)?,
        // No name and no time in the header, so that nothing but the content counts (RFC 1952).
        Packing::Gzip => {
            let encoder = flate2::write::GzEncoder::new(start, flate2::Compression::new(6));
            squeeze(store, diff_id, bottom, encoder, progress)?.finish().doing("write", shown)?
        }
        Packing::Zstd => {
            let encoder = zstd::stream::write::Encoder::new(start, 3).doing("write", shown)?;
            squeeze(store, diff_id, bottom, encoder, progress)?.finish().doing("write", shown)?
        }
    };
    let Hashed { file, hasher, bytes } = done;
    Ok((file, hasher.finish(), bytes))
}

fn squeeze<W: Write>(
    store: &Store,
    diff_id: &Digest,
    bottom: bool,
    out: W,
    progress: &dyn Fn(u64),
) -> Result<W, ImageError> {
    let mut out = Counted { out, progress };
    match write_layer(store, diff_id, bottom, &mut out) {
        Ok(_) => Ok(out.out),
        // What can't be written here is a file of ours.
        Err(ImageError::Output { source }) => Err(source).doing("write", "a compressed layer"),
        Err(error) => Err(error),
    }
}

struct Counted<'a, W> {
    out: W,
    progress: &'a dyn Fn(u64),
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        (self.progress)(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Hashed {
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file for what is large and only needed for a moment: in `TMPDIR`, and without that in /var/tmp, since /tmp
/// may be memory (file-hierarchy(7)).
fn nameless() -> Result<File, ImageError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".wharf-{}-{count}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            // Of a process that had this id before.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => {
                let file = other.doing("make", &path)?;
                std::fs::remove_file(&path).doing("remove", &path)?;
                return Ok(file);
            }
        }
    }
}
