//! What a container's unit runs: it sets the container up, hands it to systemd, and is gone.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use wharf::exec::{self, End, Failure, NotEntered, Request, Status};
use wharf::host::Paths;
use wharf::journal::{self, About, Kind};
use wharf::running;
use wharf::spec::ContainerName;

const USAGE: &str = "\
wharf-executor is what the units of containers run; systemd calls it.

  wharf-executor start NAME     start a container, and hand it to systemd
  wharf-executor started NAME   keep the plan that has worked (ExecStartPost=)
  wharf-executor stop NAME      send its image's stop signal (ExecStop=)
  wharf-executor stopped NAME   take back its network, explain how it ended (ExecStopPost=)
  wharf-executor reload NAME    have it read its configuration anew (ExecReload=)
  wharf-executor refuse NAME    say why its file can't be used
  wharf-executor proxy NAME     carry its sockets' connections to it (NAME-container-proxy.service)
  wharf-executor network        put the network right (wharf-network.service)
  wharf-executor changed        have it do so (wharf-network-tell.service)
  wharf-executor enter …        run another program in it; `wharf exec` calls it

Exit status: 0 done; 2 wrong arguments; else one of systemd.exec(5), \"Process
Exit Codes\": 203 the program can't be run, 217 the user, 226 the namespaces,
the root or a mount, and so on. `wharf plan NAME` shows what a start does.
";

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).peekable();
    if arguments.next_if(|verb| verb == "enter").is_some() {
        return enter(arguments);
    }
    let mut arguments = arguments.map(|word| word.to_string_lossy().into_owned());
    let paths = Paths::from_environment();
    let (verb, name) = match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(verb), None, None) if verb == "--help" => {
            #[expect(clippy::print_stdout, reason = "this is what was asked for")]
            {
                print!("{USAGE}");
            }
            return ExitCode::SUCCESS;
        }
        (Some(verb), None, None) if verb == "network" => return network(&paths),
        (Some(verb), None, None) if verb == "changed" => {
            paths.tell_changed();
            return ExitCode::SUCCESS;
        }
        (Some(verb), Some(name), None) => (verb, name),
        _ => return usage(),
    };
    let name: ContainerName = match name.parse() {
        Ok(name) => name,
        Err(error) => {
            complain(3, &format!("{name}: {error}"));
            return ExitCode::from(2);
        }
    };
    let variable = |name: &str| env::var(name).ok();
    // Before it is forgotten.
    let record = (verb != "start").then(|| running::find(&paths, &name).ok().flatten()).flatten();
    let mut about = record.as_ref().map_or_else(|| About::container(&name), About::running);
    // A proxy has a log of its own, where people look for why nobody is let in.
    if ["proxy", "refuse"].contains(&verb.as_str()) {
        about.unit = exec::own_unit().or(about.unit);
    }
    match verb.as_str() {
        "start" => {
            let result = exec::start(&paths, &name, &mut about);
            let kind = result.as_ref().err().map(Failure::kind);
            end(&about, kind, result)
        }
        "started" => end(&about, Some(Kind::Tidying), exec::started(&paths, &name)),
        "stop" => {
            let result = exec::stop(&paths, &name, variable("MAINPID").as_deref());
            end(&about, Some(Kind::StopSignal), result)
        }
        "stopped" => {
            let [result, code, status] =
                ["SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"].map(|name| variable(name).unwrap_or_default());
            let how = End { result: &result, code: &code, status: &status };
            exec::proved(&paths, &name, how);
            if let Some((kind, text)) = exec::last_words(&paths, &name, how) {
                say(&about, 4, Some(kind), &text);
            }
            end(&about, Some(Kind::Tidying), exec::stopped(&paths, &name))
        }
        "reload" => {
            let result = exec::reload(&paths, &name, variable("MAINPID").as_deref());
            end(&about, Some(Kind::Reload), result)
        }
        "proxy" => end(&about, Some(Kind::Proxy), Err(exec::proxy(&paths, &name))),
        "refuse" => {
            let failure = exec::refuse(&paths, &name);
            end(&about, Some(failure.kind()), Err(failure))
        }
        _ => usage(),
    }
}

fn network(paths: &Paths) -> ExitCode {
    match exec::refresh(paths, &wharf::sys::process::sockets()) {
        Ok(repaired) => {
            repaired.iter().for_each(|text| say(&About::default(), 4, None, text));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            say(&About::default(), 3, Some(Kind::HostNetwork), &failure.to_string());
            ExitCode::from(failure.status.code())
        }
    }
}

fn enter(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let not_entered = |code: u8, problem: &str| {
        complain(3, &format!("error: {problem}"));
        ExitCode::from(code)
    };
    let request = match Request::parse(arguments) {
        Ok(request) => request,
        Err(error) => {
            let failure = Failure::from_error(Status::Config, &error);
            return not_entered(exec::NOT_ENTERED, &failure.to_string());
        }
    };
    match exec::enter(&Paths::from_environment(), &request) {
        Ok(code) => ExitCode::from(code),
        Err(NotEntered { code, failure: Some(failure) }) => not_entered(code, &failure.to_string()),
        Err(NotEntered { code, failure: None }) => ExitCode::from(code),
    }
}

/// The end of a command. `kind` is what the catalogue has a failure under.
fn end(about: &About, kind: Option<Kind>, result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    let name = about.container.as_deref().unwrap_or_default();
    say(about, 3, kind, &format!("{name}: {failure}"));
    if let Some(step) = &failure.step {
        say(about, 5, None, &format!("{name}: that was the step: {step}"));
    }
    ExitCode::from(failure.status.code())
}

fn usage() -> ExitCode {
    complain(3, USAGE);
    ExitCode::from(2)
}

/// To the journal, with what is known about it.
fn say(about: &About, priority: u8, kind: Option<Kind>, text: &str) {
    if !journal::send(about, priority, kind, text) {
        complain(priority, text);
    }
}

/// To standard error, each line with its priority as systemd reads it (sd-daemon(3)) where it is the journal's.
#[expect(clippy::print_stderr, reason = "standard error is the unit's journal")]
fn complain(priority: u8, text: &str) {
    let prefix =
        if env::var_os("JOURNAL_STREAM").is_some() { format!("<{priority}>") } else { String::new() };
    for line in text.lines() {
        eprintln!("{prefix}{line}");
    }
}
