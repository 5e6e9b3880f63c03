//! Images out of the store: archives that come back, that others read, and that are always the same bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use wharf::image::{Digest, Format, ImageError, Packing, SaveOptions, Source, export, save};

use crate::support::{Home, Tar, assert_same, describe, run};
use crate::tools::{layout, merged, unpacked_by_umoci};

const OCI: SaveOptions = SaveOptions { format: Format::Oci, packing: Packing::None };
const DOCKER: SaveOptions = SaveOptions { format: Format::Docker, packing: Packing::None };

fn saved(home: &Home, images: &[&str], options: SaveOptions) -> Vec<u8> {
    let images: Vec<_> = images.iter().map(|image| image.parse().unwrap()).collect();
    let mut archive = Vec::new();
    save(&home.store, &images, options, &mut archive, &|_| ()).unwrap();
    archive
}

fn exported(home: &Home, image: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    export(&home.store, &image.parse().unwrap(), &mut tar, &|_| ()).unwrap();
    tar
}

fn load(archive: &[u8]) -> Home {
    let home = Home::new();
    home.import(Source::Stream(Box::new(std::io::Cursor::new(archive.to_vec()))), None).unwrap();
    home
}

/// An image of three layers with whiteouts, whose manifest names compressed layers.
fn web() -> Home {
    let home = Home::new();
    home.import_path(&layout().join("web"), Some("registry.example/web:v1")).unwrap();
    home
}

fn digest(home: &Home, image: &str) -> String {
    home.store.resolve(&image.parse().unwrap()).unwrap().digest
}

#[test]
fn what_is_saved_comes_back_with_its_digest() {
    let home = web();
    let image = "registry.example/web:v1";
    let wanted = digest(&home, image);
    let plain = saved(&home, &[image], OCI);
    assert!(plain == saved(&home, &[image], OCI), "the same image makes the same bytes");
    for packing in [Packing::None, Packing::Gzip, Packing::Zstd] {
        let archive = saved(&home, &[image], SaveOptions { packing, ..OCI });
        let other = load(&archive);
        assert_eq!(digest(&other, image), wanted, "{packing:?}");
        let pinned = format!("registry.example/web@{wanted}").parse().unwrap();
        assert!(other.store.resolve(&pinned).is_ok());
        assert_same(&merged(&other, image), &merged(&home, image));
        // On another machine, of what came from this one.
        assert!(saved(&other, &[image], OCI) == plain, "{packing:?}");
        let again = saved(&other, &[image], SaveOptions { packing, ..OCI });
        assert!(again == archive, "{packing:?}");
    }
    // An image of plain layers needs no second manifest.
    home.import_bytes(Tar::new().file("a", "1").end(), "plain").unwrap();
    let archive = saved(&home, &["plain"], OCI);
    assert!(!String::from_utf8_lossy(&archive).contains("wharf.manifest"));
    assert_eq!(digest(&load(&archive), "plain"), digest(&home, "plain"));
}

#[test]
fn several_images_share_layers_in_one_archive() {
    let home = web();
    home.store.tag(&"registry.example/web:v1".parse().unwrap(), &"other:2".parse().unwrap()).unwrap();
    home.import_bytes(Tar::new().file("a", "1").end(), "plain").unwrap();
    let names = ["registry.example/web:v1", "other:2", "plain:latest"];
    let alone = saved(&home, &names[..1], OCI).len();
    for options in [OCI, DOCKER] {
        let archive = saved(&home, &names, options);
        assert!(archive.len() < alone + 20_000, "{} bytes", archive.len());
        let other = load(&archive);
        let listed = other.store.list().unwrap();
        let mut found: Vec<_> = listed.iter().flat_map(|image| image.references.clone()).collect();
        found.sort();
        assert_eq!(found, ["other:2", "plain:latest", "registry.example/web:v1"]);
        assert_eq!(listed.len(), 2);
        assert_same(&merged(&other, "other:2"), &merged(&home, "other:2"));
    }
    // A pinned reference is nothing that an image could be called.
    let pinned = format!("other@{}", digest(&home, "other:2"));
    let archive = saved(&home, &[&pinned], OCI);
    let other = Home::new();
    other.import_bytes(archive, "named").unwrap();
    assert_eq!(digest(&other, "named"), digest(&home, "other:2"));
}

