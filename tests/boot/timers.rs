//! Jobs and the timers that start them.

use std::time::Duration;

use super::containers::{DEBIAN, REDIS, declare, forget, import, log, property, until, with};
use super::machine::{Kind, Machine, Recipe, Result};
use super::sockets;
use super::stage::{On, Stage, Story, Told, install_wharf};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "a job's end is its start's", on: On::Fast, tell: jobs },
    Story {
        name: "a timer starts its job, at its times and after a time that was missed",
        on: On::FastThenFull,
        tell: timers,
    },
    Story { name: "a time during a run is passed over, or starts it anew", on: On::Fast, tell: overlap },
    Story {
        name: "Debian 12's systemd knows jobs, timers and sockets as well",
        on: On::FastIfAll,
        tell: older,
    },
];

/// A job of a shell script, with more lines for its file.
fn job(script: &str, more: &str) -> String {
    format!(
        "image = 'debian:13'\nnetwork = 'none'\nautostart = false\ntype = 'job'\n\
         command = ['/bin/bash', '-c', '''{script}''']\n{more}\n"
    )
}

/// How the unit of a container ended: `Result`, `ExecMainCode` (of waitid(2)) and `ExecMainStatus`.
fn end(machine: &Machine, name: &str) -> Result<String> {
    Ok([
        property(machine, name, "Result")?,
        property(machine, name, "ExecMainCode")?,
        property(machine, name, "ExecMainStatus")?,
    ]
    .join(" "))
}

fn jobs(stage: &mut Stage) -> Told {
    job_ends(with(stage, &[&DEBIAN])?)
}

/// The same with systemd 252.
fn older(stage: &mut Stage) -> Told {
    let mut machine = Machine::boot(stage.kind(), &Recipe::older())?;
    assert!(machine.sh("systemctl --version")?.starts_with("systemd 252 "));
    install_wharf(&machine)?;
    import(&machine, &DEBIAN)?;
    import(&machine, &REDIS)?;
    job_ends(&machine)?;
    timer_starts(&mut machine)?;
    sockets::clients_wait(&machine)?;
    sockets::handed_to(&mut machine)?;
    sockets::proxied_by(&mut machine)
}

