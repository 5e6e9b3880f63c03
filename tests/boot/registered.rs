//! Containers as the rest of the host knows them: machined and what asks it, and the tree of cgroups.

use super::containers::{DEBIAN, declare, forget, import, until};
use super::machine::{Machine, Recipe};
use super::stage::{On, Stage, Story, Told, install_wharf};

/// The stories of this module.
pub const STORIES: &[Story] =
    &[Story { name: "machined knows containers as their units", on: On::Fast, tell: registered }];

fn registered(stage: &mut Stage) -> Told {
    let machine = Machine::boot(stage.kind(), &Recipe::registering())?;
    install_wharf(&machine)?;
    import(&machine, &DEBIAN)?;
    let machine = &machine;
    declare(machine, "my_web", "image = 'debian:13'\nautostart = false\nstop.timeout = 1\n")?;
    declare(
        machine,
        "dies",
        "image = 'debian:13'\nautostart = false\nnetwork = 'none'\ncommand = ['sleep', '2']\n",
    )?;
    machine.sh("systemctl start my_web-container")?;
    let listed = "machinectl list --no-legend | awk '{ print $1, $2, $3 }'";
    until(machine, &format!("[[ $({listed}) == 'my-web container wharf' ]]"))?;
    for (property, value) in [
        ("Unit", "my_web-container.service".to_owned()),
        ("Class", "container".to_owned()),
        ("Leader", machine.sh("systemctl show -P MainPID my_web-container")?),
    ] {
        assert_eq!(machine.sh(&format!("machinectl show my-web -P {property}"))?, value, "{property}");
    }
    assert_eq!(
        machine.sh("busctl get-property org.freedesktop.machine1 /org/freedesktop/machine1/machine/my_2dweb org.freedesktop.machine1.Machine NetworkInterfaces")?,
        machine.sh("echo ai 1 $(cat /sys/class/net/$(ip -br link show type veth | grep -v host0 | cut -d@ -f1)/ifindex)")?
    );
    let status = machine.sh("machinectl status my-web --no-pager")?;
    assert!(
        status.contains("Unit: my_web-container.service") && status.contains("sleep infinity"),
        "{status}"
    );
    // No scope was made for it, and its place in the tree of cgroups is its unit's.
    assert_eq!(machine.sh("systemctl list-units --no-legend 'machine-*.scope' | wc -l")?, "0");
    let tree = machine.sh("systemd-cgls --no-pager -u wharf.slice")?;
    assert!(tree.contains("my_web-container.service") && tree.contains("payload"), "{tree}");
    let top = machine.sh("systemd-cgtop -b -n 1 --raw wharf.slice")?;
    assert!(top.contains("wharf.slice/my_web-container.service"), "{top}");
    assert_eq!(
        machine.sh("loginctl list-sessions --no-legend | grep -c my || :")?,
        "0",
        "nobody has logged in"
    );
    // A restart, by hand and by systemd, is the same machine with another leader.
    machine.sh("systemctl restart my_web-container")?;
    let leader = "[[ $(machinectl show my-web -P Leader) == $(systemctl show -P MainPID my_web-container) ]]";
    until(machine, leader)?;
    machine.sh("systemctl start dies-container")?;
    until(machine, "(( $(systemctl show -P NRestarts dies-container) > 1 ))")?;
    until(machine, "[[ $(machinectl show dies -P Leader) == $(systemctl show -P MainPID dies-container) ]]")?;
    machine.sh("systemctl stop dies-container")?;
    until(machine, &format!("[[ $({listed}) == 'my-web container wharf' ]]"))?;
    // What has no file is known as well.
    machine.sh("wharf run -d --name loose debian:13")?;
    until(machine, "[[ $(machinectl show loose -P Unit) == loose-container.service ]]")?;
    // And it can be ended from there.
    machine.sh("machinectl terminate loose")?;
    until(machine, "! systemctl is-active -q loose-container")?;
    machine.sh("systemctl stop my_web-container")?;
    until(machine, &format!("[[ -z $({listed}) ]]"))?;
    // Nobody waits for machined: the executor does, a little, when the command has long ended.
    machine.sh("systemctl kill --signal=STOP systemd-machined")?;
    machine.sh("wharf run -d --name quick debian:13 && pgrep -x wharf-executor")?;
    machine.sh("systemctl kill --signal=CONT systemd-machined; systemctl stop quick-container")?;
    until(machine, &format!("[[ -z $({listed}) ]]"))?;
    // Nothing of it is said where people look.
    let said =
        machine.sh("journalctl -q -b -o cat -p warning SYSLOG_IDENTIFIER=my_web | grep -i machine || :")?;
    assert_eq!(said, "");
    forget(machine, &["my_web", "dies"])?;
    Ok(())
}
