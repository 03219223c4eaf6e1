//! `POST /predict`, in the shape of Hugging Face's pipelines.

pub(super) mod images;
pub(super) mod parameters;
mod request;
pub(super) mod schema;
mod tensors;
mod texts_and_images;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Request as HttpRequest};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use self::request::Request;
use self::schema::{ImageFile, PredictAnswer, PredictRequest};
use super::body::{self, Received, media_type, read_json};
use super::deadline;
use super::error::ApiError;
use super::inference::{self, Reading, Writing, counted, infer};
use super::openapi::PredictionErrors;
use super::state::App;
use crate::backend::Output;
use crate::loading::Reader;
use crate::model::Form;
use crate::serving::Serving;
use crate::task::Task;

/// Answers texts, images or tensors, in the shape of Hugging Face's pipelines.
#[utoipa::path(
    post,
    path = "/predict",
    tag = "predictions",
    request_body(
        content((PredictRequest = "application/json"), (ImageFile = "image/jpeg"), (ImageFile = "image/png"), (ImageFile = "image/webp")),
        description = "Compressed with gzip or deflate (`content-encoding`), or not at all.",
    ),
    responses(
        (status = 200, description = "The answer to one input, or a list of those to several.", body = PredictAnswer),
        PredictionErrors,
    ),
    security((), ("api_key" = []))
)]
pub(super) async fn predict(State(app): State<Arc<App>>, request: HttpRequest<Body>) -> Response {
    counted(&app, respond(&app, request)).await
}

async fn respond(app: &Arc<App>, request: HttpRequest<Body>) -> Result<Response, ApiError> {
    let serving = inference::serving(app)?;
    let limit = deadline::of(request.headers(), serving.settings.tunables.request_timeout)?;
    let sent = receive(app, &serving, request).await?;
    infer(app, serving, limit, move |serving| read(serving, sent), write).await
}

/// The body of a request.
enum Sent {
    /// `{"inputs": …, "parameters": …}`
    Json(Received),
    /// An image file.
    Image(Received),
}

async fn receive(app: &App, serving: &Serving, request: HttpRequest<Body>) -> Result<Sent, ApiError> {
    let Reader::Image(_) = &serving.model.reader else {
        return read_json(app, serving, request).await.map(Sent::Json);
    };
    match media_type(request.headers()) {
        Some(kind) if images::MEDIA_TYPES.contains(&kind.as_str()) => {
            body::read(app, serving, request).await.map(Sent::Image)
        }
        _ => match read_json(app, serving, request).await {
            Err(ApiError::MediaType(found)) => Err(ApiError::NoImageType(found)),
            read => read.map(Sent::Json),
        },
    }
}

/// What is asked, by the form of the model.
enum Asked {
    TextsOrImages(texts_and_images::Asked),
    Tensors(tensors::Asked),
}

fn read(serving: &Serving, sent: Sent) -> Result<Reading<Asked>, ApiError> {
    let task = &serving.model.description.task;
    let request = match (sent, &serving.model.description.form) {
        (Sent::Json(body), Form::Tensors(form)) => {
            return Ok(tensors::read(serving, form, &body.decode()?)?.map(Asked::Tensors));
        }
        (Sent::Json(body), Form::Text(_) | Form::Image(_)) => Request::of_inputs(&body.decode()?, task)?,
        (Sent::Image(file), _) => Request::of_file(file.decode()?, task),
    };
    Ok(texts_and_images::read(serving, &request)?.map(Asked::TextsOrImages))
}

fn write(serving: &Serving, asked: Asked, outputs: Vec<Option<Output>>) -> Result<Writing, ApiError> {
    match (asked, &serving.model.description.form) {
        (Asked::TextsOrImages(asked), _) => texts_and_images::write(serving, asked, &outputs),
        (Asked::Tensors(asked), Form::Tensors(form)) => tensors::write(form, &asked, &outputs),
        (Asked::Tensors(_), Form::Text(_) | Form::Image(_)) => {
            Err(ApiError::Internal("tensors were read for a model of something else".to_owned()))
        }
    }
}

fn json_response(answer: &impl Serialize) -> Result<Response, ApiError> {
    let json = serde_json::to_vec(answer)
        .map_err(|error| ApiError::Internal(format!("cannot write the answer: {error}")))?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response())
}

/// Reads a request as the server does before it looks at the model, for fuzzing.
pub(super) fn parse(body: &[u8], task: &Task, form: &Form) -> Result<(), ApiError> {
    match form {
        Form::Text(_) | Form::Image(_) => Request::of_inputs(body, task).map(|_| ()),
        Form::Tensors(form) => {
            let request = Request::of_tensors(body, task)?;
            tensors::Inputs::parse(request.inputs, form)?.arrays(form).map(|_| ())
        }
    }
}
