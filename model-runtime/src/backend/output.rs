//! What comes out of the model, row by row of the batch.

use super::Array;

/// What the model said about one sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Of a model whose task is known: scores or vectors.
    Rows(Rows),
    /// Of a model of plain tensors: an array for each of its outputs, without the dimension of the batch.
    Arrays(Vec<Array>),
}

/// A row of numbers for each token of a sample, or one for all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Row by row, `columns` numbers each.
    pub values: Vec<f32>,
    /// How many numbers a row has: one for each label, or the width of a vector.
    pub columns: usize,
    /// What a row is about.
    pub granularity: Granularity,
}

/// What a row of a model's output is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// A token: the output of a batch has the shape `[batch, tokens, columns]`.
    Token,
    /// The whole text or image: it has the shape `[batch, columns]`.
    Whole,
}

impl Rows {
    /// The rows, in the order of the tokens.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.columns.max(1))
    }
}

impl Output {
    /// The rows of a model whose task needs them.
    ///
    /// # Errors
    /// There are none.
    pub fn rows(&self) -> Result<&Rows, String> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Arrays(_) => {
                Err("the model returned arrays where its task needs rows of numbers".to_owned())
            }
        }
    }
}
