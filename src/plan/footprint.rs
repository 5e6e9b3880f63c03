//! What a start itself leaves in a container's root, so that it isn't taken for the program's work.

use std::collections::{BTreeMap, BTreeSet};

use super::steps::{self, HostStep, NAMES};
use crate::check::Container;

/// Paths without the slash at their beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Symbolic links that a start puts in the place of what the image has there, and where each leads.
    pub links: BTreeMap<String, String>,
    /// What is mounted on, and the folders above it: a start makes those that the image doesn't have.
    pub folders: BTreeSet<String>,
}

/// That of a container.
pub fn footprint(container: &Container) -> Footprint {
    let mut footprint = Footprint::default();
    let mut folders = vec![NAMES.to_owned()];
    for step in steps::host(container, &[], &[]) {
        match step {
            HostStep::Link { target, to } => {
                if let Some((above, _)) = target.rsplit_once('/') {
                    folders.push(above.to_owned());
                }
                footprint.links.insert(target.trim_start_matches('/').to_owned(), to);
            }
            HostStep::Folder { target }
            | HostStep::Tmpfs { target, .. }
            | HostStep::Bind { target, .. }
            | HostStep::Volume { target, .. }
            | HostStep::NotificationSocket { target }
            | HostStep::Credentials { target, .. } => folders.push(target),
            HostStep::Devices => folders.push("/dev".to_owned()),
            HostStep::HostSys => folders.push("/sys".to_owned()),
            HostStep::LeaseIds
            | HostStep::LeaseAddresses { .. }
            | HostStep::Cgroup
            | HostStep::Stage
            | HostStep::FirstProcess(_)
            | HostStep::MapIds
            | HostStep::Interface
            | HostStep::Layer { .. }
            | HostStep::Root { .. }
            | HostStep::Names { .. }
            | HostStep::ReadOnlyRoot
            | HostStep::Record
            | HostStep::Admit { .. } => {}
        }
    }
    for folder in folders {
        let parts: Vec<_> = folder.split('/').filter(|part| !part.is_empty()).collect();
        footprint.folders.extend((1..=parts.len()).map(|count| parts[..count].join("/")));
    }
    footprint
}
