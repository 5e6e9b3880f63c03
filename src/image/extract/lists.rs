//! Access lists (acl(5)) that the kernel gives to what is made below a directory with a default one. An archive has
//! them only where it says so itself.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{fremovexattr, lremovexattr};
use rustix::io::Errno;

use super::Extractor;
use crate::image::error::ImageError;

pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";
const ACCESS: &[u8] = b"system.posix_acl_access";

/// Takes both away by whatever removes one.
fn without(remove: impl Fn(&[u8]) -> Result<(), Errno>) -> Result<(), Errno> {
    for name in [ACCESS, DEFAULT] {
        match remove(name) {
            // There was none, the file system has none, or only a directory can have one.
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::ACCESS | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Takes a directory's lists away, so that nothing below it inherits any.
pub(crate) fn clear(directory: &OwnedFd) -> Result<(), Errno> {
    without(|name| fremovexattr(directory, name))
}

impl Extractor<'_> {
    /// Takes from something new what it has inherited. Only a layer that has a default list of its own makes this
    /// happen: above it there is none.
    pub(super) fn uninherit(&self, path: &[u8], made: &OwnedFd) -> Result<(), ImageError> {
        if !self.has_default_lists {
            return Ok(());
        }
        clear(made).map_err(self.kernel(path, "has inherited an access list that can't be taken away"))
    }

    /// The same for what can't be opened: by its name in the parent that was entered last.
    pub(super) fn uninherit_at(&self, path: &[u8], name: &[u8]) -> Result<(), ImageError> {
        if !self.has_default_lists {
            return Ok(());
        }
        let parent = self.open_parent();
        let whole = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
        without(|list| lremovexattr(whole.as_slice(), list))
            .map_err(self.kernel(path, "has inherited an access list that can't be taken away"))
    }
}
