//! Trials that failed, or that nobody saw to their end: what their marks keep from starting, and for how long.

use std::time::Duration;

use super::apply::{BAD, STAYS, applied, gone, marks_left, of, problem, refused, serves, version, write};
use super::containers::{DEBIAN, declare, property, until, with};
use super::machine::{Machine, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story {
        name: "what failed isn't started by anybody, whatever changes meanwhile",
        on: On::Fast,
        tell: meanwhile,
    },
    Story {
        name: "a mark is its own run's, and goes back to what has proved itself",
        on: On::Fast,
        tell: marks,
    },
    Story { name: "an apply that is told to end finishes what it tries", on: On::Fast, tell: told_to_end },
    Story { name: "what is held back stays so over a reboot", on: On::FastThenFull, tell: reboots },
];

/// Ends with a status after some seconds.
fn ends_after(seconds: &str) -> String {
    format!("command = ['/bin/sh', '-c', 'sleep {seconds}; exit 7']")
}

/// Waits until the mark of a container says so.
fn state(machine: &Machine, name: &str, state: &str) -> Result<()> {
    until(machine, &format!("grep -q '\"state\":\"{state}\"' /var/lib/wharf/held/{name}.json"))
}

fn meanwhile(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let good = of("good", STAYS);
    declare(machine, "web", &good)?;
    declare(machine, "other", &of("1", STAYS))?;
    machine.sh("systemctl start web-container other-container")?;

    // Stopped after a boot, in which only the last good plan has run: it isn't new, and its mark stays.
    write(machine, "web", &of("bad", BAD[0].1))?;
    refused(machine, "")?;
    machine.reboot()?;
    serves(machine, "web", "good")?;
    machine.sh("systemctl stop web-container")?;
    write(machine, "other", &of("2", STAYS))?;
    let said = applied(machine, "")?;
    assert!(!said.contains("web"), "{said}");
    assert_ne!(property(machine, "web", "ActiveState")?, "active");
    assert_eq!(marks_left(machine)?, "web.json");
    machine.sh("systemctl daemon-reload; systemctl start web-container")?;
    assert_eq!(version(machine, "web")?, "good");
    write(machine, "web", &good)?;
    applied(machine, "")?;

    // It writes to what it lists itself: that is part of what failed.
    machine.sh("mkdir -p /srv/conf && echo 1 >/srv/conf/a")?;
    let listed = |version: &str, command: &str| {
        format!(
            "restart-on-change = ['/srv/conf']\nuser-namespace = false\n{}\n[mounts]\n'/conf' = {{ bind = '/srv/conf' }}\n",
            of(version, command)
        )
    };
    write(machine, "web", &listed("good", STAYS))?;
    applied(machine, "")?;
    write(machine, "web", &listed("bad", "command = ['/bin/bash', '-c', 'echo $RANDOM >>/conf/a; exit 7']"))?;
    let said = refused(machine, "")?;
    assert!(said.contains("run again"), "{said}");
    assert_eq!(version(machine, "web")?, "good");
    machine.sh("systemctl daemon-reload; systemctl restart web-container")?;
    assert_eq!(version(machine, "web")?, "good");
    let said = refused(machine, "")?;
    assert!(said.contains("held     web"), "{said}");
    // What somebody writes there afterwards is another version.
    machine.sh("echo 2 >>/srv/conf/a")?;
    let said = refused(machine, "")?;
    assert!(said.contains("restart  web") && said.contains("run again"), "{said}");
    write(machine, "web", &good)?;
    applied(machine, "")?;
    machine.sh("rm -r /srv/conf")?;

    // Its file is edited while it is tried: what is put back is what ran, and the edit is for the next one.
    write(machine, "web", &of("bad", &ends_after("3")))?;
    let first = machine.start("wharf apply --settle 8s")?;
    serves(machine, "web", "bad")?;
    write(machine, "web", &of("third", STAYS))?;
    let said = first.rest().join("\n");
    assert!(said.contains("web: FAILED") && said.contains("run again"), "{said}");
    assert_eq!(version(machine, "web")?, "good");
    applied(machine, "")?;
    assert_eq!(version(machine, "web")?, "third");
    assert_eq!(marks_left(machine)?, "");

    // It gets a mistake while it is tried: what failed isn't what has worked since boot.
    write(machine, "web", &of("bad", &ends_after("3")))?;
    let first = machine.start("wharf apply --settle 8s")?;
    serves(machine, "web", "bad")?;
    write(machine, "web", "image = 'debian:13'\nmemroy = 1\n")?;
    let said = first.rest().join("\n");
    assert!(said.contains("run again"), "{said}");
    assert_eq!(version(machine, "web")?, "third");
    machine.sh("systemctl daemon-reload; systemctl restart web-container")?;
    assert_eq!(version(machine, "web")?, "third");
    write(machine, "web", &good)?;
    applied(machine, "")?;
    assert_eq!(version(machine, "web")?, "good");

    // Somebody stops it while it is tried: that is no failure, and nothing is known of it.
    write(machine, "web", &of("next", STAYS))?;
    let first = machine.start("wharf apply --settle 8s")?;
    serves(machine, "web", "next")?;
    machine.sh("systemctl stop web-container")?;
    let said = first.rest().join("\n");
    assert!(said.contains("web: not tried: somebody has stopped it"), "{said}");
    assert_ne!(property(machine, "web", "ActiveState")?, "active");
    machine.sh("systemctl start web-container")?;
    assert_eq!(version(machine, "web")?, "good", "nobody looks at how the other one does");
    applied(machine, "")?;
    assert_eq!(version(machine, "web")?, "next");
    assert_eq!(marks_left(machine)?, "");
    gone(machine, &["web", "other"])?;
    Ok(())
}

