//! The tools of the day: what containers use, as tables and as metrics, and what they publish.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::containers::{DEBIAN, PROBE, declare, forget, until, with};
use super::machine::{Context, Machine, Result};
use super::stage::{Feature, On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "what containers use is shown", on: On::Fast, tell: shown },
    Story { name: "what containers use is what they use", on: On::FullIfAll, tell: measured },
    Story { name: "top leaves the terminal as it was", on: On::Fast, tell: terminal },
    Story { name: "metrics are kept in a file", on: On::FastThenFull, tell: kept },
    Story { name: "published ports are held, and lost", on: On::Fast, tell: ports },
];

fn stats(machine: &Machine, arguments: &str) -> Result<Value> {
    let text = machine.sh(&format!("wharf stats --json {arguments}"))?;
    serde_json::from_str(&text).context(|| "read what wharf stats says")
}

/// The row of one container.
fn row(all: &Value, name: &str) -> Value {
    let rows = all.as_array().into_iter().flatten();
    rows.clone().find(|row| row["name"] == name).cloned().unwrap_or_else(|| panic!("{name}: {all}"))
}

/// Hands a text to a parser of somebody else's on the host, and gives what it found: a line for each sample.
fn parsed(parser: &str, text: &str) -> Vec<String> {
    let program = format!(
        "import sys\nfrom {parser} import text_string_to_metric_families as read\n\
         for family in read(sys.stdin.read()):\n    \
             for it in family.samples:\n        \
                 print(it.name, it.labels.get('container'), it.labels.get('state'), float(it.value))\n"
    );
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3, which tests/run installs");
    python.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    let output = python.wait_with_output().expect("ended");
    assert!(output.status.success(), "python3-prometheus-client of\n{text}");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

/// A program that ends is restarted; one that goes on has its time counted. Where there are no controllers, nothing is
/// counted as 0.
fn shown(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN, &PROBE])?;
    let counts = machine.run("grep -q memory /sys/fs/cgroup/cgroup.controllers")?.code == 0;
    declare(machine, "busy", "image = 'debian:13'\ncommand = ['/bin/bash', '-c', 'while :; do :; done']\n")?;
    declare(machine, "ends", "image = 'debian:13'\ncommand = ['/bin/bash', '-c', 'sleep 0.5; exit 3']\n")?;
    declare(machine, "talks", "image = 'probe:1'\n[health]\ntcp = 'localhost:7000'\ninterval = '1s'\n")?;
    declare(machine, "idle", "image = 'debian:13'\nautostart = false\n")?;
    machine.sh("systemctl start busy-container ends-container talks-container")?;
    until(machine, "wharf stats --json --interval 0 talks | grep -q healthy")?;
    until(machine, "(( $(wharf stats --interval 0 --format '{restarts}' ends) >= 2 ))")?;

    let all = stats(machine, "--all")?;
    let busy = row(&all, "busy");
    let cpu = busy["cpu"].as_f64().unwrap_or_default();
    // A share of what is left of the host's; the machine may have company.
    assert!(cpu > 3.0 && cpu < 130.0, "{busy}");
    assert!(busy["cpu_time"].as_u64().is_some_and(|time| time > 100_000), "{busy}");
    assert_eq!(
        (&busy["state"], &busy["restarts"], &busy["image"]),
        (&"active".into(), &0.into(), &"debian:13".into())
    );
    if !counts {
        for key in
            ["memory", "memory_peak", "memory_limit", "memory_anon", "swap", "tasks", "read", "read_rate"]
        {
            assert_eq!(busy[key], Value::Null, "{key}: {busy}");
        }
    }
    // Its network is its own, and of the idle one nothing is known.
    assert!(busy["sent"].as_u64().is_some(), "{busy}");
    let idle = row(&all, "idle");
    assert_eq!((&idle["state"], &idle["cpu_time"]), (&"inactive".into(), &Value::Null), "{idle}");
    assert_eq!(row(&all, "talks")["health"], "healthy");
    let names = machine.sh("wharf stats --format '{name}'")?;
    assert!(!names.contains("idle") && names.contains("busy"), "{names}");
    let said = machine.run("wharf stats bsuy")?;
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("did you mean `busy`?"), "{}", said.stderr);

    // Who isn't root is told all but what only root may read.
    let said = machine.sh("setpriv --reuid nobody --clear-groups wharf stats --json busy")?;
    let theirs = row(&serde_json::from_str(&said).context(|| "read the answer")?, "busy");
    assert!(theirs["cpu"].as_f64().is_some(), "{theirs}");
    assert_eq!((&theirs["sent"], &theirs["image"]), (&Value::Null, &Value::Null), "{theirs}");

    // The same as a table, again and again.
    let top = machine.sh("wharf top --batch -n 2 -d 300ms --sort restarts busy ends talks")?;
    let tables: Vec<&str> = top.split("\n\n").collect();
    assert_eq!(tables.len(), 2, "{top}");
    assert!(tables.iter().all(|table| table.starts_with("NAME") && table.lines().count() == 4), "{top}");
    assert!(tables[1].lines().nth(1).is_some_and(|line| line.starts_with("ends ")), "{top}");
    let said = machine.run("wharf top </dev/null | cat")?;
    assert!(said.stderr.contains("wharf top --batch"), "{}", said.stderr);
    forget(machine, &["busy", "ends", "talks", "idle"])?;
    Ok(())
}

