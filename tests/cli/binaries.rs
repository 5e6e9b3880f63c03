//! What each binary is made of: a start and a boot carry nothing that only the command needs.

use std::process::Command;

/// Texts that a program has only if it links the crate: error messages and names on the wire, which debug
/// information doesn't hold.
const TEXTS: [(&str, &str); 5] = [
    ("zbus", "org.freedesktop.DBus.Properties"),
    ("clap", "For more information, try "),
    ("indicatif", "{wide_bar}"),
    ("pgp", "No matching issuer_key_id or issuer_fingerprint"),
    ("rustls", "received corrupt message of type"),
];

#[test]
fn only_the_command_links_what_only_it_needs() {
    // A debug build is a hundred megabytes, which grep is made for.
    let holds = |binary: &str, text: &str| {
        Command::new("grep").args(["-qaF", text, binary]).status().unwrap().success()
    };
    for (name, text) in TEXTS {
        // The check itself is checked: the command has it.
        assert!(holds(env!("CARGO_BIN_EXE_wharf"), text), "{name} is not recognised by `{text}` any more");
        for binary in [env!("CARGO_BIN_EXE_wharf-generator"), env!("CARGO_BIN_EXE_wharf-executor")] {
            assert!(!holds(binary, text), "{binary} links {name}");
        }
    }
}
