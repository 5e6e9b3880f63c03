//! What gets through, and what doesn't.

use crate::support::*;
use wharf::net::{Attachment, Port};
use wharf::spec::Protocol;

fn linked(to: usize) -> impl FnOnce(&mut Attachment) {
    move |attachment| attachment.links.push(addresses(to))
}

/// A container may connect to what it links to, and nothing else; nobody may connect back.
pub fn links() {
    let mut world = World::new();
    world.container(linked(1));
    world.container(|_| {});
    world.container(|_| {});
    let [first, second, third] = [0, 1, 2].map(|place| &world.containers[place].namespace);
    seen(first.tcp("10.88.0.3:80"), "10.88.0.2");
    seen(first.tcp("[fd00:88::3]:80"), "fd00:88::2");
    for (from, to) in [(first, 4), (second, 2), (second, 4), (third, 2), (third, 3)] {
        refused(|| from.tcp(&format!("10.88.0.{to}:80")));
        refused(|| from.tcp(&format!("[fd00:88::{to}]:80")));
    }
    // A port where nobody listens is the peer's to refuse.
    assert_eq!(first.tcp("10.88.0.3:81").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

pub fn links_without_connections() {
    let mut world = World::new();
    world.container(linked(1));
    world.container(|_| {});
    let [first, second] = [0, 1].map(|place| &world.containers[place].namespace);
    seen(first.udp("10.88.0.3:80"), "10.88.0.2");
    seen(first.udp("[fd00:88::3]:80"), "fd00:88::2");
    refused(|| second.udp("10.88.0.2:80"));
    refused(|| second.udp("[fd00:88::2]:80"));
    assert!(first.ping("10.88.0.3") && first.ping("fd00:88::3"));
    assert!(!second.ping("10.88.0.2") && !second.ping("fd00:88::2"));
}

/// The host is reached by none of its addresses, but for its resolver.
pub fn host() {
    let mut world = World::new();
    world.container(|_| {});
    world.host.serve("[::]:22");
    world.host.serve("[::]:53");
    let container = &world.containers[0].namespace;
    for address in ["10.88.0.1", "192.0.2.1", "[fd00:88::1]", "[2001:db8::1]"] {
        refused(|| container.tcp(&format!("{address}:22")));
        refused(|| container.udp(&format!("{address}:22")));
        assert!(!container.ping(address.trim_matches(['[', ']'])), "{address}");
    }
    assert!(container.tcp("192.0.2.1:53").is_ok() && container.udp("10.88.0.1:53").is_ok());
    assert!(container.tcp("[2001:db8::1]:53").is_ok() && container.udp("[fd00:88::1]:53").is_ok());
    // The host may connect to its containers.
    seen(world.host.tcp("10.88.0.2:80"), "10.88.0.1");
    assert!(world.host.tcp("[fd00:88::2]:80").is_ok());
    assert!(world.host.ping("10.88.0.2") && world.host.ping("fd00:88::2"));
}

pub fn host_opened() {
    let mut world = World::new();
    world.container(|attachment| attachment.host = true);
    world.host.serve("[::]:22");
    let container = &world.containers[0].namespace;
    seen(container.tcp("[fd00:88::1]:22"), "fd00:88::2");
    seen(container.udp("10.88.0.1:22"), "::ffff:10.88.0.2");
    assert!(container.ping("10.88.0.1") && container.ping("fd00:88::1"));
    // What listens on the host's loopback only isn't meant by that.
    world.host.serve("127.0.0.1:23");
    container
        .ip("route del local 127.0.0.0/8 dev lo table local\nroute del local 127.0.0.1 dev lo table local\n\
                  route add 127.0.0.1 via 10.88.0.1\n");
    container.inside(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1")).unwrap();
    silent(container.udp_from("10.88.0.2:0", "127.0.0.1:23"));
}

/// Outside sees the host.
pub fn outgoing() {
    let mut world = World::new();
    world.container(|_| {});
    world.outside.serve("0.0.0.0:7");
    world.outside.serve("[2001:db8::2]:7");
    let container = &world.containers[0].namespace;
    seen(container.tcp("192.0.2.2:7"), "192.0.2.1");
    seen(container.udp("192.0.2.2:7"), "192.0.2.1");
    seen(container.tcp("[2001:db8::2]:7"), "2001:db8::1");
    seen(container.udp("[2001:db8::2]:7"), "2001:db8::1");
    assert!(container.ping("192.0.2.2") && container.ping("2001:db8::2"));
}

fn publish(attachment: &mut Attachment) {
    attachment.ports = published();
}

/// A client keeps its address.
pub fn published_outside() {
    let mut world = World::new();
    world.container(publish);
    for (host, client) in
        [("192.0.2.1", "192.0.2.2"), ("192.0.2.11", "192.0.2.2"), ("[2001:db8::1]", "2001:db8::2")]
    {
        seen(world.outside.tcp(&format!("{host}:8080")), client);
        seen(world.outside.udp(&format!("{host}:8080")), client);
    }
    // Not the other ports.
    assert_eq!(world.outside.tcp("192.0.2.1:80").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

/// From 127.0.0.1 and the host's other addresses.
pub fn published_host() {
    let mut world = World::new();
    world.container(publish);
    let host = &world.host;
    for (to, client) in
        [("127.0.0.1", "10.88.0.1"), ("192.0.2.1", "192.0.2.1"), ("[2001:db8::1]", "2001:db8::1")]
    {
        seen(host.tcp(&format!("{to}:8080")), client);
        seen(host.udp(&format!("{to}:8080")), client);
    }
    // ::1 is refused at once, so that clients of "localhost" go on to 127.0.0.1.
    assert_eq!(host.tcp("[::1]:8080").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

/// From the publisher itself, and from another container, which has no link to it.
pub fn published_containers() {
    let mut world = World::new();
    world.container(publish);
    world.container(|_| {});
    let [publisher, other] = [0, 1].map(|place| &world.containers[place].namespace);
    for from in [publisher, other] {
        for (to, client) in
            [("192.0.2.1", "10.88.0.1"), ("10.88.0.1", "10.88.0.1"), ("[2001:db8::1]", "fd00:88::1")]
        {
            seen(from.tcp(&format!("{to}:8080")), client);
            seen(from.udp(&format!("{to}:8080")), client);
        }
    }
    refused(|| other.tcp("10.88.0.2:80"));
}

pub fn published_at() {
    let mut world = World::new();
    let port = |at: &str, port| Port { at: Some(at.parse().unwrap()), protocol: Protocol::Tcp, port, to: 80 };
    world.container(|attachment| {
        attachment.ports = vec![
            port("192.0.2.11", 8080),
            port("2001:db8::1", 8080),
            port("127.0.0.9", 8081),
            port("0.0.0.0", 8082),
            port("::", 8083),
        ];
    });
    // The same port of every address is another container's; the one address goes before.
    world.container(publish);
    let outside = &world.outside;
    assert_eq!(world.host.tcp("127.0.0.9:8081").unwrap(), std::net::IpAddr::from([10, 88, 0, 1]));
    for (to, works) in [
        ("192.0.2.11:8080", true),
        ("192.0.2.1:8080", true),
        ("[2001:db8::1]:8080", true),
        ("192.0.2.1:8081", false),
        ("192.0.2.1:8082", true),
        ("[2001:db8::1]:8082", false),
        ("192.0.2.1:8083", false),
        ("[2001:db8::1]:8083", true),
    ] {
        assert_eq!(outside.tcp(to).is_ok(), works, "{to}");
    }
    // Which container it is: without the first only the other's is left.
    world.host.ip("link set wharf-0000 down\n");
    assert!(outside.tcp("192.0.2.11:8080").is_err());
    outside.tcp("192.0.2.1:8080").unwrap();
}

/// A client that goes on sending from one port, before the container is there and after, is answered.
pub fn published_again() {
    let mut world = World::new();
    let clients = [("192.0.2.2:9999", "192.0.2.1:8080"), ("[2001:db8::2]:9999", "[2001:db8::1]:8080")];
    let send = |world: &World| clients.map(|(from, to)| world.outside.udp_from(from, to).is_ok());
    world.host.serve("[::]:8080");
    assert_eq!(send(&world), [true, true]);
    world.container(publish);
    let elements = wharf::net::elements(&world.containers[0].attachment);
    let who = |world: &World| clients.map(|(from, to)| world.outside.udp_from(from, to).unwrap().to_string());
    // The host's own server says how it sees an IPv4 client.
    assert_eq!(who(&world), ["::ffff:192.0.2.2", "2001:db8::2"]);
    world.host.inside(|| wharf::net::forget(&elements)).unwrap();
    assert_eq!(who(&world), ["192.0.2.2", "2001:db8::2"]);
    // It was the container that answered, and not the host.
    world.host.ip("link set wharf-0000 down\n");
    assert_eq!(send(&world), [false, false]);
}

/// A container that publishes port 53 doesn't take what the host asks its resolver on 127.0.0.53.
pub fn loopback_is_left_alone() {
    let mut world = World::new();
    world.host.serve("127.0.0.53:8080");
    world.container(publish);
    seen(world.host.tcp("127.0.0.53:8080"), "127.0.0.1");
    seen(world.host.udp("127.0.0.53:8080"), "127.0.0.1");
}

/// A neighbour with a route to the containers gets no answer at all.
pub fn direct() {
    let mut world = World::new();
    world.container(publish);
    silent(world.outside.tcp("10.88.0.2:80"));
    silent(world.outside.tcp("[fd00:88::2]:80"));
    silent(world.outside.udp("10.88.0.2:80"));
    silent(world.outside.udp("[fd00:88::2]:80"));
    assert!(!world.outside.ping("10.88.0.2") && !world.outside.ping("fd00:88::2"));
    // It isn't the way that is missing.
    world.host.output("/usr/sbin/nft", &["flush", "chain", "inet", "wharf", "raw"]);
    assert!(world.host.output("/usr/sbin/nft", &["flush", "chain", "inet", "wharf", "forward"]).is_empty());
    seen(world.outside.udp("10.88.0.2:80"), "192.0.2.2");
}

/// A container has no other address than its own.
pub fn spoofed() {
    let mut world = World::new();
    world.container(linked(1));
    world.container(|_| {});
    world.container(linked(1));
    world.host.serve("0.0.0.0:53");
    let container = &world.containers[0].namespace;
    // One that nobody has, a linked container's, and one outside.
    container.ip("address add 10.88.0.99/32 dev eth0\naddress add 10.88.0.4/32 dev eth0\n\
         address add 192.0.2.2/32 dev eth0\naddress add fd00:88::4/128 dev eth0 nodad\n");
    for source in ["10.88.0.99:0", "10.88.0.4:0", "192.0.2.2:0"] {
        silent(container.udp_from(source, "10.88.0.3:80"));
        silent(container.udp_from(source, "10.88.0.1:53"));
    }
    silent(container.udp_from("[fd00:88::4]:0", "[fd00:88::3]:80"));
    seen(container.udp_from("10.88.0.2:0", "10.88.0.3:80"), "10.88.0.2");
    seen(container.udp_from("[fd00:88::2]:0", "[fd00:88::3]:80"), "fd00:88::2");
}

/// Without the permanent entries the two sides still find each other, by ARP and neighbour discovery.
pub fn neighbours() {
    let mut world = World::new();
    world.container(linked(1));
    world.container(|_| {});
    let [first, second] = [0, 1].map(|place| &world.containers[place].namespace);
    let listed = world.host.output("ip", &["neighbour", "show", "dev", "wharf-0000", "nud", "permanent"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    for namespace in [first, second] {
        namespace.ip("neighbour flush dev eth0 nud permanent\n");
    }
    for interface in ["wharf-0000", "wharf-0001"] {
        world.host.ip(&format!("neighbour flush dev {interface} nud permanent\n"));
    }
    seen(first.tcp("10.88.0.3:80"), "10.88.0.2");
    seen(first.tcp("[fd00:88::3]:80"), "fd00:88::2");
    // The host's link-local address is as closed as the others.
    world.host.serve("[::]:22");
    let index = first.output("ip", &["-o", "link", "show", "eth0"]);
    let index = index.split(':').next().unwrap();
    assert_eq!(
        first.tcp(&format!("[fe80::1%{index}]:22")).unwrap_err().kind(),
        std::io::ErrorKind::PermissionDenied
    );
}
