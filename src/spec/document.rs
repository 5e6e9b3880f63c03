//! A container's files as one tree, each value remembering which file it came from, and where there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::report::{Finding, Place, Source};

/// What a bare value of a table may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A string.
    Text(String),
    /// An integer of 64 bits.
    Integer(i64),
    /// A number with a fraction, as written.
    Float(String),
    /// `true` or `false`.
    Flag(bool),
    /// A date or a time, or an integer beyond 64 bits; no key takes either.
    Other(&'static str),
    /// A list.
    List(Vec<Value>),
    /// A table.
    Table(Entries),
}

impl Data {
    /// What it is, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Float(_) => "a number with a fraction",
            Self::Flag(_) => "true or false",
            Self::Other(kind) => kind,
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub data: Data,
}

impl Value {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the key stands.
    pub key: Place,
    /// What it says.
    pub value: Value,
}

/// The entries of a table by key.
pub type Entries = BTreeMap<String, Entry>;

/// A container's file with its drop-ins merged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The container's own file, for findings about what isn't there.
    pub main: Arc<Source>,
    /// The top level.
    pub entries: Entries,
}

impl Document {
    /// One file's text as a tree, as far as it can be read, with every mistake of syntax in it.
    pub fn parse(source: &Arc<Source>) -> (Self, Vec<Finding>) {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        let findings = errors
            .iter()
            .map(|error| {
                let place = Place { source: Arc::clone(source), span: error.span() };
                Finding::error(place, format!("this is not TOML: {}", error.message().replace('\n', ", ")))
            })
            .collect();
        (Self { main: Arc::clone(source), entries: entries(source, table.get_ref()) }, findings)
    }

    /// Lays a drop-in over what is there: tables by key, everything else replaced. A mount of another kind keeps
    /// `read-only`, where that means something for both.
    pub fn merge(&mut self, over: Document) {
        merge(&mut self.entries, over.entries, &mut Vec::new());
    }

    /// What stands at a path of keys.
    pub fn get<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> Option<&Entry> {
        let mut path = path.into_iter();
        let mut entry = self.entries.get(path.next()?)?;
        for key in path {
            match &entry.value.data {
                Data::Table(inner) => entry = inner.get(key)?,
                _ => return None,
            }
        }
        Some(entry)
    }
}

fn entries(source: &Arc<Source>, table: &DeTable<'_>) -> Entries {
    table
        .iter()
        .map(|(key, value)| {
            let entry = Entry { key: Place::new(source, key.span()), value: read(source, value) };
            (key.get_ref().to_string(), entry)
        })
        .collect()
}

fn read(source: &Arc<Source>, value: &Spanned<DeValue<'_>>) -> Value {
    let data = match value.get_ref() {
        DeValue::String(text) => Data::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Data::Integer(number),
            Err(_) => Data::Other("a number beyond 64 bits"),
        },
        DeValue::Float(number) => Data::Float(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Data::Flag(*flag),
        DeValue::Datetime(_) => Data::Other("a date"),
        DeValue::Array(values) => Data::List(values.iter().map(|value| read(source, value)).collect()),
        DeValue::Table(table) => Data::Table(entries(source, table)),
    };
    Value { place: Place::new(source, first_line(&source.text, value.span())), data }
}

/// A place is shown by its first line; that of a table's body would be all of it.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    match text.get(span.clone()).and_then(|text| text.find('\n')) {
        Some(newline) => span.start..span.start + newline,
        None => span,
    }
}

fn merge(under: &mut Entries, over: Entries, path: &mut Vec<String>) {
    for (key, entry) in over {
        match under.get_mut(&key) {
            Some(old) => match (&mut old.value.data, entry.value.data) {
                (Data::Table(old), Data::Table(new)) if !replaces(path, old, &new) => {
                    path.push(key);
                    merge(old, new, path);
                    path.pop();
                }
                (Data::Table(before), Data::Table(mut new)) => {
                    // Who wrote that nothing may write there meant the target, whatever is mounted.
                    if ["bind", "volume"].iter().any(|kind| new.contains_key(*kind))
                        && let Some((key, entry)) = before.remove_entry("read-only")
                    {
                        new.entry(key).or_insert(entry);
                    }
                    let data = Data::Table(new);
                    *old = Entry { key: entry.key, value: Value { place: entry.value.place, data } };
                }
                (_, data) => {
                    *old = Entry { key: entry.key, value: Value { place: entry.value.place, data } };
                }
            },
            None => {
                under.insert(key, entry);
            }
        }
    }
}

/// A drop-in that puts another kind of mount at a target means that one alone: its folder instead of the
/// volume, not both; and not how that was mounted either.
fn replaces(path: &[String], old: &Entries, new: &Entries) -> bool {
    const KINDS: [&str; 3] = ["bind", "volume", "tmpfs"];
    matches!(path, [table] if table == "mounts")
        && KINDS.iter().any(|kind| new.contains_key(*kind) && !old.contains_key(*kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, text: &str) -> Document {
        let (document, findings) = Document::parse(&Source::new(path, text));
        assert_eq!(findings, []);
        document
    }

    #[test]
    fn drop_ins_replace_arrays_and_merge_tables() {
        let mut document = parse(
            "a.toml",
            "command = [\"a\", \"b\"]\n[environment]\nA = \"1\"\nB = \"2\"\n[mounts]\n\"/x\" = { bind = \"/s\", read-only = true }\n\"/y\" = { volume = \"v\", read-only = true }\n\"/z\" = { bind = \"/s\", read-only = true, idmap = false }\n\"/w\" = { volume = \"v\", read-only = true }\n",
        );
        document.merge(parse(
            "b.toml",
            "command = [\"c\"]\nenvironment.B = \"3\"\n[mounts]\n\"/x\" = { bind = \"/t\" }\n\"/y\" = { tmpfs = true }\n\"/z\" = { volume = \"v\" }\n\"/w\" = { bind = \"/s\", read-only = false }\n",
        ));
        let b = document.get(["environment", "B"]).expect("B");
        assert_eq!((b.value.text(), b.value.place.source.path.to_str()), (Some("3"), Some("b.toml")));
        assert!(document.get(["environment", "A"]).is_some());
        assert!(document.get(["mounts", "/x", "read-only"]).is_some());
        assert!(document.get(["mounts", "/y", "volume"]).is_none());
        // What is for both kinds stays, and the rest is of what is no more there.
        let flag = |target, key| document.get(["mounts", target, key]).map(|entry| entry.value.data.clone());
        assert_eq!(flag("/z", "read-only"), Some(Data::Flag(true)));
        assert_eq!(flag("/w", "read-only"), Some(Data::Flag(false)));
        assert_eq!((flag("/y", "read-only"), flag("/z", "idmap"), flag("/z", "bind")), (None, None, None));
        let Data::List(command) = &document.get(["command"]).expect("command").value.data else { panic!() };
        assert_eq!(command.len(), 1);
    }

    #[test]
    fn several_syntax_errors_at_once() {
        let (document, findings) = Document::parse(&Source::new("a", "a = \nb = 1\nc = [1\nd = \"x\n"));
        assert!(findings.len() >= 2, "{findings:?}");
        assert!(document.get(["b"]).is_some());
    }
}
