//! Files into containers and out of them, volumes as archives, and what is known of the network.

use std::io::Cursor;
use std::time::Instant;

use super::containers::{DEBIAN, declare, feed, forget, import, until, with};
use super::machine::{Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf, some_moment};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "files go into containers and out of them", on: On::FastThenFull, tell: copies },
    Story { name: "volumes leave as archives and come back", on: On::Fast, tell: archives },
    Story { name: "an import that power cut leaves one of both volumes", on: On::Fast, tell: cut },
    Story { name: "a network shows who is on it", on: On::Fast, tell: networks },
];

fn fails(machine: &Machine, line: &str, words: &str) -> Result<()> {
    let output = machine.run(line)?;
    assert_eq!(output.code, 1, "{line}: {output:?}");
    assert!(output.stderr.contains(words), "{line}: {}", output.stderr);
    Ok(())
}

/// Everything below a folder, as one text.
const LOOK: &str = "find . -printf '%P %y %m %U:%G %T@ %l %n\\n' | sort; \
    find . -type f -print0 | sort -z | xargs -0 cat | sha256sum";

/// A tar with one file, which has a file capability and an access list, and belongs to user 33.
fn with_attributes() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let list: Vec<u8> = [
        &[2, 0, 0, 0][..],
        &[1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 33, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255],
        &[16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    let records = [
        ("SCHILY.xattr.security.capability", &capability[..]),
        ("SCHILY.xattr.system.posix_acl_access", &list),
        ("SCHILY.xattr.user.note", b"kept"),
    ];
    tar.append_pax_extensions(records).expect("memory");
    let mut header = tar::Header::new_ustar();
    header.set_path("able").expect("a name");
    header.set_size(3);
    header.set_mode(0o640);
    header.set_uid(33);
    header.set_gid(34);
    header.set_mtime(1_000_000_000);
    header.set_cksum();
    tar.append(&header, &b"yes"[..]).expect("memory");
    tar.into_inner().expect("memory")
}

fn copies(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let common = "image = 'debian:13'\nautostart = false\nnetwork = 'none'\n";
    let volume =
        "[mounts]\n'/data' = { volume = 'guest-data' }\n'/srv/app.conf' = { bind = '/srv/app.conf' }\n";
    machine.sh("echo mounted >/srv/app.conf")?;
    declare(machine, "guest", &format!("{common}root = 'ephemeral'\n{volume}"))?;
    declare(machine, "fixed", common)?;
    declare(machine, "kin", &format!("{common}root = 'ephemeral'\nuser-namespace = false\n"))?;
    machine.sh("systemctl start guest-container fixed-container kin-container")?;
    machine.sh(
        "rm -rf /tmp/in /tmp/out; mkdir -p /tmp/in/sub /tmp/out; cd /tmp/in; seq 100000 >sub/file; ln sub/file same; \
         ln -s /etc/passwd link; truncate -s 40M sparse; echo x >>sparse; mkfifo pipe; : >empty; \
         chown -h 33:34 sub/file link; chmod 4751 sub/file; chown 7:8 sub; chmod 2750 sub; \
         touch -d '2001-02-03 04:05:06.789' sub; touch -d '2002-02-03 04:05:06.789' .",
    )?;
    let before = machine.sh(&format!("cd /tmp/in; {LOOK}"))?;
    for name in ["guest", "kin"] {
        machine.sh(&format!("wharf cp /tmp/in {name}:/srv"))?;
        let inside = |script: &str| machine.sh(&format!("wharf exec --user root {name} sh -c \"{script}\""));
        let seen = inside(&format!("cd /srv/in; {}", LOOK.replace('\\', "\\\\")))?;
        assert_eq!(seen, before, "{name} has it as it is");
        let blocks: u64 = inside("stat -c %b /srv/in/sparse")?.parse().expect("a number");
        assert!(blocks * 512 < 10_000_000, "holes take no memory: {blocks}");
        machine.sh(&format!("rm -rf /tmp/out/*; wharf cp --keep-set-id {name}:/srv/in /tmp/out"))?;
        assert_eq!(machine.sh(&format!("cd /tmp/out/in; {LOOK}"))?, before, "and gives it back");
        machine.sh(&format!("rm -rf /tmp/out/*; wharf cp --keep-set-id {name}:/srv/in/. /tmp/out/new"))?;
        assert_eq!(machine.sh(&format!("cd /tmp/out/new; {LOOK}"))?, before, "under another name, too");

        let plain =
            machine.run(&format!("wharf cp {name}:/srv/in/sub/file /tmp/out && stat -c %a /tmp/out/file"))?;
        assert!(plain.stdout == "751\n" || plain.stdout == "751", "{plain:?}");
        assert!(plain.stderr.contains("left out: `file`: its set-user-id"), "{plain:?}");

        // A tar, both ways, also compressed.
        let listed = machine.sh(&format!("wharf cp {name}:/srv/in - | tar -t | sort | tr '\\n' ' '"))?;
        assert_eq!(listed.trim(), "in/ in/empty in/link in/pipe in/same in/sparse in/sub/ in/sub/file");
        machine
            .sh(&format!("tar -C /tmp/in --format=posix -cz sub | wharf cp --owner 9:10 - {name}:/srv"))?;
        assert_eq!(inside("stat -c %u:%g:%a /srv/sub /srv/sub/file")?, "9:10:2750\n9:10:4751");
        fails(machine, &format!("wharf cp - {name}:/srv/none </dev/null"), "is no folder")?;

        // File capabilities and access lists are the container's own, and come back as they were.
        feed(machine, &format!("wharf cp - {name}:/srv"), Cursor::new(with_attributes()))?;
        machine.sh(&format!("wharf cp {name}:/srv/able - >/tmp/out/able.tar"))?;
        let tar = machine.sh("base64 -w0 /tmp/out/able.tar")?;
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, tar.trim()).expect("base64");
        for record in [
            &b"57 SCHILY.xattr.security.capability=\x01\0\0\x02\0\x04\0\0"[..],
            b"SCHILY.xattr.user.note=kept\n",
            b"\x02\0\x04\0\x21\0\0\0",
        ] {
            assert!(bytes.windows(record.len()).any(|part| part == record), "{name}: {record:?} in the tar");
        }
        assert_eq!(inside("stat -c %u:%g:%a:%Y /srv/able")?, "33:34:640:1000000000");

        // One file: in the place of another, by a link, and from a link.
        inside(
            "echo old >/srv/page; ln -s page /srv/to-page; ln -s /srv /srv/to-srv; ln -s /none /srv/nowhere",
        )?;
        machine.sh(&format!("echo new >/tmp/page; wharf cp /tmp/page {name}:/srv/to-page"))?;
        assert_eq!(inside("cat /srv/page; readlink /srv/to-page")?, "new\npage");
        machine.sh(&format!("echo third >/tmp/page; cd /tmp; wharf cp page {name}:srv/to-srv"))?;
        assert_eq!(inside("cat /srv/page; ls -A /srv | grep wharf-; :")?, "third");
        machine.sh(&format!("cd /tmp/out; wharf cp {name}:/srv/to-page . && readlink to-page"))?;
        fails(machine, &format!("wharf cp /tmp/page {name}:/srv/nowhere"), "leads nowhere")?;
        fails(machine, &format!("wharf cp /tmp/page {name}:/srv/none/page"), "make the one above it first")?;
        fails(machine, &format!("wharf cp {name}:/srv/none /tmp"), &format!("there is no {name}:/srv/none"))?;
        fails(machine, &format!("wharf cp /tmp/in {name}:/srv/page"), "a folder can't take its place")?;

        // Names are the container's own.
        machine.sh(&format!("wharf cp --owner www-data:adm /tmp/page {name}:/srv/named"))?;
        machine.sh(&format!("tar -C /tmp -c page | wharf cp --owner www-data - {name}:/srv/to-srv/."))?;
        assert_eq!(inside("stat -c %u:%g /srv/named /srv/page")?, "33:4\n33:33");
        fails(machine, &format!("wharf cp --owner nosuch /tmp/page {name}:/srv"), "user nosuch is not in")?;
        fails(
            machine,
            &format!("wharf cp {name}:/dev/null /tmp/out"),
            "nothing to copy: `null`: it is a device",
        )?;

        // What a container makes of its links leads nowhere else.
        machine.sh("echo mine >/tmp/secret")?;
        inside("rm -rf /srv/way; ln -s ../../../../../../../tmp /srv/way")?;
        fails(machine, &format!("wharf cp {name}:/srv/way/secret /tmp/out"), "there is no")?;
        machine.sh(&format!("wharf cp /tmp/page {name}:/srv/way/secret"))?;
        assert_eq!(machine.sh("cat /tmp/secret")?, "mine");
        assert_eq!(inside("cat /tmp/secret")?, "third", "its own /tmp, which is memory");
        // The kernel's own files, which have no size.
        machine.sh(&format!("wharf cp {name}:/proc/1/comm /tmp/out/comm && test -s /tmp/out/comm"))?;
    }
    fails(machine, "wharf cp /tmp/page guest:/srv/app.conf", "something is mounted there")?;
    let still =
        "cat /srv/app.conf; wharf exec guest cat /srv/app.conf; wharf exec guest ls -A /srv | grep wharf-; :";
    assert_eq!(machine.sh(still)?, "mounted\nmounted");
    // Straight from one to the other.
    machine.sh("wharf cp guest:/srv/in kin:/srv/other")?;
    assert_eq!(
        machine.sh("wharf cp kin:/srv/other - | tar -t | wc -l")?,
        machine.sh("wharf cp guest:/srv/in - | tar -t | wc -l")?
    );
    // A volume: on disk the numbers are the container's own.
    machine.sh("wharf cp /tmp/in/sub guest:/data")?;
    let seen = machine.sh("cd /var/lib/wharf/volumes/guest-data/sub; stat -c %u:%g:%a . file")?;
    assert_eq!(seen, "7:8:2750\n33:34:4751");
    // A root that can't be written, and memory in it that can.
    fails(machine, "wharf cp /tmp/page fixed:/srv/page", "its root is read-only")?;
    machine.sh("wharf cp /tmp/page fixed:/tmp/page && wharf cp fixed:/tmp/page /tmp/out/back")?;
    machine.sh("cmp /tmp/page /tmp/out/back")?;
    machine.sh("echo x >/tmp/theirs; chown 70000 /tmp/theirs")?;
    fails(machine, "wharf cp /tmp/theirs guest:/srv", "--owner")?;
    machine.sh("wharf cp --owner 0 /tmp/theirs guest:/srv")?;
    assert_eq!(machine.run("wharf cp /tmp/a /tmp/b")?.code, 2);

    // Killed in the middle of a file: it isn't there, and what was there is what it was.
    machine.sh("head -c 20M /dev/urandom >/tmp/big; wharf cp /tmp/page guest:/srv/big")?;
    machine.sh("rm -f /tmp/fifo; mkfifo /tmp/fifo; wharf cp - guest:/srv </tmp/fifo & exec 3>/tmp/fifo; \
         tar -C /tmp -c big | head -c 9M >&3; kill -9 $! && ! wait $!")?;
    assert_eq!(machine.sh("wharf exec guest cat /srv/big")?, "third");
    machine.sh("wharf cp /tmp/big guest:/srv/big && wharf cp guest:/srv/big - | tar -xO | cmp - /tmp/big")?;

    // What was copied into a container that has ended meanwhile isn't there.
    machine.sh("rm -f /tmp/fifo; mkfifo /tmp/fifo")?;
    let copy = machine.start("wharf cp - guest:/srv </tmp/fifo; echo ended with $?")?;
    machine.sh(
        "exec 3>/tmp/fifo; tar -C /tmp -c page | head -c 512 >&3; sleep 1; systemctl stop guest-container; \
                tar -C /tmp -c page | tail -c +513 >&3; rm /tmp/fifo",
    )?;
    assert!(copy.rest().iter().any(|line| line == "ended with 1"), "it can't have been copied");
    let volume = "/data/sub is in its volume guest-data: that is /var/lib/wharf/volumes/guest-data/sub";
    fails(machine, "wharf cp guest:/data/sub /tmp/out", volume)?;
    fails(machine, "wharf cp guest:/srv/in /tmp/out", "wharf image export debian:13 | tar -x ./srv/in")?;
    fails(machine, "wharf cp gust:/srv/in /tmp/out", "did you mean `guest`?")?;
    forget(machine, &["guest", "fixed", "kin"])?;
    assert!(machine.sh("wharf volume prune --yes guest-data")?.contains("are free"));
    machine.sh("rm -rf /tmp/in /tmp/out /tmp/big /tmp/page /tmp/secret /tmp/theirs /srv/app.conf")?;
    Ok(())
}

