//! Restarts in a row come at growing distances: from [`SHORTEST`], twice as long each time, to [`LONGEST`].
//!
//! ```text
//! /run/wharf/restarts/NAME.json   the last start: when, which in a row, how far it came; see `Last`
//! ```
//!
//! What `wharf run` has started has it in its own folder, as `restarts.json`, and it goes with that.
//!
//! systemd waits [`SHORTEST`] (`RestartSec=`); the rest is waited for here, in the start, which tells systemd why and
//! for how long. A container that was up for [`SETTLED`] begins anew, and so does one that somebody has started or
//! reset: systemd's `NRestarts` tells, and is asked only where the last start is not so long ago.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};

use super::handover;
use crate::check::Container;
use crate::host::Paths;
use crate::plan::unit::{DELAYS, SHORTEST_DELAY as SHORTEST};
use crate::spec::{ContainerName, Signal, duration};
use crate::sys::process;
use crate::sys::signals::Signals;
use crate::transient;

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a container must have been up for its next end to be the first again: ten times [`LONGEST`].
const SETTLED: Duration = Duration::from_secs(600);

/// What the line of a start that waits ends with, by which others know it.
pub const IN_A_ROW: &str = "times in a row";

/// What is known of the last start. Whole or not there: it is put into place by rename.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    /// CLOCK_BOOTTIME, in milliseconds, when its delay was over.
    at: u64,
    /// systemd's count of restarts then; 0 where it wasn't asked.
    restarts: u32,
    /// Which restart in a row it is; 0 for a start that is none.
    row: u32,
    /// It has become ready, where that comes later than its program.
    pub(super) is_ready: bool,
    /// CLOCK_MONOTONIC, in milliseconds, when it was ready; nothing before.
    #[serde(default)]
    pub(super) ready_at: Option<u64>,
    /// It has failed, and said why.
    pub(super) has_failed: bool,
    /// The digest of its image, once that was found.
    #[serde(default)]
    pub(super) image: Option<String>,
}

/// What systemd says of a unit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    restarts: u32,
    /// `TimeoutStartSec=`, [`Duration::MAX`] where it is infinite; nothing where systemd doesn't say.
    pub(super) timeout: Option<Duration>,
    /// `StatusText`.
    pub(super) said: String,
}

fn path(paths: &Paths, name: &ContainerName) -> PathBuf {
    match transient::of_this_unit(paths, name) {
        Some(folder) => folder.join("restarts.json"),
        None => paths.runtime().join("restarts").join(format!("{name}.json")),
    }
}

/// The last start; what can't be read is as if there was none.
pub(super) fn last(paths: &Paths, name: &ContainerName) -> Option<Last> {
    serde_json::from_slice(&fs::read(path(paths, name)).ok()?).ok()
}

/// Whether a container was started since boot, whatever became of it.
pub fn was_started(paths: &Paths, name: &ContainerName) -> bool {
    last(paths, name).is_some()
}

/// For how long a container has been ready, the host's sleep not counted; nothing where its last start didn't come to
/// that, or there was none since boot.
pub fn ready_for(paths: &Paths, name: &ContainerName) -> Option<Duration> {
    last(paths, name)?.ready_for()
}

/// The digest of the image of the last start, if that was not longer ago than this; nothing where it didn't come to
/// that, or has none.
pub fn last_image(paths: &Paths, name: &ContainerName, within: Duration) -> Option<String> {
    last(paths, name).filter(|last| last.age() <= within)?.image
}

/// Has it be as if it never was, for what is gone and may be declared anew.
pub fn forget_starts(paths: &Paths, name: &ContainerName) {
    // Left there, it costs a word to start it.
    let _ = fs::remove_file(path(paths, name));
}

impl Last {
    /// How long ago it was.
    pub(super) fn age(&self) -> Duration {
        Duration::from_millis(now().saturating_sub(self.at))
    }

    /// How long ago it became ready, if it did.
    pub(super) fn ready_for(&self) -> Option<Duration> {
        Some(Duration::from_millis(clock(ClockId::Monotonic).saturating_sub(self.ready_at?)))
    }
}

