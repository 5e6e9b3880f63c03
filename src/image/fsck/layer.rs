//! One layer: what its manifest says, and what is there.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::ops::Bound;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, Stat, fstat, lgetxattr, llistxattr, lremovexattr, openat, readlinkat,
};
use rustix::io::Errno;

use super::attributes::{Lost, compare, is_checked, is_list};
use crate::image::digest::{Digest, Hasher};
use crate::image::error::{ImageError, chain};
use crate::image::escape::field;
use crate::image::implied;
use crate::image::manifest::{self, Attributes, IMPLIED, Line};
use crate::image::usage::threads;
use crate::image::walk::{DIRECTORY, Found, Next, walk};

/// Where a time that a tar has may not fit a file system's inodes (32 bits of seconds, as ext3's and XFS's
/// without `bigtime`), the kernel writes down the nearest one, and nothing can be compared.
const TIMES: std::ops::RangeInclusive<i64> = i32::MIN as i64..=i32::MAX as i64;

/// Files that wait for somebody to hash them, each with the descriptor of its directory.
const WAITING: usize = 64;

/// What is wrong with one file of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) path: Vec<u8>,
    /// Sentences, from the verb on.
    pub(crate) what: Vec<String>,
    pub(crate) kind: WrongKind,
}

/// What a repair can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WrongKind {
    /// Mode, owner or time: the manifest knows them.
    Attributes,
    /// It isn't the layer's.
    Foreign,
    /// The layer has to be unpacked again.
    Lost,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What a check has found.
pub(crate) struct Checked {
    /// By path.
    pub(crate) found: Vec<Wrong>,
    pub(crate) counts: Counts,
    /// What is wrong with the list of implied folders.
    pub(crate) list: Option<String>,
}

/// How thoroughly, and who is told how many bytes of files were passed.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) quick: bool,
    pub(crate) progress: &'a (dyn Fn(u64) + Sync),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File { size: u64, digest: Digest },
    Symlink(Vec<u8>),
    Pipe,
    Whiteout,
}

/// Something with an inode, which may have several names.
#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    attributes: Attributes,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    names: usize,
    /// Where it was found: all names must lead to the same.
    inode: Option<u64>,
}

/// One of a node's names. A layer may have a million, so it is kept once, with what has become of it.
#[derive(Clone, Copy, Debug)]
struct Name {
    node: u32,
    seen: bool,
}

/// What a manifest says in the end.
#[derive(Default)]
pub(crate) struct Expected {
    nodes: Vec<Node>,
    paths: BTreeMap<Vec<u8>, Name>,
    /// Directories that the layer leaves to be made.
    implied: BTreeSet<Vec<u8>>,
}

impl Expected {
    /// Replays a manifest.
    pub(crate) fn read(layer: &Path) -> Result<Self, ImageError> {
        let mut expected = Self::default();
        for line in manifest::read(&layer.join("manifest"))? {
            expected.line(line?);
        }
        for name in expected.paths.values() {
            expected.nodes[name.node as usize].names += 1;
        }
        Ok(expected)
    }

