//! Wharf's own words in the journal: entries with fields, by journald's native protocol
//! (systemd's JOURNAL_NATIVE_PROTOCOL page).
//!
//! A failure has a `MESSAGE_ID=`, for which packaging/wharf.catalog has an entry: `journalctl -x` shows it.
//!
//! journald finds out which unit a sender belongs to when it reads what that has sent. A process that ends by then
//! would have none; so the unit is named in the entry, and counts, since root says it (`OBJECT_SYSTEMD_UNIT=`,
//! systemd.journal-fields(7)).

use std::env;
use std::os::unix::net::UnixDatagram;

use crate::check::{Container, RootSource};
use crate::running::Running;
use crate::spec::ContainerName;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// What kinds of failures there are, as the catalogue has them. The first thirteen are those of the statuses by which a
/// start fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// The plan, or a file that is read at the start.
    Config,
    /// The program is there, or not, and can't be run.
    Program,
    /// The working directory.
    Folder,
    /// The group.
    Group,
    /// The user, or the range of ids.
    User,
    /// Capabilities.
    Capabilities,
    /// The cgroup.
    Cgroup,
    /// Addresses, the interface, published ports.
    Network,
    /// Namespaces and mounts.
    Root,
    /// The promise to gain no privileges.
    NoNewPrivileges,
    /// The list of system calls.
    SystemCalls,
    /// The AppArmor profile.
    AppArmor,
    /// Secrets that systemd was to load.
    Credentials,
    /// The image isn't in the store.
    NoImage,
    /// The container's files have mistakes.
    BadFile,
    /// It didn't end in time, and was killed.
    Killed,
    /// An image can't be had.
    NotProvided,
    /// Its program ended with a bad status, or by a signal.
    Ended,
    /// A process of it was killed for want of memory.
    OutOfMemory,
    /// It wasn't ready in its time, ran longer than it may, or said nothing for too long.
    Late,
    /// Its volumes can't be put back as they were.
    NotRestored,
    /// There can't be a snapshot of its volumes.
    NoSnapshot,
    /// Its checks have failed.
    Unhealthy,
    /// It runs its last good plan, and not what its files say.
    LastGood,
    /// It could not read its configuration anew.
    Reload,
    /// Its image's stop signal can't be sent.
    StopSignal,
    /// What is left to do after a start or an end can't be done.
    Tidying,
    /// Its sockets' connections can't be carried to it.
    Proxy,
    /// The network of all containers can't be put right.
    HostNetwork,
    /// What its files or its tag say was tried, or was to be, and it doesn't run.
    Change,
}

/// All of them, each with its id: once given, it stays.
pub const KINDS: [(Kind, &str); 30] = [
    (Kind::Config, "5895593278df49508bfc9a018811c5c9"),
    (Kind::Program, "7fe887e196274568a45442c6603f94ec"),
    (Kind::Folder, "53ca865e53ed4c8e818e0be09b3f05c2"),
    (Kind::Group, "1b88791d7af04e62b5d4075f8241fe45"),
    (Kind::User, "294622f242ba4fc5b55b85ab85d3f465"),
    (Kind::Capabilities, "ca4d9e9bc04a44ed9a53b2c78a0d21c3"),
    (Kind::Cgroup, "6657a690a1734c428a868e649c8577fc"),
    (Kind::Network, "5b00534bb3f24577984e685861c4af22"),
    (Kind::Root, "276f5101552d4ba1990a2dc18a60bbfc"),
    (Kind::NoNewPrivileges, "a1af3db69006483094b460bc5ab701ba"),
    (Kind::SystemCalls, "1fb31c09c3b04d09916179207c04c1b0"),
    (Kind::AppArmor, "80a9f1b3e93f4e0aa3239570db75357f"),
    (Kind::Credentials, "e78f5a9b6ede43aba30d70a52c7d2fe0"),
    (Kind::NoImage, "ecffacdcd81e4a70add531a4e671a38f"),
    (Kind::BadFile, "7f9118e8bc2c462690bb0423f1762edc"),
    (Kind::Killed, "371cfdfb79db4aac9ee2307ab8f54160"),
    (Kind::NotProvided, "df2cc62da3a34b539f362acc0297df71"),
    (Kind::Ended, "1417add524694c74b7de1d9801c16be4"),
    (Kind::OutOfMemory, "0b4b2e2fcd894f5da9314a1ec0d48510"),
    (Kind::Late, "c16ff4173b1c4311b2e2ef1264186ed2"),
    (Kind::NotRestored, "d40bc7f2b6d94942ba166f355d34ae59"),
    (Kind::NoSnapshot, "2e7c5c37c8e940039bd34444158e0b62"),
    (Kind::Unhealthy, "9537c8fca07e4501ac9f40f6ecb66f23"),
    (Kind::LastGood, "9aeb4c4e0388429eada3995ce4360b3d"),
    (Kind::Reload, "f050c31cef9444a7b1574ffe328e7503"),
    (Kind::StopSignal, "f1f790fdc3a94f71a6dc3bd43a113cf1"),
    (Kind::Tidying, "a2017fa9473f4559bd77d121eff28ef5"),
    (Kind::Proxy, "5b2b6f269ca54085ac9a31c637bde2af"),
    (Kind::HostNetwork, "cb41e2cc61c549819090b6b509018bea"),
    (Kind::Change, "91c83183386f29095d8498fa722bc559"),
];

impl Kind {
    /// Its `MESSAGE_ID=`.
    pub fn id(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, id)| id)
    }
}

