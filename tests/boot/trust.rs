//! What the host trusts, at a start: by wharf.toml, the keys in /etc/wharf/keys and the store's signatures.

use std::io::{Cursor, Write};
use std::process::{Command, Stdio};

use super::containers::{DEBIAN, declare, feed, forget, property, with};
use super::machine::{Context, Error, Machine, Result};
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "only what is signed is started", on: On::Fast, tell: signed },
    Story { name: "a damaged image is found and repaired", on: On::Fast, tell: damaged },
    Story { name: "what nobody needs is pruned once a week", on: On::Fast, tell: pruned },
];

/// A key of gpg's on this side: the machine has no gpg, and needs none.
pub struct Signer {
    home: tempfile::TempDir,
}

/// A time that is over: keys and signatures of then have expired.
const THEN: [&str; 2] = ["--faked-system-time", "20200101T000000!"];

impl Signer {
    /// With a key that is good for a day from now, or from then.
    pub fn new(more: &[&str]) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("g").tempdir().context(|| "make a folder for gpg")?;
        let signer = Self { home };
        let key = ["--quick-gen-key", "Ops <ops@example.org>", "ed25519", "sign", "1d"];
        signer.gpg(&[more, &key].concat(), b"")?;
        Ok(signer)
    }

    /// Runs gpg, with something to read; what it wrote.
    pub fn gpg(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let run = || -> std::io::Result<Vec<u8>> {
            let mut child = Command::new("gpg")
                .env("GNUPGHOME", self.home.path())
                .args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""])
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input)?;
            }
            let output = child.wait_with_output()?;
            match output.status.success() {
                true => Ok(output.stdout),
                false => Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
            }
        };
        run().context(|| format!("run gpg {}", arguments.join(" ")))
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").env("GNUPGHOME", self.home.path()).args(["--kill", "all"]).output();
    }
}

/// Writes a file of any bytes, and the folders that it is in.
pub fn put(machine: &Machine, path: &str, bytes: Vec<u8>) -> Result<()> {
    feed(machine, &format!("mkdir -p $(dirname {path}) && cat >{path}"), Cursor::new(bytes)).map(drop)
}

/// What a start says that fails.
fn refused(machine: &Machine) -> Result<String> {
    let output = machine.run("systemctl start web-container")?;
    if output.code == 0 {
        return Err(Error::Failed { line: "systemctl start web-container must fail".to_owned(), output });
    }
    let status = machine.run("systemctl status --no-pager --full web-container")?.stdout;
    machine.sh("systemctl reset-failed web-container")?;
    Ok(status)
}

fn signed(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let (signer, stranger, expired) = (Signer::new(&[])?, Signer::new(&[])?, Signer::new(&THEN)?);
    let name = "registry.example/debian:13";
    machine.sh(&format!("wharf image tag {} {name}", DEBIAN.reference))?;
    let digest = machine
        .sh(&format!("wharf image inspect --json {name} | sed -n 's/^  \"digest\": \"\\(.*\\)\",/\\1/p'"))?;
    let digest = digest.trim().to_owned();
    machine.write(
        "/etc/wharf/wharf.toml",
        "trust.rules.'registry.example'.policy = 'signed'\nregistries.'registry.example'.signatures = '/srv/signatures'\n",
    )?;
    put(machine, "/etc/wharf/keys/ops.gpg", signer.gpg(&["--export"], b"")?)?;
    put(machine, "/etc/wharf/keys/old.gpg", expired.gpg(&["--export"], b"")?)?;
    let file = format!("image = '{name}'\nnetwork = 'none'\nrestart = 'no'\nautostart = false\n");
    declare(machine, "web", &file)?;
    let status = refused(machine)?;
    assert!(status.contains("is not signed, and this host trusts registry.example/debian"), "{status}");

    // Signed for another name, and then for this one.
    let payload_of = |name: &str, digest: &str| {
        format!(
            "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"{name}\"}},\"image\":{{\"docker-manifest-digest\":\"{digest}\"}},\
             \"type\":\"atomic container signature\"}},\"optional\":{{}}}}"
        )
    };
    let payload = |name: &str| payload_of(name, &digest);
    let place =
        |number: u32| format!("/srv/signatures/debian@{}/signature-{number}", digest.replace(':', "="));
    put(machine, &place(1), signer.gpg(&["--sign"], payload("registry.example/other:13").as_bytes())?)?;
    let verified = machine.run(&format!("wharf image verify --fetch {name}"))?;
    assert!(
        verified.code == 1 && verified.stderr.contains("a signature for `registry.example/other:13`"),
        "{}",
        verified.stderr
    );
    put(machine, &place(2), signer.gpg(&["--sign"], payload(name).as_bytes())?)?;
    let verified = machine.sh(&format!("wharf image verify --fetch {name}"))?;
    assert!(verified.contains("(Ops <ops@example.org>)"), "{verified}");
    // What the store has kept is enough.
    machine.sh("rm -r /srv/signatures; systemctl start web-container")?;
    assert_eq!(property(machine, "web", "ActiveState")?, "active");
    // What came into the store by another way than an import counts for no more.
    machine.sh("systemctl stop web-container")?;
    let kept = format!("/var/lib/wharf/signatures/{}/1", digest.replace(':', "/"));
    let good = machine.sh(&format!("base64 {kept}"))?;
    let other = payload_of(name, &format!("sha256:{}", "0".repeat(64)));
    for (signature, why) in [
        (stranger.gpg(&["--sign"], payload(name).as_bytes())?, "which is not one of the trusted keys"),
        (
            expired.gpg(&[&THEN[..], &["--sign"]].concat(), payload(name).as_bytes())?,
            "which expired on 2020-01-02",
        ),
        (signer.gpg(&["--sign"], other.as_bytes())?, "a signature of another image, sha256:"),
        (
            signer.gpg(&["--sign"], payload("registry.example/other:13").as_bytes())?,
            "a signature for `registry.example/other:13`",
        ),
    ] {
        put(machine, &kept, signature)?;
        let status = refused(machine)?;
        assert!(status.contains(why), "{why:?} is not in {status}");
    }
    machine.sh(&format!("base64 -d >{kept} <<'END'\n{good}\nEND\nsystemctl start web-container"))?;
    machine.sh("systemctl stop web-container; rm /etc/wharf/keys/*.gpg")?;
    let status = refused(machine)?;
    assert!(status.contains("there are no keys in /etc/wharf/keys"), "{status}");

    // Pinned only: decided without a look at the store's signatures.
    machine.write("/etc/wharf/wharf.toml", "trust.policy = 'digest'\n")?;
    machine.sh("systemctl daemon-reload")?;
    let status = refused(machine)?;
    assert!(status.contains(&format!("registry.example/debian@{digest}")), "{status}");
    declare(machine, "web", &file.replace(name, &format!("registry.example/debian@{digest}")))?;
    machine.sh("systemctl start web-container")?;
    machine
        .sh(&format!("rm /etc/wharf/wharf.toml; systemctl stop web-container; wharf image remove {name}"))?;
    forget(machine, &["web"])?;
    Ok(())
}

