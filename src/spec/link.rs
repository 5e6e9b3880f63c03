//! Links: what a container may connect to, and by which name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ContainerName, NameError};

/// The word that means the host itself in a link; so no container can be called this.
pub const HOST: &str = "host";

/// A link: `db`, `db:database`, `app@blue:app`, `host`.
///
/// It is the permission to connect, a name to connect to, and an order at start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Link {
    /// To what.
    pub to: LinkTarget,
    /// Another name that the target goes by inside, a host name's label.
    pub alias: Option<String>,
}

/// What a link leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LinkTarget {
    /// A container, or an instance of a template.
    Container(ContainerName),
    /// The host's own addresses.
    Host,
    /// In a template only, a container's name with `%i` in it: what [`LinkTarget::filled`] makes a container.
    Pattern(String),
}

/// Why a text is no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The target is no container's name.
    #[error("\"{text}\" can't be a container: {source}")]
    Name {
        /// The target as written.
        text: String,
        /// Why.
        source: NameError,
    },
    /// A template, which never runs itself.
    #[error("`{0}` is a template, which doesn't run by itself")]
    Template(String),
    /// An alias that can't be a host name.
    #[error("\"{0}\" can't be an alias")]
    Alias(String),
    /// An alias that is a number, which is no name and most likely a port.
    #[error("the alias {0} is a number")]
    Number(String),
    /// An alias with `%`, in a template.
    #[error("the alias \"{0}\" would differ between instances")]
    Varies(String),
}

impl LinkError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            Self::Name { text, .. } if text.is_empty() => "write the name of a container".into(),
            Self::Name { .. } => {
                "write the name of a container, with `:` and an alias: \"db:database\"".into()
            }
            Self::Template(name) => format!("write an instance of it, like \"{name}blue\""),
            Self::Alias(_) => "an alias has at most 63 letters, digits and `-`, no `-` at its ends".into(),
            Self::Number(_) => "leave it out: a link holds for every port of its target".into(),
            Self::Varies(_) => "write one name: what it stands for may differ".into(),
        }
    }
}

impl LinkTarget {
    /// The container; nothing for the host, and for what has yet to be filled.
    pub fn container(&self) -> Option<&ContainerName> {
        match self {
            Self::Container(name) => Some(name),
            Self::Host | Self::Pattern(_) => None,
        }
    }

    /// With an instance in place of `%i`.
    #[must_use]
    pub fn filled(&self, instance: &str) -> Self {
        match self {
            // It was checked with a letter in that place, and is longer now at most.
            Self::Pattern(text) => {
                let text = text.replace("%i", instance);
                text.parse().unwrap_or(Self::Pattern(text))
            }
            other => other.clone(),
        }
    }
}

impl Link {
    /// The names that the target goes by inside: its own, where that can't be a host's (`my_app`, `web@blue`)
    /// the form that can (`my-app`, `web-blue`) beside it or instead of it, and the alias.
    pub fn names(&self) -> Vec<String> {
        let own = match &self.to {
            LinkTarget::Host => HOST,
            LinkTarget::Container(name) => name.as_str(),
            LinkTarget::Pattern(text) => text,
        };
        let fit = own.replace(['_', '@'], "-");
        // Programs with glibc find it by its own name too, underscore and all.
        let odd = (fit != own && !own.contains('@')).then(|| own.to_owned());
        odd.into_iter().chain([fit]).chain(self.alias.clone()).collect()
    }
}

/// Whether a text can be one part of a host's name (RFC 1123, 2.1).
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let (target, alias) = text.split_once(':').map_or((text, None), |(to, alias)| (to, Some(alias)));
        let alias = match alias {
            None => None,
            Some(alias) if alias.contains('%') => return Err(LinkError::Varies(alias.to_owned())),
            Some(alias) if !is_label(alias) => return Err(LinkError::Alias(alias.to_owned())),
            // The C library reads a number as an address: inet_aton(3).
            Some(alias) if alias.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(LinkError::Number(alias.to_owned()));
            }
            Some(alias) => Some(alias.to_owned()),
        };
        Ok(Self { to: target.parse()?, alias })
    }
}

