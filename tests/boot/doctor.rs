//! What `wharf doctor` says of machines on which all is well, and of such on which something was broken on purpose.

use std::time::{Duration, Instant};

use super::containers::{DEBIAN, declare, forget, until, with};
use super::machine::{Kind, Machine, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "the doctor finds nothing wrong", on: On::FastThenFull, tell: well },
    Story { name: "the doctor names what was broken", on: On::Fast, tell: broken },
    Story { name: "the doctor waits for nothing that hangs", on: On::Fast, tell: hanging },
    Story { name: "the doctor's report has no secret in it", on: On::Fast, tell: report },
];

/// One line of the doctor's.
#[derive(Debug)]
struct Line {
    topic: String,
    state: String,
    message: String,
}

/// What it says, and how it ends.
fn doctor(machine: &Machine) -> Result<(i32, Vec<Line>)> {
    let output = machine.run("wharf doctor --json")?;
    let said: serde_json::Value = serde_json::from_str(&output.stdout)
        .map_err(|error| std::io::Error::other(format!("{error}: {}{}", output.stdout, output.stderr)))
        .or_else(|error| super::machine::Context::context(Err(error), || "read what wharf doctor says"))?;
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = said["checks"].as_array().into_iter().flatten().map(|line| Line {
        topic: text(line, "topic"),
        state: text(line, "state"),
        message: text(line, "message"),
    });
    Ok((output.code, lines.collect()))
}

const QUIET: &str = "image = 'debian:13'\nautostart = false\nrestart = 'no'\nstop.timeout = 1\n";

/// What a fast machine lacks, which is a container of its host's.
fn is_of_the_machine(kind: Kind, line: &Line) -> bool {
    kind == Kind::Fast && line.topic == "cgroups"
}

/// Test machines have no name servers, which is something to say. What they have instead comes back with the second.
const NAMED: &str =
    "mv /etc/resolv.conf /root/resolv.before 2>/dev/null; echo nameserver 192.0.2.53 >/etc/resolv.conf";
const UNNAMED: &str = "rm /etc/resolv.conf; [[ ! -L /root/resolv.before && ! -e /root/resolv.before ]] || mv /root/resolv.before /etc/resolv.conf";

fn well(stage: &mut Stage) -> Told {
    let kind = stage.kind();
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh(NAMED)?;
    declare(machine, "well", QUIET)?;
    machine.sh("systemctl start well-container")?;
    let (code, lines) = doctor(machine)?;
    let wrong: Vec<&Line> = lines
        .iter()
        .filter(|line| ["warning", "error"].contains(&line.state.as_str()) && !is_of_the_machine(kind, line))
        .collect();
    assert!(code == 0 && wrong.is_empty(), "{code} {wrong:#?}");
    let of = |topic: &str| {
        let line = lines.iter().find(|line| line.topic == topic);
        line.map_or("", |line| line.message.as_str()).to_owned()
    };
    for (topic, begins) in [
        ("overlayfs", "tried over mapped layers of the store"),
        ("systemd", "version 2"),
        ("generator", "/usr/lib/systemd/system-generators/wharf-generator"),
        ("static units", "all are installed"),
    ] {
        assert!(of(topic).starts_with(begins), "{topic}: {lines:#?}");
    }
    // How many there are is other stories' doing, too.
    assert!(of("user ids").contains(" range"), "{lines:#?}");
    assert!(of("images").ends_with(", everything present"), "{lines:#?}");
    assert!(
        of("firewall").ends_with("; the table inet wharf is whole, for 1 running container"),
        "{lines:#?}"
    );
    // For others it is less, and nothing that they may not see is taken for broken.
    let said = machine.run("cd / && runuser -u nobody -- wharf doctor")?;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{}", said.stdout);
    for topic in ["idmapped mounts", "user ids", "images"] {
        let line = format!("note     {topic:15}  not looked at: only root can\n");
        assert!(said.stdout.contains(&line), "{topic}: {}", said.stdout);
    }
    assert!(!said.stdout.contains("can't be looked at"), "{}", said.stdout);
    let refused = machine
        .run("cd /tmp && runuser -u nobody -- wharf doctor --report; ls /tmp | grep wharf-report || :")?;
    assert!(refused.stdout.is_empty() && refused.stderr.contains("takes root"), "{refused:?}");
    // And nothing stays of what was tried.
    assert_eq!(machine.sh("grep -c /run/wharf/stage /proc/self/mountinfo || :")?, "0");
    forget(machine, &["well"])?;
    machine.sh(UNNAMED)?;
    Ok(())
}

