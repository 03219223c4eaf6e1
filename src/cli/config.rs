//! `supervisor config check`, `show` and `schema`.

use std::process::ExitCode;

use clap::ArgMatches;
use supervisor::config::{Problem, schema, shown};
use supervisor::preflight;

use super::command;
use super::output::{colour, print};
use crate::complain;

pub(super) fn config(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("check", matches)) => check(matches),
        Some(("show", matches)) => show(matches),
        _ => {
            let schema = serde_json::to_string_pretty(&schema::of_file()).unwrap_or_default();
            print(&format!("{schema}\n"));
            ExitCode::SUCCESS
        }
    }
}

fn check(matches: &ArgMatches) -> ExitCode {
    let loaded = match command::invocation(matches).load() {
        Ok(loaded) => loaded,
        Err(problems) => return wrong(&problems),
    };
    complain(&loaded.sources.warnings().join("\n"), 0);
    if let Err(refusal) = preflight::worker(&loaded.config.worker) {
        return complain(&refusal.to_string(), 2);
    }
    print("the configuration is valid\n");
    ExitCode::SUCCESS
}

/// Shows the values, whatever is wrong with them, and then what is wrong.
fn show(matches: &ArgMatches) -> ExitCode {
    let invocation = command::invocation(matches);
    let (sources, _) = invocation.sources();
    let shown = shown::all(&sources, |name| std::env::var_os(name));
    if matches.get_flag("json") {
        let json = serde_json::to_string_pretty(&shown::json(&shown)).unwrap_or_default();
        print(&format!("{json}\n"));
    } else {
        print(&shown::text(&shown, colour()));
    }
    complain(&sources.warnings().join("\n"), 0);
    match invocation.load() {
        Ok(_) => ExitCode::SUCCESS,
        Err(problems) => wrong(&problems),
    }
}

fn wrong(problems: &[Problem]) -> ExitCode {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    complain(&lines.join("\n"), 2)
}
