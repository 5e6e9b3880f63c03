//! `wharf inspect`: what was asked of a container, and what is in force.

mod asked;
mod people;
mod running;

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use asked::{Asked, asked};
use running::Network;

use super::changed::differences;
use super::check::findings_of;
use super::declared::{Declared, DeclaredError};
use super::next::next;
use super::output::{Exit, Failure, chain, coloured, print};
use super::plan::{fresh, reload_due};
use crate::apparmor::{Label, Profiles};
use crate::bus::{Systemd, UnitDetails};
use crate::check::{AppArmor, Checked, Container, MountKind, RootSource};
use crate::host::Paths;
use crate::image::Store;
use crate::lease;
use crate::plan::companions::timer_unit;
use crate::plan::steps::PROFILE;
use crate::plan::{self, Files};
use crate::report::{self, Finding, Level};
use crate::running::Running;
use crate::spec::{ContainerName, Document};

const AFTER_HELP: &str = "\
Examples:
  wharf inspect nginx
  wharf inspect web@blue --json | jq .unit.memory
  wharf inspect nginx --root build/rootfs    only what is asked: no systemd knows those

Values of the environment are not shown without --show-environment, to nobody:
this is what people put into reports and tickets. With it, they are shown to
who may read the container's files.

Only root may look into the store, at leases, and at the plan that a container
was started by; what can't be seen is null in JSON.

JSON: one object with the keys
  name, unit_name  text
  asked            null where no file declares it any more, or an object (of what `wharf run` has
                   started, a file in /run/wharf/transient):
                     source, drop_ins  the container's file, and those laid over it
                     keys              an array of objects: key, value, without (what holds, in
                                       words), file, line (null for a default), hidden
                     findings          an array of texts: errors and warnings of `wharf check`
                     reload_due        whether systemd has something else than these files; null
                                       where that can't be told
  started          null where it hasn't started since boot, or an object: source (the file), changed
                   (keys that the files now say otherwise: restart to apply; null where they have
                   errors), held (why its last good plan runs and not what its files say, or null)
  image            reference, digest (what the reference names in the store now), running (the
                   digest that runs), problem; null for a rootfs
  rootfs           the folder, or null
  ids              first and count: the range of the host's ids; null without a lease
  mounts           an array of objects: target, kind (bind, volume or tmpfs), path (of the host, or
                   null), read_only
  network          while it runs: interface (the host's side), addresses, gateway, links (to, names,
                   addresses), ports (as in `publish`); or null
  unit             systemd's word, or null where it isn't asked: file, drop_ins, state, sub_state,
                   result, since, next (when its timer starts it), status_text, restarts,
                   exit (code and status), reload_due, pid, control_group, memory,
                   memory_peak (bytes), tasks, cpu_time (microseconds), limits (by property; null
                   for none), cpus (empty for all)
  apparmor         of the main process: profile (null where it is unconfined), mode (as enforce),
                   note (why there is none, or null); null where it doesn't run or may not be looked
                   at, or AppArmor isn't on
  namespaces       of the main process, an array of objects: kind, id, own (false where it is the
                   host's); null where it doesn't run or may not be looked at

Exit status: 0 shown, 1 it failed or nothing knows the container, 2 for wrong usage.";

/// Show what was asked of a container, and what is in force
///
/// Asked: its files, as they are now. In force: what systemd, the kernel and the store say.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct InspectArgs {
    /// A declared container, or an instance of a template
    name: ContainerName,
    /// One object, as below
    #[arg(long)]
    json: bool,
    /// Values of the environment too, which may be secret
    #[arg(long)]
    show_environment: bool,
}

/// Everything. The keys are documented in `--help` and stay.
#[derive(Debug, Serialize)]
struct Shown {
    name: ContainerName,
    unit_name: String,
    asked: Option<AskedFor>,
    started: Option<Started>,
    image: Option<Image>,
    rootfs: Option<PathBuf>,
    ids: Option<Ids>,
    mounts: Vec<Mount>,
    network: Option<Network>,
    unit: Option<Unit>,
    apparmor: Option<Confined>,
    namespaces: Option<Vec<Namespace>>,
}

