//! Findings as text for people.

use annotate_snippets::{AnnotationKind, Level as Shown, Origin, Renderer, Snippet};

use super::{Finding, Level};

/// Whether text may carry colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For files, logs and pipes.
    Plain,
    /// For terminals.
    Coloured,
}

/// Every finding with its file, line, column, caret and hint, an empty line between two.
pub fn render(findings: &[Finding], style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let mut text = String::new();
    for finding in findings {
        if !text.is_empty() {
            text.push('\n');
        }
        // Carets are aligned with spaces, which would stay at the ends of lines.
        for line in one(finding, &renderer).lines() {
            // Without a snippet the arrow has no gutter to stand under.
            if line.starts_with("-->") {
                text.push(' ');
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

fn one(finding: &Finding, renderer: &Renderer) -> String {
    let level = match finding.level {
        Level::Error => Shown::ERROR,
        Level::Warning => Shown::WARNING,
        Level::Note => Shown::NOTE,
    };
    let source = &finding.place.source;
    let path = source.path.display().to_string();
    let title = level.primary_title(finding.message.as_str());
    let group = match &finding.place.span {
        Some(span) if !source.text.is_empty() => title.element(
            Snippet::source(source.text.as_str())
                .path(path)
                .annotation(AnnotationKind::Primary.span(visible(&source.text, span.clone()))),
        ),
        _ => title.element(Origin::path(path)),
    };
    let mut groups = vec![group];
    if let Some(hint) = &finding.hint {
        let hint = Shown::HELP.with_name("hint").secondary_title(hint.as_str());
        groups.push(annotate_snippets::Group::with_title(hint));
    }
    renderer.render(&groups)
}

/// The span inside the text, on character boundaries and within one line: a mistake is explained by its first
/// line, and a table's body would bury it.
fn visible(text: &str, span: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    if let Some(newline) = text[start..end].find('\n') {
        end = start + newline;
    }
    start..end
}
