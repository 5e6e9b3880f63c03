//! What is told of a container in the journal, and by which fields it is found.

use super::containers::{DEBIAN, declare, forget, until, with};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "the journal knows whose words they are", on: On::Fast, tell: fields },
    Story { name: "the journal explains each failure", on: On::Fast, tell: explained },
];

const QUIET: &str =
    "image = 'debian:13'\nnetwork = 'none'\nautostart = false\nrestart = 'no'\nstop.timeout = 1\n";

fn fields(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    declare(machine, "says", &format!("{QUIET}command = ['sh', '-c', 'echo hello; exec sleep 100']\n"))?;
    machine.sh("systemctl start says-container")?;
    until(machine, "journalctl -q --sync && journalctl -q -o cat CONTAINER_NAME=says | grep -qx hello")?;
    assert_eq!(
        machine.sh("journalctl -q -o cat IMAGE_NAME=debian:13 CONTAINER_NAME=says MESSAGE=hello")?,
        "hello"
    );
    machine.sh("systemctl stop says-container")?;
    // What has no file says as much.
    machine.sh("wharf run -d --name loose --stop.timeout 1 debian:13 sh -c 'echo loose; exec sleep 100'")?;
    until(machine, "journalctl -q --sync && journalctl -q -o cat CONTAINER_NAME=loose | grep -qx loose")?;
    machine.sh("systemctl stop loose-container")?;

    // Wharf's own words, of a start that fails: whoever asks for the unit finds them, however short they lived.
    declare(machine, "fails", &format!("{QUIET}command = ['/nowhere']\n"))?;
    machine
        .sh("for i in {1..10}; do systemctl start fails-container; done 2>/dev/null; journalctl --sync")?;
    let told =
        "-u fails-container -q -o cat --output-fields=MESSAGE --grep 'program /nowhere is not in the image'";
    assert_eq!(machine.sh(&format!("journalctl {told} | wc -l"))?, "10");
    let status = machine.run("systemctl status -n 30 fails-container")?.stdout;
    assert!(status.contains("fails: the program /nowhere is not in the image"), "{status}");
    let digest = machine.sh("wharf image inspect debian:13 | grep -om1 'sha256:[0-9a-f]*'")?;
    let entry = machine.sh("journalctl -q -o export -n 1 SYSLOG_IDENTIFIER=fails PRIORITY=3")?;
    for field in [
        "CONTAINER_NAME=fails",
        "IMAGE_NAME=debian:13",
        &format!("IMAGE_DIGEST={digest}"),
        "MESSAGE_ID=",
        "SYSLOG_IDENTIFIER=fails",
        "INVOCATION_ID=",
    ] {
        assert!(entry.lines().any(|line| line.starts_with(field)), "{field}: {entry}");
    }
    // So of a reload that fails.
    declare(machine, "deaf", &format!("{QUIET}command = ['sleep', '100']\nreload.signal = 'SIGHUP'\n"))?;
    machine.sh("systemctl start deaf-container")?;
    assert_ne!(machine.run("systemctl reload deaf-container")?.code, 0);
    let entry =
        machine.sh("journalctl -q --sync; journalctl -q -o export -n 1 SYSLOG_IDENTIFIER=deaf PRIORITY=3")?;
    for field in ["CONTAINER_NAME=deaf", "MESSAGE_ID=f050c31cef9444a7b1574ffe328e7503", &digest] {
        assert!(entry.contains(field), "{field}: {entry}");
    }
    forget(machine, &["says", "fails", "deaf"])?;
    Ok(())
}

