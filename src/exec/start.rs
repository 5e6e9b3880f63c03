//! `wharf-executor start NAME`: one start, from the plan to READY.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use super::again::{self, Delay};
use super::attached::Attached;
use super::failure::{Failure, Status};
use super::handed::Handed;
use super::health::Notify;
use super::host::{Host, Outcome};
use super::inner::Inner;
use super::line::{Line, Message};
use super::{
    Loaded, credentials, data, environment, handover, load, machined, network, reload_systemd, trust,
};
use crate::apparmor::Profiles;
use crate::check::{Container, NotifyAccess, Ready};
use crate::held;
use crate::host::{HostFacts, Paths};
use crate::image::{ImageError, Store};
use crate::journal::{self, About, Kind};
use crate::last_good;
use crate::plan::Plan;
use crate::plan::companions::socket_unit;
use crate::plan::health::Watch;
use crate::plan::held::State;
use crate::plan::process::process;
use crate::plan::steps::{Steps, steps};
use crate::root::{self, Root, RootError};
use crate::running;
use crate::settings::Settings;
use crate::spec::ContainerName;
use crate::sys;
use crate::sys::clone::Child;
use crate::sys::process::HeldEnd;
use crate::transient;

/// Names the step after which an executor with debug assertions kills itself, for the tests of what is left then: a
/// number from 1, through the host's steps and the three of the handover. What is released never looks at it.
const KILL_AFTER: &str = "WHARF_KILL_AFTER";

/// Starts a container. When this returns without an error, its first process is the unit's main one and runs
/// its program.
///
/// # Errors
/// What kept it from starting; it has been said to systemd as `STATUS=` by then, and is for the caller to
/// print and to end with. `about` then holds as much as is known of what was to run.
pub fn start(paths: &Paths, name: &ContainerName, about: &mut About) -> Result<(), Failure> {
    let mut attached = None;
    attempt(paths, name, about, &mut attached).inspect_err(|failure| {
        if let Some(attached) = &attached {
            attached.failed(failure);
        }
        handover::status(&format!("Can't start: {failure}"));
        again::note(paths, name, |last| last.has_failed = true);
    })
}

