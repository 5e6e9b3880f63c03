//! What is on the screen, and what keys make of it. Pure.

use std::cmp::Ordering;
use std::time::Duration;

use clap::ValueEnum;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::Timestamp;

use crate::cli::output::plain;
use crate::cli::ps::table::bytes;
use crate::cli::usage::{Row, table};
use crate::plan::health::{HEALTHY, STARTING, UNHEALTHY};
use crate::spec::show_duration;

/// What containers are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// By name
    Name,
    /// By CPU time
    Cpu,
    /// By memory
    Memory,
    /// By what goes to and from block devices
    Io,
    /// By what is received and sent
    Network,
    /// By restarts
    Restarts,
    /// By health, the bad ones first
    Health,
}

impl Sort {
    fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
            Self::Network => "network",
            Self::Restarts => "restarts",
            Self::Health => "health",
        }
    }

    fn of_key(key: char) -> Option<Self> {
        Some(match key {
            'a' => Self::Name,
            'c' => Self::Cpu,
            'm' => Self::Memory,
            'i' => Self::Io,
            'n' => Self::Network,
            'r' => Self::Restarts,
            'h' => Self::Health,
            _ => return None,
        })
    }

    /// Which comes first: of numbers the greater one, or the smaller one where that is turned round; what isn't known
    /// comes last either way.
    fn order(self, is_reversed: bool, a: &Row, b: &Row) -> Ordering {
        let turned = |order: Ordering| if is_reversed { order.reverse() } else { order };
        // What isn't a number has no place among numbers; there is none, as no time between two looks is 0.
        fn greater<T: PartialOrd>(
            a: Option<T>,
            b: Option<T>,
            turned: impl Fn(Ordering) -> Ordering,
        ) -> Ordering {
            match (a, b) {
                (Some(a), Some(b)) => turned(b.partial_cmp(&a).unwrap_or(Ordering::Equal)),
                (a, b) => b.is_some().cmp(&a.is_some()),
            }
        }
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
        };
        match self {
            Self::Name => turned(a.name.cmp(&b.name)),
            Self::Cpu => greater(a.cpu, b.cpu, turned),
            Self::Memory => greater(a.memory, b.memory, turned),
            Self::Io => greater(sum(a.read_rate, a.written_rate), sum(b.read_rate, b.written_rate), turned),
            Self::Network => {
                greater(sum(a.received_rate, a.sent_rate), sum(b.received_rate, b.sent_rate), turned)
            }
            Self::Restarts => greater(a.restarts, b.restarts, turned),
            Self::Health => greater(gravity(a), gravity(b), turned),
        }
        .then_with(|| a.name.cmp(&b.name))
    }
}

fn gravity(row: &Row) -> Option<u8> {
    match (row.state.as_str(), row.health) {
        ("failed", _) => Some(4),
        (_, Some(UNHEALTHY)) => Some(3),
        (_, Some(STARTING)) => Some(2),
        (_, Some(HEALTHY)) => Some(1),
        _ => None,
    }
}

/// What a key asks of the program itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing but to be drawn.
    Draw,
    /// To be measured at once.
    Refresh,
    /// To be suspended.
    Suspend,
    Quit,
}

/// How it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    /// Part of a name.
    pub(super) filter: String,
    pub(super) interval: Duration,
    /// Why what is shown is older than that.
    pub(super) trouble: Option<String>,
    /// Whether keys are the filter's.
    editing: bool,
    /// How many rows are above the screen.
    above: usize,
    /// How many may be, and how many rows there was room for, when it was drawn.
    most: usize,
    page: usize,
}

const KEYS: &str =
    "q quit  c cpu  m memory  i io  n network  r restarts  h health  a name  R reverse  / filter";