fn marks(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    for name in ["web", "other"] {
        declare(machine, name, &of("good", STAYS))?;
    }
    machine.sh("systemctl start web-container other-container")?;

    // Killed while it was tried; somebody else's run is none of its business.
    write(machine, "web", &of("bad", &ends_after("2")))?;
    let first = machine.start("exec wharf apply --settle 20s")?;
    serves(machine, "web", "bad")?;
    machine.sh("kill -KILL $(cut -d ' ' -f 1 /run/wharf/apply.lock)")?;
    drop(first);
    write(machine, "other", &of("2", STAYS))?;
    let second = machine.start("wharf apply --settle 8s other")?;
    state(machine, "other", "trying")?;
    serves(machine, "web", "good")?;
    machine.sh("sleep 3")?;
    assert_eq!(version(machine, "web")?, "good");
    assert_ne!(version(machine, "other")?, "good");
    assert!(second.rest().iter().any(|line| line.starts_with("other: runs")));

    // What waits for its turn is what ran, whoever restarts it.
    write(machine, "web", &of("good", STAYS))?;
    applied(machine, "")?;
    let above = |version: &str| of(version, STAYS).replace("network = 'none'", "links = ['below']");
    let below = |version: &str| of(version, STAYS).replace("network = 'none'\n", "");
    declare(machine, "below", &below("1"))?;
    declare(machine, "above", &above("1"))?;
    applied(machine, "")?;
    write(machine, "below", &below("2"))?;
    write(machine, "above", &above("2"))?;
    let first = machine.start("wharf apply --settle 6s")?;
    state(machine, "below", "trying")?;
    state(machine, "above", "waiting")?;
    machine.sh("systemctl kill -s KILL above-container")?;
    serves(machine, "above", "1")?;
    let said = first.rest().join("\n");
    assert!(said.contains("above: runs"), "{said}");
    assert_eq!(version(machine, "above")?, "2");

    // Killed again, with the new one up, and edited: what is gone back to is the first, which has proved itself.
    write(machine, "web", &of("second", STAYS))?;
    let first = machine.start("exec wharf apply --settle 20s")?;
    serves(machine, "web", "second")?;
    machine.sh("kill -KILL $(cut -d ' ' -f 1 /run/wharf/apply.lock)")?;
    drop(first);
    assert_eq!(version(machine, "web")?, "second");
    write(machine, "web", &of("third", BAD[0].1))?;
    refused(machine, "")?;
    assert_eq!(version(machine, "web")?, "good");

    // What no file declares any more leaves no mark, running or not.
    machine.sh("systemctl stop web-container; rm /etc/wharf/containers/web.toml; systemctl daemon-reload")?;
    assert_eq!(marks_left(machine)?, "web.json");
    applied(machine, "")?;
    assert_eq!(marks_left(machine)?, "");

    // Declared again, it is new.
    machine.sh("rm /etc/wharf/containers/other.toml")?;
    applied(machine, "")?;
    assert_ne!(property(machine, "other", "ActiveState")?, "active");
    write(machine, "other", &of("2", STAYS))?;
    let said = applied(machine, "")?;
    assert!(said.contains("start    other  new\n"), "{said}");
    gone(machine, &["web", "other", "above", "below"])?;
    sockets_of_another(machine)?;
    sockets_come_and_go(machine)?;
    Ok(())
}

