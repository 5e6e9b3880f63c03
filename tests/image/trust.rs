//! Signatures, with keys and signatures that gpg and skopeo make.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use wharf::image::{Digest, ImageError, Imported, Options, Source, import_admitted};
use wharf::settings::{Policy, Registry, Settings};
use wharf::trust::{self, Asked, Gate, Given, Trusted};

use crate::support::{Home, Tar, need};

const DAY: u32 = 24 * 3600;

/// gpg with keys of its own.
struct Gnupg {
    home: tempfile::TempDir,
}

impl Gnupg {
    fn new() -> Self {
        need("gpg");
        Self { home: tempfile::Builder::new().prefix("g").tempdir().unwrap() }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("GNUPGHOME", self.home.path());
        command
    }

    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = self
            .command("gpg")
            .args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A key, and its fingerprint.
    fn key(&self, name: &str, more: &[&str], algorithm: &str, usage: &str, life: &str) -> String {
        let address = format!("{name} <{name}@example.org>");
        self.gpg(&[more, &["--quick-gen-key", &address, algorithm, usage, life]].concat(), b"");
        let list = self.gpg(&["--with-colons", "--list-keys", &address], b"");
        let list = String::from_utf8(list).unwrap();
        let line = list.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    fn export(&self, key: &str, to: &Path) {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, self.gpg(&["--export", key], b"")).unwrap();
    }

    fn sign(&self, text: &[u8], key: &str, more: &[&str]) -> Vec<u8> {
        self.gpg(&[&["--local-user", key], more, &["--sign"]].concat(), text)
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        // The agent that gpg has started for this folder.
        let _ = self.command("gpgconf").args(["--kill", "all"]).output();
    }
}

/// A store, keys that are trusted, and a folder of signatures.
struct Stage {
    home: Home,
    settings: Settings,
}

const NAME: &str = "registry.example/web:1";

impl Stage {
    fn new() -> Self {
        let home = Home::new();
        let lookaside = home.folder.path().join("lookaside").display().to_string();
        let registry = Registry { signatures: Some(lookaside), ..Registry::default() };
        let mut settings = Settings::default();
        settings.registries.insert("registry.example".to_owned(), registry);
        settings.trust.rules.insert("registry.example".to_owned(), Policy::Signed { keys: vec![] });
        Self { home, settings }
    }

    fn keys(&self) -> PathBuf {
        self.home.folder.path().join("keys")
    }

    fn import(&self, source: Source, name: &str, given: Given) -> Result<Vec<Imported>, ImageError> {
        let keys = self.keys();
        let fetch = |_: &str, _: u64| Err(std::io::Error::other("no network here"));
        let gate = Gate::new(&self.settings, &keys, given, &fetch, trust::now());
        let options = Options { name: Some(name.parse().unwrap()), ..Options::default() };
        import_admitted(&self.home.store, source, &options, &gate, &|_| ())
    }

    fn import_bytes(&self, bytes: &[u8], name: &str) -> Result<Vec<Imported>, ImageError> {
        self.import(Source::Stream(Box::new(std::io::Cursor::new(bytes.to_vec()))), name, Given::default())
    }

    /// What a start says.
    fn start(&self, name: &str, digest: &Digest, now: u32) -> Result<Trusted, String> {
        let reference = name.parse().unwrap();
        let asked = Asked { reference: &reference, digest };
        let kept = self.home.store.signatures(digest);
        let policy = self.settings.policy(&reference, None);
        trust::check(&self.settings, policy, &self.keys(), asked, &kept, now)
            .map_err(|error| error.to_string())
    }

    /// Puts signatures where the registry's are.
    fn serve(&self, digest: &Digest, signatures: &[Vec<u8>]) {
        let folder =
            trust::folder_in(&self.home.folder.path().join("lookaside"), "registry.example/web", digest);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (index, signature) in signatures.iter().enumerate() {
            fs::write(folder.join(format!("signature-{}", index + 1)), signature).unwrap();
        }
    }
}

fn image() -> Vec<u8> {
    Tar::new().file("program", "x").end()
}

/// The digest that an image gets, and its manifest.
fn manifest(tar: &[u8]) -> (Digest, Vec<u8>) {
    let home = Home::new();
    let digest: Digest = home.import_bytes(tar.to_vec(), "x").unwrap()[0].digest.parse().unwrap();
    let bytes = fs::read(home.path("blobs/sha256").join(digest.hex())).unwrap();
    (digest, bytes)
}

