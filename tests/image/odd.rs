//! Archives that are odd and right, in every form that tar programs write: unpacked as they are meant, and the same
//! after a way out and in again.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tar::EntryType;
use wharf::image::{Digest, Options, SaveOptions, Source, import, save, write_layer};
use wharf::settings::Unpack;

use crate::support::{Home, Tar, assert_same, describe, run};
use crate::tools::merged;

/// The layers of an image, imported, saved and imported again: the same digests, tars and trees.
#[track_caller]
fn round(layers: &[&[u8]]) -> Home {
    let home = Home::new();
    home.import_layers(layers, "x").unwrap();
    let mut archive = Vec::new();
    let reference = "x".parse().unwrap();
    save(&home.store, std::slice::from_ref(&reference), SaveOptions::default(), &mut archive, &|_| ())
        .unwrap();
    let other = Home::new();
    other.import(Source::Stream(Box::new(std::io::Cursor::new(archive))), None).unwrap();
    let (one, two) = (home.store.resolve(&reference).unwrap(), other.store.resolve(&reference).unwrap());
    assert_eq!(one.digest, two.digest);
    assert_eq!(one.config.rootfs, two.config.rootfs);
    for (number, (one, two)) in one.layers.iter().zip(&two.layers).enumerate() {
        assert_same(&describe(one, true), &describe(two, true));
        let mut tar = Vec::new();
        write_layer(&other.store, &Digest::of(layers[number]), number == 0, &mut tar).unwrap();
        assert!(tar == layers[number], "layer {number} is another tar");
    }
    home
}

fn read(home: &Home, path: &str) -> String {
    fs::read_to_string(home.tree("x").join(path)).unwrap()
}

/// A sparse file: eight bytes, a hole, and three bytes.
const SIZE: u64 = (8 << 20) + 100;
const LAST: u64 = SIZE - 3;

fn assert_sparse(path: &Path, size: u64) {
    use std::os::unix::fs::FileExt;
    let metadata = path.metadata().unwrap();
    assert_eq!(metadata.len(), size);
    assert!(metadata.blocks() * 512 < 1 << 20, "it takes {} blocks", metadata.blocks());
    let file = fs::File::open(path).unwrap();
    let mut bytes = [0; 12];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"beginnin\0\0\0\0");
    file.read_exact_at(&mut bytes[..6], size - 6).unwrap();
    assert_eq!(&bytes[..6], b"\0\0\0end");
}

#[test]
fn sparse_files_in_every_form() {
    let number = |number: u64| number.to_string().into_bytes();
    let stored = b"beginninend";
    let plain = |tar: Tar, name: &[u8]| tar.raw(name, EntryType::Regular, b"", stored, 11);
    // GNU tar's manual, "Storing Sparse Files": 0.0 repeats its keys, 0.1 has one map, 1.0 has it with the data.
    let records: Vec<(&str, Vec<u8>)> = vec![
        ("GNU.sparse.size", number(SIZE)),
        ("GNU.sparse.numblocks", number(2)),
        ("GNU.sparse.offset", number(0)),
        ("GNU.sparse.numbytes", number(8)),
        ("GNU.sparse.offset", number(LAST)),
        ("GNU.sparse.numbytes", number(3)),
    ];
    let zero = plain(Tar::new().pax_all(&records), b"zero");
    let map = format!("0,8,{LAST},3").into_bytes();
    let records = [
        ("GNU.sparse.size", number(SIZE)),
        ("GNU.sparse.numblocks", number(2)),
        ("GNU.sparse.name", b"one".to_vec()),
        ("GNU.sparse.map", map),
    ];
    let one = plain(Tar::new().pax_all(&records), b"GNUSparseFile.0/one");
    let mut data = format!("2\n0\n8\n{LAST}\n3\n").into_bytes();
    data.resize(512, 0);
    data.extend_from_slice(stored);
    let records = [
        ("GNU.sparse.major", number(1)),
        ("GNU.sparse.minor", number(0)),
        ("GNU.sparse.name", b"two".to_vec()),
        ("GNU.sparse.realsize", number(SIZE)),
    ];
    let two = Tar::new().pax_all(&records).raw(
        b"GNUSparseFile.0/two",
        EntryType::Regular,
        b"",
        &data,
        data.len() as u64,
    );
    let tar =
        [zero.open_end(), one.open_end(), two.open_end(), Tar::new().file("after", "it").end()].concat();
    let home = round(&[&tar]);
    for name in ["zero", "one", "two"] {
        assert_sparse(&home.tree("x").join(name), SIZE);
    }
    assert_eq!(read(&home, "after"), "it");
    assert_eq!(fs::read_dir(home.tree("x")).unwrap().count(), 4);
}

