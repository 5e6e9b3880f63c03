//! The same for Podman's import, beside Wharf's: counted and told, and nothing is expected of it.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::disk::{Disk, FileSystem};
use crate::random::Random;
use crate::samples::{Place, Samples, Trees, samples};
use crate::support::describe;

/// A store of Podman's.
struct Podman {
    root: PathBuf,
    /// Stands for a folder below /run: it is gone with the power.
    run: PathBuf,
}

impl Podman {
    fn command(&self, arguments: &[&str]) -> Command {
        // In namespaces of its own: nothing of it outlives it, neither a process nor a mount.
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        command.args(["podman", "--storage-driver", "overlay", "--events-backend", "none"]);
        command.arg("--root").arg(&self.root).arg("--runroot").arg(self.run.join("storage"));
        command.arg("--tmpdir").arg(self.run.join("libpod")).args(arguments);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Option<Output> {
        let output = self.command(arguments).output().expect("unshare");
        output.status.success().then_some(output)
    }

    fn import(&self, path: &Path, name: &str) -> Command {
        let mut command = self.command(&["import", "--quiet"]);
        command.arg(path).arg(name).stdout(Stdio::null());
        command
    }

    /// What an image's layer holds, if that can be read.
    fn trees(&self, name: &str) -> Option<Trees> {
        let format = "{{.GraphDriver.Data.UpperDir}}";
        let said = self.run(&["image", "inspect", "--format", format, name])?;
        let folder = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim());
        // What can't be walked is damaged, too.
        catch_unwind(AssertUnwindSafe(|| vec![describe(&folder, false)])).ok()
    }
}

/// What the version is called, if there is one.
pub fn version() -> Option<String> {
    let output = Command::new("podman").arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).split_whitespace().last()?.to_owned())
}

/// Before each cut one import returns, and another one is in the middle. Says in one line what became of them.
pub fn cuts(file_system: FileSystem, count: u32, seed: u64, version: &str) {
    let folder = tempfile::tempdir().unwrap();
    let Samples { all, server: _server } = samples(folder.path());
    let files: Vec<&PathBuf> = all
        .iter()
        .filter_map(|sample| match &sample.place {
            Place::File(path) => Some(path),
            Place::Registry(_) => None,
        })
        .collect();
    let aside = Podman { root: folder.path().join("podman"), run: folder.path().join("podman-run") };
    let whole: Vec<Trees> = files
        .iter()
        .map(|path| {
            assert!(
                aside.import(path, "whole").status().unwrap().success(),
                "podman import {}",
                path.display()
            );
            aside.trees("whole").expect("what was just imported")
        })
        .collect();
    // Another story on each file system.
    let mut random = Random(seed + ((file_system as u64) << 32));
    let mut disk = Disk::new(folder.path(), file_system);
    let podman = Podman { root: disk.path().join("containers"), run: folder.path().join("run") };
    let mut usual = Duration::from_millis(500);
    // What is to be counted is what the lack of a sync does, and nothing else.
    assert!(podman.import(files[0], "synced").status().unwrap().success(), "podman import");
    assert!(Command::new("sync").arg("-f").arg(disk.path()).status().unwrap().success(), "sync");
    disk.cut();
    let _ = fs::remove_dir_all(&podman.run);
    disk.switch_on();
    assert!(podman.trees("synced").is_some_and(|trees| trees == whole[0]), "what was synced is there");
    // Acknowledged and not seen damaged so far, by name.
    let mut kept: BTreeMap<String, usize> = BTreeMap::new();
    let (mut acknowledged, mut missing, mut damaged, mut unusable, mut refused) = (0, 0, 0, 0, 0);
    for cut in 1..=count {
        let sample = random.index(files.len());
        let begun = Instant::now();
        if podman.import(files[sample], &format!("first{cut}")).status().unwrap().success() {
            usual = begun.elapsed();
            acknowledged += 1;
            kept.insert(format!("first{cut}"), sample);
        } else {
            refused += 1;
        }
        let sample = random.index(files.len());
        let mut child = podman.import(files[sample], &format!("second{cut}")).spawn().unwrap();
        let moment = usual * u32::try_from(random.below(110)).unwrap_or(0) / 100;
        #[expect(clippy::disallowed_methods, reason = "the moment of the cut, which is to be any")]
        std::thread::sleep(moment);
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            acknowledged += 1;
            kept.insert(format!("second{cut}"), sample);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        disk.cut();
        let _ = fs::remove_dir_all(&podman.run);
        disk.switch_on();
        if podman.run(&["images"]).is_none() {
            unusable += 1;
            missing += kept.len();
            kept.clear();
            // Or there would be nothing to see in the cuts to come.
            let _ = fs::remove_dir_all(&podman.root);
            continue;
        }
        kept.retain(|name, sample| {
            if podman.run(&["image", "exists", name]).is_none() {
                missing += 1;
                return false;
            }
            let same = podman.trees(name).is_some_and(|trees| trees == whole[*sample]);
            damaged += usize::from(!same);
            same
        });
    }
    println!(
        "Podman {version} on {file_system:?}, for comparison: {count} cuts (seed {seed}); of {acknowledged} images whose \
         import had returned {missing} were missing and {damaged} damaged afterwards; {unusable} times its store \
         couldn't be listed, {refused} times the next import failed"
    );
}
