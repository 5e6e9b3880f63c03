//! `wharf.toml`: from a document to [`Settings`].

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::{Reading, Rules, paths, shape};
use crate::report::{self, Finding, Place};
use crate::settings::{Policy, Registry, Settings, Trust, Unpack};
use crate::spec::{Data, Document, Entry, Reference, is_component, is_host, keys, size};

/// What became of `wharf.toml` and its drop-ins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedSettings {
    /// What they say, as far as it can be read; without errors, all of it.
    pub settings: Settings,
    /// Every finding, by file and line.
    pub findings: Vec<Finding>,
}

impl CheckedSettings {
    /// Whether the settings are what the files mean.
    pub fn are_usable(&self) -> bool {
        !report::has_errors(&self.findings)
    }
}

type Host<'d> = Rules<'d, ()>;

/// Checks the merged files. `syntax` are the findings from reading them.
pub fn settings(document: &Document, syntax: Vec<Finding>) -> CheckedSettings {
    let reading = Reading::new(&syntax);
    let mut rules = Rules { name: &(), document, findings: syntax };
    shape::check(&mut rules, &keys::HOST);
    let settings = Settings {
        registries: registries(&mut rules),
        aliases: aliases(&mut rules),
        trust: trust(&mut rules),
        unpack: unpack(&mut rules),
    };
    CheckedSettings { settings, findings: reading.findings(rules.findings) }
}

/// The tables below one, each with the place of its name.
fn tables<'d>(rules: &Host<'d>, path: &str) -> Vec<(&'d str, &'d Place)> {
    let entries = rules.table(path).into_iter().flatten();
    let tables = entries.filter(|(_, entry)| matches!(entry.value.data, Data::Table(_)));
    tables.map(|(name, entry)| (name.as_str(), &entry.key)).collect()
}

/// A key of a table whose name may hold dots.
fn of<'d>(rules: &Host<'d>, path: &[&str]) -> Option<&'d Entry> {
    rules.document.get(path.iter().copied())
}

fn texts<'d>(rules: &Host<'d>, path: &[&str]) -> Vec<(&'d str, &'d Place)> {
    match of(rules, path).map(|entry| &entry.value.data) {
        Some(Data::List(values)) => {
            values.iter().filter_map(|value| Some((value.text()?, &value.place))).collect()
        }
        _ => Vec::new(),
    }
}

fn registries(rules: &mut Host<'_>) -> BTreeMap<String, Registry> {
    let mut registries = BTreeMap::new();
    for (host, place) in tables(rules, "registries") {
        if !is_host(host) {
            let hint = match without_scheme(host) {
                Some(host) => format!("write it without the scheme: {host:?}"),
                None if host.contains('/') => {
                    "a registry is a host, perhaps with a port; repositories are matched by [trust.rules]"
                        .into()
                }
                None => "for example: [registries.\"registry.example:5000\"]".into(),
            };
            rules.error(place, format!("`{host}` can't be a registry's host"), hint);
            continue;
        }
        let registry = Registry {
            mirrors: mirrors(rules, host),
            insecure: matches!(
                of(rules, &["registries", host, "insecure"]).map(|entry| &entry.value.data),
                Some(Data::Flag(true))
            ),
            authorities: authorities(rules, host),
            signatures: signatures(rules, host),
        };
        registries.insert(host.to_owned(), registry);
    }
    registries
}

fn without_scheme(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    Some(rest.trim_end_matches('/')).filter(|rest| !rest.is_empty())
}

fn mirrors(rules: &mut Host<'_>, host: &str) -> Vec<String> {
    let mut mirrors = Vec::new();
    for (text, place) in texts(rules, &["registries", host, "mirrors"]) {
        let (mirror, path) = text.split_once('/').map_or((text, None), |(mirror, path)| (mirror, Some(path)));
        if is_host(mirror) && path.is_none_or(|path| path.split('/').all(is_component)) {
            mirrors.push(text.to_owned());
            continue;
        }
        let hint = match without_scheme(text) {
            Some(mirror) if text.starts_with("http:") => format!(
                "write {mirror:?}, and insecure = true under [registries.\"{}\"]",
                mirror.split('/').next().unwrap_or(mirror)
            ),
            Some(mirror) => format!("write it without the scheme: {mirror:?}"),
            None => "for example: \"mirror.example/docker\"".into(),
        };
        rules.error(place, format!("`{text}` can't be a mirror"), hint);
    }
    mirrors
}

fn authorities(rules: &mut Host<'_>, host: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (text, place) in texts(rules, &["registries", host, "authorities"]) {
        match paths::host(text) {
            Ok(path) => files.push(path),
            Err(error) => {
                rules.error(place, format!("a file of `authorities` {}", error.message), error.hint)
            }
        }
    }
    files
}

