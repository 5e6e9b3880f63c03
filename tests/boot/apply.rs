//! `wharf apply`: what runs becomes what the files say, and what doesn't work is put back.

use std::time::Duration;

use super::containers::{DEBIAN, REDIS, declare, forget, property, until, with};
use super::machine::{Machine, Output, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story {
        name: "apply restarts what has changed, in the order of links, and nothing else",
        on: On::Fast,
        tell: in_order,
    },
    Story {
        name: "a change that fails never leaves a server without its service",
        on: On::Fast,
        tell: put_back,
    },
    Story { name: "a crash that nobody sees counts", on: On::Fast, tell: unseen },
    Story { name: "an image that does not work is put back", on: On::Fast, tell: images },
    Story { name: "an apply that is killed ends in one of two versions", on: On::Fast, tell: killed },
    Story { name: "what is gone serves until what comes instead can", on: On::Fast, tell: renamed },
    Story { name: "a service becomes a job, and a service again", on: On::Fast, tell: jobs },
    Story {
        name: "an idle socket follows its file, and an idle container has proved itself",
        on: On::Fast,
        tell: idle,
    },
    Story { name: "twenty changed files among two hundred", on: On::Fast, tell: many },
];

/// Serves what its file says, in its log and as the file that its health is read from.
fn service(more: &str) -> String {
    format!("image = 'debian:13'\nnetwork = 'none'\n{more}\n")
}

/// The same, as a version that [`version`] tells.
pub fn of(version: &str, command: &str) -> String {
    service(&format!("{command}\n[environment]\nVERSION = '{version}'"))
}

/// A program that goes on until it is told to end.
pub const STAYS: &str = "command = ['/bin/bash', '-c', 'trap exit TERM; sleep infinity & wait']";

pub fn write(machine: &Machine, name: &str, text: &str) -> Result<()> {
    machine.write(&format!("/etc/wharf/containers/{name}.toml"), text)
}

fn apply(machine: &Machine, arguments: &str) -> Result<Output> {
    machine.run_for(&format!("wharf apply --settle 2s {arguments}"), Duration::from_secs(240))
}

/// An apply that has to succeed; what it said.
pub fn applied(machine: &Machine, arguments: &str) -> Result<String> {
    let output = apply(machine, arguments)?;
    assert_eq!(output.code, 0, "{} {}", output.stdout, output.stderr);
    Ok(output.stdout)
}

/// An apply that has to fail; what it said.
pub fn refused(machine: &Machine, arguments: &str) -> Result<String> {
    let output = apply(machine, arguments)?;
    assert_eq!(output.code, 1, "{} {}", output.stdout, output.stderr);
    Ok(output.stdout + &output.stderr)
}

/// The variable VERSION of a container's main process.
pub fn version(machine: &Machine, name: &str) -> Result<String> {
    machine.sh(&format!("{} | sed -n 's/^VERSION=//p' | head -n 1", environment(name)))
}

/// Says the environment of a container's program, which is the main process or, where that is the init, its child.
fn environment(name: &str) -> String {
    format!(
        "pid=$(systemctl show -P MainPID {name}-container); \
         {{ cat /proc/$pid/environ /proc/$(pgrep -oP $pid)/environ 2>/dev/null || :; }} | tr '\\0' '\\n'"
    )
}

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub fn problem(machine: &Machine, name: &str) -> Result<String> {
    let rows = json(&machine.sh("wharf ps --json")?);
    let row = rows.as_array().into_iter().flatten().find(|row| row["name"] == name);
    Ok(row.map_or_else(|| "not there".to_owned(), |row| row["problem"].as_str().unwrap_or("none").to_owned()))
}

/// Waits until a container's main process has this VERSION.
pub fn serves(machine: &Machine, name: &str, wanted: &str) -> Result<()> {
    until(
        machine,
        &format!(
            "[[ $(systemctl show -P ActiveState {name}-container) == active ]] && \
             [[ $({} | grep ^VERSION= | head -n 1) == VERSION={wanted} ]]",
            environment(name)
        ),
    )
}

/// The files of the marks that are there.
pub fn marks_left(machine: &Machine) -> Result<String> {
    machine.sh("ls /var/lib/wharf/held 2>/dev/null || :")
}

