//! Signals by the names that people and images use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The signals of signal(7) on x86-64 and arm64, where the numbers agree.
const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// glibc's SIGRTMIN: the two below are the C library's own (nptl(7)).
const RTMIN: i32 = 34;
/// The kernel's highest signal.
const RTMAX: i32 = 64;

/// A signal, by number; reads `SIGTERM`, `TERM`, `15` and `SIGRTMIN+3`, and shows the first form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(i32);

/// A text that names no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal; write a name like `SIGTERM` or a number from 1 to 64")]
pub struct SignalError(pub String);

impl Signal {
    /// SIGTERM, what systemd and OCI images send where nothing else is said.
    pub const TERM: Self = Self(15);
    /// SIGCHLD.
    pub const CHLD: Self = Self(17);
    /// SIGCONT.
    pub const CONT: Self = Self(18);
    /// SIGSTOP.
    pub const STOP: Self = Self(19);
    /// SIGKILL.
    pub const KILL: Self = Self(9);

    /// The number, as kill(2) takes it.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        let error = || SignalError(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return if (1..=RTMAX).contains(&number) { Ok(Self(number)) } else { Err(error()) };
        }
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == bare) {
            return Ok(Self(*number));
        }
        let step = |text: Option<&str>| text.and_then(|text| text.parse::<u8>().ok()).map(i32::from);
        let number = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
            (Some(""), _) => RTMIN,
            (_, Some("")) => RTMAX,
            (Some(more), _) => RTMIN + step(more.strip_prefix('+')).ok_or_else(error)?,
            (_, Some(less)) => RTMAX - step(less.strip_prefix('-')).ok_or_else(error)?,
            (None, None) => return Err(error()),
        };
        if (RTMIN..=RTMAX).contains(&number) { Ok(Self(number)) } else { Err(error()) }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<String> for Signal {
    type Error = SignalError;

    fn try_from(text: String) -> Result<Self, SignalError> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number, shown) in [
            ("SIGQUIT", 3, "SIGQUIT"),
            ("quit", 3, "SIGQUIT"),
            ("15", 15, "SIGTERM"),
            ("SIGRTMIN+3", 37, "SIGRTMIN+3"),
            ("RTMAX-1", 63, "SIGRTMIN+29"),
        ] {
            let signal: Signal = text.parse().expect(text);
            assert_eq!((signal.number(), signal.to_string().as_str()), (number, shown));
        }
        for text in ["", "0", "65", "SIG", "SIGFOO", "SIGRTMIN+99", "-1", "RTMIN-1"] {
            assert!(text.parse::<Signal>().is_err(), "{text:?}");
        }
    }
}
