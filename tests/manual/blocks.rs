//! What people copy: command lines in the README, in the pages beside examples and the Ansible collection, in examples'
//! first lines, in manual pages and in `--help`, and files in manual pages.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;

use clap::error::ErrorKind;

use super::keys::pages;

/// How much of a command line is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// To be typed as it stands.
    Whole,
    /// Named within a sentence, perhaps without what it needs.
    Named,
}

/// What stands for something else, and what it might be.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("[NAME…]", "name"),
    ("REFERENCE", "image:1"),
    ("IMAGE", "image:1"),
    ("sha256:2cf2…", "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
];

/// The calls of wharf in a line for a shell, each without its first word.
fn calls(line: &str) -> Vec<Vec<String>> {
    let line = PLACEHOLDERS.iter().fold(line.to_owned(), |line, (word, value)| line.replace(word, value));
    let words = shlex::split(&line).unwrap_or_else(|| panic!("a quote is left open: {line}"));
    let ends = |word: &String| ["|", "||", "&&", "&", ";"].contains(&word.as_str()) || word.starts_with('#');
    let mut calls = Vec::new();
    for command in words.split(ends) {
        // What comes before it: sudo, ssh and a host.
        let Some(at) = command.iter().position(|word| word == "wharf") else { continue };
        let mut rest = command[at..].iter();
        let mut call = Vec::new();
        while let Some(word) = rest.next() {
            match word.trim_start_matches(|char: char| char.is_ascii_digit()) {
                // Its file is the next word.
                "<" | ">" | ">>" => drop(rest.next()),
                word if word.starts_with(['<', '>']) => {}
                _ => call.push(word.trim_end_matches(';').to_owned()),
            }
        }
        calls.push(call);
    }
    calls
}

/// Whether the command line takes it; the reason, where not.
fn taken(call: &[String], shown: Shown) -> Result<(), String> {
    match wharf::cli::command_line().try_get_matches_from(call) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
            ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                if shown == Shown::Named =>
            {
                Ok(())
            }
            _ => Err(error.to_string()),
        },
    }
}

/// What fenced blocks may be, by the word after the fence.
const LANGUAGES: [&str; 6] = ["console", "nft", "sh", "text", "toml", "yaml"];

/// The fenced blocks of a page in Markdown, each with its language; and all lines outside of them.
fn fenced(text: &str) -> (Vec<(&str, Vec<&str>)>, Vec<&str>) {
    let (mut blocks, mut others) = (Vec::<(&str, Vec<&str>)>::new(), Vec::new());
    let mut is_open = false;
    for line in text.lines() {
        match (line.strip_prefix("```"), blocks.last_mut().filter(|_| is_open)) {
            (Some(rest), Some(_)) => {
                assert_eq!(rest, "", "a fence is closed by itself");
                is_open = false;
            }
            (Some(word), None) => {
                assert!(LANGUAGES.contains(&word), "a block is none of {LANGUAGES:?}: ```{word}");
                blocks.push((word, Vec::new()));
                is_open = true;
            }
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => others.push(line),
        }
    }
    assert!(!is_open, "the last block is closed");
    (blocks, others)
}

/// Command lines of a page in Markdown, each with how it is shown there.
fn of_markdown(text: &str) -> Vec<(String, Shown)> {
    let (blocks, others) = fenced(text);
    let mut all = Vec::new();
    for (language, lines) in blocks {
        for line in lines {
            let typed = match language {
                "sh" => Some(line),
                "console" => line.strip_prefix("# ").or(line.strip_prefix("$ ")),
                _ => None,
            };
            // Whatever the block is.
            let typed = typed.or(Some(line).filter(|line| line.starts_with("wharf ")));
            all.extend(typed.map(|line| (line.to_owned(), Shown::Whole)));
        }
    }
    for line in others {
        let code = line.split('`').skip(1).step_by(2).filter(|code| code.starts_with("wharf "));
        all.extend(code.map(|code| (code.to_owned(), Shown::Named)));
    }
    all
}