pub fn gone(machine: &Machine, names: &[&str]) -> Result<()> {
    forget(machine, names)?;
    machine.sh("rm -rf /var/lib/wharf/held; ! ls /etc/wharf/containers/* 2>/dev/null").map(drop)
}

fn in_order(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let said = |links: &str, version: &str| {
        format!("image = 'debian:13'\nlinks = [{links}]\n{STAYS}\n[environment]\nVERSION = '{version}'\n")
    };
    let all = [("nginx", "'app'"), ("app", "'db'"), ("db", ""), ("other", "")];
    for (name, links) in all {
        write(machine, name, &said(links, "1"))?;
    }
    write(machine, "stopped", &service(STAYS))?;
    write(machine, "disabled", &service(&format!("autostart = false\n{STAYS}")))?;

    // New ones are started; with --dry-run nothing is.
    let shown = applied(machine, "--dry-run")?;
    assert!(shown.contains("start    nginx    new\n"), "{shown}");
    assert!(!shown.contains("disabled"), "{shown}");
    assert_ne!(machine.run("systemctl is-active db-container")?.code, 0);
    let said_of_all = applied(machine, "")?;
    for name in ["nginx", "app", "db", "other", "stopped"] {
        assert_eq!(property(machine, name, "ActiveState")?, "active", "{name}: {said_of_all}");
    }
    assert_ne!(property(machine, "disabled", "ActiveState")?, "active");
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    machine.sh("systemctl stop stopped-container")?;

    // A mistake in one file, and nothing is touched.
    let pids = |machine: &Machine| -> Result<Vec<String>> {
        all.iter().map(|(name, _)| property(machine, name, "MainPID")).collect()
    };
    let before = pids(machine)?;
    write(machine, "db", &said("", "2"))?;
    write(machine, "other", "image = 'debian:13'\nmemroy = 1\n")?;
    let why = refused(machine, "")?;
    assert!(why.contains("memroy") && why.contains("nothing was touched"), "{why}");
    assert_eq!(pids(machine)?, before);
    assert!(!machine.sh("systemctl show -P NeedDaemonReload db-container")?.is_empty());

    // What has changed, in the order of links; what somebody has stopped stays so, whatever it says now.
    write(machine, "other", &said("", "1"))?;
    write(machine, "nginx", &said("'app'", "2"))?;
    write(machine, "stopped", &service(&format!("init = true\n{STAYS}")))?;
    let shown = applied(machine, "--dry-run --json")?;
    let rows = json(&shown);
    let named = |row: &serde_json::Value| format!("{} {}", row["name"], row["action"]).replace('"', "");
    let names = rows.as_array().into_iter().flatten().map(named).collect::<Vec<_>>().join("\n");
    assert_eq!(names, "db restart\nnginx restart", "{shown}");
    let shown = applied(machine, "")?;
    assert!(shown.contains("restart  db     environment\n"), "{shown}");
    let after = pids(machine)?;
    assert_eq!((&after[1], &after[3]), (&before[1], &before[3]), "those that haven't changed go on");
    assert!(after[0] != before[0] && after[2] != before[2]);
    let began = |name: &str| -> Result<u64> {
        Ok(property(machine, name, "ActiveEnterTimestampMonotonic")?.parse().unwrap_or_default())
    };
    assert!(began("db")? < began("nginx")?, "by way of the application, which stays");
    assert_eq!(version(machine, "nginx")?, "2");
    assert_ne!(property(machine, "stopped", "ActiveState")?, "active");
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    assert_eq!(machine.sh("ls /var/lib/wharf/held")?, "", "no mark is left");

    // Names; and what no file declares any more.
    for (name, links) in [("db", ""), ("nginx", "'app'")] {
        write(machine, name, &said(links, "3"))?;
    }
    applied(machine, "nginx")?;
    assert_eq!((version(machine, "db")?, version(machine, "nginx")?), ("2".into(), "3".into()));
    assert_eq!(machine.run("wharf apply nobody")?.code, 1);
    machine.sh("rm /etc/wharf/containers/other.toml")?;
    let shown = applied(machine, "")?;
    assert!(shown.contains("stop     other  no file declares it any more\n"), "{shown}");
    assert_ne!(property(machine, "other", "ActiveState")?, "active");
    assert_eq!(version(machine, "db")?, "3");

    // Files of the host that it lists.
    machine.sh("mkdir -p /srv/conf && echo 1 >/srv/conf/a")?;
    let listed = said("", "4").replace("links", "restart-on-change = ['/srv/conf']\nlinks");
    write(machine, "db", &listed)?;
    applied(machine, "")?;
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    machine.sh("echo 2 >/srv/conf/a")?;
    assert!(machine.sh("wharf changed")?.contains("/srv/conf has changed"));
    let shown = applied(machine, "")?;
    assert!(shown.contains("restart  db  /srv/conf has changed\n"), "{shown}");
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    machine.sh("rm -r /srv/conf")?;
    gone(machine, &["nginx", "app", "db", "other", "stopped", "disabled"])?;
    Ok(())
}

