//! Programs that speak to systemd themselves, how running ones read their configuration anew, and which should.

use super::containers::{APP, DEBIAN, declare, feed, forget, import, log, open, property, until, with};
use super::machine::{Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story {
        name: "a program says itself when it is ready, how it is, and that it lives",
        on: On::Fast,
        tell: says,
    },
    Story {
        name: "a program keeps descriptors with systemd, and asks it for time",
        on: On::Fast,
        tell: keeps,
    },
    Story { name: "a reload waits and tells the truth", on: On::Fast, tell: reloads },
    Story { name: "what runs and is not what its files say is listed", on: On::Fast, tell: changed },
    Story {
        name: "Debian 12's systemd hears programs and reloads them, too",
        on: On::FastIfAll,
        tell: older,
    },
];

/// Ready when `/srv/go` is there; says the first line of `/srv/said` as its status at each SIGHUP, as sd_notify(3) has
/// a reload, after two seconds where `/srv/slow` is there, and never where `/srv/silent` is; lets go of its watchdog when `/srv/hang` is there.
const PROGRAM: &str = r#"
use IO::Socket::UNIX; use Socket;
sub say_ { my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET}) or die "no socket: $!";
    $s->send(join("\n", @_)) or die "can't send: $!"; }
sub said { open(my $f, "<", "/srv/said") or return "nothing"; my $l = <$f>; chomp $l; $l }
my $hup = 0; $SIG{HUP} = sub { $hup = 1 }; $SIG{TERM} = sub { exit 0 };
say_("STATUS=getting ready");
select(undef, undef, undef, 0.05) until -e "/srv/go";
if (my $child = fork) { waitpid $child, 0 } else { say_("STATUS=a child speaks"); exit 0 }
select(undef, undef, undef, 0.2);
say_("READY=1", "STATUS=serves " . said());
print "watchdog $ENV{WATCHDOG_USEC}\n"; $| = 1; STDOUT->flush();
while (1) {
    if ($hup) {
        $hup = 0; next if -e "/srv/silent";
        select(undef, undef, undef, -e "/srv/slow" ? 2 : 0.05);
        open(my $f, "<", "/proc/uptime"); my ($up) = split / /, <$f>;
        say_("RELOADING=1", "MONOTONIC_USEC=" . int($up * 1e6));
        select(undef, undef, undef, 1);
        say_("READY=1", "STATUS=serves " . said());
    }
    say_("WATCHDOG=1") unless -e "/srv/hang";
    select(undef, undef, undef, 0.2);
}
"#;

/// A container of that program, with its folder from the host.
fn program(machine: &Machine, name: &str, more: &str) -> Result<()> {
    machine.sh("mkdir -p /srv/speaks && rm -f /srv/speaks/*")?;
    machine.write("/srv/speaks/program", PROGRAM)?;
    let text = format!(
        "image = 'debian:13'\nnetwork = 'none'\nautostart = false\nready = 'notify'\n\
         command = ['/usr/bin/perl', '/srv/program']\n{more}\n\
         [mounts]\n'/srv' = {{ bind = '/srv/speaks' }}\n"
    );
    declare(machine, name, &text)
}

fn show(machine: &Machine, name: &str, property: &str) -> Result<String> {
    Ok(machine.sh(&format!("systemctl show -P {property} {name}-container"))?.trim().to_owned())
}

/// The same with systemd 252, which knows less of reloads.
fn older(stage: &mut Stage) -> Told {
    let machine = &Machine::boot(stage.kind(), &Recipe::older())?;
    assert!(machine.sh("systemctl --version")?.starts_with("systemd 252 "));
    install_wharf(machine)?;
    import(machine, &DEBIAN)?;
    spoken(machine)?;
    kept(machine)?;
    reloaded(machine, false)
}

fn says(stage: &mut Stage) -> Told {
    spoken(with(stage, &[&DEBIAN])?)
}