fn text(error: ImageError) -> String {
    error.to_string()
}

#[test]
fn skopeo_and_wharf_read_each_others_signatures() {
    need("skopeo");
    let gnupg = Gnupg::new();
    let stage = Stage::new();
    for (name, algorithm) in [("ed", "ed25519"), ("rsa", "rsa2048")] {
        let key = gnupg.key(name, &[], algorithm, "sign", "1d");
        gnupg.export(&key, &stage.keys().join(name));
        let (digest, bytes) = manifest(&image());
        let file = |name: &str| stage.home.folder.path().join(name).display().to_string();
        fs::write(file("manifest.json"), &bytes).unwrap();
        let skopeo =
            |arguments: &[&str]| -> Output { gnupg.command("skopeo").args(arguments).output().unwrap() };
        let signed =
            skopeo(&["standalone-sign", &file("manifest.json"), NAME, &key, "-o", &file("signature")]);
        assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
        stage.serve(&digest, &[fs::read(file("signature")).unwrap()]);
        stage.import_bytes(&image(), NAME).unwrap();
        // Kept: the lookaside may be gone by the next boot.
        stage.serve(&digest, &[]);
        let Trusted::Signed(signer) = stage.start(NAME, &digest, trust::now()).unwrap() else { panic!() };
        assert_eq!((signer.fingerprint.as_str(), signer.user.starts_with(name)), (key.as_str(), true));
        // The other way round, by the command.
        let ours = gnupg
            .command(env!("CARGO_BIN_EXE_wharf"))
            .args(["image", "sign", NAME, "--key", &key, "-o", &file("ours")])
            .env("WHARF_ROOT", stage.home.folder.path())
            .output()
            .unwrap();
        assert!(ours.status.success(), "{}", String::from_utf8_lossy(&ours.stderr));
        let verified = skopeo(&["standalone-verify", &file("manifest.json"), NAME, &key, &file("ours")]);
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        assert!(said.contains(&digest.to_string()), "{said}");
        let wrong = skopeo(&[
            "standalone-verify",
            &file("manifest.json"),
            "registry.example/web:2",
            &key,
            &file("ours"),
        ]);
        assert!(!wrong.status.success());
        stage.home.store.remove(&NAME.parse().unwrap()).unwrap();
        assert!(stage.home.store.signatures(&digest).is_empty(), "signatures go with their image");
    }
}

