//! `wharf port`: published ports, as they were asked for and as they are held.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;

use clap::Args;
use serde::Serialize;

use super::changed::{self, Now};
use super::declared::Declared;
use super::format::Form;
use super::output::{Exit, Failure, complain, print};
use crate::generate;
use crate::host::Paths;
use crate::net::{self, Attachment, Element, Port};
use crate::running::{self, Running};
use crate::spec::{ContainerName, Ports, Publish};

const AFTER_HELP: &str = "\
Declared is what `publish` says in files as they are now, reloaded or not. What
a running container publishes is what they said when it started; whether that
is held is asked of Wharf's nftables table. Ports of [socket] are systemd's own:
systemctl list-sockets.

Examples:
  wharf port
  wharf port nginx
  wharf port nginx --format '{host_port}'
  wharf port --json | jq -r '.[] | select(.state == \"lost\") | .name'

JSON: an array of objects, one for each published port or range, with the keys
  name             text
  publish          ADDRESS:HOST:CONTAINER/PROTOCOL, the address where there is one;
                   tcp+udp in a file makes two
  host_address     null for every address
  host_port, container_port
                   texts: 80, or 8000-8010
  protocol         tcp or udp
  addresses        of the running container, where that leads to
  declared         whether its files say it now
  state            held; lost, where something has taken it out of the table, which
                   `systemctl start wharf-network` repairs; due, where it will be published when
                   the container is started anew; no-ipv6, where it is for that and the host has
                   none; stopped; null where only root may know

Exit status: 0 shown; 1 a port is lost, it failed, or nothing knows a container; 2 for wrong usage.";

/// Show published ports of containers, and where they lead
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct PortArgs {
    /// Only these; all where none is given
    names: Vec<ContainerName>,
    #[command(flatten)]
    form: Form,
}

/// What is in force of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Held,
    Lost,
    Due,
    NoIpv6,
    Stopped,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Lost => "lost",
            Self::Due => "due",
            Self::NoIpv6 => "no IPv6",
            Self::Stopped => "stopped",
        }
    }
}

/// One published port, or range. The keys are documented in `--help` and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: ContainerName,
    publish: String,
    host_address: Option<IpAddr>,
    host_port: String,
    container_port: String,
    protocol: &'static str,
    addresses: Vec<IpAddr>,
    declared: bool,
    state: Option<State>,
}

/// Those of [`Row`].
const KEYS: &[&str] = &[
    "name",
    "publish",
    "host_address",
    "host_port",
    "container_port",
    "protocol",
    "addresses",
    "declared",
    "state",
];

/// Runs the command.
pub fn run(args: &PortArgs, paths: &Paths) -> Result<Exit, Failure> {
    let PortArgs { names, form } = args;
    let shape = form.shape(KEYS)?;
    let declared = Declared::list(paths)?;
    let everything = generate::check_everything(paths, declared.listing());
    // Nothing where only root may know, or where it is another root's.
    let running: Option<BTreeMap<ContainerName, Running>> = match running::all(paths) {
        _ if !paths.are_this_hosts() => None,
        Ok(all) => Some(all.into_iter().map(|running| (running.container.name.clone(), running)).collect()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => return Err(error.into()),
    };
    let mut wanted: BTreeSet<ContainerName> = names.iter().cloned().collect();
    for name in names {
        if running.as_ref().is_none_or(|running| !running.contains_key(name)) {
            declared.unit_of(name)?;
        }
    }
    if wanted.is_empty() {
        wanted.extend(everything.containers.iter().map(|(files, _)| files.name.clone()));
        wanted.extend(running.iter().flat_map(BTreeMap::keys).cloned());
        wanted.retain(|name| !name.is_template());
    }
    let held = match &running {
        Some(running) => held(wanted.iter().filter_map(|name| running.get(name)))?,
        None => BTreeSet::new(),
    };
    let mut rows = Vec::new();
    for name in &wanted {
        let now = match changed::now(&declared, &everything, name) {
            Now::Said(_, container) => container.publish,
            Now::Broken(file) => {
                complain(&format!("note: {} has mistakes: wharf check {name}\n", file.display()));
                Vec::new()
            }
            Now::Gone => Vec::new(),
        };
        rows.extend(of(name, &now, running.as_ref().map(|running| running.get(name)), &held));
    }
    let exit = if rows.iter().any(|row| row.state == Some(State::Lost)) { Exit::Failed } else { Exit::Done };
    let text = shape.text(&rows, || table(&rows))?;
    print(&text).map_err(|failure| failure.unread(exit))?;
    if exit == Exit::Failed {
        complain(
            "note: something has taken ports out of Wharf's table; `systemctl start wharf-network` repairs it\n",
        );
    }
    Ok(exit)
}

/// What the table holds of the ports of some containers.
fn held<'a>(running: impl Iterator<Item = &'a Running>) -> Result<BTreeSet<Element>, net::NftError> {
    let attachments = running.filter_map(|running| running.attachment.as_ref());
    let wanted: BTreeSet<Element> = attachments
        .flat_map(net::elements)
        .filter(|element| matches!(element, Element::Port { .. }))
        .collect();
    if wanted.is_empty() { Ok(wanted) } else { net::held(&wanted) }
}

