//! Containers that no file declares: `wharf run`.

use std::io::Cursor;

use super::containers::{DEBIAN, declare, feed, forget, import, property, until, with};
use super::machine::{Machine, Output, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "a container without a file ends as its program", on: On::FastThenFull, tell: programs },
    Story { name: "what runs without a file reads and writes as a pipe does", on: On::Fast, tell: streams },
    Story { name: "what runs without a file has a terminal", on: On::Fast, tell: terminals },
    Story {
        name: "what runs without a file gets signals, and ends with its command",
        on: On::Fast,
        tell: ends,
    },
    Story {
        name: "a container without a file runs in the background",
        on: On::FastThenFull,
        tell: background,
    },
    Story { name: "what can't run without a file says why", on: On::Fast, tell: refusals },
    Story { name: "a file does what the options did", on: On::Fast, tell: as_a_file },
    Story { name: "an older systemd runs what has no file", on: On::Fast, tell: older },
];

/// What there is of containers on the host, which must be as before when they have ended.
const LEFT: &str = "find /run/wharf/transient /run/wharf/running /run/wharf/names /run/wharf/last-good \
                    /var/lib/wharf/leases/ids /var/lib/wharf/leases/addresses -mindepth 1 2>/dev/null | sort; \
                    systemctl list-units --all --no-legend --plain '*-container*' '*-run.scope' | grep -v not-found; \
                    ip -br link | cut -d@ -f1";

/// Waits, in a line of bash, until a program runs.
fn runs(pattern: &str) -> String {
    format!("until pgrep -f '^{pattern}' >/dev/null; do sleep .05; done")
}

fn set_up(stage: &mut Stage) -> Result<(&mut Machine, String)> {
    let machine = with(stage, &[&DEBIAN])?;
    // The first one makes what stays: the bridge, folders.
    machine.sh("wharf run debian:13 true")?;
    // It has ended as its program has, and systemd may still have its unit, and the kernel its interface.
    until(
        machine,
        "[[ -z $(systemctl list-units --all --no-legend --plain 'debian-*-container*' | grep -v not-found) ]] && \
         ! ls /sys/class/net | grep -q ^wharf-",
    )?;
    let before = machine.sh(LEFT)?;
    Ok((machine, before))
}

fn nothing_left(machine: &Machine, before: &str) -> Told {
    machine.write("/tmp/before", format!("{before}\n"))?;
    until(machine, &format!("diff /tmp/before <({LEFT})"))?;
    Ok(())
}

fn programs(stage: &mut Stage) -> Told {
    let (machine, before) = set_up(stage)?;
    for (line, code, said) in [
        ("wharf run debian:13 ls -d --color=never /", 0, "/"),
        ("wharf run debian:13 sh -c 'exit 7'", 7, ""),
        ("wharf run --init debian:13 sh -c 'exit 7'", 7, ""),
        ("wharf run debian:13 bash -c 'trap \"exit 9\" TERM; kill -TERM $$'", 9, ""),
        ("wharf run --init debian:13 sh -c 'kill -TERM $$'", 143, ""),
        ("wharf run --network host debian:13 sh -c 'exit 203'", 203, ""),
        ("wharf run debian:13 frobnicate", 127, ""),
        ("wharf run debian:13 /usr/bin/frobnicate", 127, ""),
        ("wharf run debian:13 /etc/passwd", 126, ""),
        ("wharf run -u nope debian:13 id", 125, ""),
        ("wharf run --type job debian:13 sh -c 'echo done; exit 3'", 3, "done"),
        ("wharf run -u daemon:games -w /etc debian:13 sh -c 'id -un; id -gn; pwd'", 0, "daemon\ngames\n/etc"),
        ("B=c wharf run -e A=b -e B --env D= debian:13 sh -c 'echo $A$B$D.'", 0, "bc."),
        ("wharf run --name tester debian:13 hostname", 0, "tester"),
        ("wharf run debian:13 touch /file 2>/dev/null", 1, ""),
        ("wharf run --ephemeral debian:13 touch /file", 0, ""),
        (
            "wharf run -v kept:/data debian:13 touch /data/file; wharf run -v kept:/data:ro debian:13 ls /data",
            0,
            "file",
        ),
        ("mkdir -p /srv/x; cd /srv; wharf run -v ./x:/x debian:13 touch /x/y; ls /srv/x", 0, "y"),
        ("wharf run --tmpfs /mnt debian:13 sh -c 'touch /mnt/a; findmnt -no FSTYPE /mnt'", 0, "tmpfs"),
        (
            "wharf run --user-namespace=false --network none debian:13 sh -c 'cat /proc/self/uid_map | xargs'",
            0,
            "0 0 4294967295",
        ),
        ("wharf run --health.command true --ready healthy debian:13 sleep 1", 0, ""),
        ("wharf run --systemd.Service Nice=7 debian:13 nice", 0, "7"),
    ] {
        let Output { code: ended, stdout, stderr } = machine.run(line)?;
        assert_eq!((ended, stdout.trim_end()), (code, said), "{line}: {stderr}");
        assert_eq!(stderr.starts_with("error: "), matches!(code, 125..=127), "{line}: {stderr}");
    }
    let Output { stderr, .. } = machine.run("wharf run debian:13 frobnicate")?;
    assert!(stderr.starts_with("error: the program frobnicate is in no folder of PATH"), "{stderr}");
    // Whatever ends it is said.
    let late =
        machine.run("wharf run --runtime 1s --stop.timeout 1 debian:13 sh -c 'trap \"\" TERM; sleep 60'")?;
    assert!(late.code == 137 && late.stderr.contains("it took too long"), "{late:?}");
    machine.sh("rm -r /srv/x; rm -rf /var/lib/wharf/volumes/kept")?;
    nothing_left(machine, &before)
}

