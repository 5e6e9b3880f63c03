//! The manual pages: what is said of keys in them comes from the tables that files are checked by.
//!
//! ```text
//! packaging/man/PAGE.in   the page, with lines "@keys KEY…@" -> packaging/man/PAGE
//! ```
//!
//! `WHARF_BLESS=1` writes the pages; read the difference before committing it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wharf::spec::keys::{CONTAINER, Default, Key, Vocabulary};

/// Each page and the files that it is about.
const PAGES: [(&str, &Vocabulary); 1] = [("wharf-container.5", &CONTAINER)];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man").join(name)
}

/// The page with its keys, and how often each key stands in it.
fn rendered(template: &str, vocabulary: &Vocabulary) -> (String, BTreeMap<&'static str, usize>) {
    let mut page = String::from(".\\\" Made of the file beside it and of the tables of keys: edit those.\n");
    let mut told: BTreeMap<&str, usize> = vocabulary.keys.iter().map(|key| (key.path, 0)).collect();
    for line in template.lines() {
        let Some(keys) = line.strip_prefix("@keys ").and_then(|rest| rest.strip_suffix('@')) else {
            page.push_str(line);
            page.push('\n');
            continue;
        };
        for path in keys.split(' ') {
            let key = vocabulary.keys.iter().find(|key| key.path == path);
            let key = key.unwrap_or_else(|| panic!("{path} is no key"));
            *told.get_mut(key.path).unwrap() += 1;
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
    let _ = writeln!(page, ".br\n{}", formatted(&format!("`{example}`")));
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().collect::<String>() + rest.as_str()).unwrap_or_default()
}

/// As groff_char(7) has it: a hyphen that can be copied, and no line that is a request.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
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
fn pages_are_made_of_the_tables_and_tell_each_key_once() {
    for (name, vocabulary) in PAGES {
        let template = fs::read_to_string(path(&format!("{name}.in"))).unwrap();
        let (page, told) = rendered(&template, vocabulary);
        let not_once: Vec<_> = told.iter().filter(|(_, count)| **count != 1).collect();
        assert!(not_once.is_empty(), "{name}: told otherwise than once: {not_once:?}");
        if std::env::var_os("WHARF_BLESS").is_some() {
            fs::write(path(name), &page).unwrap();
        }
        let there = fs::read_to_string(path(name)).unwrap_or_default();
        assert_eq!(there, page, "{name} isn't what comes out: WHARF_BLESS=1 cargo test --test manual");
    }
}

#[test]
fn pages_are_clean() {
    for (name, _) in PAGES {
        for (program, arguments) in
            [("mandoc", &["-Tlint", "-Wwarning"][..]), ("groff", &["-man", "-Tutf8", "-ww", "-z"][..])]
        {
            let said = Command::new(program).args(arguments).arg(path(name)).output();
            let said = said.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
            let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
            assert!(said.status.success() && text.is_empty(), "{program} of {name}: {text}");
        }
    }
}

#[test]
fn examples_in_pages_check() {
    for (name, _) in PAGES {
        let page = fs::read_to_string(path(name)).unwrap();
        let mut examples = 0;
        for block in page.split("\n.EX\n").skip(1) {
            let block = block.split("\n.EE").next().unwrap().replace("\\-", "-");
            let file = block.strip_prefix("# /").and_then(|rest| rest.split(['\n', ':']).next());
            let Some(file) = file else { continue };
            let root = tempfile::tempdir().unwrap();
            let at = root.path().join(file);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(&at, &block).unwrap();
            let said = Command::new(env!("CARGO_BIN_EXE_wharf"))
                .args(["check", "--root"])
                .arg(root.path())
                .output()
                .unwrap();
            assert!(said.status.success(), "{file}: {}", String::from_utf8_lossy(&said.stdout));
            examples += 1;
        }
        assert!(examples > 0, "{name} has examples");
    }
}
