//! The archive of a report: a compressed tar, written once, for its owner's eyes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// The folder in the archive, so that unpacking it makes one folder.
const FOLDER: &str = "wharf-report";

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("{} is there already; name another file, or remove it", .0.display())]
    There(PathBuf),
    #[error("can't write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// `wharf-report-20261122T021617Z.tar.gz`, here.
pub(super) fn default_name() -> PathBuf {
    PathBuf::from(format!("wharf-report-{}.tar.gz", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")))
}

/// Writes it; what is half written is taken away again.
pub(super) fn write(path: &Path, files: Vec<(String, String)>) -> Result<(), ArchiveError> {
    // Never somebody else's file, nor one behind a link that waits in /tmp (open(2), O_EXCL).
    let file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
            |error| match error.kind() {
                io::ErrorKind::AlreadyExists => ArchiveError::There(path.to_owned()),
                _ => ArchiveError::Write(path.to_owned(), error),
            },
        )?;
    fill(file, files).map_err(|error| {
        let _ = fs::remove_file(path);
        ArchiveError::Write(path.to_owned(), error)
    })
}

fn fill(file: File, files: Vec<(String, String)>) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(now);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, format!("{FOLDER}/{name}"), text.as_bytes())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}
