//! The stories: what an administrator does and sees, on real machines.
//!
//! A story is a function `fn(&mut Stage) -> Told`, listed in a table of its module (see
//! [`machines::STORIES`]) that is named in [`stories`]. It says with the table's
//! [`stage::On`] on which machines it is told, and with [`Stage::needs`] what a machine must
//! have for it; where that is missing the story is skipped, and named with the reason.
//!
//! `cargo test --test boot -- [--kind fast|full] [--turns DIR] [--list] [WORD…]`, as root. Words
//! select stories by a part of their name. Who tells with others in turns has machines of its own,
//! and takes the next module that none of them has taken.
//! The last line is `N passed, N failed, N skipped`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test's output is for a person")]

mod ansible;
mod apply;
mod changes;
mod commits;
mod confined;
mod containers;
mod data;
mod doctor;
mod entering;
mod examples;
mod failures;
mod firsts;
mod fleet;
mod habits;
mod handover;
mod health;
mod images;
mod imports;
mod journal;
#[path = "../machine/mod.rs"]
#[allow(dead_code, reason = "the stories do not use all that a machine can do")]
mod machine;
mod machines;
mod marks;
mod network;
mod older;
mod packages;
mod pulled;
mod ready;
mod registered;
#[path = "../registry/host.rs"]
mod registry;
mod restarts;
mod runs;
mod secrets;
mod services;
mod snapshots;
mod sockets;
mod softly;
mod stage;
mod tiers;
mod timers;
mod tools;
mod trust;
mod updates;

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use machine::Kind;
use stage::{Stage, Story, Told, Untold, everything};

/// Every story there is, in the order in which they are told. Those of a module may need the ones before them; those of
/// the longest modules come early, so that whoever tells them in turns with others doesn't end long after them.
const MODULES: &[&[Story]] = &[
    machines::STORIES,
    snapshots::STORIES,
    ansible::STORIES,
    apply::STORIES,
    marks::STORIES,
    health::STORIES,
    packages::STORIES,
    tools::STORIES,
    tiers::STORIES,
    handover::STORIES,
    updates::STORIES,
    ready::STORIES,
    network::STORIES,
    services::STORIES,
    failures::STORIES,
    entering::STORIES,
    older::STORIES,
    habits::STORIES,
    imports::STORIES,
    firsts::STORIES,
    commits::STORIES,
    images::STORIES,
    pulled::STORIES,
    restarts::STORIES,
    trust::STORIES,
    timers::STORIES,
    sockets::STORIES,
    runs::STORIES,
    journal::STORIES,
    registered::STORIES,
    softly::STORIES,
    changes::STORIES,
    examples::STORIES,
    confined::STORIES,
    doctor::STORIES,
    data::STORIES,
    fleet::STORIES,
    secrets::STORIES,
];

/// Takes a module for a kind of machine, where it is told in turns: true to the one who is first, and to nobody else.
fn takes(turns: Option<&Path>, kind: Kind, module: usize) -> io::Result<bool> {
    let Some(folder) = turns else { return Ok(true) };
    match File::create_new(folder.join(format!("{kind}-{module}"))) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells the stories about Wharf on real machines.
#[derive(Parser)]
#[command(name = "boot")]
struct Arguments {
    /// Only on machines of this kind: fast or full
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Only what nobody else has taken who was given the same folder, empty before
    #[arg(long, value_name = "DIR", conflicts_with = "list")]
    turns: Option<PathBuf>,
    /// Tell once more what fails, on a new machine, and name what then passes as unsteady
    #[arg(long)]
    again: bool,
    /// Only say which stories there are
    #[arg(long)]
    list: bool,
    /// Only stories with one of these words in their name
    words: Vec<String>,
}

fn kind(word: &str) -> Result<Kind, String> {
    match word {
        "fast" => Ok(Kind::Fast),
        "full" => Ok(Kind::Full),
        _ => Err("there are two kinds, fast and full".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |story: &Story, kind: Kind| {
        arguments.kind.is_none_or(|only| only == kind)
            && story.on.includes(kind)
            && (arguments.words.is_empty() || arguments.words.iter().any(|word| story.name.contains(word)))
    };
    if !arguments.list && !rustix::process::geteuid().is_root() {
        eprintln!("boot: machines need root: run it as root, or use tests/run");
        return ExitCode::FAILURE;
    }
    let mut tally = Tally { again: arguments.again, ..Tally::default() };
    for kind in [Kind::Fast, Kind::Full] {
        let mut stage = Stage::new(kind);
        for (number, module) in MODULES.iter().enumerate() {
            let mut stories = module.iter().filter(|story| wanted(story, kind)).peekable();
            if stories.peek().is_none() {
                continue;
            }
            match takes(arguments.turns.as_deref(), kind, number) {
                Ok(true) => stories.for_each(|story| tally.offer(story, &mut stage, &arguments)),
                Ok(false) => {}
                Err(error) => {
                    eprintln!("boot: taking turns: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    packages::clear();
    tally.conclude()
}

#[derive(Default)]
struct Tally {
    /// What fails is told once more.
    again: bool,
    passed: u32,
    /// What failed, and passed when it was told again.
    unsteady: Vec<String>,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Tally {
    /// Tells a story, or says that it isn't told this time.
    fn offer(&mut self, story: &Story, stage: &mut Stage, arguments: &Arguments) {
        let kind = stage.kind();
        let can_wait = || story.on.can_wait(kind).filter(|_| arguments.words.is_empty() && !everything());
        if arguments.list {
            println!("{kind}: {}", story.name);
        } else if let Some(why) = can_wait() {
            println!("{kind}: {}: left to --full, as {why}", story.name);
        } else {
            self.tell(story, stage);
        }
    }

    fn tell(&mut self, story: &Story, stage: &mut Stage) {
        let name = format!("{}: {}", stage.kind(), story.name);
        println!("{name} …");
        let mut told = once(story, stage);
        let failed_before = matches!(told, Err(Untold::Failed(_))) && self.again;
        if failed_before {
            println!("{name}, once more, on a new machine …");
            told = once(story, stage);
        }
        match told {
            Ok(()) => {
                self.passed += 1;
                if failed_before {
                    self.unsteady.push(name);
                }
            }
            Err(Untold::Skipped(why)) => self.skipped.push(format!("{name}: {why}")),
            Err(Untold::Failed(_)) => self.failed.push(name),
        }
    }

    fn conclude(self) -> ExitCode {
        for name in &self.skipped {
            println!("skipped: {name}");
        }
        for name in &self.unsteady {
            println!("UNSTEADY: {name}: it failed, see above, and passed when it was told again");
        }
        for name in &self.failed {
            println!("FAILED: {name}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped.len());
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Tells a story, and says how it went.
fn once(story: &Story, stage: &mut Stage) -> Told {
    let started = Instant::now();
    // A panic has already said where and what, on stderr.
    let told = catch_unwind(AssertUnwindSafe(|| (story.tell)(stage)));
    let told: Told = told.unwrap_or_else(|_| Err(Untold::Failed("it panicked, see above".to_owned())));
    let took = started.elapsed().as_secs_f32();
    match &told {
        Ok(()) => println!("  ok, {took:.1} s"),
        Err(Untold::Skipped(why)) => println!("  skipped: {why}"),
        Err(Untold::Failed(why)) => {
            println!("  FAILED after {took:.1} s: {why}");
            // Nobody knows in what state it was left.
            stage.throw_away();
        }
    }
    told
}