impl View {
    pub(super) fn new(sort: Sort, reverse: bool, filter: String, interval: Duration) -> Self {
        Self { sort, reverse, filter, interval, trouble: None, editing: false, above: 0, most: 0, page: 1 }
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Quit,
                KeyCode::Char('z') => Wish::Suspend,
                KeyCode::Char('l') => Wish::Refresh,
                _ => Wish::Draw,
            };
        }
        if self.editing {
            match key.code {
                KeyCode::Enter => self.editing = false,
                KeyCode::Esc => {
                    self.editing = false;
                    self.filter.clear();
                }
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(char) if !char.is_control() => self.filter.push(char),
                _ => {}
            }
            self.above = 0;
            return Wish::Draw;
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char(' ') => return Wish::Refresh,
            KeyCode::Char('/') => self.editing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('R') => self.reverse = !self.reverse,
            KeyCode::Char(char) => {
                if let Some(sort) = Sort::of_key(char) {
                    // The same key again turns it round.
                    self.reverse = sort == self.sort && !self.reverse;
                    self.sort = sort;
                    self.above = 0;
                }
            }
            KeyCode::Up => self.above = self.above.saturating_sub(1),
            KeyCode::Down => self.above = (self.above + 1).min(self.most),
            KeyCode::PageUp => self.above = self.above.saturating_sub(self.page),
            KeyCode::PageDown => self.above = (self.above + self.page).min(self.most),
            KeyCode::Home => self.above = 0,
            KeyCode::End => self.above = self.most,
            _ => {}
        }
        Wish::Draw
    }

    /// The rows that are meant, in their order.
    pub(super) fn sorted(&self, rows: &[Row]) -> Vec<Row> {
        let mut rows: Vec<Row> = rows.iter().filter(|row| row.name.contains(&self.filter)).cloned().collect();
        rows.sort_by(|a, b| self.sort.order(self.reverse, a, b));
        rows
    }

    /// The screen's lines: two of heading, the table's, and the keys at the foot.
    pub(super) fn screen(
        &mut self,
        rows: &[Row],
        size: (usize, usize),
        now: Timestamp,
        colour: bool,
    ) -> Vec<String> {
        let (width, height) = size;
        let shown = self.sorted(rows);
        let mut table = table::lines(&shown, now, Some(width), colour);
        let head = table.remove(0);
        self.page = height.saturating_sub(3).max(1);
        self.most = shown.len().saturating_sub(self.page);
        self.above = self.above.min(self.most);
        let bold = |text: String| if colour { format!("\x1b[1m{text}\x1b[0m") } else { text };
        let mut lines = vec![cut(self.title(rows, &shown), width), bold(cut(head, width))];
        lines.extend(table.into_iter().skip(self.above).take(self.page));
        lines.resize(height.saturating_sub(1).max(2), String::new());
        let foot = match (self.editing, shown.is_empty()) {
            (true, _) => format!("Only names with: {}_  (enter: done, esc: all)", plain(&self.filter)),
            (false, true) if rows.is_empty() => {
                "No container runs; `wharf ps` lists what is declared. q quit".to_owned()
            }
            (false, _) => KEYS.to_owned(),
        };
        let foot = match &self.trouble {
            Some(why) if !self.editing => format!("As it was before: {}", plain(why)),
            _ => foot,
        };
        lines.push(cut(foot, width));
        lines.truncate(height);
        lines
    }

    fn title(&self, rows: &[Row], shown: &[Row]) -> String {
        let mut text = match rows.len() {
            1 => "1 container".to_owned(),
            count => format!("{count} containers"),
        };
        if !self.filter.is_empty() {
            text.push_str(&format!(", {} with \"{}\"", shown.len(), plain(&self.filter)));
        }
        let known: Vec<f64> = shown.iter().filter_map(|row| row.cpu).collect();
        if !known.is_empty() {
            text.push_str(&format!("  cpu {:.1}%", known.iter().sum::<f64>()));
        }
        let known: Vec<u64> = shown.iter().filter_map(|row| row.memory).collect();
        if !known.is_empty() {
            text.push_str(&format!("  memory {}", bytes(known.iter().sum())));
        }
        let turned = if self.reverse { ", reversed" } else { "" };
        text.push_str(&format!("  by {}{turned}  every {}", self.sort.word(), show_duration(self.interval)));
        text
    }
}

