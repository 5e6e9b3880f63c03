//! Pushing: what the registry doesn't have is uploaded, the manifest last.
//!
//! The store keeps layers unpacked, and a layer compressed again is rarely the same bytes: its digest changes, and
//! with it the manifest's. So each layer is first looked for under the digest that it had (it may be there, or in
//! another repository of the same registry), and only what isn't there is packed and uploaded. Where all is
//! found, the manifest goes out as it came. The same image packs to the same bytes every time.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde_json::Value;
use ureq::http::Method;

use super::auth::encoded;
use super::client::Client;
use super::error::{OnFile, RegistryError};
use super::message::{Answer, Ask, Payload, joined};
use super::place::{Endpoint, Place};
use crate::image::{CONFIG, DOCKER_MANIFEST, Digest, Hasher, ImageError, LAYER, MANIFEST, Manifest, Store};
use crate::spec::Reference;

/// What a server that refuses a whole blob at once (413) gets at a time.
const CHUNK: u64 = 16 << 20;

/// gzip's own default: a higher level takes far longer and saves little.
const GZIP_LEVEL: u32 = 6;

/// Gives the tars of layers as they were. It may be asked for any layer of the image.
pub trait LayerTar {
    /// Writes the uncompressed tar of a layer, byte for byte the one that has this diff id.
    ///
    /// # Errors
    /// Any [`ImageError`].
    fn write_tar(&self, diff_id: &Digest, bottom: bool, out: &mut dyn Write) -> Result<(), ImageError>;
}

impl<F: Fn(&Digest, bool, &mut dyn Write) -> Result<(), ImageError>> LayerTar for F {
    fn write_tar(&self, diff_id: &Digest, bottom: bool, out: &mut dyn Write) -> Result<(), ImageError> {
        self(diff_id, bottom, out)
    }
}

/// How layers are packed that the registry doesn't have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As everybody reads.
    #[default]
    Gzip,
    /// Smaller and quicker; not for old clients.
    Zstd,
    /// As they are: a layer's digest is its diff id.
    None,
}

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pushed {
    /// Where the image is now.
    pub reference: String,
    /// The manifest's digest there.
    pub digest: String,
    /// Whether it is the manifest of the store, byte for byte.
    pub unchanged: bool,
    /// How many layers were uploaded; the others were there.
    pub uploaded_layers: usize,
    /// Bytes of these.
    pub uploaded: u64,
}

/// Where a blob is in the end, and as what.
struct Blob {
    digest: Digest,
    size: u64,
    /// Nothing where it is as the manifest has it.
    packed: Option<Compression>,
    uploaded: bool,
}

/// Pushes an image of the store.
///
/// # Errors
/// Any [`RegistryError`]; then the destination's tag is what it was.
pub fn push(
    client: &Client,
    store: &Store,
    image: &Reference,
    destination: &Reference,
    compression: Compression,
    tars: &dyn LayerTar,
) -> Result<Pushed, RegistryError> {
    let place = Place::of(destination, &client.settings)?;
    let Some(tag) = place.tag.clone() else {
        return Err(RegistryError::Unclear(format!(
            "`{destination}` is pinned to a digest, and an image can only be pushed to a tag; leave out `@sha256:…`"
        )));
    };
    let found = store.resolve(image)?;
    let digest: Digest = found.digest.parse().map_err(|error| RegistryError::Unclear(format!("{error}")))?;
    let bytes = store.blob(&digest)?;
    let malformed = |why: String| ImageError::Malformed { what: format!("the manifest of {image}"), why };
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| malformed(format!("can't be read: {error}")))?;
    let endpoint = place.endpoint(&client.settings);
    // What the image was pulled from may be the same registry, which then has its blobs.
    let source = Place::of(image, &client.settings).ok();
    let source =
        source.filter(|source| source.registry == place.registry && source.repository != place.repository);
    let push =
        Push { client, store, endpoint, from: source.map(|source| source.repository), compression, tars };
    let diff_ids = &found.config.rootfs.diff_ids;
    let mut blobs: BTreeMap<String, Blob> = BTreeMap::new();
    for (index, (layer, diff_id)) in manifest.layers.iter().zip(diff_ids).enumerate() {
        if blobs.contains_key(&layer.digest) {
            continue;
        }
        let bad = |error| malformed(format!("has a bad digest: {error}"));
        let (known, diff_id) = (layer.digest.parse().map_err(bad)?, diff_id.parse().map_err(bad)?);
        blobs.insert(layer.digest.clone(), push.layer(&known, layer.size, &diff_id, index == 0)?);
    }
    let config: Digest =
        manifest.config.digest.parse().map_err(|error| malformed(format!("has a bad digest: {error}")))?;
    push.small(&config, &store.blob(&config)?)?;
    let media_type = manifest.media_type.as_deref().unwrap_or(MANIFEST);
    let (new, media_type) = repacked(&bytes, media_type, &blobs).map_err(malformed)?;
    push.manifest(&tag, &new, media_type)?;
    let uploaded = || blobs.values().filter(|blob| blob.uploaded);
    Ok(Pushed {
        reference: place.to_string(),
        digest: Digest::of(&new).to_string(),
        unchanged: new == bytes,
        uploaded_layers: uploaded().count(),
        uploaded: uploaded().map(|blob| blob.size).sum(),
    })
}

