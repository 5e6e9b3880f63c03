//! `wharf volume`, `wharf network` and `wharf cp`, as far as they go without containers.

use std::fs;
use std::path::Path;

use super::{root_with, under};

/// A root with a volume that is declared, one that isn't, and one for any instance of a template.
fn shop() -> tempfile::TempDir {
    let root = root_with(&[]);
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("etc/wharf/containers/db.toml", "image = 'a'\n[mounts]\n'/data' = { volume = 'db' }\n");
    write("etc/wharf/containers/web@.toml", "image = 'a'\n[mounts]\n'/data' = { volume = 'web-%i' }\n");
    for (volume, content) in [("db", "1"), ("old", "22"), ("web-blue", "333")] {
        write(&format!("var/lib/wharf/volumes/{volume}/file"), content);
    }
    root
}

fn good(root: &Path, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let (code, out, err) = under(root, &words);
    assert_eq!((code, err.as_str()), (0, ""), "{line}");
    out
}

fn bad(root: &Path, line: &str, code: i32, words: &str) {
    let arguments: Vec<&str> = line.split(' ').collect();
    let (found, out, err) = under(root, &arguments);
    assert_eq!(found, code, "{line}: {err}");
    assert!(err.contains(words), "{line}: {err}");
    assert_eq!(out, "", "{line}");
}

#[test]
fn volumes_are_listed_and_pruned() {
    let root = shop();
    let listed = good(root.path(), "volume list");
    let lines: Vec<&str> = listed.lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "NAME      STATE     DECLARED BY  RUNNING IN  SNAPSHOTS",
            "db        declared  db           -           -",
            "old       unused    -            -           -",
            "web-blue  declared  web@         -           -",
        ]
    );
    assert_eq!(good(root.path(), "volume list --format {name}:{declared}"), "db:db\nold:-\nweb-blue:web@\n");
    let json: serde_json::Value =
        serde_json::from_str(&good(root.path(), "volume list --json --size")).unwrap();
    assert_eq!((&json[1]["name"], &json[1]["entries"]), (&"old".into(), &1.into()));
    assert!(json[0]["bytes"].is_number() && json[0]["running"].as_array().unwrap().is_empty());
    let shown = good(root.path(), "volume inspect db");
    assert!(shown.contains("db at /data") && shown.contains("/var/lib/wharf/volumes/db"), "{shown}");
    bad(root.path(), "volume inspect dbb", 1, "did you mean `db`?");

    // A list is all that there is without a word for more.
    let would = good(root.path(), "volume prune");
    assert!(would.contains("old, 1 files") && would.contains("with --yes"), "{would}");
    bad(root.path(), "volume prune --yes db", 1, "db is declared with it");
    // What was named and stays is told by the exit status, too; one of an export that was killed isn't in the way.
    let snapshots = root.path().join("var/lib/wharf/volumes/.snapshots/old");
    fs::create_dir_all(snapshots.join("kept/tree")).unwrap();
    fs::create_dir_all(snapshots.join("export..1-2/tree")).unwrap();
    for (line, expected) in [("volume prune --yes", 0), ("volume prune --yes old", 1)] {
        let (code, out, err) = under(root.path(), &line.split(' ').collect::<Vec<_>>());
        assert_eq!((code, out.as_str()), (expected, "nothing to take away\n"), "{line}: {err}");
        assert!(err.contains("drop-snapshot old kept\n"), "{err}");
    }
    good(root.path(), "volume drop-snapshot old kept");
    fs::write(root.path().join("etc/wharf/containers/x.toml"), "image = \n").unwrap();
    let (code, out, err) = under(root.path(), &["volume", "prune", "--yes"]);
    assert!(
        code == 1 && out == "nothing to take away\n" && err.contains("x.toml can't be read"),
        "{out}{err}"
    );
    fs::remove_file(root.path().join("etc/wharf/containers/x.toml")).unwrap();
    fs::create_dir_all(root.path().join("var/lib/wharf/volumes/.removing-gone/half")).unwrap();
    assert!(good(root.path(), "volume prune --yes").contains("are free"));
    assert_eq!(good(root.path(), "volume list --format {name}"), "db\nweb-blue\n");
    assert!(!root.path().join("var/lib/wharf/volumes/.removing-gone").exists());
    assert_eq!(good(root.path(), "volume prune"), "nothing to take away\n");
}

#[test]
fn volumes_leave_and_come() {
    let root = shop();
    let tar = root.path().join("db.tar");
    let tar = tar.to_str().unwrap();
    let mode = || std::os::unix::fs::PermissionsExt::mode(&fs::metadata(tar).unwrap().permissions()) & 0o777;
    good(root.path(), &format!("volume export db -o {tar}"));
    assert_eq!(mode(), 0o600, "what is in volumes is root's to read");
    fs::set_permissions(tar, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    good(root.path(), &format!("volume export db -o {tar}"));
    assert_eq!(mode(), 0o640);
    bad(root.path(), &format!("volume import old {tar}"), 1, "--replace puts the archive in its place");
    assert!(
        good(root.path(), &format!("volume import --replace old {tar}")).starts_with("old: 1 B in 2 files")
    );
    assert_eq!(fs::read_to_string(root.path().join("var/lib/wharf/volumes/old/file")).unwrap(), "1");
    bad(root.path(), "volume import new /nonexistent", 1, "can't open /nonexistent");
    bad(root.path(), "volume import new /tmp", 2, "| wharf volume import new -");
    bad(root.path(), &format!("volume import ../x {tar}"), 1, "can't be a volume's name");
    fs::write(tar, "no tar at all").unwrap();
    bad(root.path(), &format!("volume import new {tar}"), 1, "the archive is cut short");
    bad(root.path(), "volume export none", 1, "there is no volume none");
    bad(root.path(), "volume snapshot db a.b", 2, "those with a dot are Wharf's own");
    bad(root.path(), "volume restore db none", 1, "has no snapshot none");
    bad(root.path(), "volume drop-snapshot db none", 1, "has no snapshot none");
    assert_eq!(
        good(root.path(), "volume snapshots"),
        "There is no snapshot; wharf volume snapshot NAME takes one.\n"
    );
    assert_eq!(good(root.path(), "volume snapshots --json"), "[]\n");
}

#[test]
fn a_network_without_anything_running() {
    let root = shop();
    assert_eq!(
        good(root.path(), "network list --format {name}|{ipv4}|{containers}|{running}"),
        "default|-|2|0\n"
    );
    let shown = good(root.path(), "network inspect default");
    assert!(shown.contains("none yet; the first container on it chooses them"), "{shown}");
    bad(root.path(), "network inspect host", 1, "the host's own network");
    bad(root.path(), "network inspect other", 1, "there is `default`");
}

#[test]
fn copies_that_make_no_sense() {
    let root = shop();
    for (line, code, words) in [
        ("cp a b", 2, "name a container on one side"),
        ("cp - -", 2, "- on both sides"),
        ("cp --owner 33 db:/etc -", 2, "a tar keeps the owners"),
        ("cp ./a:b c", 2, "name a container on one side"),
        ("cp --owner :www-data a db:/", 2, "write USER or USER:GROUP"),
        ("cp db:/etc", 2, "required"),
        ("cp db:/etc /tmp", 1, "don't run here"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let (found, _, err) = under(root.path(), &arguments);
        assert!(found == code && err.contains(words), "{line}: {found}: {err}");
    }
}
