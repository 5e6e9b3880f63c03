//! The pages of files: what is said of keys comes from the tables that files are checked by.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

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
