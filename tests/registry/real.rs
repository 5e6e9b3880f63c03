//! Debian's `docker-registry` on loopback, with TLS and passwords; skopeo and umoci on the other side.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use wharf::image::{Digest, Everything, ImageError, Options};
use wharf::registry::{Compression, Credentials, Login, Secret, keep, look, pull, push, verify};
use wharf::settings::Registry;

use crate::host::Running;
use crate::server::{INDEX, Puller, replaced, said};
use crate::support::{Home, assert_same, describe, run};

impl Running {
    fn puller(&self) -> Puller {
        let mut puller = Puller::of(&[]);
        let own = Registry { authorities: vec![self.folder.path().join("ca.pem")], ..Registry::default() };
        puller.settings.registries.insert(self.host.clone(), own);
        puller.credentials = Credentials::default().with(&self.host, login("secret"));
        puller
    }

    /// Says so in a `wharf.toml` of the host's; of several, each in a file of its own.
    pub fn trusted_by(&self, home: &Home) {
        let folder = home.folder.path().join("etc/wharf/wharf.toml.d");
        fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "[registries.{:?}]\nauthorities = [{:?}]\n",
            self.host,
            self.folder.path().join("ca.pem")
        );
        fs::write(folder.join(format!("{}.toml", self.host.replace(':', "-"))), text).unwrap();
    }

    pub fn skopeo(&self, arguments: &[&str]) -> String {
        let mut all = vec![arguments[0]];
        if arguments[0] == "copy" {
            let opposite = arguments.iter().position(|word| word.starts_with("docker://"));
            let sends = opposite == Some(arguments.len() - 1);
            all.extend(["--quiet", "--insecure-policy"]);
            all.extend(if sends {
                ["--dest-creds", "me:secret", "--dest-tls-verify=false"]
            } else {
                ["--src-creds", "me:secret", "--src-tls-verify=false"]
            });
        } else {
            all.extend(["--creds", "me:secret", "--tls-verify=false"]);
        }
        all.extend(&arguments[1..]);
        run("skopeo", &all)
    }
}

fn login(password: &str) -> Login {
    Login::Password { user: "me".into(), password: Secret(password.into()) }
}

/// An OCI layout with an image of two layers, and what umoci makes of it.
struct Layout {
    folder: tempfile::TempDir,
    tree: BTreeMap<Vec<u8>, String>,
}

impl Layout {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (layout, image) = (at("web"), format!("{}:v1", at("web")));
        run("umoci", &["init", "--layout", &layout]);
        run("umoci", &["new", "--image", &image]);
        run("umoci", &["config", "--image", &image, "--config.cmd", "/bin/true"]);
        let layer = |bundle: &str, script: &str| {
            run("umoci", &["unpack", "--image", &image, &at(bundle)]);
            run("sh", &["-ec", &format!("cd {}/rootfs; {script}", at(bundle))]);
            run("umoci", &["repack", "--image", &image, &at(bundle)]);
        };
        layer(
            "one",
            "mkdir -p etc gone; head -c 400000 /dev/urandom >etc/noise; echo y >gone/y; ln etc/noise etc/same; chown 12:34 gone/y",
        );
        layer("two", "rm -r gone; echo 2 >etc/two; chmod 4755 etc/two; ln -s two etc/link");
        let bundle = at("compare");
        run("umoci", &["unpack", "--image", &image, &bundle]);
        let mut tree = describe(&Path::new(&bundle).join("rootfs"), false);
        for text in tree.values_mut() {
            // A note of umoci's own.
            text.truncate(text.find(" user.umoci").unwrap_or(text.len()));
        }
        Self { folder, tree }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("web")
    }

    fn source(&self) -> String {
        format!("oci:{}:v1", self.path().display())
    }

    /// The uncompressed tars by their digests.
    fn tars(&self) -> BTreeMap<Digest, Vec<u8>> {
        let blobs = fs::read_dir(self.path().join("blobs/sha256")).unwrap();
        blobs
            .filter_map(|blob| {
                let bytes = fs::read(blob.unwrap().path()).unwrap();
                let mut tar = Vec::new();
                flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut tar).ok()?;
                Some((Digest::of(&tar), tar))
            })
            .collect()
    }
}

