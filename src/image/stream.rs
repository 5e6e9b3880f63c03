//! From the bytes of a file to the bytes of a tar: hashed as they are read, decompressed, hashed again, and
//! handed to the thread that unpacks. Two threads, so that reading, decompressing and hashing overlap with
//! writing; a few blocks between them, so that memory stays bounded.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::digest::{Digest, Hasher, HashingReader};
use super::error::{ImageError, input_error};
use super::members::Skip;

/// The size of the blocks between the threads: large enough that handing one over costs nothing, small
/// enough that all of them stay in a processor's cache.
const BLOCK: usize = 256 << 10;

/// How many blocks may wait.
const BLOCKS: usize = 16;

/// What an xz decoder may take: 64 MiB is `xz -9`'s dictionary, and no archive needs more.
const XZ_MEMORY: u64 = 128 << 20;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
}

/// By the first bytes, never by a name.
pub(crate) fn compression(first: &[u8]) -> Compression {
    match first {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    }
}

/// An input whose first bytes were looked at.
pub(crate) type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// Reads the first bytes without losing them.
pub(crate) fn peek<R: Read>(mut input: R, count: usize) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut first = Vec::new();
    input.by_ref().take(count as u64).read_to_end(&mut first)?;
    Ok((first.clone(), Cursor::new(first).chain(input)))
}

/// A reader of what is compressed in `input`, or of `input` itself.
pub(crate) fn decompressor<'input>(
    input: impl Read + Send + 'input,
) -> io::Result<Box<dyn Read + Send + 'input>> {
    Ok(told(input)?.1)
}

/// As [`decompressor`], with what it is that is decompressed.
fn told<'input>(
    input: impl Read + Send + 'input,
) -> io::Result<(Compression, Box<dyn Read + Send + 'input>)> {
    let (first, input) = peek(input, 6)?;
    let buffered = |input| BufReader::with_capacity(BLOCK, input);
    let how = compression(&first);
    let plain: Box<dyn Read + Send + 'input> = match how {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(input))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered(input))?),
        Compression::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                    .map_err(io::Error::from)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered(input), stream))
        }
    };
    Ok((how, plain))
}

/// Below this many bytes a ratio says nothing: they do no harm, and a small file of zeros is nobody's attack.
const RATIO_FLOOR: u64 = 1 << 30;

/// The input of a decompression bomb.
#[derive(Debug, thiserror::Error)]
#[error(
    "it unpacks to more than {ratio} bytes for each that was read, which only decompression bombs do; if you trust it, raise `ratio` under [unpack] in wharf.toml"
)]
struct Bomb {
    ratio: u64,
}

/// As [`decompressor`], with an end to how much may come out for each byte that went in (`ratio` of
/// [`crate::settings::Unpack`]).
pub(crate) fn bounded<'input>(
    input: impl Read + Send + 'input,
    ratio: u64,
) -> io::Result<Box<dyn Read + Send + 'input>> {
    Ok(Box::new(Bounded::new(input, ratio, RATIO_FLOOR)?))
}

/// Counts what comes out, and what went in for it.
struct Bounded<'input> {
    compression: Compression,
    inner: Box<dyn Read + Send + 'input>,
    went_in: Arc<AtomicU64>,
    came_out: u64,
    ratio: u64,
    floor: u64,
}

impl<'input> Bounded<'input> {
    fn new(input: impl Read + Send + 'input, ratio: u64, floor: u64) -> io::Result<Self> {
        let went_in = Arc::new(AtomicU64::new(0));
        let (compression, inner) = told(Counted { inner: input, count: Arc::clone(&went_in) })?;
        Ok(Self { compression, inner, went_in, came_out: 0, ratio, floor })
    }
}

impl Read for Bounded<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.came_out += count as u64;
        // A decompressor reads ahead, so this errs on the side of what is read.
        let most = self.went_in.load(Ordering::Relaxed).saturating_mul(self.ratio);
        if self.came_out > self.floor && self.came_out > most {
            return Err(io::Error::other(Bomb { ratio: self.ratio }));
        }
        Ok(count)
    }
}

struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// What passed through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// The digest of the uncompressed tar.
    pub(crate) diff_id: Digest,
    pub(crate) tar_bytes: u64,
}

