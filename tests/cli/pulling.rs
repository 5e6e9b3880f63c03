//! Pulling and logging in, as far as that needs no registry.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::{parts, under};

#[test]
fn a_short_name_is_refused_with_what_to_write() {
    let root = tempfile::tempdir().unwrap();
    let (code, out, err) = under(root.path(), &["image", "pull", "nginx:1.26", "a/b/C"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.starts_with("error: `nginx` is a short name, and no alias says which registry it means"),
        "{err}"
    );
    assert!(err.contains("`docker.io/library/nginx`") && err.contains("[aliases]"), "{err}");
    assert!(err.contains("error: `a/b/C` is not a reference: `C` can't be part"), "{err}");
    assert!(!root.path().join("var/lib/wharf").exists(), "nothing is made for nothing");
    let (code, out, _) = under(root.path(), &["image", "pull", "--json", "nginx"]);
    assert_eq!((code, out.as_str()), (1, "[]\n"));
    let (code, _, err) = under(root.path(), &["image", "inspect", "--remote", "nginx"]);
    assert!(code == 1 && err.contains("is a short name"), "{err}");
    let (code, _, err) = under(root.path(), &["image", "pull", "http://web.example/x.tar"]);
    assert!(code == 1 && err.contains("isn't protected by TLS"), "{err}");
}

#[test]
fn wrong_usage_of_pull_and_login_is_2() {
    let root = tempfile::tempdir().unwrap();
    for args in [
        &["image", "pull"][..],
        &["image", "pull", "--name", "x", "a.example/b", "a.example/c"],
        &["image", "pull", "--platform", "windows/amd64", "a.example/b"],
        &["image", "inspect", "--platform", "linux/arm64", "a"],
        &["image", "login", "--password-stdin", "a.example"],
        &["image", "login", "--username", "a:b", "--password-stdin", "a.example"],
        &["image", "login", "--username", "me", "--password-stdin", "a.example/team"],
    ] {
        assert_eq!(under(root.path(), args).0, 2, "{args:?}");
    }
}

#[test]
fn a_login_that_nobody_confirms_is_not_kept() {
    let root = tempfile::tempdir().unwrap();
    // The discard port, where nobody listens.
    let mut login = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["image", "login", "--username", "me", "--password-stdin", "127.0.0.1:9"])
        .env("WHARF_ROOT", root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    login.stdin.take().unwrap().write_all(b"verysecret\n").unwrap();
    let (code, out, err) = parts(&login.wait_with_output().unwrap());
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.starts_with("error: can't reach 127.0.0.1:9\n  because ") && !err.contains("verysecret"),
        "{err}"
    );
    assert!(!root.path().join("etc/wharf/auth.json").exists());
}

#[test]
fn logging_out() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("etc/wharf/auth.json");
    let (code, _, err) = under(root.path(), &["image", "logout", "a.example"]);
    assert_eq!(code, 1);
    assert!(err.contains("has no login for a.example"), "{err}");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "{\"auths\":{\"a.example\":{\"auth\":\"bWU6cHc=\"},\"b.example\":{\"auth\":\"eDp5\"}}}")
        .unwrap();
    let (code, out, err) = under(root.path(), &["image", "logout", "https://a.example/"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("the login for a.example is gone from "), "{out}");
    let left = fs::read_to_string(&file).unwrap();
    assert!(left.contains("b.example") && !left.contains("a.example"), "{left}");
}
