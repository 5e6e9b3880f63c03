//! Settings of systemd's that hold for containers as well.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::check::is_in_the_way;
use crate::doctor::facts::{Setting, Settings};
use crate::doctor::{Line, few};
use crate::spec::duration;

const TOPIC: &str = "settings";

/// A start mounts a root, and may wait for a first check.
const START: Duration = Duration::from_secs(10);
/// Threads of one program of Java's or Go's on a large host.
const TASKS: u64 = 256;
/// What programs count on, and systemd's own soft limit.
const FILES: u64 = 1024;

pub(super) fn settings(settings: &Settings) -> Vec<Line> {
    let Settings { manager, services } = settings;
    // The last one to speak of it has it.
    let last: BTreeMap<&str, &Setting> =
        manager.iter().map(|setting| (setting.key.as_str(), setting)).collect();
    let mut lines: Vec<Line> = last.values().filter_map(|setting| default(setting)).collect();
    let mut files: BTreeMap<(&str, Option<&str>), Vec<String>> = BTreeMap::new();
    for Setting { file, unit, key, value } in services {
        let is_off = ["", "no", "false", "off", "0"].contains(&value.as_str());
        if !is_off && is_in_the_way(key) {
            files.entry((file, unit.as_deref())).or_default().push(format!("{key}="));
        }
    }
    for ((file, unit), keys) in files {
        let of = unit.unwrap_or("every service");
        let keys = few(&keys);
        lines.push(Line::warning(
            TOPIC,
            format!("{file} sets {keys} for {of}: it holds for what starts the container, and may keep it from that"),
            "take it out there, or put it into drop-ins of the services that it is meant for; what a container's program may do is said by its own file: wharf-container(5)",
        ));
    }
    if lines.is_empty() {
        lines.push(Line::ok(TOPIC, "no default of systemd's, and no drop-in for services, is in the way"));
    }
    lines
}

/// What containers' units leave to the manager (systemd-system.conf(5)): how long a stop takes, what is counted and how
/// often a start may fail they say themselves.
fn default(setting: &Setting) -> Option<Line> {
    let Setting { file, unit: _, key, value } = setting;
    let number = |text: &str| text.parse::<u64>().ok();
    let (is_bad, means, instead) = match key.as_str() {
        "DefaultTimeoutStartSec" => (
            duration(value).is_ok_and(|time| !time.is_zero() && time < START),
            "a container that isn't ready by then is stopped again",
            "write systemd.Service.TimeoutStartSec in container files",
        ),
        "DefaultTasksMax" => (
            number(value).is_some_and(|tasks| tasks < TASKS),
            "a container whose file says nothing of tasks has no more processes and threads",
            "write [limits] tasks in container files",
        ),
        "DefaultLimitNOFILE" => (
            number(value.rsplit(':').next().unwrap_or(value)).is_some_and(|files| files < FILES),
            "a container whose file says nothing of open files has no more of them",
            "write [limits] open-files in container files",
        ),
        "CapabilityBoundingSet" => (
            !value.is_empty(),
            "systemd itself lacks capabilities then, and a start needs those of root",
            "confine single services by drop-ins; it takes a reboot",
        ),
        _ => return None,
    };
    let message = format!("{file} says {key}={value}: {means}");
    is_bad.then(|| Line::warning(TOPIC, message, format!("change it there, or {instead}")))
}
