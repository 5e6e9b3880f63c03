//! Files as written: the table of keys, documents with spans, and the small types they speak in.

mod document;
mod duration;
mod image_name;
pub mod keys;
mod link;
mod name;
mod platform;
mod port;
mod reference;
mod signal;
mod size;
mod suggest;

pub use document::{Data, Document, Entries, Entry, Value};
pub use duration::{DurationError, duration, show_duration};
pub use image_name::{ImageName, ImageNameError};
pub use link::{HOST, Link, LinkError, LinkTarget};
pub use name::{ContainerName, NameError};
pub use platform::{Platform, PlatformError};
pub(crate) use port::Ports;
pub use port::{Protocol, Publish, PublishError};
pub use reference::{Reference, ReferenceError};
pub(crate) use reference::{is_component, is_host};
pub use signal::{Signal, SignalError};
pub use size::{SizeError, show_size, size};
pub use suggest::nearest;
