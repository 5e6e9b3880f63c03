//! One call in a process of its own, which can be killed: this test's program, started again.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use wharf::host::Paths;
use wharf::volume::{self, DataError, snapshot};

/// What the process is to do: the words of the call.
const CALL: &str = "WHARF_TEST_SNAPSHOT";

/// A call on a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Take,
    Restore,
    Drop,
    /// Of [`archive`], in the place of the volume.
    Replace,
    /// The same, where there is no volume.
    Import,
    Remove,
}

/// The archive of a root.
pub fn archive(root: &Path) -> PathBuf {
    root.join("archive.tar")
}

/// The volume and the label that all of them are about.
pub const VOLUME: &str = "data";
pub const LABEL: &str = "before";

impl Call {
    /// By this process itself.
    pub fn call(self, root: &Path) -> Result<(), DataError> {
        let paths = Paths::new(root);
        let import = |replace| {
            let file = std::fs::File::open(archive(root)).expect("an archive");
            volume::import(&paths, VOLUME, replace, file, &|_| ()).map(drop)
        };
        match self {
            Self::Take => Ok(snapshot::take(&paths, VOLUME, LABEL).map(drop)?),
            Self::Restore => Ok(snapshot::restore(&paths, VOLUME, LABEL)?),
            Self::Drop => Ok(snapshot::drop(&paths, VOLUME, LABEL)?),
            Self::Replace => import(true),
            Self::Import => import(false),
            Self::Remove => volume::remove(&paths, VOLUME),
        }
    }

    /// By another one, with words before its own.
    pub fn command(self, root: &Path, before: &[&str]) -> Command {
        let own = std::env::current_exe().expect("this program");
        let mut command = match before.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(own);
                command
            }
            None => Command::new(own),
        };
        command.arg(root).env(CALL, format!("{self:?}"));
        command
    }
}

/// What such a process does; nothing in one that runs tests.
pub fn asked() -> Option<ExitCode> {
    let call = match std::env::var(CALL).ok()?.as_str() {
        "Take" => Call::Take,
        "Restore" => Call::Restore,
        "Replace" => Call::Replace,
        "Import" => Call::Import,
        "Remove" => Call::Remove,
        _ => Call::Drop,
    };
    let root = std::env::args_os().nth(1).expect("a root");
    Some(match call.call(Path::new(&root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
            ExitCode::FAILURE
        }
    })
}
