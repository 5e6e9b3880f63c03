//! What goes into a report: texts that have been gone through, by their names in the archive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{check, ps};
use crate::doctor::facts::Look;
use crate::doctor::look::{Under, begin, output};
use crate::doctor::redact::{self, Secrets};
use crate::generate;
use crate::held;
use crate::host::Paths;
use crate::image::Store;
use crate::journal::{KINDS, Kind};
use crate::lease;
use crate::net::nft::NFT;
use crate::registry;
use crate::report::{self, Report, Source};
use crate::spec::{ContainerName, keys};

/// Larger files are no container files.
const FILE_MAX: u64 = 1 << 20;
/// What a program may say, and how long it may take.
const SAID_MAX: u64 = 256 << 10;
const LIMIT: Duration = Duration::from_secs(10);
/// All programs together; what isn't there by then is left out, and said to be.
const ALL: Duration = Duration::from_secs(60);
/// Lines of each container's journal.
const LINES: &str = "300";
/// Containers whose journals are in it.
const CONTAINERS_MAX: usize = 100;

/// Everything, each with its name. `troubled` are containers whose journals matter most.
pub(super) fn all(
    paths: &Paths,
    lines: &str,
    doctor: &Value,
    troubled: &[String],
    journal: bool,
) -> Vec<(String, String)> {
    let files = own_files(paths);
    let units = units(paths);
    let (sources, drop_ins) = (files.clone(), units.clone());
    // A file of secrets may lie on a disk that doesn't answer.
    let of = paths.clone();
    let mut secrets = match begin(LIMIT, move || Look::Seen(secrets(&of, &sources, &drop_ins))).seen() {
        Look::Seen(secrets) => secrets,
        // Nothing can be hidden then of what nobody knows.
        _ => {
            let why = "Files with secrets could not be read in time, so that nothing else may be shown.\n";
            return vec![("README.txt".to_owned(), why.to_owned())];
        }
    };
    let mut names: Vec<String> = containers(paths);
    // There may be more than there is time and room for.
    let is_troubled =
        |name: &String| troubled.iter().any(|it| it == name || name.ends_with('@') && it.starts_with(name));
    names.sort_by_key(|name| !is_troubled(name));
    names.iter().for_each(|name| secrets.is_plain(name));
    let sealed = match journal && paths.are_this_hosts() {
        true => unseal(paths, &units, &mut secrets),
        false => BTreeSet::new(),
    };
    let mut gathered = Gathered { secrets, files: Vec::new(), left_out: Vec::new(), begun: Instant::now() };
    gathered.text("doctor.txt", lines);
    gathered.json("doctor.json", doctor.clone());
    gathered.text("versions.txt", &versions(paths));
    for (vocabulary, source) in &files {
        let text = redact::toml(vocabulary, source);
        gathered.known(&format!("files{}", source.path.display()), &text);
    }
    for (name, text) in &units {
        gathered.known(&format!("units{name}"), &redact::unit(text));
    }
    gathered.look("check.json", paths, |paths| {
        let (mut findings, _) = check::everything(paths).map_err(|error| error.to_string())?;
        report::sort(&mut findings);
        findings.dedup();
        serde_json::to_value(Report::new(&findings)).map_err(|error| error.to_string())
    });
    gathered.look("reload.json", paths, |paths| {
        let text = fs::read(paths.findings()).map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    });
    gathered.look("ps.json", paths, |paths| {
        let rows = ps::all_rows(paths, true).map_err(|failure| failure.line())?;
        serde_json::to_value(rows).map_err(|error| error.to_string())
    });
    gathered.look("marks.json", paths, |paths| {
        let marks = held::all(paths).into_iter().map(|(name, mark)| {
            json!({ "container": name.to_string(), "state": mark.state, "at": mark.at, "why": mark.why })
        });
        Ok(marks.collect())
    });
    gathered.look("images.json", paths, |paths| {
        let listing = Store::new(paths.state()).listing().map_err(|error| error.to_string())?;
        Ok(json!({ "images": listing.images, "broken": listing.broken }))
    });
    gathered.look("leases.json", paths, |paths| {
        let leases = lease::leased_ids(&paths.state()).map_err(|error| error.to_string())?;
        let ids: Vec<Value> = leases
            .into_iter()
            .map(|(name, ids)| json!({ "container": name.to_string(), "ids": ids }))
            .collect();
        let pools = lease::chosen(&paths.state()).map_err(|error| error.to_string())?;
        Ok(json!({ "ids": ids, "pools": pools.map(|pools| pools.to_string()) }))
    });
    if paths.are_this_hosts() {
        systemd(&mut gathered);
        gathered.program("nft.txt", NFT, &["list", "table", "inet", "wharf"]);
        if journal {
            self::journal(&mut gathered, &names, &sealed);
        }
    }
    gathered.finish(journal)
}