fn archives(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let keeper = |volume: &str| {
        format!(
            "image = 'debian:13'\nautostart = false\nnetwork = 'none'\n[mounts]\n'/data' = {{ volume = '{volume}' }}\n"
        )
    };
    // Other stories have volumes, too.
    let format = "wharf volume list --format '{name} {state} {declared} {running}' | grep -E '^(kept|other|third) '; :";
    declare(machine, "keeper", &keeper("kept"))?;
    assert_eq!(machine.sh(format)?, "kept not-made keeper -");
    machine.sh("systemctl start keeper-container")?;
    assert_eq!(machine.sh(format)?, "kept in-use keeper keeper");
    machine.sh(
        "wharf exec --user root keeper sh -c 'cd /data; mkdir a; seq 1000 >a/b; chown 33:34 a/b; chmod 4750 a/b; \
         ln a/b c; ln -s a/b d; truncate -s 100M sparse'",
    )?;
    fails(
        machine,
        "wharf volume export kept -o /tmp/kept.tar",
        "in use by container keeper; stop that first, or say --live",
    )?;
    assert_ne!(machine.run("ls /tmp/kept.tar")?.code, 0);
    let live = machine.run("wharf volume export --live kept -o /tmp/live.tar")?;
    assert!(live.code == 0 && live.stderr.contains("as it was at each moment"), "{live:?}");
    fails(machine, "wharf volume import --replace kept /tmp/live.tar", "in use by container keeper")?;
    fails(machine, "wharf volume prune --yes kept", "keeper is running with it")?;
    machine.sh("systemctl stop keeper-container")?;
    machine.sh("wharf volume export kept -o /tmp/kept.tar && cmp /tmp/kept.tar /tmp/live.tar")?;
    assert!(machine.sh("stat -c %s /tmp/kept.tar")?.parse::<u64>().expect("a number") < 100_000);
    let inspected = machine.sh("wharf volume inspect --size kept")?;
    assert!(inspected.contains("keeper at /data") && inspected.contains("Size"), "{inspected}");

    // Into another one, which another container has; and in the place of the first.
    assert_eq!(
        machine.sh("wharf volume export kept | gzip | wharf volume import other -")?.lines().count(),
        1
    );
    fails(machine, "wharf volume import other /tmp/kept.tar", "--replace puts the archive in its place")?;
    declare(machine, "reader", &keeper("other"))?;
    machine.sh("systemctl start reader-container")?;
    let seen = machine
        .sh("wharf exec reader sh -c 'cd /data; stat -c %u:%g:%a:%h c; cat d | md5sum; stat -c %b sparse'")?;
    let sum = machine.sh("seq 1000 | md5sum")?;
    assert_eq!(seen, format!("33:34:4750:2\n{sum}\n0"));
    machine.sh("systemctl stop reader-container")?;
    machine.sh("mkdir -p /tmp/new && echo 2 >/tmp/new/version && tar -C /tmp/new -cf /tmp/new.tar .")?;
    machine.sh("wharf volume import --replace other /tmp/new.tar")?;
    assert_eq!(machine.sh("ls /var/lib/wharf/volumes/other")?, "version");

    // Killed in the middle: nothing of it is there, and the next one works.
    machine.sh("rm -f /tmp/fifo; mkfifo /tmp/fifo; wharf volume import third - </tmp/fifo & exec 3>/tmp/fifo; \
         head -c 2k /tmp/kept.tar >&3; until test -e /var/lib/wharf/volumes/.importing-third; do sleep .1; done; \
         rm /tmp/fifo; kill -9 $! && ! wait $!")?;
    assert_eq!(machine.sh("ls -A /var/lib/wharf/volumes | grep third")?, ".importing-third");
    assert_eq!(machine.sh(format)?, "kept declared keeper -\nother declared reader -");
    machine.sh("wharf volume import third /tmp/kept.tar")?;

    // A start waits for an export, however long that takes, and says so; from a snapshot there is no need to.
    machine.sh("mkdir -p /tmp/big && head -c 1M /dev/urandom >/tmp/big/x && tar -C /tmp/big -c . | wharf volume import slow -")?;
    declare(machine, "slow", &keeper("slow"))?;
    machine.sh("rm -f /tmp/pipe; mkfifo /tmp/pipe")?;
    let export = machine
        .start("sleep 300 </tmp/pipe & echo $! >/tmp/reader; wharf volume export slow >/tmp/pipe; wait")?;
    until(machine, "test -s /tmp/reader")?;
    machine.sh("sleep 1; systemctl start --no-block slow-container")?;
    let waits = "systemctl show -P StatusText slow-container | grep -q 'Waits for its volume slow'";
    until(machine, &format!("{waits} || systemctl is-active -q slow-container"))?;
    machine.sh("kill $(cat /tmp/reader)")?;
    let _ = export.rest();
    until(machine, "systemctl is-active -q slow-container")?;
    forget(machine, &["slow"])?;
    machine.sh("wharf volume prune --yes slow; rm -r /tmp/big /tmp/pipe /tmp/reader")?;

    // What can't have snapshots says why; what can, has them.
    let taken = machine.run("wharf volume snapshot third before")?;
    if taken.code == 0 {
        machine.sh("rm -rf /var/lib/wharf/volumes/third/*; wharf volume restore third before")?;
        machine.sh("wharf volume export third | cmp - /tmp/kept.tar")?;
        assert_eq!(machine.sh("wharf volume snapshots --format '{volume} {label}'")?, "third before");
        assert!(machine.run("wharf volume prune")?.stderr.contains("drop-snapshot third before"));
        machine.sh("wharf volume drop-snapshot third before")?;
    } else {
        assert!(taken.stderr.contains("can't have snapshots"), "{taken:?}");
    }
    assert_eq!(machine.run("wharf volume snapshot third be.fore")?.code, 2);

    // A prune lists, and with a word for it removes, what nobody names.
    assert!(machine.sh("wharf volume prune")?.contains("third, 4 files and folders"));
    assert!(machine.sh("wharf volume prune")?.contains("with --yes"));
    machine.write("/etc/wharf/containers/bad.toml", "image = \n")?;
    let kept = machine.run("wharf volume prune --yes")?;
    assert!(kept.code == 1 && kept.stderr.contains("bad.toml can't be read"), "{kept:?}");
    machine.sh("rm /etc/wharf/containers/bad.toml")?;
    machine.sh("wharf volume prune --yes third")?;
    assert_eq!(machine.sh(format)?, "kept declared keeper -\nother declared reader -");
    forget(machine, &["keeper", "reader"])?;
    // A plan of before the last reload is none any more.
    machine.sh("wharf volume prune --yes kept other")?;
    assert_eq!(machine.sh(format)?, "");
    machine.sh("rm -rf /tmp/*.tar /tmp/new")?;
    Ok(())
}

