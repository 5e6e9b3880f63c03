//! What is going to happen, as values: the plan that the generator leaves beside a unit, and the steps that
//! the executor takes at start. Pure: no I/O, no clock, no environment.

pub mod companions;
mod footprint;
mod generate;
pub mod health;
pub mod held;
mod image;
pub mod process;
pub mod snapshot;
pub mod steps;
pub mod transient;
pub mod unit;

use std::path::PathBuf;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};

use crate::check::Container;
use crate::settings::Policy;

pub use image::{
    COMMAND, ImageOutput, ImagePlan, STALLED, check_image, check_settings, compare_images, for_all_images,
    image_output, implicit_output,
};

pub use companions::{BOOT_FOLDERS, CONNECTIONS, Companion};
pub use footprint::{Footprint, footprint};
pub use generate::{
    Beside, Files, Output, check, compare, document, gone_output, held_output, output, starting, trust,
    warn_of_age,
};

/// The version of the form of [`Plan`]; the executor refuses any other, and says to reload systemd.
pub const PLAN_FORMAT: u32 = 2;

/// What the generator leaves for the executor: `wharf/NAME.json` beside the unit, mode 0600.
///
/// What was checked at reload is exactly what runs; the plan has the same life as its unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// The container file, the last of its drop-ins not counted.
    pub source: PathBuf,
    /// Why this is the last good plan and not what the files say now: the findings, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outdated: Option<String>,
    /// Why this is the last good plan though the files have no mistakes: what they say was tried, and failed. One line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// No file declares it any more: it runs until it is stopped, and this isn't started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// What its image must have for a start, as `wharf.toml` says for its repository.
    #[serde(default, skip_serializing_if = "Policy::is_any")]
    pub trust: Policy,
    /// The container as checked.
    pub container: Container,
    /// The text of the unit that goes with it, for the generator to put back when the file goes bad.
    pub unit: String,
    /// The units beside it, for the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<Companion>,
}

/// Reads what is to be carried out. A key that this version doesn't know is of another one, which would have heeded it:
/// a container isn't started without a limit, or a confinement, that its plan has.
///
/// # Errors
/// It isn't what this version writes.
pub fn read<T: Serialize + DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let value: serde_json::Value = serde_json::from_slice(text)?;
    let read = T::deserialize(&value)?;
    if serde_json::to_value(&read)? == value {
        Ok(read)
    } else {
        Err(serde_json::Error::custom("it has keys that this version of Wharf doesn't know"))
    }
}
