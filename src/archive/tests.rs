//! Trees that come back.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::image::pax::{Entry, Head, Writer};

const HOST: Ids = Ids { base: None };

fn open(path: &Path) -> OwnedFd {
    OwnedFd::from(fs::File::open(path).expect("a folder"))
}

fn packed(path: &Path) -> (Vec<u8>, Packed) {
    let mut tar = Vec::new();
    let mut packer = Packer::new(&mut tar, HOST, &|_| ());
    packer.folder(&open(path), b"").expect("packed");
    let packed = packer.finish().expect("memory");
    (tar, packed)
}

fn put(tar: &[u8], path: &Path) -> Result<Unpacked, ArchiveError> {
    // Whoever runs this may own nothing else.
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let into =
        Destination { folder: open(path), ids: HOST, owner: Some(own), durable: true, powerless: false };
    unpack(tar, &into, &|_| ())
}

fn member(path: &str, entry: Entry) -> Head {
    let path = path.as_bytes().to_vec();
    Head { path, entry, mode: 0o640, uid: 0, gid: 0, seconds: 5, nanoseconds: 7, xattrs: Vec::new() }
}

fn tar_of(heads: &[Head]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for head in heads {
        writer.head(head).expect("memory");
        if let Entry::File { size } = head.entry {
            writer.content(std::io::repeat(b'n'), size).expect("memory");
        }
    }
    writer.finish().expect("memory")
}

#[test]
fn a_tree_comes_back() {
    let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let at = |name: &str| from.path().join(name);
    fs::create_dir_all(at("sub/deep")).expect("made");
    fs::write(at("sub/file"), "content").expect("written");
    fs::hard_link(at("sub/file"), at("same")).expect("linked");
    symlink("/etc/../nowhere", at("link")).expect("linked");
    fs::set_permissions(at("sub/file"), fs::Permissions::from_mode(0o4711)).expect("a mode");
    let sparse = fs::File::create(at("sparse")).expect("made");
    sparse.set_len(64 << 20).expect("long");
    std::os::unix::fs::FileExt::write_at(&sparse, b"x", 30 << 20).expect("written");
    drop(sparse);
    drop(std::os::unix::net::UnixListener::bind(at("socket")).expect("bound"));
    let past = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(at("sub")).and_then(|folder| folder.set_modified(past)).expect("a time");

    let (tar, packed) = packed(from.path());
    assert!(tar.len() < 1 << 20, "holes take no room: {}", tar.len());
    assert_eq!(packed.left_out, ["`socket`: it is a socket, which is nothing without its process"]);
    assert_eq!((packed.members, packed.changed.len()), (7, 0));
    // Twice: over what is there, too.
    for _ in 0..2 {
        assert_eq!(put(&tar, to.path()).expect("unpacked").members, 7);
        let there = |name: &str| to.path().join(name);
        assert_eq!(fs::read_to_string(there("same")).expect("a file"), "content");
        let look = |name: &str| there(name).symlink_metadata().expect("there");
        assert_eq!(look("same").ino(), look("sub/file").ino());
        assert_eq!(look("sub/file").mode() & 0o7777, 0o4711);
        assert_eq!(fs::read_link(there("link")).expect("a link"), Path::new("/etc/../nowhere"));
        assert_eq!(look("sub").modified().expect("a time"), past);
        let sparse = look("sparse");
        assert_eq!(sparse.len(), 64 << 20);
        assert!(sparse.blocks() * 512 < 8 << 20, "{}", sparse.blocks());
        assert_eq!(fs::read(there("sparse")).expect("read"), fs::read(at("sparse")).expect("read"));
        let mut names: Vec<_> =
            fs::read_dir(to.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, ["link", "same", "sparse", "sub"], "and nothing beside them");
    }
}

