//! The packages on machines that have never heard of Wharf: installed, upgraded, downgraded, removed, purged.
//!
//! They are made of the binaries built with this test, by the same rules as any other. `WHARF_TEST_PACKAGES=DIR` has
//! the stories of the Debian package told with those in a folder instead, a release's perhaps.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::containers::{DEBIAN, Image, import, until};
use super::machine::{Context, Error, Kind, Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, install_wharf, project};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "the package comes, changes and goes on Debian 13", on: On::FastThenFull, tell: trixie },
    Story { name: "the package comes, changes and goes on Debian 12", on: On::BothIfAll, tell: bookworm },
    Story { name: "rpm's package comes, changes and goes", on: On::FastIfAll, tell: foreign },
    Story { name: "what was installed by hand changes and goes by hand", on: On::Fast, tell: by_hand },
];

/// Two versions, of which the second is newer.
const VERSIONS: [&str; 2] = ["0.1.0", "0.1.0+next"];

fn trixie(stage: &mut Stage) -> Told {
    let recipe = if stage.kind() == Kind::Full { Recipe::confining() } else { Recipe::base() };
    tell(&Machine::boot(stage.kind(), &recipe)?)
}

fn bookworm(stage: &mut Stage) -> Told {
    let recipe = if stage.kind() == Kind::Full { Recipe::confining_older() } else { Recipe::older() };
    let machine = &Machine::boot(stage.kind(), &recipe)?;
    assert!(machine.sh("systemctl --version")?.starts_with("systemd 252 "));
    tell(machine)
}

fn tell(machine: &Machine) -> Told {
    for deb in packages()? {
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        machine.copy_in(deb, &format!("/root/{name}"))?;
    }
    machine.write("/root/about", ABOUT)?;
    machine.write("/srv/kept/file", "the administrator's\n")?;
    let files = || machine.sh(FILES);
    let (files_before, rules_before) = (files()?, machine.sh("nft list ruleset")?);
    let confining = machine.run("aa-enabled --quiet")?.code == 0;
    assert_eq!(
        confining,
        machine.kind() == Kind::Full,
        "the full machine has AppArmor, as Debian installs it"
    );

    let began = Instant::now();
    apt(machine, "install /root/wharf_0.1.0_*.deb")?;
    let installed = began.elapsed();
    assert_eq!(machine.sh("nft list ruleset")?, rules_before, "installing changes no firewall");
    assert_eq!(machine.sh(RUNS)?, "", "installing starts nothing");
    assert_eq!(machine.sh(ENABLED)?, "");
    assert_eq!(machine.sh("stat -c %a /var/lib/wharf; ls /etc/wharf")?, "700\ncontainers\nimages\nkeys");
    assert_eq!(machine.sh(PROFILES)? == "wharf-container (enforce)", confining);

    let began = Instant::now();
    first_container(machine)?;
    println!(
        "    packages: installed in {:.1} s; an image, a file and the first page in {:.1} s more",
        installed.as_secs_f32(),
        began.elapsed().as_secs_f32()
    );
    twenty(machine)?;
    if confining {
        let label =
            machine.sh("cat /proc/$(systemctl show -P MainPID echo20-container)/attr/apparmor/current")?;
        assert_eq!(label, "wharf-container (enforce)");
    }
    patient(machine, "bash /root/about apt-get install -q -y --allow-downgrades '/root/wharf_%s_*.deb'")?;

    // Removed, it leaves what is the administrator's, and nothing that runs, or would.
    restless(machine)?;
    machine.sh("systemctl enable --now --quiet wharf-prune.timer && test -e /var/lib/systemd/timers/stamp-wharf-prune.timer")?;
    apt(machine, "remove wharf")?;
    gone(machine)?;
    machine.sh("test -L /etc/systemd/system/timers.target.wants/wharf-prune.timer")?;
    // Purged when somebody else has them, it leaves them their data.
    let theirs = "/usr/lib/systemd/system-generators/wharf-generator";
    let said = machine
        .sh(&format!("install -m 755 /usr/bin/true {theirs} && dpkg --purge wharf 2>&1 && rm {theirs}"))?;
    assert!(said.contains("are left"), "{said}");
    // And it is all there when it comes again, without a start.
    apt(machine, "install /root/wharf_0.1.0+next_*.deb")?;
    assert_eq!(machine.sh(RUNS)?, "");
    assert!(machine.sh(ENABLED)?.starts_with("wharf-prune.timer"), "what was enabled is enabled");
    machine.sh("systemctl start echo1-container && wharf exec echo1 grep -q data /data/kept")?;

    // A purge asks nothing, also where containers run, and of what they have leaves what isn't Wharf's.
    apt(machine, "purge wharf")?;
    assert_eq!(machine.sh(RUNS)?, "");
    assert_eq!(machine.sh("nft list ruleset")?, rules_before);
    let left = machine.sh("ls -d /etc/wharf /var/lib/wharf /run/wharf /usr/share/wharf /etc/apparmor.d/*wharf* 2>/dev/null || :")?;
    assert_eq!(left, "");
    assert_eq!(machine.sh(PROFILES)?, "");
    assert_eq!(machine.sh("cat /srv/kept/file")?, "the administrator's");
    let files_after = files()?;
    assert_eq!(only(&files_after, &files_before), Vec::<String>::new(), "left behind");
    assert_eq!(only(&files_before, &files_after), Vec::<String>::new(), "taken with it");
    Ok(())
}

