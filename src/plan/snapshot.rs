//! What becomes of a container's data when another image is tried, and of the snapshots of its volumes.
//!
//! A start asks [`before`], and does what it says before anything else. What it says hangs on the container's mark
//! ([`Held`]), on how far its snapshots have come ([`Stage`]), and on what starts:
//!
//! | what starts | no snapshots | being taken | taken | being restored | left | over |
//! |---|---|---|---|---|---|---|
//! | what is tried, of another image than what is good | take | take anew | | restore | take anew | take anew |
//! | any other image, while who tries another one looks on: its tag has just moved | take | take anew | | restore | take anew | take anew |
//! | what is good, or any other version of its image | | drop | restore | restore | | drop |
//! | something else | | drop | leave | restore | | drop |
//!
//! Snapshots count for the mark that has their name only; those of another name, or without a mark, are dropped. But
//! where some volumes are back and others aren't, all are put back whatever starts and whatever mark there is: half of
//! each is nobody's data. What is to start is then asked once more.
//!
//! So what is tried never runs without them, and its own restarts keep them. Whoever was killed, they are as what is good
//! has left its data, until that is back or what is tried has proved itself. Once somebody has run a third version, its
//! data isn't given up for a snapshot from before (leave).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::held::{Fingerprint, Held, State};
use crate::spec::ContainerName;

/// The version of the form of [`Snapshots`].
pub const SNAPSHOTS_FORMAT: u32 = 1;

/// The snapshots of a container's volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshots {
    /// [`SNAPSHOTS_FORMAT`].
    pub format: u32,
    /// The name of each among those of its volume.
    pub label: String,
    /// Of which volumes.
    pub volumes: BTreeSet<String>,
    /// In which boot of the host they were begun, by random(4)'s boot_id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// When, in milliseconds of that boot (CLOCK_BOOTTIME).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// How far they have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Some may be there, and nothing of what is tried has run.
    Taking,
    /// All are there, and are restored before what is good starts.
    Taken,
    /// Some volumes may be back as they were, and nothing runs before all are.
    Restoring,
    /// All are there, and aren't restored any more: a third version has gone on with the data.
    Left,
    /// They aren't needed any more, and are being dropped: they were restored.
    Over,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Taken, Self::Restoring, Self::Left, Self::Taking, Self::Over];

    /// The word in file names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Taking => "taking",
            Self::Taken => "taken",
            Self::Restoring => "restoring",
            Self::Left => "left",
            Self::Over => "over",
        }
    }
}

/// What a start does about them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// Drops those that are there, and takes new ones.
    Take,
    /// Puts the volumes back, and then drops them.
    Restore,
    /// Never restores them from now on.
    Leave,
    /// Drops them.
    Drop,
}

/// A name for the snapshots of a trial: that of its container, as far as it can be one, and that of the run, which no
/// other has.
pub fn label(name: &ContainerName, run: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    let name: String = name.as_str().chars().take(100).map(plain).collect();
    format!("{name}.{run}")
}

/// Whether snapshots are those that a mark has.
pub fn count(mark: Option<&Held>, there: &Snapshots) -> bool {
    mark.and_then(|mark| mark.snapshot.as_ref()) == Some(&there.label)
}

