//! A container's unit, and the unit that stands in for a container that can't run.

use std::path::Path;
use std::time::Duration;

use super::companions::{instance_of, proxy_unit, socket_unit};
use super::health;
use crate::check::{
    Container, Credential, CredentialSource, Ending, Health, Kind, Limits, MountKind, Network, NotifyAccess,
    OnFailure, Proxy, Ready, Reload, Restart, RootSource, Starting,
};
use crate::host::HostFacts;
use crate::spec::{ContainerName, LinkTarget, Signal, show_duration};
use crate::unit::{Percent, Section, Unit};

/// Where the executor is installed.
pub const EXECUTOR: &str = "/usr/libexec/wharf/wharf-executor";

/// The comment on top of every unit of a container.
pub(super) const COMMENT: &str = "Made by wharf-generator at each reload: edit the container's file instead.";

/// The unit that runs a container. `source` is the container's file.
pub fn unit(container: &Container, source: &Path, facts: HostFacts) -> String {
    let percent = percent(&container.name);
    Unit::new([unit_section(container, source, percent, facts), service_section(container, facts)])
        .render(COMMENT)
}

/// The unit of a container that runs and that no file declares any more. It ends as it was to; whatever would start it
/// fails, as without a unit, and so it isn't started again when it ends by itself.
pub fn gone(container: &Container, source: &Path, facts: HostFacts) -> String {
    let mut container = container.clone();
    container.restart = Restart::No;
    // Its sockets have no unit any more. A proxy that still runs has: who needs nothing but that goes with it.
    container.socket = container.socket.filter(|socket| socket.proxy.is_some());
    let starts = ["ExecCondition", "ExecStartPre", "Restart"];
    container.systemd.service.retain(|(key, _)| !starts.contains(&key.as_str()));
    // A restart by hand is refused before anything is stopped.
    container.systemd.unit.push(("RefuseManualStart".to_owned(), "yes".to_owned()));
    let name = container.description.as_deref().unwrap_or(container.name.as_str());
    let description = format!("{name} (NO FILE DECLARES IT ANY MORE: it runs until it is stopped)");
    let text = crate::unit::replace(&unit(&container, source, facts), "Description", &description);
    crate::unit::without(&text, names_file)
}

/// One that isn't there counts as edited: whatever is done to the unit, systemctl would ask for a reload first.
pub(super) fn names_file(line: &str) -> bool {
    line.starts_with("SourcePath=")
}

/// The unit of a container whose files have errors and that has no last good plan: starting it fails and
/// prints them. `problem` is the first of them, in one line.
pub fn refusal(
    name: &ContainerName,
    starting: &Starting,
    ending: &Ending,
    source: &Path,
    problem: &str,
) -> String {
    let mut unit = Section::new("Unit");
    unit.text("Description", &format!("{name}: refused, {problem}"), Percent::Literal)
        .word("Documentation", "man:wharf-container(5)")
        .quoted("SourcePath", &source.to_string_lossy(), Percent::Literal)
        // A timer or a socket whose unit is given up fails with it, for good.
        .word("StartLimitIntervalSec", "0");
    let mut service = Section::new("Service");
    // A container that still runs from before keeps its type, if not its reload, and its end, as far as its file can be
    // read. One whose start has worked keeps all of its unit, that of its last good plan.
    service.word("Type", service_type(starting.kind)).word("NotifyAccess", "all");
    let by_clients = starting.socket.as_ref().is_some_and(|socket| socket.proxy.is_none());
    refuses(&mut service, name.as_str(), Percent::Literal, by_clients);
    service.word("KillMode", "mixed").word("Slice", "wharf.slice").word("Delegate", "yes").text(
        "SyslogIdentifier",
        name.as_str(),
        Percent::Literal,
    );
    keep_end(&mut service, starting.kind, ending);
    Unit::new([unit, service]).render(COMMENT)
}

/// How long what clients start waits until it refuses anew.
const REFUSED_AGAIN: Duration = Duration::from_secs(30);

