//! Archives of `docker save`: `manifest.json` lists images, each a config and the tars of its layers. They
//! carry no manifest, so one is made of the uncompressed layers.

use serde::Deserialize;

use super::blobs::Blobs;
use super::{Import, empty, synthesized};
use crate::image::digest::Digest;
use crate::image::error::ImageError;
use crate::spec::Reference;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Import<'_, '_> {
    pub(super) fn docker(&mut self, blobs: &Blobs) -> Result<(), ImageError> {
        let list: Vec<Saved> = serde_json::from_slice(&blobs.document("manifest.json")?)
            .map_err(|error| self.malformed(format!("has a `manifest.json` that isn't Docker's: {error}")))?;
        let pick = self.options.pick.as_deref();
        let chosen: Vec<_> = list
            .iter()
            .filter(|saved| pick.is_none_or(|pick| saved.repo_tags.iter().flatten().any(|tag| tag == pick)))
            .collect();
        if chosen.is_empty() || (chosen.len() > 1 && self.options.name.is_some()) {
            let tags: Vec<_> =
                list.iter().flat_map(|saved| saved.repo_tags.iter().flatten()).cloned().collect();
            return Err(self.several(pick, &tags));
        }
        for saved in chosen {
            self.saved(blobs, saved)?;
        }
        Ok(())
    }

    /// What there is to pick from.
    pub(super) fn several(&self, pick: Option<&str>, names: &[String]) -> ImageError {
        let names = if names.is_empty() { "images without names".to_owned() } else { names.join(", ") };
        ImageError::Unclear(match pick {
            Some(pick) => format!("{} has no image called `{pick}`; it has {names}", self.what),
            None => format!(
                "{} has {names}; a name can be given to one of them: choose it with --pick, or `pick` in the image's file",
                self.what
            ),
        })
    }

    fn saved(&mut self, blobs: &Blobs, saved: &Saved) -> Result<(), ImageError> {
        let what = format!("the config `{}` of {}", saved.config, self.what);
        let config_bytes = blobs.document(&saved.config)?;
        // Configs are named by their digests, in three ways.
        let name = saved.config.rsplit('/').next().unwrap_or_default();
        let name = name.strip_prefix("sha256:").unwrap_or(name);
        if let Ok(expected) = Digest::from_hex(name.strip_suffix(".json").unwrap_or(name)) {
            let found = Digest::of(&config_bytes);
            if found != expected {
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(ImageError::Digest { what, expected, found });
            }
        }
        let (_, diff_ids) = self.config(&what, &config_bytes)?;
        if diff_ids.len() != saved.layers.len() {
            return Err(self.malformed(format!(
                "lists {} layers, and its config {} diff ids",
                saved.layers.len(),
                diff_ids.len()
            )));
        }
        let references: Vec<Reference> = match &self.options.name {
            Some(name) => vec![name.clone()],
            None => {
                let tags = saved.repo_tags.iter().flatten();
                let parsed: Result<_, _> = tags.map(|tag| tag.parse()).collect();
                parsed.map_err(|error| self.malformed(format!("has a bad reference: {error}")))?
            }
        };
        if references.is_empty() {
            return Err(ImageError::Unclear(format!(
                "{} has no name for its image; give it one with --name",
                self.what
            )));
        }
        let mut image = empty();
        let mut layers = Vec::new();
        for (index, (path, diff_id)) in saved.layers.iter().zip(&diff_ids).enumerate() {
            let what = format!("the layer `{path}` of {}", self.what);
            let open = || blobs.open(path).map(|(reader, _)| Some(reader));
            let bytes = self.layer(&what, open, None, diff_id, index == 0, &mut image)?;
            layers.push((*diff_id, bytes));
        }
        let manifest = synthesized(&config_bytes, &layers)?;
        self.add(&config_bytes, &manifest, &references, image)
    }
}
