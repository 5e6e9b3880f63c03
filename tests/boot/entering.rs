//! One more program in a running container: `wharf exec` and `wharf shell`.

use std::io::Cursor;
use std::time::Duration;

use super::containers::{DEBIAN, declare, feed, forget, property, until, with};
use super::machine::{Machine, Output, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "a program enters a container and ends as itself", on: On::FastThenFull, tell: programs },
    Story { name: "what can't be entered says why", on: On::Fast, tell: refusals },
    Story { name: "what enters is held as the first process is", on: On::Fast, tell: held },
    Story { name: "what enters reads and writes at full speed", on: On::Fast, tell: streams },
    Story { name: "what enters has a terminal of its own", on: On::Fast, tell: terminals },
    Story { name: "what enters gets signals, and ends with its command", on: On::Fast, tell: ends },
    Story { name: "what enters can't be looked into on its way", on: On::Fast, tell: hidden },
    Story { name: "the containers that were entered go", on: On::FastThenFull, tell: leave },
];

/// Their own user namespace or the host's, their own network or the host's, a program or an init as process 1,
/// root and another user.
const CONTAINERS: [(&str, &str); 3] = [
    (
        "guest",
        "network = 'none'\nenvironment.COLOUR = 'blue'\nworking-directory = '/var/lib'\nlimits.open-files = 4242",
    ),
    ("kin", "network = 'host'\nuser-namespace = false\nroot = 'ephemeral'"),
    ("lodger", "network = 'none'\ninit = true\nuser = 'www-data'"),
];

/// The containers, running; whichever story comes first sets them up.
fn set_up(stage: &mut Stage) -> Result<&mut Machine> {
    let machine = with(stage, &[&DEBIAN])?;
    for (name, text) in CONTAINERS {
        let active = machine.run(&format!("systemctl is-active -q {name}-container"))?;
        if active.code != 0 {
            declare(machine, name, &format!("image = 'debian:13'\nautostart = false\n{text}\n"))?;
            machine.sh(&format!("systemctl start {name}-container"))?;
        }
    }
    Ok(machine)
}

fn leave(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    let names = CONTAINERS.map(|(name, _)| name);
    forget(machine, &names)?;
    // What a reload has started, the look at the network's state, may take a moment.
    until(machine, "! pgrep -l wharf-")?;
    Ok(())
}

fn programs(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    for (line, code, said) in [
        ("wharf exec guest ls -d --color=never /", 0, "/"),
        ("wharf exec guest -- ls -d /", 0, "/"),
        ("wharf exec guest sh -c 'exit 7'", 7, ""),
        ("wharf exec guest sh -c 'kill -TERM $$'", 143, ""),
        ("wharf exec guest sh -c 'kill -KILL $$'", 137, ""),
        ("wharf exec guest frobnicate", 127, ""),
        ("wharf exec guest /usr/bin/frobnicate", 127, ""),
        ("wharf exec guest /etc/passwd", 126, ""),
        ("wharf exec guest /etc", 126, ""),
        ("wharf exec guest id -un", 0, "root"),
        ("wharf exec lodger id -un", 0, "www-data"),
        ("wharf exec --user daemon guest id -un", 0, "daemon"),
        ("wharf exec --user root lodger id -un", 0, "root"),
        ("wharf exec --user daemon:games guest id -gn", 0, "games"),
        ("wharf exec --user 4242:7 guest sh -c 'id -u; id -g; id -G'", 0, "4242\n7\n7"),
        ("wharf exec guest sh -c 'echo $COLOUR $HOME; pwd; umask'", 0, "blue /root\n/var/lib\n0022"),
        ("wharf exec --user daemon guest sh -c 'echo $HOME'", 0, "/usr/sbin"),
        ("wharf exec -e COLOUR=red -e A='b c=d' guest sh -c 'echo $COLOUR, $A'", 0, "red, b c=d"),
        ("SECRET=x wharf exec guest sh -c 'echo $SECRET$TERM'", 0, ""),
        ("wharf exec -w /etc guest pwd", 0, "/etc"),
        ("wharf exec guest touch /file 2>/dev/null", 1, ""),
        ("wharf exec kin touch /file", 0, ""),
        ("wharf exec kin sh -c 'cat /proc/1/comm; ls /file'", 0, "bash\n/file"),
        ("echo 'id -un; echo $0; exit 9' | wharf shell guest", 9, "root\n/bin/bash"),
        // The entry of www-data says nologin.
        ("echo 'id -un; echo $0' | wharf shell lodger", 0, "www-data\n/bin/bash"),
        ("wharf exec guest printf '%s|' '' 'a  b' $'\\xff' | od -An -tx1", 0, " 7c 61 20 20 62 7c ff 7c"),
    ] {
        let Output { code: ended, stdout, stderr } = machine.run(line)?;
        assert_eq!((ended, stdout.trim_end()), (code, said), "{line}: {stderr}");
        assert_eq!(stderr.starts_with("error: "), matches!(code, 126 | 127), "{line}: {stderr}");
    }
    // A container's own shell is taken if it is there, and none is no riddle.
    machine
        .sh("wharf exec kin sh -c 'cp /bin/dash /opt/own; echo own:x:1234:1234::/:/opt/own >>/etc/passwd'")?;
    assert_eq!(machine.sh("echo 'echo $0' | wharf shell --user own kin")?, "/opt/own");
    machine.sh("wharf exec kin rm /opt/own /bin/sh /bin/bash")?;
    let Output { code, stderr, .. } = machine.run("wharf shell kin")?;
    assert_eq!(code, 127);
    assert!(stderr.contains("the image has no shell: neither /bin/bash nor /bin/sh"), "{stderr}");
    machine.sh("systemctl restart kin-container")?;
    Ok(())
}

