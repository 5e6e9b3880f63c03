//! Writing a layer's tar again.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use super::{CHUNK, MAGIC, Record, bad, record};
use crate::image::digest::{Digest, Hasher};
use crate::image::error::{Doing, ImageError};
use crate::image::store::Store;

/// How much of a file is read at once.
const BLOCK: usize = 256 << 10;

/// Writes the uncompressed tar that a layer was unpacked from, and says how many bytes it has. `bottom` says
/// whether the image has the layer at its bottom, where it may have a form of its own in the store.
///
/// The digest is known when all is written: on an error, `out` has had bytes that are no layer.
///
/// # Errors
/// [`ImageError::NoFrame`] for layers of older versions; [`ImageError::Damaged`] where what was written isn't what
/// the diff id promises; [`ImageError::Output`] from `out`.
pub fn write_layer(
    store: &Store,
    diff_id: &Digest,
    bottom: bool,
    out: &mut dyn Write,
) -> Result<u64, ImageError> {
    let layer = store.layer_path(diff_id, bottom);
    let mut writer = Rebuild::open(&layer, diff_id, out)?;
    let total = writer.all()?;
    let found = writer.hasher.finish();
    if found != *diff_id {
        return Err(damaged(&layer, format!("gives the tar {found} and not {diff_id}")));
    }
    Ok(total)
}

fn damaged(path: &Path, why: impl Into<String>) -> ImageError {
    ImageError::Damaged {
        path: path.to_owned(),
        why: format!("{}; `wharf fsck` names what is wrong", why.into()),
    }
}

type Frame = zstd::stream::read::Decoder<'static, BufReader<File>>;

struct Rebuild<'a> {
    layer: PathBuf,
    frame: Frame,
    tree: OwnedFd,
    aside: Option<(OwnedFd, Asides)>,
    /// The file of the last content, since a sparse file's pieces follow one another.
    last: Option<(Vec<u8>, File)>,
    hasher: Hasher,
    total: u64,
    block: Vec<u8>,
    out: &'a mut dyn Write,
}

/// Opens a frame after its magic.
fn open_frame(path: &Path) -> io::Result<Frame> {
    let mut frame = Frame::with_buffer(BufReader::with_capacity(CHUNK, File::open(path)?))?;
    let mut magic = [0; MAGIC.len()];
    frame.read_exact(&mut magic)?;
    if magic[..7] != MAGIC[..7] {
        return Err(bad("it is no frame"));
    }
    if magic != *MAGIC {
        return Err(bad("it was written by a newer version of Wharf"));
    }
    Ok(frame)
}

impl<'a> Rebuild<'a> {
    fn open(layer: &Path, diff_id: &Digest, out: &'a mut dyn Write) -> Result<Self, ImageError> {
        let path = layer.join("frame");
        let open = |name: &str| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(CWD, layer.join(name), flags, Mode::empty())
        };
        let tree = match open("tree") {
            Err(Errno::NOENT) => return Err(damaged(layer, "has no tree")),
            other => other.doing("open", layer.join("tree"))?,
        };
        if !path.try_exists().doing("look at", &path)? {
            return Err(ImageError::NoFrame { layer: diff_id.to_string() });
        }
        let frame = read_error(&path, open_frame(&path))?;
        let aside = match open("aside") {
            Ok(aside) => Some((aside, Asides::read(&path)?)),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno).doing("open", layer.join("aside")),
        };
        Ok(Self {
            layer: layer.to_owned(),
            frame,
            tree,
            aside,
            last: None,
            hasher: Hasher::default(),
            total: 0,
            block: vec![0; BLOCK],
            out,
        })
    }

    fn all(&mut self) -> Result<u64, ImageError> {
        let path = self.layer.join("frame");
        let mut contents = 0;
        loop {
            match read_error(&path, record(&mut self.frame))? {
                Record::Bytes(bytes) => {
                    put(self.out, &bytes)?;
                    self.hasher.update(&bytes);
                    self.total += bytes.len() as u64;
                }
                Record::Content { offset, count, path } => {
                    self.content(contents, offset, count, path)?;
                    contents += 1;
                }
                // What was under this name before isn't any more.
                Record::Aside(_) => self.last = None,
                Record::End(total) if total == self.total => return Ok(total),
                Record::End(_) => return Err(damaged(&path, "doesn't have as many bytes as it says")),
            }
        }
    }

    fn content(&mut self, number: u64, mut offset: u64, count: u64, path: Vec<u8>) -> Result<(), ImageError> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != path) {
            self.last = None;
            let file = self.open_file(number, &path)?;
            self.last = Some((path, file));
        }
        let Some((path, file)) = &self.last else { return Ok(()) };
        let mut left = count;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.block.len());
            let got = match file.read_at(&mut self.block[..most], offset) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).doing("read", shown(&self.layer, path)),
            };
            if got == 0 {
                return Err(damaged(&shown(&self.layer, path), "is shorter than it was"));
            }
            put(self.out, &self.block[..got])?;
            self.hasher.update(&self.block[..got]);
            offset += got as u64;
            left -= got as u64;
        }
        self.total += count;
        Ok(())
    }

    fn open_file(&self, number: u64, path: &[u8]) -> Result<File, ImageError> {
        let moved = self.aside.as_ref().and_then(|(aside, asides)| Some((aside, asides.find(path, number)?)));
        let (below, name) = match &moved {
            Some((aside, name)) => (*aside, name.as_slice()),
            None => (&self.tree, path),
        };
        // No path of a frame leads through links, but a damaged tree may have one where a folder was.
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // Not blocking on a pipe that somebody put there.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat2(below, name, flags, Mode::empty(), inside) {
            Ok(file) => {
                let stat = fstat(&file).doing("look at", shown(&self.layer, path))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(damaged(&shown(&self.layer, path), "is no file"));
                }
                Ok(File::from(file))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                Err(damaged(&shown(&self.layer, path), "is missing"))
            }
            Err(errno) => Err(errno).doing("open", shown(&self.layer, path)),
        }
    }
}