/// Ended after its sockets were changed, and before they proved themselves: the program of the last good plan isn't
/// given what was meant for the other one.
fn sockets_of_another(machine: &Machine) -> Result<()> {
    let listens = |port: u16, version: &str| {
        format!("{}\n[socket]\nlisten = ['127.0.0.1:{port}']\non-demand = false\n", of(version, STAYS))
    };
    write(machine, "web", &listens(7200, "good"))?;
    applied(machine, "")?;
    write(machine, "web", &listens(7201, "other"))?;
    let first = machine.start("exec wharf apply --settle 20s")?;
    serves(machine, "web", "other")?;
    machine
        .sh("kill -KILL $(cut -d ' ' -f 1 /run/wharf/apply.lock); systemctl kill -s KILL web-container")?;
    drop(first);
    until(
        machine,
        "journalctl -q --no-pager -u web-container -n 50 | grep -q 'has other sockets than the last good plan of web'",
    )?;
    applied(machine, "")?;
    assert_eq!(version(machine, "web")?, "other");
    machine.sh("systemctl stop web-container.socket web-container")?;
    gone(machine, &["web"])
}

/// What runs gets a socket, and loses it, and is up each time; also where that is put back.
fn sockets_come_and_go(machine: &Machine) -> Result<()> {
    let listens = |version: &str, command: &str| {
        format!("{}\n[socket]\nlisten = ['127.0.0.1:7202']\n", of(version, command))
    };
    let stands = |wanted: &str, socket: &str, said: &str| -> Result<()> {
        assert_eq!(property(machine, "web", "ActiveState")?, "active", "{said}");
        assert_eq!(version(machine, "web")?, wanted, "{said}");
        let is = machine.run("systemctl is-active web-container.socket")?.stdout;
        assert_eq!(is.trim(), socket, "{said}");
        assert_eq!(machine.run("ss -Hln sport = :7202 | grep -q LISTEN")?.code == 0, socket == "active");
        Ok(())
    };
    declare(machine, "web", &of("plain", STAYS))?;
    machine.sh("systemctl start web-container")?;
    write(machine, "web", &listens("bad", BAD[0].1))?;
    let said = refused(machine, "")?;
    assert!(said.contains("its last good plan and image run again"), "{said}");
    stands("plain", "inactive", &said)?;
    write(machine, "web", &listens("listens", STAYS))?;
    stands("listens", "active", &applied(machine, "")?)?;
    write(machine, "web", &of("bad", BAD[0].1))?;
    let said = refused(machine, "")?;
    assert!(said.contains("its last good plan and image run again"), "{said}");
    stands("listens", "active", &said)?;
    write(machine, "web", &of("plain", STAYS))?;
    stands("plain", "inactive", &applied(machine, "")?)?;
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    machine.sh("systemctl stop web-container")?;
    gone(machine, &["web"])
}

/// Starts an apply and ends it, so that nobody looks at how what it tries does.
fn left_alone(machine: &Machine, version: &str) -> Result<()> {
    left_alone_with(machine, version, STAYS)
}

fn left_alone_with(machine: &Machine, version: &str, command: &str) -> Result<()> {
    write(machine, "below", &of(version, command).replace("network = 'none'\n", ""))?;
    let first = machine.start("exec wharf apply --settle 60s below")?;
    serves(machine, "below", version)?;
    let tell = "kill -TERM $(cut -d ' ' -f 1 /run/wharf/apply.lock)";
    machine.sh(&format!("{tell}; sleep 1.2; {tell}"))?;
    first.rest();
    assert_eq!(problem(machine, "below")?, "unproved");
    let changed = machine.sh("wharf changed")?;
    assert!(changed.contains("its last good plan starts next: what its files say was tried at"), "{changed}");
    Ok(())
}

/// It was ready long ago, as far as anybody can tell.
fn long_ago(machine: &Machine) -> Result<()> {
    machine.sh("sed -i 's/\"ready_at\":[0-9]*/\"ready_at\":1/' /run/wharf/restarts/below.json").map(drop)
}

