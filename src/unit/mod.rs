//! Typed sections to the text of a unit file: the only code that escapes for systemd.
//!
//! The rules are those of systemd.syntax(7), systemd.unit(5) (specifiers) and systemd.service(5) (command
//! lines). Nothing here knows what a container is.

use std::fmt::Write as _;

/// A unit file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    sections: Vec<Section>,
}

/// A section: `[Service]` and its settings, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    name: &'static str,
    lines: Vec<(String, String)>,
}

/// Whether a `%` in a text is itself, or the text holds specifiers already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Percent {
    /// It is itself, and is doubled.
    Literal,
    /// `%i` and `%%` are systemd's: a template's texts.
    Specifier,
}

impl Section {
    /// An empty section.
    pub fn new(name: &'static str) -> Self {
        Self { name, lines: Vec::new() }
    }

    /// A setting whose value is a word of Wharf's own: letters, digits and what needs no escaping.
    pub fn word(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        self.line(key, value.into())
    }

    /// A setting with free text to the end of the line.
    pub fn text(&mut self, key: &str, value: &str, percent: Percent) -> &mut Self {
        self.line(key, percents(value.trim(), percent))
    }

    /// A setting with one path among several, separated by spaces, or a path that may hold spaces.
    pub fn quoted(&mut self, key: &str, value: &str, percent: Percent) -> &mut Self {
        self.line(key, quote(&percents(value, percent)))
    }

    /// A command line: a path, with systemd's prefix characters before it, and its arguments.
    pub fn command(
        &mut self,
        key: &str,
        prefix: &str,
        program: &str,
        arguments: &[(&str, Percent)],
    ) -> &mut Self {
        let mut line = format!("{prefix}{}", quote(&percents(program, Percent::Literal)));
        for (argument, percent) in arguments {
            // `$` would be a variable; `;` alone would end the command, and quotes don't stop either.
            let argument = percents(argument, *percent).replace('$', "$$");
            let argument = if argument == ";" { "\\;".to_owned() } else { quote(&argument) };
            let _ = write!(line, " {argument}");
        }
        self.line(key, line)
    }

    /// A setting that the administrator wrote in systemd's own language.
    pub fn verbatim(&mut self, key: &str, value: &str) -> &mut Self {
        self.line(key, value.trim().to_owned())
    }

    fn line(&mut self, key: &str, value: String) -> &mut Self {
        // No escape makes a newline part of a plain value, so none gets this far; should one, the
        // line stays one line.
        let mut value =
            if value.contains(['\n', '\r', '\0']) { value.replace(['\n', '\r', '\0'], " ") } else { value };
        // An odd backslash at the end joins the next line to this one; a space after it, which systemd
        // cuts off again, keeps it what it is.
        if value.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            value.push(' ');
        }
        self.lines.push((key.to_owned(), value));
        self
    }
}

impl Unit {
    /// A unit of some sections.
    pub fn new(sections: impl IntoIterator<Item = Section>) -> Self {
        Self { sections: sections.into_iter().collect() }
    }

    /// The file's text, `comment` on top.
    pub fn render(&self, comment: &str) -> String {
        let mut text = String::with_capacity(1024);
        for line in comment.lines() {
            // A comment that ends in a backslash is only a comment, but why try.
            let _ = writeln!(text, "# {}", line.trim_end_matches('\\'));
        }
        for Section { name, lines } in &self.sections {
            // A thousand units of twenty lines: no formatting machinery for four pieces of text.
            for piece in ["\n[", name, "]\n"] {
                text.push_str(piece);
            }
            for (key, value) in lines {
                for piece in [key, "=", value, "\n"] {
                    text.push_str(piece);
                }
            }
        }
        text
    }
}

/// Puts another value in the place of a setting's first line, in the text of a unit that [`Unit::render`]
/// made.
pub fn replace(unit: &str, key: &str, value: &str) -> String {
    let mut section = Section::new("");
    section.text(key, value, Percent::Literal);
    let new = section.lines.first().map_or("", |(_, value)| value);
    let mut done = false;
    let mut text = String::with_capacity(unit.len() + value.len());
    for line in unit.lines() {
        let here = !done && line.strip_prefix(key).is_some_and(|rest| rest.starts_with('='));
        if here {
            done = true;
            let _ = writeln!(text, "{key}={new}");
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Leaves out lines of the text of a unit that [`Unit::render`] made.
pub fn without(unit: &str, is_out: impl Fn(&str) -> bool) -> String {
    unit.split_inclusive('\n').filter(|line| !is_out(line.trim_end())).collect()
}

fn percents(text: &str, percent: Percent) -> String {
    match percent {
        Percent::Literal => text.replace('%', "%%"),
        Percent::Specifier => text.to_owned(),
    }
}

/// Quotes where something in a word would be read as more than itself.
///
/// Only `\\` and `\"` are used inside: some settings (RequiresMountsFor=) know C's escapes and some don't, and
/// both read these two alike.
fn quote(text: &str) -> String {
    let plain = |c: char| {
        c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '%' | '@' | ':' | '+' | ',' | '=' | '$')
    };
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
