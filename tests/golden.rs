//! Golden trees: container files in, units and plans out, or the findings that refuse them.
//!
//! ```text
//! tests/accept/CASE/{etc,run,usr}/…    the host's files     -> tests/accept/CASE/expected/…
//! tests/reject/CASE/{etc,run,usr}/…    the host's files     -> tests/reject/CASE/expected.txt
//! examples/*.toml                      as /etc/wharf/containers -> tests/accept/examples/expected/…
//!                                      and by `wharf plan`      -> tests/steps/examples/expected/NAME.txt
//! examples/three-tiers/*.toml          the same                 -> tests/{accept,steps}/three-tiers/expected/…
//!                                      and by `wharf graph`     -> examples/three-tiers.svg
//! tests/accept/{images,timers,sockets}/… and by `wharf plan`    -> tests/steps/CASE/expected/NAME.txt
//! tests/steps/CASE/{etc,run,usr}/…     the host's files     -> tests/steps/CASE/expected/NAME.txt
//! tests/graph/CASE/{etc,run,usr}/…     the host's files     -> tests/graph/CASE/expected/graph.{txt,dot,svg,json}
//! ```
//!
//! A file that says `-> TARGET` stands for a symbolic link.
//!
//! `WHARF_BLESS=1` writes what comes out as what is expected; read the difference before committing it.

#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// Folders of files that people start from: which, the case, and the containers whose plan is compared.
const EXAMPLES: [(&str, &str, &[&str]); 2] = [
    ("examples", "examples", &["nginx-sockets", "postgresql", "redis", "worker"]),
    ("examples/three-tiers", "three-tiers", &["nginx", "app", "db"]),
];

