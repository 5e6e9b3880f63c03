//! An image as one tar of a root file system: what a container of it sees.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{FileType, OFlags};

use super::error::{Doing, ImageError};
use super::merge::{Merged, Node};
use super::pax::{Entry, Head, Writer};
use super::store::Store;
use crate::spec::Reference;

/// Writes all layers of an image, merged, as one tar: sorted by path, with owners, modes, times to the nanosecond,
/// hard links and extended attributes. Sparse files are written out in full. The same image makes the same bytes.
///
/// `progress` is told how many bytes of files were read since the last time.
///
/// # Errors
/// [`ImageError::Missing`]; [`ImageError::Damaged`]; [`ImageError::Output`] from `out`, and then what was written is
/// no archive.
pub fn export(
    store: &Store,
    image: &Reference,
    out: &mut dyn Write,
    progress: &dyn Fn(u64),
) -> Result<(), ImageError> {
    let documents = store.documents_of(image)?;
    let _pins = store.pin(documents.layers())?;
    let trees: Vec<_> =
        documents.layers().map(|(id, bottom)| store.layer_path(&id, bottom).join("tree")).collect();
    let merged = Merged::open(&trees)?;
    let mut export = Export { merged: &merged, tar: Writer::new(out), linked: BTreeMap::new(), progress };
    let root = merged.root()?;
    export.node(&[], &root)?;
    export.tar.finish().map(drop).map_err(|source| ImageError::Output { source })
}

struct Export<'a> {
    merged: &'a Merged,
    tar: Writer<&'a mut dyn Write>,
    /// The first path of each file with several names, by layer and inode: names in different layers are different
    /// files, as overlayfs has it.
    linked: BTreeMap<(usize, u64), Vec<u8>>,
    progress: &'a dyn Fn(u64),
}

impl Export<'_> {
    fn node(&mut self, path: &[u8], node: &Node) -> Result<(), ImageError> {
        let kind = node.kind();
        let mut entry = match kind {
            FileType::Directory => Entry::Directory,
            FileType::RegularFile => Entry::File { size: node.stat.st_size as u64 },
            FileType::Symlink => Entry::Symlink(self.merged.target(path, node)?),
            FileType::Fifo => Entry::Pipe,
            // No import makes anything else.
            _ => return Ok(()),
        };
        if kind != FileType::Directory && node.stat.st_nlink > 1 {
            match self.linked.get(&(node.layer, node.stat.st_ino)) {
                Some(first) => entry = Entry::Hardlink(first.clone()),
                None => {
                    self.linked.insert((node.layer, node.stat.st_ino), path.to_vec());
                }
            }
        }
        let again = matches!(entry, Entry::Hardlink(_));
        let head = Head {
            path: path.to_vec(),
            entry,
            mode: node.stat.st_mode & 0o7777,
            uid: node.stat.st_uid,
            gid: node.stat.st_gid,
            seconds: node.stat.st_mtime,
            nanoseconds: node.stat.st_mtime_nsec as u32,
            xattrs: if again { Vec::new() } else { self.merged.attributes(path, node)? },
        };
        let failed = |source| ImageError::Output { source };
        self.tar.head(&head).map_err(failed)?;
        if let Entry::File { size } = head.entry {
            let file = File::from(self.merged.open_node(path, node, OFlags::RDONLY | OFlags::NOFOLLOW)?);
            copy(file, path, size, &mut self.tar, self.progress)?;
        }
        if kind == FileType::Directory {
            for (name, child) in self.merged.children(path, node)? {
                let below = [path, if path.is_empty() { b"" } else { b"/" }, &name].concat();
                self.node(&below, &child)?;
            }
        }
        Ok(())
    }
}

/// A file's content into a tar.
pub(crate) fn copy<W: Write>(
    mut file: File,
    path: &[u8],
    size: u64,
    tar: &mut Writer<W>,
    progress: &dyn Fn(u64),
) -> Result<(), ImageError> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    let mut block = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(256 << 10)];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        let count = match io::Read::read(&mut file, &mut block[..most]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.doing("read", shown())?,
        };
        if count == 0 {
            return Err(ImageError::Changed { path: shown() });
        }
        tar.output().write_all(&block[..count]).map_err(|source| ImageError::Output { source })?;
        progress(count as u64);
        left -= count as u64;
    }
    tar.pad(size).map_err(|source| ImageError::Output { source })
}
