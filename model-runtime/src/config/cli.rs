//! The command line: `serve` and `check`, their flags, and the environment variables of the same names.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use super::{ByteSize, Span};
use crate::backend::{DeviceChoice, PrecisionChoice};
use crate::task::Strategy;

const EXIT_CODES: &str = "\
Exit codes:
  0  ended by SIGTERM or SIGINT with every accepted request answered; the check passed
  1  internal error, or --shutdown-timeout cut off requests
  2  wrong flag, environment variable or runtime.toml
  3  the model directory is missing, incomplete or damaged, or the model does not run
  4  the address, or the admin socket, cannot be listened on
  5  settings: the server refused, or could not be asked; nothing has changed there
  6  a CUDA error has left the GPU unusable for this process: start it again";

const PRECEDENCE: &str = "\
Each setting comes from the flag, else from the environment (MODEL_RUNTIME_MAX_QUEUE for --max-queue), else from the
key of the same name in the model's runtime.toml (max_queue), else from the default.";

/// Serves a TorchScript model over HTTP with dynamic batching.
#[derive(Debug, Parser)]
#[command(name = "model-runtime", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load the model and serve it until SIGTERM or SIGINT
    #[command(after_help = EXIT_CODES, after_long_help = format!("{PRECEDENCE}\n\n{EXIT_CODES}"))]
    Serve(Box<ServeArgs>),
    /// Load the model, run it on its example sentences and print what was found
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
    /// Measure the bare model on this machine and recommend settings
    #[command(after_help = EXIT_CODES)]
    Bench(BenchArgs),
    /// Show the settings of a running server, or change them, and its model, without a restart
    #[command(subcommand, after_help = EXIT_CODES)]
    Settings(SettingsCommand),
}

/// The flags of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// The model and how it is run.
    #[command(flatten)]
    pub model: ModelArgs,

    /// Address and port to listen on; port 0 takes a free one and logs it
    #[arg(long, env = "MODEL_RUNTIME_LISTEN", value_name = "ADDR:PORT", default_value = "0.0.0.0:8000")]
    pub listen: SocketAddr,

    /// Model threads, each running one batch at a time [default: one per core on CPU, at most 16; 1 on each GPU]
    #[arg(long, env = "MODEL_RUNTIME_INSTANCES", value_name = "N")]
    pub instances: Option<NonZeroUsize>,

    /// The most texts in a batch [default: 32 on CPU, 64 on GPU]
    #[arg(long, env = "MODEL_RUNTIME_MAX_BATCH_SIZE", value_name = "N")]
    pub max_batch_size: Option<NonZeroUsize>,

    /// The most tokens in a batch, padding included; a longer text goes alone [default: 256 on CPU, 16384 on GPU]
    #[arg(long, env = "MODEL_RUNTIME_MAX_BATCH_TOKENS", value_name = "N")]
    pub max_batch_tokens: Option<NonZeroUsize>,

    /// The most padding tokens that one more text may add to a batch [default: 24 on CPU, unlimited on GPU]
    #[arg(long, env = "MODEL_RUNTIME_MAX_BATCH_PADDING", value_name = "N")]
    pub max_batch_padding: Option<usize>,

    /// How long a text may wait for company while a model thread is idle [default: 0]
    #[arg(long, env = "MODEL_RUNTIME_MAX_BATCH_DELAY", value_name = "DURATION")]
    pub max_batch_delay: Option<Span>,

    /// The most texts waiting for a model thread; more are refused with 429 [default: 512]
    #[arg(long, env = "MODEL_RUNTIME_MAX_QUEUE", value_name = "N")]
    pub max_queue: Option<NonZeroUsize>,

    /// A request not answered by then gets 503 and its work is dropped [default: 30s]
    #[arg(long, env = "MODEL_RUNTIME_REQUEST_TIMEOUT", value_name = "DURATION")]
    pub request_timeout: Option<Span>,

    /// The largest request body; larger ones are refused with 413 [default: 2MiB, 10MiB for a model of images]
    #[arg(long, env = "MODEL_RUNTIME_BODY_LIMIT", value_name = "BYTES")]
    pub body_limit: Option<ByteSize>,

    /// How long a client may take to send the head of a request, and again its body
    #[arg(long, env = "MODEL_RUNTIME_READ_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    pub read_timeout: Span,

    /// The most open connections; further ones wait to be accepted
    #[arg(long, env = "MODEL_RUNTIME_MAX_CONNECTIONS", value_name = "N", default_value = "512")]
    pub max_connections: NonZeroUsize,

    /// Only requests with a key from this file (one a line) as `Authorization: Bearer KEY` get predictions [default: all]
    #[arg(long, env = "MODEL_RUNTIME_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,

    /// Unix socket over which settings and the model are changed while it runs (`model-runtime settings`) [default: none]
    #[arg(long, env = "MODEL_RUNTIME_ADMIN_SOCKET", value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,

    /// How long requests in flight may take after SIGTERM
    #[arg(long, env = "MODEL_RUNTIME_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "5s")]
    pub shutdown_timeout: Span,

    /// How the log on standard error is written
    #[arg(long, env = "MODEL_RUNTIME_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// error, warn, info, debug or trace; or directives such as `info,model_runtime=debug`
    #[arg(long, env = "MODEL_RUNTIME_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

