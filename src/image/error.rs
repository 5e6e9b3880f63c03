//! What can go wrong with images, in words for the person who typed the command.

use std::io;
use std::path::{Path, PathBuf};

use crate::tree::TreeError;

/// Why the store or an import refused. The cause, where there is one, is in `source()`.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No such reference or digest.
    #[error("image {reference} is not in the store; import it with `wharf image import`{}", similar_text(.similar))]
    Missing {
        /// What was asked for.
        reference: String,
        /// References of the store that look like it, the best first.
        similar: Vec<String>,
    },
    /// The kernel refused something.
    #[error("can't {doing} {}", .path.display())]
    Io {
        /// A verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// ENOSPC and EDQUOT.
    #[error("the file system of {} is full; nothing was changed", .path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// EROFS.
    #[error("the file system of {} is read-only; nothing was changed; mount it writable first", .path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A file of the store isn't what it was when it was written.
    #[error("the store is damaged: {path} {why}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The input ends in the middle.
    #[error("{what} is cut short")]
    Truncated {
        /// Which input or which part of it.
        what: String,
    },
    /// The input can't be read or decompressed.
    #[error("can't read {what}")]
    Input {
        /// Which input or which part of it.
        what: String,
        /// What the reader or the decompressor said.
        source: io::Error,
    },
    /// Bytes that aren't those their digest promises.
    #[error(
        "{what} has the digest {found}, but {expected} was promised: it was changed or damaged on the way"
    )]
    Digest {
        /// Which blob or layer.
        what: String,
        /// What the image says.
        expected: String,
        /// What the bytes say.
        found: String,
    },
    /// Something that isn't a part of a container image.
    #[error("{what} has the media type `{found}`, which is not {wanted}")]
    MediaType {
        /// Which descriptor or file.
        what: String,
        /// Its media type.
        found: String,
        /// What may stand there.
        wanted: &'static str,
    },
    /// An archive or document that doesn't have the form it must have.
    #[error("{what} {why}")]
    Malformed {
        /// Which part.
        what: String,
        /// A sentence about it, from the verb on.
        why: String,
    },
    /// A member of a layer that no honest image has, or that can't be unpacked faithfully.
    #[error("the member `{member}` of {what} {why}")]
    Member {
        /// Its name, escaped.
        member: String,
        /// Which layer or archive.
        what: String,
        /// A sentence about it, from the verb on.
        why: String,
        /// The kernel's word, if it was the kernel that refused.
        source: Option<io::Error>,
    },
    /// The image is for other kinds of machines only.
    #[error("{what} has no image for {wanted}; it has {offered}")]
    Platform {
        /// Which input.
        what: String,
        /// The platform that was asked for, or this machine's.
        wanted: String,
        /// The platforms there are.
        offered: String,
    },
    /// A layer that was unpacked by a version of Wharf that kept no frames.
    #[error(
        "the archive of layer {layer} can't be written again: it was imported by an older version of Wharf; import \
         its image once more, from where it came"
    )]
    NoFrame {
        /// Its diff id.
        layer: String,
    },
    /// What is written can't be written to where it goes.
    #[error("can't write the output")]
    Output {
        /// The kernel's word.
        source: io::Error,
    },
    /// A file that got shorter in the meantime.
    #[error("the file `{path}` was changed while it was read; try again when nothing writes to it")]
    Changed {
        /// Its path in the tree.
        path: String,
    },
    /// The command line leaves open what was meant.
    #[error("{0}")]
    Unclear(String),
    /// A layer is mounted somewhere.
    #[error("image {0} is in use by a running container; stop it first")]
    InUse(String),
    /// What this host trusts doesn't include it.
    #[error(transparent)]
    Refused(Box<dyn std::error::Error + Send + Sync>),
    /// What another room fetches from couldn't give it.
    #[error(transparent)]
    Remote(Box<dyn std::error::Error + Send + Sync>),
    /// A walk through a directory failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn similar_text(similar: &[String]) -> String {
    match similar {
        [] => String::new(),
        [one] => format!(" (there is {one})"),
        [first @ .., last] => format!(" (there are {} and {last})", first.join(", ")),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Adds to an I/O error what was being done, and to what.
pub(crate) trait Doing<T> {
    /// `doing` is a verb: "open", "make the directory".
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, ImageError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T, ImageError> {
        self.map_err(|error| {
            let (path, source) = (path.as_ref().to_owned(), error.into());
            if is_full(&source) {
                ImageError::Full { path, source }
            } else if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
                ImageError::ReadOnly { path, source }
            } else {
                ImageError::Io { doing, path, source }
            }
        })
    }
}

/// Whether the kernel says that there is no room left, on the disk or in somebody's quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// An error of reading an input: its end in the middle has a variant of its own.
pub(crate) fn input_error(what: &str, source: io::Error) -> ImageError {
    if source.kind() == io::ErrorKind::UnexpectedEof {
        ImageError::Truncated { what: what.to_owned() }
    } else {
        ImageError::Input { what: what.to_owned(), source }
    }
}
