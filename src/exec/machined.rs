//! Containers in `machinectl list`: told to systemd-machined(8), which then knows them as their own units.
//!
//! Two calls of org.freedesktop.machine1(5), each to be sent and forgotten: what the host makes of it is no matter of the
//! container's. The first comes when the container runs, so that it costs no start anything; the other before its
//! record goes, since machined goes on to have a container that systemd is about to restart.
//!
//! The messages are written by hand: there are two of them, and the executor has no D-Bus library for a reason. They
//! are little-endian, version 1 of the D-Bus specification.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use crate::host::Paths;
use crate::spec::ContainerName;

/// The system bus (D-Bus specification, "Well-known Message Bus Instances").
const BUS: &str = "/run/dbus/system_bus_socket";
/// Where machined says what it is activated by: without that there is nobody to tell.
const SERVICE: &str = "/usr/share/dbus-1/system-services/org.freedesktop.machine1.service";
/// What machined keeps of each container, by name, for everybody to read.
const MACHINES: &str = "/run/systemd/machines";

/// How long an answer is waited for: longer than it takes to start machined, and not so long that a program which ends
/// at once is missed.
const PATIENCE: Duration = Duration::from_secs(1);

/// What machined calls a container: host names are what it takes.
pub fn machine_name(name: &ContainerName) -> String {
    name.as_str().replace(['_', '@'], "-")
}

/// Has machined know a container, by its first process. `interface` is the host's side of its network.
///
/// # Errors
/// Nobody listens, or machined refuses.
pub fn register(paths: &Paths, name: &ContainerName, leader: u32, interface: Option<&str>) -> io::Result<()> {
    if !paths.host(SERVICE).exists() {
        return Ok(());
    }
    let mut body = Body::default();
    body.text(&machine_name(name));
    // No machine id of its own; what is it; of which kind.
    body.number(0);
    body.text("wharf");
    body.text("container");
    body.number(leader);
    // Its root is in no folder of the host's.
    body.text("");
    let index = |name| {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
        rustix::net::netdevice::name_to_index(&socket, name).ok()
    };
    let interfaces: Vec<u32> = interface.and_then(index).into_iter().collect();
    body.number(u32::try_from(interfaces.len()).unwrap_or(0) * 4);
    interfaces.into_iter().for_each(|index| body.number(index));
    call(paths, "RegisterMachineWithNetwork", "sayssusai", &body)
}

/// Has machined forget it, where it is the one of this unit that it knows.
///
/// # Errors
/// As [`register`].
pub fn unregister(paths: &Paths, name: &ContainerName) -> io::Result<()> {
    let machine = machine_name(name);
    let known = std::fs::read_to_string(paths.host(Path::new(MACHINES).join(&machine))).unwrap_or_default();
    if !is_of(&known, &name.unit()) {
        return Ok(());
    }
    let mut body = Body::default();
    body.text(&machine);
    call(paths, "UnregisterMachine", "s", &body)
}

/// Whether machined's file about a machine says that it is this unit (`SCOPE=`, as `machine_save` of its
/// src/machine/machine.c writes it).
fn is_of(known: &str, unit: &str) -> bool {
    known.lines().any(|line| {
        line.strip_prefix("SCOPE=").is_some_and(|its| its.replace("\\x2d", "-") == unit || its == unit)
    })
}

fn call(paths: &Paths, method: &str, signature: &str, body: &Body) -> io::Result<()> {
    let mut bus = UnixStream::connect(paths.host(BUS))?;
    bus.set_read_timeout(Some(PATIENCE))?;
    bus.set_write_timeout(Some(PATIENCE))?;
    // EXTERNAL: by the credentials of the socket, for user 0 in hexadecimal digits of its decimal ones.
    bus.write_all(b"\0AUTH EXTERNAL 30\r\n")?;
    if !line(&mut bus)?.starts_with("OK ") {
        return Err(io::Error::other("the bus doesn't take this process for root's"));
    }
    bus.write_all(b"BEGIN\r\n")?;
    let hello = message(1, "org.freedesktop.DBus", "/org/freedesktop/DBus", "Hello", "", &Body::default());
    bus.write_all(&hello)?;
    let machined = "org.freedesktop.machine1";
    bus.write_all(&message(2, machined, "/org/freedesktop/machine1", method, signature, body))?;
    // The bus may drop what a peer has sent that is gone.
    loop {
        let Reply { kind, to } = reply(&mut bus)?;
        match (kind, to) {
            (RETURN, Some(2)) => return Ok(()),
            (ERROR, Some(_)) => return Err(io::Error::other(format!("{machined} refuses {method}"))),
            _ => {}
        }
    }
}

