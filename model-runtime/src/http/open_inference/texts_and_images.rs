//! A model of texts or images, asked by `text` or by `image` (files: JPEG, PNG, WebP), BYTES \[n\]; entities, labels or vectors out, as its task
//! says.
//!
//! | task | outputs for n inputs |
//! |---|---|
//! | token classification | `entities` BYTES \[n\], for each text a JSON list as `/predict` answers it |
//! | text classification, image classification | `label` BYTES \[n, k\] and `score` FP32 \[n, k\], best first; k is `top_k`, else 1 of texts and 5 of images |
//! | feature extraction | `embedding` FP32 \[n, width\]; without pooling \[n, tokens, width\], for texts that have equally many |

use std::time::Instant;

use bytes::Bytes;

use super::super::answers::{Answers, answers};
use super::super::error::ApiError;
use super::super::inference::{Reading, reserve};
use super::super::predict::images::sample;
use super::super::predict::parameters::{OfTask, Parameters};
use super::super::texts::{Tokens, tokenize};
use super::request::InferRequest;
use super::signature::{Signature, TensorMetadata};
use super::tensor::{Content, Tensor};
use crate::backend::{Array, Datatype, Granularity, Output, Sample};
use crate::image::Preprocessor;
use crate::loading::{LoadedModel, Reader};
use crate::serving::Serving;
use crate::task::classification::Scored;
use crate::task::feature_extraction::Features;
use crate::task::{Pooling, Task};
use crate::text::Tokenized;

/// The input of a model of texts.
pub(super) const TEXT: &str = "text";
/// The input of a model of images.
pub(super) const IMAGE: &str = "image";

/// Whether a request is one of this kind.
pub(super) fn are_in(request: &InferRequest) -> bool {
    request.inputs.iter().any(|tensor| tensor.name == TEXT || tensor.name == IMAGE)
}

/// How the inputs are to be answered, and the texts; there are none of images.
pub(super) struct Asked {
    parameters: OfTask,
    pub(super) texts: Vec<Tokenized>,
}

pub(super) fn signature(model: &LoadedModel) -> Signature {
    let width = model.columns.and_then(|columns| i64::try_from(columns).ok()).unwrap_or(-1);
    let outputs = match model.description.task {
        Task::TokenClassification { .. } => vec![TensorMetadata::strings("entities", [-1])],
        Task::TextClassification { .. } | Task::ImageClassification { .. } => {
            vec![
                TensorMetadata::strings("label", [-1, -1]),
                TensorMetadata::new("score", Datatype::Fp32.as_str(), [-1, -1]),
            ]
        }
        Task::FeatureExtraction { pooling, .. } => {
            let of_tokens = pooling == Pooling::None && model.granularity == Some(Granularity::Token);
            let shape = if of_tokens { vec![-1, -1, width] } else { vec![-1, width] };
            vec![TensorMetadata::new("embedding", Datatype::Fp32.as_str(), shape)]
        }
        Task::Tensors => Vec::new(),
    };
    Signature { inputs: vec![TensorMetadata::strings(input_name(model), [-1])], outputs }
}

fn input_name(model: &LoadedModel) -> &'static str {
    match &model.reader {
        Reader::Image(_) => IMAGE,
        Reader::Text(_) | Reader::Tensors => TEXT,
    }
}

/// Samples of the request's texts or images.
pub(super) fn read(serving: &Serving, request: &InferRequest) -> Result<Reading<Asked>, ApiError> {
    let mut parameters = Parameters::of(&serving.model.description.task);
    for (name, value) in &request.parameters {
        parameters.set(name, value).map_err(ApiError::Unusable)?;
    }
    let elements = elements(input_name(&serving.model), &request.inputs).map_err(ApiError::Unusable)?;
    let reservation = reserve(serving, elements.len())?;
    let began = Instant::now();
    let Tokens { texts, samples } = match &serving.model.reader {
        Reader::Image(preprocessor) => Tokens { texts: Vec::new(), samples: images(preprocessor, elements)? },
        Reader::Text(_) | Reader::Tensors => {
            tokenize(&serving.model, &texts(elements)?, parameters.truncate)?
        }
    };
    let asked = Asked { parameters: parameters.of_task, texts };
    Ok(Reading { asked, samples, reservation, preparation: began.elapsed(), limit: None })
}