fn told_to_end(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let above = |version: &str| of(version, STAYS).replace("network = 'none'", "links = ['below']");
    let below = |version: &str| of(version, STAYS).replace("network = 'none'\n", "");
    for version in ["1", "2"] {
        write(machine, "below", &below(version))?;
        write(machine, "above", &above(version))?;
        if version == "1" {
            applied(machine, "")?;
        }
    }
    for (signal, good) in [("TERM", true), ("HUP", false)] {
        let brings = if good { STAYS.to_owned() } else { ends_after("2") };
        write(machine, "below", &of("2", &brings).replace("network = 'none'\n", ""))?;
        let first = machine.start("exec wharf apply --settle 3s 2>&1")?;
        state(machine, "below", "trying")?;
        // Of a terminal that is gone the shell tells, and the kernel.
        machine.sh(&format!(
            "for time in 1 2; do kill -{signal} $(cut -d ' ' -f 1 /run/wharf/apply.lock); sleep 0.1; done"
        ))?;
        let said = first.rest().join("\n");
        assert!(said.contains("finishing below, and then ending"), "{said}");
        assert!(said.contains("above: not tried: it"), "{said}");
        assert_eq!(said.contains("below: runs, ready"), good, "{said}");
        assert_eq!(version(machine, "below")?, "2", "{said}");
        assert_eq!(version(machine, "above")?, "1", "{said}");
        assert_eq!(machine.run("grep -q trying /var/lib/wharf/held/*.json")?.code, 1, "{said}");
    }
    write(machine, "below", &below("2"))?;
    applied(machine, "")?;
    assert_eq!((version(machine, "above")?, marks_left(machine)?), ("2".into(), String::new()));

    // Left alone it falls back, where it ends soon.
    left_alone(machine, "soon")?;
    machine.sh("systemctl kill -s KILL below-container")?;
    serves(machine, "below", "2")?;
    // Not where it was up for long, whether systemd has been reloaded since or not.
    for (version, reload) in [("long", "true"), ("reloaded", "systemctl daemon-reload")] {
        left_alone(machine, version)?;
        machine.sh(reload)?;
        long_ago(machine)?;
        machine.sh("systemctl kill -s KILL below-container")?;
        serves(machine, "below", version)?;
        assert_eq!((problem(machine, "below")?, marks_left(machine)?), ("none".into(), String::new()));
        assert_eq!(applied(machine, "")?, "all is as the files say\n");
    }
    // What was unhealthy by then has proved nothing, whoever ends it.
    let sick = format!(
        "{STAYS}\nhealth = {{ command = ['/bin/test', '!', '-e', '/tmp/sick'], interval = '1s', timeout = '1s', \
         retries = 1, on-failure = 'none' }}"
    );
    for (ends, is_sick) in
        [("systemctl stop", true), ("systemctl kill -s KILL", true), ("systemctl stop", false)]
    {
        left_alone_with(machine, "sick", &sick)?;
        if is_sick {
            machine.sh("wharf exec below touch /tmp/sick")?;
            until(machine, "systemctl show -P StatusText below-container | grep -q unhealthy")?;
        } else {
            until(machine, "systemctl show -P StatusText below-container | grep -q healthy")?;
        }
        long_ago(machine)?;
        machine.sh(&format!("{ends} below-container; sleep 1; systemctl start below-container"))?;
        let expected = if is_sick { "reloaded" } else { "sick" };
        serves(machine, "below", expected)?;
        assert_eq!(marks_left(machine)?.is_empty(), !is_sick, "{ends}");
        write(machine, "below", &below("reloaded"))?;
        applied(machine, "")?;
    }
    // Nor is it restarted for that by the next one.
    left_alone(machine, "found")?;
    long_ago(machine)?;
    let pid = property(machine, "below", "MainPID")?;
    assert_eq!(applied(machine, "--dry-run")?, "all is as the files say\n");
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    assert_eq!((property(machine, "below", "MainPID")?, marks_left(machine)?), (pid, String::new()));

    // Nor where another one begins, and doesn't come to it.
    let base = |version: &str, command: &str| of(version, command).replace("network = 'none'\n", "");
    declare(machine, "base", &base("1", STAYS))?;
    let linked = |version: &str| {
        write(machine, "below", &of(version, STAYS).replace("network = 'none'", "links = ['base']"))
    };
    linked("found")?;
    applied(machine, "")?;
    linked("linked")?;
    let first = machine.start("exec wharf apply --settle 60s below")?;
    serves(machine, "below", "linked")?;
    machine.sh("kill -KILL $(cut -d ' ' -f 1 /run/wharf/apply.lock)")?;
    first.rest();
    write(machine, "base", &base("bad", BAD[0].1))?;
    let said = refused(machine, "")?;
    assert!(said.contains("below: not tried: it links to base"), "{said}");
    assert_eq!(
        (version(machine, "below")?, problem(machine, "below")?),
        ("linked".into(), "unproved".into())
    );
    long_ago(machine)?;
    machine.sh("systemctl kill -s KILL below-container")?;
    serves(machine, "below", "linked")?;
    assert_eq!(marks_left(machine)?, "base.json");
    write(machine, "base", &base("1", STAYS))?;
    applied(machine, "")?;

    // A unit that is that of the last good plan, for a reason that is gone, is made anew before anything starts by it.
    left_alone(machine, "proved")?;
    machine.sh(
        "systemctl daemon-reload; rm /var/lib/wharf/held/below.json; systemctl restart below-container",
    )?;
    assert_eq!((version(machine, "below")?, problem(machine, "below")?), ("proved".into(), "none".into()));

    // systemd, or the bus, may be away for a moment while it is looked at: that says nothing of what is tried.
    for (what, away) in [("reexec", "systemctl daemon-reexec"), ("bus", "systemctl restart dbus.service")] {
        write(machine, "below", &below(what))?;
        let first = machine.start("wharf apply --settle 4s 2>&1")?;
        serves(machine, "below", what)?;
        machine.sh(away)?;
        let said = first.rest().join("\n");
        assert!(said.contains("below: runs, ready"), "{away}: {said}");
        assert_eq!((version(machine, "below")?, marks_left(machine)?), (what.into(), String::new()));
    }
    gone(machine, &["above", "below", "base"])?;
    Ok(())
}

