//! The default network: who reaches whom, what is published, what is left afterwards, and what it survives.

use std::time::{Duration, Instant};

use super::containers::{DEBIAN, NGINX, PROBE, declare, forget, property, until, with};
use super::machine::{Machine, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "who may connect to whom", on: On::Fast, tell: matrix },
    Story { name: "published ports lead where they should", on: On::Fast, tell: published },
    Story { name: "a taken port is refused and its holder named", on: On::Fast, tell: taken },
    Story { name: "names follow the files in running containers", on: On::Fast, tell: names },
    Story { name: "a flushed firewall is put right", on: On::Fast, tell: flushed },
    Story { name: "what another version has written keeps its network", on: On::Fast, tell: versions },
    Story { name: "starts, stops and kills leave nothing", on: On::Fast, tell: cycles },
];

const ALL: [&str; 5] = ["target", "linked", "back", "stranger", "trusted"];

/// A container of the probe image, on the default network.
fn probe(more: &str) -> String {
    format!("image = 'probe:1'\nautostart = false\nstop.timeout = '2s'\n{more}\n")
}

/// A network beside the machine, with one host in it, whose packets come in over an interface of their own.
/// The machine is 192.0.2.1 and 2001:db8::1 there, and it is 192.0.2.2 and 2001:db8::2.
const OUTSIDE: &str = "
    ip netns add outside
    ip link add out0 type veth peer name eth0 netns outside
    ip addr add 192.0.2.1/24 dev out0; ip addr add 2001:db8::1/64 dev out0 nodad; ip link set out0 up
    ip -n outside link set lo up; ip -n outside link set eth0 up
    ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside addr add 2001:db8::2/64 dev eth0 nodad
    ip -n outside route add default via 192.0.2.1; ip -n outside route add default via 2001:db8::1
";

const NO_OUTSIDE: &str = "ip netns del outside 2>/dev/null; ip link del out0 2>/dev/null; :";

/// Three containers around a fourth, and somebody outside.
fn set_up(stage: &mut Stage) -> Result<&mut Machine> {
    let machine = with(stage, &[&PROBE])?;
    machine.sh(NO_OUTSIDE)?;
    machine.sh(OUTSIDE)?;
    for (name, more) in [
        ("target", "links = ['back']\npublish = ['7000:7000/tcp+udp']"),
        ("linked", "links = ['target:goal']"),
        ("back", ""),
        ("stranger", ""),
        ("trusted", "links = ['host']"),
    ] {
        machine.write(&format!("/etc/wharf/containers/{name}.toml"), probe(more))?;
    }
    machine.sh("systemctl daemon-reload; wharf check")?;
    machine.sh("systemctl start target-container linked-container stranger-container trusted-container")?;
    let pid = property(machine, "target", "MainPID")?;
    // Four servers listen: the shell is there before they are.
    until(machine, &format!("[ $(nsenter -t {pid} -n ss -Hlntu 'sport = :7000' | wc -l) = 4 ]"))?;
    // The program of one container, in the mounts of that one and the network of whoever asks.
    machine.write("/usr/local/bin/ask", ASK)?;
    machine.sh("chmod +x /usr/local/bin/ask")?;
    Ok(machine)
}

