//! Writing units, plans and findings: one open and one write each.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use super::GenerateError;
use crate::host::Paths;
use crate::plan::{BOOT_FOLDERS, Beside, Companion, ImageOutput, Output};
use crate::report::{Finding, json};

/// Where plans of images lie there: no container's plan can be in their way.
const IMAGES: &str = "wharf/images";

/// systemd's output folder for this generator.
pub struct Folder {
    normal: PathBuf,
}

impl Folder {
    /// Makes the folders that everything goes to.
    pub fn make(normal: &Path) -> Result<Self, GenerateError> {
        let [containers, ..] = BOOT_FOLDERS;
        for path in [normal.to_owned(), normal.join("wharf"), normal.join(containers)] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&path)
                .map_err(|source| GenerateError::Folder { path, source })?;
        }
        Ok(Self { normal: normal.to_owned() })
    }

    /// Writes a container's unit, those beside it, its plan or findings, and its links.
    pub fn put(&self, output: &Output) -> io::Result<()> {
        let Output { name, unit: text, beside, companions, boot, image: _ } = output;
        // The plan first: no unit without what it runs.
        match beside {
            // Environment values are nobody else's business, and a caret may show a line of them.
            Beside::Plan(json) => put(&self.normal.join("wharf").join(format!("{name}.json")), json, 0o600)?,
            Beside::Findings(text) => {
                put(&self.normal.join("wharf").join(format!("{name}.findings")), text, 0o600)?;
            }
        }
        put(&self.normal.join(name.unit()), text, 0o644)?;
        for Companion { unit, text } in companions {
            put(&self.normal.join(unit), text, 0o644)?;
        }
        for (folder, unit) in boot.iter().filter(|_| !name.is_template()) {
            let folder = self.normal.join(folder);
            // Few hosts have timers or sockets of Wharf's.
            if !folder.is_dir() {
                DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
            }
            match symlink(format!("../{unit}"), folder.join(unit)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Folder {
    /// Makes the folder of images' plans, which most hosts need not have.
    pub fn make_for_images(&self) -> Result<(), GenerateError> {
        let path = self.normal.join(IMAGES);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&path)
            .map_err(|source| GenerateError::Folder { path, source })
    }

    /// Writes an image's unit, and its plan or findings.
    pub fn put_image(&self, output: &ImageOutput) -> io::Result<()> {
        let ImageOutput { name, unit: text, beside } = output;
        let folder = self.normal.join(IMAGES);
        let (end, beside) = match beside {
            Beside::Plan(json) => ("json", json),
            Beside::Findings(text) => ("findings", text),
        };
        put(&folder.join(format!("{name}.{end}")), beside, 0o600)?;
        put(&self.normal.join(name.unit()), text, 0o644)
    }
}

fn put(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

/// Leaves the findings for `wharf` and for whoever watches. They are told in the kernel's log and in each
/// unit too, so where this can't be written nothing is lost.
pub fn findings(paths: &Paths, findings: &[Finding]) {
    let path = paths.findings();
    let new = path.with_extension("json.new");
    let write = || {
        DirBuilder::new().recursive(true).mode(0o755).create(paths.runtime())?;
        put(&new, &json(findings), 0o644)?;
        fs::rename(&new, &path)
    };
    if write().is_err() {
        let _ = fs::remove_file(&new);
    }
    // A message and not a file that is watched: systemd's watches are not up while generators run, and its
    // sockets are.
    paths.tell_changed();
}