/// The rows of one container. `running` is nothing where that isn't known, and then nothing where it doesn't run.
fn of(
    name: &ContainerName,
    declared: &[Publish],
    running: Option<Option<&Running>>,
    held: &BTreeSet<Element>,
) -> Vec<Row> {
    let started = running.flatten().map(|running| running.container.publish.as_slice()).unwrap_or_default();
    let attachment = running.flatten().and_then(|running| running.attachment.as_ref());
    let others = declared.iter().filter(|publish| !started.contains(publish));
    let row = |publish: &Publish| {
        let is_started = started.contains(publish);
        let state = match (running, attachment) {
            (None, _) => None,
            (Some(None), _) => Some(State::Stopped),
            (Some(Some(_)), Some(attachment)) if is_started => {
                let all = led(attachment, publish);
                Some(match all.is_empty() {
                    // Every container has an address of the other family.
                    true => State::NoIpv6,
                    false if all.is_subset(held) => State::Held,
                    false => State::Lost,
                })
            }
            (Some(Some(_)), _) => Some(State::Due),
        };
        let addresses = match (attachment.filter(|_| is_started), publish.at) {
            (None, _) => Vec::new(),
            (Some(attachment), at) => {
                let of_family = |own: &IpAddr| at.is_none_or(|at| at.is_ipv4() == own.is_ipv4());
                attachment.addresses.iter().filter(of_family).collect()
            }
        };
        Row {
            name: name.clone(),
            publish: publish.to_string(),
            host_address: publish.at,
            host_port: Ports(publish.host_ports()).to_string(),
            container_port: Ports(publish.container_ports()).to_string(),
            protocol: publish.protocol.name(),
            addresses,
            declared: declared.contains(publish),
            state,
        }
    };
    started.iter().chain(others).map(row).collect()
}

