//! What a running container has changed of its image, and an image made of that: `wharf diff` and `wharf commit`.

use super::containers::{DEBIAN, declare, forget, until, with};
use super::machine::{Machine, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "what a container changed is shown, and becomes an image", on: On::Fast, tell: changed },
    Story { name: "three hundred layers are one root", on: On::Fast, tell: many_layers },
    Story { name: "folders that a layer leaves to be made look as below", on: On::Fast, tell: implied },
];

/// With its own ids and with the host's, with mounts on what the image has and on what it doesn't have, and two that
/// have nothing to show.
const CONTAINERS: [(&str, &str); 4] = [
    (
        "writer",
        "image = 'debian:13'\nnetwork = 'none'\nroot = 'ephemeral'\n\
         [mounts]\n\"/srv/data/kept\" = { tmpfs = '1M' }\n\"/var/cache\" = { volume = 'writer-cache' }",
    ),
    ("kindred", "image = 'debian:13'\nnetwork = 'host'\nuser-namespace = false\nroot = 'ephemeral'"),
    ("reader", "image = 'debian:13'\nnetwork = 'none'"),
    (
        "folder",
        "rootfs = '/srv/folder'\nnetwork = 'none'\nroot = 'ephemeral'\ninit = true\ncommand = ['/bin/sleep', 'infinity']",
    ),
];

/// Everything that can happen to a file, below a root; and what `wharf diff` says of it.
const WORK: &str = "set -e; echo new >/usr/local/new; mkdir -p /opt/own/deep; echo x >/opt/own/deep/x; \
    ln /opt/own/deep/x /opt/own/again; chown 33:33 /opt/own/deep; chmod 4711 /opt/own/deep/x; \
    rm /etc/motd; rm -r /usr/share/base-files; chmod 600 /etc/issue; \
    t=$(stat -c %y /etc/debian_version); tr 0-9 1-90 </etc/debian_version >/tmp/v; cat /tmp/v >/etc/debian_version; \
    touch -d \"$t\" /etc/debian_version; rm /tmp/v; \
    if [ -d /srv/data/kept ]; then echo mounted >/srv/data/kept/y; echo cached >/var/cache/y; fi";

const SHOWN: &str = "C /etc/debian_version\nC /etc/issue\nD /etc/motd\nA /opt/own\nA /opt/own/again\n\
    A /opt/own/deep\nA /opt/own/deep/x\nA /usr/local/new\nD /usr/share/base-files";

fn changed(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh("mkdir -p /srv/folder && wharf image export debian:13 | tar -C /srv/folder -xf -")?;
    for (name, text) in CONTAINERS {
        declare(machine, name, &format!("autostart = false\n{text}\n"))?;
        machine.sh(&format!("systemctl start {name}-container"))?;
    }
    for name in ["writer", "kindred"] {
        assert_eq!(machine.sh(&format!("wharf diff {name}"))?, "", "{name} has changed nothing yet");
        machine.sh(&format!("wharf exec --user root {name} sh -c {}", quote(WORK)))?;
        assert_eq!(machine.sh(&format!("wharf diff {name}"))?, SHOWN, "{name}");
        let json = machine.sh(&format!("wharf diff --json {name} | tr -d ' \\n'"))?;
        let first = r#"[{"kind":"changed","path":"/etc/debian_version"},"#;
        assert!(json.starts_with(first), "{json}");
        committed(machine, name)?;
    }
    refusals(machine)?;
    let names = CONTAINERS.map(|(name, _)| name);
    forget(machine, &names)?;
    machine.sh("wharf image remove writer-kept:1 kindred-kept:1; rm -r /srv/folder")?;
    // What a reload has started, the look at the network's state, may take a moment.
    until(machine, "! pgrep -l wharf-")?;
    Ok(())
}

