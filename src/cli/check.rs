//! `wharf check`: what is wrong with files, without touching anything.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::declared::{Declared, DeclaredError};
use super::format::{Form, Shape};
use super::output::{Exit, Failure, coloured, print};
use crate::check::{Checked, Container, Reload, RootSource};
use crate::generate;
use crate::host::{HostFacts, Paths};
use crate::plan;
use crate::report::{self, Finding, Level, Place, Report, Source, Style};
use crate::settings::{Policy, Settings};
use crate::spec::ContainerName;
use crate::volume::snapshot::{self, WhyNot};
use crate::watched;

const AFTER_HELP: &str = "\
Examples:
  wharf check                        everything in /etc/wharf, /run/wharf and /usr/lib/wharf
  wharf check nginx                  one container, with its drop-ins
  wharf check ./nginx.toml           one file, anywhere, with the drop-ins beside it
  wharf check /etc/wharf/wharf.toml  the host's settings
  wharf check --json | jq .errors    for programs
  wharf check --format '{file}:{line}: {message}'
                                     a line for each finding
  wharf check --root build/rootfs    the tree of an image in the making
  wharf check --as /etc/wharf/containers/nginx.toml new.toml
                                     new.toml, as if it were in that place already
  wharf check --as /etc/wharf/containers/old.toml /dev/null
                                     whether anything would miss the container `old`

JSON: one object with the keys
  errors, warnings how many
  findings         an array of objects: level (error, warning or note), file, line, column,
                   end_line, end_column, message, hint; lines and columns are null where a file
                   as a whole is meant

Exit status: 0 without errors (there may be warnings and notes), 1 with errors, 2 for wrong usage.";

/// Check the files of containers and images, and wharf.toml, and explain every mistake in them
///
/// It looks at the files as they are now, and changes nothing. A file in a folder called `images` is an image's.
#[derive(Args)]
#[command(after_help = AFTER_HELP, mut_arg("json", |arg| arg.help("One object, as below")))]
pub struct CheckArgs {
    /// Containers by name, or files by path; everything in the search path where none is given
    #[arg(value_name = "NAME|FILE")]
    targets: Vec<OsString>,
    /// Check FILE as if it lay in PATH of the search path: with its drop-ins and neighbours there
    ///
    /// PATH needn't exist. What is said of FILE names PATH. What other files would have wrong by it is shown as
    /// well. May be given as often as there are files, for the first, the second and so on.
    #[arg(long = "as", value_name = "PATH")]
    places: Vec<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// The keys of a finding.
const KEYS: &[&str] = &["level", "file", "line", "column", "end_line", "end_column", "message", "hint"];

/// A file that can't be what its folder says.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", .file.display())]
struct NoFile {
    file: PathBuf,
    why: String,
}

/// Runs the command.
pub fn run(args: &CheckArgs, paths: &Paths) -> Result<Exit, Failure> {
    let CheckArgs { targets, places, form } = args;
    let shape = form.shape(KEYS)?;
    let (mut findings, checked) = match (targets.as_slice(), places.as_slice()) {
        ([], []) => everything(paths)?,
        (_, []) => some(paths, targets)?,
        _ => standing_in(paths, targets, places)?,
    };
    report::sort(&mut findings);
    findings.dedup();
    let style = if coloured(&io::stdout()) { Style::Coloured } else { Style::Plain };
    let text = match shape {
        Shape::Json => report::json(&findings),
        shape => shape.text(&Report::new(&findings).findings, || people(&findings, &checked, style))?,
    };
    let exit = if report::has_errors(&findings) { Exit::Failed } else { Exit::Done };
    // Whoever closed the pipe has read enough, and wants to know all the same.
    print(&text).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}

/// What `--as` can't do.
#[derive(Debug, thiserror::Error)]
enum PlaceError {
    /// They go in pairs.
    #[error("there must be one FILE for each --as PATH; there are {files} and {places}")]
    Pairs { files: usize, places: usize },
    /// Nothing is read there.
    #[error(
        "{}: no file of Wharf's is in this place; one is NAME.toml in containers or images of /etc/wharf, \
         /run/wharf or /usr/lib/wharf, or wharf.toml there, or a drop-in of one",
        .0.display()
    )]
    Nowhere(PathBuf),
    /// What should stand in can't be read.
    #[error("can't read {}", .file.display())]
    Unread { file: PathBuf, source: io::Error },
}