/// What there is so far.
struct Gathered {
    secrets: Secrets,
    files: Vec<(String, String)>,
    left_out: Vec<String>,
    begun: Instant,
}

impl Gathered {
    /// A text of anybody's.
    fn text(&mut self, name: &str, text: &str) {
        let text = self.secrets.hide(text);
        self.files.push((name.to_owned(), text));
    }

    /// One that has been gone through by its keys.
    fn known(&mut self, name: &str, text: &str) {
        let text = self.secrets.hide_known(text);
        self.files.push((name.to_owned(), text));
    }

    fn json(&mut self, name: &str, mut value: Value) {
        self.secrets.hide_json(&mut value);
        let text = serde_json::to_string_pretty(&value).unwrap_or_default() + "\n";
        self.files.push((name.to_owned(), text));
    }

    fn without(&mut self, name: &str, why: &str) {
        let why = self.secrets.hide(why);
        self.left_out.push(format!("{name}: {why}"));
    }

    fn look(
        &mut self,
        name: &str,
        paths: &Paths,
        look: impl FnOnce(&Paths) -> Result<Value, String> + Send + 'static,
    ) {
        let paths = paths.clone();
        let under: Under<Value> = begin(LIMIT, move || match look(&paths) {
            Ok(value) => Look::Seen(value),
            Err(why) => Look::Failed(why),
        });
        match under.seen() {
            Look::Seen(value) => self.json(name, value),
            Look::Failed(why) => self.without(name, &why),
            Look::Late(limit) => self.without(name, &format!("no answer within {} s", limit.as_secs())),
            Look::OnlyRoot | Look::Unasked => {}
        }
    }

    fn program(&mut self, name: &str, program: &str, arguments: &[&str]) {
        let left = ALL.saturating_sub(self.begun.elapsed()).min(LIMIT);
        if left.is_zero() {
            return self.without(name, "there was no time left for it");
        }
        match output(program, arguments, left, SAID_MAX) {
            Ok(text) => self.text(name, &text),
            Err(error) => self.without(name, &error.to_string()),
        }
    }

