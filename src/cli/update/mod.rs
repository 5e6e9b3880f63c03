//! `wharf update`: images that have moved on where they come from, tried with care.

mod pin;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::apply::decide::{Action, good};
use super::apply::heed::Heed;
use super::apply::work::{Outcome, Work, fingerprint, is_up};
use super::apply::{Row, Written, how_written, lock, look, table, tell};
use super::changed::{Now, beside_files, compared, now, snapshot_words};
use super::declared::Declared;
use super::exec::here_as_root;
use super::image::provide::{Progress, fetch};
use super::output::{Exit, Failure, chain, complain, plain, print};
use crate::bus::Systemd;
use crate::check::{Container, From, Kind, RootSource, Update};
use crate::generate::{self, Everything};
use crate::held::{self, Applying};
use crate::host::Paths;
use crate::image::{Digest, Store};
use crate::journal::{self, About};
use crate::plan;
use crate::plan::held::{Fingerprint, Good, HELD_FORMAT, Held};
use crate::registry::{self, Client, Credentials};
use crate::running::{self, Running};
use crate::spec::{ContainerName, Reference, duration};

const AFTER_HELP: &str = "\
Of containers whose files say `update`:

1. With \"registry\", the registry is asked what the tag names now. Where that is
   what the store has, nothing is fetched.
2. What is new is fetched, and verified as `[trust]` and the image's file ask.
   What a container falls back to is written down before.
3. Containers whose tag names another image now are restarted as `wharf apply`
   does it: in the order of links, each must become ready and stay so for a
   while, and one that doesn't gets its last good image back.

An image that failed is remembered, and not tried again until the tag moves on
or somebody says `wharf apply --retry NAME`. Containers that also have changes
in their files wait for `wharf apply`. Others that run the same tag, without
`update`, get what it names at their next start. So do jobs, and what waits for
its first client or is idle: neither is started or disturbed by an update, so
nobody looks at how its next run does, and no snapshot is taken.

A container whose files have mistakes is left out, and the command ends with 1.
With a mistake in wharf.toml or an image's file nothing is done.

With `snapshot = true` an image that failed has its container's volumes put back
as well: see `wharf apply --help`. Where there can't be a snapshot, nothing is
fetched.

With --pin nothing else is updated: where a container's `image` is pinned, as in
\"nginx:1.26@sha256:…\", the digest that the tag names now is written there, and
the rest of the file stays as it is, byte for byte. Then it is applied.

`systemctl enable --now wharf-update.timer` updates once a day.

Examples:
  wharf update --dry-run
  wharf update
  wharf update nginx app
  wharf update --pin --dry-run nginx
  wharf update --json | jq -r '.containers[] | select(.outcome != \"applied\") | .name'

JSON: one object with the keys
  images      an array of objects, one for each tag that was asked for: reference, here (the digest
              in the store before, or null), there (the registry's, of a manifest or an index, or
              null), fetched, problem (text, or null), snapshots (an object: by container that would
              run it, the volumes that a snapshot is taken of before)
  pins        an array of objects, one for each pin that moves: file, line, before, after
  containers  an array of objects as of `wharf apply --json`

Exit status: 0 all that is new runs, or would be tried, or nothing is new (what
failed earlier is only shown); 1 something can't be had, or failed now, or a
file has mistakes; 2 for wrong usage.";

/// Run what the tags of images name now; what doesn't work is put back
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct UpdateArgs {
    /// Only these
    names: Vec<ContainerName>,
    /// Only show what would be fetched, written and restarted
    #[arg(long)]
    dry_run: bool,
    /// Move the digests that images are pinned to in containers' files
    #[arg(long)]
    pin: bool,
    /// How long a container must stay ready, like 10s, whatever its checks are
    #[arg(long, value_name = "TIME", value_parser = duration)]
    settle: Option<Duration>,
    /// Give up, and not wait, while `wharf apply` or another update is under way
    #[arg(long)]
    no_wait: bool,
    /// One object, as below
    #[arg(long)]
    json: bool,
}

