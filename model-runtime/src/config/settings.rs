//! The merged settings: flag or environment (clap has joined these two), else `runtime.toml`, else the default.
//!
//! Defaults that depend on the device stay open here and are filled in once it is known ([`Batching::limits`]).

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::RuntimeToml;
use super::cli::{LogFormat, ModelArgs, ServeArgs};
use crate::backend::DeviceChoice;
use crate::batcher::Limits;
use crate::model::Form;
use crate::task::Strategy;

/// On a CPU a larger batch costs as much a token as a small one, and padding is pure loss: measured on two cores with a
/// 6-layer BERT, batches of 256 padded tokens gave the most texts a second.
const CPU_BATCH_TOKENS: usize = 256;
const CPU_BATCH_SIZE: usize = 32;
/// A forward of that model costs about as much before its first token as 27 tokens do; more padding than that is dearer
/// than a forward of its own.
const CPU_BATCH_PADDING: usize = 24;
/// A GPU is underused below some thousands of tokens.
const GPU_BATCH_TOKENS: usize = 16_384;
const GPU_BATCH_SIZE: usize = 64;
/// More model threads than this compete for memory bandwidth rather than add throughput.
const MOST_CPU_INSTANCES: usize = 16;

/// How the model is loaded and run.
#[derive(Debug, Clone)]
pub struct Running {
    /// Where.
    pub device: DeviceChoice,
    /// CPU threads inside one forward.
    pub threads: usize,
    /// The wished truncation length; the model's own limit when `None`.
    pub max_seq_length: Option<usize>,
    /// The aggregation of requests that name none.
    pub aggregation: Strategy,
}

/// How requests become batches.
#[derive(Debug, Clone)]
pub struct Batching {
    max_size: Option<usize>,
    max_tokens: Option<usize>,
    max_padding: Option<usize>,
    max_delay: Duration,
    instances: Option<usize>,
    threads: usize,
}

/// Everything `serve` goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How the model is run.
    pub running: Running,
    /// How requests become batches.
    pub batching: Batching,
    /// The most texts that wait.
    pub max_queue: usize,
    /// A request's time from its last byte to its answer.
    pub request_timeout: Duration,
    /// The largest body, in bytes.
    pub body_limit: usize,
    /// A client's time to send the head of a request, and again its body.
    pub read_timeout: Duration,
    /// The most open connections.
    pub max_connections: usize,
    /// The time for requests in flight after SIGTERM.
    pub shutdown_timeout: Duration,
    /// How the log is written.
    pub log_format: LogFormat,
}

impl Running {
    /// Merges the shared flags with the file.
    pub fn merge(args: &ModelArgs, file: &RuntimeToml) -> Self {
        Self {
            device: args.device.or(file.device).unwrap_or(DeviceChoice::Auto),
            threads: args.threads.or(file.threads).map_or(1, NonZeroUsize::get),
            max_seq_length: args.max_seq_length.or(file.max_seq_length).map(NonZeroUsize::get),
            aggregation: args.aggregation.or(file.aggregation).unwrap_or(Strategy::None),
        }
    }
}

/// Bodies of texts, unless told otherwise.
const BODY_LIMIT: usize = 2 << 20;
/// Bodies with images: a photograph of 7 MiB in Base64.
const IMAGE_BODY_LIMIT: usize = 10 << 20;

impl Settings {
    /// Merges the flags of `serve` with the file. Timeouts of zero are refused: all of them at once, one line each.
    pub fn merge(args: &ServeArgs, file: &RuntimeToml) -> Result<Self, String> {
        let running = Running::merge(&args.model, file);
        let count =
            |flag: Option<NonZeroUsize>, key: Option<NonZeroUsize>| flag.or(key).map(NonZeroUsize::get);
        let batching = Batching {
            max_size: count(args.max_batch_size, file.max_batch_size),
            max_tokens: count(args.max_batch_tokens, file.max_batch_tokens),
            max_padding: args.max_batch_padding.or(file.max_batch_padding),
            max_delay: args.max_batch_delay.or(file.max_batch_delay).map_or(Duration::ZERO, |span| span.0),
            instances: count(args.instances, file.instances),
            threads: running.threads,
        };
        let timeout = args.request_timeout.or(file.request_timeout);
        let settings = Self {
            listen: args.listen,
            running,
            batching,
            max_queue: count(args.max_queue, file.max_queue).unwrap_or(512),
            request_timeout: timeout.map_or(Duration::from_secs(30), |span| span.0),
            body_limit: args.body_limit.or(file.body_limit).map_or(BODY_LIMIT, |size| size.0),
            read_timeout: args.read_timeout.0,
            max_connections: args.max_connections.get(),
            shutdown_timeout: args.shutdown_timeout.0,
            log_format: args.log_format,
        };
        settings.validate()?;
        Ok(settings)
    }