fn explained(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let said = machine.run("journalctl --update-catalog")?;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "the catalogue is taken as it is");
    let catalogue = include_str!("../../packaging/wharf.catalog").lines();
    let entries = catalogue.filter(|line| line.starts_with("-- ")).count();
    assert_eq!(machine.sh("journalctl --list-catalog | grep -c 'Wharf: '")?, entries.to_string());
    for (name, file, subject) in [
        ("no-program", "command = ['/nowhere']", "The program of the container no-program can't be run"),
        ("no-user", "user = 'nobody-here'", "The container no-user can't have its user"),
        (
            "no-folder",
            "working-directory = '/nowhere'",
            "The container no-folder has no such working directory",
        ),
        (
            "no-bind",
            "mounts.\"/x\" = { bind = '/nowhere' }",
            "The root of the container no-bind can't be set up",
        ),
        ("bad-file", "memroy = 1", "The files of the container bad-file have mistakes"),
        ("deaf", "command = ['sleep', '100']", "The container deaf did not end when it was asked to"),
    ] {
        declare(machine, name, &format!("{QUIET}{file}\n"))?;
        machine.run(&format!(
            "systemctl start {name}-container; systemctl stop {name}-container; journalctl --sync"
        ))?;
        let told = machine.run(&format!("journalctl -q -x --no-pager -u {name}-container"))?.stdout;
        assert!(told.contains(&format!("Subject: {subject}")), "{name}: {told}");
        forget(machine, &[name])?;
    }
    // What its init says from inside, and a change of its files that is none.
    let sick =
        format!("{QUIET}health = {{ command = ['false'], interval = '100ms', on-failure = 'none' }}\n");
    declare(machine, "sick", &sick)?;
    machine.sh("systemctl start sick-container")?;
    until(machine, "[[ $(systemctl show -P StatusText sick-container) == 'Health: unhealthy'* ]]")?;
    let told = machine.run("journalctl --sync; journalctl -q -x --no-pager -u sick-container")?.stdout;
    assert!(told.contains("Subject: The container sick is unhealthy"), "{told}");
    let digest = machine.sh("wharf image inspect debian:13 | grep -om1 'sha256:[0-9a-f]*'")?;
    let entry = machine
        .sh("journalctl -q -o export -n 1 -u sick-container MESSAGE_ID=9537c8fca07e4501ac9f40f6ecb66f23")?;
    for field in ["_COMM=wharf-init", "CONTAINER_NAME=sick", "IMAGE_NAME=debian:13", "PRIORITY=4", &digest] {
        assert!(entry.contains(field), "{field}: {entry}");
    }
    declare(machine, "sick", &format!("{sick}memroy = 1\n"))?;
    machine.sh("systemctl restart sick-container")?;
    let told = machine.run("journalctl --sync; journalctl -q -x --no-pager -u sick-container")?.stdout;
    assert!(told.contains("Subject: The container sick runs its last good plan"), "{told}");
    assert!(told.contains("sick: runs its last good plan: "), "{told}");
    forget(machine, &["sick"])?;
    declare(
        machine,
        "no-image",
        "image = 'not-here:1'\nnetwork = 'none'\nautostart = false\nrestart = 'no'\n",
    )?;
    machine.run("systemctl start no-image-container; journalctl --sync")?;
    let told = machine.run("journalctl -q -x --no-pager -u no-image-container")?.stdout;
    assert!(told.contains("The store has no image not-here:1,"), "{told}");
    forget(machine, &["no-image"])?;
    declare(
        machine,
        "no-registry",
        "image = 'registry.invalid/x:1'\nnetwork = 'none'\nautostart = false\nrestart = 'no'\n",
    )?;
    machine.run("systemctl start no-registry-container; journalctl --sync")?;
    let told = machine
        .run("journalctl -q -x --no-pager CONTAINER_NAME=no-registry + IMAGE_NAME=registry.invalid/x:1")?;
    assert!(
        told.stdout.contains("Subject: The image registry.invalid/x:1 could not be had"),
        "{}",
        told.stdout
    );
    assert!(
        told.stdout.contains("Subject: The image of the container no-registry is not there"),
        "{}",
        told.stdout
    );
    forget(machine, &["no-registry"])?;
    Ok(())
}
