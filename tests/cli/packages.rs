//! What the scripts of packages take away, and what they leave.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

fn packaging(name: &str) -> String {
    format!("{}/packaging/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What a script says, which has to succeed, with the commands of a folder before those of the host.
fn said(command: &[&str], script: &str, at: &Path) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .args(["-ec", script])
        .current_dir(at)
        .env("AT", at)
        .env("PATH", format!("{}:{}", at.display(), std::env::var("PATH").unwrap()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A folder as a purge may find it: another file system is mounted in it, a folder of the same one, and a file.
const MOUNTED: &str = "mkdir -p outside 'wharf/volumes/a b' wharf/volumes/same wharf/volumes/.c wharf/layers/x; \
    touch outside/kept wharf/volumes/file wharf/volumes/.c/d wharf/layers/x/y; \
    mount -t tmpfs none 'wharf/volumes/a b'; touch 'wharf/volumes/a b/kept'; \
    mount --bind outside wharf/volumes/same; mount --bind outside/kept wharf/volumes/file; ";

#[test]
fn a_purge_leaves_what_is_mounted_and_succeeds() {
    if !rustix::process::geteuid().is_root() {
        return skipped("what a purge leaves", "only root may mount");
    }
    let purge = format!(". {}; purge $AT/var/lib/wharf", packaging("debian/postrm"));
    let uninstall = format!("{} --purge --destdir . >&2", packaging("uninstall"));
    // Where /var is a link, the kernel tells mounts by what it leads to.
    let plain = "mkdir -p $AT/var/lib/wharf";
    let linked = "mkdir -p $AT/data/var/lib/wharf; ln -sfn data/var $AT/var";
    for (shell, script, made) in [
        ("sh", &purge, plain),
        ("sh", &purge, linked),
        ("bash", &uninstall, plain),
        ("bash", &uninstall, linked),
    ] {
        let root = tempfile::tempdir().unwrap();
        let at = &root.path().canonicalize().unwrap();
        let discard = |before: &str| {
            let script = format!(
                "set -- abort; {made}; cd $AT/var/lib; {before}cd $AT; {script}; cd $AT/var/lib; find * | sort"
            );
            said(&["unshare", "--mount", shell], &script, at)
        };
        assert_eq!(
            discard(MOUNTED),
            "outside\noutside/kept\nwharf\nwharf/volumes\nwharf/volumes/a b\nwharf/volumes/a b/kept\n\
             wharf/volumes/file\nwharf/volumes/same\nwharf/volumes/same/kept\n",
            "{script} {made}"
        );
        // The mounts went with their namespace.
        assert_eq!(discard(""), "outside\noutside/kept\n", "{script} {made}");
        // One that is a file system of its own is emptied.
        let whole = "mount -t tmpfs none wharf; mkdir -p wharf/layers/x; ";
        assert_eq!(discard(whole), "outside\noutside/kept\nwharf\n", "{script} {made}");
        // Of a folder that is a link the link goes.
        let link = "rm -rf wharf; mkdir -p outside/volumes; ln -s outside wharf; ";
        assert_eq!(discard(link), "outside\noutside/kept\noutside/volumes\n", "{script} {made}");
    }
}

/// Of containers with a file and without one, of an instance, of Wharf's own, and of others that are called so.
#[test]
fn a_purge_forgets_when_containers_timers_elapsed() {
    let purge = format!(". {}; forget_timers $AT", packaging("debian/postrm"));
    let uninstall = format!("{} --purge --destdir . >&2", packaging("uninstall"));
    for (shell, script) in [("sh", purge), ("bash", uninstall)] {
        let root = tempfile::tempdir().unwrap();
        let script = format!(
            "set -- abort; mkdir -p var/lib/systemd/timers etc/systemd/system usr/lib/systemd/system; \
             touch etc/systemd/system/lxc-container.timer usr/lib/systemd/system/their-container@.timer; \
             for name in web-container web-container@blue 'my\\x2dapp-container' lxc-container their-container@a \
             wharf-prune wharf-backup logrotate; do touch \"var/lib/systemd/timers/stamp-$name.timer\"; done; \
             {script}; cd $AT/var/lib/systemd/timers; ls -1 | sort"
        );
        assert_eq!(
            said(&[shell], &script, root.path()),
            "stamp-logrotate.timer\nstamp-lxc-container.timer\nstamp-their-container@a.timer\n\
             stamp-wharf-backup.timer\n",
            "{script}"
        );
    }
}

/// What systemd says of units that are called like Wharf's: one of Wharf's, somebody's, one whose file has a
/// documentation of its own, one that runs and has no file any more.
const UNITS: &str = r#"#!/bin/sh
test "$1" = show || exec echo "$*"
cat <<'END'
Id=web-container.service
ActiveState=active
Documentation="man:wharf-container(5)"
ControlGroup=/system.slice/web-container.service

Id=lxc-container.service
ActiveState=active
Documentation=https://example.org/man:wharf-container "man:lxc(1)"
ControlGroup=/system.slice/lxc-container.service

Documentation=https://example.org "man:wharf-container(5)" "man:x(1)"
ControlGroup=
ActiveState=inactive
Id=my\x2dapp-container.service

Id=gone-container@a.service
Documentation=
ActiveState=activating
ControlGroup=/wharf.slice/gone-container@a.service
END
"#;

#[test]
fn a_package_that_goes_looks_at_its_own_containers_only() {
    let root = tempfile::tempdir().unwrap();
    let systemctl = root.path().join("systemctl");
    fs::write(&systemctl, UNITS).unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    let stop = format!("set -- upgrade; . {}; stop '*-container.service'", packaging("debian/prerm"));
    assert_eq!(
        said(&["sh"], &stop, root.path()),
        "stop -- web-container.service my\\x2dapp-container.service gone-container@a.service\n"
    );
    // By hand, those that use something are looked for.
    let uninstall = fs::read_to_string(packaging("uninstall")).unwrap();
    let from = uninstall.find("busy() {").unwrap();
    let to = uninstall.find("# A running container needs").unwrap();
    let asks = format!("{}\necho $(busy '*-container.service')", &uninstall[from..to]);
    assert_eq!(said(&["bash"], &asks, root.path()), "web-container.service gone-container@a.service\n");
}

/// A host with the programs of this one and nothing else of it, whose systemd knows the units in `/units`. It notes in
/// `/asked` what it is told to do, and at the first thing that it stops somebody starts the container in `/late`. With
/// `/dead` it doesn't answer.
const HOST: &str = r#"mkdir -p $AT/{bin,usr,etc,dev,proc,src,units,run/systemd/system,var/lib/wharf/volumes/db,etc/wharf/containers}
cd $AT
mkdir -p usr/{bin,sbin,lib,lib64,libexec,share}
for folder in bin sbin lib lib64; do
    test ! -e /usr/$folder || mount --bind -o ro /usr/$folder usr/$folder
    test $folder = bin || ln -s usr/$folder $folder
done
mount -t tmpfs none usr/lib/systemd
mkdir -p usr/lib/systemd/system-generators
cp -a /etc/alternatives etc
mount --rbind /dev dev
mount -t proc proc proc
mount --bind -o ro $SOURCE src
cat >bin/systemctl <<'END'
#!/bin/bash
verb=$1 wanted='' value=false
shift
while [[ ${1-} == -* ]]; do
    case $1 in
    --property=*) wanted=${1#*=} ;;
    --value) value=true ;;
    esac
    shift
done
[[ $verb == show ]] || echo "$verb" "$@" >>/asked
[[ ! -e /dead ]] || exit 1
cd /units
for unit in $*; do
    if [[ ! -e $unit ]]; then
        continue
    elif [[ $verb == stop ]]; then
        sed -i s/^ActiveState=.*/ActiveState=inactive/ "$unit"
    elif $value; then
        sed -n "s/^$wanted=//p" "$unit"
    else
        printf 'Id=%s\n%s\n\n' "$unit" "$(cat "$unit")"
    fi
done
[[ $verb != stop || ! -e /late ]] || mv /late late-container.service
END
printf '#!/bin/sh\necho helper "$@" >>/asked\n' >bin/deb-systemd-helper
chmod 755 bin/*
ln -s /usr/bin/bash bin/bash
ln -s /usr/bin/sh bin/sh
touch asked var/lib/wharf/volumes/db/kept
unit() { # name, state, page, lines...
    printf '%s\n' "ActiveState=$2" "Documentation=\"man:$3\"" "LoadState=loaded" "${@:4}" >units/$1
}
on_it() { chroot . /usr/bin/env -i PATH=/bin:/usr/bin:/usr/sbin "$@" 2>&1; }
"#;

/// What a script says that has such a host, in a namespace of its own. None where this may not make one.
fn with_host(script: &str) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        skipped("what becomes of a host", "only root may mount");
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    let script = format!("SOURCE={}\n{HOST}{script}", env!("CARGO_MANIFEST_DIR"));
    Some(said(&["unshare", "--mount", "--net", "bash"], &script, root.path()))
}

#[test]
fn a_purge_deletes_nothing_that_is_in_use() {
    let purge = "on_it sh -e /src/packaging/debian/postrm purge; echo $?; cat asked; ls -d etc/wharf var/lib/wharf/volumes/db/kept || :";
    let Some(gone) = with_host(&format!("unit db-container.service inactive 'wharf-container(5)'\n{purge}"))
    else {
        return;
    };
    assert_eq!(
        gone,
        "0\nhelper purge wharf-metrics.timer wharf-prune.timer wharf-update.timer\ndaemon-reload\n"
    );
    let stays = "etc/wharf\nvar/lib/wharf/volumes/db/kept\n";
    // The tarball's, over what the package had left: all of it is somebody else's.
    let generator = "usr/lib/systemd/system-generators/wharf-generator";
    let said = with_host(&format!("install -m 755 /dev/null {generator}\n{purge}")).unwrap();
    assert!(said.contains(&format!("/{generator}; its 'uninstall --purge'")), "{said}");
    assert!(said.ends_with(&format!("\n0\n{stays}")), "{said}");
    // One that didn't stop: its unit has no file any more, or somebody's.
    for unit in [
        "unit db-container.service active '' LoadState=not-found",
        "unit db-container@a.service deactivating 'wharf-container(5)'",
    ] {
        let said = with_host(&format!("{unit}\n{purge}")).unwrap();
        assert!(said.contains("they are in use by db-container"), "{said}");
        assert!(said.ends_with(&format!("\ndaemon-reload\n{stays}")), "{said}");
    }
    let slice =
        "mkdir -p sys/fs/cgroup/wharf.slice; echo populated 1 >sys/fs/cgroup/wharf.slice/cgroup.events";
    let said = with_host(&format!("{slice}\n{purge}")).unwrap();
    assert!(said.contains("in use by wharf.slice") && said.ends_with(stays), "{said}");
}

/// Plans are made anew as soon as files of another version are there.
#[test]
fn packages_reload_where_their_files_have_changed() {
    for (script, step, reloads) in [
        ("postrm", "upgrade 2", "daemon-reload\n"),
        ("postrm", "abort-install", ""),
        ("postinst", "abort-upgrade 2", "daemon-reload\n"),
        ("postinst", "triggered x", ""),
    ] {
        let script = format!("on_it sh -e /src/packaging/debian/{script} {step}; cat asked");
        let Some(said) = with_host(&script) else { return };
        assert_eq!(said, reloads, "{script}");
    }
}

#[test]
fn uninstalling_stops_what_would_start_a_container() {
    let units = "unit job-container.timer active 'wharf-container(5)'
        unit job-container-restart.service inactive 'wharf-container(5)'
        unit idle-container@a.socket active 'wharf-container(5)' Triggers=idle-container@a.service
        unit idle-container@a.service inactive 'wharf-container(5)'
        unit web-container.socket active 'wharf-container(5)' Triggers=web-container.service
        unit web-container.service active 'wharf-container(5)'
        unit slow-image.service activating 'wharf-image(5)'
        unit their-container.timer active 'lxc(1)'
        touch etc/wharf/containers/web.toml; mkdir etc/apparmor.d; touch etc/apparmor.d/.wharf-container.new\n";
    let uninstall = "on_it bash /src/packaging/uninstall";
    let left = "grep '^stop.*-image' asked; ls -A etc/apparmor.d etc/wharf/containers";
    let Some(said) = with_host(&format!("{units}{uninstall}\n{left}")) else { return };
    assert!(
        said.ends_with(
            "\nstop job-container.timer idle-container@a.socket slow-image.service\n\
             etc/apparmor.d:\n\netc/wharf/containers:\nweb.toml\n"
        ),
        "{said}"
    );
    // One that a timer has started meanwhile keeps its volumes, and all else.
    let late = "printf 'ActiveState=activating\\nDocumentation=man:wharf-container(5)\\n' >late";
    let said = with_host(&format!(
        "{units}rm units/web-*; {late}\n{uninstall} --purge || echo $?; ls -A etc/apparmor.d etc/wharf/containers var/lib/wharf/volumes"
    ))
    .unwrap();
    assert!(
        said.ends_with(
            "stop them before their images and volumes go: late-container.service\n1\n\
             etc/apparmor.d:\n.wharf-container.new\n\netc/wharf/containers:\nweb.toml\n\n\
             var/lib/wharf/volumes:\ndb\n"
        ),
        "{said}"
    );
    // Who can't be asked may have any.
    let said =
        with_host(&format!("{units}touch dead; {uninstall} --purge || echo $?; ls etc/wharf/containers"))
            .unwrap();
    assert!(said.ends_with("1\nweb.toml\n"), "{said}");
    let said = with_host(&format!(
        "{units}rm units/web-*; {uninstall} --purge; ls -Ad etc/wharf var/lib/wharf || :"
    ))
    .unwrap();
    assert!(said.contains("Wharf is removed, with its") && !said.contains("etc/wharf\n"), "{said}");
}

#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = fs::read_to_string(packaging("debian/changelog")).unwrap();
    let first = format!("wharf ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&first), "{changelog}");
}

/// Says that something was not looked at, past what a test that passes keeps to itself; tests/run counts these lines.
fn skipped(what: &str, why: &str) {
    // Behind the dots of `cargo test --quiet`.
    let _ = writeln!(io::stderr(), "\nSKIPPED: {what}: {why}");
}

/// Whether programs are there to be asked; tests/run sees to it. Says what is skipped without them.
fn has(programs: &[&str], what: &str) -> bool {
    let folders = std::env::var("PATH").unwrap_or_default();
    let is_there =
        |program: &&str| folders.split(':').any(|folder| Path::new(folder).join(program).is_file());
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        skipped(what, &format!("there is no {}", missing.join(" and no ")));
    }
    missing.is_empty()
}

/// What a command says, sorted, which has to succeed.
fn lines(script: &str, at: &Path) -> Vec<String> {
    let output =
        Command::new("bash").args(["-o", "pipefail", "-ec", script]).current_dir(at).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    let mut lines: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The files of a package, compressed pages under their own names, without what each kind of package adds.
fn files(list: &str, own: &[&str], at: &Path) -> Vec<String> {
    let tidy = |line: String| {
        let path = line.trim_start_matches('.');
        path.strip_suffix(".gz").unwrap_or(path).to_owned()
    };
    let files = lines(list, at).into_iter().map(tidy);
    let mut files: Vec<String> = files.filter(|file| !own.iter().any(|own| file.starts_with(own))).collect();
    files.sort();
    files
}

#[test]
fn each_package_has_what_is_installed_by_hand() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    let built = Path::new(env!("CARGO_BIN_EXE_wharf")).parent().unwrap().display().to_string();
    let install = packaging("install");
    let listed = lines(&format!("{install} --list"), at);
    assert!(
        listed.len() > 60 && listed.contains(&"/etc/apparmor.d/wharf-container".to_owned()),
        "{listed:?}"
    );
    lines(&format!("{install} --destdir {} --profile-dir {built}", at.join("hand").display()), at);
    assert_eq!(files("cd hand; find . ! -type d", &[], at), listed);
    // What is passed on says whose code is in it.
    let crates = "/usr/share/doc/wharf/crates.txt";
    let passed_on = |list: &[String]| {
        let mut list = [list, &[crates.to_owned()]].concat();
        list.sort();
        list
    };

    // Unpacked, the tarball needs nothing of this tree, and takes away what it has brought.
    lines(&format!("{} --built {built} .", packaging("tarball")), at);
    lines("tar -xf wharf-*.tar.xz; rm wharf-*.tar.xz; wharf-*/install --destdir tar", at);
    assert_eq!(files("cd tar; find . ! -type d", &[], at), passed_on(&listed));
    let licences = fs::read_to_string(at.join("tar").join(&crates[1..])).unwrap();
    let (head, texts) = licences.split_once("\n====").unwrap();
    assert!(head.contains("\nserde 1.") && head.contains(": MIT OR Apache-2.0\n"), "{head}");
    // Neither what only builds or tests, nor other systems' crates.
    assert!(
        !["clap_mangen", "proptest", "windows-sys"].iter().any(|name| head.contains(&format!("\n{name} "))),
        "{head}"
    );
    assert!(texts.contains("The above copyright notice and this permission notice"), "{texts}");
    assert_eq!(lines("wharf-*/uninstall --purge --destdir tar >/dev/null; find tar ! -type d", at), [""; 0]);

    if has(&["dpkg-buildpackage", "dh_apparmor"], "the files of the Debian package") {
        lines(&format!("{} --built {built} . >&2", packaging("deb")), at);
        let own = ["/usr/share/doc/wharf/changelog", "/usr/share/doc/wharf/copyright", "/usr/share/lintian"];
        let list = "dpkg-deb --fsys-tarfile wharf_*.deb | tar -t | grep -v '/$'";
        assert_eq!(files(list, &own, at), passed_on(&listed));
        assert_eq!(lines("dpkg-deb -I wharf_*.deb conffiles", at), ["/etc/apparmor.d/wharf-container"]);
        if has(&["lintian"], "lintian of the Debian package") {
            assert_eq!(lines("lintian --allow-root --fail-on error,warning wharf_*.deb", at), [""; 0]);
        }
    }
    if has(&["rpmbuild"], "the files of rpm's package") {
        lines(&format!("{} --built {built} . >&2", packaging("rpm/build")), at);
        let zsh = "/usr/share/zsh/site-functions";
        let listed = lines(&format!("{install} --list --zsh-dir {zsh}"), at);
        let list = "rpm -qp --qf '[%{FILEMODES:perms} %{FILENAMES}\\n]' wharf-*.rpm | sed -n 's/^-[^ ]* //p'";
        assert_eq!(files(list, &["/usr/share/licenses"], at), passed_on(&listed));
        assert_eq!(lines("rpm -qp --configfiles wharf-*.rpm", at), ["/etc/apparmor.d/wharf-container"]);
        let scripts = lines("rpm -qp --scripts wharf-*.rpm", at).join("\n");
        assert!(scripts.contains("stop_all") && !scripts.contains("systemctl start"), "{scripts}");
    }
}

/// Programs, in a folder `bin`, whose content is nothing to a test: they take no time.
fn programs(at: &Path, content: &str) -> String {
    let folder = at.join("bin");
    fs::create_dir_all(&folder).unwrap();
    for name in ["wharf", "wharf-generator", "wharf-executor"] {
        fs::write(folder.join(name), content).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder.display().to_string()
}

/// What is there stays whole, and nothing lies beside it.
#[test]
fn an_upgrade_that_fails_is_none() {
    if !rustix::process::geteuid().is_root() {
        return skipped("an upgrade on a full disk", "only root may mount");
    }
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    let install = |version: &str| {
        format!(
            "{} --destdir disk --profile-dir {} >&2",
            packaging("install"),
            programs(&at.join(version), version)
        )
    };
    let (first, second) = (install("first"), install("second"));
    // As much room as the first version takes, and a bit more.
    let script = format!(
        "mkdir disk; mount -t tmpfs -o size=16m none disk; {first}; cd disk; find . -type f | xargs sha256sum | sort >../before; \
         fill() {{ head -c $(($(df --output=avail -B 1 . | tail -1) - $1)) /dev/zero >../disk/filler; }}; fill 500000; cd ..; \
         ! {second} 2>/dev/null; rm disk/filler; cd disk; find . -type f | xargs sha256sum | sort | diff ../before -; cd ..; \
         {second}; cat disk/usr/bin/wharf disk/usr/lib/systemd/system-generators/* disk/usr/libexec/wharf/*; \
         find disk -name '.?*'"
    );
    assert_eq!(said(&["unshare", "--mount", "bash"], &script, at), "secondsecondsecond");
}

#[test]
fn a_tarball_is_the_same_each_time() {
    let root = tempfile::tempdir().unwrap();
    let small = programs(root.path(), "a program");
    for (folder, umask) in [("a", "022"), ("b", "077")] {
        let script = format!("umask {umask}; {} --built {small} {folder} >&2", packaging("tarball"));
        lines(&script, root.path());
    }
    lines("cmp a/wharf-*.tar.xz b/wharf-*.tar.xz", root.path());
}
