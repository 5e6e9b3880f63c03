//! `wharf image verify`: what a start asks about an image's trust, for people and for the executor.

use std::fmt::Write as _;

use clap::Args;

use super::own::{Own, Owns};
use crate::cli::output::{Exit, Failure, complain, print};
use crate::cli::settings::fetcher;
use crate::host::Paths;
use crate::image::{Admission, Digest, Entering, Store};
use crate::settings;
use crate::settings::Policy;
use crate::spec::Reference;
use crate::trust::{self, Asked, Gate, Given, Trusted, keys_folder};

const AFTER_HELP: &str = "\
Goes by what the image's own file says (`trust` and `keys` in
images/NAME.toml, or in the drop-ins for all images), or else by [trust] in
wharf.toml; by the keys in /etc/wharf/keys as they are now, and the signatures
that the store keeps: as a container's start does, once systemd has read the
files (systemctl daemon-reload). With --fetch, signatures are looked for in
the registry's lookaside, too, and the good ones kept: for an image that came
before it was signed, or before wharf.toml asked for it.

Example:
  wharf image verify nginx:1.26

Exit status: 0 a container may be started with it; 1 it may not; 2 for wrong usage.";

/// Check whether this host trusts an image
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct VerifyArgs {
    /// The image's reference
    #[arg(required_unless_present = "reference")]
    image: Option<Reference>,
    /// As a start asks: the reference in the container's file
    #[arg(long, requires = "digest", conflicts_with = "image", hide = true)]
    reference: Option<Reference>,
    /// And the image that it has found
    #[arg(long, requires = "reference", hide = true)]
    digest: Option<Digest>,
    /// The policy of the container's plan: signed, and by which keys
    #[arg(long, requires = "reference", hide = true)]
    signed: bool,
    /// Names of files of keys
    #[arg(long, value_name = "FILE", requires = "signed", hide = true)]
    key: Vec<String>,
    /// Look for signatures in the registry's lookaside, and keep the good ones
    #[arg(long)]
    fetch: bool,
}

pub(super) fn run(store: &Store, args: &VerifyArgs, paths: &Paths) -> Result<Exit, Failure> {
    let VerifyArgs { image, reference, digest: digest_of_start, signed, key, fetch: fetches } = args;
    let Some(reference) = image.as_ref().or(reference.as_ref()) else {
        return Err(Failure::usage("name an image"));
    };
    let digest = match digest_of_start {
        Some(digest) => *digest,
        None => store.inspect(reference)?.listed.digest.parse()?,
    };
    let settings = settings::load(paths)?;
    let keys = keys_folder(paths);
    // A start says what its plan has; for a person it is looked up as for a plan.
    let (own, said_by) = match digest_of_start {
        Some(_) => (signed.then(|| Policy::Signed { keys: key.clone() }), None),
        None => {
            let owns = Owns::read(paths);
            let Own { policy, file, .. } = owns.of(reference);
            let by = policy.as_ref().map(|_| match file {
                Some(file) => file.display().to_string(),
                None => "the drop-ins for all images (image.toml.d)".to_owned(),
            });
            (policy, by)
        }
    };
    let policy = settings.policy(reference, own.as_ref());
    if let Some(by) = &said_by {
        complain(&format!("note: its policy is that of {by}\n"));
    }
    if *fetches {
        let entering = Entering { reference: reference.clone(), digest, kept: store.signatures(&digest) };
        let fetch = fetcher(&settings, paths);
        let given =
            Given { policy: own.clone(), by_digest: reference.digest().is_some(), ..Given::default() };
        let gate = Gate::new(&settings, &keys, given, &fetch, trust::now());
        for (digest, signature) in gate.admit(&[entering])? {
            store.keep_signature(&digest, &signature)?;
        }
    }
    let asked = Asked { reference, digest: &digest };
    let trusted = trust::check(&settings, policy, &keys, asked, &store.signatures(&digest), trust::now())?;
    let mut text = format!("{reference} {digest}: ");
    let _ = match trusted {
        Trusted::Any if said_by.is_some() => writeln!(text, "its own file asks for nothing"),
        Trusted::Any => writeln!(text, "wharf.toml asks for nothing"),
        Trusted::Pinned => writeln!(text, "pinned to this digest"),
        Trusted::Signed(signer) => {
            let when = signer.signed.and_then(|when| jiff::Timestamp::from_second(i64::from(when)).ok());
            let when = when.map(|when| format!(" on {}", when.strftime("%Y-%m-%d"))).unwrap_or_default();
            writeln!(text, "signed{when} by {} ({})", signer.fingerprint, signer.user)
        }
    };
    print(&text)?;
    Ok(Exit::Done)
}
