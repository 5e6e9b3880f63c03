//! systemd's surroundings, the clock, disks and memory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{found, text};
use crate::doctor::facts::{Clock, Disk, Generator, Installed, Journal, Look, Memory, Resolver, Systemd};
use crate::host::{HostFacts, Paths};
use crate::names;
use crate::sys::mounts;

pub(super) fn systemd(paths: &Paths) -> Look<Systemd> {
    Look::Seen(Systemd {
        // As sd_booted(3) has it.
        is_process_1: paths.host("/run/systemd/system").is_dir(),
        instead: text("/proc/1/comm").unwrap_or_else(|| "unknown".to_owned()),
        version: HostFacts::read(paths).systemd,
        silent: None,
        machined: has_unit(paths, "systemd-machined.service"),
    })
}

fn has_unit(paths: &Paths, name: &str) -> bool {
    ["/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"]
        .iter()
        .any(|folder| paths.host(folder).join(name).exists())
}

/// What packages put into /usr/lib/systemd/system.
pub const STATIC_UNITS: [&str; 14] = [
    "wharf-metrics.service",
    "wharf-metrics.timer",
    "wharf-network-changed.service",
    "wharf-network-tell.service",
    "wharf-network.path",
    "wharf-network.service",
    "wharf-network.socket",
    "wharf-network@.path",
    "wharf-prune.service",
    "wharf-prune.timer",
    "wharf-update.service",
    "wharf-update.timer",
    "wharf.slice",
    // Not a unit, and as needed: it makes the folders.
    "../../tmpfiles.d/wharf.conf",
];

/// Where systemd looks for generators (systemd.generator(7)), the first by name counts.
const GENERATORS: [&str; 4] = [
    "/run/systemd/system-generators",
    "/etc/systemd/system-generators",
    "/usr/local/lib/systemd/system-generators",
    "/usr/lib/systemd/system-generators",
];

pub(super) fn installed(paths: &Paths) -> Look<Installed> {
    let runs = |path: &Path| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0 && found.mode() & 0o111 != 0)
    };
    let generator = GENERATORS
        .iter()
        .map(|folder| Path::new(folder).join("wharf-generator"))
        .find(|path| paths.host(path).symlink_metadata().is_ok());
    let generator = match generator {
        Some(path) if runs(&paths.host(&path)) => Generator::There(path.display().to_string()),
        Some(path) => Generator::Hidden(path.display().to_string()),
        None => Generator::Missing,
    };
    let folder = paths.host("/usr/lib/systemd/system");
    let missing = STATIC_UNITS.iter().filter(|name| !folder.join(name).exists());
    let is_masked = |name: &&&str| {
        ["/etc/systemd/system", "/run/systemd/system"].iter().any(|folder| {
            let path = paths.host(folder).join(name);
            fs::read_link(&path).is_ok_and(|target| target == Path::new("/dev/null"))
                || fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == 0)
        })
    };
    let masked = STATIC_UNITS.iter().filter(is_masked);
    let name = |name: &&str| name.rsplit('/').next().unwrap_or(name).to_owned();
    Look::Seen(Installed {
        generator,
        executor: runs(&paths.host("/usr/libexec/wharf/wharf-executor")),
        missing: missing.map(name).collect(),
        masked: masked.map(name).collect(),
    })
}

pub(super) fn resolver(paths: &Paths) -> Look<Resolver> {
    let servers = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
        lines.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect()
    };
    let host = fs::read_to_string(paths.host("/etc/resolv.conf")).unwrap_or_default();
    found(names::host_resolver(paths, true).map(|text| Resolver {
        servers: servers(&text),
        // Its stub, and the one that leaves names as they are (systemd-resolved.service(8)).
        asks_resolved:
            servers(&host).iter().any(|server| ["127.0.0.53", "127.0.0.54"].contains(&server.as_str())),
    }))
}

pub(super) fn journal(paths: &Paths) -> Look<Journal> {
    // Each host has a folder under its own id there; without one nothing is written, whatever else is.
    let id = text(paths.host("/etc/machine-id")).unwrap_or_default();
    let folder = paths.host("/var/log/journal").join(&id);
    // While it writes to memory it has this one open; on its way to the disk it takes it away (systemd-journald.service(8),
    // `--flush`). A folder in /var may be from before Storage=volatile.
    let volatile = paths.host("/run/log/journal").join(&id).join("system.journal");
    Look::Seen(Journal {
        listens: paths.host("/run/systemd/journal/socket").exists(),
        persistent: !id.is_empty() && folder.is_dir() && !volatile.exists(),
    })
}

