//! Names of images' units: of a file in `images/`, or of a reference that no file is about.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ContainerName, NameError, Reference};

/// After the name in a unit's.
const SUFFIX: &str = "-image.service";

/// The longest name: systemd takes 255 bytes for a unit's with the NUL behind it (`UNIT_NAME_MAX` in systemd's
/// `src/basic/unit-name.h`).
const LONGEST: usize = 255 - SUFFIX.len();

/// How much of a reference is kept where its name would be too long.
const KEPT: usize = 160;

/// What an image's unit is called: `nginx` of `images/nginx.toml`, and `nginx:1.26` or
/// `registry.example-web-nginx:1.26` for references. The two are never the same: a reference has a colon or an
/// `@` in it, which no file's name has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

/// Why a text is not the name of an image's unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageNameError {
    /// As of a container's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It has an `@`.
    #[error("an image has no instances, so `@` can't be in its name")]
    Instance,
    /// Not what Wharf makes of a reference.
    #[error("`{0}` is not the name of an image's unit")]
    Form(String),
}

impl ImageName {
    /// That of a file: the rules are those of a container's name, without templates.
    ///
    /// # Errors
    /// [`ImageNameError`].
    pub fn of_file(stem: &str) -> Result<Self, ImageNameError> {
        let name: ContainerName = stem.parse()?;
        if stem.contains('@') { Err(ImageNameError::Instance) } else { Ok(Self(name.to_string())) }
    }

    /// That of a reference, escaped as systemd-escape(1) does it. Where that is too long, its beginning and a part
    /// of its SHA-256.
    pub fn of_reference(reference: &Reference) -> Self {
        let text = reference.to_string();
        let mut name = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '/' => name.push('-'),
                // A reference is ASCII throughout, and a letter or digit is first.
                ':' | '_' | '.' => name.push(c),
                c if c.is_ascii_alphanumeric() => name.push(c),
                c => name.push_str(&format!("\\x{:02x}", u32::from(c))),
            }
        }
        if name.len() > LONGEST {
            name.truncate(KEPT);
            // Not in the middle of an escape.
            if let Some(at) = name.rfind('\\').filter(|at| at + 4 > name.len()) {
                name.truncate(at);
            }
            name.push_str("::");
            name.extend(Sha256::digest(text.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")));
        }
        Self(name)
    }

    /// As in the names of files and on command lines.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit that fetches it.
    pub fn unit(&self) -> String {
        format!("{}{SUFFIX}", self.0)
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '-' | '\\');
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if first && text.len() <= LONGEST && text.chars().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ImageNameError::Form(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ImageName {
    type Error = ImageNameError;

    fn try_from(text: String) -> Result<Self, ImageNameError> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(reference: &str) -> ImageName {
        ImageName::of_reference(&reference.parse().expect("a reference"))
    }

    #[test]
    fn references() {
        for (reference, unit) in [
            ("nginx:1.26", "nginx:1.26-image.service"),
            ("nginx", "nginx:latest-image.service"),
            ("localhost:5000/team/my-web:1", "localhost:5000-team-my\\x2dweb:1-image.service"),
        ] {
            assert_eq!(of(reference).unit(), unit);
            assert_eq!(of(reference).as_str().parse(), Ok(of(reference)));
        }
        let pinned = of(&format!("nginx@sha256:{}", "a".repeat(64)));
        assert!(pinned.as_str().starts_with("nginx\\x40sha256:aaaa"), "{pinned}");
    }

    #[test]
    fn long_ones_fit_and_differ() {
        let long = |tag: &str| of(&format!("registry.example/{}:{tag}", "a-b/".repeat(50) + "c"));
        for name in [long("1"), long("2")] {
            assert!(name.unit().len() <= 255, "{name}");
            assert_eq!(name.as_str().parse(), Ok(name.clone()));
            let escapes = name.as_str().split('\\').skip(1);
            assert!(escapes.into_iter().all(|escape| escape.starts_with("x2d")), "{name}");
        }
        assert_ne!(long("1"), long("2"));
    }

    #[test]
    fn files() {
        assert_eq!(ImageName::of_file("nginx").map(|name| name.unit()), Ok("nginx-image.service".into()));
        assert_eq!(ImageName::of_file("web@"), Err(ImageNameError::Instance));
        assert!(ImageName::of_file("a:b").is_err() && ImageName::of_file("").is_err());
        for text in ["", "../x", "a/b", ".x", "a b", "a@b"] {
            assert!(text.parse::<ImageName>().is_err(), "{text:?}");
        }
    }
}
