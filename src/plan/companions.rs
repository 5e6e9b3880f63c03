//! The units beside a container's own: its timer, its sockets, and what these need to start it.
//!
//! ```text
//! nginx-container.timer              [timer]
//! nginx-container-restart.service    what the timer starts where overlap = "restart"
//! nginx-container.socket             [socket]
//! nginx-container-proxy.service      what the socket starts where proxy = true
//! ```
//!
//! No container's own unit can have one of these names: all of those end in `-container.service`.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::unit::{COMMENT, EXECUTOR, argument, percent, refuses};
use crate::check::{Overlap, Proxy, Socket, Starting, Timer};
use crate::host::HostFacts;
use crate::spec::{ContainerName, Listen, Protocol, show_duration};
use crate::unit::{Percent, Section, Unit};

/// A unit that goes with a container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Companion {
    /// Its name.
    pub unit: String,
    /// Its text.
    pub text: String,
}

/// Where boot begins with a container: a target's folder of links, and the unit in it.
pub type BootLink = (&'static str, String);

/// The folder by which boot starts containers themselves.
const CONTAINERS: &str = "multi-user.target.wants";
/// The one for timers (systemd.special(7)).
const TIMERS: &str = "timers.target.wants";
/// The one for sockets.
const SOCKETS: &str = "sockets.target.wants";

/// All the folders of [`BootLink`]s.
pub const BOOT_FOLDERS: [&str; 3] = [CONTAINERS, SOCKETS, TIMERS];

/// The most exact that a timer can be asked to be at little cost (`AccuracySec=`, systemd.timer(5)): a minute,
/// systemd's own, is more than who writes `every = "10s"` means.
const ACCURACY: &str = "1s";

/// A year that no calendar of systemd's goes beyond (`MAX_YEAR` of its src/shared/calendarspec.c is 2199), for a
/// timer that waits until its file can be read again.
const NEVER: &str = "2199-12-31";

/// The name of a unit beside a container's: `web-container-proxy@blue.service`.
fn beside(name: &ContainerName, what: &str, end: &str) -> String {
    let unit = name.unit();
    let stem = unit.strip_suffix(".service").unwrap_or(&unit);
    match stem.split_once('@') {
        Some((prefix, instance)) => format!("{prefix}{what}@{instance}.{end}"),
        None => format!("{stem}{what}.{end}"),
    }
}

/// Its timer's unit.
pub fn timer_unit(name: &ContainerName) -> String {
    beside(name, "", "timer")
}

/// Its sockets' unit.
pub fn socket_unit(name: &ContainerName) -> String {
    beside(name, "", "socket")
}

/// Its proxy's unit.
pub fn proxy_unit(name: &ContainerName) -> String {
    beside(name, "-proxy", "service")
}

fn restart_unit(name: &ContainerName) -> String {
    beside(name, "-restart", "service")
}

/// The links by which boot starts a container that it is to start.
pub fn boot_links(name: &ContainerName, starting: &Starting) -> Vec<BootLink> {
    let Starting { kind: _, timer, socket } = starting;
    let mut links = Vec::new();
    if timer.is_some() {
        links.push((TIMERS, timer_unit(name)));
    }
    if socket.is_some() {
        links.push((SOCKETS, socket_unit(name)));
    }
    if links.is_empty() || socket.as_ref().is_some_and(|socket| !socket.on_demand) {
        links.push((CONTAINERS, name.unit()));
    }
    links
}

/// How many connections a proxy carries at once. systemd-socket-proxyd(8) closes those beyond 256 otherwise.
pub const CONNECTIONS: u32 = 4096;

/// What one of them takes of descriptors: a socket on either side, and a pipe each way.
const DESCRIPTORS: u32 = 6;

/// The units beside a container's. They are made for a `refused` one as well, as far as its file can be read: a unit
/// that goes away at a reload leaves a timer that never elapses again and a socket that nobody listens at, also
/// when the file has been put right. What they start then fails, and says why.
pub fn companions(
    name: &ContainerName,
    starting: &Starting,
    source: &Path,
    facts: HostFacts,
    refused: bool,
) -> Vec<Companion> {
    let Starting { kind: _, timer, socket } = starting;
    let percent = percent(name);
    let head = |what: &str| {
        let mut unit = Section::new("Unit");
        unit.text("Description", &format!("{what} {}", argument(name)), percent)
            .word("Documentation", "man:wharf-container(5)")
            .quoted("SourcePath", &source.to_string_lossy(), Percent::Literal);
        unit
    };
    let mut all = Vec::new();
    let mut put = |unit: String, sections: [Section; 2]| {
        all.push(Companion { unit, text: Unit::new(sections).render(COMMENT) });
    };
    if let Some(timer) = timer {
        put(timer_unit(name), [head("Times of"), timer_section(name, timer, facts)]);
        if timer.overlap == Overlap::Restart {
            let mut unit = head("Restart at its time of");
            // Given up, it would take the timer with it.
            unit.word("StartLimitIntervalSec", "0");
            put(restart_unit(name), [unit, restart_section(name)]);
        }
    }
    if let Some(socket) = socket {
        put(socket_unit(name), [head("Sockets of"), socket_section(name, socket)]);
        if let Some(proxy) = &socket.proxy {
            let mut unit = head("Proxy of");
            let sockets = instance_of(&socket_unit(name));
            unit.text("Requires", &sockets, percent).text("After", &sockets, percent);
            // A refused one's is refused itself: it waits between its starts, as a unit whose requirement fails
            // doesn't, and the waiting client would have it start again at once, for ever.
            if !refused {
                // A container that ends takes its proxy along, which would go on accepting clients for nobody; then
                // the next client starts both, or waits for the container's own restart. `Requires=` follows a stop
                // that was asked for only.
                let container = instance_of(&name.unit());
                unit.text("BindsTo", &container, percent).text("After", &container, percent);
            }
            // With a short `idle-stop`, clients that come and go may have it start at any rate. Given up by its own
            // limit it would take the sockets with it, for good; they have one of theirs (TriggerLimitBurst=).
            unit.word("StartLimitIntervalSec", "0");
            put(proxy_unit(name), [unit, proxy_section(name, proxy, refused)]);
        }
    }
    all
}

fn timer_section(name: &ContainerName, timer: &Timer, facts: HostFacts) -> Section {
    let Timer { on_calendar, on_boot, every, persistent, jitter, overlap } = timer;
    let mut section = Section::new("Timer");
    for time in on_calendar {
        section.text("OnCalendar", time, Percent::Literal);
    }
    if timer.is_idle() {
        section.word("OnCalendar", NEVER);
    }
    if let Some(time) = on_boot {
        section.word("OnBootSec", show_duration(*time));
    }
    if let Some(time) = every {
        // Counted from the last start, so there has to be a first.
        if on_boot.is_none() && on_calendar.is_empty() {
            // Not `OnActiveSec=`, which each reload counts anew, and would have a start of its own (`timer_coldplug`
            // of systemd's src/core). This one is over once there was a start.
            section.word("OnBootSec", show_duration(Duration::ZERO));
        }
        section.word("OnUnitActiveSec", show_duration(*time));
    }
    if *persistent {
        section.word("Persistent", "yes");
    }
    if let Some(time) = jitter {
        section.word("RandomizedDelaySec", show_duration(*time));
    }
    section.word("AccuracySec", ACCURACY);
    match overlap {
        // Without it, a time that comes during a run is made up for as soon as that ends.
        Overlap::Skip if facts.has_defer_reactivation() => {
            section.word("DeferReactivation", "yes");
        }
        Overlap::Skip => {}
        // A timer only starts, and a start of what runs is nothing.
        Overlap::Restart => {
            section.text("Unit", &instance_of(&restart_unit(name)), percent(name));
        }
    }
    section
}

fn restart_section(name: &ContainerName) -> Section {
    let unit = instance_of(&name.unit());
    let mut section = Section::new("Service");
    section
        .word("Type", "oneshot")
        .command(
            "ExecStart",
            "",
            "/usr/bin/systemctl",
            &[
                // The timer waits for this unit's end, and the next time may come before the run's.
                ("--no-block", Percent::Literal),
                ("restart", Percent::Literal),
                (&unit, percent(name)),
            ],
        )
        .word("Slice", "wharf.slice");
    section
}

fn socket_section(name: &ContainerName, socket: &Socket) -> Section {
    let Socket { listen, names: _, mode, user, group, on_demand: _, proxy } = socket;
    let percent = percent(name);
    let mut section = Section::new("Socket");
    for listen in listen {
        let key = match listen.protocol() {
            Protocol::Tcp => "ListenStream",
            Protocol::Udp => "ListenDatagram",
        };
        section.text(key, &listen.address(), percent);
    }
    let addresses = || {
        listen
            .iter()
            .filter_map(|listen| if let Listen::Address(at, _) = listen { Some(at.ip()) } else { None })
    };
    if addresses().any(|at| at.is_ipv6()) {
        // `[::]` is IPv6 then, whatever the host's sysctl net.ipv6.bindv6only says, and `0.0.0.0` can be beside it.
        section.word("BindIPv6Only", "ipv6-only");
    }
    if addresses().any(|at| !at.is_unspecified() && !at.is_loopback()) {
        // Boot makes sockets before the network is up.
        section.word("FreeBind", "yes");
    }
    if listen.iter().any(|listen| matches!(listen, Listen::Path(_))) {
        if let Some(mode) = mode {
            section.word("SocketMode", format!("{mode:04o}"));
        }
        for (key, owner) in [("SocketUser", user), ("SocketGroup", group)] {
            if let Some(owner) = owner {
                section.text(key, owner, percent);
            }
        }
        section.word("RemoveOnStop", "yes");
    }
    if proxy.is_some() {
        section.text("Service", &instance_of(&proxy_unit(name)), percent);
    }
    section
}

/// A template's unit as its instances' units name it.
pub(super) fn instance_of(unit: &str) -> String {
    unit.replace("@.", "@%i.")
}

fn proxy_section(name: &ContainerName, proxy: &Proxy, refused: bool) -> Section {
    // Both are the plan's, where the executor finds them with the container's address.
    let Proxy { to: _, idle_stop: _ } = proxy;
    let name_ = argument(name);
    let percent = percent(name);
    let mut section = Section::new("Service");
    section.word("Type", "notify");
    if refused {
        refuses(&mut section, &name_, percent, true);
    } else {
        section.command("ExecStart", "", EXECUTOR, &[("proxy", Percent::Literal), (&name_, percent)]);
    }
    section
        .word("Slice", "wharf.slice")
        .text("SyslogIdentifier", &name_, percent)
        .word("LimitNOFILE", (CONNECTIONS * DESCRIPTORS + 64).to_string())
        // It begins as root, to read the plan and to connect to a path that is somebody else's, and goes on as
        // nobody of the container's range of ids, without any.
        .word("CapabilityBoundingSet", "CAP_DAC_OVERRIDE CAP_SETUID CAP_SETGID")
        .word("NoNewPrivileges", "yes")
        .word("PrivateDevices", "yes")
        .word("PrivateTmp", "yes")
        .word("ProtectHome", "yes")
        .word("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6")
        .word("MemoryDenyWriteExecute", "yes");
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, timer, proxy) in [
            ("nginx", "nginx-container.timer", "nginx-container-proxy.service"),
            ("web@", "web-container@.timer", "web-container-proxy@.service"),
            ("web@blue", "web-container@blue.timer", "web-container-proxy@blue.service"),
        ] {
            let name: ContainerName = name.parse().expect("a name");
            assert_eq!((timer_unit(&name), proxy_unit(&name)), (timer.into(), proxy.into()));
            assert_eq!(ContainerName::from_unit(proxy), None);
        }
    }

    #[test]
    fn a_timer_that_cannot_be_read_waits() {
        let starting = Starting { timer: Some(Timer::default()), ..Starting::default() };
        let name = "job".parse().expect("a name");
        let units = companions(&name, &starting, Path::new("/etc/x"), HostFacts::default(), true);
        assert!(units[0].text.contains("\nOnCalendar=2199-12-31\n"), "{}", units[0].text);
        assert_eq!(boot_links(&name, &starting), [(TIMERS, "job-container.timer".to_owned())]);
    }
}