/// A program that is healthy for a moment only, with one more line of its health.
macro_rules! briefly {
    ($more:literal) => {
        concat!(
            "command = ['/bin/bash', '-c', 'trap exit TERM; until test -e /tmp/well; do sleep 0.1; done; \
             sleep 1; rm /tmp/well; sleep infinity & wait']\n\
             root = 'ephemeral'\nready = 'healthy'\n\
             [health]\ncommand = ['/bin/sh', '-c', 'test ! -e /tmp/was || test -e /tmp/well || exit 1; \
                 test -e /tmp/was || touch /tmp/was /tmp/well']\n\
             interval = '1s'\ntimeout = '1s'\nretries = 3",
            $more
        )
    };
}

/// What may be wrong with a new version: a name, what is in its file, and what is said of it.
pub const BAD: [(&str, &str, &str); 7] = [
    ("crashes", "command = ['/bin/sh', '-c', 'exit 7']", "ended with status 7"),
    ("crashes soon", "command = ['/bin/sh', '-c', 'sleep 1; exit 7']", "ended with status 7"),
    ("has no program", "command = ['/bin/none']", "/bin/none"),
    (
        "never gets ready",
        "command = ['/bin/sleep', 'infinity']\ninit = true\nready = 'notify'\n\
         [systemd.Service]\nTimeoutStartSec = '3s'",
        "did not become ready in its time",
    ),
    (
        "crashes soon, and isn't started again",
        "command = ['/bin/sh', '-c', 'sleep 1; exit 7']\n[systemd.Service]\nRestartPreventExitStatus = '7'",
        "ended with status 7",
    ),
    ("is stopped when it isn't healthy any more", briefly!("\non-failure = 'stop'"), "unhealthy"),
    ("is healthy for a moment only", briefly!(""), "unhealthy"),
];

