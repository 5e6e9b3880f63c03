//! Everything that a registry can do wrong, and what the person at the terminal sees of it.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use wharf::image::{Digest, Everything, Options};
use wharf::registry::{Credentials, Login, RegistryError, Secret, look};
use wharf::settings::Registry;

use crate::server::{Asked, INDEX, Made, Puller, Reply, Server, descriptor, ranged, replaced, said};
use crate::support::Home;

/// Answers by turns: the first request for something gets the first.
fn turn(count: &AtomicUsize) -> usize {
    count.fetch_add(1, Ordering::SeqCst)
}

fn partials(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.path("partial")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What is refused leaves nothing.
fn refused(
    made: Made,
    answers: impl Fn(&Made, &Asked) -> Reply + Send + Sync + 'static,
) -> (String, Server, Home) {
    let known = made.clone();
    let server = Server::start(move |asked| answers(&made, asked));
    let home = Home::new();
    let reference = format!("{}/team/web:v1", server.host);
    let error = Puller::of(&[&server.host]).pull(&home.store, &reference).expect_err("it must be refused");
    assert_eq!(home.contents(), Vec::<String>::new());
    let layer = known.layer(0);
    (said(&error, &[(&server.host, "HOST"), (&layer, "LAYER")]), server, home)
}

#[test]
fn a_pull_brings_an_image_and_a_second_one_fetches_nothing() {
    let made = Made::of(&[3000, 300_000, 40]);
    let served = made.clone();
    let server = Server::start(move |asked| served.answer(asked));
    let home = Home::new();
    let puller = Puller::of(&[&server.host]);
    let reference = format!("{}/team/web:v1", server.host);
    let pulled = puller.pull(&home.store, &reference).unwrap();
    assert_eq!(pulled.image.digest, made.digest());
    assert_eq!(pulled.image.reference.unwrap().to_string(), reference);
    assert_eq!((pulled.image.layers, pulled.image.new_layers), (3, 3));
    assert_eq!(pulled.fetched, made.layers.iter().map(|layer| layer.len() as u64).sum::<u64>());
    let image = home.store.resolve(&reference.parse().unwrap()).unwrap();
    assert_eq!(fs::read(image.layers[1].join("file-1")).unwrap().len(), 300_000);
    assert_eq!(partials(&home), Vec::<String>::new());
    let accept = server.asked()[0].header("accept").unwrap().to_owned();
    for kind in
        ["oci.image.index.v1+json", "oci.image.manifest.v1+json", "manifest.list.v2+json", "manifest.v2+json"]
    {
        assert!(accept.contains(kind), "{accept}");
    }

    let before = server.asked().len();
    let again = puller.pull(&home.store, &reference).unwrap();
    assert_eq!((again.image.layers, again.image.new_layers, again.fetched), (3, 0, 0));
    let asked: Vec<_> = server.asked().split_off(before).into_iter().map(|asked| asked.path).collect();
    assert_eq!(asked, ["/v2/team/web/manifests/v1"], "only what the tag names now");
}

#[test]
fn a_blob_that_is_here_is_not_fetched() {
    let (one, two) = (Made::of(&[500]), Made::of(&[500, 600]));
    assert_eq!(one.layer(0), two.layer(0));
    let (first, second) = (one.clone(), Made { repository: "team/more".into(), ..two.clone() });
    let server = Server::start(move |asked| {
        if asked.path.contains("/team/web/") { first.answer(asked) } else { second.answer(asked) }
    });
    let home = Home::new();
    let puller = Puller::of(&[&server.host]);
    puller.pull(&home.store, &format!("{}/team/web:v1", server.host)).unwrap();
    let pulled = puller.pull(&home.store, &format!("{}/team/more:v1", server.host)).unwrap();
    assert_eq!((pulled.image.layers, pulled.image.new_layers), (2, 1));
    assert_eq!(server.asked_for(&one.layer(0)).len(), 1, "the layer that both have came once");
}

#[test]
fn a_wrong_digest() {
    let (text, server, home) = refused(Made::of(&[5000]), |made, asked| {
        let mut reply = made.answer(asked);
        if asked.path.ends_with(&made.layer(0)) {
            reply.body[2000] ^= 1;
        }
        reply
    });
    let (start, found) = text.split_once(" has the digest sha256:").unwrap();
    assert_eq!(start, "the layer LAYER of HOST/team/web:v1 from HOST");
    assert_eq!(&found[64..], ", but LAYER was promised: it was changed or damaged");
    assert_eq!(partials(&home), Vec::<String>::new(), "what is wrong isn't kept");
    assert_eq!(server.asked_for("/blobs/sha256").len(), 2, "the config and the layer, once each");
}

#[test]
fn a_wrong_digest_of_a_document() {
    let (text, ..) = refused(Made::of(&[50]), |made, asked| {
        let mut reply = made.answer(asked);
        if asked.path.ends_with(&Digest::of(&made.config).to_string()) {
            reply.body[20] ^= 1;
        }
        reply
    });
    assert!(
        text.starts_with("the config sha256:") && text.contains(" from HOST has the digest sha256:"),
        "{text}"
    );
    let (text, ..) = refused(Made::of(&[50]), |made, asked| {
        made.answer(asked).with("Docker-Content-Digest", Digest::of(b"something else"))
    });
    assert!(text.starts_with("the manifest of HOST/team/web:v1 from HOST has the digest"), "{text}");
}

#[test]
fn a_truncated_blob() {
    let (text, server, _) = refused(Made::of(&[5000]), |made, asked| {
        let mut reply = made.answer(asked);
        if asked.path.ends_with(&made.layer(0)) {
            reply.body.truncate(1000);
        }
        reply
    });
    let size = Made::of(&[5000]).layers[0].len();
    assert_eq!(
        text,
        format!("the layer LAYER of HOST/team/web:v1 from HOST has 1000 bytes, but {size} were promised")
    );
    assert_eq!(server.asked_for(&Made::of(&[5000]).layer(0)).len(), 1, "that won't change by asking again");
}

#[test]
fn a_blob_that_is_too_long() {
    let (text, ..) = refused(Made::of(&[5000]), |made, asked| {
        let mut reply = made.answer(asked);
        if asked.path.ends_with(&made.layer(0)) {
            reply.body.extend(vec![0; 1 << 20]);
        }
        reply
    });
    assert!(text.starts_with("the layer LAYER of HOST/team/web:v1 from HOST has 10"), "{text}");
}

#[test]
fn a_wrong_media_type() {
    let (text, ..) = refused(Made::of(&[50]), |_, _| {
        Reply::new(200).with("Content-Type", "text/html; charset=utf-8").body("<html>please log in</html>")
    });
    assert_eq!(
        text,
        "HOST/team/web:v1 has the media type `text/html`, which is not an image's manifest or an index of them"
    );
    let mut old = Made::of(&[50]);
    old.media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws".into();
    old.manifest = json!({"schemaVersion": 1, "name": "x"}).to_string().into();
    let (text, ..) = refused(old, |made, asked| made.answer(asked));
    assert!(text.contains("manifest.v1+prettyjws"), "{text}");
    let mut layer = Made::of(&[50]);
    layer.manifest =
        String::from_utf8(layer.manifest).unwrap().replace("layer.v1.tar+gzip", "layer.v1.cow").into();
    let (text, ..) = refused(layer, |made, asked| made.answer(asked));
    assert!(text.starts_with("the layer LAYER of HOST/team/web:v1 has the media type"), "{text}");
}

#[test]
fn what_is_not_there() {
    let (text, ..) = refused(Made { repository: "other".into(), ..Made::of(&[50]) }, |made, asked| {
        let mut reply = made.answer(asked);
        if asked.path.contains("manifests") {
            reply = crate::server::unknown("MANIFEST_UNKNOWN", "manifest unknown\x1b[2J\nto us");
        }
        reply
    });
    assert_eq!(
        text,
        "HOST has no image HOST/team/web:v1 (it says: manifest unknown[2J to us, MANIFEST_UNKNOWN)"
    );
    let home = Home::new();
    let error = Puller::of(&["127.0.0.1:9"]).pull(&home.store, "127.0.0.1:9/x:1").unwrap_err();
    let text = said(&error, &[]);
    assert!(text.starts_with("can't reach 127.0.0.1:9: ") && text.contains("refused"), "{text}");
    let error = Puller::of(&[]).pull(&home.store, "nginx:1.26").unwrap_err();
    assert!(matches!(error, RegistryError::Short { .. }));
}

/// A registry behind tokens, and the place that gives them.
fn guarded(made: Made, count: Arc<AtomicUsize>) -> Server {
    let address = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&address);
    let server = Server::start(move |asked| {
        if asked.path.starts_with("/token") {
            // me:secret
            if asked.header("authorization") != Some("Basic bWU6c2VjcmV0") {
                return Reply::new(401).body(
                    r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#,
                );
            }
            let number = turn(&count);
            return Reply::new(200)
                .body(json!({"token": format!("t{number}"), "expires_in": 300}).to_string());
        }
        let good = format!("Bearer t{}", count.load(Ordering::SeqCst).saturating_sub(1));
        if count.load(Ordering::SeqCst) > 0 && asked.header("authorization") == Some(&good) {
            return made.answer(asked);
        }
        let realm = format!("http://{}/token", own.lock().unwrap());
        let challenge =
            format!(r#"Bearer realm="{realm}",service="the registry",scope="repository:team/web:pull""#);
        Reply::new(401).with("WWW-Authenticate", challenge)
    });
    *address.lock().unwrap() = server.host.clone();
    server
}

fn login(password: &str) -> Login {
    Login::Password { user: "me".into(), password: Secret(password.into()) }
}

#[test]
fn tokens_are_asked_for_once_and_again_when_they_are_refused() {
    let made = Made::of(&[50, 60, 70]);
    let count = Arc::new(AtomicUsize::new(0));
    let server = guarded(made, Arc::clone(&count));
    let home = Home::new();
    let mut puller = Puller::of(&[&server.host]);
    puller.credentials = Credentials::default().with(&server.host, login("secret"));
    let client = puller.client();
    let reference = format!("{}/team/web:v1", server.host).parse().unwrap();
    wharf::registry::pull(&client, &home.store, &reference, &Options::default(), &Everything).unwrap();
    let tokens = server.asked_for("/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].path, "/token?service=the%20registry&scope=repository%3Ateam%2Fweb%3Apull");
    // The server forgets the token before its time.
    turn(&count);
    wharf::registry::pull(&client, &home.store, &reference, &Options::default(), &Everything).unwrap();
    assert_eq!(server.asked_for("/token").len(), 2);
}

#[test]
fn a_refresh_token_of_another_login() {
    let made = Made::of(&[50]);
    let address = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&address);
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some("Bearer short") => made.answer(asked),
        _ if asked.path == "/oauth2" => Reply::new(200).body(r#"{"access_token":"short"}"#),
        _ => {
            let realm = format!("http://{}/oauth2", own.lock().unwrap());
            Reply::new(401).with("WWW-Authenticate", format!(r#"Bearer realm="{realm}",service="s""#))
        }
    });
    *address.lock().unwrap() = server.host.clone();
    let mut puller = Puller::of(&[&server.host]);
    puller.credentials =
        Credentials::default().with(&server.host, Login::Identity(Secret("long lived".into())));
    puller.pull(&Home::new().store, &format!("{}/team/web:v1", server.host)).unwrap();
    let asked = server.asked_for("/oauth2");
    assert_eq!((asked.len(), asked[0].method.as_str()), (1, "POST"));
    assert_eq!(
        String::from_utf8_lossy(&asked[0].body),
        "service=s&grant_type=refresh_token&client_id=wharf&refresh_token=long%20lived&scope=repository%3Ateam%2Fweb%3Apull"
    );
}

#[test]
fn a_wrong_password() {
    let server = guarded(Made::of(&[50]), Arc::default());
    let home = Home::new();
    let reference = format!("{}/team/web:v1", server.host);
    let mut puller = Puller::of(&[&server.host]);
    let places = [(&*server.host, "HOST")];
    let without = puller.pull(&home.store, &reference).unwrap_err();
    assert_eq!(
        said(&without, &places),
        "HOST refuses a token (it says: incorrect username or password, UNAUTHORIZED); if the name is right, log in with `wharf image login HOST`"
    );
    let file = home.folder.path().join("auth.json");
    wharf::registry::keep(&file, &server.host, "me", &Secret("wrong".into())).unwrap();
    puller.credentials = Credentials::file(&file);
    let wrong = puller.pull(&home.store, &reference).unwrap_err();
    assert_eq!(
        said(&wrong, &[places[0], (file.to_str().unwrap(), "FILE")]),
        "HOST refuses a token (it says: incorrect username or password, UNAUTHORIZED); the login of `me` in FILE isn't accepted: log in again with `wharf image login HOST`"
    );
    fs::write(&file, format!(r#"{{"auths":{{"{}":{{}}}},"credsStore":"desktop"}}"#, server.host)).unwrap();
    let helper = puller.pull(&home.store, &reference).unwrap_err();
    let text = said(&helper, &places);
    assert!(
        text.contains("a credential helper for it, `desktop`") && text.contains("runs no helpers"),
        "{text}"
    );
}

#[test]
fn too_many_requests() {
    let made = Made::of(&[50]);
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        if asked.path.contains("manifests") && turn(&count) == 0 {
            return Reply::new(429).with("Retry-After", 1);
        }
        made.answer(asked)
    });
    let home = Home::new();
    let puller = Puller::of(&[&server.host]);
    let began = Instant::now();
    puller.pull(&home.store, &format!("{}/team/web:v1", server.host)).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "it was asked to wait");
    let notes =
        puller.notes().iter().map(|note| replaced(note, &[(&server.host, "HOST")])).collect::<Vec<_>>();
    assert_eq!(notes, ["HOST asks to wait; going on in 1 s"]);

    let (text, server, _) =
        refused(Made::of(&[50]), |_, _| Reply::new(429).with("Retry-After", "Fri, 01 Jan 2100 00:00:00 GMT"));
    assert!(text.starts_with("HOST asks to come back in ") && text.contains("wharf image login"), "{text}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn trouble_that_passes() {
    let made = Made::of(&[50]);
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        // Each is refused twice.
        if turn(&count) % 3 < 2 { Reply::new(503) } else { made.answer(asked) }
    });
    let home = Home::new();
    Puller::of(&[&server.host]).pull(&home.store, &format!("{}/team/web:v1", server.host)).unwrap();
    assert_eq!(server.asked().len(), 9);

    let (text, server, _) = refused(Made::of(&[50]), |_, _| Reply::new(502).body("<html>bad gateway</html>"));
    assert_eq!(text, "HOST answers 502 for image HOST/team/web:v1");
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn a_connection_that_breaks_in_the_middle_goes_on_by_range() {
    let made = Made::of(&[400_000, 300_000]);
    let served = made.clone();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        let mut reply = served.answer(asked);
        if asked.path.ends_with(&served.layer(0)) && turn(&count) < 3 {
            reply.cut = Some(100_000);
        }
        reply
    });
    let home = Home::new();
    let pulled =
        Puller::of(&[&server.host]).pull(&home.store, &format!("{}/team/web:v1", server.host)).unwrap();
    let ranges: Vec<_> = server
        .asked_for(&made.layer(0))
        .iter()
        .map(|asked| asked.header("range").unwrap_or("all").to_owned())
        .collect();
    assert_eq!(ranges, ["all", "bytes=100000-", "bytes=200000-", "bytes=300000-"]);
    assert_eq!(
        pulled.fetched,
        made.layers.iter().map(|layer| layer.len() as u64).sum::<u64>(),
        "no byte twice"
    );
}

