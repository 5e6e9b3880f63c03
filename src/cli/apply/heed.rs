//! Who is told to end (^C, `systemctl stop`, a terminal that is gone) while something is tried brings that to its end
//! first: left alone, what works would be undone at its next start.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::cli::output::complain;
use crate::spec::ContainerName;
use crate::sys;
use crate::sys::signals::{Signals, is_ignored};

/// Heeds these signals for as long as the process lives. One that nohup(1) has taken away stays so.
const HEEDED: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// How soon after the first a signal is no word of its own.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What is being tried, and whether that is the last.
#[derive(Debug, Default)]
struct State {
    tried: BTreeSet<ContainerName>,
    /// Since when.
    is_to_end: Option<Instant>,
}

/// What a signal comes to.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// What is being tried is finished first, which is said.
    Finishes(String),
    /// It is the same word as before.
    Same,
    /// This is the end.
    Ends,
}

impl State {
    fn hear(&mut self, signal: i32, now: Instant) -> Heard {
        if self.tried.is_empty() {
            return Heard::Ends;
        }
        let Some(since) = self.is_to_end else {
            self.is_to_end = Some(now);
            let names: Vec<&str> = self.tried.iter().map(ContainerName::as_str).collect();
            return Heard::Finishes(format!(
                "finishing {}, and then ending; once more to end now, and what is unproved falls back at its next start\n",
                names.join(", ")
            ));
        };
        // Of a terminal that is gone both the shell and the kernel tell, and systemd sends SIGHUP after SIGTERM to who
        // has one (SendSIGHUP=).
        match signal {
            libc::SIGHUP => Heard::Same,
            _ if now.saturating_duration_since(since) < AT_ONCE => Heard::Same,
            _ => Heard::Ends,
        }
    }
}

/// Keeps signals from ending the process in the middle of a trial.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Heed(Arc<Mutex<State>>);

impl Heed {
    /// Takes them from now on, for all threads that are made later.
    ///
    /// # Errors
    /// What signalfd(2) says.
    pub(in crate::cli) fn take() -> Result<Self, sys::Error> {
        let heeded: Vec<i32> = HEEDED.into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let signals = Signals::take(&heeded)?;
        let heed = Self(Arc::default());
        let listens = heed.clone();
        std::thread::spawn(move || listens.listen(&signals));
        Ok(heed)
    }

    fn listen(&self, signals: &Signals) {
        loop {
            let _ = rustix::event::poll(&mut [PollFd::new(signals, PollFlags::IN)], None);
            while let Some(signal) = signals.next() {
                // With it in hand nothing new begins.
                let mut state = self.state();
                match state.hear(signal, Instant::now()) {
                    Heard::Finishes(said) => complain(&said),
                    Heard::Same => {}
                    Heard::Ends => end(128 + signal),
                }
            }
        }
    }

    /// Something is tried until what this gives is dropped; nothing where nothing new is to begin.
    pub(in crate::cli) fn begin(&self, name: &ContainerName) -> Option<Trial<'_>> {
        let mut state = self.state();
        if state.is_to_end.is_some() {
            return None;
        }
        state.tried.insert(name.clone());
        Some(Trial { heed: self, name: name.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "what is on disk is made for a kill at any time")]
fn end(status: i32) -> ! {
    std::process::exit(status)
}

/// One that is being tried.
#[derive(Debug)]
pub(in crate::cli) struct Trial<'a> {
    heed: &'a Heed,
    name: ContainerName,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.heed.state().tried.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_is_finished() {
        let heed = Heed(Arc::default());
        let begun = Instant::now();
        let hear = |signal, after| heed.state().hear(signal, begun + Duration::from_millis(after));
        for signal in HEEDED {
            assert_eq!(hear(signal, 0), Heard::Ends, "nothing is tried, and a kill leaves the same");
        }
        let name: ContainerName = "web".parse().expect("a name");
        let trial = heed.begin(&name).expect("it begins");
        let first = hear(libc::SIGHUP, 0);
        assert!(matches!(first, Heard::Finishes(said) if said.starts_with("finishing web, and then ending")));
        assert!(heed.begin(&name).is_none(), "nothing new begins");
        assert_eq!(hear(libc::SIGHUP, 1), Heard::Same, "the kernel's, after the shell's");
        assert_eq!(hear(libc::SIGTERM, 999), Heard::Same, "at once");
        assert_eq!(hear(libc::SIGHUP, 5000), Heard::Same, "no terminal goes twice");
        assert_eq!(hear(libc::SIGINT, 1000), Heard::Ends, "once more");
        drop(trial);
        assert!(heed.state().tried.is_empty() && heed.begin(&name).is_none());
    }
}
