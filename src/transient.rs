//! What `wharf run` has started: containers that no file declares, for as long as they run.
//!
//! ```text
//! /run/wharf/transient/
//!     lock              held (flock) by who makes one, from the look whether its name is free until systemd has
//!                       its unit
//!     NAME/             the unit's RuntimeDirectory=, mode 0700: systemd removes it after the unit's end
//!         NAME.toml     the container file that would do the same
//!         NAME.json     its plan
//!         line          a socket at which `wharf run` waits for the executor; removed when that has come
//!         leased        the kinds of leases that are not given back, as the name had them before; all, if it is empty
//!         restarts.json its last start, for the delay before the next
//! ```
//!
//! The folder is there, whole, before systemd hears of the unit. Whoever finds one without a unit may replace it: who
//! made it has died on the way. Nothing is synced: all of it ends with the host's boot.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::check::{Container, MountKind};
use crate::host::Paths;
use crate::lease;
use crate::spec::ContainerName;

/// What the unit's `RuntimeDirectory=` is below /run, without the container's name.
pub const BELOW_RUN: &str = "wharf/transient";

/// The socket's name.
const LINE: &str = "line";
/// The mark that there were leases, with the word of each kind.
const LEASED: &str = "leased";

/// Keeps others from making one, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Waits for its turn.
///
/// # Errors
/// The folder can't be made, or the file not locked.
pub fn lock(paths: &Paths) -> io::Result<Lock> {
    let folder = paths.transient();
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(folder.join("lock"))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(Lock { _file: file })
}

/// The folder of one.
pub fn folder(paths: &Paths, name: &ContainerName) -> PathBuf {
    paths.transient().join(name.as_str())
}

/// Its container file.
pub fn file(paths: &Paths, name: &ContainerName) -> PathBuf {
    folder(paths, name).join(format!("{name}.toml"))
}

/// Its plan.
pub fn plan(paths: &Paths, name: &ContainerName) -> PathBuf {
    folder(paths, name).join(format!("{name}.json"))
}

/// The names of all that there are; for who may read that.
pub fn names(paths: &Paths) -> Vec<ContainerName> {
    let entries = fs::read_dir(paths.transient()).into_iter().flatten().flatten();
    let mut names: Vec<ContainerName> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    names.sort();
    names
}

/// Lays down what the executor reads, in place of what somebody may have left.
///
/// # Errors
/// It can't be written; nothing of it is left then.
pub fn keep(paths: &Paths, container: &Container, toml: &str, plan_text: &str) -> io::Result<()> {
    let name = &container.name;
    forget(paths, name)?;
    let put = |path: &Path, text: &str| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    let write = || {
        fs::DirBuilder::new().mode(0o700).create(folder(paths, name))?;
        put(&file(paths, name), toml)?;
        let stay = |kind: &lease::Kind| {
            kind.is_known(&paths.state(), name) || *kind == lease::Kind::Ids && writes_its_ids(container)
        };
        let kept: Vec<&str> = lease::Kind::ALL.into_iter().filter(stay).map(lease::Kind::word).collect();
        if !kept.is_empty() {
            put(&folder(paths, name).join(LEASED), &kept.join("\n"))?;
        }
        put(&plan(paths, name), plan_text)
    };
    write().inspect_err(|_| drop(forget(paths, name)))
}

/// Whether it leaves files behind that belong to ids of its own range, which nobody else must get then.
fn writes_its_ids(container: &Container) -> bool {
    container.user_namespace
        && container.mounts.iter().any(|mount| match &mount.kind {
            MountKind::Bind(bind) => !bind.idmap && !bind.read_only,
            MountKind::Volume(_) | MountKind::Tmpfs(_) => false,
        })
}

