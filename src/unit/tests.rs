//! What goes in comes out, read back by the rules of systemd.syntax(7).

use proptest::prelude::*;

use super::*;

/// A unit file's settings as systemd reads them: lines joined at a backslash, white space cut off.
fn read(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut joined = String::new();
    for line in text.split('\n') {
        let start = joined.is_empty() && line.trim_start().starts_with(['#', ';']);
        if start {
            continue;
        }
        joined.push_str(line);
        let escaped = joined.chars().fold(false, |escaped, c| !escaped && c == '\\');
        if escaped {
            joined.pop();
            joined.push(' ');
            continue;
        }
        let line = std::mem::take(&mut joined);
        if let Some((key, value)) = line.trim().split_once('=') {
            settings.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    settings
}

fn specifiers(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            assert_eq!(chars.next(), Some('%'), "only %% may be left of {text:?}");
        }
        out.push(c);
    }
    out
}

/// Words as `extract_first_word` cuts them, with or without C's escapes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('\\', _) => word.push(chars.next().expect("a backslash is never last")),
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(q)) if c == q => quote = None,
                (c, None) if c.is_whitespace() => break,
                (c, _) => word.push(c),
            }
        }
        assert_eq!(quote, None);
        words.push(word);
    }
}

fn one(fill: impl FnOnce(&mut Section)) -> String {
    let mut section = Section::new("Service");
    fill(&mut section);
    section.word("After", "after.target");
    let settings = read(&Unit::new([section]).render("made"));
    assert_eq!(settings.len(), 2, "{settings:?}");
    assert_eq!(settings[1], ("After".into(), "after.target".into()));
    settings[0].1.clone()
}

proptest! {
    #[test]
    fn text_comes_back(text in "[^\\p{Cc}]{0,40}") {
        let value = one(|section| { section.text("Description", &text, Percent::Literal); });
        prop_assert_eq!(specifiers(&value), text.trim());
    }

    #[test]
    fn paths_come_back(path in "/[^\\p{Cc}]{0,40}") {
        let value = one(|section| { section.quoted("RequiresMountsFor", &path, Percent::Literal); });
        prop_assert_eq!(words(&specifiers(&value)), vec![path]);
    }

    #[test]
    fn commands_come_back(arguments in prop::collection::vec("[^\\p{Cc}]{0,12}", 0..5)) {
        let list: Vec<(&str, Percent)> = arguments.iter().map(|a| (a.as_str(), Percent::Literal)).collect();
        let value = one(|section| { section.command("ExecStart", "-", "/bin/x", &list); });
        let mut read = words(&specifiers(&value));
        prop_assert_eq!(read.remove(0), "-/bin/x");
        let read: Vec<String> = read.into_iter().map(|word| word.replace("$$", "$")).collect();
        prop_assert_eq!(read, arguments);
    }
}

#[test]
fn templates_keep_their_specifiers() {
    let value = one(|section| {
        section.text("Description", "web %i, 100%%", Percent::Specifier);
    });
    assert_eq!(value, "web %i, 100%%");
}

#[test]
fn another_description() {
    let mut section = Section::new("Unit");
    section.text("Description", "old", Percent::Literal).word("After", "a.target");
    let unit = Unit::new([section]).render("made");
    let new = replace(&unit, "Description", "90% new");
    assert!(new.contains("\nDescription=90%% new\nAfter=a.target\n"), "{new}");
    assert!(!new.contains("old"));
}
