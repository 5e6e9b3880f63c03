//! Folders that a layer leaves to be made: it has something in them, and says nothing about them.
//!
//! Applied one after the other, as the OCI image specification has it, layers leave the attributes of such a folder
//! as they were. Overlayfs takes a folder's attributes from the highest layer that has it, and would show those that
//! the folder was made with: /tmp of nobody but root, for one. So a layer has a list of what it only implies, and
//! what is mounted gets these folders once more on top, as the layers below have them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::error::{Doing, ImageError};
use super::escape::{field, unescape};
use super::merge::{Merged, Node, parent_and_name};

/// The list's name in a layer's folder. A layer that implies nothing has none, as one of an older version.
pub(crate) const LIST: &str = "implied";

/// A folder that doesn't look as the highest layer that has it says, or that lies above such a one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Implied {
    /// From the root on, without a slash at the beginning; empty for the root.
    pub path: Vec<u8>,
    /// The layer that says how it looks; 0 is the lowest.
    pub layer: usize,
}

/// The paths of a layer's list, the root as `.`; none where there is no list.
pub(crate) fn read(layer: &Path) -> Result<BTreeSet<Vec<u8>>, ImageError> {
    let path = layer.join(LIST);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.doing("read", &path)?,
    };
    text.lines()
        .map(unescape)
        .collect::<Option<_>>()
        .ok_or_else(|| ImageError::Damaged { path, why: "has a line that stands for no path".to_owned() })
}

/// What a list holds.
pub(crate) fn text(paths: &BTreeSet<Vec<u8>>) -> String {
    paths.iter().map(|path| format!("{}\n", field(path))).collect()
}

/// The folders that a path leads through below the root, and the path itself.
fn down_to(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.chain([path.len()]).map(|end| &path[..end])
}

/// What has to be on top of these trees, the lowest first, so that every folder looks as the layers mean it; folders
/// before what is in them.
///
/// # Errors
/// A tree or a list can't be read.
pub fn implied(trees: &[PathBuf]) -> Result<Vec<Implied>, ImageError> {
    let merged = Merged::open(trees)?;
    let mut wanted = BTreeSet::new();
    for path in merged.implied_above_the_lowest() {
        let path = if path == b"." { &[] } else { path };
        wanted.insert(&path[..0]);
        wanted.extend(down_to(path));
    }
    let mut nodes: BTreeMap<&[u8], Node> = BTreeMap::new();
    let mut needed = BTreeSet::new();
    for path in wanted {
        let node = match parent_and_name(path) {
            None => Some(merged.root()?),
            // Where a higher layer has something else in a folder's place, there is nothing below it either.
            Some((above, name)) => match nodes.get(above) {
                Some(above_node) => merged.child(above, above_node, name)?,
                None => None,
            },
        };
        let Some(node) = node.filter(|node| node.kind() == FileType::Directory) else { continue };
        if !merged.looks_as_on_top(path, &node)? {
            needed.extend(down_to(path));
        }
        nodes.insert(path, node);
    }
    let highest = trees.len().saturating_sub(1);
    let found = |path: &[u8]| {
        nodes.get(path).map(|node| Implied { path: path.to_vec(), layer: highest - node.layer })
    };
    Ok(needed.into_iter().filter_map(found).collect())
}
