//! What ends is started again, later each time; and says why it has ended.

use super::containers::{DEBIAN, declare, feed, forget, import, open, property, until, with};
use super::machine::{Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "restarts come later each time, and begin anew", on: On::FastIfAll, tell: delays },
    Story { name: "what fails says why in its last words", on: On::Fast, tell: last_words },
    Story { name: "what is stopped is asked as it understands", on: On::Fast, tell: stops },
    Story { name: "what has lost its file ends as it was to", on: On::Fast, tell: fileless },
    Story { name: "Debian 12's systemd restarts later each time, too", on: On::FastIfAll, tell: older },
];

/// Writes down when it was started, and ends at once unless it is told to stay. Its longer delays are longer than its
/// start may take.
const ENDS: &str = "image = 'debian:13'\nnetwork = 'none'\nautostart = false\n\
    systemd.Service.TimeoutStartSec = '5s'\n\
    mounts.'/state' = { bind = '/srv/restarts' }\n\
    command = ['/bin/bash', '-c', 'echo $EPOCHREALTIME >>/state/starts; test -e /state/stays || exit 3; trap exit TERM; sleep infinity & wait']\n";

/// When it was started, in seconds.
fn starts(machine: &Machine) -> Result<Vec<f64>> {
    let text = machine.sh("cat /srv/restarts/starts")?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

fn until_started(machine: &Machine, times: usize) -> Result<()> {
    until(machine, &format!("[[ $(wc -l </srv/restarts/starts) -ge {times} ]]"))
}

/// How long a line takes that has to succeed, in seconds.
fn time(machine: &Machine, line: &str) -> Result<f64> {
    let text = machine.sh(&format!("begun=$EPOCHREALTIME; {line}; echo \"$begun $EPOCHREALTIME\""))?;
    let numbers: Vec<f64> =
        text.lines().last().unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
    Ok(numbers[1] - numbers[0])
}

/// Lets it end so often that it waits for more than six seconds, and sees that it says so.
fn begin_to_wait(machine: &Machine, name: &str) -> Result<()> {
    machine.sh(&format!(
        "rm -f /srv/restarts/stays; : >/srv/restarts/starts; systemctl start {name}-container || :"
    ))?;
    until_started(machine, 6)?;
    until(machine, &format!("[[ $(systemctl show -P StatusText {name}-container) == Waits* ]]"))?;
    let status = property(machine, name, "StatusText")?;
    assert!(
        status.starts_with("Waits 6.2 s before it starts: it has ended soon, 6 times in a row"),
        "{status}"
    );
    assert_eq!(property(machine, name, "ActiveState")?, "activating");
    Ok(())
}

fn growing(machine: &Machine) -> Result<()> {
    machine.sh("mkdir -p /srv/restarts")?;
    declare(machine, "ends", ENDS)?;
    begin_to_wait(machine, "ends")?;
    let table = machine.sh("wharf ps")?;
    let line = table.lines().find(|line| line.starts_with("ends ")).unwrap_or_default();
    assert!(line.contains("activating") && line.contains("Waits 6.2 s before it starts"), "{table}");
    until_started(machine, 7)?;
    let starts = starts(machine)?;
    let delays: Vec<f64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("  restarts came after {delays:.2?} s");
    for (number, delay) in delays.iter().take(6).enumerate() {
        let least = 0.2 * f64::from(1 << number);
        // It takes a moment to start.
        assert!(*delay >= least && *delay < least + 2.5, "restart {}: {delays:?}", number + 1);
    }

    // A stop ends the wait, and what somebody starts doesn't wait.
    machine.sh("systemctl stop ends-container")?;
    begin_to_wait(machine, "ends")?;
    assert!(time(machine, "systemctl stop ends-container")? < 3.0, "the stop has waited");
    assert_eq!(property(machine, "ends", "ActiveState")?, "inactive");
    assert_eq!(property(machine, "ends", "Result")?, "success");
    machine.sh("touch /srv/restarts/stays")?;
    assert!(time(machine, "systemctl start ends-container")? < 3.0, "the start has waited");
    machine.sh("systemctl stop ends-container")?;
    begin_to_wait(machine, "ends")?;
    machine.sh("touch /srv/restarts/stays")?;
    assert!(time(machine, "systemctl restart ends-container")? < 3.0, "the restart has waited");
    machine.sh("systemctl stop ends-container")?;
    // Nor does what was stopped between its end and its restart, of which not every systemd forgets the count.
    begin_to_wait(machine, "ends")?;
    machine.sh(
        "until [[ $(systemctl show -P SubState ends-container) == auto-restart ]]; do :; done; systemctl stop ends-container; \
         touch /srv/restarts/stays",
    )?;
    assert!(time(machine, "systemctl start ends-container")? < 3.0, "the start has waited");
    machine.sh("systemctl stop ends-container")?;

    // So does one by a signal that ends no process by itself.
    declare(machine, "ends", &format!("{ENDS}[stop]\nsignal = 'SIGWINCH'\ntimeout = '20s'\n"))?;
    begin_to_wait(machine, "ends")?;
    assert!(time(machine, "systemctl stop ends-container")? < 3.0, "the stop has waited");
    declare(machine, "ends", ENDS)?;

    // Up for long enough it begins anew: as if this start had been eleven minutes ago.
    begin_to_wait(machine, "ends")?;
    machine.sh("touch /srv/restarts/stays")?;
    until(machine, "[[ $(systemctl is-active ends-container) == active ]]")?;
    assert_eq!(property(machine, "ends", "StatusText")?, "");
    machine
        .sh("cd /run/wharf/restarts; perl -pe 's/\"at\":(\\d+)/q(\"at\":).($1 - 660000)/e' -i ends.json; \
         : >/srv/restarts/starts; rm /srv/restarts/stays")?;
    assert!(
        time(
            machine,
            "systemctl kill --signal=KILL ends-container; until [[ $(wc -l </srv/restarts/starts) -ge 2 ]]; do sleep .05; done"
        )? < 4.0,
        "it goes on where it was"
    );
    // After a reset too.
    until_started(machine, 6)?;
    machine.sh("systemctl reset-failed ends-container; : >/srv/restarts/starts")?;
    until_started(machine, 3)?;
    let starts = self::starts(machine)?;
    assert!(starts[2] - starts[1] < 3.0, "{starts:?}");

    // Who has written a delay has that one.
    declare(machine, "ends", &format!("{ENDS}systemd.Service.RestartSec = '100ms'\n"))?;
    machine
        .sh("systemctl stop ends-container; : >/srv/restarts/starts; systemctl start ends-container || :")?;
    assert!(
        time(machine, "until [[ $(wc -l </srv/restarts/starts) -ge 8 ]]; do sleep .05; done")? < 10.0,
        "it has a delay of its own"
    );
    forget(machine, &["ends"])?;
    machine.sh("rm -r /srv/restarts").map(drop)
}

/// A container, and what is said of its end: in `systemctl status`, and how its line in the journal ends.
struct Case {
    name: &'static str,
    file: &'static str,
    status: &'static str,
    line: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "exits",
        file: "command = ['/bin/sh', '-c', 'exit 3']",
        status: "Its program ended with status 3",
        line: "exits: its program ended with status 3",
    },
    Case {
        name: "faults",
        file: "command = ['/usr/bin/perl', '-e', 'unpack(q(p), pack(q(J), 1))']\nsystemd.Service.LimitCORE = 0",
        status: "Its program was killed by SIGSEGV",
        line: "faults: its program was killed by SIGSEGV",
    },
    Case {
        name: "faults-init",
        file: "init = true\ncommand = ['/usr/bin/perl', '-e', 'unpack(q(p), pack(q(J), 1))']\nsystemd.Service.LimitCORE = 0",
        status: "Its program ended with status 139, as if killed by SIGSEGV",
        line: "faults-init: its program ended with status 139, as if killed by SIGSEGV",
    },
    Case {
        name: "step",
        file: "command = ['/usr/sbin/nginx']",
        status: "Can't start: the program /usr/sbin/nginx is not in the image",
        line: "step: that was the step: run [\"/usr/sbin/nginx\"]",
    },
    Case {
        name: "sick",
        file: "command = ['/bin/bash', '-c', 'trap exit TERM; sleep infinity & wait']\n[health]\n\
               command = ['/bin/sh', '-c', 'echo it is bad; exit 1']\ninterval = '100ms'\nretries = 2\non-failure = 'stop'",
        status: "Health: unhealthy, so it is stopped: it is bad",
        line: "unhealthy, 2 checks in a row failed, the last one: it is bad",
    },
    Case {
        name: "late",
        file: "ready = 'healthy'\ncommand = ['/bin/bash', '-c', 'trap exit TERM; sleep infinity & wait']\n\
               systemd.Service.TimeoutStartSec = '2s'\n[health]\ntcp = '127.0.0.1:80'\ninterval = '100ms'",
        status: "Not ready in its time: Health: starting, no check has passed yet: 127.0.0.1:80: Connection refused (os error 111)",
        line: "and so does health.start-period, in /etc/wharf/containers/late.toml",
    },
    Case {
        name: "silent",
        file: "ready = 'notify'\ncommand = ['/bin/bash', '-c', 'trap exit TERM; sleep infinity & wait']\n\
               systemd.Service.TimeoutStartSec = '2s'",
        status: "Not ready in its time: its program has not said READY=1",
        line: "TimeoutStartSec= of [systemd.Service] gives it more, in /etc/wharf/containers/silent.toml",
    },
    Case {
        name: "early",
        file: "ready = 'notify'\ncommand = ['/bin/true']",
        status: "Its program has ended before it was ready",
        line: "early: its program has ended before it was ready",
    },
    Case {
        name: "long",
        file: "runtime = '1s'\ncommand = ['/bin/bash', '-c', 'trap exit TERM; sleep infinity & wait']",
        status: "It ran longer than its runtime of 1s, so it was stopped",
        line: "long: it ran longer than its runtime of 1s, so it was stopped",
    },
    Case {
        name: "hangs",
        file: "ready = 'notify'\nnotify-access = 'all'\ncommand = ['/usr/bin/perl', '-MIO::Socket::UNIX', '-e', '\
               my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET}) or die; \
               $s->send(\"READY=1\\n\"); sleep 100']\nsystemd.Service.WatchdogSec = '1s'",
        status: "Nothing came from it for as long as WatchdogSec= says, so it was killed",
        line: "hangs: nothing came from it for as long as WatchdogSec= says, so it was killed",
    },
];

