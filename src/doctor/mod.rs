//! What containers need of a host, looked at and judged: `wharf doctor`, and what a bug report starts with.
//!
//! | module | does |
//! |---|---|
//! | [`facts`] | plain data: what was found |
//! | [`look`] | finds it, by files, the kernel's calls and trials that leave nothing; each within a limit of time |
//! | [`judge`] | pure: what each fact means for containers, and the way out |
//! | [`redact`] | pure: texts without what is secret in them, for reports |
//!
//! What only D-Bus knows is asked by the command, and is a fact as any other.

pub mod facts;
pub mod judge;
pub mod look;
pub mod redact;

use serde::Serialize;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing to do.
    Ok,
    /// Worth knowing.
    Note,
    /// Containers run, but something of them doesn't work, or won't for long.
    Warning,
    /// Containers don't start, or have failed.
    Error,
}

impl State {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What, in a word or two.
    pub topic: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found, in one line.
    pub message: String,
    /// What to do about it; always there where it doesn't stand well.
    pub hint: Option<String>,
}

impl Line {
    /// All is well.
    pub fn ok(topic: &'static str, message: impl Into<String>) -> Self {
        Self { topic, state: State::Ok, message: message.into(), hint: None }
    }

    /// Worth knowing, and what to do for who minds.
    pub fn note(topic: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { topic, state: State::Note, message: message.into(), hint: Some(hint.into()) }
    }

    /// Something doesn't work, and the way out.
    pub fn warning(topic: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { topic, state: State::Warning, message: message.into(), hint: Some(hint.into()) }
    }

    /// Containers are stopped by it, and the way out.
    pub fn error(topic: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { topic, state: State::Error, message: message.into(), hint: Some(hint.into()) }
    }
}

/// Bytes in units of 1000, as disks are sold and `df -H` counts.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A few names in words, and how many more there are.
pub(crate) fn few<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `1 container`, `2 containers`.
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