fn refusals(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    declare(machine, "idle", "image = 'debian:13'\nnetwork = 'none'\nautostart = false\n")?;
    for (line, words) in [
        ("wharf exec guets ls", "no container `guets` is declared; did you mean `guest`?"),
        ("wharf exec idle ls", "idle is not running; start it: systemctl start idle-container"),
        ("wharf exec --user nope guest ls", "user nope is not in the image's /etc/passwd"),
        ("wharf exec --user 65536 guest ls", "out of range"),
        ("wharf exec -w /not-there guest ls", "can't change to the working directory /not-there"),
        ("wharf exec guest ls </", "standard input is a folder of the host"),
        ("wharf exec guest ls 2>&1 3</ >&3", "standard output is a folder of the host"),
        ("setpriv --reuid 1 --clear-groups wharf exec guest ls", "only root"),
        (
            "/usr/libexec/wharf/wharf-executor enter guest $(systemctl show -P MainPID guest-container) -- ls",
            "could be written to",
        ),
    ] {
        let Output { code, stdout, stderr } = machine.run(line)?;
        assert_eq!(code, 125, "{line}: {stdout}{stderr}");
        assert!(format!("{stdout}{stderr}").contains(words), "{line}: {stdout}{stderr}");
    }
    // The plan counts that was started, and not the one that is read since.
    declare(machine, "idle", "image = 'debian:13'\nnetwork = 'none'\nuser = 'daemon'\nautostart = false\n")?;
    machine.sh("systemctl start idle-container")?;
    declare(machine, "idle", "image = 'debian:13'\nnetwork = 'none'\nuser = 'games'\nautostart = false\n")?;
    assert_eq!(machine.sh("wharf exec idle id -un")?, "daemon");
    machine.sh("systemctl restart idle-container")?;
    assert_eq!(machine.sh("wharf exec idle id -un")?, "games");
    // An id that systemd has given away names nobody's container.
    let enter = "unshare -m bash -c 'mount --bind -o ro /usr/libexec/wharf /usr/libexec/wharf && \
                 exec /usr/libexec/wharf/wharf-executor enter guest $0 -- id'";
    for (pid, words) in [
        ("$$".to_owned(), "guest is still being started"),
        ("1".to_owned(), "guest is still being started"),
        (property(machine, "idle", "MainPID")?, "guest is still being started"),
        ("4194304".to_owned(), "guest has just ended"),
    ] {
        let Output { code, stdout, stderr } = machine.run(&format!("{enter} {pid}"))?;
        assert_eq!((code, stdout.as_str()), (125, ""), "{pid}: {stderr}");
        assert!(stderr.contains(words), "{pid}: {stderr}");
    }
    forget(machine, &["idle"])?;
    Ok(())
}