/// rpm's package, where there is nothing else of rpm's: its scripts, and what comes and goes with them.
fn foreign(stage: &mut Stage) -> Told {
    let machine = &Machine::boot(stage.kind(), &Recipe::foreign())?;
    for package in rpms()? {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        machine.copy_in(package, &format!("/root/{name}"))?;
    }
    machine.write("/root/about", ABOUT.replace("dpkg-query -W -f '${Version}' wharf", RPM_VERSION))?;
    machine.write("/srv/kept/file", "the administrator's\n")?;
    // Folders that other packages have, where there are others.
    let find = FILES
        .replace(" /var/lib/dpkg/info", "")
        .replace("-xdev", r"-xdev \( ! -type d -o -path '*wharf*' \)");
    let files = || machine.sh(&find);
    let (files_before, rules_before) = (files()?, machine.sh("nft list ruleset")?);

    patient(machine, &format!("{RPM} --install /root/wharf-0.1.0-1.*.rpm"))?;
    assert_eq!(machine.sh("nft list ruleset")?, rules_before, "installing changes no firewall");
    assert_eq!(machine.sh(RUNS)?, "", "installing starts nothing");
    assert_eq!(machine.sh(ENABLED)?, "");
    first_container(machine)?;
    twenty(machine)?;
    patient(machine, &format!("bash /root/about {RPM} --upgrade --oldpackage '/root/wharf-%s-1.*.rpm'"))?;

    restless(machine)?;
    machine.sh("systemctl enable --now --quiet wharf-prune.timer")?;
    patient(machine, &format!("{RPM} --erase wharf"))?;
    gone(machine)?;
    machine.sh("rm -r /etc/wharf /var/lib/wharf /var/lib/systemd/timers/stamp-{wharf-,ticks-container.}*")?;
    let files_after = files()?;
    assert_eq!(only(&files_after, &files_before), Vec::<String>::new(), "left behind");
    assert_eq!(only(&files_before, &files_after), Vec::<String>::new(), "taken with it");
    Ok(())
}

