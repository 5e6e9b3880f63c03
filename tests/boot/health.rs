//! `[health]`: checks of every kind, what follows when they fail, and when a start is done.

use std::fs::File;
use std::io::Read;

use sha2::{Digest, Sha256};

use super::containers::{
    DEBIAN, Image, NGINX, POSTGRESQL, declare, feed, forget, import, log, open, property, until, with,
};
use super::machine::{Context, Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "health is checked by a command, a page or a port", on: On::FastThenFull, tell: kinds },
    Story { name: "health is checked as the image says", on: On::Fast, tell: of_image },
    Story {
        name: "what is unhealthy is stopped in order and restarted",
        on: On::FastThenFull,
        tell: restarted,
    },
    Story { name: "what is unhealthy stays stopped where asked", on: On::Fast, tell: stopped },
    Story { name: "health changes are one line each, checks none", on: On::Fast, tell: only_said },
    Story { name: "a check that hangs is killed with all it started", on: On::Fast, tell: hangs },
    Story { name: "a start waits for the first good check", on: On::FastThenFull, tell: ready },
    Story { name: "an init that is stuck is restarted by the watchdog", on: On::Fast, tell: stuck },
    Story {
        name: "PostgreSQL is ready by its health, and restarted when it hangs",
        on: On::FastThenFull,
        tell: database,
    },
    Story { name: "Debian 12's systemd goes by health, too", on: On::Fast, tell: older },
    Story { name: "health leaves the program's own end alone", on: On::Fast, tell: ends },
];

/// A container whose folder /state is the host's /srv/health, and that isn't started at boot.
fn file(script: &str, more: &str) -> String {
    format!(
        "image = 'debian:13'\nnetwork = 'none'\nautostart = false\nmounts.'/state' = {{ bind = '/srv/health' }}\n\
         command = ['/bin/bash', '-c', '''{script}''']\n{more}"
    )
}

/// Stays until it is told to end, by SIGUSR1, and says so. It can be told so once there is a file; see [`stays`].
const STAYS: &str = "trap 'echo stopped in order; exit 0' USR1; touch /state/up; sleep infinity & wait";

/// The same, which is well once it has ended: what is started next is so from its first check on.
const RECOVERS: &str =
    "trap 'rm -f /state/bad; echo stopped in order; exit 0' USR1; touch /state/up; sleep infinity & wait";

/// Waits until a program can be told to end, which may come later than its first good check.
fn stays(machine: &Machine) -> Result<()> {
    until(machine, "test -e /srv/health/up")
}

/// Its check fails while there is a file.
const GOOD: &str = "command = 'echo a check >>/state/checks; echo so far; if test -e /state/bad; then echo it is bad; exit 1; fi; echo it is good'\n";

fn begin<'stage>(stage: &'stage mut Stage, images: &[&Image]) -> Result<&'stage mut Machine> {
    let machine = with(stage, images)?;
    machine.sh("rm -rf /srv/health; mkdir /srv/health")?;
    Ok(machine)
}

fn is(machine: &Machine, name: &str, health: &str) -> Result<()> {
    until(
        machine,
        &format!(
            "wharf ps --json | tr -d ' \\n' | grep -q '\"name\":\"{name}\"[^}}]*\"health\":\"{health}\"'"
        ),
    )
}

/// What the small init has told the journal since the unit was last started by hand: its lines and the program's are
/// told apart by the process.
fn told(machine: &Machine, name: &str) -> Result<Vec<String>> {
    let lines = machine.sh(&format!(
        "journalctl --sync; journalctl -q --no-pager -o cat --cursor-file=/tmp/health SYSLOG_IDENTIFIER={name} _COMM=wharf-init"
    ))?;
    Ok(lines.lines().map(str::to_owned).collect())
}

fn mark(machine: &Machine) -> Result<()> {
    machine.sh("rm -f /tmp/health; journalctl --sync; journalctl -q -n 1 --cursor-file=/tmp/health").map(drop)
}

