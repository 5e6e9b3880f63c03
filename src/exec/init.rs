//! The small init of `init = true`: process 1 of the container, which reaps what is orphaned, passes signals
//! on to the program, and ends as it ended.
//!
//! A program that is process 1 itself gets only the signals that it handles (pid_namespaces(7)); below this
//! init SIGTERM does to it what it does everywhere.

use rustix::process::{Pid, WaitOptions};

use crate::sys::process;

/// SIGCHLD, signal(7).
const CHILD: i32 = 17;

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
        if let Some(code) = status.exit_status() {
            process::end(code);
        }
        if let Some(signal) = status.terminating_signal() {
            process::end(128 + signal);
        }
    }
}
