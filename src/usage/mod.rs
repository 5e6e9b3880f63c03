//! What a container uses: as the kernel counts it for its cgroup, and for its interface.
//!
//! [`cgroup`] reads and understands the files of a cgroup, [`rates`] compares two moments. What is counted for the
//! interface comes from [`crate::net::counters`].
//!
//! What nobody counts is nothing here, and never 0: a controller that isn't on, a file that only newer kernels have, a
//! network that isn't the container's own.

pub mod cgroup;
pub mod rates;

use std::time::Duration;

use crate::net::Counters;

/// What a cgroup has used, and may use. Numbers that only grow do so from the cgroup's beginning, which is that of the
/// unit's run. (Documentation/admin-guide/cgroup-v2.rst of the kernel.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on CPUs in microseconds, of all of them together (`cpu.stat`, as all to `throttled`).
    pub cpu: Option<u64>,
    /// Of that, in the program.
    pub cpu_user: Option<u64>,
    /// Of that, in the kernel.
    pub cpu_system: Option<u64>,
    /// Periods of a limit that have passed.
    pub periods: Option<u64>,
    /// Of these, those in which it was used up.
    pub throttled_periods: Option<u64>,
    /// How long the group was held back by it, in microseconds.
    pub throttled: Option<u64>,
    /// The limit, in microseconds of CPU time each second (`cpu.max`); nothing where there is none.
    pub cpu_limit: Option<u64>,
    /// Bytes now, with its files in the page cache (`memory.current`).
    pub memory: Option<u64>,
    /// The most that it ever was (`memory.peak`, Linux 5.19).
    pub memory_peak: Option<u64>,
    /// Not more than that (`memory.max`); nothing where there is no limit.
    pub memory_limit: Option<u64>,
    /// Of the bytes now: memory of the programs (`anon` of `memory.stat`).
    pub anon: Option<u64>,
    /// Of the bytes now: files in the page cache, tmpfs too (`file` of `memory.stat`).
    pub file: Option<u64>,
    /// Bytes that were swapped out (`memory.swap.current`).
    pub swap: Option<u64>,
    /// Processes that were killed for want of memory (`oom_kill` of `memory.events`).
    pub oom_kills: Option<u64>,
    /// What went to and from block devices.
    pub io: Option<Io>,
    /// Processes and threads (`pids.current`).
    pub tasks: Option<u64>,
    /// Not more than that (`pids.max`); nothing where there is no limit.
    pub tasks_limit: Option<u64>,
    /// Waiting for a CPU.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for block devices.
    pub io_pressure: Option<Pressure>,
}

/// What went to and from block devices, all of them together (`io.stat`). A device that is made of others, of LVM for
/// example, counts beside these, as it does for systemd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes.
    pub read: u64,
    /// Bytes.
    pub written: u64,
    /// Operations.
    pub reads: u64,
    /// Operations.
    pub writes: u64,
}

/// How long something was waited for (Documentation/accounting/psi.rst of the kernel).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// By some task, in microseconds since the cgroup's beginning.
    pub some: u64,
    /// The share of the last ten seconds, in hundredths of a percent.
    pub some_now: u32,
    /// By all tasks at once, in microseconds.
    pub full: Option<u64>,
}

/// A run of a container, from its start to its end. Both are asked: of a job, systemd says no time before it has ended,
/// and the id is nobody's to read where systemd is older than 254 and who asks isn't root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// What systemd says of when it became active, in microseconds since 1970.
    pub since: Option<u64>,
    /// As [`cgroup::run`] has it.
    pub id: Option<String>,
}

/// A container at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When its cgroup was read, on a clock that nobody sets.
    pub at: Duration,
    /// Two samples of one run have the same.
    pub run: Run,
    /// By its cgroup.
    pub usage: Usage,
    /// When its interface was read.
    pub network_at: Duration,
    /// By its interface; nothing where it has none of its own, or who asks may not know it.
    pub network: Option<Counters>,
}