    fn finish(mut self, journal: bool) -> Vec<(String, String)> {
        let mut text = "A report of `wharf doctor`. `wharf doctor --help` says what is in it.\n\n\
            Secrets are left out: values of environments, commands' arguments, logins in addresses, and what\n\
            looks like a password. Programs may have said more in journal/ than can be told from here.\n"
            .to_owned();
        if !journal {
            text.push_str("\nThe journal was not wanted.\n");
        }
        if !self.left_out.is_empty() {
            text.push_str("\nWhat is not here, and why:\n");
            self.left_out.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        self.files.insert(0, ("README.txt".to_owned(), text));
        self.files
    }
}

/// Every file of the search path that is Wharf's to read, with its vocabulary and by its path as people know it.
type OwnFile = (&'static keys::Vocabulary, Arc<Source>);

fn own_files(paths: &Paths) -> Vec<OwnFile> {
    let mut found = Vec::new();
    for above in paths.search() {
        let settings = [above.join("wharf.toml")].into_iter().chain(below(&above.join("wharf.toml.d")));
        found.extend(settings.map(|path| (&keys::HOST, path)));
        for (folder, vocabulary) in [("containers", &keys::CONTAINER), ("images", &keys::IMAGE)] {
            for path in below(&above.join(folder)) {
                let files = if path.is_dir() { below(&path) } else { vec![path] };
                found.extend(files.into_iter().map(|path| (vocabulary, path)));
            }
        }
    }
    let named = |(_, path): &(_, PathBuf)| path.extension().is_some_and(|end| end == "toml");
    let read =
        |(vocabulary, path): (_, PathBuf)| Some((vocabulary, Source::new(paths.shown(&path), text(&path)?)));
    found.into_iter().filter(named).filter_map(read).collect()
}

/// What is in a folder, in order.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A plain file of no great size.
fn text(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let bytes = (found.is_file() && found.len() <= FILE_MAX).then(|| fs::read(path).ok())??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_ours(unit: &str) -> bool {
    let stem = unit.rsplit_once('.').map_or(unit, |(stem, _)| stem);
    stem.ends_with("-image") || stem.contains("-container")
}

/// Units as the generator made them, and drop-ins for them: their paths, and texts.
fn units(paths: &Paths) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in below(&paths.generated()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_ours(&name) {
            found.push(path);
        }
    }
    for folder in ["/etc/systemd/system", "/run/systemd/system", "/run/systemd/transient"] {
        for path in below(&paths.host(folder)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let unit = name.strip_suffix(".d").unwrap_or(&name);
            if path.is_dir() && (is_ours(unit) || unit.starts_with("wharf")) && name.ends_with(".d") {
                found.extend(below(&path));
            } else if is_ours(unit) && path.is_file() {
                found.push(path);
            }
        }
    }
    found
        .into_iter()
        .filter_map(|path| Some((paths.shown(&path).display().to_string(), text(&path)?)))
        .collect()
}

/// Every container that has a file, or has run.
fn containers(paths: &Paths) -> Vec<String> {
    let listing = generate::list(paths);
    let mut names: Vec<String> = listing.containers.keys().map(ToString::to_string).collect();
    names.extend(crate::transient::names(paths).into_iter().map(|name: ContainerName| name.to_string()));
    names.sort();
    names.dedup();
    names
}

/// All that is known to be secret, wherever it may turn up again.
fn secrets(paths: &Paths, files: &[OwnFile], units: &[(String, String)]) -> Secrets {
    let mut secrets = Secrets::default();
    let mut named = BTreeSet::new();
    for (vocabulary, source) in files {
        redact::learn_toml(vocabulary, source, &mut secrets);
        named.extend(redact::named_files(source));
    }
    for (_, text) in units {
        redact::learn_unit(text, &mut secrets);
        named.extend(redact::named_in_unit(text));
    }
    // What ran before a file was edited may still be what its program speaks of.
    let plans = [paths.plans(), paths.last_good(), paths.running(), held::folder(paths)];
    let transient = below(&paths.transient()).into_iter().filter(|path| path.is_dir());
    for path in plans.into_iter().chain(transient).flat_map(|folder| below(&folder)) {
        let value = text(&path).and_then(|text| serde_json::from_str::<Value>(&text).ok());
        value.iter().for_each(|value| learn_plan(value, &mut secrets, &mut named));
    }
    for path in named.iter().flat_map(|path| every(&paths.host(path))).chain(credentials(paths)) {
        text(&path).iter().for_each(|text| learn_file(text, &mut secrets));
    }
    // Of who asks, and of root, who the units run as.
    let home = std::env::var_os("HOME").map(PathBuf::from).into_iter().chain([paths.host("/root")]);
    let logins = home.map(|home| home.join(".docker/config.json")).chain([registry::own_file(paths)]);
    for file in logins {
        text(&file).iter().for_each(|text| redact::logins(text, &mut secrets));
    }
    learn_images(paths, &mut secrets);
    secrets
}

/// A file of secrets of whatever kind.
fn learn_file(text: &str, secrets: &mut Secrets) {
    redact::environment_file(text, secrets);
    redact::logins(text, secrets);
    // A credential is all of its file.
    if text.len() < CREDENTIAL_MAX {
        redact::credential(text, secrets);
    }
}

/// Learns encrypted credentials that systemd has decrypted for nobody at the moment: it takes them away with the end of
/// a run, and the last words of a program may have them. Gives units of which not all can be read: the key may be in a
/// TPM, or gone.
fn unseal(paths: &Paths, units: &[(String, String)], secrets: &mut Secrets) -> BTreeSet<String> {
    let begun = Instant::now();
    let mut sealed = BTreeSet::new();
    for (path, text) in units {
        let Some(unit) = unit_of(Path::new(path)) else { continue };
        if paths.host("/run/credentials").join(&unit).is_dir() {
            continue;
        }
        for place in redact::encrypted_in_unit(text) {
            let files = place.map(|place| encrypted(paths, &place)).unwrap_or_default();
            let mut is_read = !files.is_empty();
            for file in files {
                let left = LIMIT.saturating_sub(begun.elapsed());
                // Whatever it is called: it is for nobody but this.
                let arguments = ["decrypt", "--name=", &file.to_string_lossy(), "-"];
                match output("systemd-creds", &arguments, left, CREDENTIAL_MAX as u64) {
                    Ok(text) if !text.is_empty() => learn_file(&text, secrets),
                    _ => is_read = false,
                }
            }
            if !is_read {
                sealed.insert(unit.clone());
            }
        }
    }
    sealed
}

/// The unit that a file is of, or a drop-in; of an instance, its template.
fn unit_of(path: &Path) -> Option<String> {
    let own = path.file_name()?.to_str()?;
    let folder = path.parent()?.file_name()?.to_str()?;
    Some(template(folder.strip_suffix(".d").unwrap_or(own)))
}

/// An instance's template, or the unit itself.
fn template(unit: &str) -> String {
    match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((name, _)), Some((_, kind))) => format!("{name}@.{kind}"),
        _ => unit.to_owned(),
    }
}

