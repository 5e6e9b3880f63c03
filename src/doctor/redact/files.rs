//! Files whose keys are known.

use std::fmt::Write as _;

use base64::Engine;

use super::looks::{hide_looks, is_secret_name};
use super::{LEFT_OUT, Secrets};
use crate::report::Source;
use crate::spec::keys::{Kind, Vocabulary};
use crate::spec::{Data, Document, Entries, Value};

/// What is kept of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// All of it, but for what looks like a secret.
    Value,
    /// The program, and the names of options.
    Command,
    /// Nothing.
    Nothing,
}

/// A file of Wharf's: every key with its line, and values that aren't secret. Comments go. Of what can't be read as
/// TOML there is no telling what is a key, so nothing is shown.
pub fn toml(vocabulary: &Vocabulary, source: &std::sync::Arc<Source>) -> String {
    let (document, mistakes) = Document::parse(source);
    if !mistakes.is_empty() {
        let lines = source.text.lines().count();
        return format!("# not TOML, and so left out: {lines} lines, {} mistakes\n", mistakes.len());
    }
    let mut text = String::new();
    each(vocabulary, &document.entries, &mut Vec::new(), &mut |path, keep, value, place| {
        let line = place.span.as_ref().map_or(0, |span| source.position(span.start).0);
        let _ = writeln!(text, "{} = {}  # line {line}", dotted(path), shown(keep, value));
    });
    text
}

/// Learns what [`toml()`] leaves out.
pub fn learn_toml(vocabulary: &Vocabulary, source: &std::sync::Arc<Source>, secrets: &mut Secrets) {
    // As far as it can be read: what is behind a mistake of syntax may be found in a message all the same.
    let (document, _) = Document::parse(source);
    each(vocabulary, &document.entries, &mut Vec::new(), &mut |_, keep, value, _| match keep {
        Keep::Value => {}
        Keep::Command => {
            let words: Vec<&str> = match &value.data {
                Data::List(values) => values.iter().filter_map(Value::text).collect(),
                _ => value.text().into_iter().flat_map(str::split_whitespace).collect(),
            };
            learn_command(&words, secrets);
        }
        Keep::Nothing => learn_all(value, secrets),
    });
}

fn learn_all(value: &Value, secrets: &mut Secrets) {
    match &value.data {
        Data::Text(text) => secrets.learn(text),
        Data::Integer(number) => secrets.learn(&number.to_string()),
        Data::Float(number) => secrets.learn(number),
        Data::List(values) => values.iter().for_each(|value| learn_all(value, secrets)),
        Data::Table(entries) => entries.values().for_each(|entry| learn_all(&entry.value, secrets)),
        Data::Flag(_) | Data::Other(_) => {}
    }
}

/// Learns what of a command looks like no plain word: what options of secrets are given, logins, what has digits in it.
pub fn learn_command(words: &[&str], secrets: &mut Secrets) {
    let mut secret_follows = false;
    for word in words.iter().skip(1) {
        let (name, value) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
        if secret_follows && !word.starts_with('-') || looks_random(word) || word.contains('@') {
            secrets.learn(word);
        }
        // USER:PASSWORD, as curl has it.
        word.split(':').skip(1).filter(|part| looks_random(part)).for_each(|part| secrets.learn(part));
        match value {
            Some(value) if is_secret_name(name) => secrets.learn(value),
            _ => {}
        }
        // -psecret, as MySQL's programs have it.
        if let Some(attached) =
            word.strip_prefix("-p").filter(|rest| rest.len() >= 4 && !rest.starts_with('-'))
        {
            secrets.learn(attached);
        }
        secret_follows = value.is_none() && word.starts_with('-') && is_secret_name(name);
    }
}

/// Letters with digits among them, and no option or path.
fn looks_random(word: &str) -> bool {
    word.len() >= 6
        && word.contains(|c: char| c.is_ascii_digit())
        && word.contains(char::is_alphabetic)
        && !word.starts_with(['-', '/'])
}

