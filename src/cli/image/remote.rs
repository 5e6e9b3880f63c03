//! `wharf image inspect --remote`.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{heading, size};
use crate::cli::output::{Failure, plain};
use crate::host::Paths;
use crate::image::Store;
use crate::registry::{Client, Credentials, look};
use crate::settings::Settings;
use crate::spec::{Platform, Reference};

pub(super) fn run(
    store: &Store,
    settings: Settings,
    paths: &Paths,
    image: &Reference,
    platform: Option<&Platform>,
    json: bool,
) -> Result<String, Failure> {
    let client = Client::new(settings, Credentials::of_host(paths), Arc::new(()));
    let seen = look(&client, store, image, platform)?;
    if json {
        return Ok(serde_json::to_string_pretty(&seen)? + "\n");
    }
    let run = &seen.config.config;
    let words = |words: &[String]| words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ");
    let missing: u64 = seen.layers.iter().filter(|layer| !layer.here).map(|layer| layer.size).sum();
    let here = seen.layers.iter().filter(|layer| layer.here).count();
    let sizes = match here {
        0 => format!("{} to fetch", size(seen.size)),
        here => format!("{}, of which {} to fetch ({here} layers are here)", size(seen.size), size(missing)),
    };
    let platforms: Vec<_> = seen.platforms.iter().filter_map(|one| one.platform.clone()).collect();
    let rows = [
        ("image", seen.reference.clone()),
        ("digest", seen.digest.clone()),
        ("platforms", platforms.join(", ")),
        ("manifest", if seen.manifest == seen.digest { String::new() } else { seen.manifest.clone() }),
        ("platform", format!("{}/{}", seen.config.os, seen.config.architecture)),
        ("created", seen.config.created.clone().unwrap_or_default()),
        ("size", sizes),
        ("entry point", words(&run.entrypoint)),
        ("command", words(&run.cmd)),
        ("user", run.user.clone()),
        ("directory", run.working_dir.clone()),
        ("stop signal", run.stop_signal.clone()),
    ];
    let mut text = String::new();
    for (key, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "{} {}", heading(&format!("{key:>12}")), plain(value));
    }
    for variable in &run.env {
        let _ = writeln!(text, "{} {}", heading(&format!("{:>12}", "environment")), plain(variable));
    }
    for layer in &seen.layers {
        let state = if layer.here { "here" } else { "to fetch" };
        let key = heading(&format!("{:>12}", "layer"));
        let _ = writeln!(text, "{key} {} ({}, {state})", plain(&layer.digest), size(layer.size));
    }
    Ok(text)
}
