//! The pages of the commands, from the command line's own words.

use std::fmt::Write as _;

use clap::Command;
use clap_mangen::Man;

use super::plain;

/// The page of each command that isn't hidden: `wharf.1`, `wharf-image-pull.1`.
pub fn pages() -> Vec<(String, String)> {
    let mut root = wharf::cli::command_line();
    root.build();
    let mut pages = Vec::new();
    walk(&root, "", &mut pages);
    pages
}

fn walk(command: &Command, above: &str, pages: &mut Vec<(String, String)>) {
    let name = if above.is_empty() { "wharf".to_owned() } else { format!("{above}-{}", command.get_name()) };
    pages.push((format!("{name}.1"), page(command, &name, above)));
    for below in visible(command) {
        walk(below, &name, pages);
    }
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set())
}

fn page(command: &Command, name: &str, above: &str) -> String {
    let roff = |render: &dyn Fn(&Man, &mut Vec<u8>) -> std::io::Result<()>| {
        // What comes after the options is ours: its lines are laid out already.
        let man = Man::new(with_aliases(command.clone()).after_help("").after_long_help(""));
        let mut bytes = Vec::new();
        render(&man, &mut bytes).expect("written to memory");
        String::from_utf8(bytes).expect("as the command line")
    };
    let mut page = String::from(".\\\" Made of the words of the command line: edit those, in src/cli.\n");
    let _ = writeln!(page, ".TH {} 1 {} Wharf Wharf", plain(&name.to_uppercase()), super::DATE);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, ".SH NAME\n{} \\- {}", plain(name), plain(&about));
    page.push_str(&synopsis(command));
    page.push_str(&roff(&|man, to| man.render_description_section(to)));
    page.push_str(&roff(&|man, to| man.render_options_section(to)));
    if command.has_subcommands() {
        page.push_str(".SH COMMANDS\n");
        for below in visible(command) {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(
                page,
                ".TP\n.BR {}\\-{} (1)\n{}.",
                plain(name),
                plain(below.get_name()),
                plain(&about)
            );
        }
    }
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    if let Some(after) = after {
        page.push_str(&sections(&after.to_string()));
    }
    // Who calls it from a script must know; a group only has the pages of what is below.
    let is_group = command.has_subcommands() && !above.is_empty();
    assert!(is_group || page.contains(".SH EXIT STATUS"), "{name}: no exit status is told");
    page.push_str(".SH SEE ALSO\n");
    let files: Vec<String> = super::keys::pages().into_iter().map(|(name, _)| name).collect();
    // What has a page of its files, with that of the same name.
    let of_files = |name: &str| format!("{}.5", name.splitn(3, '-').take(2).collect::<Vec<_>>().join("-"));
    let also = match (above, of_files(name)) {
        ("", _) => files,
        (above, own) if files.contains(&own) => {
            vec![format!("{above}.1"), own, "wharf-container.5".to_owned()]
        }
        (above, _) => vec![format!("{above}.1"), "wharf-container.5".to_owned()],
    };
    let also = also.iter().filter_map(|page| page.rsplit_once('.'));
    let also: Vec<String> = also.map(|(name, section)| format!(".BR {} ({section})", plain(name))).collect();
    let _ = writeln!(page, "{}", also.join(",\n"));
    tidied(&page)
}

/// With the other names of options, which pages would not have.
fn with_aliases(command: Command) -> Command {
    command.mut_args(|arg| {
        let names = arg.get_visible_aliases().unwrap_or_default();
        if names.is_empty() {
            return arg;
        }
        let names: Vec<String> = names.iter().map(|name| format!("--{name}")).collect();
        let also = |help: String| format!("{help} (also {})", names.join(", "));
        let (short, long) =
            (arg.get_help().map(ToString::to_string), arg.get_long_help().map(ToString::to_string));
        let arg = match short {
            Some(help) => arg.help(also(help)),
            None => arg,
        };
        match long {
            Some(help) => arg.long_help(also(help)),
            None => arg,
        }
    })
}

