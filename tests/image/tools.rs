//! Agreement with the tools that make images and those that unpack them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wharf::image::{ImageError, Options, Source, import};

use crate::support::{Home, assert_same, debian, describe, run};

#[test]
fn a_debian_root_is_as_tar_unpacks_it() {
    let home = Home::new();
    let tar = debian().join("trixie.tar");
    home.import_path(&tar, None).unwrap();
    let reference = tempfile::tempdir().unwrap();
    let to = reference.path().to_str().unwrap();
    run("tar", &["--xattrs", "--xattrs-include=*", "-C", to, "-xpf", tar.to_str().unwrap()]);
    // dev/ gets a new time from the device nodes that tar makes in it and sets right; so do both.
    let (ours, theirs) = (describe(&home.tree("trixie"), true), describe(reference.path(), true));
    assert!(ours.len() > 4000, "{} paths", ours.len());
    assert_same(&ours, &theirs);
}

#[test]
fn sparse_files_keep_their_holes() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    fs::create_dir(&from).unwrap();
    let script = "cd \"$1\"; truncate -s 40M hole; printf middle | dd of=hole bs=1 seek=20000000 conv=notrunc; \
                  truncate -s 5M nothing; for i in $(seq 0 60); do printf $i | dd of=many bs=1 seek=$((i * 100000)); done";
    run("sh", &["-ec", script, "sh", from.to_str().unwrap()]);
    for (format, name) in [("gnu", "gnu"), ("posix", "pax")] {
        let tar = folder.path().join(format!("{name}.tar"));
        let (from, tar_text) = (from.to_str().unwrap(), tar.to_str().unwrap());
        run("tar", &["--sparse", &format!("--format={format}"), "-C", from, "-cf", tar_text, "."]);
        assert!(tar.metadata().unwrap().len() < 2_000_000, "tar made it sparse");
        let home = Home::new();
        home.import_path(&tar, None).unwrap();
        let tree = home.tree(name);
        let contents = |root: &Path| -> Vec<_> {
            describe(root, false)
                .into_iter()
                .map(|(path, text)| {
                    (path, text.split(" = ").next().unwrap().split(' ').next_back().unwrap().to_owned())
                })
                .collect()
        };
        assert_eq!(contents(&tree), contents(Path::new(from)), "{format}");
        assert!(tree.join("hole").metadata().unwrap().blocks() < 2000, "holes stay holes");
    }
}

/// An OCI layout of several layers with everything that layers can hold.
pub fn layout() -> &'static Path {
    static LAYOUT: OnceLock<PathBuf> = OnceLock::new();
    LAYOUT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("layout");
        // Of an earlier run, which nothing dropped: statics live on.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let image = format!("{}:v1", at("web"));
        run("umoci", &["init", "--layout", &at("web")]);
        run("umoci", &["new", "--image", &image]);
        run("umoci", &["config", "--image", &image, "--config.cmd", "/bin/true", "--config.env", "A=1"]);
        let script = format!(
            "cd {root}; mkdir -p etc usr/bin var/old/deep gone opq; echo 1 >etc/one; echo x >var/old/deep/x; \
             echo y >gone/y; echo p >opq/p; ln -s /usr/bin bin; ln etc/one etc/same; mkfifo pipe; \
             chmod 4755 etc/one; chown 12:34 gone/y; setfattr -n user.a -v b etc/one 2>/dev/null || true",
            root = at("bundle1/rootfs")
        );
        layer(&image, &at("bundle1"), &script);
        let script = format!(
            "cd {root}; rm -r var/old gone; echo 2 >etc/two; rm etc/same; rm -r opq; mkdir opq; echo q >opq/q",
            root = at("bundle2/rootfs")
        );
        layer(&image, &at("bundle2"), &script);
        let script = format!("cd {}; mkdir gone; echo back >gone/z; rm etc/two", at("bundle3/rootfs"));
        layer(&image, &at("bundle3"), &script);
        folder
    })
}

fn layer(image: &str, bundle: &str, script: &str) {
    run("umoci", &["unpack", "--image", image, bundle]);
    run("sh", &["-ec", script]);
    run("umoci", &["repack", "--image", image, bundle]);
}

