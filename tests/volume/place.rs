//! File systems of all kinds, each in a file of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wharf::host::Paths;

use crate::child::VOLUME;
use crate::support::run;

/// What the volumes are on, and what the volume is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    Ext4,
    Xfs,
    /// Without reflinks.
    PlainXfs,
    /// A folder.
    Btrfs,
    /// A subvolume.
    Subvolume,
    /// A subvolume with another one in it.
    Nested,
}

impl Ground {
    /// Those on which snapshots can be taken.
    pub const GOOD: [Self; 4] = [Self::Xfs, Self::Btrfs, Self::Subvolume, Self::Nested];

    fn mkfs(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["mkfs.ext4", "-q"],
            Self::Xfs => &["mkfs.xfs", "-q"],
            Self::PlainXfs => &["mkfs.xfs", "-q", "-m", "reflink=0"],
            _ => &["mkfs.btrfs", "-q"],
        }
    }

    fn name(self) -> &'static str {
        self.mkfs()[0].trim_start_matches("mkfs.")
    }

    /// Why it can't be had here.
    pub fn missing(self) -> Option<String> {
        let name = self.name();
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.lines().any(|line| line.split_whitespace().last() == Some(name)) {
            return Some(format!("the kernel has no {name}"));
        }
        let tools: &[&str] = if name == "btrfs" { &["mkfs.btrfs", "btrfs"] } else { &self.mkfs()[..1] };
        let is_there = |tool: &&&str| {
            let status = Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok()
        };
        tools.iter().find(|tool| !is_there(tool)).map(|tool| format!("there is no {tool}"))
    }
}

/// A root on such a file system. The mount is in this process's namespace, and goes with it at the latest.
pub struct Place {
    folder: tempfile::TempDir,
    ground: Ground,
}

impl Place {
    pub fn new(ground: Ground) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        fs::File::create(&disk).and_then(|file| file.set_len(1 << 30)).unwrap();
        let (disk, mounted) = (disk.to_str().unwrap(), folder.path().join("mounted"));
        fs::create_dir(&mounted).unwrap();
        run(ground.mkfs()[0], &[&ground.mkfs()[1..], &[disk]].concat());
        run("mount", &["-t", ground.name(), "-o", "loop", disk, mounted.to_str().unwrap()]);
        let place = Self { folder, ground };
        fs::create_dir_all(place.volumes()).unwrap();
        place.empty();
        place
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    pub fn paths(&self) -> Paths {
        Paths::new(self.root())
    }

    pub fn volumes(&self) -> PathBuf {
        self.root().join("var/lib/wharf/volumes")
    }

    pub fn volume(&self) -> PathBuf {
        self.volumes().join(VOLUME)
    }

    /// Makes the volume, with nothing in it.
    pub fn empty(&self) {
        let volume = self.volume();
        let path = volume.to_str().unwrap();
        match self.ground {
            Ground::Subvolume | Ground::Nested => {
                run("btrfs", &["-q", "subvolume", "create", path]);
            }
            _ => fs::create_dir(&volume).unwrap(),
        }
        if self.ground == Ground::Nested {
            run("btrfs", &["-q", "subvolume", "create", &format!("{path}/nested")]);
        }
    }

    /// Removes all volumes and snapshots.
    pub fn clear(&self) {
        let volumes = self.volumes();
        if self.ground.name() == "btrfs" {
            let list = run("btrfs", &["subvolume", "list", "-o", self.root().to_str().unwrap()]);
            // What lies deeper comes first.
            let mut paths: Vec<&str> = list.lines().filter_map(|line| line.rsplit(' ').next()).collect();
            paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
            for path in paths {
                let path = self.root().join(path);
                let _ = Command::new("btrfs").args(["-q", "subvolume", "delete"]).arg(path).output();
            }
        }
        fs::remove_dir_all(&volumes).unwrap();
        fs::create_dir(&volumes).unwrap();
    }

    /// Names among the volumes and the snapshots that have no business there.
    pub fn leftovers(&self) -> Vec<String> {
        let names = |path: &Path| -> Vec<String> {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let volumes = names(&self.volumes());
        let own = [".lock", ".locks", ".snapshots"];
        let volumes =
            volumes.into_iter().filter(|name| name.starts_with('.') && !own.contains(&name.as_str()));
        let snapshots = names(&self.volumes().join(".snapshots").join(VOLUME));
        volumes.chain(snapshots.into_iter().filter(|name| name.starts_with('.'))).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.root()).status();
    }
}
