//! Where the root comes from, and what becomes of writes to it.

use super::{RootMode, RootSource, Rules, paths};
use crate::spec::Reference;

/// `image` or `rootfs`: one of them.
pub fn source(rules: &mut Rules<'_>, required: bool) -> Option<RootSource> {
    match (rules.get("image"), rules.get("rootfs")) {
        (Some(image), Some(rootfs)) => {
            let (image, rootfs) = (image.key.clone(), rootfs.key.clone());
            let elsewhere = if image.source == rootfs.source {
                String::new()
            } else {
                format!(", which {} has", image.source.path.display())
            };
            rules.error(
                &rootfs,
                format!("`rootfs` can't stand beside `image`{elsewhere}"),
                "keep the one that the root comes from",
            );
            None
        }
        (Some(_), None) => image(rules),
        (None, Some(_)) => rootfs(rules),
        (None, None) => {
            if required {
                let whole = rules.whole();
                rules.error(
                    &whole,
                    "neither `image` nor `rootfs` is given",
                    "write image = \"NAME:TAG\", or rootfs = \"/FOLDER\"",
                );
            }
            None
        }
    }
}

fn image(rules: &mut Rules<'_>) -> Option<RootSource> {
    let (text, place) = rules.text("image")?;
    match text.parse::<Reference>() {
        Ok(reference) => Some(RootSource::Image(reference)),
        Err(error) => {
            let hint = if text.contains('%') && rules.name.as_str().contains('@') {
                "an instance gets another image by a drop-in of its own".to_owned()
            } else if text.contains("://") {
                "write it without the scheme: \"registry.example/name:tag\"".to_owned()
            } else {
                "for example: image = \"nginx:1.26\"".to_owned()
            };
            rules.error(place, format!("`image` is not a reference: {error}"), hint);
            None
        }
    }
}

fn rootfs(rules: &mut Rules<'_>) -> Option<RootSource> {
    let (text, place) = rules.text("rootfs")?;
    match paths::host(text) {
        Ok(path) if path.as_os_str() == "/" => {
            rules.error(
                place,
                "`rootfs` can't be the host's own root",
                "unpack a system of its own, for example with debootstrap",
            );
            None
        }
        Ok(path) => Some(RootSource::Folder(path)),
        Err(error) => {
            rules.error(place, format!("`rootfs` {}", error.message), error.hint);
            None
        }
    }
}

/// `root`.
pub fn mode(rules: &Rules<'_>) -> RootMode {
    match rules.text("root") {
        Some(("ephemeral", _)) => RootMode::Ephemeral,
        _ => RootMode::ReadOnly,
    }
}