/// What says why a file can't be used. `by_clients` is what a socket starts: a client that waits would have it start
/// again at once, and either it or the socket would be given up. While it waits to be restarted, the socket waits
/// too; and the reload after the file was put right finds that time over, and clients are served.
pub(super) fn refuses(service: &mut Section, name: &str, percent: Percent, by_clients: bool) {
    service.command("ExecStart", "", EXECUTOR, &[("refuse", Percent::Literal), (name, percent)]);
    if by_clients {
        service.word("Restart", "on-failure").word("RestartSec", show_duration(REFUSED_AGAIN));
    }
}

/// What the real unit says of the end.
fn keep_end(service: &mut Section, kind: Kind, ending: &Ending) {
    let Ending { stop_signal, by_init, is_checked, is_watched } = ending;
    if let Some(signal) = stop_signal {
        service.word("KillSignal", signal.to_string());
    }
    if *is_watched {
        watchdog_kills(service);
    }
    if kind.is_service() && *by_init {
        clean_ends(service);
    }
    if *is_checked {
        watchdog_is_init(service);
    }
}

/// SIGABRT, systemd's own choice, reaches no process 1 of a container that hasn't asked for it, and one that hangs would
/// be left alone for as long as a stop may take.
fn watchdog_kills(service: &mut Section) {
    service.word("WatchdogSignal", "SIGKILL");
}

/// The init stops the program by the signal that it is to be stopped with; SIGABRT, the default, would be a crash to a
/// database.
fn watchdog_is_init(service: &mut Section) {
    if let Ok(signal) = health::WATCHDOG_SIGNAL.to_string().parse::<Signal>() {
        service.word("WatchdogSignal", signal.to_string());
    }
}

/// Process 1 can't die of its program's signal and says it by its status. These are the signals that systemd takes for
/// a clean end (systemd.service(5), SuccessExitStatus=): HUP, INT, PIPE and TERM. Of a oneshot it takes none for one.
fn clean_ends(service: &mut Section) {
    service.word("SuccessExitStatus", "129 130 141 143");
}

/// The description of a unit that runs the last good plan.
pub fn outdated_description(container: &Container, problem: &str) -> String {
    let name = container.description.as_deref().unwrap_or(container.name.as_str());
    format!("{name} (RUNS ITS LAST GOOD PLAN: {problem})")
}

/// The description of a unit that runs the last good plan because what the files say has failed.
pub fn held_description(container: &Container, reason: &str) -> String {
    let name = container.description.as_deref().unwrap_or(container.name.as_str());
    format!("{name} (HELD BACK: {reason})")
}

pub(super) fn percent(name: &ContainerName) -> Percent {
    if name.is_template() { Percent::Specifier } else { Percent::Literal }
}

/// The container as the executor is told its name: `web@%i` for a template.
pub(super) fn argument(name: &ContainerName) -> String {
    if name.is_template() { format!("{name}%i") } else { name.to_string() }
}

/// How long a stop may take where the file says nothing: what systemd has for that, unless `DefaultTimeoutStopSec=` says
/// something else.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(90);

/// How many descriptors a program may leave with systemd for its next start: what a server listens at and keeps open,
/// and little enough for PID 1, which holds them, not to mind a program that fills it. systemd's own default is none.
const STORED_DESCRIPTORS: u32 = 64;

/// How long a start may take: systemd's own default (`DefaultTimeoutStartSec=`).
pub const START_TIMEOUT: Duration = Duration::from_secs(90);

/// How long after the first end comes a restart, so that one crash is hardly felt.
pub const SHORTEST_DELAY: Duration = Duration::from_millis(200);

/// Settings of systemd's that say when a restart comes; with one of them in the file, it comes by them alone.
pub const DELAYS: [&str; 3] = ["RestartSec", "RestartSteps", "RestartMaxDelaySec"];

/// A oneshot's first process may be handed over to systemd as well as any other's.
fn service_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "notify",
        Kind::Job => "oneshot",
    }
}

