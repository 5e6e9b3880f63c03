//! Containers' networks: the only netlink and nftables code.
//!
//! Every container has a pair of interfaces, and everything is routed:
//!
//! ```text
//!  host                                          container
//!  wharf-0001                                    eth0
//!    10.88.0.1/32, fe80::1/64   ◄───── veth ─────►  10.88.0.2/32, fd00::2/128, fe80::a58:2/64
//!    10.88.0.2, fd00::2 are routed to it            all is routed to 10.88.0.1 and fe80::1
//! ```
//!
//! So each packet from one container to another passes the host's forward hook, where one table, `inet wharf`,
//! decides by lookup (`wharf.nft` says each rule and why). A start or a stop of a container changes elements of
//! that table by one transaction, and never a rule.
//!
//! | module | knows |
//! |---|---|
//! | [`address`] | what is connected how; pure |
//! | [`route`] | the pair of interfaces: addresses, routes, neighbours |
//! | [`kernel`] | forwarding, and whether there is IPv6 |
//! | [`table`] | the table's text, and a container's elements in it; pure |
//! | [`counters`] | what has passed the interfaces |
//! | [`conntrack`] | connections that a published port makes wrong |
//! | [`nft`] | changing the table, loading it, and asking whether it is whole |
//!
//! The sockets block, and belong to one call each: the network namespace is that of whoever calls.

pub mod address;
mod attribute;
pub mod conntrack;
pub mod counters;
pub mod kernel;
pub mod nft;
mod request;
pub mod route;
mod socket;
pub mod table;

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

pub use address::{Addresses, Attachment, Port};
pub use conntrack::forget;
pub use counters::{Counters, counters};
pub use kernel::{enable_forwarding, forwards, has_ipv6};
pub use nft::{Change, NftError, change, held, intact, load};
pub use route::{configure, connect, disconnect, interfaces, settle};
pub use table::{Element, elements, script};

use crate::sys::explain;

/// Why a container isn't connected.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused a step.
    #[error("can't {action}: {}", explain(*errno))]
    Step {
        /// What was tried, in words that follow "can't".
        action: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The interface wouldn't be one of Wharf's.
    #[error(
        "{0:?} is no name for an interface of a container: it needs wharf- and up to nine letters or digits"
    )]
    Name(String),
    /// A setting of the kernel can't be read or written.
    #[error("can't {action} {}", path.display())]
    Setting {
        /// "read", "write", …
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NetError {
    fn step(action: impl Into<String>, errno: Errno) -> Self {
        Self::Step { action: action.into(), errno }
    }
}
