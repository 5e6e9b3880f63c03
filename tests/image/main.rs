//! The store and what comes into it, on a real file system. Needs root, as the store does.

#![allow(clippy::unwrap_used)]

mod durable;
mod hostile;
mod support;
mod tools;
