//! The Debian package on machines that have never heard of Wharf: installed, upgraded, downgraded, removed, purged.
//!
//! It is made of the binaries built with this test, by the same rules as any other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::containers::{DEBIAN, import, until};
use super::machine::{Context, Error, Machine, Recipe, Result};
use super::stage::{On, Stage, Story, Told, project};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "the package comes, changes and goes on Debian 13", on: On::FastThenFull, tell: trixie },
    Story { name: "the package comes, changes and goes on Debian 12", on: On::FastIfAll, tell: bookworm },
];

/// Two versions, of which the second is newer.
const VERSIONS: [&str; 2] = ["0.1.0", "0.1.0+next"];

fn trixie(stage: &mut Stage) -> Told {
    tell(&Machine::boot(stage.kind(), &Recipe::base())?)
}

fn bookworm(stage: &mut Stage) -> Told {
    tell(&Machine::boot(stage.kind(), &Recipe::older())?)
}

fn tell(machine: &Machine) -> Told {
    for deb in packages()? {
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        machine.copy_in(deb, &format!("/root/{name}"))?;
    }
    machine.write("/root/about", ABOUT)?;
    let files = || machine.sh(FILES);
    let (files_before, rules_before) = (files()?, machine.sh("nft list ruleset")?);

    apt(machine, "install /root/wharf_0.1.0_*.deb")?;
    assert_eq!(machine.sh("nft list ruleset")?, rules_before, "installing changes no firewall");
    assert_eq!(machine.sh(RUNS)?, "", "installing starts nothing");
    assert_eq!(machine.sh("systemctl list-unit-files --no-legend --state=enabled 'wharf*' || :")?, "");
    assert_eq!(machine.sh("stat -c %a /var/lib/wharf; ls /etc/wharf")?, "700\ncontainers\nimages\nkeys");

    // As README has it: an image, one file, a start.
    import(machine, &DEBIAN)?;
    machine.write("/etc/wharf/containers/echo1.toml", echo(1))?;
    machine.sh("systemctl daemon-reload && systemctl start echo1-container")?;
    until(
        machine,
        "(exec 9<>/dev/tcp/127.0.0.1/7001 && echo hi >&9 && read -t 30 -u 9 line && [[ $line == 'back hi' ]])",
    )?;
    for number in 2..=20 {
        machine.write(&format!("/etc/wharf/containers/echo{number}.toml"), echo(number))?;
    }
    machine.sh("systemctl daemon-reload && systemctl start echo{1..20}-container")?;

    let output = machine.run_for("bash /root/about", Duration::from_secs(600))?;
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);

    // Removed, it leaves what is the administrator's, and nothing that runs.
    apt(machine, "remove wharf")?;
    assert_eq!(machine.sh(RUNS)?, "");
    machine.sh(
        "test ! -e /usr/bin/wharf && cat /var/lib/wharf/volumes/echo1/kept /etc/wharf/containers/echo20.toml",
    )?;
    machine.sh("for link in $(ls /sys/class/net); do [[ $link != wharf-* ]] || exit 1; done")?;
    // And it is all there when it comes again, without a start.
    apt(machine, "install /root/wharf_0.1.0+next_*.deb")?;
    assert_eq!(machine.sh(RUNS)?, "");
    machine.sh("systemctl start echo1-container && wharf exec echo1 grep -q data /data/kept")?;

    apt(machine, "purge wharf")?;
    assert_eq!(machine.sh(RUNS)?, "");
    assert_eq!(machine.sh("nft list ruleset")?, rules_before);
    let left = machine.sh("ls -d /etc/wharf /var/lib/wharf /run/wharf /usr/share/wharf /etc/apparmor.d/*wharf* 2>/dev/null || :")?;
    assert_eq!(left, "");
    let files_after = files()?;
    let only = |a: &str, b: &str| {
        let there: std::collections::BTreeSet<&str> = b.lines().collect();
        a.lines().filter(|line| !there.contains(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(only(&files_after, &files_before), Vec::<String>::new(), "left behind");
    assert_eq!(only(&files_before, &files_after), Vec::<String>::new(), "taken with it");
    Ok(())
}

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
"#;

fn echo(number: u32) -> String {
    ECHO.replace('@', &(7000 + number).to_string()).replace('#', &number.to_string())
}

/// What of Wharf runs.
const RUNS: &str = "systemctl list-units --no-legend --plain --state=active,activating 'wharf*' '*-container*' | \
    grep -v '^wharf-.*image\\.service' || :";

/// Every file that packages may bring; of dpkg's own, what it keeps about packages.
const FILES: &str = "find /etc /usr /opt /srv /var/lib/dpkg/info /var/lib/systemd -xdev \
    ! -path '/var/lib/systemd/timers*' ! -path '/var/lib/systemd/*seed*' ! -path '/var/lib/systemd/coredump*' | sort";

/// Connections to twenty containers, open through an upgrade and a downgrade.
const ABOUT: &str = r#"set -eu
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
apt-get install -q -y /root/wharf_0.1.0+next_*.deb
same upgraded 0.1.0+next
systemctl restart echo7-container
fds=("${fds[@]:0:6}" "${fds[@]:7}")
before=$(state)
apt-get install -q -y --allow-downgrades /root/wharf_0.1.0_*.deb
same downgraded 0.1.0
systemctl restart echo8-container
wharf check
"#;

fn apt(machine: &Machine, what: &str) -> Result<()> {
    let line = format!("DEBIAN_FRONTEND=noninteractive apt-get -q -y {what} </dev/null");
    let output = machine.run_for(&line, Duration::from_secs(300))?;
    match output.code {
        0 => Ok(()),
        _ => Err(Error::Failed { line, output }),
    }
}

/// The packages, made once.
fn packages() -> Result<&'static [PathBuf]> {
    static MADE: OnceLock<(tempfile::TempDir, Vec<PathBuf>)> = OnceLock::new();
    if let Some((_, debs)) = MADE.get() {
        return Ok(debs);
    }
    let folder = tempfile::tempdir().context(|| "make a directory for packages")?;
    let built = Path::new(env!("CARGO_BIN_EXE_wharf")).parent().unwrap_or(Path::new("/"));
    for version in VERSIONS {
        let mut build = Command::new(project().join("packaging/deb"));
        build.args(["--version", version, "--built"]).arg(built).arg(folder.path());
        let done = build.output().context(|| "start packaging/deb")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(std::io::Error::other(said)).context(|| "make the Debian package");
        }
    }
    let entries = std::fs::read_dir(folder.path()).context(|| "list the packages")?;
    let debs: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    Ok(&MADE.get_or_init(|| (folder, debs)).1)
}
