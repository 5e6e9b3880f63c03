//! Extended attributes on their way between a container and an archive.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::Ids;
use crate::image::pax::Xattrs;
use crate::image::{attributes, is_kept};

/// What an archive has of something that is open, as the container would see it.
pub(super) fn inside(opened: &OwnedFd, ids: Ids) -> Result<Xattrs, Errno> {
    let all = match attributes(opened) {
        // Of /proc and the like.
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NODATA) => return Ok(Vec::new()),
        other => other?,
    };
    let kept = all.into_iter().filter(|(name, _)| is_kept(name));
    Ok(kept.map(|(name, value)| (name.clone(), ids.attribute(&name, value))).collect())
}

/// What an archive says, as the host has to write it; and the names of what isn't taken.
pub(super) fn outside(xattrs: &[(Vec<u8>, Vec<u8>)], ids: Ids) -> (Xattrs, Vec<&[u8]>) {
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for (name, value) in xattrs {
        match ids.host_attribute(name, value.clone()) {
            Some(value) if is_kept(name) && !name.contains(&0) => taken.push((name.clone(), value)),
            _ => left.push(name.as_slice()),
        }
    }
    (taken, left)
}
