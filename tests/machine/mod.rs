//! The throwaway machine: a real Debian with a real systemd as its PID 1, made in
//! seconds, broken at will, and gone afterwards.
//!
//! Two kinds behind one interface. [`Kind::Fast`] is a systemd-nspawn container on
//! the host's kernel: seconds to boot and native speed, but only the host's cgroup
//! controllers, and of networks loopback and what [`Machine::cable`] plugs in. [`Kind::Full`] is emulated by QEMU: its own
//! kernel, everything real, about ten times slower. The host needs root, and
//! mmdebstrap, systemd-container, QEMU, nbdkit and ssh; it does not need to run systemd.
//!
//! A test reads as a story:
//!
//! ```ignore
//! let mut machine = Machine::boot(Kind::Full, &Recipe::base())?;
//! machine.copy_in(binary("wharf"), "/usr/bin/wharf")?;
//! machine.write("/etc/wharf/containers/nginx.toml", NGINX)?;
//! machine.sh("systemctl daemon-reload && systemctl start nginx-container")?;
//! machine.power_cut()?;
//! machine.boot_again()?;
//! let answer = machine.run("systemctl is-active nginx-container")?;
//! assert_eq!((answer.code, answer.stdout.trim()), (0, "active"));
//! ```
//!
//! - [`Machine::run`] gives back whatever a command did; [`Machine::sh`] wants it to
//!   succeed and gives back its output. Both take a line for bash, with `pipefail`.
//! - [`Machine::start`] leaves a command running and reads its lines as they come: what
//!   it said before a power cut is what it acknowledged.
//! - [`Machine::power_on`] returns at once, so that power can be cut while it boots.
//! - [`Machine::strict`] is a machine whose disk loses what was not flushed.
//! - A machine goes with its value: also when the test panics, or is killed. What a
//!   killed test leaves on disk is swept by the next one.
//!
//! [`image`] makes a root file system tar for `wharf image import`, from the same
//! [`Recipe`]s. Roots, disks and images are made once and kept under
//! `target/machines` by the content of their recipe ([`cache`]).

pub mod cache;
mod disk;
mod error;
mod fast;
mod full;
pub mod process;
mod recipe;
mod rundir;

use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use cache::{Form, quoted};
pub use error::{Context, Error, Result, chain};
use process::{Identity, Lifetime};
pub use recipe::Recipe;
use rundir::RunDir;

/// How long a command may take unless the story says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a boot is tried again after a crash of the kernel itself, which is the emulator's doing.
const CRASHES: u32 = 2;

/// How long a boot may take, on an emulated processor that shares two cores with others.
const BOOT_PATIENCE: Duration = Duration::from_secs(300);

/// Which of the two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// systemd-nspawn on the host's kernel.
    Fast,
    /// QEMU, with a kernel of its own.
    Full,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Fast => "fast",
            Kind::Full => "full",
        })
    }
}

/// What a command said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// What of a running machine another program needs to take it over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Saved {
    /// A fast machine's processes.
    Fast { nspawn: Identity, leader: Option<Identity>, disk: Option<(Identity, Identity)> },
    /// A full machine's processes, and its ssh port on loopback.
    Full { qemu: Identity, disk: Option<Identity>, ssh: Option<Identity>, port: u16 },
}

/// What is written down about a machine that outlives the program that started it.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    kind: Kind,
    strict: bool,
    running: Option<Saved>,
}

enum Power {
    Off,
    Fast(fast::Running),
    Full(full::Running),
}

/// A machine, on or off. Dropping it ends its processes and removes its files.
pub struct Machine {
    // In this order: the processes end before their directory goes.
    power: Power,
    dir: RunDir,
    kind: Kind,
    strict: bool,
    lifetime: Lifetime,
}

impl Machine {
    /// A machine of `kind` from `recipe`, booted.
    pub fn boot(kind: Kind, recipe: &Recipe) -> Result<Machine> {
        let mut machine = Machine::prepare(RunDir::temporary()?, kind, false, recipe, Lifetime::Ours)?;
        machine.boot_again()?;
        Ok(machine)
    }