fn kinds(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&DEBIAN, &NGINX])?;
    let health = "user = 'daemon'\nenvironment.WHO = 'me'\nworking-directory = '/tmp'\n\
        [health]\ncommand = ['/bin/sh', '-c', 'echo $(id -un) $WHO $PWD $(tail -n 1 /proc/self/cgroup) $(ls /proc/self/fd)']\ninterval = '1s'\n";
    declare(machine, "one", &file("trap exit TERM; sleep infinity & wait", health))?;
    machine.sh("systemctl start one-container")?;
    is(machine, "one", "healthy")?;
    // The user, the environment, the folder and the cgroup are the program's; 3 is ls's own.
    assert_eq!(
        property(machine, "one", "StatusText")?,
        "Health: healthy: daemon me /tmp 0::/payload 0 1 2 3"
    );
    let table = machine.sh("wharf ps")?;
    assert!(table.lines().any(|line| line.starts_with("one ") && line.contains(" healthy ")), "{table}");
    let page = "image = 'nginx:1.26'\nnetwork = 'none'\nautostart = false\n";
    declare(machine, "page", &format!("{page}[health]\nhttp = 'http://localhost:8080/'\ninterval = '1s'\n"))?;
    declare(machine, "port", &format!("{page}[health]\ntcp = '127.0.0.1:8080'\ninterval = '1s'\n"))?;
    declare(
        machine,
        "gone",
        &format!(
            "{page}[health]\nhttp = 'http://localhost:8080/gone'\ninterval = '100ms'\nretries = 1\non-failure = 'none'\n"
        ),
    )?;
    machine.sh("systemctl start page-container port-container gone-container")?;
    for (name, health, status) in [
        ("page", "healthy", "Health: healthy: HTTP 200 OK"),
        ("port", "healthy", "Health: healthy: 127.0.0.1:8080 takes connections"),
        ("gone", "unhealthy", "Health: unhealthy: HTTP 404 Not Found"),
    ] {
        is(machine, name, health)?;
        assert_eq!(property(machine, name, "StatusText")?, status);
    }
    // A check is seen by nginx as what it is.
    let status = machine.sh("systemctl status --no-pager page-container")?;
    assert!(status.contains("Status: \"Health: healthy: HTTP 200 OK\""), "{status}");
    assert_eq!(machine.sh("systemctl list-timers --all --no-legend '*container*' | wc -l")?, "0");
    forget(machine, &["one", "page", "port", "gone"])?;
    Ok(())
}

/// An archive as `docker save` writes it, of Debian's root with a check.
pub fn archive(healthcheck: &str) -> Result<File> {
    let mut layer = open(&Recipe::debian_image())?;
    let (mut hash, mut part) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match layer.read(&mut part).context(|| "read the layer")? {
            0 => break,
            size => hash.update(&part[..size]),
        }
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Cmd":["/bin/bash","-c","trap exit TERM; sleep infinity & wait"],"Healthcheck":{healthcheck}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#,
        wharf::image::machine_architecture()
    );
    let manifest = r#"[{"Config":"config.json","RepoTags":["checked:1"],"Layers":["layer.tar"]}]"#;
    let mut builder = tar::Builder::new(tempfile::tempfile().context(|| "make a file")?);
    let mut add = |name: &str, size: u64, content: &mut dyn Read| -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, name, content).context(|| "write the archive")
    };
    add("manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
    add("config.json", config.len() as u64, &mut config.as_bytes())?;
    let mut layer = open(&Recipe::debian_image())?;
    let size = layer.metadata().context(|| "look at the layer")?.len();
    add("layer.tar", size, &mut layer)?;
    let mut file = builder.into_inner().context(|| "end the archive")?;
    std::io::Seek::rewind(&mut file).context(|| "rewind the archive")?;
    Ok(file)
}

