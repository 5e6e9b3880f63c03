//! What looks like a secret, in a text of any kind.

use super::LEFT_OUT;

/// Words within the names of settings whose values are secret.
const WORDS: [&str; 16] = [
    "pass",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "accesskey",
    "access_key",
    "access-key",
    "private",
    "credential",
    "pwd",
    "authorization",
    "cookie",
    "bearer",
    "dsn",
];

/// Words that such names end with; within others they mean nothing (`keyboard`, `author`).
const ENDS: [&str; 3] = ["key", "auth", "pw"];

/// Whether what is called so is likely to be secret: `DB_PASSWORD`, `--api-key`.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word)) || ENDS.iter().any(|end| name.ends_with(end))
}

/// A text without what looks like a secret. Its lines stay lines.
pub fn hide_looks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let begins = line.find("-----BEGIN ").filter(|_| line.contains("PRIVATE KEY"));
        match begins {
            Some(at) => {
                out.push_str(&hide_in_line(&line[..at]));
                out.push_str(LEFT_OUT);
                in_key = !line.contains("-----END ");
            }
            None if in_key => {
                out.push_str(LEFT_OUT);
                in_key = !line.contains("-----END ");
            }
            None => out.push_str(&hide_in_line(line)),
        }
        out.push_str(end);
    }
    out
}

fn hide_in_line(line: &str) -> String {
    hide_announced(&hide_assigned(&hide_in_addresses(&hide_issued(&hide_tokens(line)))))
}

/// Tokens that say by their beginning who issued them: GitHub, GitLab, Slack, AWS, Stripe, Vault, Docker.
fn hide_issued(line: &str) -> String {
    const BEGINNINGS: [&str; 15] = [
        "ghp_",
        "gho_",
        "ghs_",
        "ghu_",
        "ghr_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "xoxp-",
        "AKIA",
        "ASIA",
        "sk_live_",
        "rk_live_",
        "hvs.",
        "dckr_pat_",
    ];
    /// The shortest of them, AWS's, have so many characters.
    const LENGTH: usize = 20;
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(is_token) {
        let (before, word) = rest.split_at(at);
        let (word, after) = word.split_at(word.find(|c: char| !is_token(c)).unwrap_or(word.len()));
        let is_issued =
            word.len() >= LENGTH && BEGINNINGS.iter().any(|beginning| word.starts_with(beginning));
        out.push_str(before);
        out.push_str(if is_issued { LEFT_OUT } else { word });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What database servers and the like say once, at their first start: `A temporary password is generated for
/// root@localhost: x`.
fn hide_announced(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let is_one = lower.contains("password")
        && ["generated", "temporary", "initial"].iter().any(|word| lower.contains(word));
    match line.rsplit_once(": ").filter(|_| is_one) {
        Some((before, said)) if !said.trim().is_empty() && !said.trim().contains(char::is_whitespace) => {
            format!("{before}: {LEFT_OUT}")
        }
        _ => line.to_owned(),
    }
}

/// JSON web tokens (RFC 7519): three parts in base64, the first of which begins with `{"`.
fn hide_tokens(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("eyJ") {
        let (before, token) = rest.split_at(at);
        let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
        let end = token.find(|c: char| !is_token(c)).unwrap_or(token.len());
        out.push_str(before);
        out.push_str(if token[..end].matches('.').count() >= 2 { LEFT_OUT } else { &token[..end] });
        rest = &token[end..];
    }
    out.push_str(rest);
    out
}

/// Addresses (RFC 3986) without who logs in, and without what is asked for.
fn hide_in_addresses(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '|');
        let address = &after[..after.find(is_end).unwrap_or(after.len())];
        rest = &after[address.len()..];
        // A password may have any character in it that its writer forgot to escape.
        let place = match address.rsplit_once('@') {
            // After the path or the query began, an @ means nothing; before, it ends the login.
            Some((login, place)) if !is_path_of(login) => {
                out.push_str(LEFT_OUT);
                out.push('@');
                place
            }
            _ => address,
        };
        match place.find(['?', '#']) {
            Some(query) => {
                out.push_str(&place[..=query]);
                out.push_str(LEFT_OUT);
            }
            None => out.push_str(place),
        }
    }
    out.push_str(rest);
    out
}

/// Whether what stands before an @ is a host with a path (`host/@scope`), and no login.
fn is_path_of(login: &str) -> bool {
    login.split_once('/').is_some_and(|(host, _)| !host.contains(':') && host.contains('.'))
}

/// What is assigned to a name of a secret: `password=x`, `"token": "x"`, `Authorization: Bearer x`, `--password x`,
/// `<password>x</password>`.
fn hide_assigned(line: &str) -> String {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(in_name) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (name, after) = rest.split_at(rest.find(|c: char| !in_name(c)).unwrap_or(rest.len()));
        out.push_str(name);
        rest = after;
        if !is_secret_name(name) {
            continue;
        }
        let gap = rest.len() - rest.trim_start_matches(['"', '\'', ' ', '\\']).len();
        let assigned = rest[gap..].starts_with(['=', ':', '>']) && !rest[gap..].starts_with("://");
        let begins = if assigned {
            let value = &rest[gap + 1..];
            gap + 1 + (value.len() - value.trim_start_matches([' ', '=', '>']).len())
        } else if name.starts_with("--") && rest.starts_with(' ') && !rest.trim_start().starts_with('-') {
            rest.len() - rest.trim_start().len()
        } else {
            continue;
        };
        let (before, mut value) = rest.split_at(begins);
        out.push_str(before);
        for scheme in ["Bearer ", "Basic ", "bearer ", "basic ", "token "] {
            if let Some(after) = value.strip_prefix(scheme) {
                out.push_str(scheme);
                value = after;
            }
        }
        let length = if is_header(name) { length_of_header(value) } else { length_of_value(value) };
        if length > 0 {
            out.push_str(LEFT_OUT);
        }
        rest = &value[length..];
    }
    out.push_str(rest);
    out
}

