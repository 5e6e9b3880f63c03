//! The first process's steps: inside the container's namespaces, from its birth to the program it becomes.
//!
//! Until [`InnerStep::EnterRoot`] both the host's mounts and the container's root are in sight; nothing of
//! the image's runs, and no path of the root is followed as text.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use super::attached::Attached;
use super::failure::{Ends, Failure, Status};
use super::handed::Handed;
use super::health::{Notify, Surroundings};
use super::identity::{self, Identity};
use super::line::{Line, Message};
use super::program::{self, NotRun};
use super::{credentials, health, init, privileges};
use crate::check::{Container, Ready, Reload};
use crate::net::{self, Attachment};
use crate::plan::health::Watch;
use crate::plan::process::{ImageProcess, environment};
use crate::plan::steps::{InnerStep, NOTIFICATION_SOCKET};
use crate::spec::Signal;
use crate::sys::mount::{self, Attributes};
use crate::sys::privilege::Confine;
use crate::sys::signals::Signals;
use crate::sys::{self, privilege, process, resolve};

/// The signals by which systemd, and nearly every image, stop a service: HUP, INT, QUIT, TERM (signal(7)).
const STOPPING: [i32; 4] = [1, 2, 3, 15];

/// What any user inside may do in a network of the container's own, where the ports and the echoes are nobody
/// else's: listen on every port, and ping (ip(7), icmp(7)).
const SETTINGS: [(&str, &str); 2] = [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 65535")];

/// What the first process knows when it is born: all of it was made by the executor, of which it is a copy.
pub struct Inner<'a> {
    /// Its end of the line; a process that isn't going to run the program lets go of it.
    line: Option<Line>,
    /// Where it moves itself: `cgroup.procs` of the payload's cgroup.
    cgroup: Option<OwnedFd>,
    /// Where the executor stages the root.
    pub stage: &'a Path,
    /// The container.
    pub container: &'a Container,
    /// What the image says of its program.
    pub image: &'a ImageProcess,
    /// Read by the executor, on the host.
    pub environment_files: Vec<(String, String)>,
    /// How it is connected, where it has a network of its own.
    attachment: Option<Attachment>,
    /// What its init speaks to systemd through, where it checks.
    notify: Option<Notify>,
    /// What systemd has handed over for the program.
    handed: Handed,
    /// Who waits for this start.
    attached: Option<Attached>,
    /// The AppArmor profile that this host has for it.
    profile: Option<String>,
    root: Option<OwnedFd>,
    proc: Option<OwnedFd>,
    sys: Option<OwnedFd>,
    nothing: Option<OwnedFd>,
    identity: Option<Identity>,
}

impl<'a> Inner<'a> {
    /// At birth.
    #[expect(clippy::too_many_arguments, reason = "it is all that a process is born with")]
    pub fn new(
        line: Line,
        cgroup: Option<OwnedFd>,
        stage: &'a Path,
        container: &'a Container,
        image: &'a ImageProcess,
        environment_files: Vec<(String, String)>,
        attachment: Option<Attachment>,
        handed: Handed,
    ) -> Self {
        Self {
            line: Some(line),
            cgroup,
            stage,
            container,
            image,
            environment_files,
            attachment,
            notify: None,
            handed,
            attached: None,
            profile: None,
            root: None,
            proc: None,
            sys: None,
            nothing: None,
            identity: None,
        }
    }

    /// With what its init speaks to systemd through.
    #[must_use]
    pub fn speaking(mut self, notify: Option<Notify>) -> Self {
        self.notify = notify;
        self
    }

    /// With who waits for it.
    #[must_use]
    pub fn attached(mut self, attached: Option<Attached>) -> Self {
        self.attached = attached;
        self
    }

    /// With the AppArmor profile that was found for it.
    #[must_use]
    pub fn confined(mut self, profile: Option<String>) -> Self {
        self.profile = profile;
        self
    }

