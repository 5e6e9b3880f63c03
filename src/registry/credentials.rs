//! Who to be at a registry: files of `auths`, as `docker login` and its like write them.
//!
//! ```text
//! $CREDENTIALS_DIRECTORY/wharf-auth.json    a credential of the unit (systemd.exec(5), LoadCredential=)
//! /etc/wharf/auth.json                      0600 root; what `wharf image login` writes
//! ~/.docker/config.json                     what is there of Docker's, containers-auth.json(5)
//! ```
//!
//! The first file that has something for a registry counts. Only the `auths` in them are read: a helper
//! (`credHelpers`, `credsStore`) is a program that would run with all the rights of whoever pulls, and usually
//! wants a desktop. A file is changed under a lock of its folder, and replaced by a rename.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FlockOperation, flock};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{OnFile, RegistryError};
use crate::host::Paths;

/// More than this is no file of credentials.
const FILE_MAX: u64 = 1 << 20;

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What proves who one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A name and a password, or a token in its place.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token (OAuth2), which the registry gave out for a login elsewhere.
    Identity(Secret),
}

/// Where logins are looked for.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// For one registry, before all files.
    given: Option<(String, Login)>,
    files: Vec<PathBuf>,
}

/// What was found for a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) login: Option<Login>,
    /// The file that has it, or one that names a helper for it instead.
    pub(super) file: Option<PathBuf>,
    /// The helper.
    pub(super) helper: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize, Default)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

/// The file that logins are kept in.
pub fn own_file(paths: &Paths) -> PathBuf {
    paths.host("/etc/wharf/auth.json")
}

impl Credentials {
    /// The files of a host and of whoever runs this, in their order.
    pub fn of_host(paths: &Paths) -> Self {
        let unit = std::env::var_os("CREDENTIALS_DIRECTORY").map(|of| Path::new(&of).join("wharf-auth.json"));
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker/config.json"));
        Self { given: None, files: unit.into_iter().chain([own_file(paths)]).chain(home).collect() }
    }

    /// The same, with a file that goes before the others.
    #[must_use]
    pub fn first(mut self, file: Option<PathBuf>) -> Self {
        self.files.splice(..0, file);
        self
    }

    /// One file only.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { given: None, files: vec![path.into()] }
    }

    /// The same, with a login for one registry that goes before all files.
    #[must_use]
    pub fn with(mut self, registry: &str, login: Login) -> Self {
        self.given = Some((registry.to_owned(), login));
        self
    }

    /// The login for a repository. A file may have several that fit, by the beginning of the repository's name;
    /// the longest counts.
    pub(super) fn find(&self, registry: &str, repository: &str) -> Result<Found, RegistryError> {
        if let Some((given, login)) = &self.given
            && given == registry
        {
            return Ok(Found { login: Some(login.clone()), ..Found::default() });
        }
        let mut found = Found::default();
        for path in &self.files {
            let Some(text) = read(path)? else { continue };
            // What serde says of a mistake may hold what stands there.
            let file: AuthFile = serde_json::from_str(&text).map_err(|error| RegistryError::Malformed {
                path: path.clone(),
                why: format!(
                    "is no file of credentials, a mistake in line {} column {}",
                    error.line(),
                    error.column()
                ),
            })?;
            if let Some(login) = file.login(path, registry, repository)? {
                return Ok(Found { login: Some(login), file: Some(path.clone()), helper: None });
            }
            if found.helper.is_none()
                && let Some(helper) = file.helper(registry)
            {
                found.helper = Some(helper);
                found.file = Some(path.clone());
            }
        }
        Ok(found)
    }
}

impl AuthFile {
    fn login(&self, path: &Path, registry: &str, repository: &str) -> Result<Option<Login>, RegistryError> {
        let whole = format!("{registry}/{repository}");
        let fits = |key: &str| {
            let rest = whole.strip_prefix(key).map(|rest| rest.is_empty() || rest.starts_with('/'));
            rest.unwrap_or(false)
        };
        let entries = self.auths.iter().map(|(key, entry)| (normal(key), key, entry));
        let best = entries.filter(|(normal, ..)| fits(normal)).max_by_key(|(normal, ..)| normal.len());
        let Some((_, key, entry)) = best else { return Ok(None) };
        if !entry.identitytoken.is_empty() {
            return Ok(Some(Login::Identity(Secret(entry.identitytoken.clone()))));
        }
        if !entry.username.is_empty() {
            let password = Secret(entry.password.clone());
            return Ok(Some(Login::Password { user: entry.username.clone(), password }));
        }
        if entry.auth.is_empty() {
            // So Docker marks what a helper has.
            return Ok(None);
        }
        let decoded = STANDARD.decode(entry.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return Err(RegistryError::Malformed {
                path: path.to_owned(),
                why: format!("has an `auth` for `{key}` that isn't `USER:PASSWORD` in base64"),
            });
        };
        // Docker pads with zeros what it writes.
        let password = Secret(password.trim_end_matches('\0').to_owned());
        Ok(Some(Login::Password { user: user.to_owned(), password }))
    }