fn reboots(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    declare(machine, "boots", &of("good", STAYS))?;
    machine.sh("systemctl start boots-container")?;
    let checks = "[health]\ntcp = '127.0.0.1:1'\ninterval = '1s'\ntimeout = '1s'\nretries = 1\n";
    write(machine, "boots", &format!("{}{checks}", of("bad", BAD[0].1)))?;
    refused(machine, "")?;
    machine.reboot()?;
    serves(machine, "boots", "good")?;
    assert_eq!(problem(machine, "boots")?, "held-back");
    machine.power_cut()?;
    machine.boot_again()?;
    serves(machine, "boots", "good")?;

    // Where the generator couldn't read the mark, the executor does.
    machine.sh("mv /var/lib/wharf/held /var/lib/wharf/aside; systemctl daemon-reload; \
         mv /var/lib/wharf/aside /var/lib/wharf/held")?;
    let unit = machine.sh("systemctl cat boots-container")?;
    assert!(!unit.contains("HELD BACK") && unit.contains("WatchdogSec=10s"), "{unit}");
    machine.sh("systemctl restart boots-container")?;
    serves(machine, "boots", "good")?;
    // Nobody feeds the other unit's watchdog.
    let pid = property(machine, "boots", "MainPID")?;
    machine.sh("sleep 13")?;
    assert_eq!(property(machine, "boots", "MainPID")?, pid);
    assert_eq!(problem(machine, "boots")?, "held-back");

    // The power goes in the middle: what runs then is what was there before.
    for version in ["cut", "cut-bad"] {
        let command = if version == "cut" { STAYS } else { "command = ['/bin/sh', '-c', 'sleep 1; exit 1']" };
        write(machine, "boots", &of(version, command))?;
        machine.sh("cp /var/lib/wharf/held/boots.json /root/before")?;
        let applying = machine.start("wharf apply --settle 20s")?;
        // The mark before it is of a trial, too.
        until(machine, "! cmp -s /root/before /var/lib/wharf/held/boots.json")?;
        state(machine, "boots", "trying")?;
        machine.sh("sync")?;
        machine.let_pass(Duration::from_millis(300));
        machine.power_cut()?;
        drop(applying);
        machine.boot_again()?;
        serves(machine, "boots", "good")?;
        assert_eq!(problem(machine, "boots")?, "held-back");
    }
    write(machine, "boots", &of("cut", STAYS))?;
    applied(machine, "")?;
    assert_eq!(version(machine, "boots")?, "cut");
    gone(machine, &["boots"])?;
    Ok(())
}
