//! The table of keys against the rules, and arbitrary files against both.

use proptest::prelude::*;

use super::*;
use crate::report::{Level, Source};
use crate::spec::keys::{Default, KEYS};

fn checked(name: &str, text: &str) -> Checked {
    let (document, findings) = Document::parse(&Source::new(format!("{name}.toml"), text));
    check(&name.parse().expect("a name"), &document, findings)
}

fn errors(checked: &Checked) -> Vec<&Finding> {
    checked.findings.iter().filter(|finding| finding.level == Level::Error).collect()
}

/// All that is found in a container file, in one text.
fn said(text: &str) -> String {
    report::render(&checked("x", text).findings, report::Style::Plain)
}

#[test]
fn a_volume_isnt_bound_by_its_path() {
    let bind = |path: &str| said(&format!("image = \"a\"\n[mounts]\n\"/a\" = {{ bind = \"{path}\" }}\n"));
    assert!(bind("/var/lib/wharf/volumes/db/").contains("write volume = \"db\""));
    assert_eq!(bind("/var/lib/wharf/volumes/db/below"), "");
    assert_eq!(bind("/var/lib/wharf/volumes"), "");
}

#[test]
fn keys_among_variables() {
    let text = "image = \"a\"\n[environment]\nUSER = \"a\"\nhttp_proxy = \"b\"\nuser = \"www-data\"\nsnapshot = true\n";
    let said = said(text);
    for key in ["user", "snapshot"] {
        assert!(said.contains(&format!("`{key}` is a variable here")), "{said}");
    }
    assert_eq!(said.matches("warning").count(), 2, "{said}");
}

#[test]
fn signals_that_end_nothing() {
    for (signal, is_refused) in [
        ("SIGSTOP", true),
        ("19", true),
        ("CONT", true),
        ("SIGCHLD", true),
        ("SIGKILL", false),
        ("SIGWINCH", false),
    ] {
        let said = said(&format!("image = \"a\"\nstop.signal = \"{signal}\"\n"));
        assert_eq!(said.contains("asks no program to end"), is_refused, "{signal}: {said}");
    }
}

#[test]
fn nothing_is_published_at_a_link() {
    for (publish, is_refused) in [
        ("[fe80::1]:80:80", true),
        ("169.254.1.1:80:80", true),
        ("192.168.1.1:80:80", false),
        ("[2001:db8::1]:80:80", false),
    ] {
        let said = said(&format!("image = \"a\"\npublish = [\"{publish}\"]\n"));
        assert_eq!(said.contains("nothing can be published at"), is_refused, "{publish}: {said}");
    }
}

#[test]
fn hints_are_no_mistakes() {
    for (line, hint) in [
        ("health.http = \"/healthz\"", "write \"http://localhost/healthz\""),
        ("health.http = \"localhost:8080\"", "write \"http://localhost:8080\""),
        ("health.http = \"unix:///run/x\"", "for example: http = \"http://localhost:8080/healthz\""),
        ("health.http = \"\"", "for example: http = \"http://localhost:8080/healthz\""),
        ("health.tcp = \"70000\"", "for example: tcp = \"127.0.0.1:5432\""),
        ("limits.memory = \"0\"", "for example: \"512M\"; leave it out"),
        ("limits.memory = \"512\"", "did you mean \"512M\"?"),
    ] {
        let said = said(&format!("image = \"a\"\n{line}\n"));
        assert!(said.contains(&format!("hint: {hint}")), "{line}: {said}");
    }
}

#[test]
fn checks_of_other_machines() {
    for (line, is_elsewhere) in [
        ("http = \"http://8.8.8.8/\"", true),
        ("tcp = \"10.0.0.1:53\"", true),
        ("tcp = \"[2001:db8::1]:53\"", true),
        ("tcp = \"127.0.0.2:53\"", false),
        ("http = \"http://[::1]/\"", false),
        ("tcp = \"localhost:53\"", false),
    ] {
        let said = said(&format!("image = \"a\"\nhealth.{line}\n"));
        assert_eq!(said.contains("may be another machine"), is_elsewhere, "{line}: {said}");
    }
}