fn line(bus: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") && line.len() < 1024 {
        bus.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Types of messages.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;

/// Bytes of a message, each value at a multiple of its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        while !self.0.len().is_multiple_of(to) {
            self.0.push(0);
        }
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(0));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// A field of the header: its code, the signature of its value, and that.
    fn field(&mut self, code: u8, signature: u8, text: &str) {
        self.align(8);
        self.0.extend_from_slice(&[code, 1, signature, 0]);
        if signature == b'g' {
            self.0.push(u8::try_from(text.len()).unwrap_or(0));
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(0);
        } else {
            self.text(text);
        }
    }
}

/// A call. What it has of the header is written in the order of the codes: path, interface, member, destination,
/// signature.
fn message(serial: u32, to: &str, path: &str, method: &str, signature: &str, body: &Body) -> Vec<u8> {
    let interface = if to == "org.freedesktop.machine1" { "org.freedesktop.machine1.Manager" } else { to };
    // Fields start at 16, which is a multiple of all sizes.
    let mut fields = Body::default();
    fields.field(1, b'o', path);
    fields.field(2, b's', interface);
    fields.field(3, b's', method);
    fields.field(6, b's', to);
    if !signature.is_empty() {
        fields.field(8, b'g', signature);
    }
    let mut message = Body(vec![b'l', CALL, 0, 1]);
    message.number(u32::try_from(body.0.len()).unwrap_or(0));
    message.number(serial);
    message.number(u32::try_from(fields.0.len()).unwrap_or(0));
    message.0.extend_from_slice(&fields.0);
    message.align(8);
    message.0.extend_from_slice(&body.0);
    message.0
}

struct Reply {
    kind: u8,
    /// The serial of the call that it answers.
    to: Option<u32>,
}

/// The next message. A bus of this host's own byte order is all that there is.
fn reply(bus: &mut UnixStream) -> io::Result<Reply> {
    let mut head = [0; 16];
    bus.read_exact(&mut head)?;
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (body, fields) = (number(4) as usize, number(12) as usize);
    // The most that a message may be.
    if head[0] != b'l' || body.max(fields) > 128 << 20 {
        return Err(io::Error::other("the bus says what isn't understood"));
    }
    let mut rest = vec![0; fields.next_multiple_of(8) + body];
    bus.read_exact(&mut rest)?;
    Ok(Reply { kind: head[1], to: answered(&rest[..fields]) })
}

/// The field REPLY_SERIAL: code 5, signature `u`, at a multiple of 8 like every field.
fn answered(fields: &[u8]) -> Option<u32> {
    fields.chunks(8).find_map(|field| match field {
        [5, 1, b'u', 0, number @ ..] => Some(u32::from_le_bytes(number.try_into().ok()?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_as_the_specification_has_it() {
        let hello =
            message(1, "org.freedesktop.DBus", "/org/freedesktop/DBus", "Hello", "", &Body::default());
        // As dbus-daemon takes it and busctl sends it.
        assert_eq!(&hello[..16], b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6d\0\0\0");
        assert_eq!(hello.len(), 128);
        assert_eq!(&hello[16..48], b"\x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0");
        let mut body = Body::default();
        body.text("web");
        body.number(0);
        body.number(7);
        assert_eq!(body.0, b"\x03\0\0\0web\0\0\0\0\0\x07\0\0\0");
        assert_eq!(answered(b"\x06\x01s\0\x02\0\0\0:1\0\0\0\0\0\0\x05\x01u\0\x02\0\0\0"), Some(2));
    }

    #[test]
    fn whose_machine_it_is() {
        let name = |text: &str| text.parse::<ContainerName>().expect("a name");
        assert_eq!(machine_name(&name("my_app@blue")), "my-app-blue");
        let known = "NAME=web\nSCOPE=web-container.service\nSERVICE=wharf\n";
        assert!(is_of(known, "web-container.service") && !is_of(known, "other-container.service"));
        assert!(!is_of("", "web-container.service"));
    }
}
