//! The systemd generator: `wharf-generator NORMAL EARLY LATE`, as systemd.generator(7) calls it.

#![allow(clippy::print_stderr, reason = "a binary's edge")]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use wharf::generate;
use wharf::host::Paths;
use wharf::report::{Finding, Level};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    // systemd gives three; one is enough by hand.
    let ([normal] | [normal, _, _]) = arguments.as_slice() else {
        eprintln!("usage: wharf-generator NORMAL [EARLY LATE]");
        return ExitCode::from(2);
    };
    // A panic becomes a finding of its file; its text must not go to the console at boot.
    std::panic::set_hook(Box::new(|_| {}));
    let paths = Paths::from_environment();
    match generate::run(&paths, normal) {
        Ok(findings) if paths.are_this_hosts() => log(&findings),
        Ok(_) => {}
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            eprintln!("wharf-generator: {error}{}", cause.unwrap_or_default());
        }
    }
    // systemd ignores it, and a bad file is no failure of the generator's.
    ExitCode::SUCCESS
}

/// One line each into the kernel's log: at this time of the boot there is no journal.
fn log(findings: &[Finding]) {
    let mut lines = findings.iter().filter_map(|finding| match finding.level {
        Level::Error => Some((3, finding.line())),
        Level::Warning => Some((4, finding.line())),
        Level::Note => None,
    });
    let Some(first) = lines.next() else { return };
    let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") else { return };
    for (priority, mut line) in std::iter::once(first).chain(lines) {
        // The kernel cuts records off at about a thousand bytes (LOG_LINE_MAX).
        if let Some((at, _)) = line.char_indices().find(|(at, _)| *at >= 900) {
            line.truncate(at);
        }
        let _ = log.write(format!("<{priority}>wharf-generator: {line}\n").as_bytes());
    }
}