/// The new image has the old one's root with the changes, owned by the ids that the container saw.
fn committed(machine: &Machine, name: &str) -> Result<()> {
    let image = format!("{name}-kept:1");
    machine.sh(&format!("wharf commit --comment 'kept for later' {name} {image}"))?;
    let history = machine.sh(&format!("wharf image history --json {image}"))?;
    assert!(history.contains("\"kept for later\""), "{history}");
    let copy = format!("{name}-copy");
    declare(
        machine,
        &copy,
        &format!("image = '{image}'\nnetwork = 'none'\nroot = 'ephemeral'\nautostart = false\n"),
    )?;
    machine.sh(&format!("systemctl start {copy}-container"))?;
    let look = |name: &str| {
        machine.sh(&format!(
            "wharf exec --user root {name} sh -c 'cat /usr/local/new /etc/debian_version /opt/own/again; \
             stat -c \"%n %a %u:%g %h\" /opt/own/deep /opt/own/deep/x /etc/issue; \
             ls -d /etc/motd /usr/share/base-files 2>/dev/null'; :"
        ))
    };
    let (ours, theirs) = (look(name)?, look(&copy)?);
    assert!(ours.contains("/opt/own/deep 755 33:33 2\n/opt/own/deep/x 4711 0:0 2"), "{ours}");
    assert_eq!(ours, theirs, "{name}'s work is in its image");
    assert_eq!(machine.sh(&format!("wharf diff {copy}"))?, "", "a container of it has changed nothing");
    // Out and in again, it is the same image.
    let digest = |root: &str| format!("wharf {root} image inspect {image} | sed -n 's/^ *digest //p'");
    machine.sh(&format!(
        "mkdir /tmp/elsewhere; wharf image save {image} | wharf --root /tmp/elsewhere image load"
    ))?;
    assert_eq!(machine.sh(&digest(""))?, machine.sh(&digest("--root /tmp/elsewhere"))?);
    machine.sh("rm -r /tmp/elsewhere")?;
    forget(machine, &[&copy])
}

fn refusals(machine: &Machine) -> Result<()> {
    machine.sh("systemctl stop kindred-container")?;
    for (line, why) in [
        ("wharf diff reader", "has a read-only root"),
        ("wharf commit reader x:1", "has a read-only root"),
        ("wharf diff folder", "runs in the folder /srv/folder"),
        ("wharf commit folder x:1", "wharf image import"),
        ("wharf diff kindred", "is not running"),
        ("wharf commit kindred x:1", "is not running"),
    ] {
        let output = machine.run(line)?;
        assert_eq!(output.code, 1, "{line}: {}", output.stderr);
        assert!(output.stderr.contains(why), "{line}: {}", output.stderr);
    }
    assert_ne!(machine.run("wharf image inspect x:1")?.code, 0);
    Ok(())
}

/// Makes an archive as `docker save` wrote them, of the tars in the working directory: `archive NAME TAR...`.
const ARCHIVE: &str = r#"archive() {
case $(uname -m) in x86_64) arch=amd64;; aarch64) arch=arm64;; *) arch=$(uname -m);; esac
image=$1 ids= names=
shift
for tar; do
    ids="$ids${ids:+,}\"sha256:$(sha256sum <$tar | cut -c1-64)\"" names="$names${names:+,}\"$tar\""
done
printf '{"architecture":"%s","os":"linux","config":{"Cmd":["/bin/sleep","infinity"]},
    "rootfs":{"type":"layers","diff_ids":[%s]}}' $arch "$ids" >config.json
printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":[%s]}]' $image "$names" >manifest.json
}
"#;

/// Through the new mount API, the number of layers has no bound that images meet.
fn many_layers(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh(&format!(
        "set -e; {ARCHIVE} rm -rf /tmp/many; mkdir -p /tmp/many/d; cd /tmp/many; \
         wharf image export -o 0.tar debian:13; \
         for i in $(seq 299); do rm -f d/f*; echo $i >d/f$i; echo $i >d/same; tar -cf $i.tar d; done; \
         archive many:1 $(seq -f %g.tar 0 299); wharf image import /tmp/many; rm -r /tmp/many"
    ))?;
    declare(
        machine,
        "many",
        "image = 'many:1'\nnetwork = 'none'\nroot = 'ephemeral'\ninit = true\nautostart = false\n",
    )?;
    machine.sh("systemctl start many-container")?;
    assert_eq!(machine.sh("wharf exec many sh -c 'cat /d/same; ls /d | wc -l'")?, "299\n300");
    machine.sh("wharf exec many rm /d/f7")?;
    assert_eq!(machine.sh("wharf diff many")?, "D /d/f7");
    forget(machine, &["many"])?;
    machine.sh("wharf image remove many:1").map(drop)?;
    Ok(())
}

