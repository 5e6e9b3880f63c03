//! Files whose keys are known.

use std::fmt::Write as _;

use base64::Engine;

use super::commands::{command, learn_command};
use super::looks::hide_looks;
use super::units::{FILE_SETTINGS, is_plain_setting, path_in};
use super::{LEFT_OUT, Secrets};
use crate::report::Source;
use crate::spec::keys::{Kind, Vocabulary};
use crate::spec::{Data, Document, Entries, Value, assignments};

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
    let (document, mistakes) = Document::parse(source);
    if !mistakes.is_empty() {
        learn_lines(vocabulary, &source.text, secrets);
    }
    each(vocabulary, &document.entries, &mut Vec::new(), &mut |path, keep, value, _| match keep {
        Keep::Value => {
            path.iter().for_each(|key| secrets.learn_login(key));
            learn_logins(value, secrets);
        }
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

/// The same by lines, of what is no TOML: a value without quotes, for one, is no value, and what is said of it has it.
fn learn_lines(vocabulary: &Vocabulary, text: &str, secrets: &mut Secrets) {
    let keys = |dotted: &str| -> Vec<String> {
        dotted.split('.').map(|key| key.trim().trim_matches(['"', '\'']).to_owned()).collect()
    };
    let mut table = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            table = keys(name);
        } else if let Some((key, value)) = line.split_once('=') {
            let path = [table.clone(), keys(key)].concat();
            if keep(vocabulary, &path) != Keep::Value {
                for value in [value, value.split_once(" #").map_or("", |(value, _)| value)] {
                    secrets.learn(value);
                }
            }
        }
    }
}