fn ends(machine: &Machine) -> Result<()> {
    let mut wrong = Vec::new();
    for Case { name, file, status, line } in CASES {
        // Keys of the file itself come before its tables.
        let text =
            format!("image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\nautostart = false\n{file}\n");
        declare(machine, name, &text)?;
        machine.run(&format!("systemctl start {name}-container"))?;
        until(machine, &format!("systemctl is-failed -q {name}-container"))?;
        let said = property(machine, name, "StatusText")?;
        if said != *status {
            wrong.push(format!("{name}: its status is {said:?}, not {status:?}"));
        }
        // Not by the invocation, which systemd may have forgotten by the time that the journal asks for it.
        let said = machine
            .sh(&format!("journalctl --sync; journalctl -b -q --no-pager -o cat SYSLOG_IDENTIFIER={name}"))?;
        if !said.lines().any(|said| said.ends_with(line)) {
            wrong.push(format!("{name}: the journal has {said:?}, and not {line:?}"));
        }
        let table = machine.sh("wharf ps")?;
        let row = table.lines().find(|row| row.starts_with(&format!("{name} "))).unwrap_or_default();
        if !row.ends_with(status) || !row.contains("failed (") {
            wrong.push(format!("{name}: wharf ps says {row:?}"));
        }
    }
    let json =
        machine.sh("wharf ps --json | grep -c '\"status_text\": \"Its program ended with status 3\"'")?;
    assert_eq!(json, "1");
    let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    forget(machine, &names)?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // It is over with the next start.
    declare(
        machine,
        "again",
        "image = 'debian:13'\nnetwork = 'none'\nautostart = false\ncommand = ['/bin/bash', '-c', 'trap \"exit 0\" TERM; sleep infinity & wait']\n",
    )?;
    machine.sh(
        "systemctl start again-container; systemctl kill --kill-whom=main --signal=KILL again-container",
    )?;
    until(machine, "[[ $(systemctl show -P NRestarts again-container) == 1 ]]")?;
    until(machine, "[[ $(systemctl is-active again-container) == active ]]")?;
    assert_eq!(property(machine, "again", "StatusText")?, "");
    let said = machine.sh("journalctl --sync; journalctl -b -q --no-pager -o cat -u again-container")?;
    assert!(said.contains("again: its program was killed by SIGKILL"), "{said}");
    // A good end has none.
    machine.sh("systemctl stop again-container")?;
    assert_eq!(property(machine, "again", "StatusText")?, "");
    forget(machine, &["again"])
}

