//! The strict disk: what was not flushed is lost with its power.
//!
//! It is an nbdkit before a file. Its cache filter keeps every write in a temporary file of its own, which nobody
//! else can see and which goes with the process; only when the machine flushes are they written through, and the
//! flush is answered after that. Killing it therefore loses exactly what the machine did not flush, as a disk with
//! a volatile cache does.
//!
//! QEMU speaks to it itself. For a machine on the host's kernel nbdfuse shows it as a file, which is mounted by a
//! loop device where only the machine sees it.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::error::{Context, Error, Result};
use super::process::{Identity, Lifetime, Process, mortal, tool};

/// The socket at which nbdkit serves, in the machine's directory.
pub const SOCKET: &str = "disk.sock";

/// Mounts the disk at `root`. For a shell in a mount namespace of its own: it must not be nbdfuse's, whose end would
/// then have to wait for what the file system still writes to nbdfuse.
pub const MOUNT: &str = "mount -o loop view root || exit 1; ";

/// Switches on the disk whose content is the file `disk`.
pub fn serve(dir: &Path, lifetime: Lifetime) -> Result<Process> {
    let socket = dir.join(SOCKET);
    // The one that a power cut left behind.
    let _ = std::fs::remove_file(&socket);
    let arguments = ["--unix", SOCKET, "--filter=cache", "file", "file=disk", "cache=writeback"];
    // The cache's temporary file: on the same disk as ours, and not in a /tmp of limited size.
    let temporary = ("TMPDIR", dir);
    if lifetime == Lifetime::Detached {
        // In the foreground it ends with whoever started it.
        let number = dir.join("nbdkit.pid");
        let _ = std::fs::remove_file(&number);
        tool("nbdkit", dir, |nbdkit| {
            nbdkit.env(temporary.0, temporary.1).args(["--pidfile", "nbdkit.pid"]).args(arguments);
        })?;
        // It writes its number down a moment later.
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let pid = std::fs::read_to_string(&number).unwrap_or_default();
            let identity = pid.trim().parse().ok().and_then(Identity::of);
            match identity.and_then(|identity| Process::find("nbdkit", identity, lifetime)) {
                Some(process) => return Ok(process),
                None if Instant::now() < until => std::thread::yield_now(),
                None => return Err(Error::Boot { why: "nbdkit has ended".into(), console: String::new() }),
            }
        }
    }
    let log = File::create(dir.join("nbdkit.log")).context(|| "create nbdkit's log")?;
    let mut command = mortal("nbdkit", "KILL", lifetime);
    command.current_dir(dir).env(temporary.0, temporary.1).arg("--foreground").args(arguments);
    command.stdout(log.try_clone().context(|| "share nbdkit's log")?).stderr(log);
    let nbdkit = Process::start("nbdkit", command, lifetime)?;
    // The socket's file is there a moment before anybody listens.
    await_that(dir, "nbdkit", &nbdkit, || reachable(&socket))?;
    Ok(nbdkit)
}

/// A socket's path may have 108 bytes, and a machine's directory lie deeper: by way of the directory's descriptor.
fn reachable(socket: &Path) -> bool {
    use std::os::fd::AsRawFd;
    let Some((parent, name)) = socket.parent().zip(socket.file_name()) else { return false };
    let Ok(parent) = File::open(parent) else { return false };
    let short = format!("/proc/self/fd/{}/{}", parent.as_raw_fd(), name.display());
    UnixStream::connect(short).is_ok()
}

fn await_that(dir: &Path, name: &str, process: &Process, done: impl Fn() -> bool) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    while !done() {
        if process.ended_within(Duration::from_millis(5)) || Instant::now() >= until {
            let said = std::fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
            return Err(Error::Boot { why: format!("{name} does not start"), console: said });
        }
    }
    Ok(())
}

/// The disk as a file in a mount namespace of its own.
#[derive(Debug)]
pub struct Shown {
    server: Process,
    view: Process,
}

impl Shown {
    /// Switches it on, and shows it as `view` in the machine's directory.
    pub fn start(dir: &Path, lifetime: Lifetime) -> Result<Shown> {
        let server = serve(dir, lifetime)?;
        let view = dir.join("view");
        File::create(&view).context(|| "create a file to show the disk at")?;
        let log = File::create(dir.join("nbdfuse.log")).context(|| "create nbdfuse's log")?;
        let mut command = mortal("unshare", "KILL", lifetime);
        command.current_dir(dir).args(["--mount", "--propagation", "private", "--"]);
        command.args(["nbdfuse", "view", "--unix", SOCKET]);
        command.stdout(log.try_clone().context(|| "share nbdfuse's log")?).stderr(log);
        let process = Process::start("nbdfuse", command, lifetime)?;
        // Only its own namespace shows it, and a link on the way would lead out of that.
        let view = view.canonicalize().context(|| format!("find {}", view.display()))?;
        let inside = PathBuf::from(format!("/proc/{}/root", process.identity().pid));
        let shown = inside.join(view.strip_prefix("/").unwrap_or(&view));
        await_that(dir, "nbdfuse", &process, || shown.metadata().is_ok_and(|it| it.len() > 0))?;
        Ok(Shown { server, view: process })
    }

    /// `program` where the disk is shown as a file.
    pub fn beside(&self, program: &str, lifetime: Lifetime) -> Command {
        let mut command = mortal("nsenter", "KILL", lifetime);
        command.args(["--mount", "--wd", "-t", &self.view.identity().pid.to_string(), "--", program]);
        command
    }

    /// Cuts the disk's power. Who has it mounted gets errors from now on.
    pub fn cut(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Takes away what is left of it after [`Shown::cut`].
    pub fn hide(&mut self) -> Result<()> {
        self.view.kill()
    }

    /// Takes it away when nobody has it mounted any more, which is when all is written.
    pub fn put_away(mut self, dir: &Path) -> Result<()> {
        let view = dir.join("view");
        let view = view.canonicalize().context(|| format!("find {}", view.display()))?;
        let until = Instant::now() + Duration::from_secs(30);
        while is_behind_a_loop_device(&view) {
            if self.view.ended_within(Duration::from_millis(10)) || Instant::now() >= until {
                let what = "the unmounting of the machine's disk".to_owned();
                return Err(Error::TimedOut { what, after: Duration::from_secs(30) });
            }
        }
        self.hide()?;
        self.cut()
    }

    /// What another program needs to take it over.
    pub fn save(&self) -> (Identity, Identity) {
        (self.server.identity(), self.view.identity())
    }

    /// Takes over one that another program started.
    pub fn adopt((server, view): (Identity, Identity), lifetime: Lifetime) -> Option<Shown> {
        Some(Shown {
            server: Process::find("nbdkit", server, lifetime)?,
            view: Process::find("nbdfuse", view, lifetime)?,
        })
    }
}

fn is_behind_a_loop_device(file: &Path) -> bool {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    // A device that has none has no such file.
    let backing = devices.filter_map(|it| std::fs::read_to_string(it.path().join("loop/backing_file")).ok());
    backing.into_iter().any(|path| Path::new(path.trim_end()) == file)
}
