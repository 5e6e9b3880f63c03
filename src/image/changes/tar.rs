//! Changes as the tar of a layer (OCI image specification, "Image Layer Filesystem Changeset").

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use rustix::fs::{FileType, Stat, fstat};

use super::live::Found;
use super::{Change, ChangeKind, Live};
use crate::image::error::{Doing, ImageError};
use crate::image::export::copy;
use crate::image::pax::{Entry, Head, Writer};

/// Writes a layer of these changes: the folders above each, which are the live ones too, and whiteouts for what is
/// gone. What was changed and is gone by now is taken for deleted.
pub(crate) fn write(live: &Live, changes: &[Change], out: &mut dyn Write) -> Result<(), ImageError> {
    let mut layer = Layer { live, tar: Writer::new(out), folders: BTreeSet::new(), linked: BTreeMap::new() };
    for Change { kind, path } in changes {
        layer.folders_above(path)?;
        let found = match kind {
            ChangeKind::Deleted => None,
            _ => live.look(path)?,
        };
        match found {
            Some(_)
                if path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b".wh.")) =>
            {
                return Err(ImageError::Malformed {
                    what: format!("`/{}`", String::from_utf8_lossy(path)),
                    why: "has a name that means in a layer that something is gone; rename or remove it"
                        .to_owned(),
                });
            }
            Some(found) => layer.member(path, &found)?,
            None if *kind == ChangeKind::Added => {}
            None => layer.whiteout(path)?,
        }
    }
    layer.tar.finish().map(drop).map_err(output)
}

fn output(source: std::io::Error) -> ImageError {
    ImageError::Output { source }
}

struct Layer<'a> {
    live: &'a Live,
    tar: Writer<&'a mut dyn Write>,
    /// What is there already.
    folders: BTreeSet<Vec<u8>>,
    /// The first path of each file with several names, by device and inode.
    linked: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Layer<'_> {
    fn folders_above(&mut self, path: &[u8]) -> Result<(), ImageError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in std::iter::once(0).filter(|_| !path.is_empty()).chain(ends) {
            let folder = &path[..end];
            if !self.folders.contains(folder)
                && let Some(found) = self.live.look(folder)?
            {
                self.member(folder, &found)?;
            }
        }
        Ok(())
    }

    fn head(&self, path: &[u8], entry: Entry, stat: &Stat) -> Result<Head, ImageError> {
        let again = matches!(entry, Entry::Hardlink(_));
        let ids = &self.live.ids;
        // An id that the container doesn't have is nobody's.
        let nobody = 65_534;
        Ok(Head {
            path: path.to_vec(),
            entry,
            mode: stat.st_mode & 0o7777,
            uid: ids.inside(stat.st_uid).unwrap_or(nobody),
            gid: ids.inside(stat.st_gid).unwrap_or(nobody),
            seconds: stat.st_mtime,
            nanoseconds: stat.st_mtime_nsec as u32,
            xattrs: if again { Vec::new() } else { self.live.attributes(path)? },
        })
    }

    fn member(&mut self, path: &[u8], found: &Found) -> Result<(), ImageError> {
        let kind = match found.kind() {
            Some(kind) if !found.mounted => kind,
            _ => return Ok(()),
        };
        if kind == FileType::Directory {
            if self.folders.insert(path.to_vec()) {
                let head = self.head(path, Entry::Directory, &found.stat)?;
                self.tar.head(&head).map_err(output)?;
            }
            return Ok(());
        }
        if found.stat.st_nlink > 1 {
            let file = (found.stat.st_dev, found.stat.st_ino);
            if let Some(first) = self.linked.get(&file) {
                let head = self.head(path, Entry::Hardlink(first.clone()), &found.stat)?;
                return self.tar.head(&head).map_err(output);
            }
            self.linked.insert(file, path.to_vec());
        }
        let entry = match (kind, &found.target) {
            (FileType::Symlink, Some(target)) => Entry::Symlink(target.clone()),
            (FileType::RegularFile, _) => return self.file(path),
            _ => Entry::Pipe,
        };
        let head = self.head(path, entry, &found.stat)?;
        self.tar.head(&head).map_err(output)
    }

    fn file(&mut self, path: &[u8]) -> Result<(), ImageError> {
        let shown = String::from_utf8_lossy(path).into_owned();
        let Some(file) = self.live.open_file(path)? else { return Err(ImageError::Changed { path: shown }) };
        // Of what is open: the name may mean another file by now.
        let stat = fstat(&file).doing("look at", &shown)?;
        let size = stat.st_size as u64;
        let head = self.head(path, Entry::File { size }, &stat)?;
        self.tar.head(&head).map_err(output)?;
        copy(file, path, size, &mut self.tar, &|_| ())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), ImageError> {
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let head = Head {
            path: [&path[..at], b".wh.", &path[at..]].concat(),
            entry: Entry::File { size: 0 },
            mode: 0,
            uid: 0,
            gid: 0,
            seconds: 0,
            nanoseconds: 0,
            xattrs: Vec::new(),
        };
        self.tar.head(&head).map_err(output)
    }
}
