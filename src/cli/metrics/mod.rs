//! `wharf metrics`: what containers are and use, for a monitoring system.

mod families;
mod file;
mod text;

use std::path::PathBuf;

use clap::Args;

use self::text::{Syntax, render};
use super::output::{Exit, Failure, print};
use super::usage::Gatherer;
use crate::host::Paths;
use crate::usage::cgroup::Depth;

const AFTER_HELP: &str = "\
Every declared container, running or not; what isn't known has no line. With
--textfile the text goes into a file, at one moment and for everybody to read:
node_exporter's textfile collector takes each *.prom of its folder. Twice a
minute, for the folder of Debian: systemctl enable --now wharf-metrics.timer

Another folder is named by a drop-in: systemctl edit wharf-metrics.service
  [Unit]
  ConditionPathIsDirectory=
  ConditionPathIsDirectory=/srv/textfile
  [Service]
  ExecStart=
  ExecStart=/usr/bin/wharf metrics --textfile /srv/textfile/wharf.prom
  ReadWritePaths=/srv/textfile

OpenMetrics is what Prometheus itself reads. The Pushgateway and others that
know no type `info` take --format prometheus.

Examples:
  wharf metrics
  wharf metrics --format prometheus |
    curl --data-binary @- http://pushgateway.example:9091/metrics/job/wharf
  wharf metrics --textfile /var/lib/prometheus/node-exporter/wharf.prom

Exit status: 0 written; 1 not, and the file is what it was; 2 for wrong usage.";

/// Print what containers are and use, in OpenMetrics form
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct MetricsArgs {
    /// Into this file, in the place of an older one
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
    /// Without it: openmetrics, and prometheus with --textfile
    #[arg(long, value_enum)]
    format: Option<Syntax>,
}

/// Runs the command.
pub fn run(args: &MetricsArgs, paths: &Paths) -> Result<Exit, Failure> {
    let MetricsArgs { textfile, format } = args;
    let usual = if textfile.is_some() { Syntax::Prometheus } else { Syntax::Openmetrics };
    let seen = Gatherer::new(paths, &[], true, Depth::Whole)?.look()?;
    let text = render(&families::families(&seen), format.unwrap_or(usual));
    match textfile {
        Some(path) => file::replace(path, &text)?,
        None => print(&text)?,
    }
    Ok(Exit::Done)
}