/// The files of an encrypted credential, by its path or its name in systemd's stores (systemd.exec(5)). Those of the
/// stores for plain ones are learnt as they are.
fn encrypted(paths: &Paths, place: &str) -> Vec<PathBuf> {
    let stores = ["/etc", "/run", "/usr/lib"].map(|store| paths.host(store).join("credstore.encrypted"));
    let places = match place.starts_with('/') {
        true => vec![paths.host(place)],
        false => stores.iter().map(|store| store.join(place)).collect(),
    };
    places.iter().flat_map(|place| every(place)).filter(|file| file.is_file()).collect()
}

/// Larger ones are no passwords, and each of their lines would be looked for: keys and lists of certificates.
const CREDENTIAL_MAX: usize = 64 << 10;

/// A file, or all that a template's instances may have in its place: what a specifier stands for is a part of one name,
/// of the file's or of a folder's above it.
fn every(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        let pattern = part.as_os_str().to_string_lossy();
        found = if pattern.contains('%') {
            let is_one =
                |path: &PathBuf| path.file_name().is_some_and(|name| fits(&pattern, &name.to_string_lossy()));
            found.iter().flat_map(|folder| below(folder)).filter(is_one).collect()
        } else {
            found.iter().map(|folder| folder.join(part)).collect()
        };
    }
    found
}

/// Whether a name may be what a pattern says: in a template `%%` is one and `%` with a letter anything, elsewhere it is
/// itself.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((begins, rest)) = pattern.split_once('%').filter(|_| pattern != name) else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(begins) else { return false };
    if let Some(rest) = rest.strip_prefix('%') {
        return name.strip_prefix('%').is_some_and(|name| fits(rest, name));
    }
    let mut rest = rest.chars();
    rest.next();
    let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    ends.any(|at| fits(rest.as_str(), &name[at..]))
}

/// Credentials: where units find those that are named without a path, and what running containers have been given, also
/// of those that are encrypted (systemd.exec(5), `LoadCredential=`).
fn credentials(paths: &Paths) -> Vec<PathBuf> {
    let stores = ["/etc/credstore", "/run/credstore", "/usr/lib/credstore"].map(|store| paths.host(store));
    let given = below(&paths.host("/run/credentials"))
        .into_iter()
        .filter(|folder| folder.file_name().is_some_and(|unit| is_ours(&unit.to_string_lossy())));
    stores.into_iter().chain(given).flat_map(|folder| below(&folder)).collect()
}

/// What images have in their own environments, where it is called a secret: the rest are versions and paths.
fn learn_images(paths: &Paths, secrets: &mut Secrets) {
    let store = Store::new(paths.state());
    let references =
        store.list().unwrap_or_default().into_iter().filter_map(|image| image.references.into_iter().next());
    let details = references.filter_map(|reference| store.inspect(&reference.parse().ok()?).ok());
    for variable in details.flat_map(|details| details.config.config.env) {
        match variable.split_once('=') {
            Some((name, value)) if redact::is_secret_name(name) => secrets.learn(value),
            _ => {}
        }
    }
}

/// Environments and commands, wherever in a plan they are, and the files that it names.
fn learn_plan(value: &Value, secrets: &mut Secrets, named: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match (key.as_str(), value) {
                    ("environment", Value::Object(values)) => {
                        values.values().filter_map(Value::as_str).for_each(|value| secrets.learn(value));
                    }
                    ("environment_files", Value::Array(files)) => {
                        let paths = files.iter().filter_map(|file| file.get("path")?.as_str());
                        named.extend(paths.map(str::to_owned));
                    }
                    ("command" | "entrypoint", Value::Array(words)) => {
                        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                        redact::learn_command(&words, secrets);
                    }
                    // The unit's own text.
                    ("unit", Value::String(text)) => {
                        redact::learn_unit(text, secrets);
                        named.extend(redact::named_in_unit(text));
                    }
                    _ => learn_plan(value, secrets, named),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| learn_plan(value, secrets, named)),
        _ => {}
    }
}

