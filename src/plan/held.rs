//! What is kept of a change that is being tried, or that failed: enough to tell it again, and to run what was there
//! before instead. See [`crate::held`] for where it lies and who looks at it when.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::generate::{policy, starting};
use super::{PLAN_FORMAT, Plan, companions::companions, health, unit};
use crate::check::{Container, RootSource, Update};
use crate::host::HostFacts;
use crate::image::Digest;
use crate::settings::{Policy, Settings};
use crate::spec::ContainerName;

/// The version of the form of [`Held`]; one of another version is as if it weren't there.
pub const HELD_FORMAT: u32 = 1;

/// What was up for so long has proved itself, though nobody looked: well beyond the longest trial, which is a minute of
/// settling and five of checks in doubt. As long as [`crate::exec`] takes for its next end to be the first again.
pub const PROVED: Duration = Duration::from_secs(600);

/// How far the trial of what the files say has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is to be tried, and nothing of it has run.
    Waiting,
    /// It is being tried, or whoever tried it was ended before it had proved itself.
    Trying,
    /// It didn't prove itself, and the last good plan is being brought back; or whoever did that was ended.
    PuttingBack,
    /// It was tried, and the last good plan was brought back.
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
        let container =
            Container { autostart: false, update: Update::Off, snapshot: false, ..container.clone() };
        // Serialising types of our own to memory can't fail; should it, all are alike, and nothing is held back
        // for longer than until the next edit of the image or the listed files.
        let text = serde_json::to_vec(&(&container, trust)).unwrap_or_default();
        Self { declared: Digest::of(&text).to_string(), image, files }
    }

    /// Whether this, which was tried, is what there is now. An image that wasn't in the store when it was written
    /// down may have been fetched since.
    fn is(&self, now: &Self) -> bool {
        self.is_but_for_files(now) && self.files == now.files
    }

    /// The same, whatever is in the listed files.
    fn is_but_for_files(&self, now: &Self) -> bool {
        let Self { declared, image, files: _ } = self;
        *declared == now.declared && (image.is_none() || *image == now.image)
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
    /// Whose trial it is: the [`run`](crate::held::Applying::run) of a `wharf apply`. Where that has ended, nobody
    /// looks at how it goes.
    #[serde(default)]
    pub run: String,
    /// When that was written: ISO 8601, in UTC.
    pub at: String,
    /// How many seconds it must stay ready, where somebody has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<u64>,
    /// Why it failed, in one line; nothing while it is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The image that a mark before this one has seen fail, while another one is being fetched: its tag names that until
    /// then, and nobody is to try it once more should the fetch be cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blamed: Option<String>,
    /// What was tried.
    pub tried: Fingerprint,
    /// What runs instead.
    pub good: Good,
    /// The name of the snapshots of its volumes, as the version that runs instead has left them: see
    /// [`super::snapshot`]. Nothing where none are to be taken, and none are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

impl Held {
    /// Whose.
    pub fn name(&self) -> &ContainerName {
        &self.good.container.name
    }

    /// Whether who tries it lives; `live` is the run of the `wharf apply` that is under way.
    pub(super) fn is_watched(&self, live: Option<&str>) -> bool {
        !self.run.is_empty() && live == Some(self.run.as_str())
    }

    /// Whether it is a trial that nobody looks at any more: who tried it was ended.
    pub fn is_orphaned(&self, live: Option<&str>) -> bool {
        self.state == State::Trying && !self.is_watched(live)
    }

    /// How the mark of another run begins in its place, for this version: what `runs`, and was tried here, is being tried
    /// still, whether that run comes to it or not, and may prove itself.
    pub fn follows(before: Option<&Self>, version: &Fingerprint, runs: Option<&Fingerprint>) -> State {
        // Of another image, or one that isn't known yet, nothing has run.
        let goes_on = |mark: &Self| {
            mark.state == State::Trying && mark.is_about(version) && mark.tried.image == version.image
        };
        match before.filter(|mark| goes_on(mark)).zip(runs) {
            Some((mark, runs)) if mark.was_tried(runs) => State::Trying,
            _ => State::Waiting,
        }
    }

    /// Whether a container, as files had it, is the one that runs instead, but for the digest that it ran with.
    pub fn is_good(&self, container: &Container) -> bool {
        let Good { container: good, source, image } = &self.good;
        let pinned = Good::new(container.clone(), source.clone(), image.clone());
        let declared = |container| Fingerprint::of(container, &Policy::Any, None, BTreeMap::new()).declared;
        declared(&pinned.container) == declared(good)
    }

    /// Whether a plan of earlier would start what is held back here: it is what runs instead, but its tag names what was
    /// tried by now. `now` is what there is of it.
    pub fn is_behind(&self, container: &Container, now: &Fingerprint) -> bool {
        let names_tried = self.tried.image.is_none() || self.tried.image == now.image;
        names_tried && self.is_good(container)
    }

    /// Whether what was up for this long has proved itself, with nobody looking: `runs` is that, `container` what it was
    /// started as. A trial has one run only, as whatever starts after it is the last good plan; so who finds it like this
    /// has it count as proved, and the data that it has written since are its own.
    pub fn has_proved_itself(
        &self,
        live: Option<&str>,
        runs: &Fingerprint,
        container: &Container,
        up: Duration,
    ) -> bool {
        // A mark that is written before an image is fetched is of that one, whichever it will be.
        let was_tried = self.was_tried(runs) && self.tried.image == runs.image;
        self.is_orphaned(live) && was_tried && up >= self.proof_time(container)
    }

    /// How long that is: its own settle time, and as many checks as make it unhealthy, both many times over mostly.
    fn proof_time(&self, container: &Container) -> Duration {
        let checks = container.health.as_ref().map(|check| {
            let once = check.interval.unwrap_or(health::INTERVAL) + check.timeout.unwrap_or(health::TIMEOUT);
            once.saturating_mul(check.retries.unwrap_or(health::RETRIES))
                .saturating_add(check.start_period.unwrap_or_default())
        });
        let settle = self.settle.map(Duration::from_secs);
        PROVED.max(checks.unwrap_or_default()).max(settle.unwrap_or_default())
    }

    /// Whether a start is of the last good plan, and not of what there is now: `now` is nothing where the files can't
    /// be read.
    pub fn is_in_start(&self, now: Option<&Fingerprint>, live: Option<&str>) -> bool {
        let is_about = now.is_some_and(|now| self.is_about(now));
        match self.state {
            State::Waiting | State::Failed => is_about || now.is_some_and(|now| self.blames(now)),
            State::Trying => is_about && !self.is_watched(live),
            // Whoever edits the files or moves the tag meanwhile must not have that run in place of what is put back.
            State::PuttingBack => is_about || self.is_watched(live),
        }
    }

    /// Whether the unit is that of the last good plan. It is as with a start, but that the units of all that wait are
    /// made by one reload, before the first is tried.
    pub fn is_in_unit(&self, now: Option<&Fingerprint>, live: Option<&str>) -> bool {
        match self.state {
            State::Waiting => self.is_in_start(now, live) && !self.is_watched(live),
            State::Trying | State::PuttingBack | State::Failed => self.is_in_start(now, live),
        }
    }

    /// Whether it is of this version at all. Until it is known to have failed, what is in the files that are listed
    /// doesn't count: what is tried may write there itself, and what it falls back to reads the same.
    pub fn is_about(&self, now: &Fingerprint) -> bool {
        match self.state {
            State::Waiting | State::Trying | State::PuttingBack => self.tried.is_but_for_files(now),
            State::Failed => self.tried.is(now),
        }
    }

    /// Whether its image is the one that failed, and not the one from before: whatever else its files say by now, it is
    /// started by who looks at how it does, and by nobody else.
    pub fn blames(&self, now: &Fingerprint) -> bool {
        self.blamed_image().is_some_and(|image| now.image.as_deref() == Some(image))
    }

    /// The image that has failed, where it is known to be that.
    pub fn blamed_image(&self) -> Option<&str> {
        match self.state {
            State::Failed => self.tried.image.as_deref(),
            State::Waiting => self.blamed.as_deref(),
            State::Trying | State::PuttingBack => None,
        }
        .filter(|image| self.good.image.as_deref() != Some(image))
    }

    /// Whether what runs is what was tried here, and isn't known to work. Its files may have gone on since its start.
    pub fn was_tried(&self, runs: &Fingerprint) -> bool {
        self.tried.is_but_for_files(runs)
    }

    /// The mark at the end of a trial that failed. What was written meanwhile to the files that are listed was part of
    /// it.
    #[must_use]
    pub fn failed(mut self, now: Option<&Fingerprint>) -> Self {
        if let Some(now) = now.filter(|now| self.tried.is_but_for_files(now)) {
            self.tried.files.clone_from(&now.files);
        }
        self.state = State::Failed;
        self
    }

    /// The mark of what was to be tried and couldn't be, so that nothing of it has run.
    #[must_use]
    pub fn untried(self) -> Self {
        Self { state: State::Waiting, ..self }
    }

    /// Why the files aren't followed, in one line.
    pub fn reason(&self) -> String {
        let Self { state, at, why, .. } = self;
        let what = "what its files say was";
        match (state, why) {
            (State::PuttingBack | State::Failed, Some(why)) => format!("{what} tried at {at} and {why}"),
            (State::PuttingBack | State::Failed, None) => format!("{what} tried at {at} and failed"),
            (State::Trying, _) => format!("{what} tried at {at}, and has not proved itself"),
            (State::Waiting, Some(why)) => {
                format!("{what} to be tried at {at}, and could not be: {why}")
            }
            (State::Waiting, None) => format!("{what} to be tried at {at}, and has not been"),
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
            gone: false,
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

    #[test]
    fn what_runs_unproved_is_tried_still() {
        let new = print("image = 'x:1'", Some("d"), None);
        let old = print("image = 'x:1'", Some("c"), None);
        let edited = print("image = 'x:1'\ninit = true", Some("d"), None);
        let of = |state, version, runs| Held::follows(Some(&held(state, new.clone())), version, runs);
        assert_eq!(of(State::Trying, &new, Some(&new)), State::Trying);
        for (state, version, runs) in [
            (State::Trying, &new, Some(&old)),
            (State::Trying, &new, None),
            (State::Trying, &edited, Some(&new)),
            (State::Waiting, &new, Some(&new)),
            (State::PuttingBack, &new, Some(&new)),
            (State::Failed, &new, Some(&new)),
        ] {
            assert_eq!(of(state, version, runs), State::Waiting, "{state:?}");
        }
        assert_eq!(Held::follows(None, &new, Some(&new)), State::Waiting);
        // Before an image is fetched, it may be any: of that one nothing has run.
        let unknown = Fingerprint { image: None, ..new.clone() };
        let any = held(State::Trying, unknown.clone());
        assert_eq!(Held::follows(Some(&any), &new, Some(&new)), State::Waiting);
        assert_eq!(of(State::Trying, &unknown, Some(&new)), State::Waiting);
    }

    fn held(state: State, tried: Fingerprint) -> Held {
        let digest = format!("sha256:{}", "a".repeat(64));
        let good = Good::new(container("image = 'x:1'"), "/etc/wharf/containers/x.toml".into(), Some(digest));
        Held {
            format: HELD_FORMAT,
            state,
            run: "this".into(),
            at: "then".into(),
            settle: None,
            why: Some("it crashed".into()),
            blamed: None,
            tried,
            good,
            snapshot: None,
        }
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
        let now = print("image = 'x:1'", Some("d"), Some("f"));
        let edited = print("image = 'x:1'\ninit = true", Some("d"), Some("f"));
        let moved = print("image = 'x:1'", Some("e"), Some("f"));
        let written = print("image = 'x:1'", Some("d"), Some("g"));
        // By who lives: nobody, somebody else, and who tries it. Of each: what is in the unit, and what starts.
        let of = |state, tried: Option<&Fingerprint>, is_image: bool| {
            let mut held = held(state, now.clone());
            if !is_image {
                held.good.image.clone_from(&now.image);
            }
            let both = |live| {
                let word = |is: bool| if is { "good" } else { "new" };
                format!("{} {}", word(held.is_in_unit(tried, live)), word(held.is_in_start(tried, live)))
            };
            [None, Some("other"), Some("this")].map(both).join(", ")
        };
        for (state, said, said_of_written) in [
            (State::Waiting, "good good, good good, new good", "good good, good good, new good"),
            (State::Trying, "good good, good good, new new", "good good, good good, new new"),
            (State::PuttingBack, "good good, good good, good good", "good good, good good, good good"),
            (State::Failed, "good good, good good, good good", "new new, new new, new new"),
        ] {
            assert_eq!(of(state, Some(&now), false), said, "{state:?}");
            assert_eq!(of(state, Some(&written), false), said_of_written, "{state:?}");
            let other = match state {
                State::PuttingBack => "new new, new new, good good",
                _ => "new new, new new, new new",
            };
            for other_now in [Some(&edited), Some(&moved), None] {
                assert_eq!(of(state, other_now, false), other, "{state:?} {other_now:?}");
            }
            // It was another image that failed: it is held, whatever is beside it.
            let held = "good good, good good, good good";
            let is_failed = state == State::Failed;
            for (version, expected) in
                [(&now, said), (&written, if is_failed { held } else { said_of_written }), (&moved, other)]
            {
                assert_eq!(of(state, Some(version), true), expected, "{state:?} {version:?}");
            }
            assert_eq!(of(state, Some(&edited), true), if is_failed { held } else { other }, "{state:?}");
        }
        // One that an older Wharf has left names no run, and nobody is that.
        let old = Held { run: String::new(), ..held(State::Trying, now.clone()) };
        assert!(old.is_in_start(Some(&now), Some("")));
    }

    #[test]
    fn what_was_up_for_long_has_proved_itself() {
        let now = print("image = 'x:1'", Some("d"), Some("f"));
        let written = print("image = 'x:1'", Some("d"), Some("g"));
        let other = print("image = 'x:1'", Some("e"), Some("f"));
        let slow = "image = 'x:1'\nhealth = { tcp = '127.0.0.1:1', interval = '5min', timeout = '10s', retries = 3 }";
        let of = |held: &Held, live, runs: &Fingerprint, text: &str, up| {
            held.has_proved_itself(live, runs, &container(text), Duration::from_secs(up))
        };
        let trying = held(State::Trying, now.clone());
        let plain = "image = 'x:1'";
        assert!(of(&trying, None, &now, plain, 600) && of(&trying, Some("other"), &written, plain, 600));
        assert!(!of(&trying, None, &now, plain, 599), "a power cut in a trial ends as ever");
        assert!(!of(&trying, Some("this"), &now, plain, 9000), "somebody looks");
        assert!(!of(&trying, None, &other, plain, 9000), "something else has run");
        assert!(!of(&trying, None, &now, slow, 929) && of(&trying, None, &now, slow, 930));
        let any = held(State::Trying, Fingerprint { image: None, ..now.clone() });
        assert!(!of(&any, None, &now, plain, 9000), "another image is to be tried, which isn't fetched yet");
        let patient = Held { settle: Some(3600), ..trying.clone() };
        assert!(!of(&patient, None, &now, plain, 3599) && of(&patient, None, &now, plain, 3600));
        for state in [State::Waiting, State::PuttingBack, State::Failed] {
            assert!(!of(&held(state, now.clone()), None, &now, plain, 9000), "{state:?}");
        }
    }

    #[test]
    fn an_image_that_failed_is_held_whatever_is_beside_it() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let tried = print("image = 'x:1'", Some("bad"), None);
        let edited = print("image = 'x:1'\ninit = true", Some("bad"), Some("f"));
        let moved = print("image = 'x:1'\ninit = true", Some("new"), None);
        for (state, holds) in [(State::Failed, true), (State::Trying, false), (State::Waiting, false)] {
            let mark = held(state, tried.clone());
            assert_eq!(mark.is_in_start(Some(&edited), None), holds, "{state:?}");
            assert!(!mark.is_in_start(Some(&moved), None), "{state:?}");
        }
        // It was the files that failed.
        let files = held(State::Failed, print("image = 'x:1'\nuser = 1", Some(&digest), None));
        assert!(!files.is_in_start(Some(&print("image = 'x:1'", Some(&digest), None)), None));
    }

    #[test]
    fn what_has_failed_stays_known_while_another_image_is_fetched() {
        let failed = held(State::Failed, print("image = 'x:1'", Some("bad"), None));
        assert_eq!(failed.blamed_image(), Some("bad"));
        let any = Fingerprint { image: None, ..failed.tried.clone() };
        let fetching =
            Held { state: State::Waiting, tried: any, blamed: Some("bad".into()), ..failed.clone() };
        let [bad, edited, next] = [
            print("image = 'x:1'", Some("bad"), None),
            print("image = 'x:1'\ninit = true", Some("bad"), None),
            print("image = 'x:1'", Some("next"), None),
        ];
        for (now, blamed, starts) in [(&bad, true, true), (&edited, true, true), (&next, false, true)] {
            assert_eq!((fetching.blames(now), fetching.is_in_start(Some(now), None)), (blamed, starts));
        }
        assert_eq!(fetching.blamed_image(), Some("bad"), "should that be cut off, too");
        // Its turn has come, or nothing was known of the image.
        assert!(!Held { state: State::Trying, ..fetching.clone() }.blames(&bad));
        assert!(!Held { blamed: None, ..fetching }.blames(&bad));
        let files = held(State::Failed, print("image = 'x:1'\nuser = 1", failed.good.image.as_deref(), None));
        assert_eq!(files.blamed_image(), None, "it was the files");
    }

    #[test]
    fn what_was_written_meanwhile_was_tried() {
        let tried = print("image = 'x:1'", Some("d"), Some("f"));
        let held = held(State::PuttingBack, tried);
        let written = print("image = 'x:1'", Some("d"), Some("g"));
        let failed = held.clone().failed(Some(&written));
        assert!(failed.state == State::Failed && failed.is_about(&written));
        // What nobody has tried isn't held back.
        let moved = print("image = 'x:1'", Some("e"), Some("g"));
        assert!(!held.clone().failed(Some(&moved)).is_about(&moved));
        assert_eq!(held.clone().failed(None).tried, held.tried);
        assert_eq!(held.clone().failed(None).reason(), held.reason(), "its unit says the same");
    }

    #[test]
    fn what_could_not_be_tried_waits() {
        let now = print("image = 'x:1'", Some("d"), Some("f"));
        let held =
            Held { why: Some("no snapshot".into()), ..held(State::PuttingBack, now.clone()) }.untried();
        assert!(held.state == State::Waiting && held.is_in_start(Some(&now), None));
        assert_eq!(
            held.reason(),
            "what its files say was to be tried at then, and could not be: no snapshot"
        );
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
        assert!(held.is_good(&container("image = 'x:1'\nrestart = 'always'")));
        assert!(held.is_good(&held.good.container));
        assert!(!held.is_good(&container("image = 'x:1'\ninit = true")));
        // A tag that names what was tried is that; one that has moved on since isn't.
        let fetched = print("image = 'x:1'", Some("d"), None);
        let moved = print("image = 'x:1'", Some("e"), None);
        let tried = Held { tried: print("image = 'x:1'\ninit = true", Some("d"), None), ..held.clone() };
        let good = container("image = 'x:1'");
        for (held, now, behind) in [
            (&held, &fetched, true),
            (&held, &moved, true),
            (&tried, &fetched, true),
            (&tried, &moved, false),
        ] {
            assert_eq!(held.is_behind(&good, now), behind, "{:?} {:?}", held.tried.image, now.image);
        }
        assert!(!tried.is_behind(&container("image = 'x:1'\ninit = true"), &fetched));
        let text = serde_json::to_string(&held).expect("JSON");
        assert_eq!(serde_json::from_str::<Held>(&text).expect("read"), held);
    }
}
