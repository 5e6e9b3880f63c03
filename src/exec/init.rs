//! The small init of `init = true`: process 1 of the container, which reaps what is orphaned, passes signals
//! on to the program, and ends as it ended.
//!
//! A program that is process 1 itself gets only the signals that it handles (pid_namespaces(7)); below this
//! init SIGTERM does to it what it does everywhere.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::handover::line;
use super::reload::handles;
use crate::spec::Signal;
use crate::sys::process;

/// SIGCHLD, signal(7).
pub(super) const CHILD: i32 = 17;

/// Stays until the program ends. `reload` is a signal that systemd sends whether the program handles it or not, and
/// which is not to end one that doesn't: its reload then fails when systemd has waited long enough for its word.
///
/// Every signal is blocked since before this process was made, so that none is
/// lost in between.
///
/// The exit status is the program's; a program that a signal killed is 128 and the signal's number, as
/// shells say it, since process 1 can't die of a signal of its own.
pub fn stay(program: Pid, reload: Option<Signal>) -> ! {
    let _ = rustix::thread::set_name(c"wharf-init");
    loop {
        match process::wait_for_signal() {
            Some(CHILD) => reap(program),
            Some(signal) if reload.is_some_and(|reload| reload.number() == signal) => {
                pass_on(program, signal)
            }
            Some(signal) => process::send_signal(program, signal),
            None => {}
        }
    }
}

/// Sends the program a signal that it handles.
fn pass_on(program: Pid, signal: i32) {
    let status = fs::read_to_string(format!("/proc/{}/status", program.as_raw_nonzero()));
    // Where /proc can't be read, it gets what it was sent.
    if status.map_or(true, |status| handles(&status, signal)) {
        process::send_signal(program, signal);
    } else if let Ok(signal) = signal.to_string().parse::<Signal>() {
        log(4, &format!("the program doesn't handle {signal}, so it was sent nothing"));
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

/// One line of the unit's journal, with its priority as systemd reads it (sd-daemon(3)).
pub(super) fn log(priority: u8, text: &str) {
    let prefix =
        if std::env::var_os("JOURNAL_STREAM").is_some() { format!("<{priority}>") } else { String::new() };
    let text = format!("{prefix}{}\n", line(text));
    tell(std::io::stderr().as_fd(), text.as_bytes());
}

/// Writes without waiting for who reads, and without the signal that nobody does (send(2)): as any other, it would be
/// passed on to the program. What isn't the journal's socket may be a file, or a pipe with nothing better than write(2).
pub(super) fn tell(output: BorrowedFd<'_>, text: &[u8]) {
    if rustix::net::send(output, text, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) == Err(Errno::NOTSOCK) {
        let _ = rustix::io::write(output, text);
    }
}
