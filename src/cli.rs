//! The command line. The options of `run` come from the library's table of settings, so that flag, variable and file key
//! cannot drift apart.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::styling::Styles;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use supervisor::config::keys::{self, KEYS, Key, Kind};
use supervisor::config::{Config, Sources};
use supervisor::control::client::{self, ClientError};
use supervisor::control::protocol::ControlRequest;
use supervisor::{logging, preflight, status_text};

use crate::complain;

const EXIT_STATUS: &str = "\
Exit status of `run`:
  the worker's own; 128+n if signal n ended it; 0 if it ended by our TERM
  2    the configuration cannot work; nothing was started
  69   the Consul agent used up its restarts, or start-timeout passed
  126  the worker may not be executed        127  the worker was not found

Exit status of `status`: 0 passing, 1 not passing, 3 no supervisor.
Exit status of `health`: 0 serving, 1 not.";

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _nobody_listens = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match matches.subcommand() {
        Some(("run", matches)) => run(matches),
        Some(("status", matches)) => status(matches),
        Some(("health", matches)) => health(matches),
        Some(("stop", matches)) => stop(matches),
        // clap demands one of the above.
        _ => ExitCode::from(2),
    }
}

fn command() -> Command {
    let socket = || {
        let help = "The supervisor's control socket [env: SUPERVISOR_CONTROL_SOCKET]";
        Arg::new("control-socket")
            .long("control-socket")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    Command::new("supervisor")
        .version(env!("CARGO_PKG_VERSION"))
        .about("PID 1 for inference containers that are found, watched and steered through Consul")
        .styles(Styles::plain())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(EXIT_STATUS)
        .subcommand(run_command())
        .subcommand(Command::new("status").about("Show the instance at a glance").arg(json).arg(socket()))
        .subcommand(Command::new("health").about("One line, for HEALTHCHECK and exec probes").arg(socket()))
        .subcommand(Command::new("stop").about("Stop the instance, as SIGTERM does").arg(socket()))
}

fn run_command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Read settings from a TOML file [env: SUPERVISOR_CONFIG]");
    let no_agent =
        Arg::new("no-agent").long("no-agent").action(ArgAction::SetTrue).help("The same as --agent none");
    let worker = Arg::new("worker")
        .value_name("WORKER")
        .num_args(1..)
        .last(true)
        .value_parser(value_parser!(OsString))
        .help("The worker and its arguments; without it: model-runtime with the model of --worker-model");
    Command::new("run")
        .about("Run the Consul agent and the worker until the worker ends or a signal stops them")
        .after_help(EXIT_STATUS)
        .arg(config)
        .args(KEYS.iter().map(argument))
        .arg(no_agent.conflicts_with("agent.mode").help_heading("agent"))
        .arg(worker)
}

/// The option of one setting.
fn argument(key: &'static Key) -> Arg {
    let default = key.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
    let action = if key.kind == Kind::One { ArgAction::Set } else { ArgAction::Append };
    Arg::new(key.path)
        .long(key.flag)
        .value_name(key.placeholder)
        .action(action)
        .help(format!("{}{default} [env: {}]", key.help, key.variable()))
        .help_heading(key.section().unwrap_or("instance"))
}

fn run(matches: &ArgMatches) -> ExitCode {
    let (mut sources, mut problems) = (Sources::default(), Vec::new());
    let given = |key: &'static Key| {
        let words: Vec<String> = matches.get_many::<String>(key.path)?.cloned().collect();
        Some((key, words))
    };
    sources.add_flags(KEYS.iter().filter_map(given));
    if matches.get_flag("no-agent") {
        sources.add_flags(keys::find("agent.mode").map(|key| (key, vec!["none".to_owned()])));
    }
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    sources.add_environment(variables, &mut problems);
    let file = matches.get_one::<PathBuf>("config").cloned();
    if let Some(file) = file.or_else(|| std::env::var_os("SUPERVISOR_CONFIG").map(PathBuf::from)) {
        sources.add_file(&file, &mut problems);
    }
    let worker =
        matches.get_many::<OsString>("worker").map(|words| words.cloned().collect()).unwrap_or_default();
    let config = match Config::build(&sources, worker, problems) {
        Ok(config) => config,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return complain(&lines.join("\n"), 2);
        }
    };
    if let Err(refusal) = preflight::check(&config) {
        return complain(&refusal.to_string(), refusal.exit_status());
    }
    let log = logging::start(&config.logging);
    let outcome = supervisor::run(&config);
    logging::finish(log);
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(message) => complain(&message, 2),
    }
}

/// The socket by flag, environment or default.
fn socket(matches: &ArgMatches) -> PathBuf {
    let flag = matches.get_one::<PathBuf>("control-socket").cloned();
    flag.or_else(|| std::env::var_os("SUPERVISOR_CONTROL_SOCKET").map(PathBuf::from)).unwrap_or_else(|| {
        PathBuf::from(keys::find("control-socket").and_then(|key| key.default).unwrap_or_default())
    })
}

fn status(matches: &ArgMatches) -> ExitCode {
    let status = match client::status(&socket(matches)) {
        Ok(status) => status,
        Err(error) => return no_answer(&error, 3),
    };
    let text = if matches.get_flag("json") {
        serde_json::to_string_pretty(&status).map(|text| format!("{text}\n")).unwrap_or_default()
    } else {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        status_text::render(&status, colour)
    };
    print(&text);
    ExitCode::from(u8::from(!status.passing))
}

fn health(matches: &ArgMatches) -> ExitCode {
    match client::status(&socket(matches)) {
        Ok(status) => {
            print(&format!("{}: {}\n", status.phase, status.reason));
            ExitCode::from(u8::from(!status.healthy))
        }
        Err(error) => {
            print(&format!("{error}\n"));
            ExitCode::from(1)
        }
    }
}

fn stop(matches: &ArgMatches) -> ExitCode {
    match client::ask(&socket(matches), ControlRequest::Stop) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => no_answer(&error, 1),
    }
}

fn no_answer(error: &ClientError, otherwise: u8) -> ExitCode {
    let status = if matches!(error, ClientError::NoSupervisor { .. }) { 3 } else { otherwise };
    complain(&error.to_string(), status)
}

/// Writes to standard output; a reader that has gone away is no error.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _nobody_listens = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
