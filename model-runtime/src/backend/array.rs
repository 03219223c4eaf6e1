//! Arrays of numbers, as they travel between the protocols and libtorch: a datatype, a shape, and the elements' bytes in row-major order,
//! little-endian. It is the form of the Open Inference Protocol's binary tensors, so that these are handed through as they came.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What an array's elements are. The names are those of the Open Inference Protocol, version 2; its `BYTES` are texts and images,
/// which never reach a model, and libtorch 2.6 cannot compute with its `UINT16`, `UINT32` and `UINT64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Datatype {
    /// A byte that is 0 or 1.
    Bool,
    /// 8 bits without a sign.
    Uint8,
    /// 8 bits.
    Int8,
    /// 16 bits.
    Int16,
    /// 32 bits.
    Int32,
    /// 64 bits.
    Int64,
    /// IEEE 754, 16 bits.
    Fp16,
    /// The upper half of an FP32.
    Bf16,
    /// IEEE 754, 32 bits.
    Fp32,
    /// IEEE 754, 64 bits.
    Fp64,
}

impl Datatype {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Bool,
        Self::Uint8,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
    ];

    /// An element's size in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => 1,
            Self::Int16 | Self::Fp16 | Self::Bf16 => 2,
            Self::Int32 | Self::Fp32 => 4,
            Self::Int64 | Self::Fp64 => 8,
        }
    }

    /// The protocol's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
        }
    }

    /// The datatype of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.as_str() == name)
    }
}

/// Zeros are only for trials, and a trial must fit into memory beside the model.
const MOST_ZEROS: usize = 1 << 30;

/// A number of elements of one type. It always has the bytes that its shape asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    datatype: Datatype,
    shape: Vec<usize>,
    bytes: Bytes,
}

/// The bytes are not those of an array of this shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArrayError {
    /// Too few or too many.
    #[error("an array of {} and shape {shape:?} has {expected} bytes, not {found}", datatype.as_str())]
    Length {
        /// Of its elements.
        datatype: Datatype,
        /// Its shape.
        shape: Vec<usize>,
        /// How many bytes that makes.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// More than memory can hold.
    #[error("the shape {0:?} is too large")]
    TooLarge(Vec<usize>),
    /// Rows that do not fit into one array.
    #[error("its rows have different shapes: {0:?} and {1:?}")]
    Ragged(Vec<usize>, Vec<usize>),
}

impl Array {
    /// An array of these bytes.
    ///
    /// # Errors
    /// The shape asks for another number of bytes.
    pub fn new(datatype: Datatype, shape: Vec<usize>, bytes: Bytes) -> Result<Self, ArrayError> {
        match bytes_of(datatype, &shape) {
            Some(expected) if expected == bytes.len() => Ok(Self { datatype, shape, bytes }),
            Some(expected) => Err(ArrayError::Length { datatype, shape, expected, found: bytes.len() }),
            None => Err(ArrayError::TooLarge(shape)),
        }
    }

    /// An array in which every bit is 0: the number 0 of each datatype.
    ///
    /// # Errors
    /// The shape is too large: over a gibibyte.
    pub fn zeros(datatype: Datatype, shape: Vec<usize>) -> Result<Self, ArrayError> {
        match bytes_of(datatype, &shape).filter(|size| *size <= MOST_ZEROS) {
            Some(size) => Ok(Self { datatype, shape, bytes: Bytes::from(vec![0; size]) }),
            None => Err(ArrayError::TooLarge(shape)),
        }
    }