/// What a container would see.
pub fn merged(home: &Home, name: &str) -> BTreeMap<Vec<u8>, String> {
    let image = home.store.resolve(&name.parse().unwrap()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let to = target.path().to_str().unwrap();
    let layers: Vec<_> = image.layers.iter().rev().map(|layer| layer.to_str().unwrap()).collect();
    run("mount", &["-t", "overlay", "-o", &format!("ro,lowerdir={}", layers.join(":")), "wharf-test", to]);
    let described = std::panic::catch_unwind(|| describe(target.path(), false));
    run("umount", &[to]);
    described.unwrap()
}

#[test]
fn what_skopeo_pushes_is_pulled_as_umoci_unpacks_it() {
    let registry = Running::start();
    let layout = Layout::make();
    let puller = registry.puller();
    for (tag, format) in [("oci", "oci"), ("docker", "v2s2")] {
        let reference = format!("{}/team/web:{tag}", registry.host);
        let to = format!("docker://{reference}");
        registry.skopeo(&["copy", "--format", format, &layout.source(), &to]);
        let home = Home::new();
        let pulled = puller.pull(&home.store, &reference).unwrap();
        assert_eq!((pulled.image.layers, pulled.image.new_layers), (2, 2), "{tag}");
        let digest = registry.skopeo(&["inspect", "--format", "{{.Digest}}", &to]);
        assert_eq!(pulled.image.digest, digest.trim(), "{tag}");
        assert_same(&merged(&home, &reference), &layout.tree);
        let seen = look(&puller.client(), &home.store, &reference.parse().unwrap(), None).unwrap();
        assert_eq!(seen.config.config.cmd, ["/bin/true"]);
        assert!(seen.layers.iter().all(|layer| layer.here && layer.size > 0));
        assert!(seen.layers[0].media_type.ends_with("gzip"), "{}", seen.layers[0].media_type);
    }
    assert_eq!(puller.notes(), Vec::<String>::new());
}

#[test]
fn what_is_pushed_is_pulled_by_skopeo() {
    let registry = Running::start();
    let layout = Layout::make();
    let home = Home::new();
    home.import_path(&layout.path(), Some("web:v1")).unwrap();
    let tars = layout.tars();
    let write = |diff_id: &Digest, _: bool, out: &mut dyn Write| -> Result<(), ImageError> {
        out.write_all(&tars[diff_id]).unwrap();
        Ok(())
    };
    let puller = registry.puller();
    let client = puller.client();
    let go = |to: &str, from: &str, compression| {
        let to = format!("{}/{to}", registry.host).parse().unwrap();
        push(&client, &home.store, &from.parse().unwrap(), &to, compression, &write)
    };
    let pushed = go("team/web:v1", "web:v1", Compression::Gzip).unwrap();
    assert_eq!((pushed.uploaded_layers, pushed.unchanged), (2, false), "packed again");
    let again = go("team/web:v1", "web:v1", Compression::Gzip).unwrap();
    assert_eq!((again.uploaded_layers, again.uploaded), (0, 0));
    assert_eq!(again.digest, pushed.digest, "the same bytes every time");
    for (tag, compression) in [("zstd", Compression::Zstd), ("plain", Compression::None)] {
        let other = go(&format!("team/web:{tag}"), "web:v1", compression).unwrap();
        assert_ne!(other.digest, pushed.digest);
    }
    // This umoci knows no zstd.
    let home_of_zstd = Home::new();
    let zstd = format!("{}/team/web:zstd", registry.host);
    puller.pull(&home_of_zstd.store, &zstd).unwrap();
    assert_same(&merged(&home_of_zstd, &zstd), &layout.tree);
    let raw = registry.skopeo(&["inspect", "--raw", &format!("docker://{zstd}")]);
    assert_eq!(raw.matches("oci.image.layer.v1.tar+zstd").count(), 2, "{raw}");
    for tag in ["v1", "plain"] {
        let from = format!("docker://{}/team/web:{tag}", registry.host);
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        registry.skopeo(&["copy", &from, &format!("oci:{}:v1", out.display())]);
        let bundle = folder.path().join("bundle");
        run("umoci", &["unpack", "--image", &format!("{}:v1", out.display()), bundle.to_str().unwrap()]);
        let mut tree = describe(&bundle.join("rootfs"), false);
        for text in tree.values_mut() {
            text.truncate(text.find(" user.umoci").unwrap_or(text.len()));
        }
        assert_same(&tree, &layout.tree);
    }

    // Pulled again it is what the registry has, and goes to another repository as it is, without its bytes.
    let reference = format!("{}/team/web:v1", registry.host);
    let other = Home::new();
    puller.pull(&other.store, &reference).unwrap();
    let to = format!("{}/team/copy:v1", registry.host).parse().unwrap();
    let never = |_: &Digest, _: bool, _: &mut dyn Write| -> Result<(), ImageError> { panic!("it is there") };
    let moved =
        push(&client, &other.store, &reference.parse().unwrap(), &to, Compression::Gzip, &never).unwrap();
    assert_eq!((moved.uploaded_layers, moved.unchanged, &*moved.digest), (0, true, &*pushed.digest));
    puller.pull(&Home::new().store, &to.to_string()).unwrap();

    let wrong = |_: &Digest, _: bool, out: &mut dyn Write| -> Result<(), ImageError> {
        out.write_all(b"something else").unwrap();
        Ok(())
    };
    let to = format!("{}/team/other:v1", registry.host).parse().unwrap();
    let error =
        push(&client, &home.store, &"web:v1".parse().unwrap(), &to, Compression::Zstd, &wrong).unwrap_err();
    assert!(error.to_string().contains("as it is packed again has the digest"), "{error}");
    look(&client, &home.store, &to, None).expect_err("no half image has a tag");
}

#[test]
fn an_index_by_its_digest() {
    let registry = Running::start();
    let layout = Layout::make();
    let index_path = layout.path().join("index.json");
    let top: Value = serde_json::from_slice(&fs::read(&index_path).unwrap()).unwrap();
    let mut own = top["manifests"][0].clone();
    own.as_object_mut().unwrap().remove("annotations");
    own["platform"] = json!({"os": "linux", "architecture": wharf::image::machine_architecture()});
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [own]}).to_string();
    let digest = Digest::of(list.as_bytes());
    fs::write(layout.path().join("blobs/sha256").join(digest.hex()), &list).unwrap();
    let top = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": INDEX, "digest": digest.to_string(), "size": list.len(),
        "annotations": {"org.opencontainers.image.ref.name": "many"},
    }]});
    fs::write(&index_path, top.to_string()).unwrap();
    let from = format!("oci:{}:many", layout.path().display());
    registry.skopeo(&["copy", "--all", &from, &format!("docker://{}/team/web:many", registry.host)]);
    let home = Home::new();
    let pinned = format!("{}/team/web@{digest}", registry.host);
    let pulled = registry.puller().pull(&home.store, &pinned).unwrap();
    assert_eq!(pulled.index, Some(digest));
    assert_same(&merged(&home, &pinned), &layout.tree);
}

