//! Telling systemd about the container's first process: sd_notify(3).
//!
//! systemd must know the process as the unit's main one *before* it can end: a process that ends earlier is
//! nobody's, and its exit status is lost. So `MAINPID=` goes first, then a barrier, which systemd answers
//! only after it has taken in what came before; then the gate opens. `READY=1` waits until exec has
//! succeeded.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use sd_notify::NotifyState;

use super::failure::shortened;
use crate::check::NotifyAccess;
use crate::host::HostFacts;

/// Makes a process the unit's main one, with a line for `systemctl status` perhaps, and waits until systemd knows.
///
/// # Errors
/// What the notification socket says. Without one (no `NOTIFY_SOCKET`) there is nobody to tell.
pub fn main_process(pid: Pid, status: Option<&str>) -> io::Result<()> {
    let status = status.map(line);
    let mut states = vec![NotifyState::MainPid(pid.as_raw_nonzero().get().unsigned_abs())];
    states.extend(status.as_deref().map(NotifyState::Status));
    sd_notify::notify(&states)?;
    barrier()
}

/// Waits until systemd has taken in what it was told before (sd_notify_barrier(3)), which it doesn't while it
/// reloads.
///
/// # Errors
/// As [`main_process`].
pub fn barrier() -> io::Result<()> {
    // systemd closes its copy of the pipe when it reads the barrier, which the other end sees as a hang-up.
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[writer.as_fd()])?;
    drop(writer);
    let mut polled = [PollFd::new(&reader, PollFlags::empty())];
    loop {
        match rustix::event::poll(&mut polled, None) {
            Err(Errno::INTR) => {}
            answer => return answer.map(drop).map_err(io::Error::from),
        }
    }
}

/// Only the container's process 1 may speak for the unit from now on, and the executor where it is one of the unit's
/// own commands: `ExecStopPost=` has the last words.
const OWN: NotifyState<'_> = NotifyState::Custom("NOTIFYACCESS=exec");

/// The container runs. From now on only its own process 1 may speak for the unit (`NOTIFYACCESS=`, systemd
/// 254; older ones pass it over, and the socket isn't visible in the container).
///
/// # Errors
/// As [`main_process`].
pub fn ready(status: Option<&str>) -> io::Result<()> {
    let status = status.map(line);
    let mut states: Vec<NotifyState<'_>> = status.as_deref().map(NotifyState::Status).into_iter().collect();
    states.push(OWN);
    states.push(NotifyState::Ready);
    sd_notify::notify(&states)
}

/// The container runs, and its program or its init will say when it is ready. From now on only its own process 1 may
/// speak for the unit, or every process of it; the one may let the others, by the same word that is sent here. For a
/// systemd that can't change that (before 254) the unit itself says so, and this would be refused.
///
/// # Errors
/// As [`main_process`].
pub fn speaks_for_itself(access: NotifyAccess, facts: HostFacts) -> io::Result<()> {
    match access {
        NotifyAccess::Main if facts.has_changing_notify_access() => sd_notify::notify(&[OWN]),
        NotifyAccess::Main | NotifyAccess::All => Ok(()),
    }
}

/// One line for `systemctl status`. Whether it arrives changes nothing.
pub fn status(text: &str) {
    let _ = sd_notify::notify(&[NotifyState::Status(&line(text))]);
}

/// The unit's watchdog isn't for what is started now (`WATCHDOG_USEC=`, sd_notify(3)). Where systemd doesn't take it,
/// it ends the container in its time, and starts it again.
pub fn no_watchdog() {
    let _ = sd_notify::notify(&[NotifyState::Custom("WATCHDOG_USEC=0")]);
}

/// A text that can stand in a notification: a line break would end the assignment, and a datagram of more than
/// 4096 bytes is thrown away whole (`NOTIFY_BUFFER_MAX` of systemd's src/basic/constants.h).
pub(super) fn line(text: &str) -> String {
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    shortened(text, 1024)
}
