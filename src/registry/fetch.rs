//! Pulling: from a registry by reference, or from an OCI layout on a web server.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use ureq::http::Method;

use super::client::Client;
use super::download::{Downloads, WORKERS, note_failure};
use super::error::RegistryError;
use super::message::{Answer, Ask};
use super::partial;
use super::place::{Endpoint, Place};
use crate::image::{
    Admission, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Digest, Entry, INDEX, ImageError, Imported,
    MANIFEST, Options, Remote, Store, Wanted, import_from,
};
use crate::spec::Reference;

/// Manifests, indexes and configs have 4 MiB at most (OCI distribution, "Pushing manifests").
pub(super) const DOCUMENT_MAX: u64 = 4 << 20;

/// What may come for a manifest, in the order in which it is wanted.
const MANIFESTS: [&str; 4] = [INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// What a pull brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The image, and what it is called.
    pub image: Imported,
    /// Where it was looked for: `docker.io/library/nginx:1.26`, or a URL.
    pub from: String,
    /// What the reference names there, where that is an index of several machines' images.
    pub index: Option<Digest>,
    /// Bytes of layers that came over the network.
    pub fetched: u64,
}

/// What a reference names.
pub(super) struct Root {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
}

/// What may stand in any manifest or index.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// Pulls one image by its reference. When this returns, it is durable, under the name in the options, or else the
/// reference as it was given: one with a digest needs none.
///
/// # Errors
/// Any [`RegistryError`]; then nothing is in the store, and only partial downloads are left, which the next pull
/// goes on with.
pub fn pull(
    client: &Client,
    store: &Store,
    reference: &Reference,
    options: &Options,
    admission: &dyn Admission,
) -> Result<Pulled, RegistryError> {
    let mut place = Place::of(reference, &client.settings)?;
    // It may be that of an index.
    place.digest = options.digest.or(place.digest);
    let endpoints = place.endpoints(&client.settings);
    let fetcher = Fetcher::new(client, store, &endpoints, place.to_string());
    let root = fetcher.root(&place)?;
    let index = is_index(&root.descriptor).then(|| Digest::of(&root.bytes));
    fetcher.keep(root.bytes);
    let name = options.name.as_ref().unwrap_or(reference).clone();
    let options = Options { name: None, digest: None, ..options.clone() };
    let mut pulled = fetcher.run(Entry::Image(root.descriptor, name), &options, admission)?;
    let image = pulled.0.pop().ok_or_else(|| RegistryError::Unclear(format!("{place} has no image")))?;
    Ok(Pulled { image, from: place.to_string(), index, fetched: pulled.1 })
}

pub(super) fn is_index(descriptor: &Descriptor) -> bool {
    [INDEX, DOCKER_LIST].contains(&descriptor.media_type.as_str())
}