fn unit_section(container: &Container, source: &Path, percent: Percent, facts: HostFacts) -> Section {
    let mut unit = Section::new("Unit");
    let name = argument(&container.name);
    unit.text("Description", container.description.as_deref().unwrap_or(&name), percent)
        .word("Documentation", "man:wharf-container(5)")
        .quoted("SourcePath", &source.to_string_lossy(), Percent::Literal);
    match container.network {
        // Not network-online.target: a server listens on addresses that come later, too.
        Network::Host => {
            unit.word("After", "network.target");
        }
        Network::Default => network(&mut unit),
        Network::None => {}
    }
    links(&mut unit, container, percent);
    sockets(&mut unit, container, percent);
    // `Wants=`: an image that is there and can't be had anew is no reason not to run it.
    if let Some(image) = container.supply.as_ref().and_then(|supply| supply.unit.as_deref()) {
        unit.text("Wants", image, Percent::Literal).text("After", image, Percent::Literal);
    }
    if container.survive_soft_reboot && facts.has_survival() {
        survival(&mut unit);
    }
    unit.word("RequiresMountsFor", "/var/lib/wharf");
    for path in host_paths(container) {
        unit.quoted("RequiresMountsFor", &path.to_string_lossy(), percent);
    }
    // The delay between starts grows or is long enough; a host that is slow to get its disk back after a
    // power cut must not find its containers given up.
    unit.word("StartLimitIntervalSec", "0");
    for (key, value) in &container.systemd.unit {
        unit.verbatim(key, value);
    }
    unit
}

/// What has systemd leave it alone at a soft reboot, and not at any other one (systemd-soft-reboot.service(8)). What
/// the default dependencies would say is said without shutdown.target, which is part of a soft reboot too.
fn survival(unit: &mut Section) {
    const ENDS: &str =
        "reboot.target kexec.target poweroff.target halt.target rescue.target emergency.target";
    unit.word("DefaultDependencies", "no")
        .word("After", "sysinit.target basic.target")
        .word("Conflicts", ENDS)
        // What ends the host goes after shutdown.target, and not after its own target.
        .word("Before", "shutdown.target rescue.target emergency.target")
        .word("IgnoreOnIsolate", "yes")
        .word("SurviveFinalKillSignal", "yes");
}

/// What keeps the bridge and the firewall's table. Containers come after those that load a firewall of the
/// administrator's: at boot they begin by flushing all that is there.
fn network(unit: &mut Section) {
    unit.word("Wants", "wharf-network.socket wharf-network.path")
        .word("After", "network.target wharf-network.socket nftables.service firewalld.service ufw.service");
}

/// Whom it links to starts with it and before it, and stops after it. `Wants=` and not `Requires=`: a restart of
/// the database must not be a restart of all that use it, and neither should its failure stop them.
fn links(unit: &mut Section, container: &Container, percent: Percent) {
    let mut peers: Vec<String> = container
        .links
        .iter()
        .filter_map(|link| match &link.to {
            LinkTarget::Container(name) => Some(name.unit()),
            LinkTarget::Pattern(text) => Some(match text.split_once('@') {
                Some((prefix, instance)) => format!("{prefix}-container@{instance}.service"),
                None => format!("{text}-container.service"),
            }),
            LinkTarget::Host => None,
        })
        .collect();
    // A target may have two aliases.
    peers.sort();
    peers.dedup();
    for peer in &peers {
        unit.text("Wants", peer, percent).text("After", peer, percent);
    }
}

/// What it needs of what its sockets start.
fn sockets(unit: &mut Section, container: &Container, percent: Percent) {
    let Some(socket) = &container.socket else { return };
    let name = &container.name;
    match &socket.proxy {
        // Started by hand it would find no sockets otherwise, which only come from a socket unit that is up.
        None => {
            let sockets = instance_of(&socket_unit(name));
            unit.text("Requires", &sockets, percent).text("After", &sockets, percent);
        }
        // The proxy requires the container, and ends when it is idle. Started by hand, or by a link that has gone
        // since, the container has its proxy too, and with it somebody who needs it for as long.
        Some(Proxy { to: _, idle_stop: Some(_) }) => {
            unit.text("Wants", &instance_of(&proxy_unit(name)), percent).word("StopWhenUnneeded", "yes");
        }
        Some(Proxy { to: _, idle_stop: None }) => {}
    }
}

