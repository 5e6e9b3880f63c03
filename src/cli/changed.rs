//! `wharf changed`: which running containers are not what their files and images say now.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::declared::Declared;
use super::exec::here_as_root;
use super::format::Form;
use super::output::{Exit, Failure, plain, print};
use crate::bus::Systemd;
use crate::check::{Checked, Container, RootSource};
use crate::generate::{self, Everything};
use crate::held;
use crate::host::Paths;
use crate::image::Store;
use crate::plan::held::Held;
use crate::plan::{self, Files};
use crate::running::{self, Running};
use crate::spec::ContainerName;
use crate::transient;
use crate::watched;

const AFTER_HELP: &str = "\
What a container was started with is compared with its files, drop-ins and the
files of images as they are now, reloaded or not, the image that runs with the
one that its reference names in the store, and what `restart-on-change` lists
with what it was then. `wharf apply` restarts what is listed, with care.

Examples:
  wharf changed
  wharf changed nginx app
  wharf changed --json | jq -r '.[].name'
  wharf changed --format '{name}\\t{keys}'

JSON: an array of objects, one for each container that is not what it was, with the keys
  name, unit  text
  file        the container's file now, or null where none declares it any more
  keys        an array of texts: the keys that are said otherwise now
  files       an array of texts: what `restart-on-change` lists, and is not what it was
  held        why the last good plan runs, and not what the files say; or null
  unproved    why its next start is of the last good plan, though it runs what the files say: a
              `wharf apply` was ended while it tried that; or null
  image       where it moved: reference, running and now (digests; now is null where the store
              hasn't got it any more), or null
  snapshot    an array of texts: the volumes that `wharf apply` takes a snapshot of before
  errors      whether its files have mistakes, so that nothing else can be told

Exit status: 0 compared, whatever was found; 1 not; 2 for wrong usage.";

/// List running containers whose files or image have changed since they started
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ChangedArgs {
    /// Only these
    names: Vec<ContainerName>,
    #[command(flatten)]
    form: Form,
}

/// A container that is not what it was. The keys are documented in `--help` and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    name: ContainerName,
    unit: String,
    file: Option<PathBuf>,
    pub(super) keys: Vec<String>,
    pub(super) files: Vec<PathBuf>,
    held: Option<String>,
    unproved: Option<String>,
    pub(super) image: Option<Moved>,
    snapshot: Vec<String>,
    errors: bool,
}

/// Those of [`Row`].
const KEYS: &[&str] = &[
    "name",
    "unit",
    "file",
    "keys",
    "files",
    "held",
    "unproved",
    "image.reference",
    "image.running",
    "image.now",
    "snapshot",
    "errors",
];

/// A reference that names another image than the one that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Moved {
    reference: String,
    running: String,
    now: Option<String>,
}

impl Moved {
    /// A sentence.
    pub(super) fn words(&self) -> String {
        let Self { reference, running, now } = self;
        match now {
            Some(now) => format!("{reference} is {} now, and {} runs", short(now), short(running)),
            None => format!("{reference} is not in the store any more, and {} runs", short(running)),
        }
    }
}

/// Keys that nothing has to be restarted for: they are about when it starts and what becomes of it, and not about what
/// runs. systemd takes a timer's times at each reload.
const QUIET: [&str; 4] = ["autostart", "snapshot", "timer", "update"];

/// What is declared under a name now.
pub(super) enum Now {
    Gone,
    Broken(PathBuf),
    Said(PathBuf, Box<Container>),
}

