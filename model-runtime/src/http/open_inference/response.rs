//! The body of an answer: a JSON object, and after it the binary data of those outputs that were asked for so.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::classification::classify;
use super::request::{InferRequest, RequestedOutput};
use super::served_model::ServedModel;
use super::tensor::{JsonData, Tensor};

/// How many bytes of the body are JSON, where binary data follow (Triton's extension "binary tensor data").
pub(super) const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// An answer of a model.
#[derive(Serialize, ToSchema)]
#[schema(as = InferResponse)]
pub(super) struct Body<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

/// A tensor of an answer.
#[derive(Serialize, ToSchema)]
#[schema(as = InferOutput)]
struct Output<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    parameters: Option<serde_json::Value>,
    /// The elements, flat; absent where they follow the JSON as binary data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    data: Option<JsonData<'a>>,
}

/// Those of the model's outputs that are asked for, as they are asked for.
pub(super) struct Outputs(Vec<(Tensor, bool)>);

impl Outputs {
    /// Chooses among the tensors that the model gives.
    ///
    /// # Errors
    /// One is asked for that is not there, or cannot be classified.
    pub(super) fn choose(
        request: &InferRequest,
        given: Vec<Tensor>,
        labels: &[String],
    ) -> Result<Self, ApiError> {
        let Some(requested) = &request.outputs else {
            return Ok(Self(given.into_iter().map(|tensor| (tensor, request.binary_output)).collect()));
        };
        let choose = |output: &RequestedOutput| {
            let found = given.iter().find(|tensor| tensor.name == output.name).ok_or_else(|| {
                let names: Vec<&str> = given.iter().map(|tensor| tensor.name.as_str()).collect();
                ApiError::Unusable(format!(
                    "there is no output `{}` for these inputs; there is {}",
                    output.name,
                    names.join(", ")
                ))
            })?;
            let tensor = match output.classes {
                Some(classes) => classify(found, classes, labels)?,
                None => found.clone(),
            };
            Ok((tensor, output.binary))
        };
        requested.iter().map(choose).collect::<Result<_, _>>().map(Self)
    }

    /// The answer.
    ///
    /// # Errors
    /// An output that JSON cannot hold.
    pub(super) fn response(&self, request: &InferRequest, model: ServedModel) -> Result<Response, ApiError> {
        let mut binary = Vec::new();
        let mut outputs = Vec::with_capacity(self.0.len());
        for (Tensor { name, content }, is_binary) in &self.0 {
            let (parameters, data) = if *is_binary {
                let bytes = content.to_binary()?;
                let parameters = json!({"binary_data_size": bytes.len()});
                binary.push(bytes);
                (Some(parameters), None)
            } else {
                (None, Some(content.json_data(name)?))
            };
            outputs.push(Output {
                name,
                datatype: content.datatype(),
                shape: content.shape(),
                parameters,
                data,
            });
        }
        let body =
            Body { model_name: model.name, model_version: model.version, id: request.id.as_deref(), outputs };
        let mut body = serde_json::to_vec(&body)
            .map_err(|error| ApiError::Internal(format!("cannot write the answer: {error}")))?;
        if binary.is_empty() {
            return Ok(([(CONTENT_TYPE, "application/json")], body).into_response());
        }
        let json_length = body.len();
        binary.iter().for_each(|bytes| body.extend_from_slice(bytes));
        let mut response = ([(CONTENT_TYPE, "application/octet-stream")], body).into_response();
        response.headers_mut().insert(JSON_LENGTH, HeaderValue::from(json_length));
        Ok(response)
    }
}
