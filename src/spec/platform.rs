//! Kinds of machines, as images are made for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of machine: `linux/arm64`, `linux/arm/v7`. Words are Go's (`GOARCH`), as in the OCI image
/// specification ("Image Index", `platform`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    /// `arm64`.
    pub architecture: String,
    /// `v7`; nothing where it doesn't matter.
    pub variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Not two or three words.
    #[error("`{0}` is not a platform")]
    Form(String),
    /// Wharf runs on Linux.
    #[error("`{0}` is another system than Linux")]
    System(String),
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(word) {
            return Err(PlatformError::Form(text.to_owned()));
        }
        let (architecture, variant) = match parts.as_slice() {
            ["linux", architecture] => (*architecture, None),
            ["linux", architecture, variant] => (*architecture, Some((*variant).to_owned())),
            [system, _] | [system, _, _] => return Err(PlatformError::System((*system).to_owned())),
            _ => return Err(PlatformError::Form(text.to_owned())),
        };
        Ok(Self { architecture: architecture.to_owned(), variant })
    }
}

impl TryFrom<String> for Platform {
    type Error = PlatformError;

    fn try_from(text: String) -> Result<Self, PlatformError> {
        text.parse()
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().map(|platform| platform.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("windows/amd64".parse::<Platform>(), Err(PlatformError::System("windows".into())));
        for text in ["", "amd64", "linux/", "linux/a/b/c", "linux/amd 64"] {
            assert_eq!(text.parse::<Platform>(), Err(PlatformError::Form(text.into())), "{text:?}");
        }
    }
}
