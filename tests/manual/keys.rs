//! The pages of files: what is said of keys comes from the tables that files are checked by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use wharf::check::refused;
use wharf::spec::keys::{CONTAINER, Default, HOST, IMAGE, Key, Vocabulary};

use super::{packaging, plain};

/// Each page and what is written in the files that it is about.
const PAGES: [(&str, Option<&Vocabulary>); 8] = [
    ("wharf-coming-from.7", None),
    ("wharf-container.5", Some(&CONTAINER)),
    ("wharf-executor.8", None),
    ("wharf-generator.8", None),
    ("wharf-image.5", Some(&IMAGE)),
    ("wharf-network.5", None),
    ("wharf-volume.5", None),
    ("wharf.toml.5", Some(&HOST)),
];

/// The pages, by name.
pub fn pages() -> Vec<(String, String)> {
    let page = |(name, vocabulary)| {
        let template = fs::read_to_string(packaging(&format!("man/{name}.in"))).expect("the page's frame");
        (String::from(name), rendered(&template, vocabulary).0)
    };
    PAGES.map(page).into()
}

/// The page with its keys, and how often each key stands in it.
fn rendered(
    template: &str,
    vocabulary: Option<&'static Vocabulary>,
) -> (String, BTreeMap<&'static str, usize>) {
    let mut page = String::from(".\\\" Made of the file beside it and of the tables of keys: edit those.\n");
    let all = vocabulary.map_or(&[][..], |vocabulary| vocabulary.keys);
    let mut told: BTreeMap<&str, usize> = all.iter().map(|key| (key.path, 0)).collect();
    for line in template.lines() {
        if line == "@refused@" {
            settings_refused(&mut page);
            continue;
        }
        if let Some((theirs, ours)) = row(line) {
            let _ = writeln!(page, ".TP\n.B {}\n{}", plain(theirs), formatted(ours));
            continue;
        }
        let Some(keys) = line.strip_prefix("@keys ").and_then(|rest| rest.strip_suffix('@')) else {
            page.push_str(line);
            page.push('\n');
            continue;
        };
        for path in keys.split(' ') {
            let key = all.iter().find(|key| key.path == path);
            let key = key.unwrap_or_else(|| panic!("{path} is no key"));
            *told.get_mut(key.path).expect("a key") += 1;
            entry(&mut page, key);
        }
    }
    (page, told)
}

/// What somebody says elsewhere, and what says it here.
fn row(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("@row ").map(|rest| rest.split_once(" @ ").unwrap_or_else(|| panic!("no row: {rest}")))
}

/// Settings of systemd's that Wharf is built on: those with one way out stand beside each other.
fn settings_refused(page: &mut String) {
    let mut all: Vec<(Vec<String>, &str)> = Vec::new();
    for (name, instead) in refused() {
        let name = if name.ends_with('*') { plain(name) } else { format!("{}=", plain(name)) };
        match all.iter_mut().find(|(_, other)| other == instead) {
            Some((names, _)) => names.push(name),
            None => all.push((vec![name], instead)),
        }
    }
    for (names, instead) in all {
        let _ = writeln!(page, ".TP\n{}\n{}.", names.join(", "), formatted(&capital(instead)));
    }
}

fn entry(page: &mut String, key: &Key) {
    let Key { path, kind, default, doc, example } = key;
    let default = match default {
        Default::Required => "It must be written.".to_owned(),
        Default::Is(value) => format!("Default: `{value}`."),
        Default::Words(words) => format!("Without it: {words}."),
    };
    let _ = writeln!(page, ".TP\n.B {}\n{}.", plain(path), formatted(&capital(&kind.expected())));
    let _ = writeln!(page, "{}\n{}", formatted(doc), formatted(&default));
    let _ = writeln!(page, ".nf\n{}\n.fi", formatted(&format!("`{example}`")));
}

fn capital(text: &str) -> String {
    if text.starts_with("systemd") {
        return text.to_owned();
    }
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().collect::<String>() + rest.as_str()).unwrap_or_default()
}

/// What stands between backquotes is bold.
fn formatted(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        match at % 2 {
            0 => out.push_str(&plain(part)),
            _ => {
                let _ = write!(out, "\\fB{}\\fR", plain(part));
            }
        }
    }
    out
}

#[test]
fn each_key_is_told_once() {
    for (name, vocabulary) in PAGES {
        let template = fs::read_to_string(packaging(&format!("man/{name}.in"))).unwrap();
        let (_, told) = rendered(&template, vocabulary);
        let not_once: Vec<_> = told.iter().filter(|(_, count)| **count != 1).collect();
        assert!(not_once.is_empty(), "{name}: told otherwise than once: {not_once:?}");
    }
}

