//! When it starts and how it ends.

use std::path::{Path, PathBuf};

use super::model::written;
use super::paths;
use super::{Kind, Mount, Restart, RootSource, Rules, Starting, Stop, Update, plain};
use crate::report::{Finding, Source};
use crate::spec::{ContainerName, Signal, duration};

/// `restart`. What is to end isn't started again, be it a job or what has a timer or a limit to its time, and what clients start may end when it has nothing to do.
pub fn restart(rules: &Rules<'_>, starting: &Starting) -> Restart {
    let by_clients =
        starting.socket.as_ref().is_some_and(|socket| socket.on_demand && socket.proxy.is_none());
    match rules.text("restart") {
        Some(("no", _)) => Restart::No,
        Some(("on-failure", _)) => Restart::OnFailure,
        Some(("always", _)) => Restart::Always,
        _ if starting.kind == Kind::Job => Restart::No,
        // It ends when its time is over, and is started at the next.
        _ if starting.timer.is_some() || rules.get("runtime").is_some() => Restart::No,
        _ if by_clients => Restart::OnFailure,
        _ => Restart::Always,
    }
}

/// `restart-on-change`.
pub fn restart_on_change(rules: &mut Rules<'_>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (text, place) in rules.texts("restart-on-change").unwrap_or_default() {
        match paths::host(text) {
            Ok(path) if path == Path::new("/") => rules.error(
                place,
                "`restart-on-change` can't be everything that there is",
                "list the files that the program reads at its start",
            ),
            Ok(path) if files.contains(&path) => {}
            Ok(path) => files.push(path),
            Err(error) => {
                rules.error(
                    place,
                    format!("\"{text}\" of `restart-on-change` {}", error.message),
                    error.hint,
                );
            }
        }
    }
    files
}

/// `update`.
pub fn update(rules: &mut Rules<'_>, source: Option<&RootSource>) -> Update {
    let update = match rules.text("update") {
        Some(("local", _)) => Update::Local,
        Some(("registry", _)) => Update::Registry,
        _ => Update::Off,
    };
    let Some(entry) = rules.get("update").filter(|_| update != Update::Off) else { return update };
    match source {
        Some(RootSource::Folder(_)) => {
            rules.error(&entry.key, "`update` has no image to look for", "leave it out beside `rootfs`");
        }
        Some(RootSource::Image(reference)) if reference.digest().is_some() => rules.findings.push(
            Finding::warning(entry.key.clone(), "an image that is pinned to a digest is never updated")
                .hint("leave out the digest; or move it by hand: wharf update --pin"),
        ),
        _ => {}
    }
    update
}

/// `snapshot`, of the volumes that it may write to.
pub fn snapshot(
    rules: &mut Rules<'_>,
    source: Option<&RootSource>,
    starting: &Starting,
    mounts: &[Mount],
) -> bool {
    let snapshot = rules.flag("snapshot").unwrap_or(false);
    let Some(entry) = rules.get("snapshot").filter(|_| snapshot) else { return snapshot };
    let key = entry.key.clone();
    let idles = || {
        starting
            .socket
            .as_ref()
            .and_then(|socket| socket.proxy.as_ref())
            .is_some_and(|proxy| proxy.idle_stop.is_some())
    };
    let (message, hint) = match source {
        Some(RootSource::Folder(_)) => {
            rules.error(
                &key,
                "`snapshot` has no image that could be updated",
                "leave it out beside `rootfs`",
            );
            return snapshot;
        }
        _ if starting.kind == Kind::Job => (
            "`snapshot` is never taken of a job's volumes: updates don't restart it",
            "leave it out; or have the job's program keep what it needs",
        ),
        _ if written(mounts).is_empty() => (
            "`snapshot` has no volume to be taken of: only named ones that can be written to count",
            "under [mounts]: \"/data\" = { volume = \"NAME\" }; binds and memory are never put back",
        ),
        _ if idles() => (
            "`snapshot` is taken only where the container runs: what comes in while it is idle is started by the next client, with none",
            "to have it tried with one, wake it first, and then: wharf update NAME",
        ),
        _ => return snapshot,
    };
    rules.findings.push(Finding::warning(key, message).hint(hint));
    snapshot && starting.kind != Kind::Job
}

/// `autostart`: for a template never, and for an instance only where its own files say so, since the
/// template's word would start every instance that anybody made a drop-in for.
pub fn autostart(rules: &mut Rules<'_>) -> bool {
    let says = rules.flag("autostart");
    let own = rules.get("autostart").is_some_and(|entry| is_own(rules.name, &entry.value.place.source));
    if rules.name.is_template() {
        if let Some(entry) = rules.get("autostart").filter(|_| own && says == Some(true)) {
            let prefix = rules.name.prefix();
            rules.findings.push(
                Finding::warning(
                    entry.key.clone(),
                    "a template can't start at boot: it has no instance by itself",
                )
                .hint(format!("write it for an instance, in containers/{prefix}@NAME.toml.d/autostart.toml")),
            );
        }
        return false;
    }
    match rules.name.instance() {
        Some(_) => own && says == Some(true),
        None => says.unwrap_or(true),
    }
}

/// Whether a file is this container's and not its template's or everybody's.
pub(super) fn is_own(name: &ContainerName, source: &Source) -> bool {
    let file = format!("{name}.toml");
    let folder = format!("{name}.toml.d");
    source.path.file_name().is_some_and(|last| last == file.as_str())
        || source
            .path
            .parent()
            .and_then(|parent| parent.file_name())
            .is_some_and(|last| last == folder.as_str())
}

/// `[stop]`.
pub fn stop(rules: &mut Rules<'_>) -> Stop {
    let signal = rules.digits("stop.signal").and_then(|(text, place)| match text.parse::<Signal>() {
        // The first halts the program, unasked; the others are sent for other reasons, all the time.
        Ok(signal) if [Signal::STOP, Signal::CONT, Signal::CHLD].contains(&signal) => {
            rules.error(
                place,
                format!("{signal} asks no program to end"),
                "leave it out for SIGTERM, or write the signal by which it ends in order, for example \"SIGQUIT\"",
            );
            None
        }
        Ok(signal) => Some(signal),
        Err(error) => {
            rules.error(place, format!("`signal`: {error}"), "for example: signal = \"SIGQUIT\"");
            None
        }
    });
    let timeout = rules.get("stop.timeout").and_then(|entry| {
        let text = plain(&entry.value)?;
        let place = &entry.value.place;
        match duration(&text) {
            Ok(time) if time.is_zero() => {
                rules.error(
                    place,
                    "`timeout` can't be nothing: systemd would wait for ever",
                    "write \"1s\" for a short time, or signal = \"SIGKILL\" to end it at once",
                );
                None
            }
            Ok(time) => Some(time),
            Err(error) => {
                let hint = "for example: timeout = \"10s\"; a stop always has an end";
                rules.error(place, format!("`timeout`: {error}"), hint);
                None
            }
        }
    });
    Stop { signal, timeout }
}

/// Whether it lives through a soft reboot. Its sockets don't, and it requires them.
pub fn survive_soft_reboot(rules: &mut Rules<'_>, starting: &Starting) -> bool {
    let survives = rules.flag("survive-soft-reboot").unwrap_or(false);
    if let Some(entry) = rules.get("survive-soft-reboot").filter(|_| survives && starting.socket.is_some()) {
        rules.error(
            &entry.value.place,
            "a container with sockets of systemd's can't live through a soft reboot, which closes them",
            "leave it out, or [socket]; a port of `publish` stays",
        );
    }
    survives
}
