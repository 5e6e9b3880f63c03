//! A web server that does what a test says, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use wharf::image::{Digest, Everything, Options, Store};
use wharf::registry::{Client, Credentials, Patience, Pulled, RegistryError, Watch, pull};
use wharf::settings::{Registry, Settings};

use crate::support::Tar;

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// 0 hangs up.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// After so many bytes of the body the connection is gone.
    pub cut: Option<usize>,
    /// What `Content-Length` says, if not the truth.
    pub length: Option<usize>,
    /// After so many bytes nothing comes for so long.
    pub stall: Option<(usize, Duration)>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

type Answers = dyn Fn(&Asked) -> Reply + Send + Sync;

/// Runs until the test is over.
pub struct Server {
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answers: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answers): (_, Arc<Answers>) = (Arc::clone(&asked), Arc::new(answers));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
                std::thread::spawn(move || serve(stream, &log, &*answers));
            }
        });
        Self { host, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests for something.
    pub fn asked_for(&self, path: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.path.contains(path)).collect()
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answers: &Answers) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let asked = Asked { method, path, headers, body };
    let reply = answers(&asked);
    if reply.status == 0 {
        log.lock().unwrap().push(asked);
        return None;
    }
    let is_head = asked.method == "HEAD";
    log.lock().unwrap().push(asked);
    let mut out = stream;
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", reply.length.unwrap_or(reply.body.len()));
    out.write_all(head.as_bytes()).ok()?;
    if is_head {
        return Some(());
    }
    if let Some((bytes, pause)) = reply.stall {
        out.write_all(&reply.body[..bytes]).ok()?;
        // Nothing is sent meanwhile; a client that gives up closes, and that ends the pause.
        out.set_read_timeout(Some(pause)).ok()?;
        let _ = reader.read(&mut [0]);
        return Some(());
    }
    out.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len())]).ok()?;
    out.flush().ok()
}

/// An image as a registry has it.
#[derive(Clone)]
pub struct Made {
    pub repository: String,
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub media_type: String,
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Bytes that don't shrink.
pub fn noise(count: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        char::from(33 + (*state % 90) as u8)
    };
    (0..count).map(|_| next(&mut state)).collect()
}

impl Made {
    /// An image of some layers, each a file of so many bytes.
    pub fn of(sizes: &[usize]) -> Self {
        let tars: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| {
                Tar::new().file(&format!("file-{index}"), &noise(*size, index as u64 + 1)).end()
            })
            .collect();
        Self::of_tars(&tars)
    }

    /// An image of these layers.
    pub fn of_tars(tars: &[Vec<u8>]) -> Self {
        let layers: Vec<_> = tars.iter().map(|tar| gzip(tar)).collect();
        let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
        let config = json!({
            "architecture": wharf::image::machine_architecture(), "os": "linux", "config": {"Cmd": ["/file-0"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let descriptors: Vec<_> = layers
            .iter()
            .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": descriptors,
        });
        let manifest = manifest.to_string().into_bytes();
        Self { repository: "team/web".into(), layers, config, manifest, media_type: MANIFEST.into() }
    }

    pub fn layer(&self, index: usize) -> String {
        Digest::of(&self.layers[index]).to_string()
    }

    pub fn digest(&self) -> String {
        Digest::of(&self.manifest).to_string()
    }

    /// The blob that a path ends with.
    pub fn blob(&self, path: &str) -> Option<&Vec<u8>> {
        let blobs = self.layers.iter().chain([&self.config]);
        blobs.into_iter().find(|blob| path.ends_with(&Digest::of(blob).to_string()))
    }

    /// What an honest registry answers, with ranges.
    pub fn answer(&self, asked: &Asked) -> Reply {
        let manifests = format!("/v2/{}/manifests/", self.repository);
        if let Some(reference) = asked.path.strip_prefix(&manifests) {
            return if reference == "v1" || reference == self.digest() {
                Reply::new(200).with("Content-Type", &self.media_type).body(self.manifest.clone())
            } else {
                unknown("MANIFEST_UNKNOWN", "manifest unknown")
            };
        }
        match self.blob(&asked.path) {
            Some(blob) => ranged(asked, blob),
            None => unknown("BLOB_UNKNOWN", "blob unknown to registry"),
        }
    }
}

/// A whole file, or its end.
pub fn ranged(asked: &Asked, blob: &[u8]) -> Reply {
    let from = asked
        .header("range")
        .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap());
    match from {
        None => Reply::new(200).body(blob),
        Some(from) if from < blob.len() => Reply::new(206)
            .with("Content-Range", format!("bytes {from}-{}/{}", blob.len() - 1, blob.len()))
            .body(&blob[from..]),
        Some(_) => Reply::new(416),
    }
}

pub fn unknown(code: &str, message: &str) -> Reply {
    let errors = json!({"errors": [{"code": code, "message": message, "detail": null}]});
    Reply::new(404).with("Content-Type", "application/json").body(errors.to_string())
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

/// Remembers what a person would have seen.
#[derive(Default)]
pub struct Notes(pub Mutex<Vec<String>>);

impl Watch for Notes {
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// Whoever pulls.
pub struct Puller {
    pub settings: Settings,
    pub credentials: Credentials,
    pub patience: Patience,
    pub notes: Arc<Notes>,
}

impl Puller {
    /// May speak plain HTTP to these.
    pub fn of(hosts: &[&str]) -> Self {
        let insecure = |host: &&str| ((*host).to_owned(), Registry { insecure: true, ..Registry::default() });
        let settings = Settings { registries: hosts.iter().map(insecure).collect(), ..Settings::default() };
        let patience = Patience {
            pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(50),
            // Longer than a busy machine ever takes.
            stalled: Duration::from_secs(30),
            ..Patience::default()
        };
        Self { settings, credentials: Credentials::default(), patience, notes: Arc::default() }
    }

    pub fn client(&self) -> Arc<Client> {
        let notes: Arc<dyn Watch> = Arc::clone(&self.notes) as _;
        let client = Client::new(self.settings.clone(), self.credentials.clone(), notes);
        Arc::new(client.patient(self.patience))
    }

    pub fn pull(&self, store: &Store, reference: &str) -> Result<Pulled, RegistryError> {
        pull(&self.client(), store, &reference.parse().unwrap(), &Options::default(), &Everything)
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.0.lock().unwrap().clone()
    }
}

/// An error as a person sees it, on one line, with this in the place of addresses that change.
pub fn said(error: &RegistryError, places: &[(&str, &str)]) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    replaced(&text, places)
}

pub fn replaced(text: &str, places: &[(&str, &str)]) -> String {
    places.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