#[test]
fn what_is_not_signed_so_is_refused_with_the_reason() {
    let gnupg = Gnupg::new();
    let stage = Stage::new();
    let (digest, _) = manifest(&image());
    let (other, _) = manifest(&Tar::new().file("other", "").end());
    let good = gnupg.key("good", &[], "ed25519", "sign", "1d");
    let wrong = gnupg.key("wrong", &[], "ed25519", "sign", "1d");
    let then = ["--faked-system-time", "20200101T000000!"];
    let expired = gnupg.key("expired", &then, "ed25519", "sign", "1d");
    let old = gnupg.key("old", &then, "ed25519", "sign", "never");
    let revoked = gnupg.key("revoked", &[], "ed25519", "sign", "1d");
    let payload = |reference: &str, digest: &Digest| trust::payload(reference, digest, trust::now());
    let proper = payload(NAME, &digest);
    let by_revoked = gnupg.sign(&proper, &revoked, &[]);
    let certificate =
        fs::read_to_string(gnupg.home.path().join(format!("openpgp-revocs.d/{revoked}.rev"))).unwrap();
    gnupg.gpg(&["--import"], certificate.replace(":-----", "-----").as_bytes());
    for (name, key) in [("good", &good), ("expired", &expired), ("revoked", &revoked), ("old", &old)] {
        gnupg.export(key, &stage.keys().join(format!("{name}.gpg")));
    }
    let by_good = |text: &[u8]| gnupg.sign(text, &good, &[]);
    let mut damaged = by_good(&proper);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let mut unknown: serde_json::Value = serde_json::from_slice(&proper).unwrap();
    unknown["critical"]["also"] = "this".into();
    let mut kind: serde_json::Value = serde_json::from_slice(&proper).unwrap();
    kind["critical"]["type"] = "something else".into();
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        (
            "unsigned",
            vec![],
            "is not signed, and this host trusts registry.example/web only with a signature",
        ),
        ("wrong key", vec![gnupg.sign(&proper, &wrong, &[])], "which is not one of the trusted keys"),
        ("expired key", vec![gnupg.sign(&proper, &expired, &then)], "which expired on 2020-01-02"),
        ("revoked key", vec![by_revoked], "which was revoked"),
        ("another digest", vec![by_good(&payload(NAME, &other))], "a signature of another image, sha256:"),
        (
            "another tag",
            vec![by_good(&payload("registry.example/web:2", &digest))],
            "a signature for `registry.example/web:2`, and not for registry.example/web:1",
        ),
        (
            "another repository",
            vec![by_good(&payload("registry.example/other:1", &digest))],
            "a signature for `registry.example/other:1`",
        ),
        ("a letter", vec![by_good(b"Dear Sir or Madam")], "of something else than an image"),
        ("unknown critical key", vec![by_good(unknown.to_string().as_bytes())], "unknown field `also`"),
        ("another type", vec![by_good(kind.to_string().as_bytes())], "of the type `something else`"),
        ("no signature", vec![b"nonsense".to_vec()], "is no signed OpenPGP message"),
        ("text as it is", vec![proper.clone()], "is no signed OpenPGP message"),
        ("only packed", vec![gnupg.gpg(&["--store"], &proper)], "nobody has signed"),
        ("damaged", vec![damaged], "no signature of registry.example/web:1"),
        (
            "as text",
            vec![gnupg.gpg(&["--local-user", &good, "--clear-sign"], &proper)],
            "is no signed OpenPGP message",
        ),
        ("weak", vec![gnupg.sign(&proper, &good, &["--digest-algo", "SHA1"])], "which can be forged"),
        (
            "expired signature",
            vec![gnupg.sign(&proper, &old, &[&then[..], &["--default-sig-expire", "1d"]].concat())],
            "it has expired, though the key",
        ),
        (
            "two bad ones",
            vec![gnupg.sign(&proper, &wrong, &[]), by_good(&payload(NAME, &other))],
            "which is not one of the trusted keys; it is a signature of another image",
        ),
    ];
    for (case, signatures, reason) in cases {
        // At the import, from the lookaside.
        stage.serve(&digest, &signatures);
        let refused = text(stage.import_bytes(&image(), NAME).expect_err(case));
        assert!(refused.contains(reason), "{case}: {refused}");
        assert_eq!(stage.home.contents(), Vec::<String>::new(), "{case}");
        // At a start: the image was there before the policy.
        stage.home.import_bytes(image(), NAME).unwrap();
        for signature in &signatures {
            stage.home.store.keep_signature(&digest, signature).unwrap();
        }
        let refused = stage.start(NAME, &digest, trust::now()).expect_err(case);
        assert!(refused.contains(reason), "{case}: {refused}");
        stage.home.store.remove(&NAME.parse().unwrap()).unwrap();
    }
    // One good one among bad ones is enough.
    stage.serve(&digest, &[gnupg.sign(&proper, &wrong, &[]), b"nonsense".to_vec(), by_good(&proper)]);
    stage.import_bytes(&image(), NAME).unwrap();
    assert_eq!(stage.home.store.signatures(&digest).len(), 1, "only what is good is kept");
    // Keys are looked at anew each time, and so are names.
    assert!(matches!(stage.start(NAME, &digest, trust::now()), Ok(Trusted::Signed(_))));
    let pinned = format!("registry.example/web@{digest}");
    assert!(matches!(stage.start(&pinned, &digest, trust::now()), Ok(Trusted::Signed(_))));
    let later = stage.start(NAME, &digest, trust::now() + 2 * DAY).expect_err("expired by then");
    assert!(later.contains("which expired on"), "{later}");
    let moved = stage.start("registry.example/other:1", &digest, trust::now()).expect_err("another name");
    assert!(moved.contains("a signature for `registry.example/web:1`"), "{moved}");
    fs::remove_file(stage.keys().join("good.gpg")).unwrap();
    let gone = stage.start(NAME, &digest, trust::now()).expect_err("no longer trusted");
    assert!(gone.contains("not one of the trusted keys"), "{gone}");
    fs::remove_dir_all(stage.keys()).unwrap();
    let none = stage.start(NAME, &digest, trust::now()).expect_err("no keys");
    assert!(none.starts_with("there are no keys in "), "{none}");
}