/// A whole file around a line: what is required, unless the line has it.
fn around(path: &str, line: &str) -> String {
    let mut text = format!("{line}\n");
    let checks = ["command", "http", "image", "tcp"].map(|key| format!("health.{key}"));
    if path == "ready" || (path.starts_with("health.") && !checks.contains(&path.to_owned())) {
        text.push_str("health.tcp = \"localhost:1\"\n");
    }
    if path == "rootfs" {
        text.push_str("command = [\"/bin/true\"]\n");
    } else if path != "image" {
        text.push_str("image = \"nginx:1.26\"\n");
    }
    // What means something only beside other keys of its table.
    match path.split_once('.') {
        Some(("timer", key)) if !["every", "on-boot", "on-calendar"].contains(&key) => {
            text.push_str("timer.on-calendar = \"daily\"\n");
        }
        Some(("socket", "to" | "idle-stop")) => {
            text.push_str("socket.listen = [\"80\"]\nsocket.proxy = true\n");
        }
        Some(("socket", "proxy")) => text.push_str("socket.listen = [\"80\"]\n"),
        Some(("socket", key)) if key != "listen" => {
            text.push_str("socket.listen = [\"80\", \"/run/x.sock\"]\n");
        }
        _ => {}
    }
    text
}

#[test]
fn every_example_checks() {
    for key in KEYS {
        let checked = checked("x", &around(key.path, key.example));
        assert!(checked.container.is_some(), "{}: {:?}", key.path, errors(&checked));
    }
}

