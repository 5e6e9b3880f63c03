//! Images from elsewhere: registries, and plain web servers.
//!
//! ```text
//!  fetch (a reference) ──► place ──► endpoints: mirrors, then the registry      web (a URL)
//!    │                                                                            │
//!    ├── documents ──► client: TLS, redirects, auth, retry ◄──────────────────────┤
//!    │                    ▲                                                       │
//!    └── layers ──► download: four at a time, into partial files ◄────────────────┘
//!                         │ read while they grow
//!                         ▼
//!                 image::import: chooses, verifies, unpacks, commits; the same for every source
//! ```
//!
//! **Protocol.** OCI distribution 1.1, which Docker's registries speak as well (manifests of schema 2 and their
//! lists are taken as what they are; schema 1 carries no config and isn't). TLS 1.2 or 1.3 with the system's
//! certificates and the registry's own `authorities`; plain HTTP only for hosts that `wharf.toml` calls
//! insecure, also after a redirect. What proves who we are goes to the host that asked for it, and not where
//! that sends us.
//!
//! **Trust.** Nothing that a server says is believed but what a reference names: all else is checked by
//! digests from there on, so that a mirror can withhold, and not change. A tag is what the first server says
//! that has it. Redirects, media types, sizes and texts for people are a server's words too: sizes are limits, and
//! texts are made harmless before a terminal sees them.
//!
//! **Files.** `STATE/partial/HEX`, see `partial`; credentials, see `credentials`. The store is changed by the
//! import alone.
//!
//! **Ending.** What is killed leaves partial downloads, and perhaps an `incoming/ID` that the next command
//! sweeps. [`Client::cancel`] ends every thread at its next byte.
//!
//! # Decisions
//!
//! - **The registry client is our own, over ureq**, and not oci-client: that one is async, and brings tokio
//!   and a hundred crates more. What is hard about registries is not in it either: downloads that go on where
//!   they broke off, mirrors, `Retry-After`, blobs that two commands want at once, and errors that say what
//!   to do. The rest is a few requests.
//! - **TLS is rustls with ring**, which a C compiler alone builds (aws-lc-rs wants cmake on most machines);
//!   the system's certificates are read from where the system keeps them, so that a host's own authority
//!   counts.
//! - **A layer is downloaded to a file, and unpacked from there while it grows.** A pipe would be enough for
//!   one connection; with a file several layers come at once in bounded memory, and what broke off is gone on
//!   with by the next command. Files are locked, so that of two commands one fetches.
//! - **An index stays in the store beside the manifest that was chosen from it**, since its digest is what
//!   people pin. A pull by digest writes no reference: the digest is the image's name.
//! - **Credential helpers aren't run.** They are programs named by a file in somebody's home, and a pull is
//!   run by root.
//! - **A push doesn't keep the digest of the manifest by all means.** Layers are kept unpacked, and one
//!   compressed again is seldom the same bytes. What the registry has under the old digests is taken as it
//!   is; only the rest is packed, always to the same bytes.

mod again;
mod auth;
mod client;
mod connection;
mod credentials;
mod download;
mod error;
mod fetch;
mod login;
mod look;
mod message;
mod partial;
mod place;
mod push;
mod retry;
mod web;

pub use again::Again;
pub use client::{Client, Watch};
pub use credentials::{Credentials, Login, Secret, forget, keep, own_file};
pub use error::RegistryError;
pub use fetch::{Pulled, pull};
pub use login::verify;
pub use look::{Offered, Seen, SeenLayer, look, named};
pub use partial::{KEPT, sweep};
pub use place::Place;
pub use push::{Compression, LayerTar, Pushed, push};
pub use retry::{Cancel, Patience};
pub use web::{WebAddress, get, pull_from_web};
