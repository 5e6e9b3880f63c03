//! Where a file has content (lseek(2), SEEK_DATA and SEEK_HOLE).

use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// The most pieces that are told apart: what reads archives takes no more, and one is needed for the end.
const PIECES_MAX: usize = (1 << 16) - 1;

/// The pieces of a file that has holes, as (offset, length), in order; nothing where it has none worth the while.
pub(super) fn pieces(file: impl AsFd, stat: &Stat) -> Option<Vec<(u64, u64)>> {
    let size = u64::try_from(stat.st_size).ok()?;
    // Blocks are counted in units of 512 bytes, whatever the file system's own are (stat(2)).
    let stored = u64::try_from(stat.st_blocks).ok()?.saturating_mul(512);
    if stored >= size {
        return None;
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match seek(&file, SeekFrom::Data(at)) {
            Ok(begin) => begin.min(size),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = seek(&file, SeekFrom::Hole(begin)).ok()?.min(size);
        // A file that is changed meanwhile could have it go round in circles.
        if end <= at || pieces.len() >= PIECES_MAX {
            return None;
        }
        if end > begin {
            pieces.push((begin, end - begin));
        }
        at = end;
    }
    (pieces != [(0, size)]).then_some(pieces)
}
