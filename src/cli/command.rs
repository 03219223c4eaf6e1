//! What can be written on the command line. The options of `run` come from the library's table of settings, so that flag, variable and
//! file key cannot drift apart.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::Styles;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use supervisor::config::keys::{self, KEYS, Key, Kind, Shape};
use supervisor::config::{Invocation, parse_duration};

const EXIT_STATUS_OF_RUN: &str = "\
Exit status:
  the worker's own; 128+n if signal n ended it; 0 if it ended by our TERM
  2    the configuration cannot work; nothing was started
  69   the Consul agent used up its restarts, or start-timeout passed
  126  the worker may not be executed
  127  the worker was not found";

const EXIT_STATUS_OF_REQUESTS: &str = "\
Exit status: 0 done, 1 refused or not done in time, 3 no supervisor.";

/// Lines longer than this are hard to read, however wide the terminal.
const WIDTH_MAX: usize = 100;

/// The whole command line.
pub(super) fn command() -> Command {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    let watch = Arg::new("watch")
        .long("watch")
        .short('w')
        .action(ArgAction::SetTrue)
        .help("Go on: redraw a terminal, or print each change");
    let status = Command::new("status")
        .about("Show the instance at a glance")
        .after_help("Exit status: 0 passing, 1 not passing, 3 no supervisor.")
        .args([json(), watch, socket()]);
    let health = Command::new("health")
        .about("Say in one line whether it serves, for HEALTHCHECK and exec probes")
        .after_help("Exit status: 0 serving, if degraded; 1 not serving, or no supervisor.")
        .arg(socket());
    Command::new("supervisor")
        .version(env!("CARGO_PKG_VERSION"))
        .about("PID 1 for inference containers that are found, watched and steered through Consul")
        .styles(Styles::plain())
        .max_term_width(WIDTH_MAX)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(
            "`supervisor run -h` shows the settings that most people need, `supervisor run --help` all.",
        )
        .subcommand(
            Command::new("run")
                .about("Run the Consul agent and the worker until the worker ends or a signal stops them")
                .after_help(EXIT_STATUS_OF_RUN)
                .defer(settings),
        )
        .subcommand(status)
        .subcommand(health)
        .subcommand(
            request("drain", "Take the instance out of rotation; the worker keeps running").args(waiting()),
        )
        .subcommand(request("resume", "Put a drained instance back into rotation").args(waiting()))
        .subcommand(
            request("restart", "Restart the worker, drained first, or the Consul agent")
                .arg(Arg::new("process").required(true).value_parser(["worker", "agent"]))
                .args(waiting()),
        )
        .subcommand(
            request("reload", "Read the configuration again; apply what can be applied, say what cannot")
                .arg(no_wait()),
        )
        .subcommand(request("stop", "Stop the instance, as SIGTERM does").after_help(
            "Returns at once. A second one skips the drain, a third kills.\n\n\
                 Exit status: 0 asked, 1 refused, 3 no supervisor.",
        ))
        .subcommand(config(json()))
        .subcommand(
            Command::new("completions")
                .about("Print the completions for a shell")
                .arg(Arg::new("shell").required(true).value_parser(value_parser!(Shell))),
        )
        .subcommand(
            // For those who package it.
            Command::new("man")
                .about("Write the manual pages into a folder, or print the first one")
                .hide(true)
                .arg(Arg::new("dir").value_name("DIR").value_parser(value_parser!(PathBuf))),
        )
}

fn config(json: Arg) -> Command {
    let check = Command::new("check")
        .about("Check the configuration, and say all that is wrong with it")
        .after_help("What a running instance holds itself, such as its ports, is not looked at.\n\nExit status: 0 valid, 2 not.");
    let show = Command::new("show")
        .about("Show the value of each setting and where it comes from")
        .after_help("Secrets are not shown.\n\nExit status: 0 valid, 2 not.")
        .arg(json);
    Command::new("config")
        .about("Check or show the configuration, or print its JSON Schema")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(check.defer(settings))
        .subcommand(show.defer(settings))
        .subcommand(Command::new("schema").about("Print the JSON Schema (draft 2020-12) of the TOML file"))
}

