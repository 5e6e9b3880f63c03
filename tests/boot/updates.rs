//! `wharf update`, against a registry in the machine.

use std::time::Duration;

use super::apply::{gone, json, write};
use super::containers::{DEBIAN, property, until, with};
use super::machine::{Machine, Output, Result};
use super::pulled::{HOST, fill};
use super::stage::{On, Stage, Story, Told};
use super::trust::{Signer, put};

/// The stories of this module.
pub const STORIES: &[Story] =
    &[Story { name: "updates come from a registry, and bad ones are put back", on: On::Fast, tell: updates }];

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

/// Pushes a small image that runs this, under a tag; gives its digest.
pub fn push(machine: &Machine, tag: &str, command: &str) -> Result<String> {
    machine.sh(&format!(
        "set -e; rm -rf /tmp/elsewhere; mkdir -p /tmp/elsewhere/etc/wharf; \
         tar -C / -chf - bin/sh bin/sleep $(ldd /bin/sh /bin/sleep | grep -o ' */[^ :]*' | sort -u | cut -d/ -f2-) \
         2>/dev/null | wharf --root /tmp/elsewhere image import --name {HOST}/team/app:{tag} \
         --command /bin/sh --command -c --command '{command}' - >/dev/null; \
         cp /etc/wharf/wharf.toml /etc/wharf/auth.json /tmp/elsewhere/etc/wharf/; \
         wharf --root /tmp/elsewhere image push {HOST}/team/app:{tag} >&2; \
         wharf image inspect --remote --json {HOST}/team/app:{tag} | sed -n 's/^ *\"digest\": \"\\(.*\\)\",/\\1/p' | head -n 1"
    ))
}

const STAYS: &str = "trap exit TERM; sleep infinity & wait";

/// A registry in the machine, which it is logged in at.
pub fn registry(machine: &Machine) -> Result<()> {
    fill(machine)?;
    machine.sh(
        "systemd-run -q --unit=registry docker-registry serve /srv/registry/config.yml; \
         until curl -s --cacert /srv/registry/ca.pem https://localhost:5000/v2/ >/dev/null; do sleep 0.1; done",
    )?;
    machine.write(
        "/etc/wharf/wharf.toml",
        format!("[registries.\"{HOST}\"]\nauthorities = ['/srv/registry/ca.pem']\n"),
    )?;
    machine.sh(&format!("echo secret | wharf image login --username me --password-stdin {HOST}")).map(drop)
}

/// Where only what is signed is trusted: a new image without a signature, and one that a stranger has signed, are left
/// where they are, and what runs goes on, through a restart too.
fn only_signed(machine: &Machine, runs: &str) -> Result<()> {
    let (signer, stranger) = (Signer::new(&[])?, Signer::new(&[])?);
    put(machine, "/etc/wharf/keys/ops.gpg", signer.gpg(&["--export"], b"")?)?;
    let name = format!("{HOST}/team/app:1");
    let sign = |signer: &Signer, digest: &str, number: u32| {
        let payload = format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{name}\"}},\"image\":{{\"docker-manifest-digest\":\"{digest}\"}},\
             \"type\":\"atomic container signature\"}},\"optional\":{{}}}}"
        );
        let place = format!("/srv/signatures/team/app@{}/signature-{number}", digest.replace(':', "="));
        put(machine, &place, signer.gpg(&["--sign"], payload.as_bytes())?)
    };
    let is_served = || {
        let inspected = json(&machine.sh("wharf inspect --json follows")?);
        Ok(inspected["image"]["running"].as_str().unwrap_or_default().to_owned())
    };
    // Who pushes trusts itself.
    let anything = machine.run("cat /etc/wharf/wharf.toml")?.stdout;
    let next = push(machine, "1", &format!("{STAYS}; : signed"))?;
    machine.write(
        "/etc/wharf/wharf.toml",
        anything.clone()
            + "signatures = '/srv/signatures'\n[trust.rules.\"localhost:5000\"]\npolicy = 'signed'\n",
    )?;
    sign(&signer, runs, 1)?;
    machine.sh(&format!("wharf image verify --fetch {name}"))?;
    for (by, why) in [(None, "is not signed"), (Some(&stranger), "is not one of the trusted keys")] {
        if let Some(stranger) = by {
            sign(stranger, &next, 1)?;
        }
        let said = refused(machine, "follows")?;
        assert!(said.contains("can't be updated") && said.contains(why), "{said}");
        machine.sh("systemctl daemon-reload; systemctl restart follows-container")?;
        assert_eq!(is_served()?, runs);
        assert_eq!(machine.sh("ls /var/lib/wharf/held")?, "");
    }
    sign(&signer, &next, 2)?;
    updated(machine, "follows")?;
    assert_eq!(is_served()?, next);
    machine.write("/etc/wharf/wharf.toml", anything)?;
    machine.sh("rm -r /etc/wharf/keys /srv/signatures").map(drop)
}

