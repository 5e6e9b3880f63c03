//! A failed start, as data: it crosses from the first process to the executor whole, is told once, and ends
//! in the exit status that systemd has a name for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::journal::Kind;
use crate::sys;

/// Exit statuses with systemd's own meanings (systemd.exec(5), "Process Exit Codes"), so that `systemctl
/// status` spells them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// `EXIT_CHDIR`: the working directory.
    Chdir = 200,
    /// `EXIT_EXEC`: the program.
    Exec = 203,
    /// `EXIT_GROUP`: the group.
    Group = 216,
    /// `EXIT_USER`: the user, or the range of ids.
    User = 217,
    /// `EXIT_CAPABILITIES`: capabilities.
    Capabilities = 218,
    /// `EXIT_CGROUP`: the cgroup.
    Cgroup = 219,
    /// `EXIT_NETWORK`: addresses, the interface, published ports.
    Network = 225,
    /// `EXIT_NAMESPACE`: namespaces, the root and what is mounted into it.
    Namespace = 226,
    /// `EXIT_NO_NEW_PRIVILEGES`.
    NoNewPrivileges = 227,
    /// `EXIT_SECCOMP`: the list of system calls.
    Seccomp = 228,
    /// `EXIT_APPARMOR_PROFILE`: the AppArmor profile.
    AppArmor = 231,
    /// `EXIT_CREDENTIALS`: secrets.
    Credentials = 243,
    /// `EXIT_CONFIG` (sysexits(3) 78, which systemd names too): a plan that can't be used.
    Config = 78,
}

impl Status {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a container doesn't start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What ended.
    pub status: Status,
    /// The step, as `wharf plan` shows it; nothing where the steps weren't known yet.
    pub step: Option<String>,
    /// What went wrong.
    pub problem: String,
    /// The way out.
    pub hint: Option<String>,
    /// The program isn't there at all.
    #[serde(default)]
    pub missing: bool,
    /// What the journal's catalogue has it under, where the status alone doesn't say.
    #[serde(default)]
    pub kind: Option<Kind>,
}

impl Failure {
    /// A failure that is told by its text.
    pub fn new(status: Status, problem: impl fmt::Display) -> Self {
        Self {
            status,
            step: None,
            problem: shortened(problem.to_string(), LONGEST),
            hint: None,
            missing: false,
            kind: None,
        }
    }

    /// With an error and all its causes.
    pub fn from_error(status: Status, error: &dyn std::error::Error) -> Self {
        let mut problem = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            problem = format!("{problem}: {error}");
            cause = error.source();
        }
        Self::new(status, problem)
    }

    /// With a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Of this kind.
    #[must_use]
    pub fn of(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// What the journal's catalogue has it under.
    pub fn kind(&self) -> Kind {
        self.kind.unwrap_or(match self.status {
            Status::Chdir => Kind::Folder,
            Status::Exec => Kind::Program,
            Status::Group => Kind::Group,
            Status::User => Kind::User,
            Status::Capabilities => Kind::Capabilities,
            Status::Cgroup => Kind::Cgroup,
            Status::Network => Kind::Network,
            Status::Namespace => Kind::Root,
            Status::NoNewPrivileges => Kind::NoNewPrivileges,
            Status::Seccomp => Kind::SystemCalls,
            Status::AppArmor => Kind::AppArmor,
            Status::Credentials => Kind::Credentials,
            Status::Config => Kind::Config,
        })
    }

    /// In this step.
    #[must_use]
    pub fn in_step(mut self, step: &impl fmt::Display) -> Self {
        self.step.get_or_insert_with(|| shortened(step.to_string(), LONGEST));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// How much of a text is told, in bytes: a program's arguments can have megabytes, and a message between the
/// two processes must fit the socket's buffer.
const LONGEST: usize = 4096;

/// The beginning of a text, where it is longer than `most` bytes.
pub(super) fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
    }
    text
}

/// Gives a system call's error the status that its failure ends in.
pub trait Ends<T> {
    /// With this status.
    fn ends(self, status: Status) -> Result<T, Failure>;
}

impl<T> Ends<T> for Result<T, sys::Error> {
    fn ends(self, status: Status) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(status, error))
    }
}
