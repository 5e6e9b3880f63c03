//! `wharf commit`: a new image of what a running container has become.

use clap::Args;

use super::diff::{Root, root_of};
use super::image::ConfigArgs;
use super::output::{Exit, Failure, print};
use crate::host::Paths;
use crate::image::{CommitOptions, Imported, Store, commit};
use crate::settings;
use crate::spec::{ContainerName, Reference};

/// Make an image of a running container
#[derive(Args)]
#[command(after_help = "\
The new image has the layers of the one that the container was started with, and one more: what `wharf diff` shows. \
The container goes on meanwhile; what it writes in that moment may be in the image or not. The layer has to keep within \
[unpack] of wharf.toml, as an imported one: the image can be loaded again where it was made.

Examples:
  wharf commit nginx nginx:patched
  wharf commit --comment 'before the update' --env MODE=repair nginx nginx:kept

Exit status: 0 done, and durable; 1 not done, and nothing is left of it; 2 for wrong usage.")]
pub struct CommitArgs {
    /// The container, which writes to its root: root = "ephemeral"
    name: ContainerName,
    /// What the new image is called
    reference: Reference,
    /// A remark for its history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command.
pub fn run(args: CommitArgs, paths: &Paths) -> Result<Exit, Failure> {
    let CommitArgs { name, reference, comment, config } = args;
    let Root { image, live, made } = root_of(&name, paths)?;
    let options = CommitOptions {
        changes: config.changes(),
        created: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        created_by: format!("wharf commit {name}"),
        comment,
        unpack: settings::load(paths)?.unpack,
    };
    let Imported { digest, layers, new_layers, .. } =
        commit(&Store::new(paths.state()), &image, &live, &made, &reference, &options)?;
    print(&format!("{reference} {digest} ({layers} layers, {new_layers} new)\n"))?;
    Ok(Exit::Done)
}
