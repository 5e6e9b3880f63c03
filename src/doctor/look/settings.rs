//! systemd's settings that hold for containers as well: of system.conf(5), and of drop-ins for services.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::text;
use crate::doctor::facts::{Look, Setting, Settings};
use crate::host::Paths;

/// Where systemd looks for its own files, the last by name counts (systemd-system.conf(5)).
const OWN: [&str; 4] = ["/usr/lib/systemd", "/usr/local/lib/systemd", "/run/systemd", "/etc/systemd"];

/// Where it looks for units and their drop-ins, the last by name counts (systemd.unit(5)). What `systemctl
/// set-property` writes, in `system.control`, limits resources, and is in nobody's way.
const UNITS: [&str; 5] = [
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
    "/run/systemd/system",
    "/etc/systemd/system",
    "/run/systemd/transient",
];

pub(super) fn settings(paths: &Paths) -> Look<Settings> {
    let main =
        OWN.iter().rev().map(|folder| paths.host(folder).join("system.conf")).find(|path| path.exists());
    let own = in_force(paths, &OWN.map(|folder| format!("{folder}/system.conf.d")));
    let manager = main.into_iter().chain(own);
    let mut services = Vec::new();
    for folder in service_folders(paths) {
        let files = in_force(paths, &UNITS.map(|units| format!("{units}/{folder}")));
        let unit = folder.strip_suffix(".d").filter(|unit| *unit != "service").map(str::to_owned);
        services.extend(files.flat_map(|path| assigned(paths, &path, "[Service]", unit.as_ref())));
    }
    Look::Seen(Settings {
        manager: manager.flat_map(|path| assigned(paths, &path, "[Manager]", None)).collect(),
        services,
    })
}

/// Folders of drop-ins for all services, and for containers, by name.
fn service_folders(paths: &Paths) -> Vec<String> {
    let mut names: Vec<String> = UNITS
        .iter()
        .flat_map(|folder| fs::read_dir(paths.host(folder)).into_iter().flatten().flatten())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            name.strip_suffix(".service.d").is_some_and(|unit| {
                unit.split_once('@').map_or(unit, |(unit, _)| unit).ends_with("-container")
            }) || name == "service.d"
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The files of some folders, in the order of their names; of two with one name that of the later folder.
fn in_force(paths: &Paths, folders: &[String]) -> impl Iterator<Item = PathBuf> + use<> {
    let mut files = BTreeMap::new();
    for folder in folders {
        for entry in fs::read_dir(paths.host(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".conf") {
                files.insert(name, entry.path());
            }
        }
    }
    files.into_values()
}

/// What a file assigns in a section.
fn assigned(paths: &Paths, path: &std::path::Path, section: &str, unit: Option<&String>) -> Vec<Setting> {
    let mut within = false;
    let mut found = Vec::new();
    for line in text(path).unwrap_or_default().lines().map(str::trim) {
        if line.starts_with('[') {
            within = line == section;
        } else if let Some((key, value)) =
            line.split_once('=').filter(|_| within && !line.starts_with(['#', ';']))
        {
            found.push(Setting {
                file: paths.shown(path).display().to_string(),
                unit: unit.cloned(),
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force() {
        let root = tempfile::tempdir().expect("a folder");
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        put("etc/systemd/system.conf", "[Manager]\n#DefaultTasksMax=1\nDefaultTasksMax=2\n[Other]\nX=1\n");
        put("usr/lib/systemd/system.conf", "[Manager]\nDefaultTasksMax=3\n");
        put("usr/lib/systemd/system.conf.d/10-a.conf", "[Manager]\nA=1\n");
        put("etc/systemd/system.conf.d/10-a.conf", "[Manager]\nA = 2\n");
        put("usr/lib/systemd/system/service.d/10-b.conf", "[Service]\nUser=x\n");
        put("etc/systemd/system/service.d/10-b.conf", "");
        put("etc/systemd/system/service.d/20-c.conf", "[Unit]\nAfter=x\n[Service]\nPrivateTmp=yes\n");
        put("etc/systemd/system/web-container@.service.d/x.conf", "[Service]\nNice=1\n");
        put("etc/systemd/system/nginx.service.d/x.conf", "[Service]\nUser=x\n");
        put("etc/systemd/system.control/web-container.service.d/50-x.conf", "[Service]\nCPUWeight=1\n");
        let Look::Seen(found) = settings(&Paths::below(root.path().to_owned())) else {
            panic!("it was seen")
        };
        let shown = |settings: &[Setting]| -> Vec<String> {
            let line = |setting: &Setting| {
                let Setting { file, unit, key, value } = setting;
                format!("{file} {} {key}={value}", unit.as_deref().unwrap_or("-"))
            };
            settings.iter().map(line).collect()
        };
        assert_eq!(
            shown(&found.manager),
            ["/etc/systemd/system.conf - DefaultTasksMax=2", "/etc/systemd/system.conf.d/10-a.conf - A=2"]
        );
        assert_eq!(
            shown(&found.services),
            [
                "/etc/systemd/system/service.d/20-c.conf - PrivateTmp=yes",
                "/etc/systemd/system/web-container@.service.d/x.conf web-container@.service Nice=1"
            ]
        );
    }
}
