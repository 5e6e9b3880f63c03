//! `wharf image`: what is in the store, and how it gets in and out.

mod import;
mod inspect;
mod list;
mod login;
mod needs;
mod own;
pub(super) mod provide;
mod prune;
mod pull;
mod push;
mod remote;
mod remove;
mod save;
mod sign;
mod verify;

use std::io::{self, IsTerminal};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

pub(super) use self::import::ConfigArgs;
use self::import::{ImportArgs, LoadArgs};
use self::login::{LoginArgs, LogoutArgs};
pub(super) use self::needs::needs;
pub(super) use self::own::{Own, Owns};
use self::pull::PullArgs;
use self::push::PushArgs;
use self::save::{ExportArgs, SaveArgs};
use super::format::Form;
use super::output::{Exit, Failure, coloured, print};
pub(super) use crate::doctor::size;
use crate::host::Paths;
use crate::image::Store;
use crate::settings;
use crate::spec::{ImageName, Platform, Reference};

const EXIT_STATUS: &str = "\
Exit status: 0 done, and durable; 1 not done; 2 for wrong usage.";

/// Import, pull, list, show, name and remove images
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
    /// Pull images from registries and web servers
    ///
    /// A reference names a registry, `docker.io/library/nginx:1.26`, or is short and stands under `aliases` in
    /// wharf.toml. An address that ends with a slash, or has no dot in its last part, is an OCI layout on a web
    /// server; any other one is an archive, as `wharf image import` takes them. What stands behind a `#` picks
    /// one image of several. What is in the store is never fetched again, and what broke off is gone on with.
    #[command(after_help = "Examples:
  wharf image pull docker.io/library/nginx:1.26
  wharf image pull nginx@sha256:2cf2…      (by its digest, for what must not change)
  wharf image pull --name web:1 https://host.example/images/#v1
  wharf image pull --name debian:13 https://host.example/trixie.tar.zst

Exit status: 0 all pulled and durable; 1 one of them isn't; 2 for wrong usage.")]
    Pull(PullArgs),
    /// Log in to a registry, and keep that
    ///
    /// The registry is asked whether it knows the login before it is kept, in /etc/wharf/auth.json. It is kept as
    /// it is, readable by root.
    #[command(after_help = "Examples:
  wharf image login registry.example
  wharf image login --username me --password-stdin registry.example <password

Exit status: 0 accepted and kept; 1 not; 2 for wrong usage.")]
    Login(LoginArgs),
    /// Forget a login
    #[command(after_help = "Example:\n  wharf image logout registry.example

Exit status: 0 gone; 1 there was none; 2 for wrong usage.")]
    Logout(LogoutArgs),
    /// Push an image to a registry
    ///
    /// What the registry has is not sent again. The tag is moved last: whoever pulls meanwhile gets the old image or
    /// the new one, whole.
    #[command(after_help = "Examples:
  wharf image push registry.example/team/web:1
  wharf image push web:1 registry.example/team/web:1
  wharf image push --compress zstd web:1 registry.example/team/web:1

Exit status: 0 pushed; 1 not, and the tag is what it was; 2 for wrong usage.")]
    Push(PushArgs),
    /// Import an image from standard input or a file, as `image import` does
    #[command(after_help = "Examples:
  ssh other wharf image save nginx:1.26 | wharf image load
  wharf image load -i nginx.tar

Exit status: 0 imported and durable; 1 refused, and nothing is left of it; 2 for wrong usage.")]
    Load(LoadArgs),
    /// Write images as one archive
    ///
    /// The layers are the very tars that they were imported from. Loaded again, an image has the digest that it has
    /// here, and the same images make the same bytes. A file is there whole and durable, or not at all.
    #[command(after_help = "Examples:
  wharf image save -o nginx.tar nginx:1.26
  wharf image save nginx:1.26 redis:7 | ssh other wharf image load
  wharf image save --format docker nginx:1.26 | docker load

Exit status: 0 written; 1 not; 2 for wrong usage, such as writing to a terminal.")]
    Save(SaveArgs),
    /// Write an image's root file system as one tar, all layers merged
    #[command(after_help = "Examples:
  wharf image export nginx:1.26 | tar -tv
  wharf image export -o root.tar nginx:1.26