fn streams(stage: &mut Stage) -> Told {
    let (machine, before) = set_up(stage)?;
    assert_eq!(feed(machine, "wharf run debian:13 tr a-z A-Z", Cursor::new("hello"))?, "HELLO");
    // Every byte, both ways, and the end of the input is the program's.
    let same = "head -c 20000000 /dev/urandom >/tmp/bytes; wharf run debian:13 cat </tmp/bytes | cmp - /tmp/bytes; \
                cat /tmp/bytes | wharf run --init debian:13 cat | cmp - /tmp/bytes";
    assert_eq!(machine.sh(same)?, "");
    // Each stream by itself, and none of it in the journal.
    let apart = machine.run("wharf run --name apart debian:13 sh -c 'echo out; echo err >&2; exit 4'")?;
    assert_eq!((apart.code, apart.stdout.as_str(), apart.stderr.as_str()), (4, "out\n", "err\n"));
    // There it has its last words only.
    assert_eq!(
        machine.sh("journalctl --sync; journalctl -q -o cat SYSLOG_IDENTIFIER=apart")?,
        "apart: its program ended with status 4"
    );
    // Who reads no more ends the one who writes; who has read all is at the end when the program is.
    assert_eq!(machine.sh("wharf run debian:13 yes 2>/dev/null | head -n 1 || :")?, "y");
    assert_eq!(machine.sh("wharf run debian:13 echo a | wharf run debian:13 sed s/a/b/")?, "b");
    let none = machine.run("wharf run debian:13 ls </")?;
    assert!(none.code == 125 && none.stderr.contains("standard input is a folder of the host"), "{none:?}");
    machine.sh("rm /tmp/bytes")?;
    nothing_left(machine, &before)
}

/// Runs a line as on a terminal: script(1) makes one. What is written to /tmp/keys is typed on it.
fn typing(machine: &Machine, line: &str, meanwhile: &str) -> Result<Output> {
    machine.write("/tmp/line", format!("tty >/tmp/tty\n{line}\n"))?;
    // Opened for reading and writing, a fifo never ends.
    machine.run(&format!(
        "rm -f /tmp/keys /tmp/tty; mkfifo /tmp/keys; until [[ -s /tmp/tty ]]; do sleep .05; done && {{ {meanwhile}; }} & \
         script -qec 'bash /tmp/line' /dev/null 0<>/tmp/keys; ended=$?; wait $!; exit $ended"
    ))
}

