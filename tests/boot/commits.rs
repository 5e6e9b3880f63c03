//! `wharf commit`, with the power going in the middle of it: what a container has changed is in memory, and only what
//! has been committed outlives it.

use std::time::Instant;

use super::containers::{DEBIAN, declare, forget, import, until};
use super::machine::{Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf, some_moment};

/// The stories of this module.
pub const STORIES: &[Story] =
    &[Story { name: "a commit that power cut is there whole or not at all", on: On::Fast, tell: cut }];

/// Some megabytes in some hundred files, to copy.
const COPIED: &str = "/usr/lib/x86_64-linux-gnu/perl-base";

/// Everything that the work has changed, as one number, and what it has taken away. How large folders are is their file
/// system's affair.
const SUM: &str = "cd /opt/work && { find . -printf \"%P %y %m %U:%G %T@ %l\\n\" | sort; \
    find . -type f -print0 | sort -z | xargs -0 cat; } | sha256sum; ls -d /usr/share/base-files /etc/motd 2>/dev/null; :";

fn inside(machine: &Machine, name: &str, script: &str) -> Result<String> {
    machine.sh(&format!("wharf exec --user root {name} sh -c '{script}'"))
}

/// What somebody does in the container before they want to keep it; another thing each time. Gives its sum.
fn work(machine: &Machine, time: u32) -> Result<String> {
    until(machine, "systemctl is-active --quiet work-container")?;
    inside(
        machine,
        "work",
        &format!(
            "set -e; rm -rf /opt/work; mkdir /opt/work; cp -a {COPIED} /opt/work/copy; \
             echo {time} >/opt/work/time; ln /opt/work/time /opt/work/same; ln -s time /opt/work/link; \
             chown 33:34 /opt/work/time; chmod 4750 /opt/work/time; rm -rf /usr/share/base-files /etc/motd"
        ),
    )?;
    let sum = inside(machine, "work", SUM)?;
    assert_eq!(sum.lines().count(), 1, "{sum}");
    Ok(sum)
}

/// A container of the new image starts, and has what was done in the other one.
fn assert_whole(machine: &Machine, image: &str, sum: &str) -> Result<()> {
    declare(
        machine,
        "copy",
        &format!("image = '{image}'\nnetwork = 'none'\nroot = 'ephemeral'\nautostart = false\n"),
    )?;
    machine.sh("systemctl start copy-container")?;
    assert_eq!(inside(machine, "copy", SUM)?, sum, "{image} has the work");
    assert_eq!(machine.sh("wharf diff copy")?, "", "and nothing else");
    forget(machine, &["copy"])
}

fn cut(stage: &mut Stage) -> Told {
    let times = stage.times(2, 20);
    let mut machine = Machine::strict(stage.kind(), &Recipe::base())?;
    install_wharf(&machine)?;
    import(&machine, &DEBIAN)?;
    declare(&machine, "work", "image = 'debian:13'\nnetwork = 'none'\nroot = 'ephemeral'\n")?;
    machine.sh("systemctl start work-container")?;
    let sum = work(&machine, 0)?;
    let begun = Instant::now();
    machine.sh("wharf commit work kept:0")?;
    let usual = begun.elapsed();
    assert_whole(&machine, "kept:0", &sum)?;
    machine.sh("sync")?;
    let mut kept = vec![("kept:0".to_owned(), sum)];
    for time in 1..=times {
        let image = format!("kept:{time}");
        let sum = work(&machine, time)?;
        let commit = machine.start(&format!("wharf commit work {image} && echo done"))?;
        let moment = some_moment(usual.mul_f64(1.1));
        machine.let_pass(moment);
        machine.power_cut()?;
        let was_done = commit.rest().iter().any(|line| line == "done");
        machine.boot_again()?;
        let listed = machine.sh("wharf image list --json")?;
        let is_there = listed.contains(&format!("\"{image}\""));
        println!(
            "    cut {time}: {:.0} ms into a commit of {:.0} ms{}; the image is {}there",
            moment.as_secs_f32() * 1e3,
            usual.as_secs_f32() * 1e3,
            if was_done { ", which had returned" } else { "" },
            if is_there { "" } else { "not " }
        );
        assert!(is_there || !was_done, "{image} was acknowledged: {listed}");
        let checked = machine.sh("wharf fsck")?;
        assert!(checked.ends_with("nothing is damaged"), "{checked}");
        if is_there {
            assert_whole(&machine, &image, &sum)?;
            kept.push((image.clone(), sum));
        } else {
            assert_ne!(machine.run(&format!("wharf image inspect {image}"))?.code, 0);
        }
        for (image, _) in &kept {
            assert!(listed.contains(&format!("\"{image}\"")), "{image} of before: {listed}");
        }
        let references = listed.matches("\"kept:").count();
        assert_eq!(references, kept.len(), "nothing that was never said to be there: {listed}");
        // The next one just works, and what the one before left is gone.
        let sum = work(&machine, 100 + time)?;
        machine.sh("wharf commit work again:1")?;
        assert_whole(&machine, "again:1", &sum)?;
        machine.sh("wharf image remove again:1")?;
        assert_eq!(machine.sh("ls -A /var/lib/wharf/incoming")?, "", "nothing half done is left");
        let checked = machine.sh("wharf fsck")?;
        assert!(checked.ends_with("nothing is damaged") && !checked.contains("orphan"), "{checked}");
    }
    for (image, sum) in &kept {
        assert_whole(&machine, image, sum)?;
    }
    Ok(())
}
