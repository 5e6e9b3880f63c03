//! Where damaged images can be had again, for `wharf fsck --repair`: what was named on the command line, what the
//! image's own file says, or the registry of its reference.

use std::path::PathBuf;
use std::sync::Arc;

use indicatif::ProgressBar;

use super::image::{Own, Owns, needs};
use super::output::{chain, complain};
use crate::check::{From, RootSource};
use crate::host::Paths;
use crate::image::fsck::{Again, Outside};
use crate::image::{Admission, Digest, Entering, ImageError, Needs, Source, Store};
use crate::registry::{self, Client, Credentials, Watch};
use crate::running::{self, Running};
use crate::settings::{self, Settings};
use crate::spec::Reference;
use crate::trust::{self, Gate, Given, keys_folder};

/// Who knows where images come from.
pub(super) struct Origins<'a> {
    store: &'a Store,
    paths: &'a Paths,
    from: &'a [PathBuf],
    /// The way to registries, or why there is none.
    network: Result<(Settings, Arc<Client>), String>,
    owns: Owns,
    needs: Needs,
    running: Vec<Running>,
}

/// The gate of the store, by what an image's own file says.
struct Admitted {
    settings: Settings,
    client: Arc<Client>,
    keys: PathBuf,
    given: Given,
}

impl Admission for Admitted {
    fn admit(&self, entering: &[Entering]) -> Result<Vec<(Digest, Vec<u8>)>, ImageError> {
        let fetch = |address: &str, most| registry::get(&self.client, address, most);
        Gate::new(&self.settings, &self.keys, self.given.clone(), &fetch, trust::now()).admit(entering)
    }
}

/// Notes of the client's, beside the bar.
struct Notes(ProgressBar);

impl Watch for Notes {
    fn note(&self, text: &str) {
        self.0.suspend(|| complain(&format!("note: {text}\n")));
    }
}

impl<'a> Origins<'a> {
    /// Reads what is declared here.
    pub(super) fn new(store: &'a Store, paths: &'a Paths, from: &'a [PathBuf], bar: &ProgressBar) -> Self {
        let network = settings::load(paths).map_err(|error| chain(&error)).map(|settings| {
            let notes = Arc::new(Notes(bar.clone()));
            let client = Client::new(settings.clone(), Credentials::of_host(paths), notes);
            (settings, Arc::new(client))
        });
        // What can't be read names no other place; that it can't is for `wharf check` to say.
        let (needs, running) = (needs(paths).unwrap_or_default(), running::all(paths).unwrap_or_default());
        Self { store, paths, from, network, owns: Owns::read(paths), needs, running }
    }

    /// By which references an image is known: its own, or those that are pinned to it somewhere.
    fn references(&self, image: &str) -> Vec<(Reference, Digest)> {
        if let Ok(digest) = image.parse::<Digest>() {
            // A damaged manifest can't be read, and what lists it can.
            let indexes = self.store.kinds().map(|kinds| kinds.indexes_of(&digest)).unwrap_or_default();
            let is_it = |pinned: Digest| pinned == digest || indexes.contains(&pinned);
            let pinned = |reference: &&Reference| {
                reference.digest().and_then(|pinned| pinned.parse().ok()).is_some_and(is_it)
            };
            return self.needs.references.iter().filter(pinned).cloned().map(|one| (one, digest)).collect();
        }
        let Ok(reference) = image.parse::<Reference>() else { return Vec::new() };
        match self.store.read_reference(&reference) {
            Ok(Some(digest)) => vec![(reference, digest)],
            _ => Vec::new(),
        }
    }

    /// One way for one reference; a sentence where there is none.
    fn way(&self, known_as: Reference, digest: Digest) -> Result<Option<Again>, String> {
        let Own { policy, image, .. } = self.owns.of(&known_as);
        let from = match image.and_then(|image| image.from.clone()) {
            Some(From::Path(path)) => return Ok(Some(Again::Source(Source::Path(self.paths.host(&path))))),
            Some(From::Url(url)) => {
                return Err(format!(
                    "{known_as} comes from {url}; fetch that, and type: wharf fsck --repair --from FILE"
                ));
            }
            Some(From::Registry(from)) => from,
            None => known_as.clone(),
        };
        let (settings, client) = self.network.as_ref().map_err(Clone::clone)?;
        if settings.repository(&from).is_none() {
            return Ok(None);
        }
        let given = Given { by_digest: true, policy, ..Given::default() };
        let admission = Admitted {
            settings: settings.clone(),
            client: Arc::clone(client),
            keys: keys_folder(self.paths),
            given,
        };
        Ok(Some(Again::Fetched(Box::new(registry::Again {
            client: Arc::clone(client),
            from,
            known_as,
            digest,
            unpack: settings.unpack,
            admission: Box::new(admission),
        }))))
    }
}

impl Outside for Origins<'_> {
    fn again(&mut self, image: &str) -> Vec<Again> {
        let mut ways: Vec<Again> =
            self.from.iter().map(|path| Again::Source(Source::Path(path.clone()))).collect();
        for (reference, digest) in self.references(image) {
            match self.way(reference, digest) {
                Ok(way) => ways.extend(way),
                Err(why) => ways.push(Again::Person(why)),
            }
        }
        if self.from.is_empty() {
            ways.push(Again::Person(format!(
                "get {image} again as the archive, layout or folder that it was imported from, and type: \
                 wharf fsck --repair --from SOURCE"
            )));
        }
        ways
    }

    fn named(&mut self, reference: &Reference, images: &[Digest]) -> Option<Digest> {
        let of = |running: &Running| match &running.container.source {
            RootSource::Image(named) if named == reference => running.image.as_ref()?.parse().ok(),
            _ => None,
        };
        if let Some(digest) = self.running.iter().find_map(of) {
            return Some(digest);
        }
        // What the registry calls so, if that is one of them.
        let (settings, client) = self.network.as_ref().ok()?;
        settings.repository(reference)?;
        let seen = registry::look(client, self.store, reference, None).ok()?;
        seen.manifest.parse().ok().filter(|digest| images.contains(digest))
    }
}
