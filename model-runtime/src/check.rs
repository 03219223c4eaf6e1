//! `check`: loads the model as `serve` would, runs it on example sentences, prints what it found.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use ::image::{Rgb, RgbImage};

use crate::backend::{Array, Backend as _, Output, Rows, Sample, TorchScript};
use crate::config::cli::{CheckArgs, LogFormat};
use crate::config::{Running, RuntimeToml};
use crate::exit::{Exit, Failure};
use crate::image::{Preprocessor, decode};
use crate::loading::{LoadedModel, Reader, load};
use crate::logging;
use crate::model::{Description, Form, TensorSpec};
use crate::task::classification::{Scored, classify};
use crate::task::feature_extraction::{Features, features};
use crate::task::token_classification::{Classifier, Entity};
use crate::task::{Strategy, Task};
use crate::text::{TextTokenizer, Tokenized};

/// The width and the height of an image that shows every value of a channel.
const GRADIENT: u32 = 256;

/// Of a text's or an image's labels, the best.
const LABELS_SHOWN: usize = 3;
/// Of a vector, its first numbers.
const NUMBERS_SHOWN: usize = 4;

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

/// An example, and what the model made of it.
pub(crate) struct Example {
    /// What was tried, for people.
    title: String,
    time: Duration,
    found: Found,
}

/// What the model made of an example.
enum Found {
    Entities(Vec<Entity>),
    Labels(Vec<Scored>),
    Features(Features),
    /// Name, datatype and shape of each output.
    Arrays(Vec<String>),
}

struct Report<'a> {
    model: &'a LoadedModel,
    load_time: Duration,
    examples: Vec<Example>,
}

/// Runs the model's own examples, or general ones where it has none; the error names the one that fails.
pub(crate) fn run_examples(model: &LoadedModel, backend: &TorchScript) -> Result<Vec<Example>, Failure> {
    match &model.reader {
        Reader::Text(tokenizer) => {
            let texts = &model.description.examples;
            texts.iter().map(|text| try_text(model, backend, tokenizer, text)).collect()
        }
        Reader::Image(preprocessor) => {
            let own = &model.description.examples;
            if own.is_empty() {
                let title = format!("a gradient of {GRADIENT} x {GRADIENT} pixels");
                return Ok(vec![try_image(model, backend, preprocessor, title, &gradient())?]);
            }
            let try_file = |name: &String| {
                let file = std::fs::read(model.description.file(name));
                let image = file
                    .map_err(|error| error.to_string())
                    .and_then(|file| decode(&file).map_err(|error| format!("the file {error}")));
                try_image(model, backend, preprocessor, name.clone(), &image.map_err(failed(name))?)
            };
            own.iter().map(try_file).collect()
        }
        Reader::Tensors => {
            let (time, output) =
                forward(backend, &model.description.form.trial()).map_err(failed("zeros"))?;
            let found = Found::Arrays(shapes(&model.description.form, &output));
            Ok(vec![Example { title: "zeros".to_owned(), time, found }])
        }
    }
}

/// The failure of this example.
fn failed(example: &str) -> impl Fn(String) -> Failure {
    move |problem| Failure { exit: Exit::Model, message: format!("example {example}: {problem}") }
}

fn try_text(
    model: &LoadedModel,
    backend: &TorchScript,
    tokenizer: &TextTokenizer,
    text: &str,
) -> Result<Example, Failure> {
    let quoted = format!("\"{text}\"");
    let fails = failed(&quoted);
    let tokenized = tokenizer.encode(text).map_err(&fails)?;
    let tokens = tokenized.ids.len();
    let (time, output) = forward(backend, &Sample::Tokens(tokenized.ids.clone())).map_err(&fails)?;
    let found = find(model, tokenizer, &tokenized, output.rows().map_err(&fails)?).map_err(&fails)?;
    Ok(Example { title: format!("{quoted}  ({tokens} tokens)"), time, found })
}

