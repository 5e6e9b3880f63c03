//! A disk whose power can be cut: a file behind nbdkit's write-back cache, which forgets what nobody flushed, shown
//! as a file by nbdfuse, with a file system on it.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of the disk; the file is sparse.
const SIZE: u64 = 2 << 30;

/// How long any of the tools may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the disk is formatted with.
#[derive(Clone, Copy, Debug)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Why it can't be had here.
    pub fn missing(self) -> Option<String> {
        let name = self.name();
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.lines().any(|line| line.split_whitespace().last() == Some(name)) {
            return Some(format!("the kernel has no {name}"));
        }
        let mkfs = format!("mkfs.{name}");
        let here = Command::new(&mkfs).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        here.is_err().then(|| format!("there is no {mkfs}"))
    }
}

/// See the module. Dropping it takes everything away.
pub struct Disk {
    folder: PathBuf,
    file_system: FileSystem,
    on: Option<Power>,
    /// How many marks there have been, and how many of them were gone after a cut.
    marks: (u32, u32),
}

struct Power {
    server: Child,
    view: Child,
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        #[expect(clippy::disallowed_methods, reason = "other programs are waited for, which tell nobody")]
        std::thread::sleep(Duration::from_millis(3));
    }
}

impl Disk {
    /// A new one, formatted and mounted.
    pub fn new(folder: &Path, file_system: FileSystem) -> Self {
        let disk = folder.join("disk");
        File::create(&disk).and_then(|file| file.set_len(SIZE)).expect("a file for the disk");
        let mkfs = format!("mkfs.{}", file_system.name());
        run(&mkfs, &["-q", disk.to_str().expect("a plain path")]);
        for below in ["view", "mounted"] {
            let path = folder.join(below);
            if below == "view" {
                File::create(&path).map(drop).expect("a file to mount on");
            } else {
                std::fs::create_dir(&path).expect("a folder to mount on");
            }
        }
        let mut disk = Self { folder: folder.to_owned(), file_system, on: None, marks: (0, 0) };
        disk.switch_on();
        disk
    }

    /// Where the file system is.
    pub fn path(&self) -> PathBuf {
        self.folder.join("mounted")
    }

    fn mark_of(&self, number: u32) -> PathBuf {
        self.path().join(format!("mark-{number}"))
    }

    /// Makes a file with a name of its own, as durable as fsync(2) makes it and its folder.
    pub fn mark(&mut self) {
        let (number, _) = self.marks;
        let _ = std::fs::remove_file(self.mark_of(number));
        let file = File::create(self.mark_of(number + 1)).expect("a file for the mark");
        let folder = File::open(self.path()).expect("the folder of the mark");
        file.sync_all().and_then(|()| folder.sync_all()).expect("a mark on the disk");
        self.marks.0 = number + 1;
    }

    /// Whether the last mark is still there. If it isn't, the kernel or the tools that stand for the disk have lost what
    /// they had acknowledged to this test itself, and nothing that is found missing with it is a fault of Wharf's. Where
    /// that happens more than once, a disk like this shows nothing.
    pub fn is_marked(&mut self) -> bool {
        let (number, lost) = self.marks;
        let is_there = self.mark_of(number).exists();
        if !is_there {
            self.marks.1 = lost + 1;
            println!(
                "{:?}: mark {number}, which was synced before the call, is gone after the cut",
                self.file_system
            );
            assert!(lost == 0, "{:?}: the disk has forgotten twice what was flushed", self.file_system);
        }
        is_there
    }

    fn below(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("a plain path").to_owned()
    }

    /// What was flushed before the cut is there again.
    pub fn switch_on(&mut self) {
        let socket = self.folder.join("socket");
        let _ = std::fs::remove_file(&socket);
        let server = Command::new("nbdkit")
            .args(["--foreground", "--exit-with-parent", "--unix", &self.below("socket")])
            .args(["--filter=cache", "file", &format!("file={}", self.below("disk")), "cache=writeback"])
            .env("TMPDIR", &self.folder)
            .stderr(Stdio::null())
            .spawn()
            .expect("nbdkit");
        // The socket is there a moment before anybody listens.
        until("nbdkit serves", || UnixStream::connect(&socket).is_ok());
        let view = Command::new("nbdfuse")
            .args([&self.below("view"), "--unix", &self.below("socket")])
            .stderr(Stdio::null())
            .spawn()
            .expect("nbdfuse");
        let seen = self.folder.join("view");
        until("nbdfuse shows the disk", || seen.metadata().is_ok_and(|metadata| metadata.len() == SIZE));
        let options = match self.file_system {
            FileSystem::Ext4 => "loop",
            // The same one may still be on its way out.
            FileSystem::Xfs => "loop,nouuid",
            FileSystem::Btrfs => {
                let _ = Command::new("btrfs").args(["device", "scan", "--forget"]).output();
                "loop"
            }
        };
        run(
            "mount",
            &["-t", self.file_system.name(), "-o", options, &self.below("view"), &self.below("mounted")],
        );
        self.on = Some(Power { server, view });
    }

    /// Cuts it: what nobody flushed is gone. Processes that have a file open there must be on their way out.
    pub fn cut(&mut self) {
        let Some(Power { mut server, mut view }) = self.on.take() else { return };
        server.kill().expect("nbdkit can be killed");
        server.wait().expect("nbdkit ends");
        let mounted = self.below("mounted");
        until("nobody uses the disk", || {
            Command::new("umount").args(["-q", &mounted]).status().is_ok_and(|it| it.success())
        });
        run("umount", &["--lazy", &self.below("view")]);
        view.wait().expect("nbdfuse ends");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(Power { mut server, mut view }) = self.on.take() {
            for below in ["mounted", "view"] {
                let _ = Command::new("umount").args(["--lazy", &self.below(below)]).output();
            }
            let _ = server.kill().and_then(|()| server.wait());
            let _ = view.kill().and_then(|()| view.wait());
        }
    }
}
