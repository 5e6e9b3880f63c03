//! `wharf fsck`: every kind of damage is found by name, and mended where it can be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, lremovexattr, lsetxattr};
use serde_json::Value;

use crate::support::{Home, Tar, beside_mount, run};

#[test]
fn a_list_of_implied_folders_is_made_again() {
    let home = Home::new();
    let above = Tar::new().file("etc/more", "m").file("new/file", "n").end();
    home.import_layers(&[&of_all_kinds(), &above], "x").unwrap();
    let layer = home.store.resolve(&"x".parse().unwrap()).unwrap().layers[1].parent().unwrap().to_owned();
    let (list, other) = (layer.join("implied"), layer.join("other"));
    let right = fs::read(&list).unwrap();
    let name = layer.file_name().unwrap().to_str().unwrap();
    let wrong = format!("layers/{name}/implied: doesn't name the folders that the layer leaves to be made");
    let damage: [&dyn Fn(); 3] =
        [&|| fs::remove_file(&list).unwrap(), &|| fs::write(&list, ".\netc\n").unwrap(), &|| {
            fs::rename(&list, &other).unwrap()
        }];
    for damage in damage {
        damage();
        assert!(fsck(&home, &["--quick"]).damage().contains(&wrong));
        assert_eq!(fsck(&home, &["--repair"]).status, 0);
        assert_eq!(fsck(&home, &[]).damage(), Vec::<String>::new());
        assert_eq!(fs::read(&list).unwrap(), right);
    }
    fs::write(&list, "%zz\n").unwrap();
    let found = fsck(&home, &[]).damage();
    assert!(found.len() == 1 && found[0].contains("stands for no path"), "{found:?}");
    assert_eq!(fsck(&home, &["--repair"]).status, 0);
    assert_eq!(fs::read(&list).unwrap(), right);
}

/// All kinds of members that a layer can have.
fn of_all_kinds() -> Vec<u8> {
    Tar::new()
        .dir("etc")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        .file("etc/shadow", "root:*\n")
        .file("etc/with-attribute", "x")
        .file("bin/busybox", "busy")
        .hard("bin/sh", "bin/busybox")
        .link("bin/link", "busybox")
        .dir("empty")
        .dir("deep/er/and/deeper")
        .file("deep/er/and/deeper/file", "deep")
        .file("name with space\n", "odd")
        .pax("SCHILY.xattr.user.note", b"noted")
        .file("noted", "n")
        .pax(
            "SCHILY.xattr.security.capability",
            &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        )
        .file("ping", "p")
        .end()
}

fn wharf(home: &Home, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(arguments)
        .env("WHARF_ROOT", home.folder.path())
        .output()
        .unwrap()
}

struct Checked {
    status: i32,
    value: Value,
}

fn fsck(home: &Home, more: &[&str]) -> Checked {
    let output = wharf(home, &[&["fsck", "--json"], more].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "");
    let value = serde_json::from_slice(&output.stdout).unwrap();
    Checked { status: output.status.code().unwrap(), value }
}

