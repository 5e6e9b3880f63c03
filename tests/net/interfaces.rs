//! The pair of interfaces, and the kernel's settings.

use std::fs;
use std::os::fd::AsFd;

use crate::support::*;
use wharf::net;

/// A container without IPv6 has none at all.
pub fn one_family() {
    let mut world = World::new();
    world.container(|attachment| attachment.addresses.v6 = None);
    let container = &world.containers[0].namespace;
    assert_eq!(container.output("ip", &["-6", "-o", "address", "show", "dev", "eth0"]), "");
    assert_eq!(world.host.output("ip", &["-6", "-o", "address", "show", "dev", "wharf-0000"]), "");
    assert!(container.ping("192.0.2.2"));
}

/// Connecting again replaces what is left of the last run, whatever holds its namespace.
pub fn replaced() {
    let mut world = World::new();
    world.container(|_| {});
    let container = &world.containers[0];
    let next = Namespace::new();
    world.host.inside(|| net::connect(&container.attachment, "nginx", next.fd.as_fd())).unwrap();
    next.inside(|| net::configure(&container.attachment)).unwrap();
    world.host.inside(|| net::settle("wharf-0000")).unwrap();
    assert!(next.ping("192.0.2.2") && next.ping("2001:db8::2"));
    assert!(!container.namespace.output("ip", &["-o", "link"]).contains("eth0"));

    assert_eq!(world.host.inside(net::interfaces).unwrap(), ["wharf-0000"]);
    let shown = world.host.output("ip", &["-d", "link", "show", "wharf-0000"]);
    assert!(shown.contains("alias nginx") && shown.contains("addrgenmode none"), "{shown}");
    assert!(shown.contains("06:57:0a:58:00:02"), "{shown}");
    let inside = next.output("ip", &["-o", "address", "show", "dev", "eth0"]);
    let address = |line: &str| line.split_whitespace().nth(3).unwrap().to_owned();
    let listed: Vec<String> = inside.lines().map(address).collect();
    assert!(
        ["10.88.0.2/32", "fd00:88::2/128", "fe80::a58:2/64"].iter().all(|it| listed.contains(&(*it).into()))
    );
    assert_eq!(listed.len(), 3, "{inside}");
    assert!(!inside.contains("tentative"), "{inside}");

    assert!(world.host.inside(|| net::disconnect("wharf-0000")).unwrap());
    assert!(!world.host.inside(|| net::disconnect("wharf-0000")).unwrap());
    assert!(world.host.inside(net::interfaces).unwrap().is_empty());
    assert!(world.host.inside(|| net::disconnect("eth0")).is_err());
    assert!(world.host.output("ip", &["-o", "link"]).contains("eth0"));
    assert_eq!(world.host.output("ip", &["route", "show", "10.88.0.2"]), "");
}

/// What a container sends and receives is counted from its own point of view.
pub fn counted() {
    let mut world = World::new();
    world.container(|_| {});
    let counted = || {
        let all = world.host.inside(net::counters).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all["wharf-0000"]
    };
    let before = counted();
    let container = &world.containers[0].namespace;
    // 1400 bytes, 8 of UDP, 20 of IP, 14 of Ethernet.
    container.inside(|| {
        let socket = std::net::UdpSocket::bind("10.88.0.2:0").unwrap();
        for _ in 0..5 {
            // A refusal of the one before is told here.
            let _ = socket.send_to(&[0; 1400], "10.88.0.1:9");
        }
    });
    let after = counted();
    let (sent, received) = (after.sent - before.sent, after.received - before.received);
    assert!((5 * 1442..5 * 1442 + 1000).contains(&sent), "{before:?} {after:?}");
    assert!(received <= sent, "{before:?} {after:?}");
    assert!((5..15).contains(&(after.sent_packets - before.sent_packets)), "{before:?} {after:?}");
}

/// A failure is told by its step, and takes away what was made.
pub fn failed() {
    let mut world = World::new();
    world.container(|_| {});
    world.host.ip("link add foreign type veth peer name other\nlink set foreign up\nroute add 10.88.0.3/32 dev foreign\n");
    let next = Namespace::new();
    let error = world.host.inside(|| net::connect(&attachment(1), "test", next.fd.as_fd())).unwrap_err();
    assert_eq!(error.to_string(), "can't add a route to 10.88.0.3: File exists");
    assert_eq!(world.host.inside(net::interfaces).unwrap(), ["wharf-0000"]);
    let error = next.inside(|| net::configure(&attachment(1))).unwrap_err();
    assert_eq!(error.to_string(), "can't find the interface eth0: No such device");
}

/// The host goes on to listen to routers where it did, and only there.
pub fn forwarding() {
    let host = Namespace::new();
    host.ip("link add listens type veth peer name deaf\n");
    let path = |interface: &str, name: &str| format!("/proc/sys/net/ipv6/conf/{interface}/{name}");
    let read = |path: String| fs::read_to_string(path).unwrap().trim().to_owned();
    host.inside(|| {
        assert!(net::has_ipv6());
        fs::write(path("deaf", "accept_ra"), "0").unwrap();
        assert_eq!(read(path("listens", "accept_ra")), "1");
        net::enable_forwarding().unwrap();
        assert_eq!(read(path("listens", "accept_ra")), "2");
        assert_eq!(read(path("default", "accept_ra")), "2");
        assert_eq!(read(path("deaf", "accept_ra")), "0");
        assert_eq!(read(path("all", "forwarding")), "1");
        assert_eq!(read("/proc/sys/net/ipv4/ip_forward".into()), "1");
        net::enable_forwarding().unwrap();
        fs::write(path("all", "disable_ipv6"), "1").unwrap();
        assert!(!net::has_ipv6());
        net::enable_forwarding().unwrap();
    });
    // A container can't be the host's router.
    let container = Namespace::new();
    host.inside(|| {
        fs::write(path("all", "disable_ipv6"), "0").unwrap();
        net::connect(&attachment(0), "test", container.fd.as_fd()).unwrap();
        assert_eq!(read(path("wharf-0000", "accept_ra")), "0");
    });
}

/// The first packet comes through, in both families, and so does its answer.
pub fn at_once() {
    let world = World::new();
    for _ in 0..30 {
        let container = Namespace::new();
        let attachment = attachment(0);
        world.host.inside(|| net::connect(&attachment, "test", container.fd.as_fd()).unwrap());
        container.inside(|| net::configure(&attachment).unwrap());
        world.host.inside(|| net::settle("wharf-0000").unwrap());
        for address in ["192.0.2.2", "2001:db8::2"] {
            assert!(container.ping(address), "{address}");
        }
    }
    let error = world.host.inside(|| net::settle("wharf-0009")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "can't wait until the interface wharf-0009 carries packets: No such device"
    );
}