fn spoken(machine: &Machine) -> Told {
    program(machine, "speaks", "[systemd.Service]\nWatchdogSec = '2s'\n")?;
    declare(
        machine,
        "waits",
        "image = 'debian:13'\nautostart = false\nnetwork = 'none'\nlinks = []\n\
         [systemd.Unit]\nWants = 'speaks-container.service'\nAfter = 'speaks-container.service'\n",
    )?;
    machine.sh("systemctl start --no-block waits-container && sleep 1")?;
    assert_eq!(show(machine, "speaks", "ActiveState")?, "activating");
    assert_eq!(show(machine, "speaks", "StatusText")?, "getting ready");
    assert_eq!(show(machine, "waits", "ActiveState")?, "inactive", "it waits");
    machine.sh("echo first >/srv/speaks/said; touch /srv/speaks/go; systemctl start waits-container")?;
    assert_eq!(show(machine, "speaks", "ActiveState")?, "active");
    assert_eq!(show(machine, "speaks", "StatusText")?, "serves first", "a child has no say");
    assert!(log(machine, "speaks")?.contains("watchdog 2000000"), "it knows of the watchdog");

    // It feeds its watchdog, and then it doesn't.
    machine.sh("sleep 3")?;
    assert_eq!(show(machine, "speaks", "NRestarts")?, "0");
    machine.sh(
        "touch /srv/speaks/hang; for i in $(seq 100); do \
         [ $(systemctl show -P NRestarts speaks-container) != 0 ] && break; sleep 0.1; done; rm /srv/speaks/hang",
    )?;
    assert_ne!(show(machine, "speaks", "NRestarts")?, "0");
    let said = machine.sh("journalctl --no-pager -o cat -u speaks-container")?;
    assert!(said.contains("Watchdog timeout"), "{said}");
    machine.sh("systemctl start speaks-container")?;

    // One that isn't process 1 has no say. It stays a moment: systemd can't tell whose word it was of who is gone already.
    let other = "wharf exec speaks perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Type => SOCK_DGRAM, \
                 Peer => \"/run/host/notify\")->send(\"STATUS=another speaks\"); select undef, undef, undef, 0.5'";
    machine.sh(other)?;
    assert_eq!(show(machine, "speaks", "StatusText")?, "serves first");

    // Any process may, where that is asked for; below an init it must be so.
    for more in ["notify-access = 'all'", "init = true"] {
        machine.sh("systemctl stop speaks-container")?;
        program(machine, "speaks", more)?;
        machine.sh("touch /srv/speaks/go; systemctl start speaks-container")?;
        assert_eq!(show(machine, "speaks", "StatusText")?, "serves nothing", "{more}");
        assert_eq!(show(machine, "speaks", "NotifyAccess")?, "all", "{more}");
        machine.sh(other)?;
        assert_eq!(show(machine, "speaks", "StatusText")?, "another speaks", "{more}");
    }
    // The host's socket and nothing beside it.
    assert_eq!(machine.sh("wharf exec speaks ls /run/host")?, "notify");
    let own = machine.sh("wharf exec speaks sh -c 'echo ${NOTIFY_SOCKET:-none}'")?;
    assert_eq!(own, "none", "what enters doesn't speak for the container");
    forget(machine, &["speaks", "waits"])?;
    Ok(())
}

