//! The small init of a container with `[health]`: what [`super::init`] does, and checks.
//!
//! ```text
//!  systemd ◄── STATUS=, READY=1, WATCHDOG= ── init, process 1 ──► the program
//!     │                                         │ fork, at each interval
//!     └── WatchdogSignal= ─────────────────────►│ └─► the check: a program, or a connection
//! ```
//!
//! Between two checks it sleeps in one poll(2), for signals, and there is no other process. Its words go through a
//! socket that the executor has connected on the host.
//!
//! An unhealthy container is restarted by systemd: `WATCHDOG=trigger` has it send `WatchdogSignal=`, upon which the init
//! stops the program by its own stop signal, and `Restart=` does the rest. One that is to stay stopped is stopped by the
//! init, which then ends with a status that the unit names in `RestartPreventExitStatus=`.

mod judge;
mod notify;
mod probe;
mod run;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, WaitOptions};

pub use notify::Notify;
pub use run::Surroundings;

use super::failure::{Ends, Failure, Status};
use super::init::{CHILD, status_of};
use crate::plan::health::{GIVEN_UP, WATCHDOG_SIGNAL, Watch};
use crate::spec::Signal;
use crate::sys::process;
use crate::sys::signals::Signals;
use judge::{Judge, Outcome, Verdict};
use run::Run;

/// How long before systemd's own time limit the wait for a program ends that is to stay stopped: the end must be the
/// init's, with its status.
const MARGIN: Duration = Duration::from_millis(500);

/// How soon a check comes again whose result systemd has not heard: the start may be waiting for it.
const AGAIN: Duration = Duration::from_secs(1);

/// All that can be sent, signal(7).
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// Listens for signals, which are all blocked already: none is lost in between.
///
/// # Errors
/// What signalfd(2) says.
pub fn listen() -> Result<Signals, Failure> {
    Signals::take(&SIGNALS.collect::<Vec<_>>()).ends(Status::Exec)
}

/// Stays until the program ends, and ends as it ended.
pub fn stay(program: Pid, watch: &Watch, signals: Signals, notify: Notify, around: &Surroundings<'_>) -> ! {
    let _ = rustix::thread::set_name(c"wharf-init");
    let judge = Judge::new(watch);
    let now = Instant::now();
    let next = now + judge.first();
    let mut init =
        Init { program, watch, signals, notify, judge, begun: now, next, run: None, state: State::Checks };
    let words = init.judge.before();
    init.notify.say(&words);
    loop {
        init.wait();
        init.hear_signals();
        init.take_steps(Instant::now(), around);
    }
}

/// What the init is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Checks.
    Checks,
    /// The program was asked to end by somebody else. What it does meanwhile is no matter of health; should it live on
    /// after that time, it was no request to end.
    Asked(Instant),
    /// systemd stops it all.
    Ends,
    /// The init stops the program for good; at that time at the latest.
    GivesUp(Instant),
}

struct Init<'a> {
    program: Pid,
    watch: &'a Watch,
    signals: Signals,
    notify: Notify,
    judge: Judge,
    begun: Instant,
    /// When the next check is due.
    next: Instant,
    run: Option<Run>,
    state: State,
}