    fn put(&mut self, path: Vec<u8>, kind: Kind, attributes: Attributes) {
        let node = Node { kind, attributes, xattrs: BTreeMap::new(), names: 0, inode: None };
        self.nodes.push(node);
        // A layer has four million members at most.
        let node = u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX);
        self.paths.insert(path, Name { node, seen: false });
    }

    fn line(&mut self, line: Line) {
        match line {
            Line::Directory(attributes, path) => {
                self.implied.remove(&path);
                // A directory that is listed again keeps what is in it, and its extended attributes.
                let there = self.paths.get(&path).map(|name| &mut self.nodes[name.node as usize]);
                match there.filter(|node| node.kind == Kind::Directory) {
                    Some(node) => node.attributes = attributes,
                    None => self.put(path, Kind::Directory, attributes),
                }
            }
            Line::Implied(path) => {
                self.implied.insert(path.clone());
                self.put(path, Kind::Directory, IMPLIED);
            }
            Line::File { attributes, size, digest, path } => {
                self.put(path, Kind::File { size, digest }, attributes);
            }
            Line::Symlink { attributes, target, path } => self.put(path, Kind::Symlink(target), attributes),
            Line::Pipe(attributes, path) => self.put(path, Kind::Pipe, attributes),
            Line::Whiteout(path) => self.put(path, Kind::Whiteout, Attributes::default()),
            Line::Hardlink { target, path } => {
                if let Some(name) = self.paths.get(&target).copied() {
                    self.paths.insert(path, name);
                }
            }
            Line::Xattr { name, value, path } => {
                if let Some(there) = self.paths.get(&path) {
                    self.nodes[there.node as usize].xattrs.insert(name, value);
                }
            }
            Line::Opaque(path) => {
                if let Some(there) = self.paths.get(&path) {
                    self.nodes[there.node as usize]
                        .xattrs
                        .insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
                }
            }
            Line::Gone(path) => {
                let below = [&path[..], b"/"].concat();
                let from = (Bound::Included(below.clone()), Bound::Unbounded);
                let gone: Vec<_> = self
                    .paths
                    .range(from)
                    .map(|(path, _)| path.clone())
                    .take_while(|path| path.starts_with(&below))
                    .collect();
                for path in gone.iter().chain([&path]) {
                    self.paths.remove(path);
                    self.implied.remove(path);
                }
            }
        }
    }

    /// The directories that it leaves to be made.
    pub(crate) fn implied(&self) -> &BTreeSet<Vec<u8>> {
        &self.implied
    }

    /// What the manifest says about a path's mode, owner and time, and whether it has a mode of its own.
    pub(crate) fn attributes(&self, path: &[u8]) -> Option<(Attributes, bool)> {
        let node = &self.nodes[self.paths.get(path)?.node as usize];
        Some((node.attributes, !matches!(node.kind, Kind::Symlink(_))))
    }
}

/// Takes the access lists away that a file has and its layer's manifest doesn't know. `path` is by way of the
/// directory's descriptor.
pub(super) fn remove_foreign_lists(expected: &Expected, path: &[u8], real: &[u8]) -> Result<(), Errno> {
    let wanted = expected.paths.get(path).map(|name| &expected.nodes[name.node as usize].xattrs);
    let mut list = vec![0; LIST_MAX];
    let length = match llistxattr(real, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno),
    };
    for name in list[..length].split(|byte| *byte == 0).filter(|name| is_list(name)) {
        if !wanted.is_some_and(|wanted| wanted.contains_key(name)) {
            lremovexattr(real, name)?;
        }
    }
    Ok(())
}

/// The most that Linux lists, and the most that one attribute holds (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const LIST_MAX: usize = 1 << 16;

/// A file whose contents are to be hashed.
struct Job {
    parent: Arc<OwnedFd>,
    name: CString,
    path: Vec<u8>,
    size: u64,
    digest: Digest,
}

/// Compares a layer with its manifest.
///
/// # Errors
/// The layer's manifest or its tree can't be read at all.
pub(crate) fn check(layer: &Path, how: How<'_>) -> Result<Checked, ImageError> {
    let expected = Expected::read(layer)?;
    let list = match implied::read(layer) {
        Ok(list) if list == expected.implied => None,
        Ok(_) => Some("doesn't name the folders that the layer leaves to be made".to_owned()),
        Err(error) => Some(format!("can't be used: {}", chain(&error))),
    };
    let tree = layer.join("tree");
    let root = openat(CWD, &tree, DIRECTORY, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => ImageError::Damaged { path: tree.clone(), why: "is missing".to_owned() },
        errno => ImageError::Io { doing: "open", path: tree.clone(), source: errno.into() },
    })?;
    let root = Arc::new(root);
    let found = Mutex::new(Vec::new());
    let (give, take) = sync_channel::<Job>(WAITING);
    let take = Mutex::new(take);
    let counts = std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| hash_all(&take, &found, how));
        }
        // The hashing threads end when this has: the sender goes with it.
        let aside = names_aside(&layer.join("aside"));
        let (counts, list) = (Counts::default(), RefCell::default());
        Comparison { expected, found: &found, give, how, aside, counts, list }.run(&root)
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Of one file in one order, whoever was first to see what.
    found.sort_by(|one: &Wrong, other| (&one.path, &one.what).cmp(&(&other.path, &other.what)));
    // Contents are found wrong by others than mode and owner.
    found.dedup_by(|second, first| {
        let same = second.path == first.path;
        if same {
            first.what.append(&mut second.what);
            first.kind = first.kind.max(second.kind);
        }
        same
    });
    Ok(Checked { found, counts, list })
}