#[test]
fn a_connection_that_stalls_is_given_up() {
    let made = Made::of(&[50_000]);
    let served = made.clone();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        let mut reply = served.answer(asked);
        if asked.path.ends_with(&served.layer(0)) && turn(&count) == 0 {
            reply.stall = Some((10_000, Duration::from_secs(100)));
        }
        reply
    });
    let home = Home::new();
    let mut puller = Puller::of(&[&server.host]);
    puller.patience.stalled = Duration::from_millis(500);
    puller.pull(&home.store, &format!("{}/team/web:v1", server.host)).unwrap();
    assert_eq!(server.asked_for(&made.layer(0))[1].header("range"), Some("bytes=10000-"));
}

#[test]
fn the_next_pull_goes_on_where_the_last_one_was() {
    let made = Made::of(&[200_000]);
    let served = made.clone();
    let broken = Arc::new(Mutex::new(true));
    let flag = Arc::clone(&broken);
    let server = Server::start(move |asked| {
        let mut reply = served.answer(asked);
        if asked.path.ends_with(&served.layer(0)) && *flag.lock().unwrap() {
            if asked.header("range").is_some() {
                return Reply::new(500);
            }
            reply.cut = Some(150_000);
        }
        reply
    });
    let home = Home::new();
    let puller = Puller::of(&[&server.host]);
    let reference = format!("{}/team/web:v1", server.host);
    puller.pull(&home.store, &reference).expect_err("it breaks");
    assert_eq!(home.contents(), Vec::<String>::new());
    let hex = made.layer(0).trim_start_matches("sha256:").to_owned();
    assert_eq!(partials(&home), [hex.as_str()]);
    assert_eq!(fs::metadata(home.path("partial").join(&hex)).unwrap().len(), 150_000);
    *broken.lock().unwrap() = false;
    let before = server.asked_for(&hex).len();
    let pulled = puller.pull(&home.store, &reference).unwrap();
    assert_eq!(pulled.fetched, made.layers[0].len() as u64 - 150_000);
    assert_eq!(server.asked_for(&hex)[before].header("range"), Some("bytes=150000-"));
    assert_eq!(partials(&home), Vec::<String>::new());
}