impl Checked {
    /// `file or part: what`, for each damage.
    fn damage(&self) -> Vec<String> {
        let of = |damage: &Value| {
            let place = damage["file"].as_str().or(damage["part"].as_str()).unwrap();
            let what: Vec<_> =
                damage["what"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
            format!("{place}: {}", what.join("; "))
        };
        self.value["damage"].as_array().unwrap().iter().map(of).collect()
    }

    fn orphans(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let orphans = self.value["orphans"].as_array().unwrap();
        orphans.iter().map(|orphan| (text(&orphan["kind"]), text(&orphan["path"]))).collect()
    }
}

#[track_caller]
fn clean(home: &Home) {
    let checked = fsck(home, &[]);
    assert_eq!((checked.status, checked.damage()), (0, vec![]));
}

#[test]
fn what_was_imported_is_clean() {
    let home = Home::new();
    assert_eq!(fsck(&home, &[]).status, 0, "a store that isn't there has no damage");
    home.import_bytes(of_all_kinds(), "all").unwrap();
    // Replaced members, folders that are listed twice, and opaque ones that come last.
    let odd = Tar::new()
        .dir("a")
        .file("a/1", "one")
        .file("a", "now a file")
        .dir("b")
        .file("b/x", "x")
        .hard("b/y", "b/x")
        .file("b/x", "another")
        .dir("b")
        .link("c", "b")
        .file("c/through", "through a link")
        .end();
    home.import_bytes(odd, "odd").unwrap();
    clean(&home);
    let text = String::from_utf8(wharf(&home, &["fsck"]).stdout).unwrap();
    assert!(text.starts_with("checked: 2 references, 2 images, 4 blobs, 2 layers, "), "{text}");
    assert!(text.ends_with("nothing is damaged\n"), "{text}");
}

#[test]
fn real_roots_are_clean() {
    let home = Home::new();
    let tar = home.folder.path().join("etc.tar");
    // Whatever this machine has: modes, owners, times, links.
    run("tar", &["-cf", tar.to_str().unwrap(), "--xattrs", "-C", "/", "etc", "usr/sbin"]);
    home.import_path(&tar, Some("real")).unwrap();
    clean(&home);
}

/// Damages a layer in every way, and says what has to be found.
fn damage(tree: &Path) -> Vec<(&'static str, &'static str)> {
    let at = |path: &str| tree.join(path);
    // The same size and time: only the digest tells.
    let time = fs::metadata(at("etc/passwd")).unwrap().modified().unwrap();
    fs::write(at("etc/passwd"), "toor:x:0:0::/root:/bin/sh\n").unwrap();
    fs::File::options().write(true).open(at("etc/passwd")).unwrap().set_modified(time).unwrap();
    fs::set_permissions(at("etc/shadow"), fs::Permissions::from_mode(0o666)).unwrap();
    std::os::unix::fs::chown(at("etc/with-attribute"), Some(7), Some(8)).unwrap();
    lsetxattr(at("etc/with-attribute"), "user.foreign", b"x", XattrFlags::empty()).unwrap();
    lremovexattr(at("noted"), "user.note").unwrap();
    fs::remove_file(at("bin/link")).unwrap();
    symlink("/etc/shadow", at("bin/link")).unwrap();
    fs::remove_file(at("bin/sh")).unwrap();
    fs::write(at("bin/sh"), "busy").unwrap();
    fs::remove_dir(at("empty")).unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::remove_dir_all(at("deep/er")).unwrap();
    fs::write(at("name with space\n"), "longer").unwrap();
    fs::create_dir(at("new")).unwrap();
    fs::write(at("new/file"), "foreign").unwrap();
    vec![
        ("etc/passwd", "has other contents: sha256:"),
        ("etc/shadow", "has the mode 0666, and should have 0644"),
        ("etc/with-attribute", "belongs to 7:8, and should to 0:0"),
        ("etc/with-attribute", "has the attribute user.foreign, and should not"),
        ("noted", "has lost its attribute user.note"),
        ("bin/link", "leads to /etc/shadow, and should to busybox"),
        ("bin/sh", "has other hard links: 1 names, and should have 2"),
        ("empty", "is a file, and should be a directory"),
        ("deep/er", "is missing, and 3 below it"),
        ("name%20with%20space%0A", "has 6 bytes, and should have 3"),
        ("new", "is foreign"),
    ]
}

#[test]
fn every_damage_is_named() {
    let home = Home::new();
    home.import_bytes(of_all_kinds(), "all").unwrap();
    let expected = damage(&home.tree("all"));
    let checked = fsck(&home, &[]);
    assert_eq!(checked.status, 1);
    let found = checked.damage();
    for (file, what) in expected {
        let is_it = |line: &&String| line.starts_with(&format!("{file}: ")) && line.contains(what);
        assert!(found.iter().any(|line| is_it(&line)), "{file}: {what} is not in {found:#?}");
    }
    for damage in checked.value["damage"].as_array().unwrap() {
        assert_eq!(damage["images"][0], "all:latest");
    }
    // Nothing below what is foreign or missing is told on its own, and nothing that is well.
    for well in ["new/file", "deep/er/and", "ping", "bin/busybox: has other contents"] {
        assert!(!found.iter().any(|line| line.starts_with(well)), "{well} in {found:#?}");
    }
    let text = String::from_utf8(wharf(&home, &["fsck"]).stdout).unwrap();
    assert!(text.contains("/tree/etc/passwd has other contents: sha256:"), "{text}");
    assert!(text.contains("it is part of all:latest"), "{text}");
}

#[test]
fn quick_sees_presence_and_sizes_only() {
    let home = Home::new();
    home.import_bytes(of_all_kinds(), "all").unwrap();
    damage(&home.tree("all"));
    let found = fsck(&home, &["--quick"]).damage();
    for there in
        ["empty: is a file", "deep/er: is missing", "name%20with%20space%0A: has 6", "new: is foreign"]
    {
        assert!(found.iter().any(|line| line.starts_with(there)), "{there} is not in {found:#?}");
    }
    for not in ["etc/passwd", "etc/shadow", "noted", "bin/link"] {
        assert!(!found.iter().any(|line| line.starts_with(not)), "{not} in {found:#?}");
    }
}

#[test]
fn times_and_capabilities_count() {
    let home = Home::new();
    home.import_bytes(of_all_kinds(), "all").unwrap();
    let tree = home.tree("all");
    lremovexattr(tree.join("ping"), "security.capability").unwrap();
    fs::File::open(tree.join("etc"))
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7))
        .unwrap();
    let found = fsck(&home, &[]).damage();
    assert_eq!(
        found,
        [
            "etc: was modified at 7.000000000, and should at 1000000000.000000000 (seconds since 1970)",
            "ping: has lost its attribute security.capability"
        ]
    );
}

