//! A soft reboot: all of userspace is new, and what asked for it lives on (systemd-soft-reboot.service(8)).

use std::time::Duration;

use super::containers::{DEBIAN, declare, forget, property, until, with};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] =
    &[Story { name: "a container lives through a soft reboot", on: On::Fast, tell: softly }];

fn softly(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    // It flushes all rules as it stops, and as it starts.
    machine.sh("systemctl enable --quiet --now nftables")?;
    let text = "image = 'debian:13'\nstop.timeout = 1\nautostart = false\n";
    let serves = "command = ['perl', '-MIO::Socket::INET', '-e', 'my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 9, \
         ReuseAddr => 1) or die; while (my $c = $s->accept) { print $c qq(it serves\\n) }']\n";
    declare(machine, "stays", &format!("{text}{serves}survive-soft-reboot = true\npublish = ['8096:80']\n"))?;
    // As examples/redis.toml is: checked by its init, which speaks to systemd and its journal.
    let check = "command = 'test ! -e /tmp/bad'\ninterval = '300ms'\nretries = 1\n";
    declare(machine, "checked", &format!("{text}survive-soft-reboot = true\n[health]\n{check}"))?;
    declare(machine, "goes", text)?;
    machine.sh("systemctl start stays-container goes-container checked-container")?;
    let checked = property(machine, "checked", "MainPID")?;
    let served = || {
        machine.sh(
            "until exec 3<>/dev/tcp/127.0.0.1/8096; do sleep .1; done 2>/dev/null; timeout 5 head -n 1 <&3",
        )
    };
    assert_eq!(served()?, "it serves");
    let (pid, other) = (property(machine, "stays", "MainPID")?, property(machine, "goes", "MainPID")?);
    let count: u32 = machine.sh("systemctl show -P SoftRebootsCount")?.parse().unwrap_or(0);
    machine.run("timeout 10 systemctl soft-reboot --no-wall --no-block")?;
    // Asked from outside, and anew each time: whatever asks in the machine ends with its userspace.
    let again = format!("{} active", count + 1);
    let up = || {
        machine.let_pass(Duration::from_millis(500));
        let asked = "echo $(systemctl show -P SoftRebootsCount) $(systemctl is-active multi-user.target)";
        machine.run_for(asked, Duration::from_secs(5)).is_ok_and(|said| said.stdout.trim() == again)
    };
    assert!((0..40).any(|_| up()), "it isn't up again");
    assert_eq!(machine.run(&format!("kill -0 {other}"))?.code, 1, "what didn't ask for it has ended");
    assert_ne!(property(machine, "goes", "ActiveState")?, "active");
    assert_eq!(property(machine, "stays", "MainPID")?, pid);
    assert_eq!(property(machine, "stays", "ActiveState")?, "active");
    // It is as it was: to look at, to enter, and to end.
    assert_eq!(machine.sh("wharf exec stays hostname")?, "stays");
    assert!(machine.sh("wharf ps")?.contains("8096:80"));
    assert_eq!(served()?, "it serves", "its port leads where it did");
    let looks =
        "systemctl is-active wharf-network.socket wharf-network.path wharf-network@etc-resolv.conf.path";
    assert_eq!(machine.sh(looks)?, ["active"; 3].join("\n"));
    assert_eq!(machine.sh("systemctl list-units --failed --no-legend --plain 'wharf-*'")?, "");
    machine.sh("nft flush ruleset")?;
    assert_eq!(served()?, "it serves", "what takes its port away is still heard of");
    assert_eq!(machine.sh("wharf changed stays checked")?, "");
    assert_eq!(
        machine.sh("wharf port --json stays >/dev/null && wharf apply --dry-run stays")?,
        "all is as the files say"
    );
    // It is checked as before, and systemd and its journal hear of it.
    assert_eq!(property(machine, "checked", "MainPID")?, checked);
    machine.sh("wharf exec checked touch /tmp/bad")?;
    until(machine, "[[ $(systemctl show -P NRestarts checked-container) == 1 ]]")?;
    until(machine, "[[ $(systemctl show -P StatusText checked-container) == 'Health: healthy'* ]]")?;
    let said = machine.sh("journalctl --sync; journalctl -q -b -o cat SYSLOG_IDENTIFIER=checked")?;
    assert!(said.contains("unhealthy, a check failed: exit status 1"), "{said}");
    machine.sh("systemctl restart stays-container")?;
    assert_ne!(property(machine, "stays", "MainPID")?, pid);
    assert_eq!(served()?, "it serves");
    machine.sh("systemctl disable --quiet --now nftables")?;
    forget(machine, &["stays", "goes", "checked"])?;
    Ok(())
}
