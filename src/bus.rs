//! The only D-Bus: what the command asks of systemd's manager.
//!
//! Only the methods in use are here. Properties are fetched by name and not with `GetAll`: a service has some
//! three hundred, and systemd reads a cgroup's files for many of them: it took half a millisecond where one
//! property takes a twentieth. Many units are asked about side by side: 200 that run took 30 ms, and 49 ms one
//! after the other.

mod vitals;

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::Poll;

use zbus::export::futures_core::Stream;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant};

pub use self::vitals::Vitals;
use crate::plan::transient::{Command, Property};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const TIMER: &str = "org.freedesktop.systemd1.Timer";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What systemd says to who asks for its signals twice.
const SUBSCRIBED: &str = "org.freedesktop.systemd1.AlreadySubscribed";

/// What systemd says to who wants a unit stopped that it hasn't got.
const NOT_LOADED: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// What the bus says in place of who isn't there, or goes in the middle of a call.
const AWAY: [&str; 4] = [
    "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.ServiceUnknown",
];

/// What sd_booted(3) looks at.
const BOOTED: &str = "/run/systemd/system";

/// How many units are asked about at a time, with one call each on its way: well below the 128 replies that
/// dbus-daemon lets a connection wait for (`max_replies_per_connection`, dbus-daemon(1)), and the 64 messages
/// that zbus queues.
const AT_A_TIME: usize = 32;

/// Why systemd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Process 1 is something else.
    #[error("systemd is not running here ({BOOTED} is missing), so nothing runs containers")]
    NoSystemd,
    /// The system bus can't be reached.
    #[error("can't reach the system bus; is dbus.socket running? (systemctl status dbus.socket)")]
    NoBus(#[source] Box<zbus::Error>),
    /// systemd refused or failed a call.
    #[error("systemd did not answer {call}")]
    Call {
        /// The method, or the property and its unit.
        call: String,
        /// What came back.
        #[source]
        source: Box<zbus::Error>,
    },
}

impl BusError {
    /// Whether it tells of systemd, which was away for a moment, and nothing of what was asked: as while it executes
    /// itself anew (`systemctl daemon-reexec`, at an upgrade).
    pub fn is_away(&self) -> bool {
        match self {
            Self::NoSystemd => false,
            Self::NoBus(_) => true,
            Self::Call { source, .. } => match &**source {
                zbus::Error::MethodError(name, ..) => AWAY.contains(&name.as_str()),
                _ => true,
            },
        }
    }
}

/// A unit as systemd has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitStatus {
    /// `nginx-container.service`.
    pub unit: String,
    /// `LoadState`: `loaded`, `not-found`, `bad-setting`, `masked`.
    pub load: String,
    /// `ActiveState`: `active`, `failed` and so on.
    pub active: String,
    /// `SubState`: `running`, `auto-restart` and so on.
    pub sub: String,
    /// `Result` of the last run, `success`, `exit-code` and so on, where it isn't active.
    pub result: Option<String>,
    /// When the state last changed, in microseconds since 1970.
    pub since: Option<u64>,
    /// `MainPID`.
    pub pid: Option<u32>,
    /// `MemoryCurrent`, bytes; nothing where the host doesn't count.
    pub memory: Option<u64>,
    /// `StatusText`, the last that the unit said of itself, while something of it runs, or after it has failed.
    pub text: Option<String>,
}

/// A service at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// `ActiveState`.
    pub active: String,
    /// `SubState`.
    pub sub: String,
    /// `MainPID`; 0 for none.
    pub pid: u32,
    /// `NRestarts`: automatic ones since somebody started it.
    pub restarts: u32,
    /// `Restart=`, as its unit and what is dropped into that have it.
    pub restart: String,
    /// `StatusText`.
    pub text: String,
    /// `Result` of the run that goes on, or of the last one.
    pub result: String,
    /// `ExecMainCode` and `ExecMainStatus`, as of waitid(2).
    pub exit: (i32, i32),
    /// The statuses and the signals of `RestartPreventExitStatus=`.
    pub prevented: (Vec<i32>, Vec<i32>),
}