#[test]
fn a_part_that_a_power_cut_damaged_costs_another_download() {
    let made = Made::of(&[200_000]);
    let served = made.clone();
    let server = Server::start(move |asked| served.answer(asked));
    let home = Home::new();
    let puller = Puller::of(&[&server.host]);
    fs::create_dir_all(home.path("partial")).unwrap();
    let path = home.path("partial").join(made.layer(0).trim_start_matches("sha256:"));
    fs::write(path, vec![0; 100_000]).unwrap();
    puller.pull(&home.store, &format!("{}/team/web:v1", server.host)).unwrap();
    let ranges: Vec<_> = server
        .asked_for(&made.layer(0))
        .iter()
        .map(|asked| asked.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [Some("bytes=100000-".to_owned()), None]);
    assert!(puller.notes()[0].contains("fetching all of it again"), "{:?}", puller.notes());
}

#[test]
fn servers_without_ranges() {
    for status in [200, 416] {
        let made = Made::of(&[200_000]);
        let served = made.clone();
        let count = AtomicUsize::new(0);
        let server = Server::start(move |asked| {
            if !asked.path.ends_with(&served.layer(0)) {
                return served.answer(asked);
            }
            let mut reply = Reply::new(200).body(served.layers[0].clone());
            if turn(&count) == 0 {
                reply.cut = Some(50_000);
            } else if status == 416 && asked.header("range").is_some() {
                reply = Reply::new(416);
            }
            reply
        });
        let home = Home::new();
        let reference = format!("{}/team/web:v1", server.host);
        Puller::of(&[&server.host]).pull(&home.store, &reference).unwrap();
        assert_eq!(fs::read(home.tree(&reference).join("file-0")).unwrap().len(), 200_000);
    }
}

