//! The administrator's command: one file per subcommand. With the binaries, the only code that prints.

mod apply;
mod changed;
mod check;
mod commit;
mod cp;
mod declared;
mod diff;
mod doctor;
mod elsewhere;
mod enable;
mod exec;
mod format;
mod fsck;
mod graph;
mod image;
mod inspect;
mod keys;
mod metrics;
mod network;
mod next;
mod origins;
mod out;
mod output;
mod plan;
mod port;
mod ps;
mod run;
mod settings;
mod stats;
mod top;
mod update;
mod usage;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::output::Exit;
use crate::host::Paths;

const AFTER_HELP: &str = "\
Starting, stopping and reading logs are systemd's:
  systemctl start nginx-container
  systemctl status nginx-container
  journalctl -u nginx-container -f

Examples:
  wharf check nginx
  wharf plan nginx
  wharf inspect nginx
  wharf enable web@blue
  wharf ps
  wharf stats
  wharf changed
  wharf run debian:13 cat /etc/os-release
  wharf apply
  wharf update
  wharf exec nginx ls -l /etc/nginx
  wharf shell nginx
  wharf cp nginx:/etc/nginx/nginx.conf .
  wharf doctor

Exit status:
  0  done
  1  it failed, or found mistakes
  2  the command line is wrong, or asks for what systemd does
  `run`, `exec` and `shell` end as the program does, or with 125 to 127: see their --help

Environment:
  WHARF_ROOT  the tree to look into, as with --root
  NO_COLOR    with any value but an empty one: no colours
  TMPDIR      where layers that are saved or pushed are made; /var/tmp without it

Files:
  /etc/wharf, /run/wharf, /usr/lib/wharf  containers, images and wharf.toml, as people write them
  /run/systemd/generator                  the units made of them
  /var/lib/wharf                          images, volumes and leases";

/// Containers as ordinary systemd services
///
/// One TOML file in /etc/wharf/containers makes NAME-container.service. systemd runs it; this command looks,
/// explains and prepares.
#[derive(Parser)]
#[command(name = "wharf", version, after_help = AFTER_HELP, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    /// Look into another tree, as a mounted disk or an image in the making [default: $WHARF_ROOT, else /]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::CheckArgs),
    Plan(plan::PlanArgs),
    Graph(graph::GraphArgs),
    Inspect(inspect::InspectArgs),
    Keys(keys::KeysArgs),
    Ps(ps::PsArgs),
    Stats(stats::StatsArgs),
    Top(top::TopArgs),
    Metrics(metrics::MetricsArgs),
    Port(port::PortArgs),
    Changed(changed::ChangedArgs),
    Run(Box<run::RunArgs>),
    Apply(apply::ApplyArgs),
    Update(update::UpdateArgs),
    Exec(exec::ExecArgs),
    Shell(exec::ShellArgs),
    Diff(diff::DiffArgs),
    Commit(commit::CommitArgs),
    Cp(cp::CpArgs),
    Enable(enable::EnableArgs),
    Disable(enable::DisableArgs),
    Image(image::ImageArgs),
    Fsck(fsck::FsckArgs),
    Volume(volume::VolumeArgs),
    Network(network::NetworkArgs),
    Doctor(doctor::DoctorArgs),
    #[command(flatten)]
    Elsewhere(elsewhere::Elsewhere),
}

