//! Commands on a store, and the power cut in the middle of one of them: what was acknowledged is there, what was
//! not is there whole or not at all, and the next command works.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wharf::image::{OrphanKind, Store, fsck};

use crate::disk::{Disk, FileSystem};
use crate::model::{State, Step};
use crate::random::Random;
use crate::samples::{Sample, Samples, samples};
use crate::support::{assert_same, describe};

fn store(root: &Path) -> Store {
    Store::new(root.join("var/lib/wharf"))
}

/// Whether the store shows what it may, and has it as its source has.
fn check(root: &Path, samples: &[Sample], allowed: &[State], what: &str) -> State {
    let store = store(root);
    let listed = store.list().unwrap_or_else(|error| panic!("{what}: the list fails: {error}"));
    let mut state = State::default();
    for image in &listed {
        state.images.insert(image.digest.clone());
        for reference in &image.references {
            state.references.insert(reference.clone(), image.digest.clone());
        }
    }
    assert!(
        allowed.contains(&state),
        "{what}: the store has {state:#?}, and should have one of {allowed:#?}"
    );
    let pinned = state.images.iter().map(|digest| (format!("any@{digest}"), digest));
    let named = state.references.iter().map(|(name, digest)| (name.clone(), digest));
    for (reference, digest) in pinned.chain(named) {
        let sample = samples.iter().find(|sample| sample.digest == *digest).expect("one of the samples");
        let image = store.resolve(&reference.parse().unwrap());
        let image = image.unwrap_or_else(|error| panic!("{what}: {reference}: {error}"));
        assert_eq!(image.layers.len(), sample.trees.len());
        for (layer, tree) in image.layers.iter().zip(&sample.trees) {
            assert_same(&describe(layer, true), tree);
        }
    }
    let report = checked(&store, what);
    assert_eq!((report.images, report.references), (state.images.len(), state.references.len()), "{what}");
    state
}

fn checked(store: &Store, what: &str) -> fsck::Report {
    let report = fsck::check(store, fsck::Thoroughness::default(), &|_| ());
    let report = report.unwrap_or_else(|error| panic!("{what}: fsck fails: {error}"));
    assert!(report.is_clean(), "{what}: {:#?}", report.damage);
    report
}

/// What a command leaves that has returned: nothing of those that were cut off before but downloads.
fn assert_swept(root: &Path, what: &str) {
    let report = checked(&store(root), what);
    let left: Vec<_> = report.orphans.iter().filter(|orphan| orphan.kind != OrphanKind::Partial).collect();
    assert!(report.leftovers.is_empty() && left.is_empty(), "{what}: {:?}, {left:?}", report.leftovers);
}

/// The registry is on loopback and has no TLS.
fn allow_plain_http(root: &Path, host: &str) {
    let folder = root.join("etc/wharf");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("wharf.toml"), format!("[registries.\"{host}\"]\ninsecure = true\n")).unwrap();
    // It is the administrator's, who has synced it.
    assert!(Command::new("sync").arg("-f").arg(&folder).status().unwrap().success());
}

/// Cuts the power so many times, at any moment of any command. After three of four cuts one or two commands of any kind
/// do their work before the next cut; after the others it comes in the first one, which clears up.
pub fn cuts(file_system: FileSystem, count: u32, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let Samples { all: samples, server } = samples(folder.path());
    // Another story on each file system.
    let mut random = Random(seed + ((file_system as u64) << 32));
    let mut disk = Disk::new(folder.path(), file_system);
    let root = disk.path();
    allow_plain_http(&root, &server.host);
    let mut state = State::default();
    // How long the commands took here the last time, which the moments of the cuts depend on.
    let mut usual: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut finished, mut there) = (0, 0);
    for cut in 1..=count {
        let what = format!("{file_system:?}, seed {seed}, cut {cut}");
        let commands = if random.below(4) == 0 { 0 } else { 1 + random.below(2) };
        for _ in 0..commands {
            let step = Step::choose(&mut random, &samples, &state);
            let begun = Instant::now();
            let output = step.command(&root, &samples).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{what}: {step:?}: {errors}");
            usual.insert(step.kind(&samples), begun.elapsed());
            state = step.after(&state, &samples);
            assert_swept(&root, &format!("{what}, before it, {step:?}"));
        }
        let step = Step::choose(&mut random, &samples, &state);
        let most = usual.get(step.kind(&samples)).copied().unwrap_or(Duration::from_millis(50));
        let moment = most * u32::try_from(random.below(110)).unwrap_or(0) / 100;
        let mut child = step.command(&root, &samples).stderr(Stdio::null()).spawn().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the moment of the cut, which is to be any")]
        std::thread::sleep(moment);
        let acknowledged = child.try_wait().unwrap().is_some_and(|status| status.success());
        child.kill().unwrap();
        child.wait().unwrap();
        disk.cut();
        disk.switch_on();
        let after = step.after(&state, &samples);
        let allowed = if acknowledged { vec![after.clone()] } else { vec![state.clone(), after.clone()] };
        let now = check(&root, &samples, &allowed, &format!("{what}, {step:?} after {moment:?}"));
        finished += u32::from(acknowledged);
        there += u32::from(!acknowledged && now == after && now != state);
        *kinds.entry(step.kind(&samples)).or_default() += 1;
        state = now;
    }
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} in {kind}")).collect();
    println!(
        "{file_system:?}: {count} cuts (seed {seed}): {}; {finished} commands had finished, {there} had done their \
         work without having said so",
        kinds.join(", ")
    );
}
