//! Findings: what is wrong with a file, where, and what to write instead.
//!
//! Pure. A [`Finding`] is data until the edge, where it becomes text with a caret ([`render`]), one line for
//! the kernel's log or a unit's description ([`Finding::line`]), or JSON ([`json`]).

mod json;
mod text;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use json::{Report, ReportedFinding, json};
pub use text::{Style, render};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The container can't run as its files stand.
    Error,
    /// It runs, but probably not as meant.
    Warning,
    /// Worth knowing for who asks; never logged.
    Note,
}

/// One file: its path as people know it, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path shown in findings.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

impl Source {
    /// A file to find things in.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into() })
    }

    /// Line and column of a byte, both counted from 1, columns in characters.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..byte.min(self.text.len())];
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        (line, column)
    }

    /// The name of the file without its folder, for one-line forms.
    pub fn file_name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// Bytes of its text; nothing where the file as a whole is meant.
    pub span: Option<Range<usize>>,
}

impl Place {
    /// Some bytes of a file.
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        Self { source: Arc::clone(source), span: Some(span) }
    }

    /// The file as a whole.
    pub fn file(source: &Arc<Source>) -> Self {
        Self { source: Arc::clone(source), span: None }
    }
}

/// Something to tell the administrator about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Where.
    pub place: Place,
    /// What is the matter, in one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding of a level, without a hint.
    pub fn new(level: Level, place: Place, message: impl Into<String>) -> Self {
        Self { level, place, message: one_line(&message.into()), hint: None }
    }

    /// An error.
    pub fn error(place: Place, message: impl Into<String>) -> Self {
        Self::new(Level::Error, place, message)
    }

    /// A warning.
    pub fn warning(place: Place, message: impl Into<String>) -> Self {
        Self::new(Level::Warning, place, message)
    }

    /// A note.
    pub fn note(place: Place, message: impl Into<String>) -> Self {
        Self::new(Level::Note, place, message)
    }

    /// The same, with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(one_line(&hint.into()));
        self
    }

    /// One line, with the whole path: for the kernel's log.
    pub fn line(&self) -> String {
        self.with_path(&self.place.source.path.display().to_string())
    }

    /// One line, with the file's name only: for a unit's description.
    pub fn short_line(&self) -> String {
        self.with_path(&self.place.source.file_name())
    }

    fn with_path(&self, path: &str) -> String {
        let place = match &self.place.span {
            Some(span) => {
                let (line, column) = self.place.source.position(span.start);
                format!("{path}:{line}:{column}")
            }
            None => path.to_owned(),
        };
        match &self.hint {
            Some(hint) => one_line(&format!("{place}: {} (hint: {hint})", self.message)),
            None => one_line(&format!("{place}: {}", self.message)),
        }
    }

    /// Its order among others: by file, then by place.
    fn key(&self) -> (&Path, usize, Level, &str) {
        // What is missing comes after what is there: it often follows from it.
        let start = self.place.span.as_ref().map_or(usize::MAX, |span| span.start);
        (&self.place.source.path, start, self.level, &self.message)
    }
}

/// Puts findings in the order of the files and of their lines.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| a.key().cmp(&b.key()));
}

/// Whether one of them is an error.
pub fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Error)
}

/// What people write can hold anything; a message is one line, and no terminal or log obeys it.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        let source = Source::new("/etc/wharf/containers/nginx.toml", "image = \"x\"\n[limits]\nmemroy = 1\n");
        Finding::error(Place::new(&source, 21..27), "`memroy` is not a key of [limits]")
            .hint("did you mean `memory`?")
    }

    #[test]
    fn forms() {
        let shown = render(&[finding()], Style::Plain);
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "error: `memroy` is not a key of [limits]");
        assert!(lines[1].ends_with("--> /etc/wharf/containers/nginx.toml:3:1"), "{shown}");
        assert!(shown.contains("^^^^^^"), "{shown}");
        assert!(shown.contains("hint: did you mean `memory`?"), "{shown}");
        assert!(render(&[finding()], Style::Coloured).contains("\u{1b}["));
        assert_eq!(
            finding().short_line(),
            "nginx.toml:3:1: `memroy` is not a key of [limits] (hint: did you mean `memory`?)"
        );
    }

    #[test]
    fn json_has_places() {
        let value: serde_json::Value = serde_json::from_str(&json(&[finding()])).expect("JSON");
        assert_eq!(value["findings"][0]["line"], 3);
        assert_eq!(value["findings"][0]["level"], "error");
        assert_eq!(value["errors"], 1);
    }

    #[test]
    fn columns_are_characters() {
        let source = Source::new("x", "é = 1\né = 2");
        assert_eq!(source.position(3), (1, 3));
        assert_eq!(source.position(10), (2, 3));
        assert_eq!(source.position(1_000), (2, 6));
    }

    #[test]
    fn control_characters_never_get_through() {
        let source = Source::new("x", "a");
        let finding = Finding::error(Place::file(&source), "a\u{1b}[2J\nb");
        assert_eq!(finding.message, "a\u{fffd}[2J\u{fffd}b");
    }
}
