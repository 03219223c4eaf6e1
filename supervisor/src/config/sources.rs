//! Where values come from: flag, environment, file, default, in that order.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::environment::Variables;
use super::keys::{self, KEYS, Key, Kind, Shape};
use super::problem::Problem;

/// The variable that stands for `--config`.
pub(super) const CONFIG_VARIABLE: &str = "SUPERVISOR_CONFIG";

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
    /// What was found out at the start, and holds until the end.
    AtStart,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
            Self::CommandLine => f.write_str("command line"),
            Self::AtStart => f.write_str("found at the start"),
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
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub(super) values: BTreeMap<&'static str, Vec<Raw>>,
    warnings: Vec<String>,
}

impl Sources {
    /// Adds the flags: path and words of each that was given.
    pub fn add_flags(&mut self, flags: impl IntoIterator<Item = (&'static Key, Vec<String>)>) {
        for (key, words) in flags {
            let words = if key.kind == Kind::One { words } else { split(&words) };
            self.add(key, words, Place::Flag(key.flag));
        }
    }

    /// Adds the words after `--`, which stand for `worker.command` whatever else says so. The words themselves may be no UTF-8; these here are for
    /// showing and comparing.
    pub fn add_command(&mut self, words: &[OsString]) {
        if let (false, Some(key)) = (words.is_empty(), keys::find("worker.command")) {
            let words = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            self.values.entry(key.path).or_default().insert(0, Raw { words, place: Place::CommandLine });
        }
    }

    /// Adds every `SUPERVISOR_…` variable that is ours (see `environment.rs`); unknown ones are problems.
    /// Those of Consul mean what they mean to Consul.
    pub fn add_environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        problems: &mut Vec<Problem>,
    ) {
        let of_consul =
            |name: &OsString| KEYS.iter().find(|key| key.of_consul.is_some_and(|variable| name == variable));
        let (of_consul, others): (Vec<_>, Vec<_>) = variables
            .into_iter()
            .map(|(name, value)| (of_consul(&name), name, value))
            .partition(|(key, ..)| key.is_some());
        let others = others.into_iter().map(|(_, name, value)| (name, value));
        let sorted = Variables::of(others);
        if !sorted.of_services.is_empty() {
            self.warnings.push(format!(
                "ignored, since they describe a Service of Kubernetes and no setting of ours: {}; \
                 enableServiceLinks: false in the Pod keeps them away",
                sorted.of_services.join(", ")
            ));
        }
        for (name, value) in sorted.ours {
            match KEYS.iter().find(|key| key.is_variable(&name)) {
                Some(key) => self.add_variable(key, name, value, problems),
                None if name == CONFIG_VARIABLE => {}
                None => {
                    let closest = closest_variable(&name);
                    problems.push(Problem::unknown(&name, Place::Variable(name.clone()), closest));
                }
            }
        }
        for (key, name, value) in of_consul {
            if let (Some(key), Ok(name)) = (key, name.into_string()) {
                let value = if key.shape() == Shape::Switch { switch(value) } else { value };
                self.add_variable(key, name, value, problems);
            }
        }
    }

    fn add_variable(
        &mut self,
        key: &'static Key,
        name: String,
        value: OsString,
        problems: &mut Vec<Problem>,
    ) {
        let place = Place::Variable(name);
        let twice = self.values.get(key.path).into_iter().flatten().find_map(|raw| match &raw.place {
            // Consul's own is weaker than ours, and no contradiction.
            Place::Variable(other) if other.starts_with("SUPERVISOR_") => Some(other.clone()),
            _ => None,
        });
        match value.into_string() {
            Err(value) => {
                problems.push(Problem::new(key.path, &value.to_string_lossy(), place, "a value in UTF-8"));
            }
            Ok(value) => match (twice, &place) {
                (Some(other), Place::Variable(name))
                    if name.starts_with("SUPERVISOR_") && !value.is_empty() =>
                {
                    let expected = format!("one of the two names; {other} is set, too");
                    problems.push(Problem::new(key.path, &value, place, &expected));
                }
                _ if key.kind == Kind::One => self.add(key, vec![value], place),
                _ => self.add(key, split(&[value]), place),
            },
        }
    }

    /// Adds a TOML file that was named at `place`.
    pub fn add_file(&mut self, path: &Path, place: Place, problems: &mut Vec<Problem>) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let value = path.display().to_string();
                let expected = format!("a readable TOML file ({error})");
                return problems.push(Problem::new("config", &value, place, &expected));
            }
        };
        super::file::read(&text, path, problems, |key, words, line| {
            self.add(key, words, Place::File(path.to_owned(), line));
        });
    }

    /// What was found and not taken, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
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

/// One of Consul's booleans (Go's strconv.ParseBool) in our words. What is none stays as it is, and is refused as every wrong word is.
fn switch(value: OsString) -> OsString {
    match value.to_str() {
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => "true".into(),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => "false".into(),
        _ => value,
    }
}

fn closest_variable(name: &str) -> Option<String> {
    super::problem::closest(name, KEYS.iter().map(Key::variable))
}
