//! Reading the search path: what is declared where, and the texts.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::host::Paths;
use crate::plan::{self, Files, PLAN_FORMAT, Plan};
use crate::report::{self, Finding, Place, Source};
use crate::spec::{ContainerName, HOST};

/// More than any container file needs; a log file in the wrong place shouldn't hold up the boot.
const FILE_MAX: usize = 1 << 20;

/// The folder of drop-ins for every container; so no container can be called this.
const FOR_ALL: &str = "container";

/// What the search path holds.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Every container, masked ones too: only reading tells.
    pub containers: BTreeMap<ContainerName, Found>,
    /// Drop-ins for all, by file name.
    pub for_all: BTreeMap<String, Arc<Source>>,
    /// What was found wrong on the way.
    pub findings: Vec<Finding>,
    drop_ins: BTreeMap<String, DropIns>,
    /// Folders of drop-ins for all that couldn't be read.
    unread: Vec<Finding>,
}

/// Where a container is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its own file, or its template's.
    pub main: PathBuf,
}

/// The drop-ins for one thing.
#[derive(Clone, Debug, Default)]
pub(super) struct DropIns {
    /// By file name.
    pub(super) files: BTreeMap<String, PathBuf>,
    /// What was found wrong with their folders: who is declared without some of them isn't what its files say.
    pub(super) findings: Vec<Finding>,
}

/// One folder of the search path's: what lies in it by kind.
pub(super) struct Scan<N> {
    /// The first file of each name.
    pub(super) mains: BTreeMap<N, PathBuf>,
    /// Drop-ins by what they are for, and by file name.
    pub(super) drop_ins: BTreeMap<String, DropIns>,
    /// What was found wrong on the way.
    pub(super) findings: Vec<Finding>,
}

/// Looks at `folder` of every folder of the search path. `what` is what its files declare.
pub(super) fn scan<N: Ord>(
    paths: &Paths,
    folder: &str,
    what: &str,
    named: impl Fn(&str) -> Result<N, String>,
) -> Scan<N> {
    let mut scan = Scan { mains: BTreeMap::new(), drop_ins: BTreeMap::new(), findings: Vec::new() };
    for above in paths.search() {
        let (entries, unread) = entries(paths, &above.join(folder));
        scan.findings.extend(unread);
        for (name, path) in entries {
            if let Some(stem) = name.strip_suffix(".toml.d") {
                scan.drop_ins.entry(stem.to_owned()).or_default().add(paths, &path);
            } else if let Some(stem) = name.strip_suffix(".toml") {
                match named(stem) {
                    Ok(name) => match scan.mains.get(&name) {
                        Some(above) => {
                            let above = paths.shown(above);
                            scan.findings.push(
                                Finding::note(nowhere(paths, &path), "this file is not read")
                                    .hint(format!("{} takes its place", above.display())),
                            );
                        }
                        None => {
                            scan.mains.insert(name, path);
                        }
                    },
                    Err(why) => scan.findings.push(
                        Finding::error(nowhere(paths, &path), format!("this file can't name {what}: {why}"))
                            .hint("rename it"),
                    ),
                }
            } else if let Some(meant) = stray(&name) {
                scan.findings.push(not_read(paths, &path, what, &meant));
            }
        }
    }
    scan
}

impl DropIns {
    /// Adds those in a folder, but for files that are there by a name already.
    pub(super) fn add(&mut self, paths: &Paths, folder: &Path) {
        let (entries, unread) = entries(paths, folder);
        self.findings.extend(unread);
        for (file, path) in entries {
            if file.ends_with(".toml") {
                self.files.entry(file).or_insert(path);
            } else if let Some(meant) = stray_file(&file) {
                self.findings.push(not_read(paths, &path, "a drop-in", &meant));
            }
        }
    }
}

fn not_read(paths: &Paths, path: &Path, what: &str, meant: &str) -> Finding {
    Finding::warning(nowhere(paths, path), "this file is not read: its name doesn't end in .toml")
        .hint(format!("if it is {what}, rename it to {meant}"))
}

/// Drop-ins that nothing is there for.
pub(super) fn nothing_to_add_to(paths: &Paths, first: &Path, stem: &str, what: &str) -> Finding {
    Finding::warning(nowhere(paths, first), format!("this drop-in is not read: there is no {stem}.toml"))
        .hint(format!("a drop-in adds to {what} that is declared"))
}

/// The texts of drop-ins for all, by file name.
pub(super) fn for_all(
    paths: &Paths,
    drop_ins: &mut BTreeMap<String, DropIns>,
    stem: &str,
    findings: &mut Vec<Finding>,
) -> BTreeMap<String, Arc<Source>> {
    let DropIns { files, findings: found } = drop_ins.remove(stem).unwrap_or_default();
    findings.extend(found);
    let read = files.into_iter().map(|(file, path)| {
        let (source, finding) = text(paths.shown(&path), &paths.read_for(&path));
        findings.extend(finding);
        (file, source)
    });
    read.collect()
}

