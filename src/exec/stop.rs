//! `wharf-executor stop|stopped|refuse NAME`: the small rest of a unit's life.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::again::{self, Last};
use super::failure::{Failure, Status};
use super::target::cgroup_of;
use super::words::{self, End, Known, Words};
use super::{handover, load, machined, network};
use crate::check::{Container, RootSource};
use crate::host::Paths;
use crate::image::Store;
use crate::journal::Kind;
use crate::plan::unit::STOP_TIMEOUT;
use crate::running;
use crate::spec::{ContainerName, Signal};
use crate::sys::process;
use crate::transient;

/// How long before systemd's own time limit the wait for a stopping container ends.
const MARGIN: Duration = Duration::from_millis(500);

/// Sends the main process the stop signal that the image it was started from asks for, and waits for its end; kills
/// it where that doesn't come in time. The generator, which may not read the store, could not write the signal into
/// the unit. Where the image asks for nothing else than SIGTERM this does nothing: systemd sends that itself.
///
/// systemd's time limit counts for each of its phases: if this ran into it, SIGTERM would get as much again.
///
/// # Errors
/// A plan or an image that can't be read, or a signal that is none; systemd then sends SIGTERM.
pub fn stop(paths: &Paths, name: &ContainerName, main: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(main) = main.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw) else { return Ok(None) };
    // How long systemd waits is what the file says now; what hears the signal was started by another one, perhaps.
    let loaded = load(paths, name)?;
    let record = running::find(paths, name).ok().flatten();
    let (container, digest) = match &record {
        Some(record) => (&record.container, record.image.as_deref()),
        None => (&loaded.container, None),
    };
    let signal = match stop_signal(&Store::new(paths.state()), container, digest)? {
        None | Some(Signal::TERM) => return Ok(None),
        Some(signal) => signal,
    };
    let pidfd = match pidfd_open(main, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // It has ended meanwhile.
        Err(Errno::SRCH) => return Ok(None),
        Err(errno) => {
            return Err(Failure::new(Status::Config, format!("can't watch the main process: {errno}")));
        }
    };
    // The descriptor is of the right process only if that had not ended, and its id been given away, before.
    if !is_ours(main) {
        return Ok(None);
    }
    process::send_signal_to(pidfd.as_fd(), signal.number());
    let patience = loaded.container.stop.timeout.unwrap_or(STOP_TIMEOUT);
    let patience = patience.saturating_sub(MARGIN).max(patience / 2);
    if ended_within(&pidfd, patience) {
        return Ok(None);
    }
    // The last words are said here; systemd will only know of a program that was killed.
    again::note(paths, name, |last| last.was_killed = true);
    process::send_signal_to(pidfd.as_fd(), Signal::KILL.number());
    ended_within(&pidfd, MARGIN);
    let Words { why, hint, .. } =
        words::not_ended(&loaded.container, &loaded.plan.source.display().to_string());
    Ok(Some(format!("{name}: {why}; {}", hint.unwrap_or_default())))
}

/// The signal that ends a container in order, by its file or its image, which has another name by now, perhaps.
fn stop_signal(
    store: &Store,
    container: &Container,
    digest: Option<&str>,
) -> Result<Option<Signal>, Failure> {
    let RootSource::Image(reference) = &container.source else { return Ok(None) };
    if container.stop.signal.is_some() {
        return Ok(container.stop.signal);
    }
    let started = digest.and_then(|digest| store.documents_by_digest(&digest.parse().ok()?).ok());
    let config = match started {
        Some(documents) => documents.config,
        // Removed meanwhile; most often the new one of this name says the same.
        None => store.resolve(reference).map_err(|error| Failure::from_error(Status::Config, &error))?.config,
    };
    match config.config.stop_signal.as_str() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|error| {
            Failure::from_error(Status::Config, &error)
                .hint("the image says so; set [stop] signal in the container file")
        }),
    }
}

/// Whether a process lies in this unit's cgroup, in which systemd has put this one too, perhaps in a child
/// `.control` of it.
pub(super) fn is_ours(pid: Pid) -> bool {
    let own = cgroup_of("self").unwrap_or_default();
    let unit = own.strip_suffix("/.control").unwrap_or(&own);
    cgroup_of(&pid.as_raw_nonzero().to_string()).is_some_and(|theirs| Path::new(&theirs).starts_with(unit))
}

pub(super) fn ended_within(pidfd: &OwnedFd, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut polled, Some(&left)) {
            Err(Errno::INTR) => {}
            answer => return answer == Ok(1),
        }
    }
}

/// What is left to do after the end of a container: what it had of the network is taken back.
///
/// # Errors
/// What can't be taken back; the next start does.
pub fn stopped(paths: &Paths, name: &ContainerName) -> Result<(), Failure> {
    // Before it is started again, perhaps.
    let _ = machined::unregister(paths, name);
    network::leave(paths, name)?;
    match transient::of_this_unit(paths, name) {
        Some(folder) => transient::give_back_leases(paths, name, &folder)
            .map_err(|error| Failure::from_error(Status::Config, &error)),
        None => Ok(()),
    }
}

/// The last words on a container, after its end: said to systemd, for `systemctl status` and `wharf ps`, and given
/// back for the journal. Of a start that has failed the executor has said why.
pub fn last_words(paths: &Paths, name: &ContainerName, end: End<'_>) -> Option<(Kind, String)> {
    let last = again::last(paths, name);
    if last.as_ref().is_some_and(|last| last.has_failed) {
        return None;
    }
    // As it was started; the file may say something else now.
    let (container, file) = match running::find(paths, name).ok().flatten() {
        Some(record) => (record.container, record.source),
        None => load(paths, name).ok().map(|loaded| (loaded.container, loaded.plan.source))?,
    };
    let file = file.display().to_string();
    if end.result == "signal" && end.status == "KILL" && last.as_ref().is_some_and(|last| last.was_killed) {
        handover::status(&capital(&words::not_ended(&container, &file).why));
        return None;
    }
    let asked = words::needs_unit(end, &container).then(|| again::ask(name)).flatten().unwrap_or_default();
    let known = Known {
        container: &container,
        file: &file,
        is_ready: last.as_ref().is_some_and(|last| last.is_ready),
        age: last.as_ref().map(Last::age),
        limit: asked.timeout,
        said: &asked.said,
    };
    let Words { entry, why, hint } = words::words(end, known)?;
    handover::status(&capital(&why));
    let text = match hint {
        Some(hint) => format!("{name}: {why}; {hint}"),
        None => format!("{name}: {why}"),
    };
    Some((entry, text))
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Why a container's file can't be used: the findings that the generator has left for its stub unit.
pub fn refuse(paths: &Paths, name: &ContainerName) -> Failure {
    let candidates = [Some(name.clone()), name.template()];
    for candidate in candidates.into_iter().flatten() {
        let path = paths.plan(candidate.as_str()).with_extension("findings");
        match fs::read_to_string(&path) {
            Ok(findings) => return Failure::new(Status::Config, findings.trim_end()).of(Kind::BadFile),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Failure::new(Status::Config, format!("can't read {}: {error}", path.display()));
            }
        }
    }
    Failure::new(Status::Config, format!("the file of {name} has mistakes"))
        .of(Kind::BadFile)
        .hint(format!("wharf check {name} shows them"))
}
