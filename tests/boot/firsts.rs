//! A container's very first start, with the power going in the middle of it: leases and volumes are made then.

use std::collections::BTreeMap;
use std::time::Instant;

use super::containers::{DEBIAN, declare, forget, import, until};
use super::machine::{Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf, some_moment};

/// The stories of this module.
pub const STORIES: &[Story] = &[Story {
    name: "a first start that power cut is made good by the next boot",
    on: On::Fast,
    tell: first,
}];

/// Some megabytes in some hundred files, which the volume begins with.
const FILLED: &str = "/usr/lib/x86_64-linux-gnu/perl-base";

/// Everything under the current directory, as one number.
const SUM: &str = "{ find . -printf '%P %y %m %U:%G %s %T@\\n' | sort; find . -type f -print0 | sort -z | xargs -0 cat; } | sha256sum";

/// All leases, each with what it says.
fn leases(machine: &Machine) -> Result<BTreeMap<String, String>> {
    let text = machine.sh("cd /var/lib/wharf/leases 2>/dev/null && grep -r . ids addresses pools || :")?;
    Ok(text.lines().filter_map(|line| line.split_once(':')).map(|(a, b)| (a.into(), b.into())).collect())
}

fn first(stage: &mut Stage) -> Told {
    let times = stage.times(3, 20);
    let mut machine = Machine::strict(stage.kind(), &Recipe::base())?;
    install_wharf(&machine)?;
    import(&machine, &DEBIAN)?;
    let text =
        |volume: &str| format!("image = 'debian:13'\n[mounts]\n'{FILLED}' = {{ volume = '{volume}' }}\n");
    let start = |name: &str| format!("systemctl start {name}-container");
    declare(&machine, "whole", &text("whole"))?;
    let begun = Instant::now();
    machine.sh(&start("whole"))?;
    let usual = begun.elapsed();
    let sum = machine.sh(&format!("cd /var/lib/wharf/volumes/whole && {SUM}"))?;
    forget(&machine, &["whole"])?;
    machine.sh("sync")?;
    let mut known = leases(&machine)?;
    for time in 1..=times {
        let name = format!("first{time}");
        declare(&machine, &name, &text(&name))?;
        // The file is the administrator's, who has synced it; all else is Wharf's to keep.
        machine.sh("sync -f /etc")?;
        let started = machine.start(&format!("{} && echo started", start(&name)))?;
        let moment = some_moment(usual);
        machine.let_pass(moment);
        machine.power_cut()?;
        let was_active = started.rest().iter().any(|line| line == "started");
        machine.boot_again()?;
        // It starts at boot, and nobody types anything.
        until(&machine, &format!("systemctl is-active --quiet {name}-container"))?;
        println!(
            "    cut {time}: {:.0} ms into a start of {:.0} ms{}",
            moment.as_secs_f32() * 1e3,
            usual.as_secs_f32() * 1e3,
            if was_active { ", which had returned" } else { "" }
        );
        assert_eq!(
            machine.sh(&format!("cd /var/lib/wharf/volumes/{name} && {SUM}"))?,
            sum,
            "{name}'s volume"
        );
        let left = "cd /var/lib/wharf && find incoming volumes/.incoming* -mindepth 1 -maxdepth 1; \
                    find leases -type f ! -name 'first*' ! -name whole ! -name pools ! -name lock";
        assert_eq!(machine.sh(&format!("{{ {left}; }} 2>/dev/null || :"))?, "", "nothing half done is left");
        let now = leases(&machine)?;
        for (lease, value) in &known {
            assert_eq!(now.get(lease), Some(value), "{lease} of an earlier container");
        }
        assert_eq!(now.len(), known.len() + 2, "ids and an address: {now:?}");
        known = now;
        forget(&machine, &[&name])?;
    }
    Ok(())
}