/// Counts what comes by one connection.
const TAKER: &str = r#"
$| = 1;
my $server = IO::Socket::INET->new(LocalPort => 7777, Listen => 1, ReuseAddr => 1) or die;
my $client = $server->accept;
my $bytes = 0;
while (sysread($client, my $buffer, 65536)) { $bytes += length $buffer }
print "$bytes\n";
sleep 1000;
"#;

/// Against a load that is known: one CPU, 64 MiB, 10 MB to the host, 32 MiB to the disk.
fn measured(stage: &mut Stage) -> Told {
    stage.needs(Feature::CgroupControllers)?;
    let machine = with(stage, &[&DEBIAN, &PROBE])?;
    declare(
        machine,
        "burns",
        "image = 'debian:13'\ncommand = ['/bin/bash', '-c', 'while :; do :; done']\n\
         [limits]\nmemory = '256M'\ntasks = 77\ncpu = '300%'\n",
    )?;
    declare(
        machine,
        "holds",
        "image = 'debian:13'\n\
         command = ['/usr/bin/perl', '-e', 'my $x; vec($x, (64 << 20) - 1, 8) = 1; sleep 10000;']\n",
    )?;
    declare(
        machine,
        "writes",
        "image = 'debian:13'\n\
         command = ['/bin/sh', '-c', 'dd if=/dev/zero of=/data/x bs=1M count=32 conv=fsync; exec sleep 10000']\n\
         [mounts]\n'/data' = { volume = 'writes' }\n",
    )?;
    // 10 MB by TCP, to a server of the host.
    declare(
        machine,
        "sends",
        "image = 'probe:1'\nlinks = ['host']\n\
         command = ['/bin/sh', '-c', 'head -c 10000000 /dev/zero | socat -u - TCP:host:7777; exec sleep 10000']\n",
    )?;
    // From a file: systemd would take its variables for those of an environment.
    machine.write("/root/taker", TAKER)?;
    machine.sh("systemd-run --quiet --unit taker perl -MIO::Socket::INET /root/taker")?;
    until(machine, "ss -ltn | grep -q :7777")?;
    machine.sh("systemctl start burns-container holds-container writes-container sends-container")?;
    until(machine, "journalctl -u taker | grep -q 10000000")?;
    until(machine, "journalctl -u writes-container | grep -q copied")?;

    let all = stats(machine, "--interval 5s")?;
    let number = |name: &str, key: &str| {
        let row = row(&all, name);
        row[key].as_f64().unwrap_or_else(|| panic!("{key} of {name}: {row}"))
    };
    let within = |name: &str, key: &str, from: f64, to: f64| {
        let number = number(name, key);
        assert!((from..=to).contains(&number), "{key} of {name} is {number}, not {from} to {to}: {all}");
    };
    // Of a virtual CPU that others may use as well.
    within("burns", "cpu", 50.0, 105.0);
    within("burns", "memory_limit", 268_435_456.0, 268_435_456.0);
    within("burns", "tasks_limit", 77.0, 77.0);
    within("burns", "cpu_limit", 300.0, 300.0);
    within("burns", "tasks", 1.0, 1.0);
    within("holds", "memory", f64::from(64 << 20), f64::from(100 << 20));
    within("holds", "memory_anon", f64::from(64 << 20), f64::from(90 << 20));
    within("holds", "memory_peak", f64::from(64 << 20), f64::from(160 << 20));
    within("holds", "cpu", 0.0, 5.0);
    within("writes", "written", f64::from(32 << 20), f64::from(80 << 20));
    // With headers, and what is sent twice.
    within("sends", "sent", 10_000_000.0, 11_500_000.0);
    within("sends", "received", 1_000.0, 2_000_000.0);
    assert!(number("sends", "sent_packets") > 100.0, "{all}");
    // The kernel's own numbers, by another way.
    let cpu: f64 =
        machine.sh("systemctl show -P CPUUsageNSec burns-container")?.trim().parse().unwrap_or_default();
    assert!(cpu / 1000.0 >= number("burns", "cpu_time"), "{cpu} {all}");

    // Metrics say the same, to two parsers.
    let text = machine.sh("wharf metrics")?;
    let samples = parsed("prometheus_client.openmetrics.parser", &text);
    let value = |name: &str, container: &str| -> f64 {
        let start = format!("{name} {container} None ");
        let line = samples.iter().find_map(|line| line.strip_prefix(&start));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name} of {container}: {samples:#?}"))
    };
    assert!((1e7..1.15e7).contains(&value("wharf_container_network_sent_bytes_total", "sends")));
    assert!(value("wharf_container_memory_anon_bytes", "holds") >= f64::from(64 << 20));
    assert!(value("wharf_container_written_bytes_total", "writes") >= f64::from(32 << 20));
    assert!(samples.iter().any(|line| line == "wharf_container_state burns active 1.0"), "{samples:#?}");
    let prometheus = machine.sh("wharf metrics --format prometheus")?;
    assert!(parsed("prometheus_client.parser", &prometheus).len() > 100, "{prometheus}");
    machine.sh("systemctl stop taker; rm -rf /var/lib/wharf/volumes/writes")?;
    forget(machine, &["burns", "holds", "writes", "sends"])?;
    Ok(())
}

