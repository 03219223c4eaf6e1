//! `supervisor drain`, `resume`, `restart`, `reload` and `stop`: ask, and wait until what was asked for is true.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ArgMatches;
use supervisor::control::client::{self, ClientError, Watch};
use supervisor::control::protocol::{ControlRequest, ReloadReport, Restartable};
use supervisor::control::waiting::{Progress, progress};
use supervisor::status::Status;

use super::output::print;
use super::{exit_status, socket};
use crate::complain;

pub(super) fn request(name: &str, matches: &ArgMatches) -> ExitCode {
    let request = match name {
        "drain" => ControlRequest::Drain,
        "resume" => ControlRequest::Resume,
        "reload" => ControlRequest::Reload,
        "restart" if matches.get_one::<String>("process").is_some_and(|process| process == "agent") => {
            ControlRequest::Restart { process: Restartable::Agent }
        }
        "restart" => ControlRequest::Restart { process: Restartable::Worker },
        "stop" => ControlRequest::Stop,
        // clap knows no others.
        _ => return ExitCode::from(2),
    };
    let socket = socket(matches);
    let flag = |name: &str| matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or(false);
    let reply = match (request, flag("no-wait")) {
        (ControlRequest::Reload, true) => client::tell(&socket, request),
        _ => client::ask(&socket, request).map(Some),
    };
    let outcome = match reply {
        Err(error) => return complain(&error.to_string(), exit_status(&error)),
        Ok(None) => Ok(format!("{name} requested")),
        Ok(Some(reply)) => match (reply.reload, reply.status) {
            (Some(report), _) => reloaded(&report),
            (None, Some(before)) if request != ControlRequest::Stop && !flag("no-wait") => {
                let timeout = matches.get_one::<Duration>("timeout").copied().unwrap_or_default();
                wait(&socket, request, &before, timeout)
            }
            _ => Ok(format!("{name} requested")),
        },
    };
    match outcome {
        Ok(line) => {
            print(&format!("{line}\n"));
            ExitCode::SUCCESS
        }
        Err(reason) => complain(&reason, 1),
    }
}

/// Watches the instance until the request has come true, cannot any more, or has had its time.
fn wait(
    socket: &Path,
    request: ControlRequest,
    before: &Status,
    timeout: Duration,
) -> Result<String, String> {
    let failed = |error: ClientError| error.to_string();
    // A duration is at most a year: the sum cannot overflow.
    let deadline = Instant::now() + timeout;
    let mut watch = Watch::open(socket).map_err(failed)?;
    loop {
        match progress(request, before, &watch.status().map_err(failed)?) {
            Progress::Done(line) => return Ok(line),
            Progress::Failed(reason) => return Err(reason),
            Progress::Waiting(reason) if Instant::now() >= deadline => {
                let timeout = timeout.as_secs_f64();
                return Err(format!("requested, and not done within {timeout} s; {reason}"));
            }
            Progress::Waiting(_) => {}
        }
    }
}

/// What a reload did, in one line; what is wrong, in one line each.
fn reloaded(report: &ReloadReport) -> Result<String, String> {
    if !report.problems.is_empty() {
        let problems = report.problems.join("\n");
        return Err(format!("{problems}\nthe configuration cannot work; nothing was changed"));
    }
    let pending: Vec<String> =
        report.pending.iter().map(|change| format!("{} ({})", change.key, change.applies)).collect();
    let applied = match report.applied.as_slice() {
        [] => "nothing new to apply".to_owned(),
        keys => format!("applied {}", keys.join(", ")),
    };
    Ok(if pending.is_empty() {
        format!("reloaded: {applied}")
    } else {
        format!("reloaded: {applied}; waiting for a restart: {}", pending.join(", "))
    })
}