    /// A machine whose disk loses at a power cut what was not flushed, booted.
    pub fn strict(kind: Kind, recipe: &Recipe) -> Result<Machine> {
        let mut machine = Machine::prepare(RunDir::temporary()?, kind, true, recipe, Lifetime::Ours)?;
        machine.boot_again()?;
        Ok(machine)
    }

    /// A machine that stays when this program ends, under a name to come back to; booted.
    pub fn boot_named(name: &str, kind: Kind, strict: bool, recipe: &Recipe) -> Result<Machine> {
        if let Ok(mut before) = Machine::named(name) {
            if !matches!(before.power, Power::Off) {
                let dir = before.dir.path().to_path_buf();
                return Err(Error::Named {
                    name: name.into(),
                    why: "there is one of that name already",
                    dir,
                });
            }
            before.throw_away()?;
        }
        let mut machine = Machine::prepare(RunDir::named(name)?, kind, strict, recipe, Lifetime::Detached)?;
        let booted = machine.boot_again();
        if booted.is_err() {
            machine.throw_away()?;
        }
        booted.map(|()| machine)
    }

    /// The machine that [`Machine::boot_named`] made under that name, on or off.
    pub fn named(name: &str) -> Result<Machine> {
        let path = RunDir::path_of(name);
        let record = path.join("machine.json");
        let text = std::fs::read_to_string(record).map_err(|_| Error::Named {
            name: name.to_owned(),
            why: "there is no machine of that name",
            dir: path,
        })?;
        let record: Record = serde_json::from_str(&text).context(|| format!("read what {name} is"))?;
        let dir = RunDir::named(name)?;
        let power = match record.running {
            Some(Saved::Fast { nspawn, leader, disk }) => {
                fast::Running::adopt(dir.path(), nspawn, leader, disk)?.map_or(Power::Off, Power::Fast)
            }
            Some(Saved::Full { qemu, disk, ssh, port }) => {
                full::Running::adopt(qemu, disk, ssh, port).map_or(Power::Off, Power::Full)
            }
            None => Power::Off,
        };
        let Record { kind, strict, running: _ } = record;
        Ok(Machine { power, dir, kind, strict, lifetime: Lifetime::Detached })
    }

