//! The tables of keys, one for each kind of file: what the parser takes, suggestions suggest and the manual says.

mod host;
mod image;

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// A list of strings.
    Texts,
    /// A list of strings, or nothing but words in one string, which is explained.
    Command,
    /// A list of strings, or a string for the shell.
    CommandOrShell,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A string, or a list of strings.
    TextOrTexts,
    /// A string, or an integer that stands for its digits.
    TextOrNumber,
    /// A string, or `true`.
    TextOrTrue,
    /// A length of time: a string, or an integer of seconds.
    Duration,
    /// An integer.
    Number,
    /// A table whose keys are in this table too.
    Table,
    /// A table of any keys with strings, integers or booleans.
    Map,
    /// A table of any keys with strings, integers, booleans or lists of them.
    Settings,
    /// A table of any keys, with tables whose keys are in this table too, under `*`.
    Tables,
}

impl Kind {
    /// What is expected, for people.
    pub fn expected(self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Flag => "true or false".into(),
            Self::Texts | Self::Command => "a list of texts".into(),
            Self::CommandOrShell => "a list of texts, or a text for the shell".into(),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                quoted.join(" or ")
            }
            Self::TextOrTexts => "a text or a list of texts".into(),
            Self::TextOrNumber => "a text or a whole number".into(),
            Self::TextOrTrue => "a text or true".into(),
            Self::Duration => "a length of time like \"5s\"".into(),
            Self::Number => "a whole number".into(),
            Self::Table | Self::Map | Self::Settings | Self::Tables => "a table".into(),
        }
    }
}

/// What holds where a key isn't written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// It must be written.
    Required,
    /// This value, in TOML.
    Is(&'static str),
    /// In words, where no value says it.
    Words(&'static str),
}

/// What can be written in one kind of file.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary {
    /// Continues "is not a key of".
    pub of: &'static str,
    /// The file, below a folder of the search path.
    pub file: &'static str,
    /// Every key, ordered by path.
    pub keys: &'static [Key],
    /// Words of other programs' files, and the keys of the top level that do here what they do there.
    pub habits: &'static [(&'static str, &'static str)],
    /// Words of other programs' files for what no key does, and what there is instead.
    pub nothing: &'static [(&'static str, &'static str)],
}

/// Containers.
pub const CONTAINER: Vocabulary = Vocabulary {
    of: "a container",
    file: "containers/NAME.toml",
    keys: KEYS,
    habits: HABITS,
    nothing: NOTHING,
};

/// Images.
pub const IMAGE: Vocabulary = Vocabulary {
    of: "an image",
    file: "images/NAME.toml",
    keys: image::KEYS,
    habits: image::HABITS,
    nothing: &[],
};

/// The host's settings.
pub const HOST: Vocabulary =
    Vocabulary { of: "wharf.toml", file: "wharf.toml", keys: host::KEYS, habits: host::HABITS, nothing: &[] };

/// All kinds of files.
pub const ALL: [&Vocabulary; 3] = [&CONTAINER, &IMAGE, &HOST];

impl Vocabulary {
    /// The key of a path, where `*` stands for a key that the administrator chose.
    pub fn find(&self, path: &str) -> Option<&'static Key> {
        self.keys.binary_search_by(|key| key.path.cmp(path)).ok().map(|index| &self.keys[index])
    }

    /// The keys right below a table; those of the top level below the empty path.
    pub fn below<'t>(&self, table: &'t str) -> impl Iterator<Item = (&'static str, &'static Key)> + use<'t> {
        self.keys.iter().filter_map(move |key| {
            let rest =
                if table.is_empty() { key.path } else { key.path.strip_prefix(table)?.strip_prefix('.')? };
            (!rest.contains('.')).then_some((rest, key))
        })
    }
}

/// A key of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its path, `.` between tables, `*` for a key that the administrator chooses.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds without it.
    pub default: Default,
    /// What it does, in whole sentences.
    pub doc: &'static str,
    /// TOML to put into a file.
    pub example: &'static str,
}

const fn key(
    path: &'static str,
    kind: Kind,
    default: Default,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key { path, kind, default, doc, example }
}