/// The command line: its words are those of the manual pages and of completions, too.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Everything between the arguments and the exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe under `--help` is nobody's failure.
            let _ = error.print();
            if error.use_stderr() && exec::is_meant(std::env::args_os()) {
                return Exit::NotEntered.into();
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let paths = match cli.root {
        None => Paths::from_environment(),
        Some(root) => Paths::below(root),
    };
    // What reads no files needs no root.
    if !matches!(cli.command, Command::Keys(_) | Command::Elsewhere(_))
        && let Err(failure) = is_a_tree(&paths)
    {
        let exit = failure.report();
        let enters = matches!(cli.command, Command::Run(_) | Command::Exec(_) | Command::Shell(_));
        return if enters { Exit::NotEntered } else { exit }.into();
    }
    let outcome = match cli.command {
        Command::Ps(args) => ps::run(&args, &paths),
        Command::Stats(args) => stats::run(&args, &paths),
        Command::Top(args) => top::run(&args, &paths),
        Command::Metrics(args) => metrics::run(&args, &paths),
        Command::Port(args) => port::run(&args, &paths),
        Command::Changed(args) => changed::run(&args, &paths),
        Command::Run(args) => run::run(*args, &paths),
        Command::Apply(args) => apply::run(&args, &paths),
        Command::Update(args) => update::run(&args, &paths),
        Command::Exec(args) => exec::exec(args, &paths),
        Command::Shell(args) => exec::shell(args, &paths),
        Command::Diff(args) => diff::run(args, &paths),
        Command::Commit(args) => commit::run(args, &paths),
        Command::Cp(args) => cp::run(args, &paths),
        Command::Plan(args) => plan::run(&args, &paths),
        Command::Check(args) => check::run(&args, &paths),
        Command::Inspect(args) => inspect::run(&args, &paths),
        Command::Graph(args) => graph::run(&args, &paths),
        Command::Image(args) => image::run(args, &paths),
        Command::Fsck(args) => fsck::run(&args, &paths),
        Command::Volume(args) => volume::run(args, &paths),
        Command::Network(args) => network::run(args, &paths),
        Command::Doctor(args) => doctor::run(&args, &paths),
        Command::Keys(args) => keys::run(&args),
        Command::Enable(args) => enable::enable(&args, &paths),
        Command::Disable(args) => enable::disable(&args, &paths),
        Command::Elsewhere(command) => elsewhere::run(&command),
    };
    outcome.unwrap_or_else(|failure| failure.report()).into()
}

/// The root is no folder. A typo in it would find an empty host, with nothing wrong, and a store would be made there.
#[derive(Debug, thiserror::Error)]
#[error("can't look into the root {}", .path.display())]
struct NoRoot {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

fn is_a_tree(paths: &Paths) -> Result<(), output::Failure> {
    let path = paths.host("/");
    std::fs::read_dir(&path).map(drop).or_else(|source| match source.kind() {
        // What is below may be readable all the same.
        std::io::ErrorKind::PermissionDenied => Ok(()),
        _ => Err(NoRoot { path, source }.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::command_line;

    /// Every command below one, with its words.
    fn leaves(command: &clap::Command, above: &str) -> Vec<(String, clap::Command)> {
        let name = format!("{above} {}", command.get_name()).trim().to_owned();
        if command.has_subcommands() {
            command.get_subcommands().flat_map(|below| leaves(below, &name)).collect()
        } else {
            vec![(name, command.clone())]
        }
    }

    /// Those whose JSON is no list.
    const NO_LISTS: [(&str, &str); 12] = [
        ("wharf plan", "one plan"),
        ("wharf graph", "one picture"),
        ("wharf inspect", "one container"),
        ("wharf apply", "what was done, as it is done; `changed` lists the same"),
        ("wharf update", "what was done, as it is done"),
        ("wharf image pull", "what was fetched"),
        ("wharf image push", "what was sent"),
        ("wharf image inspect", "one image"),
        ("wharf image prune", "images, and what is of no image, which has other keys"),
        ("wharf fsck", "numbers, and lists of several kinds"),
        ("wharf volume inspect", "one volume"),
        ("wharf network inspect", "one network"),
    ];

    #[test]
    fn what_lists_something_has_format() {
        let has = |command: &clap::Command, word: &str| {
            command.get_arguments().any(|argument| argument.get_long() == Some(word))
        };
        let mut without = Vec::new();
        for (name, command) in leaves(&command_line(), "") {
            if has(&command, "json") && !has(&command, "format") {
                without.push(name);
            }
        }
        assert_eq!(without, NO_LISTS.map(|(name, _)| name));
    }

    #[test]
    fn help_has_examples_and_is_wrapped_once() {
        let leaves = leaves(&command_line(), "");
        assert!(leaves.len() > 25, "only {} commands were found", leaves.len());
        let mut wrong = Vec::new();
        for (name, command) in leaves {
            let help = command.get_after_help().or(command.get_after_long_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            if !command.is_hide_set() && !help.contains("Example") {
                wrong.push(format!("{name} has no example"));
            }
            for paragraph in help.split("\n\n") {
                let lines: Vec<&str> = paragraph.lines().collect();
                for (at, line) in lines.iter().enumerate() {
                    let width = line.chars().count();
                    // clap breaks at 100 columns, or a narrow terminal's; so must not what goes on below.
                    let next =
                        lines.get(at + 1).filter(|next| !line.starts_with(' ') && !next.starts_with(' '));
                    if (width > 100 && lines.len() > 1) || (width > 80 && next.is_some()) {
                        wrong.push(format!("{name}: {width} columns: {line}"));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
