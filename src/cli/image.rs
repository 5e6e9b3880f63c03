//! `wharf image`: what is in the store, and how it gets in and out.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::output::{Exit, Failure, coloured, complain, error_text, print};
use crate::host::Paths;
use crate::image::{Changes, Imported, Options, Source, Store, import};
use crate::spec::Reference;

const EXIT_STATUS: &str = "\
Exit status: 0 done, and durable; 1 not done; 2 for wrong usage.";

/// Import, list, show, name and remove images
#[derive(Args)]
#[command(after_help = EXIT_STATUS)]
pub struct ImageArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Import an image from a file, a folder or standard input
    ///
    /// Takes tars of root file systems, archives of `docker save` and OCI archives, plain or compressed by
    /// gzip, zstd or xz, and OCI layouts in a folder. What it is, is seen from the content, never from the name.
    #[command(after_help = "Examples:
  wharf image import nginx.tar
  wharf image import --name web:1.2 layout/
  docker save nginx:1.26 | wharf image import -
  mmdebstrap --variant=minbase trixie - | wharf image import --name debian:13 --command /bin/bash -

Exit status: 0 imported and durable; 1 refused, and nothing is left of it; 2 for wrong usage.")]
    Import(ImportArgs),
    /// List the images of the store
    #[command(after_help = "Examples:\n  wharf image list\n  wharf image list --json | jq -r '.[].digest'")]
    List {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Show what an image runs and what it is made of
    #[command(after_help = "Example:\n  wharf image inspect nginx:1.26")]
    Inspect {
        /// The image's reference
        image: Reference,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Give an image another reference
    #[command(after_help = "Example:\n  wharf image tag nginx:1.26 web:stable")]
    Tag {
        /// A reference that it has
        image: Reference,
        /// The one that it gets
        new: Reference,
    },
    /// Take a reference away, and with an image's last one what no other image needs
    #[command(after_help = "Examples:
  wharf image remove nginx:1.25
  wharf image remove nginx@sha256:2cf2…    (the image, with all its references)

Exit status: 0 all removed; 1 one of them is not there, or in use by a running container; 2 for wrong usage.")]
    Remove {
        /// References; all that can be are removed
        #[arg(required = true)]
        images: Vec<Reference>,
    },
}

/// What to import, and how.
#[derive(Args, Debug)]
struct ImportArgs {
    /// A file, a folder, or `-` for standard input
    source: PathBuf,
    /// What the image is called, instead of what the source or its file name says
    #[arg(long, value_name = "REFERENCE")]
    name: Option<Reference>,
    /// Which image of several, by its name in the source
    #[arg(long, value_name = "NAME")]
    pick: Option<String>,
    /// For a root file system: a word of the entry point; repeat it for more
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// For a root file system: a word of the command; repeat it for more
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    command: Vec<String>,
    /// For a root file system: a variable of the environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// For a root file system: the user, perhaps with `:GROUP`
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    user: String,
    /// For a root file system: the working directory
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = absolute)]
    workdir: String,
    /// For a root file system: the signal that stops it
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<crate::spec::Signal>,
}

fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

fn absolute(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("the path must be absolute".to_owned())
    }
}

/// Runs the command.
pub fn run(args: ImageArgs, paths: &Paths) -> Result<Exit, Failure> {
    let store = Store::new(paths.state());
    match args.command {
        Command::Import(args) => print(&run_import(&store, args)?)?,
        Command::List { json } => print(&list(&store, json)?)?,
        Command::Inspect { image, json } => print(&inspect(&store, &image, json)?)?,
        Command::Tag { image, new } => store.tag(&image, &new)?,
        Command::Remove { images } => return remove(&store, &images),
    }
    Ok(Exit::Done)
}