fn of_image(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&DEBIAN])?;
    let check = r#"{"Test":["CMD-SHELL","echo the image is fine"],"Interval":1000000000,"Retries":2}"#;
    feed(machine, "wharf image import -", archive(check)?)?;
    let text =
        "image = 'checked:1'\nnetwork = 'none'\nautostart = false\nready = 'healthy'\nhealth.image = true\n";
    declare(machine, "own", text)?;
    machine.sh("systemctl start own-container")?;
    assert_eq!(property(machine, "own", "StatusText")?, "Health: healthy: the image is fine");
    // Of an interval of 1 s, a timeout of 30 s and two retries, which the unit couldn't know.
    assert_eq!(property(machine, "own", "WatchdogUSec")?, "1min 33s");
    forget(machine, &["own"])?;
    // Both before a check has come to an end: how long systemd is to wait for a word and, of a start that waits for a
    // check, how long for that. The unit says 3 s, of which the file knows nothing.
    let slow = r#"{"Test":["CMD-SHELL","exec sleep 1002"],"Interval":1000000000,"Retries":2,"StartPeriod":300000000000}"#;
    feed(machine, "wharf image import -", archive(slow)?)?;
    declare(machine, "early", &text.replace("ready = 'healthy'\n", ""))?;
    let folder = "/run/systemd/system/own-container.service.d";
    machine.sh(&format!("mkdir -p {folder}; printf '[Service]\\nTimeoutStartSec=3s\\n' >{folder}/x.conf"))?;
    declare(machine, "own", text)?;
    machine.sh("systemctl start --no-block own-container; systemctl start early-container")?;
    until(machine, "[[ $(systemctl show -P WatchdogUSec early-container) == '1min 33s' ]]")?;
    assert_eq!(property(machine, "early", "StatusText")?, "Health: starting, not checked yet");
    machine.let_pass(std::time::Duration::from_secs(4));
    assert_eq!(property(machine, "own", "SubState")?, "start");
    assert_eq!(property(machine, "own", "NRestarts")?, "0", "its time isn't over");
    machine.sh(&format!("rm -r {folder}"))?;
    forget(machine, &["own", "early"])?;
    // An image without one.
    declare(machine, "own", &text.replace("checked:1", "debian:13"))?;
    assert_ne!(machine.run("systemctl start own-container")?.code, 0);
    let said = property(machine, "own", "StatusText")?;
    assert!(said.contains("the image has no HEALTHCHECK to use") && said.contains("own.toml"), "{said}");
    forget(machine, &["own"])?;
    machine.sh("wharf image remove checked:1")?;
    Ok(())
}

fn restarted(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&DEBIAN])?;
    let health =
        "stop.signal = 'SIGUSR1'\nrestart = 'on-failure'\n[health]\ninterval = '500ms'\nretries = 2\n";
    declare(machine, "sick", &file(RECOVERS, &format!("{health}{GOOD}timeout = '5s'\n")))?;
    mark(machine)?;
    machine.sh("systemctl start sick-container")?;
    is(machine, "sick", "healthy")?;
    stays(machine)?;
    machine.sh("touch /srv/health/bad")?;
    until(machine, "[[ $(systemctl show -P NRestarts sick-container) == 1 ]]")?;
    is(machine, "sick", "healthy")?;
    assert_eq!(
        told(machine, "sick")?,
        [
            "healthy: it is good",
            "unhealthy, 2 checks in a row failed, the last one: it is bad",
            "healthy: it is good"
        ],
        "one line for each change"
    );
    let said = machine.sh("journalctl -q -b -o cat -u sick-container")?;
    assert_eq!(said.lines().filter(|line| *line == "stopped in order").count(), 1, "{said}");
    let request = "Watchdog request (last status: Health: unhealthy, so systemd stops it: it is bad)!";
    assert_eq!(said.lines().filter(|line| line.contains(request)).count(), 1, "{said}");
    assert!(said.contains("Failed with result 'watchdog'"), "{said}");
    forget(machine, &["sick"])?;
    Ok(())
}

