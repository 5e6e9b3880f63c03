//! Once more: what is damaged in the store, from where it came.

use std::sync::Arc;

use super::client::Client;
use super::error::RegistryError;
use super::fetch::{Fetcher, is_index};
use super::place::Place;
use crate::image::fsck::{Anew, Mending};
use crate::image::{Admission, Digest, Entering, Entry, ImageError, Options, Store, stage_from};
use crate::settings::Unpack;
use crate::spec::Reference;

/// An image of the store, or an index by which one was pulled, at its registry.
pub struct Again<'a> {
    /// Who fetches.
    pub client: Arc<Client>,
    /// Where: as in the store, or as declared.
    pub from: Reference,
    /// What the image is called in the store, which the policy goes by.
    pub known_as: Reference,
    /// What the store has, or had: whatever a tag names by now, this is what is fetched.
    pub digest: Digest,
    /// How much a layer may unpack to.
    pub unpack: Unpack,
    /// Who has a say in what enters the store.
    pub admission: Box<dyn Admission + 'a>,
}

impl Anew for Again<'_> {
    fn fetch<'s>(&self, store: &'s Store, into: Mending<'s>) -> Result<Mending<'s>, ImageError> {
        let Self { client, from, known_as, digest, unpack, admission } = self;
        let tagged = Place::of(from, &client.settings)?;
        let place = Place { digest: Some(*digest), ..tagged.clone() };
        let endpoints = place.endpoints(&client.settings);
        let fetcher = Fetcher::new(client, store, &endpoints, place.to_string()).anew();
        let root = fetcher.root(&place).map_err(|error| moved(&fetcher, &tagged, digest, error))?;
        let Mending(mut staging) = into;
        if is_index(&root.descriptor) {
            // Its images have digests of their own, by which they are asked for.
            staging.blob(&root.bytes)?;
            return Ok(Mending(staging));
        }
        // What is refused by now isn't fetched any further.
        admission.admit(&[Entering {
            reference: known_as.clone(),
            digest: *digest,
            kept: store.signatures(digest),
        }])?;
        fetcher.keep(root.bytes);
        let name = from.pinned(&digest.to_string());
        let options = Options { unpack: *unpack, ..Options::default() };
        let entry = Entry::Image(root.descriptor, name);
        let what = place.to_string();
        let ((staging, _), _) =
            fetcher.beside_downloads(|| stage_from(store, staging, &fetcher, &what, entry, &options))?;
        Ok(Mending(staging))
    }
}

/// Where the registry doesn't have it any more: what it has instead.
fn moved(fetcher: &Fetcher<'_>, tagged: &Place, digest: &Digest, error: RegistryError) -> RegistryError {
    let tagged = Place { digest: None, ..tagged.clone() };
    match (&error, &tagged.tag) {
        (RegistryError::NotFound { host, .. }, Some(_)) => match fetcher.root(&tagged) {
            Ok(root) => {
                let now = Digest::of(&root.bytes);
                RegistryError::Gone { host: host.clone(), image: tagged.to_string(), wanted: *digest, now }
            }
            Err(_) => error,
        },
        _ => error,
    }
}
