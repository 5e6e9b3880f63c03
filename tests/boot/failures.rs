//! What an administrator reads when something is wrong.
//!
//! `expected/NAME.txt` is what `systemctl status` says, without its times and numbers.
//! `WHARF_BLESS=1` writes what it says now; read the difference before committing it.

use std::path::PathBuf;

use super::containers::{DEBIAN, declare, forget, property, until, with};
use super::machine::{Context, Machine, Result};
use super::stage::{On, Stage, Story, Told, project};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "each failure is named where people look", on: On::Fast, tell: failures },
    Story { name: "one broken file among fifty hides nothing", on: On::Fast, tell: broken },
    Story { name: "a container goes on with its last good plan", on: On::Fast, tell: last_good },
];

/// A failure: how it is made, and how it ends.
struct Case {
    name: &'static str,
    file: &'static str,
    result: &'static str,
    status: &'static str,
    /// 1, it exited; 2, a signal ended it (`ExecMainCode`, sigaction(2)).
    code: &'static str,
}

const IMAGE: &str = "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\nautostart = false\n";

const CASES: &[Case] = &[
    Case {
        name: "exits-3",
        file: "command = ['/bin/sh', '-c', 'exit 3']",
        result: "exit-code",
        status: "3",
        code: "1",
    },
    Case {
        // A fault of its own: a signal that process 1 sends itself is dropped.
        name: "segfaults",
        file: "command = ['/usr/bin/perl', '-e', 'unpack(q(p), pack(q(J), 1))']\n\
               systemd.Service.LimitCORE = 0",
        result: "signal",
        status: "11",
        code: "2",
    },
    Case {
        name: "is-missing",
        file: "command = ['/usr/sbin/nginx']",
        result: "exit-code",
        status: "203",
        code: "1",
    },
    Case {
        name: "is-not-in-path",
        file: "command = ['nginx -g']",
        result: "exit-code",
        status: "203",
        code: "1",
    },
    Case {
        name: "is-not-executable",
        file: "command = ['/etc/passwd']",
        result: "exit-code",
        status: "203",
        code: "1",
    },
    Case {
        name: "has-no-interpreter",
        file: "command = ['/opt/script']\nmounts.'/opt'.bind = '/srv/programs'",
        result: "exit-code",
        status: "203",
        code: "1",
    },
    Case {
        name: "is-for-another-architecture",
        file: "command = ['/opt/arm']\nmounts.'/opt'.bind = '/srv/programs'",
        result: "exit-code",
        status: "203",
        code: "1",
    },
    Case {
        name: "needs-a-folder",
        file: "command = ['/bin/true']\nmounts.'/data'.bind = '/srv/not-there'",
        result: "exit-code",
        status: "226",
        code: "1",
    },
    Case {
        name: "works-in-a-missing-folder",
        file: "command = ['/bin/true']\nworking-directory = '/not-there'",
        result: "exit-code",
        status: "200",
        code: "1",
    },
    Case {
        name: "has-no-such-user",
        file: "command = ['/bin/true']\nuser = 'www'",
        result: "exit-code",
        status: "217",
        code: "1",
    },
    Case {
        name: "has-no-such-group",
        file: "command = ['/bin/true']\ngroup = 'www'",
        result: "exit-code",
        status: "216",
        code: "1",
    },
    Case {
        name: "has-no-image",
        file: "image = 'debian:12'\ncommand = ['/bin/true']",
        result: "exit-code",
        status: "226",
        code: "1",
    },
    Case {
        name: "has-no-rootfs",
        file: "rootfs = '/srv/not-there'\ncommand = ['/bin/true']",
        result: "exit-code",
        status: "226",
        code: "1",
    },
    Case {
        name: "has-a-mistake",
        file: "command = ['/bin/true']\nlimits.memroy = '1G'\nmounts.'/data'.bind = 'srv'",
        result: "exit-code",
        status: "78",
        code: "1",
    },
];

