//! What can go wrong with registries and other servers, in words for the person who typed the command.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::image::{Digest, ImageError, is_full};

/// Why something couldn't be fetched or brought out. The cause, where there is one, is in `source()`.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A name without a registry, and no alias for it.
    #[error(
        "`{name}` is a short name, and no alias says which registry it means; write it in full, such as \
         `docker.io/{}`, or put it under [aliases] in /etc/wharf/wharf.toml", in_full(.name)
    )]
    Short {
        /// The name, without tag and digest.
        name: String,
    },
    /// Something in `wharf.toml` that can't be meant.
    #[error("{what} {why}")]
    Settings {
        /// Which key, with its value.
        what: String,
        /// A sentence about it, from the verb on.
        why: String,
    },
    /// No connection, or one that broke.
    #[error("can't reach {host}")]
    Unreachable {
        /// With the port, if it isn't the usual one.
        host: String,
        /// What the connection said.
        source: io::Error,
    },
    /// Not what a server of this kind says.
    #[error("{host} answers what can't be understood: {why}")]
    Protocol {
        /// With the port, if it isn't the usual one.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// 404.
    #[error("{host} has no {what}{}", in_its_words(.said))]
    NotFound {
        /// What was asked for.
        what: String,
        /// Who was asked.
        host: String,
        /// The server's own words, if it had any.
        said: String,
    },
    /// 404 for a digest, where the tag names something else by now.
    #[error(
        "{host} doesn't have {wanted} any more: {image} is {now} there now; get the old one from elsewhere, or take the \
         new one: wharf image pull {image}"
    )]
    Gone {
        /// Who was asked.
        host: String,
        /// With its tag.
        image: String,
        /// What was asked for.
        wanted: Digest,
        /// What the tag names.
        now: Digest,
    },
    /// 401 and 403.
    #[error("{host} refuses {what}{}; {hint}", in_its_words(.said))]
    Denied {
        /// What was asked for.
        what: String,
        /// Who was asked.
        host: String,
        /// The server's own words, if it had any.
        said: String,
        /// The way out.
        hint: String,
    },
    /// Any other status that isn't success.
    #[error("{host} answers {status} for {what}{}", in_its_words(.said))]
    Status {
        /// What was asked for.
        what: String,
        /// Who was asked.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The server's own words, if it had any.
        said: String,
    },
    /// 429 or 503 with a `Retry-After` that is too long to wait here.
    #[error(
        "{host} asks to come back in {} seconds, longer than Wharf waits: try again then, log in with \
         `wharf image login` (registries often allow more to those they know), or set a mirror for it",
        .wait.as_secs()
    )]
    Busy {
        /// Who asks.
        host: String,
        /// How long.
        wait: Duration,
    },
    /// Bytes that aren't those their digest promises.
    #[error(
        "{what} from {host} has the digest {found}, but {expected} was promised: it was changed or damaged"
    )]
    Digest {
        /// Which blob or document.
        what: String,
        /// Where it came from.
        host: String,
        /// What was promised.
        expected: String,
        /// What the bytes say.
        found: String,
    },
    /// Fewer or more bytes than promised.
    #[error("{what} from {host} has {found} bytes, but {expected} were promised")]
    Size {
        /// Which blob or document.
        what: String,
        /// Where it came from.
        host: String,
        /// What was promised.
        expected: u64,
        /// How many came, or were announced.
        found: u64,
    },
    /// A redirect that can't be followed safely, or at all.
    #[error("{host} sends {what} elsewhere, to `{to}`: {why}")]
    Redirect {
        /// What was asked for.
        what: String,
        /// Who was asked.
        host: String,
        /// Where it leads.
        to: String,
        /// Why it isn't followed.
        why: &'static str,
    },
    /// A file of credentials, certificates or partial downloads.
    #[error("can't {doing} {}", .path.display())]
    File {
        /// A verb.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// A file that doesn't have the form it must have.
    #[error("{} {why}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// A sentence about it, from the verb on.
        why: String,
    },
    /// A reference or URL that can't be used for this.
    #[error("{0}")]
    Unclear(String),
    /// The command was ended from outside.
    #[error("interrupted; what was downloaded is kept, and the next pull goes on from there")]
    Cancelled,
    /// The store or the import refused.
    #[error(transparent)]
    Image(ImageError),
}

impl From<ImageError> for RegistryError {
    fn from(error: ImageError) -> Self {
        match error {
            // It was one of these before it went through the import.
            ImageError::Remote(error) => match error.downcast() {
                Ok(error) => *error,
                Err(error) => Self::Image(ImageError::Remote(error)),
            },
            other => Self::Image(other),
        }
    }
}

impl From<RegistryError> for ImageError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Image(error) => error,
            other => Self::Remote(Box::new(other)),
        }
    }
}

impl RegistryError {
    /// Whether the same may go well a moment later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => {
                !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
            }
            Self::Status { status, .. } => is_passing(*status),
            _ => false,
        }
    }

    /// Whether another server may do better.
    pub(super) fn is_the_servers(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Protocol { .. }
            | Self::NotFound { .. }
            | Self::Gone { .. }
            | Self::Denied { .. }
            | Self::Status { .. }
            | Self::Busy { .. }
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::Redirect { .. } => true,
            Self::Short { .. }
            | Self::Settings { .. }
            | Self::File { .. }
            | Self::Malformed { .. }
            | Self::Unclear(_)
            | Self::Cancelled
            | Self::Image(_) => false,
        }
    }
}

/// Statuses that say nothing about what was asked for: too many requests, and trouble of the server's own
/// (RFC 9110, 15.5.9, 15.6; RFC 6585, 4).
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

fn in_its_words(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" (it says: {said})") }
}

fn in_full(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("library/{name}") }
}

/// Adds to an I/O error what was being done, and to which file.
pub(super) trait OnFile<T> {
    fn on_file(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, RegistryError>;
}

impl<T, E: Into<io::Error>> OnFile<T> for Result<T, E> {
    fn on_file(self, doing: &'static str, path: impl Into<PathBuf>) -> Result<T, RegistryError> {
        self.map_err(|error| {
            let (path, source) = (path.into(), error.into());
            match source.kind() {
                _ if is_full(&source) => ImageError::Full { path, source }.into(),
                io::ErrorKind::ReadOnlyFilesystem => ImageError::ReadOnly { path, source }.into(),
                _ => RegistryError::File { doing, path, source },
            }
        })
    }
}

/// What a server said, fit for a terminal: one line without control characters, and not too long.
pub(super) fn plain(text: &str) -> String {
    const MOST: usize = 200;
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.retain(|c| !c.is_control());
    if line.chars().count() > MOST {
        line = line.chars().take(MOST).collect::<String>() + "…";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_explained() {
        let of = |name: &str| RegistryError::Short { name: name.to_owned() }.to_string();
        assert!(of("nginx").contains("such as `docker.io/library/nginx`"));
        assert!(of("grafana/grafana").contains("such as `docker.io/grafana/grafana`"));
    }

    #[test]
    fn a_servers_words_do_nothing_to_a_terminal() {
        assert_eq!(plain("a\x1b[31m b\r\nc "), "a[31m b c");
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), 201);
    }
}
