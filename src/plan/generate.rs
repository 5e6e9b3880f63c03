//! From the texts of a container's files to what systemd and the executor read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{PLAN_FORMAT, Plan, unit};
use crate::check::{self, Checked};
use crate::host::HostFacts;
use crate::report::{self, Finding, Level, Place, Source, Style};
use crate::spec::{ContainerName, Document};

/// The texts that declare one container.
#[derive(Clone, Debug)]
pub struct Files {
    /// Its name.
    pub name: ContainerName,
    /// `NAME.toml`, or the template's file.
    pub main: Arc<Source>,
    /// Drop-ins in the order in which they are laid over it.
    pub drop_ins: Vec<Arc<Source>>,
    /// What was wrong with reading them.
    pub findings: Vec<Finding>,
}

/// What the generator leaves for one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Whose.
    pub name: ContainerName,
    /// The text of its unit.
    pub unit: String,
    /// What lies beside it.
    pub beside: Beside,
    /// Whether multi-user.target wants it.
    pub autostart: bool,
}

/// What lies beside a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// `wharf/NAME.json`, a [`Plan`].
    Plan(String),
    /// `wharf/NAME.findings`, what `refuse` prints.
    Findings(String),
}

/// Parses, merges and checks a container's files. A panic on the way becomes a finding.
pub fn check(files: &Files) -> Checked {
    guarded(&files.main, || {
        let (mut document, mut findings) = Document::parse(&files.main);
        findings.extend(files.findings.iter().cloned());
        for drop_in in &files.drop_ins {
            let (over, more) = Document::parse(drop_in);
            findings.extend(more);
            document.merge(over);
        }
        let mut checked = check::check(&files.name, &document, findings);
        checked.autostart &= !files.name.is_template();
        checked
    })
}

/// Runs what must not take its neighbours down.
fn guarded(main: &Arc<Source>, run: impl FnOnce() -> Checked) -> Checked {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let why = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no reason given".to_owned());
        let finding =
            Finding::error(Place::file(main), format!("Wharf made a mistake reading this file: {why}"))
                .hint("this is a fault of Wharf's; please report it with the file");
        Checked { container: None, findings: vec![finding], autostart: false }
    })
}

/// What to leave for a container that was checked. `last_good` is asked only where there are errors.
pub fn output(
    files: &Files,
    checked: &Checked,
    last_good: impl FnOnce() -> Option<Plan>,
    facts: HostFacts,
) -> Output {
    let name = files.name.clone();
    if let Some(container) = &checked.container {
        let plan = Plan {
            format: PLAN_FORMAT,
            source: files.main.path.clone(),
            outdated: None,
            unit: unit::unit(container, &files.main.path, facts),
            container: container.clone(),
        };
        if let Ok(text) = serde_json::to_string(&plan) {
            return Output {
                name,
                unit: plan.unit,
                beside: Beside::Plan(text),
                autostart: container.autostart,
            };
        }
    }
    let errors: Vec<Finding> =
        checked.findings.iter().filter(|finding| finding.level == Level::Error).cloned().collect();
    let text = report::render(&errors, Style::Plain);
    let problem = errors.first().map_or_else(|| "no reason known".to_owned(), Finding::short_line);
    let good = last_good().filter(|plan| plan.format == PLAN_FORMAT && plan.container.name == name);
    if let Some(mut plan) = good {
        let description = unit::outdated_description(&plan.container, &problem);
        plan.unit = crate::unit::replace(&plan.unit, "Description", &description);
        plan.outdated = Some(text.clone());
        let autostart = plan.container.autostart;
        if let Ok(json) = serde_json::to_string(&plan) {
            return Output { name, unit: plan.unit, beside: Beside::Plan(json), autostart };
        }
    }
    Output {
        unit: unit::refusal(&name, &files.main.path, &problem),
        name,
        beside: Beside::Findings(text),
        autostart: checked.autostart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> Files {
        Files {
            name: "nginx".parse().expect("a name"),
            main: Source::new("/etc/wharf/containers/nginx.toml", text),
            drop_ins: vec![],
            findings: vec![],
        }
    }

    const GOOD: &str = "image = \"nginx:1.26\"\nnetwork = \"none\"\n";

    #[test]
    fn a_panic_is_a_finding() {
        let source = Source::new("x.toml", "");
        let checked = guarded(&source, || panic!("on purpose"));
        assert!(checked.findings[0].message.contains("on purpose"));
    }

    #[test]
    fn last_good_plan() {
        let good = files(GOOD);
        let first = output(&good, &check(&good), || None, HostFacts::default());
        let Beside::Plan(text) = &first.beside else { panic!("{first:?}") };
        let plan: Plan = serde_json::from_str(text).expect("a plan");
        assert_eq!(plan.unit, first.unit);
        let bad = files("image = 3\n");
        let again = output(&bad, &check(&bad), || Some(plan.clone()), HostFacts::default());
        assert!(again.unit.contains("LAST GOOD PLAN: nginx.toml:1:9"), "{}", again.unit);
        let Beside::Plan(text) = &again.beside else { panic!("{again:?}") };
        let kept: Plan = serde_json::from_str(text).expect("a plan");
        assert!(kept.outdated.is_some_and(|text| text.contains("must be a text")));
        assert_eq!(kept.container, plan.container);
        let refused = output(&bad, &check(&bad), || None, HostFacts::default());
        assert!(refused.unit.contains("wharf-executor refuse nginx"), "{}", refused.unit);
        assert!(refused.autostart);
    }
}
