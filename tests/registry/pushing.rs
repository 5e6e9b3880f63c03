//! Pushing to registries with ways of their own.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use wharf::image::{Digest, ImageError};
use wharf::registry::{Compression, Pushed, RegistryError, push};

use crate::server::{Asked, Puller, Reply, Server, noise, said, unknown};
use crate::support::{Home, Tar};

/// What a registry has taken.
#[derive(Default)]
struct Taken {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    /// Of the one upload at a time.
    upload: Vec<u8>,
}

/// A registry as the specification has it, without names for what it lists.
fn take(taken: &Mutex<Taken>, asked: &Asked) -> Reply {
    let mut taken = taken.lock().unwrap();
    let last = asked.path.rsplit('/').next().unwrap().to_owned();
    match asked.method.as_str() {
        "HEAD" if taken.blobs.contains_key(&last) => Reply::new(200),
        "HEAD" => Reply::new(404),
        "POST" => {
            taken.upload.clear();
            Reply::new(202).with("Location", "/upload?state=0")
        }
        "PATCH" => {
            let range = asked.header("content-range").unwrap();
            assert_eq!(
                range,
                format!("{}-{}", taken.upload.len(), taken.upload.len() + asked.body.len() - 1)
            );
            taken.upload.extend(&asked.body);
            Reply::new(202).with("Location", format!("/upload?state={}", taken.upload.len()))
        }
        "PUT" if asked.path.starts_with("/upload") => {
            let mut bytes = std::mem::take(&mut taken.upload);
            bytes.extend(&asked.body);
            let digest = asked.path.split_once("&digest=").unwrap().1.replace("%3A", ":");
            assert_eq!(Digest::of(&bytes).to_string(), digest);
            taken.blobs.insert(digest, bytes);
            Reply::new(201)
        }
        "PUT" => {
            taken.manifests.insert(last, asked.body.clone());
            Reply::new(201).with("Docker-Content-Digest", Digest::of(&asked.body))
        }
        _ => unknown("UNSUPPORTED", "not that"),
    }
}

fn go(server: &Server, content: &str, compression: Compression) -> Result<Pushed, RegistryError> {
    let home = Home::new();
    let tar = Tar::new().file("file", content).end();
    home.import_bytes(tar.clone(), "web:1").unwrap();
    let write = |_: &Digest, _: bool, out: &mut dyn Write| -> Result<(), ImageError> {
        out.write_all(&tar).unwrap();
        Ok(())
    };
    let to = format!("{}/team/web:1", server.host).parse().unwrap();
    let client = Puller::of(&[&server.host]).client();
    push(&client, &home.store, &"web:1".parse().unwrap(), &to, compression, &write)
}

#[test]
fn a_registry_that_takes_only_chunks() {
    let taken = Arc::new(Mutex::new(Taken::default()));
    let own = Arc::clone(&taken);
    let server = Server::start(move |asked| {
        if asked.method == "PUT" && asked.body.len() > 1 << 20 {
            return Reply::new(413);
        }
        take(&own, asked)
    });
    let content = "x".repeat(17 << 20);
    let pushed = go(&server, &content, Compression::None).unwrap();
    assert!(pushed.unchanged, "of a tar that nobody had packed the manifest stays as it is");
    assert_eq!(server.asked_for("/upload?").iter().filter(|asked| asked.method == "PATCH").count(), 2);
    let taken = taken.lock().unwrap();
    assert_eq!(Digest::of(&taken.manifests["1"]).to_string(), pushed.digest);
    let manifest: serde_json::Value = serde_json::from_slice(&taken.manifests["1"]).unwrap();
    let layer = &taken.blobs[manifest["layers"][0]["digest"].as_str().unwrap()];
    assert_eq!(manifest["layers"][0]["size"], layer.len());
    assert_eq!(*layer, Tar::new().file("file", &content).end());
    assert!(taken.blobs.contains_key(manifest["config"]["digest"].as_str().unwrap()));
    assert_eq!(server.asked().last().unwrap().path, "/v2/team/web/manifests/1", "the manifest is the last");
}

#[test]
fn trouble_in_the_middle_of_an_upload() {
    let taken = Arc::new(Mutex::new(Taken::default()));
    let own = Arc::clone(&taken);
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        // The first is lost with its session, and so is the second.
        if asked.method == "PUT" && asked.path.starts_with("/upload") {
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => return Reply::new(503),
                1 => return Reply::new(404),
                // This one is taken, and the answer lost.
                2 => {
                    take(&own, asked);
                    own.lock().unwrap().upload.clear();
                    return Reply::new(0);
                }
                3 => return Reply::new(404),
                _ => {}
            }
        }
        take(&own, asked)
    });
    go(&server, &noise(5000, 3), Compression::Gzip).unwrap();
    assert_eq!(taken.lock().unwrap().manifests.len(), 1);

    let server = Server::start(|asked| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        _ => Reply::new(403).body(r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#),
    });
    let text = said(&go(&server, "small", Compression::Gzip).unwrap_err(), &[(&server.host, "HOST")]);
    assert!(text.starts_with("HOST refuses an upload of sha256:"), "{text}");
    assert!(text.contains("(it says: read only, DENIED); if the name is right, log in with"), "{text}");
}
