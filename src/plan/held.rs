//! What is kept of a change that is being tried, or that failed: enough to tell it again, and to run what was there
//! before instead. See [`crate::held`] for where it lies and who looks at it when.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::generate::{policy, starting};
use super::{PLAN_FORMAT, Plan, companions::companions, unit};
use crate::check::{Container, RootSource, Update};
use crate::host::HostFacts;
use crate::image::Digest;
use crate::settings::{Policy, Settings};
use crate::spec::ContainerName;

/// The version of the form of [`Held`]; one of another version is as if it weren't there.
pub const HELD_FORMAT: u32 = 1;

/// Whether what the files say is known not to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is being tried, or whoever tried it was ended before it had proved itself.
    Trying,
    /// It was tried, and didn't.
    Failed,
}

/// What tells one version of a container from another: as long as it is the same, so is what a start does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The digest of the container as checked, and of what its image must have; comments don't count.
    pub declared: String,
    /// The digest that its reference names; nothing for a folder, and for an image that isn't in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The digests of what `restart-on-change` lists.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<PathBuf, String>,
}

impl Fingerprint {
    /// That of a container, with what lies beside its files.
    pub fn of(
        container: &Container,
        trust: &Policy,
        image: Option<String>,
        files: BTreeMap<PathBuf, String>,
    ) -> Self {
        // Neither changes what a start does.
        let container = Container { autostart: false, update: Update::Off, ..container.clone() };
        // Serialising types of our own to memory can't fail; should it, all are alike, and nothing is held back
        // for longer than until the next edit of the image or the listed files.
        let text = serde_json::to_vec(&(&container, trust)).unwrap_or_default();
        Self { declared: Digest::of(&text).to_string(), image, files }
    }

    /// Whether this, which was tried, is what there is now. An image that wasn't in the store when it was written
    /// down may have been fetched since.
    fn is(&self, now: &Self) -> bool {
        let Self { declared, image, files } = self;
        *declared == now.declared && *files == now.files && (image.is_none() || *image == now.image)
    }
}

/// What ran, and worked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Good {
    /// As it was started, with its image pinned to the digest that ran.
    pub container: Container,
    /// The container file.
    pub source: PathBuf,
    /// The digest of its image's manifest; nothing for a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Good {
    /// What runs now, so that the same can be started again whatever its reference names by then. Nothing is fetched
    /// for it: its image is in the store, and stays there.
    pub fn new(mut container: Container, source: PathBuf, image: Option<String>) -> Self {
        if let (RootSource::Image(reference), Some(digest)) = (&mut container.source, &image) {
            *reference = reference.pinned(digest);
            if let Some(supply) = &mut container.supply {
                supply.unit = None;
            }
        }
        Self { container, source, image }
    }
}

/// A container whose files say something that isn't known to work, with what is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// [`HELD_FORMAT`].
    pub format: u32,
    /// How it stands.
    pub state: State,
    /// When that was written: ISO 8601, in UTC.
    pub at: String,
    /// Why it failed, in one line; nothing while it is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What was tried.
    pub tried: Fingerprint,
    /// What runs instead.
    pub good: Good,
}

impl Held {
    /// Whose.
    pub fn name(&self) -> &ContainerName {
        &self.good.container.name
    }

    /// Whether the last good plan is to run, and not what there is now. `applying` tells that who tries it lives: then
    /// it is the new version's turn.
    pub fn is_in_force(&self, now: &Fingerprint, applying: bool) -> bool {
        !(self.state == State::Trying && applying) && self.tried.is(now)
    }

    /// Whether it is of this version at all.
    pub fn is_about(&self, now: &Fingerprint) -> bool {
        self.tried.is(now)
    }

    /// Why the files aren't followed, in one line.
    pub fn reason(&self) -> String {
        match (self.state, &self.why) {
            (State::Failed, Some(why)) => format!("what its files say was tried at {} and {why}", self.at),
            (State::Failed, None) => format!("what its files say was tried at {} and failed", self.at),
            (State::Trying, _) => {
                format!("what its files say was to be tried at {}, and has not proved itself", self.at)
            }
        }
    }

