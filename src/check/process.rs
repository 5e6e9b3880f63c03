//! What runs inside, and as whom.

use std::collections::BTreeMap;

use super::{AppArmor, Credential, CredentialSource, EnvironmentFile, Mount, Rules, UserName, paths, plain};
use crate::report::{Finding, Place};
use crate::spec::keys::CONTAINER;
use crate::spec::{ContainerName, Data};

/// The number of ids in a container's range.
const IDS: u32 = 65_536;

/// The kernel's limit for a host name (`__NEW_UTS_LEN`).
pub(super) const HOSTNAME_MAX: usize = 64;

/// `description`: one line.
pub fn description<N>(rules: &mut Rules<'_, N>) -> Option<String> {
    let (text, place) = rules.text("description")?;
    if text.chars().any(char::is_control) {
        rules.error(
            place,
            "`description` must be one line",
            "take out newlines, tabs and other control characters",
        );
        return None;
    }
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// `entrypoint` or `command`: a program and its arguments.
pub fn arguments(rules: &mut Rules<'_>, key: &str) -> Option<Vec<String>> {
    let texts = rules.texts(key)?;
    for (index, (text, place)) in texts.iter().enumerate() {
        if text.contains('\0') {
            rules.error(place, format!("`{key}` has a NUL byte, which no argument can hold"), "take it out");
        } else if index == 0 && text.is_empty() {
            rules.error(place, format!("the program of `{key}` is empty"), "name a program first");
        }
    }
    Some(texts.into_iter().map(|(text, _)| text.to_owned()).collect())
}

/// A folder has no config to say what runs.
pub fn something_to_run(rules: &mut Rules<'_>, required: bool) {
    let required = required && rules.get("image").is_none();
    let Some(rootfs) = rules.get("rootfs").filter(|_| required) else { return };
    let given = |key: &str| match rules.get(key).map(|entry| &entry.value.data) {
        Some(Data::List(values)) => !values.is_empty(),
        Some(_) => true,
        None => false,
    };
    if !given("command") && !given("entrypoint") {
        rules.error(
            &rootfs.key,
            "`command` is required with `rootfs`: a folder doesn't say what to run",
            "for example: command = [\"/usr/sbin/nginx\", \"-g\", \"daemon off;\"]",
        );
    }
}

/// `[environment]`.
pub fn environment(rules: &mut Rules<'_>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let Some(entries) = rules.table("environment") else { return environment };
    for (name, entry) in entries {
        if name.is_empty() || name.contains('=') || name.chars().any(char::is_control) {
            rules.error(
                &entry.key,
                "this can't be the name of a variable",
                "a name isn't empty and has no `=` and no control characters",
            );
            continue;
        }
        let value = match &entry.value.data {
            Data::Flag(flag) => flag.to_string(),
            _ => match plain(&entry.value) {
                Some(text) => text,
                None => continue,
            },
        };
        if value.contains('\0') {
            // The value itself may be a secret: never in a message.
            rules.error(&entry.key, format!("the value of `{name}` has a NUL byte"), "take it out");
        }
        // TOML's tables reach to the next header, and programs' variables are in capitals.
        if CONTAINER.find(name).is_some_and(|key| !key.path.contains('.')) {
            rules.findings.push(
                Finding::warning(
                    entry.key.clone(),
                    format!("`{name}` is a variable here, and no key of the container"),
                )
                .hint("if the key is meant, write it above the first [table] of the file"),
            );
        }
        environment.insert(name.clone(), value);
    }
    environment
}

/// `environment-files`.
pub fn environment_files(rules: &mut Rules<'_>) -> Vec<EnvironmentFile> {
    let mut files = Vec::new();
    for (text, place) in rules.texts("environment-files").unwrap_or_default() {
        let (path, optional) = text.strip_prefix('-').map_or((text, false), |path| (path, true));
        match paths::host(path) {
            Ok(path) => files.push(EnvironmentFile { path, optional }),
            Err(error) => {
                rules.error(
                    place,
                    format!("\"{text}\" of `environment-files` {}", error.message),
                    error.hint,
                );
            }
        }
    }
    files
}

/// The longest name of a credential, as for a file's.
const CREDENTIAL_MAX: usize = 255;

/// Whether systemd takes it as a credential's name, and nothing of a unit's language is in it
/// (`credential_name_valid` of its src/shared/creds-util.c, narrowed).
fn is_credential(name: &str) -> bool {
    (1..=CREDENTIAL_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@+".contains(c))
}

/// `credentials` and `encrypted-credentials`. Which there are is known to the host alone, at the start.
pub fn credentials(rules: &mut Rules<'_>, mounts: &[Mount]) -> Vec<Credential> {
    // An instance's own files are in its template's language.
    let is_template = rules.name.is_template() || rules.name.instance().is_some();
    let is_mounted = mounts.iter().any(|mount| mount.target == CREDENTIALS);
    let mut credentials: Vec<Credential> = Vec::new();
    for (key, encrypted) in [("credentials", false), ("encrypted-credentials", true)] {
        for (text, place) in rules.texts(key).unwrap_or_default() {
            match credential(key, text, is_template) {
                Err((message, hint)) => rules.error(place, message, hint),
                Ok((name, _)) if credentials.iter().any(|other| other.name == name) => rules.error(
                    place,
                    format!("there are two credentials with the name {name}"),
                    "a program finds each by its name; take one of them out or call it differently",
                ),
                Ok((name, source)) => credentials.push(Credential { name, source, encrypted }),
            }
        }
        if let Some(entry) = rules.get(key).filter(|_| is_mounted) {
            rules.error(
                &entry.key,
                format!("credentials are mounted on {CREDENTIALS}, and so is something of [mounts]"),
                "mount that elsewhere",
            );
        }
    }
    credentials
}

/// The name and the source of `NAME`, `NAME:/PATH` or `NAME:OTHER-NAME`; or what is wrong, and a way out.
fn credential(
    key: &str,
    text: &str,
    is_template: bool,
) -> Result<(String, CredentialSource), (String, String)> {
    let (name, source) = text.split_once(':').unwrap_or((text, text));
    let source = if is_credential(source) || is_template && is_credential(&source.replace("%i", "i")) {
        CredentialSource::Store(source.to_owned())
    } else if name == source || !source.starts_with('/') {
        return Err((
            format!("\"{}\" of `{key}` is no credential", text.escape_debug()),
            "write NAME, NAME:/PATH or NAME:OTHER-NAME; names have letters, digits and `._-@+`".to_owned(),
        ));
    } else if source.contains(' ') {
        // systemd gives it to its own executor between spaces (`exec_context_serialize` of 257's
        // src/core/execute-serialize.c), and the start fails without a reason.
        return Err((
            format!("\"{text}\" of `{key}` has a space in its path, where systemd can't load it"),
            "write a path without spaces, of a symbolic link for example".to_owned(),
        ));
    } else {
        let path = paths::host(source)
            .map_err(|error| (format!("\"{text}\" of `{key}` {}", error.message), error.hint))?;
        CredentialSource::File(path)
    };
    if !is_credential(name) {
        return Err((
            format!("\"{}\" of `{key}` can't be a credential's name", name.escape_debug()),
            "write letters, digits and `._-@+`; with another name in the store: NAME:OTHER-NAME".to_owned(),
        ));
    }
    Ok((name.to_owned(), source))
}

/// Where the program finds its credentials.
pub const CREDENTIALS: &str = "/run/credentials";

/// The longest name of a profile that the kernel is asked for, as for a file's name.
const PROFILE_MAX: usize = 255;

/// `apparmor`. Which profiles there are is known to the host alone, at the start.
pub fn apparmor(rules: &mut Rules<'_>) -> AppArmor {
    match rules.text("apparmor") {
        None => AppArmor::Own,
        Some(("unconfined", _)) => AppArmor::Unconfined,
        // The kernel reads `&` as two profiles at a time, and a name to the next blank.
        Some((name, _))
            if !name.is_empty()
                && name.len() <= PROFILE_MAX
                && name.chars().all(|c| c.is_ascii_graphic() && c != '&') =>
        {
            AppArmor::Profile(name.to_owned())
        }
        Some((name, place)) => {
            rules.error(
                place,
                format!("\"{}\" of `apparmor` can't be the name of a profile", name.escape_debug()),
                "write a name that `aa-status` lists, or \"unconfined\" for no profile",
            );
            AppArmor::Own
        }
    }
}

/// `working-directory`.
pub fn working_directory(rules: &mut Rules<'_>) -> Option<String> {
    let (text, place) = rules.text("working-directory")?;
    match paths::inside(text) {
        Ok(path) => Some(path),
        Err(error) => {
            rules.error(place, format!("`working-directory` {}", error.message), error.hint);
            None
        }
    }
}

/// `user`, also as `user:group`, and `group`.
pub fn user_and_group(rules: &mut Rules<'_>) -> (Option<UserName>, Option<UserName>) {
    let group = rules.digits("group").and_then(|(text, place)| user_name(rules, "group", &text, place));
    let Some((text, place)) = rules.digits("user") else { return (None, group) };
    match text.split_once(':') {
        Some((user, after)) => {
            if let Some(entry) = rules.get("group") {
                rules.error(
                    &entry.key,
                    "`group` can't stand beside a `user` that names a group too",
                    format!("write user = \"{user}\", or leave `group` out"),
                );
            }
            (user_name(rules, "user", user, place), user_name(rules, "user", after, place))
        }
        None => (user_name(rules, "user", &text, place), group),
    }
}

fn user_name(rules: &mut Rules<'_>, key: &str, text: &str, place: &Place) -> Option<UserName> {
    // `%i` in a template.
    match read_checked(text, |c| c == '%') {
        Ok(user) => return Some(user),
        Err(UserNameError::OutOfRange(_)) => {
            rules.error(place, format!("`{key}` {text} is out of range"), "a container's ids are 0 to 65535");
        }
        Err(UserNameError::Neither(_)) => {
            let hint = "write a name, a number, or either with `:` and a group: \"www-data:www-data\"";
            rules.error(place, format!("`{key}` is no name and no number: \"{text}\""), hint);
        }
    }
    None
}

/// `hostname`, or one made of the container's name.
pub fn hostname(rules: &mut Rules<'_>) -> String {
    let Some((text, place)) = rules.text("hostname") else { return default_hostname(rules.name) };
    let template = rules.name.as_str().contains('@');
    let plain = if template { text.replace("%i", "i") } else { text.to_owned() };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if plain.len() > HOSTNAME_MAX || !plain.split('.').all(label) {
        rules.error(
            place,
            format!("`hostname` can't be \"{text}\""),
            "use at most 64 letters, digits and `-`, with `.` between labels",
        );
    }
    text.to_owned()
}

/// `web@blue` and `my_app` are no host names; `web-blue` and `my-app` are.
fn default_hostname(name: &ContainerName) -> String {
    let text =
        if name.as_str().contains('@') { format!("{}-%i", name.prefix()) } else { name.as_str().to_owned() };
    fit_hostname(&text.replace('_', "-"))
}

/// Cut to what the kernel takes.
pub(super) fn fit_hostname(text: &str) -> String {
    let cut = text.char_indices().nth(HOSTNAME_MAX).map_or(text, |(at, _)| &text[..at]);
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// Why a text names no user or group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// A number that no container has.
    #[error("`{0}` is out of range: a container's ids are 0 to 65535")]
    OutOfRange(String),
    /// Neither a name nor a number.
    #[error("`{0}` is no name and no number")]
    Neither(String),
}

impl UserName {
    /// Digits are a number, anything else is a name.
    pub fn read(text: &str) -> Self {
        match text.parse::<u32>() {
            Ok(id) if text.bytes().all(|b| b.is_ascii_digit()) => Self::Id(id),
            _ => Self::Name(text.to_owned()),
        }
    }

    /// The same, with the rules for what a user or a group can be called.
    ///
    /// # Errors
    /// [`UserNameError`].
    pub fn checked(text: &str) -> Result<Self, UserNameError> {
        read_checked(text, |_| false)
    }
}

fn read_checked(text: &str, also: impl Fn(char) -> bool) -> Result<UserName, UserNameError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') || also(c);
    match UserName::read(text) {
        UserName::Id(id) if id < IDS => Ok(UserName::Id(id)),
        UserName::Id(_) => Err(UserNameError::OutOfRange(text.to_owned())),
        UserName::Name(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) => {
            Err(UserNameError::OutOfRange(name))
        }
        UserName::Name(name) if !name.is_empty() && !name.starts_with('-') && name.chars().all(good) => {
            Ok(UserName::Name(name))
        }
        UserName::Name(name) => Err(UserNameError::Neither(name)),
    }
}