/// Files elsewhere, as if they were in their places: what is found in them, and what comes by them in others.
fn standing_in(
    paths: &Paths,
    files: &[OsString],
    places: &[PathBuf],
) -> Result<(Vec<Finding>, Counted), Failure> {
    if files.len() != places.len() {
        return Err(Failure::usage(PlaceError::Pairs { files: files.len(), places: places.len() }));
    }
    let mut then = paths.clone();
    let mut at = Vec::new();
    for (file, place) in files.iter().map(Path::new).zip(places) {
        let place_below = paths.host(place);
        if !is_read(paths, &place_below) {
            return Err(Failure::usage(PlaceError::Nowhere(place.clone())));
        }
        std::fs::File::open(file)
            .map_err(|source| Failure::from(PlaceError::Unread { file: file.to_owned(), source }))?;
        then = then.with_stand_in(place_below.clone(), file.to_owned());
        at.push(place_below);
    }
    // A drop-in for all, or for nothing, has no file of its own to be checked with.
    let has_main = |place: &&PathBuf| {
        let main = main_file(place);
        !is_for_all(place) && (main.ends_with("wharf.toml") || then.is_there(&main))
    };
    let targets: Vec<OsString> =
        at.iter().filter(has_main).map(|place| place.clone().into_os_string()).collect();
    let (mut findings, counted) = some(&then, &targets)?;
    let (before, _) = everything(paths)?;
    let (after, all) = everything(&then)?;
    findings.extend(after.into_iter().filter(|finding| !before.contains(finding)));
    Ok((findings, if targets.len() == files.len() { counted } else { all }))
}

/// Whether a file in this place would be read, whether there is one or not.
fn is_read(paths: &Paths, place: &Path) -> bool {
    let main =
        if is_for_all(place) { place.parent().unwrap_or(place).with_extension("") } else { main_file(place) };
    let is_toml = |path: &Path| path.extension().is_some_and(|end| end == "toml");
    let in_folder = ["containers", "images"].iter().any(|folder| is_on_search_path(paths, &main, folder));
    let settings = main.ends_with("wharf.toml") && is_on_search_path(paths, &main, "");
    is_toml(place) && is_toml(&main) && (in_folder || settings)
}

/// How many of which were checked.
#[derive(Default)]
pub(super) struct Counted {
    containers: usize,
    images: usize,
    settings: bool,
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |count: usize, one: &str| match count {
            1 => format!("1 {one}"),
            more => format!("{more} {one}s"),
        };
        let nothing_else = self.images == 0 && !self.settings;
        let containers = (self.containers > 0 || nothing_else).then(|| count(self.containers, "container"));
        let images = (self.images > 0).then(|| count(self.images, "image"));
        let settings = self.settings.then(|| "wharf.toml".to_owned());
        let parts: Vec<String> = [containers, images, settings].into_iter().flatten().collect();
        match parts.as_slice() {
            [first @ .., last] if !first.is_empty() => write!(f, "{} and {last}", first.join(", ")),
            parts => f.write_str(&parts.concat()),
        }
    }
}

