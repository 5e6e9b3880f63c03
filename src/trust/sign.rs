//! Making signatures, with the user's own gpg: secret keys, smart cards and passphrases are its business.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::simple::Payload;
use crate::image::Digest;

/// gpg didn't sign.
#[derive(Debug, thiserror::Error)]
pub enum GpgError {
    /// It can't be run.
    #[error("can't run gpg, which makes the signature; on Debian: apt install gpg")]
    Run(#[source] std::io::Error),
    /// It refused.
    #[error("gpg made no signature: {0}")]
    Refused(String),
    /// It went away while it was told what to sign.
    #[error("can't tell gpg what to sign")]
    Told(#[source] std::io::Error),
}

/// The text that a simple signature is of.
pub fn payload(reference: &str, digest: &Digest, now: u32) -> Vec<u8> {
    let payload = Payload::new(reference.to_owned(), digest.to_string(), i64::from(now));
    serde_json::to_vec(&payload).unwrap_or_default()
}

fn gpg(key: Option<&str>) -> Command {
    let mut command = Command::new("gpg");
    // SHA-1 is what old configurations still ask for, and nobody trusts any more.
    command.args(["--quiet", "--digest-algo", "SHA256"]);
    if let Some(key) = key {
        command.arg(OsString::from("--local-user")).arg(key);
    }
    command
}

/// A signed message of a text, by this key or by gpg's default one.
///
/// # Errors
/// [`GpgError`].
pub fn sign(text: &[u8], key: Option<&str>) -> Result<Vec<u8>, GpgError> {
    let mut child = gpg(key)
        .arg("--sign")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(GpgError::Run)?;
    if let Some(mut input) = child.stdin.take() {
        // Where gpg has given up, its own words say more than the broken pipe.
        let told = input.write_all(text);
        if let Err(error) = told.as_ref()
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            return told.map(|()| Vec::new()).map_err(GpgError::Told);
        }
    }
    let output = child.wait_with_output().map_err(GpgError::Run)?;
    if !output.status.success() || output.stdout.is_empty() {
        return Err(GpgError::Refused(words(&output.stderr)));
    }
    Ok(output.stdout)
}

/// A detached signature of a file, beside it or elsewhere; an existing one is replaced.
///
/// # Errors
/// [`GpgError`].
pub fn detached(archive: &Path, to: &Path, key: Option<&str>) -> Result<(), GpgError> {
    let output = gpg(key)
        .args(["--yes", "--detach-sign", "--output"])
        .arg(to)
        .arg("--")
        .arg(archive)
        .stdin(Stdio::null())
        .output()
        .map_err(GpgError::Run)?;
    if output.status.success() { Ok(()) } else { Err(GpgError::Refused(words(&output.stderr))) }
}

fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text.lines().map(|line| line.strip_prefix("gpg: ").unwrap_or(line).trim()).collect();
    if lines.is_empty() { "it gave no reason".to_owned() } else { lines.join("; ") }
}
