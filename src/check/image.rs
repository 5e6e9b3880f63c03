//! `images/NAME.toml`: from a document to a checked model, and the rules across images.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::host::{is_url, policy};
use super::{Reading, Rules, Supply, SystemdSections, paths, process, shape, systemd};
use crate::report::{self, Finding, Place};
use crate::settings::{Policy, Settings};
use crate::spec::{Document, ImageName, Platform, Reference, keys};

/// An image as declared: by a file, or by a container that names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredImage {
    /// What its unit is called.
    pub name: ImageName,
    /// `description`, for people; the reference where it isn't given.
    pub description: Option<String>,
    /// `image`: what it is called in the store. Pinned only where no file declares it.
    pub reference: Reference,
    /// `from`; the reference itself where it isn't given.
    pub from: Option<From>,
    /// `pick`: one image of several of an archive or a layout.
    pub pick: Option<String>,
    /// `pull`.
    pub pull: Pull,
    /// The digest that its manifest must have, `sha256:…`: `digest`, or that of a pinned `from`.
    pub digest: Option<String>,
    /// `platform`; this machine's where it isn't given.
    pub platform: Option<Platform>,
    /// `trust` and `keys`; what `wharf.toml` says where they aren't given.
    pub trust: Option<Policy>,
    /// `[systemd.*]`.
    pub systemd: SystemdSections,
}

/// Where an image is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// A registry, by a reference: whole, or a short name with an alias.
    Registry(Reference),
    /// An archive, or an OCI layout, on a web server: `http:` or `https:`.
    Url(String),
    /// An archive or a layout's folder on this host, absolute and without `..`.
    Path(PathBuf),
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// Where the store doesn't have it.
    #[default]
    Missing,
    /// Before each start of a container that runs it.
    Always,
    /// Never: somebody imports it.
    Never,
}

impl DeclaredImage {
    /// The image of a container that no file is about: as the drop-ins for all images say.
    pub fn implicit(reference: &Reference, for_all: &ForAll) -> Self {
        let ForAll { pull, platform, trust, systemd } = for_all.clone();
        Self {
            name: ImageName::of_reference(reference),
            description: None,
            reference: reference.clone(),
            from: None,
            pick: None,
            pull,
            digest: None,
            platform,
            trust,
            systemd,
        }
    }

    /// The digest that it is pinned to, wherever that is written.
    pub fn pinned(&self) -> Option<&str> {
        self.digest.as_deref().or(self.reference.digest())
    }

    /// The reference that the store has it by, pinned where it is.
    pub fn stored(&self) -> Reference {
        match &self.digest {
            Some(digest) => self.reference.pinned(digest),
            None => self.reference.clone(),
        }
    }
}

/// What the drop-ins for all images say that can be said of any. Where they have mistakes, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForAll {
    pull: Pull,
    platform: Option<Platform>,
    trust: Option<Policy>,
    systemd: SystemdSections,
}

impl ForAll {
    /// Of an image that is made of nothing else.
    pub fn new(image: DeclaredImage) -> Self {
        let DeclaredImage { pull, platform, trust, systemd, .. } = image;
        Self { pull, platform, trust, systemd }
    }
}

/// What became of an image's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedImage {
    /// The image, unless one of the findings is an error.
    pub image: Option<DeclaredImage>,
    /// Every finding, by file and line.
    pub findings: Vec<Finding>,
    /// `image`, with its place; also where there are errors.
    pub reference: Option<(Reference, Place)>,
    /// Where `from` names what a registry has, or `image` stands for it; also where there are errors.
    registry: Option<(Reference, Place)>,
    /// What holds for containers of this image; also where there are errors, as far as it can be read.
    digest: Option<String>,
    trust: Option<Policy>,
    pull: Pull,
}

impl CheckedImage {
    /// One that can't be told anything about.
    pub fn broken(finding: Finding) -> Self {
        Self { findings: vec![finding], ..Self::default() }
    }
}

