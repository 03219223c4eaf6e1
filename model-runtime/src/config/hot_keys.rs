//! Which settings may change while the server runs, and which may not.
//!
//! An override is a flag given late: each key says how a text is written over the flag's value, and everything after that is the start's
//! own code.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Value, json};

use super::cli::ServeArgs;
use super::{RuntimeToml, Span, Tunables};
use crate::backend::Pace;
use crate::task::Strategy;

/// A setting that may change.
pub(super) struct HotKey {
    /// Its name, as `runtime.toml` writes it.
    pub(super) name: &'static str,
    /// What a value must be.
    pub(super) expects: &'static str,
    /// Writes a value over the flag's; `false` if it cannot be read.
    pub(super) set: fn(&mut ServeArgs, &str) -> bool,
    /// Whether a flag or the environment gives it.
    pub(super) in_flags: fn(&ServeArgs) -> bool,
    /// Whether the model's file gives it.
    pub(super) in_file: fn(&RuntimeToml) -> bool,
    /// What it is now.
    pub(super) value: fn(&InForce<'_>) -> Value,
}

/// What the settings have come to with the model that is served: where neither flag nor file says, the model or the device decides.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'a> {
    /// The flags, overrides included.
    pub args: &'a ServeArgs,
    /// The merged settings.
    pub tunables: &'a Tunables,
    /// Texts are truncated to so many tokens; a model of plain tensors has none.
    pub max_seq_length: Option<usize>,
    /// How many model threads each device has.
    pub instances: usize,
    /// How fast the model is, which decides on some defaults.
    pub pace: Pace,
}

const COUNT: &str = "a number from 1 on";
const DURATION: &str = "a duration such as \"500ms\", \"9s\" or \"1m\"";

/// All of them, in the order in which they are shown.
pub(super) const HOT: [HotKey; 14] = [
    HotKey {
        name: "model_path",
        expects: "the path of a model directory",
        set: |args, text| {
            args.model.model = PathBuf::from(text);
            !text.is_empty()
        },
        in_flags: |_| true,
        in_file: |_| false,
        value: |now| json!(now.args.model.model),
    },
    HotKey {
        name: "device",
        expects: "\"auto\", \"cpu\", \"cuda\", \"cuda:N\", several as \"cuda:0,cuda:1\", or \"cuda:all\"",
        set: |args, text| put(&mut args.model.device, text),
        in_flags: |args| args.model.device.is_some(),
        in_file: |file| file.device.is_some(),
        value: |now| json!(now.tunables.running.device.to_string()),
    },
    HotKey {
        name: "precision",
        expects: "\"auto\", \"fp32\", \"bf16\" or \"fp16\"",
        set: |args, text| put(&mut args.model.precision, text),
        in_flags: |args| args.model.precision.is_some(),
        in_file: |file| file.precision.is_some(),
        value: |now| json!(now.tunables.running.precision.to_string()),
    },
    HotKey {
        name: "instances",
        expects: COUNT,
        set: |args, text| put(&mut args.instances, text),
        in_flags: |args| args.instances.is_some(),
        in_file: |file| file.instances.is_some(),
        value: |now| json!(now.instances),
    },
    HotKey {
        name: "threads",
        expects: COUNT,
        set: |args, text| put(&mut args.model.threads, text),
        in_flags: |args| args.model.threads.is_some(),
        in_file: |file| file.threads.is_some(),
        value: |now| json!(now.tunables.running.threads),
    },
    HotKey {
        name: "max_seq_length",
        expects: COUNT,
        set: |args, text| put(&mut args.model.max_seq_length, text),
        in_flags: |args| args.model.max_seq_length.is_some(),
        in_file: |file| file.max_seq_length.is_some(),
        value: |now| json!(now.max_seq_length),
    },
    HotKey {
        name: "aggregation",
        expects: "\"none\", \"simple\", \"first\", \"average\" or \"max\"",
        set: |args, text| {
            args.model.aggregation = Strategy::from_name(text);
            args.model.aggregation.is_some()
        },
        in_flags: |args| args.model.aggregation.is_some(),
        in_file: |file| file.aggregation.is_some(),
        value: |now| json!(now.tunables.running.aggregation),
    },
    HotKey {
        name: "max_batch_size",
        expects: COUNT,
        set: |args, text| put(&mut args.max_batch_size, text),
        in_flags: |args| args.max_batch_size.is_some(),
        in_file: |file| file.max_batch_size.is_some(),
        value: |now| json!(now.tunables.batching.limits(now.pace).max_size),
    },
    HotKey {
        name: "max_batch_tokens",
        expects: COUNT,
        set: |args, text| put(&mut args.max_batch_tokens, text),
        in_flags: |args| args.max_batch_tokens.is_some(),
        in_file: |file| file.max_batch_tokens.is_some(),
        value: |now| json!(now.tunables.batching.limits(now.pace).max_padded_tokens),
    },
    HotKey {
        name: "max_batch_padding",
        expects: "a number from 0 on",
        set: |args, text| put(&mut args.max_batch_padding, text),
        in_flags: |args| args.max_batch_padding.is_some(),
        in_file: |file| file.max_batch_padding.is_some(),
        value: |now| json!(now.tunables.batching.limits(now.pace).max_padding),
    },
    HotKey {
        name: "max_batch_delay",
        expects: DURATION,
        set: |args, text| put(&mut args.max_batch_delay, text),
        in_flags: |args| args.max_batch_delay.is_some(),
        in_file: |file| file.max_batch_delay.is_some(),
        value: |now| json!(Span(now.tunables.batching.limits(now.pace).max_delay).to_string()),
    },
    HotKey {
        name: "max_queue",
        expects: COUNT,
        set: |args, text| put(&mut args.max_queue, text),
        in_flags: |args| args.max_queue.is_some(),
        in_file: |file| file.max_queue.is_some(),
        value: |now| json!(now.tunables.max_queue),
    },
    HotKey {
        name: "request_timeout",
        expects: DURATION,
        set: |args, text| put(&mut args.request_timeout, text),
        in_flags: |args| args.request_timeout.is_some(),
        in_file: |file| file.request_timeout.is_some(),
        value: |now| json!(Span(now.tunables.request_timeout).to_string()),
    },
    HotKey {
        name: "body_limit",
        expects: "a number of bytes, or a size such as \"2MiB\"",
        set: |args, text| put(&mut args.body_limit, text),
        in_flags: |args| args.body_limit.is_some(),
        in_file: |file| file.body_limit.is_some(),
        value: |now| json!(now.tunables.body_limit),
    },
];

