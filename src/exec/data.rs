//! A container's data before it starts: snapshots of its volumes are taken, restored and dropped here, as
//! [`crate::plan::snapshot`] says. See [`crate::held::snapshots`] for what is on disk after each step.

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::failure::{Failure, Status};
use super::{Loaded, again, handover};
use crate::held;
use crate::held::snapshots::{self, Owed, Settled, Unsettled};
use crate::host::Paths;
use crate::journal::{self, About, Kind};
use crate::plan::snapshot::{Before, before};
use crate::spec::ContainerName;

/// How much more time is asked for, again and again, while volumes are copied.
const MORE: Duration = Duration::from_secs(60);

/// How often.
const OFTEN: Duration = Duration::from_secs(15);

/// What may take long, for `systemctl status`.
const BUSY: [(Before, &str); 2] = [
    (Before::Take, "Takes snapshots of its volumes, before another image is tried"),
    (Before::Restore, "Puts its volumes back as they were"),
];

/// Does what is to be done about a container's data before this start of it. Says whether it is still the one to start:
/// its mark may have changed meanwhile.
///
/// # Errors
/// It isn't known what that is, what is tried would run without a snapshot, or what is good with half of its data: the
/// container must not start.
pub(super) fn settle(paths: &Paths, loaded: &Loaded, about: &About) -> Result<bool, Failure> {
    let name = &loaded.container.name;
    let volumes = loaded.container.writes_to();
    if let Some((volume, owed)) = snapshots::half_restored(paths, name, &volumes) {
        return Err(half(&volume, &owed));
    }
    if loaded.transient {
        return Ok(true);
    }
    let there = snapshots::find(paths, name).map_err(|error| unknown(&error))?;
    let mark = match (held::find(paths, name), &there) {
        // It was that of the last good plan when this start asked what to start, and what was tried has proved itself since:
        // its data aren't for what was before.
        (Ok(None), _) if loaded.plan.held.is_some() && !held::is_there(paths, name) => return Ok(false),
        (Ok(mark), _) => mark,
        // Nothing would be taken or put back by it.
        (Err(_), None) if !loaded.container.snapshot => None,
        (Err(error), _) => return Err(unknown(&error)),
    };
    // Nearly always.
    if there.is_none() && mark.as_ref().is_none_or(|mark| mark.snapshot.is_none()) {
        return Ok(true);
    }
    let starts = held::fingerprint(paths, &loaded.container, &loaded.plan.trust);
    let is_good = loaded.plan.held.is_some();
    let live = held::live(paths);
    let stages = there.as_ref().map(|(all, stage)| (all, *stage));
    let asked = |stages| before(mark.as_ref(), stages, &starts, is_good, live.as_deref());
    let step = asked(stages);
    if step == Before::Nothing {
        return Ok(true);
    }
    // One of another version of Wharf says nothing here, and they may be its own.
    if step == Before::Drop && mark.is_none() && held::is_there(paths, name) {
        return Ok(true);
    }
    let label = match (&there, mark.as_ref().and_then(|mark| mark.snapshot.as_deref())) {
        (_, Some(label)) if step == Before::Take => label,
        (Some((all, _)), _) => all.label.as_str(),
        (None, label) => label.unwrap_or_default(),
    };
    let say = |priority: u8, volumes: &BTreeSet<String>, text: &str| {
        let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
        let about = About { volumes: volumes.join(" "), snapshot: Some(label.to_owned()), ..about.clone() };
        journal::send(&about, priority, None, &format!("{name}: {text}"));
    };
    if let Some((_, what)) = BUSY.iter().find(|(busy, _)| *busy == step) {
        handover::status(what);
    }
    let settled = patiently(name, || snapshots::settle(paths, name, step, label, &volumes));
    let Settled { volumes, after, undropped, is_moved } =
        settled.map_err(|error| unsettled(paths, name, error))?;
    if BUSY.iter().any(|(busy, _)| *busy == step) {
        handover::status("");
    }
    match step {
        Before::Nothing | Before::Drop => {}
        Before::Take => say(5, &volumes, &format!("took snapshot {label} of {}", named(&volumes))),
        Before::Restore => {
            if let Some(after) = after {
                let text =
                    format!("what was written to it since is in snapshot {after}: {}", named(&volumes));
                say(4, &volumes, &text);
            }
            say(4, &volumes, &format!("put {} back as in snapshot {label}", named(&volumes)));
        }
        Before::Leave => {
            let text = format!(
                "a third version goes on with its data, and snapshot {label} of {} isn't restored any more; it is in \
                 {} until the next `wharf apply`",
                named(&volumes),
                paths.state().join("volumes/.snapshots").display()
            );
            say(4, &volumes, &text);
        }
    }
    // That they stay is no reason not to start.
    if let Some(error) = undropped {
        let failure = Failure::from_error(Status::Config, &error);
        let text = format!("a snapshot can't be dropped, which its next start tries again: {failure}");
        say(4, &BTreeSet::new(), &text);
    }
    // Of what has just been put back the next one is tried, which a restore that was cut off didn't come to.
    Ok(!is_moved && (step != Before::Restore || asked(None) == Before::Nothing))
}

