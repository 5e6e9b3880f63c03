//! The documents of the OCI image specification, as far as Wharf reads them. They are kept as the bytes they
//! came in; these types only look into them, so keys that aren't named here lose nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// An annotation of Wharf's own, of a manifest in the index of an archive: the digest of the manifest that the image
/// had where the archive was written, which is in there, too. See [`mod@crate::image::save`].
pub(crate) const ORIGINAL: &str = "wharf.manifest";

/// The config of an image: what to run, and on what.
///
/// Empty texts and lists, which images write as often as they leave the key out, are given as they stand;
/// [`Execution`]'s fields are never null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// As Go's `GOARCH` has it: `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `linux`, for everything that Wharf can run.
    #[serde(default)]
    pub os: String,
    /// When it was built, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What to run.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: Execution,
    /// The layers.
    #[serde(default)]
    pub rootfs: RootFs,
}

/// What a container of the image runs, unless its file says something else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Execution {
    /// A user's name or number, and after a colon a group's; empty for root.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The rest of the arguments, or the whole command where there is no entry point.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// An absolute path inside; empty for `/`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `SIGQUIT` or `3`; empty for SIGTERM.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Notes for people and programs.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How to tell that it does its work: Docker's, and not of the OCI specification. One that can't be read is none.
    #[serde(default, deserialize_with = "readable", skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// `Healthcheck` of Docker's image configuration (moby's docker-image-spec), times in nanoseconds; 0 where the image
/// says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `NONE`; `CMD`, a program and its arguments; or `CMD-SHELL` and a line for the image's shell.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub interval: i64,
    /// Of one check.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub timeout: i64,
    /// In which failures don't count.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub start_period: i64,
    /// Between two checks in the start period; Wharf has its own.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub start_interval: i64,
    /// How many in a row must fail.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub retries: i64,
}

fn is_nothing(number: &i64) -> bool {
    *number == 0
}

/// The shortest and the longest time that is taken from an image: below the first the check would be the load, and the
/// second is a day.
const TIMES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(86_400));

impl Healthcheck {
    /// `Interval`, in bounds.
    pub fn interval(&self) -> Option<Duration> {
        time(self.interval)
    }

    /// `Timeout`, in bounds.
    pub fn timeout(&self) -> Option<Duration> {
        time(self.timeout)
    }

    /// `StartPeriod`, in bounds.
    pub fn start_period(&self) -> Option<Duration> {
        time(self.start_period)
    }

    /// `Retries`, in bounds.
    pub fn retries(&self) -> Option<u32> {
        Some(self.retries)
            .filter(|number| *number > 0)
            .and_then(|number| u32::try_from(number.min(1000)).ok())
    }
}

fn time(nanoseconds: i64) -> Option<Duration> {
    let nanoseconds = u64::try_from(nanoseconds).ok().filter(|time| *time != 0)?;
    Some(Duration::from_nanos(nanoseconds).clamp(TIMES.0, TIMES.1))
}

/// The layers of an image by their contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layers, the lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<String>,
}

/// The manifest of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What an index says: the same image for several machines, or several images.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// Where something is, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A kind of machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// Whether what is for this platform is what was wanted: this machine's where nothing is said, and any variant
    /// where none is named.
    pub(crate) fn serves(&self, wanted: Option<&crate::spec::Platform>) -> bool {
        let Self { architecture, os, variant } = self;
        let machine = wanted.map_or(machine_architecture(), |wanted| wanted.architecture.as_str());
        let wanted = wanted.and_then(|wanted| wanted.variant.as_ref());
        os == "linux"
            && architecture == machine
            && wanted.is_none_or(|wanted| variant.as_ref() == Some(wanted))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// This machine's architecture in the words of the image specification, which are Go's.
pub fn machine_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// Go writes empty lists and maps as `null`.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// What is of another form than it should be is as good as nothing.
fn readable<'de, D>(deserializer: D) -> Result<Option<Healthcheck>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_of_health() {
        let text = r#"{"Test":["CMD","x"],"Interval":5000000000,"Timeout":1,"Retries":3}"#;
        let check: Healthcheck = serde_json::from_str(text).expect("a check");
        assert_eq!(check.interval(), Some(Duration::from_secs(5)));
        assert_eq!((check.timeout(), check.start_period()), (Some(TIMES.0), None));
        assert_eq!(check.retries(), Some(3));
        assert_eq!(serde_json::to_string(&check).expect("JSON"), text);
        let odd = Healthcheck { interval: i64::MAX, retries: -1, ..Healthcheck::default() };
        assert_eq!((odd.interval(), odd.retries()), (Some(TIMES.1), None));
    }

    #[test]
    fn nulls_are_as_good_as_nothing() {
        let config: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"User":""},"rootfs":{"type":"layers","diff_ids":null}}"#,
        )
        .expect("a config");
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.config.env.is_empty() && config.rootfs.diff_ids.is_empty());
        let odd = r#"{"config":{"Healthcheck":"none","User":"x"}}"#;
        let config: ImageConfig = serde_json::from_str(odd).expect("a config");
        assert_eq!((config.config.healthcheck, config.config.user.as_str()), (None, "x"));
        let config: ImageConfig = serde_json::from_str(r#"{"config":null}"#).expect("a config");
        assert_eq!(config, ImageConfig::default());
    }
}
