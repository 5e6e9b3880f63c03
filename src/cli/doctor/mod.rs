//! `wharf doctor`: what is wrong with a host, and the archive that a bug report starts with.

mod archive;
mod asked;
mod gathered;

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::format::{Form, Shape};
use super::output::{Exit, Failure, coloured, complain, plain, print};
use crate::doctor::facts::Containers;
use crate::doctor::judge::{judge, worst};
use crate::doctor::{Line, State, look};
use crate::host::Paths;

const AFTER_HELP: &str = "\
One line for each thing that containers need of a host, with what was found
and, where that isn't as it should be, what to do about it.

How something stands:
  ok       nothing to do
  note     worth knowing
  warning  containers run, but something of them doesn't work, or won't for long
  error    containers don't start, or have failed

Nothing is changed. Mapped mounts and an overlay are tried as a start makes
them, and are gone with the command. What isn't heard of within 5 seconds, or
20 for the store, is said to be late and not waited for. Only root sees all of
it; for others, and where systemd isn't process 1, the rest is looked at. With
--root it is files only.

With --report an archive for a bug report is written, too, which only its
owner can read. That takes root, who alone knows what to leave out.

In the archive:
  doctor.txt, doctor.json  these lines
  versions.txt             of Wharf, the kernel and systemd, the distribution,
                           the kernel's options
  files/                   container files and the like: each key with its
                           line, without comments
  units/                   units made of them, with drop-ins
  check.json, reload.json  what is wrong with files now, and at the last reload
  ps.json, systemd.txt     containers, as `wharf ps` and systemd know them
  marks.json, images.json, leases.json, nft.txt
                           changes that are held back, the store's list, user
                           ids and addresses, the table inet wharf
  journal/                 the last 300 lines of this boot of each container,
                           up to 100 of them, those in trouble first, and of
                           Wharf

Secrets are left out, and <left out> stands for them: all values of
`environment`, of keys that Wharf doesn't know, and of settings of systemd
that may have any; of commands all but the program and the names of options;
logins and queries in addresses. Environment files, credentials, logins at
registries, and what is in volumes and images are not in it at all. What such
files and keys hold is also hidden where it is found in the journal, and so is
there what looks like a password, a token or a private key. Can't be told from
other words: an argument that is a plain word, a secret of three characters, a
number of five digits. Of a container that doesn't run, with encrypted
credentials that can't be decrypted, there is only what systemd and Wharf say.
Names, paths, addresses, ports, sizes and times are kept, and whatever else
programs say: look through journal/ before you give it away, or use
--no-journal.

Examples:
  wharf doctor
  wharf doctor --json | jq -r '.checks[] | select(.state != \"ok\") | .message'
  wharf doctor --format '{state} {topic}'
  sudo wharf doctor --report
  sudo wharf doctor --report /root/wharf.tar.gz --no-journal

JSON: one object with the keys
  version          Wharf's
  root             whether root asked
  errors, warnings, notes
                   how many
  checks           an array of objects: topic, state (ok, note, warning or
                   error), message, and hint, which is what to do, or null
  report           the archive's path, or null

Exit status: 0 without errors (there may be warnings and notes); 1 with
errors, or where the archive can't be written; 2 for wrong usage.";

/// Look for what keeps containers from running on this host, and say what to do about it
#[derive(Args)]
#[command(after_help = AFTER_HELP, mut_arg("json", |arg| arg.help("One object, as below")))]
pub struct DoctorArgs {
    #[command(flatten)]
    form: Form,
    /// Write an archive for a bug report as well, here or to FILE, which must not be there yet
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    report: Option<Option<PathBuf>>,
    /// Without the journal in that archive
    #[arg(long, requires = "report")]
    no_journal: bool,
}

/// The keys of a line.
const KEYS: &[&str] = &["topic", "state", "message", "hint"];

/// What `--json` prints, and an archive has.
#[derive(Serialize)]
struct Said<'l> {
    version: &'static str,
    root: bool,
    errors: usize,
    warnings: usize,
    notes: usize,
    checks: &'l [Line],
    report: Option<PathBuf>,
}

/// Who isn't root can see what programs say of secrets, and can't read the files by which that would be known.
#[derive(Debug, thiserror::Error)]
#[error(
    "a report of this host takes root, who alone can read what has to be left out of it: sudo wharf doctor --report"
)]
struct TakesRoot;

