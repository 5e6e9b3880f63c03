//! `wharf run`: a container that no file declares, for as long as it runs.
//!
//! What is asked for becomes the text of a container file ([`document`]), is checked and planned by the code that every
//! file goes through, and the planned unit's settings are given to systemd as the properties of a transient one
//! ([`crate::plan::transient`]). The executor finds the plan in [`crate::transient`].

mod document;
mod options;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use document::{Setting, Toml, Written, text, write};
use options::{OF_FILES, Settings};

use super::declared::Declared;
use super::exec::here_as_root;
use super::image::provide::{Problem, provide};
use super::output::{Exit, Failure, chain, coloured, complain, print};
use crate::bus::{BusError, Ended, Systemd};
use crate::check::{Checked, Container, DeclaredImage, Kind, Pull, RootSource};
use crate::exec::{
    self, Foreground, MISSING, NOT_ENTERED, NOT_RUN, Outcome, Status, Waiting, status_of_signal,
};
use crate::generate::{self, Everything};
use crate::host::{HostFacts, Paths};
use crate::image::{ImageError, Store};
use crate::plan::transient::{Property, TransientError, properties};
use crate::plan::{self, Beside, Files};
use crate::report::{self, Level, Source, Style};
use crate::root::{self, RootError};
use crate::spec::keys::CONTAINER;
use crate::spec::{ContainerName, Reference, nearest};
use crate::transient;

const AFTER_HELP: &str = "\
Examples:
  wharf run debian:13 cat /etc/os-release
  wharf run --ephemeral debian:13
  echo hello | wharf run debian:13 tr a-z A-Z
  wharf run -d --init -p 8000:80 -v ./site:/www:ro \\
      docker.io/library/busybox:1.37 busybox httpd -f -h /www
  wharf run --rootfs /srv/machines/sid -- bash
  wharf run --toml --name db -v db:/data -e A=B postgresql:17 >/etc/wharf/containers/db.toml

It is a service like those of container files: systemctl stop, journalctl -u and `wharf exec` know it, and what holds \
for a file without a key holds here: the root is read-only, and root inside is nobody outside. Only \
restart is \"no\" where nothing else is said. When it has ended, nothing of it is left but named volumes and \
what the journal has. `wharf keys` explains every key.

An image that isn't in the store is fetched first, where its name has a registry or an alias in wharf.toml, or a file \
of /etc/wharf/images tells where from.

In the foreground, where standard input and output are terminals the program gets a terminal of its own; else it has \
the caller's standard streams themselves, but for a terminal as standard input: it reads nothing then. Signals are \
passed on; one that asks for the end and that the program doesn't handle kills it, as it would outside of a container. \
When this command is killed, systemd stops the container. In the background, output goes to the journal, and this \
command waits until the container is ready and prints its name; one whose first start fails, or whose command is asked \
to end before that, is stopped, whatever its restart says.

Exit status:
  the program's own; 128 and the signal's number where a signal ended it
  0    in the background: it runs
  125  it could not be tried: a mistake in the options, no such image, systemd refuses
  126  the program is there and can't be run
  127  the program isn't there";