impl FromStr for LinkTarget {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        if text == HOST {
            return Ok(Self::Host);
        }
        let plain = text.replace("%i", "i");
        let name: ContainerName =
            plain.parse().map_err(|source| LinkError::Name { text: text.to_owned(), source })?;
        if name.is_template() {
            return Err(LinkError::Template(text.to_owned()));
        }
        Ok(if plain == text { Self::Container(name) } else { Self::Pattern(text.to_owned()) })
    }
}

impl TryFrom<String> for Link {
    type Error = LinkError;

    fn try_from(text: String) -> Result<Self, LinkError> {
        text.parse()
    }
}

impl From<Link> for String {
    fn from(link: Link) -> Self {
        link.to_string()
    }
}

impl TryFrom<String> for LinkTarget {
    type Error = LinkError;

    fn try_from(text: String) -> Result<Self, LinkError> {
        text.parse()
    }
}

impl From<LinkTarget> for String {
    fn from(target: LinkTarget) -> Self {
        target.to_string()
    }
}

impl fmt::Display for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => name.fmt(f),
            Self::Host => f.write_str(HOST),
            Self::Pattern(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        self.alias.iter().try_for_each(|alias| write!(f, ":{alias}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn link(text: &str) -> Link {
        text.parse().expect(text)
    }

    #[test]
    fn forms() {
        for (text, names) in [
            ("db", &["db"][..]),
            ("db:database", &["db", "database"]),
            ("my_app", &["my_app", "my-app"]),
            ("app@blue", &["app-blue"]),
            ("app@blue:app", &["app-blue", "app"]),
            ("host", &["host"]),
            ("host:gateway", &["host", "gateway"]),
            ("host@x", &["host-x"]),
            ("app@%i:app", &["app-%i", "app"]),
        ] {
            assert_eq!(link(text).names(), names);
            assert_eq!(link(text).to_string(), text);
        }
        assert_eq!(link("host:gateway").to, LinkTarget::Host);
        assert_eq!(link("app@blue").to.container().map(ContainerName::as_str), Some("app@blue"));
    }

    #[test]
    fn instances() {
        assert_eq!(link("app@%i").to.container(), None);
        assert_eq!(link("app@%i").to.filled("blue"), link("app@blue").to);
        assert_eq!(link("app-%i").to.filled("blue"), link("app-blue").to);
        assert_eq!(link("db").to.filled("blue"), link("db").to);
        assert_eq!(LinkTarget::Pattern("%i".into()).filled("host"), LinkTarget::Host);
        let long = "a".repeat(99);
        assert_eq!(link("app@%i").to.filled(&long).container(), None);
    }

    #[test]
    fn refusals() {
        for (text, message, hint) in [
            ("", "the name is empty", "name of a container"),
            (":x", "the name is empty", "name of a container"),
            ("app@", "`app@` is a template", "\"app@blue\""),
            ("app@:x", "`app@` is a template", "\"app@blue\""),
            ("a/b", "\"a/b\" can't be a container", "\"db:database\""),
            ("100%", "\"100%\" can't be a container", "\"db:database\""),
            ("db:", "\"\" can't be an alias", "63 letters"),
            ("db:a.b", "\"a.b\" can't be an alias", "63 letters"),
            ("db:a_b", "\"a_b\" can't be an alias", "63 letters"),
            ("db:a:b", "\"a:b\" can't be an alias", "63 letters"),
            ("db:-a", "\"-a\" can't be an alias", "63 letters"),
            ("db:5432", "the alias 5432 is a number", "every port"),
            ("db:a%i", "would differ", "one name"),
        ] {
            let error = text.parse::<Link>().expect_err(text);
            assert!(error.to_string().contains(message), "{text}: {error}");
            assert!(error.hint().contains(hint), "{text}: {}", error.hint());
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "[a-z0-9@:%i_.-]{0,20}|\\PC{0,20}") {
            match text.parse::<Link>() {
                Ok(link) => {
                    prop_assert_eq!(link.to_string(), text);
                    prop_assert!(!link.names().is_empty());
                    let json = serde_json::to_string(&link).expect("JSON");
                    prop_assert_eq!(serde_json::from_str::<Link>(&json).expect("one"), link);
                }
                Err(error) => prop_assert!(!error.hint().is_empty()),
            }
        }
    }
}
