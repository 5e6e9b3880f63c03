//! OCI layouts, in a folder or a tar: `index.json` leads to manifests, all else is found by its digest.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::blobs::Blobs;
use super::remote::Wanted;
use super::{Import, empty};
use crate::image::config::{
    CONFIG, DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, INDEX, Index, MANIFEST, Manifest,
    ORIGINAL, machine_architecture,
};
use crate::image::digest::Digest;
use crate::image::error::ImageError;
use crate::image::index::NESTING;
use crate::image::store::DOCUMENT_MAX;
use crate::spec::Reference;

const LAYERS: [&str; 9] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// Where containerd and Docker write the whole reference, and where the specification wants a name.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    NAMES.iter().find_map(|key| descriptor.annotations.get(*key)).map(String::as_str)
}

/// Attestations and signatures lie beside images and are none.
fn is_image(descriptor: &Descriptor) -> bool {
    descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
        && !descriptor.annotations.contains_key("vnd.docker.reference.type")
}

fn is_index(descriptor: &Descriptor) -> bool {
    [INDEX, DOCKER_LIST].contains(&descriptor.media_type.as_str())
}

impl Import<'_, '_> {
    pub(super) fn oci(&mut self, blobs: &Blobs) -> Result<(), ImageError> {
        let index: Index = self.parse("its `index.json`", &blobs.document("index.json")?)?;
        // Descriptors of one name are one image for several machines.
        let mut images: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
        for descriptor in index.manifests.into_iter().filter(is_image) {
            images.entry(name_of(&descriptor).map(str::to_owned)).or_default().push(descriptor);
        }
        let names: Vec<_> = images.keys().flatten().cloned().collect();
        let pick = self.options.pick.as_deref();
        images.retain(|name, _| pick.is_none_or(|pick| name.as_deref() == Some(pick)));
        if images.is_empty() || (images.len() > 1 && self.options.name.is_some()) {
            return Err(self.several(pick, &names));
        }
        for (name, descriptors) in images {
            let reference = self.reference(name.as_deref())?;
            let descriptor = self.manifest_for_this_machine(blobs, descriptors)?;
            self.image(blobs, &descriptor, Some(reference))?;
        }
        Ok(())
    }

    /// A name in an index is a whole reference or, as the specification's examples have it, only a tag.
    fn reference(&self, name: Option<&str>) -> Result<Reference, ImageError> {
        if let Some(name) = &self.options.name {
            return Ok(name.clone());
        }
        let whole = name.filter(|name| name.contains(['/', ':'])).map(str::to_owned);
        let from_file = || {
            let base = self.file_name.as_deref()?;
            Some(name.map_or_else(|| base.to_owned(), |tag| format!("{base}:{tag}")))
        };
        let text = whole.or_else(from_file).or(name.map(str::to_owned));
        text.and_then(|text| text.parse().ok()).ok_or_else(|| {
            ImageError::Unclear(format!("{} has no name for its image; give it one with --name", self.what))
        })
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(bytes).map_err(|error| ImageError::Malformed {
            what: format!("{what} (of {})", self.what),
            why: format!("is not what it should be: {error}"),
        })
    }

    /// Indexes on the way to it stay in the store, so that their digests name it as well.
    pub(super) fn manifest_for_this_machine(
        &mut self,
        blobs: &Blobs,
        mut descriptors: Vec<Descriptor>,
    ) -> Result<Descriptor, ImageError> {
        for _ in 0..NESTING {
            let chosen = self.choose(descriptors)?;
            if !is_index(&chosen) {
                return Ok(chosen);
            }
            let bytes = self.document(blobs, "an index", &chosen)?;
            let index: Index = self.parse("an index", &bytes)?;
            self.staging.blob(&bytes)?;
            descriptors = index.manifests.into_iter().filter(is_image).collect();
        }
        Err(self.malformed(format!("has indexes in indexes, more than {NESTING} deep")))
    }

    fn choose(&self, descriptors: Vec<Descriptor>) -> Result<Descriptor, ImageError> {
        let wanted = self.options.platform.as_ref();
        let offered: Vec<_> = descriptors
            .iter()
            .filter_map(|descriptor| descriptor.platform.as_ref())
            .map(ToString::to_string)
            .collect();
        let fits = |descriptor: &Descriptor| {
            descriptor.platform.as_ref().is_none_or(|platform| platform.serves(wanted))
        };
        // One that says that it is for this machine goes before one that says nothing; of several variants
        // the plainest runs everywhere.
        descriptors
            .into_iter()
            .filter(fits)
            .min_by_key(|descriptor| {
                let platform = descriptor.platform.as_ref();
                (platform.is_none(), platform.and_then(|platform| platform.variant.clone()))
            })
            .ok_or_else(|| ImageError::Platform {
                what: self.what.clone(),
                wanted: wanted
                    .map_or_else(|| format!("linux/{}", machine_architecture()), ToString::to_string),
                offered: if offered.is_empty() { "none".to_owned() } else { offered.join(", ") },
            })
    }

    fn digest(&self, what: &str, descriptor: &Descriptor) -> Result<Digest, ImageError> {
        descriptor
            .digest
            .parse()
            .map_err(|error| self.malformed(format!("has {what} with a bad digest: {error}")))
    }