/// script(1) makes a terminal, and bash in it tells how it was before and is afterwards.
const IN_A_TERMINAL: &str = r#"
cat >/root/inside <<'END'
before=$(stty -g)
stty rows 20 cols 100
before=$(stty -g)
wharf top -d 300ms
echo "ended with $?"
[[ $(stty -g) == "$before" ]] && echo "as it was"
END
feed() { sleep 2; printf "$1"; sleep 1; printf "$2"; [[ -z $3 ]] || kill -$3 $(pidof -s wharf); sleep 1; }
"#;

fn terminal(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    for name in ["one", "two"] {
        declare(machine, name, "image = 'debian:13'\n")?;
    }
    machine.sh("systemctl start one-container two-container")?;
    // Keys, and a signal after them.
    for (keys, last, signal, ends) in [
        ("a/two\\r", "q", "", "ended with 0"),
        ("m", "\\003", "", "ended with 0"),
        // No shell looks after this terminal: who stopped here would never go on.
        ("\\032", "q", "", "ended with 0"),
        ("R", "", "TERM", "ended with 143"),
        ("", "", "HUP", "ended with 129"),
    ] {
        let line = format!(
            "{IN_A_TERMINAL} feed '{keys}' '{last}' '{signal}' | TERM=xterm timeout 60 script -qec 'bash /root/inside' /dev/null"
        );
        let said = machine.sh(&line)?;
        assert!(said.contains(ends) && said.contains("as it was"), "{keys} {signal}: {said:?}");
        // Another page of the terminal, and back; the cursor is shown again; lines are broken again.
        for (on, off) in
            [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h"), ("\x1b[?7l", "\x1b[?7h")]
        {
            let (on, off) = (said.find(on), said.rfind(off));
            assert!(on.is_some() && off > on, "{keys} {signal}: {said:?}");
        }
        let last = said.rfind("\x1b[?1049l").unwrap_or_default();
        assert!(said.find("ended with").is_some_and(|at| at > last), "{said:?}");
        assert!(
            said.contains("2 containers") && said.contains("one") && said.contains("RESTARTS"),
            "{said:?}"
        );
        if keys.contains("two") {
            assert!(said.contains("1 with \"two\""), "{said:?}");
        }
    }
    // A terminal that can't move its cursor isn't drawn upon.
    let said = machine.run("TERM=dumb script -qec 'wharf top' /dev/null </dev/null")?;
    assert!(said.code == 2 && said.stdout.contains("wharf top --batch"), "{said:?}");
    assert!(!said.stdout.contains("\x1b[?1049h"), "{said:?}");
    forget(machine, &["one", "two"])?;
    Ok(())
}

fn kept(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    declare(machine, "one", "image = 'debian:13'\n")?;
    machine.sh("systemctl start one-container")?;
    let file = "/var/lib/prometheus/node-exporter/wharf.prom";
    // Without the folder it does nothing; by hand it says why.
    machine.sh(&format!("systemctl start wharf-metrics.service && ! test -e {file}"))?;
    let said = machine.run(&format!("wharf metrics --textfile {file}"))?;
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("there is no folder"), "{}", said.stderr);
    // The folder is somebody else's, as it may be.
    machine.sh("mkdir -p /var/lib/prometheus/node-exporter && chown -R nobody: /var/lib/prometheus")?;
    machine.sh("systemd-analyze verify --man=no wharf-metrics.timer wharf-metrics.service")?;
    assert_ne!(machine.run("systemctl is-enabled wharf-metrics.timer")?.code, 0);
    machine.sh("systemctl start wharf-metrics.service")?;
    assert_eq!(machine.sh(&format!("stat -c %a {file}; ls -A $(dirname {file})"))?, "644\nwharf.prom");
    let samples = parsed("prometheus_client.parser", &machine.sh(&format!("cat {file}"))?);
    assert!(samples.iter().any(|line| line == "wharf_container_state one active 1.0"), "{samples:#?}");
    // In its confinement it knows the network, which takes netlink, and the record, which is root's.
    let has = |name: &str| samples.iter().any(|line| line.starts_with(&format!("{name} one ")));
    assert!(
        has("wharf_container_network_sent_bytes_total") && has("wharf_container_cpu_seconds_total"),
        "{samples:#?}"
    );
    // The timer replaces it, and a reader never sees half of one.
    machine.sh(&format!(
        "systemctl stop one-container; systemctl enable --now wharf-metrics.timer; \
         for i in {{1..700}}; do tail -n 1 {file} | grep -q '^wharf' || exit 7; \
         grep -q 'one.*\"active.* 0' {file} && break; sleep 0.1; done; \
         grep 'one.*\"active.* 0' {file}"
    ))?;
    machine.sh("systemctl disable --now wharf-metrics.timer; rm -r /var/lib/prometheus")?;
    // Another folder, by the drop-in of the manual.
    machine.sh(
        "mkdir -p /srv/textfile /etc/systemd/system/wharf-metrics.service.d && wharf metrics --help | \
         sed -n '/^  .Unit/,/^  ReadWritePaths/p' >/etc/systemd/system/wharf-metrics.service.d/override.conf && \
         systemctl daemon-reload && systemctl start wharf-metrics.service && \
         grep -q wharf_container_state /srv/textfile/wharf.prom",
    )?;
    machine.sh("rm -r /srv/textfile /etc/systemd/system/wharf-metrics.service.d; systemctl daemon-reload")?;
    forget(machine, &["one"])?;
    Ok(())
}

fn ports(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&PROBE])?;
    declare(
        machine,
        "open",
        "image = 'probe:1'\npublish = ['7000:7000', '127.0.0.1:7100-7101:7000-7001/udp']\n",
    )?;
    let state = |arguments: &str| {
        machine.run(&format!(
            "wharf port {arguments} --format '{{host_port}} {{protocol}} {{state}} {{declared}}'"
        ))
    };
    assert_eq!(state("open")?.stdout, "7000 tcp stopped true\n7100-7101 udp stopped true\n");
    machine.sh("systemctl start open-container")?;
    let said = state("")?;
    assert_eq!((said.code, said.stdout.as_str()), (0, "7000 tcp held true\n7100-7101 udp held true\n"));
    let address = machine.sh("wharf port open --json | grep -o '10[.][0-9.]*' | head -n 1")?;
    assert_eq!(address, machine.sh("wharf ps --format '{addresses}' | grep -o '10[.][0-9.]*'")?);

    // Somebody takes a rule out; the repair is kept from seeing it, which would be at once.
    machine.sh("systemctl stop wharf-network.socket && nft flush map inet wharf ports_at4")?;
    let said = state("open")?;
    assert_eq!((said.code, said.stdout.as_str()), (1, "7000 tcp held true\n7100-7101 udp lost true\n"));
    assert!(said.stderr.contains("systemctl start wharf-network"), "{}", said.stderr);
    machine.sh("systemctl start wharf-network && systemctl start wharf-network.socket")?;
    assert_eq!(state("open")?.code, 0);

    // A change of the file is due, and what runs isn't declared any more.
    declare(machine, "open", "image = 'probe:1'\npublish = ['7000:7000', '7200:7000']\n")?;
    assert_eq!(state("open")?.stdout, "7000 tcp held true\n7100-7101 udp held false\n7200 tcp due true\n");
    // Who isn't root is told what the files say.
    let said =
        machine.sh("setpriv --reuid nobody --clear-groups wharf port open --format '{publish} {state}'")?;
    assert_eq!(said, "7000:7000/tcp -\n7200:7000/tcp -");
    forget(machine, &["open"])?;
    Ok(())
}
