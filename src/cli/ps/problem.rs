//! What is wrong with a container's files, by what the generator has left: a plan or findings beside the unit.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::check::Container;
use crate::host::Paths;
use crate::plan::{PLAN_FORMAT, Plan};
use crate::report::{Level, Report};
use crate::spec::ContainerName;
use crate::transient;

/// What is wrong with a container's files, or with what systemd was to do by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Problem {
    /// They have errors, and it can't start.
    BadFile,
    /// They have errors, and it runs with the plan from before.
    LastGoodPlan,
    /// What they say was tried and failed, and it runs with the plan from before.
    HeldBack,
    /// A `wharf apply` was ended while it tried what they say, which runs, and falls back at its next start.
    Unproved,
    /// systemd doesn't listen for it: a port is taken, as a rule.
    SocketFailed,
    /// systemd has not read them.
    ReloadDue,
    /// There are none any more.
    FileGone,
    /// What the generator left is another version's.
    BadPlan,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

impl Problem {
    /// As in JSON.
    pub(in crate::cli) fn key(self) -> &'static str {
        match self {
            Self::BadFile => "bad-file",
            Self::LastGoodPlan => "last-good-plan",
            Self::HeldBack => "held-back",
            Self::Unproved => "unproved",
            Self::SocketFailed => "socket-failed",
            Self::ReloadDue => "reload-due",
            Self::FileGone => "file-gone",
            Self::BadPlan => "bad-plan",
        }
    }

    pub(in crate::cli) fn words(self) -> &'static str {
        match self {
            Self::BadFile => "bad file",
            Self::LastGoodPlan => "bad file, runs its last good plan",
            Self::HeldBack => "held back, runs its last good plan",
            Self::Unproved => "unproved, its last good plan starts next",
            Self::SocketFailed => "its socket has failed, and nobody listens",
            Self::ReloadDue => "new, needs daemon-reload",
            Self::FileGone => "its file is gone",
            Self::BadPlan => "plan of another version, needs daemon-reload",
        }
    }
}

/// The names that there are, by where they are known from.
pub(in crate::cli) struct Known {
    paths: Paths,
    declared: BTreeSet<ContainerName>,
    /// With a plan or findings, as of the last reload.
    generated: BTreeSet<ContainerName>,
    /// Have run since boot.
    ran: BTreeSet<ContainerName>,
    /// Started by `wharf run`, without a file.
    transient: BTreeSet<ContainerName>,
    /// The stems of files with errors; only for who may not read plans.
    bad: BTreeSet<String>,
}

impl Known {
    /// Reads the folders of plans.
    pub(in crate::cli) fn read(paths: &Paths, declared: BTreeSet<ContainerName>) -> Self {
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let name = |entry: fs::DirEntry| {
                let file = entry.file_name();
                let (stem, end) = file.to_str()?.rsplit_once('.')?;
                ["json", "findings"].contains(&end).then(|| stem.parse().ok())?
            };
            entries.filter_map(name).collect::<BTreeSet<ContainerName>>()
        };
        Self {
            declared,
            generated: names(&paths.generated().join("wharf")),
            ran: names(&paths.last_good()),
            transient: transient::names(paths).into_iter().collect(),
            bad: bad_files(&paths.findings()),
            paths: paths.clone(),
        }
    }

    /// Every name with a file, a plan or findings.
    pub(in crate::cli) fn names(&self) -> impl Iterator<Item = &ContainerName> {
        self.declared.union(&self.generated)
    }

    /// Whether a unit that has a container's name is one. Somebody else's unit may be called like ours; one
    /// that has lost its file is ours while it runs, if it ran by a plan.
    pub(in crate::cli) fn is_ours(&self, name: &ContainerName, active: &str) -> bool {
        let in_set = |set: &BTreeSet<ContainerName>| is_in(set, name);
        in_set(&self.declared)
            || in_set(&self.generated)
            || (active != "inactive" && (in_set(&self.ran) || self.transient.contains(name)))
    }

    /// What is wrong with a container's files, and the container as of the last reload.
    pub(in crate::cli) fn about(&self, name: &ContainerName) -> (Option<Problem>, Option<Container>) {
        let template = name.template();
        if self.transient.contains(name) && !is_in(&self.declared, name) {
            // Only root may read it.
            let plan = fs::read(transient::plan(&self.paths, name)).ok();
            let plan = plan.and_then(|bytes| serde_json::from_slice::<Plan>(&bytes).ok());
            return (None, plan.map(|plan| plan.container));
        }
        let gone = (!is_in(&self.declared, name)).then_some(Problem::FileGone);
        for candidate in [Some(name), template.as_ref()].into_iter().flatten() {
            let path = self.paths.plan(candidate.as_str());
            match fs::read(&path) {
                Ok(bytes) => {
                    let plan = serde_json::from_slice(&bytes);
                    let Some(plan) = plan.ok().filter(|plan: &Plan| plan.format == PLAN_FORMAT) else {
                        return (Some(Problem::BadPlan), None);
                    };
                    let outdated = plan.outdated.map(|_| Problem::LastGoodPlan);
                    let outdated = outdated.or(plan.held.map(|_| Problem::HeldBack));
                    let container = match name.instance().filter(|_| candidate.is_template()) {
                        Some(instance) => plan.container.instance(instance),
                        None => plan.container,
                    };
                    return (gone.or(outdated), Some(container));
                }
                // Plans are root's; what is wrong with files is for everybody to read.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let bad = [candidate.as_str(), FOR_ALL].iter().any(|stem| self.bad.contains(*stem));
                    return (gone.or(bad.then_some(Problem::LastGoodPlan)), None);
                }
                Err(_) if path.with_extension("findings").exists() => {
                    return (gone.or(Some(Problem::BadFile)), None);
                }
                Err(_) => {}
            }
        }
        (gone.or(Some(Problem::ReloadDue)), None)
    }
}

