//! What was started, for as long as it runs.
//!
//! ```text
//! /run/wharf/
//!     running/NAME.json     a container as it was started, mode 0600; removed after its end
//!     names/NAME/           hosts, hostname, resolv.conf: mounted in the container, see `names`
//!     network.lock          held (flock) while records, names or the firewall's elements change
//! ```
//!
//! Records are the truth about the network: the elements in the firewall's table are those of all records,
//! whoever flushes it. They are the truth about what has lost its file, too: the generator makes its unit of its record.
//! Another version of Wharf may have written one, with keys that this one doesn't know; what runs isn't to suffer by
//! that, so they are passed over. A record is written before its elements are there and removed after they are gone, by
//! rename, so that it is whole or not there. Nothing is synced: all of it ends with the host's boot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::check::Container;
use crate::host::Paths;
use crate::net::Attachment;
use crate::spec::ContainerName;

/// A container as it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// As checked; an instance has its template's, with its own name in it.
    pub container: Container,
    /// The container file.
    pub source: PathBuf,
    /// The digest of the image's manifest or, where it came without one, its config; nothing for a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The digests of what `restart-on-change` lists, as they were then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<PathBuf, String>,
    /// Why its last good plan runs, and not what its files say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// The first of its ids on the host; nothing without a user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<u32>,
    /// How it is connected; nothing without a network of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
}

/// Keeps others from changing records, names and elements, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Waits for its turn.
///
/// # Errors
/// The folder can't be made, or the file not locked.
pub fn lock(paths: &Paths) -> io::Result<Lock> {
    let folder = paths.runtime();
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(folder.join("network.lock"))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(Lock { _file: file })
}

/// Keeps a record, in place of an older one.
///
/// # Errors
/// It can't be written.
pub fn keep(paths: &Paths, running: &Running) -> io::Result<()> {
    let folder = paths.running();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = path(paths, &running.container.name);
    replace(&path, &serde_json::to_vec(running)?, 0o600)
}

/// The record of a container; nothing where it doesn't run.
///
/// # Errors
/// It can't be read, or is none.
pub fn find(paths: &Paths, name: &ContainerName) -> io::Result<Option<Running>> {
    read(&path(paths, name))
}

/// Of which containers there are records, by name.
///
/// # Errors
/// The folder can't be listed.
pub fn names(paths: &Paths) -> io::Result<BTreeSet<ContainerName>> {
    let entries = match fs::read_dir(paths.running()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    // What is about to be put into place begins with a dot, as no container's name does.
    let name = |entry: fs::DirEntry| -> Option<ContainerName> {
        entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok()
    };
    entries.filter_map(|entry| entry.map(name).transpose()).collect()
}

/// Every record, by name. One that can't be read is passed over: it is then as if its container had ended.
///
/// # Errors
/// The folder can't be listed.
pub fn all(paths: &Paths) -> io::Result<Vec<Running>> {
    Ok(names(paths)?.iter().filter_map(|name| find(paths, name).ok().flatten()).collect())
}

/// How a container is connected that runs, also where the rest of its record can't be read; nothing where it isn't, or
/// doesn't run.
///
/// # Errors
/// That can't be read.
pub fn attachment(paths: &Paths, name: &ContainerName) -> io::Result<Option<Attachment>> {
    #[derive(Deserialize)]
    struct Connected {
        #[serde(default)]
        attachment: Option<Attachment>,
    }
    Ok(read::<Connected>(&path(paths, name))?.and_then(|record| record.attachment))
}

/// Removes what is kept of a container that has ended.
///
/// # Errors
/// It can't be removed.
pub fn forget(paths: &Paths, name: &ContainerName) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(fs::remove_dir_all(paths.names(name.as_str())))?;
    gone(fs::remove_file(path(paths, name)))
}

fn path(paths: &Paths, name: &ContainerName) -> PathBuf {
    paths.running().join(format!("{name}.json"))
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a file in the place of another at once.
pub(crate) fn replace(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let aside = folder.join(format!(".{}", name.to_string_lossy()));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&aside)?;
    file.write_all(text)?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = include_str!("../tests/accept/gone/run/wharf/running/db.json");

    #[test]
    fn records_of_another_version() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        fs::create_dir_all(paths.running()).expect("made");
        let name: ContainerName = "db".parse().expect("a name");
        let attached = r#""attachment":{"interface":"wharf-0001","gateway":{"v4":"10.0.0.1","v6":null},
            "addresses":{"v4":"10.0.0.2","v6":null},"links":[],"host":false,"ports":[],"later":1},"container":"#;
        let text = RECORD.replacen(r#""container":"#, attached, 1);
        let put = |text: &str| fs::write(path(&paths, &name), text).expect("written");
        // With keys that aren't known, on top and within.
        put(&text);
        assert!(text.matches("of-a-later-version").count() == 3 && text.contains("later\":1"));
        let record = find(&paths, &name).expect("read").expect("there");
        assert_eq!(record.container.limits.memory.as_deref(), Some("2G"));
        let attachment = record.attachment.clone().expect("connected");
        assert_eq!(all(&paths).expect("read"), [record]);
        // With what it can't make sense of.
        put(&text.replace(r#""restart":"always""#, r#""restart":"at full moon""#));
        assert!(find(&paths, &name).is_err() && all(&paths).expect("read").is_empty());
        assert_eq!(super::attachment(&paths, &name).expect("read"), Some(attachment));
        assert_eq!(names(&paths).expect("listed"), BTreeSet::from([name.clone()]));
        put(&text.replace(r#""interface":"wharf-0001""#, r#""interface":1"#));
        assert!(super::attachment(&paths, &name).is_err());
        put("{}");
        assert_eq!(super::attachment(&paths, &name).expect("read"), None);
    }
}
