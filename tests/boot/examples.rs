//! The files in `examples/` that are about a service's life, run as people find them, by real software. What is
//! different in the images of these tests is said in drop-ins.

use super::containers::{APP, DEBIAN, NGINX, POSTGRESQL, REDIS, feed, forget, property, until, with};
use super::health::archive;
use super::machine::{Machine, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story {
        name: "the example of PostgreSQL is ready when it answers, and migrated by a job",
        on: On::Fast,
        tell: postgresql,
    },
    Story {
        name: "the example of nginx reloads, and restarts behind its sockets",
        on: On::Fast,
        tell: nginx,
    },
    Story { name: "the example of a worker is watched", on: On::Fast, tell: worker },
    Story { name: "the examples of Redis serve, one on demand", on: On::Fast, tell: redis },
    Story { name: "the examples of jobs run by their timers", on: On::Fast, tell: scraper },
    Story {
        name: "the example of nginx behind a balancer only says how it is",
        on: On::Fast,
        tell: balanced,
    },
    Story { name: "the example of named sockets has each at its place", on: On::Fast, tell: named },
    Story { name: "the example of a password store stays stopped", on: On::Fast, tell: vaultwarden },
];

/// An example's file in its place, with drop-ins, accepted without a word, and not started yet.
fn example(machine: &Machine, name: &str, text: &str, more: &str) -> Result<()> {
    forget(machine, &[name])?;
    machine.write(&format!("/etc/wharf/containers/{name}.toml"), text)?;
    assert_eq!(
        machine.sh(&format!("wharf check {name} 2>&1"))?,
        "1 container checked: nothing to say",
        "{name}"
    );
    let own = format!("autostart = false\n{more}");
    machine.write(&format!("/etc/wharf/containers/{name}.toml.d/10-here.toml"), &own)?;
    machine.sh("systemctl daemon-reload").map(drop)
}

fn active(machine: &Machine, name: &str) -> Result<()> {
    assert_eq!(property(machine, name, "ActiveState")?, "active", "{name}");
    Ok(())
}

fn postgresql(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&POSTGRESQL])?;
    machine.sh("wharf image tag postgresql:17 postgres:17; rm -rf /srv/postgresql; \
         ids=$(grep -h ^postgres: /var/lib/wharf/layers/*/tree/etc/passwd | head -n 1 | cut -d: -f3,4); \
         install -d -m 700 /srv/postgresql; chown $ids /srv/postgresql; \
         (umask 077; echo PGPASSWORD=secret >/etc/wharf/postgresql.env)")?;
    let text = include_str!("../../examples/postgresql.toml");
    // Debian's own image of these tests has its data there.
    example(machine, "postgresql", text, "[mounts]\n'/data' = { bind = '/srv/postgresql' }\n")?;
    machine.sh("systemctl start postgresql-container")?;
    // Started means ready, the first time too, when it makes its database before.
    machine.sh("exec 9<>/dev/tcp/127.0.0.1/5432")?;
    let said = machine.sh("wharf exec postgresql psql -h 127.0.0.1 -U postgres -qAtc 'select 6 * 7'")?;
    assert_eq!(said, "42");
    let status = property(machine, "postgresql", "StatusText")?;
    assert_eq!(status, "Health: healthy: 127.0.0.1:5432 - accepting connections");
    let listed = machine.sh("wharf ps --format '{name} {status_text}' | grep '^postgresql '")?;
    assert_eq!(listed, format!("postgresql {status}"));
    // The job works on it, and is what its statements are.
    machine.sh("(umask 077; echo PGPASSWORD=secret >/etc/wharf/migrate.env); mkdir -p /srv/migrations")?;
    machine.write("/srv/migrations/next.sql", "create table migrated as select 7 as answer;\n")?;
    example(machine, "migrate", include_str!("../../examples/migrate.toml"), "")?;
    machine.sh("systemctl start migrate-container")?;
    let ask = "wharf exec postgresql psql -h 127.0.0.1 -U app -qAtc 'table migrated'";
    assert_eq!(machine.sh(ask)?, "7");
    assert_ne!(machine.run("systemctl start migrate-container")?.code, 0, "the table is there already");
    assert_eq!(property(machine, "migrate", "ExecMainStatus")?, "3", "as psql says it");
    // A backup, by a container that is gone afterwards, brings back what it has dumped.
    machine.write("/srv/backup/backup", include_str!("../../examples/backup"))?;
    let backup = machine.run("bash /srv/backup/backup /srv/backup")?;
    assert_ne!(backup.code, 0, "it has no password");
    assert!(backup.stderr.contains("/etc/wharf/backup.env"), "{backup:?}");
    assert_eq!(machine.sh("ls /srv/backup")?, "backup", "of what failed nothing is left");
    machine.sh(
        "cp /etc/wharf/migrate.env /etc/wharf/backup.env; bash /srv/backup/backup /srv/backup; \
         [[ $(stat -c %a /srv/backup/*.dump) == 600 && -z $(systemctl list-units -q 'postgresql-backup*') ]]",
    )?;
    machine.sh("wharf exec postgresql psql -h 127.0.0.1 -U app -qc 'drop table migrated'")?;
    machine.sh("wharf exec postgresql pg_restore -h 127.0.0.1 -U app -d app </srv/backup/app-*.dump")?;
    assert_eq!(machine.sh(ask)?, "7");
    machine.sh("systemctl stop postgresql-container")?;
    assert_eq!(property(machine, "postgresql", "Result")?, "success");
    forget(machine, &["migrate", "postgresql"])?;
    machine.sh("rm -r /srv/postgresql /srv/migrations /srv/backup /etc/wharf/{postgresql,migrate,backup}.env; wharf image remove postgres:17")?;
    Ok(())
}

