//! Whether the host trusts the image that a container is to be started with.
//!
//! What costs nothing is decided here. Signatures are checked by `wharf`, which can read keys: the code for that is
//! many times the executor's own.

use std::process::{Command, Stdio};

use super::failure::{Failure, Status};
use crate::check::{Container, RootSource};
use crate::settings::Policy;

/// Where it is installed.
const WHARF: &str = "/usr/bin/wharf";

/// Lets an image be started, or not. `digest` is that of the manifest which was found.
pub(super) fn admit(policy: &Policy, container: &Container, digest: Option<&str>) -> Result<(), Failure> {
    let (RootSource::Image(reference), Some(digest)) = (&container.source, digest) else { return Ok(()) };
    match policy {
        Policy::Any => Ok(()),
        Policy::Digest if reference.digest().is_some() => Ok(()),
        Policy::Digest => {
            let problem = format!("{reference} is not pinned to a digest, and this host trusts it only so");
            let pinned = format!("{}@{digest}", reference.name());
            Err(Failure::new(Status::Config, problem)
                .hint(format!("write image = \"{pinned}\", if that is what is meant")))
        }
        Policy::Signed { keys } => ask(&reference.to_string(), digest, keys),
    }
}

fn ask(reference: &str, digest: &str, keys: &[String]) -> Result<(), Failure> {
    let output = Command::new(WHARF)
        .args(["image", "verify", "--signed", "--digest", digest, "--reference", reference])
        .args(keys.iter().flat_map(|key| ["--key", key]))
        // It says what it finds to this process, and nothing to systemd.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output();
    let output = output.map_err(|error| {
        let problem = format!("can't run {WHARF}, to check the signature of {reference}: {error}");
        Failure::new(Status::Config, problem)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words: Vec<_> = words.lines().map(|line| line.trim().trim_start_matches("error: ")).collect();
    let problem = match words.as_slice() {
        [] => format!("the signature of {reference} can't be checked: {WHARF} {}", output.status),
        words => words.join(", "),
    };
    Err(Failure::new(Status::Config, problem).hint(format!("`wharf image verify {reference}` says the same")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::spec::Document;

    fn container(image: &str) -> Container {
        let source = crate::report::Source::new("x.toml", format!("image = \"{image}\"\n"));
        let (document, findings) = Document::parse(&source);
        let checked = check::check(&"x".parse().expect("a name"), &document, findings);
        checked.container.expect("a container")
    }

    #[test]
    fn digests_cost_nothing() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = container(&format!("web@{digest}"));
        let named = container("web:1");
        assert_eq!(admit(&Policy::Any, &named, Some(&digest)), Ok(()));
        assert_eq!(admit(&Policy::Digest, &pinned, Some(&digest)), Ok(()));
        let failure = admit(&Policy::Digest, &named, Some(&digest)).expect_err("not pinned");
        assert!(failure.to_string().contains(&format!("image = \"web@{digest}\"")), "{failure}");
        // A folder has no digest, and no signer.
        assert_eq!(admit(&Policy::Digest, &named, None), Ok(()));
    }
}
