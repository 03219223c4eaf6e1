//! From words to typed values, collecting what is wrong on the way.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{self, Key, Shape};
use super::problem::Problem;
use super::sources::{Place, Raw, Sources};

/// Typed access to the sources. A value that is wrong is noted and replaced by a harmless one, so that all problems come to
/// light at once; with any problem noted nothing is started.
#[derive(Debug)]
pub(super) struct Values<'a> {
    sources: &'a Sources,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl<'a> Values<'a> {
    pub(super) fn new(sources: &'a Sources, problems: &'a mut Vec<Problem>) -> Self {
        Self { sources, problems }
    }

    /// The words of a key and where they stand.
    pub(super) fn raw(&self, path: &str) -> Option<Raw> {
        let key = keys::find(path);
        debug_assert!(key.is_some(), "{path} is not in the table of keys");
        self.sources.get(key?)
    }

    /// Where a key's value stands.
    pub(super) fn place(&self, path: &str) -> Place {
        self.raw(path).map_or(Place::Default, |raw| raw.place)
    }

    /// A single word, if there is one.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.raw(path)?.words.into_iter().next_back()
    }

    /// All words.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        self.raw(path).map(|raw| raw.words).unwrap_or_default()
    }

    /// A file or folder.
    pub(super) fn path(&self, path: &str) -> Option<PathBuf> {
        self.text(path).map(PathBuf::from)
    }

    /// Notes that a key's value is wrong.
    pub(super) fn wrong(&mut self, path: &str, expected: &str) {
        let value = self.list(path).join(",");
        let place = self.place(path);
        self.problems.push(Problem::new(path, &value, place, expected));
    }

    /// A value by its own parser.
    pub(super) fn parse<T: Default, E: Display>(
        &mut self,
        path: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        let Some(text) = self.text(path) else { return T::default() };
        match parse(&text) {
            Ok(value) => value,
            Err(_) => {
                self.wrong(path, expected);
                T::default()
            }
        }
    }

    /// Whether the table says the same of a key as the code that reads it. The JSON Schema and the documentation are made from the table.
    fn is_in_table(path: &str, shape: Shape, word: Option<&str>) -> bool {
        keys::find(path).is_some_and(|key| key.shape() == shape && key.word == word)
    }

    /// A duration, such as `500ms` or `1m 30s`.
    pub(super) fn duration(&mut self, path: &str) -> Duration {
        debug_assert!(Self::is_in_table(path, Shape::Duration, None), "{path} is a DURATION");
        self.parse(
            path,
            "a duration with its unit, such as 500ms, 9s or 1m, of at most a year",
            parse_duration,
        )
    }

    /// A duration that is not zero.
    pub(super) fn positive_duration(&mut self, path: &str) -> Duration {
        let duration = self.duration(path);
        if duration.is_zero() && !self.problems.iter().any(|problem| problem.key == path) {
            self.wrong(path, "a duration greater than zero");
        }
        duration
    }

    /// A duration, or a word that stands for none.
    pub(super) fn optional_duration(&mut self, path: &str, none: &str) -> Option<Duration> {
        debug_assert!(
            Self::is_in_table(path, Shape::Duration, Some(none)),
            "{path} is a DURATION .or_word({none:?})"
        );
        if self.text(path).as_deref() == Some(none) {
            return None;
        }
        let expected = format!("a duration greater than zero, such as 30s, or {none}");
        Some(self.parse(path, &expected, |text| {
            parse_duration(text).and_then(|d| if d.is_zero() { Err("zero") } else { Ok(d) })
        }))
    }

    /// A whole number in a range.
    pub(super) fn number(&mut self, path: &str, least: u32, most: u32) -> u32 {
        let shape = keys::find(path).map(Key::shape);
        debug_assert!(shape == Some(Shape::Number(least, most)), "{path} is an N .range({least}, {most})");
        let expected = format!("a whole number from {least} to {most}");
        self.parse(path, &expected, |text| match text.parse::<u32>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err("out of range"),
        })
    }

    /// Whether something is on.
    pub(super) fn switch(&mut self, path: &str) -> bool {
        debug_assert!(Self::is_in_table(path, Shape::Switch, None), "{path} is a BOOL");
        self.parse(path, "true or false", str::parse)
    }

    /// A port; never 0.
    pub(super) fn port(&mut self, path: &str) -> u16 {
        u16::try_from(self.number(path, 1, u32::from(u16::MAX))).unwrap_or_default()
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&mut self, path: &str, choices: &[(&str, T)]) -> Option<T> {
        debug_assert!(
            keys::find(path).is_some_and(|key| key.choices.iter().eq(choices.iter().map(|(word, _)| word))),
            "{path} needs .choices() with the words of the code, in their order"
        );
        let text = self.text(path)?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(path, &format!("one of: {}", words.join(", ")));
        }
        chosen
    }
}

/// Longer ones are slips, and sums of them would overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A duration of at most a year.
///
/// # Errors
/// It is none, or longer.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or("a duration has a unit, such as 500ms, 9s or 1m, and is at most a year")
}
