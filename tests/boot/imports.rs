//! Imports, and the power that goes meanwhile: on a disk that loses what was not flushed.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::containers::feed;
use super::machine::{Kind, Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf, some_moment};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "an import that has returned survives a power cut", on: On::FastThenFull, tell: returned },
    Story { name: "an import that power cut leaves no trace", on: On::FastThenFull, tell: amid },
];

/// A root file system as a tar, and what is in it, a line for each member.
struct Root {
    tar: Vec<u8>,
    digest: String,
    members: BTreeSet<String>,
}

impl Root {
    /// Another one for each number: files of many sizes, modes and owners, links of both kinds.
    fn new(number: u32) -> std::io::Result<Root> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut members = BTreeSet::new();
        let header = |kind: tar::EntryType, size: u64, mode: u32, owner: u64| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_mode(mode);
            header.set_uid(owner);
            header.set_gid(owner * 2);
            header.set_mtime(1_700_000_000 + owner);
            header
        };
        for folder in 0..10 {
            let path = format!("d{folder}");
            builder.append_data(&mut header(tar::EntryType::Directory, 0, 0o750, folder), &path, &[][..])?;
            members.insert(format!("d 750 {folder} {} {path}", folder * 2));
            for file in 0..30_u64 {
                let path = format!("d{folder}/f{file}");
                // Nothing that compresses or repeats; every tenth is empty.
                let size = if file % 10 == 0 { 0 } else { 700 * file };
                let mut state = (u64::from(number) << 32 | folder << 16 | file << 1) | 1;
                let content: Vec<u8> = std::iter::repeat_with(|| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 24) as u8
                })
                .take(usize::try_from(size).unwrap_or_default())
                .collect();
                let mode = if file % 3 == 0 { 0o4755 } else { 0o640 };
                builder.append_data(
                    &mut header(tar::EntryType::Regular, size, mode, file),
                    &path,
                    &content[..],
                )?;
                members.insert(format!("f {mode:o} {file} {} {} {path}", file * 2, hex(&content)));
            }
            let link = format!("d{folder}/link");
            builder.append_link(&mut header(tar::EntryType::Symlink, 0, 0o777, 7), &link, "f1")?;
            members.insert(format!("l 777 7 14 f1 {link}"));
            let hard = format!("d{folder}/hard");
            builder.append_link(
                &mut header(tar::EntryType::Link, 0, 0o640, 1),
                &hard,
                format!("d{folder}/f1"),
            )?;
            let same = members.iter().find(|line| line.ends_with(&format!(" d{folder}/f1"))).cloned();
            members.extend(same.map(|line| line.replace(&format!(" d{folder}/f1"), &format!(" {hard}"))));
        }
        let tar = builder.into_inner()?;
        let digest = hex(&tar);
        Ok(Root { tar, digest, members })
    }

    /// Whether the machine's store has it, whole.
    fn assert_whole(&self, machine: &Machine, name: &str) -> Result<()> {
        let listed = machine.sh("wharf image list")?;
        assert!(listed.contains(name), "{name} is listed: {listed}");
        let found = machine.sh(&format!(
            "cd /var/lib/wharf/layers/{}/tree && find . -mindepth 1 ! -type f -printf '%y %m %U %G %l %P\\n' | sed 's/  / /g'; \
             find . -type f -printf '%m %U %G %P\\n' | while read -r mode uid gid path; do \
             echo f $mode $uid $gid $(sha256sum <$path | cut -d' ' -f1) $path; done",
            self.digest
        ))?;
        let found: BTreeSet<String> = found.lines().map(str::to_owned).collect();
        let wrong: Vec<_> = self.members.symmetric_difference(&found).take(10).collect();
        assert!(wrong.is_empty(), "{name} is not as it was imported: {wrong:#?}");
        assert_eq!(
            machine.sh(&format!("stat -c %h /var/lib/wharf/layers/{}/tree/d3/hard", self.digest))?,
            "2"
        );
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the store holds by name, and what lies in it unfinished.
fn layers(machine: &Machine) -> Result<BTreeSet<String>> {
    Ok(machine.sh("ls /var/lib/wharf/layers 2>/dev/null || :")?.lines().map(str::to_owned).collect())
}

/// How many cuts: a boot of the full machine takes ten times as long, and its disk forgets no more than the other's.
fn often(stage: &Stage) -> u32 {
    match stage.kind() {
        Kind::Fast => stage.times(2, 20),
        Kind::Full => stage.times(1, 3),
    }
}

fn returned(stage: &mut Stage) -> Told {
    let times = often(stage);
    let mut machine = Machine::strict(stage.kind(), &Recipe::base())?;
    install_wharf(&machine)?;
    // What is not the import's own may settle first.
    machine.sh("sync")?;
    let mut whole = Vec::new();
    for time in 1..=times {
        let root = Root::new(time)?;
        let name = format!("small:{time}");
        feed(&machine, "cat >/tmp/small.tar", Cursor::new(&root.tar))?;
        let mut import = machine.start(&format!(
            "wharf image import --name {name} --command /bin/true /tmp/small.tar >/dev/null && echo done"
        ))?;
        assert_eq!(import.line().as_deref(), Some("done"));
        machine.power_cut()?;
        machine.boot_again()?;
        root.assert_whole(&machine, &name)?;
        whole.push(root);
        // Its temporary folder may have come back, empty or not; the next command takes it away.
        feed(
            &machine,
            "wharf image import --name again:1 --command /bin/true -",
            Cursor::new(&whole[0].tar),
        )?;
        assert_eq!(machine.sh("ls -A /var/lib/wharf/incoming")?, "");
        assert_eq!(layers(&machine)?, whole.iter().map(|root| root.digest.clone()).collect());
    }
    Ok(())
}

fn amid(stage: &mut Stage) -> Told {
    let times = often(stage);
    let mut machine = Machine::strict(stage.kind(), &Recipe::base())?;
    install_wharf(&machine)?;
    let first = Root::new(1000)?;
    feed(&machine, "cat >/root/small.tar && sync", Cursor::new(&first.tar))?;
    let started = Instant::now();
    machine.sh("wharf image import --name first:1 --command /bin/true /root/small.tar")?;
    let whole_import = started.elapsed().max(Duration::from_millis(200));
    let mut there = BTreeSet::from([first.digest.clone()]);
    for time in 1..=times {
        let root = Root::new(1000 + time)?;
        let name = format!("small:{time}");
        feed(&machine, "cat >/root/small.tar && sync", Cursor::new(&root.tar))?;
        let line = format!("wharf image import --name {name} --command /bin/true /root/small.tar");
        let import = machine.start(&format!("{line} >/dev/null && echo done"))?;
        let moment = some_moment(whole_import);
        machine.let_pass(moment);
        machine.power_cut()?;
        let was_done = import.rest().iter().any(|line| line == "done");
        machine.boot_again()?;
        let listed = machine.sh("wharf image list")?;
        println!(
            "    cut {time}: {:.2} s into an import of {:.2} s; {}",
            moment.as_secs_f32(),
            whole_import.as_secs_f32(),
            if listed.contains(&name) { "the image is there" } else { "the image is not there" }
        );
        first.assert_whole(&machine, "first:1")?;
        if was_done || listed.contains(&name) {
            // Its last rename had happened: then it is whole, said or not.
            root.assert_whole(&machine, &name)?;
        }
        machine.sh(&line)?;
        root.assert_whole(&machine, &name)?;
        there.insert(root.digest.clone());
        assert_eq!(layers(&machine)?, there, "nothing else is in the store");
        assert_eq!(machine.sh("ls -A /var/lib/wharf/incoming")?, "", "the next import has swept");
    }
    Ok(())
}
