//! The TOML file: its keys, its values, and the line of each.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{KEYS, Key, Kind};
use super::problem::{self, Problem};
use super::sources::Place;

/// Reads a file's text and hands each known key on with its words and its line. Whatever is wrong becomes a problem, and
/// the rest is read all the same.
pub(super) fn read(
    text: &str,
    path: &Path,
    problems: &mut Vec<Problem>,
    mut found: impl FnMut(&'static Key, Vec<String>, usize),
) {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        problems.push(Problem {
            key: "config".to_owned(),
            value: None,
            place: Place::File(path.to_owned(), line),
            expected: format!("valid TOML: {}", error.message()),
        });
    }
    let mut reader = Reader { text, path, problems, found: &mut found };
    for (name, value) in table.get_ref() {
        let name = name.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Table(section) if !KEYS.iter().any(|key| key.path == name) => {
                for (key, value) in section {
                    reader.value(&format!("{name}.{}", key.get_ref()), value);
                }
            }
            _ => reader.value(name, value),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    path: &'a Path,
    problems: &'a mut Vec<Problem>,
    found: &'a mut dyn FnMut(&'static Key, Vec<String>, usize),
}

impl Reader<'_> {
    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>) {
        let line = line_of(self.text, value.span().start);
        let place = Place::File(self.path.to_owned(), line);
        let Some(key) = KEYS.iter().find(|key| key.path == path) else {
            let closest = problem::closest(path, KEYS.iter().map(|key| key.path.to_owned()));
            return self.problems.push(Problem::unknown(path, place, closest));
        };
        let words = match (key.kind, value.get_ref()) {
            (Kind::List, DeValue::Array(items)) => items.iter().map(|item| scalar(item.get_ref())).collect(),
            (Kind::Map, DeValue::Table(table)) => table
                .iter()
                .map(|(name, value)| {
                    scalar(value.get_ref()).map(|value| format!("{}={value}", name.get_ref()))
                })
                .collect(),
            (Kind::One, value) => scalar(value).map(|word| vec![word]),
            (Kind::List | Kind::Map, _) => None,
        };
        match words {
            Some(words) => (self.found)(key, words, line),
            None => {
                let expected = match key.kind {
                    Kind::One => "a single value",
                    Kind::List => "an array of strings",
                    Kind::Map => "a table of strings",
                };
                let written = self.text.get(value.span()).unwrap_or_default();
                self.problems.push(Problem::new(path, written, place, expected));
            }
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, words and line.
    type Found = (&'static str, Vec<String>, usize);

    fn read_all(text: &str) -> (Vec<Found>, Vec<String>) {
        let (mut values, mut problems) = (Vec::new(), Vec::new());
        read(text, Path::new("p.toml"), &mut problems, |key, words, line| {
            values.push((key.path, words, line))
        });
        (values, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_shape_of_value_is_read_with_its_line() {
        let text = "stop-timeout = \"20s\"\n\n[service]\nport = 8001\ntags = [\"canary\", \"a\"]\nmeta = { team = \"nlp\" }\n";
        let (mut values, problems) = read_all(text);
        values.sort_by_key(|value| value.2);
        assert!(problems.is_empty(), "{problems:?}");
        let expected = [
            ("stop-timeout", vec!["20s".to_owned()], 1),
            ("service.port", vec!["8001".to_owned()], 4),
            ("service.tags", vec!["canary".to_owned(), "a".to_owned()], 5),
            ("service.meta", vec!["team=nlp".to_owned()], 6),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn all_problems_are_reported_at_once_and_the_rest_is_read() {
        let (values, problems) =
            read_all("stop-timout = 1\ndrain-window = [\"1s\"]\n[agent]\nbin = \"consul\"\nbroken =\n");
        assert_eq!(values.len(), 1, "{values:?}");
        let all = problems.join("\n");
        assert_eq!(problems.len(), 4, "{all}");
        assert!(all.contains("stop-timout (p.toml:1): no such setting; did you mean stop-timeout?"), "{all}");
        assert!(all.contains("drain-window = \"[\\\"1s\\\"]\" (p.toml:2): a single value"), "{all}");
        assert!(all.contains("(p.toml:5): valid TOML"), "{all}");
    }
}