fn nginx(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&NGINX])?;
    machine.write("/srv/nginx-sockets/nginx.conf", include_str!("../../examples/nginx-sockets.conf"))?;
    machine.write("/srv/nginx-sockets/html/index.html", "one\n")?;
    example(machine, "nginx-sockets", include_str!("../../examples/nginx-sockets.toml"), "")?;
    machine.sh("systemctl start nginx-sockets-container")?;
    for address in ["127.0.0.1", "[::1]"] {
        assert_eq!(machine.sh(&format!("curl -sS --max-time 10 http://{address}/"))?, "one");
    }
    // It has no network; these are systemd's sockets.
    let inside =
        machine.sh("ls /proc/$(systemctl show -P MainPID nginx-sockets-container)/root/sys/class/net")?;
    assert_eq!(inside, "lo");

    // A reload takes in what has changed, and the process stays.
    let main = property(machine, "nginx-sockets", "MainPID")?;
    machine.sh(
        "mkdir /srv/nginx-sockets/new; echo two >/srv/nginx-sockets/new/index.html; \
         sed -i s,nginx/html,nginx/new, /srv/nginx-sockets/nginx.conf; systemctl reload nginx-sockets-container",
    )?;
    until(machine, "[[ $(curl -sS --max-time 10 http://127.0.0.1/) == two ]]")?;
    assert_eq!(property(machine, "nginx-sockets", "MainPID")?, main);
    // One of a file with a mistake fails, and nginx goes on.
    machine.sh("echo 'no such thing;' >>/srv/nginx-sockets/nginx.conf")?;
    assert_ne!(machine.run("systemctl reload nginx-sockets-container")?.code, 0);
    let said = machine.sh("journalctl --sync; journalctl -b -q -o cat SYSLOG_IDENTIFIER=nginx-sockets")?;
    assert!(said.contains("unknown directive \"no\""), "{said}");
    assert_eq!(machine.sh("curl -sS --max-time 10 http://127.0.0.1/")?, "two");
    assert_eq!(property(machine, "nginx-sockets", "MainPID")?, main);

    // While it restarts, clients wait, and not one is refused.
    machine.sh("sed -i '$d' /srv/nginx-sockets/nginx.conf")?;
    let asked = machine.sh(
        "(while [[ ! -e /tmp/enough ]]; do curl -sS --max-time 20 -o /dev/null -w '%{http_code}\\n' http://127.0.0.1/ || echo refused; done >/tmp/asked 2>&1) & \
         for i in 1 2 3; do systemctl restart nginx-sockets-container; done; touch /tmp/enough; wait; \
         sort /tmp/asked | uniq -c; rm /tmp/enough /tmp/asked",
    )?;
    assert!(asked.lines().count() == 1 && asked.trim().ends_with(" 200"), "{asked}");
    assert_ne!(property(machine, "nginx-sockets", "MainPID")?, main);
    machine.sh(
        "systemctl stop nginx-sockets-container.socket nginx-sockets-container; rm -r /srv/nginx-sockets",
    )?;
    forget(machine, &["nginx-sockets"])?;
    Ok(())
}