    /// Takes all steps, and becomes the program. A failure goes to the executor, which tells it; the process
    /// then ends with the status that says the same.
    pub fn live(mut self, steps: &[InnerStep]) -> ! {
        if self.hear() != Some(Message::RootStands) {
            process::end(0);
        }
        for step in steps {
            if let Err(failure) = self.take(step) {
                let status = failure.status.code();
                self.say(&Message::Failed(failure.in_step(step)));
                // Not before the executor has told systemd why: the line's end says that it has.
                while self.hear().is_some() {}
                process::end(status.into());
            }
        }
        // The last step doesn't return; a list without it is an empty life.
        process::end(Status::Config.code().into())
    }

    fn say(&self, message: &Message) {
        if let Some(line) = &self.line {
            line.say(message);
        }
    }

    fn hear(&self) -> Option<Message> {
        self.line.as_ref().and_then(Line::hear)
    }

    fn take(&mut self, step: &InnerStep) -> Result<(), Failure> {
        match step {
            InnerStep::OwnMounts => self.own_mounts(),
            InnerStep::Proc => self.mount_proc(),
            InnerStep::Sys => self.mount_sys(),
            InnerStep::CgroupTree => self.cgroup_tree(),
            InnerStep::MessageQueues => self.message_queues(),
            InnerStep::Mask(path) => self.mask(path),
            InnerStep::Protect(path) => self.protect(path),
            InnerStep::Hostname(name) => rustix::system::sethostname(name.as_bytes())
                .map_err(|errno| namespace("set the host name", errno)),
            InnerStep::Loopback => process::loopback_up().ends(Status::Namespace),
            InnerStep::Interface => self.interface(),
            InnerStep::EnterRoot => mount::enter_root(made(self.root.as_ref())?).ends(Status::Namespace),
            InnerStep::FindUser { user, group } => {
                self.identity = Some(identity::find(user, group.as_ref())?);
                Ok(())
            }
            InnerStep::Credentials { target } => {
                credentials::give(target, self.container, self.identity.as_ref().ok_or_else(out_of_order)?)
            }
            InnerStep::BoundCapabilities => privileges::bound(),
            InnerStep::BecomeUser { working_directory } => {
                privileges::become_user(self.identity.as_ref().ok_or_else(out_of_order)?, working_directory)?;
                // As the user, whose a terminal then is.
                self.attached.as_mut().map_or(Ok(()), Attached::take)
            }
            InnerStep::Privileges => privileges::reduce(),
            InnerStep::Confine { .. } => self.confine(),
            InnerStep::FilterCalls => privileges::filter_calls(),
            InnerStep::Gate => {
                self.say(&Message::Ready);
                if self.hear() != Some(Message::Gate) {
                    // systemd may know this process already; it must not take this for a program's good end.
                    process::end(Status::Config.code().into());
                }
                Ok(())
            }
            InnerStep::Run { arguments, init, watch } => Err(self.run(arguments, *init, watch.as_deref())),
        }
    }

    fn confine(&self) -> Result<(), Failure> {
        let Some(profile) = &self.profile else { return Ok(()) };
        // An init runs no other program, but its checks do, and they and the program are its children.
        let what = if self.container.has_init() { Confine::Now } else { Confine::Program };
        privileges::confine(made(self.proc.as_ref())?, profile, what)
    }

