//! Which containers are declared, and by what files.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::check::Checked;
use crate::generate::{self, Listing};
use crate::host::Paths;
use crate::plan::{self, Files};
use crate::spec::{ContainerName, nearest};

/// Why the declared containers can't be listed, or one isn't there.
#[derive(Debug, thiserror::Error)]
pub enum DeclaredError {
    /// A folder of the search path is there and can't be read.
    #[error("can't list {}", .folder.display())]
    List {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing declares this name.
    #[error("no container `{name}` is declared{hint}")]
    Unknown {
        /// As asked for.
        name: String,
        /// What to do instead.
        hint: String,
    },
    /// Its file is empty, or a link to /dev/null.
    #[error("{} is empty, which masks the container {name}", .file.display())]
    Masked {
        /// Whose.
        name: ContainerName,
        /// The file.
        file: PathBuf,
    },
    /// A template, which can't run by itself.
    #[error("`{0}` is a template; name an instance, like `{0}blue`")]
    Template(ContainerName),
}

/// The files of the search path.
pub struct Declared<'p> {
    paths: &'p Paths,
    listing: Listing,
}

impl<'p> Declared<'p> {
    /// Lists them, as the generator would now.
    pub fn list(paths: &'p Paths) -> Result<Self, DeclaredError> {
        // The generator says so of a folder that it can't read, and goes on. A person may lack the rights to it.
        let folders = paths.search().map(|above| ["containers", "images"].map(|below| above.join(below)));
        for folder in folders.into_iter().flatten() {
            match fs::read_dir(&folder) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(DeclaredError::List { folder, source });
                }
                _ => {}
            }
        }
        Ok(Self { paths, listing: generate::list(paths) })
    }

    /// What was found, masked ones too.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Every container and template that isn't masked, and instances with files of their own.
    pub fn names(&self) -> BTreeSet<ContainerName> {
        let Listing { containers, .. } = &self.listing;
        containers
            .iter()
            .filter(|(name, found)| generate::read(self.paths, &self.listing, name, found).is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Under which name systemd knows what declares a container: its own, or its template's.
    pub fn unit_of(&self, name: &ContainerName) -> Result<ContainerName, DeclaredError> {
        let has = |name: &ContainerName| self.listing.containers.contains_key(name);
        if has(name) {
            return Ok(name.clone());
        }
        if let Some(template) = name.template().filter(has) {
            return Ok(template);
        }
        let names = self.names();
        let hint = match nearest(name.as_str(), names.iter().map(ContainerName::as_str)) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => {
                let file = name.template().unwrap_or_else(|| name.clone());
                format!("; its file would be /etc/wharf/containers/{file}.toml")
            }
        };
        Err(DeclaredError::Unknown { name: name.to_string(), hint })
    }

    /// What declares a container; for an instance without files of its own its template's, under its name.
    pub fn files(&self, name: &ContainerName) -> Result<Files, DeclaredError> {
        let unit = self.unit_of(name)?;
        let Some(found) = self.listing.containers.get(&unit) else {
            return Err(DeclaredError::Unknown { name: name.to_string(), hint: String::new() });
        };
        generate::read(self.paths, &self.listing, name, found)
            .ok_or_else(|| DeclaredError::Masked { name: name.clone(), file: self.paths.shown(&found.main) })
    }

    /// Its files as the generator would check them now, with all that is declared in view.
    pub fn checked(&self, files: &Files) -> Checked {
        let generate::Everything { containers: mut all, supplies, .. } =
            generate::check_everything(self.paths, &self.listing);
        if let Some(at) = all.iter().position(|(other, _)| other.name == files.name) {
            return all.swap_remove(at).1;
        }
        // An instance without files of its own.
        all.push((files.clone(), plan::check(files)));
        plan::compare(&mut all, &supplies);
        all.pop().map_or_else(|| plan::check(files), |(_, checked)| checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_path_and_its_masks() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("etc/wharf/containers/nginx.toml", "image = \"a\"");
        write("usr/lib/wharf/containers/nginx.toml", "image = \"b\"");
        write("usr/lib/wharf/containers/web@.toml", "image = \"b\"");
        write("etc/wharf/containers/redis.toml", "");
        write("usr/lib/wharf/containers/redis.toml", "image = \"b\"");
        write("etc/wharf/containers/nginx.toml.d/50-a.toml", "init = true");
        let paths = Paths::new(root.path());
        let declared = Declared::list(&paths).expect("listed");
        let names: Vec<String> = declared.names().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["nginx", "web@"]);
        let ask = |name: &str| {
            let files = declared.files(&name.parse().expect("a name"));
            files.map(|files| files.main.path.display().to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(ask("nginx").as_deref(), Ok("/etc/wharf/containers/nginx.toml"));
        assert_eq!(ask("web@blue").as_deref(), Ok("/usr/lib/wharf/containers/web@.toml"));
        assert_eq!(ask("ngnix"), Err("no container `ngnix` is declared; did you mean `nginx`?".to_owned()));
        assert!(ask("postgres").expect_err("unknown").contains("/etc/wharf/containers/postgres.toml"));
        assert!(ask("redis").expect_err("masked").contains("redis.toml is empty"));
    }
}