/// `ask FROM PROTOCOL FAMILY ADDRESS [PORT]`: who the server says that it was asked by; `refused` or `silence`
/// where there is no answer. FROM is a container, `host` or `outside`.
const ASK: &str = r#"#!/bin/bash
from=$1 protocol=$2 family=$3 address=$4 port=${5:-7000}
case $from in
host) enter=() ;;
outside) enter=(ip netns exec outside) ;;
*) enter=(nsenter -t "$(systemctl show -P MainPID "$from-container")" -n) ;;
esac
tools=(nsenter -t "$(systemctl show -P MainPID back-container)" -m --)
[[ $address != *:* ]] || bracketed="[$address]"
case $protocol in
tcp) said=$("${enter[@]}" "${tools[@]}" socat -T3 - "TCP$family:${bracketed:-$address}:$port,connect-timeout=2${BIND:+,bind=$BIND}" 2>&1 </dev/null) ;;
udp) said=$(echo | "${enter[@]}" "${tools[@]}" socat -t2 -T3 - "UDP$family:${bracketed:-$address}:$port${BIND:+,bind=$BIND}" 2>&1) ;;
icmp) "${enter[@]}" "${tools[@]}" ping -"$family" -n -q -c1 -W1 ${BIND:+-I $BIND} "$address" >/tmp/ping 2>&1 && said=answer || said=$(</tmp/ping) ;;
esac
case $said in
*refused* | *prohibited* | *ermission\ denied* | *filtered* | *No\ route* | *errors*) echo refused ;;
'' | *timed\ out* | *100%*) echo silence ;;
*) said=${said//[\[\]]/}; echo "$said" ;;
esac
"#;

/// What is said where somebody must answer. Of UDP the server forks for each datagram, and on a busy machine that
/// takes longer than the client waits: so it asks again.
fn answer(machine: &Machine, from: &str, protocol: &str, family: u8, address: &str) -> Result<String> {
    let question = format!("ask {from} {protocol} {family} {address}");
    let mut said = machine.sh(&question)?;
    for _ in 0..2 {
        if protocol != "udp" || said != "silence" {
            break;
        }
        said = machine.sh(&question)?;
    }
    Ok(said)
}

/// An address of a container, by family.
fn address(machine: &Machine, name: &str, family: u8) -> Result<String> {
    let index = if family == 4 { 0 } else { 1 };
    let json = machine.sh("wharf ps --json")?;
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
    let row = rows.as_array().into_iter().flatten().find(|row| row["name"] == name).cloned();
    let address = row.unwrap_or_default()["addresses"][index].as_str().unwrap_or_default().to_owned();
    assert!(!address.is_empty(), "{name} has an IPv{family} address: {json}");
    Ok(address)
}

/// The short form of an address, as programs compare it: socat writes IPv6 in full.
fn same(one: &str, other: &str) -> bool {
    match (one.parse::<std::net::IpAddr>(), other.parse::<std::net::IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn matrix(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    let ask = |from: &str, protocol: &str, family: u8, address: &str| {
        machine.sh(&format!("ask {from} {protocol} {family} {address}"))
    };
    let mut cells = 0;
    for family in [4, 6] {
        let target = address(machine, "target", family)?;
        for protocol in ["tcp", "udp", "icmp"] {
            for (from, may) in
                [("linked", true), ("back", false), ("stranger", false), ("host", true), ("outside", false)]
            {
                let said = match may {
                    true => answer(machine, from, protocol, family, &target)?,
                    false => ask(from, protocol, family, &target)?,
                };
                let cell = format!("{from} to target's address, {protocol}, IPv{family}: {said}");
                match (may, protocol) {
                    (true, "icmp") => assert_eq!(said, "answer", "{cell}"),
                    (true, _) if from == "linked" => {
                        assert!(same(&said, &address(machine, "linked", family)?), "{cell}");
                    }
                    (true, _) => assert!(said.parse::<std::net::IpAddr>().is_ok(), "{cell}"),
                    // Containers are told so at once; who comes from outside isn't told that there is anything.
                    (false, "icmp") => assert!(said == "refused" || said == "silence", "{cell}"),
                    (false, "tcp") if from != "outside" => assert_eq!(said, "refused", "{cell}"),
                    (false, _) => assert!(said == "refused" || said == "silence", "{cell}"),
                }
                cells += 1;
            }
        }
        // By the names in its hosts file.
        for name in ["target", "goal"] {
            let pid = property(machine, "linked", "MainPID")?;
            machine.sh(&format!("nsenter -t {pid} -a getent ahosts {name} | grep -qF {target}"))?;
        }
        // A stranger with the linked one's address as its source gets nowhere.
        let false_name = address(machine, "linked", family)?;
        let pid = property(machine, "stranger", "MainPID")?;
        let length = if family == 4 { 32 } else { 128 };
        machine.sh(&format!("nsenter -t {pid} -n ip addr add {false_name}/{length} dev eth0 nodad"))?;
        for protocol in ["tcp", "udp", "icmp"] {
            let bind = if family == 4 || protocol == "icmp" {
                false_name.clone()
            } else {
                format!("[{false_name}]")
            };
            let said = machine.sh(&format!("BIND='{bind}' ask stranger {protocol} {family} {target}"))?;
            assert_eq!(said, "silence", "a spoofed {protocol} packet, IPv{family}");
            cells += 1;
        }
        machine.sh(&format!("nsenter -t {pid} -n ip addr del {false_name}/{length} dev eth0"))?;
        // The host's own ports are for those that link to it.
        let gateway = machine.sh(&format!(
            "ip -{family} -o addr show dev out0 scope global | awk '{{print $4}}' | cut -d/ -f1"
        ))?;
        machine.sh("systemd-run -q --collect --unit=greeter --service-type=exec /bin/bash -c 'exec nsenter -t $(systemctl show -P MainPID back-container) -m -- socat TCP6-LISTEN:7100,fork,reuseaddr SYSTEM:\"echo \\$SOCAT_PEERADDR\"'")?;
        until(machine, "[ -n \"$(ss -Hlnt 'sport = :7100')\" ]")?;
        let refused = machine.sh(&format!("ask stranger tcp {family} {gateway} 7100"))?;
        assert_eq!(refused, "refused", "stranger to the host, IPv{family}");
        let allowed = machine.sh(&format!("ask trusted tcp {family} {gateway} 7100"))?;
        assert!(
            !["refused", "silence"].contains(&allowed.as_str()),
            "trusted to the host, IPv{family}: {allowed}"
        );
        machine.sh("systemctl stop greeter")?;
        cells += 2;
    }
    // Linked to and not running: refused, and not sent out by the host's default route.
    machine.sh("ip route replace default via 192.0.2.2; ip -6 route replace default via 2001:db8::2")?;
    machine.sh("systemctl stop stranger-container")?;
    declare(machine, "trusted", &probe("links = ['stranger']"))?;
    let hosts = "nsenter -t $(systemctl show -P MainPID trusted-container) -m awk '$2 == \"stranger\" { print $1 }' /etc/hosts";
    until(machine, &format!("[ $({hosts} | wc -l) = 2 ]"))?;
    for (family, gone) in [4, 6].into_iter().zip(machine.sh(hosts)?.lines()) {
        let said = machine.sh(&format!("ask trusted tcp {family} {gone}"))?;
        assert_eq!(said, "refused", "a peer that doesn't run, IPv{family}: {gone}");
        cells += 1;
    }
    println!("    {cells} cells");
    end(machine)
}

fn published(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    for (family, host, client) in [(4, "192.0.2.1", "192.0.2.2"), (6, "2001:db8::1", "2001:db8::2")] {
        for protocol in ["tcp", "udp"] {
            let ask = |from: &str, address: &str| answer(machine, from, protocol, family, address);
            let said = ask("outside", host)?;
            assert!(same(&said, client), "{protocol}: outside keeps its address {client}, and not {said}");
            let said = ask("host", host)?;
            assert!(same(&said, host), "{protocol}: the host by its own address is {host}, and not {said}");
            // Published is published: for other containers as well, and for the container itself.
            for from in ["stranger", "target"] {
                let said = ask(from, host)?;
                assert!(
                    said.parse::<std::net::IpAddr>().is_ok(),
                    "{protocol}: {from} by the host's address: {said}"
                );
            }
            if family == 4 {
                let said = ask("host", "127.0.0.1")?;
                assert!(
                    said.parse::<std::net::IpAddr>().is_ok(),
                    "{protocol}: the host by 127.0.0.1: {said}"
                );
            }
        }
        // Outgoing traffic has the host's address.
        let outside = machine.start(&format!(
            "ip netns exec outside nsenter -t $(systemctl show -P MainPID back-container) -m -- \
             socat TCP{family}-LISTEN:7200,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR'"
        ))?;
        until(machine, "[ -n \"$(ip netns exec outside ss -Hlnt 'sport = :7200')\" ]")?;
        let said = machine.sh(&format!("ask stranger tcp {family} {client} 7200"))?;
        assert!(same(&said, host), "outside sees the host {host}, and not {said}");
        drop(outside);
    }
    // Of one address only, and a range.
    declare(machine, "target", &probe("publish = ['192.0.2.1:7300:7000', '7400-7402:7000-7002']"))?;
    machine.sh("systemctl restart target-container")?;
    until(machine, "[[ $(ask outside tcp 4 192.0.2.1 7300) == 192.0.2.2 ]]")?;
    assert_eq!(machine.sh("ask host tcp 4 127.0.0.1 7300")?, "refused");
    assert_eq!(machine.sh("ask outside tcp 6 2001:db8::1 7300")?, "refused");
    assert_eq!(machine.sh("ask outside tcp 4 192.0.2.1 7400")?, "192.0.2.2");
    assert_eq!(machine.sh("ask outside tcp 4 192.0.2.1 7401")?, "refused", "nobody listens at 7001");
    assert_eq!(machine.sh("ask outside tcp 4 192.0.2.1 7000")?, "refused", "published no more");
    let table = machine.sh("wharf ps")?;
    assert!(table.contains("192.0.2.1:7300:7000 7400-7402:7000-7002"), "{table}");
    machine.sh("systemctl stop target-container")?;
    assert_eq!(machine.sh("ask outside tcp 4 192.0.2.1 7300")?, "refused", "it has ended");
    end(machine)
}

fn end(machine: &Machine) -> Told {
    forget(machine, &ALL)?;
    machine.sh(NO_OUTSIDE)?;
    Ok(())
}

fn taken(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN, &NGINX])?;
    let web = |port: &str| {
        format!("image = 'nginx:1.26'\nautostart = false\nrestart = 'no'\npublish = ['{port}']\n")
    };
    declare(machine, "one", &web("8080:8080"))?;
    declare(machine, "two", &web("127.0.0.1:8080:8080"))?;
    machine.sh("systemctl start one-container")?;
    assert_ne!(machine.run("systemctl start two-container")?.code, 0);
    let status = machine.run("systemctl status --no-pager two-container")?.stdout;
    assert!(
        status.contains("TCP port 8080 of 127.0.0.1 of the host is taken by the container one"),
        "{status}"
    );
    assert!(status.contains("225/NETWORK"), "{status}");
    until(machine, "curl -fsS http://127.0.0.1:8080/ >/dev/null")?;
    // The port is free again with the container.
    machine.sh("systemctl stop one-container && systemctl start two-container")?;
    // nginx is started, and listens a little later.
    until(machine, "curl -fsS http://127.0.0.1:8080/ >/dev/null")?;
    machine.sh("systemctl stop two-container")?;
    // A process of the host has it.
    machine.sh("systemd-run -q --collect --unit=squatter /usr/bin/perl -MIO::Socket::INET -e 'my $$s = IO::Socket::INET->new(LocalPort => 8080, Listen => 1) or die; sleep 1 while 1'")?;
    until(machine, "[ -n \"$(ss -Hlnt 'sport = :8080')\" ]")?;
    assert_ne!(machine.run("systemctl start one-container")?.code, 0);
    let status = machine.run("systemctl status --no-pager one-container")?.stdout;
    assert!(status.contains("is taken by perl (process "), "{status}");
    assert!(status.contains("squatter.service"), "{status}");
    assert!(status.contains("one.toml"), "the way out names the file: {status}");
    machine.sh("systemctl stop squatter && systemctl start one-container && systemctl stop one-container")?;
    Ok(forget(machine, &["one", "two"])?)
}

fn names(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&PROBE])?;
    declare(machine, "web@", &probe("hostname = 'web'"))?;
    declare(machine, "front", &probe(""))?;
    machine.sh("systemctl start front-container web-container@blue")?;
    let pid = property(machine, "front", "MainPID")?;
    let hosts = format!("nsenter -t {pid} -m cat /etc/hosts");
    assert!(!machine.sh(&hosts)?.contains("web"));
    let blue = address(machine, "web@blue", 4)?;
    let connect = format!("nsenter -t {pid} -a socat -T2 - TCP4:app:7000,connect-timeout=2 </dev/null");
    assert_ne!(machine.run(&connect)?.code, 0);
    // A link more in the file: name and permission come with the reload, to the process that runs.
    declare(machine, "front", &probe("links = ['web@blue:app']"))?;
    until(machine, &format!("{hosts} | grep -q '^{blue}\tweb-blue app web$'"))?;
    until(machine, &format!("{connect} >/dev/null 2>&1"))?;
    assert_eq!(property(machine, "front", "MainPID")?, pid);
    // Readers never see half a file: every look shows the end of it.
    let torn = machine.sh(&format!(
        "for i in $(seq 20); do printf \"image = 'probe:1'\\nlinks = ['web@blue:app$i']\\n\" >/etc/wharf/containers/front.toml; systemctl daemon-reload; done & \
         torn=0; while kill -0 $! 2>/dev/null; do {hosts} | grep -q ' app[0-9]* web$' || ((++torn)); done; wait; echo $torn"
    ))?;
    assert_eq!(torn, "0");
    declare(machine, "front", &probe(""))?;
    until(machine, &format!("! {hosts} | grep -q app"))?;
    until(machine, "! nft list set inet wharf links4 | grep -q elements")?;
    // The host's name servers change.
    machine.sh("cp -a /etc/resolv.conf /root/ 2>/dev/null || :; rm -f /etc/resolv.conf; printf 'nameserver 127.0.0.53\\nnameserver 192.0.2.53\\n' >/etc/resolv.conf")?;
    until(
        machine,
        &format!("[ \"$(nsenter -t {pid} -m cat /etc/resolv.conf)\" = 'nameserver 192.0.2.53' ]"),
    )?;
    // None is missed: not of many in a row, not in the middle of a reload, not while the last one is followed.
    let missed = machine.sh(&format!(
        "missed=0; for i in $(seq 40); do \
         case $((i % 4)) in 0) systemctl daemon-reload & ;; 1) nft 'add table inet other; delete table inet other' & ;; esac; \
         rm -f /etc/resolv.conf; for j in 1 2 3; do echo nameserver 192.0.2.$j >/etc/resolv.conf; done; \
         if ((i % 2)); then sleep 0.0$((RANDOM % 30)); echo nameserver 198.51.100.$i >/etc/resolv.conf; \
         else mv /etc/resolv.conf /run/linked.conf; ln -s /run/linked.conf /etc/resolv.conf; sleep 0.$((RANDOM % 3)); \
         echo nameserver 198.51.100.$i >/run/new.conf; mv /run/new.conf /etc/resolv.conf; fi; wait; \
         for wait in $(seq 100); do grep -qx \"nameserver 198.51.100.$i\" /proc/{pid}/root/etc/resolv.conf && continue 2; sleep 0.1; done; \
         ((++missed)); done; echo $missed"
    ))?;
    assert_eq!(missed, "0");
    machine.sh("rm /etc/resolv.conf; cp -a /root/resolv.conf /etc/ 2>/dev/null || :")?;
    machine.sh("systemctl stop web-container@blue; rm /etc/wharf/containers/web@.toml")?;
    Ok(forget(machine, &["front"])?)
}

