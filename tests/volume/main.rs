//! Snapshots and archives of volumes on real file systems. Needs root; what is missing is skipped, by name.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test")]

mod child;
mod data;
mod kills;
mod place;
mod refusals;
#[path = "../image/support.rs"]
#[allow(dead_code, reason = "it is another test's as well")]
mod support;
mod trial;
mod trials;
mod whole;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

use self::place::Ground;

/// Set for the second half, which has a mount namespace of its own: whatever ends it, nothing stays mounted.
const INSIDE: &str = "WHARF_TEST_VOLUME_INSIDE";

/// Set for a process that runs one test: its name. Each has a process of its own, since a child that another test has
/// just forked holds copies of all locks (flock(2)) until it executes its program.
const ALONE: &str = "WHARF_TEST_VOLUME_ALONE";

/// Runs a test in a process of its own.
fn alone(name: &str) -> Result<(), Failed> {
    let status = Command::new(std::env::current_exe()?).env(ALONE, name).status()?;
    if status.success() { Ok(()) } else { Err(format!("its process ended with {status}").into()) }
}

fn main() -> ExitCode {
    if let Some(code) = child::asked().or_else(trial::asked) {
        return code;
    }
    let only = std::env::var(ALONE).ok();
    let arguments = Arguments::from_args();
    let is_root = rustix::process::geteuid().is_root();
    if is_root && !arguments.list && std::env::var_os(INSIDE).is_none() {
        let mut again = Command::new("unshare");
        again.args(["--mount", "--propagation", "private", "--"]).args(std::env::args_os()).env(INSIDE, "1");
        println!("can't start unshare: {}", again.exec());
        return ExitCode::FAILURE;
    }
    let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    let missing = |grounds: &[Ground], tools: bool| {
        if !is_root {
            return Some("it needs root".to_owned());
        }
        if tools && !strace {
            return Some("there is no strace".to_owned());
        }
        grounds.iter().find_map(|ground| ground.missing())
    };
    let mut trials = Vec::new();
    let mut add = |name: String, missing: Option<String>, test: Box<dyn FnOnce() + Send>| {
        if let Some(only) = &only {
            if *only == name {
                test();
            }
            return;
        }
        if let Some(why) = &missing {
            println!("{name} is skipped: {why}");
        }
        let own = name.clone();
        trials.push(Trial::test(name, move || alone(&own)).with_ignored_flag(missing.is_some()));
    };
    for ground in Ground::GOOD {
        let without = missing(&[ground], false);
        add(
            format!("everything is kept on {ground:?}"),
            without.clone(),
            Box::new(move || whole::kept(ground)),
        );
        add(format!("content is shared on {ground:?}"), without, Box::new(move || whole::shared(ground)));
        let without = missing(&[ground], true);
        add(
            format!("killed at each step on {ground:?}"),
            without,
            Box::new(move || kills::each_step(ground)),
        );
    }
    for ground in [Ground::Xfs, Ground::Subvolume] {
        let without = missing(&[ground], true);
        add(
            format!("a trial killed at each step on {ground:?}"),
            without,
            Box::new(move || trials::each_step(ground)),
        );
    }
    for ground in [Ground::Ext4, Ground::PlainXfs] {
        let name = format!("refused on {ground:?}");
        add(name, missing(&[ground], false), Box::new(move || refusals::file_system(ground)));
    }
    for ground in [Ground::Ext4, Ground::Xfs, Ground::Btrfs, Ground::Subvolume] {
        let without = missing(&[ground], false);
        add(
            format!("archives come back on {ground:?}"),
            without.clone(),
            Box::new(move || data::comes_back(ground)),
        );
        add(format!("bad archives on {ground:?}"), without.clone(), Box::new(move || data::refused(ground)));
        add(
            format!("one import at a time on {ground:?}"),
            without,
            Box::new(move || data::one_at_a_time(ground)),
        );
        let without = missing(&[ground], true);
        add(
            format!("imports and removals killed on {ground:?}"),
            without,
            Box::new(move || data::killed(ground)),
        );
    }
    let xfs = missing(&[Ground::Xfs], false);
    add("refused elsewhere".into(), xfs.clone(), Box::new(refusals::elsewhere));
    add("what there is no room for isn't taken".into(), xfs.clone(), Box::new(trials::full));
    add("refused while in use".into(), xfs.clone(), Box::new(refusals::in_use));
    add("refused by their labels".into(), xfs.clone(), Box::new(refusals::labels));
    add("refused for what is in it".into(), xfs.clone(), Box::new(refusals::content));
    add("a start waits".into(), xfs, Box::new(refusals::start_waits));
    if only.is_some() {
        return ExitCode::SUCCESS;
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
