//! The commands that look at declared containers: graph and inspect.

use std::fs;
use std::path::Path;

use super::{parts, root_with, under, wharf};

fn put(root: &Path, name: &str, text: &str) {
    let path = root.join("etc/wharf/containers").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn json(root: &Path, args: &[&str]) -> serde_json::Value {
    let (code, out, err) = under(root, args);
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
    serde_json::from_str(&out).unwrap()
}

fn shop() -> tempfile::TempDir {
    let root = root_with(&["other"]);
    put(root.path(), "web.toml", "image = \"nginx:1.26\"\nlinks = [\"db\"]\npublish = [\"8080:80\"]\n");
    put(root.path(), "db.toml", "image = \"postgresql:17\"\nmounts.\"/data\" = { volume = \"data\" }\n");
    root
}

#[test]
fn graph_in_every_form() {
    let root = shop();
    for (args, begin) in [
        (
            &["graph"][..],
            "other (nginx:1.26, no network)\nweb (nginx:1.26)\n├─ published port :8080 → 80/tcp\n",
        ),
        (&["graph", "--dot"], "digraph wharf {\n"),
        (&["graph", "--svg"], "<svg xmlns="),
        (&["graph", "--json"], "{\n  \"nodes\": ["),
    ] {
        let (code, out, err) = under(root.path(), args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.starts_with(begin), "{args:?}: {out}");
        // The same files, the same bytes.
        assert_eq!(under(root.path(), args).1, out);
        // The file's name says what it is; an option knows better.
        let file = root.path().join(if args.len() == 1 { "x" } else { args[1].trim_start_matches('-') });
        let file = file.with_file_name(format!("graph.{}", file.file_name().unwrap().to_str().unwrap()));
        let (code, said, _) = under(root.path(), &["graph", "--output", file.to_str().unwrap()]);
        assert_eq!((code, said.as_str()), (0, ""));
        assert_eq!(fs::read_to_string(file).unwrap(), out, "{args:?}");
    }
    let graph = json(root.path(), &["graph", "--json", "db"]);
    let ids: Vec<_> = graph["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str()).collect();
    assert_eq!(ids.len(), 4, "{graph}");
    assert!(!ids.contains(&Some("container:other")), "{graph}");
}

#[test]
fn graph_refuses_what_it_can_not_show() {
    let root = shop();
    let full = root.path().join("no/such/folder/x.svg");
    for (args, code, says) in [
        (&["graph", "wbe"][..], 1, "did you mean `web`?"),
        (&["graph", "--output", full.to_str().unwrap()], 1, "can't write"),
        (&["graph", "--dot", "--svg"], 2, "cannot be used with"),
        (&["graph", "--state"], 2, "this host's containers"),
    ] {
        let (status, out, err) = under(root.path(), args);
        assert_eq!((status, out.as_str()), (code, ""), "{args:?}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
    // A file with mistakes is one red box, and no failure.
    put(root.path(), "db.toml", "imgae = 1\n");
    let (code, out, _) = under(root.path(), &["graph", "web"]);
    assert!(code == 0 && out.contains("link to db (bad file)"), "{code} {out}");
    let empty = tempfile::tempdir().unwrap();
    assert!(under(empty.path(), &["graph"]).1.starts_with("No container is declared"));
}

#[test]
fn inspect_says_where_each_key_is_from() {
    let root = shop();
    put(
        root.path(),
        "web.toml.d/10-more.toml",
        "limits.memory = \"64M\"\n[environment]\nPASSWORD = \"xyzzy\"\n",
    );
    let (code, out, err) = under(root.path(), &["inspect", "web"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for line in [
        "  Drop-in  /etc/wharf/containers/web.toml.d/10-more.toml\n",
        "  web.toml:1      image = \"nginx:1.26\"\n",
        "  10-more.toml:1  limits.memory = \"64M\"\n",
        "  10-more.toml:3  environment.PASSWORD, not shown without --show-environment\n",
        " restart = \"always\";",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    for (args, shown) in [
        (&["inspect", "web"][..], false),
        (&["inspect", "web", "--json"], false),
        (&["inspect", "web", "--show-environment"], true),
        (&["inspect", "web", "--show-environment", "--json"], true),
    ] {
        assert_eq!(under(root.path(), args).1.contains("xyzzy"), shown, "{args:?}");
    }
    let said = json(root.path(), &["inspect", "db", "--json"]);
    assert_eq!(said["mounts"][0]["path"], "/var/lib/wharf/volumes/data");
    assert!(said["image"]["problem"].as_str().unwrap().contains("is not in the store"), "{said}");
    for key in ["started", "ids", "network", "unit", "namespaces", "rootfs"] {
        assert_eq!(said.get(key), Some(&serde_json::Value::Null), "{key}: {said}");
    }
    let key = |name: &str| {
        let keys = said["asked"]["keys"].as_array().unwrap().iter();
        keys.clone().find(|key| key["key"] == name).unwrap_or_else(|| panic!("{name}: {said}")).clone()
    };
    let image = key("image");
    assert_eq!((&image["value"], &image["line"]), (&"postgresql:17".into(), &1.into()));
    let restart = key("restart");
    assert!(restart["value"] == "always" && restart["file"].is_null(), "{restart}");
}

#[test]
fn inspect_of_what_is_wrong() {
    let root = shop();
    put(root.path(), "bad.toml", "image = \"x\"\nmemroy = 1\n");
    let (code, out, _) = under(root.path(), &["inspect", "bad"]);
    assert_eq!(code, 0);
    assert!(out.contains("Problem  /etc/wharf/containers/bad.toml:2:1: `memroy` is not a key"), "{out}");
    let (code, out, err) = under(root.path(), &["inspect", "wbe"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("did you mean `web`?"), "{err}");
    assert_eq!(parts(&wharf(&["inspect"])).0, 2);
}

/// What a start leaves is what counts, and what is due is said.
#[test]
fn inspect_reads_what_the_start_wrote_down() {
    let root = shop();
    let plan = json(root.path(), &["plan", "db", "--json"]);
    let running = serde_json::json!({
        "container": plan["container"], "source": "/etc/wharf/containers/db.toml", "image": "sha256:aa", "ids": 1048576,
        "attachment": {
            "interface": "wharf-0002", "gateway": { "v4": "10.131.0.1", "v6": null },
            "addresses": { "v4": "10.131.0.2", "v6": "fd00::2" }, "links": [], "host": false, "ports": [],
        },
    });
    let folder = root.path().join("run/wharf/running");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("db.json"), running.to_string()).unwrap();
    put(root.path(), "db.toml.d/10-more.toml", "init = true\nlimits.tasks = 7\n");
    let said = json(root.path(), &["inspect", "db", "--json"]);
    assert_eq!(said["started"]["changed"], serde_json::json!(["init", "limits"]), "{said}");
    assert_eq!(said["image"]["running"], "sha256:aa", "{said}");
    assert_eq!(said["ids"], serde_json::json!({ "first": 1_048_576, "count": 65_536 }), "{said}");
    assert_eq!(said["network"]["addresses"], serde_json::json!(["10.131.0.2", "fd00::2"]), "{said}");
    let (_, out, _) = under(root.path(), &["inspect", "db"]);
    for line in [
        "  ids            1048576 to 1114111\n",
        "addresses 10.131.0.2, fd00::2\n",
        "  running        sha256:aa\n",
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let has = out.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == words);
        assert!(has, "{line}: {out}");
    }
}

/// One template for all listings.
#[test]
fn format_makes_lines_of_keys() {
    let root = shop();
    for (args, expected) in [
        (&["ps", "--format", "{name} {image} {pid}"][..], "db - -\nother - -\nweb - -\n"),
        (&["ps", "--format", "{{{unit}}}\\t{problem}", "--all"], "{db-container.service}\treload-due\n"),
        (
            &["keys", "--format", "{file} {key} {default}", "limits.tasks"],
            "containers/NAME.toml limits.tasks -\n",
        ),
        (&["image", "list", "--format", "{digest} {disk.own}"], ""),
    ] {
        let (code, out, err) = under(root.path(), args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.starts_with(expected), "{args:?}: {out}");
    }
    let plain = under(root.path(), &["ps", "--json"]).1;
    assert_eq!(under(root.path(), &["ps", "--format", "json"]).1, plain);
    assert_eq!(under(root.path(), &["ps", "--format", "table"]).1, under(root.path(), &["ps"]).1);
    for (args, says) in [
        (&["ps", "--format", "{nmae}"][..], "did you mean `name`?"),
        (&["ps", "--format", "name"], "it names no key"),
        (&["ps", "--format", "{{.Names}}"], "write {names}"),
        (&["ps", "--format", "{name}", "--json"], "cannot be used with"),
        (&["image", "list", "--format", "{disk.won}"], "did you mean `disk.own`?"),
        (&["image", "history", "--format", "{size", "x:1"], "never closed"),
    ] {
        let (code, out, err) = under(root.path(), args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
}

/// What can't be measured is said, and published ports are known without a host.
#[test]
fn what_containers_use_is_of_this_host() {
    let root = shop();
    for args in [&["stats"][..], &["top", "--batch", "-n", "1"], &["metrics"]] {
        let (code, out, err) = under(root.path(), args);
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}");
        assert!(err.contains("leave --root and WHARF_ROOT away"), "{args:?}: {err}");
    }
    for (args, says) in [
        (&["top"][..], "wharf top --batch"),
        (&["top", "--interval", "1ms", "--batch"], "100ms or longer"),
        (&["top", "--sort", "size"], "possible values"),
        (&["top", "-n", "2"], "--batch"),
        (&["stats", "--format", "{cpus}"], "did you mean `cpu`?"),
        (&["stats", "--all", "web"], "cannot be used with"),
        (&["metrics", "--format", "{name}"], "possible values"),
    ] {
        let (code, out, err) = under(root.path(), args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(says), "{args:?}: {err}");
    }
    let (code, out, err) = under(root.path(), &["port"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "NAME  HOST        CONTAINER  STATE\nweb   *:8080/tcp  :80        -\n");
    assert_eq!(under(root.path(), &["port", "db"]).1, "Nothing is published.\n");
    let rows = json(root.path(), &["port", "web", "--json"]);
    assert_eq!(rows[0]["host_port"], "8080");
    assert_eq!((&rows[0]["state"], &rows[0]["declared"]), (&serde_json::Value::Null, &true.into()));
    assert!(under(root.path(), &["port", "wbe"]).2.contains("did you mean `web`?"));
    put(root.path(), "web.toml.d/10.toml", "publish = [\"1\"]\n");
    assert!(under(root.path(), &["port", "web"]).2.contains("has mistakes: wharf check web"));
}