#[test]
fn every_default_is_what_holds() {
    for key in KEYS {
        let Default::Is(value) = key.default else { continue };
        // Whether there is a check isn't left to a default.
        if key.path == "health.image" {
            continue;
        }
        let bare = checked("x", &around(key.path, "")).container.expect("a container");
        match key.path.strip_prefix("mounts.*.") {
            None if key.path == "ready" || key.path.starts_with("health.") => {
                let with = |line: &str| checked("x", &around("ready", line)).container.expect("a container");
                let line = format!("{} = {value}", key.path);
                assert_eq!(with(&line), with(""), "{line}");
            }
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

/// Every file checked, and then compared.
fn compared(files: &[(&str, &str)]) -> Vec<String> {
    let checked: Vec<(ContainerName, Checked)> =
        files.iter().map(|(name, text)| (name.parse().expect("a name"), checked(name, text))).collect();
    let all = checked.iter().map(|(name, checked)| (name, checked)).collect();
    across(&all).iter().map(|(name, finding)| format!("{name}: {}", finding.short_line())).collect()
}

#[test]
fn links_of_instances() {
    let text = "image = \"x\"\nlinks = [\"app@%i:app\", \"web@blue:first\", \"db\", \"host\"]\n";
    let template = checked("web@", text).container.expect("a container");
    let shown =
        |container: &Container| container.links.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(shown(&template), "app@%i:app web@blue:first db host");
    assert_eq!(shown(&template.instance("green")), "app@green:app web@blue:first db host");
    // It doesn't link to itself.
    assert_eq!(shown(&template.instance("blue")), "app@blue:app db host");
    // An instance with files of its own comes out filled.
    let own = checked("web@red", text);
    assert_eq!(own.container.as_ref().map(shown).as_deref(), Some("app@red:app web@blue:first db host"));
    assert_eq!(own.connections.links.len(), 4);
    let json = serde_json::to_string(&template).expect("JSON");
    assert_eq!(serde_json::from_str::<Container>(&json).expect("a container"), template);
}

#[test]
fn links_across_files() {
    let image = "image = \"x\"\n";
    // Names that grow with every step don't keep the generator for ever.
    let growing = "image = \"x\"\nlinks = [\"app@x%i:a\", \"app@y%i:b\"]\n";
    assert_eq!(compared(&[("app@", growing), ("app@one", growing)]), Vec::<String>::new());
    // One of a template's instances is what the others link to.
    let primary = "image = \"x\"\nlinks = [\"pg@one:primary\"]\n";
    assert_eq!(compared(&[("pg@", primary)]), Vec::<String>::new());
    assert_eq!(compared(&[("pg@", primary), ("pg@one", primary)]).len(), 0);
    // A mistake elsewhere in a file is no reason against those that link to it.
    assert_eq!(
        compared(&[("a", "image = \"x\"\nlinks = [\"b\"]\n"), ("b", "imge = 1\n")]),
        Vec::<String>::new()
    );
    // Nor is what a line that isn't TOML seems to say.
    assert_eq!(compared(&[("a", "image = \"x\"\nlinks = [\"d\" \"b\"]\n")]), Vec::<String>::new());
    let both = compared(&[
        ("a", "imge = \"x\"\nlinks = [\"b\"]\n"),
        ("b", "image = \"x\"\nlinks = [\"a\"]\n"),
        ("c", image),
    ]);
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both[0].contains("a -> b -> a") && both[1].contains("b -> a -> b"), "{both:?}");
}

#[test]
fn ports_across_files() {
    let files = |a: &str, b: &str| {
        let text = |more: &str| format!("image = \"x\"\n{more}\n");
        compared(&[("a", &text(a)), ("b", &text(b))])
    };
    let same = files("publish = [\"80:80\"]", "publish = [\"127.0.0.1:80:81\"]");
    assert_eq!(same.len(), 1);
    assert!(same[0].starts_with("b: b.toml:2:12") && same[0].contains("while a publishes"), "{same:?}");
    for b in [
        "publish = [\"80:80/udp\"]",
        "publish = [\"80:80\"]\nautostart = false",
        "publish = [\"80:80\"]\nmemroy = 1",
    ] {
        assert!(files("publish = [\"80:80\"]", b).is_empty(), "{b}");
    }
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
pub(super) fn value() -> impl Strategy<Value = String> {
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

    /// A link is part of a circle where its target leads back, by whatever way.
    #[test]
    fn circles(edges in prop::collection::btree_set((0..6_usize, 0..6_usize), 0..12)) {
        let name = |number: usize| ["a", "b", "c", "d", "e", "f"][number];
        let files: Vec<(&str, String)> = (0..6)
            .map(|from| {
                let links: Vec<String> = edges
                    .iter()
                    .filter(|(start, end)| *start == from && start != end)
                    .map(|(_, end)| format!("{:?}", name(*end)))
                    .collect();
                (name(from), format!("image = \"x\"\nlinks = [{}]\n", links.join(", ")))
            })
            .collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let mut reach = [[false; 6]; 6];
        edges.iter().for_each(|(from, to)| reach[*from][*to] = true);
        for by in 0..6 {
            for from in 0..6 {
                for to in 0..6 {
                    reach[from][to] |= reach[from][by] && reach[by][to];
                }
            }
        }
        let mut expected: Vec<String> = edges
            .iter()
            .filter(|(from, to)| from != to && reach[*to][*from])
            .map(|(from, to)| format!("{} -> {}", name(*from), name(*to)))
            .collect();
        let mut found: Vec<String> = compared(&files)
            .iter()
            .map(|line| line.split_once("circle: ").expect("a circle").1[..6].to_owned())
            .collect();
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
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

    #[test]
    fn keys_of_images_with_arbitrary_values(
        lines in prop::collection::vec((prop::sample::select(keys::IMAGE.keys), value()), 0..6),
    ) {
        let text: String = lines.iter().map(|(key, value)| format!("{} = {value}\n", key.path)).collect();
        let (document, findings) = Document::parse(&Source::new("x.toml", text));
        let name = crate::spec::ImageName::of_file("x").expect("a name");
        let mut checked = image(&name, &document, findings);
        images(&mut [&mut checked], &[&name], &crate::settings::Settings::default(), ForAll::default());
        prop_assert_eq!(checked.image.is_none(), report::has_errors(&checked.findings));
        report::render(&checked.findings, report::Style::Plain);
    }

    #[test]
    fn keys_of_the_host_with_arbitrary_values(
        lines in prop::collection::vec((prop::sample::select(keys::HOST.keys), value()), 0..6),
        name in "[a-z./:A-Z]{0,8}",
    ) {
        let text: String = lines
            .iter()
            .map(|(key, value)| format!("{} = {value}\n", key.path.replace('*', &format!("{name:?}"))))
            .collect();
        let (document, findings) = Document::parse(&Source::new("wharf.toml", text));
        report::render(&settings(&document, findings).findings, report::Style::Plain);
    }
}