/// How many names each inode has among the files that a later member of the tar has replaced: other names of theirs
/// may still be in the tree.
fn names_aside(folder: &Path) -> BTreeMap<u64, usize> {
    let mut names = BTreeMap::new();
    // Without the folder nothing was replaced; what can't be read shows as other hard links than there should be.
    if let Ok(root) = openat(CWD, folder, DIRECTORY, Mode::empty()) {
        let mut count = |found: Found<'_>| {
            *names.entry(found.stat.st_ino).or_default() += 1;
            Next::Descend
        };
        walk(&Arc::new(root), &mut count, &mut |_, _| ());
    }
    names
}

struct Comparison<'a> {
    expected: Expected,
    found: &'a Mutex<Vec<Wrong>>,
    give: SyncSender<Job>,
    how: How<'a>,
    /// See [`names_aside`].
    aside: BTreeMap<u64, usize>,
    counts: Counts,
    /// Room for names of attributes, which needn't be made for each file.
    list: RefCell<Vec<u8>>,
}

impl Comparison<'_> {
    fn wrong(&self, path: &[u8], kind: WrongKind, what: Vec<String>) {
        let wrong = Wrong { path: path.to_vec(), what, kind };
        self.found.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
    }

    fn run(mut self, root: &Arc<OwnedFd>) -> Counts {
        if let Ok(stat) = fstat(root) {
            self.visit(Found { parent: root, name: c".", path: b".", stat });
        }
        let mut unreadable = Vec::new();
        walk(root, &mut |found| self.visit(found), &mut |path, errno| {
            unreadable.push((path.to_vec(), errno))
        });
        let mut hidden = BTreeSet::new();
        for (path, errno) in unreadable {
            self.wrong(
                &path,
                WrongKind::Lost,
                vec![format!("can't be read: {}", std::io::Error::from(errno))],
            );
            if let Some(name) = self.expected.paths.get_mut(&path) {
                name.seen = true;
            }
            hidden.insert(path);
        }
        self.missing(&hidden);
        self.counts
    }

    /// What nobody has come by. Of a directory that is missing with all that is in it, only the directory is told.
    fn missing(&self, hidden: &BTreeSet<Vec<u8>>) {
        let mut told: Vec<(&[u8], u64)> = Vec::new();
        for (path, _) in self.expected.paths.iter().filter(|(_, name)| !name.seen) {
            if above(path).any(|above| hidden.contains(above)) {
                continue;
            }
            match told.iter_mut().rev().find(|(missing, _)| above(path).any(|above| above == *missing)) {
                Some((_, count)) => *count += 1,
                None => told.push((path, 0)),
            }
        }
        for (path, below) in told {
            let what = match below {
                0 => "is missing".to_owned(),
                more => format!("is missing, and {more} below it"),
            };
            self.wrong(path, WrongKind::Lost, vec![what]);
        }
    }

    fn visit(&mut self, found: Found<'_>) -> Next {
        let Found { parent, name, path, stat } = found;
        let Some(known) = self.expected.paths.get_mut(path) else {
            let what = "is foreign: the layer was unpacked without it";
            self.wrong(path, WrongKind::Foreign, vec![what.to_owned()]);
            return Next::PassOver;
        };
        known.seen = true;
        let index = known.node as usize;
        self.counts.files += 1;
        let node = &mut self.expected.nodes[index];
        let first_name = node.inode.is_none();
        let other = node.inode.replace(stat.st_ino).is_some_and(|inode| inode != stat.st_ino);
        let node = &self.expected.nodes[index];
        let (wanted, there) = (kind_text(&node.kind), type_text(&stat));
        if wanted != there {
            let what = format!("is {there}, and should be {wanted}");
            // What should lie in a directory is missing then, which goes without saying.
            self.wrong(path, WrongKind::Lost, vec![what]);
            let below = [path, b"/"].concat();
            let from = (Bound::Included(below.clone()), Bound::Unbounded);
            let all = self.expected.paths.range_mut(from).take_while(|(path, _)| path.starts_with(&below));
            all.for_each(|(_, name)| name.seen = true);
            return Next::PassOver;
        }
        let mut lost = Vec::new();
        if let Kind::File { size, digest } = &node.kind {
            let there = u64::try_from(stat.st_size).unwrap_or_default();
            if there != *size {
                lost.push(format!("has {there} bytes, and should have {size}"));
                (self.how.progress)(*size);
            } else if !first_name {
            } else if self.how.quick {
                (self.how.progress)(*size);
            } else {
                let (parent, name, path) = (parent.clone(), name.to_owned(), path.to_vec());
                // It fails only where every hashing thread is gone, and then the scope ends in a panic.
                let _ = self.give.send(Job { parent, name, path, size: *size, digest: *digest });
            }
            if first_name {
                self.counts.bytes += size;
            }
        }
        let mut attributes = Vec::new();
        if !self.how.quick {
            let elsewhere = self.aside.get(&stat.st_ino).copied().unwrap_or_default();
            let names = usize::try_from(stat.st_nlink).unwrap_or_default().saturating_sub(elsewhere);
            if other || (node.kind != Kind::Directory && names != node.names) {
                lost.push(format!("has other hard links: {names} names, and should have {}", node.names));
            }
            self.deeply(parent, name, &stat, node, &mut lost, &mut attributes);
        }
        if !lost.is_empty() {
            lost.append(&mut attributes);
            self.wrong(path, WrongKind::Lost, lost);
        } else if !attributes.is_empty() {
            self.wrong(path, WrongKind::Attributes, attributes);
        }
        Next::Descend
    }

    /// Target, mode, owner, time and extended attributes.
    fn deeply(
        &self,
        parent: &Arc<OwnedFd>,
        name: &CStr,
        stat: &Stat,
        node: &Node,
        lost: &mut Vec<String>,
        attributes: &mut Vec<String>,
    ) {
        if let Kind::Symlink(target) = &node.kind {
            match readlinkat(parent, name, Vec::new()) {
                Ok(there) if there.to_bytes() == target.as_slice() => {}
                Ok(there) => {
                    lost.push(format!(
                        "leads to {}, and should to {}",
                        field(there.to_bytes()),
                        field(target)
                    ));
                }
                Err(errno) => lost.push(format!("can't be read: {}", std::io::Error::from(errno))),
            }
        }
        let Attributes { mode, uid, gid, seconds, nanoseconds } = node.attributes;
        let mode_there = stat.st_mode & 0o7777;
        if !matches!(node.kind, Kind::Symlink(_) | Kind::Whiteout) && mode_there != mode {
            attributes.push(format!("has the mode {mode_there:04o}, and should have {mode:04o}"));
        }
        if (stat.st_uid, stat.st_gid) != (uid, gid) {
            let (uid_there, gid_there) = (stat.st_uid, stat.st_gid);
            attributes.push(format!("belongs to {uid_there}:{gid_there}, and should to {uid}:{gid}"));
        }
        let time_there: (i64, u64) = (stat.st_mtime, stat.st_mtime_nsec as _);
        if node.kind != Kind::Whiteout
            && TIMES.contains(&seconds)
            && time_there != (seconds, u64::from(nanoseconds))
        {
            attributes.push(format!(
                "was modified at {}.{:09}, and should at {seconds}.{nanoseconds:09} (seconds since 1970)",
                time_there.0, time_there.1
            ));
        }
        match xattrs(parent, name, &self.list) {
            Ok(there) => {
                for found in compare(&node.xattrs, &there) {
                    let what = match &found {
                        Lost::Missing(name) => format!("has lost its attribute {}", field(name)),
                        Lost::Changed(name) => format!("has another value in its attribute {}", field(name)),
                        Lost::Foreign(name) => format!("has the attribute {}, and should not", field(name)),
                    };
                    let is_mendable = matches!(&found, Lost::Foreign(name) if is_list(name));
                    if is_mendable { &mut *attributes } else { &mut *lost }.push(what);
                }
            }
            Err(errno) => {
                lost.push(format!("has attributes that can't be read: {}", std::io::Error::from(errno)));
            }
        }
    }
}