fn run_import(store: &Store, args: ImportArgs) -> Result<String, Failure> {
    let ImportArgs { source, name, pick, entrypoint, command, env, user, workdir, stop_signal } = args;
    let changes = Changes {
        entrypoint,
        command,
        environment: env,
        user,
        working_directory: workdir,
        stop_signal: stop_signal.map(|signal| signal.to_string()).unwrap_or_default(),
    };
    let bytes = std::fs::metadata(&source).ok().filter(|metadata| metadata.is_file()).map(|m| m.len());
    let bar = progress_bar(bytes);
    let source =
        if source.as_os_str() == "-" { Source::Stream(Box::new(io::stdin())) } else { Source::Path(source) };
    let options = Options { name, pick, changes };
    let result = import(store, source, &options, &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let mut text = String::new();
    for Imported { reference, digest, layers, new_layers, devices } in result? {
        let name = reference.map_or_else(|| digest.clone(), |reference| reference.to_string());
        let _ = writeln!(text, "{name} {digest} ({layers} layers, {new_layers} new)");
        if devices > 0 {
            let _ =
                writeln!(text, "  {devices} device nodes were left out: containers get a /dev of their own");
        }
    }
    Ok(text)
}

/// On a terminal only; elsewhere it is silent.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn heading(text: &str) -> String {
    if coloured(&io::stdout()) { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// In units of 1000, as disks are sold and `df -H` counts.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

fn list(store: &Store, json: bool) -> Result<String, Failure> {
    let images = store.list()?;
    if json {
        return Ok(serde_json::to_string_pretty(&images)? + "\n");
    }
    let mut text = String::new();
    let mut rows = Vec::new();
    for image in &images {
        let names = if image.references.is_empty() { vec!["-".to_owned()] } else { image.references.clone() };
        for name in names {
            rows.push((name, short(&image.digest), image.layers, size(image.size), &image.architecture));
        }
    }
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0).max("IMAGE".len());
    let head = format!("{:width$}  {:19}  {:>6}  {:>9}  ARCH", "IMAGE", "DIGEST", "LAYERS", "SIZE");
    let _ = writeln!(text, "{}", heading(&head));
    for (name, digest, layers, size, architecture) in rows {
        let _ = writeln!(text, "{name:width$}  {digest:19}  {layers:>6}  {size:>9}  {architecture}");
    }
    Ok(text)
}

fn inspect(store: &Store, image: &Reference, json: bool) -> Result<String, Failure> {
    let details = store.inspect(image)?;
    if json {
        return Ok(serde_json::to_string_pretty(&details)? + "\n");
    }
    let run = &details.config.config;
    let words = |words: &[String]| words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ");
    let rows = [
        ("image", details.listed.references.join(", ")),
        ("digest", details.listed.digest.clone()),
        ("platform", format!("{}/{}", details.config.os, details.config.architecture)),
        ("created", details.listed.created.clone().unwrap_or_default()),
        ("size", size(details.listed.size)),
        ("entry point", words(&run.entrypoint)),
        ("command", words(&run.cmd)),
        ("user", run.user.clone()),
        ("directory", run.working_dir.clone()),
        ("stop signal", run.stop_signal.clone()),
    ];
    let mut text = String::new();
    for (key, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{} {value}", heading(&format!("{key:>12}")));
    }
    for variable in &run.env {
        let _ = writeln!(text, "{} {variable}", heading(&format!("{:>12}", "environment")));
    }
    for layer in &details.layer_details {
        let files = format!("{}, {} entries", size(layer.summary.bytes), layer.summary.entries);
        let _ = writeln!(text, "{} {} ({files})", heading(&format!("{:>12}", "layer")), layer.diff_id);
    }
    Ok(text)
}

fn remove(store: &Store, images: &[Reference]) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut text = String::new();
    for image in images {
        match store.remove(image) {
            Ok(removed) => {
                for reference in &removed.references {
                    let _ = writeln!(text, "removed {reference}");
                }
                if let Some(digest) = &removed.image {
                    let _ = writeln!(text, "removed {digest} and {} layers", removed.layers);
                }
            }
            Err(error) => {
                complain(&error_text(&error, coloured(&io::stderr())));
                exit = Exit::Failed;
            }
        }
    }
    print(&text).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}
