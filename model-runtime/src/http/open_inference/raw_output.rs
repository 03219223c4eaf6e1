//! The model's own numbers, for clients that make its inputs themselves: FP32, under the name that Hugging Face's models give it.

use super::super::error::ApiError;
use super::signature::TensorMetadata;
use super::tensor::{Content, Tensor};
use crate::backend::{Array, Datatype, Granularity, Output};
use crate::loading::LoadedModel;
use crate::task::TaskKind;

pub(super) fn metadata(model: &LoadedModel) -> TensorMetadata {
    let columns = model.columns.and_then(|columns| i64::try_from(columns).ok()).unwrap_or(-1);
    let granularity = model.granularity.unwrap_or(Granularity::Whole);
    let shape = match granularity {
        Granularity::Token => vec![-1, -1, columns],
        Granularity::Whole => vec![-1, columns],
    };
    TensorMetadata::new(name(model, granularity), Datatype::Fp32.as_str(), shape)
}

/// One tensor of all samples' rows.
pub(super) fn write(model: &LoadedModel, outputs: &[Option<Output>]) -> Result<Vec<Tensor>, ApiError> {
    let (mut rows, mut granularity) = (Vec::with_capacity(outputs.len()), Granularity::Whole);
    for output in outputs {
        let seen = output
            .as_ref()
            .ok_or_else(|| ApiError::Internal("a sample was not given to the model".to_owned()))?;
        let found = seen.rows().map_err(ApiError::Internal)?;
        granularity = found.granularity;
        let shape = match granularity {
            Granularity::Token => vec![found.iter().len(), found.columns],
            Granularity::Whole => vec![found.columns],
        };
        rows.push(Array::from_f32(shape, &found.values));
    }
    let rows = rows.into_iter().collect::<Result<Vec<_>, _>>();
    let together =
        rows.and_then(|rows| Array::stack(&rows)).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(vec![Tensor { name: name(model, granularity).to_owned(), content: Content::Numbers(together) }])
}

fn name(model: &LoadedModel, granularity: Granularity) -> &'static str {
    match (model.description.task.kind(), granularity) {
        (TaskKind::FeatureExtraction, Granularity::Token) => "last_hidden_state",
        (TaskKind::FeatureExtraction, Granularity::Whole) => "sentence_embedding",
        (
            TaskKind::TokenClassification
            | TaskKind::TextClassification
            | TaskKind::ImageClassification
            | TaskKind::Tensors,
            _,
        ) => "logits",
    }
}