/// A layer's media type in Docker's schema 2; `.gzip` may follow.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// The manifest with the layers as they are now, and its media type; the same bytes where all are as they were.
///
/// Docker's schema has no zstd, and Podman refuses a manifest that claims otherwise: such a one becomes OCI's.
fn repacked<'m>(
    bytes: &[u8],
    media_type: &'m str,
    blobs: &BTreeMap<String, Blob>,
) -> Result<(Vec<u8>, &'m str), String> {
    if blobs.values().all(|blob| blob.packed.is_none()) {
        return Ok((bytes.to_vec(), media_type));
    }
    let is_docker = media_type == DOCKER_MANIFEST;
    let becomes_oci = is_docker && blobs.values().any(|blob| blob.packed == Some(Compression::Zstd));
    let unreadable = |error: serde_json::Error| format!("can't be read: {error}");
    let mut manifest: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    for layer in manifest["layers"].as_array_mut().into_iter().flatten() {
        let Some(blob) = layer["digest"].as_str().and_then(|digest| blobs.get(digest)) else { continue };
        if becomes_oci
            && let Some(rest) = layer["mediaType"].as_str().and_then(|is| is.strip_prefix(DOCKER_LAYER))
        {
            layer["mediaType"] = format!("{LAYER}{}", rest.replace('.', "+")).into();
        }
        let Some(packed) = blob.packed else { continue };
        layer["digest"] = blob.digest.to_string().into();
        layer["size"] = blob.size.into();
        layer["mediaType"] = packed.media_type(is_docker && !becomes_oci).into();
    }
    if becomes_oci {
        manifest["mediaType"] = MANIFEST.into();
        manifest["config"]["mediaType"] = CONFIG.into();
    }
    let bytes = serde_json::to_vec(&manifest).map_err(unreadable)?;
    Ok((bytes, if becomes_oci { MANIFEST } else { media_type }))
}

impl Compression {
    fn media_type(self, docker: bool) -> String {
        let (base, sign) = if docker { (DOCKER_LAYER, ".") } else { (LAYER, "+") };
        match self {
            Self::Gzip => format!("{base}{sign}gzip"),
            Self::Zstd => format!("{base}{sign}zstd"),
            Self::None => base.to_owned(),
        }
    }
}

struct Push<'a> {
    client: &'a Client,
    store: &'a Store,
    endpoint: Endpoint,
    /// Another repository there that may have the blobs.
    from: Option<String>,
    compression: Compression,
    tars: &'a dyn LayerTar,
}