    fn interface(&self) -> Result<(), Failure> {
        let attachment = self.attachment.as_ref().ok_or_else(out_of_order)?;
        net::configure(attachment).map_err(|error| Failure::from_error(Status::Network, &error))?;
        for (setting, value) in SETTINGS {
            // The host's /proc is still in sight and shows this network's settings to who is in it. Where the
            // unit has made it read-only, these rights are all that is lost.
            let _ = std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value);
        }
        Ok(())
    }

    fn own_mounts(&mut self) -> Result<(), Failure> {
        let _ = rustix::process::setsid();
        // Now, and not at birth: the copy has the root in it, and every mount of the copy is locked together,
        // so that nobody inside can lift one to see what it covers (mount_namespaces(7)).
        //
        // The cgroup namespace's root is the cgroup that the process is in when it is made. That is the unit's,
        // so that the unit's limits are at the root of what programs see, which size themselves by them; they
        // live below it, since a cgroup with processes can't give controllers to its children.
        process::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP).ends(Status::Namespace)?;
        rustix::io::write(made(self.cgroup.as_ref())?, b"0").map_err(|errno| {
            Failure::new(Status::Cgroup, format!("can't move to the cgroup: {}", sys::explain(errno)))
        })?;
        self.cgroup = None;
        mount::make_private().ends(Status::Namespace)?;
        let stage = self.stage.join("root");
        let root = mount::copy_of(&stage, true).ends(Status::Namespace)?;
        // A mount that isn't locked, for pivot_root to take.
        let place = mount::place(&stage).ends(Status::Namespace)?;
        mount::attach(root.as_fd(), place.as_fd()).ends(Status::Namespace)?;
        self.root = Some(root);
        // Born as the host's user 0, which is nobody in here; what is mounted from now on is to belong to the
        // container's.
        privilege::become_user(0, 0, &[]).ends(Status::User)?;
        process::hide().ends(Status::Namespace)
    }

    fn mount_proc(&mut self) -> Result<(), Failure> {
        let attributes = Attributes { nosuid: true, nodev: true, noexec: true, ..Attributes::default() };
        let proc = mount::new("proc", &[], attributes).map_err(|error| covered(error, "/proc"))?;
        self.onto_folder("proc", &proc)?;
        self.proc = Some(proc);
        Ok(())
    }

    fn mount_sys(&mut self) -> Result<(), Failure> {
        let attributes = Attributes { read_only: true, nosuid: true, nodev: true, noexec: true, idmap: None };
        let sys = mount::new("sysfs", &[], attributes).map_err(|error| covered(error, "/sys"))?;
        self.onto_folder("sys", &sys)?;
        self.sys = Some(sys);
        Ok(())
    }

    /// Attaches on a folder of the root that must be one, and no link.
    fn onto_folder(&self, name: &str, what: &OwnedFd) -> Result<(), Failure> {
        let place = resolve::open_exactly(made(self.root.as_ref())?, name, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| match error.errno {
                Errno::LOOP | Errno::NOTDIR => {
                    Failure::new(Status::Namespace, format!("the image's /{name} is not a real folder"))
                        .hint("such an image can't be run safely")
                }
                _ => Failure::new(Status::Namespace, error),
            })?;
        mount::attach(what.as_fd(), place.as_fd()).ends(Status::Namespace)
    }

    /// The root of /sys: this container's, or the host's that the executor has put there.
    fn sys(&mut self) -> Result<BorrowedFd<'_>, Failure> {
        if self.sys.is_none() {
            let sys = resolve::open(made(self.root.as_ref())?, "/sys", OFlags::PATH | OFlags::DIRECTORY)
                .ends(Status::Namespace)?;
            self.sys = Some(sys);
        }
        made(self.sys.as_ref())
    }

    fn cgroup_tree(&mut self) -> Result<(), Failure> {
        let attributes = Attributes { read_only: true, nosuid: true, nodev: true, noexec: true, idmap: None };
        let tree = mount::new("cgroup2", &[], attributes).ends(Status::Cgroup)?;
        let place = resolve::open_exactly(self.sys()?, "fs/cgroup", OFlags::PATH | OFlags::DIRECTORY)
            .ends(Status::Namespace)?;
        mount::attach(tree.as_fd(), place.as_fd()).ends(Status::Namespace)
    }

    fn message_queues(&mut self) -> Result<(), Failure> {
        let attributes = Attributes { nosuid: true, nodev: true, noexec: true, ..Attributes::default() };
        let queues = match mount::new("mqueue", &[], attributes) {
            Ok(queues) => queues,
            // A kernel without POSIX message queues: then there is nothing to see.
            Err(error) if error.errno == Errno::NODEV => return Ok(()),
            Err(error) => return Err(Failure::new(Status::Namespace, error)),
        };
        let place = resolve::open(made(self.root.as_ref())?, "/dev/mqueue", OFlags::PATH | OFlags::DIRECTORY)
            .ends(Status::Namespace)?;
        mount::attach(queues.as_fd(), place.as_fd()).ends(Status::Namespace)
    }

    /// A path of /proc or /sys, as the kernel made it; `None` where this kernel has no such thing.
    fn kernel_path(&mut self, path: &str) -> Result<Option<OwnedFd>, Failure> {
        let found = match path.strip_prefix("/proc/") {
            Some(below) => resolve::open_exactly(made(self.proc.as_ref())?, below, OFlags::PATH),
            None => {
                let below = path.trim_start_matches("/sys/").to_owned();
                resolve::open_exactly(self.sys()?, &below, OFlags::PATH)
            }
        };
        match found {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => Ok(None),
            // Something is mounted there, as on the host's /sys: that isn't the kernel's and hides it already.
            Err(error) if error.errno == Errno::XDEV => Ok(None),
            Err(error) => Err(Failure::new(Status::Namespace, error)),
        }
    }

    fn mask(&mut self, path: &str) -> Result<(), Failure> {
        let Some(place) = self.kernel_path(path)? else { return Ok(()) };
        if resolve::kind(place.as_fd()).ends(Status::Namespace)? == FileType::Directory {
            if self.nothing.is_none() {
                let attributes =
                    Attributes { read_only: true, nosuid: true, nodev: true, noexec: true, idmap: None };
                let options = [("mode", "0555"), ("size", "4k"), ("nr_inodes", "1")];
                self.nothing = Some(mount::new("tmpfs", &options, attributes).ends(Status::Namespace)?);
                let nothing = made(self.nothing.as_ref())?;
                return mount::attach(nothing, place.as_fd()).ends(Status::Namespace);
            }
            let copy = mount::copy_at(made(self.nothing.as_ref())?, false).ends(Status::Namespace)?;
            return mount::attach(copy.as_fd(), place.as_fd()).ends(Status::Namespace);
        }
        let null = resolve::open(made(self.root.as_ref())?, "/dev/null", OFlags::PATH | OFlags::NOFOLLOW)
            .ends(Status::Namespace)?;
        if !mount::is_null_device(&null) {
            return Err(Failure::new(Status::Namespace, "/dev/null is not the null device"));
        }
        let copy = mount::copy_at(null.as_fd(), false).ends(Status::Namespace)?;
        let attributes = Attributes { read_only: true, ..Attributes::default() };
        mount::set(copy.as_fd(), attributes, false).ends(Status::Namespace)?;
        mount::attach(copy.as_fd(), place.as_fd()).ends(Status::Namespace)
    }

    fn protect(&mut self, path: &str) -> Result<(), Failure> {
        let Some(place) = self.kernel_path(path)? else { return Ok(()) };
        let copy = mount::copy_at(place.as_fd(), false).ends(Status::Namespace)?;
        let attributes = Attributes { read_only: true, ..Attributes::default() };
        mount::set(copy.as_fd(), attributes, false).ends(Status::Namespace)?;
        mount::attach(copy.as_fd(), place.as_fd()).ends(Status::Namespace)
    }

    fn watched<'w>(&mut self, watch: &'w Watch, variables: &[String]) -> Result<Watched<'w>, Failure> {
        let signals = health::listen()?;
        let notify = self.notify.take().ok_or_else(out_of_order)?;
        let (environment, path) = (strings(variables)?, path(variables).to_owned());
        Ok(Watched { watch, signals, notify, environment, path })
    }

    /// Becomes the program; comes back only to say why not.
    fn run(&mut self, arguments: &[String], below_init: bool, watch: Option<&Watch>) -> Failure {
        let Some(identity) = self.identity.as_ref() else { return out_of_order() };
        let files = std::mem::take(&mut self.environment_files);
        let mut variables = environment(self.image, files, self.container, &identity.home);
        let own = notification(self.container);
        let name = |line: &str| line.split('=').next().map(str::to_owned);
        variables.retain(|line| !own.iter().any(|own| name(own) == name(line)));
        variables.extend(own);
        if let Some(term) = self.attached.as_ref().and_then(Attached::term)
            && !self.container.environment.contains_key("TERM")
        {
            variables.retain(|line| name(line).as_deref() != Some("TERM"));
            variables.push(format!("TERM={term}"));
        }
        if below_init {
            // What checks run with: nothing that is handed over is theirs.
            let watch = match watch.map(|watch| self.watched(watch, &variables)).transpose() {
                Ok(watch) => watch,
                Err(failure) => return failure,
            };
            match process::fork() {
                Ok(None) => {}
                Ok(Some(program)) => {
                    // The line's end tells the executor that the program runs: this copy must not hold it open.
                    (self.line, self.attached) = (None, None);
                    self.handed.close();
                    // The init needs nothing of what the root was made with.
                    (self.root, self.proc, self.sys, self.nothing) = (None, None, None, None);
                    match watch {
                        Some(Watched { watch, signals, notify, environment, path }) => {
                            let around = Surroundings { environment: &environment, path: &path };
                            health::stay(program, watch, signals, notify, &around)
                        }
                        None => init::stay(program, awaited_reload(self.container)),
                    }
                }
                Err(error) => return Failure::new(Status::Exec, error),
            }
        }
        // Only now: the environment has the id of the process that gets them.
        if let Err(failure) = self.handed.pass_on(&mut variables) {
            return failure;
        }
        let (arguments_c, environment_c) = match (strings(arguments), strings(&variables)) {
            (Ok(arguments), Ok(environment)) => (arguments, environment),
            (Err(failure), _) | (_, Err(failure)) => return failure,
        };
        // Asked to stop in mid-start: once this process is the program, the kernel would not deliver it.
        if let Some(signal) = process::waiting_signal(&STOPPING).filter(|_| !below_init) {
            process::end(128 + signal);
        }
        process::plain_signals();
        let NotRun { mut failure, missing } =
            program::exec(&arguments[0], path(&variables), &arguments_c, &environment_c);
        failure.missing = missing;
        if missing && !arguments[0].contains('/') {
            return failure.hint(
                "is it in the image? `command` takes the program and each argument as a string of its own",
            );
        }
        failure
    }
}