/// Those that may not change, and what to do instead.
pub(super) const FIXED: [(&[&str], &str); 2] = [
    (
        &[
            "listen",
            "read_timeout",
            "max_connections",
            "api_key_file",
            "shutdown_timeout",
            "admin_socket",
            "log_format",
            "log_level",
        ],
        "is settled when the server starts: restart it with the flag or variable of that name",
    ),
    (
        &[
            "task",
            "inputs",
            "input_tensors",
            "output_tensors",
            "batched",
            "examples",
            "function_to_apply",
            "pooling",
            "normalize",
            "model",
        ],
        "belongs to the model: write it into the runtime.toml of a model directory, and give that directory as model_path",
    ),
];

fn put<T: FromStr>(place: &mut Option<T>, text: &str) -> bool {
    *place = text.parse().ok();
    place.is_some()
}

#[cfg(test)]
mod tests {
    use super::super::cli::Cli;
    use super::*;
    use clap::CommandFactory as _;

    fn is_decided(name: &str) -> bool {
        HOT.iter().any(|key| key.name == name) || FIXED.iter().any(|(names, _)| names.contains(&name))
    }

    #[test]
    fn of_every_flag_it_is_decided_whether_it_may_change() {
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap();
        for flag in serve.get_arguments().filter_map(|argument| argument.get_long()) {
            let name = if flag == "model" { "model_path".to_owned() } else { flag.replace('-', "_") };
            assert!(is_decided(&name), "put `{name}` into HOT or FIXED");
        }
    }

    #[test]
    fn of_every_key_of_runtime_toml_it_is_decided_whether_it_may_change() {
        let error = RuntimeToml::parse("no_such_key = 1").unwrap_err();
        let known = error.split_once("expected one of").expect("serde lists the known keys").1;
        let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        assert!(names.len() > 15, "{known}");
        for name in names {
            assert!(is_decided(name), "put `{name}` into HOT or FIXED");
        }
    }
}
