//! Who names a volume: what is declared now, what the last reload has planned, and what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::VolumesError;
use crate::check::{Container, MountKind};
use crate::generate;
use crate::held;
use crate::host::Paths;
use crate::plan::{self, Plan};
use crate::running::{self, Running};
use crate::spec::ContainerName;
use crate::transient;

/// How a container uses a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(super) struct Use {
    /// Its name, or its template's.
    pub(super) container: ContainerName,
    /// Where in it.
    pub(super) target: String,
    /// It can't write there.
    pub(super) read_only: bool,
}

/// Who uses which volume.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// By the files, by volume. In a template's volume there may be `%i`, see [`Users::declared`].
    declared: BTreeMap<String, BTreeSet<Use>>,
    /// What runs, by volume.
    running: BTreeMap<String, BTreeSet<Use>>,
    /// By the files, by the folder of the host that is bound.
    bound: BTreeMap<PathBuf, BTreeSet<Use>>,
    /// What runs, by the folder of the host that is bound.
    bound_now: BTreeMap<PathBuf, BTreeSet<Use>>,
    /// Where volumes are, as the files have it.
    folder: PathBuf,
    /// Texts that may be a volume's name, and whose they are: of files with mistakes, and of plans.
    texts: BTreeMap<String, BTreeSet<String>>,
    /// Files that may name any volume, and what helps.
    pub(super) unreadable: Vec<(String, &'static str)>,
}

impl Users {
    /// Gathers them.
    ///
    /// # Errors
    /// The records of running containers can't be listed.
    pub(super) fn of(paths: &Paths) -> Result<Self, VolumesError> {
        let folder = paths.shown(&paths.state().join("volumes"));
        let mut users = Self { folder, ..Self::default() };
        let listing = generate::list(paths);
        let mut good = BTreeSet::new();
        for (name, found) in &listing.containers {
            let Some(files) = generate::read(paths, &listing, name, found) else { continue };
            if let Some(container) = plan::check(&files).container {
                uses(&container, &mut users.declared);
                binds(&container, &mut users.bound);
                good.extend(files.drop_ins.iter().chain([&files.main]).map(|source| source.path.clone()));
            }
        }
        users.files(paths, &good);
        let records = running::all(paths);
        for running in
            records.map_err(|source| VolumesError::Users { path: paths.shown(&paths.running()), source })?
        {
            uses(&running.container, &mut users.running);
            binds(&running.container, &mut users.bound_now);
        }
        let restart = "systemctl restart for its container";
        for (folder, way_out) in [
            (paths.plans(), "systemctl daemon-reload"),
            (paths.last_good(), restart),
            (paths.running(), restart),
            (held::folder(paths), "wharf apply"),
        ] {
            users.records(paths, &folder, way_out);
        }
        for name in transient::names(paths) {
            let folder = transient::folder(paths, &name);
            users.records(paths, &folder, "systemctl stop for its container");
        }
        Ok(users)
    }

    /// What is in all files. Of `good` ones, which make a container as it would be started, only what is mounted: a
    /// drop-in may be in the way of that, and go tomorrow. Of the others every text counts: of those with mistakes, those
    /// that another takes the place of or masks, those that no container can be called by, drop-ins without a file.
    fn files(&mut self, paths: &Paths, good: &BTreeSet<PathBuf>) {
        for folder in paths.search().map(|above| above.join("containers")) {
            for (file, path) in self.entries(paths, &folder) {
                let files = if file.ends_with(".toml.d") {
                    let drop_ins = self.entries(paths, &path).into_iter();
                    drop_ins.filter(|(file, _)| file.ends_with(".toml")).map(|(_, path)| path).collect()
                } else if file.ends_with(".toml") {
                    vec![path]
                } else {
                    continue;
                };
                files.iter().for_each(|path| self.file(paths, path, good.contains(&paths.shown(path))));
            }
        }
    }

    fn file(&mut self, paths: &Paths, path: &Path, is_good: bool) {
        let whose = paths.shown(path).display().to_string();
        // Of a mask, a device, there is nothing to read; a pipe would be waited for.
        let text = match fs::metadata(path) {
            Ok(look) if look.file_type().is_char_device() => return,
            Ok(look) if look.is_file() => fs::read(path),
            Ok(_) => Err(io::ErrorKind::InvalidInput.into()),
            Err(error) => Err(error),
        };
        let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
        match text.map(|text| text.parse::<toml::Table>()) {
            Ok(Ok(table)) if is_good => {
                table.get("mounts").into_iter().for_each(|mounts| texts(mounts, &whose, &mut self.texts));
            }
            Ok(Ok(table)) => texts(&toml::Value::Table(table), &whose, &mut self.texts),
            Ok(Err(_)) | Err(_) => self.unreadable.push((whose, "wharf check")),
        }
    }

