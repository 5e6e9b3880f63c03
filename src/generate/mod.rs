//! The generator's shell: reads the search path, writes the output folder, and does nothing else.
//!
//! What it writes:
//!
//! ```text
//! NORMAL/NAME-container.service            the unit
//! NORMAL/multi-user.target.wants/…         links for those that start at boot
//! NORMAL/wharf/NAME.json                   the plan, mode 0600
//! NORMAL/wharf/NAME.findings               instead of it, where a container is refused
//! /run/wharf/findings.json                 every finding, by rename
//! ```
//!
//! systemd waits for its generators at boot and at each reload and has emptied NORMAL before. No fsync: the
//! output lies in memory and is made again at each boot.

mod read;
mod write;

use std::io;
use std::path::Path;

pub use read::{Found, Listing, last_good, list, loose, read};
pub(crate) use write::WANTS;

use crate::check::Checked;
use crate::host::{HostFacts, Paths};
use crate::plan::{self, Files};
use crate::report::{self, Finding};

/// From this many containers on a second thread earns more than it costs.
const WORTH_A_THREAD: usize = 64;

/// More threads than this only wait for the kernel's lock on the output folder.
const THREADS_MAX: usize = 4;

/// Why nothing could be generated at all.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The output folder can't be made.
    #[error("can't make {path}")]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes every unit and plan; gives all findings, notes too.
pub fn run(paths: &Paths, normal: &Path) -> Result<Vec<Finding>, GenerateError> {
    let facts = HostFacts::read(paths);
    let listing = list(paths);
    let mut findings = listing.findings.clone();
    if !listing.containers.is_empty() {
        let out = write::Folder::make(normal)?;
        let mut all = check_all(paths, &listing);
        let threads = threads(all.len());
        let left = in_parts(&mut all, threads, |(files, checked)| {
            let output = plan::output(files, checked, || last_good(paths, &files.name), facts);
            let mut findings = std::mem::take(&mut checked.findings);
            if let Err(error) = out.put(&output) {
                findings.push(unwritten(files, &error));
            }
            findings
        });
        findings.extend(left.into_iter().flatten());
    }
    report::sort(&mut findings);
    // A drop-in for all with a mistake has it for all.
    findings.dedup();
    write::findings(paths, &findings);
    Ok(findings)
}

/// Reads and checks all that is declared, each with the others in view; what is masked is left out.
pub fn check_all(paths: &Paths, listing: &Listing) -> Vec<(Files, Checked)> {
    let mut found: Vec<_> = listing.containers.iter().collect();
    let threads = threads(found.len());
    let checked = in_parts(&mut found, threads, |(name, found)| {
        let files = read(paths, listing, name, found)?;
        let checked = plan::check(&files);
        Some((files, checked))
    });
    let mut all: Vec<_> = checked.into_iter().flatten().collect();
    plan::compare(&mut all);
    all
}

fn threads(containers: usize) -> usize {
    match containers {
        0..WORTH_A_THREAD => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
    }
}

/// What becomes of each, in order.
fn in_parts<T: Send, R: Send>(items: &mut [T], threads: usize, one: impl Fn(&mut T) -> R + Sync) -> Vec<R> {
    if threads == 1 {
        return items.iter_mut().map(one).collect();
    }
    let one = &one;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks_mut(items.len().div_ceil(threads))
            .map(|part| scope.spawn(move || part.iter_mut().map(one).collect::<Vec<_>>()))
            .collect();
        // A thread can't panic in checking; should it in writing, the others' work stands.
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

fn unwritten(files: &Files, error: &io::Error) -> Finding {
    let place = report::Place::file(&files.main);
    Finding::error(place, format!("the unit can't be written: {error}")).hint("is /run full?")
}
