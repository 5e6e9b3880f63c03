//! Finds facts: by files, the kernel's calls, and trials that leave nothing behind.
//!
//! Each look has a thread of its own and a limit of time. One that hangs, on a disk or a server that doesn't answer, is
//! left behind: it can't be ended, and holds up nothing else.

mod kernel;
mod network;
mod own;
mod settings;
mod system;
mod trial;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::facts::{Facts, Look};
use crate::check::{AppArmor, Container, MountKind, Network, RootSource};
use crate::host::Paths;

pub use system::STATIC_UNITS;

/// What a look may take.
const LIMIT: Duration = Duration::from_secs(5);
/// What one at all of the store's names and sizes may take.
const LONG: Duration = Duration::from_secs(20);

/// A look under way.
pub struct Under<T> {
    answer: Receiver<Look<T>>,
    begun: Instant,
    limit: Duration,
}

impl<T> Under<T> {
    /// Waits for its end, and no longer than it may take from its beginning.
    pub fn seen(self) -> Look<T> {
        match self.answer.recv_timeout(self.limit.saturating_sub(self.begun.elapsed())) {
            Ok(look) => look,
            Err(RecvTimeoutError::Timeout) => Look::Late(self.limit),
            Err(RecvTimeoutError::Disconnected) => {
                Look::Failed("the look broke off; please report that".to_owned())
            }
        }
    }
}

/// Begins a look, which may take so long.
pub fn begin<T: Send + 'static>(
    limit: Duration,
    look: impl FnOnce() -> Look<T> + Send + 'static,
) -> Under<T> {
    let (told, answer) = channel();
    // Without a thread the channel is closed, which is seen as one that broke off.
    let _ = std::thread::Builder::new().spawn(move || told.send(look()));
    Under { answer, begun: Instant::now(), limit }
}

/// Begins one of the usual length.
pub fn briefly<T: Send + 'static>(look: impl FnOnce() -> Look<T> + Send + 'static) -> Under<T> {
    begin(LIMIT, look)
}

/// What containers ask of the host, of all that are declared well.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Binds and folders for roots that are mapped: what, and for which container.
    pub binds: Vec<(PathBuf, String)>,
    /// Containers with a network of their own.
    pub networked: usize,
    /// Those that publish ports.
    pub publishing: Vec<String>,
    /// What is to confine them: of which container.
    pub profiles: Vec<(AppArmor, String)>,
}

impl Wanted {
    /// Gathers it.
    pub fn of<'c>(containers: impl IntoIterator<Item = &'c Container>) -> Self {
        let mut wanted = Self::default();
        for container in containers {
            let name = container.name.to_string();
            for mount in container.mounts.iter().filter(|_| container.user_namespace) {
                if let MountKind::Bind(bind) = &mount.kind
                    && bind.idmap
                {
                    wanted.binds.push((bind.source.clone(), name.clone()));
                }
            }
            match &container.source {
                RootSource::Folder(folder) if container.user_namespace => {
                    wanted.binds.push((folder.clone(), name.clone()));
                }
                RootSource::Folder(_) | RootSource::Image(_) => {}
            }
            wanted.profiles.push((container.apparmor.clone(), name.clone()));
            wanted.networked += usize::from(container.network == Network::Default);
            if !container.publish.is_empty() {
                wanted.publishing.push(name);
            }
        }
        wanted
    }
}

