//! `wharf enable` and `wharf disable`: whether boot starts a container.
//!
//! On disk: `/etc/wharf/containers/NAME.toml.d/50-autostart.toml`. It is written beside its place under a
//! name that no reader takes for a drop-in, synced, renamed over, and its folder synced, so that a command
//! that returned 0 outlives a power cut. It is not written where the files say so already.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::declared::{Declared, DeclaredError};
use super::output::{Exit, Failure, print};
use crate::bus::{BusError, Systemd};
use crate::host::Paths;
use crate::plan::BOOT_FOLDERS;
use crate::plan::companions::{socket_unit, timer_unit};
use crate::report;
use crate::spec::{ContainerName, Document};

const DROP_IN: &str = "50-autostart.toml";

const ENABLE_HELP: &str = "\
Examples:
  wharf enable nginx
  wharf enable web@blue --no-reload

Exit status: 0 boot starts it, or will after the reload that was left out; 1 it won't; 2 for wrong usage.";

const DISABLE_HELP: &str = "\
Examples:
  wharf disable nginx
  wharf --root /mnt disable nginx

Exit status: 0 boot leaves it alone, or will after the reload that was left out; 1 it won't; 2 for wrong usage.";

/// Have boot start a container
///
/// Writes `autostart = true` to /etc/wharf/containers/NAME.toml.d/50-autostart.toml and reloads systemd, where
/// the files don't say so already. It starts nothing now. Of a container with a timer or sockets, boot starts those.
#[derive(Args)]
#[command(after_help = ENABLE_HELP)]
pub struct EnableArgs {
    #[command(flatten)]
    target: Target,
}

/// Have boot leave a container alone
///
/// Writes `autostart = false` to /etc/wharf/containers/NAME.toml.d/50-autostart.toml and reloads systemd, where
/// the files don't say so already. It stops nothing now.
#[derive(Args)]
#[command(after_help = DISABLE_HELP)]
pub struct DisableArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
struct Target {
    /// A declared container, or an instance of a template
    name: ContainerName,
    /// Leave `systemctl daemon-reload` to somebody else; never done with --root, or where systemd isn't running
    #[arg(long)]
    no_reload: bool,
}

/// The drop-in can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}", .path.display())]
struct WriteError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The files say it, and systemd doesn't know.
#[derive(Debug, thiserror::Error)]
#[error("the files of {name} say so now, but systemd has not read them; run: systemctl daemon-reload")]
struct ReloadError {
    name: ContainerName,
    #[source]
    source: BusError,
}

/// It is written, and another file has the last word.
#[derive(Debug, thiserror::Error)]
#[error("{} says autostart = {says}, over {}; change it there", .by.display(), .written.display())]
struct Overridden {
    by: PathBuf,
    says: bool,
    written: PathBuf,
}

/// systemd was reloaded, and what boot does is as before.
#[derive(Debug, thiserror::Error)]
#[error(
    "the files of {0} say so and systemd has read them, but boot still {does} it; see wharf check {0}",
    does = if *.1 { "does not start" } else { "starts" }
)]
struct NoEffect(ContainerName, bool);

/// Runs `wharf enable`.
pub fn enable(args: &EnableArgs, paths: &Paths) -> Result<Exit, Failure> {
    run(&args.target, true, paths)
}

/// Runs `wharf disable`.
pub fn disable(args: &DisableArgs, paths: &Paths) -> Result<Exit, Failure> {
    run(&args.target, false, paths)
}

fn run(target: &Target, autostart: bool, paths: &Paths) -> Result<Exit, Failure> {
    let Target { name, no_reload } = target;
    let reload = || Systemd::connect()?.reload();
    // Without systemd there is nothing to reload: its next boot reads the files.
    let reloads = !no_reload && paths.are_this_hosts() && Systemd::runs();
    let text = set(name, autostart, paths, reloads.then_some(&reload))?;
    print(&text)?;
    Ok(Exit::Done)
}