fn signatures(rules: &mut Host<'_>, host: &str) -> Option<String> {
    let value = &of(rules, &["registries", host, "signatures"])?.value;
    let (text, place) = (value.text()?, &value.place);
    if is_url(text) {
        return Some(text.trim_end_matches('/').to_owned());
    }
    if let Some(path) = text.strip_prefix("file://") {
        rules.error(place, "`signatures` is a URL of this host's files", format!("write {path:?}"));
        return None;
    }
    match paths::host(text) {
        Ok(path) => path.to_str().map(str::to_owned),
        Err(_) => {
            rules.error(
                place,
                "`signatures` is neither a URL nor an absolute path",
                "for example: \"https://sigs.example/sigstore\", or \"/srv/signatures\"",
            );
            None
        }
    }
}

/// Whether a text is a URL of HTTP, as far as it can be told without asking anybody: a host and a path of visible
/// ASCII (RFC 3986, 2; RFC 9110, 4.2).
pub(super) fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let literal = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let good = match literal {
        Some((address, port)) => {
            address.parse::<Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()))
        }
        None => is_host(host),
    };
    good && rest.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\'))
}

fn aliases(rules: &mut Host<'_>) -> BTreeMap<String, String> {
    let mut aliases = BTreeMap::new();
    for (name, entry) in rules.table("aliases").into_iter().flatten() {
        let short: Option<Reference> = name.parse().ok();
        let short = short.filter(|short| short.name() == name && short.registry().is_none());
        if short.is_none() {
            rules.error(
                &entry.key,
                format!("`{name}` can't be a short name"),
                "write the name that stands in container files before the tag, without a registry",
            );
            continue;
        }
        let place = &entry.value.place;
        let Some(text) = entry.value.text() else {
            rules.error(place, format!("the alias `{name}` must be a text"), "put the value in quotes");
            continue;
        };
        match text.parse::<Reference>() {
            Ok(whole) if whole.name() != text => rules.error(
                place,
                format!("the alias `{name}` has a tag or a digest"),
                format!("write {:?}: the tag is that of the image's reference", whole.name()),
            ),
            Ok(whole) if whole.registry().is_none() => rules.error(
                place,
                format!("the alias `{name}` names no registry"),
                format!("write the registry as well, for example \"docker.io/library/{name}\""),
            ),
            Ok(_) => {
                aliases.insert(name.clone(), text.to_owned());
            }
            Err(error) => {
                let hint = match without_scheme(text) {
                    Some(text) => format!("write it without the scheme: {text:?}"),
                    None => "for example: nginx = \"docker.io/library/nginx\"".into(),
                };
                rules.error(place, format!("the alias `{name}` is no repository: {error}"), hint);
            }
        }
    }
    aliases
}

fn trust(rules: &mut Host<'_>) -> Trust {
    let default = policy(rules, &["trust"], "policy").unwrap_or_default();
    let mut trust = Trust { policy: default, ..Trust::default() };
    for (name, place) in tables(rules, "trust.rules") {
        let (host, rest) = name.split_once('/').map_or((name, None), |(host, rest)| (host, Some(rest)));
        let known = host.contains(['.', ':']) || host == "localhost";
        if !(known && is_host(host) && rest.is_none_or(|rest| rest.split('/').all(is_component))) {
            let hint = match (without_scheme(name), rules.document.get(["aliases", name])) {
                (Some(name), _) => format!("write it without the scheme: {name:?}"),
                (None, Some(_)) => {
                    "rules are about whole repositories: write what the alias stands for".into()
                }
                (None, None) => "for example: [trust.rules.\"registry.example/web\"]".into(),
            };
            let message = format!("`{name}` is neither a registry nor a repository with its registry");
            rules.error(place, message, hint);
            continue;
        }
        if of(rules, &["trust", "rules", name, "policy"]).is_none() {
            rules.error(
                place,
                format!("the rule for {name} has no `policy`"),
                "write policy = \"any\", \"digest\" or \"signed\"",
            );
        } else if let Some(policy) = policy(rules, &["trust", "rules", name], "policy") {
            trust.rules.insert(name.to_owned(), policy);
        }
    }
    trust
}

/// A policy with its keys: `policy` and `keys` of a table. Nothing where none is written, or none can be read.
pub(super) fn policy<N>(rules: &mut Rules<'_, N>, table: &[&str], key: &str) -> Option<Policy> {
    let below = |key: &str| rules.document.get(table.iter().copied().chain([key]));
    let (word, listed) = (below(key), below("keys"));
    let mut keys = Vec::new();
    if let Some(Data::List(values)) = listed.map(|entry| &entry.value.data) {
        for (name, place) in values.iter().filter_map(|value| Some((value.text()?, &value.place))) {
            if name.is_empty()
                || name.starts_with('.')
                || name.contains('/')
                || name.chars().any(char::is_control)
            {
                let hint = match name.strip_prefix("/etc/wharf/keys/").filter(|name| !name.contains('/')) {
                    Some(name) => format!("write {name:?}"),
                    None => "write the name of a file that is in /etc/wharf/keys".to_owned(),
                };
                rules.error(place, format!("`{name}` can't be a file in /etc/wharf/keys"), hint);
            } else {
                keys.push(name.to_owned());
            }
        }
    }
    let word = word.and_then(|entry| entry.value.text());
    if let Some(entry) = listed.filter(|_| word != Some("signed")) {
        rules.error(
            &entry.key,
            format!("`keys` means nothing without {key} = \"signed\""),
            format!("write {key} = \"signed\" beside it, or take it out"),
        );
    }
    match word? {
        "any" => Some(Policy::Any),
        "digest" => Some(Policy::Digest),
        "signed" => Some(Policy::Signed { keys }),
        _ => None,
    }
}

