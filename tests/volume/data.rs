//! Volumes out as tars, and in again; killed at each call that changes anything.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use wharf::archive::{Unpacked, decompressed};
use wharf::volume::snapshot;
use wharf::volume::{self, DataError, How};

use crate::child::{Call, VOLUME, archive};
use crate::kills::{calls, fill};
use crate::place::{Ground, Place};
use crate::support::{assert_same, run};
use crate::whole::described;

type Tree = std::collections::BTreeMap<Vec<u8>, String>;

fn export(place: &Place, volume: &str, to: &Path) -> How {
    let mut file = File::create(to).unwrap();
    let exported = volume::export(&place.paths(), volume, false, &mut file, &|_| ()).unwrap();
    assert_eq!(exported.packed.changed, Vec::<String>::new());
    exported.how
}

fn import(place: &Place, volume: &str, replace: bool, from: &Path) -> Result<Unpacked, DataError> {
    let input = decompressed(File::open(from).unwrap()).unwrap();
    volume::import(&place.paths(), volume, replace, input, &|_| ())
}

/// What an archive has of a volume: no devices and sockets, and none of the attributes that are the host's.
fn archived(mut tree: Tree) -> Tree {
    for path in [&b"null"[..], b"socket"] {
        tree.remove(path);
    }
    tree
}

pub fn comes_back(ground: Ground) {
    let place = Place::new(ground);
    let volume = place.volume();
    crate::whole::fill(&volume, ground);
    // Attributes of the host's own are no part of it.
    rustix::fs::removexattr(volume.join("large"), "trusted.hidden").unwrap();
    rustix::fs::lremovexattr(volume.join("link"), "trusted.link").unwrap();
    let before = described(&volume);
    let tar = place.root().join("out.tar");
    let how = export(&place, VOLUME, &tar);
    let has_snapshots = Ground::GOOD.contains(&ground);
    assert_eq!(how, if has_snapshots { How::Snapshot } else { How::Locked }, "on {ground:?}");
    assert_eq!(snapshot::list(&place.paths(), VOLUME).unwrap(), []);
    assert_same(&described(&volume), &before);
    assert!(tar.metadata().unwrap().len() < 8 << 20, "holes take no room");
    assert_eq!(place.leftovers(), Vec::<String>::new());

    import(&place, "other", false, &tar).unwrap();
    let other = place.volumes().join("other");
    assert_same(&described(&other), &archived(before.clone()));
    assert!(matches!(import(&place, "other", false, &tar), Err(DataError::Exists(_))));
    // In the place of what it became, compressed, as another program would have made it.
    fs::write(other.join("large"), "changed").unwrap();
    let own = place.root().join("own.tar.gz");
    let script =
        "tar --xattrs --xattrs-include='*' --acls --sparse --format=posix -C \"$1\" -cf - . | gzip >\"$2\"";
    run("bash", &["-ec", script, "bash", volume.to_str().unwrap(), own.to_str().unwrap()]);
    import(&place, "other", true, &own).unwrap();
    let mut expected = archived(before.clone());
    let mut found = described(&other);
    // GNU tar keeps no attributes of pipes and the like, and no times of access.
    for tree in [&mut expected, &mut found] {
        tree.remove(b"pipe".as_slice());
    }
    assert_same(&found, &expected);
    // And another program reads what is written here.
    let there = place.root().join("there");
    fs::create_dir(&there).unwrap();
    let script = "tar --xattrs --xattrs-include='*' --numeric-owner -p -C \"$1\" -xf \"$2\"";
    run("bash", &["-ec", script, "bash", there.to_str().unwrap(), tar.to_str().unwrap()]);
    let (mut found, mut expected) = (described(&there), archived(before));
    for tree in [&mut expected, &mut found] {
        tree.remove(b"pipe".as_slice());
    }
    assert_same(&found, &expected);
    volume::remove(&place.paths(), "other").unwrap();
    without_root(&place);
    assert_eq!(volume::names(&place.paths()).unwrap(), [VOLUME]);
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

/// An archive that says nothing of the folder itself.
fn without_root(place: &Place) {
    let volume = place.volumes().join("owned");
    fs::create_dir(&volume).unwrap();
    std::os::unix::fs::chown(&volume, Some(70), Some(71)).unwrap();
    fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o2750)).unwrap();
    let (from, tar) = (place.root().join("from"), place.root().join("some.tar"));
    fs::create_dir(&from).unwrap();
    fs::write(from.join("file"), "x").unwrap();
    run("tar", &["-C", from.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "file"]);
    import(place, "owned", true, &tar).unwrap();
    use std::os::unix::fs::MetadataExt;
    let look = volume.metadata().unwrap();
    assert_eq!((look.uid(), look.gid(), look.mode() & 0o7777), (70, 71, 0o2750));
    // Asked at the last moment.
    let why = || Some("web is declared with it".to_owned());
    let error = volume::remove_unless(&place.paths(), "owned", why).unwrap_err();
    assert!(matches!(&error, DataError::Needed(why) if why.starts_with("web is")), "{error}");
    assert!(volume.join("file").exists());
    volume::remove_unless(&place.paths(), "owned", || None).unwrap();
}

