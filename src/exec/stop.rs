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
use super::{handover, load, machined, network, reload_systemd};
use crate::check::{Container, RootSource};
use crate::held;
use crate::host::Paths;
use crate::image::Store;
use crate::journal::Kind;
use crate::last_good;
use crate::plan::health;
use crate::plan::held::{Fingerprint, State};
use crate::running::{self, Running};
use crate::spec::{ContainerName, Signal};
use crate::sys::process;
use crate::transient;

/// Sends the main process the stop signal that the image it was started from asks for, and waits for its end. The
/// generator, which may not read the store, could not write the signal into the unit. Where the image asks for nothing
/// else than SIGTERM this does nothing: systemd sends that itself.
///
/// How long that may take is systemd's to say: a program can ask it for more time (`EXTEND_TIMEOUT_USEC=`), of which
/// nothing is known here. When the time is over it kills all of the unit, this process too
/// (`TimeoutStopFailureMode=kill`); by its default, SIGTERM would come first and get as much time again.
///
/// # Errors
/// A plan or an image that can't be read, or a signal that is none; systemd then sends SIGTERM.
pub fn stop(paths: &Paths, name: &ContainerName, main: Option<&str>) -> Result<(), Failure> {
    let Some(main) = main.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw) else { return Ok(()) };
    // What hears the signal was started by another file than there is now, perhaps.
    let record = running::find(paths, name).ok().flatten();
    let (container, digest) = match record {
        Some(record) => (record.container, record.image),
        None => (load(paths, name)?.container, None),
    };
    let signal = match stop_signal(&Store::new(paths.state()), &container, digest.as_deref())? {
        None | Some(Signal::TERM) => return Ok(()),
        Some(signal) => signal,
    };
    let pidfd = match pidfd_open(main, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // It has ended meanwhile.
        Err(Errno::SRCH) => return Ok(()),
        Err(errno) => {
            return Err(Failure::new(Status::Config, format!("can't watch the main process: {errno}")));
        }
    };
    // The descriptor is of the right process only if that had not ended, and its id been given away, before.
    if !is_ours(main) {
        return Ok(());
    }
    process::send_signal_to(pidfd.as_fd(), signal.number());
    ended(&pidfd);
    Ok(())
}

/// Waits for a process's end.
fn ended(pidfd: &OwnedFd) {
    while let Err(Errno::INTR) = rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) {}
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

/// Forgets what a container would fall back to, where it was tried by a `wharf apply` that was ended, and was up for so
/// long since that it has proved itself (see [`held`]). What can't be told leaves everything as it is. To be asked first
/// after its end: there is a record of it still, and systemd has its own last words.
pub fn proved(paths: &Paths, name: &ContainerName, end: End<'_>) {
    let mark = || held::find(paths, name).ok().flatten();
    // Nearly always there is none.
    if mark().is_none_or(|mark| mark.state != State::Trying) {
        return;
    }
    let (Ok(loaded), Ok(Some(record)), Some(last)) =
        (load(paths, name), running::find(paths, name), again::last(paths, name))
    else {
        return;
    };
    // What was on its way up for long has proved nothing.
    let Some(up) = last.ready_for().filter(|_| record.held.is_none()) else { return };
    // What is unhealthy at its end has proved nothing, however long it was up.
    if end.result == "watchdog" || again::ask(name).is_none_or(|asked| health::is_in_trouble(&asked.said)) {
        return;
    }
    // Whoever else has it sees to this, or tries it itself.
    let Ok(Some(_lock)) = held::try_apply(paths) else { return };
    let Running { container, image, files, .. } = &record;
    let runs = Fingerprint::of(container, &loaded.plan.trust, image.clone(), files.clone());
    if mark().is_none_or(|mark| !mark.has_proved_itself(None, &runs, container, up))
        || held::forget(paths, name).is_err()
    {
        return;
    }
    // A reload since has put the last good plan into its unit. Without another one each start sees to that.
    if loaded.plan.held.is_some() {
        reload_systemd();
    }
    let _ = last_good::keep_present(paths, name, container);
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
