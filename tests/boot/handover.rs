//! What is left of Wharf while a container runs, and when its start is cut off: nothing.

use super::containers::{DEBIAN, declare, forget, log, property, until, with};
use super::machine::{Machine, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "nothing of Wharf's runs beside a container", on: On::Fast, tell: nothing_beside },
    Story { name: "a program that ends at once has its exact status", on: On::Fast, tell: at_once },
    Story { name: "an init stays where one is asked for", on: On::Fast, tell: init },
    Story { name: "an executor killed after any step leaves nothing in the way", on: On::Fast, tell: killed },
];

/// Every process that runs a program of Wharf's, in any cgroup.
const OURS: &str = "for exe in /proc/[0-9]*/exe; do \
    case $(readlink $exe) in */wharf*|*memfd*) echo $exe $(cat ${exe%exe}comm);; esac; done 2>/dev/null || :";

fn nothing_beside(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let file = "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\n\
                command = ['/bin/bash', '-c', 'trap \"exit 42\" USR1; while :; do read -t 1 <> <(:); done']\n";
    declare(machine, "alone", file)?;
    machine.sh("systemctl start alone-container")?;
    let pid = property(machine, "alone", "MainPID")?;
    let check = |machine: &Machine| -> Result<()> {
        assert_eq!(machine.sh(&format!("ps -o ppid= -p {pid} | tr -d ' '"))?, "1");
        assert_eq!(machine.sh(&format!("cat /proc/{pid}/comm"))?, "bash");
        // A reload has the network looked at, which takes a moment and ends.
        until(machine, &format!("test -z \"$({OURS})\""))?;
        let group =
            machine.sh("cat /sys/fs/cgroup/wharf.slice/alone-container.service/{,payload/}cgroup.procs")?;
        assert_eq!(group, pid, "the unit's only process is the container's");
        Ok(())
    };
    check(machine)?;
    // No descriptor but the three that a program expects, and the shell's own.
    let fds = machine
        .sh(&format!("find /proc/{pid}/fd -type l -lname '*wharf*' -o -lname '/run/*' -o -lname 'anon*'"))?;
    assert_eq!(fds, "");
    machine.sh("systemctl daemon-reexec && systemctl daemon-reload")?;
    assert_eq!(property(machine, "alone", "MainPID")?, pid);
    check(machine)?;
    machine.sh(&format!("kill -USR1 {pid}"))?;
    until(machine, "systemctl is-failed -q alone-container")?;
    assert_eq!(property(machine, "alone", "ExecMainStatus")?, "42");
    assert_eq!(property(machine, "alone", "Result")?, "exit-code");
    forget(machine, &["alone"])?;
    Ok(())
}

fn at_once(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    // On a busy machine, where the executor may not be the next to run.
    let run_a_dozen = "for hog in 1 2 3 4; do timeout 40 yes >/dev/null & done; \
        for i in $(seq 12); do systemctl start brief-container; echo $?; \
            while [[ $(systemctl show -P ActiveState brief-container) =~ ^(activ|deactiv) ]]; do :; done; \
            systemctl show -P ExecMainStatus -P Result brief-container; \
            systemctl reset-failed brief-container 2>/dev/null; done | paste - - - | sort | uniq -c; kill %1 %2 %3 %4";
    for (status, expected) in [(7, "12 0\texit-code\t7"), (0, "12 0\tsuccess\t0")] {
        let command = format!("command = ['/bin/sh', '-c', 'exit {status}']\n");
        declare(
            machine,
            "brief",
            &format!("image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\n{command}"),
        )?;
        assert_eq!(machine.run(run_a_dozen)?.stdout.trim(), expected);
    }
    forget(machine, &["brief"])?;
    Ok(())
}

