//! What a story is told with: a machine, Wharf in it, and what to ask of it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::machine::{Context, Kind, Machine, Recipe, Result};

/// A story and the kinds of machine that it is told on.
pub struct Story {
    /// What it shows, as a sentence.
    pub name: &'static str,
    /// Where it is told.
    pub on: On,
    /// The story itself.
    pub tell: fn(&mut Stage) -> Told,
}

/// The kinds of machine that a story is told on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The fast one shows all there is to show.
    Fast,
    /// It takes a kernel of its own.
    Full,
    /// Both.
    Both,
    /// The fast one, and where everything is told also the full one: it shows the same, slowly, on another kernel.
    FastThenFull,
    /// The fast one, and only where everything is told: it takes long, and what it shows seldom breaks alone.
    FastIfAll,
    /// The same for the full one.
    FullIfAll,
    /// The same for both: what only the full one has comes in as well.
    BothIfAll,
}

impl On {
    /// Whether a story belongs on a kind of machine.
    pub fn includes(self, kind: Kind) -> bool {
        match kind {
            Kind::Fast => !matches!(self, On::Full | On::FullIfAll),
            Kind::Full => !matches!(self, On::Fast | On::FastIfAll),
        }
    }

    /// Why it is left out there unless everything is told, where it is.
    pub fn can_wait(self, kind: Kind) -> Option<&'static str> {
        match (self, kind) {
            (On::FastThenFull, Kind::Full) => Some("it was told on the fast machine"),
            (On::FastIfAll | On::FullIfAll | On::BothIfAll, _) => Some("others show most of what it does"),
            _ => None,
        }
    }
}

/// Whether everything is told, and as often as it takes to be sure.
pub fn everything() -> bool {
    std::env::var_os("WHARF_TEST_FULL").is_some_and(|value| value == "1")
}

/// How a story ended.
pub type Told = std::result::Result<(), Untold>;

/// Why a story was not told to its good end.
pub enum Untold {
    /// The machine lacks what it needs.
    Skipped(String),
    /// What it says is not so.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Untold {
    fn from(error: E) -> Untold {
        Untold::Failed(super::machine::chain(&error))
    }
}

/// What not every machine has.
#[derive(Debug, Clone, Copy)]
pub enum Feature {
    /// The cgroup controllers behind `[limits]`: cpu, memory and pids.
    CgroupControllers,
}

/// One kind of machine, and a machine of that kind that stories share.
pub struct Stage {
    kind: Kind,
    shared: Option<Machine>,
}

impl Stage {
    /// A stage with no machine yet.
    pub fn new(kind: Kind) -> Stage {
        Stage { kind, shared: None }
    }

    /// The kind of its machines.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The machine that the stories of this stage share, booted when the first one
    /// asks, and on. A story cleans up behind itself; after one that failed, the next gets a new one.
    pub fn machine(&mut self) -> Result<&mut Machine> {
        let machine = match self.shared.take() {
            Some(mut machine) => {
                if !machine.is_on() {
                    machine.boot_again()?;
                }
                machine
            }
            None => Machine::boot(self.kind, &Recipe::base())?,
        };
        Ok(self.shared.insert(machine))
    }

    /// A machine of the story's own.
    pub fn fresh(&self) -> Result<Machine> {
        Machine::boot(self.kind, &Recipe::base())
    }

    /// Ends the shared machine.
    pub fn throw_away(&mut self) {
        self.shared = None;
    }

    /// Skips the story unless the machine has that.
    pub fn needs(&mut self, feature: Feature) -> Told {
        match feature {
            Feature::CgroupControllers => {
                let there = self.machine()?.sh("cat /sys/fs/cgroup/cgroup.controllers")?;
                let missing: Vec<&str> = ["cpu", "memory", "pids"]
                    .into_iter()
                    .filter(|name| !there.split_whitespace().any(|controller| controller == *name))
                    .collect();
                if missing.is_empty() {
                    return Ok(());
                }
                Err(Untold::Skipped(format!("no cgroup controller {} there", missing.join(", "))))
            }
        }
    }

    /// How often: a few times, or with `WHARF_TEST_FULL=1` as often as it takes to be sure.
    pub fn times(&self, few: u32, many: u32) -> u32 {
        if everything() { many } else { few }
    }
}

/// Some moment within a span, another one each time.
pub fn some_moment(within: Duration) -> Duration {
    // The standard library's own source of a little randomness.
    let random = RandomState::new().build_hasher().finish();
    within.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Installs Wharf in a machine, as its packages would, from the binaries built with this test.
pub fn install_wharf(machine: &Machine) -> Result<()> {
    put_wharf(machine, "/")?;
    machine.sh("systemd-tmpfiles --create wharf.conf && systemctl daemon-reload")?;
    Ok(())
}

/// Puts all that is installed of Wharf into a folder of a machine.
pub fn put_wharf(machine: &Machine, folder: &str) -> Result<()> {
    let staged = tempfile::tempdir().context(|| "make a directory to install into")?;
    let binaries = Path::new(env!("CARGO_BIN_EXE_wharf")).parent().map(Path::to_path_buf);
    let mut install = Command::new(project().join("packaging/install"));
    install.arg("--destdir").arg(staged.path()).arg("--profile-dir").args(binaries);
    let done = install.output().context(|| "start packaging/install")?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        return Err(std::io::Error::other(said)).context(|| "install Wharf into a directory");
    }
    machine.copy_in(staged.path(), folder)
}

/// The project's own directory.
pub fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
