//! A set of overrides: read as a whole or refused as a whole, compared with what is in force.
//!
//! The set is *all* overrides there are. A key that is not in it has its value of the start again: flag, else environment, else the model's
//! `runtime.toml`, else the default. Pure; whether a model can be loaded is another matter (`hot_change`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cli::ServeArgs;
use super::hot_keys::{FIXED, HOT, HotKey, InForce};
use super::{Problem, RuntimeToml};

/// More keys than there are settings are nobody's set; each would be answered with a sentence.
const MOST_KEYS: usize = 32;
/// In bytes: the longest path that Linux takes (PATH_MAX). Answers quote what is wrong, and an answer is a line of 64 KiB.
const LONGEST: usize = 4096;
const LONGEST_NAME: usize = 64;

/// The flags of the start with a set of overrides written over them.
#[derive(Debug, Clone)]
pub struct Overridden {
    /// The flags as they are now.
    pub args: ServeArgs,
    keys: BTreeSet<&'static str>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A set of overrides.
    #[serde(rename = "override")]
    Override,
    /// A flag, or the variable of its name.
    #[serde(rename = "flag")]
    Flag,
    /// The model's `runtime.toml`.
    #[serde(rename = "runtime.toml")]
    File,
    /// Nobody said anything: a constant, or the model's or the device's own.
    #[serde(rename = "default")]
    Default,
}

impl Source {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Flag => "flag",
            Self::File => "runtime.toml",
            Self::Default => "default",
        }
    }
}

/// A setting as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its value, as an override may be written.
    pub value: Value,
    /// Where the value comes from.
    pub source: Source,
}

/// A setting that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub key: String,
    /// What it was.
    pub old: Value,
    /// What it is now.
    pub new: Value,
}

impl Overridden {
    /// No override.
    pub fn nothing(start: ServeArgs) -> Self {
        Self { args: start, keys: BTreeSet::new() }
    }

