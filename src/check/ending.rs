//! How what runs is to end.

use super::{Kind, Rules};
use crate::spec::Signal;

/// What a container's unit says about its end. A container that runs while its file goes bad is ended by what the
/// refusal's unit says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// `stop.signal`.
    pub stop_signal: Option<Signal>,
    /// Its status may be that of a signal: an init is process 1, of no job.
    pub by_init: bool,
    /// There is a `[health]`.
    pub is_checked: bool,
    /// The program is process 1 and may have a watchdog: `ready` is `"notify"`.
    pub is_watched: bool,
}

/// As far as it can be read.
pub fn ending(rules: &Rules<'_>, kind: Kind) -> Ending {
    let is_checked = rules.get("health").is_some();
    let has_init = rules.flag("init") == Some(true) || is_checked;
    let notifies = rules.text("ready").is_some_and(|(text, _)| text == "notify");
    Ending {
        stop_signal: rules.digits("stop.signal").and_then(|(text, _)| text.parse().ok()),
        by_init: has_init && kind.is_service(),
        is_checked,
        is_watched: notifies && !has_init,
    }
}
