//! Images that have units: fetched before the containers that run them, and not looked for when they are there.

use super::containers::{DEBIAN, declare, feed, forget, log, open, with};
use super::machine::{Machine, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "an image is fetched once, before its container", on: On::Fast, tell: once },
    Story { name: "a fetch lasts as long as there is progress", on: On::Fast, tell: slowly },
    Story { name: "a store that can't be written to starts containers", on: On::Fast, tell: read_only },
];

/// The rest of a container's file that ends when it is told to.
const RUNS: &str = "network = 'none'\nautostart = false\nrestart = 'no'\n\
    command = ['/bin/bash', '-c', 'trap exit TERM; sleep infinity & wait']\n";

/// A root file system as somebody brought it, in a file of the machine.
fn archive(machine: &Machine) -> Result<()> {
    if machine.run("test -s /srv/local.tar")?.code != 0 {
        feed(machine, "cat >/srv/local.tar", open(&(DEBIAN.recipe)())?)?;
    }
    Ok(())
}

fn show(machine: &Machine, unit: &str, property: &str) -> Result<String> {
    Ok(machine.sh(&format!("systemctl show -P {property} '{unit}'"))?.trim().to_owned())
}

fn once(stage: &mut Stage) -> Told {
    let machine = with(stage, &[])?;
    archive(machine)?;
    machine.sh("mkdir -p /etc/wharf/images")?;
    machine.write("/etc/wharf/images/local.toml", "image = 'local:1'\nfrom = '/srv/local.tar'\n")?;
    declare(machine, "local", &format!("image = 'local:1'\n{RUNS}"))?;
    machine.sh("systemctl start local-container")?;
    assert_eq!(show(machine, "local-image", "Result")?, "success");
    let ran = show(machine, "local-image", "ExecMainStartTimestampMonotonic")?;
    assert_ne!(ran, "0");

    // It is there: systemd looks, and starts nothing.
    machine.sh("systemctl restart local-container")?;
    assert_eq!(show(machine, "local-image", "ConditionResult")?, "no");
    assert_eq!(show(machine, "local-image", "ExecMainStartTimestampMonotonic")?, ran);

    // Settings with a mistake stop no container, and a fetch only where there must be one.
    machine.write("/etc/wharf/wharf.toml", "[unpack]\nratio = 0\n")?;
    machine.sh("systemctl daemon-reload && systemctl restart local-container")?;
    machine.sh("systemctl stop local-container && wharf image remove local:1")?;
    assert_ne!(machine.run("systemctl start local-container")?.code, 0);
    let said = log(machine, "local")?;
    assert!(said.contains("its unit says why: systemctl status local-image"), "{said}");
    let status = machine.run("systemctl status --no-pager -l local-image")?.stdout;
    assert!(status.contains("Status: \"Not provided: the settings in wharf.toml have mistakes"), "{status}");
    assert!(status.contains("`ratio` must be at least 1"), "{status}");
    machine.sh("rm /etc/wharf/wharf.toml && systemctl start local-container")?;

    // Names that a unit's can't hold as they are.
    declare(machine, "escaped", &format!("image = 'registry.example/team/my-web:1'\n{RUNS}"))?;
    let unit = r"registry.example-team-my\x2dweb:1-image.service";
    assert_eq!(show(machine, unit, "LoadState")?, "loaded");
    // Which systemctl shows as it would have to be written in a unit file.
    let wants = show(machine, "escaped-container", "Wants")?.replace(r"\\", r"\").replace('"', "");
    assert!(wants.split(' ').any(|wanted| wanted == unit), "{wants}");
    forget(machine, &["local", "escaped"])?;
    machine.sh("rm /etc/wharf/images/local.toml && systemctl daemon-reload && wharf image remove local:1")?;
    Ok(())
}

/// systemd takes `EXTEND_TIMEOUT_USEC=` from a oneshot: without it this would end after ten seconds.
fn slowly(stage: &mut Stage) -> Told {
    let machine = with(stage, &[])?;
    archive(machine)?;
    machine.sh("mkdir -p /etc/wharf/images && rm -f /srv/slow && mkfifo /srv/slow")?;
    machine.write(
        "/etc/wharf/images/slow.toml",
        "image = 'slow:1'\nfrom = '/srv/slow'\n[systemd.Service]\nTimeoutStartSec = '10s'\n",
    )?;
    machine.sh("systemctl daemon-reload")?;
    machine.sh(
        "systemd-run -q bash -c 'for part in {0..14}; do dd if=/srv/local.tar bs=20M skip=$part count=1 status=none; sleep 1; done >/srv/slow'",
    )?;
    machine.sh("SECONDS=0; systemctl start slow-image && ((SECONDS >= 13)) && wharf image remove slow:1")?;
    machine.sh("rm /etc/wharf/images/slow.toml /srv/slow && systemctl daemon-reload")?;
    Ok(())
}

/// Containers for a store on a read-only file system, with what their start needs of /var/lib/wharf.
const CONTAINERS: [(&str, &str); 4] = [
    // Nothing but the image.
    ("bare", "network = 'none'\nuser-namespace = false\n"),
    ("writes", "network = 'none'\nuser-namespace = false\nroot = 'ephemeral'\n"),
    // Leases and a volume, which it has from before.
    ("before", "[mounts]\n'/srv/data' = { volume = 'data' }\n"),
    // A lease that it has not.
    ("unleased", "network = 'none'\n"),
];

/// As an administrator makes it: everything of Wharf's on a file system that is mounted read-only, and then only what
/// images are made of.
fn read_only(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    for (name, more) in CONTAINERS {
        declare(machine, name, &format!("image = 'debian:13'\nautostart = false\nrestart = 'no'\n{more}"))?;
    }
    machine.sh("systemctl start before-container && systemctl stop before-container")?;
    let told = on_a_read_only_store(machine);
    machine.sh("for path in layers blobs refs incoming .; do umount -q /var/lib/wharf/$path || :; done")?;
    told?;
    forget(machine, &CONTAINERS.map(|(name, _)| name))?;
    Ok(())
}

fn on_a_read_only_store(machine: &Machine) -> Result<()> {
    let start = |name: &str| {
        machine.sh(&format!("systemctl start {name}-container && systemctl stop {name}-container"))
    };
    machine.sh("mount --bind /var/lib/wharf /var/lib/wharf && mount -o remount,bind,ro /var/lib/wharf")?;
    assert_ne!(machine.run("touch /var/lib/wharf/x")?.code, 0);
    for name in ["bare", "writes", "before"] {
        start(name)?;
    }
    // Its ids would not be known to be taken at its next start.
    assert_ne!(machine.run("systemctl start unleased-container")?.code, 0);
    let said = log(machine, "unleased")?;
    assert!(said.contains("/var/lib/wharf/leases/") && said.contains("Read-only file system"), "{said}");
    machine.sh("systemctl reset-failed unleased-container")?;
    let import = machine.run("tar -C /etc -cf - issue | wharf image import --name issue:1 -")?;
    let expected = "is read-only; nothing was changed; mount it writable first\n  because Read-only file system (os error 30)";
    assert_eq!((import.code, import.stdout.as_str()), (1, ""), "{}", import.stderr);
    assert!(import.stderr.starts_with("error: the file system of /var/lib/wharf/"), "{}", import.stderr);
    assert!(import.stderr.trim_end().ends_with(expected), "{}", import.stderr);
    machine.sh("wharf image list && wharf fsck")?;
    machine.sh("umount /var/lib/wharf")?;
    // Images on a file system of their own: leases and volumes are kept as ever.
    machine
        .sh("for path in layers blobs refs incoming; do cd /var/lib/wharf/$path && mount --bind . . && \
         mount -o remount,bind,ro /var/lib/wharf/$path; done")?;
    for (name, _) in CONTAINERS {
        start(name)?;
    }
    Ok(())
}