/// Lists the containers of the search path.
pub fn list(paths: &Paths) -> Listing {
    let Scan { mains, mut drop_ins, mut findings } = scan(paths, "containers", "a container", container_name);
    // What is missing in a drop-in for all is missing in each.
    let unread = drop_ins.get(FOR_ALL).map(|drop_ins| drop_ins.findings.clone()).unwrap_or_default();
    let for_all = for_all(paths, &mut drop_ins, FOR_ALL, &mut findings);
    let mut listing = Listing { containers: BTreeMap::new(), for_all, findings, drop_ins, unread };
    declare(paths, mains, &mut listing);
    listing
}

/// Fills in the containers: those with a file, and instances that have drop-ins of their own.
fn declare(paths: &Paths, mains: BTreeMap<ContainerName, PathBuf>, listing: &mut Listing) {
    for (name, path) in &mains {
        let main = name.template().filter(|template| links_to(&paths.read_for(path), template)).map_or_else(
            || path.clone(),
            // A link to the template says: the template, with a unit of its own.
            |template| mains.get(&template).unwrap_or(path).clone(),
        );
        listing.containers.insert(name.clone(), Found { main });
    }
    let stems: Vec<String> = listing.drop_ins.keys().cloned().collect();
    for stem in stems {
        let DropIns { files, findings } = &listing.drop_ins[&stem];
        let first = files.values().next();
        let is_bad = report::has_errors(findings);
        let name = container_name(&stem);
        match &name {
            Ok(name) if mains.contains_key(name) => continue,
            Ok(name) if first.is_some() || is_bad => {
                if let Some(main) = name.template().and_then(|template| mains.get(&template)) {
                    listing.containers.insert(name.clone(), Found { main: main.clone() });
                    continue;
                }
            }
            Ok(_) | Err(_) => {}
        }
        listing.findings.extend(findings.iter().cloned());
        listing.findings.extend(first.map(|first| nothing_to_add_to(paths, first, &stem, "a container")));
    }
}

fn links_to(path: &Path, template: &ContainerName) -> bool {
    let file = format!("{template}.toml");
    fs::read_link(path).is_ok_and(|target| target.file_name() == Some(OsStr::new(&file)))
}

/// The container that a file's name without its end stands for.
pub fn container_name(stem: &str) -> Result<ContainerName, String> {
    if stem == FOR_ALL {
        return Err(format!("{FOR_ALL}.toml.d is for the drop-ins of all containers"));
    }
    if stem == HOST {
        return Err(format!("`{HOST}` is the host itself in the links of the others"));
    }
    stem.parse().map_err(|error: crate::spec::NameError| error.to_string())
}

/// The name that a file was probably meant to have. Most of what lies about in such a folder, backups and
/// package managers' leftovers and notes, means nothing.
fn stray(name: &str) -> Option<String> {
    let stem = name.strip_suffix(".d").filter(|_| !name.starts_with('.'));
    match stem {
        Some(stem) => {
            Some(format!("{}.toml.d", stem.trim_end_matches(".service").trim_end_matches(".container")))
        }
        None => stray_file(name),
    }
}

/// The same of a drop-in's.
fn stray_file(name: &str) -> Option<String> {
    // systemd's own drop-ins end in .conf.
    const ALMOST: [&str; 14] = [
        "tml",
        "tom",
        "tolm",
        "tmol",
        "otml",
        "toml.txt",
        "TOML",
        "Toml",
        "container",
        "service",
        "yaml",
        "yml",
        "json",
        "conf",
    ];
    if name.starts_with('.') {
        return None;
    }
    let stem = ALMOST.iter().find_map(|end| name.strip_suffix(end)?.strip_suffix('.'))?;
    Some(format!("{stem}.toml"))
}

/// A folder's entries by name; none where it isn't there. One that is there and can't be read is a finding.
fn entries(paths: &Paths, folder: &Path) -> (Vec<(String, PathBuf)>, Option<Finding>) {
    let mut names = paths.stand_ins_in(folder);
    let read = fs::read_dir(folder).and_then(|found| {
        found.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
    });
    let unread = match read {
        Ok(found) => {
            names.extend(found);
            None
        }
        // A link to nowhere is there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.symlink_metadata().is_err() => None,
        Err(error) => Some(
            Finding::error(nowhere(paths, folder), format!("this folder can't be read: {error}"))
                .hint("what is in it would be missing; is it a folder, or a link to one?"),
        ),
    };
    let named = |name: OsString| (name.to_string_lossy().into_owned(), folder.join(&name));
    (names.into_iter().map(named).collect(), unread)
}

