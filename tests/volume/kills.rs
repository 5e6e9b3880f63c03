//! Killed at each call that changes anything: the volume is one of both, whole, and the next call clears up.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use wharf::volume::DataError;
use wharf::volume::snapshot::{self, SnapshotError};

use crate::child::{Call, LABEL, VOLUME};
use crate::place::{Ground, Place};
use crate::whole::described;

/// Calls that change something, or make it last. A file that is made is followed by one of them.
pub const CALLS: [&str; 21] = [
    "?mkdir",
    "mkdirat",
    "?rename",
    "?renameat",
    "renameat2",
    "?unlink",
    "unlinkat",
    "?rmdir",
    "fsync",
    "syncfs",
    "ioctl",
    "linkat",
    "symlinkat",
    "mknodat",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "utimensat",
    "fsetxattr",
    "flock",
];

/// Every such call of one run, in order: its name, and the how manieth of that name it is.
pub fn calls(call: Call, place: &Place) -> Vec<(String, usize)> {
    let log = place.root().join("log");
    let trace = format!("trace={}", CALLS.join(","));
    let before = ["strace", "-qq", "-o", log.to_str().unwrap(), "-e", &trace, "-e", "signal=none"];
    let output = call.command(&place.root(), &before).output().unwrap();
    assert!(output.status.success(), "{call:?}: {}", String::from_utf8_lossy(&output.stdout));
    let mut counts = BTreeMap::<String, usize>::new();
    let text = fs::read_to_string(log).unwrap();
    let names = text.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name.to_owned());
    names
        .map(|name| {
            let count = counts.entry(name.clone()).or_default();
            *count += 1;
            (name, *count)
        })
        .collect()
}

pub fn fill(volume: &Path, content: &str) {
    for file in ["one", "two"] {
        fs::write(volume.join(file), content).unwrap();
    }
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::write(volume.join("sub/three"), content).unwrap();
    let _ = fs::hard_link(volume.join("one"), volume.join("sub/again"));
}

fn is_taken(place: &Place) -> bool {
    !snapshot::list(&place.paths(), VOLUME).unwrap().is_empty()
}

/// What the volume is before the call, and what it was when the snapshot was taken.
struct Before {
    now: BTreeMap<Vec<u8>, String>,
    then: BTreeMap<Vec<u8>, String>,
}

fn prepare(call: Call, place: &Place) -> Before {
    place.clear();
    place.empty();
    fill(&place.volume(), "old");
    let then = described(&place.volume());
    if call != Call::Take {
        snapshot::take(&place.paths(), VOLUME, LABEL).unwrap();
        fill(&place.volume(), "new");
    }
    Before { now: described(&place.volume()), then }
}

/// What holds when the call has returned.
fn assert_done(call: Call, place: &Place, before: &Before, what: &str) {
    let now = described(&place.volume());
    assert!(&now == if call == Call::Restore { &before.then } else { &before.now }, "{what}: {now:?}");
    assert_eq!(is_taken(place), call != Call::Drop, "{what}");
    assert_eq!(place.leftovers(), Vec::<String>::new(), "{what}");
}

pub fn each_step(ground: Ground) {
    let place = Place::new(ground);
    for call in [Call::Take, Call::Restore, Call::Drop] {
        let before = prepare(call, &place);
        let calls = calls(call, &place);
        assert_done(call, &place, &before, "not killed");
        let mut done_before_the_end = 0;
        for (name, count) in &calls {
            let before = prepare(call, &place);
            let what = format!("{call:?} on {ground:?}, killed at {name} {count}");
            let (trace, kill) =
                (format!("trace={name}"), format!("inject={name}:signal=SIGKILL:when={count}"));
            let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &kill];
            let output = call.command(&place.root(), &strace).output().unwrap();
            assert_eq!(output.status.code(), None, "{what}: {}", String::from_utf8_lossy(&output.stdout));
            let now = described(&place.volume());
            let had_effect = match call {
                Call::Take => is_taken(&place),
                Call::Restore => now == before.then,
                _ => !is_taken(&place),
            };
            assert!(
                now == before.now || (call == Call::Restore && had_effect),
                "{what}: the volume is neither of both: {now:?}"
            );
            assert!(call != Call::Restore || is_taken(&place), "{what}: the snapshot is gone");
            if is_taken(&place) {
                let tree = described(&snapshot::list(&place.paths(), VOLUME).unwrap()[0].tree);
                assert!(tree == before.then, "{what}: the snapshot is {tree:?}");
            }
            done_before_the_end += u32::from(had_effect);
            // Once more, now to its end.
            match call.call(&place.root()) {
                Ok(()) => {}
                Err(DataError::Snapshot(SnapshotError::Exists { .. }))
                    if call == Call::Take && had_effect => {}
                Err(DataError::Snapshot(SnapshotError::Missing { .. }))
                    if call == Call::Drop && had_effect => {}
                Err(error) => panic!("{what}: the next one says {error}"),
            }
            assert_done(call, &place, &before, &format!("{what}, and then to the end"));
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
}
