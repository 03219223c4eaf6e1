//! Where values come from: flag, environment, file, default, in that order.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::keys::{self, KEYS, Key, Kind};
use super::problem::Problem;

/// Where a value was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This flag (without dashes).
    Flag(&'static str),
    /// This environment variable.
    Variable(String),
    /// This file and line.
    File(PathBuf, usize),
    /// Nowhere: the default.
    Default,
    /// The words after `--`.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// A value as it was written, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The words: one for [`Kind::One`], any number for a list, `name=value` for a map.
    pub words: Vec<String>,
    /// Where they stand.
    pub place: Place,
}

/// All values that were given, strongest source first.
#[derive(Debug, Default)]
pub struct Sources {
    values: BTreeMap<&'static str, Vec<Raw>>,
}

impl Sources {
    /// Adds the flags: path and words of each that was given.
    pub fn add_flags(&mut self, flags: impl IntoIterator<Item = (&'static Key, Vec<String>)>) {
        for (key, words) in flags {
            let words = if key.kind == Kind::One { words } else { split(&words) };
            self.add(key, words, Place::Flag(key.flag));
        }
    }

    /// Adds every `SUPERVISOR_…` variable; unknown ones are problems, since a misspelt setting that is silently ignored is
    /// worse than none. `CONSUL_HTTP_ADDR` means what it means to Consul.
    pub fn add_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
        problems: &mut Vec<Problem>,
    ) {
        let mut consul_address = None;
        for (name, value) in variables {
            if name == "CONSUL_HTTP_ADDR" {
                consul_address = Some(value);
            } else if name.starts_with("SUPERVISOR_") && name != "SUPERVISOR_CONFIG" {
                match KEYS.iter().find(|key| key.variable() == name) {
                    Some(key) if key.kind == Kind::One => self.add(key, vec![value], Place::Variable(name)),
                    Some(key) => self.add(key, split(&[value]), Place::Variable(name)),
                    None => problems.push(Problem::unknown(
                        &name,
                        Place::Variable(name.clone()),
                        closest_variable(&name),
                    )),
                }
            }
        }
        if let (Some(value), Some(key)) = (consul_address, keys::find("agent.http-addr")) {
            self.add(key, vec![value], Place::Variable("CONSUL_HTTP_ADDR".to_owned()));
        }
    }

    /// Adds a TOML file.
    pub fn add_file(&mut self, path: &Path, problems: &mut Vec<Problem>) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let value = path.display().to_string();
                return problems.push(Problem::new(
                    "config",
                    &value,
                    Place::Flag("config"),
                    &format!("a readable TOML file ({error})"),
                ));
            }
        };
        super::file::read(&text, path, problems, |key, words, line| {
            self.add(key, words, Place::File(path.to_owned(), line));
        });
    }

    /// An empty value counts as not given: that is how environments are cleared.
    fn add(&mut self, key: &'static Key, words: Vec<String>, place: Place) {
        if words.iter().all(String::is_empty) {
            return;
        }
        self.values.entry(key.path).or_default().push(Raw { words, place });
    }

    /// The strongest value of a key, its default included.
    pub fn get(&self, key: &Key) -> Option<Raw> {
        let given = self.values.get(key.path).and_then(|values| values.first()).cloned();
        given.or_else(|| {
            key.default.map(|default| Raw { words: vec![default.to_owned()], place: Place::Default })
        })
    }
}

/// Comma-separated words, without empty ones.
fn split(values: &[String]) -> Vec<String> {
    values
        .iter()
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

fn closest_variable(name: &str) -> Option<String> {
    super::problem::closest(name, KEYS.iter().map(Key::variable))
}
