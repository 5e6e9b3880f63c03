//! `wharf changed`: which running containers are not what their files and images say now.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::declared::Declared;
use super::exec::here_as_root;
use super::output::{Exit, Failure, plain, print};
use crate::bus::Systemd;
use crate::check::{Checked, Container, RootSource};
use crate::generate::{self, Everything};
use crate::host::Paths;
use crate::image::Store;
use crate::plan::{self, Files};
use crate::running::{self, Running};
use crate::spec::ContainerName;

const AFTER_HELP: &str = "\
What a container was started with is compared with its files, drop-ins and the
files of images as they are now, reloaded or not, and the image that runs with
the one that its reference names in the store.

Examples:
  wharf changed
  wharf changed nginx app
  wharf changed --json | jq -r '.[].unit' | xargs -r systemctl restart

JSON: an array of objects, one for each container that is not what it was, with the keys
  name, unit  text
  file        the container's file now, or null where none declares it any more
  keys        an array of texts: the keys that are said otherwise now
  image       where it moved: reference, running and now (digests; now is null where the store
              hasn't got it any more), or null
  errors      whether its files have mistakes, so that nothing else can be told

Exit status: 0 compared, whatever was found; 1 not; 2 for wrong usage.";

/// List running containers whose files or image have changed since they started
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ChangedArgs {
    /// Only these
    names: Vec<ContainerName>,
    /// One array of objects, as below
    #[arg(long)]
    json: bool,
}

/// A container that is not what it was. The keys are documented in `--help` and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: ContainerName,
    unit: String,
    file: Option<PathBuf>,
    keys: Vec<String>,
    image: Option<Moved>,
    errors: bool,
}

/// A reference that names another image than the one that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Moved {
    reference: String,
    running: String,
    now: Option<String>,
}

/// What is declared under a name now.
enum Now {
    Gone,
    Broken(PathBuf),
    Said(PathBuf, Box<Container>),
}

/// Runs the command.
pub fn run(args: &ChangedArgs, paths: &Paths) -> Result<Exit, Failure> {
    let ChangedArgs { names, json } = args;
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
    let mut rows = Vec::new();
    for running in running::all(paths)? {
        let name = running.container.name.clone();
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let digest = |container: &Container| match &container.source {
            RootSource::Image(reference) => {
                Some((reference.to_string(), store.resolve(reference).ok().map(|image| image.digest)))
            }
            RootSource::Folder(_) => None,
        };
        rows.extend(compared(&running, now(&declared, &everything, &name), digest));
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
    print(&if *json { serde_json::to_string_pretty(&rows)? + "\n" } else { table(&rows) })?;
    Ok(Exit::Done)
}

/// What declares a container now, with all else that is declared in view.
fn now(declared: &Declared<'_>, everything: &Everything, name: &ContainerName) -> Now {
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

/// Nothing where all is as it was.
fn compared(
    running: &Running,
    now: Now,
    digest: impl Fn(&Container) -> Option<(String, Option<String>)>,
) -> Option<Row> {
    let Running { container, image, .. } = running;
    let row = |file, keys, image, errors| Row {
        name: container.name.clone(),
        unit: container.name.unit(),
        file,
        keys,
        image,
        errors,
    };
    match now {
        Now::Gone => Some(row(None, Vec::new(), None, false)),
        Now::Broken(file) => Some(row(Some(file), Vec::new(), None, true)),
        Now::Said(file, said) => {
            let keys = differences(container, &said);
            let moved = match (digest(&said), image) {
                (Some((reference, now)), Some(running)) if now.as_ref() != Some(running) => {
                    Some(Moved { reference, running: running.clone(), now })
                }
                _ => None,
            };
            (moved.is_some() || !keys.is_empty()).then(|| row(Some(file), keys, moved, false))
        }
    }
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
        let Row { name, unit, file, keys, image, errors } = row;
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
        if let Some(Moved { reference, running, now }) = image {
            said.push(match now {
                Some(now) => format!("{reference} is {} now, and {} runs", short(now), short(running)),
                None => format!("{reference} is not in the store any more, and {} runs", short(running)),
            });
        }
        let _ = writeln!(text, "{:width$}  {}", name.as_str(), plain(&said.join("; ")));
    }
    text
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
            ids: None,
            attachment: None,
        };
        compared(&running, now, |container| match &container.source {
            RootSource::Image(reference) => Some((reference.to_string(), digest.map(str::to_owned))),
            RootSource::Folder(_) => None,
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
        // What isn't in a record for being as it is by itself.
        assert_eq!(keys("image = \"web:1\"\nready = \"notify\"\n"), ["ready"]);
        assert_eq!(keys("rootfs = \"/srv/x\"\ncommand = [\"a\"]\n"), ["command", "rootfs"]);
        let back = row("image = \"web:1\"\nready = \"notify\"\n", said(image), SAME).expect("changed");
        assert_eq!(back.keys, ["ready"]);
    }

    #[test]
    fn tables_say_what_to_do() {
        let image = "image = \"web:1\"\n";
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
