//! `[systemd.*]`: settings that pass through, and those that can't.

use super::{Kind, Rules, SystemdSections};
use crate::report::Place;
use crate::spec::{Data, Value};

/// Settings that would break what Wharf does, each with what to write instead and so why; a `*` at the end or
/// at the start stands for the rest. The first that matches is told.
const REFUSED: &[(&str, &str)] = &[
    // Whom systemd watches and when the container counts as started.
    ("Type", "Wharf tells systemd itself when the container runs; what is to end has `type` = \"job\""),
    ("ExecStart", "what runs inside is `command`; ExecStartPre= and ExecStartPost= are allowed"),
    ("ExecStop", "how it is stopped is [stop]"),
    (
        "ExecStopPost",
        "Wharf explains and tidies up there; OnSuccess= and OnFailure= of [systemd.Unit] start other units",
    ),
    ("NotifyAccess", "Wharf hands the container over to systemd through it"),
    ("PIDFile", "systemd knows the container's first process already"),
    ("GuessMainPID", "systemd knows the container's first process already"),
    ("BusName", "the container has no bus of the host"),
    ("RemainAfterExit", "the service lives as long as the container's first process"),
    ("RootDirectoryStartOnly", "the root is `image` or `rootfs`"),
    ("Sockets", "its sockets are [socket]"),
    // How it ends.
    ("KillMode", "Wharf needs `mixed`: the container's first process ends the others"),
    ("KillSignal", "write `signal` under [stop]"),
    ("SendSIGKILL", "a stop must have an end; write `timeout` under [stop]"),
    ("TimeoutStopSec", "write `timeout` under [stop]"),
    ("TimeoutSec", "write `timeout` under [stop], and TimeoutStartSec= here"),
    // Its cgroup.
    ("Delegate*", "Wharf keeps the container in a cgroup of its own below the unit's"),
    // Who runs it: these would take from the executor the rights that it sets the container up with.
    ("User", "write `user`: this would run Wharf's executor as that user, not the program"),
    ("Group", "write `group`: this would run Wharf's executor in that group, not the program"),
    ("DynamicUser", "write `user`; a user namespace gives the container ids of its own"),
    ("SupplementaryGroups", "groups inside are the image's own"),
    ("PAMName", "the container has no login"),
    ("CapabilityBoundingSet", "the container has few capabilities anyway; the executor needs its own"),
    ("AmbientCapabilities", "the container has few capabilities anyway; the executor needs its own"),
    ("SecureBits", "the executor needs its capabilities to set the container up"),
    ("NoNewPrivileges", "it holds inside anyway"),
    ("SELinuxContext", "it would confine the executor, not the program"),
    ("AppArmorProfile", "it would confine the executor, not the program"),
    ("SmackProcessLabel", "it would confine the executor, not the program"),
    // What it sees: namespaces and mounts are made by the executor, which needs the host's view for it.
    ("Root*", "the root is `image` or `rootfs`"),
    ("WorkingDirectory", "write `working-directory`"),
    ("Environment", "write [environment]: any user of the host can read a unit"),
    ("EnvironmentFile", "write `environment-files`"),
    ("PassEnvironment", "write [environment]"),
    ("UnsetEnvironment", "write [environment]"),
    ("PrivateNetwork", "write `network`"),
    ("NetworkNamespacePath", "write `network`"),
    ("PrivateUsers", "write `user-namespace`"),
    ("Private*", "the container has namespaces of its own anyway"),
    ("Protect*", "the container sees nothing of the host but its [mounts] anyway"),
    ("BindPaths", "write [mounts]"),
    ("BindReadOnlyPaths", "write [mounts] with read-only = true"),
    ("TemporaryFileSystem", "write [mounts] with `tmpfs`"),
    ("*Paths", "the container sees nothing of the host but its [mounts] anyway"),
    ("Mount*", "the container has namespaces of its own anyway"),
    ("IPCNamespacePath", "the container has namespaces of its own anyway"),
    ("ExtensionImages", "the root is `image` or `rootfs`"),
    ("ExtensionDirectories", "the root is `image` or `rootfs`"),
    // What it is told: by these it would not see anything.
    ("LoadCredentialEncrypted", "write `encrypted-credentials`"),
    ("LoadCredential", "write `credentials`"),
    ("ImportCredential", "write each in `credentials`"),
    (
        "SetCredential*",
        "write `credentials`, and the secret into /etc/credstore: any user of the host can read a unit",
    ),
    // What it may call: the executor mounts, clones and loads the container's own list.
    ("SystemCall*", "the container has a list of its own; this one would stop the executor"),
    ("Restrict*", "the container has a list of its own; this one would stop the executor"),
    ("MemoryDenyWriteExecute", "it would stop the executor and many programs"),
    ("LockPersonality", "the container has a list of its own; this one would stop the executor"),
    ("Personality", "it would hold for the executor too"),
    ("IgnoreSIGPIPE", "programs inside expect SIGPIPE to be as usual"),
];

/// The same for `[systemd.Unit]`.
const REFUSED_UNIT: &[(&str, &str)] = &[
    ("Description", "write `description`"),
    ("SourcePath", "it names the file, so that systemd notices edits"),
    ("JoinsNamespaceOf", "the container has namespaces of its own"),
];