#[test]
fn the_rule_for_a_repository_names_its_keys() {
    let gnupg = Gnupg::new();
    let mut stage = Stage::new();
    let (digest, _) = manifest(&image());
    let mine = gnupg.key("mine", &[], "ed25519", "sign", "1d");
    let theirs = gnupg.key("theirs", &[], "ed25519", "sign", "1d");
    // Armored is as good as binary, and a certifying key with a signing subkey as good as one key.
    fs::create_dir_all(stage.keys()).unwrap();
    fs::write(stage.keys().join("mine.asc"), gnupg.gpg(&["--armor", "--export", &mine], b"")).unwrap();
    gnupg.export(&theirs, &stage.keys().join("theirs.gpg"));
    let policy = Policy::Signed { keys: vec!["theirs.gpg".to_owned()] };
    stage.settings.trust.rules.insert("registry.example/web".to_owned(), policy);
    let text_of = trust::payload(NAME, &digest, trust::now());
    stage.serve(&digest, &[gnupg.sign(&text_of, &mine, &[])]);
    let refused = text(stage.import_bytes(&image(), NAME).expect_err("another's key"));
    assert!(refused.contains("not one of the trusted keys"), "{refused}");
    stage.settings.trust.rules.remove("registry.example/web");
    stage.import_bytes(&image(), NAME).unwrap();
    let bad = Policy::Signed { keys: vec!["../keys/mine.asc".to_owned()] };
    stage.settings.trust.rules.insert("registry.example/web".to_owned(), bad);
    let refused = stage.start(NAME, &digest, trust::now()).expect_err("no file name");
    assert!(refused.contains("must be the name of a file"), "{refused}");
    let whole = gnupg.key("whole", &[], "ed25519", "cert", "1d");
    gnupg.gpg(&["--quick-add-key", &whole, "ed25519", "sign", "1d"], b"");
    gnupg.gpg(&["--quick-add-key", &whole, "cv25519", "encr", "1d"], b"");
    gnupg.export(&whole, &stage.keys().join("whole.gpg"));
    stage.settings.trust.rules.remove("registry.example/web");
    stage.home.store.keep_signature(&digest, &gnupg.sign(&text_of, &whole, &[])).unwrap();
    fs::remove_file(stage.keys().join("mine.asc")).unwrap();
    let Trusted::Signed(signer) = stage.start(NAME, &digest, trust::now()).unwrap() else { panic!() };
    assert_eq!(signer.fingerprint, whole);
    // A subkey's own end counts.
    let refused = stage.start(NAME, &digest, trust::now() + 2 * DAY).expect_err("expired");
    assert!(refused.contains("expired on"), "{refused}");
    fs::write(stage.keys().join("stray.txt"), "not a key").unwrap();
    let refused = stage.start(NAME, &digest, trust::now()).expect_err("a stray file");
    assert!(refused.contains("stray.txt: it is no OpenPGP public key"), "{refused}");
}

