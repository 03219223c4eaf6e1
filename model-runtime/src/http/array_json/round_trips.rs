//! Whatever an array holds, what is written and read again is the same array, bit by bit.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::value::{RawValue, to_raw_value};

use super::{Flat, Nested, first_not_finite, read_array, shape_of};
use crate::backend::{Array, Datatype};

/// Small arrays of all datatypes and up to four dimensions, with any bits that are numbers.
fn arrays() -> impl Strategy<Value = Array> {
    let shapes = prop::collection::vec(0_usize..4, 0..4);
    (prop::sample::select(&Datatype::ALL[..]), shapes)
        .prop_flat_map(|(datatype, shape)| {
            let size = shape.iter().product::<usize>() * datatype.size();
            (Just(datatype), Just(shape), prop::collection::vec(any::<u8>(), size))
        })
        .prop_map(|(datatype, shape, mut bytes)| {
            if datatype == Datatype::Bool {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            Array::new(datatype, shape, Bytes::from(bytes)).unwrap()
        })
        .prop_filter("JSON has no NaN", |array| first_not_finite(array).is_none())
}

fn raw(value: &impl serde::Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

proptest! {
    #[test]
    fn flat_and_nested_json_give_the_array_back(array in arrays()) {
        for json in [raw(&Flat(&array)), raw(&Nested(&array))] {
            let read = read_array(&json, array.datatype(), array.shape().to_vec());
            prop_assert_eq!(read, Ok(array.clone()), "{}", json);
        }
    }

    #[test]
    fn nested_json_tells_the_shape_as_far_as_it_has_elements(array in arrays()) {
        let shape = shape_of(&raw(&Nested(&array))).unwrap();
        let lists = array.shape().iter().position(|length| *length == 0).map_or(array.shape().len(), |place| place + 1);
        prop_assert_eq!(&shape, &array.shape()[..lists]);
    }
}
