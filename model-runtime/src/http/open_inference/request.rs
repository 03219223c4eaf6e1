//! The body of an inference request: a JSON object, and after it the binary data of those inputs that say so.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::array_json::{read_array, read_strings};
use super::super::body::parse_object;
use super::super::error::ApiError;
use super::tensor::{BYTES, Content, Tensor};
use crate::backend::Datatype;

const EXAMPLE: &str =
    r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0.5, 1.5]}]}"#;

/// A request that keeps to the protocol; whether it suits the model is another question.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::http) struct InferRequest {
    /// The client's name for it, given back in the answer.
    pub(super) id: Option<String>,
    /// How long the client waits, from the parameter `timeout`.
    pub(super) timeout: Option<Duration>,
    /// The parameters that are not the protocol's own.
    pub(super) parameters: Map<String, Value>,
    pub(super) inputs: Vec<Tensor>,
    /// What is asked for; nothing: all that the model gives.
    pub(super) outputs: Option<Vec<RequestedOutput>>,
    /// Whether outputs come as binary data, unless they say otherwise.
    pub(super) binary_output: bool,
}

/// An output that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestedOutput {
    pub(super) name: String,
    /// Whether it comes as binary data.
    pub(super) binary: bool,
    /// The so many highest values of each row instead of all (Triton's extension "classification").
    pub(super) classes: Option<usize>,
}

/// A request to a model.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferRequest)]
#[serde(deny_unknown_fields)]
pub(super) struct Body<'a> {
    /// Comes back with the answer.
    #[serde(default)]
    id: Option<String>,
    /// Those of `/predict`; `timeout` in microseconds; `binary_data_output`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
    #[serde(borrow)]
    #[schema(min_items = 1)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    outputs: Option<Vec<Output>>,
    /// The path says which model; some clients repeat it here.
    #[serde(default, rename = "model_name")]
    #[schema(value_type = Option<Value>)]
    _model_name: Option<IgnoredAny>,
    #[serde(default, rename = "model_version")]
    #[schema(value_type = Option<Value>)]
    _model_version: Option<IgnoredAny>,
}

/// A tensor of a request.
#[derive(Deserialize, ToSchema)]
#[schema(as = InferInput)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    name: String,
    #[schema(value_type = Vec<usize>)]
    shape: Vec<i64>,
    datatype: String,
    /// `binary_data_size`, where the data follow the JSON.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
    /// The elements, flat or nested.
    #[serde(default, borrow)]
    #[schema(value_type = Option<Vec<Value>>)]
    data: Option<&'a RawValue>,
}

/// A tensor that is asked for.
#[derive(Deserialize, ToSchema)]
#[schema(as = RequestedOutput)]
#[serde(deny_unknown_fields)]
struct Output {
    name: String,
    /// `binary_data`, `classification`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Option<Map<String, Value>>,
}

impl InferRequest {
    /// Reads a body whose first `json_length` bytes are the JSON object; all of it where that is not said.
    ///
    /// # Errors
    /// What in it is not as the protocol says.
    pub(in crate::http) fn parse(body: &Bytes, json_length: Option<usize>) -> Result<Self, ApiError> {
        let json_length = json_length.unwrap_or(body.len());
        if json_length > body.len() {
            return Err(ApiError::WrongShape(format!(
                "Inference-Header-Content-Length is {json_length}, but the body has only {} bytes",
                body.len()
            )));
        }
        let (mut binary, json) = (body.slice(json_length..), body.slice(..json_length));
        let parsed: Body = parse_object(&json, EXAMPLE)?;
        let mut inputs = Vec::with_capacity(parsed.inputs.len());
        for input in parsed.inputs {
            let name = input.name.clone();
            let tensor = input.read(&mut binary);
            inputs.push(tensor.map_err(|problem| ApiError::Unusable(format!("input `{name}`: {problem}")))?);
        }
        if !binary.is_empty() {
            return Err(ApiError::Unusable(format!(
                "{} bytes are left over after the binary data of all inputs; check `binary_data_size` and Inference-Header-Content-Length",
                binary.len()
            )));
        }
        let mut parameters = parsed.parameters.unwrap_or_default();
        let timeout = timeout(parameters.remove("timeout"))?;
        let binary_output =
            flag("parameters.binary_data_output", parameters.remove("binary_data_output"))?.unwrap_or(false);
        let requested = |output: Output| output.requested(binary_output);
        // Triton's clients write an empty list where nothing is asked for.
        let outputs = parsed.outputs.filter(|outputs| !outputs.is_empty());
        let outputs = outputs.map(|outputs| outputs.into_iter().map(requested).collect()).transpose()?;
        Ok(Self { id: parsed.id, timeout, parameters, inputs, outputs, binary_output })
    }
}

