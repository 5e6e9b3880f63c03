//! What is mounted, as the kernel lists it for each process: /proc/PID/mountinfo (proc_pid_mountinfo(5)).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// A mounted file system, or a folder of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// As `STATX_MNT_ID` has it (statx(2)).
    pub id: u64,
    /// Major and minor number of the file system, with a colon between.
    pub device: String,
    /// What of the file system is mounted: `/`, or a folder or file in it.
    pub root: PathBuf,
    /// Where, as the process sees it.
    pub point: PathBuf,
    /// The kind of file system, as `overlay`.
    pub kind: String,
}

impl Mount {
    /// From a line; nothing where it is none.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
        let id = text(fields.next()?).parse().ok()?;
        let device = text(fields.nth(1)?);
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        // Between those and the kind are any number of fields, and a dash.
        let kind = text(fields.skip_while(|field| *field != b"-").nth(1)?);
        Some(Self { id, device, root, point, kind })
    }
}

/// As the kernel writes names there: space, tab, newline and backslash are a backslash and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut name = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                name.push(byte);
                rest = &after[3..];
            }
            None => {
                name.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(name).into()
}

/// The lines of such a list, in the kernel's order: what covers something comes after it.
pub fn parse(list: &[u8]) -> impl Iterator<Item = Mount> {
    list.split(|byte| *byte == b'\n').filter_map(Mount::parse)
}

/// What a process sees.
///
/// # Errors
/// Reading it; a process that has ended.
pub fn seen_by(pid: i32) -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(format!("/proc/{pid}/mountinfo"))?).collect())
}

/// What this process sees, and where that is listed.
///
/// # Errors
/// Reading it; there is no /proc.
pub fn own() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read(OWN)?).collect())
}

/// Where [`own`] looks, for those who say that it failed.
pub const OWN: &str = "/proc/self/mountinfo";

/// A process, and the list of what it sees.
#[derive(Debug)]
pub struct Seen {
    /// Its number.
    pub pid: String,
    /// The list as it is, for [`parse`].
    pub list: Vec<u8>,
}

/// What all processes see, each list once: with the first of those that have their mount namespace and their root in
/// common, as the list has what lies below the root. On a server with a thousand processes that is a list for each
/// container, in place of a thousand. Of a process that ends meanwhile there may be nothing.
pub fn seen_by_all() -> impl Iterator<Item = Seen> {
    let mut known = BTreeSet::new();
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(move |entry| {
        let pid = entry.file_name().into_string().ok()?;
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let folder = entry.path();
        // Whose view can't be told from others' has one of its own.
        let before = view(&folder).ok();
        if before.as_ref().is_some_and(|view| known.contains(view)) {
            return None;
        }
        // Where it has just ended, another one may still have that view.
        let list = fs::read(folder.join("mountinfo")).ok()?;
        // Where it has another view by now, nobody knows whose list that is.
        known.extend(before.filter(|before| view(&folder).is_ok_and(|after| after == *before)));
        Some(Seen { pid, list })
    })
}

/// What tells the views of two processes apart: the mount namespace, and the mount and the file that are the root there.
/// No file system is asked, as that of a server that is away would not answer.
fn view(process: &Path) -> io::Result<(PathBuf, u64, u64)> {
    let namespace = fs::read_link(process.join("ns/mnt"))?;
    let wanted = StatxFlags::MNT_ID | StatxFlags::INO;
    let root = statx(CWD, process.join("root"), AtFlags::STATX_DONT_SYNC, wanted)?;
    Ok((namespace, root.stx_mnt_id, root.stx_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let line =
            b"36 35 98:0 /mnt1/a\\040b /mnt2/x\\134y rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = Mount {
            id: 36,
            device: "98:0".to_owned(),
            root: "/mnt1/a b".into(),
            point: "/mnt2/x\\y".into(),
            kind: "ext3".to_owned(),
        };
        assert_eq!(Mount::parse(line), Some(mount.clone()));
        // With none of the optional fields, or several of them.
        for fields in ["", "shared:7 master:1 propagate_from:2 "] {
            let line = format!(
                "36 35 98:0 /mnt1/a\\040b /mnt2/x\\134y rw {fields}- ext3 /dev/root rw,errors=continue"
            );
            assert_eq!(Mount::parse(line.as_bytes()), Some(mount.clone()), "{fields:?}");
        }
        for cut in [&b"36 35"[..], b"", b"x 35 98:0 / / rw - ext3", b"36 35 98:0 / / rw"] {
            assert_eq!(Mount::parse(cut), None);
        }
    }

    #[test]
    fn names_of_any_bytes() {
        let name = |field: &[u8]| unescaped(field).into_os_string().into_vec();
        assert_eq!(name(b"/a\\040\\011\\012\\134b"), b"/a \t\n\\b");
        assert_eq!(name(b"/\xff\\040\xfe"), b"/\xff \xfe");
        // What the kernel doesn't write.
        assert_eq!(name(b"/a\\04"), b"/a\\04");
        assert_eq!(name(b"/a\\999"), b"/a\\999");
    }

    #[test]
    fn each_view_once() {
        let child = || std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let mut children = [child(), child()];
        let all: Vec<Seen> = seen_by_all().collect();
        // They and this process see the same.
        let mut alike: Vec<String> = children.iter().map(|child| child.id().to_string()).collect();
        alike.push(std::process::id().to_string());
        for child in &mut children {
            child.kill().and_then(|()| child.wait()).expect("its end");
        }
        let found: Vec<&String> =
            all.iter().map(|seen| &seen.pid).filter(|pid| alike.contains(pid)).collect();
        assert!(found.len() <= 1, "{found:?}");
        let root = |mount: &Mount| mount.point == Path::new("/");
        let own = own().expect("a list").into_iter().find(root).expect("a root");
        assert!(all.iter().any(|seen| parse(&seen.list).any(|mount| mount == own)), "{}", all.len());
    }
}
