//! `wharf image save`, `export` and `history`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{heading, progress_bar, size};
use crate::cli::format::Form;
use crate::cli::out;
use crate::cli::output::Failure;
use crate::image::{Format, Packing, Past, SaveOptions, Store, export, save};
use crate::spec::Reference;

/// What to save, and how.
#[derive(Args, Debug)]
pub(super) struct SaveArgs {
    /// References; all of them come into one archive
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<Reference>,
    /// The archive, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The form of the archive
    #[arg(long, value_enum, default_value_t = FormatArg::Oci)]
    format: FormatArg,
    /// Compress the layers
    #[arg(long, value_enum, value_name = "HOW")]
    compress: Option<PackingArg>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// An OCI layout in a tar, with every digest
    Oci,
    /// What `docker save` writes; loaded again, the image has another digest
    Docker,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PackingArg {
    Gzip,
    Zstd,
}

/// What to export, and where to.
#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// The image's reference
    image: Reference,
    /// The tar, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(store: &Store, args: &SaveArgs) -> Result<(), Failure> {
    let SaveArgs { images, output, format, compress } = args;
    let options = SaveOptions {
        format: match format {
            FormatArg::Oci => Format::Oci,
            FormatArg::Docker => Format::Docker,
        },
        packing: match compress {
            None => Packing::None,
            Some(PackingArg::Gzip) => Packing::Gzip,
            Some(PackingArg::Zstd) => Packing::Zstd,
        },
    };
    let bar = progress_bar(None);
    let result =
        out::write(output.as_deref(), |out| save(store, images, options, out, &|bytes| bar.inc(bytes)));
    bar.finish_and_clear();
    result
}

pub(super) fn run_export(store: &Store, args: &ExportArgs) -> Result<(), Failure> {
    let ExportArgs { image, output } = args;
    let bar = progress_bar(None);
    let result = out::write(output.as_deref(), |out| export(store, image, out, &|bytes| bar.inc(bytes)));
    bar.finish_and_clear();
    result
}

/// Those of a step.
const KEYS: &[&str] = &["created", "created-by", "comment", "diff-id", "size"];

pub(super) fn history(store: &Store, image: &Reference, form: &Form) -> Result<String, Failure> {
    let shape = form.shape(KEYS)?;
    let past = store.history(image)?;
    Ok(shape.text(&past, || steps(&past))?)
}

fn steps(past: &[Past]) -> String {
    let mut text = String::new();
    let _ =
        writeln!(text, "{}", heading(&format!("{:20}  {:>9}  {:19}  MADE BY", "CREATED", "SIZE", "LAYER")));
    for step in past {
        let created = step.created.as_deref().unwrap_or("-");
        // Without the fraction of a second that some tools write.
        let created = match created.split_once('.') {
            Some((whole, rest)) => {
                format!("{whole}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            None => created.to_owned(),
        };
        let (layer, bytes) = match &step.diff_id {
            Some(diff_id) => (super::short(diff_id), size(step.size)),
            None => ("-", "-".to_owned()),
        };
        let by = [step.created_by.as_str(), step.comment.as_str()].into_iter().find(|text| !text.is_empty());
        // Build files have lines of their own; here one step is one line. An image may say anything, also to a terminal.
        let by: String = by.unwrap_or("-").split_whitespace().collect::<Vec<_>>().join(" ");
        let by: String = by.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(text, "{created:20}  {bytes:>9}  {layer:19}  {by}");
    }
    text
}
