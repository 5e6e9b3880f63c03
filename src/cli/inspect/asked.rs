//! What a container's files ask for: each key with its value and its place.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value as Json;

use crate::report::Place;
use crate::spec::keys::{CONTAINER, Default, KEYS, Kind};
use crate::spec::{Data, Document, Entries};

/// One key, as shown. The keys are documented in `--help` and stay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Asked {
    /// `limits.memory`, `mounts."/data".volume`.
    pub(super) key: String,
    /// The value; null where it is hidden, and where a default is only to be had in words.
    pub(super) value: Json,
    /// What holds where nothing is written, in words.
    pub(super) without: Option<String>,
    /// Where it is written; null for a default.
    pub(super) file: Option<PathBuf>,
    /// The line, from 1.
    pub(super) line: Option<usize>,
    /// It is there, and not shown without `--show-environment`.
    pub(super) hidden: bool,
}

/// Tables without which none of their keys means anything.
const NOTHING_WITHOUT: [&str; 3] = ["health", "socket", "timer"];

/// Everything that is written, in the order of the keys, and then what holds without being written.
pub(super) fn asked(document: &Document, show_environment: bool) -> Vec<Asked> {
    let mut all = Vec::new();
    written("", "", &document.entries, show_environment, &mut all);
    // Without a check there is nothing of it to tell.
    let checked = document.get(["health"]).is_some();
    let absent = KEYS.iter().filter(|key| {
        let is_one = !matches!(key.kind, Kind::Table | Kind::Tables | Kind::Map | Kind::Settings);
        !key.path.contains('*')
            && if checked {
                is_one
            } else {
                key.path == "health" || is_one && !key.path.starts_with("health.")
            }
            && document.get(key.path.split('.')).is_none()
            && !NOTHING_WITHOUT
                .iter()
                .any(|table| key.path.starts_with(&format!("{table}.")) && document.get([*table]).is_none())
    });
    for key in absent {
        let (value, without) = match key.default {
            Default::Is(toml) => (default(toml), None),
            Default::Words(words) => (Json::Null, Some(words.to_owned())),
            Default::Required => continue,
        };
        all.push(Asked { key: key.path.to_owned(), value, without, file: None, line: None, hidden: false });
    }
    all
}

/// `path` as in the table of keys, `shown` as the administrator writes it.
fn written(path: &str, shown: &str, entries: &Entries, show_environment: bool, all: &mut Vec<Asked>) {
    for (name, entry) in entries {
        let join = |table: &str, name: &str| match table {
            "" => name.to_owned(),
            table => format!("{table}.{name}"),
        };
        let inner = join(shown, &quoted(name));
        let below = match CONTAINER.find(path).map(|key| key.kind) {
            Some(Kind::Tables) => join(path, "*"),
            _ => join(path, name),
        };
        match &entry.value.data {
            Data::Table(entries) if !entries.is_empty() => {
                written(&below, &inner, entries, show_environment, all);
            }
            data => {
                let hidden = !show_environment && is_environment(path, name);
                let value = if hidden { Json::Null } else { json(data) };
                let (file, line) = place(&entry.key);
                all.push(Asked { key: inner, value, without: None, file: Some(file), line, hidden });
            }
        }
    }
}

/// Whether a value goes into the environment, and so is where passwords are.
fn is_environment(table: &str, name: &str) -> bool {
    table == "environment" || (table == "systemd.Service" && name == "Environment")
}

fn place(place: &Place) -> (PathBuf, Option<usize>) {
    let line = place.span.as_ref().map(|span| place.source.position(span.start).0);
    (place.source.path.clone(), line)
}

fn json(data: &Data) -> Json {
    match data {
        Data::Text(text) => Json::from(text.as_str()),
        Data::Integer(number) => Json::from(*number),
        Data::Float(number) => Json::from(number.as_str()),
        Data::Flag(flag) => Json::from(*flag),
        Data::Other(kind) => Json::from(*kind),
        Data::List(values) => values.iter().map(|value| json(&value.data)).collect(),
        Data::Table(entries) => {
            entries.iter().map(|(name, entry)| (name.clone(), json(&entry.value.data))).collect()
        }
    }
}

/// A default of the table of keys, which is TOML.
fn default(toml: &str) -> Json {
    let source = crate::report::Source::new("", format!("value = {toml}"));
    let (document, _) = Document::parse(&source);
    document.get(["value"]).map_or(Json::Null, |entry| json(&entry.value.data))
}

/// A key as TOML has it: bare where it can be.
fn quoted(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if bare { name.to_owned() } else { Json::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Source;

    fn of(text: &str, show_environment: bool) -> Vec<Asked> {
        asked(&Document::parse(&Source::new("/etc/x.toml", text)).0, show_environment)
    }

    #[test]
    fn keys_with_their_places() {
        let all = of("image = 'x'\n[mounts]\n'/d' = { volume = 'v' }\n[environment]\nSECRET = 's'\n", false);
        let written: Vec<(&str, String, Option<usize>)> = all
            .iter()
            .filter(|asked| asked.file.is_some())
            .map(|asked| (asked.key.as_str(), asked.value.to_string(), asked.line))
            .collect();
        assert_eq!(
            written,
            [
                ("environment.SECRET", "null".to_owned(), Some(5)),
                ("image", "\"x\"".to_owned(), Some(1)),
                ("mounts.\"/d\".volume", "\"v\"".to_owned(), Some(3)),
            ]
        );
        let key = |key: &str| all.iter().find(|asked| asked.key == key).expect(key);
        assert!(key("environment.SECRET").hidden);
        assert_eq!((&key("autostart").value, key("autostart").line), (&Json::from(true), None));
        assert_eq!(key("limits.memory").without.as_deref(), Some("no limit"));
        assert!(!all.iter().any(|asked| asked.key.contains('*') || asked.key.starts_with("health.")));
        assert_eq!(key("health").without.as_deref(), Some("no check"));
        let all = of("image = 'x'\nhealth.tcp = 'localhost:1'\n", false);
        let interval = all.iter().find(|asked| asked.key == "health.interval").map(|asked| &asked.value);
        assert_eq!(interval, Some(&Json::from("30s")));
    }

    #[test]
    fn the_environment_is_shown_where_asked_for() {
        let text =
            "environment.SECRET = 's'\nsystemd.Service.Environment = 'A=s'\nsystemd.Service.Nice = 3\n";
        let shown = |show| {
            let all = of(text, show);
            let value = |asked: &Asked| asked.file.as_ref().map(|_| asked.value.to_string());
            all.iter().filter_map(value).collect::<Vec<_>>()
        };
        assert_eq!(shown(true), ["\"s\"", "\"A=s\"", "3"]);
        assert_eq!(shown(false), ["null", "null", "3"]);
    }
}
