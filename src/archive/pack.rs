//! A tree as a tar.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat};
use rustix::io::Errno;

use super::attributes::inside;
use super::holes::pieces;
use super::{ArchiveError, DEPTH_MAX, Ids, NOBODY, failed, join, shown};
use crate::image::names;
use crate::image::pax::{Entry, Head, Writer};

/// What became of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// How many files, folders and others are in the archive.
    pub members: u64,
    /// Bytes of the contents of files.
    pub bytes: u64,
    /// What isn't in it, and why, in words.
    pub left_out: Vec<String>,
    /// Files that got shorter while they were read; in the archive they are filled up with zeros.
    pub changed: Vec<String>,
}

/// Writes trees into one archive.
pub struct Packer<'a, W> {
    tar: Writer<W>,
    ids: Ids,
    /// Where what is packed goes to, where that is a folder: it isn't copied into itself.
    avoid: Option<(u64, u64)>,
    /// The first path of each file with several names, by device and inode.
    linked: BTreeMap<(u64, u64), Vec<u8>>,
    packed: Packed,
    progress: &'a dyn Fn(u64),
}

/// The types of the kernel's own file systems (linux/magic.h; statfs(2)): cgroup2, proc, sysfs, devpts, mqueue, debugfs,
/// tracefs, securityfs, bpf, configfs, pstore, efivarfs and binfmt_misc. Their files say what is so at the moment, and
/// some of them do something when they are read.
const KERNELS_OWN: [u64; 13] = [
    0x6367_7270,
    0x9fa0,
    0x6265_6572,
    0x1cd1,
    0x1980_0202,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6265_6570,
    0x6165_676c,
    0xde5e_81e4,
    0x4249_4e4d,
];

/// The most that is read of a file of the kernel's, which doesn't know its own size.
const MADE_MAX: u64 = 64 << 20;

const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

impl<'a, W: Write> Packer<'a, W> {
    /// Into `out`. `progress` hears of each piece of content that was written.
    pub fn new(out: W, ids: Ids, progress: &'a dyn Fn(u64)) -> Self {
        let (linked, packed) = (BTreeMap::new(), Packed::default());
        Self { tar: Writer::new(out), ids, avoid: None, linked, packed, progress }
    }

    /// The same for a copy that goes to a folder of this device and inode.
    #[must_use]
    pub fn avoiding(self, folder: Option<(u64, u64)>) -> Self {
        Self { avoid: folder, ..self }
    }