/// A file of the tree, for messages.
fn shown(layer: &Path, path: &[u8]) -> PathBuf {
    layer.join("tree").join(String::from_utf8_lossy(path).as_ref())
}

fn put(out: &mut dyn Write, bytes: &[u8]) -> Result<(), ImageError> {
    out.write_all(bytes).map_err(|source| ImageError::Output { source })
}

/// What is wrong with a frame that can't be read.
fn read_error<T>(path: &Path, result: io::Result<T>) -> Result<T, ImageError> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged(path, "is cut short")),
        // zstd's own word for bytes that aren't its, and ours.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other) => {
            Err(damaged(path, format!("can't be understood: {error}")))
        }
        other => other.doing("read", path),
    }
}

/// What was put aside, and when: a hash of the path, how many contents came before, and the number in `aside/`.
/// Sorted. A path isn't kept itself: a hostile layer may replace four million files. Should two have the same
/// hash, the digest of the tar tells.
struct Asides(Vec<(u64, u64, u64)>);

impl Asides {
    fn read(path: &Path) -> Result<Self, ImageError> {
        let mut frame = read_error(path, open_frame(path))?;
        let (mut asides, mut contents) = (Vec::new(), 0);
        loop {
            match read_error(path, record(&mut frame))? {
                Record::Bytes(_) => {}
                Record::Content { .. } => contents += 1,
                Record::Aside(path) => asides.push((hash(&path), contents, asides.len() as u64)),
                Record::End(_) => {
                    asides.sort_unstable();
                    return Ok(Self(asides));
                }
            }
        }
    }

    /// Where the file is that was at a path when the content with this number was written: the first time after
    /// that the path, or a folder above it, was put aside.
    fn find(&self, path: &[u8], content: u64) -> Option<Vec<u8>> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let first = |end: usize| {
            let hash = hash(&path[..end]);
            let at = self.0.partition_point(|(other, before, _)| (*other, *before) <= (hash, content));
            self.0.get(at).filter(|(other, _, _)| *other == hash).map(|(_, _, number)| (*number, end))
        };
        let (number, end) = ends.chain([path.len()]).filter_map(first).min()?;
        Some([number.to_string().as_bytes(), &path[end..]].concat())
    }
}

fn hash(path: &[u8]) -> u64 {
    let digest = Digest::of(path);
    u64::from_str_radix(&digest.hex()[..16], 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_after_counts() {
        let put = |path: &[u8], contents, number| (hash(path), contents, number);
        // d/f is content 0; it is replaced; then the folder, with content 1 in it; then a new d/f, content 2.
        let mut asides = vec![put(b"d/f", 1, 0), put(b"d", 2, 1)];
        asides.sort_unstable();
        let asides = Asides(asides);
        let find = |path: &[u8], content| {
            asides.find(path, content).map(|name| String::from_utf8(name).expect("text"))
        };
        assert_eq!(find(b"d/f", 0).as_deref(), Some("0"));
        assert_eq!(find(b"d/f", 1).as_deref(), Some("1/f"));
        assert_eq!(find(b"d/f", 2), None);
        assert_eq!(find(b"e", 0), None);
    }
}
