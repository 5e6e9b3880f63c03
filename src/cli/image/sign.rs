//! `wharf image sign`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::output::{Exit, Failure, print};
use crate::host::Paths;
use crate::image::{Digest, Store};
use crate::settings;
use crate::spec::Reference;
use crate::trust;

const AFTER_HELP: &str = "\
The signature says that a manifest's digest goes by a reference: a simple
signature, as `skopeo standalone-sign` makes it and Podman reads it. gpg
signs, with its default key or the one of --key; it asks for a passphrase or a
card as always. Without -o and --lookaside the store keeps it.

With --archive, gpg makes a detached signature of the file, in FILE.sig, that `wharf image import` finds there.

Examples:
  wharf image sign registry.example/web:1.2
  wharf image sign web:1.2 --as registry.example/web:1.2 --key 0xA1B2C3D4 \\
    --lookaside /srv/signatures
  wharf image sign --archive web.tar
  wharf image sign web:1.2 -o signature-1

Exit status: 0 signed; 1 not signed; 2 for wrong usage.";

/// Sign an image, or an archive, with gpg
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct SignArgs {
    /// The image's reference
    #[arg(required_unless_present = "archive", conflicts_with = "archive")]
    image: Option<Reference>,
    /// A file to sign instead of an image of the store
    #[arg(long, value_name = "FILE", conflicts_with_all = ["reference", "lookaside"])]
    archive: Option<PathBuf>,
    /// Which of gpg's keys: an id, a fingerprint or an address
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// What the image goes by where it is used, if that is something else than here
    #[arg(long = "as", value_name = "REFERENCE")]
    reference: Option<Reference>,
    /// Write the signature there; `-` is standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "lookaside")]
    output: Option<PathBuf>,
    /// Add it to a folder of signatures, for a web server to serve
    #[arg(long, value_name = "DIR")]
    lookaside: Option<PathBuf>,
}

/// The signature can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}", .path.display())]
struct WriteError {
    path: PathBuf,
    source: io::Error,
}

pub(super) fn run(store: &Store, args: SignArgs, paths: &Paths) -> Result<Exit, Failure> {
    let SignArgs { image, archive, key, reference, output, lookaside } = args;
    let key = key.as_deref();
    if let Some(archive) = archive {
        let to = output.unwrap_or_else(|| {
            let mut name = OsString::from(&archive);
            name.push(".sig");
            name.into()
        });
        trust::detached(&archive, &to, key)?;
        print(&format!("{}\n", to.display()))?;
        return Ok(Exit::Done);
    }
    let Some(image) = image else { return Err(Failure::usage("name an image, or a file with --archive")) };
    let settings = settings::load(paths)?;
    let digest: Digest = store.inspect(&image)?.listed.digest.parse()?;
    let named = reference.as_ref().unwrap_or(&image);
    let Some(tag) = named.tag() else {
        return Err(Failure::usage(format!(
            "{named} has no tag; say what the image goes by: --as {}:TAG",
            named.name()
        )));
    };
    // What others call it: this host's aliases are known here only.
    let repository = trust::repository(&settings, named);
    let signature = trust::sign(&trust::payload(&format!("{repository}:{tag}"), &digest, trust::now()), key)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError { path, source }
    };
    let text = match (output, lookaside) {
        (Some(to), _) if to.as_os_str() == "-" => {
            io::stdout().lock().write_all(&signature).map_err(failed(&to))?;
            return Ok(Exit::Done);
        }
        (Some(to), _) => {
            fs::write(&to, &signature).map_err(failed(&to))?;
            format!("{}\n", to.display())
        }
        (None, Some(folder)) => {
            let folder = trust::folder_in(&folder, &repository, &digest);
            fs::create_dir_all(&folder).map_err(failed(&folder))?;
            let to = add(&folder, &signature)?;
            format!("{}\n", to.display())
        }
        (None, None) => {
            store.keep_signature(&digest, &signature)?;
            format!("signed {repository}:{tag} {digest}\n")
        }
    };
    print(&text)?;
    Ok(Exit::Done)
}

/// Under the first free number: readers stop at the first that is missing.
fn add(folder: &Path, signature: &[u8]) -> Result<PathBuf, WriteError> {
    for number in 1_u32.. {
        let path = folder.join(format!("signature-{number}"));
        let made = fs::OpenOptions::new().write(true).create_new(true).open(&path);
        match made.and_then(|mut file| file.write_all(signature)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(WriteError { path, source }),
            Ok(()) => return Ok(path),
        }
    }
    Err(WriteError { path: folder.to_owned(), source: io::ErrorKind::AlreadyExists.into() })
}