/// Who wants to be told, and has systemd give up, as wharf-container(5) says it: once, and not at each restart.
fn given_up(machine: &Machine) -> Result<()> {
    machine.write(
        "/etc/systemd/system/page-me@.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo %i >>/srv/paged'\n",
    )?;
    declare(
        machine,
        "shop",
        "image = 'debian:13'\nnetwork = 'none'\nautostart = false\ncommand = ['/bin/sh', '-c', 'exit 3']\n\
         [systemd.Unit]\nOnFailure = 'page-me@%N.service'\nStartLimitIntervalSec = '10min'\nStartLimitBurst = 5\n\
         [systemd.Service]\nRestartMode = 'direct'\n",
    )?;
    machine.run("rm -f /srv/paged; systemctl start shop-container")?;
    until(machine, "systemctl is-failed -q shop-container && test -e /srv/paged")?;
    assert_eq!(property(machine, "shop", "NRestarts")?, "5");
    assert_eq!(machine.sh("cat /srv/paged")?, "shop-container");
    assert_eq!(property(machine, "shop", "StatusText")?, "Its program ended with status 3");
    forget(machine, &["shop"])?;
    machine.sh("rm /srv/paged /etc/systemd/system/page-me@.service; systemctl daemon-reload").map(drop)
}

fn delays(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    growing(machine)?;
    Ok(())
}

