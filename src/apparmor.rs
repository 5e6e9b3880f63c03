//! AppArmor, as the kernel shows it: whether it is on, which profiles are loaded, and what confines a process.
//!
//! Wharf's packages bring a profile, [`PROFILE`], which apparmor.service loads at boot. It comes on top of user
//! namespaces, capabilities and the list of system calls, so a host without it, or without AppArmor, runs containers
//! all the same; what a file asks for by name is another matter.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use crate::check::AppArmor;
use crate::host::Paths;
use crate::plan::steps::PROFILE;

/// Whether the kernel has AppArmor on: `Y` (the kernel's Documentation/admin-guide/LSM/apparmor.rst).
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";

/// A line for each loaded profile, `NAME (MODE)`; for root only.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// What is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Profiles {
    /// AppArmor isn't on.
    #[default]
    Off,
    /// It is on, and the list of profiles can't be read: securityfs isn't mounted, or this isn't root.
    Hidden,
    /// The mode of each profile (`enforce`, `complain`), by name.
    Loaded(BTreeMap<String, String>),
}

/// A profile that a container's file names can't confine it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NotThere {
    /// It isn't loaded.
    #[error("the AppArmor profile {0} isn't loaded")]
    NotLoaded(String),
    /// There is no AppArmor.
    #[error("AppArmor isn't on, so the profile {0} can't be had")]
    Off(String),
}

impl NotThere {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::NotLoaded(name) if name == PROFILE => {
                format!("load it: apparmor_parser -r /etc/apparmor.d/{PROFILE}")
            }
            Self::NotLoaded(_) => {
                "load it by apparmor_parser -r; `aa-status` lists what is loaded".to_owned()
            }
            Self::Off(_) => {
                "boot with AppArmor (apparmor=1 security=apparmor), or leave `apparmor` out".to_owned()
            }
        }
    }
}

impl Profiles {
    /// Reads them.
    pub fn read(paths: &Paths) -> Self {
        match fs::read_to_string(paths.host(ENABLED)) {
            Ok(enabled) if enabled.starts_with('Y') => {}
            _ => return Self::Off,
        }
        match fs::read_to_string(paths.host(LOADED)) {
            Ok(list) => Self::Loaded(list.lines().filter_map(named).collect()),
            Err(_) => Self::Hidden,
        }
    }

    /// The profile that a container gets; none where it does without.
    ///
    /// # Errors
    /// [`NotThere`], of one that its file names.
    pub fn choose(&self, asked: &AppArmor) -> Result<Option<String>, NotThere> {
        match (asked, self) {
            (AppArmor::Unconfined, _) => Ok(None),
            (AppArmor::Own, Self::Loaded(loaded)) => {
                Ok(loaded.contains_key(PROFILE).then(|| PROFILE.to_owned()))
            }
            (AppArmor::Own, Self::Off | Self::Hidden) => Ok(None),
            (AppArmor::Profile(name), Self::Off) => Err(NotThere::Off(name.clone())),
            (AppArmor::Profile(name), Self::Loaded(loaded)) if !loaded.contains_key(name) => {
                Err(NotThere::NotLoaded(name.clone()))
            }
            // Where the list can't be read, the kernel itself says whether it has the profile.
            (AppArmor::Profile(name), Self::Loaded(_) | Self::Hidden) => Ok(Some(name.clone())),
        }
    }
}

/// What confines a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The profile, or profiles joined by `//&`; nothing where it is unconfined.
    pub profile: Option<String>,
    /// `enforce`, `complain` and the like; nothing of what is unconfined.
    pub mode: Option<String>,
}

impl Label {
    /// That of a process; nothing where AppArmor isn't on.
    ///
    /// # Errors
    /// The process is gone, or isn't the caller's to look at (ptrace(2), `PTRACE_MODE_READ`).
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        match fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")) {
            Ok(text) => Ok(Some(Self::parse(&text))),
            // EINVAL where the kernel has it, but not on; no such file where it is built without.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::metadata(format!("/proc/{pid}")).map(|_| None)
            }
            Err(error) => Err(error),
        }
    }

    /// What confines a process once it runs its program: it may be about to.
    ///
    /// # Errors
    /// As [`Label::of`].
    pub fn of_program(pid: i32) -> io::Result<Option<Self>> {
        // In this order: it is empty again when the program runs.
        match fs::read_to_string(format!("/proc/{pid}/attr/apparmor/exec")) {
            Ok(text) if !text.trim_end().is_empty() => Ok(Some(Self::parse(&text))),
            _ => Self::of(pid),
        }
    }

    fn parse(text: &str) -> Self {
        match named(text.trim_end()) {
            Some((profile, mode)) => Self { profile: Some(profile), mode: Some(mode) },
            None => Self {
                profile: Some(text.trim_end().to_owned()).filter(|name| name != "unconfined"),
                mode: None,
            },
        }
    }
}

/// `NAME (MODE)`; a name may have blanks and brackets of its own.
fn named(line: &str) -> Option<(String, String)> {
    let (name, mode) = line.strip_suffix(')')?.rsplit_once(" (")?;
    Some((name.to_owned(), mode.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(enabled: Option<&str>, list: Option<&str>) -> Profiles {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in [(ENABLED, enabled), (LOADED, list)] {
            let path = root.path().join(&path[1..]);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            if let Some(text) = text {
                fs::write(path, text).expect("written");
            }
        }
        Profiles::read(&Paths::new(root.path()))
    }

    #[test]
    fn what_a_container_gets() {
        let named = |name: &str| AppArmor::Profile(name.to_owned());
        let some = |name: &str| Ok(Some(name.to_owned()));
        let loaded = profiles(Some("Y\n"), Some("wharf-container (enforce)\n/usr/bin/man (1) (complain)\n"));
        assert_eq!(loaded.choose(&AppArmor::Own), some(PROFILE));
        assert_eq!(loaded.choose(&AppArmor::Unconfined), Ok(None));
        assert_eq!(loaded.choose(&named("/usr/bin/man (1)")), some("/usr/bin/man (1)"));
        assert_eq!(loaded.choose(&named("strict")), Err(NotThere::NotLoaded("strict".into())));

        let without = profiles(Some("Y\n"), Some("man (enforce)\n"));
        assert_eq!(without.choose(&AppArmor::Own), Ok(None));
        let own = without.choose(&named(PROFILE)).expect_err("it was asked for");
        assert!(own.hint().contains("apparmor_parser -r /etc/apparmor.d/wharf-container"), "{}", own.hint());

        for off in [profiles(None, None), profiles(Some("N\n"), None)] {
            assert_eq!(off, Profiles::Off);
            assert_eq!(off.choose(&AppArmor::Own), Ok(None));
            assert_eq!(off.choose(&named("strict")), Err(NotThere::Off("strict".into())));
        }
        let hidden = profiles(Some("Y\n"), None);
        assert_eq!(hidden, Profiles::Hidden);
        assert_eq!(hidden.choose(&AppArmor::Own), Ok(None));
        assert_eq!(hidden.choose(&named("strict")), some("strict"));
    }

    #[test]
    fn labels() {
        let label = |profile: Option<&str>, mode: Option<&str>| Label {
            profile: profile.map(str::to_owned),
            mode: mode.map(str::to_owned),
        };
        assert_eq!(Label::parse("unconfined\n"), label(None, None));
        assert_eq!(Label::parse("a b (enforce)\n"), label(Some("a b"), Some("enforce")));
        assert_eq!(Label::parse("a//&b (mixed)\n"), label(Some("a//&b"), Some("mixed")));
        assert!(Label::of(i32::MAX).is_err());
    }
}
