//! Files as written: the table of keys, documents with spans, and the small types they speak in.

mod calendar;
mod document;
mod duration;
mod environment_file;
mod image_name;
pub mod keys;
mod link;
mod listen;
mod name;
mod platform;
mod port;
mod probe;
mod reference;
mod signal;
mod size;
mod suggest;

pub use calendar::{CalendarError, calendar};
pub use document::{Data, Document, Entries, Entry, Value};
pub use duration::{DurationError, duration, show_duration};
pub use environment_file::assignments;
pub use image_name::{ImageName, ImageNameError};
pub use link::{HOST, Link, LinkError, LinkTarget};
pub use listen::{Listen, ListenError};
pub use name::{ContainerName, NameError};
pub use platform::{Platform, PlatformError};
pub(crate) use port::Ports;
pub use port::{Protocol, Publish, PublishError};
pub use probe::{HttpTarget, TargetError, TcpTarget};
pub use reference::{Reference, ReferenceError};
pub(crate) use reference::{is_component, is_host};
pub use signal::{Signal, SignalError};
pub use size::{SizeError, show_size, size};
pub use suggest::nearest;