fn worker(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&APP])?;
    machine.sh("wharf image tag app:1 python:3.13; rm -rf /var/lib/wharf/volumes/queue")?;
    machine.write("/srv/worker/worker.py", include_str!("../../examples/worker.py"))?;
    // The image of these tests has a user of its own.
    example(machine, "worker", include_str!("../../examples/worker.toml"), "user = 'root'\n")?;
    let says = |status: &str| {
        until(machine, &format!("[[ $(systemctl show -P StatusText worker-container) == '{status}' ]]"))
    };
    machine.sh("systemctl start worker-container")?;
    let status = property(machine, "worker", "StatusText")?;
    assert_eq!(status, "0 done, a look every 1 s", "it has said so before it was started");
    machine.sh("wharf exec worker sh -c 'echo >/queue/first; echo >/queue/second'")?;
    says("2 done, a look every 1 s")?;
    // What it is told anew is so when the reload is done.
    machine.sh("echo 0.5 >/srv/worker/pause; systemctl reload worker-container")?;
    assert_eq!(property(machine, "worker", "StatusText")?, "2 done, a look every 0.5 s");
    // It hangs, and is started again; what it has done it still knows.
    machine.sh("kill -STOP $(systemctl show -P MainPID worker-container)")?;
    until(machine, "[[ $(systemctl show -P NRestarts worker-container) == 1 ]]")?;
    says("2 done, a look every 0.5 s")?;
    active(machine, "worker")?;
    machine.sh("wharf exec worker sh -c 'echo >/queue/third'")?;
    says("3 done, a look every 0.5 s")?;
    // It is stopped with a file in hand that takes longer than a stop may without being asked.
    machine
        .sh("wharf exec worker sh -c 'echo 8 >/queue/long'; sleep 1; systemctl stop worker-container; \
         [[ -z $(ls /var/lib/wharf/volumes/queue) ]]")?;
    assert_eq!(property(machine, "worker", "Result")?, "success");
    let said = machine.sh("journalctl --sync; journalctl -b -q -o cat SYSLOG_IDENTIFIER=worker")?;
    assert!(said.contains("works on second"), "{said}");
    assert!(said.contains("worker: nothing came from it for as long as WatchdogSec= says"), "{said}");
    forget(machine, &["worker"])?;
    machine.sh("rm -r /srv/worker /var/lib/wharf/volumes/queue; wharf image remove python:3.13")?;
    Ok(())
}

