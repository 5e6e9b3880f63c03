//! `wharf image import`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;

use super::progress_bar;
use crate::cli::output::Failure;
use crate::cli::settings::fetcher;
use crate::host::Paths;
use crate::image::{Changes, Digest, Imported, Options, Source, Store, import_admitted};
use crate::settings;
use crate::spec::Reference;
use crate::trust::{self, Gate, Given, TrustError, keys_folder};

/// What an image runs, as it is said on a command line.
#[derive(Args, Debug, Default)]
pub(in crate::cli) struct ConfigArgs {
    /// A word of the entry point; repeat it for more
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// A word of the command; repeat it for more
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    command: Vec<String>,
    /// A variable of the environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// The user, perhaps with `:GROUP`
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    user: String,
    /// The working directory
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = absolute)]
    workdir: String,
    /// The signal that stops it
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<crate::spec::Signal>,
}

impl ConfigArgs {
    pub(in crate::cli) fn changes(self) -> Changes {
        let Self { entrypoint, command, env, user, workdir, stop_signal } = self;
        Changes {
            entrypoint,
            command,
            environment: env,
            user,
            working_directory: workdir,
            stop_signal: stop_signal.map(|signal| signal.to_string()).unwrap_or_default(),
        }
    }
}

/// What to import, and how.
#[derive(Args, Debug, Default)]
pub(super) struct ImportArgs {
    /// A file, a folder, or `-` for standard input
    source: PathBuf,
    /// What the image is called, instead of what the source or its file name says
    #[arg(long, value_name = "REFERENCE")]
    name: Option<Reference>,
    /// Which image of several, by its name in the source
    #[arg(long, value_name = "NAME")]
    pick: Option<String>,
    /// A signature: a detached one of the archive, or one of the image; by default FILE.sig and FILE.asc are looked for
    /// where wharf.toml asks for signatures
    #[arg(long, value_name = "FILE")]
    signature: Vec<PathBuf>,
    /// The digest that the image's manifest must have
    #[arg(long, value_name = "sha256:…")]
    digest: Option<Digest>,
    #[command(flatten, next_help_heading = "For a root file system")]
    config: ConfigArgs,
}

/// What to load.
#[derive(Args, Debug)]
pub(super) struct LoadArgs {
    /// A file or a folder, instead of standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// What the image is called, instead of what the archive says
    #[arg(long, value_name = "REFERENCE")]
    name: Option<Reference>,
    /// Which image of several, by its name in the archive
    #[arg(long, value_name = "NAME")]
    pick: Option<String>,
}

pub(super) fn load(store: &Store, args: LoadArgs, paths: &Paths) -> Result<String, Failure> {
    let LoadArgs { input, name, pick } = args;
    let source = input.unwrap_or_else(|| PathBuf::from("-"));
    if source.as_os_str() == "-" && io::stdin().is_terminal() {
        return Err(Failure::usage("standard input is a terminal; name an archive with -i, or lead one in"));
    }
    let args = ImportArgs { source, name, pick, ..ImportArgs::default() };
    run(store, args, paths)
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

/// Signatures that were named, and those that lie beside the source.
fn given(source: &Path, named: &[PathBuf], pinned: Option<Digest>) -> Result<Given, TrustError> {
    let beside = [".sig", ".asc"].map(|ending| {
        let mut path = source.as_os_str().to_owned();
        path.push(ending);
        PathBuf::from(path)
    });
    let beside: Vec<_> = beside.into_iter().filter(|path| named.is_empty() && path.is_file()).collect();
    let all =
        |paths: &[PathBuf]| paths.iter().map(|path| trust::signature_in(path)).collect::<Result<Vec<_>, _>>();
    Ok(Given { named: all(named)?, beside: all(&beside)?, pinned, ..Given::default() })
}

pub(super) fn run(store: &Store, args: ImportArgs, paths: &Paths) -> Result<String, Failure> {
    let ImportArgs { source, name, pick, signature, digest, config } = args;
    let settings = settings::load(paths)?;
    let keys = keys_folder(paths);
    let fetch = fetcher(&settings, paths);
    let gate = Gate::new(&settings, &keys, given(&source, &signature, digest)?, &fetch, trust::now());
    let changes = config.changes();
    let bytes = std::fs::metadata(&source).ok().filter(|metadata| metadata.is_file()).map(|m| m.len());
    let bar = progress_bar(bytes);
    let source =
        if source.as_os_str() == "-" { Source::Stream(Box::new(io::stdin())) } else { Source::Path(source) };
    let options = Options { name, pick, changes, unpack: settings.unpack, ..Options::default() };
    let result = import_admitted(store, source, &options, &gate, &|bytes| bar.inc(bytes));
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
