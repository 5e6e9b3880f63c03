//! What a machine or an image is made of: Debian packages and a few changes to them.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

/// What a root file system is made of. The same recipe always means the same cached root.
#[derive(Debug, Clone)]
pub struct Recipe {
    name: &'static str,
    suite: &'static str,
    packages: Vec<&'static str>,
    without: Vec<&'static str>,
    files: BTreeMap<&'static str, &'static str>,
    commands: Vec<&'static str>,
}

impl Recipe {
    /// A recipe with nothing but the essential packages of Debian 13.
    pub fn new(name: &'static str) -> Recipe {
        let packages = Vec::new();
        // What nobody reads in a throwaway root would be copied at every boot.
        let without =
            vec!["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"];
        Recipe { name, suite: "trixie", packages, without, files: BTreeMap::new(), commands: Vec::new() }
    }

    /// The machine that the stories run on: systemd, and what an administrator reaches for.
    pub fn base() -> Recipe {
        Recipe::new("base")
            .packages(&["systemd", "systemd-sysv", "dbus", "systemd-resolved"])
            .packages(&["iproute2", "nftables", "procps", "curl", "xz-utils", "zstd", "strace"])
            // Kept, so that a story can read after a power cut what happened before it.
            .file("/etc/systemd/journald.conf.d/machine.conf", "[Journal]\nStorage=persistent\n")
            .file("/etc/hostname", "machine\n")
            .file("/etc/hosts", "127.0.0.1 localhost machine\n::1 localhost machine\n")
            // Nobody logs in there, and waiting for a network that is not there takes a minute.
            .command(
                "systemctl mask console-getty.service getty@.service systemd-networkd-wait-online.service",
            )
            // A fixed identity: without it each boot would be a first boot.
            .command("rm -f /etc/machine-id && systemd-machine-id-setup --print")
            // What is done at the first boot after an update was done by the packages.
            .command("touch /etc/.updated /var/.updated")
    }

    /// The same on Debian 12: systemd 252, and in the full machine Linux 6.1, whose overlayfs wants all layers
    /// in one string.
    pub fn older() -> Recipe {
        let mut recipe = Recipe::base();
        recipe.name = "older";
        recipe.suite = "bookworm";
        recipe
    }

    /// The base machine with what loads AppArmor's profiles; the kernel has AppArmor anyway.
    pub fn confining() -> Recipe {
        let mut recipe = Recipe::base().packages(&["apparmor"]);
        recipe.name = "confining";
        recipe
    }

    /// The same on Debian 12.
    pub fn confining_older() -> Recipe {
        let mut recipe = Recipe::older().packages(&["apparmor"]);
        recipe.name = "confining-older";
        recipe
    }

    /// The base machine with rpm, which Debian has for other distributions' packages.
    pub fn foreign() -> Recipe {
        let mut recipe = Recipe::base().packages(&["rpm"]);
        recipe.name = "foreign";
        recipe
    }

    /// The base machine with machined and machinectl.
    pub fn registering() -> Recipe {
        let mut recipe = Recipe::base().packages(&["systemd-container"]);
        recipe.name = "registering";
        recipe
    }

    /// The base machine with Ansible, which keeps it from inside, and what it installs packages with.
    pub fn managed() -> Recipe {
        let mut recipe = Recipe::base().packages(&["ansible-core", "python3-apt"]);
        recipe.name = "managed";
        recipe
    }

    /// The same on Debian 12, with ansible-core 2.14.
    pub fn older_managed() -> Recipe {
        let mut recipe = Recipe::older().packages(&["ansible-core", "python3-apt"]);
        recipe.name = "older-managed";
        recipe
    }

    /// A machine that Ansible keeps from another one, over ssh.
    pub fn kept() -> Recipe {
        let mut recipe = Recipe::base().packages(&["openssh-server", "python3", "python3-apt"]);
        recipe.name = "kept";
        recipe
    }

    /// The machine of somebody who keeps others.
    pub fn keeper() -> Recipe {
        let mut recipe =
            Recipe::base().packages(&["ansible-core", "openssh-client", "gpg", "gpg-agent", "openssl"]);
        recipe.name = "keeper";
        recipe
    }