/// What is said where there is nothing to say.
const NOTHING: &str = "nothing is to be updated\n";

/// Somebody asked for what the files don't allow.
#[derive(Debug, thiserror::Error)]
#[error("{name} can't be updated: {why}")]
struct NotUpdated {
    name: ContainerName,
    why: String,
}

/// A file can't be written, or a mark.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}", .path.display())]
pub(super) struct WriteError {
    path: std::path::PathBuf,
    #[source]
    source: io::Error,
}

/// A tag that was asked for. The keys are documented in `--help` and stay.
#[derive(Clone, Debug, Serialize)]
struct Asked {
    reference: String,
    here: Option<String>,
    there: Option<String>,
    fetched: bool,
    problem: Option<String>,
    snapshots: BTreeMap<ContainerName, Vec<String>>,
    #[serde(skip)]
    new: bool,
}

/// Everything, as JSON has it.
#[derive(Serialize)]
struct Shown<'a> {
    images: &'a [Asked],
    pins: &'a [pin::Moved],
    containers: Vec<Row<'a>>,
}

/// Runs the command.
pub fn run(args: &UpdateArgs, paths: &Paths) -> Result<Exit, Failure> {
    let UpdateArgs { names, dry_run, pin, settle, no_wait, json } = args;
    here_as_root(paths)?;
    let heed = if *dry_run { None } else { Some(Heed::take()?) };
    let lock = if *dry_run { None } else { Some(lock(paths, *no_wait)?) };
    let written = how_written(paths)?;
    if written == Written::Badly {
        return Ok(Exit::Failed);
    }
    let declared = Declared::list(paths)?;
    for name in names {
        if running::find(paths, name)?.is_none() {
            declared.unit_of(name)?;
        }
    }
    let everything = generate::check_everything(paths, declared.listing());
    let settings = everything.settings.settings.clone();
    let store = Store::new(paths.state());
    let running: BTreeMap<ContainerName, Running> =
        running::all(paths)?.into_iter().map(|running| (running.container.name.clone(), running)).collect();
    let ask = Ask {
        paths,
        declared: &declared,
        everything: &everything,
        store: &store,
        running: &running,
        client: Client::new(settings, Credentials::of_host(paths), Arc::new(())),
    };
    let mut pins = Vec::new();
    let mut images;
    let mut own = BTreeMap::new();
    let wanted: BTreeSet<ContainerName> = if *pin {
        let pin::Pins { moved, containers, problems } = pin::look(&ask, names);
        ask.refuse(&containers)?;
        images = problems;
        pins = moved;
        if !*json {
            print(&(people(&images, false) + &pin::diff(&pins)))?;
        }
        if !*dry_run {
            for moved in &pins {
                pin::write(paths, moved)?;
            }
        }
        containers
    } else {
        let (containers, pending) = ask.wanted(names)?;
        for name in &pending {
            complain(&format!("{name} has changes in its files, and waits for: wharf apply {name}\n"));
        }
        images = ask.tags(&containers);
        ask.snapshots(&containers, &mut images);
        if !*dry_run {
            own = ask.fetch(&containers, &mut images, lock.as_ref().map_or("", Applying::run), *settle)?;
        }
        let is_told = !*dry_run && tell_problems(&images) && journal::is_stdout();
        if !*json {
            print(&people(&images, is_told))?;
        }
        containers.into_keys().collect()
    };
    let is_bad = written != Written::Well || images.iter().any(|image| image.problem.is_some());
    let exit = if is_bad { Exit::Failed } else { Exit::Done };
    let wanted: Vec<ContainerName> = wanted.into_iter().collect();
    // No name is all of them.
    if wanted.is_empty() {
        if *json {
            let shown = Shown { images: &images, pins: &pins, containers: Vec::new() };
            print(&(serde_json::to_string_pretty(&shown)? + "\n"))?;
        } else if images.iter().all(|image| image.problem.is_none()) {
            print(NOTHING)?;
        }
        return Ok(exit);
    }
    let mut scene = look(paths, &wanted, false, &own.keys().cloned().collect())?;
    // What doesn't run isn't started by an update.
    scene.steps.retain(|step| matches!(step.action, Action::Restart | Action::Held));
    if !json {
        let nothing =
            scene.steps.is_empty() && images.iter().all(|image| image.problem.is_none() && !image.new);
        let text = match scene.steps.is_empty() {
            false => table(&scene.steps),
            true if nothing => NOTHING.to_owned(),
            true => String::new(),
        };
        print(&text)?;
    }
    let Some((lock, heed)) = lock.zip(heed) else {
        if *json {
            let rows = scene.steps.iter().map(|step| Row::new(step, None)).collect();
            let shown = Shown { images: &images, pins: &pins, containers: rows };
            print(&(serde_json::to_string_pretty(&shown)? + "\n"))?;
        }
        return Ok(if scene.is_refused() { Exit::Failed } else { exit });
    };
    for (name, Own { before, good, reference }) in own {
        let is_tried = scene.steps.iter().any(|step| step.name == name);
        // A tag that came back to what is good: nothing is tried. What isn't up at the moment keeps its mark, and is
        // tried when it is.
        let named = store.digest_of(&reference).ok().map(|digest| digest.to_string());
        if !is_tried && named == good {
            put_back(paths, &name, before.as_ref())?;
        }
    }
    let told = |name: &ContainerName, outcome: &Outcome| tell(paths, *json, name, outcome);
    let work = Work { paths, scene: &scene, settle: *settle, reload: *pin, heed: &heed, told: &told };
    let outcomes = work.all(lock)?;
    let well = outcomes.values().all(|outcome| matches!(outcome, Outcome::Applied(_)));
    let exit = if well { exit } else { Exit::Failed };
    if *json {
        let rows = scene.steps.iter().map(|step| Row::new(step, outcomes.get(&step.name))).collect();
        let shown = Shown { images: &images, pins: &pins, containers: rows };
        let text = serde_json::to_string_pretty(&shown)? + "\n";
        print(&text).map_err(|failure| failure.unread(exit))?;
    }
    Ok(exit)
}

