//! From the bytes of a file to the bytes of a tar: hashed as they are read, decompressed, hashed again, and
//! handed to the thread that unpacks. Two threads, so that reading, decompressing and hashing overlap with
//! writing; a few blocks between them, so that memory stays bounded.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
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
    let (first, input) = peek(input, 6)?;
    let buffered = |input| BufReader::with_capacity(BLOCK, input);
    Ok(match compression(&first) {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(input))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered(input))?),
        Compression::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                    .map_err(io::Error::from)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered(input), stream))
        }
    })
}

/// What passed through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// The digest of the uncompressed tar.
    pub(crate) diff_id: Digest,
    pub(crate) tar_bytes: u64,
}

/// Runs `consume` on what `input` decompresses to. All of the input is read and hashed, also what lies
/// behind the end of the archive.
///
/// # Errors
/// Where `expected` is given and the input isn't what it promises, that and nothing else is the error: what
/// a damaged input does to a decompressor or a parser helps nobody.
pub(crate) fn pass<T>(
    what: &str,
    input: impl Read + Send,
    expected: Option<(Digest, u64)>,
    consume: impl FnOnce(&mut Blocks) -> Result<T, ImageError>,
) -> Result<(T, Passed), ImageError> {
    let mut input = HashingReader::new(input);
    let (full_tx, full) = sync_channel(BLOCKS);
    let (empty, empty_rx) = channel();
    let mut blocks = Blocks { full, empty, block: Vec::new(), used: 0, ended: false };
    let (result, passed) = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("read".to_owned()).spawn_scoped(scope, move || {
            let hashed = produce(&mut input, &full_tx, &empty_rx);
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
        if digest != blob {
            return Err(ImageError::Digest {
                what: what.to_owned(),
                expected: digest.to_string(),
                found: blob.to_string(),
            });
        }
    }
    let value = result?;
    let Some((diff_id, tar_bytes)) = hashed else {
        return Err(ImageError::Truncated { what: what.to_owned() });
    };
    Ok((value, Passed { diff_id, tar_bytes }))
}

/// The reading thread. Nothing is returned when it couldn't go to the end; the other side has the reason.
fn produce(
    input: &mut (impl Read + Send),
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> Option<(Digest, u64)> {
    let mut tar = match decompressor(input) {
        Ok(tar) => tar,
        Err(error) => {
            let _ = full.send(Err(error));
            return None;
        }
    };
    let (mut hasher, mut bytes) = (Hasher::default(), 0);
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
            return Some((hasher.finish(), bytes));
        }
        block.truncate(filled);
        hasher.update(&block);
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
