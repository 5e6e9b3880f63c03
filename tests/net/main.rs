//! Containers' networks for real: namespaces, interfaces, and the table in the kernel. Needs root, `ip` and
//! `nft`; without them each test is skipped, by name.

#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "a test")]

mod interfaces;
mod packets;
mod support;
mod table;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tool = |name: &str| Command::new(name).arg("-V").output().is_ok();
    let missing = if !rustix::process::geteuid().is_root() {
        Some("they need root")
    } else if !tool("ip") || !tool("/usr/sbin/nft") {
        Some("they need ip and nft (packages iproute2 and nftables)")
    } else {
        None
    };
    if let Some(why) = missing {
        eprintln!("the tests of containers' networks are skipped: {why}");
    }
    let tests: [(&str, fn()); 23] = [
        ("links", packets::links),
        ("links, UDP and ICMP", packets::links_without_connections),
        ("the host is closed", packets::host),
        ("the host may be opened", packets::host_opened),
        ("the way out", packets::outgoing),
        ("published to outside", packets::published_outside),
        ("published to the host", packets::published_host),
        ("published to containers", packets::published_containers),
        ("published on one address", packets::published_at),
        ("published to who goes on sending", packets::published_again),
        ("the host's resolver stays its own", packets::loopback_is_left_alone),
        ("straight to a container", packets::direct),
        ("somebody else's source", packets::spoofed),
        ("neighbour discovery", packets::neighbours),
        ("one family", interfaces::one_family),
        ("usable at once", interfaces::at_once),
        ("an interface is replaced", interfaces::replaced),
        ("what fails leaves nothing", interfaces::failed),
        ("forwarding keeps router advertisements", interfaces::forwarding),
        ("is the table whole", table::intact),
        ("elements change", table::changes),
        ("which elements are held", table::held),
        ("what has passed", interfaces::counted),
    ];
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let run = move || {
                test();
                Ok(())
            };
            Trial::test(name, run).with_ignored_flag(missing.is_some())
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
