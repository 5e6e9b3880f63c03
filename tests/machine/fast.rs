//! The fast machine: systemd-nspawn boots a root directory at native speed.
//!
//! Its PID 1 is a systemd of its own in its own namespaces, on the host's kernel.
//! nspawn itself tells which process that is, by the notification protocol: so
//! neither names nor process trees are guessed at.

use std::fs::File;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::disk::{self, Shown};
use super::error::{Context, Error, Result};
use super::process::{Identity, Lifetime, Process, descendants, either_readable, mortal};
use super::{Saved, console_tail};

/// nspawn keeps a directory per machine name in /run, which several of ours would
/// share, and which it refuses to clear where /run is no tmpfs, as in some CI
/// machines. So each gets a tmpfs there that nobody else sees.
///
/// Where the host has no systemd to ask for a cgroup, each makes one of its own: in one
/// cgroup, two machines would have the same units, and stop each other's.
const PRIVATE_RUN: &str = "if [ -n \"$MACHINE_CGROUP\" ]; then \
       mkdir -p \"$MACHINE_CGROUP\" && echo 0 >\"$MACHINE_CGROUP/cgroup.procs\" || exit 1; fi; \
     mkdir -p /run/systemd/nspawn && mount -t tmpfs -o mode=755 tmpfs /run/systemd/nspawn && exec \"$@\"";

/// A fast machine that is switched on.
pub struct Running {
    nspawn: Process,
    leader: Option<Process>,
    // After the processes that use it.
    disk: Option<Shown>,
    // Only until it is up: nobody reads it later, and PID 1 would wait for room in it.
    notifications: Option<UnixDatagram>,
    lifetime: Lifetime,
    // Last: it can go when the processes have gone.
    cgroup: Option<OwnCgroup>,
}

