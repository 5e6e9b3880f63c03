//! Sockets that systemd listens at, and the first client's start.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::across::{All, Found};
use super::{Network, Rules, plain, timer};
use crate::report::{Finding, Place};
use crate::spec::{ContainerName, Data, Listen, Protocol, Publish};

/// `[socket]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// `listen`, in the order of the file; no two overlap.
    pub listen: Vec<Listen>,
    /// `names`: one for each of `listen`, or none at all.
    pub names: Vec<String>,
    /// `mode` of paths.
    pub mode: Option<u32>,
    /// `user` of paths, one of the host's.
    pub user: Option<String>,
    /// `group` of paths, one of the host's.
    pub group: Option<String>,
    /// `on-demand`: boot starts the sockets only.
    pub on_demand: bool,
    /// `proxy`.
    pub proxy: Option<Proxy>,
}

/// What carries connections to a program that can't take sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// `to`: the container's port.
    pub to: u16,
    /// `idle-stop`: how long without a connection until the container is stopped.
    pub idle_stop: Option<Duration>,
}

/// As long a name as systemd takes (`FDNAME_MAX` of its src/basic/fd-util.h).
const NAME_MAX: usize = 255;

/// `[socket]`; nothing where what it listens at isn't readable.
pub fn socket(rules: &mut Rules<'_>, network: Option<Network>) -> Option<Socket> {
    rules.table("socket")?;
    let listen = listen(rules);
    let names = names(rules, listen.len());
    let mode = mode(rules);
    let (user, group) = (owner(rules, "user"), owner(rules, "group"));
    let on_demand = rules.flag("socket.on-demand").unwrap_or(true);
    let proxy = proxy(rules, &listen, network, on_demand);
    only_paths(rules, &listen);
    mixed_families(rules, &listen);
    (!listen.is_empty()).then_some(Socket { listen, names, mode, user, group, on_demand, proxy })
}

fn listen(rules: &mut Rules<'_>) -> Vec<Listen> {
    let mut all: Vec<Listen> = Vec::new();
    let texts = rules.texts("socket.listen").unwrap_or_default();
    if texts.is_empty()
        && let Some(entry) = rules.get("socket")
    {
        let missing =
            rules.get("socket.listen").is_none_or(|entry| matches!(entry.value.data, Data::List(_)));
        if missing {
            rules.error(
                &entry.key,
                "[socket] doesn't say where",
                "write `listen`: listen = [\"0.0.0.0:80\", \"[::]:80\"]",
            );
        }
    }
    for (text, place) in texts {
        match text.parse::<Listen>() {
            Ok(listen) => {
                if let Some(before) = all.iter().find(|before| before.overlaps(&listen)) {
                    let message = format!("\"{listen}\" listens where \"{before}\" does already");
                    rules.error(place, message, "keep one of them");
                }
                all.push(listen);
            }
            Err(error) => rules.error(place, format!("`listen`: {error}"), error.hint()),
        }
    }
    all
}

/// The places of `listen`, by what is there.
pub(super) fn ports(rules: &Rules<'_>) -> Vec<(Listen, Place)> {
    let texts = rules.texts("socket.listen").unwrap_or_default().into_iter();
    texts.filter_map(|(text, place)| Some((text.parse().ok()?, place.clone()))).collect()
}

fn names(rules: &mut Rules<'_>, listening: usize) -> Vec<String> {
    let Some(texts) = rules.texts("socket.names") else { return Vec::new() };
    let mut names = Vec::new();
    for (text, place) in &texts {
        // `fdname_is_valid` of systemd's src/basic/fd-util.c; `%` would be a specifier, and means an instance here.
        let good = !text.is_empty()
            && text.len() <= NAME_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !good {
            let message = format!("`names`: \"{text}\" can't be a descriptor's name");
            rules.error(
                place,
                message,
                "write letters, digits and signs, and no `:`, which comes between two names",
            );
        }
        names.push((*text).to_owned());
    }
    let told = rules.texts("socket.listen").map_or(0, |listen| listen.len());
    if names.len() != told
        && told == listening
        && let Some(entry) = rules.get("socket.names")
    {
        rules.error(
            &entry.key,
            format!("`names` has {} for {told} of `listen`", names.len()),
            "write one name for each, in the same order; the same name may be there twice",
        );
    }
    names
}

