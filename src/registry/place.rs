//! From a reference to the servers that may have it, in the order in which they are asked.

use super::error::RegistryError;
use crate::image::Digest;
use crate::settings::Settings;
use crate::spec::Reference;

/// What `docker.io` is called on the network.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// An image's place, as `wharf.toml` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The registry as people write it: `docker.io`, `registry.example:5000`.
    pub registry: String,
    /// The repository there: `library/nginx`.
    pub repository: String,
    /// The tag, where the reference has no digest.
    pub tag: Option<String>,
    /// What it is pinned to.
    pub digest: Option<Digest>,
}

/// A server, and how it calls what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// With the port, if it isn't the usual one.
    pub(super) host: String,
    /// What all its addresses begin with.
    base: String,
    kind: Kind,
    /// Another one comes after it.
    pub(super) is_mirror: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Registry {
        repository: String,
    },
    /// Files of an OCI layout.
    Layout,
}

impl Place {
    /// Where a reference leads: by an alias if it is a short name.
    ///
    /// # Errors
    /// [`RegistryError::Short`]; [`RegistryError::Settings`] for an alias that leads nowhere.
    pub fn of(reference: &Reference, settings: &Settings) -> Result<Self, RegistryError> {
        let whole = match settings.aliases.get(reference.name()) {
            Some(whole) => whole.clone(),
            None => reference.name().to_owned(),
        };
        let Some((registry, repository)) = split(&whole) else {
            return Err(if whole == reference.name() {
                RegistryError::Short { name: whole }
            } else {
                RegistryError::Settings {
                    what: format!("the alias `{} = \"{whole}\"`", reference.name()),
                    why: "names no registry; write it as `registry.example/repository`".to_owned(),
                }
            });
        };
        let repository = match (registry, repository.contains('/')) {
            ("docker.io", false) => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        let digest = reference.digest().and_then(|digest| digest.parse().ok());
        let tag = reference.tag().filter(|_| digest.is_none()).map(str::to_owned);
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// The repository with its registry, as rules of trust and files of credentials name it.
    pub fn full_repository(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The mirrors, and then the registry itself.
    pub(super) fn endpoints(&self, settings: &Settings) -> Vec<Endpoint> {
        let mirrors = settings.registries.get(&self.registry).map(|own| own.mirrors.as_slice());
        let mut endpoints: Vec<_> = mirrors
            .unwrap_or_default()
            .iter()
            .map(|mirror| {
                let (host, path) = mirror.trim_end_matches('/').split_once('/').unwrap_or((mirror, ""));
                let repository = match path {
                    "" => self.repository.clone(),
                    path => format!("{path}/{}", self.repository),
                };
                Endpoint::registry(host, repository, true, settings)
            })
            .collect();
        endpoints.push(self.endpoint(settings));
        endpoints
    }

    /// The registry itself, for what can't be left to a mirror.
    pub(super) fn endpoint(&self, settings: &Settings) -> Endpoint {
        Endpoint::registry(&self.registry, self.repository.clone(), false, settings)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            (_, Some(digest)) => write!(f, "@{digest}"),
            (Some(tag), None) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

/// A registry and a repository; nothing where the first part is no host.
fn split(whole: &str) -> Option<(&str, &str)> {
    let (first, rest) = whole.split_once('/')?;
    let first = if first == "index.docker.io" { "docker.io" } else { first };
    (first.contains(['.', ':']) || first == "localhost").then_some((first, rest))
}

/// How a registry is spoken to: `https`, unless `wharf.toml` says that it is insecure.
pub(super) fn scheme(host: &str, settings: &Settings) -> &'static str {
    if settings.registries.get(host).is_some_and(|registry| registry.insecure) { "http" } else { "https" }
}

/// Where a registry really is.
pub(super) fn host_of(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB } else { registry }
}

impl Endpoint {
    fn registry(registry: &str, repository: String, is_mirror: bool, settings: &Settings) -> Self {
        let base = format!("{}://{}/v2/", scheme(registry, settings), host_of(registry));
        Self { host: registry.to_owned(), base, kind: Kind::Registry { repository }, is_mirror }
    }

    /// A folder on a web server; its address ends with a slash.
    pub(super) fn layout(host: &str, base: &str) -> Self {
        Self { host: host.to_owned(), base: base.to_owned(), kind: Kind::Layout, is_mirror: false }
    }

    /// A manifest, by tag or digest (OCI distribution, "Pulling manifests").
    pub(super) fn manifest(&self, reference: &str) -> String {
        match &self.kind {
            Kind::Registry { repository } => format!("{}{repository}/manifests/{reference}", self.base),
            Kind::Layout => self.in_layout(reference),
        }
    }

    /// A blob, by its digest (OCI distribution, "Pulling blobs").
    pub(super) fn blob(&self, digest: &Digest) -> String {
        match &self.kind {
            Kind::Registry { repository } => format!("{}{repository}/blobs/{digest}", self.base),
            Kind::Layout => self.in_layout(&digest.to_string()),
        }
    }

    fn in_layout(&self, digest: &str) -> String {
        format!("{}blobs/{}", self.base, digest.replace(':', "/"))
    }

    /// A file of a layout; nothing for a registry, which has none by name.
    pub(super) fn file(&self, name: &str) -> Option<String> {
        match self.kind {
            Kind::Registry { .. } => None,
            Kind::Layout => Some(format!("{}{name}", self.base)),
        }
    }

    /// Where uploads begin (OCI distribution, "Pushing blobs").
    pub(super) fn uploads(&self) -> String {
        format!("{}{}/blobs/uploads/", self.base, self.repository())
    }

    pub(super) fn repository(&self) -> &str {
        match &self.kind {
            Kind::Registry { repository } => repository,
            Kind::Layout => "",
        }
    }

    /// What a token must allow (the token specification's "resource scope"); nothing for web servers.
    pub(super) fn scope(&self, push: bool) -> Vec<String> {
        match &self.kind {
            Kind::Registry { repository } if push => vec![format!("repository:{repository}:pull,push")],
            Kind::Registry { repository } => vec![format!("repository:{repository}:pull")],
            Kind::Layout => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Registry;

    fn place(text: &str, settings: &Settings) -> Result<Place, RegistryError> {
        Place::of(&text.parse().expect("a reference"), settings)
    }

    #[test]
    fn names_lead_to_registries() {
        let settings = Settings {
            aliases: [("nginx", "docker.io/nginx"), ("bad", "web")]
                .map(|(short, whole)| (short.to_owned(), whole.to_owned()))
                .into(),
            ..Settings::default()
        };
        let shown = |text| place(text, &settings).map(|place| place.to_string()).map_err(|e| e.to_string());
        assert_eq!(shown("nginx:1.26"), Ok("docker.io/library/nginx:1.26".to_owned()));
        assert_eq!(shown("docker.io/redis"), Ok("docker.io/library/redis:latest".to_owned()));
        assert_eq!(shown("docker.io/a/b:1"), Ok("docker.io/a/b:1".to_owned()));
        assert_eq!(shown("localhost:5000/web:1"), Ok("localhost:5000/web:1".to_owned()));
        let pinned = format!("a.example/b@sha256:{}", "a".repeat(64));
        let tagged = pinned.replace("b@", "b:1@");
        assert_eq!(shown(&tagged), Ok(pinned));
        assert!(shown("redis").is_err_and(|error| error.contains("docker.io/library/redis")));
        assert!(shown("bad").is_err_and(|error| error.contains("`bad = \"web\"` names no registry")));
    }

    #[test]
    fn mirrors_come_first() {
        let registry = Registry {
            mirrors: vec!["mirror.example".into(), "cache.example:5000/hub/".into()],
            ..Registry::default()
        };
        let plain = Registry { insecure: true, ..Registry::default() };
        let settings = Settings {
            registries: [("docker.io", registry), ("cache.example:5000", plain)]
                .map(|(host, registry)| (host.to_owned(), registry))
                .into(),
            ..Settings::default()
        };
        let place = place("docker.io/redis:7", &settings).expect("a place");
        let addresses: Vec<_> = place.endpoints(&settings).iter().map(|one| one.manifest("7")).collect();
        assert_eq!(
            addresses,
            [
                "https://mirror.example/v2/library/redis/manifests/7",
                "http://cache.example:5000/v2/hub/library/redis/manifests/7",
                "https://registry-1.docker.io/v2/library/redis/manifests/7",
            ]
        );
    }
}
