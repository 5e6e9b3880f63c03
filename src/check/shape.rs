//! Whether every key is one of the table's, and every value what its key takes.

use std::borrow::Cow;

use super::Rules;
use crate::report::Finding;
use crate::spec::keys::{Key, Kind, Vocabulary};
use crate::spec::{Data, Entries, Entry, Value, nearest};

/// Looks at everything in the document.
pub fn check<N>(rules: &mut Rules<'_, N>, vocabulary: &Vocabulary) {
    let mut walk = Walk { vocabulary, findings: Vec::new() };
    walk.table("", "", &rules.document.entries);
    rules.findings.append(&mut walk.findings);
}

struct Walk<'v> {
    vocabulary: &'v Vocabulary,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    /// One table: `path` as in the table of keys, `shown` as the administrator wrote it.
    fn table(&mut self, path: &str, shown: &str, entries: &Entries) {
        for (name, entry) in entries {
            let below = |table: &str| match table {
                "" => Cow::Borrowed(name.as_str()),
                table => Cow::Owned(format!("{table}.{name}")),
            };
            let inner = below(shown);
            // A key of one's own never stands for the table's `*`, nor a quoted one for a path.
            match self.vocabulary.find(&below(path)).filter(|_| !name.contains(['*', '.'])) {
                Some(key) => self.value(key, &inner, entry),
                None => self.findings.push(unknown(self.vocabulary, path, shown, name, entry)),
            }
        }
    }

    fn value(&mut self, key: &Key, shown: &str, entry: &Entry) {
        if !fits(key.kind, &entry.value) {
            self.findings.push(wrong_type(key, shown, &entry.value));
            return;
        }
        let Data::Table(entries) = &entry.value.data else { return };
        match key.kind {
            Kind::Table => self.table(key.path, shown, entries),
            Kind::Tables => {
                for (name, entry) in entries {
                    match &entry.value.data {
                        Data::Table(inner) => {
                            self.table(&format!("{}.*", key.path), &format!("{shown}.\"{name}\""), inner);
                        }
                        other => self.findings.push(
                            Finding::error(
                                entry.value.place.clone(),
                                format!("`{name}` of [{shown}] must be a table, and is {}", other.kind()),
                            )
                            .hint(format!("for example: {}", key.example)),
                        ),
                    }
                }
            }
            _ => {}
        }
    }
}

fn fits(kind: Kind, value: &Value) -> bool {
    let scalar = |value: &Value| matches!(value.data, Data::Text(_) | Data::Integer(_) | Data::Flag(_));
    match (kind, &value.data) {
        (
            Kind::Text
            | Kind::TextOrTexts
            | Kind::TextOrNumber
            | Kind::TextOrTrue
            | Kind::Duration
            | Kind::CommandOrShell,
            Data::Text(_),
        )
        | (Kind::Flag, Data::Flag(_))
        | (Kind::TextOrTrue, Data::Flag(true))
        | (Kind::TextOrNumber | Kind::Duration | Kind::Number, Data::Integer(_))
        | (Kind::Table | Kind::Tables, Data::Table(_)) => true,
        (Kind::Choice(words), Data::Text(text)) => words.contains(&text.as_str()),
        (Kind::Texts | Kind::TextOrTexts | Kind::Command | Kind::CommandOrShell, Data::List(values)) => {
            values.iter().all(|value| value.text().is_some())
        }
        (Kind::Map, Data::Table(entries)) => entries.values().all(|entry| scalar(&entry.value)),
        (Kind::Settings, Data::Table(entries)) => entries.values().all(|entry| match &entry.value.data {
            Data::List(values) => values.iter().all(scalar),
            _ => scalar(&entry.value),
        }),
        _ => false,
    }
}

