//! The table in the kernel: changed and looked at by netlink, loaded by the program nft.
//!
//! Messages and attributes are those of linux/netfilter/nf_tables.h. A program that starts for every container
//! would cost several milliseconds each time, so it is only for the whole table, which is loaded once at boot,
//! and again if somebody flushed it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::net::netlink;

use super::attribute::{self, Attributes};
use super::socket::{ACKNOWLEDGE, CREATE, REQUEST, Request, Socket};
use super::table::{self, Chain, Element};
use crate::sys::explain;

/// The program that reads the table's text. By its full name: who starts Wharf has no say in it.
pub const NFT: &str = "/usr/sbin/nft";

/// linux/netfilter/nfnetlink.h: the first and last message of a transaction, and whom it is for.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u8 = 10;
/// linux/netfilter.h, `NFPROTO_INET`: both families.
const INET: u8 = 1;

/// The messages, in the subsystem.
const GET_TABLE: u16 = message(1);
const GET_CHAIN: u16 = message(4);
const GET_RULE: u16 = message(7);
const NEW_ELEMENT: u16 = message(12);
const GET_ELEMENT: u16 = message(13);
const DELETE_ELEMENT: u16 = message(14);

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

const fn message(number: u16) -> u16 {
    (SUBSYSTEM as u16) << 8 | number
}

/// Why the table isn't as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no table, or one without Wharf's sets: it is to be loaded.
    #[error("the nftables table inet {} is not there", table::NAME)]
    NoTable,
    /// A published port already leads to another container.
    #[error("{} in the map {} of the nftables table inet {} is another container's", .0.text(), .0.set(), table::NAME)]
    Taken(Element),
    /// The kernel refused something else.
    #[error("can't {action}: {}", explain(*errno))]
    Kernel {
        /// What was tried, in words that follow "can't".
        action: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// There is no nft.
    #[error("there is no {NFT}; install the package nftables")]
    NoProgram,
    /// nft can't be run.
    #[error("can't run {NFT}")]
    Run(#[source] io::Error),
    /// nft doesn't take the table.
    #[error("{NFT} refuses the table: {0}")]
    Refused(String),
}

/// What is to be different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The element is there afterwards.
    Add(Element),
    /// The element isn't there afterwards.
    Remove(Element),
}

/// Changes elements, all or none of them, in the order given: a key that goes to somebody else is removed
/// first. What is already as it should be is no error.
///
/// # Errors
/// [`NftError::NoTable`], [`NftError::Taken`], and others.
pub fn change(changes: &[Change]) -> Result<(), NftError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut requests = vec![edge(BATCH_BEGIN)];
    let mut elements = vec![None];
    for change in changes {
        let (Change::Add(element) | Change::Remove(element)) = change;
        requests.push(request(NEW_ELEMENT, REQUEST | CREATE, element));
        elements.push(Some(element));
        // The kernel refuses to delete what isn't there, and only later versions have a word for it (6.3,
        // NFT_MSG_DESTROYSETELEM). In one transaction nobody sees what was added in between.
        if let Change::Remove(element) = change {
            requests.push(request(DELETE_ELEMENT, REQUEST, element));
            elements.push(Some(element));
        }
    }
    // Failures are told in any case; one acknowledgement is enough, and any number of them overruns the socket.
    let last = requests.len() - 1;
    if let Some(request) = requests.last_mut() {
        request.flags |= ACKNOWLEDGE;
    }
    requests.push(edge(BATCH_END));
    open()?.transact(&requests, last).map_err(|(place, errno)| match (errno, elements.get(place)) {
        (Errno::NOENT, _) => NftError::NoTable,
        (Errno::BUSY | Errno::EXIST, Some(Some(element))) => NftError::Taken(**element),
        (errno, Some(Some(element))) => {
            kernel(format!("change {} in the nftables map {}", element.text(), element.set()), errno)
        }
        (errno, _) => kernel("change the nftables table", errno),
    })
}

/// Loads the whole table, by nft: see [`table::script`].
///
/// # Errors
/// [`NftError::NoProgram`], [`NftError::Run`], [`NftError::Refused`].
pub fn load(script: &str) -> Result<(), NftError> {
    let mut nft = Command::new(NFT)
        .args(["-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NftError::NoProgram,
            _ => NftError::Run(error),
        })?;
    // nft reads all before it says anything, so one after the other is enough. If it ends early it says why.
    let written = nft.stdin.take().map(|mut input| input.write_all(script.as_bytes()));
    let output = nft.wait_with_output().map_err(NftError::Run)?;
    match written {
        _ if !output.status.success() => {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(NftError::Refused(if words.is_empty() { output.status.to_string() } else { words }))
        }
        Some(Err(error)) => Err(NftError::Run(error)),
        _ => Ok(()),
    }
}

