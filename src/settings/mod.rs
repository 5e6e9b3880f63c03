//! What `wharf.toml` says about this host, checked; see [`Settings`]. The types are pure; [`load`] reads files.

mod load;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::load::{SettingsError, load};
use crate::spec::Reference;

/// This host's defaults. What isn't said is as in [`Settings::default`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How to speak to a registry, by its host, `registry.example` or `registry.example:5000`.
    pub registries: BTreeMap<String, Registry>,
    /// Whole repositories for short names: `nginx` is `docker.io/library/nginx`. A short name that isn't here is
    /// looked for nowhere.
    pub aliases: BTreeMap<String, String>,
    /// Which images may enter the store and run.
    pub trust: Trust,
    /// How much an image may unpack to.
    pub unpack: Unpack,
}

/// How to speak to one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// Asked before it, in this order: a host, perhaps with a path below which its repositories are.
    pub mirrors: Vec<String>,
    /// Whether plain HTTP is spoken to it.
    pub insecure: bool,
    /// Files of certificates (PEM) that may vouch for it, beside the system's.
    pub authorities: Vec<PathBuf>,
    /// Where signatures of its images are (a lookaside, containers-registries.d(5)): a URL or a folder.
    pub signatures: Option<String>,
}

/// Which images are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// For what no rule names.
    pub policy: Policy,
    /// By a registry or a repository, or what it begins with (whole words between slashes); the longest counts.
    pub rules: BTreeMap<String, Policy>,
}

/// What an image must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nothing: who could write it to the store, or serve it, is trusted.
    #[default]
    Any,
    /// A reference that is pinned to a digest.
    Digest,
    /// A valid signature of one of these keys: files in `/etc/wharf/keys`; none named is all there.
    Signed {
        /// File names.
        keys: Vec<String>,
    },
}

/// The most that one layer may unpack to. No real image meets the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpack {
    /// Members.
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
    /// Bytes that come out of decompression for each that was read, once that is more than a gigabyte. Holes of
    /// sparse files cost nothing and aren't counted here.
    pub ratio: u64,
}

impl Default for Unpack {
    fn default() -> Self {
        // The largest images have some 500,000 files in all, and some tens of GB. A gigabyte of zeros in a file
        // shrinks to a thousandth by gzip, and far below by zstd; what holds programs never to a hundredth.
        Self { entries: 4_000_000, bytes: 512 << 30, ratio: 5_000 }
    }
}

impl Policy {
    /// Whether it asks for nothing.
    pub fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

impl Settings {
    /// The whole repository of a reference, with its registry: its own, or that of its alias. Nothing for a short
    /// name without one, which can't be fetched. However it is written, one repository is one text here, so that
    /// nobody gets around a rule by writing it in another way.
    pub fn repository(&self, reference: &Reference) -> Option<String> {
        match reference.registry() {
            Some(_) => Some(usual(reference.name())),
            None => self.aliases.get(reference.name()).map(|whole| usual(whole)),
        }
    }

    /// The policy for an image: what its own file says, or else the rule for its repository. A short name without
    /// an alias is what `[trust]` says by itself.
    pub fn policy<'a>(&'a self, reference: &Reference, own: Option<&'a Policy>) -> &'a Policy {
        own.unwrap_or_else(|| match self.repository(reference) {
            Some(repository) => self.trust.policy(&repository),
            None => &self.trust.policy,
        })
    }
}

impl Trust {
    /// The policy for a repository, such as `registry.example/web/nginx`.
    pub fn policy(&self, repository: &str) -> &Policy {
        // Docker's own images are written with and without `library/`, in rules as well.
        let short = repository.strip_prefix("docker.io/library/").map(|rest| format!("docker.io/{rest}"));
        let covers = |prefix: &str| {
            let prefix = usual_host(prefix);
            let begins = |whole: &str| {
                whole
                    .strip_prefix(prefix.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            begins(repository) || short.as_deref().is_some_and(begins)
        };
        let rules = self.rules.iter().filter(|(prefix, _)| covers(prefix));
        rules.max_by_key(|(prefix, _)| prefix.len()).map_or(&self.policy, |(_, policy)| policy)
    }
}

/// A name that begins with a registry, with that as it is usually written: hosts have no case, 443 is the port of
/// HTTPS, and Docker's registry has three names.
fn usual_host(name: &str) -> String {
    let (host, rest) = name.split_once('/').map_or((name, None), |(host, rest)| (host, Some(rest)));
    let host = host.to_ascii_lowercase();
    let host = match host.strip_suffix(":443").unwrap_or(&host) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    rest.map_or_else(|| host.to_owned(), |rest| format!("{host}/{rest}"))
}

/// The same for a whole repository.
fn usual(repository: &str) -> String {
    let name = usual_host(repository);
    match name.strip_prefix("docker.io/") {
        Some(rest) if !rest.contains('/') => format!("docker.io/library/{rest}"),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rule_counts() {
        let rules = [("a.example", Policy::Digest), ("a.example/web", Policy::Any)];
        let rules = rules.map(|(prefix, policy)| (prefix.to_owned(), policy)).into();
        let trust = Trust { policy: Policy::Signed { keys: Vec::new() }, rules };
        assert_eq!(*trust.policy("a.example/web/nginx"), Policy::Any);
        assert_eq!(*trust.policy("a.example/website"), Policy::Digest);
        assert_eq!(*trust.policy("b.example/web"), trust.policy);
    }

    /// Where it leads is the same, so what must be true of it is the same.
    #[test]
    fn no_spelling_gets_around_a_rule() {
        let signed = Policy::Signed { keys: Vec::new() };
        for (rule, spellings) in [
            (
                "registry.example",
                &["registry.example/a:1", "Registry.Example/a:1", "registry.example:443/a/b:1"][..],
            ),
            ("Registry.example:443/a", &["registry.example/a:1"]),
            (
                "docker.io/library/nginx",
                &[
                    "docker.io/nginx",
                    "docker.io/library/nginx",
                    "index.docker.io/nginx",
                    "registry-1.docker.io/library/nginx",
                    "nginx",
                ],
            ),
            ("docker.io/nginx", &["docker.io/nginx", "docker.io/library/nginx"]),
            ("docker.io", &["index.docker.io/team/web:1", "DOCKER.io/nginx"]),
            ("docker.io/team", &["docker.io/team/web:1"]),
        ] {
            let settings = Settings {
                aliases: [("nginx".to_owned(), "docker.io/nginx".to_owned())].into(),
                trust: Trust { policy: Policy::Any, rules: [(rule.to_owned(), signed.clone())].into() },
                ..Settings::default()
            };
            for spelling in spellings {
                let reference: Reference = spelling.parse().expect(spelling);
                assert_eq!(*settings.policy(&reference, None), signed, "{spelling} by {rule}");
            }
            let other: Reference = "registry.example:444/a:1".parse().expect("a reference");
            assert_eq!(*settings.policy(&other, None), Policy::Any);
        }
    }
}
