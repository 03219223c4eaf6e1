//! A tensor of the protocol: numbers, or byte strings.

use bytes::Bytes;

use super::super::array_json::Flat;
use super::super::error::ApiError;
use super::super::tensors::fits_json;
use super::bytes_elements;
use crate::backend::{Array, Datatype};

/// The protocol's datatype for strings of any length.
pub(super) const BYTES: &str = "BYTES";

/// What a tensor holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Numbers(Array),
    Strings { shape: Vec<usize>, elements: Vec<Bytes> },
}

/// A tensor with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) content: Content,
}

impl Content {
    /// Strings along one dimension.
    pub(super) fn strings(elements: impl IntoIterator<Item = impl Into<Bytes>>) -> Self {
        let elements: Vec<Bytes> = elements.into_iter().map(Into::into).collect();
        Self::Strings { shape: vec![elements.len()], elements }
    }

    pub(super) fn datatype(&self) -> &'static str {
        match self {
            Self::Numbers(array) => array.datatype().as_str(),
            Self::Strings { .. } => BYTES,
        }
    }

    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Numbers(array) => array.shape(),
            Self::Strings { shape, .. } => shape,
        }
    }

    /// The binary form: numbers as they lie in memory, strings each after its length.
    pub(super) fn to_binary(&self) -> Result<Bytes, ApiError> {
        match self {
            Self::Numbers(array) => Ok(array.bytes().clone()),
            Self::Strings { elements, .. } => {
                bytes_elements::write(elements).map(Bytes::from).map_err(ApiError::Internal)
            }
        }
    }

    /// From the binary form.
    ///
    /// # Errors
    /// The bytes are not those of a tensor of this datatype and shape.
    pub(super) fn from_binary(
        datatype: Option<Datatype>,
        shape: Vec<usize>,
        bytes: &Bytes,
    ) -> Result<Self, String> {
        match datatype {
            Some(datatype) => {
                let array = Array::new(datatype, shape, bytes.clone()).map_err(|error| error.to_string())?;
                let is_bool = |byte: &u8| *byte <= 1;
                match bytes.iter().position(|byte| !is_bool(byte)) {
                    // Another byte than these two is no bool to C++, and what it does with it is anyone's guess.
                    Some(place) if datatype == Datatype::Bool => {
                        Err(format!("byte {place} of a BOOL is neither 0 nor 1"))
                    }
                    _ => Ok(Self::Numbers(array)),
                }
            }
            None => {
                let count = shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
                let count = count.ok_or_else(|| format!("the shape {shape:?} is too large"))?;
                Ok(Self::Strings { elements: bytes_elements::read(bytes, count)?, shape })
            }
        }
    }

    /// The `data` of a tensor in JSON.
    ///
    /// # Errors
    /// Numbers or bytes that JSON cannot hold.
    pub(super) fn json_data(&self, name: &str) -> Result<JsonData<'_>, ApiError> {
        match self {
            Self::Numbers(array) => {
                fits_json(name, array)?;
                Ok(JsonData::Numbers(Flat(array)))
            }
            Self::Strings { elements, .. } => {
                let text = |(place, bytes)| {
                    std::str::from_utf8(bytes).map_err(|_| {
                        ApiError::Internal(format!(
                            "element {place} of output `{name}` is no text; ask for binary data"
                        ))
                    })
                };
                elements
                    .iter()
                    .enumerate()
                    .map(|(place, bytes)| text((place, bytes)))
                    .collect::<Result<_, _>>()
                    .map(JsonData::Strings)
            }
        }
    }
}

/// The elements of a tensor, ready to be written as one flat list.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum JsonData<'a> {
    Numbers(Flat<'a>),
    Strings(Vec<&'a str>),
}