/// Whether the table is in force as it was loaded: it isn't dormant, its chains are there with as many rules
/// as they should have, and its sets hold these elements and no others.
///
/// # Errors
/// [`NftError::Kernel`].
pub fn intact(elements: &BTreeSet<Element>) -> Result<bool, NftError> {
    let mut socket = open()?;
    let get = Request {
        kind: GET_TABLE,
        flags: REQUEST | ACKNOWLEDGE,
        payload: Attributes::after(&header(INET)).text(TABLE_NAME, table::NAME).done(),
    };
    let flags = match socket.ask(&[get]).map(|mut answers| answers.pop()) {
        Ok(Some(Ok(table))) => attribute::find(body(&table), TABLE_FLAGS).map(<[u8]>::to_vec),
        Ok(Some(Err(Errno::NOENT))) => return Ok(false),
        Ok(Some(Err(errno))) | Err(errno) => return Err(kernel("look for the nftables table", errno)),
        Ok(None) => None,
    };
    if flags.is_some_and(|flags| flags.iter().any(|byte| *byte != 0)) {
        return Ok(false);
    }
    Ok(chains(&mut socket)? == expected_chains() && sets_hold(&mut socket, elements)?)
}

/// A chain through which the kernel sends what is forwarded, of any table but Wharf's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardChain {
    /// The table's family, as nft names it.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub name: String,
    /// What no rule of it lets through is dropped (`policy drop`).
    pub drops: bool,
}

/// Every chain of others that forwarded packets pass.
///
/// # Errors
/// [`NftError::Kernel`]; EPERM for who isn't root.
pub fn forward_chains() -> Result<Vec<ForwardChain>, NftError> {
    /// linux/netfilter.h: `NF_INET_FORWARD`, `NF_DROP`.
    const FORWARD: u32 = 2;
    const DROP: u32 = 0;
    let number = |bytes: &[u8], kind| {
        attribute::find(bytes, kind).and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)))
    };
    let all = open()?.dump(GET_CHAIN, &header(0)).map_err(|errno| kernel("list nftables chains", errno))?;
    let chain = |payload: &Vec<u8>| {
        // Those of linux/netfilter.h that have such a hook with this number; others count theirs otherwise.
        let family = match payload.first()? {
            1 => "inet",
            2 => "ip",
            10 => "ip6",
            _ => return None,
        };
        let chain = body(payload);
        let table = attribute::text(chain, CHAIN_TABLE)?;
        let hook = number(attribute::find(chain, CHAIN_HOOK)?, HOOK_NUMBER)?;
        let is_ours = family == "inet" && table == table::NAME;
        (hook == FORWARD && !is_ours).then(|| ForwardChain {
            family,
            table: table.to_owned(),
            name: attribute::text(chain, CHAIN_NAME).unwrap_or_default().to_owned(),
            drops: number(chain, CHAIN_POLICY) == Some(DROP),
        })
    };
    Ok(all.iter().filter_map(chain).collect())
}

fn expected_chains() -> BTreeMap<String, Chain> {
    table::chains().into_iter().map(|(name, chain)| (name.to_owned(), chain)).collect()
}

fn chains(socket: &mut Socket) -> Result<BTreeMap<String, Chain>, NftError> {
    let mut chains = BTreeMap::new();
    let all = socket.dump(GET_CHAIN, &header(INET)).map_err(|errno| kernel("list nftables chains", errno))?;
    for chain in all.iter().map(|chain| body(chain)) {
        if attribute::text(chain, CHAIN_TABLE) == Some(table::NAME)
            && let Some(name) = attribute::text(chain, CHAIN_NAME)
        {
            let hooked = attribute::find(chain, CHAIN_HOOK).is_some();
            chains.insert(name.to_owned(), Chain { hooked, rules: 0 });
        }
    }
    let filter = Attributes::after(&header(INET)).text(RULE_TABLE, table::NAME).done();
    let all = socket.dump(GET_RULE, &filter).map_err(|errno| kernel("list nftables rules", errno))?;
    for name in all.iter().filter_map(|rule| attribute::text(body(rule), RULE_CHAIN)) {
        chains.entry(name.to_owned()).or_default().rules += 1;
    }
    Ok(chains)
}

/// Which of these elements the table holds; none where there is no table.
///
/// # Errors
/// [`NftError::Kernel`].
pub fn held(elements: &BTreeSet<Element>) -> Result<BTreeSet<Element>, NftError> {
    let mut socket = open()?;
    let mut sets: BTreeMap<&str, Entries> = BTreeMap::new();
    for set in elements.iter().map(Element::set).collect::<BTreeSet<_>>() {
        sets.insert(set, entries(&mut socket, set)?.unwrap_or_default());
    }
    let is_held = |element: &&Element| {
        sets.get(element.set()).is_some_and(|entries| entries.contains(&(element.key(), element.data())))
    };
    Ok(elements.iter().filter(is_held).copied().collect())
}