/// A folder with a sparse file of this size, and another name for it.
fn sparse_folder(size: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = "mkdir $1/from; cd $1/from; truncate -s $2 large; \
                  printf beginnin | dd of=large conv=notrunc status=none; \
                  printf end | dd of=large bs=1 seek=$(($2 - 3)) conv=notrunc status=none; \
                  truncate -s 1M hole; ln large again";
    run("sh", &["-ec", script, "sh", folder.path().to_str().unwrap(), &size.to_string()]);
    folder
}

fn sparse_tar(folder: &Path, format: &[&str]) -> Vec<u8> {
    let (from, tar) = (folder.join("from"), folder.join("x.tar"));
    let mut arguments = format.to_vec();
    arguments.extend(["--sparse", "-C", from.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
    run("tar", &arguments);
    fs::read(&tar).unwrap()
}

#[test]
fn sparse_files_as_tar_itself_writes_them() {
    let folder = sparse_folder(SIZE);
    for format in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let home = round(&[&sparse_tar(folder.path(), format)]);
        let tree = home.tree("x");
        assert_sparse(&tree.join("large"), SIZE);
        assert_eq!(
            tree.join("large").metadata().unwrap().ino(),
            tree.join("again").metadata().unwrap().ino()
        );
        assert_eq!(tree.join("hole").metadata().unwrap().len(), 1 << 20, "{format:?}");
    }
}

#[test]
fn more_than_four_gigabytes() {
    const LARGE: u64 = (4 << 30) + 100;
    let folder = sparse_folder(LARGE);
    let tar = sparse_tar(folder.path(), &["--format=gnu"]);
    let home = Home::new();
    home.import_bytes(tar.clone(), "x").unwrap();
    assert_sparse(&home.tree("x").join("large"), LARGE);
    let mut again = Vec::new();
    write_layer(&home.store, &Digest::of(&tar), true, &mut again).unwrap();
    assert!(again == tar);
}

#[test]
fn broken_maps_are_refused() {
    let broken = |records: &[(&str, &str)]| {
        let records: Vec<_> = records.iter().map(|(key, value)| (*key, value.as_bytes().to_vec())).collect();
        let home = Home::new();
        let tar = Tar::new().pax_all(&records).file("s", "12345678").end();
        let error = home.import_bytes(tar, "x").expect_err("it must be refused");
        assert_eq!(home.contents(), Vec::<String>::new());
        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
    };
    let size = ("GNU.sparse.size", "100");
    for records in [
        &[size, ("GNU.sparse.map", "0,8,4,0")][..],
        &[size, ("GNU.sparse.map", "0")],
        &[size, ("GNU.sparse.map", "0,9")],
        &[size, ("GNU.sparse.map", "96,8")],
        &[size, ("GNU.sparse.map", "x,8")],
        &[size, ("GNU.sparse.map", "18446744073709551615,8")],
        &[size, ("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,8")],
        &[size, ("GNU.sparse.numbytes", "8")],
        &[("GNU.sparse.map", "0,8")],
        &[("GNU.sparse.major", "7"), size],
    ] {
        let said = broken(records);
        assert!(said.contains("sparse file") || said.contains("number"), "{records:?}: {said}");
    }
}

#[test]
fn names_times_and_attributes() {
    let long = "l".repeat(120) + "/" + &"m".repeat(200);
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tar = Tar::new()
        .file("late/parent/file", "1")
        .dir("late")
        .raw(b"\xff\xfe\x80", EntryType::Regular, b"", b"2", 1)
        .pax("path", b"pax-\xff\xfe")
        .file("x", "3")
        .pax("path", long.as_bytes())
        .file("x", "4")
        .pax("linkpath", long.as_bytes())
        .hard("to-long", "x")
        .pax("mtime", b"-86400.25")
        .file("old", "5")
        .pax("mtime", b"4102444800.000000001")
        .file("future", "6")
        .pax("SCHILY.xattr.security.capability", &capability)
        .file("capable", "7")
        .hard("capable2", "capable")
        .pax("SCHILY.xattr.security.selinux", b"system_u:object_r:bin_t:s0")
        .file("labelled", "8")
        .pax("uid", b"4000000000")
        .file("owned", "9")
        .file("CASE", "10")
        .file("case", "11")
        .end();
    let home = round(&[&tar]);
    let tree = home.tree("x");
    assert_eq!(read(&home, &long), "4");
    assert_eq!(read(&home, "to-long"), "4");
    assert_eq!((read(&home, "CASE"), read(&home, "case")), ("10".to_owned(), "11".to_owned()));
    assert!(tree.join(std::ffi::OsStr::from_bytes(b"pax-\xff\xfe")).exists());
    let time = |name: &str| {
        let metadata = tree.join(name).metadata().unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    assert_eq!(time("old"), (-86_401, 750_000_000));
    assert_eq!(time("future"), (4_102_444_800, 1));
    let mut value = [0; 100];
    let length = rustix::fs::getxattr(tree.join("capable2"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(value[..length], capability);
    assert_eq!(tree.join("owned").metadata().unwrap().uid(), 4_000_000_000);
    let summary = &home.store.inspect(&"x".parse().unwrap()).unwrap().layer_details[0].summary;
    assert_eq!(summary.attributes, 1);
}

/// Hard links lead to what is in the same layer and comes before, as containers/storage and Docker have it, which
/// make each with link(2) as it comes.
#[test]
fn hard_links() {
    let refused = |tar: Tar, why: &str| {
        let home = Home::new();
        let error = home.import_bytes(tar.end(), "x").expect_err("it must be refused").to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(Tar::new().hard("b", "a").file("a", "later"), "isn't in this layer");
    refused(Tar::new().file("a", "1").dir("d").hard("d", "a").hard("e", "d/x"), "isn't in this layer");
    let bottom = Tar::new().file("below", "1").file("gone", "2").end();
    let top = |tar: Tar| -> Vec<u8> { tar.end() };
    let home = Home::new();
    // Of the layer below, and of what this one takes away.
    let error =
        home.import_layers(&[&bottom, &top(Tar::new().hard("b", "below"))], "x").unwrap_err().to_string();
    assert!(error.contains("isn't in this layer"), "{error}");
    let taken = top(Tar::new().file(".wh.gone", "").hard("b", "gone"));
    let error = home.import_layers(&[&bottom, &taken], "x").unwrap_err().to_string();
    assert!(error.contains("takes away"), "{error}");
    // A whiteout is about what lies below: the file of this layer stays, whichever comes first.
    let both = top(Tar::new()
        .file(".wh.gone", "")
        .file("gone", "new")
        .hard("b", "gone")
        .file("kept", "k")
        .hard("c", "kept")
        .file(".wh.kept", "")
        // Another file takes the first name; the second keeps what it had.
        .file("first", "one")
        .hard("second", "first")
        .file("first", "two")
        .hard("third", "second")
        .dir("folder")
        .hard("folder/fourth", "third"));
    let home = round(&[&bottom, &both]);
    let tree = home.store.resolve(&"x".parse().unwrap()).unwrap().layers[1].clone();
    let text = |path: &str| fs::read_to_string(tree.join(path)).unwrap();
    let inode = |path: &str| tree.join(path).metadata().unwrap().ino();
    assert_eq!(
        (text("gone"), text("b"), text("kept"), text("c")),
        ("new".into(), "new".into(), "k".into(), "k".into())
    );
    assert_eq!(
        (text("first"), text("second"), text("folder/fourth")),
        ("two".into(), "one".into(), "one".into())
    );
    assert_eq!(inode("second"), inode("folder/fourth"));
    assert_ne!(inode("first"), inode("second"));
}

#[test]
fn opaque_folders_in_every_spelling() {
    let mut bottom = Tar::new();
    for folder in ["marker", "marker-late", "trusted", "user", "not"] {
        bottom = bottom.dir(folder).file(&format!("{folder}/old"), "old");
    }
    let top = Tar::new()
        .dir("marker")
        .file("marker/.wh..wh..opq", "")
        .file("marker/new", "new")
        .dir("marker-late")
        .file("marker-late/new", "new")
        .file("marker-late/.wh..wh..opq", "")
        .pax("SCHILY.xattr.trusted.overlay.opaque", b"y")
        .dir("trusted")
        .file("trusted/new", "new")
        .pax("SCHILY.xattr.user.overlay.opaque", b"y")
        .dir("user")
        .file("user/new", "new")
        .pax("SCHILY.xattr.trusted.overlay.opaque", b"x")
        .dir("not")
        .file("not/new", "new")
        .end();
    let home = round(&[&bottom.end(), &top]);
    let merged = merged(&home, "x");
    let old: Vec<_> = merged.keys().filter(|path| path.ends_with(b"/old")).collect();
    assert_eq!(old, [b"not/old"]);
    assert_eq!(merged.keys().filter(|path| path.ends_with(b"/new")).count(), 5);
    // Where nothing lies below, nothing hides anything.
    let alone = round(&[&top]);
    let summary = &alone.store.inspect(&"x".parse().unwrap()).unwrap().layer_details[0].summary;
    assert_eq!((summary.whiteouts, summary.dropped_whiteouts), (0, 4));
}

#[test]
fn three_hundred_layers() {
    let layers: Vec<Vec<u8>> = (0..300)
        .map(|number| {
            let mut tar = Tar::new().dir("d").file(&format!("d/f{number}"), &number.to_string());
            tar = tar.file("d/same", &number.to_string());
            if number % 3 == 2 {
                tar = tar.file(&format!("d/.wh.f{}", number - 1), "");
            }
            tar.end()
        })
        .collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let home = round(&layers);
    let mut tar = Vec::new();
    wharf::image::export(&home.store, &"x".parse().unwrap(), &mut tar, &|_| ()).unwrap();
    let flat = Home::new();
    flat.import_bytes(tar, "x").unwrap();
    assert_eq!(read(&flat, "d/same"), "299");
    assert_eq!(fs::read_dir(flat.tree("x").join("d")).unwrap().count(), 201);
}

#[test]
fn limits_are_as_they_are_set() {
    let home = Home::new();
    let try_with = |unpack: Unpack, bytes: Vec<u8>| {
        let options = Options { name: Some("x".parse().unwrap()), unpack, ..Options::default() };
        import(&home.store, Source::Stream(Box::new(std::io::Cursor::new(bytes))), &options, &|_| ()).map_err(
            |error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                format!("{error}: {cause}")
            },
        )
    };
    let tar = || Tar::new().file("a", "12345").file("b", "12345").end();
    let error = try_with(Unpack { entries: 1, ..Unpack::default() }, tar()).unwrap_err();
    assert!(error.contains("one too many: 1 are allowed"), "{error}");
    let error = try_with(Unpack { bytes: 9, ..Unpack::default() }, tar()).unwrap_err();
    assert!(error.contains("larger than 9"), "{error}");
    try_with(Unpack { entries: 2, bytes: 10, ratio: 1 }, tar()).unwrap();
}

/// umoci writes a whiteout for each file that was in a directory, also when a file or a link stands there now.
#[test]
fn whiteouts_below_what_is_no_directory_any_more() {
    let below =
        Tar::new().dir("file").file("file/x", "1").dir("gone").dir("gone/d").file("gone/d/x", "1").end();
    let above = Tar::new()
        .file("file", "now")
        .file("file/.wh.x", "")
        .file("file/deeper/.wh.y", "")
        .file(".wh.gone", "")
        .file("gone/d/.wh.x", "")
        .file("stays", "")
        .end();
    let home = round(&[&below, &above]);
    let seen = merged(&home, "x");
    let names: Vec<_> = seen.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(names, ["file", "stays"]);
}