fn damaged(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh("mkdir -p /srv/tree/bin && echo good >/srv/tree/bin/tool && tar -cf /srv/tool.tar -C /srv/tree . && wharf image import --name tool:1 /srv/tool.tar")?;
    assert!(machine.sh("wharf fsck")?.ends_with("nothing is damaged"), "all images are whole");
    declare(
        machine,
        "sleeper",
        "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\nautostart = false\n",
    )?;
    machine.sh("systemctl start sleeper-container")?;
    let tree = |name: &str| {
        format!(
            "$(wharf image inspect --json {name} | sed -n 's/.*\"path\": \"\\(.*\\)\",/\\1/p' | head -n 1)"
        )
    };
    machine.sh(&format!(
        "echo evil >{}/bin/tool; echo foreign >{}/foreign",
        tree("tool:1"),
        tree("debian:13")
    ))?;
    let found = machine.run("wharf fsck")?;
    assert_eq!(found.code, 1);
    for words in [
        "/tree/bin/tool has other contents",
        "; was modified at",
        "/tree/foreign is foreign",
        "3 things are damaged",
    ] {
        assert!(found.stdout.contains(words), "{words:?} is not in {}", found.stdout);
    }
    let repaired = machine.run("wharf fsck --repair --from /srv/tool.tar")?;
    assert!(
        repaired.code == 1 && repaired.stdout.contains("is mounted by a running container"),
        "{}",
        repaired.stdout
    );
    machine.sh("systemctl stop sleeper-container; wharf fsck --repair && wharf fsck; rm -r /srv/tool.tar /srv/tree; wharf image remove tool:1")?;
    forget(machine, &["sleeper"])?;
    Ok(())
}

fn pruned(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    assert_eq!(machine.run("systemctl is-enabled wharf-prune.timer")?.stdout.trim(), "disabled");
    machine.sh("systemctl enable --now wharf-prune.timer && systemctl is-active wharf-prune.timer")?;
    declare(machine, "pinned", "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\nautostart = false\n")?;
    machine.sh("systemctl start pinned-container")?;
    machine.sh(
        "mkdir -p /srv/one && echo 1 >/srv/one/file && tar -c -C /srv/one . | wharf image import --name one -; \
         echo 2 >/srv/one/file && tar -c -C /srv/one . | wharf image import --name one -",
    )?;
    assert!(machine.sh("wharf image list")?.contains("-  "), "the first one has no name any more");
    // Its name is gone, and it runs.
    machine.sh("wharf image tag one debian:13 && systemctl start wharf-prune.service")?;
    let list = machine.sh("wharf image list")?;
    assert_eq!(list.lines().filter(|line| line.starts_with("- ")).count(), 1, "{list}");
    machine.sh("systemctl stop pinned-container; wharf image remove debian:13 one; systemctl start wharf-prune.service")?;
    let list = machine.sh("wharf image list")?;
    assert!(!list.lines().any(|line| line.starts_with("- ")), "{list}");
    machine.sh("systemctl disable --now wharf-prune.timer; rm -r /srv/one")?;
    forget(machine, &["pinned"])?;
    Ok(())
}
