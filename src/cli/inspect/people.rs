//! The answer for people: short sections of aligned lines.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::running::{Linked, Network};
use super::{AskedFor, Confined, Ids, Image, Shown, Started, Unit};
use crate::cli::ps::table::{age, bytes};

/// A heading and its lines: a word and what stands behind it.
type Section = (String, Vec<(String, String)>);

/// All sections that have something to say.
pub(super) fn render(shown: &Shown, now: Timestamp, colour: bool) -> String {
    let mut text = String::new();
    let mut sections = vec![head(shown, now)];
    sections.extend(shown.asked.as_ref().map(written));
    sections.push(("Image and ids".to_owned(), image(shown)));
    sections.push(("Mounts".to_owned(), mounts(shown)));
    sections.extend(shown.network.as_ref().map(|network| ("Network".to_owned(), self::network(network))));
    sections.extend(shown.unit.as_ref().map(|unit| ("In force".to_owned(), in_force(shown, unit))));
    for (title, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        let gap = if text.is_empty() { "" } else { "\n" };
        let title = if colour { format!("\x1b[1m{title}\x1b[0m") } else { title };
        let _ = writeln!(text, "{gap}{title}");
        let width = lines.iter().map(|(word, _)| word.chars().count()).max().unwrap_or(0);
        for (word, value) in lines {
            let line = format!("  {word:width$}  {value}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    if let Some(asked) = &shown.asked {
        text.push_str(&defaults(asked));
    }
    text
}

fn head(shown: &Shown, now: Timestamp) -> Section {
    let Shown { name, unit_name, asked, started, image, unit, .. } = shown;
    let mut lines = Vec::new();
    let mut line = |word: &str, value: String| lines.push((word.to_owned(), value));
    if let Some(unit) = unit {
        line("State", state(unit, now));
        if let Some(next) = unit.next {
            let time = next.strftime("%Y-%m-%d %H:%M:%S UTC");
            line("Next", format!("in {}, at {time}", age(next.as_second() - now.as_second())));
        }
        if let Some(said) = &unit.status_text {
            line("Status", said.clone());
        }
    }
    match asked {
        None => line("File", "gone: it runs by what it was started with".to_owned()),
        Some(AskedFor { source, drop_ins, findings, reload_due, .. }) => {
            line("File", source.display().to_string());
            for drop_in in drop_ins {
                line("Drop-in", drop_in.display().to_string());
            }
            for finding in findings {
                line("Problem", finding.clone());
            }
            if *reload_due == Some(true) {
                line("Due", "systemctl daemon-reload, as systemd has not read these files".to_owned());
            }
        }
    }
    if let Some(Started { changed: Some(changed), .. }) = started
        && !changed.is_empty()
        && unit.is_some()
    {
        let keys = changed.join(", ");
        line("Due", format!("systemctl restart {}, as {keys} changed since it started", stem(unit_name)));
    }
    if let Some(Image { digest: Some(digest), running: Some(running), .. }) = image
        && digest != running
    {
        let what = "as its reference names another image now";
        line("Due", format!("systemctl restart {}, {what}", stem(unit_name)));
    }
    (name.to_string(), lines)
}

fn stem(unit: &str) -> &str {
    unit.strip_suffix(".service").unwrap_or(unit)
}

fn state(unit: &Unit, now: Timestamp) -> String {
    // As systemctl writes it; where both are one word it says nothing new.
    let mut text = unit.state.clone();
    if unit.sub_state != unit.state {
        let _ = write!(text, " ({})", unit.sub_state);
    }
    if let Some(since) = unit.since {
        let _ = write!(text, " for {}", age(now.as_second() - since.as_second()));
    }
    if let Some(result) = &unit.result {
        let _ = write!(text, ", result {result}");
    }
    if let Some(exit) = unit.exit.as_ref().filter(|_| unit.pid.is_none()) {
        let _ = write!(text, ", {} with {}", exit.code, exit.status);
    }
    text
}

/// What the files say: the place, and the key with its value, as TOML has it.
fn written(asked: &AskedFor) -> Section {
    let written = asked.keys.iter().filter(|key| key.file.is_some());
    let lines = written
        .map(|key| {
            let file = key.file.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
            let place = key.line.map_or_else(|| file.to_string(), |line| format!("{file}:{line}"));
            let text = match key.hidden {
                true => format!("{}, not shown without --show-environment", key.key),
                false => format!("{} = {}", key.key, toml(&key.value)),
            };
            (place, text)
        })
        .collect();
    ("Asked".to_owned(), lines)
}

/// A value in one line.
fn toml(value: &Json) -> String {
    match value {
        Json::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// What holds without being written, in as few lines as it takes.
fn defaults(asked: &AskedFor) -> String {
    const WIDTH: usize = 100;
    let default = |key: &&super::Asked| key.file.is_none();
    let words = asked.keys.iter().filter(default).filter_map(|key| match &key.without {
        None => Some(format!("{} = {}", key.key, toml(&key.value))),
        // That there is no limit needs no word, and the other way to say it needs none either.
        Some(words) if words.starts_with("no ") || words.contains('`') => None,
        Some(words) => Some(format!("{}: {words}", key.key)),
    });
    let mut text = String::new();
    let mut line = String::new();
    for word in words {
        if !line.is_empty() && line.chars().count() + 2 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "  {line};");
            line.clear();
        }
        let gap = if line.is_empty() { "" } else { "; " };
        let _ = write!(line, "{gap}{word}");
    }
    if line.is_empty() { text } else { format!("\nBy default\n{text}  {line}\n") }
}

fn image(shown: &Shown) -> Vec<(String, String)> {
    let Shown { image, rootfs, ids, .. } = shown;
    let mut lines = Vec::new();
    let mut line = |word: &str, value: String| lines.push((word.to_owned(), value));
    if let Some(Image { reference, digest, running, problem }) = image {
        line("image", reference.clone());
        if let Some(digest) = digest {
            line("in the store", digest.clone());
        }
        if let Some(running) = running {
            line("running", running.clone());
        }
        if let Some(problem) = problem {
            line("problem", problem.clone());
        }
    }
    if let Some(folder) = rootfs {
        line("rootfs", folder.display().to_string());
    }
    if let Some(Ids { first, count }) = ids {
        line("ids", format!("{first} to {}", first + (count - 1)));
    }
    lines
}

fn mounts(shown: &Shown) -> Vec<(String, String)> {
    let line = |mount: &super::Mount| {
        let path = mount.path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default();
        let read_only = if mount.read_only { ", read-only" } else { "" };
        (mount.target.clone(), format!("{}{path}{read_only}", mount.kind))
    };
    shown.mounts.iter().map(line).collect()
}

fn network(network: &Network) -> Vec<(String, String)> {
    let Network { interface, addresses, gateway, links, ports } = network;
    let list =
        |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut lines = vec![
        ("addresses".to_owned(), list(addresses)),
        ("gateway".to_owned(), format!("{} at {interface}", list(gateway))),
    ];
    for Linked { to, names, addresses } in links {
        let names = names.join(", ");
        let called = if names == *to { String::new() } else { format!(", called {names}") };
        lines.push(("link".to_owned(), format!("{to} at {}{called}", list(addresses))));
    }
    lines.extend(ports.iter().map(|port| ("published".to_owned(), port.clone())));
    lines
}

fn in_force(shown: &Shown, unit: &Unit) -> Vec<(String, String)> {
    let Unit {
        file,
        drop_ins,
        restarts,
        pid,
        control_group,
        memory,
        memory_peak,
        tasks,
        cpu_time,
        limits,
        cpus,
        ..
    } = unit;
    let mut lines = Vec::new();
    let mut line = |word: &str, value: Option<String>| {
        lines.extend(value.map(|value| (word.to_owned(), value)));
    };
    line("unit", file.clone());
    drop_ins.iter().for_each(|drop_in| line("its drop-in", Some(drop_in.clone())));
    line("main process", pid.map(|pid| pid.to_string()));
    line("restarts", Some(restarts.to_string()).filter(|_| *restarts > 0));
    line("cgroup", control_group.clone());
    let peak = memory_peak.map(|peak| format!(", at most {}", bytes(peak))).unwrap_or_default();
    line("memory", memory.map(|memory| format!("{}{peak}", bytes(memory))));
    line("tasks", tasks.map(|tasks| tasks.to_string()));
    line("CPU time", cpu_time.map(|time| format!("{}.{:03} s", time / 1_000_000, time / 1000 % 1000)));
    for (name, value) in limits {
        let Some(number) = value.as_u64() else { continue };
        match name.as_str() {
            // Its D-Bus name is in microseconds of each second; in files it is per cent, as here.
            "CPUQuotaPerSecUSec" => line("CPUQuota", Some(format!("{}%", number / 10_000))),
            name if name.starts_with("Memory") => line(name, Some(bytes(number))),
            name => line(name, Some(number.to_string())),
        }
    }
    let list: Vec<String> = cpus.iter().map(u32::to_string).collect();
    line("AllowedCPUs", Some(list.join(" ")).filter(|list| !list.is_empty()));
    if let Some(Confined { profile, mode, note }) = &shown.apparmor {
        let name = profile.as_deref().unwrap_or("unconfined");
        let mode = mode.as_ref().map(|mode| format!(", mode {mode}")).unwrap_or_default();
        let note = note.map(|note| format!(", as {note}")).unwrap_or_default();
        line("AppArmor", Some(format!("{name}{mode}{note}")));
    }
    if let Some(namespaces) = &shown.namespaces {
        let of = |own: bool| {
            let kinds: Vec<&str> = namespaces
                .iter()
                .filter(|namespace| namespace.own == own)
                .map(|namespace| namespace.kind.as_str())
                .collect();
            Some(kinds.join(", ")).filter(|kinds| !kinds.is_empty())
        };
        line("own namespaces", of(true));
        line("the host's", of(false));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_in_lines() {
        let address = |text: &str| text.parse().expect("an address");
        let in_force = Network {
            interface: "wharf-0002".to_owned(),
            addresses: vec![address("10.131.0.2"), address("fd00::2")],
            gateway: vec![address("10.131.0.1")],
            links: vec![Linked {
                to: "db".to_owned(),
                names: vec!["db".to_owned(), "database".to_owned()],
                addresses: vec![address("10.131.0.3")],
            }],
            ports: vec!["8080:80/tcp".to_owned()],
        };
        let lines: Vec<String> =
            network(&in_force).iter().map(|(word, value)| format!("{word} = {value}")).collect();
        assert_eq!(
            lines,
            [
                "addresses = 10.131.0.2, fd00::2",
                "gateway = 10.131.0.1 at wharf-0002",
                "link = db at 10.131.0.3, called db, database",
                "published = 8080:80/tcp",
            ]
        );
    }
}
