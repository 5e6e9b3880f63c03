//! `wharf image prune` and the sizes in the list: nothing that is needed goes, everything else does.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use wharf::image::{Needs, Wish};

use crate::support::{Home, Tar, beside_mount, run, unmount};

fn wharf(home: &Home, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(arguments)
        .env("WHARF_ROOT", home.folder.path())
        .output()
        .unwrap()
}

fn prune(home: &Home, more: &[&str]) -> Value {
    let output = wharf(home, &[&["image", "prune", "--json"], more].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(value: &Value) -> Vec<String> {
    let mut names: Vec<_> = value["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["references"][0].as_str().unwrap_or("-").to_owned())
        .collect();
    names.sort();
    names
}

fn tar(text: &str) -> Vec<u8> {
    Tar::new().file("file", text).file("big", &text.repeat(20_000)).end()
}

fn declare(home: &Home, path: &str, text: &str) {
    let path = home.folder.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn untagged_images_go_and_named_ones_stay() {
    let home = Home::new();
    assert_eq!(names(&prune(&home, &[])), Vec::<String>::new());
    assert!(!home.path("").exists(), "no store is made to say that it is empty");
    home.import_bytes(tar("one"), "web").unwrap();
    let first = home.store.inspect(&"web".parse().unwrap()).unwrap().listed.digest;
    home.import_bytes(tar("two"), "web").unwrap();
    home.import_bytes(tar("three"), "other").unwrap();
    let before = home.contents();
    let dry = prune(&home, &["--dry-run"]);
    assert_eq!(names(&dry), ["-"]);
    assert_eq!(dry["images"][0]["digest"], first);
    assert!(dry["size"].as_u64().unwrap() > 20_000, "{dry}");
    assert_eq!(home.contents(), before, "nothing was done");
    assert_eq!(prune(&home, &[]), dry);
    assert_eq!(home.store.list().unwrap().len(), 2);
    assert_eq!(names(&prune(&home, &[])), Vec::<String>::new());
    assert!(wharf(&home, &["fsck"]).status.success());
}

#[test]
fn what_is_declared_or_runs_stays() {
    let home = Home::new();
    for name in ["declared:1", "dropped-in:1", "wrong:1", "planned:1", "runs:1", "fetched:1", "nobody:1"] {
        home.import_bytes(tar(name), name).unwrap();
    }
    let digest = |name: &str| home.store.inspect(&name.parse().unwrap()).unwrap().listed.digest;
    // Pinned by a container, and named by nobody any more.
    home.import_bytes(tar("pinned"), "moved:1").unwrap();
    let pinned = digest("moved:1");
    home.import_bytes(tar("new"), "moved:1").unwrap();
    declare(&home, "etc/wharf/containers/a.toml", "image = \"declared:1\"\n");
    declare(&home, "usr/lib/wharf/containers/b.toml", "image = \"something:1\"\n");
    declare(&home, "etc/wharf/containers/b.toml.d/10.toml", "image = \"dropped-in:1\"\n");
    declare(&home, "etc/wharf/containers/c.toml", "image = \"wrong:1\"\nmemroy = \"3\"\n");
    declare(&home, "etc/wharf/containers/d.toml", &format!("image = \"moved@{pinned}\"\n"));
    declare(&home, "etc/wharf/images/e.toml", "name = \"fetched:1\"\n");
    // A plan of the last reload, whose file is gone since.
    declare(&home, "etc/wharf/containers/f.toml", "image = \"planned:1\"\n");
    let units = home.folder.path().join("run/systemd/generator");
    run(
        "env",
        &[
            &format!("WHARF_ROOT={}", home.folder.path().display()),
            env!("CARGO_BIN_EXE_wharf-generator"),
            units.to_str().unwrap(),
        ],
    );
    fs::remove_file(home.folder.path().join("etc/wharf/containers/f.toml")).unwrap();
    // A record of what runs: a plan's container, under another name.
    let plan: Value = serde_json::from_slice(&fs::read(units.join("wharf/f.json")).unwrap()).unwrap();
    let mut container = plan["container"].clone();
    container["name"] = "g".into();
    container["source"] = serde_json::json!({ "image": "gone:1" });
    let record = serde_json::json!({ "container": container, "source": "/x", "image": digest("runs:1") });
    declare(&home, "run/wharf/running/g.json", &record.to_string());
    assert_eq!(names(&prune(&home, &[])), Vec::<String>::new());
    assert_eq!(names(&prune(&home, &["--all", "--dry-run"])), ["moved:1", "nobody:1"]);
    // While a file can't be read, what it needs isn't known.
    declare(&home, "etc/wharf/containers/broken.toml", "image = \n");
    let kept = prune(&home, &["--all"]);
    assert_eq!(names(&kept), Vec::<String>::new());
    assert!(kept["kept"][0].as_str().unwrap().contains("/etc/wharf/containers/broken.toml"), "{kept}");
    fs::remove_file(home.folder.path().join("etc/wharf/containers/broken.toml")).unwrap();
    assert_eq!(names(&prune(&home, &["--all"])), ["moved:1", "nobody:1"]);
    assert_eq!(home.store.list().unwrap().len(), 7);
    assert!(wharf(&home, &["fsck"]).status.success());
}

#[test]
fn orphans_and_stale_downloads_go() {
    let home = Home::new();
    home.import_bytes(tar("stays"), "stays").unwrap();
    home.import_bytes(tar("lost"), "lost").unwrap();
    let details = home.store.inspect(&"lost".parse().unwrap()).unwrap();
    let hex = |text: &str| text.trim_start_matches("sha256:").to_owned();
    fs::remove_file(home.path("refs/lost:latest")).unwrap();
    fs::remove_file(home.path("blobs/sha256").join(hex(&details.listed.digest))).unwrap();
    fs::create_dir_all(home.path("damaged/1/x")).unwrap();
    fs::create_dir_all(home.path("signatures/sha256").join("c".repeat(64))).unwrap();
    fs::create_dir(home.path("partial")).unwrap();
    let partial = |letter: &str| home.path("partial").join(letter.repeat(64));
    for letter in ["1", "2", "3"] {
        fs::write(partial(letter), "half").unwrap();
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(8 * 86_400);
    for letter in ["2", "3"] {
        fs::File::options().write(true).open(partial(letter)).unwrap().set_modified(old).unwrap();
    }
    let goes_on = fs::File::open(partial("3")).unwrap();
    rustix::fs::flock(&goes_on, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let pruned = prune(&home, &[]);
    let kinds: Vec<_> =
        pruned["orphans"].as_array().unwrap().iter().map(|o| o["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["layer", "blob", "signatures", "partial", "set-aside"]);
    assert!(partial("1").exists() && !partial("2").exists() && partial("3").exists());
    assert!(pruned["kept"][0].as_str().unwrap().contains("less than a week ago"));
    assert_eq!(fs::read_dir(home.path("damaged")).unwrap().count(), 0);
    assert_eq!(home.contents().len(), 4, "one image: {:?}", home.contents());
    prune(&home, &["--all", "--dry-run"]);
    assert!(partial("1").exists());
    declare(&home, "etc/wharf/containers/a.toml", "image = \"stays\"\n");
    prune(&home, &["--all"]);
    assert!(!partial("1").exists() && partial("3").exists());
    assert_eq!(home.contents().len(), 4, "one image: {:?}", home.contents());
}

#[test]
fn what_is_mounted_or_pinned_stays() {
    let home = Home::new();
    home.import_bytes(tar("used"), "used").unwrap();
    let tree = home.tree("used");
    home.import_bytes(tar("pinned"), "pinned").unwrap();
    let layer = home.store.inspect(&"pinned".parse().unwrap()).unwrap().layer_details[0].path.clone();
    let name = layer.parent().unwrap().file_name().unwrap().to_owned();
    home.import_bytes(tar("new"), "used").unwrap();
    home.import_bytes(tar("new"), "pinned").unwrap();
    // An import under way that relies on it: its folder is locked, as that of a living command.
    fs::create_dir_all(home.path("incoming/alive/needs")).unwrap();
    fs::write(home.path("incoming/alive/needs").join(&name), "").unwrap();
    let alive = fs::File::open(home.path("incoming/alive")).unwrap();
    rustix::fs::flock(&alive, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let output = beside_mount(&home, &tree, env!("CARGO_BIN_EXE_wharf"), &["image", "prune", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pruned: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(tree.exists() && layer.exists());
    assert_eq!(names(&pruned), ["-"], "the pinned one's manifest goes, its layer doesn't: {pruned}");
    assert!(pruned["kept"][0].as_str().unwrap().ends_with("is in use"), "{pruned}");
    rustix::fs::flock(&alive, rustix::fs::FlockOperation::Unlock).unwrap();
    prune(&home, &[]);
    assert!(!tree.exists() && !layer.exists());
    assert_eq!(home.store.list().unwrap().len(), 1);
}

#[test]
fn a_damaged_manifest_keeps_all() {
    let home = Home::new();
    home.import_bytes(tar("one"), "one").unwrap();
    home.import_bytes(tar("two"), "two").unwrap();
    let digest = home.store.inspect(&"one".parse().unwrap()).unwrap().listed.digest;
    let layers = fs::read_dir(home.path("layers")).unwrap().count();
    fs::write(home.path("blobs/sha256").join(digest.trim_start_matches("sha256:")), "flipped").unwrap();
    let pruned = prune(&home, &["--all"]);
    assert!(pruned["kept"][0].as_str().unwrap().contains("wharf fsck --repair"), "{pruned}");
    assert_eq!(fs::read_dir(home.path("layers")).unwrap().count(), layers);
    assert_eq!(fs::read_dir(home.path("refs")).unwrap().count(), 2);
}

#[test]
fn prune_beside_imports_and_starts() {
    let home = Home::new();
    let shared = tar("shared");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (home, shared) = (&home, &shared);
            scope.spawn(move || {
                for round in 0..5 {
                    let name = format!("image{thread}");
                    home.import_bytes(shared.clone(), &name).unwrap();
                    home.import_bytes(tar(&format!("{thread} {round}")), &name).unwrap();
                    // A start: what it has found must not go before it is mounted.
                    let hold = home.store.hold();
                    let image = home.store.resolve(&name.parse().unwrap()).unwrap();
                    assert!(image.layers.iter().all(|layer| layer.join("file").exists()));
                    drop(hold);
                }
            });
        }
        let home = &home;
        scope.spawn(move || {
            for _ in 0..20 {
                home.store.prune(&Needs::default(), Wish::default()).unwrap();
            }
        });
    });
    home.store.prune(&Needs::default(), Wish::default()).unwrap();
    assert_eq!(home.store.list().unwrap().len(), 4);
    assert!(wharf(&home, &["fsck"]).status.success());
}

#[test]
fn own_and_shared_sizes() {
    let home = Home::new();
    let layer = |letter: &str| home.folder.path().join(format!("{letter}.tar"));
    fs::write(layer("base"), tar("base")).unwrap();
    fs::write(layer("top"), Tar::new().file("top", &"t".repeat(50_000)).end()).unwrap();
    let config = |layers: &[&str]| {
        let ids: Vec<_> = layers
            .iter()
            .map(|layer_name| wharf::image::Digest::of(&fs::read(layer(layer_name)).unwrap()).to_string())
            .collect();
        serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": ids } })
            .to_string()
    };
    for (name, layers) in [("small:1", &["base"][..]), ("large:1", &["base", "top"][..])] {
        let folder = home.folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("config.json"), config(layers)).unwrap();
        let files: Vec<_> = layers.iter().map(|name| format!("{name}.tar")).collect();
        for file in &files {
            fs::copy(home.folder.path().join(file), folder.join(file)).unwrap();
        }
        let list = serde_json::json!([{ "Config": "config.json", "RepoTags": [name], "Layers": files }]);
        fs::write(folder.join("manifest.json"), list.to_string()).unwrap();
        home.import_path(&folder, None).unwrap();
    }
    let output = wharf(&home, &["image", "list", "--json"]);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let disk = |name: &str, what: &str| {
        let images = list.as_array().unwrap();
        let image = images.iter().find(|image| image["references"][0] == name).unwrap();
        image["disk"][what].as_u64().unwrap()
    };
    assert_eq!(disk("small:1", "shared"), disk("large:1", "shared"));
    assert!((80_000..200_000).contains(&disk("small:1", "shared")), "{list:#}");
    assert!((50_000..120_000).contains(&disk("large:1", "own")), "{list:#}");
    assert!(disk("small:1", "own") < 50_000, "{list:#}");
    let text = String::from_utf8(wharf(&home, &["image", "list"]).stdout).unwrap();
    assert!(text.lines().last().unwrap().starts_with("2 images of 2 layers take "), "{text}");
    // What it says is what the disk gets back.
    let dry = prune(&home, &["--all", "--dry-run"]);
    let total: u64 = [("small:1", "own"), ("large:1", "own"), ("small:1", "shared")]
        .iter()
        .map(|(name, what)| disk(name, what))
        .sum();
    assert_eq!(dry["size"].as_u64().unwrap(), total);
}

#[test]
fn a_full_disk_gets_room() {
    let home = Home::new();
    let state = home.path("");
    fs::create_dir_all(&state).unwrap();
    let state = state.to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=4M", "wharf-test", state]);
    home.import_bytes(tar("one"), "web").unwrap();
    home.import_bytes(tar("two"), "web").unwrap();
    let full = fs::write(home.path("filler"), vec![1; 8 << 20]);
    let pruned = home.store.prune(&Needs::default(), Wish::default());
    let room = fs::write(home.path("more"), vec![1; 64 << 10]);
    let images = home.store.list();
    let left = fs::read_dir(home.path("incoming")).unwrap().count();
    unmount(state);
    assert!(full.is_err());
    assert_eq!(pruned.unwrap().images.len(), 1);
    room.expect("there is room again");
    assert_eq!((images.unwrap().len(), left), (1, 0));
}

/// What is needed by its digest alone, each by another one.
#[test]
fn digests_that_somebody_needs_stay() {
    let home = Home::new();
    let mut digests = std::collections::BTreeMap::new();
    for name in
        ["pinned", "image-file", "from", "drop-in", "runs", "runs-by-digest", "last-good", "older", "nobody"]
    {
        // It loses its name to another one.
        home.import_bytes(tar(name), "moved:1").unwrap();
        digests.insert(name, home.store.inspect(&"moved:1".parse().unwrap()).unwrap().listed.digest);
        home.import_bytes(tar("new"), "moved:1").unwrap();
    }
    let d = |name: &str| digests[name].as_str();
    declare(&home, "etc/wharf/containers/pinned.toml", &format!("image = \"moved@{}\"\n", d("pinned")));
    declare(
        &home,
        "etc/wharf/images/file.toml",
        &format!("image = \"a.example/x:1\"\ndigest = \"{}\"\n", d("image-file")),
    );
    declare(
        &home,
        "usr/lib/wharf/images/from.toml",
        &format!("image = \"y:1\"\nfrom = \"a.example/y@{}\"\n", d("from")),
    );
    declare(&home, "usr/lib/wharf/images/drop.toml", "image = \"a.example/z:1\"\n");
    declare(&home, "etc/wharf/images/drop.toml.d/9.toml", &format!("digest = \"{}\"\n", d("drop-in")));
    let units = home.folder.path().join("run/systemd/generator");
    run(
        "env",
        &[
            &format!("WHARF_ROOT={}", home.folder.path().display()),
            env!("CARGO_BIN_EXE_wharf-generator"),
            units.to_str().unwrap(),
        ],
    );
    let plan: Value = serde_json::from_slice(&fs::read(units.join("wharf/pinned.json")).unwrap()).unwrap();
    let container = |name: &str, image: &str| {
        let mut container = plan["container"].clone();
        container["name"] = name.into();
        container["source"] = serde_json::json!({ "image": image });
        container
    };
    let record = |name: &str, image: &str, digest: &str| {
        let container = container(name, image);
        let record = serde_json::json!({ "container": container, "source": "/x", "image": digest });
        declare(&home, &format!("run/wharf/running/{name}.json"), &record.to_string());
    };
    record("runs", "gone:1", d("runs"));
    record("by-digest", &format!("gone@{}", d("runs-by-digest")), d("runs-by-digest"));
    let mut last = plan.clone();
    last["container"] = container("last", &format!("gone@{}", d("last-good")));
    declare(&home, "run/wharf/last-good/last.json", &last.to_string());
    // As another version of Wharf has written it.
    let older = serde_json::json!({ "version": 0, "of": { "image": [format!("gone@{}", d("older"))] } });
    declare(&home, "run/wharf/last-good/older.json", &older.to_string());
    let gone = |value: &Value| {
        let images = value["images"].as_array().unwrap();
        images.iter().map(|image| image["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(gone(&prune(&home, &["--dry-run"])), [d("nobody")]);
    // What can't be read may need anything.
    for (path, way_out) in [
        ("run/wharf/running/broken.json", "systemctl restart"),
        ("run/wharf/last-good/broken.json", "systemctl restart"),
        ("run/systemd/generator/wharf/broken.json", "systemctl daemon-reload"),
        ("etc/wharf/containers/pinned.toml.d/9.toml", "wharf check"),
        ("etc/wharf/images/broken.toml", "wharf check"),
    ] {
        declare(&home, path, "{ \"cut\": ");
        let kept = prune(&home, &["--all"]);
        assert_eq!(gone(&kept), Vec::<String>::new(), "{path}");
        let said = kept["kept"][0].as_str().unwrap();
        assert!(said.contains(&format!("/{path}")) && said.contains(way_out), "{said}");
        fs::remove_file(home.folder.path().join(path)).unwrap();
    }
    declare(&home, "etc/wharf/images/broken.toml", "");
    fs::write(home.folder.path().join("etc/wharf/images/broken.toml"), [b'a', 0xff]).unwrap();
    assert_eq!(gone(&prune(&home, &["--all"])), Vec::<String>::new());
    fs::remove_file(home.folder.path().join("etc/wharf/images/broken.toml")).unwrap();
    // With all of it, too: what was there is not needed by its name.
    assert_eq!(gone(&prune(&home, &["--all"])).len(), 2);
    for name in digests.keys().filter(|name| **name != "nobody") {
        home.store.resolve(&format!("any@{}", d(name)).parse().unwrap()).expect(name);
    }
    assert!(wharf(&home, &["fsck"]).status.success());
    // Nobody declares or runs any of it.
    for folder in ["etc/wharf", "usr/lib/wharf", "run"] {
        fs::remove_dir_all(home.folder.path().join(folder)).unwrap();
    }
    assert_eq!(gone(&prune(&home, &[])).len(), digests.len() - 1);
    assert_eq!(home.contents(), Vec::<String>::new());
}
