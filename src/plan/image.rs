//! An image's unit and plan: what fetches it where the store doesn't have it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::generate::{document, guarded};
use super::{Files, PLAN_FORMAT};
use crate::check::{self, Checked, CheckedImage, DeclaredImage, ForAll, From, Pull, Supplies};
use crate::report::{self, Finding, Level, Source, Style};
use crate::settings::{Policy, Settings, Trust};
use crate::spec::ImageName;
use crate::unit::{Percent, Section, Unit};

/// Where the command is installed.
pub const COMMAND: &str = "/usr/bin/wharf";

/// The comment on top of every unit of an image.
const COMMENT: &str =
    "Made by wharf-generator at each reload: edit the image's file, or the containers' that name it.";

/// The store as units name it.
const STATE: &str = "/var/lib/wharf";

/// How long a fetch may go without a byte, in systemd's words: [`STALLED`].
const STALLED_TEXT: &str = "5min";

/// The same for the command, which asks for this much more each time that there was one. Long enough for a slow
/// disk to take in what was written, when nothing is fetched any more.
pub const STALLED: std::time::Duration = std::time::Duration::from_secs(300);

/// What the generator leaves for `wharf image provide`: `wharf/images/NAME.json`, mode 0600.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePlan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// The image's file; nothing where only containers name it.
    pub source: Option<PathBuf>,
    /// The image as checked.
    pub image: DeclaredImage,
}

/// What the generator leaves for one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOutput {
    /// Which.
    pub name: ImageName,
    /// The text of its unit.
    pub unit: String,
    /// `wharf/images/NAME.json`, an [`ImagePlan`], or `NAME.findings`, which the command prints.
    pub beside: super::Beside,
}

/// Parses, merges and checks an image's files. A panic on the way becomes a finding.
pub fn check_image(files: &Files<ImageName>) -> CheckedImage {
    guarded(
        &files.main,
        || {
            let (document, findings) = document(files);
            check::image(&files.name, &document, findings)
        },
        CheckedImage::broken,
    )
}

/// The same for `wharf.toml`.
pub fn check_settings(files: &Files<()>) -> check::CheckedSettings {
    guarded(
        &files.main,
        || {
            let (document, findings) = document(files);
            let mut checked = check::settings(&document, findings);
            if !checked.are_usable() {
                checked.settings.trust = trust_of_broken(files);
            }
            checked
        },
        |finding| {
            let settings = Settings { trust: trust_of_broken(files), ..Settings::default() };
            check::CheckedSettings { settings, findings: vec![finding] }
        },
    )
}

/// What is trusted where the settings have mistakes. Where they speak of trust it isn't known whom, so nobody is:
/// whoever asks for a signature then reads the settings, and fails with the reason. Where they don't, a mistake
/// elsewhere stops no container.
fn trust_of_broken(files: &Files<()>) -> Trust {
    let speaks = |source: &Arc<Source>| {
        source.text.lines().any(|line| line.contains("trust") && !line.trim_start().starts_with('#'))
    };
    // What can't be read may speak of it; such a finding has no line.
    let unread = |finding: &Finding| finding.level == Level::Error && finding.place.span.is_none();
    let may_speak =
        std::iter::once(&files.main).chain(&files.drop_ins).any(speaks) || files.findings.iter().any(unread);
    let policy = match may_speak {
        true => Policy::Signed { keys: Vec::new() },
        false => Policy::Any,
    };
    Trust { policy, ..Trust::default() }
}

/// What the drop-ins for all images say of one that has no file, and what is wrong with them.
pub fn for_all_images(drop_ins: &[Arc<Source>]) -> (ForAll, Vec<Finding>) {
    let (Some(first), Ok(name)) = (drop_ins.first(), ImageName::of_file("image")) else {
        return (ForAll::default(), Vec::new());
    };
    // A file with what is required and nothing else; nothing can be wrong with it.
    let folder = first.path.parent().map_or_else(PathBuf::new, Path::to_owned);
    let main = Source::new(folder, "image = \"registry.example/any:1\"\n");
    let files = Files { name, main, drop_ins: drop_ins.to_vec(), findings: vec![] };
    let CheckedImage { image, findings, .. } = check_image(&files);
    (image.map(ForAll::new).unwrap_or_default(), findings)
}