fn mode(rules: &mut Rules<'_>) -> Option<u32> {
    let (text, place) = rules.text("socket.mode")?;
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Some(mode),
        _ => {
            rules.error(
                place,
                format!("`mode` can't be \"{text}\""),
                "write permissions in octal, like \"0660\"",
            );
            None
        }
    }
}

/// A user or group of the host, by name or number.
fn owner(rules: &mut Rules<'_>, key: &str) -> Option<String> {
    let entry = rules.get(&format!("socket.{key}"))?;
    let text = plain(&entry.value)?;
    // As systemd takes it in a unit (systemd.exec(5), User=), and an instance's.
    let good = !text.is_empty()
        && text.len() <= 256
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-%".contains(c));
    if !good {
        rules.error(
            &entry.value.place,
            format!("`{key}` can't be \"{text}\""),
            "write a name or number of the host's, which owns the socket outside",
        );
        return None;
    }
    Some(text)
}

/// Only a socket in the file system has an owner.
fn only_paths(rules: &mut Rules<'_>, listen: &[Listen]) {
    if listen.is_empty() || listen.iter().any(|listen| matches!(listen, Listen::Path(_))) {
        return;
    }
    for key in ["mode", "user", "group"] {
        if let Some(entry) = rules.get(&format!("socket.{key}")) {
            let message = format!("`{key}` has no effect where no path is listened at");
            rules.error(
                &entry.key,
                message,
                "leave it out; who may connect to a port is the firewall's to say",
            );
        }
    }
}

/// One setting of the unit says for all of its sockets whether IPv6 takes IPv4 in (`BindIPv6Only=`).
fn mixed_families(rules: &mut Rules<'_>, listen: &[Listen]) {
    let bare = listen.iter().find(|listen| matches!(listen, Listen::Port(..)));
    let v6 = listen.iter().find(|listen| matches!(listen, Listen::Address(address, _) if address.is_ipv6()));
    let (Some(bare), Some(v6)) = (bare, v6) else { return };
    let place = ports(rules).into_iter().find(|(listen, _)| listen == bare).map(|(_, place)| place);
    if let Some(place) = place {
        let (port, end) = (bare.address(), if bare.protocol() == Protocol::Udp { "/udp" } else { "" });
        rules.error(
            &place,
            format!("\"{bare}\" stands for both families, and can't be beside \"{v6}\", which is IPv6 alone"),
            format!("write \"0.0.0.0:{port}{end}\", \"[::]:{port}{end}\""),
        );
    }
}

fn proxy(
    rules: &mut Rules<'_>,
    listen: &[Listen],
    network: Option<Network>,
    on_demand: bool,
) -> Option<Proxy> {
    let wanted = rules.flag("socket.proxy").unwrap_or(false);
    let to = to(rules);
    let idle_stop = timer::length(rules, "socket.idle-stop", "leave it out, and it stays");
    if !wanted {
        without_proxy(rules);
        return None;
    }
    let entry = rules.get("socket.proxy")?;
    if network == Some(Network::None) {
        rules.error(
            &entry.key,
            "`proxy` can't reach a container with network = \"none\"",
            "leave `network` out; or leave `proxy` out, for a program that takes sockets needs no network",
        );
    }
    if let Some(names) = rules.get("socket.names") {
        rules.error(
            &names.key,
            "`names` has no effect with `proxy`",
            "leave it out: the program gets no sockets",
        );
    }
    for (listen, place) in ports(rules) {
        if listen.protocol() == Protocol::Udp {
            let hint = "take it out, and publish the port: publish = [\"53:53/udp\"]";
            rules.error(&place, "systemd-socket-proxyd carries no UDP", hint);
        }
    }
    if let Some(idle) = rules.get("socket.idle-stop").filter(|_| !on_demand) {
        rules.error(
            &idle.key,
            "`idle-stop` can't be with on-demand = false, which keeps it running",
            "leave one of them out",
        );
    }
    proxy_to_itself(rules, network, to.or_else(|| listen.iter().find_map(Listen::port)));
    let told = rules.get("socket.to").is_some();
    let mut listening = listen.iter().map(Listen::port);
    let first = listening.next().flatten();
    let same = first.filter(|first| listening.all(|port| port == Some(*first)));
    if !told && same.is_none() && !listen.is_empty() {
        rules.error(
            &entry.key,
            "`proxy` doesn't know to which port of the container",
            "write `to`, the port that the program listens at: to = 6379",
        );
    }
    Some(Proxy { to: to.or(same)?, idle_stop })
}

