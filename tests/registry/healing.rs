//! `wharf fsck --repair` from the registry that an image came from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wharf::image::Digest;

use crate::server::{Asked, INDEX, Made, Puller, Reply, Server, descriptor, unknown};
use crate::support::Home;

/// A store with an image that was pulled, and its registry.
struct Scene {
    home: Home,
    server: Server,
    made: Made,
    reference: String,
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

impl Scene {
    fn new(answers: impl Fn(&Made, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        let made = Made::of(&[3000, 200_000]);
        let served = made.clone();
        let server = Server::start(move |asked| answers(&served, asked));
        let home = Home::new();
        let reference = format!("{}/team/web:v1", server.host);
        let scene = Self { home, server, made, reference };
        scene.settings("");
        scene.pull(&scene.reference);
        scene
    }

    fn settings(&self, more: &str) {
        let text = format!("[registries.\"{}\"]\ninsecure = true\n{more}", self.server.host);
        self.declare("etc/wharf/wharf.toml", &text);
    }

    fn declare(&self, path: &str, text: &str) {
        let path = self.home.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn pull(&self, reference: &str) {
        Puller::of(&[&self.server.host]).pull(&self.home.store, reference).unwrap();
    }

    fn wharf(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(arguments)
            .env("WHARF_ROOT", self.home.folder.path())
            .output()
            .unwrap()
    }

    /// What couldn't be repaired, each with the reason.
    fn repair(&self) -> Vec<String> {
        let output = self.wharf(&["fsck", "--repair", "--json"]);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let left = value["left"].as_array().unwrap();
        assert_eq!(output.status.success(), left.is_empty(), "{value:#}");
        left.iter().map(|one| one["why"].as_str().unwrap().replace(&self.server.host, "HOST")).collect()
    }

    #[track_caller]
    fn clean(&self) {
        let output = self.wharf(&["fsck"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.home.path("blobs/sha256").join(hex(digest))
    }

    fn config(&self) -> String {
        Digest::of(&self.made.config).to_string()
    }

    fn trees(&self) -> Vec<PathBuf> {
        self.home.store.resolve(&self.reference.parse().unwrap()).unwrap().layers
    }
}

fn damage_file(tree: &Path, name: &str) {
    let path = tree.join(name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn blobs_and_files_come_back() {
    let scene = Scene::new(|made, asked| made.answer(asked));
    let before = scene.home.contents();
    let trees = scene.trees();
    // A deleted blob of each kind, one that was changed, a file of a layer, and a whole layer.
    let (manifest, config) = (scene.blob(&scene.made.digest()), scene.blob(&scene.config()));
    for (what, damage) in [
        (
            "manifest",
            (|scene: &Scene, _: &[PathBuf]| fs::remove_file(scene.blob(&scene.made.digest())).unwrap())
                as fn(&Scene, &[PathBuf]),
        ),
        ("config", |scene, _| fs::remove_file(scene.blob(&scene.config())).unwrap()),
        ("changed config", |scene, _| fs::write(scene.blob(&scene.config()), "{}").unwrap()),
        ("file", |_, trees| damage_file(&trees[1], "file-1")),
        ("layer", |_, trees| fs::remove_dir_all(trees[0].parent().unwrap()).unwrap()),
        ("all", |scene, trees| {
            fs::write(scene.blob(&scene.made.digest()), "").unwrap();
            fs::write(scene.blob(&scene.config()), "").unwrap();
            damage_file(&trees[0], "file-0");
            fs::remove_file(trees[1].join("file-1")).unwrap();
        }),
    ] {
        damage(&scene, &trees);
        let asked = scene.server.asked().len();
        assert_eq!(scene.repair(), Vec::<String>::new(), "{what}");
        scene.clean();
        assert_eq!(scene.home.contents(), before, "{what}");
        assert_eq!(fs::read(&manifest).unwrap(), scene.made.manifest);
        assert_eq!(fs::read(&config).unwrap(), scene.made.config);
        let fetched: Vec<_> = scene.server.asked()[asked..].iter().map(|asked| asked.path.clone()).collect();
        if what == "file" {
            // The other layer is whole, and so are the documents.
            assert_eq!(fetched, [format!("/v2/team/web/blobs/{}", scene.made.layer(1))]);
        }
        assert!(fetched.len() <= 4, "{what}: {fetched:?}");
        assert_eq!(fs::read_dir(scene.home.path("partial")).unwrap().count(), 0);
    }
}

#[test]
fn what_a_tag_names_now_changes_nothing() {
    // The tag names another image, and the registry still has the old one.
    let scene = Scene::new(|made, asked| made.answer(asked));
    damage_file(&scene.trees()[0], "file-0");
    let moved = Made::of(&[77]);
    let other = moved.digest();
    assert_ne!(other, scene.made.digest());
    assert_eq!(scene.repair(), Vec::<String>::new());
    assert!(scene.server.asked_for("/manifests/v1").len() == 1, "only the pull has asked for the tag");
    scene.clean();
}

#[test]
fn a_registry_that_has_something_else() {
    let gone = Arc::new(AtomicBool::new(false));
    let other = Made::of(&[77]);
    let (now, changed) = (other.digest(), other.clone());
    let is_gone = Arc::clone(&gone);
    let scene = Scene::new(move |made, asked| match is_gone.load(Ordering::SeqCst) {
        true => changed.answer(asked),
        false => made.answer(asked),
    });
    gone.store(true, Ordering::SeqCst);
    let digest = scene.made.digest();
    fs::remove_file(scene.blob(&digest)).unwrap();
    let left = scene.repair();
    let said = format!(
        "HOST doesn't have {digest} any more: HOST/team/web:v1 is {now} there now; get the old one from elsewhere, or \
         take the new one: wharf image pull HOST/team/web:v1"
    );
    assert_eq!(left.len(), 1);
    assert!(left[0].starts_with(&said), "{left:#?}");
    assert!(left[0].contains("wharf fsck --repair --from SOURCE"), "{left:#?}");
    assert!(fs::read_dir(scene.home.path("layers")).unwrap().count() == 2, "nothing was taken away");
    // It lies about what it has.
    let lying = Scene::new({
        let lies = AtomicBool::new(false);
        move |made, asked| {
            let mut reply = made.answer(asked);
            if asked.path.contains("/blobs/")
                && asked.path.ends_with(&made.layer(0))
                && lies.swap(true, Ordering::SeqCst)
            {
                reply.body[50] ^= 1;
            }
            reply
        }
    });
    damage_file(&lying.trees()[0], "file-0");
    let left = lying.repair();
    assert!(
        left[0].contains("from HOST has the digest") && left[0].contains("it was changed or damaged"),
        "{left:#?}"
    );
    assert!(lying.trees()[0].join("file-0").exists(), "what is damaged stays");
}

#[test]
fn a_registry_that_is_down() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let scene = Scene::new(move |made, asked| match is_down.load(Ordering::SeqCst) {
        true => unknown("NAME_UNKNOWN", "repository name not known to registry"),
        false => made.answer(asked),
    });
    down.store(true, Ordering::SeqCst);
    damage_file(&scene.trees()[0], "file-0");
    let left = scene.repair();
    assert!(
        left[0].starts_with("HOST has no the layer") || left[0].starts_with("HOST has no layer"),
        "{left:#?}"
    );
    // Nobody listens where it was.
    scene
        .home
        .store
        .tag(&scene.reference.parse().unwrap(), &"127.0.0.1:9/team/web:v1".parse().unwrap())
        .unwrap();
    scene.home.store.remove(&scene.reference.parse().unwrap()).unwrap();
    scene.declare("etc/wharf/wharf.toml", "[registries.\"127.0.0.1:9\"]\ninsecure = true\n");
    let left = scene.repair();
    assert!(left[0].starts_with("can't reach 127.0.0.1:9: "), "{left:#?}");
    assert!(left[0].contains("wharf fsck --repair --from SOURCE"), "{left:#?}");
}

#[test]
fn aliases_mirrors_and_files_of_images_lead_there() {
    let scene = Scene::new(|made, asked| made.answer(asked));
    let reference = scene.reference.parse().unwrap();
    scene.home.store.tag(&reference, &"web:v1".parse().unwrap()).unwrap();
    scene.home.store.remove(&reference).unwrap();
    let tree = scene.home.store.resolve(&"web:v1".parse().unwrap()).unwrap().layers[0].clone();
    damage_file(&tree, "file-0");
    let left = scene.repair();
    assert!(left[0].starts_with("get web:v1 again as the archive"), "{left:#?}");
    // By an alias, and the registry's mirror.
    let host = scene.server.host.clone();
    scene.settings(&format!(
        "[registries.\"registry.example\"]\nmirrors = [\"{host}\"]\n[aliases]\nweb = \"registry.example/team/web\"\n"
    ));
    assert_eq!(scene.repair(), Vec::<String>::new());
    scene.clean();
    // By the image's own file.
    scene.settings("");
    damage_file(&tree, "file-0");
    scene.declare(
        "etc/wharf/images/web.toml",
        &format!("image = \"web:v1\"\nfrom = \"{host}/team/web:v1\"\n"),
    );
    assert_eq!(scene.repair(), Vec::<String>::new());
    scene.clean();
}

#[test]
fn what_is_not_trusted_is_not_fetched() {
    let scene = Scene::new(|made, asked| made.answer(asked));
    damage_file(&scene.trees()[0], "file-0");
    let keys = scene.home.folder.path().join("etc/wharf/keys");
    fs::create_dir_all(&keys).unwrap();
    scene.settings("[trust]\npolicy = \"signed\"\n");
    let asked = scene.server.asked().len();
    let left = scene.repair();
    assert!(left[0].contains("there are no keys in"), "{left:#?}");
    assert_eq!(scene.server.asked().len(), asked, "no layer was asked for");
    // The file of the image has its own policy.
    scene
        .declare("etc/wharf/images/web.toml", &format!("image = \"{}\"\ntrust = \"any\"\n", scene.reference));
    assert_eq!(scene.repair(), Vec::<String>::new());
    scene.clean();
}

/// An index by which an image is declared: nothing in the store names it.
#[test]
fn an_index_is_a_part_of_its_image() {
    let made = Made::of(&[50]);
    let mut own = descriptor(&made.media_type, &made.manifest);
    own["platform"] = json!({"os": "linux", "architecture": wharf::image::machine_architecture()});
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [own]}).to_string();
    let outer =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(INDEX, inner.as_bytes())]})
            .to_string();
    let (inner_digest, digest) =
        (Digest::of(inner.as_bytes()).to_string(), Digest::of(outer.as_bytes()).to_string());
    let served = Mutex::new(vec![(digest.clone(), outer.clone()), (inner_digest.clone(), inner)]);
    let image = made.clone();
    let server = Server::start(move |asked| {
        let all = served.lock().unwrap();
        match all.iter().find(|(digest, _)| asked.path.ends_with(digest)) {
            Some((_, index)) => Reply::new(200).with("Content-Type", INDEX).body(index.clone()),
            None => image.answer(asked),
        }
    });
    let reference = format!("{}/team/web@{digest}", server.host);
    let scene = Scene { home: Home::new(), server, made, reference };
    scene.settings("");
    scene.pull(&scene.reference);
    scene.clean();
    let output = scene.wharf(&["fsck", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&value["orphans"], &value["blobs"]), (&json!([]), &json!(4)));
    // Prune keeps it for who declares it by the index's digest.
    scene.declare("etc/wharf/containers/web.toml", &format!("image = \"{}\"\n", scene.reference));
    let pruned = scene.wharf(&["image", "prune", "--all"]);
    assert!(pruned.status.success());
    assert_eq!(scene.trees().len(), 1);
    // Damaged, it is named, and it comes again by what declares it.
    fs::write(scene.blob(&digest), "{}").unwrap();
    let text = String::from_utf8(scene.wharf(&["fsck"]).stdout).unwrap();
    assert!(text.contains(&format!("blobs/sha256/{} has other contents", hex(&digest))), "{text}");
    let pruned = scene.wharf(&["image", "prune", "--all"]);
    let said = String::from_utf8(pruned.stderr).unwrap();
    assert!(said.contains("every image and layer stays"), "{said}");
    assert_eq!(scene.repair(), Vec::<String>::new());
    assert_eq!(fs::read_to_string(scene.blob(&digest)).unwrap(), outer);
    assert_eq!(scene.trees().len(), 1);
    // So does a manifest that only the index leads to.
    fs::write(scene.blob(&scene.made.digest()), "{}").unwrap();
    assert_eq!(scene.repair(), Vec::<String>::new());
    scene.clean();
    damage_file(&scene.trees()[0], "file-0");
    assert_eq!(scene.repair(), Vec::<String>::new());
    scene.clean();
    // It goes with the last image that it lists, and not before.
    fs::remove_file(scene.home.folder.path().join("etc/wharf/containers/web.toml")).unwrap();
    let tagged = format!("{}/team/web:v1", scene.server.host);
    scene.pull(&tagged);
    assert!(scene.wharf(&["image", "prune"]).status.success());
    assert!(scene.blob(&digest).exists() && scene.blob(&inner_digest).exists());
    assert!(scene.wharf(&["image", "remove", &tagged]).status.success());
    assert_eq!(scene.home.contents(), Vec::<String>::new());
}