    fn prepare(
        dir: RunDir,
        kind: Kind,
        strict: bool,
        recipe: &Recipe,
        lifetime: Lifetime,
    ) -> Result<Machine> {
        let (form, files): (_, &[&str]) = match kind {
            Kind::Fast if strict => (Form::RootDisk, &["disk"]),
            Kind::Fast => (Form::Root, &["root"]),
            Kind::Full => (Form::Disk, &["disk", "vmlinuz", "initrd.img", "key"]),
        };
        let cached = cache::get(recipe, form)?;
        process::tool("cp", &cached, |cp| {
            cp.args(["-a", "--reflink=auto", "--sparse=auto", "--"]).args(files).arg(dir.path());
        })?;
        if form == Form::RootDisk {
            let root = dir.path().join("root");
            std::fs::create_dir(&root).context(|| format!("create {}", root.display()))?;
        }
        let machine = Machine { power: Power::Off, dir, kind, strict, lifetime };
        machine.record()?;
        Ok(machine)
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Switches it on and returns at once.
    pub fn power_on(&mut self) -> Result<()> {
        let dir = self.dir.path();
        self.power = match self.kind {
            Kind::Fast => Power::Fast(fast::Running::power_on(dir, self.strict, self.lifetime)?),
            Kind::Full => Power::Full(full::Running::power_on(dir, self.strict, self.lifetime)?),
        };
        self.record()
    }

    /// Waits until its systemd has booted; `running` or `degraded` is what it then says.
    pub fn wait_until_up(&mut self) -> Result<String> {
        let mut crashes = 0;
        loop {
            let until = Instant::now() + BOOT_PATIENCE;
            let up = match &mut self.power {
                Power::Off => return Err(Error::Gone("waiting for its boot".to_owned())),
                Power::Fast(running) => running.wait_until_up(self.dir.path(), until),
                Power::Full(running) => running.wait_until_up(self.dir.path(), until),
            };
            match up {
                Ok(()) => break,
                Err(Error::Boot { .. }) if crashes < CRASHES && full::crashed_by_itself(self.dir.path()) => {
                    crashes += 1;
                    println!(
                        "    machine: its kernel crashed or stood still while booting; booting it again"
                    );
                    self.power_cut()?;
                    self.power_on()?;
                }
                Err(error) => return Err(error),
            }
        }
        self.record()?;
        let state = self.run_for("systemctl is-system-running --wait", BOOT_PATIENCE)?;
        match state.stdout.trim() {
            said @ ("running" | "degraded") => Ok(said.to_owned()),
            said => Err(Error::Boot {
                why: format!("its systemd says {said:?} {}", state.stderr.trim()),
                console: console_tail(self.dir.path()),
            }),
        }
    }

    /// Switches it on and waits until it is up.
    pub fn boot_again(&mut self) -> Result<()> {
        self.power_on()?;
        self.wait_until_up().map(|_| ())
    }

    /// Lets time pass while it does what it does; less if it ends meanwhile.
    pub fn let_pass(&self, span: Duration) {
        match &self.power {
            Power::Off => {}
            Power::Fast(running) => running.let_pass(span),
            Power::Full(running) => running.let_pass(span),
        }
    }

    /// Cuts its power: nothing in it gets to do anything more.
    pub fn power_cut(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.power, Power::Off) {
            Power::Off => {}
            Power::Fast(running) => running.power_cut()?,
            Power::Full(running) => running.power_cut()?,
        }
        self.record()
    }

    /// Has it reboot properly, and waits until it is up again.
    pub fn reboot(&mut self) -> Result<()> {
        self.ask_to("reboot")?;
        match std::mem::replace(&mut self.power, Power::Off) {
            Power::Off => {}
            Power::Fast(running) => {
                running.wait_until_off(self.dir.path(), PATIENCE)?;
                self.power_on()?;
            }
            Power::Full(running) => {
                self.power = Power::Full(running.reboot(self.dir.path(), self.strict, PATIENCE)?);
            }
        }
        self.wait_until_up().map(|_| ())
    }

    /// Has it shut down properly. Its disk stays, so it can boot again.
    pub fn shut_down(&mut self) -> Result<()> {
        self.ask_to("poweroff")?;
        match std::mem::replace(&mut self.power, Power::Off) {
            Power::Off => {}
            Power::Fast(running) => running.wait_until_off(self.dir.path(), PATIENCE)?,
            Power::Full(running) => running.wait_until_off(PATIENCE)?,
        }
        self.record()
    }

    /// Ends it and removes its files, without waiting for anything in it.
    pub fn throw_away(&mut self) -> Result<()> {
        self.power_cut()?;
        self.dir.remove()
    }