/// Mounts an image's layers and describes what a container would see.
pub fn merged(home: &Home, name: &str) -> std::collections::BTreeMap<Vec<u8>, String> {
    let image = home.store.resolve(&name.parse().unwrap()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let to = target.path().to_str().unwrap();
    let layers: Vec<_> = image.layers.iter().rev().map(|layer| layer.to_str().unwrap()).collect();
    run("mount", &["-t", "overlay", "-o", &format!("ro,lowerdir={}", layers.join(":")), "wharf-test", to]);
    let described = std::panic::catch_unwind(|| describe(target.path(), false));
    run("umount", &[to]);
    described.unwrap()
}

pub fn unpacked_by_umoci(layout: &str) -> std::collections::BTreeMap<Vec<u8>, String> {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    run("umoci", &["unpack", "--image", layout, bundle.to_str().unwrap()]);
    let mut described = describe(&bundle.join("rootfs"), false);
    // A note of umoci's own.
    for text in described.values_mut() {
        if let Some(at) = text.find(" user.umoci") {
            text.truncate(at);
        }
    }
    described
}

#[test]
fn layers_and_whiteouts_are_as_umoci_unpacks_them() {
    let web = layout().join("web");
    let reference = unpacked_by_umoci(&format!("{}:v1", web.display()));
    let home = Home::new();
    let imported = home.import_path(&web, None).unwrap();
    assert_eq!(imported[0].reference.as_ref().unwrap().to_string(), "web:v1");
    assert_eq!(imported[0].layers, 3);
    assert_same(&merged(&home, "web:v1"), &reference);
    let image = home.store.resolve(&"web:v1".parse().unwrap()).unwrap();
    assert_eq!(image.config.config.cmd, ["/bin/true"]);

    let from = format!("oci:{}:v1", web.display());
    for (kind, name) in [("docker-archive", "d"), ("oci-archive", "o")] {
        let folder = tempfile::tempdir().unwrap();
        let tar = folder.path().join("image");
        let to = format!("{kind}:{}:{name}:1", tar.display());
        run("skopeo", &["copy", "--quiet", "--insecure-policy", &from, &to]);
        let home = Home::new();
        home.import_path(&tar, Some("x")).unwrap();
        assert_same(&merged(&home, "x"), &reference);
        // The same from a stream, compressed.
        let bytes = zstd::encode_all(&fs::read(&tar).unwrap()[..], 1).unwrap();
        let imported = home.import_bytes(bytes, "y").unwrap();
        assert_eq!(imported[0].new_layers, 0, "the store has these layers");
        assert_same(&merged(&home, "y"), &reference);
    }
}

#[test]
fn buildah_images_are_as_umoci_unpacks_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let store =
        ["--root", &at("root"), "--runroot", &at("run"), "--storage-driver", "vfs"].map(str::to_owned);
    let buildah = |arguments: &[&str]| {
        let all: Vec<&str> = store.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        run("buildah", &all).trim().to_owned()
    };
    fs::create_dir_all(at("c1/dir/sub")).unwrap();
    fs::write(at("c1/dir/sub/a"), "a").unwrap();
    fs::write(at("c1/b"), "b").unwrap();
    let one = buildah(&["from", "scratch"]);
    buildah(&["copy", &one, &at("c1"), "/"]);
    buildah(&["commit", "--quiet", &one, "first"]);
    let two = buildah(&["from", "--pull-never", "localhost/first"]);
    let mounted = buildah(&["mount", &two]);
    fs::remove_dir_all(Path::new(&mounted).join("dir/sub")).unwrap();
    fs::write(Path::new(&mounted).join("c"), "c").unwrap();
    buildah(&["umount", &two]);
    buildah(&["commit", "--quiet", &two, &format!("oci:{}:v2", at("layout"))]);
    let layout = PathBuf::from(at("layout"));
    let home = Home::new();
    home.import_path(&layout, Some("built")).unwrap();
    assert_same(&merged(&home, "built"), &unpacked_by_umoci(&format!("{}:v2", layout.display())));
}

