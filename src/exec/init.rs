//! The small init of `init = true`: process 1 of the container, which reaps what is orphaned, passes signals
//! on to the program, and ends as it ended.
//!
//! A program that is process 1 itself gets only the signals that it handles (pid_namespaces(7)); below this
//! init SIGTERM does to it what it does everywhere.

use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::sys::process;

/// SIGCHLD, signal(7).
pub(super) const CHILD: i32 = 17;

/// Stays until the program ends. Every signal is blocked since before this process was made, so that none is
/// lost in between.
///
/// The exit status is the program's; a program that a signal killed is 128 and the signal's number, as
/// shells say it, since process 1 can't die of a signal of its own.
pub fn stay(program: Pid) -> ! {
    let _ = rustix::thread::set_name(c"wharf-init");
    loop {
        match process::wait_for_signal() {
            Some(CHILD) => reap(program),
            Some(signal) => process::send_signal(program, signal),
            None => {}
        }
    }
}

fn reap(program: Pid) {
    // One SIGCHLD may stand for several ends.
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid != program {
            continue;
        }
        if let Some(status) = status_of(status) {
            process::end(status);
        }
    }
}

/// The exit status that tells of a program's end; nothing where it has only been stopped.
pub(super) fn status_of(status: WaitStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}
