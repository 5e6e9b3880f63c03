//! From the texts of a container's files to what systemd and the executor read.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::companions::{BootLink, Companion, boot_links, companions, proxy_unit, socket_unit};
use super::held::Held;
use super::{PLAN_FORMAT, Plan, unit};
use crate::check::{
    self, Checked, Connections, Container, Credential, CredentialSource, Ending, RootSource, Starting,
    Supplies,
};
use crate::host::HostFacts;
use crate::report::{self, Finding, Level, Place, Source, Style};
use crate::settings::{Policy, Settings};
use crate::spec::{ContainerName, Document, Reference};

/// The texts that declare one container; or one image, or the host's settings, which have no name.
#[derive(Clone, Debug)]
pub struct Files<N = ContainerName> {
    /// Its name.
    pub name: N,
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
    /// The units beside it.
    pub companions: Vec<Companion>,
    /// The links by which boot starts it; none where boot doesn't.
    pub boot: Vec<BootLink>,
    /// The image that it runs and the unit that fetches that, where there is one; what the unit's text says.
    pub image: Option<(Reference, String)>,
}

/// What lies beside a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// `wharf/NAME.json`, a [`Plan`].
    Plan(String),
    /// `wharf/NAME.findings`, what `refuse` prints.
    Findings(String),
}

/// Warns of what this host's systemd is too old for. It would say so in the journal and go on, and the executor would
/// refuse to start the container for want of its secrets.
pub fn warn_of_age(files: &Files, checked: &mut Checked, facts: HostFacts) {
    let (Some(container), Some(systemd)) = (&checked.container, facts.systemd) else { return };
    let is_stored = |credential: &Credential| matches!(credential.source, CredentialSource::Store(_));
    let any = |of: &dyn Fn(&Credential) -> bool| container.credentials.iter().any(of);
    let path = "write its path after the name, as in \"tls.key:/etc/credstore/tls.key\"";
    let mut lacking: Vec<_> = [
        (
            "encrypted-credentials",
            250,
            any(&|one| one.encrypted),
            "keep the secret as it is in `credentials`",
        ),
        ("encrypted-credentials", 251, any(&|one| one.encrypted && is_stored(one)), path),
        ("credentials", 251, any(&|one| !one.encrypted && is_stored(one)), path),
    ]
    .into_iter()
    .filter(|(_, since, used, _)| *used && systemd < *since)
    .collect();
    // As a rule nothing, and then the files aren't parsed again.
    lacking.dedup_by_key(|(key, ..)| *key);
    for (key, since, _, hint) in lacking {
        let (document, _) = document(files);
        let Some(entry) = document.get([key]) else { continue };
        let what = if hint == path { "a name without a path in " } else { "" };
        let message = format!("{what}`{key}` needs systemd {since}, and this host has {systemd}");
        checked.findings.push(Finding::warning(entry.key.clone(), message).hint(hint));
    }
}

/// Parses, merges and checks a container's files. A panic on the way becomes a finding.
pub fn check(files: &Files) -> Checked {
    guarded(
        &files.main,
        || {
            let (document, findings) = document(files);
            let mut checked = check::check(&files.name, &document, findings);
            checked.autostart &= !files.name.is_template();
            checked
        },
        |finding| Checked {
            container: None,
            findings: vec![finding],
            autostart: false,
            connections: Connections::default(),
            starting: Starting::default(),
            ending: Ending::default(),
        },
    )
}

/// The files of one thing as one tree, with what was wrong with reading them.
pub fn document<N>(files: &Files<N>) -> (Document, Vec<Finding>) {
    let (mut document, mut findings) = Document::parse(&files.main);
    findings.extend(files.findings.iter().cloned());
    for drop_in in &files.drop_ins {
        let (over, more) = Document::parse(drop_in);
        findings.extend(more);
        document.merge(over);
    }
    (document, findings)
}