/// What the oldest systemd that this runs on doesn't know.
const NEWER: [&str; 6] = [
    "RestartSteps",
    "RestartMaxDelaySec",
    "notify-reload",
    "ReloadSignal",
    "DeferReactivation",
    "SurviveFinalKillSignal",
];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let verify = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !verify {
        eprintln!("systemd-analyze is not installed: units are compared, but systemd isn't asked about them");
    }
    let mut trials = vec![
        Trial::test("neighbours", neighbours),
        Trial::test("no arguments", no_arguments),
        Trial::test("broken settings", broken_settings),
        Trial::test("check a file", check_file),
        Trial::test("last good plan", move || last_good(verify)),
        Trial::test("refused containers keep what starts them", refused_starting),
    ];
    for (folder, case, names) in EXAMPLES {
        let root = move || -> Result<tempfile::TempDir, Failed> {
            let root = tempfile::tempdir()?;
            copy(&here(folder), &root.path().join("etc/wharf/containers"), Some("toml"));
            Ok(root)
        };
        trials.push(Trial::test(format!("accept/{case}"), move || {
            accept(root()?.path(), &here(&format!("tests/accept/{case}/expected")), verify)
        }));
        trials.push(Trial::test(format!("steps/{case}"), move || {
            steps(root()?.path(), &here(&format!("tests/steps/{case}/expected")), names)
        }));
    }
    for case in folders(&here("tests/accept")) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        if EXAMPLES.iter().all(|(_, case, _)| name != *case) {
            trials.push(Trial::test(format!("accept/{name}"), move || {
                let root = tempfile::tempdir()?;
                copy_root(&case, root.path());
                accept(root.path(), &case.join("expected"), verify)
            }));
        }
    }
    for case in folders(&here("tests/reject")) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        trials.push(Trial::test(format!("reject/{name}"), move || reject(&case)));
    }
    for case in folders(&here("tests/graph")) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        trials.push(Trial::test(format!("graph/{name}"), move || graph(&case)));
    }
    trials.push(Trial::test("graph/README", readme_picture));
    trials.push(Trial::test("steps/folder-and-instance", || {
        let root = tempfile::tempdir()?;
        let case = here("tests/steps/folder-and-instance");
        copy_root(&case, root.path());
        fs::create_dir_all(root.path().join("srv/blue"))?;
        steps(root.path(), &case.join("expected"), &["web@", "web@blue", "web@green", "folder"])
    }));
    trials.push(Trial::test("steps/apparmor", || {
        let root = tempfile::tempdir()?;
        let case = here("tests/steps/apparmor");
        copy_root(&case, root.path());
        fs::create_dir_all(root.path().join("srv/root"))?;
        steps(root.path(), &case.join("expected"), &["own", "free"])
    }));
    trials.push(Trial::test("steps/images", || {
        let root = tempfile::tempdir()?;
        // The same files as where units are compared.
        copy_root(&here("tests/accept/images"), root.path());
        steps(root.path(), &here("tests/steps/images/expected"), &["db", "web@blue"])
    }));
    trials.push(Trial::test("steps/health", || {
        let root = tempfile::tempdir()?;
        // The same files as where units are compared.
        copy_root(&here("tests/accept/health"), root.path());
        let names = ["by-http", "by-shell", "by-tcp", "by-image@", "instance@1"];
        steps(root.path(), &here("tests/steps/health/expected"), &names)
    }));
    for (case, name) in [("timers", "mirror@debian"), ("sockets", "redis")] {
        trials.push(Trial::test(format!("steps/{case}"), move || {
            let root = tempfile::tempdir()?;
            copy_root(&here(&format!("tests/accept/{case}")), root.path());
            steps(root.path(), &here(&format!("tests/steps/{case}/expected")), &[name])
        }));
    }
    trials.push(Trial::test("steps/networks", || {
        let root = tempfile::tempdir()?;
        let case = here("tests/steps/networks");
        copy_root(&case, root.path());
        let names = ["front", "app@", "app@blue", "app@green", "my_cache", "job"];
        steps(root.path(), &case.join("expected"), &names)
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn copy_root(case: &Path, root: &Path) {
    for top in ["etc", "run", "usr"] {
        copy(&case.join(top), &root.join(top), None);
    }
}

fn copy(from: &Path, to: &Path, only: Option<&str>) {
    let Ok(entries) = fs::read_dir(from) else { return };
    fs::create_dir_all(to).unwrap();
    for entry in entries.map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            symlink(fs::read_link(&path).unwrap(), to).unwrap();
        } else if kind.is_dir() {
            if only.is_none() {
                copy(&path, &to, None);
            }
        } else if only.is_none_or(|end| path.extension().is_some_and(|e| e == end)) {
            // As in what is expected: links don't survive every way that a tree is passed on.
            match fs::read_to_string(&path).ok().as_deref().and_then(|text| text.strip_prefix("-> ")) {
                Some(target) => symlink(target.trim_end(), to).unwrap(),
                None => drop(fs::copy(&path, to).unwrap()),
            }
        }
    }
}

fn generate(root: &Path, out: &Path) -> Result<(), Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_wharf-generator"))
        .args([out, out, out])
        .env("WHARF_ROOT", root)
        .output()?;
    if !output.status.success() || !output.stderr.is_empty() || !output.stdout.is_empty() {
        return Err(format!("the generator must be silent and succeed: {output:?}").into());
    }
    Ok(())
}

fn check(root: &Path) -> Result<(i32, String), Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_wharf")).args(["check", "--root"]).arg(root).output()?;
    Ok((output.status.code().unwrap_or(-1), String::from_utf8(output.stdout)?))
}

/// Every file of a tree by its path: text as it is, JSON laid out, links as where they lead.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.map(Result::unwrap) {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_symlink() {
                files.insert(name, format!("-> {}\n", fs::read_link(&path).unwrap().display()));
            } else if kind.is_dir() {
                folders.push(path);
            } else {
                let mut text = fs::read_to_string(&path).unwrap();
                if name.ends_with(".json") {
                    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                    text = serde_json::to_string_pretty(&value).unwrap() + "\n";
                }
                files.insert(name, text);
            }
        }
    }
    files
}

fn accept(root: &Path, expected: &Path, verify: bool) -> Result<(), Failed> {
    let out = tempfile::tempdir()?;
    generate(root, out.path())?;
    for (name, _) in tree(out.path()) {
        let mode = fs::symlink_metadata(out.path().join(&name))?.permissions().mode() & 0o777;
        if name.starts_with("wharf/") && mode != 0o600 {
            return Err(format!("{name} has mode {mode:o}, and may hold secrets").into());
        }
    }
    let mut made = tree(out.path());
    let (code, text) = check(root)?;
    if code != 0 {
        return Err(format!("wharf check ends with {code}:\n{text}").into());
    }
    made.insert("check.txt".into(), text);
    if verify {
        ask_systemd(&made)?;
    }
    // Once more into the same folder: the same bytes.
    generate(root, out.path())?;
    made.iter().filter(|(name, _)| *name != "check.txt").try_for_each(|(name, text)| {
        if tree(out.path()).get(name) == Some(text) { Ok(()) } else { Err(format!("{name} isn't stable")) }
    })?;
    compare(expected, &made)
}

