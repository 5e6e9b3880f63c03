//! `wharf-executor reload NAME`: the program reads its configuration anew, and `systemctl reload` hears whether.
//!
//! A program that doesn't handle a signal is ended by it, or, as process 1 of a container, never hears of it
//! (pid_namespaces(7)). Neither is a reload, so it is sent nothing then.
//!
//! This isn't asked where the unit is of the type notify-reload: systemd sends the signal itself, to the program or to its
//! init, which passes it on to a program that handles it; and the reload of one that doesn't hear of it fails when
//! systemd has waited long enough for its word. Before systemd 253 there is no such type, and nothing by which to tell
//! from here whether the program has said a word: see [`HEARD`].

use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::failure::{Failure, Status};
use super::load;
use super::request::{Program, Request};
use super::stop::{ended_within, is_ours};
use crate::check::Reload;
use crate::host::Paths;
use crate::running;
use crate::spec::{ContainerName, Signal};
use crate::sys::process;

/// How long a program is watched after its signal: one that ends by it does so at once.
const WATCHED: Duration = Duration::from_millis(100);

/// The same for one that says RELOADING=1, before systemd 253: that waits for its READY=1 only if the former comes
/// before this process has ended.
const HEARD: Duration = Duration::from_secs(1);

/// Sends the program its signal, or turns into what runs the command inside, whose exit status is the answer then.
///
/// # Errors
/// A plan that can't be read, a program that isn't there or doesn't handle the signal.
pub fn reload(paths: &Paths, name: &ContainerName, main: Option<&str>) -> Result<(), Failure> {
    let loaded = load(paths, name)?;
    let ended = || Failure::new(Status::Namespace, format!("{name} has no main process any more"));
    let main = main.and_then(|pid| pid.parse::<i32>().ok()).ok_or_else(ended)?;
    match &loaded.container.reload {
        None => Err(Failure::new(Status::Config, "its file has no [reload] any more")
            .hint("systemctl daemon-reload, and it can't be reloaded")),
        Some(Reload::Signal { signal, wait }) => {
            // How to reload is what the file says now; what is process 1 was decided at the start.
            let record = running::find(paths, name).map_err(|error| {
                Failure::new(Status::Config, format!("can't read what was started as {name}: {error}"))
            })?;
            let has_init = record.map_or(loaded.container.has_init(), |record| record.container.has_init());
            let program = if has_init { below_init(main).ok_or_else(ended)? } else { main };
            let watched = if *wait { HEARD } else { WATCHED };
            send(program, *signal, watched, &loaded.plan.source.display().to_string())
        }
        Some(Reload::Command(command)) => {
            let command =
                Program::command(command).map_err(|error| Failure::from_error(Status::Config, &error))?;
            Err(run(name, main, command))
        }
    }
}

/// Runs a program inside, as `wharf exec` does: by way of a mount of the executor that can't be written.
fn run(name: &ContainerName, main: i32, program: Program) -> Failure {
    let request = Request {
        container: name.clone(),
        main,
        program,
        user: None,
        environment: Vec::new(),
        working_directory: None,
        terminal: Some(false),
    };
    Failure::from_error(Status::Exec, &request.exec())
}

fn send(program: i32, signal: Signal, watched: Duration, file: &str) -> Result<(), Failure> {
    let ended = || Failure::new(Status::Namespace, "the program has just ended");
    let pid = Pid::from_raw(program).ok_or_else(ended)?;
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Err(ended()),
        Err(errno) => {
            return Err(Failure::new(
                Status::Namespace,
                format!("can't hold on to process {program}: {errno}"),
            ));
        }
    };
    let status = fs::read_to_string(format!("/proc/{program}/status")).unwrap_or_default();
    // All of that was read by its id. If it is of this unit and lives still, it was so then.
    if !is_ours(pid) || !process::is_alive(pidfd.as_fd()) {
        return Err(ended());
    }
    if !handles(&status, signal.number()) {
        return Err(Failure::new(
            Status::Config,
            format!("the program doesn't handle {signal}, so it was sent nothing"),
        )
        .hint(format!("set [reload] to the signal or the command by which it reloads, in {file}")));
    }
    process::send_signal_to(pidfd.as_fd(), signal.number());
    if ended_within(&pidfd, watched) {
        return Err(Failure::new(Status::Config, format!("the program ended when it was sent {signal}")));
    }
    Ok(())
}

/// Whether a process has a handler for a signal, or waits for it: one that is blocked is most often read from a
/// descriptor (signalfd(2)). From /proc/PID/status (proc_pid_status(5)).
pub(super) fn handles(status: &str, signal: i32) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    };
    let bit = 1_u64 << (signal - 1);
    (mask("SigCgt") | mask("SigBlk")) & bit != 0
}

/// The program below the init: of its children the one with the lowest id, since it was there before all that the init
/// has taken over.
fn below_init(init: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.filter_map(|pid| Some((inner_id(pid)?, pid))).min().map(|(_, pid)| pid)
}

/// A process's id in its own pid namespace.
fn inner_id(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_a_program_handles() {
        let status = "Name:\tnginx\nSigBlk:\t0000000000000200\nSigIgn:\t0000000000001000\n\
                      SigCgt:\t0000000000000001\n";
        let handled = |name: &str| handles(status, name.parse::<Signal>().expect("a signal").number());
        assert!(handled("HUP") && handled("USR1"));
        assert!(!handled("PIPE") && !handled("TERM"));
        assert!(!handles("", Signal::TERM.number()));
    }
}
