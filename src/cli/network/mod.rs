//! `wharf network`: which networks there are, and who is on them, with which address, under which names.

mod look;

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::look::{Firewall, Member, NAME, Network};
use super::format::Form;
use super::image::heading;
use super::output::{Exit, Failure, print};
use crate::host::Paths;

/// List networks, and show who is on them
#[derive(Args)]
#[command(after_help = "Exit status: 0 shown; 1 not; 2 for wrong usage.")]
pub struct NetworkArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List networks
    #[command(after_help = "Examples:
  wharf network list
  wharf network list --format '{ipv4}'

There is one, `default`. Its subnets are null, or `-`, until the first container on it starts; IPV6 also where the \
host has none. `host` and `none`, which container files may name, are no networks of their own.

JSON: an array of objects: name, ipv4 and ipv6 (subnets), containers (how many
are declared on it), running (how many have an address on it now), leases (how
many addresses are given away), firewall (in-force, changed, unneeded, or null
where it can't be asked).

Exit status: 0 listed; 1 not; 2 for wrong usage.")]
    List {
        #[command(flatten)]
        form: Form,
    },
    /// Show a network: subnets, containers with their addresses and names, links, published ports
    #[command(after_help = "Examples:
  wharf network inspect default
  wharf network inspect default --json | jq -r '.containers[] | select(.running) | .addresses[0]'

A container that doesn't run has the address that it will have; one without a lease gets it at its first start. LINKS \
are what it may connect to, with the names by which it finds that. The firewall's table is `unneeded` while nothing \
runs, and `changed` where somebody else has just changed it: it is put right at once.

JSON: one object: name, ipv4, ipv6 and gateway (a list), firewall (as of
`list`), forwarding (ipv4, ipv6), containers, an array of objects: name,
declared, running, addresses, interface and interface_up (of the host's side,
while it runs), hostname, links (an array of objects: to, names), host (whether
it may connect to that), published (texts as in `publish`).

Exit status: 0 shown; 1 there is none; 2 for wrong usage.")]
    Inspect {
        /// The network
        name: String,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

/// Why a network can't be shown.
#[derive(Debug, thiserror::Error)]
enum NetworkError {
    #[error("there is no network `{0}`; there is `default`")]
    Unknown(String),
    #[error("only root can look at the network of containers; try sudo")]
    NotRoot,
    #[error("can't read {}, which says what runs", .path.display())]
    Running { path: PathBuf, source: io::Error },
    #[error("`host` is the host's own network; ip address and ss show it")]
    Host,
    #[error(
        "`none` is no network: each container with it has a loopback interface of its own, and nothing else"
    )]
    None,
}

/// One network, as listed. The keys are documented in `--help` and stay.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    ipv4: Option<String>,
    ipv6: Option<String>,
    containers: usize,
    running: usize,
    leases: usize,
    firewall: Option<Firewall>,
}

/// Those of [`Row`].
const KEYS: &[&str] = &["name", "ipv4", "ipv6", "containers", "running", "leases", "firewall"];

/// Runs the command.
pub fn run(args: NetworkArgs, paths: &Paths) -> Result<Exit, Failure> {
    if paths.are_this_hosts() && !rustix::process::geteuid().is_root() {
        return Err(NetworkError::NotRoot.into());
    }
    match args.command {
        Command::List { form } => list(paths, &form),
        Command::Inspect { name, json } => inspect(paths, &name, json),
    }
}

fn list(paths: &Paths, form: &Form) -> Result<Exit, Failure> {
    let shape = form.shape(KEYS)?;
    let Network { name, ipv4, ipv6, containers, firewall, leases, .. } = look::look(paths)?;
    let row = Row {
        name,
        ipv4,
        ipv6,
        containers: containers.iter().filter(|member| member.declared).count(),
        running: containers.iter().filter(|member| member.running).count(),
        leases,
        firewall,
    };
    print(&shape.text(std::slice::from_ref(&row), || table(&row))?)?;
    Ok(Exit::Done)
}