/// Every value that isn't a table, with its path and what may be kept of it.
fn each(
    vocabulary: &Vocabulary,
    entries: &Entries,
    path: &mut Vec<String>,
    tell: &mut impl FnMut(&[String], Keep, &Value, &crate::report::Place),
) {
    for (key, entry) in entries {
        path.push(key.clone());
        match &entry.value.data {
            Data::Table(inner) => each(vocabulary, inner, path, tell),
            _ => tell(path, keep(vocabulary, path), &entry.value, &entry.key),
        }
        path.pop();
    }
}

fn keep(vocabulary: &Vocabulary, path: &[String]) -> Keep {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["environment", ..] => return Keep::Nothing,
        ["systemd", _, setting] if is_plain_setting(setting) => return Keep::Value,
        ["systemd", _, setting] if setting.starts_with("Exec") => return Keep::Command,
        ["systemd", ..] => return Keep::Nothing,
        _ => {}
    }
    let known = |words: &[&str]| vocabulary.find(&words.join(".")).map(|key| key.kind);
    // `*` stands for what the administrator chose, in any place but the first.
    let wild = |at: usize| {
        let mut words = words.clone();
        words[at] = "*";
        known(&words)
    };
    let kind = known(&words).or_else(|| (1..words.len()).find_map(wild));
    let (_, above) = words.split_last().unwrap_or((&"", &[]));
    match kind {
        Some(Kind::Command | Kind::CommandOrShell) => Keep::Command,
        Some(_) => Keep::Value,
        // Names for references.
        None if matches!(known(above), Some(Kind::Map)) && above == ["aliases"] => Keep::Value,
        // A mount in short.
        None if matches!(known(above), Some(Kind::Tables)) => Keep::Value,
        None => Keep::Nothing,
    }
}

fn shown(keep: Keep, value: &Value) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match (keep, &value.data) {
        (Keep::Nothing, _) => quoted(LEFT_OUT),
        (Keep::Command, Data::List(values)) => {
            let words: Vec<&str> = values.iter().map(|value| value.text().unwrap_or(LEFT_OUT)).collect();
            let words: Vec<String> = command(&words).iter().map(|word| quoted(word)).collect();
            format!("[{}]", words.join(", "))
        }
        (Keep::Command, Data::Text(text)) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            quoted(&command(&words).join(" "))
        }
        (Keep::Command, _) => quoted(LEFT_OUT),
        (Keep::Value, Data::Text(text)) => quoted(&hide_looks(text)),
        (Keep::Value, Data::Integer(number)) => number.to_string(),
        (Keep::Value, Data::Float(number)) => number.clone(),
        (Keep::Value, Data::Flag(flag)) => flag.to_string(),
        (Keep::Value, Data::List(values)) => {
            let values: Vec<String> = values.iter().map(|value| shown(keep, value)).collect();
            format!("[{}]", values.join(", "))
        }
        (Keep::Value, Data::Other(kind)) => quoted(kind),
        // Within a list: the keys of such tables are nothing that Wharf knows.
        (Keep::Value, Data::Table(_)) => quoted(LEFT_OUT),
    }
}

fn dotted(path: &[String]) -> String {
    let bare = |key: &str| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let key = |key: &String| {
        if bare(key) { key.clone() } else { serde_json::Value::from(key.as_str()).to_string() }
    };
    path.iter().map(key).collect::<Vec<_>>().join(".")
}

/// A command's program and the names of its options; what they are given, and all other words, are left out.
pub fn command(words: &[&str]) -> Vec<String> {
    let word = |(at, word): (usize, &&str)| match word.split_once('=') {
        _ if at == 0 && is_program(word) => (*word).to_owned(),
        Some((name, _)) if name.starts_with("--") && is_option(name) => format!("{name}={LEFT_OUT}"),
        None if word.starts_with("--") && is_option(word) => (*word).to_owned(),
        _ if word.starts_with('-') && word.len() == 2 && is_option(word) => (*word).to_owned(),
        _ => LEFT_OUT.to_owned(),
    };
    words.iter().enumerate().map(word).collect()
}