fn failures(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    // The head of a program for arm64, as elf(5) has it: e_machine is 183.
    machine.sh(
        "mkdir -p /srv/programs; cd /srv/programs; printf '#!/usr/bin/python3\\n' >script; \
         head -c 64 /bin/true >arm; printf '\\267\\0' | dd of=arm bs=1 seek=18 conv=notrunc status=none; chmod +x *",
    )?;
    let mut wrong = Vec::new();
    for Case { name, file, result, status, code } in CASES {
        let image = if file.contains("image =") || file.contains("rootfs =") {
            &IMAGE[IMAGE.find('\n').map_or(0, |end| end + 1)..]
        } else {
            IMAGE
        };
        declare(machine, name, &format!("{image}{file}\n"))?;
        let started = machine.run(&format!("systemctl start {name}-container"))?;
        // What runs before it fails has been started; all else is a failed start.
        assert_eq!(started.code == 0, matches!(*name, "exits-3" | "segfaults"), "{name}: {started:?}");
        until(machine, &format!("systemctl is-failed -q {name}-container"))?;
        let said = ["Result", "ExecMainStatus", "ExecMainCode"]
            .map(|name_of| property(machine, name, name_of).unwrap_or_default());
        if said != [*result, *status, *code] {
            wrong.push(format!("{name} ended as {said:?}, not as {:?}", [result, status, code]));
        }
        wrong.extend(compare(name, &status_of(machine, name)?)?);
    }
    let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    forget(machine, &names)?;
    machine.sh("rm -r /srv/programs")?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What `systemctl status` says, as it would say it at any time.
fn status_of(machine: &Machine, name: &str) -> Result<String> {
    let said = machine
        .run(&format!("journalctl --sync; systemctl status --no-pager --full -n 50 {name}-container"))?;
    let (mut head, mut systemd, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for line in said.stdout.lines() {
        let line = timeless(line);
        // `Nov 20 23:44:43 machine …` is of the journal; the word may stand elsewhere, too.
        match line.split_once(" machine ").filter(|(time, _)| time.len() == "Nov 20 23:44:43".len()) {
            // Where the program ends at once, what has started it may be about to end itself.
            Some((_, message))
                if message.contains("Killing process") && message.contains("(wharf-executor)") => {}
            // The two come to the journal on two ways: which line is first is chance.
            Some((_, message)) if message.starts_with("systemd[N]: ") => systemd.push(message.to_owned()),
            Some((_, message)) => own.push(message.to_owned()),
            None if line.contains("Invocation: ") => {}
            None => head.push(line),
        }
    }
    Ok([head, own, systemd].concat().join("\n") + "\n")
}

/// A line without what differs from start to start.
fn timeless(line: &str) -> String {
    let label = line.trim_start();
    for (word, rest) in [("CPU:", "CPU: N"), ("Duration:", "Duration: N"), ("Mem peak:", "Mem peak: N")] {
        if label.starts_with(word) {
            return line.replace(label, rest);
        }
    }
    if let Some((active, _)) = line.split_once(" since ") {
        return active.to_owned();
    }
    // Process ids: after these words, and in brackets.
    let mut text = line.to_owned();
    for before in ["Process: ", "Main PID: ", "["] {
        if let Some(at) = text.find(before).map(|at| at + before.len()) {
            let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
            if digits > 0 {
                text.replace_range(at..at + digits, "N");
            }
        }
    }
    text
}

/// Says what is otherwise than expected.
fn compare(name: &str, text: &str) -> Result<Option<String>> {
    let path: PathBuf = project().join("tests/boot/expected").join(format!("{name}.txt"));
    if std::env::var_os("WHARF_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap_or(&path)).context(|| "make tests/boot/expected")?;
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))?;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    Ok((text != expected)
        .then(|| format!("status of {name}:\n--- expected ---\n{expected}--- it says ---\n{text}---")))
}

fn broken(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh(
        "for i in $(seq 49); do echo \"image = 'debian:13'\nnetwork = 'none'\" >/etc/wharf/containers/c$i.toml; done; \
         printf '%s\\n' \"image = 'debian:13'\" \"network = 'none'\" '[limits]' 'memroy = \"512M\"' >/etc/wharf/containers/broken.toml; \
         systemctl daemon-reload",
    )?;
    let started = machine.run(
        "systemctl start broken-container $(seq -f 'c%g-container' 49); \
         systemctl list-units --state=active --plain --no-legend 'c*-container.service' | wc -l",
    )?;
    assert_eq!(started.stdout.trim(), "49", "{}", started.stderr);
    assert!(started.stderr.contains("broken-container"), "{}", started.stderr);
    let status = machine.run("systemctl status --no-pager --full -n 50 broken-container")?.stdout;
    for words in [
        "refused, broken.toml:4:1: `memroy` is not a key of [limits]",
        " --> /etc/wharf/containers/broken.toml:4:1",
        "4 | memroy = \"512M\"",
        "  | ^^^^^^",
        "did you mean `memory`?",
    ] {
        assert!(status.contains(words), "{words:?} is not in {status}");
    }
    let checked = machine.run("wharf check")?;
    assert_eq!(checked.code, 1);
    // A reboot with the broken file there: the others don't need anybody.
    machine.reboot()?;
    until(
        machine,
        "(( $(systemctl list-units --state=active --plain --no-legend 'c*-container.service' | wc -l) == 49 ))",
    )?;
    // Corrected, it starts.
    machine.sh("sed -i s/memroy/memory/ /etc/wharf/containers/broken.toml; systemctl daemon-reload; systemctl start broken-container")?;
    let names: Vec<String> = (1..50).map(|i| format!("c{i}")).chain(["broken".to_owned()]).collect();
    machine.sh("systemctl stop $(seq -f 'c%g-container' 49)")?;
    machine.sh(&format!(
        "systemctl stop broken-container; rm /etc/wharf/containers/{{{}}}.toml; rm -r /run/wharf/last-good; \
         systemctl reset-failed; systemctl daemon-reload",
        names.join(",")
    ))?;
    Ok(())
}

fn last_good(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let good =
        "image = 'debian:13'\nnetwork = 'none'\ndescription = 'Sleeper'\nenvironment.VERSION = 'first'\n";
    declare(machine, "sleeper", good)?;
    machine.sh("systemctl start sleeper-container")?;
    let pid = property(machine, "sleeper", "MainPID")?;
    declare(machine, "sleeper", "image = 3\nnetwork = 'none'\n")?;
    assert_eq!(property(machine, "sleeper", "MainPID")?, pid, "a reload touches no process");
    assert_eq!(property(machine, "sleeper", "ActiveState")?, "active");

    machine.sh("systemctl restart sleeper-container")?;
    let again = property(machine, "sleeper", "MainPID")?;
    assert_ne!(again, pid);
    assert!(machine.sh(&format!("tr '\\0' '\\n' </proc/{again}/environ"))?.contains("VERSION=first"));
    let status = machine.sh("systemctl status --no-pager --full sleeper-container")?;
    for words in
        ["Sleeper (RUNS ITS LAST GOOD PLAN: sleeper.toml:1:9: ", "Status: \"Runs its last good plan: error: "]
    {
        assert!(status.contains(words), "{words:?} is not in {status}");
    }
    let checked = machine.run("wharf check")?;
    assert_eq!(checked.code, 1);
    let said = checked.stdout + &checked.stderr;
    assert!(said.contains("last good plan"), "wharf check says that it runs its last good plan: {said}");

    declare(machine, "sleeper", &good.replace("first", "second"))?;
    machine.sh("systemctl restart sleeper-container")?;
    let status = machine.sh("systemctl status --no-pager --full sleeper-container")?;
    assert!(!status.to_lowercase().contains("last good plan"), "{status}");
    forget(machine, &["sleeper"])?;
    Ok(())
}