fn terminals(stage: &mut Stage) -> Told {
    let (machine, before) = set_up(stage)?;
    for (line, code, said) in [
        ("wharf run debian:13 tty", 0, "/dev/pts/0\n"),
        ("wharf run -it --rm debian:13 tty", 0, "/dev/pts/0\n"),
        (
            "wharf run --init -u www-data debian:13 sh -c 'stat -c %U:%G $(tty); echo yes >$(tty)'",
            0,
            "www-data:tty\nyes\n",
        ),
        (
            "stty rows 33 cols 77; TERM=vt220 wharf run debian:13 sh -c 'stty size; echo $TERM; exit 7'",
            7,
            "33 77\nvt220\n",
        ),
        ("TERM=vt220 wharf run -e TERM=dumb debian:13 sh -c 'echo $TERM'", 0, "dumb\n"),
        ("wharf run -T debian:13 tty", 1, "not a tty\n"),
        ("wharf run --no-tty debian:13 cat", 0, ""),
        ("wharf run debian:13 tty </dev/null", 1, "not a tty\n"),
        ("wharf run --tty debian:13 tty </dev/null | cat", 0, "/dev/pts/0\n"),
        (
            "wharf run debian:13 sh -c 'echo out; echo err >&2' 2>/tmp/err; echo; cat /tmp/err",
            0,
            "out\n\nerr\n",
        ),
        ("stty -g >/tmp/a; wharf run debian:13 sh -c 'stty raw; exit 3'; stty -g | cmp - /tmp/a", 0, ""),
    ] {
        let Output { code: ended, stdout, stderr } = typing(machine, line, ":")?;
        assert_eq!((ended, stdout.replace('\r', "").as_str()), (code, said), "{line}: {stderr}");
    }
    let missing = typing(machine, "wharf run debian:13 frobnicate; echo $?; stty -a | grep -o .icanon", ":")?;
    assert!(missing.stdout.starts_with("error: the program frobnicate is in no folder"), "{missing:?}");
    assert!(missing.stdout.contains("\n127\r\n icanon"), "{missing:?}");
    // A shell with job control, and ^C for what it runs.
    let typed = typing(
        machine,
        "wharf run debian:13 bash --norc",
        &format!(
            "echo 'sleep 161' >/tmp/keys; {}; printf '\\003' >/tmp/keys; echo 'echo $((6 * 7)); exit 9' >/tmp/keys",
            runs("sleep 161")
        ),
    )?;
    assert_eq!(typed.code, 9, "{typed:?}");
    assert!(typed.stdout.contains("\n42\r\n") && !typed.stdout.contains("no job control"), "{typed:?}");
    let sized = typing(
        machine,
        // stty(1) sets one after the other. A signal that comes just before bash's `wait` doesn't end that.
        "stty rows 10 cols 20; wharf run debian:13 bash -c \
         'trap \"case \\$(stty size) in *100) stty size; exit 4; esac\" WINCH; sleep 163 & while sleep 0.1; do :; done'",
        &format!("{}; stty -F $(cat /tmp/tty) rows 40 cols 100", runs("sleep 163")),
    )?;
    assert_eq!((sized.code, sized.stdout.as_str()), (4, "40 100\r\n"), "{sized:?}");
    nothing_left(machine, &before)
}

fn ends(stage: &mut Stage) -> Told {
    let (machine, before) = set_up(stage)?;
    // A program that handles nothing, as process 1: it would hear of none of these.
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("QUIT", 131)] {
        let line = format!(
            "set -m; wharf run --stop.timeout 2s debian:13 sleep 165 & {}; kill -{signal} $!; wait $!",
            runs("sleep 165")
        );
        let ended = machine.run(&line)?;
        assert_eq!(ended.code, code, "{signal}: {ended:?}");
    }
    // Below an init, which has it from there.
    let line =
        format!("wharf run --init debian:13 sleep 166 & {}; kill -TERM $!; wait $!", runs("sleep 166"));
    assert_eq!(machine.run(&line)?.code, 143);
    let trapped = machine.run(
        "wharf run debian:13 bash -c 'trap \"echo got it; exit 3\" USR1; trap \"echo asked\" TERM; echo ready; \
         while :; do sleep .05; done' >/tmp/said & until grep -q ready /tmp/said; do sleep .05; done; \
         kill -TERM $!; until grep -q asked /tmp/said; do sleep .05; done; kill -USR1 $!; wait $!",
    )?;
    assert_eq!(trapped.code, 3, "{trapped:?}");
    assert_eq!(machine.sh("cat /tmp/said")?, "ready\nasked\ngot it");
    // Stopped by systemd, it is the program's own end.
    let stopped = machine.run(&format!(
        "wharf run --name stopped debian:13 bash -c 'trap \"exit 5\" TERM; sleep 167 & wait' & {}; \
         systemctl stop stopped-container; wait $!",
        runs("sleep 167")
    ))?;
    assert_eq!(stopped.code, 5, "{stopped:?}");
    // Killed, the command takes the container along, which is asked first.
    machine.sh(&format!(
        "wharf run --name orphan -v said:/said debian:13 bash -c 'trap \"echo asked >/said/it; exit\" TERM; sleep 168 & wait' & \
         {}; kill -9 $!; wait $! || :",
        runs("sleep 168")
    ))?;
    until(machine, "! pgrep -f '^sleep 168' >/dev/null && grep -q asked /var/lib/wharf/volumes/said/it")?;
    // On a terminal as well.
    machine.sh(&format!(
        "setsid script -qec 'wharf run --stop.timeout 2s debian:13 sleep 169' /dev/null </dev/zero >/dev/null & {}; kill -9 $!",
        runs("sleep 169")
    ))?;
    until(machine, "! pgrep -f '^sleep 169' >/dev/null")?;
    // A reload of systemd is nothing to it.
    let reloaded = machine.run(&format!(
        "wharf run debian:13 sh -c 'sleep 3; exit 6' & {}; systemctl daemon-reload; systemctl daemon-reexec; wait $!",
        runs("sleep 3")
    ))?;
    assert_eq!(reloaded.code, 6, "{reloaded:?}");
    machine.sh("rm -rf /var/lib/wharf/volumes/said")?;
    nothing_left(machine, &before)
}