/// Runs `consume` on what `input` decompresses to, `ratio` bytes at most for each of its own. All of the input is read and hashed, also what lies
/// behind the end of the archive.
///
/// # Errors
/// Where `expected` is given and the input isn't what it promises, that and nothing else is the error: what
/// a damaged input does to a decompressor or a parser helps nobody.
pub(crate) fn pass<T>(
    what: &str,
    input: impl Read + Send,
    expected: Option<(Digest, u64)>,
    ratio: u64,
    consume: impl FnOnce(&mut Blocks) -> Result<T, ImageError>,
) -> Result<(T, Passed), ImageError> {
    // Where nobody knows what the blob's digest should be, only the tar's counts.
    let mut input = HashingReader::new(input, expected.is_some());
    let (full_tx, full) = sync_channel(BLOCKS);
    let (empty, empty_rx) = channel();
    let mut blocks = Blocks { full, empty, block: Vec::new(), used: 0, ended: false };
    let (result, passed) = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("read".to_owned()).spawn_scoped(scope, move || {
            let hashed = produce(&mut input, ratio, &full_tx, &empty_rx);
            drop(full_tx);
            if hashed.is_some() || expected.is_some() {
                // What lies behind the compressed data belongs to the blob, too.
                let _ = input.drain();
            }
            let (blob, blob_bytes) = input.finish();
            (hashed, blob, blob_bytes)
        });
        let result = consume(&mut blocks).and_then(|value| {
            blocks.skip_all().map_err(|error| input_error(what, error))?;
            Ok(value)
        });
        // A reader that still has something to hand over sees that nobody wants it.
        drop(blocks);
        let passed = reader.map(|reader| reader.join());
        (result, passed)
    });
    let (hashed, blob, blob_bytes) = match passed {
        Ok(Ok(passed)) => passed,
        Ok(Err(_)) => {
            return Err(input_error(what, io::Error::other("the reading thread stopped unexpectedly")));
        }
        Err(error) => return Err(input_error(what, error)),
    };
    if let Some((digest, bytes)) = expected {
        if blob_bytes < bytes {
            return Err(ImageError::Truncated { what: what.to_owned() });
        }
        if let Some(found) = blob.filter(|blob| *blob != digest) {
            return Err(ImageError::Digest {
                what: what.to_owned(),
                expected: digest.to_string(),
                found: found.to_string(),
            });
        }
    }
    let value = result?;
    let Some((diff_id, tar_bytes)) = hashed.and_then(|(digest, bytes)| Some((digest.or(blob)?, bytes)))
    else {
        return Err(ImageError::Truncated { what: what.to_owned() });
    };
    Ok((value, Passed { diff_id, tar_bytes }))
}

/// The reading thread: the tar's digest, and how many bytes it has. The digest is left to `input` where that hashes
/// the same bytes. Nothing is returned when it couldn't go to the end; the other side has the reason.
fn produce<R: Read + Send>(
    input: &mut HashingReader<R>,
    ratio: u64,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> Option<(Option<Digest>, u64)> {
    let hashes = input.hashes();
    let mut tar = match Bounded::new(input, ratio, RATIO_FLOOR) {
        Ok(tar) => tar,
        Err(error) => {
            let _ = full.send(Err(error));
            return None;
        }
    };
    let is_hashed = hashes && tar.compression == Compression::None;
    let (mut hasher, mut bytes) = ((!is_hashed).then(Hasher::default), 0);
    loop {
        let mut block = empty.try_recv().unwrap_or_default();
        block.resize(BLOCK, 0);
        let mut filled = 0;
        while filled < BLOCK {
            match tar.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let _ = full.send(Err(error));
                    return None;
                }
            }
        }
        if filled == 0 {
            return Some((hasher.map(Hasher::finish), bytes));
        }
        block.truncate(filled);
        if let Some(hasher) = &mut hasher {
            hasher.update(&block);
        }
        bytes += filled as u64;
        full.send(Ok(block)).ok()?;
    }
}

/// The blocks as the unpacking thread reads them.
pub(crate) struct Blocks {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    block: Vec<u8>,
    used: usize,
    ended: bool,
}

impl Blocks {
    fn skip_all(&mut self) -> io::Result<()> {
        loop {
            let there = self.fill_buf()?.len();
            if there == 0 {
                return Ok(());
            }
            self.consume(there);
        }
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.block.len() && !self.ended {
            // The reader may be gone by now; then the block is just freed.
            let _ = self.empty.send(std::mem::take(&mut self.block));
            self.used = 0;
            match self.full.recv() {
                Ok(block) => self.block = block?,
                Err(_) => self.ended = true,
            }
        }
        Ok(&self.block[self.used..])
    }

    fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.block.len());
    }
}

impl Read for Blocks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let count = there.len().min(into.len());
        into[..count].copy_from_slice(&there[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl Skip for &mut Blocks {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_are_stopped_and_nothing_else() {
        let zeros = zstd::encode_all(io::repeat(0).take(32 << 20), 1).expect("compressed");
        let read = |bytes: &[u8], ratio, floor| {
            io::copy(&mut Bounded::new(bytes, ratio, floor).expect("a reader"), &mut io::sink())
        };
        let error = read(&zeros, 1_000, 1 << 20).expect_err("a bomb").to_string();
        assert!(
            error.contains("more than 1000 bytes") && error.contains("`ratio` under [unpack]"),
            "{error}"
        );
        assert_eq!(read(&zeros, 1_000, 64 << 20).ok(), Some(32 << 20));
        assert_eq!(read(&zeros, 1 << 20, 0).ok(), Some(32 << 20));
        let plain = vec![7; 1 << 20];
        assert_eq!(read(&plain, 1, 0).ok(), Some(1 << 20));
    }
}
