//! `wharf cp`: files and folders out of running containers, and into them.
//!
//! What is copied passes through a tar in a pipe, whichever way it goes (see [`crate::archive`]): with `-` one sees it.

mod place;

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use clap::Args;
use rustix::fs::fstat;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use self::place::{Goal, Source, View};
use super::declared::{Declared, DeclaredError};
use super::exec::{ExecError, here_as_root, look_for_main};
use super::image::progress_bar;
use super::out;
use super::output::{Exit, Failure, complain, harmless};
use crate::archive::{ArchiveError, Destination, Ids, Packed, Packer, Unpacked, decompressed, unpack};
use crate::check::{MountKind, RootSource, UserName};
use crate::host::Paths;
use crate::plan;
use crate::running;
use crate::spec::ContainerName;

const AFTER_HELP: &str = "\
One of both is NAME:PATH, or each is, in a running container, with its volumes, its memory and its binds; a relative PATH counts \
from its root, and no link leads out of that. A file of the host with a colon in its name is ./a:b.

As with cp -a, owners, modes, times, links, holes and extended attributes stay what they are. Owners are numbers as \
the container has them: its root's files are root's on the host. With --owner all of it belongs to one user, by number \
or by a name that is in the container's own /etc/passwd and /etc/group; on the host by one of the host's.

What goes to a folder that is there goes into it, DIR/. as what is in it; else it gets the name that is given. Links \
are copied as links, or followed where they end with a slash. A file appears when it is whole, and takes the place of \
another one at once.

With - it is a tar: on standard output, or on standard input for a folder that is there, also compressed by gzip, \
zstd or xz. Members that would go through a link are refused.

What comes out of a container is somebody else's: files lose set-user-id and set-group-id bits and capabilities, \
unless --keep-set-id says otherwise. In a tar they are kept.

Devices and sockets are left out, and so are /proc, /sys and the like below what is copied.

Examples:
  wharf cp nginx:/etc/nginx/nginx.conf .
  wharf cp page.html nginx:/usr/share/nginx/html/
  wharf cp /srv/site/. nginx:/usr/share/nginx/html
  wharf cp --owner www-data upload app:/var/lib/app
  wharf cp db:/data - | zstd >data.tar.zst
  tar -c site | wharf cp - nginx:/usr/share/nginx/html

Exit status: 0 copied, and notes say what was left out; 1 not all, or a file got shorter meanwhile; 2 for wrong usage.";

/// Copy files out of a running container, or into it
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct CpArgs {
    /// What is copied: NAME:PATH, a path of the host, or - for a tar
    #[arg(value_name = "FROM")]
    from: End,
    /// Where to: the same
    #[arg(value_name = "TO")]
    to: End,
    /// Everything belongs to this user and group there, by name or by number
    ///
    /// A name alone is a user with its login group, a number alone is that of both. Not for a tar on standard output,
    /// which keeps the owners.
    #[arg(long, value_name = "USER[:GROUP]")]
    owner: Option<Owner>,
    /// With set-user-id and set-group-id bits and file capabilities of what comes out of a container
    #[arg(long)]
    keep_set_id: bool,
    /// As always; for those who type -a or -r
    #[arg(short = 'a', short_alias = 'r', long, hide = true)]
    archive: bool,
}

/// One end of a copy, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// A tar on standard input or output.
    Stream,
    /// A path of the host.
    Host(Vec<u8>),
    /// A path in a container.
    Inside(ContainerName, Vec<u8>),
}

impl From<OsString> for End {
    fn from(text: OsString) -> Self {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Self::Stream;
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        if let Some(colon) = colon
            && let Ok(name) = std::str::from_utf8(&bytes[..colon])
            && let Ok(name) = name.parse()
        {
            return Self::Inside(name, bytes[colon + 1..].to_vec());
        }
        Self::Host(bytes.to_vec())
    }
}

/// User and group; without one the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner(UserName, Option<UserName>);

impl FromStr for Owner {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = |text: &str| match UserName::read(text) {
            UserName::Id(u32::MAX) => Err("that number means nobody: ids go up to 4294967294"),
            UserName::Name(name) if name.is_empty() || name.contains([':', '\n', '/']) => {
                Err("write USER or USER:GROUP, as www-data, 33 or www-data:adm")
            }
            // Digits that are no number of Linux's are no name either.
            UserName::Name(name) if name.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err("that number is too large: ids go up to 4294967294")
            }
            known => Ok(known),
        };
        match text.split_once(':') {
            Some((user, group)) => Ok(Self(one(user)?, Some(one(group)?))),
            None => Ok(Self(one(text)?, None)),
        }
    }
}

