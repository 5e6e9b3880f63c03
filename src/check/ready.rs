//! When a start is done, and how a running container reads its configuration anew.

use super::{Kind, NotifyAccess, Ready, Reload, Rules, process};
use crate::report::Finding;
use crate::spec::Signal;

/// `ready`.
pub fn ready(rules: &mut Rules<'_>) -> Ready {
    match rules.text("ready") {
        Some(("notify", place)) => {
            if rules.get("health").is_some() {
                rules.error(
                    place,
                    "either the program says how it is, or [health] finds out: both would speak to systemd",
                    "write ready = \"healthy\", or take [health] out",
                );
            }
            if rules.flag("user-namespace") == Some(false) {
                // systemd takes any process of the host for the main one (`MAINPID=`) where the host's root says so
                // (`service_notify_message` in its src/core/service.c), and kills it at the next stop.
                rules.error(
                    place,
                    "`ready` = \"notify\" lets the host's root speak to systemd from inside, and have it kill any process",
                    "take `user-namespace` = false out, or write ready = \"healthy\" and a [health]",
                );
            }
            Ready::Notify
        }
        Some(("healthy", place)) => {
            if rules.get("health").is_none() {
                rules.error(
                    place,
                    "`ready` = \"healthy\" waits for a check, and there is none",
                    "add one, for example: health.http = \"http://localhost/\"",
                );
            }
            Ready::Healthy
        }
        _ => Ready::Exec,
    }
}

/// `notify-access`. Below an init the program is never process 1, so nothing else than `all` lets it speak.
pub fn notify_access(rules: &mut Rules<'_>, ready: Ready, init: bool) -> NotifyAccess {
    let written = rules.text("notify-access");
    // Of a `ready` that can't be read nobody knows whether it was this.
    let is_known = rules.text("ready").is_none_or(|(text, _)| text == "exec");
    if let Some(entry) = rules.get("notify-access").filter(|_| ready != Ready::Notify && is_known) {
        let message = "`notify-access` has no effect: it says who may speak to systemd, and nobody can";
        let hint = "write ready = \"notify\", or take this out";
        rules.findings.push(Finding::warning(entry.key.clone(), message).hint(hint));
    }
    match written {
        Some(("all", _)) => NotifyAccess::All,
        Some(("main", place)) if init => {
            let message = "with `init` the program is not process 1, and couldn't speak";
            rules.error(place, message, "take this out: with `init` it is \"all\"");
            NotifyAccess::All
        }
        None if init && ready == Ready::Notify => NotifyAccess::All,
        _ => NotifyAccess::Main,
    }
}

/// A watchdog waits for a word of the program's. Beside `[health]` it isn't the file's to set.
pub fn watchdog(rules: &mut Rules<'_>, ready: Ready) {
    let is_known = rules.text("ready").is_none_or(|(text, _)| text == "exec");
    if ready != Ready::Exec || !is_known || rules.get("health").is_some() {
        return;
    }
    if let Some(entry) = rules.get("systemd.Service.WatchdogSec") {
        rules.error(
            &entry.key,
            "nothing in the container can feed this watchdog, so systemd would end it each time",
            "write ready = \"notify\" for a program that says WATCHDOG=1 (sd_notify(3)), or a [health] for any other",
        );
    }
}

/// A job is ready when it has ended, and then there is nothing to check or to reload.
pub fn of_a_job(rules: &mut Rules<'_>, kind: Kind) {
    if kind != Kind::Job {
        return;
    }
    for key in ["ready", "health", "reload"] {
        if key == "ready" && rules.text("ready").is_none_or(|(text, _)| text == "exec") {
            continue;
        }
        if let Some(entry) = rules.get(key) {
            let hint = "take it out, or write type = \"service\"";
            rules.error(&entry.key, format!("a job has no `{key}`: it is done when it has ended"), hint);
        }
    }
}

/// `[reload]`.
pub fn reload(rules: &mut Rules<'_>, ready: Ready) -> Option<Reload> {
    let table = rules.get("reload")?;
    let wait = rules.flag("reload.wait");
    let command = process::arguments(rules, "reload.command");
    let signal = rules.digits("reload.signal").and_then(|(text, place)| match text.parse::<Signal>() {
        Ok(signal) if [Signal::KILL, Signal::STOP].contains(&signal) => {
            rules.error(
                place,
                format!("no program can handle {signal}"),
                "write the signal by which it reads its configuration anew, most often \"SIGHUP\"",
            );
            None
        }
        Ok(signal) => Some(signal),
        Err(error) => {
            rules.error(place, format!("`signal`: {error}"), "for example: signal = \"SIGHUP\"");
            None
        }
    });
    let (signal_entry, command_entry) = (rules.get("reload.signal"), rules.get("reload.command"));
    if let Some(entry) = command_entry
        && command.as_ref().is_some_and(Vec::is_empty)
    {
        rules.error(
            &entry.value.place,
            "`command` is empty",
            "name a program of the image, with its arguments",
        );
        return None;
    }
    if let Some(entry) = rules.get("reload.wait").filter(|_| wait == Some(true)) {
        let hint = "write ready = \"notify\" for a program that says by sd_notify(3) when it has reloaded";
        if ready != Ready::Notify {
            rules.error(
                &entry.key,
                "there is nothing to wait for: the program doesn't say when it is done",
                hint,
            );
        } else if command_entry.is_some() {
            rules.error(
                &entry.key,
                "`wait` goes with `signal`",
                "take it out: a command is always waited for",
            );
        }
    }
    match (signal_entry, command_entry) {
        (Some(_), Some(command)) => {
            let message = "either `signal` or `command`: a reload is one of the two";
            rules.error(&command.key, message, "take one of them out");
            None
        }
        (None, None) => {
            let hint = "write signal = \"SIGHUP\", or command = [\"nginx\", \"-s\", \"reload\"]";
            rules.error(&table.key, "[reload] doesn't say how", hint);
            None
        }
        _ => match (signal, command) {
            (Some(signal), _) => {
                Some(Reload::Signal { signal, wait: wait.unwrap_or(true) && ready == Ready::Notify })
            }
            (None, Some(command)) => Some(Reload::Command(command)),
            (None, None) => None,
        },
    }
}
