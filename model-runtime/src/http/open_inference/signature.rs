//! Which tensors a model takes and gives, for clients that build requests from it.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::tensor::BYTES;
use super::{pixel_values, raw_output, texts_and_images, token_ids};
use crate::backend::Datatype;
use crate::loading::LoadedModel;
use crate::model::{Description, Extent, Form, TensorForm, TensorSpec};

/// A tensor as the model's metadata describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct TensorMetadata {
    pub(super) name: String,
    pub(super) datatype: &'static str,
    /// -1 where any length will do.
    pub(super) shape: Vec<i64>,
}

/// What goes in and what comes out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) inputs: Vec<TensorMetadata>,
    pub(super) outputs: Vec<TensorMetadata>,
}

impl TensorMetadata {
    pub(super) fn new(name: &str, datatype: &'static str, shape: impl Into<Vec<i64>>) -> Self {
        Self { name: name.to_owned(), datatype, shape: shape.into() }
    }

    /// Byte strings.
    pub(super) fn strings(name: &str, shape: impl Into<Vec<i64>>) -> Self {
        Self::new(name, BYTES, shape)
    }
}

impl Signature {
    /// The tensors of a model of plain tensors are its own. Another can be asked in two ways, which are listed one after the other: by texts or
    /// images, or by what the client has made of them.
    pub(super) fn of(model: &LoadedModel) -> Self {
        let prepared = match &model.description.form {
            Form::Text(form) => token_ids::metadata(form),
            Form::Image(preprocessor) => vec![pixel_values::metadata(preprocessor)],
            Form::Tensors(form) => return Self::of_tensors(form),
        };
        let mut signature = texts_and_images::signature(model);
        signature.inputs.extend(prepared);
        signature.outputs.push(raw_output::metadata(model));
        signature
    }

    fn of_tensors(form: &TensorForm) -> Self {
        let tensor = |spec: &TensorSpec| {
            let batch = form.batched.then_some(-1);
            let shape: Vec<i64> =
                batch.into_iter().chain(spec.shape.iter().map(|extent| extent.as_i64())).collect();
            TensorMetadata::new(&spec.name, spec.datatype.as_str(), shape)
        };
        Self {
            inputs: form.inputs.iter().map(tensor).collect(),
            outputs: form.outputs.iter().map(tensor).collect(),
        }
    }
}
/// A request in JSON that this model answers: its example texts, or zeros. Files of images come as binary data only.
pub(in crate::http) fn example(model: &Description) -> Option<Value> {
    let input = |name: &str, datatype: &str, shape: &[usize], data: Vec<Value>| json!({"name": name, "datatype": datatype, "shape": shape, "data": data});
    let inputs = match &model.form {
        Form::Text(_) => {
            let texts: Vec<Value> = model.examples.iter().map(|text| json!(text)).collect();
            vec![input(texts_and_images::TEXT, BYTES, &[texts.len()], texts)]
        }
        Form::Image(_) => return None,
        Form::Tensors(form) => {
            let zeros = |spec: &TensorSpec| {
                let row = spec.shape.iter().map(|extent| match extent {
                    Extent::Fixed(length) => *length,
                    Extent::Any => 1,
                });
                let shape: Vec<usize> = form.batched.then_some(1).into_iter().chain(row).collect();
                let zero = if spec.datatype == Datatype::Bool { json!(false) } else { json!(0) };
                input(&spec.name, spec.datatype.as_str(), &shape, vec![zero; shape.iter().product()])
            };
            form.inputs.iter().map(zeros).collect()
        }
    };
    Some(json!({"inputs": inputs}))
}