fn job_ends(machine: &Machine) -> Told {
    let start = |name: &str| machine.run(&format!("systemctl start {name}-container"));

    // Ended well: the start waits for it, and a unit is left that can be started again.
    declare(machine, "good", &job("sleep 1; echo done >/tmp/x; cat /tmp/x; exit 0", ""))?;
    for _ in 0..2 {
        let started = start("good")?;
        assert_eq!((started.code, started.stderr.as_str()), (0, ""));
        assert_eq!(property(machine, "good", "ActiveState")?, "inactive", "it is over when the start is");
        // systemd forgets a unit that has ended well and that nothing refers to.
        assert_eq!(property(machine, "good", "Result")?, "success");
    }
    machine.sh("journalctl --sync")?;
    assert_eq!(machine.sh("journalctl -q -o cat SYSLOG_IDENTIFIER=good | grep -c ^done")?, "2");

    // Not: by status, by status at once, by signal, and by a program that isn't there. systemd sees each for itself.
    for (name, script, ended) in
        [("status", "sleep .5; exit 42", "exit-code 1 42"), ("once", "exit 42", "exit-code 1 42")]
    {
        declare(machine, name, &job(script, ""))?;
        let started = start(name)?;
        assert_ne!(started.code, 0, "{name}");
        assert!(started.stderr.contains("control process exited with error code"), "{}", started.stderr);
        assert_eq!(end(machine, name)?, ended, "{name}");
        assert_eq!(property(machine, name, "ActiveState")?, "failed");
    }
    for time in 0..10 {
        start("once")?;
        assert_eq!(end(machine, "once")?, "exit-code 1 42", "at once, the {time}. time");
    }
    // A signal that ends a service well is no good end of a job, also where a small init says it by a status.
    declare(machine, "asked", &job("kill -TERM $$; sleep 9", "init = true"))?;
    assert_ne!(start("asked")?.code, 0);
    assert_eq!(end(machine, "asked")?, "exit-code 1 143");
    declare(machine, "killed", &job("sleep infinity", "init = true"))?;
    let mut waiting = machine.start("systemctl start killed-container; echo $?")?;
    until(
        machine,
        "[[ $(systemctl show -P SubState killed-container) == start ]] && wharf exec killed true",
    )?;
    assert_eq!(
        property(machine, "killed", "ActiveState")?,
        "activating",
        "a job that runs is still starting"
    );
    machine.sh("kill -9 $(systemctl show -P MainPID killed-container)")?;
    assert_eq!(waiting.line().as_deref(), Some("1"));
    assert_eq!(end(machine, "killed")?, "signal 2 9");
    declare(machine, "missing", &job("x", "entrypoint = ['/no/such']"))?;
    assert_ne!(start("missing")?.code, 0);
    assert_eq!(end(machine, "missing")?, "exit-code 1 203");

    // One that is asked to end while it runs does, and its network record goes with it.
    declare(machine, "killed", &job("trap 'exit 0' TERM; sleep infinity & wait", ""))?;
    let mut waiting = machine.start("systemctl start killed-container; echo $?")?;
    until(machine, "wharf exec killed true")?;
    machine.sh("systemctl stop killed-container")?;
    assert_eq!(waiting.line().as_deref(), Some("1"), "a start that was taken back");
    assert_eq!(property(machine, "killed", "ActiveState")?, "inactive");
    assert_eq!(machine.sh("ls /run/wharf/running | grep -c killed || :")?, "0");

    // A limit on its time, for a job and for a service.
    declare(
        machine,
        "long",
        &job("trap 'echo asked; exit 1' TERM; sleep infinity & wait", "runtime = '2s'"),
    )?;
    let started = start("long")?;
    assert_ne!(started.code, 0);
    assert!(started.stderr.contains("timeout was exceeded"), "{}", started.stderr);
    assert_eq!(property(machine, "long", "Result")?, "timeout");
    assert!(machine.sh("journalctl -q -o cat SYSLOG_IDENTIFIER=long")?.contains("asked"));
    declare(machine, "serves", "image = 'debian:13'\nnetwork = 'none'\nautostart = false\nruntime = '2s'\n")?;
    machine.sh("systemctl start serves-container")?;
    until(machine, "[[ $(systemctl show -P Result serves-container) == timeout ]]")?;
    until(machine, "[[ $(systemctl show -P ActiveState serves-container) == failed ]]")?;
    machine.let_pass(Duration::from_secs(1));
    assert_eq!(property(machine, "serves", "ActiveState")?, "failed", "it isn't started again");

    // Again after a failure, where that is asked for.
    declare(
        machine,
        "again",
        &job(
            "n=$(cat /data/n 2>/dev/null || echo 0); echo $((n + 1)) >/data/n; exit $((n < 2))",
            "restart = 'on-failure'\nmounts.'/data' = { volume = 'again' }",
        ),
    )?;
    machine.sh("systemctl start --no-block again-container")?;
    until(
        machine,
        "[[ $(cat /var/lib/wharf/volumes/again/n /var/lib/wharf/volumes/again/*/n 2>/dev/null) == 3 ]] && \
         [[ $(systemctl show -P ActiveState again-container) == inactive ]]",
    )?;
    assert_eq!(property(machine, "again", "Result")?, "success");

    // What links to a job starts after its end.
    declare(
        machine,
        "prepare",
        &job("sleep 1; echo prepared >/data/done", "mounts.'/data' = { volume = 'prepared' }"),
    )?;
    machine.sh("sed -i \"s/network = 'none'//\" /etc/wharf/containers/prepare.toml")?;
    declare(
        machine,
        "after",
        "image = 'debian:13'\nautostart = false\nlinks = ['prepare']\nmounts.'/data' = { volume = 'prepared' }\n\
         command = ['/bin/bash', '-c', 'cat /data/done; trap exit TERM; sleep infinity & wait']\n",
    )?;
    machine.sh("systemctl start after-container")?;
    until(machine, "journalctl -q -o cat -u after-container | grep -qx prepared")?;
    assert_eq!(log(machine, "after")?, "prepared");
    forget(
        machine,
        &[
            "good", "status", "once", "asked", "killed", "missing", "long", "serves", "again", "after",
            "prepare",
        ],
    )?;
    machine.sh("rm -rf /var/lib/wharf/volumes/again /var/lib/wharf/volumes/prepared")?;
    Ok(())
}

