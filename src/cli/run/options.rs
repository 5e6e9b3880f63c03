//! The options of `wharf run`: one for each key of a container file that means something for a container that nobody
//! declares, and the few short forms that everybody's fingers know.

use std::path::{Component, Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::document::{Setting, Toml, text, value};
use crate::report::Source;
use crate::spec::keys::{KEYS, Key, Kind};
use crate::spec::{Data, Document};

/// Keys whose meaning hangs on a file: what starts a container that is there but doesn't run, and what is restarted when
/// something has changed.
pub(super) const OF_FILES: [&str; 6] =
    ["autostart", "restart-on-change", "snapshot", "socket", "timer", "update"];

/// Other names of options: by key, a letter, and words.
const NAMES: &[(&str, Option<char>, &[&str])] = &[
    ("environment", Some('e'), &["env"]),
    ("environment-files", None, &["env-file"]),
    ("health.command", None, &["health-cmd"]),
    ("limits.cpu-weight", None, &["cpu-weight"]),
    ("limits.cpus", None, &["cpuset-cpus"]),
    ("limits.memory", Some('m'), &["memory"]),
    ("limits.tasks", None, &["pids-limit"]),
    ("links", None, &["link"]),
    ("mounts", None, &["mount"]),
    ("publish", Some('p'), &[]),
    ("stop.signal", None, &["stop-signal"]),
    ("stop.timeout", None, &["stop-timeout"]),
    ("user", Some('u'), &[]),
    ("working-directory", Some('w'), &["workdir"]),
];

/// The values of the key `root`, as options.
const ROOTS: [(&str, &str); 2] = [
    ("ephemeral", "Writes to the root go to memory, and are gone with the container (root = \"ephemeral\")"),
    ("read-only", "Writes to the root fail, as they do where nothing is said (root = \"read-only\")"),
];

const VOLUME: &str = "volume";
const TMPFS: &str = "tmpfs";

/// What is set, in the order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings(pub(super) Vec<Setting>);

/// Whether a key is an option.
fn is_option(key: &Key) -> bool {
    let table = key.path.split('.').next().unwrap_or_default();
    !key.path.contains('*')
        && key.kind != Kind::Table
        // `--root` is where the host's files are, for every command: see [`ROOTS`].
        && !matches!(key.path, "command" | "image" | "root")
        && !OF_FILES.contains(&table)
}

/// How its value is called in `--help`.
fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::TextOrTrue | Kind::Texts | Kind::TextOrTexts => "TEXT",
        Kind::Flag => "true|false",
        Kind::Command | Kind::CommandOrShell | Kind::Choice(_) => "WORD",
        Kind::TextOrNumber => "VALUE",
        Kind::Duration => "TIME",
        Kind::Number => "N",
        Kind::Map => "NAME[=VALUE]",
        Kind::Settings => "KEY=VALUE",
        Kind::Table | Kind::Tables => "TARGET=TABLE",
    }
}

/// What is said first, without its full stop.
fn first_sentence(doc: &str) -> &str {
    doc.split(". ").next().unwrap_or(doc).trim_end_matches('.')
}