/// Makes the files say it, and systemd know it; gives what to tell.
fn set(
    name: &ContainerName,
    autostart: bool,
    paths: &Paths,
    reload: Option<&dyn Fn() -> Result<(), BusError>>,
) -> Result<String, Failure> {
    if name.is_template() {
        return Err(Failure::usage(DeclaredError::Template(name.clone())));
    }
    let word = if autostart { "enabled" } else { "disabled" };
    let before = Effective::read(name, paths)?;
    let mut how = String::new();
    if before.autostart == autostart {
        // Not only the files: the last time, systemd may not have been there to be reloaded.
        if reload.is_none() || boot_starts(name, paths) == autostart {
            return Ok(format!("{name} is already {word}\n"));
        }
    } else {
        let written = write(name, autostart, paths)?;
        let after = Effective::read(name, paths)?;
        if after.autostart != autostart {
            let by = after.file.unwrap_or_else(|| written.clone());
            return Err(Overridden { by, says: after.autostart, written }.into());
        }
        how = format!(" ({})", written.display());
    }
    let then = match reload {
        None => "not done",
        Some(reload) => {
            reload().map_err(|source| ReloadError { name: name.clone(), source })?;
            if boot_starts(name, paths) != autostart {
                return Err(NoEffect(name.clone(), autostart).into());
            }
            "was done"
        }
    };
    let errors =
        if before.errors { format!("; its files have errors: wharf check {name}") } else { String::new() };
    Ok(format!("{name} is {word}{how}; systemctl daemon-reload {then}{errors}\n"))
}

/// What the files say together.
struct Effective {
    autostart: bool,
    /// Which of them has the last word; nothing where none says anything.
    file: Option<PathBuf>,
    errors: bool,
}

impl Effective {
    fn read(name: &ContainerName, paths: &Paths) -> Result<Self, DeclaredError> {
        let declared = Declared::list(paths)?;
        let files = declared.files(name)?;
        let checked = declared.checked(&files);
        let (mut document, _) = Document::parse(&files.main);
        for drop_in in &files.drop_ins {
            document.merge(Document::parse(drop_in).0);
        }
        Ok(Self {
            autostart: checked.autostart,
            file: document.get(["autostart"]).map(|entry| entry.value.place.source.path.clone()),
            errors: report::has_errors(&checked.findings),
        })
    }
}

/// What systemd does, as of its last reload.
fn boot_starts(name: &ContainerName, paths: &Paths) -> bool {
    let units = [name.unit(), socket_unit(name), timer_unit(name)];
    let mut links = BOOT_FOLDERS.iter().flat_map(|folder| units.iter().map(move |unit| (folder, unit)));
    links.any(|(folder, unit)| fs::symlink_metadata(paths.generated().join(folder).join(unit)).is_ok())
}