fn put_back(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let good = service(&format!("{STAYS}\n[environment]\nVERSION = 'good'"));
    declare(machine, "web", &good)?;
    declare(machine, "above", &good.replace("network = 'none'", "links = []"))?;
    machine.sh("systemctl start web-container above-container")?;
    for (what, text, why) in BAD {
        // Tables go last.
        let (keys, tables) =
            text.split_once("\n[").map_or((text, String::new()), |(a, b)| (a, format!("\n[{b}")));
        write(machine, "web", &service(&format!("{keys}\nenvironment = {{ VERSION = 'bad' }}{tables}")))?;
        let said = refused(machine, "")?;
        assert!(said.contains(why), "{what}: {said}");
        assert!(said.contains("its last good plan and image run again"), "{what}: {said}");
        assert_eq!(property(machine, "web", "ActiveState")?, "active", "{what}");
        assert_eq!(version(machine, "web")?, "good", "{what}");

        // It says so wherever one looks, and isn't tried again.
        assert_eq!(problem(machine, "web")?, "held-back", "{what}");
        let status = machine.sh("systemctl status --no-pager web-container")?;
        assert!(
            status.contains("HELD BACK") && status.contains("Runs its last good plan"),
            "{what}: {status}"
        );
        assert!(machine.sh("wharf changed web")?.contains("held back: "), "{what}");
        let inspected = json(&machine.sh("wharf inspect --json web")?);
        assert!(inspected["started"]["held"].as_str().is_some_and(|held| held.contains(why)), "{what}");
        let pid = property(machine, "web", "MainPID")?;
        let again = refused(machine, "")?;
        assert!(again.contains("held") && again.contains("wharf apply --retry web"), "{what}: {again}");
        assert_eq!(property(machine, "web", "MainPID")?, pid, "{what}: it was left alone");

        // Nor by a reload, a crash or a restart.
        machine.sh("systemctl daemon-reload; systemctl restart web-container")?;
        assert_eq!(version(machine, "web")?, "good", "{what}");
        machine.sh("systemctl kill -s KILL web-container")?;
        serves(machine, "web", "good")?;
    }
    let said = refused(machine, "--retry web")?;
    assert!(said.contains("tried again") && said.contains("unhealthy"), "{said}");
    assert_eq!(version(machine, "web")?, "good");

    // Edited, it is tried anew; and put back as it was, it is as it was.
    write(machine, "web", &good.replace("'good'", "'better'"))?;
    applied(machine, "")?;
    assert_eq!(version(machine, "web")?, "better");
    assert_eq!(problem(machine, "web")?, "none");
    write(machine, "web", &service(BAD[0].1))?;
    refused(machine, "")?;
    write(machine, "web", &good.replace("'good'", "'better'"))?;
    applied(machine, "")?;
    assert_eq!(problem(machine, "web")?, "none");
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    assert_eq!(machine.sh("ls /var/lib/wharf/held")?, "");

    // What links to it isn't tried when it fails, and runs as before, also after a restart.
    machine.sh("wharf exec above true")?;
    let linked = |version: &str| {
        format!("image = 'debian:13'\nlinks = ['below']\n{STAYS}\n[environment]\nVERSION = '{version}'\n")
    };
    let below = format!("image = 'debian:13'\n{STAYS}\n[environment]\nVERSION = '1'\n");
    declare(machine, "below", &below)?;
    declare(machine, "above", &linked("1"))?;
    applied(machine, "")?;
    write(machine, "below", "image = 'debian:13'\ncommand = ['/bin/false']\n")?;
    write(machine, "above", &linked("2"))?;
    write(machine, "web", &good)?;
    let said = refused(machine, "")?;
    assert!(said.contains("above: not tried: it links to below"), "{said}");
    assert_eq!(version(machine, "web")?, "good", "what has nothing to do with it is applied");
    assert_eq!((version(machine, "below")?, version(machine, "above")?), ("1".into(), "1".into()));
    machine.sh("systemctl restart above-container")?;
    assert_eq!(version(machine, "above")?, "1");
    write(machine, "below", &below)?;
    applied(machine, "")?;
    assert_eq!(version(machine, "above")?, "2", "it is tried when its turn has come");

    // One that is new and doesn't work has nothing to go back to, and says so.
    write(machine, "new", &service(BAD[0].1))?;
    let said = refused(machine, "")?;
    assert!(said.contains("new: FAILED: its program ended with status 7"), "{said}");

    // An instance of a template, which has no unit of its own until it is held back.
    forget(machine, &["new"])?;
    declare(machine, "pair@", &good)?;
    machine.sh("systemctl start pair-container@blue pair-container@green")?;
    write(machine, "pair@", &service(BAD[0].1))?;
    refused(machine, "pair@blue")?;
    machine.sh("systemctl restart pair-container@blue")?;
    assert_eq!(property(machine, "pair", "ActiveState").unwrap_or_default(), "inactive");
    let instance =
        "tr '\\0' '\\n' </proc/$(systemctl show -P MainPID pair-container@blue)/environ | grep VERSION";
    assert_eq!(machine.sh(instance)?, "VERSION=good");
    assert!(machine.sh("systemctl status --no-pager pair-container@blue")?.contains("HELD BACK"));
    machine.sh("systemctl stop pair-container@blue pair-container@green; systemctl reset-failed")?;
    gone(machine, &["web", "above", "below", "new", "pair@"])?;
    Ok(())
}

