//! What is different elsewhere: Debian 12, with systemd 252 and in the full machine Linux 6.1, and images of
//! more layers than mount(2)'s options have room for.

use std::fs::File;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::containers::{DEBIAN, declare, feed, forget, log, open, property, until, with};
use super::machine::{Context, Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "an image of a hundred layers runs", on: On::FastThenFull, tell: layers },
    Story { name: "Debian 12 runs containers too", on: On::FullIfAll, tell: older },
];

/// Small layers over a Debian, each with a file of its own and one that hides the last layer's.
const SMALL: usize = 99;

const LAYERED: &str = "image = 'layered:1'\nnetwork = 'none'\nroot = 'ephemeral'\nautostart = false\nrestart = 'no'\n\
    command = ['/bin/bash', '-c', 'ls /numbers | wc -l; cat /top; trap \"exit 0\" TERM; sleep infinity & wait']\n";

fn layers(stage: &mut Stage) -> Told {
    let machine = with(stage, &[])?;
    hundred(machine)?;
    machine.sh("wharf image remove layered:1")?;
    Ok(())
}

fn older(stage: &mut Stage) -> Told {
    let machine = Machine::boot(stage.kind(), &Recipe::older())?;
    assert!(machine.sh("systemctl --version")?.starts_with("systemd 252 "));
    install_wharf(&machine)?;
    hundred(&machine)?;

    // What is newer than that systemd is not in its units.
    declare(
        &machine,
        "ends",
        "image = 'layered:1'\nnetwork = 'none'\nautostart = false\ncommand = ['/bin/sh', '-c', 'exit 7']\n",
    )?;
    machine.sh("systemctl start ends-container")?;
    until(&machine, "[[ $(systemctl show -P NRestarts ends-container) -ge 1 ]]")?;
    machine.sh("journalctl -q --no-pager -u ends-container | grep -q 'code=exited, status=7'")?;
    assert_eq!(property(&machine, "ends", "RestartUSec")?.trim(), "200ms");
    let unknown = machine.sh("journalctl -b -q --no-pager | grep -c 'Unknown key' || :")?;
    assert_eq!(unknown.trim(), "0");
    forget(&machine, &["ends"])?;
    Ok(())
}

/// Runs a container of the hundred layers, and looks at what it sees.
fn hundred(machine: &Machine) -> Result<()> {
    let mut archive = archive().context(|| "make an image of a hundred layers")?;
    io::Seek::rewind(&mut archive).context(|| "rewind the image")?;
    feed(machine, "wharf image import --name layered:1 -", archive)?;
    declare(machine, "layered", LAYERED)?;
    machine.sh("systemctl start layered-container")?;
    until(machine, "journalctl -q -o cat -u layered-container | grep -q number")?;
    assert_eq!(log(machine, "layered")?.trim(), format!("{SMALL}\nnumber {}", SMALL - 1));
    machine.sh("wharf exec layered rm /top")?;
    assert_eq!(machine.sh("wharf diff layered")?, "D /top");
    let used = machine.run("wharf image remove layered:1")?;
    assert_eq!(used.code, 1, "{}", used.stdout);
    assert!(used.stderr.contains("in use"), "{}", used.stderr);
    machine.sh("systemctl stop layered-container")?;
    assert_eq!(property(machine, "layered", "Result")?.trim(), "success");
    forget(machine, &["layered"])
}

/// The image as `docker save` writes it.
fn archive() -> io::Result<File> {
    let mut base = open(&(DEBIAN.recipe)()).map_err(io::Error::other)?;
    let mut layers: Vec<(String, Vec<u8>)> = Vec::new();
    let mut content = Vec::new();
    base.read_to_end(&mut content)?;
    layers.push(("base.tar".to_owned(), content));
    for number in 0..SMALL {
        let mut layer = tar::Builder::new(Vec::new());
        let text = format!("number {number}\n");
        for path in [format!("numbers/{number}"), "top".to_owned()] {
            add(&mut layer, &path, text.as_bytes())?;
        }
        layers.push((format!("{number}.tar"), layer.into_inner()?));
    }
    let digests: Vec<String> = layers
        .iter()
        .map(|(_, content)| {
            let digest = Sha256::digest(content);
            format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        })
        .collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let names: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [], "Layers": names }]);
    let mut archive = tar::Builder::new(tempfile::tempfile()?);
    add(&mut archive, "manifest.json", manifest.to_string().as_bytes())?;
    add(&mut archive, "config.json", config.to_string().as_bytes())?;
    for (name, content) in &layers {
        add(&mut archive, name, content)?;
    }
    archive.into_inner()
}

fn add(archive: &mut tar::Builder<impl Write>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, path, content)
}