/// Writes the drop-in, and gives its path as people know it.
fn write(name: &ContainerName, autostart: bool, paths: &Paths) -> Result<PathBuf, WriteError> {
    let [etc, ..] = paths.search();
    let path = etc.join("containers").join(format!("{name}.toml.d")).join(DROP_IN);
    let text = format!(
        "# Written by `wharf {}`.\nautostart = {autostart}\n",
        if autostart { "enable" } else { "disable" }
    );
    match write_durably(&path, text.as_bytes()) {
        Ok(()) => Ok(paths.shown(&path)),
        Err(source) => Err(WriteError { path, source }),
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_folders(folder)?;
    // No `.toml` at the end: the generator passes it by if the power goes now.
    let fresh = path.with_extension("toml.new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

/// Makes a folder and those above it, each one's name on disk before the next.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(parent) = folder.parent() else { return Ok(()) };
    make_folders(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(parent)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROP_INS: &str = "etc/wharf/containers/nginx.toml.d";

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            put(&root.path().join(path), text);
        }
        let paths = Paths::new(root.path());
        (root, paths)
    }

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn ask(name: &str, autostart: bool, paths: &Paths) -> Result<String, String> {
        let name = name.parse().expect("a name");
        set(&name, autostart, paths, None).map_err(|failure| failure.text())
    }

    #[test]
    fn writes_what_the_files_do_not_say_already() {
        let (root, paths) = host(&[("usr/lib/wharf/containers/nginx.toml", "imge = \"x\"\n")]);
        assert_eq!(ask("nginx", true, &paths).as_deref(), Ok("nginx is already enabled\n"));
        assert!(!root.path().join("etc").exists());
        assert_eq!(
            ask("nginx", false, &paths).as_deref(),
            Ok(
                "nginx is disabled (/etc/wharf/containers/nginx.toml.d/50-autostart.toml); systemctl daemon-reload \
                not done; its files have errors: wharf check nginx\n"
            )
        );
        let folder = root.path().join(DROP_INS);
        let text = fs::read_to_string(folder.join(DROP_IN)).expect("read");
        assert!(text.ends_with("\nautostart = false\n"), "{text}");
        assert_eq!(fs::read_dir(folder).expect("listed").count(), 1);
        assert_eq!(ask("nginx", false, &paths).as_deref(), Ok("nginx is already disabled\n"));
        assert!(ask("nginx", true, &paths).is_ok_and(|text| text.starts_with("nginx is enabled (")));
        assert!(ask("other", true, &paths).is_err());
    }

    #[test]
    fn an_instance_is_enabled_by_itself() {
        let (root, paths) = host(&[(
            "usr/lib/wharf/containers/web@.toml",
            "image = \"x\"\nnetwork = \"none\"\nautostart = true\n",
        )]);
        assert_eq!(ask("web@blue", false, &paths).as_deref(), Ok("web@blue is already disabled\n"));
        assert_eq!(
            ask("web@blue", true, &paths).as_deref(),
            Ok("web@blue is enabled (/etc/wharf/containers/web@blue.toml.d/50-autostart.toml); systemctl \
                daemon-reload not done\n")
        );
        assert_eq!(ask("web@blue", true, &paths).as_deref(), Ok("web@blue is already enabled\n"));
        assert!(root.path().join("etc/wharf/containers/web@blue.toml.d/50-autostart.toml").exists());
        assert!(ask("web@", true, &paths).expect_err("a template").contains("web@blue"));
    }

    #[test]
    fn a_later_drop_in_has_the_last_word() {
        let (_root, paths) = host(&[
            ("etc/wharf/containers/nginx.toml", "image = \"x\"\nnetwork = \"none\"\n"),
            ("etc/wharf/containers/nginx.toml.d/60-local.toml", "autostart = true\n"),
        ]);
        assert_eq!(
            ask("nginx", false, &paths).expect_err("overridden"),
            "error: /etc/wharf/containers/nginx.toml.d/60-local.toml says autostart = true, over \
             /etc/wharf/containers/nginx.toml.d/50-autostart.toml; change it there\n"
        );
    }

    #[test]
    fn systemd_is_made_to_know() {
        let (root, paths) =
            host(&[("etc/wharf/containers/nginx.toml", "image = \"x\"\nnetwork = \"none\"\n")]);
        let name: ContainerName = "nginx".parse().expect("a name");
        let ask = |autostart, reload: &dyn Fn() -> Result<(), BusError>| {
            set(&name, autostart, &paths, Some(reload)).map_err(|failure| failure.text())
        };
        let link = root.path().join("run/systemd/generator").join(BOOT_FOLDERS[0]).join(name.unit());
        let generator = || {
            let _ = fs::remove_file(&link);
            if Effective::read(&name, &paths).expect("read").autostart {
                put(&link, "");
            }
            Ok(())
        };
        let broken = || Err(BusError::NoSystemd);
        let none = || panic!("nothing to reload for");
        // The file is new, and systemd was never told.
        assert!(
            ask(true, &generator)
                .is_ok_and(|text| text.contains("is enabled; systemctl daemon-reload was done"))
        );
        assert_eq!(ask(true, &none).as_deref(), Ok("nginx is already enabled\n"));
        for _ in 0..2 {
            assert!(ask(false, &broken).expect_err("no reload").contains("run: systemctl daemon-reload"));
        }
        assert!(
            ask(false, &generator)
                .is_ok_and(|text| text.contains("is disabled; systemctl daemon-reload was done"))
        );
        assert_eq!(ask(false, &none).as_deref(), Ok("nginx is already disabled\n"));
        assert!(ask(true, &|| Ok(())).expect_err("no generator").contains("boot still does not start it"));
    }
}
