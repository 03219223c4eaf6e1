//! A model of plain tensors, asked by its own tensors. If it takes batches, their first dimension is the batch, and each row of it may share
//! a forward with rows of other requests.

use std::time::Duration;

use super::super::error::ApiError;
use super::super::inference::{Reading, reserve};
use super::super::tensors::SampleCount;
use super::request::InferRequest;
use super::tensor::{Content, Tensor};
use crate::backend::{Array, Output};
use crate::model::{TensorForm, TensorSpec};
use crate::serving::Serving;

/// Samples of the request's tensors.
pub(super) fn read(
    serving: &Serving,
    form: &TensorForm,
    request: &InferRequest,
) -> Result<Reading<SampleCount>, ApiError> {
    let arrays = arrays(form, &request.inputs)?;
    let rows =
        if form.batched { SampleCount::of_batch(form, &arrays) } else { SampleCount::of_one(form, &arrays) }?;
    let reservation = reserve(serving, rows.count())?;
    let samples = rows.samples(&arrays).into_iter().map(Some).collect();
    Ok(Reading { asked: rows, samples, reservation, preparation: Duration::ZERO, limit: None })
}

/// The model's outputs.
pub(super) fn write(
    form: &TensorForm,
    rows: SampleCount,
    outputs: &[Option<Output>],
) -> Result<Vec<Tensor>, ApiError> {
    let arrays = rows.outputs(form, outputs)?;
    let named = form.outputs.iter().zip(arrays);
    Ok(named
        .map(|(spec, array)| Tensor { name: spec.name.clone(), content: Content::Numbers(array) })
        .collect())
}

/// The request's arrays in the order of the model's inputs.
fn arrays(form: &TensorForm, inputs: &[Tensor]) -> Result<Vec<Array>, ApiError> {
    let names = || form.inputs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
    let find = |spec: &TensorSpec| {
        let named = inputs.iter().find(|tensor| tensor.name == spec.name);
        match named.map(|tensor| &tensor.content) {
            Some(Content::Numbers(array)) => Ok(array.clone()),
            Some(Content::Strings { .. }) => {
                Err(format!("input `{}` is BYTES; it must be {}", spec.name, spec.datatype.as_str()))
            }
            None => Err(format!("input `{}` is missing; the model takes {}", spec.name, names())),
        }
    };
    let arrays = form.inputs.iter().map(find).collect::<Result<Vec<_>, _>>().map_err(ApiError::Unusable)?;
    if let Some(other) = inputs.iter().find(|tensor| form.inputs.iter().all(|spec| spec.name != tensor.name))
    {
        return Err(ApiError::Unusable(format!(
            "the model has no input `{}`; it takes {}",
            other.name,
            names()
        )));
    }
    Ok(arrays)
}
