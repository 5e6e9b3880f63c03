//! Secrets by systemd's credentials: from the host's stores and files into the container, and to its user alone.

use super::containers::{DEBIAN, declare, forget, once, property, until, with};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story {
        name: "credentials reach the program's user, and nobody else",
        on: On::FastThenFull,
        tell: reach,
    },
    Story { name: "a start says which credential is missing", on: On::Fast, tell: missing },
    Story { name: "a changed credential restarts what lists it", on: On::Fast, tell: changed },
];

/// What is in nobody's sight but the program's user's.
const SECRET: &str = "s3cret-of-the-test";

fn reach(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh(&format!(
        "install -d -m 700 /etc/credstore /etc/credstore.encrypted /srv/keys; umask 077; \
         echo {SECRET} >/etc/credstore/db-password; echo key of blue >/etc/credstore/web-blue; \
         echo a file >'/srv/keys/100%'; \
         printf sealed | systemd-creds encrypt --with-key=host --name=token - /etc/credstore.encrypted/token"
    ))?;
    let more = "network = 'none'\nuser = 'www-data'\n\
                credentials = ['db-password', \"file:/srv/keys/100%\"]\nencrypted-credentials = ['token']\n";
    let script = "cd $CREDENTIALS_DIRECTORY; pwd; stat -c '%a %U %n' . *; cat *; echo; \
                  { echo x >db-password; } 2>/dev/null || echo read-only; rm -f token 2>/dev/null || echo kept; \
                  grep -o ' /run/credentials ro,.* - ramfs' /proc/self/mountinfo | cut -d' ' -f2-3";
    let expected = format!(
        "/run/credentials\n500 www-data .\n400 www-data db-password\n400 www-data file\n400 www-data token\n\
         {SECRET}\na file\nsealed\nread-only\nkept\n/run/credentials ro,nosuid,nodev,noexec,relatime"
    );
    for own in ["", "user-namespace = false\n", "init = true\n", "root = 'ephemeral'\n"] {
        assert_eq!(once(machine, &format!("{more}{own}"), script)?, expected, "{own}");
    }
    // Not by way of the unit, the environment, or another user; and gone with the container.
    let stays = format!(
        "image = 'debian:13'\nautostart = false\nroot = 'ephemeral'\n{more}command = ['/bin/bash', '-c', 'trap exit TERM; sleep infinity & wait']\n"
    );
    declare(machine, "kept", &stays)?;
    machine.sh("systemctl start kept-container")?;
    let seen = machine.sh(
        "systemctl cat kept-container; systemctl show kept-container; wharf inspect --json kept; wharf plan kept; \
         tr '\\0' '\\n' </proc/$(systemctl show -P MainPID kept-container)/environ",
    )?;
    assert!(!seen.contains(SECRET) && seen.contains("CREDENTIALS_DIRECTORY=/run/credentials"), "{seen}");
    assert_eq!(machine.sh("wharf exec kept sh -c 'cat $CREDENTIALS_DIRECTORY/token'")?, "sealed");
    let output = machine.run("wharf exec --user nobody kept cat /run/credentials/db-password")?;
    assert!(output.code != 0 && output.stderr.contains("Permission denied"), "{}", output.stderr);
    // What a start makes is no change of the container's.
    assert_eq!(machine.sh("wharf diff kept")?, "");
    machine.sh("systemctl stop kept-container")?;
    assert_eq!(machine.run(&format!("grep -rq {SECRET} /run/wharf /var/lib/wharf /run/systemd"))?.code, 1);
    forget(machine, &["kept"])?;

    // An instance has its own, and so has a container that nobody declared.
    let template = "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\ninit = true\ncredentials = ['key:web-%i']\n\
                    command = ['/bin/sh', '-c', 'cat /run/credentials/key; sleep infinity']\n";
    declare(machine, "web@", template)?;
    machine.sh("systemctl start web-container@blue")?;
    until(machine, "journalctl -q -o cat CONTAINER_NAME=web@blue | grep -qx 'key of blue'")?;
    machine.sh(
        "systemctl stop web-container@blue; rm /etc/wharf/containers/web@.toml; systemctl daemon-reload",
    )?;
    let run = "wharf run --network none --credentials db-password debian:13 cat /run/credentials/db-password";
    assert_eq!(machine.sh(run)?, SECRET);
    machine.sh("rm -r /etc/credstore /etc/credstore.encrypted /srv/keys")?;
    Ok(())
}

fn missing(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let file = |more: &str| {
        format!(
            "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\nautostart = false\ncommand = ['/bin/true']\n{more}"
        )
    };
    for (more, says) in [
        ("credentials = ['nowhere']\n", "/etc/credstore/nowhere"),
        ("credentials = ['here:elsewhere']\n", "/etc/credstore/elsewhere"),
        ("encrypted-credentials = ['nowhere']\n", "/etc/credstore.encrypted/nowhere"),
    ] {
        declare(machine, "lacks", &file(more))?;
        assert_ne!(machine.run("systemctl start lacks-container")?.code, 0, "{more}");
        let text = property(machine, "lacks", "StatusText")?;
        assert!(text.contains("there is no credential") && text.contains(says), "{text}");
        assert_eq!(property(machine, "lacks", "ExecMainStatus")?, "243");
        forget(machine, &["lacks"])?;
    }
    // A file that isn't there is systemd's to tell, with the same status.
    declare(machine, "lacks", &file("credentials = ['gone:/srv/gone']\n"))?;
    assert_ne!(machine.run("systemctl start lacks-container")?.code, 0);
    assert_eq!(property(machine, "lacks", "ExecMainStatus")?, "243");
    forget(machine, &["lacks"])?;
    Ok(())
}

fn changed(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh("install -d -m 700 /etc/credstore; umask 077; echo one >/etc/credstore/turns")?;
    let file = "image = 'debian:13'\nnetwork = 'none'\ncredentials = ['turns']\n\
                restart-on-change = ['/etc/credstore/turns']\n\
                command = ['/bin/bash', '-c', 'trap exit TERM; sleep infinity & wait']\n";
    declare(machine, "turns", file)?;
    let read = "wharf exec turns cat /run/credentials/turns";
    machine.sh("wharf apply")?;
    assert_eq!(machine.sh(read)?, "one");
    machine.sh("echo two >/etc/credstore/turns")?;
    assert_eq!(machine.sh(read)?, "one", "until it is started again");
    assert!(machine.sh("wharf apply")?.contains("turns"));
    assert_eq!(machine.sh(read)?, "two");
    forget(machine, &["turns"])?;
    machine.sh("rm -r /etc/credstore")?;
    Ok(())
}
