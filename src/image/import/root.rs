//! Root file systems: a tar and nothing else. The same tar with the same options makes the same digests,
//! however it is compressed.

use std::io::Read;

use super::{Import, empty, synthesized, to_json};
use crate::image::config::{Execution, ImageConfig, RootFs, machine_architecture};
use crate::image::error::ImageError;
use crate::spec::Reference;

impl Import<'_, '_> {
    pub(super) fn root(&mut self, input: impl Read + Send) -> Result<(), ImageError> {
        if self.options.pick.is_some() {
            return Err(self.malformed("is a root file system and has no images to pick from"));
        }
        let reference = self.root_name()?;
        let mut image = empty();
        let what = self.what.clone();
        let (summary, passed) = self.unpack(&what, input, None, None, true, &mut image)?;
        if summary.entries == 0 {
            return Err(self.malformed("holds no files"));
        }
        image.layers = 1;
        let changes = &self.options.changes;
        let config = ImageConfig {
            architecture: machine_architecture().to_owned(),
            os: "linux".to_owned(),
            created: None,
            config: Execution {
                user: changes.user.clone(),
                env: changes.environment.clone(),
                entrypoint: changes.entrypoint.clone(),
                cmd: changes.command.clone(),
                working_dir: changes.working_directory.clone(),
                stop_signal: changes.stop_signal.clone(),
                labels: Default::default(),
                healthcheck: None,
            },
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![passed.diff_id.to_string()] },
        };
        let config = to_json(&config)?;
        let manifest = synthesized(&config, &[(passed.diff_id, passed.tar_bytes)])?;
        self.add(&config, &manifest, &[reference], image)
    }

    /// Known before anything is unpacked, so that nobody waits for nothing.
    fn root_name(&self) -> Result<Reference, ImageError> {
        let from_file = || self.file_name.as_deref().and_then(|name| name.parse().ok());
        self.options.name.clone().or_else(from_file).ok_or_else(|| {
            ImageError::Unclear(format!(
                "{} doesn't say what the image is called; give it a name with --name",
                self.what
            ))
        })
    }
}
