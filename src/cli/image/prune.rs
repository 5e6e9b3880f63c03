//! `wharf image prune`.

use std::fmt::Write as _;

use clap::Args;

use super::needs::needs;
use super::{short, size};
use crate::cli::output::{Exit, Failure, complain, harmless, print};
use crate::host::Paths;
use crate::image::{Prunable, Pruned, Store, Wish};

const AFTER_HELP: &str = "\
Takes away:
  images without a reference, that no container is declared with (by digest) or runs
  layers, blobs and signatures of no image
  downloads that broke off more than a week ago, and what `wharf fsck --repair` has set aside
  with --all: also images with references, unless a container or an image is declared with one
    of them, or a container runs; and every download that broke off

Declared is what the files in /etc/wharf, /run/wharf and /usr/lib/wharf name,
and the plans of the last reload and of the last start that worked. While one
of these files can't be read, no image is taken away.

Once a week, without --all: systemctl enable --now wharf-prune.timer

Examples:
  wharf image prune --dry-run
  wharf image prune --all --dry-run --json | jq .size

JSON: one object: images (references, digest, size), orphans (kind, path,
size), size (bytes on the disk, all together), kept (what stays, and why).

Exit status: 0 done, or nothing to do; 1 not done; 2 for wrong usage.";

/// Take away what nothing declared, running or named needs
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct PruneArgs {
    /// Also images with references that nothing declared or running uses
    #[arg(long, short)]
    all: bool,
    /// Only say what would go, with its size
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(store: &Store, args: &PruneArgs, paths: &Paths) -> Result<Exit, Failure> {
    let PruneArgs { all, dry_run, json } = *args;
    let pruned = store.prune(&needs(paths)?, Wish { all, dry_run })?;
    if json {
        print(&(serde_json::to_string_pretty(&pruned)? + "\n"))?;
        return Ok(Exit::Done);
    }
    let Pruned { images, orphans, size: total, kept } = pruned;
    let mut text = String::new();
    for Prunable { references, digest, size: bytes } in &images {
        let name = if references.is_empty() { "-".to_owned() } else { references.join(", ") };
        let _ = writeln!(text, "{:>9}  image {} {name}", size(*bytes), short(digest));
    }
    for orphan in &orphans {
        let _ = writeln!(text, "{:>9}  {}: {}", size(orphan.size), orphan.path.display(), orphan.kind.text());
    }
    let _ = match (images.is_empty() && orphans.is_empty(), dry_run) {
        (true, _) => writeln!(text, "nothing to take away"),
        (false, true) => writeln!(text, "{:>9}  would be free", size(total)),
        (false, false) => writeln!(text, "{:>9}  are free", size(total)),
    };
    print(&text)?;
    for why in kept {
        complain(&format!("note: {}\n", harmless(&why)));
    }
    Ok(Exit::Done)
}
