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

mod commands;
mod files;
mod looks;
mod units;

use std::collections::BTreeSet;

pub use commands::{command, learn_command};
pub use files::{credential, environment_file, kernel_line, learn_toml, logins, named_files, toml};
pub use looks::{hide_looks, is_secret_name};
pub use units::{encrypted_in_unit, learn_unit, named_in_unit, unit};

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

/// What stands for a value that is hidden, and for a character of one that is about to be, while a text is gone through:
/// characters of nobody's (Unicode's private use area), at which no word or address ends.
const HIDDEN: &str = "\u{e001}";
const BLURRED: char = '\u{e000}';

impl Secrets {
    /// A word that is no secret, whatever has it for a value.
    pub fn is_plain(&mut self, word: &str) {
        self.plain.insert(word.to_owned());
    }

    /// Keeps a value in mind, and its parts: lines, a login in an address, what is assigned in it.
    pub fn learn(&mut self, value: &str) {
        self.learn_whole(value);
        // In templates, and to systemd, `%%` is one, and `%i` another word in each instance.
        if value.contains("%%") || value.contains("%i") {
            for part in value.replace("%%", HIDDEN).split("%i") {
                self.learn_whole(&part.replace(HIDDEN, "%"));
            }
        }
    }

    fn learn_whole(&mut self, value: &str) {
        self.keep(value);
        self.learn_json(value);
        for line in value.lines() {
            self.keep(line);
            if line.len() < value.len() {
                self.learn_json(line);
            }
            self.learn_assigned(line);
            self.learn_pgpass(line);
            for part in line.split(is_end_of_part) {
                if part.contains("://") {
                    self.learn_login(part);
                }
            }
        }
    }

    /// What of JSON is no plain word, and all that is below the name of a secret.
    fn learn_json(&mut self, text: &str) {
        if text.trim_start().starts_with(['{', '['])
            && let Ok(value) = serde_json::from_str(text)
        {
            self.learn_leaves(&value, false);
        }
    }

    fn learn_leaves(&mut self, value: &serde_json::Value, is_secret: bool) {
        match value {
            serde_json::Value::String(text) if is_secret || !is_plain_word(text) => self.learn_whole(text),
            serde_json::Value::Number(number) if is_secret => self.keep(&number.to_string()),
            serde_json::Value::Array(values) => {
                values.iter().for_each(|value| self.learn_leaves(value, is_secret));
            }
            serde_json::Value::Object(values) => {
                values
                    .iter()
                    .for_each(|(key, value)| self.learn_leaves(value, is_secret || is_secret_name(key)));
            }
            _ => {}
        }
    }

