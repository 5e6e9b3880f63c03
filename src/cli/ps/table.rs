//! Rows as aligned columns.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::Row;
use crate::plan::health::{HEALTHY, UNHEALTHY};

const HEAD: [&str; 10] =
    ["NAME", "STATE", "HEALTH", "SINCE", "PID", "IMAGE", "MEMORY", "ADDRESS", "PORTS", "WHY"];
/// The column that gives way on a narrow terminal, and how far.
const ELASTIC: usize = 5;
const ELASTIC_MIN: usize = 8;
/// The last one, which has whole sentences: it is there only where one has something to say, and ends with the terminal
/// where that is wide enough for half a sentence.
const WHY: usize = HEAD.len() - 1;
const WHY_MIN: usize = 40;

/// The table, at most `width` wide where that can be had by shortening IMAGE.
pub(super) fn render(rows: &[Row], now: Timestamp, width: Option<usize>, colour: bool) -> String {
    if rows.is_empty() {
        return "No container is declared; put a file into /etc/wharf/containers.\n".to_owned();
    }
    let mut cells = vec![HEAD.map(str::to_owned)];
    if rows.iter().all(|row| row.why().is_none()) {
        cells[0][WHY].clear();
    }
    cells.extend(rows.iter().map(|row| columns(row, now)));
    let mut widths = [0; HEAD.len()];
    for line in &cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    if let Some(width) = width {
        // Without a last column there is no gap before it either.
        let gaps = if widths[WHY] == 0 { 2 * (HEAD.len() - 2) } else { 2 * (HEAD.len() - 1) };
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + gaps;
        let spare = widths[WHY].saturating_sub(WHY_MIN);
        widths[WHY] -= total(&widths).saturating_sub(width).min(spare);
        let spare = widths[ELASTIC].saturating_sub(ELASTIC_MIN);
        widths[ELASTIC] -= total(&widths).saturating_sub(width).min(spare);
    }
    let mut text = String::new();
    for (index, line) in cells.iter().enumerate() {
        let mut out = String::new();
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            let cell = shortened(cell, width);
            let padded = match column {
                4 | 6 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            };
            let paint = match (column, index.checked_sub(1).filter(|_| colour)) {
                (1, Some(index)) => paint(&rows[index]),
                (2, Some(index)) => paint_health(&rows[index]),
                _ => None,
            };
            let gap = if column == 0 { "" } else { "  " };
            let _ = match paint {
                Some(code) => write!(out, "{gap}\x1b[{code}m{padded}\x1b[0m"),
                None => write!(out, "{gap}{padded}"),
            };
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

fn columns(row: &Row, now: Timestamp) -> [String; HEAD.len()] {
    let Row {
        name,
        unit: _,
        state: _,
        sub_state: _,
        result: _,
        since,
        pid,
        image,
        rootfs,
        memory,
        health,
        addresses,
        ports,
        next: _,
        status_text: _,
        problem: _,
    } = row;
    let dash = || "-".to_owned();
    [
        name.clone(),
        state(row, now),
        health.map_or_else(dash, str::to_owned),
        since.map_or_else(dash, |since| age(now.as_second() - since.as_second())),
        pid.map_or_else(dash, |pid| pid.to_string()),
        image.as_ref().or(rootfs.as_ref()).cloned().unwrap_or_else(dash),
        memory.map_or_else(dash, bytes),
        // The other family's is in --json, and in `wharf inspect`.
        addresses.first().cloned().unwrap_or_else(dash),
        if ports.is_empty() {
            dash()
        } else {
            ports.iter().map(|port| short(port)).collect::<Vec<_>>().join(" ")
        },
        row.why().unwrap_or_default().to_owned(),
    ]
}

/// A published port without the protocol that goes without saying.
fn short(port: &str) -> &str {
    port.strip_suffix("/tcp").unwrap_or(port)
}

/// `active (running)` as systemctl writes it; what failed in place of SubState, which then only repeats it; and
/// when a timer starts it next.
fn state(row: &Row, now: Timestamp) -> String {
    let mut text = match (row.state.as_deref(), row.sub_state.as_deref(), row.result.as_deref()) {
        (Some("failed"), _, Some(result)) => format!("failed ({result})"),
        (Some(state), Some(sub), _) if state != sub && !sub.is_empty() => format!("{state} ({sub})"),
        (Some(state), _, _) => state.to_owned(),
        (None, _, _) => "-".to_owned(),
    };
    if let Some(next) = row.next {
        let _ = write!(text, ", next in {}", age(next.as_second() - now.as_second()));
    }
    if let Some(problem) = row.problem {
        let _ = write!(text, " [{}]", problem.words());
    }
    text
}

fn paint(row: &Row) -> Option<&'static str> {
    match row.state.as_deref() {
        Some("failed") => Some("1;31"),
        _ if row.problem.is_some() => Some("33"),
        Some("active") => Some("32"),
        _ => None,
    }
}

fn paint_health(row: &Row) -> Option<&'static str> {
    match row.health? {
        HEALTHY => Some("32"),
        UNHEALTHY => Some("1;31"),
        _ => None,
    }
}