/// Compares the files of all containers, each of which [`check()`] has looked at alone, and lays what is found
/// by the container in whose files it is. All that are declared must be there: who isn't can't be linked to.
/// `supplies` is what the files of images say.
pub fn compare(all: &mut [(Files, Checked)], supplies: &Supplies) {
    let known = all.iter().map(|(files, checked)| (&files.name, checked)).collect();
    // A panic must not leave the host without units. What the files say each by itself stands then.
    let found = catch_unwind(AssertUnwindSafe(|| check::across(&known))).unwrap_or_else(|panic| {
        let Some((files, _)) = all.first() else { return check::Found::new() };
        let why = reason(panic.as_ref());
        let finding = Finding::warning(
            Place::file(&files.main),
            format!("Wharf made a mistake comparing files: {why}"),
        )
        .hint("this is a fault of Wharf's; please report it with the files of all containers");
        vec![(files.name.clone(), finding)]
    });
    let mut found_by: BTreeMap<ContainerName, Vec<Finding>> = BTreeMap::new();
    for (name, finding) in found {
        found_by.entry(name).or_default().push(finding);
    }
    for (files, checked) in all {
        super::image::supply(checked, supplies);
        let Some(more) = found_by.remove(&files.name) else { continue };
        checked.findings.extend(more);
        report::sort(&mut checked.findings);
        checked.findings.dedup();
        if report::has_errors(&checked.findings) {
            checked.container = None;
        }
    }
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason given".to_owned())
}

/// Runs what must not take its neighbours down.
pub(super) fn guarded<T>(
    main: &Arc<Source>,
    run: impl FnOnce() -> T,
    broken: impl FnOnce(Finding) -> T,
) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let why = reason(panic.as_ref());
        broken(
            Finding::error(Place::file(main), format!("Wharf made a mistake reading this file: {why}"))
                .hint("this is a fault of Wharf's; please report it with the file"),
        )
    })
}

/// What to leave for a container that was checked. `last_good` is asked only where there are errors.
pub fn output(
    files: &Files,
    checked: &Checked,
    last_good: impl FnOnce() -> Option<Plan>,
    facts: HostFacts,
    settings: &Settings,
) -> Output {
    let name = files.name.clone();
    if let Some(container) = &checked.container {
        let plan = Plan {
            format: PLAN_FORMAT,
            source: files.main.path.clone(),
            outdated: None,
            held: None,
            gone: false,
            trust: policy(container, settings),
            unit: unit::unit(container, &files.main.path, facts),
            companions: companions(&name, &starting(container), &files.main.path, facts, false),
            container: container.clone(),
        };
        if let Ok(text) = serde_json::to_string(&plan) {
            return Output {
                boot: boot(container),
                name,
                unit: plan.unit,
                beside: Beside::Plan(text),
                companions: plan.companions,
                image: image_of(container),
            };
        }
    }
    let errors: Vec<Finding> =
        checked.findings.iter().filter(|finding| finding.level == Level::Error).cloned().collect();
    let text = report::render(&errors, Style::Plain);
    let problem = errors.first().map_or_else(|| "no reason known".to_owned(), Finding::short_line);
    let good = last_good().filter(|plan| plan.format == PLAN_FORMAT && plan.container.name == name);
    if let Some(mut plan) = good {
        // What a file says may be outdated; what this host trusts isn't.
        plan.trust = policy(&plan.container, settings);
        let description = unit::outdated_description(&plan.container, &problem);
        plan.unit = crate::unit::replace(&plan.unit, "Description", &description);
        plan.outdated = Some(text.clone());
        let (boot, image) = (boot(&plan.container), image_of(&plan.container));
        if let Ok(json) = serde_json::to_string(&plan) {
            let Plan { unit, companions, .. } = plan;
            return Output { name, unit, beside: Beside::Plan(json), companions, boot, image };
        }
    }
    Output {
        unit: unit::refusal(&name, &checked.starting, &checked.ending, &files.main.path, &problem),
        companions: companions(&name, &checked.starting, &files.main.path, facts, true),
        boot: if checked.autostart { boot_links(&name, &checked.starting) } else { Vec::new() },
        name,
        beside: Beside::Findings(text),
        image: None,
    }
}

