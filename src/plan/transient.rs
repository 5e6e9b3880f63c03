//! A planned unit as the properties of a transient one: what `wharf run` gives to systemd instead of a file.
//!
//! A unit's text and the D-Bus interface (org.freedesktop.systemd1(5)) say the same in two languages: `TimeoutStopSec=
//! 90s` is `TimeoutStopUSec`, 90,000,000. For files systemd translates itself; here is the part of that which the
//! planner's own settings need, and those of `[systemd.*]` that people use. Whatever isn't here is refused, and never
//! left out.

use crate::spec::{Signal, duration, size};

/// A property's value, by its D-Bus type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// `b`
    Flag(bool),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `i`
    Signed(i32),
    /// `u`
    Small(u32),
    /// `t`
    Large(u64),
    /// `ay`
    Bytes(Vec<u8>),
    /// `aay`
    Fields(Vec<String>),
    /// `a(sasb)`
    Commands(Vec<Command>),
    /// `a(ss)`: names and where each is.
    Pairs(Vec<(String, String)>),
    /// `(aiai)`: exit statuses and signals.
    Statuses(Vec<i32>, Vec<i32>),
}

/// A command line of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program, absolute.
    pub path: String,
    /// All of argv, the program's name first.
    pub arguments: Vec<String>,
    /// `-`: that it fails is no failure of the unit.
    pub ignore_failure: bool,
}

/// Why a unit can't be transient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransientError {
    /// A setting that isn't translated.
    #[error("{key}= of [{section}] can't be given to a unit that has no file")]
    Unknown {
        /// `Unit` or `Service`.
        section: String,
        /// Its name.
        key: String,
    },
    /// systemd expands specifiers only in files.
    #[error("{key}={value}: systemd knows `%` with a letter only in files; write what it stands for")]
    Specifier {
        /// The setting.
        key: String,
        /// As written.
        value: String,
    },
    /// A value that can't be read.
    #[error("{key}={value}: {what} is expected")]
    Value {
        /// The setting.
        key: String,
        /// As written.
        value: String,
        /// In words.
        what: &'static str,
    },
}

