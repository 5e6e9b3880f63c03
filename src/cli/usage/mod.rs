//! What containers use, for `wharf stats`, `top` and `metrics`: what systemd, the kernel and the records say together.

mod gather;
mod row;
pub(super) mod table;

pub(super) use self::gather::{Gatherer, Seen, now, pause};
pub(super) use self::row::{KEYS, Row, rows};
