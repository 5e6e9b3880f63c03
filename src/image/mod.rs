//! The store of images.
//!
//! ```text
//! STATE/                        0700 root
//!   lock                        flock: held while anything below changes its name
//!   usage                       flock: shared by starts, until their layers are mounted; exclusive for removal
//!   blobs/sha256/HEX            manifests, configs and indexes (see `index`), byte for byte as they came
//!   layers/HEX/                 one per diff id, complete by construction
//!     tree/                     the unpacked layer; whiteouts as overlayfs has them
//!     manifest                  what tree/ holds, with digests (see `manifest`)
//!     frame                     all of the layer's tar but the contents of files (see `frame`)
//!     aside/                    files of the tar that a later member replaces; only where there are any
//!     implied                   folders that it leaves to be made (see `implied`); only where there are any
//!     summary                   counts
//!   layers/HEX-bottom/          the same without whiteouts, for images that have it at the bottom, where
//!                               they would show; only for layers that have any
//!   refs/NAME                   one reference each, percent-encoded; holds the manifest's digest (see `refs`)
//!   signatures/sha256/HEX/N     signatures of the manifest of that digest, from 1 on
//!   damaged/ID/                 what a repair has taken out
//!   partial/HEX                 blobs on their way from a registry, flocked meanwhile (see `registry`)
//!   incoming/ID/                one per command under way, flocked while that lives
//!     note                      parts that nothing may name after a crash
//!     needs/HEX                 layers of the store that it relies on
//!     gone/                     what was taken out, on its way to being deleted
//! ```
//!
//! **Commit order.** Everything is written below `incoming/ID`; one `syncfs`, whose error counts; under the
//! lock the note, durably; layers and blobs renamed into place, and signatures; their folders synced; the reference
//! renamed; `refs` synced. Only then does the command succeed. A crash before the last rename leaves
//! `incoming/ID` and perhaps parts that its note lists: the next command that changes the store takes them
//! away. Removal goes the other way: the note, the reference, then the parts by a rename into `incoming/ID`.
//!
//! **Locks.** `lock` is held for renames and sweeps only, never while something is unpacked. A command holds
//! its own `incoming/ID`, so that a sweep tells the living from the dead. Reading takes no lock.
//!
//! # Decisions
//!
//! - **`wharf fsck` locks nothing while it reads.** What is removed under its eyes is seen to be gone and no
//!   damage; containers start meanwhile. `--repair` puts a good layer in the place of a damaged one by one
//!   exchange of names, and leaves the damaged one where a good one can't be had. It asks the registry by the
//!   digests that the store has, so that a tag that has moved, or a server that lies, changes nothing here.
//! - **A reference that can't be read keeps every image that has no other name**, until it is known what it
//!   was: the image may be in nobody else's list. It costs other images nothing.
//! - **A commit keeps within the limits of `[unpack]`**, though the administrator asks for it: what is in the
//!   layer was written by the container's program.
//! - **`wharf image prune` would rather keep than ask.** A file that can't be read may name any image, and a
//!   manifest that can't be read may need any layer: both stop the removal of all that they may need.
//! - **A layer keeps the frame of its tar, not the tar**: everything that isn't the content of a file, some
//!   hundred kB for a Debian root, recorded as it is unpacked. With the files that makes the very tar again,
//!   so what is saved or pushed has the digests that it came with, and nothing is on the disk twice. A tar
//!   made anew from the files would have another digest: no two programs write the same one.
//! - **A saved image carries the manifest that it came with.** That mostly names compressed layers, which
//!   nobody could make again byte for byte; its archive's layers are plain. So the archive has a manifest for
//!   these, for every program, and by an annotation the first one, so that an image keeps its digest on the
//!   way. Both lead to the same config, and by that to the same layers.
//! - **`wharf diff` compares**, as the layer that a container writes to can't be reached from outside: it is
//!   on a tmpfs to which only the mount of the root refers. Reading it through the root needs nothing of
//!   Wharf's to keep running.
//! - **A folder that a layer has without a word about it looks as below**, which overlayfs can't know. What each layer
//!   only implies is written down when it is unpacked, and put right at each start, in the layer in memory: a layer of
//!   its own for it in the store would depend on the image, and have to be kept, checked and removed with it.
//! - **Images are exported without a mount**: their layers are walked side by side by overlayfs's rules, so
//!   that it needs no privilege in the kernel and works on a store that is only read.
//! - **Decompression is limited by what comes out for what went in**, and not by the sizes in a tar's
//!   headers: these come before the bytes, and holes of sparse files cost nothing.

mod changes;
mod config;
mod digest;
mod documents;
mod error;
mod escape;
mod export;
mod extract;
mod frame;
pub mod fsck;
mod implied;
mod import;
mod index;
mod inventory;
mod listing;
mod manifest;
pub(crate) mod members;
mod merge;
pub(crate) mod pax;
mod prune;
mod refs;
mod save;
mod signatures;
mod similar;
mod staging;
mod store;
pub(crate) mod stream;
mod usage;
mod walk;

pub use changes::{Change, ChangeKind, Ids, Live};
pub(crate) use config::{
    CONFIG, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, INDEX, Index, LAYER, MANIFEST, Manifest,
    Platform as ImagePlatform,
};
pub use config::{Execution, Healthcheck, ImageConfig, RootFs, machine_architecture};
pub(crate) use digest::Hasher;
pub use digest::{Digest, DigestError};
pub use documents::{Documents, Past};
pub use error::ImageError;
pub(crate) use error::{chain, is_full};
pub use escape::{field as escaped, reference_file_name};
pub use export::export;
pub use frame::write_layer;
pub use implied::{Implied, implied};
pub use import::{
    Changes, CommitOptions, Imported, Options, Source, commit, differences, import, import_admitted,
};
pub(crate) use import::{Entry, Remote, Wanted, import_from, stage_from};
pub use inventory::{Orphan, OrphanKind};
pub use listing::{Details, LayerDetails, Listed, Listing};
pub use manifest::Summary;
pub(crate) use merge::{attributes, is_kept, names, open_below};
pub use prune::{Needs, Prunable, Pruned, Wish};
pub use save::{Format, Packing, SaveOptions, pack, save};
pub use signatures::{Admission, Entering, Everything};
pub use store::{Hold, Image, Removed, Store};
pub use usage::{Sized, Sizes, Usage};