/// How a setting's text becomes a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// It says where the unit's file comes from, and there is none.
    Nothing,
    Flag,
    Text,
    /// Words between spaces; a setting several times adds to it.
    Words,
    /// One word, as a list of one.
    Field,
    Signed,
    Small,
    Large,
    Octal,
    /// A length of time, in microseconds, by another name.
    Time(&'static str),
    SignalNumber,
    /// Bytes, or a share of the host's by another name.
    Memory(&'static str),
    /// A number, or a share of the host's by another name.
    Count(&'static str),
    /// Per cent of one CPU.
    Quota,
    Cpus,
    /// `SOFT:HARD`, the soft one by another name.
    Limit(&'static str),
    Command,
    Statuses,
    /// `NAME:SOURCE`, or one word for both.
    Credential,
}

/// Every setting that is translated.
const SETTINGS: &[(&str, &str, Form)] = &[
    ("Unit", "Description", Form::Text),
    ("Unit", "Documentation", Form::Words),
    ("Unit", "SourcePath", Form::Nothing),
    ("Unit", "After", Form::Words),
    ("Unit", "Before", Form::Words),
    ("Unit", "BindsTo", Form::Words),
    ("Unit", "Conflicts", Form::Words),
    ("Unit", "DefaultDependencies", Form::Flag),
    ("Unit", "IgnoreOnIsolate", Form::Flag),
    ("Unit", "OnFailure", Form::Words),
    ("Unit", "OnSuccess", Form::Words),
    ("Unit", "PartOf", Form::Words),
    ("Unit", "PropagatesStopTo", Form::Words),
    ("Unit", "Requires", Form::Words),
    ("Unit", "RequiresMountsFor", Form::Words),
    ("Unit", "Requisite", Form::Words),
    ("Unit", "StartLimitBurst", Form::Small),
    ("Unit", "StartLimitIntervalSec", Form::Time("StartLimitIntervalUSec")),
    ("Unit", "StopWhenUnneeded", Form::Flag),
    ("Unit", "SurviveFinalKillSignal", Form::Flag),
    ("Unit", "Upholds", Form::Words),
    ("Unit", "Wants", Form::Words),
    ("Service", "AllowedCPUs", Form::Cpus),
    ("Service", "AllowedMemoryNodes", Form::Cpus),
    ("Service", "CPUQuota", Form::Quota),
    ("Service", "CPUWeight", Form::Large),
    ("Service", "Delegate", Form::Flag),
    ("Service", "DevicePolicy", Form::Text),
    ("Service", "ExecReload", Form::Command),
    ("Service", "ExecStart", Form::Command),
    ("Service", "ExecStartPost", Form::Command),
    ("Service", "ExecStartPre", Form::Command),
    ("Service", "ExecStop", Form::Command),
    ("Service", "ExecStopPost", Form::Command),
    ("Service", "FileDescriptorStoreMax", Form::Small),
    ("Service", "IOWeight", Form::Large),
    ("Service", "IgnoreSIGPIPE", Form::Flag),
    ("Service", "KillMode", Form::Text),
    ("Service", "KillSignal", Form::SignalNumber),
    ("Service", "LimitCORE", Form::Limit("LimitCORESoft")),
    ("Service", "LimitMEMLOCK", Form::Limit("LimitMEMLOCKSoft")),
    ("Service", "LimitNOFILE", Form::Limit("LimitNOFILESoft")),
    ("Service", "LimitNPROC", Form::Limit("LimitNPROCSoft")),
    ("Service", "LoadCredential", Form::Credential),
    ("Service", "LoadCredentialEncrypted", Form::Credential),
    ("Service", "LogExtraFields", Form::Field),
    ("Service", "LogLevelMax", Form::Signed),
    ("Service", "LogNamespace", Form::Text),
    ("Service", "LogRateLimitBurst", Form::Small),
    ("Service", "LogRateLimitIntervalSec", Form::Time("LogRateLimitIntervalUSec")),
    ("Service", "MemoryHigh", Form::Memory("MemoryHighScale")),
    ("Service", "MemoryLow", Form::Memory("MemoryLowScale")),
    ("Service", "MemoryMax", Form::Memory("MemoryMaxScale")),
    ("Service", "MemoryMin", Form::Memory("MemoryMinScale")),
    ("Service", "MemorySwapMax", Form::Memory("MemorySwapMaxScale")),
    ("Service", "Nice", Form::Signed),
    ("Service", "NotifyAccess", Form::Text),
    ("Service", "OOMPolicy", Form::Text),
    ("Service", "OOMScoreAdjust", Form::Signed),
    ("Service", "ReadOnlyPaths", Form::Words),
    ("Service", "ReloadSignal", Form::SignalNumber),
    ("Service", "Restart", Form::Text),
    ("Service", "RestartForceExitStatus", Form::Statuses),
    ("Service", "RestartMaxDelaySec", Form::Time("RestartMaxDelayUSec")),
    ("Service", "RestartPreventExitStatus", Form::Statuses),
    ("Service", "RestartSec", Form::Time("RestartUSec")),
    ("Service", "RestartSteps", Form::Small),
    ("Service", "RuntimeMaxSec", Form::Time("RuntimeMaxUSec")),
    ("Service", "Slice", Form::Text),
    ("Service", "StandardError", Form::Text),
    ("Service", "StandardOutput", Form::Text),
    ("Service", "SuccessExitStatus", Form::Statuses),
    ("Service", "SyslogIdentifier", Form::Text),
    ("Service", "TasksMax", Form::Count("TasksMaxScale")),
    ("Service", "TimeoutStartSec", Form::Time("TimeoutStartUSec")),
    ("Service", "TimeoutStopFailureMode", Form::Text),
    ("Service", "TimeoutStopSec", Form::Time("TimeoutStopUSec")),
    ("Service", "Type", Form::Text),
    ("Service", "UMask", Form::Octal),
    ("Service", "WatchdogSec", Form::Time("WatchdogUSec")),
    ("Service", "WatchdogSignal", Form::SignalNumber),
];

/// The properties of a unit's text, as [`crate::unit::Unit::render`] makes it, in its order. One may be there several
/// times, where the setting is; systemd takes them as it takes the lines of a file.
///
/// # Errors
/// The first setting that can't be translated.
pub fn properties(unit: &str) -> Result<Vec<(String, Property)>, TransientError> {
    let mut section = "";
    let mut all = Vec::new();
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let unknown = || TransientError::Unknown { section: section.to_owned(), key: key.to_owned() };
        let (.., form) =
            SETTINGS.iter().find(|(of, name, _)| (*of, *name) == (section, key)).ok_or_else(unknown)?;
        let text = literal(value)
            .ok_or_else(|| TransientError::Specifier { key: key.to_owned(), value: value.to_owned() })?;
        let translated = form.translate(key, text.trim()).map_err(|what| TransientError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            what,
        })?;
        all.extend(translated);
    }
    Ok(all)
}

/// A text without systemd's doubled percent signs; nothing where there is a specifier. A `%` before anything else than
/// a letter is itself, as `specifier_printf` of systemd's src/shared/specifier.c has it.
fn literal(text: &str) -> Option<String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '%' {
            match rest.peek() {
                Some('%') => drop(rest.next()),
                Some(letter) if letter.is_ascii_alphabetic() => return None,
                _ => {}
            }
        }
        whole.push(c);
    }
    Some(whole)
}

