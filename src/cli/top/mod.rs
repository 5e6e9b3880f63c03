//! `wharf top`: what containers use, for as long as somebody looks.

mod screen;
mod view;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use crossterm::event::{self, Event, KeyEventKind};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec};

use self::screen::Screen;
use self::view::{Sort, View, Wish};
use super::output::{Exit, Failure, coloured, print};
use super::usage::{Gatherer, Seen, now, pause, rows, table};
use crate::host::Paths;
use crate::spec::{ContainerName, duration};
use crate::sys::signals::Signals;
use crate::usage::cgroup::Depth;

const AFTER_HELP: &str = "\
Columns: percent of one CPU; memory with the files in the page cache, and its
limit; bytes a second from and to block devices, and by the network; processes
and threads; automatic restarts; systemd's state; what the checks say; how long
it is up. What isn't known is `-`. A narrow terminal has fewer columns.

Keys:
  c m i n r h a   sort by CPU, memory, io, network, restarts, health, name; again: the other way
  R               reverse
  /               only names with a text; esc: all
  arrows, page up and down, home, end
  space           measure now
  q, ctrl-c       quit
  ctrl-z          suspend

Examples:
  wharf top
  wharf top --sort memory --filter web
  wharf top --batch --iterations 3 --interval 10s

Numbers for programs are in: wharf stats --json

Exit status: 0 done; 1 it failed; 2 for wrong usage, such as no terminal without
--batch; where a signal ended it, 128 and its number.";

/// Show what running containers use, again and again
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct TopArgs {
    /// Only these, running or not
    names: Vec<ContainerName>,
    /// Those that don't run, too
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// From one look to the next
    #[arg(short = 'd', long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// What to sort by
    #[arg(short, long, value_enum, value_name = "KEY", default_value_t = Sort::Cpu)]
    sort: Sort,
    /// The other way round
    #[arg(short, long)]
    reverse: bool,
    /// Only names with this in them
    #[arg(short, long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
    /// Print table after table, which needs no terminal
    #[arg(short, long)]
    batch: bool,
    /// End after so many tables
    #[arg(short = 'n', long, value_name = "NUMBER", requires = "batch")]
    iterations: Option<u64>,
}

/// The shortest time between two looks: what is measured in less is chance.
const SHORTEST: Duration = Duration::from_millis(100);

/// How soon the first numbers come that need two looks.
const FIRST: Duration = Duration::from_millis(500);

/// How many looks in a row may fail before it ends: systemd is away for a moment when it is executed anew, as by an
/// upgrade of it.
const PATIENCE: u32 = 5;

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text).map_err(|error| error.to_string())?;
    if interval < SHORTEST { Err("it must be 100ms or longer".to_owned()) } else { Ok(interval) }
}

/// There is nothing to draw upon.
#[derive(Debug, thiserror::Error)]
#[error("`wharf top` draws on a terminal, and standard {0} is none; for text: wharf top --batch")]
struct NoTerminal(&'static str);

/// It can't be drawn upon.
#[derive(Debug, thiserror::Error)]
#[error(
    "`wharf top` moves the cursor, and TERM says that this terminal can't (dumb); for text: wharf top --batch"
)]
struct DumbTerminal;

/// The terminal fails.
#[derive(Debug, thiserror::Error)]
#[error("can't use the terminal")]
struct TerminalError(#[from] io::Error);

/// Runs the command.
pub fn run(args: &TopArgs, paths: &Paths) -> Result<Exit, Failure> {
    let TopArgs { names, all, interval, sort, reverse, filter, batch: is_batch, iterations } = args;
    let view = View::new(*sort, *reverse, filter.clone(), *interval);
    if *is_batch {
        let gatherer = Gatherer::new(paths, names, *all, Depth::Table)?;
        return batch(gatherer, &view, *iterations);
    }
    for (name, is_one) in [("output", io::stdout().is_terminal()), ("input", io::stdin().is_terminal())] {
        if !is_one {
            return Err(Failure::usage(NoTerminal(name)));
        }
    }
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        return Err(Failure::usage(DumbTerminal));
    }
    // Before there is any other thread, D-Bus has one: it would not know that they are blocked.
    let signals = Signals::take(&[libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH])?;
    let gatherer = Gatherer::new(paths, names, *all, Depth::Table)?;
    interactive(gatherer, view, &signals)
}

fn batch(mut gatherer: Gatherer<'_>, view: &View, iterations: Option<u64>) -> Result<Exit, Failure> {
    let mut before = gatherer.look()?;
    let mut left = iterations;
    let mut gap = "";
    while left != Some(0) {
        pause(view.interval);
        let seen = gatherer.look()?;
        let rows = view.sorted(&rows(&before, &seen));
        let lines = table::lines(&rows, Timestamp::now(), None, coloured(&io::stdout()));
        print(&format!("{gap}{}\n", lines.join("\n")))?;
        gap = "\n";
        before = seen;
        left = left.map(|left| left - 1);
    }
    Ok(Exit::Done)
}

fn interactive(mut gatherer: Gatherer<'_>, mut view: View, signals: &Signals) -> Result<Exit, Failure> {
    // What fails already now is told on the page that stays.
    let mut before: Vec<Seen> = Vec::new();
    let mut seen = gatherer.look()?;
    let mut due = now() + view.interval.min(FIRST);
    let colour = coloured(&io::stdout());
    let screen = Screen::enter().map_err(TerminalError)?;
    let mut failed = 0;
    loop {
        if now() >= due {
            match gatherer.look() {
                Ok(look) => {
                    before = std::mem::replace(&mut seen, look);
                    (failed, view.trouble) = (0, None);
                }
                Err(error) if failed < PATIENCE => {
                    (failed, view.trouble) = (failed + 1, Some(Failure::from(error).line()));
                }
                Err(error) => return Err(error.into()),
            }
            due = now() + view.interval;
        }
        let lines = view.screen(&rows(&before, &seen), Screen::size(), Timestamp::now(), colour);
        screen.draw(&lines).map_err(TerminalError)?;
        if !wait(signals, due.saturating_sub(now()))? {
            // Nobody is at the other end any more.
            return Ok(Exit::Program(128 + 1));
        }
        while let Some(signal) = signals.next() {
            // The size is asked at each drawing.
            if signal != libc::SIGWINCH {
                return Ok(Exit::Program(u8::try_from(128 + signal).unwrap_or(255)));
            }
        }
        while event::poll(Duration::ZERO).map_err(TerminalError)? {
            let Event::Key(key) = event::read().map_err(TerminalError)? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match view.press(key) {
                Wish::Draw => {}
                Wish::Refresh => due = now(),
                Wish::Suspend => screen.suspend().map_err(TerminalError)?,
                Wish::Quit => return Ok(Exit::Done),
            }
        }
    }
}

/// Waits for a key, a signal or the next look; false where the terminal is gone.
fn wait(signals: &Signals, left: Duration) -> Result<bool, TerminalError> {
    let input = io::stdin();
    let mut polled = [PollFd::new(&input, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
    let left = Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut polled, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(io::Error::from(errno).into()),
    }
    Ok(!polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL))
}