impl Init<'_> {
    /// Sleeps until there is something to do.
    fn wait(&mut self) {
        let until = match (self.state, &self.run) {
            (State::Ends, _) => None,
            (State::GivesUp(at), _) => Some(at),
            (State::Checks, Some(run)) if !run.is_stuck() => Some(run.deadline),
            (State::Checks, _) => Some(self.next),
            (State::Asked(over), _) => Some(self.next.min(over)),
        };
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let output = self.run.as_ref().and_then(Run::output);
        let mut polled = vec![PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN)];
        polled.extend(output.map(|output| PollFd::from_borrowed_fd(output, PollFlags::IN)));
        let answer = rustix::event::poll(&mut polled, left.as_ref());
        let spoken = answer.is_ok() && polled.get(1).is_some_and(|output| !output.revents().is_empty());
        drop(polled);
        if let Some(run) = self.run.as_mut().filter(|_| spoken) {
            run.listen();
        }
    }

    fn hear_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            self.hear(signal);
        }
    }

    fn hear(&mut self, signal: i32) {
        match signal {
            CHILD => self.reap(),
            // systemd has missed that the program is being stopped for good. It has its signal already.
            WATCHDOG_SIGNAL if matches!(self.state, State::GivesUp(_)) => {}
            WATCHDOG_SIGNAL => {
                self.leave(State::Ends);
                self.stop_program();
            }
            signal => {
                // A start that takes too long, or is stopped meanwhile, is ended by systemd without `ExecStop=`, which
                // would have sent what the image says: by SIGTERM, where the file says nothing else.
                let starts = self.watch.ready && !self.notify.has_said_ready();
                let signal = match signal == Signal::TERM.number() && starts {
                    true => self.watch.stop_signal.number(),
                    false => signal,
                };
                process::send_signal(self.program, signal);
                let asks = [self.watch.stop_signal, Signal::TERM];
                if asks.iter().any(|asks| asks.number() == signal) && self.state == State::Checks {
                    self.leave(State::Asked(Instant::now() + self.watch.stop_timeout));
                }
            }
        }
    }

    /// Checks no more, for a while at least.
    fn leave(&mut self, state: State) {
        if let Some(run) = &mut self.run {
            run.abandon(Instant::now());
        }
        self.state = state;
    }

    fn stop_program(&self) {
        process::send_signal(self.program, self.watch.stop_signal.number());
    }

    fn reap(&mut self) {
        // One SIGCHLD may stand for several ends.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.program {
                if let Some(status) = status_of(status) {
                    self.end(status);
                }
            } else if let Some(run) = self.run.take_if(|run| run.is(pid)) {
                // One that was abandoned tells nothing.
                if let Some(outcome) = run.ended(status).filter(|_| self.state == State::Checks) {
                    self.take_in(Instant::now(), outcome);
                }
            }
        }
    }

    /// The program has ended.
    fn end(&self, status: i32) -> ! {
        if let State::GivesUp(_) = self.state {
            process::end(GIVEN_UP.into());
        }
        // What was wrong stays to be read.
        if self.judge.is_well() {
            self.notify.take_back();
        }
        process::end(status)
    }

    fn take_steps(&mut self, now: Instant, around: &Surroundings<'_>) {
        match self.state {
            State::Ends => {}
            // All that is left ends with process 1 (pid_namespaces(7)).
            State::GivesUp(at) if now >= at => process::end(GIVEN_UP.into()),
            State::GivesUp(_) => {}
            State::Asked(over) if now >= over => {
                self.state = State::Checks;
                self.next = now;
            }
            State::Asked(_) if now >= self.next => {
                // In case that the unit isn't being stopped. In a start that systemd waits for, it would arm the
                // watchdog.
                let starts = self.watch.ready && !self.notify.has_said_ready();
                let arrived = starts || self.notify.feed();
                self.next = now + again(self.watch.interval, arrived);
            }
            State::Asked(_) => {}
            State::Checks => match &mut self.run {
                // Another one beside it would be stuck as well: each time that one is due, this one has failed again.
                Some(run) if run.is_stuck() && now >= self.next => {
                    let outcome = run.stuck();
                    self.take_in(now, outcome);
                }
                Some(run) => {
                    if let Some(outcome) = run.look(now) {
                        self.take_in(now, outcome);
                    }
                }
                None if now >= self.next => match Run::begin(&self.watch.check, self.watch.timeout, around) {
                    Ok(run) => self.run = Some(run),
                    Err(outcome) => self.take_in(now, outcome),
                },
                None => {}
            },
        }
    }

    fn take_in(&mut self, now: Instant, outcome: Outcome) {
        let Verdict { words, journal, wait, stop } = self.judge.judge(now - self.begun, outcome);
        let arrived = self.notify.say(&words);
        if let Some(entry) = journal {
            self.notify.log(&entry);
        }
        self.next = now + again(wait, arrived);
        if stop {
            let patience = self.watch.stop_timeout;
            let patience = patience.saturating_sub(MARGIN).max(patience / 2);
            self.leave(State::GivesUp(now + patience));
            self.stop_program();
        }
    }
}

/// Until the next words, by whether the last ones arrived.
fn again(wait: Duration, arrived: bool) -> Duration {
    if arrived { wait } else { wait.min(AGAIN) }
}

#[cfg(test)]
mod tests;