#[test]
fn a_redirect_to_another_host_knows_no_password() {
    let made = Made::of(&[5000]);
    let layer = made.layers[0].clone();
    let store = Server::start(move |asked| ranged(asked, &layer));
    let (to, served) = (store.host.clone(), made.clone());
    let server = Server::start(move |asked| {
        if asked.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            return Reply::new(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if asked.path.ends_with(&served.layer(0)) {
            return Reply::new(307).with("Location", format!("http://{to}/elsewhere?signature=1"));
        }
        served.answer(asked)
    });
    let home = Home::new();
    let mut puller = Puller::of(&[&server.host]);
    puller.credentials = Credentials::default().with(&server.host, login("secret"));
    puller.pull(&home.store, &format!("{}/team/web:v1", server.host)).unwrap();
    let asked = store.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/elsewhere?signature=1");
    assert_eq!(asked[0].header("authorization"), None);

    let (text, ..) = refused(Made::of(&[50]), |_, asked| Reply::new(302).with("Location", &asked.path));
    assert_eq!(
        text,
        "HOST sends image HOST/team/web:v1 elsewhere, to `http://HOST/v2/team/web/manifests/v1`: that was the eleventh time"
    );
    let (text, ..) = refused(Made::of(&[50]), |_, _| Reply::new(302).with("Location", "file:///etc/passwd"));
    assert!(text.ends_with("that is no address"), "{text}");
}

#[test]
fn a_mirror_that_fails_is_passed_over() {
    let made = Made::of(&[5000, 6000]);
    // One that is down, one that doesn't have it, one that has a damaged layer, and the registry itself.
    let missing = Server::start(|_| Reply::new(404));
    let damaged = Made { repository: "hub/team/web".into(), ..made.clone() };
    let mirror = Server::start(move |asked| {
        let mut reply = damaged.answer(asked);
        if asked.path.ends_with(&damaged.layer(1)) {
            reply.body[3000] ^= 1;
        }
        reply
    });
    let served = made.clone();
    let server = Server::start(move |asked| served.answer(asked));
    let home = Home::new();
    let mut puller = Puller::of(&[&server.host, &mirror.host, &missing.host, "127.0.0.1:9"]);
    let own = Registry {
        mirrors: vec!["127.0.0.1:9".into(), missing.host.clone(), format!("{}/hub", mirror.host)],
        insecure: true,
        ..Registry::default()
    };
    puller.settings.registries.insert(server.host.clone(), own);
    let pulled = puller.pull(&home.store, &format!("{}/team/web:v1", server.host)).unwrap();
    assert_eq!(pulled.image.digest, made.digest());
    let fetched: Vec<_> = server.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(fetched, [format!("/v2/team/web/blobs/{}", made.layer(1))], "the mirror had all but this");
    let notes = puller.notes();
    let has = |text: &str| notes.iter().any(|note| note.contains(text));
    assert!(has("the mirror 127.0.0.1:9 is passed over: can't reach 127.0.0.1:9: "), "{notes:?}");
    assert!(
        has(&format!("the mirror {} is passed over: {} has no image", missing.host, missing.host)),
        "{notes:?}"
    );
    assert!(has("it was changed or damaged; asking the next"), "{notes:?}");
}

#[test]
fn an_index_is_kept_and_its_digest_names_the_image() {
    let made = Made::of(&[50]);
    let mut own = descriptor(&made.media_type, &made.manifest);
    own["platform"] = json!({"os": "linux", "architecture": wharf::image::machine_architecture()});
    let mut other = descriptor(&made.media_type, b"another machine's");
    other["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other, own]}).to_string();
    let digest = Digest::of(index.as_bytes()).to_string();
    let named = digest.clone();
    let server = Server::start(move |asked| {
        if asked.path.ends_with("/many") || asked.path.ends_with(&named) {
            return Reply::new(200).with("Content-Type", INDEX).body(index.clone());
        }
        made.answer(asked)
    });
    let home = Home::new();
    let puller = Puller::of(&[&server.host]);
    let pinned = format!("{}/team/web@{digest}", server.host);
    let pulled = puller.pull(&home.store, &pinned).unwrap();
    assert_eq!(pulled.index.map(|index| index.to_string()), Some(digest.clone()));
    assert_eq!(pulled.image.reference, None, "its digest is its name");
    let image = home.store.resolve(&pinned.parse().unwrap()).unwrap();
    assert_eq!(image.digest, pulled.image.digest);
    let before = server.asked().len();
    puller.pull(&home.store, &pinned).unwrap();
    assert_eq!(server.asked().len(), before, "a digest that is here needs no network");
    let listed = home.store.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].indexes, [digest.as_str()]);
    // The next command that changes the store sweeps, and finds nothing to take away.
    home.import_bytes(crate::support::Tar::new().file("a", "a").end(), "other:1").unwrap();
    home.store.resolve(&pinned.parse().unwrap()).unwrap();

    // By a tag as well: the image stays as long as that names it.
    let tagged = format!("{}/team/web:many", server.host);
    puller.pull(&home.store, &tagged).unwrap();
    let seen = look(&puller.client(), &home.store, &tagged.parse().unwrap(), None).unwrap();
    assert_eq!((seen.digest.as_str(), seen.manifest.as_str()), (&*digest, &*image.digest));
    assert_eq!(
        seen.platforms.iter().flat_map(|one| one.platform.clone()).collect::<Vec<_>>()[0],
        "linux/s390x"
    );
    assert!(seen.layers[0].here);
    let removed = home.store.remove(&pinned.parse().unwrap()).unwrap();
    assert_eq!((removed.references, removed.image), (vec![tagged], Some(image.digest)));
    home.store.remove(&"other:1".parse().unwrap()).unwrap();
    assert_eq!(home.contents(), Vec::<String>::new(), "the index is gone with its image");
}