fn stopped(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&DEBIAN])?;
    let health = format!(
        "stop = {{ signal = 'SIGUSR1', timeout = '5s' }}\n[health]\ninterval = '300ms'\nretries = 2\non-failure = 'stop'\n{GOOD}"
    );
    // One that ends when it is asked to, and one that doesn't.
    declare(machine, "yields", &file(STAYS, &health))?;
    declare(machine, "deaf", &file("trap '' USR1; sleep infinity & wait; sleep infinity", &health))?;
    machine.sh("systemctl start yields-container deaf-container")?;
    is(machine, "yields", "healthy")?;
    is(machine, "deaf", "healthy")?;
    stays(machine)?;
    mark(machine)?;
    machine.sh("touch /srv/health/bad")?;
    for name in ["yields", "deaf"] {
        until(machine, &format!("systemctl is-failed -q {name}-container"))?;
        assert_eq!(property(machine, name, "Result")?, "exit-code", "{name}");
        assert_eq!(property(machine, name, "ExecMainStatus")?, "193", "{name}");
        assert_eq!(property(machine, name, "StatusText")?, "Health: unhealthy, so it is stopped: it is bad");
        assert_eq!(property(machine, name, "NRestarts")?, "0");
    }
    // Of a line that journald comes to after the unit's end it knows the unit, and not which run it was.
    let said = machine.sh("journalctl --sync; journalctl -q -b -o cat -u yields-container")?;
    assert_eq!(said.lines().filter(|line| *line == "stopped in order").count(), 1, "{said}");
    assert_eq!(told(machine, "yields")?, ["unhealthy, 2 checks in a row failed, the last one: it is bad"]);
    // Longer than any delay before a restart.
    machine.let_pass(std::time::Duration::from_secs(3));
    assert_eq!(property(machine, "yields", "ActiveState")?, "failed");
    // Somebody starts it again.
    machine.sh("rm /srv/health/bad; systemctl start yields-container")?;
    is(machine, "yields", "healthy")?;
    forget(machine, &["yields", "deaf"])?;
    Ok(())
}

fn only_said(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&DEBIAN])?;
    let health = format!("[health]\ninterval = '100ms'\nretries = 3\non-failure = 'none'\n{GOOD}");
    declare(machine, "said", &file("trap exit TERM; sleep infinity & wait", &health))?;
    mark(machine)?;
    machine.sh("systemctl start said-container")?;
    is(machine, "said", "healthy")?;
    let main = property(machine, "said", "MainPID")?;
    let checks = |more: u32| until(machine, &format!("[[ $(wc -l </srv/health/checks) -ge {more} ]]"));
    checks(50)?;
    // Nothing is left over from all these, and between two there is the init, the program and its sleep.
    until(
        machine,
        "(( $(wc -l <\"/sys/fs/cgroup$(systemctl show -P ControlGroup said-container)/payload/cgroup.procs\") == 3 ))",
    )?;
    // The init holds its streams, its signals and the ways to systemd and the journal, and no lock of the store's.
    // During a check there is more.
    until(machine, &format!("[[ $(ls /proc/{main}/fd | wc -w) == 6 ]]"))?;
    machine.sh("timeout 20 flock -x /var/lib/wharf/usage true")?;
    machine.sh("touch /srv/health/bad")?;
    is(machine, "said", "unhealthy")?;
    let so_far: u32 = machine.sh("wc -l </srv/health/checks")?.parse()?;
    checks(so_far + 20)?;
    machine.sh("rm /srv/health/bad")?;
    is(machine, "said", "healthy")?;
    let so_far: u32 = machine.sh("wc -l </srv/health/checks")?.parse()?;
    checks(so_far + 20)?;
    assert_eq!(
        told(machine, "said")?,
        [
            "healthy: it is good",
            "unhealthy, 3 checks in a row failed, the last one: it is bad",
            "healthy again: it is good"
        ]
    );
    assert_eq!(log(machine, "said")?.lines().count(), 3, "what a check says goes nowhere else");
    assert_eq!(property(machine, "said", "MainPID")?, main);
    assert_eq!(property(machine, "said", "NRestarts")?, "0");
    forget(machine, &["said"])?;
    Ok(())
}