    /// What is in a folder, by name. One that is there and can't be read may have anything in it.
    fn entries(&mut self, paths: &Paths, folder: &Path) -> Vec<(String, PathBuf)> {
        let read = || -> io::Result<Vec<(String, PathBuf)>> {
            let entries = match fs::read_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                other => other?,
            };
            let mut found = Vec::new();
            for entry in entries {
                let entry = entry?;
                found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
            }
            found.sort();
            Ok(found)
        };
        read().unwrap_or_else(|_| {
            self.unreadable.push((paths.shown(folder).display().to_string(), "ls and mount say more"));
            Vec::new()
        })
    }

    /// Plans and records of all kinds. In one that another version of Wharf has written, every text counts.
    fn records(&mut self, paths: &Paths, folder: &Path, way_out: &'static str) {
        for (file, path) in self.entries(paths, folder) {
            if file.starts_with('.') || !file.ends_with(".json") {
                continue;
            }
            let text = match fs::read(&path) {
                // It has ended, or a reload makes it anew.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.unwrap_or_default(),
            };
            let whose = paths.shown(&path).display().to_string();
            let mut named = BTreeMap::new();
            let mut bound = BTreeMap::new();
            if let Ok(plan) = serde_json::from_slice::<Plan>(&text) {
                uses(&plan.container, &mut named);
                binds(&plan.container, &mut bound);
            } else if let Ok(running) = serde_json::from_slice::<Running>(&text) {
                uses(&running.container, &mut named);
                binds(&running.container, &mut bound);
            } else if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&text) {
                in_json(&value, &whose, &mut self.texts);
            } else {
                self.unreadable.push((whose.clone(), way_out));
            }
            let bound = bound.into_keys().map(|path: PathBuf| path.display().to_string());
            for name in named.into_keys().chain(bound) {
                one(&name, &whose, &mut self.texts);
            }
        }
    }

    /// The names that files give to volumes, but for those of templates, which nobody can know.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let names = self.declared.keys().chain(self.running.keys());
        names.map(String::as_str).filter(|name| !name.contains('%'))
    }

    /// By what files it is declared, or bound by its path; of a template, by any of its instances.
    pub(super) fn declared(&self, volume: &str) -> Vec<&Use> {
        let named =
            self.declared.iter().filter(|(name, _)| is_meant(name, volume)).flat_map(|(_, uses)| uses);
        named.chain(self.within(&self.bound, volume)).collect()
    }

    /// What has it now.
    pub(super) fn running(&self, volume: &str) -> Vec<&Use> {
        let named = self.running.get(volume).into_iter().flatten();
        named.chain(self.within(&self.bound_now, volume)).collect()
    }

    /// Of binds, those of a volume's folder or one below it.
    fn within<'u>(
        &self,
        bound: &'u BTreeMap<PathBuf, BTreeSet<Use>>,
        volume: &str,
    ) -> impl Iterator<Item = &'u Use> {
        let folder = self.folder.join(volume);
        bound.iter().filter(move |(path, _)| path.starts_with(&folder)).flat_map(|(_, uses)| uses)
    }

    /// What may write to a volume by a bind of a folder above it. Who can only read there, as a backup of all volumes or
    /// what measures disks, has nothing of its own in it.
    fn written_above(&self, volume: &str) -> Option<(&Path, &Use)> {
        let folder = self.folder.join(volume);
        let bound = self.bound_now.iter().chain(&self.bound);
        let mut above = bound.filter(|(path, _)| folder.starts_with(path) && **path != folder);
        above.find_map(|(path, uses)| Some((path.as_path(), uses.iter().find(|one| !one.read_only)?)))
    }

    /// Why it isn't unused; nothing where it is.
    pub(super) fn why_kept(&self, volume: &str) -> Option<String> {
        if let Some(user) = self.running(volume).first() {
            return Some(format!("{} is running with it", user.container));
        }
        if let Some(user) = self.declared(volume).first() {
            return Some(format!("{} is declared with it", user.container));
        }
        if let Some((path, user)) = self.written_above(volume) {
            return Some(format!("{} has {} of the host, where it is", user.container, path.display()));
        }
        let folder = self.folder.join(volume);
        let is_it = |text: &str| is_meant(text, volume) || Path::new(text).starts_with(&folder);
        let texts = self.texts.iter().filter(|(text, _)| is_it(text));
        texts.flat_map(|(_, whose)| whose).next().map(|whose| format!("{whose} may name it"))
    }
}

