//! Images that are elsewhere and come piece by piece: the import asks for what it needs, and checks all of it.

use std::io::Read;

use super::blobs::Blobs;
use super::{Import, Imported, Options, enter};
use crate::image::config::Descriptor;
use crate::image::digest::Digest;
use crate::image::error::ImageError;
use crate::image::signatures::Admission;
use crate::image::staging::Staging;
use crate::image::store::Store;
use crate::spec::Reference;

/// Who has the pieces. It needn't check anything.
pub(crate) trait Remote: Sync {
    /// A file by its name in a layout.
    fn named(&self, name: &str) -> Result<Vec<u8>, ImageError>;

    /// A manifest, an index or a config.
    fn small(&self, descriptor: &Descriptor, digest: &Digest) -> Result<Vec<u8>, ImageError>;

    /// These layers will be opened, in this order.
    fn begin(&self, layers: &[Wanted]);

    /// A layer's bytes; nothing where it came into the store while this waited.
    fn open(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, ImageError>;

    /// What to do about an error with a layer: it is the answer, unless that is worth another try.
    fn again(&self, digest: &Digest, error: ImageError) -> Result<(), ImageError>;
}

/// A layer that the store doesn't have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Of the blob.
    pub(crate) digest: Digest,
    /// Bytes of the blob.
    pub(crate) size: u64,
    /// Of the uncompressed tar.
    pub(crate) diff_id: Digest,
    /// Whether nothing lies below it.
    pub(crate) bottom: bool,
}

/// Where to begin.
pub(crate) enum Entry {
    /// At the `index.json` of a layout, which has names for its images; the layout's own name stands in for
    /// what is missing there.
    Layout(Option<String>),
    /// At a manifest or an index, which is asked for by a reference. One with a digest isn't kept: the digest names
    /// the image.
    Image(Descriptor, Reference),
}

/// Imports an image from elsewhere; see [`super::import`].
pub(crate) fn import_from(
    store: &Store,
    remote: &dyn Remote,
    what: &str,
    entry: Entry,
    options: &Options,
    admission: &dyn Admission,
) -> Result<Vec<Imported>, ImageError> {
    if let Some(name) = &options.name {
        crate::image::store::storable(name)?;
    }
    let known_as = match &entry {
        Entry::Layout(_) => None,
        Entry::Image(_, reference) => Some(reference.clone()),
    };
    let (staging, imported) = stage_from(store, Staging::begin(store)?, remote, what, entry, options)?;
    enter(store, staging, imported, known_as.as_ref(), admission)
}

/// Everything but the commit.
pub(crate) fn stage_from<'s>(
    store: &'s Store,
    staging: Staging<'s>,
    remote: &dyn Remote,
    what: &str,
    entry: Entry,
    options: &Options,
) -> Result<(Staging<'s>, Vec<Imported>), ImageError> {
    let progress = |_| ();
    let mut import = Import {
        store,
        staging,
        options,
        progress: &progress,
        what: what.to_owned(),
        file_name: None,
        unpacked: 0,
        imported: Vec::new(),
    };
    let blobs = Blobs::remote(what, remote);
    match entry {
        Entry::Layout(name) => {
            import.file_name = name;
            import.oci(&blobs)?;
        }
        Entry::Image(descriptor, reference) => {
            let manifest = import.manifest_for_this_machine(&blobs, vec![descriptor])?;
            let name = Some(reference).filter(|reference| reference.digest().is_none());
            import.image(&blobs, &manifest, name)?;
        }
    }
    Ok((import.staging, import.imported))
}
