//! `wharf keys`: what can be written in files, from the tables of keys.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use super::format::Form;
use super::output::{Exit, Failure, print};
use crate::spec::keys::{ALL, Default, Key, Vocabulary};
use crate::spec::nearest;

const AFTER_HELP: &str = "\
Examples:
  wharf keys
  wharf keys mounts
  wharf keys trust
  wharf keys --json | jq -r '.[].key'
  wharf keys --format '{key}: {takes}' limits

JSON: an array of objects, one per key, with the keys
  file             where it is written, below /etc/wharf
  key              its path; `*` is a name that you choose
  takes            what stands behind it, in words
  default          what holds without it, in TOML, or null
  without          what holds without it, in words, or null; with neither, it must be written
  doc, example     text

Exit status: 0 they are shown; 1 there is no such key; 2 for wrong usage.";

/// Show what can be written in the files of containers and images, and in wharf.toml
///
/// Every key with what it takes, what holds without it, and an example. The same table is what files are
/// checked by.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct KeysArgs {
    /// Only this key and those below it, like `limits` or `stop.signal`
    #[arg(value_name = "KEY")]
    below: Option<String>,
    #[command(flatten)]
    form: Form,
}

/// One key, as shown. The keys are documented in `--help` and stay.
#[derive(Serialize)]
struct Shown {
    file: &'static str,
    key: &'static str,
    takes: String,
    default: Option<&'static str>,
    without: Option<&'static str>,
    doc: &'static str,
    example: &'static str,
}

/// Those of [`Shown`]; they are no keys of a file.
const COLUMNS: &[&str] = &["file", "key", "takes", "default", "without", "doc", "example"];

impl Shown {
    fn new(vocabulary: &Vocabulary, key: &Key) -> Self {
        let Key { path, kind, default, doc, example } = key;
        let (default, without) = match default {
            Default::Required => (None, None),
            Default::Is(value) => (Some(*value), None),
            Default::Words(words) => (None, Some(*words)),
        };
        Self { file: vocabulary.file, key: path, takes: kind.expected(), default, without, doc, example }
    }
}

/// There is no such key.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` is not a key of any file{}", .near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
struct NoKey {
    key: String,
    near: Option<&'static str>,
}

/// Runs the command.
pub fn run(args: &KeysArgs) -> Result<Exit, Failure> {
    let KeysArgs { below, form } = args;
    let shape = form.shape(COLUMNS)?;
    let keys: Vec<Shown> = ALL
        .iter()
        .flat_map(|vocabulary| vocabulary.keys.iter().map(move |key| (vocabulary, key)))
        .filter(|(_, key)| below.as_deref().is_none_or(|table| is_in(key, table)))
        .map(|(vocabulary, key)| Shown::new(vocabulary, key))
        .collect();
    if let Some(key) = below.as_ref().filter(|_| keys.is_empty()) {
        let all = ALL.iter().flat_map(|vocabulary| vocabulary.keys).map(|key| key.path);
        return Err(NoKey { key: key.clone(), near: nearest(key, all) }.into());
    }
    print(&shape.text(&keys, || people(&keys))?)?;
    Ok(Exit::Done)
}

fn is_in(key: &Key, table: &str) -> bool {
    key.path.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn people(keys: &[Shown]) -> String {
    let mut text = String::new();
    let mut within = "";
    for Shown { file, key, takes, default, without, doc, example } in keys {
        let gap = if text.is_empty() { "" } else { "\n" };
        if *file != within {
            within = file;
            let _ = writeln!(text, "{gap}# {file}");
        }
        let absent = match (default, without) {
            (Some(value), _) => format!("default: {value}"),
            (None, Some(words)) => format!("without it: {words}"),
            (None, None) => "must be written".to_owned(),
        };
        let _ = writeln!(text, "{gap}{key}: {takes} ({absent})");
        paragraph(&mut text, doc);
        let _ = writeln!(text, "        {example}");
    }
    text
}

/// Indented, and at most 80 columns wide where words allow it.
fn paragraph(text: &mut String, words: &str) {
    const INDENT: &str = "    ";
    const WIDTH: usize = 80;
    let mut line = INDENT.to_owned();
    for word in words.split_whitespace() {
        if line.len() > INDENT.len() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = INDENT.to_owned();
        }
        if line.len() > INDENT.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let shown = Shown::new(ALL[0], &ALL[0].keys[0]);
        let mut columns = COLUMNS.to_vec();
        columns.sort_unstable();
        assert_eq!(columns, crate::cli::format::keys_of(&shown));
    }
}