fn versions(paths: &Paths) -> String {
    let uname = rustix::system::uname();
    let read = |path: &str| text(&paths.host(path)).unwrap_or_default();
    let mut text = format!("wharf {}\n", env!("CARGO_PKG_VERSION"));
    if paths.are_this_hosts() {
        let [kernel, version, machine] = [uname.release(), uname.version(), uname.machine()]
            .map(|text| text.to_string_lossy().into_owned());
        text.push_str(&format!("Linux {kernel} {version} {machine}\n"));
        let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        text.push_str(&format!("kernel's options: {}\n", redact::kernel_line(&line)));
    }
    let systemd = crate::host::HostFacts::read(paths).systemd;
    text.push_str(&format!(
        "systemd {}\n",
        systemd.map_or("unknown".to_owned(), |version| version.to_string())
    ));
    for line in read("/etc/os-release").lines() {
        if ["ID=", "VERSION_ID=", "PRETTY_NAME=", "VERSION_CODENAME="].iter().any(|key| line.starts_with(key))
        {
            text.push_str(&format!("{line}\n"));
        }
    }
    text
}

fn systemd(gathered: &mut Gathered) {
    const SHOWN: &str = "Id,LoadState,ActiveState,SubState,Result,NRestarts,MainPID,ExecMainCode,ExecMainStatus,\
        StateChangeTimestamp,FragmentPath,DropInPaths,NeedDaemonReload,StatusText,MemoryCurrent,TasksCurrent";
    let of = [
        "*-container.service",
        "*-container@*.service",
        "*-container.timer",
        "*-container.socket",
        "*-image.service",
        "wharf*",
    ];
    let show = [&["show", "--no-pager", "--all", "-p", SHOWN][..], &of].concat();
    gathered.program("systemd.txt", "systemctl", &show);
    gathered.program("systemd-version.txt", "systemctl", &["--version"]);
}

fn journal(gathered: &mut Gathered, names: &[String], sealed: &BTreeSet<String>) {
    const WAY: [&str; 8] = ["-q", "--no-pager", "--no-hostname", "-b", "-o", "short-iso", "-n", LINES];
    let own = ["-u", "wharf-*"];
    gathered.program("journal/wharf.txt", "journalctl", &[&WAY[..], &own].concat());
    gathered.program("journal/generator.txt", "journalctl", &[&WAY[..], &["-t", "wharf-generator"]].concat());
    for name in names.iter().take(CONTAINERS_MAX) {
        let Ok(container) = name.parse::<ContainerName>() else { continue };
        // Of a template, all of its instances.
        let unit =
            if container.is_template() { container.unit().replace("@.", "@*.") } else { container.unit() };
        let file = format!("journal/{name}.txt");
        let mut way = [&WAY[..], &["-u", &unit]].concat();
        // What systemd says, and Wharf of what failed, unless a check's last words are in it; a program's own words may
        // be anything.
        let kinds = KINDS.iter().filter(|(kind, _)| !matches!(kind, Kind::Late | Kind::Unhealthy));
        let failures: Vec<String> = kinds.map(|(_, id)| format!("MESSAGE_ID={id}")).collect();
        if sealed.contains(&template(&container.unit())) {
            way.extend(["_PID=1", "+"].into_iter().chain(failures.iter().map(String::as_str)));
            gathered.without(&file, "what the program said: it has credentials that can't be decrypted here");
        }
        gathered.program(&file, "journalctl", &way);
    }
    if let Some(more) = names.len().checked_sub(CONTAINERS_MAX).filter(|more| *more > 0) {
        gathered.without("journal", &format!("{more} more containers"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_templates() {
        for (pattern, name, is) in [
            ("web-%i.env", "web-blue.env", true),
            ("web-%i.env", "web.env", false),
            ("%i", "blue", true),
            ("%i-%i.env", "a-a.env", true),
            ("%i-%i.env", "aa.env", false),
            ("100%%-%i", "100%-blue", true),
            ("100%%-%i", "100-blue", false),
            // In a file that is no template's.
            ("100%", "100%", true),
            ("100%%", "100%%", true),
        ] {
            assert_eq!(fits(pattern, name), is, "{pattern} {name}");
        }
        let root = tempfile::tempdir().expect("a folder");
        for path in ["blue/env", "red/env", "red/other"] {
            let path = root.path().join("wharf").join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "").expect("written");
        }
        let found = every(&root.path().join("wharf/%i/env"));
        assert_eq!(found, ["blue", "red"].map(|name| root.path().join("wharf").join(name).join("env")));
        assert_eq!(every(Path::new("/a/b")), [Path::new("/a/b")]);
    }

    #[test]
    fn units_of_files() {
        for (path, unit) in [
            ("/run/systemd/generator/web-container.service", "web-container.service"),
            ("/etc/systemd/system/web-container.service.d/x.conf", "web-container.service"),
            ("/etc/systemd/system/web-container@blue.service.d/x.conf", "web-container@.service"),
        ] {
            assert_eq!(unit_of(Path::new(path)).as_deref(), Some(unit));
        }
    }
}
