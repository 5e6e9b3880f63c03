//! The store of images.
//!
//! ```text
//! STATE/                        0700 root
//!   lock                        flock: held while anything below changes its name
//!   usage                       flock: shared by starts, until their layers are mounted; exclusive for removal
//!   blobs/sha256/HEX            manifests and configs, byte for byte as they came
//!   layers/HEX/                 one per diff id, complete by construction
//!     tree/                     the unpacked layer; whiteouts as overlayfs has them
//!     manifest                  what tree/ holds, with digests (see `manifest`)
//!     summary                   counts
//!   layers/HEX-bottom/          the same without whiteouts, for images that have it at the bottom, where
//!                               they would show; only for layers that have any
//!   refs/NAME                   one reference each, percent-encoded; holds the manifest's digest
//!   incoming/ID/                one per command under way, flocked while that lives
//!     note                      parts that nothing may name after a crash
//!     needs/HEX                 layers of the store that it relies on
//!     gone/                     what was taken out, on its way to being deleted
//! ```
//!
//! **Commit order.** Everything is written below `incoming/ID`; one `syncfs`, whose error counts; under the
//! lock the note, durably; layers and blobs renamed into place; `layers` and `blobs` synced; the reference
//! renamed; `refs` synced. Only then does the command succeed. A crash before the last rename leaves
//! `incoming/ID` and perhaps parts that its note lists: the next command that changes the store takes them
//! away. Removal goes the other way: the note, the reference, then the parts by a rename into `incoming/ID`.
//!
//! **Locks.** `lock` is held for renames and sweeps only, never while something is unpacked. A command holds
//! its own `incoming/ID`, so that a sweep tells the living from the dead. Reading takes no lock.

mod config;
mod digest;
mod error;
mod escape;
mod extract;
mod import;
mod manifest;
mod members;
mod staging;
mod store;
mod stream;

pub use config::{Execution, ImageConfig, RootFs, machine_architecture};
pub use digest::{Digest, DigestError};
pub use error::ImageError;
pub use import::{Changes, Imported, Options, Source, import};
pub use manifest::Summary;
pub use store::{Details, Hold, Image, LayerDetails, Listed, Removed, Store};