impl Form {
    fn translate(self, key: &str, text: &str) -> Result<Vec<(String, Property)>, &'static str> {
        let one = |name: &str, value| Ok(vec![(name.to_owned(), value)]);
        match self {
            Self::Nothing => Ok(Vec::new()),
            Self::Flag => one(key, Property::Flag(flag(text).ok_or("yes or no")?)),
            Self::Text => one(key, Property::Text(unquoted(text).ok_or("a text with matching quotes")?)),
            Self::Words => one(key, Property::Texts(words(text).ok_or("words with matching quotes")?)),
            Self::Field => one(key, Property::Fields(words(text).ok_or("words with matching quotes")?)),
            Self::Signed => one(key, Property::Signed(text.parse().map_err(|_| "a whole number")?)),
            Self::Small => one(key, Property::Small(text.parse().map_err(|_| "a whole number")?)),
            Self::Large => one(key, Property::Large(text.parse().map_err(|_| "a whole number")?)),
            Self::Octal => {
                one(key, Property::Small(u32::from_str_radix(text, 8).map_err(|_| "an octal number")?))
            }
            Self::Time(name) => one(name, Property::Large(micros(text).ok_or("a length of time like 5s")?)),
            Self::SignalNumber => {
                let signal: Signal = text.parse().map_err(|_| "a signal")?;
                one(key, Property::Signed(signal.number()))
            }
            Self::Memory(scale) => match text.strip_suffix('%') {
                Some(share) => one(scale, Property::Small(scaled(share).ok_or("per cent")?)),
                None => one(
                    key,
                    Property::Large(amount(text, |text| size(text).ok()).ok_or("an amount of memory")?),
                ),
            },
            Self::Count(scale) => match text.strip_suffix('%') {
                Some(share) => one(scale, Property::Small(scaled(share).ok_or("per cent")?)),
                None => {
                    one(key, Property::Large(amount(text, |text| text.parse().ok()).ok_or("a whole number")?))
                }
            },
            Self::Quota => {
                let share = text.strip_suffix('%').and_then(hundredths).ok_or("per cent of one CPU")?;
                // 100% are a second of CPU time in each second.
                one("CPUQuotaPerSecUSec", Property::Large(share * 100))
            }
            Self::Cpus => one(key, Property::Bytes(cpus(text).ok_or("numbers of CPUs")?)),
            Self::Limit(soft) => {
                let (low, high) = text.split_once(':').unwrap_or((text, text));
                let number =
                    |text: &str| amount(text, |text| size(text).ok()).ok_or("a number, or SOFT:HARD");
                Ok(vec![
                    (key.to_owned(), Property::Large(number(high)?)),
                    (soft.to_owned(), Property::Large(number(low)?)),
                ])
            }
            Self::Command => {
                one(key, Property::Commands(vec![command(text).ok_or("one plain command line")?]))
            }
            Self::Credential => {
                let (name, source) = text.split_once(':').unwrap_or((text, text));
                one(key, Property::Pairs(vec![(name.to_owned(), source.to_owned())]))
            }
            Self::Statuses => {
                let (statuses, signals) = statuses(text).ok_or("exit statuses and signals")?;
                one(key, Property::Statuses(statuses, signals))
            }
        }
    }
}

/// As `parse_boolean` of systemd's src/basic/parse-util.c.
fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// A whole value, which may stand in quotes.
fn unquoted(text: &str) -> Option<String> {
    if text.starts_with('"') {
        words(text).and_then(|words| <[String; 1]>::try_from(words).ok()).map(|[text]| text)
    } else {
        Some(text.to_owned())
    }
}