/// Every path of the host that the container uses, once and in order.
fn host_paths(container: &Container) -> Vec<&Path> {
    let mut paths: Vec<&Path> = Vec::new();
    if let RootSource::Folder(folder) = &container.source {
        paths.push(folder);
    }
    paths.extend(container.environment_files.iter().map(|file| file.path.as_path()));
    paths.extend(container.credentials.iter().filter_map(|credential| match &credential.source {
        CredentialSource::File(path) => Some(path.as_path()),
        CredentialSource::Store(_) => None,
    }));
    paths.extend(container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind(bind) => Some(bind.source.as_path()),
        MountKind::Volume(_) | MountKind::Tmpfs(_) => None,
    }));
    paths.sort();
    paths.dedup();
    paths
}

fn service_section(container: &Container, facts: HostFacts) -> Section {
    let name = argument(&container.name);
    let percent = percent(&container.name);
    let call = |verb: &'static str| [(verb, Percent::Literal), (name.as_str(), percent)];
    let mut service = Section::new("Service");
    let (kind, access) = notification(container, facts);
    service.word("Type", kind).word("NotifyAccess", access).command(
        "ExecStart",
        "",
        EXECUTOR,
        &call("start"),
    );
    match &container.reload {
        // systemd sends it to the main process, the program or its init, and waits for the program's word.
        Some(Reload::Signal { signal, .. }) if kind == RELOADS => {
            service.word("ReloadSignal", signal.to_string());
        }
        Some(_) => {
            service.command("ExecReload", "", EXECUTOR, &call("reload"));
        }
        None => {}
    }
    if container.ready != Ready::Exec {
        // The executor is gone by the time that the start has worked. That what is kept of it can't be is no failure.
        service.command("ExecStartPost", "-", EXECUTOR, &call("started"));
    }
    // An image may name another signal than SIGTERM, and the generator can't read images. Where it could
    // matter the executor sends it. The unit says how long that may take: the small init and the words about a stop that
    // took longer count with the same.
    if matches!(container.source, RootSource::Image(_)) && container.stop.signal.is_none() {
        // That it can't is no failure of the container: systemd sends SIGTERM then.
        service.command("ExecStop", "-", EXECUTOR, &call("stop"));
        service.word("TimeoutStopSec", show_duration(container.stop.timeout.unwrap_or(STOP_TIMEOUT)));
        // It had its signal and its time, which it may have asked systemd to extend.
        service.word("TimeoutStopFailureMode", "kill");
    } else if let Some(timeout) = container.stop.timeout {
        service.word("TimeoutStopSec", show_duration(timeout));
    }
    service.command("ExecStopPost", "-", EXECUTOR, &call("stopped")).word("KillMode", "mixed");
    if let Some(signal) = container.stop.signal {
        service.word("KillSignal", signal.to_string());
    }
    if let Some(runtime) = container.runtime {
        // A oneshot runs while it starts, and RuntimeMaxSec= has no effect on one (systemd.service(5)).
        let limit = match container.kind {
            Kind::Service => "RuntimeMaxSec",
            Kind::Job => "TimeoutStartSec",
        };
        service.word(limit, show_duration(runtime));
    }
    restart(&mut service, container.restart);
    service
        .word("Slice", "wharf.slice")
        .word("Delegate", "yes")
        // As for any other service: when the kernel kills one of its processes for want of memory, the rest is
        // stopped in order and the whole restarted, and Result=oom-kill says why. Delegate=yes alone would
        // mean `continue`: half a service that looks healthy. `kill` would leave a database no time to end.
        .word("OOMPolicy", "stop")
        .word("DevicePolicy", "closed");
    if container.ready == Ready::Notify {
        service.word("FileDescriptorStoreMax", STORED_DESCRIPTORS.to_string());
        if !container.init {
            watchdog_kills(&mut service);
        }
    }
    if container.kind.is_service() && container.has_init() {
        clean_ends(&mut service);
    }
    if let Some(health) = &container.health {
        watchdog(&mut service, container, health);
    }
    service
        // systemd ignores it in what it starts unless told otherwise, and programs in a container's pipes
        // expect it as the kernel has it.
        .word("IgnoreSIGPIPE", "no")
        // The journal would name the executor, which is long gone.
        .text("SyslogIdentifier", &name, percent)
        // On every line that it writes: `journalctl IMAGE_NAME=nginx:1.26`.
        .quoted("LogExtraFields", &format!("CONTAINER_NAME={name}"), percent);
    if let RootSource::Image(reference) = &container.source {
        service.quoted("LogExtraFields", &format!("IMAGE_NAME={reference}"), Percent::Literal);
    }
    if !container.user_namespace {
        // The container's root is the host's. Before its program runs, the executor's own file is within reach
        // by way of /proc/PID/exe (CVE-2019-5736); through this mount it can't be written.
        service.word("ReadOnlyPaths", "/usr/libexec/wharf");
    }
    credentials(&mut service, container, percent);
    limits(&mut service, &container.limits);
    for (key, value) in &container.systemd.service {
        service.verbatim(key, value);
    }
    service
}

