//! What a container's unit runs: it sets the container up, hands it to systemd, and is gone.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use wharf::exec::{self, Failure, NotEntered, Request, Status};
use wharf::host::Paths;
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
            say(3, &format!("{name}: {error}"));
            return ExitCode::from(2);
        }
    };
    let variable = |name: &str| env::var(name).ok();
    match verb.as_str() {
        "start" => end(&name, exec::start(&paths, &name)),
        "started" => end(&name, exec::started(&paths, &name)),
        "stop" => match exec::stop(&paths, &name, variable("MAINPID").as_deref()) {
            Ok(explanation) => {
                explanation.iter().for_each(|text| say(4, text));
                ExitCode::SUCCESS
            }
            Err(failure) => end(&name, Err(failure)),
        },
        "stopped" => {
            let (result, status) = (variable("SERVICE_RESULT"), variable("EXIT_STATUS"));
            if let Some(text) = exec::last_words(&paths, &name, result.as_deref(), status.as_deref()) {
                say(4, &text);
            }
            end(&name, exec::stopped(&paths, &name))
        }
        "reload" => end(&name, exec::reload(&paths, &name, variable("MAINPID").as_deref())),
        "proxy" => end(&name, Err(exec::proxy(&paths, &name))),
        "refuse" => end(&name, Err(exec::refuse(&paths, &name))),
        _ => usage(),
    }
}

fn network(paths: &Paths) -> ExitCode {
    match exec::refresh(paths, &wharf::sys::process::sockets()) {
        Ok(repaired) => {
            repaired.iter().for_each(|text| say(4, text));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            say(3, &failure.to_string());
            ExitCode::from(failure.status.code())
        }
    }
}

fn enter(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let not_entered = |code: u8, problem: &str| {
        say(3, &format!("error: {problem}"));
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

fn end(name: &ContainerName, result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    say(3, &format!("{name}: {failure}"));
    if let Some(step) = &failure.step {
        say(5, &format!("{name}: that was the step: {step}"));
    }
    ExitCode::from(failure.status.code())
}

fn usage() -> ExitCode {
    say(3, USAGE);
    ExitCode::from(2)
}

/// To the journal, each line with its priority as systemd reads it (sd-daemon(3)).
#[expect(clippy::print_stderr, reason = "standard error is the unit's journal")]
fn say(priority: u8, text: &str) {
    let prefix =
        if env::var_os("JOURNAL_STREAM").is_some() { format!("<{priority}>") } else { String::new() };
    for line in text.lines() {
        eprintln!("{prefix}{line}");
    }
}
