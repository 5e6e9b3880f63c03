//! Images of four programs, there and back by way of `docker-registry`: whatever pushed them and whatever pulled them,
//! every path is the same, with its mode, owner, time, attributes, content and other names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, utimensat};

use crate::host::Running;
use crate::real::{is_said, merged, wharf};
use crate::support::{Home, assert_same, debian, describe, need, run};

type Tree = BTreeMap<Vec<u8>, String>;

/// CAP_NET_BIND_SERVICE, permitted and effective, as `setcap cap_net_bind_service+ep` writes it
/// (`struct vfs_cap_data`, revision 2, linux/capability.h).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The last day of 1969, in seconds.
const BEFORE: i64 = -86_400;

/// What Podman makes of a tree: it has no time before 1970 (containers/storage, `pkg/system/chtimes.go`).
fn as_podman_has_it(tree: &Tree) -> Tree {
    let (before, begin) = (format!(" {BEFORE}.0 "), " 0.0 ");
    tree.iter().map(|(path, text)| (path.clone(), text.replace(&before, begin))).collect()
}

fn dated(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// All that a layer can hold.
fn first_layer(root: &Path) {
    let at = |name: &str| root.join(name);
    for name in ["etc", "usr/bin", "usr/lib", "var/old/deep", "gone", "opaque", "sticky"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["etc/one", "usr/bin/tool", "var/old/deep/x", "gone/y", "opaque/p", "usr/lib/data"] {
        fs::write(at(name), format!("this is {name}\n")).unwrap();
    }
    fs::write(at("usr/lib/large"), vec![b'x'; 3 << 20]).unwrap();
    fs::write(at("usr/lib/empty"), "").unwrap();
    fs::hard_link(at("etc/one"), at("usr/one")).unwrap();
    fs::hard_link(at("etc/one"), at("etc/zero")).unwrap();
    symlink("usr/bin", at("bin")).unwrap();
    symlink("/etc/nowhere", at("etc/broken")).unwrap();
    rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let long = at(&format!("{}/{}", "d".repeat(120), "e".repeat(130)));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("f".repeat(200)), "long").unwrap();
    fs::write(at("etc/with space, ünicode"), "name").unwrap();

    chown(at("gone/y"), Some(12), Some(34)).unwrap();
    chown(at("usr/lib/data"), Some(65_534), Some(3_000_000)).unwrap();
    std::os::unix::fs::lchown(at("etc/broken"), Some(7), Some(8)).unwrap();
    mode(&at("usr/bin/tool"), 0o6755);
    mode(&at("sticky"), 0o1777);
    mode(&at("usr/lib/empty"), 0);
    attribute(&at("etc/one"), "user.a", b"b=c\nd\0e");
    attribute(&at("sticky"), "user.folder", b"1");
    attribute(&at("usr/lib/data"), "security.capability", &CAPABILITY);
    dated(&at("usr/lib/data"), BEFORE, 0);
    dated(&at("usr/lib/large"), 1_234_567_890, 0);
    dated(&at("usr/lib/empty"), 5_000_000_000, 0);
    dated(&at("bin"), 1_000_000_000, 0);
}

/// And what a layer can do to the one below. No file takes a folder's place: what umoci writes then, Podman refuses.
fn second_layer(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::remove_dir_all(at("var/old")).unwrap();
    fs::remove_dir_all(at("opaque")).unwrap();
    fs::create_dir(at("opaque")).unwrap();
    fs::write(at("opaque/q"), "new").unwrap();
    fs::remove_file(at("usr/one")).unwrap();
    fs::remove_dir_all(at("gone")).unwrap();
    fs::remove_file(at("bin")).unwrap();
    fs::create_dir(at("bin")).unwrap();
    mode(&at("usr/lib/empty"), 0o600);
    fs::write(at("usr/bin/tool"), "changed").unwrap();
    fs::create_dir(at("linked")).unwrap();
    fs::write(at("linked/1"), "same").unwrap();
    fs::hard_link(at("linked/1"), at("linked/2")).unwrap();
}

/// An image in a layout, and its tree as somebody else has it.
struct Made {
    name: &'static str,
    layout: String,
    tree: Tree,
}

/// umoci's unpacking, without the note that it makes of its own.
fn by_umoci(image: &str) -> Tree {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    run("umoci", &["unpack", "--image", image, bundle.to_str().unwrap()]);
    let mut tree = describe(&bundle.join("rootfs"), false);
    for text in tree.values_mut() {
        *text = text.split(" user.umoci.").next().unwrap_or_default().to_owned();
    }
    tree
}

fn with_umoci(folder: &Path) -> Made {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let image = format!("{}:v1", at("umoci"));
    run("umoci", &["init", "--layout", &at("umoci")]);
    run("umoci", &["new", "--image", &image]);
    let fills: [fn(&Path); 2] = [first_layer, second_layer];
    for (number, fill) in fills.iter().enumerate() {
        let bundle = at(&format!("bundle{number}"));
        run("umoci", &["unpack", "--image", &image, &bundle]);
        fill(&Path::new(&bundle).join("rootfs"));
        run("umoci", &["repack", "--image", &image, &bundle]);
    }
    Made { name: "umoci", tree: by_umoci(&image), layout: image }
}

fn with_buildah(folder: &Path) -> Made {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (root, state) = (at("buildah-root"), at("buildah-run"));
    let store = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
    let buildah = |words: &[&str]| run("buildah", &[&store, words].concat()).trim().to_owned();
    let mut from = "scratch".to_owned();
    let fills: [fn(&Path); 2] = [first_layer, second_layer];
    for (number, fill) in fills.iter().enumerate() {
        let container = buildah(&["from", "--pull-never", &from]);
        fill(Path::new(&buildah(&["mount", &container])));
        buildah(&["umount", &container]);
        from = format!("localhost/built{number}");
        buildah(&["commit", "--quiet", &container, &from]);
    }
    let image = format!("{}:v1", at("buildah"));
    buildah(&["push", "--quiet", &from, &format!("oci:{image}")]);
    Made { name: "buildah", tree: by_umoci(&image), layout: image }
}

/// Docker's documents and plain layers, made of umoci's.
fn with_skopeo(folder: &Path, of: &Made) -> Made {
    let archive = format!("docker-archive:{}:skopeo:v1", folder.join("docker.tar").display());
    let image = format!("{}:v1", folder.join("skopeo").display());
    let copy = |from: &str, to: &str| {
        run("skopeo", &["copy", "--quiet", "--insecure-policy", "-f", "v2s2", from, to])
    };
    copy(&format!("oci:{}", of.layout), &archive);
    copy(&archive, &format!("dir:{}", folder.join("skopeo").display()));
    Made { name: "skopeo", layout: image, tree: of.tree.clone() }
}

/// A Debian as tar unpacks it.
fn with_mmdebstrap(folder: &Path) -> Made {
    let tar = debian().join("trixie.tar");
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let image = format!("{}:v1", at("debian"));
    run("umoci", &["init", "--layout", &at("debian")]);
    run("umoci", &["new", "--image", &image]);
    run("umoci", &["raw", "add-layer", "--image", &image, tar.to_str().unwrap()]);
    let unpacked = at("tar");
    fs::create_dir(&unpacked).unwrap();
    run("tar", &["--xattrs", "--xattrs-include=*", "-C", &unpacked, "-xpf", tar.to_str().unwrap()]);
    Made { name: "debian", tree: describe(Path::new(&unpacked), false), layout: image }
}

/// Podman's pull, and its own look at the image: into a storage that goes with the test, in a mount namespace where
/// what it keeps elsewhere is covered. Its driver is the one that needs no mount, so the tree can be seen from here.
fn by_podman(registry: &Running, reference: &str) -> Tree {
    need("podman");
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certificates");
    fs::create_dir(&certificates).unwrap();
    fs::copy(registry.folder.path().join("ca.pem"), certificates.join("ca.crt")).unwrap();
    let policy = folder.path().join("policy.json");
    fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    let script = r#"
        at=$1 image=$2
        export TMPDIR=$at
        for covered in /dev/shm /run/containers /run/libpod /var/lib/containers; do
            mkdir -p "$covered"
            mount -t tmpfs tmpfs "$covered"
        done
        podman() {
            command podman --root "$at/root" --runroot "$at/run" --tmpdir "$at/tmp" --storage-driver vfs "$@"
        }
        podman pull --quiet --creds me:secret --cert-dir "$at/certificates" \
            --signature-policy "$at/policy.json" "$image" >"$at/pulled"
        podman image mount "$image"
    "#;
    let at = folder.path().to_str().unwrap();
    let said = run(
        "unshare",
        &["--mount", "--propagation", "private", "bash", "-ec", script, "bash", at, reference],
    );
    let mounted = PathBuf::from(OsStr::from_bytes(said.trim().as_bytes()));
    assert!(mounted.starts_with(folder.path()), "{said}");
    describe(&mounted, false)
}

/// What a container would see. Of one layer that is its tree, which overlayfs doesn't mount alone.
fn seen(home: &Home, name: &str) -> Tree {
    match home.store.resolve(&name.parse().unwrap()).unwrap().layers.as_slice() {
        [only] => describe(only, false),
        _ => merged(home, name),
    }
}

#[test]
fn everybody_sees_the_same_files() {
    let (from, to) = (Running::start(), Running::start());
    let folder = tempfile::tempdir().unwrap();
    let umoci = with_umoci(folder.path());
    let images = [
        with_skopeo(folder.path(), &umoci),
        umoci,
        with_buildah(folder.path()),
        with_mmdebstrap(folder.path()),
    ];
    let home = Home::new();
    for registry in [&from, &to] {
        registry.trusted_by(&home);
        let log_in = ["image", "login", "--username", "me", "--password-stdin", &registry.host];
        is_said(&wharf(registry, &home, &log_in, "secret\n"), "HOST knows me");
    }
    for Made { name, layout, tree } in images {
        let least = if name == "debian" { 4000 } else { 20 };
        assert!(tree.len() > least, "{name} has {} paths", tree.len());
        let pushed = format!("{}/team/{name}:1", from.host);
        let (source, format) = match layout.strip_suffix(":v1") {
            Some(directory) if name == "skopeo" => (format!("dir:{directory}"), "v2s2"),
            _ => (format!("oci:{layout}"), "oci"),
        };
        from.skopeo(&["copy", "--format", format, &source, &format!("docker://{pushed}")]);
        is_said(
            &wharf(&from, &home, &["image", "pull", &pushed], ""),
            &format!("HOST/team/{name}:1 sha256:"),
        );
        assert_same(&seen(&home, &pushed), &tree);

        // The other registry has none of its blobs, so every layer is written and packed by Wharf.
        for compress in ["gzip", "zstd", "none"] {
            // Gzip takes long where nothing is optimised.
            if name == "debian" && compress != "none" {
                continue;
            }
            let reference = format!("{}/team/{name}-{compress}:1", to.host);
            let push = ["image", "push", "--compress", compress, &pushed, &reference];
            is_said(&wharf(&to, &home, &push, ""), &format!("HOST/team/{name}-{compress}:1 sha256:"));
            assert_same(&by_podman(&to, &reference), &as_podman_has_it(&tree));
            // This umoci knows no zstd.
            if compress != "zstd" {
                let copy = folder.path().join(format!("{name}-{compress}")).to_str().unwrap().to_owned();
                to.skopeo(&["copy", &format!("docker://{reference}"), &format!("oci:{copy}:v1")]);
                assert_same(&by_umoci(&format!("{copy}:v1")), &tree);
            }
        }
    }
}
