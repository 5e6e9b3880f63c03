//! What a container's starts do about its data while another image is tried: killed at each call that changes anything,
//! what is good gets its data back once, and what it has written since is never lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use wharf::held::{self, snapshots};
use wharf::plan::held::{Held, PROVED};
use wharf::plan::snapshot::{Before, Snapshots, Stage};
use wharf::volume::{self, How};

use crate::child::VOLUME;
use crate::kills::CALLS;
use crate::place::{Ground, Place};
use crate::support::run;
use crate::trial::{OTHER, command, container, mark, start};

fn calls(root: &Path, image: &str) -> Vec<(String, usize)> {
    let log = root.join("log");
    let trace = format!("trace={}", CALLS.join(","));
    let output = command(
        root,
        image,
        &["strace", "-qq", "-o", log.to_str().unwrap(), "-e", &trace, "-e", "signal=none"],
    )
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
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

/// The program, whichever it is, writes to both volumes.
fn write(place: &Place, content: &str) {
    for volume in [VOLUME, OTHER] {
        let folder = place.volumes().join(volume);
        fs::create_dir_all(folder.join("sub")).unwrap();
        for file in ["one", "sub/two"] {
            fs::write(folder.join(file), content).unwrap();
        }
    }
}

/// The text of all files, which is one.
fn read(place: &Place, what: &str) -> String {
    let texts = [VOLUME, OTHER].iter().flat_map(|volume| {
        let folder = place.volumes().join(volume);
        ["one", "sub/two"].map(|file| fs::read_to_string(folder.join(file)).unwrap())
    });
    let mut texts: Vec<String> = texts.collect();
    texts.dedup();
    assert_eq!(texts.len(), 1, "{what}: {texts:?}");
    texts.remove(0)
}

/// `old` has run, and `new` is about to be tried.
fn prepare(place: &Place) {
    place.clear();
    let _ = fs::remove_dir_all(held::folder(&place.paths()));
    place.empty();
    fs::create_dir_all(place.volumes().join("read")).unwrap();
    write(place, "old");
    mark(&place.root());
}

fn there(place: &Place) -> Option<Stage> {
    snapshots::find(&place.paths(), &container().name).unwrap().map(|(_, stage)| stage)
}

/// Nothing but the volumes is left.
fn assert_clean(place: &Place, what: &str) {
    assert_eq!(there(place), None, "{what}");
    for volume in [VOLUME, OTHER, "read"] {
        let snapshots = wharf::volume::snapshot::list(&place.paths(), volume).unwrap();
        assert!(snapshots.is_empty(), "{what}: {snapshots:?}");
    }
    assert_eq!(place.leftovers(), Vec::<String>::new(), "{what}");
}

/// `old` starts, with its data, and starts again, with what it has written since.
fn assert_put_back(place: &Place, what: &str) {
    start(&place.root(), "old").unwrap();
    assert_eq!(read(place, what), "old", "{what}");
    write(place, "since");
    for _ in 0..2 {
        start(&place.root(), "old").unwrap();
        assert_eq!(read(place, what), "since", "{what}");
    }
    assert_clean(place, what);
}

/// They were taken so long ago; with nothing, in another boot, as they were where this one is younger than that.
fn dated(place: &Place, age: Option<Duration>) {
    let path = held::folder(&place.paths()).join("x.taken");
    let mut taken: Snapshots = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let age = age.map(|age| u64::try_from(age.as_millis()).unwrap());
    match taken.at.zip(age).and_then(|(at, age)| at.checked_sub(age)) {
        Some(at) => taken.at = Some(at),
        None => taken.boot = Some("another".to_owned()),
    }
    fs::write(&path, serde_json::to_vec(&taken).unwrap()).unwrap();
}

/// What was tried has left its data in a snapshot of each volume, whole, which goes with this.
fn assert_kept(place: &Place, what: &str) {
    for volume in [VOLUME, OTHER] {
        let snapshots = wharf::volume::snapshot::list(&place.paths(), volume).unwrap();
        let [after] = snapshots.as_slice() else { panic!("{what}: {snapshots:?}") };
        assert!(after.label.ends_with(".after"), "{what}: {after:?}");
        for file in ["one", "sub/two"] {
            assert_eq!(fs::read_to_string(after.tree.join(file)).unwrap(), "destroyed", "{what}");
        }
        wharf::volume::snapshot::drop(&place.paths(), volume, &after.label).unwrap();
    }
    assert_clean(place, what);
}

fn killed(place: &Place, image: &str, call: &(String, usize)) -> String {
    let what = format!("the start of {image} killed at {} {}", call.0, call.1);
    let output = attempt(place, image, call);
    assert_eq!(output.status.code(), None, "{what}: {}", String::from_utf8_lossy(&output.stdout));
    what
}

/// A start that is killed at a call, if it comes to it.
fn attempt(place: &Place, image: &str, (name, count): &(String, usize)) -> Output {
    let (trace, kill) = (format!("trace={name}"), format!("inject={name}:signal=SIGKILL:when={count}"));
    let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &kill];
    command(&place.root(), image, &strace).output().unwrap()
}

