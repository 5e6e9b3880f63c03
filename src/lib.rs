//! Wharf runs containers as ordinary systemd services.
//!
//! One TOML file per container in `/etc/wharf/containers` becomes a systemd unit by way of a generator. A
//! small executor sets up namespaces, root, mounts and privileges, hands the container's first process over
//! to systemd as systemd's own child, and is gone. No daemon, no shim. Files are the truth; all else is
//! derived from them and can be thrown away, except images, volumes and leases.
//!
//! # The way of one container file
//!
//! ```text
//!  /etc/wharf/containers/nginx.toml, and drop-ins
//!        │
//!        │  wharf-generator, at boot and at each daemon-reload        (wharf check, wharf plan: the same,
//!        ▼                                                             and what comes out is printed)
//!   generate::list, read     the search path ──► texts
//!        ▼
//!   spec::Document           a tree, each value with its place in a file; drop-ins merged in
//!        ▼
//!   check                    walks the tree by the table of keys, and the rules: every finding at once
//!        ├──── errors ─────► report ──► a unit whose start fails and shows them, or the last good plan
//!        ▼
//!   check::Container         valid by itself; nothing in it depends on the host
//!        ▼
//!   plan::unit ──► unit      nginx-container.service, and wharf/nginx.json, the plan, beside it
//!        │
//!        │  wharf-executor start nginx, from ExecStart=
//!        ▼
//!   root                     the image's layers, from the store, and what it says about its program
//!        ▼
//!   plan::process, steps     two lists of steps, as values
//!        ▼
//!   exec ──► sys, lease, volume        takes the host's steps, makes the first process, which takes the
//!        │                             inner ones and waits at the gate
//!        ▼
//!   systemd                  is told the main process; the gate opens; the program runs; READY=1
//! ```
//!
//! # The rooms
//!
//! ```text
//!  bin/wharf ──► cli ──► bus (systemd over D-Bus) · image (import, list, remove)
//!                 │
//!                 ├───────────► generate, root        as below, to show what they would do
//!                 │
//!  bin/wharf-generator ──► generate ──► plan ──► check ──► spec ──► report
//!                                        └──► unit
//!  bin/wharf-executor ──► exec ──► plan::{process, steps}
//!                           ├──► root ──► image
//!                           └──► sys · lease · volume ──► tree
//! ```
//!
//! [`spec`], [`report`], [`check`], [`plan`] and [`mod@unit`] are pure: no I/O, no clock, no environment. `spec`,
//! `unit` and [`sys`] know nothing above them; `plan` and `sys` never meet, so that what happens is decided in
//! one and done by the other. `unit` alone escapes for systemd, `sys` alone is unsafe, [`bus`] alone speaks
//! D-Bus, and only [`cli`] and the binaries print. [`host`] says where things live.
//!
//! | binary | is | links |
//! |---|---|---|
//! | `wharf` | the administrator's command | everything |
//! | `wharf-generator` | run by systemd at boot and at each reload, which wait for it | the pure rooms and `generate` |
//! | `wharf-executor` | run by each unit to start, and gone then | `exec`, the store's reading half, `sys` |
//!
//! # What is on disk
//!
//! ```text
//! /etc/wharf, /run/wharf, /usr/lib/wharf    container files; the first wins by file name
//! /run/systemd/generator/NAME-container.service, wharf/NAME.json or NAME.findings
//!                                           made at each reload, which empties the folder before
//! /run/wharf/last-good/NAME.json            the plan of the last start that worked since boot
//! /run/wharf/findings.json                  what the last reload found
//! /run/wharf/stage                          empty; each executor mounts over it where nobody else sees it
//! /var/lib/wharf                            kept: blobs, layers, refs (see `image`), volumes, leases
//! ```
//!
//! Each module that keeps something opens with its tree, locks and order of commit.
//!
//! # Decisions
//!
//! Where this is something else than one would expect, or than was once meant:
//!
//! - **Two kinds of steps**, [`plan::steps::HostStep`] and [`plan::steps::InnerStep`], and not one list: they
//!   run in two processes, with one moment between them, when the root stands. With two types a step can't
//!   end up on the wrong side.
//! - **The root is staged on a tmpfs in a private mount namespace, and always has an upper layer in memory.**
//!   Nobody on the host ever sees it, and it is gone with its last process, whatever kills that. With an upper
//!   layer, mount points and the files with the host's names can be made in any image; a read-only root is then
//!   a mount flag, set last.
//! - **The first process makes its own mount and cgroup namespaces late**, when the root stands, and not when
//!   it is cloned. Its mount namespace is a copy then, owned by its user namespace, and the kernel locks mounts
//!   that were copied so: nothing inside can take one away and see what is below it.
//! - **Documents are trees with a place for each value, walked by the table of keys** ([`spec::keys`]), and not
//!   structs derived by serde: a derived parser stops at the first mistake, and this one has to find all. The
//!   same table gives suggestions and `wharf keys`.
//! - **The last good plan is kept by the executor, after a start that worked**, and not by the generator, which
//!   only knows what was well written.
//! - **The image's stop signal is sent by `ExecStop=`** and isn't in the unit: the generator runs before /var
//!   needs to be mounted and may not read the store. A signal in the file is `KillSignal=`.
//! - **zbus and clap are in `wharf` only.** The generator is on the way of every boot, the executor of every
//!   start. A test searches the built binaries.
//! - **No tracing.** The executor's few lines go to standard error with priorities as sd-daemon(3) has them,
//!   which is all that the journal needs.
//! - **rustix for nearly all calls**, as it is typed and skips libc; nix for the user database only, which is
//!   libc's (NSS), and libc's own numbers.
//! - **`wharf plan` makes its plan anew from the files**, and doesn't print the one of the last reload: it is
//!   asked before a reload, and on machines that have no systemd. It says where the two differ.
//! - **`wharf enable` doesn't trust what it wrote**: it asks the generator's own code what all files say
//!   together, and the generator's links what systemd made of it. A later drop-in may have the last word, and a
//!   reload may have failed the last time.

pub mod bus;
pub mod check;
pub mod cli;
pub mod exec;
pub mod generate;
pub mod host;
pub mod image;
pub mod lease;
pub mod plan;
pub mod report;
pub mod root;
pub mod spec;
pub mod sys;
pub mod tree;
pub mod unit;
pub mod volume;
