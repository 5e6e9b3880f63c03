//! Each finding, from facts made for it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::own::next_given;
use super::{judge, worst};
use crate::apparmor::{NotThere, Profiles};
use crate::doctor::State::{self, Error, Note, Ok, Warning};
use crate::doctor::facts::*;
use crate::net::nft::ForwardChain;
use crate::plan::steps::PROFILE;

/// A host on which nothing is wrong.
fn well() -> Facts {
    let kernel = Kernel {
        release: "6.12.48+deb13-amd64".to_owned(),
        missing_namespaces: Vec::new(),
        namespace_limits: vec![("user.max_user_namespaces".to_owned(), 31_000)],
        restricted: Vec::new(),
        seccomp: texts("kill_process kill_thread trap errno user_notif trace log allow"),
        overlayfs: true,
    };
    let system = FileSystem { path: "/".to_owned(), kind: "ext4".to_owned(), ..FileSystem::default() };
    Facts {
        kernel: Look::Seen(kernel),
        trial: Look::Seen(Trial {
            user_namespace: None,
            file_systems: vec![system],
            overlay: Some(Result::Ok(())),
        }),
        cgroups: Look::Seen(Cgroups { unified: true, controllers: texts("cpuset cpu io memory pids") }),
        confinement: Look::Seen(Confinement {
            apparmor: profiles(&[(PROFILE, "enforce")]),
            ..Confinement::default()
        }),
        systemd: Look::Seen(Systemd {
            is_process_1: true,
            instead: "systemd".to_owned(),
            version: Some(257),
            silent: None,
            machined: true,
        }),
        // As Fedora has one.
        settings: Look::Seen(Settings {
            manager: vec![setting("DefaultTimeoutStartSec", "45s"), setting("DefaultTasksMax", "80%")],
            services: vec![setting("TimeoutStopFailureMode", "abort"), setting("PrivateTmp", "no")],
        }),
        installed: Look::Seen(Installed {
            generator: Generator::There("/usr/lib/systemd/system-generators/wharf-generator".to_owned()),
            executor: true,
            missing: Vec::new(),
            masked: Vec::new(),
        }),
        units: Look::Seen(units(&[
            ("systemd-resolved.service", "active"),
            ("wharf-network.socket", "active"),
            ("wharf-network.path", "active"),
            ("web-container.service", "active"),
        ])),
        resolver: Look::Seen(Resolver { servers: texts("192.0.2.53"), asks_resolved: true }),
        journal: Look::Seen(Journal { listens: true, persistent: true }),
        firewall: Look::Seen(Firewall {
            nft: true,
            chains: Look::Seen(Vec::new()),
            intact: Look::Seen(true),
            connected: 1,
            networked: 1,
            ..Firewall::default()
        }),
        forwarding: Look::Seen(Forwarding {
            now: vec![("net.ipv4.ip_forward".to_owned(), true)],
            files: Vec::new(),
            connected: 1,
        }),
        pools: Look::Seen(Pools { chosen: Some("10.131.0.0/16 fd00::/64".to_owned()), ..Pools::default() }),
        ids: Look::Seen(Ids {
            leases: vec![("db".to_owned(), 524_288), ("web".to_owned(), 589_824)],
            given: vec![given("me", 100_000)],
            useradd: Some((100_000, 600_100_000, 65_536)),
            ..Ids::default()
        }),
        clock: Look::Seen(Clock { now: 1_795_000_000, passed: 1_790_000_000, synchronised: Some(true) }),
        disks: vec![Look::Seen(disk(40 << 30, 20 << 30))],
        memory: Look::Seen(Memory { total: 8 << 30, available: 4 << 30, stalled: Some(0) }),
        files: Look::Seen(Files { checked: "2 containers".to_owned(), ..Files::default() }),
        containers: Look::Seen(Containers { known: 2, active: 2, ..Containers::default() }),
        marks: Look::Seen(Vec::new()),
        store: Look::Seen(Store { images: 3, bytes: 1_500_000_000, ..Store::default() }),
        missing_images: Look::Seen(Vec::new()),
    }
}

