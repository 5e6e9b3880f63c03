//! How much room things take on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, FileType, Mode, Stat, openat, stat};
use serde::Serialize;

use super::error::ImageError;
use super::listing::{Listed, Listing};
use super::manifest::Summary;
use super::store::Store;
use super::walk::{DIRECTORY, Next, walk};

/// The unit of `st_blocks`, whatever the file system's own is (stat(3type)).
const BLOCK: u64 = 512;

/// How much room one image takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Usage {
    /// Bytes on the disk that would be free without it.
    pub own: u64,
    /// Bytes on the disk that other images of the store need as well.
    pub shared: u64,
}

/// An image with the room that it takes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sized {
    /// As in the list.
    #[serde(flatten)]
    pub listed: Listed,
    /// On the disk.
    pub disk: Usage,
}

/// Every image with its room, and the room of all of them together: what they share counts once there.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// In the order of [`Store::list`].
    pub images: Vec<Sized>,
    /// How many layers they have, each counted once.
    pub layers: usize,
    /// Bytes on the disk.
    pub total: u64,
    /// What can't be told, a sentence each.
    pub broken: Vec<String>,
}

impl Store {
    /// As [`Store::list`], with the room on the disk.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn sizes(&self) -> Result<Sizes, ImageError> {
        let Listing { images: listed, broken } = self.listing()?;
        let kinds = self.kinds()?;
        // What each image needs, and how many need it.
        let mut needed: Vec<BTreeSet<PathBuf>> = Vec::with_capacity(listed.len());
        for image in &listed {
            // One that has been removed since needs nothing.
            let parts = image.digest.parse().ok().and_then(|digest| self.parts_as_used(&digest, &kinds).ok());
            needed.push(parts.unwrap_or_default());
        }
        let mut counts: BTreeMap<&PathBuf, usize> = BTreeMap::new();
        for part in needed.iter().flatten() {
            *counts.entry(part).or_default() += 1;
        }
        let parts: Vec<&PathBuf> = counts.keys().copied().collect();
        let sizes = in_parallel(&parts, |part| self.part_size(part));
        let sizes: BTreeMap<&PathBuf, u64> = parts.iter().copied().zip(sizes).collect();
        let images = listed.into_iter().zip(&needed).map(|(listed, parts)| {
            let mut disk = Usage::default();
            for part in parts {
                let size = sizes.get(part).copied().unwrap_or_default();
                let is_own = counts.get(part).is_none_or(|count| *count == 1);
                *if is_own { &mut disk.own } else { &mut disk.shared } += size;
            }
            Sized { listed, disk }
        });
        Ok(Sizes {
            images: images.collect(),
            layers: counts.keys().filter(|part| part.starts_with("layers")).count(),
            total: sizes.values().sum(),
            broken,
        })
    }

    /// Bytes on the disk of something below the store. Of a layer they were counted when it was unpacked.
    pub(crate) fn part_size(&self, part: &Path) -> u64 {
        let path = self.path(part);
        let counted = part.starts_with("layers").then(|| Summary::read(&path).ok()).flatten();
        counted
            .map(|summary| summary.disk_bytes)
            .filter(|bytes| *bytes > 0)
            .unwrap_or_else(|| disk_bytes(&path))
    }
}

/// Bytes on the disk of a file, or of a folder with all that is in it; files with several names count once.
/// What can't be looked at counts nothing.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    let own = |stat: &Stat| u64::try_from(stat.st_blocks).unwrap_or_default() * BLOCK;
    let Ok(opened) = openat(CWD, path, DIRECTORY, Mode::empty()) else {
        return stat(path).map_or(0, |stat| own(&stat));
    };
    let root: Arc<OwnedFd> = Arc::new(opened);
    let mut bytes = stat(path).map_or(0, |stat| own(&stat));
    let mut seen = BTreeSet::new();
    walk(
        &root,
        &mut |found| {
            let several =
                found.stat.st_nlink > 1 && FileType::from_raw_mode(found.stat.st_mode) != FileType::Directory;
            if !several || seen.insert((found.stat.st_dev, found.stat.st_ino)) {
                bytes += own(&found.stat);
            }
            Next::Descend
        },
        &mut |_, _| (),
    );
    bytes
}

/// What a function says about each, from as many threads as there are processors.
pub(crate) fn in_parallel<T: Sync, R: Send + Default>(items: &[T], one: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, one(item)));
        }
    };
    let mut results: Vec<R> = items.iter().map(|_| R::default()).collect();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads().min(items.len())).map(|_| scope.spawn(work)).collect();
        let mine = work();
        for (index, result) in others
            .into_iter()
            .flat_map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .chain(mine)
        {
            results[index] = result;
        }
    });
    results
}

/// As many as earn something: reading from one disk gains little from more.
pub(crate) fn threads() -> usize {
    const THREADS_MAX: usize = 16;
    std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}