#[test]
fn another_platform_can_be_asked_for() {
    let made = Made::of(&[50]);
    let mut own = descriptor(&made.media_type, &made.manifest);
    own["platform"] = json!({"os": "linux", "architecture": "arm", "variant": "v7"});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [own]}).to_string();
    let server = Server::start(move |asked| {
        if asked.path.ends_with("/many") {
            return Reply::new(200).with("Content-Type", INDEX).body(index.clone());
        }
        made.answer(asked)
    });
    let home = Home::new();
    let puller = Puller::of(&[&server.host]);
    let reference = format!("{}/team/web:many", server.host);
    let error = puller.pull(&home.store, &reference).unwrap_err().to_string();
    assert!(error.contains("has no image for linux/") && error.ends_with("it has linux/arm/v7"), "{error}");
    let platform = |text: &str| Options { platform: Some(text.parse().unwrap()), ..Options::default() };
    let pull = |wanted| {
        wharf::registry::pull(
            &puller.client(),
            &home.store,
            &reference.parse().unwrap(),
            &wanted,
            &Everything,
        )
    };
    pull(platform("linux/arm/v6")).expect_err("not that one");
    pull(platform("linux/arm/v7")).unwrap();
    // One image alone says for whom it is in its config.
    let single = format!("{}/team/web:v1", server.host).parse().unwrap();
    let wanted = platform("linux/s390x");
    let error = wharf::registry::pull(&puller.client(), &home.store, &single, &wanted, &Everything)
        .unwrap_err()
        .to_string();
    assert!(error.contains("has no image for linux/s390x; it has linux/"), "{error}");
}