    /// What has the name of a secret before it: `password=x`, `password: x`, `requirepass x`.
    fn learn_assigned(&mut self, line: &str) {
        // To the end of the line, as there may be anything in it.
        let begin = line.trim_start_matches(|c: char| c.is_whitespace() || "-\"'".contains(c));
        let name =
            begin.split(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))).next().unwrap_or("");
        if is_secret_name(name) {
            self.keep(
                begin[name.len()..].trim_start_matches(|c: char| c.is_whitespace() || "\"':=".contains(c)),
            );
        }
        let words: Vec<&str> = line.split(is_end_of_part).filter(|word| !word.is_empty()).collect();
        for (at, word) in words.iter().enumerate() {
            for split in ['=', ':'].map(|sign| word.split_once(sign)) {
                let (name, value) = split.unwrap_or((word, ""));
                if !is_secret_name(name.trim_matches(|c| "\"'{[(".contains(c))) {
                    continue;
                }
                // Between both there may be a sign, and what kind of secret it is.
                let is_between = |word: &&&str| {
                    ["=", ":", "=>"].contains(word)
                        || ["bearer", "basic"].contains(&word.to_ascii_lowercase().as_str())
                };
                let next = words[at + 1..].iter().find(|word| !is_between(word)).copied().unwrap_or("");
                let is_prose = split.is_none() && words.len() > 2 && is_plain_word(next);
                if is_prose {
                    continue;
                }
                let value = if value.is_empty() { next } else { value };
                self.keep(value);
                self.keep(value.trim_end_matches(['}', ']', ')']));
            }
        }
    }

    /// The password in a line of PostgreSQL's: `HOST:PORT:DATABASE:USER:PASSWORD`, with `\` before a `:` that is part
    /// of one of them.
    fn learn_pgpass(&mut self, line: &str) {
        let mut is_escaped = false;
        let colons = line.char_indices().filter(|(_, c)| {
            let is_colon = *c == ':' && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            is_colon
        });
        let [first, second, _, last] = colons.map(|(at, _)| at).take(4).collect::<Vec<_>>()[..] else {
            return;
        };
        let port = &line[first + 1..second];
        if port == "*" || !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
            let password = &line[last + 1..];
            self.keep(password);
            self.keep(&password.replace("\\:", ":").replace("\\\\", "\\"));
        }
    }

    /// Keeps in mind what of an address is the login, also where its scheme is missing: what is said of an address that
    /// may have neither has it without.
    pub fn learn_login(&mut self, address: &str) {
        let (is_whole, rest) = address.split_once("://").map_or((false, address), |(_, rest)| (true, rest));
        let Some((login, place)) = rest.rsplit_once('@') else { return };
        // A digest behind a tag, and somebody's mail.
        let is_another = place.starts_with("sha") || login.contains('/') || !login.contains(':');
        if !is_whole && is_another {
            return;
        }
        let password = login.split_once(':').map_or("", |(_, password)| password);
        self.keep(login);
        self.keep(password);
        // As who logs in with it has it.
        self.keep(&unescaped(password));
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
        // Of any private key, by which it is known for one.
        let is_frame = value.starts_with("-----") && !value.contains('\n');
        if value.len() >= SHORTEST && !(is_number || is_path || is_word || is_frame) {
            // As programs that log JSON write it, where that is something else.
            let quoted = serde_json::Value::from(value).to_string();
            for value in [value, &quoted[1..quoted.len() - 1]] {
                self.values.insert((std::cmp::Reverse(value.len()), value.to_owned()));
            }
        }
    }

    /// A text without them, and without what looks like one.
    pub fn hide(&self, text: &str) -> String {
        let there = self.there(text);
        let mut text = text.to_owned();
        // What looks like the end of a secret may be the middle of one that is known, and what is known may be the name
        // by which another is told (`password`): so neither is done with before the other begins.
        for value in &there {
            text = replaced(&text, value, &blurred(value));
        }
        text = hide_looks(&text);
        for value in &there {
            text = replaced(&text, &blurred(value), HIDDEN);
        }
        uncovered(&text)
    }

    /// A text without them.
    pub fn hide_known(&self, text: &str) -> String {
        let hidden =
            self.there(text).iter().fold(text.to_owned(), |text, value| replaced(&text, value, HIDDEN));
        uncovered(&hidden)
    }

    /// Those that a text has, the longest first.
    fn there(&self, text: &str) -> Vec<&str> {
        let runs = Runs::of(text);
        let values = self.values.iter().map(|(_, value)| value.as_str());
        let is_there =
            |value: &&str| runs.may_have(value) && !self.plain.contains(*value) && text.contains(value);
        values.filter(is_there).collect()
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

/// Which runs of [`SHORTEST`] bytes a text has, or others with the same hash. Nearly every value has one that isn't
/// there, and needs no search: of some hundreds of containers there are thousands of values, and megabytes of journal.
struct Runs(Vec<u64>);

impl Runs {
    /// As many bits, a power of two: a few times as many as the longest texts have bytes.
    const BITS: u32 = 20;

    fn of(text: &str) -> Self {
        let mut runs = Self(vec![0; 1 << (Self::BITS - 6)]);
        for run in text.as_bytes().windows(SHORTEST) {
            let bit = Self::bit(run);
            runs.0[bit / 64] |= 1 << (bit % 64);
        }
        runs
    }

    fn may_have(&self, value: &str) -> bool {
        value.as_bytes().windows(SHORTEST).all(|run| {
            let bit = Self::bit(run);
            self.0[bit / 64] >> (bit % 64) & 1 == 1
        })
    }

    fn bit(run: &[u8]) -> usize {
        let number = run.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        // Fibonacci hashing: the upper bits are the mixed ones (Knuth, volume 3, 6.4).
        (number.wrapping_mul(0x9e37_79b1) >> (32 - Self::BITS)) as usize
    }
}

/// Where one of several things in a line ends.
fn is_end_of_part(c: char) -> bool {
    c.is_whitespace() || matches!(c, ';' | '&' | ',' | '?')
}

/// What may well be a name, of a host or a level of logging for one, that other texts are full of.
fn is_plain_word(text: &str) -> bool {
    text.len() < 16 && text.bytes().all(|byte| byte.is_ascii_alphabetic() || b"-_./".contains(&byte))
}

/// What is escaped in an address (RFC 3986, 2.1); what isn't UTF-8 then stays as it is.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let number = (*byte == b'%').then(|| after.get(..2)).flatten();
        let number = number.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(number.unwrap_or(*byte));
        rest = if number.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn uncovered(text: &str) -> String {
    text.replace(HIDDEN, LEFT_OUT).replace(BLURRED, LEFT_OUT)
}

/// A value without those characters at which a word or an address may end; as it is, where it has none of them.
fn blurred(value: &str) -> String {
    let stays = |c: char| c.is_alphanumeric() || "-_./:@%+=".contains(c);
    if value.chars().all(stays) {
        return value.to_owned();
    }
    value.chars().map(|c| if c.is_alphanumeric() { c } else { BLURRED }).collect()
}

/// A text with something else in the place of a value, where that isn't part of a longer word.
fn replaced(text: &str, value: &str, other: &str) -> String {
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
        out.push_str(if anywhere || !(begins || goes_on) { other } else { value });
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

    /// Whatever a secret has in it, and however it is written down.
    #[test]
    fn what_is_known_goes_whole() {
        let mut secrets = Secrets::default();
        for value in [
            "p;ss w,rd)",
            "a\"b\\c",
            "postgresql://app:p%40ss%2Fw@db/app",
            "password",
            "-----BEGIN PRIVATE KEY-----\nMIIEhunter1\n-----END PRIVATE KEY-----",
        ] {
            secrets.learn(value);
        }
        for (text, hidden) in [
            ("PGPASSWORD=p;ss w,rd) USER=app", "PGPASSWORD=<left out> USER=app"),
            ("token: p;ss w,rd)", "token: <left out>"),
            (r#"{"x":"a\"b\\c","y":1}"#, r#"{"x":"<left out>","y":1}"#),
            ("said p@ss/w to db", "said <left out> to db"),
            ("postgresql://app:p%40ss%2Fw@db/app?x=y", "postgresql://<left out>@db/app?<left out>"),
            // What is known doesn't hide what tells of another.
            ("password=hunter2", "<left out>=<left out>"),
            (
                "-----BEGIN PRIVATE KEY-----\nMIIEhunter2\n-----END PRIVATE KEY-----",
                "<left out>\n<left out>\n<left out>",
            ),
            (
                "key: -----BEGIN PRIVATE KEY-----\nMIIEhunter1\n-----END PRIVATE KEY----- x",
                "key: <left out> x",
            ),
            ("http://me:p@ss/w@x.example/?q=1", "http://<left out>@x.example/?<left out>"),
        ] {
            assert_eq!(secrets.hide(text), hidden);
        }
    }

    #[test]
    fn values_of_templates() {
        let mut secrets = Secrets::default();
        ["hunter%%2", "hunter3-%i-hunter4", "hunter%%i5"].iter().for_each(|value| secrets.learn(value));
        assert_eq!(
            secrets.hide_known("hunter%2 hunter3-blue-hunter4 hunter%i5"),
            "<left out> <left out>blue<left out> <left out>"
        );
    }

    #[test]
    fn secrets_within_values() {
        for value in [
            r#"{"user":"app","password":"hunter2x"}"#,
            r#"{"db": {"secrets": {"level": "warning", "one": ["hunter2x"]}}}"#,
            r#"{"b": [{"c": "hunter2x"}]}"#,
            r#"{"address": "amqp://app:hunter2x@mq/"}"#,
            "{\"a\": 1}\n{\"token\": \"hunter2x\"}",
            r#"{"inner": "{\"password\": \"hunter2x\"}"}"#,
            // What only looks like JSON.
            r#"{user:"app", password:"hunter2x"}"#,
            r#"{"password": "hunter2x"} // old"#,
            "db:5432:*:app:hunter2x",
            "# of the shop\n*:*:shop:app:hunter2x",
            "requirepass hunter2x",
            "- password: hunter2x # old",
            "password = 'hunter2x'",
            "a: b\npassword:\n  c: d\ntoken: hunter2x",
            "machine api.example login app password hunter2x",
            "Authorization: Basic hunter2x",
        ] {
            let mut secrets = Secrets::default();
            secrets.learn(value);
            // What only goes with it stays.
            assert_eq!(
                secrets.hide_known("login of app at api.example, shop or mq with hunter2x refused"),
                "login of app at api.example, shop or mq with <left out> refused",
                "{value}"
            );
        }
        for (value, text, hidden) in [
            // A blank is part of one, and signs that are escaped.
            ("password: \"correct horse\"", "said correct horse.", "said <left out>."),
            ("db:5432:*:app:correct\\: horse", "said correct: horse.", "said <left out>."),
            // Plain words are known by their names alone, and of prose nothing is.
            (r#"{"key": "correct", "note": "horse"}"#, "said correct: horse.", "said <left out>: horse."),
            ("this password is said to be correct: no horse", "said correct: horse.", "said correct: horse."),
        ] {
            let mut secrets = Secrets::default();
            secrets.learn(value);
            assert_eq!(secrets.hide_known(text), hidden, "{value}");
        }
    }

    #[test]
    fn logins_in_addresses() {
        let mut secrets = Secrets::default();
        for address in [
            "https://me:hunter1@x.example/y",
            "https://hunter3@x.example/y",
            "someone@x.example",
            "me:hunter2@x.example",
            "nginx:1.26@sha256:2cf24dba",
            "r.example:5000/app:1@sha256:2cf24dba",
            "https://r.example:8080/@scope/x",
            "https://x.example/",
        ] {
            secrets.learn_login(address);
        }
        assert_eq!(
            secrets.hide_known("me:hunter1 hunter1 hunter2 hunter3 someone nginx:1.26 r.example:5000 8080"),
            "<left out> <left out> <left out> <left out> someone nginx:1.26 r.example:5000 8080"
        );
    }

    #[test]
    fn runs_of_bytes() {
        let runs = Runs::of("the password is hunter2");
        assert!(runs.may_have("hunter2") && runs.may_have("pass") && !runs.may_have("hunter3"));
        assert!(!Runs::of("abc").may_have("abcd"));
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
            credential(&text, &mut secrets);
            learn_unit(&text, &mut secrets);
            secrets.hide(&text);
        }
    }
}