#[test]
fn nothing_leads_out() {
    let (outside, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    fs::write(outside.path().join("victim"), "whole").expect("written");
    let way = outside.path().as_os_str().as_encoded_bytes().to_vec();
    let link = |path: &str, target: &[u8]| member(path, Entry::Symlink(target.to_vec()));
    let file = |path: &str| member(path, Entry::File { size: 3 });
    for (heads, said) in [
        (vec![file("../victim")], "by `..`"),
        (vec![file("a/../../victim")], "by `..`"),
        (vec![link("way", &way), file("way/victim")], "is no folder"),
        (
            vec![link("way", &way), member("way", Entry::Directory), file("way/victim")],
            "is a folder, and no folder",
        ),
        (
            vec![link("way", &way), member("hard", Entry::Hardlink(b"way/victim".to_vec()))],
            "which isn't there",
        ),
        (vec![member("hard", Entry::Hardlink(b"../victim".to_vec()))], "by `..`"),
        (vec![member("d", Entry::Directory), file("d")], "is a folder where"),
        (vec![file("f"), file("f/below")], "is no folder"),
    ] {
        let _ = fs::remove_dir_all(to.path().join("d"));
        for name in ["way", "f"] {
            let _ = fs::remove_file(to.path().join(name));
        }
        let error = put(&tar_of(&heads), to.path()).expect_err("refused").to_string();
        assert!(error.contains(said), "{said}: {error}");
        assert_eq!(fs::read_to_string(outside.path().join("victim")).expect("there"), "whole");
        assert_eq!(fs::read_dir(outside.path()).expect("a folder").count(), 1, "{said}");
    }
    // A file in the place of a link is a file, and what the link led to is what it was.
    let _ = fs::remove_file(to.path().join("way"));
    let victim = [way.as_slice(), b"/victim"].concat();
    put(&tar_of(&[link("way", &victim), file("way"), file("/absolute")]), to.path()).expect("unpacked");
    assert_eq!(fs::read_to_string(to.path().join("way")).expect("a file"), "nnn");
    assert_eq!(fs::read_to_string(to.path().join("absolute")).expect("a file"), "nnn");
    assert_eq!(fs::read_to_string(outside.path().join("victim")).expect("there"), "whole");
}

#[test]
fn half_a_file_has_no_name() {
    let to = tempfile::tempdir().expect("a folder");
    fs::write(to.path().join("file"), "before").expect("written");
    let mut bytes =
        tar_of(&[member("sub/first", Entry::File { size: 600 }), member("file", Entry::File { size: 600 })]);
    bytes.truncate(bytes.len() - 2 * 512 - 600);
    let error = put(&bytes, to.path()).expect_err("cut short");
    assert!(matches!(error, ArchiveError::Truncated), "{error}");
    assert_eq!(fs::read_to_string(to.path().join("file")).expect("a file"), "before");
    assert_eq!(fs::read(to.path().join("sub/first")).expect("whole").len(), 600);
    assert_eq!(fs::read_dir(to.path()).expect("a folder").count(), 2, "nothing beside them");
}

#[test]
fn what_comes_from_a_container_has_no_powers_here() {
    let to = tempfile::tempdir().expect("a folder");
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let into =
        Destination { folder: open(to.path()), ids: HOST, owner: Some(own), durable: false, powerless: true };
    let xattrs = vec![(b"security.capability".to_vec(), vec![0; 20])];
    let file = Head { mode: 0o6755, xattrs, ..member("file", Entry::File { size: 0 }) };
    let folder = Head { mode: 0o2755, ..member("folder", Entry::Directory) };
    let unpacked = unpack(&tar_of(&[file, folder])[..], &into, &|_| ()).expect("unpacked");
    assert_eq!(
        unpacked.left_out,
        ["`file`: its set-user-id or set-group-id bit", "`file`: its file capabilities"]
    );
    let mode = |name: &str| to.path().join(name).metadata().expect("there").mode() & 0o7777;
    assert_eq!((mode("file"), mode("folder")), (0o755, 0o2755));
}

#[test]
fn owners_that_a_container_doesnt_have() {
    let to = tempfile::tempdir().expect("a folder");
    let ids = Ids { base: Some(1 << 20) };
    let into = Destination { folder: open(to.path()), ids, owner: None, durable: false, powerless: false };
    let head = Head { uid: 70_000, ..member("file", Entry::File { size: 0 }) };
    let error = unpack(&tar_of(&[head])[..], &into, &|_| ()).expect_err("refused");
    assert!(error.to_string().contains("user 70000") && error.to_string().contains("--owner"), "{error}");
}

/// Deeper than a path can name, with names that are as long as can be.
#[test]
fn what_no_path_can_name_comes_back() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let down = |folder: &OwnedFd, name: &str| openat(folder, name, flags, Mode::empty()).expect("a folder");
    let name = |level: usize| if level < 30 { "n".repeat(255) } else { format!("{level:x}") };
    let mut at = open(from.path());
    for level in 0..DEPTH_MAX - 10 {
        mkdirat(&at, name(level), Mode::RWXU).expect("made");
        at = down(&at, &name(level));
    }
    drop(openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("made"));
    drop(at);
    let (tar, packed) = packed(from.path());
    assert_eq!(packed.members as usize, DEPTH_MAX - 10 + 2);
    assert_eq!(put(&tar, to.path()).expect("unpacked").members, packed.members);
    let mut at = open(to.path());
    for level in 0..DEPTH_MAX - 10 {
        at = down(&at, &name(level));
    }
    openat(&at, "file", OFlags::RDONLY, Mode::empty()).expect("it is there");
    for folder in [from, to] {
        let parent = open(folder.path());
        let top = std::ffi::CString::new(name(0)).expect("a name");
        crate::tree::remove_all(&parent, &top).expect("removed");
    }
    let many = "d/".repeat(4 * DEPTH_MAX) + "file";
    let to = tempfile::tempdir().expect("a folder");
    let error = put(&tar_of(&[member(&many, Entry::File { size: 0 })]), to.path()).expect_err("refused");
    assert!(error.to_string().contains("goes on for more than 1024 folders"), "{error}");
}

