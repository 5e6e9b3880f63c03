//! A layer's frame: everything of its tar that isn't the content of a file.
//!
//! With it and the files in `tree/`, the very tar that the layer came from can be written again, byte for byte,
//! so that it has the same diff id wherever it goes. It is recorded while the layer is unpacked.
//!
//! `frame` is a zstd stream with a checksum. In it are eight bytes, `WHARFFR` and the version, 1, and then records:
//! one byte that says which, and its fields. Numbers are unsigned LEB128; a path is a number of bytes and those
//! bytes, relative to `tree/`, without links.
//!
//! ```text
//! 0  COUNT                   the end; the tar has so many bytes
//! 1  COUNT BYTES             these bytes, at most 64 KiB: headers, extended headers, maps of sparse files, padding,
//!                            members that were left out, whatever lies behind the archive's end
//! 2  OFFSET COUNT PATH       so many bytes of the file that the path names at this moment
//! 3  PATH                    a later member takes this path: what was there, a file or a folder of them, is at
//!                            `aside/N` from now on; N counts from 0
//! ```
//!
//! `aside/` is there only if there is such a record.

mod record;
mod write;

use std::io::{self, Read};

pub(crate) use self::record::Tape;
pub use self::write::write_layer;

const MAGIC: &[u8; 8] = b"WHARFFR\x01";

const END: u8 = 0;
const BYTES: u8 = 1;
const CONTENT: u8 = 2;
const ASIDE: u8 = 3;

/// The most bytes in one record, so that a reader needs no more memory than that.
const CHUNK: usize = 64 << 10;

/// The longest path of a tree: 256 names of 255 bytes with slashes between.
const PATH_MAX: u64 = 1 << 16;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Record {
    End(u64),
    Bytes(Vec<u8>),
    Content { offset: u64, count: u64, path: Vec<u8> },
    Aside(Vec<u8>),
}

fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn number(input: &mut impl Read) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        let bits = u64::from(byte[0] & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte[0] < 0x80 {
            return Ok(number);
        }
    }
    Err(bad("it has a number that is too large"))
}

fn bytes(input: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let count = number(input)?;
    if count > most {
        return Err(bad("it has a record that is too long"));
    }
    let mut bytes = vec![0; count as usize];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn record(input: &mut impl Read) -> io::Result<Record> {
    let mut kind = [0];
    input.read_exact(&mut kind)?;
    Ok(match kind[0] {
        END => Record::End(number(input)?),
        BYTES => Record::Bytes(bytes(input, CHUNK as u64)?),
        CONTENT => {
            let (offset, count) = (number(input)?, number(input)?);
            Record::Content { offset, count, path: bytes(input, PATH_MAX)? }
        }
        ASIDE => Record::Aside(bytes(input, PATH_MAX)?),
        _ => return Err(bad("it has a record of an unknown kind")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(wanted in any::<u64>()) {
            let mut text = Vec::new();
            put_number(&mut text, wanted);
            prop_assert_eq!(number(&mut &text[..]).expect("a number"), wanted);
        }

        #[test]
        fn nonsense_is_an_error_and_no_more(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut rest = &text[..];
            while record(&mut rest).is_ok() {}
        }
    }

    #[test]
    fn numbers_that_are_too_large() {
        assert!(number(&mut &[0xff; 10][..]).is_err());
        assert!(bytes(&mut &[0xff, 0xff, 0xff, 0x7f, 0][..], CHUNK as u64).is_err());
    }
}