/// Runs the command.
pub fn run(args: &ChangedArgs, paths: &Paths) -> Result<Exit, Failure> {
    let ChangedArgs { names, form } = args;
    let shape = form.shape(KEYS)?;
    here_as_root(paths)?;
    let declared = Declared::list(paths)?;
    for name in names {
        // A name that was mistyped must not pass for one that is as it was.
        if running::find(paths, name)?.is_none() {
            declared.unit_of(name)?;
        }
    }
    let everything = generate::check_everything(paths, declared.listing());
    let store = Store::new(paths.state());
    let live = held::live(paths);
    let mut orphans = held::all(paths);
    orphans.retain(|_, mark| mark.is_orphaned(live.as_deref()));
    let mut rows = Vec::new();
    for running in running::all(paths)? {
        let name = running.container.name.clone();
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        // No file declares it, and none has to.
        if transient::plan(paths, &name).exists() {
            continue;
        }
        let now = now(&declared, &everything, &name);
        let row = compared(&running, &now, |container| beside_files(paths, &store, container));
        let orphan = orphans.get(&name).filter(|_| running.held.is_none());
        rows.extend(unproved(row, orphan, &running));
    }
    // A record may be left of one that has ended.
    let units: Vec<&str> = rows.iter().map(|row| row.unit.as_str()).collect();
    let alive: Vec<String> = match units.is_empty() {
        true => Vec::new(),
        false => Systemd::connect()?
            .units(&units, |_, active| !["inactive", "failed"].contains(&active))?
            .into_iter()
            .map(|status| status.unit)
            .collect(),
    };
    rows.retain(|row| alive.contains(&row.unit));
    print(&shape.text(&rows, || table(&rows))?)?;
    Ok(Exit::Done)
}

/// What a container's files name and don't say: the image behind its reference, by that, and what is in the files that
/// it lists.
pub(super) type BesideFiles = (Option<(String, Option<String>)>, BTreeMap<PathBuf, String>);

/// Looks them up.
pub(super) fn beside_files(paths: &Paths, store: &Store, container: &Container) -> BesideFiles {
    let image = match &container.source {
        RootSource::Image(reference) => {
            Some((reference.to_string(), store.digest_of(reference).ok().map(|digest| digest.to_string())))
        }
        RootSource::Folder(_) => None,
    };
    (image, watched::digests(paths, container))
}

/// What declares a container now, with all else that is declared in view.
pub(super) fn now(declared: &Declared<'_>, everything: &Everything, name: &ContainerName) -> Now {
    let Ok(files) = declared.files(name) else { return Now::Gone };
    let found = everything.containers.iter().find(|(other, _)| other.name == files.name);
    let checked = match found {
        Some((_, checked)) => checked.clone(),
        // An instance without files of its own.
        None => beside(&files, everything),
    };
    let file = files.main.path.clone();
    match checked.container {
        Some(container) => Now::Said(file, Box::new(container)),
        None => Now::Broken(file),
    }
}

fn beside(files: &Files, everything: &Everything) -> Checked {
    let mut all = everything.containers.clone();
    all.push((files.clone(), plan::check(files)));
    plan::compare(&mut all, &everything.supplies);
    all.pop().map_or_else(|| plan::check(files), |(_, checked)| checked)
}

/// One that is being tried by nobody is shown, whatever else there is to say of it.
fn unproved(row: Option<Row>, orphan: Option<&Held>, running: &Running) -> Option<Row> {
    let Some(mark) = orphan else { return row };
    let row = row.unwrap_or_else(|| Row { file: Some(running.source.clone()), ..Row::new(running) });
    Some(Row { unproved: Some(mark.reason()), ..row })
}

impl Row {
    /// With nothing to say.
    fn new(running: &Running) -> Self {
        Self {
            name: running.container.name.clone(),
            unit: running.container.name.unit(),
            file: None,
            keys: Vec::new(),
            files: Vec::new(),
            held: running.held.clone(),
            unproved: None,
            image: None,
            snapshot: Vec::new(),
            errors: false,
        }
    }
}

