//! Snapshots and archives of a volume, and the power cut in the middle of one being taken, restored, removed or imported:
//! the volume is one of both, whole, and what was acknowledged is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wharf::host::Paths;
use wharf::volume;
use wharf::volume::snapshot::{self, SnapshotError};

use crate::child::{Call, LABEL, VOLUME, archive};
use crate::disk::{Disk, FileSystem};
use crate::random::Random;

/// So many files, all with the same text: what is half of one state is seen.
const FILES: usize = 300;

fn place(root: &Path) -> std::path::PathBuf {
    root.join("var/lib/wharf/volumes").join(VOLUME)
}

fn write(root: &Path, content: &str) {
    for number in 0..FILES {
        let folder = place(root).join(format!("sub{}", number % 10));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(number.to_string()), format!("{content:>5000}")).unwrap();
    }
    assert!(Command::new("sync").arg("-f").arg(place(root)).status().unwrap().success());
}

/// The one text of all files.
fn read(tree: &Path, what: &str) -> String {
    let mut texts = BTreeMap::<String, usize>::new();
    for folder in fs::read_dir(tree).unwrap_or_else(|error| panic!("{what}: {}: {error}", tree.display())) {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            *texts.entry(text.trim().to_owned()).or_default() += 1;
        }
    }
    assert!(texts.len() == 1 && texts.values().sum::<usize>() == FILES, "{what}: {texts:?}");
    texts.into_keys().next().unwrap()
}

/// Cuts the power so many times.
pub fn cuts(file_system: FileSystem, count: u32, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(seed + ((file_system as u64) << 40));
    let mut disk = Disk::new(folder.path(), file_system);
    let root = disk.path();
    fs::create_dir_all(place(&root)).unwrap();
    // On btrfs, half of the stories are of a subvolume.
    if matches!(file_system, FileSystem::Btrfs) && random.below(2) == 0 {
        fs::remove_dir(place(&root)).unwrap();
        let made = Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(place(&root)).status();
        assert!(made.unwrap().success());
    }
    let mut usual: BTreeMap<String, Duration> = BTreeMap::new();
    let mut done = 0;
    for cut in 1..=count {
        let call = match file_system {
            FileSystem::Ext4 => Call::Replace,
            _ => [Call::Take, Call::Restore, Call::Drop, Call::Replace][random.index(4)],
        };
        let what = format!("{file_system:?}, seed {seed}, cut {cut}, in {call:?}");
        // From a state that is known and on the disk.
        match snapshot::drop(&Paths::new(&root), VOLUME, LABEL) {
            Ok(()) | Err(SnapshotError::Missing { .. }) => {}
            Err(error) => panic!("{what}: {error}"),
        }
        let (then, now) = (format!("then {cut}"), format!("now {cut}"));
        write(&root, &then);
        if call == Call::Replace {
            let mut file = fs::File::create(archive(&root)).unwrap();
            volume::export(&Paths::new(&root), VOLUME, false, &mut file, &|_| ()).unwrap();
        } else if call != Call::Take {
            Call::Take.call(&root).unwrap();
        }
        write(&root, &now);
        disk.mark();
        let begun = Instant::now();
        let most = usual.get(&format!("{call:?}")).copied().unwrap_or(Duration::from_millis(100));
        let moment = most * u32::try_from(random.below(110)).unwrap_or(0) / 100;
        let mut child = call.command(&root, &[]).stdout(Stdio::null()).spawn().unwrap();
        let mut status = None;
        while status.is_none() && begun.elapsed() < moment {
            status = child.try_wait().unwrap();
            #[expect(clippy::disallowed_methods, reason = "the moment of the cut, which is to be any")]
            std::thread::sleep(Duration::from_micros(500));
        }
        if let Some(status) = status {
            assert!(status.success(), "{what}");
            usual.insert(format!("{call:?}"), begun.elapsed());
        } else {
            usual.insert(format!("{call:?}"), most * 5 / 4);
        }
        let _ = child.kill();
        let acknowledged = child.wait().unwrap().success();
        disk.cut();
        disk.switch_on();
        if !disk.is_marked() {
            continue;
        }

        let content = read(&place(&root), &what);
        let snapshots = snapshot::list(&Paths::new(&root), VOLUME).unwrap();
        let is_done = match call {
            Call::Take => !snapshots.is_empty(),
            Call::Restore | Call::Replace => content == then,
            _ => snapshots.is_empty(),
        };
        assert!(is_done || !acknowledged, "{what}: it was acknowledged, and isn't there");
        let replaces = matches!(call, Call::Restore | Call::Replace);
        assert!(content == now || (replaces && content == then), "{what}: {content}");
        assert!(call != Call::Restore || !snapshots.is_empty(), "{what}: the snapshot is gone");
        for snapshot in snapshots {
            let expected = if call == Call::Take { &now } else { &then };
            assert_eq!(&read(&snapshot.tree, &what), expected, "{what}: the snapshot");
        }
        done += u32::from(acknowledged);
    }
    println!("volumes on {file_system:?}: {count} cuts (seed {seed}); {done} calls had finished");
}