fn attempt(
    paths: &Paths,
    name: &ContainerName,
    about: &mut About,
    attached: &mut Option<Attached>,
) -> Result<(), Failure> {
    if let Some(folder) = transient::of_this_unit(paths, name) {
        *attached = Attached::find(&folder)?;
    }
    if name.is_template() {
        return Err(Failure::new(Status::Config, format!("{name} is a template")).hint(format!(
            "start an instance of it: systemctl start {}",
            name.unit().replace('@', "@INSTANCE")
        )));
    }
    // First of all: nothing else that runs here is to have them.
    let handed = Handed::take()?;
    let facts = HostFacts::read(paths);
    let load = || wanted(paths, name).map(|loaded| instead(paths, loaded, facts));
    let mut loaded = load()?;
    match again::wait(paths, name, &loaded.container) {
        Delay::None => {}
        // Its file may have been put right meanwhile.
        Delay::Over => loaded = load()?,
        Delay::Stopped => return Ok(()),
    }
    about.runs(&loaded.container, None);
    // Another run may have taken its trial over meanwhile, and then something else is to start.
    while !data::settle(paths, &loaded, about)? {
        loaded = load()?;
    }
    let Loaded { plan, container, .. } = &loaded;
    let sockets = socket_unit(name);
    let own = container.socket.as_ref().filter(|socket| plan.held.is_some() && socket.proxy.is_none());
    if own.is_some_and(|socket| !handed.fits(&sockets, socket)) {
        // It would serve where the other version was to.
        let problem = format!("{sockets} has other sockets than the last good plan of {name}");
        return Err(Failure::new(Status::Config, problem).hint(format!("wharf apply {name}")));
    }
    let handed = handed.named(&sockets, container.socket.as_ref());
    // Until the process ends: by then the layers are mounted, and seen to be in use.
    let hold = Store::new(paths.state()).hold();
    let Root { layers, implied, image, digest } = root::find(paths, container).map_err(|error| {
        let mut failure = Failure::from_error(Status::Namespace, &error);
        if matches!(error, RootError::Image(_)) {
            failure = failure.of(Kind::NoImage);
        }
        let fetched = container.supply.as_ref().and_then(|supply| supply.unit.as_deref());
        match (error.hint(), &error, fetched) {
            (Some(hint), ..) => failure.hint(hint),
            (None, RootError::Image(ImageError::Missing { .. }), Some(unit)) => failure.hint(status_of(unit)),
            (None, ..) => failure,
        }
    })?;
    about.runs(container, digest.as_deref());
    // Who tries something asks which image it came to.
    if matches!(held::find(paths, name), Ok(Some(_))) {
        again::note(paths, name, |last| last.image.clone_from(&digest));
    }
    trust::admit(&plan.trust, container, digest.as_deref())?;
    let source = plan.source.display().to_string();
    let program =
        process(container, &image, &source).map_err(|error| Failure::from_error(Status::Exec, &error))?;
    let files = environment::read(paths, container)?;
    credentials::are_there(container)?;
    let profile = Profiles::read(paths)
        .choose(&container.apparmor)
        .map_err(|error| Failure::new(Status::AppArmor, &error).hint(error.hint()))?;
    let Steps { host: host_steps, inner: inner_steps } = steps(container, &layers, &implied, &program);

    // What the container's init speaks to systemd through: it is the first process's from its birth on.
    let beside = plan.outdated.as_deref().or(plan.held.as_deref()).map(outdated_line);
    let mut notify = match &program.watch {
        Some(watch) => Some(notification(watch, beside.as_deref())?.about(about)),
        None => None,
    };

    // Modes below are meant under this mask, whatever the unit's `UMask=` is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let (near, far) = Line::pair()?;
    let mut far = Some(far);
    let mut trip = Trip::from_environment();
    let mut host = Host::new(paths, container, plan, digest.as_deref());
    // The first process inherits this. As process 1 of its namespace it would lose what it neither handles nor
    // blocks; blocked, a signal to stop it in mid-start waits until it looks.
    sys::process::block_signals();
    for step in &host_steps {
        match host.take(step).map_err(|failure| failure.in_step(step)) {
            Err(failure) => {
                drop((near, far));
                host.child.iter().for_each(end_of);
                return Err(failure);
            }
            Ok(Outcome::Done) => trip.step(),
            Ok(Outcome::FirstProcess) => {
                // An init lives as long as the container, and nobody could remove an image meanwhile.
                drop((near, hold));
                if let Some(line) = far {
                    let attachment = host.attachment();
                    let cgroup = host.cgroup.take();
                    Inner::new(line, cgroup, &host.stage, container, &image, files, attachment, handed)
                        .speaking(notify.take())
                        .attached(attached.take())
                        .confined(profile)
                        .live(&inner_steps);
                }
                return Err(Failure::new(Status::Config, "two first processes in one plan"));
            }
        }
        if host.child.is_some() && far.take().is_some() {
            sys::process::unblock_signals();
        }
    }
    let child =
        host.child.as_ref().ok_or_else(|| Failure::new(Status::Config, "no first process in the plan"))?;
    drop(notify);
    near.say(&Message::RootStands);
    let connected = |()| host.attachment().map_or(Ok(()), |attachment| network::settle(&attachment));
    if let Err(failure) = ready_to_run(near.hear()).and_then(connected) {
        drop(near);
        end_of(child);
        return Err(failure);
    }
    if let Some(attached) = attached {
        attached.born(child);
    }
    // Where there is an init that checks, the line for `systemctl status` is its.
    let status = beside.filter(|_| program.watch.is_none());
    let result = hand_over(paths, container, &near, child, &mut trip, status.as_deref());
    match &result {
        // One that is ready later keeps its plan then: see `started`.
        Ok(_held) if container.ready != Ready::Exec => {}
        Ok(_held) => {
            again::is_ready(paths, name, false);
            keep(paths, &loaded);
        }
        // It waits for the line's end to exit, and its exit is the unit's. The line ends with this process, and
        // not before, so that systemd has heard why by then.
        Err(_) => std::mem::forget(near),
    }
    if result.is_ok() {
        if let Some(why) = plan.outdated.as_deref().or(plan.held.as_deref()) {
            let why = why.lines().next().unwrap_or_default();
            journal::send(about, 4, Some(Kind::LastGood), &format!("{name}: runs its last good plan: {why}"));
        }
        // Whoever waits for it has it now, whatever else is to be done.
        *attached = None;
        // It runs already. That machined doesn't take it, or isn't there, is nothing to it.
        let interface = host.attachment().map(|attachment| attachment.interface);
        let leader = child.pid.as_raw_nonzero().get().unsigned_abs();
        let _ = machined::register(paths, name, leader, interface.as_deref());
    }
    // Whatever held the program's end back goes last: a program that ends at once then finds nothing of Wharf's
    // left beside it, and `systemctl status` tells of its end only.
    result.map(drop)
}

