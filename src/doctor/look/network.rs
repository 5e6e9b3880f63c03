//! The firewall, forwarding, addresses.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{as_root, output, text};
use crate::doctor::facts::{Firewall, Forwarding, Look, Passed, Pools, Rules};
use crate::exec;
use crate::host::Paths;
use crate::image::chain;
use crate::lease::{self, LeaseError};
use crate::net::nft::{self, ForwardChain, NFT};
use crate::net::route::PREFIX;

/// A few tables are small; this is for one that somebody fills with the addresses of half the world.
const TABLE_MAX: u64 = 1 << 20;

pub(super) fn firewall(paths: &Paths, networked: usize, publishing: Vec<String>) -> Look<Firewall> {
    let has_nft = Path::new(NFT).exists();
    let chains = as_root(|| match nft::forward_chains() {
        Ok(chains) => {
            let passed = |chain: ForwardChain| {
                let rules = if has_nft { rules(&chain) } else { Rules::default() };
                Passed { chain, rules }
            };
            Look::Seen(chains.into_iter().map(passed).collect())
        }
        Err(error) => Look::Failed(error.to_string()),
    });
    // Without a record nothing runs that could need the table.
    let (connected, intact) = match paths.running().exists().then(|| as_root(|| table(paths))) {
        Some(Look::Seen((0, _))) | None => (0, Look::Unasked),
        Some(Look::Seen((connected, intact))) => (connected, Look::Seen(intact)),
        Some(Look::OnlyRoot) => (0, Look::OnlyRoot),
        Some(Look::Failed(why)) => (0, Look::Failed(why)),
        Some(Look::Late(limit)) => (0, Look::Late(limit)),
        Some(Look::Unasked) => (0, Look::Unasked),
    };
    let is_on = |path: &str, line: &str| {
        text(paths.host(path)).is_some_and(|text| text.lines().any(|l| l.trim() == line))
    };
    let managers = [
        ("firewalld", exec::is_firewalld_running(paths)),
        ("ufw", is_on("/etc/ufw/ufw.conf", "ENABLED=yes")),
        ("docker", paths.host("/run/docker.sock").exists() || paths.host("/run/docker.pid").exists()),
    ];
    let legacy = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]
        .map(|path| text(path).unwrap_or_default());
    let mut legacy: Vec<String> = legacy.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    legacy.sort();
    legacy.dedup();
    Look::Seen(Firewall {
        nft: has_nft,
        chains,
        intact,
        connected,
        publishing,
        networked,
        managers: managers.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()).collect(),
        strict_firewalld: exec::is_firewalld_strict(paths),
        legacy,
    })
}

fn table(paths: &Paths) -> Look<(usize, bool)> {
    match exec::look_at_network(paths) {
        Ok(found) => Look::Seen(found),
        Err(failure) => Look::Failed(failure.to_string()),
    }
}

/// What the rules of a chain say.
fn rules(chain: &ForwardChain) -> Rules {
    let limit = Duration::from_secs(2);
    output(NFT, &["list", "table", chain.family, &chain.table], limit, TABLE_MAX)
        .map_or_else(|_| Rules::default(), |text| rules_in(&text, &chain.name))
}

/// The same, of a table as nft lists it: a rule to a line, and braces around a chain's. What is said about containers'
/// interfaces is their administrator's.
fn rules_in(table: &str, chain: &str) -> Rules {
    let begin = format!("chain {chain} {{");
    let lines = table.lines().map(str::trim).skip_while(|line| *line != begin).skip(1);
    let mut rules = Rules { name_ours: table.contains(PREFIX), ..Rules::default() };
    for line in lines.take_while(|line| *line != "}") {
        // A counter takes nothing away from what a rule is about: `counter packets 5 bytes 300 drop`.
        let words: Vec<&str> = line.split_whitespace().collect();
        let verdict = match words.as_slice() {
            ["counter", "packets", _, "bytes", _, rest @ ..] => rest.first(),
            words => words.first(),
        };
        rules.close |= matches!(verdict, Some(&("drop" | "reject")));
        rules.pass_published |=
            !rules.close && line.starts_with("ct status dnat") && line.ends_with("accept");
    }
    rules
}