/// A path or a plain name. `command` may also be the first argument of the image's entrypoint, which can be anything.
fn is_program(word: &str) -> bool {
    let word = word.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let is_in = |more: &'static [char]| move |c: char| c.is_ascii_alphabetic() || more.contains(&c);
    match word.strip_prefix('/') {
        Some(path) => path.chars().all(|c| c.is_ascii_digit() || is_in(&['/', '-', '_', '.', '+'])(c)),
        None => !word.is_empty() && word.chars().all(is_in(&['-', '_', '.'])),
    }
}

fn is_option(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphabetic() || c == '-')
}

/// Settings of units whose values say how something runs and never what with.
fn is_plain_setting(setting: &str) -> bool {
    const BEGINNINGS: [&str; 31] = [
        "After",
        "Allowed",
        "Before",
        "Binds",
        "CPU",
        "Capability",
        "ConditionPath",
        "Conflicts",
        "DefaultDependencies",
        "Delegate",
        "Device",
        "IO",
        "IPAddress",
        "IgnoreOn",
        "Kill",
        "Limit",
        "Memory",
        "On",
        "OOM",
        "PartOf",
        "Private",
        "Protect",
        "Requires",
        "Restart",
        "Restrict",
        "Socket",
        "StartLimit",
        "Start",
        "Timeout",
        "Wants",
        "Watchdog",
    ];
    const WHOLE: [&str; 35] = [
        "AccuracySec",
        "Accept",
        "AllowIsolate",
        "AmbientCapabilities",
        "DeferReactivation",
        "Documentation",
        "FinalKillSignal",
        "FreeBind",
        "IgnoreSIGPIPE",
        "JobTimeoutSec",
        "ListenDatagram",
        "ListenStream",
        "LockPersonality",
        "Nice",
        "NoNewPrivileges",
        "NonBlocking",
        "NotifyAccess",
        "Persistent",
        "RandomizedDelaySec",
        "ReadOnlyPaths",
        "ReloadSignal",
        "RemoveOnStop",
        "RuntimeMaxSec",
        "Service",
        "Slice",
        "SourcePath",
        "StopWhenUnneeded",
        "SuccessExitStatus",
        "SurviveFinalKillSignal",
        "SyslogIdentifier",
        "SystemCallFilter",
        "TasksMax",
        "Type",
        "UMask",
        "Unit",
    ];
    WHOLE.contains(&setting)
        // Environment= of the unit itself is one that begins like none of these.
        || BEGINNINGS.iter().any(|beginning| setting.starts_with(beginning))
}

/// Programs of Wharf's, whose arguments are names.
const OWN: [&str; 3] =
    ["/usr/libexec/wharf/wharf-executor", "/usr/bin/wharf", "/usr/lib/systemd/systemd-socket-proxyd"];

/// A unit's file: every setting with its key, and values that aren't secret. Comments go.
pub fn unit(text: &str) -> String {
    let mut out = String::new();
    let mut goes_on = false;
    for line in text.lines() {
        let continues = line.ends_with('\\');
        let trimmed = line.trim();
        if goes_on {
            goes_on = continues;
            continue;
        }
        goes_on = continues;
        if trimmed.is_empty() || trimmed.starts_with('[') {
            let _ = writeln!(out, "{trimmed}");
        } else if trimmed.starts_with(['#', ';']) {
            goes_on = false;
        } else if let Some((key, value)) = trimmed.split_once('=') {
            let (key, value) = (key.trim(), value.trim());
            let value = if continues {
                LEFT_OUT.to_owned()
            } else if key == "Description" || key == "LogExtraFields" || is_plain_setting(key) {
                hide_looks(value)
            } else if key.starts_with("Exec") {
                unit_command(value)
            } else {
                LEFT_OUT.to_owned()
            };
            let key: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
            let _ = writeln!(out, "{key}={value}");
        } else {
            let _ = writeln!(out, "{LEFT_OUT}");
        }
    }
    out
}

/// Learns what [`unit()`] leaves out.
pub fn learn_unit(text: &str, secrets: &mut Secrets) {
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '['])) {
        let (key, value) = line.split_once('=').unwrap_or(("", line));
        let value = value.trim_end_matches('\\').trim();
        if key.starts_with("Exec") {
            learn_command(&value.split_whitespace().collect::<Vec<_>>(), secrets);
        } else if key != "Description" && key != "LogExtraFields" && !is_plain_setting(key) {
            secrets.learn(value);
            for word in value.split_whitespace() {
                let word = word.trim_matches(['"', '\'']);
                // Environment= has several, and SetCredential= a name before a colon.
                secrets.learn(word.split_once(['=', ':']).map_or(word, |(_, value)| value));
            }
        }
    }
}

