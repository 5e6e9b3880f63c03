//! The full machine: QEMU emulates a processor and boots Debian's own kernel.
//!
//! Ten times slower than the fast one, and everything is real: the kernel, every
//! cgroup controller, and the disk that a power cut cuts off. Commands go in by ssh
//! over a port that is open on the loopback interface only.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::error::{Context, Error, Result};
use super::process::{Identity, Lifetime, Process, mortal};
use super::{Saved, console_tail, disk};

/// The socket of the one ssh connection that all commands share.
const SSH_SOCKET: &str = "ssh.sock";

/// A full machine that is switched on.
pub struct Running {
    qemu: Process,
    disk: Option<Process>,
    ssh: Option<Process>,
    port: u16,
    lifetime: Lifetime,
}

impl Running {
    /// Switches it on; its console goes to `dir/console.log`.
    pub fn power_on(dir: &Path, strict: bool, lifetime: Lifetime) -> Result<Running> {
        let disk = if strict { Some(disk::serve(dir, lifetime)?) } else { None };
        let (qemu, port) = start_qemu(dir, strict, lifetime)?;
        Ok(Running { qemu, disk, ssh: None, port, lifetime })
    }

    /// Waits for it to answer and for its systemd to have booted.
    pub fn wait_until_up(&mut self, dir: &Path, until: Instant) -> Result<()> {
        self.wait_for_greeting(dir, until)?;
        self.connect(dir, until)
    }

    /// The command that runs `argv` in the machine.
    pub fn command(&self, dir: &Path, argv: &[String]) -> Option<Command> {
        self.ssh.as_ref()?.identity().is_alive().then(|| {
            let mut command = ssh(dir, self.port);
            let line: Vec<String> = argv.iter().map(|word| super::cache::quoted(word)).collect();
            command.args(["-o", &format!("ControlPath={SSH_SOCKET}"), "machine", &line.join(" ")]);
            command
        })
    }

    /// A command for a person: a terminal in the machine.
    pub fn shell(&self, dir: &Path) -> Command {
        let mut command = ssh(dir, self.port);
        command.args(["-t", "machine"]);
        command
    }

    /// The processor stops, and the disk with it.
    pub fn power_cut(mut self) -> Result<()> {
        self.qemu.kill()?;
        if let Some(disk) = &mut self.disk {
            disk.kill()?;
        }
        self.hang_up()
    }

    /// Waits for a shutdown or a reboot that was asked for: either way QEMU ends.
    pub fn wait_until_off(mut self, patience: Duration) -> Result<()> {
        self.qemu.reap(patience)?;
        self.hang_up()
    }

    /// Waits for the reboot, and switches it on again. The disk keeps its power,
    /// so what it has not written yet is not lost: the strict disk stays.
    pub fn reboot(mut self, dir: &Path, strict: bool, patience: Duration) -> Result<Running> {
        self.qemu.reap(patience)?;
        let disk = self.disk.take();
        let lifetime = self.lifetime;
        self.hang_up()?;
        let (qemu, port) = start_qemu(dir, strict, lifetime)?;
        Ok(Running { qemu, disk, ssh: None, port, lifetime })
    }

    /// Waits, but not for a machine that has ended.
    pub fn let_pass(&self, span: Duration) {
        self.qemu.ended_within(span);
    }

    /// What another program needs to take this machine over.
    pub fn save(&self) -> Saved {
        Saved::Full {
            qemu: self.qemu.identity(),
            disk: self.disk.as_ref().map(Process::identity),
            ssh: self.ssh.as_ref().map(Process::identity),
            port: self.port,
        }
    }

    /// Takes over a machine that another program started.
    pub fn adopt(
        qemu: Identity,
        disk: Option<Identity>,
        ssh: Option<Identity>,
        port: u16,
    ) -> Option<Running> {
        let lifetime = Lifetime::Detached;
        Some(Running {
            qemu: Process::find("qemu", qemu, lifetime)?,
            disk: disk.and_then(|identity| Process::find("nbdkit", identity, lifetime)),
            ssh: ssh.and_then(|identity| Process::find("ssh", identity, lifetime)),
            port,
            lifetime,
        })
    }

    fn hang_up(mut self) -> Result<()> {
        if let Some(ssh) = &mut self.ssh {
            ssh.kill()?;
        }
        if let Some(disk) = &mut self.disk {
            disk.kill()?;
        }
        Ok(())
    }

