//! The `wharf` command as people meet it: the built binary, its texts and its exit statuses.
#![allow(clippy::unwrap_used, missing_docs)]

mod binaries;
mod data;
mod doctor;
mod files;
mod looking;
mod packages;
mod pulling;
mod running;

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn wharf(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wharf")).args(args).env_remove("WHARF_ROOT").output().unwrap()
}

fn under(root: &Path, args: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_wharf")).args(args).env("WHARF_ROOT", root).output().unwrap();
    parts(&output)
}

fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn root_with(names: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let containers = root.path().join("etc/wharf/containers");
    std::fs::create_dir_all(&containers).unwrap();
    for name in names {
        std::fs::write(
            containers.join(format!("{name}.toml")),
            "image = \"nginx:1.26\"\nnetwork = \"none\"\n",
        )
        .unwrap();
    }
    root
}

#[test]
fn help_has_examples_and_exit_statuses() {
    let (code, out, _) = parts(&wharf(&["--help"]));
    assert_eq!(code, 0);
    assert!(out.contains("Exit status:") && out.contains("systemctl start nginx-container"), "{out}");
    assert!(!out.contains('\x1b'), "colour without a terminal");
    for command in [
        "check", "plan", "graph", "inspect", "keys", "enable", "disable", "ps", "exec", "shell", "run",
        "doctor",
    ] {
        let (code, out, _) = parts(&wharf(&[command, "--help"]));
        assert_eq!(code, 0);
        assert!(out.contains("Examples:"), "{command}: {out}");
    }
}

#[test]
fn version() {
    assert_eq!(parts(&wharf(&["--version"])).1, format!("wharf {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_2() {
    for args in [&["frobnicate"][..], &["ps", "--frob"], &["enable"], &["enable", "a/b"], &["image"], &[]] {
        assert_eq!(parts(&wharf(args)).0, 2, "{args:?}");
    }
}

#[test]
fn what_cant_be_entered_is_125() {
    let root = root_with(&["nginx"]);
    for (args, words) in [
        (&["exec"][..], "required"),
        (&["exec", "nginx"], "<COMMAND>"),
        (&["exec", "--frob", "nginx", "ls"], "--frob"),
        (&["exec", "nginx", ""], "nothing to run"),
        (&["exec", "a/b", "ls"], "can't be in a name"),
        (&["exec", "web@", "ls"], "is a template"),
        (&["exec", "--user", "70000", "nginx", "ls"], "out of range"),
        (&["exec", "--user", "", "nginx", "ls"], "--user takes"),
        (&["exec", "--user", "+0", "nginx", "ls"], "--user takes"),
        (&["exec", "--env", "A", "nginx", "ls"], "--env takes"),
        (&["exec", "--working-directory", "etc", "nginx", "ls"], "absolute"),
        (&["exec", "nginx", "ls", "--help"], "another root"),
        (&["exec", "-it", "nginx", "--", "ls"], "another root"),
        (&["shell", "nginx", "ls"], "unexpected"),
        (&["shell", "nginx"], "another root"),
    ] {
        let (code, out, err) = under(root.path(), args);
        assert_eq!((code, out.as_str()), (125, ""), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }
}

#[test]
fn what_systemd_does_is_answered_with_the_line() {
    for (args, line) in [
        (
            &["start", "nginx"][..],
            "error: systemd starts containers; type: systemctl start nginx-container\n",
        ),
        (
            &["logs", "nginx", "-f"],
            "error: systemd keeps the logs of containers; type: journalctl -u nginx-container -f\n",
        ),
        (
            &["logs", "-f", "nginx"],
            "error: systemd keeps the logs of containers; type: journalctl -u nginx-container -f\n",
        ),
    ] {
        assert_eq!(parts(&wharf(args)), (2, String::new(), line.to_owned()));
    }
}

#[test]
fn enable_and_disable_under_a_root() {
    let root = root_with(&["nginx", "web@"]);
    let (code, out, _) = under(root.path(), &["enable", "web@blue"]);
    assert_eq!(code, 0);
    assert!(out.contains("/etc/wharf/containers/web@blue.toml.d/50-autostart.toml"), "{out}");
    assert!(out.contains("daemon-reload not done"), "{out}");
    assert_eq!(under(root.path(), &["enable", "web@blue"]).1, "web@blue is already enabled\n");
    let (code, _, err) = under(root.path(), &["disable", "ngnix"]);
    assert_eq!(code, 1);
    assert_eq!(err, "error: no container `ngnix` is declared; did you mean `nginx`?\n");
    assert_eq!(under(root.path(), &["enable", "web@"]).0, 2);
}

#[test]
fn ps_under_a_root_asks_no_systemd() {
    let root = root_with(&["nginx", "web@"]);
    let (code, out, _) = under(root.path(), &["ps"]);
    assert_eq!(code, 0);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.contains("[new, needs daemon-reload]"), "{out}");
    let (_, out, _) = under(root.path(), &["ps", "--all", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!(rows[0]["unit"], "nginx-container.service");
    assert!(rows[0]["state"].is_null());
}

#[test]
fn without_systemd_ps_says_so() {
    if Path::new("/run/systemd/system").exists() {
        return;
    }
    let (code, out, err) = parts(&wharf(&["ps"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("error: systemd is not running here"), "{err}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let root = root_with(&["nginx"]);
    std::fs::write(root.path().join("etc/wharf/containers/bad.toml"), "imgae = 1\n").unwrap();
    for (args, code) in [
        (&["ps", "--json"][..], 0),
        (&["keys"], 0),
        (&["plan", "nginx"], 0),
        (&["graph", "--svg"], 0),
        (&["inspect", "nginx"], 0),
        (&["image", "list"], 0),
        (&["check", "nginx"], 0),
        (&["check"], 1),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(args)
            .env("WHARF_ROOT", root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(parts(&output), (code, String::new(), String::new()), "{args:?}");
    }
}

#[test]
fn a_root_is_there() {
    let root = tempfile::tempdir().unwrap();
    let typo = root.path().join("typo");
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (args, exit) in [
        (&["check"][..], 1),
        (&["fsck"], 1),
        (&["image", "import", "--name", "x:1", "/nowhere.tar"], 1),
        (&["ps"], 1),
        (&["exec", "x", "true"], 125),
    ] {
        for root in [&typo, &file] {
            let (code, out, err) = under(root, args);
            assert!(code == exit && out.is_empty(), "{args:?}: {code} {out}");
            assert!(
                err.starts_with("error: can't look into the root") && err.contains(root.to_str().unwrap()),
                "{err}"
            );
            let by_option = [args, &["--root", root.to_str().unwrap()]].concat();
            if args[0] != "exec" {
                assert_eq!(parts(&wharf(&by_option)).0, exit, "{args:?}");
            }
        }
    }
    assert!(!typo.exists());
    assert_eq!(under(&typo, &["keys", "image"]).0, 0);
}

#[test]
fn the_host_by_another_name_is_the_host() {
    if Path::new("/run/systemd/system").exists() {
        return;
    }
    // Under another root `wharf ps` asks no systemd, and so never misses it.
    for root in ["/", "//", "/usr/.."] {
        let (code, _, err) = parts(&wharf(&["ps", "--root", root]));
        assert_eq!(code, 1, "{root}");
        assert!(err.starts_with("error: systemd is not running here"), "{root}: {err}");
    }
}
