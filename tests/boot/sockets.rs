//! Sockets that systemd listens at: for programs that take them, and for those that can't.

use std::time::{Duration, Instant};

use super::containers::{DEBIAN, REDIS, declare, forget, log, property, until, with};
use super::machine::{Machine, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "a program gets its sockets, by their names", on: On::FastThenFull, tell: handed },
    Story {
        name: "Redis behind a proxy starts with its first client and stops when idle",
        on: On::FastThenFull,
        tell: proxied,
    },
    Story { name: "a socket and its refusals", on: On::Fast, tell: refused },
];

/// What sd_listen_fds(3) does, in Perl: answers each client with the name that its socket has, and ends when asked
/// to. It says which descriptors it has when it starts.
const SERVER: &str = r#"use strict;
use IO::Handle;
$| = 1;
die "not for $$: $ENV{LISTEN_PID}\n" if $ENV{LISTEN_PID} != $$;
my @names = split /:/, $ENV{LISTEN_FDNAMES};
opendir my $folder, "/proc/self/fd" or die;
my @open = sort { $a <=> $b } grep { /^\d+$/ && $_ != fileno($folder) } readdir $folder;
closedir $folder;
# The script itself is open too.
@open = grep { (readlink("/proc/self/fd/$_") // "") =~ /^socket:/ && $_ > 2 } @open;
print "sockets @open of $ENV{LISTEN_FDS}, named @names\n";
$SIG{TERM} = sub { exit 0 };
my %at;
for my $number (3 .. 2 + $ENV{LISTEN_FDS}) {
    open my $socket, "+<&=", $number or die "$number: $!";
    $at{$number} = $socket;
}
while (1) {
    my $bits = "";
    vec($bits, $_, 1) = 1 for keys %at;
    select($bits, undef, undef, undef) > 0 or next;
    for my $number (sort keys %at) {
        next unless vec($bits, $number, 1);
        my $name = $names[$number - 3];
        if ($name eq "datagrams") {
            my $from = recv $at{$number}, my $text, 1000, 0;
            send $at{$number}, "datagram for $name, pid $$\n", 0, $from;
        } else {
            accept my $client, $at{$number} or next;
            print $client "hello from $name, pid $$\n";
            close $client;
            exit 0 if $name eq "end";
        }
    }
}
"#;

/// What whoever listens there says.
fn tcp(machine: &Machine, host: &str, port: u16) -> Result<String> {
    machine.sh(&format!("exec 9<>/dev/tcp/{host}/{port}; timeout 20 cat <&9"))
}

fn handed(stage: &mut Stage) -> Told {
    handed_to(with(stage, &[&DEBIAN])?)
}

/// On a machine that has Wharf and the image of Debian.
pub fn handed_to(machine: &mut Machine) -> Told {
    machine.write("/srv/server.pl", SERVER)?;
    machine.sh("grep -q ^clients: /etc/group || groupadd --system clients; which curl python3 perl socat >/dev/null || :")?;
    let file = |more: &str| {
        format!(
            "image = 'debian:13'\nnetwork = 'none'\n{more}\ncommand = ['/usr/bin/perl', '/server.pl']\n\
             [mounts]\n'/server.pl' = {{ bind = '/srv/server.pl', read-only = true }}\n\
             [socket]\nlisten = ['127.0.0.1:7100', '/run/server.sock', '127.0.0.1:7100/udp', '[::1]:7101']\n\
             names = ['first', 'local', 'datagrams', 'end']\nmode = '0660'\ngroup = 'clients'\n"
        )
    };
    for more in ["", "init = true"] {
        declare(machine, "server", &file(more))?;
        machine.sh("systemctl start server-container.socket")?;
        assert_eq!(property(machine, "server", "ActiveState")?, "inactive", "nobody has come yet");
        assert_eq!(machine.sh("stat -c '%a %G' /run/server.sock")?, "660 clients");
        // The first client, and it has its answer.
        let answer = tcp(machine, "127.0.0.1", 7100)?;
        let pid = answer.strip_prefix("hello from first, pid ").unwrap_or_default().to_owned();
        assert_eq!(pid == "1", more.is_empty(), "{answer}");
        assert_eq!(log(machine, "server")?, "sockets 3 4 5 6 of 4, named first local datagrams end");
        let main = property(machine, "server", "MainPID")?;
        if pid != "1" {
            let init =
                machine.sh(&format!("find /proc/{main}/fd -lname 'socket:*' | grep -vc '/[012]$' || :"))?;
            assert_eq!(init, "0", "process 1 keeps none of them");
        }
        let local = machine.sh(
            "perl -MIO::Socket::UNIX -e 'print IO::Socket::UNIX->new(Peer => \"/run/server.sock\")->getline'",
        )?;
        assert_eq!(local, format!("hello from local, pid {pid}"));
        let datagram = machine.sh(
            "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(PeerAddr => \"127.0.0.1:7100\", Proto => \"udp\"); \
             $s->send(\"x\"); $s->recv($t, 100); print $t'",
        )?;
        assert_eq!(datagram, format!("datagram for datagrams, pid {pid}"));
        assert_eq!(property(machine, "server", "MainPID")?, main, "all by the same process");
        // What runs inside by other ways has none of them.
        assert_eq!(machine.sh("wharf exec server env | grep -c LISTEN || :")?, "0");
        // It ends by itself, and isn't started again until somebody comes.
        assert_eq!(tcp(machine, "::1", 7101)?, format!("hello from end, pid {pid}"));
        until(machine, "[[ $(systemctl show -P ActiveState server-container) == inactive ]]")?;
        machine.let_pass(Duration::from_secs(1));
        assert_eq!(property(machine, "server", "ActiveState")?, "inactive");
        assert_eq!(tcp(machine, "127.0.0.1", 7100)?, format!("hello from first, pid {pid}"));
        // Clients wait while it restarts.
        machine.sh("systemctl restart server-container")?;
        assert_eq!(tcp(machine, "127.0.0.1", 7100)?, format!("hello from first, pid {pid}"));
        // Started by hand it has its sockets too, and stopped with them it is gone.
        machine.sh("systemctl stop server-container.socket")?;
        assert_eq!(property(machine, "server", "ActiveState")?, "inactive");
        assert_ne!(machine.run("test -e /run/server.sock")?.code, 0);
        machine.sh("systemctl start server-container")?;
        assert_eq!(tcp(machine, "127.0.0.1", 7100)?, format!("hello from first, pid {pid}"));
        machine.sh("systemctl stop server-container.socket server-container")?;
    }
    // Boot begins with the socket.
    machine.reboot()?;
    let wanted = "systemctl is-active server-container.socket";
    assert_eq!(machine.sh(wanted)?, "active");
    assert_eq!(property(machine, "server", "ActiveState")?, "inactive");
    assert!(tcp(machine, "127.0.0.1", 7100)?.starts_with("hello from first, pid "));
    // And where it isn't to wait for a client, with both.
    declare(machine, "server", &(file("") + "on-demand = false\n"))?;
    machine.reboot()?;
    assert_eq!(machine.sh(wanted)?, "active");
    until(machine, "systemctl is-active -q server-container")?;
    machine.sh("systemctl stop server-container.socket server-container; rm /srv/server.pl")?;
    forget(machine, &["server"])?;
    Ok(())
}

/// The first line of Redis's answer.
fn ask(machine: &Machine, line: &str) -> Result<String> {
    machine.sh(&format!(
        "exec 9<>/dev/tcp/127.0.0.1/6379; printf '{line}\\r\\n' >&9; timeout 60 head -n 1 <&9 | tr -d '\\r'"
    ))
}

fn stopped(machine: &Machine) -> Result<()> {
    until(machine, "[[ $(systemctl show -P ActiveState cache-container) == inactive ]]")
}

fn proxied(stage: &mut Stage) -> Told {
    proxied_by(with(stage, &[&DEBIAN, &REDIS])?)
}

/// On a machine that has Wharf and the images of Debian and Redis.
pub fn proxied_by(machine: &mut Machine) -> Told {
    machine.sh("rm -rf /var/lib/wharf/volumes/cache")?;
    // It listens before it has read its data, and says "LOADING" until then: so whoever asks waits for its health.
    declare(
        machine,
        "cache",
        "image = 'redis:8'\n\
         command = ['/usr/bin/redis-server', '--dir', '/data', '--appendonly', 'yes', '--protected-mode', 'no']\n\
         ready = 'healthy'\n[health]\ncommand = ['/usr/bin/redis-cli', '-e', 'ping']\n\
         [mounts]\n'/data' = { volume = 'cache' }\n\
         [socket]\nlisten = ['127.0.0.1:6379', '/run/cache.sock']\nproxy = true\nto = 6379\nidle-stop = '1s'\n",
    )?;
    let units = machine.sh(
        "cd /run/systemd/generator; systemd-analyze verify --man=no ./cache-container.socket ./cache-container-proxy.service ./cache-container.service 2>&1 || :",
    )?;
    assert!(!units.contains("cache"), "{units}");
    machine.sh("systemctl start cache-container.socket")?;
    assert_eq!(property(machine, "cache", "ActiveState")?, "inactive");
    // The first request is answered, which starts it.
    assert_eq!(ask(machine, "SET kept yes")?, "+OK");
    // Another one keeps it for as long as it is looked at.
    let looks = machine.start("exec 9<>/dev/tcp/127.0.0.1/6379; sleep 4")?;
    until(machine, "systemctl is-active -q cache-container")?;
    let proxy = machine.sh("systemctl show -P MainPID cache-container-proxy")?;
    let user: u32 = machine.sh(&format!("stat -c %u /proc/{proxy}"))?.parse()?;
    let range: u32 = machine.sh("cat /var/lib/wharf/leases/ids/cache")?.trim().parse()?;
    assert_eq!(user, range + 65_534, "the proxy is nobody");
    looks.rest();
    stopped(machine)?;
    assert_eq!(property(machine, "cache", "Result")?, "success");
    assert_eq!(machine.sh("systemctl is-active cache-container.socket")?, "active");
    let failed = machine.sh("systemctl list-units --failed --no-legend --plain")?;
    assert_eq!(
        failed,
        "",
        "{}",
        machine.sh("systemctl status --no-pager -l -n 30 cache-container-proxy || :")?
    );
    // And again, many at once, more often than systemd would start a service that has its usual limit (five times in
    // ten seconds).
    let began = Instant::now();
    for round in 1..=12 {
        let answers = machine.sh(
            "for i in {1..20}; do (exec 9<>/dev/tcp/127.0.0.1/6379; printf 'GET kept\\r\\n' >&9; timeout 60 head -n 2 <&9) & done; wait",
        )?;
        assert_eq!(answers.matches("yes").count(), 20, "{round}: {answers}");
        stopped(machine)?;
    }
    println!("    twelve times used and left idle in {:.1} s", began.elapsed().as_secs_f64());
    // More than the proxy takes by itself (256).
    let many = machine.sh(
        "perl -MIO::Socket::INET -e 'for (1 .. 400) { push @s, IO::Socket::INET->new(\"127.0.0.1:6379\") or die } for (@s) { print $_ \"PING\\r\\n\"; $_->flush } for (@s) { $n++ if $_->getline =~ /PONG/ } print $n'",
    )?;
    assert_eq!(many, "400");
    // By the path too.
    let local = machine.sh(
        "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Peer => \"/run/cache.sock\"); print $s \"PING\\r\\n\"; $s->flush; print $s->getline' | tr -d '\\r'",
    )?;
    assert_eq!(local, "+PONG");
    // An open connection keeps it, for longer than it may be idle.
    let mut held =
        machine.start("exec 9<>/dev/tcp/127.0.0.1/6379; sleep 4; printf 'PING\\r\\n' >&9; head -n 1 <&9")?;
    machine.let_pass(Duration::from_secs(3));
    assert_eq!(property(machine, "cache", "ActiveState")?, "active");
    assert_eq!(held.line().map(|line| line.trim().to_owned()).as_deref(), Some("+PONG"));
    stopped(machine)?;
    // So it does when its file goes meanwhile: then proxy and container end as ever, and nobody starts them.
    let mut held = machine.start(
        "exec 9<>/dev/tcp/127.0.0.1/6379; until [ -e /tmp/ask ]; do sleep .1; done; printf 'PING\\r\\n' >&9; head -n 1 <&9",
    )?;
    until(machine, "systemctl is-active -q cache-container")?;
    machine.sh("mv /etc/wharf/containers/cache.toml /root; systemctl daemon-reload")?;
    assert_eq!(property(machine, "cache", "ActiveState")?, "active");
    machine.sh("touch /tmp/ask")?;
    assert_eq!(held.line().map(|line| line.trim().to_owned()).as_deref(), Some("+PONG"));
    stopped(machine)?;
    assert_eq!(machine.sh("systemctl show -P ActiveState cache-container-proxy")?, "inactive");
    assert_ne!(machine.run("exec 9<>/dev/tcp/127.0.0.1/6379")?.code, 0);
    machine.sh("rm /tmp/ask; mv /root/cache.toml /etc/wharf/containers; systemctl daemon-reload; systemctl restart cache-container.socket")?;
    // Started by hand it stays for as long, and then goes as well.
    machine.sh("systemctl start cache-container")?;
    stopped(machine)?;
    let at = |edge: &str| property(machine, "cache", &format!("Active{edge}TimestampMonotonic"));
    let lived = at("Exit")?.parse::<u64>()? - at("Enter")?.parse::<u64>()?;
    assert!(lived >= 1_000_000, "{lived} µs");
    // Who links to it keeps it, without the proxy.
    declare(
        machine,
        "user",
        "image = 'debian:13'\nlinks = ['cache']\nautostart = false\n\
         command = ['/bin/bash', '-c', 'trap \"exit 0\" TERM; sleep infinity & wait']\n",
    )?;
    machine.sh("systemctl start user-container")?;
    machine.let_pass(Duration::from_secs(3));
    assert_eq!(property(machine, "cache", "ActiveState")?, "active");
    let linked = machine.sh("wharf exec user bash -c \"exec 9<>/dev/tcp/cache/6379; printf 'PING\\r\\n' >&9; head -n 1 <&9\" | tr -d '\\r'")?;
    assert_eq!(linked, "+PONG");
    machine.sh("systemctl stop user-container")?;
    stopped(machine)?;
    // A crash is as with any other: it is started again, and the proxy finds it.
    assert_eq!(ask(machine, "PING")?, "+PONG");
    machine.sh("kill -9 $(systemctl show -P MainPID cache-container)")?;
    until(machine, "[[ $(systemctl show -P NRestarts cache-container) == 1 ]]")?;
    until(
        machine,
        "[[ $(exec 9<>/dev/tcp/127.0.0.1/6379; printf 'PING\\r\\n' >&9; timeout 9 head -n 1 <&9 | tr -d '\\r') == +PONG ]]",
    )?;
    stopped(machine)?;
    ends_for_good(machine)?;
    // After a boot the same.
    machine.reboot()?;
    assert_eq!(property(machine, "cache", "ActiveState")?, "inactive");
    let kept = machine.sh(
        "exec 9<>/dev/tcp/127.0.0.1/6379; printf 'GET kept\\r\\n' >&9; timeout 60 head -n 2 <&9 | tr -d '\\r' | tail -n 1",
    )?;
    assert_eq!(kept, "yes");
    machine.sh("systemctl stop cache-container.socket cache-container-proxy cache-container")?;
    forget(machine, &["cache", "user"])?;
    machine.sh("rm -rf /var/lib/wharf/volumes/cache")?;
    Ok(())
}

/// A container that ends by itself leaves no proxy that would go on taking clients for it.
fn ends_for_good(machine: &Machine) -> Told {
    let file = |more: &str| {
        format!(
            "image = 'redis:8'\nautostart = false\nready = 'healthy'\n{more}\n\
             command = ['/usr/bin/redis-server', '--save', '', '--protected-mode', 'no']\n\
             [health]\ncommand = ['/usr/bin/redis-cli', '-e', 'ping']\n\
             [socket]\nlisten = ['/run/alone.sock']\nproxy = true\nto = 6379\nuser = 'nobody'\nmode = '0600'\n"
        )
    };
    let ask = |line: &str| {
        machine.sh(&format!(
            "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Peer => \"/run/alone.sock\"); print $s \"{line}\\r\\n\"; $s->flush; print $s->getline' | tr -d '\\r'"
        ))
    };
    let gone = |unit: &str| {
        until(machine, &format!("[[ $(systemctl show -P ActiveState {unit}) =~ inactive|failed ]]"))
    };
    // The next client starts it again.
    declare(machine, "alone", &file("restart = 'on-failure'"))?;
    machine.sh("systemctl start alone-container.socket")?;
    assert_eq!(ask("PING")?, "+PONG");
    ask("SHUTDOWN NOSAVE")?;
    gone("alone-container")?;
    gone("alone-container-proxy")?;
    assert_eq!(ask("PING")?, "+PONG");
    // Or waits until it is back after a crash.
    machine.sh("kill -9 $(systemctl show -P MainPID alone-container)")?;
    gone("alone-container-proxy")?;
    assert_eq!(ask("PING")?, "+PONG");
    machine.sh("systemctl stop alone-container.socket alone-container-proxy alone-container")?;
    // Nobody but the socket's owner and root can connect to it, and the first moment of idleness is counted nevertheless.
    declare(machine, "alone", &(file("") + "idle-stop = '1s'\n"))?;
    machine.sh("systemctl start alone-container")?;
    gone("alone-container")?;
    machine.sh(
        "systemctl stop alone-container.socket alone-container-proxy alone-container; systemctl reset-failed",
    )?;
    forget(machine, &["alone"])?;
    Ok(())
}

fn refused(stage: &mut Stage) -> Told {
    let machine: &mut Machine = with(stage, &[&DEBIAN])?;
    let file = |more: &str| {
        format!(
            "image = 'debian:13'\nnetwork = 'none'\nautostart = false\n{more}\n\
             command = ['/bin/bash', '-c', 'exit 1']\n[socket]\nlisten = ['127.0.0.1:7200']\n"
        )
    };
    // A port that another process has.
    let mut taken = machine.start(
        "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalAddr => \"127.0.0.1:7200\", Listen => 1, ReuseAddr => 1); $| = 1; print \"$$\\n\"; sleep 600'",
    )?;
    let by = taken.line().unwrap_or_default();
    declare(machine, "web", &file(""))?;
    let started = machine.run("systemctl start web-container")?;
    assert_ne!(started.code, 0);
    assert!(started.stderr.contains("dependency"), "{}", started.stderr);
    let said = machine.sh("journalctl -q -o cat -u web-container.socket")?;
    // Why is said by a helper of systemd's, whose line the journal may not know to be the unit's.
    assert!(said.contains("listening socket (127.0.0.1:7200)"), "{said}");
    let listed = machine.sh("wharf ps")?;
    assert!(listed.contains("its socket has failed, and nobody listens"), "{listed}");
    assert!(machine.sh("wharf ps --json")?.contains("\"problem\": \"socket-failed\""));
    let looked = machine.run("wharf doctor")?;
    assert!(looked.stdout.contains("systemctl status web-container.socket"), "{}", looked.stdout);
    machine.sh(&format!("kill {by}; systemctl reset-failed web-container.socket"))?;
    forget(machine, &["web"])?;
    clients_wait(machine)
}

/// A bad file, on a machine that has Wharf and the image of Debian: a client has a start that says why not, and is
/// served when the file is put right.
pub fn clients_wait(machine: &Machine) -> Told {
    let server = |before: &str, after: &str| {
        format!(
            "image = 'debian:13'\nautostart = false\nstop.signal = 'SIGKILL'\n{before}\n\
             command = ['/usr/bin/perl', '-MIO::Socket::INET', '-e', 'my $s = $ENV{{LISTEN_FDS}} ? \
             IO::Socket::INET->new_from_fd(3, \"r+\") : IO::Socket::INET->new(LocalPort => 7300, Listen => 9); \
             while (my $c = $s->accept) {{ print $c \"hello\\n\"; close $c }}']\n\
             [socket]\nlisten = ['127.0.0.1:7200']\n{after}\n"
        )
    };
    for (unit, after) in [("web-container", ""), ("web-container-proxy", "proxy = true\nto = 7300")] {
        machine.sh("rm -f /tmp/cursor; journalctl --sync; journalctl -q -n 1 --cursor-file=/tmp/cursor; rm -f /run/wharf/last-good/web.json")?;
        declare(machine, "web", &server("imge = 1", after))?;
        machine.sh("systemctl start web-container.socket")?;
        let mut first = machine.start("exec 9<>/dev/tcp/127.0.0.1/7200; timeout 60 cat <&9")?;
        // By a cursor that stays where it is.
        let refusals = format!(
            "journalctl -q -o cat -u {unit} --after-cursor=\"$(cat /tmp/cursor)\" | grep -c -e '--> /etc/wharf/containers/web.toml'"
        );
        until(machine, &format!("{refusals} >/dev/null"))?;
        // More of them, for longer than it takes to be given up, and one that doesn't wait.
        let mut second = machine.start("exec 9<>/dev/tcp/127.0.0.1/7200; timeout 60 cat <&9")?;
        machine.sh("exec 9<>/dev/tcp/127.0.0.1/7200; sleep 3")?;
        assert_eq!(machine.sh(&format!("journalctl --sync; {refusals}"))?, "1", "{unit}");
        assert_eq!(machine.sh("systemctl is-active web-container.socket")?, "active", "{unit}");
        declare(machine, "web", &server("", after))?;
        for client in [&mut first, &mut second] {
            assert_eq!(client.line().as_deref(), Some("hello"), "{unit}");
        }
        assert_eq!(tcp(machine, "127.0.0.1", 7200)?, "hello", "{unit}");
        // A new port is listened at when the sockets are made anew, and a reload doesn't.
        declare(machine, "web", &server("", after).replace("7200", "7201"))?;
        assert_ne!(machine.run("exec 9<>/dev/tcp/127.0.0.1/7201")?.code, 0, "{unit}");
        machine.sh("systemctl restart web-container.socket")?;
        assert_eq!(tcp(machine, "127.0.0.1", 7201)?, "hello", "{unit}");
        machine.sh(&format!("systemctl stop web-container.socket {unit} web-container"))?;
        forget(machine, &["web"])?;
    }
    machine.sh("systemctl reset-failed; rm -f /tmp/cursor")?;
    Ok(())
}
