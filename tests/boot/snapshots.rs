//! `snapshot = true`: the volumes go back with the image.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::apply::{gone, json, write};
use super::containers::{DEBIAN, REDIS, declare, import, property, until, with};
use super::machine::{Context, Machine, Output, Recipe, Result};
use super::pulled::HOST;
use super::stage::{On, Stage, Story, Told, Untold, install_wharf, some_moment};
use super::updates::{push, registry};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "data go back with the image of an update that fails", on: On::Fast, tell: put_back },
    Story { name: "data go back with an image that came from a registry", on: On::Fast, tell: fetched },
    Story {
        name: "the example of what is kept up to date goes back with its data",
        on: On::Fast,
        tell: example,
    },
    Story { name: "killed updates put data back once", on: On::Fast, tell: killed },
    Story { name: "updates that power cut end in one version with its data", on: On::Fast, tell: power_cut },
];

/// Puts an XFS where volumes are, at each boot.
const UNIT: &str = "[Unit]\nDefaultDependencies=no\nBefore=local-fs.target\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c '\
    [ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237; \
    for n in $(seq 0 99); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n; done; \
    mkdir -p /var/lib/wharf/volumes && mount -t xfs -o loop /xfs /var/lib/wharf/volumes'\n\
    [Install]\nWantedBy=local-fs.target\n";

/// Has volumes lie on a small XFS of their own, on a machine that may not know mkfs.xfs.
fn with_xfs(machine: &Machine) -> std::result::Result<(), Untold> {
    let xfs = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !xfs.lines().any(|line| line.trim() == "xfs") {
        return Err(Untold::Skipped("the kernel has no xfs".to_owned()));
    }
    let folder = tempfile::tempdir().context(|| "make a folder")?;
    let line = "truncate -s 320M xfs && mkfs.xfs -q xfs && zstd -q -c xfs >packed";
    let made =
        Command::new("sh").args(["-c", line]).current_dir(folder.path()).stderr(Stdio::null()).status();
    if !made.is_ok_and(|status| status.success()) {
        return Err(Untold::Skipped("there is no mkfs.xfs, or no zstd".to_owned()));
    }
    machine.copy_in(folder.path().join("packed"), "/packed")?;
    machine.sh("zstd -q -d --rm /packed -o /xfs.new && cp --sparse=always /xfs.new /xfs && rm /xfs.new")?;
    machine.write("/etc/systemd/system/xfs.service", UNIT)?;
    machine.sh("systemctl daemon-reload && systemctl enable -q --now xfs && sync").map(drop)?;
    Ok(())
}

fn without_xfs(machine: &Machine) -> Result<()> {
    machine.sh(
        "systemctl disable -q --now xfs; umount /var/lib/wharf/volumes && rm /xfs /etc/systemd/system/xfs.service && \
         systemctl daemon-reload",
    )?;
    Ok(())
}

/// Has a tag name an image whose program is this.
fn moves(machine: &Machine, command: &str) -> Result<String> {
    machine.sh(&format!(
        "set -e -o pipefail; wharf image export debian:13 | wharf image import --name db:1 --command /bin/bash --command -c \
         --command '{command}' - >/dev/null; wharf image inspect db:1 | sed -n 's/^ *digest //p' | tr -d ' '"
    ))
}

/// A version that says in its data that it was there, durably, and stays.
fn well(version: &str) -> String {
    format!("echo {version} >>/data/log; sync -f /data; trap exit TERM; sleep infinity & wait")
}

/// One that destroys everything before it ends.
const BAD: &str =
    "rm -rf /data/*; echo destroyed >/data/log; echo destroyed >/more/log; sync -f /data; sleep 0.7; exit 3";

fn said(name: &str) -> String {
    format!(
        "image = 'db:1'\nnetwork = 'none'\nupdate = 'local'\nsnapshot = true\n[mounts]\n\
         '/data' = {{ volume = '{name}' }}\n'/more' = {{ volume = '{name}-more' }}\n"
    )
}

fn update(machine: &Machine, arguments: &str) -> Result<Output> {
    machine.run_for(&format!("wharf update --settle 2s {arguments}"), Duration::from_secs(240))
}

