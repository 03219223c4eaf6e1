//! The settings that may change while the server runs, merged: flag or environment (clap has joined these two), else `runtime.toml`, else
//! the default.
//!
//! Defaults that depend on the device stay open here and are filled in once it is known ([`Batching::limits`]).

use std::num::NonZeroUsize;
use std::time::Duration;

use super::cli::{ModelArgs, ServeArgs};
use super::{Problem, RuntimeToml};
use crate::backend::{DeviceChoice, Pace, PrecisionChoice};
use crate::batcher::Limits;
use crate::model::Form;
use crate::task::Strategy;

/// On a CPU a larger batch costs as much a token as a small one, and padding is pure loss: measured on two cores with a
/// 6-layer BERT, batches of 256 padded tokens gave the most texts a second.
const CPU_BATCH_TOKENS: usize = 256;
const CPU_BATCH_SIZE: usize = 32;
/// A forward of that model costs as much before its first token as some 15 tokens do. Less padding than that is worth it even so, since a sample
/// that waits a little finds nearer company: of 4 to 24, 6 was best or next to it for 8 to 64 clients.
const CPU_BATCH_PADDING: usize = 6;
/// Of a model with two layers of 64 numbers fewer forwards are worth more: with 24 and with 64 it answered a tenth more requests than with 6.
const QUICK_BATCH_PADDING: usize = 64;
/// A GPU is underused below some thousands of tokens.
const GPU_BATCH_TOKENS: usize = 16_384;
const GPU_BATCH_SIZE: usize = 64;
/// More model threads than this compete for memory bandwidth rather than add throughput.
const MOST_CPU_INSTANCES: usize = 16;

/// A sentence is too little work to divide among more.
const MOST_LONE_THREADS: usize = 4;

/// How the model is loaded and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Where.
    pub device: DeviceChoice,
    /// The number format it computes in.
    pub precision: PrecisionChoice,
    /// CPU threads inside one forward.
    pub threads: usize,
    /// The same while no other forward runs and nobody waits.
    pub lone_threads: usize,
    /// The wished truncation length; the model's own limit when `None`.
    pub max_seq_length: Option<usize>,
    /// The aggregation of requests that name none.
    pub aggregation: Strategy,
}

/// How requests become batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batching {
    max_size: Option<usize>,
    max_tokens: Option<usize>,
    max_padding: Option<usize>,
    max_delay: Duration,
    instances: Option<usize>,
    threads: usize,
}

/// Everything that may change while the server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunables {
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
}

/// Samples that wait, unless told otherwise.
const QUEUE: usize = 512;
/// The same of images: decoded for a model that sees 224 x 224 pixels, so many take 77 MB, and seconds on a CPU.
const IMAGE_QUEUE: usize = 128;
/// Bodies of texts, unless told otherwise.
const BODY_LIMIT: usize = 2 << 20;
/// Bodies with images: a photograph of 7 MiB in Base64.
const IMAGE_BODY_LIMIT: usize = 10 << 20;

impl Running {
    /// Merges the shared flags with the file.
    pub fn merge(args: &ModelArgs, file: &RuntimeToml) -> Self {
        let threads = args.threads.or(file.threads).map(NonZeroUsize::get);
        let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            device: args.device.clone().or_else(|| file.device.clone()).unwrap_or(DeviceChoice::Auto),
            precision: args.precision.or(file.precision).unwrap_or(PrecisionChoice::Auto),
            threads: threads.unwrap_or(1),
            // What was asked for is kept to; else a lone request has all the cores, which is the sooner answer.
            lone_threads: threads.unwrap_or_else(|| cores().min(MOST_LONE_THREADS)),
            max_seq_length: args.max_seq_length.or(file.max_seq_length).map(NonZeroUsize::get),
            aggregation: args.aggregation.or(file.aggregation).unwrap_or(Strategy::None),
        }
    }
}

impl Tunables {
    /// Merges the flags of `serve` with the file.
    ///
    /// # Errors
    /// Every setting with which no request could succeed.
    pub fn merge(args: &ServeArgs, file: &RuntimeToml) -> Result<Self, Vec<Problem>> {
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
        let tunables = Self {
            running,
            batching,
            max_queue: count(args.max_queue, file.max_queue).unwrap_or(QUEUE),
            request_timeout: timeout.map_or(Duration::from_secs(30), |span| span.0),
            body_limit: args.body_limit.or(file.body_limit).map_or(BODY_LIMIT, |size| size.0),
        };
        let problems = tunables.problems();
        if problems.is_empty() { Ok(tunables) } else { Err(problems) }
    }

    /// Whether the model must be loaded anew to go from these to others; the rest changes in place.
    pub fn need_other_model_than(&self, before: &Self) -> bool {
        self.running != before.running || self.batching.instances != before.batching.instances
    }

