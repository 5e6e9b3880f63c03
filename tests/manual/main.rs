//! The manual pages, the completions of shells and the schemas for editors: made of the tables of keys and of the command line's own words.
//!
//! ```text
//! packaging/man/PAGE.in            a page, with lines "@keys KEY…@" -> packaging/man/PAGE
//! the command line                 -> packaging/man/wharf*.1
//! the command line                 -> packaging/completions/{wharf.bash,_wharf,wharf.fish}
//! the tables of keys               -> packaging/schema/{container,image,wharf}.json
//! ```
//!
//! `WHARF_BLESS=1` writes what comes out; read the difference before committing it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod blocks;
mod commands;
mod keys;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap_complete::Shell;

/// Of all pages: nothing here is about one day or another.
const DATE: &str = "2026-11-21";

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path)
}

/// As groff_char(7) has it: a hyphen that can be copied, and no line that is a request.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// Everything that is made, by its path below `packaging`.
fn made() -> BTreeMap<String, String> {
    let mut all = keys::pages();
    all.extend(commands::pages());
    let mut all: BTreeMap<String, String> =
        all.into_iter().map(|(name, text)| (format!("man/{name}"), text)).collect();
    all.extend(schema::schemas().into_iter().map(|(name, text)| (format!("schema/{name}"), text)));
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut bytes = Vec::new();
        let mut command = shown(&wharf::cli::command_line());
        clap_complete::generate(shell, &mut command, "wharf", &mut bytes);
        let name = match shell {
            Shell::Zsh => "_wharf".to_owned(),
            _ => format!("wharf.{shell}"),
        };
        all.insert(format!("completions/{name}"), String::from_utf8(bytes).unwrap());
    }
    all
}

/// A command as its help shows it: completions would offer what is hidden, too.
fn shown(command: &clap::Command) -> clap::Command {
    // Names of commands live as long as the program, to clap.
    let name: &'static str = command.get_name().to_owned().leak();
    // What is asked for unless something hidden is there is nothing to a completion.
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let arguments =
        arguments.map(|argument| argument.clone().required_unless_present(clap::builder::Resettable::Reset));
    let mut all = clap::Command::new(name)
        .disable_help_subcommand(true)
        .args(arguments)
        .subcommands(command.get_subcommands().filter(|below| !below.is_hide_set()).map(shown));
    if let Some(about) = command.get_about() {
        all = all.about(about.clone());
    }
    // By which `-h` says that there is more.
    if let Some(about) = command.get_long_about() {
        all = all.long_about(about.clone());
    }
    if command.get_version().is_some() {
        all = all.version(env!("CARGO_PKG_VERSION"));
    }
    all
}

/// What is there of it.
fn there(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(packaging(folder)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_str().unwrap().to_owned());
    names.filter(|name| !name.ends_with(".in")).map(|name| format!("{folder}/{name}")).collect()
}

#[test]
fn what_is_there_is_what_comes_out() {
    let made = made();
    let bless = std::env::var_os("WHARF_BLESS").is_some();
    for path in [there("man"), there("completions"), there("schema")].concat() {
        if !made.contains_key(&path) {
            assert!(bless, "{path} is left over: WHARF_BLESS=1 cargo test --test manual");
            fs::remove_file(packaging(&path)).unwrap();
        }
    }
    for (path, text) in made {
        let at = packaging(&path);
        if bless {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(&at, &text).unwrap();
        }
        let there = fs::read_to_string(&at).unwrap_or_default();
        assert!(there == text, "{path} isn't what comes out: WHARF_BLESS=1 cargo test --test manual");
    }
}

#[test]
fn pages_are_clean() {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in made().into_iter().filter(|(path, _)| path.starts_with("man/")) {
        let page = folder.path().join(Path::new(&path).file_name().unwrap());
        fs::write(&page, text).unwrap();
        for (program, arguments) in [
            ("mandoc", &["-Tlint", "-Wwarning"][..]),
            ("groff", &["-man", "-Tutf8", "-Kutf8", "-ww", "-z"][..]),
        ] {
            let said = Command::new(program).args(arguments).arg(&page).output();
            let said = said.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
            let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
            assert!(said.status.success() && text.is_empty(), "{program} of {path}: {text}");
        }
    }
}

/// What `--help` doesn't show is there for units, for habits, and to say what systemd has for it.
#[test]
fn completions_offer_nothing_that_is_hidden() {
    fn walk(command: &clap::Command, hidden: &mut Vec<String>, shown: &mut Vec<String>) {
        for argument in command.get_arguments() {
            if let Some(long) = argument.get_long() {
                if argument.is_hide_set() { &mut *hidden } else { &mut *shown }.push(long.to_owned());
            }
        }
        for below in command.get_subcommands() {
            let name = below.get_name().to_owned();
            if below.is_hide_set() {
                hidden.push(name);
            } else {
                shown.push(name);
                walk(below, hidden, shown);
            }
        }
    }
    let (mut hidden, mut shown) = (Vec::new(), Vec::new());
    walk(&wharf::cli::command_line(), &mut hidden, &mut shown);
    // Some are hidden in one place, and shown in another.
    hidden.retain(|word| !shown.contains(word));
    assert!(
        ["start", "logs", "provide", "rm", "signed"].iter().all(|word| hidden.contains(&(*word).to_owned())),
        "{hidden:?}"
    );
    for (path, text) in made().into_iter().filter(|(path, _)| path.starts_with("completions/")) {
        for word in &hidden {
            for offered in [
                // zsh, fish, and bash's lists of words.
                format!("'{word}:"),
                format!("'--{word}["),
                format!("-a \"{word}\""),
                format!(" -l {word} "),
                format!(" --{word} "),
                format!(",{word})"),
            ] {
                assert!(!text.contains(&offered), "{path}: {offered}");
            }
        }
    }
}

#[test]
fn completions_are_scripts() {
    for (shell, path) in [
        ("bash", "completions/wharf.bash"),
        ("zsh", "completions/_wharf"),
        ("fish", "completions/wharf.fish"),
    ] {
        let said = Command::new(shell).arg("-n").arg(packaging(path)).output();
        let said = said.unwrap_or_else(|error| panic!("{shell}: {error}; tests/run installs it"));
        assert!(said.status.success(), "{path}: {}", String::from_utf8_lossy(&said.stderr));
    }
}