/// What `wharf plan` says of some containers.
fn steps(root: &Path, expected: &Path, names: &[&str]) -> Result<(), Failed> {
    let mut made = BTreeMap::new();
    for name in names {
        let output =
            Command::new(env!("CARGO_BIN_EXE_wharf")).args(["plan", name, "--root"]).arg(root).output()?;
        if !output.status.success() {
            return Err(format!("wharf plan {name}: {output:?}").into());
        }
        // Where the root was is chance.
        let text = String::from_utf8(output.stdout)?.replace(&root.display().to_string(), "ROOT");
        made.insert(format!("{name}.txt"), text);
    }
    compare(expected, &made)
}

/// What `wharf graph` makes of all containers, in each form.
fn graph(case: &Path) -> Result<(), Failed> {
    let root = tempfile::tempdir()?;
    copy_root(case, root.path());
    let mut made = BTreeMap::new();
    for end in ["txt", "dot", "svg", "json"] {
        let file = root.path().join(format!("graph.{end}"));
        let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(["graph", "--root"])
            .args([root.path(), Path::new("--output"), &file])
            .output()?;
        if !output.status.success() || !output.stdout.is_empty() {
            return Err(format!("wharf graph: {output:?}").into());
        }
        let mut text = fs::read_to_string(&file)?;
        match end {
            "svg" => picture(&text)?,
            // Laid out as what it is compared with.
            "json" => {
                let value: serde_json::Value = serde_json::from_str(&text)?;
                text = serde_json::to_string_pretty(&value)? + "\n";
            }
            _ => {}
        }
        made.insert(format!("graph.{end}"), text);
    }
    compare(&case.join("expected"), &made)
}

/// The README's picture is what `wharf graph` makes of the files beside it.
fn readme_picture() -> Result<(), Failed> {
    let root = tempfile::tempdir()?;
    copy(&here("examples/three-tiers"), &root.path().join("etc/wharf/containers"), Some("toml"));
    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["graph", "--svg", "--root"])
        .arg(root.path())
        .output()?;
    let made = String::from_utf8(output.stdout)?;
    let kept = here("examples/three-tiers.svg");
    if std::env::var_os("WHARF_BLESS").is_some() {
        fs::write(&kept, &made)?;
    }
    if fs::read_to_string(&kept)? == made {
        Ok(())
    } else {
        Err("examples/three-tiers.svg is another".into())
    }
}

/// Whether a picture is well-formed, needs nothing from elsewhere, and keeps everything within its edges.
fn picture(text: &str) -> Result<(), Failed> {
    let document = roxmltree::Document::parse(text)?;
    let root = document.root_element();
    let number = |node: roxmltree::Node<'_, '_>, name: &str| -> f64 {
        node.attribute(name).and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
    };
    let (width, height) = (number(root, "width"), number(root, "height"));
    let inside = |node: &roxmltree::Node<'_, '_>| {
        let place = node.attribute("transform").and_then(|value| value.strip_prefix("translate("));
        let place = place.and_then(|value| value.strip_suffix(')')?.split_once(' '));
        place.is_none_or(|(x, y)| {
            let (x, y): (f64, f64) = (x.parse().unwrap_or(f64::NAN), y.parse().unwrap_or(f64::NAN));
            x >= 0.0 && y >= 0.0 && x < width && y < height
        })
    };
    for (holds, what) in [
        (root.children().any(|child| child.has_tag_name("title")), "it has a title"),
        (root.children().any(|child| child.has_tag_name("desc")), "it has a description"),
        (!text.contains("href") && !text.contains("url("), "it fetches nothing"),
        (document.descendants().all(|node| inside(&node)), "everything is within its edges"),
    ] {
        if !holds {
            return Err(format!("not so: {what}\n{text}").into());
        }
    }
    Ok(())
}

