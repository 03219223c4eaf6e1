//! From JSON to the elements of an array whose datatype and shape are known.
//!
//! The text is read straight into the array's bytes. Every number is converted as exactly as its datatype can hold it: integers of 64 bits
//! to the last digit, decimal fractions to the nearest number of 32 or 64 bits. What does not fit is refused with its place.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::backend::{Array, Datatype};

/// Data that are not those of an array of this datatype and shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", Place(place))]
pub(in crate::http) struct DataError {
    /// The index of the element, or of the list it should be in.
    place: Vec<usize>,
    problem: String,
}

/// As an index is written: `[0][3]`.
struct Place<'a>(&'a [usize]);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|index| write!(f, "[{index}]"))?;
        f.write_str(if self.0.is_empty() { "" } else { ": " })
    }
}

/// The array that these data are, nested as its shape says or flat.
pub(in crate::http) fn read_array(
    data: &RawValue,
    datatype: Datatype,
    shape: Vec<usize>,
) -> Result<Array, DataError> {
    let mut numbers = Numbers { datatype, bytes: Vec::new() };
    read(data, &shape, &mut numbers)?;
    let problem =
        |error: crate::backend::ArrayError| DataError { place: Vec::new(), problem: error.to_string() };
    Array::new(datatype, shape, Bytes::from(numbers.bytes)).map_err(problem)
}

/// The strings that these data are, nested as their shape says or flat.
pub(in crate::http) fn read_strings(data: &RawValue, shape: &[usize]) -> Result<Vec<Bytes>, DataError> {
    let mut strings = Strings(Vec::new());
    read(data, shape, &mut strings)?;
    Ok(strings.0)
}

/// The shape of nested lists, told from the first list of each level; reading them then finds out whether the others are alike.
pub(in crate::http) fn shape_of(data: &RawValue) -> Result<Vec<usize>, DataError> {
    let mut shape = Vec::new();
    let mut lists = serde_json::Deserializer::from_str(data.get());
    let measured = Measure(&mut shape).deserialize(&mut lists);
    measured.map_err(|error| DataError { place: Vec::new(), problem: reason(&error) })?;
    Ok(shape)
}

fn read(data: &RawValue, shape: &[usize], sink: &mut impl Sink) -> Result<(), DataError> {
    let mut place = Vec::new();
    let elements = shape.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
    let elements = elements.ok_or_else(|| DataError {
        place: Vec::new(),
        problem: format!("the shape {shape:?} is too large"),
    })?;
    let flat = [elements];
    let lengths = if opening_brackets(data.get()) == 1 { flat.as_slice() } else { shape };
    let lists = Lists { lengths, sink, place: &mut place };
    let read = lists.deserialize(&mut serde_json::Deserializer::from_str(data.get()));
    read.map_err(|error| DataError { place, problem: reason(&error) })
}

/// In how many lists the first element lies.
fn opening_brackets(json: &str) -> usize {
    json.bytes().filter(|byte| !byte.is_ascii_whitespace()).take_while(|byte| *byte == b'[').count()
}

/// What happened, without serde_json's place in the text: it counts from the start of the data, which nobody sees.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// What takes up the elements, one after the other.
trait Sink {
    fn take<'de, D: Deserializer<'de>>(&mut self, element: D) -> Result<(), D::Error>;
}

struct Numbers {
    datatype: Datatype,
    bytes: Vec<u8>,
}