fn updated(machine: &Machine, arguments: &str) -> Result<String> {
    let output = update(machine, arguments)?;
    assert_eq!(output.code, 0, "{} {}", output.stdout, output.stderr);
    Ok(output.stdout)
}

fn refused(machine: &Machine, arguments: &str) -> Result<String> {
    let output = update(machine, arguments)?;
    assert_eq!(output.code, 1, "{} {}", output.stdout, output.stderr);
    Ok(output.stdout + &output.stderr)
}

fn log(machine: &Machine) -> Result<String> {
    Ok(machine.sh("cat /var/lib/wharf/volumes/db/log")?.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn runs(machine: &Machine) -> Result<String> {
    let inspected = json(&machine.sh("wharf inspect --json db")?);
    Ok(inspected["image"]["running"].as_str().unwrap_or_default().to_owned())
}

/// It runs again, with its data from before, to which it adds at each start what they end with. Started by systemd
/// already, it may have been started once more by who puts it back.
fn came_back(machine: &Machine, good: &str, before: &str) -> Result<String> {
    let now = log(machine)?;
    let last = before.rsplit(' ').next().unwrap_or(before);
    let expected = [format!("{before} {last}"), format!("{before} {last} {last}")];
    assert!(expected.contains(&now), "{now}, and before {before}");
    assert_eq!(runs(machine)?, good);
    Ok(now)
}

/// While another version is tried and nobody looks on, its file is away for a time: it is stopped, and has its data
/// from before when it is back. Nobody else starts with those that are put back by half.
fn away(machine: &Machine, tried: &str, good: &str) -> Result<()> {
    let before = log(machine)?;
    moves(machine, tried)?;
    let update = machine.start("exec wharf update --settle 60s")?;
    until(machine, "ls /var/lib/wharf/held/db.taken && grep -q 5 /var/lib/wharf/volumes/db/log")?;
    machine.sh("kill -KILL $(cut -d' ' -f1 /run/wharf/apply.lock)")?;
    update.rest();
    machine.sh("mv /etc/wharf/containers/db.toml /root/db.toml")?;
    let said = machine.run("wharf apply --settle 1s")?;
    assert!(said.code == 0 && said.stdout.contains("db: stopped: no file declares it any more"), "{said:?}");
    let said = machine.run("wharf apply --settle 1s")?;
    let way = "to give that up: rm /var/lib/wharf/held/db.taken";
    assert!(said.code == 0 && said.stderr.contains(way), "{said:?}");
    machine.sh("ls /var/lib/wharf/held/db.json; mv /var/lib/wharf/held/db.{taken,restoring}")?;
    let other = "image = 'debian:13'\nnetwork = 'none'\nautostart = false\nrestart = 'no'\n\
                 [mounts]\n'/data' = { volume = 'db' }\n";
    declare(machine, "other", other)?;
    assert_ne!(machine.run("systemctl start other-container")?.code, 0);
    let status = machine.run("systemctl status --no-pager --full other-container")?.stdout;
    assert!(
        status.contains("may be so by half") && status.contains("rm /var/lib/wharf/held/db.restoring"),
        "{status}"
    );
    machine.sh("systemctl reset-failed other-container; rm /etc/wharf/containers/other.toml")?;
    machine.sh("mv /root/db.toml /etc/wharf/containers/; systemctl daemon-reload; systemctl start db-container; sleep 0.3")?;
    let last = before.rsplit(' ').next().unwrap_or(&before);
    assert_eq!((runs(machine)?, log(machine)?), (good.to_owned(), format!("{before} {last}")));
    Ok(())
}

/// No snapshot, and nothing that says that there is one.
fn nothing_is_left(machine: &Machine, what: &str) -> Result<()> {
    let left = machine
        .sh("ls -d /var/lib/wharf/volumes/.snapshots/*/* /var/lib/wharf/volumes/.restoring* 2>/dev/null; \
         ls /var/lib/wharf/held 2>/dev/null | grep -v json || :")?;
    assert_eq!(left, "", "{what}");
    Ok(())
}

fn put_back(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;

    // Where it isn't possible that is said, and nothing is touched.
    let first = moves(machine, &well("1"))?;
    write(machine, "db", &said("db"))?;
    machine.sh("systemctl daemon-reload; systemctl start db-container")?;
    let pid = property(machine, "db", "MainPID")?;
    moves(machine, BAD)?;
    let why = refused(machine, "--dry-run")?;
    assert!(why.contains("volume db can't have snapshots") && why.contains("to btrfs or to XFS"), "{why}");
    let why = refused(machine, "")?;
    assert!(why.contains("db: not tried: snapshot = true, but volume db can't have snapshots"), "{why}");
    assert_eq!((property(machine, "db", "MainPID")?, log(machine)?), (pid, "1".into()));
    let checked = machine.sh("wharf check db")?;
    assert!(checked.contains("warning: volume db can't have snapshots"), "{checked}");
    // Nor does anybody else start what can't be put back.
    machine.sh("systemctl daemon-reload; systemctl restart db-container")?;
    assert_eq!(runs(machine)?, first);
    gone(machine, &["db"])?;
    machine.sh("systemctl daemon-reload; rm -r /var/lib/wharf/volumes")?;
    with_xfs(machine)?;

    // A good update keeps its data, and no snapshot.
    moves(machine, &well("1"))?;
    write(machine, "db", &said("db"))?;
    machine.sh("systemctl daemon-reload; systemctl start db-container")?;
    assert_eq!(machine.sh("wharf check db")?, "1 container checked: nothing to say");
    assert_eq!(updated(machine, "")?, "nothing is to be updated\n");
    let second = moves(machine, &well("2"))?;
    let shown = json(&updated(machine, "--dry-run --json")?);
    assert_eq!(shown["containers"][0]["snapshot"], serde_json::json!(["db", "db-more"]), "{shown}");
    let shown = json(&machine.sh("wharf changed --json")?);
    assert_eq!(shown[0]["snapshot"], serde_json::json!(["db", "db-more"]), "{shown}");
    let shown = updated(machine, "")?;
    assert!(shown.contains("a snapshot of volumes db, db-more is taken before"), "{shown}");
    assert_eq!((runs(machine)?, log(machine)?), (second.clone(), "1 2".into()));
    nothing_is_left(machine, "a good update")?;

    // A bad one, which destroys them, is put back with them; and what is written then stays.
    let bad = moves(machine, BAD)?;
    let said_of = refused(machine, "")?;
    assert!(said_of.contains("ended with status 3") && said_of.contains("run again"), "{said_of}");
    let so_far = came_back(machine, &second, "1 2")?;
    assert_eq!(machine.run("cat /var/lib/wharf/volumes/db-more/log")?.code, 1, "both are put back");
    nothing_is_left(machine, "a bad update")?;
    machine.sh("systemctl restart db-container; systemctl daemon-reload; systemctl restart db-container")?;
    assert_eq!((runs(machine)?, log(machine)?), (second.clone(), format!("{so_far} 2 2")));
    let entries = machine.sh(
        "journalctl -o json CONTAINER_NAME=db VOLUME_NAMES='db db-more' --output-fields=MESSAGE,SNAPSHOT_NAME,IMAGE_NAME",
    )?;
    let entries: Vec<serde_json::Value> = entries.lines().map(json).collect();
    let told = |word: &str| {
        let is =
            |entry: &&serde_json::Value| entry["MESSAGE"].as_str().is_some_and(|text| text.contains(word));
        entries.iter().filter(is).collect::<Vec<_>>()
    };
    assert_eq!((told("db: took snapshot").len(), told("back as in snapshot").len()), (2, 1), "{entries:?}");
    let (taken, restored) = (told("db: took snapshot"), told("back as in snapshot"));
    assert_eq!(taken[1]["SNAPSHOT_NAME"], restored[0]["SNAPSHOT_NAME"], "{entries:?}");
    assert_eq!(taken[1]["IMAGE_NAME"], "db:1", "{entries:?}");

    // Tried again by hand it is the same; a change of keys alone takes no snapshot.
    let output = machine.run_for("wharf apply --settle 2s --retry db", Duration::from_secs(120))?;
    assert_eq!(output.code, 1, "{} {}", output.stdout, output.stderr);
    came_back(machine, &second, &format!("{so_far} 2 2"))?;
    assert_ne!(bad, second);
    moves(machine, &well("2"))?;
    write(machine, "db", &said("db").replace("network", "init = true\nnetwork"))?;
    let output = machine.run_for("wharf apply --settle 1s db", Duration::from_secs(120))?;
    assert_eq!(output.code, 0, "{} {}", output.stdout, output.stderr);
    assert!(!output.stdout.contains("snapshot"), "{}", output.stdout);
    write(machine, "db", &said("db"))?;
    machine.sh("wharf apply --settle 1s db")?;
    let before = log(machine)?;

    // Another container has the volume.
    moves(machine, BAD)?;
    write(
        machine,
        "other",
        "image = 'debian:13'\nnetwork = 'none'\n[mounts]\n'/data' = { volume = 'db', read-only = true }\n",
    )?;
    machine.sh("systemctl daemon-reload; systemctl start other-container")?;
    let pid = property(machine, "db", "MainPID")?;
    let why = refused(machine, "")?;
    assert!(why.contains("volume db is used by other too"), "{why}");
    assert_eq!((property(machine, "db", "MainPID")?, log(machine)?), (pid, before.clone()));
    machine
        .sh("systemctl stop other-container; rm /etc/wharf/containers/other.toml; systemctl daemon-reload")?;
    // One that no file declares, too, and nothing is stopped for that.
    machine.sh("wharf run -d --name loose --network none -v db:/x debian:13 sleep 100")?;
    let pid = property(machine, "db", "MainPID")?;
    for arguments in ["--dry-run", ""] {
        let output = machine.run(&format!("wharf apply --settle 1s {arguments} db"))?;
        assert_eq!(output.code, 1, "{} {}", output.stdout, output.stderr);
        assert!(
            output.stdout.contains("NOT TRIED: snapshot = true, but volume db is used by loose too"),
            "{}",
            output.stdout
        );
    }
    assert_eq!((property(machine, "db", "MainPID")?, log(machine)?), (pid, before.clone()));
    machine.sh("systemctl stop loose-container")?;

    // There is no room: nothing of it is tried, nor remembered as bad.
    machine.sh(
        "mkdir /var/lib/wharf/volumes/db/many; cd /var/lib/wharf/volumes/db/many; \
         for n in $(seq 6000); do echo $n >$n; done; sync; \
         for size in 1M 64k 4k; do dd if=/dev/zero of=/var/lib/wharf/volumes/filler-$size bs=$size 2>/dev/null; sync; done; :",
    )?;
    let why = refused(machine, "")?;
    assert!(why.contains("No space left on device"), "{why}");
    assert!(!log(machine)?.contains("destroyed"));
    // Some, and not enough: that is seen when it is taken.
    machine.sh("rm /var/lib/wharf/volumes/filler-*k; sync")?;
    let why = refused(machine, "")?;
    assert!(why.contains("no snapshot of its volumes, and nothing was tried"), "{why}");
    assert_eq!(property(machine, "db", "ActiveState")?, "active");
    assert!(!log(machine)?.contains("destroyed"));
    nothing_is_left(machine, "no room")?;
    machine.sh("rm /var/lib/wharf/volumes/filler-*")?;
    let good = moves(machine, &well("3"))?;
    updated(machine, "")?;
    assert_eq!(runs(machine)?, good);
    machine.sh("rm -r /var/lib/wharf/volumes/db/many")?;
    nothing_is_left(machine, "room again")?;

    // What can't be restored doesn't start, says why, and is restored when it can.
    let before = log(machine)?;
    moves(machine, "rm -rf /data/*; echo destroyed >/data/log; sync -f /data; sleep 4; exit 3")?;
    let trial = machine.start("wharf update --settle 20s")?;
    until(machine, "grep -q destroyed /var/lib/wharf/volumes/db/log")?;
    machine.sh(
        "mkdir -p /mnt/x; systemd-run -q --unit=user unshare -m sh -c 'mount --bind /var/lib/wharf/volumes/db /mnt/x; \
         exec sleep infinity'; sleep 0.5",
    )?;
    let told = trial.rest().join("\n");
    assert!(told.contains("its volumes can't be put back as they were"), "{told}");
    assert!(told.contains("volume db is in use by process"), "{told}");
    assert_eq!(log(machine)?, "destroyed");
    // Not while the next start tries again.
    until(machine, "[[ $(systemctl status --no-pager db-container) == *\"can't be put back\"* ]]")?;
    machine.sh("systemctl stop user db-container; systemctl start db-container")?;
    assert_eq!((runs(machine)?, log(machine)?), (good.clone(), format!("{before} 3")));
    machine.sh("systemctl restart db-container")?;
    assert_eq!(log(machine)?, format!("{before} 3 3"));
    nothing_is_left(machine, "restored at last")?;
    gone(machine, &["db"])?;
    machine.sh("wharf image remove db:1; wharf image prune; systemctl daemon-reload")?;
    without_xfs(machine)?;
    Ok(())
}

fn example(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&REDIS])?;
    machine.sh("rm -rf /var/lib/wharf/volumes")?;
    with_xfs(machine)?;
    machine
        .write("/srv/redis-updated/redis.conf", "protected-mode no\nappendonly yes\nappendfsync always\n")?;
    write(machine, "redis-updated", include_str!("../../examples/redis-updated.toml"))?;
    assert_eq!(machine.sh("wharf check redis-updated 2>&1")?, "1 container checked: nothing to say");
    machine.sh("systemctl daemon-reload; systemctl start redis-updated-container")?;
    let asked = |words: &str| machine.sh(&format!("wharf exec redis-updated redis-cli -e {words}"));
    asked("set key one")?;

    // The program gets the file's words, and does something else.
    machine.sh(
        "set -e -o pipefail; wharf image tag redis:8 redis:kept; wharf image export redis:8 | wharf image import --name redis:8 \
         --user redis --entrypoint /bin/sh --entrypoint -c --entrypoint 'rm -rf /data/*; exit 3' - >/dev/null",
    )?;
    let why = refused(machine, "")?;
    assert!(why.contains("ended with status 3") && why.contains("run again"), "{why}");
    assert_eq!(asked("get key")?, "one");
    asked("set key two")?;
    let held = updated(machine, "")?;
    assert!(held.starts_with("held     redis-updated ") && held.contains("--retry"), "{held}");
    machine.sh("systemctl restart redis-updated-container")?;
    assert_eq!(asked("get key")?, "two", "data go back once");
    nothing_is_left(machine, "the example")?;

    // A file that it lists has changed.
    machine.sh("wharf image tag redis:kept redis:8; echo 'maxclients 77' >>/srv/redis-updated/redis.conf")?;
    machine.sh("wharf apply --settle 1s redis-updated")?;
    assert_eq!(asked("config get maxclients")?.lines().last(), Some("77"));
    assert_eq!(asked("get key")?, "two");
    gone(machine, &["redis-updated"])?;
    machine.sh(
        "rm -r /srv/redis-updated; wharf image remove redis:kept; wharf image prune; systemctl daemon-reload",
    )?;
    without_xfs(machine)?;
    Ok(())
}