fn compare(expected: &Path, made: &BTreeMap<String, String>) -> Result<(), Failed> {
    if std::env::var_os("WHARF_BLESS").is_some() {
        let _ = fs::remove_dir_all(expected);
        for (name, text) in made {
            // A link is kept as a file that says where it leads, which shows in a difference.
            let path = expected.join(name);
            fs::create_dir_all(path.parent().unwrap())?;
            fs::write(path, text)?;
        }
        return Ok(());
    }
    let expected_tree = tree(expected);
    let names: std::collections::BTreeSet<_> = expected_tree.keys().chain(made.keys()).collect();
    let mut differences = String::new();
    for name in names {
        let none = "(no such file)\n".to_owned();
        let (want, got) = (expected_tree.get(name).unwrap_or(&none), made.get(name).unwrap_or(&none));
        if want != got {
            differences.push_str(&format!("--- {name}, expected:\n{want}--- {name}, made:\n{got}"));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.into()) }
}

/// The consumer's word on the units. Wharf isn't installed where tests run, so another program stands in its
/// place.
fn ask_systemd(made: &BTreeMap<String, String>) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mut units = Vec::new();
    for (name, text) in made {
        let is_unit = [".service", ".socket", ".timer"].iter().any(|end| name.ends_with(end));
        if is_unit && !name.contains('/') {
            // What follows a colon in an argument is the name that it is to load a file by.
            let (file, alias) = match name.contains(':') {
                true => (format!("{}-image.service", units.len()), format!(":{name}")),
                false => (name.clone(), String::new()),
            };
            let path = folder.path().join(file);
            let text = text.replace("/usr/libexec/wharf/wharf-executor", "/bin/true");
            fs::write(&path, text.replace("/usr/bin/wharf ", "/bin/true "))?;
            units.push(format!("{}{alias}", path.display()));
        }
    }
    if units.is_empty() {
        return Ok(());
    }
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // It reads the host's own units too and complains about those; only ours matter. Settings that this
    // systemd is too old for are in cases with a newer one's facts.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| {
            // The last is said where it can't take in its arguments, and then it looks at none.
            ["-container", "-image.service", "Couldn't process"].iter().any(|ours| line.contains(ours))
                && !NEWER.iter().any(|setting| line.contains(setting))
        })
        .collect();
    if ours.is_empty() { Ok(()) } else { Err(format!("systemd-analyze verify:\n{}", ours.join("\n")).into()) }
}

fn reject(case: &Path) -> Result<(), Failed> {
    let root = tempfile::tempdir()?;
    copy_root(case, root.path());
    let (code, text) = check(root.path())?;
    if code != 1 {
        return Err(format!("wharf check ends with {code}:\n{text}").into());
    }
    // The generator never fails, and never leaves a declared container without a unit.
    let out = tempfile::tempdir()?;
    generate(root.path(), out.path())?;
    let expected = case.join("expected.txt");
    if std::env::var_os("WHARF_BLESS").is_some() {
        fs::write(&expected, &text)?;
        return Ok(());
    }
    let want = fs::read_to_string(&expected).unwrap_or_else(|_| "(no such file)\n".into());
    if want == text { Ok(()) } else { Err(format!("--- expected:\n{want}--- made:\n{text}").into()) }
}

