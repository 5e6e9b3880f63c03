//! systemd, and what of Wharf it has to find.

use std::collections::BTreeMap;

use super::SYSTEMD;
use crate::doctor::facts::{Firewall, Generator, Installed, Journal, Look, Systemd};
use crate::doctor::look::STATIC_UNITS;
use crate::doctor::{Line, few};

pub(super) fn version(systemd: &Systemd) -> [Line; 1] {
    const TOPIC: &str = "systemd";
    let Systemd { is_process_1, instead, version, silent, machined: _ } = systemd;
    if !is_process_1 {
        return [Line::error(
            TOPIC,
            format!(
                "process 1 is {instead}: containers are systemd's services, and nothing starts them here"
            ),
            "boot this host with systemd; `wharf check` and `wharf plan` work without it",
        )];
    }
    if let Some(why) = silent {
        return [Line::warning(
            TOPIC,
            format!("it can't be asked: {why}; containers run, and wharf ps, run and apply don't work"),
            "see systemctl status and journalctl -b -u dbus -u dbus-broker; where there is no bus, install the package dbus",
        )];
    }
    [match version {
        Some(version) if *version < SYSTEMD => Line::error(
            TOPIC,
            format!("version {version}; Wharf needs {SYSTEMD} or later"),
            "upgrade the distribution",
        ),
        Some(version) => Line::ok(TOPIC, format!("version {version}")),
        None => Line::warning(
            TOPIC,
            "its version can't be told, so that units are made as for the oldest",
            "its library libsystemd-shared-VERSION.so is in none of the folders where it is looked for; please report that",
        ),
    }]
}

/// How to get back what the package brought.
const AGAIN: &str = "install it again: apt install --reinstall wharf, or dnf reinstall wharf, or the `install` that it came by; then systemctl daemon-reload";

pub(super) fn generator(installed: &Installed) -> Vec<Line> {
    const TOPIC: &str = "generator";
    let mut lines = vec![match &installed.generator {
        Generator::There(path) => Line::ok(TOPIC, path.clone()),
        Generator::Hidden(path) => Line::error(
            TOPIC,
            format!("{path} is empty, leads nowhere or can't be run, so that no unit is made"),
            format!("take it away, then: systemctl daemon-reload; it should be a program: ls -l {path}"),
        ),
        Generator::Missing => Line::error(
            TOPIC,
            "wharf-generator is in none of systemd's folders, so that no unit is made",
            AGAIN,
        ),
    }];
    if !installed.executor {
        let message = "/usr/libexec/wharf/wharf-executor can't be run, and it starts every container";
        lines.push(Line::error("executor", message, AGAIN));
    }
    lines
}

/// What listens for changes; without it nothing is put right by itself.
const LISTENERS: [&str; 2] = ["wharf-network.socket", "wharf-network.path"];

pub(super) fn units(
    installed: &Installed,
    units: &Look<BTreeMap<String, String>>,
    firewall: &Look<Firewall>,
) -> [Line; 1] {
    const TOPIC: &str = "static units";
    let Installed { generator: _, executor: _, missing, masked } = installed;
    if !missing.is_empty() {
        return [Line::warning(TOPIC, format!("missing: {}", few(missing)), AGAIN)];
    }
    if !masked.is_empty() {
        let hint = format!("systemctl unmask {}", masked.join(" "));
        return [Line::warning(TOPIC, format!("masked: {}", few(masked)), hint)];
    }
    let Some(units) = units.seen() else { return [Line::ok(TOPIC, "all are installed")] };
    // A container may be called wharf-something as well, and has a line of its own.
    let is_static = |name: &str| STATIC_UNITS.contains(&name) || name.starts_with("wharf-network@");
    let failed: Vec<String> = units
        .iter()
        .filter(|(name, state)| is_static(name) && *state == "failed")
        .map(|(name, _)| name.clone())
        .collect();
    if !failed.is_empty() {
        let names = failed.join(" ");
        let hint = format!(
            "systemctl status {names}; then: systemctl reset-failed {names}; systemctl start {names}"
        );
        return [Line::warning(TOPIC, format!("failed: {}", few(&failed)), hint)];
    }
    // Containers with a network want them, so before the first there are none.
    let active = |name: &&&str| units.get(**name).is_some_and(|state| state == "active");
    let some = firewall.seen().is_some_and(|firewall| firewall.connected > 0);
    let silent: Vec<String> =
        LISTENERS.iter().filter(|name| !active(name)).map(|name| (*name).to_owned()).collect();
    [if some && !silent.is_empty() {
        Line::warning(
            TOPIC,
            format!(
                "containers run, and nobody hears of a flushed firewall or new name servers: {} does not run",
                few(&silent)
            ),
            format!("systemctl start {}", silent.join(" ")),
        )
    } else {
        Line::ok(TOPIC, "all are installed")
    }]
}

pub(super) fn machined(systemd: &Systemd, units: &Look<BTreeMap<String, String>>) -> Option<Line> {
    const TOPIC: &str = "machined";
    if !systemd.is_process_1 {
        return None;
    }
    if !systemd.machined {
        return Some(Line::ok(TOPIC, "not installed, and not needed; with it, machinectl lists containers"));
    }
    let state = units.seen()?.get("systemd-machined.service").map(String::as_str);
    Some(match state {
        Some("failed") => Line::warning(
            TOPIC,
            "it has failed: machinectl doesn't know containers",
            "systemctl status systemd-machined; then: systemctl restart systemd-machined",
        ),
        // It is started when somebody asks.
        _ => Line::ok(TOPIC, "installed"),
    })
}

pub(super) fn journal(journal: &Journal) -> [Line; 1] {
    const TOPIC: &str = "journal";
    [match *journal {
        Journal { listens: false, .. } => Line::warning(
            TOPIC,
            "nobody listens at /run/systemd/journal/socket: what containers say is lost",
            "systemctl status systemd-journald.socket systemd-journald; then: systemctl restart systemd-journald",
        ),
        Journal { persistent: false, .. } => Line::note(
            TOPIC,
            "it is in memory, and gone with the next reboot",
            "mkdir -p /var/log/journal && systemctl restart systemd-journald, and see Storage= in journald.conf(5)",
        ),
        Journal { .. } => Line::ok(TOPIC, "kept in /var/log/journal"),
    }]
}
