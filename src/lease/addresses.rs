//! Addresses: each container has one number, which is its place in the pools of both families.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::str::FromStr;

use super::{Book, LeaseError, failed, hash, read, write};
use crate::net::Addresses;
use crate::spec::ContainerName;

/// The folder of these leases.
pub(super) const KIND: &str = "addresses";

/// The networks that containers have their addresses from: an IPv4 network of at most 65,536 addresses, and an
/// IPv6 network of at least as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pools {
    v4: (Ipv4Addr, u32),
    v6: (Ipv6Addr, u32),
}

/// A container's place in the pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// From 2 up; 1 is the host.
    pub number: u32,
    /// The container's.
    pub addresses: Addresses,
    /// The host's, as containers see it.
    pub gateway: Addresses,
}

/// The host's own number in the pools; 0 is the network's name.
const HOST: u32 = 1;

/// IPv4 networks to choose from, the first that the host has no route to: private ones (RFC 1918) that home
/// routers, clouds and other container managers don't have as their own default.
const CANDIDATES: [[u8; 2]; 8] =
    [[10, 131], [10, 187], [10, 213], [10, 151], [10, 239], [172, 27], [172, 29], [10, 77]];

impl Pools {
    /// How many containers the smaller pool has room for, and two.
    fn size(self) -> u32 {
        1 << (32 - self.v4.1)
    }

    fn at(self, number: u32) -> Addresses {
        Addresses {
            v4: Ipv4Addr::from_bits(self.v4.0.to_bits() + number),
            v6: Some(Ipv6Addr::from_bits(self.v6.0.to_bits() + u128::from(number))),
        }
    }

    fn lease(self, number: u32) -> Lease {
        Lease { number, addresses: self.at(number), gateway: self.at(HOST) }
    }

    /// The networks of both families, as `10.131.0.0/16`.
    pub fn networks(self) -> [String; 2] {
        [format!("{}/{}", self.v4.0, self.v4.1), format!("{}/{}", self.v6.0, self.v6.1)]
    }

    /// The host's addresses in the pools.
    pub fn gateway(self) -> Addresses {
        self.at(HOST)
    }

    /// Routes by which some of the IPv4 addresses are reached elsewhere than at containers: interface and network, from
    /// the text of `/proc/net/route`.
    pub fn clashes(self, routes: &str) -> Vec<String> {
        let (base, own) = (self.v4.0.to_bits(), u32::MAX << (32 - self.v4.1));
        let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
        let clash = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let interface = fields.first()?;
            let (network, mask) = (number(fields.get(1)?)?, number(fields.get(7)?)?);
            let meet = mask != 0 && network & mask & own == base & mask & own;
            (meet && !interface.starts_with(crate::net::route::PREFIX))
                .then(|| format!("{interface} {}/{}", Ipv4Addr::from_bits(network), mask.count_ones()))
        };
        routes.lines().skip(1).filter_map(clash).collect()
    }

    /// An IPv4 network that this host doesn't know yet, and a random unique local IPv6 one (RFC 4193).
    fn choose(routes: &str) -> io::Result<Self> {
        let known = known_networks(routes);
        let free = |[a, b]: &[u8; 2]| {
            let (base, mask) = (Ipv4Addr::new(*a, *b, 0, 0).to_bits(), 0xffff_0000_u32);
            !known.iter().any(|(network, theirs)| network & mask & theirs == base & theirs & mask)
        };
        let [a, b] = CANDIDATES.iter().find(|candidate| free(candidate)).unwrap_or(&CANDIDATES[0]);
        let mut random = [0; 16];
        random[0] = 0xfd;
        let mut global = [0; 5];
        rustix::rand::getrandom(&mut global, rustix::rand::GetRandomFlags::empty())?;
        random[1..6].copy_from_slice(&global);
        Ok(Self { v4: (Ipv4Addr::new(*a, *b, 0, 0), 16), v6: (Ipv6Addr::from(random), 64) })
    }
}

impl fmt::Display for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { v4, v6 } = self;
        write!(f, "{}/{} {}/{}", v4.0, v4.1, v6.0, v6.1)
    }
}