/// Each way to break something, with its undoing, and the line that names it.
const BROKEN: &[(&str, &str, &str, &str, &str)] = &[
    (
        "mv /usr/lib/systemd/system-generators/wharf-generator /root/",
        "mv /root/wharf-generator /usr/lib/systemd/system-generators/",
        "generator",
        "error",
        "in none of systemd's folders",
    ),
    (
        "mkdir -p /etc/systemd/system-generators; ln -s /dev/null /etc/systemd/system-generators/wharf-generator",
        "rm -r /etc/systemd/system-generators",
        "generator",
        "error",
        "/etc/systemd/system-generators/wharf-generator is empty",
    ),
    (
        "mkdir /etc/systemd/system/service.d; printf '[Service]\nPrivateNetwork=yes\n' >/etc/systemd/system/service.d/x.conf",
        "rm -r /etc/systemd/system/service.d",
        "settings",
        "warning",
        "/etc/systemd/system/service.d/x.conf sets PrivateNetwork= for every service",
    ),
    (
        "chmod -x /usr/libexec/wharf/wharf-executor",
        "chmod +x /usr/libexec/wharf/wharf-executor",
        "executor",
        "error",
        "can't be run",
    ),
    (
        "mv /usr/lib/systemd/system/wharf-network.path /root/",
        "mv /root/wharf-network.path /usr/lib/systemd/system/",
        "static units",
        "warning",
        "missing: wharf-network.path",
    ),
    (
        "systemctl mask -q wharf-prune.timer",
        "systemctl unmask -q wharf-prune.timer",
        "static units",
        "warning",
        "masked: wharf-prune.timer",
    ),
    (
        "systemctl stop wharf-network.path",
        "systemctl start wharf-network.path",
        "static units",
        "warning",
        "wharf-network.path does not run",
    ),
    (
        "cp -P /etc/resolv.conf /root/resolv.conf; rm /etc/resolv.conf; echo nameserver 127.0.0.53 >/etc/resolv.conf; \
         systemctl stop systemd-resolved 2>/dev/null || :",
        "rm /etc/resolv.conf; mv /root/resolv.conf /etc/",
        "name servers",
        "warning",
        "the host asks systemd-resolved, which does not run",
    ),
    (
        "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
        "nft delete table ip filter",
        "firewall",
        "warning",
        "ip filter FORWARD drops what is forwarded",
    ),
    (
        "systemctl stop wharf-network.path wharf-network.socket wharf-network && nft delete table inet wharf",
        "systemctl start wharf-network.socket wharf-network.path wharf-network",
        "firewall",
        "error",
        "the table inet wharf isn't as it should be",
    ),
    (
        "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy accept; counter drop; }; }'",
        "nft delete table ip filter",
        "firewall",
        "warning",
        "ip filter FORWARD drops what is forwarded",
    ),
    (
        "echo \"image = 'debian:13'\napparmor = 'strict'\" >/etc/wharf/containers/confined.toml",
        "rm /etc/wharf/containers/confined.toml",
        "confinement",
        "error",
        "confined can't start: ",
    ),
    (
        "echo net.ipv4.ip_forward=0 >/etc/sysctl.d/99-x.conf",
        "rm /etc/sysctl.d/99-x.conf",
        "forwarding",
        "warning",
        "/etc/sysctl.d/99-x.conf sets net.ipv4.ip_forward to 0",
    ),
    (
        "sysctl -q net.ipv4.ip_forward=0",
        "sysctl -q net.ipv4.ip_forward=1",
        "forwarding",
        "error",
        "1 running container cut off",
    ),
    (
        "echo joe:$(cat /var/lib/wharf/leases/ids/runs):65536 >>/etc/subuid",
        "sed -i '$d' /etc/subuid",
        "user ids",
        "warning",
        "to joe, who could be its users",
    ),
    (
        "mount -t tmpfs -o size=32M none /var/lib/wharf; head -c 40M /dev/zero >/var/lib/wharf/x 2>/dev/null || :",
        "umount /var/lib/wharf",
        "disk",
        "error",
        "it is full",
    ),
    (
        "mount -o bind /var/lib/wharf /var/lib/wharf && mount -o remount,ro,bind /var/lib/wharf",
        "umount /var/lib/wharf",
        "disk",
        "error",
        "can't be written to",
    ),
    (
        "echo \"image = 'debian:13'\nmounts.'/x' = { bind = '/sys/kernel' }\" >/etc/wharf/containers/maps.toml",
        "rm /etc/wharf/containers/maps.toml",
        "idmapped mounts",
        "error",
        "can't map ids, for maps: the kernel has no mapping for this kind",
    ),
    (
        "echo \"image = 'nowhere:1'\" >/etc/wharf/containers/none.toml",
        "rm /etc/wharf/containers/none.toml",
        "images",
        "error",
        "nowhere:1 is not in the store, and nothing fetches it: none can't start",
    ),
    (
        "echo 'imgae = 1' >/etc/wharf/containers/bad.toml",
        "rm /etc/wharf/containers/bad.toml",
        "files",
        "error",
        "in /etc/wharf/containers/bad.toml",
    ),
    (
        "echo \"init = true\" >>/etc/wharf/containers/runs.toml",
        "sed -i '$d' /etc/wharf/containers/runs.toml; systemctl daemon-reload",
        "containers",
        "warning",
        "systemd hasn't read the files of runs as they are now",
    ),
    (
        "systemctl start fails-container 2>/dev/null || :",
        "systemctl reset-failed fails-container",
        "containers",
        "error",
        "fails has failed: ",
    ),
    (
        "echo \"image = 'debian:13'\nnetwork = 'none'\ncommand = ['/bin/false']\" >/etc/wharf/containers/loops.toml; \
         systemctl daemon-reload; systemctl start --no-block loops-container; \
         for i in {1..150}; do wharf ps --format '{name} {status_text}' | grep -q '^loops Waits [36]' && break; sleep 0.1; done",
        "systemctl stop loops-container; rm -f /etc/wharf/containers/loops.toml /run/wharf/last-good/loops.json; systemctl daemon-reload; \
         systemctl reset-failed loops-container 2>/dev/null || :",
        "containers",
        "error",
        "started again and again, and ends each time: loops",
    ),
    (
        "d=$(ls -d /var/lib/wharf/layers/*/tree | head -n 1) && mv $d/etc/passwd /root/",
        "mv /root/passwd $(ls -d /var/lib/wharf/layers/*/tree | head -n 1)/etc/",
        "images",
        "error",
        "damaged: layers/",
    ),
];

