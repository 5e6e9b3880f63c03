//! Texts without what is secret in them, for reports. Pure.
//!
//! Three nets, one behind the other:
//!
//! - Files whose keys are known are written anew ([`toml()`], [`unit()`], [`command`]): what isn't known to be harmless
//!   is left out, and its key stays.
//! - What was left out of them, and what environment files and logins hold, is learnt ([`Secrets`]), and is hidden
//!   wherever it is found again: in the journal, in what systemd says.
//! - What looks like a secret is hidden in all texts ([`hide_looks`]): logins in addresses, what is assigned to a
//!   `password` or a `token`, private keys.

mod files;
mod looks;

use std::collections::BTreeSet;

pub use files::{
    command, environment_file, kernel_line, learn_command, learn_toml, learn_unit, logins, toml, unit,
};
pub use looks::{hide_looks, is_secret_name};

/// What stands for what was left out.
pub const LEFT_OUT: &str = "<left out>";

/// Values that are to be hidden wherever they are.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The longest first counts, where one is part of another.
    values: BTreeSet<(std::cmp::Reverse<usize>, String)>,
    /// Words that everything is full of, and that nobody takes for a secret: names of containers and images.
    plain: BTreeSet<String>,
}

/// Shorter values would be found in half of all words.
const SHORTEST: usize = 4;

impl Secrets {
    /// A word that is no secret, whatever has it for a value.
    pub fn is_plain(&mut self, word: &str) {
        self.plain.insert(word.to_owned());
    }

    /// Keeps a value in mind, and its parts: lines, a login in an address, what is assigned in it.
    pub fn learn(&mut self, value: &str) {
        self.keep(value);
        for line in value.lines() {
            self.keep(line);
            for part in line.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | ',' | '?')) {
                if let Some((key, value)) = part.split_once('=')
                    && is_secret_name(key)
                {
                    self.keep(value);
                }
                if let Some((login, _)) = part.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')) {
                    self.keep(login);
                    self.keep(login.split_once(':').map_or("", |(_, password)| password));
                }
            }
        }
    }

    fn keep(&mut self, value: &str) {
        const WORDS: [&str; 8] =
            ["true", "false", "none", "null", "production", "debug", "info", "localhost"];
        let value = value.trim().trim_matches(['"', '\'']);
        // Ports, sizes and folders are in half of all lines, and no secret is made of so little.
        let is_number = value.len() < 6 && value.bytes().all(|byte| byte.is_ascii_digit());
        let in_path =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/-_.".contains(&byte);
        let is_path = value.starts_with('/')
            && value.bytes().all(in_path)
            && value.split('/').all(|name| name.len() <= 20);
        let is_word = WORDS.contains(&value.to_ascii_lowercase().as_str());
        if value.len() >= SHORTEST && !(is_number || is_path || is_word) {
            self.values.insert((std::cmp::Reverse(value.len()), value.to_owned()));
        }
    }

    /// A text without them, and without what looks like one.
    pub fn hide(&self, text: &str) -> String {
        self.hide_known(&hide_looks(text))
    }

    /// A text without them.
    pub fn hide_known(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (_, value) in &self.values {
            if !self.plain.contains(value) && text.contains(value.as_str()) {
                text = without(&text, value);
            }
        }
        text
    }

    /// The same for every text of a JSON value; keys stay.
    pub fn hide_json(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = self.hide(text),
            serde_json::Value::Array(values) => values.iter_mut().for_each(|value| self.hide_json(value)),
            serde_json::Value::Object(values) => {
                values.values_mut().for_each(|value| self.hide_json(value));
            }
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
        }
    }
}

