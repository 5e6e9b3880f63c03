//! Debian's `docker-registry` with TLS and passwords, on a port of loopback that the kernel chose.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// `me` with the password `secret`, by bcrypt.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Ends with the test.
pub struct Running {
    process: Child,
    pub folder: tempfile::TempDir,
    /// `localhost:PORT`.
    pub host: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    /// Takes requests when this returns.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        // An authority, and a certificate of it for localhost.
        fs::write(at("extensions"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
        let (ca, ca_key, key, request) = (at("ca.pem"), at("ca.key"), at("key.pem"), at("request"));
        let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let mut own = vec!["req", "-x509", "-subj", "/CN=A test's authority", "-days", "2", "-out", &ca];
        own.extend(["-keyout", &ca_key].iter().chain(&ec));
        openssl(&own);
        let mut other = vec!["req", "-subj", "/CN=localhost", "-out", &request, "-keyout", &key];
        other.extend(ec);
        openssl(&other);
        let certificate = at("certificate.pem");
        let mut signed =
            vec!["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
        let extensions = at("extensions");
        signed.extend(["-days", "2", "-extfile", &extensions, "-out", &certificate]);
        openssl(&signed);
        fs::write(at("htpasswd"), HTPASSWD).unwrap();
        let config = serde_json::json!({
            "version": "0.1",
            "log": {"accesslog": {"disabled": true}, "formatter": "json"},
            "storage": {"filesystem": {"rootdirectory": at("storage")}},
            "http": {"addr": "127.0.0.1:0", "tls": {"certificate": certificate, "key": key}},
            "auth": {"htpasswd": {"realm": "a test", "path": at("htpasswd")}},
        });
        // JSON is YAML.
        fs::write(at("config.yml"), config.to_string()).unwrap();
        let mut process = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this needs `docker-registry`");
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut seen = String::new();
        let host = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "docker-registry ended: {seen}");
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break format!("localhost:{port}");
            }
            seen += &line;
        };
        // It must not stop for want of a reader.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, folder, host }
    }
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("this needs `openssl`");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?} failed: {errors}");
}