fn broken(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    declare(machine, "fails", &format!("{QUIET}network = 'none'\ncommand = ['/nowhere']\n"))?;
    declare(machine, "runs", QUIET)?;
    machine.sh("systemctl start runs-container")?;
    machine.sh(NAMED)?;
    let wrong = |(_, lines): (i32, Vec<Line>)| -> Vec<Line> {
        let is_wrong =
            |line: &Line| !["ok", "note"].contains(&line.state.as_str()) && line.topic != "cgroups";
        lines.into_iter().filter(is_wrong).collect()
    };
    let before = wrong(doctor(machine)?);
    assert!(before.is_empty(), "{before:#?}");
    for (break_it, mend, topic, state, says) in BROKEN {
        machine.sh(break_it)?;
        let (code, lines) = doctor(machine)?;
        let found = lines
            .iter()
            .any(|line| line.topic == *topic && line.state == *state && line.message.contains(says));
        assert!(found, "{break_it}: {state}: {says}: {lines:#?}");
        assert_eq!(code, i32::from(lines.iter().any(|line| line.state == "error")), "{break_it}: {lines:#?}");
        machine.sh(mend)?;
    }
    until(machine, "nft list table inet wharf >/dev/null 2>&1")?;
    machine.sh("systemctl daemon-reload")?;
    let after = wrong(doctor(machine)?);
    assert!(after.is_empty(), "what was mended is well: {after:#?}");
    forget(machine, &["runs", "fails"])?;
    machine.sh(UNNAMED)?;
    Ok(())
}