fn request(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).after_help(EXIT_STATUS_OF_REQUESTS).arg(socket())
}

fn socket() -> Arg {
    Arg::new("control-socket")
        .long("control-socket")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("The supervisor's control socket [env: SUPERVISOR_CONTROL_SOCKET]")
}

fn no_wait() -> Arg {
    Arg::new("no-wait").long("no-wait").action(ArgAction::SetTrue).help("Do not wait until it is done")
}

fn waiting() -> [Arg; 2] {
    let timeout = Arg::new("timeout")
        .long("timeout")
        .value_name("DURATION")
        .default_value("5m")
        .value_parser(parse_duration)
        .help("How long to wait until it is done");
    [no_wait(), timeout]
}

/// The options of `run`, which `config` takes as well. Made only where they are used: PID 1 has no use for three copies of its options.
fn settings(command: Command) -> Command {
    let with_texts = texts_are_wanted();
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Read settings from a TOML file")
        .long_help("Read settings from a TOML file\n[env: SUPERVISOR_CONFIG]");
    let no_agent =
        Arg::new("no-agent").long("no-agent").action(ArgAction::SetTrue).help("The same as --agent none");
    let worker = Arg::new("worker")
        .value_name("WORKER")
        .num_args(1..)
        .last(true)
        .value_parser(value_parser!(OsString))
        .help("The worker and its arguments; without it: model-runtime with the model of --worker-model");
    command
        .arg(config)
        .args(KEYS.iter().map(|key| argument(key, with_texts)))
        .arg(no_agent.conflicts_with("agent.mode").help_heading("agent"))
        .arg(worker)
}

/// The option of one setting. `-h` shows the common ones, in a line or two each.
fn argument(key: &'static Key, with_texts: bool) -> Arg {
    let is_switch = key.shape() == Shape::Switch;
    let action = if key.kind == Kind::One { ArgAction::Set } else { ArgAction::Append };
    let argument = Arg::new(key.path)
        .long(key.flag)
        .visible_aliases(key.alias)
        .value_name(key.placeholder)
        .action(action)
        .num_args(if is_switch { 0..=1 } else { 1..=1 })
        .require_equals(is_switch)
        .default_missing_value("true")
        .hide_short_help(!key.common)
        .help_heading(key.section().unwrap_or("instance"));
    if with_texts { explained(argument, key) } else { argument }
}

/// Whether anybody is going to read the texts of the options. Making them is much of what reading the command line costs, and PID 1 is
/// started more often than it is asked for help.
fn texts_are_wanted() -> bool {
    let mut words = std::env::args_os().take_while(|word| word != "--");
    words.any(|word| ["-h", "--help", "help", "man", "completions"].iter().any(|wanted| word == *wanted))
}

fn explained(argument: Arg, key: &Key) -> Arg {
    let default = key.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
    let of_consul = key.of_consul.map(|variable| format!(" [env: {variable}]")).unwrap_or_default();
    argument.help(format!("{}{default}", key.help)).long_help(format!(
        "{}\n[env: {}]{of_consul}{default}",
        key.help,
        key.variable()
    ))
}

/// How the supervisor was called, or would be.
pub(super) fn invocation(matches: &ArgMatches) -> Invocation {
    let given = |key: &'static Key| {
        let words: Vec<String> = matches.get_many::<String>(key.path)?.cloned().collect();
        Some((key, words))
    };
    let mut flags: Vec<_> = KEYS.iter().filter_map(given).collect();
    if matches.get_flag("no-agent") {
        flags.extend(keys::find("agent.mode").map(|key| (key, vec!["none".to_owned()])));
    }
    let worker =
        matches.get_many::<OsString>("worker").map(|words| words.cloned().collect()).unwrap_or_default();
    Invocation { flags, file: matches.get_one::<PathBuf>("config").cloned(), worker }
}
