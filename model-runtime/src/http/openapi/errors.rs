//! Which errors an operation can answer.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, schema::Type,
};
use utoipa::{IntoResponses, PartialSchema as _, ToSchema as _};

use super::super::error::{ErrorBody, ErrorType};

type Responses = BTreeMap<String, RefOr<Response>>;

/// Sets of errors, to be named among the answers of an operation.
macro_rules! errors {
    ($($(#[$doc:meta])+ $name:ident: $($error:ident)+;)+) => {$(
        $(#[$doc])+
        pub(in crate::http) struct $name;

        impl IntoResponses for $name {
            fn responses() -> Responses {
                responses(&[$(ErrorType::$error),+])
            }
        }
    )+};
}

errors! {
    /// Those of a prediction.
    PredictionErrors: InvalidJson InvalidRequest Unauthorized RequestTimeout PayloadTooLarge UnsupportedMediaType Validation Overloaded
        Inference Internal DeadlineExceeded OutOfMemory Poisoned Loading Draining;
    /// Those of a prediction whose path names the model.
    InferErrors: InvalidJson InvalidRequest Unauthorized NotFound RequestTimeout PayloadTooLarge UnsupportedMediaType Validation Overloaded
        Inference Internal DeadlineExceeded OutOfMemory Poisoned Loading Draining;
    /// What is wrong without a key.
    KeyErrors: Unauthorized;
    /// Those of `/info`.
    InfoErrors: Unauthorized Loading;
    /// Those of the list of models.
    IndexErrors: Unauthorized Loading;
    /// Those of a model's metadata.
    ModelErrors: Unauthorized NotFound Loading;
    /// Why a model is not ready.
    ModelReadinessErrors: NotFound Loading Draining Unhealthy;
    /// Why clients load no models.
    LoadErrors: Unauthorized NotImplemented;
    /// Why the server is not alive.
    LivenessErrors: Unhealthy;
    /// Why it is not ready.
    ReadinessErrors: Loading Draining Unhealthy;
}

/// An answer for each status, which names the types of errors that have it.
fn responses(types: &[ErrorType]) -> Responses {
    let mut by_status: BTreeMap<String, Vec<ErrorType>> = BTreeMap::new();
    for error_type in types {
        by_status.entry(error_type.status().as_str().to_owned()).or_default().push(*error_type);
    }
    by_status.into_iter().map(|(status, types)| (status, response(&types).into())).collect()
}

fn response(types: &[ErrorType]) -> Response {
    let names: Vec<String> = types
        .iter()
        .filter_map(|error_type| Some(format!("`{}`", serde_json::to_value(error_type).ok()?.as_str()?)))
        .collect();
    let example = json!({"error": "what is wrong, and what to do", "error_type": types.first()});
    let body = Ref::from_schema_name(ErrorBody::name());
    let body = ContentBuilder::new().schema(Some(body)).example(Some(example)).build();
    let mut response = ResponseBuilder::new().description(names.join(", ")).content("application/json", body);
    if types.iter().any(|error_type| error_type.passes()) {
        response = response.header("Retry-After", header(Type::Integer, "Seconds after which to try again."));
    }
    if types.contains(&ErrorType::Unauthorized) {
        response = response.header("WWW-Authenticate", header(Type::String, "`Bearer`."));
    }
    response.build()
}

pub(super) fn header(of: Type, description: &str) -> utoipa::openapi::Header {
    let schema = ObjectBuilder::new().schema_type(of);
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// The parts of the document that errors refer to.
pub(super) fn schemas() -> Vec<(String, RefOr<utoipa::openapi::Schema>)> {
    let mut schemas = vec![(ErrorBody::name().into_owned(), ErrorBody::schema())];
    ErrorBody::schemas(&mut schemas);
    schemas
}