/// What the table must hold for one published port or range.
fn led(attachment: &Attachment, publish: &Publish) -> BTreeSet<Element> {
    let is_of = |port: &Port| {
        port.at == publish.at
            && port.protocol == publish.protocol
            && publish.host_ports().contains(&port.port)
    };
    let ports = attachment.ports.iter().filter(|port| is_of(port)).copied().collect();
    let alone = Attachment { ports, ..attachment.clone() };
    net::elements(&alone).into_iter().filter(|element| matches!(element, Element::Port { .. })).collect()
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "Nothing is published.\n".to_owned();
    }
    let mut lines = vec![["NAME", "HOST", "CONTAINER", "STATE"].map(str::to_owned)];
    for row in rows {
        let Row {
            name,
            publish: _,
            host_address,
            host_port,
            container_port,
            protocol,
            addresses,
            declared,
            state,
        } = row;
        let at = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let host = host_address.as_ref().map_or_else(|| "*".to_owned(), at);
        let inside: Vec<String> =
            addresses.iter().map(|address| format!("{}:{container_port}", at(address))).collect();
        let inside = if inside.is_empty() { format!(":{container_port}") } else { inside.join(" ") };
        let mut words = state.map_or_else(|| "-".to_owned(), |state| state.words().to_owned());
        if !declared {
            words.push_str(", not in the files");
        }
        lines.push([name.to_string(), format!("{host}:{host_port}/{protocol}"), inside, words]);
    }
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [name, host, inside, state] in &lines {
        let [a, b, c] = widths;
        let _ = writeln!(text, "{name:a$}  {host:b$}  {inside:c$}  {state}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Addresses;
    use crate::report::Source;
    use crate::spec::Document;

    fn publish(text: &str) -> Publish {
        Publish::read(text).expect("a port")[0]
    }

    fn running(ports: &[&str]) -> Running {
        let source = Source::new("x.toml", "image = 'x'\n");
        let (document, findings) = Document::parse(&source);
        let checked = crate::check::check(&"x".parse().expect("a name"), &document, findings);
        let mut container = checked.container.expect("a container");
        container.publish = ports.iter().map(|text| publish(text)).collect();
        let each = |publish: &Publish| {
            let Publish { at, protocol, host, container, count } = *publish;
            (0..count).map(move |step| Port { at, protocol, port: host + step, to: container + step })
        };
        let addresses =
            |last: u8| Addresses { v4: [10, 88, 0, last].into(), v6: format!("fd00::{last}").parse().ok() };
        let attachment = Attachment {
            interface: "wharf-0001".to_owned(),
            gateway: addresses(1),
            addresses: addresses(2),
            links: Vec::new(),
            host: false,
            ports: container.publish.iter().flat_map(each).collect(),
        };
        Running {
            container,
            source: "x.toml".into(),
            image: None,
            files: BTreeMap::default(),
            held: None,
            ids: None,
            attachment: Some(attachment),
        }
    }

    fn states(declared: &[&str], running: Option<Option<&Running>>, held: &BTreeSet<Element>) -> Vec<String> {
        let declared: Vec<Publish> = declared.iter().map(|text| publish(text)).collect();
        let rows = of(&"x".parse().expect("a name"), &declared, running, held);
        rows.iter()
            .map(|row| {
                let state = row.state.map_or("-", State::words);
                format!("{} {state} {} {}", row.publish, row.declared, row.addresses.len())
            })
            .collect()
    }

    #[test]
    fn each_state() {
        let runs = running(&["80:8080", "127.0.0.1:90:90", "7000-7002:7000-7002/udp"]);
        let all = net::elements(runs.attachment.as_ref().expect("connected"));
        let declared = ["80:8080", "127.0.0.1:90:90", "443:443"];
        assert_eq!(
            states(&declared, Some(Some(&runs)), &all),
            [
                "80:8080/tcp held true 2",
                "127.0.0.1:90:90/tcp held true 1",
                "7000-7002:7000-7002/udp held false 2",
                "443:443/tcp due true 0",
            ]
        );
        // One family of one port of the range is gone.
        let lost: BTreeSet<Element> = all
            .iter()
            .filter(|it| !matches!(it, Element::Port { port: 7001, to: IpAddr::V6(_), .. }))
            .copied()
            .collect();
        let shown = states(&declared, Some(Some(&runs)), &lost);
        assert_eq!(shown[2], "7000-7002:7000-7002/udp lost false 2");
        assert_eq!(shown[0], "80:8080/tcp held true 2");
        // On a host without IPv6 nothing is held for it, and nothing lost.
        let mut without = running(&["[::]:443:443"]);
        without.attachment.as_mut().expect("connected").addresses.v6 = None;
        assert_eq!(states(&[], Some(Some(&without)), &BTreeSet::new()), ["[::]:443:443/tcp no IPv6 false 0"]);
        assert_eq!(states(&["80:80"], Some(None), &all), ["80:80/tcp stopped true 0"]);
        assert_eq!(states(&["80:80"], None, &all), ["80:80/tcp - true 0"]);
    }

    #[test]
    fn keys_and_a_table() {
        let runs = running(&["[::]:80:8080", "7000-7002:7000-7002/udp"]);
        let all = net::elements(runs.attachment.as_ref().expect("connected"));
        let rows = of(&"x".parse().expect("a name"), &[publish("[::]:80:8080")], Some(Some(&runs)), &all);
        let mut keys = KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(keys, crate::cli::format::keys_of(&rows[0]));
        assert_eq!(
            table(&rows),
            "\
NAME  HOST             CONTAINER                                STATE
x     [::]:80/tcp      [fd00::2]:8080                           held
x     *:7000-7002/udp  10.88.0.2:7000-7002 [fd00::2]:7000-7002  held, not in the files
"
        );
    }
}
