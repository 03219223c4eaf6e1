//! Feature extraction: vectors for tokens, or one for a text.
//!
//! A text's vector is pooled as sentence-transformers does it: over all of the text's tokens, the special ones included. Padding never gets
//! here.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::backend::{Granularity, Rows};

/// How the tokens' vectors become the text's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// They do not: each token keeps its own.
    None,
    /// Their mean.
    Mean,
    /// The first token's, which BERT-like models write `[CLS]`.
    Cls,
    /// The largest number of each column.
    Max,
}

impl Pooling {
    /// The pooling of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let known = [Self::None, Self::Mean, Self::Cls, Self::Max];
        known.into_iter().find(|pooling| pooling.as_str().eq_ignore_ascii_case(name))
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Max => "max",
        }
    }
}

/// The vectors of one text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Features {
    /// One for the text.
    Text(Vec<f32>),
    /// One for each token, in a list of one, as Hugging Face's pipeline writes a batch of one.
    Tokens([Vec<Vec<f32>>; 1]),
}

/// Turns the model's output for one text into its vectors. A model that pools by itself has one row already, which is taken as it is.
///
/// # Errors
/// The model returned something that is not a number, or no row at all.
pub fn features(output: &Rows, pooling: Pooling, normalize: bool) -> Result<Features, String> {
    if output.values.iter().any(|value| !value.is_finite()) {
        return Err("the model returned a value that is not a number".to_owned());
    }
    let finish = |vector: Vec<f32>| if normalize { normalized(vector) } else { vector };
    let none = || "the model returned no vector".to_owned();
    let first = || output.iter().next().map(<[f32]>::to_vec);
    let pooled = match (output.granularity, pooling) {
        (Granularity::Whole, _) | (Granularity::Token, Pooling::Cls) => first(),
        (Granularity::Token, Pooling::Mean) => mean(output),
        (Granularity::Token, Pooling::Max) => max(output),
        (Granularity::Token, Pooling::None) => {
            return Ok(Features::Tokens([output.iter().map(|row| finish(row.to_vec())).collect()]));
        }
    };
    pooled.map(finish).map(Features::Text).ok_or_else(none)
}

/// Summed up in f64: a thousand tokens later an f32 has lost its last digits.
fn mean(output: &Rows) -> Option<Vec<f32>> {
    let mut sums = vec![0.0_f64; output.columns];
    let rows = output.iter();
    let count = rows.len();
    for row in rows {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    (count > 0).then(|| sums.into_iter().map(|sum| (sum / count as f64) as f32).collect())
}

fn max(output: &Rows) -> Option<Vec<f32>> {
    output.iter().map(<[f32]>::to_vec).reduce(|mut most, row| {
        most.iter_mut().zip(row).for_each(|(most, value)| *most = most.max(value));
        most
    })
}

/// Length 1; a vector of zeroes stays one (PyTorch's `normalize` has the same floor).
fn normalized(mut vector: Vec<f32>) -> Vec<f32> {
    const SHORTEST: f64 = 1e-12;
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt().max(SHORTEST);
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(granularity: Granularity) -> Rows {
        Rows { values: vec![3.0, -4.0, 1.0, 0.0], columns: 2, granularity }
    }

    fn pooled(pooling: Pooling, normalize: bool) -> Features {
        features(&output(Granularity::Token), pooling, normalize).unwrap()
    }

    #[test]
    fn each_pooling_takes_the_tokens_together_its_own_way() {
        assert_eq!(pooled(Pooling::Mean, false), Features::Text(vec![2.0, -2.0]));
        assert_eq!(pooled(Pooling::Cls, false), Features::Text(vec![3.0, -4.0]));
        assert_eq!(pooled(Pooling::Max, false), Features::Text(vec![3.0, 0.0]));
        assert_eq!(pooled(Pooling::None, false), Features::Tokens([vec![vec![3.0, -4.0], vec![1.0, 0.0]]]));
    }

    #[test]
    fn normalised_vectors_have_length_one_and_zeroes_stay_zeroes() {
        assert_eq!(pooled(Pooling::Cls, true), Features::Text(vec![0.6, -0.8]));
        let zero = Rows { values: vec![0.0, 0.0], columns: 2, granularity: Granularity::Whole };
        assert_eq!(features(&zero, Pooling::Mean, true), Ok(Features::Text(vec![0.0, 0.0])));
    }

    #[test]
    fn a_model_that_pools_by_itself_is_taken_as_it_is() {
        let text = Rows { values: vec![1.0, 2.0], columns: 2, granularity: Granularity::Whole };
        assert_eq!(features(&text, Pooling::Max, false), Ok(Features::Text(vec![1.0, 2.0])));
    }

    #[test]
    fn what_is_not_a_number_is_an_error_not_an_answer() {
        let broken = Rows { values: vec![f32::NAN, 0.0], columns: 2, granularity: Granularity::Token };
        assert!(features(&broken, Pooling::Mean, true).is_err());
        let empty = Rows { values: Vec::new(), columns: 2, granularity: Granularity::Token };
        assert!(features(&empty, Pooling::Mean, true).is_err());
    }
}