fn uses(container: &Container, into: &mut BTreeMap<String, BTreeSet<Use>>) {
    for mount in &container.mounts {
        if let MountKind::Volume(volume) = &mount.kind {
            let (container, target) = (container.name.clone(), mount.target.clone());
            let one = Use { container, target, read_only: volume.read_only };
            into.entry(volume.name.clone()).or_default().insert(one);
        }
    }
}

fn binds(container: &Container, into: &mut BTreeMap<PathBuf, BTreeSet<Use>>) {
    for mount in &container.mounts {
        if let MountKind::Bind(bind) = &mount.kind {
            let (container, target) = (container.name.clone(), mount.target.clone());
            let one = Use { container, target, read_only: bind.read_only };
            into.entry(bind.source.clone()).or_default().insert(one);
        }
    }
}

/// Whether a name means this volume: itself, or as a template's for some instance.
fn is_meant(name: &str, volume: &str) -> bool {
    let (Some((first, _)), Some((_, last))) = (name.split_once("%i"), name.rsplit_once("%i")) else {
        return name == volume;
    };
    let rest = volume.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
    rest.is_some_and(|rest| !rest.is_empty())
}

fn texts(value: &toml::Value, whose: &str, into: &mut BTreeMap<String, BTreeSet<String>>) {
    match value {
        toml::Value::String(text) => one(text, whose, into),
        toml::Value::Array(values) => values.iter().for_each(|value| texts(value, whose, into)),
        toml::Value::Table(table) => table.values().for_each(|value| texts(value, whose, into)),
        _ => {}
    }
}

fn in_json(value: &serde_json::Value, whose: &str, into: &mut BTreeMap<String, BTreeSet<String>>) {
    match value {
        serde_json::Value::String(text) => one(text, whose, into),
        serde_json::Value::Array(values) => values.iter().for_each(|value| in_json(value, whose, into)),
        serde_json::Value::Object(object) => object.values().for_each(|value| in_json(value, whose, into)),
        _ => {}
    }
}