/// The flags that all commands with a model share.
#[derive(Debug, Clone, Args)]
pub struct ModelArgs {
    /// Directory with model.pt, config.json, tokenizer.json or preprocessor_config.json, and perhaps runtime.toml
    #[arg(long, env = "MODEL_RUNTIME_MODEL", value_name = "DIR")]
    pub model: PathBuf,

    /// Where the model runs: auto, cpu, cuda, cuda:N, several as cuda:0,cuda:1, or cuda:all [default: auto, the first GPU if there is one]
    #[arg(long, env = "MODEL_RUNTIME_DEVICE", value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,

    /// What the model computes in: auto, fp32, bf16 or fp16 [default: auto; fp32 on CPU, on GPU the first of fp16, bf16, fp32 that is there]
    #[arg(long, env = "MODEL_RUNTIME_PRECISION", value_name = "PRECISION")]
    pub precision: Option<PrecisionChoice>,

    /// CPU threads inside each forward [default: 1, and up to 4 while nothing else is to do]
    #[arg(long, env = "MODEL_RUNTIME_THREADS", value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Longer texts are truncated to so many tokens [default: what the model can take]
    #[arg(long, env = "MODEL_RUNTIME_MAX_SEQ_LENGTH", value_name = "N")]
    pub max_seq_length: Option<NonZeroUsize>,

    /// Aggregation strategy of requests that name none [default: none]
    #[arg(long, env = "MODEL_RUNTIME_AGGREGATION", value_name = "STRATEGY")]
    pub aggregation: Option<Strategy>,
}

/// The flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The model and how it is run.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// The flags of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The model and how it is run.
    #[command(flatten)]
    pub model: ModelArgs,

    /// About how long to measure, from 1 to 3600; the model is loaded before
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,

    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// The flags that the commands of `settings` share.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The server's `--admin-socket`
    #[arg(long, env = "MODEL_RUNTIME_ADMIN_SOCKET", value_name = "PATH")]
    pub admin_socket: PathBuf,

    /// Print the server's answer as it is, one JSON object on a line
    #[arg(long)]
    pub json: bool,
}

/// The commands of `settings`.
#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    /// Every setting that may change, its value, and where that comes from
    Show(AskArgs),
    /// Let these be all overrides there are: a key that is left out has its value of the start again
    #[command(group(ArgGroup::new("set").required(true).multiple(true).args(["settings", "file", "none"])))]
    Apply(ApplyArgs),
}

/// The flags of `settings apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Whom to ask, and how.
    #[command(flatten)]
    pub ask: AskArgs,

    /// Settings by the keys of runtime.toml, and model_path
    #[arg(value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub settings: Vec<(String, String)>,

    /// A TOML file with such keys; those of the command line beat it
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// No override at all: everything as at the start
    #[arg(long, conflicts_with_all = ["settings", "file"])]
    pub none: bool,

    /// What to call this set; shown by `settings show`, /info and /health
    #[arg(long = "version", value_name = "VERSION")]
    pub set_version: Option<String>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE, such as max_batch_size=16")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
impl ServeArgs {
    /// Those of `model-runtime serve --model m` with these flags.
    pub(crate) fn from_flags(flags: &[&str]) -> Self {
        let line = ["model-runtime", "serve", "--model", "m"].iter().chain(flags);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Serve(args) => *args,
            other => panic!("the line says serve, not {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
