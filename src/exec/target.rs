//! The container that is entered: what was started, and where it lives.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::failure::{Ends, Failure, Status};
use super::host::{CGROUPS, PAYLOAD};
use super::privileges;
use crate::apparmor::Label;
use crate::check::{Container, RootSource};
use crate::host::Paths;
use crate::plan::process::ImageProcess;
use crate::root::{self, Root};
use crate::running::{self, Running};
use crate::spec::ContainerName;
use crate::sys;
use crate::sys::privilege::Confine;
use crate::sys::process::{self, Join, ResourceLimits};

/// A container as it was started; its files may say something else by now.
pub struct Started {
    /// As checked then; an instance under its own name.
    pub container: Container,
    /// The container file, to be named in messages.
    pub source: PathBuf,
    /// What its image says of its program.
    pub image: ImageProcess,
}

/// What was started under this name.
///
/// # Errors
/// No record of a start, an image that isn't there any more.
pub fn as_started(paths: &Paths, name: &ContainerName) -> Result<Started, Failure> {
    let record = running::find(paths, name).map_err(|error| {
        Failure::new(Status::Config, format!("can't read what was started as {name}: {error}"))
    })?;
    let Some(Running { mut container, source, image: digest, .. }) = record else {
        return Err(Failure::new(
            Status::Config,
            format!("there is no record of what was started as {name}"),
        )
        .hint("it is still being started, or ends"));
    };
    // The reference may mean another image by now.
    if let (RootSource::Image(reference), Some(digest)) = (&container.source, digest)
        && let Ok(pinned) = format!("{}@{digest}", reference.name()).parse()
    {
        container.source = RootSource::Image(pinned);
    }
    let Root { image, .. } =
        root::find(paths, &container).map_err(|error| Failure::from_error(Status::Namespace, &error))?;
    Ok(Started { container, source, image })
}

/// A running container, by its first process.
pub struct Target {
    /// The first process.
    pub process: OwnedFd,
    /// The folder of the cgroup that the container's processes are in.
    pub cgroup: OwnedFd,
    /// The namespaces that are not the caller's own, without that of process ids.
    pub namespaces: Join,
    /// The first process's.
    pub limits: ResourceLimits,
    /// The first process's `oom_score_adj` (proc(5)).
    oom: String,
    /// What AppArmor confines the first process by.
    profile: Option<String>,
    /// The host's /proc, which nobody inside can put something else in the place of.
    proc: OwnedFd,
}

/// Every namespace that a process can join, as /proc/PID/ns has them; that of process ids apart, which only
/// counts for children.
const NAMESPACES: [(&str, Join); 6] = [
    ("user", Join::USER),
    ("mnt", Join::MOUNT),
    ("net", Join::NETWORK),
    ("ipc", Join::INTER_PROCESS_COMMUNICATION),
    ("uts", Join::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ("cgroup", Join::CONTROL_GROUP),
];

impl Target {
    /// Takes hold of a container by its unit's main process, and makes sure that it is that: in the cgroup that
    /// this unit alone has, and the first of its pid namespace. An id that was given away since can't pass.
    ///
    /// # Errors
    /// A container that has ended, or isn't there yet.
    pub fn find(name: &ContainerName, main: i32) -> Result<Self, Failure> {
        let ended = || {
            Failure::new(Status::Namespace, format!("{name} has just ended"))
                .hint(format!("systemctl status {} says how", unit(name)))
        };
        let pid = Pid::from_raw(main).ok_or_else(ended)?;
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return Err(ended()),
            Err(errno) => {
                let problem = format!("can't hold on to process {main}: {}", sys::explain(errno));
                return Err(Failure::new(Status::Namespace, problem));
            }
        };
        let path = cgroup_of(&main.to_string()).ok_or_else(ended)?;
        let first = is_first(main);
        let read = || -> io::Result<Join> {
            let mut joined = Join::empty();
            for (namespace, join) in NAMESPACES {
                let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
                if of("self")? != of(&main.to_string())? {
                    joined |= join;
                }
            }
            Ok(joined)
        };
        let (namespaces, oom) = (read(), fs::read_to_string(format!("/proc/{main}/oom_score_adj")));
        let limits = ResourceLimits::of(pid);
        // Not what its file says: what enters must be able to signal what is there, also where that was started
        // before the profile was loaded.
        let label = Label::of_program(main);
        // All of that was read by its id. If it lives still, it lived then, and the id was its own.
        if !process::is_alive(process.as_fd()) {
            return Err(ended());
        }
        if !is_payload(&path, name) || !first {
            return Err(Failure::new(Status::Namespace, format!("{name} is still being started"))
                .hint("try again in a moment"));
        }
        let unreadable = |error: io::Error| {
            Failure::new(Status::Namespace, format!("can't look at process {main}: {error}"))
        };
        Ok(Self {
            process,
            cgroup: open_cgroup(&path)?,
            namespaces: namespaces.map_err(unreadable)?,
            limits: limits.ends(Status::Namespace)?,
            oom: oom.map_err(unreadable)?,
            profile: label.map_err(unreadable)?.and_then(|label| label.profile),
            proc: open_folder("/proc")
                .map_err(|errno| Failure::new(Status::Namespace, format!("can't open /proc: {errno}")))?,
        })
    }
}

