//! The network, as `wharf.toml` has it, for the commands that look for signatures.

use std::io;
use std::sync::Arc;

use crate::host::Paths;
use crate::registry::{self, Client, Credentials};
use crate::settings::Settings;

/// Gets the bytes of a URL, at most so many, as this host speaks to others; nothing where there is nothing.
pub(super) fn fetcher(
    settings: &Settings,
    paths: &Paths,
) -> impl Fn(&str, u64) -> io::Result<Option<Vec<u8>>> + use<> {
    let client = Client::new(settings.clone(), Credentials::of_host(paths), Arc::new(()));
    move |address, most| registry::get(&client, address, most)
}