#[test]
fn logins_and_certificates() {
    let registry = Running::start();
    let places = [(&*registry.host, "HOST")];
    let puller = registry.puller();
    verify(&puller.client(), &registry.host).unwrap();
    let mut wrong = registry.puller();
    wrong.credentials = Credentials::default().with(&registry.host, login("wrong"));
    let error = verify(&wrong.client(), &registry.host).unwrap_err();
    assert_eq!(
        said(&error, &places),
        "HOST refuses the login (it says: authentication required, UNAUTHORIZED); the login of `me` isn't accepted: log in again with `wharf image login HOST`"
    );
    // As a file has it.
    let file = registry.folder.path().join("auth.json");
    keep(&file, &registry.host, "me", &Secret("secret".into())).unwrap();
    wrong.credentials = Credentials::file(&file);
    verify(&wrong.client(), &registry.host).unwrap();

    let home = Home::new();
    let reference = format!("{}/team/web:v1", registry.host);
    let mut stranger = registry.puller();
    stranger.credentials = Credentials::default();
    let error = stranger.pull(&home.store, &reference).unwrap_err();
    assert_eq!(
        said(&error, &places),
        "HOST refuses image HOST/team/web:v1 (it says: authentication required, UNAUTHORIZED); if the name is right, log in with `wharf image login HOST`"
    );
    let error = puller.pull(&home.store, &reference).unwrap_err();
    assert!(said(&error, &places).starts_with("HOST has no image HOST/team/web:v1 (it says: "), "{error}");
    let mut unknown = registry.puller();
    unknown.settings.registries.clear();
    let text = said(&unknown.pull(&home.store, &reference).unwrap_err(), &places);
    assert!(text.starts_with("can't reach HOST: ") && text.contains("`authorities`"), "{text}");
    let mut plain = registry.puller();
    plain
        .settings
        .registries
        .insert(registry.host.clone(), Registry { insecure: true, ..Registry::default() });
    let text = said(&plain.pull(&home.store, &reference).unwrap_err(), &places);
    assert!(text.contains("answers 400"), "{text}");
}

