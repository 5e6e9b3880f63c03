//! How a listing is printed: a table for people, `--json`, or `--format` with a template. One for all listings.
//!
//! A template is text with the names of keys in braces, the same ones as in `--json`:
//!
//! ```text
//! wharf ps --format '{name} {state}'           a line for each row
//! wharf image list --format '{disk.own}'       a key of an object within the row
//! wharf ps --format '{name}\t{ports}'          \t, \n and \\ are a tab, a new line and a backslash
//! wharf ps --format '{{{name}}}'               {{ and }} are braces: {nginx}
//! wharf ps --format table, --format json       what is printed without it, and with --json
//! ```
//!
//! What a row has not, `null` in JSON, is `-`, so that fields can be counted; so is an empty text or list. The values of a
//! list stand beside each other, with a space; an object is JSON in one line. Characters that a terminal takes for
//! commands are left out.
//!
//! # For a new listing
//!
//! Its rows are structs that serialise to objects. Its arguments flatten [`Form`], in place of a `json` of their own;
//! its keys stand in a constant, and a test has [`keys_of`] compare them with what a row serialises to:
//!
//! ```ignore
//! const KEYS: &[&str] = &["name", "disk.own"];
//!
//! #[command(flatten)]
//! form: Form,
//!
//! let shape = args.form.shape(KEYS)?;            // first of all: a key that isn't there is a wrong command line
//! print(&shape.text(&rows, || table(&rows))?)?;
//! ```

use std::fmt::Write as _;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::output::{Failure, plain};
use crate::spec::nearest;

/// The options that every listing has.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Form {
    /// One array of objects, as below
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// A line for each, made of the keys of the JSON: '{name} {state}'; or `table`, `json`
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<Format>,
}

impl Form {
    /// What it comes to, for rows with these keys.
    ///
    /// # Errors
    /// The template names a key that there isn't: the command line is wrong.
    pub(super) fn shape(&self, keys: &[&str]) -> Result<Shape<'_>, Failure> {
        match (&self.format, self.json) {
            (_, true) | (Some(Format::Json), _) => Ok(Shape::Json),
            (Some(Format::Template(parts)), _) => {
                for part in parts {
                    if let Part::Key(key) = part {
                        check(key, keys).map_err(Failure::usage)?;
                    }
                }
                Ok(Shape::Template(parts))
            }
            (Some(Format::Table) | None, false) => Ok(Shape::Table),
        }
    }
}

/// How rows are to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// For people.
    Table,
    /// One array of objects.
    Json,
    /// A line for each row.
    Template(&'a [Part]),
}

impl Shape<'_> {
    /// The rows as text; `table` is for people.
    ///
    /// # Errors
    /// A row can't be JSON.
    pub(super) fn text<T: Serialize>(
        self,
        rows: &[T],
        table: impl FnOnce() -> String,
    ) -> Result<String, serde_json::Error> {
        match self {
            Self::Table => Ok(table()),
            Self::Json => Ok(serde_json::to_string_pretty(rows)? + "\n"),
            Self::Template(parts) => {
                let mut text = String::new();
                for row in rows {
                    fill(&mut text, parts, &serde_json::to_value(row)?);
                    text.push('\n');
                }
                Ok(text)
            }
        }
    }
}

/// What `--format` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Table,
    Json,
    Template(Vec<Part>),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// As it is.
    Text(String),
    /// The value of a key; dots lead into objects.
    Key(String),
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    #[error("it names no key; write one in braces, like {{name}}, or `table` or `json`")]
    NoKey,
    #[error("the brace before \"{0}\" is never closed; a brace itself is written {{{{")]
    Open(String),
    #[error("a brace is closed that was never opened; a brace itself is written }}}}")]
    Closed,
    #[error("there is no key in {{}}; write one, like {{name}}")]
    Empty,
    #[error("Go templates aren't understood; write {{{0}}}")]
    Go(String),
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "table" => return Ok(Self::Table),
            "json" => return Ok(Self::Json),
            _ => {}
        }
        // As of other programs that list containers, by people who come from there.
        if let Some((_, rest)) = text.split_once("{{")
            && let Some((word, _)) = rest.split_once("}}")
            && let Some(key) = word.trim().strip_prefix('.')
        {
            return Err(FormatError::Go(key.to_lowercase()));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '{' if chars.next_if_eq(&'{').is_some() => plain.push('{'),
                '}' if chars.next_if_eq(&'}').is_some() => plain.push('}'),
                '}' => return Err(FormatError::Closed),
                '{' => {
                    let rest: String = chars.clone().collect();
                    let Some((key, _)) = rest.split_once('}') else { return Err(FormatError::Open(rest)) };
                    // `by_ref` goes on after the brace that is taken last.
                    chars.by_ref().take_while(|char| *char != '}').for_each(drop);
                    let key = key.trim();
                    if key.is_empty() {
                        return Err(FormatError::Empty);
                    }
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Key(key.to_owned()));
                }
                '\\' => match chars.next_if(|next| matches!(next, 't' | 'n' | '\\')) {
                    Some('t') => plain.push('\t'),
                    Some('n') => plain.push('\n'),
                    _ => plain.push('\\'),
                },
                char => plain.push(char),
            }
        }
        if parts.is_empty() {
            return Err(FormatError::NoKey);
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self::Template(parts))
    }
}

