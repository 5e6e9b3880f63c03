//! From a document to a checked model: gathers every finding; one rule, one function.

mod across;
mod ending;
mod health;
mod host;
mod image;
mod life;
mod limits;
mod model;
mod mounts;
mod network;
mod paths;
mod process;
mod ready;
mod root;
mod shape;
mod socket;
mod systemd;
mod template;
mod timer;

pub use across::{All, Found, across};
pub use ending::Ending;
pub use host::{CheckedSettings, settings};
pub use image::{CheckedImage, DeclaredImage, ForAll, From, Pull, Supplies, image, images};
pub use model::{
    AppArmor, Bind, Container, Credential, CredentialSource, EnvironmentFile, Health, HealthCheck, Limits,
    Mount, MountKind, Network, NotifyAccess, OnFailure, Ready, Reload, Restart, RootMode, RootSource, Stop,
    Supply, SystemdSections, Tmpfs, Update, UserName, Volume,
};
pub use process::{CREDENTIALS, UserNameError};
pub use socket::{Proxy, Socket};
pub use systemd::{is_in_the_way, refused};
pub use timer::{Kind, Overlap, Timer};

use std::path::PathBuf;

use crate::report::{self, Finding, Place};
use crate::spec::keys;
use crate::spec::{ContainerName, Data, Document, Entries, Entry, Link, Listen, Publish, Value};

/// What became of a container's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The container, unless one of the findings is an error.
    pub container: Option<Container>,
    /// Every finding, by file and line.
    pub findings: Vec<Finding>,
    /// Whether boot starts it, as far as the files say so readably; also where there are errors.
    pub autostart: bool,
    /// What it has to do with other containers; also where there are errors.
    pub connections: Connections,
    /// What starts it, as far as the files say so readably; also where there are errors.
    pub starting: Starting,
    /// How it is to end where it runs, as far as the files say so readably; also where there are errors.
    pub ending: Ending,
}

/// What starts a container, beside an administrator and the boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starting {
    /// `type`.
    pub kind: Kind,
    /// `[timer]`.
    pub timer: Option<Timer>,
    /// `[socket]`.
    pub socket: Option<Socket>,
}

/// What a container has to do with others, each with its place, for the rules across files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// `network`; nothing where what is written can't be one.
    pub network: Option<Network>,
    /// `links`.
    pub links: Vec<(Link, Place)>,
    /// `publish`.
    pub publish: Vec<(Publish, Place)>,
    /// `listen` of `[socket]`.
    pub listen: Vec<(Listen, Place)>,
    /// Where it asks for snapshots of its volumes, which nobody else may use then.
    pub snapshot: Option<Place>,
}

/// Checks a container's merged files.
///
/// `syntax` are the findings from reading them: they come back among the others, since one mistake of syntax
/// shouldn't hide the rest.
pub fn check(name: &ContainerName, document: &Document, syntax: Vec<Finding>) -> Checked {
    let broken = report::has_errors(&syntax);
    let reading = Reading::new(&syntax);
    let mut rules = Rules { name, document, findings: syntax };
    shape::check(&mut rules, &keys::CONTAINER);
    template::percent_signs(&mut rules);
    let autostart = life::autostart(&mut rules);
    let hostname = process::hostname(&mut rules);
    let mut connections = network::connections(&mut rules, &hostname);
    let mut starting = Starting {
        kind: timer::kind(&rules),
        timer: timer::timer(&mut rules),
        socket: socket::socket(&mut rules, connections.network),
    };
    let ending = ending::ending(&rules, starting.kind);
    timer::together(&mut rules, &starting);
    socket::published(&mut rules, &connections.publish);
    let mut container = container(&mut rules, autostart, broken, hostname, &connections, &starting);
    // An instance with files of its own is written in its template's language.
    if let Some(instance) = name.instance() {
        container = container.map(|container| container.instance(instance));
        connections = connections.instance(name, instance);
        starting = starting.instance(instance);
    }
    connections.links.retain(|(_, place)| !reading.failed_at(place));
    network::low_ports(&mut rules);
    let findings = reading.findings(rules.findings);
    let container = container.filter(|_| !report::has_errors(&findings));
    Checked { container, findings, autostart, connections, starting, ending }
}

/// A line of a file.
type Line = (PathBuf, usize);

fn line(place: &Place) -> Option<Line> {
    let span = place.span.as_ref()?;
    Some((place.source.path.clone(), place.source.position(span.start).0))
}

/// What was wrong before any rule was asked.
struct Reading {
    mistakes: usize,
    no_toml: Vec<Line>,
}

impl Reading {
    fn new(syntax: &[Finding]) -> Self {
        let no_toml = syntax.iter().filter_map(|finding| line(&finding.place)).collect();
        Self { mistakes: syntax.len(), no_toml }
    }

