//! What was asked for on the command line, as a container file; and findings about that file, told by the options that
//! its parts came from.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use crate::report::{Finding, Level, Source};
use crate::spec::keys::{KEYS, Kind};

/// One option, as far as it says something of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// As it is shown: `--limits.memory 512M`.
    pub(super) option: String,
    /// The key, and what the administrator chose below it.
    pub(super) path: Vec<String>,
    /// TOML.
    pub(super) value: Toml,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Toml {
    /// Anything, which a later one replaces.
    One(String),
    /// One element of a list.
    Element(String),
    /// One element of a list that is a plain value where it is alone.
    Either {
        /// As an element.
        element: String,
    },
}

/// The file, and what in it came from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) text: String,
    parts: Vec<(Range<usize>, String)>,
}

/// What people want to see first.
const FIRST: [&str; 5] = ["description", "image", "rootfs", "entrypoint", "command"];

/// Writes the file of a container. Of several settings of one key the last counts, unless it is a list.
pub(super) fn write(name: &str, settings: &[Setting]) -> Written {
    let mut written = Written { text: format!("# /etc/wharf/containers/{name}.toml\n"), parts: Vec::new() };
    let mut keys: Vec<Vec<&Setting>> = Vec::new();
    for setting in settings {
        match keys.iter_mut().find(|same| same[0].path == setting.path) {
            Some(same) => same.push(setting),
            None => keys.push(vec![setting]),
        }
    }
    let place = |path: &str| {
        let first = FIRST.iter().position(|first| *first == path).unwrap_or(FIRST.len());
        (first, KEYS.iter().position(|key| key.path == path).unwrap_or(KEYS.len()))
    };
    // Stable, so that what is below one key stays in the order of the command line.
    keys.sort_by_key(|same| {
        let (table, _) = split(&same[0].path);
        match table.is_empty() {
            true => (false, place(&same[0].path[0])),
            false => (true, place(&table.join("."))),
        }
    });
    let mut open: &[String] = &[];
    for same in keys {
        let (table, name) = split(&same[0].path);
        if table != open {
            let table: Vec<String> = table.iter().map(|name| key(name)).collect();
            let _ = write!(written.text, "\n[{}]\n", table.join("."));
        }
        open = table;
        written.line(name, &same);
    }
    written
}

/// The table that a key stands in, and the rest of it.
fn split(path: &[String]) -> (&[String], &str) {
    let (name, table) = path.split_last().map_or(("", path), |(name, table)| (name.as_str(), table));
    (table, name)
}

impl Written {
    fn line(&mut self, name: &str, same: &[&Setting]) {
        let start = self.text.len();
        let _ = write!(self.text, "{} = ", key(name));
        let elements: Vec<(&String, &String)> = same
            .iter()
            .filter_map(|setting| match &setting.value {
                Toml::Element(element) | Toml::Either { element } => Some((element, &setting.option)),
                Toml::One(_) => None,
            })
            .collect();
        let last = same[same.len() - 1];
        match (&last.value, elements.as_slice()) {
            (Toml::One(value), _) => self.part(value, &last.option),
            (Toml::Either { .. }, [(element, option)]) => self.part(element, option),
            (_, elements) => {
                self.text.push('[');
                for (at, (element, option)) in elements.iter().enumerate() {
                    if at > 0 {
                        self.text.push_str(", ");
                    }
                    self.part(element, option);
                }
                self.text.push(']');
            }
        }
        self.parts.push((start..self.text.len(), last.option.clone()));
        self.text.push('\n');
    }

    fn part(&mut self, value: &str, option: &str) {
        let start = self.text.len();
        self.text.push_str(value);
        self.parts.push((start..self.text.len(), option.to_owned()));
    }

    /// What a finding in this file is about; nothing where it is about the file as a whole.
    fn option(&self, at: &Range<usize>) -> Option<&str> {
        let holds = |part: &&(Range<usize>, String)| part.0.start <= at.start && at.start <= part.0.end;
        self.parts
            .iter()
            .filter(holds)
            .min_by_key(|(range, _)| range.len())
            .map(|(_, option)| option.as_str())
    }

