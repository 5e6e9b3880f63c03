//! Where archives are written to: a file, which is there whole or not at all, or standard output.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat};

use crate::cli::output::Failure;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum OutError {
    #[error(
        "an archive is nothing for a terminal; lead the output into a pipe or a file, or name one with -o where the \
         command has that"
    )]
    Terminal,
    #[error("can't {doing} {}", .path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
}

/// Has an archive written to a file, or to standard output for `-` or nothing. A file is durable when this returns,
/// and on an error it is what it was before; one that takes another's place has its mode.
pub(super) fn write<E>(
    to: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), Failure>
where
    Failure: From<E>,
{
    write_as(to, 0o666, write)
}

/// The same for what only its owner may read, where the file is a new one.
pub(super) fn write_private<E>(
    to: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), Failure>
where
    Failure: From<E>,
{
    write_as(to, 0o600, write)
}

fn write_as<E>(
    to: Option<&Path>,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), Failure>
where
    Failure: From<E>,
{
    let buffered = |file| BufWriter::with_capacity(256 << 10, file);
    let Some(path) = to.filter(|path| path.as_os_str() != "-") else {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Failure::usage(OutError::Terminal));
        }
        // Not through the standard library's own buffer, which looks for line ends.
        let file = File::from(stdout.as_fd().try_clone_to_owned()?);
        let mut out = buffered(file);
        write(&mut out)?;
        return out
            .flush()
            .map_err(|source| file_error("write to", Path::new("standard output"))(source).into());
    };
    let before = path.metadata().ok();
    if before.as_ref().is_some_and(|metadata| !metadata.is_file()) {
        // A pipe or a device: nothing that could be put in its place.
        let mut out = buffered(OpenOptions::new().write(true).open(path).map_err(file_error("open", path))?);
        write(&mut out)?;
        return out.flush().map_err(|source| file_error("write", path)(source).into());
    }
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let aside = path.with_file_name(name);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = if before.is_some() { 0o600 } else { mode };
    // Without a name, where the file system can do that: then nothing is left if this is killed.
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let (file, is_named) = match rustix::fs::open(folder, flags, Mode::from_raw_mode(mode)) {
        Ok(file) => (File::from(file), false),
        Err(_) => (
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&aside)
                .map_err(file_error("make", &aside))?,
            true,
        ),
    };
    let done = Aside(&aside);
    let mut out = buffered(file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|error| file_error("write", &aside)(error.into_error()))?;
    if let Some(before) = before {
        let kept = Permissions::from_mode(before.mode() & 0o777);
        file.set_permissions(kept).map_err(file_error("change the mode of", &aside))?;
    }
    file.sync_all().map_err(file_error("write", &aside))?;
    if !is_named {
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        // Of one with the same number that was killed.
        let _ = std::fs::remove_file(&aside);
        linkat(CWD, own, CWD, &aside, AtFlags::SYMLINK_FOLLOW)
            .map_err(|errno| file_error("name", &aside)(errno.into()))?;
    }
    std::fs::rename(&aside, path).map_err(file_error("put the archive at", path))?;
    std::mem::forget(done);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error("sync", folder))?;
    Ok(())
}

fn file_error<'p>(doing: &'static str, path: &'p Path) -> impl Fn(io::Error) -> OutError + 'p {
    move |source| OutError::File { doing, path: path.to_owned(), source }
}

/// A file that isn't whole yet; it goes with an error.
struct Aside<'a>(&'a Path);

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        // It may be gone already, and there is nobody to tell.
        let _ = std::fs::remove_file(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::archive::ArchiveError;

    #[test]
    fn half_an_archive_has_no_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = || fs::read_dir(folder.path()).expect("a folder").count();
        let path = folder.path().join("a.tar");
        let has_unnamed = rustix::fs::open(
            folder.path(),
            OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
        .is_ok();
        for (expected, text) in [(0, "first"), (1, "second")] {
            let failed = write_private(Some(&path), |_| Err(ArchiveError::Truncated));
            assert!(failed.is_err());
            assert_eq!(names(), expected, "nothing is left of it");
            let written = write_private(Some(&path), |out| {
                out.write_all(text.as_bytes()).map_err(ArchiveError::Output)?;
                assert!(!has_unnamed || names() == expected);
                Ok::<(), ArchiveError>(())
            });
            assert!(written.is_ok());
            assert_eq!((names(), fs::read_to_string(&path).expect("a file").as_str()), (1, text));
        }
    }
}
