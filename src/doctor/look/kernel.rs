//! The kernel's abilities, by what it says of them itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::text;
use crate::apparmor::Profiles;
use crate::check::AppArmor;
use crate::doctor::facts::{Cgroups, Confinement, Kernel, Look};
use crate::host::Paths;

/// Those that a container gets, as /proc/self/ns names them.
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// Settings of distributions by which only root may make user namespaces: name, and the value that forbids it.
const RESTRICTIONS: [(&str, &str); 2] =
    [("kernel/unprivileged_userns_clone", "0"), ("kernel/apparmor_restrict_unprivileged_userns", "1")];

pub(super) fn kernel() -> Look<Kernel> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let missing = NAMESPACES.iter().filter(|name| !Path::new("/proc/self/ns").join(name).exists());
    let limit = |name: &&str| {
        let name = format!("max_{name}_namespaces");
        let value = text(Path::new("/proc/sys/user").join(&name))?.parse().ok()?;
        Some((format!("user.{name}"), value))
    };
    let restricted = RESTRICTIONS
        .iter()
        .filter(|(name, forbids)| {
            text(Path::new("/proc/sys").join(name)).is_some_and(|value| value == *forbids)
        })
        .map(|(name, forbids)| format!("{}={forbids}", name.replace('/', ".")));
    Look::Seen(Kernel {
        missing_namespaces: missing.map(|name| (*name).to_owned()).collect(),
        namespace_limits: NAMESPACES.iter().filter_map(limit).collect(),
        restricted: restricted.collect(),
        seccomp: text("/proc/sys/kernel/seccomp/actions_avail")
            .map(|actions| actions.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        overlayfs: has_overlayfs(&release),
        release,
    })
}

/// A module is only in /proc/filesystems once somebody has used it.
fn has_overlayfs(release: &str) -> bool {
    let loaded = text("/proc/filesystems")
        .is_some_and(|list| list.lines().any(|line| line.split_whitespace().last() == Some("overlay")));
    let modules = Path::new("/lib/modules").join(release);
    loaded
        || ["modules.dep", "modules.builtin"]
            .iter()
            .any(|list| text(modules.join(list)).is_some_and(|list| list.contains("/overlayfs/overlay.ko")))
}

pub(super) fn cgroups() -> Look<Cgroups> {
    /// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
    const MAGIC: i64 = 0x6367_7270;
    const ROOT: &str = "/sys/fs/cgroup";
    let unified = rustix::fs::statfs(ROOT).is_ok_and(|stat| stat.f_type == MAGIC);
    let controllers = text(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    Look::Seen(Cgroups { unified, controllers: controllers.split_whitespace().map(str::to_owned).collect() })
}

pub(super) fn confinement(paths: &Paths, asked: &[(AppArmor, String)]) -> Look<Confinement> {
    let apparmor = Profiles::read(paths);
    let mut missing = BTreeMap::<_, Vec<String>>::new();
    for (profile, container) in asked {
        if let Err(why) = apparmor.choose(profile) {
            missing.entry(why).or_default().push(container.clone());
        }
    }
    Look::Seen(Confinement {
        apparmor,
        missing,
        selinux: text("/sys/fs/selinux/enforce").map(|enforces| enforces == "1"),
    })
}