#[test]
fn an_archive_with_its_signature() {
    let gnupg = Gnupg::new();
    let stage = Stage::new();
    let key = gnupg.key("archives", &[], "ed25519", "sign", "1d");
    gnupg.export(&key, &stage.keys().join("archives.gpg"));
    let file = |name: &str| stage.home.folder.path().join(name);
    // Something after the archive's end is signed as well.
    let bytes = [image(), vec![0; 20_000]].concat();
    fs::write(file("web.tar"), &bytes).unwrap();
    let (digest, _) = manifest(&bytes);
    let command = |arguments: &[&str]| {
        let output = gnupg
            .command(env!("CARGO_BIN_EXE_wharf"))
            .args(["image"])
            .args(arguments)
            .env("WHARF_ROOT", stage.home.folder.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let archive = file("web.tar").display().to_string();
    assert_eq!(command(&["sign", "--archive", &archive, "--key", &key]), (Some(0), String::new()));
    let signature = fs::read(file("web.tar.sig")).unwrap();
    let given = |beside: &[u8]| Given { beside: vec![beside.to_vec()], ..Given::default() };
    let import = |given| stage.import(Source::Path(file("web.tar")), NAME, given);
    let refused = text(import(Given::default()).expect_err("without it"));
    assert!(refused.contains("is not signed"), "{refused}");
    import(given(&signature)).unwrap();
    assert!(matches!(stage.start(NAME, &digest, trust::now()), Ok(Trusted::Signed(_))));
    let moved = stage.start("registry.example/web:2", &digest, trust::now()).expect_err("another name");
    assert!(moved.contains("from which registry.example/web:1 was imported"), "{moved}");
    let later = stage.start(NAME, &digest, trust::now() + 2 * DAY).expect_err("expired by then");
    assert!(later.contains("expired on"), "{later}");
    stage.home.store.remove(&NAME.parse().unwrap()).unwrap();
    // Compressed: the signature is of the bytes as they came.
    let packed = gnupg.gpg(&["--local-user", &key, "--armor", "--detach-sign"], &bytes);
    assert!(packed.starts_with(b"-----BEGIN PGP SIGNATURE-----"));
    import(given(&packed)).unwrap();
    stage.home.store.remove(&NAME.parse().unwrap()).unwrap();
    // One bit behind the end of the archive.
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(file("web.tar"), &changed).unwrap();
    let refused = text(import(given(&signature)).expect_err("changed"));
    assert!(refused.contains("is not valid: what the key"), "{refused}");
    assert_eq!(stage.home.contents(), Vec::<String>::new());
    // What is named must be good even where the policy asks for nothing.
    let named = file("web.tar.sig").display().to_string();
    let (status, said) = command(&["import", "--name", "any:1", "--signature", &named, &archive]);
    assert!(status == Some(1) && said.contains("there are no keys in"), "{said}");
    gnupg.export(&key, &stage.home.folder.path().join("etc/wharf/keys/archives.gpg"));
    let (status, said) = command(&["import", "--name", "any:1", "--signature", &named, &archive]);
    assert!(status == Some(1) && said.contains("is not valid"), "{said}");
    fs::write(file("web.tar"), &bytes).unwrap();
    assert_eq!(
        command(&["import", "--name", "any:1", "--signature", &named, &archive]),
        (Some(0), String::new())
    );
    let (status, said) = command(&["import", "--name", "any:1", "--signature", &archive, &archive]);
    assert!(status == Some(1) && said.contains("is no OpenPGP signature"), "{said}");
    // What the store has is enough for the policy, offline; what somebody names must be good itself.
    let kept = stage.home.store.signatures(&digest);
    assert_eq!(kept.len(), 1);
    let named = |bytes: &[u8]| Given { named: vec![bytes.to_vec()], ..Given::default() };
    let other = gnupg.gpg(&["--local-user", &key, "--detach-sign"], b"something else");
    let refused = text(import(named(&other)).expect_err("another file's"));
    assert!(refused.contains("is not valid"), "{refused}");
    import(named(&signature)).unwrap();
    import(Given::default()).unwrap();
    stage.home.store.remove(&NAME.parse().unwrap()).unwrap();
    // Text from outside that looks like what the store itself writes down is no signature.
    let record = stage.home.store.signatures(&digest).pop().unwrap();
    assert!(trust::Record::parse(&record).is_some());
    stage.home.store.remove(&"any:1".parse().unwrap()).unwrap();
    stage.serve(&digest, &[record]);
    let refused = text(import(Given::default()).expect_err("a forged record"));
    assert!(refused.contains("is no signed OpenPGP message"), "{refused}");
}

#[test]
fn archives_of_images_are_watched_too() {
    let gnupg = Gnupg::new();
    let stage = Stage::new();
    let key = gnupg.key("archives", &[], "ed25519", "sign", "1d");
    gnupg.export(&key, &stage.keys().join("archives.gpg"));
    let layer = image();
    let id = Digest::of(&layer).to_string();
    let config = serde_json::json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [id] } });
    let list = serde_json::json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    let layer = String::from_utf8(layer).unwrap();
    let saved = Tar::new()
        .file("manifest.json", &list.to_string())
        .file("config.json", &config.to_string())
        .file("layer.tar", &layer)
        .end();
    let archive = stage.home.folder.path().join("saved.tar");
    fs::write(&archive, &saved).unwrap();
    let signature = gnupg.gpg(&["--local-user", &key, "--detach-sign"], &saved);
    let given = Given { beside: vec![signature.clone()], ..Given::default() };
    let imported = stage.import(Source::Path(archive.clone()), NAME, given).unwrap();
    let digest = imported[0].digest.parse().unwrap();
    assert!(matches!(stage.start(NAME, &digest, trust::now()), Ok(Trusted::Signed(_))));
    stage.home.store.remove(&NAME.parse().unwrap()).unwrap();
    let mut changed = saved;
    let last = changed.len() - 1;
    changed[last] = 1;
    fs::write(&archive, changed).unwrap();
    let given = Given { beside: vec![signature], ..Given::default() };
    let refused = text(stage.import(Source::Path(archive), NAME, given).expect_err("changed"));
    assert!(refused.contains("is not valid"), "{refused}");
    assert_eq!(stage.home.contents(), Vec::<String>::new());
}