/// Each word that somebody may come with has its row.
#[test]
fn every_word_from_elsewhere_has_a_row() {
    const WORDS: &str = include_str!("elsewhere.txt");
    let text = fs::read_to_string(packaging("man/wharf-coming-from.7.in")).unwrap();
    let mut section = "";
    let mut told: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix(".SH ") {
            section = name;
        }
        let theirs = row(line).map(|(theirs, _)| theirs).unwrap_or_default();
        for word in theirs.split([' ', ',', '=', '[', ']']) {
            // deploy.resources is a word of deploy's.
            told.entry(section).or_default().extend([word, word.split('.').next().unwrap_or(word)]);
        }
    }
    let mut missing = Vec::new();
    for line in WORDS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if told.contains_key(line) {
            section = line;
            continue;
        }
        let words = line.split(' ').filter(|word| !told[section].contains(word));
        missing.extend(words.map(|word| format!("{section}: {word}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Whoever comes from elsewhere is told of nothing that isn't here.
#[test]
fn keys_in_rows_are_there() {
    const PROGRAMS: [&str; 3] = ["wharf", "systemctl", "journalctl"];
    let text = fs::read_to_string(packaging("man/wharf-coming-from.7.in")).unwrap();
    let mut keys = 0;
    for ours in text.lines().filter_map(row).map(|(_, ours)| ours) {
        assert_eq!(ours.matches('`').count() % 2, 0, "{ours}");
        for code in ours.split('`').skip(1).step_by(2) {
            let words: Vec<&str> = code.split(' ').collect();
            if words[0] == "wharf" {
                let command = wharf::cli::command_line();
                let known = |above: &clap::Command, word: &str| above.find_subcommand(word).cloned();
                let command = known(&command, words[1]).unwrap_or_else(|| panic!("{code}"));
                if let Some(below) = words.get(2).filter(|word| !word.starts_with('-')) {
                    assert!(known(&command, below).is_some(), "{code}");
                }
            }
            if PROGRAMS.contains(&words[0]) {
                continue;
            }
            keys += 1;
            let path = words[0].split('"').enumerate().map(|(at, part)| if at % 2 == 1 { "*" } else { part });
            let path: String = path.collect();
            // What is below these is the administrator's to choose, or systemd's.
            let path = ["environment", "mounts", "systemd.Service", "systemd.Unit"]
                .into_iter()
                .find(|table| path.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')))
                .unwrap_or(&path);
            let known = [CONTAINER, IMAGE].iter().any(|vocabulary| vocabulary.find(path).is_some());
            assert!(known, "`{path}` of `{code}` is no key");
        }
    }
    assert!(keys > 100, "only {keys} keys were found");
}

/// What is written there as it would stand in a file is taken.
#[test]
fn lines_in_rows_check() {
    let text = fs::read_to_string(packaging("man/wharf-coming-from.7.in")).unwrap();
    let mut lines = 0;
    for code in text.lines().filter_map(row).flat_map(|(_, ours)| ours.split('`').skip(1).step_by(2)) {
        if !code.contains(" = ") {
            continue;
        }
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/wharf/containers");
        fs::create_dir_all(&folder).unwrap();
        // What it needs beside it.
        let more = if code == "ready = \"healthy\"" { "health.tcp = \"localhost:80\"\n" } else { "" };
        fs::write(folder.join("x.toml"), format!("image = \"x:1\"\n{more}{code}\n")).unwrap();
        let said =
            Command::new(env!("CARGO_BIN_EXE_wharf")).args(["check", "--root"]).arg(root.path()).output();
        let said = said.unwrap();
        assert!(said.status.success(), "{code}: {}", String::from_utf8_lossy(&said.stdout));
        lines += 1;
    }
    assert!(lines > 20, "{lines}");
}

#[test]
fn examples_check() {
    for (name, page) in pages() {
        // All of a page stand beside each other: one may link to another.
        let root = tempfile::tempdir().unwrap();
        let mut examples = 0;
        for block in page.split("\n.EX\n").skip(1) {
            let block = block.split("\n.EE").next().unwrap().replace("\\-", "-");
            let file = block.strip_prefix("# /").and_then(|rest| rest.split(['\n', ':']).next());
            let Some(file) = file else { continue };
            let at = root.path().join(file);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(&at, &block).unwrap();
            examples += 1;
        }
        assert!(examples > 0 || !name.ends_with(".5"), "{name} has examples");
        let said = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(["check", "--root"])
            .arg(root.path())
            .output()
            .unwrap();
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stdout));
    }
}
