//! Where things live on a host.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Every path of Wharf's, below one root: `/`, or another for tests, image builders and `wharf check` on a
/// laptop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    /// Files elsewhere that are read in the place of those of the search path, by that place.
    stand_ins: BTreeMap<PathBuf, PathBuf>,
}

impl Paths {
    /// Everything below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), stand_ins: BTreeMap::new() }
    }

    /// Everything below a root that somebody named: `//` and a link to `/` are this host, and are dealt with
    /// as such.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        match std::fs::canonicalize(&root) {
            Ok(real) if real == Path::new("/") => Self::new("/"),
            _ => Self::new(root),
        }
    }

    /// What `WHARF_ROOT` says; `/` where it says nothing.
    pub fn from_environment() -> Self {
        match std::env::var_os("WHARF_ROOT").filter(|root| !root.is_empty()) {
            Some(root) => Self::below(root),
            None => Self::new("/"),
        }
    }

    /// Whether these are this host's own, which its systemd knows.
    pub fn are_this_hosts(&self) -> bool {
        self.root == Path::new("/")
    }

    /// An absolute path of the host, below the root.
    pub fn host(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The same, but that a file elsewhere is read where `place` of the search path is meant, whether there is a
    /// file in that place or not.
    #[must_use]
    pub fn with_stand_in(mut self, place: PathBuf, file: PathBuf) -> Self {
        self.stand_ins.insert(place, file);
        self
    }

    /// What is read for a file of the search path: itself, or what stands in for it.
    pub fn read_for(&self, place: &Path) -> PathBuf {
        self.stand_ins.get(place).map_or_else(|| place.to_owned(), Clone::clone)
    }

    /// Whether anything stands in for what is there.
    pub fn have_stand_ins(&self) -> bool {
        !self.stand_ins.is_empty()
    }

    /// Whether a file of the search path, or a folder, is there, if only by what stands in.
    pub fn is_there(&self, place: &Path) -> bool {
        self.stand_ins.keys().any(|stand_in| stand_in.starts_with(place)) || place.exists()
    }

    /// What a folder has by stand-ins: their places in it, and folders of it that have some.
    pub fn stand_ins_in(&self, folder: &Path) -> BTreeSet<OsString> {
        let first = |place: &PathBuf| Some(place.strip_prefix(folder).ok()?.iter().next()?.to_owned());
        self.stand_ins.keys().filter_map(first).collect()
    }

    /// The path as people know it: what [`Paths::host`] was given.
    pub fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).map_or_else(|_| path.to_owned(), |path| Path::new("/").join(path))
    }

    /// The search path for container files and the rest, first wins by file name.
    pub fn search(&self) -> [PathBuf; 3] {
        ["/etc/wharf", "/run/wharf", "/usr/lib/wharf"].map(|path| self.host(path))
    }

    /// Images, volumes and leases: what is kept.
    pub fn state(&self) -> PathBuf {
        self.host("/var/lib/wharf")
    }

    /// What lasts until the next boot.
    pub fn runtime(&self) -> PathBuf {
        self.host("/run/wharf")
    }

    /// The plans of containers that started since boot, for when their file goes bad: `NAME.json`.
    pub fn last_good(&self) -> PathBuf {
        self.runtime().join("last-good")
    }

    /// What was started: `NAME.json` (see `running`).
    pub fn running(&self) -> PathBuf {
        self.runtime().join("running")
    }

    /// What `wharf run` has started: `NAME/` (see `transient`).
    pub fn transient(&self) -> PathBuf {
        self.runtime().join("transient")
    }

    /// The files by which a running container learns names (see `names`).
    pub fn names(&self, container: &str) -> PathBuf {
        self.runtime().join("names").join(container)
    }

    /// Where `wharf-network.socket` is told that files have changed: running containers' names and links then
    /// follow them.
    pub fn changed(&self) -> PathBuf {
        self.runtime().join("changed")
    }

    /// Tells it. Where nobody listens, as early in the boot, nothing runs that could follow.
    pub fn tell_changed(&self) {
        if let Ok(socket) = UnixDatagram::unbound()
            && socket.set_nonblocking(true).is_ok()
        {
            let _ = socket.send_to(b"changed", self.changed());
        }
    }

    /// The generator's findings, whole.
    pub fn findings(&self) -> PathBuf {
        self.runtime().join("findings.json")
    }

    /// Where systemd puts what generators make; plans are in `wharf/` there.
    pub fn generated(&self) -> PathBuf {
        self.host("/run/systemd/generator")
    }

    /// The plans that the generator leaves: `NAME.json`.
    pub fn plans(&self) -> PathBuf {
        self.generated().join("wharf")
    }

    /// The plan of a container, as the generator leaves it.
    pub fn plan(&self, name: &str) -> PathBuf {
        self.plans().join(format!("{name}.json"))
    }
}