impl Input<'_> {
    /// The tensor; its binary data are taken off the front of `binary`.
    fn read(self, binary: &mut Bytes) -> Result<Tensor, String> {
        let negative = |length: &i64| {
            format!("the shape {:?} has the length {length}; lengths count from 0", self.shape)
        };
        let shape = self.shape.iter().map(|length| usize::try_from(*length).map_err(|_| negative(length)));
        let shape = shape.collect::<Result<Vec<_>, _>>()?;
        let datatype = datatype(&self.datatype)?;
        let content = match (binary_size(self.parameters.unwrap_or_default())?, self.data) {
            (Some(size), None) if size <= binary.len() => {
                Content::from_binary(datatype, shape, &binary.split_to(size))?
            }
            (Some(size), None) => {
                return Err(format!(
                    "binary_data_size is {size}, but only {} bytes of the body are left",
                    binary.len()
                ));
            }
            (None, Some(data)) => match datatype {
                Some(datatype) => Content::Numbers(
                    read_array(data, datatype, shape).map_err(|error| format!("data: {error}"))?,
                ),
                None => {
                    let elements = read_strings(data, &shape).map_err(|error| format!("data: {error}"))?;
                    Content::Strings { shape, elements }
                }
            },
            (Some(_), Some(_)) => {
                return Err("it has both `data` and `binary_data_size`; send one of them".to_owned());
            }
            (None, None) => {
                return Err("it has neither `data` nor `binary_data_size`; send one of them".to_owned());
            }
        };
        Ok(Tensor { name: self.name, content })
    }
}

/// `None` are BYTES.
fn datatype(name: &str) -> Result<Option<Datatype>, String> {
    if name == BYTES {
        return Ok(None);
    }
    Datatype::from_name(name).map(Some).ok_or_else(|| {
        let known: Vec<&str> = Datatype::ALL.iter().map(|datatype| datatype.as_str()).collect();
        format!("the datatype `{name}` is not known here; known are {} and {BYTES}", known.join(", "))
    })
}

fn binary_size(parameters: Map<String, Value>) -> Result<Option<usize>, String> {
    let mut size = None;
    for (name, value) in parameters {
        match name.as_str() {
            "binary_data_size" => {
                let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
                size =
                    Some(number.ok_or_else(|| {
                        format!("binary_data_size is {value}; it must be a number of bytes")
                    })?);
            }
            // MLServer's clients name their codec; here the datatype says enough.
            "content_type" => {}
            _ if name.starts_with("shared_memory_") => {
                return Err("shared memory is not served; send the data with the request".to_owned());
            }
            _ => return Err(format!("its parameter `{name}` is not known; known is binary_data_size")),
        }
    }
    Ok(size)
}

impl Output {
    fn requested(self, binary_output: bool) -> Result<RequestedOutput, ApiError> {
        let (name, mut binary, mut classes) = (self.name, binary_output, None);
        for (parameter, value) in self.parameters.unwrap_or_default() {
            match parameter.as_str() {
                "binary_data" => binary = flag("binary_data", Some(value))?.unwrap_or(binary),
                "classification" => {
                    let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
                    classes = Some(count.filter(|count| *count > 0).ok_or_else(|| {
                        ApiError::Unusable(format!(
                            "output `{name}`: classification is {value}; it must be a number from 1 on"
                        ))
                    })?);
                }
                _ => {
                    return Err(ApiError::Unusable(format!(
                        "output `{name}`: the parameter `{parameter}` is not known; known are binary_data and classification"
                    )));
                }
            }
        }
        Ok(RequestedOutput { name, binary, classes })
    }
}

fn flag(name: &str, value: Option<Value>) -> Result<Option<bool>, ApiError> {
    value.map_or(Ok(None), |value| {
        let wrong = || ApiError::Unusable(format!("`{name}` is {value}; it must be true or false"));
        value.as_bool().map(Some).ok_or_else(wrong)
    })
}

