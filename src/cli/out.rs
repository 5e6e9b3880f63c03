//! Where archives are written to: a file, which is there whole or not at all, or standard output.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::cli::output::Failure;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum OutError {
    #[error(
        "an archive is nothing for a terminal; name a file with -o, or lead the output into a pipe or a file"
    )]
    Terminal,
    #[error("can't {doing} {}", .path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
}

/// Has an archive written to a file, or to standard output for `-` or nothing. A file is durable when this returns,
/// and on an error it is what it was before.
pub(super) fn write<E>(
    to: Option<&Path>,
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
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        // A pipe or a device: nothing that could be put in its place.
        let mut out = buffered(OpenOptions::new().write(true).open(path).map_err(file_error("open", path))?);
        write(&mut out)?;
        return out.flush().map_err(|source| file_error("write", path)(source).into());
    }
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let aside = path.with_file_name(name);
    let file =
        OpenOptions::new().write(true).create_new(true).open(&aside).map_err(file_error("make", &aside))?;
    let done = Aside(&aside);
    let mut out = buffered(file);
    write(&mut out)?;
    let file = out.into_inner().map_err(|error| file_error("write", &aside)(error.into_error()))?;
    file.sync_all().map_err(file_error("write", &aside))?;
    std::fs::rename(&aside, path).map_err(file_error("put the archive at", path))?;
    std::mem::forget(done);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
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
