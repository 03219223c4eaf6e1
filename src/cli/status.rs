//! `supervisor status` and `supervisor health`.

use std::process::ExitCode;

use clap::ArgMatches;
use supervisor::control::client;
use supervisor::status_text;

use super::output::{colour, print};
use super::{exit_status, socket, watch};
use crate::complain;

pub(super) fn status(matches: &ArgMatches) -> ExitCode {
    let (socket, json) = (socket(matches), matches.get_flag("json"));
    if matches.get_flag("watch") {
        return watch::watch(&socket, json);
    }
    let status = match client::status(&socket) {
        Ok(status) => status,
        Err(error) => return complain(&error.to_string(), exit_status(&error)),
    };
    let text = if json {
        serde_json::to_string_pretty(&status).map(|text| format!("{text}\n")).unwrap_or_default()
    } else {
        status_text::render(&status, colour())
    };
    print(&text);
    ExitCode::from(u8::from(!status.passing))
}

pub(super) fn health(matches: &ArgMatches) -> ExitCode {
    match client::status(&socket(matches)) {
        Ok(status) => {
            print(&format!("{}: {}\n", status.phase, status.why()));
            ExitCode::from(u8::from(!status.healthy))
        }
        Err(error) => {
            print(&format!("{error}\n"));
            ExitCode::from(1)
        }
    }
}
