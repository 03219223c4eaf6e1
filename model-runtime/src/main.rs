//! The `model-runtime` program: reads the command line, runs the command, turns its end into an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use model_runtime::admin::settings;
use model_runtime::bench::bench;
use model_runtime::check::check;
use model_runtime::config::cli::{Cli, Command};
use model_runtime::memory;
use model_runtime::serve::serve;

fn main() -> ExitCode {
    memory::bound_arenas();
    let result = match Cli::parse().command {
        Command::Serve(args) => serve(&args),
        Command::Check(args) => check(&args),
        Command::Bench(args) => bench(&args),
        Command::Settings(command) => settings(&command),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Whoever closed standard error still gets the exit code.
            for line in failure.message.lines() {
                let _ = writeln!(std::io::stderr(), "model-runtime: {line}");
            }
            failure.exit.into()
        }
    }
}