#[test]
fn pinned_only() {
    let mut stage = Stage::new();
    stage.settings.trust.rules.clear();
    stage.settings.trust.policy = Policy::Digest;
    let (digest, _) = manifest(&image());
    let refused = text(stage.import_bytes(&image(), NAME).expect_err("not pinned"));
    assert!(
        refused.contains("is not pinned to a digest") && refused.contains(&format!("--digest {digest}")),
        "{refused}"
    );
    let source = || Source::Stream(Box::new(std::io::Cursor::new(image())));
    let other = Given { pinned: Some(Digest::of(b"")), ..Given::default() };
    let refused = text(stage.import(source(), NAME, other).expect_err("another"));
    assert!(refused.contains(&format!("has the digest {digest}, and sha256:e3b0c")), "{refused}");
    assert_eq!(stage.home.contents(), Vec::<String>::new());
    stage.import(source(), NAME, Given { pinned: Some(digest), ..Given::default() }).unwrap();
    let refused = stage.start(NAME, &digest, trust::now()).expect_err("not pinned");
    assert!(refused.contains(&format!("write registry.example/web@{digest}")), "{refused}");
    let pinned = format!("registry.example/web@{digest}");
    assert_eq!(stage.start(&pinned, &digest, trust::now()), Ok(Trusted::Pinned));
    stage.settings.trust.policy = Policy::Any;
    assert_eq!(stage.start(NAME, &digest, trust::now()), Ok(Trusted::Any));
}

#[test]
fn signed_at_home() {
    let gnupg = Gnupg::new();
    let stage = Stage::new();
    let key = gnupg.key("home", &[], "ed25519", "sign", "1d");
    gnupg.export(&key, &stage.keys().join("home.gpg"));
    stage.home.import_bytes(image(), "local:1").unwrap();
    let (digest, _) = manifest(&image());
    let wharf = |arguments: &[&str]| {
        let mut command = gnupg.command(env!("CARGO_BIN_EXE_wharf"));
        command.args(["image"]).args(arguments).env("WHARF_ROOT", stage.home.folder.path()).output().unwrap()
    };
    let lookaside = stage.home.folder.path().join("lookaside").display().to_string();
    let arguments = ["sign", "local:1", "--as", NAME, "--key", &key, "--lookaside", &lookaside];
    for number in [1, 2] {
        let output = wharf(&arguments);
        let place = format!("{lookaside}/web@sha256={}/signature-{number}\n", digest.hex());
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            place,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // As somebody else gets it.
    stage.import_bytes(&image(), NAME).unwrap();
    stage.home.store.remove(&format!("local@{digest}").parse().unwrap()).unwrap();
    stage.home.import_bytes(image(), NAME).unwrap();
    assert!(stage.start(NAME, &digest, trust::now()).is_err());
    assert!(wharf(&["sign", NAME]).status.success());
    assert!(matches!(stage.start(NAME, &digest, trust::now()), Ok(Trusted::Signed(_))));
    let output = wharf(&["verify", NAME]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, format!("{NAME} {digest}: wharf.toml asks for nothing\n"));
    let output = wharf(&["sign", NAME, "--key", "nobody@example.org"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("nobody@example.org"), "{said}");
    assert!(wharf(&["verify", "none:1"]).status.code() == Some(1));
    assert!(wharf(&["verify", "--reference", NAME, "--digest", &digest.to_string()]).status.success());
    // As a start asks, with the policy of its plan.
    gnupg.export(&key, &stage.home.folder.path().join("etc/wharf/keys/home.gpg"));
    let asks = |reference: &str, more: &[&str]| {
        let digest = digest.to_string();
        let line = [&["verify", "--signed", "--digest", &digest, "--reference", reference], more].concat();
        let output = wharf(&line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    for more in [&[][..], &["--key", "home.gpg"]] {
        let (status, said) = asks(NAME, more);
        assert!(status == Some(0) && said.contains(&key), "{said}");
    }
    let (status, said) = asks(NAME, &["--key", "other.gpg"]);
    assert!(status == Some(1) && said.contains("can't read the key") && said.contains("other.gpg"), "{said}");
    let (status, said) = asks("registry.example/web:2", &[]);
    assert!(status == Some(1) && said.contains("a signature for `registry.example/web:1`"), "{said}");
    // The signature is part of what fsck and prune know.
    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["fsck"])
        .env("WHARF_ROOT", stage.home.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !said.contains("orphan"), "{said}");
}

#[test]
fn no_bytes_pass_or_bring_it_down() {
    let gnupg = Gnupg::new();
    let stage = Stage::new();
    let key = gnupg.key("good", &[], "ed25519", "sign", "1d");
    gnupg.export(&key, &stage.keys().join("good.gpg"));
    let keyring = trust::Keyring::load(&stage.keys(), &[]).unwrap();
    let reference = NAME.parse().unwrap();
    let (digest, _) = manifest(&image());
    let (other, _) = manifest(&Tar::new().file("other", "").end());
    let judge = |digest: &Digest, bytes: &[u8]| {
        let asked = Asked { reference: &reference, digest };
        trust::signed(&keyring, "registry.example/web", asked, &[bytes.to_vec()], trust::now())
    };
    let text = trust::payload(NAME, &digest, trust::now());
    // Packed and not, in one piece and cut off after each byte, with each byte changed.
    for more in [&["--compress-level", "0"][..], &[], &["--armor"]] {
        let whole = gnupg.sign(&text, &key, more);
        assert!(judge(&digest, &whole).is_ok());
        assert!(judge(&other, &whole).is_err());
        for at in 0..whole.len() {
            let cut = judge(&digest, &whole[..at]);
            // An armor's last lines are a checksum that nobody needs.
            assert!(cut.is_err() || more == ["--armor"], "the first {at} bytes");
            for bits in [1, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= bits;
                // Where a change is of no matter, what was signed is still what counts.
                assert!(judge(&other, &changed).is_err(), "byte {at} with {bits:x}");
            }
        }
    }
    // As large as they want to be: packed, this has some kilobytes.
    let bomb = gnupg.sign(&vec![b' '; 50_000_000], &key, &[]);
    let why = judge(&digest, &bomb).unwrap_err().to_string();
    assert!(why.contains("too long"), "{why}");
}

#[test]
fn a_folder_has_no_detached_signature() {
    let gnupg = Gnupg::new();
    let stage = Stage::new();
    let key = gnupg.key("archives", &[], "ed25519", "sign", "1d");
    gnupg.export(&key, &stage.keys().join("archives.gpg"));
    let folder = stage.home.folder.path().join("saved");
    fs::create_dir(&folder).unwrap();
    let config = serde_json::json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [] } });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let list = serde_json::json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": [] }]);
    fs::write(folder.join("manifest.json"), list.to_string()).unwrap();
    let given =
        Given { named: vec![gnupg.gpg(&["--local-user", &key, "--detach-sign"], b"")], ..Given::default() };
    let refused = text(stage.import(Source::Path(folder), NAME, given).expect_err("no archive"));
    assert!(refused.contains("what is imported is none"), "{refused}");
}

