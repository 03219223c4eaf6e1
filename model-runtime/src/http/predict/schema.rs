//! The shapes of `/predict` in the OpenAPI document: each task has its own parameters and answers.
//!
//! They are written here and not derived, because what is read depends on the model ([`Parameters::set`](super::parameters)); a test holds both
//! together.

use serde_json::{Value, json};
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Ref, Schema,
    SchemaType, Type,
};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::backend::Datatype;
use crate::model::{Description, Extent, Form, TensorForm, TensorSpec};
use crate::task::classification::Scored;
use crate::task::token_classification::Entity;
use crate::task::{Function, Pooling, Strategy, Task, TaskKind};

/// What a client sends.
pub(super) struct PredictRequest;
/// What it gets.
pub(super) struct PredictAnswer;

/// The bytes of an image, as the body.
pub(super) struct ImageFile;

/// A task, and what its parts of the document are called.
struct Shape {
    task: TaskKind,
    request: &'static str,
    answer: &'static str,
}

const SHAPES: [Shape; 5] = [
    Shape {
        task: TaskKind::TokenClassification,
        request: "TokenClassificationRequest",
        answer: "TokenClassificationAnswer",
    },
    Shape {
        task: TaskKind::TextClassification,
        request: "TextClassificationRequest",
        answer: "TextClassificationAnswer",
    },
    Shape {
        task: TaskKind::FeatureExtraction,
        request: "FeatureExtractionRequest",
        answer: "FeatureExtractionAnswer",
    },
    Shape {
        task: TaskKind::ImageClassification,
        request: "ImageClassificationRequest",
        answer: "ImageClassificationAnswer",
    },
    Shape { task: TaskKind::Tensors, request: "TensorsRequest", answer: "TensorsAnswer" },
];

/// Says of a document that it is about a model of this task: `/predict` then takes and gives nothing else.
pub(in crate::http) fn narrow(document: &mut OpenApi, task: TaskKind) {
    let Some(shape) = SHAPES.iter().find(|shape| shape.task == task) else { return };
    let Some(components) = document.components.as_mut() else { return };
    for (general, own) in [(PredictRequest::name(), shape.request), (PredictAnswer::name(), shape.answer)] {
        components.schemas.insert(general.into_owned(), Ref::from_schema_name(own).into());
    }
    let operation = document.paths.paths.get_mut("/predict").and_then(|item| item.post.as_mut());
    let Some(RefOr::T(body)) = operation.and_then(|operation| operation.request_body.as_mut()) else {
        return;
    };
    body.content.retain(|kind, _| task == TaskKind::ImageClassification || kind == "application/json");
}

/// A black pixel, as PNG in Base64.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg==";

/// Requests that this model answers, each with its name.
pub(in crate::http) fn examples(model: &Description) -> Vec<(&'static str, Value)> {
    let (inputs, parameters) = match (&model.task, &model.form) {
        (Task::TokenClassification { .. }, _) => (texts(model), json!({"aggregation_strategy": "simple"})),
        (Task::TextClassification { .. }, _) => (texts(model), json!({"top_k": null})),
        (Task::FeatureExtraction { .. }, _) => (texts(model), json!({"pooling": "mean", "normalize": true})),
        (Task::ImageClassification { .. }, _) => (vec![json!(PIXEL)], json!({"top_k": 2})),
        (Task::Tensors, Form::Tensors(form)) => return vec![("zeros", json!({"inputs": zeros(form)}))],
        (Task::Tensors, Form::Text(_) | Form::Image(_)) => return Vec::new(),
    };
    let Some(first) = inputs.first() else { return Vec::new() };
    vec![
        ("one input", json!({"inputs": first})),
        ("several inputs", json!({"inputs": inputs})),
        ("with parameters", json!({"inputs": first, "parameters": parameters})),
    ]
}

fn texts(model: &Description) -> Vec<Value> {
    model.examples.iter().map(|text| json!(text)).collect()
}

