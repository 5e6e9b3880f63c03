//! `wharf image pull`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::json;

use super::{progress_bar, short, size};
use crate::cli::output::{Exit, Failure, coloured, complain, error_text, print};
use crate::host::Paths;
use crate::image::{Options, Store};
use crate::registry::{
    self, Client, Credentials, Pulled, RegistryError, Watch, WebAddress, pull, pull_from_web,
};
use crate::settings::Settings;
use crate::spec::{Platform, Reference};
use crate::sys::signals::Signals;
use crate::trust::{self, Gate, Given, keys_folder};

/// What to pull, and how.
#[derive(Args, Debug)]
pub(super) struct PullArgs {
    /// References, or addresses of web servers
    #[arg(required = true, value_name = "REFERENCE|URL")]
    images: Vec<String>,
    /// What the image is called in the store, instead of what it is called there; for one image
    #[arg(long, value_name = "REFERENCE")]
    name: Option<Reference>,
    /// For another kind of machine: linux/arm64, linux/arm/v7
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// A file of credentials that is looked into before the usual ones
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// An array of objects: reference, digest, index, from, layers, new-layers, fetched (bytes)
    #[arg(long)]
    json: bool,
    /// No bars and no notes, and of each image only the digest
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(store: &Store, settings: Settings, paths: &Paths, args: PullArgs) -> Result<Exit, Failure> {
    let PullArgs { images, name, platform, auth_file, json, quiet } = args;
    if name.is_some() && images.len() > 1 {
        return Err(Failure::usage("--name can be given to one image; pull them one by one"));
    }
    let options = Options { name, platform, unpack: settings.unpack, ..Options::default() };
    let keys = keys_folder(paths);
    let bars = Arc::new(Bars::new(quiet));
    let credentials = Credentials::of_host(paths).first(auth_file);
    let client = Arc::new(Client::new(settings.clone(), credentials, Arc::clone(&bars) as Arc<dyn Watch>));
    end_on_signals(&client)?;
    let fetch = |address: &str, most| registry::get(&client, address, most);
    let mut exit = Exit::Done;
    let mut pulled = Vec::new();
    for image in &images {
        let gate = Gate::new(&settings, &keys, Given::default(), &fetch, trust::now());
        match one(&client, store, image, &options, &gate) {
            Ok(images) => pulled.extend(images),
            Err(error) => {
                bars.clear();
                complain(&error_text(&error, coloured(&io::stderr())));
                exit = Exit::Failed;
                if matches!(error, RegistryError::Cancelled) {
                    break;
                }
            }
        }
    }
    bars.clear();
    let text = if json { as_json(&pulled)? } else { as_text(&pulled, quiet) };
    print(&text).map_err(|failure| failure.unread(exit))?;
    Ok(exit)
}

fn one(
    client: &Arc<Client>,
    store: &Store,
    image: &str,
    options: &Options,
    gate: &Gate<'_>,
) -> Result<Vec<Pulled>, RegistryError> {
    if WebAddress::is_meant(image) {
        let bar = progress_bar(None);
        let address = WebAddress::parse(image)?;
        let result = pull_from_web(client, store, &address, options, gate, &|bytes| bar.inc(bytes));
        bar.finish_and_clear();
        return result;
    }
    let reference: Reference = image
        .parse()
        .map_err(|error| RegistryError::Unclear(format!("`{image}` is not a reference: {error}")))?;
    pull(client, store, &reference, options, gate).map(|pulled| vec![pulled])
}

/// SIGINT and SIGTERM end the downloads, so that what is staged is cleared away at once. Only what is being
/// written to the disk at that moment is waited for.
fn end_on_signals(client: &Arc<Client>) -> Result<(), Failure> {
    let signals = Signals::take(&[libc::SIGINT, libc::SIGTERM])?;
    let client = Arc::clone(client);
    std::thread::spawn(move || {
        loop {
            let mut ready = [PollFd::new(&signals, PollFlags::IN)];
            if poll(&mut ready, None).is_ok() && signals.next().is_some() {
                client.cancel();
            }
        }
    });
    Ok(())
}

fn as_text(pulled: &[Pulled], quiet: bool) -> String {
    let mut text = String::new();
    for Pulled { image, from, index, fetched } in pulled {
        let digest = index.map_or_else(|| image.digest.clone(), |index| index.to_string());
        if quiet {
            let _ = writeln!(text, "{digest}");
            continue;
        }
        let name = image.reference.as_ref().map_or_else(|| from.clone(), ToString::to_string);
        let (layers, new) = (image.layers, image.new_layers);
        let _ = writeln!(text, "{name} {digest} ({layers} layers, {new} new, {} fetched)", size(*fetched));
        if image.devices > 0 {
            let devices = image.devices;
            let _ =
                writeln!(text, "  {devices} device nodes were left out: containers get a /dev of their own");
        }
    }
    text
}

fn as_json(pulled: &[Pulled]) -> Result<String, Failure> {
    let objects: Vec<_> = pulled
        .iter()
        .map(|Pulled { image, from, index, fetched }| {
            json!({
                "reference": image.reference,
                "digest": image.digest,
                "index": index.map(|index| index.to_string()),
                "from": from,
                "layers": image.layers,
                "new-layers": image.new_layers,
                "fetched": fetched,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&objects)? + "\n")
}

/// A bar per layer on a terminal; notes anywhere.
struct Bars {
    quiet: bool,
    /// Nothing where stderr is no terminal.
    all: Option<MultiProgress>,
    layers: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    fn new(quiet: bool) -> Self {
        let all = (io::stderr().is_terminal() && !quiet).then(MultiProgress::new);
        Self { quiet, all, layers: Mutex::default() }
    }

    fn clear(&self) {
        if let Some(all) = &self.all {
            let _ = all.clear();
        }
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Watch for Bars {
    fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        let say = || complain(&format!("note: {text}\n"));
        match &self.all {
            Some(all) => all.suspend(say),
            None => say(),
        }
    }

    fn layer(&self, digest: &str, bytes: u64) {
        let Some(all) = &self.all else { return };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}");
        let bar = ProgressBar::new(bytes).with_message(short(digest).to_owned());
        let bar = all.add(match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        });
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = layers.insert(digest.to_owned(), bar) {
            old.finish_and_clear();
        }
    }

    fn received(&self, digest: &str, bytes: u64) {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = layers.get(digest) {
            bar.set_position(bytes);
        }
    }
}