fn argument(key: &'static Key) -> Arg {
    let (_, short, others) = NAMES.iter().find(|(path, ..)| *path == key.path).unwrap_or(&("", None, &[]));
    // `wharf keys` has the rest.
    let help = first_sentence(key.doc).replace('`', "");
    let help = match key.kind {
        Kind::Choice(words) => format!("{help} [{}]", words.join(", ")),
        _ => help,
    };
    let mut argument = Arg::new(key.path)
        .long(key.path)
        .visible_aliases(others.iter().copied())
        .value_name(value_name(key.kind))
        .help(help)
        .help_heading("Keys of the container file")
        .action(ArgAction::Append);
    if let Some(short) = short {
        argument = argument.short(*short);
    }
    if key.kind == Kind::Flag {
        argument = argument.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    // A path with a `-` before it may be missing.
    if key.path == "environment-files" {
        argument = argument.allow_hyphen_values(true);
    }
    argument
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let short = |name: &'static str, value: &'static str, help: &'static str| {
            Arg::new(name).long(name).value_name(value).help(help).action(ArgAction::Append)
        };
        let root = |(name, help): (&'static str, &'static str)| {
            let [(ephemeral, _), (read_only, _)] = ROOTS;
            let other = if name == ephemeral { read_only } else { ephemeral };
            Arg::new(name).long(name).help(help).action(ArgAction::SetTrue).overrides_with(other)
        };
        command
            .args(ROOTS.map(root))
            .arg(
                short(VOLUME, "SOURCE:TARGET[:ro]", "A folder of the host, or a named volume that is kept")
                    .short('v'),
            )
            .arg(short(TMPFS, "TARGET[:SIZE]", "Memory, gone with the container"))
            .args(KEYS.iter().filter(|key| is_option(key)).map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let wrong = |text: String| clap::Error::raw(clap::error::ErrorKind::ValueValidation, text + "\n");
        let given = |name: &str| {
            let values = matches.get_many::<String>(name);
            values.into_iter().flatten().cloned().collect::<Vec<String>>()
        };
        let mut settings = Vec::new();
        for (name, _) in ROOTS.iter().filter(|(name, _)| matches.get_flag(name)) {
            settings.push(Setting {
                option: format!("--{name}"),
                path: vec!["root".to_owned()],
                value: Toml::One(text(name)),
            });
        }
        for key in KEYS.iter().filter(|key| is_option(key)) {
            for text in given(key.path) {
                settings.push(setting(key, &text).map_err(wrong)?);
            }
        }
        for (name, read) in [(VOLUME, volume as fn(&str) -> Result<(String, String), String>), (TMPFS, tmpfs)]
        {
            for given in given(name) {
                let option = format!("--{name} {given}");
                let (target, table) = read(&given).map_err(|why| wrong(format!("{option}: {why}")))?;
                settings.push(Setting {
                    option,
                    path: vec!["mounts".to_owned(), target],
                    value: Toml::One(table),
                });
            }
        }
        Ok(Self(settings))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn setting(key: &Key, given: &str) -> Result<Setting, String> {
    let separator = if key.kind == Kind::Flag { '=' } else { ' ' };
    let option = format!("--{}{separator}{given}", key.path);
    let mut path: Vec<String> = key.path.split('.').map(str::to_owned).collect();
    let text = match key.kind {
        Kind::Map | Kind::Settings | Kind::Tables => {
            let (name, text) = match (given.split_once('='), key.kind) {
                (Some((name, text)), _) => (name, text.to_owned()),
                // As env(1) has it for whoever runs a program.
                (None, Kind::Map) => match std::env::var(given) {
                    Ok(text) => (given, text),
                    Err(_) => {
                        return Err(format!(
                            "{option}: there is no such variable here to pass on; give it a value"
                        ));
                    }
                },
                (None, kind) => return Err(format!("{option}: write {}", value_name(kind))),
            };
            if key.kind == Kind::Tables && !is_table(&text) {
                return Err(format!(
                    "{option}: write a table as TOML has it in one line, like {{ bind = \"/srv\" }}"
                ));
            }
            path.push(name.to_owned());
            text
        }
        _ => given.to_owned(),
    };
    Ok(Setting { option, path, value: value(key.kind, &text) })
}

/// Whether a text is one table, and nothing beside it.
fn is_table(text: &str) -> bool {
    let (document, findings) = Document::parse(&Source::new("", format!("value = {text}")));
    let value = document.entries.get("value").map(|entry| &entry.value.data);
    findings.is_empty() && document.entries.len() == 1 && matches!(value, Some(Data::Table(_)))
}

/// `SOURCE:TARGET[:ro]` as a mount.
fn volume(given: &str) -> Result<(String, String), String> {
    let parts: Vec<&str> = given.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (source, target, ""),
        [source, target, "ro"] => (source, target, ", read-only = true"),
        [_, _, options] => {
            return Err(format!("`{options}` isn't known here: `ro` is; --mounts has everything"));
        }
        _ => return Err("write SOURCE:TARGET, a path of the host or a volume's name first".to_owned()),
    };
    let source = if source.starts_with(['/', '.']) {
        format!("bind = {}", text(&absolute(Path::new(source))?))
    } else {
        format!("volume = {}", text(source))
    };
    Ok(((*target).to_owned(), format!("{{ {source}{read_only} }}")))
}

/// From the root on, without `.` and `..`, where these are names and no links.
fn absolute(path: &Path) -> Result<String, String> {
    let path = std::path::absolute(path).map_err(|error| format!("where am I? {error}"))?;
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole.into_os_string().into_string().map_err(|_| "the path is not UTF-8".to_owned())
}

/// `TARGET[:SIZE]` as a mount.
fn tmpfs(given: &str) -> Result<(String, String), String> {
    let (target, size) = match given.split_once(':') {
        None => (given, "true".to_owned()),
        Some((target, size)) => (target, text(size.strip_prefix("size=").unwrap_or(size))),
    };
    Ok((target.to_owned(), format!("{{ tmpfs = {size} }}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run::document;

    fn parse(words: &[&str]) -> Result<String, String> {
        let command = Settings::augment_args(Command::new("run").no_binary_name(true));
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        let settings = Settings::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let text = document::write("x", &settings.0).text;
        Ok(text.lines().skip(1).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn options_become_keys() {
        for (words, toml) in [
            (&["--publish", "8080:80", "-p", "443:443"][..], "publish = [\"8080:80\", \"443:443\"]"),
            (
                &["--volume", "data:/var/lib/x:ro"],
                "[mounts]\n\"/var/lib/x\" = { volume = \"data\", read-only = true }",
            ),
            (&["-v", "/srv/./a/../b:/b"], "[mounts]\n\"/b\" = { bind = \"/srv/b\" }"),
            (
                &["--tmpfs", "/run", "--tmpfs", "/c:64M"],
                "[mounts]\n\"/run\" = { tmpfs = true }\n\"/c\" = { tmpfs = \"64M\" }",
            ),
            (
                &["--mounts", "/x={ bind = \"/y\", idmap = false }"],
                "[mounts]\n\"/x\" = { bind = \"/y\", idmap = false }",
            ),
            (&["-e", "A=b=c", "--env", "B="], "[environment]\nA = \"b=c\"\nB = \"\""),
            (&["-m", "512M", "--limits.tasks", "20"], "[limits]\nmemory = \"512M\"\ntasks = 20"),
            (&["--init"], "init = true"),
            (&["--user-namespace=false"], "user-namespace = false"),
            (&["--restart", "on-failure", "--ephemeral"], "restart = \"on-failure\"\nroot = \"ephemeral\""),
            (&["--health.command", "pg_isready"], "[health]\ncommand = \"pg_isready\""),
            (&["--health.command", "a", "--health.command", "b"], "[health]\ncommand = [\"a\", \"b\"]"),
            (&["--stop.timeout", "5", "--stop-signal", "INT"], "[stop]\nsignal = \"INT\"\ntimeout = 5"),
            (&["--systemd.Service", "Nice=3"], "[systemd.Service]\nNice = \"3\""),
            (&["--env-file", "-/etc/x"], "environment-files = [\"-/etc/x\"]"),
        ] {
            assert_eq!(parse(words).as_deref(), Ok(toml), "{words:?}");
        }
    }

    #[test]
    fn what_is_no_option() {
        for (words, says) in [
            (&["--autostart"][..], "unexpected"),
            (&["--timer.every", "1h"], "unexpected"),
            (&["--socket.listen", "80"], "unexpected"),
            (&["--limits.memroy", "1"], "--limits.memory"),
            (&["-v", "/data"], "SOURCE:TARGET"),
            (&["-v", "a:/b:z"], "`z`"),
            (&["-e", "NO_SUCH_VARIABLE_HERE"], "no such variable"),
            (&["--systemd.Service", "Nice"], "KEY=VALUE"),
            (&["--mounts", "/x={"], "a table"),
            (&["--mounts", "/x={}\ninit = true"], "a table"),
        ] {
            let error = parse(words).expect_err("refused");
            assert!(error.contains(says), "{words:?}: {error}");
        }
    }

    /// None is cut off within a word that is quoted, a bracket or a list.
    #[test]
    fn help_is_whole_sentences() {
        for key in KEYS.iter().filter(|key| is_option(key)) {
            let said = first_sentence(key.doc);
            let whole = said.matches('`').count().is_multiple_of(2)
                && said.matches('(').count() == said.matches(')').count()
                && said.contains(' ')
                && !said.ends_with([':', ';', ',']);
            assert!(whole, "{}: {said}", key.path);
        }
    }

    #[test]
    fn every_key_of_a_service_is_an_option() {
        let names = NAMES.iter().map(|(path, ..)| *path);
        for path in names {
            assert!(KEYS.iter().any(|key| key.path == path && is_option(key)), "{path}");
        }
        let options = KEYS.iter().filter(|key| is_option(key)).count();
        assert!(options > 40, "only {options}");
    }
}