#[test]
fn blobs_references_and_strangers() {
    let home = Home::new();
    home.import_bytes(of_all_kinds(), "all").unwrap();
    home.import_bytes(Tar::new().file("other", "").end(), "other").unwrap();
    let details = home.store.inspect(&"all".parse().unwrap()).unwrap();
    let hex = |text: &str| text.trim_start_matches("sha256:").to_owned();
    let layer = home.tree("other").parent().unwrap().to_owned();
    let manifest = hex(&details.listed.digest);
    let text = fs::read_to_string(home.path("blobs/sha256").join(&manifest)).unwrap();
    let config = hex(serde_json::from_str::<Value>(&text).unwrap()["config"]["digest"].as_str().unwrap());
    fs::write(home.path("blobs/sha256").join(&config), "{}").unwrap();
    let absent = format!("sha256:{}", "b".repeat(64));
    fs::write(home.path("refs/dangling:1"), &absent).unwrap();
    fs::write(home.path("refs/empty:1"), "").unwrap();
    fs::write(home.path("refs/UPPER%zz"), "").unwrap();
    fs::write(home.path("blobs/sha256/notes.txt"), "").unwrap();
    fs::create_dir(home.path("layers/lost+found")).unwrap();
    fs::create_dir(home.path("incoming/dead")).unwrap();
    fs::write(home.path("leases"), "nobody's business").unwrap();
    let checked = fsck(&home, &[]);
    let found = checked.damage();
    for there in [
        format!("blobs/sha256/{config}: has other contents"),
        format!("refs/dangling:1: names {absent}, which is not in the store"),
        "refs/empty:1: holds no digest".to_owned(),
        "refs/UPPER%zz: has a name that no reference has".to_owned(),
        "blobs/sha256/notes.txt: is foreign".to_owned(),
        "layers/lost+found: is foreign".to_owned(),
    ] {
        assert!(found.iter().any(|line| line.starts_with(&there)), "{there} is not in {found:#?}");
    }
    assert_eq!(checked.value["leftovers"][0], "incoming/dead");
    // Where it isn't known what an image needs, nothing is called an orphan.
    assert_eq!(checked.orphans(), []);
    fs::remove_dir_all(layer).unwrap();
    let found = fsck(&home, &["--quick"]).damage();
    assert!(
        found.iter().any(|line| line.starts_with("layers/") && line.ends_with(": is missing")),
        "{found:#?}"
    );
}

#[test]
fn a_layer_without_its_own_files() {
    for (file, what) in
        [("manifest", "can't be checked"), ("summary", "has no summary"), ("tree", "can't be checked")]
    {
        let home = Home::new();
        home.import_bytes(of_all_kinds(), "all").unwrap();
        let path = home.tree("all").parent().unwrap().join(file);
        if file == "tree" {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
        let found = fsck(&home, &[]).damage();
        assert!(found.len() == 1 && found[0].contains(what), "{file}: {found:#?}");
        // One line of a manifest that means nothing.
    }
    let home = Home::new();
    home.import_bytes(of_all_kinds(), "all").unwrap();
    let path = home.tree("all").parent().unwrap().join("manifest");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("f 0644", "f 06\u{7f}4", 1)).unwrap();
    assert!(fsck(&home, &[]).damage()[0].contains("which means nothing"));
}

#[test]
fn orphans_are_shown_and_are_no_damage() {
    let home = Home::new();
    home.import_bytes(of_all_kinds(), "all").unwrap();
    home.import_bytes(Tar::new().file("x", "").end(), "gone").unwrap();
    let details = home.store.inspect(&"gone".parse().unwrap()).unwrap();
    let hex = |text: &str| text.trim_start_matches("sha256:").to_owned();
    fs::remove_file(home.path("refs/gone:latest")).unwrap();
    fs::remove_file(home.path("blobs/sha256").join(hex(&details.listed.digest))).unwrap();
    fs::create_dir_all(home.path("signatures/sha256").join("c".repeat(64))).unwrap();
    fs::create_dir(home.path("partial")).unwrap();
    fs::write(home.path("partial").join("d".repeat(64)), "half").unwrap();
    let checked = fsck(&home, &[]);
    assert_eq!((checked.status, checked.damage()), (0, vec![]));
    let orphans = checked.orphans();
    let kinds: Vec<_> = orphans.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["layer", "blob", "signatures", "partial"]);
    assert!(orphans[0].1.contains(&hex(&details.layer_details[0].diff_id)), "{orphans:?}");
    let text = String::from_utf8(wharf(&home, &["fsck"]).stdout).unwrap();
    assert!(text.contains("a layer that no image needs"), "{text}");
}