fn hangs(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&DEBIAN])?;
    let check = "echo x >>/state/checks; echo asking; trap \"\" TERM; sleep 1001 & sleep 1001; wait";
    let health = format!(
        "[health]\ncommand = '{check}'\ninterval = '200ms'\ntimeout = '500ms'\nretries = 2\non-failure = 'none'\n"
    );
    declare(machine, "hung", &file("trap exit TERM; sleep infinity & wait", &health))?;
    mark(machine)?;
    machine.sh("systemctl start hung-container")?;
    is(machine, "hung", "unhealthy")?;
    until(machine, "[[ $(wc -l </srv/health/checks) -ge 8 ]]")?;
    let left: u32 = machine.sh("pgrep -cf '^sleep 1001' || :")?.parse()?;
    assert!(left <= 2, "{left} of them, where one check has two at most");
    let line = "no result within 500ms, and last it said: asking";
    assert_eq!(property(machine, "hung", "StatusText")?, format!("Health: unhealthy: {line}"));
    assert_eq!(
        told(machine, "hung")?,
        [format!("unhealthy, 2 checks in a row failed, the last one: {line}")]
    );
    // A check on its way holds nothing up.
    machine.sh("timeout 5 systemctl stop hung-container")?;
    assert_eq!(property(machine, "hung", "Result")?, "success");
    assert_eq!(machine.sh("pgrep -cf '^sleep 1001' || :")?, "0");
    forget(machine, &["hung"])?;
    Ok(())
}

fn ready(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&DEBIAN])?;
    let health = "ready = 'healthy'\n[health]\ncommand = ['test', '-e', '/state/up']\ninterval = '30s'\n";
    declare(
        machine,
        "first",
        &file(
            "trap exit TERM; until test -e /state/go; do sleep .1; done; touch /state/up; sleep infinity & wait",
            health,
        ),
    )?;
    let second = "[systemd.Unit]\nWants = 'first-container.service'\nAfter = 'first-container.service'\n";
    declare(
        machine,
        "second",
        &file("test -e /state/up && echo it was up; trap exit TERM; sleep infinity & wait", second),
    )?;
    machine.sh("systemctl start --no-block second-container")?;
    is(machine, "first", "starting")?;
    until(
        machine,
        "[[ $(systemctl show -P StatusText first-container) == *'no check has passed yet: exit status 1' ]]",
    )?;
    assert_eq!(property(machine, "first", "ActiveState")?, "activating");
    assert_eq!(property(machine, "second", "ActiveState")?, "inactive");
    // Found soon, whatever the interval is.
    machine.sh("touch /srv/health/go")?;
    until(machine, "systemctl is-active -q second-container")?;
    assert_eq!(log(machine, "second")?, "it was up");
    is(machine, "first", "healthy")?;
    let took: i64 = machine
        .sh("echo $(( $(date -d \"$(systemctl show -P ActiveEnterTimestamp first-container)\" +%s) - $(stat -c %Y /srv/health/up) ))")?
        .parse()?;
    assert!(took < 15, "ready {took} s after it was up");
    machine.sh("systemctl stop first-container second-container")?;
    // One that never is.
    declare(
        machine,
        "never",
        &file(
            "trap exit TERM; sleep infinity & wait",
            "restart = 'no'\nready = 'healthy'\n[health]\ncommand = 'echo no page yet; exit 1'\n[systemd.Service]\nTimeoutStartSec = '3s'\n",
        ),
    )?;
    assert_ne!(machine.run("systemctl start never-container")?.code, 0);
    assert_eq!(property(machine, "never", "Result")?, "timeout");
    assert_eq!(
        property(machine, "never", "StatusText")?,
        "Not ready in its time: Health: starting, no check has passed yet: no page yet"
    );
    assert_ne!(machine.run("test -e /run/wharf/last-good/never.json")?.code, 0, "its plan has not worked");
    // What is stopped while it starts has the image's signal, too.
    let layer = open(&Recipe::debian_image())?;
    feed(machine, "wharf image import --name asks:1 --stop-signal SIGUSR1 -", layer)?;
    let asks = file(STAYS, "ready = 'healthy'\n[health]\ncommand = ['false']\n");
    declare(machine, "never", &asks.replace("debian:13", "asks:1"))?;
    machine.sh("systemctl start --no-block never-container")?;
    is(machine, "never", "starting")?;
    stays(machine)?;
    machine.sh("systemctl stop never-container")?;
    let said = machine.sh("journalctl --sync; journalctl -q -b -o cat SYSLOG_IDENTIFIER=never")?;
    assert!(said.contains("stopped in order"), "{said}");
    forget(machine, &["first", "second", "never"])?;
    machine.sh("wharf image remove asks:1").map(drop)?;
    Ok(())
}

