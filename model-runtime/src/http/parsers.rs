//! The parsers of request bodies as plain functions, for the fuzz targets: no server, no model, no thread.

use bytes::Bytes;

use super::open_inference::InferRequest;
use super::predict;
use crate::model::Form;
use crate::task::Task;

/// Reads the body of a request to `/predict` of such a model.
///
/// # Errors
/// What the client would be told.
pub fn predict_request(body: &[u8], task: &Task, form: &Form) -> Result<(), String> {
    predict::parse(body, task, form).map_err(|error| error.to_string())
}

/// Reads the body of an inference request of the Open Inference Protocol, of which the first `json_length` bytes are JSON; all of it without.
///
/// # Errors
/// What the client would be told.
pub fn infer_request(body: &[u8], json_length: Option<usize>) -> Result<(), String> {
    let parsed = InferRequest::parse(&Bytes::copy_from_slice(body), json_length);
    parsed.map(|_| ()).map_err(|error| error.to_string())
}