/// It is ready, from now on; `later` is whether that came later than its program.
pub(super) fn is_ready(paths: &Paths, name: &ContainerName, later: bool) {
    note(paths, name, |last| {
        last.is_ready = later;
        last.ready_at = Some(clock(ClockId::Monotonic));
    });
}

/// Keeps what is known of a start. That it can't be kept costs a delay or a word, and no container.
fn keep(paths: &Paths, name: &ContainerName, last: &Last) {
    let keep = || -> io::Result<()> {
        let path = path(paths, name);
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        crate::running::replace(&path, &serde_json::to_vec(last)?, 0o600)
    };
    let _ = keep();
}

/// Changes what is known of the last start.
pub(super) fn note(paths: &Paths, name: &ContainerName, change: impl FnOnce(&mut Last)) {
    if let Some(mut known) = last(paths, name) {
        change(&mut known);
        keep(paths, name, &known);
    }
}

/// What a start does with its delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    /// There is none.
    None,
    /// It is over.
    Over,
    /// Somebody has stopped the container meanwhile.
    Stopped,
}

/// Waits, where this is one of several restarts in a row.
pub(super) fn wait(paths: &Paths, name: &ContainerName, container: &Container) -> Delay {
    let now = now();
    let before = last(paths, name).filter(|last| now.saturating_sub(last.at) < millis(SETTLED));
    // Who has written a delay of systemd's into the file has that one.
    let own = !container.systemd.service.iter().any(|(key, _)| DELAYS.contains(&key.as_str()));
    // From before systemd is asked: a signal that ends no process by itself would be lost.
    let stop = before.as_ref().filter(|_| own).and_then(|_| Stop::take(container));
    let asked = before.as_ref().filter(|_| own).and_then(|_| ask(name)).unwrap_or_default();
    let row = before.map_or(0, |before| row(&before, asked.restarts));
    let pause = delay(row).saturating_sub(SHORTEST);
    let mut delay = Delay::None;
    if !pause.is_zero() {
        if let Some(timeout) = asked.timeout.filter(|timeout| *timeout != Duration::MAX) {
            let extended = pause.saturating_add(timeout).as_micros();
            let _ = sd_notify::notify(&[NotifyState::Custom(&format!("EXTEND_TIMEOUT_USEC={extended}"))]);
        }
        let seconds = pause.as_millis().div_ceil(100);
        handover::status(&format!(
            "Waits {}.{} s before it starts: it has ended soon, {row} {IN_A_ROW}",
            seconds / 10,
            seconds % 10
        ));
        delay = Delay::Over;
    }
    if stop.is_some_and(|stop| stop.comes_within(pause)) {
        delay = Delay::Stopped;
    }
    if delay != Delay::None {
        handover::status("");
    }
    if delay != Delay::Stopped {
        let at = self::now();
        keep(paths, name, &Last { at, restarts: asked.restarts, row, ..Last::default() });
    }
    delay
}

/// Which restart in a row this start is, after another one not long ago.
fn row(before: &Last, restarts: u32) -> u32 {
    match restarts {
        // Somebody has started it.
        0 => 0,
        // So too: who stops it while systemd waits to restart it, and starts it then, finds the count as it was
        // (before systemd 254: `flush_n_restarts` of its src/core/service.c).
        restarts if restarts == before.restarts => 0,
        // Somebody has reset the count, and systemd has counted on.
        restarts if restarts < before.restarts => restarts.min(before.row.saturating_add(1)),
        _ => before.row.saturating_add(1),
    }
}