impl Push<'_> {
    fn send(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        let mut scopes = self.endpoint.scope(true);
        scopes.extend(self.from.iter().map(|from| format!("repository:{from}:pull")));
        self.client.send(&self.endpoint.host, self.endpoint.repository(), &scopes, ask, false)
    }

    fn accepted(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        let answer = self.send(ask)?;
        self.client.accepted(answer, &ask.what, &self.endpoint.host, self.endpoint.repository())
    }

    fn has(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let ask = Ask::new(Method::HEAD, format!("the blob {digest}"), self.endpoint.blob(digest));
        let answer = self.send(&ask)?;
        if answer.status == 404 {
            return Ok(false);
        }
        self.client.accepted(answer, &ask.what, &self.endpoint.host, self.endpoint.repository()).map(|_| true)
    }

    /// Has the registry take a blob over from another of its repositories (OCI distribution, "Mounting a blob
    /// from another repository").
    fn mount(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let Some(from) = &self.from else { return Ok(false) };
        let url = format!(
            "{}?mount={}&from={}",
            self.endpoint.uploads(),
            encoded(&digest.to_string()),
            encoded(from)
        );
        let answer = self.send(&Ask::post(format!("the blob {digest}"), url))?;
        let location = answer.header("location").and_then(|location| joined(&answer.url, location));
        if answer.status == 202
            && let Some(session) = location
        {
            // It offers an upload instead, which isn't wanted yet. That it forgets it is its own affair.
            let _ = self.send(&Ask::new(Method::DELETE, "the upload", session));
        }
        Ok(answer.status == 201)
    }

    fn layer(
        &self,
        known: &Digest,
        size: u64,
        diff_id: &Digest,
        bottom: bool,
    ) -> Result<Blob, RegistryError> {
        if self.has(known)? || self.mount(known)? {
            return Ok(Blob { digest: *known, size, packed: None, uploaded: false });
        }
        let (file, digest, size) = self.pack(diff_id, bottom)?;
        let packed = Some(self.compression).filter(|_| digest != *known);
        if packed.is_some() && self.has(&digest)? {
            return Ok(Blob { digest, size, packed, uploaded: false });
        }
        let name = digest.to_string();
        self.client.watch.layer(&name, size);
        self.upload(&digest, Payload::File(&file, 0, size), size)?;
        self.client.watch.received(&name, size);
        Ok(Blob { digest, size, packed, uploaded: true })
    }

    /// A config or the like.
    fn small(&self, digest: &Digest, bytes: &[u8]) -> Result<(), RegistryError> {
        if self.has(digest)? {
            return Ok(());
        }
        self.upload(digest, Payload::Bytes(bytes, "application/octet-stream"), bytes.len() as u64)
    }

    /// The layer's blob in a file without a name, since its digest must be known before it is offered.
    fn pack(&self, diff_id: &Digest, bottom: bool) -> Result<(File, Digest, u64), RegistryError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let folder = self.store.state().join("partial");
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).on_file("make the folder", folder);
            }
            _ => {}
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("push-{}-{count}", std::process::id()));
        // Left by a process of the same number that was killed before the next line but one.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.on_file("make", &path)?;
        fs::remove_file(&path).on_file("remove", &path)?;
        let writer = BufWriter::with_capacity(1 << 17, file.try_clone().on_file("open", &path)?);
        let mut out = Hashed { inner: writer, hasher: Hasher::default(), bytes: 0 };
        let found = match self.compression {
            Compression::None => self.tar(diff_id, bottom, &mut out),
            Compression::Gzip => {
                // No time and no name in it, and an unknown system: the same bytes everywhere.
                let level = flate2::Compression::new(GZIP_LEVEL);
                let mut gzip = flate2::GzBuilder::new().mtime(0).operating_system(255).write(&mut out, level);
                self.tar(diff_id, bottom, &mut gzip).and_then(|found| {
                    gzip.finish().on_file("write", &path)?;
                    Ok(found)
                })
            }
            Compression::Zstd => {
                let mut zstd = zstd::stream::write::Encoder::new(&mut out, 0).on_file("write", &path)?;
                self.tar(diff_id, bottom, &mut zstd).and_then(|found| {
                    zstd.finish().on_file("write", &path)?;
                    Ok(found)
                })
            }
        }?;
        out.inner.flush().on_file("write", &path)?;
        if found != *diff_id {
            return Err(ImageError::Digest {
                what: format!("the layer {diff_id} as it is packed again"),
                expected: diff_id.to_string(),
                found: found.to_string(),
            }
            .into());
        }
        Ok((file, out.hasher.finish(), out.bytes))
    }

    /// The tar, and the digest that it has.
    fn tar(&self, diff_id: &Digest, bottom: bool, out: &mut dyn Write) -> Result<Digest, RegistryError> {
        let mut out = Hashed { inner: out, hasher: Hasher::default(), bytes: 0 };
        self.tars.write_tar(diff_id, bottom, &mut out)?;
        Ok(out.hasher.finish())
    }

    /// A new upload; its address (OCI distribution, "POST then PUT").
    fn session(&self, digest: &Digest) -> Result<String, RegistryError> {
        let answer = self.accepted(&Ask {
            payload: Payload::Bytes(b"", "application/octet-stream"),
            ..Ask::post(format!("an upload of {digest}"), self.endpoint.uploads())
        })?;
        self.location(&answer)
    }

    fn location(&self, answer: &Answer) -> Result<String, RegistryError> {
        let location = answer.header("location").and_then(|location| joined(&answer.url, location));
        location.ok_or_else(|| RegistryError::Protocol {
            host: self.endpoint.host.clone(),
            why: "it takes an upload and doesn't say where".to_owned(),
        })
    }

    fn upload(&self, digest: &Digest, payload: Payload<'_>, size: u64) -> Result<(), RegistryError> {
        let patience = self.client.patience;
        let mut failures = 0;
        loop {
            let url = with_digest(&self.session(digest)?, digest);
            let what = format!("the blob {digest}");
            let answer = self.send(&Ask { payload, ..Ask::new(Method::PUT, &*what, url) })?;
            failures += 1;
            match (answer.status, payload) {
                (413, Payload::File(file, ..)) => return self.in_chunks(digest, file, size),
                (404 | 416, _) => {
                    if self.has(digest)? {
                        return Ok(());
                    }
                    // It has forgotten the upload, perhaps over a failure between.
                    if failures >= patience.tries {
                        return self.done(answer, &what);
                    }
                    self.client.cancel.pause(patience.pause_after(failures))?;
                }
                _ => return self.done(answer, &what),
            }
        }
    }

    fn done(&self, answer: Answer, what: &str) -> Result<(), RegistryError> {
        self.client.accepted(answer, what, &self.endpoint.host, self.endpoint.repository()).map(|_| ())
    }

    /// OCI distribution, "Pushing a blob in chunks".
    fn in_chunks(&self, digest: &Digest, file: &File, size: u64) -> Result<(), RegistryError> {
        let what = format!("the blob {digest}");
        let mut url = self.session(digest)?;
        let mut at = 0;
        while at < size {
            let length = CHUNK.min(size - at);
            let mut ask =
                Ask { payload: Payload::File(file, at, length), ..Ask::new(Method::PATCH, &*what, &*url) };
            ask.headers.push(("content-range", format!("{at}-{}", at + length - 1)));
            url = self.location(&self.accepted(&ask)?)?;
            at += length;
        }
        let payload = Payload::Bytes(b"", "application/octet-stream");
        let answer =
            self.send(&Ask { payload, ..Ask::new(Method::PUT, &*what, with_digest(&url, digest)) })?;
        // The answer to a first try may have been lost.
        if matches!(answer.status, 404 | 416) && self.has(digest)? {
            return Ok(());
        }
        self.done(answer, &what)
    }

    fn manifest(&self, tag: &str, bytes: &[u8], media_type: &str) -> Result<(), RegistryError> {
        let payload = Payload::Bytes(bytes, media_type);
        let what = "the manifest".to_owned();
        let ask = Ask { payload, ..Ask::new(Method::PUT, what, self.endpoint.manifest(tag)) };
        let answer = self.accepted(&ask)?;
        let expected = Digest::of(bytes).to_string();
        match answer.header("docker-content-digest") {
            Some(found) if found != expected => Err(RegistryError::Digest {
                what: ask.what,
                host: self.endpoint.host.clone(),
                expected,
                found: super::error::plain(found),
            }),
            _ => Ok(()),
        }
    }
}

fn with_digest(session: &str, digest: &Digest) -> String {
    let sign = if session.contains('?') { '&' } else { '?' };
    format!("{session}{sign}digest={}", encoded(&digest.to_string()))
}

/// Hashes and counts what is written through it.
struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