/// A template names a key that the rows don't have.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` in --format is not a key of this list{hint}")]
struct NoSuchKey {
    key: String,
    hint: String,
}

fn check(key: &str, keys: &[&str]) -> Result<(), NoSuchKey> {
    // An object as a whole is a key, too.
    let is_known =
        |known: &&str| *known == key || known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    if keys.iter().any(is_known) {
        return Ok(());
    }
    let hint = match nearest(key, keys.iter().copied()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; there are {}", keys.join(", ")),
    };
    Err(NoSuchKey { key: key.to_owned(), hint })
}

fn fill(text: &mut String, parts: &[Part], row: &Value) {
    for part in parts {
        match part {
            Part::Text(plain) => text.push_str(plain),
            Part::Key(key) => {
                let value = key.split('.').try_fold(row, |value, key| value.get(key));
                text.push_str(&shown(value.unwrap_or(&Value::Null)));
            }
        }
    }
}

/// A value as a field of a line.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        Value::Array(values) => {
            let mut text = String::new();
            for value in values {
                let gap = if text.is_empty() { "" } else { " " };
                let _ = write!(text, "{gap}{}", shown(value));
            }
            text
        }
        other => other.to_string(),
    };
    if text.is_empty() { "-".to_owned() } else { text }
}

/// The keys of a row, with those of objects in it, as [`Form::shape`] takes them; of a list's values none.
#[cfg(test)]
pub(super) fn keys_of(row: &impl Serialize) -> Vec<String> {
    fn walk(value: &Value, above: &str, keys: &mut Vec<String>) {
        let Value::Object(fields) = value else { return keys.push(above.to_owned()) };
        for (key, value) in fields {
            let key = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
            walk(value, &key, keys);
        }
    }
    let mut keys = Vec::new();
    walk(&serde_json::to_value(row).unwrap_or_default(), "", &mut keys);
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEYS: &[&str] = &["name", "memory", "ports", "disk.own", "disk.shared", "pinned"];

    fn line(template: &str, row: Value) -> String {
        let form = Form { json: false, format: Some(template.parse().expect("a template")) };
        let shape = form.shape(KEYS).expect("known keys");
        shape.text(&[row], || unreachable!("no table was asked for")).expect("text")
    }

    #[test]
    fn lines() {
        let row = json!({
            "name": "web\u{1b}[1m", "memory": 12, "ports": ["80:80/tcp", "53:53/udp"],
            "disk": { "own": 1, "shared": null }, "pinned": false,
        });
        for (template, expected) in [
            ("{name} {memory}", "web[1m 12\n"),
            ("{ name }\\t{ports}\\\\", "web[1m\t80:80/tcp 53:53/udp\\\n"),
            ("{{{disk.own}}} {disk.shared} {pinned}", "{1} - false\n"),
            ("{disk}", "{\"own\":1,\"shared\":null}\n"),
            ("a\\nb\\x {memory}", "a\nb\\x 12\n"),
        ] {
            assert_eq!(line(template, row.clone()), expected, "{template}");
        }
        // What isn't there, and what is empty, is a field all the same.
        assert_eq!(line("{name}|{ports}|{disk.own}", json!({ "name": "", "ports": [] })), "-|-|-\n");
    }

    #[test]
    fn what_is_no_template() {
        for (text, error) in [
            ("", FormatError::NoKey),
            ("name", FormatError::NoKey),
            ("{{name}}", FormatError::NoKey),
            ("{name", FormatError::Open("name".to_owned())),
            ("name}", FormatError::Closed),
            ("{}", FormatError::Empty),
            ("{{.Name}}", FormatError::Go("name".to_owned())),
            ("table {{ .Names }}", FormatError::Go("names".to_owned())),
        ] {
            assert_eq!(text.parse::<Format>(), Err(error), "{text}");
        }
    }

    #[test]
    fn keys_are_checked_before_anything_is_done() {
        let asked = |template: &str| {
            let form = Form { json: false, format: Some(template.parse().expect("a template")) };
            form.shape(KEYS).map(drop).map_err(|failure| failure.text())
        };
        assert_eq!(asked("{name}{disk}{disk.own}"), Ok(()));
        let said = asked("{nmae}").expect_err("unknown");
        assert_eq!(said, "error: `nmae` in --format is not a key of this list; did you mean `name`?\n");
        let said = asked("{zzz}").expect_err("unknown");
        assert!(said.ends_with("; there are name, memory, ports, disk.own, disk.shared, pinned\n"), "{said}");
        // Not the start of a word.
        assert!(asked("{na}").is_err());
    }

    #[test]
    fn shapes() {
        let shape = |json, format: Option<&str>| {
            let form = Form { json, format: format.map(|text| text.parse().expect("a format")) };
            form.shape(KEYS).map(|shape| shape.text(&[1], || "table".to_owned()).expect("text"))
        };
        assert_eq!(shape(false, None).expect("a shape"), "table");
        assert_eq!(shape(false, Some("table")).expect("a shape"), "table");
        for (json, format) in [(true, None), (false, Some("json"))] {
            assert_eq!(shape(json, format).expect("a shape"), "[\n  1\n]\n");
        }
    }
}