/// Leaves a descriptor with systemd, or reads what an earlier run has left; takes longer to start and to stop than it may
/// without asking.
const KEEPER: &str = r#"
import os, signal, socket, sys, time
def tell(*lines, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.connect(os.environ["NOTIFY_SOCKET"])
        socket.send_fds(systemd, ["\n".join(lines).encode()], list(fds))
def stop(*_):
    tell("STOPPING=1", "EXTEND_TIMEOUT_USEC=30000000")
    time.sleep(4)
    print("flushed", flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
tell("EXTEND_TIMEOUT_USEC=30000000")
time.sleep(5)
handed = dict(zip(os.environ.get("LISTEN_FDNAMES", "").split(":"), range(3, 3 + int(os.environ.get("LISTEN_FDS", 0)))))
assert int(os.environ["LISTEN_PID"]) == os.getpid()
port = socket.socket(fileno=handed["http"]).getsockname()[1]
if "state" in handed:
    text = os.pread(handed["state"], 100, 0).decode()
else:
    fd = os.memfd_create("state")
    os.write(fd, b"what was known")
    tell("FDSTORE=1", "FDNAME=state", fds=[fd])
    text = "nothing"
print(" ".join(sorted(handed)), "at", port, "with", text, flush=True)
tell("READY=1")
while True:
    time.sleep(100)
"#;

fn keeps(stage: &mut Stage) -> Told {
    kept(with(stage, &[])?)
}

fn kept(machine: &Machine) -> Told {
    // What it is to be stopped by only the image says.
    feed(machine, "wharf image import --name keeper:1 --stop-signal SIGINT -", open(&(APP.recipe)())?)?;
    machine.write("/srv/keeper/keeper.py", KEEPER)?;
    for init in ["", "init = true\n"] {
        declare(
            machine,
            "keeper",
            &format!(
                "image = 'keeper:1'\nnetwork = 'none'\nautostart = false\nready = 'notify'\n{init}\
                 command = ['python3', '/srv/keeper.py']\nstop.timeout = '2s'\n\
                 [mounts]\n'/srv' = {{ bind = '/srv/keeper' }}\n\
                 [socket]\nlisten = ['127.0.0.1:7117']\nnames = ['http']\n\
                 [systemd.Service]\nTimeoutStartSec = '4s'\n"
            ),
        )?;
        machine.sh("systemctl start keeper-container")?;
        assert_eq!(log(machine, "keeper")?, "http at 7117 with nothing", "{init}");
        assert_eq!(property(machine, "keeper", "NFileDescriptorStore")?, "1");
        // A restart is one run after the other, and what it has asked for is waited for.
        machine.sh("systemctl restart keeper-container")?;
        assert_eq!(log(machine, "keeper")?, "http state at 7117 with what was known", "{init}");
        // It fails, and finds it again.
        machine.sh("systemctl kill --signal=KILL keeper-container")?;
        until(
            machine,
            "[[ $(systemctl show -P NRestarts keeper-container) == 1 ]] && systemctl is-active -q keeper-container",
        )?;
        let said = machine.sh("journalctl --sync; journalctl -b -q -o cat SYSLOG_IDENTIFIER=keeper")?;
        assert!(said.ends_with("http state at 7117 with what was known"), "{said}");
        assert_eq!(said.matches("flushed").count(), 1, "{said}");
        // A stop is the end of it.
        machine.sh("systemctl stop keeper-container")?;
        assert_eq!(property(machine, "keeper", "Result")?, "success");
        let said = machine.sh("journalctl --sync; journalctl -b -q -o cat SYSLOG_IDENTIFIER=keeper")?;
        assert_eq!(said.matches("flushed").count(), 2, "{said}");
        assert_eq!(property(machine, "keeper", "NFileDescriptorStore")?, "0");
        machine
            .sh("systemctl stop keeper-container.socket; journalctl --rotate; journalctl --vacuum-time=1s")?;
    }
    forget(machine, &["keeper"])?;
    machine.sh("rm -r /srv/keeper; wharf image remove keeper:1").map(drop)?;
    Ok(())
}

fn reloads(stage: &mut Stage) -> Told {
    reloaded(with(stage, &[&DEBIAN])?, true)
}

/// `hears` is whether systemd itself waits for the program's word, however late, as it does from 253 on.
fn reloaded(machine: &Machine, hears: bool) -> Told {
    // One that says when it is done.
    program(machine, "speaks", "[reload]\nsignal = 'SIGHUP'\n")?;
    machine.sh("touch /srv/speaks/go; echo first >/srv/speaks/said; systemctl start speaks-container")?;
    machine.sh("echo second >/srv/speaks/said; systemctl reload speaks-container")?;
    assert_eq!(show(machine, "speaks", "StatusText")?, "serves second", "the reload has waited");

    // Below an init, too; and there one that doesn't handle the signal is not ended by it.
    program(machine, "speaks", "init = true\n[reload]\nsignal = 'SIGHUP'\n")?;
    machine.sh("touch /srv/speaks/go; systemctl restart speaks-container")?;
    machine.sh("echo third >/srv/speaks/said; systemctl reload speaks-container")?;
    assert_eq!(show(machine, "speaks", "StatusText")?, "serves third", "the reload has waited");
    machine.sh("touch /srv/speaks/slow; echo fourth >/srv/speaks/said; systemctl reload speaks-container")?;
    if !hears {
        until(machine, "[[ $(systemctl show -P StatusText speaks-container) == 'serves fourth' ]]")?;
    }
    assert_eq!(
        show(machine, "speaks", "StatusText")?,
        "serves fourth",
        "however late it says that it begins"
    );
    // Without a word there is no success.
    for (silent, signal) in [(true, "SIGHUP"), (false, "SIGUSR1")] {
        let own =
            format!("init = true\nreload.signal = '{signal}'\nsystemd.Service.TimeoutStartSec = '8s'\n");
        program(machine, "speaks", &own)?;
        machine.sh("touch /srv/speaks/go; systemctl restart speaks-container")?;
        machine.sh(if silent { "touch /srv/speaks/silent" } else { "true" })?;
        let reload = machine.run("systemctl reload speaks-container")?;
        // Without a word for a second it counts as done there.
        assert_eq!(reload.code == 0, silent && !hears, "{signal}: {}", reload.stderr);
        assert_eq!(show(machine, "speaks", "ActiveState")?, "active");
        assert_eq!(show(machine, "speaks", "NRestarts")?, "0", "it was left alone");
    }
    let said = log(machine, "speaks")?;
    assert!(said.contains("the program doesn't handle SIGUSR1, so it was sent nothing"), "{said}");

    // One that doesn't: by a signal that it handles, as process 1, below an init and below one that checks.
    let shell = "trap 'echo reloaded' HUP; trap exit TERM; while :; do sleep 0.1; done";
    let checked = "health = { command = ['true'], interval = '1s' }\n";
    for (name, more) in [("signal", ""), ("signal-init", "init = true\n"), ("signal-health", checked)] {
        let text = format!(
            "image = 'debian:13'\nnetwork = 'none'\nautostart = false\n{more}\
             command = [\"/bin/bash\", \"-c\", \"{shell}\"]\n[reload]\nsignal = 'HUP'\n"
        );
        declare(machine, name, &text)?;
        machine.sh(&format!("systemctl start {name}-container && sleep 0.5"))?;
        let reload = machine.run(&format!("systemctl reload {name}-container"))?;
        assert_eq!(reload.code, 0, "{name}: {}", log(machine, name)?);
        machine.sh("sleep 0.5")?;
        let said = log(machine, name)?;
        assert!(said.contains("reloaded"), "{name}: {said}");
        // And by one that it doesn't handle.
        declare(machine, name, &text.replace("'HUP'", "'USR1'"))?;
        let main = show(machine, name, "MainPID")?;
        assert_ne!(machine.run(&format!("systemctl reload {name}-container"))?.code, 0, "{name}");
        let said = log(machine, name)?;
        assert!(
            said.contains("the program doesn't handle SIGUSR1, so it was sent nothing"),
            "{name}: {said}"
        );
        assert_eq!(show(machine, name, "ActiveState")?, "active");
        assert_eq!(show(machine, name, "MainPID")?, main, "it was left alone");
        // What is process 1 was decided at the start, whatever the file says by now.
        let other = if more.is_empty() { format!("init = true\n{text}") } else { text.replace(more, "") };
        declare(machine, name, &other)?;
        machine.sh(&format!("systemctl reload {name}-container && sleep 0.5"))?;
        assert_eq!(log(machine, name)?.matches("reloaded").count(), 2, "{name}");
    }

    // By a command, whose status is the reload's.
    let text = "image = 'debian:13'\nnetwork = 'none'\nautostart = false\nroot = 'ephemeral'\n\
                [reload]\ncommand = ['/bin/sh', '-c', 'echo reloads as $(id -u) in $(hostname); exit $(cat /tmp/code)']\n";
    declare(machine, "command", text)?;
    machine.sh("systemctl start command-container && wharf exec command sh -c 'echo 0 >/tmp/code'")?;
    let reload = machine.run("systemctl reload command-container")?;
    let said = log(machine, "command")?;
    assert_eq!(reload.code, 0, "{said}");
    assert!(said.contains("reloads as 0 in command"), "{said}");
    machine.sh("wharf exec command sh -c 'echo 7 >/tmp/code'")?;
    assert_ne!(machine.run("systemctl reload command-container")?.code, 0);
    assert_eq!(show(machine, "command", "ActiveState")?, "active", "a reload that failed stops nothing");
    let said = machine.sh("journalctl --no-pager -o cat -u command-container")?;
    assert!(said.contains("status=7"), "{said}");

    // Without [reload] there is no such thing.
    declare(machine, "command", "image = 'debian:13'\nnetwork = 'none'\nautostart = false\n")?;
    let refused = machine.run("systemctl reload command-container")?;
    assert!(refused.code != 0 && refused.stderr.contains("not applicable"), "{}", refused.stderr);
    forget(machine, &["speaks", "signal", "signal-init", "signal-health", "command"])?;
    Ok(())
}

/// Four containers, of which one stays as it is.
fn changed(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let text = "image = 'moves:1'\nnetwork = 'none'\nautostart = false\n";
    machine.sh("wharf image tag debian:13 moves:1")?;
    let names = ["same", "edited", "goes", "broken"];
    for name in names {
        let text = if name == "edited" { text.to_owned() } else { text.replace("moves:1", "debian:13") };
        declare(machine, name, &text)?;
        machine.sh(&format!("systemctl start {name}-container"))?;
    }
    assert_eq!(machine.sh("wharf changed")?, "", "nothing has changed");
    assert_eq!(machine.sh("wharf changed --json")?.trim(), "[]");

    // Before a reload, too: what counts is what the files say.
    machine
        .write("/etc/wharf/containers/edited.toml", format!("{text}init = true\n[stop]\ntimeout = '5s'\n"))?;
    machine.sh("rm /etc/wharf/containers/goes.toml")?;
    machine.write("/etc/wharf/containers/broken.toml", "image = 'debian:13'\ninitt = true\n")?;
    machine.sh("tar -C /etc -cf - issue | wharf image import --name moves:1 --command /bin/true -")?;
    let shown = machine.sh("wharf changed")?;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(lines[0].starts_with("broken  /etc/wharf/containers/broken.toml has mistakes"), "{shown}");
    assert!(lines[1].starts_with("edited  init, stop; moves:1 is sha256:"), "{shown}");
    assert!(lines[2].starts_with("goes    no file declares it any more"), "{shown}");
    assert_eq!(machine.sh("wharf changed same")?, "");
    assert_eq!(machine.run("wharf changed nobody")?.code, 1);

    // What ended has nothing to change.
    machine.sh("systemctl stop goes-container edited-container")?;
    let units = machine.sh("wharf changed --json | grep '\"unit\"'")?;
    assert_eq!(units.trim(), "\"unit\": \"broken-container.service\",");
    declare(machine, "goes", text)?;
    forget(machine, &names)?;
    machine.sh("wharf image remove moves:1").map(drop)?;
    Ok(())
}