/// The first look isn't what it is judged by.
fn unseen(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    declare(machine, "web", &of("good", STAYS))?;
    machine.sh("systemctl start web-container")?;
    let command = "command = ['/bin/sh', '-c', 'if [ -e /conf/was ]; then touch /tmp/well; exec sleep infinity; fi; \
         touch /conf/was; sleep 1; touch /tmp/well; sleep 1; exit 7']\nready = 'healthy'\nuser-namespace = false\n\
         mounts = { '/conf' = { bind = '/srv/conf' } }\n\
         health = { command = ['/bin/test', '-e', '/tmp/well'], interval = '1s', timeout = '1s' }";
    machine.sh("mkdir -p /srv/conf")?;
    write(machine, "web", &of("unseen", command))?;
    // Not beneath nsenter(1), which stops with what it runs.
    machine.sh("systemd-run -q --unit=unseen wharf apply --settle 2s")?;
    // From before it is ready until it has crashed and is ready again.
    until(machine, "test -e /srv/conf/was")?;
    machine.sh("systemctl kill -s STOP unseen")?;
    until(
        machine,
        "(($(systemctl show -P NRestarts web-container) > 0)) && systemctl is-active -q web-container",
    )?;
    machine.sh("systemctl kill -s CONT unseen")?;
    until(machine, "systemctl is-failed -q unseen")?;
    let said = machine.sh("journalctl -q -o cat -u unseen; systemctl reset-failed unseen")?;
    assert!(said.contains("web: FAILED") && said.contains("run again"), "{said}");
    assert_eq!(version(machine, "web")?, "good");
    machine.sh("rm -r /srv/conf")?;
    gone(machine, &["web"])?;
    Ok(())
}

fn images(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let import = |command: &str| {
        machine.sh(&format!(
            "wharf image export debian:13 | wharf image import --name moves:1 --command /bin/sh --command -c \
             --command '{command}' -"
        ))
    };
    let digest = |reference: &str| {
        machine.sh(&format!("wharf image inspect {reference} | sed -n 's/^ *digest //p' | tr -d ' '"))
    };
    import("trap exit TERM; sleep infinity & wait")?;
    let good = digest("moves:1")?;
    declare(machine, "moves", "image = 'moves:1'\nnetwork = 'none'\n")?;
    declare(machine, "pair@", "image = 'moves:1'\nnetwork = 'none'\n")?;
    machine.sh("systemctl start moves-container pair-container@blue")?;
    let running = |machine: &Machine, name: &str| -> Result<String> {
        let inspected = json(&machine.sh(&format!("wharf inspect --json {name}"))?);
        Ok(inspected["image"]["running"].as_str().unwrap_or_default().to_owned())
    };
    import("exit 3")?;
    let bad = digest("moves:1")?;
    assert_ne!(good, bad);
    let said = refused(machine, "")?;
    assert!(said.contains("moves:1 is ") && said.contains("status 3"), "{said}");
    assert_eq!(running(machine, "moves")?, good);
    machine.sh("systemctl daemon-reload; systemctl restart moves-container")?;
    assert_eq!(running(machine, "moves")?, good, "the tag names the bad one, and the good one runs");
    let explained = format!("MESSAGE_ID=9aeb4c4e0388429eada3995ce4360b3d IMAGE_DIGEST={good}");
    let said = machine
        .sh(&format!("journalctl --sync; journalctl -q -b -o cat CONTAINER_NAME=moves {explained}"))?;
    // Of its first start, and of the restart; systemd may have started it before who put it back did.
    let count = said.lines().count();
    assert!((2..=3).contains(&count) && said.starts_with("moves: runs its last good plan: "), "{said}");

    // A mistake in its file makes no difference: what has worked since boot has the tag in it.
    write(machine, "moves", "image = 'moves:1'\nnetwork = 'none'\nmemroy = 1\n")?;
    write(machine, "pair@", "image = 'moves:1'\nnetwork = 'none'\nmemroy = 1\n")?;
    machine.sh("systemctl daemon-reload; systemctl restart moves-container pair-container@blue")?;
    assert_eq!((running(machine, "moves")?, running(machine, "pair@blue")?), (good.clone(), good.clone()));
    let status = machine.sh("systemctl status --no-pager moves-container")?;
    assert!(status.contains("RUNS ITS LAST GOOD PLAN"), "{status}");
    machine.sh("systemctl stop pair-container@blue")?;
    forget(machine, &["pair@"])?;
    write(machine, "moves", "image = 'moves:1'\nnetwork = 'none'\n")?;
    machine.sh("systemctl daemon-reload")?;

    // An edit beside it changes nothing for what failed: who tries both looks at how they do.
    for text in ["limits.tasks = 99\n", ""] {
        write(machine, "moves", &format!("image = 'moves:1'\nnetwork = 'none'\n{text}"))?;
        machine.sh("systemctl daemon-reload; systemctl restart moves-container")?;
        assert_eq!(running(machine, "moves")?, good, "{text}");
        if !text.is_empty() {
            let said = refused(machine, "")?;
            assert!(said.contains("status 3") && said.contains("run again"), "{said}");
            assert_eq!(running(machine, "moves")?, good);
        }
    }

    // Nobody takes the good one away, also when it doesn't run at the moment.
    machine.sh("systemctl stop moves-container")?;
    machine.sh("wharf image prune")?;
    let kept = machine.run(&format!("wharf image remove moves@{good}"))?;
    assert_eq!(kept.code, 1);
    assert!(kept.stderr.contains("last good plan"), "{}", kept.stderr);
    machine.sh("systemctl start moves-container")?;
    assert_eq!(running(machine, "moves")?, good);

    // The image moves on.
    import("trap exit TERM; sleep infinity & wait; : better")?;
    applied(machine, "")?;
    assert_eq!(running(machine, "moves")?, digest("moves:1")?);
    assert_eq!(applied(machine, "")?, "all is as the files say\n");

    // What can't be had is left as it runs.
    let pid = property(machine, "moves", "MainPID")?;
    write(machine, "moves", "image = 'none.invalid/moves:2'\nnetwork = 'none'\n")?;
    let said = refused(machine, "")?;
    assert!(said.contains("moves: not tried: its image can't be had"), "{said}");
    assert_eq!(property(machine, "moves", "MainPID")?, pid);
    machine.sh("systemctl restart moves-container")?;
    assert_eq!(property(machine, "moves", "ActiveState")?, "active");
    gone(machine, &["moves"])?;
    machine.sh("wharf image remove moves:1; wharf image prune").map(drop)?;
    Ok(())
}