/// More about one unit, for who looks at it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitDetails {
    /// As in a list of many.
    pub status: UnitStatus,
    /// `FragmentPath`, the unit's file.
    pub file: Option<String>,
    /// `DropInPaths`.
    pub drop_ins: Vec<String>,
    /// `NeedDaemonReload`: systemd has not read what its files say now.
    pub reload_due: bool,
    /// `StatusText`, the last that the unit said of itself.
    pub status_text: Option<String>,
    /// `NRestarts`: automatic ones since somebody started it.
    pub restarts: u32,
    /// `ExecMainCode` and `ExecMainStatus`, as of waitid(2), of the last run where it has ended.
    pub exit: Option<(i32, i32)>,
    /// `ControlGroup`, below /sys/fs/cgroup.
    pub control_group: Option<String>,
    /// `TasksCurrent`.
    pub tasks: Option<u64>,
    /// `CPUUsageNSec`.
    pub cpu_time: Option<u64>,
    /// `MemoryPeak`, bytes (systemd 255).
    pub memory_peak: Option<u64>,
    /// Limits by the name of their property, each as a number; nothing where there is none.
    pub limits: Vec<(&'static str, Option<u64>)>,
    /// `AllowedCPUs`: the CPUs that it may run on; empty for all.
    pub cpus: Vec<u32>,
}

/// When a timer elapses next, each nothing where it doesn't by that clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextElapse {
    /// `NextElapseUSecRealtime`: microseconds since 1970.
    pub realtime: Option<u64>,
    /// `NextElapseUSecMonotonic`: microseconds of CLOCK_MONOTONIC.
    pub monotonic: Option<u64>,
}

/// What `[limits]` of a container file becomes, as systemd has it: numbers, [`u64::MAX`] for none.
const LIMITS: [&str; 8] = [
    "MemoryMax",
    "MemoryHigh",
    "MemorySwapMax",
    "CPUQuotaPerSecUSec",
    "CPUWeight",
    "IOWeight",
    "TasksMax",
    "LimitNOFILE",
];

/// One row of `ListUnitsByPatterns`: name, description, load, active and sub state, followed unit, path,
/// job id, job type, job path.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Work that systemd has begun, and that ends some time.
pub struct Job {
    stream: Pin<Box<MessageStream>>,
    path: OwnedObjectPath,
}

impl Job {
    /// Waits for its end: `done`, or why not (`JobRemoved` of org.freedesktop.systemd1(5)).
    ///
    /// # Errors
    /// What systemd says can't be understood.
    pub fn wait(mut self) -> Result<String, BusError> {
        zbus::block_on(self.removed())
    }

    async fn removed(&mut self) -> Result<String, BusError> {
        while let Some(message) = poll_fn(|context| self.stream.as_mut().poll_next(context)).await {
            let message = message.map_err(failed("JobRemoved"))?;
            let removed: (u32, OwnedObjectPath, String, String) =
                message.body().deserialize().map_err(failed("JobRemoved"))?;
            if removed.1 == self.path {
                return Ok(removed.3);
            }
        }
        Ok("a closed connection".to_owned())
    }
}

/// How a unit's last run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// `Result`: `success`, `exit-code`, `oom-kill` and so on.
    pub result: String,
    /// `ExecMainCode` and `ExecMainStatus`, as of waitid(2).
    pub exit: (i32, i32),
}

/// The manager's call that makes a unit without a file.
const TRANSIENT: &str = "StartTransientUnit";

/// A property of a new unit, as a message has it.
type PropertyOnWire = (String, OwnedVariant);

/// Whether an error is the one of this name.
fn is_error(error: &zbus::Error, wanted: &str) -> bool {
    matches!(error, zbus::Error::MethodError(name, ..) if name.as_str() == wanted)
}

/// A connection to systemd.
#[derive(Clone)]
pub struct Systemd {
    connection: Connection,
}

impl Systemd {
    /// Whether systemd is process 1 here; in a chroot and in an image builder it isn't.
    pub fn runs() -> bool {
        Path::new(BOOTED).is_dir()
    }

    /// Connects to the system's manager.
    pub fn connect() -> Result<Self, BusError> {
        if !Self::runs() {
            return Err(BusError::NoSystemd);
        }
        let connection =
            zbus::block_on(Connection::system()).map_err(|source| BusError::NoBus(Box::new(source)))?;
        Ok(Self { connection })
    }