    /// A finding in words of the command line; nothing where it is in another file.
    pub(super) fn told(&self, main: &Arc<Source>, finding: &Finding) -> Option<String> {
        if finding.place.source != *main {
            return None;
        }
        let level = match finding.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        let option = finding.place.span.as_ref().and_then(|span| self.option(span));
        let about = option.map(|option| format!("{option}: ")).unwrap_or_default();
        let hint = finding.hint.as_ref().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        Some(format!("{level}: {about}{}\n{hint}", finding.message))
    }
}

/// A key as TOML has it: bare where it can be.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { text(name) }
}

/// A basic string.
pub(super) fn text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A value of a key, from its option's text. What can't be one of this kind becomes a text, for the check to explain.
pub(super) fn value(kind: Kind, given: &str) -> Toml {
    let number = || {
        let plain = given.parse::<u32>().is_ok_and(|number| number.to_string() == given);
        plain.then(|| given.to_owned())
    };
    let flag = || matches!(given, "true" | "false").then(|| given.to_owned());
    match kind {
        Kind::Texts | Kind::Command => Toml::Element(text(given)),
        Kind::CommandOrShell | Kind::TextOrTexts => Toml::Either { element: text(given) },
        Kind::Flag => Toml::One(flag().unwrap_or_else(|| text(given))),
        Kind::Number | Kind::TextOrNumber | Kind::Duration => {
            Toml::One(number().unwrap_or_else(|| text(given)))
        }
        Kind::TextOrTrue => Toml::One(if given == "true" { given.to_owned() } else { text(given) }),
        Kind::Text | Kind::Choice(_) | Kind::Map => Toml::One(text(given)),
        Kind::Settings => Toml::Either { element: text(given) },
        // A table, as TOML writes it in one line.
        Kind::Table | Kind::Tables => Toml::One(given.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Files};

    fn setting(option: &str, path: &[&str], value: Toml) -> Setting {
        Setting {
            option: option.to_owned(),
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            value,
        }
    }

    #[test]
    fn a_file_for_people() {
        let written = write(
            "web",
            &[
                setting("-p", &["publish"], value(Kind::Texts, "80:80")),
                setting("-e", &["environment", "A"], value(Kind::Map, "old")),
                setting("-m", &["limits", "memory"], value(Kind::TextOrNumber, "512M")),
                setting("-v", &["mounts", "/data"], Toml::One("{ volume = \"d\" }".to_owned())),
                setting("--init", &["init"], value(Kind::Flag, "true")),
                setting("-e", &["environment", "A"], value(Kind::Map, "a \"b\"\n\u{1}")),
                setting("-p", &["publish"], value(Kind::Texts, "443:443")),
                setting("IMAGE", &["image"], value(Kind::Text, "nginx:1.27")),
                setting("-x", &["systemd", "Service", "Nice"], value(Kind::Settings, "3")),
                setting("--health.command", &["health", "command"], value(Kind::CommandOrShell, "true")),
            ],
        );
        assert_eq!(
            written.text,
            "# /etc/wharf/containers/web.toml\nimage = \"nginx:1.27\"\ninit = true\npublish = [\"80:80\", \"443:443\"]\n\n\
             [environment]\nA = \"a \\\"b\\\"\\n\\u0001\"\n\n[health]\ncommand = \"true\"\n\n[limits]\nmemory = \"512M\"\n\n\
             [mounts]\n\"/data\" = { volume = \"d\" }\n\n[systemd.Service]\nNice = \"3\"\n"
        );
    }

    #[test]
    fn findings_name_the_option() {
        let settings = [
            setting("IMAGE", &["image"], value(Kind::Text, "nginx:1.27")),
            setting("--publish 80:80", &["publish"], value(Kind::Texts, "80:80")),
            setting("--publish 80:x", &["publish"], value(Kind::Texts, "80:x")),
            setting("--limits.memory 64Q", &["limits", "memory"], value(Kind::TextOrNumber, "64Q")),
            setting("--init=maybe", &["init"], value(Kind::Flag, "maybe")),
        ];
        let written = write("web", &settings);
        let main = Source::new("web.toml", written.text.clone());
        let name = "web".parse().expect("a name");
        let files = Files { name, main: Arc::clone(&main), drop_ins: vec![], findings: vec![] };
        let told: String =
            plan::check(&files).findings.iter().filter_map(|finding| written.told(&main, finding)).collect();
        for option in ["--publish 80:x: ", "--limits.memory 64Q: ", "--init=maybe: "] {
            assert!(told.contains(&format!("error: {option}")), "{told}");
        }
    }
}