impl Sink for Numbers {
    fn take<'de, D: Deserializer<'de>>(&mut self, element: D) -> Result<(), D::Error> {
        let too_large = || D::Error::custom(format!("too large for {}", self.datatype.as_str()));
        match self.datatype {
            Datatype::Bool => self.bytes.push(u8::from(bool::deserialize(element)?)),
            Datatype::Uint8 => self.bytes.extend(u8::deserialize(element)?.to_le_bytes()),
            Datatype::Int8 => self.bytes.extend(i8::deserialize(element)?.to_le_bytes()),
            Datatype::Int16 => self.bytes.extend(i16::deserialize(element)?.to_le_bytes()),
            Datatype::Int32 => self.bytes.extend(i32::deserialize(element)?.to_le_bytes()),
            Datatype::Int64 => self.bytes.extend(i64::deserialize(element)?.to_le_bytes()),
            Datatype::Fp16 => {
                let value = f16::from_f64(f64::deserialize(element)?);
                let finite = Some(value).filter(|value| value.is_finite()).ok_or_else(too_large)?;
                self.bytes.extend(finite.to_le_bytes());
            }
            Datatype::Bf16 => {
                let value = bf16::from_f64(f64::deserialize(element)?);
                let finite = Some(value).filter(|value| value.is_finite()).ok_or_else(too_large)?;
                self.bytes.extend(finite.to_le_bytes());
            }
            Datatype::Fp32 => {
                let value = f32::deserialize(element)?;
                let finite = Some(value).filter(|value| value.is_finite()).ok_or_else(too_large)?;
                self.bytes.extend(finite.to_le_bytes());
            }
            Datatype::Fp64 => self.bytes.extend(f64::deserialize(element)?.to_le_bytes()),
        }
        Ok(())
    }
}

struct Strings(Vec<Bytes>);

impl Sink for Strings {
    fn take<'de, D: Deserializer<'de>>(&mut self, element: D) -> Result<(), D::Error> {
        self.0.push(Bytes::from(String::deserialize(element)?));
        Ok(())
    }
}

/// Lists in lists of these lengths, or an element where none is left.
struct Lists<'a, S> {
    lengths: &'a [usize],
    sink: &'a mut S,
    place: &'a mut Vec<usize>,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Lists<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.lengths.is_empty() {
            self.sink.take(deserializer)
        } else {
            deserializer.deserialize_seq(self)
        }
    }
}

impl<'de, S: Sink> Visitor<'de> for Lists<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {} elements", self.lengths.first().unwrap_or(&0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((&length, lengths)) = self.lengths.split_first() else {
            return Err(A::Error::custom("a list where a number should be"));
        };
        // After an error the place stays as it is: it is where the error happened.
        for index in 0..length {
            self.place.push(index);
            let element = Lists { lengths, sink: &mut *self.sink, place: &mut *self.place };
            let found = list.next_element_seed(element)?;
            self.place.pop();
            if found.is_none() {
                return Err(A::Error::custom(format!(
                    "a list has {index} elements, not {length} as the shape says"
                )));
            }
        }
        match list.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom(format!(
                "a list has more than the {length} elements that the shape says"
            ))),
        }
    }
}

/// Goes down into the first element of each list and counts the others.
struct Measure<'a>(&'a mut Vec<usize>);