/// The examples of each command's `--help`.
fn of_help(command: &clap::Command, all: &mut Vec<(String, Shown)>) {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples = text.split_once("Examples:\n").map_or("", |(_, rest)| rest);
    // A line that goes on in the next one.
    let examples = examples.split(" \\\n").enumerate();
    let examples: Vec<&str> =
        examples.map(|(at, part)| if at == 0 { part } else { part.trim_start() }).collect();
    let examples = examples.join(" ");
    let lines = examples.lines().take_while(|line| line.starts_with("  "));
    // What it does may stand after it.
    let typed = |line: &str| line.trim().split("  ").next().unwrap_or_default().to_owned();
    all.extend(lines.map(|line| (typed(line), Shown::Whole)));
    for below in command.get_subcommands() {
        of_help(below, all);
    }
}

/// A manual page's source as it is read, with the marks of bold words kept.
fn read(source: &str) -> String {
    source
        .replace("\\(dq", "\"")
        .replace("\\(aq", "'")
        .replace("\\-", "-")
        .replace("\\&", "")
        .replace("\\e", "\\")
}

/// Calls that are set in bold within a page's sentences.
fn of_a_page(text: &str) -> Vec<(String, Shown)> {
    let bold = text.split("\\fB").skip(1).filter_map(|rest| rest.split_once("\\f").map(|(word, _)| word));
    let lines = text.lines().filter_map(|line| line.strip_prefix(".B "));
    let named =
        bold.chain(lines).map(|text| text.trim_matches('"')).filter(|text| text.starts_with("wharf "));
    let typed = examples(text).flat_map(str::lines).filter(|line| line.starts_with("wharf "));
    named
        .map(|text| (text.to_owned(), Shown::Named))
        .chain(typed.map(|line| (line.to_owned(), Shown::Whole)))
        .collect()
}

/// What stands between `.EX` and `.EE`.
fn examples(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n.EX\n").skip(1).filter_map(|rest| rest.split("\n.EE").next())
}

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// All pages in Markdown: the README first, then those beside examples and the Ansible collection.
fn markdown() -> Vec<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["README.md", "examples/ansible/README.md", "examples/fleet/README.md", "packaging/ansible/README.md"]
        .map(|name| fs::read_to_string(here.join(name)).unwrap())
        .into()
}

/// What examples say is to be typed before, in the comments that they begin with.
fn of_examples() -> Vec<(String, Shown)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap());
    let lines = |text: String| -> Vec<(String, Shown)> {
        let typed = text.lines().filter_map(|line| line.strip_prefix("#     "));
        typed.map(|line| (line.to_owned(), Shown::Whole)).collect()
    };
    texts.flat_map(lines).collect()
}

/// By the program itself, in a network of its own; without root it can ask no kernel.
#[test]
fn rules_of_the_readme_are_nftables() {
    let text = readme();
    let blocks: Vec<String> = fenced(&text)
        .0
        .into_iter()
        .filter(|(language, _)| *language == "nft")
        .map(|(_, lines)| lines.join("\n"))
        .collect();
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    if !rustix::process::geteuid().is_root() {
        // Past what a test that passes keeps to itself; tests/run counts these lines.
        let _ =
            writeln!(io::stderr(), "\nSKIPPED: nftables' rules in the README: only root may ask the kernel");
        return;
    }
    let asks = |rules: &str| {
        let script =
            format!("table inet x {{\nchain y {{\ntype filter hook forward priority 0\n{rules}\n}}\n}}\n");
        let said = Command::new("unshare").args(["--net", "nft", "--check", &script]).output();
        said.unwrap_or_else(|error| panic!("nft: {error}; tests/run installs it"))
    };
    for block in &blocks {
        let said = asks(block);
        assert!(said.status.success(), "{block}: {}", String::from_utf8_lossy(&said.stderr));
    }
    assert!(!asks("ct status dnat accpet").status.success(), "what is wrong is refused");
}