/// A text without a value, where that isn't part of a longer word.
fn without(text: &str, value: &str) -> String {
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    // Long values are no part of words by chance, but of addresses and of each other.
    let anywhere = value.len() >= 12;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let (before, after) = (&rest[..at], &rest[at + value.len()..]);
        out.push_str(before);
        let begins = in_word(value.chars().next()) && in_word(out.chars().next_back());
        let goes_on = in_word(value.chars().next_back()) && in_word(after.chars().next());
        out.push_str(if anywhere || !(begins || goes_on) { LEFT_OUT } else { value });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learnt_is_hidden_everywhere() {
        let mut secrets = Secrets::default();
        for value in [
            "hunter2",
            "postgresql://app:s3kr1t@db/app",
            "true",
            "x",
            "8080",
            "/var/lib/postgresql",
            "nginx",
            "one line\nanother-line-of-it",
            "a;pwd=Tr0ub4dor",
        ] {
            secrets.learn(value);
        }
        secrets.is_plain("nginx");
        for (text, hidden) in [
            ("the password hunter2 is wrong", "the password <left out> is wrong"),
            ("hunter2's", "<left out>'s"),
            ("hunter22 and ahunter2 are other words", "hunter22 and ahunter2 are other words"),
            ("can't log in as app with s3kr1t", "can't log in as app with <left out>"),
            ("true x nginx 8080 /var/lib/postgresql", "true x nginx 8080 /var/lib/postgresql"),
            ("said: another-line-of-it!", "said: <left out>!"),
            ("Tr0ub4dor", "<left out>"),
        ] {
            assert_eq!(secrets.hide(text), hidden);
        }
        let mut value = serde_json::json!({"hunter2": ["hunter2", 1, {"a": "hunter2"}]});
        secrets.hide_json(&mut value);
        assert_eq!(value, serde_json::json!({"hunter2": [LEFT_OUT, 1, {"a": LEFT_OUT}]}));
    }

    #[test]
    fn a_secret_within_another_goes_with_it() {
        let mut secrets = Secrets::default();
        secrets.learn("abcd");
        secrets.learn("abcd-efgh");
        assert_eq!(secrets.hide("abcd-efgh abcd"), "<left out> <left out>");
    }

    proptest::proptest! {
        /// Whatever stands around it, and in whatever place of a container file it was.
        #[test]
        fn any_secret_in_any_text(
            secret in "[a-z]{2}[0-9]{2}[A-Za-z0-9+/_.-]{1,30}[a-z0-9]",
            before in "[^a-zA-Z0-9_]{0,20}",
            after in "[^a-zA-Z0-9_]{0,20}",
            place in 0..4_usize,
        ) {
            let quoted = serde_json::Value::from(secret.as_str()).to_string();
            let line = [
                format!("environment.A = {quoted}"),
                format!("unknown.\"key of any kind\" = [{{ x = {quoted} }}]"),
                format!("systemd.Service.SetCredential = [{quoted}]"),
                format!("command = [\"/bin/x\", \"--token\", {quoted}]"),
            ];
            let source = crate::report::Source::new("a.toml", format!("image = \"x\"\n{}\n", line[place]));
            let mut secrets = Secrets::default();
            learn_toml(&crate::spec::keys::CONTAINER, &source, &mut secrets);
            let shown = toml(&crate::spec::keys::CONTAINER, &source);
            proptest::prop_assert!(!shown.contains(&secret), "{}", shown);
            let hidden = secrets.hide(&format!("{before}{secret}{after}"));
            proptest::prop_assert!(!hidden.contains(&secret), "{}", hidden);
        }

        /// Lines stay lines, and nothing that a program says ends this one.
        #[test]
        fn any_text_at_all(text in "(.|\n|password|=|:|\"|://|@|--token |eyJ|-----BEGIN PRIVATE KEY){0,40}") {
            let hidden = hide_looks(&text);
            proptest::prop_assert_eq!(hidden.matches('\n').count(), text.matches('\n').count());
            unit(&text);
            kernel_line(&text);
            let mut secrets = Secrets::default();
            environment_file(&text, &mut secrets);
            learn_unit(&text, &mut secrets);
            secrets.hide(&text);
        }
    }
}
