//! `wharf stats`: what containers use, once.

use std::io;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::format::Form;
use super::output::{Exit, Failure, coloured, columns, print};
use super::usage::{Gatherer, KEYS, pause, rows, table};
use crate::host::Paths;
use crate::spec::{ContainerName, duration};
use crate::usage::cgroup::Depth;

const AFTER_HELP: &str = "\
What is used at a time is measured during --interval. For a table that goes on: wharf top.

Examples:
  wharf stats
  wharf stats nginx app
  wharf stats --interval 10s
  wharf stats --json | jq -r '.[] | select(.memory > 1e9) | .name'
  wharf stats --format '{name} {cpu} {memory}'

JSON: an array of objects, one for each container, with the keys
  name, unit       text
  state            systemd's ActiveState
  health           starting, healthy or unhealthy, by the checks of [health]; or null
  restarts         how often systemd has restarted it since somebody started it
  since            when it became active, ISO 8601 in UTC
  image            the reference; null for a rootfs, and for who is not root
  cpu              percent of one CPU: two that are busy are 200
  cpu_time         microseconds since its start
  cpu_limit        percent of one CPU
  throttled_time   microseconds that it was held back by that
  memory           bytes, with its files in the page cache
  memory_peak, memory_limit, memory_anon, memory_file, swap
                   bytes: the most, the limit, its programs', files in the page cache, swapped out
  oom_kills        processes killed for want of memory
  tasks, tasks_limit
                   processes and threads
  read, written    bytes from and to block devices
  reads, writes    the same in operations
  received, sent   bytes that came and went by its network; and received_packets, sent_packets
  read_rate, written_rate, received_rate, sent_rate
                   bytes a second
  cpu_pressure, memory_pressure, io_pressure
                   percent of the last ten seconds in which some task waited for it
What nobody counts is null, as what has no limit; in the table it is `-`.
Without the cgroup controllers cpu, memory, io and pids little is counted, and
only root is told of the network. All begins with the start of the container.

Exit status: 0 shown; 1 it failed, or nothing knows a container; 2 for wrong usage.";

/// Show what running containers use: CPU, memory, block devices, network
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct StatsArgs {
    /// Only these, running or not
    names: Vec<ContainerName>,
    /// Those that don't run, too
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
    /// How long to measure; with 0, only what can be read at once
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    interval: Duration,
    #[command(flatten)]
    form: Form,
}

/// Runs the command.
pub fn run(args: &StatsArgs, paths: &Paths) -> Result<Exit, Failure> {
    let StatsArgs { names, all, interval, form } = args;
    let shape = form.shape(KEYS)?;
    let mut gatherer = Gatherer::new(paths, names, *all, Depth::Whole)?;
    let mut before = Vec::new();
    let mut now = gatherer.look()?;
    if !interval.is_zero() {
        pause(*interval);
        before = std::mem::replace(&mut now, gatherer.look()?);
    }
    let rows = rows(&before, &now);
    let text = shape.text(&rows, || {
        if rows.is_empty() {
            return "No container runs; `wharf ps` lists what is declared.\n".to_owned();
        }
        let out = io::stdout();
        let lines = table::lines(&rows, Timestamp::now(), columns(), coloured(&out));
        lines.join("\n") + "\n"
    })?;
    print(&text)?;
    Ok(Exit::Done)
}
