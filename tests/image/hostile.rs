//! Layers that want out, and layers that are only odd.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use tar::EntryType;
use wharf::image::ImageError;

use crate::support::{Home, Tar};

/// Refused with words that name the reason, and nothing is left.
#[track_caller]
fn refused(tar: Vec<u8>, why: &str) {
    let home = Home::new();
    let error = home.import_bytes(tar, "x").expect_err("it must be refused");
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(&error) {
        text += &format!(": {cause}");
    }
    assert!(text.contains(why), "`{text}` doesn't say `{why}`");
    assert_eq!(home.contents(), Vec::<String>::new(), "something is left");
}

#[test]
fn no_way_out() {
    let outside = tempfile::tempdir().unwrap();
    let out = outside.path().to_str().unwrap();
    refused(Tar::new().file("a/../../x", "").end(), "has `..` in its name");
    refused(Tar::new().file("..", "").end(), "has `..` in its name");
    refused(Tar::new().file("a", "").hard("b", "../../etc/passwd").end(), "has `..` in its name");
    refused(Tar::new().hard("b", "/etc/passwd").end(), "isn't in this layer");
    refused(Tar::new().link("l", "/etc").hard("b", "l/passwd").end(), "isn't in this layer");
    refused(Tar::new().file("a", "").file("a/b", "").end(), "which is no directory");
    refused(Tar::new().dir("d").hard("e", "d").end(), "hard link to a directory");
    refused(Tar::new().dir("d/.wh..").end(), "hides nothing");
    refused(Tar::new().dir("d").link("d/l", "nowhere").file("d/l/x", "").end(), "which is no directory");
    refused(Tar::new().link("a", "b").link("b", "a").file("a/x", "").end(), "can't be opened");

    let home = Home::new();
    fs::write(outside.path().join("kept"), "kept").unwrap();
    let tar = Tar::new()
        .file("/absolute", "1")
        .link("l", out)
        // Absolute links end inside, where there is no such folder yet; through `..` they end at the root.
        .dir("real")
        .link("m", "../../../../real")
        .file("m/through", "2")
        .link("n", "/real")
        .file("n/absolute", "3")
        // A link is replaced, not followed.
        .link("o", &format!("{out}/kept"))
        .file("o", "4")
        .end();
    home.import_bytes(tar, "x").unwrap();
    let tree = home.tree("x");
    assert_eq!(fs::read_to_string(tree.join("absolute")).unwrap(), "1");
    assert_eq!(fs::read_to_string(tree.join("real/through")).unwrap(), "2");
    assert_eq!(fs::read_to_string(tree.join("real/absolute")).unwrap(), "3");
    assert_eq!(fs::read_to_string(tree.join("o")).unwrap(), "4");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.path().join("kept")).unwrap(), "kept");
    let manifest = fs::read_to_string(tree.with_file_name("manifest")).unwrap();
    assert!(manifest.contains(" real/through\n"), "the manifest has real paths: {manifest}");
}

#[test]
fn damage_is_named() {
    let tar = || Tar::new().file("a", &"x".repeat(5000));
    refused(tar().open_end(), "cut short");
    let whole = tar().end();
    refused(whole[..3000].to_vec(), "cut short");
    refused(Vec::new(), "is empty");
    refused(b"#!/bin/sh\necho this is no archive\n".repeat(100), "no tar archive");
    refused(Tar::new().end(), "holds no files");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole).unwrap();
    let gzip = gzip.finish().unwrap();
    refused(gzip[..gzip.len() - 6].to_vec(), "cut short");
    let zstd = zstd::encode_all(&whole[..], 1).unwrap();
    refused(zstd[..zstd.len() - 3].to_vec(), "cut short");
    let mut broken = whole;
    broken[200] ^= 1;
    refused(broken, "checksum");
    refused(
        Tar::new().raw(b"bomb", EntryType::Regular, b"", b"", 600 << 30).end(),
        "larger than 512G; if you trust it, raise `bytes` under [unpack]",
    );
    refused(Tar::new().raw(b"x", EntryType::XHeader, b"", b"", 1 << 30).end(), "more than 1 MiB");
    refused(Tar::new().pax("GNU.sparse.map", b"0,1").file("s", "x").end(), "without a size");
    refused(Tar::new().raw(b"what", EntryType::new(b'Q'), b"", b"", 0).end(), "type `Q`");
    refused(Tar::new().file(&"a/".repeat(49), "").pax("path", &b"d/".repeat(300)).dir("d").end(), "deeper");
}

