//! A file that others read at any moment: written beside its place, and moved there whole.
//!
//! ```text
//! FOLDER/.NAME.PID~   while it is written; its end isn't one that the textfile collector looks for
//! FOLDER/NAME         mode 0644
//! ```
//!
//! Nothing is synced: after a power cut the next run writes it anew.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Why the file is what it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("{} is no file's name", .0.display())]
    Name(PathBuf),
    #[error(
        "there is no folder {}; node_exporter is told of its own by --collector.textfile.directory (Debian's package \
         prometheus-node-exporter makes /var/lib/prometheus/node-exporter)",
        .0.display()
    )]
    NoFolder(PathBuf),
    #[error("can't write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Puts a text in the place of what is there, at one moment.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let name = path.file_name().ok_or_else(|| FileError::Name(path.to_owned()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside = folder.join(format!(".{}.{}~", name.to_string_lossy(), std::process::id()));
    let write = || -> io::Result<()> {
        // The folder may be somebody else's: what they have put here is neither followed nor taken.
        let _ = fs::remove_file(&aside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&aside)?;
        // Whatever the umask is: who reads it isn't who writes it.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&aside, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&aside);
        match source.kind() {
            io::ErrorKind::NotFound if !folder.exists() => FileError::NoFolder(folder.to_owned()),
            _ => FileError::Write { path: path.to_owned(), source },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_what_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wharf.prom");
        for text in ["first, and longer\n", "second\n"] {
            replace(&path, text).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
        }
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o644);
        let only = || fs::read_dir(folder.path()).expect("listed").count();
        assert_eq!(only(), 1);
        // A folder can't be replaced, and nothing is left behind.
        fs::create_dir(folder.path().join("x.prom")).expect("made");
        let error = replace(&folder.path().join("x.prom"), "x").expect_err("refused");
        assert!(error.to_string().contains("can't write"), "{error}");
        assert_eq!(only(), 2);
        let error = replace(&folder.path().join("none/x.prom"), "x").expect_err("refused");
        assert!(error.to_string().contains("there is no folder"), "{error}");
        assert!(matches!(replace(Path::new("/"), "x"), Err(FileError::Name(_))));
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let victim = folder.path().join("victim");
        fs::write(&victim, "kept").expect("written");
        let aside = folder.path().join(format!(".wharf.prom.{}~", std::process::id()));
        std::os::unix::fs::symlink(&victim, &aside).expect("linked");
        replace(&folder.path().join("wharf.prom"), "new").expect("written");
        assert_eq!(fs::read_to_string(&victim).expect("read"), "kept");
    }
}
