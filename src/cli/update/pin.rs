//! `wharf update --pin`: the digest in a container's file becomes the one that its tag names now.
//!
//! The file is not parsed and written again: the bytes of the one text are replaced, at the place that the parser
//! found it, and all else is as it was, comments and line ends too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Ask, Asked, WriteError};
use crate::check::RootSource;
use crate::cli::output::plain;
use crate::host::Paths;
use crate::plan;
use crate::report::Source;
use crate::spec::{ContainerName, Reference};

/// Where the files are that people write (see [`Paths::search`]).
const ADMINISTRATORS: &str = "/etc/wharf";

/// A pin that moves. The keys are documented in `--help` and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Moved {
    container: ContainerName,
    file: PathBuf,
    line: usize,
    before: String,
    after: String,
    #[serde(skip)]
    was: String,
    #[serde(skip)]
    text: String,
}

/// What `--pin` finds.
#[derive(Debug, Default)]
pub(super) struct Pins {
    /// Each line that changes, once: instances of a template may share one, and so may containers with a drop-in.
    pub(super) moved: Vec<Moved>,
    /// Those that it changes something for.
    pub(super) containers: BTreeSet<ContainerName>,
    /// Which can't be told, as tags that were asked for.
    pub(super) problems: Vec<Asked>,
}

/// Why a pin isn't moved that an image's own file has.
pub(super) fn elsewhere(file: &Path) -> String {
    format!("its image is pinned in {}; write another `digest` there, or leave it out", file.display())
}

/// Which pins move.
pub(super) fn look(ask: &Ask<'_>, names: &[ContainerName]) -> Pins {
    let Pins { mut moved, mut containers, mut problems } = Pins::default();
    for (name, container) in ask.containers(names) {
        let RootSource::Image(reference) = &container.source else { continue };
        let Ok(files) = ask.declared.files(&name) else { continue };
        let (document, _) = plan::document(&files);
        let Some(entry) = document.get(["image"]) else { continue };
        let Some(written) = entry.value.text().and_then(|text| text.parse::<Reference>().ok()) else {
            continue;
        };
        let mut problem = |problem: String| {
            problems.push(Asked {
                reference: written.to_string(),
                here: reference.digest().map(str::to_owned),
                there: None,
                fetched: false,
                problem: Some(problem),
                snapshots: BTreeMap::new(),
                new: false,
            });
        };
        if written.digest().is_none() {
            // Who asks for all means those that are pinned in their own files.
            if let Some(file) = ask.everything.pinned_in(reference).filter(|_| names.contains(&name)) {
                problem(elsewhere(file));
            }
            continue;
        }
        let Some(tag) = written.tag() else {
            problem(format!(
                "{name} names no tag beside its digest, so there is nothing to follow; write one"
            ));
            continue;
        };
        let newest = match format!("{}:{tag}", written.name()).parse::<Reference>() {
            Ok(tag) => ask.newest(&tag),
            Err(error) => Err(error.to_string()),
        };
        let after = match newest {
            Ok(digest) => written.pinned(&digest.to_string()),
            Err(why) => {
                problem(why);
                continue;
            }
        };
        if after == written {
            continue;
        }
        let place = &entry.value.place;
        // A package's next version would overwrite what is written there, and a boot what is in /run.
        if !place.source.path.starts_with(ADMINISTRATORS) {
            problem(format!(
                "{} isn't yours to edit; write image = \"{after}\" into {ADMINISTRATORS}/containers/{name}.toml.d/pin.toml",
                place.source.path.display()
            ));
            continue;
        }
        containers.insert(name.clone());
        if moved.iter().any(|other| other.file == place.source.path) {
            continue;
        }
        let replaced = place
            .span
            .clone()
            .and_then(|span| replaced(&place.source, span, written.digest()?, after.digest()?));
        match replaced {
            Some((line, text)) => moved.push(Moved {
                container: name,
                file: place.source.path.clone(),
                line,
                before: written.to_string(),
                after: after.to_string(),
                was: place.source.text.clone(),
                text,
            }),
            None => {
                containers.remove(&name);
                problem(format!("{} doesn't have the digest in plain letters", place.source.path.display()));
            }
        }
    }
    Pins { moved, containers, problems }
}

/// The text with one digest in place of the other, within a span; and the line of that.
fn replaced(
    source: &Source,
    span: std::ops::Range<usize>,
    before: &str,
    after: &str,
) -> Option<(usize, String)> {
    let at = span.start + source.text.get(span.clone())?.find(before)?;
    let mut text = source.text.clone();
    text.replace_range(at..at + before.len(), after);
    Some((source.position(at).0, text))
}

/// The lines that change.
pub(super) fn diff(moved: &[Moved]) -> String {
    let mut shown = String::new();
    for Moved { file, line, was, text, .. } in moved {
        let line_of = |text: &str| plain(text.lines().nth(line - 1).unwrap_or_default());
        shown += &format!("{}:{line}\n-{}\n+{}\n", file.display(), line_of(was), line_of(text));
    }
    shown
}

/// Writes the file, durably, with the owner and mode that it has; a link stays one.
pub(super) fn write(paths: &Paths, moved: &Moved) -> Result<(), WriteError> {
    let path = paths.host(&moved.file);
    let write = || -> io::Result<()> {
        let path = fs::canonicalize(&path)?;
        // Somebody may be editing it.
        if fs::read_to_string(&path)? != moved.was {
            return Err(io::Error::other("it has changed since it was read"));
        }
        let metadata = fs::metadata(&path)?;
        let mut fresh = path.clone().into_os_string();
        // No `.toml` at the end: the generator passes it by if the power goes now.
        fresh.push(".new");
        let mut file = File::create(&fresh)?;
        fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(metadata.mode()))?;
        file.write_all(moved.text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(path.parent().unwrap_or(std::path::Path::new("/")))?.sync_all()
    };
    write().map_err(|source| WriteError { path: moved.file.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_file_stays() {
        let (a, b) = (format!("sha256:{}", "a".repeat(64)), format!("sha256:{}", "b".repeat(64)));
        let text = format!("# was x@{a}\r\ninit=true\nimage  =   'x:1@{a}' # pinned\n\n[stop]\n");
        let source = Source::new("x.toml", text.clone());
        let (document, _) = crate::spec::Document::parse(&source);
        let span = document.get(["image"]).and_then(|entry| entry.value.place.span.clone()).expect("a span");
        let (line, new) = replaced(&source, span, &a, &b).expect("replaced");
        assert_eq!(line, 3);
        assert_eq!(new, text.replacen(&format!("'x:1@{a}'"), &format!("'x:1@{b}'"), 1));
        assert!(new.starts_with(&format!("# was x@{a}\r\n")));
        assert_eq!(replaced(&source, 0..3, &a, &b), None);
    }
}