/// One row, by the inputs' names.
fn zeros(form: &TensorForm) -> Value {
    let nested = |spec: &TensorSpec| {
        let zero = if spec.datatype == Datatype::Bool { json!(false) } else { json!(0) };
        spec.shape.iter().rev().fold(zero, |inner, extent| match extent {
            Extent::Fixed(length) => Value::Array(vec![inner; *length]),
            Extent::Any => Value::Array(vec![inner]),
        })
    };
    form.inputs.iter().map(|spec| (spec.name.clone(), nested(spec))).collect::<serde_json::Map<_, _>>().into()
}

impl ToSchema for ImageFile {}

impl PartialSchema for ImageFile {
    fn schema() -> RefOr<Schema> {
        // In OpenAPI 3.1 bytes that are no text have no type.
        ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some("The file.")).into()
    }
}

impl ToSchema for PredictRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.extend([
            (Strategy::name().into_owned(), Strategy::schema()),
            (Function::name().into_owned(), Function::schema()),
            (Pooling::name().into_owned(), Pooling::schema()),
        ]);
        schemas.extend(SHAPES.map(|shape| (shape.request.to_owned(), request(shape.task).into())));
    }
}

impl PartialSchema for PredictRequest {
    fn schema() -> RefOr<Schema> {
        any_of(SHAPES.map(|shape| Ref::from_schema_name(shape.request).into()))
    }
}

impl ToSchema for PredictAnswer {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.extend([
            (Entity::name().into_owned(), Entity::schema()),
            (Scored::name().into_owned(), Scored::schema()),
        ]);
        schemas.extend(SHAPES.map(|shape| (shape.answer.to_owned(), answer(shape.task))));
    }
}

impl PartialSchema for PredictAnswer {
    fn schema() -> RefOr<Schema> {
        any_of(SHAPES.map(|shape| Ref::from_schema_name(shape.answer).into()))
    }
}

fn request(task: TaskKind) -> Schema {
    let options = ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some("What clients of Hugging Face's hosted service send. Nothing in it is looked at."));
    ObjectBuilder::new()
        .property("inputs", inputs(task))
        .required("inputs")
        .property("parameters", parameters(task))
        .property("options", options)
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .into()
}

fn inputs(task: TaskKind) -> RefOr<Schema> {
    let what = match task {
        TaskKind::TokenClassification | TaskKind::TextClassification | TaskKind::FeatureExtraction => {
            "One text, answered alone, or several, answered by a list in the same order."
        }
        TaskKind::ImageClassification => {
            "One image (JPEG, PNG or WebP) in Base64, answered alone, or several, answered by a list in the same order."
        }
        TaskKind::Tensors => {
            let named = ObjectBuilder::new().schema_type(Type::Object);
            let nested = ArrayBuilder::new().items(ObjectBuilder::new().schema_type(SchemaType::AnyValue));
            let what = "Nested lists of numbers by the inputs' names, or, of a model with one input, its lists alone.";
            return OneOfBuilder::new().item(named).item(nested).description(Some(what)).into();
        }
    };
    let one = || ObjectBuilder::new().schema_type(Type::String).build();
    let several = ArrayBuilder::new().items(one()).min_items(Some(1));
    OneOfBuilder::new().item(one()).item(several).description(Some(what)).into()
}