/// Keys, and what a map answers.
type Entries = BTreeSet<(Vec<u8>, Vec<u8>)>;

fn sets_hold(socket: &mut Socket, elements: &BTreeSet<Element>) -> Result<bool, NftError> {
    let mut expected: BTreeMap<&str, Entries> = BTreeMap::new();
    for element in elements {
        expected.entry(element.set()).or_default().insert((element.key(), element.data()));
    }
    for set in table::SETS {
        match entries(socket, set)? {
            Some(found) if found == expected.remove(set).unwrap_or_default() => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// All that is in a set or a map; nothing where it isn't there.
fn entries(socket: &mut Socket, set: &str) -> Result<Option<Entries>, NftError> {
    let which =
        Attributes::after(&header(INET)).text(ELEMENTS_TABLE, table::NAME).text(ELEMENTS_SET, set).done();
    let found = match socket.dump(GET_ELEMENT, &which) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(|errno| kernel(format!("list the nftables set {set}"), errno))?,
    };
    let value = |element, kind| {
        attribute::find(element, kind)
            .and_then(|data| attribute::find(data, DATA_VALUE))
            .unwrap_or_default()
            .to_vec()
    };
    let found = found
        .iter()
        .filter_map(|part| attribute::find(body(part), ELEMENTS_LIST))
        .flat_map(attribute::read)
        .map(|(_, element)| (value(element, ELEMENT_KEY), value(element, ELEMENT_DATA)));
    Ok(Some(found.collect()))
}

fn open() -> Result<Socket, NftError> {
    Socket::open(Some(netlink::NETFILTER)).map_err(|errno| kernel("speak to nftables in the kernel", errno))
}

fn kernel(action: impl Into<String>, errno: Errno) -> NftError {
    NftError::Kernel { action: action.into(), errno }
}

/// `struct nfgenmsg`: family, version, and a number of the subsystem's, here 0.
fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// What follows [`header`] in an answer.
fn body(payload: &[u8]) -> &[u8] {
    payload.get(4..).unwrap_or_default()
}

/// The first or last message of a transaction; its number, in network order, is the subsystem.
fn edge(kind: u16) -> Request {
    Request { kind, flags: REQUEST, payload: vec![0, 0, 0, SUBSYSTEM] }
}

/// One element, in one message of its own, so that an error says which.
fn request(kind: u16, flags: u16, element: &Element) -> Request {
    let value = |bytes: &[u8]| Attributes::after(&[]).bytes(DATA_VALUE, bytes);
    let mut inner = Attributes::after(&[]).nested(ELEMENT_KEY, value(&element.key()));
    let data = element.data();
    if !data.is_empty() {
        inner = inner.nested(ELEMENT_DATA, value(&data));
    }
    let list = Attributes::after(&[]).nested(LIST_ELEMENT, inner);
    let payload = Attributes::after(&header(INET))
        .text(ELEMENTS_TABLE, table::NAME)
        .text(ELEMENTS_SET, element.set())
        .nested(ELEMENTS_LIST, list)
        .done();
    Request { kind, flags, payload }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Protocol;

    /// The attributes as `nft --debug=mnl` shows them (but for a number of the set, which only nft needs).
    #[test]
    fn messages() {
        let port = Element::Port {
            at: None,
            protocol: Protocol::Udp,
            port: 53,
            to: [10, 88, 0, 2].into(),
            to_port: 5353,
        };
        let Request { kind, flags: _, payload } = request(NEW_ELEMENT, REQUEST | CREATE, &port);
        assert_eq!(kind, 0x0a0c);
        let mut expected = vec![1, 0, 0, 0];
        expected.extend([&[10, 0, 1, 0][..], b"wharf\0\0\0", &[11, 0, 2, 0], b"ports4\0\0"].concat());
        expected.extend([40, 0, 3, 0x80, 36, 0, 1, 0x80]);
        expected.extend([16, 0, 1, 0x80, 12, 0, 1, 0, 17, 0, 0, 0, 0, 53, 0, 0]);
        expected.extend([16, 0, 2, 0x80, 12, 0, 1, 0, 10, 88, 0, 2, 0x14, 0xe9, 0, 0]);
        if cfg!(target_endian = "little") {
            assert_eq!(payload, expected);
        }
        assert_eq!(edge(BATCH_BEGIN).payload, [0, 0, 0, 10]);
    }
}