fn fetched(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh("rm -rf /var/lib/wharf/volumes")?;
    with_xfs(machine)?;
    registry(machine)?;
    // There is little in that image.
    let well = |version: &str| format!("echo {version} >>/data/log; trap exit TERM; sleep infinity & wait");
    let bad = |version: &str| format!("echo destroyed >/data/log; sleep 0.7; exit 3; : {version}");
    let first = push(machine, "1", &well("1"))?;
    write(
        machine,
        "db",
        &format!(
            "image = '{HOST}/team/app:1'\nnetwork = 'none'\nupdate = 'registry'\nsnapshot = true\n[mounts]\n\
             '/data' = {{ volume = 'db' }}\n"
        ),
    )?;
    machine.sh("systemctl daemon-reload; systemctl start db-container; sleep 0.3")?;

    // What can't be put back isn't even fetched.
    push(machine, "1", &bad("a"))?;
    write(
        machine,
        "other",
        "image = 'debian:13'\nnetwork = 'none'\n[mounts]\n'/data' = { volume = 'db', read-only = true }\n",
    )?;
    let checked = machine.sh("wharf check db")?;
    assert!(checked.contains("asks for volume db alone, and other has it as well"), "{checked}");
    machine.sh("systemctl daemon-reload; systemctl start other-container")?;
    let why = refused(machine, "")?;
    assert!(why.contains("db says snapshot = true, but volume db is used by other too"), "{why}");
    let shown = json(&machine.run("wharf update --dry-run --json")?.stdout);
    assert_eq!(shown["images"][0]["here"], first, "{shown}");
    assert!(
        shown["images"][0]["problem"].as_str().is_some_and(|text| text.contains("used by other")),
        "{shown}"
    );
    machine.sh("systemctl restart db-container; sleep 0.3")?;
    assert_eq!((runs(machine)?, log(machine)?), (first.clone(), "1 1".into()));
    machine
        .sh("systemctl stop other-container; rm /etc/wharf/containers/other.toml; systemctl daemon-reload")?;

    // A bad one is put back with its data.
    let shown = json(&updated(machine, "--dry-run --json")?);
    assert_eq!(shown["images"][0]["snapshots"]["db"], serde_json::json!(["db"]), "{shown}");
    let shown = updated(machine, "--dry-run")?;
    assert!(shown.contains("db: a snapshot of volume db is taken before"), "{shown}");
    refused(machine, "")?;
    let so_far = came_back(machine, &first, "1 1")?;
    nothing_is_left(machine, "a bad one")?;
    assert_eq!(updated(machine, "--json")?.matches("\"held\"").count(), 1, "it isn't tried again");

    // Killed when the bad one has destroyed them.
    push(machine, "1", &bad("b"))?;
    let trial = machine.start("exec wharf update --settle 20s")?;
    until(machine, "grep -q destroyed /var/lib/wharf/volumes/db/log")?;
    machine.sh("kill -KILL $(cut -d' ' -f1 /run/wharf/apply.lock)")?;
    trial.rest();
    until(machine, "grep -q 1 /var/lib/wharf/volumes/db/log && systemctl is-active -q db-container")?;
    machine.sh("sleep 0.3")?;
    assert_eq!((runs(machine)?, log(machine)?), (first.clone(), format!("{so_far} 1")));
    machine.sh("systemctl daemon-reload; systemctl restart db-container; sleep 0.3")?;
    assert_eq!((runs(machine)?, log(machine)?), (first, format!("{so_far} 1 1")));
    nothing_is_left(machine, "killed")?;

    // A good one.
    let second = push(machine, "1", &well("2"))?;
    updated(machine, "")?;
    assert_eq!((runs(machine)?, log(machine)?), (second, format!("{so_far} 1 1 2")));
    nothing_is_left(machine, "a good one")?;
    assert_eq!(machine.sh("ls /var/lib/wharf/held")?, "");
    gone(machine, &["db"])?;
    machine.sh(&format!(
        "systemctl stop registry; wharf image remove {HOST}/team/app:1; wharf image logout {HOST}; wharf image prune; \
         rm -r /etc/wharf/wharf.toml /srv/registry /tmp/elsewhere && systemctl daemon-reload"
    ))?;
    without_xfs(machine)?;
    Ok(())
}

