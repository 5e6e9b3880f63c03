//! Files of a layout or an archive by name, in any order: in a folder, where they lie in a tar, or on a server.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Cursor, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::remote::{Remote, Wanted};
use crate::image::config::Descriptor;
use crate::image::digest::Digest;
use crate::image::error::{Doing, ImageError, input_error};
use crate::image::members::{Kind, Members, Skip};
use crate::image::store::DOCUMENT_MAX;

/// The most members of an archive of blobs: three for each of 500 layers of some images, and folders. Their
/// names are kept in memory.
const MEMBERS_MAX: usize = 20_000;

/// What holds the blobs.
pub(super) struct Blobs<'a> {
    what: String,
    place: Place<'a>,
}

enum Place<'a> {
    Folder(PathBuf),
    Archive { file: File, members: BTreeMap<String, Found> },
    Remote(&'a dyn Remote),
}

enum Found {
    /// Where its bytes are.
    At(u64, u64),
    /// The same as another; `docker save` wrote repeated layers as links.
    Link(String),
}

impl<'a> Blobs<'a> {
    pub(super) fn folder(path: &Path) -> Result<Self, ImageError> {
        let path = path.canonicalize().doing("open", path)?;
        Ok(Self { what: path.display().to_string(), place: Place::Folder(path) })
    }

    /// Finds the members of a tar; their contents are passed over.
    pub(super) fn archive(what: &str, file: File) -> Result<Self, ImageError> {
        let failed = |error| input_error(what, error);
        let mut start = file.try_clone().map_err(failed)?;
        io::Seek::rewind(&mut start).map_err(failed)?;
        let mut reader = Members::new(BufReader::with_capacity(1 << 14, start));
        let mut members = BTreeMap::new();
        while let Some(member) = reader.next().map_err(failed)? {
            let path = normal(&String::from_utf8_lossy(&member.path));
            let target = String::from_utf8_lossy(&member.target).into_owned();
            let found = match member.kind {
                Kind::File if member.pieces.is_none() => Found::At(member.position, member.size),
                Kind::Hardlink => Found::Link(normal(&target)),
                Kind::Symlink => {
                    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
                    Found::Link(normal(&format!("{above}/{target}")))
                }
                _ => continue,
            };
            members.insert(path, found);
            if members.len() > MEMBERS_MAX {
                let why = format!("has more than {MEMBERS_MAX} members, so it is no archive of an image");
                return Err(ImageError::Malformed { what: what.to_owned(), why });
            }
        }
        Ok(Self { what: what.to_owned(), place: Place::Archive { file, members } })
    }

    pub(super) fn remote(what: &str, remote: &'a dyn Remote) -> Self {
        Self { what: what.to_owned(), place: Place::Remote(remote) }
    }

    /// A small blob: a manifest, an index or a config. Its digest is the caller's to check.
    pub(super) fn small(&self, descriptor: &Descriptor, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        match &self.place {
            Place::Remote(remote) => remote.small(descriptor, digest),
            _ => self.document(&in_layout(digest)),
        }
    }

    /// These layers will be opened, in this order.
    pub(super) fn begin(&self, layers: &[Wanted]) {
        if let Place::Remote(remote) = &self.place {
            remote.begin(layers);
        }
    }

    /// A layer's bytes; nothing where it has come into the store by another way, so that one should look again.
    pub(super) fn layer(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, ImageError> {
        match &self.place {
            Place::Remote(remote) => remote.open(digest),
            _ => Ok(Some(self.open(&in_layout(digest))?.0)),
        }
    }

    /// What to do about an error of unpacking a layer: it is the answer, unless that is worth another try.
    pub(super) fn again(&self, digest: &Digest, error: ImageError) -> Result<(), ImageError> {
        match &self.place {
            Place::Remote(remote) => remote.again(digest, error),
            _ => Err(error),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match &self.place {
            Place::Folder(folder) => folder.join(name).is_file(),
            Place::Archive { members, .. } => members.contains_key(name),
            Place::Remote(_) => false,
        }
    }

    /// The bytes under a name, and how many there are.
    pub(super) fn open(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64), ImageError> {
        let name = normal(name);
        let missing = || ImageError::Malformed {
            what: self.what.clone(),
            why: format!("doesn't hold `{name}`, which it needs"),
        };
        match &self.place {
            Place::Folder(folder) => {
                let path = folder.join(&name);
                // Not blocking on a pipe that somebody put there.
                let opened = OpenOptions::new()
                    .read(true)
                    .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
                    .open(&path);
                let file = match opened {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
                    other => other.doing("open", &path)?,
                };
                let metadata = file.metadata().doing("look at", &path)?;
                if !metadata.is_file() {
                    return Err(missing());
                }
                Ok((Box::new(file), metadata.len()))
            }
            Place::Archive { file, members } => {
                let mut found = members.get(&name).ok_or_else(missing)?;
                if let Found::Link(target) = found {
                    found = members.get(target).ok_or_else(missing)?;
                }
                let Found::At(offset, size) = *found else { return Err(missing()) };
                let file = file.try_clone().doing("open", &self.what)?;
                Ok((Box::new(Part { file, offset, left: size }), size))
            }
            Place::Remote(remote) => {
                let bytes = remote.named(&name)?;
                let size = bytes.len() as u64;
                Ok((Box::new(Cursor::new(bytes)), size))
            }
        }
    }

    /// A small file, whole.
    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (reader, size) = self.open(name)?;
        if size > DOCUMENT_MAX {
            return Err(ImageError::Malformed {
                what: self.what.clone(),
                why: format!("has `{name}` of {size} bytes; {DOCUMENT_MAX} fit"),
            });
        }
        let mut bytes = Vec::new();
        reader.take(DOCUMENT_MAX).read_to_end(&mut bytes).map_err(|error| input_error(&self.what, error))?;
        Ok(bytes)
    }
}

/// Where a layout has a blob (OCI image layout, "Blobs").
fn in_layout(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A path within the archive without `.`, `..` and doubled slashes.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Skip for BufReader<File> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        self.seek_relative(i64::try_from(count).map_err(|_| io::ErrorKind::UnexpectedEof)?)
    }
}

impl Skip for &[u8] {}

/// A member of an archive. It reads by position, so several may be open.
struct Part {
    file: File,
    offset: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.file.read_at(&mut into[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        if count == 0 && most > 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }
}

/// Tells how many bytes pass.
pub(super) struct Counting<'a, R> {
    inner: R,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a, R> Counting<'a, R> {
    pub(super) fn new(inner: R, progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { inner, progress }
    }
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        (self.progress)(count as u64);
        Ok(count)
    }
}

/// Writes an archive that can't be read where it is to a file of the staging directory.
pub(super) fn spool(what: &str, mut input: impl Read, staging: &Path) -> Result<File, ImageError> {
    let path = staging.join("spool");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .doing("make", &path)?;
    // It goes when it is closed; the sync before the commit needn't write it to the disk then.
    std::fs::remove_file(&path).doing("remove", &path)?;
    let mut block = vec![0; 256 << 10];
    loop {
        match input.read(&mut block) {
            Ok(0) => return Ok(file),
            Ok(count) => file.write_all(&block[..count]).doing("write", &path)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(input_error(what, error)),
        }
    }
}
