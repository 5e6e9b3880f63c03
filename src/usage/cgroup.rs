//! A cgroup's files: read below one descriptor of its folder, and understood without any.
//!
//! cgroups-rs isn't in it: what is missing is 0 there (`memory_stat_v2` of its 0.5.1), it brings a D-Bus library of its
//! own, and reads a dozen files where one is asked for.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{Io, Pressure, Usage};

/// Where the hierarchy is: the only one, or the one beside those of version 1 (systemd(1), "hybrid").
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What changes from moment to moment and a table has room for: five files.
    Table,
    /// All that is in [`Usage`].
    Whole,
}

/// Reads a cgroup, by its name as systemd has it: `/wharf.slice/nginx-container.service`. Nothing where it is gone.
pub fn read(group: &str, depth: Depth) -> Option<Usage> {
    let folder = HIERARCHIES.iter().find_map(|hierarchy| open(CWD, &format!("{hierarchy}{group}"), true))?;
    // Somebody else's folder of that name, without any of the files, would tell nothing but dashes.
    Some(from(|file| text(&folder, file), depth))
}

/// The id of the run that a cgroup is of, which systemd writes beside it (`cgroup_invocation_id_xattr_apply` of its
/// src/core/cgroup.c). Nothing where there is none, or where who asks may not know it.
pub fn run(group: &str) -> Option<String> {
    let mut id = [0; 64];
    let read = |hierarchy: &str, name: &str, id: &mut [u8]| {
        rustix::fs::getxattr(format!("{hierarchy}{group}"), name, id).ok().filter(|length| *length > 0)
    };
    HIERARCHIES.iter().find_map(|hierarchy| {
        // Root's, and everybody's.
        let names = ["trusted.invocation_id", "user.invocation_id"];
        let length = names.iter().find_map(|name| read(hierarchy, name, &mut id))?;
        String::from_utf8(id.get(..length)?.to_vec()).ok()
    })
}

fn open(folder: impl AsFd, path: &str, is_folder: bool) -> Option<OwnedFd> {
    let kind = if is_folder { OFlags::DIRECTORY } else { OFlags::empty() };
    openat(folder, Path::new(path), OFlags::RDONLY | OFlags::CLOEXEC | kind, Mode::empty()).ok()
}

