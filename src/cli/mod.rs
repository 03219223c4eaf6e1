//! The command line: one file for each thing that it does.

mod command;
mod config;
mod generate;
mod output;
mod request;
mod run;
mod screen;
mod status;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgMatches;
use supervisor::config::{Invocation, keys};
use supervisor::control::client::ClientError;
use supervisor::os;

use crate::complain;

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let matches = match command::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _nobody_listens = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Some(("run", matches)) = matches.subcommand() {
        return run::run(matches);
    }
    // Only `run` lives long and reads signals itself; the others end by Ctrl-C like any program.
    if let Err(error) = os::signals::unblock_all() {
        return complain(&format!("signals cannot be unblocked: {error}"), 1);
    }
    match matches.subcommand() {
        Some(("status", matches)) => status::status(matches),
        Some(("health", matches)) => status::health(matches),
        Some(("config", matches)) => config::config(matches),
        Some(("completions", matches)) => generate::completions(matches),
        Some(("man", matches)) => generate::man(matches),
        Some((name, matches)) => request::request(name, matches),
        // clap demands one of the above.
        None => ExitCode::from(2),
    }
}

/// The socket by flag, environment, the file that the environment names, or default.
fn socket(matches: &ArgMatches) -> PathBuf {
    if let Some(path) = matches.get_one::<PathBuf>("control-socket") {
        return path.clone();
    }
    // Whatever else is wrong with the settings is not what was asked.
    let (sources, _problems) = Invocation::default().sources();
    let raw = keys::find("control-socket").and_then(|key| sources.get(key));
    raw.and_then(|raw| raw.words.into_iter().next_back()).unwrap_or_default().into()
}

/// 3 where there is no supervisor, 1 where there is one and it did not do what was asked.
fn exit_status(error: &ClientError) -> u8 {
    match error {
        ClientError::NoServer { .. } => 3,
        ClientError::Hung { .. } | ClientError::Gone { .. } | ClientError::Refused { .. } => 1,
    }
}