/// Words of other files, for containers.
const HABITS: &[(&str, &str)] = &[
    ("bind", "mounts"),
    ("cmd", "command"),
    ("depends-on", "links"),
    ("env", "environment"),
    ("env-file", "environment-files"),
    ("environment-file", "environment-files"),
    ("exec", "command"),
    ("healthcheck", "health"),
    ("load-credential", "credentials"),
    ("load-credential-encrypted", "encrypted-credentials"),
    ("network-mode", "network"),
    ("mem-limit", "limits"),
    ("notify", "ready"),
    ("pids-limit", "limits"),
    ("port", "publish"),
    ("ports", "publish"),
    ("read-only", "root"),
    ("secret", "credentials"),
    ("secrets", "credentials"),
    ("service", "systemd"),
    ("shm-size", "mounts"),
    ("stop-grace-period", "stop"),
    ("stop-signal", "stop"),
    ("tmpfs", "mounts"),
    ("userns", "user-namespace"),
    ("userns-mode", "user-namespace"),
    ("volume", "mounts"),
    ("volumes", "mounts"),
    ("workdir", "working-directory"),
];

/// Words of other files for what a container can't be given. What is close to one of them in spelling or in effect, and
/// weaker in safety, is no answer.
const NOTHING: &[(&str, &str)] = &[
    ("add-host", NAMES),
    ("annotations", LABELS),
    ("build", "nothing is built here: make an image by another program, and `wharf image import` it"),
    ("cap-add", CAPABILITIES),
    ("cap-drop", CAPABILITIES),
    ("capabilities", CAPABILITIES),
    ("cgroup-parent", "containers are in wharf.slice; `systemd.Service.Slice` names another one"),
    ("container-name", "a container is called as its file is, without .toml"),
    ("device", DEVICES),
    ("devices", DEVICES),
    ("dns", SERVERS),
    ("dns-opt", SERVERS),
    ("dns-search", SERVERS),
    ("expose", "linked containers reach every port; `publish` is for everybody else"),
    ("extra-hosts", NAMES),
    ("gpus", DEVICES),
    ("group-add", "groups inside are those that the image gives `user`"),
    ("ipc", "a container has System V IPC and message queues of its own"),
    ("label", LABELS),
    ("labels", LABELS),
    ("log-driver", LOGS),
    ("logging", LOGS),
    ("name", "a container is called as its file is, without .toml"),
    ("pid", "a container has process ids of its own"),
    (
        "privileged",
        "no key makes a container privileged; what needs the host's rights is a service of its own",
    ),
    ("seccomp", "the list of system calls is always the same one; `apparmor` names another AppArmor profile"),
    ("security-opt", "of these there is `apparmor` alone; no new privileges are to be had anyway"),
    ("stdin-open", TERMINAL),
    ("sysctl", SYSCTLS),
    ("sysctls", SYSCTLS),
    ("tty", TERMINAL),
];

const CAPABILITIES: &str = "no key gives or takes capabilities: a program has eleven at most";
const DEVICES: &str = "no key gives devices of the host: /dev has the usual nodes alone";
const LABELS: &str = "containers have no labels; write a comment, or `description`";
const LOGS: &str =
    "what it writes to standard output and error is in the journal: journalctl -u NAME-container";
const NAMES: &str = "names are those of `links`; \"host\" is one for the host itself";
const SERVERS: &str = "name servers are those of the host";
const SYSCTLS: &str = "no key sets sysctls of a container";
const TERMINAL: &str = "a service has no terminal; `wharf run` and `wharf exec` have one";