impl FromStr for Pools {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_whitespace();
        let (Some(v4), Some(v6), None) = (words.next(), words.next(), words.next()) else { return Err(()) };
        let (v4, v4_length) = v4.split_once('/').ok_or(())?;
        let (v6, v6_length) = v6.split_once('/').ok_or(())?;
        let v4: Ipv4Addr = v4.parse().map_err(drop)?;
        let v6: Ipv6Addr = v6.parse().map_err(drop)?;
        let v4_length: u32 = v4_length.parse().map_err(drop)?;
        let v6_length: u32 = v6_length.parse().map_err(drop)?;
        let whole = (16..=29).contains(&v4_length)
            && (8..=112).contains(&v6_length)
            && v4.to_bits().trailing_zeros() >= 32 - v4_length
            && v6.to_bits().trailing_zeros() >= 128 - v6_length;
        if whole { Ok(Self { v4: (v4, v4_length), v6: (v6, v6_length) }) } else { Err(()) }
    }
}

/// Networks that the host has routes to, the default route not counted: address and mask, from the text of
/// `/proc/net/route`, which has both as hexadecimal numbers in the host's byte order.
fn known_networks(routes: &str) -> Vec<(u32, u32)> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    let lines = routes.lines().skip(1);
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            Some((number(fields.get(1)?)?, number(fields.get(7)?)?))
        })
        .filter(|(_, mask)| *mask != 0)
        .collect()
}

/// The container's place in the pools, leased now if it has none yet. `state` is `/var/lib/wharf`.
///
/// # Errors
/// [`LeaseError`].
pub fn addresses(state: &Path, name: &ContainerName) -> Result<Lease, LeaseError> {
    let path = state.join("leases/pools");
    if let Some(pools) = pools(&path)?
        && let Some(number) = book(state, pools).find(name.as_str())?
    {
        return Ok(pools.lease(number));
    }
    // The book's rule for numbers plays no part in locking.
    let _lock = Book::new(state, KIND, "", |_| true).lock(state)?;
    let pools = match pools(&path)? {
        Some(pools) => pools,
        None => choose(&path)?,
    };
    let book = book(state, pools);
    // Somebody may have been faster.
    if let Some(number) = book.find(name.as_str())? {
        return Ok(pools.lease(number));
    }
    let taken: std::collections::BTreeSet<u32> = book.all()?.into_iter().collect();
    // Without the network's name, the host, and IPv4's broadcast address.
    let places = pools.size() - 3;
    let start = hash(name.as_str()) % places;
    let number = (0..places)
        .map(|step| HOST + 1 + (start + step) % places)
        .find(|number| !taken.contains(number))
        .ok_or_else(|| LeaseError::Exhausted(format!("address of {pools}")))?;
    book.keep(name.as_str(), number)?;
    Ok(pools.lease(number))
}

/// The pools, where they were chosen already.
///
/// # Errors
/// [`LeaseError`].
pub fn chosen(state: &Path) -> Result<Option<Pools>, LeaseError> {
    pools(&state.join("leases/pools"))
}

/// Every lease of an address, by name. Makes none, and passes over those that are damaged.
///
/// # Errors
/// [`LeaseError`].
pub fn leased(state: &Path) -> Result<Vec<(ContainerName, Lease)>, LeaseError> {
    let Some(pools) = chosen(state)? else { return Ok(Vec::new()) };
    let book = book(state, pools);
    let folder = state.join("leases").join(KIND);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed("list", &folder))?,
    };
    let mut leases = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("list", &folder))?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.parse::<ContainerName>().ok()) else { continue };
        match book.find(name.as_str()) {
            Ok(number) => leases.extend(number.map(|number| (name, pools.lease(number)))),
            Err(LeaseError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    leases.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(leases)
}

fn book(state: &Path, pools: Pools) -> Book {
    let size = pools.size();
    Book::new(state, KIND, "a number within the pools", move |number| number > HOST && number < size - 1)
}

fn pools(path: &Path) -> Result<Option<Pools>, LeaseError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let damaged = || LeaseError::Damaged {
        path: path.to_owned(),
        what: "an IPv4 and an IPv6 network, as `10.131.0.0/16 fd12:3456:789a::/64`",
    };
    text.parse().map(Some).map_err(|()| damaged())
}

