//! A tree as a tar.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, fstatfs, open, openat, readlinkat};
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

/// A folder that is being gone through.
struct Level {
    folder: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
    path: Vec<u8>,
    device: u64,
}

/// What there is under a name.
enum Found {
    /// Nothing, or nothing any more.
    Nothing,
    /// A folder, which is still to be packed.
    Folder(OwnedFd, Stat),
    /// Something that is done with.
    Done,
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

/// The size of a file in sysfs, in bytes, on most machines.
const PAGE: u64 = 4096;

/// The most bytes of the extended attributes of one file. They and its name are in one header, of which those who read
/// archives take 1 MiB (`EXTENSION_MAX` of `image/members.rs`); a file system may have more.
const ATTRIBUTES_MAX: usize = 768 << 10;

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
        let own = folder.try_clone().map_err(|error| failed("open", path)(errno(&error)))?;
        self.walk(own, &stat, path.to_vec())
    }

    /// What has this name in a folder, with all that is in it, as `path`.
    ///
    /// # Errors
    /// See [`ArchiveError`]; nothing of this name is one.
    pub fn named(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), ArchiveError> {
        match self.one(parent, name, path, None)? {
            Found::Nothing => return Err(failed("open", path)(Errno::NOENT)),
            Found::Folder(folder, stat) => self.walk(folder, &stat, path.to_vec())?,
            Found::Done => {}
        }
        if self.packed.members == 0 {
            // It was asked for, and nothing else.
            let why = self.packed.left_out.pop().unwrap_or_default();
            return Err(ArchiveError::LeftOut(why));
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(self) -> Result<Packed, ArchiveError> {
        self.tar.finish().map_err(ArchiveError::Output)?;
        Ok(self.packed)
    }

    /// All below a folder. Not by recursion: who makes a tree deep mustn't have this run out of its stack.
    fn walk(&mut self, folder: OwnedFd, stat: &Stat, path: Vec<u8>) -> Result<(), ArchiveError> {
        let mut levels = vec![self.level(folder, stat, path)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let path = join(&level.path, &name);
            // What is gone by now is as if it had never been there.
            let found = self.one(&level.folder, &name, &path, Some(level.device))?;
            if let Found::Folder(folder, stat) = found {
                if levels.len() > DEPTH_MAX {
                    return Err(failed("go down to", &path)(Errno::NAMETOOLONG));
                }
                levels.push(self.level(folder, &stat, path)?);
            }
        }
        Ok(())
    }

    /// A folder itself, and what is in it.
    fn level(&mut self, folder: OwnedFd, stat: &Stat, path: Vec<u8>) -> Result<Level, ArchiveError> {
        if self.avoid == Some((stat.st_dev, stat.st_ino)) {
            let why = "is where the copy goes to: a folder can't be copied into itself".to_owned();
            return Err(ArchiveError::Member { path, why });
        }
        self.head(&folder, stat, &path, Entry::Directory)?;
        let names = match names(&folder) {
            // Of a folder that was just removed (getdents(2)).
            Err(Errno::NOENT) => Vec::new(),
            other => other.map_err(failed("read", &path))?,
        };
        Ok(Level { folder, names: names.into_iter(), path, device: stat.st_dev })
    }

    /// What has this name; all but a folder is packed then.
    fn one(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        device: Option<u64>,
    ) -> Result<Found, ArchiveError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            other => other.map_err(failed("open", path))?,
        };
        let stat = fstat(&opened).map_err(failed("look at", path))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            // What was looked at, and not what has taken its name since.
            let read = openat(&opened, c".", READ | OFlags::DIRECTORY, Mode::empty());
            let folder = match read {
                Err(Errno::NOENT) => return Ok(Found::Nothing),
                other => other.map_err(failed("open", path))?,
            };
            if device.is_some_and(|above| above != stat.st_dev) && is_kernels_own(&folder) {
                let why = format!("{}: it is a file system of the kernel's own", shown(path));
                self.packed.left_out.push(why);
                return Ok(Found::Done);
            }
            return Ok(Found::Folder(folder, stat));
        }
        let what = match kind {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => None,
            FileType::Socket => Some("a socket, which is nothing without its process"),
            _ => Some("a device"),
        };
        if let Some(what) = what {
            self.packed.left_out.push(format!("{}: it is {what}", shown(path)));
            return Ok(Found::Done);
        }
        if stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&file) {
                let entry = Entry::Hardlink(first.clone());
                self.head(&opened, &stat, path, entry)?;
                return Ok(Found::Done);
            }
            if kind != FileType::RegularFile {
                self.linked.insert(file, path.to_vec());
            }
        }
        match kind {
            FileType::Symlink => {
                let target = readlinkat(&opened, "", Vec::new()).map_err(failed("read the link", path))?;
                self.head(&opened, &stat, path, Entry::Symlink(target.into_bytes()))?;
            }
            FileType::Fifo => self.head(&opened, &stat, path, Entry::Pipe)?,
            _ => return self.file(&opened, path),
        }
        Ok(Found::Done)
    }

    /// A regular file.
    fn file(&mut self, looked_at: &OwnedFd, path: &[u8]) -> Result<Found, ArchiveError> {
        // By its descriptor: under its name there may be a device by now, and to open one can do something.
        let own = format!("/proc/self/fd/{}", looked_at.as_raw_fd());
        let flags = READ.difference(OFlags::NOFOLLOW);
        // What is copied may not look as if it had been used, where the kernel lets this be asked for.
        let opened = match open(&own, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => open(&own, flags, Mode::empty()),
            other => other,
        };
        let opened = match opened {
            // Of a process that has ended, in /proc.
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            other => other.map_err(failed("open", path))?,
        };
        let stat = fstat(&opened).map_err(failed("look at", path))?;
        if stat.st_nlink > 1 {
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        let size = stat.st_size as u64;
        // Of sysfs all have a page, however little is in them.
        if (size == 0 || size == PAGE) && is_kernels_own(&opened) {
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
        Ok(Found::Done)
    }

    /// A file whose content the kernel makes as it is read.
    fn made(&mut self, opened: OwnedFd, stat: &Stat, path: &[u8]) -> Result<Found, ArchiveError> {
        let mut text = Vec::new();
        let file = File::from(opened.try_clone().map_err(|error| failed("open", path)(errno(&error)))?);
        file.take(MADE_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|error| failed("read", path)(errno(&error)))?;
        let size = text.len() as u64;
        if size > MADE_MAX {
            let why = "is made by the kernel as it is read, and longer than 64 MiB; leave it out".to_owned();
            return Err(ArchiveError::Member { path: path.to_vec(), why });
        }
        self.head(&opened, stat, path, Entry::File { size })?;
        self.tar.content(&text[..], size).map_err(ArchiveError::Output)?;
        self.packed.bytes += size;
        Ok(Found::Done)
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
        let attributes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let xattrs = if attributes > ATTRIBUTES_MAX {
            self.packed
                .left_out
                .push(format!("{}: its attributes, which have {attributes} bytes", shown(path)));
            Vec::new()
        } else {
            xattrs
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
