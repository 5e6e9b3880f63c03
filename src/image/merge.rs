//! The layers of an image as one tree, as overlayfs shows it, without a mount.
//!
//! Each folder is read in every layer that has it; nothing is kept but the names on the way down, so memory doesn't
//! grow with the tree. Paths are opened below a layer's root and without links: a path through a link of another
//! layer isn't that path in the merged tree.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, fstat, getxattr, listxattr,
    openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use super::error::{Doing, ImageError};
use super::implied;
use super::pax::Xattrs;
use crate::tree::DEPTH_MAX;

/// Layers on top of one another.
pub(crate) struct Merged {
    /// The highest first.
    layers: Vec<Layer>,
}

struct Layer {
    path: PathBuf,
    root: OwnedFd,
    /// Folders that look as the layers below say.
    implied: BTreeSet<Vec<u8>>,
}

/// Something of the merged tree.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) stat: Stat,
    /// The layer that it is of; the highest is 0. A folder is of several, and has its attributes from this one: the
    /// highest that says something about it.
    pub(crate) layer: usize,
    /// The layers that have it, of a folder; the highest first.
    below: Vec<usize>,
}

impl Node {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// What becomes of a name, from the highest layer down.
#[derive(Default)]
struct Deciding {
    node: Option<Node>,
    /// No layer further down says anything about it: because of a whiteout, which is nothing there, of something else
    /// than a folder, or of an opaque folder.
    decided: bool,
    /// It is a folder, and no layer has said yet how it looks.
    implied: bool,
}

/// The folder that a path lies in and its name there; nothing for the root.
pub(crate) fn parent_and_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    let at = path.iter().rposition(|byte| *byte == b'/');
    Some(at.map_or((&path[..0], path), |at| (&path[..at], &path[at + 1..])))
}

/// A path below a tree, for messages.
fn shown(root: &Path, path: &[u8]) -> PathBuf {
    root.join(String::from_utf8_lossy(path).as_ref())
}

/// Opens what is at a path below a folder, which never leads through a link or out of it; empty for the folder.
pub(crate) fn open_below(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), inside)
}

/// The extended attributes of something that is open, perhaps only as a path (`O_PATH`), sorted by name.
pub(crate) fn attributes(opened: &OwnedFd) -> Result<Xattrs, Errno> {
    // Such a descriptor takes no attribute calls itself; its entry in /proc does, also that of a link, which isn't
    // followed any further (open(2), O_PATH).
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let mut list = vec![0; 1 << 12];
    let length = loop {
        match listxattr(&path, &mut list[..]) {
            Err(Errno::RANGE) if list.len() < 1 << 16 => list.resize(1 << 16, 0),
            // The file system has none.
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            other => break other?,
        }
    };
    let mut found = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 1 << 10];
        let length = loop {
            match getxattr(&path, name, &mut value[..]) {
                Err(Errno::RANGE) if value.len() < 1 << 16 => value.resize(1 << 16, 0),
                other => break other?,
            }
        };
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_bytes().to_vec());
        }
    }
    names.sort();
    Ok(names)
}