#[test]
fn a_crash_leaves_no_signatures_of_nothing() {
    let home = Home::new();
    home.import_bytes(image(), "kept").unwrap();
    let (digest, _) = manifest(&image());
    home.store.keep_signature(&digest, b"one").unwrap();
    home.store.keep_signature(&digest, b"one").unwrap();
    home.store.keep_signature(&digest, b"two").unwrap();
    assert_eq!(home.store.signatures(&digest), [b"one", b"two"], "each once, in order");
    assert!(home.store.keep_signature(&Digest::of(b""), b"x").is_err(), "of an image that is not here");
    // As if an import had died between its signatures and its reference.
    let lost = home.path("signatures/sha256").join(Digest::of(b"lost").hex());
    fs::create_dir(&lost).unwrap();
    fs::write(lost.join("1"), "x").unwrap();
    let staging = home.path("incoming/dead");
    fs::create_dir_all(&staging).unwrap();
    let note = [Digest::of(b"lost"), digest].map(|digest| format!("signatures/sha256/{}\n", digest.hex()));
    fs::write(staging.join("note"), note.concat()).unwrap();
    home.store.tag(&"kept".parse().unwrap(), &"again".parse().unwrap()).unwrap();
    assert!(!lost.exists() && !staging.exists());
    assert_eq!(home.store.signatures(&digest).len(), 2, "those of an image that is here stay");
    let bytes = |digest: &Digest| home.path("signatures/sha256").join(digest.hex());
    home.store.remove(&"kept".parse().unwrap()).unwrap();
    assert!(bytes(&digest).exists());
    home.store.remove(&"again".parse().unwrap()).unwrap();
    assert!(!bytes(&digest).exists());
}