    /// The base machine with Podman, which the benchmark compares with.
    pub fn bench() -> Recipe {
        let mut recipe = Recipe::base().packages(&["podman", "netavark", "catatonit", "crun", "wrk"]);
        recipe.name = "bench";
        recipe
    }

    /// An image's root file system with nothing but Debian's essential packages.
    pub fn debian_image() -> Recipe {
        Recipe::new("debian")
    }

    /// An image's root file system with nginx, logging where a container's logs belong.
    pub fn nginx_image() -> Recipe {
        Recipe::new("nginx")
            .packages(&["nginx-light"])
            .file("/var/www/html/index.html", "<!doctype html><title>Wharf</title><p>Hello from nginx.\n")
            .file("/etc/nginx/nginx.conf", NGINX_CONF)
    }

    /// An image's root file system with BusyBox.
    pub fn busybox_image() -> Recipe {
        Recipe::new("busybox").packages(&["busybox"])
    }

    /// An image's root file system with what it takes to try a network out.
    pub fn probe_image() -> Recipe {
        Recipe::new("probe").packages(&["socat", "iputils-ping", "iproute2"])
    }

    /// An image's root file system with PostgreSQL, without its just-in-time compiler, which is
    /// half of it. `/bin/sh /usr/local/lib/run-postgresql` is its command, as user postgres, with
    /// its data in /data. With `PGPASSWORD`, the first start makes a role and a database `app`, and it
    /// serves the network; without, 127.0.0.1 only.
    pub fn postgresql_image() -> Recipe {
        Recipe::new("postgresql")
            .packages(&["postgresql"])
            .without(&["/usr/lib/*/libLLVM*", "/usr/lib/*/libz3*", "/usr/lib/postgresql/*/lib/bitcode/*"])
            .without(&["/usr/lib/*/perl/*/CORE/*", "/usr/share/i18n/locales/*"])
            .file("/usr/local/lib/run-postgresql", RUN_POSTGRESQL)
            .command("rm -rf /var/lib/postgresql/*/main /etc/postgresql/*/main && mkdir -m 755 /data && chown postgres: /data")
    }

    /// An image's root file system with Redis, with room for its data in /data.
    pub fn redis_image() -> Recipe {
        Recipe::new("redis").packages(&["redis-server"]).command("mkdir -m 755 /data && chown redis: /data")
    }

    /// An image's root file system with a small web application on gunicorn, which keeps its rows in
    /// PostgreSQL. `gunicorn` in /srv/app is its command, as user app; it listens on port 8000.
    pub fn app_image() -> Recipe {
        Recipe::new("app")
            .packages(&["gunicorn", "python3-psycopg", "python3-psycopg-pool"])
            .file("/srv/app/app.py", include_str!("app/app.py"))
            .file("/srv/app/gunicorn.conf.py", include_str!("app/gunicorn.conf.py"))
            .command("useradd --system --home-dir /srv/app --shell /usr/sbin/nologin app")
    }

    /// The recipe of that name, for the command line.
    pub fn named(name: &str) -> Option<Recipe> {
        match name {
            "base" => Some(Recipe::base()),
            "older" => Some(Recipe::older()),
            "managed" => Some(Recipe::managed()),
            "older-managed" => Some(Recipe::older_managed()),
            "kept" => Some(Recipe::kept()),
            "keeper" => Some(Recipe::keeper()),
            "confining" => Some(Recipe::confining()),
            "confining-older" => Some(Recipe::confining_older()),
            "foreign" => Some(Recipe::foreign()),
            "bench" => Some(Recipe::bench()),
            "debian" => Some(Recipe::debian_image()),
            "nginx" => Some(Recipe::nginx_image()),
            "busybox" => Some(Recipe::busybox_image()),
            "probe" => Some(Recipe::probe_image()),
            "postgresql" => Some(Recipe::postgresql_image()),
            "redis" => Some(Recipe::redis_image()),
            "app" => Some(Recipe::app_image()),
            _ => None,
        }
    }