    fn ask_to(&self, verb: &str) -> Result<()> {
        // It answers, or it is gone before it could: both are what was asked for.
        match self.run(&format!("systemctl {verb}")) {
            Ok(output) if output.code != 0 && !output.stderr.is_empty() => {
                Err(Error::Failed { line: format!("systemctl {verb}"), output })
            }
            Ok(_) | Err(Error::Gone(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Plugs a cable in between this machine and another, both fast ones and on: interfaces of these names. It is gone
    /// with the power of either.
    pub fn cable(&self, own: &str, other: &Machine, others: &str) -> Result<()> {
        let leader = |machine: &Machine| match &machine.power {
            Power::Fast(running) => running.leader().map(|pid| pid.to_string()),
            Power::Full(_) | Power::Off => None,
        };
        let (Some(near), Some(far)) = (leader(self), leader(other)) else {
            return Err(Error::Gone("a cable".to_owned()));
        };
        process::tool("nsenter", Path::new("/"), |nsenter| {
            nsenter
                .args(["-t", &near, "-n", "ip", "link", "add", own, "type", "veth", "peer", "name", others]);
            nsenter.args(["netns", &far]);
        })
        .map(drop)
    }

    /// Runs a line of bash in it and gives back how that went.
    pub fn run(&self, line: &str) -> Result<Output> {
        self.run_for(line, PATIENCE)
    }

    /// As [`Machine::run`], for a line that may take that long.
    pub fn run_for(&self, line: &str, patience: Duration) -> Result<Output> {
        self.feed(line, std::io::empty(), patience)
    }

    /// Runs a line of bash for a person: what it says goes where ours does, as it comes.
    pub fn show(&self, line: &str, patience: Duration) -> Result<i32> {
        let mut command = self.command(line, Some(patience))?;
        command.stdin(Stdio::null());
        let mut child = process::fork(command).context(|| format!("start `{line}` in the machine"))?;
        let status = child.wait().context(|| format!("wait for `{line}` in the machine"))?;
        Ok(status.code().unwrap_or(255))
    }

    /// Runs a line of bash that has to succeed, and gives back what it wrote to
    /// stdout, without the last line's end.
    pub fn sh(&self, line: &str) -> Result<String> {
        let output = self.run(line)?;
        if output.code != 0 {
            return Err(Error::Failed { line: line.to_owned(), output });
        }
        Ok(output.stdout.trim_end_matches('\n').to_owned())
    }

    /// As [`Machine::run_for`], with `input` on the command's stdin.
    pub fn feed(&self, line: &str, input: impl Read + Send, patience: Duration) -> Result<Output> {
        let command = self.command(line, Some(patience))?;
        let started = Instant::now();
        // Killed from inside first, since what is left of a command that was killed
        // from outside goes on in the machine.
        let finished = process::run(command, input, patience + Duration::from_secs(15))?;
        let late = || Error::TimedOut { what: format!("`{line}` in the machine"), after: patience };
        let finished = finished.ok_or_else(late)?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&finished.status);
        let output = Output {
            code: finished.status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0)),
            stdout: String::from_utf8_lossy(&finished.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&finished.stderr).into_owned(),
        };
        match output.code {
            // timeout(1), and ssh(1) for a connection that is lost, end like this.
            124 if started.elapsed() >= patience => Err(late()),
            255 if self.kind == Kind::Full => Err(Error::Gone(line.to_owned())),
            137 if !self.is_on() => Err(Error::Gone(line.to_owned())),
            _ => Ok(output),
        }
    }

    /// Starts a line of bash and lets it run; its lines are read as they come.
    pub fn start(&self, line: &str) -> Result<Started> {
        let mut command = self.command(line, None)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = process::fork(command).context(|| format!("start `{line}` in the machine"))?;
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Started { child, stdout })
    }

