//! What a running container has changed of its image's root.
//!
//! The layer that it writes to can't be reached from outside; its root can, all layers merged. So that is compared
//! with the image's own layers: kinds, owners, modes, sizes, times and attributes, and where all these are the same,
//! the contents of files. Of folders the time doesn't count, which only says that something in them changed, or
//! that the start put something there. Mounts below the root aren't looked into, nor what lies under them.

mod ids;
mod live;
mod tar;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{FileType, OFlags};
use serde::{Serialize, Serializer};

pub use self::ids::Ids;
pub use self::live::Live;
pub(crate) use self::tar::write;
use super::error::{Doing, ImageError};
use super::escape::field;
use super::merge::{Merged, Node};
use super::pax::Xattrs;
use crate::plan::Footprint;

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// The image doesn't have it.
    Added,
    /// The image has something else there.
    Changed,
    /// Only the image has it; of a folder, all that was in it is gone, too.
    Deleted,
}

impl ChangeKind {
    /// As `docker diff` has it.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// One path that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Below the root, without a slash at its beginning; empty for the root.
    #[serde(serialize_with = "as_text")]
    pub path: Vec<u8>,
}

impl Change {
    /// The absolute path; where it is no UTF-8, with percent signs for bytes that can't be shown.
    pub fn shown(&self) -> String {
        let path = std::str::from_utf8(&self.path).map_or_else(|_| field(&self.path), str::to_owned);
        format!("/{path}")
    }
}

fn as_text<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let path = std::str::from_utf8(path).map_or_else(|_| field(path), str::to_owned);
    serializer.serialize_str(&format!("/{path}"))
}

/// Every difference between an image and a live root, folders before what is in them, and by name.
///
/// What the program changes meanwhile may be in or not.
///
/// # Errors
/// Either can't be read.
pub(crate) fn compare(image: &Merged, live: &Live, made: &Footprint) -> Result<Vec<Change>, ImageError> {
    let mut comparison = Comparison { image, live, made, changes: Vec::new() };
    let root = image.root()?;
    let Some(now) = live.look(b"")? else { return Ok(Vec::new()) };
    if !comparison.same(b"", &root, &now)? {
        comparison.add(ChangeKind::Changed, b"");
    }
    comparison.folder(b"", Some(&root))?;
    Ok(comparison.changes)
}

struct Comparison<'a> {
    image: &'a Merged,
    live: &'a Live,
    made: &'a Footprint,
    changes: Vec<Change>,
}

pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

impl Comparison<'_> {
    fn add(&mut self, kind: ChangeKind, path: &[u8]) {
        self.changes.push(Change { kind, path: path.to_vec() });
    }

    /// What is in a folder of the live root, and in the same of the image if that has it.
    fn folder(&mut self, path: &[u8], image: Option<&Node>) -> Result<(), ImageError> {
        let before = image.map(|node| self.image.children(path, node)).transpose()?.unwrap_or_default();
        let now = self.live.names(path)?;
        let names: BTreeSet<&Vec<u8>> = before.keys().chain(&now).collect();
        for name in names {
            self.path(&join(path, name), before.get(name))?;
        }
        Ok(())
    }

    fn path(&mut self, path: &[u8], image: Option<&Node>) -> Result<(), ImageError> {
        let text = std::str::from_utf8(path).unwrap_or_default();
        let now = self.live.look(path)?;
        if let Some(to) = self.made.links.get(text) {
            let is_link = |now: &live::Found| now.target.as_deref() == Some(to.as_bytes());
            if now.as_ref().is_none_or(is_link) {
                return Ok(());
            }
        }
        let Some(now) = now else {
            if image.is_some() {
                self.add(ChangeKind::Deleted, path);
            }
            return Ok(());
        };
        match now.kind() {
            // A socket is nothing without its process, and no layer has device nodes.
            None => {}
            Some(_) if now.mounted => return Ok(()),
            Some(FileType::Directory) => return self.live_folder(path, image, &now),
            Some(_) => {
                match image {
                    None => self.add(ChangeKind::Added, path),
                    Some(node) if self.same(path, node, &now)? => {}
                    Some(_) => self.add(ChangeKind::Changed, path),
                }
                return Ok(());
            }
        }
        if image.is_some() {
            self.add(ChangeKind::Deleted, path);
        }
        Ok(())
    }

    fn live_folder(
        &mut self,
        path: &[u8],
        image: Option<&Node>,
        now: &live::Found,
    ) -> Result<(), ImageError> {
        let at = self.changes.len();
        let before = image.filter(|node| node.kind() == FileType::Directory);
        match (image, before) {
            (None, _) => self.add(ChangeKind::Added, path),
            (Some(_), None) => self.add(ChangeKind::Changed, path),
            (_, Some(node)) if !self.same(path, node, now)? => self.add(ChangeKind::Changed, path),
            _ => {}
        }
        self.folder(path, before)?;
        // Made to be mounted on, or to have such a folder in it, and nothing else is in it.
        let made =
            image.is_none() && std::str::from_utf8(path).is_ok_and(|text| self.made.folders.contains(text));
        if made && self.changes.len() == at + 1 {
            self.changes.truncate(at);
        }
        Ok(())
    }

    fn same(&self, path: &[u8], node: &Node, now: &live::Found) -> Result<bool, ImageError> {
        let ids = &self.live.ids;
        let (was, is) = (&node.stat, &now.stat);
        if was.st_mode != is.st_mode || !ids.same(was.st_uid, is.st_uid) || !ids.same(was.st_gid, is.st_gid) {
            return Ok(false);
        }
        // Of an owner that the container doesn't have a number for: the kernel lets nobody in there change it, and not even
        // the host's root read it (`HAS_UNMAPPED_ID` in fs/namei.c).
        if ids.inside(is.st_uid).is_none() || ids.inside(is.st_gid).is_none() {
            return Ok(true);
        }
        // The root of an overlay has its upper folder's attributes, which is the start's.
        let attributes = |of: Xattrs| -> BTreeMap<_, _> { of.into_iter().collect() };
        if !path.is_empty()
            && attributes(self.image.attributes(path, node)?) != attributes(self.live.attributes(path)?)
        {
            return Ok(false);
        }
        let kind = node.kind();
        if kind == FileType::Directory {
            return Ok(true);
        }
        if (was.st_mtime, was.st_mtime_nsec) != (is.st_mtime, is.st_mtime_nsec) {
            return Ok(false);
        }
        match kind {
            FileType::Symlink => Ok(Some(self.image.target(path, node)?) == now.target),
            FileType::RegularFile if was.st_size != is.st_size => Ok(false),
            FileType::RegularFile => {
                let Some(live) = self.live.open_file(path)? else { return Ok(false) };
                let image = self.image.open_node(path, node, OFlags::RDONLY | OFlags::NOFOLLOW)?;
                same_content(File::from(image), live).doing("read", String::from_utf8_lossy(path).as_ref())
            }
            _ => Ok(true),
        }
    }
}

fn same_content(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let count = fill(&mut one, &mut left)?;
        if count != fill(&mut other, &mut right)? || left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