/// Runs the command.
pub fn run(args: &DoctorArgs, paths: &Paths) -> Result<Exit, Failure> {
    let DoctorArgs { form, report, no_journal } = args;
    let shape = form.shape(KEYS)?;
    if report.is_some() && paths.are_this_hosts() && !look::is_root() {
        return Err(TakesRoot.into());
    }
    let spinner = spinner();
    spinner.set_message("looking at this host");
    let facts = asked::facts(paths);
    let lines = judge(&facts);
    let written = match report {
        None => None,
        Some(file) => {
            spinner.set_message("writing the report");
            let file = file.clone().unwrap_or_else(archive::default_name);
            let said = said(&lines, None);
            let said = serde_json::to_value(&said)?;
            let troubled = facts.containers.seen().map(Containers::troubled).unwrap_or_default();
            let gathered = gathered::all(paths, &people(&lines, false), &said, &troubled, !no_journal);
            archive::write(&file, gathered)?;
            Some(file)
        }
    };
    spinner.finish_and_clear();
    let exit = if worst(&lines) == State::Error { Exit::Failed } else { Exit::Done };
    let text = if shape == Shape::Json {
        serde_json::to_string_pretty(&said(&lines, written))? + "\n"
    } else {
        if let Some(file) = &written {
            complain(&format!("the report is {}: look through it before you give it away\n", file.display()));
        }
        shape.text(&lines, || people(&lines, coloured(&io::stdout())))?
    };
    // Whoever closed the pipe has read enough, and wants to know all the same.
    print(&text).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}

/// On a terminal only; elsewhere it is silent.
fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let bar = match ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn number(lines: &[Line], state: State) -> usize {
    lines.iter().filter(|line| line.state == state).count()
}

fn said(lines: &[Line], report: Option<PathBuf>) -> Said<'_> {
    Said {
        version: env!("CARGO_PKG_VERSION"),
        root: look::is_root(),
        errors: number(lines, State::Error),
        warnings: number(lines, State::Warning),
        notes: number(lines, State::Note),
        checks: lines,
        report,
    }
}

/// How wide the words for states and topics may be.
const COLUMNS: (usize, usize) = (7, 15);

fn people(lines: &[Line], colour: bool) -> String {
    let (states, topics) = COLUMNS;
    let mut text = String::new();
    for Line { topic, state, message, hint } in lines {
        let word = state.word();
        let lead = match state {
            _ if !colour => "",
            State::Ok => "\x1b[32m",
            State::Note => "\x1b[36m",
            State::Warning => "\x1b[1;33m",
            State::Error => "\x1b[1;31m",
        };
        let end = if lead.is_empty() { "" } else { "\x1b[0m" };
        // Programs and servers have a say in some of it.
        let _ = writeln!(text, "{lead}{word:states$}{end}  {topic:topics$}  {}", plain(message));
        if let Some(hint) = hint {
            let _ = writeln!(text, "{:1$}hint: {2}", "", states + topics + 4, plain(hint));
        }
    }
    let counted: Vec<String> = [(State::Error, "error"), (State::Warning, "warning"), (State::Note, "note")]
        .into_iter()
        .filter_map(|(state, word)| match number(lines, state) {
            0 => None,
            number => Some(crate::doctor::count(number, word)),
        })
        .collect();
    let summary = if counted.is_empty() { "nothing to say".to_owned() } else { counted.join(", ") };
    let _ = writeln!(text, "\n{} looked at: {summary}", crate::doctor::count(lines.len(), "thing"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_people() {
        let lines = [Line::ok("kernel", "Linux 6.12\x1b[31m"), Line::error("systemd", "gone", "get it back")];
        assert_eq!(
            people(&lines, false),
            "ok       kernel           Linux 6.12[31m\n\
             error    systemd          gone\n                          hint: get it back\n\n\
             2 things looked at: 1 error\n"
        );
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(crate::cli::format::keys_of(&lines[1]), keys);
        assert!(people(&lines, true).contains("\x1b[1;31merror  \x1b[0m  systemd"));
        assert!(people(&lines[..1], false).ends_with("\n1 thing looked at: nothing to say\n"));
    }
}