fn flushed(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&NGINX])?;
    declare(machine, "web", "image = 'nginx:1.26'\nautostart = false\npublish = ['8080:8080']\n")?;
    machine.sh("systemctl start web-container")?;
    until(machine, "curl -fsS http://127.0.0.1:8080/ >/dev/null")?;
    machine.sh("nft list table inet wharf | sort >/root/whole")?;
    let mut took = Vec::new();
    for damage in [
        "nft flush ruleset",
        "systemctl restart nftables",
        "nft delete table inet wharf",
        "nft flush chain inet wharf published",
        "nft flush map inet wharf ports4",
        "nft add element inet wharf hosts4 '{ 192.0.2.9 }'",
    ] {
        let began = Instant::now();
        machine.sh(damage)?;
        until(machine, "[ \"$(nft list table inet wharf 2>&1 | sort)\" = \"$(</root/whole)\" ]")?;
        machine.sh("curl -fsS -m1 http://127.0.0.1:8080/ >/dev/null")?;
        took.push(format!("{damage}: {} ms", began.elapsed().as_millis()));
    }
    println!("    whole again, with all the asking: {}", took.join(", "));
    let gap = machine.sh(
        "nft flush ruleset; s=$(date +%s%N); until nft list table inet wharf >/dev/null 2>&1; do :; done; e=$(date +%s%N); echo $(((e - s) / 1000000))",
    )?;
    println!("    the table is back {gap} ms after a flush");
    // More news at once than the socket has room for doesn't end it.
    machine.sh("{ echo 'table inet bulk { set numbers { type ipv4_addr; }; }'; echo 'add element inet bulk numbers {'; \
        seq 60000 | awk '{ printf \"10.%d.%d.%d,\", $1 / 65536, $1 / 256 % 256, $1 % 256 }'; echo '}'; } >/root/bulk; nft -f /root/bulk; nft -f /root/bulk; sleep 1; systemctl is-active wharf-network.socket")?;
    machine.sh("nft flush ruleset")?;
    until(machine, "nft list table inet wharf >/dev/null 2>&1")?;
    // What the journal says of it, and that nothing turns in circles.
    machine.let_pass(Duration::from_secs(1));
    let runs = machine.sh("systemctl show -P InvocationID wharf-network.service")?;
    machine.let_pass(Duration::from_secs(2));
    assert_eq!(machine.sh("systemctl show -P InvocationID wharf-network.service")?, runs, "it rests");
    let log = machine.sh("journalctl --sync; journalctl -q -b -o cat -u wharf-network.service")?;
    assert!(log.contains("it is as it should be again"), "{log}");
    assert!(!log.contains("Starting"), "it is silent else: {log}");
    machine.sh("systemctl stop nftables")?;
    Ok(forget(machine, &["web"])?)
}