    /// Changes what the model's form decides unless a flag or a key does.
    pub fn suit(&mut self, args: &ServeArgs, file: &RuntimeToml, form: &Form) {
        if args.body_limit.or(file.body_limit).is_none() {
            self.body_limit = match form {
                Form::Text(_) | Form::Tensors(_) => BODY_LIMIT,
                Form::Image(_) => IMAGE_BODY_LIMIT,
            };
        }
    }

    fn validate(&self) -> Result<(), String> {
        let positive = [("request-timeout", self.request_timeout), ("read-timeout", self.read_timeout)];
        let mut problems: Vec<String> = positive
            .iter()
            .filter(|(_, duration)| duration.is_zero())
            .map(|(name, _)| {
                format!("{name} is 0, so no request could succeed; give it a duration such as 30s")
            })
            .collect();
        if self.batching.max_delay >= self.request_timeout && !self.request_timeout.is_zero() {
            problems.push(format!(
                "max-batch-delay ({:?}) is not below request-timeout ({:?}), so lone requests would time out waiting",
                self.batching.max_delay, self.request_timeout
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }
}

impl Batching {
    /// The limits of a batch on this kind of device.
    pub fn limits(&self, on_gpu: bool) -> Limits {
        let (size, tokens, padding) = if on_gpu {
            (GPU_BATCH_SIZE, GPU_BATCH_TOKENS, usize::MAX)
        } else {
            (CPU_BATCH_SIZE, CPU_BATCH_TOKENS, CPU_BATCH_PADDING)
        };
        Limits {
            max_size: self.max_size.unwrap_or(size),
            max_padded_tokens: self.max_tokens.unwrap_or(tokens),
            max_padding: self.max_padding.unwrap_or(padding),
            max_delay: self.max_delay,
        }
    }

    /// How many model threads to run, with `cores` cores at hand.
    pub fn instances(&self, on_gpu: bool, cores: usize) -> usize {
        let fitting = if on_gpu { 1 } else { (cores / self.threads).clamp(1, MOST_CPU_INSTANCES) };
        self.instances.unwrap_or(fitting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cli::{Cli, Command};
    use super::*;
    use clap::Parser as _;

    fn merged(flags: &[&str], file: &str) -> Result<Settings, String> {
        let line = ["model-runtime", "serve", "--model", "m"].iter().chain(flags);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Serve(args) => Settings::merge(&args, &RuntimeToml::parse(file).unwrap()),
            Command::Check(_) => unreachable!("the line says serve"),
        }
    }

    #[test]
    fn the_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = "max_queue = 7\naggregation = \"first\"\nmax_batch_tokens = 99";
        let settings = merged(&["--max-batch-tokens", "50"], file).unwrap();
        assert_eq!(settings.max_queue, 7);
        assert_eq!(settings.running.aggregation, Strategy::First);
        assert_eq!(settings.batching.limits(false).max_padded_tokens, 50);
        assert_eq!(merged(&[], "").unwrap().max_queue, 512);
    }

    #[test]
    fn one_model_thread_per_core_unless_said_otherwise() {
        let settings = merged(&[], "").unwrap();
        assert_eq!(settings.batching.instances(false, 2), 2);
        assert_eq!(settings.batching.instances(false, 64), 16);
        assert_eq!(settings.batching.instances(true, 64), 1);
        assert_eq!(merged(&["--threads", "4"], "").unwrap().batching.instances(false, 2), 1);
        assert_eq!(merged(&["--instances", "3"], "").unwrap().batching.instances(false, 2), 3);
    }

    #[test]
    fn settings_that_would_fail_every_request_are_refused_all_at_once() {
        let error = merged(&["--read-timeout", "0", "--request-timeout", "0"], "").unwrap_err();
        assert_eq!(error.lines().count(), 2, "{error}");
        assert!(merged(&["--max-batch-delay", "1m"], "").unwrap_err().contains("max-batch-delay"));
    }
}