fn stuck(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&DEBIAN])?;
    let health = "stop.signal = 'SIGUSR1'\n[health]\ncommand = ['true']\ninterval = '1s'\ntimeout = '1s'\nretries = 1\n";
    declare(machine, "stuck", &file(STAYS, health))?;
    machine.sh("systemctl start stuck-container")?;
    is(machine, "stuck", "healthy")?;
    assert_eq!(property(machine, "stuck", "WatchdogUSec")?, "10s");
    // Longer than the watchdog's patience, in which nothing is wrong.
    machine.let_pass(std::time::Duration::from_secs(12));
    assert_eq!(property(machine, "stuck", "NRestarts")?, "0");
    machine.sh("kill -STOP $(systemctl show -P MainPID stuck-container)")?;
    until(machine, "[[ $(systemctl show -P NRestarts stuck-container) == 1 ]]")?;
    is(machine, "stuck", "healthy")?;
    let said = machine.sh("journalctl --sync; journalctl -q -b -o cat -u stuck-container")?;
    assert!(said.contains("Watchdog timeout (limit 10s)!"), "{said}");
    assert!(said.contains("stopped in order"), "{said}");
    forget(machine, &["stuck"])?;
    Ok(())
}

fn database(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&POSTGRESQL])?;
    let text = "image = 'postgresql:17'\nnetwork = 'none'\nautostart = false\nready = 'healthy'\nstop.timeout = '3s'\n\
        mounts.'/data' = { volume = 'checked' }\n\
        [health]\ncommand = ['pg_isready', '-h', '127.0.0.1', '-t', '1']\ninterval = '1s'\ntimeout = '20s'\nretries = 2\n";
    declare(machine, "pg", text)?;
    machine.sh("systemctl start pg-container")?;
    // Ready means just that; its first start has made a database before.
    let ask = |sql: &str| {
        format!(
            "wharf exec pg /bin/sh -c 'exec /usr/lib/postgresql/*/bin/psql -h 127.0.0.1 -U postgres -qAtc \"$0\"' \"{sql}\""
        )
    };
    machine.sh(&ask("create table kept as select 42"))?;
    assert_eq!(
        property(machine, "pg", "StatusText")?,
        "Health: healthy: 127.0.0.1:5432 - accepting connections"
    );
    assert_eq!(machine.run("test -e /run/wharf/last-good/pg.json")?.code, 0, "its plan has worked");
    mark(machine)?;
    machine.sh("kill -STOP $(grep -hv \"^$(systemctl show -P MainPID pg-container)$\" /sys/fs/cgroup$(systemctl show -P ControlGroup pg-container)/payload/cgroup.procs)")?;
    until(
        machine,
        "[[ $(systemctl show -P NRestarts pg-container) == 1 ]] && systemctl is-active -q pg-container",
    )?;
    assert_eq!(machine.sh(&ask("table kept"))?, "42");
    let told = told(machine, "pg")?;
    assert_eq!(
        told,
        [
            "unhealthy, 2 checks in a row failed, the last one: 127.0.0.1:5432 - no response",
            "healthy: 127.0.0.1:5432 - accepting connections"
        ]
    );
    machine.sh("timeout 10 systemctl stop pg-container")?;
    assert_eq!(property(machine, "pg", "Result")?, "success");
    forget(machine, &["pg"])?;
    machine.sh("rm -r /var/lib/wharf/volumes/checked")?;
    Ok(())
}