/// What is known of a mark that was written before a tag moved.
struct Own {
    /// What was there instead.
    before: Option<Held>,
    /// The image that it falls back to.
    good: Option<String>,
    /// The tag.
    reference: Reference,
}

/// A mark as it was before.
fn put_back(paths: &Paths, name: &ContainerName, before: Option<&Held>) -> Result<(), WriteError> {
    let done = match before {
        Some(held) => held::keep(paths, held),
        None => held::forget(paths, name),
    };
    done.map_err(|source| WriteError { path: held::folder(paths), source })
}

/// What is asked with.
struct Ask<'a> {
    paths: &'a Paths,
    declared: &'a Declared<'a>,
    everything: &'a Everything,
    store: &'a Store,
    running: &'a BTreeMap<ContainerName, Running>,
    client: Client,
}

impl Ask<'_> {
    /// Containers that are declared or run, of those that are asked for.
    fn containers(&self, names: &[ContainerName]) -> BTreeMap<ContainerName, Container> {
        let declared = self.everything.containers.iter().map(|(files, _)| &files.name);
        let all: BTreeSet<&ContainerName> = declared.chain(self.running.keys()).chain(names).collect();
        let said = |name: &&ContainerName| match now(self.declared, self.everything, name) {
            Now::Said(_, container) => Some(((*name).clone(), *container)),
            Now::Gone | Now::Broken(_) => None,
        };
        let asked = |name: &&ContainerName| !name.is_template() && (names.is_empty() || names.contains(name));
        all.iter().filter(|name| asked(name)).filter_map(said).collect()
    }

    /// Those to be updated, each with its tag; and those that have something else to be applied first.
    #[expect(clippy::type_complexity, reason = "it is taken apart where it is made")]
    fn wanted(
        &self,
        names: &[ContainerName],
    ) -> Result<(BTreeMap<ContainerName, (Container, Reference)>, Vec<ContainerName>), Failure> {
        let mut wanted = BTreeMap::new();
        let mut pending = Vec::new();
        for (name, container) in self.containers(names) {
            let why = match &container.source {
                RootSource::Folder(_) => "it runs in a folder, and has no image".to_owned(),
                RootSource::Image(reference) if reference.digest().is_some() => {
                    match self.everything.pinned_in(reference) {
                        Some(file) => pin::elsewhere(file),
                        None => {
                            "its image is pinned to a digest; to move that: wharf update --pin".to_owned()
                        }
                    }
                }
                RootSource::Image(_) if container.update == Update::Off => {
                    "its file doesn't say `update`".to_owned()
                }
                RootSource::Image(reference) => {
                    let reference = reference.clone();
                    if self.is_edited(&name, &container) {
                        pending.push(name);
                    } else {
                        wanted.insert(name, (container, reference));
                    }
                    continue;
                }
            };
            if names.contains(&name) {
                return Err(NotUpdated { name, why }.into());
            }
        }
        // What waits would get what its tag names with everything else.
        let waiting: BTreeSet<Reference> = pending
            .iter()
            .filter_map(|name| match now(self.declared, self.everything, name) {
                Now::Said(_, container) => match container.source {
                    RootSource::Image(reference) => Some(reference),
                    RootSource::Folder(_) => None,
                },
                Now::Gone | Now::Broken(_) => None,
            })
            .collect();
        wanted.retain(|_, (_, reference)| !waiting.contains(reference));
        Ok((wanted, pending))
    }

    /// Whether what runs isn't what its files say, its image aside. Where that is held back, its image is pinned.
    fn is_edited(&self, name: &ContainerName, container: &Container) -> bool {
        let Some(running) = self.running.get(name) else { return false };
        if running.held.is_some() {
            let settings = &self.everything.settings.settings;
            let version = held::fingerprint(self.paths, container, &plan::trust(container, settings));
            let mark = held::find(self.paths, name).ok().flatten();
            // What `wharf apply` has tried already waits for nobody: the image may be what was bad.
            let was_tried =
                |mark: &Held| mark.blamed_image().is_some() && mark.tried.declared == version.declared;
            return mark.is_some_and(|mark| !mark.is_good(container) && !was_tried(&mark));
        }
        let now = Now::Said(running.source.clone(), Box::new(container.clone()));
        let row = compared(running, &now, |container| beside_files(self.paths, self.store, container));
        row.is_some_and(|row| !row.keys.is_empty() || !row.files.is_empty())
    }

    /// What the registry has behind a reference, compared with what is here.
    fn tag(&self, reference: &Reference) -> Asked {
        let here = self.store.digest_of(reference).ok();
        let mut asked = Asked {
            reference: reference.to_string(),
            here: here.map(|digest| digest.to_string()),
            there: None,
            fetched: false,
            problem: None,
            snapshots: BTreeMap::new(),
            new: false,
        };
        let image = self.everything.image(reference);
        let at = match &image.from {
            None => reference.clone(),
            Some(From::Registry(reference)) => reference.clone(),
            Some(From::Url(_) | From::Path(_)) => {
                asked.problem = Some(format!(
                    "{} isn't at a registry; import it where it is new, and write update = \"local\"",
                    image.name
                ));
                return asked;
            }
        };
        match registry::named(&self.client, self.store, &at) {
            Ok(there) => {
                asked.there = Some(there.to_string());
                // An index is in the store beside what was chosen from it.
                let is_here = self.store.digest_of(&reference.pinned(&there.to_string())).ok();
                asked.new = here.is_none() || is_here != here;
            }
            Err(error) => asked.problem = Some(chain(&error)),
        }
        asked
    }

    /// Every tag of containers that are updated from registries.
    fn tags(&self, containers: &BTreeMap<ContainerName, (Container, Reference)>) -> Vec<Asked> {
        let references: BTreeSet<&Reference> = containers
            .values()
            .filter(|(container, _)| container.update == Update::Registry)
            .map(|(_, reference)| reference)
            .collect();
        references.into_iter().map(|reference| self.tag(reference)).collect()
    }

    /// Why there can't be a snapshot of a container's volumes; nothing where it asks for none.
    fn refused(&self, name: &ContainerName, container: &Container) -> Option<String> {
        let running: Vec<&Running> = self.running.values().collect();
        let possible = || held::snapshots::possible(self.paths, name, container.writes_to(), &running);
        container.snapshot.then(possible)?.err()
    }

    /// Of whose volumes there will be snapshots, once what is new is had; with one that can't be taken, nothing is
    /// fetched, since a start at any time would run it.
    fn snapshots(&self, containers: &BTreeMap<ContainerName, (Container, Reference)>, images: &mut [Asked]) {
        for asked in images.iter_mut().filter(|asked| asked.new) {
            // What doesn't run isn't restarted.
            let concerned = |(name, (container, reference)): &(&ContainerName, &(Container, Reference))| {
                container.snapshot
                    && reference.to_string() == asked.reference
                    && self.running.contains_key(*name)
            };
            let concerned: Vec<_> = containers.iter().filter(concerned).collect();
            for (name, (container, _)) in concerned {
                match self.refused(name, container) {
                    Some(why) => {
                        asked.problem = Some(format!("{name} says {why}"));
                        asked.new = false;
                    }
                    None => {
                        let volumes = container.writes_to().into_iter().map(str::to_owned).collect();
                        asked.snapshots.insert(name.clone(), volumes);
                    }
                }
            }
        }
    }

    /// Refuses what can't have the snapshots that it asks for, before its pin moves.
    fn refuse(&self, names: &BTreeSet<ContainerName>) -> Result<(), NotUpdated> {
        for name in names.iter().filter(|name| self.running.contains_key(*name)) {
            if let Now::Said(_, container) = now(self.declared, self.everything, name)
                && let Some(why) = self.refused(name, &container)
            {
                return Err(NotUpdated { name: name.clone(), why });
            }
        }
        Ok(())
    }

    /// Fetches what is new. Whoever runs it gets its mark before the tag moves: should the power go between that and the
    /// restart, boot starts what ran before. Gives the marks that are written.
    fn fetch(
        &self,
        containers: &BTreeMap<ContainerName, (Container, Reference)>,
        images: &mut [Asked],
        run: &str,
        settle: Option<Duration>,
    ) -> Result<BTreeMap<ContainerName, Own>, Failure> {
        let marks = held::all(self.paths);
        let settings = &self.everything.settings.settings;
        let active = match images.iter().any(|asked| asked.new) {
            true => Systemd::connect()?.states(&["*-container.service", "*-container@*.service"])?,
            false => BTreeMap::new(),
        };
        let mut own = BTreeMap::new();
        for asked in images.iter_mut().filter(|asked| asked.new) {
            let Ok(reference) = asked.reference.parse::<Reference>() else { continue };
            let mut written = Vec::new();
            // A job is never tried: what its tag names is for its next run.
            let concerned = |(_, (container, named)): &(&ContainerName, &(Container, Reference))| {
                *named == reference && container.kind == Kind::Service
            };
            for (name, (container, _)) in containers.iter().filter(concerned) {
                let trust = plan::trust(container, settings);
                let version = held::fingerprint(self.paths, container, &trust);
                let before = marks.get(name);
                let state = active.get(&name.unit()).map_or("inactive", String::as_str);
                let Some(good) = self.good(name, container, &version, before, state) else { continue };
                let runs = self.running.get(name).filter(|running| running.held.is_none());
                let runs = runs.map(|running| fingerprint(running, settings));
                let mark = Held {
                    format: HELD_FORMAT,
                    state: Held::follows(before, &version, runs.as_ref()),
                    run: run.to_owned(),
                    at: Timestamp::now().to_string(),
                    settle: settle.map(|time| time.as_secs()),
                    why: None,
                    blamed: before.and_then(Held::blamed_image).map(str::to_owned),
                    // Whichever it will be.
                    tried: Fingerprint { image: None, ..version },
                    good,
                    snapshot: None,
                };
                let mark = held::snapshots::keep_mark(self.paths, mark, container.snapshot, before)
                    .map_err(|source| WriteError { path: held::folder(self.paths), source })?;
                written.push((name.clone(), mark.good.image));
            }
            let progress = Arc::new(Progress::default());
            match fetch(self.paths, self.store, &self.everything.image(&reference), settings, &progress) {
                Ok(_) => {
                    asked.fetched = true;
                    own.extend(written.into_iter().map(|(name, good)| {
                        let before = marks.get(&name).cloned();
                        (name, Own { before, good, reference: reference.clone() })
                    }));
                }
                Err(problem) => {
                    asked.problem = Some(chain(problem.as_ref()));
                    for (name, _) in written {
                        put_back(self.paths, &name, marks.get(&name))?;
                    }
                }
            }
        }
        Ok(own)
    }

    /// What a container falls back to: what runs, or what a mark has; and of one that is on its way up, what its tag
    /// names until now.
    fn good(
        &self,
        name: &ContainerName,
        container: &Container,
        version: &Fingerprint,
        before: Option<&Held>,
        state: &str,
    ) -> Option<Good> {
        let settings = &self.everything.settings.settings;
        let runs = self.running.get(name).map(|running| (running, fingerprint(running, settings)));
        let known =
            good(before, version, runs.as_ref().map(|(running, print)| (*running, print)), is_up(state));
        // What somebody has stopped is tried by nobody, and waits for no proof.
        known.filter(|_| state != "inactive").or_else(|| {
            let source = self.declared.files(name).ok()?.main.path.clone();
            (state == "activating" && version.image.is_some())
                .then(|| Good::new(container.clone(), source, version.image.clone()))
        })
    }

    /// What the tag of a pinned reference names at its registry.
    fn newest(&self, tag: &Reference) -> Result<Digest, String> {
        registry::named(&self.client, self.store, tag).map_err(|error| chain(&error))
    }
}

