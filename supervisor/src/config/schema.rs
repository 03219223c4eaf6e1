//! The JSON Schema of the TOML file, made from the table of settings.
//!
//! It says what the file's reader takes. What only several values together can be wrong about, and what depends on the host, is left to
//! `supervisor config check`.

use serde_json::{Map, Value, json};

use super::keys::{KEYS, Key, Kind, Shape};

/// The units of a duration as the reader knows them (humantime's documentation).
const UNITS: &str = "nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|\
    hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y";

/// The schema (draft 2020-12).
pub fn of_file() -> Value {
    let mut properties = Map::new();
    for key in KEYS {
        let Some((section, name)) = key.path.split_once('.') else {
            properties.insert(key.path.to_owned(), of_key(key));
            continue;
        };
        let section = properties
            .entry(section)
            .or_insert_with(|| json!({ "type": "object", "additionalProperties": false, "properties": {} }));
        if let Some(Value::Object(inner)) = section.get_mut("properties") {
            inner.insert(name.to_owned(), of_key(key));
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of supervisor run",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn of_key(key: &Key) -> Value {
    let word = of_word(key);
    let mut schema = match key.kind {
        Kind::One => word,
        Kind::List => json!({ "type": "array", "items": word }),
        Kind::Map => json!({ "type": "object", "additionalProperties": word }),
    };
    if let Value::Object(schema) = &mut schema {
        let help = format!("{}. {}; takes effect: {}.", key.help, key.variable(), key.applies.name());
        schema.insert("description".to_owned(), json!(help));
        schema.extend(key.default.map(|default| ("default".to_owned(), typed(key, default))));
    }
    schema
}

/// A single word. Numbers may stand in quotes, and so be strings.
fn of_word(key: &Key) -> Value {
    let besides = key.word.map(|word| format!("|{word}")).unwrap_or_default();
    match key.shape() {
        Shape::Text => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Switch => json!({ "enum": [true, false, "true", "false"] }),
        Shape::Choice(words) => json!({ "type": "string", "enum": words }),
        Shape::Duration => {
            json!({ "type": "string", "pattern": format!("^(([0-9]+ ?({UNITS}) ?)+{besides})$") })
        }
        Shape::Number(least, most) => json!({
            "type": ["integer", "string"],
            "minimum": least,
            "maximum": most,
            "pattern": format!("^([0-9]+{besides})$"),
        }),
    }
}

/// A default as the file would have it.
fn typed(key: &Key, default: &str) -> Value {
    let word = |word: &str| match (key.shape(), word.parse::<u32>()) {
        (Shape::Number(..), Ok(number)) => json!(number),
        (Shape::Switch, _) => json!(word == "true"),
        _ => json!(word),
    };
    match key.kind {
        Kind::One => word(default),
        Kind::List | Kind::Map => default.split(',').map(word).collect(),
    }
}
