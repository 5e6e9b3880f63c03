//! What a container has changed, with a folder in the place of its root: the image's layers unpacked once more, and
//! then changed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use serde_json::Value;
use wharf::image::{
    Changes, CommitOptions, Digest, Ids, ImageError, Imported, Live, Source, commit, differences, export,
};
use wharf::plan::Footprint;
use wharf::settings::Unpack;

use crate::support::{Home, Tar, assert_same, describe, run, unmount};
use crate::tools::merged;

/// A store with an image of two layers, and its root unpacked.
struct Container {
    home: Home,
    root: PathBuf,
    made: Footprint,
}

impl Container {
    fn new() -> Self {
        let bottom = Tar::new()
            .dir("etc")
            .file("etc/hosts", "the image's")
            .file("etc/passwd", "root")
            .pax("SCHILY.xattr.user.note", b"kept")
            .file("etc/noted", "n")
            .pax("mtime", b"1000.123456789")
            .file("precise", "12345")
            .dir("var")
            .dir("var/gone")
            .file("var/gone/x", "x")
            .file("var/hidden", "h")
            .dir("opq")
            .file("opq/old", "old")
            .link("link", "etc/passwd")
            .raw(b"pipe", tar::EntryType::Fifo, b"", b"", 0)
            .file("linked", "two names")
            .hard("linked2", "linked")
            .dir("sub")
            .dir("sub/deep")
            .file("sub/deep/file", "deep")
            .end();
        let top = Tar::new()
            .dir("var")
            .file("var/.wh.hidden", "")
            .dir("opq")
            .file("opq/.wh..wh..opq", "")
            .file("opq/new", "new")
            .end();
        let home = Home::new();
        home.import_layers(&[&bottom, &top], "base").unwrap();
        let root = home.folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut tar = Vec::new();
        export(&home.store, &"base".parse().unwrap(), &mut tar, &|_| ()).unwrap();
        let file = home.folder.path().join("root.tar");
        fs::write(&file, tar).unwrap();
        let (to, from) = (root.to_str().unwrap(), file.to_str().unwrap());
        run("tar", &["--xattrs", "--xattrs-include=*", "-C", to, "-xpf", from]);
        Self { home, root, made: Footprint::default() }
    }

    fn live(&self, base: Option<u32>) -> Live {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Live::new(rustix::fs::openat(CWD, &self.root, flags, Mode::empty()).unwrap(), Ids { base })
    }

    fn image(&self) -> Digest {
        self.home.store.resolve(&"base".parse().unwrap()).unwrap().digest.parse().unwrap()
    }

    fn diff(&self) -> Vec<String> {
        self.diff_by(None)
    }

    fn diff_by(&self, base: Option<u32>) -> Vec<String> {
        let found = differences(&self.home.store, &self.image(), &self.live(base), &self.made).unwrap();
        found.iter().map(|change| format!("{} {}", change.kind.letter(), change.shown())).collect()
    }

    fn commit(&self, name: &str, changes: Changes) -> Result<Imported, ImageError> {
        let options = CommitOptions {
            changes,
            created: "2026-01-02T03:04:05Z".to_owned(),
            created_by: "wharf commit test".to_owned(),
            comment: String::new(),
            ..CommitOptions::default()
        };
        let reference = name.parse().unwrap();
        commit(&self.home.store, &self.image(), &self.live(None), &self.made, &reference, &options)
    }

