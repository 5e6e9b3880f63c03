//! Templates: `%i` and `%%` in their texts, and the instance that they stand for.

use super::process::fit_hostname;
use super::{
    AppArmor, Bind, Connections, Container, Credential, CredentialSource, EnvironmentFile, Health,
    HealthCheck, Mount, MountKind, Reload, Rules, Socket, Starting, UserName, Volume,
};
use crate::report::Finding;
use crate::spec::{ContainerName, Data, Entries, Link, Listen, Value};

/// In a template a `%` must be `%i` or `%%`. Under `[systemd.*]` specifiers are systemd's own.
pub fn percent_signs(rules: &mut Rules<'_>) {
    if !rules.name.as_str().contains('@') {
        return;
    }
    let document = rules.document;
    walk(&document.entries, true, &mut rules.findings);
}

fn walk(entries: &Entries, top: bool, findings: &mut Vec<Finding>) {
    for (key, entry) in entries {
        // Per cent of something is no text to put an instance in.
        if top && matches!(key.as_str(), "systemd" | "limits") {
            continue;
        }
        if let Some(bad) = stray(key) {
            findings.push(finding(bad).at(entry.key.clone()));
        }
        value(&entry.value, findings);
    }
}

fn value(value_: &Value, findings: &mut Vec<Finding>) {
    match &value_.data {
        Data::Text(text) => {
            if let Some(bad) = stray(text) {
                findings.push(finding(bad).at(value_.place.clone()));
            }
        }
        Data::List(values) => values.iter().for_each(|inner| value(inner, findings)),
        Data::Table(entries) => walk(entries, false, findings),
        _ => {}
    }
}

struct Stray(String);

fn finding(bad: String) -> Stray {
    Stray(bad)
}

impl Stray {
    fn at(self, place: crate::report::Place) -> Finding {
        Finding::error(place, format!("`{}` means nothing in a template", self.0))
            .hint("`%i` is the instance, and `%%` a percent sign")
    }
}

/// The first `%` with what follows it, if that is neither `i` nor `%`.
pub(super) fn stray(text: &str) -> Option<String> {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            match chars.next() {
                Some('i' | '%') => {}
                Some(other) => return Some(format!("%{other}")),
                None => return Some("%".into()),
            }
        }
    }
    None
}

fn fill(text: &str, instance: &str) -> String {
    let mut filled = String::with_capacity(text.len() + instance.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        filled.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(more) = after.strip_prefix('i') {
            filled.push_str(instance);
            rest = more;
        } else {
            filled.push('%');
            rest = after.strip_prefix('%').unwrap_or(after);
        }
    }
    filled.push_str(rest);
    filled
}

fn fill_path(path: &std::path::Path, instance: &str) -> std::path::PathBuf {
    // Paths come from TOML, which is UTF-8 throughout.
    path.to_str().map_or_else(|| path.to_owned(), |text| fill(text, instance).into())
}

impl Container {
    /// The instance of this template: `%i` replaced by its name in every text, `%%` by `%`.
    ///
    /// Under `[systemd.*]` systemd does it, where it reads the unit. A name that can't be an instance's, or a
    /// container that is no template, comes back with texts replaced and its name as it was.
    #[must_use]
    pub fn instance(&self, instance: &str) -> Container {
        // In full, so that a new field can't be forgotten.
        let Container {
            name,
            description,
            source,
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
            network,
            links,
            publish,
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
            kind,
            runtime,
            timer,
            socket,
            survive_soft_reboot,
            autostart,
            supply,
            systemd,
        } = self;
        let text = |text: &String| fill(text, instance);
        let texts = |texts: &Vec<String>| texts.iter().map(text).collect::<Vec<_>>();
        let who = |who: &UserName| match who {
            UserName::Id(id) => UserName::Id(*id),
            UserName::Name(name) => UserName::read(&text(name)),
        };
        let mut mounts: Vec<Mount> = mounts
            .iter()
            .map(|Mount { target, kind }| Mount { target: text(target), kind: fill_kind(kind, instance) })
            .collect();
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        Container {
            name: instance_name(name, instance),
            description: description.as_ref().map(text),
            source: match source {
                super::RootSource::Image(reference) => super::RootSource::Image(reference.clone()),
                super::RootSource::Folder(path) => super::RootSource::Folder(fill_path(path, instance)),
            },
            root: *root,
            entrypoint: entrypoint.as_ref().map(texts),
            command: command.as_ref().map(texts),
            environment: environment.iter().map(|(name, value)| (text(name), text(value))).collect(),
            environment_files: environment_files
                .iter()
                .map(|EnvironmentFile { path, optional }| EnvironmentFile {
                    path: fill_path(path, instance),
                    optional: *optional,
                })
                .collect(),
            credentials: credentials
                .iter()
                .map(|Credential { name, source, encrypted }| Credential {
                    name: name.clone(),
                    source: match source {
                        CredentialSource::Store(name) => CredentialSource::Store(text(name)),
                        CredentialSource::File(path) => CredentialSource::File(fill_path(path, instance)),
                    },
                    encrypted: *encrypted,
                })
                .collect(),
            working_directory: working_directory.as_ref().map(text),
            user: user.as_ref().map(who),
            group: group.as_ref().map(who),
            hostname: fit_hostname(&text(hostname).replace('_', "-")),
            init: *init,
            user_namespace: *user_namespace,
            apparmor: match apparmor {
                AppArmor::Profile(name) => AppArmor::Profile(text(name)),
                AppArmor::Own => AppArmor::Own,
                AppArmor::Unconfined => AppArmor::Unconfined,
            },
            network: *network,
            links: links
                .iter()
                .map(|link| fill_link(link, instance))
                .filter(|link| is_elsewhere(link, &instance_name(name, instance)))
                .collect(),
            publish: publish.clone(),
            mounts,
            limits: limits.clone(),
            stop: stop.clone(),
            restart: *restart,
            ready: *ready,
            notify_access: *notify_access,
            restart_on_change: restart_on_change.iter().map(|path| fill_path(path, instance)).collect(),
            update: *update,
            snapshot: *snapshot,
            reload: reload.as_ref().map(|reload| match reload {
                Reload::Command(command) => Reload::Command(texts(command)),
                Reload::Signal { signal, wait } => Reload::Signal { signal: *signal, wait: *wait },
            }),
            health: health.as_ref().map(|health| fill_health(health, instance)),
            kind: *kind,
            runtime: *runtime,
            // A time has no `%i` in it.
            timer: timer.clone(),
            socket: socket.as_ref().map(|socket| fill_socket(socket, instance)),
            survive_soft_reboot: *survive_soft_reboot,
            autostart: *autostart,
            supply: supply.clone(),
            systemd: systemd.clone(),
        }
    }
}