/// Without a package: over itself, then taken away from under a container that runs, and at last with all it had.
fn by_hand(stage: &mut Stage) -> Told {
    let machine = &stage.fresh()?;
    install_wharf(machine)?;
    for part in ["packaging", "units", "examples", "README.md"] {
        machine.copy_in(project().join(part), &format!("/root/wharf/{part}"))?;
    }
    let generator = "/usr/lib/systemd/system-generators/wharf-generator";
    machine.sh(&format!(
        "mkdir /root/wharf/bin && cp /usr/bin/wharf {generator} /usr/libexec/wharf/wharf-executor /root/wharf/bin"
    ))?;
    import(machine, &BUSYBOX)?;
    let socket = |port: u16| format!("[socket]\nlisten = ['127.0.0.1:{port}']\n");
    for (name, more) in [
        ("web", socket(7100) + "[mounts]\n'/data' = { volume = 'web' }\n"),
        ("idle", socket(7101)),
        ("ticks", "[timer]\non-calendar = 'yearly'\n".to_owned()),
    ] {
        let text = format!(
            "image = '{}'\ncommand = ['busybox', 'sh', '-c', 'trap \"exit 0\" TERM; sleep infinity & wait']\nnetwork = 'none'\nautostart = false\n{more}",
            BUSYBOX.reference
        );
        machine.write(&format!("/etc/wharf/containers/{name}.toml"), text)?;
    }
    machine.sh(
        "systemctl daemon-reload && systemctl start web-container idle-container.socket ticks-container.timer && \
         systemctl enable --now --quiet wharf-prune.timer",
    )?;
    let web = "systemctl show --property=MainPID,InvocationID,ActiveState,NRestarts web-container";
    let before = machine.sh(web)?;
    // What a power cut has left of an installation is nothing to systemd, and goes with the next.
    let aside = "/usr/lib/systemd/system-generators/.wharf-generator.new";
    machine.write(aside, "#!/bin/sh\ntouch /run/ran\n")?;
    machine.sh(&format!("chmod 755 {aside} && systemctl daemon-reload && test ! -e /run/ran"))?;
    machine.sh(&format!("rm {generator} && /root/wharf/packaging/install && test -x {generator}"))?;
    assert_eq!(machine.sh("find / -xdev -name '.*.new'")?, "");

    machine.sh("/root/wharf/packaging/uninstall && systemctl daemon-reload")?;
    assert_eq!(machine.sh(web)?, before);
    // The container's socket is one with it.
    assert_eq!(
        machine.sh("systemctl list-units --no-legend --plain --state=active '*-container*' wharf-prune.timer | cut -d ' ' -f 1")?,
        "web-container.service\nweb-container.socket"
    );
    let refused = machine.run("/root/wharf/packaging/uninstall --purge")?;
    assert!(
        refused.code == 1 && refused.stderr.contains("web-container.service"),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    machine.sh("test -d /var/lib/wharf/volumes/web && systemctl stop web-container web-container.socket")?;
    machine.sh("/root/wharf/packaging/uninstall --purge && systemctl daemon-reload")?;
    assert_eq!(machine.sh(RUNS)?, "");
    assert_eq!(
        machine.sh("ls -d /etc/wharf /var/lib/wharf /run/wharf /usr/share/wharf 2>/dev/null || :")?,
        ""
    );
    Ok(())
}

/// The image of README's first container, which needn't be fetched then.
const BUSYBOX: Image = Image {
    reference: "docker.io/library/busybox:1.37",
    recipe: Recipe::busybox_image,
    arguments: "--command /bin/sh",
};

/// As README has it, by its own words: one file, a start.
fn first_container(machine: &Machine) -> Result<()> {
    import(machine, &BUSYBOX)?;
    let section =
        include_str!("../../README.md").split("\n### A first container\n").nth(1).unwrap_or_default();
    let block = |language: &str| {
        let rest = section.split_once(&format!("```{language}\n")).map_or("", |(_, rest)| rest);
        rest.split_once("```").map_or("", |(block, _)| block)
    };
    let (file, lines) = (block("toml"), block("sh"));
    let path = file.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
    machine.write(path, file)?;
    // The last line asks for the page; the server may need a moment after its start.
    let (lines, last) = lines.trim_end().rsplit_once('\n').unwrap_or_default();
    let said = machine.sh(&format!("set -e\n{lines}"))?;
    assert!(said.contains("nothing to say"), "{said}");
    until(machine, &format!("[[ $({last}) == 'Hello from a container.' ]]"))?;
    machine.sh("systemctl stop hello-container")?;
    assert_eq!(machine.sh("systemctl show -P Result hello-container")?, "success");
    machine.sh("rm -r /srv/hello /etc/wharf/containers/hello.toml").map(drop)
}

/// Twenty containers that run.
fn twenty(machine: &Machine) -> Result<()> {
    import(machine, &DEBIAN)?;
    for number in 1..=20 {
        machine.write(&format!("/etc/wharf/containers/echo{number}.toml"), echo(number))?;
    }
    patient(
        machine,
        "systemctl daemon-reload; for number in {1..20}; do systemctl start echo$number-container || exit; done",
    )
}

/// Containers that aren't simply up: one that waits for its next try, a timer, a socket, and an image that is being
/// fetched from somebody who doesn't answer.
fn restless(machine: &Machine) -> Result<()> {
    let files = [
        ("containers/flaps", "command = ['/bin/bash', '-c', 'exit 3']\n"),
        ("containers/ticks", "command = ['/bin/true']\n[timer]\non-calendar = 'yearly'\n"),
        ("containers/waits", "command = ['/bin/true']\n[socket]\nlisten = ['127.0.0.1:7100']\n"),
    ];
    for (name, more) in files {
        let text = format!("image = 'debian:13'\nnetwork = 'none'\nautostart = false\n{more}");
        machine.write(&format!("/etc/wharf/{name}.toml"), text)?;
    }
    machine.write(
        "/etc/wharf/images/slow.toml",
        "image = 'slow:1'\nfrom = 'https://127.0.0.1:7101/images/#v1'\n",
    )?;
    machine.write("/etc/systemd/system/silent.socket", "[Socket]\nListenStream=127.0.0.1:7101\n")?;
    machine.write("/etc/systemd/system/silent.service", "[Service]\nExecStart=sleep infinity\n")?;
    machine.sh("systemctl daemon-reload && systemctl start silent.socket flaps-container ticks-container.timer waits-container.socket")?;
    machine.sh("systemctl start --no-block slow-image")?;
    until(machine, "[[ $(systemctl show -P NRestarts flaps-container) -ge 1 ]]")?;
    until(
        machine,
        "[[ $(systemctl is-active slow-image) == activating && $(systemctl is-active silent.service) == active ]]",
    )?;
    assert_eq!(
        machine.sh("systemctl is-active ticks-container.timer waits-container.socket | sort -u")?,
        "active"
    );
    Ok(())
}

/// Whether the package is gone, with all that ran, and nothing that is the administrator's.
fn gone(machine: &Machine) -> Result<()> {
    assert_eq!(machine.sh(RUNS)?, "");
    assert_eq!(machine.sh("systemctl list-units --no-legend --plain --state=failed 'wharf*' '*-container*' '*-image.service'")?, "", "nothing counts as failed");
    machine.sh(
        "test ! -e /usr/bin/wharf && cat /var/lib/wharf/volumes/echo1/kept /etc/wharf/containers/echo20.toml",
    )?;
    machine.sh("for link in $(ls /sys/class/net); do [[ $link != wharf-* ]] || exit 1; done")?;
    assert_ne!(machine.run("nft list table inet wharf")?.code, 0);
    machine.sh(
        "systemctl stop silent.socket silent.service; rm /etc/systemd/system/silent.* /etc/wharf/images/slow.toml \
           /etc/wharf/containers/{flaps,ticks,waits}.toml; systemctl daemon-reload",
    )?;
    Ok(())
}

/// Lines of the first text that the second hasn't got.
fn only(a: &str, b: &str) -> Vec<String> {
    // An empty folder of the package apparmor: what debhelper adds to each package with a profile takes it away at
    // its purge, where it is empty.
    let theirs = |line: &&str| *line == "/etc/apparmor.d/disable";
    let there: std::collections::BTreeSet<&str> = b.lines().collect();
    let lines = a.lines().filter(|line| !there.contains(line) && !theirs(line));
    lines.map(str::to_owned).collect()
}

/// What packages need has come from Debian, which rpm's database doesn't know.
const RPM: &str = "rpm --nodeps";

const RPM_VERSION: &str = "rpm -q --qf '%{VERSION}' wharf";

/// Says a word, and what it heard; and keeps something.
const ECHO: &str = r#"image = "debian:13"
command = ["/usr/bin/perl", "-MIO::Socket::INET", "-e", '''
    open my $kept, ">>", "/data/kept"; print $kept "data\n"; close $kept;
    $SIG{TERM} = sub { exit 0 };
    my $server = IO::Socket::INET->new(LocalPort => 7000, Listen => 5, ReuseAddr => 1) or die;
    while (my $client = $server->accept) { $client->autoflush(1); print $client "back $_" while <$client> }
''']
publish = ["@:7000"]
autostart = false
mounts."/data".volume = "echo#"
mounts."/host".bind = "/srv/kept"
"#;

fn echo(number: u32) -> String {
    ECHO.replace('@', &(7000 + number).to_string()).replace('#', &number.to_string())
}

/// What of Wharf runs.
const RUNS: &str = "systemctl list-units --no-legend --plain --state=active,activating 'wharf*' '*-container*' '*-image.service'";

/// What boot would start of it.
const ENABLED: &str = "systemctl list-unit-files --no-legend --state=enabled 'wharf*' || :";

/// What of Wharf's the kernel has of AppArmor.
const PROFILES: &str = "grep ^wharf /sys/kernel/security/apparmor/profiles 2>/dev/null || :";

/// Every file that packages may bring; of dpkg's own, what it keeps about packages.
const FILES: &str = "find /etc /usr /opt /srv /var/lib/dpkg/info /var/lib/systemd -xdev \
    ! \\( -path '/var/lib/systemd/timers/*' ! -name '*wharf*' ! -name '*-container*' \\) ! -path '/var/lib/systemd/*seed*' ! -path '/var/lib/systemd/coredump*' | sort";

/// Connections to twenty containers, open through an upgrade and a downgrade. Its arguments are what installs a
/// package, the last one its path, with %s for the version.
const ABOUT: &str = r#"set -eu
become() {
    # shellcheck disable=SC2046,SC2059
    "${@:2:$#-2}" $(printf "${@: -1}" "$1") </dev/null
}
for number in {1..20}; do
    until (exec 9<>/dev/tcp/127.0.0.1/$((7000 + number))) 2>/dev/null; do sleep .2; done
    exec {fd}<>/dev/tcp/127.0.0.1/$((7000 + number))
    fds+=("$fd")
done
ask() {
    for fd in "${fds[@]}"; do
        echo "$1" >&"$fd"
        read -r -t 60 -u "$fd" line
        [[ $line == "back $1" ]] || { echo "$1: $line"; exit 1; }
    done
}
state() { systemctl show --property=Id,MainPID,InvocationID,NRestarts,ActiveState echo{1..20}-container; }
same() {
    [[ $(state) == "$before" ]] || { echo "after $1:"; diff <(echo "$before") <(state); exit 1; }
    [[ $(dpkg-query -W -f '${Version}' wharf) == "$2" ]] || { echo "not $2"; exit 1; }
    ask "$1"
    # What enters goes on too, and so do new connections.
    wharf exec echo20 true
    (exec 9<>/dev/tcp/127.0.0.1/7020)
}
export DEBIAN_FRONTEND=noninteractive
ask before
before=$(state)
[[ $(grep -c ActiveState=active <<<"$before") == 20 ]]
become 0.1.0+next "$@"
same upgraded 0.1.0+next
systemctl restart echo7-container
fds=("${fds[@]:0:6}" "${fds[@]:7}")
before=$(state)
# What the newer one has written, and the older one doesn't know.
sed -i 's/^{/{"later":1,/; s/"limits":{/"limits":{"later":1,/' /run/wharf/running/*.json
become 0.1.0 "$@"
same downgraded 0.1.0
systemctl restart echo8-container
wharf check
"#;

fn apt(machine: &Machine, what: &str) -> Result<()> {
    patient(machine, &format!("DEBIAN_FRONTEND=noninteractive apt-get -q -y {what} </dev/null"))
}

/// Runs a line that has to succeed, and may take long on an emulated processor.
fn patient(machine: &Machine, line: &str) -> Result<()> {
    let minutes = if machine.kind() == Kind::Full { 30 } else { 10 };
    let output = machine.run_for(line, Duration::from_secs(minutes * 60))?;
    match output.code {
        0 => Ok(()),
        _ => Err(Error::Failed { line: line.to_owned(), output }),
    }
}

/// Packages that are there.
type Made = OnceLock<Vec<PathBuf>>;

/// The folders in which they were made.
static FOLDERS: Mutex<Vec<tempfile::TempDir>> = Mutex::new(Vec::new());

/// Removes all packages, when everything is told: what is static is dropped by nobody.
pub fn clear() {
    if let Ok(mut folders) = FOLDERS.lock() {
        folders.clear();
    }
}

/// The Debian packages; the first is the older one.
pub fn packages() -> Result<&'static [PathBuf]> {
    static MADE: Made = OnceLock::new();
    if let Some(folder) = std::env::var_os("WHARF_TEST_PACKAGES")
        && MADE.get().is_none()
    {
        let there = in_folder(Path::new(&folder))?;
        return Ok(MADE.get_or_init(|| there));
    }
    made(&MADE, "packaging/deb")
}

/// rpm's.
fn rpms() -> Result<&'static [PathBuf]> {
    static MADE: Made = OnceLock::new();
    made(&MADE, "packaging/rpm/build")
}

/// The packages that a script makes, made once.
fn made(packages: &'static Made, script: &str) -> Result<&'static [PathBuf]> {
    if let Some(made) = packages.get() {
        return Ok(made);
    }
    let folder = tempfile::tempdir().context(|| "make a directory for packages")?;
    let built = Path::new(env!("CARGO_BIN_EXE_wharf")).parent().unwrap_or(Path::new("/"));
    for version in VERSIONS {
        let mut build = Command::new(project().join(script));
        build.args(["--version", version, "--built"]).arg(built).arg(folder.path());
        let done = build.output().context(|| format!("start {script}"))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(std::io::Error::other(said)).context(|| format!("make a package by {script}"));
        }
    }
    let there = in_folder(folder.path())?;
    if let Ok(mut folders) = FOLDERS.lock() {
        folders.push(folder);
    }
    Ok(packages.get_or_init(|| there))
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).context(|| format!("list the packages in {}", folder.display()))?;
    let mut packages: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // `+` is before `_`.
    packages.sort_by_key(|path| std::cmp::Reverse(path.clone()));
    Ok(packages)
}