/// What the unit is of. Where that is a last good plan that nothing asks for any more, it is made anew: what was tried
/// has proved itself since, and data that it has written are never given to what was before.
fn wanted(paths: &Paths, name: &ContainerName) -> Result<Loaded, Failure> {
    let load = || load(paths, name).and_then(declared);
    let is_left = |loaded: &Loaded| {
        loaded.plan.held.is_some() && !loaded.transient && matches!(held::find(paths, name), Ok(None))
    };
    let mut loaded = load()?;
    if is_left(&loaded) {
        reload_systemd();
        loaded = load()?;
        if is_left(&loaded) {
            let problem =
                format!("the unit of {name} is of a last good plan, which nothing asks for any more");
            return Err(Failure::new(Status::Config, problem).hint("systemctl daemon-reload makes it anew"));
        }
    }
    Ok(loaded)
}

/// What no file declares any more has a plan for its end only.
fn declared(loaded: Loaded) -> Result<Loaded, Failure> {
    let Plan { gone, source, container, .. } = &loaded.plan;
    if *gone {
        let problem = format!("no file declares {} any more", container.name);
        let hint = format!("it was {}; with one again: systemctl daemon-reload", source.display());
        return Err(Failure::new(Status::Config, problem).hint(hint));
    }
    Ok(loaded)
}

/// The last good plan, where what the files say failed when it was tried, its turn hasn't come, or nobody looks any more
/// at how it does. The generator has mostly seen to that already; not where /var wasn't there by then, or who tried it
/// was ended since, or what it falls back to for mistakes is a template's, and the mark an instance's.
///
/// Without the image of that plan there is nothing to fall back to, and what the files say is the better chance.
fn instead(paths: &Paths, loaded: Loaded, facts: HostFacts) -> Loaded {
    if loaded.plan.held.is_some() || loaded.transient {
        return loaded;
    }
    let Ok(Some(held)) = held::find(paths, &loaded.container.name) else { return loaded };
    let now = held::fingerprint(paths, &loaded.container, &loaded.plan.trust);
    // The tag in what has worked since boot may name by now what failed.
    let is_behind = loaded.plan.outdated.is_some() && held.is_behind(&loaded.container, &now);
    if !is_behind && !held.is_in_start(Some(&now), held::live(paths).as_deref())
        || root::find(paths, &held.good.container).is_err()
    {
        return loaded;
    }
    let mut plan = held.plan(facts, &Settings::default());
    // What this host trusts is in the plan that is there: both are of one repository, or of one host's default.
    plan.trust = loaded.plan.trust;
    plan.outdated = loaded.plan.outdated;
    // The unit is the other version's. Where that has checks and this one has none, nobody would feed its watchdog.
    if plan.container.health.is_none() && loaded.container.health.is_some() {
        handover::no_watchdog();
    }
    Loaded {
        container: plan.container.clone(),
        plan,
        file: loaded.file,
        text: String::new(),
        transient: false,
    }
}

/// Where it says why the image isn't there.
fn status_of(unit: &str) -> String {
    let unit = unit.strip_suffix(".service").unwrap_or(unit);
    // As a shell takes it: backslashes stand in the names of many references.
    let unit = if unit.contains('\\') { format!("'{unit}'") } else { unit.to_owned() };
    format!("its unit says why: systemctl status {unit}")
}

/// For `systemctl status`: what the container's files say isn't what runs.
fn outdated_line(why: &str) -> String {
    format!("Runs its last good plan: {}", why.lines().next().unwrap_or_default())
}