    fn helper(&self, registry: &str) -> Option<String> {
        let own = self.cred_helpers.iter().find(|(key, _)| normal(key) == registry).map(|(_, name)| name);
        let store = Some(&self.creds_store)
            .filter(|store| !store.is_empty() && self.auths.keys().any(|key| normal(key) == registry));
        own.or(store).cloned()
    }
}

/// A key as `registry/path`: older files have URLs there, with the version of the protocol behind.
fn normal(key: &str) -> String {
    let key = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or(key.strip_suffix("/v2")).unwrap_or(key);
    let (host, rest) = key.split_once('/').map_or((key, None), |(host, rest)| (host, Some(rest)));
    let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
    rest.map_or_else(|| host.to_owned(), |rest| format!("{host}/{rest}"))
}

fn read(path: &Path) -> Result<Option<String>, RegistryError> {
    let metadata = match fs::metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.on_file("read", path)?,
    };
    if !metadata.is_file() || metadata.len() > FILE_MAX {
        let why = "is no file of credentials".to_owned();
        return Err(RegistryError::Malformed { path: path.to_owned(), why });
    }
    let text = fs::read_to_string(path).on_file("read", path)?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

/// A JSON object whose values stay the bytes they are, in their order.
#[derive(Default)]
struct Raw(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl Raw {
    fn text(&self, indent: &str) -> String {
        let lines: Vec<_> = self
            .0
            .iter()
            .map(|(key, value)| {
                format!("{indent}\t{}: {}", serde_json::Value::from(key.as_str()), value.get())
            })
            .collect();
        if lines.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n{indent}}}", lines.join(",\n")) }
    }
}

/// Keeps a login in a file, for a registry or a repository there; everything else in the file stays as it is.
///
/// # Errors
/// [`RegistryError::File`], [`RegistryError::Malformed`].
pub fn keep(path: &Path, registry: &str, user: &str, password: &Secret) -> Result<(), RegistryError> {
    let auth = STANDARD.encode(format!("{user}:{}", password.0));
    change(path, registry, Some(format!("{{ \"auth\": \"{auth}\" }}"))).map(|_| ())
}

/// Takes the login for a registry out of a file. Says whether there was one.
///
/// # Errors
/// [`RegistryError::File`], [`RegistryError::Malformed`].
pub fn forget(path: &Path, registry: &str) -> Result<bool, RegistryError> {
    if read(path)?.is_none() {
        return Ok(false);
    }
    change(path, registry, None)
}

fn change(path: &Path, registry: &str, entry: Option<String>) -> Result<bool, RegistryError> {
    let malformed = |error: serde_json::Error| RegistryError::Malformed {
        path: path.to_owned(),
        why: format!("is not JSON as it must be, in line {} column {}", error.line(), error.column()),
    };
    // What a link leads to is changed, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).on_file("make the folder", folder)?;
    let lock = File::open(folder).on_file("open", folder)?;
    flock(&lock, FlockOperation::LockExclusive).on_file("lock", folder)?;
    let mut file: Raw = match read(path)? {
        Some(text) => serde_json::from_str(&text).map_err(malformed)?,
        None => Raw::default(),
    };
    let place = file.0.iter().position(|(key, _)| key == "auths");
    let mut auths: Raw = match place {
        Some(place) => serde_json::from_str(file.0[place].1.get()).map_err(malformed)?,
        None => Raw::default(),
    };
    let raw = |text: String| RawValue::from_string(text).map_err(malformed);
    let old = auths.0.iter().position(|(key, _)| normal(key) == registry);
    match (old, entry) {
        (Some(old), Some(entry)) => auths.0[old].1 = raw(entry)?,
        (Some(old), None) => drop(auths.0.remove(old)),
        (None, Some(entry)) => auths.0.push((registry.to_owned(), raw(entry)?)),
        (None, None) => return Ok(false),
    }
    let auths = raw(auths.text("\t"))?;
    match place {
        Some(place) => file.0[place].1 = auths,
        None => file.0.push(("auths".to_owned(), auths)),
    }
    replace(path, folder, &lock, &(file.text("") + "\n"))?;
    Ok(old.is_some())
}

