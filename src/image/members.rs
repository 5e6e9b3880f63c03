//! The members of a tar stream: ustar, PAX and GNU, one after the other.
//!
//! The `tar` crate decodes the header blocks. Its own iterator isn't used: it splits PAX records at line
//! ends, and an extended attribute's value may hold one.

use std::io::{self, BufRead};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::frame::Tape;

const BLOCK: u64 = 512;

/// The most bytes of one extension header. Linux takes 64 KiB per extended attribute and 4 KiB per path; a
/// header beyond this is there to fill the memory.
const EXTENSION_MAX: u64 = 1 << 20;

/// The most pieces of one sparse file, against a map that fills the memory.
const PIECES_MAX: usize = 1 << 16;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Pipe,
    Device,
    /// A character device 0:0: what overlayfs itself has for a path that is hidden.
    Whiteout,
    /// A type that no file system has; the byte of the header.
    Other(u8),
}

/// One member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    /// Bytes of the file as it will be.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes go, as (offset, length), if there are holes between them.
    pub(crate) pieces: Option<Vec<(u64, u64)>>,
    /// Where the stored bytes begin in the stream.
    pub(crate) position: u64,
}

/// A stream that can pass over bytes.
pub(crate) trait Skip: BufRead {
    /// Passes over bytes; not all of them need be there.
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let there = self.fill_buf()?.len();
            if there == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(there);
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }
}

