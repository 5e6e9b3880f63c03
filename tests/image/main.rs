//! The store and what comes into it, on a real file system. Needs root, as the store does.

#![allow(clippy::unwrap_used)]

mod changes;
mod crowd;
mod durable;
mod frames;
mod fsck;
mod hostile;
mod implied;
mod lists;
mod odd;
mod out;
mod provide;
mod prune;
mod refs;
mod support;
mod tools;
mod trust;
