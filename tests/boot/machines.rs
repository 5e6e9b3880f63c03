//! Stories about the machines themselves: without them nothing that the others say would hold.

use std::time::Duration;

use super::machine::{Machine, Recipe};
use super::stage::{Feature, On, Stage, Story, Told, install_wharf, some_moment};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "a machine boots to the end", on: On::Both, tell: boots },
    Story { name: "a plain service runs and its exit status is exact", on: On::Both, tell: plain_service },
    Story { name: "limits have their controllers", on: On::Both, tell: controllers },
    Story { name: "Wharf installs, and only where it belongs", on: On::Fast, tell: installs },
    Story { name: "a proper reboot is one", on: On::Fast, tell: reboots },
    Story { name: "a synced file survives a power cut", on: On::Fast, tell: survives },
    Story { name: "a power cut during the boot is survived", on: On::Fast, tell: cut_while_booting },
    Story {
        name: "the strict disk loses what was not synced, and nothing else",
        on: On::FastThenFull,
        tell: strict,
    },
];

fn boots(stage: &mut Stage) -> Told {
    let machine = stage.machine()?;
    let failed = machine.sh("systemctl list-units --failed --no-legend --plain")?;
    assert_eq!(failed, "", "units that failed at boot");
    assert_eq!(machine.sh("systemctl is-system-running")?, "running");
    assert_eq!(machine.sh("cat /proc/1/comm")?, "systemd");
    // The store needs a file system that can be idmapped and that keeps user xattrs.
    assert_eq!(machine.sh("stat -f -c %T /var/lib")?, "ext2/ext3");
    Ok(())
}

fn plain_service(stage: &mut Stage) -> Told {
    let machine = stage.machine()?;
    machine.write(
        "/run/systemd/system/plain.service",
        "[Service]\nExecStart=/bin/sh -c 'echo out; echo err >&2; read line </run/plain; exit 3'\n",
    )?;
    machine.sh("mkfifo /run/plain && systemctl daemon-reload && systemctl start plain")?;
    assert_eq!(machine.sh("systemctl is-active plain")?, "active");
    machine.sh("echo go >/run/plain")?;
    machine.sh("timeout 20 sh -c 'while systemctl is-active -q plain; do :; done'")?;
    let status = machine.sh("systemctl show -P ExecMainStatus plain")?;
    assert_eq!(status, "3");
    machine.sh("journalctl --sync")?;
    let log = machine.sh("journalctl --no-pager -q -o cat -u plain _TRANSPORT=stdout")?;
    assert!(log.lines().eq(["out", "err"]), "the journal has both streams: {log}");
    machine
        .sh("systemctl reset-failed plain; rm /run/plain /run/systemd/system/plain.service; systemctl daemon-reload")?;
    Ok(())
}

fn controllers(stage: &mut Stage) -> Told {
    stage.needs(Feature::CgroupControllers)?;
    let machine = stage.machine()?;
    let limit = machine.sh("systemd-run --quiet --pipe --wait -p MemoryMax=64M sh -c \
             'cat /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/memory.max'")?;
    assert_eq!(limit, (64 << 20).to_string());
    Ok(())
}

fn installs(stage: &mut Stage) -> Told {
    let machine = stage.fresh()?;
    install_wharf(&machine)?;
    assert_eq!(machine.sh("stat -c '%a %U' /var/lib/wharf")?, "700 root");
    assert_eq!(machine.sh("stat -c '%a %U' / /etc /usr/bin/wharf | uniq")?, "755 root");
    assert_eq!(machine.sh("systemctl is-system-running")?, "running");
    Ok(())
}

fn reboots(stage: &mut Stage) -> Told {
    let machine = stage.machine()?;
    let before = machine.sh("cat /proc/sys/kernel/random/boot_id")?;
    machine.sh("echo kept >/root/kept; echo lost >/run/lost")?;
    machine.reboot()?;
    assert_ne!(machine.sh("cat /proc/sys/kernel/random/boot_id")?, before);
    assert_eq!(machine.sh("cat /root/kept; ls /run/lost 2>/dev/null || :; rm /root/kept")?, "kept");
    Ok(())
}

fn survives(stage: &mut Stage) -> Told {
    let machine = stage.machine()?;
    // Rows that are written and synced until the power goes: each one that was
    // acknowledged must be there.
    let mut rows =
        machine.start("i=0; while :; do i=$((i+1)); echo $i >>/root/rows; sync /root/rows; echo $i; done")?;
    let mut acknowledged = String::new();
    for _ in 0..20 {
        acknowledged = rows.line().unwrap_or(acknowledged);
    }
    machine.power_cut()?;
    acknowledged = rows.rest().pop().unwrap_or(acknowledged);
    machine.boot_again()?;
    let kept: u32 = machine.sh("tail -n 1 /root/rows; rm /root/rows")?.parse()?;
    let acknowledged: u32 = acknowledged.parse()?;
    assert!(acknowledged >= 20, "some rows were acknowledged: {acknowledged}");
    assert!(kept >= acknowledged, "row {acknowledged} was acknowledged, the last one there is {kept}");
    Ok(())
}

fn cut_while_booting(stage: &mut Stage) -> Told {
    let times = stage.times(5, 20);
    let machine = stage.machine()?;
    for _ in 0..times {
        machine.power_cut()?;
        machine.power_on()?;
        machine.let_pass(some_moment(Duration::from_millis(800)));
    }
    machine.power_cut()?;
    machine.boot_again()?;
    assert_eq!(machine.sh("systemctl is-system-running")?, "running");
    Ok(())
}

fn strict(stage: &mut Stage) -> Told {
    let mut machine = Machine::strict(stage.kind(), &Recipe::base())?;
    // Direct writes reach the disk at once, and the disk may keep them in its cache: what is
    // lost here is lost by the disk, not by the guest's memory.
    machine.sh("fallocate -l 1M /root/unsynced && fallocate -l 1M /root/synced && sync")?;
    machine.sh(
        "head -c 1M /dev/zero | tr '\\0' s | dd of=/root/synced bs=1M count=1 iflag=fullblock conv=notrunc,fsync status=none",
    )?;
    let mut written = machine.start(
        "head -c 1M /dev/zero | tr '\\0' u | dd of=/root/unsynced bs=1M count=1 iflag=fullblock oflag=direct conv=notrunc status=none; \
         head -c 1 /root/unsynced; echo",
    )?;
    // At once: any flush, even one of somebody else's, would take the bytes along.
    assert_eq!(written.line().as_deref(), Some("u"), "it reads back before the cut");
    machine.power_cut()?;
    machine.boot_again()?;
    assert_eq!(machine.sh("tr -d '\\0' </root/synced | wc -c")?, (1 << 20).to_string());
    assert_eq!(machine.sh("tr -d '\\0' </root/unsynced | wc -c")?, "0", "the unsynced bytes are gone");
    Ok(())
}
