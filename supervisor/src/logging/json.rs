//! The JSON form of the log: one object a line, with the fields that the children's lines have too (`timestamp`, `source`, `message`).

use std::fmt::{self, Debug};
use std::time::SystemTime;

use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Taken; an event's own field of such a name gets an underscore.
const OURS: [&str; 4] = ["timestamp", "level", "source", "message"];

/// The form.
#[derive(Debug)]
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        writer.write_str(&line(SystemTime::now(), *event.metadata().level(), &fields.message, &fields.others))
    }
}

/// One line, with its line feed.
pub(super) fn line(
    time: SystemTime,
    level: Level,
    message: &str,
    fields: &[(&'static str, Value)],
) -> String {
    let mut line = Vec::new();
    let mut json = serde_json::Serializer::new(&mut line);
    // Neither a Vec nor these values can fail to be written.
    let _never_fails = json.serialize_map(None).and_then(|mut map| {
        map.serialize_entry("timestamp", &humantime::format_rfc3339_micros(time).to_string())?;
        map.serialize_entry("level", level.as_str())?;
        map.serialize_entry("source", "supervisor")?;
        map.serialize_entry("message", message)?;
        for (name, value) in fields {
            if OURS.contains(name) {
                map.serialize_entry(&format!("{name}_"), value)?;
            } else {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    });
    line.push(b'\n');
    String::from_utf8_lossy(&line).into_owned()
}

/// An event's message and its other fields, in their order.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format!("{value:?}").into());
    }
}