/// How long after the end comes a restart.
fn delay(row: u32) -> Duration {
    match row.checked_sub(1) {
        None => Duration::ZERO,
        Some(doubled) => SHORTEST.saturating_mul(2_u32.checked_pow(doubled).unwrap_or(u32::MAX)).min(LONGEST),
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

/// On the clock that nobody sets, and that goes on while the host sleeps.
fn now() -> u64 {
    clock(ClockId::Boottime)
}

/// In milliseconds.
fn clock(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// Asks systemd about the container's unit; nothing where it doesn't answer.
///
/// The executor has no D-Bus of its own, and this is on the way of failures only.
pub(super) fn ask(name: &ContainerName) -> Option<Asked> {
    let output = Command::new("systemctl")
        .args(["show", "--property=NRestarts", "--property=TimeoutStartUSec", "--property=StatusText"])
        .arg(name.unit())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Whether systemd has nothing more to do for a container: its `ExecStopPost=` is over, or was never to come.
pub(super) fn is_over(name: &ContainerName) -> bool {
    let mut show = Command::new("systemctl");
    show.args(["show", "--property=ActiveState", "--value"]).arg(name.unit());
    let said = show.stdin(Stdio::null()).stderr(Stdio::null()).output();
    said.is_ok_and(|said| matches!(said.stdout.trim_ascii(), b"inactive" | b"failed"))
}

/// From `NAME=value` lines.
fn parse(properties: &str) -> Asked {
    let mut asked = Asked::default();
    for (key, value) in properties.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "NRestarts" => asked.restarts = value.parse().unwrap_or(0),
            "TimeoutStartUSec" if value == "infinity" => asked.timeout = Some(Duration::MAX),
            "TimeoutStartUSec" => asked.timeout = duration(value).ok(),
            "StatusText" => value.clone_into(&mut asked.said),
            _ => {}
        }
    }
    asked
}

/// systemd's word to end, by whatever signal the container's stop has: some don't end a process by themselves.
struct Stop(Signals);

impl Stop {
    /// Heeds it from now on, until this is dropped.
    fn take(container: &Container) -> Option<Self> {
        let asked = container.stop.signal.unwrap_or(Signal::TERM);
        Signals::take(&[asked, Signal::TERM].map(|signal| signal.number())).ok().map(Self)
    }

    /// Waits for it, no longer than this.
    fn comes_within(&self, pause: Duration) -> bool {
        let until = now().saturating_add(millis(pause));
        loop {
            if self.0.next().is_some() {
                return true;
            }
            let left = until.saturating_sub(now());
            if left == 0 {
                return false;
            }
            let left = Timespec {
                tv_sec: (left / 1000).try_into().unwrap_or(i64::MAX),
                tv_nsec: (left % 1000 * 1_000_000).try_into().unwrap_or(0),
            };
            let _ = rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&left));
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        process::unblock_signals();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double() {
        let delays: Vec<u128> = (0..12).map(|row| delay(row).as_millis()).collect();
        assert_eq!(delays, [0, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn it_proves_itself_from_when_it_is_ready() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let name = "x".parse().expect("a name");
        is_ready(&paths, &name, true);
        assert_eq!(ready_for(&paths, &name), None, "it was never started");
        keep(&paths, &name, &Last { at: 1, ..Last::default() });
        assert_eq!(ready_for(&paths, &name), None, "it may have been on its way up for long");
        is_ready(&paths, &name, false);
        assert!(ready_for(&paths, &name).is_some_and(|time| time < Duration::from_secs(60)));
        let last = last(&paths, &name).expect("kept");
        assert!(last.age() > Duration::from_secs(1) && !last.is_ready);
    }

    #[test]
    fn rows_of_restarts() {
        let before = |restarts, row| Last { restarts, row, ..Last::default() };
        // Started by somebody, and ended: the first, the second.
        assert_eq!(row(&before(0, 0), 1), 1);
        assert_eq!(row(&before(1, 1), 2), 2);
        // After a long time up systemd's count is any.
        assert_eq!(row(&before(0, 0), 17), 1);
        // Started or reset by somebody.
        assert_eq!(row(&before(5, 5), 0), 0);
        assert_eq!(row(&before(5, 5), 1), 1);
        assert_eq!(row(&before(5, 5), 5), 0);
        assert_eq!(row(&before(17, 0), 5), 1);
        assert_eq!(row(&before(5, 5), 6), 6);
    }

    #[test]
    fn answers() {
        let asked = parse("TimeoutStartUSec=1min 30s\nNRestarts=3\nStatusText=Health: a=b\n");
        let said = "Health: a=b".to_owned();
        assert_eq!(asked, Asked { restarts: 3, timeout: Some(Duration::from_secs(90)), said });
        let endless = parse("TimeoutStartUSec=infinity\nNRestarts=0\nStatusText=\n");
        assert_eq!(endless, Asked { timeout: Some(Duration::MAX), ..Asked::default() });
    }
}