/// As a container's start has it: the policy of the image's own file goes before wharf.toml's.
#[test]
fn verify_goes_by_the_images_own_file() {
    let gnupg = Gnupg::new();
    let stage = Stage::new();
    let key = gnupg.key("own", &[], "ed25519", "sign", "1d");
    gnupg.export(&key, &stage.home.folder.path().join("etc/wharf/keys/own.gpg"));
    stage.home.import_bytes(image(), NAME).unwrap();
    let (digest, _) = manifest(&image());
    let wharf = |arguments: &[&str]| {
        let mut command = gnupg.command(env!("CARGO_BIN_EXE_wharf"));
        let output =
            command.args(["image"]).args(arguments).env("WHARF_ROOT", stage.home.folder.path()).output();
        let output = output.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let declare = |path: &str, text: &str| {
        let path = stage.home.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    assert_eq!(wharf(&["verify", NAME]).0, Some(0));
    let own = |text: &str| declare("etc/wharf/images/own.toml", &format!("image = \"{NAME}\"\n{text}"));
    own("trust = \"signed\"\nkeys = [\"own.gpg\"]\n");
    let note = "note: its policy is that of /etc/wharf/images/own.toml\n";
    let pinned = format!("{NAME}@{digest}");
    for reference in [NAME, &pinned] {
        let (status, _, said) = wharf(&["verify", reference]);
        assert_eq!(status, Some(1));
        assert!(said.starts_with(note) && said.contains("is not signed"), "{said}");
    }
    assert!(wharf(&["sign", NAME, "--key", &key]).0 == Some(0));
    let (status, text, said) = wharf(&["verify", NAME]);
    assert!(status == Some(0) && said == note && text.contains(&key), "{text}{said}");
    // wharf.toml's is another one: it counts only where nothing else is said.
    declare("etc/wharf/wharf.toml", "[trust]\npolicy = \"digest\"\n");
    assert_eq!(wharf(&["verify", NAME]).0, Some(0));
    own("");
    let (status, _, said) = wharf(&["verify", NAME]);
    assert!(
        status == Some(1) && said.contains("is not pinned to a digest") && !said.contains("note:"),
        "{said}"
    );
    declare("etc/wharf/images/image.toml.d/1.toml", "trust = \"any\"\n");
    let (status, text, said) = wharf(&["verify", NAME]);
    assert!(status == Some(0) && said.contains("/etc/wharf/images/own.toml"), "{said}");
    assert!(text.ends_with("its own file asks for nothing\n"), "{text}");
    fs::remove_file(stage.home.folder.path().join("etc/wharf/images/own.toml")).unwrap();
    let (status, _, said) = wharf(&["verify", NAME]);
    assert!(status == Some(0) && said.contains("drop-ins for all images"), "{said}");
}

/// Files that are said to be signatures are no larger than signatures are.
#[test]
fn no_file_is_read_without_end() {
    let stage = Stage::new();
    let endless = Path::new("/dev/zero");
    let error = trust::signature_in(endless).unwrap_err();
    assert_eq!(error.to_string(), "can't read the signature /dev/zero");
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(why, "it has more than 65536 bytes, which are all that fit");
    let home = &stage.home;
    let archive = home.folder.path().join("web.tar");
    fs::write(&archive, image()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["image", "import", "--name", NAME, "--signature", "/dev/zero"])
        .arg(&archive)
        .env("WHARF_ROOT", home.folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(home.contents(), Vec::<String>::new());
    fs::create_dir_all(stage.keys()).unwrap();
    std::os::unix::fs::symlink(endless, stage.keys().join("zero.gpg")).unwrap();
    let why = trust::Keyring::load(&stage.keys(), &[]).unwrap_err().to_string();
    assert!(why.contains("zero.gpg") && why.contains("all that fit"), "{why}");
}

/// The last good signature is kept whatever there is, and a detached one of the largest size is read back whole.
#[test]
fn there_is_room_for_one_more_signature() {
    let home = Home::new();
    home.import_bytes(image(), "kept").unwrap();
    let (digest, _) = manifest(&image());
    for number in 0..64 {
        home.store.keep_signature(&digest, format!("signature {number}").as_bytes()).unwrap();
    }
    let large = vec![b'x'; 2 * (1 << 16) + 1000];
    home.store.keep_signature(&digest, &large).unwrap();
    let kept = home.store.signatures(&digest);
    assert_eq!(kept.len(), 64);
    assert!(kept.contains(&large) && kept.contains(&b"signature 63".to_vec()));
    assert!(!kept.contains(&b"signature 0".to_vec()));
}
