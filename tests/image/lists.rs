//! Access lists (acl(5)): a tree has those that its archive says, and no other.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use crate::support::{Home, Tar};

/// As posix_acl_xattr.h has them: the owner, user 7, the group, the mask, and everybody.
fn list(user: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, allowed, id) in
        [(1, 7, NOBODY), (2, user, 7), (4, 5, NOBODY), (0x10, 7, NOBODY), (0x20, 5, NOBODY)]
    {
        bytes.extend_from_slice(&u16::to_le_bytes(tag));
        bytes.extend_from_slice(&u16::to_le_bytes(allowed));
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

fn has(path: &Path, name: &str) -> bool {
    lgetxattr(path, name, &mut [0; 256][..]).is_ok()
}

fn lists_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        for name in ["system.posix_acl_access", "system.posix_acl_default"] {
            if has(&path, name) {
                found.push(format!("{} {name}", path.strip_prefix(root).unwrap().display()));
            }
        }
        if path.symlink_metadata().unwrap().is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

fn fsck(home: &Home, more: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .arg("fsck")
        .args(more)
        .env("WHARF_ROOT", home.folder.path())
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn of_all_kinds() -> Tar {
    Tar::new()
        .dir("etc")
        .file("etc/passwd", "root")
        .file("implied/folder/file", "x")
        .link("link", "etc")
        .hard("hard", "etc/passwd")
        .raw(b"pipe", tar::EntryType::Fifo, b"", b"", 0)
        .file("replaced", "one")
        .file("replaced", "two")
        .file("etc/.wh.gone", "")
}

#[test]
fn what_lies_above_the_store_goes_into_no_layer() {
    let home = Home::new();
    // A store that is there already, and one that is made below.
    for made_before in [true, false] {
        let state = home.path("");
        if made_before {
            home.import_bytes(Tar::new().file("x", "").end(), "first").unwrap();
            for folder in [state.clone(), home.path("incoming"), home.path("layers")] {
                lsetxattr(&folder, "system.posix_acl_default", &list(7), XattrFlags::empty()).unwrap();
            }
        } else {
            fs::remove_dir_all(&state).unwrap();
            let above = state.parent().unwrap();
            lsetxattr(above, "system.posix_acl_default", &list(7), XattrFlags::empty()).unwrap();
        }
        home.import_layers(&[&Tar::new().file("base", "").end(), &of_all_kinds().end()], "web").unwrap();
        let layers = home.store.resolve(&"web".parse().unwrap()).unwrap().layers;
        for tree in &layers {
            assert_eq!(lists_below(tree.parent().unwrap()), Vec::<String>::new());
        }
        use std::os::unix::fs::MetadataExt;
        let mode = |path: &str| layers[1].join(path).symlink_metadata().unwrap().mode() & 0o7777;
        assert_eq!(
            (mode("etc"), mode("etc/passwd"), mode("pipe"), mode("implied")),
            (0o755, 0o644, 0o644, 0o755)
        );
        assert!(fsck(&home, &[]).0);
    }
}

#[test]
fn what_an_archive_says_goes_no_further() {
    let home = Home::new();
    let mut tar = Tar::new().pax("SCHILY.xattr.system.posix_acl_default", &list(6)).dir("d");
    for path in ["d/file", "d/implied/file", "d/.wh.gone"] {
        tar = tar.file(path, "x");
    }
    let tar = tar
        .dir("d/folder")
        .raw(b"d/pipe", tar::EntryType::Fifo, b"", b"", 0)
        .link("d/link", "file")
        .pax("SCHILY.xattr.system.posix_acl_access", &list(4))
        .file("d/own", "own")
        // A hard link keeps what the file has.
        .hard("d/hard", "d/own")
        .dir("d")
        .end();
    home.import_layers(&[&Tar::new().file("base", "").end(), &tar], "web").unwrap();
    let tree = home.store.resolve(&"web".parse().unwrap()).unwrap().layers[1].clone();
    assert_eq!(
        lists_below(&tree),
        ["d system.posix_acl_default", "d/hard system.posix_acl_access", "d/own system.posix_acl_access"]
    );
    let (clean, text) = fsck(&home, &[]);
    assert!(clean, "{text}");
}

#[test]
fn foreign_lists_are_found_and_taken_away() {
    let home = Home::new();
    home.import_bytes(of_all_kinds().end(), "web").unwrap();
    let tree = home.tree("web");
    lsetxattr(tree.join("etc/passwd"), "system.posix_acl_access", &list(7), XattrFlags::empty()).unwrap();
    lsetxattr(tree.join("etc"), "system.posix_acl_default", &list(7), XattrFlags::empty()).unwrap();
    let (clean, text) = fsck(&home, &[]);
    assert!(!clean);
    assert!(text.contains("/tree/etc has the attribute system.posix_acl_default, and should not"), "{text}");
    assert!(text.contains("/tree/etc/passwd has the mode"), "{text}");
    assert!(text.contains("has the attribute system.posix_acl_access, and should not"), "{text}");
    // What it takes is known: nothing has to come from elsewhere.
    let (repaired, text) = fsck(&home, &["--repair"]);
    assert!(repaired, "{text}");
    assert_eq!(lists_below(&tree), Vec::<String>::new());
    assert!(fsck(&home, &[]).0);
}
