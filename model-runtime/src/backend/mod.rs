//! The seam to the model: token ids in, rows of numbers out. Blocking, called from the model threads only.

mod cuda;
mod device;
mod torchscript;

use serde::Deserialize;

pub use device::{Device, DeviceChoice};
pub use torchscript::TorchScript;

use crate::model::HfConfig;

/// One text as the model takes it. The three rows are equally long and never empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenIds {
    /// The tokens.
    pub ids: Vec<i64>,
    /// 1 where there is a token.
    pub mask: Vec<i64>,
    /// The segment of each token.
    pub types: Vec<i64>,
}

impl TokenIds {
    /// `length` tokens of the number `id`, for warm-up.
    pub fn filler(id: i64, length: usize) -> Self {
        Self { ids: vec![id; length], mask: vec![1; length], types: vec![0; length] }
    }

    /// How many tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// What a row of a model's output is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// A token: the output of a batch has the shape `[batch, tokens, columns]`.
    Token,
    /// A text: it has the shape `[batch, columns]`.
    Text,
}

/// What the model said about one text: a row of numbers for each of its tokens, or one for all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Row by row, `columns` numbers each.
    pub values: Vec<f32>,
    /// How many numbers a row has: one for each label, or the width of a vector.
    pub columns: usize,
    /// What a row is about.
    pub granularity: Granularity,
}

impl Output {
    /// The rows, in the order of the tokens.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.columns.max(1))
    }
}

/// A forward that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ForwardError(pub String);

/// A loaded model. Several threads may call it at once.
pub trait Backend: Send + Sync + 'static {
    /// Runs one batch; answers in the order of the rows.
    fn forward(&self, rows: &[&TokenIds]) -> Result<Vec<Output>, ForwardError>;

    /// Called once by each model thread before anything else.
    fn enter_thread(&self) {}
}

/// An input of the model's `forward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputName {
    /// The tokens.
    InputIds,
    /// 1 where there is a token, 0 where there is padding.
    AttentionMask,
    /// The segment of each token.
    TokenTypeIds,
}

impl InputName {
    /// The usual inputs of such a model: segments only where it tells several apart.
    pub fn infer(config: &HfConfig) -> Vec<Self> {
        let mut inputs = vec![Self::InputIds, Self::AttentionMask];
        if config.type_vocab_size.is_some_and(|kinds| kinds > 1) {
            inputs.push(Self::TokenTypeIds);
        }
        inputs
    }

    /// The name as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InputIds => "input_ids",
            Self::AttentionMask => "attention_mask",
            Self::TokenTypeIds => "token_type_ids",
        }
    }
}
