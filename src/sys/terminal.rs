//! Pseudo-terminals: pty(7), ioctl_tty(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

use super::{Error, Trying, resolve};

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS: i64 = 0x1cd1;

/// Makes a pseudo-terminal of the devpts that is mounted on /dev/pts in the tree under `root`: its master end,
/// which doesn't block.
///
/// # Errors
/// What openat2(2) and ioctl(2) TIOCSPTLCK say; ENODEV where something else has the multiplexer's name.
pub fn open(root: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let master = resolve::open(root, "/dev/pts/ptmx", flags)?;
    let unlock = || -> Result<(), Errno> {
        let stat = rustix::fs::fstat(&master)?;
        let is_multiplexer = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(5, 2)
            && rustix::fs::fstatfs(&master)?.f_type == DEVPTS;
        if !is_multiplexer {
            return Err(Errno::NODEV);
        }
        rustix::pty::unlockpt(&master)
    };
    unlock().trying(|| "make a terminal in the container".into())?;
    Ok(master)
}

/// The other end of a pseudo-terminal, which a program takes for its terminal: by the master and not by a name,
/// which could have come to mean something else (CVE-2025-52565). TIOCGPTPEER, Linux 4.13.
///
/// # Errors
/// What ioctl(2) says.
pub fn peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(master, flags).trying(|| "open the terminal's other end".into())
}

/// Makes a terminal the controlling one of the caller's session, which the caller leads and which has none yet.
///
/// # Errors
/// What ioctl(2) TIOCSCTTY says.
pub fn control(terminal: BorrowedFd<'_>) -> Result<(), Error> {
    rustix::process::ioctl_tiocsctty(terminal).trying(|| "make the terminal the session's".into())
}

/// Makes a descriptor the standard input and output, and with `error` the standard error too.
///
/// # Errors
/// What dup2(2) says.
pub fn make_standard(fd: BorrowedFd<'_>, error: bool) -> Result<(), Error> {
    let make = || -> Result<(), Errno> {
        rustix::stdio::dup2_stdin(fd)?;
        rustix::stdio::dup2_stdout(fd)?;
        if error { rustix::stdio::dup2_stderr(fd) } else { Ok(()) }
    };
    make().trying(|| "take the terminal as standard input and output".into())
}

/// How a terminal treats what is typed and written.
///
/// # Errors
/// What tcgetattr(3) says.
pub fn modes(terminal: impl AsFd) -> Result<Termios, Error> {
    rustix::termios::tcgetattr(terminal).trying(|| "read the terminal's modes".into())
}

/// Changes that.
///
/// # Errors
/// What tcsetattr(3) says.
pub fn set_modes(terminal: impl AsFd, modes: &Termios) -> Result<(), Error> {
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, modes)
        .trying(|| "set the terminal's modes".into())
}

/// Its rows and columns.
///
/// # Errors
/// What ioctl(2) TIOCGWINSZ says.
pub fn size(terminal: impl AsFd) -> Result<Winsize, Error> {
    rustix::termios::tcgetwinsize(terminal).trying(|| "read the terminal's size".into())
}

/// Changes them; the program in the foreground gets SIGWINCH.
///
/// # Errors
/// What ioctl(2) TIOCSWINSZ says.
pub fn set_size(terminal: impl AsFd, size: Winsize) -> Result<(), Error> {
    rustix::termios::tcsetwinsize(terminal, size).trying(|| "set the terminal's size".into())
}
