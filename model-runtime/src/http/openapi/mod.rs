//! `/openapi.json`: the interface as OpenAPI 3.1, made of the routes and of the types that they read and write.
//!
//! A route and its part of the document come from one line of [`router`](mod@super::router), so that no route can be missing. The document that is
//! served is about the model that is loaded: its task's requests and answers, and its own examples. It is open also where keys are
//! needed: it tells no more of the model than `/health` does, and nothing of clients.

mod errors;

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, ObjectBuilder, OpenApi, PathItem, RefOr, Required, Server};

pub(super) use errors::{
    IndexErrors, InferErrors, InfoErrors, KeyErrors, LivenessErrors, LoadErrors, ModelErrors,
    ModelReadinessErrors, PredictionErrors, ReadinessErrors,
};

use super::open_inference::signature;
use super::predict::schema;
use super::state::App;
use crate::serving::Serving;

/// The way to show a key, as the operations call it that want one.
const API_KEY: &str = "api_key";

const DESCRIPTION: &str = "\
Every error is JSON with `error`, for people, and `error_type`, for programs. Beyond the answers of the operations there are 404 `not_found`, \
405 `method_not_allowed` with `Allow`, and 431 without a body for a head over 64 KiB. `HEAD` is answered wherever `GET` is.";

const TAGS: [(&str, &str); 4] = [
    ("predictions", "What the model is there for."),
    (
        "open inference protocol",
        "The same in version 2 of that protocol, with extensions of Triton. A model's paths may name its version, too: `/v2/models/{name}/versions/{version}/…`.",
    ),
    ("probes", "What orchestrators, service registries and Prometheus ask. Never guarded by a key."),
    ("documentation", "The model and this interface."),
];

const TIMEOUT: &str = "Milliseconds in which the answer must come; at most the server's own limit.";
const JSON_LENGTH: (&str, Type, &str) = (
    "inference-header-content-length",
    Type::Integer,
    "How many bytes of the body are JSON, where binary data follow.",
);
const HEADERS_OF_A_PREDICTION: [(&str, Type, &str); 6] = [
    ("x-truncated", Type::Integer, "How many texts were cut; absent when none was."),
    ("x-truncated-inputs", Type::String, "Which, counted from 0, with commas."),
    ("x-total-time", Type::Number, "Milliseconds from the last byte of the request to the answer."),
    ("x-tokenization-time", Type::Number, "Milliseconds of these for tokenising, or for decoding images."),
    ("x-queue-time", Type::Number, "Milliseconds that the last input waited for the model."),
    ("x-inference-time", Type::Number, "Milliseconds of the longest batch that an input was in."),
];

/// The interface whatever the model, without what depends on it.
#[derive(Clone)]
pub(super) struct Document(Arc<OpenApi>);

impl Document {
    /// Completes what the routes say.
    pub(super) fn new(mut api: OpenApi) -> Self {
        api.info = InfoBuilder::new()
            .title(env!("CARGO_PKG_NAME"))
            .version(env!("CARGO_PKG_VERSION"))
            .description(Some(DESCRIPTION))
            .build();
        // Relative to the document, so that it is right behind a proxy's prefix, too.
        api.servers = Some(vec![Server::new(".")]);
        let tag = |(name, description)| {
            utoipa::openapi::tag::TagBuilder::new().name(name).description(Some(description)).build()
        };
        api.tags = Some(TAGS.map(tag).to_vec());
        let components = api.components.get_or_insert_with(Components::new);
        components.schemas.extend(errors::schemas());
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key from the server's --api-key-file. Servers without one want none."));
        components.add_security_scheme(API_KEY, SecurityScheme::Http(scheme.build()));
        for operation in api.paths.paths.values_mut().flat_map(operations) {
            complete(operation);
        }
        Self(Arc::new(api))
    }

    /// The document of a server with this model.
    fn about(&self, serving: Option<&Serving>) -> OpenApi {
        let mut api = OpenApi::clone(&self.0);
        if let Some(serving) = serving {
            let description = &serving.model.description;
            let task = description.task.kind();
            api.info.title = format!("{}: {}", env!("CARGO_PKG_NAME"), description.name());
            schema::narrow(&mut api, task);
            set_examples(&mut api, "/predict", &schema::examples(description));
            let infer = signature::example(description).map(|example| ("JSON", example));
            set_examples(&mut api, "/v2/models/{name}/infer", infer.as_slice());
        }
        api
    }
}

/// The interface as OpenAPI.
#[utoipa::path(get, path = "/openapi.json", tag = "documentation", responses((status = 200, description = "This document.", body = serde_json::Value)))]
pub(super) async fn openapi(
    State(app): State<Arc<App>>,
    Extension(document): Extension<Document>,
) -> Json<OpenApi> {
    Json(document.about(app.serving().as_deref()))
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [item.get.as_mut(), item.post.as_mut()].into_iter().flatten()
}

/// What every answer has, an id; and what every prediction has, a limit and its times.
fn complete(operation: &mut Operation) {
    if let Some(RefOr::T(body)) = &operation.request_body {
        let parameters = operation.parameters.get_or_insert_with(Vec::new);
        parameters.push(number_header("x-request-timeout-ms", TIMEOUT).into());
        let is_binary = body.content.contains_key("application/octet-stream");
        if is_binary {
            parameters.push(number_header(JSON_LENGTH.0, JSON_LENGTH.2).into());
        }
        if let Some(RefOr::T(answer)) = operation.responses.responses.get_mut("200") {
            let binary = is_binary.then_some(JSON_LENGTH);
            for (name, of, what) in HEADERS_OF_A_PREDICTION.into_iter().chain(binary) {
                answer.headers.insert(name.to_owned(), RefOr::T(errors::header(of, what)));
            }
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let id = errors::header(
                Type::String,
                "The client's `x-request-id`, or a new one; the log has it, too.",
            );
            response.headers.insert("x-request-id".to_owned(), RefOr::T(id));
        }
    }
}

/// A header of a request, which may be absent; if not, it is a number from 1 on.
fn number_header(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1))))
        .description(Some(description))
        .build()
}

fn set_examples(api: &mut OpenApi, path: &str, examples: &[(&'static str, serde_json::Value)]) {
    let operation = api.paths.paths.get_mut(path).and_then(|item| item.post.as_mut());
    let Some(RefOr::T(body)) = operation.and_then(|operation| operation.request_body.as_mut()) else {
        return;
    };
    if let Some(RefOr::T(content)) = body.content.get_mut("application/json") {
        let example = |(name, value): &(&str, serde_json::Value)| {
            ((*name).to_owned(), ExampleBuilder::new().value(Some(value.clone())).build().into())
        };
        content.examples = examples.iter().map(example).collect();
    }
}