/// The directories above a path, the nearest first.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.map(|at| &path[..at])
}

fn kind_text(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "a directory",
        Kind::File { .. } => "a file",
        Kind::Symlink(_) => "a symbolic link",
        Kind::Pipe => "a named pipe",
        Kind::Whiteout => "a whiteout",
    }
}

fn type_text(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => "a directory",
        FileType::RegularFile => "a file",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::CharacterDevice if stat.st_rdev == 0 => "a whiteout",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "a socket",
    }
}

/// The extended attributes that are compared, by way of the directory's descriptor, so that links aren't followed.
fn xattrs(
    parent: &OwnedFd,
    name: &CStr,
    list: &RefCell<Vec<u8>>,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let mut list = list.borrow_mut();
    list.resize(LIST_MAX, 0);
    let length = match llistxattr(path.as_slice(), &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno),
    };
    let mut found = BTreeMap::new();
    for attribute in list[..length].split(|byte| *byte == 0).filter(|attribute| is_checked(attribute)) {
        let mut value = vec![0; LIST_MAX];
        let length = lgetxattr(path.as_slice(), attribute, &mut value[..])?;
        value.truncate(length);
        found.insert(attribute.to_vec(), value);
    }
    Ok(found)
}

fn hash_all(jobs: &Mutex<Receiver<Job>>, found: &Mutex<Vec<Wrong>>, how: How<'_>) {
    let mut block = vec![0; 256 << 10];
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let what = match hash(&job, &mut block, how) {
            Ok(digest) if digest == job.digest => continue,
            Ok(digest) => format!("has other contents: {digest}, and should be {}", job.digest),
            Err(error) => format!("can't be read: {}", chain(&error)),
        };
        let wrong = Wrong { path: job.path, what: vec![what], kind: WrongKind::Lost };
        found.lock().unwrap_or_else(PoisonError::into_inner).push(wrong);
    }
}