impl Owner {
    /// Their numbers, as whoever has this view knows them.
    fn ids(&self, view: &View) -> Result<(u32, u32), CpError> {
        let Self(user, group) = self;
        match (user, group) {
            (UserName::Id(uid), None) => return Ok((*uid, *uid)),
            (UserName::Id(uid), Some(UserName::Id(gid))) => return Ok((*uid, *gid)),
            _ => {}
        }
        match view {
            View::Container { name, root, .. } => crate::exec::ids_in(root.as_fd(), user, group.as_ref())
                .map_err(|failure| CpError::Owner { name: name.clone(), why: failure.problem }),
            View::Host => host_ids(user, group.as_ref()),
        }
    }
}

/// By the host's user database.
fn host_ids(user: &UserName, group: Option<&UserName>) -> Result<(u32, u32), CpError> {
    let unknown = |what: &'static str, name: &str| CpError::HostOwner { what, name: name.to_owned() };
    let (uid, own) = match user {
        UserName::Id(uid) => (*uid, *uid),
        UserName::Name(name) => {
            let found = nix::unistd::User::from_name(name).ok().flatten();
            let found = found.ok_or_else(|| unknown("user", name))?;
            (found.uid.as_raw(), found.gid.as_raw())
        }
    };
    let gid = match group {
        None => own,
        Some(UserName::Id(gid)) => *gid,
        Some(UserName::Name(name)) => {
            let found = nix::unistd::Group::from_name(name).ok().flatten();
            found.ok_or_else(|| unknown("group", name))?.gid.as_raw()
        }
    };
    Ok((uid, gid))
}

/// Why nothing is copied.
#[derive(Debug, thiserror::Error)]
enum CpError {
    #[error("name a container on one side, as nginx:/etc; on the host itself, cp copies")]
    NoContainer,
    #[error("- on both sides copies nothing")]
    BothStreams,
    #[error(
        "a tar keeps the owners as they are in the container; leave out --owner, and give it to what unpacks the tar, as \
         wharf cp --owner USER - NAME:PATH"
    )]
    OwnerOfTar,
    #[error("{name} is not running, and its root was memory: what it had written there is gone; {instead}")]
    Stopped { name: ContainerName, instead: String },
    #[error("there is no record of what was started as {0}; it is still being started, or ends")]
    NoRecord(ContainerName),
    #[error("{0}")]
    Unseen(String),
    #[error(
        "{0} has ended meanwhile: with it went its memory, and what was mounted in it can't have been copied; copy again \
         when it runs"
    )]
    Ended(ContainerName),
    #[error(
        "a tar on a terminal can't be read; lead it into the standard input, as in tar -c FOLDER | wharf cp - NAME:PATH"
    )]
    Terminal,
    #[error("no owner for what is copied to {name}: {why}; give numbers, as --owner 33:33")]
    Owner { name: ContainerName, why: String },
    #[error("this host has no {what} `{name}`; give numbers, as --owner 33:33")]
    HostOwner { what: &'static str, name: String },
    #[error("can't make a pipe")]
    Pipe(#[source] io::Error),
    #[error(
        "{name} can't write there: its root is read-only, or what is mounted there; copy into a volume, a bind or \
         memory (/tmp, /run, /var/tmp), or have the file say root = \"ephemeral\""
    )]
    ReadOnly { name: ContainerName, source: ArchiveError },
}

/// Runs the command.
pub fn run(args: CpArgs, paths: &Paths) -> Result<Exit, Failure> {
    let CpArgs { from, to, owner, keep_set_id, archive: _ } = args;
    match (&from, &to) {
        (End::Stream, End::Stream) => return Err(Failure::usage(CpError::BothStreams)),
        (End::Inside(..), End::Stream) if owner.is_some() => return Err(Failure::usage(CpError::OwnerOfTar)),
        (End::Inside(..), _) | (_, End::Inside(..)) => {}
        _ => return Err(Failure::usage(CpError::NoContainer)),
    }
    here_as_root(paths)?;
    match (&from, &to) {
        (_, End::Stream) => out_of(&from, paths),
        (End::Stream, _) => into(&to, owner, paths),
        _ => between(&from, &to, owner, keep_set_id, paths),
    }
}