    /// systemd's version, as it says it.
    pub fn version(&self) -> Result<String, BusError> {
        zbus::block_on(self.property(MANAGER_PATH, MANAGER, "Version"))
    }

    /// `systemctl daemon-reload`; returns when all generators have run.
    pub fn reload(&self) -> Result<(), BusError> {
        zbus::block_on(self.call(MANAGER_PATH, MANAGER, "Reload", &())).map(drop)
    }

    /// Starts a unit, and waits until its job is over: `done`, or why not (`JobRemoved` of
    /// org.freedesktop.systemd1(5)). Who has no patience without an end waits in a thread.
    pub fn start(&self, unit: &str) -> Result<String, BusError> {
        zbus::block_on(async {
            let reply = self.call(MANAGER_PATH, MANAGER, "ListUnitsByNames", &(&[unit][..],)).await?;
            let rows: Vec<Row> = reply.body().deserialize().map_err(failed("ListUnitsByNames"))?;
            if rows.first().is_some_and(|row| row.3 == "active") {
                return Ok("done".to_owned());
            }
            self.job("StartUnit", unit).await
        })
    }

    /// Restarts a unit, or starts it, and waits as [`Systemd::start`] does.
    pub fn restart(&self, unit: &str) -> Result<String, BusError> {
        zbus::block_on(self.job("RestartUnit", unit))
    }

    /// Stops a unit, and waits as [`Systemd::start`] does. One that systemd hasn't got doesn't run.
    pub fn stop(&self, unit: &str) -> Result<String, BusError> {
        match zbus::block_on(self.job("StopUnit", unit)) {
            Err(BusError::Call { source, .. }) if is_error(&source, NOT_LOADED) => Ok("done".to_owned()),
            answer => answer,
        }
    }

    async fn job(&self, method: &str, unit: &str) -> Result<String, BusError> {
        let stream = self.jobs_of(unit).await?;
        let reply = self.call(MANAGER_PATH, MANAGER, method, &(unit, "replace")).await?;
        let path = reply.body().deserialize().map_err(failed(method))?;
        Job { stream, path }.removed().await
    }

