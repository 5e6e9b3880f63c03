//! The throwaway machine for people and for shell scripts.
//!
//! `cargo run --example machine -- boot demo` and so on: a machine under a name, that
//! stays until `stop`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

#[path = "mod.rs"]
#[allow(dead_code, reason = "the stories use what this front does not")]
mod machine;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use machine::{Context, Error, Kind, Machine, Recipe, Result};

/// Boots, breaks and throws away Debian machines.
#[derive(Parser)]
#[command(name = "machine")]
struct Arguments {
    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand)]
enum Order {
    /// Make a recipe's root ahead of its first boot.
    Build {
        /// base, older or bench
        recipe: String,
        /// For the full machine
        #[arg(long)]
        full: bool,
    },
    /// Make an image's root file system and print the tar file's path.
    Image {
        /// debian, nginx, postgresql, redis or app
        recipe: String,
    },
    /// Boot a new machine.
    Boot {
        /// Its name from now on
        name: String,
        /// What it is made of: base, older or bench
        #[arg(long, default_value = "base")]
        recipe: String,
        /// A machine with its own kernel, instead of a container on this one
        #[arg(long)]
        full: bool,
        /// A disk that loses unflushed writes when the power is cut
        #[arg(long)]
        strict: bool,
    },
    /// Run a line of bash in a machine.
    Run {
        /// Its name
        name: String,
        /// The line
        line: String,
        /// Seconds that it may take
        #[arg(long, default_value_t = 600)]
        timeout: u64,
    },
    /// Copy a file or a directory into a machine.
    Copy {
        /// Its name
        name: String,
        /// A path here
        from: PathBuf,
        /// A path there
        to: String,
    },
    /// A shell in a machine.
    Shell {
        /// Its name
        name: String,
    },
    /// Cut its power.
    Cut {
        /// Its name
        name: String,
    },
    /// Switch it on again.
    Again {
        /// Its name
        name: String,
    },
    /// Reboot it properly.
    Reboot {
        /// Its name
        name: String,
    },
    /// Throw it away, running or not. No error when there is none.
    Stop {
        /// Its name
        name: String,
    },
}

fn main() -> ExitCode {
    match obey(Arguments::parse().order) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("machine: {}", machine::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn obey(order: Order) -> Result<ExitCode> {
    match order {
        Order::Build { recipe, full } => {
            let form = if full { machine::cache::Form::Disk } else { machine::cache::Form::Root };
            println!("{}", machine::cache::get(&recipe_of(&recipe)?, form)?.display());
        }
        Order::Image { recipe } => println!("{}", machine::image(&recipe_of(&recipe)?)?.display()),
        Order::Boot { name, recipe, full, strict } => {
            let kind = if full { Kind::Full } else { Kind::Fast };
            Machine::boot_named(&name, kind, strict, &recipe_of(&recipe)?)?;
        }
        Order::Run { name, line, timeout } => {
            let code = Machine::named(&name)?.show(&line, Duration::from_secs(timeout))?;
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)));
        }
        Order::Copy { name, from, to } => Machine::named(&name)?.copy_in(from, &to)?,
        Order::Shell { name } => {
            // Only returns when it could not be started.
            let error = Machine::named(&name)?.shell()?.exec();
            return Err(error).context(|| "start a shell in the machine");
        }
        Order::Cut { name } => Machine::named(&name)?.power_cut()?,
        Order::Again { name } => Machine::named(&name)?.boot_again()?,
        Order::Reboot { name } => Machine::named(&name)?.reboot()?,
        Order::Stop { name } => {
            if let Ok(mut machine) = Machine::named(&name) {
                machine.throw_away()?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn recipe_of(name: &str) -> Result<Recipe> {
    Recipe::named(name).ok_or_else(|| Error::Io {
        what: format!("find a recipe named {name}"),
        source: std::io::ErrorKind::NotFound.into(),
    })
}