fn unit_command(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let program =
        words.first().copied().unwrap_or_default().trim_start_matches(['-', '@', ':', '+', '!', '|']);
    if OWN.contains(&program) {
        return hide_looks(line);
    }
    command(&words).join(" ")
}

/// The values of a file of `NAME=value` lines are learnt; nothing of it is shown.
pub fn environment_file(text: &str, secrets: &mut Secrets) {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    for value in lines.filter_map(|line| Some(line.split_once('=')?.1)) {
        secrets.learn(value.trim().trim_matches(['"', '\'']));
    }
}

/// The logins of an auth.json are learnt, both forms of them; nothing of it is shown.
pub fn logins(text: &str, secrets: &mut Secrets) {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let entries = value.get("auths").and_then(|auths| auths.as_object()).into_iter().flatten();
    for text in entries.filter_map(|(_, entry)| entry.as_object()).flat_map(|entry| entry.values()) {
        let Some(text) = text.as_str() else { continue };
        secrets.learn(text);
        let decoded = base64::engine::general_purpose::STANDARD.decode(text).ok();
        if let Some(login) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
            secrets.learn(&login);
            secrets.learn(login.split_once(':').map_or("", |(_, password)| password));
        }
    }
}

/// The kernel's command line: the name of each option, and the values of those that matter to containers.
pub fn kernel_line(text: &str) -> String {
    const PLAIN: [&str; 11] = [
        "systemd.unified_cgroup_hierarchy",
        "systemd.legacy_systemd_cgroup_controller",
        "cgroup_enable",
        "cgroup_disable",
        "cgroup_no_v1",
        "apparmor",
        "selinux",
        "enforcing",
        "security",
        "lsm",
        "ipv6.disable",
    ];
    let word = |word: &str| match word.split_once('=') {
        Some((name, _)) if PLAIN.contains(&name) => word.to_owned(),
        Some((name, _)) => format!("{name}={LEFT_OUT}"),
        None => word.to_owned(),
    };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::keys::{CONTAINER, HOST};

    const FILE: &str = r#"# the old password was hunter0
image = "nginx:1.26"
description = "speaks to https://me:hunter1@x.example/y"
command = ["/usr/bin/app", "--listen", "8080", "--password=hunter2", "-phunter3", "hunter4"]
links = ["db:database"]
enviroment.PASSWORD = "hunter5"
[environment]
PASSWORD = "hunter6"
NUMBER = 1234567
[health]
http = "http://localhost/?key=hunter7"
[mounts]
"/data" = { volume = "data", read-only = true }
[systemd.Service]
Environment = ["A=hunter8"]
SetCredential = "x:hunter9"
ExecStartPre = "/usr/bin/curl -H hunter10"
TimeoutStopSec = 20
"#;

    #[test]
    fn keys_stay_and_values_go() {
        let source = Source::new("/etc/wharf/containers/a.toml", FILE);
        let text = toml(&CONTAINER, &source);
        assert!(!text.contains("hunter"), "{text}");
        for line in [
            "image = \"nginx:1.26\"  # line 2",
            "description = \"speaks to https://<left out>@x.example/y\"  # line 3",
            "command = [\"/usr/bin/app\", \"--listen\", \"<left out>\", \"--password=<left out>\", \"<left out>\", \"<left out>\"]  # line 4",
            "links = [\"db:database\"]  # line 5",
            "enviroment.PASSWORD = \"<left out>\"  # line 6",
            "environment.PASSWORD = \"<left out>\"  # line 8",
            "environment.NUMBER = \"<left out>\"  # line 9",
            "health.http = \"http://localhost/?<left out>\"  # line 11",
            "mounts.\"/data\".volume = \"data\"  # line 13",
            "mounts.\"/data\".read-only = true  # line 13",
            "systemd.Service.Environment = \"<left out>\"  # line 15",
            "systemd.Service.SetCredential = \"<left out>\"  # line 16",
            "systemd.Service.ExecStartPre = \"/usr/bin/curl -H <left out>\"  # line 17",
            "systemd.Service.TimeoutStopSec = 20  # line 18",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}: {text}");
        }
        // What comes out can be read, but for the secrets.
        assert_eq!(Document::parse(&Source::new("again", text)).1, []);
        let mut secrets = Secrets::default();
        learn_toml(&CONTAINER, &source, &mut secrets);
        for secret in [
            "hunter2",
            "hunter3",
            "hunter4",
            "hunter5",
            "hunter6",
            "1234567",
            "A=hunter8",
            "x:hunter9",
            "hunter10",
        ] {
            assert_eq!(secrets.hide(&format!("said {secret}.")), "said <left out>.", "{secret}");
        }
    }

    #[test]
    fn what_is_no_toml_is_not_shown() {
        let source = Source::new("a.toml", "image = \"x\"\n[environment]\nPASSWORD = \"hunter2\nB = 1\n");
        let text = toml(&CONTAINER, &source);
        assert!(text.starts_with("# not TOML") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn settings_of_the_host() {
        let source = Source::new(
            "wharf.toml",
            "aliases.nginx = \"docker.io/library/nginx\"\n[registries.\"r.example:5000\"]\nmirrors = [\"m.example/x\"]\nsignatures = \"https://a:hunter2@s.example\"\ntoken = \"hunter3\"\n[trust.rules.\"r.example/x\"]\npolicy = \"signed\"\n",
        );
        let text = toml(&HOST, &source);
        assert!(!text.contains("hunter"), "{text}");
        for kept in [
            "docker.io/library/nginx",
            "m.example/x",
            "https://<left out>@s.example",
            "\"signed\"",
            "token = \"<left out>\"",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
    }

    #[test]
    fn units() {
        let text = "# secret: hunter1\n[Service]\nType=notify\nEnvironment=A=hunter2\nExecStart=/usr/libexec/wharf/wharf-executor start web\nExecStartPre=-/usr/bin/x --token hunter3 \\\n  hunter4\nExecStopPost=+/usr/bin/y -k hunter5\nSetCredential=a:hunter6\nPassword hunter7\nTimeoutStopSec=5s\n";
        assert_eq!(
            unit(text),
            "[Service]\nType=notify\nEnvironment=<left out>\nExecStart=/usr/libexec/wharf/wharf-executor start web\nExecStartPre=<left out>\nExecStopPost=+/usr/bin/y -k <left out>\nSetCredential=<left out>\n<left out>\nTimeoutStopSec=5s\n"
        );
    }

    #[test]
    fn what_units_have_is_learnt() {
        let mut secrets = Secrets::default();
        learn_unit(
            "[Service]\nEnvironment=\"A=hunter1\" B=hunter2\nSetCredential=x:hunter3\nExecStart=/x --token hunter4\nType=notify\n",
            &mut secrets,
        );
        assert_eq!(
            secrets.hide("hunter1 hunter2 hunter3 hunter4 notify"),
            "<left out> <left out> <left out> <left out> notify"
        );
    }

    #[test]
    fn files_of_secrets() {
        let mut secrets = Secrets::default();
        environment_file("# a\nPGPASSWORD='hunter2'\nexport B=hunter3\n", &mut secrets);
        logins(
            r#"{"auths":{"r.example":{"auth":"YXBwOmh1bnRlcjQ="},"s":{"identitytoken":"hunter5"}}}"#,
            &mut secrets,
        );
        assert_eq!(
            secrets.hide("hunter2 hunter3 hunter4 hunter5 YXBwOmh1bnRlcjQ= app"),
            "<left out> <left out> <left out> <left out> <left out> app"
        );
    }

    #[test]
    fn the_kernels_command_line() {
        assert_eq!(
            kernel_line("root=/dev/vda1 ro cgroup_enable=memory systemd.set_credential=x:hunter2 quiet\n"),
            "root=<left out> ro cgroup_enable=memory systemd.set_credential=<left out> quiet"
        );
    }
}