fn updates(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    registry(machine)?;
    let first = push(machine, "1", STAYS)?;
    let image = format!("image = '{HOST}/team/app:1'\nnetwork = 'none'\n");
    write(machine, "follows", &format!("{image}update = 'registry'\n"))?;
    write(machine, "stays", &image)?;
    machine.sh("systemctl daemon-reload; systemctl start follows-container stays-container")?;
    let runs = |name: &str| -> Result<String> {
        let inspected = json(&machine.sh(&format!("wharf inspect --json {name}"))?);
        Ok(inspected["image"]["running"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!((runs("follows")?, runs("stays")?), (first.clone(), first.clone()));

    // Nothing is new: nothing is fetched or restarted.
    let pid = property(machine, "follows", "MainPID")?;
    assert_eq!(updated(machine, "")?, "nothing is to be updated\n");
    assert_eq!(property(machine, "follows", "MainPID")?, pid);

    // A new one; it is looked at, and then had.
    let second = push(machine, "1", &format!("{STAYS}; : second"))?;
    assert_ne!(first, second);
    let shown = updated(machine, "--dry-run")?;
    assert!(shown.contains("and would be fetched"), "{shown}");
    assert_eq!(property(machine, "follows", "MainPID")?, pid);
    let shown = updated(machine, "")?;
    assert!(shown.contains("and was fetched") && shown.contains("follows: runs"), "{shown}");
    assert_eq!((runs("follows")?, runs("stays")?), (second.clone(), first.clone()));
    assert_eq!(updated(machine, "")?, "nothing is to be updated\n");
    assert_eq!(machine.sh("ls /var/lib/wharf/held")?, "");

    // One that crashes, once; it isn't tried again, until the tag moves.
    let bad = push(machine, "1", "exit 5")?;
    let said = refused(machine, "")?;
    assert!(said.contains("its program ended") && said.contains("run again"), "{said}");
    assert_eq!(runs("follows")?, second);
    let pid = property(machine, "follows", "MainPID")?;
    let shown = json(&updated(machine, "--json")?);
    assert_eq!(shown["containers"][0]["action"], "held", "{shown}");
    assert_eq!(shown["images"][0]["there"], bad, "{shown}");
    assert_eq!(shown["images"][0]["fetched"], false, "{shown}");
    assert_eq!(property(machine, "follows", "MainPID")?, pid);
    machine.sh("systemctl restart follows-container")?;
    assert_eq!(runs("follows")?, second);
    // Whatever else its file says by then: that waits for who made it, and what failed is started by nobody else.
    write(machine, "follows", &format!("{image}update = 'registry'\ninit = true\n"))?;
    let pid = property(machine, "follows", "MainPID")?;
    let waits = update(machine, "")?;
    assert_eq!(waits.code, 0, "{} {}", waits.stdout, waits.stderr);
    assert!(waits.stderr.contains("waits for: wharf apply follows"), "{}", waits.stderr);
    assert_eq!(property(machine, "follows", "MainPID")?, pid);
    machine.sh("systemctl daemon-reload; systemctl restart follows-container")?;
    assert_eq!(runs("follows")?, second);
    write(machine, "follows", &format!("{image}update = 'registry'\n"))?;
    // By the timer's unit, the journal has it, with its catalogue entry.
    push(machine, "1", "exit 6")?;
    machine.sh("journalctl --update-catalog; ! systemctl start wharf-update.service && journalctl --sync")?;
    assert_eq!(runs("follows")?, second);
    let id = wharf::journal::Kind::Change.id();
    let said = machine.sh(&format!("journalctl -q -o cat CONTAINER_NAME=follows MESSAGE_ID={id}"))?;
    assert!(said.starts_with("follows: FAILED: ") && said.lines().count() == 1, "{said}");
    let said = machine.sh("journalctl -q -x -b -u wharf-update")?;
    assert_eq!(said.matches("follows: FAILED: ").count(), 1, "{said}");
    assert!(said.contains("A change of the container follows does not run"), "{said}");
    let third = push(machine, "1", &format!("{STAYS}; : third"))?;
    updated(machine, "")?;
    assert_eq!(runs("follows")?, third);

    // Killed between the fetch and the restart, or later: the next start is of what ran.
    for after in ["0.3", "0.8", "1.5"] {
        push(machine, "1", &format!("sleep {after}; exit 1"))?;
        machine.run(&format!("timeout -s KILL {after} wharf update --settle 5s"))?;
        machine.sh("sleep 3; systemctl daemon-reload; systemctl restart follows-container; sleep 2")?;
        assert_eq!(
            (runs("follows")?, property(machine, "follows", "ActiveState")?),
            (third.clone(), "active".into())
        );
    }
    push(machine, "1", &format!("{STAYS}; : fourth"))?;
    updated(machine, "")?;
    let fourth = runs("follows")?;
    assert_ne!(fourth, third);

    // What has other changes waits for who made them; and what doesn't say it isn't updated.
    push(machine, "1", &format!("{STAYS}; : fifth"))?;
    write(machine, "follows", &format!("{image}update = 'registry'\ninit = true\n"))?;
    let waits = update(machine, "")?;
    assert_eq!(waits.code, 0);
    assert!(waits.stderr.contains("waits for: wharf apply follows"), "{}", waits.stderr);
    assert_eq!(runs("follows")?, fourth);
    let said = refused(machine, "stays")?;
    assert!(said.contains("its file doesn't say `update`"), "{said}");
    machine.sh("wharf apply --settle 1s follows")?;
    assert_ne!(property(machine, "follows", "MainPID")?, "0");
    updated(machine, "")?;
    let fifth = runs("follows")?;
    assert_ne!(fifth, fourth);

    // By the store alone.
    write(machine, "local", "image = 'local:1'\nnetwork = 'none'\nupdate = 'local'\n")?;
    machine.sh(&format!("wharf image tag {HOST}/team/app:1 local:1; wharf apply --settle 1s local"))?;
    machine.sh("wharf image tag debian:13 local:1")?;
    updated(machine, "local")?;
    assert_ne!(runs("local")?, fifth);

    // A registry that doesn't answer is told, and nothing is touched.
    machine.sh("systemctl stop registry")?;
    let said = refused(machine, "")?;
    assert!(said.contains("can't be updated"), "{said}");
    assert_eq!(runs("follows")?, fifth);
    machine.sh(
        "systemd-run -q --unit=registry docker-registry serve /srv/registry/config.yml; \
         until curl -s --cacert /srv/registry/ca.pem https://localhost:5000/v2/ >/dev/null; do sleep 0.1; done",
    )?;

    only_signed(machine, &fifth)?;
    let fifth = runs("follows")?;

    // Pins: honoured, and moved when that is asked for; the rest of the file stays.
    let pinned = |digest: &str| {
        format!("# the app\nimage   = '{HOST}/team/app:1@{digest}' # pinned\nnetwork='none'\r\n")
    };
    write(machine, "pinned", &pinned(&fifth))?;
    machine.sh("wharf apply --settle 1s pinned")?;
    let sixth = push(machine, "1", &format!("{STAYS}; : sixth"))?;
    updated(machine, "follows")?;
    assert_eq!((runs("follows")?, runs("pinned")?), (sixth.clone(), fifth.clone()));
    assert!(refused(machine, "pinned")?.contains("wharf update --pin"));
    let shown = updated(machine, "--pin --dry-run")?;
    assert!(shown.contains(&format!("+image   = '{HOST}/team/app:1@{sixth}' # pinned")), "{shown}");
    assert_eq!(runs("pinned")?, fifth);
    updated(machine, "--pin pinned")?;
    assert_eq!(runs("pinned")?, sixth);
    let file = machine.run("cat /etc/wharf/containers/pinned.toml")?.stdout;
    assert_eq!(file, pinned(&sixth));
    assert_eq!(updated(machine, "--pin")?, "nothing is to be updated\n");

    // Instances of a template share one line, and both are applied.
    write(machine, "pair@", &format!("image = '{HOST}/team/app:1@{fifth}'\nnetwork = 'none'\n"))?;
    machine.sh("systemctl daemon-reload; systemctl start pair-container@blue pair-container@green")?;
    let shown = updated(machine, "--pin pair@blue pair@green")?;
    assert_eq!(shown.matches("\n+image").count(), 1, "{shown}");
    assert_eq!((runs("pair@blue")?, runs("pair@green")?), (sixth.clone(), sixth.clone()));
    machine.sh("systemctl stop pair-container@blue pair-container@green")?;

    // A pin in an image's own file is moved there.
    let third_tag = push(machine, "3", STAYS)?;
    machine.write(
        "/etc/wharf/images/team.toml",
        format!("image = '{HOST}/team/app:3'\ndigest = '{third_tag}'\n"),
    )?;
    write(machine, "elsewhere", &format!("image = '{HOST}/team/app:3'\nautostart = false\n"))?;
    for how in ["", "--pin "] {
        let said = refused(machine, &format!("{how}elsewhere"))?;
        assert!(said.contains("is pinned in /etc/wharf/images/team.toml"), "{how}{said}");
    }
    machine.sh("rm /etc/wharf/images/team.toml /etc/wharf/containers/elsewhere.toml")?;

    // So is one in a package's file, by a drop-in.
    let packaged = "/usr/lib/wharf/containers/packaged.toml";
    let text = format!("image = '{HOST}/team/app:1@{fifth}'\nautostart = false\n");
    machine.write(packaged, &text)?;
    let said = refused(machine, "--pin packaged")?;
    let way = format!(
        "write image = \"{HOST}/team/app:1@{sixth}\" into /etc/wharf/containers/packaged.toml.d/pin.toml"
    );
    assert!(said.contains(packaged) && said.contains(&way), "{said}");
    assert_eq!(machine.run(&format!("cat {packaged}"))?.stdout, text);
    machine.sh("rm -r /usr/lib/wharf")?;

    // What is between two starts when its tag moves keeps what it had, until somebody looks at how the new one does.
    let bad = push(machine, "2", "exit 1")?;
    write(
        machine,
        "flaps",
        &format!("image = '{HOST}/team/app:2'\nnetwork = 'none'\nupdate = 'registry'\n"),
    )?;
    machine.run("systemctl daemon-reload; systemctl start flaps-container; sleep 5")?;
    assert_eq!(property(machine, "flaps", "ActiveState")?, "activating");
    let better = push(machine, "2", STAYS)?;
    assert_ne!(bad, better);
    updated(machine, "flaps")?;
    machine.sh("grep -q '\"state\":\"waiting\"' /var/lib/wharf/held/flaps.json")?;
    assert_ne!(property(machine, "flaps", "ActiveState")?, "active");
    machine.sh("wharf apply --settle 1s flaps")?;
    assert_eq!(runs("flaps")?, better);
    assert_eq!(machine.sh("ls /var/lib/wharf/held")?, "");

    // What was edited and put back since the last reload is restarted as its file says.
    write(machine, "flaps", &format!("image = '{HOST}/team/app:2'\ninit = true\nupdate = 'registry'\n"))?;
    machine.sh("systemctl daemon-reload")?;
    write(
        machine,
        "flaps",
        &format!("image = '{HOST}/team/app:2'\nnetwork = 'none'\nupdate = 'registry'\n"),
    )?;
    let best = push(machine, "2", &format!("{STAYS}; : best"))?;
    updated(machine, "flaps")?;
    assert_eq!((runs("flaps")?, machine.sh("wharf changed flaps")?), (best, String::new()));

    // A job that runs meanwhile isn't disturbed, however often its tag moves; its next run is of what that names by then.
    let old = push(machine, "4", &format!("{STAYS}; : old"))?;
    let job = format!("image = '{HOST}/team/app:4'\nnetwork = 'none'\ntype = 'job'\nautostart = false\n");
    write(machine, "job", &format!("{job}update = 'registry'\n"))?;
    let run = "systemctl start --no-block job-container";
    machine.sh(&format!("systemctl daemon-reload; {run}"))?;
    until(machine, "wharf exec job /bin/sh -c :")?;
    let pid = property(machine, "job", "MainPID")?;
    let mut newest = String::new();
    for word in ["newer", "newest"] {
        newest = push(machine, "4", &format!("{STAYS}; : {word}"))?;
        assert!(updated(machine, "job")?.contains("and was fetched"));
        assert_eq!((runs("job")?, property(machine, "job", "MainPID")?), (old.clone(), pid.clone()));
        assert_eq!(machine.sh("ls /var/lib/wharf/held")?, "");
    }
    machine.sh(&format!("systemctl stop job-container; {run}"))?;
    until(machine, "wharf exec job /bin/sh -c :")?;
    assert_eq!(runs("job")?, newest);

    // The timer's unit does the same.
    let seventh = push(machine, "1", &format!("{STAYS}; : seventh"))?;
    machine.sh("systemd-analyze verify --man=no wharf-update.timer wharf-update.service && systemctl start wharf-update.service")?;
    assert_eq!((runs("follows")?, runs("pinned")?), (seventh, sixth));
    assert_ne!(machine.run("systemctl is-enabled wharf-update.timer")?.code, 0);
    gone(machine, &["follows", "stays", "local", "pinned", "pair@", "flaps", "job"])?;
    machine.sh(&format!(
        "systemctl stop registry; wharf image remove {HOST}/team/app:1 {HOST}/team/app:2 {HOST}/team/app:4 local:1; wharf image logout {HOST}; \
         wharf image prune; rm -r /etc/wharf/wharf.toml /srv/registry /tmp/elsewhere && systemctl daemon-reload"
    ))?;
    Ok(())
}
