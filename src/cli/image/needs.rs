//! What of the store containers need: what is declared now, what the last reload has planned, and what runs.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::check::{Container, RootSource};
use crate::generate;
use crate::held;
use crate::host::Paths;
use crate::image::{Digest, Needs};
use crate::plan::{self, Plan};
use crate::report::{Finding, Level};
use crate::running::Running;
use crate::spec::Reference;
use crate::transient;

/// What tells of a file's mistakes.
const CHECK: &str = "wharf check";

/// Gathers them.
///
/// Of a container file with mistakes what its `image` says counts; of one that isn't TOML nothing can be told.
///
/// # Errors
/// The records of running containers can't be listed.
pub(in crate::cli) fn needs(paths: &Paths) -> io::Result<Needs> {
    let mut needs = Needs::default();
    let listing = generate::list(paths);
    for (name, found) in &listing.containers {
        let Some(files) = generate::read(paths, &listing, name, found) else { continue };
        let (document, syntax) = plan::document(&files);
        let image = document.get(["image"]).map(|entry| entry.value.text());
        let checked = plan::check(&files);
        match (checked.container, image) {
            (Some(container), _) => add(&mut needs.references, &container),
            (None, Some(Some(text))) if text.parse::<Reference>().is_ok() => {
                needs.references.extend(text.parse::<Reference>());
            }
            (None, None) if document.get(["rootfs"]).is_some() => {}
            (None, _) => needs.unreadable.push((files.main.path.display().to_string(), CHECK)),
        }
        // A drop-in that says nothing for its mistakes may have meant another image than the file does.
        let of_files = |finding: &&Finding| {
            finding.level == Level::Error && finding.place.source.path != files.main.path
        };
        if let Some(finding) = syntax.iter().find(of_files) {
            needs.unreadable.push((finding.place.source.path.display().to_string(), CHECK));
        }
    }
    images(paths, &mut needs);
    for (folder, way_out) in [
        (paths.plans(), "systemctl daemon-reload"),
        (paths.image_plans(), "systemctl daemon-reload"),
        (paths.last_good(), "systemctl restart for its container"),
        (paths.running(), "systemctl restart for its container"),
        (held::folder(paths), "wharf apply"),
    ] {
        records(paths, &folder, way_out, &mut needs)?;
    }
    for name in transient::names(paths) {
        records(paths, &transient::folder(paths, &name), "systemctl stop for its container", &mut needs)?;
    }
    Ok(needs)
}

/// Plans, and what runs. Of one that another version of Wharf has written, every text counts that can be a reference
/// or a digest.
fn records(paths: &Paths, folder: &Path, way_out: &'static str, needs: &mut Needs) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = match fs::read(&path) {
            // It has ended, or a reload makes it anew.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.unwrap_or_default(),
        };
        if let Ok(plan) = serde_json::from_slice::<Plan>(&text) {
            add(&mut needs.references, &plan.container);
        } else if let Ok(running) = serde_json::from_slice::<Running>(&text) {
            add(&mut needs.references, &running.container);
            needs.digests.extend(running.image.and_then(|digest| digest.parse::<Digest>().ok()));
        } else if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&text) {
            in_json(&value, &mut needs.references);
        } else {
            needs.unreadable.push((paths.shown(&path).display().to_string(), way_out));
        }
    }
    Ok(())
}

fn add(references: &mut BTreeSet<Reference>, container: &Container) {
    if let RootSource::Image(reference) = &container.source {
        references.insert(reference.clone());
    }
}

/// What files of images name. Every text in them that can be a reference counts: one too many keeps an image.
fn images(paths: &Paths, needs: &mut Needs) {
    let mut seen = BTreeSet::new();
    for folder in paths.search().map(|folder| folder.join("images")) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let path = entry.path();
            let stem =
                name.to_str().and_then(|name| name.strip_suffix(".toml").or(name.strip_suffix(".toml.d")));
            let Some(stem) = stem else { continue };
            // A folder of drop-ins adds to a file of the same name, and a file hides one of a lower folder.
            let files = if path.is_dir() {
                fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
            } else if seen.insert(name.clone()) {
                vec![path]
            } else {
                continue;
            };
            needs.references.extend(stem.parse::<Reference>());
            for file in files {
                let table = match fs::read_to_string(&file) {
                    // An editor has just put another one there, or a link leads to nothing.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(_) => None,
                    Ok(text) => text.parse::<toml::Table>().ok(),
                };
                match table {
                    Some(table) => texts(&toml::Value::Table(table), &mut needs.references),
                    None => needs.unreadable.push((paths.shown(&file).display().to_string(), CHECK)),
                }
            }
        }
    }
}

fn texts(value: &toml::Value, references: &mut BTreeSet<Reference>) {
    match value {
        toml::Value::String(text) => one(text, references),
        toml::Value::Array(values) => values.iter().for_each(|value| texts(value, references)),
        toml::Value::Table(table) => table.values().for_each(|value| texts(value, references)),
        _ => {}
    }
}

fn in_json(value: &serde_json::Value, references: &mut BTreeSet<Reference>) {
    match value {
        serde_json::Value::String(text) => one(text, references),
        serde_json::Value::Array(values) => values.iter().for_each(|value| in_json(value, references)),
        serde_json::Value::Object(object) => object.values().for_each(|value| in_json(value, references)),
        _ => {}
    }
}

fn one(text: &str, references: &mut BTreeSet<Reference>) {
    references.extend(text.parse::<Reference>());
    // A digest by itself: whatever its name.
    references.extend(format!("any@{text}").parse::<Reference>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_an_image_needs_it() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        let digest = format!("sha256:{}", "a".repeat(64));
        write("etc/wharf/containers/good.toml", "image = \"good:1\"\n");
        write("etc/wharf/containers/wrong.toml", "image = \"wrong:1\"\nmemroy = 3\n");
        write("etc/wharf/containers/folder.toml", "rootfs = \"/srv/x\"\nmemroy = 3\n");
        write("etc/wharf/images/web.toml", &format!("from = \"/srv/web.tar\"\ndigest = \"{digest}\"\n"));
        write("usr/lib/wharf/images/web.toml", "reference = \"hidden:1\"\n");
        let paths = Paths::new(root.path());
        let found = needs(&paths).expect("read");
        let names: Vec<_> = found.references.iter().map(Reference::to_string).collect();
        // The digest by itself could be a name with a tag as well; that keeps nothing that must go.
        assert_eq!(names, [&format!("any@{digest}"), "good:1", &digest, "web:latest", "wrong:1"]);
        assert_eq!(found.unreadable, vec![]);
        // What is held back falls back to an image that nothing else may name any more.
        let good = format!("sha256:{}", "b".repeat(64));
        write("var/lib/wharf/held/x.json", &format!("{{\"good\":{{\"image\":\"{good}\"}}}}"));
        let kept = needs(&paths).expect("read").references;
        assert!(kept.iter().any(|reference| reference.digest() == Some(&*good)), "{kept:?}");
        write("etc/wharf/containers/broken.toml", "image = \n");
        assert_eq!(
            needs(&paths).expect("read").unreadable,
            [("/etc/wharf/containers/broken.toml".to_owned(), CHECK)]
        );
    }
}
