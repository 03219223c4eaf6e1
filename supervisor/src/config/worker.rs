//! What the worker is: the words after `--`, a configured command, or model-runtime.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lifecycle::AgentMode;

use super::keys;
use super::problem::Problem;
use super::sources::Place;
use super::values::Values;
use crate::os::spawn::Program;
use crate::os::user::User;

/// `by_ipv6` says whether others reach this instance at an IPv6 address.
pub(super) fn worker(
    values: &mut Values<'_>,
    command: Vec<OsString>,
    mode: AgentMode,
    by_ipv6: bool,
) -> Program {
    let configured = values.list("worker.command");
    let model = values.path("worker.model");
    let (mut words, place) = if !command.is_empty() {
        (command, Place::CommandLine)
    } else if !configured.is_empty() {
        (configured.into_iter().map(OsString::from).collect(), values.place("worker.command"))
    } else if let Some(model) = model {
        if !model.is_dir() {
            values.wrong("worker.model", "an existing model directory (with model.pt in it)");
        }
        // Where others come by IPv6, a socket on :: takes both (ipv6(7), IPV6_V6ONLY).
        let any = if by_ipv6 { "[::]" } else { "0.0.0.0" };
        let listen = format!("{any}:{}", values.port("service.port"));
        let words = [
            "model-runtime".into(),
            "serve".into(),
            "--model".into(),
            model.into(),
            "--listen".into(),
            listen.into(),
        ];
        (words.to_vec(), values.place("worker.model"))
    } else {
        let expected =
            "a worker: `supervisor run -- COMMAND`, or worker.model (--worker-model DIR) for model-runtime";
        values.problems.push(Problem::missing("worker.command", expected));
        (vec![OsString::new()], Place::Default)
    };
    let name = words.remove(0);
    let path = match find(&name) {
        Ok(path) => path,
        Err(_) if place == Place::Default => PathBuf::new(),
        // Whether it is missing or may not be executed decides the exit status, so spawning it says which.
        Err(_) => PathBuf::from(&name),
    };
    let user = values.text("worker.user").and_then(|text| match User::find(&text) {
        Ok(user) => Some(user),
        Err(expected) => {
            values.wrong("worker.user", &expected);
            None
        }
    });
    Program {
        path,
        arguments: words,
        hidden_variables: secrets(),
        variables: user.iter().flat_map(|user| user.variables.clone()).collect(),
        stdin: true,
        foreground: mode == AgentMode::None,
        user,
    }
}

/// Where there is no PATH, where programs are by custom: what Docker sets, and close to what a shell assumes.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program, by its path or on PATH.
pub(super) fn find(name: &OsStr) -> Result<PathBuf, which::Error> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into());
    which::which_in(name, Some(path), std::env::current_dir().unwrap_or_default())
}

/// The variables that hold secrets for us, or say where they are, and are none of the children's business.
pub fn secrets() -> Vec<OsString> {
    ["agent.token-file", "agent.own-token-file", "agent.encrypt-file"]
        .into_iter()
        .filter_map(keys::find)
        .flat_map(|key| key.of_consul.map(str::to_owned).into_iter().chain([key.variable()]))
        .chain(super::shown::SECRETS.map(str::to_owned))
        .map(OsString::from)
        .collect()
}
