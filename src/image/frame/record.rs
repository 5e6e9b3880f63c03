//! Recording a frame.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zstd::stream::write::Encoder;

use super::{ASIDE, BYTES, CHUNK, CONTENT, END, MAGIC, put_number};
use crate::image::error::{Doing, ImageError};

/// The lowest: headers shrink to a twentieth by it, and an import waits for it.
const LEVEL: i32 = 1;

/// Writes the frame of one layer as its tar passes.
///
/// It is told from the midst of reading, where an error would be taken for the input's. So the first one is kept,
/// nothing is written after it, and [`Tape::check`] and [`Tape::finish`] give it.
pub(crate) struct Tape {
    path: PathBuf,
    out: Encoder<'static, BufWriter<File>>,
    /// Bytes of the tar that no record has yet.
    pending: Vec<u8>,
    /// Bytes of the tar so far.
    total: u64,
    failed: Option<io::Error>,
}

impl Tape {
    /// `frame` in a layer's directory.
    pub(crate) fn create(layer: &Path) -> Result<Self, ImageError> {
        let path = layer.join("frame");
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).doing("make", &path)?;
        let start = || -> io::Result<_> {
            let mut out = Encoder::new(BufWriter::with_capacity(CHUNK, file), LEVEL)?;
            out.include_checksum(true)?;
            out.write_all(MAGIC)?;
            Ok(out)
        };
        let out = start().doing("write", &path)?;
        Ok(Self { path, out, pending: Vec::with_capacity(CHUNK), total: 0, failed: None })
    }

    /// Bytes that are no content.
    pub(crate) fn bytes(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == CHUNK {
                self.flush();
            }
        }
    }

    /// Content, by where it lies in the tree.
    pub(crate) fn content(&mut self, path: &[u8], offset: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.total += count;
        self.flush();
        let mut record = vec![CONTENT];
        put_number(&mut record, offset);
        put_number(&mut record, count);
        self.path_record(record, path);
    }

    /// What this path named was put aside.
    pub(crate) fn aside(&mut self, path: &[u8]) {
        self.flush();
        self.path_record(vec![ASIDE], path);
    }

    fn path_record(&mut self, mut record: Vec<u8>, path: &[u8]) {
        put_number(&mut record, path.len() as u64);
        record.extend_from_slice(path);
        self.write(&record);
    }

    fn flush(&mut self) {
        if !self.pending.is_empty() {
            let mut pending = std::mem::take(&mut self.pending);
            let mut head = vec![BYTES];
            put_number(&mut head, pending.len() as u64);
            self.write(&head);
            self.write(&pending);
            pending.clear();
            self.pending = pending;
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(bytes).err();
        }
    }

    /// The first error so far.
    pub(crate) fn check(&mut self) -> Result<(), ImageError> {
        self.failed.take().map_or(Ok(()), Err).doing("write", &self.path)
    }

    /// The end of the tar.
    pub(crate) fn finish(mut self) -> Result<(), ImageError> {
        self.flush();
        let mut record = vec![END];
        put_number(&mut record, self.total);
        self.write(&record);
        self.check()?;
        let Self { out, path, .. } = self;
        out.finish().and_then(|mut file| file.flush()).doing("write", path)
    }
}