#[test]
fn a_damaged_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = |damage: &dyn Fn(&Path), wanted: &dyn Fn(&ImageError) -> bool| {
        let copy = folder.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        run("cp", &["-a", layout().join("web").to_str().unwrap(), copy.to_str().unwrap()]);
        damage(&copy);
        let home = Home::new();
        let error = home.import_path(&copy, Some("x")).expect_err("it must be refused");
        assert!(wanted(&error), "{error:?}");
        assert_eq!(home.contents(), Vec::<String>::new());
    };
    // The largest blobs are layers or configs; any will do.
    let blobs = |layout: &Path| -> Vec<PathBuf> {
        fs::read_dir(layout.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let index = blobs(&layout().join("web")).len();
    for which in 0..index {
        let flip = |layout: &Path| {
            let path = &blobs(layout)[which];
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        };
        let cut = |layout: &Path| {
            let path = &blobs(layout)[which];
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        };
        // Blobs of earlier states of the image lie there unused.
        if is_used(&blobs(&layout().join("web"))[which]) {
            check(&flip, &|error| matches!(error, ImageError::Digest { .. }));
            check(&cut, &|error| matches!(error, ImageError::Truncated { .. }));
        }
    }
    let media_type = |layout: &Path| {
        let index = fs::read_to_string(layout.join("index.json")).unwrap();
        let changed = index.replace("application/vnd.oci.image.manifest.v1+json", "application/x-tar");
        fs::write(layout.join("index.json"), changed).unwrap();
    };
    check(&media_type, &|error| matches!(error, ImageError::MediaType { .. }));
}

fn is_used(blob: &Path) -> bool {
    let web = layout().join("web");
    let index = fs::read_to_string(web.join("index.json")).unwrap();
    let hex = blob.file_name().unwrap().to_str().unwrap();
    let of = |text: &str| -> Vec<String> {
        text.split('"').filter_map(|word| word.strip_prefix("sha256:")).map(str::to_owned).collect()
    };
    of(&index).iter().any(|manifest| {
        manifest == hex
            || of(&fs::read_to_string(web.join("blobs/sha256").join(manifest)).unwrap())
                .iter()
                .any(|d| d == hex)
    })
}

#[test]
fn a_layer_at_the_bottom_of_one_image_and_above_in_another() {
    // umoci's second layer, alone, is the bottom of an image: its whiteouts hide nothing there.
    let home = Home::new();
    home.import_path(&layout().join("web"), None).unwrap();
    let image = home.store.resolve(&"web:v1".parse().unwrap()).unwrap();
    let details = home.store.inspect(&"web:v1".parse().unwrap()).unwrap();
    let second = details.layer_details[1].clone();
    assert!(second.summary.whiteouts > 0);
    let web = layout().join("web");
    let manifest_hex = image.digest.trim_start_matches("sha256:");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(web.join("blobs/sha256").join(manifest_hex)).unwrap()).unwrap();
    let blob = manifest["layers"][1]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let folder = tempfile::tempdir().unwrap();
    let config = serde_json::json!({
        "architecture": image.config.architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [second.diff_id] },
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    fs::copy(web.join("blobs/sha256").join(blob), folder.path().join("layer.tar")).unwrap();
    fs::write(
        folder.path().join("manifest.json"),
        r#"[{"Config":"config.json","RepoTags":["alone:1"],"Layers":["layer.tar"]}]"#,
    )
    .unwrap();
    home.import_path(folder.path(), None).unwrap();
    let alone = home.store.resolve(&"alone:1".parse().unwrap()).unwrap();
    assert!(alone.layers[0].to_str().unwrap().ends_with("-bottom/tree"));
    assert!(describe(&alone.layers[0], false).values().all(|text| !text.starts_with('2')));
    let again = home.store.resolve(&"web:v1".parse().unwrap()).unwrap();
    assert_eq!(again.layers, image.layers);
    home.store.remove(&"alone:1".parse().unwrap()).unwrap();
    assert!(again.layers.iter().all(|layer| layer.is_dir()));
}

#[test]
fn of_several_platforms_this_machines_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("many");
    run("cp", &["-a", layout().join("web").to_str().unwrap(), copy.to_str().unwrap()]);
    let read =
        |path: &Path| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let mut own = read(&copy.join("index.json"))["manifests"][0].clone();
    own.as_object_mut().unwrap().remove("annotations");
    let write = |platforms: &[&str]| {
        let manifests: Vec<_> = platforms
            .iter()
            .map(|architecture| {
                let mut descriptor = own.clone();
                descriptor["platform"] = serde_json::json!({ "os": "linux", "architecture": architecture });
                if *architecture != wharf::image::machine_architecture() {
                    // Other machines' blobs needn't be there.
                    descriptor["digest"] = format!("sha256:{}", "0".repeat(64)).into();
                }
                descriptor
            })
            .collect();
        let index_type = "application/vnd.oci.image.index.v1+json";
        let list = serde_json::json!({ "schemaVersion": 2, "mediaType": index_type, "manifests": manifests });
        let list = list.to_string();
        let digest = wharf::image::Digest::of(list.as_bytes());
        fs::write(copy.join("blobs/sha256").join(digest.hex()), &list).unwrap();
        let top = serde_json::json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": index_type, "digest": digest.to_string(), "size": list.len(),
            "annotations": { "org.opencontainers.image.ref.name": "v9" },
        }]});
        fs::write(copy.join("index.json"), top.to_string()).unwrap();
    };
    let home = Home::new();
    write(&["s390x", wharf::image::machine_architecture(), "riscv64"]);
    let imported = home.import_path(&copy, None).unwrap();
    assert_eq!(imported[0].reference.as_ref().unwrap().to_string(), "many:v9");
    assert_eq!(imported[0].digest, own["digest"].as_str().unwrap());
    write(&["s390x", "riscv64"]);
    let error = home.import_path(&copy, Some("x")).unwrap_err().to_string();
    assert!(error.contains("it has linux/s390x, linux/riscv64"), "{error}");
    // Another machine's, where that is asked for: then it's the blob that is missing.
    let asked = |platform: &str| {
        let options = Options {
            name: Some("x".parse().unwrap()),
            platform: Some(platform.parse().unwrap()),
            ..Options::default()
        };
        import(&home.store, Source::Path(copy.clone()), &options, &|_| ()).unwrap_err().to_string()
    };
    let error = asked("linux/s390x");
    assert!(error.contains("doesn't hold `blobs/sha256/0000"), "{error}");
    let error = asked("linux/arm/v7");
    assert!(error.contains("no image for linux/arm/v7; it has linux/s390x"), "{error}");
}
