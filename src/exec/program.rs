//! Finding the program, running it, and saying in plain words why it can't be run.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;

use rustix::io::Errno;

use super::failure::{Failure, Status};
use crate::sys::{self, process};

/// Why a program doesn't run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRun {
    /// In words.
    pub failure: Failure,
    /// It is not there at all; otherwise it is, and can't be run.
    pub missing: bool,
}

/// Becomes the program; comes back only to say why not. A name without a slash is looked for in the folders
/// of `path`, as execvp(3) does.
pub fn exec(name: &str, path: &str, arguments: &[CString], environment: &[CString]) -> NotRun {
    if name.contains('/') {
        let errno = attempt(name, arguments, environment);
        let missing = matches!(errno, Errno::NOENT | Errno::NOTDIR) && !exists(name);
        return NotRun { failure: explain(name, errno), missing };
    }
    let not_run = |failure| NotRun { failure, missing: false };
    let mut denied = None;
    for folder in path.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let candidate = format!("{folder}/{name}");
        match attempt(&candidate, arguments, environment) {
            Errno::NOENT | Errno::NOTDIR if !exists(&candidate) => {}
            // Another folder may have one that can be run.
            Errno::ACCESS => denied = denied.or(Some(candidate)),
            errno => return not_run(explain(&candidate, errno)),
        }
    }
    match denied {
        Some(candidate) => not_run(explain(&candidate, Errno::ACCESS)),
        None => NotRun {
            failure: Failure::new(
                Status::Exec,
                format!("the program {name} is in no folder of PATH ({path})"),
            ),
            missing: true,
        },
    }
}

fn attempt(path: &str, arguments: &[CString], environment: &[CString]) -> Errno {
    match CString::new(path) {
        Ok(path) => process::exec(&path, arguments, environment),
        Err(_) => Errno::INVAL,
    }
}

fn exists(path: &str) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn explain(path: &str, errno: Errno) -> Failure {
    let head = head(path);
    let failure = |problem: String| Failure::new(Status::Exec, problem);
    match errno {
        Errno::NOENT if exists(path) => match interpreter(&head) {
            Some(interpreter) => {
                failure(format!("{path} needs {interpreter} to run, which is not in the image"))
            }
            None if std::fs::metadata(path).is_err() => {
                failure(format!("{path} is a link to something that is not there"))
            }
            None => failure(format!("{path} needs a program interpreter or loader that is not in the image")),
        },
        Errno::NOENT | Errno::NOTDIR => failure(format!("the program {path} is not in the image")),
        Errno::ACCESS if std::fs::metadata(path).is_ok_and(|file| file.is_dir()) => {
            failure(format!("{path} is a folder, not a program"))
        }
        Errno::ACCESS => failure(format!("{path} is not executable by this user"))
            .hint("set its x bits in the image, or check the folders above it and `user`"),
        Errno::NOEXEC => match elf_machine(&head) {
            Some(machine) if machine != native() => failure(format!(
                "{path} is a program for {}, and this machine is {}",
                architecture(machine),
                std::env::consts::ARCH
            ))
            .hint("use an image for this architecture"),
            Some(_) => failure(format!("{path} is a damaged program, or one of another word size")),
            None => failure(format!("{path} is neither a program nor a script with a #! line")),
        },
        Errno::TOOBIG => failure(format!("the arguments and environment of {path} are too large")),
        errno => failure(format!("can't run {path}: {}", sys::explain(errno))),
    }
}

/// The beginning of a file, as much as the kernel looks at (`BINPRM_BUF_SIZE`, 256 bytes).
fn head(path: &str) -> Vec<u8> {
    let mut head = Vec::new();
    if std::fs::metadata(path).is_ok_and(|file| file.is_file())
        && let Ok(file) = File::open(path)
    {
        let _ = file.take(256).read_to_end(&mut head);
    }
    head
}

/// What a `#!` line names.
fn interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    String::from_utf8_lossy(line).split_whitespace().next().map(str::to_owned)
}

/// The machine of an ELF file: `e_machine`, at 18, in the file's own byte order (elf(5)).
fn elf_machine(head: &[u8]) -> Option<u16> {
    let bytes = [*head.get(18)?, *head.get(19)?];
    match (head.strip_prefix(b"\x7fELF")?.get(1)?, bytes) {
        (1, bytes) => Some(u16::from_le_bytes(bytes)),
        (2, bytes) => Some(u16::from_be_bytes(bytes)),
        _ => None,
    }
}

fn native() -> u16 {
    if cfg!(target_arch = "aarch64") { 183 } else { 62 }
}

/// elf(5) and linux/elf-em.h.
fn architecture(machine: u16) -> String {
    let known = [
        (3, "i386"),
        (8, "mips"),
        (20, "ppc"),
        (21, "ppc64"),
        (22, "s390x"),
        (40, "arm"),
        (62, "x86_64"),
        (183, "aarch64"),
        (243, "riscv"),
        (258, "loongarch"),
    ];
    known
        .iter()
        .find(|(number, _)| *number == machine)
        .map_or_else(|| format!("machine {machine}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        assert_eq!(interpreter(b"#! /usr/bin/env python3\nx"), Some("/usr/bin/env".into()));
        assert_eq!(interpreter(b"\x7fELF"), None);
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(18, 0);
        elf.extend([183, 0]);
        assert_eq!(elf_machine(&elf).map(architecture), Some("aarch64".into()));
        assert_eq!(elf_machine(b"#!/bin/sh\n0123456789abcdef"), None);
    }

    #[test]
    fn reasons() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
        std::fs::write(at("script"), "#!/no/such\n").expect("written");
        for (path, errno, words) in [
            (at("missing"), Errno::NOENT, "is not in the image"),
            (at("script"), Errno::NOENT, "needs /no/such to run"),
            (at("script"), Errno::ACCESS, "is not executable"),
            (at("script"), Errno::NOEXEC, "neither a program nor a script"),
            (folder.path().to_str().expect("text").into(), Errno::ACCESS, "is a folder"),
        ] {
            let failure = explain(&path, errno);
            assert!(failure.problem.contains(words), "{failure}");
            assert_eq!(failure.status, Status::Exec);
        }
    }
}
