//! Images on plain web servers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use wharf::image::{Digest, Everything, Options, Store};
use wharf::registry::{Pulled, RegistryError, WebAddress, pull_from_web};

use crate::server::{Asked, Made, Puller, Reply, Server, descriptor, gzip, noise, ranged, said};
use crate::support::{Home, Tar};

/// The files of a layout below `/images/`.
fn layout(made: &Made, names: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for blob in made.layers.iter().chain([&made.config, &made.manifest]) {
        files.insert(format!("/images/blobs/sha256/{}", Digest::of(blob).hex()), blob.clone());
    }
    let manifests: Vec<_> = names
        .iter()
        .map(|name| {
            let mut own = descriptor(&made.media_type, &made.manifest);
            own["annotations"] = json!({"org.opencontainers.image.ref.name": name});
            own
        })
        .collect();
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
    files.insert("/images/index.json".into(), index.into());
    files.insert("/images/oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    files
}

fn from_files(files: BTreeMap<String, Vec<u8>>) -> impl Fn(&Asked) -> Reply + Send + Sync {
    move |asked| files.get(&asked.path).map_or_else(|| Reply::new(404), |file| ranged(asked, file))
}

fn pull(
    server: &Server,
    store: &Store,
    path: &str,
    name: Option<&str>,
) -> Result<Vec<Pulled>, RegistryError> {
    let address = WebAddress::parse(&format!("http://{}{path}", server.host)).unwrap();
    let options = Options { name: name.map(|name| name.parse().unwrap()), ..Options::default() };
    pull_from_web(&Puller::of(&[&server.host]).client(), store, &address, &options, &Everything, &|_| ())
}

#[test]
fn a_layout_on_a_web_server() {
    let made = Made::of(&[3000, 4000]);
    let server = Server::start(from_files(layout(&made, &["v1", "v2"])));
    let home = Home::new();
    let pulled = pull(&server, &home.store, "/images/#v2", None).unwrap();
    assert_eq!(pulled[0].image.reference.as_ref().unwrap().to_string(), "images:v2");
    assert_eq!(pulled[0].image.digest, made.digest());
    let again = pull(&server, &home.store, "/images#v1", Some("web:1")).unwrap();
    assert_eq!(again[0].image.reference.as_ref().unwrap().to_string(), "web:1");
    assert_eq!((again[0].image.new_layers, again[0].fetched), (0, 0));
    let error = pull(&server, &home.store, "/images/#v3", None).unwrap_err();
    assert!(said(&error, &[]).contains("has no image called `v3`; it has v1, v2"), "{error}");
    let error = pull(&server, &home.store, "/nothing/", None).unwrap_err();
    assert_eq!(said(&error, &[(&server.host, "HOST")]), "HOST has no `index.json`");
}

#[test]
fn an_archive_on_a_web_server() {
    let tar = Tar::new().file("file", &noise(300_000, 7)).end();
    let packed = gzip(&tar);
    let cut = AtomicUsize::new(0);
    let size = packed.len();
    let server = Server::start(move |asked| {
        let mut reply = ranged(asked, &packed).with("ETag", "\"one\"");
        if cut.fetch_add(1, Ordering::SeqCst) == 0 {
            reply.cut = Some(100_000);
        }
        reply
    });
    let home = Home::new();
    let pulled = pull(&server, &home.store, "/pub/debian-13.tar.gz", None).unwrap();
    assert_eq!(pulled[0].image.reference.as_ref().unwrap().to_string(), "debian-13:latest");
    assert_eq!(pulled[0].fetched, size as u64);
    assert_eq!(server.asked()[1].header("range"), Some("bytes=100000-"));
    assert_eq!(server.asked()[1].header("if-range"), Some("\"one\""));
    let missing = Server::start(|_| Reply::new(404).body("<html>"));
    let error = pull(&missing, &home.store, "/x.tar", None).unwrap_err();
    assert_eq!(said(&error, &[(&missing.host, "HOST")]), "HOST has no `http://HOST/x.tar`");
}

#[test]
fn plain_http_must_be_allowed() {
    let home = Home::new();
    let address = WebAddress::parse("http://web.example/x/").unwrap();
    let error = pull_from_web(
        &Puller::of(&[]).client(),
        &home.store,
        &address,
        &Options::default(),
        &Everything,
        &|_| (),
    )
    .unwrap_err();
    assert!(error.to_string().contains("`insecure = true` for \"web.example\""), "{error}");
}
