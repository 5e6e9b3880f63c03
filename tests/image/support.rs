//! Tars made by hand, stores in temporary folders, and trees as text.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tar::{EntryType, Header};
use wharf::image::{ImageError, Imported, Options, Source, Store, import};

/// A tar, member by member, also such as no tar program writes.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn raw(mut self, path: &[u8], kind: EntryType, target: &[u8], data: &[u8], size: u64) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &str) -> Self {
        self.raw(path.as_bytes(), EntryType::Regular, b"", data.as_bytes(), data.len() as u64)
    }

    pub fn dir(self, path: &str) -> Self {
        self.raw(path.as_bytes(), EntryType::Directory, b"", b"", 0)
    }

    pub fn dir_as(mut self, path: &str, mode: u32, uid: u64) -> Self {
        let start = self.0.len();
        self = self.dir(path);
        let mut header = Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&self.0[start..start + 512]);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_cksum();
        self.0[start..start + 512].copy_from_slice(header.as_bytes());
        self
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        self.raw(path.as_bytes(), EntryType::Symlink, target.as_bytes(), b"", 0)
    }

    pub fn hard(self, path: &str, target: &str) -> Self {
        self.raw(path.as_bytes(), EntryType::Link, target.as_bytes(), b"", 0)
    }

    pub fn device(self, path: &str) -> Self {
        self.raw(path.as_bytes(), EntryType::Char, b"", b"", 0)
    }

    /// A whiteout as overlayfs itself has it.
    pub fn whiteout_device(mut self, path: &str) -> Self {
        let start = self.0.len();
        self = self.device(path);
        let mut header = Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&self.0[start..start + 512]);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_cksum();
        self.0[start..start + 512].copy_from_slice(header.as_bytes());
        self
    }

    /// A record about the next member.
    pub fn pax(self, key: &str, value: &[u8]) -> Self {
        self.pax_all(&[(key, value.to_vec())])
    }

    /// Several records about the next member.
    pub fn pax_all(self, all: &[(&str, Vec<u8>)]) -> Self {
        let mut records = Vec::new();
        for (key, value) in all {
            let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let mut length = body.len();
            while length != body.len() + length.to_string().len() {
                length = body.len() + length.to_string().len();
            }
            records.extend_from_slice(length.to_string().as_bytes());
            records.extend_from_slice(&body);
        }
        let size = records.len() as u64;
        self.raw(b"pax", EntryType::XHeader, b"", &records, size)
    }

    /// Without the end of an archive.
    pub fn open_end(self) -> Vec<u8> {
        self.0
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A store in a folder of its own.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub store: Store,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("var/lib/wharf"));
        Self { folder, store }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("var/lib/wharf").join(below)
    }

    pub fn import_bytes(&self, bytes: Vec<u8>, name: &str) -> Result<Vec<Imported>, ImageError> {
        self.import(Source::Stream(Box::new(Cursor::new(bytes))), Some(name))
    }

    pub fn import_path(&self, path: &Path, name: Option<&str>) -> Result<Vec<Imported>, ImageError> {
        self.import(Source::Path(path.to_owned()), name)
    }

    pub fn import(&self, source: Source, name: Option<&str>) -> Result<Vec<Imported>, ImageError> {
        let name = name.map(|name| name.parse().unwrap());
        let options = Options { name, ..Options::default() };
        import(&self.store, source, &options, &|_| ())
    }

    /// An image of these layers, the lowest first, in an archive as `docker save` wrote them.
    pub fn import_layers(&self, layers: &[&[u8]], name: &str) -> Result<Vec<Imported>, ImageError> {
        let folder = tempfile::tempdir().unwrap();
        let mut diff_ids = Vec::new();
        let mut names = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            names.push(format!("{number}.tar"));
            diff_ids.push(wharf::image::Digest::of(layer).to_string());
            fs::write(folder.path().join(&names[number]), layer).unwrap();
        }
        let config = serde_json::json!({
            "architecture": wharf::image::machine_architecture(), "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let list = serde_json::json!([{ "Config": "config.json", "RepoTags": [], "Layers": names }]);
        fs::write(folder.path().join("manifest.json"), list.to_string()).unwrap();
        self.import_path(folder.path(), Some(name))
    }

    /// The only layer of an image.
    pub fn tree(&self, name: &str) -> PathBuf {
        self.store.resolve(&name.parse().unwrap()).unwrap().layers[0].clone()
    }

    /// Everything in the store but its own folders, which stay.
    pub fn contents(&self) -> Vec<String> {
        let mut names = Vec::new();
        for below in ["blobs/sha256", "layers", "refs", "incoming"] {
            for entry in fs::read_dir(self.path(below)).into_iter().flatten().flatten() {
                names.push(format!("{below}/{}", entry.file_name().to_string_lossy()));
            }
        }
        names.sort();
        names
    }
}

