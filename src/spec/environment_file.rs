//! Environment files, in the form that systemd's `EnvironmentFile=` has (systemd.exec(5)).

/// The assignments of a text, or the number of the first line that is none.
///
/// A value may be quoted: in single quotes everything is itself, in double quotes and outside of them a
/// backslash takes away the meaning of the next character, and at a line's end it joins the next line. A
/// quoted value may go over several lines. `#` and `;` start a comment at the beginning of a line.
///
/// # Errors
/// A line that is no assignment, or a quote that is left open there.
pub fn assignments(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut variables = Vec::new();
    let mut rest = text.chars().peekable();
    let mut line = 1;
    loop {
        while let Some(space) = rest.next_if(|c| c.is_whitespace()) {
            line += usize::from(space == '\n');
        }
        let Some(first) = rest.peek().copied() else { return Ok(variables) };
        if matches!(first, '#' | ';') {
            while rest.next_if(|c| *c != '\n').is_some() {}
            continue;
        }
        let start = line;
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| !matches!(c, '=' | '\n')) {
            name.push(c);
        }
        let name = name.trim_end();
        let good = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !good || rest.next() != Some('=') {
            return Err(start);
        }
        while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        let value = value(&mut rest, &mut line).ok_or(start)?;
        variables.push((name.to_owned(), value));
    }
}

fn value(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, line: &mut usize) -> Option<String> {
    let mut value = String::new();
    // White space at the end doesn't count, unless it was quoted: how much of the value stays for sure.
    let mut keep = 0;
    let mut quote = None;
    while let Some(c) = rest.next() {
        *line += usize::from(c == '\n');
        match (quote, c) {
            (None, '\n') => break,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => {
                quote = None;
                keep = value.len();
            }
            (Some('\''), c) => value.push(c),
            (_, '\\') => match rest.next() {
                Some('\n') => *line += 1,
                // In double quotes only what has a meaning there loses it.
                Some(c) if quote.is_some() && !matches!(c, '"' | '\\' | '`' | '$') => value.extend(['\\', c]),
                Some(c) => {
                    value.push(c);
                    keep = value.len();
                }
                None => value.push('\\'),
            },
            (_, c) => value.push(c),
        }
    }
    if quote.is_some() || value.contains('\0') {
        return None;
    }
    let end = value.trim_end().len().max(keep);
    value.truncate(end);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones() {
        let text = "# comment\n; another\n\nA=1\n  B = two words  \nC='single # $x \\'\nD=\"a \\\"quoted\\\" \\n line\nand one more \"\nE=joined\\\n line\nF=\nG=a#b\nH=\"x\"\"y\"z\n";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "single # $x \\"),
            ("D", "a \"quoted\" \\n line\nand one more "),
            ("E", "joined line"),
            ("F", ""),
            ("G", "a#b"),
            ("H", "xyz"),
        ];
        let expected: Vec<_> = expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        assert_eq!(assignments(text), Ok(expected));
    }

    #[test]
    fn the_line_that_is_none() {
        for (text, line) in
            [("A=1\nnonsense\n", 2), ("A='open\n\n", 1), ("1A=2", 1), ("\n\n=x", 3), ("A B=1", 1)]
        {
            assert_eq!(assignments(text), Err(line), "{text:?}");
        }
    }
}
