//! `wharf image remove`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use crate::cli::output::{Exit, Failure, coloured, complain, error_text, print};
use crate::held;
use crate::host::Paths;
use crate::image::Store;
use crate::plan::held::Held;
use crate::spec::{ContainerName, Reference};

/// It is what a container falls back to.
#[derive(Debug, thiserror::Error)]
#[error(
    "{image} is the image of {container}'s last good plan, which is kept as {why}; it can go when the container \
     runs what its files say: wharf apply {container}"
)]
struct Kept {
    image: Reference,
    container: ContainerName,
    why: String,
}

/// Whether the image would go with this reference, and a container needs it all the same. Whoever falls back may not
/// run at the moment, so the store can't see it in use.
fn needed(store: &Store, marks: &BTreeMap<ContainerName, Held>, image: &Reference) -> Option<Kept> {
    let digest = store.digest_of(image).ok()?;
    let held = marks.values().find(|held| held.good.image == Some(digest.to_string()))?;
    let others = store.references().ok()?.into_iter();
    let last = !others.into_iter().any(|(name, named)| named == digest && name != image.to_string());
    (last || image.digest().is_some()).then(|| Kept {
        image: image.clone(),
        container: held.name().clone(),
        why: held.reason(),
    })
}

pub(super) fn run(paths: &Paths, store: &Store, images: &[Reference]) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut text = String::new();
    let marks = held::all(paths);
    for image in images {
        if let Some(kept) = needed(store, &marks, image) {
            complain(&error_text(&kept, coloured(&io::stderr())));
            exit = Exit::Failed;
            continue;
        }
        match store.remove(image) {
            Ok(removed) => {
                for reference in &removed.references {
                    let _ = writeln!(text, "removed {reference}");
                }
                if let Some(digest) = &removed.image {
                    let _ = writeln!(text, "removed {digest} and {} layers", removed.layers);
                }
                if let Some(why) = &removed.kept {
                    complain(&format!("note: {why}\n"));
                }
            }
            Err(error) => {
                complain(&error_text(&error, coloured(&io::stderr())));
                exit = Exit::Failed;
            }
        }
    }
    print(&text).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}
