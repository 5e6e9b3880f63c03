//! What an administrator types again and again, as functions: images, container files, waiting.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use super::machine::{self, Context, Error, Kind, Machine, Recipe, Result};
use super::stage::{Stage, install_wharf};

/// An image, and what its import is told.
pub struct Image {
    /// What it is called.
    pub reference: &'static str,
    /// What it is made of.
    pub recipe: fn() -> Recipe,
    /// Arguments for `wharf image import`.
    pub arguments: &'static str,
}

/// A Debian without anything more: a shell and a Perl for small programs.
pub const DEBIAN: Image = Image {
    reference: "debian:13",
    recipe: Recipe::debian_image,
    // A process 1 that ends when it is told to; sleep(1) would ignore it there.
    arguments: "--command /bin/bash --command -c --command 'trap exit TERM; sleep infinity & wait'",
};

/// Servers on port 7000, TCP and UDP, IPv4 and IPv6, which say who asks; and the clients for them.
pub const PROBE: Image = Image {
    reference: "probe:1",
    recipe: Recipe::probe_image,
    arguments: "--command /bin/bash --command -c --command 'trap \"exit 0\" TERM; \
        for family in 4 6; do only=; [ $family = 4 ] || only=,ipv6only; \
            socat TCP$family-LISTEN:7000,fork,reuseaddr$only SYSTEM:\"echo \\$SOCAT_PEERADDR\" & \
            socat UDP$family-RECVFROM:7000,fork,reuseaddr$only SYSTEM:\"echo \\$SOCAT_PEERADDR\" & \
        done; wait'",
};

/// nginx; asked by SIGQUIT it finishes the requests that it has begun.
pub const NGINX: Image = Image {
    reference: "nginx:1.26",
    recipe: Recipe::nginx_image,
    arguments: "--command /usr/sbin/nginx --command -e --command stderr --stop-signal SIGQUIT",
};

/// PostgreSQL; asked by SIGINT it ends its sessions and then itself.
pub const POSTGRESQL: Image = Image {
    reference: "postgresql:17",
    recipe: Recipe::postgresql_image,
    arguments: "--user postgres --command /bin/sh --command /usr/local/lib/run-postgresql --stop-signal SIGINT \
                --env PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin",
};

/// Redis that has written down what it acknowledges.
pub const REDIS: Image = Image {
    reference: "redis:8",
    recipe: Recipe::redis_image,
    arguments: "--user redis --command /usr/bin/redis-server --command --dir --command /data \
                --command --appendonly --command yes --command --appendfsync --command always",
};

/// The application of `examples/three-tiers`.
pub const APP: Image = Image {
    reference: "app:1",
    recipe: Recipe::app_image,
    arguments: "--user app --workdir /srv/app --command gunicorn",
};

/// The stage's machine with Wharf in it, and these images.
pub fn with<'stage>(stage: &'stage mut Stage, images: &[&Image]) -> Result<&'stage mut Machine> {
    let machine = stage.machine()?;
    if machine.run("test -x /usr/bin/wharf")?.code != 0 {
        install_wharf(machine)?;
    }
    for image in images {
        import(machine, image)?;
    }
    Ok(machine)
}

/// Imports an image, unless it is there.
pub fn import(machine: &Machine, image: &Image) -> Result<()> {
    let Image { reference, recipe, arguments } = image;
    if machine.run(&format!("wharf image inspect {reference}"))?.code == 0 {
        return Ok(());
    }
    let line = format!("wharf image import --name {reference} {arguments} -");
    feed(machine, &line, open(&recipe())?).map(drop)
}

/// An image's tar file.
pub fn open(recipe: &Recipe) -> Result<File> {
    let tar = machine::image(recipe)?;
    File::open(&tar).context(|| format!("open {}", tar.display()))
}

/// Runs a line that has to succeed, with something to read.
pub fn feed(machine: &Machine, line: &str, input: impl Read + Send) -> Result<String> {
    let output = machine.feed(line, input, Duration::from_secs(300))?;
    match output.code {
        0 => Ok(output.stdout),
        _ => Err(Error::Failed { line: line.to_owned(), output }),
    }
}

