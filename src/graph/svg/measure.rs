//! How wide a text gets, where nobody knows the font, and how it stands in XML.

/// The sizes of text in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Font {
    /// A name: 15 pixels, semi-bold.
    Name,
    /// 12 pixels.
    Small,
    /// 11 pixels.
    Tiny,
}

/// The width of a text in pixels. The letters are DejaVu Sans's, the widest of the fonts that are asked for:
/// in any other there is room to spare.
pub(super) fn width(text: &str, font: Font) -> f64 {
    let size = match font {
        Font::Name => 15.0 * 1.09,
        Font::Small => 12.0,
        Font::Tiny => 11.0,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// In parts of the font's size.
fn em(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | ' ' => 0.32,
        'f' | 't' | 'r' | '-' | '/' | '(' | ')' | '[' | ']' | 'I' | 'J' => 0.39,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 0.98,
        'A'..='Z' | '+' | '=' | '~' | '→' => 0.72,
        c if c.is_ascii() => 0.62,
        // A letter with an accent, or one of a script whose letters are squares.
        c if u32::from(c) < 0x1100 => 0.7,
        _ => 1.05,
    }
}

/// At most so many characters, with an ellipsis in place of the first ones: the ends of paths and references
/// tell more.
pub(super) fn shortened(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(count - (max - 1)).collect();
    // From the next separator, if that is near: `…/data` rather than `…l/data`.
    let from = kept.char_indices().take(max / 3).find(|(_, c)| matches!(c, '/')).map_or(0, |(at, _)| at);
    format!("…{}", &kept[from..])
}

/// For text and attributes of XML 1.0, which can't hold most control characters at all.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_kept() {
        for (text, max, expected) in [
            ("nginx:1.26", 10, "nginx:1.26"),
            ("registry.example/team/application:2", 18, "…/application:2"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaa", 6, "…aaaaa"),
            ("ééééé", 3, "…éé"),
        ] {
            assert_eq!(shortened(text, max), expected);
        }
    }

    #[test]
    fn nothing_gets_out_of_the_xml() {
        assert_eq!(escaped("<a & \"b\">\u{1b}\u{ffff}"), "&lt;a &amp; &quot;b&quot;&gt;\u{fffd}\u{fffd}");
    }
}
