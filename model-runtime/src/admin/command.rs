//! `model-runtime settings`: asks a running server for its settings, or changes them.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use line_socket::client::{ClientError, Conversation};
use serde_json::{Map, Value};

use super::NAMES;
use super::protocol::{Answer, Request, State};
use crate::config::cli::{ApplyArgs, SettingsCommand};
use crate::exit::{Exit, Failure};
use crate::hot_change::LOAD_TIMEOUT;

/// The server answers from memory: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// It may be reading and loading; then its own limit ends it.
const PATIENCE_APPLY: Duration = LOAD_TIMEOUT.saturating_add(Duration::from_secs(30));

/// Runs the command.
pub fn settings(command: &SettingsCommand) -> Result<Exit, Failure> {
    let (args, request, patience) = match command {
        SettingsCommand::Show(args) => (args, Request::Show, PATIENCE),
        SettingsCommand::Apply(apply) => {
            let settings = set(apply).map_err(|message| Failure { exit: Exit::Usage, message })?;
            (&apply.ask, Request::Apply { settings, version: apply.set_version.clone() }, PATIENCE_APPLY)
        }
    };
    let answer =
        ask(&args.admin_socket, &request, patience).map_err(|error| Failure::new(Exit::Refused, error))?;
    let printed = if args.json { print_json(&answer) } else { print(&answer, &mut io::stdout().lock()) };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::new(Exit::Internal, error));
        }
        // Or the reader had enough.
        _ => {}
    }
    match answer.error {
        None => Ok(Exit::Done),
        Some(error) if answer.problems.is_empty() => Err(Failure { exit: Exit::Refused, message: error }),
        Some(_) => {
            let lines: Vec<&str> = answer.problems.iter().map(|problem| problem.problem.as_str()).collect();
            Err(Failure { exit: Exit::Refused, message: lines.join("\n") })
        }
    }
}

fn ask(path: &Path, request: &Request, patience: Duration) -> Result<Answer, ClientError> {
    Conversation::open(path, NAMES, request, patience)?.answer()
}

/// What the file says, and over it what the command line says.
fn set(args: &ApplyArgs) -> Result<Map<String, Value>, String> {
    let mut set = Map::new();
    if let Some(path) = &args.file {
        let problem = |problem: &str| format!("{}: {problem}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| problem(&error.to_string()))?;
        set = toml::from_str(&text).map_err(|error| problem(error.message()))?;
    }
    for (key, value) in &args.settings {
        set.insert(key.clone(), Value::String(value.clone()));
    }
    Ok(set)
}

fn print_json(answer: &Answer) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    writeln!(out)
}

fn print(answer: &Answer, out: &mut impl Write) -> io::Result<()> {
    match (answer.outcome, &answer.changes, &answer.state) {
        (Some(outcome), Some(changes), _) => {
            writeln!(out, "{}", outcome.as_str())?;
            let width = changes.iter().map(|change| change.key.len()).max().unwrap_or_default();
            changes.iter().try_for_each(|change| {
                writeln!(out, "  {:<width$}  {} -> {}", change.key, plain(&change.old), plain(&change.new))
            })
        }
        (None, None, Some(state)) if answer.ok => print_state(state, out),
        _ => Ok(()),
    }
}

fn print_state(state: &State, out: &mut impl Write) -> io::Result<()> {
    let State { phase, version, model, settings, refused } = state;
    writeln!(out, "phase    {phase}")?;
    if let Some(model) = model {
        let version = model.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        writeln!(out, "model    {}{version}, {} on {}", model.name, model.task, model.device)?;
    }
    if let Some(version) = version {
        writeln!(out, "version  {version}")?;
    }
    if let Some(refused) = refused {
        let version =
            refused.version.as_ref().map(|version| format!("version {version}, ")).unwrap_or_default();
        writeln!(out, "refused  {version}{}: {}", refused.at, refused.error)?;
    }
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or_default();
    let keys = width(&mut settings.keys().map(String::len));
    let values = width(&mut settings.values().map(|setting| plain(&setting.value).chars().count()));
    settings.iter().try_for_each(|(key, setting)| {
        let source = setting.source.as_str();
        writeln!(out, "  {key:<keys$}  {:<values$}  {source}", plain(&setting.value))
    })
}

/// A text without its quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