/// Headers of HTTP whose values have blanks and semicolons in them.
fn is_header(name: &str) -> bool {
    ["cookie", "set-cookie", "authorization", "proxy-authorization"]
        .iter()
        .any(|header| name.eq_ignore_ascii_case(header))
}

/// How far such a value goes: where it isn't quoted itself, to the end of the line, or of what the header is quoted in.
fn length_of_header(value: &str) -> usize {
    if value.starts_with(['"', '\'', '\\']) {
        return length_of_value(value);
    }
    value.find(['"', '\'']).unwrap_or(value.len())
}

/// How far a value goes: to its closing quote, or to the next blank. A password may have any other character in it, so
/// only at its end are those that go on with a list taken for that.
fn length_of_value(value: &str) -> usize {
    let value_of = |quote: char, skipped: usize| {
        let inner = &value[skipped..];
        let mut escaped = false;
        let end = inner.char_indices().find(|(_, c)| {
            let is_end = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            is_end
        });
        skipped + end.map_or(inner.len(), |(at, quote)| at + quote.len_utf8())
    };
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value_of(quote, 1),
        _ if value.starts_with("\\\"") => value.len().min(value_of('"', 2)),
        _ => {
            let word = &value[..value.find(char::is_whitespace).unwrap_or(value.len())];
            word.trim_end_matches([',', ';', ')', '}', ']']).len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_of_secrets() {
        for (text, hidden) in [
            (
                "postgresql://app:hunter2@db:5432/app?sslmode=x",
                "postgresql://<left out>@db:5432/app?<left out>",
            ),
            ("https://u:p@ss/w@host/path", "https://<left out>@host/path"),
            ("https://registry.example/v2/@scope/x", "https://registry.example/v2/@scope/x"),
            ("GET https://x.example/a?token=hunter2 200", "GET https://x.example/a?<left out> 200"),
            ("PASSWORD=hunter2 USER=app", "PASSWORD=<left out> USER=app"),
            ("db_password = 'hunter2 with spaces', next", "db_password = <left out>, next"),
            (r#"{"token":"hunter2","user":"app"}"#, r#"{"token":<left out>,"user":"app"}"#),
            (r#"{"password": "hun\"ter2", "b": 1}"#, r#"{"password": <left out>, "b": 1}"#),
            ("Authorization: Bearer hunter2.hunter2", "Authorization: Bearer <left out>"),
            ("run --password hunter2 --verbose", "run --password <left out> --verbose"),
            ("run --password=hunter2 x", "run --password=<left out> x"),
            ("run --pass-through --verbose", "run --pass-through --verbose"),
            ("PASSWORD=hun,ter;2&x next", "PASSWORD=<left out> next"),
            ("(token: hunter2), next", "(token: <left out>), next"),
            ("<password>hunter2</password>", "<password><left out>"),
            ("signingKey=hunter2 apiKey: hunter3", "signingKey=<left out> apiKey: <left out>"),
            ("Cookie: a=hunter2; b=hunter3 x", "Cookie: <left out>"),
            ("curl -H 'Cookie: a=hunter2; b=hunter3' x", "curl -H 'Cookie: <left out>' x"),
            (
                "[Note] A temporary password is generated for root@localhost: hQ3,>lf4eTkX",
                "[Note] A temporary password is generated for root@localhost: <left out>",
            ),
            ("no temporary password: see the manual", "no temporary password: <left out> the manual"),
            ("pushed by ghp_0123456789abcdefABCDEF, done", "pushed by <left out>, done"),
            ("AKIA is no key, AKIAIOSFODNN7EXAMPLE is", "AKIA is no key, <left out> is"),
            ("a eyJhbGciOiJI.eyJzdWIi.SflKxw b", "a <left out> b"),
            ("eyJ is no token", "eyJ is no token"),
            ("the password is wrong", "the password is wrong"),
            ("sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e", "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e"),
            ("no secret: ", "no secret: "),
            (
                "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb\n",
                "a\n<left out>\n<left out>\n<left out>\nb\n",
            ),
        ] {
            assert_eq!(hide_looks(text), hidden);
        }
    }

    #[test]
    fn any_text_is_gone_through() {
        for text in [
            "password=",
            "password=\"",
            "password: '",
            "://@",
            "://",
            "a://b@",
            "ü--token ü",
            "token=\\\"x",
            "-----BEGIN PRIVATE KEY",
        ] {
            let hidden = hide_looks(text);
            assert!(hidden.len() + 2 >= text.len().min(3), "{text}: {hidden}");
        }
    }
}
