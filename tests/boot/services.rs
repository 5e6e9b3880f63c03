//! Real services: nginx, PostgreSQL and Redis of Debian's packages, and what an administrator does to them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::containers::{NGINX, POSTGRESQL, REDIS, forget, log, property, until, with};
use super::machine::{Machine, Result};
use super::stage::{On, Stage, Story, Told, some_moment};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "nginx, PostgreSQL and Redis are services", on: On::FastThenFull, tell: services },
    Story { name: "power cuts lose nothing that was acknowledged", on: On::FullIfAll, tell: power_cuts },
    Story { name: "the services go as they came", on: On::FastThenFull, tell: end },
];

const NAMES: [&str; 3] = ["nginx", "postgresql", "redis"];

const FILES: [(&str, &str); 3] = [
    ("nginx", "image = 'nginx:1.26'\nnetwork = 'host'\nuser-namespace = true\n"),
    (
        "postgresql",
        "image = 'postgresql:17'\nnetwork = 'host'\nuser-namespace = true\n\
         [mounts]\n'/data' = { bind = '/srv/postgresql' }\n[stop]\ntimeout = '60s'\n",
    ),
    (
        "redis",
        "image = 'redis:8'\nnetwork = 'host'\nuser-namespace = true\n\
         [mounts]\n'/data' = { volume = 'redis' }\n",
    ),
];

/// The clients are those of the images: each runs in its server's root.
const CLIENT: &str = r#"#!/bin/bash
root=/proc/$(systemctl show -P MainPID "$1-container")/root
case $1 in
postgresql) exec chroot "$root" /bin/sh -c 'exec /usr/lib/postgresql/*/bin/psql -h 127.0.0.1 -U postgres -qAtX "$@"' sh "${@:2}" ;;
redis) exec chroot "$root" /usr/bin/stdbuf -oL /usr/bin/redis-cli "${@:2}" ;;
esac
"#;

/// The services, declared and running; whichever story comes first sets them up.
fn set_up(stage: &mut Stage) -> Result<&mut Machine> {
    let machine = with(stage, &[&NGINX, &POSTGRESQL, &REDIS])?;
    if machine.run("test -e /etc/wharf/containers/redis.toml")?.code == 0 {
        return Ok(machine);
    }
    machine.write("/usr/local/bin/client", CLIENT)?;
    // The folder is the image's postgres's, as its own passwd knows it.
    machine.sh(
        "chmod +x /usr/local/bin/client; ids=$(grep -h ^postgres: /var/lib/wharf/layers/*/tree/etc/passwd | cut -d: -f3,4); \
         echo $ids >/root/postgres; install -d -m 700 /srv/postgresql; chown $ids /srv/postgresql",
    )?;
    for (name, text) in FILES {
        machine.write(&format!("/etc/wharf/containers/{name}.toml"), text)?;
    }
    machine.sh("wharf check && systemctl daemon-reload")?;
    machine.sh("systemctl start nginx-container postgresql-container redis-container")?;
    all_answer(machine)?;
    machine.sh("client postgresql -c 'create table rows (n serial primary key)'")?;
    Ok(machine)
}

fn all_answer(machine: &Machine) -> Result<()> {
    until(machine, "[[ $(curl -fs http://localhost:8080/) == *'Hello from nginx.'* ]]")?;
    until(machine, "[[ $(client postgresql -c 'select 6 * 7' 2>&1) == 42 ]]")?;
    until(machine, "[[ $(client redis ping 2>&1) == PONG ]]")
}

