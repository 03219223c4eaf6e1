//! `supervisor run`.

use std::process::ExitCode;

use clap::ArgMatches;
use supervisor::{logging, preflight};

use super::command;
use crate::complain;

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let invocation = command::invocation(matches);
    let loaded = match invocation.load() {
        Ok(loaded) => loaded,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return complain(&lines.join("\n"), 2);
        }
    };
    if let Err(refusal) = preflight::check(&loaded.config) {
        return complain(&refusal.to_string(), refusal.exit_status());
    }
    let log = logging::start(&loaded.config.logging);
    let outcome = supervisor::run(invocation, loaded);
    logging::finish(log);
    match outcome {
        Ok(status) => {
            supervisor::gpu::leave_if_watching(status);
            ExitCode::from(status)
        }
        Err(message) => complain(&message, 2),
    }
}