fn older(stage: &mut Stage) -> Told {
    let machine = &Machine::boot(stage.kind(), &Recipe::older())?;
    assert!(machine.sh("systemctl --version")?.starts_with("systemd 252 "));
    install_wharf(machine)?;
    import(machine, &DEBIAN)?;
    machine.sh("mkdir /srv/health")?;
    let health = format!(
        "ready = 'healthy'\nstop.signal = 'SIGUSR1'\n[health]\ninterval = '500ms'\nretries = 2\n{GOOD}"
    );
    declare(machine, "sick", &file(RECOVERS, &health))?;
    machine.sh("systemctl start sick-container")?;
    is(machine, "sick", "healthy")?;
    stays(machine)?;
    machine.sh("touch /srv/health/bad")?;
    until(machine, "[[ $(systemctl show -P NRestarts sick-container) == 1 ]]")?;
    is(machine, "sick", "healthy")?;
    let said = machine.sh("journalctl --sync; journalctl -q -b -o cat -u sick-container")?;
    assert!(said.contains("stopped in order") && said.contains("Failed with result 'watchdog'"), "{said}");
    let stops = health.replace("interval", "on-failure = 'stop'\ninterval");
    declare(machine, "sick", &file(STAYS, &stops))?;
    machine.sh("systemctl restart sick-container; touch /srv/health/bad")?;
    until(machine, "systemctl is-failed -q sick-container")?;
    assert_eq!(property(machine, "sick", "ExecMainStatus")?, "193");
    assert_eq!(property(machine, "sick", "StatusText")?, "Health: unhealthy, so it is stopped: it is bad");
    let unknown = machine.sh("journalctl -b -q --no-pager | grep -c 'Unknown key' || :")?;
    assert_eq!(unknown, "0");
    Ok(())
}

fn ends(stage: &mut Stage) -> Told {
    let machine = begin(stage, &[&DEBIAN])?;
    let health = "restart = 'no'\n[health]\ncommand = ['true']\ninterval = '200ms'\n";
    declare(machine, "over", &file("until test -e /state/over; do sleep .1; done; exit 7", health))?;
    machine.sh("systemctl start over-container")?;
    is(machine, "over", "healthy")?;
    machine.sh("touch /srv/health/over")?;
    until(machine, "systemctl is-failed -q over-container")?;
    assert_eq!(property(machine, "over", "ExecMainStatus")?, "7");
    // It is healthy no longer.
    assert_eq!(property(machine, "over", "StatusText")?, "Its program ended with status 7");
    // A stop that takes longer than the check has retries for is no matter of health.
    let slow = "trap 'touch /state/ending; sleep 3; echo slowly; exit 0' TERM; touch /state/well; sleep infinity & wait";
    let check = "[health]\ncommand = 'test -e /state/well'\ninterval = '200ms'\nretries = 1\n";
    declare(machine, "slow", &file(slow, check))?;
    mark(machine)?;
    machine.sh("systemctl start slow-container")?;
    is(machine, "slow", "healthy")?;
    machine.sh("systemctl stop --no-block slow-container")?;
    until(machine, "test -e /srv/health/ending")?;
    machine.sh("rm /srv/health/well")?;
    until(machine, "[[ $(systemctl show -P ActiveState slow-container) == inactive ]]")?;
    assert_eq!(property(machine, "slow", "Result")?, "success");
    assert_eq!(told(machine, "slow")?, ["healthy"]);
    forget(machine, &["over", "slow"])?;
    Ok(())
}
