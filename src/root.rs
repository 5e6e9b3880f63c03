//! What a container's root is made of, and what its image says about the program: for the executor, which
//! uses it, and for `wharf plan`, which shows it. Reads the store and nothing else.

use std::io;
use std::path::PathBuf;

use crate::check::{Container, RootSource};
use crate::host::Paths;
use crate::image::{Execution, ImageError, Implied, Store, implied};
use crate::plan::process::ImageProcess;

/// A root, as far as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Layers, the lowest first; a folder is the only one of its own.
    pub layers: Vec<PathBuf>,
    /// Folders of which overlayfs would show what no layer has said.
    pub implied: Vec<Implied>,
    /// What the image says about its program; nothing for a folder.
    pub image: ImageProcess,
    /// The digest of the image's manifest; nothing for a folder.
    pub digest: Option<String>,
}

impl Root {
    /// That of a folder, which says nothing about its program.
    pub fn folder(folder: PathBuf) -> Self {
        Self { layers: vec![folder], implied: Vec::new(), image: ImageProcess::default(), digest: None }
    }
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// `rootfs` leads to something else.
    #[error("the rootfs {} is not a folder", .0.display())]
    NoFolder(PathBuf),
    /// `rootfs` leads to nothing.
    #[error("the rootfs {} is not there", .0.display())]
    Missing(PathBuf),
    /// The kernel refused.
    #[error("can't look at the rootfs {}", .0.display())]
    Look(PathBuf, #[source] io::Error),
    /// The store has no such image, or can't be read.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl RootError {
    /// The way out, where the text doesn't say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Missing(_) => Some("unpack a root file system there, or change `rootfs`"),
            Self::Image(ImageError::Damaged { .. }) => Some("`wharf fsck --repair` puts right what can be"),
            _ => None,
        }
    }
}

/// Finds a container's root.
///
/// # Errors
/// [`RootError`].
pub fn find(paths: &Paths, container: &Container) -> Result<Root, RootError> {
    match &container.source {
        RootSource::Folder(folder) => {
            let folder = paths.host(folder);
            match std::fs::metadata(&folder) {
                Ok(found) if found.is_dir() => Ok(Root::folder(folder)),
                Ok(_) => Err(RootError::NoFolder(folder)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(RootError::Missing(folder)),
                Err(error) => Err(RootError::Look(folder, error)),
            }
        }
        RootSource::Image(reference) => {
            let image = Store::new(paths.state()).resolve(reference)?;
            Ok(Root {
                implied: implied(&image.layers)?,
                layers: image.layers,
                image: image_process(image.config.config),
                digest: Some(image.digest),
            })
        }
    }
}

fn image_process(execution: Execution) -> ImageProcess {
    let Execution { user, env, entrypoint, cmd, working_dir, stop_signal, labels: _, healthcheck } =
        execution;
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    ImageProcess {
        entrypoint,
        command: cmd,
        environment: env,
        user: given(user),
        working_directory: given(working_dir),
        stop_signal: given(stop_signal),
        healthcheck,
    }
}
