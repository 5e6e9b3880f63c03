//! `wharf image push`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::size;
use crate::cli::output::Failure;
use crate::host::Paths;
use crate::image::{Digest, Store, write_layer};
use crate::registry::{self, Client, Compression, Credentials, Pushed};
use crate::settings::Settings;
use crate::spec::Reference;

/// What to push, and where.
#[derive(Args, Debug)]
pub(super) struct PushArgs {
    /// The image's reference
    image: Reference,
    /// Where it goes, if that isn't what it is called
    destination: Option<Reference>,
    /// How layers are packed that the registry doesn't have
    #[arg(long, value_enum, default_value_t = Packing::Gzip)]
    compress: Packing,
    /// A file of credentials that is looked into before the usual ones
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// As it is said on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Packing {
    /// As everybody reads
    Gzip,
    /// Smaller and quicker; not for old clients
    Zstd,
    /// As they are
    None,
}

pub(super) fn run(
    store: &Store,
    settings: Settings,
    paths: &Paths,
    args: PushArgs,
) -> Result<String, Failure> {
    let PushArgs { image, destination, compress, auth_file, json } = args;
    let compression = match compress {
        Packing::Gzip => Compression::Gzip,
        Packing::Zstd => Compression::Zstd,
        Packing::None => Compression::None,
    };
    let credentials = Credentials::of_host(paths).first(auth_file);
    let client = Client::new(settings, credentials, Arc::new(()));
    let tars = |diff_id: &Digest, bottom: bool, out: &mut dyn Write| {
        write_layer(store, diff_id, bottom, out).map(|_| ())
    };
    let pushed =
        registry::push(&client, store, &image, destination.as_ref().unwrap_or(&image), compression, &tars)?;
    if json {
        return Ok(serde_json::to_string_pretty(&pushed)? + "\n");
    }
    let Pushed { reference, digest, unchanged, uploaded_layers, uploaded } = pushed;
    let bytes = size(uploaded);
    let mut text = format!("{reference} {digest} ({uploaded_layers} layers uploaded, {bytes})\n");
    if !unchanged {
        text.push_str("  layers were packed again, so the digest there is another than here\n");
    }
    Ok(text)
}