/// An upgrade or a downgrade finds what another version has started, and the plans that it has left.
fn versions(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&NGINX])?;
    for (name, port) in [("web", 8080), ("other", 8081)] {
        let text = format!(
            "image = 'nginx:1.26'\nautostart = false\npublish = ['{port}:8080']\nlimits.tasks = 50\n"
        );
        declare(machine, name, &text)?;
        machine.sh(&format!("systemctl start {name}-container"))?;
    }
    let asks = "curl -fsS -m5 http://127.0.0.1:8080/ >/dev/null";
    until(machine, asks)?;
    // In the order of their hashes elements are, and of nothing else.
    let table = "nft list table inet wharf | tr -d ' \\t' | tr ',{}' '\\n' | sort";
    machine.sh(&format!("{table} >/root/whole"))?;
    let same = format!("diff <({table}) /root/whole");
    let refresh = "systemctl daemon-reload; /usr/libexec/wharf/wharf-executor network";
    let edit =
        |pattern: &str| machine.sh(&format!("sed -i '{pattern}' /run/wharf/running/web.json; {refresh}"));

    // It has keys that this one doesn't know: it is as if they weren't there.
    edit(r#"s/^{/{"later":[1],/; s/"limits":{/"limits":{"later":2,/"#)?;
    machine.sh(&format!("grep -c later /run/wharf/running/web.json && {asks} && wharf exec web true"))?;
    machine.sh(&same)?;
    // Or says something that this one can't read: the network is as the rest of the record has it.
    edit(r#"s/"restart":"always"/"restart":"at full moon"/"#)?;
    machine.sh(&same)?;
    machine.sh("nft flush ruleset")?;
    until(machine, &format!("{same} >/dev/null"))?;
    // Nor that: what the table has may be its, and nothing is taken away. Others come and go.
    edit(r#"s/"attachment":{/"attachment":{"interface":1,"was":{/; s/$/}/"#)?;
    machine.sh(&same)?;
    machine.sh(&format!(
        "systemctl stop other-container && {asks} && systemctl start other-container && {asks}"
    ))?;
    machine.sh(&same)?;
    machine.sh("systemctl restart web-container")?;
    until(machine, asks)?;
    machine.sh(&same)?;

    // Between the files of an upgrade and its reload the plan is another version's, and older than the executor.
    let plan = "/run/systemd/generator/wharf/web.json";
    for edit in [r#"s/"format":/"format":9/"#, r#"s/"limits":{/"limits":{"later":2,/"#] {
        machine.sh(&format!(
            "sed -i '{edit}' {plan} && touch -d 2001-01-01 {plan} && systemctl restart web-container"
        ))?;
        machine.sh(&format!("! grep -E 'format\":9|later' {plan}"))?;
    }
    // A younger one says that its generator is the other version's.
    machine.sh(&format!("sed -i 's/\"limits\":{{/\"limits\":{{\"later\":2,/' {plan}"))?;
    let said = machine.run("/usr/libexec/wharf/wharf-executor start web")?;
    assert!(said.stderr.contains("it has keys that this version of Wharf doesn't know"), "{}", said.stderr);
    Ok(forget(machine, &["web", "other"])?)
}

/// What there is of the network, of mounts and of files: counted, and named, so that a difference shows. The
/// record of a start is longer the farther that start came, so its size doesn't count.
const INVENTORY: &str = "{ ip -o link | sed 's/^[0-9]*: //; s/@.*//'; ip -4 route show table all; ip -6 route show table all | sed 's/ expires.*//'; ip rule; ip neigh show nud permanent; \
    nft list ruleset; find /var/lib/wharf/leases /run/wharf -path '/run/wharf/restarts/*' -printf '%p\\n' -o -printf '%p %s\\n' | grep -v network.lock; findmnt -rno TARGET; find /sys/fs/cgroup/wharf.slice -mindepth 1 -type d; lsns -n -o TYPE | sort; } 2>/dev/null | sort";

fn cycles(stage: &mut Stage) -> Told {
    let times = stage.times(12, 300);
    let machine = with(stage, &[&DEBIAN])?;
    let file = "image = 'debian:13'\nautostart = false\nrestart = 'no'\nstop.timeout = '2s'\nlinks = ['peer']\npublish = ['7000-7009:7000-7009', '7000:7000/udp']\n";
    declare(machine, "peer", "image = 'debian:13'\nautostart = false\n")?;
    declare(machine, "cycle", file)?;
    machine.sh("systemctl start cycle-container && systemctl stop cycle-container")?;
    let before = machine.sh(INVENTORY)?;
    let script = format!(
        r#"
        killed=0 executor=0 whole=0
        for i in $(seq {times}); do
            case $((RANDOM % 3)) in
            0)  # In mid-start, wherever that is.
                systemctl start --no-block cycle-container
                perl -e 'select undef, undef, undef, rand 0.06'
                systemctl kill --kill-whom=all --signal=KILL cycle-container 2>/dev/null && ((++executor)) ;;
            1)  systemctl start cycle-container
                systemctl kill --kill-whom=main --signal=KILL cycle-container && ((++killed)) ;;
            2)  systemctl start cycle-container && ((++whole)) ;;
            esac
            systemctl stop cycle-container
            systemctl reset-failed cycle-container 2>/dev/null
        done
        echo "$executor starts killed, $killed workloads killed, $whole left alone"
        "#
    );
    let said = machine.run_for(&script, Duration::from_secs(60 + u64::from(times) * 2))?;
    println!("    {}", said.stdout.trim());
    let after = machine.sh(INVENTORY)?;
    let left: Vec<&str> = after.lines().filter(|line| !before.lines().any(|was| was == *line)).collect();
    assert!(before == after, "left over: {left:?}; before:\n{before}\nafter:\n{after}");
    Ok(forget(machine, &["cycle", "peer"])?)
}