fn background(stage: &mut Stage) -> Told {
    let (machine, before) = set_up(stage)?;
    let name = machine.sh("wharf run -d debian:13")?;
    assert!(name.starts_with("debian-") && name.len() == 12, "{name}");
    machine.sh(&format!("systemctl is-active -q {name}-container && systemctl stop {name}-container"))?;
    nothing_left(machine, &before)?;

    let said = machine
        .sh("wharf run -d --name web -p 8099:80 -m 64M --env COLOUR=blue --description 'For once' \
         --stop.timeout 5s debian:13")?;
    assert_eq!(said, "web");
    assert_eq!(machine.sh("wharf exec web sh -c 'echo $COLOUR; hostname'")?, "blue\nweb");
    let listed = machine.sh("wharf ps")?;
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("web ") && line.contains("debian:13") && !line.contains('[')),
        "{listed}"
    );
    let row = machine.sh("wharf ps --json | grep -A24 '\"name\": \"web\"' | tr -d ' \\n'")?;
    let words = ["\"state\":\"active\"", "\"problem\":null", "\"ports\":[\"8099:80/tcp\""];
    assert!(words.iter().all(|word| row.contains(word)), "{row}");
    let inspected = machine.sh("wharf inspect web")?;
    assert!(
        inspected.contains("/run/wharf/transient/web/web.toml") && inspected.contains("8099:80"),
        "{inspected}"
    );
    assert_eq!(machine.sh("wharf changed")?, machine.sh("wharf changed web")?);
    for (key, value) in [
        ("Description", "For once"),
        ("Transient", "yes"),
        ("Slice", "wharf.slice"),
        ("Restart", "no"),
        ("TimeoutStopUSec", "5s"),
        ("CollectMode", "inactive-or-failed"),
        ("OOMPolicy", "stop"),
        ("KillMode", "mixed"),
        ("MemoryMax", "67108864"),
    ] {
        assert_eq!(property(machine, "web", key)?, value, "{key}");
    }
    // Nobody can read what is for the program alone.
    assert_eq!(
        machine.sh(
            "stat -c '%a %U' /run/wharf/transient/web; stat -c %a /run/wharf/transient/web/* | sort -u"
        )?,
        "700 root\n600"
    );
    let second = machine.run("wharf run --name web debian:13 true")?;
    assert_eq!(second.code, 125);
    assert!(
        second.stderr.contains("--name web: systemd has a unit web-container.service already"),
        "{}",
        second.stderr
    );
    // The image that it runs is in use, and a reload takes nothing from it.
    machine.sh("systemctl daemon-reload; wharf image prune >/dev/null; wharf exec web true; systemctl restart web-container")?;
    assert_eq!(machine.sh("wharf exec web sh -c 'echo $COLOUR'")?, "blue");
    machine.sh("systemctl stop web-container")?;
    nothing_left(machine, &before)?;

    // It waits until the container is ready, and says when it can't be.
    let ready = "wharf run -d --name ready --ready healthy --health.command 'test -e /tmp/ok' --health.interval 1s debian:13 \
                 sh -c 'sleep 2; touch /tmp/ok; exec sleep 200'";
    assert_eq!(machine.sh(ready)?, "ready");
    assert_eq!(property(machine, "ready", "StatusText")?, "Health: healthy");
    machine.sh("systemctl stop ready-container")?;
    let failed = machine.run("wharf run -d --name unready --ready notify debian:13 false")?;
    assert!(failed.code == 125 && failed.stderr.contains("unready did not start"), "{failed:?}");
    let failed = machine.run("wharf run -d debian:13 frobnicate")?;
    assert!(failed.code == 127 && failed.stdout.is_empty(), "{failed:?}");
    // One that is restarted keeps its plan for that.
    machine.sh("wharf run -d --name reborn --restart always debian:13 sh -c 'sleep 1; exit 1'")?;
    until(machine, "(( $(systemctl show -P NRestarts reborn-container) > 1 ))")?;
    machine.sh("systemctl stop reborn-container")?;
    nothing_left(machine, &before)?;
    // Of its restarts there was as much to know, and as little is left.
    machine.sh("! ls /run/wharf/restarts | grep -E '^(web|ready|unready|reborn)\\.json$'")?;

    // What doesn't come up isn't started again when nobody has its name, whatever its restart says.
    let always = "wharf run -d --name always --restart always --stop.timeout 1";
    let failed = machine.run(&format!("{always} debian:13 frobnicate"))?;
    assert!(failed.code == 127 && failed.stdout.is_empty(), "{failed:?}");
    nothing_left(machine, &before)?;
    let failed = machine.run(&format!("{always} --ready notify debian:13 false"))?;
    assert!(failed.code == 125 && failed.stderr.contains("always did not start"), "{failed:?}");
    nothing_left(machine, &before)?;
    // Nor does it run on when its command is asked to end before that.
    let asked = machine.run(&format!(
        "{always} --ready notify debian:13 sleep 171 & {}; kill -TERM $!; wait $!",
        runs("sleep 171")
    ))?;
    assert_eq!((asked.code, asked.stdout.as_str()), (143, ""), "{asked:?}");
    nothing_left(machine, &before)?;
    // A name is free as soon as its last command has ended.
    let twice = machine.run("for i in {1..20}; do wharf run --name twice debian:13 true || exit 1; done")?;
    assert_eq!(twice.code, 0, "{twice:?}");
    nothing_left(machine, &before)
}

