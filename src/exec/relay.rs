//! Between two terminals: the caller's, and the one that a program has in a container.
//!
//! One loop, no threads. What is read on one side is held until the other takes it, and nothing more is read
//! meanwhile; so a slow reader slows the writer down, and nothing is lost.

use std::io::{Stdin, Stdout, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::Termios;

use super::enter::{CONT, TSTP, WINCH, is_terminal, suspend};
use super::failure::{Ends, Failure, Status};
use crate::sys::signals::Signals;
use crate::sys::terminal;

/// The caller's terminal, where standard input is one. As long as this lives it passes every byte on as it is;
/// then it is what it was before.
pub struct Terminal {
    input: Stdin,
    before: Termios,
    raw: bool,
}

impl Terminal {
    /// As it is now.
    pub fn of_caller() -> Option<Self> {
        let input = stdin();
        let before = terminal::modes(&input).ok()?;
        Some(Self { input, before, raw: false })
    }

    fn pass_all_on(&mut self) {
        let mut modes = self.before.clone();
        modes.make_raw();
        self.raw = terminal::set_modes(&self.input, &modes).is_ok();
    }

    fn restore(&mut self) {
        if std::mem::take(&mut self.raw) {
            // A terminal that is gone needs nothing.
            let _ = terminal::set_modes(&self.input, &self.before);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// How much is held at most, and read at once.
const HELD: usize = 16 << 10;
/// How much is written at once: what a pipe that is ready takes without waiting (PIPE_BUF, pipe(7)).
const PORTION: usize = 4 << 10;
/// How much is taken of a terminal once the program has ended: more than the kernel can hold (64 KiB, and a page
/// of n_tty's). What comes after that is of others, who may never cease.
const LEFT_BEHIND: usize = 256 << 10;
/// ^D, which ends a terminal's input (VEOF, termios(3)).
const END_OF_INPUT: u8 = 4;

/// Both ends, and what is on its way.
pub struct Relay {
    /// The program's terminal: its master, and its other end, so that a program may close it and open it again.
    /// Nothing once either side has hung up.
    program: Option<(OwnedFd, OwnedFd)>,
    caller: Option<Terminal>,
    input: Stdin,
    output: Stdout,
    /// More may be typed.
    open: bool,
    /// What was typed last has ended a line.
    at_line_start: bool,
    typed: Vec<u8>,
    written: Vec<u8>,
}

impl Relay {
    /// Makes the program's terminal like the caller's.
    ///
    /// # Errors
    /// What the terminal says.
    pub fn new(master: OwnedFd, caller: Option<Terminal>) -> Result<Self, Failure> {
        let peer = terminal::peer(master.as_fd()).ends(Status::Namespace)?;
        if let Some(caller) = &caller {
            terminal::set_modes(&peer, &caller.before).ends(Status::Namespace)?;
        }
        let relay = Self {
            program: Some((master, peer)),
            caller,
            input: stdin(),
            output: stdout(),
            open: true,
            at_line_start: true,
            typed: Vec::new(),
            written: Vec::new(),
        };
        relay.resize();
        Ok(relay)
    }

    fn resize(&self) {
        let size = if is_terminal(1) { terminal::size(&self.output) } else { terminal::size(&self.input) };
        if let (Ok(size), Some((master, _))) = (size, &self.program) {
            let _ = terminal::set_size(master, size);
        }
    }

    /// Passes on until the program has ended and all that it wrote is written. `deliver` sends it a signal.
    ///
    /// # Errors
    /// When the kernel can't be asked to wait.
    pub fn run(
        &mut self,
        signals: &Signals,
        program: BorrowedFd<'_>,
        mut deliver: impl FnMut(i32),
    ) -> Result<(), Failure> {
        if let Some(caller) = &mut self.caller {
            caller.pass_all_on();
        }
        let mut ended = false;
        let mut left = LEFT_BEHIND;
        loop {
            // What was written before the end can be read now: the kernel moves it along when it is asked
            // (`n_tty_read` in its drivers/tty/n_tty.c), and what comes later is of those left behind.
            if ended && self.written.is_empty() {
                if left == 0 || !self.read_program() {
                    return Ok(());
                }
                left = left.saturating_sub(self.written.len());
            }
            let ready = self.wait(signals, program, ended)?;
            if ready.signal {
                match signals.next() {
                    // What it wrote last may never be taken, by a terminal that was stopped for one.
                    Some(signal) if ended && !matches!(signal, WINCH | CONT | TSTP) => return Ok(()),
                    Some(signal) => self.signal(signal, &mut deliver),
                    None => {}
                }
            }
            ended |= ready.end;
            if ready.typed {
                self.read_caller();
            }
            if ready.take_typed {
                self.write_program();
            }
            if ready.written {
                self.read_program();
            }
            if ready.take_written {
                self.write_caller();
            }
        }
    }

    fn wait(&self, signals: &Signals, program: BorrowedFd<'_>, ended: bool) -> Result<Ready, Failure> {
        let mut polled = vec![PollFd::new(signals, PollFlags::IN)];
        let mut who: Vec<fn(&mut Ready, PollFlags)> = vec![|ready, _| ready.signal = true];
        if !ended {
            polled.push(PollFd::from_borrowed_fd(program, PollFlags::IN));
            who.push(|ready, _| ready.end = true);
        }
        if self.open && self.program.is_some() && self.typed.is_empty() && !ended {
            polled.push(PollFd::new(&self.input, PollFlags::IN));
            who.push(|ready, _| ready.typed = true);
        }
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::OUT, !self.typed.is_empty());
        wanted.set(PollFlags::IN, self.written.is_empty());
        if let Some((master, _)) = self.program.as_ref().filter(|_| !wanted.is_empty() && !ended) {
            polled.push(PollFd::new(master, wanted));
            who.push(|ready, what| {
                ready.take_typed = what.contains(PollFlags::OUT);
                ready.written = what.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            });
        }
        if !self.written.is_empty() {
            polled.push(PollFd::new(&self.output, PollFlags::OUT));
            who.push(|ready, _| ready.take_written = true);
        }
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Failure::new(Status::Namespace, format!("can't wait: {errno}"))),
        }
        let mut ready = Ready::default();
        for (polled, set) in polled.iter().zip(who) {
            if !polled.revents().is_empty() {
                set(&mut ready, polled.revents());
            }
        }
        Ok(ready)
    }

    fn signal(&mut self, signal: i32, deliver: &mut impl FnMut(i32)) {
        match signal {
            WINCH => self.resize(),
            TSTP => {
                if let Some(caller) = &mut self.caller {
                    caller.restore();
                }
                suspend();
            }
            // Whoever had the terminal meanwhile may have left it otherwise.
            CONT => {
                if let Some(caller) = &mut self.caller {
                    caller.pass_all_on();
                }
                self.resize();
            }
            signal => deliver(signal),
        }
    }

    fn read_caller(&mut self) {
        let mut bytes = [0; PORTION];
        match rustix::io::read(&self.input, &mut bytes) {
            Ok(size) if size > 0 => {
                self.at_line_start = bytes[size - 1] == b'\n';
                self.typed.extend_from_slice(&bytes[..size]);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => {
                self.open = false;
                if self.caller.is_some() {
                    // The caller's terminal is gone, and with it the program's.
                    self.program = None;
                } else {
                    // Within a line the first only passes the line on.
                    let times = if self.at_line_start { 1 } else { 2 };
                    self.typed.extend(std::iter::repeat_n(END_OF_INPUT, times));
                }
            }
        }
    }

    fn write_program(&mut self) {
        let Some((master, _)) = &self.program else { return };
        match rustix::io::write(master, &self.typed) {
            Ok(size) => drop(self.typed.drain(..size)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody will read it.
            Err(_) => self.typed.clear(),
        }
    }

    /// Reads what the program has written; says whether there was anything.
    fn read_program(&mut self) -> bool {
        let Some((master, _)) = &self.program else { return false };
        let mut bytes = vec![0; HELD];
        loop {
            match rustix::io::read(master, &mut bytes) {
                Ok(size) if size > 0 => {
                    self.written.extend_from_slice(&bytes[..size]);
                    return true;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Ok(_) | Err(_) => {
                    self.program = None;
                    return false;
                }
            }
        }
    }

    fn write_caller(&mut self) {
        let portion = &self.written[..self.written.len().min(PORTION)];
        match rustix::io::write(&self.output, portion) {
            Ok(size) => drop(self.written.drain(..size)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => {
                // Nobody reads it any more: the program's terminal hangs up, as the caller's has.
                self.written.clear();
                self.program = None;
            }
        }
    }
}

/// What can be done without waiting.
#[derive(Default)]
struct Ready {
    signal: bool,
    end: bool,
    typed: bool,
    take_typed: bool,
    written: bool,
    take_written: bool,
}