/// Words between spaces, with the quotes that [`crate::unit`] writes. Backslashes outside of quotes stay: names of
/// units have them.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = rest.peek() else { return Some(words) };
        let mut word = String::new();
        if let Some(quote) = Some(*first).filter(|c| matches!(c, '"' | '\'')) {
            rest.next();
            loop {
                match rest.next()? {
                    '\\' => word.push(rest.next().filter(|c| matches!(c, '\\' | '"' | '\''))?),
                    c if c == quote => break,
                    c => word.push(c),
                }
            }
            if rest.peek().is_some_and(|c| !c.is_whitespace()) {
                return None;
            }
        } else {
            while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
                if matches!(c, '"' | '\'') {
                    return None;
                }
                word.push(c);
            }
        }
        words.push(word);
    }
}

/// A command line. Variables stay as they are: systemd fills them in when it runs the command.
fn command(text: &str) -> Option<Command> {
    let (ignore_failure, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut arguments = words(text)?;
    // More than one command, or prefixes that need another property.
    if arguments.iter().any(|word| word == ";") || !arguments.first()?.starts_with('/') {
        return None;
    }
    for word in &mut arguments {
        if word == "\\;" {
            *word = ";".to_owned();
        }
    }
    Some(Command { path: arguments[0].clone(), arguments, ignore_failure })
}

fn micros(text: &str) -> Option<u64> {
    if text == "infinity" {
        return Some(u64::MAX);
    }
    u64::try_from(duration(text).ok()?.as_micros()).ok()
}

fn amount(text: &str, read: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    if text == "infinity" { Some(u64::MAX) } else { read(text) }
}

/// Hundredths of what is written.
fn hundredths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<2}");
    let part = part.get(..2)?.parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(part)
}

/// Per cent, as a share of 2^32 - 1 (`UINT32_SCALE_FROM_PERMYRIAD` of systemd's src/basic/percent-util.h).
fn scaled(text: &str) -> Option<u32> {
    let share = hundredths(text).filter(|share| *share <= 10_000)?;
    u32::try_from((share * u64::from(u32::MAX) + 5_000) / 10_000).ok()
}

/// A bit for each CPU, the lowest first.
fn cpus(text: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for part in text.split([' ', ',']).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        // As many as a kernel can be built for.
        let (first, last) =
            (first.parse::<usize>().ok()?, last.parse::<usize>().ok().filter(|cpu| *cpu < 8192)?);
        for cpu in first..=last {
            if bits.len() <= cpu / 8 {
                bits.resize(cpu / 8 + 1, 0);
            }
            bits[cpu / 8] |= 1_u8 << (cpu % 8);
        }
    }
    Some(bits)
}

