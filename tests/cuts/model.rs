//! What the commands make of a store, as far as anybody can see it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::random::Random;
use crate::samples::{Place, Sample};

/// The references that the commands give and take.
const NAMES: [&str; 5] = ["one:1", "two:2", "registry.example/three:3", "four:4", "five:5"];

/// What a store shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The references and the digests that they stand for.
    pub references: BTreeMap<String, String>,
    /// The images: those, and such as had a reference once.
    pub images: BTreeSet<String>,
}

impl State {
    fn is_named(&self, digest: &String) -> bool {
        self.references.values().any(|named| named == digest)
    }
}

/// One command.
#[derive(Clone, Debug)]
pub enum Step {
    /// From a file or from a registry, as the sample is.
    Bring {
        sample: usize,
        name: &'static str,
    },
    Tag {
        name: String,
        new: &'static str,
    },
    Remove {
        name: String,
    },
    Prune,
}

impl Step {
    pub fn choose(random: &mut Random, samples: &[Sample], state: &State) -> Self {
        let names: Vec<&String> = state.references.keys().collect();
        let new = random.pick(&NAMES).copied().unwrap_or(NAMES[0]);
        let old = random.pick(&names).map(|name| (*name).clone());
        let can_prune = state.images.iter().any(|image| !state.is_named(image));
        match (random.below(20), old) {
            (0..3, Some(name)) if name != new => Self::Tag { name, new },
            (3..7, Some(name)) => Self::Remove { name },
            (7..11, _) if can_prune => Self::Prune,
            _ => Self::Bring { sample: random.index(samples.len()), name: new },
        }
    }

    /// What is there when it has returned.
    pub fn after(&self, state: &State, samples: &[Sample]) -> State {
        let mut state = state.clone();
        match self {
            Self::Bring { sample, name } => {
                let digest = &samples[*sample].digest;
                state.references.insert((*name).to_owned(), digest.clone());
                state.images.insert(digest.clone());
            }
            Self::Tag { name, new } => {
                let digest = state.references[name].clone();
                state.references.insert((*new).to_owned(), digest);
            }
            Self::Remove { name } => {
                let digest = state.references.remove(name).expect("it was there");
                if !state.is_named(&digest) {
                    state.images.remove(&digest);
                }
            }
            Self::Prune => state.images = state.references.values().cloned().collect(),
        }
        state
    }

    /// The command, for a store below a root.
    pub fn command(&self, root: &Path, samples: &[Sample]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
        command.env("WHARF_ROOT", root).stdout(Stdio::null()).arg("image");
        match self {
            Self::Bring { sample, name } => match &samples[*sample].place {
                Place::File(path) => command.args(["import", "--name", name]).arg(path),
                Place::Registry(reference) => command.args(["pull", "--quiet", "--name", name, reference]),
            },
            Self::Tag { name, new } => command.args(["tag", name, new]),
            Self::Remove { name } => command.args(["remove", name]),
            Self::Prune => command.arg("prune"),
        };
        command
    }

    /// The command's name.
    pub fn kind(&self, samples: &[Sample]) -> &'static str {
        match self {
            Self::Bring { sample, .. } => match samples[*sample].place {
                Place::File(_) => "import",
                Place::Registry(_) => "pull",
            },
            Self::Tag { .. } => "tag",
            Self::Remove { .. } => "remove",
            Self::Prune => "prune",
        }
    }
}