/// A tool that the test is about.
pub fn need(tool: &str) {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
    assert!(found.status.success(), "this test needs `{tool}`, which is not installed here");
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    need(program);
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Takes a mount away, also where another test is just starting a program, which has all open until it is that program.
pub fn unmount(at: &str) {
    run("umount", &["--lazy", at]);
}

/// A tree as text: every path with all that can be seen of it. Device nodes are left out, and the numbers of
/// inodes stand for the first path that has them.
pub fn describe(root: &Path, directory_times: bool) -> BTreeMap<Vec<u8>, String> {
    let mut seen = BTreeMap::new();
    let mut described = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                todo.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    for path in paths {
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.mode() & 0o170_000;
        if matches!(kind, 0o020_000 | 0o060_000) && metadata.rdev() != 0 {
            continue;
        }
        let mut text = format!("{:o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
        // A whiteout is nothing, and has no time.
        if kind != 0o020_000 && (kind != 0o040_000 || directory_times) {
            text += &format!(" {}.{}", metadata.mtime(), metadata.mtime_nsec());
        }
        match kind {
            0o120_000 => text += &format!(" -> {:?}", fs::read_link(&path).unwrap()),
            0o100_000 => {
                text += &format!(" {}", wharf::image::Digest::of(&fs::read(&path).unwrap()));
                let first = seen.entry(metadata.ino()).or_insert_with(|| name.clone());
                text += &format!(" = {}", String::from_utf8_lossy(first));
            }
            _ => {}
        }
        let mut list = vec![0; 65536];
        let length = rustix::fs::llistxattr(&path, &mut list[..]).unwrap_or(0);
        let mut attributes: Vec<&[u8]> =
            list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        // In whatever order the file system has them.
        attributes.sort();
        for attribute in attributes {
            let mut value = vec![0; 65536];
            let length = rustix::fs::lgetxattr(&path, attribute, &mut value[..]).unwrap();
            text += &format!(" {}={}", attribute.escape_ascii(), value[..length].escape_ascii());
        }
        described.insert(name, text);
    }
    described
}

/// Says what differs, not everything that is.
pub fn assert_same(left: &BTreeMap<Vec<u8>, String>, right: &BTreeMap<Vec<u8>, String>) {
    let mut different = Vec::new();
    for path in left.keys().chain(right.keys()) {
        if left.get(path) != right.get(path) {
            let path_text = String::from_utf8_lossy(path);
            different.push(format!("{path_text}: {:?} / {:?}", left.get(path), right.get(path)));
        }
    }
    assert!(
        different.is_empty(),
        "{} differences:\n{}",
        different.len(),
        different[..different.len().min(20)].join("\n")
    );
}

/// A Debian root, made once and kept with what cargo builds.
pub fn debian() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-root");
        let (tar, half) = (folder.join("trixie.tar"), folder.join("half.tar"));
        if !tar.exists() {
            fs::create_dir_all(&folder).unwrap();
            run("mmdebstrap", &["--quiet", "--variant=minbase", "trixie", half.to_str().unwrap()]);
            fs::rename(half, tar).unwrap();
        }
        folder
    })
}

/// Runs a program beside an overlay mount of a layer's tree. The mount is in a namespace of its own: who else makes
/// one at this moment would keep a copy of it for as long as it likes.
pub fn beside_mount(home: &Home, tree: &Path, program: &str, arguments: &[&str]) -> std::process::Output {
    let (mounted, empty) = (home.folder.path().join("mounted"), home.folder.path().join("empty"));
    fs::create_dir_all(&mounted).unwrap();
    fs::create_dir_all(&empty).unwrap();
    let lower = format!("ro,lowerdir={}:{}", tree.display(), empty.display());
    let script = "mount -t overlay -o \"$1\" wharf-test \"$2\" && shift 2 && exec \"$@\"";
    Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", &lower])
        .arg(mounted)
        .arg(program)
        .args(arguments)
        .env("WHARF_ROOT", home.folder.path())
        .output()
        .unwrap()
}