/// The signal that systemd sends by itself and waits for the program's word upon.
fn awaited_reload(container: &Container) -> Option<Signal> {
    match container.reload {
        Some(Reload::Signal { signal, wait: true }) => Some(signal),
        _ => None,
    }
}

/// What an init checks by, made before there is a program.
struct Watched<'a> {
    watch: &'a Watch,
    signals: Signals,
    notify: Notify,
    environment: Vec<CString>,
    path: String,
}

/// A variable's value.
fn path(variables: &[String]) -> &str {
    variables.iter().find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default()
}

fn strings(texts: &[String]) -> Result<Vec<CString>, Failure> {
    process::c_strings(texts.iter().map(String::as_str))
        .map_err(|_| Failure::new(Status::Exec, "an argument or variable holds a zero byte"))
}

/// What a program goes by that speaks to systemd. The file has no say in these.
///
/// `WATCHDOG_PID=` is left out: it is the executor's, and without it every process may take the watchdog for its own
/// (sd_watchdog_enabled(3)).
fn notification(container: &Container) -> Vec<String> {
    if container.ready != Ready::Notify {
        return Vec::new();
    }
    let watchdog = std::env::var("WATCHDOG_USEC").ok().map(|time| format!("WATCHDOG_USEC={time}"));
    std::iter::once(format!("NOTIFY_SOCKET={NOTIFICATION_SOCKET}")).chain(watchdog).collect()
}

fn made(what: Option<&OwnedFd>) -> Result<BorrowedFd<'_>, Failure> {
    what.map(AsFd::as_fd).ok_or_else(out_of_order)
}

fn out_of_order() -> Failure {
    Failure::new(Status::Config, "the inner steps are out of order")
}

fn namespace(action: &str, errno: Errno) -> Failure {
    Failure::new(Status::Namespace, format!("can't {action}: {}", sys::explain(errno)))
}

/// In a user namespace the kernel refuses a new /proc or /sys where the one in sight is covered in part,
/// since a new one would uncover it (`mount_too_revealing` in the kernel's fs/namespace.c).
fn covered(error: sys::Error, path: &str) -> Failure {
    let failure = Failure::new(Status::Namespace, &error);
    if error.errno == Errno::PERM {
        return failure.hint(format!(
            "something is mounted over a part of the host's {path} (see findmnt -R {path}); \
             unmount it, or set user-namespace = false"
        ));
    }
    failure
}
