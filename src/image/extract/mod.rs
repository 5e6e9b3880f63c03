//! Unpacks one layer into a tree of its own.
//!
//! A layer is hostile input. Every path is resolved by the kernel below the tree's descriptor
//! (`RESOLVE_IN_ROOT`), so that `..`, absolute links and links of links end inside the tree; the last
//! component is never followed. Nothing is synced here: the commit syncs once.

mod aside;
mod entries;
mod lists;
mod paths;
mod whiteouts;

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, XattrFlags, chownat, futimens, lsetxattr, mknodat,
    openat, readlinkat, symlinkat, utimensat,
};
use rustix::io::Errno;

use self::entries::times;
pub(super) use self::lists::clear as clear_lists;
use self::paths::{components, join};
use super::error::{Doing, ImageError, input_error, is_full};
use super::escape::field;
use super::frame::Tape;
use super::implied;
use super::manifest::{Attributes, IMPLIED, Line, Summary, Writer};
use super::members::{Kind, Member, Members};
use super::stream::Blocks;
use crate::settings::Unpack;
use crate::spec::show_size;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Unpacks what the stream holds into `tree/`, `manifest` and `frame` of an empty directory, and counts.
///
/// At the bottom of an image whiteouts hide nothing and are left out.
pub(crate) fn unpack(
    what: &str,
    stream: &mut Blocks,
    layer: &Path,
    bottom: bool,
    limits: &Unpack,
) -> Result<Summary, ImageError> {
    let root = layer.join("tree");
    DirBuilder::new().mode(0o755).create(&root).doing("make the directory", &root)?;
    let root = openat(CWD, &root, DIRECTORY, Mode::empty()).doing("open", &root)?;
    let mut extractor = Extractor {
        what,
        root_path: readlinkat(CWD, format!("/proc/self/fd/{}", root.as_raw_fd()), Vec::new())
            .doing("resolve", layer)?
            .into_bytes(),
        root,
        layer: layer.to_owned(),
        limits: *limits,
        bottom,
        aside: None,
        replaced: Vec::new(),
        parent: None,
        manifest: Writer::create(layer)?,
        summary: Summary::default(),
        opaque: BTreeSet::new(),
        implied: BTreeSet::new(),
        made: 0,
        has_default_lists: false,
    };
    // The umask must not take bits away from what a tar says; directories are made with a final mode later.
    let mut members = Members::recorded(stream, Tape::create(layer)?);
    extractor.implied(&extractor.root.try_clone().doing("open", layer)?, b".")?;
    while let Some(member) = members.next().map_err(|error| input_error(what, error))? {
        extractor.member(&member, &mut members)?;
        extractor.record_replaced(&mut members)?;
    }
    if let Some(tape) = members.finish().map_err(|error| input_error(what, error))? {
        tape.finish()?;
    }
    extractor.finish()
}

struct Extractor<'a> {
    what: &'a str,
    root: OwnedFd,
    /// Where the tree is for the kernel, to tell where a path through links has led.
    root_path: Vec<u8>,
    layer: PathBuf,
    limits: Unpack,
    bottom: bool,
    /// Where files are that were replaced, once there is one.
    aside: Option<OwnedFd>,
    /// Paths that were put there and aren't recorded yet.
    replaced: Vec<Vec<u8>>,
    /// The last parent, since the next member mostly has the same: as named, as it really is, and open.
    parent: Option<(Vec<u8>, Vec<u8>, OwnedFd)>,
    manifest: Writer,
    summary: Summary,
    opaque: BTreeSet<Vec<u8>>,
    /// Directories that were made for what is in them, and that no member has described.
    implied: BTreeSet<Vec<u8>>,
    /// How many of them were made, beside the root.
    made: u64,
    /// A directory of this layer has a default access list, by which others below it get some.
    has_default_lists: bool,
}

