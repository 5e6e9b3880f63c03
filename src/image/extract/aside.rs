//! What a later member of the same layer replaces. Nothing sees it any more, but the layer's tar has it, and to
//! write that again it is kept beside the tree, see [`crate::image::frame`].

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;

use rustix::fs::{AtFlags, CWD, FileType, Mode, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::paths::join;
use super::{DIRECTORY, Extractor};
use crate::image::error::{Doing, ImageError};
use crate::image::manifest::Line;

/// Takes a path and all that lies below it out of a set.
fn forget(paths: &mut BTreeSet<Vec<u8>>, gone: &[u8]) {
    paths.remove(gone);
    let below = join(gone, b"");
    while let Some(path) =
        paths.range(below.clone()..).next().filter(|path| path.starts_with(&below)).cloned()
    {
        paths.remove(&path);
    }
}

impl Extractor<'_> {
    /// Makes something that isn't a directory, in place of what is there.
    pub(super) fn create<T>(
        &mut self,
        path: &[u8],
        name: &[u8],
        full: &[u8],
        make: impl Fn(&OwnedFd) -> Result<T, Errno>,
    ) -> Result<T, ImageError> {
        match make(self.open_parent()) {
            Err(Errno::EXIST) => {
                self.clear(name, full)?;
                make(self.open_parent()).map_err(self.kernel(path, "can't be made"))
            }
            other => other.map_err(self.kernel(path, "can't be made")),
        }
    }

    /// Takes what has a name out of the tree.
    pub(super) fn clear(&mut self, name: &[u8], full: &[u8]) -> Result<(), ImageError> {
        let why = "can't be replaced";
        let stat =
            statat(self.open_parent(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(self.kernel(full, why))?;
        let removed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if stat.st_size > 0 => Err(Errno::NOTEMPTY),
            FileType::Directory => unlinkat(self.open_parent(), name, AtFlags::REMOVEDIR),
            _ => unlinkat(self.open_parent(), name, AtFlags::empty()),
        };
        match removed {
            Err(Errno::NOTEMPTY) => self.put_aside(name, full)?,
            other => other.map_err(self.kernel(full, why))?,
        }
        // What is known of directories is gone with them.
        forget(&mut self.opaque, full);
        forget(&mut self.implied, full);
        self.manifest.add(&Line::Gone(full.to_vec()))
    }

    fn put_aside(&mut self, name: &[u8], full: &[u8]) -> Result<(), ImageError> {
        if self.aside.is_none() {
            let path = self.layer.join("aside");
            DirBuilder::new().mode(0o700).create(&path).doing("make the directory", &path)?;
            self.aside = Some(openat(CWD, &path, DIRECTORY, Mode::empty()).doing("open", &path)?);
        }
        let Some(aside) = &self.aside else { return Ok(()) };
        let to = self.summary.replaced.to_string();
        renameat(self.open_parent(), name, aside, to).map_err(self.kernel(full, "can't be put aside"))?;
        self.summary.replaced += 1;
        self.replaced.push(full.to_vec());
        Ok(())
    }
}