/// One too many keeps a volume.
fn one(text: &str, whose: &str, into: &mut BTreeMap<String, BTreeSet<String>>) {
    into.entry(text.to_owned()).or_default().insert(whose.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_names_a_volume_keeps_it() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        write(
            "etc/wharf/containers/db.toml",
            "image = 'a'\n[mounts]\n'/a' = { volume = 'one' }\n'/b' = { volume = 'two', read-only = true }\n",
        );
        write("etc/wharf/containers/web@.toml", "image = 'a'\n[mounts]\n'/a' = { volume = 'web-%i' }\n");
        write(
            "etc/wharf/containers/bad.toml",
            "image = 'a'\nmemroy = 1\n[mounts]\n'/a' = { volume = 'bad' }\n",
        );
        write("etc/wharf/containers/ugly.toml.d/a.toml", "[mounts]\n'/a' = { volume = 'drop' }\nx = 1\n");
        write("etc/wharf/containers/ugly.toml", "image = 'a'\n");
        write("var/lib/wharf/held/x.json", "{\"good\":{\"mounts\":[\"held\"]}}");
        let paths = Paths::new(root.path());
        let users = Users::of(&paths).expect("read");
        assert_eq!(users.named().collect::<Vec<_>>(), ["one", "two"]);
        let why = |volume: &str| users.why_kept(volume);
        assert_eq!(why("one").as_deref(), Some("db is declared with it"));
        assert_eq!(why("web-blue").as_deref(), Some("web@ is declared with it"));
        assert_eq!(why("bad").as_deref(), Some("/etc/wharf/containers/bad.toml may name it"));
        assert_eq!(why("drop").as_deref(), Some("/etc/wharf/containers/ugly.toml.d/a.toml may name it"));
        assert_eq!(why("held").as_deref(), Some("/var/lib/wharf/held/x.json may name it"));
        assert_eq!((why("web-"), why("other")), (None, None));
        assert!(users.unreadable.is_empty() && users.declared("two")[0].read_only);

        write("etc/wharf/containers/broken.toml", "image = \n");
        write("run/wharf/running/half.json", "{\"container\"");
        // As one that is too large, or on a disk that fails.
        fs::create_dir(root.path().join("etc/wharf/containers/folder.toml")).expect("made");
        let unreadable = Users::of(&paths).expect("read").unreadable;
        let files: Vec<&str> = unreadable.iter().map(|(file, _)| file.as_str()).collect();
        assert_eq!(
            files,
            [
                "/etc/wharf/containers/broken.toml",
                "/etc/wharf/containers/folder.toml",
                "/run/wharf/running/half.json"
            ]
        );
    }

    #[test]
    fn whoever_binds_a_volume_keeps_it() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("etc/wharf/containers");
        fs::create_dir_all(&folder).expect("made");
        let write = |name: &str, key: &str, bind: &str| {
            let text = format!("image = 'a'\n{key}[mounts]\n'/a' = {{ bind = '{bind}' }}\n");
            fs::write(folder.join(name), text).expect("written");
        };
        write("a.toml", "", "/var/lib/wharf/volumes/whole/");
        write("b.toml", "", "/var/lib/wharf/volumes/part/below");
        write("c.toml", "memroy = 1\n", "/var/lib/wharf/volumes/bad");
        let text = "image = 'a'\n[mounts]\n'/a' = { bind = '/', read-only = true }\n";
        fs::write(folder.join("d.toml"), text).expect("written");
        let paths = Paths::new(root.path());
        let users = Users::of(&paths).expect("read");
        let why = |volume: &str| users.why_kept(volume);
        assert_eq!(why("whole").as_deref(), Some("a is declared with it"));
        assert_eq!(why("part").as_deref(), Some("b is declared with it"));
        assert_eq!(why("bad").as_deref(), Some("/etc/wharf/containers/c.toml may name it"));
        // It reads all of the host, and keeps nothing.
        assert_eq!(why("other"), None);
        // Who binds it, makes none of it.
        assert_eq!(users.named().count(), 0);
        write("e.toml", "", "/var/lib/wharf");
        let why = Users::of(&paths).expect("read").why_kept("other");
        assert_eq!(why.as_deref(), Some("e has /var/lib/wharf of the host, where it is"));
    }

    #[test]
    fn what_doesnt_start_now_may_come_back() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        let with = |volume: &str| format!("image = 'a'\n[mounts]\n'/a' = {{ volume = '{volume}' }}\n");
        for (path, text) in [
            ("usr/lib/wharf/containers/masked.toml", with("masked")),
            ("usr/lib/wharf/containers/linked.toml", with("linked")),
            ("etc/wharf/containers/masked.toml", String::new()),
            ("etc/wharf/containers/No Name.toml", with("nameless")),
            ("etc/wharf/containers/gone.toml.d/a.toml", "[mounts]\n'/a' = { volume = 'alone' }\n".to_owned()),
            ("usr/lib/wharf/containers/db.toml", with("vendors")),
            ("etc/wharf/containers/db.toml", with("db")),
            ("etc/wharf/containers/web.toml", with("base") + "[environment]\nA = 'word'\n"),
            ("etc/wharf/containers/web.toml.d/1.toml", "[mounts]\n'/a' = { volume = 'new' }\n".to_owned()),
        ] {
            write(path, &text);
        }
        std::os::unix::fs::symlink("/dev/null", root.path().join("etc/wharf/containers/linked.toml"))
            .expect("linked");
        let users = Users::of(&Paths::new(root.path())).expect("read");
        assert!(users.unreadable.is_empty(), "{:?}", users.unreadable);
        for volume in ["masked", "linked", "nameless", "alone", "db", "vendors", "base", "new"] {
            assert!(users.why_kept(volume).is_some(), "{volume}");
        }
        let why = users.why_kept("masked");
        assert_eq!(why.as_deref(), Some("/usr/lib/wharf/containers/masked.toml may name it"));
        // A file in its place, or a drop-in over it, may go.
        let why = users.why_kept("vendors");
        assert_eq!(why.as_deref(), Some("/usr/lib/wharf/containers/db.toml may name it"));
        let why = users.why_kept("base");
        assert_eq!(why.as_deref(), Some("/etc/wharf/containers/web.toml may name it"));
        // Of a good file only mounts are volumes.
        assert_eq!(users.why_kept("word"), None);
    }
}
