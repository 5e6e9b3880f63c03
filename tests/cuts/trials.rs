//! The power cut while a container's start takes snapshots of its volumes, or restores them: what is good gets its data
//! back once, and keeps what it has written since.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wharf::held::{self, snapshots};
use wharf::host::Paths;

use crate::child::VOLUME;
use crate::disk::{Disk, FileSystem};
use crate::random::Random;
use crate::trial::{OTHER, command, container, mark, start};

/// So many files in each volume, all with the same text.
const FILES: usize = 100;

fn volume(root: &Path, name: &str) -> std::path::PathBuf {
    root.join("var/lib/wharf/volumes").join(name)
}

fn sync(root: &Path) {
    assert!(Command::new("sync").arg("-f").arg(root).status().unwrap().success());
}

/// The program, whichever it is, writes to both volumes, durably.
fn write(root: &Path, content: &str) {
    for name in [VOLUME, OTHER] {
        fs::create_dir_all(volume(root, name)).unwrap();
        for number in 0..FILES {
            fs::write(volume(root, name).join(number.to_string()), format!("{content:>5000}")).unwrap();
        }
    }
    sync(root);
}

/// The one text of all files.
fn read(root: &Path, what: &str) -> String {
    let mut texts = Vec::new();
    for name in [VOLUME, OTHER] {
        for file in fs::read_dir(volume(root, name)).unwrap() {
            texts.push(fs::read_to_string(file.unwrap().path()).unwrap().trim().to_owned());
        }
    }
    assert_eq!(texts.len(), 2 * FILES, "{what}");
    texts.dedup();
    assert!(texts.len() == 1, "{what}: {texts:?}");
    texts.remove(0)
}

/// Starts an image, and cuts the power at some moment of that; gives how long that took, where it came to its end.
fn cut(disk: &mut Disk, image: &str, moment: Duration) -> Option<Duration> {
    let begun = Instant::now();
    let mut child = command(&disk.path(), image, &[]).stdout(Stdio::null()).spawn().unwrap();
    let mut status = None;
    while status.is_none() && begun.elapsed() < moment {
        status = child.try_wait().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the moment of the cut, which is to be any")]
        std::thread::sleep(Duration::from_micros(500));
    }
    let took = status.map(|status| {
        assert!(status.success(), "{image}");
        begun.elapsed()
    });
    let _ = child.kill();
    child.wait().unwrap();
    disk.cut();
    disk.switch_on();
    took
}

/// Cuts the power so many times.
pub fn cuts(file_system: FileSystem, count: u32, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(seed + ((file_system as u64) << 44));
    let mut disk = Disk::new(folder.path(), file_system);
    let root = disk.path();
    let name = container().name;
    let mut usual = [Duration::from_millis(100); 2];
    let mut done = 0;
    for number in 1..=count {
        let restores = random.below(2) == 1;
        let what = format!("{file_system:?}, seed {seed}, cut {number}, restores: {restores}");
        let old = format!("old {number}");
        write(&root, &old);
        mark(&root);
        let image = if restores {
            start(&root, "new").unwrap();
            write(&root, "destroyed");
            "old"
        } else {
            "new"
        };
        let most = usual[usize::from(restores)];
        let moment = most * u32::try_from(random.below(110)).unwrap_or(0) / 100;
        let took = cut(&mut disk, image, moment);
        usual[usize::from(restores)] = took.unwrap_or(most * 5 / 4);
        done += u32::from(took.is_some());
        // It goes on, and is cut off again, as soon as it runs.
        if !restores && random.below(2) == 1 {
            start(&root, "new").unwrap();
            write(&root, "destroyed");
        }
        cut(&mut disk, "old", most * u32::try_from(random.below(50)).unwrap_or(0) / 100);
        start(&root, "old").unwrap();
        assert_eq!(read(&root, &what), old, "{what}");
        let since = format!("since {number}");
        write(&root, &since);
        disk.cut();
        disk.switch_on();
        start(&root, "old").unwrap();
        assert_eq!(read(&root, &what), since, "{what}: written since, and lost");
        assert!(snapshots::find(&Paths::new(&root), &name).unwrap().is_none(), "{what}");
        for name in [VOLUME, OTHER] {
            let left = wharf::volume::snapshot::list(&Paths::new(&root), name).unwrap();
            assert!(left.is_empty(), "{what}: {left:?}");
        }
        held::forget(&Paths::new(&root), &name).unwrap();
    }
    println!("trials on {file_system:?}: {count} cuts (seed {seed}); {done} starts had finished");
}