fn init(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    // A grandchild whose parent ends, and a program that doesn't wait for children.
    let script = "(sleep 0.2 & sleep 0.1 &); (sleep 0.3 &); exec sleep infinity";
    let file = |init: bool| {
        format!(
            "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\ninit = {init}\n\
             command = ['/bin/sh', '-c', '{script}']\nstop.timeout = '2s'\n"
        )
    };
    declare(machine, "parent", &file(true))?;
    machine.sh("systemctl start parent-container; sleep 1")?;
    let pid = property(machine, "parent", "MainPID")?;
    assert_eq!(machine.sh(&format!("cat /proc/{pid}/comm"))?, "wharf-init");
    // It holds nothing that the executor held, or no image could be removed for as long as it lives.
    machine.sh("timeout 20 flock --exclusive /var/lib/wharf/usage true")?;
    let processes = "xargs -a /sys/fs/cgroup/wharf.slice/parent-container.service/payload/cgroup.procs \
                     ps -o stat=,comm= -p | sort";
    let there = machine.sh(processes)?;
    assert!(!there.contains("defunct") && !there.lines().any(|line| line.starts_with('Z')), "{there}");
    assert_eq!(there.lines().count(), 2, "the init and its program: {there}");
    machine.sh("systemctl stop parent-container")?;
    assert_eq!(property(machine, "parent", "Result")?, "success", "SIGTERM ends a program below an init");
    assert_eq!(property(machine, "parent", "ActiveState")?, "inactive");

    // The same without: the dead stay, the signal is dropped, and the journal says what to do.
    declare(machine, "parent", &file(false))?;
    machine.sh("systemctl start parent-container; sleep 1")?;
    let zombies = machine.sh("ps -eo stat= | grep -c ^Z || :")?;
    assert_ne!(zombies, "0", "without an init nobody reaps");
    machine.sh("systemctl stop parent-container")?;
    assert_eq!(property(machine, "parent", "Result")?, "timeout");
    let said = machine.sh("journalctl --sync; journalctl -q -o cat -u parent-container -n 20")?;
    assert!(said.contains("init = true") && said.contains("stop timeout"), "{said}");
    forget(machine, &["parent"])?;

    // An init ends as its program does.
    declare(
        machine,
        "parent",
        "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\ninit = true\ncommand = ['/bin/sh', '-c', 'echo said; exit 5']\n",
    )?;
    machine.sh("systemctl start parent-container")?;
    until(machine, "systemctl is-failed -q parent-container")?;
    assert_eq!(property(machine, "parent", "ExecMainStatus")?, "5");
    assert_eq!(log(machine, "parent")?.lines().next(), Some("said"));
    forget(machine, &["parent"])?;
    Ok(())
}

/// What could be left: mounts, cgroups, processes, and files of Wharf's.
const LEFT: &str = "cut -d' ' -f5 /proc/self/mountinfo; find /sys/fs/cgroup/wharf.slice -type d 2>/dev/null; \
    grep -l victim-container /proc/[0-9]*/cgroup 2>/dev/null; lsns -n -o TYPE,COMMAND | grep -E 'wharf|sleep|bash -c trap'; \
    find /run/wharf /var/lib/wharf/leases /var/lib/wharf/volumes /var/lib/wharf/incoming; ";

fn killed(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh("mkdir -p /srv/victim")?;
    declare(
        machine,
        "victim",
        "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\n\
         [mounts]\n'/a/bind' = { bind = '/srv/victim' }\n'/var/log' = { volume = 'victim' }\n'/cache' = { tmpfs = '1M' }\n\
         [systemd.Service]\nTimeoutStartSec = '8s'\n",
    )?;
    let left = format!(
        "systemctl stop victim-container; systemctl reset-failed victim-container 2>/dev/null; {LEFT} :"
    );
    machine.sh("systemctl start victim-container")?;
    let running = machine.sh(&format!("{LEFT} :"))?;
    assert!(
        running.contains("payload") && running.lines().any(|line| line.starts_with("/proc/")),
        "{running}"
    );
    let clean = machine.sh(&left)?;
    let mut steps = 0;
    loop {
        steps += 1;
        // As on the first start of all: no lease, no volume.
        machine.sh(&format!(
            "rm -rf /var/lib/wharf/volumes/victim /var/lib/wharf/leases/ids/victim /run/wharf/last-good/victim.json; \
             systemctl set-environment WHARF_KILL_AFTER={steps}"
        ))?;
        let started = machine.run("systemctl start victim-container")?;
        machine.sh("systemctl unset-environment WHARF_KILL_AFTER")?;
        if started.code != 0 {
            assert_eq!(property(machine, "victim", "ActiveState")?, "failed");
        }
        // What stays of a failed start is no more than what stays of one that went well.
        let after = machine.sh(&format!("{LEFT} :"))?;
        let more: Vec<&str> =
            after.lines().filter(|line| !clean.lines().any(|known| known == *line)).collect();
        assert!(started.code == 0 || more.is_empty(), "killed after step {steps}: {more:?}");
        machine
            .sh("systemctl reset-failed victim-container 2>/dev/null; systemctl restart victim-container")?;
        assert_eq!(property(machine, "victim", "ActiveState")?, "active", "after step {steps}");
        assert_eq!(machine.sh(&left)?, clean, "killed after step {steps}, then started and stopped");
        if started.code == 0 {
            break;
        }
    }
    println!("    killed after each of {steps} steps");
    assert!(steps > 15, "the executor takes more than {steps} steps: does it still count them?");
    forget(machine, &["victim"])?;
    machine.sh("rm -rf /srv/victim /var/lib/wharf/volumes/victim")?;
    Ok(())
}