impl Target {
    /// Has AppArmor confine the program to come as it confines the first process.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn confine(&self) -> Result<(), Failure> {
        let Some(profile) = &self.profile else { return Ok(()) };
        privileges::confine(self.proc.as_fd(), profile, Confine::Program)
    }

    /// Takes the score by which the kernel chooses whom to kill for want of memory: the container's, and not that
    /// of whoever calls.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn take_oom_score(&self) -> Result<(), Failure> {
        const OWN: &str = "/proc/self/oom_score_adj";
        let take = || match fs::read_to_string(OWN)? == self.oom {
            true => Ok(()),
            false => fs::write(OWN, &self.oom),
        };
        take().map_err(|error: io::Error| {
            Failure::new(Status::Namespace, format!("can't take the container's OOM score: {error}"))
        })
    }
}

/// A process's cgroup in the unified hierarchy, from the root that the caller sees: `/wharf.slice/…`.
pub fn cgroup_of(pid: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The unit that this process is of, by its cgroup: a container's own, or its proxy's. Nothing where systemd has another
/// hierarchy than cgroup v2.
pub fn own_unit() -> Option<String> {
    let own = cgroup_of("self")?;
    let unit = own.strip_suffix("/.control").unwrap_or(&own).rsplit('/').next()?;
    unit.ends_with(".service").then(|| unit.strip_prefix('_').unwrap_or(unit).to_owned())
}

/// Whether that is where the executor puts a container's processes.
fn is_payload(path: &str, name: &ContainerName) -> bool {
    let above = path.strip_suffix(PAYLOAD).and_then(|path| path.strip_suffix('/'));
    let own = above.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    // systemd puts `_` before what the kernel could take for a file of its own, as `memory.x` (cg_escape in
    // its src/basic/cgroup-util.c).
    own.strip_prefix('_').unwrap_or(own) == name.unit()
}

/// Whether a process is the first of its pid namespace, one level below the caller's.
fn is_first(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| ids.split_whitespace().skip(1).eq(["1"]))
}

fn open_cgroup(path: &str) -> Result<OwnedFd, Failure> {
    let path = PathBuf::from(format!("{CGROUPS}{path}"));
    open_folder(&path).map_err(|errno| {
        Failure::new(Status::Cgroup, format!("can't open {}: {}", path.display(), sys::explain(errno)))
    })
}

fn open_folder(path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The unit as people type it.
pub fn unit(name: &ContainerName) -> String {
    let unit = name.unit();
    unit.strip_suffix(".service").unwrap_or(&unit).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_of_this_unit_only() {
        let name = "web@blue".parse().expect("a name");
        assert!(is_payload("/wharf.slice/web-container@blue.service/payload", &name));
        assert!(is_payload("/_web-container@blue.service/payload", &name));
        for other in [
            "/wharf.slice/web-container@blue.service",
            "/wharf.slice/web-container@red.service/payload",
            "/wharf.slice/web-container@blue.service/payload/deeper",
            "/wharf.slice/other-web-container@blue.service/payload",
            "/wharf.slice/web-container@blue.service/xpayload",
            "/",
        ] {
            assert!(!is_payload(other, &name), "{other}");
        }
    }

    #[test]
    fn own_cgroup_and_namespaces() {
        assert!(cgroup_of("self").is_some_and(|path| path.starts_with('/')));
        assert!(!is_first(std::process::id() as i32));
    }
}