/// How often a job has said that it ran.
const RUNS: &str =
    "journalctl --sync; journalctl -q -o cat SYSLOG_IDENTIFIER=nightly | grep -c '^it ran' || :";

fn timers(stage: &mut Stage) -> Told {
    timer_starts(with(stage, &[&DEBIAN])?)
}

fn timer_starts(machine: &mut Machine) -> Told {
    let file = |autostart: bool, timer: &str| {
        format!(
            "image = 'debian:13'\nnetwork = 'none'\nautostart = {autostart}\n\
             command = ['/bin/bash', '-c', 'echo it ran']\n[timer]\n{timer}\n"
        )
    };
    let wanted = |what: &str| -> Result<bool> {
        Ok(machine.run(&format!("test -e /run/systemd/generator/{what}"))?.code == 0)
    };
    // With time between two for who looks, where a start takes seconds.
    let often = match machine.kind() {
        Kind::Fast => "on-calendar = '*-*-* *:*:0/2'",
        Kind::Full => "on-calendar = '*-*-* *:*:0/15'",
    };
    // Not at boot itself, but its timer.
    declare(machine, "nightly", &file(true, often))?;
    assert!(wanted("timers.target.wants/nightly-container.timer")?);
    assert!(!wanted("multi-user.target.wants/nightly-container.service")?);
    let version: u32 =
        machine.sh("systemctl --version | sed -n '1s/systemd \\([0-9]*\\).*/\\1/p'")?.parse().unwrap_or(0);
    let units = machine.sh("cd /run/systemd/generator; systemd-analyze verify --man=no ./nightly-container.timer ./nightly-container.service 2>&1 || :")?;
    assert!(!units.contains("nightly") && !units.contains("Unknown"), "{units}");
    if version >= 257 {
        assert!(machine.sh("systemctl show nightly-container.timer")?.contains("DeferReactivation=yes"));
    }
    let disabled = machine.sh("wharf disable nightly")?;
    assert!(
        disabled.contains("nightly is disabled") && !wanted("timers.target.wants/nightly-container.timer")?
    );
    machine.sh("wharf enable nightly")?;
    assert!(wanted("timers.target.wants/nightly-container.timer")?);

    machine.sh("systemctl start nightly-container.timer")?;
    until(machine, &format!("(( $({RUNS}) >= 2 ))"))?;
    let listed = machine.sh("systemctl list-timers --no-legend nightly-container.timer")?;
    assert!(listed.contains("nightly-container.service"), "{listed}");
    // While it runs, the next time isn't known.
    until(
        machine,
        "wharf ps --json | grep -q '\"next\": \"2' && wharf inspect nightly | grep -q Next && wharf ps | grep -q ', next in '",
    )?;

    // A file that goes bad and is put right again: the timer is still there, and what it starts meanwhile says why not.
    machine.sh("systemctl stop nightly-container.timer; rm -f /run/wharf/last-good/nightly.json")?;
    declare(machine, "nightly", &file(true, &format!("{often}\nimge = 1")))?;
    machine.sh("systemctl start nightly-container.timer")?;
    until(machine, "journalctl -q -u nightly-container -o cat | grep -q 'imge. is not a key'")?;
    declare(machine, "nightly", &file(true, "on-calendar = 'at three'"))?;
    assert_eq!(machine.sh("systemctl is-active nightly-container.timer")?, "active");
    let before: u32 = machine.sh(RUNS)?.parse()?;
    declare(machine, "nightly", &file(true, often))?;
    assert_eq!(machine.sh("systemctl is-active nightly-container.timer")?, "active");
    until(machine, &format!("(( $({RUNS}) > {before} ))"))?;

    // Once a year: no time of it was while the host was off.
    machine.sh(
        "systemctl stop nightly-container.timer; rm -f /var/lib/systemd/timers/stamp-nightly-container.timer",
    )?;
    declare(machine, "nightly", &file(true, "on-calendar = '*-01-01 00:00:00'"))?;
    machine.sh("systemctl start nightly-container.timer; sync")?;
    machine.reboot()?;
    let before: u32 = machine.sh(RUNS)?.parse()?;
    assert_eq!(machine.sh("systemctl is-active nightly-container.timer")?, "active");
    // A time of today that comes while the power is off.
    let off = match machine.kind() {
        Kind::Fast => 15,
        Kind::Full => 60,
    };
    let at = machine.sh(&format!("systemctl stop nightly-container.timer; date -d '+{off} seconds' +%T"))?;
    declare(machine, "nightly", &file(true, &format!("on-calendar = '*-*-* {at}'")))?;
    machine.sh("systemctl start nightly-container.timer; sync")?;
    machine.power_cut()?;
    // A machine that is off lets no time pass.
    #[expect(clippy::disallowed_methods, reason = "nothing tells when a time has passed")]
    std::thread::sleep(Duration::from_secs(off));
    machine.boot_again()?;
    until(machine, "journalctl -b -q -o cat SYSLOG_IDENTIFIER=nightly | grep -q '^it ran'")?;
    machine.let_pass(Duration::from_secs(2));
    let after = machine
        .sh("journalctl --sync; journalctl -b -q -o cat SYSLOG_IDENTIFIER=nightly | grep -c '^it ran'")?;
    assert_eq!(after, "1", "{before} before");
    machine.sh(
        "systemctl stop nightly-container.timer; rm -f /var/lib/systemd/timers/stamp-nightly-container.timer",
    )?;
    forget(machine, &["nightly"])?;
    Ok(())
}