    /// What tells of the ends of a unit's jobs, to be asked for before the job: it may be over by the time that its
    /// name is known. Of this unit's only, since what isn't taken in meanwhile holds up the answers too.
    async fn jobs_of(&self, unit: &str) -> Result<Pin<Box<MessageStream>>, BusError> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(SYSTEMD)
            .interface(MANAGER)
            .member("JobRemoved")
            .arg(2, unit)
            .build()
            .map_err(failed("JobRemoved"))?
            .to_owned();
        let stream = MessageStream::for_match_rule(rule, &self.connection, None);
        let stream = Box::pin(stream.await.map_err(failed("JobRemoved"))?);
        self.subscribe().await?;
        Ok(stream)
    }

    /// Has systemd send signals at all.
    async fn subscribe(&self) -> Result<(), BusError> {
        match self.call(MANAGER_PATH, MANAGER, "Subscribe", &()).await {
            Err(BusError::Call { source, .. }) if is_error(&source, SUBSCRIBED) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Has systemd make a unit that has no file, and start it. systemd knows the unit when this returns; of its start
    /// the job tells.
    ///
    /// # Errors
    /// systemd refuses a property, or has a unit of this name already.
    pub fn start_transient(&self, unit: &str, properties: &[(String, Property)]) -> Result<Job, BusError> {
        let properties: Vec<PropertyOnWire> = properties
            .iter()
            .map(|(name, value)| Ok((name.clone(), variant(value)?)))
            .collect::<zbus::Result<_>>()
            .map_err(failed(TRANSIENT))?;
        zbus::block_on(self.transient(unit, properties))
    }

    async fn transient(&self, unit: &str, properties: Vec<PropertyOnWire>) -> Result<Job, BusError> {
        let stream = self.jobs_of(unit).await?;
        let beside: Vec<(String, Vec<PropertyOnWire>)> = Vec::new();
        let body = (unit, "fail", properties, beside);
        let reply = self.call(MANAGER_PATH, MANAGER, TRANSIENT, &body).await?;
        let path = reply.body().deserialize().map_err(failed(TRANSIENT))?;
        Ok(Job { stream, path })
    }

    /// Makes a scope of some processes, which is there for as long as they are.
    ///
    /// # Errors
    /// As [`Systemd::start_transient`].
    pub fn start_scope(&self, unit: &str, description: &str, processes: &[u32]) -> Result<String, BusError> {
        let property = |name: &str, value: zbus::Variant<'_>| {
            Ok::<_, BusError>((name.to_owned(), value.try_into_owned().map_err(failed(TRANSIENT))?))
        };
        let properties: Vec<PropertyOnWire> = vec![
            property("Description", description.into())?,
            property("PIDs", processes.to_vec().into())?,
            property("CollectMode", "inactive-or-failed".into())?,
        ];
        zbus::block_on(async { self.transient(unit, properties).await?.removed().await })
    }

    /// `ActiveState` of a unit that systemd has, from a file or without, running or not; nothing where it has none.
    /// What is left of one that has failed and whose file is gone since is taken away.
    ///
    /// # Errors
    /// systemd doesn't answer.
    pub fn taken(&self, unit: &str) -> Result<Option<String>, BusError> {
        zbus::block_on(async {
            let reply = self.call(MANAGER_PATH, MANAGER, "ListUnitsByNames", &(&[unit][..],)).await?;
            let rows: Vec<Row> = reply.body().deserialize().map_err(failed("ListUnitsByNames"))?;
            let Some((_, _, load, active, ..)) = rows.first() else { return Ok(None) };
            if (load.as_str(), active.as_str()) == ("not-found", "failed") {
                self.call(MANAGER_PATH, MANAGER, "ResetFailedUnit", &unit).await?;
                return Ok(None);
            }
            Ok((load != "not-found" || active != "inactive").then(|| active.clone()))
        })
    }

    /// Whether a unit has a file, as far as systemd knows.
    ///
    /// # Errors
    /// systemd doesn't answer.
    pub fn has_file(&self, unit: &str) -> Result<bool, BusError> {
        zbus::block_on(async {
            let reply = self.call(MANAGER_PATH, MANAGER, "ListUnitsByNames", &(&[unit][..],)).await?;
            let rows: Vec<Row> = reply.body().deserialize().map_err(failed("ListUnitsByNames"))?;
            Ok(rows.first().is_some_and(|row| row.2 != "not-found"))
        })
    }

    /// Takes what systemd remembers of a unit's failures away, its count of restarts too: with systemd 252 a stop between
    /// two of them leaves that as it is (`service_stop` of its src/core/service.c).
    ///
    /// # Errors
    /// systemd doesn't know the unit.
    pub fn reset(&self, unit: &str) -> Result<(), BusError> {
        zbus::block_on(self.call(MANAGER_PATH, MANAGER, "ResetFailedUnit", &unit)).map(drop)
    }

    /// Waits until nothing of a unit runs, and tells how that came. The unit must be one that systemd keeps until
    /// then.
    ///
    /// # Errors
    /// systemd doesn't know the unit.
    pub fn ended(&self, unit: &str) -> Result<Ended, BusError> {
        zbus::block_on(async {
            let reply = self.call(MANAGER_PATH, MANAGER, "GetUnit", &unit).await?;
            let path: OwnedObjectPath = reply.body().deserialize().map_err(failed("GetUnit"))?;
            let rule = MatchRule::builder()
                .msg_type(zbus::message::Type::Signal)
                .sender(SYSTEMD)
                .interface(PROPERTIES)
                .member("PropertiesChanged")
                .path(path.as_str())
                .arg(0, UNIT)
                .build()
                .map_err(failed("PropertiesChanged"))?
                .to_owned();
            let stream = MessageStream::for_match_rule(rule, &self.connection, None);
            let mut stream = pin!(stream.await.map_err(failed("PropertiesChanged"))?);
            self.subscribe().await?;
            loop {
                let state: String = self.property(&path, UNIT, "ActiveState").await?;
                if matches!(state.as_str(), "inactive" | "failed") {
                    break;
                }
                if poll_fn(|context| stream.as_mut().poll_next(context)).await.is_none() {
                    break;
                }
            }
            let code = self.property(&path, SERVICE, "ExecMainCode").await?;
            let status = self.property(&path, SERVICE, "ExecMainStatus").await?;
            Ok(Ended { result: self.property(&path, SERVICE, "Result").await?, exit: (code, status) })
        })
    }

    /// How a unit is at this moment, for who looks again and again.
    pub fn pulse(&self, unit: &str) -> Result<Pulse, BusError> {
        zbus::block_on(async {
            let reply = self.call(MANAGER_PATH, MANAGER, "LoadUnit", &(unit,)).await?;
            let path: OwnedObjectPath = reply.body().deserialize().map_err(failed("LoadUnit"))?;
            Ok(Pulse {
                active: self.property(&path, UNIT, "ActiveState").await?,
                sub: self.property(&path, UNIT, "SubState").await?,
                pid: self.property(&path, SERVICE, "MainPID").await?,
                restarts: self.property(&path, SERVICE, "NRestarts").await?,
                restart: self.property(&path, SERVICE, "Restart").await?,
                text: self.property(&path, SERVICE, "StatusText").await?,
                result: self.property(&path, SERVICE, "Result").await?,
                exit: (
                    self.property(&path, SERVICE, "ExecMainCode").await?,
                    self.property(&path, SERVICE, "ExecMainStatus").await?,
                ),
                prevented: self.property(&path, SERVICE, "RestartPreventExitStatus").await?,
            })
        })
    }

    /// Every loaded unit whose name matches one of the patterns and is wanted, in the order of names.
    pub fn units(
        &self,
        patterns: &[&str],
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<Vec<UnitStatus>, BusError> {
        zbus::block_on(async {
            let states: &[&str] = &[];
            let reply = self.call(MANAGER_PATH, MANAGER, "ListUnitsByPatterns", &(states, patterns)).await?;
            let mut rows: Vec<Row> = reply.body().deserialize().map_err(failed("ListUnitsByPatterns"))?;
            rows.retain(|(unit, _, _, active, ..)| wanted(unit, active));
            let mut units = Vec::with_capacity(rows.len());
            for rows in rows.chunks(AT_A_TIME) {
                units.extend(together(rows.iter().map(|row| self.status(row))).await);
            }
            units.sort_by(|a, b| a.unit.cmp(&b.unit));
            Ok(units)
        })
    }

    /// Every loaded unit whose name matches one of the patterns and of whose files systemd hasn't read what they say now
    /// (`NeedDaemonReload`).
    pub fn outdated(&self, patterns: &[&str]) -> Result<std::collections::BTreeSet<String>, BusError> {
        zbus::block_on(async {
            let states: &[&str] = &[];
            let reply = self.call(MANAGER_PATH, MANAGER, "ListUnitsByPatterns", &(states, patterns)).await?;
            let rows: Vec<Row> = reply.body().deserialize().map_err(failed("ListUnitsByPatterns"))?;
            let mut outdated = std::collections::BTreeSet::new();
            for rows in rows.chunks(AT_A_TIME) {
                let asked = rows.iter().map(async |row| {
                    // One that is gone meanwhile has nothing to be read.
                    let is_outdated: Option<bool> =
                        self.property(&row.6, UNIT, "NeedDaemonReload").await.ok();
                    is_outdated.unwrap_or_default().then(|| row.0.clone())
                });
                outdated.extend(together(asked).await.into_iter().flatten());
            }
            Ok(outdated)
        })
    }

    /// `ActiveState` of every loaded unit whose name matches one of the patterns.
    pub fn states(&self, patterns: &[&str]) -> Result<std::collections::BTreeMap<String, String>, BusError> {
        zbus::block_on(async {
            let states: &[&str] = &[];
            let reply = self.call(MANAGER_PATH, MANAGER, "ListUnitsByPatterns", &(states, patterns)).await?;
            let rows: Vec<Row> = reply.body().deserialize().map_err(failed("ListUnitsByPatterns"))?;
            Ok(rows.into_iter().map(|row| (row.0, row.3)).collect())
        })
    }

    /// Every loaded timer whose name matches one of the patterns.
    pub fn timers(&self, patterns: &[&str]) -> Result<Vec<(String, NextElapse)>, BusError> {
        zbus::block_on(async {
            let states: &[&str] = &[];
            let reply = self.call(MANAGER_PATH, MANAGER, "ListUnitsByPatterns", &(states, patterns)).await?;
            let rows: Vec<Row> = reply.body().deserialize().map_err(failed("ListUnitsByPatterns"))?;
            let mut timers = Vec::with_capacity(rows.len());
            for rows in rows.chunks(AT_A_TIME) {
                timers.extend(
                    together(rows.iter().map(async |row| (row.0.clone(), self.elapses(&row.6).await))).await,
                );
            }
            Ok(timers)
        })
    }

    async fn elapses(&self, path: &str) -> NextElapse {
        let time = async |name| {
            let time: Option<u64> = self.property(path, TIMER, name).await.ok();
            time.filter(|time| *time != 0 && *time != u64::MAX)
        };
        NextElapse {
            realtime: time("NextElapseUSecRealtime").await,
            monotonic: time("NextElapseUSecMonotonic").await,
        }
    }

    /// One unit, loaded or not.
    pub fn unit(&self, name: &str) -> Result<UnitDetails, BusError> {
        zbus::block_on(async {
            let reply = self.call(MANAGER_PATH, MANAGER, "ListUnitsByNames", &(&[name][..],)).await?;
            let rows: Vec<Row> = reply.body().deserialize().map_err(failed("ListUnitsByNames"))?;
            match rows.first() {
                Some(row) => Ok(self.details(row).await),
                None => Ok(UnitDetails::default()),
            }
        })
    }

    /// As with [`Systemd::status`], what can't be had is left out.
    async fn details(&self, row: &Row) -> UnitDetails {
        let path = &row.6;
        let status = self.status(row).await;
        let text = async |interface, name| {
            self.property(path, interface, name).await.ok().filter(|text: &String| !text.is_empty())
        };
        let number = async |name| {
            self.property(path, SERVICE, name).await.ok().filter(|number: &u64| *number != u64::MAX)
        };
        let mut limits = Vec::with_capacity(LIMITS.len());
        for name in LIMITS {
            limits.push((name, number(name).await));
        }
        let code: i32 = self.property(path, SERVICE, "ExecMainCode").await.unwrap_or_default();
        let end: i32 = self.property(path, SERVICE, "ExecMainStatus").await.unwrap_or_default();
        let cpus: Vec<u8> = self.property(path, SERVICE, "AllowedCPUs").await.unwrap_or_default();
        UnitDetails {
            file: text(UNIT, "FragmentPath").await,
            drop_ins: self.property(path, UNIT, "DropInPaths").await.unwrap_or_default(),
            reload_due: self.property(path, UNIT, "NeedDaemonReload").await.unwrap_or_default(),
            status_text: text(SERVICE, "StatusText").await,
            restarts: self.property(path, SERVICE, "NRestarts").await.unwrap_or_default(),
            exit: (code != 0).then_some((code, end)),
            control_group: text(SERVICE, "ControlGroup").await,
            tasks: number("TasksCurrent").await,
            cpu_time: number("CPUUsageNSec").await,
            memory_peak: number("MemoryPeak").await,
            limits,
            // A bit for each CPU, the lowest first.
            cpus: (0..)
                .zip(&cpus)
                .flat_map(|(byte, bits)| {
                    (0..8_u32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| byte * 8 + bit)
                })
                .collect(),
            status,
        }
    }

    /// The rest of a unit's status. A unit may go away between the list and this, so what can't be had is
    /// left out and no failure.
    async fn status(&self, row: &Row) -> UnitStatus {
        let (unit, _, load, active, sub, _, path, _, _, _) = row;
        let mut status = UnitStatus {
            unit: unit.clone(),
            load: load.clone(),
            active: active.clone(),
            sub: sub.clone(),
            ..UnitStatus::default()
        };
        // 0 is "never", and the highest number "not known", throughout systemd's properties.
        status.since =
            self.property(path, UNIT, "StateChangeTimestamp").await.ok().filter(|time: &u64| *time != 0);
        if active != "active" {
            status.result = self.property(path, SERVICE, "Result").await.ok();
        }
        // Where nothing runs there is no process and no memory to ask about.
        if active != "inactive" && active != "failed" {
            status.pid = self.property(path, SERVICE, "MainPID").await.ok().filter(|pid: &u32| *pid != 0);
            status.memory = self
                .property(path, SERVICE, "MemoryCurrent")
                .await
                .ok()
                .filter(|bytes: &u64| *bytes != u64::MAX);
        }
        if active != "inactive" {
            let text: Result<String, _> = self.property(path, SERVICE, "StatusText").await;
            status.text = text.ok().filter(|text| !text.is_empty());
        }
        status
    }

    async fn property<T>(&self, path: &str, interface: &str, name: &str) -> Result<T, BusError>
    where
        T: TryFrom<OwnedVariant>,
        zbus::Error: From<T::Error>,
    {
        let reply = self.call(path, PROPERTIES, "Get", &(interface, name)).await?;
        let value: OwnedVariant = reply.body().deserialize().map_err(failed(name))?;
        T::try_from(value).map_err(|error| failed(name)(error.into()))
    }

    async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<zbus::Message, BusError>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.connection
            .call_method(Some(SYSTEMD), path, Some(interface), method, body)
            .await
            .map_err(failed(method))
    }
}