fn cut(text: String, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, cpu: Option<f64>, memory: Option<u64>, restarts: u32) -> Row {
        Row {
            name: name.to_owned(),
            state: "active".to_owned(),
            cpu,
            memory,
            restarts: Some(restarts),
            ..Row::default()
        }
    }

    fn rows() -> Vec<Row> {
        let mut rows = vec![
            row("app", Some(5.0), Some(300 << 20), 0),
            row("db", Some(80.5), Some(900 << 20), 3),
            row("proxy", None, None, 0),
            row("web", Some(12.0), Some(64 << 20), 1),
        ];
        rows[0].health = Some(HEALTHY);
        rows[3].health = Some(UNHEALTHY);
        rows[0].sent_rate = Some(10);
        rows[3].received_rate = Some(7);
        rows[3].sent_rate = Some(7);
        rows
    }

    fn view() -> View {
        View::new(Sort::Cpu, false, String::new(), Duration::from_secs(2))
    }

    fn key(view: &mut View, code: KeyCode) -> Wish {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn typed(view: &mut View, text: &str) {
        for char in text.chars() {
            key(view, KeyCode::Char(char));
        }
    }

    fn names(view: &View) -> String {
        view.sorted(&rows()).iter().map(|row| row.name.clone()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_sort() {
        let mut view = view();
        assert_eq!(names(&view), "db web app proxy");
        for (keys, expected) in [
            ("m", "db app web proxy"),
            ("r", "db web app proxy"),
            ("h", "web app db proxy"),
            ("n", "web app db proxy"),
            ("a", "app db proxy web"),
            // The same key again, and another one.
            ("a", "web proxy db app"),
            ("c", "db web app proxy"),
            ("R", "app web db proxy"),
            ("x", "app web db proxy"),
        ] {
            typed(&mut view, keys);
            assert_eq!(names(&view), expected, "{keys}");
        }
    }

    #[test]
    fn a_filter_by_name() {
        let mut view = view();
        typed(&mut view, "/q");
        // It is a letter there, and no wish.
        assert_eq!(names(&view), "");
        key(&mut view, KeyCode::Backspace);
        typed(&mut view, "b");
        assert_eq!(names(&view), "db web");
        assert!(view.screen(&rows(), (80, 10), Timestamp::UNIX_EPOCH, false)[9].contains("names with: b_"));
        key(&mut view, KeyCode::Enter);
        assert_eq!((names(&view).as_str(), key(&mut view, KeyCode::Char('q'))), ("db web", Wish::Quit));
        key(&mut view, KeyCode::Esc);
        assert_eq!(names(&view), "db web app proxy");
    }

    #[test]
    fn wishes() {
        let mut view = view();
        let control =
            |view: &mut View, char| view.press(KeyEvent::new(KeyCode::Char(char), KeyModifiers::CONTROL));
        assert_eq!(key(&mut view, KeyCode::Char('q')), Wish::Quit);
        assert_eq!(key(&mut view, KeyCode::Char(' ')), Wish::Refresh);
        typed(&mut view, "/");
        assert_eq!(control(&mut view, 'c'), Wish::Quit);
        assert_eq!(control(&mut view, 'z'), Wish::Suspend);
        assert_eq!(view.filter, "");
    }

    #[test]
    fn a_screen() {
        let screen = view().screen(&rows(), (130, 8), Timestamp::UNIX_EPOCH, false);
        let expected = [
            "4 containers  cpu 97.5%  memory 1.2G  by cpu  every 2s",
            "NAME     CPU  MEMORY  LIMIT  READ/S  WRITTEN/S  RECEIVED/S  SENT/S  TASKS  RESTARTS  STATE   HEALTH     UP",
            "db     80.5%  900.0M      -       -          -           -       -      -         3  active  -           -",
            "web    12.0%   64.0M      -       -          -          7B      7B      -         1  active  unhealthy   -",
            "app     5.0%  300.0M      -       -          -           -     10B      -         0  active  healthy     -",
            "proxy      -       -      -       -          -           -       -      -         0  active  -           -",
            "",
            KEYS,
        ];
        assert_eq!(screen, expected);
    }

    /// What can't be measured for a while is no end, and isn't shown as if it were.
    #[test]
    fn an_old_screen_says_so() {
        let mut view = view();
        view.trouble = Some("systemd did not answer ListUnitsByPatterns".to_owned());
        let screen = view.screen(&rows(), (80, 8), Timestamp::UNIX_EPOCH, false);
        assert_eq!(screen[7], "As it was before: systemd did not answer ListUnitsByPatterns");
        assert!(screen[2].starts_with("db"), "{screen:?}");
    }

    #[test]
    fn a_screen_of_any_size() {
        for width in [1, 5, 20, 40, 80, 300] {
            for height in [1, 2, 3, 4, 5, 24] {
                let mut view = view();
                key(&mut view, KeyCode::End);
                let screen = view.screen(&rows(), (width, height), Timestamp::UNIX_EPOCH, false);
                assert_eq!(screen.len(), height, "{width} {height}: {screen:?}");
                let mut lengths = screen.iter().map(|line| line.chars().count());
                assert!(lengths.all(|length| length <= width), "{width} {height}: {screen:?}");
            }
        }
    }

    #[test]
    fn rows_that_there_is_no_room_for() {
        let mut view = view();
        let mut shown = |keys: &[KeyCode]| {
            for code in keys {
                key(&mut view, *code);
            }
            let screen = view.screen(&rows(), (80, 5), Timestamp::UNIX_EPOCH, false);
            let name = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
            screen[2..4].iter().map(name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&[]), "db web");
        assert_eq!(shown(&[KeyCode::Down]), "web app");
        assert_eq!(shown(&[KeyCode::PageDown]), "app proxy");
        assert_eq!(shown(&[KeyCode::Down, KeyCode::Up]), "web app");
        assert_eq!(shown(&[KeyCode::End]), "app proxy");
        assert_eq!(shown(&[KeyCode::PageUp]), "db web");
    }
}
