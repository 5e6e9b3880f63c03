//! The commands that explain container files: check, plan, keys, and what the README shows.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{parts, root_with, under, wharf};

const CONTAINERS: &str = "etc/wharf/containers";

fn put(root: &Path, name: &str, text: &str) {
    let path = root.join(CONTAINERS).join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// As systemd calls it at a reload.
fn reload(root: &Path) {
    let out = root.join("run/systemd/generator");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir_all(&out).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_wharf-generator"))
        .args([&out, &out, &out])
        .env("WHARF_ROOT", root)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn check_takes_names_and_files() {
    let root = root_with(&["nginx", "web@"]);
    put(root.path(), "bad.toml", "image = \"x\"\nnetwork = \"none\"\nmemroy = 1\n");
    put(root.path(), "off.toml", "");
    let file = root.path().join(CONTAINERS).join("bad.toml");
    for (target, code, says) in [
        ("nginx", 0, "1 container checked: nothing to say"),
        ("web@blue", 0, "1 container checked"),
        ("bad", 1, "--> /etc/wharf/containers/bad.toml:3:1"),
        (file.to_str().unwrap(), 1, "--> /etc/wharf/containers/bad.toml:3:1"),
        ("off", 0, "there is no container off"),
    ] {
        let (status, out, err) = under(root.path(), &["check", target]);
        assert_eq!((status, err.as_str()), (code, ""), "{target}");
        assert!(out.contains(says), "{target}: {out}");
    }
    put(root.path(), "container.toml", "image = \"x\"\n");
    let odd = root.path().join(CONTAINERS).join("container.toml");
    let (code, _, err) = under(root.path(), &["check", odd.to_str().unwrap()]);
    assert!(
        code == 2 && err.contains("container.toml.d is for the drop-ins of all containers"),
        "{code} {err}"
    );
    let (code, out, err) = under(root.path(), &["check", "ngnix"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(err, "error: no container `ngnix` is declared; did you mean `nginx`?\n");
}

#[test]
fn folders_of_drop_ins_that_cant_be_read() {
    let root = root_with(&["web", "app@"]);
    let at = |name: &str| root.path().join(CONTAINERS).join(name);
    std::os::unix::fs::symlink("/nowhere", at("web.toml.d")).unwrap();
    fs::write(at("app@blue.toml.d"), "").unwrap();
    for (args, exit, says) in [
        (&["check"][..], 1, "containers/web.toml.d"),
        (&["check", "web"], 1, "containers/web.toml.d"),
        (&["check", "app@blue"], 1, "containers/app@blue.toml.d"),
        (&["plan", "web"], 1, "containers/web.toml.d"),
        // It shows what is wrong, and that was done.
        (&["inspect", "web"], 0, "containers/web.toml.d"),
    ] {
        let (code, out, err) = under(root.path(), args);
        let said = out + &err;
        assert_eq!(code, exit, "{args:?}: {said}");
        assert!(said.contains(says) && said.contains("can't be read"), "{args:?}: {said}");
    }
    let (code, out, _) = under(root.path(), &["check", "app@red"]);
    assert_eq!(code, 0, "{out}");
    reload(root.path());
    assert!(root.path().join("run/systemd/generator/wharf/web.findings").exists());
    // One for all is of all.
    fs::write(at("container.toml.d"), "").unwrap();
    let (code, out, _) = under(root.path(), &["check", "app@red"]);
    assert!(code == 1 && out.contains("container.toml.d"), "{out}");
}

#[test]
fn drop_ins_with_another_end() {
    let root = root_with(&["web"]);
    put(root.path(), "web.toml.d/1.conf", "[limits]\nmemory = \"1G\"\n");
    put(root.path(), "web.toml.d/notes.txt", "what this is\n");
    put(root.path(), "b.conf", "image = \"b\"\n");
    for (target, says) in [
        ("web", "rename it to 1.toml"),
        ("", "if it is a drop-in"),
        ("", "if it is a container, rename it to b.toml"),
    ] {
        let args = if target.is_empty() { vec!["check"] } else { vec!["check", target] };
        let (code, out, _) = under(root.path(), &args);
        assert!(code == 0 && out.contains("is not read") && out.contains(says), "{out}");
        assert!(!out.contains("notes"), "{out}");
    }
}

#[test]
fn what_is_trusted_by_its_digest_has_one() {
    let root = root_with(&["web"]);
    put(root.path(), "../wharf.toml", "trust.policy = \"digest\"\n");
    for args in [&["check"][..], &["check", "web"]] {
        let (code, out, _) = under(root.path(), args);
        assert!(code == 1 && out.contains("nginx:1.26 is not pinned to a digest"), "{args:?}: {out}");
        assert!(out.contains("web.toml:1:9"), "{out}");
    }
    let image =
        format!("image = \"nginx:1.26\"\nfrom = \"/srv/x.tar\"\ndigest = \"sha256:{}\"\n", "a".repeat(64));
    put(root.path(), "../images/nginx.toml", &image);
    assert_eq!(under(root.path(), &["check", "web"]).0, 0);
    assert_eq!(under(root.path(), &["check"]).0, 0);
}

#[test]
fn a_template_shares_no_volume() {
    let root = root_with(&[]);
    let text = "image = \"a\"\nsnapshot = true\nmounts.\"/data\" = { volume = \"data\" }\n";
    put(root.path(), "a@.toml", text);
    put(root.path(), "a@b.toml.d/1.toml", "description = \"b\"\n");
    let (_, out, _) = under(root.path(), &["check"]);
    assert!(!out.contains("alone"), "{out}");
    put(root.path(), "c.toml", text);
    let (_, out, _) = under(root.path(), &["check"]);
    assert!(
        out.contains("updates of c are refused while a@b runs") && !out.contains("while a@ runs"),
        "{out}"
    );
}

#[test]
fn check_takes_images_and_settings() {
    let root = root_with(&[]);
    let write = |path: &str, text: &str| {
        let path = root.path().join("etc/wharf").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("images/x.toml", "image = \"x:1\"\nfrom = \"short:1\"\n");
    write("images/off.toml", "");
    write("images/y.toml", "image = \"y:1\"\n");
    write("images/y.toml.d/10.toml", "form = \"/srv/y.tar\"\n");
    write("wharf.toml.d/10.toml", "[aliases]\nshort = \"library/short\"\n");
    let check = |target: &str| {
        let target = root.path().join(target);
        let (code, out, err) = under(root.path(), &["check", target.to_str().unwrap()]);
        assert_eq!(err, "");
        (code, out)
    };
    for (target, code, says) in [
        ("etc/wharf/images/x.toml", 1, "`short:1` names no registry"),
        ("etc/wharf/images/y.toml.d/10.toml", 1, "--> /etc/wharf/images/y.toml.d/10.toml:1:1"),
        ("etc/wharf/images/off.toml", 0, "there is no image off"),
        ("etc/wharf/wharf.toml", 1, "the alias `short` names no registry"),
        ("etc/wharf/wharf.toml.d/10.toml", 1, "wharf.toml checked: 1 error"),
    ] {
        let (status, out) = check(target);
        assert_eq!(status, code, "{target}: {out}");
        assert!(out.contains(says), "{target}: {out}");
    }
    // Mended, the alias holds for the image.
    write("wharf.toml.d/10.toml", "[aliases]\nshort = \"docker.io/library/short\"\n");
    assert_eq!(check("etc/wharf/images/x.toml"), (0, "1 image checked: nothing to say\n".to_owned()));
    let (code, out, _) = under(root.path(), &["check"]);
    assert!(code == 1 && out.ends_with("2 images and wharf.toml checked: 2 errors, 1 note\n"), "{out}");
    // A file elsewhere is checked with what lies beside it.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wharf.toml");
    std::fs::write(&file, "[unpack]\nratio = 0\n").unwrap();
    let (code, out, _) = under(root.path(), &["check", file.to_str().unwrap()]);
    assert!(code == 1 && out.contains("at least 1") && !out.contains("short"), "{out}");
}

#[test]
fn check_takes_files_for_others() {
    let root = root_with(&["nginx"]);
    put(root.path(), "app.toml", "image = \"app:1\"\nlinks = [\"db\"]\n");
    put(root.path(), "db.toml", "image = \"db:1\"\n");
    put(root.path(), "odd.toml", "image = \"x:1\"\nodd = 1\n");
    let folder = tempfile::tempdir().unwrap();
    let new = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let good = new("a", "image = \"new:1\"\nlinks = [\"db\"]\n");
    let bad = new("b", "image = \"new:1\"\nmemroy = 1\n");
    let lost = new("c", "image = \"new:1\"\nlinks = [\"nobody\"]\n");
    let linked = new("d", "image = \"new:1\"\nlinks = [\"new\"]\n");
    let settings = new("e", "[aliases]\nweb = \"short\"\n");
    let drop_in = new("f", "limits.memory = \"much\"\n");
    let image = new("g", "image = \"docker.io/library/x:1\"\n");
    let at = |name: &str| format!("/etc/wharf/{name}");
    let check = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().flat_map(|(place, file)| ["--as".to_owned(), at(place), (*file).to_owned()]);
        let arguments: Vec<String> = ["check".to_owned()].into_iter().chain(pairs).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        under(root.path(), &arguments)
    };
    for (pairs, code, says) in [
        // A file that isn't there yet, among its neighbours; what was wrong before is none of its business.
        (&[("containers/new.toml", &*good)][..], 0, "1 container checked: nothing to say"),
        (&[("containers/new.toml", &bad)], 1, "--> /etc/wharf/containers/new.toml:2:1"),
        (&[("containers/db.toml", &bad)], 1, "--> /etc/wharf/containers/db.toml:2:1"),
        (&[("containers/new.toml", &lost)], 1, "nobody"),
        // Two that need each other's being there.
        (&[("containers/new.toml", &good), ("containers/newer.toml", &linked)], 0, "2 containers checked"),
        (&[("containers/newer.toml", &linked)], 1, "--> /etc/wharf/containers/newer.toml:2:10"),
        // One that others would miss; and drop-ins, of one and of all.
        (&[("containers/db.toml", "/dev/null")], 1, "--> /etc/wharf/containers/app.toml:2:10"),
        (&[("containers/nginx.toml", "/dev/null")], 0, "there is no container nginx"),
        (
            &[("containers/db.toml.d/10.toml", &drop_in)],
            1,
            "--> /etc/wharf/containers/db.toml.d/10.toml:1:17",
        ),
        (&[("containers/container.toml.d/10.toml", &drop_in)], 1, "containers/container.toml.d/10.toml:1:17"),
        (&[("images/x.toml", &image)], 0, "1 image checked"),
        (&[("images/x.toml.d/10.toml", &drop_in)], 0, "there is no x.toml"),
        (
            &[("images/x.toml", &image), ("images/x.toml.d/10.toml", &drop_in)],
            1,
            "images/x.toml.d/10.toml:1:1",
        ),
        (&[("wharf.toml", &settings)], 1, "--> /etc/wharf/wharf.toml:2:7"),
        (&[("wharf.toml.d/10.toml", &settings)], 1, "--> /etc/wharf/wharf.toml.d/10.toml:2:7"),
    ] {
        let (status, out, err) = check(pairs);
        assert_eq!((status, err.as_str()), (code, ""), "{pairs:?}: {out}");
        assert!(out.contains(says) && !out.contains("odd.toml"), "{pairs:?}: {out}");
    }
    for (pairs, code, says) in [
        (&[("x.toml", &*good)][..], 2, "no file of Wharf's is in this place"),
        (&[("containers/x.conf", &good)], 2, "no file of Wharf's is in this place"),
        (&[("containers/x.toml", "/nowhere/x")], 1, "can't read /nowhere/x"),
    ] {
        let (status, out, err) = check(pairs);
        assert_eq!((status, out.as_str()), (code, ""), "{pairs:?}: {err}");
        assert!(err.contains(says), "{pairs:?}: {err}");
    }
    let (code, _, err) = under(root.path(), &["check", "--as", "/etc/wharf/wharf.toml"]);
    assert!(code == 2 && err.contains("there are 0 and 1"), "{code} {err}");
    assert!(!root.path().join(CONTAINERS).join("new.toml").exists());
}

#[test]
fn plan_shows_the_files_as_they_are_now() {
    let root = root_with(&["nginx"]);
    let due = "systemctl daemon-reload is due";
    let plan = || under(root.path(), &["plan", "nginx"]);
    // No generator ever ran here: there is nothing to compare with.
    assert!(!plan().1.contains(due));
    reload(root.path());
    assert!(!plan().1.contains(due));
    put(root.path(), "nginx.toml.d/10-memory.toml", "limits.memory = \"64M\"\n");
    let (code, out, _) = plan();
    assert_eq!(code, 0);
    assert!(
        out.contains(due) && out.contains("\nMemoryMax=64M\n") && out.contains("10-memory.toml"),
        "{out}"
    );
    let (_, json, _) = under(root.path(), &["plan", "nginx", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["reload_due"], true);
    assert_eq!(json["unit_name"], "nginx-container.service");
    assert!(json["incomplete"].as_str().unwrap().contains("is not in the store"));
    assert!(json["steps"]["host"].as_array().unwrap().len() > 5);
    assert_eq!(json["container"]["limits"]["memory"], "64M");
    reload(root.path());
    assert!(!plan().1.contains(due));
    put(root.path(), "nginx.toml", "image = 3\n");
    let (code, out, err) = plan();
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("--> /etc/wharf/containers/nginx.toml:1:9"), "{err}");
    let (code, out, err) = under(root.path(), &["plan", "nginx", "--json"]);
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["errors"].as_u64() > Some(0), "{out}");
}

#[test]
fn plan_knows_the_image_when_the_store_has_it() {
    let root = root_with(&["nginx"]);
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("etc")).unwrap();
    let tar = Command::new("tar").args(["-C", tree.path().to_str().unwrap(), "-c", "."]).output().unwrap();
    let mut import = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["image", "import", "-", "--name", "nginx:1.26", "--command", "/bin/web", "--user", "www"])
        .env("WHARF_ROOT", root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut import.stdin.take().unwrap(), &tar.stdout).unwrap();
    let (code, out, err) = parts(&import.wait_with_output().unwrap());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let (code, out, _) = under(root.path(), &["plan", "nginx"]);
    assert_eq!(code, 0);
    let layer = root.path().join("var/lib/wharf/layers");
    for text in [&format!(". layer 0: {}/", layer.display()), ". find user www", ". run [\"/bin/web\"]"] {
        assert!(out.contains(text), "{text}: {out}");
    }
    assert!(!out.contains("the image's"), "{out}");
    // What can't be removed is said on stderr, and the rest is removed.
    let (code, out, err) = under(root.path(), &["image", "remove", "other", "nginx:1.26"]);
    assert_eq!(code, 1);
    assert!(out.starts_with("removed nginx:1.26\n"), "{out}");
    assert!(err.starts_with("error: image other") && err.lines().count() == 1, "{err}");
}

#[test]
fn ps_says_what_the_generator_made_of_files() {
    let root = root_with(&["good"]);
    put(root.path(), "bad.toml", "imgae = 1\n");
    reload(root.path());
    put(root.path(), "new.toml", "image = \"x\"\n");
    let (_, json, _) = under(root.path(), &["ps", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rows: Vec<_> = rows.as_array().unwrap().iter().map(|row| (&row["name"], &row["problem"])).collect();
    let json: Vec<_> = [("bad", Some("bad-file")), ("good", None), ("new", Some("reload-due"))]
        .map(|row| serde_json::json!(row))
        .into();
    assert_eq!(rows.iter().map(|row| serde_json::json!(row)).collect::<Vec<_>>(), json);
    let (_, out, _) = under(root.path(), &["ps"]);
    assert!(out.contains("[bad file]") && out.contains("[new, needs daemon-reload]"), "{out}");
}

#[test]
fn keys_are_the_table() {
    let (code, all, _) = parts(&wharf(&["keys"]));
    assert_eq!(code, 0);
    let keys = || wharf::spec::keys::ALL.into_iter().flat_map(|vocabulary| vocabulary.keys);
    for key in keys() {
        assert!(all.contains(key.example) && all.contains(&format!("{}: ", key.path)), "{}", key.path);
    }
    let (_, stop, _) = parts(&wharf(&["keys", "stop"]));
    assert!(stop.contains("stop.signal: ") && !stop.contains("image: "), "{stop}");
    let (code, _, err) = parts(&wharf(&["keys", "memroy"]));
    assert_eq!(code, 1);
    assert!(err.starts_with("error: `memroy` is not a key"), "{err}");
    let (_, json, _) = parts(&wharf(&["keys", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), keys().count());
}

/// Whoever copies the README's first example must not be told that it is wrong.
#[test]
fn the_readme_is_right() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut blocks = readme.split("\n```toml\n").skip(1).map(|rest| rest.split("\n```\n").next().unwrap());
    let example = blocks.next().expect("a container file in the README");
    assert!(example.starts_with("# /etc/wharf/containers/nginx.toml\n"), "{example}");
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "nginx.toml", example);
    let mut roots = vec![root];
    let mut containers = 1;
    for block in blocks {
        let name = block.lines().next().and_then(|line| line.strip_prefix("# /etc/wharf/"));
        let name = name.expect("each says its path in its first line");
        let name = name.split([' ', ':']).next().unwrap();
        containers += u32::from(name.starts_with("containers/") && !name.contains(".d/"));
        // Another example of the same name begins another tree.
        let at = |root: &tempfile::TempDir| root.path().join("etc/wharf").join(name);
        if !roots.iter().any(|root| !at(root).exists()) {
            roots.push(tempfile::tempdir().unwrap());
        }
        let path = roots.iter().map(at).find(|path| !path.exists()).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, block).unwrap();
    }
    let mut checked = 0;
    for root in &roots {
        let (code, out, _) = under(root.path(), &["check"]);
        assert_eq!(code, 0, "{out}");
        assert!(out.ends_with(" checked: nothing to say\n"), "{out}");
        checked += out.split(' ').next().unwrap().parse::<u32>().unwrap();
    }
    assert_eq!(checked, containers);
    // Whatever is named as a command is one.
    for (at, _) in readme.match_indices("`wharf ") {
        let word =
            readme[at..].split_whitespace().nth(1).unwrap().trim_matches(|c: char| !c.is_alphanumeric());
        let (code, _, err) = parts(&wharf(&[word, "--help"]));
        assert!(code == 0 || readme[at..].starts_with("`wharf exec"), "wharf {word}: {err}");
    }
}