/// What to leave for a container whose files say something that was tried and didn't work: its last good plan.
pub fn held_output(held: &Held, facts: HostFacts, settings: &Settings) -> Option<Output> {
    let plan = held.plan(facts, settings);
    let json = serde_json::to_string(&plan).ok()?;
    let boot = boot(&plan.container);
    let Plan { unit, companions, .. } = plan;
    Some(Output {
        name: held.name().clone(),
        unit,
        beside: Beside::Plan(json),
        companions,
        boot,
        image: None,
    })
}

/// What to leave for a container that runs as it was started, and that no file declares any more: a unit by which it
/// ends as it was to, and that starts nothing. Without one, systemd would forget how to stop it.
pub fn gone_output(container: &Container, source: &Path, facts: HostFacts) -> Option<Output> {
    let name = &container.name;
    let starting = starting(container);
    // A proxy that runs ends with it. The sockets that it has, and a timer, would only start something.
    let (proxy, sockets) = (proxy_unit(name), format!("={}", socket_unit(name)));
    let mut beside = companions(name, &starting, source, facts, false);
    beside.retain(|companion| companion.unit == proxy);
    for Companion { text, .. } in &mut beside {
        *text = crate::unit::without(text, |line| unit::names_file(line) || line.ends_with(&sockets));
    }
    let plan = Plan {
        format: PLAN_FORMAT,
        source: source.to_owned(),
        outdated: None,
        held: None,
        gone: true,
        trust: Policy::Any,
        unit: unit::gone(container, source, facts),
        companions: beside,
        container: container.clone(),
    };
    let json = serde_json::to_string(&plan).ok()?;
    let Plan { unit, companions, .. } = plan;
    Some(Output {
        name: name.clone(),
        unit,
        beside: Beside::Plan(json),
        companions,
        boot: Vec::new(),
        image: None,
    })
}

/// What the host asks of a container's image.
pub fn trust(container: &Container, settings: &Settings) -> Policy {
    policy(container, settings)
}

/// What of a container has to do with when it starts.
pub fn starting(container: &Container) -> Starting {
    let Container { kind, timer, socket, .. } = container;
    Starting { kind: *kind, timer: timer.clone(), socket: socket.clone() }
}

fn boot(container: &Container) -> Vec<BootLink> {
    if container.autostart { boot_links(&container.name, &starting(container)) } else { Vec::new() }
}

fn image_of(container: &Container) -> Option<(Reference, String)> {
    let RootSource::Image(reference) = &container.source else { return None };
    Some((reference.clone(), container.supply.as_ref()?.unit.clone()?))
}