/// So many files, all with the same text.
const FILES: &str = "for i in $(seq 300); do printf '%6000s' VERSION >$i; done";

fn cut(stage: &mut Stage) -> Told {
    let times = stage.times(3, 20);
    let mut machine = Machine::strict(stage.kind(), &Recipe::base())?;
    install_wharf(&machine)?;
    import(&machine, &DEBIAN)?;
    let make = |machine: &Machine, version: &str| {
        let fill = FILES.replace("VERSION", version);
        machine.sh(&format!(
            "rm -rf /root/new; mkdir /root/new; cd /root/new; {fill}; tar -cf /root/{version}.tar .; sync"
        ))
    };
    make(&machine, "v0")?;
    let begun = Instant::now();
    machine.sh("wharf volume import data /root/v0.tar")?;
    let usual = begun.elapsed();
    let mut version = "v0".to_owned();
    for time in 1..=times {
        let next = format!("v{time}");
        make(&machine, &next)?;
        let command =
            machine.start(&format!("wharf volume import --replace data /root/{next}.tar && echo done"))?;
        let moment = some_moment(usual.mul_f64(1.2));
        machine.let_pass(moment);
        machine.power_cut()?;
        let was_done = command.rest().iter().any(|line| line == "done");
        machine.boot_again()?;
        let there = machine
            .sh("cd /var/lib/wharf/volumes/data && ls | wc -l && cat * | tr -s ' ' '\\n' | sort -u")?;
        let lines: Vec<&str> = there.lines().filter(|line| !line.is_empty()).collect();
        let found = lines.last().copied().unwrap_or_default();
        println!(
            "    cut {time}: {:.0} ms into an import of {:.0} ms{}; the volume is {found}",
            moment.as_secs_f32() * 1e3,
            usual.as_secs_f32() * 1e3,
            if was_done { ", which had returned" } else { "" },
        );
        assert_eq!(lines[0], "300", "{there}");
        // All files have one text, which is one word many times over.
        assert!(lines.len() == 2 && (found.contains(&version) || found.contains(&next)), "{there}");
        assert!(!was_done || found.contains(&next), "it was acknowledged: {there}");
        machine.sh(&format!("wharf volume import --replace data /root/{next}.tar"))?;
        assert_eq!(machine.sh("ls -A /var/lib/wharf/volumes | grep -v -e '^.lock' -e snapshots")?, "data");
        version = next;
    }
    Ok(())
}