/// A property as D-Bus has it.
fn variant(property: &Property) -> zbus::Result<OwnedVariant> {
    let value: zbus::Variant<'_> = match property {
        Property::Flag(flag) => (*flag).into(),
        Property::Text(text) => text.as_str().into(),
        Property::Texts(texts) => texts.clone().into(),
        Property::Signed(number) => (*number).into(),
        Property::Small(number) => (*number).into(),
        Property::Large(number) => (*number).into(),
        Property::Bytes(bytes) => bytes.clone().into(),
        Property::Fields(fields) => {
            fields.iter().map(|field| field.clone().into_bytes()).collect::<Vec<_>>().into()
        }
        Property::Commands(commands) => {
            let command = |command: &Command| {
                let Command { path, arguments, ignore_failure } = command;
                (path.clone(), arguments.clone(), *ignore_failure)
            };
            commands.iter().map(command).collect::<Vec<_>>().into()
        }
        Property::Pairs(pairs) => pairs.clone().into(),
        Property::Statuses(statuses, signals) => (statuses.clone(), signals.clone()).into(),
    };
    value.try_into_owned()
}

fn failed(call: &str) -> impl Fn(zbus::Error) -> BusError + use<'_> {
    move |source| BusError::Call { call: call.to_owned(), source: Box::new(source) }
}