pub fn refused(ground: Ground) {
    let place = Place::new(ground);
    let (paths, tar) = (place.paths(), place.root().join("out.tar"));
    fill(&place.volume(), "old");
    let before = described(&place.volume());
    export(&place, VOLUME, &tar);
    // Cut short at any place, and what is no tar at all: nothing is there of it, and the volume is what it was.
    let whole = fs::read(&tar).unwrap();
    let half = place.root().join("half.tar");
    for length in (0..whole.len() - 1024).step_by(512).chain([whole.len() / 2 + 7]) {
        fs::write(&half, &whole[..length]).unwrap();
        assert!(import(&place, VOLUME, true, &half).is_err(), "{length} bytes");
        assert!(import(&place, "other", false, &half).is_err(), "{length} bytes");
        assert_eq!(volume::names(&paths).unwrap(), [VOLUME]);
    }
    fs::write(&half, "this is no archive at all").unwrap();
    assert!(import(&place, VOLUME, true, &half).is_err());
    assert_same(&described(&place.volume()), &before);
    assert_eq!(place.leftovers(), Vec::<String>::new());

    // In use: only with a word for it, and never replaced or removed.
    let elsewhere = place.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let elsewhere = elsewhere.to_str().unwrap();
    run("mount", &["--bind", place.volume().to_str().unwrap(), elsewhere]);
    let mut out = Vec::new();
    let error = volume::export(&paths, VOLUME, false, &mut out, &|_| ()).unwrap_err();
    assert!(matches!(&error, DataError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("--live") && out.is_empty(), "{error}");
    assert!(import(&place, VOLUME, true, &tar).unwrap_err().to_string().contains("in use by process"));
    assert!(volume::remove(&paths, VOLUME).unwrap_err().to_string().contains("in use by process"));
    assert_eq!(volume::export(&paths, VOLUME, true, &mut out, &|_| ()).unwrap().how, How::Live);
    run("umount", &[elsewhere]);
    assert_eq!(out, whole, "the same volume makes the same bytes");
    assert_same(&described(&place.volume()), &before);

    if Ground::GOOD.contains(&ground) {
        snapshot::take(&paths, VOLUME, "kept").unwrap();
        let error = volume::remove(&paths, VOLUME).unwrap_err().to_string();
        assert!(error.contains("wharf volume drop-snapshot data kept"), "{error}");
        // A snapshot that an export has left is gone with the next export.
        snapshot::take(&paths, VOLUME, "export..1-2").unwrap();
        export(&place, VOLUME, &tar);
        let labels: Vec<_> =
            snapshot::list(&paths, VOLUME).unwrap().into_iter().map(|one| one.label).collect();
        assert_eq!(labels, ["kept"]);
    }
    assert!(volume::export(&paths, "none", false, &mut out, &|_| ()).is_err());
    assert!(volume::remove(&paths, "none").is_err());
    // Where volumes lie on another file system, nothing can be exchanged.
    let other = place.volumes().join("mounted");
    fs::create_dir(&other).unwrap();
    run("mount", &["-t", "tmpfs", "none", other.to_str().unwrap()]);
    fs::write(other.join("file"), "x").unwrap();
    let error = import(&place, "mounted", true, &tar).unwrap_err().to_string();
    assert!(error.contains("can't be replaced in one step") && error.contains("a mount point"), "{error}");
    assert_eq!(export(&place, "mounted", &half), How::Locked);
    run("umount", &[other.to_str().unwrap()]);
}

/// Two at once, and one that was killed before.
pub fn one_at_a_time(ground: Ground) {
    let place = Place::new(ground);
    let tar = place.root().join("out.tar");
    fill(&place.volume(), "old");
    export(&place, VOLUME, &tar);
    fs::create_dir_all(place.volumes().join(".importing-other/left")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        let paths = place.paths();
        let first = scope.spawn(move || volume::import(&paths, "other", false, reader, &|_| ()));
        // It has the folder for itself when something of the archive is in it, and waits for the rest.
        let (whole, mut writer) = (fs::read(&tar).unwrap(), writer);
        writer.write_all(&whole[..whole.len() / 2]).unwrap();
        while !place.volumes().join(".importing-other/one").exists() {
            std::thread::yield_now();
        }
        assert!(matches!(import(&place, "other", false, &tar), Err(DataError::Busy(_))));
        assert_eq!(volume::clear(&place.paths()).unwrap(), Vec::<String>::new());
        assert!(place.volumes().join(".importing-other/one").exists(), "that isn't cleared");
        writer.write_all(&whole[whole.len() / 2..]).unwrap();
        std::mem::drop(writer);
        first.join().unwrap().unwrap();
    });
    assert_same(&described(&place.volumes().join("other")), &described(&place.volume()));
    fs::create_dir_all(place.volumes().join(".importing-new/left")).unwrap();
    fs::create_dir_all(place.volumes().join(".incoming-made/left")).unwrap();
    fs::create_dir_all(place.volumes().join(".removing-old/left")).unwrap();
    fs::create_dir_all(place.volumes().join(".restoring-put/left")).unwrap();
    fs::create_dir_all(place.volumes().join(".snapshots/data/.taking-x/tree/left")).unwrap();
    fs::create_dir_all(place.volumes().join(".snapshots/data/export..1-2/tree/left")).unwrap();
    // One that is read from stays, whoever wants it gone.
    let export = place.volumes().join(".snapshots/data/export..1-3");
    fs::create_dir_all(export.join("tree/left")).unwrap();
    let reading = File::open(&export).unwrap();
    rustix::fs::flock(&reading, rustix::fs::FlockOperation::LockShared).unwrap();
    assert_eq!(volume::clear(&place.paths()).unwrap(), ["new", "made", "old", "put", "data"]);
    let error = snapshot::drop(&place.paths(), VOLUME, "export..1-3").unwrap_err().to_string();
    assert!(error.contains("is just being exported"), "{error}");
    let error = volume::remove(&place.paths(), VOLUME).unwrap_err().to_string();
    assert!(error.contains("is just being exported"), "{error}");
    std::mem::drop(reading);
    assert_eq!(volume::clear(&place.paths()).unwrap(), ["data"]);
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

fn prepare(call: Call, place: &Place) -> (Tree, Tree) {
    place.clear();
    let source = place.volumes().join("source");
    fs::create_dir(&source).unwrap();
    fill(&source, "new");
    export(place, "source", &archive(&place.root()));
    let after = described(&source);
    volume::remove(&place.paths(), "source").unwrap();
    if call == Call::Import {
        return (Tree::new(), after);
    }
    place.empty();
    fill(&place.volume(), "old");
    (described(&place.volume()), if call == Call::Remove { Tree::new() } else { after })
}

fn now(place: &Place) -> Tree {
    if place.volume().exists() { described(&place.volume()) } else { Tree::new() }
}

pub fn killed(ground: Ground) {
    let place = Place::new(ground);
    for call in [Call::Replace, Call::Import, Call::Remove] {
        let (_, after) = prepare(call, &place);
        let calls = calls(call, &place);
        assert_same(&now(&place), &after);
        let mut done_before_the_end = 0;
        for (name, count) in &calls {
            let (before, after) = prepare(call, &place);
            let what = format!("{call:?} on {ground:?}, killed at {name} {count}");
            let (trace, kill) =
                (format!("trace={name}"), format!("inject={name}:signal=SIGKILL:when={count}"));
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &kill];
            let output = call.command(&place.root(), &strace).output().unwrap();
            assert_eq!(output.status.code(), None, "{what}: {}", String::from_utf8_lossy(&output.stdout));
            let there = now(&place);
            assert!(there == before || there == after, "{what}: it is neither of both: {there:?}");
            let had_effect = there == after;
            done_before_the_end += u32::from(had_effect);
            // Once more, now to its end.
            match call.call(&place.root()) {
                Ok(()) => {}
                Err(DataError::Exists(_)) if call == Call::Import && had_effect => {}
                Err(DataError::Snapshot(_)) if call == Call::Remove && had_effect => {}
                Err(error) => panic!("{what}: the next one says {error}"),
            }
            assert_same(&now(&place), &after);
            volume::clear(&place.paths()).unwrap();
            assert_eq!(place.leftovers(), Vec::<String>::new(), "{what}");
        }
        assert!(
            0 < done_before_the_end && (done_before_the_end as usize) < calls.len(),
            "{done_before_the_end}"
        );
        println!(
            "{call:?} on {ground:?}: killed at each of {} calls, after {done_before_the_end} of which it was done",
            calls.len()
        );
    }
    let _ = Command::new("sync").status();
}