fn hash(job: &Job, block: &mut [u8], how: How<'_>) -> std::io::Result<Digest> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // Without a write for each file that is read, where the kernel lets us.
    let opened = openat(&job.parent, &job.name, flags | OFlags::NOATIME, Mode::empty())
        .or_else(|_| openat(&job.parent, &job.name, flags, Mode::empty()))?;
    let mut file = File::from(opened);
    let mut hasher = Hasher::default();
    let mut read = 0;
    loop {
        match file.read(block) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&block[..count]);
                (how.progress)(count as u64);
                read += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                (how.progress)(job.size.saturating_sub(read));
                return Err(error);
            }
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_replayed() {
        let folder = tempfile::tempdir().expect("a folder");
        let digest = Digest::of(b"").hex();
        let manifest = format!(
            "d 0755 0 0 0.000000000 .\nd 0755 0 0 0.000000000 a\nf 0644 0 0 1.000000000 0 {digest} a/b\n\
             h a/b a-link\nx user.x 00 a/b\n- a\nw a\nd 0700 1 2 3.000000000 a\no a\nd 0711 1 2 3.000000000 a\n"
        );
        std::fs::write(folder.path().join("manifest"), manifest).expect("written");
        let expected = Expected::read(folder.path()).expect("read");
        let names: Vec<_> = expected.paths.keys().map(Vec::as_slice).collect();
        assert_eq!(names, [&b"."[..], b"a", b"a-link"]);
        let node = |path: &[u8]| &expected.nodes[expected.paths[path].node as usize];
        assert_eq!(node(b"a-link").names, 1);
        assert_eq!(node(b"a-link").xattrs.len(), 1);
        assert_eq!((node(b"a").attributes.mode, node(b"a").xattrs.len()), (0o711, 1));
        assert_eq!(above(b"a/b/c").collect::<Vec<_>>(), [&b"a/b"[..], b"a"]);
    }
}
