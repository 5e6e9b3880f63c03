//! Which program a container runs, with what environment and as whom: the image's word and the file's.

use super::health::{self, Watch};
use crate::check::{CREDENTIALS, Container, UserName};
use crate::image::Healthcheck;

/// What an image says about its program (the `config` object of the OCI image specification's
/// configuration). A folder as root says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageProcess {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub command: Vec<String>,
    /// `Env`, each `NAME=value`.
    pub environment: Vec<String>,
    /// `User`: `user`, `user:group`, each a name or a number.
    pub user: Option<String>,
    /// `WorkingDir`.
    pub working_directory: Option<String>,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `Healthcheck`, Docker's.
    pub healthcheck: Option<Healthcheck>,
}

/// The container's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments; never empty.
    pub arguments: Vec<String>,
    /// As whom.
    pub user: UserName,
    /// With which group; the user's own where nothing is said.
    pub group: Option<UserName>,
    /// Where: absolute.
    pub working_directory: String,
    /// What is checked while it runs.
    pub watch: Option<Box<Watch>>,
}

/// Why there is no program to run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// Neither the file nor the image names one.
    #[error("neither the image nor the container file names a program; set `command` in {0}")]
    NoProgram(String),
    /// The image's `User` is not one.
    #[error(
        "the image's user `{0}` is neither a name nor a number below 65536; set `user` in the container file"
    )]
    User(String),
    /// `[health]` leaves the check to the image, which has none.
    #[error("the image has no HEALTHCHECK to use; write `command`, `http` or `tcp` under [health] in {0}")]
    NoHealthcheck(String),
    /// `%i` of an instance isn't what an address can have there.
    #[error("{what}; see [health] in {source_file}")]
    Target {
        /// The address, and why it is none.
        what: String,
        /// The container's file.
        source_file: String,
    },
}

/// Joins what the file says with what the image says, as OCI and Docker do: `entrypoint` in the file puts
/// both the image's entry point and its command out of force, `command` only its command.
///
/// # Errors
/// [`ProcessError`].
pub fn process(container: &Container, image: &ImageProcess, source: &str) -> Result<Process, ProcessError> {
    let mut arguments = match &container.entrypoint {
        Some(entrypoint) => entrypoint.clone(),
        None => image.entrypoint.clone(),
    };
    match (&container.command, &container.entrypoint) {
        (Some(command), _) => arguments.extend_from_slice(command),
        (None, None) => arguments.extend_from_slice(&image.command),
        (None, Some(_)) => {}
    }
    if arguments.first().is_none_or(String::is_empty) {
        return Err(ProcessError::NoProgram(source.to_owned()));
    }
    let (user, group) = match &container.user {
        Some(user) => (user.clone(), container.group.clone()),
        None => {
            let (user, group) = image_user(image.user.as_deref().unwrap_or_default())?;
            (user, container.group.clone().or(group))
        }
    };
    let working_directory = container.working_directory.clone().or_else(|| image.working_directory.clone());
    let working_directory = working_directory.filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into());
    let watch = health::watch(container, image, source)?.map(Box::new);
    Ok(Process { arguments, user, group, working_directory, watch })
}

/// What the file alone says about the program, to be shown where the image can't be asked. What only the image
/// knows stands in brackets: this is for people, and never run.
pub fn without_image(container: &Container) -> Process {
    let mut arguments = match (&container.entrypoint, &container.command) {
        (Some(entrypoint), _) => entrypoint.clone(),
        (None, Some(_)) => vec!["(the image's entry point, if it has one)".to_owned()],
        (None, None) => vec!["(the image's program)".to_owned()],
    };
    arguments.extend(container.command.iter().flatten().cloned());
    let said = |what: &str| UserName::Name(format!("(the image's {what})"));
    Process {
        arguments,
        user: container.user.clone().unwrap_or_else(|| said("user")),
        group: container.group.clone(),
        working_directory: container
            .working_directory
            .clone()
            .unwrap_or_else(|| "(the image's directory)".to_owned()),
        watch: health::without_image(container).map(Box::new),
    }
}

fn image_user(text: &str) -> Result<(UserName, Option<UserName>), ProcessError> {
    let error = || ProcessError::User(text.to_owned());
    let one = |part: &str| match part.parse::<u32>() {
        Ok(id) if id < 65_536 => Ok(UserName::Id(id)),
        Ok(_) => Err(error()),
        Err(_) if part.bytes().all(|b| b.is_ascii_digit()) => Err(error()),
        Err(_) => Ok(UserName::Name(part.to_owned())),
    };
    match text.split_once(':') {
        None if text.is_empty() => Ok((UserName::Id(0), None)),
        None => Ok((one(text)?, None)),
        Some((user, "")) => Ok((one(user)?, None)),
        Some((user, group)) => Ok((one(user)?, Some(one(group)?))),
    }
}

/// Where programs are looked for when the environment has no `PATH`: what a Debian root has.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of the container's program, later words over earlier ones: a default `PATH`, the image,
/// the environment files, the container file; then, where nobody said so, `HOME` from the user's entry, and
/// `container`, by which programs know where they run (systemd's container interface). Where there are credentials,
/// `CREDENTIALS_DIRECTORY` says where, whoever else said something (systemd.exec(5)).
pub fn environment<'a>(
    image: &'a ImageProcess,
    files: impl IntoIterator<Item = (String, String)>,
    container: &'a Container,
    home: &str,
) -> Vec<String> {
    let mut variables = std::collections::BTreeMap::new();
    for (name, value) in [("PATH", DEFAULT_PATH), ("HOME", home), ("container", "wharf")] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in image.environment.iter().filter_map(|line| line.split_once('=')) {
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables.extend(files);
    variables.extend(container.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
    if !container.credentials.is_empty() {
        variables.insert("CREDENTIALS_DIRECTORY".to_owned(), CREDENTIALS.to_owned());
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}
