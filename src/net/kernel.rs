//! The kernel's settings of forwarding and IPv6, below /proc/sys/net (Linux's `ip-sysctl`).
//!
//! They are those of the network namespace of whoever reads or writes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::NetError;

const IPV4_FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const IPV6_SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// Whether the host has IPv6: it is compiled in, and neither `ipv6.disable=1` nor
/// `net.ipv6.conf.all.disable_ipv6` switched it off.
pub fn has_ipv6() -> bool {
    fs::read_to_string(setting("all", "disable_ipv6")).is_ok_and(|value| value.trim() == "0")
}

/// Whether the kernel forwards packets: IPv4, and IPv6 where the host has that.
pub fn forwards() -> (bool, Option<bool>) {
    let on = |path: &Path| read(path).is_ok_and(|value| value == "1");
    (on(Path::new(IPV4_FORWARDING)), has_ipv6().then(|| on(&setting("all", "forwarding"))))
}

/// Makes the kernel forward packets of both families. Writes only what is not yet so.
///
/// With IPv6 forwarding the kernel takes itself for a router and stops listening to routers' advertisements,
/// by which many hosts have their default route. So interfaces that listen (`accept_ra` 1), and those that are
/// yet to come, are told before to go on all the same (2).
///
/// # Errors
/// [`NetError`].
pub fn enable_forwarding() -> Result<(), NetError> {
    change(Path::new(IPV4_FORWARDING), "1")?;
    if !has_ipv6() {
        return Ok(());
    }
    let forwarding = setting("all", "forwarding");
    if read(&forwarding)? == "1" {
        return Ok(());
    }
    let settings = Path::new(IPV6_SETTINGS);
    let listed = fs::read_dir(settings).map_err(failed("list", settings))?;
    for interface in listed {
        let path = interface.map_err(failed("list", settings))?.path().join("accept_ra");
        // "all" has no effect of its own here; and an interface may be gone by now.
        if !path.starts_with(settings.join("all")) && read(&path).is_ok_and(|value| value == "1") {
            change(&path, "2").or_else(|error| if path.exists() { Err(error) } else { Ok(()) })?;
        }
    }
    change(&forwarding, "1")
}

/// The host's side of a container with IPv6, before it comes up: IPv6 is on, even where
/// `net.ipv6.conf.default` says otherwise, and a container can't advertise itself as the host's router.
pub(super) fn prepare_interface(name: &str) -> Result<(), NetError> {
    change(&setting(name, "disable_ipv6"), "0")?;
    change(&setting(name, "accept_ra"), "0")
}

fn setting(interface: &str, name: &str) -> PathBuf {
    Path::new(IPV6_SETTINGS).join(interface).join(name)
}

fn change(path: &Path, value: &str) -> Result<(), NetError> {
    if read(path)? == value {
        return Ok(());
    }
    fs::write(path, value).map_err(failed("write", path))
}

fn read(path: &Path) -> Result<String, NetError> {
    Ok(fs::read_to_string(path).map_err(failed("read", path))?.trim().to_owned())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetError {
    let path = path.to_owned();
    move |source| NetError::Setting { action, path, source }
}
