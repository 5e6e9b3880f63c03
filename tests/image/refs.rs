//! One broken file in `refs/` is told, costs no other image anything, and no image goes while it may have named it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Home, Tar};

fn wharf(home: &Home, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(arguments)
        .env("WHARF_ROOT", home.folder.path())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn tar(content: &str) -> Vec<u8> {
    Tar::new().file("file", content).end()
}

fn digest(home: &Home, name: &str) -> String {
    home.store.inspect(&name.parse().unwrap()).unwrap().listed.digest
}

/// What is said of it, and what breaks it.
type Breakage = (&'static str, fn(&Path));

/// Every way in which the file can be broken.
fn breakages() -> Vec<Breakage> {
    vec![
        ("holds no digest", |path| fs::write(path, "").unwrap()),
        ("holds no digest", |path| fs::write(path, "sha256:1234\n").unwrap()),
        ("holds no digest", |path| fs::write(path, [0xff, 0xfe, 0]).unwrap()),
        ("holds no digest", |path| fs::write(path, vec![b'a'; 1 << 20]).unwrap()),
        ("is no file", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("is no file", |path| {
            fs::remove_file(path).unwrap();
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
                .unwrap();
        }),
    ]
}

#[test]
fn a_broken_reference_stops_no_other() {
    for (what, damage) in breakages() {
        let home = Home::new();
        home.import_bytes(tar("broken"), "broken:1").unwrap();
        home.import_bytes(tar("good"), "good:1").unwrap();
        home.import_bytes(tar("other"), "other:1").unwrap();
        let (lost, other) = (digest(&home, "broken:1"), digest(&home, "other:1"));
        let path = home.path("refs/broken:1");
        damage(&path);
        let list = wharf(&home, &["image", "list", "--json"]);
        let images: Value = serde_json::from_slice(&list.stdout).unwrap();
        let names: Vec<_> = images.as_array().unwrap().iter().map(|one| &one["references"][0]).collect();
        assert_eq!(names, [&Value::from("good:1"), &"other:1".into(), &Value::Null]);
        let said = text(&list.stderr);
        assert_eq!(list.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("refs/broken:1 {what}")) && said.contains("wharf fsck"), "{said}");
        // A start of another image, and one by the digest.
        home.store.resolve(&"good:1".parse().unwrap()).unwrap();
        home.store.resolve(&format!("any@{lost}").parse().unwrap()).unwrap();
        let own = home.store.resolve(&"broken:1".parse().unwrap()).unwrap_err().to_string();
        assert!(own.contains("refs/broken:1") && own.ends_with(what), "{own}");

        let prune = wharf(&home, &["image", "prune", "--all", "--json"]);
        let pruned: Value = serde_json::from_slice(&prune.stdout).unwrap();
        assert_eq!(pruned["images"], Value::Array(vec![]), "{pruned}");
        let kept = pruned["kept"][0].as_str().unwrap();
        assert!(kept.contains("refs/broken:1") && kept.ends_with("wharf fsck --repair"), "{kept}");

        let removed = wharf(&home, &["image", "remove", "other:1"]);
        assert!(removed.status.success(), "{}", text(&removed.stderr));
        assert_eq!(text(&removed.stdout), "removed other:1\n");
        assert!(text(&removed.stderr).contains(&format!("note: {other} stays, since")));
        home.store.resolve(&format!("any@{other}").parse().unwrap()).unwrap();
        // By its digest the image itself is meant.
        assert!(wharf(&home, &["image", "remove", &format!("other@{other}")]).status.success());
        home.import_bytes(tar("new"), "new:1").unwrap();

        let checked = wharf(&home, &["fsck"]);
        assert!(text(&checked.stdout).contains(&format!("refs/broken:1 {what}")));
        let repaired = wharf(&home, &["fsck", "--repair"]);
        assert_eq!(repaired.status.code(), Some(1));
        let said = text(&repaired.stdout);
        assert!(said.contains(&format!("wharf image tag broken@{lost} broken:1")), "{said}");
        assert!(path.symlink_metadata().is_ok(), "it keeps the image");
        // What it says is what helps.
        let tagged = wharf(&home, &["image", "tag", &format!("broken@{lost}"), "broken:1"]);
        assert!(tagged.status.success(), "{}", text(&tagged.stderr));
        assert_eq!(digest(&home, "broken:1"), lost);
        assert!(wharf(&home, &["fsck"]).status.success());
        assert_eq!(home.store.list().unwrap().len(), 3);
    }
}

#[test]
fn what_can_have_named_nothing_is_cleared_away() {
    let home = Home::new();
    home.import_bytes(tar("good"), "good:1").unwrap();
    fs::write(home.path("refs/broken:1"), "").unwrap();
    fs::write(home.path("refs/notes~"), "").unwrap();
    let repaired = wharf(&home, &["fsck", "--repair"]);
    assert!(repaired.status.success(), "{}", text(&repaired.stdout));
    assert_eq!(fs::read_dir(home.path("refs")).unwrap().count(), 1);
    assert!(wharf(&home, &["fsck"]).status.success());
    assert!(wharf(&home, &["image", "list"]).status.success());
}

#[test]
fn what_runs_knows_what_a_reference_has_named() {
    let home = Home::new();
    home.import_bytes(tar("one"), "web:1").unwrap();
    let one = digest(&home, "web:1");
    home.import_bytes(tar("two"), "web:1").unwrap();
    // A container that runs the older one.
    let declare = |path: &str, text: &str| {
        let path = home.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    declare("etc/wharf/containers/web.toml", "image = \"web:1\"\n");
    let units = home.folder.path().join("run/systemd/generator");
    let made = Command::new(env!("CARGO_BIN_EXE_wharf-generator"))
        .arg(&units)
        .env("WHARF_ROOT", home.folder.path())
        .status()
        .unwrap();
    assert!(made.success());
    let plan: Value = serde_json::from_slice(&fs::read(units.join("wharf/web.json")).unwrap()).unwrap();
    let record = serde_json::json!({ "container": plan["container"], "source": "/x", "image": one });
    declare("run/wharf/running/web.json", &record.to_string());
    fs::write(home.path("refs/web:1"), "").unwrap();
    let repaired = wharf(&home, &["fsck", "--repair"]);
    assert!(repaired.status.success(), "{}", text(&repaired.stdout));
    assert_eq!(digest(&home, "web:1"), one);
}

/// A damaged image hides no other, and can be removed.
#[test]
fn a_damaged_image_stops_no_other() {
    let home = Home::new();
    let base = tar("shared");
    home.import_layers(&[&base, &tar("one")], "one:1").unwrap();
    home.import_layers(&[&base, &tar("two")], "two:1").unwrap();
    home.import_bytes(tar("three"), "three:1").unwrap();
    let one = digest(&home, "one:1");
    fs::write(home.path("blobs/sha256").join(one.trim_start_matches("sha256:")), "{}").unwrap();
    let list = wharf(&home, &["image", "list"]);
    assert_eq!(list.status.code(), Some(1));
    assert!(text(&list.stdout).contains("two:1") && text(&list.stdout).contains("three:1"));
    assert!(text(&list.stderr).contains(&format!("refs/one:1 names {one}, which is damaged")));
    // Another one goes; what the damaged one may need stays.
    let layers = || fs::read_dir(home.path("layers")).unwrap().count();
    assert_eq!(layers(), 4);
    assert!(wharf(&home, &["image", "remove", "two:1"]).status.success());
    assert_eq!(layers(), 4);
    assert!(wharf(&home, &["image", "remove", "one:1"]).status.success());
    // Now it is known again what is needed.
    assert!(wharf(&home, &["image", "prune"]).status.success());
    assert_eq!(layers(), 1);
    assert!(wharf(&home, &["fsck"]).status.success());
    home.store.resolve(&"three:1".parse().unwrap()).unwrap();
}

/// A command that was cut off is swept away also where something else is damaged.
#[test]
fn a_damaged_image_stops_no_sweep() {
    let home = Home::new();
    home.import_bytes(tar("one"), "one:1").unwrap();
    let one = digest(&home, "one:1");
    fs::write(home.path("blobs/sha256").join(one.trim_start_matches("sha256:")), "{}").unwrap();
    fs::create_dir(home.path("incoming/dead")).unwrap();
    fs::write(home.path("incoming/dead/note"), format!("layers/{}\n", "a".repeat(64))).unwrap();
    home.import_bytes(tar("two"), "two:1").unwrap();
    assert!(!home.path("incoming/dead").exists());
    home.store.resolve(&"two:1".parse().unwrap()).unwrap();
}

/// An image says what it likes; what is printed of it moves no cursor.
#[test]
fn what_images_say_does_nothing_to_a_terminal() {
    let home = Home::new();
    let folder = home.folder.path().join("image");
    fs::create_dir(&folder).unwrap();
    let config = serde_json::json!({
        "architecture": "amd\u{1b}[2J64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
        "config": { "User": "\u{1b}]0;x\u{7}", "Env": ["A=b\nfaked line\u{9b}"], "WorkingDir": "/\r" },
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let list = serde_json::json!([{ "Config": "config.json", "RepoTags": ["web:1"], "Layers": [] }]);
    fs::write(folder.join("manifest.json"), list.to_string()).unwrap();
    home.import_path(&folder, None).unwrap();
    for line in [&["image", "list"][..], &["image", "inspect", "web:1"], &["image", "history", "web:1"]] {
        let output = wharf(&home, line);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
        assert!(!said.contains("\nfaked"), "{said:?}");
    }
}