#[test]
fn other_programs_read_it() {
    let home = web();
    let image = "registry.example/web:v1";
    let reference = unpacked_by_umoci(&format!("{}:v1", layout().join("web").display()));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let forms = [
        ("oci-archive", OCI),
        ("oci-archive", SaveOptions { packing: Packing::Gzip, ..OCI }),
        ("oci-archive", SaveOptions { packing: Packing::Zstd, ..OCI }),
        ("docker-archive", DOCKER),
    ];
    for (number, (kind, options)) in forms.into_iter().enumerate() {
        let tar = at(&format!("{number}.tar"));
        fs::write(&tar, saved(&home, &[image], options)).unwrap();
        let to = at(&format!("layout{number}"));
        let copy = |from: &str, to: &str| run("skopeo", &["copy", "--quiet", "--insecure-policy", from, to]);
        if options.packing == Packing::Zstd {
            // umoci can't read zstd; skopeo can, and names what it has decompressed by its digest.
            let plain = at("decompressed");
            run(
                "skopeo",
                &[
                    "copy",
                    "--quiet",
                    "--insecure-policy",
                    "--dest-decompress",
                    &format!("{kind}:{tar}"),
                    &format!("dir:{plain}"),
                ],
            );
            for layer in home.store.inspect(&image.parse().unwrap()).unwrap().layer_details {
                let bytes = fs::read(Path::new(&plain).join(&layer.diff_id["sha256:".len()..])).unwrap();
                assert_eq!(Digest::of(&bytes).to_string(), layer.diff_id);
            }
        } else {
            copy(&format!("{kind}:{tar}"), &format!("oci:{to}:copied"));
            assert_same(&unpacked_by_umoci(&format!("{to}:copied")), &reference);
        }
        // By its name in the archive, as one of several is found.
        let named = run("skopeo", &["inspect", &format!("{kind}:{tar}:{image}")]);
        assert!(named.contains("\"Layers\""), "{named}");
    }
    // The archive's own layout, unpacked by tar.
    let plain = at("plain");
    fs::create_dir(&plain).unwrap();
    run("tar", &["-C", &plain, "-xf", &at("0.tar")]);
    assert_same(&unpacked_by_umoci(&format!("{plain}:{image}")), &reference);
}