/// Every key of a container, ordered by path.
pub const KEYS: &[Key] = &[
    key(
        "apparmor",
        Kind::Text,
        Default::Words("\"wharf-container\", where that is loaded"),
        "apparmor = \"unconfined\"",
        "The AppArmor profile that confines the program and all that enters the container: a name that `aa-status` lists, or \"unconfined\" for none. One that is written must be loaded, or the container doesn't start; Wharf's own, which holds where nothing is written, is left out on a host that hasn't got it, and `wharf inspect` says so.",
    ),
    key(
        "autostart",
        Kind::Flag,
        Default::Is("true"),
        "autostart = false",
        "Whether boot starts the container; where it has a timer or sockets, whether boot starts those, which then start the container. An instance of a template starts at boot only where its own files say so.",
    ),
    key(
        "command",
        Kind::Command,
        Default::Words("the image's command"),
        "command = [\"nginx\", \"-g\", \"daemon off;\"]",
        "Replaces the image's command. Where the image or `entrypoint` has an entry point, these are its arguments; with `entrypoint = []` they are the program and its arguments. Required with `rootfs` where there is no `entrypoint`.",
    ),
    key(
        "credentials",
        Kind::Texts,
        Default::Is("[]"),
        "credentials = [\"db-password\", \"tls.key:/etc/ssl/private/site.key\"]",
        "Secrets that systemd loads at each start, `NAME`, `NAME:PATH` or `NAME:OTHER-NAME` (`LoadCredential=`). Without a path they are looked for in /etc/credstore, /run/credstore and /usr/lib/credstore (systemd 251). The program finds each as a file of that name in /run/credentials, `$CREDENTIALS_DIRECTORY`, which is memory, never swapped out, and only its user can read it.",
    ),
    key(
        "description",
        Kind::Text,
        Default::Words("the container's name"),
        "description = \"Front-end web server\"",
        "One line for people; `systemctl status` shows it.",
    ),
    key(
        "encrypted-credentials",
        Kind::Texts,
        Default::Is("[]"),
        "encrypted-credentials = [\"db-password\"]",
        "As `credentials`, for secrets that `systemd-creds encrypt` has made (`LoadCredentialEncrypted=`, systemd 250). Those without a path are looked for in /etc/credstore.encrypted and its like as well.",
    ),
    key(
        "entrypoint",
        Kind::Command,
        Default::Words("the image's entry point"),
        "entrypoint = [\"/usr/bin/tini\", \"--\"]",
        "Replaces the image's entry point, and with it the image's command.",
    ),
    key(
        "environment",
        Kind::Map,
        Default::Words("empty"),
        "environment.TZ = \"Europe/Berlin\"",
        "Variables of the environment: over those of the image and of `environment-files`.",
    ),
    key(
        "environment-files",
        Kind::Texts,
        Default::Is("[]"),
        "environment-files = [\"/etc/default/nginx\", \"-/etc/default/local\"]",
        "Files of the host with `NAME=value` lines, read at each start. A `-` before the path: a missing file is no failure.",
    ),
    key(
        "group",
        Kind::TextOrNumber,
        Default::Words("the user's group"),
        "group = \"www-data\"",
        "The group that runs the program: a name of the image's group file, or a number.",
    ),
    key(
        "health",
        Kind::Table,
        Default::Words("no check"),
        "health.http = \"http://localhost/\"",
        "How to tell that the container does its work: one of `command`, `http`, `tcp` and `image`. A small init stays as the container's process 1 and checks.",
    ),
    key(
        "health.command",
        Kind::CommandOrShell,
        Default::Words("another kind of check"),
        "health.command = [\"pg_isready\", \"-q\"]",
        "The check: a program of the image that ends with 0 where all is well. A text instead of a list is for the image's /bin/sh.",
    ),
    key(
        "health.http",
        Kind::Text,
        Default::Words("another kind of check"),
        "health.http = \"http://localhost:8080/healthz\"",
        "The check: a page that is answered with a status of 200 to 399, by plain HTTP, at localhost or an address of the container. Nothing of the image's is needed for it.",
    ),
    key(
        "health.image",
        Kind::Flag,
        Default::Is("false"),
        "health.image = true",
        "The check is the image's own HEALTHCHECK, with its times where these files have none; its StartInterval doesn't count.",
    ),
    key(
        "health.interval",
        Kind::Duration,
        Default::Is("\"30s\""),
        "health.interval = \"10s\"",
        "The time from the end of a check to the next, 100ms to a day. Until the first that passes they come quicker, within a second: for as long as failures don't count.",
    ),
    key(
        "health.on-failure",
        Kind::Choice(&["restart", "stop", "none"]),
        Default::Words("\"restart\"; where `restart` is \"no\", said or not, \"stop\""),
        "health.on-failure = \"stop\"",
        "What an unhealthy container comes to: systemd stops it and starts it again by `restart`, or it is stopped for good, or it is only said.",
    ),
    key(
        "health.retries",
        Kind::Number,
        Default::Is("3"),
        "health.retries = 3",
        "How many checks in a row must fail before the container counts as unhealthy, 1 to 1000.",
    ),
    key(
        "health.start-period",
        Kind::Duration,
        Default::Words("one `interval`"),
        "health.start-period = \"20s\"",
        "The time after a start in which failed checks don't count, unless one has passed; a day at most. What is shorter than one `interval` counts as that.",
    ),
    key(
        "health.tcp",
        Kind::Text,
        Default::Words("another kind of check"),
        "health.tcp = \"127.0.0.1:5432\"",
        "The check: a port that takes connections. Nothing of the image's is needed for it.",
    ),
    key(
        "health.timeout",
        Kind::Duration,
        Default::Is("\"30s\""),
        "health.timeout = \"5s\"",
        "The time after which a check is killed, with its process group, and counts as failed, 100ms to a day.",
    ),
    key(
        "hostname",
        Kind::Text,
        Default::Words("the container's name"),
        "hostname = \"web.example\"",
        "The host name inside.",
    ),
    key(
        "image",
        Kind::Text,
        Default::Words("`rootfs`"),
        "image = \"nginx:1.26\"",
        "The image that the root comes from, by reference. Either this or `rootfs` is required.",
    ),
    key(
        "init",
        Kind::Flag,
        Default::Is("false"),
        "init = true",
        "Keeps a small init as the container's process 1; it passes signals on and reaps. For programs that ignore the stop signal when they are process 1, or leave children behind.",
    ),
    key(
        "limits",
        Kind::Table,
        Default::Words("no limits"),
        "limits.tasks = 200",
        "Limits, as properties of the unit: `systemctl set-property` and systemd-cgtop know them.",
    ),
    key(
        "limits.cpu",
        Kind::Text,
        Default::Words("no limit"),
        "limits.cpu = \"150%\"",
        "CPU time, in per cent of one CPU (`CPUQuota=`).",
    ),
    key(
        "limits.cpu-weight",
        Kind::Number,
        Default::Words("100"),
        "limits.cpu-weight = 50",
        "The share of CPU time among neighbours where it is scarce, 1 to 10000 (`CPUWeight=`).",
    ),
    key(
        "limits.cpus",
        Kind::TextOrNumber,
        Default::Words("all"),
        "limits.cpus = \"0-3,6\"",
        "The CPUs it may run on (`AllowedCPUs=`).",
    ),
    key(
        "limits.io-weight",
        Kind::Number,
        Default::Words("100"),
        "limits.io-weight = 50",
        "The share of disk time among neighbours where it is scarce, 1 to 10000 (`IOWeight=`).",
    ),
    key(
        "limits.memory",
        Kind::TextOrNumber,
        Default::Words("no limit"),
        "limits.memory = \"512M\"",
        "The most memory: bytes with K, M, G or T, per cent of the host's, or \"infinity\" (`MemoryMax=`).",
    ),
    key(
        "limits.memory-high",
        Kind::TextOrNumber,
        Default::Words("no limit"),
        "limits.memory-high = \"384M\"",
        "Memory above which it is slowed down and reclaimed from (`MemoryHigh=`).",
    ),
    key(
        "limits.open-files",
        Kind::TextOrNumber,
        Default::Words("systemd's"),
        "limits.open-files = 65536",
        "File descriptors of each process: a number, \"SOFT:HARD\" or \"infinity\" (`LimitNOFILE=`).",
    ),
    key(
        "limits.swap",
        Kind::TextOrNumber,
        Default::Words("no limit"),
        "limits.swap = \"0\"",
        "The most swap, written like `memory` (`MemorySwapMax=`).",
    ),
    key(
        "limits.tasks",
        Kind::TextOrNumber,
        Default::Words("systemd's"),
        "limits.tasks = 200",
        "Processes and threads: a number, per cent of the host's, or \"infinity\" (`TasksMax=`).",
    ),
    key(
        "links",
        Kind::Texts,
        Default::Is("[]"),
        "links = [\"app\", \"db:database\"]",
        "The containers that this one may connect to, at every port. They start first, and are found by their names: `web@blue` as `web-blue`, `my_app` also as `my-app`. An alias after `:` is a name beside that: `app@blue:app`. `host` is the host itself.",
    ),
    key(
        "mounts",
        Kind::Tables,
        Default::Words("none"),
        "mounts.\"/serve\" = { bind = \"/srv/nginx\", read-only = true }",
        "What is mounted into the root, by target: a path of the host, a named volume, or memory.",
    ),
    key(
        "mounts.*.bind",
        Kind::Text,
        Default::Words("another kind of mount"),
        "mounts.\"/serve\" = { bind = \"/srv/nginx\" }",
        "A file or folder of the host.",
    ),
    key(
        "mounts.*.idmap",
        Kind::Flag,
        Default::Is("true"),
        "mounts.\"/serve\" = { bind = \"/srv/nginx\", idmap = false }",
        "For a bind under a user namespace: user 101 inside owns what user 101 owns on disk. Without it, ids on disk are those of the container's range.",
    ),
    key(
        "mounts.*.mode",
        Kind::Text,
        Default::Words("that of the image's folder"),
        "mounts.\"/cache\" = { tmpfs = \"64M\", mode = \"1777\" }",
        "The permissions of a tmpfs, in octal.",
    ),
    key(
        "mounts.*.read-only",
        Kind::Flag,
        Default::Is("false"),
        "mounts.\"/serve\" = { bind = \"/srv/nginx\", read-only = true }",
        "For a bind or volume: writes fail.",
    ),
    key(
        "mounts.*.recursive",
        Kind::Flag,
        Default::Is("true"),
        "mounts.\"/serve\" = { bind = \"/srv/nginx\", recursive = false }",
        "For a bind: with what is mounted below it.",
    ),
    key(
        "mounts.*.tmpfs",
        Kind::TextOrTrue,
        Default::Words("another kind of mount"),
        "mounts.\"/cache\" = { tmpfs = \"64M\" }",
        "Memory, gone with the container: the most it can hold, or `true` for half of the host's memory.",
    ),
    key(
        "mounts.*.volume",
        Kind::Text,
        Default::Words("another kind of mount"),
        "mounts.\"/data\" = { volume = \"nginx-data\" }",
        "A named volume; it is made at the first start and kept.",
    ),
    key(
        "network",
        Kind::Text,
        Default::Is("\"default\""),
        "network = \"host\"",
        "What it sees of the network: with \"default\" an interface of its own behind the host, with an address that stays; with \"host\" the host's interfaces; with \"none\" nothing but itself.",
    ),
    key(
        "notify-access",
        Kind::Choice(&["main", "all"]),
        Default::Words("\"main\", and \"all\" with `init`"),
        "notify-access = \"all\"",
        "With ready = \"notify\": who may speak to systemd, the container's process 1 or every process of it (`NotifyAccess=`). From systemd 254 on process 1 may itself let the others speak.",
    ),
    key(
        "publish",
        Kind::Texts,
        Default::Is("[]"),
        "publish = [\"80:80\", \"127.0.0.1:8080:80\", \"[::]:443:443/tcp\", \"53:53/tcp+udp\"]",
        "Ports of the host that lead to ports of the container, `ADDRESS:HOST:CONTAINER/PROTOCOL`. Without an address all of the host's are meant; `0.0.0.0` and `[::]` are all of one family. A range leads to one as long: `8000-8010:8000-8010`.",
    ),
    key(
        "ready",
        Kind::Choice(&["exec", "notify", "healthy"]),
        Default::Is("\"exec\""),
        "ready = \"healthy\"",
        "When a start is done, and what links to it goes on: when the program runs, when it says so by sd_notify(3), or when the first check of [health] has passed. With \"notify\", what it says of its state, its watchdog and its descriptors reaches systemd as well; not with `user-namespace` = false, where systemd would take any process of the host for the container's if told so from inside.",
    ),
    key(
        "reload",
        Kind::Table,
        Default::Words("it can't be reloaded"),
        "reload.signal = \"SIGHUP\"",
        "What `systemctl reload` does, so that the program reads its configuration anew.",
    ),
    key(
        "reload.command",
        Kind::Command,
        Default::Words("`signal`"),
        "reload.command = [\"nginx\", \"-s\", \"reload\"]",
        "A program that is run inside, as the container's user; its exit status is the reload's.",
    ),
    key(
        "reload.signal",
        Kind::TextOrNumber,
        Default::Words("`command`"),
        "reload.signal = \"SIGHUP\"",
        "The signal that is sent to the program. A program that doesn't handle it is sent nothing, and the reload fails.",
    ),
    key(
        "reload.wait",
        Kind::Flag,
        Default::Words("true with ready = \"notify\""),
        "reload = { signal = \"SIGHUP\", wait = false }",
        "With `signal` and ready = \"notify\": the reload lasts until the program says that it is done (RELOADING=1 together with MONOTONIC_USEC=, and then READY=1, of sd_notify(3)). From systemd 253 on systemd sends the signal itself then, without a look at whether the program handles it.",
    ),
    key(
        "restart",
        Kind::Choice(&["no", "on-failure", "always"]),
        Default::Is("\"always\""),
        "restart = \"on-failure\"",
        "When systemd starts it again: never, after a failure, or after every end that nobody asked for; a fifth of a second later, and each time in a row twice as long, up to a minute, until it was up for ten minutes. With RestartSec= in [systemd.Service] that alone is the delay. Without it, a job, what has a timer and what has a `runtime` are never started again, and what takes its sockets from systemd, and is started by clients, after a failure. No job can be started again after a good end.",
    ),
    key(
        "restart-on-change",
        Kind::Texts,
        Default::Words("none"),
        "restart-on-change = [\"/etc/nginx\"]",
        "Files and folders of the host that the program reads at its start, as configuration that is mounted: when what is in them has changed since, `wharf apply` restarts the container. Nothing watches them.",
    ),
    key(
        "root",
        Kind::Choice(&["read-only", "ephemeral"]),
        Default::Is("\"read-only\""),
        "root = \"ephemeral\"",
        "What becomes of writes to the root: they fail (with fresh /tmp, /run and /var/tmp in memory), or go to memory and are gone with the container.",
    ),
    key(
        "rootfs",
        Kind::Text,
        Default::Words("`image`"),
        "rootfs = \"/srv/machines/nginx\"",
        "A folder of the host to use as root, instead of an image.",
    ),
    key(
        "runtime",
        Kind::Duration,
        Default::Words("no limit"),
        "runtime = \"2h\"",
        "The longest that it may run; what takes longer is stopped, and has failed. Of a service, that is an end as any other, after which an explicit `restart` starts it again. A job is timed from the start of its start; without `runtime` it may take for ever, and boot waits for those that it starts.",
    ),
    key(
        "snapshot",
        Kind::Flag,
        Default::Is("false"),
        "snapshot = true",
        "Whether volumes that the container may write to are put back as they were when `wharf update` or `wharf apply` tries another image and that doesn't work. A snapshot is taken after the old version has stopped; none of what doesn't run then, and none of a job's. Only on btrfs, and on XFS with reflinks; and nobody else may use these volumes meanwhile.",
    ),
    key(
        "socket",
        Kind::Table,
        Default::Words("no sockets"),
        "socket.listen = [\"0.0.0.0:80\", \"[::]:80\"]",
        "Sockets that systemd listens at, in NAME-container.socket: the first client starts the container, whose program gets them by sd_listen_fds(3). They are the host's, whatever `network` says: with one, a program can reach what the host reaches, also at 127.0.0.1. One that isn't trusted wants `proxy`.",
    ),
    key(
        "socket.group",
        Kind::TextOrNumber,
        Default::Words("root"),
        "socket.group = \"www-data\"",
        "The group of sockets that are paths: one of the host's.",
    ),
    key(
        "socket.idle-stop",
        Kind::Duration,
        Default::Words("it stays"),
        "socket.idle-stop = \"10min\"",
        "With `proxy`: how long after its last connection the container is stopped, until the next client. A running container that links to it keeps it up. A program that takes the sockets itself may end when it is idle, and is started by the next client.",
    ),
    key(
        "socket.listen",
        Kind::Texts,
        Default::Required,
        "socket.listen = [\"0.0.0.0:80\", \"[::]:80\", \"127.0.0.1:53/udp\", \"/run/app.sock\"]",
        "Where, on the host: a port of all addresses, `ADDRESS:PORT`, either with `/udp`, or an absolute path. `0.0.0.0` and `[::]` are all addresses of one family. After a change, restart NAME-container.socket.",
    ),
    key(
        "socket.mode",
        Kind::Text,
        Default::Words("systemd's, 0666"),
        "socket.mode = \"0660\"",
        "The permissions of sockets that are paths, in octal.",
    ),
    key(
        "socket.names",
        Kind::Texts,
        Default::Words("the socket unit's name for each"),
        "socket.names = [\"http\", \"admin\"]",
        "What the program finds them by (`LISTEN_FDNAMES`), one for each of `listen` and in its order.",
    ),
    key(
        "socket.on-demand",
        Kind::Flag,
        Default::Is("true"),
        "socket.on-demand = false",
        "Whether the container waits for its first client. With false, boot starts it as well as its sockets, which then keep clients waiting while it restarts.",
    ),
    key(
        "socket.proxy",
        Kind::Flag,
        Default::Is("false"),
        "socket.proxy = true",
        "For programs that can't take sockets, or aren't trusted with the host's: systemd-socket-proxyd takes them, and carries each connection to port `to` of the container. The program sees the host as its client.",
    ),
    key(
        "socket.to",
        Kind::Number,
        Default::Words("the port of `listen`"),
        "socket.to = 6379",
        "With `proxy`: the container's port that connections are carried to.",
    ),
    key(
        "socket.user",
        Kind::TextOrNumber,
        Default::Words("root"),
        "socket.user = \"www-data\"",
        "The owner of sockets that are paths: a user of the host's.",
    ),
    key("stop", Kind::Table, Default::Words("as below"), "stop.timeout = \"5s\"", "How it is stopped."),
    key(
        "stop.signal",
        Kind::TextOrNumber,
        Default::Words("the image's, or SIGTERM"),
        "stop.signal = \"SIGQUIT\"",
        "The signal that asks the program to end.",
    ),
    key(
        "stop.timeout",
        Kind::Duration,
        Default::Words("90s; with `signal`, or with `rootfs`, systemd's"),
        "stop.timeout = \"5s\"",
        "The time after which what is left is killed. With neither this nor `signal`, a container of an image has 90s whatever `DefaultTimeoutStopSec=` says.",
    ),
    key(
        "survive-soft-reboot",
        Kind::Flag,
        Default::Is("false"),
        "survive-soft-reboot = true",
        "Whether it lives through `systemctl soft-reboot`, with all that it has; before systemd 255 it doesn't, and this does nothing. What it uses of the host must stay mounted: where a bind, or /var/lib/wharf, is a file system of its own that the soft reboot unmounts, the container ends. Not with [socket], since sockets are closed then.",
    ),
    key(
        "systemd",
        Kind::Table,
        Default::Words("empty"),
        "systemd.Service.OOMScoreAdjust = -500",
        "Settings that go into the unit as they are.",
    ),
    key(
        "systemd.Service",
        Kind::Settings,
        Default::Words("empty"),
        "systemd.Service.OOMScoreAdjust = -500",
        "Settings of [Service], over Wharf's own; those that Wharf is built on are refused. A list is the setting several times. Specifiers (%n, %i) are systemd's.",
    ),
    key(
        "systemd.Unit",
        Kind::Settings,
        Default::Words("empty"),
        "systemd.Unit.OnFailure = \"page-me@%N.service\"",
        "Settings of [Unit], in the same way.",
    ),
    key(
        "timer",
        Kind::Table,
        Default::Words("no timer"),
        "timer.on-calendar = \"*-*-* 03:00\"",
        "When systemd starts it, by NAME-container.timer. Boot then starts the timer, and not the container.",
    ),
    key(
        "timer.every",
        Kind::Duration,
        Default::Words("not again"),
        "timer.every = \"15min\"",
        "The time from one start to the next. The first is when the timer first starts, at boot as a rule, or as `on-boot` says; a reload starts nothing.",
    ),
    key(
        "timer.jitter",
        Kind::Duration,
        Default::Is("\"0s\""),
        "timer.jitter = \"10min\"",
        "Up to this much later, by chance and another time each time, so that many hosts don't start at once.",
    ),
    key(
        "timer.on-boot",
        Kind::Duration,
        Default::Words("not then"),
        "timer.on-boot = \"5min\"",
        "How long after boot.",
    ),
    key(
        "timer.on-calendar",
        Kind::TextOrTexts,
        Default::Words("not then"),
        "timer.on-calendar = \"Mon..Fri *-*-* 03:00\"",
        "At these times of the calendar, one or a list, as systemd.time(7) writes them.",
    ),
    key(
        "timer.overlap",
        Kind::Choice(&["skip", "restart"]),
        Default::Is("\"skip\""),
        "timer.overlap = \"restart\"",
        "What becomes of a time that comes while it still runs: it is passed over, or the run is stopped and the next one started. Before systemd 257, and with `every`, one that was passed over is made up for as soon as the run ends.",
    ),
    key(
        "timer.persistent",
        Kind::Flag,
        Default::Words("true with `on-calendar`"),
        "timer.persistent = false",
        "Whether a time of the calendar at which the host was off is made up for at the next boot, once.",
    ),
    key(
        "type",
        Kind::Choice(&["service", "job"]),
        Default::Is("\"service\""),
        "type = \"job\"",
        "Whether the program is to stay, or to end: `systemctl start` of a job waits for its end and says how it was, and what links to it starts after that, also when it has failed. With a timer, a container is a job where nothing else is written.",
    ),
    key(
        "update",
        Kind::Choice(&["off", "local", "registry"]),
        Default::Is("\"off\""),
        "update = \"registry\"",
        "What `wharf update` does: nothing; or it restarts the container when its tag names another image in the store; or it asks the registry for the tag first, and fetches what is new there. What is pinned by a digest is never updated, but by `wharf update --pin`. A job, and what waits for a client, isn't started for it: its next run is of what the tag names by then, tried by nobody.",
    ),
    key(
        "user",
        Kind::TextOrNumber,
        Default::Words("the image's"),
        "user = \"www-data\"",
        "The user that runs the program: a name of the image's passwd file, a number, or either with `:` and a group.",
    ),
    key(
        "user-namespace",
        Kind::Flag,
        Default::Is("true"),
        "user-namespace = false",
        "Whether ids inside are a range of their own outside, so that root inside is nobody outside.",
    ),
    key(
        "working-directory",
        Kind::Text,
        Default::Words("the image's, or /"),
        "working-directory = \"/srv/app\"",
        "The folder inside that the program starts in.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_unique() {
        for pair in ALL.iter().flat_map(|vocabulary| vocabulary.keys.windows(2)) {
            assert!(pair[0].path < pair[1].path, "{} and {}", pair[0].path, pair[1].path);
        }
    }

    #[test]
    fn every_key_is_below_a_table_and_documented() {
        for vocabulary in ALL {
            for key in vocabulary.keys {
                assert_eq!(vocabulary.find(key.path), Some(key));
                if let Some((table, _)) = key.path.rsplit_once('.') {
                    let table = table.strip_suffix(".*").unwrap_or(table);
                    let kind = vocabulary.find(table).expect(key.path).kind;
                    assert!(matches!(kind, Kind::Table | Kind::Tables), "{}", key.path);
                }
                assert!(key.doc.ends_with('.') && !key.doc.contains('\n'), "{}", key.path);
                let name = key.path.rsplit('.').next().expect("a name");
                assert!(key.example.contains(name), "{}", key.path);
            }
            for (_, meant) in vocabulary.habits {
                assert!(vocabulary.find(meant).is_some(), "{meant}");
            }
            // One answer for each word, and none for what is a key.
            let words: Vec<&str> =
                vocabulary.habits.iter().chain(vocabulary.nothing).map(|(word, _)| *word).collect();
            for (at, word) in words.iter().enumerate() {
                assert!(vocabulary.find(word).is_none() && !words[..at].contains(word), "{word}");
            }
        }
    }

    #[test]
    fn neighbours() {
        assert!(CONTAINER.below("").any(|(name, _)| name == "image"));
        assert!(CONTAINER.below("").all(|(name, _)| !name.contains('.')));
        assert_eq!(CONTAINER.below("stop").map(|(name, _)| name).collect::<Vec<_>>(), ["signal", "timeout"]);
        assert_eq!(CONTAINER.below("mounts.*").count(), 7);
        assert_eq!(HOST.below("trust.rules.*").map(|(name, _)| name).collect::<Vec<_>>(), ["keys", "policy"]);
    }
}