fn killed(stage: &mut Stage) -> Told {
    let times = stage.times(6, 60);
    let machine = with(stage, &[&DEBIAN])?;
    declare(machine, "kill", &of("good", STAYS))?;
    machine.sh("systemctl start kill-container")?;
    // Between these and in them are all of its steps.
    for time in 0..times {
        let crashes = time % 2 == 0;
        let command = if crashes { "command = ['/bin/sh', '-c', 'sleep 0.4; exit 1']" } else { STAYS };
        write(machine, "kill", &of(&format!("v{time}"), command))?;
        let after = 0.05 + 1.5 * f64::from(time) / f64::from(times);
        machine.run(&format!("timeout -s KILL {after:.3} wharf apply --settle 1s"))?;
        if crashes {
            serves(machine, "kill", "good")?;
            machine.sh("sleep 1")?;
            assert_eq!(version(machine, "kill")?, "good", "killed after {after:.3} s");
            // And so it is after a restart, which nobody looks at, unless nothing was begun.
            if machine.run("test -e /var/lib/wharf/held/kill.json")?.code == 0 {
                machine.sh("systemctl daemon-reload; systemctl restart kill-container; sleep 1")?;
                assert_eq!(version(machine, "kill")?, "good", "killed after {after:.3} s, restarted");
            }
            write(machine, "kill", &of("good", STAYS))?;
        } else {
            until(machine, "systemctl is-active -q kill-container")?;
            let there = version(machine, "kill")?;
            assert!(there == "good" || there == format!("v{time}"), "{there}, killed after {after:.3} s");
            // The next one goes on.
            applied(machine, "")?;
            assert_eq!(version(machine, "kill")?, format!("v{time}"));
            write(machine, "kill", &of("good", STAYS))?;
        }
        applied(machine, "")?;
        assert_eq!(version(machine, "kill")?, "good");
        assert_eq!(machine.sh("ls /var/lib/wharf/held 2>/dev/null || :")?, "", "after {after:.3} s");
    }

    // Two at once: the second waits and says for whom, or gives up.
    write(machine, "kill", &of("first", STAYS))?;
    let first = machine.start("wharf apply --settle 5s")?;
    until(machine, "ls /var/lib/wharf/held/kill.json 2>/dev/null")?;
    let busy = machine.run("wharf apply --no-wait")?;
    assert_eq!(busy.code, 1);
    assert!(busy.stderr.contains("another `wharf apply` is under way (process "), "{}", busy.stderr);
    let second = apply(machine, "")?;
    assert_eq!(second.code, 0, "{}", second.stderr);
    assert!(second.stderr.contains("waiting for another `wharf apply` (process "), "{}", second.stderr);
    assert_eq!(second.stdout, "all is as the files say\n");
    assert!(first.rest().iter().any(|line| line.starts_with("kill: runs")));
    gone(machine, &["kill"])?;
    Ok(())
}

