//! `POST /v2/models/{name}[/versions/{version}]/infer`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Request};
use axum::response::Response;

use super::super::body::{Received, is_json, media_type, read as read_body};
use super::super::deadline;
use super::super::error::ApiError;
use super::super::inference::{self, Reading, Writing, counted, infer as run};
use super::super::openapi::InferErrors;
use super::super::state::App;
use super::super::tensors::SampleCount;
use super::super::texts::mark_truncated;
use super::request::{Body as RequestBody, InferRequest};
use super::response::{Body as ResponseBody, JSON_LENGTH, Outputs};
use super::served_model::{ModelPath, ServedModel};
use super::{pixel_values, raw_output, tensors, texts_and_images, token_ids};
use crate::backend::Output;
use crate::model::Form;
use crate::serving::Serving;

/// Answers tensors.
#[utoipa::path(
    post,
    path = "/v2/models/{name}/infer",
    tag = "open inference protocol",
    params(("name" = String, Path, description = "The model's name, as `/info` has it.")),
    request_body(
        content((RequestBody = "application/json"), (Vec<u8> = "application/octet-stream")),
        description = "JSON, or JSON followed by the tensors' bytes.",
    ),
    responses(
        (
            status = 200,
            description = "The outputs; with binary data if they were asked for.",
            content((ResponseBody = "application/json"), (Vec<u8> = "application/octet-stream")),
        ),
        InferErrors,
    ),
    security((), ("api_key" = []))
)]
pub(in crate::http) async fn infer(
    State(app): State<Arc<App>>,
    Path(path): Path<ModelPath>,
    request: Request<Body>,
) -> Response {
    counted(&app, respond(&app, &path, request)).await
}

async fn respond(app: &Arc<App>, path: &ModelPath, request: Request<Body>) -> Result<Response, ApiError> {
    let serving = inference::serving(app)?;
    ServedModel::of(&serving.model).asked_for(path)?;
    let limit = deadline::of(request.headers(), serving.settings.tunables.request_timeout)?;
    check_media_type(request.headers())?;
    let json_length = json_length(request.headers())?;
    let body = read_body(app, &serving, request).await?;
    run(app, serving, limit, move |serving| read(serving, body, json_length), write).await
}

/// Triton's clients send no type at all.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    match media_type(headers) {
        Some(kind) if kind != "application/octet-stream" && !is_json(&kind) => {
            Err(ApiError::MediaType(format!("`{kind}`")))
        }
        _ => Ok(()),
    }
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(header) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let text = String::from_utf8_lossy(header.as_bytes());
    let length = text.trim().parse::<usize>().ok().filter(|length| *length > 0);
    length.map(Some).ok_or_else(|| {
        ApiError::WrongShape(format!(
            "the header {JSON_LENGTH} is `{text}`; it must be the number of bytes of the JSON object"
        ))
    })
}

/// A request, and what it is about, by the form of the model.
struct Asked {
    request: InferRequest,
    about: About,
}

enum About {
    Tensors(SampleCount),
    TextsOrImages(texts_and_images::Asked),
    /// Token ids, or pixels.
    Prepared,
}

fn read(serving: &Serving, body: Received, json_length: Option<usize>) -> Result<Reading<Asked>, ApiError> {
    let request = InferRequest::parse(&body.decode()?, json_length)?;
    if let Some(twice) = repeated_name(&request) {
        return Err(ApiError::Unusable(format!("the input `{twice}` comes twice")));
    }
    let reading = match &serving.model.description.form {
        Form::Tensors(form) => {
            if let Some(name) = request.parameters.keys().next() {
                return Err(ApiError::Unusable(format!(
                    "`parameters.{name}` is not known; a model of plain tensors has none"
                )));
            }
            tensors::read(serving, form, &request)?.map(About::Tensors)
        }
        Form::Text(_) | Form::Image(_) if texts_and_images::are_in(&request) => {
            texts_and_images::read(serving, &request)?.map(About::TextsOrImages)
        }
        Form::Text(form) => token_ids::read(serving, form, &request)?.map(|()| About::Prepared),
        Form::Image(preprocessor) => {
            pixel_values::read(serving, preprocessor, &request)?.map(|()| About::Prepared)
        }
    };
    let limit = request.timeout;
    Ok(Reading { limit, ..reading.map(|about| Asked { request, about }) })
}

fn repeated_name(request: &InferRequest) -> Option<&str> {
    let mut names: Vec<&str> = request.inputs.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).find_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    })
}

fn write(serving: &Serving, asked: Asked, outputs: Vec<Option<Output>>) -> Result<Writing, ApiError> {
    let Asked { request, about } = asked;
    let description = &serving.model.description;
    let given = match (&about, &description.form) {
        (About::Tensors(rows), Form::Tensors(form)) => tensors::write(form, *rows, &outputs),
        (About::Tensors(_), Form::Text(_) | Form::Image(_)) => {
            Err(ApiError::Internal("tensors were read for a model of something else".to_owned()))
        }
        (About::TextsOrImages(asked), _) => texts_and_images::write(serving, asked, &outputs),
        (About::Prepared, _) => raw_output::write(&serving.model, &outputs),
    }?;
    // Only the model's own output has a column for each label, in their order.
    let labels: &[String] = match &about {
        About::Prepared => &description.labels,
        About::Tensors(_) | About::TextsOrImages(_) => &[],
    };
    let chosen = Outputs::choose(&request, given, labels)?;
    let mut response = chosen.response(&request, ServedModel::of(&serving.model))?;
    let truncated = match &about {
        About::TextsOrImages(asked) => mark_truncated(response.headers_mut(), &asked.texts),
        About::Tensors(_) | About::Prepared => 0,
    };
    Ok(Writing { response, inputs: outputs.len(), truncated })
}