#[test]
fn what_is_removed_meanwhile() {
    let from = tempfile::tempdir().expect("a folder");
    fs::create_dir(from.path().join("sub")).expect("made");
    let gone = open(&from.path().join("sub"));
    fs::remove_dir(from.path().join("sub")).expect("removed");
    let mut tar = Vec::new();
    let mut packer = Packer::new(&mut tar, HOST, &|_| ());
    packer.folder(&gone, b"sub").expect("it has nothing in it");
    assert_eq!(packer.finish().expect("memory").members, 1);
}

#[test]
fn nothing_but_a_device() {
    let mut tar = Vec::new();
    let mut packer = Packer::new(&mut tar, HOST, &|_| ());
    let error = packer.named(&open(Path::new("/dev")), b"null", b"null").expect_err("nothing is left");
    assert_eq!(error.to_string(), "nothing to copy: `null`: it is a device");
}

#[test]
fn a_page_that_isnt_full() {
    let mut tar = Vec::new();
    let mut packer = Packer::new(&mut tar, HOST, &|_| ());
    packer.named(&open(Path::new("/sys/kernel")), b"uevent_seqnum", b"number").expect("packed");
    let packed = packer.finish().expect("memory");
    assert_eq!((packed.members, packed.changed), (1, Vec::new()));
}

#[test]
fn names_make_no_lines() {
    assert_eq!(shown("größer".as_bytes()), "`größer`");
    assert_eq!(shown(b"a\nerror: b"), "`a\\nerror: b`");
}

#[test]
fn a_folder_isnt_copied_into_itself() {
    let from = tempfile::tempdir().expect("a folder");
    fs::create_dir(from.path().join("sub")).expect("made");
    let look = from.path().join("sub").metadata().expect("there");
    let mut tar = Vec::new();
    let mut packer = Packer::new(&mut tar, HOST, &|_| ()).avoiding(Some((look.dev(), look.ino())));
    let error = packer.folder(&open(from.path()), b"x").expect_err("refused");
    assert!(error.to_string().starts_with("`x/sub` is where the copy goes to"), "{error}");
}