#[derive(Debug, Serialize)]
struct AskedFor {
    source: PathBuf,
    drop_ins: Vec<PathBuf>,
    keys: Vec<Asked>,
    findings: Vec<String>,
    reload_due: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Started {
    source: PathBuf,
    changed: Option<Vec<String>>,
    held: Option<String>,
}

#[derive(Debug, Serialize)]
struct Image {
    reference: String,
    digest: Option<String>,
    running: Option<String>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Ids {
    first: u32,
    count: u32,
}

#[derive(Debug, Serialize)]
struct Mount {
    target: String,
    kind: &'static str,
    path: Option<PathBuf>,
    read_only: bool,
}

#[derive(Debug, Serialize)]
struct Unit {
    file: Option<String>,
    drop_ins: Vec<String>,
    state: String,
    sub_state: String,
    result: Option<String>,
    since: Option<Timestamp>,
    next: Option<Timestamp>,
    status_text: Option<String>,
    restarts: u32,
    exit: Option<ExitStatus>,
    reload_due: bool,
    pid: Option<u32>,
    control_group: Option<String>,
    memory: Option<u64>,
    memory_peak: Option<u64>,
    tasks: Option<u64>,
    cpu_time: Option<u64>,
    limits: serde_json::Map<String, serde_json::Value>,
    cpus: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct ExitStatus {
    code: &'static str,
    status: i32,
}

#[derive(Debug, Serialize)]
struct Confined {
    profile: Option<String>,
    mode: Option<String>,
    note: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Namespace {
    kind: String,
    id: u64,
    own: bool,
}

/// Runs the command.
pub fn run(args: &InspectArgs, paths: &Paths) -> Result<Exit, Failure> {
    let InspectArgs { name, json, show_environment } = args;
    let declared = Declared::list(paths)?;
    let files = declared.files(name);
    // Only root may read the record; for others it is as if there were none.
    let started = crate::running::find(paths, name).ok().flatten();
    let unit = unit(paths, name)?;
    let runs = unit.as_ref().is_some_and(|unit| !["inactive", "failed"].contains(&unit.state.as_str()));
    let files = match files {
        // Its file is gone; what runs is there to look at.
        Err(DeclaredError::Unknown { .. } | DeclaredError::Masked { .. }) if started.is_some() && runs => {
            None
        }
        files => Some(files?),
    };
    let checked = files.as_ref().map(|files| declared.checked(files));
    let asked = match (&files, &checked) {
        (None, _) => transient(paths, name, *show_environment),
        (Some(files), Some(checked)) => {
            Some(asked_for(paths, &declared, name, files, checked, *show_environment)?)
        }
        _ => None,
    };
    let checked = checked.and_then(|checked| checked.container);
    let (changed, running) = match started {
        // What ran once and doesn't now has nothing in force.
        Some(running) if runs || unit.is_none() => {
            let changed = match &files {
                Some(_) => checked.as_ref().map(|now| differences(&running.container, now)),
                None => None,
            };
            (changed, Some(running))
        }
        _ => (None, None),
    };
    let shown = show(paths, name, asked, checked, running.map(|running| (running, changed)), unit);
    let text = if *json {
        serde_json::to_string_pretty(&shown)? + "\n"
    } else {
        people::render(&shown, Timestamp::now(), coloured(&io::stdout()))
    };
    print(&text)?;
    Ok(Exit::Done)
}

/// What `wharf run` was asked for, where that has started it.
fn transient(paths: &Paths, name: &ContainerName, show_environment: bool) -> Option<AskedFor> {
    let path = crate::transient::file(paths, name);
    let source = report::Source::new(paths.shown(&path), fs::read_to_string(&path).ok()?);
    let (document, _) = Document::parse(&source);
    Some(AskedFor {
        source: source.path.clone(),
        drop_ins: Vec::new(),
        keys: asked(&document, show_environment),
        findings: Vec::new(),
        reload_due: Some(false),
    })
}

fn asked_for(
    paths: &Paths,
    declared: &Declared<'_>,
    name: &ContainerName,
    files: &Files,
    checked: &Checked,
    show_environment: bool,
) -> Result<AskedFor, Failure> {
    let findings = findings_of(paths, files, checked.clone());
    // The plan is that of the unit: the template's, for an instance without files of its own.
    let of_unit = declared.files(&declared.unit_of(name)?)?;
    let due = match report::has_errors(&findings) {
        true => None,
        false => reload_due(paths, &of_unit.name, &fresh(paths, &of_unit, &declared.checked(&of_unit))?),
    };
    let mut keys = asked(&plan::document(files).0, show_environment);
    if let Some(container) = &checked.container {
        // What holds of these without a word depends on others.
        for (name, value) in [
            ("restart", serde_json::to_value(container.restart)?),
            ("type", serde_json::to_value(container.kind)?),
        ] {
            let default = keys.iter_mut().filter(|key| key.key == name && key.file.is_none());
            default.for_each(|key| key.value = value.clone());
        }
    }
    Ok(AskedFor {
        source: files.main.path.clone(),
        drop_ins: files.drop_ins.iter().map(|drop_in| drop_in.path.clone()).collect(),
        keys,
        findings: findings.iter().filter(|finding| finding.level != Level::Note).map(Finding::line).collect(),
        reload_due: due,
    })
}

/// systemd's word on a container of this host; nothing where it isn't process 1 here.
fn unit(paths: &Paths, name: &ContainerName) -> Result<Option<Unit>, Failure> {
    // A template has no state: only its instances run.
    if !paths.are_this_hosts() || !Systemd::runs() || name.is_template() {
        return Ok(None);
    }
    let systemd = Systemd::connect()?;
    let UnitDetails {
        status,
        file,
        drop_ins,
        reload_due,
        status_text,
        restarts,
        exit,
        control_group,
        tasks,
        cpu_time,
        memory_peak,
        limits,
        cpus,
    } = systemd.unit(&name.unit())?;
    let timer = timer_unit(name);
    let next = next(&systemd, &[&timer])?.remove(&timer);
    let exit = exit.map(|(code, status)| ExitStatus {
        // CLD_EXITED, CLD_KILLED and CLD_DUMPED of waitid(2).
        code: match code {
            1 => "exited",
            2 => "killed",
            3 => "dumped",
            _ => "unknown",
        },
        status,
    });
    Ok(Some(Unit {
        file,
        drop_ins,
        state: status.active,
        sub_state: status.sub,
        result: status.result,
        since: status
            .since
            .and_then(|time| i64::try_from(time).ok())
            .and_then(|time| Timestamp::from_microsecond(time).ok()),
        next,
        status_text,
        restarts,
        exit,
        reload_due,
        pid: status.pid,
        control_group,
        memory: status.memory,
        memory_peak,
        tasks,
        // systemd counts nanoseconds; a key has one unit, in whichever command.
        cpu_time: cpu_time.map(|time| time / 1000),
        limits: limits.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect(),
        cpus,
    }))
}

fn show(
    paths: &Paths,
    name: &ContainerName,
    asked: Option<AskedFor>,
    checked: Option<Container>,
    running: Option<(Running, Option<Vec<String>>)>,
    unit: Option<Unit>,
) -> Shown {
    let pid = unit.as_ref().and_then(|unit| unit.pid);
    let (started, container, digest, ids, network) = match running {
        Some((running, changed)) => {
            let network = running::network(&running);
            let Running { container, source, image, ids, files: _, held, attachment: _ } = running;
            (Some(Started { source, changed, held }), Some(container), image, ids, network)
        }
        None => (None, checked, None, None, None),
    };
    let (image, rootfs) = match container.as_ref().map(|container| &container.source) {
        Some(RootSource::Image(reference)) => {
            let (digest, problem) = match Store::new(paths.state()).resolve(reference) {
                Ok(image) => (Some(image.digest), None),
                Err(error) => (None, Some(chain(&error))),
            };
            (Some((reference.to_string(), digest, problem)), None)
        }
        Some(RootSource::Folder(folder)) => (None, Some(folder.clone())),
        None => (None, None),
    };
    let apparmor = pid.and_then(|pid| {
        let asked = container.as_ref().map(|container| &container.apparmor);
        confined(Label::of(pid.cast_signed()).ok()??, asked, || Profiles::read(paths))
    });
    let namespaced = container.as_ref().is_some_and(|container| container.user_namespace);
    let ids = ids.or_else(|| lease::found_ids(&paths.state(), name).ok().flatten()).filter(|_| namespaced);
    Shown {
        name: name.clone(),
        unit_name: name.unit(),
        asked,
        started,
        image: image.map(|(reference, in_store, problem)| Image {
            reference,
            digest: in_store,
            running: digest,
            problem,
        }),
        rootfs,
        ids: ids.map(|first| Ids { first, count: lease::IDS }),
        mounts: container.iter().flat_map(|container| mounts(paths, container)).collect(),
        network,
        unit,
        apparmor,
        namespaces: pid.and_then(namespaces),
    }
}

fn mounts<'c>(paths: &'c Paths, container: &'c Container) -> impl Iterator<Item = Mount> + 'c {
    container.mounts.iter().map(|mount| {
        let (kind, path, read_only) = match &mount.kind {
            MountKind::Bind(bind) => ("bind", Some(bind.source.clone()), bind.read_only),
            MountKind::Volume(volume) => {
                let path = paths.shown(&paths.state().join("volumes").join(&volume.name));
                ("volume", Some(path), volume.read_only)
            }
            MountKind::Tmpfs(_) => ("tmpfs", None, false),
        };
        Mount { target: mount.target.clone(), kind, path, read_only }
    })
}

/// What AppArmor does to a main process; where that is nothing, and nobody asked for nothing, why.
fn confined(label: Label, asked: Option<&AppArmor>, loaded: impl FnOnce() -> Profiles) -> Option<Confined> {
    let Label { profile, mode } = label;
    let note = match (&profile, asked) {
        (None, Some(AppArmor::Own)) => Some(match loaded() {
            Profiles::Loaded(loaded) if !loaded.contains_key(PROFILE) => {
                "the profile wharf-container isn't loaded: apparmor_parser -r /etc/apparmor.d/wharf-container"
            }
            Profiles::Loaded(_) => {
                "the profile wharf-container was loaded after it started: restart to apply"
            }
            Profiles::Off | Profiles::Hidden => "the profile wharf-container wasn't found when it started",
        }),
        _ => None,
    };
    Some(Confined { profile, mode, note })
}

/// The namespaces of a process (namespaces(7)), and whether they are other ones than this process's, which is
/// taken for one of the host. Nothing for who may not look.
fn namespaces(pid: u32) -> Option<Vec<Namespace>> {
    let id = |pid: &str, kind: &str| -> Option<u64> {
        // `pid:[4026531836]`
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
        link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
    };
    let mut kinds: Vec<String> = fs::read_dir(format!("/proc/{pid}/ns"))
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        // What its children will be in, which is its own.
        .filter(|kind| !kind.ends_with("_for_children"))
        .collect();
    kinds.sort();
    let of = |kind: String| {
        let its = id(&pid.to_string(), &kind)?;
        Some(Namespace { id: its, own: id("self", &kind) != Some(its), kind })
    };
    let namespaces: Vec<Namespace> = kinds.into_iter().filter_map(of).collect();
    (!namespaces.is_empty()).then_some(namespaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unconfined_with_a_reason() {
        let label = |profile: Option<&str>| Label { profile: profile.map(str::to_owned), mode: None };
        let note = |profile: Option<&str>, asked: &AppArmor, loaded: &[&str]| {
            let loaded = loaded.iter().map(|name| ((*name).to_owned(), "enforce".to_owned())).collect();
            confined(label(profile), Some(asked), || Profiles::Loaded(loaded))
                .and_then(|confined| confined.note)
        };
        assert_eq!(note(Some(PROFILE), &AppArmor::Own, &[]), None);
        assert_eq!(note(None, &AppArmor::Unconfined, &[]), None);
        assert!(note(None, &AppArmor::Own, &["x"]).is_some_and(|note| note.contains("apparmor_parser")));
        assert!(note(None, &AppArmor::Own, &[PROFILE]).is_some_and(|note| note.contains("restart")));
    }

    #[test]
    fn the_own_namespaces_are_the_hosts() {
        let all = namespaces(std::process::id()).expect("its own");
        assert!(all.len() >= 7 && all.iter().all(|namespace| !namespace.own && namespace.id > 0), "{all:?}");
        assert!(all.iter().all(|namespace| !namespace.kind.contains("children")));
        assert!(namespaces(u32::MAX).is_none());
    }
}