#[test]
fn a_manifest_of_another_image_is_refused() {
    let home = web();
    let image = "registry.example/web:v1";
    let wanted = digest(&home, image);
    let archive = saved(&home, &[image], OCI);
    let folder = tempfile::tempdir().unwrap();
    let unpack = || {
        let to = folder.path().join("archive");
        let _ = fs::remove_dir_all(&to);
        fs::create_dir(&to).unwrap();
        let mut tar = Command::new("tar")
            .args(["-C", to.to_str().unwrap(), "-xf", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(tar.wait().unwrap().success());
        to
    };
    let refused = |archive: &Path, why: &str| {
        let home = Home::new();
        let error = home.import_path(archive, None).expect_err("it must be refused");
        let text = error.to_string();
        assert!(text.contains(why), "{text}");
        assert_eq!(home.contents(), Vec::<String>::new());
    };
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    // Another image's manifest.
    let to = unpack();
    let blob = to.join("blobs/sha256").join(hex(&wanted));
    let mut manifest: Value = serde_json::from_slice(&fs::read(&blob).unwrap()).unwrap();
    manifest["config"]["digest"] = format!("sha256:{}", "0".repeat(64)).into();
    let bytes = manifest.to_string();
    let other = Digest::of(bytes.as_bytes());
    fs::write(to.join("blobs/sha256").join(other.hex()), bytes).unwrap();
    let index = fs::read_to_string(to.join("index.json")).unwrap();
    fs::write(to.join("index.json"), index.replace(&wanted, &other.to_string())).unwrap();
    refused(&to, "which is of another image");
    // Bytes that aren't it.
    let to = unpack();
    let blob = to.join("blobs/sha256").join(hex(&wanted));
    let mut bytes = fs::read(&blob).unwrap();
    bytes.push(b'\n');
    fs::write(&blob, bytes).unwrap();
    refused(&to, "was changed or damaged");
}

#[test]
fn an_export_is_what_a_container_sees() {
    let home = web();
    let image = "registry.example/web:v1";
    let tar = exported(&home, image);
    assert!(tar == exported(&home, image), "the same image makes the same bytes");
    let flat = Home::new();
    flat.import_bytes(tar.clone(), "flat").unwrap();
    assert_same(&describe(&flat.tree("flat"), false), &merged(&home, image));
    // And as tar reads it.
    let folder = tempfile::tempdir().unwrap();
    let (file, to) = (folder.path().join("root.tar"), folder.path().join("root"));
    fs::write(&file, &tar).unwrap();
    fs::create_dir(&to).unwrap();
    let arguments =
        ["--xattrs", "--xattrs-include=*", "-C", to.to_str().unwrap(), "-xpf", file.to_str().unwrap()];
    run("tar", &arguments);
    assert_same(&describe(&to, true), &describe(&flat.tree("flat"), true));
    // An export of the export is the export.
    assert!(exported(&flat, "flat") == tar);
}

#[test]
fn layers_hide_in_an_export_as_in_an_overlay() {
    let home = Home::new();
    let bottom = Tar::new()
        .dir("kept")
        .file("kept/a", "1")
        .file("kept/b", "2")
        .dir("opaque")
        .file("opaque/old", "3")
        .dir("opaque/sub")
        .file("opaque/sub/old", "4")
        .dir("spelled")
        .file("spelled/old", "5")
        .dir("becomes-file")
        .file("becomes-file/x", "6")
        .file("becomes-dir", "7")
        .file("gone", "8")
        .hard("linked", "gone")
        .link("link", "kept")
        .dir("comes-back")
        .file("comes-back/old", "9")
        .end();
    let top = Tar::new()
        .dir("kept")
        .file("kept/.wh.a", "")
        .dir("opaque")
        .file("opaque/.wh..wh..opq", "")
        .dir("opaque/sub")
        .file("opaque/sub/new", "new")
        .pax("SCHILY.xattr.trusted.overlay.opaque", b"y")
        .dir("spelled")
        .file("becomes-file", "now")
        .dir("becomes-dir")
        .file("becomes-dir/x", "now")
        .whiteout_device("gone")
        .dir("link")
        .file("link/x", "now")
        .file(".wh.comes-back", "")
        .file("comes-back/new", "now")
        .end();
    home.import_layers(&[&bottom, &top], "x").unwrap();
    let flat = Home::new();
    flat.import_bytes(exported(&home, "x"), "flat").unwrap();
    let described = describe(&flat.tree("flat"), false);
    assert_same(&described, &merged(&home, "x"));
    let paths: Vec<_> = described.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(
        paths,
        [
            "becomes-dir",
            "becomes-dir/x",
            "becomes-file",
            "comes-back",
            "comes-back/new",
            "kept",
            "kept/b",
            "link",
            "link/x",
            "linked",
            "opaque",
            "opaque/sub",
            "opaque/sub/new",
            "spelled",
        ]
    );
    // Written again, both are the tars that they were.
    assert_eq!(digest(&load(&saved(&home, &["x"], OCI)), "x"), digest(&home, "x"));
}

#[test]
fn nothing_is_written_of_what_cannot_be() {
    let home = web();
    let try_save = |image: &str, options| {
        let mut out = Vec::new();
        let error = save(&home.store, &[image.parse().unwrap()], options, &mut out, &|_| ()).unwrap_err();
        (error, out)
    };
    let (error, out) = try_save("missing:1", OCI);
    assert!(matches!(error, ImageError::Missing { .. }) && out.is_empty());
    let (error, out) = try_save("registry.example/web:v1", SaveOptions { packing: Packing::Gzip, ..DOCKER });
    assert!(matches!(error, ImageError::Unclear(_)) && out.is_empty());
    let image = home.store.resolve(&"registry.example/web:v1".parse().unwrap()).unwrap();
    fs::remove_file(image.layers[1].with_file_name("frame")).unwrap();
    let (error, out) = try_save("registry.example/web:v1", OCI);
    assert!(matches!(error, ImageError::NoFrame { .. }) && out.is_empty(), "{error}");
    // What needs no frame still goes.
    assert!(!exported(&home, "registry.example/web:v1").is_empty());
}

#[test]
fn the_past_of_an_image() {
    let home = web();
    let past = home.store.history(&"registry.example/web:v1".parse().unwrap()).unwrap();
    assert_eq!(past.iter().filter(|step| step.diff_id.is_some()).count(), 3);
    let details = home.store.inspect(&"registry.example/web:v1".parse().unwrap()).unwrap();
    let newest = past.iter().find(|step| step.diff_id.is_some()).unwrap();
    assert_eq!(newest.diff_id.as_ref(), Some(&details.layer_details[2].diff_id));
    assert_eq!(newest.size, details.layer_details[2].summary.bytes);
    // An image that says nothing of it has its layers still.
    home.import_bytes(Tar::new().file("a", "12345").end(), "plain").unwrap();
    let past = home.store.history(&"plain".parse().unwrap()).unwrap();
    assert_eq!((past.len(), past[0].size, past[0].created_by.as_str()), (1, 5, ""));
}

fn wharf(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.arg("image").args(arguments).env("WHARF_ROOT", home.folder.path());
    command
}

#[test]
fn by_the_command() {
    let home = Home::new();
    home.import_bytes(Tar::new().file("a", "content").end(), "x").unwrap();
    // Through a pipe, as ssh does it.
    let other = Home::new();
    let output = wharf(&home, &["save", "x"]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    let mut child = wharf(&other, &["load"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&output.stdout).unwrap();
    let loaded = child.wait_with_output().unwrap();
    assert!(loaded.status.success());
    assert_eq!(digest(&other, "x"), digest(&home, "x"));
    // A file is whole or what it was.
    let file = home.folder.path().join("x.tar");
    let path = file.to_str().unwrap();
    assert!(wharf(&home, &["save", "-o", path, "x"]).status().unwrap().success());
    assert_eq!(fs::read(&file).unwrap(), output.stdout);
    fs::write(home.tree("x").join("a"), "damaged").unwrap();
    let failed = wharf(&home, &["save", "-o", path, "x"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("wharf fsck"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), output.stdout);
    let left: Vec<_> =
        fs::read_dir(home.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    let history = wharf(&home, &["history", "--json", "x"]).output().unwrap();
    let history: BTreeMap<String, Value> =
        serde_json::from_slice::<Vec<_>>(&history.stdout).unwrap().remove(0);
    assert_eq!(history["size"], 7);
    // Nothing for a terminal: `script` gives it one.
    let command =
        format!("WHARF_ROOT={} {} image save x", home.folder.path().display(), env!("CARGO_BIN_EXE_wharf"));
    let output = Command::new("script").args(["-qec", &command, "/dev/null"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("nothing for a terminal"), "{said}");
}