/// Runs a few futures side by side, and gives what they give in their order.
async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut waiting = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(ready) => *output = Some(ready),
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_have_the_types_that_systemd_takes() {
        let command = Command { path: "/x".into(), arguments: vec!["/x".into()], ignore_failure: true };
        for (property, signature) in [
            (Property::Flag(true), "b"),
            (Property::Text("a".into()), "s"),
            (Property::Texts(vec!["a".into()]), "as"),
            (Property::Texts(vec![]), "as"),
            (Property::Signed(-1), "i"),
            (Property::Small(1), "u"),
            (Property::Large(1), "t"),
            (Property::Bytes(vec![1]), "ay"),
            (Property::Fields(vec!["A=b".into()]), "aay"),
            (Property::Commands(vec![command]), "a(sasb)"),
            (Property::Pairs(vec![("a".into(), "b".into())]), "a(ss)"),
            (Property::Statuses(vec![1], vec![]), "(aiai)"),
        ] {
            let variant = variant(&property).expect("made");
            assert_eq!(variant.value_signature().to_string(), signature);
        }
    }

    #[test]
    fn side_by_side_and_in_order() {
        // The first is ready only after the second was asked.
        let asked = std::cell::Cell::new(0);
        let one = |after: u32| {
            let asked = &asked;
            poll_fn(move |context| {
                asked.set(asked.get() + 1);
                if asked.get() > after {
                    return Poll::Ready(after);
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
        };
        assert_eq!(zbus::block_on(together([one(3), one(0), one(2)].into_iter())), [3, 0, 2]);
    }
}
