//! Example inputs go through a model: its own, or general ones where it brings none.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use ::image::{Rgb, RgbImage};

use crate::backend::{Array, Backend as _, Output, Rows, Sample, TorchScript};
use crate::exit::{Exit, Failure};
use crate::image::{Preprocessor, decode};
use crate::loading::{LoadedModel, Reader};
use crate::model::{Form, TensorSpec};
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

/// An example, and what the model made of it.
pub(crate) struct Example {
    /// What was tried, for people.
    pub(super) title: String,
    pub(super) time: Duration,
    pub(super) found: Found,
}

/// What the model made of an example.
pub(super) enum Found {
    Entities(Vec<Entity>),
    Labels(Vec<Scored>),
    Features(Features),
    /// Name, datatype and shape of each output.
    Arrays(Vec<String>),
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
pub(super) fn failed(example: &str) -> impl Fn(String) -> Failure {
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

impl Found {
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
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
