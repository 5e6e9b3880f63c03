//! Extended attributes as a tar has them, beside those that the kernel gives back.

use std::collections::BTreeMap;

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// How an attribute differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Missing(Vec<u8>),
    Changed(Vec<u8>),
    Foreign(Vec<u8>),
}

/// Which attributes say something about a layer; labels of the host's security modules don't.
pub(super) fn is_checked(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name.starts_with(b"trusted.overlay.")
}

/// Whether it is an access list, which can be taken away where it is foreign: nothing is lost with it but what it allows.
pub(super) fn is_list(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

/// What differs.
pub(super) fn compare(wanted: &Attributes, there: &Attributes) -> Vec<Lost> {
    let mut lost = Vec::new();
    for (name, value) in wanted {
        match there.get(name) {
            Some(there) if normal(name, there) == normal(name, value) => {}
            Some(_) => lost.push(Lost::Changed(name.clone())),
            // A list that says no more than the mode is kept as the mode.
            None if name == b"system.posix_acl_access" && !is_extended(value) => {}
            None => lost.push(Lost::Missing(name.clone())),
        }
    }
    for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
        lost.push(Lost::Foreign(name.clone()));
    }
    lost
}

/// The part of a value that stays as it was set.
fn normal(name: &[u8], value: &[u8]) -> Vec<u8> {
    match name {
        b"security.capability" => capability(value),
        b"system.posix_acl_access" => entries(value).map_or_else(
            || value.to_vec(),
            // A change of mode, which follows, goes into these (acl(5), "Correspondence").
            |entries| {
                entries.filter(|(tag, _)| !OF_THE_MODE.contains(tag)).flat_map(|(_, bytes)| bytes).collect()
            },
        ),
        _ => value.to_vec(),
    }
}

/// Version 3 with user 0 as its root says what version 2 says, and the kernel gives either (capabilities(7),
/// "File capability extended attribute versioning").
fn capability(value: &[u8]) -> Vec<u8> {
    const REVISION: usize = 3;
    match value {
        [.., 0, 0, 0, 0] if value.len() == 24 && value[REVISION] == 3 => {
            let mut second = value[..20].to_vec();
            second[REVISION] = 2;
            second
        }
        _ => value.to_vec(),
    }
}

/// `ACL_USER_OBJ`, `ACL_GROUP_OBJ`, `ACL_MASK`, `ACL_OTHER` of Linux's posix_acl.h.
const OF_THE_MODE: [u16; 4] = [0x01, 0x04, 0x10, 0x20];

/// The entries of an access list (posix_acl_xattr.h): a version of four bytes, and eight for each.
fn entries(value: &[u8]) -> Option<impl Iterator<Item = (u16, [u8; 8])>> {
    let entries = value.strip_prefix(&[2, 0, 0, 0])?;
    let (entries, []) = entries.as_chunks::<8>() else { return None };
    Some(entries.iter().map(|entry| (u16::from_le_bytes([entry[0], entry[1]]), *entry)))
}

/// Whether it names users or groups beyond the owner, or has a mask.
fn is_extended(value: &[u8]) -> bool {
    entries(value).is_none_or(|mut entries| entries.any(|(tag, _)| !matches!(tag, 0x01 | 0x04 | 0x20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &[u8], value: &[u8]) -> Attributes {
        [(name.to_vec(), value.to_vec())].into()
    }

    #[test]
    fn the_kernels_forms_are_the_same() {
        let second = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut third = [&second[..], &[0; 4]].concat();
        third[3] = 3;
        let name = b"security.capability";
        assert_eq!(compare(&one(name, &second), &one(name, &third)), []);
        third[23] = 1;
        assert_eq!(compare(&one(name, &second), &one(name, &third)), [Lost::Changed(name.to_vec())]);
        let list = |user: u8, mask: u8| {
            let none = [0xff; 4];
            let entry = |tag: u8, perm: u8, id: [u8; 4]| [&[tag, 0, perm, 0][..], &id].concat();
            let all = [entry(1, 6, none), entry(2, user, [5, 0, 0, 0]), entry(0x10, mask, none)];
            [&[2, 0, 0, 0][..], &all.concat()].concat()
        };
        let name = b"system.posix_acl_access";
        assert_eq!(compare(&one(name, &list(6, 7)), &one(name, &list(6, 4))), []);
        let changed = compare(&one(name, &list(6, 7)), &one(name, &list(7, 7)));
        assert_eq!(changed, [Lost::Changed(name.to_vec())]);
        let missing = compare(&one(name, &list(6, 7)), &Attributes::new());
        assert_eq!(missing, [Lost::Missing(name.to_vec())]);
        let foreign = compare(&Attributes::new(), &one(b"user.x", b""));
        assert_eq!(foreign, [Lost::Foreign(b"user.x".to_vec())]);
    }
}