/// On the host's network the container listens at the host's own addresses.
fn proxy_to_itself(rules: &mut Rules<'_>, network: Option<Network>, to: Option<u16>) {
    let Some(to) = to.filter(|_| network == Some(Network::Host)) else { return };
    let target = Listen::Address(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), to), Protocol::Tcp);
    for (listen, place) in ports(rules) {
        if listen.overlaps(&target) {
            rules.error(
                &place,
                format!("systemd listens at \"{listen}\", and the program can't listen at port {to} beside it with network = \"host\""),
                "have the program listen at another port, and write that as `to`; or leave `network` out",
            );
        }
    }
}

fn to(rules: &mut Rules<'_>) -> Option<u16> {
    let value = &rules.get("socket.to")?.value;
    let Data::Integer(number) = &value.data else { return None };
    let port = number.to_string().parse::<u16>().ok().filter(|port| *port > 0);
    if port.is_none() {
        rules.error(&value.place, format!("`to` can't be {number}"), "a port is a number from 1 to 65535");
    }
    port
}

/// What means something to the proxy only.
fn without_proxy(rules: &mut Rules<'_>) {
    if let Some(entry) = rules.get("socket.to") {
        rules.error(
            &entry.key,
            "`to` has no effect without `proxy`",
            "write proxy = true, or leave it out: a program that takes the sockets needs no port",
        );
    }
    if let Some(entry) = rules.get("socket.idle-stop") {
        rules.error(
            &entry.key,
            "`idle-stop` can't be without `proxy`: nobody but the program knows when its sockets are idle",
            "have the program end by itself when it has nothing to do, and the next client starts it again; or write proxy = true",
        );
    }
}

/// A port that is listened at can't be published too: packets from outside would go past the socket.
pub(super) fn published(rules: &mut Rules<'_>, publish: &[(Publish, Place)]) {
    for (listen, place) in ports(rules) {
        let Some(port) = listen.as_published() else { continue };
        if let Some((publish, _)) = publish.iter().find(|(publish, _)| publish.overlaps(&port)) {
            rules.error(
                &place,
                format!("\"{listen}\" can't be listened at while \"{publish}\" is published"),
                "keep one of them: clients come either to systemd's socket or straight to the container",
            );
        }
    }
}

/// Two containers that boot starts can't have the same port or path.
pub(super) fn across(all: &All<'_>) -> Found {
    let mut found = Found::new();
    let mut sockets: Vec<(&Listen, &ContainerName)> = Vec::new();
    let mut published: BTreeMap<&ContainerName, Vec<Publish>> = BTreeMap::new();
    // With errors it may have too much to be compared, and doesn't run as it stands.
    let booted = || all.iter().filter(|(_, checked)| checked.container.is_some() && checked.autostart);
    for (name, checked) in booted() {
        let own = checked.connections.publish.iter().map(|(publish, _)| *publish).collect();
        published.insert(name, own);
    }
    for (name, checked) in booted() {
        for (listen, place) in &checked.connections.listen {
            let mut clash = |by: &ContainerName, how: String| {
                let finding = Finding::warning(place.clone(), format!("\"{listen}\" can't be listened at while {by} {how}"))
                    .hint("boot starts both, and only one can have it: take another port or address, or write autostart = false in one of them");
                found.push(((*name).clone(), finding));
            };
            if let Some((other, by)) = sockets.iter().find(|(other, by)| by != name && other.overlaps(listen))
            {
                clash(by, format!("listens at \"{other}\""));
                continue;
            }
            let Some(port) = listen.as_published() else { continue };
            let others = published.iter().filter(|(by, _)| *by != name);
            let clashing = others.flat_map(|(by, own)| own.iter().map(move |publish| (*by, publish)));
            if let Some((by, publish)) = clashing.into_iter().find(|(_, publish)| publish.overlaps(&port)) {
                clash(by, format!("publishes \"{publish}\""));
            }
        }
        sockets.extend(checked.connections.listen.iter().map(|(listen, _)| (listen, *name)));
    }
    found
}