fn synopsis(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let mut lines = String::from(".SH SYNOPSIS\n.nf\n");
    for line in usage.lines() {
        let line = line.trim().trim_start_matches("Usage: ");
        if !line.is_empty() {
            let _ = writeln!(lines, "{}", plain(line));
        }
    }
    lines + ".fi\n"
}

/// What stands behind the options: paragraphs, some of which have a heading, some of which are laid out.
fn sections(text: &str) -> String {
    let mut out = String::new();
    let mut within = "DESCRIPTION";
    for paragraph in text.split("\n\n") {
        if let Some(items) = numbered(paragraph) {
            out.push_str(&items);
            continue;
        }
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let (heading, begin) = match first.split_once(':') {
            Some(("Examples", _)) => ("EXAMPLES", ""),
            Some(("Exit status", rest)) => ("EXIT STATUS", rest.trim()),
            Some(("JSON", rest)) => ("JSON", rest.trim()),
            Some(("Environment", _)) => ("ENVIRONMENT", ""),
            Some(("Files", _)) => ("FILES", ""),
            _ => (if within == "DESCRIPTION" { "NOTES" } else { within }, first),
        };
        if heading != within {
            let _ = writeln!(out, ".SH {heading}");
            within = heading;
        } else {
            out.push_str(".PP\n");
        }
        if !begin.is_empty() {
            let _ = writeln!(out, "{}", plain(begin));
        }
        let laid_out = rest.lines().any(|line| line.starts_with(' '));
        if rest.is_empty() {
        } else if laid_out {
            let _ = writeln!(out, "{}.EX\n{}\n.EE", if begin.is_empty() { "" } else { ".PP\n" }, lines(rest));
        } else {
            let _ = writeln!(out, "{}", lines(rest));
        }
    }
    out
}

/// A list whose items begin with 1, 2 and so on, if it is one.
fn numbered(paragraph: &str) -> Option<String> {
    let mut out = String::new();
    let mut next = 1;
    for line in paragraph.lines() {
        if let Some(first) = line.strip_prefix(&format!("{next}. ")) {
            let _ = writeln!(out, ".IP {next}. 4\n{}", plain(first));
            next += 1;
        } else if line.starts_with("   ") && next > 1 {
            let _ = writeln!(out, "{}", plain(line.trim_start()));
        } else {
            return None;
        }
    }
    (next > 1).then_some(out)
}

/// Without what all lines are indented by.
fn lines(text: &str) -> String {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let by = text.lines().filter(|line| !line.trim().is_empty()).map(|line| indent(&line)).min().unwrap_or(0);
    text.lines().map(|line| plain(line.get(by..).unwrap_or_default())).collect::<Vec<_>>().join("\n")
}

/// Without what each rendered part begins with, its word for an apostrophe, and without empty lines and stretches,
/// of which formatters warn. What stands between backquotes is bold.
fn tidied(page: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    // What is shown there may be for a shell, which has backquotes of its own.
    let mut laid_out = false;
    let mut examples = false;
    for line in page.lines().map(str::trim_end) {
        if line.is_empty()
            || line.contains(".ds Aq")
            || line == ".br" && out.last().is_some_and(|last| last == ".br")
        {
            continue;
        }
        if line.starts_with(".SH ") {
            examples = line == ".SH EXAMPLES";
        }
        laid_out = line == ".EX" || laid_out && line != ".EE";
        let line = line.replace("\\*(Aq", "\\(aq");
        if laid_out && examples || line.matches('`').count() % 2 == 1 {
            out.push(line);
        } else {
            let parts = line.split('`').enumerate();
            out.push(
                parts
                    .map(|(at, part)| if at % 2 == 1 { format!("\\fB{part}\\fR") } else { part.into() })
                    .collect(),
            );
        }
    }
    out.join("\n") + "\n"
}