fn redis(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&REDIS])?;
    machine.sh("wharf image tag redis:8 redis:7; rm -rf /var/lib/wharf/volumes/redis-{data,on-demand}")?;
    example(machine, "redis", include_str!("../../examples/redis.toml"), "")?;
    machine.sh("systemctl start redis-container")?;
    until(machine, "[[ $(systemctl show -P StatusText redis-container) == 'Health: healthy'* ]]")?;
    forget(machine, &["redis"])?;

    // Not ten minutes, but a moment.
    let text = include_str!("../../examples/redis-on-demand.toml");
    example(machine, "redis-on-demand", text, "[socket]\nidle-stop = '2s'\n")?;
    machine.sh("systemctl start redis-on-demand-container.socket")?;
    assert_eq!(property(machine, "redis-on-demand", "ActiveState")?, "inactive");
    let ask =
        "exec 9<>/dev/tcp/127.0.0.1/6379; printf 'PING\\r\\n' >&9; timeout 60 head -n 1 <&9 | tr -d '\\r'";
    assert_eq!(machine.sh(ask)?, "+PONG");
    active(machine, "redis-on-demand")?;
    assert_eq!(machine.sh("stat -c '%a %G' /run/redis-on-demand.sock")?, "660 adm");
    until(machine, "[[ $(systemctl show -P ActiveState redis-on-demand-container) == inactive ]]")?;
    machine.sh("systemctl stop redis-on-demand-container.socket")?;
    forget(machine, &["redis-on-demand"])?;
    machine.sh("rm -r /var/lib/wharf/volumes/redis-{data,on-demand}; wharf image remove redis:7")?;
    Ok(())
}

fn scraper(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh("wharf image tag debian:13 scraper:1; rm -rf /var/lib/wharf/volumes/prices")?;
    machine.write("/srv/scraper/scrape", "#!/bin/sh\n[ \"$1\" = --into ] && date >\"$2/prices\"\n")?;
    machine.sh("chmod +x /srv/scraper/scrape")?;
    let program = "[mounts]\n'/usr/local/bin' = { bind = '/srv/scraper', read-only = true }\n";
    example(machine, "scraper", include_str!("../../examples/scraper.toml"), program)?;
    machine.sh("systemctl start scraper-container")?;
    assert_eq!(property(machine, "scraper", "ActiveState")?, "inactive", "its end is the start's");
    machine.sh("test -s /var/lib/wharf/volumes/prices/prices && systemctl start scraper-container.timer")?;
    let table = machine.sh("wharf ps")?;
    let row = table.lines().find(|line| line.starts_with("scraper ")).unwrap_or_default();
    assert!(row.contains("inactive (dead), next in "), "{table}");
    machine.sh("systemctl stop scraper-container.timer")?;
    forget(machine, &["scraper"])?;

    // Not a quarter of an hour: each run hangs, and the next takes its place.
    machine.write("/srv/scraper/scrape", "#!/bin/sh\necho asks\nexec sleep 1000\n")?;
    machine.sh("chmod +x /srv/scraper/scrape")?;
    let own = format!("{program}[timer]\nevery = '2s'\non-boot = '1s'\n");
    example(machine, "poller", include_str!("../../examples/poller.toml"), &own)?;
    machine.sh("systemctl start poller-container.timer")?;
    until(machine, "(( $(journalctl -b -q -o cat SYSLOG_IDENTIFIER=poller MESSAGE=asks | wc -l) >= 3 ))")?;
    machine.sh("systemctl stop poller-container.timer poller-container")?;
    forget(machine, &["poller"])?;
    machine.sh("rm -r /srv/scraper /var/lib/wharf/volumes/{prices,news}; wharf image remove scraper:1")?;
    Ok(())
}