fn parameters(task: TaskKind) -> Object {
    let described = |schema: &str, text: &str| {
        Ref::builder().ref_location_from_schema_name(schema).description(Some(text))
    };
    let flag =
        |text: &str| ObjectBuilder::new().schema_type(Type::Boolean).description(Some(text.to_owned()));
    let count = |text: &str| {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
            .minimum(Some(1))
            .description(Some(text.to_owned()))
    };
    let function =
        || described(&Function::name(), "How the model's numbers become scores; its own way unless given.");
    let none = || {
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
    };
    let of_texts = || {
        let cut = "Whether a text that is too long is cut (and the answer says so in its headers), or refused with 422.";
        none().property("truncate", flag(cut).default(Some(json!(true))))
    };
    match task {
        TaskKind::TokenClassification => {
            let labels = ArrayBuilder::new()
                .items(ObjectBuilder::new().schema_type(Type::String))
                .description(Some("Labels to leave out."))
                .default(Some(json!(["O"])));
            let strategy =
                described(&Strategy::name(), "How tokens become entities; the model's own way unless given.");
            of_texts().property("aggregation_strategy", strategy).property("ignore_labels", labels)
        }
        TaskKind::TextClassification => {
            let count = count(
                "So many labels, best first, in a list for each text; null for all; without it the best one.",
            );
            of_texts().property("top_k", count).property("function_to_apply", function())
        }
        TaskKind::FeatureExtraction => {
            let pooling = described(
                &Pooling::name(),
                "How the tokens' vectors become the text's; the model's own way unless given.",
            );
            of_texts()
                .property("pooling", pooling)
                .property("normalize", flag("Whether vectors get the length 1."))
        }
        TaskKind::ImageClassification => none()
            .property("top_k", count("So many labels, best first."))
            .property("function_to_apply", function()),
        TaskKind::Tensors => none(),
    }
    .build()
}

fn answer(task: TaskKind) -> RefOr<Schema> {
    let list = |item: RefOr<Schema>| -> RefOr<Schema> { ArrayBuilder::new().items(item).into() };
    let number = || -> RefOr<Schema> { ObjectBuilder::new().schema_type(Type::Number).into() };
    let one = match task {
        TaskKind::TokenClassification => list(Ref::from_schema_name(Entity::name()).into()),
        TaskKind::TextClassification | TaskKind::ImageClassification => {
            list(Ref::from_schema_name(Scored::name()).into())
        }
        // Of a text, or a list of one with a vector for each token.
        TaskKind::FeatureExtraction => any_of([list(number()), list(list(list(number())))]),
        TaskKind::Tensors => {
            let what = "Nested lists by the outputs' names; of a model with one output, asked without names, its lists alone.";
            return ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some(what)).into();
        }
    };
    any_of([one.clone(), list(one)])
}

/// Any, and not one of: an empty list is as good an answer to one text as to several.
fn any_of(schemas: impl IntoIterator<Item = RefOr<Schema>>) -> RefOr<Schema> {
    schemas.into_iter().fold(AnyOfBuilder::new(), AnyOfBuilder::item).into()
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Parameters;
    use super::*;

    const TASKS: [Task; 4] = [
        Task::TokenClassification { aggregation: Strategy::None },
        Task::TextClassification { function: Function::Softmax },
        Task::FeatureExtraction { pooling: Pooling::None, normalize: false },
        Task::ImageClassification { function: Function::Softmax },
    ];

    /// A value for each parameter that there is.
    fn value(name: &str) -> Value {
        match name {
            "truncate" | "normalize" => json!(true),
            "aggregation_strategy" => json!("first"),
            "ignore_labels" => json!(["O"]),
            "top_k" => json!(2),
            "function_to_apply" => json!("sigmoid"),
            "pooling" => json!("cls"),
            unknown => panic!("`{unknown}` is documented, but this test has no value for it"),
        }
    }

    #[test]
    fn the_parameters_that_are_documented_are_those_that_are_read() {
        for task in TASKS {
            let documented = parameters(task.kind()).properties;
            for name in documented.keys() {
                assert_eq!(Parameters::of(&task).set(name, &value(name)), Ok(()), "{name}");
            }
            let known = Parameters::of(&task).set("no such parameter", &Value::Null).unwrap_err();
            for name in [
                "aggregation_strategy",
                "ignore_labels",
                "top_k",
                "function_to_apply",
                "pooling",
                "normalize",
                "truncate",
            ] {
                assert_eq!(known.contains(name), documented.contains_key(name), "{name}: {known}");
            }
        }
    }
}