    /// Adds packages.
    pub fn packages(mut self, packages: &[&'static str]) -> Recipe {
        self.packages.extend(packages);
        self
    }

    /// Leaves files of the packages out, by patterns of their paths.
    pub fn without(mut self, patterns: &[&'static str]) -> Recipe {
        self.without.extend(patterns);
        self
    }

    /// Adds a file, mode 0644, owned by root.
    pub fn file(mut self, path: &'static str, text: &'static str) -> Recipe {
        self.files.insert(path, text);
        self
    }

    /// Adds a shell line to be run in the root once its packages and files are there.
    pub fn command(mut self, line: &'static str) -> Recipe {
        self.commands.push(line);
        self
    }

    /// What else the full machine needs: a kernel, a way in, and a network to come by.
    pub(super) fn with_kernel(self) -> Recipe {
        self.packages(&["linux-image-cloud-amd64", "initramfs-tools", "openssh-server"])
            .file("/etc/fstab", "/dev/vda / ext4 defaults 0 1\n")
            .file(
                "/etc/systemd/network/10-machine.network",
                "[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n",
            )
            .command("systemctl enable systemd-networkd.service")
    }

    /// What it has in common with all others of its release.
    pub(super) fn essential(&self) -> Recipe {
        Recipe { suite: self.suite, ..Recipe::new("essential") }
    }

    /// Its name, for messages and for file names.
    pub fn name(&self) -> &str {
        self.name
    }

    /// The Debian release that it is made of.
    pub(super) fn suite(&self) -> &str {
        self.suite
    }

    /// The packages besides the essential ones.
    pub(super) fn package_list(&self) -> String {
        self.packages.join(" ")
    }

    /// The patterns of what is left out of the packages.
    pub(super) fn left_out(&self) -> &[&'static str] {
        &self.without
    }

    /// The files, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (*path, *text))
    }

    /// The shell lines.
    pub(super) fn commands(&self) -> &[&'static str] {
        &self.commands
    }

    /// A short name for the content of the recipe and `form`, what is made of it.
    pub(super) fn key(&self, form: &str) -> String {
        let Recipe { name, suite, packages, without, files, commands } = self;
        let text = format!("{form}\n{suite}\n{packages:?}\n{without:?}\n{files:?}\n{commands:?}");
        let digest = Sha256::digest(text.as_bytes());
        let mut key = format!("{name}-");
        for byte in &digest[..8] {
            // Writing to a string cannot fail.
            let _ = write!(key, "{byte:02x}");
        }
        key
    }
}

/// nginx as a container's first process: in the foreground, errors to stderr. A
/// journal socket cannot be opened as /dev/stdout, so there is no access log.
const NGINX_CONF: &str = "\
daemon off;
pid /run/nginx.pid;
error_log stderr notice;
worker_processes 1;
events { worker_connections 256; }
http {
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server {
        listen 8080;
        listen [::]:8080;
        root /var/www/html;
    }
}
";

/// PostgreSQL as a container's first process: makes its cluster the first time.
const RUN_POSTGRESQL: &str = r#"set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
password=${PGPASSWORD-}
unset PGPASSWORD
addresses=127.0.0.1
[ -z "$password" ] || addresses='*'
# Made aside and renamed: a power cut must not leave half a cluster that looks like one.
if [ ! -e /data/main ]; then
    rm -rf /data/main.part
    "$bin/initdb" --auth=trust --encoding=UTF8 --locale=C.UTF-8 --pgdata=/data/main.part
    if [ -n "$password" ]; then
        echo 'host all all all scram-sha-256' >>/data/main.part/pg_hba.conf
        sync /data/main.part/pg_hba.conf
        quoted=$(printf %s "$password" | sed "s/'/''/g")
        # A server without a network, which reads one statement a line.
        printf '%s\n' "create role app login password '$quoted'" 'create database app owner app' |
            "$bin/postgres" --single -D /data/main.part -c exit_on_error=on \
                -c log_min_error_statement=panic postgres >/dev/null
    fi
    mv /data/main.part /data/main
    sync /data
fi
exec "$bin/postgres" -D /data/main -c listen_addresses="$addresses" -c unix_socket_directories=/tmp
"#;