pub fn each_step(ground: Ground) {
    let place = Place::new(ground);

    // The start of what is tried.
    prepare(&place);
    let taking = calls(&place.root(), "new");
    assert_eq!(there(&place), Some(Stage::Taken));
    for call in &taking {
        prepare(&place);
        let what = killed(&place, "new", call);
        // Whoever tried it goes on: it runs, and destroys everything, and is started again by systemd.
        if call.1 % 2 == 0 {
            for _ in 0..2 {
                start(&place.root(), "new").unwrap();
                assert_eq!(there(&place), Some(Stage::Taken), "{what}");
                write(&place, "destroyed");
            }
        }
        assert_put_back(&place, &what);
    }

    // The start of what is good: killed before it has run, also twice at the same step.
    let destroyed = || {
        prepare(&place);
        start(&place.root(), "new").unwrap();
        write(&place, "destroyed");
    };
    destroyed();
    let restoring = calls(&place.root(), "old");
    assert_clean(&place, "not killed");
    for call in &restoring {
        destroyed();
        let what = killed(&place, "old", call);
        // The same step comes earlier once it is written down that they are being restored, or not at all.
        if matches!(there(&place), Some(Stage::Taken | Stage::Restoring)) {
            let _ = attempt(&place, "old", call);
        }
        assert_put_back(&place, &what);
    }

    // Cut off in the middle, it is done first whatever starts, with its mark, another one or none.
    let cuts_in_half = |call: &&(String, usize)| {
        destroyed();
        killed(&place, "old", call);
        there(&place) == Some(Stage::Restoring)
    };
    let halves: Vec<_> = restoring.iter().filter(cuts_in_half).collect();
    assert!(halves.len() > 8, "{halves:?}");
    for (at, call) in halves.iter().enumerate() {
        destroyed();
        let what = killed(&place, "old", call);
        let starts = match at % 3 {
            0 => "new",
            1 => {
                let before = held::find(&place.paths(), &container().name).unwrap().unwrap();
                let next = Held { run: "other".into(), snapshot: None, ..before.clone() };
                let kept = snapshots::keep_mark(&place.paths(), next, true, Some(&before)).unwrap();
                assert_eq!(kept.snapshot.as_deref(), Some("x.other"), "{what}");
                "new"
            }
            _ => {
                held::forget(&place.paths(), &container().name).unwrap();
                assert!(snapshots::sweep(&place.paths()).is_empty());
                "third"
            }
        };
        assert_eq!(start(&place.root(), starts).unwrap().0, Before::Restore, "{what}");
        assert_eq!(read(&place, &what), "old", "{what}");
        let next = start(&place.root(), starts).unwrap().0;
        assert_eq!(next, if starts == "new" { Before::Take } else { Before::Nothing }, "{what}");
        write(&place, "destroyed");
        if starts == "new" {
            assert_put_back(&place, &what);
        }
    }

    // What was tried may have served for long: what it has written stays beside.
    for age in [Some(PROVED), None] {
        destroyed();
        dated(&place, age);
        let keeping = calls(&place.root(), "old");
        assert!(keeping.len() > restoring.len(), "{} {}", keeping.len(), restoring.len());
        assert_kept(&place, &format!("not killed, {age:?}"));
    }
    // Somebody has said that it needn't be.
    destroyed();
    dated(&place, Some(PROVED));
    let unkept = snapshots::unkept(&place.paths(), &container().name);
    fs::write(&unkept, "").unwrap();
    assert_eq!(start(&place.root(), "old").unwrap().1.after, None);
    assert_eq!((read(&place, "given up"), unkept.exists()), ("old".to_owned(), false));
    assert_clean(&place, "given up");
    destroyed();
    dated(&place, Some(PROVED));
    let keeping = calls(&place.root(), "old");
    // What is new in it is the snapshot, which each step of taking one has been cut off in above; so a few will do.
    let every = if std::env::var_os("WHARF_TEST_FULL").is_some_and(|value| value == "1") { 1 } else { 8 };
    for call in keeping.iter().step_by(every) {
        destroyed();
        dated(&place, Some(PROVED));
        let what = killed(&place, "old", call);
        start(&place.root(), "old").unwrap();
        assert_eq!(read(&place, &what), "old", "{what}");
        assert_kept(&place, &what);
    }

    // Another run has written its mark while the start of what is tried took snapshots: it is asked again what to start.
    prepare(&place);
    let other =
        Held { run: "other".into(), ..held::find(&place.paths(), &container().name).unwrap().unwrap() };
    held::keep(&place.paths(), &Held { snapshot: Some("x.other".into()), ..other }).unwrap();
    let (name, volumes) = (container().name, container());
    let volumes = volumes.writes_to();
    let settled = snapshots::settle(&place.paths(), &name, Before::Take, "x.run", &volumes).unwrap();
    assert!(settled.is_moved);
    assert_eq!(start(&place.root(), "old").unwrap().0, Before::Drop);
    assert_clean(&place, "taken for nobody");

    // It has proved itself, and the mark is gone: whatever starts and is killed, its data stay.
    destroyed();
    held::forget(&place.paths(), &container().name).unwrap();
    let dropping = calls(&place.root(), "new");
    assert_clean(&place, "not killed");
    for call in &dropping {
        destroyed();
        held::forget(&place.paths(), &container().name).unwrap();
        let what = killed(&place, "new", call);
        for image in ["new", "old"] {
            start(&place.root(), image).unwrap();
            assert_eq!(read(&place, &what), "destroyed", "{what}");
        }
        assert_clean(&place, &what);
    }

    // A third version that somebody starts keeps what it has written; a new try of the same keeps the snapshot.
    destroyed();
    let label = held::find(&place.paths(), &container().name).unwrap().unwrap().snapshot;
    assert_eq!(mark(&place.root()).snapshot, label);
    let step = |image: &str| start(&place.root(), image).unwrap().0;
    assert_eq!(step("new"), Before::Nothing);
    assert_eq!(step("third"), Before::Leave);
    write(&place, "third");
    assert_eq!(step("old"), Before::Nothing);
    assert_eq!(read(&place, "after a third version"), "third");
    held::forget(&place.paths(), &container().name).unwrap();
    assert!(snapshots::sweep(&place.paths()).is_empty());
    assert_clean(&place, "swept");
    println!(
        "{ground:?}: killed at each of {} calls of a start that takes, {} that restore, {} that drop, and at {} that \
         keep what was written and restore",
        taking.len(),
        restoring.len(),
        dropping.len(),
        keeping.len().div_ceil(every)
    );
}

