//! Connections: whom they trust, and what their failures mean.

use std::io;
use std::path::Path;

use ureq::tls::{Certificate, PemItem, parse_pem};

use super::error::{OnFile, RegistryError, plain};

/// A connection that broke while something was read from it.
pub(super) fn broken(host: &str, error: io::Error) -> RegistryError {
    let source = match error.downcast::<ureq::Error>() {
        Ok(error) => io_error(error),
        Err(error) => error,
    };
    RegistryError::Unreachable { host: host.to_owned(), source }
}

fn io_error(error: ureq::Error) -> io::Error {
    match error {
        ureq::Error::Io(error) => error,
        ureq::Error::HostNotFound => io::Error::new(io::ErrorKind::NotFound, "there is no host of this name"),
        ureq::Error::Timeout(timeout) => {
            let text = match timeout {
                ureq::Timeout::Connect | ureq::Timeout::Resolve => "no connection came about in time",
                _ => "the connection stalled",
            };
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        ureq::Error::Rustls(error) => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        other => io::Error::other(other),
    }
}

/// No answer at all.
pub(super) fn unreachable(host: &str, error: ureq::Error, insecure: bool) -> RegistryError {
    let error = match error {
        ureq::Error::Protocol(_) | ureq::Error::Http(_) | ureq::Error::BadUri(_) => {
            return RegistryError::Protocol { host: host.to_owned(), why: plain(&error.to_string()) };
        }
        error => io_error(error),
    };
    let source = if error.kind() == io::ErrorKind::InvalidData && !insecure {
        let text = error.to_string();
        let way_out = if text.contains("UnknownIssuer") {
            "; if you trust who made the certificate, name their file under `authorities` for this registry in \
             /etc/wharf/wharf.toml"
        } else if text.contains("InvalidContentType") {
            "; it doesn't speak TLS. If that can't be helped, write `insecure = true` for this registry in \
             /etc/wharf/wharf.toml"
        } else {
            ""
        };
        io::Error::new(io::ErrorKind::InvalidData, format!("{text}{way_out}"))
    } else {
        error
    };
    RegistryError::Unreachable { host: host.to_owned(), source }
}

/// The certificates that the system trusts, where Debian and others keep them, or by `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`.
pub(super) fn system_roots() -> Vec<Certificate<'static>> {
    // A host without any can still have authorities of its own, and one that can't be read is missed when it is
    // needed.
    let found = rustls_native_certs::load_native_certs();
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}

/// The certificates of a file (PEM).
pub(super) fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>, RegistryError> {
    let pem = std::fs::read(path).on_file("read", path)?;
    let malformed = |why: &str| RegistryError::Malformed { path: path.to_owned(), why: why.to_owned() };
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| malformed("is no valid PEM"))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(malformed("holds no certificate in PEM")) } else { Ok(found) }
}
