//! AppArmor: what confines containers, what it keeps them from, and all that goes on as before.

use super::containers::{DEBIAN, NGINX, POSTGRESQL, REDIS, declare, forget, import, property, until};
use super::machine::{Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "AppArmor confines what runs in containers", on: On::Full, tell: confined },
    Story { name: "servers don't notice AppArmor", on: On::FullIfAll, tell: unnoticed },
];

const OWN: &str = "wharf-container (enforce)";

/// A container that stays until it is told to end.
const STAYS: &str = "image = 'debian:13'\nnetwork = 'none'\nautostart = false\nrestart = 'no'\n";

fn label(machine: &Machine, name: &str) -> Result<String> {
    machine.sh(&format!("cat /proc/$(systemctl show -P MainPID {name}-container)/attr/apparmor/current"))
}

fn start(machine: &Machine, name: &str, more: &str) -> Result<()> {
    declare(machine, name, &format!("{STAYS}{more}"))?;
    machine.sh(&format!("systemctl start {name}-container")).map(drop)
}

fn confined(stage: &mut Stage) -> Told {
    let machine = &Machine::boot(stage.kind(), &Recipe::confining())?;
    install_wharf(machine)?;
    assert_eq!(machine.sh("cat /sys/module/apparmor/parameters/enabled")?, "Y");
    import(machine, &DEBIAN)?;
    not_loaded(machine)?;
    // As boot does.
    machine.sh("systemctl restart apparmor")?;
    loaded(machine)?;
    two_walls(machine)?;
    inside(machine)?;
    nothing_denied(machine)?;
    Ok(())
}

fn unnoticed(stage: &mut Stage) -> Told {
    let machine = &Machine::boot(stage.kind(), &Recipe::confining())?;
    install_wharf(machine)?;
    machine.sh("apparmor_parser -r /etc/apparmor.d/wharf-container")?;
    for image in [&NGINX, &REDIS, &POSTGRESQL] {
        import(machine, image)?;
    }
    servers(machine)?;
    nothing_denied(machine)?;
    Ok(())
}

/// What is refused without a word, as what no container has any use for, isn't told either.
fn nothing_denied(machine: &Machine) -> Result<()> {
    let said = machine.sh("journalctl --sync; journalctl -b -q -o cat --grep 'apparmor=\"DENIED\"' || :")?;
    assert!(!said.contains("wharf"), "{said}");
    Ok(())
}

/// A host that hasn't got the profile runs containers, but not those whose files ask for it.
fn not_loaded(machine: &Machine) -> Result<()> {
    start(machine, "early", "")?;
    assert_eq!(label(machine, "early")?, "unconfined");
    let shown = machine.sh("wharf inspect early")?;
    assert!(shown.contains("unconfined, as the profile wharf-container isn't loaded"), "{shown}");
    for (profile, words) in [
        ("wharf-container", "apparmor_parser -r /etc/apparmor.d/wharf-container"),
        ("strict", "the AppArmor profile strict isn't loaded"),
    ] {
        declare(machine, "asks", &format!("{STAYS}apparmor = '{profile}'\n"))?;
        assert_ne!(machine.run("systemctl start asks-container")?.code, 0);
        assert_eq!(property(machine, "asks", "ExecMainStatus")?, "231");
        let status = property(machine, "asks", "StatusText")?;
        assert!(status.contains(words), "{status}");
        forget(machine, &["asks"])?;
    }
    Ok(())
}

fn loaded(machine: &Machine) -> Result<()> {
    // What runs goes on as it was, and what enters it can do what it could.
    assert_eq!(label(machine, "early")?, "unconfined");
    assert_eq!(
        machine.sh("wharf exec early sh -c 'kill -0 1 && cat /proc/self/attr/current'")?,
        "unconfined"
    );
    let shown = machine.sh("wharf inspect early")?;
    assert!(shown.contains("restart to apply"), "{shown}");
    machine.sh("systemctl restart early-container")?;
    assert_eq!(label(machine, "early")?, OWN);
    assert_eq!(machine.sh("wharf exec early cat /proc/self/attr/current")?, OWN);
    let shown = machine.sh("wharf inspect --json early")?;
    assert!(shown.contains("\"profile\": \"wharf-container\""), "{shown}");
    forget(machine, &["early"])?;

    start(machine, "free", "apparmor = 'unconfined'\n")?;
    assert_eq!(label(machine, "free")?, "unconfined");
    assert_eq!(machine.sh("wharf exec free cat /proc/self/attr/current")?, "unconfined");
    forget(machine, &["free"])?;

    // An init that checks is confined too, and so is what it runs.
    let health =
        "health.command = ['/bin/grep', '-q', '^wharf-container (enforce)$', '/proc/self/attr/current']\n";
    start(machine, "checked", &format!("ready = 'healthy'\n{health}"))?;
    assert_eq!(label(machine, "checked")?, OWN);
    let below = machine.sh(
        "cat /proc/$(pgrep -P $(systemctl show -P MainPID checked-container) | head -n 1)/attr/apparmor/current",
    )?;
    assert_eq!(below, OWN);
    machine.sh("systemctl stop checked-container")?;
    assert_eq!(property(machine, "checked", "Result")?, "success");
    forget(machine, &["checked"])
}