fn notification(watch: &Watch, beside: Option<&str>) -> Result<Notify, Failure> {
    let notify = Notify::connect().map_err(|error| {
        Failure::new(Status::Config, format!("can't reach systemd's notification socket: {error}"))
    })?;
    Ok(notify.with(beside, watch))
}

fn ready_to_run(message: Option<Message>) -> Result<(), Failure> {
    match message {
        Some(Message::Failed(failure)) => Err(failure),
        Some(Message::Ready) => Ok(()),
        Some(_) | None => {
            Err(Failure::new(Status::Namespace, "the container's first process ended before its program ran"))
        }
    }
}

/// Waits for the end of a first process that systemd hasn't heard of, once its line is closed: left alone it
/// would be killed with the unit, and `systemctl status` would tell of that as if it mattered.
fn end_of(child: &Child) {
    let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
    let _ = rustix::event::poll(&mut [PollFd::new(&child.pidfd, PollFlags::IN)], Some(&patience));
}

fn hand_over(
    paths: &Paths,
    container: &Container,
    line: &Line,
    child: &Child,
    trip: &mut Trip,
    status: Option<&str>,
) -> Result<Option<HeldEnd>, Failure> {
    let told = |error: io::Error| {
        Failure::new(Status::Config, format!("can't tell systemd about the container: {error}"))
    };
    let (before, after) = match container.ready {
        Ready::Exec => (None, status),
        // Later it might be over what the program says, or nobody's any more to say.
        Ready::Notify | Ready::Healthy => (status, None),
    };
    handover::main_process(child.pid, before).map_err(told)?;
    trip.step();
    // A program may end sooner than systemd has heard that it runs, and systemd would take that for a start
    // that failed. Where the end can't be held back, that stays possible and is all that is lost.
    let held = sys::process::hold_end(child.pidfd.as_fd()).ok();
    line.say(&Message::Gate);
    trip.step();
    match line.hear() {
        // Exec has closed the other end.
        None => {}
        message => ready_to_run(message)?,
    }
    match container.ready {
        Ready::Exec => handover::ready(after),
        Ready::Notify => handover::speaks_for_itself(container.notify_access, HostFacts::read(paths)),
        Ready::Healthy => handover::speaks_for_itself(NotifyAccess::Main, HostFacts::read(paths)),
    }
    .map_err(told)?;
    trip.step();
    Ok(held)
}

/// What is left to do when a container is ready some time after it was started (`ExecStartPost=`): its plan has
/// worked now, unless there is another one meanwhile.
///
/// # Errors
/// A plan or a record that can't be read.
pub fn started(paths: &Paths, name: &ContainerName) -> Result<(), Failure> {
    again::is_ready(paths, name, true);
    let loaded = load(paths, name)?;
    let record = running::find(paths, name).map_err(|error| {
        Failure::new(Status::Config, format!("can't read what was started as {name}: {error}"))
    })?;
    if record.is_some_and(|record| record.container == loaded.container) {
        keep(paths, &loaded);
    }
    Ok(())
}

/// Keeps the plan that has just worked, for the generator to fall back to when the container file goes bad.
/// That it can't be kept is no reason to stop a container that runs.
fn keep(paths: &Paths, loaded: &Loaded) {
    // A transient one has no file that could go bad.
    if loaded.plan.outdated.is_some() || loaded.plan.held.is_some() || loaded.transient {
        return;
    }
    // What is being tried has to prove itself first, and what failed never does.
    if held::find(paths, &loaded.container.name)
        .ok()
        .flatten()
        .is_some_and(|held| held.state != State::Failed)
    {
        return;
    }
    let _ = last_good::keep(paths, &loaded.file, &loaded.text);
}

/// Counts steps for [`KILL_AFTER`].
struct Trip {
    left: Option<u32>,
}

impl Trip {
    fn from_environment() -> Self {
        let wanted = if cfg!(debug_assertions) { std::env::var(KILL_AFTER).ok() } else { None };
        Self { left: wanted.and_then(|steps| steps.parse().ok()) }
    }

    fn step(&mut self) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
            }
        }
    }
}