fn instance_name(name: &ContainerName, instance: &str) -> ContainerName {
    if !name.is_template() {
        return name.clone();
    }
    format!("{name}{instance}").parse().unwrap_or_else(|_| name.clone())
}

fn fill_link(link: &Link, instance: &str) -> Link {
    let Link { to, alias } = link;
    Link { to: to.filled(instance), alias: alias.clone() }
}

/// What a template says for its instances, one of them may be itself: all others link to that one.
fn is_elsewhere(link: &Link, name: &ContainerName) -> bool {
    link.to.container() != Some(name)
}

impl Connections {
    /// Those of an instance, as [`Container::instance`] has them.
    pub(super) fn instance(self, name: &ContainerName, instance: &str) -> Self {
        let Self { network, links, publish, listen, snapshot } = self;
        let links = links
            .into_iter()
            .map(|(link, place)| (fill_link(&link, instance), place))
            .filter(|(link, _)| is_elsewhere(link, name))
            .collect();
        let listen =
            listen.into_iter().map(|(listen, place)| (fill_listen(&listen, instance), place)).collect();
        Self { network, links, publish, listen, snapshot }
    }
}

impl Starting {
    /// That of an instance.
    pub(super) fn instance(self, instance: &str) -> Self {
        let Self { kind, timer, socket } = self;
        Self { kind, timer, socket: socket.map(|socket| fill_socket(&socket, instance)) }
    }
}

fn fill_socket(socket: &Socket, instance: &str) -> Socket {
    let Socket { listen, names, mode, user, group, on_demand, proxy } = socket;
    Socket {
        listen: listen.iter().map(|listen| fill_listen(listen, instance)).collect(),
        names: names.iter().map(|name| fill(name, instance)).collect(),
        mode: *mode,
        user: user.as_ref().map(|user| fill(user, instance)),
        group: group.as_ref().map(|group| fill(group, instance)),
        on_demand: *on_demand,
        proxy: *proxy,
    }
}

fn fill_listen(listen: &Listen, instance: &str) -> Listen {
    match listen {
        Listen::Path(path) => Listen::Path(fill(path, instance)),
        Listen::Port(..) | Listen::Address(..) => listen.clone(),
    }
}

fn fill_health(health: &Health, instance: &str) -> Health {
    let text = |text: &String| fill(text, instance);
    let check = match &health.check {
        HealthCheck::Command(words) => HealthCheck::Command(words.iter().map(text).collect()),
        HealthCheck::Shell(line) => HealthCheck::Shell(text(line)),
        HealthCheck::Http(page) => HealthCheck::Http(text(page)),
        HealthCheck::Tcp(place) => HealthCheck::Tcp(text(place)),
        HealthCheck::Image => HealthCheck::Image,
    };
    Health { check, ..health.clone() }
}

fn fill_kind(kind: &MountKind, instance: &str) -> MountKind {
    match kind {
        MountKind::Bind(Bind { source, read_only, recursive, idmap }) => MountKind::Bind(Bind {
            source: fill_path(source, instance),
            read_only: *read_only,
            recursive: *recursive,
            idmap: *idmap,
        }),
        MountKind::Volume(Volume { name, read_only }) => {
            MountKind::Volume(Volume { name: fill(name, instance), read_only: *read_only })
        }
        MountKind::Tmpfs(tmpfs) => MountKind::Tmpfs(tmpfs.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling() {
        assert_eq!(fill("a %i b %%i %% c", "blue"), "a blue b %i % c");
        assert_eq!(stray("a %n"), Some("%n".into()));
        assert_eq!(stray("100%"), Some("%".into()));
        assert_eq!(stray("%%n %i"), None);
    }
}