/// The file is the old one or the new one, whenever power goes.
fn replace(path: &Path, folder: &Path, lock: &File, text: &str) -> Result<(), RegistryError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = folder.join(format!(".{name}.new"));
    // Left by somebody who died; nobody alive has it, since the folder is locked.
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).on_file("remove", new);
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().on_file("write", &new)?;
    fs::rename(&new, path).on_file("replace", path)?;
    lock.sync_all().on_file("sync", folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn found(json: &str, registry: &str, repository: &str) -> Found {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("auth.json");
        fs::write(&path, json).expect("written");
        Credentials::file(&path).find(registry, repository).expect("read")
    }

    fn user(json: &str, registry: &str, repository: &str) -> Option<String> {
        match found(json, registry, repository).login? {
            Login::Password { user, password } => Some(format!("{user}/{}", password.0)),
            Login::Identity(token) => Some(token.0),
        }
    }

    #[test]
    fn the_longest_name_counts() {
        // me:secret, you:more
        let json = r#"{"auths": {
            "a.example": {"auth": "bWU6c2VjcmV0"},
            "a.example/team": {"auth": "eW91Om1vcmU="},
            "https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0"},
            "t.example": {"identitytoken": "abc"}
        }}"#;
        assert_eq!(user(json, "a.example", "web").as_deref(), Some("me/secret"));
        assert_eq!(user(json, "a.example", "team/web").as_deref(), Some("you/more"));
        assert_eq!(user(json, "a.example", "teams").as_deref(), Some("me/secret"));
        assert_eq!(user(json, "docker.io", "library/nginx").as_deref(), Some("me/secret"));
        assert_eq!(user(json, "t.example", "x").as_deref(), Some("abc"));
        assert_eq!(user(json, "b.example", "web"), None);
    }

    #[test]
    fn helpers_are_named_and_not_run() {
        let json =
            r#"{"credsStore": "desktop", "auths": {"a.example": {}}, "credHelpers": {"b.example": "b"}}"#;
        assert_eq!(found(json, "a.example", "x").helper.as_deref(), Some("desktop"));
        assert_eq!(found(json, "b.example", "x").helper.as_deref(), Some("b"));
        assert_eq!(found(json, "c.example", "x"), Found::default());
    }

    #[test]
    fn the_rest_of_a_file_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/auth.json");
        let password = Secret("p:w".into());
        keep(&path, "a.example:5000", "me", &password).expect("kept");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let odd = "{\"z\":[1, 2.50,\n 3],\n  \"auths\" : {\"x.example\":{ \"auth\":\"eDp5\" , \"k\":1e2}},\"a\":{}}";
        fs::write(&path, odd).expect("written");
        keep(&path, "b.example", "me", &password).expect("kept");
        let text = fs::read_to_string(&path).expect("read");
        for kept in ["[1, 2.50,\n 3]", "{ \"auth\":\"eDp5\" , \"k\":1e2}", "\"a\": {}"] {
            assert!(text.contains(kept), "{kept} is not in {text}");
        }
        assert!(text.find("\"z\"") < text.find("\"auths\"") && text.find("\"auths\"") < text.find("\"a\""));
        assert_eq!(user(&text, "b.example", "x").as_deref(), Some("me/p:w"));
        assert!(forget(&path, "b.example").expect("forgotten"));
        assert!(!forget(&path, "b.example").expect("nothing to forget"));
        let text = fs::read_to_string(&path).expect("read");
        assert!(user(&text, "x.example", "x").is_some() && user(&text, "b.example", "x").is_none());
        let left = fs::read_dir(path.parent().expect("a folder")).expect("read").count();
        assert_eq!(left, 1, "nothing beside the file");
    }

    #[test]
    fn a_mistake_is_placed_without_what_stands_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("auth.json");
        fs::write(&path, "{\"auths\": {\n\"a.example\": \"verysecret\"}}").expect("written");
        let error = Credentials::file(&path).find("a.example", "x").expect_err("a mistake").to_string();
        assert!(error.contains("line 2") && !error.contains("verysecret"), "{error}");
    }
}