fn last_words(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    ends(machine)?;
    given_up(machine)?;
    Ok(())
}

/// An image whose program writes down by which signal it was asked to end.
fn stopped_by(machine: &Machine, signal: &str) -> Told {
    let program = "for signal in USR1 USR2 TERM; do trap \"echo $signal >/said/it; exit 0\" $signal; done; \
                   touch /said/ready; sleep infinity & wait";
    let command = format!("--command /bin/bash --command -c --command '{program}'");
    let line = format!("wharf image import --name stops:1 --stop-signal {signal} {command} -");
    feed(machine, &line, open(&Recipe::debian_image())?)?;
    Ok(())
}

fn stops(stage: &mut Stage) -> Told {
    const QUIET: &str = "network = 'none'\nautostart = false\nrestart = 'no'\n";
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh("mkdir -p /srv/said")?;
    stopped_by(machine, "SIGUSR1")?;
    declare(
        machine,
        "stops",
        &format!(
            "image = 'stops:1'\nstop.timeout = '5s'\nmounts.'/said' = {{ bind = '/srv/said' }}\n{QUIET}"
        ),
    )?;
    let start = "rm -f /srv/said/*; systemctl start stops-container; until [[ -e /srv/said/ready ]]; do sleep .05; done";
    machine.sh(start)?;
    // The name is another image's by now, and the program is still the old one's.
    stopped_by(machine, "SIGUSR2")?;
    assert_eq!(machine.sh("systemctl stop stops-container; cat /srv/said/it")?, "USR1");
    assert_eq!(machine.sh(&format!("{start}; systemctl stop stops-container; cat /srv/said/it"))?, "USR2");

    // One that doesn't hear it is killed, and that is what is said.
    let deaf = "command = ['sleep', '100']\nstop.timeout = '2s'\n";
    let killed = "It did not end within its stop timeout of 2s and was killed";
    declare(machine, "stops", &format!("image = 'stops:1'\n{deaf}{QUIET}"))?;
    machine.run("systemctl start stops-container; systemctl stop stops-container")?;
    assert_eq!(property(machine, "stops", "StatusText")?, killed);
    let said = machine.sh("journalctl --sync; journalctl -b -q --no-pager -o cat SYSLOG_IDENTIFIER=stops")?;
    assert!(said.contains("did not end within its stop timeout of 2s"), "{said}");
    assert!(!said.contains("its program was killed"), "{said}");
    // So too in the middle of a start.
    declare(machine, "halfway", &format!("image = 'debian:13'\nready = 'notify'\n{deaf}{QUIET}"))?;
    machine.run(
        "systemctl start --no-block halfway-container; until pgrep -f '^sleep 100' >/dev/null; do sleep .05; done; \
         systemctl stop halfway-container",
    )?;
    assert_eq!(property(machine, "halfway", "StatusText")?, killed);

    // What a command of the unit's own did is none of the program's.
    declare(
        machine,
        "beside",
        &format!(
            "image = 'debian:13'\ncommand = ['bash', '-c', 'trap \"exit 0\" TERM; sleep infinity & wait']\n\
             systemd.Service.ExecStartPost = ['/bin/sleep 1', '/bin/false']\n{QUIET}"
        ),
    )?;
    assert_ne!(machine.run("systemctl start beside-container")?.code, 0);
    until(machine, "systemctl is-failed -q beside-container")?;
    assert_eq!(property(machine, "beside", "StatusText")?, "");
    let said =
        machine.sh("journalctl --sync; journalctl -b -q --no-pager -o cat SYSLOG_IDENTIFIER=beside")?;
    assert!(!said.contains("its program"), "{said}");
    forget(machine, &["stops", "halfway", "beside"])?;
    machine.sh("rm -r /srv/said; wharf image remove stops:1")?;
    Ok(())
}

