//! `[mounts]`.

use std::path::Path;

use super::{Bind, Mount, MountKind, Rules, Tmpfs, Volume, paths};
use crate::report::{Finding, Place};
use crate::spec::{ContainerName, Data, Entries, Entry, size};

/// The three kinds, one of which a mount must be.
const KINDS: [&str; 3] = ["bind", "tmpfs", "volume"];

/// Which further keys go with which kind.
const GOES_WITH: [(&str, &[&str]); 4] = [
    ("idmap", &["bind"]),
    ("mode", &["tmpfs"]),
    ("read-only", &["bind", "volume"]),
    ("recursive", &["bind"]),
];

/// Every mount, by target.
pub fn mounts(rules: &mut Rules<'_>) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for (target, entry) in rules.table("mounts").into_iter().flatten() {
        // Both are asked, so that both are told.
        let place = where_to(rules, target, &entry.key);
        let Data::Table(table) = &entry.value.data else { continue };
        let kind = kind(rules, target, entry, table);
        if let (Some(target), Some(kind)) = (place, kind) {
            mounts.push(Mount { target, kind });
        }
    }
    mounts
}

fn where_to(rules: &mut Rules<'_>, target: &str, key: &Place) -> Option<String> {
    match paths::inside(target) {
        Err(error) => {
            rules.error(key, format!("the target \"{target}\" {}", error.message), error.hint);
            None
        }
        Ok(path) if path == "/" => {
            rules.error(
                key,
                "the target can't be the root itself",
                "`image` or `rootfs` says what the root is",
            );
            None
        }
        Ok(path)
            if path == "/dev" || ["/proc", "/sys", "/etc/.wharf"].iter().any(|own| under(&path, own)) =>
        {
            rules.error(
                key,
                format!("nothing can be mounted at {path}: Wharf makes it"),
                "mount it somewhere else; below /dev is allowed",
            );
            None
        }
        Ok(path) => Some(path),
    }
}

fn under(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn kind(rules: &mut Rules<'_>, target: &str, entry: &Entry, table: &Entries) -> Option<MountKind> {
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| table.contains_key(*kind)).collect();
    let kind = match given[..] {
        [kind] => kind,
        [] => {
            rules.error(
                &entry.key,
                format!("the mount at {target} doesn't say what is mounted"),
                "give it one of `bind`, `volume` and `tmpfs`",
            );
            return None;
        }
        [first, second, ..] => {
            let place = table[second].key.clone();
            rules.error(
                &place,
                format!("the mount at {target} has both `{first}` and `{second}`"),
                "keep one of them",
            );
            return None;
        }
    };
    for (key, kinds) in GOES_WITH {
        if let Some(stray) = table.get(key).filter(|_| !kinds.contains(&kind)) {
            rules.error(
                &stray.key,
                format!("`{key}` has no meaning for a `{kind}`"),
                format!("it goes with {}", kinds.map_quoted()),
            );
        }
    }
    let flag = |key: &str, default| match table.get(key).map(|entry| &entry.value.data) {
        Some(Data::Flag(flag)) => *flag,
        _ => default,
    };
    let value = &table[kind].value;
    match kind {
        "bind" => {
            let text = value.text()?;
            match paths::host(text) {
                Ok(source) => {
                    volume_by_path(rules, &source, &value.place);
                    Some(MountKind::Bind(Bind {
                        source,
                        read_only: flag("read-only", false),
                        recursive: flag("recursive", true),
                        idmap: flag("idmap", true),
                    }))
                }
                Err(error) => {
                    rules.error(&value.place, format!("`bind` {}", error.message), error.hint);
                    None
                }
            }
        }
        "volume" => {
            let name = value.text()?;
            let template = rules.name.as_str().contains('@');
            let plain = if template { name.replace("%i", "i") } else { name.to_owned() };
            match plain.parse::<ContainerName>() {
                Ok(good) if !good.as_str().contains('@') => Some(MountKind::Volume(Volume {
                    name: name.to_owned(),
                    read_only: flag("read-only", false),
                })),
                _ => {
                    rules.error(
                        &value.place,
                        format!("\"{name}\" can't be a volume's name"),
                        "use letters, digits, `-`, `_` and `.`, a letter or digit first; for a path of the host write `bind`",
                    );
                    None
                }
            }
        }
        _ => tmpfs(rules, table).map(MountKind::Tmpfs),
    }
}

/// Where volumes are.
const VOLUMES: &str = "/var/lib/wharf/volumes";

/// What is bound isn't made at the first start, and isn't waited for while it is exported or put back.
fn volume_by_path(rules: &mut Rules<'_>, source: &Path, place: &Place) {
    let Some(name) = source.strip_prefix(VOLUMES).ok().and_then(Path::to_str) else { return };
    if name.parse::<ContainerName>().is_ok_and(|name| !name.as_str().contains('@')) {
        rules.findings.push(
            Finding::warning(place.clone(), format!("this is the folder of the volume `{name}`")).hint(
                format!("write volume = \"{name}\" instead of `bind`: then it is made, and known as used"),
            ),
        );
    }
}

fn tmpfs(rules: &mut Rules<'_>, table: &Entries) -> Option<Tmpfs> {
    let value = &table["tmpfs"].value;
    let size = match value.text() {
        None => None,
        Some(text) => match size(text) {
            Ok(0) => {
                rules.error(
                    &value.place,
                    "a `tmpfs` of no size holds nothing",
                    "write true, or a size like \"64M\"",
                );
                None
            }
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let hint = error
                    .suggestion()
                    .map_or("for example: \"64M\"".into(), |size| format!("write \"{size}\""));
                rules.error(&value.place, format!("`tmpfs`: {error}"), hint);
                None
            }
        },
    };
    let mode = match table.get("mode").and_then(|entry| Some((entry.value.text()?, &entry.value.place))) {
        None => None,
        Some((text, place)) => match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 && text.bytes().all(|b| b.is_ascii_digit()) => Some(mode),
            _ => {
                rules.error(
                    place,
                    format!("`mode` \"{text}\" is no permission in octal"),
                    "for example: \"1777\"",
                );
                None
            }
        },
    };
    Some(Tmpfs { size, mode })
}

/// Words in backquotes with `and` between.
trait Quoted {
    fn map_quoted(&self) -> String;
}

impl Quoted for &[&str] {
    fn map_quoted(&self) -> String {
        self.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" and ")
    }
}
