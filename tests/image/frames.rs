//! A layer's tar, written again from the store, is the very tar that came.

use std::fs;

use tar::EntryType;
use wharf::image::{Digest, ImageError, write_layer};

use crate::support::{Home, Tar};

/// Imports a tar and writes its layer again.
#[track_caller]
fn there_and_back(tar: &[u8]) -> Home {
    let home = Home::new();
    home.import_bytes(tar.to_vec(), "x").unwrap();
    let mut again = Vec::new();
    let digest = Digest::of(tar);
    assert_eq!(write_layer(&home.store, &digest, true, &mut again).unwrap(), tar.len() as u64);
    assert!(again == tar, "the bytes differ");
    home
}

fn gnu_long(name: &[u8], kind: u8) -> Tar {
    Tar::new().raw(b"././@LongLink", EntryType::new(kind), b"", name, name.len() as u64)
}

#[test]
fn plain_members() {
    there_and_back(&Tar::new().dir("d").file("d/a", "content").link("l", "d/a").hard("h", "d/a").end());
    // What lies behind the end, also when it is no zeros and no whole block.
    let mut tar = Tar::new().file("a", "1").file("empty", "").end();
    tar.extend_from_slice(&[0; 10_000]);
    there_and_back(&tar);
    tar.extend_from_slice(b"and something that is no archive");
    there_and_back(&tar);
    // Headers, and bytes between a file's end and the next block, may be anything.
    let mut tar = Tar::new().raw(b"a", EntryType::Regular, b"", b"12", 2).file("b", "3").end();
    tar[512 + 2..1024].fill(7);
    there_and_back(&tar);
}

#[test]
fn what_is_left_out() {
    let global = Tar::new().raw(b"g", EntryType::XGlobalHeader, b"", b"18 comment=whole \n", 18);
    let tar = global
        .device("null")
        .raw(b"label", EntryType::new(b'V'), b"", b"", 0)
        .file(".wh..wh.plnk", "a note of AUFS's")
        .file(".wh.gone", "whiteouts may have content")
        .dir("d")
        .raw(b"d/with-data", EntryType::Directory, b"", &[5; 700], 700)
        .pax("SCHILY.xattr.trusted.overlay.redirect", b"/etc")
        .file("refused", "attribute")
        .end();
    there_and_back(&tar);
}

#[test]
fn replaced_files_are_kept_aside() {
    let tar = Tar::new()
        .file("twice", "first")
        .file("thrice", "one")
        .file("twice", "second")
        .file("thrice", "two")
        .file("thrice", "three")
        .file("linked", "by another name")
        .hard("name", "linked")
        .link("linked", "now a link")
        .dir("d")
        .file("d/x", "below")
        .file("d/x", "below, again")
        .dir("d/e")
        .file("d/e/deep", "deep")
        .file("d", "a file")
        .raw(b"was-empty", EntryType::Directory, b"", b"", 0)
        .file("was-empty", "a file")
        .file("d", "another")
        .dir("d")
        .file("d/x", "the last")
        .end();
    let home = there_and_back(&tar);
    let tree = home.tree("x");
    assert_eq!(fs::read_to_string(tree.join("thrice")).unwrap(), "three");
    assert_eq!(fs::read_to_string(tree.join("name")).unwrap(), "by another name");
    assert_eq!(fs::read_to_string(tree.join("d/x")).unwrap(), "the last");
    assert_eq!(fs::read_dir(tree.join("d")).unwrap().count(), 1);
    let details = home.store.inspect(&"x".parse().unwrap()).unwrap();
    assert_eq!(details.layer_details[0].summary.replaced, 8);
    assert_eq!(fs::read_dir(tree.with_file_name("aside")).unwrap().count(), 8);
}

#[test]
fn long_names_and_links_through_folders() {
    let long = "long/".repeat(60) + "name";
    let mut name = long.clone().into_bytes();
    name.push(0);
    let tar = [
        gnu_long(&name, b'L').file("long", "1").open_end(),
        gnu_long(&name, b'K').link("to-long", "long").open_end(),
        Tar::new().pax("path", long.as_bytes()).file("again", "2").open_end(),
        Tar::new().dir("real").link("way", "real").file("way/through", "3").file("way/through", "4").end(),
    ]
    .concat();
    let home = there_and_back(&tar);
    assert_eq!(fs::read_to_string(home.tree("x").join(&long)).unwrap(), "2");
    assert_eq!(fs::read_to_string(home.tree("x").join("real/through")).unwrap(), "4");
    assert_eq!(fs::read_link(home.tree("x").join("to-long")).unwrap().to_str().unwrap(), long);
}

#[test]
fn damage_is_noticed() {
    let tar = Tar::new().file("a", "content").file("b", "other").end();
    let write = |home: &Home| write_layer(&home.store, &Digest::of(&tar), true, &mut Vec::new());
    let fails = |home: Home, word: &str| {
        let error = write(&home).expect_err("it is damaged");
        assert!(matches!(error, ImageError::Damaged { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(word) && text.contains("wharf fsck"), "{text}");
    };
    let home = there_and_back(&tar);
    fs::write(home.tree("x").join("a"), "CONTENT").unwrap();
    fails(home, "gives the tar sha256:");
    let home = there_and_back(&tar);
    fs::write(home.tree("x").join("a"), "cont").unwrap();
    fails(home, "shorter");
    let home = there_and_back(&tar);
    fs::remove_file(home.tree("x").join("b")).unwrap();
    fails(home, "missing");
    let home = there_and_back(&tar);
    fs::remove_file(home.tree("x").join("b")).unwrap();
    std::os::unix::fs::symlink("a", home.tree("x").join("b")).unwrap();
    fails(home, "missing");
    let home = there_and_back(&tar);
    let frame = home.tree("x").with_file_name("frame");
    let bytes = fs::read(&frame).unwrap();
    fs::write(&frame, &bytes[..bytes.len() / 2]).unwrap();
    fails(home, "cut short");
    let home = there_and_back(&tar);
    let frame = home.tree("x").with_file_name("frame");
    let mut bytes = fs::read(&frame).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&frame, &bytes).unwrap();
    fails(home, "");
}

#[test]
fn layers_of_older_versions_get_a_frame_by_another_import() {
    let tar = Tar::new().file("a", "1").file("a", "2").end();
    let home = there_and_back(&tar);
    let layer = home.tree("x").parent().unwrap().to_owned();
    fs::remove_file(layer.join("frame")).unwrap();
    fs::remove_dir_all(layer.join("aside")).unwrap();
    let write = || write_layer(&home.store, &Digest::of(&tar), true, &mut Vec::new());
    let error = write().unwrap_err();
    assert!(matches!(error, ImageError::NoFrame { .. }));
    assert!(error.to_string().contains("import its image once more"), "{error}");
    let before = std::os::unix::fs::MetadataExt::ino(&layer.join("tree").metadata().unwrap());
    for _ in 0..2 {
        home.import_bytes(tar.clone(), "x").unwrap();
        write().unwrap();
        assert_eq!(before, std::os::unix::fs::MetadataExt::ino(&layer.join("tree").metadata().unwrap()));
    }
    // As a crash in the middle of that leaves it.
    fs::remove_file(layer.join("frame")).unwrap();
    home.import_bytes(tar.clone(), "x").unwrap();
    write().unwrap();
    assert_eq!(home.contents().len(), 4);
}
