//! What can go wrong with a throwaway machine, each with what was being done.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::Output;

/// The result of everything that is done to a machine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure around a machine; what failed is in the variant, why in `source()`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file operation of ours.
    #[error("cannot {what}")]
    Io {
        /// What was being done, as in "cannot …".
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program that builds or starts machines ended badly.
    #[error("{program} failed ({status}):\n{}", .output.trim_end())]
    Tool {
        /// The program's name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    /// A machine did not come up.
    #[error("the machine did not come up: {why}; the end of its console:\n{console}")]
    Boot {
        /// What was waited for.
        why: String,
        /// The last lines of its console.
        console: String,
    },
    /// Something took longer than it may.
    #[error("{what} was not done after {after:?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// A command in the machine that had to succeed did not.
    #[error("`{line}` in the machine exited {}\n--- stdout ---\n{}\n--- stderr ---\n{}", .output.code, .output.stdout.trim_end(), .output.stderr.trim_end())]
    Failed {
        /// The command line.
        line: String,
        /// What it said.
        output: Output,
    },
    /// The machine was not running, or went away under a command.
    #[error("the machine is not there for `{0}`: it is off, or it went away")]
    Gone(String),
    /// A machine of that name is there already, or none is.
    #[error("{name}: {why} ({})", .dir.display())]
    Named {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
        /// Where it would be.
        dir: PathBuf,
    },
}

/// Puts words to an `io::Error`.
pub trait Context<T> {
    /// `what` completes the sentence "cannot …".
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::Io { what: what().into(), source: error.into() })
    }
}

/// The whole chain of an error, in one line per cause.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n  because: {error}"));
        cause = error.source();
    }
    text
}