fn older(stage: &mut Stage) -> Told {
    let machine = &Machine::boot(stage.kind(), &Recipe::older())?;
    assert!(machine.sh("systemctl --version")?.starts_with("systemd 252 "));
    install_wharf(machine)?;
    import(machine, &DEBIAN)?;
    growing(machine)?;
    ends(machine)?;
    without_file(machine)
}

fn fileless(stage: &mut Stage) -> Told {
    without_file(with(stage, &[&DEBIAN])?)
}

/// Containers that run while their files go, as they do in an administrator's hands, git's and Ansible's.
fn without_file(machine: &Machine) -> Told {
    let path = "/etc/wharf/containers";
    machine.sh("mkdir -p /srv/said")?;
    stopped_by(machine, "SIGUSR1")?;
    let text = "image = 'stops:1'\nautostart = true\npublish = ['7000:7000']\nstop.timeout = '5s'\n\
        limits.tasks = 50\nmounts.'/said' = { bind = '/srv/said' }\n";
    declare(machine, "stops", text)?;
    let start = "rm -f /srv/said/*; systemctl start stops-container; until [[ -e /srv/said/ready ]]; do sleep .05; done";
    machine.sh(start)?;
    let kept = "systemctl show --property=MainPID,Type,KillMode,TimeoutStopUSec,TasksMax,Delegate,ControlGroup,ExecStop,ExecStopPost stops-container";
    let table = "nft list table inet wharf | grep '7000 :'";
    let (before, published) = (machine.sh(kept)?, machine.sh(table)?);

    // All that systemd is to do with it stays; but it starts nothing, and a restart doesn't even stop it.
    machine.sh(&format!("rm {path}/stops.toml; systemctl daemon-reload; systemctl daemon-reload"))?;
    assert_eq!(machine.sh(kept)?, before);
    assert_eq!(property(machine, "stops", "Restart")?, "no");
    assert_eq!(property(machine, "stops", "NeedDaemonReload")?, "no");
    assert!(property(machine, "stops", "Description")?.contains("NO FILE DECLARES IT ANY MORE"));
    assert_eq!(machine.sh("ls /run/systemd/generator/*.wants/*container* 2>/dev/null || :")?, "");
    assert_ne!(machine.run("systemctl restart stops-container")?.code, 0);
    assert_eq!(machine.sh(kept)?, before);
    machine.sh("/usr/libexec/wharf/wharf-executor network && wharf exec stops true")?;
    assert_eq!(machine.sh(table)?, published);
    assert!(machine.sh("wharf ps")?.contains("its file is gone"));

    // It has its file again, and loses it again, by a mask.
    declare(machine, "stops", text)?;
    assert_eq!(machine.sh(kept)?, before);
    assert_eq!(property(machine, "stops", "Restart")?, "always");
    machine.sh(&format!("ln -sf /dev/null {path}/stops.toml; systemctl daemon-reload"))?;
    assert_eq!(machine.sh(kept)?, before);

    // It ends as it was to. Before a reload there is still a unit, which isn't a way to start it.
    assert_eq!(machine.sh("systemctl stop stops-container; cat /srv/said/it")?, "USR1");
    assert_eq!(property(machine, "stops", "Result")?, "success");
    machine.sh(&format!("! ls /run/wharf/running/stops.json 2>/dev/null && ! {table}"))?;
    assert_ne!(machine.run("systemctl start stops-container")?.code, 0);
    let said = machine.run("/usr/libexec/wharf/wharf-executor start stops")?;
    assert!(said.code == 78 && said.stderr.contains("no file declares stops any more"), "{}", said.stderr);
    machine.sh("systemctl daemon-reload")?;
    assert_eq!(property(machine, "stops", "LoadState")?, "not-found");
    machine.sh(&format!("rm {path}/stops.toml"))?;

    // An instance loses its template. It isn't started again either, and says why it has ended.
    machine.write(&format!("{path}/stops@.toml"), text.replace("true", "false"))?;
    machine.sh(&format!(
        "systemctl daemon-reload; {}",
        start.replace("stops-container", "stops-container@one")
    ))?;
    machine.sh(&format!("rm {path}/stops@.toml; systemctl daemon-reload"))?;
    assert_eq!(machine.sh("systemctl show -P KillMode stops-container@one")?, "mixed");
    machine.sh("systemctl kill --kill-whom=main --signal=KILL stops-container@one")?;
    until(machine, "systemctl is-failed -q stops-container@one")?;
    assert_eq!(
        machine.sh("systemctl show -P StatusText stops-container@one")?,
        "Its program was killed by SIGKILL"
    );
    machine.sh("! ls /run/wharf/running/stops@one.json 2>/dev/null && systemctl reset-failed stops-container@one && systemctl daemon-reload")?;
    assert_eq!(machine.sh("systemctl show -P LoadState stops-container@one")?, "not-found");
    forget(machine, &["stops"])?;
    machine.sh("rm -r /srv/said; wharf image remove stops:1")?;
    Ok(())
}