    /// Changes what the model's form decides unless a flag or a key does.
    pub fn suit(&mut self, args: &ServeArgs, file: &RuntimeToml, form: &Form) {
        let (body_limit, max_queue) = match form {
            Form::Text(_) | Form::Tensors(_) => (BODY_LIMIT, QUEUE),
            Form::Image(_) => (IMAGE_BODY_LIMIT, IMAGE_QUEUE),
        };
        if args.body_limit.or(file.body_limit).is_none() {
            self.body_limit = body_limit;
        }
        if args.max_queue.or(file.max_queue).is_none() {
            self.max_queue = max_queue;
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let delay = self.batching.max_delay;
        if self.request_timeout.is_zero() {
            vec![Problem::zero("request_timeout")]
        } else if delay >= self.request_timeout {
            vec![Problem {
                key: "max_batch_delay".to_owned(),
                problem: format!(
                    "max-batch-delay ({delay:?}) is not below request-timeout ({:?}), so lone requests would time out waiting",
                    self.request_timeout
                ),
            }]
        } else {
            Vec::new()
        }
    }
}

impl Batching {
    /// The limits of a batch of a model that is so fast.
    pub fn limits(&self, pace: Pace) -> Limits {
        let (size, tokens, padding) = match pace {
            Pace::Gpu => (GPU_BATCH_SIZE, GPU_BATCH_TOKENS, usize::MAX),
            Pace::Cpu => (CPU_BATCH_SIZE, CPU_BATCH_TOKENS, CPU_BATCH_PADDING),
            Pace::QuickOnCpu => (CPU_BATCH_SIZE, CPU_BATCH_TOKENS, QUICK_BATCH_PADDING),
        };
        Limits {
            max_size: self.max_size.unwrap_or(size),
            max_padded_tokens: self.max_tokens.unwrap_or(tokens),
            max_padding: self.max_padding.unwrap_or(padding),
            max_delay: self.max_delay,
        }
    }

    /// How many model threads each device has, with `cores` cores at hand.
    pub fn instances(&self, on_gpu: bool, cores: usize) -> usize {
        let fitting = if on_gpu { 1 } else { (cores / self.threads).clamp(1, MOST_CPU_INSTANCES) };
        self.instances.unwrap_or(fitting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(flags: &[&str], file: &str) -> Result<Tunables, Vec<Problem>> {
        Tunables::merge(&ServeArgs::from_flags(flags), &RuntimeToml::parse(file).unwrap())
    }

    #[test]
    fn the_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = "max_queue = 7\naggregation = \"first\"\nmax_batch_tokens = 99";
        let tunables = merged(&["--max-batch-tokens", "50"], file).unwrap();
        assert_eq!(tunables.max_queue, 7);
        assert_eq!(tunables.running.aggregation, Strategy::First);
        assert_eq!(tunables.batching.limits(Pace::Cpu).max_padded_tokens, 50);
        assert_eq!(merged(&[], "").unwrap().max_queue, 512);
    }

    #[test]
    fn a_number_of_threads_that_was_asked_for_holds_for_lone_requests_too() {
        let running = |flags: &[&str]| merged(flags, "").unwrap().running;
        let asked = running(&["--threads", "3"]);
        assert_eq!((asked.threads, asked.lone_threads), (3, 3));
        let silent = running(&[]);
        assert!(silent.threads == 1 && (1..=MOST_LONE_THREADS).contains(&silent.lone_threads));
    }

    #[test]
    fn one_model_thread_per_core_unless_said_otherwise() {
        let batching = |flags: &[&str]| merged(flags, "").unwrap().batching;
        assert_eq!(batching(&[]).instances(false, 2), 2);
        assert_eq!(batching(&[]).instances(false, 64), 16);
        assert_eq!(batching(&[]).instances(true, 64), 1);
        assert_eq!(batching(&["--threads", "4"]).instances(false, 2), 1);
        assert_eq!(batching(&["--instances", "3"]).instances(false, 2), 3);
    }

    #[test]
    fn only_what_the_model_is_loaded_with_needs_another_one() {
        let before = merged(&[], "").unwrap();
        for flag in ["--threads", "--max-seq-length", "--instances"] {
            assert!(merged(&[flag, "7"], "").unwrap().need_other_model_than(&before), "{flag}");
        }
        assert!(merged(&["--device", "cpu"], "").unwrap().need_other_model_than(&before));
        assert!(merged(&["--aggregation", "max"], "").unwrap().need_other_model_than(&before));
        for flag in
            ["--max-batch-size", "--max-batch-tokens", "--max-batch-padding", "--max-queue", "--body-limit"]
        {
            assert!(!merged(&[flag, "7"], "").unwrap().need_other_model_than(&before), "{flag}");
        }
        let in_place = merged(&["--max-batch-delay", "7ms", "--request-timeout", "7s"], "").unwrap();
        assert!(!in_place.need_other_model_than(&before));
    }

    #[test]
    fn settings_that_would_fail_every_request_are_refused() {
        let key = |flags: &[&str]| merged(flags, "").unwrap_err().remove(0).key;
        assert_eq!(key(&["--request-timeout", "0"]), "request_timeout");
        assert_eq!(key(&["--max-batch-delay", "1m"]), "max_batch_delay");
    }
}