/// What an end shows, and the path there.
fn view<'a>(end: &'a End, paths: &Paths) -> Result<(View, &'a [u8]), Failure> {
    match end {
        End::Stream => Ok((View::Host, b"")),
        End::Host(path) => Ok((View::Host, path)),
        End::Inside(name, path) => {
            if name.is_template() {
                return Err(DeclaredError::Template(name.clone()).into());
            }
            let main = match look_for_main(name, paths)? {
                Err(ExecError::NotRunning { .. }) => return Err(stopped(name, path, paths)),
                other => other?,
            };
            let record = running::find(paths, name)?.ok_or_else(|| CpError::NoRecord(name.clone()))?;
            // That it is the container's is made sure of next, as long as it lives.
            let pid = Pid::from_raw(main).ok_or_else(|| CpError::Ended(name.clone()))?;
            let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| CpError::Ended(name.clone()))?;
            let root =
                crate::exec::root(name, main).map_err(|failure| CpError::Unseen(failure.to_string()))?;
            let (name, ids) = (name.clone(), Ids { base: record.ids });
            Ok((View::Container { name, root, ids, process: Some(process) }, path))
        }
    }
}

/// What there is instead, where a container doesn't run.
fn stopped(name: &ContainerName, path: &[u8], paths: &Paths) -> Failure {
    let path = String::from_utf8_lossy(path).into_owned();
    let path = format!("/{}", path.trim_start_matches('/'));
    let container = Declared::list(paths)
        .ok()
        .and_then(|declared| declared.files(name).ok())
        .and_then(|files| plan::check(&files).container);
    let mounts = container.iter().flat_map(|container| &container.mounts);
    let on =
        |target: &str| path.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // The deepest one is what the container would see.
    let mount = mounts.filter(|mount| on(&mount.target)).max_by_key(|mount| mount.target.len());
    let below = |target: &str| path.strip_prefix(target).unwrap_or_default().to_owned();
    let instead = match mount.map(|mount| (&mount.kind, below(&mount.target))) {
        Some((MountKind::Volume(volume), rest)) => {
            let folder = paths.state().join("volumes").join(&volume.name);
            format!(
                "{path} is in its volume {}: that is {}{rest}, with its owners' numbers",
                volume.name,
                folder.display()
            )
        }
        Some((MountKind::Bind(bind), rest)) => {
            format!("{path} is a bind: that is {}{rest}", bind.source.display())
        }
        _ => match container.as_ref().map(|container| &container.source) {
            Some(RootSource::Image(image)) => {
                let member = path.trim_start_matches('/');
                format!("what its image has: wharf image export {image} | tar -x ./{member}")
            }
            Some(RootSource::Folder(folder)) => format!("what it begins with is in {}", folder.display()),
            None => format!("start it: systemctl start {}", name.unit().trim_end_matches(".service")),
        },
    };
    CpError::Stopped { name: name.clone(), instead }.into()
}

fn pack<W: Write>(packer: &mut Packer<'_, W>, source: &Source, path: &[u8]) -> Result<(), ArchiveError> {
    match source {
        Source::Folder { folder, .. } => packer.folder(folder, path),
        Source::Other { parent, name } => packer.named(parent, name, path),
    }
}

/// As a tar on standard output.
fn out_of(from: &End, paths: &Paths) -> Result<Exit, Failure> {
    let (view, path) = view(from, paths)?;
    let source = view.source(path)?;
    let bar = progress_bar(None);
    let mut packed = Packed::default();
    let written = out::write(None, |out| {
        let progress = |count| bar.inc(count);
        let mut packer = Packer::new(out, view.ids(), &progress);
        pack(&mut packer, &source, source.name().unwrap_or_default())?;
        packed = packer.finish()?;
        Ok::<(), ArchiveError>(())
    });
    bar.finish_and_clear();
    written?;
    lived(&view)?;
    Ok(told(&packed, &Unpacked::default()))
}

/// From a tar on standard input.
fn into(to: &End, owner: Option<Owner>, paths: &Paths) -> Result<Exit, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::usage(CpError::Terminal));
    }
    let (view, path) = view(to, paths)?;
    let folder = view.folder(path)?;
    let into = destination(&view, folder, owner.as_ref())?;
    let bar = progress_bar(None);
    let unpacked = decompressed(stdin).and_then(|input| unpack(input, &into, &|count| bar.inc(count)));
    bar.finish_and_clear();
    let unpacked = unpacked.map_err(|error| refused(&view, error))?;
    lived(&view)?;
    Ok(told(&Packed::default(), &unpacked))
}

fn destination(view: &View, folder: OwnedFd, owner: Option<&Owner>) -> Result<Destination, CpError> {
    let owner = owner.map(|owner| owner.ids(view)).transpose()?;
    Ok(Destination { folder, ids: view.ids(), owner, durable: false, powerless: false })
}

