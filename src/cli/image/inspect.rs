//! `wharf image inspect`.

use std::fmt::Write as _;

use super::{heading, size};
use crate::cli::output::{Failure, plain};
use crate::image::Store;
use crate::spec::Reference;

pub(super) fn run(store: &Store, image: &Reference, json: bool) -> Result<String, Failure> {
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
        let _ = writeln!(text, "{} {}", heading(&format!("{key:>12}")), plain(value));
    }
    for variable in &run.env {
        let _ = writeln!(text, "{} {}", heading(&format!("{:>12}", "environment")), plain(variable));
    }
    for layer in &details.layer_details {
        let files = format!("{}, {} entries", size(layer.summary.bytes), layer.summary.entries);
        let _ = writeln!(text, "{} {} ({files})", heading(&format!("{:>12}", "layer")), layer.diff_id);
    }
    Ok(text)
}
