//! Users and groups as the root's own passwd and group files know them.
//!
//! The files are an image's, and so may be anything: a fifo, a device, a link, a gigabyte (CVE-2024-9676).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::failure::{Ends, Failure, Status};
use crate::check::UserName;
use crate::sys::{mount, resolve};

/// The most that is read of either file; a Debian root's have 2 KB.
const MOST: u64 = 4 << 20;

/// Who the container's program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Inside.
    pub uid: u32,
    /// Inside.
    pub gid: u32,
    /// Supplementary groups, inside, ordered.
    pub groups: Vec<u32>,
    /// The home directory; `/` for a user without an entry.
    pub home: String,
    /// The shell, where the entry names one.
    pub shell: Option<String>,
}

/// Looks a user and its group up in the files of the caller's root.
///
/// # Errors
/// A name that isn't there, and files that can't be read.
pub fn find(user: &UserName, group: Option<&UserName>) -> Result<Identity, Failure> {
    let root = mount::place(Path::new("/")).ends(Status::User)?;
    let passwd = read(root.as_fd(), "/etc/passwd")?;
    let groups = read(root.as_fd(), "/etc/group")?;
    resolve_in(&passwd, &groups, user, group)
}

/// Looks a user and its group up in the files of a running container's root, from outside: their numbers in the
/// container. Links count from that root, and none leads out of it.
///
/// # Errors
/// A name that isn't there, and files that can't be read.
pub fn ids_in(
    root: BorrowedFd<'_>,
    user: &UserName,
    group: Option<&UserName>,
) -> Result<(u32, u32), Failure> {
    let found = resolve_in(&look(root, "/etc/passwd")?, &look(root, "/etc/group")?, user, group)?;
    Ok((found.uid, found.gid))
}

/// As [`read`], for the host's own root user: to open a device would do something, so it is looked at first, and what
/// was looked at is opened.
fn look(root: BorrowedFd<'_>, path: &str) -> Result<String, Failure> {
    let looked_at = match resolve::open(root, path, OFlags::PATH) {
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        other => other.ends(Status::User)?,
    };
    refuse_odd(looked_at.as_fd(), path)?;
    let file = File::open(format!("/proc/self/fd/{}", looked_at.as_raw_fd())).map_err(unreadable(path))?;
    text_of(file.into(), path)
}

fn resolve_in(
    passwd: &str,
    group_file: &str,
    user: &UserName,
    group: Option<&UserName>,
) -> Result<Identity, Failure> {
    // name:password:uid:gid:comment:home:shell, passwd(5)
    let entries =
        || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|entry| entry.len() >= 6);
    // The last one means "no change" to setresuid(2).
    let number = |entry: &[&str], at: usize| entry[at].parse::<u32>().ok().filter(|id| *id != u32::MAX);
    let entry = match user {
        UserName::Name(name) => entries().find(|entry| entry[0] == name),
        UserName::Id(id) => entries().find(|entry| number(entry, 2) == Some(*id)),
    };
    let shell = entry.as_ref().and_then(|entry| entry.get(6)).filter(|shell| shell.starts_with('/'));
    let (name, uid, own_gid, home) = match (&entry, user) {
        (Some(entry), _) => match (number(entry, 2), number(entry, 3)) {
            (Some(uid), Some(gid)) => (entry[0], uid, gid, entry[5]),
            _ => {
                let problem = format!("the image's /etc/passwd has no valid ids for user {user}");
                return Err(Failure::new(Status::User, problem));
            }
        },
        (None, UserName::Id(id)) => ("", *id, 0, "/"),
        (None, UserName::Name(name)) => {
            return Err(Failure::new(Status::User, format!("user {name} is not in the image's /etc/passwd"))
                .hint("set `user` to a name that is there, or to a number"));
        }
    };
    // name:password:gid:members, group(5)
    let group_entries = || {
        group_file.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|entry| entry.len() >= 4)
    };
    let gid = match group {
        None => own_gid,
        Some(UserName::Id(id)) => *id,
        Some(UserName::Name(group)) => group_entries()
            .find(|entry| entry[0] == group)
            .and_then(|entry| number(&entry, 2))
            .ok_or_else(|| {
                Failure::new(Status::Group, format!("group {group} is not in the image's /etc/group"))
                    .hint("set `group` to a name that is there, or to a number")
            })?,
    };
    let mut groups: Vec<u32> = group_entries()
        .filter(|entry| !name.is_empty() && entry[3].split(',').any(|member| member == name))
        .filter_map(|entry| number(&entry, 2))
        .collect();
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity { uid, gid, groups, home: home.to_owned(), shell: shell.map(|shell| (*shell).to_owned()) })
}