/// What the first start of a container with a network sets: path below /proc/sys, and name.
const FORWARDING: [(&str, &str); 2] = [
    ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
    ("net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
];

pub(super) fn forwarding(paths: &Paths) -> Look<Forwarding> {
    let now =
        FORWARDING.iter().filter(|(path, _)| !path.contains("ipv6") || crate::net::has_ipv6()).filter_map(
            |(path, name)| Some(((*name).to_owned(), text(Path::new("/proc/sys").join(path))? == "1")),
        );
    let records = fs::read_dir(paths.running()).into_iter().flatten().count();
    let connected =
        if records > 0 { exec::look_at_network(paths).map_or(0, |(connected, _)| connected) } else { 0 };
    Look::Seen(Forwarding { now: now.collect(), files: sysctl_files(paths), connected })
}

/// Files of sysctl.d(5) that forbid forwarding: the first by name counts, as with all of systemd's.
fn sysctl_files(paths: &Paths) -> Vec<(String, String)> {
    let mut files = BTreeMap::new();
    for folder in ["/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d"] {
        for entry in fs::read_dir(paths.host(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".conf") {
                files.insert(name, entry.path());
            }
        }
    }
    // The last to speak of a setting has it, and sysctl(8) reads /etc/sysctl.conf after all others.
    let order = files.into_values().chain([paths.host("/etc/sysctl.conf")]);
    let mut last = BTreeMap::new();
    for file in order {
        for line in text(&file).unwrap_or_default().lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            let key = key.trim().trim_start_matches('-').replace('/', ".");
            // A pattern has those of all interfaces among it (sysctl.d(5)).
            let key = key.replace(".*.", ".all.");
            // The same setting by its other name (Linux's ip-sysctl).
            let key = if key == "net.ipv4.conf.all.forwarding" { FORWARDING[0].1.to_owned() } else { key };
            if FORWARDING.iter().any(|(_, name)| *name == key) {
                last.insert(key, (paths.shown(&file).display().to_string(), value.trim() == "0"));
            }
        }
    }
    last.into_iter().filter(|(_, (_, off))| *off).map(|(key, (file, _))| (file, key)).collect()
}

pub(super) fn pools(paths: &Paths) -> Look<Pools> {
    match lease::chosen(&paths.state()) {
        Ok(None) => Look::Seen(Pools::default()),
        Ok(Some(pools)) => {
            // Another root's host has other routes.
            let routes = if paths.are_this_hosts() { text("/proc/net/route") } else { None };
            Look::Seen(Pools {
                chosen: Some(pools.to_string()),
                damaged: false,
                clashes: pools.clashes(&routes.unwrap_or_default()),
            })
        }
        Err(LeaseError::Io { source, .. }) if super::is_denied(&source) => Look::OnlyRoot,
        Err(error @ LeaseError::Io { .. }) => Look::Failed(chain(&error)),
        Err(LeaseError::Damaged { .. } | LeaseError::Exhausted(_)) => {
            Look::Seen(Pools { damaged: true, ..Pools::default() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft lists the tables of firewalld, and of iptables with a last rule that drops.
    #[test]
    fn rules_of_others() {
        let firewalld = "table inet firewalld {\n\tchain filter_FORWARD {\n\t\ttype filter hook forward priority filter + 10; policy accept;\n\t\tct state { established, related } accept\n\t\tct status dnat accept\n\t\tjump filter_FORWARD_POLICIES\n\t\treject with icmpx admin-prohibited\n\t}\n\n\tchain filter_OUTPUT {\n\t\tdrop\n\t}\n}\n";
        let found = Rules { close: true, pass_published: true, name_ours: false };
        assert_eq!(rules_in(firewalld, "filter_FORWARD"), found);
        let strict = firewalld.replace("\t\tct status dnat accept\n", "");
        assert_eq!(rules_in(&strict, "filter_FORWARD"), Rules { pass_published: false, ..found });
        let counted = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy accept;\n\t\tiifname \"wharf-*\" counter packets 1 bytes 2 accept\n\t\tcounter packets 5 bytes 300 drop\n\t}\n}\n";
        assert_eq!(
            rules_in(counted, "FORWARD"),
            Rules { name_ours: true, close: true, pass_published: false }
        );
        let open = counted.replace("counter packets 5 bytes 300 drop", "ip saddr 192.0.2.1 drop");
        assert!(!rules_in(&open, "FORWARD").close);
        assert_eq!(rules_in("", "FORWARD"), Rules::default());
    }

    #[test]
    fn files_that_forbid_forwarding() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        let put = |path: &str, text: &str| {
            let path = paths.host(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        put("/usr/lib/sysctl.d/10-a.conf", "net.ipv4.ip_forward = 0\nnet.ipv6.conf.all.forwarding=0\n");
        put("/etc/sysctl.d/20-b.conf", "# net.ipv4.ip_forward=1\n-net/ipv6/conf/all/forwarding = 1\n");
        let forbids = ("/usr/lib/sysctl.d/10-a.conf".to_owned(), "net.ipv4.ip_forward".to_owned());
        assert_eq!(sysctl_files(&paths), [forbids]);
        // A file of the same name hides the vendor's.
        put("/etc/sysctl.d/10-a.conf", "");
        assert_eq!(sysctl_files(&paths), []);
        put("/etc/sysctl.d/30-c.conf", "net/ipv6/conf/*/forwarding=0");
        let forbids = ("/etc/sysctl.d/30-c.conf".to_owned(), "net.ipv6.conf.all.forwarding".to_owned());
        assert_eq!(sysctl_files(&paths), [forbids]);
        put("/etc/sysctl.d/30-c.conf", "");
        put("/etc/sysctl.conf", "net.ipv4.conf.all.forwarding=0");
        assert_eq!(sysctl_files(&paths), [("/etc/sysctl.conf".to_owned(), "net.ipv4.ip_forward".to_owned())]);
    }
}
