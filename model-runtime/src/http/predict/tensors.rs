//! Plain tensors: `{"inputs": {"x": [[…]], …}}` or, for a model with one input, `{"inputs": [[…]]}`.
//!
//! The datatypes are the model's. Of a model that takes batches a request may have one row, without the dimension of the batch, or several,
//! with it; one is answered by itself, several by a list. Inputs without names are answered without, if there is only one output.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;

use super::super::array_json::{Nested, read_array, shape_of};
use super::super::error::ApiError;
use super::super::inference::{Reading, Writing, reserve};
use super::super::tensors::{SampleCount, fits_json};
use super::json_response;
use super::request::Request;
use crate::backend::{Array, Output};
use crate::model::{TensorForm, TensorSpec};
use crate::serving::Serving;

/// How a request was written, so that it is answered alike.
pub(super) struct Asked {
    named: bool,
    rows: SampleCount,
}

/// Reads the arrays, having made sure of a place in the queue.
pub(super) fn read(serving: &Serving, form: &TensorForm, body: &[u8]) -> Result<Reading<Asked>, ApiError> {
    let request = Request::of_tensors(body, &serving.model.description.task)?;
    let inputs = Inputs::parse(request.inputs, form)?;
    let (arrays, rows) = inputs.arrays(form)?;
    let reservation = reserve(serving, rows.count())?;
    let samples = rows.samples(&arrays).into_iter().map(Some).collect();
    let asked = Asked { named: inputs.named, rows };
    Ok(Reading { asked, samples, reservation, preparation: Duration::ZERO, limit: None })
}

/// The data of each input, in the order of the model's.
pub(super) struct Inputs<'a> {
    named: bool,
    data: Vec<&'a RawValue>,
}

impl<'a> Inputs<'a> {
    /// Finds each of the model's inputs.
    pub(super) fn parse(inputs: &'a RawValue, form: &TensorForm) -> Result<Self, ApiError> {
        let names = || form.inputs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
        if !inputs.get().starts_with('{') {
            return match form.inputs.as_slice() {
                [_] => Ok(Self { named: false, data: vec![inputs] }),
                several => Err(ApiError::Unusable(format!(
                    "the model has {} inputs ({}); send `inputs` as an object with their names",
                    several.len(),
                    names()
                ))),
            };
        }
        let mut named: BTreeMap<String, &RawValue> = serde_json::from_str(inputs.get())
            .map_err(|error| ApiError::WrongShape(format!("`inputs`: {error}")))?;
        let take = |spec: &TensorSpec| {
            let missing = || {
                ApiError::Unusable(format!("input `{}` is missing; the model takes {}", spec.name, names()))
            };
            named.remove(&spec.name).ok_or_else(missing)
        };
        let data = form.inputs.iter().map(take).collect::<Result<_, _>>()?;
        match named.keys().next() {
            None => Ok(Self { named: true, data }),
            Some(other) => {
                Err(ApiError::Unusable(format!("the model has no input `{other}`; it takes {}", names())))
            }
        }
    }

    /// Their arrays, and whether they have the dimension of the batch: all or none.
    pub(super) fn arrays(&self, form: &TensorForm) -> Result<(Vec<Array>, SampleCount), ApiError> {
        let of_input = |(spec, data): (&TensorSpec, &&RawValue)| {
            let in_input = |problem: String| ApiError::Unusable(format!("input `{}`: {problem}", spec.name));
            let shape = shape_of(data).map_err(|error| in_input(error.to_string()))?;
            read_array(data, spec.datatype, shape).map_err(|error| in_input(error.to_string()))
        };
        let arrays = form.inputs.iter().zip(&self.data).map(of_input).collect::<Result<Vec<_>, _>>()?;
        let with_batch = |(spec, array): (&TensorSpec, &Array)| array.shape().len() > spec.shape.len();
        let rows = if form.batched && form.inputs.iter().zip(&arrays).any(with_batch) {
            SampleCount::of_batch(form, &arrays)?
        } else {
            SampleCount::of_one(form, &arrays)?
        };
        Ok((arrays, rows))
    }
}

/// From arrays to JSON.
pub(super) fn write(
    form: &TensorForm,
    asked: &Asked,
    outputs: &[Option<Output>],
) -> Result<Writing, ApiError> {
    let arrays = asked.rows.outputs(form, outputs)?;
    let named = || form.outputs.iter().map(|spec| spec.name.as_str()).zip(&arrays);
    named().try_for_each(|(name, array)| fits_json(name, array))?;
    let response = match arrays.as_slice() {
        [only] if !asked.named => json_response(&Nested(only)),
        _ => json_response(&named().map(|(name, array)| (name, Nested(array))).collect::<BTreeMap<_, _>>()),
    }?;
    Ok(Writing { response, inputs: asked.rows.count(), truncated: 0 })
}