/// Looks at everything that needs no D-Bus. Under another root than this host's, at its files only.
pub fn look(paths: &Paths, wanted: &Wanted) -> Facts {
    let here = paths.are_this_hosts();
    let own = |run: bool| run.then(|| paths.clone());
    let of_host = || own(here);
    let all = || own(true);
    // All begin before the first is waited for.
    let kernel = of_host().map(|_| briefly(kernel::kernel));
    let trial = of_host().map(|paths| {
        let binds = wanted.binds.clone();
        briefly(move || as_root(|| trial::trial(&paths, &binds)))
    });
    let cgroups = of_host().map(|_| briefly(kernel::cgroups));
    let confinement = of_host().map(|paths| {
        let profiles = wanted.profiles.clone();
        briefly(move || kernel::confinement(&paths, &profiles))
    });
    let systemd = of_host().map(|paths| briefly(move || system::systemd(&paths)));
    let settings = all().map(|paths| briefly(move || settings::settings(&paths)));
    let installed = all().map(|paths| briefly(move || system::installed(&paths)));
    let resolver = of_host().map(|paths| briefly(move || system::resolver(&paths)));
    let journal = of_host().map(|paths| briefly(move || system::journal(&paths)));
    let firewall = of_host().map(|paths| {
        let (networked, publishing) = (wanted.networked, wanted.publishing.clone());
        briefly(move || network::firewall(&paths, networked, publishing))
    });
    let forwarding = of_host().map(|paths| briefly(move || network::forwarding(&paths)));
    let pools = all().map(|paths| briefly(move || network::pools(&paths)));
    let ids = all().map(|paths| briefly(move || own::ids(&paths)));
    let clock = of_host().map(|_| briefly(system::clock));
    let disks: Vec<_> = of_host()
        .map(|paths| {
            let look = |(what, path): (&'static str, PathBuf)| briefly(move || system::disk(what, &path));
            let volumes = paths.clone();
            let [state, runtime] =
                [("images and volumes", paths.state()), ("running containers", paths.runtime())].map(look);
            [state, briefly(move || system::volumes(&volumes)), runtime]
        })
        .into_iter()
        .flatten()
        .collect();
    let memory = of_host().map(|_| briefly(system::memory));
    let marks = all().map(|paths| briefly(move || own::marks(&paths)));
    let store = all().map(|paths| begin(LONG, move || own::store(&paths)));
    Facts {
        kernel: seen(kernel),
        trial: seen(trial),
        cgroups: seen(cgroups),
        confinement: seen(confinement),
        systemd: seen(systemd),
        settings: seen(settings),
        installed: seen(installed),
        resolver: seen(resolver),
        journal: seen(journal),
        firewall: seen(firewall),
        forwarding: seen(forwarding),
        pools: seen(pools),
        ids: seen(ids),
        clock: seen(clock),
        disks: disks.into_iter().map(Under::seen).collect(),
        memory: seen(memory),
        marks: seen(marks),
        store: seen(store),
        ..Facts::default()
    }
}

fn seen<T>(under: Option<Under<T>>) -> Look<T> {
    under.map_or(Look::Unasked, Under::seen)
}

/// Whether whoever asks is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn as_root<T>(look: impl FnOnce() -> Look<T>) -> Look<T> {
    if is_root() { look() } else { Look::OnlyRoot }
}

/// What became of reading something.
fn found<T>(result: io::Result<T>) -> Look<T> {
    match result {
        Ok(found) => Look::Seen(found),
        Err(error) if is_denied(&error) => Look::OnlyRoot,
        Err(error) => Look::Failed(error.to_string()),
    }
}

/// Whether it is refused to who asks, and root would be told.
fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && !is_root()
}

/// A small file's text without white space around it; nothing where it can't be read.
fn text(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What a program says on its standard output, up to some bytes and in some time; then it is killed. What it says on
/// its standard error, and how it ends, is nothing to anybody.
///
/// # Errors
/// It can't be started, or isn't done in time.
pub fn output(program: &str, arguments: &[&str], limit: Duration, most: u64) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .env("SYSTEMD_COLORS", "0")
        .env("SYSTEMD_PAGER", "")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let said = child.stdout.take();
    let read = begin(limit, move || {
        let mut bytes = Vec::new();
        let result = said.map(|said| said.take(most).read_to_end(&mut bytes));
        // What is cut off ends with a whole line.
        if bytes.len() as u64 == most
            && let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n')
        {
            bytes.truncate(end + 1);
        }
        found(result.unwrap_or(Ok(0)).map(|_| String::from_utf8_lossy(&bytes).into_owned()))
    });
    let look = read.seen();
    // One that has ended by itself isn't hurt by it.
    let _ = child.kill();
    let _ = child.wait();
    match look {
        Look::Seen(text) => Ok(text),
        Look::Late(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("{program} didn't end in time")))
        }
        Look::Failed(why) => Err(io::Error::other(why)),
        Look::OnlyRoot | Look::Unasked => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_hangs_is_left_behind() {
        let (hold, held) = channel::<()>();
        let limit = Duration::from_millis(50);
        let hangs = begin(limit, move || {
            let _ = held.recv();
            Look::Seen(1)
        });
        let other = briefly(|| Look::Seen(2));
        assert_eq!(other.seen(), Look::Seen(2));
        assert_eq!(hangs.seen(), Look::Late(limit));
        drop(hold);
    }

    #[test]
    fn a_program_has_so_much_time_and_room() {
        let said = output("/bin/sh", &["-c", "echo one; echo two"], LIMIT, 6).expect("said");
        assert_eq!(said, "one\n");
        let error = output("/bin/sh", &["-c", "read x </dev/zero; sleep 100"], Duration::from_millis(50), 6);
        assert!(error.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut));
        assert!(output("/nowhere", &[], LIMIT, 6).is_err());
    }
}