/// Compares the files of all images, and gives what containers are to know of them.
pub fn compare_images(
    all: &mut [(Files<ImageName>, CheckedImage)],
    settings: &Settings,
    for_all: ForAll,
) -> Supplies {
    let (names, mut images): (Vec<&ImageName>, Vec<&mut CheckedImage>) =
        all.iter_mut().map(|(files, checked)| (&files.name, checked)).unzip();
    check::images(&mut images, &names, settings, for_all)
}

/// Tells a container what the files of images say about its own.
pub(super) fn supply(checked: &mut Checked, supplies: &Supplies) {
    let Some(container) = &mut checked.container else { return };
    let check::RootSource::Image(reference) = &mut container.source else { return };
    let Some((supply, digest)) = supplies.of(reference) else { return };
    if let Some(digest) = digest {
        *reference = reference.pinned(digest);
    }
    container.supply = Some(supply);
}

/// What to leave for an image that was checked; nothing for one that is never fetched.
pub fn image_output(files: &Files<ImageName>, checked: &CheckedImage) -> Option<ImageOutput> {
    let name = files.name.clone();
    if let Some(image) = &checked.image {
        return (image.pull != Pull::Never).then(|| good(image, Some(&files.main)))?;
    }
    let errors: Vec<Finding> =
        checked.findings.iter().filter(|finding| finding.level == Level::Error).cloned().collect();
    let problem = errors.first().map_or_else(|| "no reason known".to_owned(), Finding::short_line);
    Some(ImageOutput {
        unit: refusal(&name, &files.main.path, &problem),
        name,
        beside: super::Beside::Findings(report::render(&errors, Style::Plain)),
    })
}

/// What to leave for an image that only containers name.
pub fn implicit_output(image: &DeclaredImage) -> Option<ImageOutput> {
    good(image, None)
}

fn good(image: &DeclaredImage, source: Option<&Arc<Source>>) -> Option<ImageOutput> {
    let path = source.map(|source| source.path.as_path());
    let plan = ImagePlan { format: PLAN_FORMAT, source: path.map(Path::to_owned), image: image.clone() };
    let json = serde_json::to_string(&plan).ok()?;
    Some(ImageOutput { name: image.name.clone(), unit: unit(image, path), beside: super::Beside::Plan(json) })
}

/// The unit that fetches an image.
fn unit(image: &DeclaredImage, source: Option<&Path>) -> String {
    let mut unit = Section::new("Unit");
    let description = match &image.description {
        Some(description) => description.clone(),
        None => format!("Image {}", image.reference),
    };
    unit.text("Description", &description, Percent::Literal).word("Documentation", "man:wharf-image(5)");
    if let Some(source) = source {
        unit.quoted("SourcePath", &source.to_string_lossy(), Percent::Literal);
    }
    // systemd looks each time that something needs the image: where it is there, nothing runs, and the boot waits
    // for no network. The condition's value is all of the line, so nothing in it is quoted.
    if let Some(path) = there(image) {
        unit.text("ConditionPathExists", &format!("!{path}"), Percent::Literal);
    }
    unit.word("RequiresMountsFor", STATE);
    if let Some(From::Path(path)) = &image.from {
        unit.quoted("RequiresMountsFor", &path.to_string_lossy(), Percent::Literal);
    }
    // Containers that wait for it ask again with growing delay, and so do people who have just mended something.
    unit.word("StartLimitIntervalSec", "0");
    for (key, value) in &image.systemd.unit {
        unit.verbatim(key, value);
    }
    let mut service = service(&image.name);
    for (key, value) in &image.systemd.service {
        service.verbatim(key, value);
    }
    Unit::new([unit, service]).render(COMMENT)
}

