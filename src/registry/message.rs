//! Requests and answers, and the addresses they go to.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use serde::Deserialize;
use ureq::http::{HeaderMap, Method, Uri};

use super::connection::broken;
use super::error::{RegistryError, plain};

/// What a server says about a refusal is read so far.
const SAID_MAX: u64 = 64 << 10;

/// What is asked.
pub(super) struct Ask<'a> {
    /// In words: "the manifest of …".
    pub(super) what: String,
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Payload<'a>,
}

/// What is sent along. It can be sent again.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    None,
    /// With its media type.
    Bytes(&'a [u8], &'a str),
    /// From here, so many bytes of a file.
    File(&'a File, u64, u64),
}

/// What comes back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Where it came from in the end.
    pub(super) url: String,
    /// Who was asked.
    pub(super) host: String,
    body: ureq::Body,
}

impl Ask<'_> {
    pub(super) fn new(method: Method, what: impl Into<String>, url: impl Into<String>) -> Self {
        let (what, url) = (what.into(), url.into());
        Self { what, method, url, headers: Vec::new(), payload: Payload::None }
    }

    pub(super) fn get(what: impl Into<String>, url: impl Into<String>) -> Self {
        Self::new(Method::GET, what, url)
    }

    pub(super) fn post(what: impl Into<String>, url: impl Into<String>) -> Self {
        Self::new(Method::POST, what, url)
    }
}

impl Answer {
    pub(super) fn new(status: u16, headers: HeaderMap, url: String, host: String, body: ureq::Body) -> Self {
        Self { status, headers, url, host, body }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How many bytes the server says that follow.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|length| length.trim().parse().ok())
    }

    pub(super) fn reader(self) -> impl Read + Send + 'static {
        self.body.into_with_config().limit(u64::MAX).reader()
    }

    /// All of it, if it is at most so many bytes.
    pub(super) fn bytes(self, most: u64, what: &str) -> Result<Vec<u8>, RegistryError> {
        let host = self.host.clone();
        let mut bytes = Vec::new();
        self.reader().take(most + 1).read_to_end(&mut bytes).map_err(|error| broken(&host, error))?;
        if bytes.len() as u64 > most {
            return Err(RegistryError::Protocol { host, why: format!("{what} has more than {most} bytes") });
        }
        Ok(bytes)
    }
}

/// Scheme, host and port: what may know a password (RFC 6454, 4).
pub(super) fn authority(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    Some((scheme, uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(usual)))
}

/// Where a `Location` leads (RFC 3986, 5.2, as far as servers use it).
pub(super) fn joined(base: &str, location: &str) -> Option<String> {
    if authority(location).is_some() {
        return Some(location.to_owned());
    }
    let uri: Uri = base.parse().ok()?;
    let root = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
    if let Some(rest) = location.strip_prefix("//") {
        return Some(format!("{}://{rest}", uri.scheme_str()?));
    }
    if location.starts_with('/') {
        return Some(root + location);
    }
    let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    (!location.contains("://")).then(|| format!("{root}{folder}/{location}"))
}

/// What is sent of a file.
pub(super) struct Section<'a> {
    pub(super) file: &'a File,
    pub(super) at: u64,
    pub(super) left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.file.read_at(&mut into[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// The errors of OCI distribution, "Error codes"; other servers send pages, which help nobody.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A server's own words about a refusal.
pub(super) fn said(answer: Answer) -> String {
    let Ok(bytes) = answer.bytes(SAID_MAX, "an error") else { return String::new() };
    let Ok(errors) = serde_json::from_slice::<Errors>(&bytes) else { return String::new() };
    let words = errors.errors.iter().map(|error| match (&*error.code, &*error.message) {
        ("", text) | (text, "") => text.to_owned(),
        (code, message) => format!("{message}, {code}"),
    });
    plain(&words.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let base = "https://a.example:5000/v2/x/blobs/uploads/?a=b";
        for (location, joined_to) in [
            ("https://b.example/c", Some("https://b.example/c")),
            ("/v2/y?z=1", Some("https://a.example:5000/v2/y?z=1")),
            ("//b.example/c", Some("https://b.example/c")),
            ("id?s=1", Some("https://a.example:5000/v2/x/blobs/uploads/id?s=1")),
            ("ftp://b.example/c", None),
        ] {
            assert_eq!(joined(base, location).as_deref(), joined_to, "{location}");
        }
    }

    #[test]
    fn a_usual_port_is_the_same_place() {
        assert_eq!(authority("https://A.example/x"), authority("https://a.example:443/y"));
        assert_ne!(authority("https://a.example/x"), authority("http://a.example:443/x"));
        assert_ne!(authority("https://a.example/x"), authority("https://b.example/x"));
    }
}