/// A file's text; nothing where there is none, or where the kernel doesn't count what would be in it (EOPNOTSUPP of
/// pressure that is switched off).
fn text(folder: &OwnedFd, file: &str) -> Option<String> {
    let file = open(folder, file, false)?;
    let mut bytes = Vec::with_capacity(4096);
    loop {
        if bytes.capacity() == bytes.len() {
            bytes.reserve(4096);
        }
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return String::from_utf8(bytes).ok(),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// What the files of a cgroup say; `text` gives one by its name.
fn from(text: impl Fn(&str) -> Option<String>, depth: Depth) -> Usage {
    let number = |file: &str| text(file)?.trim().parse::<u64>().ok();
    let mut usage = Usage {
        memory: number("memory.current"),
        memory_limit: number("memory.max"),
        io: text("io.stat").map(|text| io(&text)),
        tasks: number("pids.current"),
        ..Usage::default()
    };
    if let Some(text) = text("cpu.stat") {
        usage.cpu = value(&text, "usage_usec");
        usage.cpu_user = value(&text, "user_usec");
        usage.cpu_system = value(&text, "system_usec");
        usage.periods = value(&text, "nr_periods");
        usage.throttled_periods = value(&text, "nr_throttled");
        usage.throttled = value(&text, "throttled_usec");
    }
    if depth == Depth::Table {
        return usage;
    }
    usage.cpu_limit = text("cpu.max").and_then(|text| quota(&text));
    usage.memory_peak = number("memory.peak");
    if let Some(text) = text("memory.stat") {
        usage.anon = value(&text, "anon");
        usage.file = value(&text, "file");
    }
    usage.swap = number("memory.swap.current");
    usage.oom_kills = text("memory.events").and_then(|text| value(&text, "oom_kill"));
    usage.tasks_limit = number("pids.max");
    let waited = |file| text(file).and_then(|text| pressure(&text));
    usage.cpu_pressure = waited("cpu.pressure");
    usage.memory_pressure = waited("memory.pressure");
    usage.io_pressure = waited("io.pressure");
    usage
}

/// Of lines of `key value`.
fn value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// Of lines of `MAJOR:MINOR key=value…`. A file without lines is a group that has used no device yet.
fn io(text: &str) -> Io {
    let mut io = Io::default();
    for (key, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
        let count = match key {
            "rbytes" => &mut io.read,
            "wbytes" => &mut io.written,
            "rios" => &mut io.reads,
            "wios" => &mut io.writes,
            _ => continue,
        };
        *count = count.saturating_add(value.parse().unwrap_or(0));
    }
    io
}

/// Of `QUOTA PERIOD` in microseconds, where the quota may be `max`: microseconds a second.
fn quota(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.checked_mul(1_000_000)?.checked_div(period)
}

/// Of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same of `full`, which CPUs have since Linux 5.13.
fn pressure(text: &str) -> Option<Pressure> {
    let field = |line: &str, key: &str| -> Option<String> {
        let line = text.lines().find_map(|text| text.strip_prefix(line))?;
        line.split_whitespace().find_map(|word| word.strip_prefix(key)).map(str::to_owned)
    };
    let total = |line| field(line, "total=")?.parse().ok();
    let hundredths = field("some ", "avg10=")?.replace('.', "").parse().ok()?;
    Some(Pressure { some: total("some ")?, some_now: hundredths, full: total("full ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)], depth: Depth) -> Usage {
        from(|name| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned()), depth)
    }

    const CPU: &str = "usage_usec 12345\nuser_usec 12000\nsystem_usec 345\nnice_usec 0\ncore_sched.force_idle_usec 0\n\
                       nr_periods 40\nnr_throttled 3\nthrottled_usec 777\nnr_bursts 0\nburst_usec 0\n";

    #[test]
    fn a_whole_group() {
        let usage = files(
            &[
                ("cpu.stat", CPU),
                ("cpu.max", "150000 100000\n"),
                ("memory.current", "67108864\n"),
                ("memory.peak", "70000000\n"),
                ("memory.max", "536870912\n"),
                ("memory.swap.current", "0\n"),
                ("memory.stat", "anon 1000\nfile 2000\nfile_mapped 7\n"),
                ("memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"),
                (
                    "io.stat",
                    "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n253:0 rbytes=1 wbytes=2 rios=3 wios=4\n",
                ),
                ("pids.current", "7\n"),
                ("pids.max", "max\n"),
                ("cpu.pressure", "some avg10=1.25 avg60=0.00 avg300=0.00 total=4321\n"),
                (
                    "io.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=8\n",
                ),
            ],
            Depth::Whole,
        );
        let expected = Usage {
            cpu: Some(12_345),
            cpu_user: Some(12_000),
            cpu_system: Some(345),
            periods: Some(40),
            throttled_periods: Some(3),
            throttled: Some(777),
            cpu_limit: Some(1_500_000),
            memory: Some(64 << 20),
            memory_peak: Some(70_000_000),
            memory_limit: Some(512 << 20),
            anon: Some(1000),
            file: Some(2000),
            swap: Some(0),
            oom_kills: Some(1),
            io: Some(Io { read: 11, written: 22, reads: 4, writes: 6 }),
            tasks: Some(7),
            tasks_limit: None,
            cpu_pressure: Some(Pressure { some: 4321, some_now: 125, full: None }),
            memory_pressure: None,
            io_pressure: Some(Pressure { some: 9, some_now: 0, full: Some(8) }),
        };
        assert_eq!(usage, expected);
    }

    /// Without controllers a group has its CPU time and nothing else.
    #[test]
    fn what_nobody_counts_is_nothing() {
        let few = [("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n")];
        let expected = Usage { cpu: Some(5), cpu_user: Some(3), cpu_system: Some(2), ..Usage::default() };
        assert_eq!(files(&few, Depth::Whole), expected);
        assert_eq!(files(&[], Depth::Whole), Usage::default());
        // A controller that is on, and has nothing to say yet.
        assert_eq!(files(&[("io.stat", "")], Depth::Table).io, Some(Io::default()));
        assert_eq!(
            files(&[("memory.max", "max\n"), ("cpu.max", "max 100000\n")], Depth::Whole),
            Usage::default()
        );
        assert_eq!(
            files(&[("memory.current", "x\n"), ("cpu.pressure", "\n")], Depth::Whole),
            Usage::default()
        );
    }

    #[test]
    fn a_table_is_read_with_few_files() {
        let asked = std::cell::RefCell::new(Vec::new());
        let note = |file: &str| {
            asked.borrow_mut().push(file.to_owned());
            None
        };
        from(note, Depth::Table);
        assert_eq!(
            asked.into_inner(),
            ["memory.current", "memory.max", "io.stat", "pids.current", "cpu.stat"]
        );
    }

    #[test]
    fn a_group_that_is_gone() {
        assert_eq!(run("/wharf.slice/there-is-no-such-container.service"), None);
        assert_eq!(read("/wharf.slice/there-is-no-such-container.service", Depth::Table), None);
    }
}