fn statuses(text: &str) -> Option<(Vec<i32>, Vec<i32>)> {
    let (mut statuses, mut signals) = (Vec::new(), Vec::new());
    for word in words(text)? {
        match word.parse::<u8>() {
            Ok(status) => statuses.push(status.into()),
            Err(_) => signals.push(word.parse::<Signal>().ok()?.number()),
        }
    }
    Some((statuses, signals))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::plan::Plan;

    fn one(section: &str, line: &str) -> Result<Vec<(String, Property)>, TransientError> {
        properties(&format!("# x\n\n[{section}]\n{line}\n"))
    }

    #[test]
    fn settings_become_properties() {
        let large = |name: &str, value| vec![(name.to_owned(), Property::Large(value))];
        let texts = |words: &[&str]| Property::Texts(words.iter().map(|word| (*word).to_owned()).collect());
        for (section, line, expected) in [
            ("Service", "TimeoutStopSec=1min 30s", large("TimeoutStopUSec", 90_000_000)),
            ("Service", "RestartSec=200ms", large("RestartUSec", 200_000)),
            ("Service", "CPUQuota=150%", large("CPUQuotaPerSecUSec", 1_500_000)),
            ("Service", "CPUQuota=0.5%", large("CPUQuotaPerSecUSec", 5_000)),
            ("Service", "MemoryMax=64M", large("MemoryMax", 64 << 20)),
            ("Service", "MemoryMax=infinity", large("MemoryMax", u64::MAX)),
            (
                "Service",
                "MemoryMax=50%%",
                vec![("MemoryMaxScale".to_owned(), Property::Small(2_147_483_648))],
            ),
            ("Service", "TasksMax=100%%", vec![("TasksMaxScale".to_owned(), Property::Small(u32::MAX))]),
            (
                "Service",
                "AllowedCPUs=0-3 9",
                vec![("AllowedCPUs".to_owned(), Property::Bytes(vec![0x0f, 0x02]))],
            ),
            ("Service", "KillSignal=SIGQUIT", vec![("KillSignal".to_owned(), Property::Signed(3))]),
            ("Service", "Delegate=yes", vec![("Delegate".to_owned(), Property::Flag(true))]),
            (
                "Service",
                "SuccessExitStatus=129 SIGKILL",
                vec![("SuccessExitStatus".to_owned(), Property::Statuses(vec![129], vec![9]))],
            ),
            (
                "Service",
                "LoadCredential=key:/srv/a:b",
                vec![("LoadCredential".to_owned(), Property::Pairs(vec![("key".into(), "/srv/a:b".into())]))],
            ),
            (
                "Service",
                "LoadCredentialEncrypted=key",
                vec![(
                    "LoadCredentialEncrypted".to_owned(),
                    Property::Pairs(vec![("key".into(), "key".into())]),
                )],
            ),
            ("Unit", "SourcePath=/etc/x", vec![]),
            (
                "Unit",
                "Description=100%% \"sure\"",
                vec![("Description".to_owned(), Property::Text("100% \"sure\"".to_owned()))],
            ),
            (
                "Unit",
                "RequiresMountsFor=\"/a \\\\b\" /c",
                vec![("RequiresMountsFor".to_owned(), texts(&["/a \\b", "/c"]))],
            ),
            (
                "Unit",
                "Wants=a\\x2db-image.service",
                vec![("Wants".to_owned(), texts(&["a\\x2db-image.service"]))],
            ),
        ] {
            assert_eq!(one(section, line), Ok(expected), "{line}");
        }
        let limits = one("Service", "LimitNOFILE=1024:4096").expect("read");
        assert_eq!(
            limits,
            [
                ("LimitNOFILE".to_owned(), Property::Large(4096)),
                ("LimitNOFILESoft".to_owned(), Property::Large(1024))
            ]
        );
        let Property::Commands(commands) =
            &one("Service", "ExecStop=-/bin/x \"a b\" $$HOME \\;").expect("read")[0].1
        else {
            panic!()
        };
        assert_eq!(
            commands[0],
            Command {
                path: "/bin/x".into(),
                arguments: ["/bin/x", "a b", "$$HOME", ";"].map(str::to_owned).to_vec(),
                ignore_failure: true,
            }
        );
    }

    #[test]
    fn what_has_no_translation_is_refused() {
        for (section, line) in [
            ("Service", "CPUSchedulingPolicy=fifo"),
            ("Unit", "Nice=3"),
            ("Unit", "OnFailure=page-me@%n.service"),
            ("Service", "Nice=high"),
            ("Service", "ExecStartPre=/bin/a ; /bin/b"),
            ("Service", "ExecStartPre=!/bin/a"),
            ("Service", "ExecStartPre=/bin/a \"b"),
            ("Service", "StandardOutput=\"a\" b"),
        ] {
            assert!(one(section, line).is_err(), "{line}");
        }
    }

    /// Everything that the planner writes into any of the units that are compared with what is expected; settings of
    /// `[systemd.*]`, which may be any, are not the planner's.
    #[test]
    fn all_that_is_planned_is_translated() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accept");
        let mut seen = 0;
        for case in fs::read_dir(cases).expect("cases").flatten() {
            for plan in fs::read_dir(case.path().join("expected/wharf")).into_iter().flatten().flatten() {
                let Ok(text) = fs::read_to_string(plan.path()) else { continue };
                // What no file declares any more was never asked of `wharf run`.
                let Ok(Plan { container, gone: false, .. }) = serde_json::from_str::<Plan>(&text) else {
                    continue;
                };
                let unit = case.path().join("expected").join(container.name.unit());
                // A template's specifiers are its own.
                let Some(unit) = fs::read_to_string(unit).ok().filter(|_| !container.name.is_template())
                else {
                    continue;
                };
                let own = container.systemd.unit.iter().chain(&container.systemd.service);
                let own: Vec<&String> = own.map(|(key, _)| key).collect();
                match properties(&unit) {
                    Ok(properties) => assert!(properties.len() > 15, "{}", plan.path().display()),
                    Err(
                        TransientError::Unknown { key, .. }
                        | TransientError::Specifier { key, .. }
                        | TransientError::Value { key, .. },
                    ) if own.contains(&&key) => continue,
                    Err(error) => panic!("{}: {error}", plan.path().display()),
                }
                seen += 1;
            }
        }
        assert!(seen > 40, "only {seen} units were found");
    }
}
