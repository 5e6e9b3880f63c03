//! What `restart-on-change` lists: files and folders of the host, told apart by digests of what is in them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::check::Container;
use crate::host::Paths;
use crate::image::Digest;

/// More than this of one file isn't read: it is configuration that is meant.
const FILE_MAX: u64 = 16 << 20;

/// More entries of one folder than this aren't looked at.
const ENTRIES_MAX: usize = 10_000;

/// What each of them is now, by its path as the file has it. What isn't there has a word for that, as has what can't be
/// read: neither keeps a container from starting.
pub fn digests(paths: &Paths, container: &Container) -> BTreeMap<PathBuf, String> {
    let of = |path: &PathBuf| (path.clone(), digest(&paths.host(path)));
    container.restart_on_change.iter().map(of).collect()
}

/// How the word for what can't be read begins; the reason follows.
const UNREADABLE: &str = "unreadable: ";

/// Those of which no later change is noticed, each with the reason.
pub fn unseen(digests: &BTreeMap<PathBuf, String>) -> impl Iterator<Item = (&Path, &str)> {
    digests.iter().filter_map(|(path, digest)| Some((path.as_path(), digest.strip_prefix(UNREADABLE)?)))
}

fn digest(path: &Path) -> String {
    let mut entries = Vec::new();
    match gather(path, &mut Vec::new(), &mut entries) {
        Ok(()) => {
            entries.sort();
            Digest::of(entries.join("\n").as_bytes()).to_string()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => "missing".to_owned(),
        Err(error) => format!("{UNREADABLE}{error}"),
    }
}

/// A line for the file, or for everything in the folder. `above` are the folders that it is in, by device and inode: a
/// link to one of them leads to nothing new.
fn gather(path: &Path, above: &mut Vec<(u64, u64)>, entries: &mut Vec<String>) -> io::Result<()> {
    if entries.len() >= ENTRIES_MAX {
        return Err(io::Error::other(format!("more than {ENTRIES_MAX} files")));
    }
    let metadata = fs::metadata(path)?;
    let line = |what: &str| format!("{what} {:?}", path.as_os_str());
    if metadata.is_dir() {
        let itself = (metadata.dev(), metadata.ino());
        if above.contains(&itself) {
            entries.push(line("above"));
            return Ok(());
        }
        entries.push(line("folder"));
        above.push(itself);
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            match gather(&path, above, entries) {
                // A link to nothing, or removed since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    entries.push(format!("missing {:?}", path.as_os_str()));
                }
                other => other?,
            }
        }
        above.pop();
    } else if metadata.is_file() {
        let file: File = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let mut bytes = Vec::new();
        file.take(FILE_MAX).read_to_end(&mut bytes)?;
        entries.push(line(&format!("{} {}", metadata.len(), Digest::of(&bytes))));
    } else {
        entries.push(line("special"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_them_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        assert_eq!(digest(&at("none")), "missing");
        fs::create_dir_all(at("conf.d")).expect("made");
        fs::write(at("conf.d/a"), "1").expect("written");
        let (file, folder) = (digest(&at("conf.d/a")), digest(&at("conf.d")));
        assert_eq!(digest(&at("conf.d")), folder);
        fs::write(at("conf.d/a"), "2").expect("written");
        assert_ne!(digest(&at("conf.d/a")), file);
        assert_ne!(digest(&at("conf.d")), folder);
        fs::write(at("conf.d/a"), "1").expect("written");
        assert_eq!(digest(&at("conf.d")), folder, "the time of a file doesn't count");
        fs::write(at("conf.d/b"), "").expect("written");
        assert_ne!(digest(&at("conf.d")), folder);
        // A link to what it is in.
        std::os::unix::fs::symlink("..", at("conf.d/above")).expect("linked");
        let linked = digest(&at("conf.d"));
        fs::write(at("conf.d/b"), "3").expect("written");
        assert_ne!(digest(&at("conf.d")), linked);
    }

    #[test]
    fn what_is_too_much_is_said() {
        let root = tempfile::tempdir().expect("a folder");
        for number in 0..ENTRIES_MAX {
            File::create(root.path().join(number.to_string())).expect("made");
        }
        let all = [root.path().to_owned(), root.path().join("0"), root.path().join("none")];
        let digests = all.into_iter().map(|path| (path.clone(), digest(&path))).collect();
        let unseen: Vec<_> = unseen(&digests).collect();
        assert_eq!(unseen, [(root.path(), "more than 10000 files")]);
    }
}
