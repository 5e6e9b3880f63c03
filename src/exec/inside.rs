//! The process that `wharf exec` makes in a container, from its birth to the program it becomes.
//!
//! It is born in the container's cgroup and pid namespace with all that the executor has, so the order counts:
//! from its first moment nobody inside can look into it ([`process::hide`], inherited), and it keeps the host's
//! descriptors until they are marked to be closed.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::enter::{MISSING, NOT_RUN, OWN, is_terminal};
use super::failure::{Ends, Failure, Status};
use super::identity::{self, Identity};
use super::line::{Line, Message};
use super::privileges;
use super::program::{self, NotRun};
use super::request::{Program, Request};
use super::target::Target;
use crate::check::Container;
use crate::plan::process::{ImageProcess, Process, environment};
use crate::sys::{mount, privilege, process, terminal};

/// What the new process knows when it is born.
pub struct Inside<'a> {
    /// Its end of the line.
    pub line: Line,
    /// The container that it enters.
    pub target: &'a Target,
    /// As it was started.
    pub container: &'a Container,
    /// What its image says of its program.
    pub image: &'a ImageProcess,
    /// Of the container's environment files.
    pub files: Vec<(String, String)>,
    /// It gets a terminal of its own.
    pub terminal: bool,
}

/// Entries of passwd(5) for users who aren't to log in.
const NO_SHELLS: [&str; 2] = ["nologin", "false"];
/// What an image may have.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

impl Inside<'_> {
    /// Enters, and becomes the program. A failure is said on the line, and what it means by the exit status.
    pub fn live(mut self, request: &Request, main: &Process) -> ! {
        let NotRun { failure, missing } = match self.enter(request, main) {
            Ok(identity) => self.run(request, &identity),
            Err(failure) => {
                self.line.say(&Message::Failed(failure));
                process::end(OWN.into());
            }
        };
        self.line.say(&Message::Failed(failure));
        process::end(if missing { MISSING } else { NOT_RUN }.into())
    }

    fn enter(&self, request: &Request, main: &Process) -> Result<Identity, Failure> {
        let Self { target, .. } = self;
        let _ = rustix::process::setsid();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        // While this is still the host's root, who may raise them.
        target.limits.take().ends(Status::Namespace)?;
        target.take_oom_score()?;
        // Charged to the host's root: the container's may have used up how many it can have.
        process::leave_keyring().ends(Status::Namespace)?;
        process::join(target.process.as_fd(), target.namespaces).ends(Status::Namespace)?;
        // In a user namespace it is nobody up to here; and the caller's groups mean nothing inside.
        privilege::become_user(0, 0, &[]).ends(Status::User)?;
        process::hide().ends(Status::Namespace)?;
        let (user, group) = match &request.user {
            Some(asked) => (&asked.user, asked.group.as_ref()),
            None => (&main.user, main.group.as_ref()),
        };
        let identity = identity::find(user, group)?;
        privileges::bound()?;
        let directory = request.working_directory.as_deref().unwrap_or(&main.working_directory);
        privileges::become_user(&identity, directory)?;
        // As the user, whose it then is.
        let master = self.terminal.then(|| own_terminal(is_terminal(2))).transpose()?;
        privileges::reduce()?;
        target.confine()?;
        privileges::filter_calls()?;
        process::end_with_parent().ends(Status::Namespace)?;
        match &master {
            Some(master) => self.line.say_with(&Message::Ready, master.as_fd()),
            None => self.line.say(&Message::Ready),
        }
        if self.line.hear() != Some(Message::Gate) {
            // The executor is gone, maybe since before its end would have been this one's.
            process::end(OWN.into());
        }
        Ok(identity)
    }

    /// Comes back only to say why not.
    fn run(&mut self, request: &Request, identity: &Identity) -> NotRun {
        let not_run = |failure| NotRun { failure, missing: false };
        let files = std::mem::take(&mut self.files);
        let mut variables = environment(self.image, files, self.container, &identity.home);
        let mut set = |name: &str, value: &str| {
            variables.retain(|line| line.split_once('=').is_none_or(|(before, _)| before != name));
            variables.push(format!("{name}={value}"));
        };
        // What the caller's terminal understands is known to nobody else.
        if let Some(term) = std::env::var("TERM").ok().filter(|term| self.terminal && !term.is_empty()) {
            set("TERM", &term);
        }
        for (name, value) in &request.environment {
            set(name, value);
        }
        let Ok(environment) = process::c_strings(variables.iter().map(String::as_str)) else {
            return not_run(Failure::new(Status::Exec, "a variable holds a zero byte"));
        };
        process::plain_signals();
        match &request.program {
            Program::Shell => shell(identity, &environment),
            Program::Command(words) => {
                let Ok(name) = words[0].to_str() else {
                    return not_run(Failure::new(Status::Exec, "the program's name is not UTF-8"));
                };
                let path = variables.iter().find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default();
                program::exec(name, path, words, &environment)
            }
        }
    }
}

/// Makes a terminal of the container's, the session's and the standard streams', with `error` of that too; gives its
/// master.
///
/// # Errors
/// What the kernel says.
pub fn own_terminal(error: bool) -> Result<OwnedFd, Failure> {
    let root = mount::place(Path::new("/")).ends(Status::Namespace)?;
    let master = terminal::open(root.as_fd()).ends(Status::Namespace)?;
    let peer = terminal::peer(master.as_fd()).ends(Status::Namespace)?;
    terminal::control(peer.as_fd()).ends(Status::Namespace)?;
    // `2>errors.log` is meant to get the errors, and they alone.
    terminal::make_standard(peer.as_fd(), error).ends(Status::Namespace)?;
    Ok(master)
}

/// Becomes the user's shell, or another one that is there.
fn shell(identity: &Identity, environment: &[CString]) -> NotRun {
    let own = identity.shell.as_deref().filter(|shell| {
        let name = shell.rsplit('/').next().unwrap_or_default();
        !NO_SHELLS.contains(&name)
    });
    for candidate in own.into_iter().chain(SHELLS) {
        // A file that the image can't run is as good as none.
        if let Ok(words) = process::c_strings([candidate]) {
            program::exec(candidate, "", &words, environment);
        }
    }
    NotRun {
        failure: Failure::new(
            Status::Exec,
            "the image has no shell: neither /bin/bash nor /bin/sh can be run",
        )
        .hint("`wharf exec` runs other programs"),
        missing: true,
    }
}