/// What the host asks of the container's image; nothing of a folder.
pub(super) fn policy(container: &Container, settings: &Settings) -> Policy {
    match &container.source {
        RootSource::Image(reference) => {
            let own = container.supply.as_ref().and_then(|supply| supply.trust.as_ref());
            settings.policy(reference, own).clone()
        }
        RootSource::Folder(_) => Policy::Any,
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

    const GOOD: &str = "image = \"nginx:1.26\"\n";

    #[test]
    fn a_panic_is_a_finding() {
        let source = Source::new("x.toml", "");
        let finding = guarded(&source, || panic!("on purpose"), |finding| finding);
        assert!(finding.message.contains("on purpose"));
    }

    #[test]
    fn last_good_plan() {
        let good = files(GOOD);
        let first = output(&good, &check(&good), || None, HostFacts::default(), &Settings::default());
        let Beside::Plan(text) = &first.beside else { panic!("{first:?}") };
        let plan: Plan = serde_json::from_str(text).expect("a plan");
        assert_eq!(plan.unit, first.unit);
        // What has more in it is another version's.
        assert_eq!(crate::plan::read::<Plan>(text.as_bytes()).expect("a plan"), plan);
        let later = text.replacen("\"limits\":{", "\"limits\":{\"later\":1,", 1);
        assert!(later != *text && crate::plan::read::<Plan>(later.as_bytes()).is_err());
        let bad = files("image = 3\n");
        let again =
            output(&bad, &check(&bad), || Some(plan.clone()), HostFacts::default(), &Settings::default());
        assert!(again.unit.contains("LAST GOOD PLAN: nginx.toml:1:9"), "{}", again.unit);
        let Beside::Plan(text) = &again.beside else { panic!("{again:?}") };
        let kept: Plan = serde_json::from_str(text).expect("a plan");
        assert!(kept.outdated.is_some_and(|text| text.contains("must be a text")));
        assert_eq!(kept.container, plan.container);
        let refused = output(&bad, &check(&bad), || None, HostFacts::default(), &Settings::default());
        assert!(refused.unit.contains("wharf-executor refuse nginx"), "{}", refused.unit);
        assert!(!refused.boot.is_empty());
    }

    #[test]
    fn an_old_systemd_is_warned_of() {
        let text = "image = 'x:1'\nencrypted-credentials = ['a', 'b:/b']\ncredentials = ['c', 'd:/d']\n";
        for (systemd, lines) in [
            (None, &[][..]),
            (
                Some(249),
                &[
                    "`encrypted-credentials` needs systemd 250, and this host has 249",
                    "a name without a path in `credentials` needs systemd 251, and this host has 249",
                ],
            ),
            (
                Some(250),
                &[
                    "a name without a path in `encrypted-credentials` needs systemd 251, and this host has 250",
                    "a name without a path in `credentials` needs systemd 251, and this host has 250",
                ],
            ),
            (Some(251), &[]),
        ] {
            let files = files(text);
            let mut checked = check(&files);
            warn_of_age(&files, &mut checked, HostFacts { systemd });
            let said: Vec<&str> = checked.findings.iter().map(|finding| finding.message.as_str()).collect();
            assert_eq!(said, lines, "{systemd:?}");
        }
        let with_paths = files("image = 'x:1'\ncredentials = ['d:/d']\n");
        let mut checked = check(&with_paths);
        warn_of_age(&with_paths, &mut checked, HostFacts { systemd: Some(249) });
        assert_eq!(checked.findings, []);
    }

    #[test]
    fn refused_ones_are_never_given_up() {
        let refused = |text: &str| {
            let bad = files(&format!("imge = 1\n{text}"));
            output(&bad, &check(&bad), || None, HostFacts::default(), &Settings::default())
        };
        let plain = refused("").unit;
        assert!(plain.contains("\nStartLimitIntervalSec=0\n") && !plain.contains("Restart"), "{plain}");
        let again = "\nRestart=on-failure\nRestartSec=30s\n";
        assert!(refused("[socket]\nlisten = ['80']\n").unit.contains(again));
        // Behind a proxy it is that which clients start.
        let behind = refused("[socket]\nlisten = ['80']\nproxy = true\n");
        assert!(!behind.unit.contains("Restart"), "{}", behind.unit);
        let proxy = &behind.companions[1].text;
        assert!(proxy.contains(again) && proxy.contains("wharf-executor refuse nginx\n"), "{proxy}");
        assert!(!proxy.contains("nginx-container.service"), "{proxy}");
    }

    #[test]
    fn what_others_say_counts() {
        let named = |name: &str, text: &str| {
            let main = Source::new(format!("/etc/wharf/containers/{name}.toml"), text);
            Files { name: name.parse().expect("a name"), main, drop_ins: vec![], findings: vec![] }
        };
        let all = |files: &[&Files]| {
            let mut all: Vec<_> = files.iter().map(|files| ((*files).clone(), check(files))).collect();
            compare(&mut all, &Supplies::default());
            all
        };
        let (web, db) = (named("web", "image = \"x\"\nlinks = [\"db\"]\n"), named("db", GOOD));
        let both = all(&[&web, &db]);
        let first = output(&web, &both[0].1, || None, HostFacts::default(), &Settings::default());
        let Beside::Plan(text) = &first.beside else { panic!("{first:?}") };
        let plan: Plan = serde_json::from_str(text).expect("a plan");
        assert!(first.unit.contains("\nWants=db-container.service\nAfter=db-container.service\n"));
        // The database's file is gone: what ran goes on, and says so.
        let alone = all(&[&web]);
        assert!(alone[0].1.container.is_none() && alone[0].1.autostart);
        let again = output(&web, &alone[0].1, || Some(plan), HostFacts::default(), &Settings::default());
        assert!(again.unit.contains("LAST GOOD PLAN: web.toml:2:10"), "{}", again.unit);
        assert!(matches!(again.beside, Beside::Plan(_)));
    }
}
