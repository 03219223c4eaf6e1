//! What both protocols do with plain tensors: arrays of a request into samples, arrays of samples into an answer.

use super::array_json::first_not_finite;
use super::error::ApiError;
use crate::backend::{Array, Output, Sample};
use crate::model::{TensorForm, TensorSpec};

/// How many samples the arrays of a request are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SampleCount {
    /// One, and the arrays have no dimension for the batch.
    One,
    /// So many, along the first dimension.
    Batch(usize),
}

impl SampleCount {
    /// Arrays without the dimension of the batch, in the order of the model's inputs.
    ///
    /// # Errors
    /// They are not what the model takes.
    pub(super) fn of_one(form: &TensorForm, arrays: &[Array]) -> Result<Self, ApiError> {
        check(form, arrays, "input", |array| Some(array.shape()))?;
        Ok(Self::One)
    }

    /// Arrays with it: equally many rows of each input, and at least one.
    ///
    /// # Errors
    /// They are not what the model takes.
    pub(super) fn of_batch(form: &TensorForm, arrays: &[Array]) -> Result<Self, ApiError> {
        check(form, arrays, "each row of input", |array| array.shape().get(1..))?;
        let mut lengths = arrays.iter().filter_map(|array| array.shape().first().copied());
        let rows = lengths.next().unwrap_or_default();
        if let Some(other) = lengths.find(|length| *length != rows) {
            return Err(ApiError::Unusable(format!(
                "the inputs have {rows} and {other} rows; their first dimension is the batch and must be the same"
            )));
        }
        if rows == 0 {
            return Err(ApiError::Unusable("the inputs have no rows; send at least one".to_owned()));
        }
        Ok(Self::Batch(rows))
    }

    /// How many samples.
    pub(super) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Batch(rows) => rows,
        }
    }

    /// The samples, which share the arrays' bytes. A place in the queue for each of them comes first: an array without elements may have
    /// any number of rows.
    pub(super) fn samples(self, arrays: &[Array]) -> Vec<Sample> {
        match self {
            Self::One => vec![Sample::Arrays(arrays.to_vec())],
            Self::Batch(rows) => {
                let mut samples: Vec<Vec<Array>> =
                    (0..rows).map(|_| Vec::with_capacity(arrays.len())).collect();
                for array in arrays {
                    samples.iter_mut().zip(array.rows()).for_each(|(sample, row)| sample.push(row));
                }
                samples.into_iter().map(Sample::Arrays).collect()
            }
        }
    }

    /// The model's outputs for these samples, with the dimension of the batch if the inputs had it.
    ///
    /// # Errors
    /// The model returned rows of different shapes, which are no tensor.
    pub(super) fn outputs(
        self,
        form: &TensorForm,
        outputs: &[Option<Output>],
    ) -> Result<Vec<Array>, ApiError> {
        let arrays = |output: &Option<Output>| match output {
            Some(Output::Arrays(arrays)) => Ok(arrays.clone()),
            Some(Output::Rows(_)) | None => {
                Err(ApiError::Internal("a model of tensors gave no arrays for a sample".to_owned()))
            }
        };
        let samples = outputs.iter().map(arrays).collect::<Result<Vec<_>, _>>()?;
        match (self, samples.as_slice()) {
            (Self::One, [only]) => Ok(only.clone()),
            (Self::One | Self::Batch(_), samples) => {
                let output = |(place, spec): (usize, &TensorSpec)| {
                    let rows: Vec<Array> =
                        samples.iter().filter_map(|arrays| arrays.get(place).cloned()).collect();
                    Array::stack(&rows).map_err(|error| {
                        ApiError::Unusable(format!(
                            "output `{}` cannot be answered as one tensor: {error}; send one row at a time",
                            spec.name
                        ))
                    })
                };
                form.outputs.iter().enumerate().map(output).collect()
            }
        }
    }
}

fn check(
    form: &TensorForm,
    arrays: &[Array],
    whose: &str,
    row: impl Fn(&Array) -> Option<&[usize]>,
) -> Result<(), ApiError> {
    for (spec, array) in form.inputs.iter().zip(arrays) {
        let admitted = match row(array) {
            Some(shape) => spec.admits(array.datatype(), shape),
            None => Err("its shape lacks the dimension of the batch".to_owned()),
        };
        let named = |problem: String| ApiError::Unusable(format!("{whose} `{}`: {problem}", spec.name));
        admitted.map_err(named)?;
    }
    Ok(())
}

/// Whether JSON can hold this output.
///
/// # Errors
/// It holds NaN or an infinite number.
pub(super) fn fits_json(name: &str, array: &Array) -> Result<(), ApiError> {
    first_not_finite(array).map_or(Ok(()), |element| {
        Err(ApiError::Unusable(format!(
            "element {element} of output `{name}` is NaN or infinite, which JSON cannot hold; ask for binary data (/v2/models/…/infer with `binary_data`)"
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(batched: bool) -> TensorForm {
        let spec = |name: &str, shape: &str| -> TensorSpec {
            toml::from_str(&format!("name = \"{name}\"\ndatatype = \"FP32\"\nshape = {shape}")).unwrap()
        };
        TensorForm {
            inputs: vec![spec("x", "[2]"), spec("y", "[-1]")],
            outputs: vec![spec("z", "[-1]")],
            batched,
        }
    }

    fn array(shape: &[usize]) -> Array {
        Array::zeros(crate::backend::Datatype::Fp32, shape.to_vec()).unwrap()
    }

    fn output(shape: &[usize]) -> Option<Output> {
        Some(Output::Arrays(vec![array(shape)]))
    }

    #[test]
    fn a_batch_becomes_a_sample_for_each_row_and_comes_back_as_one_tensor() {
        let arrays = [array(&[3, 2]), array(&[3, 5])];
        let rows = SampleCount::of_batch(&form(true), &arrays).unwrap();
        let samples = rows.samples(&arrays);
        assert_eq!(samples, vec![Sample::Arrays(vec![array(&[2]), array(&[5])]); 3]);
        let outputs = rows.outputs(&form(true), &[output(&[4]), output(&[4]), output(&[4])]).unwrap();
        assert_eq!(outputs, [array(&[3, 4])]);
    }

    #[test]
    fn a_single_sample_is_answered_without_the_dimension() {
        let arrays = [array(&[2]), array(&[0])];
        let rows = SampleCount::of_one(&form(false), &arrays).unwrap();
        assert_eq!(rows.samples(&arrays), [Sample::Arrays(arrays.to_vec())]);
        assert_eq!(rows.outputs(&form(false), &[output(&[4])]).unwrap(), [array(&[4])]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |arrays: &[Array]| SampleCount::of_batch(&form(true), arrays).unwrap_err().to_string();
        assert!(
            error(&[array(&[3, 4]), array(&[3, 5])])
                .contains("each row of input `x`: its shape is [2], not [4]")
        );
        assert!(error(&[array(&[3, 2]), array(&[2, 5])]).contains("3 and 2 rows"));
        assert!(error(&[array(&[0, 2]), array(&[0, 5])]).contains("no rows"));
        assert!(error(&[array(&[]), array(&[0, 5])]).contains("lacks the dimension"));
        let ragged = SampleCount::Batch(2).outputs(&form(true), &[output(&[4]), output(&[5])]);
        assert!(ragged.unwrap_err().to_string().contains("one row at a time"));
    }
}