/// What runs is one of both, with its data.
fn assert_whole(machine: &Machine, what: &str, before: &str, good: &str) -> Result<()> {
    until(machine, "systemctl is-active -q db-container")?;
    machine.sh("sleep 0.3")?;
    let now = log(machine)?;
    assert!(!now.contains("destroyed"), "{what}: {now}");
    assert!(now.starts_with(before), "{what}: {now}, and before {before}");
    assert_eq!(runs(machine)?, good, "{what}");
    Ok(())
}

fn killed(stage: &mut Stage) -> Told {
    let times = stage.times(4, 100);
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh("rm -rf /var/lib/wharf/volumes")?;
    with_xfs(machine)?;
    let good = moves(machine, &well("1"))?;
    write(machine, "db", &said("db"))?;
    machine.sh("systemctl daemon-reload; systemctl start db-container; sleep 0.3")?;
    for time in 0..times {
        let before = log(machine)?;
        moves(machine, &format!("{BAD}; : {time}"))?;
        // From before its beginning until the old version is back.
        let after = 0.1 + 3.4 * f64::from(time) / f64::from(times);
        let what = format!("killed after {after:.2} s");
        machine.run(&format!("timeout -s KILL {after:.2} wharf update --settle 2s"))?;
        // systemd starts it again when it has crashed, and then somebody restarts it, reloaded or not.
        machine.sh("sleep 1.5")?;
        // Before anything was marked nothing was begun, and a start would be of what the tag names.
        let is_marked = machine.run("ls /var/lib/wharf/held/db.json")?.code == 0;
        if is_marked {
            machine.sh("systemctl restart db-container; sleep 0.3")?;
        }
        assert_whole(machine, &what, &before, &good)?;
        let written = log(machine)?;
        assert!(written.ends_with('1'), "{what}: {written}");
        if is_marked {
            machine.sh("systemctl daemon-reload; systemctl restart db-container")?;
            assert_whole(machine, &what, &written, &good)?;
        }
        nothing_is_left(machine, &what)?;
        machine.sh("rm -rf /var/lib/wharf/held; systemctl daemon-reload")?;
        // As it was: nothing is to be updated.
        moves(machine, &well("1"))?;
    }

    // The next update goes on with the snapshot that a killed one has left, and drops it after the proof.
    let before = log(machine)?;
    let better = moves(machine, &well("2"))?;
    let update = machine.start("exec wharf update --settle 60s")?;
    until(machine, "ls /var/lib/wharf/held/db.taken && grep -q 2 /var/lib/wharf/volumes/db/log")?;
    machine.sh("kill -KILL $(cut -d' ' -f1 /run/wharf/apply.lock)")?;
    update.rest();
    let label = machine.sh("ls /var/lib/wharf/volumes/.snapshots/db")?;
    machine.sh("sleep 1; wharf update --settle 1s")?;
    assert_eq!((runs(machine)?, log(machine)?), (better.clone(), format!("{before} 2 2")));
    nothing_is_left(machine, &label)?;

    away(machine, &well("5"), &better)?;
    moves(machine, &well("2"))?;
    machine.sh("wharf apply --settle 1s")?;
    nothing_is_left(machine, "away")?;

    // Left alone for long, until the power went: what it has written since stays beside.
    let before_that = log(machine)?;
    moves(machine, &well("5"))?;
    let update = machine.start("exec wharf update --settle 60s")?;
    until(machine, "ls /var/lib/wharf/held/db.taken && grep -q 5 /var/lib/wharf/volumes/db/log")?;
    machine.sh("kill -KILL $(cut -d' ' -f1 /run/wharf/apply.lock)")?;
    update.rest();
    machine
        .sh("sed -i 's/\"boot\":\"[^\"]*/\"boot\":\"another/' /var/lib/wharf/held/db.taken; systemctl restart db-container; sleep 0.3")?;
    assert_eq!((runs(machine)?, log(machine)?), (better.clone(), format!("{before_that} 2")));
    let kept =
        machine.sh("cd /var/lib/wharf/volumes/.snapshots/db; cat */tree/log; ls | grep -c 'after$'")?;
    assert_eq!(kept.split_whitespace().collect::<Vec<_>>().join(" "), format!("{before_that} 5 1"));
    machine.sh(
        "for volume in db db-more; do wharf volume drop-snapshot $volume $(ls /var/lib/wharf/volumes/.snapshots/$volume); done",
    )?;
    moves(machine, &well("2"))?;
    machine.sh("wharf apply --settle 1s")?;

    // Its tag moves on once more while the old version stops: what starts is what is tried, with its snapshot, and what
    // fails is that.
    let slowly = well("2").replace("exit TERM", "\"test ! -e /more/slow || sleep 10; exit\" TERM");
    let slowly = moves(machine, &slowly)?;
    updated(machine, "")?;
    let so_far = log(machine)?;
    moves(machine, &well("6"))?;
    machine.sh("touch /var/lib/wharf/volumes/db-more/slow")?;
    let update = machine.start("exec wharf update --settle 2s 2>&1")?;
    until(machine, "grep -q '\"trying\"' /var/lib/wharf/held/db.json")?;
    let destroys = moves(machine, BAD)?;
    machine.sh("rm /var/lib/wharf/volumes/db-more/slow")?;
    let told = update.rest().join("\n");
    assert!(told.contains("db: FAILED: its program ended with status 3"), "{told}");
    assert!(told.contains("run again"), "{told}");
    machine.sh("sleep 0.3")?;
    let so_far = came_back(machine, &slowly, &so_far)?;
    assert!(machine.sh("cat /var/lib/wharf/held/db.json")?.contains(&destroys));
    machine.sh("systemctl daemon-reload; systemctl restart db-container; sleep 0.3")?;
    assert_eq!(log(machine)?, format!("{so_far} 2"));
    nothing_is_left(machine, "a tag that moves twice")?;
    moves(machine, &well("2"))?;
    updated(machine, "")?;
    let before = log(machine)?;
    let before = before.strip_suffix(" 2 2").unwrap_or(&before);

    // Somebody starts a third version, and its data are never given up for those of before.
    moves(machine, &well("3"))?;
    let update = machine.start("exec wharf update --settle 60s")?;
    until(machine, "ls /var/lib/wharf/held/db.taken && grep -q 3 /var/lib/wharf/volumes/db/log")?;
    machine.sh("kill -KILL $(cut -d' ' -f1 /run/wharf/apply.lock)")?;
    update.rest();
    moves(machine, &well("4"))?;
    machine.sh("systemctl daemon-reload; systemctl restart db-container; sleep 0.3")?;
    assert_eq!(log(machine)?, format!("{before} 2 2 3 4"));
    machine.sh(
        "ls /var/lib/wharf/held/db.left; wharf apply --settle 1s; systemctl restart db-container; sleep 0.3",
    )?;
    assert_eq!(log(machine)?, format!("{before} 2 2 3 4 4"));
    nothing_is_left(machine, "a third version")?;
    gone(machine, &["db"])?;
    machine.sh("wharf image remove db:1; wharf image prune; systemctl daemon-reload")?;
    without_xfs(machine)?;
    Ok(())
}

