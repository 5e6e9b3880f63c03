//! A container's start, as far as its data go, in a process of its own: this test's program, started again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use wharf::check::Container;
use wharf::held;
use wharf::held::snapshots::{self, Settled, Unsettled};
use wharf::host::Paths;
use wharf::plan::held::{Fingerprint, Good, HELD_FORMAT, Held, State};
use wharf::plan::snapshot::{Before, before};
use wharf::report::Source;
use wharf::settings::Policy;
use wharf::spec::Document;

use crate::child::VOLUME;

/// What the process is to start.
const START: &str = "WHARF_TEST_TRIAL";

/// Another volume of the container.
pub const OTHER: &str = "other";

/// A container with both, one that isn't there yet, and one that it only reads.
pub fn container() -> Container {
    let text = format!(
        "image = 'x:1'\nsnapshot = true\n[mounts]\n'/a' = {{ volume = '{VOLUME}' }}\n'/b' = {{ volume = '{OTHER}' }}\n\
         '/c' = {{ volume = 'not-yet' }}\n'/d' = {{ volume = 'read', read-only = true }}"
    );
    let (document, findings) = Document::parse(&Source::new("/etc/wharf/containers/x.toml", text));
    wharf::check::check(&"x".parse().unwrap(), &document, findings).container.unwrap()
}

/// A digest for the word of an image.
fn digest(image: &str) -> String {
    let letter = match image {
        "old" => "a",
        "new" => "b",
        _ => "c",
    };
    format!("sha256:{}", letter.repeat(64))
}

fn print(image: &str) -> Fingerprint {
    Fingerprint::of(&container(), &Policy::Any, Some(digest(image)), BTreeMap::new())
}

/// Writes the mark of a trial of `new`, in place of `old`.
pub fn mark(root: &Path) -> Held {
    let (paths, name) = (Paths::new(root), "x".parse().unwrap());
    let mark = Held {
        format: HELD_FORMAT,
        state: State::Trying,
        run: "run".into(),
        at: "then".into(),
        settle: None,
        why: None,
        blamed: None,
        tried: print("new"),
        good: Good::new(container(), "x.toml".into(), Some(digest("old"))),
        snapshot: None,
    };
    snapshots::keep_mark(&paths, mark, true, held::find(&paths, &name).unwrap().as_ref()).unwrap()
}

/// What the executor does before it starts an image.
pub fn start(root: &Path, image: &str) -> Result<(Before, Settled), Unsettled> {
    let (paths, container) = (Paths::new(root), container());
    let name = &container.name;
    let mark = held::find(&paths, name).unwrap();
    let there = snapshots::find(&paths, name).unwrap();
    let there = there.as_ref().map(|(all, stage)| (all, *stage));
    let step = before(mark.as_ref(), there, &print(image), image == "old", None);
    let label = mark.and_then(|mark| mark.snapshot).unwrap_or_default();
    snapshots::settle(&paths, name, step, &label, &container.writes_to()).and_then(
        |mut settled| match settled.undropped.take() {
            Some(error) => Err(Unsettled::NotRestored(error)),
            None => Ok((step, settled)),
        },
    )
}

/// What such a process does; nothing in one that runs tests.
pub fn asked() -> Option<ExitCode> {
    let image = std::env::var(START).ok()?;
    let root = std::env::args_os().nth(1).expect("a root");
    Some(match start(Path::new(&root), &image) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:?}");
            ExitCode::FAILURE
        }
    })
}

/// A start of an image in a process of its own, with words before its own.
pub fn command(root: &Path, image: &str, before: &[&str]) -> Command {
    let own = std::env::current_exe().expect("this program");
    let mut command = match before.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(own);
            command
        }
        None => Command::new(own),
    };
    command.arg(root).env(START, image);
    command
}