impl Extractor<'_> {
    fn refuse(&self, path: &[u8], why: impl Into<String>) -> ImageError {
        ImageError::Member {
            member: String::from_utf8(path.to_vec()).unwrap_or_else(|_| field(path)),
            what: self.what.to_owned(),
            why: why.into(),
            source: None,
        }
    }

    /// An error of the kernel's about one member.
    fn kernel<'s>(&'s self, path: &'s [u8], why: &'static str) -> impl Fn(Errno) -> ImageError + 's {
        move |errno| {
            let source = std::io::Error::from(errno);
            if is_full(&source) {
                let path = Path::new(std::str::from_utf8(&self.root_path).unwrap_or("the store")).to_owned();
                return ImageError::Full { path, source };
            }
            match self.refuse(path, why) {
                ImageError::Member { member, what, why, .. } => {
                    ImageError::Member { member, what, why, source: Some(source) }
                }
                other => other,
            }
        }
    }

    /// Tells the frame what was put aside: before the content that takes its place.
    fn record_replaced(&mut self, members: &mut Members<&mut Blocks>) -> Result<(), ImageError> {
        let Some(tape) = members.tape() else { return Ok(()) };
        for path in self.replaced.drain(..) {
            tape.aside(&path);
        }
        tape.check()
    }

    fn member(&mut self, member: &Member, data: &mut Members<&mut Blocks>) -> Result<(), ImageError> {
        let path = member.path.as_slice();
        self.summary.entries += 1;
        self.within_entries(path)?;
        let bytes = self.limits.bytes;
        self.summary.bytes = self.summary.bytes.saturating_add(member.size);
        if self.summary.bytes > bytes {
            let why = format!(
                "makes it larger than {}; if you trust it, raise `bytes` under [unpack] in wharf.toml",
                show_size(bytes)
            );
            return Err(self.refuse(path, why));
        }
        let parts = components(path).map_err(|why| self.refuse(path, why))?;
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(member.uid), id(member.gid)) else {
            return Err(self.refuse(path, "has an owner that Linux has no number for"));
        };
        let (seconds, nanoseconds) = (member.seconds, member.nanoseconds);
        let attributes = Attributes { mode: member.mode, uid, gid, seconds, nanoseconds };
        let Some((name, above)) = parts.split_last() else {
            if member.kind != Kind::Directory {
                return Err(self.refuse(path, "is the root, and no directory"));
            }
            let root = self.root.try_clone().doing("open", "the tree")?;
            return self.directory_done(&root, b".", &attributes, &member.xattrs);
        };
        let above = above.join(&b'/');
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(path, &above, hidden);
        }
        match member.kind {
            Kind::Whiteout => return self.whiteout(path, &above, name),
            Kind::Device => {
                self.summary.devices += 1;
                return Ok(());
            }
            // A volume label names the archive, and a dump directory lists what was in one.
            Kind::Other(b'V') => return Ok(()),
            Kind::Other(kind) => {
                let why = format!("has the type `{}`, which no file has", kind.escape_ascii());
                return Err(self.refuse(path, why));
            }
            _ => {}
        }
        let real = self.enter(path, &above)?;
        let full = join(&real, name);
        let (file, line) = match member.kind {
            Kind::Directory => return self.directory(path, name, &full, &attributes, &member.xattrs),
            Kind::File => return self.file(member, name, full, attributes, data),
            Kind::Hardlink => return self.hardlink(path, &member.target, name, full),
            Kind::Symlink => {
                if member.target.is_empty() || member.target.contains(&0) {
                    return Err(self.refuse(path, "is a link to nothing"));
                }
                let target = member.target.clone();
                (None, Line::Symlink { attributes, target, path: full.clone() })
            }
            _ => (Some(FileType::Fifo), Line::Pipe(attributes, full.clone())),
        };
        self.create(path, name, &full, |parent| match file {
            None => symlinkat(member.target.as_slice(), parent, *name),
            Some(kind) => mknodat(parent, *name, kind, Mode::RUSR | Mode::WUSR, 0),
        })?;
        if file.is_some() {
            self.uninherit_at(path, name)?;
        }
        let parent = self.open_parent().try_clone().doing("open", "the tree")?;
        let error = self.kernel(path, "can't be given its owner, mode or time");
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(&parent, *name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(&error)?;
        if file.is_some() {
            // The last component is the pipe that was just made, in a tree that nobody else can reach.
            let mode = Mode::from_raw_mode(attributes.mode);
            rustix::fs::chmodat(&parent, *name, mode, AtFlags::empty()).map_err(&error)?;
        }
        utimensat(&parent, *name, &times(&attributes), AtFlags::SYMLINK_NOFOLLOW).map_err(&error)?;
        drop(error);
        self.manifest.add(&line)?;
        let by_descriptor = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
        self.xattrs(&full, &member.xattrs, |name, value| {
            lsetxattr(by_descriptor.as_slice(), name, value, XattrFlags::empty())
        })
    }

    /// Folders that have to be made count as if the archive had them: one member may imply a whole chain.
    fn within_entries(&self, path: &[u8]) -> Result<(), ImageError> {
        let entries = self.limits.entries;
        if self.summary.entries.saturating_add(self.made) <= entries {
            return Ok(());
        }
        let why = format!(
            "is one too many: {entries} are allowed; if you trust it, raise `entries` under [unpack] in wharf.toml"
        );
        Err(self.refuse(path, why))
    }

    fn finish(mut self) -> Result<Summary, ImageError> {
        self.manifest.flush()?;
        if !self.opaque.is_empty() {
            self.drop_whiteouts_in_opaque()?;
            self.manifest.flush()?;
        }
        // From the manifest, so that a million directories cost no memory.
        for line in self.manifest.lines()? {
            let (attributes, path) = match line? {
                Line::Directory(attributes, path) => (attributes, path),
                Line::Implied(path) => (IMPLIED, path),
                _ => continue,
            };
            match self.open(&path) {
                Ok((real, directory)) if real == path => {
                    futimens(&directory, &times(&attributes))
                        .map_err(self.kernel(&path, "can't be given its time"))?;
                }
                // It was replaced by something else later.
                _ => {}
            }
        }
        if !self.implied.is_empty() {
            let list = self.layer.join(implied::LIST);
            super::store::write_file(&list, implied::text(&self.implied).as_bytes())?;
        }
        Ok(self.summary)
    }
}
