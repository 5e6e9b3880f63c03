//! Logging in: a login is tried before it is kept.

use super::client::Client;
use super::error::RegistryError;
use super::message::Ask;
use super::place::{host_of, scheme};

/// Asks a registry whether it knows the login that the client was given for it (OCI distribution, "Determining
/// support").
///
/// # Errors
/// [`RegistryError::Denied`]; whatever keeps the registry from answering.
pub fn verify(client: &Client, registry: &str) -> Result<(), RegistryError> {
    let base = format!("{}://{}/v2/", scheme(registry, &client.settings), host_of(registry));
    let what = "the login";
    let answer = client.send(registry, "", &[], &Ask::get(what, base), false)?;
    client.accepted(answer, what, registry, "").map(|_| ())
}