    /// QEMU takes the connection at once and passes it on when the guest does, so
    /// what counts is the greeting of the machine's sshd.
    fn wait_for_greeting(&self, dir: &Path, until: Instant) -> Result<()> {
        let address = (Ipv4Addr::LOCALHOST, self.port).into();
        loop {
            if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
                let mut greeting = [0; 4];
                let patience = Some(Duration::from_secs(2));
                if stream.set_read_timeout(patience).is_ok() && stream.read_exact(&mut greeting).is_ok() {
                    return Ok(());
                }
            }
            let why = if self.qemu.ended_within(Duration::from_millis(250)) {
                "QEMU ended"
            } else if Instant::now() >= until {
                "its sshd did not answer in time"
            } else {
                continue;
            };
            return Err(Error::Boot { why: why.to_owned(), console: console_tail(dir) });
        }
    }

    /// Opens the one connection that the commands share: a handshake each would
    /// cost a second on an emulated processor.
    fn connect(&mut self, dir: &Path, until: Instant) -> Result<()> {
        let said = dir.join("ssh.log");
        loop {
            // What a master that was killed left behind would keep a new one from starting.
            let _ = std::fs::remove_file(dir.join(SSH_SOCKET));
            let log = File::create(&said).context(|| "create ssh's log")?;
            let mut command = mortal("ssh", "KILL", self.lifetime);
            command
                .current_dir(dir)
                .args(ssh_options(self.port))
                .stdout(log.try_clone().context(|| "share a log")?);
            command.stderr(log);
            command.args(["-M", "-N", "-o", &format!("ControlPath={SSH_SOCKET}"), "machine"]);
            let master = Process::start("ssh", command, self.lifetime)?;
            while !dir.join(SSH_SOCKET).exists() && !master.ended_within(Duration::from_millis(50)) {
                if Instant::now() >= until {
                    let why = "ssh did not get in in time".to_owned();
                    return Err(Error::Boot { why, console: console_tail(dir) });
                }
            }
            if dir.join(SSH_SOCKET).exists() {
                self.ssh = Some(master);
                return Ok(());
            }
            if Instant::now() >= until || self.qemu.ended_within(Duration::from_millis(250)) {
                let why = format!("ssh: {}", std::fs::read_to_string(&said).unwrap_or_default().trim());
                return Err(Error::Boot { why, console: console_tail(dir) });
            }
        }
    }
}

/// Whether a machine's kernel crashed in a thread of its own, or of who loads its modules, or lost the interrupt of a
/// timer and stood still: under emulation with two threads that happens once in some hundred boots (QEMU 7.2), and tells
/// nothing about what is tested, which are programs.
pub fn crashed_by_itself(dir: &Path) -> bool {
    let console = std::fs::read(dir.join("console.log")).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    let threads =
        ["Comm: swapper/", "Comm: kworker/", "Comm: kthreadd ", "Comm: kdevtmpfs", "Comm: (udev-worker)"];
    let crashed = console.contains("Kernel panic - not syncing");
    crashed && threads.iter().any(|thread| console.contains(thread))
        || console.contains("rcu_preempt kthread timer wakeup didn't happen")
}

fn start_qemu(dir: &Path, strict: bool, lifetime: Lifetime) -> Result<(Process, u16)> {
    // Another program can take the port between our asking for a free one and
    // QEMU's taking it; QEMU then ends at once.
    let mut tries = 5;
    loop {
        let port = free_port()?;
        let console = File::create(dir.join("qemu.log")).context(|| "create QEMU's log")?;
        let mut command = mortal("qemu-system-x86_64", "KILL", lifetime);
        command.current_dir(dir);
        command.stdout(console.try_clone().context(|| "share QEMU's log")?).stderr(console);
        // Without what has a boot load the kernel's own hypervisor, whose patches to running code crash it at times.
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off,svm=off"]);
        command.args(["-smp", "2", "-m", "1536"]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:console.log"]);
        command.args(["-kernel", "vmlinuz", "-initrd", "initrd.img"]);
        command.args(["-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 net.ifnames=0"]);
        command.arg("-drive").arg(drive(strict));
        command.args(["-device", "virtio-net-pci,netdev=net0,romfile=", "-device", "virtio-rng-pci"]);
        command.arg("-netdev").arg(format!("user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"));
        let mut qemu = Process::start("qemu", command, lifetime)?;
        if !qemu.ended_within(Duration::from_millis(300)) {
            return Ok((qemu, port));
        }
        qemu.reap(Duration::ZERO)?;
        tries -= 1;
        if tries == 0 {
            let said = std::fs::read_to_string(dir.join("qemu.log")).unwrap_or_default();
            return Err(Error::Boot { why: "QEMU does not start".to_owned(), console: said });
        }
    }
}

/// The plain disk never flushes to the host's disk: it is the guest that loses power
/// here, not the host, and QEMU has handed every finished write to the host's kernel.
fn drive(strict: bool) -> String {
    if strict {
        format!("if=virtio,format=raw,cache=writeback,file=nbd:unix:{}", disk::SOCKET)
    } else {
        "if=virtio,format=raw,cache=unsafe,file=disk".to_owned()
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(|| "find a free port")?;
    Ok(listener.local_addr().context(|| "read a port's number")?.port())
}

fn ssh(dir: &Path, port: u16) -> Command {
    let mut command = Command::new("ssh");
    command.current_dir(dir).args(ssh_options(port));
    command
}

/// Nothing of the user's own configuration, and no question ever: the machine was
/// made a moment ago and answers on loopback.
fn ssh_options(port: u16) -> Vec<String> {
    let options = [
        "BatchMode=yes",
        "Hostname=127.0.0.1",
        "User=root",
        "IdentityFile=key",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "ConnectTimeout=30",
    ];
    let mut words = vec!["-F".to_owned(), "none".to_owned(), "-p".to_owned(), port.to_string()];
    for option in options {
        words.extend(["-o".to_owned(), option.to_owned()]);
    }
    words
}