#[test]
fn repair_brings_everything_back() {
    let home = Home::new();
    let archive = home.folder.path().join("all.tar");
    fs::write(&archive, of_all_kinds()).unwrap();
    home.import_path(&archive, Some("all")).unwrap();
    let whole = crate::support::describe(&home.tree("all"), true);
    damage(&home.tree("all"));
    let inode = fs::metadata(home.tree("all")).unwrap();
    // Without a source what has lost contents stays, and the way out is told.
    let checked = fsck(&home, &["--repair"]);
    assert_eq!(checked.status, 1);
    let left = checked.value["left"].as_array().unwrap();
    assert!(
        left.iter().all(|left| left["why"].as_str().unwrap().contains("wharf fsck --repair --from")),
        "{left:#?}"
    );
    assert!(home.tree("all").join("bin/busybox").exists());
    assert!(!home.tree("all").join("new").exists(), "what is foreign is moved out");
    let aside = home.path(checked.value["aside"][0].as_str().unwrap());
    assert_eq!(fs::read_to_string(aside.join("file")).unwrap(), "foreign");
    // A source that doesn't hold it changes nothing.
    let wrong = home.folder.path().join("wrong.tar");
    fs::write(&wrong, Tar::new().file("x", "").end()).unwrap();
    assert_eq!(fsck(&home, &["--repair", "--from", wrong.to_str().unwrap()]).status, 1);
    assert_eq!(
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(home.tree("all")).unwrap()),
        std::os::unix::fs::MetadataExt::ino(&inode)
    );
    let checked = fsck(&home, &["--repair", "--from", archive.to_str().unwrap()]);
    assert_eq!(
        (checked.status, checked.value["left"].as_array().unwrap().len()),
        (0, 0),
        "{:#}",
        checked.value
    );
    clean(&home);
    crate::support::assert_same(&whole, &crate::support::describe(&home.tree("all"), true));
    assert!(!home.contents().iter().any(|name| name.contains("repair")), "no new reference");
    assert!(!home.contents().iter().any(|name| name.starts_with("incoming/")));
}

