//! `check`: loads the model as `serve` would, runs it on example sentences, prints what it found.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::backend::{Backend as _, TorchScript};
use crate::config::cli::{CheckArgs, LogFormat};
use crate::config::{Running, RuntimeToml};
use crate::exit::{Exit, Failure};
use crate::loading::{LoadedModel, load};
use crate::logging;
use crate::model::Description;
use crate::task::Strategy;
use crate::task::token_classification::{Classifier, Entity};

/// For models that bring no examples of their own: names, places, numbers, several scripts.
const GENERIC_EXAMPLES: [&str; 3] = [
    "My name is Zoë Müller and I live in Berlin.",
    "Ada Lovelace wrote to Charles Babbage from London on 10 July 1843.",
    "東京の田中さんは 👩‍🚀 ada@example.org に手紙を書いた。",
];

/// Checks a model directory and prints the findings on standard output.
pub fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let usage = |message: String| Failure { exit: Exit::Usage, message };
    logging::start(LogFormat::Text, "warn").map_err(usage)?;
    let file = RuntimeToml::read(&args.model.model).map_err(|error| Failure::new(Exit::Usage, error))?;
    let running = Running::merge(&args.model, &file);
    let unusable = |error| Failure::new(Exit::Model, error);
    let description = Description::read(&args.model.model, &file, &running).map_err(unusable)?;
    let began = Instant::now();
    let (model, backend) = load(description, &running).map_err(unusable)?;
    let examples = run_examples(&model, &backend)?;
    let report = Report { model: &model, load_time: began.elapsed(), examples };
    match report.print(&mut io::stdout().lock()) {
        Ok(()) => Ok(Exit::Done),
        // The reader had enough (`check | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => Err(Failure::new(Exit::Internal, error)),
    }
}

struct Example {
    text: String,
    tokens: usize,
    time: Duration,
    entities: Vec<Entity>,
}

struct Report<'a> {
    model: &'a LoadedModel,
    load_time: Duration,
    examples: Vec<Example>,
}

fn run_examples(model: &LoadedModel, backend: &TorchScript) -> Result<Vec<Example>, Failure> {
    let own = &model.description.examples;
    let generic = || GENERIC_EXAMPLES.iter().map(|text| (*text).to_owned()).collect();
    let texts: Vec<String> = if own.is_empty() { generic() } else { own.clone() };
    // Sentences are read by people here: entities, unless the model's own setting already makes them.
    let strategy = if model.aggregation == Strategy::None { Strategy::Simple } else { model.aggregation };
    let classifier = Classifier { labels: &model.description.labels, joiner: &model.tokenizer };
    texts
        .into_iter()
        .map(|text| {
            let fails = |problem: String| Failure {
                exit: Exit::Model,
                message: format!("example \"{text}\": {problem}"),
            };
            let tokenized = model.tokenizer.encode(&text).map_err(&fails)?;
            let began = Instant::now();
            let logits = backend.forward(&[&tokenized.ids]).map_err(|error| fails(error.to_string()))?;
            let time = began.elapsed();
            let logits = logits.first().ok_or_else(|| fails("the model gave no answer".to_owned()))?;
            let entities = classifier.entities(&tokenized.tokens, logits, strategy, &["O".to_owned()]);
            let entities = entities.map_err(|error| fails(error.to_string()))?;
            Ok(Example { tokens: tokenized.ids.len(), time, entities, text })
        })
        .collect()
}

impl Report<'_> {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let description = &self.model.description;
        let card = &description.card;
        let shown: Vec<&str> = description.labels.iter().take(8).map(String::as_str).collect();
        let more = if description.labels.len() > shown.len() { ", …" } else { "" };
        let inputs: Vec<&str> = description.inputs.iter().map(|input| input.as_str()).collect();
        let facts = [
            ("model", Some(description.name().to_owned())),
            ("version", card.version.clone()),
            ("license", card.license.clone()),
            ("attribution", card.attribution.clone()),
            ("directory", Some(description.dir.display().to_string())),
            ("task", Some(description.task.as_str().to_owned())),
            ("labels", Some(format!("{} ({}{more})", description.labels.len(), shown.join(", ")))),
            ("inputs", Some(inputs.join(", "))),
            ("max length", Some(format!("{} tokens", description.max_seq_length))),
            ("vocabulary", Some(format!("{} tokens", self.model.tokenizer.vocabulary_size()))),
            ("aggregation", Some(self.model.aggregation.as_str().to_owned())),
            ("device", Some(self.model.device.to_string())),
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
            writeln!(out, "\n\"{}\"  ({} tokens, {milliseconds:.1} ms)", example.text, example.tokens)?;
            print_entities(&example.entities, out)?;
        }
        writeln!(
            out,
            "\nok: the model runs and {} of {} examples have entities",
            self.found(),
            self.examples.len()
        )
    }

    fn found(&self) -> usize {
        self.examples.iter().filter(|example| !example.entities.is_empty()).count()
    }
}

fn print_entities(entities: &[Entity], out: &mut impl Write) -> io::Result<()> {
    if entities.is_empty() {
        return writeln!(out, "  no entities");
    }
    let label = |entity: &Entity| entity.entity_group.clone().or(entity.entity.clone()).unwrap_or_default();
    let width = entities.iter().map(|entity| label(entity).chars().count()).max().unwrap_or_default();
    for entity in entities {
        let Entity { score, word, start, end, .. } = entity;
        writeln!(out, "  {:<width$}  {score:.3}  {:>4}..{:<4}  {word}", label(entity), start, end)?;
    }
    Ok(())
}