/// Blocks for a shell are a shell's.
#[test]
fn blocks_for_a_shell_are_scripts() {
    let texts = markdown();
    let pages = pages();
    let of_pages: Vec<String> = pages.iter().map(|(_, text)| read(text)).collect();
    let blocks = texts
        .iter()
        .flat_map(|text| fenced(text).0)
        .filter(|(language, _)| *language == "sh")
        .map(|(_, lines)| lines.join("\n"))
        .chain(of_examples().into_iter().map(|(line, _)| line));
    // Of pages those that aren't a file.
    let blocks = blocks.chain(
        of_pages
            .iter()
            .flat_map(|text| examples(text))
            .filter(|block| !block.starts_with("# /"))
            .map(str::to_owned),
    );
    let mut count = 0;
    for block in blocks {
        count += 1;
        let said = Command::new("bash").args(["-n", "-c", &block]).output().unwrap();
        assert!(said.status.success(), "{block}: {}", String::from_utf8_lossy(&said.stderr));
    }
    assert!(count > 10, "{count}");
}

#[test]
fn a_fence_says_what_it_is() {
    let all = of_markdown(
        "`wharf ps` and\n```sh\nwharf check\n```\n```text\nx\nwharf fsck\n```\n```console\n# wharf top\nout\n```\n",
    );
    let lines: Vec<&str> = all.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(lines, ["wharf check", "wharf fsck", "wharf top", "wharf ps"]);
    for text in ["```\nx\n```\n", "```bash\nx\n```\n", "```sh\nx\n"] {
        assert!(std::panic::catch_unwind(|| of_markdown(text)).is_err(), "{text}");
    }
}

#[test]
fn command_lines_are_taken() {
    let mut all: Vec<_> = markdown().iter().flat_map(|text| of_markdown(text)).collect();
    all.extend(of_examples());
    of_help(&wharf::cli::command_line(), &mut all);
    for (_, text) in pages() {
        all.extend(of_a_page(&read(&text)));
    }
    let mut wrong = BTreeSet::new();
    let mut count = 0;
    for (line, shown) in all {
        for call in calls(&line) {
            count += 1;
            if let Err(why) = taken(&call, shown) {
                wrong.insert(format!("{line}\n{why}"));
            }
        }
    }
    assert!(count > 100, "only {count} calls were found");
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn calls_are_found() {
    let found = |line: &str| calls(line).into_iter().map(|call| call.join(" ")).collect::<Vec<_>>();
    assert_eq!(found("wharf check   # every mistake"), ["wharf check"]);
    assert_eq!(
        found("ssh other wharf image save nginx:1.26 | wharf image load >/dev/null 2>&1"),
        ["wharf image save nginx:1.26", "wharf image load"]
    );
    assert_eq!(found("systemctl start nginx-container"), [""; 0]);
    assert_eq!(found("wharf exec web sh -c 'a | b' < file && true"), ["wharf exec web sh -c a | b"]);
}

/// The files in a page are those of one host.
#[test]
fn files_of_pages_are_right() {
    let mut files = 0;
    for (name, text) in pages() {
        let root = tempfile::tempdir().unwrap();
        let text = read(&text);
        let mut here = 0;
        for block in examples(&text) {
            let path = block.lines().next().and_then(|line| line.strip_prefix("# /etc/wharf/"));
            let Some(path) = path else { continue };
            let path = root.path().join("etc/wharf").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, block).unwrap();
            here += 1;
        }
        if here == 0 {
            continue;
        }
        files += here;
        let keys = root.path().join("etc/wharf/keys");
        fs::create_dir_all(&keys).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_wharf"));
        let said = check.arg("--root").arg(root.path()).arg("check").output().unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        assert!(said.status.success() && text.ends_with("nothing to say\n"), "{name}: {text}");
    }
    assert!(files >= 8, "{files}");
}