fn power_cut(stage: &mut Stage) -> Told {
    let times = stage.times(3, 20);
    let mut machine = Machine::strict(stage.kind(), &Recipe::base())?;
    install_wharf(&machine)?;
    import(&machine, &DEBIAN)?;
    with_xfs(&machine)?;
    let good = moves(&machine, &well("1"))?;
    write(&machine, "db", &said("db"))?;
    machine.sh("systemctl daemon-reload; systemctl start db-container; sleep 0.3; sync")?;
    for time in 0..times {
        let before = log(&machine)?;
        moves(&machine, &format!("{BAD}; : {time}"))?;
        machine.sh("sync")?;
        let update = machine.start("wharf update --settle 2s")?;
        // Once for sure while it is marked.
        if time == 0 {
            until(&machine, "grep -q '\"trying\"' /var/lib/wharf/held/db.json")?;
            machine.let_pass(Duration::from_millis(500));
        }
        let after = some_moment(Duration::from_millis(if time == 0 { 1000 } else { 3500 }));
        machine.let_pass(after);
        machine.power_cut()?;
        drop(update);
        machine.boot_again()?;
        let what = format!("the power went after {after:?}");
        // Cut before anything was marked, the tag had moved already, and boot starts what it names.
        let is_marked = machine.run("ls /var/lib/wharf/held/db.json")?.code == 0;
        assert!(is_marked || time > 0, "{what}");
        if is_marked {
            assert_whole(&machine, &what, &before, &good)?;
            let written = log(&machine)?;
            machine.sh("systemctl restart db-container")?;
            assert_whole(&machine, &what, &written, &good)?;
            // What was written since is kept where it was put back in another boot, for people to drop.
            machine.sh(
                "cd /var/lib/wharf/volumes/.snapshots; for kept in $(ls -d */*.after 2>/dev/null); do \
                 wharf volume drop-snapshot ${kept/\\// }; done",
            )?;
            nothing_is_left(&machine, &what)?;
        }
        machine.sh("systemctl stop db-container; systemctl reset-failed; rm -rf /var/lib/wharf/held /var/lib/wharf/volumes/db*")?;
        moves(&machine, &well("1"))?;
        machine.sh("systemctl daemon-reload; systemctl start db-container; sleep 0.3; sync")?;
    }
    machine.throw_away()?;
    Ok(())
}
