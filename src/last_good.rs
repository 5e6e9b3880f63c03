//! Plans that have worked since boot, for the generator to fall back to when a container's files go bad.
//!
//! ```text
//! /run/wharf/last-good/NAME.json     mode 0600, put into place by rename
//! ```
//!
//! A start that worked keeps its plan; while a change is being tried, `wharf apply` does so after the proof. Nothing is
//! synced: all of it ends with the host's boot.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use crate::check::Container;
use crate::host::Paths;
use crate::plan::Plan;
use crate::spec::ContainerName;

/// Keeps a plan's text under a file's name.
///
/// # Errors
/// It can't be written.
pub fn keep(paths: &Paths, file: &str, text: &str) -> io::Result<()> {
    let folder = paths.last_good();
    let path = folder.join(file);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    // Instances start side by side from one plan: each writes beside, under its own name.
    let aside = folder.join(format!(".{file}.{}", std::process::id()));
    let mut fresh = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    fresh.write_all(text.as_bytes())?;
    fs::rename(&aside, path)
}

/// Removes the plan of what is gone: declared again, it is new.
///
/// # Errors
/// It can't be removed.
pub fn forget(paths: &Paths, name: &ContainerName) -> io::Result<()> {
    match fs::remove_file(paths.last_good().join(format!("{name}.json"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Keeps the plan that a container's unit has now, an instance's or its template's, where that is `proved`: what has
/// proved itself. A last good one is kept already.
///
/// # Errors
/// It can't be written.
pub fn keep_present(paths: &Paths, name: &ContainerName, proved: &Container) -> io::Result<()> {
    let template = name.template();
    for candidate in [Some(name), template.as_ref()].into_iter().flatten() {
        let file = format!("{candidate}.json");
        let Ok(text) = fs::read_to_string(paths.plans().join(&file)) else { continue };
        let is_proved = |plan: &Plan| {
            let of_instance = name.instance().filter(|_| candidate.is_template());
            let same = match of_instance {
                Some(instance) => plan.container.instance(instance) == *proved,
                None => plan.container == *proved,
            };
            same && plan.held.is_none() && plan.outdated.is_none()
        };
        if serde_json::from_str(&text).is_ok_and(|plan| is_proved(&plan)) {
            keep(paths, &file, &text)?;
        }
        return Ok(());
    }
    Ok(())
}
