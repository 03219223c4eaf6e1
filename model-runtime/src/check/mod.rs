//! `check`: loads the model as `serve` would, runs it on example sentences, prints what it found.

mod examples;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use self::examples::{Example, Found, failed};
use crate::config::cli::{CheckArgs, LogFormat};
use crate::config::{Running, RuntimeToml};
use crate::exit::{Exit, Failure};
use crate::loading::{LoadedModel, Reader, load};
use crate::logging;
use crate::model::Description;
use crate::task::Task;

pub(crate) use examples::run_examples;

/// Checks a model directory and prints the findings on standard output.
pub fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let usage = |message: String| Failure { exit: Exit::Usage, message };
    logging::start(LogFormat::Text, "warn").map_err(usage)?;
    let file = RuntimeToml::read(&args.model.model).map_err(|error| Failure::new(Exit::Usage, error))?;
    let running = Running::merge(&args.model, &file);
    let unusable = |error| Failure::new(Exit::Model, error);
    let description = Description::read(&args.model.model, &file, &running).map_err(unusable)?;
    let began = Instant::now();
    let (model, backends) = load(description, &running).map_err(unusable)?;
    // Each device has run its trial; the examples are the same on all.
    let backend = backends.first().ok_or_else(|| failed("any")("there is no device".to_owned()))?;
    let examples = run_examples(&model, backend)?;
    let report = Report { model: &model, load_time: began.elapsed(), examples };
    match report.print(&mut io::stdout().lock()) {
        Ok(()) => Ok(Exit::Done),
        // The reader had enough (`check | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => Err(Failure::new(Exit::Internal, error)),
    }
}

struct Report<'a> {
    model: &'a LoadedModel,
    load_time: Duration,
    examples: Vec<Example>,
}

impl Report<'_> {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let description = &self.model.description;
        let card = &description.card;
        let shown: Vec<&str> = description.labels.iter().take(8).map(String::as_str).collect();
        let more = if description.labels.len() > shown.len() { ", …" } else { "" };
        let labels =
            (!shown.is_empty()).then(|| format!("{} ({}{more})", description.labels.len(), shown.join(", ")));
        let (how, value) = match description.task {
            Task::TokenClassification { aggregation } => ("aggregation", aggregation.as_str().to_owned()),
            Task::TextClassification { function } | Task::ImageClassification { function } => {
                ("function", function.as_str().to_owned())
            }
            Task::FeatureExtraction { pooling, normalize } => {
                let length = if normalize { ", normalised" } else { "" };
                let columns = self.model.columns.unwrap_or_default();
                ("pooling", format!("{}{length}, {columns} numbers", pooling.as_str()))
            }
            Task::Tensors => ("batched", description.form.takes_batches().to_string()),
        };
        let (max_length, vocabulary) = match &self.model.reader {
            Reader::Text(tokenizer) => (Some(tokenizer.max_length()), Some(tokenizer.vocabulary_size())),
            Reader::Image(_) | Reader::Tensors => (None, None),
        };
        let image_size = match &self.model.reader {
            Reader::Image(image) => Some(format!("{} x {} pixels", image.width(), image.height())),
            Reader::Text(_) | Reader::Tensors => None,
        };
        let tokens = |count: usize| format!("{count} tokens");
        let facts = [
            ("model", Some(description.name().to_owned())),
            ("version", card.version.clone()),
            ("license", card.license.clone()),
            ("attribution", card.attribution.clone()),
            ("directory", Some(description.dir.display().to_string())),
            ("task", Some(description.task.kind().as_str().to_owned())),
            ("labels", labels),
            ("inputs", Some(description.form.inputs().join(", "))),
            ("image size", image_size),
            ("max length", max_length.map(tokens)),
            ("vocabulary", vocabulary.map(tokens)),
            (how, Some(value)),
            ("device", Some(self.model.devices.to_string())),
            ("precision", Some(self.model.precision.to_string())),
            ("libtorch", Some(env!("PILOTLIGHT_TORCH_VERSION").to_owned())),
            ("loaded in", Some(format!("{:.2} s, warm-up included", self.load_time.as_secs_f64()))),
        ];
        for (name, value) in facts {
            if let Some(value) = value {
                writeln!(out, "{name:<12} {value}")?;
            }
        }
        for example in &self.examples {
            let milliseconds = example.time.as_secs_f64() * 1e3;
            writeln!(out, "\n{}  {milliseconds:.1} ms", example.title)?;
            example.found.print(out)?;
        }
        writeln!(
            out,
            "\nok: the model runs and {} of {} examples have {}",
            self.found(),
            self.examples.len(),
            self.what()
        )
    }

    fn found(&self) -> usize {
        let is_something = |found: &Found| match found {
            Found::Entities(entities) => !entities.is_empty(),
            Found::Labels(_) | Found::Features(_) | Found::Arrays(_) => true,
        };
        self.examples.iter().filter(|example| is_something(&example.found)).count()
    }

    fn what(&self) -> &'static str {
        match self.model.description.task {
            Task::TokenClassification { .. } => "entities",
            Task::TextClassification { .. } | Task::ImageClassification { .. } => "a label",
            Task::FeatureExtraction { .. } => "a vector",
            Task::Tensors => "outputs",
        }
    }
}
