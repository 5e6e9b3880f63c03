//! References: the names that images go by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A reference: `nginx:1.26`, `registry.example/team/nginx:1.26`, `nginx@sha256:…`.
///
/// The grammar is the OCI distribution specification's (`name`, `reference`), with an optional registry
/// before the name. Without tag and digest the tag is `latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No name before the tag or digest.
    #[error("the name is empty")]
    NoName,
    /// More than 255 bytes of name, the most a registry has to take.
    #[error("the name has {0} bytes; 255 are allowed")]
    TooLong(usize),
    /// A component that the grammar doesn't allow.
    #[error(
        "`{0}` can't be part of an image's name; use lower-case letters and digits, with `.`, `_`, `__` or `-` between them"
    )]
    Component(String),
    /// A tag that the grammar doesn't allow.
    #[error(
        "`{0}` can't be a tag; use at most 128 ASCII letters, digits, `_`, `.` and `-`, not `.` or `-` first"
    )]
    Tag(String),
    /// A digest that isn't `sha256:` and 64 hexadecimal digits.
    #[error("`{0}` is not a digest; it must be `sha256:` and 64 lower-case hexadecimal digits")]
    Digest(String),
}

impl Reference {
    /// The name with its registry, without tag and digest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry before the name, where there is one: a first part with a dot or a port, or `localhost`.
    pub fn registry(&self) -> Option<&str> {
        let (first, _) = self.name.split_once('/')?;
        is_registry(first).then_some(first)
    }

    /// The same, pinned to another digest.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> Self {
        Self { digest: Some(digest.to_owned()), ..self.clone() }
    }

    /// The tag; `latest` where the text had neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins it, `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// Whether a text can stand between the slashes of a name.
pub(crate) fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    // Separators are `.`, `_`, `__` or a run of `-`, and stand only between letters and digits.
    let separators = text.split(plain).filter(|run| !run.is_empty());
    text.starts_with(plain)
        && text.ends_with(plain)
        && separators.into_iter().all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-'))
}

/// Whether a text can be a registry, perhaps with a port.
pub(crate) fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Whether a text is `sha256:` and 64 lower-case hexadecimal digits.
fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(ReferenceError::Digest(digest.to_owned()));
        }
        // A colon before the last slash is the registry's port.
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].find(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        if name.is_empty() {
            return Err(ReferenceError::NoName);
        }
        if name.len() > 255 {
            return Err(ReferenceError::TooLong(name.len()));
        }
        for (index, part) in name.split('/').enumerate() {
            // The first part is a registry where it has a dot or a port, or is `localhost`.
            let registry = index == 0 && name.contains('/') && is_registry(part);
            if !(if registry { is_host(part) } else { is_component(part) }) {
                return Err(ReferenceError::Component(part.to_owned()));
            }
        }
        let good = |tag: &str| {
            (1..=128).contains(&tag.len())
                && !tag.starts_with(['.', '-'])
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        if let Some(tag) = tag.filter(|tag| !good(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
        Ok(Self { name: name.to_owned(), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, shown) in [
            ("nginx", "nginx:latest"),
            ("nginx:1.26", "nginx:1.26"),
            ("localhost:5000/team/web", "localhost:5000/team/web:latest"),
            ("registry.example/a__b/c--d:v1", "registry.example/a__b/c--d:v1"),
            (&format!("nginx@{digest}"), &format!("nginx@{digest}")),
            (&format!("nginx:1@{digest}"), &format!("nginx:1@{digest}")),
        ] {
            assert_eq!(text.parse::<Reference>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn refusals() {
        for text in
            ["", ":1", "Nginx", "a//b", "/a", "a/", "a..b", "a:", "a:-x", "a@sha256:12", "../x", "a___b"]
        {
            assert!(text.parse::<Reference>().is_err(), "{text:?} must be refused");
        }
    }
}
