//! The table of keys against the rules, and arbitrary files against both.

use proptest::prelude::*;

use super::*;
use crate::report::{Level, Source};
use crate::spec::keys::{Default, KEYS, Status};

fn checked(name: &str, text: &str) -> Checked {
    let (document, findings) = Document::parse(&Source::new(format!("{name}.toml"), text));
    check(&name.parse().expect("a name"), &document, findings)
}

fn errors(checked: &Checked) -> Vec<&Finding> {
    checked.findings.iter().filter(|finding| finding.level == Level::Error).collect()
}

/// A whole file around a line: what is required, unless the line has it.
fn around(path: &str, line: &str) -> String {
    let mut text = format!("{line}\n");
    if path == "rootfs" {
        text.push_str("command = [\"/bin/true\"]\n");
    } else if path != "image" {
        text.push_str("image = \"nginx:1.26\"\n");
    }
    if path != "network" {
        text.push_str("network = \"none\"\n");
    }
    text
}

#[test]
fn every_example_checks() {
    for key in KEYS {
        let checked = checked("x", &around(key.path, key.example));
        match key.status {
            Status::Ready => {
                assert!(checked.container.is_some(), "{}: {:?}", key.path, errors(&checked));
            }
            Status::Later(instead) => {
                let errors = errors(&checked);
                assert_eq!(errors.len(), 1, "{}: {errors:?}", key.path);
                assert!(errors[0].message.contains("not supported yet"));
                assert_eq!(errors[0].hint.as_deref(), Some(instead));
            }
        }
    }
}

#[test]
fn every_default_is_what_holds() {
    let bare = checked("x", &around("", "")).container.expect("a container");
    for key in KEYS.iter().filter(|key| key.status == Status::Ready) {
        let Default::Is(value) = key.default else { continue };
        match key.path.strip_prefix("mounts.*.") {
            None => {
                let line = format!("{} = {value}", key.path);
                assert_eq!(checked("x", &around(key.path, &line)).container.as_ref(), Some(&bare), "{line}");
            }
            Some(name) => {
                let mount = |more: &str| {
                    let line = format!("mounts.\"/m\" = {{ bind = \"/s\"{more} }}");
                    checked("x", &around(key.path, &line)).container.expect("a container")
                };
                assert_eq!(mount(&format!(", {name} = {value}")), mount(""), "{}", key.path);
            }
        }
    }
}

#[test]
fn all_findings_at_once() {
    let text =
        "imge = 1\nnetwork = 3\nuser = \"a b\"\n[limits]\nmemory = \"1x\"\ncpu = 2\n[mounts]\n\"x\" = {}\n";
    let lines: Vec<String> = checked("x", text).findings.iter().map(Finding::short_line).collect();
    assert_eq!(lines.len(), 8, "{lines:#?}");
}

#[test]
fn instances() {
    let text = "description = \"%i at 100%%\"\nrootfs = \"/srv/%i\"\nuser = \"%i\"\nnetwork = \"none\"\ncommand = [\"/run\", \"%i\"]\n[environment]\nW = \"%i\"\n[mounts]\n\"/d/%i\" = { volume = \"d-%i\" }\n[systemd.Service]\nNice = \"%n\"\n";
    let template = checked("web@", text).container.expect("a container");
    assert_eq!(template.hostname, "web-%i");
    let blue = template.instance("101");
    assert_eq!(blue.name.as_str(), "web@101");
    assert_eq!(blue.description.as_deref(), Some("101 at 100%"));
    assert_eq!(blue.source, RootSource::Folder("/srv/101".into()));
    assert_eq!(blue.user, Some(UserName::Id(101)));
    assert_eq!(blue.hostname, "web-101");
    assert_eq!(blue.mounts[0].target, "/d/101");
    assert_eq!(blue.environment["W"], "101");
    assert_eq!(blue.systemd, template.systemd);
    let json = serde_json::to_string(&blue).expect("JSON");
    assert!(!json.contains("%i"), "{json}");
}

#[test]
fn environment_values_stay_out_of_findings() {
    let text = around("", "[environment]\nTOKEN = \"s3cret\\u0000\"\nB = [\"s3cret\"]\n")
        .replace("[environment]", "environment.A = \"s3cret\\u0000\"\n[environment.x]");
    for finding in checked("x", &text).findings {
        assert!(!finding.line().contains("s3cret"), "{}", finding.line());
    }
}

/// A value of any shape, in TOML.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[^\\p{Cc}\"\\\\]{0,12}".prop_map(|text| format!("\"{text}\"")),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        Just("[]".to_owned()),
        Just("[1, \"a\", []]".to_owned()),
        Just("{ a = 1, bind = \"/x\" }".to_owned()),
        Just("1.5".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("99999999999999999999".to_owned()),
    ]
}

proptest! {
    #[test]
    fn arbitrary_text_is_checked(text in "\\PC{0,200}", name in prop::sample::select(vec!["x", "x@", "x@y"])) {
        let checked = checked(name, &text);
        prop_assert_eq!(checked.container.is_none(), !errors(&checked).is_empty());
        report::render(&checked.findings, report::Style::Plain);
    }

    #[test]
    fn keys_with_arbitrary_values(
        lines in prop::collection::vec((prop::sample::select(KEYS), value()), 0..6),
        name in prop::sample::select(vec!["x", "x@"]),
    ) {
        let text: String = lines
            .iter()
            .map(|(key, value)| format!("{} = {value}\n", key.path.replace('*', "\"/t\"")))
            .collect();
        let checked = checked(name, &text);
        prop_assert_eq!(checked.container.is_none(), !errors(&checked).is_empty());
        report::render(&checked.findings, report::Style::Plain);
    }
}
