//! `wharf exec` and `wharf shell`: one more program in a running container.
//!
//! What is asked is checked here and the container looked up; then this process turns into the executor, which
//! is small and has one thread.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;

use super::declared::{Declared, DeclaredError};
use super::output::{Exit, Failure};
use crate::bus::{Systemd, UnitStatus};
use crate::exec::{Program, Request, User, variable, working_directory};
use crate::host::Paths;
use crate::spec::ContainerName;

const AFTER_EXEC: &str = "\
Examples:
  wharf exec nginx ls -l /etc/nginx
  wharf exec nginx -- nginx -t
  wharf exec --user postgres db psql
  wharf exec db pg_dump app >app.sql
  wharf exec db psql app <app.sql

The program runs as the container's own does: the same user, environment, working directory, limits and \
privileges. Where standard input and output are terminals it gets a terminal of its own; else it has the \
caller's standard streams themselves, but for a terminal as standard input, which would stay with what the \
program leaves behind: it reads nothing then. Signals are passed on to it, and it is killed when this command is.

Exit status:
  the program's own; 128 and the signal's number where a signal ended it
  125  it could not be tried: no such container, not running, a wrong option
  126  the program is there and can't be run
  127  the program isn't there";

const AFTER_SHELL: &str = "\
Examples:
  wharf shell nginx
  wharf shell --user root nginx
  wharf shell nginx <commands.sh

It is the shell of the user in the image's /etc/passwd, else /bin/bash, else /bin/sh. Without a terminal it \
reads commands from standard input.

Exit status: as of `wharf exec`; 127 where the image has no shell.";

/// How a program is run, for both commands.
#[derive(Args)]
struct How {
    /// As this user of the image's, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// With one more variable; may be given again
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// In this directory of the container
    #[arg(short, long, value_name = "DIR")]
    working_directory: Option<String>,
    /// With a terminal, whatever the standard streams are
    #[arg(short, long, overrides_with = "no_terminal")]
    terminal: bool,
    /// Without a terminal
    #[arg(short = 'T', long, overrides_with = "terminal")]
    no_terminal: bool,
    /// Standard input is always there; for those who type -it
    #[arg(short, long, hide = true)]
    interactive: bool,
}

/// Run a program in a running container
#[derive(Args)]
#[command(after_help = AFTER_EXEC)]
pub struct ExecArgs {
    #[command(flatten)]
    how: How,
    /// The container
    name: ContainerName,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Open a shell in a running container
#[derive(Args)]
#[command(after_help = AFTER_SHELL)]
pub struct ShellArgs {
    #[command(flatten)]
    how: How,
    /// The container
    name: ContainerName,
}

/// Why a container can't be entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecError {
    #[error("only root can enter a container; try sudo")]
    NotRoot,
    #[error("containers below another root don't run here; leave --root and WHARF_ROOT out")]
    OtherRoot,
    #[error("{name} is not running{state}; start it: systemctl start {unit}")]
    NotRunning { name: ContainerName, state: String, unit: String },
    #[error("{name} is still being started; systemctl status {unit} says how far it is")]
    Starting { name: ContainerName, unit: String },
}

/// Runs `wharf exec`.
pub fn exec(args: ExecArgs, paths: &Paths) -> Result<Exit, Failure> {
    let ExecArgs { how, name, command } = args;
    let program = Program::command(&command).map_err(Failure::from);
    let outcome = program.and_then(|program| enter(name, how, program, paths));
    Err(match outcome {
        Ok(never) => match never {},
        Err(failure) => failure.ending(Exit::NotEntered),
    })
}

/// Runs `wharf shell`.
pub fn shell(args: ShellArgs, paths: &Paths) -> Result<Exit, Failure> {
    let ShellArgs { mut how, name } = args;
    // Who types commands wants to, wherever the answers go.
    how.terminal |= !how.no_terminal && rustix::termios::isatty(std::io::stdin());
    match enter(name, how, Program::Shell, paths) {
        Ok(never) => match never {},
        Err(failure) => Err(failure.ending(Exit::NotEntered)),
    }
}

/// Whether a command line is of one of these commands, which have an exit status of their own for a wrong one:
/// the usual 2 would be taken for the program's.
pub fn is_meant(arguments: impl Iterator<Item = OsString>) -> bool {
    let mut arguments = arguments.skip(1).skip_while(|word| word.as_bytes().starts_with(b"-"));
    arguments.next().is_some_and(|word| ["exec", "shell", "run"].iter().any(|meant| word == *meant))
}

fn enter(container: ContainerName, how: How, program: Program, paths: &Paths) -> Result<Infallible, Failure> {
    let How { user, env, working_directory: directory, terminal, no_terminal, interactive: _ } = how;
    if container.is_template() {
        return Err(DeclaredError::Template(container).into());
    }
    let mut request = Request {
        container,
        main: 0,
        program,
        user: user.as_deref().map(User::parse).transpose()?,
        environment: env.iter().map(|text| variable(text)).collect::<Result<_, _>>()?,
        working_directory: directory.as_deref().map(working_directory).transpose()?,
        terminal: (terminal || no_terminal).then_some(terminal),
    };
    here_as_root(paths)?;
    request.main = main_process(&request.container, paths)?;
    Err(request.exec().into())
}

/// Containers run on this host, and only root can look into one.
pub(super) fn here_as_root(paths: &Paths) -> Result<(), Failure> {
    if !paths.are_this_hosts() {
        return Err(ExecError::OtherRoot.into());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(ExecError::NotRoot.into());
    }
    Ok(())
}

/// The main process of a container's unit, which is its first process.
pub(super) fn main_process(name: &ContainerName, paths: &Paths) -> Result<i32, Failure> {
    Ok(look_for_main(name, paths)??)
}

/// The same; why there is none is told apart from what else can fail.
pub(super) fn look_for_main(name: &ContainerName, paths: &Paths) -> Result<Result<i32, ExecError>, Failure> {
    let unit = name.unit();
    let status = Systemd::connect()?.units(&[&unit], |_, _| true)?.into_iter().next().unwrap_or_default();
    let UnitStatus { active, sub, pid, .. } = status;
    match pid.and_then(|pid| i32::try_from(pid).ok()) {
        // It may run though its file is gone, and then it can be entered.
        Some(pid) => return Ok(Ok(pid)),
        None => Declared::list(paths)?.unit_of(name)?,
    };
    let unit = unit.strip_suffix(".service").unwrap_or(&unit).to_owned();
    let name = name.clone();
    Ok(Err(match (active.as_str(), sub.as_str()) {
        ("activating", "auto-restart") => {
            ExecError::NotRunning { name, state: " (it is about to be restarted)".to_owned(), unit }
        }
        ("activating", _) => ExecError::Starting { name, unit },
        ("failed", _) => ExecError::NotRunning { name, state: " (it failed)".to_owned(), unit },
        _ => ExecError::NotRunning { name, state: String::new(), unit },
    }))
}
