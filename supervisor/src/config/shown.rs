//! Every setting with its value and where that comes from, for `supervisor config show`.

use std::ffi::OsString;
use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::keys::{KEYS, Kind};
use super::sources::{Place, Sources};

/// Consul's variables whose values are secrets.
pub(super) const SECRETS: [&str; 2] = ["CONSUL_HTTP_TOKEN", "CONSUL_HTTP_AUTH"];

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The setting.
    pub key: &'static str,
    /// The words of its value; `None` where it has none.
    pub value: Option<Vec<String>>,
    /// Whether it has one value, and no list or table.
    pub single: bool,
    /// Where it was found; `None` where it was not.
    pub place: Option<Place>,
}

/// All settings, in the order of the table, and then whether the secrets are there.
pub fn all(sources: &Sources, variable: impl Fn(&str) -> Option<OsString>) -> Vec<Shown> {
    let mut all: Vec<Shown> = KEYS
        .iter()
        .map(|key| {
            let (value, place) = sources.get(key).map(|raw| (raw.words, raw.place)).unzip();
            Shown { key: key.path, value, single: key.kind == Kind::One, place }
        })
        .collect();
    for name in SECRETS {
        if variable(name).is_some_and(|value| !value.is_empty()) {
            let (value, place) = (Some(vec!["(set)".to_owned()]), Some(Place::Variable(name.to_owned())));
            all.push(Shown { key: name, value, single: true, place });
        }
    }
    all
}

/// Three aligned columns. Defaults are dim where `colour` is for a terminal.
pub fn text(all: &[Shown], colour: bool) -> String {
    // Longer values push their place to the right: one long path must not spread the others.
    const VALUE_MAX: usize = 32;
    let value = |shown: &Shown| shown.value.as_ref().map_or("-".to_owned(), |words| words.join(", "));
    let width = |of: &dyn Fn(&Shown) -> usize| all.iter().map(of).max().unwrap_or_default();
    let keys = width(&|shown| shown.key.chars().count());
    let values = width(&|shown| value(shown).chars().count()).min(VALUE_MAX);
    let mut text = String::new();
    for shown in all {
        let place = match &shown.place {
            Some(place) => place.to_string(),
            None => "not set".to_owned(),
        };
        let line = format!("{:keys$}  {:values$}  {place}", shown.key, value(shown));
        let given = !matches!(shown.place, None | Some(Place::Default));
        let _infallible =
            if given || !colour { writeln!(text, "{line}") } else { writeln!(text, "\x1b[2m{line}\x1b[0m") };
    }
    text
}

/// An object of `value` and `from` by key; a list's or a table's value is an array of words.
pub fn json(all: &[Shown]) -> Value {
    let entry = |shown: &Shown| {
        let value = match &shown.value {
            Some(words) if shown.single => json!(words.last()),
            other => json!(other),
        };
        let place = shown.place.as_ref().map(ToString::to_string);
        (shown.key.to_owned(), json!({ "value": value, "from": place }))
    };
    Value::Object(all.iter().map(entry).collect::<Map<_, _>>())
}