impl Merged {
    /// The trees, the lowest first.
    pub(crate) fn open(trees: &[PathBuf]) -> Result<Self, ImageError> {
        let mut layers = Vec::new();
        for tree in trees.iter().rev() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = openat(CWD, tree, flags, Mode::empty()).doing("open", tree)?;
            let implied = tree.parent().map(implied::read).transpose()?.unwrap_or_default();
            layers.push(Layer { path: tree.clone(), root, implied });
        }
        Ok(Self { layers })
    }

    /// What layers with something below them only imply.
    pub(crate) fn implied_above_the_lowest(&self) -> impl Iterator<Item = &[u8]> {
        let above = self.layers.len().saturating_sub(1);
        self.layers[..above].iter().flat_map(|layer| &layer.implied).map(Vec::as_slice)
    }

    /// Whether a folder's attributes are those that overlayfs would show.
    pub(crate) fn looks_as_on_top(&self, path: &[u8], node: &Node) -> Result<bool, ImageError> {
        let top = match node.below.first() {
            Some(&top) if top != node.layer => Node { layer: top, ..node.clone() },
            _ => return Ok(true),
        };
        let opened = self.open_node(path, &top, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = fstat(&opened).doing("look at", shown(&self.layers[top.layer].path, path))?;
        let look = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
        Ok(look(&stat) == look(&node.stat) && self.attributes(path, node)? == self.attributes(path, &top)?)
    }

    /// The root.
    pub(crate) fn root(&self) -> Result<Node, ImageError> {
        let mut below = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            below.push(number);
            if is_opaque(&layer.root).doing("look at", &layer.path)? {
                break;
            }
        }
        let says = |number: &&usize| !self.layers[**number].implied.contains(&b"."[..]);
        let layer = below.iter().find(says).or(below.last()).copied().ok_or_else(|| {
            ImageError::Malformed { what: "the image".to_owned(), why: "has no layers".to_owned() }
        })?;
        let Layer { path, root, .. } = &self.layers[layer];
        Ok(Node { stat: fstat(root).doing("look at", path)?, layer, below })
    }

    /// What is in a folder, by name.
    pub(crate) fn children(&self, path: &[u8], folder: &Node) -> Result<BTreeMap<Vec<u8>, Node>, ImageError> {
        if path.split(|byte| *byte == b'/').count() > DEPTH_MAX {
            return Err(ImageError::Damaged {
                path: shown(&self.layers[folder.layer].path, path),
                why: "lies deeper than a layer can have it".to_owned(),
            });
        }
        let mut children: BTreeMap<Vec<u8>, Deciding> = BTreeMap::new();
        for &number in &folder.below {
            let Layer { path: root_path, root, .. } = &self.layers[number];
            let failed = |errno: Errno| Err::<(), _>(errno).doing("read", shown(root_path, path));
            let opened = match open_below(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(opened) => opened,
                Err(errno) => return failed(errno).map(|()| BTreeMap::new()),
            };
            let names = match names(&opened) {
                Ok(names) => names,
                Err(errno) => return failed(errno).map(|()| BTreeMap::new()),
            };
            for name in names {
                let deciding = children.entry(name.clone()).or_default();
                self.decide(deciding, number, &opened, path, &name)?;
            }
        }
        Ok(children.into_iter().filter_map(|(name, deciding)| Some((name, deciding.node?))).collect())
    }

    /// What has one name in a folder.
    pub(crate) fn child(&self, path: &[u8], folder: &Node, name: &[u8]) -> Result<Option<Node>, ImageError> {
        let mut deciding = Deciding::default();
        for &number in &folder.below {
            let Layer { path: root_path, root, .. } = &self.layers[number];
            let opened = open_below(root, path, OFlags::PATH | OFlags::DIRECTORY)
                .doing("read", shown(root_path, path))?;
            self.decide(&mut deciding, number, &opened, path, name)?;
        }
        Ok(deciding.node)
    }

    /// Hears what one layer's folder, at `path`, has to say about a name.
    fn decide(
        &self,
        deciding: &mut Deciding,
        number: usize,
        folder: &OwnedFd,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), ImageError> {
        if deciding.decided {
            return Ok(());
        }
        let Layer { path: root_path, implied, .. } = &self.layers[number];
        let full = [path, if path.is_empty() { b"" } else { b"/" }, name].concat();
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.doing("look at", shown(root_path, &full))?,
        };
        match (FileType::from_raw_mode(stat.st_mode), &mut deciding.node) {
            (FileType::CharacterDevice, _) if stat.st_rdev == 0 => deciding.decided = true,
            (FileType::Directory, node) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let opaque = openat(folder, name, flags, Mode::empty()).and_then(|folder| is_opaque(&folder));
                deciding.decided = opaque.doing("look at", shown(root_path, &full))?;
                let is_first = node.is_none();
                let node = node.get_or_insert_with(|| Node { stat, layer: number, below: Vec::new() });
                node.below.push(number);
                if is_first || deciding.implied {
                    (node.stat, node.layer) = (stat, number);
                    deciding.implied = implied.contains(&full);
                }
            }
            // A folder above hides a file below.
            (_, Some(_)) => deciding.decided = true,
            (_, node) => {
                *node = Some(Node { stat, layer: number, below: Vec::new() });
                deciding.decided = true;
            }
        }
        Ok(())
    }

    /// Opens something of the merged tree.
    pub(crate) fn open_node(&self, path: &[u8], node: &Node, flags: OFlags) -> Result<OwnedFd, ImageError> {
        let Layer { path: root_path, root, .. } = &self.layers[node.layer];
        open_below(root, path, flags).doing("open", shown(root_path, path))
    }

    /// Its extended attributes without those that are overlayfs's, sorted by name.
    pub(crate) fn attributes(&self, path: &[u8], node: &Node) -> Result<Xattrs, ImageError> {
        let opened = self.open_node(path, node, OFlags::PATH | OFlags::NOFOLLOW)?;
        let all = attributes(&opened).doing("look at", shown(&self.layers[node.layer].path, path))?;
        Ok(all.into_iter().filter(|(name, _)| is_kept(name)).collect())
    }

    /// Where a link leads.
    pub(crate) fn target(&self, path: &[u8], node: &Node) -> Result<Vec<u8>, ImageError> {
        let opened = self.open_node(path, node, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target =
            readlinkat(opened, "", Vec::new()).doing("read", shown(&self.layers[node.layer].path, path))?;
        Ok(target.into_bytes())
    }
}

/// The attributes that layers have: those that an import takes.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

fn is_opaque(folder: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0; 1];
    let found = match fgetxattr(folder, "trusted.overlay.opaque", &mut value[..]) {
        // Opened as a path.
        Err(Errno::BADF) => {
            let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
            getxattr(path, "trusted.overlay.opaque", &mut value[..])
        }
        other => other,
    };
    match found {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}