fn read(root: BorrowedFd<'_>, path: &str) -> Result<String, Failure> {
    // O_NONBLOCK: opening a fifo must not wait for a writer.
    let fd = match resolve::open(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(fd) => fd,
        Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(Failure::new(Status::User, error)),
    };
    refuse_odd(fd.as_fd(), path)?;
    text_of(fd, path)
}

fn refuse_odd(fd: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    if resolve::kind(fd).ok() == Some(FileType::RegularFile) {
        return Ok(());
    }
    Err(Failure::new(Status::User, format!("the image's {path} is not a regular file")))
}

fn unreadable(path: &str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::new(Status::User, format!("can't read the image's {path}: {error}"))
}

fn text_of(fd: OwnedFd, path: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let size = File::from(fd).take(MOST + 1).read_to_end(&mut bytes).map_err(unreadable(path))?;
    if size as u64 > MOST {
        return Err(Failure::new(Status::User, format!("the image's {path} is larger than {MOST} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww-data:x:33:33::/var/www:\nodd:x:y:z:::\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:33:\nssl:x:101:other,www-data\nadm:x:4:www-data2\n";

    fn find(user: UserName, group: Option<UserName>) -> Result<Identity, Failure> {
        resolve_in(PASSWD, GROUP, &user, group.as_ref())
    }

    fn named(name: &str) -> UserName {
        UserName::Name(name.into())
    }

    #[test]
    fn names_numbers_and_groups() {
        let www = Identity { uid: 33, gid: 33, groups: vec![33, 101], home: "/var/www".into(), shell: None };
        assert_eq!(find(named("www-data"), None), Ok(www.clone()));
        assert_eq!(find(UserName::Id(33), None), Ok(www));
        let stranger = Identity { uid: 999, gid: 0, groups: vec![0], home: "/".into(), shell: None };
        assert_eq!(find(UserName::Id(999), None), Ok(stranger));
        let other = find(named("www-data"), Some(named("ssl"))).expect("found");
        assert_eq!((other.gid, other.groups), (101, vec![101]));
        let root = find(named("root"), None).expect("found");
        assert_eq!(root.shell.as_deref(), Some("/bin/sh"));
    }

    #[test]
    fn links_stay_in_the_root() {
        let (outside, root) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).expect("made");
        std::fs::write(outside.path().join("passwd"), "spy:x:7:7::/:\n").expect("written");
        let opened = File::open(root.path()).expect("a folder");
        let ids = |user| ids_in(opened.as_fd(), &named(user), None).map_err(|failure| failure.problem);
        std::fs::write(etc.join("passwd.real"), PASSWD).expect("written");
        std::os::unix::fs::symlink("/etc/passwd.real", etc.join("passwd")).expect("linked");
        assert_eq!(ids("www-data"), Ok((33, 33)));
        for target in [outside.path().join("passwd"), "/proc/self/root/etc/passwd".into()] {
            std::fs::remove_file(etc.join("passwd")).expect("removed");
            std::os::unix::fs::symlink(&target, etc.join("passwd")).expect("linked");
            assert_eq!(ids("spy"), Err("user spy is not in the image's /etc/passwd".to_owned()));
        }
        std::fs::remove_file(etc.join("passwd")).expect("removed");
        rustix::fs::mknodat(&opened, "etc/passwd", FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("made");
        assert_eq!(ids("www-data"), Err("the image's /etc/passwd is not a regular file".to_owned()));
    }

    #[test]
    fn what_is_not_there() {
        assert_eq!(find(named("nobody"), None).expect_err("no such user").status, Status::User);
        assert_eq!(find(named("odd"), None).expect_err("no ids").status, Status::User);
        assert_eq!(find(UserName::Id(0), Some(named("wheel"))).expect_err("no group").status, Status::Group);
    }
}