pub(super) fn nowhere(paths: &Paths, path: &Path) -> Place {
    Place::file(&Source::new(paths.shown(path), ""))
}

/// A file's text; what can't be read is empty and has a finding.
pub(super) fn text(shown: PathBuf, path: &Path) -> (Arc<Source>, Option<Finding>) {
    let failed = |shown: PathBuf, why: String, hint: &str| {
        let source = Source::new(shown, "");
        let finding = Finding::error(Place::file(&source), why).hint(hint);
        (source, Some(finding))
    };
    match read_regular(path) {
        Err(error) => {
            failed(shown, format!("this file can't be read: {error}"), "is it a file, or a link to one?")
        }
        Ok(bytes) if bytes.len() > FILE_MAX => {
            failed(shown, "this file is larger than 1 MiB".into(), "is it one of Wharf's files at all?")
        }
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => (Source::new(shown, text), None),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let source = Source::new(shown, text);
                let place = Place::new(&source, at..at + '\u{fffd}'.len_utf8());
                let finding =
                    Finding::error(place, "this is not UTF-8").hint("save the file in UTF-8, as TOML has it");
                (source, Some(finding))
            }
        },
    }
}

/// A named pipe or a terminal in a container's place would hold up the boot for ever.
fn read_regular(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
    let file =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    if metadata.file_type().is_char_device() || metadata.file_type().is_block_device() {
        // /dev/null, the mask, and nothing else that is worth a look.
        return Ok(Vec::new());
    }
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(FILE_MAX as u64) as usize + 1);
    file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads what declares a container; nothing where it is masked by an empty file or a link to /dev/null.
pub fn read(paths: &Paths, listing: &Listing, name: &ContainerName, found: &Found) -> Option<Files> {
    let (main, finding) = text(paths.shown(&found.main), &paths.read_for(&found.main));
    let mut findings: Vec<Finding> = finding.into_iter().collect();
    if main.text.is_empty() && findings.is_empty() {
        return None;
    }
    // The more specific folder's file of a name replaces the other's, and an empty one leaves it out.
    let empty = DropIns::default();
    let of = |stem: &str| listing.drop_ins.get(stem).unwrap_or(&empty);
    let DropIns { files: own, findings: of_own } = of(name.as_str());
    findings.extend(listing.unread.iter().chain(of_own).cloned());
    let template = name.template();
    let DropIns { files: shared, findings: of_template } = template.as_ref().map_or(&empty, |template| {
        // An instance with a whole file of its own has nothing of the template's.
        if found.main.file_name() == Some(OsStr::new(&format!("{template}.toml"))) {
            of(template.as_str())
        } else {
            &empty
        }
    });
    findings.extend(of_template.iter().cloned());
    let mut drop_ins: Vec<Arc<Source>> = listing
        .for_all
        .iter()
        .filter(|(file, _)| !own.contains_key(*file) && !shared.contains_key(*file))
        .map(|(_, source)| Arc::clone(source))
        .collect();
    for path in shared.iter().filter(|(file, _)| !own.contains_key(*file)).chain(own).map(|(_, path)| path) {
        let (source, finding) = text(paths.shown(path), &paths.read_for(path));
        findings.extend(finding);
        drop_ins.push(source);
    }
    drop_ins.retain(|source| !source.text.is_empty());
    Some(Files { name: name.clone(), main, drop_ins, findings })
}

/// The files of what is named by the path of its file, anywhere: with the drop-ins beside it. `named` makes a name
/// of the file's, without its end.
pub fn loose<N>(
    paths: &Paths,
    path: &Path,
    named: impl Fn(&str) -> Result<N, String>,
) -> Result<Files<N>, String> {
    let file = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let stem = file.strip_suffix(".toml").ok_or("its name doesn't end in .toml")?;
    let name = named(stem)?;
    let (main, finding) = text(path.to_owned(), path);
    let mut findings: Vec<Finding> = finding.into_iter().collect();
    let mut beside = DropIns::default();
    beside.add(paths, &path.with_file_name(format!("{file}.d")));
    findings.extend(beside.findings);
    let mut drop_ins = Vec::new();
    for path in beside.files.into_values() {
        let (source, finding) = text(path.clone(), &path);
        findings.extend(finding);
        drop_ins.push(source);
    }
    drop_ins.retain(|source| !source.text.is_empty());
    Ok(Files { name, main, drop_ins, findings })
}

/// The plan that a container last started with since boot.
pub fn last_good(paths: &Paths, name: &ContainerName) -> Option<Plan> {
    let bytes = fs::read(paths.last_good().join(format!("{name}.json"))).ok()?;
    plan::read(&bytes).ok().filter(|plan: &Plan| plan.format == PLAN_FORMAT)
}