    /// An array of FP32.
    ///
    /// # Errors
    /// The shape asks for another number of elements.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, ArrayError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::new(Datatype::Fp32, shape, Bytes::from(bytes))
    }

    /// One array of these along a new first dimension; a single one is not copied. Without any there is nothing to tell its shape from.
    ///
    /// # Errors
    /// They differ in datatype or shape, or there is none.
    pub fn stack(rows: &[Self]) -> Result<Self, ArrayError> {
        let Some((first, others)) = rows.split_first() else {
            return Err(ArrayError::Ragged(Vec::new(), Vec::new()));
        };
        if let Some(other) =
            others.iter().find(|row| (row.datatype, &row.shape) != (first.datatype, &first.shape))
        {
            return Err(ArrayError::Ragged(first.shape.clone(), other.shape.clone()));
        }
        let bytes = if others.is_empty() {
            first.bytes.clone()
        } else {
            rows.iter().map(|row| row.bytes.as_ref()).collect::<Vec<_>>().concat().into()
        };
        let shape = std::iter::once(rows.len()).chain(first.shape.iter().copied()).collect();
        Self::new(first.datatype, shape, bytes)
    }

    /// What its elements are.
    pub fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// Its length in each dimension; none for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements, row by row, little-endian.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.datatype.size()
    }

    /// Its parts along the first dimension, which share its bytes.
    pub fn rows(&self) -> Vec<Self> {
        let Some((count, shape)) = self.shape.split_first() else { return Vec::new() };
        let size = self.bytes.len().checked_div(*count).unwrap_or_default();
        let row = |index: usize| Self {
            datatype: self.datatype,
            shape: shape.to_vec(),
            bytes: self.bytes.slice(index * size..(index + 1) * size),
        };
        (0..*count).map(row).collect()
    }
}

/// What no machine can address has no size.
fn bytes_of(datatype: Datatype, shape: &[usize]) -> Option<usize> {
    let size = shape.iter().try_fold(datatype.size(), |size, length| size.checked_mul(*length));
    size.filter(|size| isize::try_from(*size).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_has_the_bytes_of_its_shape() {
        let array = |shape: &[usize], size| {
            Array::new(Datatype::Int16, shape.to_vec(), Bytes::from(vec![0_u8; size]))
        };
        assert!(array(&[2, 3], 12).is_ok() && array(&[], 2).is_ok() && array(&[0, 7], 0).is_ok());
        assert!(array(&[2, 3], 11).unwrap_err().to_string().contains("has 12 bytes, not 11"));
        assert_eq!(array(&[usize::MAX, 2], 0), Err(ArrayError::TooLarge(vec![usize::MAX, 2])));
        assert_eq!(array(&[usize::MAX / 2], 0), Err(ArrayError::TooLarge(vec![usize::MAX / 2])));
        for far_too_many in [usize::MAX, 1 << 45] {
            assert!(Array::zeros(Datatype::Fp64, vec![far_too_many]).is_err());
        }
    }

    #[test]
    fn rows_are_its_parts_along_the_first_dimension() {
        let array = Array::from_f32(vec![2, 1, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let rows = array.rows();
        assert_eq!(rows[1], Array::from_f32(vec![1, 2], &[3.0, 4.0]).unwrap());
        assert_eq!(rows.len(), 2);
        assert_eq!(Array::zeros(Datatype::Bool, vec![3, 0]).unwrap().rows().len(), 3);
        assert!(Array::zeros(Datatype::Bool, vec![0, 3]).unwrap().rows().is_empty());
    }

    #[test]
    fn rows_are_put_together_again_unless_they_differ() {
        let array = Array::from_f32(vec![2, 1, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(Array::stack(&array.rows()), Ok(array.clone()));
        let other = Array::from_f32(vec![2, 1], &[1.0, 2.0]).unwrap();
        let error = Array::stack(&[array.rows()[0].clone(), other]).unwrap_err();
        assert!(error.to_string().contains("[1, 2] and [2, 1]"), "{error}");
        assert!(Array::stack(&[]).is_err());
    }

    #[test]
    fn each_datatype_is_found_by_its_name() {
        for datatype in Datatype::ALL {
            assert_eq!(Datatype::from_name(datatype.as_str()), Some(datatype));
            assert_eq!(serde_json::to_value(datatype).unwrap(), datatype.as_str());
        }
        assert_eq!(Datatype::from_name("fp32"), None);
    }
}
