//! Names of containers, as they stand in file names, unit names and leases.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name: with `-container@.service` around it, and an instance, it still fits systemd's 255
/// bytes for a unit name (`UNIT_NAME_MAX` in systemd's `src/basic/unit-name.h`).
const NAME_MAX: usize = 100;

/// The name of a container: `nginx`, the template `web@`, or the template's instance `web@blue`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName {
    text: String,
    at: Option<usize>,
}

/// Why a text is not a container's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing before the `@`, or nothing at all.
    #[error("the name is empty")]
    Empty,
    /// Longer than a unit name can carry.
    #[error("the name has {0} bytes; {NAME_MAX} are allowed")]
    TooLong(usize),
    /// A character that would need escaping in a unit's name.
    #[error("`{0}` can't be in a name; use ASCII letters, digits, `-`, `_` and `.`, a letter or digit first")]
    Character(char),
}

impl ContainerName {
    /// The whole name, as on a command line.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`, or all of it.
    pub fn prefix(&self) -> &str {
        self.at.map_or(&self.text, |at| &self.text[..at])
    }

    /// The instance of a template: `blue` of `web@blue`; nothing for `nginx` and for the template itself.
    pub fn instance(&self) -> Option<&str> {
        self.at.map(|at| &self.text[at + 1..]).filter(|instance| !instance.is_empty())
    }

    /// Whether this names a template (`web@`) and so can't be started by itself.
    pub fn is_template(&self) -> bool {
        self.at.is_some_and(|at| at + 1 == self.text.len())
    }

    /// The template that this is an instance of: `web@` of `web@blue`.
    pub fn template(&self) -> Option<ContainerName> {
        let at = self.at?;
        self.instance()?;
        Some(Self { text: self.text[..=at].to_owned(), at: Some(at) })
    }

    /// The unit that runs it: `nginx-container.service`, `web-container@.service`,
    /// `web-container@blue.service`.
    pub fn unit(&self) -> String {
        match self.at {
            Some(at) => format!("{}-container@{}.service", &self.text[..at], &self.text[at + 1..]),
            None => format!("{}-container.service", self.text),
        }
    }

    /// The container that a unit runs, if the unit's name has the form that [`ContainerName::unit`] makes.
    pub fn from_unit(unit: &str) -> Option<Self> {
        let stem = unit.strip_suffix(".service")?;
        match stem.split_once('@') {
            Some((prefix, instance)) => {
                format!("{}@{instance}", prefix.strip_suffix("-container")?).parse().ok()
            }
            None => stem.strip_suffix("-container")?.parse().ok(),
        }
    }
}

fn part(text: &str) -> Result<(), NameError> {
    match text.chars().next() {
        None => return Err(NameError::Empty),
        Some(first) if !first.is_ascii_alphanumeric() => return Err(NameError::Character(first)),
        Some(_) => {}
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        Some(bad) => Err(NameError::Character(bad)),
        None => Ok(()),
    }
}

impl FromStr for ContainerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        let at = text.find('@');
        part(at.map_or(text, |at| &text[..at]))?;
        if let Some(instance) = at.map(|at| &text[at + 1..]).filter(|instance| !instance.is_empty()) {
            part(instance)?;
        }
        Ok(Self { text: text.to_owned(), at })
    }
}

impl TryFrom<String> for ContainerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.text
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContainerName {
        text.parse().expect("a good name")
    }

    #[test]
    fn units_and_back() {
        for (text, unit) in [
            ("nginx", "nginx-container.service"),
            ("web@", "web-container@.service"),
            ("web@blue", "web-container@blue.service"),
        ] {
            assert_eq!(name(text).unit(), unit);
            assert_eq!(ContainerName::from_unit(unit), Some(name(text)));
        }
        assert_eq!(ContainerName::from_unit("nginx.service"), None);
        assert_eq!(name("web@blue").template(), Some(name("web@")));
        assert_eq!(name("web@").template(), None);
        assert!(name("web@").is_template());
        assert_eq!(name("web@blue").instance(), Some("blue"));
    }

    #[test]
    fn refusals() {
        for (text, error) in [
            ("", NameError::Empty),
            ("@x", NameError::Empty),
            ("..", NameError::Character('.')),
            ("a/b", NameError::Character('/')),
            ("a@b@c", NameError::Character('@')),
            ("a@..", NameError::Character('.')),
            ("é", NameError::Character('é')),
        ] {
            assert_eq!(text.parse::<ContainerName>(), Err(error), "{text:?}");
        }
        assert_eq!("a".repeat(101).parse::<ContainerName>(), Err(NameError::TooLong(101)));
    }
}