pub(super) fn clock() -> Look<Clock> {
    let seconds = |time: &fs::Metadata| time.ctime();
    // The time of change of a file's inode can't be set to another than that of the clock.
    let passed = std::env::current_exe().and_then(fs::metadata).map_or(0, |program| seconds(&program));
    Look::Seen(Clock {
        now: jiff::Timestamp::now().as_second(),
        passed,
        synchronised: crate::sys::clock::is_synchronised().ok(),
    })
}

pub(super) fn disk(what: &'static str, path: &Path) -> Look<Disk> {
    let look = || -> io::Result<Disk> {
        let there: PathBuf = path.ancestors().find(|path| path.exists()).unwrap_or(path).canonicalize()?;
        let stat = rustix::fs::statvfs(&there)?;
        let mounts = mounts::own().unwrap_or_default();
        let (mount, kind) = super::trial::mount_of(&mounts, &there).unwrap_or_default();
        Ok(Disk {
            what,
            path: path.display().to_string(),
            mount: mount.display().to_string(),
            kind,
            size: stat.f_blocks * stat.f_frsize,
            free: stat.f_bfree * stat.f_frsize,
            inodes: stat.f_files,
            free_inodes: stat.f_ffree,
            read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    };
    found(look())
}

/// Volumes, where they are on a disk of their own.
pub(super) fn volumes(paths: &Paths) -> Look<Disk> {
    let (state, volumes) = (paths.state(), paths.state().join("volumes"));
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    match (device(&state), device(&volumes)) {
        (Ok(one), Ok(other)) if one != other => disk("volumes", &volumes),
        _ => Look::Unasked,
    }
}

pub(super) fn memory() -> Look<Memory> {
    let text_of = |path| text(path).unwrap_or_default();
    let info = text_of("/proc/meminfo");
    let bytes = |key: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map(|kib| kib * 1024)
    };
    let (Some(total), Some(available)) = (bytes("MemTotal"), bytes("MemAvailable")) else {
        return Look::Failed("/proc/meminfo says nothing of MemTotal and MemAvailable".to_owned());
    };
    Look::Seen(Memory { total, available, stalled: stalled(&text_of("/proc/pressure/memory")) })
}

/// `full avg60=1.23` as 123.
fn stalled(pressure: &str) -> Option<u32> {
    let full = pressure.lines().find(|line| line.starts_with("full "))?;
    let value = full.split_whitespace().find_map(|word| word.strip_prefix("avg60="))?;
    let (whole, part) = value.split_once('.')?;
    Some(whole.parse::<u32>().ok()? * 100 + part.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_static_unit_is_looked_for() {
        let units = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/units")).expect("units");
        let names = units.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != "wharf.tmpfiles").collect();
        names.sort();
        assert_eq!(names, STATIC_UNITS[..STATIC_UNITS.len() - 1]);
    }

    #[test]
    fn pressure() {
        let text =
            "some avg10=0.00 avg60=9.99 avg300=0.00 total=1\nfull avg10=0.00 avg60=1.23 avg300=0.00 total=1";
        assert_eq!(stalled(text), Some(123));
        assert_eq!(stalled(""), None);
    }

    #[test]
    fn what_is_installed() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let look = || installed(&paths).seen().cloned().expect("seen");
        assert_eq!(
            (look().generator, look().executor, look().missing.len()),
            (Generator::Missing, false, STATIC_UNITS.len())
        );
        let put = |path: &str, text: &str| {
            let path = paths.host(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        };
        put("/usr/lib/systemd/system-generators/wharf-generator", "x");
        put("/usr/libexec/wharf/wharf-executor", "x");
        for name in STATIC_UNITS {
            put(&format!("/usr/lib/systemd/system/{}", name.trim_start_matches("../")), "x");
        }
        put("/usr/lib/tmpfiles.d/wharf.conf", "x");
        let path = "/usr/lib/systemd/system-generators/wharf-generator".to_owned();
        assert_eq!(
            look(),
            Installed { generator: Generator::There(path), executor: true, ..Installed::default() }
        );
        fs::create_dir_all(paths.host("/etc/systemd/system-generators")).expect("made");
        fs::create_dir_all(paths.host("/etc/systemd/system")).expect("made");
        let link = |path: &str| std::os::unix::fs::symlink("/dev/null", paths.host(path)).expect("linked");
        link("/etc/systemd/system-generators/wharf-generator");
        link("/etc/systemd/system/wharf-network.socket");
        let hidden = Generator::Hidden("/etc/systemd/system-generators/wharf-generator".to_owned());
        assert_eq!((look().generator, look().masked), (hidden, vec!["wharf-network.socket".to_owned()]));
    }
}