    /// Reads a set: numbers, or texts as a flag takes them, by the keys of `runtime.toml` and `model_path`.
    ///
    /// # Errors
    /// Every key that is unknown, fixed, or has a value that cannot be read.
    pub fn by(start: &ServeArgs, set: &Map<String, Value>) -> Result<Self, Vec<Problem>> {
        if set.len() > MOST_KEYS {
            let problem = format!("the set has {} keys; those that may change are {}", set.len(), names());
            return Err(vec![Problem { key: "settings".to_owned(), problem }]);
        }
        let mut this = Self::nothing(start.clone());
        let mut problems = Vec::new();
        for (key, value) in set {
            if let Err(problem) = this.set(key, value) {
                problems.push(Problem { key: key.chars().take(LONGEST_NAME).collect(), problem });
            }
        }
        if problems.is_empty() { Ok(this) } else { Err(problems) }
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let key = HOT.iter().find(|key| key.name == name).ok_or_else(|| not_hot(name))?;
        let text = match value {
            Value::String(text) if text.len() > LONGEST => {
                return Err(format!("{name} has {} bytes; a value has {LONGEST} at most", text.len()));
            }
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null => {
                return Err(format!(
                    "{name} is null; leave the key out to have its value of the start again"
                ));
            }
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        if text.is_some_and(|text| (key.set)(&mut self.args, text.trim())) {
            self.keys.insert(key.name);
            Ok(())
        } else {
            let shown: String = value.to_string().chars().take(LONGEST_NAME).collect();
            Err(format!("{name} is {shown}; it must be {}", key.expects))
        }
    }

    fn source(&self, key: &HotKey, file: &RuntimeToml) -> Source {
        if self.keys.contains(key.name) {
            Source::Override
        } else if (key.in_flags)(&self.args) {
            Source::Flag
        } else if (key.in_file)(file) {
            Source::File
        } else {
            Source::Default
        }
    }
}

fn not_hot(name: &str) -> String {
    if let Some((_, reason)) = FIXED.iter().find(|(names, _)| names.contains(&name)) {
        return format!("{name} {reason}");
    }
    let name: String = name.chars().take(LONGEST_NAME).collect();
    format!("{name} is not a setting; those that may change are {}", names())
}

fn names() -> String {
    let names: Vec<&str> = HOT.iter().map(|key| key.name).collect();
    names.join(", ")
}

/// Every setting that may change, by its name.
pub fn settings(now: &InForce<'_>, overridden: &Overridden, file: &RuntimeToml) -> BTreeMap<String, Setting> {
    let shown = |key: &HotKey| {
        let setting = Setting { value: (key.value)(now), source: overridden.source(key, file) };
        (key.name.to_owned(), setting)
    };
    HOT.iter().map(shown).collect()
}

/// What is different.
pub fn changes(before: &InForce<'_>, after: &InForce<'_>) -> Vec<Change> {
    let change = |key: &HotKey| {
        let (old, new) = ((key.value)(before), (key.value)(after));
        (old != new).then(|| Change { key: key.name.to_owned(), old, new })
    };
    HOT.iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Tunables;
    use super::*;
    use crate::backend::Pace;
    use serde_json::json;

    fn set(set: &Value) -> Result<Overridden, Vec<Problem>> {
        Overridden::by(&ServeArgs::from_flags(&["--max-queue", "7"]), set.as_object().unwrap())
    }

    /// The settings of a model with this file, on a CPU with two cores.
    fn shown(overridden: &Overridden, file: &str) -> BTreeMap<String, Setting> {
        let file = RuntimeToml::parse(file).unwrap();
        let tunables = Tunables::merge(&overridden.args, &file).unwrap();
        settings(&in_force(overridden, &tunables), overridden, &file)
    }

    fn in_force<'a>(overridden: &'a Overridden, tunables: &'a Tunables) -> InForce<'a> {
        let instances = tunables.batching.instances(false, 2);
        let max_seq_length = Some(tunables.running.max_seq_length.unwrap_or(512));
        InForce { args: &overridden.args, tunables, max_seq_length, instances, pace: Pace::Cpu }
    }

    fn one(settings: &BTreeMap<String, Setting>, key: &str) -> (Value, Source) {
        (settings[key].value.clone(), settings[key].source)
    }

    #[test]
    fn an_override_beats_the_flag_and_a_key_left_out_is_as_at_the_start() {
        let file = "max_queue = 5\nmax_batch_size = 6";
        let with = shown(&set(&json!({"max_queue": 9, "max_batch_size": 9})).unwrap(), file);
        assert_eq!(one(&with, "max_queue"), (json!(9), Source::Override));
        assert_eq!(one(&with, "max_batch_size"), (json!(9), Source::Override));
        let without = shown(&set(&json!({})).unwrap(), file);
        assert_eq!(one(&without, "max_queue"), (json!(7), Source::Flag));
        assert_eq!(one(&without, "max_batch_size"), (json!(6), Source::File));
        assert_eq!(one(&without, "max_batch_tokens"), (json!(256), Source::Default));
        assert_eq!(one(&without, "model_path"), (json!("m"), Source::Flag));
    }

    #[test]
    fn a_value_is_a_number_or_the_same_as_text_since_consul_knows_only_texts() {
        for written in
            [json!({"max_queue": 9, "body_limit": 4096}), json!({"max_queue": "9", "body_limit": " 4KiB\n"})]
        {
            let found = shown(&set(&written).unwrap(), "");
            assert_eq!(one(&found, "max_queue").0, json!(9));
            assert_eq!(one(&found, "body_limit").0, json!(4096));
        }
    }

    #[test]
    fn what_is_shown_can_be_applied_again_and_changes_nothing() {
        let written = json!({
            "model_path": "/models/a", "device": "cpu", "precision": "bf16", "instances": 3, "threads": 2, "max_seq_length": 100, "aggregation": "max",
            "max_batch_size": 4, "max_batch_tokens": 99, "max_batch_padding": 0, "max_batch_delay": "2ms", "max_queue": 9,
            "request_timeout": "1m", "body_limit": 4096,
        });
        let first = set(&written).unwrap();
        let found = shown(&first, "");
        assert_eq!(found.len(), HOT.len());
        assert!(found.values().all(|setting| setting.source == Source::Override), "{found:?}");
        let again: Map<String, Value> =
            found.into_iter().map(|(key, setting)| (key, setting.value)).collect();
        assert_eq!(Value::Object(again.clone()), written);
        let second = set(&Value::Object(again)).unwrap();
        let merge =
            |overridden: &Overridden| Tunables::merge(&overridden.args, &RuntimeToml::default()).unwrap();
        let (before, after) = (merge(&first), merge(&second));
        assert_eq!(changes(&in_force(&first, &before), &in_force(&second, &after)), []);
    }

    #[test]
    fn changes_say_what_was_and_what_is() {
        let (first, second) = (set(&json!({})).unwrap(), set(&json!({"max_batch_delay": "5ms"})).unwrap());
        let merge =
            |overridden: &Overridden| Tunables::merge(&overridden.args, &RuntimeToml::default()).unwrap();
        let (before, after) = (merge(&first), merge(&second));
        let expected = Change { key: "max_batch_delay".to_owned(), old: json!("0s"), new: json!("5ms") };
        assert_eq!(changes(&in_force(&first, &before), &in_force(&second, &after)), [expected]);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_refused_with_what_it_must_be() {
        for (key, value, says) in [
            ("max_batch_size", json!(0), "a number from 1 on"),
            ("max_batch_size", json!(-1), "a number from 1 on"),
            ("max_batch_size", json!(1.5), "a number from 1 on"),
            ("instances", json!("many"), "a number from 1 on"),
            ("threads", json!([1]), "a number from 1 on"),
            ("max_seq_length", json!(true), "a number from 1 on"),
            ("max_batch_padding", json!("-1"), "a number from 0 on"),
            ("max_batch_tokens", json!({}), "a number from 1 on"),
            ("max_batch_delay", json!(5), "a duration"),
            ("request_timeout", json!("soon"), "a duration"),
            ("body_limit", json!("2 parsecs"), "a number of bytes"),
            ("device", json!("gpu"), "\"cuda:N\""),
            ("precision", json!("half"), "\"bf16\""),
            ("aggregation", json!("best"), "\"average\""),
            ("model_path", json!(""), "a model directory"),
            ("max_queue", json!(null), "leave the key out"),
        ] {
            let problems = set(&json!({key: value})).unwrap_err();
            assert_eq!((problems.len(), problems[0].key.as_str()), (1, key));
            assert!(problems[0].problem.contains(says), "{problems:?}");
        }
    }

    #[test]
    fn the_reasons_are_short_whatever_the_set() {
        let many: Map<String, Value> = (0..1000).map(|key| (format!("key{key}"), json!(1))).collect();
        for set_of in
            [json!({"max_queue": "9".repeat(60_000)}), json!({"k".repeat(60_000): 1}), Value::Object(many)]
        {
            let problems = set(&set_of).unwrap_err();
            assert!(
                problems.len() == 1 && problems[0].key.len() + problems[0].problem.len() < 1000,
                "{problems:?}"
            );
        }
        let list = json!({"max_queue": vec![0; 10_000]});
        assert!(set(&list).unwrap_err()[0].problem.len() < 200);
    }

    #[test]
    fn unknown_fixed_and_wrong_keys_are_all_reported_at_once() {
        let problems =
            set(&json!({"listen": "[::]:1", "max_batch": 3, "pooling": "cls", "max_queue": 0})).unwrap_err();
        let of = |key: &str| &problems.iter().find(|problem| problem.key == key).unwrap().problem;
        assert_eq!(problems.len(), 4);
        assert!(of("listen").contains("restart"), "{}", of("listen"));
        assert!(of("max_batch").contains("max_batch_size"), "{}", of("max_batch"));
        assert!(of("pooling").contains("runtime.toml"), "{}", of("pooling"));
        assert!(of("max_queue").contains("from 1 on"));
    }
}