/// Reads members. After [`Members::next`] the stored bytes of that member, or a part of them, can be read
/// with [`Members::data`].
pub(crate) struct Members<R> {
    input: R,
    position: u64,
    /// Stored bytes of the current member that weren't read yet, and what fills its last block.
    left: u64,
    padding: u64,
    /// Hears of every byte that isn't the content of a file, where somebody wants to know.
    tape: Option<Tape>,
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

impl<R: Skip> Members<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, position: 0, left: 0, padding: 0, tape: None }
    }

    /// The same, with a frame recorded.
    pub(crate) fn recorded(input: R, tape: Tape) -> Self {
        Self { tape: Some(tape), ..Self::new(input) }
    }

    /// Where it is recorded.
    pub(crate) fn tape(&mut self) -> Option<&mut Tape> {
        self.tape.as_mut()
    }

    /// Passes over what lies behind the archive's end, and gives the recording back.
    pub(crate) fn finish(mut self) -> io::Result<Option<Tape>> {
        loop {
            let there = self.input.fill_buf()?;
            if there.is_empty() {
                return Ok(self.tape);
            }
            if let Some(tape) = &mut self.tape {
                tape.bytes(there);
            }
            let count = there.len();
            self.input.consume(count);
        }
    }

    /// The next member; nothing at the archive's end.
    ///
    /// # Errors
    /// `UnexpectedEof` when the stream ends without the block of zeros that ends an archive, `InvalidData`
    /// when this is no archive.
    pub(crate) fn next(&mut self) -> io::Result<Option<Member>> {
        let (mut path, mut target, mut pax) = (None, None, Vec::new());
        loop {
            self.skip(self.left + self.padding)?;
            (self.left, self.padding) = (0, 0);
            let mut header = Header::new_old();
            self.fill(header.as_mut_bytes())?;
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                return if path.is_some() || target.is_some() || !pax.is_empty() {
                    Err(bad("it ends after a header that describes another one"))
                } else {
                    Ok(None)
                };
            }
            check_sum(&header)?;
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::GNULongName => path = Some(without_nul(self.extension(size)?)),
                EntryType::GNULongLink => target = Some(without_nul(self.extension(size)?)),
                EntryType::XHeader => pax = records(&self.extension(size)?)?,
                EntryType::XGlobalHeader => {
                    self.extension(size)?;
                }
                _ => return self.member(&header, size, path, target, pax).map(Some),
            }
        }
    }

    fn member(
        &mut self,
        header: &Header,
        mut stored: u64,
        path: Option<Vec<u8>>,
        target: Option<Vec<u8>>,
        pax: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> io::Result<Member> {
        let mut member = Member {
            path: path.unwrap_or_else(|| header.path_bytes().into_owned()),
            target: target.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned()),
            kind: kind(header.entry_type()),
            mode: header.mode()? & 0o7777,
            uid: header.uid()?,
            gid: header.gid()?,
            seconds: old_time(header)?,
            nanoseconds: 0,
            size: 0,
            xattrs: Vec::new(),
            pieces: None,
            position: 0,
        };
        let mut sparse = Sparse::default();
        for (key, value) in pax {
            match key.as_slice() {
                b"path" => member.path = value,
                b"linkpath" => member.target = value,
                b"size" => stored = number(&value)?,
                b"uid" => member.uid = number(&value)?,
                b"gid" => member.gid = number(&value)?,
                b"mtime" => (member.seconds, member.nanoseconds) = time(&value)?,
                b"GNU.sparse.name" => sparse.name = Some(value),
                b"GNU.sparse.major" => sparse.major = Some(number(&value)?),
                b"GNU.sparse.realsize" | b"GNU.sparse.size" => sparse.size = Some(number(&value)?),
                b"GNU.sparse.map" => sparse.whole_map(&value)?,
                b"GNU.sparse.offset" => sparse.offset = Some(number(&value)?),
                b"GNU.sparse.numbytes" => sparse.piece(number(&value)?)?,
                b"GNU.sparse.numblocks" => {
                    sparse.old.get_or_insert_default().expected = Some(number(&value)?)
                }
                key if key.starts_with(b"GNU.sparse.") => {}
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        member.xattrs.push((name.to_vec(), value));
                    }
                }
            }
        }
        if header.entry_type() == EntryType::Char
            && (header.device_major()?.unwrap_or(1), header.device_minor()?.unwrap_or(1)) == (0, 0)
        {
            member.kind = Kind::Whiteout;
        }
        // Tars of the seventh edition have no type for directories.
        if header.as_bytes()[156] == 0 && member.path.ends_with(b"/") {
            member.kind = Kind::Directory;
        }
        member.size = if member.kind == Kind::File { stored } else { 0 };
        self.left = stored;
        self.padding = stored.wrapping_neg() % BLOCK;
        if stored.checked_add(self.padding).is_none() {
            return Err(bad("a member is larger than anything can be"));
        }
        if header.entry_type() == EntryType::GNUSparse {
            self.old_map(header, &mut member)?;
        } else if sparse.major == Some(1) {
            self.new_map(sparse, &mut member)?;
        } else if sparse.major.is_some_and(|major| major != 0) {
            return Err(bad("it has a sparse file in a form that nobody knows"));
        } else if let Some(map) = sparse.old {
            member.size = sparse.size.ok_or_else(|| bad("it has a sparse file without a size"))?;
            member.pieces = Some(map.finish(member.size, self.left)?);
            member.path = sparse.name.unwrap_or_else(|| std::mem::take(&mut member.path));
        }
        member.position = self.position;
        Ok(member)
    }

    /// The map of a sparse file in GNU's own format: in the header and the blocks after it.
    fn old_map(&mut self, header: &Header, member: &mut Member) -> io::Result<()> {
        let gnu = header.as_gnu().ok_or_else(|| bad("it has a sparse file without a map"))?;
        let mut map = Map::default();
        for piece in gnu.sparse.iter().filter(|piece| !piece.is_empty()) {
            map.add(piece.offset()?, piece.length()?)?;
        }
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            // These blocks lie before the stored bytes and aren't counted among them.
            self.fill(block.as_mut_bytes())?;
            for piece in block.sparse().iter().filter(|piece| !piece.is_empty()) {
                map.add(piece.offset()?, piece.length()?)?;
            }
            more = block.is_extended();
        }
        member.size = gnu.real_size()?;
        member.pieces = Some(map.finish(member.size, self.left)?);
        member.kind = Kind::File;
        Ok(())
    }

    /// The map of a sparse file in PAX form 1.0: decimal lines in the first of the stored blocks.
    fn new_map(&mut self, sparse: Sparse, member: &mut Member) -> io::Result<()> {
        let before = self.left;
        let count = self.map_number()?;
        let mut map = Map::default();
        for _ in 0..count {
            let (offset, length) = (self.map_number()?, self.map_number()?);
            map.add(offset, length)?;
        }
        let used = before - self.left;
        let fill = used.wrapping_neg() % BLOCK;
        if fill > self.left {
            return Err(bad("it has a sparse file with a broken map"));
        }
        self.skip(fill)?;
        self.left -= fill;
        member.size = sparse.size.ok_or_else(|| bad("it has a sparse file without a size"))?;
        member.pieces = Some(map.finish(member.size, self.left)?);
        member.path = sparse.name.unwrap_or_else(|| std::mem::take(&mut member.path));
        Ok(())
    }

    fn map_number(&mut self) -> io::Result<u64> {
        let mut digits = Vec::new();
        loop {
            match self.data()?.first().copied() {
                Some(b'\n') => {
                    self.consume_map(b'\n');
                    return number(&digits);
                }
                Some(digit) if digits.len() < 20 => {
                    self.consume_map(digit);
                    digits.push(digit);
                }
                _ => return Err(bad("it has a sparse file with a broken map")),
            }
        }
    }

    fn consume_map(&mut self, byte: u8) {
        self.consume(1);
        if let Some(tape) = &mut self.tape {
            tape.bytes(&[byte]);
        }
    }

    /// Stored bytes of the current member; none at its end.
    pub(crate) fn data(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let block = self.input.fill_buf()?;
        if block.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(block.len());
        Ok(&block[..count])
    }

    /// That many of them were used. They aren't recorded: whoever uses them says where they are from now on.
    pub(crate) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.left -= count as u64;
        self.position += count as u64;
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > EXTENSION_MAX {
            return Err(bad("it has a header of more than 1 MiB"));
        }
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        self.skip(size.wrapping_neg() % BLOCK)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(bytes)?;
        if let Some(tape) = &mut self.tape {
            tape.bytes(bytes);
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        match &mut self.tape {
            None => self.input.skip(count)?,
            Some(tape) => {
                let mut left = count;
                while left > 0 {
                    let there = self.input.fill_buf()?;
                    if there.is_empty() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let step = usize::try_from(left).unwrap_or(usize::MAX).min(there.len());
                    tape.bytes(&there[..step]);
                    self.input.consume(step);
                    left -= step as u64;
                }
            }
        }
        self.position += count;
        Ok(())
    }
}