/// With ids of its own and with the host's; writable, and not.
fn implied(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh(&format!(
        "set -e; {ARCHIVE} rm -rf /tmp/implied; mkdir -p /tmp/implied/d/srv/app/data /tmp/implied/d/tmp; \
         cd /tmp/implied; wharf image export -o 0.tar debian:13; \
         touch d/tmp/x d/srv/app/data/x; tar -C d -cf 2.tar tmp/x srv/app/data/x; \
         rm -r d/tmp d/srv/app/data/x; chown 33:34 d/srv/app; chmod 2750 d/srv/app; \
         chmod 700 d/srv/app/data; \
         touch -d '2001-02-03 04:05:06.789 UTC' d/srv/app/data d/srv/app d/srv; \
         tar --format=posix --pax-option=SCHILY.xattr.user.note:=noted -C d -cf 1.tar srv; \
         archive implied:1 0.tar 1.tar 2.tar; wharf image import /tmp/implied; rm -r /tmp/implied"
    ))?;
    let base = "image = 'implied:1'\nnetwork = 'none'\ninit = true\nautostart = false\n";
    let look = "stat -c '%n %a %u:%g' / /tmp /srv /srv/app /srv/app/data /srv/app/data/x; \
                stat -c '%n %y' /srv /srv/app /srv/app/data";
    let there = "/ 755 0:0\n/tmp 1777 0:0\n/srv 755 0:0\n/srv/app 2750 33:34\n/srv/app/data 700 0:0\n\
                 /srv/app/data/x 644 0:0\n/srv 2001-02-03 04:05:06.789000000 +0000\n\
                 /srv/app 2001-02-03 04:05:06.789000000 +0000\n/srv/app/data 2001-02-03 04:05:06.789000000 +0000";
    for (name, more) in [
        ("implied", "root = 'ephemeral'\n"),
        ("implied-host", "root = 'ephemeral'\nuser-namespace = false\n"),
        ("implied-read", "[mounts]\n\"/tmp\" = { tmpfs = '1M' }\n"),
    ] {
        declare(machine, name, &format!("{base}{more}"))?;
        machine.sh(&format!("systemctl start {name}-container"))?;
        let seen = machine.sh(&format!("wharf exec --user root {name} sh -c {}", quote(look)))?;
        assert_eq!(seen, there, "{name}");
        let pid = machine.sh(&format!("systemctl show -P MainPID {name}-container"))?;
        let folder = format!("/proc/{pid}/root srv/app");
        let note =
            format!("tar --xattrs --format=posix --no-recursion -cC {folder} | grep -ac user.note=noted");
        assert_eq!(machine.sh(&note)?, "1", "{name}");
        if more.contains("ephemeral") {
            assert_eq!(machine.sh(&format!("wharf diff {name}"))?, "", "{name} has changed nothing");
            machine
                .sh(&format!("wharf exec --user root {name} sh -c 'echo y >/srv/app/data/y; rm /tmp/x'"))?;
            assert_eq!(machine.sh(&format!("wharf diff {name}"))?, "A /srv/app/data/y\nD /tmp/x", "{name}");
        }
    }
    let plan = machine.sh("wharf plan implied")?;
    assert!(plan.contains("/srv/app as layer 1 has it"), "{plan}");
    forget(machine, &["implied", "implied-host", "implied-read"])?;
    machine.sh("wharf image remove implied:1").map(drop)?;
    Ok(())
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
