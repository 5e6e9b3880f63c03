//! `wharf doctor`: its lines, its JSON, and that no report has a secret in it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use base64::Engine;

use super::{parts, root_with, under};

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Every file of an archive, with its name.
fn unpack(archive: &Path) -> Vec<(String, String)> {
    let bytes = flate2::read::GzDecoder::new(fs::File::open(archive).unwrap());
    let mut files = Vec::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        assert_eq!(entry.header().mode().unwrap() & 0o7777, 0o600, "{name}");
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.push((name, text));
    }
    files
}

#[test]
fn another_root_is_its_files() {
    let root = root_with(&["web"]);
    let (code, out, err) = under(root.path(), &["doctor"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    for line in [
        "error    generator        wharf-generator is in none of systemd's folders, so that no unit is made\n",
        "ok       files            1 container checked: nothing wrong\n",
        "error    images           nginx:1.26 is not in the store, and nothing fetches it: web can't start\n",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    // Of this host's kernel and systemd it says nothing.
    assert!(!out.contains("kernel") && !out.contains("cgroups"), "{out}");
    let (code, out, err) = under(root.path(), &["doctor", "--json"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(said["report"], serde_json::Value::Null);
    let checks = said["checks"].as_array().unwrap();
    let number = |state: &str| checks.iter().filter(|check| check["state"] == state).count();
    for (key, state) in [("errors", "error"), ("warnings", "warning"), ("notes", "note")] {
        assert_eq!(said[key], number(state), "{said}");
    }
    for check in checks {
        assert_eq!(check["hint"].is_null(), check["state"] == "ok", "{check}");
    }
}

#[test]
fn an_installed_tree_without_mistakes_is_0() {
    let root = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let install = Command::new(here.join("packaging/install"))
        .arg("--destdir")
        .arg(root.path())
        .arg("--profile-dir")
        .arg(Path::new(env!("CARGO_BIN_EXE_wharf")).parent().unwrap())
        .output()
        .unwrap();
    assert!(install.status.success(), "{install:?}");
    let (code, out, err) = under(root.path(), &["doctor"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.ends_with("looked at: nothing to say\n"), "{out}");
    // What goes wrong with it has a name.
    put(root.path(), "etc/wharf/containers/web.toml", "imgae = 1\n");
    fs::remove_file(root.path().join("usr/lib/systemd/system/wharf-network.socket")).unwrap();
    let (code, out, _) = under(root.path(), &["doctor"]);
    assert_eq!(code, 1);
    assert!(out.contains("errors in /etc/wharf/containers/web.toml\n"), "{out}");
    assert!(out.contains("warning  static units     missing: wharf-network.socket\n"), "{out}");
}

/// Secrets of every kind, in every place that anybody has for them. Each has `zq9` in it, and nothing else has.
fn plant(root: &Path) {
    put(
        root,
        "etc/wharf/containers/web.toml",
        r#"# the old one was zq9comment
image = "web:1"
description = "token=zq9description of https://me:zq9login@x.example/?q=zq9query"
command = ["/bin/web", "--listen", "80", "--password=zq9option", "--token", "zq9following", "-pzq9attached", "zq9word"]
environment-files = ["/etc/wharf/web.env", "-/etc/wharf/none.env"]
passphrase = "zq9unknown"
[environment]
PASSWORD = "zq9environment"
URL = "postgresql://app:zq9inside@db/app"
MANY = """
zq9first
zq9second
"""
[enviroment]
PASSWORD = "zq9mistyped"
[health]
command = "TOKEN=zq9shell curl -u me:zq9curl http://localhost"
[reload]
command = ["web", "reload", "zq9reload"]
[systemd.Service]
Environment = ["A=zq9unit", "B=zq9more"]
SetCredential = "a:zq9credential"
LoadCredential = "b:/etc/credstore/b"
ExecStartPre = "/bin/curl --header zq9header"
TimeoutStopSec = 20
"#,
    );
    put(root, "etc/wharf/containers/web.toml.d/50-x.toml", "environment.OTHER = \"zq9dropin\"\nimage = 5\n");
    put(root, "etc/wharf/containers/container.toml.d/50-x.toml", "[environment]\nALL = \"zq9forall\"\n");
    put(root, "etc/wharf/containers/cut.toml", "image = \"x\"\n[environment]\nPASSWORD = \"zq9cut\nB = 1\n");
    put(
        root,
        "etc/wharf/containers/good.toml",
        "image = \"x:1\"\nnetwork = \"none\"\nenvironment.PASSWORD = \"zq9good\"\nenvironment.CONFIG = '{\"db\":{\"password\":\"zq9nested\"}}'\n[systemd.Service]\nLogExtraFields = \"TOKEN=zq9generated\"\nExecCondition = \"/bin/true --key zq9condition\"\n",
    );
    put(root, "etc/wharf/containers/bare.toml", "image = \"x\"\n[environment]\nPASSWORD = zq9bare\n");
    // Of a template each instance has a file of its own.
    put(
        root,
        "etc/wharf/containers/many@.toml",
        "image = \"x:1\"\nnetwork = \"none\"\nenvironment-files = [\"/etc/wharf/many-%i.env\"]\n[systemd.Service]\nLoadCredential = \"implicit\"\n",
    );
    put(root, "etc/wharf/many-blue.env", "A=\"zq9instance; zq9after, zq9last)\"\n");
    put(root, "etc/credstore/implicit", "zq9implicit");
    // In whatever way a program reads it.
    put(root, "etc/credstore/json", r#"{"user":"app","password":"zq9json"}"#);
    put(root, "etc/credstore/pgpass", "db:5432:*:app:zq9pgpass\n");
    put(root, "etc/credstore/redis", "bind 127.0.0.1\nrequirepass zq9redis\n");
    put(root, "etc/credstore/login", "app:zq9login\n");
    // What systemd has decrypted for one that runs.
    put(root, "run/credentials/web-container.service/c", "zq9decrypted");
    put(root, "etc/default/good", "X=zq9default\n");
    put(
        root,
        "etc/systemd/system/own-container.service",
        "[Service]\nExecStart=/usr/bin/wharf run -e A=zq9own web:1 zq9argument\n",
    );
    put(
        root,
        "etc/wharf/images/app.toml",
        "image = \"app:1\"\nfrom = \"https://me:zq9from@files.example/app.tar?token=zq9token#zq9fragment\"\n",
    );
    put(
        root,
        "etc/wharf/wharf.toml",
        "[registries.\"r.example\"]\nsignatures = \"https://me:zq9signatures@s.example/\"\nmirrors = [\"https://me:zq9mirror@m.example\", \"me:zq9schemeless@n.example\"]\npassword = \"zq9registry\"\n[registries.\"https://me:zq9key@k.example\"]\ninsecure = true\n",
    );
    put(root, "etc/wharf/wharf.toml.d/x.toml", "password = \"zq9settings\"\n");
    put(root, "etc/wharf/web.env", "# zq9remark\nPGPASSWORD='zq9file'\nexport KEY=zq9exported\n");
    put(root, "etc/credstore/b", "zq9stored\n");
    let auth = base64::engine::general_purpose::STANDARD.encode("me:zq9auth");
    put(root, "etc/wharf/auth.json", &format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#));
    put(root, "var/lib/wharf/volumes/data/secret", "zq9volume");
    put(
        root,
        "etc/systemd/system/good-container.service.d/x.conf",
        "# zq9comment\n[Service]\nEnvironmentFile=-/etc/default/good\nEnvironment=X=zq9admin\nSetCredential=a:zq9set\nExecStartPost=/bin/x -H zq9post \\\n  zq9continued\nRestart=no\n",
    );
    // What the last reload found, and what somebody else's program says in a file that is kept.
    put(
        root,
        "run/wharf/findings.json",
        r#"{"errors":1,"warnings":0,"findings":[{"level":"error","file":"/etc/wharf/containers/web.toml","line":1,"column":1,"end_line":1,"end_column":1,"message":"`zq9environment` is no number, nor is password=zq9said","hint":null},{"level":"error","file":"/etc/wharf/containers/many@.toml","line":1,"column":1,"end_line":1,"end_column":1,"message":"A=zq9instance; zq9after, zq9last) zq9implicit zq9decrypted zq9default zq9bare; login of app with zq9nested or zq9json, zq9pgpass, zq9redis, zq9login refused","hint":"Cookie: a=zq9cookie; b=zq9crumb"}]}"#,
    );
}

#[test]
fn a_report_has_no_secret_in_it() {
    let root = tempfile::tempdir().unwrap();
    plant(root.path());
    // Their units, as the generator makes them.
    let out = root.path().join("run/systemd/generator");
    fs::create_dir_all(&out).unwrap();
    let kept = fs::read(root.path().join("run/wharf/findings.json")).unwrap();
    let generator = Command::new(env!("CARGO_BIN_EXE_wharf-generator"))
        .arg(&out)
        .env("WHARF_ROOT", root.path())
        .output()
        .unwrap();
    assert!(generator.status.success());
    fs::write(root.path().join("run/wharf/findings.json"), kept).unwrap();
    let unit = fs::read_to_string(out.join("good-container.service")).unwrap();
    assert!(unit.contains("zq9generated"), "the unit has it: {unit}");

    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("report.tar.gz");
    let home = folder.path().join("home");
    put(&home, ".docker/config.json", r#"{"auths":{"r.example":{"identitytoken":"zq9identity"}}}"#);
    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["doctor", "--report"])
        .arg(&archive)
        .env("WHARF_ROOT", root.path())
        .env("HOME", &home)
        .env("SOME_TOKEN", "zq9caller")
        .output()
        .unwrap();
    let (code, out, err) = parts(&output);
    assert_eq!((code, err.contains("report.tar.gz: look through it")), (1, true), "{out}{err}");
    assert_eq!(fs::metadata(&archive).unwrap().mode() & 0o7777, 0o600);
    let files = unpack(&archive);
    let auth = base64::engine::general_purpose::STANDARD.encode("me:zq9auth");
    for (name, text) in &files {
        for line in text.lines() {
            assert!(!line.contains("zq9") && !line.contains(&auth), "{name}: {line}");
        }
    }
    let file = |name: &str| {
        let found = files.iter().find(|(there, _)| there == &format!("wharf-report/{name}"));
        found.unwrap_or_else(|| {
            panic!("{name} is not in it: {:?}", files.iter().map(|f| &f.0).collect::<Vec<_>>())
        })
    };
    // What a bug report is about is there.
    for (name, line) in [
        ("README.txt", "Secrets are left out"),
        ("doctor.txt", "error    generator"),
        ("versions.txt", concat!("wharf ", env!("CARGO_PKG_VERSION"))),
        ("files/etc/wharf/containers/web.toml", "environment.PASSWORD = \"<left out>\"  # line 8\n"),
        ("files/etc/wharf/containers/web.toml", "enviroment.PASSWORD = \"<left out>\"  # line 15\n"),
        ("files/etc/wharf/containers/web.toml", "passphrase = \"<left out>\"  # line 6\n"),
        ("files/etc/wharf/containers/web.toml", "systemd.Service.TimeoutStopSec = 20  # line 25\n"),
        ("files/etc/wharf/containers/web.toml.d/50-x.toml", "image = 5  # line 2\n"),
        ("files/etc/wharf/containers/cut.toml", "# not TOML"),
        (
            "files/etc/wharf/images/app.toml",
            "from = \"https://<left out>@files.example/app.tar?<left out>\"  # line 2\n",
        ),
        ("files/etc/wharf/wharf.toml", "https://<left out>@s.example/"),
        (
            "units/run/systemd/generator/good-container.service",
            "ExecStart=/usr/libexec/wharf/wharf-executor start good\n",
        ),
        (
            "units/run/systemd/generator/good-container.service",
            "ExecCondition=/bin/true --key <left out>\nLogExtraFields=TOKEN=<left out>\n",
        ),
        ("units/etc/systemd/system/good-container.service.d/x.conf", "Restart=no\n"),
        ("reload.json", "`<left out>` is no number, nor is password=<left out>"),
        (
            "reload.json",
            "\"A=<left out> <left out> <left out> <left out> <left out>; login of app with <left out> or <left out>, <left out>, <left out>, <left out> refused\"",
        ),
        ("files/etc/wharf/containers/bare.toml", "# not TOML"),
        (
            "units/etc/systemd/system/own-container.service",
            "ExecStart=/usr/bin/wharf <left out> -e <left out> <left out> <left out>\n",
        ),
        ("check.json", "\"errors\""),
        ("ps.json", "\"good-container.service\""),
    ] {
        assert!(file(name).1.contains(line), "{name}: {line}: {}", file(name).1);
    }
    let said: serde_json::Value = serde_json::from_str(&file("doctor.json").1).unwrap();
    assert!(said["checks"].as_array().is_some_and(|checks| checks.len() > 5), "{said}");
}

#[test]
fn a_report_is_written_to_a_new_file_or_not_at_all() {
    let root = root_with(&["web"]);
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    fs::write(&there, "mine").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("behind"), &link).unwrap();
    for (path, says) in
        [(&there, "is there already"), (&link, "is there already"), (&there.join("x"), "can't write")]
    {
        let (code, out, err) = under(root.path(), &["doctor", "--report", path.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains(says), "{err}");
    }
    assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
    assert!(!folder.path().join("behind").exists());
    // Without a name it is written here, under one that says when.
    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["doctor", "--json", "--report"])
        .env("WHARF_ROOT", root.path())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = said["report"].as_str().unwrap();
    assert!(name.starts_with("wharf-report-2") && name.ends_with("Z.tar.gz"), "{name}");
    let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(under(root.path(), &["doctor", "--no-journal"]).0, 2, "only of a report");
}