    /// A small blob, checked.
    fn document(&self, blobs: &Blobs, what: &str, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let digest = self.digest(what, descriptor)?;
        if descriptor.size > DOCUMENT_MAX {
            return Err(
                self.malformed(format!("has {what} of {} bytes; {DOCUMENT_MAX} fit", descriptor.size))
            );
        }
        let bytes = blobs.small(descriptor, &digest)?;
        let what = format!("{what} of {}", self.what);
        if (bytes.len() as u64) < descriptor.size {
            return Err(ImageError::Truncated { what });
        }
        let found = Digest::of(&bytes);
        if found != digest {
            let (expected, found) = (digest.to_string(), found.to_string());
            return Err(ImageError::Digest { what, expected, found });
        }
        Ok(bytes)
    }

    pub(super) fn image(
        &mut self,
        blobs: &Blobs,
        from: &Descriptor,
        reference: Option<Reference>,
    ) -> Result<(), ImageError> {
        let media_type = |what: String, found: &str, wanted| {
            Err(ImageError::MediaType { what, found: found.to_owned(), wanted })
        };
        if ![MANIFEST, DOCKER_MANIFEST].contains(&from.media_type.as_str()) {
            return media_type(self.what.clone(), &from.media_type, "an image's manifest");
        }
        // Before anything is unpacked for nothing.
        self.pinned(&self.digest("the manifest", from)?)?;
        let manifest_bytes = self.document(blobs, "the manifest", from)?;
        let manifest: Manifest = self.parse("the manifest", &manifest_bytes)?;
        if let Some(own) = manifest.media_type.as_deref().filter(|own| *own != from.media_type) {
            return media_type(format!("the manifest of {}", self.what), own, "what its index says");
        }
        if ![CONFIG, DOCKER_CONFIG].contains(&manifest.config.media_type.as_str()) {
            let what = format!("the config of {}", self.what);
            return media_type(what, &manifest.config.media_type, "a container image's config");
        }
        for layer in &manifest.layers {
            if !LAYERS.contains(&layer.media_type.as_str()) {
                let what = format!("the layer {} of {}", layer.digest, self.what);
                return media_type(what, &layer.media_type, "a layer's");
            }
        }
        let config_bytes = self.document(blobs, "the config", &manifest.config)?;
        let (config, diff_ids) = self.config(&format!("the config of {}", self.what), &config_bytes)?;
        // Where no index says for whom it is, the config does.
        if let Some(wanted) = self.options.platform.as_ref().filter(|_| from.platform.is_none())
            && !config.architecture.is_empty()
            && config.architecture != wanted.architecture
        {
            return Err(ImageError::Platform {
                what: self.what.clone(),
                wanted: wanted.to_string(),
                offered: format!("linux/{}", config.architecture),
            });
        }
        if diff_ids.len() != manifest.layers.len() {
            return Err(self.malformed(format!(
                "has a manifest with {} layers and a config with {} diff ids",
                manifest.layers.len(),
                diff_ids.len()
            )));
        }
        let mut image = empty();
        let mut layers = Vec::new();
        for (index, (layer, diff_id)) in manifest.layers.iter().zip(&diff_ids).enumerate() {
            let (digest, bottom) = (self.digest("a layer", layer)?, index == 0);
            layers.push(Wanted { digest, size: layer.size, diff_id: *diff_id, bottom });
        }
        let mut missing = Vec::new();
        for layer in &layers {
            if !self.staging.keep_layer(&layer.diff_id, layer.bottom)? {
                missing.push(*layer);
            }
        }
        blobs.begin(&missing);
        for Wanted { digest, size, diff_id, bottom } in &layers {
            let what = format!("the layer {digest} of {}", self.what);
            let open = || blobs.layer(digest);
            while let Err(error) =
                self.layer(&what, open, Some((*digest, *size)), diff_id, *bottom, &mut image)
            {
                blobs.again(digest, error)?;
            }
        }
        let manifest_bytes = match from.annotations.get(ORIGINAL) {
            None => manifest_bytes,
            Some(digest) => self.original(blobs, digest, &manifest)?,
        };
        let references: Vec<_> = reference.into_iter().collect();
        self.add(&config_bytes, &manifest_bytes, &references, image)
    }

    /// The manifest that the image had before `wharf image save` made one for the layers as they are in the archive.
    /// It must lead to the same config, and by that to the same layers.
    fn original(&self, blobs: &Blobs, digest: &str, manifest: &Manifest) -> Result<Vec<u8>, ImageError> {
        let what = "the manifest that it was saved with";
        let wanted: Digest = digest
            .parse()
            .map_err(|error| self.malformed(format!("names {what} by a bad digest: {error}")))?;
        let bytes = blobs.document(&format!("blobs/sha256/{}", wanted.hex()))?;
        let found = Digest::of(&bytes);
        if found != wanted {
            let what = format!("{what}, of {},", self.what);
            return Err(ImageError::Digest { what, expected: wanted.to_string(), found: found.to_string() });
        }
        let original: Manifest = self.parse(what, &bytes)?;
        if original.config.digest != manifest.config.digest || original.layers.len() != manifest.layers.len()
        {
            return Err(self.malformed(format!("says that {what} is {digest}, which is of another image")));
        }
        Ok(bytes)
    }
}
