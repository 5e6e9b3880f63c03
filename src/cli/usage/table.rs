//! Rows as aligned columns, as many as there is room for. Pure.

use jiff::Timestamp;

use super::Row;
use crate::cli::ps::table::{age, bytes, shortened};
use crate::plan::health::{HEALTHY, UNHEALTHY};

/// A column; the order is that on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Column {
    Name,
    Cpu,
    Memory,
    Limit,
    Read,
    Written,
    Received,
    Sent,
    Tasks,
    Restarts,
    State,
    Health,
    Up,
}

impl Column {
    pub(in crate::cli) const ALL: [Self; 13] = [
        Self::Name,
        Self::Cpu,
        Self::Memory,
        Self::Limit,
        Self::Read,
        Self::Written,
        Self::Received,
        Self::Sent,
        Self::Tasks,
        Self::Restarts,
        Self::State,
        Self::Health,
        Self::Up,
    ];

    /// What stands above it.
    pub(in crate::cli) fn head(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Cpu => "CPU",
            Self::Memory => "MEMORY",
            Self::Limit => "LIMIT",
            Self::Read => "READ/S",
            Self::Written => "WRITTEN/S",
            Self::Received => "RECEIVED/S",
            Self::Sent => "SENT/S",
            Self::Tasks => "TASKS",
            Self::Restarts => "RESTARTS",
            Self::State => "STATE",
            Self::Health => "HEALTH",
            Self::Up => "UP",
        }
    }

    /// Columns that give way where there isn't room for all, the first one first.
    const YIELDING: [Self; 5] = [Self::State, Self::Up, Self::Tasks, Self::Limit, Self::Written];

    /// And those that do when names are short already.
    const YIELDING_LAST: [Self; 5] = [Self::Read, Self::Sent, Self::Received, Self::Restarts, Self::Health];

    fn is_text(self) -> bool {
        matches!(self, Self::Name | Self::State | Self::Health)
    }

    fn cell(self, row: &Row, now: Timestamp) -> String {
        let dash = || "-".to_owned();
        let size = |number: Option<u64>| number.map_or_else(dash, bytes);
        match self {
            Self::Name => row.name.clone(),
            Self::Cpu => row.cpu.map_or_else(dash, |cpu| format!("{cpu:.1}%")),
            Self::Memory => size(row.memory),
            Self::Limit => size(row.memory_limit),
            Self::Read => size(row.read_rate),
            Self::Written => size(row.written_rate),
            Self::Received => size(row.received_rate),
            Self::Sent => size(row.sent_rate),
            Self::Tasks => row.tasks.map_or_else(dash, |tasks| tasks.to_string()),
            Self::Restarts => row.restarts.map_or_else(dash, |restarts| restarts.to_string()),
            Self::State => row.state.clone(),
            Self::Health => row.health.map_or_else(dash, str::to_owned),
            Self::Up => row.since.map_or_else(dash, |since| age(now.as_second() - since.as_second())),
        }
    }

    /// The colour of what needs a look.
    fn paint(self, row: &Row) -> Option<&'static str> {
        match (self, row.state.as_str(), row.health) {
            (Self::State, "failed", _) | (Self::Health, _, Some(UNHEALTHY)) => Some("1;31"),
            (Self::State, "active", _) | (Self::Health, _, Some(HEALTHY)) => Some("32"),
            _ => None,
        }
    }
}