fn overlap(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let file = |overlap: &str, every: &str| {
        format!(
            "image = 'debian:13'\nnetwork = 'none'\nautostart = false\ninit = true\n\
             command = ['/bin/bash', '-c', 'echo begun; sleep 5; echo ended']\n\
             [timer]\nevery = '{every}'\noverlap = '{overlap}'\n"
        )
    };
    let said = |name: &str, word: &str| -> Result<u32> {
        let count = machine.sh(&format!(
            "journalctl --sync; journalctl -q -o cat SYSLOG_IDENTIFIER={name} | grep -c ^{word} || :"
        ))?;
        Ok(count.parse().unwrap_or(0))
    };
    // The first is at once.
    declare(machine, "skips", &file("skip", "2s"))?;
    machine.sh("systemctl start skips-container.timer")?;
    until(machine, "journalctl -q -o cat SYSLOG_IDENTIFIER=skips | grep -q ^ended")?;
    machine.sh("systemctl stop skips-container.timer")?;
    let (begun, ended) = (said("skips", "begun")?, said("skips", "ended")?);
    assert!(ended >= 1 && begun <= ended + 1, "no run was broken off: {begun} begun, {ended} ended");
    machine.sh("systemctl stop skips-container")?;

    declare(machine, "restarts", &file("restart", "2s"))?;
    machine.sh("systemctl start restarts-container.timer")?;
    until(machine, "(( $(journalctl -q -o cat SYSLOG_IDENTIFIER=restarts | grep -c ^begun) >= 3 ))")?;
    machine.sh("systemctl stop restarts-container.timer restarts-container")?;
    assert_eq!(said("restarts", "ended")?, 0, "each run was stopped for the next");

    // A reload is no time: nothing starts, and the next time stays as it was.
    declare(machine, "hourly", &file("restart", "1h"))?;
    machine.sh("systemctl start hourly-container.timer")?;
    until(machine, "journalctl -q -o cat SYSLOG_IDENTIFIER=hourly | grep -q ^begun")?;
    let next = || machine.sh("systemctl show -P NextElapseUSecMonotonic hourly-container.timer");
    let before = next()?;
    assert!(!["", "infinity"].contains(&before.as_str()), "{before}");
    machine.sh("systemctl daemon-reload; systemctl daemon-reload")?;
    until(machine, "journalctl -q -o cat SYSLOG_IDENTIFIER=hourly | grep -q ^ended")?;
    machine.sh("systemctl daemon-reload")?;
    machine.let_pass(Duration::from_secs(1));
    assert_eq!((said("hourly", "begun")?, said("hourly", "ended")?, next()?), (1, 1, before));
    machine.sh("systemctl stop hourly-container.timer")?;
    forget(machine, &["skips", "restarts", "hourly"])?;
    Ok(())
}
