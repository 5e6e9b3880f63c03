//! Looks at every container once, as often as it is asked to.
//!
//! A look asks systemd which units there are, and the kernel for some files of each and one list of interfaces. What
//! stays as it is during a run is looked up once in each: the record, where the cgroup is, the restarts before. That it is
//! still the same run is told by the id that systemd writes at the cgroup: asking systemd itself for a few properties of
//! 200 containers took it and the bus 28 ms of CPU time, each look; so it is 5, and 17 for this program as tests build it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::Timespec;
use rustix::time::{ClockId, clock_gettime};

use crate::bus::{BusError, Systemd, Vitals};
use crate::check::RootSource;
use crate::cli::declared::{Declared, DeclaredError};
use crate::cli::ps::PATTERNS;
use crate::cli::ps::problem::{Known, Problem};
use crate::host::Paths;
use crate::net;
use crate::plan::health;
use crate::running;
use crate::spec::ContainerName;
use crate::usage::cgroup::{self, Depth};
use crate::usage::{Run, Sample, Usage};

/// A container as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct Seen {
    pub(in crate::cli) name: ContainerName,
    /// `ActiveState`.
    pub(in crate::cli) state: String,
    /// By the checks of `[health]`, while it runs.
    pub(in crate::cli) health: Option<&'static str>,
    pub(in crate::cli) restarts: Option<u32>,
    /// When it became active, while it is.
    pub(in crate::cli) since: Option<Timestamp>,
    /// The reference that it runs, and the digest of that image.
    pub(in crate::cli) image: Option<String>,
    pub(in crate::cli) digest: Option<String>,
    /// What is wrong with its files, where that was asked for.
    pub(in crate::cli) problem: Option<Problem>,
    /// What it uses, while something of it runs.
    pub(in crate::cli) sample: Option<Sample>,
}

/// What stays as it is during one run.
#[derive(Clone, Debug, Default)]
struct Fixed {
    /// What systemd said of it, and how many looks ago.
    vitals: Vitals,
    age: u32,
    /// Of which run; nothing where that can't be told, and systemd has to be asked each time.
    run: Option<String>,
    interface: Option<String>,
    image: Option<String>,
    digest: Option<String>,
    /// Nothing where only root may know.
    is_checked: Option<bool>,
}

/// After so many looks systemd is asked in any case: a cgroup that somebody's processes kept from being made anew may
/// have an older id.
const OLD: u32 = 10;

/// Which containers are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Which {
    /// Those of which something runs.
    Running,
    /// These, running or not.
    These(BTreeSet<ContainerName>),
    /// Every declared one, and what is wrong with its files.
    All,
}

/// Looks again and again.
pub(in crate::cli) struct Gatherer<'a> {
    paths: &'a Paths,
    systemd: Systemd,
    which: Which,
    depth: Depth,
    known: Known,
    /// Whether a unit with a container's name is one, by its name.
    ours: BTreeMap<ContainerName, bool>,
    fixed: BTreeMap<ContainerName, Fixed>,
}

/// These are containers of another root, which nothing here runs.
#[derive(Debug, thiserror::Error)]
#[error("what containers use can only be measured where they run; leave --root and WHARF_ROOT away")]
pub(in crate::cli) struct NotHere;

