//! The executor: interprets the steps of a start, hands the container's first process to systemd, and is
//! gone. Behaviour belongs in [`crate::plan`]; here is only its execution.
//!
//! ```text
//! systemd ── wharf-executor start nginx           reads the plan, resolves the image
//!    │            │ host steps: lease, cgroup, stage
//!    │            ├─ clone(CLONE_PARENT) ─┐
//!    ├── first process ──────────────────-┘        systemd's own child; waits
//!    │            │ host steps: ids, layers, root, mounts
//!    │            ├── "the root stands" ──►  inner steps: own mounts, /proc, privileges
//!    │            │◄── "ready" ────────────
//!    │◄─ MAINPID= + barrier
//!    │            ├── "gate" ─────────────►  exec
//!    │            │◄── end of the line
//!    │◄─ READY=1
//!    │            └─ exit
//! ```
//!
//! With `[health]` the first process stays as a small init, and says READY=1 itself where that is to wait for a check:
//! see `exec/health`.
//!
//! Whatever dies, the rest follows: the first process ends when the line breaks before the gate, the mounts
//! belong to the two of them, and systemd kills what is left in the unit's cgroup.

mod again;
mod attached;
mod credentials;
mod data;
mod enter;
mod environment;
mod failure;
mod foreground;
mod handed;
mod handover;
mod health;
mod host;
mod identity;
mod implied;
mod init;
mod inner;
mod inside;
mod line;
mod machined;
mod network;
mod ports;
mod privileges;
mod program;
mod proxy;
mod relay;
mod reload;
mod request;
mod source;
mod start;
mod stop;
mod target;
mod trust;
mod view;
mod words;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub use again::{IN_A_ROW, forget_starts, last_image, ready_for, was_started};
pub use attached::Waiting;
pub use enter::{MISSING, NOT_RUN, NotEntered, OWN as NOT_ENTERED, enter};
pub use failure::{Failure, Status};
pub use foreground::{Foreground, Outcome, shadow, status_of_signal};
pub use identity::ids_in;
pub use network::{is_firewalld_running, is_firewalld_strict, look as look_at_network, refresh};
pub use privileges::CAPABILITIES;
pub use proxy::proxy;
pub use reload::reload;
pub use request::{Program, Request, RequestError, User, variable, working_directory};
pub use start::{start, started};
pub use stop::{last_words, proved, refuse, stop, stopped};
pub use target::own_unit;
pub use view::root;
pub use words::End;

use crate::check::Container;
use crate::host::Paths;
use crate::plan::{self, PLAN_FORMAT, Plan};
use crate::spec::ContainerName;
use crate::transient;

/// A plan as found, with its text, for keeping it.
struct Loaded {
    plan: Plan,
    /// What this start is of: the plan's container, or an instance of it.
    container: Container,
    file: String,
    text: String,
    /// Started by `wharf run`.
    transient: bool,
}

/// How long a plan may be missing: systemd empties the generators' folder at the beginning of a reload, and a
/// start may fall into it.
const RELOAD: Duration = Duration::from_secs(3);

/// Reads the plan of a container; for an instance without one of its own, its template's.
fn load(paths: &Paths, name: &ContainerName) -> Result<Loaded, Failure> {
    // Its plan doesn't go with a reload, and counts as long as its unit is there, whatever is declared meanwhile.
    if let Some(folder) = transient::of_this_unit(paths, name) {
        let loaded = find(&folder, name)?.map(|loaded| Loaded { transient: true, ..loaded });
        return loaded.ok_or_else(|| {
            let problem = format!("there is no plan for {name} in {}", folder.display());
            Failure::new(Status::Config, problem).hint("wharf run makes it, with another container")
        });
    }
    let until = Instant::now() + RELOAD;
    let mut is_renewed = false;
    loop {
        match find(&paths.plans(), name) {
            Ok(Some(loaded)) => return Ok(loaded),
            Ok(None) => {}
            Err(failure) if is_renewed => return Err(failure),
            Err(_) => {
                is_renewed = true;
                renew(paths, name);
                continue;
            }
        }
        if Instant::now() >= until {
            let problem = format!("there is no plan for {name} in {}", paths.plans().display());
            return Err(Failure::new(Status::Config, problem)
                .hint("systemctl daemon-reload makes it from the container file"));
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells when a reload is over")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Has systemd make all units and plans anew. Should it fail, what is there by then says so.
fn reload_systemd() {
    let _ = Command::new("systemctl").arg("daemon-reload").stdin(Stdio::null()).status();
}

/// Has systemd make all plans anew, where that of a container is older than this program: an upgrade has just brought
/// it, and whoever upgrades has not come to the reload yet. With a younger one that would help nothing.
fn renew(paths: &Paths, name: &ContainerName) {
    let Ok(program) = fs::metadata("/proc/self/exe") else { return };
    // An archive has the times of its files; that of the change is when it was unpacked.
    let installed = (program.ctime(), program.ctime_nsec());
    let is_older = |name: &ContainerName| {
        fs::metadata(paths.plan(name.as_str()))
            .is_ok_and(|plan| (plan.mtime(), plan.mtime_nsec()) < installed)
    };
    if [Some(name), name.template().as_ref()].into_iter().flatten().any(is_older) {
        reload_systemd();
    }
}

/// The plan in one of the folders that have plans.
fn find(folder: &Path, name: &ContainerName) -> Result<Option<Loaded>, Failure> {
    let template = name.template();
    let candidates = [Some(name), template.as_ref()];
    for (candidate, is_template) in candidates.into_iter().flatten().zip([false, true]) {
        let path = folder.join(format!("{candidate}.json"));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Failure::new(
                    Status::Config,
                    format!("can't read the plan {}: {error}", path.display()),
                ));
            }
        };
        let plan = parse(&path, &text)?;
        let container = match name.instance().filter(|_| is_template) {
            Some(instance) => plan.container.instance(instance),
            None => plan.container.clone(),
        };
        return Ok(Some(Loaded {
            plan,
            container,
            file: format!("{candidate}.json"),
            text,
            transient: false,
        }));
    }
    Ok(None)
}

fn parse(path: &Path, text: &str) -> Result<Plan, Failure> {
    let stale = |problem: String| {
        Failure::new(Status::Config, problem)
            .hint("it is from another version of Wharf; systemctl daemon-reload makes it anew")
    };
    let plan: Plan = plan::read(text.as_bytes())
        .map_err(|error| stale(format!("the plan {} can't be read: {error}", path.display())))?;
    if plan.format == PLAN_FORMAT {
        Ok(plan)
    } else {
        Err(stale(format!("the plan {} has format {}, not {PLAN_FORMAT}", path.display(), plan.format)))
    }
}
