//! Netlink's attributes, written and read (linux/netlink.h, `struct nlattr`), for nf_tables. Pure.

const HEADER: usize = 4;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// The bits of the kind that say something else.
const FLAGS: u16 = 0xc000;

/// Attributes being written, after the protocol's own header.
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// None yet, after this header.
    pub fn after(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    /// One more.
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        // Names and keys of a few bytes only: far below the 64 KiB of the length's 16 bits.
        let length = u16::try_from(HEADER + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A text, which ends with a NUL.
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// One that holds others.
    pub fn nested(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// What was written.
    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The attributes in some bytes: kind and value. Ends early where they are damaged.
pub(super) fn read(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d]: [u8; HEADER] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !FLAGS, value))
    })
}

/// The first attribute of a kind.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    read(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The first attribute of a kind, a text.
pub(super) fn text(bytes: &[u8], kind: u16) -> Option<&str> {
    let value = find(bytes, kind)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let inner = Attributes::after(&[]).bytes(1, &[7; 5]);
        let bytes = Attributes::after(&[1, 0, 0, 10]).text(1, "wharf").nested(3, inner).done();
        assert_eq!(
            bytes,
            [
                &[1, 0, 0, 10][..],
                &10u16.to_ne_bytes(),
                &1u16.to_ne_bytes(),
                b"wharf\0\0\0",
                &16u16.to_ne_bytes(),
                &0x8003u16.to_ne_bytes(),
                &9u16.to_ne_bytes(),
                &1u16.to_ne_bytes(),
                &[7, 7, 7, 7, 7, 0, 0, 0]
            ]
            .concat()
        );
        let read_back = &bytes[4..];
        assert_eq!(text(read_back, 1), Some("wharf"));
        assert_eq!(find(find(read_back, 3).unwrap(), 1), Some(&[7; 5][..]));
        assert_eq!(find(read_back, 2), None);
    }

    /// Lengths that point nowhere end the reading, and don't loop.
    #[test]
    fn damaged() {
        for bytes in [&[][..], &[1], &[0, 0, 1, 0], &[3, 0, 1, 0, 9, 9, 9, 9], &[255, 255, 1, 0, 1]] {
            assert_eq!(read(bytes).count(), 0, "{bytes:?}");
        }
    }
}