    /// Whether a place is on a line that isn't TOML: its value is a guess of the parser's.
    fn failed_at(&self, place: &Place) -> bool {
        !self.no_toml.is_empty() && line(place).is_some_and(|line| self.no_toml.contains(&line))
    }

    /// All findings in order, without what the rules said about a line that isn't TOML.
    fn findings(&self, mut findings: Vec<Finding>) -> Vec<Finding> {
        let ruled = findings.split_off(self.mistakes);
        findings.extend(ruled.into_iter().filter(|finding| !self.failed_at(&finding.place)));
        report::sort(&mut findings);
        findings.dedup();
        findings
    }
}

/// Every rule is asked, so that every finding is found, before the first `?`.
fn container(
    rules: &mut Rules<'_>,
    autostart: bool,
    broken: bool,
    hostname: String,
    connections: &Connections,
    starting: &Starting,
) -> Option<Container> {
    let name = rules.name.clone();
    // A key that syntax hides isn't missing.
    let source = root::source(rules, !broken);
    let description = process::description(rules);
    let root = root::mode(rules);
    let entrypoint = process::arguments(rules, "entrypoint");
    let command = process::arguments(rules, "command");
    process::something_to_run(rules, !broken);
    let environment = process::environment(rules);
    let environment_files = process::environment_files(rules);
    let working_directory = process::working_directory(rules);
    let (user, group) = process::user_and_group(rules);
    let init = rules.flag("init").unwrap_or(false);
    let user_namespace = rules.flag("user-namespace").unwrap_or(true);
    let apparmor = process::apparmor(rules);
    let mounts = mounts::mounts(rules);
    let credentials = process::credentials(rules, &mounts);
    let limits = limits::limits(rules);
    let stop = life::stop(rules);
    let runtime = timer::runtime(rules);
    let restart = life::restart(rules, starting);
    let restart_on_change = life::restart_on_change(rules);
    let update = life::update(rules, source.as_ref());
    let snapshot = life::snapshot(rules, source.as_ref(), starting, &mounts);
    let health = health::health(rules, restart);
    let ready = ready::ready(rules);
    let notify_access = ready::notify_access(rules, ready, init);
    ready::watchdog(rules, ready);
    let reload = ready::reload(rules, ready);
    ready::of_a_job(rules, starting.kind);
    systemd::of_a_job(rules, starting.kind);
    let survive_soft_reboot = life::survive_soft_reboot(rules, starting);
    let systemd = systemd::sections(rules);
    Some(Container {
        name,
        description,
        source: source?,
        root,
        entrypoint,
        command,
        environment,
        environment_files,
        credentials,
        working_directory,
        user,
        group,
        hostname,
        init,
        user_namespace,
        apparmor,
        network: connections.network?,
        links: connections.links.iter().map(|(link, _)| link.clone()).collect(),
        publish: connections.publish.iter().map(|(publish, _)| *publish).collect(),
        mounts,
        limits,
        stop,
        restart,
        ready,
        notify_access,
        restart_on_change,
        update,
        snapshot,
        reload,
        health,
        kind: starting.kind,
        runtime,
        timer: starting.timer.clone(),
        socket: starting.socket.clone(),
        survive_soft_reboot,
        autostart,
        supply: None,
        systemd,
    })
}

/// What a rule looks at, and where it puts its findings.
///
/// The accessors give nothing for a value of the wrong type: [`shape`] has said so already.
struct Rules<'d, N = ContainerName> {
    name: &'d N,
    document: &'d Document,
    findings: Vec<Finding>,
}

impl<'d, N> Rules<'d, N> {
    fn get(&self, path: &str) -> Option<&'d Entry> {
        self.document.get(path.split('.'))
    }

    fn flag(&self, path: &str) -> Option<bool> {
        match self.get(path)?.value.data {
            Data::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    fn text(&self, path: &str) -> Option<(&'d str, &'d Place)> {
        let value = &self.get(path)?.value;
        Some((value.text()?, &value.place))
    }

    /// A text, or a whole number as its digits.
    fn digits(&self, path: &str) -> Option<(String, &'d Place)> {
        let value = &self.get(path)?.value;
        Some((plain(value)?, &value.place))
    }

    fn texts(&self, path: &str) -> Option<Vec<(&'d str, &'d Place)>> {
        match &self.get(path)?.value.data {
            Data::List(values) => values.iter().map(|value| Some((value.text()?, &value.place))).collect(),
            _ => None,
        }
    }

    fn table(&self, path: &str) -> Option<&'d Entries> {
        match &self.get(path)?.value.data {
            Data::Table(entries) => Some(entries),
            _ => None,
        }
    }

    fn error(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.findings.push(Finding::error(place.clone(), message).hint(hint));
    }

    /// The main file as a whole, for what isn't there.
    fn whole(&self) -> Place {
        Place::file(&self.document.main)
    }
}

fn plain(value: &Value) -> Option<String> {
    match &value.data {
        Data::Text(text) => Some(text.clone()),
        Data::Integer(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