/// Why nothing was seen.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum GatherError {
    #[error(transparent)]
    NotHere(#[from] NotHere),
    #[error(transparent)]
    Declared(#[from] DeclaredError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl<'a> Gatherer<'a> {
    /// Finds out what there is.
    ///
    /// # Errors
    /// There is no systemd, or nothing knows one of the names.
    pub(in crate::cli) fn new(
        paths: &'a Paths,
        names: &[ContainerName],
        all: bool,
        depth: Depth,
    ) -> Result<Self, GatherError> {
        if !paths.are_this_hosts() {
            return Err(NotHere.into());
        }
        let declared = Declared::list(paths)?;
        for name in names {
            // A name that was mistyped must not pass for one that uses nothing.
            if !matches!(running::find(paths, name), Ok(Some(_)))
                && !crate::transient::plan(paths, name).exists()
            {
                declared.unit_of(name)?;
            }
        }
        let which = match (names.is_empty(), all) {
            (false, _) => Which::These(names.iter().cloned().collect()),
            (true, true) => Which::All,
            (true, false) => Which::Running,
        };
        Ok(Self {
            known: Known::read(paths, declared.names()),
            paths,
            systemd: Systemd::connect()?,
            which,
            depth,
            ours: BTreeMap::new(),
            fixed: BTreeMap::new(),
        })
    }

    /// Every container that is asked for, by name.
    ///
    /// # Errors
    /// systemd doesn't answer.
    pub(in crate::cli) fn look(&mut self) -> Result<Vec<Seen>, GatherError> {
        let vitals = self.vitals()?;
        // Without it only what passes the network stays unknown.
        let interfaces = net::counters().unwrap_or_default();
        let network_at = now();
        let mut seen = Vec::with_capacity(vitals.len());
        let mut fixed = BTreeMap::new();
        for vitals in vitals {
            let Some(name) = ContainerName::from_unit(&vitals.unit) else { continue };
            let same = |fixed: &Fixed| fixed.vitals.since.is_some() && fixed.vitals.since == vitals.since;
            let known = self.fixed.remove(&name).filter(same);
            let mut known = known.unwrap_or_else(|| look_up(self.paths, &name, &vitals));
            let group = vitals.control_group.as_deref();
            let run = group.and_then(cgroup::run);
            known.age = if known.run == run { known.age % OLD + 1 } else { 1 };
            known.run = run;
            let sample = group.and_then(|group| cgroup::read(group, self.depth)).map(|usage: Usage| Sample {
                at: now(),
                run: Run { since: vitals.since, id: known.run.clone() },
                usage,
                network_at,
                network: known.interface.as_ref().and_then(|name| interfaces.get(name)).copied(),
            });
            seen.push(describe(name.clone(), &vitals, &known, sample));
            known.vitals = vitals;
            fixed.insert(name, known);
        }
        self.fixed = fixed;
        self.complete(&mut seen);
        Ok(seen)
    }

    fn vitals(&mut self) -> Result<Vec<Vitals>, BusError> {
        let Self { paths, systemd, which, depth: _, known, ours, fixed } = self;
        let mut is_fresh = false;
        let mut is_ours = |name: &ContainerName, active: &str| {
            if let Some(is) = ours.get(name) {
                return *is;
            }
            let mut is = known.is_ours(name, active);
            // It may have been declared since.
            if !is && !is_fresh {
                is_fresh = true;
                if let Ok(declared) = Declared::list(paths) {
                    *known = Known::read(paths, declared.names());
                    is = known.is_ours(name, active);
                }
            }
            // One that doesn't run may become one of `wharf run`.
            if is || !matches!(active, "inactive" | "failed") {
                ours.insert(name.clone(), is);
            }
            is
        };
        systemd.vitals(
            &PATTERNS,
            |unit, active| {
                let Some(name) = ContainerName::from_unit(unit) else { return false };
                let is_asked = match which {
                    Which::Running => !matches!(active, "inactive" | "failed"),
                    Which::These(names) => names.contains(&name),
                    Which::All => true,
                };
                is_asked && is_ours(&name, active)
            },
            |unit, active| still(fixed.get(&ContainerName::from_unit(unit)?)?, active),
        )
    }

    /// Adds those that systemd hasn't loaded, and says what is wrong with files.
    fn complete(&self, seen: &mut Vec<Seen>) {
        let names: Vec<ContainerName> = match &self.which {
            Which::Running => return,
            Which::These(names) => names.iter().cloned().collect(),
            Which::All => self.known.names().filter(|name| !name.is_template()).cloned().collect(),
        };
        let there: BTreeSet<ContainerName> = seen.iter().map(|seen| seen.name.clone()).collect();
        for name in names.into_iter().filter(|name| !there.contains(name)) {
            let vitals = Vitals { active: "inactive".to_owned(), ..Vitals::default() };
            seen.push(describe(name, &vitals, &Fixed::default(), None));
        }
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        if self.which == Which::All {
            for seen in seen {
                let (problem, container) = self.known.about(&seen.name);
                seen.problem = problem;
                if seen.image.is_none()
                    && let Some(RootSource::Image(reference)) = container.map(|container| container.source)
                {
                    seen.image = Some(reference.to_string());
                }
            }
        }
    }
}

/// What is known of a container that is still in the same run, and whether its health may have changed.
fn still(fixed: &Fixed, active: &str) -> Option<(Vitals, bool)> {
    let Fixed { vitals, age, run, interface: _, image: _, digest: _, is_checked } = fixed;
    if active != "active" || vitals.active != active || *age >= OLD {
        return None;
    }
    let now = cgroup::run(vitals.control_group.as_deref()?)?;
    (run.as_ref() == Some(&now)).then(|| (vitals.clone(), is_checked.unwrap_or(true)))
}

/// What its record says of a run. For who may not read it, it is as if there were none.
fn look_up(paths: &Paths, name: &ContainerName, vitals: &Vitals) -> Fixed {
    let mut fixed = Fixed::default();
    if vitals.control_group.is_some()
        && let Ok(Some(running)) = running::find(paths, name)
    {
        fixed.interface = running.attachment.map(|attachment| attachment.interface);
        fixed.is_checked = Some(running.container.health.is_some());
        fixed.digest = running.image;
        if let RootSource::Image(reference) = running.container.source {
            fixed.image = Some(reference.to_string());
        }
    }
    fixed
}

fn describe(name: ContainerName, vitals: &Vitals, fixed: &Fixed, sample: Option<Sample>) -> Seen {
    let Vitals { unit: _, active, since, restarts, text, control_group: _ } = vitals;
    let Fixed { vitals: _, age: _, run: _, interface: _, image, digest, is_checked } = fixed;
    // Any program that may speak to systemd can say that it is healthy.
    let health = text.as_deref().and_then(health::state_of).filter(|_| is_checked.unwrap_or(true));
    Seen {
        name,
        state: active.clone(),
        health,
        restarts: *restarts,
        since: since
            .and_then(|time| i64::try_from(time).ok())
            .and_then(|time| Timestamp::from_microsecond(time).ok()),
        image: image.clone(),
        digest: digest.clone(),
        problem: None,
        sample,
    }
}

/// On the clock that nobody sets, and that goes on while the host sleeps.
pub(in crate::cli) fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Lets time pass between two looks: what is measured is that time, so there is nothing else to wait for.
pub(in crate::cli) fn pause(length: Duration) {
    let until = now().saturating_add(length);
    loop {
        let left = until.saturating_sub(now());
        if left.is_zero() {
            return;
        }
        let left = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let _ = rustix::event::poll(&mut [], Some(&left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_and_systemd_say() {
        let name: ContainerName = "web".parse().expect("a name");
        let vitals = Vitals {
            active: "active".to_owned(),
            since: Some(5_000_000),
            restarts: Some(3),
            text: Some("Health: unhealthy".to_owned()),
            ..Vitals::default()
        };
        let seen = describe(name.clone(), &vitals, &Fixed::default(), None);
        // Who may not read records is told what systemd was.
        assert_eq!((seen.health, seen.restarts), (Some("unhealthy"), Some(3)));
        assert_eq!(seen.since.map(Timestamp::as_second), Some(5));
        let unchecked = Fixed { is_checked: Some(false), ..Fixed::default() };
        let seen = describe(name, &vitals, &unchecked, None);
        assert_eq!(seen.health, None);
    }

    #[test]
    fn time_passes() {
        let before = now();
        pause(Duration::from_millis(20));
        assert!(now() - before >= Duration::from_millis(20));
    }

    #[test]
    fn another_root_has_nothing_to_measure() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let error = Gatherer::new(&paths, &[], false, Depth::Table).map(drop).expect_err("refused");
        assert!(matches!(error, GatherError::NotHere(_)), "{error}");
    }
}