fn learn_logins(value: &Value, secrets: &mut Secrets) {
    match &value.data {
        Data::Text(text) => secrets.learn_login(text),
        Data::List(values) => values.iter().for_each(|value| learn_logins(value, secrets)),
        _ => {}
    }
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

/// Keys that somebody chose, a registry's for example, may have a login in them as values may.
fn dotted(path: &[String]) -> String {
    let bare = |key: &str| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let key = |key: &String| {
        if bare(key) { key.clone() } else { serde_json::Value::from(hide_looks(key)).to_string() }
    };
    path.iter().map(key).collect::<Vec<_>>().join(".")
}

/// Files of the host whose contents become part of an environment, or a credential, by what a container file says.
pub fn named_files(source: &std::sync::Arc<Source>) -> Vec<String> {
    let (document, _) = Document::parse(source);
    let at = |path: &[&str]| -> Vec<String> {
        match document.get(path.iter().copied()).map(|entry| &entry.value.data) {
            Some(Data::Text(text)) => vec![text.clone()],
            Some(Data::List(values)) => {
                values.iter().filter_map(|value| value.text().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        }
    };
    // What is in systemd's stores is learnt as a whole.
    let keys = ["environment-files", "credentials", "encrypted-credentials"];
    let mut named = keys.map(|key| at(&[key])).concat();
    for setting in FILE_SETTINGS {
        named.extend(at(&["systemd", "Service", setting]));
    }
    named.iter().filter_map(|value| path_in(value)).collect()
}

/// The values of a file of `NAME=value` lines are learnt; nothing of it is shown.
pub fn environment_file(text: &str, secrets: &mut Secrets) {
    // As a start reads them: what a program has is without quotes, and lines that go on are one.
    let read = assignments(text).or_else(|mistake| {
        let good: String = text.split_inclusive('\n').take(mistake.saturating_sub(1)).collect();
        assignments(&good)
    });
    read.iter().flatten().for_each(|(_, value)| secrets.learn(value));
    // As they stand, for what is no such file.
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    for value in lines.filter_map(|line| Some(line.split_once('=')?.1)) {
        secrets.learn(value.trim().trim_matches(['"', '\'']));
    }
}

/// A file of one secret, or of several in somebody's own way, is learnt, and what of it looks like one; nothing of it is
/// shown.
pub fn credential(text: &str, secrets: &mut Secrets) {
    secrets.learn(text);
    for line in text.lines().map(str::trim) {
        // USER:PASSWORD.
        if let Some((_, password)) = line.split_once(':')
            && !line.contains(|c: char| c.is_whitespace() || "=/".contains(c))
            && !password.contains(':')
        {
            secrets.learn(password);
        }
        let parts = line.split(|c: char| c.is_whitespace() || "\"'`,;:=&?<>|(){}[]".contains(c));
        parts.filter(|part| looks_secret(part)).for_each(|part| secrets.learn(part));
    }
}

/// Letters with digits among them, but for a name with a number (`postgres15`), and no path.
fn looks_secret(part: &str) -> bool {
    let is_in_name = |c: char| c.is_ascii_lowercase() || matches!(c, '-' | '_');
    let number = part.trim_start_matches(is_in_name);
    part.len() >= 8
        && part.contains(|c: char| c.is_ascii_digit())
        && part.contains(char::is_alphabetic)
        && number.contains(|c: char| !(c.is_ascii_digit() || c == '.'))
        && !part.starts_with(['-', '/'])
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

/// The kernel's command line: the name of each option, and the values of those that matter to containers. What looks like
/// no option is left out: a value in quotes has blanks in it (Documentation/admin-guide/kernel-parameters.rst).
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
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    let mut is_quoted = false;
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let within = is_quoted;
        is_quoted ^= word.matches('"').count() % 2 == 1;
        words.push(match word.split_once('=') {
            // It goes with what it is a part of.
            _ if within => continue,
            Some((name, _)) if PLAIN.contains(&name) && !is_quoted => word.to_owned(),
            Some((name, _)) if is_name(name) => format!("{name}={LEFT_OUT}"),
            None if is_name(word) => word.to_owned(),
            _ => LEFT_OUT.to_owned(),
        });
    }
    words.join(" ")
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
    fn credentials() {
        let text = "default on >hunter2x4 ~* +@all\nme:hunter\nupstream: postgres15.internal\nhosts 10.0.0.1 /srv/data-2024\nX: hun7er!three";
        let mut secrets = Secrets::default();
        credential(text, &mut secrets);
        assert_eq!(
            secrets.hide_known(
                "hunter2x4 hunter hun7er!three default +@all me upstream 10.0.0.1 /srv/data-2024"
            ),
            "<left out> <left out> <left out> default +@all me upstream 10.0.0.1 /srv/data-2024"
        );
    }

    #[test]
    fn what_is_no_toml_is_not_shown() {
        let source = Source::new("a.toml", "image = \"x\"\n[environment]\nPASSWORD = \"hunter2\nB = 1\n");
        let text = toml(&CONTAINER, &source);
        assert!(text.starts_with("# not TOML") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_login_in_a_key() {
        let source =
            Source::new("wharf.toml", "[registries.\"https://me:hunter2@r.example\"]\ninsecure = true\n");
        let text = toml(&HOST, &source);
        assert!(text.starts_with("registries.\"https://<left out>@r.example\".insecure = true"), "{text}");
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
    fn files_that_are_named() {
        let source = Source::new(
            "a.toml",
            "environment-files = [\"/a.env\", \"-/b-%i.env\"]\n[systemd.Service]\nEnvironmentFile = \"-/c\"\nLoadCredential = [\"x:/d\", \"y\"]\nLoadCredentialEncrypted = \"z:/e\"\n",
        );
        assert_eq!(named_files(&source), ["/a.env", "/b-%i.env", "/c", "/d", "/e"]);
        let source = Source::new("a.toml", "credentials = [\"a\", \"b:/f\", \"c:stored\"]\n");
        assert_eq!(named_files(&source), ["/f"]);
    }

    /// What is no TOML is learnt by its lines: messages have parts of it.
    #[test]
    fn a_value_without_quotes() {
        let source = Source::new(
            "a.toml",
            "image = nginx:1.26\n[environment]\nPASSWORD = hunter2 # remark\n[systemd.\"Service\"]\nSetCredential = x hunter3\n",
        );
        let mut secrets = Secrets::default();
        learn_toml(&CONTAINER, &source, &mut secrets);
        assert_eq!(secrets.hide("nginx:1.26 `hunter2` x hunter3"), "nginx:1.26 `<left out>` <left out>");
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

    /// A program has what a start reads, and not what is written.
    #[test]
    fn files_are_read_as_a_start_reads_them() {
        let mut secrets = Secrets::default();
        environment_file(
            "A=\"hunter\\$\\$one\"\nB=\"hunter\"\"two\"\nC=hunter\\\nthree\nthis is a mistake\nD=hunter4\n",
            &mut secrets,
        );
        assert_eq!(
            secrets.hide("hunter$$one huntertwo hunterthree hunter4"),
            "<left out> <left out> <left out> <left out>"
        );
    }

    #[test]
    fn the_kernels_command_line() {
        assert_eq!(
            kernel_line("root=/dev/vda1 ro cgroup_enable=memory systemd.set_credential=x:hunter2 quiet\n"),
            "root=<left out> ro cgroup_enable=memory systemd.set_credential=<left out> quiet"
        );
        assert_eq!(
            kernel_line(
                "systemd.setenv=\"A=hunter1 hunter2 B=hunter3\" ro -- x:hunter4 \"apparmor=1 hunter5\" quiet"
            ),
            "systemd.setenv=<left out> ro -- <left out> <left out> quiet"
        );
    }
}
