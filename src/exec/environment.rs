//! Reading environment files.

use std::fs::File;
use std::io;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::failure::{Failure, Status};
use super::source::{self, SourceError};
use crate::check::{Container, EnvironmentFile};
use crate::host::Paths;
use crate::spec::assignments;

/// Reads the files in order; later ones come later in the answer.
///
/// # Errors
/// A missing file that isn't optional, one that can't be read, and a line that is no assignment.
pub fn read(paths: &Paths, container: &Container) -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::new();
    for EnvironmentFile { path, optional } in &container.environment_files {
        let text = match source::open(paths, container, &paths.host(path), OFlags::RDONLY | OFlags::NOCTTY) {
            Ok(file) => io::read_to_string(File::from(file)).map_err(|error| {
                let problem = format!("can't read the environment file {}: {error}", path.display());
                Failure::new(Status::Config, problem)
            })?,
            Err(SourceError::Kernel(Errno::NOENT)) if *optional => continue,
            Err(error) => {
                let missing = matches!(error, SourceError::Kernel(Errno::NOENT));
                let failure = error.failure(Status::Config, "the environment file ", path);
                let hint =
                    format!("if it may be missing, write it as \"-{}\" in environment-files", path.display());
                return Err(if missing { failure.hint(hint) } else { failure });
            }
        };
        variables.extend(assignments(&text).map_err(|line| {
            let problem = format!("{}:{line}: this is not NAME=value", path.display());
            Failure::new(Status::Config, problem).hint("a comment starts with `#` or `;`")
        })?);
    }
    Ok(variables)
}