/// Nothing where all is as it was.
pub(super) fn compared(
    running: &Running,
    now: &Now,
    beside: impl Fn(&Container) -> BesideFiles,
) -> Option<Row> {
    let Running { container, image, files, held, .. } = running;
    let mut row = Row::new(running);
    match now {
        Now::Gone => {}
        Now::Broken(file) => {
            row.file = Some(file.clone());
            row.errors = true;
        }
        Now::Said(file, said) => {
            let (digest, listed) = beside(said);
            row.file = Some(file.clone());
            row.keys = differences(container, said);
            row.keys.retain(|key| !QUIET.contains(&key.as_str()));
            // A path that is listed anew is a key that is said otherwise.
            let other =
                |(path, digest): &(&PathBuf, &String)| files.get(*path).is_some_and(|was| was != *digest);
            row.files = listed.iter().filter(other).map(|(path, _)| path.clone()).collect();
            row.image = match (digest, image) {
                (Some((reference, now)), Some(running)) if now.as_ref() != Some(running) => {
                    Some(Moved { reference, running: running.clone(), now })
                }
                _ => None,
            };
            if row.image.is_some() && said.snapshot {
                row.snapshot = said.writes_to().into_iter().map(str::to_owned).collect();
            }
            if row.keys.is_empty() && row.files.is_empty() && row.image.is_none() && held.is_none() {
                return None;
            }
        }
    }
    Some(row)
}