fn wrong_type(key: &Key, shown: &str, value: &Value) -> Finding {
    let example = format!("for example: {}", key.example);
    let is = |value: &Value, shown: &str, expected: &str, hint: String| {
        Finding::error(
            value.place.clone(),
            format!("`{shown}` must be {expected}, and is {}", value.data.kind()),
        )
        .hint(hint)
    };
    match (key.kind, &value.data) {
        (Kind::Choice(words), Data::Text(text)) => {
            let hint = match nearest(text, words.iter().copied()) {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => format!("write {}", key.kind.expected()),
            };
            Finding::error(value.place.clone(), format!("`{shown}` can't be \"{text}\"")).hint(hint)
        }
        (Kind::Command, Data::Text(text)) => {
            let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
            is(value, shown, "a list of texts", format!("write [{}]; no shell reads it", words.join(", ")))
        }
        (Kind::Texts, Data::Text(text)) => is(value, shown, "a list of texts", format!("write [{text:?}]")),
        (Kind::Texts | Kind::TextOrTexts | Kind::Command | Kind::CommandOrShell, Data::List(values)) => {
            let wrong = values.iter().find(|value| value.text().is_none()).unwrap_or(value);
            let hint = match super::plain(wrong) {
                Some(digits) => format!("write \"{digits}\""),
                None => example,
            };
            Finding::error(
                wrong.place.clone(),
                format!("every part of `{shown}` must be a text, and this is {}", wrong.data.kind()),
            )
            .hint(hint)
        }
        (Kind::Text, Data::Float(number)) if key.path == "limits.cpu" => {
            let hint = match number.parse::<f64>() {
                Ok(cpus) => format!("two CPUs are \"200%\"; {number} of them are \"{:.0}%\"", cpus * 100.0),
                Err(_) => example,
            };
            is(value, shown, "per cent of one CPU", hint)
        }
        (Kind::Text, Data::Integer(number)) if key.path == "limits.cpu" => {
            let hint =
                format!("write \"{number}%\", or \"{}%\" for as many CPUs", number.saturating_mul(100));
            is(value, shown, "per cent of one CPU", hint)
        }
        (Kind::Flag, Data::Text(text)) if text == "true" || text == "false" => {
            is(value, shown, "true or false", format!("write {text} without quotes"))
        }
        (Kind::Map | Kind::Settings, Data::Table(entries)) => {
            let wrong = entries.iter().find(|(_, entry)| {
                let one = Entries::from([(String::new(), (*entry).clone())]);
                let value = Value { place: value.place.clone(), data: Data::Table(one) };
                !fits(key.kind, &value)
            });
            match wrong {
                Some((name, entry)) => is(&entry.value, name, "a text", "put the value in quotes".to_owned()),
                None => is(value, shown, "a table", example),
            }
        }
        _ => is(value, shown, &key.kind.expected(), example),
    }
}

/// `parent` as in the table of keys, `table` as the administrator wrote it.
fn unknown(vocabulary: &Vocabulary, parent: &str, table: &str, name: &str, entry: &Entry) -> Finding {
    let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
    let message = match table {
        "" => format!("`{name}` is not a key of {}", vocabulary.of),
        table => format!("`{name}` is not a key of [{table}]"),
    };
    let finding = Finding::error(entry.key.clone(), message);
    if name.contains('.') && vocabulary.find(&path).is_some() {
        return finding.hint(format!("write {name} without quotes"));
    }
    // A word that is known means more than one that looks like it: `userns` isn't `user`.
    if parent.is_empty() {
        let plain = name.to_lowercase().replace('_', "-");
        if let Some((_, instead)) = vocabulary.nothing.iter().find(|(word, _)| *word == plain) {
            return finding.hint(*instead);
        }
        if let Some((_, key)) = vocabulary.habits.iter().find(|(habit, _)| *habit == plain) {
            return finding.hint(format!("did you mean `{key}`?"));
        }
    }
    let names: Vec<&str> = vocabulary.below(parent).map(|(name, _)| name).collect();
    if let Some(word) = nearest(name, names.iter().copied()) {
        return finding.hint(format!("did you mean `{word}`?"));
    }
    // `[registries.registry.example]` is three tables.
    if parent.ends_with(".*") && matches!(entry.value.data, Data::Table(_)) {
        let whole = format!("{table}.{name}").replace('"', "");
        let (start, rest) = whole.split_at(parent.len() - 1);
        return finding.hint(format!("a name with a dot in it is written in quotes: [{start}\"{rest}\"]"));
    }
    // A name of one's own, one table too high.
    let tables = vocabulary.below(parent).find(|(_, key)| key.kind == Kind::Tables);
    if let Some((_, key)) = tables.filter(|_| name.contains(['.', '/', ':']))
        && matches!(entry.value.data, Data::Table(_))
    {
        return finding.hint(format!("did you mean [{}.\"{name}\"]?", key.path));
    }
    // The right key in the wrong table is a common slip: TOML tables reach to the next header.
    let elsewhere = vocabulary
        .keys
        .iter()
        .find(|key| !key.path.contains('*') && key.path.rsplit('.').next() == Some(name) && key.path != path);
    match elsewhere.map(|key| key.path.rsplit_once('.')) {
        Some(Some((table, _))) => finding.hint(format!("`{name}` belongs under [{table}]")),
        Some(None) => finding.hint(format!("`{name}` belongs above the first [table] of the file")),
        None if parent == "systemd" => finding
            .hint("settings go under [systemd.Unit] or [systemd.Service]; `autostart` stands for [Install]"),
        None => finding.hint(format!("the keys here are {}", names.join(", "))),
    }
}