    /// The same time as before, as `touch -d` sets it.
    fn keep_time(&self, path: &str, change: impl FnOnce(&Path)) {
        let path = self.root.join(path);
        let time = path.symlink_metadata().unwrap().modified().unwrap();
        change(&path);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn nothing_is_different_at_first() {
    let container = Container::new();
    assert_eq!(container.diff(), Vec::<String>::new());
    // No new layer, but perhaps a new config.
    let changes = Changes { command: vec!["sleep".to_owned()], ..Changes::default() };
    let imported = container.commit("same", changes).unwrap();
    assert_eq!((imported.layers, imported.new_layers), (2, 0));
    let image = container.home.store.resolve(&"same".parse().unwrap()).unwrap();
    assert_eq!(image.config.config.cmd, ["sleep"]);
}

#[test]
fn every_kind_of_difference() {
    let container = Container::new();
    let at = |path: &str| container.root.join(path);
    fs::write(at("added"), "a").unwrap();
    fs::create_dir_all(at("new/folder")).unwrap();
    fs::write(at("new/folder/file"), "f").unwrap();
    fs::remove_dir_all(at("var/gone")).unwrap();
    // Of the same size and time: only the content tells.
    container.keep_time("precise", |path| fs::write(path, "54321").unwrap());
    fs::set_permissions(at("etc/passwd"), fs::Permissions::from_mode(0o600)).unwrap();
    chown(at("pipe"), Some(5), None).unwrap();
    container.keep_time("etc/noted", |path| {
        rustix::fs::setxattr(path, "user.note", b"new", rustix::fs::XattrFlags::empty()).unwrap();
    });
    fs::remove_file(at("link")).unwrap();
    symlink("elsewhere", at("link")).unwrap();
    // One becomes the other.
    fs::remove_file(at("opq/new")).unwrap();
    fs::create_dir(at("opq/new")).unwrap();
    fs::write(at("opq/new/in"), "").unwrap();
    fs::remove_dir_all(at("sub/deep")).unwrap();
    fs::write(at("sub/deep"), "a file").unwrap();
    // What has no place in a layer.
    let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    drop(socket);
    assert_eq!(
        container.diff(),
        [
            "A /added",
            "C /etc/noted",
            "C /etc/passwd",
            "C /link",
            "A /new",
            "A /new/folder",
            "A /new/folder/file",
            "C /opq/new",
            "A /opq/new/in",
            "C /pipe",
            "C /precise",
            "C /sub/deep",
            "D /var/gone",
        ]
    );
}

#[test]
fn a_commit_is_what_was_there() {
    let container = Container::new();
    let at = |path: &str| container.root.join(path);
    fs::create_dir_all(at("srv/data")).unwrap();
    fs::write(at("srv/data/one"), "one").unwrap();
    fs::hard_link(at("srv/data/one"), at("srv/two")).unwrap();
    fs::set_permissions(at("srv/data/one"), fs::Permissions::from_mode(0o4750)).unwrap();
    chown(at("srv/data"), Some(33), Some(3_000_000)).unwrap();
    fs::remove_file(at("etc/noted")).unwrap();
    fs::remove_dir_all(at("var/gone")).unwrap();
    fs::remove_dir_all(at("sub/deep")).unwrap();
    fs::write(at("sub/deep"), "a file").unwrap();
    rustix::fs::setxattr(at("precise"), "user.x", b"y\nz", rustix::fs::XattrFlags::empty()).unwrap();
    let long = "n".repeat(200);
    fs::write(at(&long), "").unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(at("linked"), "security.capability", &capability, rustix::fs::XattrFlags::empty())
        .unwrap();
    let changes = Changes {
        entrypoint: vec!["/init".to_owned()],
        environment: vec!["A=1".to_owned()],
        user: "www".to_owned(),
        ..Changes::default()
    };
    let imported = container.commit("new:1", changes).unwrap();
    assert_eq!((imported.layers, imported.new_layers), (3, 1));
    assert_same(&merged(&container.home, "new:1"), &describe(&container.root, false));
    let image = container.home.store.resolve(&"new:1".parse().unwrap()).unwrap();
    assert_eq!(image.config.config.entrypoint, ["/init"]);
    assert_eq!((image.config.config.env[0].as_str(), image.config.config.user.as_str()), ("A=1", "www"));
    assert_eq!(image.config.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    let past = container.home.store.history(&"new:1".parse().unwrap()).unwrap();
    assert_eq!(past.len(), 3);
    assert_eq!(past[0].created_by, "wharf commit test");
    assert_eq!(past[0].diff_id.as_ref(), image.config.rootfs.diff_ids.last());
    // It is an image as every other: it goes out, and comes back as the same.
    let mut archive = Vec::new();
    let reference = "new:1".parse().unwrap();
    wharf::image::save(&container.home.store, &[reference], Default::default(), &mut archive, &|_| ())
        .unwrap();
    let other = Home::new();
    other.import(Source::Stream(Box::new(std::io::Cursor::new(archive))), None).unwrap();
    assert_eq!(other.store.resolve(&"new:1".parse().unwrap()).unwrap().digest, image.digest);
    // Of the new image nothing is different, and another commit is on top of it.
    let found = differences(
        &container.home.store,
        &image.digest.parse().unwrap(),
        &container.live(None),
        &Footprint::default(),
    );
    assert_eq!(found.unwrap(), []);
}

#[test]
fn what_the_start_made_is_left_out() {
    let mut container = Container::new();
    let at = |path: &str| container.root.join(path);
    fs::remove_file(at("etc/hosts")).unwrap();
    symlink(".wharf/hosts", at("etc/hosts")).unwrap();
    symlink(".wharf/hostname", at("etc/hostname")).unwrap();
    for folder in ["etc/.wharf", "proc", "srv/a/b", "srv/c"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    run("mount", &["-t", "tmpfs", "wharf-test", at("proc").to_str().unwrap()]);
    fs::write(at("proc/inside"), "of the mount").unwrap();
    run("mount", &["-t", "tmpfs", "wharf-test", at("var").to_str().unwrap()]);
    let links = [("etc/hosts", ".wharf/hosts"), ("etc/hostname", ".wharf/hostname")];
    let folders = ["etc", "etc/.wharf", "proc", "srv", "srv/a", "srv/a/b", "var"];
    let made = Footprint {
        links: links.map(|(path, to)| (path.to_owned(), to.to_owned())).into(),
        folders: folders.map(str::to_owned).into(),
    };
    let unknowing = container.diff();
    container.made = made;
    let knowing = container.diff();
    let imported = container.commit("new", Changes::default());
    let at = |path: &str| container.root.join(path);
    fs::remove_file(at("etc/hosts")).unwrap();
    fs::write(at("etc/hosts"), "the program's own").unwrap();
    let own = container.diff();
    for mounted in ["proc", "var"] {
        unmount(at(mounted).to_str().unwrap());
    }
    assert_eq!(
        unknowing,
        ["A /etc/.wharf", "A /etc/hostname", "C /etc/hosts", "A /srv", "A /srv/a", "A /srv/a/b", "A /srv/c"]
    );
    // That one is the program's, and so what it lies in is.
    assert_eq!(knowing, ["A /srv", "A /srv/c"]);
    assert_eq!(own, ["C /etc/hosts", "A /srv", "A /srv/c"]);
    let tree = container.home.store.resolve(&imported.unwrap().reference.unwrap()).unwrap().layers[2].clone();
    let paths: Vec<_> =
        describe(&tree, false).into_keys().map(|path| String::from_utf8(path).unwrap()).collect();
    assert_eq!(paths, ["srv", "srv/c"]);
}

#[test]
fn owners_are_those_that_the_container_sees() {
    let container = Container::new();
    let base = 1_000_000;
    run("chown", &["-hR", &format!("{base}:{base}"), container.root.to_str().unwrap()]);
    assert_eq!(container.diff_by(Some(base)), Vec::<String>::new());
    // The kernel shows these so where the image has an owner that the container doesn't; nobody in there can.
    chown(container.root.join("etc/passwd"), Some(65_534), None).unwrap();
    assert_eq!(container.diff_by(Some(base)), ["C /etc/passwd"]);
    chown(container.root.join("etc/passwd"), Some(base), None).unwrap();
    chown(container.root.join("precise"), Some(base + 7), None).unwrap();
    fs::write(container.root.join("added"), "").unwrap();
    chown(container.root.join("added"), Some(base + 8), Some(base + 9)).unwrap();
    assert_eq!(container.diff_by(Some(base)), ["A /added", "C /precise"]);
    let options = CommitOptions { created: "2026-01-02T03:04:05Z".to_owned(), ..CommitOptions::default() };
    let reference = "new".parse().unwrap();
    let live = container.live(Some(base));
    commit(&container.home.store, &container.image(), &live, &container.made, &reference, &options).unwrap();
    let tree = container.home.store.resolve(&reference).unwrap().layers[2].clone();
    let owner = |path: &str| tree.join(path).symlink_metadata().map(|it| (it.uid(), it.gid())).unwrap();
    assert_eq!((owner("added"), owner("precise"), owner("")), ((8, 9), (7, 0), (0, 0)));
}

#[test]
fn a_commit_that_fails_leaves_nothing() {
    let container = Container::new();
    fs::write(container.root.join("added"), "a").unwrap();
    let before = container.home.contents();
    let missing = Digest::of(b"no image");
    let options = CommitOptions::default();
    let reference = "new".parse().unwrap();
    let live = container.live(None);
    let error = commit(&container.home.store, &missing, &live, &container.made, &reference, &options);
    assert!(matches!(error, Err(ImageError::Damaged { .. })));
    // In a layer it would take /added away.
    fs::write(container.root.join(".wh.added"), "a").unwrap();
    let error = container.commit("new", Changes::default()).unwrap_err().to_string();
    assert!(error.contains("`/.wh.added` has a name that means"), "{error}");
    assert_eq!(container.home.contents(), before);
}

#[test]
fn configs_keep_what_nobody_asked_about() {
    let container = Container::new();
    fs::write(container.root.join("added"), "a").unwrap();
    container.commit("new", Changes::default()).unwrap();
    let config = container.home.store.documents_of(&"new".parse().unwrap()).unwrap();
    let config: Value = serde_json::from_slice(&config.config_bytes).unwrap();
    assert_eq!(config["os"], "linux");
    assert_eq!(config["history"].as_array().unwrap().len(), 3);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
}

/// It is the program that has written it, which may have meant harm.
#[test]
fn a_commit_keeps_within_the_limits() {
    let container = Container::new();
    for number in 0..5 {
        fs::write(container.root.join(format!("added-{number}")), "0123456789").unwrap();
    }
    let before = container.home.contents();
    let commit = |unpack: Unpack| {
        let options = CommitOptions { unpack, ..CommitOptions::default() };
        let (live, reference) = (container.live(None), "new".parse().unwrap());
        commit(&container.home.store, &container.image(), &live, &container.made, &reference, &options)
    };
    let refused = |unpack: Unpack| commit(unpack).unwrap_err().to_string();
    let entries = refused(Unpack { entries: 3, ..Unpack::default() });
    assert!(entries.contains("of the container's root is one too many: 3 are allowed"), "{entries}");
    assert!(entries.ends_with("raise `entries` under [unpack] in wharf.toml"), "{entries}");
    let bytes = refused(Unpack { bytes: 49, ..Unpack::default() });
    assert!(bytes.contains("makes it larger than 49;"), "{bytes}");
    assert_eq!(container.home.contents(), before, "nothing is left");
    // What costs a program nothing must not cost others years.
    let sparse = container.root.join("sparse");
    fs::File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
    let sparse_file = refused(Unpack::default());
    assert!(
        sparse_file.contains("the member `sparse` of the container's root makes it larger"),
        "{sparse_file}"
    );
    assert_eq!(container.home.contents(), before);
    fs::remove_file(&sparse).unwrap();
    assert_eq!(commit(Unpack { bytes: 50, ..Unpack::default() }).unwrap().new_layers, 1);
}
