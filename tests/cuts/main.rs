//! The store, volumes, and power cuts: a disk that forgets what was not flushed, cut at any moment of any
//! command. Needs root, nbdkit and nbdfuse; what is missing is skipped, by name. With `WHARF_TEST_FULL=1` also for
//! Podman's import, which is counted and not judged.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test")]

#[path = "../volume/child.rs"]
mod child;
mod disk;
mod model;
mod podman;
mod random;
mod samples;
#[path = "../registry/server.rs"]
#[allow(dead_code, reason = "it is another test's as well")]
mod server;
mod snapshots;
mod story;
#[path = "../image/support.rs"]
#[allow(dead_code, reason = "it is another test's as well")]
mod support;
#[path = "../volume/trial.rs"]
mod trial;
mod trials;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

use self::disk::FileSystem;

/// Set for the second half, which has a mount namespace of its own: whatever ends it, nothing stays mounted.
const INSIDE: &str = "WHARF_TEST_CUTS_INSIDE";

fn main() -> ExitCode {
    if let Some(code) = child::asked().or_else(trial::asked) {
        return code;
    }
    let arguments = Arguments::from_args();
    let tool = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let missing = if !rustix::process::geteuid().is_root() {
        Some("they need root".to_owned())
    } else if !tool("nbdkit") || !tool("nbdfuse") {
        Some("they need nbdkit and nbdfuse (packages nbdkit and libnbd-bin)".to_owned())
    } else {
        None
    };
    if missing.is_none() && !arguments.list && std::env::var_os(INSIDE).is_none() {
        let mut again = Command::new("unshare");
        again.args(["--mount", "--propagation", "private", "--"]).args(std::env::args_os()).env(INSIDE, "1");
        println!("can't start unshare: {}", again.exec());
        return ExitCode::FAILURE;
    }
    let full = std::env::var_os("WHARF_TEST_FULL").is_some_and(|value| value == "1");
    let count = if full { 80 } else { 6 };
    let seed = std::env::var("WHARF_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let all = [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs];
    let mut trials = Vec::from(all.map(|file_system| {
        let missing = missing.clone().or_else(|| file_system.missing());
        if let Some(why) = &missing {
            println!("power cuts on {file_system:?} are skipped: {why}");
        }
        let run = move || {
            story::cuts(file_system, count, seed);
            Ok(())
        };
        Trial::test(format!("power cuts on {file_system:?}"), run).with_ignored_flag(missing.is_some())
    }));
    // Where there can be no snapshots, tests/volume sees that it is said.
    trials.extend(all.map(|file_system| {
        let missing = missing.clone().or_else(|| file_system.missing());
        let run = move || {
            snapshots::cuts(file_system, count, seed);
            Ok(())
        };
        let name = format!("volumes and power cuts on {file_system:?}");
        Trial::test(name, run).with_ignored_flag(missing.is_some())
    }));
    trials.extend([FileSystem::Xfs, FileSystem::Btrfs].map(|file_system| {
        let missing = missing.clone().or_else(|| file_system.missing());
        let run = move || {
            self::trials::cuts(file_system, count, seed);
            Ok(())
        };
        Trial::test(format!("trials and power cuts on {file_system:?}"), run)
            .with_ignored_flag(missing.is_some())
    }));
    if full && missing.is_none() {
        match podman::version() {
            None => println!("Podman, for comparison: it is not installed"),
            Some(version) => {
                trials.extend(all.into_iter().filter(|one| one.missing().is_none()).map(|file_system| {
                    let version = version.clone();
                    let run = move || {
                        podman::cuts(file_system, 20, seed, &version);
                        Ok(())
                    };
                    Trial::test(format!("Podman's import on {file_system:?}, reported"), run)
                }));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