/// What the start of `starts` does; `is_good` where that is by the mark's word the last good plan, and `live` is the run
/// of the `wharf apply` that is under way.
pub fn before(
    mark: Option<&Held>,
    there: Option<(&Snapshots, Stage)>,
    starts: &Fingerprint,
    is_good: bool,
    live: Option<&str>,
) -> Before {
    if there.is_some_and(|(_, stage)| stage == Stage::Restoring) {
        return Before::Restore;
    }
    let counting = there.filter(|(there, _)| count(mark, there)).map(|(_, stage)| stage);
    let drop = if there.is_some() { Before::Drop } else { Before::Nothing };
    let Some(mark) = mark.filter(|mark| mark.snapshot.is_some()) else { return drop };
    let is_good = is_good || (starts.image.is_some() && starts.image == mark.good.image);
    let is_tried =
        !is_good && (mark.was_tried(starts) || mark.state == State::Trying && mark.is_watched(live));
    match counting {
        Some(Stage::Taken) if is_good => Before::Restore,
        Some(Stage::Taken) if is_tried => Before::Nothing,
        Some(Stage::Taken) => Before::Leave,
        // What has failed is started by who changed what it reads, and not as a trial.
        _ if is_tried && mark.state != State::Failed => Before::Take,
        Some(Stage::Left) => Before::Nothing,
        Some(Stage::Taking | Stage::Restoring | Stage::Over) | None => drop,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::check::Container;
    use crate::plan::held::{Good, HELD_FORMAT};
    use crate::report::Source;
    use crate::settings::Policy;
    use crate::spec::Document;

    fn container(text: &str) -> Container {
        let source = Source::new("/etc/wharf/containers/x.toml", text);
        let (document, findings) = Document::parse(&source);
        crate::check::check(&"x".parse().expect("a name"), &document, findings)
            .container
            .expect("a container")
    }

    fn print(text: &str, image: &str) -> Fingerprint {
        Fingerprint::of(&container(text), &Policy::Any, Some(image.to_owned()), BTreeMap::new())
    }

    const TEXT: &str = "image = 'x:1'\nsnapshot = true\nmounts.'/data' = { volume = 'data' }";

    /// Of `old`, when `new` is tried.
    fn mark(state: State, label: Option<&str>) -> Held {
        Held {
            format: HELD_FORMAT,
            state,
            run: "this".into(),
            at: "then".into(),
            settle: None,
            why: None,
            blamed: None,
            tried: print(TEXT, "new"),
            good: Good::new(container(TEXT), "x.toml".into(), Some("old".into())),
            snapshot: label.map(str::to_owned),
        }
    }

    /// By what there is: nothing, and each stage in its order.
    fn row(mark: Option<&Held>, label: &str, starts: &Fingerprint, is_good: bool) -> String {
        row_of(mark, label, starts, is_good, None)
    }

    fn row_of(
        mark: Option<&Held>,
        label: &str,
        starts: &Fingerprint,
        is_good: bool,
        live: Option<&str>,
    ) -> String {
        let there = Snapshots {
            format: SNAPSHOTS_FORMAT,
            label: label.to_owned(),
            volumes: ["data".to_owned()].into(),
            boot: None,
            at: None,
        };
        let half = before(mark, Some((&there, Stage::Restoring)), starts, is_good, live);
        assert_eq!(half, Before::Restore, "whatever starts, with any mark or none");
        let stages = [None, Some(Stage::Taking), Some(Stage::Taken), Some(Stage::Left), Some(Stage::Over)];
        stages
            .map(|stage| {
                format!("{:?}", before(mark, stage.map(|stage| (&there, stage)), starts, is_good, live))
            })
            .join(" ")
    }

    #[test]
    fn what_a_start_does_first() {
        let [old, new] = ["old", "new"].map(|image| print(TEXT, image));
        let third = print(TEXT, "third");
        let edited = print(&format!("{TEXT}\ninit = true"), "old");
        let pinned = print("image = 'x:2'", "elsewhere");
        for state in [State::Waiting, State::Trying, State::PuttingBack] {
            let mark = mark(state, Some("a"));
            let of = |starts, is_good| row(Some(&mark), "a", starts, is_good);
            assert_eq!(of(&new, false), "Take Take Nothing Take Take", "{state:?}");
            for (starts, is_good) in [(&old, false), (&pinned, true), (&edited, false)] {
                assert_eq!(of(starts, is_good), "Nothing Drop Restore Nothing Drop", "{state:?}");
            }
            assert_eq!(of(&third, false), "Nothing Drop Leave Nothing Drop", "{state:?}");
            // Those of another trial.
            let of = |starts, is_good| row(Some(&mark), "b", starts, is_good);
            assert_eq!(of(&new, false), "Take Take Take Take Take", "{state:?}");
            assert_eq!(of(&old, true), "Nothing Drop Drop Drop Drop", "{state:?}");
        }
        let failed = mark(State::Failed, Some("a"));
        assert_eq!(row(Some(&failed), "a", &old, true), "Nothing Drop Restore Nothing Drop");
        assert_eq!(row(Some(&failed), "a", &new, false), "Nothing Drop Nothing Nothing Drop");
    }

    #[test]
    fn a_tag_that_moves_while_it_is_tried() {
        let [old, third] = ["old", "third"].map(|image| print(TEXT, image));
        for (state, live, expected) in [
            (State::Trying, "this", "Take Take Nothing Take Take"),
            (State::Trying, "other", "Nothing Drop Leave Nothing Drop"),
            (State::Waiting, "this", "Nothing Drop Leave Nothing Drop"),
        ] {
            let mark = mark(state, Some("a"));
            let of = |starts| row_of(Some(&mark), "a", starts, false, Some(live));
            assert_eq!(of(&third), expected, "{state:?} {live}");
            assert_eq!(of(&old), "Nothing Drop Restore Nothing Drop", "{state:?} {live}");
        }
    }

    #[test]
    fn without_a_mark_nothing_is_owed() {
        let [old, new] = ["old", "new"].map(|image| print(TEXT, image));
        let none = mark(State::Trying, None);
        for mark in [None, Some(&none)] {
            for starts in [&old, &new] {
                assert_eq!(row(mark, "a", starts, false), "Nothing Drop Drop Drop Drop");
            }
        }
    }

    #[test]
    fn keys_alone_take_nothing() {
        let mark =
            Held { tried: print(&format!("{TEXT}\ninit = true"), "old"), ..mark(State::Trying, Some("a")) };
        let tried = mark.tried.clone();
        assert_eq!(row(Some(&mark), "a", &tried, false), "Nothing Drop Restore Nothing Drop");
    }

    #[test]
    fn labels() {
        let of = |name: &str| label(&name.parse().expect("a name"), "0-1");
        assert_eq!((of("web"), of("web@blue")), ("web.0-1".into(), "web_blue.0-1".into()));
    }
}
