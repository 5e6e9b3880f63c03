//! `wharf image list`.

use std::fmt::Write as _;

use super::{heading, short, size};
use crate::cli::format::Form;
use crate::cli::output::{Exit, Failure, complain, harmless, plain, print};
use crate::image::{Sizes, Store};

/// Those of an image.
const KEYS: &[&str] = &[
    "references",
    "digest",
    "indexes",
    "architecture",
    "created",
    "size",
    "layers",
    "disk.own",
    "disk.shared",
];

/// Lists what can be listed, and says on stderr what can't.
pub(super) fn run(store: &Store, form: &Form) -> Result<Exit, Failure> {
    let shape = form.shape(KEYS)?;
    let sizes = store.sizes()?;
    let exit = if sizes.broken.is_empty() { Exit::Done } else { Exit::Failed };
    for broken in &sizes.broken {
        complain(&format!("error: {}\n", harmless(broken)));
    }
    if exit != Exit::Done {
        complain(
            "note: `wharf fsck` looks at all of the store, and `wharf fsck --repair` puts right what can be\n",
        );
    }
    let text = shape.text(&sizes.images, || table(&sizes))?;
    print(&text).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}

fn table(sizes: &Sizes) -> String {
    let mut text = String::new();
    let mut rows = Vec::new();
    for image in &sizes.images {
        let listed = &image.listed;
        let names =
            if listed.references.is_empty() { vec!["-".to_owned()] } else { listed.references.clone() };
        for name in names {
            let (own, shared) = (size(image.disk.own), size(image.disk.shared));
            rows.push((name, short(&listed.digest), listed.layers, own, shared, plain(&listed.architecture)));
        }
    }
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0).max("IMAGE".len());
    let head =
        format!("{:width$}  {:19}  {:>6}  {:>9}  {:>9}  ARCH", "IMAGE", "DIGEST", "LAYERS", "OWN", "SHARED");
    let _ = writeln!(text, "{}", heading(&head));
    for (name, digest, layers, own, shared, architecture) in rows {
        let _ =
            writeln!(text, "{name:width$}  {digest:19}  {layers:>6}  {own:>9}  {shared:>9}  {architecture}");
    }
    if sizes.images.len() > 1 {
        let (images, layers, total) = (sizes.images.len(), sizes.layers, size(sizes.total));
        let _ = writeln!(text, "{images} images of {layers} layers take {total} on the disk");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Listed, Sized, Usage};

    #[test]
    fn keys() {
        let listed = Listed {
            references: vec!["a:1".to_owned()],
            digest: "sha256:00".to_owned(),
            indexes: vec!["sha256:01".to_owned()],
            architecture: "amd64".to_owned(),
            created: Some("2026-01-01T00:00:00Z".to_owned()),
            size: 1,
            layers: 1,
        };
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(keys, crate::cli::format::keys_of(&Sized { listed, disk: Usage::default() }));
    }
}