/// What entries are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// `CONTAINER_NAME=`
    pub container: Option<String>,
    /// `IMAGE_NAME=`
    pub image: Option<String>,
    /// `IMAGE_DIGEST=`
    pub digest: Option<String>,
    /// The unit whose log this belongs to.
    pub unit: Option<String>,
    /// `VOLUME_NAMES=`, with spaces between them.
    pub volumes: String,
    /// `SNAPSHOT_NAME=`
    pub snapshot: Option<String>,
}

impl About {
    /// A container of which nothing more is known yet.
    pub fn container(name: &ContainerName) -> Self {
        Self { container: Some(name.to_string()), unit: Some(name.unit()), ..Self::default() }
    }

    /// One that was started.
    pub fn running(running: &Running) -> Self {
        let mut about = Self::container(&running.container.name);
        about.runs(&running.container, running.image.as_deref());
        about
    }

    /// What it runs.
    pub fn runs(&mut self, container: &Container, digest: Option<&str>) {
        if let RootSource::Image(reference) = &container.source {
            self.image = Some(reference.to_string());
        }
        self.digest = digest.map(str::to_owned);
    }
}

/// Puts a text into the journal, an entry for each line, with a priority of syslog(3). Says whether it is there: it
/// isn't where this process's standard error goes elsewhere.
pub fn send(about: &About, priority: u8, kind: Option<Kind>, text: &str) -> bool {
    Journal::connect(about).is_some_and(|journal| journal.send(priority, kind, text))
}

/// Whether what this process prints is in the journal too: its standard output is the stream that systemd has made for it
/// (`$JOURNAL_STREAM`, systemd.exec(5)).
pub fn is_stdout() -> bool {
    let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
    let stat = rustix::fs::fstat(std::io::stdout());
    stat.is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The journal, for who goes where no path leads to it.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    about: About,
    invocation: Option<String>,
}

impl Journal {
    /// Nothing where this process's standard error isn't the journal's.
    pub fn connect(about: &About) -> Option<Self> {
        // What systemd says of a process whose streams are journald's (systemd.exec(5)).
        env::var_os("JOURNAL_STREAM")?;
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(SOCKET).ok()?;
        Some(Self { socket, about: about.clone(), invocation: env::var("INVOCATION_ID").ok() })
    }

    /// For who can't wait until journald reads.
    #[must_use]
    pub fn without_waiting(self) -> Option<Self> {
        self.socket.set_nonblocking(true).ok().map(|()| self)
    }

    /// An entry for each line; whether they have arrived.
    pub fn send(&self, priority: u8, kind: Option<Kind>, text: &str) -> bool {
        let Self { socket, about, invocation } = self;
        let identifier = about.container.as_deref().or(about.unit.as_deref()).unwrap_or("wharf");
        // An entry without a text is none (`server_process_entry` of systemd's src/journal/journald-native.c).
        for (number, line) in text.lines().filter(|line| !line.trim().is_empty()).enumerate() {
            let mut entry = Vec::new();
            field(&mut entry, "MESSAGE", line);
            field(&mut entry, "PRIORITY", &priority.to_string());
            field(&mut entry, "SYSLOG_IDENTIFIER", identifier);
            for (name, value) in [
                // What is explained once is explained.
                ("MESSAGE_ID", kind.filter(|_| number == 0).map(Kind::id)),
                ("CONTAINER_NAME", about.container.as_deref()),
                ("IMAGE_NAME", about.image.as_deref()),
                ("IMAGE_DIGEST", about.digest.as_deref()),
                ("OBJECT_SYSTEMD_UNIT", about.unit.as_deref()),
                ("VOLUME_NAMES", Some(about.volumes.as_str()).filter(|volumes| !volumes.is_empty())),
                ("SNAPSHOT_NAME", about.snapshot.as_deref()),
                ("INVOCATION_ID", invocation.as_deref()),
            ] {
                if let Some(value) = value {
                    field(&mut entry, name, value);
                }
            }
            if socket.send(&entry).is_err() {
                return false;
            }
        }
        true
    }
}

/// `NAME=value`, or the name and the value with its length before it where there are line breaks in it.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const CATALOGUE: &str = include_str!("../packaging/wharf.catalog");

    /// Entries by id, each with its header and text (systemd's CATALOG page).
    fn catalogue() -> BTreeMap<&'static str, &'static str> {
        let entries = CATALOGUE.split("\n-- ").skip(1);
        entries.map(|entry| entry.split_once('\n').expect("a header")).collect()
    }

    #[test]
    fn every_kind_has_its_entry_and_every_entry_its_kind() {
        let catalogue = catalogue();
        for (kind, id) in KINDS {
            assert!(
                id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)),
                "{kind:?}"
            );
            assert_eq!(kind.id(), id);
            let entry = catalogue.get(id).unwrap_or_else(|| panic!("{kind:?} has no entry"));
            let (header, text) = entry.split_once("\n\n").expect("a header and a text");
            assert!(header.starts_with("Subject: ") && header.contains("\nDefined-By: Wharf\n"), "{entry}");
            assert!(
                text.contains("journalctl") || text.contains("wharf ") || text.contains("systemctl"),
                "a way out: {entry}"
            );
        }
        assert_eq!(catalogue.len(), KINDS.len(), "an entry that nothing leads to, or one twice");
        let fields = ["CONTAINER_NAME", "IMAGE_NAME", "IMAGE_DIGEST"];
        let names = CATALOGUE.split('@').skip(1).step_by(2);
        assert!(names.clone().count() > 10);
        names.for_each(|name| assert!(fields.contains(&name), "@{name}@ is no field of ours"));
    }

    #[test]
    fn fields_of_one_line_and_of_more() {
        let mut entry = Vec::new();
        field(&mut entry, "A", "b=c");
        field(&mut entry, "D", "e\nf");
        assert_eq!(entry, b"A=b=c\nD\n\x03\0\0\0\0\0\0\0e\nf\n");
    }
}
