//! An image's way from somebody else's tools through a registry into a service.

use std::path::Path;
use std::process::{Command, Stdio};

use super::containers::{DEBIAN, declare, feed, forget, log, with};
use super::machine::{self, Context, Machine, Result};
use super::registry::Running;
use super::stage::{On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] =
    &[Story { name: "what skopeo has pushed is pulled, verified and run", on: On::Fast, tell: pulled }];

/// A port of the machine's own network.
pub const HOST: &str = "localhost:5000";

/// Pushes an image by skopeo to a registry beside the machine, whose files then go into the machine: that has a network
/// of its own.
pub fn fill(machine: &Machine) -> Result<()> {
    let registry = Running::start();
    let folder = registry.folder.path();
    let archive = folder.join("pushed");
    let tar = machine::image(&(DEBIAN.recipe)())?;
    let at = |path: &Path| path.display().to_string();
    let wharf = format!("{} --root {}", env!("CARGO_BIN_EXE_wharf"), at(&folder.join("store")));
    let copy = "skopeo copy --quiet --insecure-policy --dest-creds me:secret --dest-tls-verify=false";
    let host = &registry.host;
    shell(&format!(
        "mkdir {} && {wharf} image import --name web:1 --command /bin/bash --command -c \
             --command 'trap exit TERM; cat /etc/debian_version; sleep infinity & wait' {} && \
         {wharf} image save --output {} web:1 && rm -r {} && \
         {copy} oci-archive:{} docker://{host}/team/web:1 && rm {}",
        at(&folder.join("store")),
        at(&tar),
        at(&archive),
        at(&folder.join("store")),
        at(&archive),
        at(&archive),
    ))?;
    let config = folder.join("config.yml");
    let text = std::fs::read_to_string(&config).context(|| at(&config))?;
    let text = text.replace("127.0.0.1:0", "127.0.0.1:5000").replace(&at(folder), "/srv/registry");
    std::fs::write(&config, text).context(|| at(&config))?;
    let mut tar = Command::new("tar")
        .args(["-C", &at(folder), "-cf", "-", "."])
        .stdout(Stdio::piped())
        .spawn()
        .context(|| "start tar".to_owned())?;
    if let Some(files) = tar.stdout.take() {
        feed(machine, "mkdir -p /srv/registry && tar -C /srv/registry -xf -", files)?;
    }
    assert!(tar.wait().context(|| "wait for tar".to_owned())?.success());
    machine.copy_in("/usr/bin/docker-registry", "/usr/local/bin/docker-registry")
}

fn shell(line: &str) -> Result<()> {
    let output = Command::new("bash").args(["-c", line]).output().context(|| line.to_owned())?;
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn pulled(stage: &mut Stage) -> Told {
    let machine = with(stage, &[])?;
    fill(machine)?;
    machine.sh(
        "systemd-run -q --unit=registry docker-registry serve /srv/registry/config.yml; \
         until curl -s --cacert /srv/registry/ca.pem https://localhost:5000/v2/ >/dev/null; do sleep 0.1; done",
    )?;
    machine.write(
        "/etc/wharf/wharf.toml",
        format!("[registries.\"{HOST}\"]\nauthorities = ['/srv/registry/ca.pem']\n"),
    )?;
    let text = format!("image = '{HOST}/team/web:1'\nnetwork = 'none'\nautostart = false\nrestart = 'no'\n");
    declare(machine, "web", &text)?;

    // Without a login the reason is on the way that an administrator looks.
    assert_ne!(machine.run("systemctl start web-container")?.code, 0);
    let said = log(machine, "web")?;
    let unit = said.split_whitespace().find(|word| word.ends_with("-image") || word.contains("-image."));
    let unit = unit.map(|unit| unit.trim_end_matches(['.', ',', ')']).to_owned()).unwrap_or_default();
    assert!(!unit.is_empty(), "{said}");
    let status = machine.run(&format!("systemctl status --no-pager -l '{unit}'"))?.stdout;
    assert!(status.contains("wharf image login localhost:5000"), "{status}");

    machine.sh(&format!("echo secret | wharf image login --username me --password-stdin {HOST}"))?;
    machine.sh("systemctl start web-container && systemctl is-active web-container")?;
    let version = machine.sh("wharf exec web cat /etc/debian_version")?;
    assert!(version.starts_with("13"), "{version}");
    let (ours, theirs) = (
        machine.sh(&format!("wharf image inspect {HOST}/team/web:1 | sed -n 's/^ *digest //p'"))?,
        machine.sh(&format!(
            "curl -s --cacert /srv/registry/ca.pem -u me:secret -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
             https://{HOST}/v2/team/web/manifests/1 | sha256sum | cut -c1-64"
        ))?,
    );
    assert_eq!(ours.trim(), format!("sha256:{}", theirs.trim()), "the very bytes that were pushed");

    // From here on nobody needs the registry.
    machine.sh("systemctl stop registry && systemctl restart web-container && wharf fsck")?;
    forget(machine, &["web"])?;
    machine.sh(&format!(
        "wharf image remove {HOST}/team/web:1 && wharf image logout {HOST}; \
         rm -r /etc/wharf/wharf.toml /srv/registry && systemctl daemon-reload"
    ))?;
    Ok(())
}