/// Whatever lies beside it, a good file has the same output.
fn neighbours() -> Result<(), Failed> {
    let root = tempfile::tempdir()?;
    let containers = root.path().join("etc/wharf/containers");
    fs::create_dir_all(&containers)?;
    fs::write(containers.join("good.toml"), "image = \"x\"\nnetwork = \"none\"\n")?;
    let alone = tempfile::tempdir()?;
    generate(root.path(), alone.path())?;
    let deep = format!("a = {}", "[".repeat(10_000));
    let long = format!("image = \"{}\"", "x".repeat(100_000));
    let bad: [&[u8]; 9] = [
        b"\xff\xfe",
        b"image",
        b"[",
        b"= = =\n\0\0\0",
        b"image = \"x\"\nimage = \"y\"",
        deep.as_bytes(),
        long.as_bytes(),
        "description = \"\\u001b[2J\"\n[mounts.\"/a\\nb\"]\nbind = \"\\n\"".as_bytes(),
        "\u{feff}\u{202e}".as_bytes(),
    ];
    for (index, text) in bad.iter().enumerate() {
        fs::write(containers.join(format!("bad{index}.toml")), text)?;
    }
    for index in 0..100 {
        fs::write(containers.join(format!("many{index}.toml")), "image = 1")?;
    }
    fs::create_dir(containers.join("folder.toml"))?;
    symlink("loop.toml", containers.join("loop.toml"))?;
    let crowd = tempfile::tempdir()?;
    generate(root.path(), crowd.path())?;
    let (alone, crowd) = (tree(alone.path()), tree(crowd.path()));
    for (name, text) in &alone {
        if crowd.get(name) != Some(text) {
            return Err(format!("{name} changed with its neighbours").into());
        }
    }
    let units = crowd.keys().filter(|name| name.ends_with(".service") && !name.contains('/')).count();
    if units != 1 + 9 + 100 + 2 {
        return Err(format!("{units} units").into());
    }
    Ok(())
}

/// A broken wharf.toml costs no container its unit, nor one that has an alias its image's.
fn broken_settings() -> Result<(), Failed> {
    let root = tempfile::tempdir()?;
    let at = |path: &str| root.path().join("etc/wharf").join(path);
    fs::create_dir_all(at("containers"))?;
    fs::write(at("containers/x.toml"), "image = \"nginx:1.26\"\nnetwork = \"none\"\n")?;
    let aliases = "[aliases]\nnginx = \"docker.io/library/nginx\"\n";
    fs::write(at("wharf.toml"), aliases)?;
    let good = tempfile::tempdir()?;
    generate(root.path(), good.path())?;
    fs::write(at("wharf.toml"), format!("{aliases}[unpack]\nratio = 0\n[trsut]\n"))?;
    let bad = tempfile::tempdir()?;
    generate(root.path(), bad.path())?;
    if tree(good.path()) != tree(bad.path()) || !good.path().join("nginx:1.26-image.service").exists() {
        return Err(format!("{:?}\n{:?}", tree(good.path()), tree(bad.path())).into());
    }
    let report = fs::read_to_string(root.path().join("run/wharf/findings.json"))?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    if report["errors"] == 2 { Ok(()) } else { Err(format!("{report}").into()) }
}

fn no_arguments() -> Result<(), Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_wharf-generator")).output()?;
    if output.status.code() == Some(2) { Ok(()) } else { Err(format!("{output:?}").into()) }
}

/// A container that ran since boot goes on with what it ran with, and says so everywhere.
fn last_good(verify: bool) -> Result<(), Failed> {
    let root = tempfile::tempdir()?;
    let file = root.path().join("etc/wharf/containers/x.toml");
    fs::create_dir_all(file.parent().unwrap())?;
    fs::write(&file, "image = \"a.example/x\"\nnetwork = \"none\"\ndescription = \"A page\"\n")?;
    let first = tempfile::tempdir()?;
    generate(root.path(), first.path())?;
    let kept = root.path().join("run/wharf/last-good");
    fs::create_dir_all(&kept)?;
    fs::copy(first.path().join("wharf/x.json"), kept.join("x.json"))?;
    fs::write(&file, "image = \"a.example/x\"\nnetwork = \"none\"\nmemroy = 1\n")?;
    let second = tempfile::tempdir()?;
    generate(root.path(), second.path())?;
    let (before, after) = (tree(first.path()), tree(second.path()));
    let loud =
        "Description=A page (RUNS ITS LAST GOOD PLAN: x.toml:3:1: `memroy` is not a key of a container";
    let unit = &after["x-container.service"];
    let rest = |unit: &str| unit.lines().filter(|line| !line.starts_with("Description")).collect::<String>();
    let plan: serde_json::Value = serde_json::from_str(&after["wharf/x.json"])?;
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root.path().join("run/wharf/findings.json"))?)?;
    let (code, said) = check(root.path())?;
    for (holds, what) in [
        (unit.contains(loud), "the unit says so"),
        (rest(unit) == rest(&before["x-container.service"]), "the rest of the unit is as it was"),
        (
            plan["outdated"].as_str().is_some_and(|text| text.contains("3 | memroy = 1")),
            "the plan has the findings",
        ),
        (report["findings"][0]["line"] == 3, "findings.json has the line"),
        (code == 1 && said.contains("x runs its last good plan"), "wharf check says so"),
        (
            after.get("a.example-x:latest-image.service") == before.get("a.example-x:latest-image.service")
                && after.contains_key("wharf/images/a.example-x:latest.json"),
            "its image can still be fetched",
        ),
        (after.contains_key("multi-user.target.wants/x-container.service"), "boot starts it"),
    ] {
        if !holds {
            return Err(format!("not so: {what}\n{unit}\n{report}\n{said}").into());
        }
    }
    if verify { ask_systemd(&after) } else { Ok(()) }
}