/// Without room, nothing is taken and nothing stays; and without room for a restore the container doesn't start until
/// there is some, and then has its data.
pub fn full() {
    let place = Place::new(Ground::Xfs);
    prepare(&place);
    // Files share their content, and each needs an inode.
    let many = place.volume().join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..3000 {
        fs::write(many.join(number.to_string()), "x").unwrap();
    }
    let fill = || {
        // The last blocks, too.
        for size in ["1M", "64k", "4k"] {
            let file = place.root().join(format!("filler-{size}"));
            let _ = Command::new("dd")
                .args(["if=/dev/zero", "status=none", &format!("bs={size}")])
                .arg(format!("of={}", file.display()))
                .output();
        }
        run("sync", &["-f", place.root().to_str().unwrap()]);
    };
    let make_room = || {
        for size in ["1M", "64k", "4k"] {
            let _ = fs::remove_file(place.root().join(format!("filler-{size}")));
        }
    };
    fill();
    let error = format!("{:?}", start(&place.root(), "new").unwrap_err());
    assert!(error.contains("StorageFull"), "{error}");
    assert_clean(&place, "no room");
    // What is there can be had elsewhere all the same, and where nothing can be written any more.
    let export = |how: How| {
        let mut out = Vec::new();
        let exported = volume::export(&place.paths(), VOLUME, false, &mut out, &|_| ()).unwrap();
        assert_eq!(exported.how, how);
        out
    };
    // No container has ever started with it here, and there is no lock.
    let out = export(How::Live);
    make_room();
    drop(volume::hold(&place.paths().state(), VOLUME).unwrap().expect("a lock"));
    fill();
    assert!(export(How::Locked) == out);
    assert!(out.len() > 3000 * 1024, "{}", out.len());
    let root = place.root();
    run("mount", &["-o", "remount,ro", root.to_str().unwrap()]);
    assert!(export(How::Locked) == out);
    run("mount", &["-o", "remount,rw", root.to_str().unwrap()]);
    assert_put_back(&place, "no room");

    make_room();
    prepare(&place);
    fs::create_dir(&many).unwrap();
    for number in 0..3000 {
        fs::write(many.join(number.to_string()), "x").unwrap();
    }
    start(&place.root(), "new").unwrap();
    write(&place, "destroyed");
    fill();
    for _ in 0..2 {
        let error = format!("{:?}", start(&place.root(), "old").unwrap_err());
        assert!(error.contains("StorageFull"), "{error}");
        assert_eq!(there(&place), Some(Stage::Restoring));
        assert_eq!(read(&place, "no room to restore"), "destroyed");
    }
    make_room();
    assert_put_back(&place, "room again");
}