fn balanced(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&NGINX])?;
    machine.write("/srv/nginx-balanced/nginx.conf", include_str!("../../examples/nginx-sockets.conf"))?;
    machine.write("/srv/nginx-balanced/html/index.html", "one\n")?;
    machine.write("/srv/nginx-balanced/new/index.html", "two\n")?;
    let text = include_str!("../../examples/nginx-balanced.toml");
    example(machine, "nginx-balanced", text, "[health]\ninterval = '500ms'\n")?;
    machine.sh("systemctl start nginx-balanced-container")?;
    until(
        machine,
        "[[ $(systemctl show -P StatusText nginx-balanced-container) == 'Health: healthy: '*':80 takes connections' ]]",
    )?;
    let main = property(machine, "nginx-balanced", "MainPID")?;
    machine.sh(
        "sed -i s,nginx/html,nginx/new, /srv/nginx-balanced/nginx.conf; systemctl reload nginx-balanced-container",
    )?;
    until(machine, "[[ $(curl -sS --max-time 10 http://127.0.0.1:8081/) == two ]]")?;
    // Where nobody listens any more it is said, and nothing else happens.
    machine.sh(
        "sed -i '/listen/s/80/81/' /srv/nginx-balanced/nginx.conf; systemctl reload nginx-balanced-container",
    )?;
    until(machine, "[[ $(systemctl show -P StatusText nginx-balanced-container) == 'Health: unhealthy'* ]]")?;
    active(machine, "nginx-balanced")?;
    assert_eq!(property(machine, "nginx-balanced", "MainPID")?, main);
    assert_eq!(property(machine, "nginx-balanced", "NRestarts")?, "0");
    forget(machine, &["nginx-balanced"])?;
    machine.sh("rm -r /srv/nginx-balanced").map(drop)?;
    Ok(())
}

fn named(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&APP])?;
    machine.sh("wharf image tag app:1 python:3.13")?;
    machine.write("/srv/named-sockets/named-sockets.py", include_str!("../../examples/named-sockets.py"))?;
    // The image of these tests has a user of its own.
    let text = include_str!("../../examples/named-sockets.toml");
    example(machine, "named-sockets", text, "user = 'root'\n")?;
    machine.sh("systemctl start named-sockets-container.socket")?;
    // The first client starts it. Who speaks to systemd is another process each time.
    let ask = "curl -sS --max-time 30 http://127.0.0.1:8082/";
    assert_eq!(machine.sh(ask)?, "http here");
    let status = "systemctl show -P StatusText named-sockets-container";
    until(machine, &format!("[[ $({status}) == 'http has answered 1 times' ]]"))?;
    let ask = "curl -sS --max-time 30 --unix-socket /run/named-sockets.sock http://admin/";
    assert_eq!(machine.sh(ask)?, "admin here");
    until(machine, &format!("[[ $({status}) == 'admin has answered 1 times' ]]"))?;
    machine.sh("systemctl stop named-sockets-container.socket named-sockets-container")?;
    assert_eq!(property(machine, "named-sockets", "Result")?, "success");
    forget(machine, &["named-sockets"])?;
    machine.sh("rm -r /srv/named-sockets; wharf image remove python:3.13")?;
    Ok(())
}

fn vaultwarden(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    // An image that says how it is to be checked, in that one's place.
    let check = r#"{"Test":["CMD-SHELL","! test -e /data/bad"],"Interval":500000000,"Retries":2}"#;
    feed(machine, "wharf image import -", archive(check)?)?;
    let reference = "docker.io/vaultwarden/server:1.34.3";
    machine.sh(&format!("wharf image tag checked:1 {reference}; rm -rf /var/lib/wharf/volumes/passwords"))?;
    example(machine, "vaultwarden", include_str!("../../examples/vaultwarden.toml"), "")?;
    machine.sh("systemctl start vaultwarden-container")?;
    until(machine, "[[ $(systemctl show -P StatusText vaultwarden-container) == 'Health: healthy'* ]]")?;
    machine.sh("wharf exec vaultwarden touch /data/bad")?;
    until(machine, "systemctl is-failed -q vaultwarden-container")?;
    assert_eq!(property(machine, "vaultwarden", "ExecMainStatus")?, "193");
    let status = property(machine, "vaultwarden", "StatusText")?;
    assert!(status.starts_with("Health: unhealthy, so it is stopped"), "{status}");
    assert_eq!(property(machine, "vaultwarden", "NRestarts")?, "0");
    forget(machine, &["vaultwarden"])?;
    machine.sh(&format!(
        "rm -r /var/lib/wharf/volumes/passwords; wharf image remove {reference}; wharf image remove checked:1"
    ))?;
    Ok(())
}
