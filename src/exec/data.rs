//! A container's data before it starts: snapshots of its volumes are taken, restored and dropped here, as
//! [`crate::plan::snapshot`] says. See [`crate::held::snapshots`] for what is on disk after each step.

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::failure::{Failure, Status};
use super::{Loaded, again, handover};
use crate::held::{self, snapshots};
use crate::host::Paths;
use crate::journal::{self, About, Kind};
use crate::plan::held::{PROVED, State};
use crate::plan::snapshot::{Before, before};
use crate::spec::ContainerName;

/// How much more time is asked for, again and again, while volumes are copied.
const MORE: Duration = Duration::from_secs(60);

/// How often.
const OFTEN: Duration = Duration::from_secs(15);

/// Does what is to be done about a container's data before this start of it.
///
/// # Errors
/// It isn't known what that is, what is tried would run without a snapshot, or what is good with half of its data: the
/// container must not start.
pub(super) fn settle(paths: &Paths, loaded: &Loaded, about: &About) -> Result<(), Failure> {
    let name = &loaded.container.name;
    if loaded.transient {
        return Ok(());
    }
    let unknown = |error: &dyn std::error::Error| {
        Failure::from_error(Status::Config, error).of(Kind::NotRestored).hint(
            "that file says whether its volumes are to be put back first; without it, it starts with its data as they are",
        )
    };
    let there = snapshots::find(paths, name).map_err(|error| unknown(&error))?;
    let mark = match (held::find(paths, name), &there) {
        (Ok(mark), _) => mark,
        (Err(_), None) => None,
        (Err(error), Some(_)) => return Err(unknown(&error)),
    };
    // Nearly always.
    if there.is_none() && mark.as_ref().is_none_or(|mark| mark.snapshot.is_none()) {
        return Ok(());
    }
    let starts = held::fingerprint(paths, &loaded.container, &loaded.plan.trust);
    let is_good = loaded.plan.held.is_some();
    let step = before(mark.as_ref(), there.as_ref().map(|(all, stage)| (all, *stage)), &starts, is_good);
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
    match step {
        Before::Nothing => {}
        Before::Take => {
            handover::status("Takes snapshots of its volumes, before another image is tried");
            let volumes = loaded.container.writes_to();
            let taken =
                patiently(name, || snapshots::take(paths, name, label, &volumes)).map_err(|error| {
                    let failure = Failure::from_error(Status::Config, &error);
                    let problem =
                        format!("no snapshot of its volumes, and nothing was tried: {}", failure.problem);
                    Failure::new(Status::Config, problem).of(Kind::NoSnapshot)
                })?;
            handover::status("");
            say(5, &taken, &format!("took snapshot {label} of {}", named(&taken)));
        }
        Before::Restore => {
            if let (Some(mark), Some((all, _))) = (&mark, &there)
                && mark.state == State::Trying
                && snapshots::age(paths, name).is_some_and(|age| age >= PROVED)
            {
                let kept = patiently(name, || snapshots::keep_present(paths, name, all)).map_err(|error| {
                    Failure::from_error(Status::Config, &error).of(Kind::NotRestored).hint(
                        "what was tried had long run, and what it has written is to be kept in a snapshot before its \
                         volumes are put back; each start tries again",
                    )
                })?;
                let text =
                    format!("what was written to it since is in snapshot {kept}: {}", named(&all.volumes));
                say(4, &all.volumes, &text);
            }
            handover::status("Puts its volumes back as they were");
            let restored = patiently(name, || snapshots::restore(paths, name)).map_err(|error| {
                let failure = Failure::from_error(Status::Config, &error);
                let problem = format!("its volumes can't be put back as they were: {}", failure.problem);
                Failure::new(Status::Config, problem).of(Kind::NotRestored).hint(format!(
                    "the snapshots stay, and each start tries again; to start it with its data as they are: rm {}/{name}.taken",
                    held::folder(paths).display()
                ))
            })?;
            handover::status("");
            say(4, &restored, &format!("put {} back as in snapshot {label}", named(&restored)));
            dropped(paths, name, say);
        }
        Before::Leave => {
            snapshots::leave(paths, name).map_err(|error| unknown(&error))?;
            let volumes = there.as_ref().map(|(all, _)| all.volumes.clone()).unwrap_or_default();
            let text = format!(
                "a third version goes on with its data, and snapshot {label} of {} isn't restored any more; it is in \
                 {} until the next `wharf apply`",
                named(&volumes),
                paths.state().join("volumes/.snapshots").display()
            );
            say(4, &volumes, &text);
        }
        Before::Drop => dropped(paths, name, say),
    }
    Ok(())
}

/// Drops them. That they stay is no reason not to start: the next start tries again.
fn dropped(paths: &Paths, name: &ContainerName, say: impl Fn(u8, &BTreeSet<String>, &str)) {
    if let Err(error) = patiently(name, || snapshots::drop(paths, name)) {
        let failure = Failure::from_error(Status::Config, &error);
        say(
            4,
            &BTreeSet::new(),
            &format!("a snapshot can't be dropped, which its next start tries again: {failure}"),
        );
    }
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