fn refusals(stage: &mut Stage) -> Told {
    let (machine, before) = set_up(stage)?;
    declare(machine, "declared", "image = 'debian:13'\nnetwork = 'none'\nautostart = false\n")?;
    for (line, words) in [
        (
            "wharf run --name declared debian:13",
            "/etc/wharf/containers/declared.toml declares a container of this name",
        ),
        ("wharf run debain:13", "image debain:13 is not in the store (it has debian:13)"),
        ("wharf run --pull never registry.invalid/x:1", "wharf image pull registry.invalid/x:1"),
        ("wharf run registry.invalid/x:1", "can't fetch registry.invalid/x:1"),
        ("wharf run --rootfs /srv/none -- true", "the rootfs /srv/none is not there"),
        (
            "wharf run --limits.memory 64Q debian:13",
            "error: --limits.memory 64Q: `memory`: `64Q` is not an amount",
        ),
        ("wharf run --links nobody debian:13", "error: --links nobody: no container `nobody` is declared"),
        ("wharf run --restart always debian:13", "add --detach"),
        (
            "wharf run --systemd.Service CPUSchedulingPolicy=fifo debian:13",
            "CPUSchedulingPolicy= of [Service] can't be given",
        ),
        ("wharf run --systemd.Service User=me debian:13", "error: --systemd.Service User=me: "),
        (
            "wharf run -p 8098:80 --name one -d debian:13 >/dev/null; wharf run -p 8098:80 debian:13",
            "taken by the container one",
        ),
        ("setpriv --reuid 1 --clear-groups wharf run debian:13", "error: "),
    ] {
        let Output { code, stdout, stderr } = machine.run(line)?;
        assert_eq!((code, stdout.as_str()), (125, ""), "{line}: {stderr}");
        assert!(stderr.contains(words), "{line}: {stderr}");
    }
    machine.sh("systemctl stop one-container")?;
    forget(machine, &["declared"])?;
    nothing_left(machine, &before)
}

