//! `wharf image login` and `wharf image logout`.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::LocalModes;

use crate::cli::output::{Failure, complain};
use crate::host::Paths;
use crate::registry::{Client, Credentials, Login, Secret, forget, keep, own_file, verify};
use crate::settings::Settings;
use crate::sys::signals::Signals;
use crate::sys::terminal;

/// More than this is no name and no password.
const LINE_MAX: usize = 64 << 10;

/// Where to log in, and as whom.
#[derive(Args, Debug)]
pub(super) struct LoginArgs {
    /// The registry: docker.io, registry.example:5000
    #[arg(value_name = "HOST")]
    registry: String,
    /// The name; asked for where it isn't given
    #[arg(long, short, value_name = "NAME")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// The file to keep it in, instead of /etc/wharf/auth.json
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
}

/// Where to log out.
#[derive(Args, Debug)]
pub(super) struct LogoutArgs {
    /// The registry
    #[arg(value_name = "HOST")]
    registry: String,
    /// The file to take it out of, instead of /etc/wharf/auth.json
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(
        "can't ask for it, as there is no terminal; give the name by --username and the password by --password-stdin"
    )]
    NoTerminal(#[source] io::Error),
    #[error("can't read {0}")]
    Read(&'static str, #[source] io::Error),
    #[error("{0} is empty")]
    Empty(&'static str),
    #[error("interrupted; nothing was changed")]
    Interrupted,
}

/// A host as people write it or copy it from a browser.
fn host(text: &str) -> Result<String, Failure> {
    let host = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
    if host.is_empty() || !host.bytes().all(good) {
        return Err(Failure::usage(format!(
            "`{text}` is no registry; write its host, such as registry.example:5000"
        )));
    }
    Ok(match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_ascii_lowercase(),
    })
}

pub(super) fn login(settings: Settings, paths: &Paths, args: LoginArgs) -> Result<String, Failure> {
    let LoginArgs { registry, username, password_stdin, auth_file } = args;
    let registry = host(&registry)?;
    let file = auth_file.unwrap_or_else(|| own_file(paths));
    let user = match username {
        Some(user) => user,
        None => ask("the name", &format!("Name at {registry}: "), true)?,
    };
    if user.is_empty() || user.contains(':') {
        return Err(Failure::usage("a name at a registry isn't empty and has no colon"));
    }
    let password = if password_stdin {
        if io::stdin().is_terminal() {
            complain("reading the password from standard input\n");
        }
        piped()?
    } else {
        ask("the password", &format!("Password of {user} at {registry}: "), false)?
    };
    let password = Secret(password);
    let login = Login::Password { user: user.clone(), password: password.clone() };
    let client = Client::new(settings, Credentials::default().with(&registry, login), Arc::new(()));
    verify(&client, &registry)?;
    keep(&file, &registry, &user, &password)?;
    Ok(format!("{registry} knows {user}; kept in {}\n", file.display()))
}

pub(super) fn logout(paths: &Paths, args: LogoutArgs) -> Result<String, Failure> {
    let LogoutArgs { registry, auth_file } = args;
    let registry = host(&registry)?;
    let file = auth_file.unwrap_or_else(|| own_file(paths));
    if forget(&file, &registry)? {
        return Ok(format!("the login for {registry} is gone from {}\n", file.display()));
    }
    let text = format!("{} has no login for {registry}", file.display());
    Err(Failure::usage(text).ending(crate::cli::output::Exit::Failed))
}

/// All of standard input without the end of its line.
fn piped() -> Result<String, AskError> {
    let mut text = String::new();
    let read = io::stdin().lock().take(LINE_MAX as u64).read_to_string(&mut text);
    read.map_err(|error| AskError::Read("the password", error))?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() { Err(AskError::Empty("the password")) } else { Ok(text) }
}

/// A line from the terminal, whatever standard input is.
fn ask(what: &'static str, prompt: &str, echo: bool) -> Result<String, AskError> {
    let mut tty = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(AskError::NoTerminal)?;
    let failed = |error: &dyn std::error::Error| AskError::Read(what, io::Error::other(error.to_string()));
    // A terminal must not stay silent because somebody pressed Ctrl-C.
    let signals =
        Signals::take(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP]).map_err(|error| failed(&error))?;
    let modes = terminal::modes(&tty).map_err(|error| failed(&error))?;
    if !echo {
        let mut silent = modes.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        terminal::set_modes(&tty, &silent).map_err(|error| failed(&error))?;
    }
    let mut read = || -> Result<String, AskError> {
        tty.write_all(prompt.as_bytes()).map_err(|error| AskError::Read(what, error))?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") && line.len() < LINE_MAX {
            let mut ready = [PollFd::new(&tty, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
            let _ = poll(&mut ready, None);
            if signals.next().is_some() {
                return Err(AskError::Interrupted);
            }
            if ready[0].revents().is_empty() {
                continue;
            }
            let mut block = [0; 1024];
            match tty.read(&mut block).map_err(|error| AskError::Read(what, error))? {
                0 => break,
                count => line.extend_from_slice(&block[..count]),
            }
        }
        String::from_utf8(line).map_err(|error| AskError::Read(what, io::Error::other(error)))
    };
    let line = read();
    if !echo {
        // Nothing more can be done about a terminal that is gone.
        let _ = terminal::set_modes(&tty, &modes);
    }
    let line = line?.trim_end_matches(['\r', '\n']).to_owned();
    if line.is_empty() { Err(AskError::Empty(what)) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_as_people_write_them() {
        let of = |text| host(text).ok();
        assert_eq!(of("https://Registry.example:5000/").as_deref(), Some("registry.example:5000"));
        assert_eq!(of("index.docker.io").as_deref(), Some("docker.io"));
        assert_eq!(of("registry.example/team"), None);
        assert_eq!(of(""), None);
    }
}
