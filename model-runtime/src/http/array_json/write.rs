//! From the elements of an array to JSON. Numbers are written with as many digits as it takes to read the same ones again.

use half::{bf16, f16};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::backend::{Array, Datatype};

/// All elements in one list, row by row.
pub(in crate::http) struct Flat<'a>(pub(in crate::http) &'a Array);

/// Lists in lists, as the shape says; an array without dimensions is its only number.
pub(in crate::http) struct Nested<'a>(pub(in crate::http) &'a Array);

/// The first element (counted row by row) that JSON has no number for: NaN, or infinite.
pub(in crate::http) fn first_not_finite(array: &Array) -> Option<usize> {
    let bytes = array.bytes().as_ref();
    match array.datatype() {
        Datatype::Fp16 => position(bytes, |bytes| !f16::from_le_bytes(bytes).is_finite()),
        Datatype::Bf16 => position(bytes, |bytes| !bf16::from_le_bytes(bytes).is_finite()),
        Datatype::Fp32 => position(bytes, |bytes| !f32::from_le_bytes(bytes).is_finite()),
        Datatype::Fp64 => position(bytes, |bytes| !f64::from_le_bytes(bytes).is_finite()),
        Datatype::Bool
        | Datatype::Uint8
        | Datatype::Int8
        | Datatype::Int16
        | Datatype::Int32
        | Datatype::Int64 => None,
    }
}

fn position<const N: usize>(bytes: &[u8], is_wanted: impl Fn([u8; N]) -> bool) -> Option<usize> {
    bytes.as_chunks::<N>().0.iter().position(|element| is_wanted(*element))
}

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(array) = self;
        elements(array.datatype(), array.bytes(), serializer)
    }
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(array) = self;
        Part { datatype: array.datatype(), shape: array.shape(), bytes: array.bytes() }.serialize(serializer)
    }
}

/// What lies at one place of an array: a list, or an element.
struct Part<'a> {
    datatype: Datatype,
    shape: &'a [usize],
    bytes: &'a [u8],
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { datatype, bytes, .. } = *self;
        match self.shape {
            [] => element(datatype, bytes, serializer),
            [_] => elements(datatype, bytes, serializer),
            [length, shape @ ..] => {
                let size = bytes.len().checked_div(*length).unwrap_or_default();
                let part = |index: usize| bytes.get(index * size..(index + 1) * size).unwrap_or_default();
                let parts = (0..*length).map(|index| Part { datatype, shape, bytes: part(index) });
                serializer.collect_seq(parts)
            }
        }
    }
}

fn element<S: Serializer>(datatype: Datatype, bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match datatype {
        Datatype::Bool => only(bytes, |[byte]: [u8; 1]| byte != 0, serializer),
        Datatype::Uint8 => only(bytes, u8::from_le_bytes, serializer),
        Datatype::Int8 => only(bytes, i8::from_le_bytes, serializer),
        Datatype::Int16 => only(bytes, i16::from_le_bytes, serializer),
        Datatype::Int32 => only(bytes, i32::from_le_bytes, serializer),
        Datatype::Int64 => only(bytes, i64::from_le_bytes, serializer),
        Datatype::Fp16 => only(bytes, |bytes| f16::from_le_bytes(bytes).to_f32(), serializer),
        Datatype::Bf16 => only(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32(), serializer),
        Datatype::Fp32 => only(bytes, f32::from_le_bytes, serializer),
        Datatype::Fp64 => only(bytes, f64::from_le_bytes, serializer),
    }
}

fn elements<S: Serializer>(datatype: Datatype, bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let count = bytes.len() / datatype.size();
    let mut list = serializer.serialize_seq(Some(count))?;
    for bytes in bytes.chunks_exact(datatype.size()) {
        list.serialize_element(&Part { datatype, shape: &[], bytes })?;
    }
    list.end()
}

/// An array has all the bytes of its elements, so that there is one.
fn only<S: Serializer, T: Serialize, const N: usize>(
    bytes: &[u8],
    number: impl Fn([u8; N]) -> T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match bytes.first_chunk::<N>() {
        Some(bytes) => number(*bytes).serialize(serializer),
        None => serializer.serialize_unit(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(array: &Array) -> (String, String) {
        (serde_json::to_string(&Flat(array)).unwrap(), serde_json::to_string(&Nested(array)).unwrap())
    }

    #[test]
    fn an_array_is_written_flat_or_nested() {
        let array = Array::from_f32(vec![2, 1, 2], &[1.0, 0.1, -3.5, 4e20]).unwrap();
        let (flat, nested) = json(&array);
        assert_eq!(flat, "[1.0,0.1,-3.5,4e+20]");
        assert_eq!(nested, "[[[1.0,0.1]],[[-3.5,4e+20]]]");
        let single = Array::from_f32(Vec::new(), &[2.5]).unwrap();
        assert_eq!(json(&single), ("[2.5]".to_owned(), "2.5".to_owned()));
        let empty = Array::zeros(Datatype::Bool, vec![2, 0, 3]).unwrap();
        assert_eq!(json(&empty), ("[]".to_owned(), "[[],[]]".to_owned()));
    }

    #[test]
    fn what_json_has_no_number_for_is_found() {
        let array = Array::from_f32(vec![3], &[1.0, f32::NEG_INFINITY, f32::NAN]).unwrap();
        assert_eq!(first_not_finite(&array), Some(1));
        assert_eq!(first_not_finite(&Array::from_f32(vec![1], &[1.0]).unwrap()), None);
        assert_eq!(first_not_finite(&Array::zeros(Datatype::Int64, vec![3]).unwrap()), None);
    }
}