/// What is the same for the first process and for one that enters.
const HELD: &str = r"
for of in self 1; do
    grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups)' /proc/$of/status
    grep ^0:: /proc/$of/cgroup
    cat /proc/$of/oom_score_adj
    # In one user namespace these are the same numbers.
    sed 1d /proc/$of/limits
    echo =
done
ls /proc/self/fd | wc -l
readlink /proc/self/cwd
";

fn held(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    for (name, _) in CONTAINERS {
        let said = feed(
            machine,
            // With a descriptor of the host's that must not get in.
            &format!("choom -n 500 -- prlimit --nofile=2000: wharf exec -w / {name} sh 5</etc"),
            Cursor::new(HELD),
        )?;
        let parts: Vec<&str> = said.split("=\n").collect();
        let [entered, first, rest] = parts[..] else { panic!("three parts: {said}") };
        // Another user namespace shows the first process of an unlike user as nobody's; it must not be one.
        assert_eq!(entered, first, "{name}");
        assert!(entered.contains("NoNewPrivs:\t1\n") && entered.contains("Seccomp:\t2\n"), "{entered}");
        assert!(entered.contains("0::/payload\n"), "{entered}");
        // Three, and the one of the folder that ls reads.
        assert_eq!(rest.trim_end(), "4\n/", "{name}");
    }
    assert!(machine.sh("wharf exec guest sh -c 'ulimit -n'")? == "4242");
    // As the host sees it: in the same namespaces, among the container's processes, and so within its limits.
    for (name, _) in CONTAINERS {
        let seen = machine.run(&format!(
            "wharf exec {name} sleep 61 & {}; \
             for pid in $(systemctl show -P MainPID {name}-container) $(pgrep -f '^sleep 61'); do \
             for namespace in cgroup ipc mnt net pid user uts; do readlink /proc/$pid/ns/$namespace; done; \
             grep ^0:: /proc/$pid/cgroup; readlink /proc/$pid/root; echo =; done; kill $!; wait",
            runs("sleep 61")
        ))?;
        let parts: Vec<&str> = seen.stdout.split("=\n").collect();
        assert_eq!((parts.len(), parts[0]), (3, parts[1]), "{name}: {seen:?}");
        assert!(parts[0].contains(&format!("/{name}-container.service/payload\n")), "{seen:?}");
        assert_eq!(parts[0].lines().count(), 9, "{seen:?}");
    }
    // Nothing of the caller's login is in reach.
    let keys = machine.sh("wharf exec kin cat /proc/keys")?;
    assert_eq!(keys, "", "the list of keys is hidden");
    Ok(())
}

fn streams(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    const GIGABYTE: &str = "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14";
    let sum =
        machine.run_for("wharf exec guest head -c 1G /dev/zero | sha256sum", Duration::from_secs(110))?;
    assert_eq!(sum.stdout.split_whitespace().next(), Some(GIGABYTE), "{sum:?}");
    let sum =
        machine.run_for("head -c 1G /dev/zero | wharf exec guest sha256sum", Duration::from_secs(110))?;
    assert_eq!(sum.stdout.split_whitespace().next(), Some(GIGABYTE), "{sum:?}");
    assert_eq!(machine.sh("printf 'a\\nb' | wharf exec guest cat")?, "a\nb");
    assert_eq!(machine.sh("wharf exec guest sh -c 'echo out; echo err >&2' 2>/dev/null")?, "out");
    // Whoever reads less ends it, as without Wharf.
    assert_eq!(machine.sh("set +o pipefail; wharf exec guest yes | head -n 2")?, "y\ny");
    // A pseudo-terminal has buffers; what the program wrote last is in them when it ends.
    for _ in 0..stage.times(5, 50) {
        let machine = stage.machine()?;
        let said = on_terminal(machine, "wharf exec guest seq 100000")?;
        assert!(said.stdout.replace('\r', "").lines().eq((1..=100_000).map(|n| n.to_string())), "all lines");
    }
    Ok(())
}

