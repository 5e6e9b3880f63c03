//! Writing tars: ustar headers, with PAX records (POSIX.1-2017, pax, "pax Interchange Format") for what doesn't fit
//! them. The same members make the same bytes.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// The largest number in eleven octal digits: 8 GiB less one.
const SIZE_MAX: u64 = (1 << 33) - 1;

/// The largest number in seven octal digits.
const ID_MAX: u32 = (1 << 21) - 1;

/// Extended attributes: names and values, sorted by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a member is, with what only it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    File {
        size: u64,
    },
    /// A file with holes: its size, and where it has content, as (offset, length). What follows the head are these
    /// pieces, one after the other.
    Sparse {
        size: u64,
        pieces: Vec<(u64, u64)>,
    },
    Directory,
    Symlink(Vec<u8>),
    /// To an earlier path.
    Hardlink(Vec<u8>),
    Pipe,
}

/// One member, but for a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Without a slash at either end; empty for the root.
    pub(crate) path: Vec<u8>,
    pub(crate) entry: Entry,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    pub(crate) xattrs: Xattrs,
}

/// Writes members one after the other.
pub(crate) struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    /// A member; after a file's, its content must follow, see [`Writer::content`]; after that of one with holes its
    /// pieces, one after the other, and [`Writer::pad`] for all of them together.
    pub(crate) fn head(&mut self, head: &Head) -> io::Result<()> {
        let Head { path, entry, mode, uid, gid, seconds, nanoseconds, xattrs } = head;
        let mut path = if path.is_empty() { b".".to_vec() } else { path.clone() };
        let mut map = Vec::new();
        let mut records = Vec::new();
        let (kind, target, size) = match entry {
            Entry::File { size } => (EntryType::Regular, &b""[..], *size),
            Entry::Sparse { size, pieces } => {
                // PAX form 1.0 (GNU tar's manual, "Storing Sparse Files"): who doesn't know it finds a file of another
                // name, with the map before the content.
                map = sparse_map(pieces, *size);
                record(&mut records, b"GNU.sparse.major", b"1");
                record(&mut records, b"GNU.sparse.minor", b"0");
                record(&mut records, b"GNU.sparse.name", &path);
                record(&mut records, b"GNU.sparse.realsize", size.to_string().as_bytes());
                let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
                path = [&path[..at], b"GNUSparseFile.0/", &path[at..]].concat();
                let stored: u64 = pieces.iter().map(|(_, length)| length).sum();
                (EntryType::Regular, &b""[..], stored + map.len() as u64)
            }
            Entry::Directory => {
                path.push(b'/');
                (EntryType::Directory, &b""[..], 0)
            }
            Entry::Symlink(target) => (EntryType::Symlink, target.as_slice(), 0),
            Entry::Hardlink(target) => (EntryType::Link, target.as_slice(), 0),
            Entry::Pipe => (EntryType::Fifo, &b""[..], 0),
        };
        let mut header = Header::new_ustar();
        put(&mut records, &mut header.as_old_mut().name, b"path", &path);
        put(&mut records, &mut header.as_old_mut().linkname, b"linkpath", target);
        if size > SIZE_MAX {
            record(&mut records, b"size", size.to_string().as_bytes());
        }
        header.set_size(if size > SIZE_MAX { 0 } else { size });
        for (key, id) in [(&b"uid"[..], *uid), (b"gid", *gid)] {
            if id > ID_MAX {
                record(&mut records, key, id.to_string().as_bytes());
            }
        }
        header.set_uid(if *uid > ID_MAX { 0 } else { (*uid).into() });
        header.set_gid(if *gid > ID_MAX { 0 } else { (*gid).into() });
        let whole = u64::try_from(*seconds).ok().filter(|seconds| *seconds <= SIZE_MAX);
        if whole.is_none() || *nanoseconds > 0 {
            record(&mut records, b"mtime", time(*seconds, *nanoseconds).as_bytes());
        }
        header.set_mtime(whole.unwrap_or(0));
        for (name, value) in xattrs {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        header.set_entry_type(kind);
        header.set_mode(*mode);
        header.set_cksum();
        if !records.is_empty() {
            self.plain(b"PaxHeaders", EntryType::XHeader, records.len() as u64)?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(&map)
    }

    /// A file that is part of an archive and of no file system: everything but its name is always the same.
    pub(crate) fn file(&mut self, path: &str, size: u64) -> io::Result<()> {
        self.plain(path.as_bytes(), EntryType::Regular, size)
    }

    fn plain(&mut self, path: &[u8], kind: EntryType, size: u64) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // Beyond eleven octal digits this is in GNU's form, which all that read archives of images know.
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    /// The content of the last file, exactly as long as its head said.
    ///
    /// # Errors
    /// `UnexpectedEof` for a shorter one.
    pub(crate) fn content(&mut self, input: impl Read, size: u64) -> io::Result<()> {
        let copied = io::copy(&mut input.take(size), &mut self.out)?;
        if copied < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(size)
    }

    /// For who writes the content himself; [`Writer::pad`] must follow.
    pub(crate) fn output(&mut self) -> &mut W {
        &mut self.out
    }

    /// What fills the last block of a content of this size.
    pub(crate) fn pad(&mut self, size: u64) -> io::Result<()> {
        let fill = size.wrapping_neg() % BLOCK as u64;
        self.out.write_all(&[0; BLOCK][..fill as usize])
    }

    /// The end of the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// How many pieces there are, and where and how long each is, in decimal lines that fill whole blocks.
fn sparse_map(pieces: &[(u64, u64)], size: u64) -> Vec<u8> {
    // By a piece of no length, GNU tar knows of a hole at the end when it unpacks.
    let end = pieces.last().map_or(0, |(offset, length)| offset + length);
    let last = (end < size).then_some((size, 0));
    let mut map = format!("{}\n", pieces.len() + usize::from(last.is_some()));
    for (offset, length) in pieces.iter().copied().chain(last) {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// Puts a name into the header's field or, where that is too short, into a record.
fn put(records: &mut Vec<u8>, field: &mut [u8; 100], key: &[u8], name: &[u8]) {
    if name.len() > field.len() {
        record(records, key, name);
    }
    let count = name.len().min(field.len());
    field[..count].copy_from_slice(&name[..count]);
}

/// The length that begins a record counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Decimal seconds. The nanoseconds count forward, also before 1970.
fn time(seconds: i64, nanoseconds: u32) -> String {
    let (sign, whole, fraction) = if seconds < 0 && nanoseconds > 0 {
        ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
    } else {
        (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs(), nanoseconds)
    };
    let text = format!("{sign}{whole}.{fraction:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::members::{Kind, Members};
    use super::*;

    #[test]
    fn times() {
        let cases =
            [(0, 0, "0"), (12, 500_000_000, "12.5"), (-2, 500_000_000, "-1.5"), (-1, 1, "-0.999999999")];
        for (seconds, nanoseconds, text) in cases {
            assert_eq!(time(seconds, nanoseconds), text);
        }
        assert_eq!(time(-3, 0), "-3");
        assert_eq!(time(100, 0), "100");
    }

    #[test]
    fn sizes_beyond_eleven_octal_digits() {
        for size in [SIZE_MAX, SIZE_MAX + 1, 1 << 40] {
            let head = Head {
                path: b"large".to_vec(),
                entry: Entry::File { size },
                mode: 0o644,
                uid: 0,
                gid: 0,
                seconds: 0,
                nanoseconds: 0,
                xattrs: Vec::new(),
            };
            let mut writer = Writer::new(Vec::new());
            writer.head(&head).expect("memory");
            writer.file("blob", size).expect("memory");
            let tar = writer.finish().expect("memory");
            let extended = tar.len() - 2 * BLOCK - 2 * BLOCK;
            let member = Members::new(&tar[..]).next().expect("a tar").expect("a member");
            assert_eq!(member.size, size);
            let member = Members::new(&tar[extended + BLOCK..]).next().expect("a tar").expect("a member");
            assert_eq!((member.path.as_slice(), member.size), (&b"blob"[..], size));
        }
    }

    #[test]
    fn holes_come_back() {
        for (size, pieces) in [(1 << 40, vec![]), (100_000, vec![(0, 3), (4096, 700)]), (9, vec![(8, 1)])] {
            let head = Head {
                path: b"sub/sparse".to_vec(),
                entry: Entry::Sparse { size, pieces: pieces.clone() },
                mode: 0o600,
                uid: 1,
                gid: 2,
                seconds: 3,
                nanoseconds: 0,
                xattrs: Vec::new(),
            };
            let mut writer = Writer::new(Vec::new());
            writer.head(&head).expect("memory");
            let stored: u64 = pieces.iter().map(|(_, length)| length).sum();
            writer.content(io::repeat(7), stored).expect("memory");
            let tar = writer.finish().expect("memory");
            let mut members = Members::new(&tar[..]);
            let member = members.next().expect("a tar").expect("a member");
            assert_eq!((member.kind, member.path.as_slice()), (Kind::File, &b"sub/sparse"[..]));
            let mut found = member.pieces.expect("holes");
            found.retain(|piece| *piece != (size, 0));
            assert_eq!((member.size, found), (size, pieces));
            assert!(members.next().expect("a tar").is_none());
        }
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        // A slash at an end, and `.` alone, would come back as something else.
        proptest::collection::vec(1u8.., 1..300)
            .prop_filter("no path", |name| !name.ends_with(b"/") && name != b"." && !name.starts_with(b"/"))
    }

    proptest! {
        #[test]
        fn members_come_back(
            path in name(), target in name(), mode in 0u32..0o10000, ids in any::<(u32, u32)>(),
            seconds in -99_999_999_999i64..99_999_999_999, nanoseconds in 0u32..1_000_000_000,
            value in proptest::collection::vec(any::<u8>(), 0..99), which in 0usize..5, size in 0u64..2000,
        ) {
            let entries: [Entry; 5] = [
                Entry::File { size }, Entry::Directory, Entry::Symlink(target.clone()), Entry::Hardlink(target.clone()),
                Entry::Pipe,
            ];
            let entry = entries[which].clone();
            let xattrs = vec![(b"user.x".to_vec(), value)];
            let head = Head {
                path: path.clone(), entry, mode, uid: ids.0, gid: ids.1, seconds, nanoseconds, xattrs: xattrs.clone(),
            };
            let mut writer = Writer::new(Vec::new());
            writer.head(&head).expect("memory");
            if which == 0 {
                writer.content(io::repeat(7), size).expect("memory");
            }
            let tar = writer.finish().expect("memory");
            let mut members = Members::new(&tar[..]);
            let member = members.next().expect("a tar").expect("a member");
            let kinds = [Kind::File, Kind::Directory, Kind::Symlink, Kind::Hardlink, Kind::Pipe];
            prop_assert_eq!(member.kind, kinds[which]);
            prop_assert_eq!(member.path.strip_suffix(b"/").unwrap_or(&member.path), &path[..]);
            prop_assert_eq!((member.mode, member.uid, member.gid), (mode, u64::from(ids.0), u64::from(ids.1)));
            prop_assert_eq!((member.seconds, member.nanoseconds), (seconds, nanoseconds));
            prop_assert_eq!(member.xattrs, xattrs);
            prop_assert_eq!(member.size, if which == 0 { size } else { 0 });
            if matches!(which, 2 | 3) {
                prop_assert_eq!(member.target, target);
            }
            prop_assert!(members.next().expect("a tar").is_none());
        }
    }
}