#[derive(Default)]
struct Sparse {
    name: Option<Vec<u8>>,
    major: Option<u64>,
    size: Option<u64>,
    /// PAX forms 0.0 and 0.1, whose maps are records: in 0.0 one for each offset and each length, in 0.1 one for
    /// all, so that no key is there twice (GNU tar's manual, "Storing Sparse Files").
    old: Option<Map>,
    /// The piece in 0.0 whose length comes next.
    offset: Option<u64>,
}

impl Sparse {
    fn piece(&mut self, length: u64) -> io::Result<()> {
        let offset = self.offset.take().ok_or_else(|| bad("it has a sparse file with a broken map"))?;
        self.old.get_or_insert_default().add(offset, length)
    }

    fn whole_map(&mut self, text: &[u8]) -> io::Result<()> {
        let map = self.old.get_or_insert_default();
        let mut numbers = text.split(|byte| *byte == b',').filter(|_| !text.is_empty());
        while let Some(offset) = numbers.next() {
            let length = numbers.next().ok_or_else(|| bad("it has a sparse file with a broken map"))?;
            map.add(number(offset)?, number(length)?)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Map {
    pieces: Vec<(u64, u64)>,
    end: u64,
    stored: u64,
    /// How many pieces there must be, where that is said apart.
    expected: Option<u64>,
}

impl Map {
    fn add(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.checked_add(length);
        match end {
            Some(end) if offset >= self.end && self.pieces.len() < PIECES_MAX => {
                self.end = end;
                self.stored += length;
                self.pieces.push((offset, length));
                Ok(())
            }
            _ => Err(bad("it has a sparse file with a broken map")),
        }
    }

    fn finish(self, size: u64, stored: u64) -> io::Result<Vec<(u64, u64)>> {
        let complete = self.expected.is_none_or(|expected| expected == self.pieces.len() as u64);
        if self.end > size || self.stored != stored || !complete {
            return Err(bad("it has a sparse file whose map doesn't fit its size"));
        }
        Ok(self.pieces)
    }
}

fn kind(kind: EntryType) -> Kind {
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::Hardlink,
        EntryType::Fifo => Kind::Pipe,
        EntryType::Char | EntryType::Block => Kind::Device,
        other => Kind::Other(other.as_byte()),
    }
}

fn check_sum(header: &Header) -> io::Result<()> {
    let bytes = header.as_bytes();
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum();
    match header.cksum() {
        Ok(wanted) if wanted == sum + 8 * u32::from(b' ') => Ok(()),
        _ => Err(bad("a header's checksum is wrong, so this is no tar archive or a damaged one")),
    }
}

/// The header's time: octal, or in GNU's form a signed number of 12 bytes whose first bit is set.
fn old_time(header: &Header) -> io::Result<i64> {
    let field = &header.as_old().mtime;
    if field[0] & 0x80 == 0 {
        return Ok(header.mtime()? as i64);
    }
    let mut last = [0; 8];
    last.copy_from_slice(&field[4..]);
    Ok(i64::from_be_bytes(last))
}

fn number(text: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| bad("a header has a number that is none"))
}

/// Seconds since 1970 in decimal, with a fraction and a sign where need be; nanoseconds count forward.
fn time(text: &[u8]) -> io::Result<(i64, u32)> {
    let wrong = || bad("a header has a time that is none");
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| wrong())?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Ok((seconds.checked_sub(1).ok_or_else(wrong)?, 1_000_000_000 - nanoseconds));
    }
    Ok((seconds, nanoseconds))
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// PAX records: the length of the whole record in decimal, a space, key, `=`, value, line end. The value may
/// hold any byte, so only the length says where it ends.
fn records(mut bytes: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let wrong = || bad("it has a broken extended header");
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let length = usize::try_from(number(&bytes[..space])?).map_err(|_| wrong())?;
        if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(wrong());
        }
        let record = &bytes[space + 1..length - 1];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_hold_line_ends() {
        let parsed = records(b"11 a=b\nc=d\n12 path=x/y\n").expect("records");
        assert_eq!(parsed[0], (b"a".to_vec(), b"b\nc=d".to_vec()));
        assert_eq!(parsed[1].1, b"x/y");
        for wrong in [&b"11 a=b"[..], b"x a=b\n", b"6 a=bc\n", b"5 abc\n", b"99 a=b\n", b"0 a=b\n"] {
            assert!(records(wrong).is_err(), "{wrong:?} must be refused");
        }
    }

    #[test]
    fn times() {
        assert_eq!(time(b"12.5").expect("a time"), (12, 500_000_000));
        assert_eq!(time(b"-1.25").expect("a time"), (-2, 750_000_000));
        assert_eq!(time(b"-0.25").expect("a time"), (-1, 750_000_000));
        assert!(time(b"soon").is_err());
    }
}
