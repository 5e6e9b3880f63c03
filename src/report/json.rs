//! Findings as JSON, for programs.

use serde::{Deserialize, Serialize};

use super::{Finding, Level};

/// What `wharf check --json` prints, and what the generator leaves in `findings.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many of the findings are errors.
    pub errors: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// All of them, by file and line.
    pub findings: Vec<ReportedFinding>,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedFinding {
    /// `error`, `warning` or `note`.
    pub level: Level,
    /// The file.
    pub file: String,
    /// The line, from 1; nothing where the file as a whole is meant.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The line on which it ends.
    pub end_line: Option<usize>,
    /// The column after its last character.
    pub end_column: Option<usize>,
    /// What is the matter.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Report {
    /// The findings, counted.
    pub fn new(findings: &[Finding]) -> Self {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        Self {
            errors: count(Level::Error),
            warnings: count(Level::Warning),
            findings: findings.iter().map(ReportedFinding::new).collect(),
        }
    }
}

impl ReportedFinding {
    fn new(finding: &Finding) -> Self {
        let Finding { level, place, message, hint } = finding;
        let start = place.span.as_ref().map(|span| place.source.position(span.start));
        let end = place.span.as_ref().map(|span| place.source.position(span.end));
        Self {
            level: *level,
            file: place.source.path.display().to_string(),
            line: start.map(|(line, _)| line),
            column: start.map(|(_, column)| column),
            end_line: end.map(|(line, _)| line),
            end_column: end.map(|(_, column)| column),
            message: message.clone(),
            hint: hint.clone(),
        }
    }
}

/// The findings as a [`Report`] in JSON, with a newline at the end.
pub fn json(findings: &[Finding]) -> String {
    // Strings and numbers only: there is nothing in a report that JSON can't say.
    let mut text = serde_json::to_string_pretty(&Report::new(findings)).unwrap_or_default();
    text.push('\n');
    text
}
