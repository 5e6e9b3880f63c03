//! Showing who one is: challenges (RFC 9110, 11.6.1), basic authentication (RFC 7617), and the tokens of the
//! distribution project's token authentication specification.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::client::Client;
use super::credentials::Login;
use super::error::RegistryError;
use super::message::{Answer, Ask, Payload, authority};

/// A token that says nothing lives so long (the specification's default).
const LIFE: u64 = 60;

/// A token isn't used in its last seconds, which a request may take to arrive.
const MARGIN: Duration = Duration::from_secs(5);

/// Tokens are a few kB at most.
const TOKEN_MAX: u64 = 1 << 20;

/// What a server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case.
    scheme: String,
    parameters: Vec<(String, String)>,
}

/// What to send, and until when.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) value: String,
    until: Option<Instant>,
}

impl Authorization {
    pub(super) fn is_good(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() + MARGIN < until)
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

impl Challenge {
    fn get(&self, key: &str) -> Option<&str> {
        self.parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All challenges of one header, which may hold several, separated as their parameters are.
    pub(super) fn parse(header: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut rest = header.trim_start();
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | ',')).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let after = after.trim_start();
            match (after.strip_prefix('='), challenges.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let (value, after) = value_of(value.trim_start());
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                    rest = after;
                }
                _ if word.is_empty() => rest = after.get(1..).unwrap_or_default(),
                _ => {
                    challenges.push(Self { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                    rest = after;
                }
            }
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        }
        challenges
    }
}

/// A word, or a quoted text with its escapes undone, and what follows.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            plain => value.push(plain),
        }
    }
    (value, "")
}

/// For a query or a form.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

impl Client {
    /// What answers one of the challenges; nothing where a login is wanted and there is none.
    pub(super) fn authenticate(
        &self,
        host: &str,
        scopes: &[String],
        login: Option<&Login>,
        challenges: &[Challenge],
    ) -> Result<Option<Authorization>, RegistryError> {
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            return self.token(host, scopes, login, bearer).map(Some);
        }
        let asks_basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        Ok(match login {
            Some(Login::Password { user, password }) if asks_basic => {
                Some(Authorization { value: basic(user, &password.0), until: None })
            }
            _ => None,
        })
    }

    fn token(
        &self,
        host: &str,
        scopes: &[String],
        login: Option<&Login>,
        challenge: &Challenge,
    ) -> Result<Authorization, RegistryError> {
        let protocol = |why: &str| RegistryError::Protocol { host: host.to_owned(), why: why.to_owned() };
        let realm =
            challenge.get("realm").ok_or_else(|| protocol("it wants a token and doesn't say whose"))?;
        if authority(realm).is_none() || (realm.starts_with("http://") && !self.is_insecure(host)) {
            return Err(protocol("it wants a token that would go over the network unprotected"));
        }
        let mut fields: Vec<(&str, &str)> = Vec::new();
        fields.extend(challenge.get("service").map(|service| ("service", service)));
        // What is wanted is known here, and may be more than the server guesses.
        let asked = challenge.get("scope").map(str::to_owned);
        let scopes = if scopes.is_empty() { asked.as_slice() } else { scopes };
        let form = |fields: &[(&str, &str)]| {
            let words = fields.iter().map(|(key, value)| format!("{key}={}", encoded(value)));
            words.collect::<Vec<_>>().join("&")
        };
        let what = "a token".to_owned();
        let joined = scopes.join(" ");
        let answer = match login {
            Some(Login::Identity(identity)) => {
                fields.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "wharf"),
                    ("refresh_token", &identity.0),
                    ("scope", &joined),
                ]);
                let body = form(&fields);
                let payload = Payload::Bytes(body.as_bytes(), "application/x-www-form-urlencoded");
                self.retried(host, &Ask { payload, ..Ask::post(what.clone(), realm) }, None, false)?
            }
            _ => {
                fields.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
                let sign = if realm.contains('?') { '&' } else { '?' };
                let url = format!("{realm}{sign}{}", form(&fields));
                let own = match login {
                    Some(Login::Password { user, password }) => Some(basic(user, &password.0)),
                    _ => None,
                };
                self.retried(host, &Ask::get(what.clone(), url), own.as_deref(), false)?
            }
        };
        let answer = self.accepted(answer, &what, host, "")?;
        self.read_token(host, answer)
    }

    fn read_token(&self, host: &str, answer: Answer) -> Result<Authorization, RegistryError> {
        let began = Instant::now();
        let bytes = answer.bytes(TOKEN_MAX, "a token")?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        // A token becomes a header, and must not become two.
        let fits = |value: &&String| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
        token
            .as_ref()
            .and_then(|token| {
                let value = [&token.token, &token.access_token].into_iter().find(fits)?;
                // Nobody's token is of use for longer than a day's pull.
                let life = Duration::from_secs(token.expires_in.unwrap_or(LIFE).clamp(LIFE, 86_400));
                Some(Authorization { value: format!("Bearer {value}"), until: Some(began + life) })
            })
            .ok_or_else(|| RegistryError::Protocol {
                host: host.to_owned(),
                why: "what it gives for a token holds none".to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        let header = r#"Basic realm="a, \"b\"", charset=UTF-8, Bearer realm="https://auth.example/token",service="s x",scope="repository:a/b:pull,push""#;
        let challenges = Challenge::parse(header);
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[0].get("realm"), Some("a, \"b\""));
        assert_eq!(challenges[0].get("charset"), Some("UTF-8"));
        assert_eq!(challenges[1].scheme, "bearer");
        assert_eq!(challenges[1].get("service"), Some("s x"));
        assert_eq!(challenges[1].get("scope"), Some("repository:a/b:pull,push"));
        let odd = Challenge::parse("Negotiate, =x, BEARER Realm = \"r");
        assert_eq!(odd.last().and_then(|last| last.get("realm")), Some("r"), "{odd:?}");
        assert_eq!(Challenge::parse(""), []);
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encoded("repository:a/b:pull,push x"), "repository%3Aa%2Fb%3Apull%2Cpush%20x");
    }
}
