//! Names that go through a text and come back byte for byte: percent signs and two hexadecimal digits for
//! every byte that the place can't hold.

use crate::spec::Reference;

/// For a field of a layer's manifest: anything but visible ASCII is escaped, so that neither a space nor a
/// line end of a hostile name can pass for the form's own.
pub fn field(bytes: &[u8]) -> String {
    escape(bytes, |byte| byte.is_ascii_graphic())
}

/// For one file name of `refs/`. The first byte of a reference is a letter or digit, so the result is never
/// `.`, `..` or hidden.
pub(crate) fn file_name(text: &str) -> String {
    escape(text.as_bytes(), |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'@')
    })
}

/// The name of a reference's file in `refs/`.
pub fn reference_file_name(reference: &Reference) -> String {
    file_name(&reference.to_string())
}

fn escape(bytes: &[u8], keep: fn(u8) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte != b'%' && keep(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// What [`field`] or [`file_name`] was given; nothing for a text that neither makes.
pub(crate) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if digits.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'A'..=b'F')) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fields_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = field(&bytes);
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(unescape(&text), Some(bytes));
        }

        #[test]
        fn file_names_come_back(text in "[a-z0-9][a-z0-9./:@_%-]{0,40}") {
            let name = file_name(&text);
            prop_assert!(!name.contains('/') && name != "." && name != "..");
            prop_assert_eq!(unescape(&name), Some(text.into_bytes()));
        }

        #[test]
        fn any_text_unescapes_or_not(text in ".{0,40}") {
            if let Some(bytes) = unescape(&text) {
                prop_assert!(bytes.len() <= text.len());
            }
        }
    }

    #[test]
    fn shapes() {
        assert_eq!(field(b"a b\n\xff%"), "a%20b%0A%FF%25");
        assert_eq!(file_name("localhost:5000/team/web:1"), "localhost:5000%2Fteam%2Fweb:1");
        assert_eq!(unescape("%4"), None);
        assert_eq!(unescape("%zz"), None);
    }
}