#[test]
fn two_pulls_at_once_fetch_once() {
    let made = Made::of(&[300_000, 200_000, 100_000]);
    let served = made.clone();
    let server = Server::start(move |asked| served.answer(asked));
    let home = Home::new();
    let reference = format!("{}/team/web:v1", server.host);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| Puller::of(&[&server.host]).pull(&home.store, &reference).unwrap());
        }
    });
    for index in 0..3 {
        assert_eq!(server.asked_for(&made.layer(index)).len(), 1, "layer {index}");
    }
    assert_eq!(partials(&home), Vec::<String>::new());
    home.store.resolve(&reference.parse().unwrap()).unwrap();
}

#[test]
fn a_cancelled_pull_leaves_what_the_next_one_resumes() {
    let made = Made::of(&[200_000]);
    let served = made.clone();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        let mut reply = served.answer(asked);
        if asked.path.ends_with(&served.layer(0)) && turn(&count) == 0 {
            reply.stall = Some((120_000, Duration::from_secs(100)));
        }
        reply
    });
    let home = Home::new();
    let mut puller = Puller::of(&[&server.host]);
    puller.patience.stalled = Duration::from_secs(100);
    let client = puller.client();
    let reference = format!("{}/team/web:v1", server.host);
    let path = home.path("partial").join(made.layer(0).trim_start_matches("sha256:"));
    let began = Instant::now();
    let error = std::thread::scope(|scope| {
        let pull = scope.spawn(|| {
            wharf::registry::pull(
                &client,
                &home.store,
                &reference.parse().unwrap(),
                &Options::default(),
                &Everything,
            )
        });
        while fs::metadata(&path).map_or(0, |metadata| metadata.len()) < 120_000 {
            std::thread::yield_now();
        }
        client.cancel();
        pull.join().unwrap().expect_err("cancelled")
    });
    assert!(began.elapsed() < Duration::from_secs(60), "it doesn't wait for the server");
    assert!(matches!(error, RegistryError::Cancelled), "{error:?}");
    assert_eq!(home.contents(), Vec::<String>::new());
    puller.pull(&home.store, &reference).unwrap();
    assert_eq!(server.asked_for(&made.layer(0))[1].header("range"), Some("bytes=120000-"));
}