/// Runs a line as on a terminal: script(1) makes one. What is written to /tmp/keys is typed on it.
fn on_terminal(machine: &Machine, line: &str) -> Result<Output> {
    typing(machine, line, ":")
}

fn typing(machine: &Machine, line: &str, meanwhile: &str) -> Result<Output> {
    machine.write("/tmp/line", format!("tty >/tmp/tty\n{line}\n"))?;
    // Opened for reading and writing, a fifo never ends.
    machine.run(&format!(
        "rm -f /tmp/keys /tmp/tty; mkfifo /tmp/keys; until [[ -s /tmp/tty ]]; do sleep .05; done && {{ {meanwhile}; }} & \
         script -qec 'bash /tmp/line' /dev/null 0<>/tmp/keys; ended=$?; wait $!; exit $ended"
    ))
}

/// Waits, in a line of bash, until a program runs.
fn runs(pattern: &str) -> String {
    format!("until pgrep -f '^{pattern}' >/dev/null; do sleep .05; done")
}

fn terminals(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    for (line, code, said) in [
        ("wharf exec guest tty", 0, "/dev/pts/0\n"),
        ("wharf exec kin tty", 0, "/dev/pts/0\n"),
        ("wharf exec lodger sh -c 'stat -c %U:%G $(tty); echo yes >$(tty)'", 0, "www-data:tty\nyes\n"),
        ("wharf exec guest sh -c 'exit 7'", 7, ""),
        ("wharf exec guest sh -c 'kill -QUIT $$'", 131, ""),
        (
            "stty rows 33 cols 77; TERM=vt220 wharf exec guest sh -c 'stty size; echo $TERM'",
            0,
            "33 77\nvt220\n",
        ),
        ("TERM=vt220 wharf exec --env TERM=dumb guest sh -c 'echo $TERM'", 0, "dumb\n"),
        ("wharf exec --no-terminal guest tty", 1, "not a tty\n"),
        ("wharf exec guest tty | cat; wharf exec guest tty </dev/null", 1, "not a tty\nnot a tty\n"),
        ("wharf exec --terminal guest tty </dev/null | cat", 0, "/dev/pts/0\n"),
        // Standard error that goes elsewhere goes there.
        ("wharf exec guest sh -c 'echo out; echo err >&2' 2>/tmp/err; echo; cat /tmp/err", 0, "out\n\nerr\n"),
        // The terminal is as it was, after a good end and a bad one.
        ("stty -g >/tmp/a; wharf exec guest true; stty -g | cmp - /tmp/a", 0, ""),
        ("stty -g >/tmp/a; wharf exec guest sh -c 'stty raw; kill -9 $$'; stty -g | cmp - /tmp/a", 0, ""),
        // A program may close its terminal and open it again.
        ("wharf exec guest sh -c 'exec <&- >&- 2>&-; sleep .2; exec >/dev/tty; echo back'", 0, "back\n"),
    ] {
        let Output { code: ended, stdout, stderr } = on_terminal(machine, line)?;
        assert_eq!((ended, stdout.replace('\r', "").as_str()), (code, said), "{line}: {stderr}");
    }
    let missing = on_terminal(machine, "wharf exec guest frobnicate; echo $?; stty -a | grep -o .icanon")?;
    assert!(missing.stdout.starts_with("error: the program frobnicate is in no folder"), "{missing:?}");
    assert!(missing.stdout.contains("\n127\r\n icanon"), "{missing:?}");

    let stopped = typing(
        machine,
        "wharf exec guest sleep 62",
        &format!("{}; printf '\\003' >/tmp/keys", runs("sleep 62")),
    )?;
    assert_eq!(stopped.code, 130, "^C is for the program: {stopped:?}");
    let typed = typing(machine, "wharf shell guest", "echo 'echo $((6 * 7)); exit 9' >/tmp/keys")?;
    assert_eq!(typed.code, 9);
    assert!(typed.stdout.contains("\n42\r\n"), "{typed:?}");
    // Not before it runs: the outer terminal would have taken ^D for the end of its own input.
    let keys = format!("{}; printf 'line\\n\\004' >/tmp/keys", runs("cat -$"));
    let ended = typing(machine, "wharf exec guest cat -", &keys)?;
    assert_eq!((ended.code, ended.stdout.ends_with("line\r\n")), (0, true), "^D ends its input: {ended:?}");
    // Rows and columns change one after the other.
    let sized = typing(
        machine,
        "stty rows 10 cols 20; wharf exec guest bash -c 'trap \"[[ \\$(stty size) == *20 ]] || { stty size; exit 4; }\" WINCH; sleep 63 & while :; do wait; done'",
        &format!("{}; stty -F $(cat /tmp/tty) rows 40 cols 100", runs("sleep 63")),
    )?;
    assert_eq!((sized.code, sized.stdout.as_str()), (4, "40 100\r\n"), "{sized:?}");
    machine.sh("pkill -f '^sleep 63' || :")?;
    // With another terminal gone, so is what ran on it.
    let left = machine.run(&format!(
        "setsid script -qec 'wharf exec guest sleep 64' /dev/null </dev/zero >/dev/null & {}; kill -9 $!; \
         i=0; while pgrep -f '^sleep 64' >/dev/null; do sleep .1; ((++i < 100)) || exit 1; done",
        runs("sleep 64")
    ))?;
    assert_eq!(left.code, 0, "{left:?}");
    Ok(())
}