/// A text of at most so many characters, with an ellipsis where it is cut.
pub(in crate::cli) fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// An age by its greatest unit; a clock that went back makes no negative one.
pub(in crate::cli) fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "min")] {
        if seconds >= unit {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{seconds} s")
}

/// Powers of 1024 with systemd's letters.
pub(in crate::cli) fn bytes(bytes: u64) -> String {
    for (shift, letter) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
        let unit = 1_u64 << shift;
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return format!("{}.{}{letter}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: &str, sub: &str) -> Row {
        Row {
            name: name.to_owned(),
            state: Some(state.to_owned()),
            sub_state: Some(sub.to_owned()),
            ..Row::default()
        }
    }

    fn sample() -> Vec<Row> {
        vec![
            Row {
                since: Timestamp::from_second(1_000).ok(),
                pid: Some(812),
                image: Some("registry.example/team/nginx:1.26".to_owned()),
                memory: Some(5 << 20),
                health: Some(HEALTHY),
                addresses: vec!["10.131.3.7".to_owned(), "fd00::307".to_owned()],
                ports: vec!["80:80/tcp".to_owned(), "53:53/udp".to_owned()],
                ..row("nginx", "active", "running")
            },
            Row {
                result: Some("exit-code".to_owned()),
                problem: Some(super::super::Problem::BadFile),
                ..row("db", "failed", "failed")
            },
        ]
    }

    #[test]
    fn columns_line_up() {
        let now = Timestamp::from_second(1_000 + 7_300).expect("a time");
        let expected = "\
NAME   STATE                          HEALTH   SINCE  PID  IMAGE                             MEMORY  ADDRESS     PORTS
nginx  active (running)               healthy  2 h    812  registry.example/team/nginx:1.26    5.0M  10.131.3.7  80:80 53:53/udp
db     failed (exit-code) [bad file]  -        -        -  -                                      -  -           -
";
        assert_eq!(render(&sample(), now, None, false), expected);
    }

    #[test]
    fn a_narrow_terminal_shortens_the_image() {
        let now = Timestamp::from_second(1_000).expect("a time");
        let text = render(&sample(), now, Some(107), false);
        assert!(text.lines().all(|line| line.chars().count() <= 107), "{text}");
        assert!(text.contains('…'), "{text}");
    }

    #[test]
    fn why_is_there_where_it_is_known() {
        let now = Timestamp::from_second(1_000).expect("a time");
        let mut rows = sample();
        assert!(!render(&rows, now, None, false).contains("WHY"));
        rows[1].status_text = Some("Its program ended with status 3".to_owned());
        let text = render(&rows, now, None, false);
        assert!(text.lines().next().is_some_and(|line| line.ends_with("PORTS            WHY")), "{text}");
        assert!(text.ends_with("  Its program ended with status 3\n"), "{text}");
        rows[1].status_text = Some("word ".repeat(40));
        let text = render(&rows, now, Some(150), false);
        assert!(text.lines().all(|line| line.chars().count() <= 150), "{text}");
    }

    #[test]
    fn colour_only_where_asked() {
        let now = Timestamp::from_second(1_000).expect("a time");
        assert!(!render(&sample(), now, None, false).contains('\x1b'));
        assert!(render(&sample(), now, None, true).contains("\x1b[1;31mfailed"));
    }

    #[test]
    fn sizes_and_ages() {
        assert_eq!([0, 1023, 1024, 5 << 30].map(bytes), ["0B", "1023B", "1.0K", "5.0G"]);
        assert_eq!([-5, 59, 60, 7_200, 200_000].map(age), ["0 s", "59 s", "1 min", "2 h", "2 d"]);
    }
}