impl<'de> DeserializeSeed<'de> for Measure<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Measure<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, true, false, or a list of such")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let level = self.0.len();
        self.0.push(0);
        let mut length = 0;
        if list.next_element_seed(Measure(&mut *self.0))?.is_some() {
            length += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            length += 1;
        }
        if let Some(here) = self.0.get_mut(level) {
            *here = length;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        serde_json::from_str(json).unwrap()
    }

    fn array(json: &str, datatype: Datatype, shape: &[usize]) -> Result<Array, String> {
        read_array(&raw(json), datatype, shape.to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn nested_and_flat_data_are_the_same_array() {
        let nested = array("[[1, 2], [3, 4], [5, 6]]", Datatype::Int16, &[3, 2]).unwrap();
        assert_eq!(array(" [1,2,3,4,5,6]", Datatype::Int16, &[3, 2]).unwrap(), nested);
        assert_eq!(nested.bytes().as_ref(), [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
        assert!(
            array("[]", Datatype::Fp32, &[0, 3]).is_ok()
                && array("[[], []]", Datatype::Fp32, &[2, 0]).is_ok()
        );
        assert!(array("7.5", Datatype::Fp32, &[]).is_ok() && array("[7.5]", Datatype::Fp32, &[]).is_ok());
    }

    #[test]
    fn numbers_are_exact() {
        let bits = |json: &str, datatype| array(json, datatype, &[1]).unwrap().bytes().to_vec();
        assert_eq!(bits("[9007199254740993]", Datatype::Int64), 9_007_199_254_740_993_i64.to_le_bytes());
        assert_eq!(bits("[-9223372036854775808]", Datatype::Int64), i64::MIN.to_le_bytes());
        assert_eq!(bits("[0.1]", Datatype::Fp32), 0.1_f32.to_le_bytes());
        // Half-way between two numbers of 32 bits, and a little more: by way of 64 bits it would be rounded down.
        assert_eq!(bits("[1.00000005960464477539062500001]", Datatype::Fp32), 1.000_000_1_f32.to_le_bytes());
        assert_eq!(bits("[5e-324]", Datatype::Fp64), f64::from_bits(1).to_le_bytes());
        assert_eq!(bits("[65504]", Datatype::Fp16), f16::MAX.to_le_bytes());
        assert_eq!(bits("[true]", Datatype::Bool), [1]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_place() {
        let error = |json: &str, datatype, shape: &[usize]| array(json, datatype, shape).unwrap_err();
        assert_eq!(
            error("[[1, 2], [3, 300]]", Datatype::Uint8, &[2, 2]),
            "[1][1]: invalid value: integer `300`, expected u8"
        );
        for (json, datatype) in [
            ("[1e39]", Datatype::Fp32),
            ("[65520]", Datatype::Fp16),
            ("[1e400]", Datatype::Fp64),
            ("[4e38]", Datatype::Bf16),
            ("[9223372036854775808]", Datatype::Int64),
            ("[1.0]", Datatype::Int32),
            ("[1]", Datatype::Bool),
            ("[true]", Datatype::Uint8),
            ("[\"1\"]", Datatype::Fp32),
            ("[null]", Datatype::Fp32),
        ] {
            assert!(error(json, datatype, &[1]).starts_with("[0]: "), "{json}");
        }
        assert!(error("[1, 2]", Datatype::Int8, &[3]).contains("2 elements, not 3"));
        assert!(error("[1, 2, 3]", Datatype::Int8, &[2]).contains("more than the 2"));
        assert!(error("[[1, 2], [3]]", Datatype::Int8, &[2, 2]).starts_with("[1]: a list has 1 elements"));
        assert!(error("[[1], [2]]", Datatype::Int8, &[2]).starts_with("[0]: "));
        assert!(error("{}", Datatype::Int8, &[1]).contains("a list of 1 elements"));
        assert!(error("[]", Datatype::Int8, &[usize::MAX, 2]).contains("too large"));
        assert!(
            error(&format!("{}1{}", "[".repeat(200), "]".repeat(200)), Datatype::Int8, &[1; 200])
                .contains("recursion")
        );
    }

    #[test]
    fn the_shape_is_told_from_the_first_of_each_level() {
        let shape = |json: &str| shape_of(&raw(json)).unwrap();
        assert_eq!(shape("[[[1, 2]], [[3, 4]], [[5, 6]]]"), [3, 1, 2]);
        assert_eq!(shape("1.5"), [0; 0]);
        assert_eq!(shape("[]"), [0]);
        assert_eq!(shape("[[], []]"), [2, 0]);
        assert!(shape_of(&raw("{}")).is_err() && shape_of(&raw("[null]")).is_err());
        assert!(shape_of(&raw(&format!("{}1{}", "[".repeat(200), "]".repeat(200)))).is_err());
    }

    #[test]
    fn strings_are_read_as_utf_8() {
        assert_eq!(read_strings(&raw(r#"[["a"], ["\u00eb"]]"#), &[2, 1]).unwrap(), ["a", "ë"]);
        assert!(read_strings(&raw("[1]"), &[1]).unwrap_err().to_string().contains("expected a string"));
    }
}