/// From one to the other, through a pipe.
fn between(
    from: &End,
    to: &End,
    owner: Option<Owner>,
    keep_set_id: bool,
    paths: &Paths,
) -> Result<Exit, Failure> {
    let powerless = matches!(from, End::Inside(..)) && !keep_set_id;
    let (from, from_path) = view(from, paths)?;
    let (to, to_path) = view(to, paths)?;
    let source = from.source(from_path)?;
    let Goal { folder, path } = to.goal(to_path, &source)?;
    let avoid = fstat(&folder).ok().map(|stat| (stat.st_dev, stat.st_ino));
    // A copy of one file is as safe as can be; of many, as fast as cp's.
    let durable = matches!(source, Source::Other { .. });
    let into = Destination { durable, powerless, ..destination(&to, folder, owner.as_ref())? };
    let (reader, writer) = io::pipe().map_err(CpError::Pipe)?;
    let bar = progress_bar(None);
    let ids = from.ids();
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| {
            let writer = BufWriter::with_capacity(256 << 10, writer);
            let mut packer = Packer::new(writer, ids, &|_| ()).avoiding(avoid);
            pack(&mut packer, &source, &path)?;
            packer.finish()
        });
        let unpacked = unpack(reader, &into, &|count| bar.inc(count));
        (packing.join(), unpacked)
    });
    bar.finish_and_clear();
    let packed = packed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // Who ends first has the reason, and the other one only sees the pipe closed.
    match (packed, unpacked) {
        (Ok(packed), Ok(unpacked)) => {
            lived(&from)?;
            lived(&to)?;
            Ok(told(&packed, &unpacked))
        }
        (Err(error), Err(_)) if !error.is_broken_pipe() => Err(error.into()),
        (Err(error), Ok(_)) => Err(error.into()),
        (_, Err(error)) => Err(refused(&to, error)),
    }
}

/// Refuses to call something a copy where a container was there for a part of it only.
fn lived(view: &View) -> Result<(), CpError> {
    view.ended().map_or(Ok(()), |name| Err(CpError::Ended(name.clone())))
}

fn refused(view: &View, error: ArchiveError) -> Failure {
    match (view, error) {
        (View::Container { name, .. }, source @ ArchiveError::ReadOnly(_)) => {
            CpError::ReadOnly { name: name.clone(), source }.into()
        }
        (_, error) => error.into(),
    }
}

/// How many notes are printed one by one: an archive may have one for each of its files.
const NOTES_MAX: usize = 50;

/// Says what wasn't copied as it was.
pub(super) fn told(packed: &Packed, unpacked: &Unpacked) -> Exit {
    let left_out = || packed.left_out.iter().chain(&unpacked.left_out);
    for what in left_out().take(NOTES_MAX) {
        complain(&format!("note: left out: {}\n", harmless(what)));
    }
    if let more @ 1.. = left_out().count().saturating_sub(NOTES_MAX) {
        complain(&format!("note: left out: {more} more\n"));
    }
    for what in &packed.changed {
        complain(&format!(
            "error: {} got shorter while it was read; in the copy it is filled up with zeros\n",
            harmless(what)
        ));
    }
    if packed.changed.is_empty() { Exit::Done } else { Exit::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let inside =
            |name: &str, path: &str| End::Inside(name.parse().expect("a name"), path.as_bytes().to_vec());
        let host = |path: &str| End::Host(path.as_bytes().to_vec());
        for (text, end) in [
            ("-", End::Stream),
            ("nginx:/etc", inside("nginx", "/etc")),
            ("web@blue:data", inside("web@blue", "data")),
            ("nginx:", inside("nginx", "")),
            ("nginx:a:b", inside("nginx", "a:b")),
            ("./a:b", host("./a:b")),
            ("/srv/a:b", host("/srv/a:b")),
            ("file", host("file")),
            (":x", host(":x")),
        ] {
            assert_eq!(End::from(OsString::from(text)), end, "{text}");
        }
    }

    #[test]
    fn owners() {
        let name = |text: &str| UserName::Name(text.to_owned());
        assert_eq!("33".parse(), Ok(Owner(UserName::Id(33), None)));
        assert_eq!("33:0".parse(), Ok(Owner(UserName::Id(33), Some(UserName::Id(0)))));
        assert_eq!("www-data".parse(), Ok(Owner(name("www-data"), None)));
        assert_eq!("www-data:4".parse(), Ok(Owner(name("www-data"), Some(UserName::Id(4)))));
        for wrong in ["", "1:", ":1", "a:b:c", "a/b", "4294967295", "4294967296"] {
            assert!(wrong.parse::<Owner>().is_err(), "{wrong}");
        }
        let ids = |text: &str| text.parse::<Owner>().expect("an owner").ids(&View::Host);
        assert_eq!(ids("33").ok(), Some((33, 33)));
        assert_eq!((ids("root").ok(), ids("7:root").ok()), (Some((0, 0)), Some((7, 0))));
        let error = ids("no-such-user").expect_err("nobody").to_string();
        assert!(error.contains("no user `no-such-user`") && error.contains("numbers"), "{error}");
    }
}
