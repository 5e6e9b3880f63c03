//! A terminal that is drawn upon, and that is left as it was: at the end, at a signal, and at a panic.

use std::io::{self, Write as _};
use std::panic;

use crossterm::terminal::{self, Clear, ClearType};
use crossterm::{cursor, execute, queue};
use rustix::process::{Signal, getpid, kill_process};

/// The terminal, for as long as this is there.
#[derive(Debug)]
pub(super) struct Screen;

impl Screen {
    /// Takes it over: another page of it, without echo, lines and signals by keys.
    ///
    /// # Errors
    /// The terminal doesn't let itself be set.
    pub(super) fn enter() -> io::Result<Self> {
        // Before anything is changed, so that no panic finds it half done; its words belong on the page that stays.
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |information| {
            leave();
            before(information);
        }));
        enter().inspect_err(|_| leave())?;
        Ok(Self)
    }

    /// Columns and lines.
    pub(super) fn size() -> (usize, usize) {
        // One that doesn't say is as terminals were.
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let sane = |number: u16, usual| if number == 0 { usual } else { usize::from(number) };
        (sane(width, 80), sane(height, 24))
    }

    /// Draws all of it, in one piece.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut bytes = Vec::new();
        queue!(bytes, terminal::BeginSynchronizedUpdate)?;
        for (at, line) in (0..).zip(lines) {
            queue!(bytes, cursor::MoveTo(0, at))?;
            bytes.extend_from_slice(line.as_bytes());
            queue!(bytes, Clear(ClearType::UntilNewLine))?;
        }
        queue!(bytes, terminal::EndSynchronizedUpdate)?;
        let mut out = io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()
    }

    /// Gives the terminal back and stops, as ctrl-z does, until somebody has this go on; where nobody could, it goes on at
    /// once.
    ///
    /// # Errors
    /// As [`Screen::enter`].
    pub(super) fn suspend(&self) -> io::Result<()> {
        leave();
        // Not SIGSTOP: after `ssh -t host wharf top` there is no shell that could have it go on, and the kernel passes
        // this one over then (setpgid(2), "orphaned process groups").
        kill_process(getpid(), Signal::TSTP)?;
        enter()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    // What is longer than a line is cut, and moves nothing.
    execute!(io::stdout(), terminal::EnterAlternateScreen, terminal::DisableLineWrap, cursor::Hide)
}

/// May be called again. Where the terminal is gone there is nobody left to tell.
fn leave() {
    let _ = execute!(io::stdout(), cursor::Show, terminal::EnableLineWrap, terminal::LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}