#[test]
fn a_full_disk_gives_one_error_and_keeps_nothing() {
    let made = Made::of(&[200_000, 900_000]);
    let server = Server::start(move |asked| made.answer(asked));
    let home = Home::new();
    let state = home.path("");
    fs::create_dir_all(&state).unwrap();
    let at = state.to_str().unwrap();
    crate::support::run("mount", &["-t", "tmpfs", "-o", "size=800k", "wharf-test", at]);
    let result = std::panic::catch_unwind(|| {
        let error = Puller::of(&[&server.host])
            .pull(&home.store, &format!("{}/team/web:v1", server.host))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("the file system of ") && text.ends_with(" is full; nothing was changed"),
            "{text}"
        );
        assert_eq!(home.contents(), Vec::<String>::new());
        assert_eq!(partials(&home), Vec::<String>::new(), "it would only keep the disk full");
    });
    crate::support::unmount(at);
    result.unwrap();
}

#[test]
fn a_refused_layer_ends_the_other_downloads() {
    // The first layer isn't what its config promises; the second would take until the test's patience ends.
    let mut made = Made::of(&[500, 400_000]);
    let promised = Digest::of(b"another tar").to_string();
    let mut config: serde_json::Value = serde_json::from_slice(&made.config).unwrap();
    config["rootfs"]["diff_ids"][0] = promised.as_str().into();
    made.config = config.to_string().into();
    let mut manifest: serde_json::Value = serde_json::from_slice(&made.manifest).unwrap();
    manifest["config"] = descriptor("application/vnd.oci.image.config.v1+json", &made.config);
    made.manifest = manifest.to_string().into();
    let count = AtomicUsize::new(0);
    let (text, ..) = refused(made, move |made, asked| {
        let mut reply = made.answer(asked);
        if asked.path.ends_with(&made.layer(1)) {
            turn(&count);
            reply.stall = Some((1000, Duration::from_millis(100)));
        }
        reply
    });
    assert!(
        text.starts_with("the layer LAYER of HOST/team/web:v1, uncompressed, has the digest sha256:"),
        "{text}"
    );
    assert!(text.contains(&format!("but {promised} was promised")), "{text}");
}