/// A service that says when it has reloaded (systemd.service(5)).
const RELOADS: &str = "notify-reload";

/// The unit's type, and who may speak for it: the executor, while it starts the container, and then whom the file
/// names. The executor changes that where systemd can; where it can't, and the program is the one to say that it is
/// ready, the executor is the main process while it has something to say.
fn notification(container: &Container, facts: HostFacts) -> (&'static str, &'static str) {
    let kind = match container.reload {
        // Before 253 the executor sends it, and systemd waits where RELOADING=1 has come meanwhile: a notify service goes
        // on reloading then when ExecReload= has ended (`service_enter_running` in its src/core/service.c).
        Some(Reload::Signal { wait: true, .. }) if facts.has_notify_reload() => RELOADS,
        _ => service_type(container.kind),
    };
    let own = container.ready == Ready::Notify && container.notify_access == NotifyAccess::Main;
    (kind, if own && !facts.has_changing_notify_access() { "exec" } else { "all" })
}

/// What systemd does with the words of the init that checks the container: see `exec::health`.
fn watchdog(service: &mut Section, container: &Container, health: &Health) {
    service.word("WatchdogSec", show_duration(health::unit_patience(health)));
    watchdog_is_init(service);
    if health.on_failure == OnFailure::Stop && container.restart != Restart::No {
        service.word("RestartPreventExitStatus", health::GIVEN_UP.to_string());
    }
    if let Some(time) =
        health.start_period.filter(|time| container.ready == Ready::Healthy && !time.is_zero())
    {
        // It was given that much time to come up, on top of what a start may take otherwise.
        service.word("TimeoutStartSec", show_duration(time.saturating_add(START_TIMEOUT)));
    }
}

fn restart(service: &mut Section, restart: Restart) {
    let text = match restart {
        Restart::No => "no",
        Restart::OnFailure => "on-failure",
        Restart::Always => "always",
    };
    service.word("Restart", text);
    if restart != Restart::No {
        // The first of delays that grow; the executor waits for the rest of each (see `exec::again`).
        service.word("RestartSec", show_duration(SHORTEST_DELAY));
    }
}

/// What systemd loads, and the executor hands on.
fn credentials(service: &mut Section, container: &Container, percent: Percent) {
    for Credential { name, source, encrypted } in &container.credentials {
        let key = if *encrypted { "LoadCredentialEncrypted" } else { "LoadCredential" };
        let value = match source {
            CredentialSource::Store(other) if other == name => name.clone(),
            CredentialSource::Store(other) => format!("{name}:{other}"),
            CredentialSource::File(path) => format!("{name}:{}", path.display()),
        };
        service.text(key, &value, percent);
    }
}

fn limits(service: &mut Section, limits: &Limits) {
    // In full, so that a new limit can't be forgotten.
    let Limits { memory, memory_high, swap, cpu, cpu_weight, cpus, io_weight, tasks, open_files } = limits;
    for (key, value) in [
        ("AllowedCPUs", cpus),
        ("CPUQuota", cpu),
        ("CPUWeight", cpu_weight),
        ("IOWeight", io_weight),
        ("LimitNOFILE", open_files),
        ("MemoryHigh", memory_high),
        ("MemoryMax", memory),
        ("MemorySwapMax", swap),
        ("TasksMax", tasks),
    ] {
        if let Some(value) = value {
            service.word(key, value.as_str());
        }
    }
}
