//! The built-in checks: a port that takes connections, a page that is answered. They run in a process of their own,
//! which is killed when its time is over, so that they can wait as they please; and the answer may be anything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::spec::{HttpTarget, TcpTarget};

/// How much of an answer is looked at. Servers send a status line and some fields; what is longer is no answer to this.
const LONGEST: usize = 64 << 10;

/// Connects, and says to what.
///
/// # Errors
/// Why not, for people.
pub fn tcp(target: TcpTarget, timeout: Duration) -> Result<String, String> {
    connect(target, timeout).map(|(_, address)| format!("{address} takes connections"))
}

/// Asks for a page, and says with what status it is answered: 200 to 399 is well.
///
/// # Errors
/// Why not, for people.
pub fn http(target: &HttpTarget, timeout: Duration) -> Result<String, String> {
    let (mut stream, address) = connect(target.at, timeout)?;
    let failed = |error: std::io::Error| format!("{address}: {error}");
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    stream.set_write_timeout(Some(timeout)).map_err(failed)?;
    // As RFC 9112 has it; one request, and no more on this connection.
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: wharf\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        target.path, target.authority
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    match answer(&mut stream).map_err(|problem| format!("{address}: {problem}"))? {
        Status { code: 200..=399, line } => Ok(line),
        Status { line, .. } => Err(line),
    }
}

fn connect(target: TcpTarget, timeout: Duration) -> Result<(TcpStream, SocketAddr), String> {
    let mut problem = String::new();
    for address in target.addresses() {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok((stream, address)),
            // The first address is the one that people mean.
            Err(error) if problem.is_empty() => problem = format!("{address}: {error}"),
            Err(_) => {}
        }
    }
    Err(problem)
}

/// The line that an answer begins with (RFC 9112 section 4).
#[derive(Debug, PartialEq, Eq)]
struct Status {
    code: u16,
    line: String,
}

/// Reads the final status of an answer; interim ones (1xx) may come before it (RFC 9110 section 15.2).
fn answer(stream: &mut impl Read) -> Result<Status, String> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        if let Some(status) = final_status(&bytes)? {
            return Ok(status);
        }
        if bytes.len() >= LONGEST {
            return Err("the answer doesn't begin like one of HTTP".to_owned());
        }
        match stream.read(&mut part) {
            Ok(0) => return Err("the connection was closed before an answer".to_owned()),
            Ok(size) => bytes.extend_from_slice(&part[..size]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("no answer: {error}")),
        }
    }
}

/// `None` where there is more to come.
fn final_status(mut bytes: &[u8]) -> Result<Option<Status>, String> {
    loop {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return if could_begin(bytes) { Ok(None) } else { Err(no_http()) };
        };
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        let status = status(line).ok_or_else(no_http)?;
        if status.code >= 200 {
            return Ok(Some(status));
        }
        // The fields of an interim answer end with an empty line.
        let fields = &bytes[end + 1..];
        let mut at = 0;
        loop {
            let Some(length) = fields[at..].iter().position(|byte| *byte == b'\n') else { return Ok(None) };
            let line = &fields[at..at + length];
            at += length + 1;
            if line.is_empty() || line == b"\r" {
                break;
            }
        }
        bytes = &fields[at..];
    }
}

fn no_http() -> String {
    "the answer is not one of HTTP/1.1".to_owned()
}

const VERSION: &[u8] = b"HTTP/1.";

/// Whether this can be the beginning of a status line: who speaks something else is found out at once.
fn could_begin(bytes: &[u8]) -> bool {
    let length = bytes.len().min(VERSION.len());
    bytes.len() < LONGEST && bytes[..length] == VERSION[..length]
}