/// The keys in which two containers differ, as they are written; for those of a table the table.
pub(super) fn differences(a: &Container, b: &Container) -> Vec<String> {
    let fields = |container| match serde_json::to_value(container) {
        Ok(Value::Object(fields)) => fields.into_iter().collect::<BTreeMap<_, _>>(),
        _ => BTreeMap::new(),
    };
    let (before, after) = (fields(a), fields(b));
    // What holds where nothing is written may be left out.
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut names = Vec::new();
    for key in keys.into_iter().filter(|key| before.get(*key) != after.get(*key)) {
        let name = match (key.as_str(), &b.source) {
            ("source", RootSource::Folder(_)) => "rootfs".to_owned(),
            ("source" | "supply", _) => "image".to_owned(),
            ("kind", _) => "type".to_owned(),
            (key, _) => key.replace('_', "-"),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.as_str().len()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        let Row { name, unit, file, keys, files, held, unproved, image, snapshot, errors } = row;
        let mut said = Vec::new();
        match file {
            None => said.push(format!("no file declares it any more: systemctl stop {unit}")),
            Some(file) if *errors => {
                said.push(format!("{} has mistakes: wharf check {name}", file.display()))
            }
            Some(_) => {}
        }
        if !keys.is_empty() {
            said.push(keys.join(", "));
        }
        said.extend(files.iter().map(|file| format!("{} has changed", file.display())));
        said.extend(image.as_ref().map(Moved::words));
        said.extend(snapshot_words(snapshot));
        said.extend(held.as_ref().map(|why| format!("held back: {why}")));
        said.extend(unproved.as_ref().map(|why| format!("its last good plan starts next: {why}")));
        let _ = writeln!(text, "{:width$}  {}", name.as_str(), plain(&said.join("; ")));
    }
    text
}

/// That a snapshot is taken of some volumes before a container is restarted; nothing without one.
pub(super) fn snapshot_words(volumes: &[String]) -> Option<String> {
    match volumes {
        [] => None,
        [one] => Some(format!("a snapshot of volume {one} is taken before")),
        more => Some(format!("a snapshot of volumes {} is taken before", more.join(", "))),
    }
}

/// Enough of a digest to tell two apart.
fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Source;
    use crate::spec::Document;

    fn container(text: &str) -> Container {
        let (document, findings) = Document::parse(&Source::new("/etc/wharf/containers/x.toml", text));
        let checked = crate::check::check(&"x".parse().expect("a name"), &document, findings);
        checked.container.expect("a container")
    }

    fn row(before: &str, now: Now, digest: Option<&str>) -> Option<Row> {
        let running = Running {
            container: container(before),
            source: "/etc/wharf/containers/x.toml".into(),
            image: Some("sha256:0123456789abcdef0123".to_owned()),
            files: [("/etc/x.conf".into(), "old".to_owned())].into(),
            held: None,
            ids: None,
            attachment: None,
        };
        compared(&running, &now, |container| {
            let image = match &container.source {
                RootSource::Image(reference) => Some((reference.to_string(), digest.map(str::to_owned))),
                RootSource::Folder(_) => None,
            };
            let listed = container.restart_on_change.iter().map(|path| (path.clone(), "new".to_owned()));
            (image, listed.collect())
        })
    }

    fn said(text: &str) -> Now {
        Now::Said("/etc/wharf/containers/x.toml".into(), Box::new(container(text)))
    }

    const SAME: Option<&str> = Some("sha256:0123456789abcdef0123");

    #[test]
    fn only_what_changed_is_listed() {
        let image = "image = \"web:1\"\n";
        assert_eq!(row(image, said(image), SAME), None);
        assert_eq!(row(image, said("image = \"web:1\"\n# a comment\nrestart = \"always\"\n"), SAME), None);
        let keys = |now: &str| row(image, said(now), SAME).map(|row| row.keys).unwrap_or_default();
        assert_eq!(keys("image = \"web:1\"\ninit = true\n[limits]\ntasks = 9\n"), ["init", "limits"]);
        let asks = "image = 'web:1'\nsnapshot = true\nmounts = { '/a' = { volume = 'data' }, '/b' = { tmpfs = true } }\n";
        let moved = row(asks, said(asks), Some("sha256:elsewhere")).expect("its image has moved");
        assert_eq!(moved.snapshot, ["data"]);
        assert!(table(&[moved]).contains("; a snapshot of volume data is taken before"));
        // Nothing has to be restarted for these.
        assert_eq!(
            row(
                image,
                said(
                    "image = \"web:1\"\nautostart = false\nupdate = \"local\"\ntype = \"service\"\nrestart = \"always\"\n\
                     [timer]\nevery = \"1h\"\n"
                ),
                SAME
            )
            .map(|row| row.keys),
            None
        );
        assert_eq!(keys("image = \"web:1\"\ntype = \"job\"\n"), ["type", "restart"]);
        // What isn't in a record for being as it is by itself.
        assert_eq!(keys("image = \"web:1\"\nready = \"notify\"\n"), ["ready"]);
        assert_eq!(keys("rootfs = \"/srv/x\"\ncommand = [\"a\"]\n"), ["command", "rootfs"]);
        let listed = "image = \"web:1\"\nrestart-on-change = [\"/etc/x.conf\"]\n";
        let changed = row(listed, said(listed), SAME).expect("changed");
        assert_eq!((changed.keys.len(), changed.files), (0, vec!["/etc/x.conf".into()]));
        let back = row("image = \"web:1\"\nready = \"notify\"\n", said(image), SAME).expect("changed");
        assert_eq!(back.keys, ["ready"]);
    }

    #[test]
    fn tables_say_what_to_do() {
        let image = "image = \"web:1\"\n";
        let moved = row(image, said(image), Some("sha256:ffff")).expect("changed");
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(keys, crate::cli::format::keys_of(&moved));
        let shown = |row: Option<Row>| table(&row.into_iter().collect::<Vec<_>>());
        assert_eq!(
            shown(row(image, said(image), Some("sha256:ffff"))),
            "x  web:1 is sha256:ffff now, and sha256:0123456789ab runs\n"
        );
        assert_eq!(
            shown(row(image, said(image), None)),
            "x  web:1 is not in the store any more, and sha256:0123456789ab runs\n"
        );
        assert_eq!(
            shown(row(image, Now::Gone, SAME)),
            "x  no file declares it any more: systemctl stop x-container.service\n"
        );
        assert_eq!(
            shown(row(image, Now::Broken("/etc/wharf/containers/x.toml".into()), SAME)),
            "x  /etc/wharf/containers/x.toml has mistakes: wharf check x\n"
        );
    }
}
