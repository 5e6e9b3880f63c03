//! Throwaway network namespaces, and what people do in them: serve, dial, ping.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, ipproto};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf::net::{self, Addresses, Attachment, Change, Port};
use wharf::spec::Protocol;

/// A network namespace, gone with this value.
pub struct Namespace {
    name: String,
    pub fd: File,
}

impl Namespace {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wharf-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        let fd = File::open(format!("/run/netns/{name}")).unwrap();
        Self { name, fd }
    }

    /// Does something in the namespace, in a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inner = scope.spawn(|| {
                move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            inner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// `ip`'s commands, one a line.
    pub fn ip(&self, commands: &str) {
        let mut ip =
            Command::new("ip").args(["-n", &self.name, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        ip.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
        assert!(ip.wait().unwrap().success(), "{commands}");
    }

    /// A command's standard output.
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        self.inside(|| run(program, arguments))
    }

    /// Answers each TCP connection and each datagram with the client's address.
    pub fn serve(&self, address: &str) {
        let (tcp, udp) =
            self.inside(|| (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap()));
        thread::spawn(move || {
            for client in tcp.incoming() {
                let mut client = client.unwrap();
                let _ = write!(client, "{}", client.peer_addr().unwrap().ip());
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(from.ip().to_string().as_bytes(), from);
            }
        });
    }

    /// Connects, and returns how the server sees the client.
    pub fn tcp(&self, to: &str) -> io::Result<IpAddr> {
        self.inside(|| {
            let mut server = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(2))?;
            server.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut answer = String::new();
            server.read_to_string(&mut answer)?;
            answer.parse().map_err(io::Error::other)
        })
    }

    /// The same with a datagram, from an address.
    pub fn udp_from(&self, from: &str, to: &str) -> io::Result<IpAddr> {
        self.inside(|| {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to.parse::<SocketAddr>().unwrap())?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.send(b"who am I?")?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            String::from_utf8_lossy(&buffer[..length]).parse().map_err(io::Error::other)
        })
    }

    /// The same from any address.
    pub fn udp(&self, to: &str) -> io::Result<IpAddr> {
        let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        self.udp_from(any, to)
    }

    /// Whether an echo comes back within a second (icmp(7), `ping_group_range`).
    pub fn ping(&self, to: &str) -> bool {
        let to: IpAddr = to.parse().unwrap();
        let (family, protocol, request) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128),
        };
        self.inside(|| {
            std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
            let socket = rustix::net::socket(family, SocketType::DGRAM, Some(protocol)).unwrap();
            let socket = UdpSocket::from(socket);
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            socket.connect((to, 0)).unwrap();
            // The kernel fills in the checksum and the number of who asks.
            socket.send(&[request, 0, 0, 0, 0, 0, 0, 1]).unwrap();
            socket.recv(&mut [0; 64]).is_ok()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// Runs a command to its good end, and returns its standard output.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Containers, the host, and a neighbour of the host: 192.0.2.1 and 2001:db8::1 on the host's side, 192.0.2.2
/// and 2001:db8::2 outside.
pub struct World {
    pub host: Namespace,
    pub outside: Namespace,
    pub containers: Vec<Container>,
}

pub struct Container {
    pub namespace: Namespace,
    pub attachment: Attachment,
}

impl World {
    /// A host that forwards, with the table and no container.
    pub fn new() -> Self {
        let (host, outside) = (Namespace::new(), Namespace::new());
        outside.ip(&format!(
            "link set lo up\nlink add eth0 type veth peer name eth0 netns {}\n\
             address add 192.0.2.2/24 dev eth0\naddress add 2001:db8::2/64 dev eth0 nodad\n\
             address add fe80::2/64 dev eth0 nodad\nlink set eth0 up\n",
            host.name
        ));
        host.ip(
            "link set lo up\naddress add 192.0.2.1/24 dev eth0\naddress add 2001:db8::1/64 dev eth0 nodad\n\
             address add 192.0.2.11/24 dev eth0\naddress add fe80::1/64 dev eth0 nodad\nlink set eth0 up\n",
        );
        // As a hostile neighbour would.
        outside.ip("route add 10.88.0.0/16 via 192.0.2.1\nroute add fd00:88::/64 via 2001:db8::1\n");
        host.inside(|| {
            net::enable_forwarding().unwrap();
            net::load(&net::script(&[].into())).unwrap();
        });
        // These two have been set up by hand, and are ready a little later.
        for (from, to) in [(&host, "192.0.2.2"), (&host, "2001:db8::2"), (&outside, "2001:db8::1")] {
            assert!((0..5).any(|_| from.ping(to)), "{to}");
        }
        Self { host, outside, containers: Vec::new() }
    }

    /// One more container, connected by what this changes of it; it serves on port 80. Returns its place.
    pub fn container(&mut self, change: impl FnOnce(&mut Attachment)) -> usize {
        let mut attachment = attachment(self.containers.len());
        change(&mut attachment);
        let namespace = Namespace::new();
        self.host.inside(|| {
            net::connect(&attachment, "test", namespace.fd.as_fd()).unwrap();
            let changes: Vec<Change> = net::elements(&attachment).into_iter().map(Change::Add).collect();
            net::change(&changes).unwrap();
        });
        namespace.inside(|| net::configure(&attachment)).unwrap();
        self.host.inside(|| net::settle(&attachment.interface)).unwrap();
        namespace.serve("0.0.0.0:80");
        // The same port of the other family alone.
        namespace.inside(|| std::fs::write("/proc/sys/net/ipv6/bindv6only", "1")).unwrap();
        namespace.serve("[::]:80");
        self.containers.push(Container { namespace, attachment });
        self.containers.len() - 1
    }
}

/// The addresses of the container at a place.
pub fn addresses(place: usize) -> Addresses {
    let number = u8::try_from(place + 2).unwrap();
    Addresses { v4: [10, 88, 0, number].into(), v6: Some(format!("fd00:88::{number:x}").parse().unwrap()) }
}

pub fn attachment(place: usize) -> Attachment {
    Attachment {
        interface: format!("wharf-{place:04x}"),
        gateway: Addresses { v4: [10, 88, 0, 1].into(), v6: Some("fd00:88::1".parse().unwrap()) },
        addresses: addresses(place),
        links: vec![],
        host: false,
        ports: vec![],
    }
}

/// Port 8080 of every address of the host, in TCP and UDP, to port 80.
pub fn published() -> Vec<Port> {
    let port = |protocol| Port { at: None, protocol, port: 8080, to: 80 };
    vec![port(Protocol::Tcp), port(Protocol::Udp)]
}

/// It came through, and the server saw this client.
#[track_caller]
pub fn seen(result: io::Result<IpAddr>, client: &str) {
    assert_eq!(result.unwrap(), client.parse::<IpAddr>().unwrap());
}

/// It was refused by the table: at once, by a reset for TCP, and by ICMP's "administratively prohibited" else,
/// which is EHOSTUNREACH in IPv4 and EACCES in IPv6.
#[track_caller]
pub fn refused(attempt: impl FnOnce() -> io::Result<IpAddr>) {
    let started = Instant::now();
    let error = attempt().unwrap_err();
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, PermissionDenied};
    assert!(matches!(error.kind(), ConnectionRefused | HostUnreachable | PermissionDenied), "{error:?}");
    // Less than what a client waits before it tries a second time.
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
}

/// There was no answer.
#[track_caller]
pub fn silent(result: io::Result<IpAddr>) {
    let error = result.unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{error:?}");
}