fn services(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    owners(machine)?;
    journal(machine)?;

    let refused = machine.run("systemctl reload nginx-container")?;
    assert_ne!(refused.code, 0);
    assert_eq!(
        refused.stderr.trim(),
        "Failed to reload nginx-container.service: Job type reload is not applicable for unit nginx-container.service."
    );

    // A row and a key, to be found again after all that follows.
    let row = machine.sh("client postgresql -c 'insert into rows default values returning n'")?;
    machine.sh("client redis set kept yes")?;
    for name in NAMES {
        let before = property(machine, name, "MainPID")?;
        machine.sh(&format!("kill -9 {before}"))?;
        until(
            machine,
            &format!(
                "systemctl is-active -q {name}-container && [[ $(systemctl show -P MainPID {name}-container) != @(0|{before}) ]]"
            ),
        )?;
        assert_eq!(property(machine, name, "NRestarts")?, "1", "{name}");
    }
    all_answer(machine)?;

    for name in NAMES {
        let before = property(machine, name, "MainPID")?;
        machine.sh(&format!("systemctl restart {name}-container"))?;
        assert_ne!(property(machine, name, "MainPID")?, before);
    }
    all_answer(machine)?;

    for name in NAMES {
        machine.sh(&format!("systemctl stop {name}-container"))?;
        let end = machine
            .sh(&format!("systemctl show -P Result -P ExecMainStatus -P ActiveState {name}-container"))?;
        let mut end: Vec<&str> = end.lines().filter(|line| !line.is_empty()).collect();
        end.sort_unstable();
        assert_eq!(end, ["0", "inactive", "success"], "{name} ended by itself, in time");
    }
    let log = machine.sh("journalctl --sync; journalctl -q -o cat -u nginx-container -n 20")?;
    assert!(log.contains("signal 3 (SIGQUIT) received"), "the image's own stop signal came: {log}");
    assert_eq!(machine.sh("ls /sys/fs/cgroup/wharf.slice 2>/dev/null | grep -c container || :")?, "0");

    machine.reboot()?;
    all_answer(machine)?;
    let rows = machine.sh(&format!("client postgresql -c 'select n from rows where n = {row}'"))?;
    assert_eq!(rows, row);
    assert_eq!(machine.sh("client redis get kept")?, "yes");
    Ok(())
}

/// Ids inside are ids on disk; processes have the ids of their container's range.
fn owners(machine: &Machine) -> Told {
    let ids = machine.sh("cat /root/postgres")?;
    assert_eq!(machine.sh("find /srv/postgresql -printf '%U:%G\\n' | sort -u")?, ids);
    let mut starts = BTreeSet::new();
    for (name, user) in [("nginx", "0"), ("postgresql", "postgres"), ("redis", "redis")] {
        let lease: u32 = machine.sh(&format!("cat /var/lib/wharf/leases/ids/{name}"))?.trim().parse()?;
        assert!(
            (524_288..=1_879_048_191).contains(&lease) && lease.is_multiple_of(65_536),
            "{name}: {lease}"
        );
        starts.insert(lease);
        let pid = property(machine, name, "MainPID")?;
        let uids = machine.sh(&format!(
            "cat /sys/fs/cgroup$(systemctl show -P ControlGroup {name}-container)/payload/cgroup.procs | xargs -I{{}} stat -c %u /proc/{{}}"
        ))?;
        for uid in uids.lines() {
            let uid: u32 = uid.parse()?;
            assert!((lease..lease + 65_536).contains(&uid), "{name}: {uid} is not in the range from {lease}");
        }
        let inside = machine.sh(&format!(
            "awk -F: '$1 == \"{user}\" || $3 == \"{user}\" {{ print $3 }}' /proc/{pid}/root/etc/passwd"
        ))?;
        let inside: u32 = inside.parse()?;
        assert_eq!(machine.sh(&format!("stat -c %u /proc/{pid}"))?, (lease + inside).to_string());
    }
    assert_eq!(starts.len(), 3, "each has a range of its own");
    Ok(())
}

/// stdout (Redis) and stderr (nginx) are in the journal, as the unit's and by the program's own process.
fn journal(machine: &Machine) -> Result<()> {
    assert!(log(machine, "redis")?.contains("Ready to accept connections"));
    assert!(log(machine, "nginx")?.contains("start worker processes"));
    for (name, words) in [("redis", "Ready to accept"), ("nginx", "start worker processes")] {
        let entry = machine.sh(&format!(
            "journalctl -q -b -u {name}-container -o json --output-fields=_SYSTEMD_UNIT,_PID,_TRANSPORT,MESSAGE | grep '{words}'"
        ))?;
        let entry: serde_json::Value =
            serde_json::from_str(entry.lines().next().unwrap_or_default()).unwrap_or_default();
        assert_eq!(entry["_SYSTEMD_UNIT"], format!("{name}-container.service"), "{entry}");
        assert_eq!(entry["_TRANSPORT"], "stdout");
        assert_eq!(entry["_PID"], property(machine, name, "MainPID")?);
    }
    Ok(())
}