fn unpack(rules: &mut Host<'_>) -> Unpack {
    let default = Unpack::default();
    let bytes = rules.digits("unpack.bytes").and_then(|(text, place)| match size(&text) {
        Ok(0) => {
            rules.error(place, "`bytes` can't be 0", "for example: bytes = \"512G\"");
            None
        }
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let hint = match error.suggestion() {
                Some(text) => format!("write {text:?}"),
                None => "for example: bytes = \"512G\"".to_owned(),
            };
            rules.error(place, format!("`bytes`: {error}"), hint);
            None
        }
    });
    Unpack {
        entries: count(rules, "entries").unwrap_or(default.entries),
        bytes: bytes.unwrap_or(default.bytes),
        ratio: count(rules, "ratio").unwrap_or(default.ratio),
    }
}

fn count(rules: &mut Host<'_>, key: &str) -> Option<u64> {
    let value = &rules.get(&format!("unpack.{key}"))?.value;
    let Data::Integer(number) = value.data else { return None };
    match u64::try_from(number) {
        Ok(number @ 1..) => Some(number),
        _ => {
            rules.error(
                &value.place,
                format!("`{key}` must be at least 1"),
                "leave it out for the default, which no real image meets",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Source;
    use crate::spec::keys::{Default, HOST};

    fn checked(text: &str) -> CheckedSettings {
        let (document, findings) = Document::parse(&Source::new("wharf.toml", text));
        settings(&document, findings)
    }

    #[test]
    fn nothing_is_the_default() {
        let checked = checked("");
        assert_eq!((checked.settings, checked.findings), (Settings::default(), vec![]));
    }

    #[test]
    fn every_example_checks() {
        for key in HOST.keys {
            let checked = checked(key.example);
            assert!(checked.are_usable(), "{}: {:?}", key.path, checked.findings);
            assert_ne!(checked.settings, Settings::default(), "{}", key.path);
        }
    }

    #[test]
    fn every_default_is_what_holds() {
        for key in HOST.keys.iter().filter(|key| !key.path.contains('*')) {
            let Default::Is(value) = key.default else { continue };
            assert_eq!(
                checked(&format!("{} = {value}", key.path)).settings,
                Settings::default(),
                "{}",
                key.path
            );
        }
    }

    #[test]
    fn everything() {
        let checked = checked(
            "[registries.\"registry.example:5000\"]\nmirrors = [\"mirror.example/docker\", \"10.0.0.5:5000\"]\n\
             insecure = true\nauthorities = [\"/etc/wharf/ca.pem\"]\nsignatures = \"/srv/signatures/\"\n\
             [aliases]\nnginx = \"docker.io/library/nginx\"\n\"team/web\" = \"registry.example/team/web\"\n\
             [trust]\npolicy = \"signed\"\nkeys = [\"ops.asc\"]\n[trust.rules.\"docker.io\"]\npolicy = \"digest\"\n\
             [unpack]\nentries = 5\nbytes = \"1T\"\nratio = 7\n",
        );
        assert_eq!(checked.findings, []);
        let Settings { registries, aliases, trust, unpack } = &checked.settings;
        let registry = Registry {
            mirrors: vec!["mirror.example/docker".into(), "10.0.0.5:5000".into()],
            insecure: true,
            authorities: vec!["/etc/wharf/ca.pem".into()],
            signatures: Some("/srv/signatures".into()),
        };
        assert_eq!(registries.get("registry.example:5000"), Some(&registry));
        assert_eq!(aliases["team/web"], "registry.example/team/web");
        assert_eq!(*trust.policy("docker.io/library/nginx"), Policy::Digest);
        assert_eq!(trust.policy, Policy::Signed { keys: vec!["ops.asc".into()] });
        assert_eq!(*unpack, Unpack { entries: 5, bytes: 1 << 40, ratio: 7 });
        let repository = |text: &str| checked.settings.repository(&text.parse().expect("a reference"));
        assert_eq!(repository("nginx:1.26").as_deref(), Some("docker.io/library/nginx"));
        assert_eq!(repository("localhost:5000/x").as_deref(), Some("localhost:5000/x"));
        assert_eq!(repository("redis:7"), None);
    }

    #[test]
    fn urls() {
        for text in ["https://a.example", "http://10.0.0.5:8080/x/y.tar?z=1", "https://[fd00::1]:8443/x"] {
            assert!(is_url(text), "{text}");
        }
        for text in ["", "https://", "ftp://a.example/x", "https://a b/x", "https://u:p@a.example/x", "/x"] {
            assert!(!is_url(text), "{text}");
        }
    }
}