#[test]
fn pulls_of_one_client_in_threads() {
    let registry = Running::start();
    let layout = Layout::make();
    registry.skopeo(&["copy", &layout.source(), &format!("docker://{}/team/web:v1", registry.host)]);
    let client = registry.puller().client();
    let reference = format!("{}/team/web:v1", registry.host);
    let home = Arc::new(Home::new());
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (client, home) = (Arc::clone(&client), Arc::clone(&home));
            let name = format!("web:{number}").parse().unwrap();
            let reference = reference.parse().unwrap();
            std::thread::spawn(move || {
                let options = Options { name: Some(name), ..Options::default() };
                pull(&client, &home.store, &reference, &options, &Everything).unwrap();
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(home.store.list().unwrap()[0].references.len(), 4);
}

/// The built command, on a host of its own that trusts the registry's authority.
pub fn wharf(registry: &Running, home: &Home, args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(args)
        .env("WHARF_ROOT", home.folder.path())
        .env("SSL_CERT_FILE", registry.folder.path().join("ca.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    command.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = command.wait_with_output().unwrap();
    let text = |bytes: &[u8]| replaced(&String::from_utf8_lossy(bytes), &[(&registry.host, "HOST")]);
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// That it went well, and what it said begins so.
pub fn is_said((code, out, err): &(i32, String, String), begin: &str) {
    assert!(*code == 0 && out.starts_with(begin), "{code}: {out}{err}");
}

#[test]
fn the_command_logs_in_and_pulls() {
    let registry = Running::start();
    let layout = Layout::make();
    registry.skopeo(&["copy", &layout.source(), &format!("docker://{}/team/web:v1", registry.host)]);
    let home = Home::new();
    let reference = format!("{}/team/web:v1", registry.host);
    let (code, out, err) = wharf(&registry, &home, &["image", "pull", &reference], "");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("log in with `wharf image login HOST`"), "{err}");
    let log_in = ["image", "login", "--username", "me", "--password-stdin", &registry.host];
    let (code, _, err) = wharf(&registry, &home, &log_in, "wrong\n");
    assert!(code == 1 && err.contains("the login of `me` isn't accepted"), "{err}");
    let (code, out, err) = wharf(&registry, &home, &log_in, "secret\n");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("HOST knows me; kept in "), "{out}");
    let (code, out, err) = wharf(&registry, &home, &["image", "inspect", "--remote", &reference], "");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("image HOST/team/web:v1\n") && out.contains("to fetch)\n"), "{out}");
    let (code, out, err) = wharf(&registry, &home, &["image", "pull", &reference], "");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("HOST/team/web:v1 sha256:") && out.contains(" (2 layers, 2 new, "), "{out}");
    let pull = ["image", "pull", "--json", "--name", "web:2", &reference, "--quiet"];
    let (code, out, _) = wharf(&registry, &home, &pull, "");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!((&said[0]["reference"], &said[0]["new-layers"]), (&json!("web:2"), &json!(0)));
    assert_same(&merged(&home, "web:2"), &layout.tree);
    let (code, _, _) = wharf(&registry, &home, &["image", "logout", &registry.host], "");
    assert_eq!(code, 0);
}