fn unfetched(problem: &str) -> String {
    format!("can't be updated: {problem}")
}

/// Has it in the journal, where somebody reads it there, why images can't be had; whether it is.
fn tell_problems(images: &[Asked]) -> bool {
    let told = |Asked { reference, problem, .. }: &Asked| {
        let Some(problem) = problem else { return true };
        let about = About { image: Some(reference.clone()), ..About::default() };
        let text = format!("{reference} {}", plain(&unfetched(problem)));
        journal::send(&about, 3, Some(journal::Kind::NotProvided), &text)
    };
    images.iter().filter(|asked| !told(asked)).count() == 0
}

fn people(images: &[Asked], are_told: bool) -> String {
    let mut text = String::new();
    for Asked { reference, there, fetched, problem, snapshots, new, .. } in images {
        let there = there.as_deref().unwrap_or_default();
        let there = there.get(..19).unwrap_or(there);
        let said = match problem {
            Some(_) if are_told => continue,
            Some(problem) => unfetched(problem),
            None if *fetched => format!("is {there} now, and was fetched"),
            None if *new => format!("is {there} now, and would be fetched"),
            None => continue,
        };
        let _ = writeln!(text, "{reference} {}", plain(&said));
        // Once it is fetched, its container has a line of its own.
        for (name, volumes) in snapshots.iter().filter(|_| problem.is_none() && !fetched) {
            let words = snapshot_words(volumes).unwrap_or_default();
            let _ = writeln!(text, "{name}: {words}");
        }
    }
    text
}
