//! `wharf start` and its like, which systemd does: they answer with the line to type.

use clap::{Args, Subcommand};

use super::output::{Exit, Failure};
use crate::spec::ContainerName;

/// Commands that people try, and that systemd has.
#[derive(Subcommand)]
pub enum Elsewhere {
    /// systemd's: systemctl start NAME-container
    #[command(hide = true)]
    Start(Rest),
    /// systemd's: systemctl stop NAME-container
    #[command(hide = true)]
    Stop(Rest),
    /// systemd's: systemctl restart NAME-container
    #[command(hide = true)]
    Restart(Rest),
    /// systemd's: systemctl reload NAME-container
    #[command(hide = true)]
    Reload(Rest),
    /// systemd's: systemctl status NAME-container
    #[command(hide = true)]
    Status(Rest),
    /// systemd's: journalctl -u NAME-container
    #[command(hide = true)]
    Logs(Rest),
}

/// What stood behind the command.
#[derive(Args)]
pub struct Rest {
    /// Containers, and options for systemctl or journalctl
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NAME")]
    words: Vec<String>,
}

/// Answers.
pub fn run(command: &Elsewhere) -> Result<Exit, Failure> {
    let (what, program, verb, words) = match command {
        Elsewhere::Start(rest) => ("starts containers", "systemctl", "start", &rest.words),
        Elsewhere::Stop(rest) => ("stops containers", "systemctl", "stop", &rest.words),
        Elsewhere::Restart(rest) => ("restarts containers", "systemctl", "restart", &rest.words),
        Elsewhere::Reload(rest) => ("reloads containers", "systemctl", "reload", &rest.words),
        Elsewhere::Status(rest) => ("knows how containers are", "systemctl", "status", &rest.words),
        Elsewhere::Logs(rest) => ("keeps the logs of containers", "journalctl", "", &rest.words),
    };
    Err(Failure::usage(format!("systemd {what}; type: {}", line(program, verb, words))))
}

fn line(program: &str, verb: &str, words: &[String]) -> String {
    let journal = program == "journalctl";
    let mut units = Vec::new();
    let mut options = Vec::new();
    let mut value = false;
    for word in words {
        match word.as_str() {
            // Docker's and Podman's word for it.
            "--tail" if journal => {
                options.push("-n".to_owned());
                value = true;
            }
            "-n" | "--lines" | "--since" | "--until" | "-S" | "-U" | "-p" | "-o" if !value => {
                options.push(word.clone());
                value = true;
            }
            _ if value || word.starts_with('-') => {
                options.push(quoted(word));
                value = false;
            }
            _ => units.push(unit(word)),
        }
    }
    if units.is_empty() {
        units.push("NAME-container".to_owned());
    }
    let mut parts = vec![program.to_owned()];
    if journal {
        parts.extend(units.into_iter().flat_map(|unit| ["-u".to_owned(), unit]));
    } else {
        parts.push(verb.to_owned());
        parts.extend(units);
    }
    parts.extend(options);
    parts.join(" ")
}

/// `nginx-container`, also for somebody who wrote the unit's name already.
fn unit(word: &str) -> String {
    let stem = word.strip_suffix(".service").unwrap_or(word);
    if ContainerName::from_unit(&format!("{stem}.service")).is_some() {
        return stem.to_owned();
    }
    word.parse::<ContainerName>().map_or_else(
        |_| quoted(word),
        |name| name.unit().strip_suffix(".service").map_or_else(|| name.unit(), str::to_owned),
    )
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.:,/@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_to_type() {
        for (program, verb, words, expected) in [
            ("systemctl", "start", "nginx", "systemctl start nginx-container"),
            ("systemctl", "stop", "web@blue db", "systemctl stop web-container@blue db-container"),
            ("systemctl", "start", "nginx-container.service", "systemctl start nginx-container"),
            ("systemctl", "status", "", "systemctl status NAME-container"),
            ("journalctl", "", "-f nginx", "journalctl -u nginx-container -f"),
            ("journalctl", "", "nginx --tail 20", "journalctl -u nginx-container -n 20"),
            ("journalctl", "", "nginx $(id)", "journalctl -u nginx-container -u '$(id)'"),
        ] {
            let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            assert_eq!(line(program, verb, &words), expected);
        }
    }
}
