//! Reading `wharf.toml` for a command or an executor that needs it.

use std::fmt;

use super::Settings;
use crate::generate;
use crate::host::Paths;
use crate::plan;
use crate::report::{self, Finding, Level, Style};

/// The host's settings have mistakes, so what they mean isn't known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// All that was found, by file and line.
    pub findings: Vec<Finding>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors: Vec<Finding> =
            self.findings.iter().filter(|finding| finding.level == Level::Error).cloned().collect();
        f.write_str(
            "the settings in wharf.toml have mistakes, and nothing is done before they are mended:\n",
        )?;
        f.write_str(report::render(&errors, Style::Plain).trim_end())
    }
}

impl std::error::Error for SettingsError {}

/// What `wharf.toml` and its drop-ins say now, along the search path. Without any, the defaults.
///
/// # Errors
/// Every mistake in them.
pub fn load(paths: &Paths) -> Result<Settings, SettingsError> {
    let checked = plan::check_settings(&generate::settings(paths));
    if checked.are_usable() {
        Ok(checked.settings)
    } else {
        Err(SettingsError { findings: checked.findings })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_that_cant_be_read_are_not_empty() {
        for make in [
            |folder: &std::path::Path| fs::write(folder, "").expect("written"),
            |folder: &std::path::Path| std::os::unix::fs::symlink("/nowhere", folder).expect("linked"),
        ] {
            let root = tempfile::tempdir().expect("a folder");
            let paths = Paths::new(root.path());
            fs::create_dir_all(root.path().join("etc/wharf")).expect("made");
            make(&root.path().join("etc/wharf/wharf.toml.d"));
            let text = load(&paths).expect_err("unread").to_string();
            assert!(text.contains("/etc/wharf/wharf.toml.d") && text.contains("can't be read"), "{text}");
            // There may be a [trust] in it.
            let checked = plan::check_settings(&generate::settings(&paths));
            assert_eq!(checked.settings.trust.policy, crate::settings::Policy::Signed { keys: Vec::new() });
        }
    }

    #[test]
    fn the_search_path_and_drop_ins() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        assert_eq!(load(&paths), Ok(Settings::default()));
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("usr/lib/wharf/wharf.toml", "unpack.entries = 1\nunpack.ratio = 1\n");
        write("run/wharf/wharf.toml.d/10.toml", "unpack.entries = 2\n");
        let settings = load(&paths).expect("good");
        assert_eq!((settings.unpack.entries, settings.unpack.ratio), (2, 1));
        write("etc/wharf/wharf.toml.d/10.toml", "unpack.entries = 3\n");
        write("etc/wharf/wharf.toml", "");
        let settings = load(&paths).expect("good");
        assert_eq!((settings.unpack.entries, settings.unpack.ratio), (3, 5_000));
        write("etc/wharf/wharf.toml", "[unpack]\nentires = 1\nratio = 0\n");
        let text = load(&paths).expect_err("two mistakes").to_string();
        assert!(text.contains("did you mean `entries`?") && text.contains("at least 1"), "{text}");
        assert!(text.contains("/etc/wharf/wharf.toml:2:1"), "{text}");
    }
}