fn ends(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    for (name, _) in CONTAINERS {
        let line = format!("wharf exec {name} sleep 65 & {}; kill $!; wait $!", runs("sleep 65"));
        assert_eq!(machine.run(&line)?.code, 143, "{name}");
    }
    let trapped = machine.run(
        "wharf exec guest bash -c 'trap \"echo got it; exit 3\" USR1; echo ready >/tmp/ready; while :; do sleep .05; done' & \
         until wharf exec guest test -e /tmp/ready; do sleep .05; done; kill -USR1 $!; wait $!",
    )?;
    assert_eq!((trapped.code, trapped.stdout.as_str()), (3, "got it\n"));
    // Killed, it takes its program along: whoever that runs as, and below its own terminal all that it started.
    for how in ["guest", "kin", "lodger", "--user daemon guest"] {
        machine.sh(&format!("wharf exec {how} sleep 66 & {}; kill -9 $!", runs("sleep 66")))?;
        until(machine, "! pgrep -f '^sleep 66' >/dev/null")?;
    }
    typing(
        machine,
        "wharf exec guest sh -c 'sleep 67; :'; :",
        &format!("{}; pkill -9 wharf-exec", runs("sleep 67")),
    )?;
    until(machine, "! pgrep -f '^(sh -c )?sleep 67'")?;
    // The container's end is the end of all that entered.
    let stopped = machine.run(&format!(
        "wharf exec lodger sleep 68 & {}; systemctl stop lodger-container; wait $!",
        runs("sleep 68")
    ))?;
    assert_eq!(stopped.code, 137);
    assert_eq!(property(machine, "lodger", "Result")?, "success");
    machine.sh("systemctl start lodger-container")?;
    // Also where `wharf exec` itself has been stopped, as by ^Z.
    machine.sh(&format!(
        "wharf exec lodger sleep 69 & {}; kill -STOP $!; timeout 8 systemctl stop lodger-container; kill -CONT $!; wait $! || :",
        runs("sleep 69")
    ))?;
    assert_eq!(property(machine, "lodger", "Result")?, "success");
    machine.sh("systemctl start lodger-container")?;
    // ^C is for all that was started, and what the caller ignores stays ignored.
    let line = format!(
        "wharf exec guest bash -c 'sleep 70 | sleep 71' & {}; kill -INT $!; wait $!",
        runs("sleep 71")
    );
    assert_eq!(machine.run(&format!("set -m; {line}"))?.code, 130);
    until(machine, "! pgrep -f '^sleep 7[01]'")?;
    let line = format!(
        "nohup wharf exec guest sleep 2 >/dev/null 2>&1 & {}; kill -HUP $!; wait $!",
        runs("sleep 2")
    );
    assert_eq!(machine.run(&line)?.code, 0);
    Ok(())
}