/// Fetches for one import.
pub(super) struct Fetcher<'a> {
    client: &'a Client,
    store: &'a Store,
    endpoints: &'a [Endpoint],
    /// As it is called in messages.
    what: String,
    downloads: Downloads<'a>,
    /// What was fetched before the import began.
    kept: Mutex<BTreeMap<Digest, Vec<u8>>>,
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(client: &'a Client, store: &'a Store, endpoints: &'a [Endpoint], what: String) -> Self {
        let downloads = Downloads::new(client, store, endpoints, what.clone());
        Self { client, store, endpoints, what, downloads, kept: Mutex::default() }
    }

    /// Layers that the store has are fetched all the same: they are damaged.
    pub(super) fn anew(mut self) -> Self {
        self.downloads.anew = true;
        self
    }

    pub(super) fn keep(&self, bytes: Vec<u8>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(Digest::of(&bytes), bytes);
    }

    /// The import, with the downloads beside it. Says how many bytes they fetched.
    pub(super) fn run(
        &self,
        entry: Entry,
        options: &Options,
        admission: &dyn Admission,
    ) -> Result<(Vec<Imported>, u64), RegistryError> {
        self.beside_downloads(|| import_from(self.store, self, &self.what, entry, options, admission))
    }

    /// An import of any kind, with the downloads beside it. Says how many bytes they fetched.
    pub(super) fn beside_downloads<T>(
        &self,
        import: impl FnOnce() -> Result<T, ImageError>,
    ) -> Result<(T, u64), RegistryError> {
        // What nobody came back for; that it can't be swept is no reason not to pull.
        let _ = partial::sweep(self.store.state(), partial::KEPT);
        let imported = std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| self.downloads.work());
            }
            // Whatever becomes of the import, the workers must hear that it is over.
            struct Close<'a, 'b>(&'a Downloads<'b>);
            impl Drop for Close<'_, '_> {
                fn drop(&mut self) {
                    self.0.close();
                }
            }
            let _close = Close(&self.downloads);
            import()
        });
        if let Err(ImageError::Full { .. }) = &imported {
            self.downloads.give_up();
        }
        Ok((imported?, self.downloads.done()))
    }

    /// The first success among the servers.
    fn first<T>(&self, ask: impl Fn(&Endpoint) -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        let mut endpoints = self.endpoints.iter().peekable();
        loop {
            let Some(endpoint) = endpoints.next() else {
                return Err(RegistryError::Unclear(format!("{} has no server to ask", self.what)));
            };
            match ask(endpoint) {
                Err(error) if error.is_the_servers() && endpoints.peek().is_some() => {
                    note_failure(self.client, endpoint, &error);
                }
                other => return other,
            }
        }
    }

    fn answer(
        &self,
        endpoint: &Endpoint,
        what: &str,
        url: String,
        manifest: bool,
    ) -> Result<Answer, RegistryError> {
        let mut ask = Ask::get(what, url);
        if manifest {
            ask.headers.push(("accept", MANIFESTS.join(", ")));
        }
        let scopes = endpoint.scope(false);
        let answer =
            self.client.send(&endpoint.host, endpoint.repository(), &scopes, &ask, endpoint.is_mirror)?;
        self.client.accepted(answer, what, &endpoint.host, endpoint.repository())
    }

    /// The digest of what a reference names. Nothing is fetched where the registry says it by itself (OCI distribution,
    /// "Checking if content exists in the registry").
    pub(super) fn named(&self, place: &Place) -> Result<Digest, RegistryError> {
        if let Some(digest) = place.digest {
            return Ok(digest);
        }
        let tag = place.tag.as_deref().unwrap_or("latest");
        let what = format!("image {place}");
        let head = self.first(|endpoint| {
            let mut ask = Ask::new(Method::HEAD, what.as_str(), endpoint.manifest(tag));
            ask.headers.push(("accept", MANIFESTS.join(", ")));
            let scopes = endpoint.scope(false);
            let answer =
                self.client.send(&endpoint.host, endpoint.repository(), &scopes, &ask, endpoint.is_mirror)?;
            let answer = self.client.accepted(answer, &what, &endpoint.host, endpoint.repository())?;
            Ok(answer.header("docker-content-digest").and_then(|text| text.parse().ok()))
        });
        match head {
            Ok(Some(digest)) => Ok(digest),
            // Who is asked for the whole says more about what is wrong.
            Ok(None) | Err(_) => Ok(Digest::of(&self.root(place)?.bytes)),
        }
    }

    /// What a reference names, checked by its digest if it has one.
    pub(super) fn root(&self, place: &Place) -> Result<Root, RegistryError> {
        let reference = match (&place.digest, &place.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        };
        if let Some(digest) = &place.digest
            && self.store.has_blob(digest)
            && let Ok(bytes) = self.store.blob(digest)
        {
            return Ok(Root { descriptor: self.described("", &bytes)?, bytes });
        }
        let what = format!("image {place}");
        self.first(|endpoint| {
            let answer = self.answer(endpoint, &what, endpoint.manifest(&reference), true)?;
            let media_type = answer.header("content-type").unwrap_or_default().to_owned();
            // A server that has another opinion about its digest sent something else than it meant to.
            let promised = answer.header("docker-content-digest").and_then(|text| text.parse().ok());
            let bytes = answer.bytes(DOCUMENT_MAX, "the manifest")?;
            let what = format!("the manifest of {place}");
            if let Some(promised) = place.digest.or(promised) {
                self.check(&what, endpoint, &bytes, &promised)?;
            }
            Ok(Root { descriptor: self.described(&media_type, &bytes)?, bytes })
        })
    }

    fn check(
        &self,
        what: &str,
        endpoint: &Endpoint,
        bytes: &[u8],
        expected: &Digest,
    ) -> Result<(), RegistryError> {
        let found = Digest::of(bytes);
        if found == *expected {
            return Ok(());
        }
        Err(RegistryError::Digest {
            what: what.to_owned(),
            host: endpoint.host.clone(),
            expected: expected.to_string(),
            found: found.to_string(),
        })
    }

    /// What a manifest says that it is goes before what the server says that it sends; a manifest of OCI needn't
    /// say anything (OCI image specification, "Manifest", `mediaType`).
    fn described(&self, content_type: &str, bytes: &[u8]) -> Result<Descriptor, RegistryError> {
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let typed: Option<Typed> = serde_json::from_slice(bytes).ok();
        let own = typed.as_ref().and_then(|typed| typed.media_type.clone());
        let guessed = || {
            let typed = typed.as_ref().filter(|typed| typed.schema_version == 2)?;
            let kind = if typed.manifests.is_some() {
                INDEX
            } else if typed.config.is_some() {
                MANIFEST
            } else {
                return None;
            };
            Some(kind.to_owned())
        };
        let known = |text: &str| MANIFESTS.contains(&text);
        let media_type = if known(content_type) {
            content_type.to_owned()
        } else {
            own.filter(|own| known(own)).or_else(guessed).ok_or_else(|| {
                let found = if content_type.is_empty() { "nothing" } else { content_type };
                ImageError::MediaType {
                    what: self.what.clone(),
                    found: super::error::plain(found),
                    wanted: "an image's manifest or an index of them",
                }
            })?
        };
        let digest = Digest::of(bytes).to_string();
        let size = bytes.len() as u64;
        Ok(Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new() })
    }

    /// A small document by its digest, from memory, the store or a server.
    pub(super) fn document(
        &self,
        descriptor: &Descriptor,
        digest: &Digest,
    ) -> Result<Vec<u8>, RegistryError> {
        if let Some(bytes) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(digest) {
            return Ok(bytes.clone());
        }
        if self.store.has_blob(digest)
            && let Ok(bytes) = self.store.blob(digest)
        {
            return Ok(bytes);
        }
        let is_manifest = MANIFESTS.contains(&descriptor.media_type.as_str());
        let kind = if is_manifest { "manifest" } else { "config" };
        let what = format!("the {kind} {digest} of {}", self.what);
        let bytes = self.first(|endpoint| {
            let url =
                if is_manifest { endpoint.manifest(&digest.to_string()) } else { endpoint.blob(digest) };
            let answer = self.answer(endpoint, &what, url, is_manifest)?;
            let bytes = answer.bytes(descriptor.size.min(DOCUMENT_MAX), &what)?;
            if (bytes.len() as u64) < descriptor.size {
                return Err(RegistryError::Size {
                    what: what.clone(),
                    host: endpoint.host.clone(),
                    expected: descriptor.size,
                    found: bytes.len() as u64,
                });
            }
            self.check(&what, endpoint, &bytes, digest)?;
            Ok(bytes)
        })?;
        Ok(bytes)
    }
}

impl Remote for Fetcher<'_> {
    fn named(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let bytes = self.first(|endpoint| {
            let url = endpoint.file(name).ok_or_else(|| RegistryError::Protocol {
                host: endpoint.host.clone(),
                why: format!("a registry has no `{name}`"),
            })?;
            let what = format!("`{name}`");
            self.answer(endpoint, &what, url, false)?.bytes(DOCUMENT_MAX, &what)
        })?;
        Ok(bytes)
    }

    fn small(&self, descriptor: &Descriptor, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        Ok(self.document(descriptor, digest)?)
    }

    fn begin(&self, layers: &[Wanted]) {
        self.downloads.begin(layers);
    }

    fn open(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, ImageError> {
        Ok(self.downloads.open(digest)?)
    }

    fn again(&self, digest: &Digest, error: ImageError) -> Result<(), ImageError> {
        Ok(self.downloads.again(digest, error)?)
    }
}