#[test]
fn limits_are_the_hosts() {
    let home = Home::new();
    let import = |tar, entries, bytes| {
        let unpack = wharf::settings::Unpack { entries, bytes, ..Default::default() };
        let options =
            wharf::image::Options { name: Some("x".parse().unwrap()), unpack, ..Default::default() };
        let source = wharf::image::Source::Stream(Box::new(std::io::Cursor::new(tar)));
        wharf::image::import(&home.store, source, &options, &|_| ())
    };
    let unpack =
        |entries, bytes| import(Tar::new().file("a", "1234").file("b", "5678").end(), entries, bytes);
    let error = unpack(1, 100).unwrap_err().to_string();
    assert!(
        error.contains("`b`") && error.contains("1 are allowed") && error.contains("raise `entries`"),
        "{error}"
    );
    let error = unpack(2, 7).unwrap_err().to_string();
    assert!(error.contains("larger than 7;") && error.contains("raise `bytes`"), "{error}");
    // One member may imply a whole chain of folders.
    let chain = || Tar::new().file("a/b/c/d", "1").end();
    let error = import(chain(), 3, 100).unwrap_err().to_string();
    assert!(error.contains("`a/b/c/d`") && error.contains("3 are allowed"), "{error}");
    assert_eq!(home.contents(), Vec::<String>::new());
    assert_eq!(import(chain(), 4, 100).unwrap().len(), 1);
    assert_eq!(unpack(2, 8).unwrap().len(), 1);
}

#[test]
fn odd_but_right() {
    let home = Home::new();
    let tar = Tar::new()
        // Before its parent, whose mode and time come later.
        .file("late/file", "1")
        .raw(b"late", EntryType::Directory, b"", b"", 0)
        .file("twice", "first")
        .file("twice", "second")
        .hard("twice", "twice")
        .dir("becomes")
        .file("becomes/x", "")
        .file("becomes", "a file")
        .file("was", "")
        .dir("was")
        .raw(b"\xff\xfe \n%", EntryType::Regular, b"", b"5", 1)
        .pax("path", "långt/".repeat(40).as_bytes())
        .dir("short")
        .pax("mtime", b"-1.5")
        .file("old", "")
        .pax("SCHILY.xattr.user.lines", b"a\nb\n7 c=d\n")
        .file("attributes", "")
        .pax("SCHILY.xattr.trusted.overlay.redirect", b"/etc")
        .dir("redirect")
        .device("null")
        .raw(b"pipe", EntryType::Fifo, b"", b"", 0)
        .end();
    let imported = home.import_bytes(tar, "x").unwrap();
    assert_eq!(imported[0].devices, 1);
    let tree = home.tree("x");
    assert_eq!(fs::read_to_string(tree.join("twice")).unwrap(), "second");
    assert_eq!(fs::read_to_string(tree.join("becomes")).unwrap(), "a file");
    assert!(tree.join("was").is_dir() && !tree.join("null").exists());
    assert_eq!(tree.join("late").metadata().unwrap().mtime(), 1_000_000_000);
    assert!(tree.join(std::ffi::OsStr::from_bytes(b"\xff\xfe \n%")).exists());
    assert!(tree.join("långt/".repeat(40)).is_dir());
    let old = tree.join("old").metadata().unwrap();
    assert_eq!((old.mtime(), old.mtime_nsec()), (-2, 500_000_000));
    let mut value = [0; 100];
    let length = rustix::fs::getxattr(tree.join("attributes"), "user.lines", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"a\nb\n7 c=d\n");
    assert!(rustix::fs::getxattr(tree.join("redirect"), "trusted.overlay.redirect", &mut value[..]).is_err());
}

#[test]
fn the_same_tar_makes_the_same_image() {
    let tar = Tar::new().file("a", "1").end();
    let digest = |bytes: Vec<u8>| Home::new().import_bytes(bytes, "x").unwrap()[0].digest.clone();
    let plain = digest(tar.clone());
    assert_eq!(plain, digest(zstd::encode_all(&tar[..], 3).unwrap()));
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar).unwrap();
    assert_eq!(plain, digest(xz.finish().unwrap()));
}

#[test]
fn errors_name_the_member() {
    let home = Home::new();
    let error = home.import_bytes(Tar::new().file("etc/../x", "").end(), "x").unwrap_err();
    assert!(matches!(error, ImageError::Member { .. }));
    assert_eq!(error.to_string(), "the member `etc/../x` of the input has `..` in its name");
}

#[test]
fn depth_has_an_end_and_what_was_made_can_be_removed() {
    let deep = "d/".repeat(255);
    let home = Home::new();
    home.import_bytes(Tar::new().pax("path", format!("{deep}f").as_bytes()).file("f", "").end(), "deep")
        .unwrap();
    home.store.remove(&"deep".parse().unwrap()).unwrap();
    assert_eq!(home.contents(), Vec::<String>::new());
    // A link to the deepest folder, and on from there.
    let tar = Tar::new()
        .pax("path", deep.as_bytes())
        .dir("d")
        .pax("linkpath", deep.as_bytes())
        .link("l", "d")
        .pax("path", format!("l/{deep}").as_bytes()[..300].as_ref())
        .dir("d")
        .end();
    refused(tar, "deeper than 256");
}