    /// The plan of what runs instead, made anew for this version of Wharf and this host.
    pub fn plan(&self, facts: HostFacts, settings: &Settings) -> Plan {
        let Good { container, source, image: _ } = &self.good;
        let text = unit::unit(container, source, facts);
        let reason = self.reason();
        let description = unit::held_description(container, &reason);
        Plan {
            format: PLAN_FORMAT,
            source: source.clone(),
            outdated: None,
            held: Some(reason),
            trust: policy(container, settings),
            unit: crate::unit::replace(&text, "Description", &description),
            companions: companions(&container.name, &starting(container), source, facts, false),
            container: container.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Source;
    use crate::spec::Document;

    fn container(text: &str) -> Container {
        let source = Source::new("/etc/wharf/containers/x.toml", text);
        let (document, findings) = Document::parse(&source);
        crate::check::check(&"x".parse().expect("a name"), &document, findings)
            .container
            .expect("a container")
    }

    fn print(text: &str, image: Option<&str>, file: Option<&str>) -> Fingerprint {
        let files = file.map(|digest| ("/etc/x.conf".into(), digest.to_owned())).into_iter().collect();
        Fingerprint::of(&container(text), &Policy::Any, image.map(str::to_owned), files)
    }

    fn held(state: State, tried: Fingerprint) -> Held {
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = Good::new(container("image = 'x:1'"), "/etc/wharf/containers/x.toml".into(), Some(digest));
        Held { format: HELD_FORMAT, state, at: "then".into(), why: Some("it crashed".into()), tried, good }
    }

    #[test]
    fn whatever_changes_what_a_start_does_is_another_version() {
        let first = print("image = 'x:1'", Some("d"), Some("f"));
        assert!(first.is(&print("image = 'x:1' # the same\nrestart = 'always'", Some("d"), Some("f"))));
        for other in [
            print("image = 'x:1'\ninit = true", Some("d"), Some("f")),
            print("image = 'x:2'", Some("d"), Some("f")),
            print("image = 'x:1'", Some("e"), Some("f")),
            print("image = 'x:1'", None, Some("f")),
            print("image = 'x:1'", Some("d"), Some("g")),
            print("image = 'x:1'", Some("d"), None),
        ] {
            assert!(!first.is(&other), "{other:?}");
        }
        // One that wasn't in the store yet may be whichever was fetched.
        assert!(print("image = 'x:1'", None, None).is(&print("image = 'x:1'", Some("d"), None)));
        let signed = Policy::Signed { keys: Vec::new() };
        let trusted =
            Fingerprint::of(&container("image = 'x:1'"), &signed, Some("d".into()), first.files.clone());
        assert!(!first.is(&trusted), "what is trusted counts, too");
    }

    #[test]
    fn who_is_held_back() {
        let now = print("image = 'x:1'", Some("d"), None);
        let other = print("image = 'x:1'\ninit = true", Some("d"), None);
        for (state, applying, in_force) in [
            (State::Failed, false, true),
            (State::Failed, true, true),
            (State::Trying, false, true),
            (State::Trying, true, false),
        ] {
            assert_eq!(
                held(state, now.clone()).is_in_force(&now, applying),
                in_force,
                "{state:?} {applying}"
            );
            assert!(!held(state, other.clone()).is_in_force(&now, applying), "an edited file is tried anew");
        }
    }

    #[test]
    fn the_plan_is_of_what_ran() {
        let held = held(State::Failed, print("image = 'x:1'\ninit = true", None, None));
        let plan = held.plan(HostFacts::default(), &Settings::default());
        let RootSource::Image(reference) = &plan.container.source else { panic!("an image") };
        assert_eq!(reference.digest(), held.good.image.as_deref());
        assert!(
            plan.unit
                .contains("Description=x (HELD BACK: what its files say was tried at then and it crashed)"),
            "{}",
            plan.unit
        );
        assert!(plan.held.is_some() && plan.outdated.is_none());
        let text = serde_json::to_string(&held).expect("JSON");
        assert_eq!(serde_json::from_str::<Held>(&text).expect("read"), held);
    }
}