/// A file with mistakes has its timer and sockets as far as it can be read, so that they are there when it is put
/// right; what can't be read never comes.
fn refused_starting() -> Result<(), Failed> {
    let root = tempfile::tempdir()?;
    let containers = root.path().join("etc/wharf/containers");
    fs::create_dir_all(&containers)?;
    for (name, text) in [
        ("job", "image = \"x\"\nimge = 1\ntimer.on-calendar = \"03:00\"\n"),
        ("never", "image = \"x\"\ntimer.on-calendar = \"at three\"\n"),
        ("web", "image = \"x\"\nimge = 1\nsocket.listen = [\"80\"]\n"),
        ("deaf", "image = \"x\"\nsocket.listen = [\"x\"]\n"),
        ("db", "image = \"x\"\nimge = 1\nstop.signal = \"INT\"\nhealth.tcp = \"x\"\n"),
        ("says", "image = \"x\"\nimge = 1\nready = \"notify\"\n"),
    ] {
        fs::write(containers.join(format!("{name}.toml")), text)?;
    }
    let out = tempfile::tempdir()?;
    generate(root.path(), out.path())?;
    let made = tree(out.path());
    let holds = |file: &str, text: &str| made.get(file).is_some_and(|made| made.contains(text));
    for (holds, what) in [
        (holds("job-container.timer", "\nOnCalendar=03:00\n"), "the timer of a refused job elapses"),
        (holds("job-container.service", "\nType=oneshot\n"), "and starts a job"),
        (holds("never-container.timer", "\nOnCalendar=2199-12-31\n"), "one without a time waits"),
        (holds("timers.target.wants/never-container.timer", "-> ../never"), "and is there"),
        (holds("web-container.socket", "\nListenStream=80\n"), "the sockets of a refused service listen"),
        (holds("sockets.target.wants/web-container.socket", "-> ../web"), "also after a boot"),
        (!made.contains_key("deaf-container.socket"), "where nothing can be listened at nothing is"),
        (made.contains_key("multi-user.target.wants/deaf-container.service"), "and boot says why"),
        (holds("db-container.service", "\nKillSignal=SIGINT\n"), "what runs is stopped as it was to be"),
        (holds("db-container.service", "\nWatchdogSignal=SIGRTMIN+30\n"), "by its init, too"),
        (holds("db-container.service", "\nSuccessExitStatus=129 130 141 143\n"), "which may end well"),
        (holds("says-container.service", "\nWatchdogSignal=SIGKILL\n"), "and a program that hangs is killed"),
    ] {
        if !holds {
            return Err(format!("not so: {what}\n{made:#?}").into());
        }
    }
    Ok(())
}

/// `wharf check FILE` anywhere: with its drop-ins, by the paths it was given.
fn check_file() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("x.toml.d"))?;
    fs::write(folder.path().join("x.toml"), "image = \"x\"\nnetwork = \"none\"\n")?;
    fs::write(folder.path().join("x.toml.d/a.toml"), "imge = 1\n")?;
    for (arguments, code, says) in [
        (&["x.toml"][..], 1, "\"x.toml.d/a.toml\""),
        (&["x.toml.d/a.toml"], 1, "\"x.toml.d/a.toml\""),
        (&["gone.toml"], 1, "\"gone.toml\""),
        (&["./README"], 2, ""),
        (&["README.md"], 1, ""),
        (&["./x"], 2, ""),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(["check", "--json"])
            .args(arguments)
            .current_dir(folder.path())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.code() != Some(code) || !said.contains(says) {
            return Err(format!("{arguments:?}: {output:?}").into());
        }
    }
    Ok(())
}