/// Puts a container's file in its place and has systemd read it.
pub fn declare(machine: &Machine, name: &str, text: &str) -> Result<()> {
    machine.write(&format!("/etc/wharf/containers/{name}.toml"), text)?;
    machine.sh("systemctl daemon-reload").map(drop)
}

/// Takes containers away again, with all that was made for them.
pub fn forget(machine: &Machine, names: &[&str]) -> Result<()> {
    for name in names {
        machine.sh(&format!(
            "systemctl stop '{name}-container.service' 2>/dev/null || :; \
             systemctl reset-failed '{name}-container.service' 2>/dev/null || :; \
             rm -rf /etc/wharf/containers/{name}.toml /etc/wharf/containers/{name}.toml.d \
                    /etc/systemd/system/{name}-container.service.d /run/wharf/last-good/{name}.json \
                    /run/wharf/restarts/{name}.json"
        ))?;
    }
    machine.sh("systemctl daemon-reload").map(drop)
}

/// A property of a container's unit, as systemd says it.
pub fn property(machine: &Machine, name: &str, property: &str) -> Result<String> {
    machine.sh(&format!("systemctl show -P {property} {name}-container"))
}

/// Waits until a condition of bash holds; says what the journal has when it never does.
pub fn until(machine: &Machine, condition: &str) -> Result<()> {
    let seconds = match machine.kind() {
        Kind::Fast => 45,
        Kind::Full => 135,
    };
    let line = format!("until {condition}; do sleep .1; ((SECONDS < {seconds})) || exit 9; done");
    let output = machine.run_for(&line, Duration::from_secs(seconds + 30))?;
    if output.code == 0 {
        return Ok(());
    }
    let journal = machine.run("journalctl -b -q --no-pager -n 30; wharf ps")?;
    Err(Error::Failed {
        line: format!("{condition} (within {seconds} s)"),
        output: machine::Output { stderr: format!("{}{}", output.stderr, journal.stdout), ..output },
    })
}

/// What a container's program wrote to its streams since the unit's last start.
pub fn log(machine: &Machine, name: &str) -> Result<String> {
    // Of an executor that has ended at once, journald may not know what it was, and has its own word for it.
    machine.sh(&format!(
        "journalctl --sync; id=$(systemctl show -P InvocationID {name}-container); \
         journalctl -q --no-pager -o cat --output-fields=MESSAGE \
         _SYSTEMD_INVOCATION_ID=$id SYSLOG_IDENTIFIER={name} + INVOCATION_ID=$id SYSLOG_IDENTIFIER={name}"
    ))
}

/// Runs a shell script in a container of the DEBIAN image and gives back what it said. `more` is the rest of
/// the container's file.
pub fn once(machine: &Machine, more: &str, script: &str) -> Result<String> {
    let text = format!(
        "image = \"debian:13\"\nrestart = \"no\"\nautostart = false\n\
         command = [\"/bin/bash\", \"-c\", '''\n{script}\n''']\n{more}"
    );
    run_once(machine, "once", &text)
}

/// Runs a container to its end, gives back what it said, and takes it away.
pub fn run_once(machine: &Machine, name: &str, text: &str) -> Result<String> {
    declare(machine, name, text)?;
    // By a cursor: systemd forgets the invocation of a unit that has ended well.
    machine.sh("rm -f /tmp/cursor; journalctl --sync; journalctl -q -n 1 --cursor-file=/tmp/cursor")?;
    machine.run(&format!("systemctl start {name}-container"))?;
    until(
        machine,
        &format!("[[ $(systemctl show -P ActiveState {name}-container) =~ ^(inactive|failed)$ ]]"),
    )?;
    let said = machine.sh(&format!(
        "journalctl --sync; journalctl -q -o cat --cursor-file=/tmp/cursor SYSLOG_IDENTIFIER={name}"
    ))?;
    forget(machine, &[name])?;
    Ok(said)
}