fn try_image(
    model: &LoadedModel,
    backend: &TorchScript,
    preprocessor: &Preprocessor,
    title: String,
    image: &RgbImage,
) -> Result<Example, Failure> {
    let fails = failed(&title);
    let Task::ImageClassification { function } = model.description.task else {
        return Err(fails("its task takes no image".to_owned()));
    };
    let shape = vec![3, preprocessor.height(), preprocessor.width()];
    let pixels =
        Array::from_f32(shape, &preprocessor.run(image)).map_err(|error| fails(error.to_string()))?;
    let (time, output) = forward(backend, &Sample::Arrays(vec![pixels])).map_err(&fails)?;
    let labels = &model.description.labels;
    let found = classify(labels, output.rows().map_err(&fails)?, function, LABELS_SHOWN).map_err(&fails)?;
    Ok(Example { title: title.clone(), time, found: Found::Labels(found) })
}

/// For models that bring no images of their own: what matters is that they run.
fn gradient() -> RgbImage {
    RgbImage::from_fn(GRADIENT, GRADIENT, |x, y| Rgb([x, y, GRADIENT - 1 - x].map(|sample| sample as u8)))
}

fn forward(backend: &TorchScript, sample: &Sample) -> Result<(Duration, Output), String> {
    let began = Instant::now();
    let outputs = backend.forward(&[sample]).map_err(|error| error.to_string())?;
    let time = began.elapsed();
    let output = outputs.into_iter().next().ok_or_else(|| "the model gave no answer".to_owned())?;
    if let Output::Rows(rows) = &output
        && rows.values.iter().any(|value| !value.is_finite())
    {
        return Err("the model answers NaN or infinity; is model.pt damaged?".to_owned());
    }
    Ok((time, output))
}

fn find(
    model: &LoadedModel,
    tokenizer: &TextTokenizer,
    text: &Tokenized,
    output: &Rows,
) -> Result<Found, String> {
    let labels = &model.description.labels;
    match model.description.task {
        Task::TokenClassification { aggregation } => {
            // Sentences are read by people here: entities, unless the model's own setting already makes them.
            let strategy = if aggregation == Strategy::None { Strategy::Simple } else { aggregation };
            let classifier = Classifier { labels, joiner: tokenizer };
            let entities = classifier.entities(&text.tokens, output, strategy, &["O".to_owned()]);
            entities.map(Found::Entities).map_err(|error| error.to_string())
        }
        Task::TextClassification { function } => {
            classify(labels, output, function, LABELS_SHOWN).map(Found::Labels)
        }
        Task::FeatureExtraction { pooling, normalize } => {
            features(output, pooling, normalize).map(Found::Features)
        }
        Task::ImageClassification { .. } => Err("a model of images takes no text".to_owned()),
        Task::Tensors => Err("a model of tensors takes no text".to_owned()),
    }
}

/// Each output's name, datatype and shape.
fn shapes(form: &Form, output: &Output) -> Vec<String> {
    match (form, output) {
        (Form::Tensors(form), Output::Arrays(arrays)) => {
            let shown = |(spec, array): (&TensorSpec, &Array)| {
                format!("{}  {} {:?}", spec.name, array.datatype().as_str(), array.shape())
            };
            form.outputs.iter().zip(arrays).map(shown).collect()
        }
        _ => Vec::new(),
    }
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

impl Found {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Entities(entities) => print_entities(entities, out),
            Self::Labels(labels) => {
                let width =
                    labels.iter().map(|scored| scored.label.chars().count()).max().unwrap_or_default();
                labels
                    .iter()
                    .try_for_each(|Scored { label, score }| writeln!(out, "  {label:<width$}  {score:.3}"))
            }
            Self::Arrays(shapes) => shapes.iter().try_for_each(|shape| writeln!(out, "  {shape}")),
            Self::Features(Features::Text(vector)) => writeln!(out, "  {}", beginning(vector)),
            Self::Features(Features::Tokens([vectors])) => {
                let first = vectors.first().map(|vector| beginning(vector)).unwrap_or_default();
                writeln!(out, "  {} vectors, the first: {first}", vectors.len())
            }
        }
    }
}

fn beginning(vector: &[f32]) -> String {
    let shown: Vec<String> = vector.iter().take(NUMBERS_SHOWN).map(|number| format!("{number:.4}")).collect();
    let more = if vector.len() > shown.len() { ", …" } else { "" };
    format!("[{}{more}]", shown.join(", "))
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
