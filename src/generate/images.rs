//! Reading the rest of the search path: files of images, and `wharf.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::read::{self, DropIns, Scan};
use crate::host::Paths;
use crate::plan::Files;
use crate::report::{Finding, Source};
use crate::spec::ImageName;

/// The folder of drop-ins for every image; so none can be called this.
const FOR_ALL: &str = "image";

/// The name of the host's settings, and of their drop-ins' folder.
const SETTINGS: (&str, &str) = ("wharf.toml", "wharf.toml.d");

/// The files of images, masked ones left out, and those that mask.
#[derive(Clone, Debug, Default)]
pub struct ImageListing {
    /// By name.
    pub images: Vec<Files<ImageName>>,
    /// Drop-ins for all.
    pub for_all: Vec<Arc<Source>>,
    /// Images that an empty file masks, with it.
    pub masked: Vec<(ImageName, PathBuf)>,
    /// What was found wrong on the way.
    pub findings: Vec<Finding>,
}

/// Lists and reads the images of the search path.
pub fn images(paths: &Paths) -> ImageListing {
    let Scan { mains, mut drop_ins, mut findings } = read::scan(paths, "images", "an image", image_name);
    let for_all = read::for_all(paths, &mut drop_ins, FOR_ALL, &mut findings);
    let mut listing = ImageListing::default();
    for (name, path) in mains {
        let own = drop_ins.remove(name.as_str()).unwrap_or_default();
        match files(paths, name, &path, &for_all, own) {
            Ok(files) => listing.images.push(files),
            Err(name) => listing.masked.push((name, paths.shown(&path))),
        }
    }
    for (stem, DropIns { files, findings: found }) in drop_ins {
        findings.extend(found);
        if let Some(first) = files.values().next() {
            findings.push(read::nothing_to_add_to(paths, first, &stem, "an image"));
        }
    }
    listing.findings = findings;
    listing.for_all = for_all.into_values().filter(|source| !source.text.is_empty()).collect();
    listing
}

/// The image that a file's name without its end stands for.
pub fn image_name(stem: &str) -> Result<ImageName, String> {
    if stem == FOR_ALL {
        return Err(format!("{FOR_ALL}.toml.d is for the drop-ins of all images"));
    }
    ImageName::of_file(stem).map_err(|error| error.to_string())
}

/// One image's files; its name back where it is masked.
fn files(
    paths: &Paths,
    name: ImageName,
    path: &std::path::Path,
    for_all: &BTreeMap<String, Arc<Source>>,
    own: DropIns,
) -> Result<Files<ImageName>, ImageName> {
    let (main, finding) = read::text(paths.shown(path), &paths.read_for(path));
    let mut findings: Vec<Finding> = finding.into_iter().collect();
    if main.text.is_empty() && findings.is_empty() {
        return Err(name);
    }
    let DropIns { files: own, findings: found } = own;
    findings.extend(found);
    let shared = for_all.iter().filter(|(file, _)| !own.contains_key(*file));
    let mut drop_ins: Vec<_> = shared.map(|(_, source)| Arc::clone(source)).collect();
    for path in own.values() {
        let (source, finding) = read::text(paths.shown(path), &paths.read_for(path));
        findings.extend(finding);
        drop_ins.push(source);
    }
    drop_ins.retain(|source| !source.text.is_empty());
    Ok(Files { name, main, drop_ins, findings })
}

/// The host's settings: the first `wharf.toml` of the search path, and every drop-in, which need none.
pub fn settings(paths: &Paths) -> Files<()> {
    let mut main = None;
    let mut drop_ins = DropIns::default();
    let mut findings = Vec::new();
    for folder in paths.search() {
        let path = folder.join(SETTINGS.0);
        if paths.read_for(&path).symlink_metadata().is_ok() {
            match &main {
                None => {
                    let (source, finding) = read::text(paths.shown(&path), &paths.read_for(&path));
                    findings.extend(finding);
                    main = Some(source);
                }
                Some(above) => findings.push(
                    Finding::note(read::nowhere(paths, &path), "this file is not read")
                        .hint(format!("{} takes its place", above.path.display())),
                ),
            }
        }
        drop_ins.add(paths, &folder.join(SETTINGS.1));
    }
    findings.extend(drop_ins.findings);
    let mut texts = Vec::new();
    for path in drop_ins.files.values() {
        let (source, finding) = read::text(paths.shown(path), &paths.read_for(path));
        findings.extend(finding);
        texts.push(source);
    }
    texts.retain(|source| !source.text.is_empty());
    let main = main.unwrap_or_else(|| Source::new(format!("/etc/wharf/{}", SETTINGS.0), ""));
    Files { name: (), main, drop_ins: texts, findings }
}
