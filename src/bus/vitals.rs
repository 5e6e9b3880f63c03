//! What has to be asked of systemd about every container each time that they are measured. What a container uses isn't
//! among it: systemd would read the files of its cgroup for that, one at a time, which whoever asks can do as well.

use super::{AT_A_TIME, BusError, MANAGER, MANAGER_PATH, Row, SERVICE, Systemd, UNIT, failed, together};

/// A unit at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// `nginx-container.service`.
    pub unit: String,
    /// `ActiveState`.
    pub active: String,
    /// `ActiveEnterTimestamp` while it is active: microseconds since 1970.
    pub since: Option<u64>,
    /// `NRestarts`: automatic ones since somebody started it. Wharf's own delay is a part of such a restart, so each
    /// counts here.
    pub restarts: Option<u32>,
    /// `StatusText`, the last that it said of itself, while something of it runs.
    pub text: Option<String>,
    /// `ControlGroup`, below /sys/fs/cgroup, while something of it runs.
    pub control_group: Option<String>,
}

impl Systemd {
    /// Every loaded unit whose name matches one of the patterns and is wanted, in the order of names. `known` gives what
    /// an earlier answer said of a unit that is still in the same run and has this `ActiveState`, and whether what it
    /// says of itself may be another thing by now: that alone is asked for then, and else nothing.
    ///
    /// # Errors
    /// systemd doesn't answer. What a unit that has gone meanwhile doesn't say is left out.
    pub fn vitals(
        &self,
        patterns: &[&str],
        wanted: impl FnMut(&str, &str) -> bool,
        known: impl Fn(&str, &str) -> Option<(Vitals, bool)>,
    ) -> Result<Vec<Vitals>, BusError> {
        let mut wanted = wanted;
        zbus::block_on(async {
            let states: &[&str] = &[];
            let reply = self.call(MANAGER_PATH, MANAGER, "ListUnitsByPatterns", &(states, patterns)).await?;
            let mut rows: Vec<Row> = reply.body().deserialize().map_err(failed("ListUnitsByPatterns"))?;
            rows.retain(|(unit, _, _, active, ..)| wanted(unit, active));
            let mut all = Vec::with_capacity(rows.len());
            for rows in rows.chunks(AT_A_TIME) {
                all.extend(together(rows.iter().map(|row| self.vital(row, &known))).await);
            }
            all.sort_by(|a, b| a.unit.cmp(&b.unit));
            Ok(all)
        })
    }

    async fn vital(&self, row: &Row, known: impl Fn(&str, &str) -> Option<(Vitals, bool)>) -> Vitals {
        let (unit, _, _, active, _, _, path, _, _, _) = row;
        let filled = |text: &String| !text.is_empty();
        if let Some((mut vitals, says)) = known(unit, active) {
            if says {
                vitals.text = self.property(path, SERVICE, "StatusText").await.ok().filter(filled);
            }
            return vitals;
        }
        let mut vitals = Vitals { unit: unit.clone(), active: active.clone(), ..Vitals::default() };
        vitals.restarts = self.property(path, SERVICE, "NRestarts").await.ok();
        if !matches!(active.as_str(), "inactive" | "failed") {
            vitals.text = self.property(path, SERVICE, "StatusText").await.ok().filter(filled);
            vitals.control_group = self.property(path, SERVICE, "ControlGroup").await.ok().filter(filled);
        }
        if matches!(active.as_str(), "active" | "reloading") {
            let time = self.property(path, UNIT, "ActiveEnterTimestamp").await.ok();
            vitals.since = time.filter(|time| *time != 0);
        }
        vitals
    }
}