/// What is in the store exactly when the image needn't be fetched; nothing where it always is.
fn there(image: &DeclaredImage) -> Option<String> {
    match image.pinned() {
        // What is pinned can't have changed, whatever `pull` says.
        Some(digest) => {
            Some(format!("{STATE}/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap_or(digest)))
        }
        None if image.pull == Pull::Always => None,
        None => Some(format!("{STATE}/refs/{}", crate::image::reference_file_name(&image.reference))),
    }
}

fn service(name: &ImageName) -> Section {
    let mut service = Section::new("Service");
    service
        // Whoever needs the image starts when this has ended, and finds it. systemd takes STATUS= and
        // EXTEND_TIMEOUT_USEC= from any type (`service_notify_message` in its src/core/service.c), where
        // NotifyAccess= allows it and there is a timeout to extend: for oneshot there is none by default.
        .word("Type", "oneshot")
        .word("NotifyAccess", "main")
        .command(
            "ExecStart",
            "",
            COMMAND,
            &[("image", Percent::Literal), ("provide", Percent::Literal), (name.as_str(), Percent::Literal)],
        )
        .word("TimeoutStartSec", STALLED_TEXT)
        .word("Slice", "wharf.slice")
        .word("NoNewPrivileges", "yes");
    service
}

/// The unit of an image whose files have errors: starting it fails and prints them.
fn refusal(name: &ImageName, source: &Path, problem: &str) -> String {
    let mut unit = Section::new("Unit");
    unit.text("Description", &format!("Image {name}: refused, {problem}"), Percent::Literal)
        .word("Documentation", "man:wharf-image(5)")
        .quoted("SourcePath", &source.to_string_lossy(), Percent::Literal)
        .word("StartLimitIntervalSec", "0");
    Unit::new([unit, service(name)]).render(COMMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Beside;

    fn of(text: &str) -> ImageOutput {
        let main = Source::new("/etc/wharf/images/x.toml", text);
        let name = ImageName::of_file("x").expect("a name");
        let mut all = [(Files { name, main, drop_ins: vec![], findings: vec![] }, CheckedImage::default())];
        all[0].1 = check_image(&all[0].0);
        compare_images(&mut all, &Settings::default(), ForAll::default());
        image_output(&all[0].0, &all[0].1).expect("a unit")
    }

    #[test]
    fn what_is_there_is_not_fetched() {
        let digest = "a".repeat(64);
        for (text, condition) in [
            ("", Some("!/var/lib/wharf/refs/a.example%%2Fx:1".to_owned())),
            ("pull = \"always\"", None),
            (
                &format!("pull = \"always\"\ndigest = \"sha256:{digest}\""),
                Some(format!("!/var/lib/wharf/blobs/sha256/{digest}")),
            ),
        ] {
            let unit = of(&format!("image = \"a.example/x:1\"\n{text}\n")).unit;
            let line = unit.lines().find_map(|line| line.strip_prefix("ConditionPathExists="));
            assert_eq!(line, condition.as_deref(), "{unit}");
        }
    }

    #[test]
    fn names_of_references_reach_the_command() {
        let reference = "a.example/my-web:1".parse().expect("a reference");
        let image = DeclaredImage::implicit(&reference, &ForAll::default());
        let output = implicit_output(&image).expect("a unit");
        assert_eq!(output.name.unit(), "a.example-my\\x2dweb:1-image.service");
        let line = "ExecStart=/usr/bin/wharf image provide \"a.example-my\\\\x2dweb:1\"\n";
        assert!(output.unit.contains(line), "{}", output.unit);
        let Beside::Plan(json) = &output.beside else { panic!("{output:?}") };
        let plan: ImagePlan = serde_json::from_str(json).expect("a plan");
        assert_eq!((plan.image.name, plan.source), (output.name, None));
    }

    #[test]
    fn mistakes_are_printed_by_a_start() {
        let output = of("image = 3\n");
        assert!(
            output.unit.contains("Image x: refused, x.toml:1:9: `image` must be a text"),
            "{}",
            output.unit
        );
        assert!(matches!(&output.beside, Beside::Findings(text) if text.contains("image = 3")));
    }

    #[test]
    fn the_timeout_is_one() {
        let timeout = crate::spec::duration(STALLED_TEXT);
        assert_eq!(timeout, Ok(STALLED));
    }
}