/// `HTTP/1.1 200 OK`, the reason may be missing.
fn status(line: &[u8]) -> Option<Status> {
    let rest = line.strip_prefix(VERSION)?;
    let [minor, b' ', a, b, c, reason @ ..] = rest else { return None };
    let digits = [*a, *b, *c];
    let good = minor.is_ascii_digit()
        && digits.iter().all(u8::is_ascii_digit)
        && (reason.is_empty() || reason[0] == b' ')
        && *a != b'0';
    if !good {
        return None;
    }
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let reason = String::from_utf8_lossy(reason);
    let reason: String = reason.trim().chars().take(80).collect();
    let gap = if reason.is_empty() { "" } else { " " };
    Some(Status { code, line: format!("HTTP {code}{gap}{reason}") })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    fn read(mut answer_: &[u8]) -> Result<u16, String> {
        answer(&mut answer_).map(|status| status.code)
    }

    #[test]
    fn status_lines() {
        for (text, code) in [
            ("HTTP/1.1 200 OK\r\nX: y\r\n\r\nbody", 200),
            ("HTTP/1.0 503\r\n", 503),
            ("HTTP/1.1 204 \r\n", 204),
            ("HTTP/1.1 301 Moved\n", 301),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n", 200),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 500 No\r\n", 500),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(code), "{text:?}");
        }
    }

    #[test]
    fn hostile_answers() {
        let endless = vec![b'x'; 2 * LONGEST];
        let endless_line = [&b"HTTP/1.1 200 "[..], &endless].concat();
        let interim = b"HTTP/1.1 100 Go\r\n\r\n".repeat(LONGEST / 10);
        for answer in [
            &b""[..],
            b"HTTP/1.1 200",
            b"HTTP/1.1 20 OK\r\n",
            b"HTTP/1.1 2000 OK\r\n",
            b"HTTP/1.1 099 OK\r\n",
            b"HTTP/1.1 100 Go\r\n",
            b"HTTP/2 200 OK\r\n",
            b"HTTP/1.1  200 OK\r\n",
            b"\xff\xfe\n",
            b"SSH-2.0-OpenSSH\r\n",
            b"\n",
            &endless,
            &endless_line,
            &interim,
        ] {
            assert!(read(answer).is_err(), "{:?}", String::from_utf8_lossy(&answer[..answer.len().min(40)]));
        }
        let long = format!("HTTP/1.1 200 {}\r\n", "é".repeat(10_000));
        let status = answer(&mut long.as_bytes()).expect("a status");
        assert!(status.line.chars().count() < 100);
    }

    #[test]
    fn over_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let target: HttpTarget = format!("http://{at}/health?deep").parse().expect("a page");
        let server = std::thread::spawn(move || {
            let mut heard = Vec::new();
            for (answer, wait) in
                [("HTTP/1.1 200 Fine\r\n\r\n", false), ("HTTP/1.1 404 No\r\n\r\n", false), ("", true)]
            {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut part = [0; 1024];
                let size = stream.read(&mut part).expect("a request");
                heard.push(String::from_utf8_lossy(&part[..size]).into_owned());
                stream.write_all(answer.as_bytes()).expect("written");
                if wait {
                    // Until the other side has given up.
                    let _ = stream.read(&mut part);
                }
            }
            heard
        });
        let long = Duration::from_secs(20);
        assert_eq!(http(&target, long), Ok("HTTP 200 Fine".to_owned()));
        assert_eq!(http(&target, long), Err("HTTP 404 No".to_owned()));
        let begun = Instant::now();
        let problem = http(&target, Duration::from_millis(200)).expect_err("nothing comes");
        assert!(problem.contains("no answer") && begun.elapsed() < long, "{problem}");
        let heard = server.join().expect("a server");
        assert!(heard[0].starts_with("GET /health?deep HTTP/1.1\r\n"), "{heard:?}");
        assert!(heard[0].contains(&format!("Host: {at}\r\n")), "{heard:?}");
        // The listener is gone.
        let place: TcpTarget = at.to_string().parse().expect("a place");
        assert!(tcp(place, long).expect_err("nobody").contains("refused"));
    }
}
