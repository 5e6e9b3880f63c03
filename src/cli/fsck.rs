//! `wharf fsck`: whether the store is what it was when it was written.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::image::{progress_bar, size};
use super::origins::Origins;
use super::output::{Exit, Failure, harmless, print};
use crate::host::Paths;
use crate::image::Store;
use crate::image::fsck::{Damage, Repaired, Report, Thoroughness, bytes_to_check, check, repair};

const AFTER_HELP: &str = "\
Checks blobs by their digests, and each file of each layer by the layer's
manifest: contents, type, mode, owner, time of modification, target, hard
links, extended attributes; what is missing, and what is foreign. Containers
may start and images come and go meanwhile. Volumes and leases are not looked
at.

--repair sets modes, owners and times right, moves what is foreign to
/var/lib/wharf/damaged, and puts layers and blobs in the place of damaged ones
when they can be had again: from the archives, layouts or folders that --from
names, from where the image's file says, or from the registry of its
reference, by the digests that the store has. What can't be had stays as it
is. Layers that a running container has mounted are not touched. A reference
that can't be read stays as long as it may have named an image that has no
other name.

What nothing needs is shown, and is no damage: wharf image prune

Examples:
  wharf fsck
  wharf fsck --quick
  wharf fsck --repair --from nginx.tar
  wharf fsck --json | jq -r '.damage[] | \"\\(.part) \\(.file)\"'

JSON: one object: quick, images, references, blobs, layers, frames, files,
bytes, damage (an array of objects: part, file, what, images), orphans (kind,
path, size, young), leftovers; with --repair also mended and left (arrays as
damage, these with why), aside.

Exit status: 0 nothing damaged, or all of it repaired; 1 something is damaged; 2 for wrong usage.";

/// Check the images of the store, file by file
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct FsckArgs {
    /// Presence, types and sizes only
    #[arg(long)]
    quick: bool,
    /// Put right what can be
    #[arg(long)]
    repair: bool,
    /// Where a damaged image may be had again: an archive, a layout or a folder, as for `wharf image import`
    #[arg(long, value_name = "SOURCE", requires = "repair")]
    from: Vec<PathBuf>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &FsckArgs, paths: &Paths) -> Result<Exit, Failure> {
    let FsckArgs { quick, repair: repairs, from, json } = args;
    let store = Store::new(paths.state());
    let bar = progress_bar(Some(bytes_to_check(&store)));
    let report = check(&store, Thoroughness { quick: *quick }, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let report = report?;
    let mut value = serde_json::to_value(&report)?;
    let mut text = if *json { String::new() } else { people(&report) };
    let mut clean = report.is_clean();
    if *repairs {
        let bar = progress_bar(None);
        let mut origins = Origins::new(&store, paths, from, &bar);
        let repaired = repair(&store, report, &mut origins, &|bytes| bar.inc(bytes));
        bar.finish_and_clear();
        let Repaired { mended, left, aside } = repaired?;
        clean = left.is_empty();
        if let Some(object) = value.as_object_mut() {
            let left = left.iter().map(|(damage, why)| {
                let mut value = serde_json::to_value(damage)?;
                if let Some(object) = value.as_object_mut() {
                    object.insert("why".to_owned(), why.clone().into());
                }
                Ok(value)
            });
            let left = left.collect::<Result<Vec<_>, serde_json::Error>>()?;
            object.insert("mended".to_owned(), serde_json::to_value(&mended)?);
            object.insert("left".to_owned(), left.into());
            object.insert("aside".to_owned(), serde_json::to_value(&aside)?);
        }
        for damage in &mended {
            let _ = writeln!(text, "repaired {}", place(damage));
        }
        for path in &aside {
            let _ = writeln!(text, "moved to {}", paths.shown(&paths.state().join(path)).display());
        }
        for (damage, why) in &left {
            let _ = writeln!(text, "not repaired: {}: {why}", place(damage));
        }
    }
    if *json {
        text = serde_json::to_string_pretty(&value)? + "\n";
    }
    // Reasons have words of servers and images in them.
    let text = if *json { text } else { harmless(&text) };
    let exit = if clean { Exit::Done } else { Exit::Failed };
    print(&text).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}

fn place(damage: &Damage) -> String {
    match &damage.file {
        Some(file) => format!("{}/tree/{file}", damage.part.display()),
        None => damage.part.display().to_string(),
    }
}

fn people(report: &Report) -> String {
    let mut text = String::new();
    for damage in &report.damage {
        let _ = writeln!(text, "{} {}", place(damage), damage.what.join("; "));
        if !damage.images.is_empty() {
            let _ = writeln!(text, "  it is part of {}", damage.images.join(", "));
        }
    }
    for orphan in &report.orphans {
        let (path, what, bytes) = (orphan.path.display(), orphan.kind.text(), size(orphan.size));
        let _ = writeln!(text, "orphan: {path}: {what} ({bytes})");
    }
    for path in &report.leftovers {
        let _ = writeln!(text, "left by a command that was cut off: {}", path.display());
    }
    if !report.orphans.is_empty() {
        let _ = writeln!(text, "  `wharf image prune` takes orphans away");
    }
    let how = if report.quick { "presence and sizes checked" } else { "checked" };
    let _ = writeln!(
        text,
        "{how}: {} references, {} images, {} blobs, {} layers, {} files of {}: {}",
        report.references,
        report.images,
        report.blobs,
        report.layers,
        report.files,
        size(report.bytes),
        match report.damage.len() {
            0 => "nothing is damaged".to_owned(),
            1 => "1 thing is damaged".to_owned(),
            more => format!("{more} things are damaged"),
        }
    );
    text
}
