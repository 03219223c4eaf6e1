//! A model of images, asked by pixels that the client has preprocessed itself: `pixel_values` FP32 \[n, 3, height, width\].

use std::time::Duration;

use super::super::error::ApiError;
use super::super::inference::{Reading, reserve};
use super::request::InferRequest;
use super::signature::TensorMetadata;
use super::tensor::{Content, Tensor};
use crate::backend::{Array, Datatype, Sample};
use crate::image::Preprocessor;
use crate::serving::Serving;

/// The name of the input.
const PIXELS: &str = "pixel_values";

pub(super) fn metadata(preprocessor: &Preprocessor) -> TensorMetadata {
    let length = |pixels: usize| i64::try_from(pixels).unwrap_or(i64::MAX);
    let shape = [-1, 3, length(preprocessor.height()), length(preprocessor.width())];
    TensorMetadata::new(PIXELS, Datatype::Fp32.as_str(), shape)
}

/// A sample of each row of pixels.
pub(super) fn read(
    serving: &Serving,
    preprocessor: &Preprocessor,
    request: &InferRequest,
) -> Result<Reading<()>, ApiError> {
    if let Some(name) = request.parameters.keys().next() {
        return Err(ApiError::Unusable(format!(
            "`parameters.{name}` is for images; for pixels there is none"
        )));
    }
    let pixels = pixels(preprocessor, &request.inputs).map_err(ApiError::Unusable)?;
    let count = pixels.shape().first().copied().unwrap_or_default();
    let reservation = reserve(serving, count)?;
    let samples = pixels.rows().into_iter().map(|row| Some(Sample::Arrays(vec![row]))).collect();
    Ok(Reading { asked: (), samples, reservation, preparation: Duration::ZERO, limit: None })
}

fn pixels<'a>(preprocessor: &Preprocessor, inputs: &'a [Tensor]) -> Result<&'a Array, String> {
    let image = super::texts_and_images::IMAGE;
    let [Tensor { name, content }] = inputs else {
        return Err(format!(
            "the model takes one input, `{image}` or `{PIXELS}`; there are {}",
            inputs.len()
        ));
    };
    if name != PIXELS {
        return Err(format!("the model has no input `{name}`; it takes `{image}` or `{PIXELS}`"));
    }
    let wanted = [3, preprocessor.height(), preprocessor.width()];
    match content {
        Content::Numbers(array) if array.datatype() == Datatype::Fp32 => match array.shape() {
            [rows, row @ ..] if row == wanted && *rows > 0 => Ok(array),
            other => Err(format!(
                "`{PIXELS}` has the shape {other:?}; it must be n rows of {wanted:?}, and at least one"
            )),
        },
        other => Err(format!("`{PIXELS}` must be FP32, not {}", other.datatype())),
    }
}
