//! The kernel, its file systems, and what else a machine has.

use super::KERNEL;
use crate::apparmor::Profiles;
use crate::doctor::facts::{Cgroups, Clock, Confinement, Disk, FileSystem, Kernel, Look, Memory, Trial};
use crate::doctor::{Line, few, size};
use crate::plan::steps::PROFILE;

/// What a kernel's release begins with: `6.1.0-44-amd64` is 6.1.
pub(super) fn release(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

pub(super) fn kernel(kernel: &Kernel) -> [Line; 1] {
    const TOPIC: &str = "kernel";
    let (found, (major, minor)) = (&kernel.release, KERNEL);
    [if release(found) >= KERNEL {
        Line::ok(TOPIC, format!("Linux {found}"))
    } else {
        Line::error(
            TOPIC,
            format!("Linux {found}; Wharf needs {major}.{minor} or later"),
            "install a newer kernel (of Debian 11: from bullseye-backports) and reboot",
        )
    }]
}

/// With fewer of a kind, a host that runs a few containers may come to the end of them.
const FEW: u64 = 256;

pub(super) fn namespaces(kernel: &Kernel) -> Vec<Line> {
    const TOPIC: &str = "namespaces";
    let missing = &kernel.missing_namespaces;
    if !missing.is_empty() {
        let hint = "boot a kernel that has them (CONFIG_NAMESPACES and what is below it)";
        return vec![Line::error(TOPIC, format!("the kernel has none of this kind: {}", few(missing)), hint)];
    }
    let low = |limit: u64| move |(_, value): &&(String, u64)| *value <= limit;
    let texts = |limits: Vec<&(String, u64)>| -> Vec<String> {
        limits.into_iter().map(|(name, value)| format!("{name} = {value}")).collect()
    };
    let none = texts(kernel.namespace_limits.iter().filter(low(0)).collect());
    let scarce = texts(kernel.namespace_limits.iter().filter(low(FEW)).collect());
    let hint = "take the setting out of /etc/sysctl.d, or raise it: sysctl user.max_user_namespaces=15000 and the like";
    if !none.is_empty() {
        return vec![Line::error(TOPIC, format!("none may be made: {}", few(&none)), hint)];
    }
    if !scarce.is_empty() {
        return vec![Line::warning(TOPIC, format!("few may be made: {}", few(&scarce)), hint)];
    }
    let restricted = match kernel.restricted.as_slice() {
        [] => String::new(),
        settings => format!("; {} doesn't concern Wharf, which is root", few(settings)),
    };
    vec![Line::ok(TOPIC, format!("all kinds are there{restricted}"))]
}

pub(super) fn seccomp(kernel: &Kernel) -> [Line; 1] {
    const TOPIC: &str = "seccomp";
    let needed = ["errno", "kill_process"];
    let missing: Vec<String> = needed
        .iter()
        .filter(|needed| !kernel.seccomp.iter().any(|action| action == *needed))
        .map(|missing| (*missing).to_owned())
        .collect();
    [if missing.is_empty() {
        Line::ok(TOPIC, "system calls can be filtered")
    } else {
        Line::error(
            TOPIC,
            format!("system calls can't be filtered as containers need it ({})", few(&missing)),
            "boot a kernel with CONFIG_SECCOMP_FILTER",
        )
    }]
}

pub(super) fn overlayfs(kernel: &Kernel, trial: &Look<Trial>) -> [Line; 1] {
    const TOPIC: &str = "overlayfs";
    // Nothing where it wasn't tried: nobody could, or what comes before it failed, which another line says.
    let tried = trial.seen().and_then(|trial| trial.overlay.as_ref());
    [match (kernel.overlayfs, tried) {
        (_, Some(Err(problem))) => Line::error(
            TOPIC,
            format!("a root can't be put together: {problem}"),
            "dmesg may say more; the store has to be on a file system that overlayfs takes, such as ext4, XFS or btrfs",
        ),
        (false, None) => Line::error(
            TOPIC,
            "the kernel doesn't know it",
            "load it (modprobe overlay), or boot a kernel that has it (CONFIG_OVERLAY_FS)",
        ),
        (_, tried) => {
            // lowerdir+ of fsconfig(2), Linux 6.7: before that all layers share one page of options.
            let layers = if release(&kernel.release) >= (6, 7) {
                "up to 500 layers"
            } else {
                "names of layers share 4 kB"
            };
            let known = match tried {
                Some(_) => "tried over mapped layers of the store",
                None => "the kernel has it, and it was not tried",
            };
            Line::ok(TOPIC, format!("{known}; {layers}"))
        }
    }]
}

pub(super) fn mapping(trial: &Trial) -> Vec<Line> {
    const TOPIC: &str = "idmapped mounts";
    if let Some(why) = &trial.user_namespace {
        let hint = "allow them (sysctl user.max_user_namespaces), or set user-namespace = false";
        return vec![Line::error(TOPIC, format!("no user namespace can be made: {why}"), hint)];
    }
    let line = |system: &FileSystem| {
        let FileSystem { path, kind, containers, problem } = system;
        let Some(problem) = problem else {
            return Line::ok(TOPIC, format!("{kind} at {path} maps ids"));
        };
        if containers.is_empty() {
            Line::error(
                TOPIC,
                format!("{kind} at {path}, where images and volumes are, can't map ids: {problem}"),
                "put /var/lib/wharf on a file system that can (ext4, XFS, btrfs), or set user-namespace = false",
            )
        } else {
            Line::error(
                TOPIC,
                format!("{kind} at {path} can't map ids, for {}: {problem}", few(containers)),
                "set `idmap = false` on the mount and give the files to the container's ids (wharf inspect says which); for a rootfs set user-namespace = false",
            )
        }
    };
    trial.file_systems.iter().map(line).collect()
}

/// Those that `[limits]` is made of.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

pub(super) fn cgroups(cgroups: &Cgroups) -> [Line; 1] {
    const TOPIC: &str = "cgroups";
    if !cgroups.unified {
        return [Line::error(
            TOPIC,
            "/sys/fs/cgroup is not the unified hierarchy (cgroup v2)",
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line",
        )];
    }
    let missing: Vec<String> = CONTROLLERS
        .iter()
        .filter(|name| !cgroups.controllers.iter().any(|there| there == *name))
        .map(|name| (*name).to_owned())
        .collect();
    [if missing.is_empty() {
        Line::ok(TOPIC, format!("v2, with {}", cgroups.controllers.join(" ")))
    } else {
        let hint = if missing.iter().any(|name| name == "memory") {
            "boot with cgroup_enable=memory on the kernel's command line, or with a kernel that has them; see /proc/cgroups"
        } else {
            "boot a kernel that has them; see /proc/cgroups"
        };
        Line::warning(TOPIC, format!("v2 without {}: these [limits] do not hold", few(&missing)), hint)
    }]
}

pub(super) fn confinement(confinement: &Confinement) -> Vec<Line> {
    const TOPIC: &str = "confinement";
    let Confinement { apparmor, missing, selinux } = confinement;
    let without = missing.iter().map(|(why, containers)| {
        Line::error(TOPIC, format!("{} can't start: {why}", few(containers)), why.hint())
    });
    let mut lines: Vec<Line> = without.collect();
    lines.push(match selinux {
        Some(true) => Line::note(
            TOPIC,
            "SELinux enforces; Wharf has no policy of its own and labels no files",
            "where a container fails without a reason: ausearch -m avc -ts recent",
        ),
        Some(false) => Line::ok(TOPIC, "SELinux is permissive"),
        None => profile(TOPIC, apparmor),
    });
    lines
}

/// Wharf's own, which comes on top of all else: without it containers run as well.
fn profile(topic: &'static str, profiles: &Profiles) -> Line {
    let load =
        format!("apparmor_parser -r /etc/apparmor.d/{PROFILE}; containers have it from their next start");
    match profiles {
        Profiles::Off => Line::ok(topic, "neither AppArmor nor SELinux is on"),
        Profiles::Hidden => {
            Line::ok(topic, "AppArmor is on; which profiles are loaded can't be seen from here")
        }
        Profiles::Loaded(loaded) => match loaded.get(PROFILE).map(String::as_str) {
            Some("enforce") => Line::ok(topic, format!("AppArmor is on, with the profile {PROFILE}")),
            Some(mode) => Line::note(
                topic,
                format!("AppArmor is on, and the profile {PROFILE} keeps nobody from anything (mode {mode})"),
                load,
            ),
            None => Line::note(
                topic,
                format!(
                    "AppArmor is on, and containers run without the profile {PROFILE}, which is not loaded"
                ),
                load,
            ),
        },
    }
}

/// 2001-09-09: what hasn't been set says earlier times.
const EVER_SET: i64 = 1_000_000_000;
/// Two clocks that were both right may differ by this much, in seconds.
const LEEWAY: i64 = 24 * 3600;

pub(super) fn clock(clock: &Clock) -> [Line; 1] {
    const TOPIC: &str = "clock";
    let Clock { now, passed, synchronised } = *clock;
    let said = jiff::Timestamp::from_second(now).map_or_else(|_| now.to_string(), |time| time.to_string());
    let hint = "have it set: systemctl enable --now systemd-timesyncd (or chronyd), then see timedatectl";
    if now < EVER_SET || now + LEEWAY < passed {
        return [Line::error(
            TOPIC,
            format!("it says {said}, which is past: certificates and signatures will not be good yet"),
            hint,
        )];
    }
    [match synchronised {
        Some(true) => Line::ok(TOPIC, format!("{said}, and kept right")),
        Some(false) => Line::note(TOPIC, format!("{said}, and nothing keeps it right"), hint),
        None => Line::ok(TOPIC, said),
    }]
}

/// Less than this stops starts and imports at once.
const NOTHING: u64 = 16 << 20;
/// Less than this is little, but for small ones.
const LITTLE: u64 = 1 << 30;
/// Less than a twentieth is little, where it isn't as much as this: of a large disk it is a lot.
const PLENTY: u64 = 20 << 30;

pub(super) fn disk(disk: &Disk) -> [Line; 1] {
    const TOPIC: &str = "disk";
    let Disk { what, path, mount, kind, size: whole, free, inodes, free_inodes, read_only } = disk;
    let room = format!("{} of {} free", size(*free), size(*whole));
    let said = format!("{path} ({what}, {kind}): {room}");
    let hint = match *what {
        "running containers" => "see what fills it: du -xsh /run/* | sort -h",
        "volumes" => {
            "see what fills it: wharf volume list --size; wharf volume prune lists what nothing names"
        }
        _ => {
            "wharf image prune takes away what nothing needs; see what else fills it: du -xh /var | sort -h | tail"
        }
    };
    if *read_only {
        let hint = format!("see why (dmesg), and mount it again: mount -o remount,rw {mount}");
        return [Line::error(TOPIC, format!("{path} ({what}, {kind}) can't be written to"), hint)];
    }
    let few_inodes = *inodes > 0 && *free_inodes < inodes / 20;
    // /run is small by nature.
    let little = (*free < PLENTY.min(whole / 20)) || (*free < LITTLE && *whole > 4 * LITTLE);
    [if *free < NOTHING.min(whole / 20) {
        Line::error(TOPIC, format!("{said}; it is full"), hint)
    } else if *inodes > 0 && *free_inodes < 64 {
        Line::error(TOPIC, format!("{path} ({what}, {kind}): no inodes are left of {inodes}"), hint)
    } else if few_inodes {
        Line::warning(
            TOPIC,
            format!("{path} ({what}, {kind}): {free_inodes} of {inodes} inodes are left"),
            hint,
        )
    } else if little {
        Line::warning(TOPIC, said, hint)
    } else {
        Line::ok(TOPIC, said)
    }]
}

/// A tenth of a minute, in hundredths of a per cent.
const STALLED: u32 = 1000;
/// Less than a twentieth is little memory, where it isn't as much as this.
const ROOMY: u64 = 4 << 30;

pub(super) fn memory(memory: &Memory) -> [Line; 1] {
    const TOPIC: &str = "memory";
    let Memory { total, available, stalled } = *memory;
    let said = format!("{} of {} available", size(available), size(total));
    let hint = "see who has it: systemd-cgtop -m; what containers write to their roots is memory, too ([limits] memory)";
    [match stalled {
        Some(stalled) if stalled >= STALLED => {
            let share = stalled / 100;
            Line::warning(TOPIC, format!("{said}; in the last minute all waited for it for {share} %"), hint)
        }
        _ if available < ROOMY.min(total / 20) => Line::warning(TOPIC, said, hint),
        _ => Line::ok(TOPIC, said),
    }]
}
