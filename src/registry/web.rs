//! Images on plain web servers: an OCI layout as it lies in a folder, or an archive.
//!
//! `https://host/path/` and anything else whose last part has no dot is a layout; `https://host/x.tar.gz` is an
//! archive of any kind that `wharf image import` takes. What stands behind a `#` is the name of one image among
//! several. Plain HTTP is spoken to hosts that `wharf.toml` has as insecure registries.

use std::io::{self, Read};
use std::sync::Arc;

use super::client::Client;
use super::connection::broken;
use super::error::RegistryError;
use super::fetch::{Fetcher, Pulled};
use super::message::{Ask, authority};
use super::place::Endpoint;
use crate::image::{Admission, Entry, ImageError, Imported, Options, Source, Store, import_admitted};

/// An address of an image on a web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebAddress {
    /// Without the name of the image.
    url: String,
    /// With the port, if it isn't the usual one.
    host: String,
    /// One image of several.
    pick: Option<String>,
    is_layout: bool,
}

impl WebAddress {
    /// Whether a text is meant as one: `https://…` or `http://…`.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("https://") || text.starts_with("http://")
    }

    /// Takes a URL apart.
    ///
    /// # Errors
    /// [`RegistryError::Unclear`] for what is no URL, or has a password in it.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        let unclear = |why: &str| Err(RegistryError::Unclear(format!("`{text}` {why}")));
        let (url, pick) = text.split_once('#').map_or((text, None), |(url, pick)| (url, Some(pick)));
        let Some((scheme, host, port)) = authority(url) else {
            return unclear("is no address of a web server; write it as https://host/path/");
        };
        if url.split('/').nth(2).is_some_and(|host| host.contains('@')) {
            return Err(RegistryError::Unclear(format!(
                "an address with a name or password in it would be kept in many places; log in with `wharf image \
                 login {host}` instead"
            )));
        }
        let usual = if scheme == "https" { 443 } else { 80 };
        let host = if port == usual { host } else { format!("{host}:{port}") };
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let last = path.splitn(4, '/').nth(3).unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let is_layout = !last.contains('.') && !url.contains('?');
        let slash = if is_layout && !url.ends_with('/') { "/" } else { "" };
        Ok(Self {
            url: format!("{url}{slash}"),
            host,
            pick: pick.filter(|pick| !pick.is_empty()).map(str::to_owned),
            is_layout,
        })
    }

    /// The last part of the path: a name for what has none.
    fn file_name(&self) -> String {
        let path = self.url.split('?').next().unwrap_or_default().trim_end_matches('/');
        path.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// Pulls from a web server: all images there, or the one that the address or the options pick. When this returns, they are durable.
///
/// # Errors
/// Any [`RegistryError`]; then nothing is in the store, and of a layout only partial downloads are left, which
/// the next pull goes on with.
pub fn pull_from_web(
    client: &Arc<Client>,
    store: &Store,
    address: &WebAddress,
    options: &Options,
    admission: &dyn Admission,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Pulled>, RegistryError> {
    let WebAddress { url, host, pick, is_layout } = address;
    if url.starts_with("http://") && !client.is_insecure(host) {
        return Err(RegistryError::Unclear(format!(
            "`{url}` isn't protected by TLS; if that can't be helped, write `insecure = true` for \
             \"{host}\" in /etc/wharf/wharf.toml"
        )));
    }
    let options = Options { pick: pick.clone().or_else(|| options.pick.clone()), ..options.clone() };
    let (images, fetched) = if *is_layout {
        let endpoints = [Endpoint::layout(host, url)];
        let fetcher = Fetcher::new(client, store, &endpoints, url.clone());
        fetcher.run(Entry::Layout(Some(address.file_name().to_lowercase())), &options, admission)?
    } else {
        archive(client, store, address, &options, admission, progress)?
    };
    let pulled = |image: Imported| Pulled { image, from: url.clone(), index: None, fetched };
    Ok(images.into_iter().map(pulled).collect())
}

fn archive(
    client: &Arc<Client>,
    store: &Store,
    address: &WebAddress,
    options: &Options,
    admission: &dyn Admission,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(Vec<Imported>, u64), RegistryError> {
    let mut stream = Resumed {
        client: Arc::clone(client),
        url: address.url.clone(),
        host: address.host.clone(),
        at: 0,
        tag: None,
        reader: None,
        failures: 0,
    };
    // So that what isn't there is said before anything is begun.
    stream.connect()?;
    let fetched = std::sync::atomic::AtomicU64::new(0);
    let count = |bytes| {
        fetched.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        progress(bytes);
    };
    let source =
        Source::Named { what: address.url.clone(), file: address.file_name(), stream: Box::new(stream) };
    let images = import_admitted(store, source, options, admission, &count).map_err(|error| match error {
        // The reason that the stream gave, instead of what reading made of it.
        ImageError::Input { what, source } => match source.downcast::<RegistryError>() {
            Ok(error) => error,
            Err(source) => ImageError::Input { what, source }.into(),
        },
        other => other.into(),
    })?;
    Ok((images, fetched.into_inner()))
}

/// A small file of a web server, such as a signature: at most so many bytes. Nothing where there is none.
///
/// # Errors
/// Whatever keeps it from being known.
pub fn get(client: &Client, url: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    let WebAddress { host, .. } = WebAddress::parse(url).map_err(io::Error::other)?;
    if url.starts_with("http://") && !client.is_insecure(&host) {
        let why = format!("`{url}` isn't protected by TLS, and \"{host}\" isn't `insecure` in wharf.toml");
        return Err(io::Error::other(why));
    }
    let what = format!("`{url}`");
    let answer = client.send(&host, "", &[], &Ask::get(&what, url), false).map_err(io::Error::other)?;
    match client.accepted(answer, &what, &host, "") {
        Ok(answer) => answer.bytes(most, "a small file").map(Some).map_err(io::Error::other),
        Err(RegistryError::NotFound { .. }) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// A stream that goes on by a range where its connection breaks.
struct Resumed {
    client: Arc<Client>,
    url: String,
    host: String,
    at: u64,
    /// What the file is called in the version that was begun (RFC 9110, 8.8.3).
    tag: Option<String>,
    reader: Option<Box<dyn Read + Send>>,
    /// Since the last byte.
    failures: u32,
}

impl Resumed {
    fn connect(&mut self) -> Result<(), RegistryError> {
        let what = format!("`{}`", self.url);
        let mut ask = Ask::get(&what, &self.url);
        if self.at > 0 {
            ask.headers.push(("range", format!("bytes={}-", self.at)));
            ask.headers.extend(self.tag.clone().map(|tag| ("if-range", tag)));
        }
        let answer = self.client.send(&self.host, "", &[], &ask, false)?;
        let answer = self.client.accepted(answer, &what, &self.host, "")?;
        if self.at > 0 && answer.status != 206 {
            return Err(RegistryError::Protocol {
                host: self.host.clone(),
                why: format!(
                    "the connection broke after {} bytes of {what}, and it can't go on from there: try again",
                    self.at
                ),
            });
        }
        let tag = answer.header("etag").filter(|tag| tag.starts_with('"'));
        self.tag = self.tag.take().or(tag.map(str::to_owned));
        self.reader = Some(Box::new(answer.reader()));
        Ok(())
    }
}

impl Read for Resumed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.client.cancel.check().map_err(io::Error::other)?;
            if self.reader.is_none() {
                self.connect().map_err(io::Error::other)?;
            }
            let Some(reader) = &mut self.reader else { continue };
            match reader.read(into) {
                Ok(count) => {
                    self.at += count as u64;
                    self.failures = 0;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.reader = None;
                    self.failures += 1;
                    let patience = self.client.patience;
                    if self.failures >= patience.tries || self.client.cancel.is_cancelled() {
                        return Err(io::Error::other(broken(&self.host, error)));
                    }
                    self.client
                        .cancel
                        .pause(patience.pause_after(self.failures))
                        .map_err(io::Error::other)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_they_lead_to() {
        let of = |text: &str| {
            let WebAddress { url, host, pick, is_layout } = WebAddress::parse(text).expect(text);
            (url, host, pick, is_layout)
        };
        let https = |rest: &str| format!("https://{rest}");
        assert_eq!(of("https://a.example/x/"), (https("a.example/x/"), "a.example".into(), None, true));
        assert_eq!(
            of("https://a.example:8443/x#v1"),
            (https("a.example:8443/x/"), "a.example:8443".into(), Some("v1".into()), true)
        );
        assert_eq!(of("https://a.example"), (https("a.example/"), "a.example".into(), None, true));
        assert_eq!(
            of("https://a.example/x.tar.gz"),
            (https("a.example/x.tar.gz"), "a.example".into(), None, false)
        );
        assert!(!of("https://a.example/get?id=1").3);
        assert!(WebAddress::parse("https://me:pw@a.example/x").is_err_and(|e| !e.to_string().contains("pw")));
        assert!(WebAddress::parse("https://").is_err());
    }
}