/// The folder of drop-ins for every container.
const FOR_ALL: &str = "container";

fn is_in(set: &BTreeSet<ContainerName>, name: &ContainerName) -> bool {
    set.contains(name) || name.template().is_some_and(|template| set.contains(&template))
}

/// The stems (`nginx` of `nginx.toml` and of `nginx.toml.d/50-x.toml`) of all files with errors.
fn bad_files(findings: &Path) -> BTreeSet<String> {
    let report = fs::read(findings).ok().and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok());
    let stem = |file: &str| {
        let file = Path::new(file);
        let folder = file.parent()?.file_name()?.to_str()?;
        let stem =
            folder.strip_suffix(".toml.d").or_else(|| file.file_name()?.to_str()?.strip_suffix(".toml"))?;
        Some(stem.to_owned())
    };
    report
        .into_iter()
        .flat_map(|report| report.findings)
        .filter(|finding| finding.level == Level::Error)
        .filter_map(|finding| stem(&finding.file))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate;

    fn name(text: &str) -> ContainerName {
        text.parse().expect("a name")
    }

    /// The generator's own output, and what is made of it.
    #[test]
    fn problems() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let file = |name: &str, text: &str| {
            let path = root.path().join("etc/wharf/containers").join(format!("{name}.toml"));
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        const GOOD: &str = "image = \"x\"\nnetwork = \"none\"\n";
        for name in ["good", "went-bad", "web@", "gone"] {
            file(name, GOOD);
        }
        file("bad", "imgae = 1");
        generate::run(&paths, &paths.generated()).expect("generated");
        // They start, then one file goes bad.
        fs::create_dir_all(paths.last_good()).expect("made");
        for name in ["went-bad", "gone", "forgotten"] {
            let plan = fs::read(paths.plan(name)).unwrap_or_default();
            fs::write(paths.last_good().join(format!("{name}.json")), plan).expect("kept");
        }
        file("went-bad", "image = 1");
        generate::run(&paths, &paths.generated()).expect("generated");
        file("new", GOOD);
        let declared = ["good", "went-bad", "web@", "bad", "new"].map(name).into_iter().collect();
        let known = Known::read(&paths, declared);
        for (text, problem) in [
            ("good", None),
            ("web@", None),
            ("web@blue", None),
            ("went-bad", Some(Problem::LastGoodPlan)),
            ("bad", Some(Problem::BadFile)),
            ("new", Some(Problem::ReloadDue)),
            ("gone", Some(Problem::FileGone)),
        ] {
            assert_eq!(known.about(&name(text)).0, problem, "{text}");
        }
        assert_eq!(known.about(&name("web@blue")).1.expect("a container").name, name("web@blue"));
        assert_eq!(known.names().count(), 6);
        for (text, active, ours) in [
            ("web@blue", "active", true),
            ("forgotten", "active", true),
            ("forgotten", "inactive", false),
            ("foreign", "active", false),
        ] {
            assert_eq!(known.is_ours(&name(text), active), ours, "{text} {active}");
        }
        // Who may not read the plans is told by the findings.
        let bad: Vec<String> = known.bad.into_iter().collect();
        assert_eq!(bad, ["bad", "went-bad"]);
    }
}