Exit status: 0 written; 1 not; 2 for wrong usage, such as writing to a terminal.")]
    Export(ExportArgs),
    /// Show the steps in which an image was made, the last first
    #[command(after_help = "Examples:
  wharf image history nginx:1.26
  wharf image history --format '{created} {size} {created-by}' nginx:1.26

JSON: an array of objects: created (RFC 3339) where it is known, created-by,
comment where there is one, diff-id of the layer that it made, where it made
one, size (bytes of that layer's files).

Exit status: 0 shown; 1 there is no such image, or it can't be read; 2 for wrong usage.")]
    History {
        /// The image's reference
        image: Reference,
        #[command(flatten)]
        form: Form,
    },
    /// List the images of the store
    #[command(
        after_help = "OWN is what the disk would have back without the image, SHARED what other images need as well.

Examples:\n  wharf image list\n  wharf image list --json | jq -r '.[].digest'
  wharf image list --format '{digest} {disk.own}'

JSON: an array of objects: references, digest, architecture, created, size
(bytes of the contents of all files), layers (how many), disk: an object with
own and shared, in bytes on the disk.

Exit status: 0 all are listed; 1 something is broken: stderr says what, and
all else is listed; 2 for wrong usage."
    )]
    List {
        #[command(flatten)]
        form: Form,
    },
    /// Show what an image runs and what it is made of
    #[command(after_help = "Examples:
  wharf image inspect nginx:1.26
  wharf image inspect --remote docker.io/library/nginx:1.27

Exit status: 0 shown; 1 there is no such image, or it can't be read or asked for; 2 for wrong usage.")]
    Inspect {
        /// The image's reference
        image: Reference,
        /// At its registry, without pulling it
        #[arg(long)]
        remote: bool,
        /// With --remote: for another kind of machine
        #[arg(long, value_name = "OS/ARCH[/VARIANT]", requires = "remote")]
        platform: Option<Platform>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Give an image another reference
    #[command(after_help = "Example:\n  wharf image tag nginx:1.26 web:stable

Exit status: 0 it has the reference, durably; 1 not: there is no such image, for one; 2 for wrong usage.")]
    Tag {
        /// A reference that it has
        image: Reference,
        /// The one that it gets
        new: Reference,
    },
    /// Make sure that a declared image is in the store (its unit runs this)
    #[command(hide = true)]
    Provide {
        /// What the unit is called before `-image.service`
        name: ImageName,
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
    Prune(prune::PruneArgs),
    Sign(sign::SignArgs),
    Verify(verify::VerifyArgs),
}

/// Runs the command.
pub fn run(args: ImageArgs, paths: &Paths) -> Result<Exit, Failure> {
    let store = Store::new(paths.state());
    match args.command {
        Command::Import(args) => print(&import::run(&store, args, paths)?)?,
        Command::Load(args) => print(&import::load(&store, args, paths)?)?,
        Command::Save(args) => save::run(&store, &args)?,
        Command::Export(args) => save::run_export(&store, &args)?,
        Command::History { image, form } => print(&save::history(&store, &image, &form)?)?,
        Command::List { form } => return list::run(&store, &form),
        Command::Pull(args) => return pull::run(&store, settings::load(paths)?, paths, args),
        Command::Login(args) => print(&login::login(settings::load(paths)?, paths, args)?)?,
        Command::Logout(args) => print(&login::logout(paths, args)?)?,
        Command::Push(args) => print(&push::run(&store, settings::load(paths)?, paths, args)?)?,
        Command::Inspect { image, remote: true, platform, json } => {
            print(&remote::run(&store, settings::load(paths)?, paths, &image, platform.as_ref(), json)?)?;
        }
        Command::Inspect { image, json, .. } => print(&inspect::run(&store, &image, json)?)?,
        Command::Tag { image, new } => store.tag(&image, &new)?,
        Command::Provide { name } => print(&provide::run(paths, &name)?)?,
        Command::Prune(args) => return prune::run(&store, &args, paths),
        Command::Sign(args) => return sign::run(&store, args, paths),
        Command::Verify(args) => return verify::run(&store, &args, paths),
        Command::Remove { images } => return remove::run(paths, &store, &images),
    }
    Ok(Exit::Done)
}

/// On a terminal only; elsewhere it is silent.
pub(super) fn progress_bar(bytes: Option<u64>) -> ProgressBar {
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

pub(super) fn heading(text: &str) -> String {
    if coloured(&io::stdout()) { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}
