//! What a layer's tree holds, written down beside it while it is unpacked.
//!
//! `manifest` is a log of lines; a later line about a path replaces the earlier ones, and `-` takes the path
//! away with everything below it. Fields are separated by one space and escaped by percent signs:
//!
//! ```text
//! d MODE UID GID SECONDS.NANOSECONDS PATH              directory
//! i PATH                                               directory that the layer leaves to be made: 0755 0 0 0.0
//! f MODE UID GID SECONDS.NANOSECONDS SIZE SHA256 PATH  regular file
//! l MODE UID GID SECONDS.NANOSECONDS TARGET PATH       symbolic link
//! p MODE UID GID SECONDS.NANOSECONDS PATH              named pipe
//! h TARGET PATH                                        hard link to an earlier path
//! x NAME VALUE-IN-HEX PATH                             extended attribute
//! w PATH                                               whiteout
//! o PATH                                               opaque directory
//! - PATH                                               replaced or dropped
//! ```
//!
//! `summary` is one JSON object with the counts, so that a list of images needn't read all that.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error::{Doing, ImageError};
use super::escape::{field, unescape};

/// The counts of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Members of the tar.
    pub entries: u64,
    /// Bytes of the contents of its files.
    pub bytes: u64,
    /// Bytes of the uncompressed tar.
    pub tar_bytes: u64,
    /// Bytes that its tree takes on the disk; 0 where nobody has counted.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Paths of lower layers that it hides, opaque directories included.
    pub whiteouts: u64,
    /// Whiteouts that hide nothing and were left out.
    pub dropped_whiteouts: u64,
    /// Device nodes, which are left out.
    pub devices: u64,
    /// Extended attributes that are left out: overlayfs's own and the host's labels.
    pub attributes: u64,
    /// Files, or folders of them, that a later member of the same tar replaces.
    #[serde(default)]
    pub replaced: u64,
}

impl Summary {
    /// Of a layer's directory.
    pub(crate) fn read(layer: &Path) -> Result<Self, ImageError> {
        let path = layer.join("summary");
        let bytes = std::fs::read(&path).doing("read", &path)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ImageError::Damaged { path, why: format!("is not what it should be: {error}") })
    }

    pub(crate) fn write(&self, layer: &Path) -> Result<(), ImageError> {
        let path = layer.join("summary");
        let bytes = serde_json::to_vec(self).map_err(io::Error::from).doing("write", &path)?;
        super::store::write_file(&path, &bytes)
    }
}

/// Mode, owner and time of modification, as a line has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// How a directory looks that a layer leaves to be made, as `tar` makes it.
pub(crate) const IMPLIED: Attributes = Attributes { mode: 0o755, uid: 0, gid: 0, seconds: 0, nanoseconds: 0 };

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Directory(Attributes, Vec<u8>),
    Implied(Vec<u8>),
    File { attributes: Attributes, size: u64, digest: Digest, path: Vec<u8> },
    Symlink { attributes: Attributes, target: Vec<u8>, path: Vec<u8> },
    Pipe(Attributes, Vec<u8>),
    Hardlink { target: Vec<u8>, path: Vec<u8> },
    Xattr { name: Vec<u8>, value: Vec<u8>, path: Vec<u8> },
    Whiteout(Vec<u8>),
    Opaque(Vec<u8>),
    Gone(Vec<u8>),
}

impl Line {
    fn text(&self) -> String {
        let common =
            |a: &Attributes| format!("{:04o} {} {} {}.{:09}", a.mode, a.uid, a.gid, a.seconds, a.nanoseconds);
        match self {
            Self::Directory(a, path) => format!("d {} {}\n", common(a), field(path)),
            Self::Implied(path) => format!("i {}\n", field(path)),
            Self::File { attributes, size, digest, path } => {
                format!("f {} {size} {} {}\n", common(attributes), digest.hex(), field(path))
            }
            Self::Symlink { attributes, target, path } => {
                format!("l {} {} {}\n", common(attributes), field(target), field(path))
            }
            Self::Pipe(a, path) => format!("p {} {}\n", common(a), field(path)),
            Self::Hardlink { target, path } => format!("h {} {}\n", field(target), field(path)),
            Self::Xattr { name, value, path } => {
                let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("x {} {value} {}\n", field(name), field(path))
            }
            Self::Whiteout(path) => format!("w {}\n", field(path)),
            Self::Opaque(path) => format!("o {}\n", field(path)),
            Self::Gone(path) => format!("- {}\n", field(path)),
        }
    }

