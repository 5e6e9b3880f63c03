//! Compiles the seccomp list into the BPF program that the executor loads at start.
//!
//! libseccomp is needed here and only here: a start costs one system call, and no binary links it.

use std::collections::BTreeSet;
use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

const LIST: &str = "src/sys/seccomp.list";

#[expect(clippy::print_stderr, reason = "this is how a build script speaks to cargo")]
fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={LIST}");
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compiling {LIST}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), Box<dyn Error>> {
    let target = env::var("CARGO_CFG_TARGET_ARCH")?;
    let architectures: &[ScmpArch] = match target.as_str() {
        "x86_64" => &[ScmpArch::X8664, ScmpArch::X86, ScmpArch::X32],
        "aarch64" => &[ScmpArch::Aarch64, ScmpArch::Arm],
        other => {
            return Err(format!("no list of system calls for {other}; x86_64 and aarch64 have one").into());
        }
    };
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(number::ENOSYS))?;
    // The build machine's architecture is in from the start; only those of the target may be.
    let native = ScmpArch::native();
    if !architectures.contains(&native) {
        filter.remove_arch(native)?;
    }
    for architecture in architectures {
        filter.add_arch(*architecture)?;
    }
    // A binary tree instead of a chain: a call costs about nine comparisons, not up to four hundred.
    filter.set_ctl_optimize(2)?;

    let mut action = None;
    let mut seen = BTreeSet::new();
    for word in fs::read_to_string(LIST)?
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
    {
        match word {
            "[allow]" => action = Some(ScmpAction::Allow),
            "[refuse]" => action = Some(ScmpAction::Errno(number::EPERM)),
            _ => {
                if !seen.insert(word.to_owned()) {
                    return Err(format!("{word} stands there twice").into());
                }
                // A call that this architecture, or this libseccomp, doesn't have stays ENOSYS.
                if let Ok(call) = ScmpSyscall::from_name(word) {
                    filter.add_rule(action.ok_or("a call stands before [allow] and [refuse]")?, call)?;
                }
            }
        }
    }
    by_argument(&mut filter)?;

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("seccomp.bpf");
    filter.export_bpf(File::create(out)?)?;
    Ok(())
}

/// The rules that look at arguments.
fn by_argument(filter: &mut ScmpFilterContext) -> Result<(), Box<dyn Error>> {
    let equal = |argument, value| ScmpArgCompare::new(argument, ScmpCompareOp::Equal, value);
    let other = |argument, value| ScmpArgCompare::new(argument, ScmpCompareOp::NotEqual, value);

    // personality(2): PER_LINUX, PER_LINUX32, each also with UNAME26, and the question which one it is.
    let personality = ScmpSyscall::from_name("personality")?;
    for value in [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        filter.add_rule_conditional(ScmpAction::Allow, personality, &[equal(0, value)])?;
    }

    // socket(2): all but the kernel's audit channel (AF_NETLINK, NETLINK_AUDIT), which wants CAP_AUDIT_WRITE;
    // EINVAL is what makes libaudit take auditing for absent and go on.
    let socket = ScmpSyscall::from_name("socket")?;
    filter.add_rule_conditional(
        ScmpAction::Errno(number::EINVAL),
        socket,
        &[equal(0, number::AF_NETLINK), equal(2, number::NETLINK_AUDIT)],
    )?;
    // Not AF_VSOCK: it knows no network namespaces, and leads to the host and its hypervisor. One by one, as a rule
    // can compare an argument only once.
    filter.add_rule_conditional(
        ScmpAction::Errno(number::EAFNOSUPPORT),
        socket,
        &[equal(0, number::AF_VSOCK)],
    )?;
    for family in (0..number::AF_MAX).filter(|it| ![number::AF_NETLINK, number::AF_VSOCK].contains(it)) {
        filter.add_rule_conditional(ScmpAction::Allow, socket, &[equal(0, family)])?;
    }
    let netlink = [equal(0, number::AF_NETLINK), other(2, number::NETLINK_AUDIT)];
    filter.add_rule_conditional(ScmpAction::Allow, socket, &netlink)?;
    Ok(())
}

/// The few numbers of Linux's headers that are needed here; the same on every supported architecture.
mod number {
    pub const EPERM: i32 = 1;
    pub const EINVAL: i32 = 22;
    pub const ENOSYS: i32 = 38;
    pub const EAFNOSUPPORT: i32 = 97;
    pub const AF_NETLINK: u64 = 16;
    pub const AF_VSOCK: u64 = 40;
    pub const AF_MAX: u64 = 46;
    pub const NETLINK_AUDIT: u64 = 9;
}