/// The byte strings of the only input.
fn elements<'a>(input: &str, inputs: &'a [Tensor]) -> Result<&'a [Bytes], String> {
    let [Tensor { name, content }] = inputs else {
        return Err(format!(
            "beside `{input}` there is no other input; send it alone, or what you have made of it"
        ));
    };
    if name != input {
        return Err(format!("the model has no input `{name}`; it takes `{input}`"));
    }
    match content {
        Content::Strings { shape, elements } if shape.len() == 1 && !elements.is_empty() => Ok(elements),
        Content::Strings { elements, .. } if elements.is_empty() => {
            Err(format!("input `{name}` is empty; send at least one"))
        }
        other => Err(format!(
            "input `{name}` must be BYTES with one dimension, not {} of shape {:?}",
            other.datatype(),
            other.shape()
        )),
    }
}

fn texts(elements: &[Bytes]) -> Result<Vec<&str>, ApiError> {
    let unusable = |index: usize, error| {
        ApiError::Unusable(format!("element {index} of `{TEXT}` is not UTF-8: {error}"))
    };
    let texts = elements.iter().enumerate();
    texts.map(|(index, bytes)| std::str::from_utf8(bytes).map_err(|error| unusable(index, error))).collect()
}

fn images(preprocessor: &Preprocessor, files: &[Bytes]) -> Result<Vec<Option<Sample>>, ApiError> {
    let sample = |(index, file): (usize, &Bytes)| {
        let unusable = |problem| ApiError::Unusable(format!("element {index} of `{IMAGE}` {problem}"));
        sample(preprocessor, file).map(Some).map_err(unusable)
    };
    files.iter().enumerate().map(sample).collect()
}

/// Tensors of what the task says of the texts.
pub(super) fn write(
    serving: &Serving,
    asked: &Asked,
    outputs: &[Option<Output>],
) -> Result<Vec<Tensor>, ApiError> {
    let Asked { parameters, texts } = asked;
    let tensor = |name: &str, content| Tensor { name: name.to_owned(), content };
    match answers(&serving.model, parameters, texts, outputs)? {
        Answers::Entities(entities) => {
            let lists = entities.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>();
            let lists =
                lists.map_err(|error| ApiError::Internal(format!("cannot write the entities: {error}")))?;
            Ok(vec![tensor("entities", Content::strings(lists))])
        }
        Answers::Labels(labels) => {
            let [label, score] = label_tensors(labels)?;
            Ok(vec![tensor("label", label), tensor("score", score)])
        }
        Answers::Features(vectors) => {
            let vectors = vectors.iter().map(array).collect::<Result<Vec<_>, _>>()?;
            let together = Array::stack(&vectors).map_err(|error| {
                ApiError::Unusable(format!(
                    "`embedding` cannot be answered as one tensor: {error}; ask for a pooling, or send one text at a time"
                ))
            })?;
            Ok(vec![tensor("embedding", Content::Numbers(together))])
        }
    }
}

/// Every text has equally many labels.
fn label_tensors(labels: Vec<Vec<Scored>>) -> Result<[Content; 2], ApiError> {
    let shape = vec![labels.len(), labels.first().map_or(0, Vec::len)];
    let (labels, scores): (Vec<String>, Vec<f32>) =
        labels.into_iter().flatten().map(|Scored { label, score }| (label, score)).unzip();
    let scores =
        Array::from_f32(shape.clone(), &scores).map_err(|error| ApiError::Internal(error.to_string()))?;
    let elements = labels.into_iter().map(Into::into).collect();
    Ok([Content::Strings { shape, elements }, Content::Numbers(scores)])
}

/// One vector, or one for each token.
fn array(features: &Features) -> Result<Array, ApiError> {
    let array = match features {
        Features::Text(vector) => Array::from_f32(vec![vector.len()], vector),
        Features::Tokens([vectors]) => {
            let width = vectors.first().map_or(0, Vec::len);
            Array::from_f32(vec![vectors.len(), width], &vectors.concat())
        }
    };
    array.map_err(|error| ApiError::Internal(error.to_string()))
}