/// Settings of the kernel are mounted read-only. Without that, and without a user namespace, it is the profile that
/// keeps the container's root from writing to them.
fn two_walls(machine: &Machine) -> Result<()> {
    let pattern = machine.sh("cat /proc/sys/kernel/core_pattern")?;
    for (more, lets) in [("", false), ("apparmor = 'unconfined'\n", true)] {
        start(machine, "root", &format!("user-namespace = false\n{more}"))?;
        let write = |file: &str, value: &str| {
            let said = machine
                .run(&format!("wharf exec root sh -c 'echo {value} >/proc/sys/kernel/{file}'; echo $?"));
            said.map(|output| (output.stdout.trim() == "0", output.stderr))
        };
        let (written, said) = write("core_pattern", "mine")?;
        assert!(!written && said.contains("Read-only file system"), "{said}");
        machine.sh("nsenter -m -t $(systemctl show -P MainPID root-container) \
             mount -o remount,bind,rw,nosuid,nodev,noexec /proc/sys")?;
        // Its own.
        let (written, said) = write("msgmax", "8000")?;
        assert!(written, "{said}");
        // The host's.
        let (written, said) = write("core_pattern", "mine")?;
        assert_eq!(written, lets, "{said}");
        assert!(lets || said.contains("Permission denied"), "{said}");
        machine.sh(&format!("echo '{pattern}' >/proc/sys/kernel/core_pattern"))?;
        forget(machine, &["root"])?;
    }
    Ok(())
}

/// What programs do to each other and with namespaces of their own, and the host to them.
fn inside(machine: &Machine) -> Result<()> {
    start(machine, "box", "root = 'ephemeral'\n")?;
    for script in [
        "sleep 60 & kill $! && ! wait $!",
        "test -n \"$(readlink /proc/1/exe)\" && tr '\\0' '\\n' </proc/1/environ | grep -q ^container=wharf",
        "unshare -Urm sh -c 'mount -t tmpfs none /mnt && touch /mnt/x && mount --bind /mnt /srv && umount /srv'",
        "perl -MIO::Socket::UNIX -e '$l = IO::Socket::UNIX->new(Local => \"/tmp/s\", Listen => 1) or die; \
            IO::Socket::UNIX->new(Peer => \"/tmp/s\") or die'",
        "ln /etc/hostname /tmp/x 2>/dev/null; echo x >/root/file && mv /root/file /root/other && chmod 700 /root/other",
    ] {
        let output =
            machine.feed("wharf exec box sh -es", script.as_bytes(), std::time::Duration::from_secs(60))?;
        assert_eq!(output.code, 0, "{script}: {}{}", output.stdout, output.stderr);
    }
    machine.sh(
        "(timeout -s INT 4 strace -p $(systemctl show -P MainPID box-container) 2>&1 || :) | grep -q attached",
    )?;
    machine.sh("systemctl kill -s CONT box-container; systemctl stop box-container")?;
    assert_eq!(
        property(machine, "box", "ExecMainStatus")?,
        "143",
        "its shell heard the signal, and ended by it"
    );
    forget(machine, &["box"])
}

fn servers(machine: &Machine) -> Result<()> {
    let common = "autostart = false\n";
    declare(machine, "nginx", &format!("image = 'nginx:1.26'\n{common}publish = ['8080:8080']\n"))?;
    declare(
        machine,
        "db",
        &format!(
            "image = 'postgresql:17'\n{common}ready = 'healthy'\n\
            health = {{ tcp = '127.0.0.1:5432', start-period = '100s' }}\nmounts.'/data'.volume = 'db'\n"
        ),
    )?;
    declare(machine, "redis", &format!("image = 'redis:8'\n{common}mounts.'/data'.volume = 'redis'\n"))?;
    for name in ["nginx", "redis", "db"] {
        machine.sh(&format!("systemctl start {name}-container"))?;
        assert_eq!(label(machine, name)?, OWN, "{name}");
    }
    until(machine, "curl -sS --max-time 10 http://127.0.0.1:8080/ | grep -q 'Hello from nginx'")?;
    let sum = machine
        .sh("wharf exec db /bin/sh -c 'exec /usr/lib/postgresql/*/bin/psql -h 127.0.0.1 -U postgres -qAt \
         -c \"create table t (n int); insert into t select generate_series(1, 10); select sum(n) from t\"'")?;
    assert_eq!(sum, "55");
    until(machine, "[[ $(wharf exec redis redis-cli set a b) == OK ]]")?;
    assert_eq!(machine.sh("wharf exec redis redis-cli get a")?, "b");
    machine.sh("wharf exec nginx /usr/sbin/nginx -s reload -e stderr")?;
    until(machine, "curl -sS --max-time 10 http://127.0.0.1:8080/ | grep -q 'Hello from nginx'")?;
    for name in ["nginx", "redis", "db"] {
        machine.sh(&format!("systemctl stop {name}-container"))?;
        assert_eq!(property(machine, name, "Result")?, "success", "{name}");
    }
    forget(machine, &["nginx", "redis", "db"])
}
