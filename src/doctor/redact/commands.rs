//! Commands: of their words the program and the names of options are harmless.

use super::looks::is_secret_name;
use super::{LEFT_OUT, Secrets};

/// A command's program and the names of its options; what they are given, and all other words, are left out.
pub fn command(words: &[&str]) -> Vec<String> {
    let word = |(at, word): (usize, &&str)| match word.split_once('=') {
        _ if at == 0 && is_program(word) => (*word).to_owned(),
        Some((name, _)) if name.starts_with("--") && is_option(name) => format!("{name}={LEFT_OUT}"),
        None if word.starts_with("--") && is_option(word) => (*word).to_owned(),
        _ if word.starts_with('-') && word.len() == 2 && is_option(word) => (*word).to_owned(),
        _ => LEFT_OUT.to_owned(),
    };
    words.iter().enumerate().map(word).collect()
}

/// A path or a plain name. `command` may also be the first argument of the image's entrypoint, which can be anything.
fn is_program(word: &str) -> bool {
    let word = word.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let is_in = |more: &'static [char]| move |c: char| c.is_ascii_alphabetic() || more.contains(&c);
    match word.strip_prefix('/') {
        Some(path) => path.chars().all(|c| c.is_ascii_digit() || is_in(&['/', '-', '_', '.', '+'])(c)),
        None => !word.is_empty() && word.chars().all(is_in(&['-', '_', '.'])),
    }
}

fn is_option(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphabetic() || c == '-')
}

/// Learns what of a command looks like no plain word: what options of secrets are given, logins, what has digits in it.
pub fn learn_command(words: &[&str], secrets: &mut Secrets) {
    let (mut secret_follows, mut login_follows) = (false, false);
    let program = usize::from(words.first().is_some_and(|word| is_program(word)));
    for word in words.iter().skip(program) {
        let (name, value) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
        if secret_follows && !word.starts_with('-') || looks_random(word) || word.contains('@') {
            secrets.learn(word);
        }
        // USER:PASSWORD, as curl has it.
        let parts = word.split(':').skip(1).filter(|part| login_follows || looks_random(part));
        parts.for_each(|part| secrets.learn(part));
        login_follows = ["-u", "--user", "--proxy-user"].contains(word);
        match value {
            Some(value) if is_secret_name(name) => secrets.learn(value),
            _ => {}
        }
        // -psecret, as MySQL's programs have it.
        if let Some(attached) =
            word.strip_prefix("-p").filter(|rest| rest.len() >= 4 && !rest.starts_with('-'))
        {
            secrets.learn(attached);
        }
        secret_follows = value.is_none() && word.starts_with('-') && is_secret_name(name);
    }
}

/// Letters with digits among them, and no option or path.
fn looks_random(word: &str) -> bool {
    word.len() >= 6
        && word.contains(|c: char| c.is_ascii_digit())
        && word.contains(char::is_alphabetic)
        && !word.starts_with(['-', '/'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_commands() {
        let mut secrets = Secrets::default();
        learn_command(
            &["TOKEN=hunterone", "curl", "-u", "me:huntertwo", "plain", "--user", "me"],
            &mut secrets,
        );
        assert_eq!(
            secrets.hide_known("hunterone huntertwo plain curl me"),
            "<left out> <left out> plain curl me"
        );
    }
}