impl Running {
    /// Switches it on; its console goes to `dir/console.log`.
    pub fn power_on(dir: &Path, strict: bool, lifetime: Lifetime) -> Result<Running> {
        let disk = if strict { Some(Shown::start(dir, lifetime)?) } else { None };
        let notifications = listen(dir)?;
        let console = File::create(dir.join("console.log")).context(|| "create the console's file")?;
        let (mut command, mount) = match &disk {
            Some(disk) => (disk.beside("unshare", lifetime), disk::MOUNT),
            None => (mortal("unshare", "KILL", lifetime), ""),
        };
        let prepare = format!("{mount}{PRIVATE_RUN}");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", &prepare, "sh"]);
        let with_systemd = Path::new("/run/systemd/system").exists();
        let cgroup = if with_systemd { None } else { OwnCgroup::of(dir, lifetime) };
        command.env("MACHINE_CGROUP", cgroup.as_ref().map_or(Path::new(""), |own| own.path.as_path()));
        if with_systemd {
            // On a host that runs systemd, the machine needs a cgroup that is handed to it.
            command.args(["systemd-run", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--"]);
        }
        command.arg("systemd-nspawn");
        command.current_dir(dir);
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        command.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1");
        // nspawn's own seccomp list would forbid calls that a container supervisor makes.
        command.env("SYSTEMD_SECCOMP", "0");
        command.env("NOTIFY_SOCKET", format!("@{}", address(dir)));
        command.args(["--quiet", "--directory=root", "--boot", "--machine=machine", "--notify-ready=yes"]);
        command.args(["--register=no", "--keep-unit", "--private-network", "--capability=all"]);
        command.args(["--link-journal=no", "--resolv-conf=off", "--timezone=off"]);
        // The kernel is the host's: its settings are not the machine's to make.
        for unit in ["systemd-sysctl", "systemd-modules-load", "systemd-binfmt", "systemd-pstore"] {
            command.arg(format!("systemd.mask={unit}.service"));
        }
        command.stdout(console.try_clone().context(|| "share the console's file")?).stderr(console);
        let nspawn = Process::start("systemd-nspawn", command, lifetime)?;
        Ok(Running { nspawn, disk, cgroup, leader: None, notifications: Some(notifications), lifetime })
    }

    /// Waits for its systemd to say that it has booted.
    pub fn wait_until_up(&mut self, dir: &Path, until: Instant) -> Result<()> {
        loop {
            let message = self.notification(dir, until)?;
            for line in message.lines() {
                if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                    let identity = pid.parse().ok().and_then(Identity::of);
                    self.leader =
                        identity.and_then(|identity| Process::find("PID 1", identity, self.lifetime));
                }
            }
            if message.lines().any(|line| line == "READY=1") && self.leader.is_some() {
                self.notifications = None;
                return Ok(());
            }
        }
    }

    /// The command that runs `argv` in the machine.
    pub fn command(&self, argv: &[String]) -> Option<Command> {
        let leader = self.leader.as_ref()?.identity();
        leader.is_alive().then(|| {
            let mut command = Command::new("nsenter");
            command.args(["-t", &leader.pid.to_string(), "-a", "--"]).args(argv);
            command
        })
    }

    /// Its PID 1, as the host numbers it.
    pub fn leader(&self) -> Option<i32> {
        self.leader.as_ref().map(|leader| leader.identity()).filter(|it| it.is_alive()).map(|it| it.pid)
    }

    /// Everything in it ends at once.
    pub fn power_cut(mut self) -> Result<()> {
        // First: the processes' end must not be the time to write what they had not.
        self.disk.iter_mut().try_for_each(Shown::cut)?;
        self.end_processes()?;
        self.disk.iter_mut().try_for_each(Shown::hide)
    }

    fn end_processes(&mut self) -> Result<()> {
        if let Some(leader) = &mut self.leader {
            // PID 1's end is the end of every process in its namespace. nspawn then
            // cleans up behind itself on the host, so it gets a moment to do that.
            leader.kill()?;
            if self.nspawn.ended_within(Duration::from_secs(5)) {
                self.nspawn.reap(Duration::ZERO)?;
                self.cgroup.iter().for_each(OwnCgroup::clear);
                return Ok(());
            }
        }
        // While it boots nobody has said yet which process is PID 1. It dies when
        // nspawn does, but when it is gone only its own handle can tell.
        let below = descendants(self.nspawn.identity().pid);
        self.nspawn.kill()?;
        for identity in below {
            if let Some(mut process) = Process::find("a process of the machine", identity, self.lifetime) {
                process.kill()?;
            }
        }
        self.cgroup.iter().for_each(OwnCgroup::clear);
        Ok(())
    }

    /// Waits for a shutdown or a reboot that was asked for: `--keep-unit` has nspawn
    /// leave the second half of a reboot to whoever started it.
    pub fn wait_until_off(mut self, dir: &Path, patience: Duration) -> Result<()> {
        self.nspawn.reap(patience)?;
        self.cgroup.iter().for_each(OwnCgroup::clear);
        self.disk.take().map_or(Ok(()), |disk| disk.put_away(dir))
    }

    /// Waits, but not for a machine that has ended.
    pub fn let_pass(&self, span: Duration) {
        self.nspawn.ended_within(span);
    }

    /// What another program needs to take this machine over.
    pub fn save(&self) -> Saved {
        Saved::Fast {
            nspawn: self.nspawn.identity(),
            leader: self.leader.as_ref().map(Process::identity),
            disk: self.disk.as_ref().map(Shown::save),
        }
    }

    /// Takes over a machine that another program started.
    pub fn adopt(
        dir: &Path,
        nspawn: Identity,
        leader: Option<Identity>,
        disk: Option<(Identity, Identity)>,
    ) -> Result<Option<Running>> {
        let lifetime = Lifetime::Detached;
        let Some(nspawn) = Process::find("systemd-nspawn", nspawn, lifetime) else { return Ok(None) };
        let leader = leader.and_then(|identity| Process::find("PID 1", identity, lifetime));
        let disk = disk.and_then(|disk| Shown::adopt(disk, lifetime));
        let cgroup = OwnCgroup::of(dir, lifetime);
        Ok(Some(Running { nspawn, disk, cgroup, leader, notifications: None, lifetime }))
    }

    fn notification(&self, dir: &Path, until: Instant) -> Result<String> {
        let patience = Duration::from_millis(500);
        let mut buffer = [0; 4096];
        let Some(notifications) = &self.notifications else {
            return Err(Error::Boot { why: "it was up before".to_owned(), console: console_tail(dir) });
        };
        notifications.set_nonblocking(true).context(|| "wait without blocking")?;
        loop {
            if let Ok(size) = notifications.recv(&mut buffer) {
                return Ok(String::from_utf8_lossy(&buffer[..size]).into_owned());
            }
            let why = if self.nspawn.ended_within(Duration::ZERO) {
                "systemd-nspawn ended"
            } else if Instant::now() >= until {
                "its systemd did not finish booting in time"
            } else {
                let next = until.min(Instant::now() + patience);
                either_readable(self.nspawn.pidfd(), notifications, next);
                continue;
            };
            return Err(Error::Boot { why: why.to_owned(), console: console_tail(dir) });
        }
    }
}

/// A machine's own cgroup, on a host without systemd. It goes once nothing is left in it.
struct OwnCgroup {
    path: PathBuf,
    lifetime: Lifetime,
}

impl OwnCgroup {
    fn of(dir: &Path, lifetime: Lifetime) -> Option<OwnCgroup> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        // Beside ours and not below: a cgroup that has processes hands no controllers down.
        let own = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::/"))?);
        Some(OwnCgroup {
            path: Path::new(mount).join(own.parent().unwrap_or(own)).join(address(dir)),
            lifetime,
        })
    }
}

impl OwnCgroup {
    fn clear(&self) {
        fn remove(dir: &Path) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            // One that still holds a process stays, which the kernel sees to.
            let _ = std::fs::remove_dir(dir);
        }
        remove(&self.path);
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // A machine that stays goes on using it.
        if self.lifetime == Lifetime::Ours {
            self.clear();
        }
    }
}

/// Notifications come by a socket without a file, so the path to the target
/// directory may be longer than the 108 bytes of a socket's path.
fn address(dir: &Path) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("wharf-machine-{name}")
}

fn listen(dir: &Path) -> Result<UnixDatagram> {
    let address = SocketAddr::from_abstract_name(address(dir)).context(|| "name a socket")?;
    UnixDatagram::bind_addr(&address).context(|| "listen for the machine's notifications")
}