/// Why the start can't go on, and what helps.
fn unsettled(paths: &Paths, name: &ContainerName, error: Unsettled) -> Failure {
    let failure = Failure::from_error(Status::Config, &error);
    let told = |what: &str, kind: Kind| {
        Failure::new(Status::Config, format!("{what}: {}", failure.problem)).of(kind)
    };
    match error {
        Unsettled::NotTaken(_) => told("no snapshot of its volumes, and nothing was tried", Kind::NoSnapshot),
        Unsettled::NotKept(_) => told("what was written since can't be kept", Kind::NotRestored).hint(format!(
            "what was tried may have run for long, and its data are to be in a snapshot before its volumes are put \
             back; each start tries again; to give them up instead: touch {}",
            snapshots::unkept(paths, name).display()
        )),
        Unsettled::NotRestored(_) => {
            told("its volumes can't be put back as they were", Kind::NotRestored).hint(format!(
                "the snapshots stay, and each start tries again; to start it with its data as they are, of which some may be \
                 back: rm {}/{name}.restoring",
                held::folder(paths).display()
            ))
        }
        Unsettled::NotLeft(error) => unknown(&error),
    }
}

/// Why what has the same volume as another one, whose restore was cut off, doesn't start.
fn half(volume: &str, owed: &Owed) -> Failure {
    let Owed { container, label, file } = owed;
    let problem = format!(
        "volumes of {container} are being put back as in snapshot {label}, {volume} among them, and may be so by half"
    );
    Failure::new(Status::Config, problem).of(Kind::NotRestored).hint(format!(
        "the next start of {container} puts back the rest: systemctl start {}; to go on with them as they are: rm {}",
        container.unit(),
        file.display()
    ))
}

fn unknown(error: &dyn std::error::Error) -> Failure {
    Failure::from_error(Status::Config, error).of(Kind::NotRestored).hint(
        "that file says whether its volumes are to be put back first; without it, it starts with its data as they are",
    )
}

fn named(volumes: &BTreeSet<String>) -> String {
    match volumes.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => "no volume, as there is none yet".to_owned(),
        [one] => format!("volume {one}"),
        more => format!("volumes {}", more.join(", ")),
    }
}

/// Does what may take long, and has systemd wait for it: as long as it takes, and then as long as a start may.
pub(super) fn patiently<T>(name: &ContainerName, what: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let more = |time: Duration| {
        let time = time.as_micros();
        let _ = sd_notify::notify(&[NotifyState::Custom(&format!("EXTEND_TIMEOUT_USEC={time}"))]);
    };
    // The thread is gone before this process makes another one.
    let (done, is_done) = channel::<()>();
    more(MORE);
    let result = std::thread::scope(|scope| {
        scope.spawn(move || {
            while is_done.recv_timeout(OFTEN) == Err(RecvTimeoutError::Timeout) {
                more(MORE);
            }
        });
        let result = what();
        drop(done);
        result
    });
    if began.elapsed() >= OFTEN
        && let Some(timeout) = again::ask(name).and_then(|asked| asked.timeout)
        && timeout != Duration::MAX
    {
        more(timeout);
    }
    result
}
