//! What is wrong with a configuration: key, value, place, and what was expected instead.

use std::fmt;

use super::sources::Place;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting.
    pub key: String,
    /// What was given; `None` where nothing was, or where it must not be shown.
    pub value: Option<String>,
    /// Where.
    pub place: Place,
    /// What would be right.
    pub expected: String,
}

impl Problem {
    /// A value that is not what was expected.
    pub fn new(key: &str, value: &str, place: Place, expected: &str) -> Self {
        Self { key: key.to_owned(), value: Some(value.to_owned()), place, expected: expected.to_owned() }
    }

    /// A value that is missing.
    pub fn missing(key: &str, expected: &str) -> Self {
        Self { key: key.to_owned(), value: None, place: Place::Default, expected: expected.to_owned() }
    }

    /// A key that does not exist.
    pub fn unknown(key: &str, place: Place, closest: Option<String>) -> Self {
        let expected = match closest {
            Some(closest) => format!("no such setting; did you mean {closest}?"),
            None => "no such setting; `supervisor run --help` lists them".to_owned(),
        };
        Self { key: key.to_owned(), value: None, place, expected }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        if self.place != Place::Default {
            write!(f, " ({})", self.place)?;
        }
        write!(f, ": {}", self.expected)
    }
}

/// The candidate that is most like `name`, if one is like it at all.
pub(super) fn closest(name: &str, candidates: impl IntoIterator<Item = String>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::levenshtein(name, &candidate), candidate))
        .min()
        .filter(|(distance, candidate)| distance * 3 <= candidate.len())
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_setting_and_nonsense_does_not() {
        let known = || ["stop-timeout", "drain-window", "agent.mode"].map(str::to_owned);
        assert_eq!(closest("stop-timout", known()).as_deref(), Some("stop-timeout"));
        assert_eq!(closest("agent.mod", known()).as_deref(), Some("agent.mode"));
        assert_eq!(closest("colour", known()), None);
    }

    #[test]
    fn a_problem_names_key_value_place_and_cure() {
        let problem = Problem::new("stop-timeout", "9", Place::Flag("stop-timeout"), "a duration such as 9s");
        assert_eq!(problem.to_string(), "stop-timeout = \"9\" (--stop-timeout): a duration such as 9s");
    }
}
