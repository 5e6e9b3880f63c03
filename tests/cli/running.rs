//! `wharf run`, as far as it goes without a systemd: options, the file that it prints, and what is refused.

use std::fs;

use super::{parts, root_with, under, wharf};

/// Command lines and the file that does the same.
const FILES: [(&str, &str); 5] = [
    ("nginx:1.27", "image = \"nginx:1.27\"\nautostart = false\nrestart = \"no\"\n"),
    (
        "-p 8080:80 -v data:/var/lib/x -e A=B -m 512M --restart on-failure nginx:1.27 nginx -g daemon",
        "image = \"nginx:1.27\"\ncommand = [\"nginx\", \"-g\", \"daemon\"]\nautostart = false\npublish = [\"8080:80\"]\n\
         restart = \"on-failure\"\n\n[environment]\nA = \"B\"\n\n[limits]\nmemory = \"512M\"\n\n\
         [mounts]\n\"/var/lib/x\" = { volume = \"data\" }\n",
    ),
    (
        "--rootfs /srv/x --network none -it --rm -- sh -c --help",
        "rootfs = \"/srv/x\"\ncommand = [\"sh\", \"-c\", \"--help\"]\nautostart = false\nnetwork = \"none\"\nrestart = \"no\"\n",
    ),
    (
        "--health.http http://localhost/ --ready healthy --stop.timeout 5s --links db --ephemeral x",
        "image = \"x\"\nautostart = false\nlinks = [\"db\"]\nready = \"healthy\"\nrestart = \"no\"\nroot = \"ephemeral\"\n\n\
         [health]\nhttp = \"http://localhost/\"\n\n[stop]\ntimeout = \"5s\"\n",
    ),
    (
        "--systemd.Unit OnFailure=page-me@%n.service --entrypoint /a --entrypoint b x",
        "image = \"x\"\nentrypoint = [\"/a\", \"b\"]\nautostart = false\nrestart = \"no\"\n\n\
         [systemd.Unit]\nOnFailure = \"page-me@%n.service\"\n",
    ),
];

#[test]
fn the_file_that_does_the_same() {
    for (line, expected) in FILES {
        let root = root_with(&["db"]);
        fs::write(root.path().join("etc/wharf/containers/db.toml"), "image = \"db\"\n").unwrap();
        let words: Vec<&str> =
            ["run", "--toml", "--name", "web"].into_iter().chain(line.split(' ')).collect();
        let (code, out, err) = under(root.path(), &words);
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        assert_eq!(out, format!("# /etc/wharf/containers/web.toml\n{expected}"), "{line}");
        fs::write(root.path().join("etc/wharf/containers/web.toml"), &out).unwrap();
        let (code, said, _) = under(root.path(), &["check", "web"]);
        assert_eq!((code, said.as_str()), (0, "1 container checked: nothing to say\n"), "{line}");
    }
}

#[test]
fn names_are_made_up() {
    let root = root_with(&[]);
    let (code, out, _) = under(root.path(), &["run", "--toml", "registry.example/team/my_app:1"]);
    let first = out.lines().next().unwrap();
    assert!(code == 0 && first.starts_with("# /etc/wharf/containers/my-app-"), "{out}");
    assert_ne!(under(root.path(), &["run", "--toml", "registry.example/team/my_app:1"]).1, out);
}

#[test]
fn what_is_wrong_is_said_of_the_option() {
    let root = root_with(&["nginx"]);
    for (args, words) in [
        (&["run"][..], "no image is given"),
        (&["run", "--frob", "x"], "error: `--frob` is no option of `wharf run`"),
        (&["run", "--enviroment", "A=b", "x"], "did you mean `--environment`?"),
        (&["run", "--privileged", "x"], "no option of `wharf run`: no key makes a container privileged"),
        (
            &["run", "--cap-add=NET_ADMIN", "x"],
            "`--cap-add` is no option of `wharf run`: no key gives or takes",
        ),
        (&["run", "--autostart", "x"], "`autostart` is for what a file declares"),
        (&["run", "--snapshot", "x"], "`snapshot` is for what a file declares"),
        (&["run", "--health", "x"], "did you mean `--health."),
        (&["run", "--name", "a/b", "x"], "can't be in a name"),
        (&["run", "--name", "web@blue", "x"], "instances are of templates"),
        (&["run", "--name", "host", "x"], "--name host: "),
        (&["run", "--publish", "80:x", "x"], "error: --publish 80:x: `publish`: \"x\" is no port\nhint: "),
        (&["run", "-m", "64Q", "x"], "error: --limits.memory 64Q: `memory`: `64Q` is not an amount"),
        (&["run", "--ready", "soon", "x"], "error: --ready soon: "),
        (&["run", "--links", "ngnix", "x"], "did you mean \"nginx\"?"),
        (
            &["run", "--restart", "always", "x"],
            "--restart always is for what runs in the background; add --detach",
        ),
        (&["run", "no image"], "error: the image no image: "),
        (&["run", "--volume", "/data", "x"], "SOURCE:TARGET"),
        (&["run", "x"], "another root"),
    ] {
        let (code, out, err) = under(root.path(), args);
        assert_eq!((code, out.as_str()), (125, ""), "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
    }
}

#[test]
fn drop_ins_for_all_hold_for_what_has_no_file() {
    let root = root_with(&[]);
    let folder = root.path().join("etc/wharf/containers/container.toml.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("10.toml"), "limits.memroy = \"1G\"\n").unwrap();
    let (code, _, err) = under(root.path(), &["run", "x"]);
    assert!(code == 125 && err.contains("/etc/wharf/containers/container.toml.d/10.toml:1:8"), "{err}");
}

#[test]
fn help_has_every_key() {
    let (code, out, _) = parts(&wharf(&["run", "--help"]));
    assert_eq!(code, 0);
    for words in
        ["--limits.memory", "--publish", "--health.command", "--detach", "--toml", "Exit status:", "-p"]
    {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert!(!out.contains("--timer") && !out.contains("--autostart"));
}