/// Stops every process that appears, before it can become a program, and tries to look into it.
const LOOK: &str = r#"
my %known; $known{$_} = 1 for map { m{(\d+)$} } glob "/proc/[0-9]*";
my $until = time + 8;
sub is_stopped { open(my $stat, "<", "/proc/$_[0]/stat") or return 1; (<$stat> // ") X ") =~ /\) [TtZX] / }
while (time < $until) {
    for my $pid (1 .. 400) {
        next if $known{$pid} or !kill "STOP", $pid;
        $known{$pid} = 1;
        # It may become a program, which anybody may look into, before it really stops.
        1 while !is_stopped($pid) and time < $until;
        open(my $comm, "<", "/proc/$pid/comm") or next;
        if (<$comm> eq "wharf-exec\n") {
            print "caught\n";
            print "exe ", readlink("/proc/$pid/exe"), "\n" if defined readlink("/proc/$pid/exe");
            print "fd\n" if opendir my $fds, "/proc/$pid/fd" and grep { defined readlink "/proc/$pid/fd/$_" } readdir $fds;
            print "mem\n" if open my $mem, "<", "/proc/$pid/mem";
            print "root\n" if defined readlink "/proc/$pid/root";
            print "environ\n" if open(my $environ, "<", "/proc/$pid/environ") and <$environ>;
        }
        kill "CONT", $pid;
    }
}
"#;

fn hidden(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    // As the host's own root, without a user namespace between them.
    feed(machine, "wharf exec kin sh -c 'cat >/opt/look'", Cursor::new(LOOK))?;
    let seen = machine.sh(
        "wharf exec kin perl /opt/look & until pgrep -f '^perl /opt/look' >/dev/null; do sleep .05; done; sleep 1; \
         while pgrep -f '^perl /opt/look' >/dev/null; do timeout 2 wharf exec kin true; done; wait",
    )?;
    let (caught, looked): (Vec<&str>, Vec<&str>) = seen.lines().partition(|line| *line == "caught");
    assert!(!caught.is_empty(), "some were stopped on their way");
    assert!(looked.is_empty(), "{} were stopped, and this was seen: {looked:?}", caught.len());

    // A script that has the executor's own file as its interpreter (CVE-2019-5736). Its loader fills a pipe that
    // nobody reads, and so it stays; that file is then within reach of the host's root, and can't be written.
    machine.sh("wharf exec kin sh -c 'printf \"#!/proc/self/exe\\n\" >/opt/trap; chmod +x /opt/trap'")?;
    // A program that runs can't be written anyhow: this one is held until it doesn't.
    feed(
        machine,
        "wharf exec kin sh -c 'cat >/opt/write'",
        Cursor::new(
            "for at in /proc/[0-9]*; do [[ $(tr '\\0' ' ' <$at/cmdline) != /proc/self/exe* ]] || break; done\n\
             exec 8<$at/exe; >/tmp/held; while [[ -e $at/exe ]]; do sleep .1; done; sleep 1\n\
             echo written >>/proc/self/fd/8\n",
        ),
    )?;
    let before = machine.sh("sha256sum /usr/libexec/wharf/wharf-executor")?;
    // The small init is that file, too.
    machine.sh("systemctl stop lodger-container")?;
    let said = machine.sh(&format!(
        "mkfifo /tmp/full; exec 9<>/tmp/full; wharf exec --env LD_DEBUG=all kin /opt/trap 2>&9 & \
         {}; wharf exec kin sh -c 'bash /opt/write >/tmp/said 2>&1 &'; \
         root=/proc/$(systemctl show -P MainPID kin-container)/root; \
         until [[ -e $root/tmp/held ]]; do sleep .05; done; kill -9 $!; \
         until [[ -s $root/tmp/said ]]; do sleep .05; done; rm /tmp/full; cat $root/tmp/said",
        runs("/proc/self/exe /opt/trap")
    ))?;
    assert!(said.ends_with("/proc/self/fd/8: Read-only file system"), "{said}");
    assert_eq!(machine.sh("sha256sum /usr/libexec/wharf/wharf-executor")?, before);
    Ok(())
}