fn jobs(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let timed = |version: &str| format!("{}\n[timer]\non-calendar = 'yearly'\n", of(version, STAYS));
    let is_up =
        |unit: &str| -> Result<bool> { Ok(machine.run(&format!("systemctl is-active {unit}"))?.code == 0) };
    declare(machine, "turns", &of("1", STAYS))?;
    machine.sh("systemctl start turns-container")?;
    write(machine, "turns", &timed("2"))?;
    let said = applied(machine, "")?;
    assert!(said.contains("restart  turns  it runs as a service, and is a job now; "), "{said}");
    assert!(!is_up("turns-container")? && is_up("turns-container.timer")?, "{said}");
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    assert_eq!(machine.sh("wharf changed")?, "");
    // Its time has come, and is over.
    write(machine, "turns", &timed("3").replace(STAYS, "command = ['/bin/true']"))?;
    machine.sh("systemctl daemon-reload; systemctl start turns-container")?;
    for reload in ["true", "systemctl daemon-reload"] {
        write(machine, "turns", &of("4", STAYS))?;
        machine.sh(reload)?;
        let said = applied(machine, "")?;
        assert!(said.contains("start    turns  it was a job, and is a service now"), "{said}");
        assert!(is_up("turns-container")? && !is_up("turns-container.timer")?, "{said}");
        assert_eq!(applied(machine, "")?, "all is as the files say\n");
        write(machine, "turns", &timed("5").replace(STAYS, "command = ['/bin/true']"))?;
        applied(machine, "")?;
        machine.sh("systemctl start turns-container")?;
    }
    // Somebody's own timer is none of Wharf's business.
    write(machine, "turns", &of("6", STAYS))?;
    applied(machine, "")?;
    machine.write("/etc/systemd/system/turns-container.timer", "[Timer]\nOnCalendar=yearly\n")?;
    machine.sh("systemctl daemon-reload; systemctl start turns-container.timer")?;
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    machine.sh("systemctl stop turns-container.timer; rm /etc/systemd/system/turns-container.timer")?;
    gone(machine, &["turns"])?;
    Ok(())
}

fn renamed(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    declare(machine, "before", &of("1", STAYS))?;
    machine.sh("systemctl start before-container")?;
    machine.sh("rm /etc/wharf/containers/before.toml")?;
    write(machine, "after", &of("2", STAYS).replace("debian:13", "none.invalid/after:1"))?;
    let said = refused(machine, "")?;
    assert!(said.contains("before: not tried: the image of after can't be had"), "{said}");
    assert_eq!(property(machine, "before", "ActiveState")?, "active");
    assert_eq!(property(machine, "before", "KillMode")?, "mixed", "it is stopped as it was to be");
    write(machine, "after", &of("2", STAYS))?;
    applied(machine, "")?;
    assert_ne!(property(machine, "before", "ActiveState")?, "active");
    assert_eq!(version(machine, "after")?, "2");
    gone(machine, &["before", "after"])?;
    Ok(())
}

