//! What `wharf exec` and `wharf shell` ask of the executor, and how it stands on the executor's command line:
//! the command writes it with [`Request::arguments`], the executor reads it with [`Request::parse`], which
//! takes nothing else.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::check::{UserName, UserNameError};
use crate::plan::unit::EXECUTOR;
use crate::spec::{ContainerName, NameError};
use crate::sys::{self, process};

/// What to run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In which container.
    pub container: ContainerName,
    /// Its unit's main process, as systemd has it.
    pub main: i32,
    /// What.
    pub program: Program,
    /// As somebody else than the container's own program.
    pub user: Option<User>,
    /// More variables, the later over the earlier.
    pub environment: Vec<(String, String)>,
    /// Somewhere else than the container's own program.
    pub working_directory: Option<String>,
    /// With a terminal of its own, or without; as the caller has one where nothing is said.
    pub terminal: Option<bool>,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The program and its arguments; never empty.
    Command(Vec<CString>),
    /// The user's shell, or another that is there.
    Shell,
}

/// A user, and perhaps a group, by the names or numbers that the container has for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// As typed.
    text: String,
    /// The user.
    pub user: UserName,
    /// The group; the user's own where none is given.
    pub group: Option<UserName>,
}

/// Why this can't be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No container has such a name.
    #[error("`{0}` can't be a container's name")]
    Name(String, #[source] NameError),
    /// No process has such an id.
    #[error("`{0}` is no process id")]
    Process(String),
    /// No user, or no group.
    #[error("--user takes a name or a number, or either with `:` and a group")]
    User(#[source] UserNameError),
    /// No assignment.
    #[error("--env takes NAME=VALUE; a name isn't empty and has no control characters")]
    Variable,
    /// Not from the root on.
    #[error("--working-directory takes an absolute path, and `{0}` is none")]
    WorkingDirectory(String),
    /// An empty command.
    #[error("there is nothing to run")]
    NoProgram,
    /// C's strings can't hold it.
    #[error("an argument holds a zero byte")]
    ZeroByte,
    /// Bytes that are no text, where text is wanted.
    #[error("`{0}` is not UTF-8")]
    NoText(String),
    /// Anything else.
    #[error("unknown argument `{0}`")]
    Unknown(String),
    /// The line is too short.
    #[error("{0} is missing")]
    Missing(&'static str),
}

impl User {
    /// `USER` or `USER:GROUP`.
    ///
    /// # Errors
    /// [`RequestError::User`]; also for an empty part, which must not come to mean user 0.
    pub fn parse(text: &str) -> Result<Self, RequestError> {
        let read = |part| UserName::checked(part).map_err(RequestError::User);
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (read(user)?, Some(read(group)?)),
            None => (read(text)?, None),
        };
        Ok(Self { text: text.to_owned(), user, group })
    }
}

/// `NAME=VALUE`.
///
/// # Errors
/// [`RequestError::Variable`].
pub fn variable(text: &str) -> Result<(String, String), RequestError> {
    let (name, value) = text.split_once('=').ok_or(RequestError::Variable)?;
    if name.is_empty() || name.chars().any(char::is_control) || value.contains('\0') {
        return Err(RequestError::Variable);
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A directory inside.
///
/// # Errors
/// [`RequestError::WorkingDirectory`].
pub fn working_directory(text: &str) -> Result<String, RequestError> {
    if text.starts_with('/') && !text.contains('\0') {
        Ok(text.to_owned())
    } else {
        Err(RequestError::WorkingDirectory(text.to_owned()))
    }
}

impl Program {
    /// A program and its arguments.
    ///
    /// # Errors
    /// [`RequestError::NoProgram`], [`RequestError::ZeroByte`].
    pub fn command<S: AsRef<OsStr>>(words: &[S]) -> Result<Self, RequestError> {
        let words: Vec<CString> = words
            .iter()
            .map(|word| CString::new(word.as_ref().as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(|_| RequestError::ZeroByte)?;
        match words.first() {
            Some(first) if !first.is_empty() => Ok(Self::Command(words)),
            _ => Err(RequestError::NoProgram),
        }
    }
}

const USER: &str = "--user";
const VARIABLE: &str = "--env";
const DIRECTORY: &str = "--working-directory";
const TERMINAL: &str = "--terminal";
const NO_TERMINAL: &str = "--no-terminal";
const SHELL: &str = "--shell";

impl Request {
    /// Turns this process into the executor, which does what is asked: by way of a mount of its file that can't be
    /// written. Returns only to say why not.
    pub fn exec(&self) -> sys::Error {
        let words = [OsString::from(EXECUTOR), "enter".into()].into_iter().chain(self.arguments());
        process::exec_unwritable(Path::new(EXECUTOR), &c_strings(words), &c_strings(environment()))
    }

    /// The executor's arguments, after the verb.
    pub fn arguments(&self) -> Vec<OsString> {
        let Self { container, main, program, user, environment, working_directory, terminal } = self;
        let mut words: Vec<OsString> = vec![container.as_str().into(), main.to_string().into()];
        let mut option = |name: &str, value: &str| words.extend([name.into(), value.into()]);
        if let Some(user) = user {
            option(USER, &user.text);
        }
        for (name, value) in environment {
            option(VARIABLE, &format!("{name}={value}"));
        }
        if let Some(directory) = working_directory {
            option(DIRECTORY, directory);
        }
        if let Some(terminal) = terminal {
            words.push(if *terminal { TERMINAL } else { NO_TERMINAL }.into());
        }
        match program {
            Program::Shell => words.push(SHELL.into()),
            Program::Command(command) => {
                words.push("--".into());
                words.extend(command.iter().map(|word| OsStr::from_bytes(word.to_bytes()).to_owned()));
            }
        }
        words
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, RequestError> {
        let mut arguments = arguments.into_iter();
        let mut next = |what| text(arguments.next().ok_or(RequestError::Missing(what))?);
        let name = next("the container")?;
        let container = name.parse().map_err(|error| RequestError::Name(name, error))?;
        let main = next("the main process")?;
        let main = main.parse().ok().filter(|pid| *pid > 0).ok_or(RequestError::Process(main))?;
        let (mut user, mut environment, mut directory, mut terminal) = (None, Vec::new(), None, None);
        let program = loop {
            match next("the program")?.as_str() {
                USER => user = Some(User::parse(&next("the user")?)?),
                VARIABLE => environment.push(variable(&next("the variable")?)?),
                DIRECTORY => directory = Some(working_directory(&next("the directory")?)?),
                TERMINAL => terminal = Some(true),
                NO_TERMINAL => terminal = Some(false),
                SHELL => break Program::Shell,
                "--" => break Program::command(&arguments.by_ref().collect::<Vec<_>>())?,
                other => return Err(RequestError::Unknown(other.to_owned())),
            }
        };
        match arguments.next() {
            Some(more) => Err(RequestError::Unknown(more.to_string_lossy().into_owned())),
            None => Ok(Self {
                container,
                main,
                program,
                user,
                environment,
                working_directory: directory,
                terminal,
            }),
        }
    }
}

fn text(word: OsString) -> Result<String, RequestError> {
    word.into_string().map_err(|word| RequestError::NoText(word.to_string_lossy().into_owned()))
}

/// The caller's own, as it is.
fn environment() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(mut line, value)| {
        line.push("=");
        line.push(value);
        line
    })
}

/// Neither arguments nor variables can have a zero byte: they came from C's strings.
fn c_strings(words: impl Iterator<Item = OsString>) -> Vec<CString> {
    words.filter_map(|word| CString::new(word.into_vec()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn parse(words: &[&str]) -> Result<Request, RequestError> {
        Request::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn there_and_back() {
        let odd = OsString::from_vec(vec![b'-', 0xff]);
        let requests = [
            Request {
                container: "web@blue".parse().expect("a name"),
                main: 42,
                program: Program::command(&["sh".into(), "--user".into(), odd]).expect("a command"),
                user: Some(User::parse("www-data:4").expect("a user")),
                environment: vec![("A".into(), "b=c".into()), ("B".into(), String::new())],
                working_directory: Some("/srv".into()),
                terminal: Some(false),
            },
            Request {
                container: "nginx".parse().expect("a name"),
                main: 1,
                program: Program::Shell,
                user: None,
                environment: Vec::new(),
                working_directory: None,
                terminal: None,
            },
        ];
        for request in requests {
            assert_eq!(Request::parse(request.arguments()), Ok(request));
        }
    }

    #[test]
    fn nothing_else() {
        for words in [
            &[][..],
            &["nginx"],
            &["nginx", "0", "--", "ls"],
            &["nginx", "-1", "--", "ls"],
            &["../x", "1", "--", "ls"],
            &["nginx", "1"],
            &["nginx", "1", "ls"],
            &["nginx", "1", "--"],
            &["nginx", "1", "--", ""],
            &["nginx", "1", "--shell", "more"],
            &["nginx", "1", "--user", "--", "ls"],
            &["nginx", "1", "--env", "A", "--", "ls"],
            &["nginx", "1", "--env", "=b", "--", "ls"],
            &["nginx", "1", "--working-directory", "srv", "--", "ls"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn users() {
        for bad in
            ["", ":", "root:", ":root", "65536", "4294967296", "-1", "+0", "0 ", " 0", "0:0:0", "a/b", "0x0,"]
        {
            assert!(User::parse(bad).is_err(), "{bad:?}");
        }
        let user = User::parse("0x0:65535").expect("a name and a number");
        assert_eq!((user.user, user.group), (UserName::Name("0x0".into()), Some(UserName::Id(65535))));
    }
}