    /// The line that a text of [`Line::text`] stands for.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.strip_suffix('\n').unwrap_or(text).split(' ');
        let kind = fields.next()?;
        let mut attributes = Attributes::default();
        if matches!(kind, "d" | "f" | "l" | "p") {
            attributes.mode = u32::from_str_radix(fields.next()?, 8).ok()?;
            attributes.uid = fields.next()?.parse().ok()?;
            attributes.gid = fields.next()?.parse().ok()?;
            let (seconds, nanoseconds) = fields.next()?.split_once('.')?;
            attributes.seconds = seconds.parse().ok()?;
            attributes.nanoseconds = nanoseconds.parse().ok()?;
        }
        let mut name = || unescape(fields.next()?);
        let line = match kind {
            "d" => Self::Directory(attributes, name()?),
            "i" => Self::Implied(name()?),
            "f" => {
                let size = fields.next()?.parse().ok()?;
                let digest = Digest::from_hex(fields.next()?).ok()?;
                Self::File { attributes, size, digest, path: unescape(fields.next()?)? }
            }
            "l" => Self::Symlink { attributes, target: name()?, path: name()? },
            "p" => Self::Pipe(attributes, name()?),
            "h" => Self::Hardlink { target: name()?, path: name()? },
            "x" => {
                let attribute = name()?;
                let hex = fields.next()?;
                let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
                let value = (0..hex.len()).step_by(2).map(byte).collect::<Option<_>>()?;
                Self::Xattr { name: attribute, value, path: unescape(fields.next()?)? }
            }
            "w" => Self::Whiteout(name()?),
            "o" => Self::Opaque(name()?),
            "-" => Self::Gone(name()?),
            _ => return None,
        };
        fields.next().is_none().then_some(line)
    }
}

/// Writes a layer's manifest.
pub(crate) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Writer {
    /// `manifest` in a layer's directory.
    pub(crate) fn create(layer: &Path) -> Result<Self, ImageError> {
        let path = layer.join("manifest");
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        Ok(Self { file: BufWriter::with_capacity(1 << 16, file.doing("make", &path)?), path })
    }

    pub(crate) fn add(&mut self, line: &Line) -> Result<(), ImageError> {
        self.file.write_all(line.text().as_bytes()).doing("write", &self.path)
    }

    pub(crate) fn flush(&mut self) -> Result<(), ImageError> {
        self.file.flush().doing("write", &self.path)
    }

    /// What was written and flushed so far.
    pub(crate) fn lines(&self) -> Result<impl Iterator<Item = Result<Line, ImageError>>, ImageError> {
        read(&self.path)
    }
}

/// The lines of a manifest, one at a time: a layer may have a million.
pub(crate) fn read(
    path: &Path,
) -> Result<impl Iterator<Item = Result<Line, ImageError>> + use<>, ImageError> {
    let file = BufReader::with_capacity(1 << 16, File::open(path).doing("open", path)?);
    let path = path.to_owned();
    Ok(file.lines().map(move |line| {
        let line = line.doing("read", &path)?;
        Line::parse(&line).ok_or_else(|| ImageError::Damaged {
            path: path.clone(),
            why: format!("has the line `{line}`, which means nothing"),
        })
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(1u8.., 1..20)
    }

    proptest! {
        #[test]
        fn lines_come_back(
            path in name(), target in name(), value in proptest::collection::vec(any::<u8>(), 0..9),
            mode in 0u32..0o10000, ids in any::<(u32, u32)>(), seconds in any::<i64>(),
            nanoseconds in 0u32..1_000_000_000, size in any::<u64>(),
        ) {
            let attributes = Attributes { mode, uid: ids.0, gid: ids.1, seconds, nanoseconds };
            let digest = Digest::of(&path);
            for line in [
                Line::Directory(attributes, path.clone()),
                Line::Implied(path.clone()),
                Line::File { attributes, size, digest, path: path.clone() },
                Line::Symlink { attributes, target: target.clone(), path: path.clone() },
                Line::Pipe(attributes, path.clone()),
                Line::Hardlink { target: target.clone(), path: path.clone() },
                Line::Xattr { name: target, value, path: path.clone() },
                Line::Whiteout(path.clone()),
                Line::Opaque(path.clone()),
                Line::Gone(path),
            ] {
                let text = line.text();
                prop_assert_eq!(text.matches('\n').count(), 1);
                prop_assert_eq!(Line::parse(&text), Some(line));
            }
        }
    }
}