/// Checks an image's merged files. `syntax` are the findings from reading them.
pub fn image(name: &ImageName, document: &Document, syntax: Vec<Finding>) -> CheckedImage {
    let broken = report::has_errors(&syntax);
    let reading = Reading::new(&syntax);
    let mut rules = Rules { name, document, findings: syntax };
    shape::check(&mut rules, &keys::IMAGE);
    let reference = reference(&mut rules, !broken);
    let description = process::description(&mut rules);
    let (from, from_place) = from(&mut rules).unzip();
    let pull = match rules.text("pull") {
        Some(("always", _)) => Pull::Always,
        Some(("never", _)) => Pull::Never,
        _ => Pull::Missing,
    };
    let digest = digest(&mut rules, from.as_ref());
    let pick = pick(&mut rules, from.as_ref());
    let platform = platform(&mut rules);
    let trust = policy(&mut rules, &[], "trust");
    if trust == Some(Policy::Digest) && digest.is_none() && rules.get("digest").is_none() {
        let place = rules.get("trust").map_or_else(|| rules.whole(), |entry| entry.value.place.clone());
        rules.error(&place, "trust = \"digest\" needs a `digest`", "for example: digest = \"sha256:…\"");
    }
    let systemd = systemd::sections_of_image(&mut rules);
    let findings = reading.findings(rules.findings);
    let reference = reference.filter(|(_, place)| !reading.failed_at(place));
    let registry = match (&from, from_place) {
        (Some(From::Registry(reference)), Some(place)) => Some((reference.clone(), place)),
        // What is written there can't be used.
        (None, _) if document.get(["from"]).is_some() => None,
        (None, _) if pull != Pull::Never => reference.clone(),
        _ => None,
    };
    let good = reference.as_ref().filter(|_| !report::has_errors(&findings));
    let image = good.map(|(reference, _)| DeclaredImage {
        name: name.clone(),
        description,
        reference: reference.clone(),
        from,
        pick,
        pull,
        digest: digest.clone(),
        platform,
        trust: trust.clone(),
        systemd,
    });
    CheckedImage { image, findings, reference, registry, digest, trust, pull }
}

type Image<'d> = Rules<'d, ImageName>;

fn reference(rules: &mut Image<'_>, required: bool) -> Option<(Reference, Place)> {
    if rules.get("image").is_none() && required {
        let whole = rules.whole();
        rules.error(
            &whole,
            "`image` is not given",
            "write the reference that containers use: image = \"nginx:1.26\"",
        );
    }
    let (text, place) = rules.text("image")?;
    match text.parse::<Reference>() {
        Ok(reference) => match reference.digest() {
            None => Some((reference, place.clone())),
            Some(digest) => {
                let hint = format!(
                    "write image = {:?} with digest = {digest:?}, and the same `image` in containers",
                    text.split('@').next().unwrap_or(text)
                );
                rules.error(place, "`image` can't be pinned: it is what the store calls the image", hint);
                None
            }
        },
        Err(error) => {
            let hint = if text.contains("://") {
                "write where it comes from as `from`, and here what it is called: \"nginx:1.26\""
            } else {
                "for example: image = \"nginx:1.26\""
            };
            rules.error(place, format!("`image` is not a reference: {error}"), hint);
            None
        }
    }
}

fn from(rules: &mut Image<'_>) -> Option<(From, Place)> {
    let (text, place) = rules.text("from")?;
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let from = match scheme {
        Some("http" | "https") if is_url(text) => Ok(From::Url(text.to_owned())),
        Some("http" | "https") => Err((
            "`from` is not a URL that can be fetched".to_owned(),
            "write a host and a path: \"https://images.example/nginx.tar\"; user names go into auth.json"
                .to_owned(),
        )),
        Some("docker" | "oci" | "file" | "docker-archive" | "oci-archive" | "dir") => Err((
            format!("`from` can't begin with `{}://`", scheme.unwrap_or_default()),
            "write a reference or a path without anything before it".to_owned(),
        )),
        Some(scheme) => Err((
            format!("`from` can't be fetched by `{scheme}`"),
            "write a reference, a URL with http or https, or an absolute path".to_owned(),
        )),
        None if text.starts_with(['/', '.', '~']) => paths::host(text)
            .map(From::Path)
            .map_err(|error| (format!("`from` {}", error.message), error.hint)),
        None => text.parse().map(From::Registry).map_err(|error| {
            (
                format!("`from` is not a reference: {error}"),
                "write a reference, a URL with http or https, or an absolute path".to_owned(),
            )
        }),
    };
    match from {
        Ok(from) => Some((from, place.clone())),
        Err((message, hint)) => {
            rules.error(place, message, hint);
            None
        }
    }
}

