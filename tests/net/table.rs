//! The table in the kernel.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::support::*;
use wharf::net::{self, Change, Element, NftError};
use wharf::spec::Protocol;

fn many() -> BTreeSet<Element> {
    let mut attachment = attachment(0);
    attachment.links = vec![addresses(1), addresses(2)];
    attachment.host = true;
    attachment.ports = published();
    attachment.ports.push(net::Port {
        at: Some([192, 0, 2, 1].into()),
        protocol: Protocol::Tcp,
        port: 443,
        to: 8443,
    });
    attachment.ports.push(net::Port {
        at: Some("2001:db8::1".parse().unwrap()),
        protocol: Protocol::Tcp,
        port: 443,
        to: 8443,
    });
    net::elements(&attachment)
}

/// What is in the table is told from what isn't, or leads elsewhere.
pub fn held() {
    let host = Namespace::new();
    let elements = many();
    let held = || host.inside(|| net::held(&elements)).unwrap();
    assert!(held().is_empty());
    host.inside(|| net::load(&net::script(&elements)).unwrap());
    assert_eq!(held(), elements);
    let nft = |command: &str| {
        host.output("/usr/sbin/nft", &command.split(' ').collect::<Vec<_>>());
    };
    nft("flush map inet wharf ports_at4");
    nft("delete element inet wharf hosts6 { fd00:88::2 }");
    let missing: Vec<String> = elements.difference(&held()).map(|it| it.set().to_owned()).collect();
    assert_eq!(missing, ["hosts6", "ports_at4"]);
    nft("add element inet wharf ports_at4 { 192.0.2.1 . tcp . 443 : 10.88.0.77 . 8443 }");
    assert_eq!(elements.difference(&held()).count(), 2);
}

/// Any difference is seen, and loading repairs it.
pub fn intact() {
    let host = Namespace::new();
    let elements = many();
    let nft = |command: &str| {
        host.output("/usr/sbin/nft", &command.split(' ').collect::<Vec<_>>());
    };
    let whole = || host.inside(|| net::intact(&elements)).unwrap();
    let load = || {
        host.inside(|| net::load(&net::script(&elements)).unwrap());
        assert!(whole());
    };
    assert!(!whole());
    load();
    assert!(!host.inside(|| net::intact(&BTreeSet::new())).unwrap());
    let foreign = [
        "flush ruleset",
        "delete table inet wharf",
        "flush chain inet wharf to_host",
        "add rule inet wharf raw accept",
        "add chain inet wharf foreign",
        "add element inet wharf containers4 { 10.88.0.77 }",
        "add element inet wharf ports6 { tcp . 1 : fd00::1 . 1 }",
        "delete element inet wharf hosts6 { fd00:88::2 }",
        "flush set inet wharf links4",
    ];
    for command in foreign {
        nft(command);
        assert!(!whole(), "{command}");
        load();
    }
    // One rule, by its handle.
    let listed = host.output("/usr/sbin/nft", &["-a", "list", "chain", "inet", "wharf", "forward_in"]);
    let handle = listed.lines().find(|line| line.contains("dnat")).unwrap().rsplit(' ').next().unwrap();
    nft(&format!("delete rule inet wharf forward_in handle {handle}"));
    assert!(!whole());
    load();
    // Somebody else's table of the same name in another family, and others beside it, don't matter.
    nft("add table ip wharf");
    nft("add chain ip wharf raw");
    nft("add table inet filter");
    nft("add chain inet filter input { type filter hook input priority 0 ; }");
    assert!(whole());
    host.inside(|| net::load("table inet wharf { flags dormant; }\n")).unwrap();
    assert!(!whole());
    load();
    host.inside(|| {
        let started = Instant::now();
        assert!(net::intact(&elements).unwrap());
        eprintln!("intact: {:?}", started.elapsed());
    });
}

pub fn changes() {
    let host = Namespace::new();
    let elements = many();
    let add: Vec<Change> = elements.iter().copied().map(Change::Add).collect();
    let remove: Vec<Change> = elements.iter().copied().map(Change::Remove).collect();
    let change = |changes: &[Change]| host.inside(|| net::change(changes));
    let holds = |elements: &BTreeSet<Element>| host.inside(|| net::intact(elements)).unwrap();

    assert!(matches!(change(&add), Err(NftError::NoTable)));
    assert!(matches!(change(&remove), Err(NftError::NoTable)));
    change(&[]).unwrap();
    // A table of that name without our sets is as good as none.
    host.output("/usr/sbin/nft", &["add", "table", "inet", "wharf"]);
    assert!(matches!(change(&add), Err(NftError::NoTable)));

    host.inside(|| net::load(&net::script(&BTreeSet::new()))).unwrap();
    for _ in 0..2 {
        change(&add).unwrap();
        assert!(holds(&elements));
    }
    // The text says the same as the bytes.
    let listed = host.output("/usr/sbin/nft", &["list", "table", "inet", "wharf"]);
    host.inside(|| net::load(&net::script(&elements))).unwrap();
    assert_eq!(host.output("/usr/sbin/nft", &["list", "table", "inet", "wharf"]), listed);

    for _ in 0..2 {
        change(&remove).unwrap();
        assert!(holds(&BTreeSet::new()));
    }

    // A port goes from one container to another by one transaction, and isn't taken by force.
    let port = |to: u8| Element::Port {
        at: None,
        protocol: Protocol::Tcp,
        port: 80,
        to: [10, 88, 0, to].into(),
        to_port: 80,
    };
    change(&[Change::Add(port(2))]).unwrap();
    let other = Element::Container([10, 88, 0, 3].into());
    match change(&[Change::Add(other), Change::Add(port(3))]) {
        Err(NftError::Taken(element)) => assert_eq!(element, port(3)),
        other => panic!("{other:?}"),
    }
    assert!(holds(&[port(2)].into()), "all or nothing");
    assert!(matches!(change(&[Change::Remove(port(3))]), Err(NftError::Taken(_))));
    change(&[Change::Remove(port(2)), Change::Add(port(3))]).unwrap();
    assert!(holds(&[port(3)].into()));
    change(&[Change::Remove(port(3))]).unwrap();

    // As many as a wide range of ports needs.
    let range: BTreeSet<Element> = (1..=5000)
        .map(|port| Element::Port {
            at: None,
            protocol: Protocol::Udp,
            port,
            to: [10, 88, 0, 2].into(),
            to_port: port,
        })
        .collect();
    change(&range.iter().copied().map(Change::Add).collect::<Vec<_>>()).unwrap();
    assert!(holds(&range));
    change(&range.iter().copied().map(Change::Remove).collect::<Vec<_>>()).unwrap();
    assert!(holds(&BTreeSet::new()));

    let error = host.inside(|| net::load("table inet wharf { nonsense }")).unwrap_err().to_string();
    assert!(error.starts_with("/usr/sbin/nft refuses the table: ") && error.contains("nonsense"), "{error}");
}
