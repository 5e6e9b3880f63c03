//! Folders that a layer leaves to be made look as the layers below have them.

use std::fs::{self, File};
use std::path::Path;

use wharf::image::{Implied, SaveOptions, export, implied, save};

use crate::support::{Home, Tar, assert_same, describe, run};
use crate::tools::unpacked_by_umoci;

const NAME: &str = "x";

/// Four layers: what is said, then more and more that isn't.
fn layers() -> [Vec<u8>; 4] {
    [
        Tar::new()
            .dir_as("./", 0o711, 0)
            .dir_as("tmp", 0o1777, 0)
            .pax("SCHILY.xattr.user.note", b"noted")
            .dir_as("srv", 0o750, 5)
            .pax("SCHILY.xattr.user.note", b"deep")
            .dir_as("srv/deep", 0o700, 6)
            .dir_as("srv/hidden", 0o700, 7)
            .dir_as("gone", 0o700, 8)
            .dir_as("file", 0o700, 9)
            .end(),
        // A whiteout, an opaque folder, and a file in the place of folders: nothing of these shows any more.
        Tar::new()
            .file("tmp/one", "1")
            .file(".wh.gone", "")
            .file("srv/hidden/.wh..wh..opq", "")
            .file(".wh.file", "")
            .file("new/below/one", "1")
            .dir_as("tmp/later", 0o700, 10)
            .end(),
        Tar::new()
            .file("srv/deep/two", "2")
            .file("gone/two", "2")
            .file("file", "2")
            .file("new/below/two", "2")
            .file("tmp/later/two", "2")
            .end(),
        // In the other order, nothing is left to be made.
        Tar::new().file("srv/three", "3").dir_as("srv", 0o751, 11).file("tmp/later/three", "3").end(),
    ]
}

fn home() -> Home {
    let home = Home::new();
    let layers = layers();
    home.import_layers(&layers.each_ref().map(Vec::as_slice), NAME).unwrap();
    home
}

fn exported(home: &Home) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (tar, root) = (folder.path().join("tar"), folder.path().join("root"));
    let mut file = File::create(&tar).unwrap();
    export(&home.store, &NAME.parse().unwrap(), &mut file, &|_| ()).unwrap();
    fs::create_dir(&root).unwrap();
    let (tar, root) = (tar.to_str().unwrap(), root.to_str().unwrap());
    run("tar", &["--xattrs", "--xattrs-include=*", "-C", root, "-xpf", tar]);
    folder
}

#[test]
fn they_are_as_umoci_unpacks_them() {
    let home = home();
    let ours = exported(&home);
    let folder = tempfile::tempdir().unwrap();
    let (archive, layout) = (folder.path().join("archive"), folder.path().join("layout"));
    let mut out = File::create(&archive).unwrap();
    save(&home.store, &[NAME.parse().unwrap()], SaveOptions::default(), &mut out, &|_| ()).unwrap();
    let (from, to) = (format!("oci-archive:{}", archive.display()), format!("oci:{}:v1", layout.display()));
    run("skopeo", &["copy", "--quiet", "--insecure-policy", &from, &to]);
    let mut theirs = unpacked_by_umoci(&format!("{}:v1", layout.display()));
    // What umoci makes itself keeps the mask that it ran with; nobody has said anything about these.
    for path in ["new", "new/below", "gone", "srv/hidden"] {
        theirs.remove(path.as_bytes());
    }
    let mut ours = describe(&ours.path().join("root"), false);
    ours.retain(|path, _| theirs.contains_key(path));
    assert_same(&ours, &theirs);
    assert!(theirs.len() > 10, "{theirs:?}");
    let text = |path: &str| theirs[path.as_bytes()].clone();
    assert_eq!(text("tmp"), "41777 0:0");
    assert_eq!(text("srv"), "40751 11:0", "said anew, without attributes");
    assert_eq!(text("srv/deep"), "40700 6:0 user.note=deep");
}

#[test]
fn times_are_those_below() {
    let home = home();
    let ours = exported(&home);
    let described = describe(&ours.path().join("root"), true);
    let text = |path: &str| described[path.as_bytes()].as_str();
    assert_eq!(text("tmp"), "41777 0:0 1000000000.0");
    assert_eq!(text("tmp/later"), "40700 10:0 1000000000.0");
    assert_eq!(text("new"), "40755 0:0 0.0");
    assert_eq!(text("gone"), "40755 0:0 0.0");
    assert_eq!(text("srv/hidden"), "40755 0:0 0.0");
    assert!(text("file").starts_with("100644 0:0 1000000000.0"), "{}", text("file"));
}

#[test]
fn a_start_is_told_which_folders() {
    let home = home();
    let image = home.store.resolve(&NAME.parse().unwrap()).unwrap();
    let told = |path: &str, layer| Implied { path: path.into(), layer };
    let expected = [told("", 0), told("srv", 3), told("srv/deep", 0), told("tmp", 0), told("tmp/later", 1)];
    assert_eq!(implied(&image.layers).unwrap(), expected);
    assert_eq!(implied(&image.layers[..1]).unwrap(), []);
    // A layer of an older version has no list, and says everything by what is there.
    for layer in &image.layers {
        let _ = fs::remove_file(layer.parent().unwrap().join("implied"));
    }
    assert_eq!(implied(&image.layers).unwrap(), []);
}

#[test]
fn the_list_is_what_is_left() {
    let home = home();
    let image = home.store.resolve(&NAME.parse().unwrap()).unwrap();
    let list = |layer: &Path| fs::read_to_string(layer.parent().unwrap().join("implied")).unwrap_or_default();
    let lists: Vec<_> = image.layers.iter().map(|layer| list(layer)).collect();
    assert_eq!(
        lists,
        [
            "",
            ".\nnew\nnew/below\nsrv\nsrv/hidden\ntmp\n",
            ".\ngone\nnew\nnew/below\nsrv\nsrv/deep\ntmp\ntmp/later\n",
            ".\ntmp\ntmp/later\n"
        ]
    );
    // What is replaced is forgotten with all that lies below it.
    let replaced = Tar::new().file("a/b/c", "1").file("a-b/c", "1").link("a", "a-b").file("a/d", "1").end();
    home.import_layers(&[&replaced], "y").unwrap();
    assert_eq!(list(&home.tree("y")), ".\na-b\n");
}