    /// Copies a file or a directory of the host to `to` in the machine, as root's, with its modes.
    pub fn copy_in(&self, from: impl AsRef<Path>, to: &str) -> Result<()> {
        let from = from.as_ref();
        let meta = std::fs::metadata(from).context(|| format!("read {}", from.display()))?;
        if meta.is_dir() {
            let tar = tar_of(from)?;
            let line =
                format!("mkdir -p {0} && tar --no-same-owner --no-overwrite-dir -xpf - -C {0}", quoted(to));
            return self.feed_well(&line, Cursor::new(tar));
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777;
        let file = std::fs::File::open(from).context(|| format!("open {}", from.display()))?;
        self.put(to, mode, file)
    }

    /// Writes a file in the machine, mode 0644.
    pub fn write(&self, to: &str, content: impl AsRef<[u8]> + Send) -> Result<()> {
        self.put(to, 0o644, Cursor::new(content))
    }

    fn put(&self, to: &str, mode: u32, content: impl Read + Send) -> Result<()> {
        // Made aside and renamed: it may be a program that is running there.
        let line = format!(
            "mkdir -p \"$(dirname {0})\" && cat >{0}.part && chmod {mode:o} {0}.part && mv {0}.part {0}",
            quoted(to)
        );
        self.feed_well(&line, content)
    }

    fn feed_well(&self, line: &str, content: impl Read + Send) -> Result<()> {
        let output = self.feed(line, content, BOOT_PATIENCE)?;
        if output.code == 0 { Ok(()) } else { Err(Error::Failed { line: line.to_owned(), output }) }
    }

    /// A command for a person's terminal.
    pub fn shell(&self) -> Result<Command> {
        match &self.power {
            Power::Off => Err(Error::Gone("a shell".to_owned())),
            Power::Fast(running) => {
                let argv = ["env", "-i", "TERM=xterm", "HOME=/root", PATH, "bash", "-l"].map(str::to_owned);
                running.command(&argv).ok_or_else(|| Error::Gone("a shell".to_owned()))
            }
            Power::Full(running) => Ok(running.shell(self.dir.path())),
        }
    }

    /// The end of what its console showed.
    pub fn console(&self) -> String {
        console_tail(self.dir.path())
    }

    /// Whether it is switched on, as far as its processes tell.
    pub fn is_on(&self) -> bool {
        let argv = ["true".to_owned()];
        match &self.power {
            Power::Off => false,
            Power::Fast(running) => running.command(&argv).is_some(),
            Power::Full(running) => running.command(self.dir.path(), &argv).is_some(),
        }
    }

    fn command(&self, line: &str, patience: Option<Duration>) -> Result<Command> {
        let mut argv: Vec<String> =
            ["env", "-i", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb", PATH].map(str::to_owned).into();
        if let Some(patience) = patience {
            let seconds = format!("{:.3}", patience.as_secs_f64());
            argv.extend(["timeout", "--kill-after=5", &seconds].map(str::to_owned));
        }
        argv.extend(["bash", "-o", "pipefail", "-c", line].map(str::to_owned));
        let command = match &self.power {
            Power::Off => None,
            Power::Fast(running) => running.command(&argv),
            Power::Full(running) => running.command(self.dir.path(), &argv),
        };
        command.ok_or_else(|| Error::Gone(line.to_owned()))
    }

    /// Writes down what another program needs to go on with a machine that stays.
    fn record(&self) -> Result<()> {
        if self.lifetime == Lifetime::Ours {
            return Ok(());
        }
        let running = match &self.power {
            Power::Off => None,
            Power::Fast(running) => Some(running.save()),
            Power::Full(running) => Some(running.save()),
        };
        let record = Record { kind: self.kind, strict: self.strict, running };
        let text = serde_json::to_string(&record).context(|| "write down what the machine is")?;
        let file = self.dir.path().join("machine.json");
        std::fs::write(&file, text).context(|| format!("write {}", file.display()))
    }
}

/// A command that goes on in the machine while the story does something else.
/// Dropping it stops reading it; the power cut is what ends it.
pub struct Started {
    child: Child,
    stdout: Option<BufReader<std::process::ChildStdout>>,
}

impl Started {
    /// The next line that it writes, waiting for it; `None` once there are no more,
    /// be it because it ended or because the machine did.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let size = self.stdout.as_mut()?.read_line(&mut line).ok()?;
        // A line without its end was cut off in the middle: it does not count as said.
        (size > 0 && line.ends_with('\n')).then(|| line.trim_end().to_owned())
    }

    /// All the lines that are still to come.
    pub fn rest(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.line()).collect()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The root file system tar of an image, from the cache or made now.
pub fn image(recipe: &Recipe) -> Result<PathBuf> {
    Ok(cache::get(recipe, Form::Tar)?.join("image.tar"))
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn tar_of(dir: &Path) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", dir).context(|| format!("pack {}", dir.display()))?;
    builder.into_inner().context(|| format!("pack {}", dir.display()))
}

fn console_tail(dir: &Path) -> String {
    let bytes = std::fs::read(dir.join("console.log")).unwrap_or_default();
    process::last_lines(&String::from_utf8_lossy(&bytes), 40)
}
