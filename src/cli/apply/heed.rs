//! Who is told to end (^C, `systemctl stop`, a terminal that is gone) while something is tried brings that to its end
//! first: left alone, what works would be undone at its next start.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags};

use crate::cli::output::complain;
use crate::spec::ContainerName;
use crate::sys;
use crate::sys::signals::{Signals, is_ignored};

/// Heeds these signals for as long as the process lives. One that nohup(1) has taken away stays so.
const HEEDED: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// What is being tried, and whether that is the last.
#[derive(Debug, Default)]
struct State {
    tried: BTreeSet<ContainerName>,
    is_to_end: bool,
}

impl State {
    /// What is said when a signal comes; nothing where this is the end.
    fn hear(&mut self) -> Option<String> {
        if self.tried.is_empty() || std::mem::replace(&mut self.is_to_end, true) {
            return None;
        }
        let names: Vec<&str> = self.tried.iter().map(ContainerName::as_str).collect();
        Some(format!(
            "finishing {}, and then ending; once more to end now, and what is unproved falls back at its next start\n",
            names.join(", ")
        ))
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
                match state.hear() {
                    Some(said) => complain(&said),
                    None => end(128 + signal),
                }
            }
        }
    }

    /// Something is tried until what this gives is dropped; nothing where nothing new is to begin.
    pub(in crate::cli) fn begin(&self, name: &ContainerName) -> Option<Trial<'_>> {
        let mut state = self.state();
        if state.is_to_end {
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
        let hear = || heed.state().hear();
        assert_eq!(hear(), None, "nothing is tried, and a kill leaves the same");
        let name: ContainerName = "web".parse().expect("a name");
        let trial = heed.begin(&name).expect("it begins");
        assert!(hear().is_some_and(|said| said.starts_with("finishing web, and then ending")));
        assert!(heed.begin(&name).is_none(), "nothing new begins");
        assert_eq!(hear(), None, "once more");
        drop(trial);
        assert!(heed.state().tried.is_empty() && heed.begin(&name).is_none());
    }
}