/// The head and a line for each row; at most `width` wide, by leaving columns out, shortening names and, where there is
/// room for next to nothing, cutting that.
pub(in crate::cli) fn lines(rows: &[Row], now: Timestamp, width: Option<usize>, colour: bool) -> Vec<String> {
    let mut columns = Column::ALL.to_vec();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| Column::ALL.map(|column| column.cell(row, now)).to_vec()).collect();
    let place = |column: Column| Column::ALL.iter().position(|it| *it == column).unwrap_or_default();
    let mut widths: Vec<usize> = Column::ALL.iter().map(|column| column.head().len()).collect();
    for line in &cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let total = |columns: &[Column], widths: &[usize]| {
        columns.iter().map(|column| widths[place(*column)]).sum::<usize>() + 2 * (columns.len() - 1)
    };
    let longest = widths[0];
    if let Some(width) = width {
        if total(&columns, &widths) > width {
            widths[0] = longest.min(NAME_MAX);
        }
        for yielding in Column::YIELDING {
            if total(&columns, &widths) > width {
                columns.retain(|column| *column != yielding);
            }
        }
        let shortest = longest.min(NAME_MIN);
        for yielding in Column::YIELDING_LAST {
            if total(&columns, &widths) - widths[0] + shortest > width {
                columns.retain(|column| *column != yielding);
            }
        }
        let others = total(&columns, &widths) - widths[0];
        widths[0] = longest.min(width.saturating_sub(others)).max(shortest);
    }
    let line = |cells: &dyn Fn(Column) -> String, paint: &dyn Fn(Column) -> Option<&'static str>| {
        let mut text = String::new();
        let mut room = width.unwrap_or(usize::MAX);
        for (at, column) in columns.iter().enumerate() {
            // Half a number is another number, so a column is there whole or not at all; but for the first.
            let width = widths[place(*column)].min(if at == 0 { room } else { usize::MAX });
            let gap = if at == 0 { "" } else { "  " };
            let Some(left) = room.checked_sub(gap.len() + width) else { break };
            room = left;
            let cell = shortened(&cells(*column), width);
            let padded = if column.is_text() { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            text.push_str(gap);
            match paint(*column).filter(|_| colour) {
                Some(code) => text.push_str(&format!("\x1b[{code}m{padded}\x1b[0m")),
                None => text.push_str(&padded),
            }
        }
        text.trim_end().to_owned()
    };
    let head = line(&|column| column.head().to_owned(), &|_| None);
    let body = rows
        .iter()
        .zip(&cells)
        .map(|(row, cells)| line(&|column| cells[place(column)].clone(), &|column| column.paint(row)));
    std::iter::once(head).chain(body).collect()
}

/// How far a name is shortened where there isn't room for all: before columns give way, and after.
const NAME_MAX: usize = 32;
const NAME_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            Row {
                name: "nginx".to_owned(),
                state: "active".to_owned(),
                health: Some(HEALTHY),
                restarts: Some(0),
                since: Timestamp::from_second(1_000).ok(),
                cpu: Some(112.34),
                memory: Some(64 << 20),
                memory_limit: Some(512 << 20),
                tasks: Some(12),
                read_rate: Some(0),
                written_rate: Some(2048),
                received_rate: Some(1_000_000),
                sent_rate: Some(12),
                ..Row::default()
            },
            Row { name: "db".to_owned(), state: "failed".to_owned(), restarts: Some(7), ..Row::default() },
        ]
    }

    fn shown(width: Option<usize>, colour: bool) -> String {
        lines(&rows(), Timestamp::from_second(8_300).expect("a time"), width, colour).join("\n")
    }

    #[test]
    fn columns_line_up() {
        let expected = "\
NAME      CPU  MEMORY   LIMIT  READ/S  WRITTEN/S  RECEIVED/S  SENT/S  TASKS  RESTARTS  STATE   HEALTH    UP
nginx  112.3%   64.0M  512.0M      0B       2.0K      976.5K     12B     12         0  active  healthy  2 h
db          -       -       -       -          -           -       -      -         7  failed  -          -";
        assert_eq!(shown(None, false), expected);
        assert_eq!(shown(Some(200), false), expected);
    }

    #[test]
    fn a_narrow_terminal_has_what_matters() {
        let text = shown(Some(80), false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for head in ["CPU", "MEMORY", "READ/S", "RECEIVED/S", "SENT/S", "RESTARTS", "HEALTH"] {
            assert!(text.contains(head), "{head}: {text}");
        }
        assert!(!text.contains("STATE"), "{text}");
        let mut rows = rows();
        rows[0].name = "a-name-that-is-longer-than-what-is-left-of-the-line".to_owned();
        let text = lines(&rows, Timestamp::UNIX_EPOCH, Some(80), false);
        assert!(text.iter().all(|line| line.chars().count() <= 80), "{text:?}");
        assert!(text[1].contains('…'), "{text:?}");
    }

    /// A terminal overwrites its last column with what is beyond it, and shows numbers that nobody has.
    #[test]
    fn no_line_is_longer_than_the_terminal() {
        let shown = |width| lines(&rows(), Timestamp::UNIX_EPOCH, Some(width), false);
        for width in 1..140 {
            let lines = shown(width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:?}");
        }
        assert_eq!(shown(24), ["NAME      CPU  MEMORY", "nginx  112.3%   64.0M", "db          -       -"]);
        let coloured = lines(&rows(), Timestamp::UNIX_EPOCH, Some(140), true);
        assert!(coloured[2].contains("failed"), "{coloured:?}");
    }

    #[test]
    fn colour_only_where_asked() {
        assert!(!shown(None, false).contains('\x1b'));
        assert!(shown(None, true).contains("\x1b[1;31mfailed"));
    }
}