fn older(stage: &mut Stage) -> Told {
    let machine = Machine::boot(stage.kind(), &Recipe::older())?;
    install_wharf(&machine)?;
    import(&machine, &DEBIAN)?;
    machine.sh("wharf run debian:13 true")?;
    let before = machine.sh(LEFT)?;
    assert_eq!(machine.run("wharf run -m 64M --stop.signal INT debian:13 sh -c 'exit 7'")?.code, 7);
    assert_eq!(machine.run("wharf run debian:13 frobnicate")?.code, 127);
    assert_eq!(feed(&machine, "wharf run debian:13 tr a-z A-Z", Cursor::new("hello"))?, "HELLO");
    machine.sh(&format!(
        "wharf run --stop.timeout 2s debian:13 sleep 170 & {}; kill -9 $!",
        runs("sleep 170")
    ))?;
    until(&machine, "! pgrep -f '^sleep 170' >/dev/null")?;
    machine.sh("wharf run -d --name web --restart always debian:13 && wharf exec web true && systemctl stop web-container")?;
    // This systemd leaves the folder of one that is stopped while it waits for its restart; who comes next doesn't.
    machine.sh(
        "wharf run -d --name again --restart always --systemd.Service RestartSec=5s debian:13 sh -c 'sleep 1; exit 1'; \
         until [[ $(systemctl show -P SubState again-container) == auto-restart ]]; do sleep .05; done; \
         systemctl stop again-container",
    )?;
    machine.sh("wharf run debian:13 true; test ! -e /run/wharf/transient/again")?;
    nothing_left(&machine, &before)
}

fn as_a_file(stage: &mut Stage) -> Told {
    let (machine, before) = set_up(stage)?;
    let options = "--name twin --description 'a \"b\" \\c' -e A='x y' -v data:/data -p 8097:80 --limits.tasks 50 \
                   --limits.memory 50% --stop.signal INT --stop.timeout 3s --systemd.Service Nice=3";
    machine.sh(&format!(
        "wharf run --toml {options} debian:13 sh -c 'sleep 200' >/etc/wharf/containers/twin.toml"
    ))?;
    assert_eq!(machine.sh("wharf check twin")?, "1 container checked: nothing to say");
    let shown = "systemctl show twin-container | grep -vE '^(\
        (Active|Inactive|State|Watchdog|Exec|Condition|Assert|InvocationID|MainPID|Job|CPU|Memory|Tasks|IO|IP|Control|\
        FragmentPath|SourcePath|UnitFile|Id|Names|CollectMode|RuntimeDirectory|Transient|Perpetual|Refs|NFileDesc|\
        Effective|EffectiveMem|Slice=|DropIn|Drop)[A-Za-z]*|Requires|After|StatusText|NotifyAccess|CanClean|RequiresMountsFor|Wants)=' | sort; \
        systemctl show -P MemoryMax,TasksMax,CPUWeight,IOWeight twin-container";
    machine.sh("systemctl daemon-reload; systemctl start twin-container")?;
    let of_file = machine.sh(shown)?;
    // But for where it was written, and the addresses.
    let record =
        "perl -pe 's/\"source\":\"[^\"]*\"//; s/\"(ids|attachment)\".*//' /run/wharf/running/twin.json";
    let recorded = machine.sh(record)?;
    machine
        .sh("systemctl stop twin-container; rm /etc/wharf/containers/twin.toml; systemctl daemon-reload")?;
    machine.sh(&format!("wharf run -d {options} debian:13 sh -c 'sleep 200'"))?;
    assert_eq!(machine.sh(record)?, recorded);
    let transient = machine.sh(shown)?;
    let other: Vec<&str> =
        transient.lines().filter(|line| !of_file.lines().any(|other| other == *line)).collect();
    assert!(other.is_empty() && transient.lines().count() == of_file.lines().count(), "{other:?}");
    machine.sh(
        "systemctl stop twin-container; rm -rf /var/lib/wharf/volumes/data /run/wharf/last-good/twin.json \
                /var/lib/wharf/leases/*/twin",
    )?;
    nothing_left(machine, &before)
}