fn table(row: &Row) -> String {
    let Row { name, ipv4, ipv6, containers, running, leases, firewall } = row;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let (ipv4, ipv6) = (or_none(ipv4), or_none(ipv6));
    let (four, six) = (ipv4.len().max(4), ipv6.len().max(4));
    let head =
        format!("{:8} {:four$}  {:six$}  CONTAINERS  RUNNING  LEASES  FIREWALL", "NAME", "IPV4", "IPV6");
    let firewall = firewall.map_or("-", Firewall::text);
    format!(
        "{}\n{name:8} {ipv4:four$}  {ipv6:six$}  {containers:10}  {running:7}  {leases:6}  {firewall}\n",
        heading(&head)
    )
}

fn inspect(paths: &Paths, name: &str, json: bool) -> Result<Exit, Failure> {
    match name {
        NAME => {}
        "host" => return Err(NetworkError::Host.into()),
        "none" => return Err(NetworkError::None.into()),
        other => return Err(NetworkError::Unknown(other.to_owned()).into()),
    }
    let network = look::look(paths)?;
    print(&if json { serde_json::to_string_pretty(&network)? + "\n" } else { lines(&network) })?;
    Ok(Exit::Done)
}

fn lines(network: &Network) -> String {
    let Network { name, ipv4, ipv6, gateway, firewall, forwarding, containers, leases: _ } = network;
    let mut text = format!("{}\n", heading(name));
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "  {key:<11} {value}");
    };
    match (ipv4, ipv6) {
        (None, None) => line("Subnets", "none yet; the first container on it chooses them"),
        _ => line("Subnets", &[ipv4, ipv6].into_iter().flatten().cloned().collect::<Vec<_>>().join(", ")),
    }
    if !gateway.is_empty() {
        line("The host is", &gateway.join(", "));
    }
    if let Some(firewall) = firewall {
        line("Firewall", &format!("table inet wharf, {}", firewall.text()));
    }
    if let Some(forwarding) = forwarding {
        let word = |on: bool| if on { "on" } else { "off" };
        let v6 = forwarding.ipv6.map_or("none on this host", word);
        line("Forwarding", &format!("IPv4 {}, IPv6 {v6}", word(forwarding.ipv4)));
    }
    for member in containers {
        let Member {
            name,
            declared,
            running,
            addresses,
            interface,
            interface_up,
            hostname,
            links,
            host,
            published,
        } = member;
        let state = match (declared, running) {
            (_, true) => "running",
            (true, false) => "not running",
            (false, false) => "no file has it here any more, and its lease is kept",
        };
        let _ = writeln!(text, "\n{}\n  {:<11} {state}", heading(name.as_str()), "State");
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(text, "  {key:<11} {value}");
        };
        match addresses.as_slice() {
            [] => line("Address", "none yet; its first start gets it one"),
            addresses => line("Address", &addresses.join(", ")),
        }
        if let Some(interface) = interface {
            let gone = if *interface_up == Some(false) { ", which is gone" } else { "" };
            line("Interface", &format!("{interface} on the host{gone}"));
        }
        if let Some(hostname) = hostname {
            line("Host name", hostname);
        }
        for link in links {
            line("Link", &format!("{} as {}", link.to, link.names.join(", ")));
        }
        if *host {
            line("Link", "the host");
        }
        for published in published {
            line("Published", published);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let row = Row {
            name: NAME,
            ipv4: Some("10.131.0.0/16".to_owned()),
            ipv6: None,
            containers: 3,
            running: 2,
            leases: 4,
            firewall: Some(Firewall::InForce),
        };
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(keys, crate::cli::format::keys_of(&row));
        assert_eq!(
            table(&row),
            "NAME     IPV4           IPV6  CONTAINERS  RUNNING  LEASES  FIREWALL\n\
             default  10.131.0.0/16  -              3        2       4  in force\n"
        );
    }
}
