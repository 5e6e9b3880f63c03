//! Patience: how long to wait for a server, how often to ask again, and what ends the waiting.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::error::RegistryError;

/// How long things may take, and how often they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Tries of one request, and of one download between which nothing came.
    pub tries: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub pause: Duration,
    /// No pause is longer than this.
    pub longest_pause: Duration,
    /// The most that a server may ask to wait by `Retry-After`.
    pub obeyed: Duration,
    /// For a connection, with TLS.
    pub connect: Duration,
    /// Between two bytes.
    pub stalled: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 5,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
            // Registries that limit by the minute ask for one; who asks for an hour wants nobody to wait.
            obeyed: Duration::from_secs(120),
            connect: Duration::from_secs(30),
            stalled: Duration::from_secs(60),
        }
    }
}

impl Patience {
    /// The pause after so many failures (from 1): doubled each time, and by chance up to a half shorter, so that
    /// a hundred hosts that lost the same server don't come back in the same moment.
    pub(super) fn pause_after(&self, failures: u32) -> Duration {
        let doubled = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let whole = doubled.min(self.longest_pause);
        let mut random = [0; 2];
        // Without a random number all pauses are whole.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        whole - whole.mul_f64(f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX) / 2.0)
    }
}

/// What `Retry-After` says: seconds, or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // An HTTP date is one of RFC 2822's, in GMT.
    let then = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

/// Ends what waits, in every thread.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<(Mutex<bool>, Condvar)>);

impl Cancel {
    /// Nothing new begins after this; what waits ends with [`RegistryError::Cancelled`].
    pub fn cancel(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it was called.
    pub fn is_cancelled(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check(&self) -> Result<(), RegistryError> {
        if self.is_cancelled() { Err(RegistryError::Cancelled) } else { Ok(()) }
    }

    /// Waits, unless it is cancelled before.
    pub(super) fn pause(&self, pause: Duration) -> Result<(), RegistryError> {
        let until = Instant::now() + pause;
        let mut cancelled = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *cancelled {
                return Err(RegistryError::Cancelled);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            cancelled = self.0.1.wait_timeout(cancelled, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_when_in_two_ways() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().expect("a time");
        let of = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(of("7"), Some(7));
        assert_eq!(of("Sat, 21 Nov 2026 10:01:30 GMT"), Some(90));
        assert_eq!(of("Sat, 21 Nov 2026 09:00:00 GMT"), Some(0), "it is over");
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let patience = Patience::default();
        for (failures, most) in [(1, 500), (2, 1000), (3, 2000), (30, 20_000)] {
            let pause = patience.pause_after(failures).as_millis();
            assert!((most / 2..=most).contains(&pause), "{pause} ms after {failures}");
        }
    }

    #[test]
    fn a_pause_can_be_ended() {
        let cancel = Cancel::default();
        cancel.pause(Duration::from_millis(1)).expect("nobody cancelled");
        let other = cancel.clone();
        let ended = std::thread::spawn(move || other.pause(Duration::from_secs(100)));
        cancel.cancel();
        assert!(matches!(ended.join(), Ok(Err(RegistryError::Cancelled))));
    }
}
