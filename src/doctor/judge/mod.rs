//! What each fact means for containers, and the way out. Pure.

mod host;
mod network;
mod own;
mod settings;
mod systemd;
#[cfg(test)]
mod tests;

use super::facts::{Facts, Look};
use super::{Line, State};

/// The oldest kernel and systemd that Wharf is written for, as README says.
const KERNEL: (u32, u32) = (6, 1);
const SYSTEMD: u32 = 249;

/// Every line about a host, in the order in which things depend on each other.
pub fn judge(facts: &Facts) -> Vec<Line> {
    let Facts {
        kernel,
        trial,
        cgroups,
        confinement,
        systemd,
        settings,
        installed,
        units,
        resolver,
        journal,
        firewall,
        forwarding,
        pools,
        ids,
        clock,
        disks,
        memory,
        files,
        containers,
        marks,
        store,
        missing_images,
    } = facts;
    let mut lines = Vec::new();
    about(&mut lines, "kernel", kernel, host::kernel);
    about(&mut lines, "namespaces", kernel, host::namespaces);
    about(&mut lines, "seccomp", kernel, host::seccomp);
    about(&mut lines, "overlayfs", kernel, |kernel| host::overlayfs(kernel, trial));
    about(&mut lines, "idmapped mounts", trial, host::mapping);
    about(&mut lines, "cgroups", cgroups, host::cgroups);
    about(&mut lines, "confinement", confinement, host::confinement);
    about(&mut lines, "systemd", systemd, systemd::version);
    about(&mut lines, "settings", settings, settings::settings);
    about(&mut lines, "generator", installed, systemd::generator);
    about(&mut lines, "static units", installed, |installed| systemd::units(installed, units, firewall));
    about(&mut lines, "machined", systemd, |systemd| systemd::machined(systemd, units));
    about(&mut lines, "journal", journal, systemd::journal);
    about(&mut lines, "name servers", resolver, |resolver| network::resolver(resolver, units));
    about(&mut lines, "firewall", firewall, network::firewall);
    about(&mut lines, "forwarding", forwarding, network::forwarding);
    about(&mut lines, "addresses", pools, network::pools);
    about(&mut lines, "user ids", ids, own::ids);
    about(&mut lines, "clock", clock, host::clock);
    for disk in disks {
        about(&mut lines, "disk", disk, host::disk);
    }
    about(&mut lines, "memory", memory, host::memory);
    about(&mut lines, "files", files, own::files);
    about(&mut lines, "containers", containers, own::containers);
    about(&mut lines, "changes", marks, |marks| own::marks(marks));
    about(&mut lines, "images", store, |store| own::store(store, missing_images));
    lines
}

/// The worst of all.
pub fn worst(lines: &[Line]) -> State {
    lines.iter().map(|line| line.state).max().unwrap_or(State::Ok)
}

/// Judges what was seen, and says why nothing was.
fn about<T, L: IntoIterator<Item = Line>>(
    lines: &mut Vec<Line>,
    topic: &'static str,
    look: &Look<T>,
    judge: impl FnOnce(&T) -> L,
) {
    match look {
        Look::Seen(found) => lines.extend(judge(found)),
        other => lines.extend(unseen(topic, other)),
    }
}

/// That something couldn't be looked at; nothing where nobody wanted to.
fn unseen<T>(topic: &'static str, look: &Look<T>) -> Option<Line> {
    match look {
        Look::Seen(_) | Look::Unasked => None,
        Look::OnlyRoot => {
            Some(Line::note(topic, "not looked at: only root can", "run it as root: sudo wharf doctor"))
        }
        Look::Failed(why) => {
            let hint = "what is named there is in the way of this look, and maybe of more";
            Some(Line::warning(topic, format!("can't be looked at: {why}"), hint))
        }
        Look::Late(limit) => Some(Line::warning(
            topic,
            format!("no answer within {} s", limit.as_secs()),
            "something that it takes hangs: a disk or a server of files (dmesg), or the bus (systemctl status dbus)",
        )),
    }
}
