//! What has passed containers' interfaces, from their own point of view.

use std::collections::BTreeMap;

use super::request;
use super::route::{LINK_HEADER, PREFIX, name_of, open};
use super::{NetError, attribute};

/// linux/if_link.h: `struct rtnl_link_stats64`, which begins with what was received and sent, packets before bytes,
/// 64 bits each.
const IFLA_STATS64: u16 = 23;

/// What a container has received and sent since its interface was made, which is when it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that came to it.
    pub received: u64,
    /// Bytes that it sent.
    pub sent: u64,
    /// Packets that came to it.
    pub received_packets: u64,
    /// Packets that it sent.
    pub sent_packets: u64,
}

/// Of every interface of Wharf in this network namespace, by the name of the host's side: in one answer of the kernel,
/// where /sys/class/net has a file for each number.
///
/// # Errors
/// [`NetError`].
pub fn counters() -> Result<BTreeMap<String, Counters>, NetError> {
    let (kind, payload) = request::query_all_counted();
    let links = open()?
        .dump(kind, &payload)
        .map_err(|errno| NetError::step("read the counters of the interfaces", errno))?;
    let ours = links.iter().filter_map(|link| {
        let name = name_of(link).filter(|name| name.starts_with(PREFIX))?;
        Some((name.to_owned(), counted(link.get(LINK_HEADER..)?)?))
    });
    Ok(ours.collect())
}

/// The host's side receives what the container sends.
fn counted(attributes: &[u8]) -> Option<Counters> {
    let numbers = attribute::find(attributes, IFLA_STATS64)?;
    let number = |place: usize| Some(u64::from_ne_bytes(*numbers.get(8 * place..)?.first_chunk()?));
    Some(Counters {
        sent_packets: number(0)?,
        received_packets: number(1)?,
        sent: number(2)?,
        received: number(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_sides_numbers() {
        let numbers: Vec<u8> =
            [1_u64, 2, 300, 400, 5].iter().flat_map(|number| number.to_ne_bytes()).collect();
        let attributes =
            attribute::Attributes::after(&[]).bytes(3, b"x\0").bytes(IFLA_STATS64, &numbers).done();
        let expected = Counters { received: 400, sent: 300, received_packets: 2, sent_packets: 1 };
        assert_eq!(counted(&attributes), Some(expected));
        let short = attribute::Attributes::after(&[]).bytes(IFLA_STATS64, &numbers[..31]).done();
        assert_eq!(counted(&short), None);
        assert_eq!(counted(&[]), None);
    }
}
