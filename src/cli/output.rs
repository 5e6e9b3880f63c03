//! What leaves the command: text on stdout, a failure's chain on stderr, an exit status.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;

use crate::image::ImageError;
use crate::registry::RegistryError;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, and nothing found.
    Done,
    /// 1: it failed, or found something.
    Failed,
    /// 2: the command line is wrong.
    Usage,
    /// 125: no program could be run in the container.
    NotEntered,
    /// As a container's program ended, or why it couldn't be run.
    Program(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotEntered => crate::exec::NOT_ENTERED,
            Exit::Program(status) => status,
        })
    }
}

/// An error on its way to the edge, with the exit status that goes with it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// Nothing where nobody is left to read: the pipe that stdout goes to was closed.
    error: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A mistake on the command line.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit: Exit::Usage, error: Some(error.into()) }
    }

    /// One that has been told elsewhere.
    pub fn told(exit: Exit) -> Self {
        Self { exit, error: None }
    }

    /// The same, with another exit status.
    #[must_use]
    pub fn ending(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same; where it is only that nobody read the answer, with the exit status that the answer has.
    #[must_use]
    pub fn unread(self, exit: Exit) -> Self {
        match self.error {
            None => Self { exit, error: None },
            error => Self { error, ..self },
        }
    }

    /// All of it in one line.
    pub(super) fn line(&self) -> String {
        self.error.as_ref().map(|error| chain(error.as_ref())).unwrap_or_default()
    }

    /// What [`Failure::report`] prints, without colours.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.error.as_ref().map(|error| error_text(error.as_ref(), false)).unwrap_or_default()
    }

    /// Prints it, once.
    pub(super) fn report(self) -> Exit {
        if let Some(error) = self.error {
            complain(&error_text(error.as_ref(), coloured(&io::stderr())));
        }
        self.exit
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: Exit::Failed, error: Some(Box::new(error)) }
    }
}

/// stdout can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write to stdout")]
struct StdoutError(#[source] io::Error);

/// Writes a command's whole answer to stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure { exit: Exit::Done, error: None })
        }
        Err(error) => Err(StdoutError(error).into()),
    }
}

/// Writes to stderr what is no answer. Nowhere is left to say that it can't be written.
pub fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Whether to write colours there: on a terminal, unless NO_COLOR says something or TERM says `dumb`.
pub fn coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How many columns the terminal has that standard output is; nothing where it is none, or doesn't say.
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// `error: …` and a `  because …` for each cause.
pub fn error_text(error: &(dyn Error + 'static), colour: bool) -> String {
    let label = if colour { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    let mut text = String::new();
    for (said, lead) in
        causes(error).into_iter().zip(std::iter::once(label).chain(std::iter::repeat("  because")))
    {
        let _ = writeln!(text, "{lead} {}", harmless(&said));
    }
    if is_damage(error) {
        text.push_str("hint: `wharf fsck` looks at all of the store, and `wharf fsck --repair` puts right what can be\n");
    }
    text
}

/// What others have written, images and servers for example, without what a terminal would take for a command.
pub fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// The same for what is one line.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Whether the store isn't what it was.
fn is_damage(error: &(dyn Error + 'static)) -> bool {
    let image = match error.downcast_ref::<RegistryError>() {
        Some(RegistryError::Image(error)) => Some(error),
        _ => error.downcast_ref::<ImageError>(),
    };
    matches!(image, Some(ImageError::Damaged { .. }))
}

/// An error and its causes in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).join(": ")
}

fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push(error.to_string());
        cause = error.source();
    }
    // Some libraries repeat their source's text as their own.
    said.dedup();
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_does_nothing_to_a_terminal() {
        let error = StdoutError(io::Error::other("a\x1b]0;title\x07\r\nb"));
        assert_eq!(error_text(&error, false), "error: can't write to stdout\n  because a]0;title\nb\n");
    }

    #[test]
    fn a_chain_names_each_cause_once() {
        let error = StdoutError(io::Error::other("the disk is full"));
        assert_eq!(error_text(&error, false), "error: can't write to stdout\n  because the disk is full\n");
        assert!(error_text(&error, true).starts_with("\x1b[1;31merror:\x1b[0m can't"));
    }
}