impl Paths {
    /// What the generator leaves for images: `NAME.json`, or `NAME.findings`.
    pub fn image_plans(&self) -> PathBuf {
        self.plans().join("images")
    }
}

/// What the generator has to know about the host, read once and without running anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// systemd's version; nothing where it can't be told, and then only old settings are used.
    pub systemd: Option<u32>,
}

impl HostFacts {
    /// Reads them below a root.
    ///
    /// A generator can't ask systemd, which waits for it. The library that systemd's programs share has the
    /// version in its name (`libsystemd-shared-252.so`, `-257.4-1.fc42.so`), so one listing of a small folder
    /// tells.
    pub fn read(paths: &Paths) -> Self {
        // Debian's multiarch folders first: they hold two files, /usr/lib/systemd a hundred.
        const FOLDERS: [&str; 5] = [
            "/usr/lib/x86_64-linux-gnu/systemd",
            "/usr/lib/aarch64-linux-gnu/systemd",
            "/usr/lib64/systemd",
            "/usr/lib/systemd",
            "/lib/systemd",
        ];
        let systemd = FOLDERS.iter().find_map(|folder| {
            let entries = std::fs::read_dir(paths.host(folder)).ok()?;
            // During an upgrade there may be two for a moment; the older one is the safe guess.
            entries.flatten().filter_map(|entry| shared_library_version(entry.file_name().to_str()?)).min()
        });
        Self { systemd }
    }

    /// Whether `Type=notify-reload` and `ReloadSignal=` are there (systemd 253).
    pub fn has_notify_reload(self) -> bool {
        self.systemd.is_some_and(|version| version >= 253)
    }

    /// Whether who may speak for a unit can be changed while it starts (`NOTIFYACCESS=`, systemd 254).
    pub fn has_changing_notify_access(self) -> bool {
        self.systemd.is_some_and(|version| version >= 254)
    }

    /// Whether `SurviveFinalKillSignal=` is there, without which nothing lives through a soft reboot (systemd 255).
    pub fn has_survival(self) -> bool {
        self.systemd.is_some_and(|version| version >= 255)
    }

    /// Whether `DeferReactivation=` of timers is there (systemd 257).
    pub fn has_defer_reactivation(self) -> bool {
        self.systemd.is_some_and(|version| version >= 257)
    }
}

fn shared_library_version(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("libsystemd-shared-")?.strip_suffix(".so")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_by_its_other_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("root");
        std::os::unix::fs::symlink("/", &link).expect("linked");
        for root in [Path::new("/"), Path::new("//"), Path::new("/../."), &link] {
            assert_eq!(Paths::below(root), Paths::new("/"), "{}", root.display());
        }
        assert!(Paths::below("//").are_this_hosts());
        assert!(!Paths::below(folder.path()).are_this_hosts());
        assert!(!Paths::below(folder.path().join("none")).are_this_hosts());
    }

    #[test]
    fn versions() {
        for (name, version) in [
            ("libsystemd-shared-252.so", Some(252)),
            ("libsystemd-shared-257.4-1.fc42.so", Some(257)),
            ("libsystemd-core-252.so", None),
            ("libsystemd-shared-.so", None),
        ] {
            assert_eq!(shared_library_version(name), version);
        }
        assert!(!HostFacts { systemd: None }.has_changing_notify_access());
        assert!(HostFacts { systemd: Some(254) }.has_changing_notify_access());
    }
}