fn choose(path: &Path) -> Result<Pools, LeaseError> {
    // A host without IPv4 has no such file, and knows no networks.
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let pools = Pools::choose(&routes).map_err(failed("choose", path))?;
    let folder = path.parent().unwrap_or(path);
    write(folder, "pools", &format!("{pools}\n"))?;
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContainerName {
        text.parse().expect("a good name")
    }

    #[test]
    fn routes_to_the_same_addresses() {
        let pools: Pools = "10.131.0.0/16 fd12:3456:789a::/64".parse().expect("pools");
        // Columns as the kernel has them; numbers in the order of bytes of a little-endian machine.
        let line = |interface: &str, network: [u8; 4], mask: [u8; 4]| {
            let hex = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
            format!("{interface}\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n", hex(network), hex(mask))
        };
        let routes = [
            "Iface\tDestination\n".to_owned(),
            line("eth0", [0, 0, 0, 0], [0, 0, 0, 0]),
            line("eth0", [192, 168, 1, 0], [255, 255, 255, 0]),
            line("wharf-0002", [10, 131, 0, 2], [255, 255, 255, 255]),
            line("tun0", [10, 131, 7, 0], [255, 255, 255, 0]),
            line("tun1", [10, 0, 0, 0], [255, 0, 0, 0]),
        ];
        assert_eq!(pools.clashes(&routes.concat()), ["tun0 10.131.7.0/24", "tun1 10.0.0.0/8"]);
    }

    #[test]
    fn a_lease_stays_and_is_nobody_elses() {
        let state = tempfile::tempdir().expect("a folder");
        let lease = |n: usize| addresses(state.path(), &name(&format!("c{n}"))).expect("a lease");
        let leases: Vec<Lease> = (0..200).map(lease).collect();
        assert_eq!(lease(7), leases[7]);
        let mut numbers: Vec<u32> = leases.iter().map(|lease| lease.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 200);
        fs::write(state.path().join("leases/addresses/c7"), "nonsense").expect("written");
        let listed = super::leased(state.path()).expect("listed");
        assert_eq!(listed.len(), 199);
        assert!(listed.iter().any(|(name, lease)| name.as_str() == "c8" && *lease == leases[8]));
        assert!(leases.iter().all(|lease| lease.number >= 2 && lease.gateway == leases[0].gateway));
    }

    #[test]
    fn a_small_pool_is_used_up_and_says_so() {
        let state = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(state.path().join("leases")).expect("made");
        fs::write(state.path().join("leases/pools"), "192.0.2.0/29 fd00::/64\n").expect("written");
        for n in 0..5 {
            let lease = addresses(state.path(), &name(&format!("c{n}"))).expect("a lease");
            assert!((2..=6).contains(&lease.number), "{lease:?}");
        }
        let error = addresses(state.path(), &name("one-more")).expect_err("no room");
        assert!(error.to_string().contains("192.0.2.0/29"), "{error}");
    }

    #[test]
    fn damage_is_named() {
        let state = tempfile::tempdir().expect("a folder");
        addresses(state.path(), &name("a")).expect("a lease");
        for text in ["", "nonsense", "0", "1", "65535", "4294967295"] {
            fs::write(state.path().join("leases/addresses/a"), text).expect("written");
            let error = addresses(state.path(), &name("a")).expect_err("damaged");
            assert!(matches!(error, LeaseError::Damaged { .. }), "{text:?}: {error}");
        }
        for text in
            ["", "10.0.0.0/16", "10.0.0.1/16 fd00::/64", "10.0.0.0/8 fd00::/64", "10.0.0.0/16 fd00::/120"]
        {
            fs::write(state.path().join("leases/pools"), text).expect("written");
            let error = addresses(state.path(), &name("a")).expect_err("damaged");
            assert!(matches!(error, LeaseError::Damaged { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_network_in_use_is_passed_over() {
        let heading = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n";
        let route = |destination: [u8; 4], mask: [u8; 4]| {
            let hex = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
            format!("eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\n", hex(destination), hex(mask))
        };
        let chosen = |routes: &str| Pools::choose(routes).expect("chosen").v4.0.octets();
        let default = route([0, 0, 0, 0], [0, 0, 0, 0]);
        assert_eq!(chosen(&format!("{heading}{default}")), [10, 131, 0, 0]);
        let inside = route([10, 131, 7, 0], [255, 255, 255, 0]);
        assert_eq!(chosen(&format!("{heading}{default}{inside}")), [10, 187, 0, 0]);
        let around = route([10, 128, 0, 0], [255, 192, 0, 0]);
        assert_eq!(chosen(&format!("{heading}{around}")), [10, 213, 0, 0]);
        assert_eq!(chosen(""), [10, 131, 0, 0]);
    }
}