/// The same for the `[systemd.Service]` of an image.
const REFUSED_IMAGE: &[(&str, &str)] = &[
    ("Type", "the image is there when the command has ended, which is `oneshot`"),
    ("ExecStart", "where the image comes from is `from`; ExecStartPre= and ExecStartPost= are allowed"),
    ("NotifyAccess", "Wharf tells systemd how far it is"),
    ("RemainAfterExit", "each start of a container asks anew whether the image is there"),
    ("BusName", "it has none"),
    ("PIDFile", "systemd knows the process already"),
    ("User", "only root can write to the store"),
    ("Group", "only root can write to the store"),
    ("DynamicUser", "only root can write to the store"),
    ("Root*", "the store is the host's"),
];

/// What a container's `[systemd.Unit]` and `[systemd.Service]` refuse, with what to write instead or why.
pub fn refused() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    REFUSED_UNIT.iter().chain(REFUSED)
}

/// Both sections.
pub fn sections(rules: &mut Rules<'_>) -> SystemdSections {
    SystemdSections {
        unit: section(rules, "Unit", REFUSED_UNIT, "a container"),
        service: section(rules, "Service", REFUSED, "a container"),
    }
}

/// What a job's unit can't have: systemd takes no unit of a oneshot that it would always restart, and one setting
/// would silently stand for the other.
pub fn of_a_job(rules: &mut Rules<'_>, kind: Kind) {
    if kind != Kind::Job {
        return;
    }
    let runtime = rules.get("runtime").is_some();
    for (name, refused, instead) in [
        ("Restart", true, "write `restart`: \"on-failure\", or nothing"),
        (
            "RuntimeMaxSec",
            true,
            "write `runtime`: a job runs while it starts, and systemd times only what has started",
        ),
        ("TimeoutStartSec", runtime, "leave it out: a job runs while it starts, and `runtime` is that time"),
    ] {
        if let Some(entry) = rules.get(&format!("systemd.Service.{name}")).filter(|_| refused) {
            let with = if name == "TimeoutStartSec" { " with a `runtime`" } else { "" };
            rules.error(&entry.key, format!("{name}= can't be set for a job{with}"), instead);
        }
    }
}

/// Both sections of an image.
pub fn sections_of_image<N>(rules: &mut Rules<'_, N>) -> SystemdSections {
    SystemdSections {
        unit: section(rules, "Unit", &REFUSED_UNIT[..2], "an image"),
        service: section(rules, "Service", REFUSED_IMAGE, "an image"),
    }
}

fn section<N>(
    rules: &mut Rules<'_, N>,
    section: &str,
    refused: &[(&str, &str)],
    of: &str,
) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    for (name, entry) in rules.table(&format!("systemd.{section}")).into_iter().flatten() {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) || !name.chars().all(good) {
            rules.error(
                &entry.key,
                format!("`{name}` can't be a setting of systemd"),
                "settings are written like OnFailure, case included",
            );
            continue;
        }
        if let Some((_, instead)) = refused.iter().find(|(pattern, _)| matches(pattern, name)) {
            rules.error(&entry.key, format!("{name}= can't be set for {of}"), *instead);
            continue;
        }
        let values = match &entry.value.data {
            Data::List(values) => values.iter().collect(),
            _ => vec![&entry.value],
        };
        for value in values {
            if let Some(text) = setting(rules, name, value) {
                settings.push((name.clone(), text));
            }
        }
    }
    settings
}

/// Whether a setting would break what Wharf does, or what a container's file says, where a drop-in has it. What it is
/// told beside that does no harm.
pub fn is_in_the_way(name: &str) -> bool {
    const HARMLESS: [&str; 7] = [
        "Environment*",
        "PassEnvironment",
        "UnsetEnvironment",
        "LoadCredential*",
        "ImportCredential",
        "SetCredential*",
        "SupplementaryGroups",
    ];
    REFUSED.iter().any(|(pattern, _)| matches(pattern, name))
        && !HARMLESS.iter().any(|pattern| matches(pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(start), _) => name.starts_with(start),
        (_, Some(end)) => name.ends_with(end),
        (None, None) => pattern == name,
    }
}

fn setting<N>(rules: &mut Rules<'_, N>, name: &str, value: &Value) -> Option<String> {
    let text = match &value.data {
        Data::Text(text) => text.trim().to_owned(),
        Data::Integer(number) => number.to_string(),
        Data::Flag(true) => "yes".to_owned(),
        Data::Flag(false) => "no".to_owned(),
        _ => return None,
    };
    let place: &Place = &value.place;
    if text.chars().any(|c| c.is_control() && c != '\t') {
        rules.error(place, format!("{name}= must be one line"), "a list is the setting several times");
        return None;
    }
    if text.ends_with('\\') {
        rules.error(
            place,
            format!("{name}= ends with a backslash, which joins it with the next line"),
            "take the backslash out",
        );
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let refused =
            |name: &str| REFUSED.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, why)| *why);
        for name in
            ["Type", "ProtectSystem", "ReadWritePaths", "DelegateSubgroup", "RootImage", "SystemCallFilter"]
        {
            assert!(refused(name).is_some(), "{name}");
        }
        assert_eq!(refused("PrivateUsers"), Some("write `user-namespace`"));
        for name in
            ["Nice", "RestartSec", "OOMScoreAdjust", "ExecStartPre", "MemoryMax", "LimitCORE", "Slice"]
        {
            assert_eq!(refused(name), None);
        }
        let all = ["ProtectHome", "User", "TimeoutStopSec", "Environment", "LoadCredentialEncrypted", "Nice"];
        assert_eq!(all.map(is_in_the_way), [true, true, true, false, false, false]);
    }
}