#[test]
fn modes_owners_and_times_need_no_source() {
    let home = Home::new();
    home.import_bytes(of_all_kinds(), "all").unwrap();
    let tree = home.tree("all");
    fs::set_permissions(tree.join("etc"), fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::lchown(tree.join("bin/link"), Some(3), None).unwrap();
    // This takes the capability away, and so can't be mended in place; the mode of another can.
    fs::write(tree.join("etc/new"), "").unwrap();
    let checked = fsck(&home, &["--repair"]);
    assert_eq!(checked.status, 0, "{:#}", checked.value);
    clean(&home);
}

#[test]
fn blobs_come_back() {
    let home = Home::new();
    let layout = home.folder.path().join("all.tar");
    fs::write(&layout, of_all_kinds()).unwrap();
    home.import_path(&layout, Some("all")).unwrap();
    let before = home.contents();
    for blob in fs::read_dir(home.path("blobs/sha256")).unwrap() {
        fs::write(blob.unwrap().path(), "flipped").unwrap();
    }
    let checked = fsck(&home, &["--repair", "--from", layout.to_str().unwrap()]);
    assert_eq!(checked.status, 0, "{:#}", checked.value);
    assert_eq!(home.contents(), before);
    clean(&home);
    // A reference to nothing: the whole image comes back.
    for part in fs::read_dir(home.path("blobs/sha256")).unwrap() {
        fs::remove_file(part.unwrap().path()).unwrap();
    }
    for part in fs::read_dir(home.path("layers")).unwrap() {
        fs::remove_dir_all(part.unwrap().path()).unwrap();
    }
    assert_eq!(fsck(&home, &[]).status, 1);
    let checked = fsck(&home, &["--repair", "--from", layout.to_str().unwrap()]);
    assert_eq!(checked.status, 0, "{:#}", checked.value);
    assert_eq!(home.contents(), before);
}

#[test]
fn what_is_mounted_is_not_touched() {
    let home = Home::new();
    let archive = home.folder.path().join("used.tar");
    fs::write(&archive, of_all_kinds()).unwrap();
    home.import_path(&archive, Some("used")).unwrap();
    let tree = home.tree("used");
    fs::set_permissions(tree.join("etc"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(tree.join("etc/passwd"), "").unwrap();
    let line = ["fsck", "--json", "--repair", "--from", archive.to_str().unwrap()];
    let output = beside_mount(&home, &tree, env!("CARGO_BIN_EXE_wharf"), &line);
    let value = serde_json::from_slice(&output.stdout).unwrap();
    let checked = Checked { status: output.status.code().unwrap(), value };
    assert_eq!(checked.status, 1);
    let left = checked.value["left"].as_array().unwrap();
    assert_eq!(left.len(), 2);
    for left in left {
        let why = left["why"].as_str().unwrap();
        assert_eq!(why, "is mounted by a running container; stop what runs used:latest, and repair again");
    }
    assert_eq!(fsck(&home, &["--repair", "--from", archive.to_str().unwrap()]).status, 0);
    clean(&home);
}

#[test]
fn a_damaged_orphan_goes_out_of_the_way() {
    let home = Home::new();
    home.import_bytes(of_all_kinds(), "all").unwrap();
    let tree = home.tree("all");
    home.import_bytes(Tar::new().file("x", "").end(), "other").unwrap();
    let details = home.store.inspect(&"all".parse().unwrap()).unwrap();
    fs::remove_file(home.path("refs/all:latest")).unwrap();
    let hex = details.listed.digest.trim_start_matches("sha256:").to_owned();
    fs::remove_file(home.path("blobs/sha256").join(hex)).unwrap();
    fs::write(tree.join("etc/passwd"), "").unwrap();
    assert_eq!(fsck(&home, &["--repair"]).status, 0);
    assert!(!tree.exists());
    // An import must not take the damaged one for good.
    home.import_bytes(of_all_kinds(), "all").unwrap();
    clean(&home);
}

#[test]
fn a_store_that_changes_is_never_called_damaged() {
    let home = Home::new();
    let many = |seed: usize| {
        (0..200)
            .fold(Tar::new(), |tar, index| tar.file(&format!("f{index}"), &format!("{seed} {index}")))
            .end()
    };
    home.import_bytes(many(0), "stays").unwrap();
    std::thread::scope(|scope| {
        for thread in 1..4 {
            let home = &home;
            scope.spawn(move || {
                for round in 0..6 {
                    let name = format!("image{thread}:{round}");
                    home.import_bytes(many(thread * 100 + round), &name).unwrap();
                    home.store
                        .tag(&name.parse().unwrap(), &format!("again{thread}").parse().unwrap())
                        .unwrap();
                    home.store.remove(&name.parse().unwrap()).unwrap();
                    home.store.prune(&Default::default(), Default::default()).unwrap();
                }
            });
        }
        let home = &home;
        scope.spawn(move || {
            for _ in 0..8 {
                clean(home);
            }
        });
    });
    clean(&home);
    assert_eq!(home.store.list().unwrap().len(), 4);
}

#[test]
fn what_a_command_was_cut_off_with_is_no_damage() {
    let home = Home::new();
    home.import_bytes(Tar::new().file("kept", "").end(), "kept").unwrap();
    home.import_bytes(Tar::new().file("lost", "").end(), "lost").unwrap();
    let lost = home.store.inspect(&"lost".parse().unwrap()).unwrap();
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    // As if its removal had been cut off after its note, its reference and its layer, which went first.
    let staging = home.path("incoming/dead");
    fs::create_dir_all(&staging).unwrap();
    let layer = format!("layers/{}", hex(&lost.layer_details[0].diff_id));
    fs::write(staging.join("note"), format!("blobs/sha256/{}\n{layer}\n", hex(&lost.listed.digest))).unwrap();
    fs::remove_file(home.path("refs/lost:latest")).unwrap();
    fs::remove_dir_all(home.path(&layer)).unwrap();
    let report = wharf::image::fsck::check(&home.store, Default::default(), &|_| ()).unwrap();
    assert!(report.is_clean(), "{:#?}", report.damage);
    assert_eq!((report.images, report.leftovers.len()), (1, 1));
    // A reference that came back with the power makes it one again.
    fs::write(home.path("refs/lost:latest"), format!("{}\n", lost.listed.digest)).unwrap();
    let report = wharf::image::fsck::check(&home.store, Default::default(), &|_| ()).unwrap();
    assert_eq!((report.images, report.damage.len()), (2, 1), "{:#?}", report.damage);
}
