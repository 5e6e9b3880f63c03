//! What the files of images say about those that somebody names on a command line: as a container's start has it.

use std::path::PathBuf;

use crate::check::{CheckedImage, DeclaredImage, Supplies};
use crate::generate::{self, Listing};
use crate::host::Paths;
use crate::plan::Files;
use crate::settings::Policy;
use crate::spec::{ImageName, Reference};

/// All of them.
pub(in crate::cli) struct Owns {
    images: Vec<(Files<ImageName>, CheckedImage)>,
    supplies: Supplies,
}

/// What is said of one image.
pub(in crate::cli) struct Own<'a> {
    /// The policy that goes before `wharf.toml`'s.
    pub(in crate::cli) policy: Option<Policy>,
    /// The file that is about it.
    pub(in crate::cli) file: Option<PathBuf>,
    /// What that declares, where it has no mistakes.
    pub(in crate::cli) image: Option<&'a DeclaredImage>,
}

impl Owns {
    /// Reads and checks them.
    pub(in crate::cli) fn read(paths: &Paths) -> Self {
        let all = generate::check_everything(paths, &Listing::default());
        Self { images: all.images, supplies: all.supplies }
    }

    /// What they say of an image. A digest in the reference is the container's own to write: the file is about the
    /// name.
    pub(in crate::cli) fn of(&self, reference: &Reference) -> Own<'_> {
        let whole = reference.to_string();
        let name = whole.split('@').next().and_then(|name| name.parse::<Reference>().ok());
        let name = name.filter(|_| reference.tag().is_some()).unwrap_or_else(|| reference.clone());
        let about =
            |checked: &CheckedImage| checked.reference.as_ref().is_some_and(|(named, _)| *named == name);
        let found = self.images.iter().find(|(_, checked)| about(checked));
        Own {
            policy: self.supplies.of(&name).and_then(|(supply, _)| supply.trust),
            file: found.map(|(files, _)| files.main.path.clone()),
            image: found.and_then(|(_, checked)| checked.image.as_ref()),
        }
    }
}
