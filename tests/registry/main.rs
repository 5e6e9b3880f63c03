//! Registries and web servers: one that misbehaves on request, and Debian's `docker-registry`. Needs root, as the
//! store does.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod agreement;
mod disks;
mod faults;
mod healing;
mod host;
mod pushing;
mod real;
mod server;
#[path = "../image/support.rs"]
#[allow(dead_code)]
mod support;
mod web;