/// In microseconds, as Triton has it; 0 is none.
fn timeout(value: Option<Value>) -> Result<Option<Duration>, ApiError> {
    value.map_or(Ok(None), |value| {
        let wrong = || {
            ApiError::Unusable(format!(
                "`parameters.timeout` is {value}; it must be a number of microseconds"
            ))
        };
        let microseconds = value.as_u64().ok_or_else(wrong)?;
        Ok(Some(Duration::from_micros(microseconds)).filter(|timeout| !timeout.is_zero()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(json: &Value, binary: &[u8]) -> Result<InferRequest, ApiError> {
        let json = json.to_string().into_bytes();
        let length = json.len();
        InferRequest::parse(&Bytes::from([json.as_slice(), binary].concat()), Some(length))
    }

    fn input(datatype: &str, shape: Value, more: Value) -> Value {
        let mut input = json!({"name": "x", "datatype": datatype, "shape": shape});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"inputs": [input]})
    }

    fn error(json: &Value, binary: &[u8]) -> String {
        parse(json, binary).unwrap_err().to_string()
    }

    #[test]
    fn json_and_binary_data_are_the_same_tensor_and_binary_is_not_copied() {
        let json = parse(&input("INT16", json!([1, 2]), json!({"data": [[1, 258]]})), &[]).unwrap();
        let body = input("INT16", json!([1, 2]), json!({"parameters": {"binary_data_size": 4}})).to_string();
        let whole = Bytes::from([body.as_bytes(), &[1, 0, 2, 1]].concat());
        let binary = InferRequest::parse(&whole, Some(body.len())).unwrap();
        assert_eq!(binary.inputs, json.inputs);
        let Content::Numbers(array) = &binary.inputs[0].content else { unreachable!("INT16 are numbers") };
        assert_eq!(array.bytes().as_ptr(), whole[body.len()..].as_ptr());
    }

    #[test]
    fn binary_parts_follow_in_the_order_of_the_inputs() {
        let request = json!({"id": "7", "inputs": [
            {"name": "a", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
            {"name": "b", "datatype": "INT8", "shape": [1], "data": [5]},
            {"name": "c", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}},
        ]});
        let request = parse(&request, b"\x01\0\0\0x\x01\0\0\0y\x00\x01").unwrap();
        assert_eq!(request.id.as_deref(), Some("7"));
        assert_eq!(request.inputs[0].content, Content::strings(["x", "y"]));
        assert_eq!(request.inputs[2].content.to_binary().unwrap().as_ref(), [0, 1]);
    }

    #[test]
    fn data_that_do_not_fit_are_named() {
        let size = |size: u64| json!({"parameters": {"binary_data_size": size}});
        assert!(error(&input("FP32", json!([2]), size(8)), &[0; 7]).contains("only 7 bytes"));
        assert!(error(&input("FP32", json!([2]), size(7)), &[0; 7]).contains("has 8 bytes, not 7"));
        assert!(error(&input("FP32", json!([1]), size(4)), &[0; 5]).contains("1 bytes are left over"));
        assert!(error(&input("BOOL", json!([2]), size(2)), &[1, 2]).contains("byte 1 of a BOOL"));
        assert!(error(&input("FP32", json!([-1]), size(4)), &[0; 4]).contains("has the length -1"));
        let huge = json!([i64::MAX, i64::MAX]);
        assert!(error(&input("FP32", huge.clone(), size(4)), &[0; 4]).contains("too large"));
        assert!(error(&input("BYTES", huge.clone(), size(4)), &[0; 4]).contains("too large"));
        assert!(error(&input("INT8", huge, json!({"data": [1]})), &[]).contains("too large"));
        assert!(error(&input("UINT32", json!([1]), json!({"data": [1]})), &[]).contains("UINT32"));
        assert!(
            error(&input("INT8", json!([2]), json!({"data": [1, 200]})), &[])
                .contains("input `x`: data: [1]: ")
        );
        assert!(error(&input("INT8", json!([1]), json!({})), &[]).contains("neither"));
        let both = json!({"data": [1], "parameters": {"binary_data_size": 1}});
        assert!(error(&input("INT8", json!([1]), both), &[1]).contains("both"));
        let shared = json!({"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4}});
        assert!(error(&input("INT8", json!([1]), shared), &[]).contains("shared memory"));
    }

    #[test]
    fn the_protocols_parameters_are_taken_and_the_others_left_to_the_task() {
        let request = json!({"inputs": [], "parameters": {"timeout": 1500, "binary_data_output": true, "top_k": 3},
            "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": false, "classification": 2}}]});
        let request = parse(&request, &[]).unwrap();
        assert_eq!(request.timeout, Some(Duration::from_micros(1500)));
        assert_eq!(request.parameters.keys().collect::<Vec<_>>(), ["top_k"]);
        let output = |name: &str, binary, classes| RequestedOutput { name: name.to_owned(), binary, classes };
        assert_eq!(request.outputs, Some(vec![output("a", true, None), output("b", false, Some(2))]));
        assert!(
            error(&json!({"inputs": [], "parameters": {"timeout": "soon"}}), &[]).contains("microseconds")
        );
        let unknown = json!({"inputs": [], "outputs": [{"name": "a", "parameters": {"class": 1}}]});
        assert!(error(&unknown, &[]).contains("`class` is not known"));
    }

    #[test]
    fn what_is_not_the_protocols_shape_is_a_bad_request() {
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"inputs": {}}"#,
            r#"{"inputs": [], "imputs": 1}"#,
            r#"{"inputs": [{"name": "x"}]}"#,
        ] {
            let error = InferRequest::parse(&Bytes::from_static(wrong.as_bytes()), None).unwrap_err();
            assert!(matches!(error, ApiError::WrongShape(_) | ApiError::InvalidJson(_)), "{wrong}: {error}");
        }
        let beyond = InferRequest::parse(&Bytes::from_static(b"{}"), Some(3)).unwrap_err();
        assert!(beyond.to_string().contains("only 2 bytes"), "{beyond}");
    }
}