fn profiles(loaded: &[(&str, &str)]) -> Profiles {
    let loaded = loaded.iter().map(|(name, mode)| ((*name).to_owned(), (*mode).to_owned()));
    Profiles::Loaded(loaded.collect())
}

fn texts(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn units(states: &[(&str, &str)]) -> BTreeMap<String, String> {
    states.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect()
}

fn given(owner: &str, first: u32) -> Given {
    Given { file: "/etc/subuid".to_owned(), owner: owner.to_owned(), first, last: first + 65_535 }
}

fn setting(key: &str, value: &str) -> Setting {
    Setting { file: "/etc/x.conf".to_owned(), unit: None, key: key.to_owned(), value: value.to_owned() }
}

fn disk(size: u64, free: u64) -> Disk {
    Disk {
        what: "images and volumes",
        path: "/var/lib/wharf".to_owned(),
        mount: "/var".to_owned(),
        kind: "ext4".to_owned(),
        size,
        free,
        inodes: 1_000_000,
        free_inodes: 900_000,
        read_only: false,
    }
}

/// What was seen, to be changed.
fn of<T>(look: &mut Look<T>) -> &mut T {
    match look {
        Look::Seen(found) => found,
        _ => panic!("it was seen"),
    }
}

#[test]
fn nothing_wrong() {
    let lines = judge(&well());
    assert_eq!(worst(&lines), Ok, "{lines:#?}");
    let said: Vec<String> = lines.iter().map(|line| format!("{}: {}", line.topic, line.message)).collect();
    assert_eq!(
        said,
        [
            "kernel: Linux 6.12.48+deb13-amd64",
            "namespaces: all kinds are there",
            "seccomp: system calls can be filtered",
            "overlayfs: tried over mapped layers of the store; up to 500 layers",
            "idmapped mounts: ext4 at / maps ids",
            "cgroups: v2, with cpuset cpu io memory pids",
            "confinement: AppArmor is on, with the profile wharf-container",
            "systemd: version 257",
            "settings: no default of systemd's, and no drop-in for services, is in the way",
            "generator: /usr/lib/systemd/system-generators/wharf-generator",
            "static units: all are installed",
            "machined: installed",
            "journal: kept in /var/log/journal",
            "name servers: 192.0.2.53",
            "firewall: nobody else's rules drop what is forwarded; the table inet wharf is whole, for 1 running container",
            "forwarding: on",
            "addresses: 10.131.0.0/16 fd00::/64",
            "user ids: 2 ranges of 65536 each, nobody else's",
            "clock: 2026-11-18T11:06:40Z, and kept right",
            "disk: /var/lib/wharf (images and volumes, ext4): 21.5 GB of 42.9 GB free",
            "memory: 4.3 GB of 8.6 GB available",
            "files: 2 containers checked: nothing wrong",
            "containers: 2 known, 2 active, none failed",
            "changes: none is held back",
            "images: 3 images of 1.5 GB, everything present",
        ]
    );
}

/// One thing is wrong: what then is the only line that isn't ok.
type Case = (&'static str, State, &'static str, fn(&mut Facts));

const CASES: &[Case] = &[
    ("kernel", Error, "Linux 5.10.0-30-amd64; Wharf needs 6.1 or later", |facts| {
        of(&mut facts.kernel).release = "5.10.0-30-amd64".to_owned();
    }),
    ("namespaces", Error, "the kernel has none of this kind: user", |facts| {
        of(&mut facts.kernel).missing_namespaces = texts("user");
    }),
    ("namespaces", Error, "none may be made: user.max_user_namespaces = 0", |facts| {
        of(&mut facts.kernel).namespace_limits[0].1 = 0;
    }),
    ("namespaces", Warning, "few may be made: user.max_user_namespaces = 8", |facts| {
        of(&mut facts.kernel).namespace_limits[0].1 = 8;
    }),
    (
        "seccomp",
        Error,
        "system calls can't be filtered as containers need it (errno, kill_process)",
        |facts| {
            of(&mut facts.kernel).seccomp.clear();
        },
    ),
    ("overlayfs", Error, "a root can't be put together: no", |facts| {
        of(&mut facts.trial).overlay = Some(Err("no".to_owned()));
    }),
    ("idmapped mounts", Error, "no user namespace can be made: no", |facts| {
        of(&mut facts.trial).user_namespace = Some("no".to_owned());
    }),
    ("idmapped mounts", Error, "ext4 at /, where images and volumes are, can't map ids: no", |facts| {
        of(&mut facts.trial).file_systems[0].problem = Some("no".to_owned());
    }),
    ("idmapped mounts", Error, "nfs4 at /srv can't map ids, for web: no", |facts| {
        let system = FileSystem {
            path: "/srv".to_owned(),
            kind: "nfs4".to_owned(),
            containers: texts("web"),
            problem: Some("no".to_owned()),
        };
        of(&mut facts.trial).file_systems.push(system);
    }),
    ("cgroups", Error, "/sys/fs/cgroup is not the unified hierarchy (cgroup v2)", |facts| {
        of(&mut facts.cgroups).unified = false;
    }),
    ("cgroups", Warning, "v2 without io, memory: these [limits] do not hold", |facts| {
        of(&mut facts.cgroups).controllers = texts("cpu cpuset pids");
    }),
    (
        "confinement",
        Note,
        "AppArmor is on, and containers run without the profile wharf-container, which is not loaded",
        |facts| of(&mut facts.confinement).apparmor = profiles(&[]),
    ),
    (
        "confinement",
        Note,
        "AppArmor is on, and the profile wharf-container keeps nobody from anything (mode complain)",
        |facts| of(&mut facts.confinement).apparmor = profiles(&[(PROFILE, "complain")]),
    ),
    ("confinement", Error, "db, web can't start: the AppArmor profile strict isn't loaded", |facts| {
        let why = NotThere::NotLoaded("strict".to_owned());
        of(&mut facts.confinement).missing.insert(why, texts("db web"));
    }),
    ("confinement", Note, "SELinux enforces; Wharf has no policy of its own and labels no files", |facts| {
        of(&mut facts.confinement).selinux = Some(true)
    }),
    (
        "systemd",
        Warning,
        "it can't be asked: no; containers run, and wharf ps, run and apply don't work",
        |facts| {
            of(&mut facts.systemd).silent = Some("no".to_owned());
        },
    ),
    ("systemd", Error, "version 247; Wharf needs 249 or later", |facts| {
        of(&mut facts.systemd).version = Some(247);
    }),
    ("systemd", Warning, "its version can't be told, so that units are made as for the oldest", |facts| {
        of(&mut facts.systemd).version = None
    }),
    (
        "generator",
        Error,
        "wharf-generator is in none of systemd's folders, so that no unit is made",
        |facts| of(&mut facts.installed).generator = Generator::Missing,
    ),
    (
        "generator",
        Error,
        "/etc/x is empty, leads nowhere or can't be run, so that no unit is made",
        |facts| {
            of(&mut facts.installed).generator = Generator::Hidden("/etc/x".to_owned());
        },
    ),
    (
        "executor",
        Error,
        "/usr/libexec/wharf/wharf-executor can't be run, and it starts every container",
        |facts| of(&mut facts.installed).executor = false,
    ),
    ("static units", Warning, "missing: wharf.slice", |facts| {
        of(&mut facts.installed).missing = texts("wharf.slice");
    }),
    ("static units", Warning, "masked: wharf-network.socket", |facts| {
        of(&mut facts.installed).masked = texts("wharf-network.socket");
    }),
    ("static units", Warning, "failed: wharf-network.service", |facts| {
        of(&mut facts.units).insert("wharf-network.service".to_owned(), "failed".to_owned());
    }),
    (
        "static units",
        Warning,
        "containers run, and nobody hears of a flushed firewall or new name servers: wharf-network.path does not run",
        |facts| drop(of(&mut facts.units).remove("wharf-network.path")),
    ),
    (
        "settings",
        Warning,
        "/etc/x.conf sets User=, PrivateNetwork= for every service: it holds for what starts the container, and may keep it from that",
        |facts| {
            let services = &mut of(&mut facts.settings).services;
            services.extend([setting("User", "nobody"), setting("PrivateNetwork", "yes")]);
        },
    ),
    (
        "settings",
        Warning,
        "/etc/x.conf sets ProtectSystem= for web-container.service: it holds for what starts the container, and may keep it from that",
        |facts| {
            let unit = Some("web-container.service".to_owned());
            of(&mut facts.settings).services.push(Setting { unit, ..setting("ProtectSystem", "strict") });
        },
    ),
    (
        "settings",
        Warning,
        "/etc/x.conf says DefaultTimeoutStartSec=3s: a container that isn't ready by then is stopped again",
        |facts| of(&mut facts.settings).manager.push(setting("DefaultTimeoutStartSec", "3s")),
    ),
    (
        "settings",
        Warning,
        "/etc/x.conf says DefaultTasksMax=64: a container whose file says nothing of tasks has no more processes and threads",
        |facts| of(&mut facts.settings).manager.push(setting("DefaultTasksMax", "64")),
    ),
    (
        "settings",
        Warning,
        "/etc/x.conf says DefaultLimitNOFILE=512:1000: a container whose file says nothing of open files has no more of them",
        |facts| of(&mut facts.settings).manager.push(setting("DefaultLimitNOFILE", "512:1000")),
    ),
    (
        "settings",
        Warning,
        "/etc/x.conf says CapabilityBoundingSet=CAP_NET_ADMIN: systemd itself lacks capabilities then, and a start needs those of root",
        |facts| of(&mut facts.settings).manager.push(setting("CapabilityBoundingSet", "CAP_NET_ADMIN")),
    ),
    ("machined", Warning, "it has failed: machinectl doesn't know containers", |facts| {
        of(&mut facts.units).insert("systemd-machined.service".to_owned(), "failed".to_owned());
    }),
    (
        "journal",
        Warning,
        "nobody listens at /run/systemd/journal/socket: what containers say is lost",
        |facts| of(&mut facts.journal).listens = false,
    ),
    ("journal", Note, "it is in memory, and gone with the next reboot", |facts| {
        of(&mut facts.journal).persistent = false;
    }),
    (
        "name servers",
        Warning,
        "the host asks systemd-resolved, which does not run: images can't be fetched by name",
        |facts| {
            of(&mut facts.units).insert("systemd-resolved.service".to_owned(), "inactive".to_owned());
        },
    ),
    (
        "name servers",
        Warning,
        "the host names none that a container could reach, so that containers look up no names",
        |facts| of(&mut facts.resolver).servers.clear(),
    ),
    ("firewall", Error, "there is no program nft (/usr/sbin/nft), which loads Wharf's table", |facts| {
        of(&mut facts.firewall).nft = false;
    }),
    ("firewall", Warning, "there is no program nft (/usr/sbin/nft), which loads Wharf's table", |facts| {
        (of(&mut facts.firewall).nft, of(&mut facts.firewall).networked) = (false, 0);
    }),
    (
        "firewall",
        Error,
        "firewalld lets no published port through (StrictForwardPorts=yes): web can't start (in charge: firewalld)",
        |facts| {
            let firewall = of(&mut facts.firewall);
            firewall.strict_firewalld = true;
            firewall.managers = texts("firewalld");
            firewall.publishing = texts("web");
        },
    ),
    (
        "firewall",
        Warning,
        "ip filter FORWARD drops what is forwarded, published ports and links as well (in charge: ufw)",
        |facts| {
            let firewall = of(&mut facts.firewall);
            firewall.chains = Look::Seen(vec![drops(Rules::default())]);
            firewall.managers = texts("ufw");
        },
    ),
    (
        "firewall",
        Note,
        "ip filter FORWARD drops what is forwarded, published ports and links as well",
        |facts| {
            let firewall = of(&mut facts.firewall);
            firewall.chains = Look::Seen(vec![drops(Rules::default())]);
            firewall.networked = 0;
        },
    ),
    (
        "firewall",
        Note,
        "ip filter FORWARD lets published ports through; of links and what containers send, what its other rules allow (in charge: firewalld)",
        |facts| {
            let mut passed = drops(Rules { close: true, pass_published: true, name_ours: false });
            passed.chain.drops = false;
            let firewall = of(&mut facts.firewall);
            firewall.chains = Look::Seen(vec![passed]);
            firewall.managers = texts("firewalld");
        },
    ),
    ("firewall", Note, "the old iptables has tables, too: filter", |facts| {
        of(&mut facts.firewall).legacy = texts("filter");
    }),
    ("firewall", Error, "the table inet wharf isn't as it should be, for 1 running container", |facts| {
        of(&mut facts.firewall).intact = Look::Seen(false);
    }),
    ("firewall", Note, "not looked at: only root can", |facts| {
        of(&mut facts.firewall).chains = Look::OnlyRoot;
    }),
    ("forwarding", Error, "1 running container cut off: net.ipv4.ip_forward is 0", |facts| {
        of(&mut facts.forwarding).now[0].1 = false;
    }),
    (
        "forwarding",
        Warning,
        "/etc/sysctl.d/x.conf sets net.ipv4.ip_forward to 0: containers are cut off whenever it is applied",
        |facts| {
            of(&mut facts.forwarding).files =
                vec![("/etc/sysctl.d/x.conf".to_owned(), "net.ipv4.ip_forward".to_owned())];
        },
    ),
    ("addresses", Error, "/var/lib/wharf/leases/pools doesn't hold two networks", |facts| {
        of(&mut facts.pools).damaged = true;
    }),
    (
        "addresses",
        Warning,
        "the host has routes to some of the containers' addresses elsewhere: tun0 10.131.0.0/24",
        |facts| of(&mut facts.pools).clashes = vec!["tun0 10.131.0.0/24".to_owned()],
    ),
    ("user ids", Error, "the leases of db can't be read", |facts| {
        of(&mut facts.ids).damaged = texts("db");
    }),
    ("user ids", Error, "db has 524288 to 589823, and so has web", |facts| {
        of(&mut facts.ids).leases[1].1 = 524_288;
    }),
    (
        "user ids",
        Warning,
        "web has 589824 to 655359, and /etc/subuid gives 600000 to 665535 to you, who could be its users",
        |facts| of(&mut facts.ids).given.push(given("you", 600_000)),
    ),
    ("user ids", Warning, "db has 524288 to 589823, and the user joe is 524300", |facts| {
        of(&mut facts.ids).users = vec![(524_300, "joe".to_owned())];
    }),
    ("user ids", Warning, "the next user that useradd makes gets 493216 to 558751, which db has", |facts| {
        of(&mut facts.ids).given = (0..6).map(|user| given("x", 100_000 + user * 65_536)).collect();
    }),
    (
        "clock",
        Error,
        "it says 1970-01-01T00:01:00Z, which is past: certificates and signatures will not be good yet",
        |facts| of(&mut facts.clock).now = 60,
    ),
    (
        "clock",
        Error,
        "it says 2026-07-13T21:33:20Z, which is past: certificates and signatures will not be good yet",
        |facts| of(&mut facts.clock).now = 1_783_978_400,
    ),
    ("clock", Note, "2026-11-18T11:06:40Z, and nothing keeps it right", |facts| {
        of(&mut facts.clock).synchronised = Some(false);
    }),
    (
        "disk",
        Error,
        "/var/lib/wharf (images and volumes, ext4): 1.0 kB of 42.9 GB free; it is full",
        |facts| of(&mut facts.disks[0]).free = 1024,
    ),
    ("disk", Warning, "/var/lib/wharf (images and volumes, ext4): 1.1 GB of 42.9 GB free", |facts| {
        of(&mut facts.disks[0]).free = 1 << 30;
    }),
    ("disk", Error, "/var/lib/wharf (images and volumes, ext4): no inodes are left of 1000000", |facts| {
        of(&mut facts.disks[0]).free_inodes = 0;
    }),
    ("disk", Warning, "/var/lib/wharf (images and volumes, ext4): 400 of 1000000 inodes are left", |facts| {
        of(&mut facts.disks[0]).free_inodes = 400;
    }),
    ("disk", Error, "/var/lib/wharf (images and volumes, ext4) can't be written to", |facts| {
        of(&mut facts.disks[0]).read_only = true;
    }),
    ("memory", Warning, "107.4 MB of 8.6 GB available", |facts| {
        of(&mut facts.memory).available = 107_400_000;
    }),
    (
        "memory",
        Warning,
        "4.3 GB of 8.6 GB available; in the last minute all waited for it for 12 %",
        |facts| of(&mut facts.memory).stalled = Some(1234),
    ),
    ("files", Error, "2 errors in /etc/wharf/containers/web.toml", |facts| {
        let files = of(&mut facts.files);
        (files.errors, files.bad) = (2, texts("/etc/wharf/containers/web.toml"));
    }),
    ("files", Warning, "2 containers checked: 1 warning", |facts| of(&mut facts.files).warnings = 1),
    ("containers", Error, "web has failed: it was killed", |facts| {
        of(&mut facts.containers).failed = vec![("web".to_owned(), Some("it was killed".to_owned()))];
    }),
    ("containers", Error, "started again and again, and ends each time: web", |facts| {
        of(&mut facts.containers).restarting = texts("web");
    }),
    ("containers", Warning, "unhealthy: web", |facts| of(&mut facts.containers).unhealthy = texts("web")),
    ("containers", Warning, "systemd hasn't read the files of web as they are now", |facts| {
        of(&mut facts.containers).reload_due = texts("web");
    }),
    ("changes", Warning, "held back, as they failed: web", |facts| {
        of(&mut facts.marks).push(Mark { container: "web".to_owned(), failed: true, watched: false });
    }),
    (
        "changes",
        Warning,
        "a wharf apply was cut off while it tried web: the last good plan starts",
        |facts| {
            of(&mut facts.marks).push(Mark { container: "web".to_owned(), failed: false, watched: false })
        },
    ),
    ("changes", Note, "a wharf apply tries web", |facts| {
        of(&mut facts.marks).push(Mark { container: "web".to_owned(), failed: false, watched: true });
    }),
    ("images", Error, "1 part damaged: layers/abc", |facts| {
        of(&mut facts.store).damage = texts("layers/abc");
    }),
    ("images", Error, "app:1 is not in the store, and nothing fetches it: web can't start", |facts| {
        of(&mut facts.missing_images).push(("app:1".to_owned(), "web".to_owned()))
    }),
    ("images", Warning, "no answer within 5 s", |facts| {
        facts.missing_images = Look::Late(Duration::from_secs(5));
    }),
    ("images", Warning, "no answer within 20 s", |facts| {
        facts.store = Look::Late(Duration::from_secs(20));
    }),
    ("memory", Warning, "can't be looked at: no such file", |facts| {
        facts.memory = Look::Failed("no such file".to_owned());
    }),
    ("user ids", Note, "not looked at: only root can", |facts| facts.ids = Look::OnlyRoot),
];

fn drops(rules: Rules) -> Passed {
    let (table, name) = ("filter".to_owned(), "FORWARD".to_owned());
    Passed { chain: ForwardChain { family: "ip", table, name, drops: true }, rules }
}

#[test]
fn each_finding_alone() {
    for (topic, state, message, break_it) in CASES {
        let mut facts = well();
        break_it(&mut facts);
        let lines = judge(&facts);
        let found: Vec<_> = lines.iter().filter(|line| line.state != Ok).collect();
        let [line] = found.as_slice() else { panic!("{message}: {found:#?}") };
        assert_eq!((line.topic, line.state, line.message.as_str()), (*topic, *state, *message));
        assert!(line.hint.as_ref().is_some_and(|hint| hint.len() > 10), "no way out: {line:?}");
        assert_eq!(worst(&lines), *state);
        assert!(!line.message.contains('\n'), "{line:?}");
    }
}

/// Rules that let containers' interfaces through are their administrator's answer to the policy.
#[test]
fn what_is_let_through_is_no_finding() {
    let mut facts = well();
    let rules = Rules { name_ours: true, ..Rules::default() };
    of(&mut facts.firewall).chains = Look::Seen(vec![drops(rules)]);
    of(&mut facts.firewall).managers = texts("ufw");
    let lines = judge(&facts);
    let line = lines.iter().find(|line| line.topic == "firewall").expect("a line");
    assert_eq!(
        (line.state, line.message.split(';').next()),
        (Ok, Some("ip filter FORWARD lets through what its rules about wharf- interfaces say"))
    );
}

/// What is no finding, though it looks like one: a disk that has plenty in a small part of it, nobody who listens where
/// nobody needs it, a failed container that is called as Wharf's units are.
#[test]
fn well_all_the_same() {
    let changes: [fn(&mut Facts); 4] = [
        |facts| facts.disks = vec![Look::Seen(disk(10 << 40, 300 << 30))],
        |facts| facts.memory = Look::Seen(Memory { total: 1 << 40, available: 30 << 30, stalled: None }),
        |facts| {
            of(&mut facts.units).remove("wharf-network.path");
            of(&mut facts.firewall).connected = 0;
        },
        |facts| {
            of(&mut facts.units).insert("wharf-shop-container.service".to_owned(), "failed".to_owned());
        },
    ];
    for change in changes {
        let mut facts = well();
        change(&mut facts);
        let lines = judge(&facts);
        assert_eq!(worst(&lines), Ok, "{lines:#?}");
    }
}

/// An overlay that was never tried isn't said to be well.
#[test]
fn what_was_not_tried() {
    let mut facts = well();
    *of(&mut facts.trial) = Trial { user_namespace: Some("no".to_owned()), ..Trial::default() };
    let lines = judge(&facts);
    let line = lines.iter().find(|line| line.topic == "overlayfs").expect("a line");
    assert_eq!(line.message, "the kernel has it, and it was not tried; up to 500 layers");
}

/// A disk that can't be written to is mounted again by where it is mounted.
#[test]
fn the_way_out_of_a_read_only_disk() {
    let mut facts = well();
    of(&mut facts.disks[0]).read_only = true;
    let lines = judge(&facts);
    let hint = lines.iter().find(|line| line.topic == "disk").and_then(|line| line.hint.clone());
    assert!(hint.is_some_and(|hint| hint.ends_with("remount,rw /var")), "{lines:#?}");
}

#[test]
fn without_systemd() {
    let mut facts = well();
    of(&mut facts.systemd).is_process_1 = false;
    of(&mut facts.systemd).instead = "init".to_owned();
    (facts.units, facts.containers) = (Look::Unasked, Look::Unasked);
    let lines = judge(&facts);
    let found: Vec<_> = lines.iter().filter(|line| line.state != Ok).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].message.starts_with("process 1 is init: containers are systemd's services"));
    assert!(!lines.iter().any(|line| ["containers", "machined"].contains(&line.topic)));
}

#[test]
fn without_any_root_there_are_no_lines() {
    assert_eq!(judge(&Facts::default()), []);
}

#[test]
fn where_useradd_looks_next() {
    let limits = (100_000, 600_100_000, 65_536);
    for (given, next) in [
        (vec![], Some((100_000, 165_535))),
        (vec![given("a", 100_000)], Some((165_536, 231_071))),
        // A gap that is wide enough is taken, one that is not isn't.
        (vec![given("a", 100_000), given("b", 231_072)], Some((165_536, 231_071))),
        (vec![given("a", 100_000), given("b", 200_000)], Some((265_536, 331_071))),
        (vec![given("a", 50_000)], Some((115_536, 181_071))),
    ] {
        assert_eq!(next_given(&given, limits), next, "{given:?}");
    }
    assert_eq!(next_given(&[], (100, 200, 1000)), None);
    assert_eq!(next_given(&[], (100, 200, 0)), None);
}