/// What lies under /run and what systemd keeps of containers, without the numbers that differ from boot to boot.
pub fn left_over(machine: &Machine) -> Result<BTreeSet<String>> {
    let list = machine.sh(
        "find /run /var/lib/wharf -path '/run/udev' -prune -o -path '/run/systemd/journal/streams' -prune \
           -o -path '/run/user' -prune -o -path '/run/systemd/sessions' -prune -o -path '/run/systemd/users' -prune \
           -o -path '/run/systemd/transient' -prune -o -path '/run/systemd/units' -prune \
           -o -path '/var/lib/wharf/layers' -prune -o -path '/var/lib/wharf/volumes/*' -prune -o -print; \
         find /sys/fs/cgroup/wharf.slice -type d; findmnt -rno TARGET | grep -v ^/run/user",
    )?;
    let without_numbers = |line: &str| -> String {
        let mut last = ' ';
        line.chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .filter(|c| !(std::mem::replace(&mut last, *c) == '0' && *c == '0'))
            .collect()
    };
    Ok(list.lines().map(without_numbers).collect())
}

fn power_cuts(stage: &mut Stage) -> Told {
    let times = stage.times(1, 20);
    let machine = set_up(stage)?;
    machine.reboot()?;
    all_answer(machine)?;
    let clean = left_over(machine)?;
    let mut rows: BTreeSet<u64> = BTreeSet::new();
    let (mut keys, mut pages) = (0, 0);
    for time in 1..=times {
        let mut inserting = machine
            .start("yes 'insert into rows default values returning n;' | client postgresql 2>/dev/null")?;
        let counting = machine.start("yes 'incr counter' | client redis")?;
        let fetching =
            machine.start("while curl -fsS -o /dev/null http://localhost:8080/; do echo page; done")?;
        rows.extend(inserting.line().and_then(|row| row.parse::<u64>().ok()));
        machine.let_pass(some_moment(Duration::from_secs(5)));
        machine.power_cut()?;
        let new: Vec<u64> = inserting.rest().iter().filter_map(|row| row.parse().ok()).collect();
        keys = counting.rest().iter().filter_map(|key| key.parse::<u64>().ok()).fold(keys, u64::max);
        pages += fetching.rest().len();
        println!("    cut {time}: {} rows, {keys} keys, {pages} pages acknowledged", rows.len() + new.len());
        rows.extend(new);
        // Every other time the boot that follows is cut as well.
        if time % 2 == 0 {
            machine.power_on()?;
            machine.let_pass(some_moment(Duration::from_secs(30)));
            machine.power_cut()?;
        }
        machine.boot_again()?;
        all_answer(machine)?;
        let kept = machine.sh("client postgresql -c 'select n from rows'")?;
        let kept: BTreeSet<u64> = kept.lines().filter_map(|row| row.parse().ok()).collect();
        let lost: Vec<_> = rows.difference(&kept).collect();
        assert!(lost.is_empty(), "rows that were acknowledged are gone: {lost:?}");
        let counter: u64 = machine.sh("client redis get counter")?.parse()?;
        assert!(counter >= keys, "{keys} was acknowledged, the counter is {counter}");
        let left = left_over(machine)?;
        let more: Vec<_> = left.difference(&clean).collect();
        assert!(more.is_empty(), "left over: {more:?}");
        assert_eq!(machine.sh("systemctl list-units --failed --no-legend --plain")?, "");
    }
    assert!(!rows.is_empty() && keys > 0 && pages > 0, "something was under way");
    Ok(())
}

fn end(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    forget(machine, &NAMES)?;
    assert_eq!(machine.sh("wharf ps --json | tr -d '\\n '")?, "[]");
    machine.sh("rm -rf /srv/postgresql")?;
    Ok(())
}