/// Removes all of it.
///
/// # Errors
/// It can't be removed.
pub fn forget(paths: &Paths, name: &ContainerName) -> io::Result<()> {
    match fs::remove_dir_all(folder(paths, name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The folder of the transient container whose unit this process belongs to, by what systemd says of its
/// `RuntimeDirectory=` (systemd.exec(5)); nothing in the unit of a declared one, also where somebody has left a folder.
pub fn of_this_unit(paths: &Paths, name: &ContainerName) -> Option<PathBuf> {
    among(&env::var_os("RUNTIME_DIRECTORY")?, &folder(paths, name))
}

fn among(directories: &OsStr, folder: &Path) -> Option<PathBuf> {
    // Several are separated by colons, which no name has.
    let found = directories.to_str()?.split(':').any(|directory| Path::new(directory) == folder);
    found.then(|| folder.to_owned())
}

/// The socket, by a path that is short enough for one (`sun_path`, unix(7)) as long as `folder` is open.
pub fn line_in(folder: &impl std::os::fd::AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{LINE}", folder.as_raw_fd()))
}

/// Gives its leases back, after its end, but for those that are older than it.
///
/// # Errors
/// They can't be removed.
pub fn give_back_leases(paths: &Paths, name: &ContainerName, folder: &Path) -> Result<(), lease::LeaseError> {
    let kept = match fs::read_to_string(folder.join(LEASED)) {
        // Of a version that didn't tell them apart.
        Ok(kept) if kept.is_empty() => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Ok(()),
        kept => kept.unwrap_or_default(),
    };
    let mut own = lease::Kind::ALL.to_vec();
    own.retain(|kind| !kept.lines().any(|word| word == kind.word()));
    lease::release(&paths.state(), name, &own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_unit_this_is() {
        let folder = Path::new("/run/wharf/transient/web");
        for (directories, found) in [
            ("/run/wharf/transient/web", true),
            ("/run/other:/run/wharf/transient/web", true),
            ("/run/wharf/transient/webs", false),
            ("", false),
        ] {
            assert_eq!(among(OsStr::new(directories), folder).is_some(), found, "{directories}");
        }
    }

    #[test]
    fn what_is_kept_and_forgotten() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let files = crate::plan::Files {
            name: "web".parse().expect("a name"),
            main: crate::report::Source::new("web.toml", "image = \"x\"\n"),
            drop_ins: vec![],
            findings: vec![],
        };
        let container = crate::plan::check(&files).container.expect("a container");
        let name = container.name.clone();
        let _lock = lock(&paths).expect("locked");
        assert_eq!(names(&paths), []);
        for _ in 0..2 {
            keep(&paths, &container, "toml", "plan").expect("kept");
        }
        assert_eq!(names(&paths), std::slice::from_ref(&name));
        assert_eq!(fs::read_to_string(plan(&paths, &name)).expect("read"), "plan");
        assert!(!folder(&paths, &name).join(LEASED).exists());
        for kind in ["ids", "addresses"] {
            fs::create_dir_all(paths.state().join("leases").join(kind)).expect("made");
        }
        fs::write(paths.state().join("leases/ids/web"), "1").expect("written");
        keep(&paths, &container, "toml", "plan").expect("kept");
        let known = || lease::Kind::ALL.map(|kind| kind.is_known(&paths.state(), &name));
        // It gets an address, which it gives back alone.
        fs::write(paths.state().join("leases/addresses/web"), "1").expect("written");
        give_back_leases(&paths, &name, &folder(&paths, &name)).expect("given back");
        assert_eq!(known(), [true, false]);
        // Of an older version.
        fs::write(folder(&paths, &name).join(LEASED), "").expect("written");
        give_back_leases(&paths, &name, &folder(&paths, &name)).expect("not given back");
        assert_eq!(known(), [true, false]);
        fs::remove_file(folder(&paths, &name).join(LEASED)).expect("removed");
        give_back_leases(&paths, &name, &folder(&paths, &name)).expect("given back");
        assert_eq!(known(), [false, false]);
        forget(&paths, &name).expect("forgotten");
        assert_eq!(names(&paths), []);
    }
}
