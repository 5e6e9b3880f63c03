//! Units of systemd, by the names of their settings.

use std::fmt::Write as _;

use super::commands::{command, learn_command};
use super::looks::hide_looks;
use super::{LEFT_OUT, Secrets};

/// Settings of units whose values say how something runs and never what with.
pub(super) fn is_plain_setting(setting: &str) -> bool {
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

/// What units of Wharf's run, with arguments that are names. `wharf run` in somebody's own unit isn't among it: it has an
/// environment, and a program's arguments.
const OWN: [&[&str]; 3] = [
    &["/usr/libexec/wharf/wharf-executor"],
    &["/usr/bin/wharf", "image", "provide"],
    &["/usr/lib/systemd/systemd-socket-proxyd"],
];

/// A unit's file: every setting with its key, and values that aren't secret. Comments go.
pub fn unit(text: &str) -> String {
    let mut out = String::new();
    let mut goes_on = false;
    for line in text.lines() {
        let continues = line.ends_with('\\');
        let trimmed = line.trim();
        let is_comment = trimmed.starts_with(['#', ';']);
        if goes_on {
            // A comment within a value is passed over, and the value goes on after it (systemd.syntax(7)).
            goes_on = continues || is_comment;
            continue;
        }
        goes_on = continues && !is_comment;
        if is_comment {
            continue;
        }
        if trimmed.is_empty() || trimmed.starts_with('[') {
            let _ = writeln!(out, "{trimmed}");
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
            let words: Vec<&str> = value.split_whitespace().collect();
            if !is_own(&words) {
                learn_command(&words, secrets);
            }
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
    if is_own(&words) { hide_looks(line) } else { command(&words).join(" ") }
}

fn is_own(words: &[&str]) -> bool {
    let mut plain = words.to_vec();
    if let Some(program) = plain.first_mut() {
        *program = program.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    }
    OWN.iter().any(|own| plain.starts_with(own))
}

/// Files of the host whose contents become part of an environment, or a credential, by a unit or a drop-in for it.
pub fn named_in_unit(text: &str) -> Vec<String> {
    let settings = text.lines().filter_map(|line| line.trim().split_once('='));
    let named = settings.filter(|(key, _)| FILE_SETTINGS.contains(&key.trim()));
    named.filter_map(|(_, value)| path_in(value.trim())).collect()
}

/// Settings of units that name files of secrets (systemd.exec(5)).
pub(super) const FILE_SETTINGS: [&str; 3] = ["EnvironmentFile", "LoadCredential", "LoadCredentialEncrypted"];

/// Where the encrypted credentials of a unit are: a path, or a name in systemd's stores; nothing for such as are in no
/// file of their own, or in any that fits.
pub fn encrypted_in_unit(text: &str) -> Vec<Option<String>> {
    let settings = text.lines().filter_map(|line| line.trim().split_once('='));
    let found = settings.filter_map(|(key, value)| match (key.trim(), value.trim()) {
        (_, "") => None,
        ("LoadCredentialEncrypted", value) => {
            Some(Some(value.split_once(':').map_or(value, |(_, place)| place).to_owned()))
        }
        ("SetCredentialEncrypted" | "ImportCredential", _) => Some(None),
        _ => None,
    });
    found.collect()
}

/// `-/a` where it needn't be there, and `NAME:/a` of credentials.
pub(super) fn path_in(value: &str) -> Option<String> {
    let path = value.trim_start_matches('-');
    let path = if path.starts_with('/') { path } else { path.split_once(':')?.1 };
    path.starts_with('/').then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let text = "# secret: hunter1\n[Service]\nType=notify\nEnvironment=A=hunter2\nExecStart=/usr/libexec/wharf/wharf-executor start web\nExecStartPre=-/usr/bin/x --token hunter3 \\\n  hunter4\nExecStopPost=+/usr/bin/y -k hunter5\nSetCredential=a:hunter6\nPassword hunter7\nTimeoutStopSec=5s\n";
        assert_eq!(
            unit(text),
            "[Service]\nType=notify\nEnvironment=<left out>\nExecStart=/usr/libexec/wharf/wharf-executor start web\nExecStartPre=<left out>\nExecStopPost=+/usr/bin/y -k <left out>\nSetCredential=<left out>\n<left out>\nTimeoutStopSec=5s\n"
        );
    }

    /// A unit of somebody's own that is called as ours are, and a comment within a value.
    #[test]
    fn units_of_others() {
        let text = "[Service]\nExecStart=/usr/bin/wharf run -e A=hunter1 web:1 hunter2\nExecStartPre=/usr/bin/wharf image provide web:1\nEnvironment=A=1 \\\n# remark\nIO_X=hunter3\nType=simple\n# x \\\nNice=1\n";
        assert_eq!(
            unit(text),
            "[Service]\nExecStart=/usr/bin/wharf <left out> -e <left out> <left out> <left out>\nExecStartPre=/usr/bin/wharf image provide web:1\nEnvironment=<left out>\nType=simple\nNice=1\n"
        );
    }

    #[test]
    fn files_that_are_named() {
        let unit =
            "[Service]\nEnvironmentFile=-/a\nLoadCredential=x:/b\nLoadCredential=y\nReadOnlyPaths=/c\n";
        assert_eq!(named_in_unit(unit), ["/a", "/b"]);
        let unit = "[Service]\nLoadCredentialEncrypted=a\nLoadCredentialEncrypted=b:/c:d\nLoadCredentialEncrypted=\nSetCredentialEncrypted=e:Zg\nLoadCredential=g:/h\n";
        assert_eq!(encrypted_in_unit(unit), [Some("a".to_owned()), Some("/c:d".to_owned()), None]);
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
}