/// The digest that is written, or that `from` is pinned to.
fn digest(rules: &mut Image<'_>, from: Option<&From>) -> Option<String> {
    let of_from = match from {
        Some(From::Registry(reference)) => reference.digest(),
        _ => None,
    };
    let Some((text, place)) = rules.text("digest") else { return of_from.map(str::to_owned) };
    // A reference knows what a digest is.
    let digest = format!("x@{text}").parse::<Reference>();
    match (digest, of_from) {
        (Err(error), _) => {
            let hint = match text.len() {
                64 => format!("write \"sha256:{text}\""),
                _ => "`wharf image inspect` shows that of an image in the store".to_owned(),
            };
            rules.error(place, format!("`digest`: {error}"), hint);
            None
        }
        (Ok(_), Some(other)) if other != text => {
            rules.error(place, "`digest` is another than that of `from`", "keep the one that you mean");
            None
        }
        (Ok(_), _) => Some(text.to_owned()),
    }
}

fn pick(rules: &mut Image<'_>, from: Option<&From>) -> Option<String> {
    let entry = rules.get("pick")?;
    let (text, place) = rules.text("pick")?;
    if text.is_empty() || text.chars().any(char::is_control) {
        rules.error(
            place,
            "`pick` can't be the name of an image",
            "write the name that the archive has for it",
        );
        return None;
    }
    if !matches!(from, Some(From::Url(_) | From::Path(_))) && (from.is_some() || rules.get("from").is_none())
    {
        rules.error(
            &entry.key,
            "`pick` is for archives and layouts",
            "a registry has the image that the reference names: take `pick` out, or write `from`",
        );
        return None;
    }
    Some(text.to_owned())
}

fn platform(rules: &mut Image<'_>) -> Option<Platform> {
    let (text, place) = rules.text("platform")?;
    match text.parse() {
        Ok(platform) => Some(platform),
        Err(error) => {
            let hint = match format!("linux/{text}").parse::<Platform>() {
                Ok(platform) if !text.contains('/') && text != "linux" => format!("write \"{platform}\""),
                _ => "for example: platform = \"linux/arm64\"".to_owned(),
            };
            rules.error(place, format!("`platform`: {error}"), hint);
            None
        }
    }
}

/// What the files of all images say about references, for the containers that use them.
#[derive(Clone, Debug, Default)]
pub struct Supplies {
    declared: BTreeMap<Reference, (Supply, Option<String>)>,
    settings: Settings,
    for_all: ForAll,
}

impl Supplies {
    /// What a container of this image goes by, and the digest that the image is pinned to by its file. Nothing
    /// where there is neither a file nor a registry.
    pub fn of(&self, reference: &Reference) -> Option<(Supply, Option<&str>)> {
        if let Some((supply, digest)) = self.declared.get(reference) {
            return Some((supply.clone(), digest.as_deref()));
        }
        let fetched = self.settings.repository(reference).is_some() && self.for_all.pull != Pull::Never;
        let unit = fetched.then(|| ImageName::of_reference(reference).unit());
        let supply = Supply { unit, trust: self.for_all.trust.clone() };
        (supply != Supply::default()).then_some((supply, None))
    }

    /// What the unit of an image does that only containers name.
    pub fn implicit(&self, reference: &Reference) -> DeclaredImage {
        DeclaredImage::implicit(reference, &self.for_all)
    }

    /// Whether a file is about this reference.
    pub fn is_declared(&self, reference: &Reference) -> bool {
        self.declared.contains_key(reference)
    }
}