/// Run a container that no file declares, until it ends
///
/// Every option but the first few is a key of the container file, and takes what the key takes. A key that takes a list
/// or a table has its option once for each element: -p 80:80 -p 443:443, -e A=1 -e B=2. Of others the last counts. One
/// --health.command is a text for the image's /bin/sh, several are the words of a program. A path in -v that begins with
/// a dot is one of the current folder.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct RunArgs {
    /// Its name; one is made up where none is given
    #[arg(long)]
    name: Option<ContainerName>,
    /// In the background
    #[arg(short, long)]
    detach: bool,
    /// With a terminal, whatever the standard streams are
    #[arg(short, long, visible_alias = "tty", overrides_with = "no_terminal")]
    terminal: bool,
    /// Without a terminal
    #[arg(short = 'T', long, visible_alias = "no-tty", overrides_with = "terminal")]
    no_terminal: bool,
    /// When to fetch the image, instead of what its file says
    #[arg(long, value_name = "WHEN")]
    pull: Option<When>,
    /// Only print the container file that would do the same
    #[arg(long)]
    toml: bool,
    /// Standard input is always there; for those who type -it
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Nothing is ever left; for those who type it
    #[arg(long, hide = true)]
    rm: bool,
    #[command(flatten)]
    settings: Settings,
    /// The image, unless there is --rootfs, and the program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "IMAGE|COMMAND")]
    words: Vec<OsString>,
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    /// Where the store doesn't have it
    Missing,
    /// Each time
    Always,
    /// Never
    Never,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("no image is given; write one before the command, or --rootfs with a folder of the host")]
    NoImage,
    #[error("`{option}` is no option of `wharf run`{why}")]
    Option { option: String, why: String },
    #[error("`{}` is not UTF-8, which the words of a command must be", .0.to_string_lossy())]
    NotText(OsString),
    #[error("--name {name}: {why}")]
    Name { name: ContainerName, why: String },
    #[error("--name {name}: {} declares a container of this name; start that: systemctl start {unit}", .file.display())]
    Declared { name: ContainerName, file: std::path::PathBuf, unit: String },
    #[error("--name {name}: systemd has a unit {unit} already; end that one, or choose another name")]
    Taken { name: ContainerName, unit: String },
    #[error("--restart {0} is for what runs in the background; add --detach")]
    Restart(String),
    #[error("the options have mistakes, which are told above")]
    Mistakes,
    #[error("this can't run without a file; `wharf run --toml` prints one for it")]
    Property(#[source] TransientError),
    #[error("can't fetch {image}")]
    Fetch {
        image: String,
        #[source]
        source: Problem,
    },
    #[error("{0}")]
    NoRoot(String),
    #[error("can't write to {}", .path.display())]
    Keep {
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{name} did not start: {why}")]
    NotStarted { name: ContainerName, why: String },
    #[error("{0}")]
    Executor(exec::Failure),
    #[error("a thread of this command has died; what it waited for may run on: systemctl status {0}")]
    Thread(String),
}

/// Runs the command.
pub fn run(args: RunArgs, paths: &Paths) -> Result<Exit, Failure> {
    let RunArgs {
        name,
        detach,
        terminal,
        no_terminal,
        pull,
        toml,
        interactive: _,
        rm: _,
        settings: Settings(mut settings),
        words,
    } = args;
    let not_entered = |failure: Failure| failure.ending(Exit::NotEntered);
    let own = |error: RunError| not_entered(error.into());
    words_of(&words, &mut settings).map_err(own)?;
    let declared = Declared::list(paths).map_err(|error| not_entered(error.into()))?;
    let name = match name {
        Some(name) => named(name).map_err(own)?,
        None => made_up(&settings, |name| is_free(paths, &declared, name)),
    };
    defaults(&mut settings, detach, toml).map_err(own)?;
    let written = write(name.as_str(), &settings);
    let planned = Planned::new(paths, &declared, name, written, toml).map_err(not_entered)?;
    if toml {
        print(&planned.files.main.text)?;
        return Ok(Exit::Done);
    }
    here_as_root(paths).map_err(not_entered)?;
    let terminal = (terminal || no_terminal).then_some(terminal);
    start(paths, &declared, &planned, detach, terminal, pull).map_err(not_entered)
}

/// Image and command, as they stand behind the options.
fn words_of(words: &[OsString], settings: &mut Vec<Setting>) -> Result<(), RunError> {
    let words: Vec<&str> = words
        .iter()
        .map(|word| word.to_str().ok_or_else(|| RunError::NotText(word.clone())))
        .collect::<Result<_, _>>()?;
    let has_folder = settings.iter().any(|setting| setting.path == ["rootfs"]);
    let mut command = words.as_slice();
    if !has_folder {
        let (image, rest) = words.split_first().ok_or(RunError::NoImage)?;
        // No reference begins so; and what comes after it isn't the image either.
        if image.starts_with('-') {
            return Err(no_option(image));
        }
        settings.push(Setting {
            option: format!("the image {image}"),
            path: vec!["image".to_owned()],
            value: Toml::One(text(image)),
        });
        command = rest;
    }
    settings.extend(command.iter().map(|word| Setting {
        option: "the command".to_owned(),
        path: vec!["command".to_owned()],
        value: Toml::Element(text(word)),
    }));
    Ok(())
}

/// What isn't known, with what was meant or the reason that there is none.
fn no_option(word: &str) -> RunError {
    let option = word.split('=').next().unwrap_or(word).to_owned();
    let name = option.trim_start_matches('-').to_lowercase();
    let known = RunArgs::augment_args(clap::Command::new("run"));
    let names: Vec<&str> = known
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .flat_map(|argument| argument.get_long_and_visible_aliases().unwrap_or_default())
        .collect();
    let same = |word: &&str| *word == name || word.replace('-', "") == name.replace(['-', '_'], "");
    let of_files = OF_FILES.iter().find(|table| name.split('.').next() == Some(**table));
    let below =
        names.iter().find(|option| option.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')));
    let near = below.copied().or_else(|| nearest(&name, names.iter().copied()));
    let because = CONTAINER.nothing.iter().find(|(word, _)| same(word)).map(|(_, why)| *why);
    let habit = CONTAINER.habits.iter().find(|(word, _)| same(word)).map(|(_, key)| *key);
    let why = match (because, habit.filter(|key| names.contains(key)), of_files, near) {
        (Some(why), ..) => format!(": {why}"),
        (None, Some(key), ..) => format!("; did you mean `--{key}`?"),
        (None, None, Some(key), _) => {
            format!("; `{key}` is for what a file declares: `wharf run --toml` prints one")
        }
        (None, None, None, Some(near)) => format!("; did you mean `--{near}`?"),
        (None, None, None, None) => "; `wharf run --help` lists them".to_owned(),
    };
    RunError::Option { option, why }
}

/// What is different from a file that says nothing: such a container is for once.
fn defaults(settings: &mut Vec<Setting>, detach: bool, toml: bool) -> Result<(), RunError> {
    let plain = |key: &str, value: &str| Setting {
        option: format!("`{key} = {value}`"),
        path: vec![key.to_owned()],
        value: Toml::One(value.to_owned()),
    };
    settings.push(plain("autostart", "false"));
    match settings.iter().rev().find(|setting| setting.path == ["restart"]) {
        None => settings.push(plain("restart", "\"no\"")),
        Some(Setting { value: Toml::One(value), .. }) if !detach && !toml && value != "\"no\"" => {
            return Err(RunError::Restart(value.trim_matches('"').to_owned()));
        }
        Some(_) => {}
    }
    Ok(())
}

fn named(name: ContainerName) -> Result<ContainerName, RunError> {
    if name.as_str().contains('@') {
        let why = "instances are of templates, which are files; leave the `@` out".to_owned();
        return Err(RunError::Name { name, why });
    }
    generate::container_name(name.as_str()).map_err(|why| RunError::Name { name, why })
}

/// A name that nobody has: what the root is called, and some letters by chance. It makes a good host name.
fn made_up(settings: &[Setting], is_free: impl Fn(&ContainerName) -> bool) -> ContainerName {
    let of = |key: &str| settings.iter().find(|setting| setting.path == [key]);
    let root = match of("rootfs").or_else(|| of("image")).map(|setting| &setting.value) {
        Some(Toml::One(text)) => text.trim_matches('"').to_owned(),
        _ => String::new(),
    };
    let stem = stem(&root);
    let name = |number: u32| {
        let letters = (0..5).map(|place| LETTERS[(number >> (5 * place)) as usize % LETTERS.len()]);
        let letters: String = letters.map(char::from).collect();
        format!("{stem}-{letters}").parse::<ContainerName>().ok().filter(&is_free)
    };
    let mut random = [0_u8; 4];
    // Where there is no randomness, it is the first that is free.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let mut number = u32::from_ne_bytes(random);
    loop {
        match name(number) {
            Some(name) => return name,
            None => number = number.wrapping_add(1),
        }
    }
}

/// No vowels, which would make words, and nothing that looks like something else.
const LETTERS: &[u8; 32] = b"bcdfghjkmnpqrstvwxz2345678946789";

/// The last part of a reference or path, as far as it can stand in a host name.
fn stem(root: &str) -> String {
    let last = root.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let last = last.split(['@', ':']).next().unwrap_or_default().to_ascii_lowercase();
    let kept: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(24).collect();
    let kept = kept.trim_matches('-');
    if kept.is_empty() { "run".to_owned() } else { kept.to_owned() }
}

fn is_free(paths: &Paths, declared: &Declared<'_>, name: &ContainerName) -> bool {
    !declared.listing().containers.contains_key(name) && !transient::folder(paths, name).exists()
}

/// A container as it would be started.
struct Planned {
    files: Files,
    container: Container,
    /// The plan's text.
    json: String,
    /// The unit's.
    unit: String,
    everything: Everything,
}

impl Planned {
    /// Checks and plans, with all that is declared in view. Findings are told by options, on standard error.
    fn new(
        paths: &Paths,
        declared: &Declared<'_>,
        name: ContainerName,
        written: Written,
        of_a_file: bool,
    ) -> Result<Self, Failure> {
        let path = match of_a_file {
            true => Path::new("/etc/wharf/containers").join(format!("{name}.toml")),
            false => paths.shown(&transient::file(paths, &name)),
        };
        let main = Source::new(path, written.text.clone());
        let drop_ins = declared.listing().for_all.values().filter(|source| !source.text.is_empty());
        let files = Files {
            name,
            main: Arc::clone(&main),
            drop_ins: drop_ins.cloned().collect(),
            findings: Vec::new(),
        };
        let mut everything = generate::check_everything(paths, declared.listing());
        let checked = checked(&files, &mut everything);
        for finding in checked.findings.iter().filter(|finding| finding.level != Level::Note) {
            let style = if coloured(&io::stderr()) { Style::Coloured } else { Style::Plain };
            let told = written.told(&main, finding);
            complain(&told.unwrap_or_else(|| report::render(std::slice::from_ref(finding), style)));
        }
        let output =
            plan::output(&files, &checked, || None, HostFacts::read(paths), &everything.settings.settings);
        match (output.beside, checked.container) {
            (Beside::Plan(json), Some(container)) => {
                Ok(Self { files, container, json, unit: output.unit, everything })
            }
            _ => Err(RunError::Mistakes.into()),
        }
    }
}

fn checked(files: &Files, everything: &mut Everything) -> Checked {
    let mut all = everything.containers.clone();
    // One that has this name is told of in other words.
    all.retain(|(other, _)| other.name != files.name);
    all.push((files.clone(), plan::check(files)));
    plan::compare(&mut all, &everything.supplies);
    all.pop().map_or_else(|| plan::check(files), |(_, checked)| checked)
}

/// From here on something is done.
fn start(
    paths: &Paths,
    declared: &Declared<'_>,
    planned: &Planned,
    detach: bool,
    terminal: Option<bool>,
    pull: Option<When>,
) -> Result<Exit, Failure> {
    let name = &planned.container.name;
    let unit = name.unit();
    if let Some(found) = declared.listing().containers.get(name) {
        let file = paths.shown(&found.main);
        return Err(RunError::Declared { name: name.clone(), file, unit }.into());
    }
    let mut settings = properties(&planned.unit).map_err(RunError::Property)?;
    // Both before there are threads.
    let ground = Foreground::new(detach, terminal).map_err(RunError::Executor)?;
    let shadow = if detach { None } else { Some(exec::shadow().map_err(RunError::Executor)?) };
    if let Some(signal) = supply(paths, planned, pull, &ground)? {
        return Ok(Exit::Program(status_of_signal(signal)));
    }
    let systemd = Systemd::connect()?;
    let lock = transient::lock(paths).map_err(|source| RunError::Keep { path: paths.transient(), source })?;
    if !is_free_by(&systemd, &unit, Instant::now() + LINGERS)? {
        return Err(RunError::Taken { name: name.clone(), unit }.into());
    }
    for other in transient::names(paths) {
        // Before systemd 254 one that was stopped while it waited for its restart leaves its folder.
        if systemd.taken(&other.unit())?.is_none() {
            let _ = transient::forget(paths, &other);
        }
    }
    let folder = transient::folder(paths, name);
    transient::keep(paths, &planned.container, &planned.files.main.text, &planned.json)
        .map_err(|source| RunError::Keep { path: folder.clone(), source })?;
    let begun = (|| -> Result<_, Failure> {
        let waiting = Waiting::listen(&folder).map_err(RunError::Executor)?;
        settings.extend(own_properties(name));
        if let Some(shadow) = shadow {
            let shadow = shadow.as_raw_nonzero().get().unsigned_abs();
            // That of the last run of this name goes a little later than its unit.
            let scope = format!("{}-{shadow}-run.scope", unit.strip_suffix(".service").unwrap_or(&unit));
            systemd.start_scope(&scope, &format!("wharf run, which waits for {name}"), &[shadow])?;
            for key in ["BindsTo", "After"] {
                settings.push((key.to_owned(), Property::Texts(vec![scope.clone()])));
            }
        }
        Ok((waiting, systemd.start_transient(&unit, &settings)?))
    })();
    let (waiting, job) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            let _ = transient::forget(paths, name);
            return Err(failure);
        }
    };
    drop(lock);
    let (over, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (sender, told) = mpsc::channel();
    let watcher = systemd.clone();
    let watched = unit.clone();
    thread::spawn(move || {
        let started = job.wait();
        let ended = if detach { None } else { Some(watcher.ended(&watched)) };
        let _ = sender.send(Told { started, ended });
        drop(end);
    });
    let outcome = ground.see_through(waiting, over.as_fd()).map_err(RunError::Executor)?;
    let answer = || told.recv().map_err(|_| RunError::Thread(unit.clone()));
    match outcome {
        // Whoever is asked to end takes what it began with it.
        Outcome::Asked(signal) => {
            take_back(&systemd, paths, &ground, name)?;
            Ok(Exit::Program(status_of_signal(signal)))
        }
        Outcome::Failed(failure) => {
            let _ = ground.until(over.as_fd());
            if detach {
                take_back(&systemd, paths, &ground, name)?;
            }
            let code = match (failure.status, failure.missing) {
                (Status::Exec, true) => MISSING,
                (Status::Exec, false) => NOT_RUN,
                _ => NOT_ENTERED,
            };
            let problem: Failure = RunError::Executor(failure).into();
            // It has an exit status of its own.
            problem.report();
            Ok(Exit::Program(code))
        }
        Outcome::Runs if planned.container.kind == Kind::Job => {
            print(&format!("{name}\n")).map(|()| Exit::Done)
        }
        Outcome::Runs | Outcome::Over if detach => {
            let asked = ground.until(over.as_fd()).map_err(RunError::Executor)?;
            let started = match asked {
                None => done(name, &answer()?),
                Some(_) => Ok(()),
            };
            match (asked, started) {
                (None, Ok(())) => print(&format!("{name}\n")).map(|()| Exit::Done),
                // systemd would go on to start it, by its `restart`, and nobody was told of it.
                (asked, started) => {
                    take_back(&systemd, paths, &ground, name)?;
                    started?;
                    Ok(asked.map_or(Exit::NotEntered, |signal| Exit::Program(status_of_signal(signal))))
                }
            }
        }
        Outcome::Over | Outcome::Runs => {
            done(name, &answer()?)?;
            Ok(Exit::NotEntered)
        }
        Outcome::Ended(killed_for) => {
            // One more signal, and it is systemd's to see it through.
            if let Some(signal) = ground.until(over.as_fd()).map_err(RunError::Executor)? {
                return Ok(Exit::Program(status_of_signal(signal)));
            }
            let ended = answer()?.ended.ok_or_else(|| RunError::Thread(unit.clone()))??;
            Ok(Exit::Program(ending(name, &ended, killed_for)))
        }
    }
}

/// How long the unit of a container that has ended is there for whoever has run it: until systemd has heard that they
/// are gone.
const LINGERS: Duration = Duration::from_secs(1);

/// Whether systemd has no such unit, or not by then where what it has has ended.
fn is_free_by(systemd: &Systemd, unit: &str, until: Instant) -> Result<bool, BusError> {
    loop {
        match systemd.taken(unit)?.as_deref() {
            None => return Ok(true),
            Some("inactive" | "failed") if Instant::now() < until => {}
            Some(_) => return Ok(false),
        }
        #[expect(clippy::disallowed_methods, reason = "systemd doesn't tell when it forgets a unit")]
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends what was begun, and waits until nothing of it is left. One more signal, and it is systemd's to see it through.
fn take_back(
    systemd: &Systemd,
    paths: &Paths,
    ground: &Foreground,
    name: &ContainerName,
) -> Result<(), Failure> {
    let (over, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (systemd, unit) = (systemd.clone(), name.unit());
    thread::spawn(move || {
        // It may be over by itself.
        let _ = systemd.stop(&unit);
        drop(end);
    });
    if ground.until(over.as_fd()).map_err(RunError::Executor)?.is_none() {
        // systemd has done that, unless it never came to start it. As long as this command is there, so is the unit,
        // and the name nobody else's.
        let _ = transient::forget(paths, name);
    }
    Ok(())
}

/// What the thread that waits for systemd has heard.
struct Told {
    /// How the start's job ended.
    started: Result<String, BusError>,
    /// How the unit ended, in the foreground.
    ended: Option<Result<Ended, BusError>>,
}

/// What a transient unit has that one of a file hasn't.
fn own_properties(name: &ContainerName) -> Vec<(String, Property)> {
    let folder = format!("{}/{name}", transient::BELOW_RUN);
    [
        // Nothing is left, however it ended; but not before the exit status was read here.
        ("CollectMode", Property::Text("inactive-or-failed".to_owned())),
        ("AddRef", Property::Flag(true)),
        ("RuntimeDirectory", Property::Texts(vec![folder])),
        ("RuntimeDirectoryMode", Property::Small(0o700)),
        ("RuntimeDirectoryPreserve", Property::Text("restart".to_owned())),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}

/// An error unless a start's job ended well.
fn done(name: &ContainerName, told: &Told) -> Result<(), RunError> {
    let unit = name.unit();
    let unit = unit.strip_suffix(".service").unwrap_or(&unit);
    let why = match &told.started {
        Ok(result) if result == "done" => return Ok(()),
        Ok(result) => format!("systemd says \"{result}\"; journalctl -u {unit} has more"),
        Err(error) => chain(error),
    };
    Err(RunError::NotStarted { name: name.clone(), why })
}

/// The exit status that tells of a program's end; what systemd did to it is said.
fn ending(name: &ContainerName, ended: &Ended, killed_for: Option<i32>) -> u8 {
    let Ended { result, exit } = ended;
    if killed_for.is_none() {
        let said = match result.as_str() {
            "oom-kill" => Some("a process of it was killed for want of memory; see --limits.memory"),
            "timeout" => Some("it took too long, and systemd ended it"),
            "watchdog" => Some("it was not healthy, or its watchdog went hungry, and systemd ended it"),
            "resources" | "protocol" => Some("systemd could not run it as it was asked to"),
            _ => None,
        };
        if let Some(said) = said {
            complain(&format!("note: {name}: {said}\n"));
        }
    }
    match (killed_for, exit) {
        (Some(signal), _) => status_of_signal(signal),
        // CLD_EXITED of waitid(2).
        (None, (1, status)) => u8::try_from(*status).unwrap_or(NOT_ENTERED),
        // CLD_KILLED and CLD_DUMPED.
        (None, (2 | 3, signal)) => status_of_signal(*signal),
        (None, _) => NOT_ENTERED,
    }
}

/// Makes sure of the image, or says how it can be had. Gives the signal that kept it from it.
fn supply(
    paths: &Paths,
    planned: &Planned,
    pull: Option<When>,
    ground: &Foreground,
) -> Result<Option<i32>, Failure> {
    if let RootSource::Image(reference) = &planned.container.source
        && let Some(image) = to_fetch(&planned.everything, &planned.container, reference, pull)
    {
        let is_there = Store::new(paths.state()).resolve(&image.stored()).is_ok();
        if !is_there || image.pull == Pull::Always {
            complain(&format!("Fetching {reference}\n"));
            let (over, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let (sender, result) = mpsc::channel();
            let paths = paths.clone();
            thread::spawn(move || {
                let _ = sender.send(provide(&paths, &image));
                drop(end);
            });
            if let Some(signal) = ground.until(over.as_fd()).map_err(RunError::Executor)? {
                return Ok(Some(signal));
            }
            fetched(&result, reference, is_there)?;
        }
    }
    match root::find(paths, &planned.container) {
        Ok(_) => Ok(None),
        Err(RootError::Image(ImageError::Missing { similar, .. })) => {
            let RootSource::Image(reference) = &planned.container.source else { return Ok(None) };
            Err(RunError::NoRoot(missing(reference, &similar, pull == Some(When::Never))).into())
        }
        Err(error) => {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            Err(RunError::NoRoot(format!("{}{hint}", chain(&error))).into())
        }
    }
}

/// What is there runs, also when it can't be had anew.
fn fetched(
    result: &Receiver<Result<String, Problem>>,
    reference: &Reference,
    is_there: bool,
) -> Result<(), RunError> {
    let image = reference.to_string();
    match result.recv() {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(source)) if is_there => {
            complain(&format!(
                "warning: can't fetch {image}: {}; what the store has is run\n",
                chain(source.as_ref())
            ));
            Ok(())
        }
        Ok(Err(source)) => Err(RunError::Fetch { image, source }),
        Err(_) => Err(RunError::Thread(image)),
    }
}

/// Where the image comes from, by its file or its name; nothing where nobody is to fetch it.
fn to_fetch(
    everything: &Everything,
    container: &Container,
    reference: &Reference,
    pull: Option<When>,
) -> Option<DeclaredImage> {
    // A pin of the image's file is in the container's reference.
    let of_file = everything.images.iter().find_map(|(_, checked)| {
        checked.image.clone().filter(|image| image.reference == *reference || image.stored() == *reference)
    });
    let fetched = container.supply.as_ref().is_some_and(|supply| supply.unit.is_some());
    let mut image = match of_file {
        Some(image) => image,
        None if fetched => everything.supplies.implicit(reference),
        None => return None,
    };
    match pull {
        Some(When::Missing) => image.pull = Pull::Missing,
        Some(When::Always) => image.pull = Pull::Always,
        Some(When::Never) => return None,
        None => {}
    }
    (image.pull != Pull::Never).then_some(image)
}

fn missing(reference: &Reference, similar: &[String], never: bool) -> String {
    let like = match similar {
        [] => String::new(),
        similar => format!(" (it has {})", similar.join(", ")),
    };
    let head = format!("image {reference} is not in the store{like}");
    match reference.registry() {
        Some(_) if never => {
            format!("{head}, and --pull never keeps it from being fetched: wharf image pull {reference}")
        }
        Some(_) => format!("{head}, and its file says not to fetch it: wharf image pull {reference}"),
        None => format!(
            "{head}, and its name has no registry to fetch it from; write one, like docker.io/library/{reference}, or \
             an alias in /etc/wharf/wharf.toml, or bring it in with `wharf image import`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_images() {
        for (root, expected) in [
            ("nginx:1.27", "nginx"),
            ("registry.example:5000/team/My_App@sha256:00", "my-app"),
            ("/srv/machines/sid/", "sid"),
            ("___", "run"),
            ("", "run"),
        ] {
            assert_eq!(stem(root), expected, "{root}");
        }
        let taken = std::cell::Cell::new(0);
        let settings = [Setting {
            option: String::new(),
            path: vec!["image".into()],
            value: Toml::One("\"nginx:1\"".into()),
        }];
        let name = made_up(&settings, |_| taken.replace(taken.get() + 1) > 2);
        assert!(name.as_str().starts_with("nginx-") && name.as_str().len() == 11, "{name}");
        assert_eq!(taken.get(), 4);
    }

    #[test]
    fn ends_of_programs() {
        let name: ContainerName = "x".parse().expect("a name");
        let ended = |code, status| Ended { result: "exit-code".to_owned(), exit: (code, status) };
        for (ended, killed_for, status) in [
            (ended(1, 7), None, 7),
            (ended(2, 15), None, 143),
            (ended(3, 11), None, 139),
            (ended(2, 9), Some(2), 130),
            (ended(0, 0), None, 125),
        ] {
            assert_eq!(ending(&name, &ended, killed_for), status);
        }
    }
}
