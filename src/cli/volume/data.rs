//! `wharf volume export` and `import`.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use super::{VolumesError, refuse_owed};
use crate::archive::{Packed, Unpacked, decompressed};
use crate::cli::cp::told;
use crate::cli::image::{progress_bar, size};
use crate::cli::out;
use crate::cli::output::{Exit, Failure, complain, print};
use crate::host::Paths;
use crate::volume::{self, DataError, Exported, How};

/// Runs `wharf volume export`.
pub(super) fn export(paths: &Paths, name: &str, to: Option<&Path>, live: bool) -> Result<Exit, Failure> {
    let bar = progress_bar(None);
    let mut done = None;
    let written = out::write_private(to, |out| {
        done = Some(volume::export(paths, name, live, out, &|count| bar.inc(count))?);
        Ok::<(), DataError>(())
    });
    bar.finish_and_clear();
    written?;
    let Some(Exported { how, packed }) = done else { return Ok(Exit::Done) };
    if how == How::Live {
        complain(&format!(
            "note: {name} was exported as it was at each moment; what was written meanwhile may be there in part\n"
        ));
    }
    Ok(told(&packed, &Unpacked::default()))
}

/// Runs `wharf volume import`.
pub(super) fn import(paths: &Paths, name: &str, from: &Path, replace: bool) -> Result<Exit, Failure> {
    if replace {
        refuse_owed(paths, name)?;
    }
    let (input, bytes): (Box<dyn Read + Send>, Option<u64>) = if from.as_os_str() == "-" {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(Failure::usage(VolumesError::Terminal));
        }
        (Box::new(stdin), None)
    } else {
        let failed = |source| VolumesError::Open { path: from.to_owned(), source };
        let file = File::open(from).map_err(failed)?;
        let look = file.metadata().map_err(failed)?;
        if look.is_dir() {
            return Err(Failure::usage(VolumesError::Folder {
                name: name.to_owned(),
                path: from.to_owned(),
            }));
        }
        (Box::new(file), look.is_file().then_some(look.len()))
    };
    // What is read is what is known in advance: what it unpacks to isn't.
    let bar = progress_bar(bytes);
    let input = bar.wrap_read(input);
    let imported = decompressed(input)
        .map_err(DataError::from)
        .and_then(|input| volume::import(paths, name, replace, input, &|_| ()));
    bar.finish_and_clear();
    let unpacked = imported?;
    let exit = told(&Packed::default(), &unpacked);
    let Unpacked { members, bytes, .. } = unpacked;
    print(&format!("{name}: {} in {members} files and folders\n", size(bytes)))?;
    Ok(exit)
}