/// The rules across images, whose findings are laid by the image in whose files they are; and what follows for
/// containers. With settings that have mistakes, what can be read of them counts.
pub fn images(
    all: &mut [&mut CheckedImage],
    names: &[&ImageName],
    settings: &Settings,
    for_all: ForAll,
) -> Supplies {
    let mut declared: BTreeMap<Reference, (Supply, Option<String>)> = BTreeMap::new();
    let mut by: BTreeMap<Reference, &ImageName> = BTreeMap::new();
    for (checked, name) in all.iter_mut().zip(names) {
        if let Some((reference, place)) = &checked.registry
            && settings.repository(reference).is_none()
        {
            let finding =
                Finding::error(place.clone(), format!("`{reference}` names no registry to fetch it from"));
            checked.findings.push(finding.hint(format!(
                "write one before the name; or `from`; or an alias for `{}` under [aliases] of wharf.toml; or pull = \"never\"",
                reference.name()
            )));
        }
        if let Some((reference, place)) = &checked.reference {
            if let Some(other) = by.get(reference) {
                let finding =
                    Finding::error(place.clone(), format!("{other}.toml is about `{reference}` already"));
                checked.findings.push(finding.hint("keep one of the two files"));
            } else {
                by.insert(reference.clone(), name);
                // The unit is there also where the file has mistakes, and says so when it is started.
                let never = checked.pull == Pull::Never && !report::has_errors(&checked.findings);
                let supply = Supply { unit: (!never).then(|| name.unit()), trust: checked.trust.clone() };
                declared.insert(reference.clone(), (supply, checked.digest.clone()));
            }
        }
        report::sort(&mut checked.findings);
        if report::has_errors(&checked.findings) {
            checked.image = None;
        }
    }
    Supplies { declared, settings: settings.clone(), for_all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Source;
    use crate::spec::keys::{Default, IMAGE};

    fn checked(text: &str) -> CheckedImage {
        let (document, findings) = Document::parse(&Source::new("x.toml", text));
        image(&ImageName::of_file("x").expect("a name"), &document, findings)
    }

    /// A whole file around a line.
    fn around(path: &str, line: &str) -> String {
        let mut text = format!("{line}\n");
        for (key, needed) in [
            ("image", "image = \"registry.example/web:1\""),
            ("from", "from = \"https://images.example/web.tar\""),
            ("trust", "trust = \"signed\""),
        ] {
            if path != key {
                text = format!("{needed}\n{text}");
            }
        }
        text
    }

    #[test]
    fn every_example_checks() {
        for key in IMAGE.keys {
            let checked = checked(&around(key.path, key.example));
            assert!(checked.image.is_some(), "{}: {:?}", key.path, checked.findings);
        }
    }

    #[test]
    fn every_default_is_what_holds() {
        let bare = checked(&around("", "")).image.expect("an image");
        for key in IMAGE.keys {
            let Default::Is(value) = key.default else { continue };
            let line = format!("{} = {value}", key.path);
            assert_eq!(checked(&around(key.path, &line)).image.as_ref(), Some(&bare), "{line}");
        }
    }

    #[test]
    fn where_from() {
        let from = |text: &str| checked(&format!("image = \"a.example/x:1\"\nfrom = {text:?}\n")).image?.from;
        assert_eq!(from("/srv/x.tar"), Some(From::Path("/srv/x.tar".into())));
        assert_eq!(from("https://a.example/x"), Some(From::Url("https://a.example/x".into())));
        assert!(matches!(from("b.example/x:2"), Some(From::Registry(_))));
        for text in ["", "./x.tar", "ftp://a.example/x", "docker://nginx", "https://", "X", "/srv/../x"] {
            assert_eq!(from(text), None, "{text}");
        }
    }

    #[test]
    fn a_pinned_source_pins() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image =
            checked(&format!("image = \"x:1\"\nfrom = \"b.example/x@{digest}\"\n")).image.expect("good");
        assert_eq!(image.pinned(), Some(digest.as_str()));
        assert_eq!(image.stored().to_string(), format!("x:1@{digest}"));
    }

    #[test]
    fn what_containers_go_by() {
        let settings = Settings {
            aliases: [("nginx".to_owned(), "docker.io/library/nginx".to_owned())].into(),
            ..Settings::default()
        };
        let mut files = [
            checked("image = \"app:1\"\nfrom = \"/srv/app.tar\"\ntrust = \"any\"\n"),
            checked("image = \"app:1\"\nfrom = \"/srv/other.tar\"\n"),
            checked("image = \"db:1\"\npull = \"never\"\n"),
            checked("image = \"cache:1\"\n"),
        ];
        let names = ["a", "b", "c", "d"].map(|name| ImageName::of_file(name).expect("a name"));
        let mut all: Vec<_> = files.iter_mut().collect();
        let supplies = images(&mut all, &names.iter().collect::<Vec<_>>(), &settings, ForAll::default());
        let unit = |reference: &str| {
            supplies.of(&reference.parse().expect("a reference")).and_then(|(supply, _)| supply.unit)
        };
        assert_eq!(unit("app:1").as_deref(), Some("a-image.service"));
        assert_eq!(unit("nginx:1.26").as_deref(), Some("nginx:1.26-image.service"));
        assert_eq!(unit("a.example/b").as_deref(), Some("a.example-b:latest-image.service"));
        assert_eq!((unit("db:1"), unit("redis:7")), (None, None));
        assert!(files[0].image.is_some() && files[2].image.is_some());
        assert!(files[1].findings[0].message.contains("a.toml is about `app:1` already"));
        assert!(files[3].findings[0].message.contains("names no registry"));
        assert!(files[1].image.is_none() && files[3].image.is_none());
    }
}
