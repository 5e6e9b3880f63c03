//! The init's own doings, with a program that is a child of the test.

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};

use super::super::init::tell;
use super::*;
use crate::check::OnFailure;
use crate::plan::health::Probe;

const SECOND: Duration = Duration::from_secs(1);
const NOTHING: Surroundings<'_> = Surroundings { environment: &[], path: "" };

/// A process that lives until it is killed, and that nobody reaps before the test does.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let child = Command::new("sleep").arg("1000").process_group(0).spawn();
        Self(child.expect("a child"))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(on_failure: OnFailure, ready: bool) -> Watch {
    Watch {
        check: Probe::Program(vec!["/nowhere".into()]),
        interval: 10 * SECOND,
        timeout: 5 * SECOND,
        retries: 2,
        start_period: Duration::ZERO,
        on_failure,
        ready,
        watchdog: None,
        start_timeout: None,
        stop_signal: Signal::TERM,
        stop_timeout: 60 * SECOND,
    }
}

/// An init that has begun, and who hears it.
fn init<'a>(watch: &'a Watch, program: &Sleeper, begun: Instant) -> (Init<'a>, UnixDatagram) {
    let (here, there) = UnixDatagram::pair().expect("a pair");
    there.set_nonblocking(true).expect("set");
    let init = Init {
        program: program.pid(),
        watch,
        signals: Signals::take(&[]).expect("a descriptor"),
        notify: Notify::over(Some(here)),
        judge: Judge::new(watch),
        begun,
        next: begun,
        run: None,
        state: State::Checks,
    };
    (init, there)
}

fn heard(there: &UnixDatagram) -> Option<String> {
    let mut text = [0; 4096];
    there.recv(&mut text).ok().map(|size| String::from_utf8_lossy(&text[..size]).into_owned())
}

#[test]
fn a_check_that_cannot_be_killed_fails_again_and_again() {
    let (program, check) = (Sleeper::new(), Sleeper::new());
    let watch = watch(OnFailure::None, false);
    let begun = Instant::now();
    let (mut init, there) = init(&watch, &program, begun);
    init.judge.judge(Duration::ZERO, Outcome::Passed(String::new()));
    // It is killed by that, and stays: nobody reaps it.
    init.run = Some(Run::of(check.pid(), None, watch.timeout));
    let at = |seconds: u32| begun + seconds * SECOND + SECOND / 10;
    init.take_steps(at(4), &NOTHING);
    init.take_steps(at(5), &NOTHING);
    assert_eq!(heard(&there), None, "it may take a moment to end");
    init.take_steps(at(6), &NOTHING);
    let words = heard(&there).expect("the watchdog is fed");
    assert!(words.contains("no result within 5s, and the check can't be killed"), "{words}");
    assert!(words.contains("healthy, but 1 of 2") && words.contains("WATCHDOG=1"), "{words}");
    init.take_steps(at(10), &NOTHING);
    assert_eq!(heard(&there), None);
    init.take_steps(at(16), &NOTHING);
    let words = heard(&there).expect("fed again");
    assert!(words.contains("STATUS=Health: unhealthy") && words.contains("WATCHDOG=1"), "{words}");
    assert!(init.run.as_ref().is_some_and(|run| run.is(check.pid())), "no other beside it");
}

#[test]
fn what_gives_up_stays_with_that() {
    let program = Sleeper::new();
    let watch = watch(OnFailure::Stop, false);
    let begun = Instant::now();
    let (mut init, there) = init(&watch, &program, begun);
    // Nobody hears that it stops.
    drop(there);
    for seconds in [60, 70] {
        init.take_in(begun + seconds * SECOND, Outcome::Failed("no".into()));
    }
    let gives_up = init.state;
    assert!(matches!(gives_up, State::GivesUp(_)), "{gives_up:?}");
    init.hear(WATCHDOG_SIGNAL);
    assert_eq!(init.state, gives_up);
}

#[test]
fn words_that_did_not_arrive_are_said_soon() {
    let program = Sleeper::new();
    let watch = watch(OnFailure::Restart, true);
    let begun = Instant::now();
    let (mut init, there) = init(&watch, &program, begun);
    init.take_in(begun, Outcome::Passed(String::new()));
    assert!(heard(&there).is_some_and(|words| words.contains("READY=1")));
    assert_eq!(init.next, begun + 10 * SECOND);
    drop(there);
    init.take_in(begun, Outcome::Passed(String::new()));
    assert_eq!(init.next, begun + AGAIN);
}

#[test]
fn a_start_arms_no_watchdog() {
    let program = Sleeper::new();
    let watch = watch(OnFailure::Restart, true);
    let begun = Instant::now();
    let (mut init, there) = init(&watch, &program, begun);
    init.state = State::Asked(begun + 1000 * SECOND);
    init.take_steps(begun + SECOND, &NOTHING);
    assert_eq!(heard(&there), None);
    init.state = State::Checks;
    init.take_in(begun + SECOND, Outcome::Passed(String::new()));
    assert!(heard(&there).is_some_and(|words| words.contains("READY=1")));
    init.state = State::Asked(begun + 1000 * SECOND);
    init.take_steps(begun + 30 * SECOND, &NOTHING);
    assert_eq!(heard(&there).as_deref(), Some("WATCHDOG=1\n"));
}

#[test]
fn a_start_is_ended_by_the_images_signal() {
    // Not one that a shell's background commands ignore, and what they start with them.
    let own: Signal = "SIGUSR1".parse().expect("a signal");
    for (is_ready, expected) in [(false, own), (true, Signal::TERM)] {
        let mut program = Sleeper::new();
        let watch = Watch { stop_signal: own, ..watch(OnFailure::Restart, true) };
        let begun = Instant::now();
        let (mut init, _there) = init(&watch, &program, begun);
        if is_ready {
            init.take_in(begun, Outcome::Passed(String::new()));
        }
        init.hear(Signal::TERM.number());
        assert!(matches!(init.state, State::Asked(_)));
        let status = program.0.wait().expect("it has ended");
        assert_eq!(status.signal(), Some(expected.number()), "ready: {is_ready}");
    }
}

#[test]
fn a_line_waits_for_nobody() {
    let (here, there) = UnixStream::pair().expect("a pair");
    // More than any buffer holds.
    for _ in 0..10_000 {
        tell(here.as_fd(), &[b'x'; 1000]);
    }
    drop(there);
    tell(here.as_fd(), b"nobody reads");
    let mut file = tempfile::tempfile().expect("a file");
    tell(file.as_fd(), b"a line");
    let mut text = String::new();
    std::io::Seek::rewind(&mut file).expect("the beginning");
    std::io::Read::read_to_string(&mut file, &mut text).expect("a text");
    assert_eq!(text, "a line");
}