fn networks(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    declare(machine, "store", "image = 'debian:13'\nautostart = false\nhostname = 'storehouse'\n")?;
    declare(
        machine,
        "front",
        "image = 'debian:13'\nautostart = false\nlinks = ['store:db', 'host']\npublish = ['8085:80']\n",
    )?;
    declare(machine, "secluded", "image = 'debian:13'\nautostart = false\nnetwork = 'none'\n")?;
    machine.sh("systemctl start front-container")?;
    until(machine, "systemctl is-active -q front-container store-container")?;
    let pools = machine.sh("cat /var/lib/wharf/leases/pools")?;
    let listed = machine.sh("wharf network list --format '{name} {ipv4} {running} {firewall}'")?;
    let subnet = pools.split(' ').next().expect("a network");
    assert_eq!(listed, format!("default {subnet} 2 in-force"));
    let address = machine.sh(
        "wharf ps --json | tr -d ' \\n' | grep -o 'front\".*' | grep -oE '10([.][0-9]+){3}' | head -n 1",
    )?;
    let text = machine.sh("wharf network inspect default")?;
    for part in [
        "store as store, db, storehouse",
        "Link        the host",
        "8085:80/tcp",
        &address,
        "Firewall    table inet wharf, in force",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("secluded"), "{text}");
    let interface =
        machine.sh("wharf network inspect default --json | grep -o 'wharf-[0-9a-f]*' | head -n 1")?;
    machine.sh(&format!("ip link show {interface} >/dev/null || ls /sys/class/net/{interface}"))?;
    machine.sh("systemctl stop front-container store-container")?;
    assert_eq!(machine.sh("wharf network list --format '{running} {firewall}'")?, "0 unneeded");
    assert!(machine.sh("wharf network inspect default")?.contains(&address), "the lease stays");
    fails(machine, "wharf network inspect host", "the host's own")?;
    fails(machine, "wharf network inspect other", "there is `default`")?;
    forget(machine, &["front", "store", "secluded"])?;
    Ok(())
}
