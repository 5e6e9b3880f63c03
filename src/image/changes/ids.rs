//! A container's ids and the host's: of owners, access lists and file capabilities.

/// How many ids a container has, and what the kernel shows for the others (`/proc/sys/kernel/overflowuid`, which
/// nobody changes).
const COUNT: u32 = crate::lease::IDS;
const OVERFLOW: u32 = 65_534;

/// The container's ids as the host sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The host's number for the container's 0; nothing without a user namespace.
    pub base: Option<u32>,
}

impl Ids {
    /// The container's own number for an id of the host; nothing for one that it doesn't have.
    pub(crate) fn inside(self, id: u32) -> Option<u32> {
        match self.base {
            None => Some(id),
            Some(base) => id.checked_sub(base).filter(|id| *id < COUNT),
        }
    }

    /// Whether what the image says and what the host sees is the same owner.
    pub(super) fn same(self, image: u32, seen: u32) -> bool {
        match self.inside(seen) {
            Some(id) => id == image,
            // Owned in the image by an id that the container doesn't have.
            None => seen == OVERFLOW && image >= COUNT,
        }
    }

    /// The host's number for an id of the container; nothing for one that it doesn't have.
    pub(crate) fn outside(self, id: u32) -> Option<u32> {
        match self.base {
            None => Some(id),
            Some(base) => (id < COUNT).then(|| base + id),
        }
    }

    /// An attribute as the container's own layer would have it.
    pub(crate) fn attribute(self, name: &[u8], mut value: Vec<u8>) -> Vec<u8> {
        let Some(base) = self.base else { return value };
        if name == CAPABILITY {
            // For the container's own root that is what revision 2 says without a number.
            let magic = word(&value, 0).unwrap_or_default();
            if value.len() == 24 && magic & REVISION == REVISION_3 && word(&value, 20) == Some(base) {
                value.truncate(20);
                value[..4].copy_from_slice(&(magic & !REVISION | REVISION_2).to_le_bytes());
            }
        } else if name.starts_with(ACCESS_LISTS) {
            // An id that the container doesn't have stays what it is.
            let _ = each_id(&mut value, |id| Some(self.inside(id).unwrap_or(id)));
        }
        value
    }

    /// The other way round: an attribute as the host has to write it for the container to have it so; nothing where it
    /// names an id that the container doesn't have.
    pub(crate) fn host_attribute(self, name: &[u8], mut value: Vec<u8>) -> Option<Vec<u8>> {
        let Some(base) = self.base else { return Some(value) };
        if name == CAPABILITY {
            let magic = word(&value, 0).unwrap_or_default();
            if value.len() == 20 && magic & REVISION == REVISION_2 {
                value[..4].copy_from_slice(&(magic & !REVISION | REVISION_3).to_le_bytes());
                value.extend(base.to_le_bytes());
            }
        } else if name.starts_with(ACCESS_LISTS) {
            each_id(&mut value, |id| self.outside(id))?;
        }
        Some(value)
    }
}

const CAPABILITY: &[u8] = b"security.capability";
const ACCESS_LISTS: &[u8] = b"system.posix_acl_";

/// Of file capabilities; revision 3 has the host's number for the root whose capabilities these are (capabilities(7)).
const REVISION: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

fn word(value: &[u8], at: usize) -> Option<u32> {
    value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
}

/// Maps the ids of an access list: a version of four bytes, and entries of tag, permissions and id; only those that name
/// somebody have one (linux/posix_acl_xattr.h).
fn each_id(value: &mut [u8], map: impl Fn(u32) -> Option<u32>) -> Option<()> {
    let mut at = 4;
    while at + 8 <= value.len() {
        let tag = u16::from_le_bytes([value[at], value[at + 1]]);
        if let (2 | 8, Some(id)) = (tag, word(value, at + 4)) {
            value[at + 4..at + 8].copy_from_slice(&map(id)?.to_le_bytes());
        }
        at += 8;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back() {
        let ids = Ids { base: Some(1_000_000) };
        assert_eq!(ids.inside(1_000_033), Some(33));
        assert_eq!((ids.inside(33), ids.inside(1_065_536)), (None, None));
        assert!(
            ids.same(33, 1_000_033)
                && !ids.same(33, 33)
                && !ids.same(0, OVERFLOW)
                && ids.same(70_000, OVERFLOW)
        );
        assert_eq!((ids.outside(33), ids.outside(65_536)), (Some(1_000_033), None));
        let ids = Ids { base: None };
        assert!(ids.same(33, 33) && !ids.same(33, 34));
    }

    #[test]
    fn attributes_have_the_containers_ids() {
        let ids = Ids { base: Some(0x0010_0000) };
        let mut third = vec![1, 0, 0, 3];
        third.extend([7; 16]);
        let second = [&[1, 0, 0, 2], &third[4..]].concat();
        third.extend([0, 0, 0x10, 0]);
        assert_eq!(ids.attribute(b"security.capability", third.clone()), second);
        assert_eq!(ids.attribute(b"security.capability", second.clone()), second);
        // Of another root.
        third[20] = 1;
        assert_eq!(ids.attribute(b"security.capability", third.clone()), third);
        let acl = |id: [u8; 4]| [&[2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 6, 0][..], &id].concat();
        assert_eq!(ids.attribute(b"system.posix_acl_access", acl([33, 0, 0x10, 0])), acl([33, 0, 0, 0]));
        // And back.
        third[20] = 0;
        assert_eq!(ids.host_attribute(b"security.capability", second), Some(third));
        let name = b"system.posix_acl_access";
        assert_eq!(ids.host_attribute(name, acl([33, 0, 0, 0])), Some(acl([33, 0, 0x10, 0])));
        assert_eq!(ids.host_attribute(name, acl([33, 0, 1, 0])), None);
    }
}