fn people(findings: &[Finding], checked: &Counted, style: Style) -> String {
    let count = |level, one: &str| match findings.iter().filter(|finding| finding.level == level).count() {
        0 => None,
        1 => Some(format!("1 {one}")),
        more => Some(format!("{more} {one}s")),
    };
    let counts: Vec<String> = [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")]
        .into_iter()
        .filter_map(|(level, one)| count(level, one))
        .collect();
    let mut text = report::render(findings, style);
    if !text.is_empty() {
        text.push('\n');
    }
    let summary = if counts.is_empty() { "nothing to say".to_owned() } else { counts.join(", ") };
    text.push_str(&format!("{checked} checked: {summary}\n"));
    text
}

/// A container's findings, and what its errors mean for what runs.
pub(super) fn findings_of(paths: &Paths, files: &plan::Files, checked: Checked) -> Vec<Finding> {
    let mut findings = checked.findings;
    // What only might come to be there is nothing to be mended.
    let is_there = !paths.have_stand_ins();
    if is_there && report::has_errors(&findings) && generate::last_good(paths, &files.name).is_some() {
        findings.push(
            Finding::note(
                Place::file(&files.main),
                format!("until this is mended, {} runs its last good plan", files.name),
            )
            .hint("mend it, then: systemctl daemon-reload"),
        );
    }
    if let Some(container) = checked.container {
        findings.extend(unpinned(paths, files, &container));
        findings.extend(too_new(files, &container, HostFacts::read(paths)));
        findings.extend(unseen(paths, files, &container));
        if container.snapshot {
            findings.extend(no_snapshots(paths, files, &container));
        }
    }
    findings
}

/// An image that the host trusts only by its digest, which neither the container's files nor the image's have: no start
/// gets through.
fn unpinned(paths: &Paths, files: &plan::Files, container: &Container) -> Option<Finding> {
    let RootSource::Image(reference) = &container.source else { return None };
    // What lies elsewhere is for another host, perhaps.
    let is_here = paths.search().iter().any(|folder| files.main.path.starts_with(paths.shown(folder)));
    if reference.digest().is_some() || !is_here {
        return None;
    }
    let settings = plan::check_settings(&generate::settings(paths)).settings;
    if plan::trust(container, &settings) != Policy::Digest {
        return None;
    }
    let (document, _) = plan::document(files);
    let place = document.get(["image"]).map(|entry| entry.value.place.clone());
    Some(
        Finding::error(
            place.unwrap_or_else(|| Place::file(&files.main)),
            format!("{reference} is not pinned to a digest, and this host trusts it only so: no start gets through"),
        )
        .hint(format!(
            "write image = \"{reference}@sha256:…\" with the digest that is meant, or `digest` in the image's file; \
             `wharf image inspect` shows that of an image in the store"
        )),
    )
}

/// What a container's files ask for and this host's systemd is too old for: its unit goes without.
fn too_new(files: &plan::Files, container: &Container, facts: HostFacts) -> Vec<Finding> {
    let Some(version) = facts.systemd else { return Vec::new() };
    let waits = matches!(container.reload, Some(Reload::Signal { wait: true, .. }));
    let rules: [(bool, &[&str], u32, &str); 2] = [
        (
            container.survive_soft_reboot && !facts.has_survival(),
            &["survive-soft-reboot"],
            255,
            "a soft reboot ends it like any other",
        ),
        (
            waits && !facts.has_notify_reload(),
            &["reload", "signal"],
            253,
            "a reload only waits for what says RELOADING=1 within a second, and counts as done where it doesn't",
        ),
    ];
    let (document, _) = plan::document(files);
    let warning = |(_, key, since, what): &(bool, &[&str], u32, &str)| {
        let entry = document.get(key.iter().copied())?;
        let message = format!("systemd {version} is too old for this: {what}");
        Some(
            Finding::warning(entry.key.clone(), message)
                .hint(format!("from systemd {since} on it has effect")),
        )
    };
    rules.iter().filter(|(is_too_new, ..)| *is_too_new).filter_map(warning).collect()
}

/// What `restart-on-change` lists, and can't be looked at, so that a change of it goes unnoticed.
fn unseen(paths: &Paths, files: &plan::Files, container: &Container) -> Vec<Finding> {
    let (document, _) = plan::document(files);
    let Some(entry) = document.get(["restart-on-change"]) else { return Vec::new() };
    let warning = |(path, why): (&Path, &str)| {
        Finding::warning(entry.key.clone(), format!("{} can't be looked at: {why}", path.display()))
            .hint("a change of it restarts nothing; list what is read of it")
    };
    watched::unseen(&watched::digests(paths, container)).map(warning).collect()
}

/// Volumes that are there, and can't have the snapshots that a container's files ask for. What nobody can tell here, an
/// update tells before it touches anything.
fn no_snapshots(paths: &Paths, files: &plan::Files, container: &Container) -> Vec<Finding> {
    let (document, _) = plan::document(files);
    let Some(entry) = document.get(["snapshot"]) else { return Vec::new() };
    let why = |volume: &str| match snapshot::possible(paths, volume) {
        Err(why @ (WhyNot::Elsewhere { .. } | WhyNot::FileSystem { .. } | WhyNot::MountInside { .. })) => {
            Some(why.to_string())
        }
        Ok(_) | Err(WhyNot::NoVolume { .. } | WhyNot::Unknown(_)) => None,
    };
    let warning = |why: String| {
        let (what, way_out) = why.split_once("; ").unwrap_or((&why, "say snapshot = false"));
        Finding::warning(entry.key.clone(), what)
            .hint(format!("updates of it are refused until then: {way_out}"))
    };
    container.writes_to().into_iter().filter_map(why).map(warning).collect()
}

/// Everything that is declared, checked.
pub(super) fn everything(paths: &Paths) -> Result<(Vec<Finding>, Counted), DeclaredError> {
    let declared = Declared::list(paths)?;
    let listing = declared.listing();
    let mut findings = listing.findings.clone();
    let generate::Everything { containers: all, images, listing_of_images, supplies: _, settings } =
        generate::check_everything(paths, listing);
    let checked = Counted {
        containers: all.len(),
        images: images.len(),
        settings: settings.settings != Settings::default() || !settings.findings.is_empty(),
    };
    let there: BTreeSet<ContainerName> = all.iter().map(|(files, _)| files.name.clone()).collect();
    for (files, checked) in all {
        findings.extend(findings_of(paths, &files, checked));
    }
    for (name, found) in listing.containers.iter().filter(|(name, _)| !there.contains(*name)) {
        findings.push(masked(&format!("container {name}"), &paths.shown(&found.main)));
    }
    findings.extend(images.into_iter().flat_map(|(_, checked)| checked.findings));
    findings.extend(listing_of_images.findings);
    for (name, main) in listing_of_images.masked {
        findings.push(masked(&format!("image {name}"), &main));
    }
    findings.extend(settings.findings);
    Ok((findings, checked))
}

/// A file that is no container's, by its name or its folder's.
enum Other {
    Settings,
    Image,
}

fn other(file: &Path) -> Option<Other> {
    let named = |path: Option<&Path>, name: &str| path.is_some_and(|path| path.ends_with(name));
    if named(Some(file), "wharf.toml") {
        Some(Other::Settings)
    } else if named(std::path::absolute(file).ok().as_deref().and_then(Path::parent), "images") {
        Some(Other::Image)
    } else {
        None
    }
}

/// Whether a file lies in a folder of the search path, or in `below` of one.
fn is_on_search_path(paths: &Paths, file: &Path, below: &str) -> bool {
    let folder = std::path::absolute(file).ok();
    let is = |search: &PathBuf| std::path::absolute(search.join(below)).ok();
    folder.is_some_and(|file| paths.search().iter().filter_map(is).any(|path| Some(&*path) == file.parent()))
}

/// What is wrong with a file that is no container's: on the search path with all that goes with it there.
fn other_findings(paths: &Paths, file: &Path, other: &Other) -> Result<Vec<Finding>, Failure> {
    let wrong = |why| Failure::usage(NoFile { file: file.to_owned(), why });
    match other {
        Other::Settings => {
            let there = paths.is_there(file) || paths.is_there(&file.with_extension("toml.d"));
            let files = if there && is_on_search_path(paths, file, "") {
                generate::settings(paths)
            } else {
                generate::loose(paths, file, |_| Ok(())).map_err(wrong)?
            };
            Ok(plan::check_settings(&files).findings)
        }
        Other::Image => {
            let files = generate::loose(paths, file, generate::image_name).map_err(wrong)?;
            if paths.is_there(file) && is_on_search_path(paths, file, "images") {
                let listing = generate::list(paths);
                let generate::Everything { images, listing_of_images, .. } =
                    generate::check_everything(paths, &listing);
                let masked = listing_of_images.masked.into_iter().filter(|(name, _)| *name == files.name);
                let masked = masked.map(|(name, main)| self::masked(&format!("image {name}"), &main));
                let own = images.into_iter().filter(|(other, _)| other.name == files.name);
                return Ok(own.flat_map(|(_, checked)| checked.findings).chain(masked).collect());
            }
            Ok(plan::check_image(&files).findings)
        }
    }
}

/// A file somewhere: what it is to have for neighbours, nobody knows.
fn alone(files: plan::Files) -> (plan::Files, Checked) {
    let checked = plan::check(&files);
    (files, checked)
}

fn masked(what: &str, main: &Path) -> Finding {
    let place = Place::file(&Source::new(main, ""));
    Finding::note(place, format!("this file is empty, so there is no {what}"))
        .hint("an empty file masks those of the same name further down the search path")
}

fn some(paths: &Paths, targets: &[OsString]) -> Result<(Vec<Finding>, Counted), Failure> {
    let mut declared = None;
    let mut findings = Vec::new();
    let mut counted = Counted::default();
    for target in targets {
        let file = Path::new(target);
        let named = name(target);
        let own = main_file(file);
        if let Some(other) = other(&own).filter(|_| named.is_none()) {
            match other {
                Other::Settings => counted.settings = true,
                Other::Image => counted.images += 1,
            }
            findings.extend(other_findings(paths, &own, &other)?);
            continue;
        }
        counted.containers += 1;
        let loose = || {
            generate::loose(paths, &main_file(file), generate::container_name)
                .map_err(|why| Failure::usage(NoFile { file: file.to_owned(), why }))
        };
        let (files, checked) = match named.clone().or_else(|| on_search_path(paths, &main_file(file))) {
            Some(name) => {
                let declared = match &mut declared {
                    Some(declared) => declared,
                    empty => empty.insert(Declared::list(paths)?),
                };
                match declared.files(&name) {
                    Err(DeclaredError::Masked { file, .. }) => {
                        findings.push(masked(&format!("container {name}"), &file));
                        continue;
                    }
                    // Not every file that lies there declares a container, and it knows why.
                    Err(DeclaredError::Unknown { .. }) if named.is_none() => alone(loose()?),
                    files => {
                        let files = files?;
                        let checked = declared.checked(&files);
                        (files, checked)
                    }
                }
            }
            None => alone(loose()?),
        };
        findings.extend(findings_of(paths, &files, checked));
    }
    Ok((findings, counted))
}

/// The container that is meant, where it isn't a file: `nginx` is one, and `./nginx` and `nginx.toml` aren't.
fn name(target: &OsStr) -> Option<ContainerName> {
    target.to_str().filter(|text| !text.ends_with(".toml"))?.parse().ok()
}

/// A drop-in is checked with what it is dropped into.
fn main_file(file: &Path) -> PathBuf {
    match file.parent().filter(|folder| folder.extension().is_some_and(|end| end == "d")) {
        Some(folder) if !is_for_all(file) => folder.with_extension(""),
        _ => file.to_owned(),
    }
}

/// Whether a file is a drop-in for all containers, or all images.
fn is_for_all(file: &Path) -> bool {
    ["container.toml.d", "image.toml.d"]
        .iter()
        .any(|all| file.parent().is_some_and(|folder| folder.ends_with(all)))
}

/// The container of a file that is one of the search path's: there are more drop-ins than those beside it.
fn on_search_path(paths: &Paths, file: &Path) -> Option<ContainerName> {
    let folder = std::path::absolute(file.parent()?).ok()?;
    let is =
        |search: &PathBuf| std::path::absolute(search.join("containers")).is_ok_and(|path| path == folder);
    if !paths.search().iter().any(is) {
        return None;
    }
    let name: ContainerName = file.file_name()?.to_str()?.strip_suffix(".toml")?.parse().ok()?;
    // A file that isn't there, or is a link to nowhere, is explained as a file.
    paths.is_there(file).then_some(name)
}