fn idle(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN, &REDIS])?;
    let of = |port: u16, more: &str| {
        format!(
            "image = 'redis:8'\ncommand = ['/usr/bin/redis-server', '--protected-mode', 'no', '--save', '']\n{more}\
             [socket]\nlisten = ['127.0.0.1:{port}']\nproxy = true\nto = 6379\nidle-stop = '1s'\n"
        )
    };
    let answer = |machine: &Machine, port: u16| {
        machine.run(&format!(
            "exec 9<>/dev/tcp/127.0.0.1/{port} && printf 'PING\\r\\n' >&9 && timeout 30 head -n 1 <&9 | grep -q PONG"
        ))
    };
    write(machine, "cache", &of(6379, ""))?;
    applied(machine, "")?;
    assert_eq!(property(machine, "cache", "ActiveState")?, "inactive");
    // Nothing runs, and what listens isn't where its file says.
    write(machine, "cache", &of(6380, ""))?;
    let said = applied(machine, "")?;
    assert!(said.contains("cache-container.socket is up"), "{said}");
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    assert_ne!(answer(machine, 6379)?.code, 0);
    assert_eq!(answer(machine, 6380)?.code, 0);
    // It ends for want of clients before it was looked at for long enough: that is no failure.
    write(machine, "cache", &of(6380, "init = true\n"))?;
    let client = machine.start("exec 9<>/dev/tcp/127.0.0.1/6380; sleep 30")?;
    until(machine, "systemctl is-active -q cache-container")?;
    let said = machine.run_for("wharf apply --settle 6s", Duration::from_secs(240))?;
    drop(client);
    assert_eq!(said.code, 0, "{} {}", said.stdout, said.stderr);
    assert!(said.stdout.contains("cache: runs"), "{}", said.stdout);
    assert_eq!(marks_left(machine)?, "");
    machine.sh("systemctl stop cache-container.socket cache-container-proxy cache-container")?;
    gone(machine, &["cache"])?;
    Ok(())
}

fn many(stage: &mut Stage) -> Told {
    let (all, changed) = (stage.times(30, 200), stage.times(6, 20));
    let machine = with(stage, &[&DEBIAN])?;
    // In rows of ten, each of which links to the one before.
    let text = "for i in $(seq ALL); do [ $(($i % 10)) = 1 ] && links= || links=\"'m$(($i - 1))'\"; \
         printf \"image = 'debian:13'\\nlinks = [$links]\\nCOMMAND\\n\" >/etc/wharf/containers/m$i.toml; done";
    machine.sh(&text.replace("ALL", &all.to_string()).replace("COMMAND", STAYS))?;
    let started = apply(machine, "")?;
    assert_eq!(started.code, 0, "{} {}", started.stdout, started.stderr);
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    let pids = "for i in $(seq ALL); do echo m$i $(systemctl show -P MainPID m$i-container) \
         $(systemctl show -P ActiveEnterTimestampMonotonic m$i-container); done"
        .replace("ALL", &all.to_string());
    let before = machine.sh(&pids)?;
    // Two in each row, in as many rows as that takes, with others between them.
    let rows = all / 10 * 2 / changed;
    let changes =
        |number: u32| ((number - 1) / 10).is_multiple_of(rows) && [2, 7].contains(&((number - 1) % 10));
    for number in (1..=all).filter(|number| changes(*number)) {
        machine
            .sh(&format!("echo 'environment = {{ A = \"b\" }}' >>/etc/wharf/containers/m{number}.toml"))?;
    }
    let said = applied(machine, "")?;
    let after = machine.sh(&pids)?;
    let mut began = Vec::new();
    for (line, (old, new)) in before.lines().zip(after.lines()).enumerate() {
        let number = u32::try_from(line).unwrap_or_default() + 1;
        assert_eq!(old != new, changes(number), "{old} {new}: {said}");
        if old != new {
            began.push((number, new.split(' ').nth(2).and_then(|time| time.parse::<u64>().ok())));
        }
    }
    assert_eq!(began.len(), changed as usize);
    for pair in began.chunks(2) {
        // In one row, after whom it links to by way of others.
        assert_eq!((pair[0].0 - 1) / 10, (pair[1].0 - 1) / 10, "{pair:?}");
        assert!(pair[0].1 < pair[1].1, "{pair:?}: {said}");
    }
    assert_eq!(applied(machine, "")?, "all is as the files say\n");
    machine.sh(
        "rm /etc/wharf/containers/m*.toml; wharf apply >/dev/null && ! ls /run/wharf/running/m*.json 2>/dev/null; \
         rm -f /run/wharf/last-good/m*.json",
    )?;
    gone(machine, &[])?;
    Ok(())
}