    /// A folder that is open to be read, with all that is in it, as `path`; as the archive's root where that is empty.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn folder(&mut self, folder: &OwnedFd, path: &[u8]) -> Result<(), ArchiveError> {
        let stat = fstat(folder).map_err(failed("look at", path))?;
        self.directory(folder, &stat, path, 0)
    }

    /// What has this name in a folder, with all that is in it, as `path`.
    ///
    /// # Errors
    /// See [`ArchiveError`]; nothing of this name is one.
    pub fn named(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), ArchiveError> {
        if self.one(parent, name, path, None, 0)? {
            return Ok(());
        }
        Err(failed("open", path)(Errno::NOENT))
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(self) -> Result<Packed, ArchiveError> {
        self.tar.finish().map_err(ArchiveError::Output)?;
        Ok(self.packed)
    }

    fn directory(
        &mut self,
        folder: &OwnedFd,
        stat: &Stat,
        path: &[u8],
        depth: usize,
    ) -> Result<(), ArchiveError> {
        if depth > DEPTH_MAX {
            return Err(failed("go down to", path)(Errno::NAMETOOLONG));
        }
        if self.avoid == Some((stat.st_dev, stat.st_ino)) {
            let why = "is where the copy goes to: a folder can't be copied into itself".to_owned();
            return Err(ArchiveError::Member { path: path.to_vec(), why });
        }
        self.head(folder, stat, path, Entry::Directory)?;
        for name in names(folder).map_err(failed("read", path))? {
            // What is gone by now is as if it had never been there.
            self.one(folder, &name, &join(path, &name), Some(stat.st_dev), depth + 1)?;
        }
        Ok(())
    }

    /// Whether there is such a thing.
    fn one(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        device: Option<u64>,
        depth: usize,
    ) -> Result<bool, ArchiveError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            other => other.map_err(failed("open", path))?,
        };
        let stat = fstat(&opened).map_err(failed("look at", path))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let read = openat(parent, name, READ | OFlags::DIRECTORY, Mode::empty());
            let folder = match read {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
                other => other.map_err(failed("open", path))?,
            };
            let stat = fstat(&folder).map_err(failed("look at", path))?;
            if device.is_some_and(|above| above != stat.st_dev) && is_kernels_own(&folder) {
                let why = format!("{}: it is a file system of the kernel's own", shown(path));
                self.packed.left_out.push(why);
                return Ok(true);
            }
            self.directory(&folder, &stat, path, depth)?;
            return Ok(true);
        }
        let what = match kind {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => None,
            FileType::Socket => Some("a socket, which is nothing without its process"),
            _ => Some("a device"),
        };
        if let Some(what) = what {
            self.packed.left_out.push(format!("{}: it is {what}", shown(path)));
            return Ok(true);
        }
        if stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&file) {
                let entry = Entry::Hardlink(first.clone());
                self.head(&opened, &stat, path, entry)?;
                return Ok(true);
            }
            self.linked.insert(file, path.to_vec());
        }
        match kind {
            FileType::Symlink => {
                let target = readlinkat(&opened, "", Vec::new()).map_err(failed("read the link", path))?;
                self.head(&opened, &stat, path, Entry::Symlink(target.into_bytes()))?;
            }
            FileType::Fifo => self.head(&opened, &stat, path, Entry::Pipe)?,
            _ => return self.file(parent, name, path),
        }
        Ok(true)
    }

    /// A regular file; whatever has taken its name since is none.
    fn file(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<bool, ArchiveError> {
        // What is copied may not look as if it had been used, where the kernel lets this be asked for.
        let opened = match openat(parent, name, READ | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => openat(parent, name, READ, Mode::empty()),
            other => other,
        };
        let opened = match opened {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(false),
            other => other.map_err(failed("open", path))?,
        };
        let stat = fstat(&opened).map_err(failed("look at", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(false);
        }
        let size = stat.st_size as u64;
        if size == 0 && is_kernels_own(&opened) {
            return self.made(opened, &stat, path);
        }
        let pieces = pieces(&opened, &stat);
        let entry = match &pieces {
            Some(pieces) => Entry::Sparse { size, pieces: pieces.clone() },
            None => Entry::File { size },
        };
        self.head(&opened, &stat, path, entry)?;
        let mut file = File::from(opened);
        let mut stored = 0;
        for (offset, length) in pieces.unwrap_or_else(|| vec![(0, size)]) {
            file.seek(SeekFrom::Start(offset)).map_err(|error| failed("read", path)(errno(&error)))?;
            self.content(&mut file, path, length)?;
            stored += length;
        }
        self.tar.pad(stored).map_err(ArchiveError::Output)?;
        Ok(true)
    }

    /// A file whose content the kernel makes as it is read.
    fn made(&mut self, opened: OwnedFd, stat: &Stat, path: &[u8]) -> Result<bool, ArchiveError> {
        let mut text = Vec::new();
        let file = File::from(opened.try_clone().map_err(|error| failed("open", path)(errno(&error)))?);
        file.take(MADE_MAX).read_to_end(&mut text).map_err(|error| failed("read", path)(errno(&error)))?;
        let size = text.len() as u64;
        self.head(&opened, stat, path, Entry::File { size })?;
        self.tar.content(&text[..], size).map_err(ArchiveError::Output)?;
        self.packed.bytes += size;
        Ok(true)
    }

    fn content(&mut self, file: &mut File, path: &[u8], length: u64) -> Result<(), ArchiveError> {
        let mut block = vec![0; usize::try_from(length).unwrap_or(usize::MAX).clamp(1, 256 << 10)];
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
            let count = match file.read(&mut block[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(|error| failed("read", path)(errno(&error)))?,
            };
            if count == 0 {
                // The head has said how long it is.
                self.packed.changed.push(shown(path));
                let zeros = io::repeat(0).take(left);
                io::copy(&mut { zeros }, self.tar.output()).map_err(ArchiveError::Output)?;
                return Ok(());
            }
            self.tar.output().write_all(&block[..count]).map_err(ArchiveError::Output)?;
            (self.progress)(count as u64);
            self.packed.bytes += count as u64;
            left -= count as u64;
        }
        Ok(())
    }

    fn head(&mut self, opened: &OwnedFd, stat: &Stat, path: &[u8], entry: Entry) -> Result<(), ArchiveError> {
        let xattrs = match entry {
            Entry::Hardlink(_) => Vec::new(),
            _ => inside(opened, self.ids).map_err(failed("read the attributes of", path))?,
        };
        let head = Head {
            path: path.to_vec(),
            entry,
            mode: stat.st_mode & 0o7777,
            uid: self.ids.inside(stat.st_uid).unwrap_or(NOBODY),
            gid: self.ids.inside(stat.st_gid).unwrap_or(NOBODY),
            seconds: stat.st_mtime,
            nanoseconds: stat.st_mtime_nsec as u32,
            xattrs,
        };
        self.packed.members += 1;
        self.tar.head(&head).map_err(ArchiveError::Output)
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn is_kernels_own(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|look| KERNELS_OWN.contains(&(look.f_type as u64)))
}