fn hanging(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let bus = machine.sh("systemctl show -P MainPID dbus.service")?;
    let begun = Instant::now();
    machine.sh(&format!("kill -STOP {bus}"))?;
    let said = machine
        .run_for("wharf doctor --json; wharf doctor --report /root/late.tar.gz", Duration::from_secs(110));
    machine.sh(&format!("kill -CONT {bus}"))?;
    let said = said?;
    assert!(
        said.stdout.contains("no answer within 5 s") || said.stdout.contains("nothing was heard within 5 s"),
        "{said:?}"
    );
    // The rest was looked at.
    assert!(said.stdout.contains("tried over mapped layers of the store"), "{said:?}");
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
    // What could not be asked is not in the report, and is said to be left out.
    let readme = machine.sh("tar xzOf /root/late.tar.gz wharf-report/README.txt; rm /root/late.tar.gz")?;
    assert!(readme.contains("ps.json: no answer within"), "{readme}");
    Ok(())
}

fn report(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.write(
        "/etc/wharf/leaks.env",
        "FROM_FILE=zq9fromfile\nODD=\"zq9odd; zq9blank, zq9brace) zq9end\"\nESCAPED=\"zq9\\$\\$escaped\"\"zq9joined\"\n",
    )?;
    machine.write("/etc/wharf/tells/blue/env", "FROM_INSTANCE=zq9instance\n")?;
    machine.sh("mkdir -p /etc/credstore && echo zq9credential >/etc/credstore/leaks && chmod 600 /etc/wharf/leaks.env")?;
    // What systemd decrypts for a run is gone with it; of the second one the key is gone, too.
    machine.sh("install -d -m 700 /etc/credstore.encrypted; cd /etc/credstore.encrypted; \
         printf zq9sealed | systemd-creds encrypt --with-key=host --name=sealed - sealed; \
         printf zq9forgotten | systemd-creds encrypt --with-key=host --name=forgotten - forgotten")?;
    for name in ["sealed", "forgotten"] {
        let file = format!(
            "{QUIET}network = 'none'\nencrypted-credentials = ['{name}']\n\
             command = ['bash', '-c', 'echo it said $(cat /run/credentials/{name}); exit 3']\n"
        );
        declare(machine, name, &file)?;
        machine.run(&format!("systemctl start {name}-container"))?;
        until(machine, &format!("[[ $(systemctl is-failed {name}-container) == failed ]]"))?;
    }
    machine.sh("head -c 100 /dev/zero >/etc/credstore.encrypted/forgotten")?;
    // A program that tells all that it knows, and one of those words in its status.
    declare(
        machine,
        "leaks",
        &format!(
            "{QUIET}network = 'none'\nready = 'exec'\nenvironment-files = ['/etc/wharf/leaks.env']\n\
             credentials = ['x:/etc/credstore/leaks']\n\
             command = ['bash', '-c', 'echo begun; env; echo \"$0 $@\"; echo TOKEN=zq9assigned; \
             echo https://me:zq9login@x.example/?key=zq9query; trap exit TERM; sleep infinity & wait', '--password', 'zq9argument']\n\
             [environment]\nSECRET = 'zq9environment'\nINNOCENT = 'postgresql://app:zq9inside@db/app'\n"
        ),
    )?;
    declare(
        machine,
        "tells@",
        &format!(
            "{QUIET}network = 'none'\nready = 'exec'\nenvironment-files = ['/etc/wharf/tells/%i/env']\n\
             command = ['bash', '-c', 'env; trap exit TERM; sleep infinity & wait']\n"
        ),
    )?;
    machine.sh("systemctl start leaks-container tells-container@blue")?;
    machine.sh("wharf run -d --name passing --network none -e K=zq9transient debian:13 bash -c 'echo $K; trap exit TERM; sleep infinity & wait'")?;
    until(
        machine,
        "journalctl -q --sync && journalctl -q -u leaks-container | grep -q zq9argument && journalctl -q -u passing-container | grep -q zq9transient && journalctl -q -u tells-container@blue | grep -q zq9instance && journalctl -q -u sealed-container | grep -q zq9sealed && journalctl -q -u forgotten-container | grep -q zq9forgotten",
    )?;
    // Nothing of an instance that has ended is known but its file.
    machine.sh("systemctl stop tells-container@blue")?;
    let said = machine.sh(
        "cd /root && rm -f r.tar.gz && wharf doctor --report r.tar.gz; stat -c %a r.tar.gz; tar tzf r.tar.gz",
    )?;
    assert!(said.lines().any(|line| line == "600"), "{said}");
    for name in [
        "doctor.json",
        "systemd.txt",
        "nft.txt",
        "journal/leaks.txt",
        "journal/passing.txt",
        "journal/tells@.txt",
        "journal/sealed.txt",
        "journal/forgotten.txt",
        "journal/wharf.txt",
        "units/run/systemd/generator/leaks-container.service",
        "files/etc/wharf/containers/leaks.toml",
    ] {
        assert!(said.lines().any(|line| line == format!("wharf-report/{name}")), "{name}: {said}");
    }
    let leaked = machine.sh("tar xzOf /root/r.tar.gz | grep -a zq9 || :")?;
    assert_eq!(leaked, "", "what was planted");
    let journal = machine.sh("tar xzOf /root/r.tar.gz wharf-report/journal/leaks.txt")?;
    assert!(journal.contains("begun") && journal.contains("SECRET=<left out>"), "{journal}");
    let journal =
        |name: &str| machine.sh(&format!("tar xzOf /root/r.tar.gz wharf-report/journal/{name}.txt"));
    let instance = journal("tells@")?;
    // All of that file, as it may be a credential.
    assert!(instance.lines().any(|line| line.ends_with(": <left out>")), "{instance}");
    assert!(journal("sealed")?.contains("it said <left out>"));
    let unread = journal("forgotten")?;
    assert!(
        !unread.contains("it said") && unread.contains("status 3") && unread.contains("systemd["),
        "{unread}"
    );
    let readme = machine.sh("tar xzOf /root/r.tar.gz wharf-report/README.txt")?;
    assert!(
        readme.contains("journal/forgotten.txt: what the program said")
            && !readme.contains("journal/sealed.txt"),
        "{readme}"
    );
    let names = machine.sh("cd /root && rm r.tar.gz && wharf doctor --report r.tar.gz --no-journal; tar tzf r.tar.gz; rm r.tar.gz")?;
    assert!(names.contains("wharf-report/ps.json") && !names.contains("journal/"), "{names}");
    machine.sh(
        "systemctl stop passing-container; systemctl reset-failed sealed-container forgotten-container; \
         rm -r /etc/credstore/leaks /etc/credstore.encrypted /etc/wharf/leaks.env /etc/wharf/tells",
    )?;
    forget(machine, &["leaks", "tells@", "sealed", "forgotten"])?;
    Ok(())
}
